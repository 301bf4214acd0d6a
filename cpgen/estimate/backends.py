"""Running one program: natively, or by the interpreter where there is no compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cpgen.ir.call import Call, inputs_of, interpreted
from cpgen.ir.nodes import COLUMNS, ROWS, Input, Program
from cpgen.native import Compiler, CudaProgram, NativeProgram, check_program

Array = NDArray[np.floating]


class Backend(Protocol):
    """Something that evaluates one program."""

    label: str

    def run(self, arrays: Mapping[str, Array], call: Call) -> dict[str, Array]: ...

    def accumulate(self, arrays: Mapping[str, Array], call: Call, sums: dict[str, Array]) -> None: ...

    def workspace_bytes(self, call: Call) -> int: ...


class Interpreted:
    """The NumPy interpreter on one program."""

    def __init__(self, program: Program, real: np.dtype, label: str) -> None:
        self.program, self.real, self.label = program, real, label

    def run(self, arrays: Mapping[str, Array], call: Call) -> dict[str, Array]:
        return interpreted(self.program, inputs_of(self.program, arrays, call, self.real), call)

    def accumulate(self, arrays: Mapping[str, Array], call: Call, sums: dict[str, Array]) -> None:
        """Add the results of these rows to ``sums``, row by row so that no split of the rows changes a bit."""
        for row in range(call.rows):
            one = {
                n.name: arrays[n.name][row : row + 1] if n.has_rows else arrays[n.name] for n in self._given()
            }
            for name, value in self.run(one, replace(call, rows=1, first_row=call.first_row + row)).items():
                sums[name] += value

    def _given(self) -> list[Input]:
        return [i for i in self.program.inputs if i.kind not in ("noise", "scale")]

    def workspace_bytes(self, call: Call) -> int:
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

    def run(self, arrays: Mapping[str, Array], call: Call) -> dict[str, Array]:
        found = self.native.run(arrays, call)
        return self._widened().run(arrays, call) if self._too_narrow(found) else found

    def repair(self, arrays: Mapping[str, Array], call: Call, found: dict[str, Array]) -> None:
        """Compute ``found``, outputs of this program for these arrays, again in place where :meth:`run` would have."""
        if self._too_narrow(found):
            self._widened().run(arrays, replace(call, wanted=tuple(found)), out=found)

    def _too_narrow(self, found: Mapping[str, Array]) -> bool:
        return self._make_wide is not None and any(np.isnan(value).any() for value in found.values())

    def accumulate(self, arrays: Mapping[str, Array], call: Call, sums: dict[str, Array]) -> None:
        """Add the results of these rows to ``sums``, carrying on the sums over rows."""
        before = {name: value.copy() for name, value in sums.items()} if self._make_wide else {}
        adding = replace(call, accumulate=True)
        self.native.run(arrays, adding, out=sums)
        if any(np.isnan(sums[name]).any() for name in before):
            for name, value in before.items():
                sums[name][...] = value
            self._widened().run(arrays, adding, out=sums)

    def _widened(self) -> NativeProgram:
        if self._wide is None:
            assert self._make_wide is not None
            self._wide = self._make_wide()
        return self._wide

    def workspace_bytes(self, call: Call) -> int:
        return self.native.workspace_bytes(call.rows, call.columns, call.threads)


class Cuda:
    """A program on a GPU, checked once against the interpreter before it is used.

    ``blas``: the name of the library it may hand products to, for the label.
    """

    def __init__(self, program: CudaProgram, blas: str = "") -> None:
        self.program = program
        by_library = blas if program.blas is not None else ""
        self.label = f"cuda, large products by {by_library}: not the CPU's bits" if by_library else "cuda"
        check_program(program)

    def run(self, arrays: Mapping[str, Array], call: Call) -> dict[str, Array]:
        return self.program.run(arrays, call)

    def accumulate(self, arrays: Mapping[str, Array], call: Call, sums: dict[str, Array]) -> None:
        """Add the results of these rows to ``sums``, carrying on the sums over rows."""
        self.program.run(arrays, replace(call, accumulate=True), out=sums)

    def workspace_bytes(self, call: Call) -> int:
        return self.program.workspace_bytes(call.rows, call.columns)
