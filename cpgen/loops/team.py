"""How the loops of a nest outside the row phase are dealt out to the threads of a processor."""

from __future__ import annotations

from cpgen.ir.nodes import COLUMNS, Map
from cpgen.loops.kernels import Team
from cpgen.loops.plan import Nest

MOST_LOOPS = 4  # that are dealt out as one


def team(root: Map, nest: Nest, wait: bool) -> Team:
    """The loops from the outermost down to the first that is not a single loop.

    The innermost loop of an elementwise nest is left to the vector unit.
    """
    loops = _pieces(root, nest)
    if not loops:
        return Team(0, False, wait)
    if not nest.summed and len(loops) == 1:
        return Team(1, True, wait)
    count = 1
    while count < len(loops) - (0 if nest.summed else 1) and loops[count] == 1:
        count += 1
    return Team(min(count, MOST_LOOPS), False, wait)


def _pieces(root: Map, nest: Nest) -> list[int]:
    """The loops of a nest around its sums, or its points, from the outside in: how many pieces each is."""
    at = dict(nest.cuts)
    loops = [1 + len(at.get(a, ())) for a in nest.outer]
    if nest.summed:
        extents = [(root.extents[a], width) for a, width in nest.blocks]
        loops += [1 for extent, width in extents if extent is COLUMNS or (isinstance(extent, int) and extent > width)]
    elif nest.block is not None:
        extent = root.extents[nest.block]
        if isinstance(extent, int) and extent > nest.block_width:
            loops.insert(0, 1)  # over blocks, and in the innermost loop over the points of one
        loops.append(1)
    return loops
