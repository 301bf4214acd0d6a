"""Plain SymPy expressions: numbers in, no axis of rows; arrays in, one result a row."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp

u, v, w = sp.symbols("u v w")
OBJECTIVE = sp.exp(u * v) + sp.sin(v - w) * u**3
POINT = {"u": 0.3, "v": -1.2, "w": 0.8}


@pytest.fixture(scope="module")
def est() -> cp.Estimator:
    return cp.compile(OBJECTIVE, wrt=[u, v], backend="interpreter", programs=())


def symbolic(point: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    at = {sp.Symbol(name): value for name, value in point.items()}
    gradient = [float(sp.diff(OBJECTIVE, s).subs(at)) for s in (u, v)]
    return np.array(gradient), np.array(sp.hessian(OBJECTIVE, (u, v)).subs(at), dtype=float)


def test_numbers_give_results_without_rows(est: cp.Estimator) -> None:
    gradient, hessian = symbolic(POINT)
    found = est.hessian(**POINT)
    assert found.matrix().shape == (2, 2)
    np.testing.assert_allclose(found.matrix(), hessian, rtol=1e-13)
    assert found.blocks["u", "v"].shape == ()
    first = est.gradient(**POINT)
    assert first["u"].shape == () == est.rows(**POINT).shape
    np.testing.assert_allclose([first["u"], first["v"]], gradient, rtol=1e-13)
    diagonal = est.diagonal(**POINT)
    assert diagonal["v"].value.shape == () == diagonal["v"].stderr.shape
    np.testing.assert_allclose(est.trace(**POINT).value, np.trace(hessian), rtol=1e-13)
    assert est.block("v", "u", **POINT).value.shape == ()
    assert est.entries([(("u", ()), ("v", ()))], **POINT)[0].value == pytest.approx(hessian[0, 1], rel=1e-13)
    product = est.hvp({"u": 2.0, "v": -1.0}, **POINT)
    np.testing.assert_allclose([product["u"], product["v"]], hessian @ [2.0, -1.0], rtol=1e-13)
    assert est.jvp({"u": 2.0}, **POINT) == pytest.approx(2 * gradient[0], rel=1e-13)
    sketch = est.sketch(exact=True, **POINT)
    np.testing.assert_allclose(sketch.matrix(), hessian, rtol=1e-12)


def test_arrays_give_one_result_a_row(est: cp.Estimator) -> None:
    points = [POINT, {"u": -0.4, "v": 0.1, "w": 2.0}, {"u": 1.0, "v": 0.5, "w": 0.0}]
    arrays = {name: np.array([p[name] for p in points]) for name in POINT}
    found = est.hessian(**arrays).matrix()
    assert found.shape == (3, 2, 2)
    np.testing.assert_allclose(found, [symbolic(p)[1] for p in points], rtol=1e-13)
    assert est.gradient(**arrays)["u"].shape == (3,)
    assert est.diagonal(**arrays)["u"].value.shape == (3,)
    assert est.trace(**arrays).value.shape == (3,)
    assert est.block("v", "u", **arrays).value.shape == (3,)


def test_arrays_of_one_keep_their_axis(est: cp.Estimator) -> None:
    assert est.hessian(**{k: np.array([x]) for k, x in POINT.items()}).matrix().shape == (1, 2, 2)


def test_numbers_natively(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path))
    est = cp.compile(OBJECTIVE, wrt=[u, v], programs=("hessian",))
    assert est.hessian(**POINT).matrix().shape == (2, 2)
    np.testing.assert_allclose(est.hessian(**POINT).matrix(), symbolic(POINT)[1], rtol=1e-12)


def test_a_declared_model_without_rows_has_no_such_axis() -> None:
    m = cp.Model("quartic")
    i = m.axis("i", 3)
    x, c = m.param("x", i), m.param("c")
    m.objective(cp.sum(x[i] ** 4, i) * c)
    est = cp.compile(m, backend="interpreter", programs=())
    arrays = {"x": np.array([1.0, 2.0, 3.0]), "c": 0.5}
    assert est.hessian(**arrays).matrix().shape == (4, 4)
    assert est.gradient(**arrays)["x"].shape == (3,)
    assert est.rows(**arrays).shape == () == est.trace(**arrays).value.shape


def test_only_the_symbols_asked_for_are_differentiated() -> None:
    est = cp.compile(OBJECTIVE, wrt=w, backend="interpreter", programs=())
    assert est.hessian(**POINT).matrix() == pytest.approx(
        -np.sin(POINT["v"] - POINT["w"]) * POINT["u"] ** 3 * 1.0
    )
    assert [x.name for x in cp.compile(OBJECTIVE, backend="interpreter", programs=()).wrt] == ["u", "v", "w"]


def test_an_expression_that_is_split_is_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpgen.model.model.ONE_MAP", 20)
    shared = sp.tanh(u * v + 1)
    objective = sum(sp.exp(shared * k) * sp.cos(u - k * v) for k in range(1, 5)) * shared * sp.cos(u)
    est = cp.compile(objective, wrt=[u, v], backend="interpreter", programs=())
    assert est.graph.definitions
    at = {u: sp.Rational(1, 5), v: sp.Rational(1, 10)}
    expected = np.array(sp.hessian(objective, (u, v)).subs(at).evalf(), dtype=float)
    np.testing.assert_allclose(est.hessian(u=0.2, v=0.1).matrix(), expected, rtol=1e-12)
