"""Arrays looked at in C: what passes, what is left to the slower checks, and that both ways give the same answers."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import DataError, ShapeError
from cpgen.native import ANY_ROWS, rows_of

needs_headers = pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").is_file(), reason="Python's headers are not installed"
)


@needs_headers
def test_rows() -> None:
    x, w = np.ones((5, 3)), np.ones((4, 3))
    assert rows_of((x, w), ((ANY_ROWS, 3), (4, 3)), "float64") == 5
    assert rows_of((w,), ((4, 3),), "float64") == 0
    assert rows_of((), (), "float64") == 0
    assert rows_of((x.astype("f4"), np.float32([1])), ((ANY_ROWS, 3), (1,)), "float32") == 5
    assert rows_of((x, np.ones(5)), ((ANY_ROWS, 3), (ANY_ROWS,)), "float64") == 5


@needs_headers
@pytest.mark.parametrize(
    "array",
    [
        np.ones((3, 5)),
        np.ones((0, 3)),
        np.ones(3),
        np.ones((5, 3), "f4"),
        np.ones((5, 3), ">f8"),
        np.ones((5, 3), int),
        np.ones((3, 5)).T,
        np.ones((10, 3))[::2],
        [[1.0, 2.0, 3.0]],
        None,
        np.frombuffer(bytes(124), np.uint8)[4:].view("f8").reshape(5, 3),
    ],
    ids=["shape", "empty", "axes", "float32", "big endian", "int", "transposed", "strided", "list", "none", "unaligned"],
)
def test_what_is_looked_at_more_closely(array: object) -> None:
    assert rows_of((array,), ((ANY_ROWS, 3),), "float64") is None


@needs_headers
def test_different_rows() -> None:
    assert rows_of((np.ones((5, 3)), np.ones(4)), ((ANY_ROWS, 3), (ANY_ROWS,)), "float64") is None


@needs_headers
@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_place_is_looked_at(real: str, value: float) -> None:
    largest = np.finfo(real).max
    for size in (1, 7, 8, 9, 16, 31, 33):
        array = np.resize(np.array([largest, -largest, 0.0, -0.0, np.finfo(real).tiny], real), size)
        assert rows_of((array,), ((size,),), real) == 0
        for k in range(size):
            spoiled = array.copy()
            spoiled[k] = value
            assert rows_of((spoiled,), ((size,),), real) is None
    wide = np.ones(1 << 17, real)
    wide[-1] = value
    assert rows_of((wide,), ((ANY_ROWS,),), real) is None


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_both_ways_agree(real: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = cp.Model("both")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w = m.input("x", n, i), m.param("w", i)
    m.objective(sp.sin(cp.sum(w[i] * x[n, i], i)))
    est = cp.compile(m, real=real, programs=("gradient",))
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(7, 3)).astype(real), "w": rng.normal(size=3).astype(real)}
    wrong: list[tuple[dict[str, np.ndarray], type[Exception]]] = [
        (given | {"x": np.full((7, 3), np.nan, real)}, DataError),
        (given | {"x": given["x"][:, :2]}, ShapeError),
        (given | {"x": given["x"].T}, ShapeError),
        (given | {"w": np.ones((2, 3), real)}, ShapeError),
        (given | {"x": np.empty((0, 3), real)}, ShapeError),
    ]
    quick = est.gradient(**given)
    said = [str(pytest.raises(error, est.gradient, **arrays).value) for arrays, error in wrong]
    monkeypatch.setattr("cpgen.estimate.core.rows_of", lambda *a: None)
    monkeypatch.setattr("cpgen.native.module.pointer_writer", lambda: None)
    slow = est.gradient(**given)
    assert quick["w"].tobytes() == slow["w"].tobytes()
    assert said == [str(pytest.raises(error, est.gradient, **arrays).value) for arrays, error in wrong]
