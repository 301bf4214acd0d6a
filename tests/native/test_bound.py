"""Calls on fixed arrays: the bits of an ordinary call, the arrays themselves, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import DataError, RequestError, ShapeError


def estimator(real: str = "float64", backend: str = "auto") -> cp.Estimator:
    m = cp.Model("small")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=5)
    x, weight = m.input("x", n, i), m.param("W", h, i)
    z = m.define("z", (n, h), sp.tanh(cp.sum(weight[h, i] * x[n, i], i)))
    m.objective(cp.sum(z[n, h] ** 2, h))
    return cp.compile(m, wrt=["W"], real=real, backend=backend, programs=())


def arrays(rows: int, real: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    return {"x": rng.normal(size=(rows, 3)).astype(real), "W": rng.normal(size=(5, 3)).astype(real)}


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("rows", [1, 40])
def test_bits_of_ordinary_calls(real: str, rows: int) -> None:
    est, given = estimator(real), arrays(rows, real)
    names = ("gradient", "diagonal", "value", "trace")
    gradient, diagonal, value, trace = (est.bind(what, **given) for what in names)
    for _ in range(2):
        assert gradient()["W"].tobytes() == est.gradient(**given)["W"].tobytes()
        assert diagonal()["W"].tobytes() == est.diagonal(exact=True, **given)["W"].value.tobytes()
        assert float(value()["value"]) == est.value(**given)
        assert trace()["trace"].tobytes() == est.trace(exact=True, **given).value.tobytes()
        given["W"][...] *= 0.5  # seen by the next call


def test_interpreter() -> None:
    est, given = estimator(backend="interpreter"), arrays(4)
    call = est.bind("gradient", **given)
    assert call()["W"].tobytes() == est.gradient(**given)["W"].tobytes()


def test_outputs_of_the_caller() -> None:
    est, given = estimator(), arrays(4)
    mine = np.zeros((5, 3))
    assert est.bind("gradient", out={"W": mine}, **given)()["W"] is mine
    assert np.array_equal(mine, est.gradient(**given)["W"])


def test_refusals() -> None:
    est, given = estimator(), arrays(4)
    with pytest.raises(RequestError, match="only value, gradient, diagonal"):
        est.bind("sketch", **given)
    with pytest.raises(DataError, match="W would have to be copied"):
        est.bind("gradient", x=given["x"], W=given["W"].astype(np.float32))
    with pytest.raises(DataError, match="x would have to be copied"):
        est.bind("gradient", x=given["x"].tolist(), W=given["W"])
    with pytest.raises(ShapeError, match="expected \\(5, 3\\)"):
        est.bind("gradient", out={"W": np.zeros(3)}, **given)
    with pytest.raises(DataError, match="dtype float64"):
        est.bind("gradient", out={"W": np.zeros((5, 3), np.float32)}, **given)
    with pytest.raises(RequestError, match="out has V"):
        est.bind("gradient", out={"V": np.zeros(3)}, **given)
