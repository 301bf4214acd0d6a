"""Every program of the catalogue on the host's CUDA shim: the bits of the C text with the built-in mathematics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import cpgen as cp
from cpgen.emit import emit_c
from cpgen.emit.arguments import arrays as array_inputs
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS
from cpgen.ir.noise import HADAMARD
from cpgen.loops import plan
from cpgen.loops.schedule import Schedule
from cpgen.native import load
from cpgen.native.cuda import CudaCompiler, build_cuda
from tests.catalogue import CATALOGUE
from tests.short import cases, models

ORDERS = ("fwd", "rev", "7")
COLUMNS_TRIED = 5  # a batch of four, and one left over
SCALES = {"row_scale": 0.25, "column_scale": 1 / 3, "variance_scale": 1 / 6}
KEYS = ("value", "gradient", "diagonal", "hvp", "trace", "sketch")


def compare(
    name: str,
    real: str,
    compiler: CudaCompiler,
    orders: Sequence[str],
    schedule: Schedule | None = None,
    keys: Sequence[str] = KEYS,
) -> None:
    """Programs of a model, built by ``compiler`` and run in each order, against their C text."""
    entry = CATALOGUE[name]
    est = cp.compile(entry.build(), wrt=list(entry.wrt), real=real, backend="interpreter", programs=())
    keys = [k for k in keys if k != "trace" or len({v.has_rows for v in est.wrt}) == 1]
    if real == "float32":
        keys = ["gradient", "diagonal"]
    programs = [est.derive(key).program for key in keys]
    plans = [plan(program, real, tile=1, compact=True) for program in programs]
    with ThreadPoolExecutor(1) as pool:  # both compilers at once
        reference = pool.submit(load, emit_c("reference", plans, real, "reference", private=True), plans)
        module = build_cuda(est.graph.name, programs, real, compiler, [schedule] * len(programs))
        compiled = reference.result()
    rng = np.random.default_rng(0)
    given = {k: np.asarray(v, real, order="C") for k, v in entry.arrays().items()}
    rows = next((len(given[v.name]) for v in est.graph.variables if v.has_rows), 1)
    for key, program, planned in zip(keys, programs, plans, strict=True):
        sizes = {ROWS: rows, COLUMNS: COLUMNS_TRIED}
        used = {}
        for node in array_inputs(planned):
            shape = tuple(e if isinstance(e, int) else sizes[e] for e in node.shape)
            used[node.name] = given[node.name] if node.name in given else rng.normal(size=shape).astype(real)
        numbers = {"rows": rows, "columns": COLUMNS_TRIED, "seed": 11, "design": HADAMARD, "first_row": 5}
        numbers["first_column"] = 1
        expected = compiled[program.name].run(used, Call(**numbers, **SCALES))
        for order in orders:
            os.environ["CPGEN_SHIM_ORDER"] = order
            found = module[program.name].run(used, Call(**numbers, **SCALES))
            for output, value in expected.items():
                assert np.array_equal(found[output], value, equal_nan=True), (key, output, order)


@pytest.mark.parametrize("real", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", models())
def test_bits_of_the_c_text(name: str, real: str, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPGEN_SHIM_ORDER", "fwd")  # put back afterwards
    compare(name, real, shim, ORDERS)


@pytest.mark.parametrize(
    "name", cases("mlp_tanh attention convolution_1d recurrent several_inputs".split(), ["recurrent", "several_inputs"])
)
def test_bits_of_exact_programs(name: str, shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns in indices: those of unit vectors, from the second column on."""
    monkeypatch.setenv("CPGEN_SHIM_ORDER", "fwd")  # put back afterwards
    leaves = CATALOGUE[name].compile(programs=(), backend="interpreter").wrt
    alike = len({v.has_rows for v in leaves}) == 1
    keys = ["diagonal:units", "hessian:units", "trace:units", *(["diagonal:directions"] if alike else [])]
    compare(name, "float64", shim, ORDERS, keys=keys)
