"""Expressions as vectorised NumPy functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Expr, Symbol

from cpgen.errors import UnsupportedError
from cpgen.scalar.lower import Spelling, lower, render
from cpgen.scalar.memo import remembered
from cpgen.scalar.primitives import BY_NAME

Array = NDArray[Any]

_OPERATORS = {"and": "&", "or": "|"}


def exact_float(value: Expr, real: str = "float64") -> float:
    """The double nearest to a real constant, checked to be a number of the type ``real``.

    Raises UnsupportedError if the constant overflows there, or underflows: what is below the smallest normal number and
    loses more than one part in 10^6 there.
    """
    number = sympy.Rational(value) if value.is_Rational or value.is_Float else value.evalf(40)
    if not number.is_finite:
        raise UnsupportedError(f"the constant {value} is not a finite real number")
    result = _nearest(number)
    stored = result
    if real == "float32":
        with np.errstate(over="ignore", under="ignore"):
            stored = float(np.float32(result))
    if np.isfinite(stored):
        if abs(stored) >= np.finfo(real).smallest_normal or number == 0:
            return result
        if abs(sympy.Rational(stored) / number - 1) < 1e-6:
            return result
    which = "overflows" if not np.isfinite(stored) else "underflows"
    raise UnsupportedError(
        f"the constant {value.evalf(6)} {which} in {real}, whose normal numbers reach from "
        f"{np.finfo(real).smallest_normal:.3g} to {np.finfo(real).max:.3g}; change the units"
        + (", or use real='float64'" if real == "float32" and np.isfinite(result) and result else "")
    )


def check_constants(expr: Expr, real: str) -> None:
    """Raise UnsupportedError if the operations of ``expr`` need a constant that ``real`` does not hold."""
    for op in lower([expr], real).ops:
        if op.kind == "number":
            exact_float(op.value, real)


def _nearest(number: Expr) -> float:
    try:
        return int(number.p) / int(number.q) if number.is_Rational else float(number)
    except OverflowError:
        return float("inf")


def to_numpy(exprs: Sequence[Expr], symbols: Sequence[Symbol]) -> Callable[..., list[Array]]:
    """``f(*arrays) -> [array, ...]``: the values of ``exprs`` where ``symbols`` take the values of ``arrays``.

    The arrays broadcast together and every result has the broadcast shape (it may be a read-only view or an input).  The
    results are float32 if all arrays are, else float64.  No floating-point warnings are raised; overflow gives Inf and
    a domain error NaN.
    """
    return _evaluator(tuple(exprs), tuple(symbols))


@remembered
def _evaluator(exprs: tuple[Expr, ...], symbols: tuple[Symbol, ...]) -> Callable[..., list[Array]]:
    def evaluator(*arrays: Any) -> list[Array]:
        if len(arrays) != len(symbols):
            raise TypeError(f"expected {len(symbols)} arrays, got {len(arrays)}")
        inputs = [np.asarray(array) for array in arrays]
        dtype = np.result_type(*inputs) if inputs else np.dtype(np.float64)
        if dtype != np.float32:
            dtype = np.dtype(np.float64)
        inputs = [array.astype(dtype, copy=False) for array in inputs]
        shape = np.broadcast_shapes(*(array.shape for array in inputs))
        evaluate = _compile(exprs, symbols, dtype.name)
        with np.errstate(all="ignore"):
            values = evaluate(*inputs)
        return [np.broadcast_to(np.asarray(value, dtype), shape) for value in values]

    return evaluator


@remembered
def _compile(exprs: tuple[Expr, ...], symbols: tuple[Symbol, ...], real: str) -> Callable[..., Any]:
    names = {symbol: f"a{k}" for k, symbol in enumerate(symbols)}
    environment: dict[str, Any] = {"where": np.where, "invert": np.logical_not}

    def symbol_name(symbol: Symbol) -> str:
        if symbol not in names:
            raise UnsupportedError(f"the expression uses {symbol}, which has no value")
        return names[symbol]

    def call(function: Any, arguments: Sequence[str]) -> str:
        if isinstance(function, str):
            name, implementation = function, BY_NAME[function].numpy
        else:
            # two user functions may share a name
            same = [n for n, f in environment.items() if f is function.numpy]
            name, implementation = (same or [f"user{len(environment)}"])[0], function.numpy
        environment[name] = implementation
        return f"{name}({', '.join(arguments)})"

    spelling = Spelling[str](
        symbol=symbol_name,
        number=lambda value: repr(exact_float(value, real)),
        loose=lambda text: "neg" if text.startswith("-") else "",
        temporary=str,
        call=call,
        operate=lambda op, left, right: f"{left} {_OPERATORS.get(op, op)} {right}",
        minus=lambda text: f"-{text}",
        negate=lambda condition: f"invert({condition})",
        select=lambda condition, yes, no: f"where({condition}, {yes}, {no})",
        group=lambda text: f"({text})",
    )
    lets, results = render(lower(exprs, real), spelling, lambda k: f"t{k}")
    lines = [f"def evaluate({', '.join(names.values())}):"]
    lines += [f"    {name} = {text}" for name, text in lets]
    lines.append(f"    return [{', '.join(results)}]")
    exec("\n".join(lines), environment)  # noqa: S102 - the text is built from our own table above
    evaluate: Callable[..., Any] = environment["evaluate"]
    return evaluate
