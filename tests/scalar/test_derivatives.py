"""Derivatives that neither cancel nor leave the range: the table in docs/mathematics.md, and where it was once wrong."""

from __future__ import annotations

import shutil

import mpmath
import numpy as np
import pytest
import sympy
from mpmath import mp

import cpgen as cp
from benchmarks.derivative_accuracy import CASES, documented, largest
from cpgen.scalar import canonical, diff, lengths, placeholder, to_numpy
from cpgen.scalar import functions as fn

X, Y, Z = placeholder(0), placeholder(1), placeholder(2)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("name", CASES)
def test_errors_are_those_of_the_table(name):
    bounds = documented()[name]
    found = [worst for real in ("float64", "float32") for worst, _ in largest(name, real, 12)]
    # other points than those of the table, so half as much again
    assert all(worst <= 1.5 * bound + 0.5 for worst, bound in zip(found, bounds, strict=True)), (found, bounds)


def test_every_case_is_in_the_table():
    assert list(documented()) == list(CASES)


@pytest.mark.parametrize("real, sizes", [("float64", (1e300, 1e-300)), ("float32", (1e30, 1e-30))])
@pytest.mark.parametrize("written", [fn.hypot(X, Y), sympy.sqrt(X**2 + Y**2)], ids=str)
def test_lengths_beyond_the_range_of_their_squares(written, real, sizes, native):
    expr = lengths(canonical(written))
    exprs = [expr, diff(expr, X), diff(diff(expr, X), X), diff(diff(expr, X), Y)]
    x = np.array(sizes, real)
    root = np.sqrt(0.5)
    want = np.array([x / root, root + 0 * x, root**3 / x, -(root**3) / x], float)
    for values in (native(exprs, [X, Y], real)(x, x), to_numpy(exprs, [X, Y])(x, x)):
        np.testing.assert_allclose(values, want, rtol=1e-6 if real == "float32" else 1e-14)


def test_a_constant_side_has_no_kink_and_three_sides_do_not_cancel(native):
    assert cp.scalar.kinks(lengths(canonical(sympy.sqrt(X**2 + 1)))) == ()
    expr = lengths(canonical(sympy.sqrt(X**2 + 3 * Y**2 + Z**2)))
    point = (1.0, 1e-7, 2e-7)
    got = native([diff(diff(expr, X), X)], [X, Y, Z])(*(np.array([v]) for v in point))[0][0]
    x, y, z = map(mp.mpf, point)
    with mp.workdps(40):
        want = (3 * y**2 + z**2) / mp.sqrt(x**2 + 3 * y**2 + z**2) ** 3
    assert got == pytest.approx(float(want), rel=1e-14)


@pytest.mark.parametrize("real, at, want", [("float32", 8.0, 4.5014e-7), ("float32", 10.0, 8.2446e-9)])
def test_tails_of_tanh(real, at, want, native):
    exprs = [diff(sympy.tanh(X), X), diff(diff(sympy.log(sympy.cosh(X)), X), X)]
    for value in native(exprs, [X], real)(np.array([at])):
        assert value[0] == pytest.approx(want, rel=2e-5)


def test_arccosine_near_one(native):
    w = 1.0 - 1e-8
    second = native([diff(diff(sympy.acos(X) ** 2, X), X)], [X])(np.array([w]))[0][0]
    with mp.workdps(60):
        want = float(mpmath.diff(lambda v: mp.acos(v) ** 2, mp.mpf(w), 2, h=mp.mpf(10) ** -18))
    assert second == pytest.approx(want, rel=1e-6)


def test_logarithm_of_many_exponentials():
    names = sympy.symbols("x0:5")
    terms = [(k + 1) * sympy.exp(v) for k, v in enumerate(names)]
    est = cp.compile(sympy.log(sum(terms) + 7), wrt=list(names), backend="interpreter")
    values = np.array([800.0, 801.0, 795.0, 760.0, 740.0])
    hessian = est.hessian(**{str(n): v for n, v in zip(names, values, strict=True)}).matrix()
    with mp.workdps(60):
        weights = [(k + 1) * mp.exp(mp.mpf(v)) for k, v in enumerate(values)]
        p = [w / (mp.fsum(weights) + 7) for w in weights]
    np.testing.assert_allclose(np.diag(hessian), [float(v * (1 - v)) for v in p], rtol=1e-12)
    got = est.value(**{str(n): v for n, v in zip(names, values, strict=True)})
    assert float(got) == pytest.approx(float(mp.log(mp.fsum(weights) + 7)), rel=1e-15)


def test_share_of_a_sum_of_exponentials():
    share = canonical(sympy.exp(X) / (sympy.exp(X) + sympy.exp(Y) + sympy.exp(Z)))
    got = to_numpy([share], [X, Y, Z])(np.array(800.0), np.array(801.0), np.array(-800.0))[0]
    assert got == pytest.approx(1 / (1 + np.e), rel=1e-12)


def test_logarithm_of_a_vanishing_distribution_function(native):
    written = sympy.log(sympy.erfc(-X / sympy.sqrt(2)) / 2)
    expr = canonical(written)
    x = np.array([-1e5, -200.0, -39.0, -30.0, 0.0, 5.0])
    got = native([expr, diff(expr, X), diff(diff(expr, X), X)], [X])(x)
    for k, at in enumerate(x):
        with mp.workdps(80):
            v = mp.mpf(at)
            tail = mp.erfc(-v / mp.sqrt(2)) / 2
            ratio = mp.npdf(v) / tail
            want = [mp.log(tail), ratio, -ratio * (v + ratio)]
        for order in range(3):
            assert got[order][k] == pytest.approx(float(want[order]), rel=5e-15)


@pytest.mark.parametrize("real, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_exact_diagonal_of_a_log_sum_exp_is_a_variance(real, tolerance, backend):
    m = cp.Model("shares")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=2)
    a, w, b = m.input("a", n, i), m.param("W", i, h), m.param("b", h)
    s = m.define("s", (n, i), cp.sum(w[i, h] * b[h], h) + a[n, i])
    m.objective(cp.logsumexp(s[n, i], i))
    est = cp.compile(m, wrt=["b"], real=real, backend=backend)
    data = {
        "a": np.array([[0.1, -3.0, 12.0], [14.0, 0.0, 1.0], [0.3, 0.2, 0.1]], real),
        "W": np.array([[0.3, -0.1], [1.1, 0.6], [1.7, 0.2]], real),
        "b": np.array([1.5, -0.5], real),
    }
    got = est.diagonal(samples=4, **data)["b"]
    with mp.workdps(40):
        weights = [[mp.mpf(float(v)) for v in row] for row in data["W"]]
        total = [mp.mpf(0), mp.mpf(0)]
        for row in data["a"]:
            e = [
                mp.exp(mp.mpf(float(v)) + sum(u * mp.mpf(float(c)) for u, c in zip(weights[k], data["b"], strict=True)))
                for k, v in enumerate(row)
            ]
            p = [v / mp.fsum(e) for v in e]
            for j in range(2):
                mean = mp.fsum(p[k] * weights[k][j] for k in range(3))
                total[j] += mp.fsum(p[k] * (weights[k][j] - mean) ** 2 for k in range(3))
    assert got.exact
    np.testing.assert_allclose(got.value, [float(v) for v in total], rtol=tolerance)


def test_a_single_number_shared_by_all_logits():
    m = cp.Model("one")
    i = m.axes("i", i=3)
    a, b = m.input("a", i), m.param("b")
    m.objective(cp.logsumexp(a[i] * b, i))
    est = cp.compile(m, wrt=["b"], real="float32", backend="interpreter")
    got = est.diagonal(a=np.array([0.3, 1.1, 1.7], np.float32), b=np.float32(20))["b"]
    assert got.exact and float(got.value) == pytest.approx(2.2119e-6, rel=1e-4)
