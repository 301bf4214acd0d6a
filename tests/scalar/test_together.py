"""What SymPy evaluates while the user writes must not change what a float holds; against mpmath and published values."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.code.printer import expression
from cpgen.code.tree import Name
from cpgen.errors import UnsupportedError
from cpgen.scalar import canonical, diff, to_c, to_numpy

X, Y, Q = sp.symbols("x y q", real=True)
REALS = pytest.mark.parametrize("real", ["float32", "float64"])


def values(expr, real, **points):
    """Value, first and second derivatives by the first name, of the interpreter's functions."""
    symbols = [sp.Symbol(name, real=True) for name in points]
    exprs = [expr, diff(expr, symbols[0]), diff(diff(expr, symbols[0]), symbols[0])]
    return [float(v) for v in to_numpy(exprs, symbols)(*(np.asarray(p, real) for p in points.values()))]


@REALS
@pytest.mark.parametrize("t", [298.15, 305.0, 330.0])
def test_an_arrhenius_law_that_arrives_taken_apart(real, t):
    # SymPy hands over 2.0e-44*exp(30000.0/x)
    found = values(sp.exp(30000.0 * (1 / X - 1 / 298.15)), real, x=t)
    exact = mpmath.mpf(float(np.asarray(t, real)))

    def f(x):
        return mpmath.exp(30000 * (1 / x - 1 / mpmath.mpf(298.15)))

    with mpmath.workdps(50):
        wanted = [f(exact), mpmath.diff(f, exact), mpmath.diff(f, exact, 2)]
    condition = 30000 / t  # |x f'/f|
    for got, want in zip(found, wanted, strict=True):
        assert abs(got / want - 1) < 3 * condition * np.finfo(real).eps


@REALS
def test_a_constant_far_below_the_type(real):
    # 2.6e-565*y*exp(2000.0*x)
    found = values(Y * sp.exp((X - 0.65) * 2000.0), real, x=0.65, y=1.0)
    at = float(np.asarray(0.65, real)) - 0.65
    np.testing.assert_allclose(found[0], np.exp(2000 * at), rtol=3 * 1300 * np.finfo(real).eps)
    np.testing.assert_allclose(found[1], 2000 * np.exp(2000 * at), rtol=3 * 1300 * np.finfo(real).eps)


@REALS
@pytest.mark.parametrize(
    "expr, x, y, want",
    [
        ((1e-30 * X) ** 2, 1e30, 0.0, 1.0),
        ((1e30 * X) ** 2 * Y, 1e-30, 3.0, 3.0),
        (1e-30 * X**2.5 * 1e-30, 1e24, 0.0, 1.0),
        ((1e-25 * X) * (1e-25 * Y), 1e25, 1e25, 1.0),
        (1e30 * X / (1e-30 * Y), 1e-30, 1e30, 1.0),
        (1e-20 * sp.exp(X), 100.0, 0.0, 1e-20 * np.exp(100.0)),
        (1e25 * sp.exp(-X), 110.0, 0.0, 1e25 * np.exp(-110.0)),
        (sp.log(1e30 * X * 1e30), 1.0, 0.0, 60 * np.log(10)),
        (1.0545718e-34**2 / (2 * X * Y**2), 9.1093837e-31, 1e-9, 6.1042e-21),
    ],
    ids=str,
)
def test_products_whose_constant_leaves_the_range(real, expr, x, y, want):
    want_rtol = 2e-4 if want == 6.1042e-21 else 130 * np.finfo(real).eps
    assert canonical(canonical(expr)) == canonical(expr)
    found = to_numpy([expr], [X, Y])(np.asarray(x, real), np.asarray(y, real))[0]
    np.testing.assert_allclose(float(found), want, rtol=want_rtol)
    text = " ".join(expression(tree) for _, tree in to_c([expr], {X: Name("x"), Y: Name("y")}, real).lets)
    assert "inf" not in text and "nan" not in text


@pytest.mark.parametrize("real, constant", [("float32", "1e60"), ("float32", "1e-60"), ("float64", "1e-400")])
def test_a_constant_beyond_the_type_names_the_definition(real, constant):
    m = cp.Model("m")
    w = m.param("w")
    shifted = m.define("shifted", (), sp.sin(w + sp.Float(constant)))
    m.objective(shifted**2)
    message = f"^shifted: the constant .*{constant[2:]} .*flows in {real}.*test_together.py"
    with pytest.raises(UnsupportedError, match=message):
        cp.compile(m, real=real, backend="interpreter", programs=())


def test_reductions_keep_products_together():
    m = cp.Model("m")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    t = m.input("t", n, i)
    m.objective(cp.sum(sp.exp(30000.0 * (1 / t[n, i] - 1 / 298.15)), i))
    est = cp.compile(m, wrt=["t"], real="float32", backend="interpreter", programs=())
    at = np.array([[298.15, 305.0, 330.0]], np.float32)
    exact = np.exp(30000.0 * (1 / at.astype(float) - 1 / 298.15))
    np.testing.assert_allclose(est.rows(t=at), exact.sum(1), rtol=1e-5)
    np.testing.assert_allclose(est.gradient(t=at)["t"], -30000 * exact / at.astype(float) ** 2, rtol=3e-5)


# 0 log 0


@REALS
@pytest.mark.parametrize("backend", ["interpreter", "auto"])
def test_a_hill_fit_with_a_control_row(real, backend):
    dose, y, k, h = sp.symbols("dose y K h")
    est = cp.compile((y - dose**h / (k**h + dose**h)) ** 2, wrt=[k, h], real=real, backend=backend, programs=())
    rows = {"dose": [0, 1, 3], "y": [0.1, 0.4, 0.6], "K": [2, 2, 2], "h": [1.5, 1.5, 1.5]}
    arrays = {name: np.array(v, real) for name, v in rows.items()}
    gradient = est.gradient(**arrays)
    np.testing.assert_allclose([gradient[v].sum() for v in "Kh"], [0.02390, 0.04593], atol=6e-6)
    wanted = [[0.07055, 0.01162], [0.01162, 0.03957]]
    np.testing.assert_allclose(est.hessian(**arrays).matrix().sum(0), wanted, atol=6e-6)


@pytest.mark.parametrize(
    "expr, wanted",
    [
        (X * sp.log(X), 0.0),
        (X * (sp.log(X) - 1), 0.0),
        (X * sp.log(X / Y), 0.0),
        (X * (sp.log(X) - sp.log(Y)), 0.0),
        (X**Y * sp.log(X), 0.0),
        (diff(diff(X**Y, Y), Y), 0.0),
        (diff(X**3 * sp.log(X), X), 0.0),
        (diff(diff(X**3 * sp.log(X), X), X), 0.0),
        (X**2 * sp.log(X) ** 2 * sp.log(2 * X), 0.0),
        (sp.sqrt(X) * sp.log(X), 0.0),
    ],
    ids=str,
)
def test_zero_log_zero(expr, wanted):
    assert to_numpy([expr], [X, Y])(0.0, 1.5)[0] == wanted


def test_the_entropy_of_a_certain_event():
    entropy = -X * sp.log(X) - (1 - X) * sp.log(1 - X)
    assert list(to_numpy([entropy], [X])(np.array([0.0, 1.0]))[0]) == [0.0, 0.0]


def test_what_is_not_zero_log_zero_stays():
    exprs = [X * sp.log(X), sp.log(X), X * (sp.log(X) + 1 / X), X * sp.log(X)]
    found = to_numpy(exprs, [X])(np.array([-1.0, 0.0, np.nan]))
    assert np.isnan(found[0][0]) and found[1][1] == -np.inf and np.isnan(found[0][2])
    assert found[2][1] != 0  # the limit is 1


# values that the user wrote


@pytest.mark.parametrize(
    "written, wanted",
    [(sp.Heaviside(X, 1), 1.0), (sp.Heaviside(X, 0), 0.0), (sp.Heaviside(X), 0.5), (sp.Heaviside(X, Y), 0.25)],
    ids=str,
)
def test_heaviside_at_zero(written, wanted):
    assert list(to_numpy([written], [X, Y])(np.array([-2.0, 0.0, 2.0]), 0.25)[0]) == [0.0, wanted, 1.0]


@pytest.mark.parametrize("backend", ["interpreter", "auto"])
def test_heaviside_beside_other_terms(backend):
    k, y = sp.symbols("k y")
    est = cp.compile(sp.Heaviside(k - 1, 1) * y**2 + y**4, wrt=[y], backend=backend, programs=())
    assert est.rows(k=1.0, y=2.0) == 20
    assert est.hessian(k=1.0, y=2.0).matrix().item() == 50


def test_a_distribution_is_refused():
    with pytest.raises(UnsupportedError, match="DiracDelta.* has no value at a point"):
        canonical(X * sp.DiracDelta(X - 1) + Y)
    with pytest.raises(UnsupportedError, match="the constant nan"):
        canonical(sp.Heaviside(X, sp.nan))


def test_a_positive_symbol_beside_another_is_no_constant():
    F, K = sp.symbols("F K", positive=True)
    for expr in (sp.log(F / K), sp.log(F * K), sp.log(1 / (F * K))):
        found = canonical(expr)
        assert float(found.subs({F: 3, K: 2})) == pytest.approx(float(expr.subs({F: 3, K: 2})), rel=1e-14)
