"""Where curvature comes from: the local second derivatives of a graph, as sources of noise.

The Hessian of a scalar graph is a sum over its nodes of ``G_k^T M_k G_k`` with ``M_k = sum_q ybar_q d2 y_q / dx2``
and ``G_k`` the Jacobian of the node's arguments (Martens, Sutskever & Swersky, ICML 2012).  A source is one such
``M_k`` or a part of it together with a factorisation ``E[p p^T - q q^T] = M_k`` for random signs ``v``:

* ``Self``: all second derivatives of a variable with itself, merged over its readers before they are factored; diagonal.
* ``Cross``: a mixed second derivative between two arguments of one map.
* ``Logsumexp``, ``Softmax``: a region with a closed form.
* ``Mixed``: the factorisation (M, I) of one map's whole local Hessian, for comparison with the literature.

``inject(v)`` returns what a source adds to the two fields (p, q) of each of its variables.  One source is made of several
by :mod:`cpgen.derive.joint`; for unit vectors in place of signs ``Self`` and ``Cross`` are drawn in no other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import sympy

from cpgen.derive.chains import Term, carries_diagonal, down, variance
from cpgen.derive.forward import tangents
from cpgen.derive.linear import Extra, element_index, kept_dims, output_axes, own_output, pull, target_of
from cpgen.derive.points import over
from cpgen.derive.reverse import Adjoints, adjoint_origin
from cpgen.derive.signs import signs
from cpgen.derive.units import fold
from cpgen.derive.uses import Use, Uses, arriving
from cpgen.ir.build import add, affine, axis, constant, elementwise, is_zero, make_map, new_input
from cpgen.ir.nodes import (
    COLUMNS,
    ROWS,
    Access,
    Dim,
    Graph,
    Guard,
    Input,
    Map,
    Node,
    Origin,
    Region,
    topological,
)
from cpgen.scalar import diff, maximum, placeholder, vanishes

Field = tuple[Node | None, Node | None]

_0, _1, _2, _3 = (placeholder(k) for k in range(4))
# floor of a squared norm that scales the two sides of a product: only where both sides vanish does it matter
_FLOOR = sympy.Float("1e-30")
HALF = sympy.Rational(1, 2)
MANY_NODES = 64  # of a graph: gradients of a number are then taken for all sources at once


@dataclass(frozen=True)
class Setting:
    """How sources are factored: "signed" (least variance), "mixed" ((M, I), polynomial), or "smooth" with ``epsilon``.

    "unit" is for unit vectors in place of random signs.  Fields then carry no roots: a column of p counts as
    ``w p p^T + p q^T + q p^T`` with ``w`` of ``Source.unit_weights``.
    """

    factor: str = "signed"
    epsilon: float = 1e-3


SIGNED = Setting()
UNIT = Setting("unit")


class Curvature:
    """The graph of an objective with its adjoints, and the local curvature of everything in it."""

    def __init__(self, graph: Graph, leaves: list[Input], setting: Setting = SIGNED) -> None:
        self.graph, self.leaves, self.setting = graph, leaves, setting
        self.uses = Uses([graph.objective], leaves)
        self.adjoints = Adjoints(graph.objective, self.uses, lift=True)
        self.rows: tuple[Dim, ...] = (ROWS,) if graph.objective.has_rows else ()
        self.inside = {n for region in graph.regions for n in region.nodes}
        self.sign = signs()
        self._self: dict[tuple[Node, bool], Node | None] = {}
        self._slopes: dict[Node, dict[Node, Node | None]] = {}
        self._below: dict[Node, Adjoints] = {}

    def sources(self) -> list[Source]:
        """Every source of the graph that some leaf can see, in graph order."""
        found: list[Source] = []
        for node in self.uses.nodes:
            if not self.uses.active(node):
                continue
            if self.self_curvature(node) is not None:
                found.append(Self(self, node))
        for node in self.uses.nodes:
            if (
                isinstance(node, Map)
                and node.reduce == "sum"
                and node not in self.inside
                and self.uses.active(node)
            ):
                found += self._crosses(node)
        for region in self.graph.regions:
            if region.source in self.uses.order and self.uses.active(region.source):
                if self.adjoints.of(region.output) is not None:
                    found.append((Logsumexp if region.kind == "logsumexp" else Softmax)(self, region))
        return _numbered(found)

    def mixed_sources(self) -> list[Source]:
        """One source a map, factored as (M, I): noise at every element of every argument."""
        found: list[Source] = []
        for node in self.uses.nodes:
            if (
                isinstance(node, Map)
                and node.reduce == "sum"
                and node not in self.inside
                and self.uses.active(node)
            ):
                source = Mixed(self, node)
                if source.pairs and self.adjoints.of(node) is not None:
                    found.append(source)
        for region in self.graph.regions:
            if self.adjoints.of(region.output) is not None:
                found.append(MixedRegion(self, region))
        return _numbered(found)

    def self_curvature(self, node: Node, lift: bool = True) -> Node | None:
        """``m[row, e]``: the second derivative with respect to one element of ``node``, merged over its readers.

        With ``lift=False`` a node without a row axis has its rows summed.
        """
        key = (node, lift)
        if key not in self._self:
            parts = []
            for use in self.uses.of(node):
                if use.map not in self.inside:
                    parts.append(self._second(use.map, use.position, lift))
            self._self[key] = add(parts, adjoint_origin(node, "curv"))
        return self._self[key]

    def _second(self, m: Map, k: int, lift: bool) -> Node | None:
        second = diff(diff(m.expr, placeholder(k)), placeholder(k))
        if vanishes(second):
            return None
        cotangent = self.adjoints.of(m)
        if cotangent is None:
            return None
        number = len(m.args)
        second, own = own_output(m, second, number + 1)
        access = m.args[k]
        extras = [Extra(cotangent, output_axes(m)), *own]
        dims = (
            kept_dims(m, access, cotangent, lift)
            if lift
            else [d for d in access.node.shape if isinstance(d, Dim)]
        )
        return pull(
            m,
            target_of(access),
            second * placeholder(number),
            extras,
            dims,
            adjoint_origin(access.node, "curv"),
        )

    def _crosses(self, m: Map) -> list[Source]:
        active = [k for k, a in enumerate(m.args) if self.uses.active(a.node)]
        if self.adjoints.of(m) is None:
            return []
        return [
            Cross(self, m, a, b)
            for position, a in enumerate(active)
            for b in active[position + 1 :]
            if not vanishes(diff(diff(m.expr, placeholder(a)), placeholder(b)))
        ]

    def slopes(self, node: Node) -> dict[Node, Node | None]:
        """The derivative by ``node``, one number a row, of every node that depends on it."""
        if node not in self._slopes:
            above = [n for n in self.uses.nodes if self.uses.depends(n, node)]
            one = constant(1, node.shape, adjoint_origin(node, "slope"))
            self._slopes[node] = dict(zip(above, tangents(above, {node: one}), strict=True))
        return self._slopes[node]

    def adjoints_below(self, node: Node) -> Adjoints:
        """The derivatives of ``node`` by what it depends on."""
        if node not in self._below:
            self._below[node] = Adjoints(node, self.uses, lift=True)
        return self._below[node]

    def chain(self, node: Node, top: Node) -> list[Use] | None:
        """The uses from ``node`` up to ``top`` by which a diagonal can be carried down, if there is one path."""
        return carries_diagonal(self.uses, self.inside, node, top)

    def noise(self, name: str, shape: tuple[int, ...], rows: bool = True) -> Input:
        """A fresh noise input of ``shape`` elements a row."""
        return new_input(name, (COLUMNS, *(self.rows if rows else ()), *shape), "noise", Origin(name))


class Source:
    """A part of the local curvature; see the module docstring."""

    name: str
    parts: int
    """The set of the graph's sources that it is the sum of, a bit for each: its own one, unless it was made of others."""
    variables: tuple[Node, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Element shapes of the noise, one for each array it draws."""

    def __init__(self, curvature: Curvature) -> None:
        self.curvature = curvature

    @property
    def size(self) -> int:
        """Noise elements a row."""
        total = 0
        for shape in self.shapes:
            count = 1
            for extent in shape:
                count *= extent
            total += count
        return total

    def describe(self) -> str:
        """What it is, for people."""
        raise AssertionError

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        """What noise ``v`` adds to the fields of each variable."""
        raise AssertionError

    @property
    def sides(self) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The variables that an entry of the Hessian must depend on, by its first and by its second element."""
        return self.variables, self.variables

    @property
    def on_number(self) -> bool:
        """Whether it acts on one number a row: then :meth:`straight` knows its diagonal wherever it is seen."""
        return False

    def straight(self, node: Node) -> list[Term] | None:
        """The diagonal it gives ``node`` where one path leads up to it, or no way matters; None if that is not so."""
        depends = self.curvature.uses.depends
        return self._straight(node) if any(depends(v, node) for v in self.variables) else []

    def _straight(self, node: Node) -> list[Term] | None:
        """The same for a node that sees it."""
        return None

    def block(self, first: Input, second: Input) -> list[Node] | None:
        """What it adds to the block ``B[row, i.., j..]`` of two leaves, if it acts on these directly or not at all; else
        None."""
        depends = self.curvature.uses.depends
        seen = all(any(depends(v, leaf) for v in self.variables) for leaf in (first, second))
        return None if seen else []

    def unit_weights(self) -> tuple[Node | None, ...]:
        """With unit vectors: what multiplies ``p p^T`` of the column of each element, shaped like the noise arrays.

        None where columns only stand for ``p q^T + q p^T``.
        """
        return tuple(None for _ in self.shapes)


def named_apart(sources: list[Source]) -> list[Source]:
    """Name apart sources that share a name, in order."""
    seen: set[str] = set()
    tried: dict[str, int] = {}
    for source in sources:
        base = source.name
        number = tried.get(base, 1)
        while source.name in seen:
            number += 1
            source.name = f"{base}_n{number}"
        tried[base] = number
        seen.add(source.name)
    return sources


def _numbered(sources: list[Source]) -> list[Source]:
    for position, source in enumerate(sources):
        source.parts = 1 << position
    return named_apart(sources)


class Sides:
    """Which sources nodes can see: a leaf below each side of a :class:`Cross`, any below the others."""

    def __init__(self, curvature: Curvature, sources: Sequence[Source]) -> None:
        own: tuple[dict[Node, int], dict[Node, int]] = ({}, {})
        for source in sources:
            for side, variables in zip(own, source.sides, strict=True):
                for variable in variables:
                    side[variable] = side.get(variable, 0) | source.parts
        first, second = (arriving(curvature.uses, side) for side in own)
        self._sides = first, second

    def seen(self, a: Node, b: Node) -> int:
        """The parts of the sources that an entry of the Hessian between elements of ``a`` and of ``b`` can see."""
        first, second = self._sides
        straight, turned = first.get(a, 0) & second.get(b, 0), first.get(b, 0) & second.get(a, 0)
        return straight | turned


def roots(m: Node, setting: Setting, sign: int | None, origin: Origin) -> Field:
    """What multiplies the noise: ``p**2 - q**2 = m``; one is absent where the split is signed and the sign of m known."""
    if setting.factor != "signed":
        t, u = _pair(setting)
        return (
            elementwise((t + u) * HALF, [m], with_role(origin, "root_p")),
            elementwise((t - u) * HALF, [m], with_role(origin, "root_q")),
        )
    found: list[Node | None] = []
    for role, part, absent in (("p", _0, (-1, 0)), ("q", -_0, (1, 0))):
        # the root is a map of its own: it is the same for every column
        root = elementwise(sympy.sqrt(maximum(part, 0)), [m], with_role(origin, f"root_{role}"))
        found.append(None if sign in absent else root)
    return found[0], found[1]


def _pair(setting: Setting) -> tuple[sympy.Expr, sympy.Expr]:
    """T and U of a number ``_0`` with ``T * U = _0``, differentiable."""
    if setting.factor == "mixed":
        return _0, sympy.Integer(1)
    size = (_0**2 + sympy.Float(setting.epsilon) ** 2) ** sympy.Rational(1, 4)
    return _0 / size, size


def split(m: Node, factor: Node, setting: Setting, sign: int | None, origin: Origin) -> Field:
    """:func:`roots` of ``m`` times ``factor``."""
    p, q = (
        None if root is None else elementwise(_0 * _1, [root, factor], with_role(origin, role))
        for root, role in zip(roots(m, setting, sign, origin), "pq", strict=True)
    )
    return p, q


def is_fixed(node: Node) -> bool:
    """Whether a node depends on no variable of the model, so that its root needs no derivative."""
    return all(n.kind == "scale" for n in topological([node]) if isinstance(n, Input))


def with_role(origin: Origin, role: str) -> Origin:
    return Origin(origin.name, origin.file, origin.line, origin.equation, origin.axes, role)


class Self(Source):
    """Diagonal curvature of one variable: one sign an element."""

    def __init__(self, curvature: Curvature, variable: Node) -> None:
        super().__init__(curvature)
        self.variable = variable
        self.variables = (variable,)
        self.name = f"v_{variable.name}"  # type: ignore[attr-defined]
        self.shapes = (variable.element_shape,)

    def describe(self) -> str:
        return f"second derivative of {self.variable.name}'s readers"  # type: ignore[attr-defined]

    @cached_property
    def diagonal(self) -> Node:
        m = self.curvature.self_curvature(self.variable)
        assert m is not None
        return m

    @property
    def on_number(self) -> bool:
        return prod(self.variable.element_shape) == 1

    def _straight(self, node: Node) -> list[Term] | None:
        if self.variable is node:
            return [Term(self.diagonal)]
        if self.on_number:
            form = self._along_gradient(node)
            return [] if form is None else [Term(form)]
        chain = self.curvature.chain(node, self.variable)
        return None if chain is None else [Term(self.diagonal, tuple(chain))]

    def _along_gradient(self, node: Node) -> Node | None:
        """``m G**2`` for the curvature of a variable that is one number a row: of rank one, along its gradient."""
        curvature, variable = self.curvature, self.variable
        numbers = not node.element_shape and not variable.element_shape
        if numbers and len(curvature.uses.nodes) >= MANY_NODES:
            # one pass upwards for all sources, where each would go down on its own
            gradient = curvature.slopes(node)[variable]
        else:
            gradient = curvature.adjoints_below(variable).of(node)
        if gradient is None:
            return None
        m, extents, origin = self.diagonal, variable.element_shape, adjoint_origin(node, "curv")
        if extents:
            m = over((), [(m, range(len(extents)))], _0, extents, origin)
        return elementwise(_0 * _1**2, [m, gradient], origin)

    def block(self, first: Input, second: Input) -> list[Node] | None:
        found = super().block(first, second)
        return [_diagonal_block(self.diagonal)] if found is None and isinstance(self.variable, Input) else found

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        m, sign = self.diagonal, self.curvature.sign(self.diagonal)
        origin = adjoint_origin(self.variable)
        return [(self.variable, split(m, v[0], self.curvature.setting, sign, origin))]


def from_pair(t: sympy.Expr, u: sympy.Expr, nodes: list[Node], origin: Origin) -> Field:
    """The fields of a T/U pair: ``p = (T + U) / 2``, ``q = (T - U) / 2``."""
    return (
        elementwise((t + u) * HALF, nodes, with_role(origin, "p")),
        elementwise((t - u) * HALF, nodes, with_role(origin, "q")),
    )


def balanced(norm: Node, v: Node, origin: Origin) -> tuple[Node, Node]:
    """Noise ``v`` of the smaller argument of a product over its scale, and times it."""
    down = elementwise(_1 * (_0 + _FLOOR) ** sympy.Rational(-1, 4), [norm, v], with_role(origin, "noise"))
    up = elementwise(_1 * (_0 + _FLOOR) ** sympy.Rational(1, 4), [norm, v], with_role(origin, "noise_scaled"))
    return down, up


def small_side(small: Node, up: Node) -> tuple[Node, Field]:
    """The smaller argument of a product with its fields, given its scaled noise."""
    origin = adjoint_origin(small)
    u = elementwise(1 / sympy.sqrt(2) * _0, [up], with_role(origin, "u"))
    return small, (u, elementwise(-_0, [u], with_role(origin, "u_minus")))


class Cross(Source):
    """A mixed second derivative between arguments ``a`` and ``b`` of one map.

    One-sided: the smaller argument gets the noise times a scale, the larger one the local Hessian times the noise
    over that scale, so that a contraction needs one sign an element of its smaller operand and not one a product.
    The scale (the fourth root of the sum of squares of the column) balances the two sides.
    """

    def __init__(self, curvature: Curvature, m: Map, a: int, b: int) -> None:
        super().__init__(curvature)
        if _count(m.args[a].node) < _count(m.args[b].node):
            a, b = b, a
        self.map, self.a, self.b = m, a, b
        self.variables = (m.args[a].node, m.args[b].node)
        large, small = (n.name for n in self.variables)  # type: ignore[attr-defined]
        self.name = f"v_{m.name}_{large}_{small}"
        if large == small:
            self.name += f"_{a}_{b}"
        self.shapes = (self.variables[1].element_shape,)

    def describe(self) -> str:
        large, small = (n.name for n in self.variables)  # type: ignore[attr-defined]
        return f"product of {large} and {small} in {self.map.name}"

    @property
    def mixed(self) -> sympy.Expr:
        return diff(diff(self.map.expr, placeholder(self.a)), placeholder(self.b))

    def never_meets(self) -> bool:
        """Whether the two reads provably never hit the same element of the same node."""
        if self.variables[0] is not self.variables[1]:
            return True
        pairs = zip(self.map.args[self.a].index, self.map.args[self.b].index, strict=True)
        return any(i.terms == j.terms and i.divisor == j.divisor and i.offset != j.offset for i, j in pairs)

    @property
    def sides(self) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        return self.variables[:1], self.variables[1:]

    def straight(self, node: Node) -> list[Term] | None:
        if not all(self.curvature.uses.depends(v, node) for v in self.variables):
            return []
        on_node = all(v is node for v in self.variables)
        return [] if on_node and self.never_meets() else None

    def block(self, first: Input, second: Input) -> list[Node] | None:
        depends = self.curvature.uses.depends
        a, b = self.variables
        straight, swapped = depends(a, first) and depends(b, second), depends(a, second) and depends(b, first)
        if (straight or swapped) and not all(isinstance(v, Input) for v in self.variables):
            return None
        return [self.pair_block(swap) for swap, seen in ((False, straight), (True, swapped)) if seen]

    def _adjoint(self) -> Node:
        cotangent = self.curvature.adjoints.of(self.map)
        assert cotangent is not None
        return cotangent

    def by_element(self) -> Node:
        """``M[row, e]``: the mixed derivative between elements of the same number, where no others meet."""
        return self._pulled(self.b, self._weighted(), [], list(self.curvature.rows), "curv")

    def norm(self) -> Node:
        """The sum of squares of each column of the mixed derivative, shaped like the smaller argument."""
        return self._pulled(self.b, self._weighted() ** 2, [], list(self.curvature.rows), "norm")

    def pulled(self, v: Node, scale: sympy.Expr, role: str, onto_small: bool = False) -> Node:
        """``scale`` times the mixed derivative times ``v``, shaped like the other argument."""
        to, other = (self.b, self.a) if onto_small else (self.a, self.b)
        factor = scale * self._weighted() * placeholder(len(self.map.args) + 1)
        reads = [Extra(v, element_index(self.map.args[other]))]
        return self._pulled(to, factor, reads, [COLUMNS, *self.curvature.rows], role)

    def _weighted(self) -> sympy.Expr:
        return self.mixed * placeholder(len(self.map.args))

    def _pulled(self, to: int, factor: sympy.Expr, reads: list[Extra], dims: list[Dim], role: str) -> Node:
        m = self.map
        access, extras = m.args[to], [Extra(self._adjoint(), output_axes(m)), *reads]
        return pull(m, target_of(access), factor, extras, dims, with_role(adjoint_origin(access.node), role))

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        large, small = self.variables
        if self.curvature.setting.factor == "signed":
            down, up = balanced(self.norm(), v[0], adjoint_origin(small))
        else:
            down = up = v[0]
        t = self.pulled(down, 1 / sympy.sqrt(2), "t")
        return [(large, (t, t)), small_side(small, up)]

    def pair_block(self, swap: bool) -> Node:
        """``G[row, a.., b..]``: the local mixed derivative between elements (b first with ``swap``)."""
        m = self.map
        first, second = m.args[self.a], m.args[self.b]
        if swap:
            first, second = second, first
        target = [*target_of(first), *target_of(second)]
        return pull(m, target, self._weighted(), [Extra(self._adjoint(), output_axes(m))], list(self.curvature.rows))


def _count(node: Node) -> int:
    total = 1
    for extent in node.element_shape:
        total *= extent
    return total


class RegionSource(Source):
    """The curvature of a region as a whole, of all elements along its axis with each other."""

    def __init__(self, curvature: Curvature, region: Region) -> None:
        super().__init__(curvature)
        self.region = region
        self.variables = (region.source,)
        self.name = f"v_{region.output.name}"  # type: ignore[attr-defined]
        self.shapes = (region.source.element_shape,)
        elements = region.source.element_shape
        self.elements = elements
        # the axis among the element axes, the element axes that remain, and how to read and sum along it
        self.along = region.axis - sum(isinstance(e, Dim) for e in region.source.shape)
        self.whole = tuple(range(len(elements)))
        self.rest = tuple(a for a in self.whole if a != self.along)
        self.origin = adjoint_origin(region.source)

    @cached_property
    def diagonal(self) -> Node:
        """The diagonal of the region's curvature, shaped like its source."""
        raise AssertionError

    def _straight(self, node: Node) -> list[Term] | None:
        return [Term(self.diagonal)] if self.region.source is node else None

    def adjoint(self) -> Node:
        g = self.curvature.adjoints.of(self.region.output)
        assert g is not None
        return g

    def summed(self, reads: list[Node], expr: sympy.Expr, origin: Origin) -> Node:
        """The sum along the axis of an expression of nodes shaped like the source."""
        outer = [self.elements[a] for a in self.rest]
        place = {a: k for k, a in enumerate(self.rest)} | {self.along: len(self.rest)}
        axes = [place[a] for a in self.whole]
        return over(outer, [(n, axes) for n in reads], expr, [self.elements[self.along]], origin)

    def spread(self, reads: list[tuple[Node, bool]], expr: sympy.Expr, origin: Origin) -> Node:
        """An expression over the source's shape; ``True`` marks nodes that lack the axis."""
        return over(
            self.elements, [(n, self.rest if short else self.whole) for n, short in reads], expr, (), origin
        )

    def unit_columns(self, v: Node) -> list[tuple[Node, Field]]:
        """``(I - p 1^T) v``: both kinds of region are a diagonal matrix between this and its transpose."""
        total = fold(self.summed([v], _0, with_role(self.origin, "drawn")))
        minus = self.spread([(self.region.softmax, False), (total, True)], -_0 * _1, with_role(self.origin, "mean"))
        return [(self.region.source, (v, None)), (self.region.source, (minus, None))]


class Logsumexp(RegionSource):
    """``M = g (diag(p) - p p^T)`` with columns ``sqrt(|g|) (sqrt(p) v - p sum(sqrt(p) v))``; one sign an entry."""

    def describe(self) -> str:
        return f"log-sum-exp {self.region.output.name}"  # type: ignore[attr-defined]

    @cached_property
    def diagonal(self) -> Node:
        p = self.region.softmax
        return self.spread(
            [(p, False), (self.adjoint(), True)], _1 * _0 * (1 - _0), with_role(self.origin, "curv")
        )

    def _straight(self, node: Node) -> list[Term] | None:
        chain = None if self.rest else self.curvature.chain(node, self.region.source)
        if self.region.source is node or chain is None:
            return super()._straight(node)
        # M = diag(weight) - g p p^T
        squares, p, g, origin = self.weight, self.region.softmax, self.adjoint(), adjoint_origin(node, "curv")
        whole = variance(chain, p, g, origin)
        if whole is not None:
            return [Term(whole)]
        mean = down(chain, p, 1, origin)
        minus = [] if mean is None else [Term(elementwise(-_0 * _1**2, [g, mean], origin))]
        return [Term(squares, tuple(chain)), *minus]

    @cached_property
    def weight(self) -> Node:
        reads = [(self.region.softmax, False), (self.adjoint(), True)]
        return self.spread(reads, _0 * _1, with_role(self.origin, "curv"))

    def unit_weights(self) -> tuple[Node | None, ...]:
        return (self.weight,)

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        if self.curvature.setting.factor == "unit":
            return self.unit_columns(v[0])
        p, g = self.region.softmax, self.adjoint()
        root = elementwise(sympy.sqrt(_0), [p], with_role(self.origin, "root"))
        total = self.summed([root, v[0]], _0 * _1, with_role(self.origin, "drawn"))
        reads = [(root, False), (v[0], False), (p, False), (total, True)]
        column = self.spread(reads, _0 * _1 - _2 * _3, with_role(self.origin, "column"))
        setting = SIGNED if is_fixed(g) else self.curvature.setting
        fields: list[Node | None] = []
        for role, weight in zip("pq", roots(g, setting, self.curvature.sign(g), self.origin), strict=True):
            if weight is not None:
                weight = self.spread([(column, False), (weight, True)], _0 * _1, with_role(self.origin, role))
            fields.append(weight)
        return [(self.region.source, (fields[0], fields[1]))]


class Softmax(RegionSource):
    """``M = (I - p 1^T) diag(w) (I - 1 p^T)``, ``w = p (g - sum g p)``; one sign an entry."""

    def describe(self) -> str:
        return f"softmax {self.region.output.name}"  # type: ignore[attr-defined]

    @cached_property
    def weight(self) -> Node:
        y, g = self.region.softmax, self.adjoint()
        mean = self.summed([g, y], _0 * _1, with_role(self.origin, "mean"))
        return self.spread(
            [(y, False), (g, False), (mean, True)], _0 * (_1 - _2), with_role(self.origin, "weight")
        )

    @cached_property
    def diagonal(self) -> Node:
        y = self.region.softmax
        return self.spread([(y, False), (self.weight, False)], _1 * (1 - 2 * _0), with_role(self.origin, "curv"))

    def unit_weights(self) -> tuple[Node | None, ...]:
        return (self.weight,)

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        if self.curvature.setting.factor == "unit":
            return self.unit_columns(v[0])
        y = self.region.softmax
        fields: list[Node | None] = []
        parts = split(self.weight, v[0], self.curvature.setting, None, with_role(self.origin, "root"))
        for part, role in zip(parts, "pq", strict=True):
            assert part is not None
            total = self.summed([part], _0, with_role(self.origin, f"root_{role}_sum"))
            fields.append(
                self.spread(
                    [(part, False), (y, False), (total, True)], _0 - _1 * _2, with_role(self.origin, role)
                )
            )
        return [(self.region.source, (fields[0], fields[1]))]


class Mixed(Source):
    """The whole local Hessian of one map factored as (M, I): ``T = M v``, ``U = v`` (no noise is ever dropped)."""

    def __init__(self, curvature: Curvature, m: Map) -> None:
        super().__init__(curvature)
        self.map = m
        active = [k for k, a in enumerate(m.args) if curvature.uses.active(a.node)]
        self.pairs = [
            (a, b)
            for a in active
            for b in active
            if not vanishes(diff(diff(m.expr, placeholder(a)), placeholder(b)))
        ]
        touched = sorted({a for pair in self.pairs for a in pair})
        self.variables = tuple(dict.fromkeys(m.args[a].node for a in touched))
        self.name = f"v_{m.name}"
        self.shapes = tuple(n.element_shape for n in self.variables)

    def describe(self) -> str:
        return f"local Hessian of {self.map.name}"

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        m, number = self.map, len(self.map.args)
        g = self.curvature.adjoints.of(m)
        assert g is not None
        drawn = dict(zip(self.variables, v, strict=True))
        result: list[tuple[Node, Field]] = []
        for variable in self.variables:
            parts = []
            for a, b in self.pairs:
                if m.args[a].node is not variable:
                    continue
                second = diff(diff(m.expr, placeholder(a)), placeholder(b))
                extras = [
                    Extra(g, output_axes(m)),
                    Extra(drawn[m.args[b].node], element_index(m.args[b])),
                ]
                factor = second * placeholder(number) * placeholder(number + 1)
                parts.append(pull(m, target_of(m.args[a]), factor, extras, [COLUMNS, *self.curvature.rows]))
            t = add(parts)
            assert t is not None
            result.append((variable, from_pair(_0, _1, [t, drawn[variable]], adjoint_origin(variable))))
        return result


class MixedRegion(RegionSource):
    """A region's local Hessian factored as (M, I)."""

    def describe(self) -> str:
        return f"local Hessian of {self.region.output.name}"  # type: ignore[attr-defined]

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        y = self.region.softmax
        origin = self.origin
        if self.region.kind == "logsumexp":
            mean = self.summed([y, v[0]], _0 * _1, with_role(origin, "drawn"))
            t = self.spread(
                [(y, False), (v[0], False), (mean, True), (self.adjoint(), True)], _3 * _0 * (_1 - _2), origin
            )
        else:
            source = Softmax(self.curvature, self.region)
            mean = self.summed([y, v[0]], _0 * _1, with_role(origin, "drawn"))
            w = self.spread(
                [(source.weight, False), (v[0], False), (mean, True)], _0 * (_1 - _2), with_role(origin, "root")
            )
            total = self.summed([w], _0, with_role(origin, "root_sum"))
            t = self.spread([(w, False), (y, False), (total, True)], _0 - _1 * _2, origin)
        return [(self.region.source, from_pair(_0, _1, [t, v[0]], origin))]


def _diagonal_block(diagonal: Node) -> Node:
    """``B[row, i.., j..] = diagonal[row, i..] if i == j else 0``."""
    lead, elements = diagonal.lead, diagonal.element_shape
    extents = (*diagonal.shape, *elements)
    access = Access(diagonal, tuple(axis(a) for a in range(len(diagonal.shape))))
    guards = [Guard(affine({lead + a: 1, lead + len(elements) + a: -1}), 1) for a in range(len(elements))]
    return make_map(
        extents, len(extents), [access], placeholder(0), guards, origin=adjoint_origin(diagonal, "block")
    )


def squared_difference(p: Node | None, q: Node | None) -> tuple[sympy.Expr, list[Node]] | None:
    """``p**2 - q**2`` of two optional fields as an expression of the placeholders and the nodes to read."""
    if is_zero(p) and is_zero(q):
        return None
    if is_zero(q):
        assert p is not None
        return _0**2, [p]
    if is_zero(p):
        assert q is not None
        return -(_0**2), [q]
    assert p is not None and q is not None
    return _0**2 - _1**2, [p, q]
