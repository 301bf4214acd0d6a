"""Functions to use inside definitions."""

from __future__ import annotations

from typing import Any

import sympy

from cpgen.errors import ModelError
from cpgen.model.expressions import Axis, Reduction, free_axes
from cpgen.model.place import caller


def _axes(
    name: str, body: Any, axes: tuple[Any, ...], single: bool = False
) -> tuple[sympy.Expr, tuple[Axis, ...]]:
    expr = sympy.sympify(body)
    if not axes:
        raise ModelError(f"{name}({expr}) names no axis to run along", caller())
    if single and len(axes) != 1:
        raise ModelError(f"{name} runs along one axis, not {len(axes)}", caller())
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


def logsumexp(expr: Any, axis: Any) -> sympy.Expr:
    """``log(sum(exp(expr)))`` along ``axis``, without overflow."""
    return Reduction("logsumexp", *_axes("logsumexp", expr, (axis,), single=True))


def softmax(expr: Any, axis: Any) -> sympy.Expr:
    """``exp(expr) / sum(exp(expr))`` along ``axis``, without overflow; the result varies over ``axis``."""
    return Reduction("softmax", *_axes("softmax", expr, (axis,), single=True))


def norm(expr: Any, *axes: Any) -> sympy.Expr:
    """The Euclidean norm over one or more axes (not differentiable where it is zero)."""
    body, along = _axes("norm", expr, axes)
    return sympy.sqrt(Reduction("sum", body**2, along))


def layer_norm(expr: Any, axis: Any, eps: float = 1e-5) -> sympy.Expr:
    """``(expr - mean) / sqrt(variance + eps)`` along ``axis`` (Ba, Kiros & Hinton 2016); varies over ``axis``."""
    body, along = _axes("layer_norm", expr, (axis,), single=True)
    return Reduction("layernorm", body, along, sympy.Float(eps))
