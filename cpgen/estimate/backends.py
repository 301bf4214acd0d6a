"""Running one program: natively, or by the interpreter where there is no compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Input, Program
from cpgen.ir.noise import noise_array
from cpgen.native import Compiler, CudaProgram, NativeProgram, check_program

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Call:
    """The numbers of one evaluation besides the arrays."""

    rows: int
    columns: int = 0
    seed: int = 0
    design: int = 0
    first_row: int = 0
    first_column: int = 0
    row_scale: float = 1.0
    column_scale: float = 1.0
    variance_scale: float = 0.0

    def scales(self) -> dict[str, float]:
        return {
            "row_scale": self.row_scale,
            "column_scale": self.column_scale,
            "variance_scale": self.variance_scale,
        }


class Backend(Protocol):
    """Something that evaluates one program; without ``spread`` the variances may be left out."""

    label: str

    def run(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, spread: bool = True
    ) -> dict[str, Array]: ...

    def accumulate(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, sums: dict[str, Array]
    ) -> None: ...

    def workspace_bytes(self, call: Call, threads: int | None) -> int: ...


class Interpreted:
    """The NumPy interpreter on one program."""

    def __init__(self, program: Program, real: np.dtype, label: str) -> None:
        self.program, self.real, self.label = program, real, label

    def run(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, spread: bool = True
    ) -> dict[str, Array]:
        given: dict[str, Array] = {}
        for node in self.program.inputs:
            if node.kind == "noise":
                noise = noise_array(
                    node,
                    self.program,
                    call.seed,
                    call.rows,
                    call.columns,
                    call.design,
                    call.first_row,
                    call.first_column,
                )
                given[node.name] = noise.astype(self.real)
            elif node.kind == "scale":
                given[node.name] = np.asarray(call.scales()[node.name], self.real)
            else:
                given[node.name] = arrays[node.name]
        return run(self.program, given, call.rows, call.columns, call.first_column)

    def accumulate(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, sums: dict[str, Array]
    ) -> None:
        """Add the results of these rows to ``sums``, row by row so that no split of the rows changes a bit."""
        for row in range(call.rows):
            one = {
                n.name: arrays[n.name][row : row + 1] if n.has_rows else arrays[n.name] for n in self._given()
            }
            for name, value in self.run(
                one, replace(call, rows=1, first_row=call.first_row + row), threads
            ).items():
                sums[name] += value

    def _given(self) -> list[Input]:
        return [i for i in self.program.inputs if i.kind not in ("noise", "scale")]

    def workspace_bytes(self, call: Call, threads: int | None) -> int:
        """Every node's array at once: the interpreter keeps them all."""
        sizes = {ROWS: call.rows, COLUMNS: call.columns}
        total = 0
        for node in self.program.nodes():
            total += int(np.prod([e if isinstance(e, int) else sizes[e] for e in node.shape], dtype=np.int64))
        return total * self.real.itemsize


class Native:
    """A compiled program, checked once against the interpreter before it is used.

    Where it is made of functions that give NaN beyond a range (sin, cos and tan of more than 1e6, or 1e4 in float32),
    a NaN in its results has them computed again by ``wide``: the same program on the C library's slower functions.
    ``blas``: the name of the library that computes its large products, for the label.  ``checked``: an earlier process
    did that on this machine.
    """

    def __init__(
        self,
        native: NativeProgram,
        compiler: Compiler,
        wide: Callable[[], NativeProgram] | None = None,
        blas: str = "",
        checked: bool = False,
    ) -> None:
        self.native, self.compiler, self._make_wide = native, compiler, wide
        serial = "" if compiler.openmp else ", serial: the compiler has no OpenMP"
        serial += ", fused" if compiler.joins else ""
        serial += f", large products by {blas}: not the bits of other machines" if native.blas is not None else ""
        self._without_variances = [n for n, _ in native.program.outputs if not n.startswith("var_")]
        self.label = f"native ({compiler.name}{serial})"
        self._wide: NativeProgram | None = None
        self._variants: dict[object, NativeProgram] = {}
        if not checked:
            check_program(native, narrow=wide is not None)

    def variant(self, key: object, make: Callable[[], NativeProgram]) -> NativeProgram:
        """The same program compiled otherwise, made once for each ``key``."""
        if key not in self._variants:
            self._variants[key] = make()
        return self._variants[key]

    def run(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, spread: bool = True
    ) -> dict[str, Array]:
        wanted = None if spread else self._without_variances
        found = self._call(self.native, arrays, call, threads, wanted=wanted)
        if self._too_narrow(found):
            found = self._call(self._widened(), arrays, call, threads, wanted=wanted)
        return found

    def repair(self, arrays: Mapping[str, Array], call: Call, threads: int | None, found: dict[str, Array]) -> None:
        """Compute ``found``, outputs of this program for these arrays, again in place where :meth:`run` would have."""
        if self._too_narrow(found):
            self._call(self._widened(), arrays, call, threads, wanted=list(found), out=found)

    def _too_narrow(self, found: Mapping[str, Array]) -> bool:
        return self._make_wide is not None and any(np.isnan(value).any() for value in found.values())

    def accumulate(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, sums: dict[str, Array]
    ) -> None:
        """Add the results of these rows to ``sums``, carrying on the sums over rows."""
        before = {name: value.copy() for name, value in sums.items()} if self._make_wide else {}
        self._call(self.native, arrays, call, threads, accumulate=True, out=sums)
        if any(np.isnan(sums[name]).any() for name in before):
            for name, value in before.items():
                sums[name][...] = value
            self._call(self._widened(), arrays, call, threads, accumulate=True, out=sums)

    def _widened(self) -> NativeProgram:
        if self._wide is None:
            assert self._make_wide is not None
            self._wide = self._make_wide()
        return self._wide

    @staticmethod
    def _call(
        program: NativeProgram, arrays: Mapping[str, Array], call: Call, threads: int | None, **others: Any
    ) -> dict[str, Array]:
        return program.run(
            arrays,
            rows=call.rows,
            columns=call.columns,
            seed=call.seed,
            design=call.design,
            first_row=call.first_row,
            first_column=call.first_column,
            threads=threads,
            row_scale=call.row_scale,
            column_scale=call.column_scale,
            variance_scale=call.variance_scale,
            **others,
        )

    def workspace_bytes(self, call: Call, threads: int | None) -> int:
        return self.native.workspace_bytes(call.rows, call.columns, threads)


class Cuda:
    """A program on a GPU, checked once against the interpreter before it is used.

    ``blas``: the name of the library it may hand products to, for the label.
    """

    def __init__(self, program: CudaProgram, blas: str = "") -> None:
        self.program = program
        by_library = blas if program.blas is not None else ""
        self.label = f"cuda, large products by {by_library}: not the CPU's bits" if by_library else "cuda"
        self._without_variances = [n for n, _ in program.program.outputs if not n.startswith("var_")]
        check_program(program)

    def run(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, spread: bool = True
    ) -> dict[str, Array]:
        return self._call(arrays, call, wanted=None if spread else self._without_variances)

    def accumulate(
        self, arrays: Mapping[str, Array], call: Call, threads: int | None, sums: dict[str, Array]
    ) -> None:
        """Add the results of these rows to ``sums``, carrying on the sums over rows."""
        self._call(arrays, call, accumulate=True, out=sums)

    def _call(self, arrays: Mapping[str, Array], call: Call, **others: Any) -> dict[str, Array]:
        return self.program.run(
            arrays,
            rows=call.rows,
            columns=call.columns,
            seed=call.seed,
            design=call.design,
            first_row=call.first_row,
            first_column=call.first_column,
            row_scale=call.row_scale,
            column_scale=call.column_scale,
            variance_scale=call.variance_scale,
            **others,
        )

    def workspace_bytes(self, call: Call, threads: int | None) -> int:
        return self.program.workspace_bytes(call.rows, call.columns)
