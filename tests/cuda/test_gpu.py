"""On a GPU: the bits of the CPU's C text, the error messages, arrays in place, and compute-sanitizer's opinion."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import EnvironmentProblem
from cpgen.native.cuda import build_cuda, find_nvcc
from tests.catalogue import CATALOGUE
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
        "for name in ('mlp_tanh', 'attention', 'convolution_2d'):\n"
        "    e = CATALOGUE[name]\n"
        "    e.compile(target='cuda').diagonal(samples=4, exact=False, **e.arrays(rows=70))\n"
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
