"""Outer products summed over rows in panels of shared memory: the bits of the C text, and its barriers are needed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.code.rewrite import replaced
from cpgen.code.tree import Body, For
from cpgen.emit import cuda, emit_c
from cpgen.emit.device_panels import PanelSums
from cpgen.emit.device_places import BARRIER
from cpgen.ir.call import Call
from cpgen.ir.noise import HADAMARD
from cpgen.loops import plan
from cpgen.loops.device import device_plan
from cpgen.native import load
from cpgen.native.cuda import CudaCompiler, build_cuda
from tests.cuda.conftest import without
from tests.cuda.test_compile import is_clean, nvcc  # noqa: F401

ROWS, INPUTS, HIDDEN = 37, 70, 40  # neither a multiple of what a block takes at a time
SCALES = {"row_scale": 1 / ROWS, "column_scale": 0.5, "variance_scale": 0.5}
NUMBERS = {"rows": ROWS, "columns": 2, "seed": 3, "design": HADAMARD, "first_row": 0}


def layer() -> cp.Model:
    m = cp.Model("layer")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=INPUTS, h=HIDDEN)
    x, W, V = m.input("x", n, i), m.param("W", h, i), m.param("V", h)
    z = m.define("z", (n, h), sp.tanh(cp.sum(W[h, i] * x[n, i], i)))
    m.objective(cp.sum(V[h] * z[n, h], h) ** 2, reduction="mean")
    return m


def arrays(real: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"x": (ROWS, INPUTS), "W": (HIDDEN, INPUTS), "V": (HIDDEN,)}
    return {name: rng.normal(size=shape).astype(real) for name, shape in shapes.items()}


def agrees(real: str, shim: CudaCompiler) -> bool:
    """Whether gradient and diagonal of the layer have the bits of the C text."""
    est = cp.compile(layer(), wrt=["W"], real=real, backend="interpreter", programs=())
    programs = [est.derive(key).program for key in ("gradient", "diagonal")]
    plans = [plan(program, real, tile=1, compact=True) for program in programs]
    compiled = load(emit_c("reference", plans, real, "reference", private=True), plans)
    module = build_cuda("layer", programs, real, shim)
    given, same = arrays(real), True
    for program in programs:
        expected = compiled[program.name].run(given, Call(**NUMBERS, **SCALES))
        found = module[program.name].run(given, Call(**NUMBERS, **SCALES))
        same &= all(np.array_equal(found[name], value) for name, value in expected.items())
    return same


@pytest.mark.parametrize("order", ["fwd", "rev", "7"])
@pytest.mark.parametrize("real", ["float64", "float32"])
def test_ragged_panels(real: str, order: str, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPGEN_SHIM_ORDER", order)
    est = cp.compile(layer(), wrt=["W"], real=real, backend="interpreter", programs=())
    plans = [device_plan(est.derive("diagonal").program, real)]
    assert "panel[" in cuda.emit_cuda("layer", plans, real).source
    assert agrees(real, shim)


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_barrier_is_noticed(which: int, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the sums and after them; some order of the threads shows either."""
    sound = PanelSums.panels

    def faulty(sums: PanelSums, finish: Callable[[], Body]) -> Body:
        *made, tiles = sound(sums, finish)
        assert isinstance(tiles, For)
        [rows] = [s for s in tiles.body if isinstance(s, For) and s.variable == "first"]
        return [*made, replaced(tiles, rows, without(rows, BARRIER, which))]

    monkeypatch.setattr(PanelSums, "panels", faulty)
    noticed = []
    for order in ("fwd", "rev", "3"):
        monkeypatch.setenv("CPGEN_SHIM_ORDER", order)
        noticed.append(not agrees("float64", shim))
    assert any(noticed)


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_nvcc_has_no_complaint(nvcc: str, real: str, tmp_path: Path) -> None:  # noqa: F811
    """No spill, and the sums of a thread stay in registers: no stack frame."""
    est = cp.compile(layer(), wrt=["W"], real=real, backend="interpreter", programs=())
    plans = [device_plan(est.derive(key).program, real) for key in ("gradient", "diagonal")]
    files = cuda.emit_cuda("layer", plans, real).files()
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    source = tmp_path / "layer.cu"
    for architecture in ("80", "90", "100"):
        is_clean(nvcc, source, architecture, real)
    told = subprocess.run(
        [nvcc, "-arch=sm_90", "--fmad=false", "-Xptxas=-v", "-cubin", "-o", str(tmp_path / "layer.cubin"), str(source)],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    frames = [line for line in told.splitlines() if "bytes stack frame" in line]
    assert frames and all("0 bytes stack frame" in line.strip()[:20] for line in frames), told
