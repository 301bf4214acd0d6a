"""Expressions with a running error bound: each value together with how far rounding can have moved it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sympy import Expr, Symbol

from cpgen.scalar.lower import Operations, lower
from cpgen.scalar.memo import remembered
from cpgen.scalar.numeric import exact_float
from cpgen.scalar.primitives import BY_NAME

Array = NDArray[Any]

CALL = 8  # roundings that one function call counts for: the accuracy of the runtime's functions and of NumPy's
LIPSCHITZ = ("sin", "cos")  # slope at most 1, values in [-1, 1]: their bound holds however wide the argument's is

_COMPARE = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal
}  # fmt: skip


@dataclass(frozen=True)
class Arithmetic:
    """What one rounding does: ``unit`` relative to a result, ``least`` where it underflows; ``largest``: the overflow."""

    unit: float
    least: float
    largest: float

    def rounded(self, value: Array, bound: Array, times: float = 1.0) -> Array:
        """The bound after the result was rounded; infinite where it overflows."""
        size = np.abs(value)
        bound = bound + times * self.unit * size
        bound = np.where((size < self.least) & (size > 0), bound + self.least, bound)
        return np.where(size > self.largest, np.inf, bound)


def with_rounding(
    expr: Expr,
    symbols: Sequence[Symbol],
    arrays: Sequence[Array],
    bounds: Sequence[Array | float],
    how: Arithmetic,
    squares: Collection[Symbol] = (),
) -> tuple[Array, Array]:
    """``(value, bound)`` of ``expr`` in float64: rounded as ``how`` says, the value stays within ``bound``.

    ``bounds``: how far each of ``arrays`` may be off.  First-order running error analysis, operation by operation as the
    C text has them (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3); a function's error comes from
    its values at both ends of its argument's interval, a choice that rounding can turn contributes what it would change.
    The bound is infinite where a result may overflow or leave its domain.  ``squares``: symbols that rounding leaves at 0
    or above, so that they have a root however small they are.
    """
    operations = _lowered(expr)
    given = {s: (np.asarray(a, np.float64), b) for s, a, b in zip(symbols, arrays, bounds, strict=True)}
    values: list[Any] = []
    positive: set[int] = set()
    with np.errstate(all="ignore"):
        for number, op in enumerate(operations.ops):
            args = [values[a] for a in op.args]
            is_root = op.kind == "call" and op.value == "sqrt"
            if is_root or (op.kind == "symbol" and op.value in squares):
                positive.add(number)
            if is_root and op.args[0] in positive:
                value, error = args[0]
                values.append(_root(value, error, how))
            else:
                values.append(_apply(op.kind, op.value, args, given, how))
    value, bound = values[operations.results[0]]
    bound = np.where(np.isnan(bound), np.inf, bound)
    return np.asarray(value), np.where(np.isfinite(value), bound, np.inf)


@remembered
def _lowered(expr: Expr) -> Operations:
    return lower([expr])


def _apply(kind: str, what: Any, args: Sequence[Any], given: Any, how: Arithmetic) -> tuple[Any, Any]:
    if kind == "symbol":
        return given[what]
    if kind == "number":
        number = exact_float(what)
        return number, 0.0 if float(np.float32(number)) == number else abs(number) * how.unit
    if kind == "neg":
        return -args[0][0], args[0][1]
    if kind == "not":
        return np.logical_not(args[0][0]), args[0][1]
    if kind == "select":
        (condition, turned), (yes, above), (no, below) = args
        kept = np.where(condition, above, below)
        return np.where(condition, yes, no), np.where(turned, np.maximum(above, below) + np.abs(yes - no), kept)
    if kind == "call":
        return _call(what, args, how)
    (a, e), (b, f) = args
    if kind == "compare":
        near = e + f
        return _COMPARE[what](a, b), (np.abs(a - b) <= near) & (near > 0)
    if kind in ("and", "or"):
        return (np.logical_and if kind == "and" else np.logical_or)(a, b), np.logical_or(e, f)
    if kind in ("add", "sub"):
        value = a + b if kind == "add" else a - b
        return value, how.rounded(value, e + f)
    if kind == "mul":
        value = a * b
        return value, how.rounded(value, np.abs(a) * f + np.abs(b) * e + e * f)
    value = np.divide(a, b)
    room = np.abs(b) - f
    return value, how.rounded(value, np.where(room > 0, (e + np.abs(value) * f) / np.where(room > 0, room, 1), np.inf))


def _root(value: Array, error: Array | float, how: Arithmetic) -> tuple[Any, Any]:
    """The root of what no rounding makes negative."""
    root = np.sqrt(value)
    below = root - np.sqrt(np.maximum(value - error, 0.0))
    return root, how.rounded(root, np.maximum(below, np.sqrt(value + error) - root), CALL)


def _call(what: Any, args: Sequence[tuple[Any, Any]], how: Arithmetic) -> tuple[Any, Any]:
    function: Callable[..., Any] = BY_NAME[what].numpy if isinstance(what, str) else what.numpy
    points = [np.asarray(a, np.float64) for a, _ in args]
    value = function(*points)
    bound: Any = 0.0
    for k, (_, error) in enumerate(args):
        if not np.any(error):
            continue
        if what in LIPSCHITZ:
            bound = bound + np.minimum(error, 2.0)
            continue
        ends = [np.abs(function(*points[:k], points[k] + e, *points[k + 1 :]) - value) for e in (error, -error)]
        bound = bound + np.maximum(*ends)
    exact = what in ("relu", "step", "sign0", "absval", "maximum", "minimum", "floor", "rint")
    return value, how.rounded(value, bound, 0 if exact else CALL)
