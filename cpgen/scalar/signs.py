"""Sign analysis by interval arithmetic on the structure of an expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy
from sympy import Add, Expr, Mul, Pow, Symbol

from cpgen.scalar import functions as fn
from cpgen.scalar.canonical import canonical
from cpgen.scalar.memo import free_symbols
from cpgen.scalar.together import Together

Bound = Any  # a Fraction, -inf or inf
Interval = tuple[Bound, Bound]

_INF = math.inf
_ALL: Interval = (-_INF, _INF)
_ZERO, _ONE = Fraction(0), Fraction(1)


def sign_of(expr: Any, signs: Mapping[Symbol, int | None]) -> int | None:
    """+1 if ``expr >= 0``, -1 if ``expr <= 0``, 0 if it is identically 0, None if unknown, on the domain of ``expr``.

    ``signs`` gives the same code for symbols; a symbol not listed is unknown.  The answer is never wrong but may be None
    for an expression that does have a sign.
    """
    low, high = _interval(canonical(expr), signs, {})
    if low == high == 0:
        return 0
    if low >= 0:
        return 1
    return -1 if high <= 0 else None


def _interval(expr: Expr, signs: Mapping[Symbol, int | None], memo: dict[Expr, Interval]) -> Interval:
    known = memo.get(expr)
    if known is None:
        known = memo[expr] = _compute(expr, signs, memo)
    return known


def _compute(expr: Expr, signs: Mapping[Symbol, int | None], memo: dict[Expr, Interval]) -> Interval:
    if expr.is_Rational:
        value = Fraction(int(expr.p), int(expr.q))
        return value, value
    if not free_symbols(expr):
        return _enclose(expr)
    if expr.is_Symbol:
        sign = signs.get(expr)
        return {1: (_ZERO, _INF), -1: (-_INF, _ZERO), 0: (_ZERO, _ZERO), None: _ALL}[sign]
    if isinstance(expr, Together):
        return _interval(expr.definition(), signs, memo)
    if isinstance(expr, sympy.Piecewise):
        parts = [_interval(value, signs, memo) for value, _ in expr.args]
        return min(p[0] for p in parts), max(p[1] for p in parts)
    parts = [_interval(argument, signs, memo) for argument in expr.args]
    if isinstance(expr, Add):
        total: Interval = (_ZERO, _ZERO)
        for part in parts:
            total = total[0] + part[0], total[1] + part[1]
        return total
    if isinstance(expr, Mul):
        product: Interval = (_ONE, _ONE)
        for part in parts:
            product = _multiply(product, part)
        return product
    if isinstance(expr, Pow):
        return _power(expr, *parts)
    if isinstance(expr, sympy.polygamma):
        order = int(expr.args[0])
        return _ALL if order == 0 else (_ZERO, _INF) if order % 2 else (-_INF, _ZERO)
    rule = _RANGES.get(expr.func)
    return rule(*parts) if rule is not None else _ALL


def _enclose(constant: Expr) -> Interval:
    """A rational interval around a real constant, wide enough for the error of its 30 digits."""
    value = Fraction(str(constant.evalf(30)))
    margin = abs(value) * Fraction(1, 10**20)
    return (value - margin, value + margin) if value else (-Fraction(1, 10**20), Fraction(1, 10**20))


def _times(a: Bound, b: Bound) -> Bound:
    return _ZERO if a == 0 or b == 0 else a * b


def _multiply(a: Interval, b: Interval) -> Interval:
    corners = [_times(x, y) for x in a for y in b]
    return min(corners), max(corners)


def _invert(bound: Bound) -> Bound:
    return _ZERO if math.isinf(bound) else 1 / bound


def _power(expr: Pow, base: Interval, exponent: Interval) -> Interval:
    low, high = base
    power = expr.exp
    if power.is_Integer:
        n = abs(int(power))
        if n % 2 == 0:
            size = (_ZERO if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
            raised = _raise(size[0], n), _raise(size[1], n)
        else:
            raised = _raise(low, n), _raise(high, n)
        if power > 0:
            return raised
        if raised[0] >= 0:
            return _invert(raised[1]), (_INF if raised[0] == 0 else _invert(raised[0]))
        if raised[1] <= 0:
            return (-_INF if raised[1] == 0 else _invert(raised[1])), _invert(raised[0])
        return _ALL
    # a real power that is no integer exists for a base >= 0 only
    if power.is_Rational or low >= 0:
        return _ZERO, _INF
    return _ALL


def _raise(bound: Bound, n: int) -> Bound:
    if isinstance(bound, float):
        return bound if bound > 0 or n % 2 else _INF
    return (
        bound**n
        if n <= 64
        else (_INF if bound > 1 else -_INF if bound < -1 else bound if n % 2 else abs(bound))
    )


def _odd(limit: Bound) -> Callable[[Interval], Interval]:
    """Range of an odd increasing function bounded by ``limit``: only the sign of the argument is used."""
    return lambda x: (_ZERO if x[0] >= 0 else -limit, _ZERO if x[1] <= 0 else limit)


def _within(low: Bound, high: Bound) -> Callable[..., Interval]:
    return lambda *_: (low, high)


def _clip(x: Interval) -> Interval:
    return max(x[0], _ZERO), max(x[1], _ZERO)


def _absolute(x: Interval) -> Interval:
    return (_ZERO if x[0] <= 0 <= x[1] else min(abs(x[0]), abs(x[1]))), max(abs(x[0]), abs(x[1]))


def _bump(dip: Fraction) -> Callable[[Interval], Interval]:
    """Range of ``x`` times a distribution function: the sign of ``x``, never below ``-dip``."""
    return lambda x: (_ZERO if x[0] >= 0 else -dip, _ZERO if x[1] <= 0 else _INF)


def _cdf(x: Interval) -> Interval:
    half = Fraction(1, 2)
    return (half if x[0] >= 0 else _ZERO), (half if x[1] <= 0 else _ONE)


_RANGES: dict[Any, Callable[..., Interval]] = {
    sympy.exp: lambda x: (_ONE if x[0] >= 0 else _ZERO, _ONE if x[1] <= 0 else _INF),
    sympy.log: lambda x: (_ZERO if x[0] >= 1 else -_INF, _ZERO if x[1] <= 1 else _INF),
    fn.log1p: _odd(_INF),
    fn.expm1: lambda x: (_ZERO if x[0] >= 0 else -_ONE, _ZERO if x[1] <= 0 else _INF),
    sympy.sin: _within(-_ONE, _ONE),
    sympy.cos: _within(-_ONE, _ONE),
    sympy.asin: _odd(Fraction(2)),
    sympy.acos: _within(_ZERO, Fraction(4)),
    sympy.atan: _odd(Fraction(2)),
    sympy.atan2: _within(-Fraction(4), Fraction(4)),
    sympy.sinh: _odd(_INF),
    sympy.cosh: _within(_ONE, _INF),
    sympy.tanh: _odd(_ONE),
    sympy.sech: _within(_ZERO, _ONE),
    sympy.asinh: _odd(_INF),
    sympy.acosh: _within(_ZERO, _INF),
    sympy.atanh: _odd(_INF),
    sympy.erf: _odd(_ONE),
    sympy.erfc: lambda x: (_ONE if x[1] <= 0 else _ZERO, _ONE if x[0] >= 0 else Fraction(2)),
    fn.softplus: _within(_ZERO, _INF),
    fn.sigmoid: _cdf,
    fn.normcdf: _cdf,
    fn.logcosh: _within(_ZERO, _INF),
    fn.log_ndtr: _within(-_INF, _ZERO),
    fn.mills: _within(_ZERO, _INF),
    fn.mills_gap: _within(_ZERO, _INF),
    fn.silu: _bump(Fraction(3, 10)),
    fn.gelu: _bump(Fraction(2, 10)),
    fn.relu: _clip,
    fn.step: lambda x: (_ONE if x[0] > 0 else _ZERO, _ZERO if x[1] <= 0 else _ONE),
    fn.sign0: lambda x: (
        _ONE if x[0] > 0 else _ZERO if x[0] >= 0 else -_ONE,
        -_ONE if x[1] < 0 else _ZERO if x[1] <= 0 else _ONE,
    ),
    fn.absval: _absolute,
    fn.maximum: lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    fn.minimum: lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    fn.hypot: _within(_ZERO, _INF),
    fn.complement_square: _within(-_INF, _ONE),
    fn.unit: lambda a, _: _odd(_ONE)(a),
    fn.lorentz: _within(_ZERO, _ONE),
    fn.lorentz_odd: _odd(_ONE),
    fn.acosh_slope: _within(_ZERO, _INF),
    fn.acosh_ratio: _within(_ZERO, _INF),
    fn.bose: _odd(_INF),
    fn.phi1: _within(_ZERO, _INF),
    fn.logistic_density: _within(_ZERO, Fraction(1, 4)),
    sympy.gamma: _within(_ZERO, _INF),
    sympy.erfinv: _odd(_INF),
    sympy.sinc: _within(-Fraction(1, 4), _ONE),
    sympy.LambertW: lambda x: (_ZERO if x[0] >= 0 else -_ONE, _ZERO if x[1] <= 0 else _INF),
    fn.lambertw_slope: _within(_ZERO, _INF),
}
