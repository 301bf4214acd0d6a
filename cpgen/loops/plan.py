"""The plan of a program: what runs in which order, in which loops, on which memory.

A program runs in four phases, told apart by what a value depends on:

* ``setup``: values without rows that depend on no row;
* ``row``: values with rows, computed for a tile of ``tile`` rows at a time, rows as lanes;
* ``accumulate``: sums over rows, strictly in the order of the rows, so that neither the number of threads nor the way
  the rows are split over calls changes a bit;
* ``finish``: values without rows that depend on such sums.

The row phase is a list of segments.  A segment of kind "columns" runs its stages once for each noise column, so that a
value with a COLUMNS axis needs memory for one column only, unless a later segment reads it.

Memory comes in three spaces, all counted in numbers (not bytes): ``work`` (setup, accumulated and finished values),
``tile`` (one for each thread, ``tile`` numbers an element) and ``rows`` (values of the rows of the current chunk that
sums read, row-major).  Where a tile is one row, its layout is that of a row of an array: inputs are then read, outputs
written and values that sums read kept where they are, without a copy in the tile.

Where a tile has at least twice as many lanes as rows, the others can stand for further columns (``Plan.beside``).  A sum
over columns then has memory twice, for the terms of all lanes and behind them for the sums of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Index, Input, Map, Node, Program
from cpgen.ir.stack import stacked
from cpgen.loops.kernels import Kernel, Launch, Loops, Team
from cpgen.loops.schedule import Schedule
from cpgen.scalar import cost

ALIGNMENT = 64  # bytes
SETUP, ROW, ACCUMULATE, FINISH = "setup", "row", "accumulate", "finish"
CALL = 16  # operations that one elementary function costs, about


@dataclass(frozen=True)
class Slot:
    """Memory for one value: ``elements`` numbers at ``offset``; times the run-time number of columns if ``columns``.

    Slots with ``columns`` lie behind all others of their space.
    """

    space: str
    elements: int
    columns: bool
    offset: int


@dataclass(frozen=True)
class Value:
    """A node, its name in C and where it lives (None where it never does).

    A value with rows and no slot in the tile is read in the caller's array, or lives in ``direct`` or in ``rows``.
    """

    node: Node
    name: str
    work: Slot | None = None
    tile: Slot | None = None
    rows: Slot | None = None
    direct: str = ""  # the output array that is its only memory


@dataclass(frozen=True)
class Check:
    """What must be tested at run time before ``index`` may be used for an axis of ``extent`` elements."""

    index: Index
    extent: int
    low: bool  # test index >= 0
    high: bool  # test index < extent


@dataclass(frozen=True)
class Nest:
    """The loops of a stage around its innermost expression.

    ``outer`` are the output axes with an ordinary loop.  ``block`` (with ``block_width`` sums at a time) and ``vector``
    (with ``vector_width`` sums at a time) are output axes whose sums are held in a local array; ``lanes`` means that the
    vector axis is ROWS: one tile, or ``vector_width`` rows of it at a time if that is not 0.  ``reduction`` are the loops
    around the sums; ``carried`` means that the sums start from the values already there (sums over rows, and over columns
    inside a column loop).

    Where ``block`` is COLUMNS, ``rest`` are the loops for the last columns, which fill no block.

    ``cuts``: the axes whose loops run in several pieces, in each of which no test on that axis alone is left, and where
    the pieces after the first begin.  ``team``: how threads share the loops; None where they do not.
    """

    outer: tuple[int, ...]
    block: int | None
    block_width: int
    vector: int | None
    vector_width: int
    lanes: bool
    reduction: tuple[int, ...]
    carried: bool
    cuts: tuple[tuple[int, tuple[int, ...]], ...] = ()
    rest: Nest | None = None
    team: Team | None = None

    @property
    def summed(self) -> bool:
        """Whether there are sums, which are held in local variables."""
        return bool(self.reduction) or self.carried

    @property
    def grouped(self) -> bool:
        """Whether the sums of some rows of a tile are held at a time."""
        return self.lanes and self.vector_width > 0

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """(axis, width) of the output axes whose sums are walked in blocks, the outermost first."""
        found = () if self.block is None else ((self.block, self.block_width),)
        return found if self.lanes or self.vector is None else ((self.vector, self.vector_width), *found)


@dataclass(frozen=True)
class Stage:
    """One C function.  ``kind``: "map", "load" (rows of an input into the tile), "noise", "keep" (tile to ``rows``),
    "store" (tile to an output), "copy" (work to an output).

    A "map" computes ``nodes`` in one loop nest: the first may reduce, and so may a twin over the same points; the others
    read these, and each other, at the same point.  ``kernel``: what computes it.  ``needed_by``: it may be left out where
    the caller wants none of these outputs; () for one that always runs.
    """

    number: int
    kind: str
    phase: str
    nodes: tuple[Node, ...]
    nest: Nest | None = None
    output: str = ""
    needed_by: tuple[str, ...] = ()
    kernel: Kernel = Loops()

    @property
    def own_sums(self) -> tuple[Map, ...]:
        """The nodes with sums over the same points as the first one: itself and its twin."""
        root = self.nodes[0]
        assert isinstance(root, Map)
        same = (root.extents, root.rank)
        return tuple(m for m in self.nodes if isinstance(m, Map) and m.reduced and (m.extents, m.rank) == same)


@dataclass(frozen=True)
class Segment:
    """A run of row stages; ``columns`` says that it is executed once for each column.

    ``launches``: the stages of each launch, where the row phase is several on a GPU; else ().
    """

    columns: bool
    stages: tuple[Stage, ...]
    launches: tuple[tuple[Stage, ...], ...] = ()


@dataclass(frozen=True)
class Totals:
    """Size of a space: ``constant + columns * (number of columns)`` numbers."""

    constant: int
    columns: int

    def of(self, columns: int) -> int:
        return self.constant + self.columns * columns


@dataclass(frozen=True)
class Footprint:
    """The memory of a program: its three spaces, for tiles of ``tile`` rows, ``chunk_tiles`` of them for each thread.

    ``row_phase``: there are values of rows at all.  ``alignment``: bytes, added so that the workspace may begin anywhere.
    """

    real: str
    work: Totals
    tile_memory: Totals
    rows: Totals
    tile: int
    chunk_tiles: int
    row_phase: bool
    alignment: int

    def chunk_rows(self, n_rows: int, threads: int) -> int:
        """Rows between two visits of the accumulate phase."""
        tiles = -(-n_rows // self.tile)
        return min(tiles, threads * self.chunk_tiles) * self.tile

    @property
    def needed(self) -> bool:
        """Whether there is any workspace."""
        spaces = (self.work, self.tile_memory, self.rows) if self.row_phase else (self.work,)
        return any(total.constant or total.columns for total in spaces)

    def workspace_bytes(self, n_rows: int, columns: int, threads: int) -> int:
        """Bytes of workspace, computed like the C function ``<model>_<program>_workspace_bytes``."""
        if not self.needed:
            return 0
        numbers = self.work.of(columns)
        if self.row_phase:
            numbers += threads * self.tile * self.tile_memory.of(columns)
            numbers += self.chunk_rows(n_rows, threads) * self.rows.of(columns)
        return numbers * (8 if self.real == "float64" else 4) + self.alignment


@dataclass(frozen=True)
class OperationCounts:
    """Operations of a program for given extents; ``calls`` are (function, how often), sorted by name."""

    adds: int
    muls: int
    divs: int
    calls: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return self.adds + self.muls + self.divs + sum(n for _, n in self.calls)


class Work(NamedTuple):
    """Operations of a run, a call counting as CALL of them: a polynomial in the numbers of rows and of columns."""

    fixed: int
    by_rows: int
    by_columns: int
    by_both: int


@dataclass(frozen=True)
class Plan:
    """See the module docstring.  ``tile`` rows make a tile; ``real`` is "float64" or "float32".

    ``chunk_tiles``: tiles of a chunk, for each thread; threads wait for each other after a chunk.  ``schedule``: for a
    GPU; the values of ``schedule.columns`` columns then have memory together.  ``beside``: lanes without a row stand for
    further columns (:mod:`cpgen.loops.beside`).  ``blas``: products of at least this many multiplications a row are
    stages of their own, which the caller's BLAS may compute; 0 for none.  ``alignment``: bytes; the workspace is that
    much larger, so that it may begin anywhere.
    """

    program: Program
    real: str
    tile: int
    values: tuple[Value, ...]
    setup: tuple[Stage, ...]
    segments: tuple[Segment, ...]
    accumulate: tuple[Stage, ...]
    finish: tuple[Stage, ...]
    work: Totals
    tile_memory: Totals  # for one lane
    rows: Totals  # for one row
    output_fields: tuple[tuple[str, str], ...]  # (output, name of its C pointer)
    accumulable: bool
    noise_order: int
    chunk_tiles: int
    schedule: Schedule = Schedule()
    beside: bool = False
    blas: int = 0
    alignment: int = ALIGNMENT
    clear: Launch | None = None
    reasons: tuple[str, ...] = ()

    @cached_property
    def value_names(self) -> frozenset[str]:
        return frozenset(v.name for v in self.values)

    @cached_property
    def group(self) -> int:
        """Lanes whose sums are held at once where a tile has more, else 0."""
        nests = [stage.nest for stage in self.stages if stage.nest is not None and stage.nest.lanes]
        return max((nest.vector_width for nest in nests), default=0)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def has_rows(self) -> bool:
        return any(i.has_rows for i in self.program.inputs) or bool(self.segments) or bool(self.accumulate)

    @property
    def has_columns(self) -> bool:
        """Whether the number of columns matters."""
        maps = [v.node for v in self.values if isinstance(v.node, Map)]
        return any(COLUMNS in m.extents for m in maps) or any(i.has_columns for i in self.program.inputs)

    @property
    def spread(self) -> bool:
        """Whether the row phase is several launches on a GPU: values of rows then lie side by side for all of a chunk."""
        return any(segment.launches for segment in self.segments)

    @property
    def has_noise(self) -> bool:
        return any(i.kind == "noise" for i in self.program.inputs)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order of their numbers."""
        row = [stage for segment in self.segments for stage in segment.stages]
        return (*self.setup, *row, *self.accumulate, *self.finish)

    def output_field(self, name: str) -> str:
        """The C name of the pointer to an output."""
        return self._field_of[name]

    @cached_property
    def _field_of(self) -> Mapping[str, str]:
        return dict(self.output_fields)

    def value(self, node: Node) -> Value:
        return self._value_of[node]

    @cached_property
    def _value_of(self) -> Mapping[Node, Value]:
        return {v.node: v for v in self.values}

    @cached_property
    def footprint(self) -> Footprint:
        spaces = self.work, self.tile_memory, self.rows
        return Footprint(self.real, *spaces, self.tile, self.chunk_tiles, bool(self.segments), self.alignment)

    def workspace_bytes(self, n_rows: int, columns: int, threads: int) -> int:
        """Bytes of workspace, see :class:`Footprint`."""
        return self.footprint.workspace_bytes(n_rows, columns, threads)

    def operations(self, rows: int, columns: int) -> OperationCounts:
        """Floating-point operations of one run; guards and blocking are not taken into account."""
        sizes = {ROWS: rows, COLUMNS: columns}
        adds = muls = divs = 0
        calls: dict[str, int] = {}
        for node in (n for stage in self.stages if stage.kind == "map" for n in stage.nodes):
            assert isinstance(node, Map)
            if stacked(node) is not None:
                continue  # put together, not computed
            points = 1
            for extent in node.extents:
                points *= extent if isinstance(extent, int) else sizes[extent]
            local = cost(node.expr)
            adds += points * (local.adds + (1 if node.reduced else 0))
            muls += points * local.muls
            divs += points * local.divs
            for name, number in local.calls:
                calls[name] = calls.get(name, 0) + number * points
        return OperationCounts(adds, muls, divs, tuple(sorted(calls.items())))

    @property
    def work_shared(self) -> tuple[Work, Work]:
        """The operations that all threads share whatever the number of rows, and those of tiles, of which each is one
        thread's: what tells whether a team of threads is worth waking."""
        others = replace(self, segments=())

        def totals(rows: int, columns: int) -> tuple[int, int]:
            every, rest = (p.operations(rows, columns) for p in (self, others))
            found, shared = (o.total + (CALL - 1) * sum(n for _, n in o.calls) for o in (every, rest))
            return shared, found - shared

        at = [totals(rows, columns) for rows, columns in ((0, 0), (1, 0), (0, 1), (1, 1))]
        shared, tiles = (Work(f, r - f, c - f, b - r - c + f) for f, r, c, b in zip(*at, strict=True))
        return shared, tiles

    @property
    def barriers(self) -> tuple[int, int]:
        """How often threads wait for each other's work: once in a run, and besides for each chunk of rows.

        Each stage before and after the rows is dealt out and ends with a barrier; tiles end with one for all, and so do
        the sums over the rows of a chunk, which are independent of each other.
        """
        return len(self.setup) + len(self.finish), bool(self.segments) + bool(self.accumulate)

    def accesses(self, rows: int, columns: int) -> int:
        """Numbers read and written by one run, each element that a map reads or writes counted each time.

        Values that a nest hands on inside one loop are not counted; what stays in registers over a loop is.
        """
        sizes = {ROWS: rows, COLUMNS: columns}

        def points(node: Node, extents: Sequence[Extent]) -> int:
            total = 1
            for extent in extents:
                total *= extent if isinstance(extent, int) else sizes[extent]
            return total

        total = 0
        for stage in self.stages:
            inside = set(stage.nodes)
            for node in stage.nodes:
                if stage.kind != "map" or not isinstance(node, Map):
                    total += points(node, node.shape) * (1 if stage.kind == "noise" else 2)
                    continue
                numbers = stacked(node)
                if numbers is not None:
                    outside = sum(1 for n in numbers.values() if n not in inside)
                    total += points(node, node.extents[: node.lead]) * outside
                else:
                    reads = sum(1 for a in node.args if a.node not in inside)
                    total += points(node, node.extents) * (reads + (2 if node.reduced else 0))
                value = self.value(node)
                if value.tile is not None or value.work is not None or value.direct:
                    total += points(node, node.shape)
        return total


def is_noise(node: Node) -> bool:
    return isinstance(node, Input) and node.kind == "noise"


def is_scale(node: Node) -> bool:
    return isinstance(node, Input) and node.kind == "scale"
