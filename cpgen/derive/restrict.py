"""One element of a node, computing no more of what feeds it than it needs."""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.ir.build import axis, constant_index, make_map, substitute
from cpgen.ir.nodes import Access, Dim, Extent, Guard, Index, Input, Map, Node
from cpgen.scalar import placeholder


def restrict(node: Node, element: Sequence[int]) -> Node:
    """``node`` at the constant ``element`` of its element axes; its run-time axes stay.

    Maps are specialised down to the first ones that are still read at more than one element.
    """
    if isinstance(node, Input):
        lead = node.lead
        index = (*(axis(a) for a in range(lead)), *(constant_index(e) for e in element))
        extents = node.shape[:lead]
        return make_map(extents, lead, [Access(node, index)], placeholder(0), origin=node.origin)
    assert isinstance(node, Map)
    fixed: dict[int, Index] = {}
    remaining = iter(element)
    extents_left: list[Extent] = []
    for a, extent in enumerate(node.extents):
        if a < node.rank and not isinstance(extent, Dim):
            fixed[a] = constant_index(next(remaining))
        else:
            fixed[a] = axis(len(extents_left))
            extents_left.append(extent)
    rank = sum(isinstance(e, Dim) for e in node.shape)
    args = []
    for access in node.args:
        index = tuple(substitute(i, fixed) for i in access.index)
        constants = [i for i, e in zip(index, access.node.shape, strict=True) if not isinstance(e, Dim)]
        inside = all(
            not i.terms and i.divisor == 1 and 0 <= i.offset < e
            for i, e in zip(index, access.node.shape, strict=True)
            if not isinstance(e, Dim)
        )
        if constants and inside and isinstance(access.node, Map):
            source = restrict(access.node, [i.offset for i in constants])
            lead_index = tuple(i for i, e in zip(index, access.node.shape, strict=True) if isinstance(e, Dim))
            args.append(Access(source, lead_index))
        else:
            args.append(Access(access.node, index))
    guards = [Guard(substitute(g.index, fixed), g.extent) for g in node.guards]
    return make_map(extents_left, rank, args, node.expr, guards, node.reduce, node.origin)
