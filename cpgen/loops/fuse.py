"""Which maps share a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cpgen.ir.nodes import Access, Dim, Extent, Map, Node
from cpgen.ir.stack import stacked
from cpgen.loops.ranges import conditions
from cpgen.scalar import computed_together

LARGEST = 16  # maps in one nest: keeps functions readable and registers few
MANY = 256  # and in one of numbers, which have no other loop to share


def reads(node: Map) -> list[Node]:
    """What ``node`` reads: a stack the numbers it is made of, any other map its arguments."""
    numbers = stacked(node)
    return [a.node for a in node.args] if numbers is None else list(numbers.values())


def space(node: Map) -> tuple[Extent, ...]:
    """The loops that ``node`` is computed in: a stack is put together where its numbers are."""
    return node.shape if stacked(node) is None else node.shape[: node.lead]


def is_identity(node: Map, producer: Node) -> bool:
    """Whether every read of ``producer`` by ``node`` is at the point being computed.

    A sum over columns inside a column loop is at the point of its own elements, rows and the current column.
    """
    lead = [node.extents.index(e) for e in producer.shape if isinstance(e, Dim) and e in node.extents]
    point = [*lead, *(a for a in range(node.rank) if not isinstance(node.extents[a], Dim))]
    return all(
        [index.axis for index in access.index] == point for access in node.args if access.node is producer
    )


def made_together(first: Node, second: Node) -> bool:
    """Whether one call of a function gives both maps, wherever they are computed at the same points."""
    if not (isinstance(first, Map) and isinstance(second, Map)):
        return False
    return first.args == second.args and computed_together(first.expr, second.expr)


def are_twins(first: Map, second: Map) -> bool:
    """Whether two sums for each column and row read something in common at the same points: one loop reads it for both.

    The two fields of a sweep go through the same weights, and are multiplied by the same inputs of a layer.
    """
    return (
        _may_have_twin(first)
        and (first.extents, first.rank, first.reduce) == (second.extents, second.rank, second.reduce)
        and any(a in second.args for a in first.args)
        and set(conditions(first)) == set(conditions(second))
    )


@dataclass(eq=False)
class _Group:
    """Maps of one loop nest; ``place`` is its position among all groups."""

    place: int
    members: list[Map]

    @cached_property
    def space(self) -> tuple[Extent, ...]:
        return space(self.members[0])

    @cached_property
    def most(self) -> int:
        """How many members it may have."""
        root = self.members[0]
        return LARGEST if root.reduced or len(self.space) > root.lead else MANY

    @property
    def gives_several(self) -> bool:
        """Whether a call in it gives numbers for further maps, which join it however many it has."""
        return any(made_together(m, m) for m in self.members)


def groups(
    maps: Sequence[Map], carried: Callable[[Map], bool], alone: Callable[[Map], bool] = lambda m: False
) -> list[list[Map]]:
    """Maps of one segment, in order, as groups that each become one loop nest.

    A map without reduction joins the latest group that it reads if it has the same output space and reads members of
    the group at the point being computed; or else the last group after that with the same space and no sums of its own.
    All its other arguments then come from earlier groups, so order is kept.  A map whose sum is ``carried`` from one pass
    to the next joins in the same way if that is its only sum; nothing reads it before the last pass.  A sum joins its
    twin (:func:`are_twins`), which moves behind what the sum reads if nothing up to there reads the twin.  Nothing joins
    a map that is to be ``alone``.
    """
    found = _Groups(carried, alone)
    for node in maps:
        found.place(node)
    return [group.members for group in found.groups]


class _Groups:
    """The groups so far, with what a further map may join, so that it need not be compared with all of them."""

    def __init__(self, carried: Callable[[Map], bool], alone: Callable[[Map], bool]) -> None:
        self.carried, self.alone = carried, alone
        self.groups: list[_Group] = []
        self._of: dict[Node, _Group] = {}
        # groups that begin without sums and are not full, in order: by their space, and (True) without its first axis
        self._open: dict[tuple[bool, tuple[Extent, ...]], list[_Group]] = {}
        self._reading: dict[Access, list[_Group]] = {}  # groups that begin with a sum without a twin

    def place(self, node: Map) -> None:
        """Add the next map to the group that it joins, or to one of its own."""
        latest = max((self._of[n].place for n in reads(node) if n in self._of), default=-1)
        carried, alone = self.carried(node), self.alone(node)
        adds = carried and len(node.reduced) == 1 and node.reduce == "sum"
        chosen = self._without_sums(node, latest, adds) if not node.reduced or adds else None
        if chosen is None and not carried and not alone:
            chosen = self._twin(node, latest)
        if chosen is None:
            chosen = _Group(len(self.groups), [node])
            self.groups.append(chosen)
            self._offer(chosen, carried, alone)
        else:
            chosen.members.append(node)
            if len(chosen.members) == chosen.most and not chosen.members[0].reduced and not chosen.gives_several:
                for key in _keys(chosen):
                    if chosen in self._open.get(key, ()):
                        self._open[key].remove(chosen)
        self._of[node] = chosen

    def _offer(self, group: _Group, carried: bool, alone: bool) -> None:
        root = group.members[0]
        if not root.reduced and not carried and not alone:
            for key in _keys(group):
                self._open.setdefault(key, []).append(group)
        if _may_have_twin(root) and not alone:
            for access in dict.fromkeys(root.args):
                self._reading.setdefault(access, []).append(group)

    def _without_sums(self, node: Map, latest: int, adds: bool) -> _Group | None:
        """The group that ``node`` joins, having no sum or adding to a carried one."""
        if latest >= 0 and self._may_join(node, self.groups[latest], adds):
            return self.groups[latest]
        candidates = self._open.get((adds, space(node)), [])
        for k in range(len(candidates) - 1, -1, -1):
            if candidates[k].place <= latest:
                break
            if self._may_join(node, candidates[k], adds):
                return candidates[k]
        return None

    def _may_join(self, node: Map, group: _Group, adds: bool) -> bool:
        root = group.members[0]
        return (
            (root.shape[1:] if adds else group.space) == space(node)
            and (len(group.members) < group.most or any(made_together(m, node) for m in group.members))
            and not self.carried(root)
            and not self.alone(root)
            and not (node.guards and root.reduced)
            and all(is_identity(node, a.node) for a in node.args if self._of.get(a.node) is group)
        )

    def _twin(self, node: Map, latest: int) -> _Group | None:
        """The group of the twin of ``node``, moved behind the one at ``latest`` if need be; None if there is none."""
        if not _may_have_twin(node):
            return None
        candidates = dict.fromkeys(g for access in node.args for g in self._reading.get(access, ()))
        for group in sorted(candidates, key=lambda g: -g.place):
            if not are_twins(group.members[0], node) or len(group.members) == LARGEST:
                continue
            inside = set(group.members)
            between = [m for other in self.groups[group.place + 1 : latest + 1] for m in other.members]
            if any(n in inside for m in [*between, node] for n in reads(m)):
                continue
            for access in dict.fromkeys(group.members[0].args):
                self._reading[access].remove(group)
            if latest > group.place:
                first = group.place
                self.groups.insert(latest, self.groups.pop(first))
                for k in range(first, latest + 1):
                    self.groups[k].place = k
            return group
        return None


def _keys(group: _Group) -> tuple[tuple[bool, tuple[Extent, ...]], ...]:
    return (False, group.space), (True, group.members[0].shape[1:])


def _may_have_twin(node: Map) -> bool:
    return bool(node.reduced) and node.has_columns and node.has_rows
