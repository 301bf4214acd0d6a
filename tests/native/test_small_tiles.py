"""Tiles of few rows: GCC 12 dropped stores to an array of which a vectorised loop reads the diagonal alone."""

from __future__ import annotations

from typing import Any

import pytest

from cpgen.emit import emit_c
from cpgen.ir.call import Call
from cpgen.loops import plan
from cpgen.native import check_against_interpreter, load
from tests.catalogue import CATALOGUE

SCALES: dict[str, Any] = {"row_scale": 0.25, "column_scale": 1.0}


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("tile", [2, 4, 8])
def test_an_exact_diagonal_in_tiles_of_any_size(real: str, tile: int) -> None:
    """Attention's closed form reads ``weight[row, t, t]``."""
    entry = CATALOGUE["attention"]
    program = entry.compile(backend="interpreter", programs=()).derive("diagonal:cp").program
    made = plan(program, real, tile)
    native = load(emit_c(f"small_{tile}", [made], real, private=True), [made])[program.name]
    arrays = {name: array.astype(real) for name, array in entry.arrays(3, 3).items()}
    given = {i.name: arrays[i.name] for i in program.inputs if i.name in arrays}
    tolerance = 1e-11 if real == "float64" else 2e-3
    assert check_against_interpreter(native, given, Call(3, **SCALES), tolerance=tolerance) <= tolerance
