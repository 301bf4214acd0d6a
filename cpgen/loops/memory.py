"""Placing values: first fit, by the stages during which they are alive."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from cpgen.loops.plan import Slot, Totals

ROUND = 16  # numbers; keeps every array of ``work`` on its own cache lines


@dataclass(frozen=True)
class Demand:
    """``elements`` numbers (times the number of columns if ``columns``) needed from stage ``start`` to ``end``."""

    key: int
    elements: int
    columns: bool
    start: int
    end: int


def place(space: str, demands: Sequence[Demand], granule: int = 1) -> tuple[dict[int, Slot], Totals]:
    """Slots by key, and the size of the space.

    Two demands alive at the same stage never overlap, so a stage never writes what it reads.
    """
    slots: dict[int, Slot] = {}
    totals = []
    for columns in (False, True):
        wanted = [d for d in demands if d.columns == columns]
        # alive and placed, by offset: what has ended before this start has ended for all that follow
        alive: list[tuple[int, int, Demand]] = []
        total = 0
        for demand in sorted(wanted, key=lambda d: (d.start, d.end)):
            size = -(-demand.elements // granule) * granule
            offset = 0
            alive = [placed for placed in alive if placed[2].end >= demand.start]
            for first, last, _ in alive:
                if offset + size <= first:
                    break
                offset = max(offset, last)
            insort(alive, (offset, offset + size, demand), key=lambda placed: placed[0])
            slots[demand.key] = Slot(space, demand.elements, columns, offset)
            total = max(total, offset + size)
        totals.append(total)
    return slots, Totals(totals[0], totals[1])
