"""Noise columns side by side in the lanes of a tile that has few rows.

A tile holds as many rows side by side as the vector unit has lanes for.  Where a call has fewer rows, the other lanes
would only repeat them; in a loop over columns they stand for further columns instead, and a weight is read once for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.ir.nodes import COLUMNS, Map, Node
from cpgen.loops.fuse import reads
from cpgen.loops.plan import Segment, Stage


def shares_lanes(segments: Sequence[Segment]) -> bool:
    """Whether there are loops over columns, and no stage in them needs to know which column a lane stands for.

    Terms of sums over columns can be added up afterwards, in the order of the columns, if each column has one.
    """
    stages = [stage for segment in segments if segment.columns for stage in segment.stages]
    return bool(stages) and all(_same_for_all(stage) for stage in stages)


def _same_for_all(stage: Stage) -> bool:
    if stage.kind != "map":
        return stage.kind == "noise"
    return all(_map_is_same(node) for node in stage.nodes)


def _map_is_same(node: Node) -> bool:
    if not isinstance(node, Map) or reads_by_column(node):
        return False
    if any(n.has_columns and not n.has_rows for n in reads(node)):
        return False  # one number for all rows, another one for each column
    return COLUMNS not in node.extents[node.rank :] or (len(node.reduced) == 1 and node.reduce == "sum")


def reads_by_column(node: Node) -> bool:
    """Whether the column stands in an index of an ordinary axis, or in a guard."""
    if not isinstance(node, Map) or COLUMNS not in node.extents:
        return False
    column = node.extents.index(COLUMNS)
    ordinary = [i for a in node.args for i, e in zip(a.index, a.node.shape, strict=True) if e is not COLUMNS]
    return any(column in i.axes for i in (*ordinary, *(g.index for g in node.guards)))
