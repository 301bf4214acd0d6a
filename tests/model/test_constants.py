"""Constants: they travel with the model, are given by no caller, and are no leaves."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import ModelError, RequestError, ShapeError, UnsupportedError
from cpgen.ir.flat import fingerprint

X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
W = np.array([0.5, 2.0, -1.0])


def model(table: Any = (1.0, 2.0, 4.0)) -> cp.Model:
    m = cp.Model("constant")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w, c = m.input("x", n, i), m.param("w", i), m.constant("c", i, table)
    m.objective(cp.sum(c[i] * w[i] * x[n, i] * (cp.position(i) + 1), i) ** 2)
    return m


def expected(table: Any = (1.0, 2.0, 4.0)) -> float:
    return float(((X * W * np.array(table) * [1, 2, 3]).sum(1) ** 2).sum())


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_nobody_passes_a_constant(backend: str, real: Any) -> None:
    est = cp.compile(model(), backend=backend, real=real, programs=("value",))
    x, w = X.astype(real), W.astype(real)
    assert [est.value(x=x, w=w) for _ in range(2)] == [pytest.approx(expected())] * 2
    assert pickle.loads(pickle.dumps(est)).value(x=x, w=w) == pytest.approx(expected())
    with pytest.raises(RequestError, match="c is a constant of the model 'constant'"):
        est.value(x=x, w=w, c=w)
    with pytest.raises(RequestError, match="missing: w"):
        est.value(x=x)
    assert "c[i]" not in str(est) and "constants c[i], position_of_i[i]" in str(model())


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_bound_calls_and_streams_have_them(backend: str) -> None:
    est = cp.compile(model(), backend=backend, programs=())
    found = est.bind("gradient", x=X, w=W)()
    assert np.array_equal(found["w"], est.gradient(x=X, w=W)["w"])
    stream = est.stream(exact=True).add(x=X[:1], w=W).add(x=X[1:], w=W)
    np.testing.assert_allclose(stream.result()["w"].value, est.diagonal(exact=True, x=X, w=W)["w"].value, rtol=1e-12)


def test_models_with_other_numbers_are_other_models() -> None:
    numbers = [(1.0, 2.0, 4.0), (1.0, 2.0, np.nextafter(4.0, 5.0))]
    keys = [fingerprint(model(table).graph()) for table in (*numbers, numbers[0])]
    assert keys[0] == keys[2] != keys[1]
    for table in ((1, 2, 4), (3.0, 0.0, -1.0)):  # one library serves both
        assert cp.compile(model(table), programs=("value",)).value(x=X, w=W) == pytest.approx(expected(table))


def test_the_array_is_copied() -> None:
    table = np.array([1.0, 2.0, 4.0])
    m = model(table)
    table[:] = 0
    assert cp.compile(m, backend="interpreter", programs=()).value(x=X, w=W) == pytest.approx(expected())


def test_random_data_leave_constants_alone() -> None:
    assert cp.verify(cp.compile(model(), backend="interpreter", programs=()))
    est = cp.compile(model(), wrt=["w"], programs=())
    est.diagonal(x=X, w=W, samples=2, exact=False, method="hutchinson")


REFUSED: dict[str, tuple[Callable[[cp.Model, Any, Any], Any], type[Exception], str]] = {
    "shape": (lambda m, n, i: m.constant("q", i, [1, 2]), ShapeError, r"constant q has shape \(2,\), its axes \(3,\)"),
    "rows": (lambda m, n, i: m.constant("q", n, [1.0]), ModelError, "axis of rows"),
    "not finite": (lambda m, n, i: m.constant("q", i, [1, np.inf, 2]), ModelError, r"q is inf at \[1\]"),
    "text": (lambda m, n, i: m.constant("q", i, "abc"), ModelError, "dtype"),
    "ragged": (lambda m, n, i: m.constant("q", i, [[1], [2, 3]]), ModelError, "no array of numbers"),
    "complex": (lambda m, n, i: m.constant("q", i, [1j, 2, 3]), ModelError, "complex128"),
    "masked": (lambda m, n, i: m.constant("q", i, np.ma.masked_less([1, 2, 3], 2)), ModelError, "masked array"),
    "taken": (lambda m, n, i: m.constant("w", i, [1, 2, 3]), ModelError, "taken already"),
    "name of a position": (lambda m, n, i: m.input("position_of_i", n), ModelError, "cp.position"),
    "position of rows": (lambda m, n, i: cp.position(n), ModelError, "rows have no numbers"),
    "position of nothing": (lambda m, n, i: cp.position(3), ModelError, "axis of the model"),
    "axis as a number": (lambda m, n, i: m.define("q", i, i + 1), ModelError, r"write cp.position\(i\)"),
    "wrt": (lambda m, n, i: cp.compile(m, wrt=["c"], programs=()), RequestError, "'c', which is a constant"),
    "too large": (
        lambda m, n, i: cp.compile(model((1, 2, 1e39)), real="float32", programs=()),
        UnsupportedError,
        "constant c has numbers beyond the range of float32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    write, kind, says = REFUSED[name]
    m = model()
    axes = {a.name: a for a in m._axes.values()}
    with pytest.raises(kind, match=says):
        write(m, axes["n"], axes["i"])
