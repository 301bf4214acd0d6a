"""Functions to use inside definitions."""

from __future__ import annotations

from typing import Any

import sympy

from cpgen.errors import ModelError
from cpgen.model.expressions import Axis, Reduction, free_axes
from cpgen.model.place import caller


def _axes(name: str, body: Any, axes: tuple[Any, ...]) -> tuple[sympy.Expr, tuple[Axis, ...]]:
    expr = sympy.sympify(body)
    if not axes:
        raise ModelError(f"{name}({expr}) names no axis to run along", caller())
    for axis in axes:
        if not isinstance(axis, Axis):
            raise ModelError(f"{name}(...) runs along axes of the model, and {axis!r} is none", caller())
        if axis.is_rows:
            raise ModelError(
                f"{name} over {axis.name}, the rows: the objective is one number per row and rows are summed at the end",
                caller(),
            )
        if axis not in free_axes(expr):
            raise ModelError(f"{name} along {axis.name}, which does not occur in {expr}", caller())
    if len(set(axes)) != len(axes):
        raise ModelError(f"{name} names an axis twice: {', '.join(a.name for a in axes)}", caller())
    return expr, axes


def sum(expr: Any, *axes: Any) -> sympy.Expr:
    """The sum of ``expr`` over one or more axes."""
    return Reduction("sum", *_axes("sum", expr, axes))


def prod(expr: Any, *axes: Any) -> sympy.Expr:
    """The product of ``expr`` over one or more axes; derivatives are exact at zeros too."""
    return Reduction("prod", *_axes("prod", expr, axes))


def mean(expr: Any, *axes: Any) -> sympy.Expr:
    """The mean of ``expr`` over one or more axes."""
    body, along = _axes("mean", expr, axes)
    count = 1
    for axis in along:
        count *= axis.size
    return Reduction("sum", body, along) / count


def max(expr: Any, *axes: Any) -> sympy.Expr:
    """The largest value of ``expr`` over one or more axes; where several are equal, one of them has the derivative."""
    return Reduction("max", *_axes("max", expr, axes))


def min(expr: Any, *axes: Any) -> sympy.Expr:
    """The smallest value of ``expr`` over one or more axes; where several are equal, one of them has the derivative."""
    return Reduction("min", *_axes("min", expr, axes))


def logsumexp(expr: Any, *axes: Any) -> sympy.Expr:
    """``log(sum(exp(expr)))`` over one or more axes, without overflow."""
    return Reduction("logsumexp", *_axes("logsumexp", expr, axes))


def softmax(expr: Any, *axes: Any) -> sympy.Expr:
    """``exp(expr) / sum(exp(expr))`` over one or more axes, without overflow; the result varies over them."""
    return Reduction("softmax", *_axes("softmax", expr, axes))


def norm(expr: Any, *axes: Any) -> sympy.Expr:
    """The Euclidean norm over one or more axes (not differentiable where it is zero)."""
    body, along = _axes("norm", expr, axes)
    return sympy.sqrt(Reduction("sum", body**2, along))


def layer_norm(expr: Any, *axes: Any, eps: float = 1e-5) -> sympy.Expr:
    """``(expr - mean) / sqrt(variance + eps)`` over one or more axes (Ba, Kiros & Hinton 2016); varies over them."""
    return Reduction("layernorm", *_axes("layer_norm", expr, axes), sympy.Float(eps))


def rms_norm(expr: Any, *axes: Any, eps: float = 1e-5) -> sympy.Expr:
    """``expr / sqrt(mean(expr**2) + eps)`` over one or more axes (Zhang & Sennrich 2019); varies over them."""
    return Reduction("rmsnorm", *_axes("rms_norm", expr, axes), sympy.Float(eps))
