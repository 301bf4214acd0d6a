"""Plans for a GPU, and the choice of their schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cpgen.ir.nodes import Map, Program
from cpgen.loops.facts import Facts
from cpgen.loops.lower import lowered
from cpgen.loops.plan import Plan
from cpgen.loops.products import product
from cpgen.loops.schedule import LANES, Schedule
from cpgen.loops.strategy import Gpu

TOGETHER = 4  # noise columns at a time: with 4 sums along a blocked axis that is 16 in registers
LEAST_PRODUCT = 64  # extents of a contraction that fill a panel

# what a measurement tries, one group after the other: the numbers that are replaced
ALTERNATIVES: tuple[tuple[Mapping[str, int], ...], ...] = (
    tuple({"columns": n} for n in (1, 2, 4, 8)),
    tuple({"workers": n} for n in (4, 8, 16)),
    ({"products": 0}, {"products": LEAST_PRODUCT}),
    (
        {"panel": 64, "depth": 16, "down": 8, "across": 16},
        {"panel": 64, "depth": 8, "down": 8, "across": 16},
        {"panel": 32, "depth": 16, "down": 8, "across": 8},
        {"panel": 128, "depth": 8, "down": 16, "across": 16},
    ),
    tuple({"tiles_per_chunk": n} for n in (64, 128, 256, 512)),
    tuple({"terms": n} for n in (1024, 2048, 4096)),
)


def device_plan(program: Program, real: str, schedule: Schedule | None = None, gemm: int = 0) -> Plan:
    """The plan of a program for a GPU; ``schedule`` and ``gemm`` as in :func:`choose`."""
    return lowered(Facts.of(program), Gpu(real, by=schedule or choose(program, real, gemm)))


def choose(program: Program, real: str, gemm: int = 0) -> Schedule:
    """The schedule of a program by its extents; ``reasons`` say why.

    A program whose tile fits in shared memory is one kernel over tiles; else its large contractions become kernels of
    their own.  ``gemm`` is passed on to the schedule.
    """

    facts = Facts.of(program)

    def planned(schedule: Schedule) -> Plan:
        return lowered(facts, Gpu(real, by=schedule))

    def tile_bytes(columns: int) -> int:
        return planned(replace(usual, columns=columns)).tile_memory.of(0) * LANES * (8 if real == "float64" else 4)

    usual = Schedule(gemm=gemm)
    first = planned(usual)
    shares = _shares_weights(first)
    fits = tile_bytes(1) <= usual.shared_bytes
    maps = [value.node for value in first.values if isinstance(value.node, Map)]
    contractions = [p for node in maps if (p := product(node)) and min(p.outs, p.depth) >= LEAST_PRODUCT]
    if not fits and contractions:
        largest = max(contractions, key=lambda p: p.outs * p.depth)
        where = f"a tile needs {tile_bytes(1)} bytes, more than the {usual.shared_bytes} of shared memory"
        reasons = [
            f"{where}; its {len(contractions)} contractions of {LEAST_PRODUCT} x {LEAST_PRODUCT} or more (the largest "
            f"{largest.outs} x {largest.depth}) are kernels of their own over all rows of a chunk"
        ]
        columns = TOGETHER if shares else 1
        if shares:
            reasons.append(f"{columns} noise columns at a time: products stay wide where there are few rows")
        return replace(usual, products=LEAST_PRODUCT, columns=columns, reasons=tuple(reasons))
    if not fits:
        where = f"a tile needs {tile_bytes(1)} bytes and lies in the workspace"
    else:
        where = f"a tile needs {tile_bytes(1)} bytes and lies in shared memory"
    if not shares:
        return replace(usual, reasons=(f"{where}; no noise columns share a weight",))
    columns = TOGETHER
    while fits and columns > 1 and tile_bytes(columns) > usual.shared_bytes:
        columns //= 2
    reason = f"{columns} noise columns at a time read each weight once"
    if columns < TOGETHER:
        some = f"{columns} noise columns" if columns > 1 else "one noise column"
        reason = f"{some} at a time: shared memory has no room for {2 * columns}"
    return replace(usual, columns=columns, reasons=(where, reason))


def _shares_weights(made: Plan) -> bool:
    """Whether some stage in a loop over columns adds up products with numbers that do not depend on the column."""
    for stage in (s for segment in made.segments if segment.columns for s in segment.stages):
        root = stage.nodes[0]
        if isinstance(root, Map) and root.has_columns and stage.nest is not None and stage.nest.reduction:
            if any(not access.node.has_columns for access in root.args):
                return True
    return False
