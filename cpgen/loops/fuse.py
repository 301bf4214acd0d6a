"""Which maps share a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpgen.ir.nodes import Dim, Map, Node

LARGEST = 16  # maps in one nest: keeps functions readable and registers few
MANY = 64  # and in one of numbers, which have no other loop to share


def is_identity(node: Map, producer: Node) -> bool:
    """Whether every read of ``producer`` by ``node`` is at the point being computed.

    A sum over columns inside a column loop is at the point of its own elements, rows and the current column.
    """
    lead = [node.extents.index(e) for e in producer.shape if isinstance(e, Dim) and e in node.extents]
    point = [*lead, *(a for a in range(node.rank) if not isinstance(node.extents[a], Dim))]
    return all(
        [index.axis for index in access.index] == point for access in node.args if access.node is producer
    )


def groups(
    maps: Sequence[Map], carried: Callable[[Map], bool], alone: Callable[[Map], bool] = lambda m: False
) -> list[list[Map]]:
    """Maps of one segment, in order, as groups that each become one loop nest.

    A map without reduction joins the latest group that it reads if it has the same output space and reads members of
    the group at the point being computed; or else the last group after that with the same space and no sums of its own.
    All its other arguments then come from earlier groups, so order is kept.  A map whose sum is ``carried`` from one pass
    to the next joins in the same way if that is its only sum; nothing reads it before the last pass.  Nothing joins a map
    that is to be ``alone``.
    """
    result: list[list[Map]] = []
    group_of: dict[int, int] = {}
    for node in maps:
        latest = max((group_of[id(a.node)] for a in node.args if id(a.node) in group_of), default=-1)
        adds = carried(node) and len(node.reduced) == 1 and node.reduce == "sum"
        chosen = None
        if not node.reduced or adds:
            open_groups = [k for k in range(len(result) - 1, latest, -1) if not result[k][0].reduced]
            for k in ([latest] if latest >= 0 else []) + open_groups:
                root = result[k][0]
                if (
                    (root.shape[1:] if adds else root.shape) == node.shape
                    and len(result[k]) < (LARGEST if root.reduced or root.element_shape else MANY)
                    and not carried(root)
                    and not alone(root)
                    and not (node.guards and root.reduced)
                    and all(is_identity(node, a.node) for a in node.args if group_of.get(id(a.node)) == k)
                ):
                    chosen = k
                    break
        if chosen is None:
            chosen = len(result)
            result.append([])
        result[chosen].append(node)
        group_of[id(node)] = chosen
    return result
