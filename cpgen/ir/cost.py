"""Counting the operations of a program."""

from __future__ import annotations

from cpgen.ir.nodes import COLUMNS, ROWS, Dim, Program
from cpgen.scalar import operations as of_expression


def operations(program: Program, rows: int = 1, columns: int = 1) -> int:
    """A rough count in additions (a division counts 4, a function its weight in the table of primitives)."""
    sizes: dict[Dim, int] = {ROWS: rows, COLUMNS: columns}
    total = 0
    for node in program.maps():
        points = 1
        for extent in node.extents:
            points *= sizes[extent] if isinstance(extent, Dim) else extent
        total += points * (of_expression(node.expr) + (1 if node.reduced else 0))
    return total
