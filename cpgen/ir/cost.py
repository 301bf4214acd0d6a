"""Counting the operations of a program."""

from __future__ import annotations

from fractions import Fraction
from math import prod

from cpgen.ir.build import always_valid
from cpgen.ir.nodes import COLUMNS, ROWS, Dim, Guard, Map, Program
from cpgen.ir.noise import elements
from cpgen.ir.stack import stacked
from cpgen.scalar import operations as of_expression

DRAWN = 12  # a random sign, in instructions
DRAWN_WORK = 60  # and in the time of additions, which are vectorised
TESTED = 4  # whether an index that moves with the column is valid
TESTED_WORK = 8  # likewise


def operations(program: Program, rows: int = 1, columns: int = 1, drawn: int = DRAWN, tested: int = TESTED) -> int:
    """A rough count in additions (a division counts 4, a function its weight in the table of primitives).

    ``drawn``: what a random sign counts, ``tested`` a test of an index.  Of a guarded sum about the share counts that its
    guards leave.  benchmarks/cost_model.py holds it against counted instructions.
    """
    sizes: dict[Dim, int] = {ROWS: rows, COLUMNS: columns}
    total = 0
    for node in program.maps():
        if stacked(node) is not None:
            continue  # put together, not computed
        extents = [sizes[e] if isinstance(e, Dim) else e for e in node.extents]
        total += int(prod(extents) * _share(node, extents)) * (of_expression(node.expr) + (1 if node.reduced else 0))
        if COLUMNS in node.extents:
            total += tested * _tests(node) * prod(extents[: node.rank])
    for noise in (i for i in program.inputs if i.kind == "noise"):
        total += drawn * elements(noise) * columns * (rows if noise.has_rows else 1)
    return total


def work(program: Program, rows: int, columns: int) -> int:
    """The same by time: benchmarks/exact_choice.py holds it against what methods take."""
    return operations(program, rows, columns, DRAWN_WORK, TESTED_WORK)


def _share(node: Map, extents: list[int]) -> Fraction:
    """About which part of its loop a sum visits."""
    share = Fraction(1)
    if node.reduced:
        for guard in node.guards:
            share *= _kept(guard, extents)
    return share


def _kept(guard: Guard, extents: list[int]) -> Fraction:
    values = 1 + sum(abs(c) * (extents[a] - 1) for a, c in guard.index.terms if extents[a])
    size = guard.extent if isinstance(guard.extent, int) else values
    return min(Fraction(1), Fraction(size * guard.index.divisor, values)) / guard.index.divisor


def _tests(node: Map) -> int:
    """Indices and guards of ``node`` that depend on the column and may be out of range."""
    column = node.extents.index(COLUMNS)
    indices = [(g.index, g.extent) for g in node.guards]
    indices += [pair for a in node.args for pair in zip(a.index, a.node.shape, strict=True)]
    return sum(1 for i, e in dict.fromkeys(indices) if column in i.axes and not always_valid(i, e, node.extents))
