"""Placing values: first fit, by the stages during which they are alive."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from cpgen.ir.nodes import Node
from cpgen.loops.plan import Slot, Totals

ROUND = 16  # numbers; keeps every array of ``work`` on its own cache lines


@dataclass(frozen=True)
class Demand:
    """``elements`` numbers (times the number of columns if ``columns``) needed from stage ``start`` to ``end``."""

    node: Node
    elements: int
    columns: bool
    start: int
    end: int


def place(space: str, demands: Sequence[Demand], granule: int = 1) -> tuple[dict[Node, Slot], Totals]:
    """Slots by key, and the size of the space.

    Two demands alive at the same stage never overlap, so a stage never writes what it reads.
    """
    slots: dict[Node, Slot] = {}
    totals = []
    for columns in (False, True):
        wanted = [d for d in demands if d.columns == columns]
        free = _Free()
        alive: list[tuple[int, int, int]] = []  # (last stage, offset, size): what ends before this start is free
        for demand in sorted(wanted, key=lambda d: (d.start, d.end)):
            while alive and alive[0][0] < demand.start:
                _, offset, size = heappop(alive)
                free.give(offset, size)
            size = -(-demand.elements // granule) * granule
            offset = free.take(size)
            heappush(alive, (demand.end, offset, size))
            slots[demand.node] = Slot(space, demand.elements, columns, offset)
        totals.append(free.end)
    return slots, Totals(totals[0], totals[1])


class _Free:
    """What is free of a space: gaps in order, no two of which touch, and everything from ``end`` on."""

    def __init__(self) -> None:
        self.end = 0
        self._begins: list[int] = []
        self._sizes: list[int] = []

    def take(self, size: int) -> int:
        """The first place that has room for ``size`` numbers."""
        k = next((k for k, held in enumerate(self._sizes) if held >= size), None)
        if k is None:
            begin = self.end
            if self._begins and self._begins[-1] + self._sizes[-1] == self.end:
                begin = self._begins.pop()
                self._sizes.pop()
            self.end = begin + size
            return begin
        begin = self._begins[k]
        if self._sizes[k] == size:
            del self._begins[k], self._sizes[k]
        else:
            self._begins[k] += size
            self._sizes[k] -= size
        return begin

    def give(self, begin: int, size: int) -> None:
        """Free what was taken, joined with the gaps beside it."""
        k = bisect_left(self._begins, begin)
        if k < len(self._begins) and self._begins[k] == begin + size:
            size += self._sizes[k]
            del self._begins[k], self._sizes[k]
        if k and self._begins[k - 1] + self._sizes[k - 1] == begin:
            self._sizes[k - 1] += size
        else:
            self._begins.insert(k, begin)
            self._sizes.insert(k, size)
