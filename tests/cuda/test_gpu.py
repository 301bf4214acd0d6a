"""On a GPU: the bits of the CPU's C text, the error messages, arrays in place, and compute-sanitizer's opinion."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import EnvironmentProblem
from cpgen.loops.schedule import Schedule
from cpgen.native.cuda import build_cuda, find_nvcc
from tests.catalogue import CATALOGUE
from tests.cuda.test_schedules import UNUSUAL, agree, energy
from tests.cuda.test_shim import compare

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device() -> None:
    entry = CATALOGUE["mlp_tanh"]
    program = entry.compile(backend="interpreter", programs=()).derive("value").program
    try:
        build_cuda("probe", [program])
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", list(CATALOGUE))
def test_bits_of_the_c_text(name: str, real: str) -> None:
    compare(name, real, find_nvcc(), ["fwd"])


def test_more_rows_than_a_chunk() -> None:
    """10,000 rows are two chunks of tiles, the last one ragged."""
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays(rows=10_000)
    device, host = entry.compile(target="cuda"), entry.compile()
    for leaf, value in host.gradient(**arrays).items():
        np.testing.assert_allclose(device.gradient(**arrays)[leaf], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("schedule", [Schedule(columns=2, products=8), UNUSUAL, Schedule(columns=4, shared_bytes=0)])
def test_schedules(real: str, schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agree(real, find_nvcc(), schedule, ("fwd",), monkeypatch)


def test_a_graph_replays_what_the_methods_compute() -> None:
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays(rows=300)
    est = entry.compile(target="cuda", programs=("gradient", "diagonal"))
    with est.capture("gradient", "diagonal", samples=3, **arrays) as graph:
        for _ in range(2):
            found = graph()
    for leaf, value in est.gradient(**arrays).items():
        assert np.array_equal(found["gradient"][leaf], value)
    for leaf, estimate in est.diagonal(samples=3, **arrays).items():
        assert np.array_equal(found["diagonal"][leaf].value, estimate.value)


def test_large_products_by_cublas() -> None:
    try:
        by_library = cp.compile(energy(600, 600), wrt=["x"], target="cuda", programs=("trace",), blas="cublas")
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    large = {"x": np.full((40, 600), 0.1), "W": np.eye(600) * 0.3, "V": np.full((600, 600), 0.01)}
    expected = cp.compile(energy(600, 600), wrt=["x"]).trace(samples=2, exact=False, **large)
    found = by_library.trace(samples=2, exact=False, **large)
    assert "cublas" in found.backend
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-10)


def test_torch_tensors_are_read_in_place() -> None:
    torch = pytest.importorskip("torch")
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays()
    est = entry.compile(target="cuda")
    found = est.diagonal(samples=4, exact=False, **{k: torch.tensor(v, device="cuda") for k, v in arrays.items()})
    expected = est.diagonal(samples=4, exact=False, **arrays)
    for leaf in entry.wrt:
        assert np.array_equal(found[leaf].value, expected[leaf].value)


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_is_silent(tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    script = (
        "from tests.catalogue import CATALOGUE\n"
        "from cpgen.loops.schedule import Schedule\n"
        "from cpgen.estimate.tuning import Tuning\n"
        "for name in ('mlp_tanh', 'attention', 'convolution_2d'):\n"
        "    e = CATALOGUE[name]\n"
        "    for s in (Schedule(columns=3), Schedule(columns=2, products=1, least_panel=1)):\n"
        "        keys = dict.fromkeys(('diagonal', 'diagonal:cp'), s.numbers())\n"
        "        t = Tuning(e.build().name, tuple(e.wrt), 'float64', schedules=keys)\n"
        "        e.compile(target='cuda', programs=(), tuning=t).diagonal(samples=5, exact=False, **e.arrays(rows=70))\n"
    )
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_results_do_not_depend_on_the_run() -> None:
    entry = CATALOGUE["attention"]
    est: cp.Estimator = entry.compile(target="cuda")
    arrays = entry.arrays(rows=100)
    first, second = (est.diagonal(samples=2, exact=False, seed=4, **arrays) for _ in range(2))
    for leaf in entry.wrt:
        assert np.array_equal(first[leaf].value, second[leaf].value)
