"""Compiled programs as Python callables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import cffi
import numpy as np
from numpy.typing import NDArray

from cpgen.emit import CFiles, emit_c
from cpgen.emit.arguments import FINISHED
from cpgen.errors import DataError, EnvironmentProblem, RequestError, ShapeError
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Node, Program
from cpgen.ir.noise import part
from cpgen.loops import Plan, plan
from cpgen.loops.products import LEAST_BLAS
from cpgen.native.arithmetic import warn_of_arithmetic
from cpgen.native.blas import Blas
from cpgen.native.compiler import Compiler, compile_library, find_compiler
from cpgen.native.fastcall import bound_call_type, fastcall_library, pointer_writer
from cpgen.native.interface import Interface, interface
from cpgen.native.team import client_files, default_threads, join, team_library

Array = NDArray[np.floating]

# workspaces that are kept for the next call: how large one may be, and how many for calls from several threads
SPARE_BYTES, SPARES = 64 << 20, 4

# one library of each compiler stays loaded, and with it the OpenMP runtime: its threads outlive a parallel region, and
# would run into unmapped memory if the last program that needs it were given back
_KEPT: dict[str, object] = {}

FEW_SIZES = 16  # kept

BRIEF = 10_000  # operations below which a bound call keeps the GIL: it takes microseconds


@dataclass(frozen=True)
class NativeModule:
    """A compiled model: its programs by name, its C files, the compiler that was used and the library it made."""

    programs: Mapping[str, NativeProgram]
    files: CFiles
    compiler: Compiler
    library: Path

    def __getitem__(self, name: str) -> NativeProgram:
        return self.programs[name]


def build(
    model_name: str,
    programs: Sequence[Program],
    real: str = "float64",
    tile: int | None | Sequence[int | None] = None,
    compiler: Compiler | None = None,
    libm: bool = False,
    blas: Blas | None = None,
    least: int | None = None,
) -> NativeModule:
    """Plan, emit, compile (or find in the cache) and load ``programs``; ``libm`` as in :func:`cpgen.emit.emit_c`.

    ``tile``: rows in a tile, of all programs or of each; None leaves it to the plan.  ``blas``: computes products of at
    least ``least`` multiplications a row (None: of a measured size); with ``blas=None`` and a ``least`` the programs are
    made for a BLAS, but run without.

    Raises EnvironmentProblem without a working C compiler and UnsupportedError for programs that loops cannot express.
    """
    tiles = [tile] * len(programs) if tile is None or isinstance(tile, int) else tile
    least = least if least is not None else LEAST_BLAS[real] if blas is not None else 0
    plans = [plan(program, real, t, blas=least) for program, t in zip(programs, tiles, strict=True)]
    return load(emit_c(model_name, plans, real, libm=libm), plans, compiler, blas)


def load(
    files: CFiles, plans: Sequence[Plan], compiler: Compiler | None = None, blas: Blas | None = None
) -> NativeModule:
    """Compile (or find in the cache) and load the text of ``plans``.  Raises EnvironmentProblem like :func:`build`."""
    compiler = compiler or find_compiler()
    library = compiled(files, compiler)
    opened = Opened(library, files.name, files.declarations, compiler)
    faces = [interface(p, view) for p, view in zip(plans, files.programs, strict=True)]
    made = {f.name: NativeProgram(f, opened, blas, p) for f, p in zip(faces, plans, strict=True)}
    return NativeModule(made, files, compiler, library)


def compiled(files: CFiles, compiler: Compiler) -> Path:
    """The library of a text.  Raises EnvironmentProblem if there is none to be had."""
    return compile_library(files.name, files.files() | (client_files() if compiler.team else {}), compiler)


def prepare(compiler: Compiler) -> None:
    """Compile what all programs use, where that was not done: who needs it finds it, or the error that is met here."""
    with contextlib.suppress(EnvironmentProblem):
        fastcall_library()
        if compiler.team:
            team_library(compiler)


class Opened:
    """A library of programs in this process; ``declarations`` are those of its text, whose name is ``name``.

    Raises EnvironmentProblem if it cannot be loaded.
    """

    def __init__(self, library: Path, name: str, declarations: str, compiler: Compiler) -> None:
        self.compiler = compiler
        self.ffi = cffi.FFI()
        self.ffi.cdef(declarations)
        try:
            self.functions: Any = self.ffi.dlopen(str(library))
        except OSError as error:
            raise EnvironmentProblem(f"the compiled library {library} cannot be loaded: {error}") from error
        warn_of_arithmetic(getattr(self.functions, f"{name}_arithmetic")())
        if compiler.team:
            join(library, compiler)
        elif compiler.openmp:
            _KEPT.setdefault(compiler.identity, self.functions)


class NativeCall(Protocol):
    """One program on fixed memory: calling it costs little more than the C call.

    It returns ``out``, arrays by name, which every call overwrites.  Not for several threads at once.
    """

    out: dict[str, Array]

    def __call__(self) -> dict[str, Array]: ...


class Outputs(dict[str, Array]):
    """The outputs of a call by name.  ``finite``: the program found all of them finite."""

    finite = False


@dataclass(frozen=True)
class Sizes:
    """The shapes of a call's arrays, in the order of the program's, and its bytes of workspace."""

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    workspace: int


class NativeProgram:
    """One compiled program.  Calls release the GIL and may be made from several threads at once.

    ``blas``: the library that computes its large products, None if it has none or computes them itself.  The library's
    own threads are off during a call, for everybody in this process.
    """

    def __init__(
        self, interface: Interface, opened: Opened, blas: Blas | None = None, plan: Plan | None = None
    ) -> None:
        self.interface = interface
        self.program = interface.program
        self.name = interface.name
        self.real: np.dtype = np.dtype(interface.real)
        self.openmp = opened.compiler.openmp
        self._plan = plan
        self._ffi = ffi = opened.ffi
        self._library = opened.functions  # keeps the functions alive
        function = interface.function
        self._run = getattr(self._library, f"{function}_run")
        self._args_type = f"{function}_args *"
        self._meanings = dict(interface.meanings)
        nodes = {node.name: node for node in self.program.inputs}
        results = dict(self.program.outputs)
        self._inputs = [(name, field, nodes[name]) for name, field in interface.inputs]
        self._outputs = [(name, field, results[name]) for name, field in interface.outputs]
        self._scales = interface.scales
        self._format = ord("d" if interface.real == "float64" else "f")
        self._pointer = ffi.typeof("double[]" if interface.real == "float64" else "float[]")
        self._none = np.empty(1, self.real)
        offset = dict(ffi.typeof(f"{function}_args").fields)
        self._input_offsets = tuple(offset[field].offset for _, field, _ in self._inputs)
        self._output_offsets = tuple(offset[field].offset for _, field, _ in self._outputs)
        self._all = tuple(name for name, _, _ in self._outputs)
        self._sized: dict[tuple[int, int, int], Sizes] = {}
        self._spare: list[NDArray[np.uint8]] = []
        self.blas = blas if interface.blas else None
        if self.blas is not None:
            self._products = ffi.new(offset["blas"].type)
            field = "gemm_64" if self.blas.wide else "gemm"
            kind = ffi.typeof(getattr(self._products, field))
            setattr(self._products, field, ffi.cast(kind, self.blas.gemm[interface.real]))

    @property
    def plan(self) -> Plan:
        """The plan it was compiled from, in the process that did."""
        assert self._plan is not None, f"{self.name} was compiled by another process"
        return self._plan

    def workspace_bytes(self, rows: int, columns: int = 0, threads: int | None = None) -> int:
        """Bytes of workspace of one call."""
        return self._sizes(rows, columns, self._threads(threads)).workspace

    def run(
        self, arrays: Mapping[str, Array], call: Call, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run the program; noise is drawn inside from (seed, design, first_row, first_column).

        ``arrays`` holds an array for each data, parameter and tangent input: C-contiguous, of the program's dtype and of
        exactly the declared shape.  ``out`` gives arrays to write to (required with ``call.accumulate``, which adds to
        them).  Bits do not depend on ``call.threads``.

        Raises ShapeError, DataError or RequestError; nothing has been written then.
        """
        target, result, keep = self._prepare(arrays, call, out)
        with self._alone():
            status = self._run(*target)
        if self.interface.footprint.needed:
            self._give_back(keep[-1])
        if status < 0:
            self.refuse(status)
        answer = Outputs(result)
        answer.finite = status == 0
        return answer

    def bind(
        self,
        arrays: Mapping[str, Array],
        call: Call,
        out: Mapping[str, Array] | None = None,
        returned: dict[str, Array] | None = None,
        not_finite: Callable[[], None] = lambda: None,
    ) -> NativeCall:
        """What :meth:`run` does, as a function to be called many times: memory is looked up here, once.

        Every call reads the arrays as they then are and writes the same outputs; it returns ``returned``, by default the
        outputs.  ``not_finite`` is called where a number in them is infinite or NaN, before they are returned.
        """
        target, result, keep = self._prepare(arrays, call, out)
        answer = result if returned is None else returned

        def settled(status: int) -> dict[str, Array]:
            if status < 0:
                self.refuse(status)
            not_finite()
            return answer

        made = bound_call_type()
        if made is not None and self.blas is None:
            args, work, size = target if len(target) == 3 else (*target, self._ffi.NULL, 0)
            places = (int(self._ffi.cast("intptr_t", place)) for place in (self._run, args, work))
            brief = self.interface.total_operations(call.rows, call.columns) < BRIEF
            return cast(NativeCall, made(*places, size, brief, answer, (self, keep), settled))

        def again() -> dict[str, Array]:
            with self._alone():
                status = self._run(*target)
            return settled(status) if status else answer

        again.out = answer  # type: ignore[attr-defined]
        again.keep = keep  # type: ignore[attr-defined]  # owns the memory behind the addresses
        return cast(NativeCall, again)

    def _prepare(
        self, arrays: Mapping[str, Array], call: Call, out: Mapping[str, Array] | None
    ) -> tuple[tuple[Any, ...], dict[str, Array], tuple[Any, ...]]:
        """The arguments of the C function, the outputs it writes, and what owns the memory (last the workspace, if there
        is any)."""
        rows, columns = call.rows, call.columns
        if columns < 0 or rows < 0:
            raise RequestError(f"rows and columns must not be negative, got rows={rows}, columns={columns}")
        if call.accumulate and not self.interface.accumulable:
            raise RequestError(f"the program {self.name} refused its arguments: {FINISHED}")
        threads = self._threads(call.threads)
        sizes = self._sizes(rows, columns, threads)
        args = self._ffi.new(self._args_type)
        keep: list[Any] = [args]
        result: dict[str, Array] | None = None
        if out is None and not call.accumulate and rows > 0:
            result = self._point_all(args, arrays, sizes, self._all if call.wanted is None else call.wanted, keep)
        if result is None:
            result = self._point_each(args, arrays, sizes, call, out, keep)
        numbers = {
            "n_rows": rows,
            "columns": columns,
            "first_row": call.first_row,
            "first_column": call.first_column,
            "seed": call.seed & 0xFFFFFFFFFFFFFFFF,
            "design": part(call.design, self.program),
            "accumulate": int(call.accumulate),
            "threads": threads,
        }
        for name in self.interface.numbers:
            setattr(args, name, numbers[name])
        for name, field in self._scales:
            setattr(args, field, float(arrays[name] if name in arrays else getattr(call, name)))
        if self.blas is not None:
            args.blas = self._products
        if not self.interface.footprint.needed:
            return (args,), result, tuple(keep)
        work = self._take(sizes.workspace)
        keep.append(work)
        return (args, self._ffi.from_buffer(work), work.size), result, tuple(keep)

    def _point_all(
        self, args: Any, arrays: Mapping[str, Array], sizes: Sizes, wanted: Sequence[str], keep: list[Any]
    ) -> dict[str, Array] | None:
        """Set the pointers of all arrays in one call and return new outputs; None where an array needs a closer look."""
        write = pointer_writer()
        if write is None or any(0 in shape for shape in sizes.outputs):
            return None
        try:
            given = tuple([arrays[name] for name, _, _ in self._inputs])
        except KeyError:
            return None
        place = int(self._ffi.cast("intptr_t", args))
        if write(place, given, sizes.inputs, self._input_offsets, self._format, False) is None:
            return None
        result: dict[str, Array] = {}
        shapes, offsets = [], []
        for name, shape, offset in zip(self._all, sizes.outputs, self._output_offsets, strict=True):
            if name in wanted:
                result[name] = np.empty(shape, self.real)
                shapes.append(shape)
                offsets.append(offset)
        made = tuple(result.values())
        if write(place, made, tuple(shapes), tuple(offsets), self._format, False) is None:
            return None
        keep += [given, made]
        return result

    def _point_each(
        self,
        args: Any,
        arrays: Mapping[str, Array],
        sizes: Sizes,
        call: Call,
        out: Mapping[str, Array] | None,
        keep: list[Any],
    ) -> dict[str, Array]:
        """Set the pointers one by one; errors say what is wrong with which array."""
        for (name, field, node), shape in zip(self._inputs, sizes.inputs, strict=True):
            if name not in arrays:
                raise RequestError(f"the program {self.name} needs the array {name!r}")
            keep.append(self._point(args, field, self._checked(name, arrays[name], node, shape)))
        result: dict[str, Array] = {}
        for (name, field, output), shape in zip(self._outputs, sizes.outputs, strict=True):
            if call.wanted is not None and name not in call.wanted:
                continue
            if out is not None and name in out:
                array = self._checked(f"out[{name}]", out[name], output, shape)
                if not array.flags.writeable:
                    raise DataError(f"out[{name}] is read-only")
                for given, _, _ in self._inputs:  # they are read while outputs are written
                    if np.may_share_memory(array, arrays[given]):
                        raise DataError(f"out[{name}] shares memory with {given}")
            elif call.accumulate:
                raise RequestError(f"accumulate=True adds to the arrays in out=, which lacks {name!r}")
            else:
                array = np.empty(shape, self.real)
            keep.append(self._point(args, field, array))
            result[name] = array
        return result

    def _sizes(self, rows: int, columns: int, threads: int) -> Sizes:
        """The shapes of this call; those of the last few are kept, since calls tend to be alike."""
        key = (rows, columns, threads)
        sizes = self._sized.get(key)
        if sizes is None:
            of: dict[object, int] = {ROWS: rows, COLUMNS: columns}
            sizes = Sizes(
                tuple(_shape(node.shape, of) for _, _, node in self._inputs),
                tuple(_shape(node.shape, of) for _, _, node in self._outputs),
                self.interface.footprint.workspace_bytes(rows, columns, threads),
            )
            if len(self._sized) >= FEW_SIZES:
                self._sized = {}
            self._sized[key] = sizes
        return sizes

    def _take(self, needed: int) -> NDArray[np.uint8]:
        """A workspace; one of an earlier call where it is large enough, since fresh memory costs a fault a page."""
        with contextlib.suppress(IndexError):  # another thread may have been quicker
            spare = self._spare.pop()
            if spare.size >= needed:
                return spare
        try:
            return np.empty(needed, np.uint8)
        except MemoryError as error:
            raise RequestError(
                f"the program {self.name} needs {needed} bytes of workspace; use fewer columns"
            ) from error

    def _give_back(self, work: NDArray[np.uint8]) -> None:
        if work.size <= SPARE_BYTES and len(self._spare) < SPARES:
            self._spare.append(work)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Within it a library for products uses no threads of its own."""
        return contextlib.nullcontext() if self.blas is None else self.blas.alone()

    def refuse(self, status: int) -> NoReturn:
        """Raise the error behind a negative status."""
        meaning = self._meanings.get(status, status)
        raise RequestError(f"the program {self.name} refused its arguments: {meaning}")

    def _threads(self, threads: int | None) -> int:
        if threads is None:
            threads = default_threads() if self.openmp else 1
        if not 1 <= threads <= 65536:
            raise RequestError(f"threads must be between 1 and 65536, got {threads}")
        return threads

    def _checked(self, name: str, array: Array, node: Node, expected: tuple[int, ...]) -> Array:
        array = np.asarray(array)
        if array.shape != expected:
            raise ShapeError(f"{name} has shape {array.shape}, expected {expected}", node.origin)
        if array.dtype != self.real:
            raise DataError(f"{name} has dtype {array.dtype}, expected {self.real}", node.origin)
        if not array.flags.c_contiguous:
            raise DataError(f"{name} is not C-contiguous; pass numpy.ascontiguousarray({name})", node.origin)
        return array

    def _point(self, args: Any, field: str, array: Array) -> object:
        """Set a pointer field; the returned object must outlive the call."""
        if array.size == 0:
            array = self._none  # NULL would mean "not given"
        pointer = self._ffi.from_buffer(self._pointer, array)
        setattr(args, field, pointer)
        return pointer


def _shape(shape: Sequence[Extent], sizes: Mapping[object, int]) -> tuple[int, ...]:
    return tuple(e if isinstance(e, int) else sizes[e] for e in shape)
