"""Closed forms: what a source adds to a diagonal, summed over the pairs of paths that lead from it to one element.

A source ``M`` of curvature adds ``sum_kl M[k, l] G[k, i] G[l, i]`` to entry ``i`` of a diagonal, and each entry of the
Jacobian ``G`` is a sum over paths of products of derivatives.  A path is a list of uses and a point of each loop on the
way, so the whole is a sum over two paths that start at one entry of ``M`` and end at the same element: a product of
derivatives over a box of indices, in which the two ends are solved for as many indices as possible.  Two reads of
``x[a] - x[b]`` meet at the one point ``a == b``, those of ``x[i + 1] - x[i]`` nowhere.  What sums are left are taken one
index at a time, each over the factors that have it (variable elimination), so that ``sum_k m[k] A[k, h]**2`` is summed
before the path goes on from ``h``.

That is worth it where it costs about what one pull-back does.  Layers that mix everything with everything cost more
than columns of noise do, and stay sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, product

import sympy

from cpgen.derive.linear import Extra, output_axes, own_output, solve
from cpgen.derive.reverse import adjoint_origin
from cpgen.derive.sources import Cross, Curvature, Logsumexp, Self, Softmax, Source
from cpgen.derive.uses import Use
from cpgen.ir.build import always_valid, axis, make_map, moved, moved_guard, substitute
from cpgen.ir.nodes import ROWS, Access, Dim, Extent, Guard, Index, Map, Node, Origin, Region
from cpgen.ir.rewrite import from_position
from cpgen.scalar import diff, free_symbols, operations, placeholder, renamed, vanishes

LONGEST = 8  # maps on a path
MOST = 8  # paths that are paired
PRICE = 6  # pull-backs that a closed form may cost
FEW = 2  # that it may cost even where a single column would be exact

Place = tuple[Index, ...]
_0 = placeholder(0)


@dataclass(frozen=True)
class Through:
    """A step of a path through a whole region.

    The derivative of a log-sum-exp is the softmax; that of a softmax ``y`` is ``diag(y) - y y^T``, of which ``part``
    says which term.
    """

    region: Region
    part: str


Step = Use | Through


@dataclass(frozen=True)
class Factor:
    """``expr`` of the placeholders of ``args``."""

    expr: sympy.Expr
    args: tuple[Access, ...]

    @property
    def axes(self) -> frozenset[int]:
        return frozenset(a for access in self.args for index in access.index for a in index.axes)


@dataclass
class Product:
    """A product of factors at the points of a box of indices; the first axis is the row, if there are rows."""

    rows: bool
    extents: list[Extent] = field(default_factory=list)
    factors: list[Factor] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.rows:
            self.extents.append(ROWS)

    def fresh(self, shape: Sequence[Extent]) -> Place:
        """An index for each axis of ``shape``."""
        found = []
        for extent in shape:
            if isinstance(extent, Dim):
                found.append(axis(0))
            else:
                found.append(axis(len(self.extents)))
                self.extents.append(extent)
        return tuple(found)

    def read(self, node: Node, place: Place) -> None:
        """A factor that is ``node`` at ``place``."""
        self.factors.append(Factor(_0, (Access(node, place),)))

    def inside(self, m: Map, expr: sympy.Expr, loop: Sequence[Index], extras: Sequence[Extra] = ()) -> None:
        """The factors of ``expr`` of the arguments of ``m``, then of ``extras``, at a point of its loop."""
        here = dict(enumerate(loop))
        accesses = [moved(a, here) for a in m.args]
        for extra in extras:
            remaining = iter(extra.index)
            place = [axis(0) if isinstance(e, Dim) else substitute(next(remaining), here) for e in extra.node.shape]
            accesses.append(Access(extra.node, tuple(place)))
        for part in sympy.Mul.make_args(expr):
            used = [k for k in range(len(accesses)) if placeholder(k) in free_symbols(part)]
            renumbered = {placeholder(k): placeholder(n) for n, k in enumerate(used)}
            self.factors.append(Factor(renamed(part, renumbered), tuple(accesses[k] for k in used)))
        self.guards += [moved_guard(g, here) for g in m.guards]

    def down(self, step: Step, place: Place) -> Place:
        """Multiply by the derivative of what is read at ``place``; where its argument is read."""
        if isinstance(step, Through):
            return self._through(step, place)
        m = step.map
        self.guards += [Guard(i, e) for i, e in zip(place, m.shape, strict=True) if isinstance(e, int)]
        loop = (*place, *self.fresh(m.extents[m.rank :]))
        derivative, own = own_output(m, diff(m.expr, placeholder(step.position)), len(m.args))
        self.inside(m, derivative, loop, own)
        return moved(m.args[step.position], dict(enumerate(loop))).index

    def _through(self, step: Through, place: Place) -> Place:
        region = step.region
        self.guards += [
            Guard(i, e) for i, e in zip(place, region.output.shape, strict=True) if isinstance(e, int)
        ]
        if step.part == "same":
            self.read(region.softmax, place)
            return place
        (new,) = self.fresh([region.source.shape[region.axis]])
        if step.part == "mean":
            self.read(region.softmax, place)
            self.factors.append(Factor(sympy.Integer(-1), ()))
            place = (*place[: region.axis], *place[region.axis + 1 :])
        below = (*place[: region.axis], new, *place[region.axis :])
        self.read(region.softmax, below)
        return below


@dataclass(frozen=True)
class Seed:
    """A part of a source: ``start`` writes its entries into a product and says where it has the two sides.

    ``price``: the operations of writing it down.  ``same``: it is symmetric in its sides, so pairs of paths come in one
    order only.
    """

    sides: tuple[Node, Node]
    price: int
    start: Callable[[Product], tuple[Place, Place]]
    same: bool = True


def closed_form(curvature: Curvature, source: Source, node: Node) -> list[Node] | None:
    """The diagonal that ``source`` gives ``node`` as a sum of maps, shape (ROWS?, e...); None if sampling is cheaper."""
    ways = _Ways(curvature, node)
    # as many unit vectors as the source has elements would do, too
    most = min(PRICE, max(source.size, FEW))
    for seeds in _seeds(source):
        found = ways.sum_of(seeds, most)
        if found is not None:
            return found
    return None


class _Ways:
    """The paths that lead from variables to ``node``."""

    def __init__(self, curvature: Curvature, node: Node) -> None:
        self.curvature, self.node = curvature, node
        self.outputs = {r.output: r for r in curvature.graph.regions}
        self.origin = adjoint_origin(node, "curv")
        self._paths: dict[Node, list[tuple[Step, ...]] | None] = {}

    def paths(self, top: Node) -> list[tuple[Step, ...]] | None:
        """The paths from ``top`` down to the node; None if they are too many or too long."""
        if top not in self._paths:
            found: list[tuple[Step, ...]] = []
            self._paths[top] = found if self._collect(top, (), found) else None
        return self._paths[top]

    def _collect(self, current: Node, above: tuple[Step, ...], found: list[tuple[Step, ...]]) -> bool:
        if current is self.node:
            found.append(above)
            return len(found) <= MOST
        if len(above) == LONGEST:
            return False
        depends = self.curvature.uses.depends
        region = self.outputs.get(current)
        if region is not None:
            parts = ("same", "mean") if region.kind == "softmax" else ("shares",)
            return all(self._collect(region.source, (*above, Through(region, part)), found) for part in parts)
        if not isinstance(current, Map) or current.reduce != "sum" or current in self.curvature.inside:
            return False
        return all(
            self._collect(access.node, (*above, Use(current, k)), found)
            for k, access in enumerate(current.args)
            if depends(access.node, self.node) and not vanishes(diff(current.expr, placeholder(k)))
        )

    def sum_of(self, seeds: Sequence[Seed], most: int) -> list[Node] | None:
        """What the seeds add up to, if it costs no more than ``most`` times a pull-back from them."""
        ends = [(self.paths(seed.sides[0]), self.paths(seed.sides[1])) for seed in seeds]
        price: dict[object, int] = {}
        for seed, (first, second) in zip(seeds, ends, strict=True):
            if first is None or second is None:
                return None
            price[seed] = seed.price
            price |= {step: _price(step) for path in (*first, *second) for step in path if step not in price}
        left = most * sum(price.values())
        terms: list[Node] = []
        made: dict[Node, int] = {}
        for seed, (first, second) in zip(seeds, ends, strict=True):
            assert first is not None and second is not None
            for one, other in combinations_with_replacement(first, 2) if seed.same else product(first, second):
                space = Product(bool(self.curvature.rows))
                here, there = seed.start(space)
                for step in one:
                    here = space.down(step, here)
                for step in other:
                    there = space.down(step, there)
                twice = 2 if seed.same and one is not other else 1
                term = meet(space, here, there, self.node, twice, self.origin, made)
                terms += [] if term is None else [term]
                if sum(made.values()) > left:
                    return None
        return terms


def _points(extents: Sequence[Extent]) -> int:
    return math.prod(e for e in extents if isinstance(e, int))


def _price(step: Step) -> int:
    """The operations of one pull-back through a step."""
    if isinstance(step, Through):
        return 2 * _points(step.region.source.shape)
    m = step.map
    space = Product(any(isinstance(e, Dim) for e in m.extents))
    space.inside(m, diff(m.expr, placeholder(step.position)), space.fresh(m.extents))
    return _cost(space.factors, space.extents, _points(space.extents)) + _points(space.extents)


def _cost(factors: Sequence[Factor], extents: Sequence[Extent], points: int) -> int:
    """The operations of a sum of products at so many points: a factor of fewer axes is computed there only."""
    together: dict[frozenset[int], int] = {}
    for f in factors:
        if f.args:
            together[f.axes] = together.get(f.axes, 0) + operations(f.expr)
    own = sum(_points([extents[a] for a in axes]) * count for axes, count in together.items())
    return own + points * max(len(together), 1)


# Meeting


def meet(
    space: Product, here: Place, there: Place, node: Node, factor: int, origin: Origin, made: dict[Node, int]
) -> Node | None:
    """``factor`` times the sum of a product over the points where two places of ``node`` are the same, by element.

    ``made`` notes what each map costs, by the map.  Returns None where the places provably never meet.
    """
    target = [(i, j, e) for i, j, e in zip(here, there, node.shape, strict=True) if isinstance(e, int)]
    lead = int(space.rows)
    extents: list[Extent] = [*space.extents[:lead], *(e for _, _, e in target)]
    rank = len(extents)
    solution = solve([*(i for i, _, _ in target), *(j for _, j, _ in target)], space.extents)
    final = {0: axis(0)} if lead else {}
    # both places are the same element of the output
    final |= {-1 - t: axis(lead + t % len(target)) for t in range(2 * len(target))}
    for a in solution.free:
        final[a] = axis(len(extents))
        extents.append(space.extents[a])
    to = {a: substitute(i, final) for a, i in solution.replacement.items()} | final
    guards = [moved_guard(g, to) for g in space.guards]
    guards += [moved_guard(g, final) for g in solution.guards]
    guards = [g for g in dict.fromkeys(guards) if not always_valid(g.index, g.extent, extents)]
    if any(_never_valid(g, extents) for g in guards):
        return None
    factors = [Factor(f.expr, tuple(moved(a, to) for a in f.args)) for f in space.factors]
    return _eliminated(extents, rank, factors, guards, factor, origin, made)


def _never_valid(guard: Guard, extents: Sequence[Extent]) -> bool:
    """Whether a guard provably holds nowhere."""
    index, extent = guard.index, guard.extent
    if isinstance(extent, Dim) or any(isinstance(extents[a], Dim) for a in index.axes):
        return False
    low = high = index.offset
    for a, c in index.terms:
        reach = c * (extents[a] - 1)  # type: ignore[operator]
        low, high = low + min(0, reach), high + max(0, reach)
    # the multiples of the divisor in reach, and among them the values that the terms can take
    if high < 0 or low > (extent - 1) * index.divisor:
        return True
    step = math.gcd(*(c for _, c in index.terms), 0 if extent == 1 else index.divisor)
    return index.offset % step != 0 if step else index.offset % index.divisor != 0


def _eliminated(
    extents: Sequence[Extent],
    rank: int,
    factors: list[Factor],
    guards: list[Guard],
    number: int,
    origin: Origin,
    made: dict[Node, int],
) -> Node:
    """The sum over the axes from ``rank`` on, the cheapest axis first; what is summed early has maps of its own."""
    factors = [_folded(f, extents) for f in factors]
    whole = sympy.Mul(number, *(f.expr for f in factors if not f.args))
    factors = [f for f in factors if f.args]
    open_axes = list(range(rank, len(extents)))

    def size(axes: frozenset[int]) -> int:
        return _points([extents[a] for a in axes])

    def build(kept: Sequence[int], summed: Sequence[int], taken: Sequence[Factor], held: Sequence[Guard]) -> Node:
        place = {a: axis(k) for k, a in enumerate((*kept, *summed))}
        args: list[Access] = []
        expr: sympy.Expr = sympy.Integer(1)
        for f in taken:
            expr *= from_position(f.expr, len(f.args), len(args))
            args += [moved(a, place) for a in f.args]
        own = [moved_guard(g, place) for g in held]
        box = [extents[a] for a in (*kept, *summed)]
        node = make_map(box, len(kept), args, expr, own, origin=origin)
        made[node] = max(made.get(node, 0), _cost(taken, extents, _points(box)))
        return node

    while open_axes:
        best: tuple[int, int, frozenset[int], list[Factor], list[Guard]] | None = None
        for a in open_axes:
            taken = [f for f in factors if a in f.axes]
            held = [g for g in guards if a in g.index.axes]
            reach = frozenset({a}).union(*(f.axes for f in taken), *(g.index.axes for g in held))
            if best is None or (size(reach), a) < best[:2]:
                best = (size(reach), a, reach, taken, held)
        assert best is not None
        _, _, reach, taken, held = best
        if len(taken) == len(factors) and len(held) == len(guards):
            break
        rest = [f for f in factors if f not in taken]
        later = [g for g in guards if g not in held]
        seen = frozenset().union(*(f.axes for f in rest), *(g.index.axes for g in later))
        summed = [a for a in open_axes if a in reach and a not in seen]
        kept = sorted(reach - set(summed))
        node = build(kept, summed, taken, held)
        factors = [*rest, Factor(_0, (Access(node, tuple(axis(a) for a in kept)),))]
        guards = later
        open_axes = [a for a in open_axes if a not in summed]
    return build(tuple(range(rank)), open_axes, [*factors, Factor(whole, ())], guards)


def _folded(factor: Factor, extents: Sequence[Extent]) -> Factor:
    """``factor`` with constants in place of reads, whose axes it need not have."""
    known = {}
    for k, access in enumerate(factor.args):
        m = access.node
        if isinstance(m, Map) and not m.args and not m.reduced and not m.guards:
            if all(always_valid(i, e, extents) for i, e in zip(access.index, m.shape, strict=True)):
                known[placeholder(k)] = m.expr
    kept = [k for k in range(len(factor.args)) if placeholder(k) not in known]
    known |= {placeholder(k): placeholder(n) for n, k in enumerate(kept)}
    return Factor(factor.expr.xreplace(known), tuple(factor.args[k] for k in kept)) if known else factor


# Sources


def _seeds(source: Source) -> list[list[Seed]]:
    """A source as a sum of seeds, in several ways of which the first that comes out is the best."""
    if isinstance(source, Self):
        return [[_diagonal_seed(source.variable, source.diagonal)]]
    if isinstance(source, Cross):
        return [[_cross_seed(source)]]
    if isinstance(source, Logsumexp):
        return [[_diagonal_seed(source.region.source, source.weight), _shares_seed(source)]]
    if isinstance(source, Softmax):
        return [[_diagonal_seed(source.region.source, source.weight), _weights_seed(source)]]
    return []


def _diagonal_seed(variable: Node, diagonal: Node) -> Seed:
    """``diag(diagonal)`` on ``variable``."""

    def start(space: Product) -> tuple[Place, Place]:
        place = space.fresh(variable.shape)
        elements = iter(i for i, e in zip(place, variable.shape, strict=True) if isinstance(e, int))
        space.read(diagonal, tuple(axis(0) if isinstance(e, Dim) else next(elements) for e in diagonal.shape))
        return place, place

    return Seed((variable, variable), 2 * _points(variable.shape), start)


def _cross_seed(source: Cross) -> Seed:
    """The mixed derivative of a map and its transpose: twice the one on a diagonal."""
    m = source.map
    adjoint = source.curvature.adjoints.of(m)
    assert adjoint is not None

    def start(space: Product) -> tuple[Place, Place]:
        loop = space.fresh(m.extents)
        space.inside(m, 2 * source.mixed * placeholder(len(m.args)), loop, [Extra(adjoint, output_axes(m))])
        here = dict(enumerate(loop))
        one, other = (tuple(substitute(i, here) for i in m.args[k].index) for k in (source.a, source.b))
        return one, other

    price = _points(m.extents) * (operations(source.mixed) + 2)
    return Seed((m.args[source.a].node, m.args[source.b].node), price, start, same=False)


def _two_of(space: Product, region: Region) -> tuple[Place, Place]:
    """Any two elements that a region weighs against each other."""
    one = space.fresh(region.source.shape)
    (new,) = space.fresh([region.source.shape[region.axis]])
    return one, (*one[: region.axis], new, *one[region.axis + 1 :])


def _shares_seed(source: Logsumexp) -> Seed:
    """``-g p p^T`` of every log-sum-exp of a region."""
    region = source.region

    def start(space: Product) -> tuple[Place, Place]:
        one, other = _two_of(space, region)
        space.read(region.softmax, one)
        space.read(region.softmax, other)
        _weigh(space, source.adjoint(), (*one[: region.axis], *one[region.axis + 1 :]), region.output.shape)
        space.factors.append(Factor(sympy.Integer(-1), ()))
        return one, other

    return Seed((region.source, region.source), 2 * _points(region.source.shape), start)


def _weigh(space: Product, node: Node, place: Place, shape: Sequence[Extent]) -> None:
    """Read ``node`` at the elements of a place of ``shape``."""
    elements = iter(i for i, e in zip(place, shape, strict=True) if isinstance(e, int))
    space.read(node, tuple(axis(0) if isinstance(e, Dim) else next(elements) for e in node.shape))


def _weights_seed(source: Softmax) -> Seed:
    """``-p w^T - w p^T`` of every softmax of a region: twice the one on a diagonal; ``w`` adds up to zero."""
    region = source.region

    def start(space: Product) -> tuple[Place, Place]:
        one, other = _two_of(space, region)
        space.read(region.softmax, one)
        _weigh(space, source.weight, other, region.source.shape)
        space.factors.append(Factor(sympy.Integer(-2), ()))
        return one, other

    return Seed((region.source, region.source), 2 * _points(region.source.shape), start, same=False)
