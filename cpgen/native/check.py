"""The numeric check of compiled code against the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import CheckError
from cpgen.ir.call import Call, inputs_of, interpreted
from cpgen.ir.draws import draws
from cpgen.ir.noise import HADAMARD, variance_of_columns
from cpgen.ir.rounding import run_bounded
from cpgen.native.cuda import CudaProgram
from cpgen.native.module import NativeProgram

Array = NDArray[np.floating]
DOUBLE = np.dtype(np.float64)

# what is right without a look at the bounds: this much of the element, and this much of the largest one
PLAIN = {"float64": (1e-11, 1e-14), "float32": (1e-4, 1e-6)}
# the size of the problem on which a build is checked: two rows fill no tile, two columns give a variance
ROWS_CHECKED, COLUMNS_CHECKED = 2, 2
EXERCISED = 0.25  # of the entries of an output: with fewer another magnitude is tried
COMPARED = 4  # magnitudes at most on which code and interpreter are compared


@dataclass(frozen=True)
class Comparison:
    """What a comparison saw.

    ``error``: the largest, relative to the largest element of its output, at least 1.  ``exercised``: for each output
    the entries that are larger than what rounding may do to them.  ``lost``: whether the code gave NaN where it may (a
    range it does not cover) and the interpreter did not.
    """

    error: float
    exercised: Mapping[str, NDArray[np.bool_]]
    lost: bool = False


def check_against_interpreter(
    native: NativeProgram | CudaProgram, arrays: Mapping[str, Array], call: Call, tolerance: float | None = None
) -> float:
    """Run ``native`` and the float64 interpreter on the same input; returns the largest error.

    The error of an output is relative to its largest magnitude, at least 1.  Raises CheckError if it is above
    ``tolerance`` - by default, if an element is further off than rounding explains
    (:func:`cpgen.ir.rounding.run_bounded`) - or if one result is finite where the other is not.
    """
    given = inputs_of(native.program, arrays, call, DOUBLE)
    expected = interpreted(native.program, given, call)
    found = native.run(arrays, call)
    if tolerance is None:
        return _compare(native, given, expected, found, call).error
    worst = 0.0
    for name, value in expected.items():
        error = _largest(value, found[name])
        if not error <= tolerance:
            raise CheckError(
                f"the compiled program {native.name} disagrees with the interpreter: {name} is off by {error:.2e} of its "
                f"largest element (allowed {tolerance:.0e})"
            )
        worst = max(worst, error)
    return worst


def check_program(native: NativeProgram | CudaProgram, narrow: bool = False) -> None:
    """Raise CheckError if compiled code and interpreter disagree on random data (:func:`cpgen.ir.draws.draws`).

    The first magnitudes are taken for which every result is finite, until a quarter of each output's entries are larger
    than their own rounding, or four have been tried.  ``narrow``: the code may give NaN where its functions do not reach;
    such data are passed over.  Where no data make the results finite, those of the first are compared.
    """
    program, real = native.program, native.real.name
    inputs = [node for node in program.inputs if node.kind not in ("noise", "scale")]
    call = Call(
        ROWS_CHECKED,
        COLUMNS_CHECKED,
        seed=1,
        design=HADAMARD,
        row_scale=1 / ROWS_CHECKED,
        column_scale=1 / COLUMNS_CHECKED,
        variance_scale=variance_of_columns(COLUMNS_CHECKED),
    )
    reached: dict[str, NDArray[np.bool_]] = {}
    first: dict[str, Array] | None = None
    compared = 0
    for drawn in draws(program.nodes(), inputs, ROWS_CHECKED, COLUMNS_CHECKED):
        arrays = {name: array.astype(native.real) for name, array in drawn.items()}
        first = first or arrays
        given = inputs_of(program, arrays, call, DOUBLE)
        expected = interpreted(program, given, call)
        if not all(_finite(value, real) for value in expected.values()):
            continue
        seen = _compare(native, given, expected, native.run(arrays, call), call, narrow)
        before = sum(int(mask.sum()) for mask in reached.values())
        for name, mask in seen.exercised.items():
            reached[name] = mask | reached.get(name, False)
        compared += not seen.lost
        if compared == COMPARED or all(mask.mean() >= EXERCISED for mask in reached.values()):
            return
        # zeros that another magnitude left as they were are the program's own
        if compared > 1 and before == sum(int(mask.sum()) for mask in reached.values()):
            return
    if not reached and first is not None:
        given = inputs_of(program, first, call, DOUBLE)
        _compare(native, given, interpreted(program, given, call), native.run(first, call), call, narrow)


def _finite(value: Array, real: str) -> bool:
    return bool(np.all(np.abs(value) <= np.finfo(real).max))  # false for NaN


def _largest(value: Array, found: Array) -> float:
    """The largest error relative to the largest element, at least 1; infinite where only one is finite."""
    finite = np.isfinite(value)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    scale = max(float(np.max(np.abs(value), where=finite, initial=0.0)), 1.0)
    return float(np.max(np.abs(np.where(finite, found, 0.0) - np.where(finite, value, 0.0)), initial=0.0)) / scale


def _compare(
    native: NativeProgram | CudaProgram,
    given: Mapping[str, Array],
    expected: Mapping[str, Array],
    found: Mapping[str, Array],
    call: Call,
    narrow: bool = False,
) -> Comparison:
    """Compare with a plain tolerance, and with the error bounds what that does not explain; raises CheckError."""
    real = native.real.name
    relative, absolute = PLAIN[real]
    worst, exercised, doubtful = 0.0, {}, False
    for name, value in expected.items():
        finite = np.isfinite(value)
        if np.array_equal(finite, np.isfinite(found[name])):
            size = np.where(finite, np.abs(value), 0.0)
            allowed = relative * size + absolute * float(np.max(size, initial=0.0))
            error = np.abs(np.where(finite, found[name] - np.where(finite, value, 0.0), 0.0))
            doubtful |= bool(np.any(error > allowed))
            exercised[name] = size > allowed
            worst = max(worst, _largest(value, found[name]))
        else:
            doubtful = True
    if not doubtful:
        return Comparison(worst, exercised)
    _, bounds = run_bounded(native.program, given, call.rows, call.columns, call.first_column, real)
    worst, lost = 0.0, False
    for name, value in expected.items():
        bound = bounds[name]
        known = np.isfinite(bound) & np.isfinite(value)
        missing = known & ~np.isfinite(found[name])
        if narrow and np.isnan(found[name][missing]).all() and missing.any():
            lost, known = True, known & ~missing
        error = np.abs(np.where(known, found[name] - np.where(known, value, 0.0), 0.0))
        wrong = known & ~(error <= bound)
        if wrong.any():
            raise CheckError(_message(native, name, value, np.asarray(found[name]), bound, wrong))
        exercised[name] = known & (np.abs(value) > bound)
        scale = max(float(np.max(np.abs(value), where=known, initial=0.0)), 1.0)
        worst = max(worst, float(np.max(error, initial=0.0)) / scale)
    return Comparison(worst, exercised, lost)


def _message(
    native: NativeProgram | CudaProgram, name: str, value: Array, found: Array, bound: Array, wrong: NDArray[np.bool_]
) -> str:
    with np.errstate(all="ignore"):
        excess = np.where(wrong, np.abs(found - value) / np.maximum(bound, 1e-300), 0.0)
    excess = np.where(wrong & ~np.isfinite(excess), np.inf, excess)
    at = np.unravel_index(int(np.argmax(excess)), value.shape)
    where = f"{name}[{', '.join(str(int(k)) for k in at)}]" if at else name
    return (
        f"the compiled program {native.name} disagrees with the interpreter: {where} is {found[at]:.9g}, expected "
        f"{value[at]:.9g} within {bound[at]:.1e}, the bound of rounding in {native.real.name} ({int(wrong.sum())} of "
        f"{value.size} entries are further off). Cancellation in the model is part of that bound, so this is the "
        "compiled code: run `cpgen doctor`, try another compiler (CC=...), or backend='interpreter', and report the model"
    )
