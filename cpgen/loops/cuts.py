"""Where loops are cut so that no test is left inside."""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.ir.nodes import Dim, Map
from cpgen.loops.ranges import common, live, valid_points, vanishing

MOST_CUTS = 4  # of one axis
MOST_PIECES = 9  # of one nest: what its text may grow by, whatever the extents


def cuts(nodes: Sequence[Map], axes: Sequence[int], summed: bool) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Where to cut the loops over ``axes`` (outermost first) into pieces within which no test changes its answer.

    ``nodes`` share a nest, whose axes are those of the first; the others have the same elements.  ``summed``: the first
    sums over its last axes.  Its guards then become bounds of its loops, and only reads that it adds as zeros matter.
    Returns (axis, first points of all pieces but the first).  Where that would be too many pieces, inner axes come first.
    """
    root = nodes[0]
    found: dict[int, set[int]] = {a: set() for a in axes}
    for node in nodes[:1] if summed else nodes:
        counted = live(node)
        spared = vanishing(node) if summed else ()
        reads = [
            read
            for k, access in enumerate(node.args)
            if k not in spared
            for read in zip(access.index, access.node.shape, strict=True)
        ]
        for a, size in enumerate(node.extents):
            place = a if node is root else a - node.lead + root.lead
            if place not in found or isinstance(size, Dim):
                continue
            whole = counted.get(a, range(size))
            ends = set() if summed else {whole.start, whole.stop}
            for index, extent in reads:
                part = valid_points(index, extent, size) if index.axes == (a,) else None
                if part is not None and common(part, whole):
                    ends |= {p for p in (part.start, part.stop) if whole.start < p < whole.stop}
            found[place] |= ends - {0, size}
    chosen = []
    count = 1
    for a in reversed(axes):
        here = len(found[a])
        if 0 < here <= MOST_CUTS and count * (here + 1) <= MOST_PIECES:
            count *= here + 1
            chosen.append((a, tuple(sorted(found[a]))))
    return tuple(reversed(chosen))
