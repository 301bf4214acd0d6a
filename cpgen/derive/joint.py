"""Second derivatives that are factored together.

One by one, the second derivatives of an elementwise map in its k arguments have a larger absolute Hessian than the k x k
matrix that they make up for each element, and take more noise.  From the sources that have to be drawn this makes fewer:

* :class:`Joint`: the matrix of each element of several variables, factored by its eigenvectors.  The variables are those
  that a chain of elementwise definitions starts from: in a gated cell the matrix of the gates' arguments and of the old
  state holds the curvature of the gates, of their products and of what follows from them.  By the triangle inequality
  the sum of absolute eigenvalues of a sum is at most that of its parts.
* :class:`Products`: mixed second derivatives that share their smaller argument, with one noise.
* :class:`Pivots`, for unit vectors: one column for each element of variables from which one side of everything follows.

What is exact stays exact: sources are joined only where every read-out treats them alike (:class:`Asked`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import sympy

from cpgen.derive.linear import element_index, output_axes, push_forward
from cpgen.derive.reverse import adjoint_origin
from cpgen.derive.sources import (
    HALF,
    Cross,
    Curvature,
    Field,
    Self,
    Sides,
    Source,
    balanced,
    named_apart,
    small_side,
    split,
    with_role,
)
from cpgen.ir.build import add, constant, elementwise
from cpgen.ir.nodes import Map, Node, Origin
from cpgen.scalar import LARGEST_ROOT, eigenroot, placeholder

_0, _1 = placeholder(0), placeholder(1)
Pair = tuple[Node, Node]
Slopes = dict[Node, "Node | None"]  # by variable; None for one


@dataclass(frozen=True)
class Asked:
    """What one read-out asks of the fields: the entries between two nodes, without the sources in ``exact`` (bits)."""

    pair: Pair
    exact: int


def join(curvature: Curvature, sources: Sequence[Source], asked: Sequence[Asked]) -> list[Source]:
    """``sources`` with those factored together that have less noise so.

    A sum of sources is left out of a read-out where all its parts are.  Factors that are to be differentiated stay as
    they are.
    """
    if curvature.setting.factor == "unit":
        return _pivots(curvature, sources, asked)
    if curvature.setting.factor != "signed":
        return list(sources)
    alike = _Alike(curvature, sources, asked)
    chains = _Chains(curvature, asked)
    joints, rest = _joints(chains, sources, alike)
    return named_apart([*joints, *_products(curvature, rest, alike)])


class _Alike:
    """Which sources may be joined: where one is sampled, no other is known in closed form."""

    def __init__(self, curvature: Curvature, sources: Sequence[Source], asked: Sequence[Asked]) -> None:
        self.sampled = {source.parts: 0 for source in sources}  # by source, one bit for each read-out
        self.known = dict(self.sampled)
        every = sum(self.sampled)
        sides = Sides(curvature, sources)
        for k, a in enumerate(asked):
            for found, which in (
                (self.sampled, every & ~a.exact),
                (self.known, every & a.exact & sides.seen(*a.pair)),
            ):
                while which:
                    source = which & -which
                    found[source] |= 1 << k
                    which ^= source

    def __call__(self, sources: Iterable[Source]) -> bool:
        sampled = known = 0
        for source in sources:
            sampled |= self.sampled[source.parts]
            known |= self.known[source.parts]
        return not sampled & known


class _Chains:
    """Elementwise definitions: what a variable is made of, element by element, and its derivatives by that.

    Read-outs stay whole: what arrives at their nodes from above must not be moved below them.
    """

    def __init__(self, curvature: Curvature, asked: Sequence[Asked]) -> None:
        self.curvature = curvature
        self.kept = {n for a in asked for n in a.pair}
        self._below: dict[Node, list[tuple[int, Node]]] = {}
        self._slopes: dict[tuple[Node, int], Node | None] = {}

    def below(self, node: Node) -> list[tuple[int, Node]]:
        """The active arguments of ``node`` with their positions, if each of its elements reads one element of each: the
        one of the same number.  Otherwise nothing."""
        if node not in self._below:
            self._below[node] = self._arguments(node)
        return self._below[node]

    def _arguments(self, node: Node) -> list[tuple[int, Node]]:
        curvature = self.curvature
        if (
            not isinstance(node, Map)
            or node.reduced
            or node.guards
            or node in curvature.inside
            or node in self.kept
        ):
            return []
        found = []
        for k, access in enumerate(node.args):
            if curvature.uses.active(access.node):
                same = access.node.element_shape == node.element_shape
                if not same or element_index(access) != output_axes(node):
                    return []
                found.append((k, access.node))
        return found

    def base(self, node: Node) -> Node:
        """Where a chain of definitions of one argument each starts that ends at ``node``."""
        while len(found := self.below(node)) == 1:
            node = found[0][1]
        return node

    def slope(self, node: Node, k: int) -> Node | None:
        """The derivative of each element of ``node`` by its element of argument ``k``."""
        assert isinstance(node, Map)
        if (node, k) not in self._slopes:
            one = constant(1, node.args[k].node.shape)
            self._slopes[node, k] = push_forward(node, {k: one}, origin=adjoint_origin(node.args[k].node, "slope"))
        return self._slopes[node, k]

    def slopes(self, node: Node, known: dict[Node, Slopes]) -> Slopes:
        """The derivatives of ``node`` by those of some variables that it is made of; ``known`` starts with theirs."""
        stack = [node]  # a chain may be longer than a recursion may be deep
        while stack:
            top = stack[-1]
            missing = [argument for _, argument in self.below(top) if argument not in known]
            if top not in known and missing:
                stack += missing
                continue
            stack.pop()
            if top not in known:
                known[top] = self._combined(top, known)
        return known[node]

    def _combined(self, node: Node, known: dict[Node, Slopes]) -> Slopes:
        parts: dict[Node, list[Node]] = {}
        for k, argument in self.below(node):
            outer = self.slope(node, k)
            if outer is not None:
                for variable, inner in known[argument].items():
                    parts.setdefault(variable, []).append(_product([outer, inner], adjoint_origin(variable, "slope")))
        return {v: total for v, p in parts.items() if (total := add(p, adjoint_origin(v, "slope"))) is not None}


def _product(factors: Sequence[Node | None], origin: Origin, scale: int = 1) -> Node:
    """The product of nodes element by element, None standing for one."""
    present = [f for f in factors if f is not None]
    return elementwise(sympy.Mul(scale, *(placeholder(k) for k in range(len(present)))), present, origin)


# For signs


class _Group:
    """Sources whose sum is a matrix for each element of the variables in ``support``."""

    def __init__(self, support: Sequence[Node], members: Sequence[Source]) -> None:
        self.support = tuple(dict.fromkeys(support))
        self.members = tuple(members)

    @property
    def cost(self) -> int:
        """Noise arrays: no more than one a source, and one a variable."""
        return min(len(self.support), len(self.members))


def _is_aligned(source: Cross) -> bool:
    """Whether each element of one argument meets one element of the other: that of the same number."""
    first, second = (source.map.args[k] for k in (source.a, source.b))
    if first.node is second.node or first.node.element_shape != second.node.element_shape:
        return False
    return element_index(first) == element_index(second)


class _Groups:
    """Groups in order, found by their variables: graphs have thousands."""

    def __init__(self) -> None:
        self.all: dict[_Group, None] = {}
        self._of: dict[Node, dict[_Group, None]] = {}

    def add(self, group: _Group) -> None:
        self.all[group] = None
        for variable in group.support:
            self._of.setdefault(variable, {})[group] = None

    def remove(self, group: _Group) -> None:
        del self.all[group]
        for variable in group.support:
            del self._of[variable][group]

    def near(self, support: Sequence[Node], but: _Group) -> list[_Group]:
        """The other groups that have a variable in ``support``."""
        return [g for g in dict.fromkeys(g for v in support for g in self._of.get(v, ())) if g is not but]


def _joints(chains: _Chains, sources: Sequence[Source], alike: _Alike) -> tuple[list[Source], list[Source]]:
    """Joint sources, and the sources that are in none."""
    groups = _Groups()
    for source in sources:
        if isinstance(source, Self) or (isinstance(source, Cross) and _is_aligned(source)):
            groups.add(_Group([chains.base(v) for v in source.variables], [source]))
    _merge(groups, alike, inside=True)
    while _write_lower(chains, groups, alike):
        pass
    _merge(groups, alike, inside=True)
    _merge(groups, alike, inside=False)
    joints: list[Source] = [
        Joint(chains, g) for g in groups.all if len(g.members) > g.cost and len(g.support) <= LARGEST_ROOT
    ]
    taken = sum(joint.parts for joint in joints)
    return joints, [s for s in sources if not s.parts & taken]


def _write_lower(chains: _Chains, groups: _Groups, alike: _Alike) -> bool:
    """Write a variable of some groups in terms of what it is made of, and join those that then lie within; whether any.

    That is worth while where these have a matrix of their own, and takes no more noise.  What saves most comes first.
    """
    candidates: list[tuple[int, int, _Group, list[_Group]]] = []
    for group in groups.all:
        for variable in group.support:
            lower = [chains.base(argument) for _, argument in chains.below(variable)]
            support = [*(v for v in group.support if v is not variable), *lower]
            found = _Group(support, group.members)
            if len(lower) < 2 or len(found.support) > LARGEST_ROOT:
                continue
            absorbed = [group]
            for other in groups.near(found.support, group):
                if _within(other, found) and alike([*found.members, *other.members]):
                    found = _Group(support, [*found.members, *other.members])
                    absorbed.append(other)
            saved = sum(g.cost for g in absorbed) - found.cost
            if len(absorbed) > 1 and saved >= 0 and not _is_one_sided(chains.curvature, found):
                candidates.append((saved, len(found.members), found, absorbed))
    for _, _, found, absorbed in sorted(candidates, key=lambda c: c[:2], reverse=True):
        if all(g in groups.all for g in absorbed):
            for g in absorbed:
                groups.remove(g)
            groups.add(found)
    return bool(candidates)


def _is_one_sided(curvature: Curvature, group: _Group) -> bool:
    """Whether all members are known to have one sign, so that one field is enough, where a joint root has two."""
    signs = {curvature.sign(s.diagonal) if isinstance(s, Self) else None for s in group.members}
    return None not in signs and len(signs - {0}) < 2


def _within(inner: _Group, outer: _Group) -> bool:
    return set(inner.support) <= set(outer.support)


def _merge(groups: _Groups, alike: _Alike, inside: bool) -> None:
    """With ``inside``, join groups and those within them; without, groups that overlap where that takes less noise."""
    for group in list(groups.all):
        current = group
        while current in groups.all:
            for other in groups.near(current.support, current):
                union = _Group([*current.support, *other.support], [*current.members, *other.members])
                small = len(union.support) <= LARGEST_ROOT and union.cost < current.cost + other.cost
                if (_within(other, current) if inside else small) and alike(union.members):
                    groups.remove(current)
                    groups.remove(other)
                    groups.add(union)
                    current = union
                    break
            else:
                break


class Joint(Source):
    """The sum of sources that is a symmetric matrix for each element of its variables: one sign an element of each."""

    def __init__(self, chains: _Chains, group: _Group) -> None:
        super().__init__(chains.curvature)
        self.variables = group.support
        names = [v.name for v in group.support]  # type: ignore[attr-defined]
        self.name = "v_" + "_".join(names)
        self.what = f"second derivatives of the readers of {', '.join(names)} together"
        self.parts = sum(s.parts for s in group.members)
        self.shapes = tuple(v.element_shape for v in group.support)
        self.matrix = self._matrix(chains, group.members)

    def describe(self) -> str:
        return self.what

    def _matrix(self, chains: _Chains, members: Sequence[Source]) -> dict[tuple[int, int], Node]:
        """The upper triangle, without what is structurally zero."""
        number = {v: k for k, v in enumerate(self.variables)}
        parts: dict[tuple[int, int], list[Node]] = {}
        known: dict[Node, Slopes] = {v: {v: None} for v in self.variables}
        for source in members:
            assert isinstance(source, (Self, Cross))
            m = source.diagonal if isinstance(source, Self) else source.by_element()
            left, right = (chains.slopes(v, known) for v in (source.variables[0], source.variables[-1]))
            for a, first in left.items():
                for b, second in right.items():
                    place = (min(number[a], number[b]), max(number[a], number[b]))
                    if isinstance(source, Self) and number[a] > number[b]:
                        continue
                    scale = 2 if isinstance(source, Cross) and a is b else 1
                    origin = adjoint_origin(self.variables[place[0]], "curv")
                    parts.setdefault(place, []).append(_product([m, first, second], origin, scale))
        found = {}
        for place, nodes in sorted(parts.items()):
            total = add(nodes, adjoint_origin(self.variables[place[0]], "curv"))
            if total is not None:
                found[place] = total
        return found

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        k = len(self.variables)
        if k == 1:
            m = self.matrix[0, 0]
            origin = adjoint_origin(self.variables[0])
            return [(self.variables[0], split(m, v[0], self.curvature.setting, self.curvature.sign(m), origin))]
        present = list(self.matrix)
        upper = [
            placeholder(present.index((i, j))) if (i, j) in self.matrix else sympy.Integer(0)
            for i in range(k)
            for j in range(i, k)
        ]
        entries = [self.matrix[place] for place in present]
        columns = sympy.Add(*(placeholder(j) * placeholder(k + j) for j in range(k)))
        result: list[tuple[Node, Field]] = []
        for i, variable in enumerate(self.variables):
            origin = adjoint_origin(variable)
            fields = []
            for side, role in enumerate("pq"):
                first, root_origin = side * k * k + k * i, with_role(origin, f"root_{role}")
                roots = [elementwise(eigenroot(k, first + j, *upper), entries, root_origin) for j in range(k)]
                fields.append(elementwise(columns, [*roots, *v], with_role(origin, role)))
            result.append((variable, (fields[0], fields[1])))
        return result


class Products(Source):
    """Mixed second derivatives that share their smaller argument: :class:`Cross` with one noise for all of them."""

    def __init__(self, curvature: Curvature, crosses: Sequence[Cross]) -> None:
        super().__init__(curvature)
        self.crosses = tuple(crosses)
        small = crosses[0].variables[1]
        larger = list(dict.fromkeys(c.variables[0] for c in crosses))
        self.variables = (*larger, small)
        self.name = f"v_{small.name}_products"  # type: ignore[attr-defined]
        names = [n.name for n in self.variables]  # type: ignore[attr-defined]
        self.what = f"products of {names[-1]} with {', '.join(names[:-1])}"
        self.parts = sum(c.parts for c in crosses)
        self.shapes = (small.element_shape,)

    def describe(self) -> str:
        return self.what

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        small = self.variables[-1]
        norm = add([c.norm() for c in self.crosses], adjoint_origin(small, "norm"))
        assert norm is not None
        down, up = balanced(norm, v[0], adjoint_origin(small))
        fields: list[tuple[Node, Field]] = []
        for cross in self.crosses:
            t = cross.pulled(down, 1 / sympy.sqrt(2), "t")
            fields.append((cross.variables[0], (t, t)))
        return [*fields, small_side(small, up)]


def _products(curvature: Curvature, sources: Sequence[Source], alike: _Alike) -> list[Source]:
    """``sources`` with products joined, each where its first member was."""
    result: list[list[Source]] = []
    by_small: dict[Node, list[list[Source]]] = {}
    for source in sources:
        near = by_small.setdefault(source.variables[1], []) if isinstance(source, Cross) else []
        group = next((g for g in near if alike([*g, source])), None)
        if group is None:
            group = []
            result.append(group)
            near.append(group)
        group.append(source)
    return [g[0] if len(g) == 1 else Products(curvature, [c for c in g if isinstance(c, Cross)]) for g in result]


# For unit vectors


class Pivots(Source):
    """Second derivatives with one side written in terms of a few variables: one unit column for each of their elements.

    The column of element e of a pivot has p = e there, and q = M t, where t is what e changes elsewhere: so the sum of
    p q^T + q p^T is what the mixed second derivatives say, and twice what those of a variable with itself say, which
    therefore count half.  Those of a pivot with itself need no q; they are the column's weight.
    """

    def __init__(self, chains: _Chains, sources: Sequence[Self | Cross]) -> None:
        super().__init__(chains.curvature)
        self.chains = chains
        self.sources = tuple(sources)
        self.parts = sum(s.parts for s in sources)
        self.bits: dict[Node, int] = {}  # of the pivots
        self.covers: dict[Node, int] = {}  # the pivots that a node is made of, 0 if it is made of others too
        self._choose()
        order = self.curvature.uses.order
        self.variables = tuple(sorted(self.bits, key=lambda v: order[v]))
        self.name = f"v_{self.variables[0].name}"  # type: ignore[attr-defined]
        self.shapes = tuple(v.element_shape for v in self.variables)
        self.what = "second derivatives along " + ", ".join(v.name for v in self.variables)  # type: ignore[attr-defined]

    def describe(self) -> str:
        return self.what

    def _choose(self) -> None:
        """Choose variables of which one side of every source is made."""
        uses = self.curvature.uses
        own = {s.variable for s in self.sources if isinstance(s, Self)}
        crosses = [s for s in self.sources if isinstance(s, Cross)]
        for node in uses.nodes:
            self.covers[node] = self._from_below(node)
            # without products one field is enough, and stays so
            if node in own and (self.covers[node] == 0 or (not crosses and not _is_single(self.covers[node]))):
                self._add(node)
        for cross in crosses:
            large, small = cross.variables
            same = large.element_shape == small.element_shape
            if not self.covers[small] and not (same and self.covers[large]):
                self._add(small)
                above = [small]
                while above:
                    for use in uses.of(above.pop()):
                        if not self.covers[use.map]:
                            self.covers[use.map] = self._from_below(use.map)
                            above += [use.map] if self.covers[use.map] else []

    def _add(self, node: Node) -> None:
        self.covers[node] = self.bits[node] = 1 << len(self.bits)

    def _from_below(self, node: Node) -> int:
        found = 0
        for _, argument in self.chains.below(node):
            if not self.covers[argument]:
                return 0
            found |= self.covers[argument]
        return found

    def _side(self, source: Self | Cross) -> Node:
        """The variable of ``source`` whose changes are known: with equal sizes the smaller argument's if both are."""
        side = source.variables[-1]
        return side if self.covers[side] else source.variables[0]

    def _is_weight(self, source: Self | Cross) -> bool:
        """Whether it is the second derivative of what is made of one pivot alone: a weight of that one's columns."""
        return isinstance(source, Self) and _is_single(self.covers[source.variable])

    @cached_property
    def _turned(self) -> int:
        """Pivots whose columns have q = e and p = M t, so that p alone passes through what has weights: those without
        weight that nothing else is needed beside."""
        found = sum(self.bits.values())
        for source in self.sources:
            cover = self.covers[self._side(source)]
            if self._is_weight(source) or not _is_single(cover):
                found &= ~cover
        return found

    def unit_weights(self) -> tuple[Node | None, ...]:
        known: dict[Node, Slopes] = {v: {v: None} for v in self.variables}
        parts: dict[Node, list[Node]] = {}
        for source in self.sources:
            if isinstance(source, Self) and self._is_weight(source):
                for pivot, slope in self.chains.slopes(source.variable, known).items():
                    origin = adjoint_origin(pivot, "curv")
                    parts.setdefault(pivot, []).append(_product([source.diagonal, slope, slope], origin))
        return tuple(add(parts.get(v, []), adjoint_origin(v, "curv")) for v in self.variables)

    def inject(self, v: tuple[Node, ...]) -> list[tuple[Node, Field]]:
        changes = self._changes(v)

        def turned(field: Node, cover: int) -> Field:
            return (None, field) if cover & ~self._turned else (field, None)

        units = zip(self.variables, v, strict=True)
        result: list[tuple[Node, Field]] = [(n, turned(unit, self.bits[n])[::-1]) for n, unit in units]
        for source in self.sources:
            side = self._side(source)
            moved, cover = changes.get(side), self.covers[side]
            if moved is None or self._is_weight(source):
                continue
            if isinstance(source, Self):
                half = elementwise(HALF * _0 * _1, [source.diagonal, moved], adjoint_origin(side, "q"))
                result.append((side, turned(half, cover)))
                continue
            onto_small = side is source.variables[0]
            other = source.variables[1 if onto_small else 0]
            role = "q" if cover & ~self._turned else "p"
            result.append((other, turned(source.pulled(moved, sympy.Integer(1), role, onto_small), cover)))
        return result

    def _changes(self, v: tuple[Node, ...]) -> dict[Node, Node | None]:
        """What the elements of the pivots change, node by node."""
        changes: dict[Node, Node | None] = dict(zip(self.variables, v, strict=True))
        wanted: set[Node] = set()
        stack = [self._side(s) for s in self.sources if not self._is_weight(s)]
        while stack:
            node = stack.pop()
            if node not in wanted:
                wanted.add(node)
                stack += [argument for _, argument in self.chains.below(node)] if node not in changes else []
        for node in self.curvature.uses.nodes:
            if node in wanted and node not in changes:
                assert isinstance(node, Map)
                moved = {k: t for k, a in self.chains.below(node) if (t := changes.get(a)) is not None}
                changes[node] = push_forward(node, moved, origin=adjoint_origin(node, "dot")) if moved else None
        return changes


def _is_single(cover: int) -> bool:
    return cover != 0 and cover & (cover - 1) == 0


def _pivots(curvature: Curvature, sources: Sequence[Source], asked: Sequence[Asked]) -> list[Source]:
    alike = _Alike(curvature, sources, asked)
    chains = _Chains(curvature, asked)
    bins: list[tuple[list[Self | Cross], int, int]] = []  # with the read-outs that sample it, and that know some of it
    rest: list[Source] = []
    for source in sources:
        if not isinstance(source, (Self, Cross)):
            rest.append(source)
            continue
        for k, (group, sampled, known) in enumerate(bins):
            sampled, known = sampled | alike.sampled[source.parts], known | alike.known[source.parts]
            if not sampled & known:
                group.append(source)
                bins[k] = (group, sampled, known)
                break
        else:
            bins.append(([source], alike.sampled[source.parts], alike.known[source.parts]))
    return named_apart([*(Pivots(chains, group) for group, _, _ in bins), *rest])
