"""Counting the operations of a program."""

from __future__ import annotations

from cpgen.ir.nodes import COLUMNS, ROWS, Dim, Program
from cpgen.ir.noise import elements
from cpgen.ir.stack import stacked
from cpgen.scalar import operations as of_expression

DRAWN = 12  # a random sign


def operations(program: Program, rows: int = 1, columns: int = 1) -> int:
    """A rough count in additions (a division counts 4, a function its weight in the table of primitives).

    benchmarks/cost_model.py holds it against counted instructions.
    """
    sizes: dict[Dim, int] = {ROWS: rows, COLUMNS: columns}
    total = 0
    for node in program.maps():
        if stacked(node) is not None:
            continue  # put together, not computed
        points = 1
        for extent in node.extents:
            points *= sizes[extent] if isinstance(extent, Dim) else extent
        total += points * (of_expression(node.expr) + (1 if node.reduced else 0))
    for drawn in (i for i in program.inputs if i.kind == "noise"):
        total += DRAWN * elements(drawn) * columns * (rows if drawn.has_rows else 1)
    return total
