"""One policy for results that are not finite, in every method."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import CheckError, NonFiniteWarning, RequestError

X = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0], [-1.0, 2.0, 2.0]])
GOOD = [0, 2]
W = np.array([1.0, 2.0, 3.0])


def model() -> cp.Model:
    """Row 1 has log 0, row 3 log -1."""
    m = cp.Model("bad")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w = m.input("x", n, i), m.param("W", i)
    m.objective(cp.sum(sp.log(x[n, i]) * w[i] ** 3, i) + sp.sqrt(cp.sum(w[i] ** 2 * x[n, i], i)))
    return m


CALLS = {
    "value": lambda e, a: e.value(**a),
    "gradient": lambda e, a: e.gradient(**a)["W"],
    "value_and_gradient": lambda e, a: e.value_and_gradient(**a)[1]["W"],
    "hvp": lambda e, a: e.hvp({"W": W}, **a)["W"],
    "diagonal": lambda e, a: e.diagonal(**a)["W"].value,
    "sampled": lambda e, a: e.diagonal(samples=2, exact=False, method="hutchinson", **a)["W"].value,
    "all three": lambda e, a: e.value_gradient_and_diagonal(**a)[2]["W"].value,
    "trace": lambda e, a: e.trace(**a).value,
    "sampled trace": lambda e, a: e.trace(samples=2, exact=False, method="hutchinson", **a).value,
    "block": lambda e, a: e.block("W", "W", **a).value,
    "entries": lambda e, a: e.entries([(("W", (0,)), ("W", (0,)))], **a)[0].value,
    "hessian": lambda e, a: e.hessian(**a).matrix(),
    "directions": lambda e, a: e.hessian(method="directions", **a).matrix(),
    "bind": lambda e, a: e.bind("gradient", **a)()["W"],
    "stream": lambda e, a: e.stream().add(**a).result()["W"].value,
}


@pytest.mark.parametrize("backend", ["native", "interpreter"])
@pytest.mark.parametrize("call", CALLS)
def test_sums_over_rows(call: str, backend: str) -> None:
    ask = CALLS[call]
    est = cp.compile(model(), wrt=["W"], backend=backend, programs=())
    with pytest.raises(CheckError, match=r"row.*1, 3 are not finite.*log of a negative number") as error:
        ask(est, {"x": X, "W": W})
    assert "nonfinite='nan'" in str(error.value)
    assert np.isfinite(ask(est, {"x": X[GOOD], "W": W})).all()

    est = cp.compile(model(), wrt=["W"], backend=backend, programs=(), nonfinite="nan")
    with pytest.warns(NonFiniteWarning, match="rows 1, 3 are not finite"):
        found = np.asarray(ask(est, {"x": X, "W": W}))
    assert np.isnan(found.ravel()[0]) and not np.isinf(found).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = np.asarray(ask(est, {"x": X[GOOD], "W": W}))
    assert np.isfinite(right).all()


BY_ROW = {
    "rows": lambda e, a: e.rows(**a),
    "gradient": lambda e, a: e.gradient(**a)["x"],
    "jvp": lambda e, a: e.jvp({"x": np.ones_like(a["x"])}, **a),
    "hvp": lambda e, a: e.hvp({"x": np.ones_like(a["x"])}, **a)["x"],
    "diagonal": lambda e, a: e.diagonal(**a)["x"].value,
    "trace": lambda e, a: e.trace(**a).value,
    "block": lambda e, a: e.block("x", "x", **a).value,
    "hessian": lambda e, a: e.hessian(**a).blocks["x", "x"],
    "bind": lambda e, a: e.bind("gradient", **a)()["x"],
}


@pytest.mark.parametrize("backend", ["native", "interpreter"])
@pytest.mark.parametrize("call", BY_ROW)
def test_a_bad_row_is_nan_and_the_others_are_right(call: str, backend: str) -> None:
    ask = BY_ROW[call]
    est = cp.compile(model(), wrt=["x"], backend=backend, programs=())
    with pytest.raises(CheckError, match=r"\(row 1; [12] of 4 rows\)"):
        ask(est, {"x": X, "W": W})
    est = cp.compile(model(), wrt=["x"], backend=backend, programs=(), nonfinite="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, right = ask(est, {"x": X, "W": W}), ask(est, {"x": X[GOOD], "W": W})
    assert np.isnan(found[1]).all()
    assert np.isfinite(right).all()
    np.testing.assert_array_equal(found[GOOD], right)


def test_an_independent_gradient() -> None:
    est = cp.compile(model(), wrt=["x"], nonfinite="nan")
    expected = W**3 / X[0] + W**2 / (2 * np.sqrt(np.sum(W**2 * X[0])))
    np.testing.assert_allclose(est.gradient(x=X, W=W)["x"][0], expected, rtol=1e-14)


def test_only_what_was_asked_for_counts() -> None:
    """The value overflows, its gradient does not."""
    x = sp.symbols("x")
    est = cp.compile(1e308 * x, wrt=[x])
    assert est.gradient(x=10.0)["x"] == 1e308
    with pytest.raises(CheckError, match="value: the result is inf"):
        est.value(x=10.0)
    with pytest.raises(CheckError, match="value"):
        est.value_and_gradient(x=10.0)


def test_a_stream_takes_back_a_bad_piece() -> None:
    est = cp.compile(model(), wrt=["W"])
    stream = est.stream().add(x=X[:1], W=W)
    with pytest.raises(CheckError, match="diagonal of W"):
        stream.add(x=X[1:2], W=W)
    found = stream.add(x=X[2:3], W=W).result()["W"].value
    np.testing.assert_array_equal(found, est.diagonal(x=X[GOOD], W=W)["W"].value)


def test_a_bound_call_recovers() -> None:
    est = cp.compile(model(), wrt=["W"])
    data = X[GOOD].copy()
    call = est.bind("gradient", x=data, W=W)
    right = call()["W"].copy()
    data[0, 0] = 0.0
    with pytest.raises(CheckError, match="gradient of W.*row 0 is not finite"):
        call()
    data[0, 0] = X[0, 0]
    np.testing.assert_array_equal(call()["W"], right)


def test_the_option_is_checked() -> None:
    with pytest.raises(RequestError, match="nonfinite='ignore' is not one of error, nan"):
        cp.compile(model(), nonfinite="ignore")


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_a_spline_is_nan_beyond_its_points(backend: str) -> None:
    """Inside it is SymPy's; a warning where it is written says once what holds outside."""
    t = sp.Symbol("t", real=True)
    spline = sp.interpolating_spline(3, t, [0, 1, 2, 4, 7], [0, 3, 1, 2, 5])
    m = cp.Model("curve")
    n = m.axis("n", cp.ROWS)
    x, y = m.input("x", n), m.input("y", n)
    with pytest.warns(NonFiniteWarning, match="^level: a Piecewise has no value where none") as seen:
        level = m.define("level", n, spline.subs(t, x[n]))
        m.objective(level[n] ** 2 * y[n])
    assert len(seen) == 1 and seen[0].filename == __file__
    given = {"x": np.array([0.5, 7.5, 3.0]), "y": np.array([1.0, 2.0, -1.0])}
    est = cp.compile(m, wrt=["x", "y"], backend=backend, programs=(), nonfinite="nan")
    value, gradient, diagonal = est.rows(**given), est.gradient(**given), est.diagonal(exact=True, **given)["x"].value
    s = sp.Symbol("s")
    for row, (at, by) in enumerate(zip(given["x"], given["y"], strict=True)):
        whole = spline**2 * s
        for found, wanted in ((value, whole), (gradient["x"], whole.diff(t)), (gradient["y"], whole.diff(s)),
                              (diagonal, whole.diff(t, 2))):  # fmt: skip
            expected = float(wanted.subs({t: sp.Rational(at), s: sp.Rational(by)}))
            assert np.isnan(expected) == (row == 1)
            assert found[row] == pytest.approx(expected, rel=1e-12, nan_ok=True)
    with pytest.raises(CheckError, match=r"gradient of x: entry \[1\]"):
        cp.compile(m, wrt=["x"], backend=backend, programs=()).gradient(**given)


def test_pieces_that_leave_no_gap_are_not_warned_of() -> None:
    t = sp.Symbol("t", real=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est = cp.compile(sp.Piecewise((t, t < 0), (t**2, t >= 0)), wrt=[t], backend="interpreter")
    assert est.value(t=3.0) == 9 and est.value(t=-3.0) == -3
