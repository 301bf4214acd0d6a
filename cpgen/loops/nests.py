"""The loops of a stage, from the choices of a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cpgen.ir.nodes import COLUMNS, ROWS, Map
from cpgen.loops.facts import over_columns
from cpgen.loops.fuse import space
from cpgen.loops.plan import ACCUMULATE, ROW, Nest
from cpgen.loops.ranges import checked_axes
from cpgen.loops.strategy import Strategy

AT_ONCE = 8  # noise columns that share what they read


def nest_of(group: Sequence[Map], phase: str, strategy: Strategy) -> Nest:
    """The loops of a group of maps, which are those of its first."""
    node = group[0]
    in_rows = phase == ROW
    hidden = {a for a, e in enumerate(node.extents) if in_rows and e in (ROWS, COLUMNS)}
    reduction = [a for a in node.reduced if a not in hidden]
    if phase == ACCUMULATE:
        reduction.sort(key=lambda a: (node.extents[a] is not ROWS, a))
    carried = phase == ACCUMULATE or (in_rows and over_columns(node))
    if reduction:
        vector, block = _at_once(node, in_rows, strategy)
    else:
        vector, block = None, None if in_rows else strategy.across(node)
    lanes = in_rows and vector is None
    if lanes:
        vector = node.extents.index(ROWS)
    vector_width = _vector_width(node, vector, block, lanes, strategy)
    outer = [a for a in range(len(space(node))) if a not in hidden and a not in (block, vector)]
    loops = [a for a in (*outer, *reduction) if isinstance(node.extents[a], int)]
    cuts = strategy.cuts(group, loops, bool(reduction) or carried)
    whole = Nest(
        tuple(outer),
        block,
        _block_width(node, block, strategy),
        vector,
        vector_width,
        lanes,
        tuple(reduction),
        carried,
        cuts,
    )
    if block is None or node.extents[block] is not COLUMNS:
        return strategy.dealt(whole, node, phase)
    assert vector is not None
    last = replace(
        whole,
        outer=(*outer, block),
        block=None,
        block_width=1,
        vector_width=strategy.vector_width(_extent(node, vector), blocked=False),
    )
    # columns are independent of each other
    return replace(strategy.dealt(whole, node, phase, wait=False), rest=strategy.dealt(last, node, phase))


def _vector_width(node: Map, vector: int | None, block: int | None, lanes: bool, strategy: Strategy) -> int:
    """Sums held along the vector axis; of lanes 0 for all of a tile."""
    if lanes:
        return 0 if block is None else strategy.group
    return 0 if vector is None else strategy.vector_width(_extent(node, vector), block is not None)


def _block_width(node: Map, block: int | None, strategy: Strategy) -> int:
    if block is None:
        return 1
    return AT_ONCE if node.extents[block] is COLUMNS else strategy.block_width(_extent(node, block))


def _at_once(node: Map, in_rows: bool, strategy: Strategy) -> tuple[int | None, int | None]:
    """The output axes along which several sums are held at once: one whose sums are a vector, None for rows as lanes or
    for no such axis, and one more."""
    checked = checked_axes(node)
    free = [a for a in range(node.rank) if isinstance(node.extents[a], int) and a not in checked]
    vector = strategy.vector(node, in_rows, free)
    others = [a for a in reversed(free) if a != vector and _extent(node, a) > 1]
    side = node.extents.index(ROWS) if in_rows and vector is None else vector
    if side is None:  # what does not lie side by side is added up number by number, several sums in turn
        return None, others[0] if others else None
    if strategy.columns_share and not in_rows and COLUMNS in node.extents[: node.rank]:
        column = node.extents.index(COLUMNS)
        # what is tested of a column is tested outside the loops over a block
        others += [] if column in checked else [column]
    return vector, next((a for a in others if _reuses(node, side, a)), None)


def _reuses(node: Map, vector: int, block: int) -> bool:
    """Whether blocking ``block`` reads some vector once for several sums."""
    return any(
        any(vector in i.axes for i in access.index) and not any(block in i.axes for i in access.index)
        for access in node.args
    )


def _extent(node: Map, axis: int) -> int:
    extent = node.extents[axis]
    assert isinstance(extent, int)
    return extent
