"""Value, first and second derivative of every primitive against mpmath, in NumPy and in compiled C."""

from __future__ import annotations

from functools import partial

import mpmath
import numpy as np
import pytest
import sympy
from mpmath import mp

from cpgen.scalar import PRIMITIVES, canonical, diff, kinks, placeholder, to_numpy
from cpgen.scalar import functions as fn

X, Y = placeholder(0), placeholder(1)

EVERYWHERE = [-1000.0, -30.0, -3.25, -0.5, -1e-6, 0.0, 1e-6, 0.5, 3.25, 30.0, 1000.0]
OSCILLATING = [-30.0, -2.1, -1e-3, 1e-3, 1.5, 2.5, 4.75, 5.5, 1000.0]
POSITIVE = [1e-3, 0.3, 1.0, 1.46, 2.0, 7.9, 25.0, 1000.0]


# functions whose numerical derivatives mpmath computes too slowly -> (x, order) -> derivative
GAMMA_FAMILY = {}


def _polygamma(order):
    def function(x):
        return mpmath.polygamma(order, x)

    GAMMA_FAMILY[function] = lambda x, more: mpmath.polygamma(order + more, x)
    return function


def _gamma_derivative(x, order):
    value, psi = mpmath.gamma(x), mpmath.polygamma(0, x)
    return (value, value * psi, value * (psi**2 + mpmath.polygamma(1, x)))[order]


GAMMA_FAMILY[mpmath.gamma] = _gamma_derivative
GAMMA_FAMILY[mpmath.loggamma] = lambda x, order: (
    mpmath.polygamma(order - 1, x) if order else mpmath.loggamma(x)
)


def _spherical(order, x):
    half = mpmath.besselj(order + mpmath.mpf(1) / 2, abs(x))
    return mpmath.sqrt(mpmath.pi / (2 * abs(x))) * half * mpmath.sign(x) ** order


def _moment(order):
    """The integral of ``s**order exp(s x)`` from 0 to 1, by Kummer's function."""
    return lambda x: mpmath.hyp1f1(order + 1, order + 2, x) / (order + 1)


# name -> (SymPy expression, mpmath function, points)
UNARY = {
    "sqrt": (sympy.sqrt(X), mpmath.sqrt, POSITIVE),
    "exp": (sympy.exp(X), mpmath.exp, EVERYWHERE),
    "expm1": (fn.expm1(X), mpmath.expm1, EVERYWHERE),
    "log": (sympy.log(X), mpmath.log, POSITIVE),
    "log1p": (fn.log1p(X), lambda x: mpmath.log(1 + x), [-0.999, -0.5, -1e-6, 0.0, 1e-6, 0.5, 1000.0]),
    "sin": (sympy.sin(X), mpmath.sin, EVERYWHERE),
    "cos": (sympy.cos(X), mpmath.cos, EVERYWHERE),
    "tan": (sympy.tan(X), mpmath.tan, [-1.4, -0.5, 0.0, 1e-6, 1.2, 1000.0]),
    "asin": (sympy.asin(X), mpmath.asin, [-0.99, -0.5, 0.0, 0.3, 0.99]),
    "acos": (sympy.acos(X), mpmath.acos, [-0.99, -0.5, 0.0, 0.3, 0.99]),
    "atan": (sympy.atan(X), mpmath.atan, EVERYWHERE),
    "sinh": (sympy.sinh(X), mpmath.sinh, EVERYWHERE),
    "cosh": (sympy.cosh(X), mpmath.cosh, EVERYWHERE),
    "tanh": (sympy.tanh(X), mpmath.tanh, EVERYWHERE),
    "sech": (sympy.sech(X), mpmath.sech, EVERYWHERE),
    "sech2": (fn.sech2(X), lambda x: mpmath.sech(x) ** 2, EVERYWHERE),
    "asinh": (sympy.asinh(X), mpmath.asinh, EVERYWHERE),
    "acosh": (sympy.acosh(X), mpmath.acosh, [1.01, 2.0, 1000.0]),
    "atanh": (sympy.atanh(X), mpmath.atanh, [-0.99, -0.5, 0.0, 0.3, 0.99]),
    "erf": (sympy.erf(X), mpmath.erf, EVERYWHERE),
    "erfc": (sympy.erfc(X), mpmath.erfc, EVERYWHERE),
    "softplus": (fn.softplus(X), lambda x: mpmath.log1p(mpmath.exp(x)), EVERYWHERE),
    "sigmoid": (fn.sigmoid(X), lambda x: 1 / (1 + mpmath.exp(-x)), EVERYWHERE),
    "logcosh": (fn.logcosh(X), lambda x: mpmath.log(mpmath.cosh(x)), EVERYWHERE),
    "silu": (fn.silu(X), lambda x: x / (1 + mpmath.exp(-x)), EVERYWHERE),
    "normcdf": (fn.normcdf(X), mpmath.ncdf, EVERYWHERE),
    "gelu": (fn.gelu(X), lambda x: x * mpmath.ncdf(x), EVERYWHERE),
    "log_ndtr": (fn.log_ndtr(X), lambda x: mpmath.log(mpmath.ncdf(x)), [-200.0, -30.0, -3.25, -0.5, 0.0, 0.5, 3.25]),
    # further left its second derivative, the third of log_ndtr, cancels; log_ndtr's own two are tested there
    "mills": (fn.mills(X), lambda x: mpmath.npdf(x) / mpmath.ncdf(x), [-2.0, -0.5, 0.0, 0.5, 3.25]),
    "sinc": (sympy.sinc(X), mpmath.sinc, [-1000.0, -3.25, -0.5, -1e-6, 1e-6, 0.5, 3.25, 1000.0]),
    "jn1": (sympy.jn(1, X), lambda x: _spherical(1, x), [-30.0, -0.5, 1e-3, 1.9, 2.1, 30.0]),
    "jn2": (sympy.jn(2, X), lambda x: _spherical(2, x), [-30.0, -0.5, 1e-3, 2.9, 3.1, 30.0]),
    "jn3": (sympy.jn(3, X), lambda x: _spherical(3, x), [-30.0, -0.5, 1e-3, 3.9, 4.1, 30.0]),
    "jn4": (sympy.jn(4, X), lambda x: _spherical(4, x), [-30.0, -0.5, 1e-3, 4.9, 5.1, 30.0]),
    **{f"besselj{n}": (sympy.besselj(n, X), partial(mpmath.besselj, n), OSCILLATING) for n in range(5)},
    **{f"bessely{n}": (sympy.bessely(n, X), partial(mpmath.bessely, n), [0.01, *OSCILLATING[3:]]) for n in range(5)},
    **{
        f"besseli{n}": (sympy.besseli(n, X), partial(mpmath.besseli, n), [-30.0, -21.9, 0.01, 1.5, 22.5, 80.0])
        for n in range(5)
    },
    **{
        f"besselk{n}": (sympy.besselk(n, X), partial(mpmath.besselk, n), [0.01, 0.9, 1.0, 3.25, 30.0, 300.0])
        for n in range(5)
    },
    **{
        f"phi1_{k}": (fn.phi1(k, X), _moment(k), [-800.0, -30.0, -6.5, -2.0, -1e-6, 0.0, 1e-6, 0.5, 5.9, 6.1, 30.0])
        for k in range(5)
    },
    "erfinv": (sympy.erfinv(X), mpmath.erfinv, [-0.99, -0.51, -0.5, 1e-9, 0.3, 0.75]),
    "erfcinv": (sympy.erfcinv(X), lambda q: mpmath.erfinv(1 - q), [1e-9, 0.3, 0.5, 0.9, 1.4, 1.9]),
    "lambertw": (sympy.LambertW(X), lambda x: mpmath.lambertw(x).real, [-0.36, -0.25, -1e-6, 1e-6, 1.0, 1e6]),
    "lambertw_slope": (
        fn.lambertw_slope(X),
        lambda x: mpmath.exp(-mpmath.lambertw(x).real) / (1 + mpmath.lambertw(x).real),
        [-0.25, -1e-6, 1e-6, 1.0, 1e6],
    ),
    "relu": (fn.relu(X), lambda x: max(x, mp.zero), [v for v in EVERYWHERE if v]),
    "step": (fn.step(X), lambda x: mp.one if x > 0 else mp.zero, [v for v in EVERYWHERE if v]),
    "sign0": (fn.sign0(X), mpmath.sign, [v for v in EVERYWHERE if v]),
    "floor": (fn.floor(X), mpmath.floor, [-1000.5, -2.5, -0.5, 0.25, 0.5, 2.4999, 1000.5]),
    "rint": (fn.rint(X), mpmath.nint, [-1000.25, -2.4999, -0.25, 0.25, 0.7, 2.75, 1000.25]),
    "absval": (fn.absval(X), lambda x: abs(x), [v for v in EVERYWHERE if v]),
    "gamma": (sympy.gamma(X), mpmath.gamma, [1e-3, 0.3, 1.0, 2.0, 7.9, 25.0]),
    "loggamma": (sympy.loggamma(X), mpmath.loggamma, POSITIVE),
    "digamma": (sympy.polygamma(0, X), _polygamma(0), POSITIVE),
    "polygamma1": (sympy.polygamma(1, X), _polygamma(1), POSITIVE),
    "polygamma2": (sympy.polygamma(2, X), _polygamma(2), POSITIVE),
    "polygamma3": (sympy.polygamma(3, X), _polygamma(3), POSITIVE),
    "polygamma4": (sympy.polygamma(4, X), _polygamma(4), POSITIVE),
}
BINARY = {
    "pow": (X**Y, lambda x, y: x**y),
    "atan2": (sympy.atan2(X, Y), mpmath.atan2),
    "maximum": (fn.maximum(X, Y), max),
    "minimum": (fn.minimum(X, Y), min),
    "hypot": (fn.hypot(X, Y), mpmath.hypot),
    "xlogy": (fn.xlogy(Y, X), lambda x, y: y * mpmath.log(x)),
    "xdivy": (fn.xdivy(Y, X), lambda x, y: y / x),
}


def _float(value) -> float:
    try:
        return float(mpmath.re(value))
    except OverflowError:
        return float("inf") if value > 0 else -float("inf")


def _agree(got, want, relative, absolute):
    got, want = np.asarray(got, float), np.asarray(want, float)
    with np.errstate(invalid="ignore"):
        same = (got == want) | (np.abs(got - want) <= relative * np.abs(want) + absolute)
    assert same.all(), f"got {got[~same]}, want {want[~same]}"


def _reference(function, points, order):
    with mp.workdps(40):
        derivative = GAMMA_FAMILY.get(function)
        if derivative is not None:
            return [_float(derivative(mp.mpf(x), order)) for x in points]
        return [_float(mpmath.diff(function, mp.mpf(x), order)) for x in points]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name, native):
    expr, function, points = UNARY[name]
    first = diff(expr, X)
    exprs = [expr, first, diff(first, X)]
    x = np.array(points)
    vectorised, compiled = to_numpy(exprs, [X])(x), native(exprs, [X])(x)
    for order in range(3):
        want = _reference(function, points, order)
        # 1 - tanh(x)**2 and the like are accurate absolutely, not relatively; poles are accurate relatively
        _agree(vectorised[order], want, 2e-11, 5e-15)
        _agree(compiled[order], want, 2e-11, 5e-15)


@pytest.mark.parametrize("name", UNARY)
def test_unary_float32(name, native):
    expr, function, points = UNARY[name]
    if name == "tan":
        points = points[:-1]
    first = diff(expr, X)
    exprs = [expr, first, diff(first, X)]
    x = np.array(points, np.float32)
    vectorised, compiled = to_numpy(exprs, [X])(x), native(exprs, [X], "float32")(x)
    for order in range(3):
        want = np.array(_reference(function, [float(v) for v in x], order)).astype(np.float32)
        assert vectorised[order].dtype == np.float32
        _agree(vectorised[order], want, 2e-4, 2e-6)
        _agree(compiled[order], want, 2e-4, 2e-6)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name, native):
    expr, function = BINARY[name]
    x, y = np.array([0.5, 2.0, 3.5, 1e-3, 40.0]), np.array([1.5, -2.25, 3.0, 0.75, -1.0])
    orders = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    exprs = []
    for a, b in orders:
        derivative = expr
        for symbol in [X] * a + [Y] * b:
            derivative = diff(derivative, symbol)
        exprs.append(derivative)
    vectorised, compiled = to_numpy(exprs, [X, Y])(x, y), native(exprs, [X, Y])(x, y)
    for k, order in enumerate(orders):
        with mp.workdps(60):
            if sum(order):
                want = [_float(mpmath.diff(function, (u, v), order)) for u, v in zip(x, y, strict=True)]
            else:
                want = [_float(function(mp.mpf(u), mp.mpf(v))) for u, v in zip(x, y, strict=True)]
        _agree(vectorised[k], want, 1e-12, 1e-14)
        _agree(compiled[k], want, 1e-12, 1e-14)


def test_every_row_is_tested():
    rows = {entry.name for entry in PRIMITIVES}
    # orders 5 and 6 exist so that order 4 can be differentiated twice, mills_gap as the derivative of mills
    derived = {"polygamma5", "polygamma6", "jn5", "jn6", "phi1_5", "phi1_6", "mills_gap"}
    derived |= {f"{kind.__name__}{order}" for kind in fn.BESSEL for order in (5, 6)}
    # what no expression names: see test_range.py; undefined is NaN
    inner = {"significand", "exponent", "scalbn", "undefined"}
    assert rows - derived - inner == set(UNARY) | set(BINARY)


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_where_no_condition_holds(real, native):
    """A gap is NaN, and so is each derivative that is not 0 in all pieces."""
    parabola = sympy.Piecewise((X**2 * Y, (X >= 0) & (X < 2)), (X, X < -1))
    exprs = [canonical(parabola), diff(parabola, X), diff(parabola, Y), diff(diff(parabola, X), X)]
    exprs += [diff(diff(parabola, Y), Y), diff(diff(diff(parabola, X), X), X)]
    assert exprs[-2:] == [0, 0]
    x, y = np.array([1.5, -3.0, -0.5, 2.0], real), np.array([3.0, 3.0, 3.0, 3.0], real)
    nan = np.nan
    want = [[6.75, -3, nan, nan], [9, 1, nan, nan], [2.25, 0, nan, nan], [6, 0, nan, nan]]
    for values in (native(exprs[:4], [X, Y], real)(x, y), to_numpy(exprs[:4], [X, Y])(x, y)):
        assert np.array_equal(values, np.array(want, real), equal_nan=True)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize(
    "name", ["softplus", "sigmoid", "tanh", "logcosh", "silu", "gelu", "normcdf", "sech", "sech2"]
)
def test_third_derivative_is_finite_everywhere(name, real, native, recwarn):
    expr = UNARY[name][0]
    exprs = [expr]
    for _ in range(3):
        exprs.append(diff(exprs[-1], X))
    x = np.array([-1000, -100, -88.5, -40, -10, 0, 10, 40, 88.5, 100, 1000], real)
    for values in (to_numpy(exprs, [X])(x), native(exprs, [X], real)(x)):
        assert all(np.isfinite(v).all() for v in values)
    assert not recwarn.list


# the largest error in units in the last place that the header promises
ULP = {
    "exp": 1.1,
    "log": 1.1,
    "log1p": 2.0,
    "expm1": 2.5,
    "tanh": 3.0,
    "sigmoid": 3.0,
    "softplus": 3.0,
    "sech": 3.0,
    "sech2": 4.0,
    "logcosh": 6.0,
}


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", ULP)
def test_accuracy_of_own_functions(name, real, native):
    expr, function, _ = UNARY[name]
    single = real == "float32"
    rng = np.random.default_rng(7)
    wide = 80.0 if single else 700.0
    x = np.concatenate([rng.uniform(-1, 1, 250), rng.uniform(-10, 10, 250), rng.uniform(-wide, wide, 250)])
    x = np.concatenate([x, rng.choice([-1.0, 1.0], 250) * 10.0 ** rng.uniform(-12, 1, 250)])
    if name in ("log", "log1p"):
        x = np.abs(x)
        x = np.concatenate([x, -x[x < 1]]) if name == "log1p" else np.concatenate([x, 1 + x / 1e3, 1e3 / x])
    x = x.astype(real)
    got = native([expr], [X], real)(x)[0]
    with mp.workdps(60):
        worst = 0.0
        for u, v in zip(x, got, strict=True):
            exact = _logcosh(float(u)) if name == "logcosh" else function(mp.mpf(float(u)))
            unit = float(np.spacing(np.abs(np.dtype(real).type(_float(exact)))))
            worst = max(worst, abs(float(mp.mpf(float(v)) - exact)) / unit)
    assert worst <= ULP[name], worst


def _logcosh(x):
    half = mpmath.sinh(mp.mpf(x) / 2)
    return mpmath.log1p(2 * half * half)


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_special_values(real, native):
    inf, nan = np.inf, np.nan
    x = np.array([nan, inf, -inf, 0.0, -0.0, 1e-45 if real == "float32" else 5e-324], real)
    tiny = x[5]
    want = {
        "exp": [nan, inf, 0, 1, 1, 1],
        "expm1": [nan, inf, -1, 0, 0, tiny],
        "log": [nan, inf, nan, -inf, -inf, np.log(np.float64(tiny))],
        "log1p": [nan, inf, nan, 0, 0, tiny],
        "tanh": [nan, 1, -1, 0, 0, tiny],
        "softplus": [nan, inf, 0, np.log(2), np.log(2), np.log(2)],
        "sigmoid": [nan, 1, 0, 0.5, 0.5, 0.5],
        "logcosh": [nan, inf, inf, 0, 0, 0],
        "relu": [nan, inf, 0, 0, 0, tiny],
        "step": [nan, 1, 0, 0, 0, 1],
        "sign0": [nan, 1, -1, 0, 0, 1],
        "floor": [nan, inf, -inf, 0, 0, 0],
        "rint": [nan, inf, -inf, 0, 0, 0],
        "absval": [nan, inf, inf, 0, 0, tiny],
        "loggamma": [nan, inf, nan, inf, inf, -np.log(np.float64(tiny))],
        "digamma": [nan, inf, nan, -inf, -inf, -inf],
        "polygamma1": [nan, 0, nan, inf, inf, inf],
        "gamma": [nan, inf, nan, inf, inf, inf],
    }
    exprs = [UNARY[name][0] for name in want]
    for values in (native(exprs, [X], real)(x), to_numpy(exprs, [X])(x)):
        for name, value in zip(want, values, strict=True):
            expected = np.array(want[name], float).astype(real)
            np.testing.assert_allclose(
                value, expected, rtol=3e-6 if real == "float32" else 1e-14, err_msg=name
            )


def test_binary_special_values(native):
    a, b = np.array([np.nan, 1.0, 2.0]), np.array([1.0, np.nan, 2.0])
    exprs = [fn.maximum(X, Y), fn.minimum(X, Y)]
    for values in (native(exprs, [X, Y])(a, b), to_numpy(exprs, [X, Y])(a, b)):
        for value in values:
            assert np.isnan(value[:2]).all() and value[2] == 2.0


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_rounding_to_whole_numbers(real, native):
    top = 2.0 ** (22 if real == "float32" else 51)
    whole = np.arange(-5.0, 6.0)
    large = [top - 0.5, top + 0.5, -top - 1, 4 * top + 1]
    x = np.concatenate([whole, whole + 0.5, whole + np.finfo(real).eps, large]).astype(real)
    written = [sympy.floor(X), sympy.ceiling(X), fn.rint(X), sympy.frac(X), sympy.Mod(X, -3)]
    exprs = [canonical(expr) for expr in written]
    want = [np.floor(x), np.ceil(x), np.rint(x), x - np.floor(x), np.mod(x, np.dtype(real).type(-3))]
    for values in (native(exprs, [X], real)(x), to_numpy(exprs, [X])(x)):
        for value, expected in zip(values[:4], want[:4], strict=True):
            np.testing.assert_array_equal(value, expected)
        np.testing.assert_allclose(values[4], want[4], atol=float(np.spacing(np.abs(x).max())))
    halves = [sympy.Rational(k, 2) for k in range(-5, 6)]
    assert [fn.rint(v) for v in halves] == [round(v) for v in halves]


def test_derivatives_of_rounding():
    assert diff(fn.floor(X), X) == 0 == diff(fn.rint(X) * Y, X)
    assert diff(sympy.Mod(X, Y), X) == 1 and diff(sympy.Mod(X, Y), Y) == -fn.floor(X / Y)
    (jump,), (halfway,) = kinks(fn.floor(X)), kinks(fn.rint(X))
    assert jump.subs(X, 3) == 0 == halfway.subs(X, sympy.Rational(7, 2))


def test_values_at_kinks():
    zero = {X: 0, Y: 0}
    assert diff(fn.relu(X), X).subs(zero) == 0
    assert diff(fn.absval(X), X).subs(zero) == 0
    assert fn.step(X).subs(zero) == 0 and fn.sign0(X).subs(zero) == 0
    # at a tie the second argument wins, and the two derivatives still add up to 1
    for two in (fn.maximum(X, Y), fn.minimum(X, Y)):
        assert (diff(two, X).subs(zero), diff(two, Y).subs(zero)) == (0, 1)


def test_zero_times_the_logarithm_of_zero(native):
    exprs = [fn.xlogy(X, Y), diff(fn.xlogy(X, Y), Y), diff(diff(fn.xlogy(X, Y), Y), Y)]
    x, y = np.array([0.0, 0.0, 2.0, np.nan, 0.0]), np.array([0.0, 3.0, 4.0, 1.0, np.nan])
    want = [[0, 0, 2 * np.log(4.0), np.nan, np.nan], [0, 0, 0.5, np.nan, np.nan], [0, 0, -0.125, np.nan, np.nan]]
    for values in (native(exprs, [X, Y])(x, y), to_numpy(exprs, [X, Y])(x, y)):
        np.testing.assert_allclose(values, want, rtol=1e-15)


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_ends_of_the_inverse_functions(real, native):
    inf, nan = np.inf, np.nan
    table = {
        sympy.erfinv(X): [(-1, -inf), (1, inf), (0, 0), (1.5, nan), (nan, nan)],
        sympy.erfcinv(X): [(0, inf), (2, -inf), (1, 0), (-0.5, nan), (nan, nan)],
        sympy.LambertW(X): [(0, 0), (inf, inf), (-1, nan), (nan, nan)],
        sympy.sinc(X): [(0, 1), (inf, 0), (-inf, 0), (nan, nan)],
        fn.log_ndtr(X): [(inf, 0), (-inf, -inf), (nan, nan)],
        sympy.besselj(0, X): [(0, 1), (inf, 0), (-inf, 0), (nan, nan)],
        sympy.besselj(3, X): [(0, 0), (inf, 0), (-inf, 0), (nan, nan)],
        sympy.bessely(2, X): [(0, -inf), (inf, 0), (-1, nan), (nan, nan)],
        sympy.besseli(1, X): [(0, 0), (inf, inf), (-inf, -inf), (nan, nan)],
        sympy.besselk(4, X): [(0, inf), (inf, 0), (-1, nan), (nan, nan)],
    }
    for expr, pairs in table.items():
        x, want = np.array(pairs, real).T
        x = np.ascontiguousarray(x)
        for values in (native([expr], [X], real)(x), to_numpy([expr], [X])(x)):
            np.testing.assert_array_equal(values[0], want, err_msg=str(expr))


def test_beta_and_factorial(native):
    exprs = [sympy.beta(X, Y), sympy.factorial(X), sympy.log(sympy.beta(X, Y))]
    x, y = np.array([0.3, 2.0, 50.0]), np.array([1.5, 4.0, 7.5])
    want = [
        [float(mpmath.beta(a, b)) for a, b in zip(x, y, strict=True)],
        [float(mpmath.gamma(a + 1)) for a in x],
        [float(mpmath.log(mpmath.beta(a, b))) for a, b in zip(x, y, strict=True)],
    ]
    for values in (native(exprs, [X, Y])(x, y), to_numpy(exprs, [X, Y])(x, y)):
        np.testing.assert_allclose(values, want, rtol=1e-13)
