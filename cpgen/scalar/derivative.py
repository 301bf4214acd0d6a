"""Derivatives that stay inside the primitives, and the places where they do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sympy
from sympy import Add, Expr, Mul, Pow, S, Symbol
from sympy.core.relational import Relational

from cpgen.scalar import functions as fn
from cpgen.scalar.canonical import canonical, piecewise
from cpgen.scalar.memo import free_symbols, remembered
from cpgen.scalar.primitives import entry_of
from cpgen.scalar.together import Together


def diff(expr: Any, symbol: Symbol) -> Expr:
    """``d expr / d symbol`` in canonical form; 0 at kinks as :mod:`cpgen.scalar.functions` says, never a DiracDelta.

    Raises UnsupportedError if ``expr`` or its derivative cannot be expressed.
    """
    return _diff(canonical(expr), symbol)


@remembered
def _diff(expr: Expr, symbol: Symbol) -> Expr:
    if expr == symbol:
        return S.One
    if symbol not in free_symbols(expr):
        return S.Zero
    if isinstance(expr, Together):
        return canonical(_diff(expr.definition(), symbol))
    if isinstance(expr, Add):
        return canonical(Add(*(_diff(term, symbol) for term in expr.args)))
    if isinstance(expr, Mul):
        factors = expr.args
        terms = [
            Mul(*factors[:k], _diff(factor, symbol), *factors[k + 1 :])
            for k, factor in enumerate(factors)
            if symbol in free_symbols(factor)
        ]
        return canonical(Add(*terms))
    if isinstance(expr, Pow):
        base, exponent = expr.args
        # u**(v-1) and not u**v / u, which would be 0/0 at u = 0
        result = exponent * Pow(base, exponent - 1) * _diff(base, symbol)
        if symbol in free_symbols(exponent):
            result += expr * sympy.log(base) * _diff(exponent, symbol)
        return canonical(result)
    if isinstance(expr, sympy.Piecewise):
        values = [value if isinstance(value, fn.undefined) else _diff(value, symbol) for value, _ in expr.args]
        if all(value == 0 or isinstance(value, fn.undefined) for value in values):
            return S.Zero
        return piecewise([(value, condition) for value, (_, condition) in zip(values, expr.args, strict=True)])
    return canonical(
        Add(
            *(
                _partial(expr, k) * _diff(argument, symbol)
                for k, argument in enumerate(expr.args, 1)
                if symbol in free_symbols(argument)
            )
        )
    )


@remembered
def _partial(function: Expr, argument: int) -> Expr:
    rule = _PARTIALS.get(function.func)
    return canonical(function.fdiff(argument) if rule is None else rule(argument, *function.args))


# where SymPy's own derivative cancels, overflows or leaves the real numbers
_PARTIALS: dict[Any, Callable[..., Expr]] = {
    sympy.tanh: lambda _, x: sympy.sech(x) ** 2,
    sympy.asin: lambda _, x: fn.complement_square(x) ** sympy.Rational(-1, 2),
    sympy.acos: lambda _, x: -(fn.complement_square(x) ** sympy.Rational(-1, 2)),
    sympy.atan: lambda _, x: fn.lorentz(x),
    sympy.atan2: lambda k, y, x: (fn.unit(x, y) if k == 1 else -fn.unit(y, x)) / fn.hypot(y, x),
    sympy.asinh: lambda _, x: fn.unit(1, x),
    sympy.acosh: lambda _, x: fn.acosh_slope(x),
    sympy.sinc: lambda _, x: -sympy.jn(1, x),
    sympy.jn: lambda _, n, x: (n * sympy.jn(n - 1, x) - (n + 1) * sympy.jn(n + 1, x)) / (2 * n + 1),
    sympy.LambertW: lambda _, x, *branch: fn.lambertw_slope(x),
    sympy.atanh: lambda _, x: 1 / fn.complement_square(x),
}


def second_order_zero(expr: Any, a: Symbol, b: Symbol) -> bool:
    """Whether ``d^2 expr / (d a d b)`` is identically 0, as far as expanding it shows; False means "not known to be"."""
    second = diff(diff(expr, a), b)
    return bool(second == 0 or sympy.expand(second) == 0)


def has_gaps(expr: Expr) -> bool:
    """Whether ``expr``, in canonical form, has a Piecewise without value where none of its conditions holds."""
    return bool(expr.has(fn.undefined))


def kinks(expr: Any) -> tuple[Expr, ...]:
    """The expressions whose value is exactly 0 where ``expr`` is not differentiable; each once, in order of appearance.

    Expressions that differ by sign only are reported once; constants are left out.
    """
    found: list[Expr] = []
    for place in _kinks(canonical(expr)):
        boundary = canonical(place)
        if free_symbols(boundary) and boundary not in found and canonical(-boundary) not in found:
            found.append(boundary)
    return tuple(found)


def _kinks(expr: Expr) -> Iterator[Expr]:
    for node in sympy.preorder_traversal(expr):
        if isinstance(node, Relational):
            yield node.lhs - node.rhs
        elif isinstance(node, fn.UserFunction):
            if type(node).kink is not None:
                yield sympy.sympify(type(node).kink(*node.args))  # type: ignore[misc]
        elif isinstance(node, sympy.Function):
            entry = entry_of(node)
            if entry is not None and entry.kink_at is not None:
                yield entry.kink_at(*node.args)
