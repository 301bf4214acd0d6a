"""A row at a time, whose sums are computed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpgen.ir.nodes import Map
from cpgen.loops.strategy.base import Strategy


@dataclass(frozen=True)
class OneRow(Strategy):
    """``why``: in words."""

    rows: int | None = 1
    why: str = "asked for"

    def vector(self, node: Map, in_rows: bool, free: Sequence[int]) -> int | None:
        return super().vector(node, False, free)

    def reasons(self, tile: int) -> tuple[str, ...]:
        return (f"one row at a time, with its sums side by side: {self.why}",)
