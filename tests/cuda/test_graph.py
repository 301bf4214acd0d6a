"""CUDA graphs, a library for products and measured schedules through the public interface, on the host's CUDA shim."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import cpgen as cp
from cpgen.derive.request import TRACE, Request
from cpgen.errors import DataError, EnvironmentProblem, RequestError, ShapeError
from cpgen.estimate import tune
from cpgen.estimate.core import Core
from cpgen.estimate.tuning import Tuning, load_tuning
from cpgen.ir.call import Call
from cpgen.loops import device
from cpgen.loops.schedule import Schedule
from cpgen.native import cuda
from cpgen.native.cuda import CudaCompiler, build_cuda
from tests.catalogue import CATALOGUE
from tests.cuda.conftest import SHIM
from tests.cuda.test_schedules import NUMBERS, SCALES, arrays, derived, energy
from tests.cuda.test_target import OnDevice


@pytest.fixture
def gpu(shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shim in the place of nvcc."""
    monkeypatch.setattr(cuda, "find_nvcc", lambda: shim)


# Graphs


def test_a_graph_replays_what_the_methods_compute(gpu: None) -> None:
    entry = CATALOGUE["mlp_tanh"]
    given = entry.arrays(rows=40)
    est = entry.compile(target="cuda", programs=("value", "gradient", "diagonal"))
    with est.capture("value", "gradient", "diagonal", samples=2, seed=3, **given) as graph:
        for _ in range(2):
            found = graph()
            assert found["value"] == est.value(**given)
            for leaf, value in est.gradient(**given).items():
                assert np.array_equal(found["gradient"][leaf], value)
            for leaf, estimate in est.diagonal(samples=2, seed=3, **given).items():
                assert np.array_equal(found["diagonal"][leaf].value, estimate.value)
                assert np.array_equal(found["diagonal"][leaf].stderr, estimate.stderr, equal_nan=True)
                assert found["diagonal"][leaf].samples == estimate.samples


def test_a_graph_sees_new_numbers(gpu: None) -> None:
    entry = CATALOGUE["softplus_energy"]
    given = {k: np.array(v) for k, v in entry.arrays().items()}
    est = entry.compile(target="cuda", programs=("gradient", "trace"))
    [name] = [v.name for v in est.wrt]
    lying = OnDevice(given[name].copy())  # read in place; the others are copied
    other = next(k for k in given if k != name)
    with est.capture("gradient", "trace", **{**given, name: lying}) as graph:
        before = graph()["gradient"][name]
        lying.array += 0.25
        graph.update(**{other: given[other] * 0.5})
        after = graph()
    changed = {**given, name: lying.array, other: given[other] * 0.5}
    assert not np.array_equal(before, after["gradient"][name])
    assert np.array_equal(after["gradient"][name], est.gradient(**changed)[name])
    assert np.array_equal(after["trace"].value, est.trace(**changed).value)


def test_a_graph_of_products(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several launches a batch of columns, recorded in their order."""
    numbers = Schedule(products=8, columns=2).numbers()
    tuning = Tuning("energy", ("x",), "float64", schedules={"trace": numbers})
    est = cp.compile(energy(), wrt=["x"], target="cuda", tuning=tuning, programs=())
    given = arrays("float64")
    with est.capture("trace", samples=3, seed=5, **given) as graph:
        found = graph()["trace"]
    expected = est.trace(samples=3, seed=5, method="cp", **given)
    assert np.array_equal(found.value, expected.value) and np.array_equal(found.stderr, expected.stderr)


def test_what_cannot_be_captured_is_an_error(shim: CudaCompiler) -> None:
    program = CATALOGUE["mlp_tanh"].compile(backend="interpreter", programs=()).derive("value").program
    there = build_cuda("probe", [program], "float64", shim).device

    def waits() -> None:
        with pytest.raises(EnvironmentProblem, match="not permitted when stream is capturing"):
            there.wait(stream)

    def allocates() -> None:
        with pytest.raises(RequestError, match="no 8 bytes of memory left"), there.memory(8):
            pass

    with there.stream() as stream:
        for wrong in (waits, allocates):
            with pytest.raises(EnvironmentProblem, match="previous error"), there.captured(stream, wrong):
                pass
        with there.captured(stream, lambda: None) as replay:  # the stream is usable afterwards
            replay()


def test_requests_for_graphs_are_checked(gpu: None) -> None:
    entry = CATALOGUE["mlp_tanh"]
    given = entry.arrays()
    with pytest.raises(RequestError, match="for target='cuda'"):
        entry.compile(programs=()).capture("value", **given)
    est = entry.compile(target="cuda", programs=())
    for wrong in ((), ("hessian",), ("value", "value")):
        with pytest.raises(RequestError, match="name one or more of value, gradient, diagonal, trace"):
            est.capture(*wrong, **given)
    with est.capture("value", **given) as graph:
        name = next(k for k, v in given.items() if np.ndim(v) == 2)
        with pytest.raises(ShapeError, match="captured was"):
            graph.update(**{name: np.zeros((1, 1))})
        with pytest.raises(DataError, match="no array of NumPy"):
            graph.update(nothing=np.zeros(1))


# A library for products


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A stand-in for cuBLAS that adds up backwards."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    target = tmp_path_factory.mktemp("blas") / "libstandin.so"
    flags = ["-std=c99", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(SHIM / "blas.c"), "-o", str(target)], check=True)
    return str(target)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("wrt", ["x", "W"])
def test_large_products_by_a_library(real: str, wrt: str, library: str, shim: CudaCompiler) -> None:
    keys = ("gradient", "trace:cp") if wrt == "x" else ("gradient", "diagonal:cp")
    programs = derived(real, *keys, wrt=wrt)
    schedule = Schedule(columns=2, products=8, gemm=1)
    own, asked = (
        build_cuda("energy", programs, real, shim, [schedule] * 2, blas=blas) for blas in ("", library)
    )
    given, differs = arrays(real), False
    for program in programs:
        expected = own[program.name].run(given, Call(**NUMBERS, **SCALES))
        found = asked[program.name].run(given, Call(**NUMBERS, **SCALES))
        for name, value in expected.items():
            scale = float(np.max(np.abs(value)))
            np.testing.assert_allclose(found[name], value, rtol=0, atol=scale * (1e-13 if real == "float64" else 1e-5))
            differs |= not np.array_equal(found[name], value)
    assert differs  # the library was used: its order is another


def test_a_library_is_opt_in_and_labelled(library: str, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arrays("float64")
    plain = cp.compile(energy(), wrt=["x"], target="cuda", programs=())
    assert "gemm" not in "".join(plain.source(["trace"]).values())
    monkeypatch.setattr(device, "LEAST_PRODUCT", 8)  # so that this small model has large products
    monkeypatch.setattr(cuda, "LEAST_GEMM", 16)
    with monkeypatch.context() as patch:
        patch.setattr(device, "Schedule", lambda **numbers: Schedule(**{"shared_bytes": 0, **numbers}))
        est = cp.compile(energy(), wrt=["x"], target="cuda", programs=(), blas=library)
        labelled = est.trace(samples=2, exact=False, **given)
    assert labelled.backend == f"cuda, large products by {library}: not the CPU's bits"
    assert plain.trace(samples=2, exact=False, **given).backend == "cuda"
    np.testing.assert_allclose(labelled.value, plain.trace(samples=2, exact=False, **given).value, rtol=1e-12)
    with pytest.raises(RequestError, match="is for target='cuda'"):
        cp.compile(energy(), wrt=["x"], blas="cublas")


def test_a_library_that_is_not_there_is_named(shim: CudaCompiler, tmp_path: Path) -> None:
    programs = derived("float64", "trace:cp")
    schedule = Schedule(products=8, gemm=1)
    for name in ("cublas", str(tmp_path / "absent.so"), "libm.so.6"):
        with pytest.raises(EnvironmentProblem, match=f"blas='{name}': no library of that name"):
            build_cuda("energy", programs, "float64", shim, [schedule], blas=name)


# Measured schedules


def test_a_measured_schedule_is_kept_and_used(gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "ALTERNATIVES", (({"columns": 1}, {"columns": 2}), ({"workers": 33}, {"workers": 2})))
    monkeypatch.setattr(tune, "TUNED", (TRACE,))
    seconds = {(4, 8): 5.0, (1, 8): 6.0, (2, 8): 4.0, (2, 2): 3.0}  # (columns, workers) -> what the clock shows
    tried = []

    def measured(core: Core, request: Request, given: object, schedule: Schedule) -> float:
        real = sound(core, request, given, schedule)
        assert real > 0
        tried.append((schedule.columns, schedule.workers))
        return seconds[tried[-1]]

    sound = tune._gpu_seconds
    monkeypatch.setattr(tune, "_gpu_seconds", measured)
    small = energy(6, 8)
    given = {"x": np.full((5, 6), 0.3), "W": np.full((8, 6), 0.1), "V": np.full((8, 8), 0.2)}
    est = cp.compile(small, wrt=["x"], target="cuda", programs=())
    found = est.tune(**given)
    assert tried == [(4, 8), (1, 8), (2, 8), (2, 2)]  # 33 workers are impossible
    assert found.schedules["trace"] == Schedule(columns=2, workers=2).numbers()
    found.save(tmp_path / "t.json")
    assert load_tuning(tmp_path / "t.json") == found
    again = cp.compile(small, wrt=["x"], target="cuda", programs=(), tuning=tmp_path / "t.json")
    text = "".join(again.source(["trace"]).values())
    assert "TRACE_WORKERS = 2" in text and "TRACE_COLUMNS = 2" in text and "measured by tune" in text
    assert np.array_equal(again.trace(samples=3, **given).value, est.trace(samples=3, **given).value)


def test_the_alternatives_are_possible() -> None:
    for group in device.ALTERNATIVES:
        for numbers in group:
            assert Schedule(**numbers).numbers().items() >= numbers.items()


def test_a_bad_schedule_in_a_file_is_refused(tmp_path: Path) -> None:
    Tuning("m", ("x",), "float64", schedules={"trace": {"workers": 99}}).save(tmp_path / "bad.json")
    with pytest.raises(RequestError, match="workers=99"):
        load_tuning(tmp_path / "bad.json")
