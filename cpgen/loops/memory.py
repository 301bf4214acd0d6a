"""Which values need memory from which stage to which, and where they are placed: first fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from math import prod

from cpgen.ir.nodes import Map, Node
from cpgen.loops.facts import Facts, over_columns
from cpgen.loops.fuse import reads
from cpgen.loops.plan import Segment, Slot, Stage, Totals
from cpgen.loops.stages import Staged
from cpgen.loops.strategy import Strategy

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


# What needs memory


def work_demands(found: Staged) -> list[Demand]:
    """Of values without rows."""
    return [Demand(n, prod(n.element_shape), n.has_columns, 0, 0) for n in found.stored]


def kept_demands(facts: Facts) -> list[Demand]:
    """Of the values of rows that sums over rows read."""
    return [Demand(n, prod(n.element_shape), n.has_columns, 0, 0) for n in facts.nodes if facts.kept(n)]


def tile_demands(facts: Facts, found: Staged, strategy: Strategy, beside: bool = False) -> list[Demand]:
    """Of the values of rows while their tile is computed.

    Where columns may lie ``beside`` each other, the sums over them lie behind their terms.
    """
    demands = []
    for node, life in _lives(found.segments).items():
        if not life.used or node in found.direct or (strategy.in_place and facts.kept(node)):
            continue
        together = strategy.columns if node.has_columns and not life.full else 1
        if beside and over_columns(node):
            together = 2
        demands.append(Demand(node, together * prod(node.element_shape), life.full, life.start, life.end))
    return demands


@dataclass
class _Life:
    """Stages (by position in the row phase) between which a value must stay in its tile; ``segment`` makes it."""

    segment: int
    start: int
    end: int
    used: bool = False
    full: bool = False  # all columns at once


def _lives(segments: Sequence[Segment]) -> dict[Node, _Life]:
    """Liveness over the row stages; a value used in a column loop lives through all of it."""
    begins = [0, *accumulate(len(segment.stages) for segment in segments)]
    lives: dict[Node, _Life] = {}
    position = 0
    for number, segment in enumerate(segments):
        first, last = begins[number], begins[number + 1] - 1
        for stage in segment.stages:
            for node in _read_by(stage):
                life = lives.get(node)
                if life is None:
                    continue
                life.used = True
                of_column = node.has_columns and life.segment == number
                life.end = max(life.end, last if segment.columns and not of_column else position)
                if node.has_columns and life.segment != number:
                    life.full = True
                    life.start = begins[life.segment]
                    life.end = max(life.end, last)
            for node in stage.nodes if stage.kind in ("map", "load", "noise") else ():
                carried = over_columns(node)
                lives[node] = _Life(number, first if carried else position, last if carried else position)
            position += 1
    # a full value must outlive the whole loop that makes it
    for life in lives.values():
        if life.full:
            life.end = max(life.end, begins[life.segment + 1] - 1)
    return lives


def _read_by(stage: Stage) -> Iterable[Node]:
    """What a row stage reads of other stages' values in the tile."""
    if stage.kind in ("keep", "store"):
        return stage.nodes
    inside = set(stage.nodes)
    return [n for m in stage.nodes if isinstance(m, Map) for n in reads(m) if n not in inside]
