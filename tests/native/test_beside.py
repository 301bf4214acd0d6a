"""Noise columns in lanes that have no row: where they are put there, and that this changes no bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from cpgen.emit import CFiles, emit_c
from cpgen.emit.cuda import emit_cuda
from cpgen.ir.build import axis, constant_index, make_map, new_input, read
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Node, Program
from cpgen.ir.noise import HADAMARD, IDENTITY, INDEPENDENT
from cpgen.loops import Plan, plan
from cpgen.loops.device import device_plan
from cpgen.loops.strategy import base
from cpgen.native import NativeProgram, check_against_interpreter, load
from cpgen.scalar import placeholder as p
from tests.catalogue import CATALOGUE, estimator
from tests.short import cases

# dense layers, a convolution, tied weights and normalised layers; results of each row and of parameters
KEYS = (
    ("softplus_energy", "diagonal"),
    ("softplus_energy", "trace"),
    ("convolution_2d", "diagonal"),
    ("residual_tied", "diagonal"),
    ("mlp_tanh", "trace"),
    ("layer_normalised", "diagonal"),
)
MODELS = tuple(dict(KEYS))
every_program = pytest.mark.parametrize("key", cases(KEYS, KEYS[:3]), ids="_".join)
MOST = 11  # a tile of eight, and one of three: two columns at once
SCALES = {"row_scale": 0.25, "column_scale": 1 / 3, "variance_scale": 1 / 6}


@cache
def derived(key: tuple[str, str]) -> Program:
    """The program of a model with noise columns, and with variances if it is the diagonal."""
    name, what = key
    return estimator(name, "interpreter").derive(f"{what}:cp").program


@cache
def arrays_of(name: str) -> tuple[dict[str, Any], set[str]]:
    """The arrays of a model, and which have rows."""
    variables = estimator(name, "interpreter").graph.variables
    return CATALOGUE[name].arrays(3, MOST), {v.name for v in variables if v.has_rows}


def given(name: str, real: str, first: int, stop: int) -> dict[str, Any]:
    """Rows ``first`` to ``stop`` of a model's arrays."""
    arrays, with_rows = arrays_of(name)
    parts = {k: a[first:stop] if k in with_rows else a for k, a in arrays.items()}
    return {k: np.asarray(a, real, order="C") for k, a in parts.items()}


def text(tile: int, real: str, program: Program) -> tuple[CFiles, list[Plan]]:
    plans = [plan(program, real, tile, compact=tile == 1)]
    return emit_c(f"beside_{tile}", plans, real, private=True), plans


@cache
def compiled(key: tuple[str, str], real: str) -> dict[int, NativeProgram]:
    """For tiles of several sizes, 1 among them: a row at a time, without lanes."""
    program = derived(key)
    return {tile: load(*text(tile, real, program))[program.name] for tile in (1, 8, 16, 32)}


both_types = pytest.mark.parametrize("real", ["float64", pytest.param("float32", marks=pytest.mark.slow)])


def bits(outputs: dict[str, Any]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in outputs.items()}


@both_types
@every_program
def test_no_bit_depends_on_the_rows_of_a_call(key: tuple[str, str], real: str) -> None:
    (name, _), program, made = key, derived(key), compiled(key, real)
    assert all(made[tile].plan.beside == (tile > 1) for tile in made)
    each_row = {label for label, node in program.outputs if node.has_rows}
    for columns, design in ((1, HADAMARD), (2, INDEPENDENT), (7, HADAMARD), (8, IDENTITY), (9, HADAMARD), (64, HADAMARD)):
        numbers: dict[str, Any] = {"columns": columns, "seed": 4, "design": design, "first_column": 2, **SCALES}
        single = made[1]
        whole = single.run(given(name, real, 0, MOST), Call(MOST, first_row=5, **numbers))
        parts = [(0, MOST), (2, 3), (8, 10), *((0, rows) for rows in range(1, 10))]
        for tile in (8, 16, 32):
            native = made[tile]
            for first, stop in parts:
                rows, arrays = stop - first, given(name, real, first, stop)
                found = native.run(arrays, Call(rows, first_row=5 + first, threads=1 + rows % 2, **numbers))
                call = Call(rows, first_row=5 + first, **numbers)
                expected = whole if rows == MOST else single.run(arrays, call)
                assert bits(found) == bits(expected), (tile, columns, first, stop)
                for label in each_row:
                    assert np.array_equal(found[label], whole[label][first:stop], equal_nan=True)


@both_types
@every_program
def test_against_the_interpreter(key: tuple[str, str], real: str) -> None:
    (name, _), made = key, compiled(key, real)
    for tile, rows, columns, design in ((8, 1, 9, HADAMARD), (16, 3, 12, INDEPENDENT), (32, 2, 5, IDENTITY)):
        numbers = {"seed": 8, "design": design, "first_row": 3, "first_column": 7}
        native = made[tile]
        tolerance = 1e-11 if real == "float64" else 2e-3
        call = Call(rows, columns, **numbers, **SCALES)
        check_against_interpreter(native, given(name, real, 0, rows), call, tolerance)


@both_types
@every_program
def test_sums_over_rows_go_on_from_call_to_call(key: tuple[str, str], real: str) -> None:
    (name, _), program, native = key, derived(key), compiled(key, real)[8]
    summed = [label for label, node in program.outputs if not node.has_rows]
    if not native.plan.accumulable or not summed:
        return
    numbers: dict[str, Any] = {"columns": 5, "seed": 1, "design": HADAMARD, "wanted": summed, **SCALES}
    whole = native.run(given(name, real, 0, MOST), Call(MOST, **numbers))
    for ends in ((0, 1, 3, 6, MOST), tuple(range(MOST + 1))):
        sums = {label: np.zeros_like(whole[label]) for label in summed}
        for first, stop in zip(ends, ends[1:], strict=False):
            arrays = given(name, real, first, stop)
            native.run(arrays, Call(stop - first, first_row=first, accumulate=True, **numbers), out=sums)
        assert bits(sums) == bits(whole)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(f->beside < left ? f->beside : left)", "f->beside"),  # columns that do not exist
        ("lane < f->used; lane += f->lanes", "lane < pitch; lane += f->lanes"),  # lanes that stand for nothing
        ("lane += f->lanes", "++lane"),  # another row's
        ("f->col > 0 ? sums[first + row] : (double)0", "0.0"),  # the last pass alone
        ("(args->first_column + col)", "(args->first_column)"),  # the same columns again
        ("values[first + lane - lanes]", "values[first]"),  # another row's inputs
    ],
)
def test_a_fault_would_be_seen(right: str, wrong: str) -> None:
    """Five rows in tiles of 16: three columns at once, and a lane that is left over."""
    program = derived(KEYS[0])
    files, plans = text(16, "float64", program)
    texts = {name: text.replace(right, wrong) for name, text in files.runtime.items()}
    changed = replace(files, source=files.source.replace(right, wrong), runtime=texts)
    assert changed != files
    good, bad = load(files, plans), load(changed, plans)
    name = KEYS[0][0]
    numbers: dict[str, Any] = {"columns": 7, "seed": 4, "design": HADAMARD, **SCALES}
    runs = [module[program.name].run(given(name, "float64", 0, 5), Call(5, **numbers)) for module in (good, bad)]
    assert bits(runs[0]) != bits(runs[1])


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("fused", [False, True])
def test_through_the_estimator(real: str, fused: bool) -> None:
    """Joined multiplications and additions too give a row the bits it has among others."""
    entry = CATALOGUE["softplus_energy"]
    est = entry.compile(programs=(), real=real, fused=fused)
    numbers: dict[str, Any] = {"samples": 12, "seed": 3, "exact": False}
    whole = est.trace(**numbers, **given("softplus_energy", real, 0, MOST))
    for row in range(MOST):
        one = est.trace(first_row=row, **numbers, **given("softplus_energy", real, row, row + 1))
        assert np.array_equal(np.ravel(one.value), np.ravel(whole.value)[row : row + 1])
        assert np.array_equal(np.ravel(one.stderr), np.ravel(whole.stderr)[row : row + 1])


# Where it is done

W = new_input("W", (3,), "param")
BY_COLUMN = new_input("G", (COLUMNS, 3), "noise")
V = new_input("v", (COLUMNS, ROWS, 3), "noise")
GIVEN = new_input("u", (COLUMNS, ROWS, 3), "tangent")


def columns_of(*outputs: Node) -> Program:
    inputs = (W, GIVEN, BY_COLUMN, V)
    reached = Program("p", tuple((f"o{k}", node) for k, node in enumerate(outputs)), ())
    return replace(reached, inputs=tuple(i for i in inputs if i in reached.nodes()))


def summed(first: Access, second: Access, reduce: str = "sum", shape: tuple[int, ...] = ()) -> Node:
    """out[row, ...] = sum_col first * second"""
    extents = (ROWS, *shape, COLUMNS)
    return make_map(extents, 1 + len(shape), [first, second], p(0) * p(1), (), reduce)


def test_which_programs_do_so() -> None:
    fixed = Access(V, (axis(1), axis(0), constant_index(1)))
    plain = summed(fixed, fixed)
    assert plan(columns_of(plain)).beside
    assert not plan(columns_of(plain), tile=1).beside
    assert not plan(columns_of(plain), tile=8, compact=True).beside
    assert not plan(columns_of(plain, V)).beside  # values of all columns are asked for
    assert not plan(columns_of(summed(fixed, fixed, "max"))).beside
    assert not plan(columns_of(summed(fixed, Access(W, (axis(1),))))).beside  # a weight by the column's number
    assert not plan(columns_of(summed(fixed, Access(BY_COLUMN, (axis(1), constant_index(0)))))).beside
    given = Access(GIVEN, (axis(1), axis(0), constant_index(1)))
    assert not plan(columns_of(summed(fixed, given))).beside  # rows of the caller's for each column
    both = make_map((ROWS, COLUMNS, 3), 1, [read(V, 1, 0, 2), read(V, 1, 0, 2)], p(0) * p(1))
    assert not plan(columns_of(both)).beside  # several terms a column


@pytest.mark.parametrize("name", MODELS)
def test_sketches_units_bundles_and_gpus_do_not(name: str) -> None:
    est = estimator(name, "interpreter")
    for key in ("sketch", "diagonal:units"):
        program = est.derive(key).program
        assert "beside" not in emit_c("m", [plan(program)]).source
    program = est.derive("diagonal:cp").program
    assert "beside" in emit_c("m", [plan(program)]).source
    for tile in (1, 8):
        assert "beside" not in emit_c("m", [plan(program, tile=tile, compact=True)]).source
    assert "beside" not in emit_cuda("m", [device_plan(program, "float64")]).source


def test_sums_have_memory_twice() -> None:
    """One number more for a sum of one element, which decides nothing about the rows in a tile."""
    one = columns_of(summed(*[Access(V, (axis(1), axis(0), constant_index(1)))] * 2))
    assert plan(one, tile=8).tile_memory.constant == plan(one, tile=8, compact=True).tile_memory.constant + 1


def test_a_full_tile_needs_no_more_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there for tiles with few rows is not counted where the rows in a tile are chosen."""
    program = derived(("softplus_energy", "diagonal"))
    compact = plan(program, tile=8, compact=True)
    monkeypatch.setattr(base, "TILE_BYTES", compact.tile_memory.constant * 8 * 8)
    found = plan(program)
    assert found.beside and found.tile == 8
    assert found.tile_memory.constant > compact.tile_memory.constant
