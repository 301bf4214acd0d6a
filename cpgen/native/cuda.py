"""CUDA text to Python callables: nvcc, the cache, device memory."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi
import numpy as np
from numpy.typing import NDArray

from cpgen.emit.arguments import arrays, output_fields, scale_inputs
from cpgen.emit.cuda import CudaFiles, DeviceView, emit_cuda
from cpgen.emit.runtime import template_folder
from cpgen.errors import DataError, EnvironmentProblem, RequestError, ShapeError
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Node, Program
from cpgen.ir.noise import part
from cpgen.loops import Plan
from cpgen.loops.device import device_plan
from cpgen.loops.schedule import Schedule
from cpgen.native.compiler import ASKING, compile_files, run

Array = NDArray[np.floating]

ARCHITECTURES = ("80", "90", "100")
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-shared", "-Xcompiler", "-fPIC", "-cudart", "static")
DECLARED = """
int32_t cpgen_device_count(void);
int32_t cpgen_device_about(char *name, int32_t name_bytes, int64_t *numbers);
const char *cpgen_device_error(int32_t error);
void *cpgen_device_alloc(size_t bytes);
void cpgen_device_free(void *place);
int32_t cpgen_device_put(void *place, const void *from, size_t bytes);
int32_t cpgen_device_get(void *to, const void *place, size_t bytes);
int32_t cpgen_device_wait(uintptr_t stream);
int32_t cpgen_device_wait_all(void);
int32_t cpgen_device_stream(uintptr_t *stream);
int32_t cpgen_device_stream_end(uintptr_t stream);
int32_t cpgen_device_capture(uintptr_t stream);
int32_t cpgen_device_capture_end(uintptr_t stream, uintptr_t *graph);
int32_t cpgen_device_replay(uintptr_t graph, uintptr_t stream);
int32_t cpgen_device_graph_end(uintptr_t graph);
void *cpgen_blas_open(const char *library);
void cpgen_blas_close(void *opened);
int32_t cpgen_blas_float(void *opened, cudaStream_t stream, int64_t outs, int64_t wide, int64_t depth,
    const float *weights, int64_t weights_pitch, int32_t transposed, const float *values, int64_t values_pitch,
    float *out, int64_t out_pitch, int32_t accumulate);
int32_t cpgen_blas_double(void *opened, cudaStream_t stream, int64_t outs, int64_t wide, int64_t depth,
    const double *weights, int64_t weights_pitch, int32_t transposed, const double *values, int64_t values_pitch,
    double *out, int64_t out_pitch, int32_t accumulate);
"""
CUBLAS = tuple(f"libcublas.so{version}" for version in ("", ".13", ".12", ".11"))
LEAST_GEMM = 512 * 512  # multiplications a row from which on a product is handed to a library, where one is asked for

ALL_STREAMS = -1  # before version 3 of the interface nobody says which stream an array was made on
DLPACK_GPU = (2, 13)  # CUDA memory, and managed memory
_DLPACK = cffi.FFI()
_DLPACK.cdef(
    """
    typedef struct {
        void *data;
        int32_t device_type, device_id, ndim;
        uint8_t code, bits;
        uint16_t lanes;
        int64_t *shape, *strides;
        uint64_t byte_offset;
    } DLTensor;
    """
)
INSTALL = 'install the CUDA toolkit, or pip install "cuda-toolkit[nvcc,cudart]"'


@dataclass(frozen=True)
class CudaCompiler:
    """A compiler of CUDA text; ``identity`` is everything besides the source that decides what is compiled."""

    path: str
    version: str
    flags: tuple[str, ...]

    @property
    def identity(self) -> str:
        return "\n".join((self.path, self.version, " ".join(self.flags)))

    def command(self, sources: Sequence[str], target: str) -> list[str]:
        return [self.path, *self.flags, *sources, "-o", target]


def find_nvcc() -> CudaCompiler:
    """nvcc of the environment variable NVCC, of PATH, of the Python package cuda-toolkit or of /usr/local/cuda.

    Native code for compute capabilities 8.0, 9.0 and 10.0 (those the compiler knows), and PTX for later ones.
    Raises EnvironmentProblem if there is none.
    """
    found = next((p for p in _candidates() if p and os.access(p, os.X_OK)), None)
    if found is None:
        raise EnvironmentProblem(
            f"target='cuda' needs nvcc, which was not found; {INSTALL}, or name it in the environment variable NVCC"
        )
    try:
        version = _ask(found, "--version").strip().splitlines()[-1]
        known = _ask(found, "--list-gpu-arch").split()
    except IndexError as error:
        raise EnvironmentProblem(f"nvcc ({found}) does not run: it does not tell its version") from error
    chosen = [a for a in ARCHITECTURES if f"compute_{a}" in known] or ["80"]
    code = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in chosen]
    code.append(f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}")
    libraries = Path(found).resolve().parents[1] / "lib"
    return CudaCompiler(found, version, (*FLAGS, *code, *([f"-L{libraries}"] if libraries.is_dir() else [])))


def _candidates() -> Iterator[str | None]:
    yield os.environ.get("NVCC")
    yield shutil.which("nvcc")
    for folder in sys.path:
        for place in sorted(Path(folder or ".").glob("nvidia/cu*/bin/nvcc"), reverse=True):
            yield str(place)
    yield "/usr/local/cuda/bin/nvcc"


def _ask(path: str, question: str) -> str:
    done = run([path, question], ASKING)
    if done.returncode != 0:
        raise EnvironmentProblem(f"nvcc ({path}) does not run: {done.stderr.strip()[:2000]}")
    return done.stdout


def build_cuda(
    model_name: str,
    programs: Sequence[Program],
    real: str = "float64",
    compiler: CudaCompiler | None = None,
    schedules: Sequence[Schedule | None] | None = None,
    blas: str = "",
) -> CudaModule:
    """Plan, emit, compile (or find in the cache) and load ``programs`` for a GPU.

    ``schedules``: of each program, in place of the chosen one.  ``blas``: "cublas", or the path of a library with its
    functions, for products of LEAST_GEMM multiplications or more (in given schedules: of their ``gemm``); results then
    have not the bits of the CPU.
    Raises EnvironmentProblem without nvcc, without a GPU that its code can run on, or if ``blas`` cannot be used.
    """
    gemm = LEAST_GEMM if blas else 0
    given = schedules or [None] * len(programs)
    plans = [device_plan(program, real, schedule, gemm) for program, schedule in zip(programs, given, strict=True)]
    files = emit_cuda(model_name, plans, real)
    compiler = compiler or find_nvcc()
    helper = (template_folder() / "cuda" / "device.cu").read_text(encoding="utf-8")
    sources = [f"{files.name}.cu", "device.cu"]
    library = compile_files(
        files.name,
        {**files.files(), "device.cu": helper},
        compiler.identity,
        lambda target: compiler.command(sources, target),
        ".cu",
    )
    ffi = cffi.FFI()
    ffi.cdef("typedef void *cudaStream_t;\n" + DECLARED + files.declarations)
    try:
        loaded = ffi.dlopen(str(library))
    except OSError as error:
        raise EnvironmentProblem(f"the compiled library {library} cannot be loaded: {error}") from error
    device = Device(ffi, loaded)
    multiplies = device.blas(blas) if blas and any(view.gemm for view in files.programs) else None
    made = {
        p.name: CudaProgram(p, view, ffi, loaded, device, multiplies)
        for p, view in zip(plans, files.programs, strict=True)
    }
    return CudaModule(made, files, compiler, device, library)


@dataclass(frozen=True)
class About:
    """A device: its name, multiprocessors, compute capability (major, minor), clock rates of processor and memory in kHz
    (0 where the driver does not say) and the width of its memory bus in bits."""

    name: str
    multiprocessors: int
    major: int
    minor: int
    clock_khz: int
    memory_khz: int
    bus_bits: int


class Device:
    """Memory of the GPU, through the functions of device.cu.  Raises EnvironmentProblem where no GPU can be used."""

    def __init__(self, ffi: Any, library: Any) -> None:
        self._ffi, self._library = ffi, library
        count = library.cpgen_device_count()
        if count <= 0:
            reason = "there is none" if count == 0 else ffi.string(library.cpgen_device_error(-count)).decode()
            raise EnvironmentProblem(
                f"target='cuda' needs a GPU and its driver: {reason}; leave out target='cuda' to compute on the CPU"
            )

    def about(self) -> About:
        """What the device is."""
        name, numbers = self._ffi.new("char[256]"), self._ffi.new("int64_t[6]")
        self.check(self._library.cpgen_device_about(name, 256, numbers))
        return About(self._ffi.string(name).decode(), *(int(n) for n in numbers))

    @contextmanager
    def memory(self, bytes_: int) -> Iterator[Any]:
        """Device memory for as long as the context lasts.  Raises RequestError if there is not enough."""
        place = self._library.cpgen_device_alloc(max(bytes_, 1))
        if place == self._ffi.NULL:
            raise RequestError(f"the GPU has no {bytes_} bytes of memory left; use fewer rows or columns at a time")
        try:
            yield place
        finally:
            self._library.cpgen_device_free(place)

    def address(self, place: Any) -> int:
        return int(self._ffi.cast("uintptr_t", place))

    def put(self, place: Any, array: Array) -> None:
        self.check(self._library.cpgen_device_put(place, self._ffi.from_buffer(array), array.nbytes))

    def get(self, array: Array, place: Any) -> None:
        self.check(self._library.cpgen_device_get(self._ffi.from_buffer(array), place, array.nbytes))

    def wait(self, stream: int = 0) -> None:
        library = self._library
        self.check(library.cpgen_device_wait_all() if stream == ALL_STREAMS else library.cpgen_device_wait(stream))

    def blas(self, name: str) -> Any:
        """A library for products, opened: its context, which lives as long as it is referred to.

        ``name``: "cublas", or a path.  Raises EnvironmentProblem.
        """
        for place in CUBLAS if name == "cublas" else (name,):
            opened = self._library.cpgen_blas_open(place.encode())
            if opened != self._ffi.NULL:
                return self._ffi.gc(opened, self._library.cpgen_blas_close)
        raise EnvironmentProblem(f"blas={name!r}: no library of that name with the functions of cuBLAS can be used here")

    @contextmanager
    def stream(self) -> Iterator[int]:
        """A stream for as long as the context lasts."""
        made = self._ffi.new("uintptr_t *")
        self.check(self._library.cpgen_device_stream(made))
        try:
            yield int(made[0])
        finally:
            self._library.cpgen_device_stream_end(made[0])

    @contextmanager
    def captured(self, stream: int, enqueue: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """What ``enqueue`` puts on ``stream``, as a CUDA graph; calling what is yielded enqueues it there again.

        Raises EnvironmentProblem if something in it cannot be captured.
        """
        library, graph = self._library, self._ffi.new("uintptr_t *")
        self.check(library.cpgen_device_capture(stream))
        try:
            enqueue()
        finally:
            error = library.cpgen_device_capture_end(stream, graph)
        self.check(error)
        try:
            yield lambda: self.check(library.cpgen_device_replay(graph[0], stream))
        finally:
            library.cpgen_device_graph_end(graph[0])

    def check(self, error: int) -> None:
        """Raise EnvironmentProblem for a CUDA error."""
        if error:
            text = self._ffi.string(self._library.cpgen_device_error(error)).decode()
            raise EnvironmentProblem(f"the GPU reports: {text}")


@dataclass(frozen=True)
class CudaModule:
    """A compiled model: its programs by name, its text and the compiler."""

    programs: Mapping[str, CudaProgram]
    files: CudaFiles
    compiler: CudaCompiler
    device: Device
    path: Path  # of the compiled library

    def __getitem__(self, name: str) -> CudaProgram:
        return self.programs[name]


@dataclass(frozen=True)
class DeviceArray:
    """An array that lies on the GPU already: its address, shape and dtype.

    ``stream``: what is to be waited for, None if nothing is.  ``owner`` keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype
    stream: int | None
    owner: object


def on_device(name: str, value: object) -> DeviceArray | None:
    """``value`` as an array of the GPU, without a copy, if it says that it is one; else None.

    Understood are ``__cuda_array_interface__`` (CuPy, PyTorch, JAX, Numba) and DLPack.  Raises DataError if the array is
    not C-contiguous or has a mask.
    """
    try:
        facts = getattr(value, "__cuda_array_interface__", None)
    except (RuntimeError, TypeError) as error:  # PyTorch refuses where it records gradients
        raise DataError(f"{name} cannot be read in place: {error}") from error
    if facts is None:
        return _from_dlpack(name, value)
    shape, dtype = tuple(facts["shape"]), np.dtype(facts["typestr"])
    _check_contiguous(name, shape, facts.get("strides"), dtype.itemsize)
    if facts.get("mask") is not None:
        raise DataError(f"{name} has a mask, which is not supported")
    stream = facts.get("stream") if facts.get("version", 0) >= 3 else ALL_STREAMS
    return DeviceArray(facts["data"][0], shape, dtype, stream, value)


def _check_contiguous(name: str, shape: Sequence[int], strides: Sequence[int] | None, step: int) -> None:
    expected: list[int] = []
    for extent in reversed(shape):
        expected.insert(0, step)
        step *= extent
    if strides is not None and 0 not in shape and list(strides) != expected:
        raise DataError(f"{name} is not C-contiguous on the GPU; make it so first (PyTorch: {name}.contiguous())")


def _from_dlpack(name: str, value: Any) -> DeviceArray | None:
    """An array that hands itself over as a DLPack capsule, version 0 of the exchange; None unless it lies on a GPU."""
    if not hasattr(value, "__dlpack__") or not hasattr(value, "__dlpack_device__"):
        return None
    if value.__dlpack_device__()[0] not in DLPACK_GPU:
        return None
    capsule = value.__dlpack__(stream=1)  # the producer makes the default stream wait for its own
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLPACK.cast("DLTensor *", pointer(capsule, b"dltensor"))
    if tensor.code != 2 or tensor.bits not in (32, 64) or tensor.lanes != 1:
        raise DataError(f"{name} is no array of float32 or float64 on the GPU")
    dtype = np.dtype(np.float32 if tensor.bits == 32 else np.float64)
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    strides = None if tensor.strides == _DLPACK.NULL else [tensor.strides[k] for k in range(tensor.ndim)]
    _check_contiguous(name, shape, strides, 1)
    address = int(_DLPACK.cast("uintptr_t", tensor.data)) + tensor.byte_offset
    return DeviceArray(address, shape, dtype, None, capsule)  # whoever drops the capsule gives the memory back


def driver_found() -> bool:
    """Whether the driver's library can be loaded; says nothing about a device."""
    try:
        cffi.FFI().dlopen("libcuda.so.1")
    except OSError:
        return False
    return True


class CudaProgram:
    """One program on the GPU."""

    def __init__(self, plan: Plan, view: DeviceView, ffi: Any, library: Any, device: Device, blas: Any = None) -> None:
        self.plan, self.program, self.name = plan, plan.program, plan.name
        self.real: np.dtype = np.dtype(plan.real)
        self.device = device
        self._ffi = ffi
        self._run = getattr(library, f"{view.name}_run_cuda")
        self._workspace = getattr(library, f"{view.name}_workspace_bytes_cuda")
        self._args_type = f"{view.name}_args *"
        self._meanings = {status.code: status.meaning for status in view.statuses}
        self._arrays, self._outputs, self._scales = arrays(plan), output_fields(plan), scale_inputs(plan)
        self._pointer = "double *" if plan.real == "float64" else "float *"
        # the caller's library for large products, and the function that calls it
        self.blas = blas if view.gemm else None
        self._gemm = library.cpgen_blas_double if plan.real == "float64" else library.cpgen_blas_float

    def workspace_bytes(self, rows: int, columns: int = 0) -> int:
        """Bytes of device workspace of one call."""
        return int(self._workspace(rows, columns))

    def run(
        self,
        given: Mapping[str, Array | DeviceArray],
        call: Call,
        out: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Run the program like :meth:`cpgen.native.NativeProgram.run`.

        Arrays of NumPy are copied to the GPU, those that lie there are read in place; results are NumPy's.
        Raises ShapeError, DataError, RequestError, or EnvironmentProblem if the GPU reports an error.
        """
        sizes = _sizes(call)
        results = {}
        for name, _, node in self._outputs:
            if call.wanted is not None and name not in call.wanted:
                continue
            if out is not None and name in out:
                self._check(f"out[{name}]", out[name], node, sizes)
                results[name] = out[name]
            elif call.accumulate:
                raise RequestError(f"accumulate=True adds to the arrays in out=, which lacks {name!r}")
            else:
                results[name] = np.zeros(_shape(node, sizes), self.real)
        with self.prepared(given, results, call) as (launch, places):
            if call.accumulate:
                for name, place in places.items():
                    self.device.put(place, results[name])
            launch()
            self.device.wait()
            for name, place in places.items():
                self.device.get(results[name], place)
        return results

    def outputs(self, call: Call) -> dict[str, Array]:
        """Arrays of zeros for all results."""
        sizes = _sizes(call)
        return {name: np.zeros(_shape(node, sizes), self.real) for name, _, node in self._outputs}

    @contextmanager
    def prepared(
        self, given: Mapping[str, Array | DeviceArray], results: Mapping[str, Array], call: Call
    ) -> Iterator[tuple[Callable[..., None], dict[str, Any]]]:
        """``(launch, places)``: ``launch(stream)`` enqueues the program and returns at once, any number of times (without
        a stream on the default one); ``places`` are the addresses on the GPU of arrays like ``results``.  All device
        memory ends with the context.
        """
        sizes = _sizes(call)
        args = self._ffi.new(self._args_type)
        places: dict[str, Any] = {}
        with ExitStack() as held:
            for node in self._arrays:
                if node.name not in given:
                    raise RequestError(f"the program {self.name} needs the array {node.name!r}")
                array = given[node.name]
                self._check(node.name, array, node, sizes)
                if isinstance(array, DeviceArray):
                    if array.stream is not None:
                        self.device.wait(array.stream)
                    address = self._ffi.cast(self._pointer, array.address)
                else:
                    place = held.enter_context(self.device.memory(array.nbytes))
                    self.device.put(place, np.ascontiguousarray(array))
                    address = self._ffi.cast(self._pointer, place)
                setattr(args, self.plan.value(node).name, address)
            for name, field, _ in self._outputs:
                if name in results:
                    places[name] = held.enter_context(self.device.memory(results[name].nbytes))
                    setattr(args, field, self._ffi.cast(self._pointer, places[name]))
            args.n_rows, args.columns, args.threads = call.rows, call.columns, 1
            args.first_row, args.first_column = call.first_row, call.first_column
            args.seed = call.seed & 0xFFFFFFFFFFFFFFFF
            args.design, args.accumulate = part(call.design, self.program), int(call.accumulate)
            if self.blas is not None:
                args.gemm, args.gemm_context = self._gemm, self.blas
            for scale in self._scales:
                setattr(args, self.plan.value(scale).name, float(getattr(call, scale.name)))
            needed = self.workspace_bytes(call.rows, call.columns)
            work = held.enter_context(self.device.memory(needed))

            def launch(stream: int = 0) -> None:
                status = self._run(args, work, needed, self._ffi.cast("cudaStream_t", stream))
                if status:
                    meaning = self._meanings.get(status, status)
                    raise RequestError(f"the program {self.name} refused its arguments: {meaning}")

            yield launch, places

    def _check(self, name: str, array: Array | DeviceArray, node: Node, sizes: Mapping[object, int]) -> None:
        expected = _shape(node, sizes)
        if array.shape != expected:
            raise ShapeError(f"{name} has shape {array.shape}, expected {expected}", node.origin)
        if array.dtype != self.real:
            raise DataError(f"{name} has dtype {array.dtype}, expected {self.real}", node.origin)


def _sizes(call: Call) -> dict[object, int]:
    return {ROWS: call.rows, COLUMNS: call.columns}


def _shape(node: Node, sizes: Mapping[object, int]) -> tuple[int, ...]:
    return tuple(e if isinstance(e, int) else sizes[e] for e in node.shape)
