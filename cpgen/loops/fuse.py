"""Which maps share a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpgen.ir.nodes import Map, Node

LARGEST = 16  # maps in one nest: keeps functions readable and registers few


def is_identity(node: Map, producer: Node) -> bool:
    """Whether every read of ``producer`` by ``node`` is at the point being computed."""
    return all(
        tuple(index.axis for index in access.index) == tuple(range(node.rank))
        for access in node.args
        if access.node is producer
    )


def groups(maps: Sequence[Map], carried: Callable[[Map], bool]) -> list[list[Map]]:
    """Maps of one segment, in order, as groups that each become one loop nest.

    A map without reduction joins the latest group that it reads if it has the same output space and reads members of
    the group at the point being computed.  All its other arguments then come from earlier groups, so order is kept.
    Maps whose sums are ``carried`` from one pass to the next are not complete inside the nest and stay alone.
    """
    result: list[list[Map]] = []
    group_of: dict[int, int] = {}
    for node in maps:
        latest = max((group_of[id(a.node)] for a in node.args if id(a.node) in group_of), default=-1)
        joins = latest >= 0 and not node.reduced and not node.guards
        if joins:
            members = result[latest]
            joins = (
                members[0].shape == node.shape
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
