"""Placing values: first fit, by the stages during which they are alive."""

from __future__ import annotations

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
        placed: list[tuple[int, int, Demand]] = []
        for demand in sorted(wanted, key=lambda d: (d.start, d.end)):
            size = -(-demand.elements // granule) * granule
            offset = 0
            for first, last, other in sorted(placed, key=lambda p: p[0]):
                if other.end < demand.start or demand.end < other.start:
                    continue
                if offset + size <= first:
                    break
                offset = max(offset, last)
            placed.append((offset, offset + size, demand))
            slots[demand.key] = Slot(space, demand.elements, columns, offset)
        totals.append(max((last for _, last, _ in placed), default=0))
    return slots, Totals(totals[0], totals[1])
