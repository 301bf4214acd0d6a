"""What nvcc says about the CUDA text: no warning, no spill, no stray double, nothing fused or approximated."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import cpgen as cp
from cpgen.emit.cuda import emit_cuda
from cpgen.errors import EnvironmentProblem
from cpgen.loops.device import device_plan
from cpgen.native.cuda import ARCHITECTURES, find_nvcc
from tests.catalogue import CATALOGUE
from tests.short import cases

KEYS = ("value", "gradient", "diagonal")
QUICK = ("mlp_tanh", "attention")


@pytest.fixture(scope="module")
def nvcc() -> str:
    try:
        return find_nvcc().path
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


def written(name: str, real: str, folder: Path) -> Path:
    """The .cu file of a model of the catalogue."""
    entry = CATALOGUE[name]
    est = cp.compile(entry.build(), wrt=list(entry.wrt), real=real, backend="interpreter", programs=())
    files = emit_cuda(est.graph.name, [device_plan(est.derive(key).program, real) for key in KEYS], real)
    for file, text in files.files().items():
        (folder / file).write_text(text)
    return folder / f"{files.name}.cu"


def is_clean(nvcc: str, source: Path, architecture: str, real: str) -> None:
    checks = "-v,-warn-spills,-Werror" + (",-warn-double-usage" if real == "float32" else "")
    flags = ["-std=c++17", f"-arch=sm_{architecture}", "-Werror", "all-warnings", "-Xptxas", checks, "--fmad=false"]
    command = [nvcc, *flags, "-cubin", "-o", "k.cubin", source.name]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", cases(QUICK, ["mlp_tanh"]))
def test_clean_for_every_architecture(nvcc: str, name: str, real: str, tmp_path: Path) -> None:
    source = written(name, real, tmp_path)
    for architecture in ARCHITECTURES:
        is_clean(nvcc, source, architecture, real)


@pytest.mark.slow
@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", [n for n in CATALOGUE if n not in QUICK])
def test_the_catalogue_is_clean(nvcc: str, name: str, real: str, tmp_path: Path) -> None:
    is_clean(nvcc, written(name, real, tmp_path), "80", real)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", QUICK)
def test_arithmetic_is_ieee(nvcc: str, name: str, real: str, tmp_path: Path) -> None:
    """No fused multiply-add, no approximate instruction and no flushing to zero in the intermediate code."""
    source = written(name, real, tmp_path)
    command = [nvcc, "-std=c++17", "-arch=compute_80", "--fmad=false", "-ptx", "-o", "k.ptx", source.name]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = (tmp_path / "k.ptx").read_text()
    assert re.search(r"\bmul\.(rn\.)?f(32|64)|\bmul\.f", text)
    assert not re.findall(r"\bfma\.\w+|\.approx\b|\.ftz\b", text)


def test_the_library_loads_without_a_driver(nvcc: str) -> None:
    """Native code and PTX are linked; the answer is a result where there is a GPU and one clear error elsewhere."""
    entry = CATALOGUE["mlp_tanh"]
    try:
        value = entry.compile(target="cuda", programs=()).value(**entry.arrays())
    except EnvironmentProblem as problem:
        assert "needs a GPU and its driver" in str(problem)
    else:
        assert value == pytest.approx(entry.compile().value(**entry.arrays()), rel=1e-12)


def test_a_spill_and_a_stray_double_are_errors(nvcc: str, tmp_path: Path) -> None:
    """The checks above can fail."""
    spilling = "".join(f"    double v{k} = x[i + {k}]; \n" for k in range(96))
    total = " + ".join(f"v{k} * v{95 - k}" for k in range(96))
    text = (
        '__global__ void __launch_bounds__(1024, 2) spill(const double *x, double *y)\n{\n    int i = threadIdx.x;\n'
        f"{spilling}    __syncthreads();\n    y[i] = {total} + v0 / v1;\n}}\n"
        "__global__ void stray(const float *x, float *y) { y[threadIdx.x] = x[threadIdx.x] * 0.1; }\n"
    )
    source = tmp_path / "bad.cu"
    source.write_text(text)
    for real in ("float64", "float32"):
        with pytest.raises(AssertionError):
            is_clean(nvcc, source, "80", real)
