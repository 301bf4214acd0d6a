"""Every schedule gives the bits of the C text; the chosen one follows from extents and says why."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.code.tree import Body, For
from cpgen.emit import emit_c
from cpgen.emit.cuda import emit_cuda
from cpgen.emit.device_body import DeviceRows
from cpgen.emit.device_places import BARRIER
from cpgen.errors import RequestError
from cpgen.ir.call import Call
from cpgen.ir.noise import HADAMARD
from cpgen.loops import plan
from cpgen.loops.device import LEAST_PRODUCT, TOGETHER, choose, device_plan
from cpgen.loops.schedule import LANES, Schedule, schedule_of
from cpgen.native import load
from cpgen.native.cuda import CudaCompiler, build_cuda
from tests.cuda.conftest import without
from tests.cuda.test_compile import is_clean, nvcc  # noqa: F401
from tests.cuda.test_shim import compare
from tests.short import models

ROWS, INPUTS, HIDDEN = 37, 21, 70  # nothing a multiple of what a block takes at a time
SCALES = {"row_scale": 1 / ROWS, "column_scale": 0.2, "variance_scale": 0.05}
NUMBERS = {"rows": ROWS, "columns": 5, "seed": 3, "design": HADAMARD, "first_row": 0}
# every way at once: products as kernels of their own, panels and columns that leave a rest, two chunks of rows
UNUSUAL = Schedule(
    workers=3, columns=3, tiles_per_chunk=1, most_blocks=3, products=1, least_panel=1, panel=32, depth=4, down=8, across=8
)


def energy(inputs: int = INPUTS, hidden: int = HIDDEN) -> cp.Model:
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=inputs, h=hidden, k=hidden)
    x, W, V = m.input("x", n, i), m.param("W", h, i), m.param("V", k, h)
    z = m.define("z", (n, h), sp.log(1 + sp.exp(cp.sum(W[h, i] * x[n, i], i))))
    m.objective(cp.sum(sp.log(1 + sp.exp(cp.sum(V[k, h] * z[n, h], h))), k))
    return m


def derived(real: str, *keys: str, wrt: str = "x") -> list:
    est = cp.compile(energy(), wrt=[wrt], real=real, backend="interpreter", programs=())
    return [est.derive(key).program for key in keys]


def arrays(real: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"x": (ROWS, INPUTS), "W": (HIDDEN, INPUTS), "V": (HIDDEN, HIDDEN)}
    return {name: (0.3 * rng.normal(size=shape)).astype(real) for name, shape in shapes.items()}


def agree(
    real: str,
    shim: CudaCompiler,
    schedule: Schedule | None,
    orders: tuple[str, ...],
    patch: pytest.MonkeyPatch,
    keys: tuple[str, ...] = ("gradient", "trace:cp"),
    wrt: str = "x",
) -> bool:
    """Whether programs have the bits of the C text in each order of the threads."""
    programs = derived(real, *keys, wrt=wrt)
    plans = [plan(program, real, tile=1, compact=True) for program in programs]
    compiled = load(emit_c("reference", plans, real, "reference", private=True), plans)
    module = build_cuda("energy", programs, real, shim, [schedule] * len(programs))
    given, same = arrays(real), True
    for program in programs:
        expected = compiled[program.name].run(given, Call(**NUMBERS, **SCALES))
        for order in orders:
            patch.setenv("CPGEN_SHIM_ORDER", order)
            found = module[program.name].run(given, Call(**NUMBERS, **SCALES))
            same &= all(np.array_equal(found[name], value) for name, value in expected.items())
    return same


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(columns=1),
        Schedule(columns=3, shared_bytes=0),
        Schedule(columns=2, products=8, workers=2),
        Schedule(columns=1, products=1, panel=16, depth=16, down=8, across=4),
        UNUSUAL,
    ],
    ids=["one column", "in the workspace", "products", "small panels", "unusual"],
)
@pytest.mark.parametrize("real", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_bits_do_not_depend_on_the_schedule(
    real: str, schedule: Schedule, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agree(real, shim, schedule, ("fwd", "rev", "7"), monkeypatch)


@pytest.mark.parametrize("which", [0, 1])
def test_a_square_of_rows_needs_both_barriers(which: int, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 elements, kept for the sums over rows, are three squares; some order of the threads shows either one missing."""
    sound = DeviceRows._squares

    def faulty(*arguments: object) -> Body:
        *made, squares = sound(*arguments)  # type: ignore[arg-type]
        assert isinstance(squares, For)
        return [*made, without(squares, BARRIER, which)]

    monkeypatch.setattr(DeviceRows, "_squares", faulty)
    assert not agree("float64", shim, Schedule(products=8), ("fwd", "rev", "3"), monkeypatch, ("gradient",), "W")


@pytest.mark.parametrize("name", models(["recurrent", "repeated_index"]))
def test_the_catalogue_by_an_unusual_schedule(name: str, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's own extents are small: let every product and every outer product take its way."""
    monkeypatch.setenv("CPGEN_SHIM_ORDER", "fwd")
    compare(name, "float64", shim, ("7",), UNUSUAL, ("diagonal", "sketch"))
    compare(name, "float64", shim, ("7",), UNUSUAL, ("diagonal:units",))


def test_the_chosen_schedule_follows_from_the_extents() -> None:
    small = cp.compile(energy(8, 20), wrt=["x"], backend="interpreter", programs=())
    found = choose(small.derive("trace:cp").program, "float64")
    assert found.products == 0 and found.columns == TOGETHER
    assert "shared memory" in " ".join(found.reasons)
    large = cp.compile(energy(200, 300), wrt=["x"], backend="interpreter", programs=())
    program = large.derive("trace:cp").program
    found = choose(program, "float64")
    assert found.products == LEAST_PRODUCT and "300 x 300" in found.reasons[0]
    made = device_plan(program, "float64")
    assert made.tile_memory.of(0) * LANES * 8 > found.shared_bytes  # it would not have fitted
    text = emit_cuda("energy", [made], "float64").source
    assert all(reason in text for reason in found.reasons)
    assert text.count("_multiply, ") == 1 and text.count("_enqueue(p, stream)") == 5
    # no noise, no batches
    assert choose(large.derive("value").program, "float64").columns == 1
    # four columns do not fit in shared memory, two do
    middle = cp.compile(energy(16, 36), wrt=["x"], backend="interpreter", programs=()).derive("trace:cp").program
    found = choose(middle, "float64")
    assert found.columns == 2 and "no room for 4" in found.reasons[1]


def test_a_weight_is_read_once_for_the_columns_of_a_batch() -> None:
    [program] = derived("float64", "trace:cp")
    text = emit_cuda("energy", [device_plan(program, "float64", Schedule(columns=4))], "float64").source
    assert "double sum[4][COLS];" in text
    assert "energy_trace_columns_2<ENERGY_TRACE_COLUMNS>(f);" in text and "energy_trace_columns_2<1>(f);" in text
    assert "COLS" not in emit_cuda("energy", [device_plan(program, "float64", Schedule())], "float64").source


def test_names_that_kernels_use_are_the_users_too(shim: CudaCompiler) -> None:
    m = cp.Model("names")
    n, first, part = m.axes("n first part", n=cp.ROWS, first=5, part=6)
    at, panel = m.input("at", n, part), m.param("panel", first, part)
    terms, owner = m.param("terms", first), m.param("gemm")
    down = m.define("down", (n, first), sp.tanh(cp.sum(panel[first, part] * at[n, part], part) + terms[first]))
    m.objective(cp.sum(owner * down[n, first], first) ** 2)
    est = cp.compile(m, wrt=["panel", "gemm"], backend="interpreter", programs=())
    programs = [est.derive("diagonal:cp").program]
    plans = [plan(p, "float64", tile=1, compact=True) for p in programs]
    compiled = load(emit_c("reference", plans, "float64", "reference", private=True), plans)
    rng = np.random.default_rng(0)
    given = {"at": rng.normal(size=(9, 6)), "panel": rng.normal(size=(5, 6)), "terms": rng.normal(size=5)}
    given["gemm"] = np.asarray(0.7)
    for schedule in (None, UNUSUAL):
        module = build_cuda("names", programs, "float64", shim, [schedule])
        numbers = {**NUMBERS, "rows": 9}
        expected = compiled[programs[0].name].run(given, Call(**numbers, **SCALES))
        found = module[programs[0].name].run(given, Call(**numbers, **SCALES))
        assert all(np.array_equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"workers": 33}, "at most 1024 threads"),
        ({"columns": 17}, "at most 16"),
        ({"columns": 0}, "at least 1"),
        ({"products": -1}, "at least 0"),
        ({"panel": 60}, "multiple of down"),
        ({"down": 4, "across": 4}, "multiple of 32"),
        ({"depth": 64}, "48 KiB"),
        ({"panel": 128, "down": 8, "across": 16}, "sums in a panel"),
        ({"shared_bytes": 200_000}, "at most"),
        ({"terms": 8}, "terms=8"),
        ({"colums": 2}, "colums is not one of"),
        ({"workers": 2.5}, "whole number"),
    ],
)
def test_impossible_schedules_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        schedule_of(wrong, "by hand")


def test_a_schedule_survives_the_round_trip() -> None:
    assert schedule_of(UNUSUAL.numbers(), "read back") == UNUSUAL
