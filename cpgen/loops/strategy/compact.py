"""Few sums on the stack and one loop for each axis, for machines with little memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpgen.ir.nodes import Map
from cpgen.loops.plan import Segment, Totals
from cpgen.loops.strategy.base import CHUNK_TILES, Strategy

COMPACT = 4  # sums held at once along an axis


@dataclass(frozen=True)
class Compact(Strategy):
    columns_share = False

    def vector_width(self, extent: int, blocked: bool) -> int:
        return min(COMPACT, extent)

    def block_width(self, extent: int) -> int:
        return min(COMPACT, extent)

    def across(self, node: Map) -> int | None:
        return None

    def cuts(
        self, group: Sequence[Map], loops: Sequence[int], summed: bool
    ) -> tuple[tuple[int, tuple[int, ...]], ...]:
        return ()

    def beside(self, segments: Sequence[Segment], memory: Totals, tile: int) -> bool:
        return False

    def chunk_tiles(self, rows: Totals, tile: int) -> int:
        return CHUNK_TILES[0]

    @property
    def alignment(self) -> int:
        return self.number_bytes

    def reasons(self, tile: int) -> tuple[str, ...]:
        rows = f"{tile} rows in a tile" if tile > 1 else "one row at a time"
        return (f"{rows}, with few sums on the stack and loops in one piece",)
