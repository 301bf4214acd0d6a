"""What ``verify`` draws, counts and says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sympy

import cpgen as cp
from cpgen.errors import DataError, ModelError, RequestError
from cpgen.estimate.estimator import Estimator
from cpgen.estimate.verify import random_arrays
from tests.catalogue import CATALOGUE

X, Y, T = sympy.symbols("x y T", real=True)


def rowless(unused: str, reduction: str = "sum") -> cp.Model:
    """An objective without rows beside an input with rows that it does not read."""
    m = cp.Model("rowless")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w, _ = m.input("x", n, i), m.param("w", i), m.param("u", i)
    if unused == "definition":
        m.define("part", (n,), cp.sum(x[n, i] ** 2, i))
    m.objective(cp.sum(sympy.sin(w[i]) * w[i] ** 2, i), reduction=reduction)
    return m


@pytest.mark.parametrize("reference", ["symbolic", "differences"])
@pytest.mark.parametrize("unused", ["input", "definition"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_an_objective_without_rows_counts_once(unused: str, reduction: str, reference: str) -> None:
    est = cp.compile(rowless(unused, reduction), wrt=["w", "x", "u"], backend="interpreter")
    found = cp.verify(est, rows=3, reference=reference)
    assert found.ok, str(found)
    assert {"gradient of x", "gradient of u", "diagonal of x"} <= set(found.zero)
    assert "hardly tested: gradient of x" in str(found)
    w = np.array([0.3, -1.2, 2.0])
    gradient = est.gradient(w=w, x=np.zeros((5, 3)), u=w)["w"]
    np.testing.assert_allclose(gradient, np.cos(w) * w**2 + 2 * w * np.sin(w), rtol=1e-14)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize(
    "expr",
    [
        sympy.sin(2 * sympy.pi * 5e6 * T),
        sympy.exp(60 / T),
        (X + 1e5) ** 2 - 1e10,
        sympy.log(X) * sympy.acos(Y) * sympy.acosh(T),
        X**2 * sympy.sqrt(T - 300) + Y,
    ],
    ids=str,
)
def test_right_models_are_verified(expr: sympy.Expr, real: str) -> None:
    found = cp.verify(cp.compile(expr, real=real, backend="interpreter"))
    assert found.ok, str(found)
    data = random_arrays(cp.compile(expr, real=real).graph, 3, 0, np.dtype(real))
    assert all(np.isfinite(a).all() and a.dtype == real for a in data.values())


class Wrong(Estimator):
    """The gradient with one wrong sign."""

    def gradient(self, *args: object, **arrays: object) -> dict[str, np.ndarray]:
        found = dict(super().gradient(*args, **arrays))  # type: ignore[arg-type]
        found["x"] = -found["x"]
        return found


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_a_wrong_gradient_is_refused(real: str) -> None:
    est = cp.compile(sympy.exp(60 / T) * X**2 + Y, real=real, backend="interpreter")
    assert cp.verify(est).ok
    found = cp.verify(Wrong(est.graph, est.wrt, est.options))
    assert not found.ok and not found.checks[0].ok and "FAIL gradient" in str(found)


def test_a_wrong_sign_in_a_small_gradient_is_refused() -> None:
    """The gradient by y is 1e-12 of that by x."""
    class Small(Estimator):
        def gradient(self, *args: object, **arrays: object) -> dict[str, np.ndarray]:
            found = dict(super().gradient(*args, **arrays))  # type: ignore[arg-type]
            found["y"] = -found["y"]
            return found

    est = cp.compile(1e6 * X**2 + 1e-6 * sympy.sin(Y), backend="interpreter")
    assert cp.verify(est).ok
    assert not cp.verify(Small(est.graph, est.wrt, est.options)).ok


def test_attention_is_not_saturated_by_its_data() -> None:
    found = cp.verify(cp.compile(CATALOGUE["attention"].build(), backend="interpreter"), rows=2)
    assert found.ok and found.zero == () and found.checks[0].error < 1e-9


def test_kinks_are_printed() -> None:
    est = cp.compile(sympy.Abs(X) * Y**2, backend="interpreter")
    found = cp.verify(est, x=np.array([0.0, 1.0]), y=np.array([1.0, 2.0]))
    assert found.kinks == 1 and "1 point lies exactly on a kink" in str(found)
    assert cp.verify(est).kinks == 0


@pytest.mark.parametrize("what", [{"seed": -1}, {"seed": 1.5}, {"rows": 0}, {"seed": None}, {"rows": True}])
def test_numbers_out_of_range(what: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(what))}=.* an integer of at least"):
        cp.verify(cp.compile(X**2, backend="interpreter"), **what)  # type: ignore[arg-type]


def test_no_data_in_the_domain() -> None:
    est = cp.compile(sympy.log(X - 1e6) * Y, backend="interpreter")
    with pytest.raises(DataError, match="declare ranges"):
        cp.verify(est)


# Declared ranges


def diode() -> cp.Model:
    m = cp.Model("diode")
    n = m.axis("n", cp.ROWS)
    v = m.input("v", n, low=0, high=0.8, unit="V")
    t, i = m.param("t", low=250, unit="K"), m.param("i_s", low=1e-12, high=1e-6, unit="A")
    m.objective(i * (sympy.exp(11604.5 * v[n] / t) - 1) ** 2)
    return m


def test_declared_ranges_are_kept_to_and_shown() -> None:
    graph = diode().graph()
    again = pickle.loads(pickle.dumps(cp.compile(diode(), backend="interpreter"))).graph
    assert [v.range_text for v in again.variables] == [v.range_text for v in graph.variables]
    assert [v.range_text for v in graph.variables] == ["0 to 0.8 V", "from 250 K", "1e-12 to 1e-06 A"]
    data = random_arrays(graph, 4, 0, np.dtype("float64"))
    assert data["v"].min() >= 0 and data["v"].max() <= 0.8 and data["t"] >= 250 and 1e-12 <= data["i_s"] <= 1e-6
    est = cp.compile(diode(), backend="interpreter")
    assert cp.verify(est).ok
    assert "data v(rows), 0 to 0.8 V" in est.show("gradient")
    assert "param i_s (), 1e-12 to 1e-06 A" in "\n".join(est.source(("gradient",)).values())


@pytest.mark.parametrize(
    "ends, said",
    [
        ({"low": 2, "high": 1}, "low=2.0 is not below high=1.0"),
        ({"low": 1, "high": 1}, "not below"),
        ({"low": float("nan")}, "low=nan is not a finite number"),
        ({"high": float("inf")}, "leave it out"),
        ({"high": "3"}, "high='3'"),
        ({"low": True}, "low=True"),
        ({"unit": 3}, "unit=3 is not a short text"),
        ({"unit": "*/"}, "unit="),
    ],
)
def test_wrong_ranges(ends: dict[str, object], said: str) -> None:
    m = cp.Model("m")
    for declare in (m.input, m.param):
        with pytest.raises(ModelError, match=f"^a: .*{said}|{said}".replace("*/", r"\*/")):
            declare("a", **ends)  # type: ignore[operator]
        assert not m.__dict__["_variables"] or "a" not in m.__dict__["_variables"]
