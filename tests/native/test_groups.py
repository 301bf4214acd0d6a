"""Tiles of more rows than a vector holds: sums are computed for some of them at a time, with the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cpgen.emit import emit_c
from cpgen.ir.call import Call
from cpgen.ir.nodes import Program
from cpgen.ir.noise import HADAMARD
from cpgen.loops import plan
from cpgen.loops.strategy.base import LANES
from cpgen.native import Compiler, build, find_compiler
from tests.catalogue import CATALOGUE

ROWS, COLUMNS = 37, 3
NAMES = ("mlp_tanh", "softplus_energy", "convolution_2d", "attention")


def programs(name: str) -> tuple[list[Program], dict[str, np.ndarray]]:
    entry = CATALOGUE[name]
    est = entry.compile(programs=())
    return [est.derive(key).program for key in ("gradient", "diagonal:cp")], entry.arrays(rows=ROWS)


def results(name: str, real: str, tile: int | None, compiler: Compiler | None = None) -> list[bytes]:
    made, arrays = programs(name)
    module = build(name, made, real, tile, compiler)
    found = []
    for p in made:
        given = {i.name: arrays[i.name].astype(real) for i in p.inputs if i.kind in ("data", "param")}
        scales = {"row_scale": 1 / ROWS, "column_scale": 1 / 3, "variance_scale": 1 / 6}
        out = module[p.name].run(given, Call(ROWS, COLUMNS, 5, HADAMARD, threads=2, **scales))
        assert all(np.isfinite(a).all() for a in out.values())
        found += [a.tobytes() for a in out.values()]
    return found


def grouped(name: str, real: str, tile: int | None) -> bool:
    """Whether some stage of the gradient walks the lanes in groups, as its text says, too."""
    planned = plan(programs(name)[0][0], real, tile)
    nests = [s.nest for s in planned.stages if s.nest is not None and s.nest.lanes]
    found = any(n.vector_width for n in nests)
    assert found == ("group += GROUP" in emit_c(name, [planned], real).source)
    return found


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_groups_change_no_bit(name: str, real: str) -> None:
    lanes = LANES[real]
    assert not grouped(name, real, lanes)
    expected = results(name, real, lanes)
    for tile in (2 * lanes, 4 * lanes, lanes + 4):  # of the last, a group is the whole tile
        assert grouped(name, real, tile)
        assert results(name, real, tile) == expected


@pytest.mark.parametrize("lanes", [16, 12, 1])
def test_whoever_compiles_may_choose_the_tile(lanes: int) -> None:
    """The number of rows in a tile is a macro, and need not be a multiple of a group."""
    text = emit_c("mlp_tanh", [plan(p, "float64", 32) for p in programs("mlp_tanh")[0]])
    names = sorted({view.lanes_chosen for view in text.programs})
    assert all(f"#ifndef {n}\n" in text.header for n in names)
    compiler = find_compiler()
    chosen = replace(compiler, flags=(*compiler.flags, *(f"-D{n}={lanes}" for n in names)))
    assert results("mlp_tanh", "float64", 32, chosen) == results("mlp_tanh", "float64", None)
