"""The curvature sweep: two fields carried backwards by the node Jacobians, picking up noise at every source.

``p`` and ``q`` of a variable satisfy ``E[p p^T - q q^T] = H`` of the objective above it (real signed form of
the S estimator of
Martens, Sutskever & Swersky, ICML 2012).  Fields carry a column axis (one column a sample) and a row axis (rows draw
independent noise, so that each row's estimate is squared on its own).

Three things make the estimate tight, all decided here before anything runs:

* noise that no requested entry can see is never drawn (``needed``);
* a diagonal is read at the highest variable from which it can be carried down exactly by squared derivatives
  (``readout``);
* sources whose effect on a read-out is known exactly are left out of its fields and added in closed form (``exact``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from heapq import heappop, heappush
from operator import and_

from cpgen.derive.carries import close, opened, reaching
from cpgen.derive.chains import Term, down
from cpgen.derive.linear import one_to_one, pull_back, push_forward
from cpgen.derive.paths import LONGEST, MOST, closed_form
from cpgen.derive.points import over
from cpgen.derive.reverse import adjoint_origin
from cpgen.derive.sources import Curvature, Field, Sides, Source
from cpgen.derive.units import by_column, fold, is_thin, unit_vectors
from cpgen.derive.uses import Use, arriving
from cpgen.ir.build import add, constant, reduce_sum
from cpgen.ir.nodes import COLUMNS, ROWS, Carry, Input, Map, Node, Origin
from cpgen.ir.rewrite import Memo
from cpgen.scalar import placeholder

Pair = tuple[Input, Input]
_Without = tuple[Node, int]  # a node, and the bits of sources that are left out of its fields
_Sums = tuple[list[Node], list[Node]]
_0, _1 = placeholder(0), placeholder(1)


@dataclass(frozen=True)
class Readout:
    """How the diagonal of ``leaf`` is read: at ``variable``, then down ``chain`` (from the leaf up) by
    squared derivatives.

    ``exact``: the bits of the sources left out of the fields; their diagonals at ``variable`` are in ``terms``.
    """

    leaf: Input
    variable: Node
    chain: tuple[Use, ...]
    exact: int
    terms: tuple[Term, ...] = field(compare=False)

    def diagonals(self) -> list[Node | None]:
        """The terms at ``variable``."""
        origin = adjoint_origin(self.variable, "curv")
        return [down(term.chain, term.top, 2, origin) for term in self.terms]

    def forms(self, weight: Node, origin: Origin) -> list[Node]:
        """``sum_e weight[e] diagonal[e]`` of the terms, from the top.

        A weight that no row changes goes up once for all rows, where each row's diagonal would have to come down.
        """
        found = []
        here = add([term.top for term in self.terms if not term.chain])
        for top, chain in [(here, ()), *((t.top, t.chain) for t in self.terms if t.chain)]:
            raised: Node | None = weight
            for use in chain:
                if raised is not None:
                    raised = push_forward(
                        use.map, {use.position: raised}, power=2, origin=adjoint_origin(use.map, "weight")
                    )
            if top is not None and raised is not None:
                extents = top.element_shape
                axes = range(len(extents))
                found.append(over((), [(top, axes), (raised, axes)], _0 * _1, extents, origin))
        return found


@dataclass(frozen=True)
class BlockReadout:
    """How the block of two leaves is read: from their fields; ``terms``: the blocks of the ``exact`` sources (bits)."""

    pair: Pair
    exact: int
    terms: tuple[Node, ...] = field(compare=False)


class Sweep:
    """Fields of a graph for the sources that are drawn; ``offset`` counts noise elements in source order."""

    def __init__(self, curvature: Curvature, sources: Sequence[Source]) -> None:
        self.curvature = curvature
        self.sources = tuple(sources)
        self.is_unit = curvature.setting.factor == "unit"
        self.columns = 0
        self._injected: dict[Node, list[tuple[int, Field]]] = {}  # by the parts of their source
        self._fields: dict[tuple[Node, int], Field] = {}
        self._parts = Memo(self._sums)
        self._carried: dict[tuple[Carry, int, int], Carry] = {}  # by carry, what is left out, and side
        self._waiting: list[tuple[Carry, int, int]] = []  # carries that carry nothing yet
        weights: list[Node | None] = []
        taken = {v.name for v in curvature.graph.variables}
        for source in self.sources:
            drawn: list[Node] = []
            own = source.unit_weights() if self.is_unit else tuple(None for _ in source.shapes)
            for shape, weight in zip(source.shapes, own, strict=True):
                if weight is not None:
                    weights.append(by_column(weight, self.columns, adjoint_origin(source.variables[0], "weight")))
                # the name is the key of the bits: two arrays that shared one would be correlated
                name, number = source.name, 1
                while name in taken:
                    number += 1
                    name = f"{source.name}_{number}"
                taken.add(name)
                if self.is_unit:
                    drawn.append(unit_vectors(shape, self.columns, Origin(name)))
                else:
                    noise = curvature.noise(name, shape)
                    drawn.append(Input(noise.name, noise.shape, "noise", noise.origin, self.columns))
                self.columns += math.prod(shape)
            for variable, pair in source.inject(tuple(drawn)):
                self._injected.setdefault(variable, []).append((source.parts, pair))
        self.weight = add(weights, Origin("weight"))
        self._arriving = arriving(curvature.uses, self._own_bits((0, 1)))
        # with a derivative, by side: only carries ask
        self._reaching = [
            reaching(curvature.uses, self._own_bits((side,))) if curvature.uses.carries else {}
            for side in (0, 1)
        ]
        for node in reversed(curvature.uses.nodes):
            if isinstance(node, Map) and curvature.uses.active(node):
                self.fields(node)

    def _own_bits(self, sides: Sequence[int]) -> dict[Node, int]:
        """The bits of the sources that are injected into ``sides`` of each node."""
        found: dict[Node, int] = {}
        for node, injected in self._injected.items():
            for parts, pair in injected:
                if any(pair[side] is not None for side in sides):
                    found[node] = found.get(node, 0) | parts
        return found

    def reach(self, node: Node) -> int:
        """The bits of the sources that arrive at a node."""
        return self._arriving.get(node, 0)

    def fields(self, node: Node, without: int = 0) -> Field:
        """``(p, q)`` of ``node``, shape (COLUMNS, ROWS, e...), leaving out sources whose parts are all in ``without``."""
        key = (node, without & self.reach(node))
        if key not in self._fields:
            p, q = self._parts(key)
            self._fields[key] = (add(p, adjoint_origin(node, "p")), add(q, adjoint_origin(node, "q")))
            self._close()
        return self._fields[key]

    def _from_carry(self, carry: Carry, without: int, side: int) -> Node | None:
        """What a carry brings its body of one field, a step later; closed when the rest of the field is there."""
        key = (carry, without & self.reach(carry), side)
        if not self._reaching[side].get(carry, 0) & ~without:
            return None
        if key not in self._carried:
            dims = (COLUMNS, *self.curvature.rows, *carry.shape)
            self._carried[key] = opened(carry, dims, -carry.step, "pq"[side])
            self._waiting.append(key)
        return self._carried[key]

    def _close(self) -> None:
        while self._waiting:
            carry, without, side = key = self._waiting.pop()
            close(self._carried[key], self.fields(carry, without)[side])

    def _sums(self, key: _Without) -> Generator[_Without, _Sums, _Sums]:
        """What the fields are sums of: one node each, and beside it columns that are still nearly unit vectors, which go
        down on their own as long as that costs next to nothing."""
        node, without = key
        found: list[list[Node]] = []
        for side, role in enumerate("pq"):
            origin = adjoint_origin(node, role)
            parts: list[Node | None] = []
            for use in self.curvature.uses.of(node):
                above = yield use.map, without & self.reach(use.map)
                parts += [pull_back(use.map, use.position, part, lift=True, origin=origin) for part in above[side]]
            parts += [self._from_carry(carry, without, side) for carry in self.curvature.uses.carried(node)]
            parts += [pair[side] for of, pair in self._injected.get(node, []) if of & ~without]
            present = [fold(part) if self.is_unit else part for part in parts if part is not None]
            thin = [part for part in present if self.is_unit and is_thin(part)]
            dense = add([part for part in present if part not in thin], origin)
            found.append(thin if dense is None else [*thin, dense])
        return found[0], found[1]


def needed(sources: Sequence[Source], exact: Sequence[int]) -> list[Source]:
    """The sources that some read-out has to sample; ``exact``: the bits of those that each one need not."""
    everywhere = reduce(and_, exact, -1)
    return [s for s in sources if not s.parts & everywhere]


# Read-outs


def find_readouts(curvature: Curvature, wrt: Sequence[Input], sources: Sequence[Source]) -> list[Readout]:
    """How the diagonal of every leaf is read.

    Where a source is drawn for another leaf's sake, and the fields are needed here anyway, it is left in them: taking it
    out would have them carried down twice.  A source on the very variable costs nothing to leave out.
    """
    readouts = _Readouts(curvature, sources)
    found = [readouts.of(leaf) for leaf in wrt]
    drawn = sum(s.parts for s in needed(sources, [r.exact for r in found]))
    return [r if not drawn & ~r.exact else readouts.of(r.leaf, drawn) for r in found]


class _Readouts:
    """What can be known in closed form of ``sources``, without asking each of them about each variable."""

    def __init__(self, curvature: Curvature, sources: Sequence[Source]) -> None:
        self.curvature, self.sources = curvature, sources
        self.every = sum(s.parts for s in sources)
        self._known: dict[tuple[int, Node], list[Term] | None] = {}  # by source and variable
        self._numbers = [k for k, s in enumerate(sources) if s.on_number]
        self._acting: dict[Node, list[int]] = {}  # the sources on a variable, by position
        for k, source in enumerate(sources):
            for variable in dict.fromkeys(source.variables):
                self._acting.setdefault(variable, []).append(k)
        self._sides = Sides(curvature, sources)

    def of(self, leaf: Input, drawn: int = 0) -> Readout:
        """The highest variable from which the diagonal of ``leaf`` follows exactly, and what is exact there.

        Sources in ``drawn`` (bits) are left out of the fields only where they act on that variable itself.
        """
        curvature = self.curvature
        uses = curvature.uses
        node: Node = leaf
        chain: list[Use] = []
        while node is not curvature.graph.objective:
            use = uses.along_one(node)
            if use is None or use.map in curvature.inside:
                break
            if use.map.reduce != "sum" or not one_to_one(use.map, use.position):
                break
            chain.append(use)
            node = use.map
        seen = self._sides.seen(node, node)
        exact = self.every & ~seen
        terms: list[Term] = []
        for k in self._answering(node):
            source = self.sources[k]
            if not source.parts & seen:
                continue
            key = (k, node)
            if key not in self._known:
                self._known[key] = _exact_diagonal(curvature, source, node)
            answer = self._known[key]
            if answer and source.parts & drawn and all(v is not node for v in source.variables):
                answer = None
            if answer is not None:
                exact |= source.parts
                terms += answer
        return Readout(leaf, node, tuple(chain), exact, tuple(terms))

    def _answering(self, node: Node) -> list[int]:
        """The sources (positions) whose diagonal at ``node`` can have a closed form, if it sees them."""
        near = [k for above in self._in_few_ways(node) for k in self._acting.get(above, ())]
        return sorted({*self._numbers, *near})

    def _in_few_ways(self, node: Node) -> list[Node]:
        """``node`` and the nodes above it that depend on it by one path, or by a few short ones."""
        uses, inside, regions = self.curvature.uses, self.curvature.inside, self.curvature.graph.regions
        above_source, of_output = {r.source: r for r in regions}, {r.output: r for r in regions}
        ways = {node: (1, 0)}  # how many paths, and the length of the longest
        waiting: list[int] = []  # a heap of nodes whose arguments are all known by the time that they come

        def offer(below: Node) -> None:
            for use in uses.of(below):
                if use.map not in inside:
                    heappush(waiting, uses.order[use.map])
            if below in above_source and above_source[below].output in uses.order:
                heappush(waiting, uses.order[above_source[below].output])

        offer(node)
        while waiting:
            above = uses.nodes[heappop(waiting)]
            if above in ways:
                continue
            region = of_output.get(above)
            if region is not None:  # the derivative of a softmax has two terms
                found = [ways.get(region.source)] * (2 if region.kind == "softmax" else 1)
            else:
                assert isinstance(above, Map)
                found = [ways.get(a.node) for a in above.args if uses.depends(a.node, node)]
            known = [way for way in found if way is not None]
            paths, longest = sum(way[0] for way in known), 1 + max((way[1] for way in known), default=0)
            if len(known) == len(found) and (paths == 1 or (paths <= MOST and longest <= LONGEST)):
                ways[above] = (paths, longest)
                offer(above)
        return list(ways)


def _exact_diagonal(curvature: Curvature, source: Source, node: Node) -> list[Term] | None:
    """The diagonal that ``source`` alone gives ``node``, if it is known in closed form; None if it has to be sampled.

    The way from a source to a node that depends on its own earlier steps is no path.
    """
    if curvature.uses.is_recurrent(node):
        return None
    found = source.straight(node)
    if found is not None:
        return found
    over_paths = closed_form(curvature, source, node)
    return None if over_paths is None else [Term(part) for part in over_paths]


def find_block_readout(curvature: Curvature, pair: Pair, sources: Sequence[Source]) -> BlockReadout:
    """Which sources reach the block of ``pair`` in closed form: those that act on the two leaves directly."""
    exact = 0
    terms: list[Node] = []
    for source in sources:
        found = source.block(*pair)
        if found is not None:
            exact |= source.parts
            terms += found
    return BlockReadout(pair, exact, tuple(terms))


def carry_down(
    curvature: Curvature, readout: Readout, diagonal: Node | None, power: int, local: Callable[[Node], bool]
) -> Node | None:
    """A diagonal (``power=2``) or its variance (``power=4``) at the read-out, carried down to the leaf in
    the leaf's shape.

    The exact curvature of each variable on the way is added where ``local(variable)``.
    """
    current = diagonal
    for use in reversed(readout.chain):
        node = use.map.args[use.position].node
        origin = adjoint_origin(node, "diag" if power == 2 else "var")
        lift = not isinstance(node, Input)
        parts: list[Node | None] = []
        if current is not None:
            parts.append(pull_back(use.map, use.position, current, power=power, lift=lift, origin=origin))
        if local(node):
            parts.append(curvature.self_curvature(node, lift=lift))
        current = add(parts, origin)
    if current is not None and current.has_rows and not readout.leaf.has_rows:
        current = reduce_sum(current, [current.shape.index(ROWS)], adjoint_origin(readout.leaf, "diag"))
    return current


def weights_up(
    curvature: Curvature, readout: Readout, weight: Node | None = None, stacked: int = 0
) -> list[tuple[Node, Node]]:
    """``(variable, w)`` along the chain: a diagonal ``d`` of the variable adds ``sum_e w[e] d[e]`` to the
    leaf's trace.

    ``weight``: of the leaf's elements, if not 1; ``stacked``: so many of them, along an axis before the elements.
    """
    if weight is None:
        weight = constant(1, readout.leaf.shape, Origin(readout.leaf.name, role="weight"))
    found: list[tuple[Node, Node]] = [(readout.leaf, weight)]
    for use in readout.chain:
        origin = adjoint_origin(use.map, "weight")
        pushed = push_forward(use.map, {use.position: weight}, power=2, stacked=stacked, origin=origin)
        if pushed is None:
            lead, more = use.map.shape[: use.map.lead], (stacked,) if stacked else ()
            pushed = constant(0, (*lead, *more, *use.map.element_shape))
        weight = pushed
        found.append((use.map, weight))
    return found
