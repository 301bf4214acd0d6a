"""One element of a node, computing no more of what feeds it than it needs."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from cpgen.ir.build import axis, constant_index, make_map, moved, moved_guard
from cpgen.ir.nodes import Access, Dim, Extent, Index, Map, Node
from cpgen.ir.rewrite import Memo
from cpgen.scalar import placeholder

_Element = tuple[Node, tuple[int, ...]]


def restrict(node: Node, element: Sequence[int]) -> Node:
    """``node`` at the constant ``element`` of its element axes; its run-time axes stay.

    Maps are specialised down to the first ones that are still read at more than one element.
    """
    return Memo(_restricted)((node, tuple(element)))


def _restricted(key: _Element) -> Generator[_Element, Node, Node]:
    node, element = key
    if not isinstance(node, Map):
        lead = node.lead
        index = (*(axis(a) for a in range(lead)), *(constant_index(e) for e in element))
        extents = node.shape[:lead]
        return make_map(extents, lead, [Access(node, index)], placeholder(0), origin=node.origin)
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
        access = moved(access, fixed)
        where = list(zip(access.index, access.node.shape, strict=True))
        constants = [(i, e) for i, e in where if not isinstance(e, Dim)]
        inside = all(not i.terms and i.divisor == 1 and 0 <= i.offset < e for i, e in constants)
        if constants and inside and isinstance(access.node, Map):
            source = yield access.node, tuple(i.offset for i, _ in constants)
            access = Access(source, tuple(i for i, e in where if isinstance(e, Dim)))
        args.append(access)
    guards = [moved_guard(g, fixed) for g in node.guards]
    return make_map(extents_left, rank, args, node.expr, guards, node.reduce, node.origin)
