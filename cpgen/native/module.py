"""Compiled programs as Python callables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import cffi
import numpy as np
from numpy.typing import NDArray

from cpgen.emit import CFiles, emit_c
from cpgen.emit.views import ProgramView, arrays, output_fields, scale_inputs
from cpgen.errors import DataError, EnvironmentProblem, RequestError, ShapeError
from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Node, Program
from cpgen.loops import Plan, plan
from cpgen.native.compiler import Compiler, compile_library, find_compiler
from cpgen.native.fastcall import fast_call

Array = NDArray[np.floating]


@dataclass(frozen=True)
class NativeModule:
    """A compiled model: its programs by name, its C files and the compiler that was used."""

    programs: Mapping[str, NativeProgram]
    files: CFiles
    compiler: Compiler

    def __getitem__(self, name: str) -> NativeProgram:
        return self.programs[name]


def build(
    model_name: str,
    programs: Sequence[Program],
    real: str = "float64",
    tile: int | None | Sequence[int | None] = None,
    compiler: Compiler | None = None,
    libm: bool = False,
) -> NativeModule:
    """Plan, emit, compile (or find in the cache) and load ``programs``; ``libm`` as in :func:`cpgen.emit.emit_c`.

    ``tile``: rows in a tile, of all programs or of each; None leaves it to the plan.

    Raises EnvironmentProblem without a working C compiler and UnsupportedError for programs that loops cannot express.
    """
    tiles = [tile] * len(programs) if tile is None or isinstance(tile, int) else tile
    plans = [plan(program, real, t) for program, t in zip(programs, tiles, strict=True)]
    return load(emit_c(model_name, plans, real, libm=libm), plans, compiler)


def load(files: CFiles, plans: Sequence[Plan], compiler: Compiler | None = None) -> NativeModule:
    """Compile (or find in the cache) and load the text of ``plans``.  Raises EnvironmentProblem like :func:`build`."""
    compiler = compiler or find_compiler()
    library = compile_library(files.name, files.files(), compiler)
    ffi = cffi.FFI()
    ffi.cdef(files.declarations)
    try:
        loaded = ffi.dlopen(str(library))
    except OSError as error:
        raise EnvironmentProblem(f"the compiled library {library} cannot be loaded: {error}") from error
    made = {
        p.name: NativeProgram(p, view, ffi, loaded, compiler)
        for p, view in zip(plans, files.programs, strict=True)
    }
    return NativeModule(made, files, compiler)


class NativeCall(Protocol):
    """One program on fixed memory: calling it costs little more than the C call.

    It returns ``out``, arrays by name, which every call overwrites.  Not for several threads at once.
    """

    out: dict[str, Array]

    def __call__(self) -> dict[str, Array]: ...


class NativeProgram:
    """One compiled program.  Calls release the GIL and may be made from several threads at once."""

    def __init__(self, plan: Plan, view: ProgramView, ffi: Any, library: Any, compiler: Compiler) -> None:
        self.plan = plan
        self.program = plan.program
        self.name = plan.name
        self.real: np.dtype = np.dtype(plan.real)
        self.openmp = compiler.openmp
        self._ffi = ffi
        self._library = library  # keeps the functions alive
        self._run = getattr(library, f"{view.name}_run")
        self._workspace = getattr(library, f"{view.name}_workspace_bytes")
        self._args_type = f"{view.name}_args *"
        self._meanings = {status.code: status.meaning for status in view.statuses}
        self._arrays = arrays(plan)
        self._outputs = output_fields(plan)
        self._scales = scale_inputs(plan)
        self._pointer = "double[]" if plan.real == "float64" else "float[]"
        self._none = np.empty(1, self.real)

    def workspace_bytes(self, rows: int, columns: int = 0, threads: int | None = None) -> int:
        """Bytes of workspace of one call."""
        return self.plan.workspace_bytes(rows, columns, self._threads(threads))

    def run(
        self,
        arrays: Mapping[str, Array],
        rows: int = 1,
        columns: int = 0,
        seed: int = 0,
        design: int = 0,
        first_row: int = 0,
        first_column: int = 0,
        row_scale: float = 1.0,
        column_scale: float = 1.0,
        variance_scale: float = 0.0,
        accumulate: bool = False,
        out: Mapping[str, Array] | None = None,
        threads: int | None = None,
        wanted: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Run the program; noise is drawn inside from (seed, design, first_row, first_column).

        ``arrays`` holds an array for each data, parameter and tangent input: C-contiguous, of the program's dtype and of
        exactly the declared shape.  ``out`` gives arrays to write to (required with ``accumulate``, which adds to them),
        ``wanted`` the outputs to compute (default all).  Bits do not depend on ``threads``.

        Raises ShapeError, DataError or RequestError; nothing has been written then.
        """
        target, result, _keep = self._prepare(
            arrays,
            rows,
            columns,
            seed,
            design,
            first_row,
            first_column,
            row_scale,
            column_scale,
            variance_scale,
            accumulate,
            out,
            threads,
            wanted,
        )
        status = self._run(*target)
        if status:
            raise self.refusal(status)
        return result

    def bind(
        self,
        arrays: Mapping[str, Array],
        rows: int = 1,
        columns: int = 0,
        seed: int = 0,
        design: int = 0,
        first_row: int = 0,
        first_column: int = 0,
        row_scale: float = 1.0,
        column_scale: float = 1.0,
        variance_scale: float = 0.0,
        accumulate: bool = False,
        out: Mapping[str, Array] | None = None,
        threads: int | None = None,
        wanted: Sequence[str] | None = None,
        returned: dict[str, Array] | None = None,
    ) -> NativeCall:
        """What :meth:`run` does, as a function to be called many times: memory is looked up here, once.

        Every call reads the arrays as they then are and writes the same outputs; it returns ``returned``, by default the
        outputs.
        """
        target, result, keep = self._prepare(
            arrays,
            rows,
            columns,
            seed,
            design,
            first_row,
            first_column,
            row_scale,
            column_scale,
            variance_scale,
            accumulate,
            out,
            threads,
            wanted,
        )
        answer = result if returned is None else returned
        run, args, work = (int(self._ffi.cast("intptr_t", place)) for place in (self._run, *target[:2]))
        fast = fast_call(run, args, work, target[2])

        # closures, since every attribute that is looked up shows in the time of a small program
        if fast is None:
            function = self._run

            def call() -> dict[str, Array]:
                status = function(*target)
                if status:
                    raise self.refusal(status)
                return answer
        else:
            jump, bound = fast

            def call() -> dict[str, Array]:
                status = jump(bound)
                if status:
                    raise self.refusal(status)
                return answer

        call.out = answer  # type: ignore[attr-defined]
        call.keep = keep  # type: ignore[attr-defined]  # owns the memory behind the addresses
        return cast(NativeCall, call)

    def _prepare(
        self,
        arrays: Mapping[str, Array],
        rows: int,
        columns: int,
        seed: int,
        design: int,
        first_row: int,
        first_column: int,
        row_scale: float,
        column_scale: float,
        variance_scale: float,
        accumulate: bool,
        out: Mapping[str, Array] | None,
        threads: int | None,
        wanted: Sequence[str] | None,
    ) -> tuple[tuple[Any, Any, int], dict[str, Array], tuple[object, ...]]:
        """The arguments of the C function, the outputs it writes, and what owns the memory of both."""
        if columns < 0 or rows < 0:
            raise RequestError(f"rows and columns must not be negative, got rows={rows}, columns={columns}")
        sizes: dict[object, int] = {ROWS: rows, COLUMNS: columns}
        args = self._ffi.new(self._args_type)
        keep: list[object] = [args]
        for given in self._arrays:
            if given.name not in arrays:
                raise RequestError(f"the program {self.name} needs the array {given.name!r}")
            array = self._checked(given.name, arrays[given.name], given, sizes)
            keep.append(self._point(args, self.plan.value(given).name, array))
        result: dict[str, Array] = {}
        chosen = [name for name, _, _ in self._outputs] if wanted is None else list(wanted)
        for name, field, node in self._outputs:
            if name not in chosen:
                continue
            if out is not None and name in out:
                array = self._checked(f"out[{name}]", out[name], node, sizes)
                if not array.flags.writeable:
                    raise DataError(f"out[{name}] is read-only")
            elif accumulate:
                raise RequestError(f"accumulate=True adds to the arrays in out=, which lacks {name!r}")
            else:
                array = np.empty(_sizes(node.shape, sizes), self.real)
            keep.append(self._point(args, field, array))
            result[name] = array
        args.n_rows, args.columns = rows, columns
        args.first_row, args.first_column = first_row, first_column
        args.seed = seed & 0xFFFFFFFFFFFFFFFF
        args.design, args.accumulate, args.threads = design, int(accumulate), self._threads(threads)
        factors = {"row_scale": row_scale, "column_scale": column_scale, "variance_scale": variance_scale}
        for scale in self._scales:
            factor = arrays[scale.name] if scale.name in arrays else factors[scale.name]
            setattr(args, self.plan.value(scale).name, float(factor))
        needed = self.plan.workspace_bytes(rows, columns, args.threads)
        try:
            work = np.empty(needed, np.uint8)
        except MemoryError as error:
            raise RequestError(
                f"the program {self.name} needs {needed} bytes of workspace; use fewer columns"
            ) from error
        keep.append(work)
        place = self._ffi.cast("void *", work.ctypes.data)
        return (args, place, needed), result, tuple(keep)

    def refusal(self, status: int) -> RequestError:
        """The error behind a status other than 0."""
        meaning = self._meanings.get(status, status)
        return RequestError(f"the program {self.name} refused its arguments: {meaning}")

    def _threads(self, threads: int | None) -> int:
        if threads is None:
            threads = _processors() if self.openmp else 1
        if not 1 <= threads <= 65536:
            raise RequestError(f"threads must be between 1 and 65536, got {threads}")
        return threads

    def _checked(self, name: str, array: Array, node: Node, sizes: Mapping[object, int]) -> Array:
        array = np.asarray(array)
        expected = _sizes(node.shape, sizes)
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


def _sizes(shape: Sequence[Extent], sizes: Mapping[object, int]) -> tuple[int, ...]:
    return tuple(e if isinstance(e, int) else sizes[e] for e in shape)


def _processors() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1
