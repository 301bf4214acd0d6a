"""Which maps share a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpgen.ir.nodes import Dim, Map, Node

LARGEST = 16  # maps in one nest: keeps functions readable and registers few


def is_identity(node: Map, producer: Node) -> bool:
    """Whether every read of ``producer`` by ``node`` is at the point being computed.

    A sum over columns inside a column loop is at the point of its own elements, rows and the current column.
    """
    lead = [node.extents.index(e) for e in producer.shape if isinstance(e, Dim) and e in node.extents]
    point = [*lead, *(a for a in range(node.rank) if not isinstance(node.extents[a], Dim))]
    return all(
        [index.axis for index in access.index] == point for access in node.args if access.node is producer
    )


def groups(maps: Sequence[Map], carried: Callable[[Map], bool]) -> list[list[Map]]:
    """Maps of one segment, in order, as groups that each become one loop nest.

    A map without reduction joins the latest group that it reads if it has the same output space and reads members of
    the group at the point being computed.  All its other arguments then come from earlier groups, so order is kept.
    A map whose sum is ``carried`` from one pass to the next joins in the same way if that is its only sum; nothing reads
    it before the last pass.
    """
    result: list[list[Map]] = []
    group_of: dict[int, int] = {}
    for node in maps:
        latest = max((group_of[id(a.node)] for a in node.args if id(a.node) in group_of), default=-1)
        adds = carried(node) and len(node.reduced) == 1 and node.reduce == "sum"
        joins = latest >= 0 and (not node.reduced or adds) and not node.guards
        if joins:
            members = result[latest]
            joins = (
                (members[0].shape[1:] if adds else members[0].shape) == node.shape
                and len(members) < LARGEST
                and not carried(members[0])
                and all(is_identity(node, a.node) for a in node.args if group_of.get(id(a.node)) == latest)
            )
        if joins:
            result[latest].append(node)
            group_of[id(node)] = latest
        else:
            group_of[id(node)] = len(result)
            result.append([node])
    return result
