"""Arguments beyond the range of the fast trigonometric functions are computed all the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import CheckError
from cpgen.estimate.backends import Native


def waves() -> cp.Model:
    m = cp.Model("waves")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w = m.input("x", n, i), m.param("w", i)
    m.objective(cp.sum(sp.sin(w[i] * x[n, i]) + sp.cos(x[n, i]) * sp.tan(w[i]), i))
    return m


LARGE = np.array([[1.5, -2e7, 0.25], [3e9, 0.5, 1e12]])


@pytest.mark.parametrize("rows", [1, 2])
def test_large_arguments(rows: int) -> None:
    est = cp.compile(waves(), wrt=["x"])
    w = np.array([0.75, 1.25, -2.5])
    x = LARGE[:rows]
    found = est.rows(x=x, w=w)
    for row in range(rows):
        expected = sum(math.sin(w[i] * x[row, i]) + math.cos(x[row, i]) * math.tan(w[i]) for i in range(3))
        assert found[row] == pytest.approx(expected, rel=1e-14)
    gradient = est.gradient(x=x, w=w)
    slope = w * np.cos(w * x) - np.sin(x) * np.tan(w)
    assert np.allclose(gradient["x"], slope, rtol=1e-13, atol=0)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("rows", [1, 40])
def test_bound_calls(rows: int, real: str) -> None:
    """Right before, at and after large arguments; what is not finite is still refused."""
    est = cp.compile(waves(), wrt=["x"], real=real)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 3)).astype(real)
    w = np.array([0.75, 1.25, -2.5], real)
    names = ("value", "gradient", "diagonal", "trace")
    calls = {what: est.bind(what, x=x, w=w) for what in names}
    for scale in (1, 1e7, 1e-7):
        x *= np.asarray(scale, real)
        found = {what: {k: v.copy() for k, v in call().items()} for what, call in calls.items()}
        at, by = x.astype(float), w.astype(float)
        close: dict[str, float] = {"rtol": 1e-12} if real == "float64" else {"rtol": 2e-5, "atol": 2e-5}
        product = (w * x).astype(float)  # rounded as the model rounds it
        value = np.sin(product) + np.cos(at) * np.tan(by)
        slope, bend = (
            by * np.cos(product) - np.sin(at) * np.tan(by),
            -(by**2) * np.sin(product) - np.cos(at) * np.tan(by),
        )
        np.testing.assert_allclose(found["value"]["value"], value.sum(), **close)
        np.testing.assert_allclose(found["gradient"]["x"], slope, **close)
        np.testing.assert_allclose(found["diagonal"]["x"], bend, **close)
        np.testing.assert_allclose(found["trace"]["trace"], bend.sum(1), **close)
    x[...] = np.inf
    with pytest.raises(CheckError, match="gradient of x"):
        calls["gradient"]()


def test_streams_are_not_spoilt() -> None:
    """Sums that were added to before the NaN was seen start again from where they were."""
    est = cp.compile(waves(), wrt=["w"])
    w = np.array([0.75, 1.25, -2.5])
    stream = est.stream(samples=4)
    stream.add(x=LARGE[:1], w=w)
    stream.add(x=LARGE[1:], w=w)
    whole = est.diagonal(samples=4, x=LARGE, w=w)["w"].value
    assert np.allclose(stream.result()["w"].value, whole, rtol=1e-12)
    assert np.allclose(
        whole, (-np.sin(w * LARGE) * LARGE**2 + 2 * np.cos(LARGE) * np.tan(w) / np.cos(w) ** 2).sum(0)
    )


def test_small_arguments_never_need_it() -> None:
    est = cp.compile(waves())
    est.value(x=LARGE / 1e12, w=np.ones(3))
    backend = est.loaded("value").backend
    assert isinstance(backend, Native) and backend._wide is None
    assert "cpgen_sin_moderate_f64(" in est.source()["waves.c"]


def test_nan_of_the_model_stays_nan() -> None:
    """log of a negative number is NaN on every library."""
    m = cp.Model("logs")
    n = m.axes("n", n=cp.ROWS)
    x = m.input("x", n)
    m.objective(sp.log(x[n]) * sp.sin(x[n]))
    est = cp.compile(m, wrt=["x"], nonfinite="nan")
    assert math.isnan(est.rows(x=np.array([-1.0]))[0])
