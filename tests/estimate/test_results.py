"""Results say what they are, and stand for their values."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import RequestError


@pytest.fixture
def made() -> tuple[cp.Estimator, dict[str, Any], cp.Model]:
    m = cp.Model("toy")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=2)
    x, w, t = m.input("x", n, i), m.param("w", h, i), m.param("t")
    a = m.define("a", (n, h), cp.sum(w[h, i] * x[n, i], i))
    b = m.define("b", (n, h), sp.tanh(a[n, h]))
    m.objective(sp.tanh(cp.sum(b[n, h] + sp.Max(a[n, h], 0), h) * t), reduction="mean")
    est = cp.compile(m, wrt=[w, t], backend="interpreter", programs=())
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(4, 3)), "w": rng.normal(size=(2, 3)), "t": 0.3}
    return est, arrays, m


def test_an_estimate_stands_for_its_value(made: Any) -> None:
    est, arrays, _ = made
    found = est.diagonal(arrays, exact=True)
    w, t = found["w"], found["t"]
    value = w.value.copy()
    assert (w.shape, w.ndim, w.size, w.dtype, len(w)) == ((2, 3), 2, 6, np.float64, 2)
    for result, expected in (
        (w / 2, value / 2),
        (1 - w, 1 - value),
        (w * w, value**2),
        (value - w, np.zeros((2, 3))),
        (np.sqrt(abs(w)), np.sqrt(abs(value))),
        (w[0], value[0]),
        (np.asarray(w, np.float32), value.astype(np.float32)),
        (np.sum(w, axis=0), value.sum(axis=0)),
        (np.concatenate(list(w)), value.ravel()),
        (w > 0, value > 0),
        (w == w, np.ones((2, 3), bool)),
    ):
        assert type(result) is np.ndarray and np.array_equal(result, expected)
    assert w[1, 2] == value[1, 2] and float(t) == t.value and bool(t) and -t == -t.value
    with pytest.raises(TypeError):
        float(w)
    with pytest.raises(TypeError):
        len(t)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(w)
    with pytest.raises(RequestError, match="w is a result"):
        np.add(value, 1, out=w)
    own = np.array(w)
    own += 1
    assert np.array_equal(w.value, value)
    assert np.array_equal(pickle.loads(pickle.dumps(w)).value, value)


def test_results_describe_themselves(made: Any) -> None:
    est, arrays, model = made
    sampled = est.diagonal(arrays, samples=2, seed=7, method="hutchinson_plain")
    for text in (str(sampled), repr(sampled)):
        words = "w (2, 3)|t: | +- |(2 samples)|method hutchinson_plain|hadamard|seed 7|float64|interpreter"
        for word in words.split("|"):
            assert word in text
        assert "kink" not in text and len(text.splitlines()) <= 8
    flat = {**arrays, "w": np.zeros((2, 3))}
    diagonal = est.diagonal(flat, exact=True)
    for kinked in (diagonal, diagonal["w"], est.hessian(flat), est.sketch(flat)):
        assert "8 evaluation points on a kink" in str(kinked) == repr(kinked)
    assert "no error bar" in str(est.diagonal(arrays, samples=1, method="hutchinson_plain")["w"])
    assert "BIASED" in str(est.diagonal(arrays, method="becker_lecun"))
    assert str(est.hessian(arrays)).splitlines()[0] == "Hessian by w (2, 3), t: 7 x 7, exact"
    sketch = str(est.sketch(arrays, samples=3))
    assert "by w (2, 3), t" in sketch and "3 columns each (seed 0)" in sketch
    for word in ("estimator of toy", "mean over rows", "by w (2, 3), t", "given x (rows, 3)", "interpreter: ", "hessian"):
        assert word in repr(est)
    for word in ("model toy", "n of rows", "inputs x[n, i]", "parameters w[h, i], t", "definitions a[n, h], b", "(mean"):
        assert word in repr(model)
    assert "objective (sum over rows): none yet" in repr(cp.Model("empty"))


def test_the_matrix_is_in_the_order_of_wrt(made: Any) -> None:
    _, arrays, model = made
    first = cp.compile(model, wrt=["t", "w"], backend="interpreter", programs=()).hessian(arrays)
    second = cp.compile(model, wrt=["w", "t"], backend="interpreter", programs=()).hessian(arrays)
    order = [6, 0, 1, 2, 3, 4, 5]
    assert list(first.sizes) == ["t", "w"]
    np.testing.assert_allclose(first.matrix(), second.matrix()[np.ix_(order, order)], rtol=1e-12)
    np.testing.assert_allclose(second.matrix()[4, :6].reshape(2, 3), second.blocks["w", "w"][1, 1], rtol=1e-12)
