"""Program to plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from cpgen.code.identifiers import identifiers, spell, unique
from cpgen.errors import UnsupportedError
from cpgen.ir.nodes import Input, Map, Node, Program
from cpgen.ir.noise import noise_order
from cpgen.loops.facts import Facts
from cpgen.loops.memory import ROUND, kept_demands, place, tile_demands, work_demands
from cpgen.loops.plan import ACCUMULATE, Plan, Segment, Slot, Stage, Totals, Value
from cpgen.loops.products import UNCACHED
from cpgen.loops.stages import Staged, staged
from cpgen.loops.strategy import Compact, Lanes, OneRow, Strategy
from cpgen.loops.strategy.base import LANES, PLAIN, TILE_BYTES, VECTOR, rows_within
from cpgen.loops.turn import inner_share

CACHE_BYTES = 1 << 20  # a tile that needs more is one row where that one has enough sums to compute side by side
ENOUGH_INNER = 0.9  # of the points of all sums
# rows in a tile where weights lie in no cache, so that they are read fewer times
WIDE_LANES = 64
# rows in a tile where a BLAS computes products, since it copies the weights for each tile: measured by
# benchmarks/blas_size.py
BLAS_LANES = 128
BLAS_TILE_BYTES = 32 << 20
LARGEST_OFFSET = 2**31 - 1  # offsets are enumerators, which are ints


def plan(
    program: Program, real: str = "float64", tile: int | None = None, compact: bool = False, blas: int = 0
) -> Plan:
    """The plan of ``program`` for a processor, by the strategy that suits it.

    ``tile`` overrides the number of rows in a tile.  That is one row where rows are large and the sums of one can be
    computed side by side (:mod:`cpgen.loops.turn`), so that its values stay in the cache.  ``compact`` keeps few sums on
    the stack and loops in one piece.  ``blas``: products of weights and values of rows with at least this many
    multiplications a row are stages of their own, which a caller's BLAS may compute, and a tile has more rows; 0 for
    none.  A program without such products, or whose tile is one row, is planned as if it were 0.

    Raises UnsupportedError if rows depend on each other in a way that one pass over the rows cannot compute, or if the
    program is too large, or has a recurrence.
    """
    facts = Facts.of(program)
    if compact:
        return lowered(facts, Compact(real, tile))
    facts = facts.turned(VECTOR[real], rows=False)
    if tile == 1:
        return lowered(facts.turned(VECTOR[real]), OneRow(real))
    if tile is None:
        found = _by_size(facts, real)
        if found.tile == 1 or not facts.has_product(blas):
            return found
        tile = rows_within(found.tile_memory, real, BLAS_LANES, BLAS_TILE_BYTES)
    if facts.has_product(blas):
        return lowered(facts, Lanes(real, tile, uncached=blas, blas=blas))
    return lowered(facts, Lanes(real, tile, uncached=UNCACHED[real] if tile > LANES[real] else 0))


def _by_size(facts: Facts, real: str) -> Plan:
    """Rows side by side; one at a time where a tile would leave the cache and a row's own sums fill the vectors; more
    rows where a product's weights lie in no cache."""
    found = _arranged(facts, Lanes(real))
    size = found.row_size * LANES[real] * (8 if real == "float64" else 4)
    if size > CACHE_BYTES:
        turned = facts.turned(VECTOR[real])
        if inner_share(turned.every, VECTOR[real]) >= ENOUGH_INNER:
            why = f"a tile of {LANES[real]} rows would need {size} bytes, more than the {CACHE_BYTES} of a cache"
            return lowered(turned, OneRow(real, why=why))
    if found.tile == LANES[real] and facts.has_product(UNCACHED[real]):
        rows = rows_within(found.tile_memory, real, WIDE_LANES, TILE_BYTES)
        return lowered(facts, Lanes(real, rows, uncached=UNCACHED[real]))
    return _planned(found)


def lowered(facts: Facts, strategy: Strategy) -> Plan:
    """The plan of a program by a strategy.  Raises UnsupportedError if it is too large."""
    return _planned(_arranged(facts, strategy))


@dataclass(frozen=True)
class _Arranged:
    """Stages and where their values lie.  ``row_size``: numbers that a row of a full tile needs, with one column of each
    value: all that the number of rows in a tile is chosen by."""

    facts: Facts
    strategy: Strategy
    stages: Staged
    tile: int
    beside: bool
    slots: tuple[Mapping[Node, Slot], Mapping[Node, Slot], Mapping[Node, Slot]]  # work, tile, rows
    work: Totals
    tile_memory: Totals
    rows: Totals
    row_size: int


def _arranged(facts: Facts, strategy: Strategy) -> _Arranged:
    stages = staged(facts, strategy)
    tile_slots, memory = place("tile", tile_demands(facts, stages, strategy))
    row_size = memory.constant + memory.columns
    row_slots, rows = place("rows", kept_demands(facts))
    work_slots, work = place("work", work_demands(stages), ROUND)
    nests = [stage.nest for segment in stages.segments for stage in segment.stages]
    tile = strategy.tile(memory, any(nest is not None and nest.block is not None for nest in nests))
    beside = strategy.beside(stages.segments, memory, tile)
    if beside:
        tile_slots, memory = place("tile", tile_demands(facts, stages, strategy, beside))
    _check_size(facts, (work, memory, rows), memory, tile, strategy.real)
    slots = (work_slots, tile_slots, row_slots)
    return _Arranged(facts, strategy, stages, tile, beside, slots, work, memory, rows, row_size)


def _check_size(facts: Facts, totals: Sequence[Totals], memory: Totals, tile: int, real: str) -> None:
    largest = max((prod(n.element_shape) for n in facts.nodes), default=0)
    numbers = max(largest, *(max(t.constant, t.columns) for t in totals)) * LANES[real] * PLAIN
    if max(numbers, max(memory.constant, memory.columns) * tile) > LARGEST_OFFSET:
        raise UnsupportedError(
            f"the program {facts.program.name} needs arrays of more than 2**31 numbers; reduce the extents or ask for "
            "fewer entries at a time",
            facts.program.origin,
        )


def _planned(found: _Arranged) -> Plan:
    facts, strategy, stages = found.facts, found.strategy, found.stages
    setup, *rows, accumulate, finish = _finished(found)
    segments = zip(stages.segments, rows, strict=True)
    return Plan(
        program=replace(facts.program, outputs=facts.outputs),
        real=strategy.real,
        tile=found.tile,
        values=_values(found),
        setup=setup,
        segments=tuple(Segment(s.columns, made, strategy.launches(made)) for s, made in segments if made),
        accumulate=accumulate,
        finish=finish,
        work=found.work,
        tile_memory=found.tile_memory,
        rows=found.rows,
        output_fields=tuple(_output_fields([name for name, _ in facts.outputs])),
        accumulable=all(
            node.has_rows or (facts.phase[node] == ACCUMULATE and node in stages.direct)
            for _, node in facts.outputs
        ),
        noise_order=noise_order(facts.program),
        chunk_tiles=strategy.chunk_tiles(found.rows, found.tile),
        schedule=strategy.schedule,
        beside=found.beside,
        blas=strategy.least_blas,
        alignment=strategy.alignment,
        clear=strategy.clear(accumulate),
        reasons=strategy.reasons(found.tile),
    )


def _finished(found: _Arranged) -> list[tuple[Stage, ...]]:
    """The stages by phase and segment, in the order of their numbers, with all that is said of each."""
    stages = found.stages
    lists = [
        (stages.setup, False),
        *((segment.stages, segment.columns) for segment in stages.segments),
        (stages.accumulate, False),
        (stages.finish, False),
    ]
    number = 0
    result = []
    for made, in_columns in lists:
        finished = []
        for stage in made:
            number += 1
            needed_by = found.facts.needed_by(stage, stages.direct)
            kernel = found.strategy.kernel(stage, found.tile, in_columns)
            finished.append(replace(stage, number=number, needed_by=needed_by, kernel=kernel))
        result.append(tuple(finished))
    return result


def _values(found: _Arranged) -> tuple[Value, ...]:
    """Inputs keep their names; maps that share one are numbered in order."""
    nodes = dict.fromkeys((*found.facts.program.inputs, *found.facts.nodes))
    texts: dict[Node, str] = {n: n.name for kind in (Input, Map) for n in nodes if isinstance(n, kind)}
    names = dict(zip(texts, identifiers(texts.values()), strict=True))
    work, tile, rows = found.slots
    direct = found.stages.direct
    return tuple(Value(n, names[n], work.get(n), tile.get(n), rows.get(n), direct.get(n, "")) for n in nodes)


def _output_fields(names: Sequence[str]) -> list[tuple[str, str]]:
    taken: set[str] = set()
    return [(name, unique(f"out_{spell(name)}", taken)) for name in names]
