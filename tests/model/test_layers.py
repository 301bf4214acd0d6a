"""The layers against plain NumPy; their mistakes are in test_errors.py, their Hessians in tests/acceptance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.signal import correlate

import cpgen as cp

RNG = np.random.default_rng(3)
N = 2


def rows(build: Callable[[cp.Model, Any], tuple[Any, dict[str, np.ndarray]]]) -> np.ndarray:
    """Each row's weighted sum over everything that the layer gives, the weights being 1, 2, 3, ..."""
    m = cp.Model("layer")
    out, arrays = build(m, m.axis("n", cp.ROWS))
    inner = out.axes[1:]
    weights = m.input("weights", *inner)
    m.objective(cp.sum(out[out.axes] * weights[inner], *inner))
    shape = [a.extent for a in inner]
    arrays["weights"] = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    wrt = next(iter(arrays))
    return cp.compile(m, wrt=wrt, backend="interpreter", programs=()).rows(**arrays)


def weighted(expected: np.ndarray) -> np.ndarray:
    flat = expected.reshape(len(expected), -1)
    return flat @ np.arange(1.0, flat.shape[1] + 1)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_dense(square: bool, bias: bool) -> None:
    inner = 4 if square else 3
    x, w, b = RNG.normal(size=(N, 2, inner)), RNG.normal(size=(4, inner)), RNG.normal(size=4)

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        t, i, o = m.axes("t i o", t=2, i=inner, o=4)
        weight, offset = m.param("W", o, i), m.param("b", o) if bias else None
        out = cp.layers.dense(m, "s", m.input("x", n, t, i), weight, offset)
        return out, {"x": x, "W": w} | ({"b": b} if bias else {})

    np.testing.assert_allclose(rows(build), weighted(x @ w.T + (b if bias else 0)), rtol=1e-13)


def test_dense_where_the_weight_repeats_an_axis_of_the_source() -> None:
    """A recurrent matrix W[i, j] applied to h[n, i]."""
    x, w = RNG.normal(size=(N, 3)), RNG.normal(size=(3, 3))

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        i, j = m.axes("i j", i=3, j=3)
        weight = m.param("W", i, j)
        first = cp.layers.dense(m, "first", m.input("x", n, j), weight)
        return cp.layers.dense(m, "second", first, weight), {"x": x, "W": w}

    np.testing.assert_allclose(rows(build), weighted(x @ w.T @ w.T), rtol=1e-13)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 2), (3, 1)])
def test_conv1d(stride: int, padding: int) -> None:
    x, w, b = RNG.normal(size=(N, 2, 7)), RNG.normal(size=(3, 2, 3)), RNG.normal(size=3)

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        c, p, o, k = m.axes("c p o k", c=2, p=7, o=3, k=3)
        variables = m.input("x", n, c, p), m.param("W", o, c, k), m.param("b", o)
        return cp.layers.conv1d(m, "s", *variables, stride, padding), {"x": x, "W": w, "b": b}

    full = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
    expected = [[sum(correlate(r[c], f[c], "valid") for c in range(2)) for f in w] for r in full]
    np.testing.assert_allclose(
        rows(build), weighted(np.array(expected)[:, :, ::stride] + b[:, None]), rtol=1e-12
    )


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0)])
def test_conv2d(stride: int, padding: int) -> None:
    x, w = RNG.normal(size=(N, 2, 5, 4)), RNG.normal(size=(2, 2, 3, 2))

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        c, p, q, o, k, l = m.axes("c p q o k l", c=2, p=5, q=4, o=2, k=3, l=2)
        variables = m.input("x", n, c, p, q), m.param("W", o, c, k, l)
        return cp.layers.conv2d(m, "s", *variables, stride=stride, padding=padding), {"x": x, "W": w}

    full = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    expected = [[sum(correlate(r[c], f[c], "valid") for c in range(2)) for f in w] for r in full]
    np.testing.assert_allclose(
        rows(build), weighted(np.array(expected)[:, :, ::stride, ::stride]), rtol=1e-12
    )


CONVOLUTIONS = [(2, 1, 1, 1), (1, 2, 2, 0), (2, 4, 1, 2), (1, 1, 1, 0)]
POOLS = [((2, 3), None, 0), ((3, 2), 2, 1), ((3, 3), 1, 2), ((2, 4), 3, 1), ((5, 3), 2, 2)]


@pytest.mark.parametrize(("dilation", "groups", "stride", "padding"), CONVOLUTIONS)
def test_conv2d_dilated_in_groups(dilation: int, groups: int, stride: int, padding: int) -> None:
    x, w = RNG.normal(size=(N, 4, 6, 5)), RNG.normal(size=(8, 4 // groups, 2, 3))

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        c, p, q, o, g, k, l = m.axes("c p q o g k l", c=4, p=6, q=5, o=8, g=4 // groups, k=2, l=3)
        variables = m.input("x", n, c, p, q), m.param("W", o, g, k, l)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return cp.layers.conv2d(m, "s", *variables, **options), {"x": x, "W": w}

    full = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    wide = np.zeros((8, 4 // groups, 2 * dilation - dilation + 1, 2 * dilation + 1))
    wide[:, :, ::dilation, ::dilation] = w
    each = 4 // groups
    expected = [
        [sum(correlate(r[o // (8 // groups) * each + c], wide[o, c], "valid") for c in range(each)) for o in range(8)]
        for r in full
    ]
    np.testing.assert_allclose(
        rows(build), weighted(np.array(expected)[:, :, ::stride, ::stride]), rtol=1e-12
    )


@pytest.mark.parametrize(("sizes", "stride", "padding"), POOLS)
def test_max_pool_of_negative_numbers(sizes: tuple[int, int], stride: int | None, padding: int) -> None:
    x = RNG.normal(size=(N, 5, 4)) - 5

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        p, q = m.axes("p q", p=5, q=4)
        return cp.layers.max_pool(m, "s", m.input("x", n, p, q), *sizes, stride=stride, padding=padding), {"x": x}

    full = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(full, sizes, axis=(1, 2))
    down, across = (stride or size for size in sizes)
    np.testing.assert_allclose(rows(build), weighted(windows[:, ::down, ::across].max(axis=(3, 4))), rtol=1e-13)


def test_one_of_equal_elements_has_the_derivative_of_a_maximum() -> None:
    m = cp.Model("ties")
    n, i = m.axes("n i", n=cp.ROWS, i=5)
    x = m.input("x", n, i)
    pooled = cp.layers.max_pool(m, "pooled", x, 3, stride=1, padding=1)
    m.objective(cp.sum(pooled[n, pooled.axes[1]] ** 2, pooled.axes[1]) + cp.min(x[n, i], i))
    est = cp.compile(m, wrt="x", programs=())
    found = est.gradient(x=np.full((1, 5), -2.0))["x"]
    assert found.sum() == -5 * 4 + 1
    assert est.diagonal(x=np.full((1, 5), -2.0))["x"].value.sum() % 2 == 0
    assert est.hessian(x=np.full((1, 5), -2.0)).kinks and not est.hessian(x=np.array([[1, 9, 3, 7, 5.0]])).kinks


def test_avg_pool_leaves_out_what_fills_no_window() -> None:
    x = RNG.normal(size=(N, 5, 4))

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        p, q = m.axes("p q", p=5, q=4)
        return cp.layers.avg_pool(m, "s", m.input("x", n, p, q), 2, 3), {"x": x}

    expected = x[:, :4, :3].reshape(N, 2, 2, 1, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(rows(build), weighted(expected), rtol=1e-13)


def test_attention() -> None:
    q, k, v = RNG.normal(size=(N, 3, 2)), RNG.normal(size=(N, 4, 2)), RNG.normal(size=(N, 4, 5))

    def build(m: cp.Model, n: Any) -> tuple[Any, dict[str, np.ndarray]]:
        t, s, e, d = m.axes("t s e d", t=3, s=4, e=2, d=5)
        variables = m.input("q", n, t, e), m.input("k", n, s, e), m.input("v", n, s, d)
        return cp.layers.attention(m, "mixed", *variables), {"q": q, "k": k, "v": v}

    scores = np.exp(np.einsum("nte,nse->nts", q, k) / np.sqrt(2))
    expected = np.einsum("nts,nsd->ntd", scores / scores.sum(axis=2, keepdims=True), v)
    np.testing.assert_allclose(rows(build), weighted(expected), rtol=1e-12)
