"""Which maps share a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpgen.ir.nodes import Dim, Extent, Map, Node
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


def own_sums(group: Sequence[Node]) -> list[Map]:
    """The members with sums over the same points as the first one: itself and its twin."""
    root = group[0]
    assert isinstance(root, Map)
    return [m for m in group if isinstance(m, Map) and m.reduced and (m.extents, m.rank) == (root.extents, root.rank)]


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
        bool(first.reduced)
        and first.has_columns
        and first.has_rows
        and (first.extents, first.rank, first.reduce) == (second.extents, second.rank, second.reduce)
        and any(a in second.args for a in first.args)
        and set(conditions(first)) == set(conditions(second))
    )


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
    result: list[list[Map]] = []
    group_of: dict[int, int] = {}
    for node in maps:
        latest = max((group_of[id(n)] for n in reads(node) if id(n) in group_of), default=-1)
        adds = carried(node) and len(node.reduced) == 1 and node.reduce == "sum"
        chosen = None
        if not node.reduced or adds:
            open_groups = [k for k in range(len(result) - 1, latest, -1) if not result[k][0].reduced]
            for k in ([latest] if latest >= 0 else []) + open_groups:
                root = result[k][0]
                if (
                    (root.shape[1:] if adds else space(root)) == space(node)
                    and (
                        len(result[k]) < (LARGEST if root.reduced or len(space(root)) > root.lead else MANY)
                        or any(made_together(m, node) for m in result[k])
                    )
                    and not carried(root)
                    and not alone(root)
                    and not (node.guards and root.reduced)
                    and all(is_identity(node, a.node) for a in node.args if group_of.get(id(a.node)) == k)
                ):
                    chosen = k
                    break
        if chosen is None and not carried(node) and not alone(node):
            chosen = _join_twin(node, latest, result, group_of, alone)
        if chosen is None:
            chosen = len(result)
            result.append([])
        result[chosen].append(node)
        group_of[id(node)] = chosen
    return result


def _join_twin(
    node: Map, latest: int, result: list[list[Map]], group_of: dict[int, int], alone: Callable[[Map], bool]
) -> int | None:
    """The position of the twin of ``node``, its group moved behind group ``latest`` if need be; None if there is none."""
    for k in range(len(result) - 1, -1, -1):
        if not are_twins(result[k][0], node) or alone(result[k][0]):
            continue
        if len(own_sums(result[k])) > 1 or len(result[k]) == LARGEST:
            continue
        inside = {id(m) for m in result[k]}
        between = [m for group in result[k + 1 : latest + 1] for m in group]
        if any(id(n) in inside for m in [*between, node] for n in reads(m)):
            continue
        if latest > k:
            result.insert(latest, result.pop(k))
            group_of.update({id(m): position for position, group in enumerate(result) for m in group})
            return latest
        return k
    return None
