"""What is asked of a strategy while a plan is made; what is answered here holds for a processor with vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cpgen.ir.nodes import ROWS, Map
from cpgen.loops import cuts
from cpgen.loops.beside import shares_lanes
from cpgen.loops.kernels import Kernel, Launch, Loops
from cpgen.loops.plan import ACCUMULATE, ALIGNMENT, ROW, Nest, Segment, Stage, Totals
from cpgen.loops.schedule import Schedule
from cpgen.loops.team import team
from cpgen.loops.turn import inner_axis, step

# rows in a tile: a cache line of them where sums are blocked, which then fit the registers, else enough to hide what a
# stage costs besides
LANES = {"float64": 8, "float32": 16}
PLAIN = 4
TILE_BYTES = 8 << 20  # a tile that needs more memory than this gets fewer lanes
# Sums held at once along a blocked axis, best first: measured; fewer than five do not hide the latency of additions.
BLOCKS = (10, 12, 8, 6, 5, 7)
VECTOR = {"float64": 8, "float32": 16}  # sums along a vector axis, beside a blocked one
WIDE = 32  # and alone
CHUNK_TILES = (16, 1 << 16)  # of each thread, at least and at most
CHUNK_BYTES = 1 << 18  # of rows kept for sums by each thread, what lies in its second-level cache


@dataclass(frozen=True)
class Strategy(ABC):
    """``rows``: of a tile; None for as many as suit its memory."""

    real: str
    rows: int | None = None

    columns_share = True  # sums of several columns, which have nothing to do with rows, read a weight once

    @property
    def number_bytes(self) -> int:
        return 8 if self.real == "float64" else 4

    # What stands together

    @property
    def in_place(self) -> bool:
        """Whether a tile, being one row, is laid out like a row of an array, and its values lie in arrays of rows."""
        return self.rows == 1

    def alone(self, node: Map) -> bool:
        """Whether a map has a stage of its own, which no other map shares."""
        return False

    # Sums held at once

    def vector(self, node: Map, in_rows: bool, free: Sequence[int]) -> int | None:
        """The output axis whose sums are a vector; None for the rows of a tile, or where none lies side by side.

        ``free``: the output axes of constant extent that are in no test.
        """
        if in_rows:
            return None
        inner = inner_axis(node, VECTOR[self.real])
        if inner is None and ROWS in node.extents[node.rank :] and free:
            return free[-1]  # rows added number by number might be fused or not, depending on how many there are
        return inner

    def vector_width(self, extent: int, blocked: bool) -> int:
        """Sums held along a vector axis of ``extent`` points, beside a blocked axis or alone."""
        return min(VECTOR[self.real] if blocked else WIDE, extent)

    def block_width(self, extent: int) -> int:
        """Sums held at once along another axis: a width that divides it, else the one that repeats the fewest sums."""
        if extent <= BLOCKS[0]:
            return extent
        return min((width for width in BLOCKS if width <= extent), key=lambda width: -extent % width)

    @property
    def group(self) -> int:
        """Rows of a tile whose blocked sums are held at once; 0 for all."""
        return 0

    # Loops

    def across(self, node: Map) -> int | None:
        """The axis to walk along in the innermost loop, a few points at a time, where the last axis jumps through memory:
        each cache line is then used up before the next."""
        if len(node.args) != 1 or node.rank < 2:
            return None
        (read,) = node.args
        last = node.rank - 1
        along = [a for a in range(node.lead, last) if step(read, a) == 1]
        found = [a for a in along if isinstance(e := node.extents[a], int) and not e % self.block_width(e)]
        return found[-1] if found and step(read, last) not in (0, 1) else None

    def cuts(
        self, group: Sequence[Map], loops: Sequence[int], summed: bool
    ) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Where loops are cut, as of :func:`cpgen.loops.cuts.cuts`."""
        return cuts.cuts(group, loops, summed)

    def dealt(self, nest: Nest, root: Map, phase: str, wait: bool = True) -> Nest:
        """``nest`` with who has which of its points; ``wait``: the next stage needs all of them."""
        if phase == ROW:
            return nest
        # sums over rows are independent of each other
        return replace(nest, team=team(root, nest, wait and phase != ACCUMULATE))

    # Memory

    def tile(self, memory: Totals, blocked: bool) -> int:
        """Rows of a tile that needs so much memory for each; ``blocked``: some sums of it are blocked."""
        return self.rows or rows_within(memory, self.real, LANES[self.real] * (1 if blocked else PLAIN), TILE_BYTES)

    def beside(self, segments: Sequence[Segment], memory: Totals, tile: int) -> bool:
        """Whether lanes without a row may stand for further columns."""
        return tile > 1 and not memory.columns and shares_lanes(segments)

    @property
    def columns(self) -> int:
        """Columns of a value that have memory together."""
        return 1

    def chunk_tiles(self, rows: Totals, tile: int) -> int:
        """Tiles of a chunk for each thread: as many as the cache keeps the rows of, since threads wait after each."""
        numbers = tile * rows.constant * self.number_bytes
        fitting = CHUNK_BYTES // max(numbers, 1) if not rows.columns else 0
        least = max(CHUNK_TILES[0] * min(LANES[self.real] * PLAIN, tile) // tile, 1)
        return min(max(fitting, least), CHUNK_TILES[1])

    @property
    def alignment(self) -> int:
        return ALIGNMENT

    # Kernels

    def kernel(self, stage: Stage, tile: int, in_columns: bool) -> Kernel:
        """What computes ``stage``; ``in_columns``: it is in a loop over columns."""
        nest = stage.nest
        summed = nest is not None and nest.summed
        side_by_side = nest is not None and stage.phase == ROW and not nest.lanes
        return Loops(one_row=tile == 1 and (side_by_side or not summed))

    def launches(self, stages: Sequence[Stage]) -> tuple[tuple[Stage, ...], ...]:
        """The stages of a segment by launch, where the row phase is several; else ()."""
        return ()

    def clear(self, accumulate: Sequence[Stage]) -> Launch | None:
        """The launch that sets sums over rows to where they begin."""
        return None

    # What the plan says of it

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    @property
    def least_blas(self) -> int:
        """Multiplications a row from which on the caller's BLAS may make a product; 0 for never."""
        return 0

    @abstractmethod
    def reasons(self, tile: int) -> tuple[str, ...]:
        """What was chosen and why, in lines."""


def rows_within(memory: Totals, real: str, rows: int, most: int) -> int:
    """``rows`` of a tile, halved until the tile, with one column of each value, needs at most ``most`` bytes."""
    each = (memory.constant + memory.columns) * (8 if real == "float64" else 4)
    while rows > 1 and each * rows > most:
        rows //= 2
    return rows
