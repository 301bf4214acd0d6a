"""The numeric check of compiled code against the interpreter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import CheckError
from cpgen.ir.interpret import run
from cpgen.ir.noise import noise_array
from cpgen.native.cuda import CudaProgram
from cpgen.native.module import NativeProgram

Array = NDArray[np.floating]
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


def check_against_interpreter(
    native: NativeProgram | CudaProgram,
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
    tolerance: float | None = None,
    threads: int | None = None,
) -> float:
    """Run ``native`` and the float64 interpreter on the same input; returns the largest error.

    The error of an output is relative to its largest magnitude, at least 1.  Raises CheckError above ``tolerance``
    (default 1e-9 in float64, 2e-3 in float32) or if one result is finite where the other is not.
    """
    scales = {"row_scale": row_scale, "column_scale": column_scale, "variance_scale": variance_scale}
    found = native.run(
        arrays,
        rows,
        columns,
        seed,
        design,
        first_row,
        first_column,
        threads=threads,
        **scales,  # type: ignore[arg-type]
    )
    given: dict[str, Array] = {}
    for node in native.program.inputs:
        if node.kind == "noise":
            given[node.name] = noise_array(
                node, native.program, seed, rows, columns, design, first_row, first_column
            )
        elif node.kind == "scale":
            given[node.name] = np.asarray(arrays.get(node.name, scales[node.name]), np.float64)
        else:
            given[node.name] = np.asarray(arrays[node.name], np.float64)
    expected = run(native.program, given, rows, columns, first_column)
    limit = TOLERANCE[native.plan.real] if tolerance is None else tolerance
    worst = 0.0
    for name, value in expected.items():
        finite = np.isfinite(value)
        if not np.array_equal(finite, np.isfinite(found[name])):
            raise CheckError(
                f"the compiled program {native.name} disagrees about which elements of {name} are finite"
            )
        if not finite.any():
            continue
        scale = max(float(np.max(np.abs(value[finite]))), 1.0)
        error = float(np.max(np.abs(found[name][finite] - value[finite]))) / scale
        if error > limit:
            raise CheckError(
                f"the compiled program {native.name} disagrees with the interpreter: {name} is off by {error:.2e} of its "
                f"largest element (allowed {limit:.0e}); the compiler or its flags may be at fault"
            )
        worst = max(worst, error)
    return worst
