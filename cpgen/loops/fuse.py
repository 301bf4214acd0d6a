"""Which maps share a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpgen.ir.nodes import Dim, Extent, Map, Node
from cpgen.ir.stack import stacked

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


def groups(maps: Sequence[Map], carried: Callable[[Map], bool]) -> list[list[Map]]:
    """Maps of one segment, in order, as groups that each become one loop nest.

    A map without reduction joins the latest group that it reads if it has the same output space and reads members of
    the group at the point being computed; or else the last group after that with the same space and no sums of its own.
    All its other arguments then come from earlier groups, so order is kept.  A map whose sum is ``carried`` from one pass
    to the next joins in the same way if that is its only sum; nothing reads it before the last pass.
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
                    and len(result[k]) < (LARGEST if root.reduced or len(space(root)) > root.lead else MANY)
                    and not carried(root)
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
