"""Expressions as vectorised NumPy functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sympy import Expr, Symbol

from cpgen.errors import UnsupportedError
from cpgen.scalar.lower import Spelling, lower, render
from cpgen.scalar.memo import remembered
from cpgen.scalar.primitives import BY_NAME

Array = NDArray[Any]


def exact_float(value: Expr) -> float:
    """The double nearest to a real constant; raises UnsupportedError if it is too large for one."""
    result = float(value) if value.is_Float else _nearest(value)
    if not np.isfinite(result):
        raise UnsupportedError(f"the constant {value} is too large for a floating-point number")
    return result


def _nearest(value: Expr) -> float:
    try:
        return int(value.p) / int(value.q) if value.is_Rational else float(value.evalf(40))
    except OverflowError:
        return float("inf")


def to_numpy(exprs: Sequence[Expr], symbols: Sequence[Symbol]) -> Callable[..., list[Array]]:
    """``f(*arrays) -> [array, ...]``: the values of ``exprs`` where ``symbols`` take the values of ``arrays``.

    The arrays broadcast together and every result has the broadcast shape (it may be a read-only view or an input).  The
    results are float32 if all arrays are, else float64.  No floating-point warnings are raised; overflow gives Inf and
    a domain error NaN.
    """
    return _compile(tuple(exprs), tuple(symbols))


@remembered
def _compile(exprs: tuple[Expr, ...], symbols: tuple[Symbol, ...]) -> Callable[..., list[Array]]:
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

    spelling = Spelling(
        symbol=symbol_name,
        number=lambda value: repr(exact_float(value)),
        call=call,
        select=lambda condition, yes, no: f"where({condition}, {yes}, {no})",
        join=lambda kind, left, right: f"{left} {'&' if kind == 'and' else '|'} {right}",
        negate=lambda condition: f"invert({condition})",
    )
    lets, results = render(lower(exprs), spelling, lambda k: f"t{k}")
    lines = [f"def evaluate({', '.join(names.values())}):"]
    lines += [f"    {name} = {text}" for name, text in lets]
    lines.append(f"    return [{', '.join(results)}]")
    exec("\n".join(lines), environment)  # noqa: S102 - the text is built from our own table above
    evaluate = environment["evaluate"]

    def evaluator(*arrays: Any) -> list[Array]:
        if len(arrays) != len(symbols):
            raise TypeError(f"expected {len(symbols)} arrays, got {len(arrays)}")
        inputs = [np.asarray(array) for array in arrays]
        dtype = np.result_type(*inputs) if inputs else np.dtype(np.float64)
        if dtype != np.float32:
            dtype = np.dtype(np.float64)
        inputs = [array.astype(dtype, copy=False) for array in inputs]
        shape = np.broadcast_shapes(*(array.shape for array in inputs))
        with np.errstate(all="ignore"):
            values = evaluate(*inputs)
        return [np.broadcast_to(np.asarray(value, dtype), shape) for value in values]

    return evaluator
