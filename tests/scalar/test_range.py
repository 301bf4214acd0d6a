"""Formulas whose derivatives are numbers of the type: neither infinite nor cancelled on the way there; against mpmath."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import UnsupportedError
from cpgen.scalar import canonical, diff, special, to_numpy
from cpgen.scalar import functions as fn

X, Y, Z, N = sp.symbols("x y z n", real=True)
REALS = pytest.mark.parametrize("real", ["float32", "float64"])
DIGITS = 120


def exactly(exprs, symbols, points):
    """``[[(q, |q| + sum |v dq/dv|) for each of exprs] for each point]`` by SymPy's derivatives and mpmath."""
    slopes = [[e, *(v * sp.diff(e, v) for v in symbols)] for e in exprs]
    function = sp.lambdify(symbols, slopes, "mpmath")
    found = []
    with mpmath.workdps(DIGITS):
        for point in points:
            rows = function(*(mpmath.mpf(float(v)) for v in point))
            found.append([(row[0], mpmath.fsum(abs(v) for v in row)) for row in rows])
    return found


def errors(written, symbols, points, real, native=None, orders=2):
    """The largest error of all derivatives up to ``orders``, in units of eps times the condition of each.

    What is below the normal numbers may be off by the least of them; what is beyond the largest number must be infinite.
    """
    kind = np.finfo(real)
    points = np.asarray(points, real)
    combinations = [c for k in range(orders + 1) for c in itertools.combinations_with_replacement(symbols, k)]
    exprs, exact = [], []
    for names in combinations:
        mine = canonical(written)
        for name in names:
            mine = diff(mine, name)
        exprs.append(mine)
        exact.append(sp.diff(written, *names) if names else written)
    columns = [points[:, k] for k in range(len(symbols))]
    results = [to_numpy(exprs, symbols)(*columns)]
    if native is not None:
        results.append(native(exprs, symbols, real)(*columns))
    wanted = exactly(exact, symbols, points)
    worst = 0.0
    for found in results:
        for k, want in enumerate(wanted):
            for value, (q, condition) in zip((f[k] for f in found), want, strict=True):
                if abs(q) > float(kind.max):
                    assert np.isinf(value)
                    continue
                assert np.isfinite(value), (points[k], mpmath.nstr(q, 5), value)
                error = abs(mpmath.mpf(float(value)) - q)
                if error > float(kind.smallest_normal):
                    worst = max(worst, float(error / (float(kind.eps) * condition)))
    return worst


def spread(real, count, places, seed=0, share=0.9):
    """``out[count, places]``: positive numbers of all sizes of the type."""
    rng = np.random.default_rng(seed)
    most = share * (126 if real == "float32" else 1022)
    return np.exp2(rng.uniform(-most, most, (count, places))).astype(real)


# significands and exponents


@REALS
def test_significand_and_exponent_are_those_of_frexp(real):
    kind = np.finfo(real)
    values = [1.0, -1.0, 1.5, -3.75, 0.1, kind.max, -kind.smallest_normal, kind.smallest_subnormal, kind.tiny / 8]
    x = np.array([*values, *spread(real, 50, 1)[:, 0]], real)
    found, exponent = special.significand(x), special.exponent(x)
    for value, part, power in zip(x, found, exponent, strict=True):
        fraction, k = math.frexp(float(value))
        assert (part, power) == (2 * fraction, k - 1)
    np.testing.assert_array_equal(special.scalbn(found, exponent), x)
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], real)
    np.testing.assert_array_equal(special.significand(ends), ends)
    assert not special.exponent(ends).any()


CONSTANT = sp.Float("3.7e-21")  # 2**-67.9
HUGE = sp.Float("8.1e49")
WIDE = {
    "float32": [
        CONSTANT * X**2 / Y,
        -CONSTANT * X / Y**2 * Z,
        X**3 * sp.sqrt(Y) / (CONSTANT * Z**5),
        X * Y / (CONSTANT * Z**1.5),
        HUGE * X * Y / Z,
    ],
    "float64": [
        sp.Float("6.2e-98") * X**2 / Y,
        X * Y / (sp.Float("6.2e-98") * Z**1.5),
        sp.Float("6.2e-398") * X * Y / Z,
    ],
}


@pytest.mark.parametrize("real, expr", [(real, expr) for real, exprs in WIDE.items() for expr in exprs], ids=str)
def test_a_product_beside_a_far_constant_is_right_wherever_it_is_a_number(real, expr, native):
    assert errors(expr, [X, Y, Z], spread(real, 60, 3), real, native) < 2


@REALS
def test_a_product_beside_a_far_constant_keeps_zeros_and_infinities(real, native):
    expr = sp.Float("3.7e-60") * X**2 / Y
    x = np.array([0.0, -0.0, 2.0, np.inf, np.nan, 0.0], real)
    y = np.array([3.0, 3.0, 0.0, 2.0, 1.0, 0.0], real)
    for found in (to_numpy([expr], [X, Y])(x, y)[0], native([expr], [X, Y], real)(x, y)[0]):
        np.testing.assert_array_equal(found, [0.0, 0.0, np.inf, np.inf, np.nan, np.nan])


@REALS
@pytest.mark.parametrize(
    "expr", [X**2 / Y, X**3 / Y, X**3 / Y**2, X**2 / Y**2, 3 * X**3 / Y**3, -(X**2) * Z / Y], ids=str
)
def test_powers_over_powers_are_right_wherever_they_are_numbers(real, expr, native):
    symbols = [s for s in (X, Y, Z) if s in expr.free_symbols]
    points = spread(real, 200, len(symbols), share=0.97)
    if Z in symbols:  # one operand that is not far from 1
        points[:, 2] = 0.75
    assert errors(expr, symbols, points, real, native, orders=0) < 2


@REALS
@pytest.mark.parametrize(
    "expr, ranges",
    [
        # Planck's law in SI units, by frequency and by wavelength; Saha's equation; gravity
        (1.19104297e-16 / (X**5 * (sp.exp(0.0143877688 / (X * Y)) - 1)), ((3e-7, 3e-5), (300, 10000))),
        (1.4745e-50 * X**3 / (sp.exp(4.7992e-11 * X / Y) - 1), ((1e11, 1e15), (300, 10000))),
        ((1.7998e10 * X) ** 1.5 * sp.exp(-157821.0 / X) / Y, ((3000, 30000), (1e16, 1e24))),
        (6.674e-11 * X * Y / Z**2, ((1e22, 1e31), (1e20, 1e26), (1e7, 1e13))),
        (4.0045e-11 * X**2 / Y, ((1e22, 1e31), (1e6, 1e10))),
    ],
    ids=str,
)
def test_laws_in_si_units(real, expr, ranges, native):
    symbols = [X, Y, Z][: len(ranges)]
    rng = np.random.default_rng(3)
    points = np.stack([np.exp(rng.uniform(np.log(a), np.log(b), 40)) for a, b in ranges], 1)
    # of the second derivatives of Planck's law by the temperature those near the classical limit cancel
    classical = expr.has(sp.exp) and X**5 in (1 / expr).atoms(sp.Pow) or X**3 in expr.atoms(sp.Pow)
    assert errors(expr, symbols, points, real, native, orders=1) < 2
    assert classical or errors(expr, symbols, points, real, native) < 2


# one over an exponential less one


@REALS
def test_one_over_an_exponential_less_one(real, native):
    points = np.array([[v] for v in (-120, -30, -2.5, -1e-3, 1e-6, 0.3, 4.0, 40.0, 60.0, 80.0, 86.0)])
    assert errors(1 / (sp.exp(X) - 1), [X], points, real, native) < 3
    assert errors(sp.exp(X) / (sp.exp(X) - 1), [X], points[2:], real, native) < 3
    assert errors(1e20 / (sp.exp(X * Y) - 1) * Z, [X, Y, Z], [[100.0, 1.0, 1e-10]], real, native) < 3


# Hill's function

HILL = [
    X**N / (Y**N + X**N),
    Y**N / (Y**N + X**N),
    1 / (1 + (X / Y) ** N),
    1 / (1 + (Y / X) ** N),
    5 * (X / Y) ** N / (1 + (X / Y) ** N),
]


@REALS
@pytest.mark.parametrize("expr", HILL, ids=str)
def test_hills_function(real, expr, native):
    rng = np.random.default_rng(2)
    points = np.stack([10 ** rng.uniform(-9, -5, 20), 10 ** rng.uniform(-8, -6, 20), rng.uniform(0.7, 4, 20)], 1)
    assert errors(expr, [X, Y, N], points, real, native) < 2
    assert errors(expr, [X, Y, N], points * [1e4, 1e4, -1], real, native) < 2


@REALS
@pytest.mark.parametrize("exponent", [3, 4, 2.5, 10])
def test_hills_function_of_a_number(real, exponent, native):
    rng = np.random.default_rng(2)
    points = np.stack([10 ** rng.uniform(-9, -6, 30), 10 ** rng.uniform(-9, -6, 30)], 1)
    expr = Z + X**exponent / (Y**exponent + X**exponent)
    assert errors(expr - Z, [X, Y], points, real, native) < 3


@REALS
def test_hills_function_where_powers_leave_the_range(real, native):
    # powers of 1e-45 and 1e70: their quotients are ordinary numbers
    size, n = (1e-9, 5.0) if real == "float32" else (1e-60, 6.0)
    points = [[2 * size, 3 * size, n], [3 * size, 2 * size, n], [4 / size, 3 / size, n]]
    for expr in HILL:
        assert errors(expr, [X, Y, N], points, real, native) < 3


@REALS
def test_hills_function_at_zero(real, native):
    exprs = [HILL[0], *(diff(HILL[0], v) for v in (X, Y, N))]
    exprs += [diff(exprs[1], X), diff(exprs[2], Y), diff(exprs[3], N), diff(exprs[1], N)]
    x, y, n = (np.array(v, real) for v in ([0.0, 0.0, 0.0, 0.5], [2.0, 2.0, 2.0, 0.0], [1.0, 3.0, 0.5, 3.0]))
    wanted = [[0, 0, 0, 1], [0.5, 0, np.inf, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    for found in (to_numpy(exprs, [X, Y, N])(x, y, n), native(exprs, [X, Y, N], real)(x, y, n)):
        for got, want in zip(found, [*wanted[:4]], strict=False):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(found[5][:3], 0)
        np.testing.assert_array_equal(found[6], 0)
        assert found[7][1] == 0


@REALS
def test_hills_function_of_a_negative_number(real, native):
    # a whole exponent that is an argument
    points = [[-2.0, 3.0, 2.0], [-2.0, -3.0, 3.0]]
    found = [to_numpy([HILL[0]], [X, Y, N]), native([HILL[0]], [X, Y, N], real)]
    for f in found:
        values = f(*np.array(points, real).T)[0]
        np.testing.assert_allclose(values, [4 / 13, 8 / 35], rtol=4 * np.finfo(real).eps)


def test_what_is_no_hill_function_stays():
    for expr in (X**2 / (X**2 + Y**2), X / (X + Y), X**N / (X**Y + Z**N), 1 / (2 + X**N), 1 / (X**N + Y**N)):
        assert canonical(expr).atoms(sp.Function) == set()
        assert canonical(canonical(expr)) == canonical(expr)


# shares: t - t*f where 1 - f is small


@REALS
@pytest.mark.parametrize(
    "expr",
    [
        Z * X / (Y + X),
        X / (Y + X + Z),
        (X * Z + 2) / (X * Z + Y),
        1 / (1 + X / Y),
    ],
    ids=str,
)
def test_a_term_over_its_sum(real, expr, native):
    symbols = sorted(expr.free_symbols, key=str)
    rng = np.random.default_rng(4)
    points = 10 ** rng.uniform(-4, 4, (25, len(symbols)))
    assert errors(expr, symbols, points, real, native) < 4


@REALS
def test_the_lighter_component_of_a_mixture(real, native):
    expr = sp.log(sp.Rational(7, 10) * sp.exp(-((X - Y) ** 2) / 2) + sp.Rational(3, 10) * sp.exp(-((X + 1) ** 2) / 2))
    points = [[x, y] for x in (-12.0, -7.5, -1.0, 3.0, 11.0) for y in (0.5, 1.25, 2.0)]
    assert errors(expr, [X, Y], points, real, native) < 3


@REALS
@pytest.mark.parametrize("w", [-80.0, -20.0, 0.5, 20.0, 80.0])
def test_what_a_share_leaves(real, w):
    for share in (fn.sigmoid(Z), fn.normcdf(Z), fn.hill(sp.exp(Z), 1, 1)):
        kind = share.func
        expr = canonical(X - Y + share * (Y - X) + 3)
        assert not isinstance(canonical(expr - 3), sp.Add)
        got = float(to_numpy([canonical(expr - 3)], [X, Y, Z])(*np.array([5.0, 2.0, w], real))[0])
        with mpmath.workdps(60):
            f = mpmath.ncdf(-w) if kind is fn.normcdf else 1 / (1 + mpmath.exp(mpmath.mpf(w)))
            want = float(3 * f)
        assert got == pytest.approx(want, rel=100 * float(np.finfo(real).eps), abs=float(np.finfo(real).smallest_normal))


def test_a_long_sum_is_not_searched():
    names = sp.symbols("a0:12", real=True)
    expr = sum(names) - fn.sigmoid(X) * sp.Add(*names)
    assert canonical(expr).has(sp.Add) and len(canonical(expr).args) == 13


# (1 - exp(-r t)) / r and its derivatives


@REALS
@pytest.mark.parametrize(
    "expr",
    [
        (1 - sp.exp(-X * Y)) / X,
        (1 - sp.exp(-X * Y)) / (X * Y),
        (sp.exp((X - Y) * Z) - 1) / (X - Y),
        (1 - sp.exp(-X * Y)) / (X * Y) - sp.exp(-X * Y),
    ],
    ids=str,
)
def test_discounts_of_small_rates(real, expr, native):
    symbols = sorted(expr.free_symbols, key=str)
    rng = np.random.default_rng(6)
    points = np.stack([10 ** rng.uniform(-7, 0.5, 30), rng.uniform(0.1, 30, 30), rng.uniform(0.1, 3, 30)], 1)
    if Z in symbols:
        points[:, 1] = 1.125 * points[:, 0]
    assert errors(expr, symbols, points[:, : len(symbols)], real, native) < 3


@REALS
def test_discounts_of_no_rate(real, native):
    expr = (1 - sp.exp(-X * Y)) / X
    exprs = [canonical(expr), diff(expr, X), diff(diff(expr, X), X)]
    for f in (to_numpy(exprs, [X, Y]), native(exprs, [X, Y], real)):
        np.testing.assert_allclose(np.ravel(f(*np.array([[0.0], [3.0]], real))), [3, -4.5, 9], rtol=1e-6)


def test_derivatives_that_no_function_has_are_refused():
    expr = (sp.exp(X) - 1) / X
    for _ in range(6):
        expr = diff(expr, X)
    with pytest.raises(UnsupportedError, match="up to order 6"):
        diff(expr, X)


# inside of sums


@pytest.mark.parametrize("backend", ["interpreter", "auto"])
def test_a_sum_of_products_of_far_sizes(backend):
    m = cp.Model("bodies")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    mass, radius = m.param("mass", i), m.input("radius", n, i)
    m.objective(cp.sum(4.0045e-11 * mass[i] ** 2 / radius[n, i], i))
    est = cp.compile(m, wrt=["mass"], real="float32", backend=backend, programs=())
    masses = np.array([1e28, 1e24, 1e26], np.float32)
    radii = np.array([[1e22, 1e9, 2e12], [3e20, 1e10, 3e15]], np.float32)
    a, b = masses.astype(float), radii.astype(float)
    arrays = {"mass": masses, "radius": radii}
    np.testing.assert_allclose(est.rows(**arrays), (4.0045e-11 * a**2 / b).sum(1), rtol=1e-6)
    np.testing.assert_allclose(est.gradient(**arrays)["mass"], (8.009e-11 * a / b).sum(0), rtol=1e-6)
    np.testing.assert_allclose(est.diagonal(**arrays)["mass"].value, (8.009e-11 / b).sum(0), rtol=1e-6)


def test_a_product_without_powers_stays_a_contraction():
    m = cp.Model("scaled")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    w, x = m.param("w", i), m.input("x", n, i)
    m.objective(cp.sum(1e-9 * w[i] * x[n, i], i) ** 2)
    est = cp.compile(m, wrt=["w"], real="float32", backend="interpreter", programs=())
    assert "significand" not in est.source(("gradient",))["scaled.c"]
