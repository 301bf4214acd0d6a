"""``target="cuda"`` through the public interface, on the host's CUDA shim; and what is said where there is no GPU."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import DataError, EnvironmentProblem, RequestError, ShapeError
from cpgen.estimate.options import Options
from cpgen.ir.call import Call
from cpgen.native import cuda
from cpgen.native.cuda import CudaCompiler, build_cuda
from tests.catalogue import CATALOGUE
from tests.short import cases


class OnDevice:
    """What CuPy or PyTorch hand over, as far as the interface goes; the shim's device memory is the host's."""

    def __init__(self, array: np.ndarray, **facts: object) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "version": 3,
            "strides": None,
            "stream": 1,
            **facts,
        }

    @property
    def ndim(self) -> int:
        return self.array.ndim


class Recorded:
    """A tensor whose gradient PyTorch records."""

    ndim = 2

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad")


class Capsule:
    """An array behind DLPack alone: a capsule around the structure of dlpack.h."""

    def __init__(self, array: np.ndarray, device: int = 2) -> None:
        self.array, self.device = array, device

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, stream: int | None = None) -> object:
        assert stream == 1
        a = self.array
        shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        strides = (ctypes.c_int64 * a.ndim)(*(s // a.itemsize for s in a.strides))
        packed = struct.pack("=QiiiBBHQQQ", a.ctypes.data, self.device, 0, a.ndim, 2, 8 * a.itemsize, 1,
                             ctypes.addressof(shape), ctypes.addressof(strides), 0)
        self.keep = ctypes.create_string_buffer(packed + bytes(16)), shape, strides
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self.keep[0]), b"dltensor", None)


@pytest.fixture
def gpu(shim: CudaCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shim in the place of nvcc."""
    monkeypatch.setattr(cuda, "find_nvcc", lambda: shim)


@pytest.mark.parametrize("name", cases(["mlp_tanh", "attention"], ["mlp_tanh"]))
def test_everything_that_the_cpu_does(name: str, gpu: None) -> None:
    entry = CATALOGUE[name]
    arrays = entry.arrays()
    device, host = entry.compile(target="cuda"), entry.compile()
    close = {"rtol": 1e-12, "atol": 1e-12}
    assert device.value(**arrays) == pytest.approx(host.value(**arrays), rel=1e-13)
    for leaf, value in host.gradient(**arrays).items():
        np.testing.assert_allclose(device.gradient(**arrays)[leaf], value, **close)
    rng = np.random.default_rng(0)
    directions = {leaf: rng.normal(size=arrays[leaf].shape) for leaf in entry.wrt}
    for leaf, value in host.hvp(directions, **arrays).items():
        np.testing.assert_allclose(device.hvp(directions, **arrays)[leaf], value, **close)
    here, there = (est.diagonal(samples=4, seed=3, exact=False, **arrays) for est in (host, device))
    for leaf in entry.wrt:
        np.testing.assert_allclose(there[leaf].value, here[leaf].value, **close)
        np.testing.assert_allclose(there[leaf].stderr, here[leaf].stderr, rtol=1e-9, atol=1e-12)
        assert there[leaf].backend == "cuda"
    for pair, block in host.hessian(**arrays).blocks.items():
        np.testing.assert_allclose(device.hessian(**arrays).blocks[pair], block, **close)
    here, there = (est.sketch(samples=2, seed=1, **arrays).p for est in (host, device))
    for leaf, factor in here.items():
        np.testing.assert_allclose(there[leaf], factor, **close)


def test_pieces_of_rows_give_the_bits_of_the_whole(gpu: None) -> None:
    entry = CATALOGUE["mlp_tanh"]
    est = entry.compile(target="cuda")
    arrays = entry.arrays(rows=70)
    whole = est.diagonal(samples=4, seed=5, exact=False, **arrays)
    stream = est.stream(samples=4, seed=5, exact=False)
    with_rows = {v.name for v in est.graph.variables if v.has_rows}
    for begin in (0, 33, 64):
        end = {0: 33, 33: 64, 64: 70}[begin]
        stream.add(**{k: v[begin:end] if k in with_rows else v for k, v in arrays.items()})
    for leaf, found in stream.result().items():
        assert np.array_equal(found.value, whole[leaf].value)


def test_arrays_on_the_device_are_read_in_place(gpu: None) -> None:
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays()
    est = entry.compile(target="cuda")
    expected = est.gradient(**arrays)
    for wrap in (OnDevice, Capsule, lambda v: OnDevice(v, version=2)):
        found = est.gradient(**{k: wrap(v) for k, v in arrays.items()})
        for leaf, value in expected.items():
            assert np.array_equal(found[leaf], value)


def test_arrays_on_the_device_are_checked(gpu: None) -> None:
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays()
    est = entry.compile(target="cuda")
    name = next(v.name for v in est.graph.variables if len(v.shape) == 2)
    good = arrays[name]
    for bad, error, text in (
        (OnDevice(good.astype(np.float32)), DataError, "dtype float32"),
        (OnDevice(np.zeros((2, 2, 2))), ShapeError, "expected"),
        (OnDevice(good, strides=(8, 8 * good.shape[0])), DataError, "not C-contiguous"),
        (OnDevice(good, mask=object()), DataError, "mask"),
        (Recorded(), DataError, "requires grad"),
        (Capsule(np.asfortranarray(good)), DataError, "not C-contiguous"),
        (Capsule(good.astype(np.float16)), DataError, "no array of float32 or float64"),
    ):
        with pytest.raises(error, match=text):
            est.gradient(**{**arrays, name: bad})
    with pytest.raises(DataError, match="target='cuda'"):
        entry.compile(backend="interpreter").gradient(**{**arrays, name: OnDevice(good)})


def test_refused_arguments_have_the_status_of_the_c_text(shim: CudaCompiler) -> None:
    entry = CATALOGUE["mlp_tanh"]
    est = entry.compile(backend="interpreter", programs=())
    program = est.derive("diagonal").program
    module = build_cuda(est.graph.name, [program], "float64", shim)
    scales = {"row_scale": 1.0, "column_scale": 1.0, "variance_scale": 0.0}
    arrays = {k: np.asarray(v) for k, v in entry.arrays().items()}
    rows = next(len(arrays[v.name]) for v in est.graph.variables if v.has_rows)
    with pytest.raises(RequestError, match="design is not 0, 1, 2 or 3"):
        module[program.name].run(arrays, Call(rows=rows, columns=2, design=5, **scales))
    with pytest.raises(RequestError, match="first_row is not in"):
        module[program.name].run(arrays, Call(rows=rows, columns=2, first_row=-1, **scales))
    with pytest.raises(RequestError, match="needs the array"):
        module[program.name].run({}, Call(rows=rows, columns=2, **scales))


def test_no_device_is_said_once_and_clearly(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPGEN_SHIM_DEVICES", "0")
    with pytest.raises(EnvironmentProblem, match="needs a GPU and its driver"):
        CATALOGUE["mlp_tanh"].compile(target="cuda")


def test_no_compiler_is_said_once_and_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_candidates", lambda: iter([None]))
    with pytest.raises(EnvironmentProblem, match="needs nvcc"):
        CATALOGUE["mlp_tanh"].compile(target="cuda")
    estimator = CATALOGUE["mlp_tanh"].compile(target="cuda", programs=())  # nothing is asked of the GPU yet
    assert "mlp_tanh.cu" in estimator.source()


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(RequestError, match="target='tpu' is not one of cpu, cuda"):
        cp.compile(CATALOGUE["mlp_tanh"].build(), target="tpu")
    assert Options().target == "cpu"


def test_the_command_line_writes_cuda(tmp_path: Path) -> None:
    from cpgen.cli import main

    model = tmp_path / "model.py"
    model.write_text(
        "import cpgen as cp, sympy as sp\nmodel = cp.Model('wave')\nn = model.axes('n', n=cp.ROWS)\n"
        "x = model.input('x', n)\nmodel.objective(sp.sin(x[n]))\n"
    )
    assert main(["build", str(model), "--target", "cuda", "--out", str(tmp_path / "c")]) == 0
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["wave.cu", "wave.cuh"]
    assert main(["bundle", str(model), "--target", "cuda", "--prefix", "motor", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "motor_cuda.cu").is_file()
    assert "motor_cuda.cu" in (tmp_path / "b" / "README.md").read_text()
