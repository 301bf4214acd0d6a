"""What index notation means: each definition against plain NumPy, value and gradient, through the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp

RNG = np.random.default_rng(7)
X, Y, W, V = (
    RNG.normal(size=(4, 6)),
    RNG.normal(size=(4, 3)),
    RNG.normal(size=(3, 6)),
    RNG.normal(size=(3, 3)),
)


class Letters:
    """A model with x[n, i], y[n, h], W[h, i] and V[h, k], and letters enough."""

    def __init__(self) -> None:
        self.m = m = cp.Model("language")
        self.n, self.i, self.h, self.k, self.p, self.q = m.axes(
            "n i h k p q", n=cp.ROWS, i=6, h=3, k=3, p=5, q=2
        )
        self.x, self.y = m.input("x", self.n, self.i), m.input("y", self.n, self.h)
        self.W, self.V = m.param("W", self.h, self.i), m.param("V", self.h, self.k)


def padded(a: np.ndarray, *at: int) -> np.ndarray:
    """Columns of ``a``, zero outside."""
    return np.stack([a[..., t] if 0 <= t < a.shape[-1] else np.zeros(a.shape[:-1]) for t in at], axis=-1)


# the expression of one row, and the same in NumPy with X, Y, W, V; each is squared, so that gradients are not constant
MEANINGS: dict[str, tuple[Callable[[Letters], Any], Callable[[], np.ndarray]]] = {
    "contraction": (lambda a: cp.sum(a.W[a.h, a.i] * a.x[a.n, a.i], a.i, a.h), lambda: (X @ W.T).sum(1)),
    "broadcast": (
        lambda a: cp.sum(a.y[a.n, a.h] + a.V[a.h, a.k], a.h, a.k),
        lambda: (Y[:, :, None] + V).sum((1, 2)),
    ),
    "sum counts repeats": (lambda a: cp.sum(a.y[a.n, a.h] + 1, a.h), lambda: (Y + 1).sum(1)),
    "diagonal": (lambda a: cp.sum(a.V[a.h, a.h] * a.y[a.n, a.h], a.h), lambda: Y @ np.diagonal(V)),
    "transpose": (
        lambda a: cp.sum(a.V[a.k, a.h] * a.V[a.h, a.k] * a.y[a.n, a.h], a.h, a.k),
        lambda: np.einsum("kh,hk,nh->n", V, V, Y),
    ),
    "other letter of the same extent": (
        lambda a: cp.sum(a.y[a.n, a.k] * a.V[a.k, 0], a.k),
        lambda: Y @ V[:, 0],
    ),
    "constant": (lambda a: a.x[a.n, 5] * a.V[0, 2], lambda: X[:, 5] * V[0, 2]),
    "neighbours": (
        lambda a: cp.sum((a.x[a.n, a.p + 1] - a.x[a.n, a.p]) ** 2, a.p),
        lambda: (np.diff(X) ** 2).sum(1),
    ),
    "reversed": (lambda a: cp.sum(a.y[a.n, 2 - a.h] * a.V[a.h, 1], a.h), lambda: Y[:, ::-1] @ V[:, 1]),
    "stride": (lambda a: cp.sum(a.x[a.n, 3 * a.q + 1] ** 2, a.q), lambda: (X[:, 1::3] ** 2).sum(1)),
    "two letters in a subscript": (
        lambda a: cp.sum(a.x[a.n, 3 * a.q + a.h] * a.V[a.h, a.q], a.q, a.h),
        lambda: np.einsum("nqh,hq->n", X.reshape(4, 2, 3), V[:, :2]),
    ),
    "padded": (
        lambda a: cp.sum(a.x.padded[a.n, 2 * a.h - 1] * a.V[a.h, 0], a.h),
        lambda: padded(X, -1, 1, 3) @ V[:, 0],
    ),
    "padded on the far side": (
        lambda a: cp.sum(a.x.padded[a.n, a.i + 2] * a.x[a.n, a.i], a.i),
        lambda: (padded(X, *range(2, 8)) * X).sum(1),
    ),
    "padding is not the function's": (
        lambda a: cp.sum(sp.cos(a.y.padded[a.n, a.i - 2]), a.i),
        lambda: np.cos(padded(Y, *range(-2, 4))).sum(1),
    ),
    "own letter inside": (
        lambda a: cp.sum((a.x[a.n, a.i] - cp.mean(a.x[a.n, a.i], a.i)) ** 2, a.i),
        lambda: 6 * X.var(axis=1),
    ),
    "a factor outside the sum": (
        lambda a: a.V[0, 0] * cp.sum(a.x[a.n, a.i], a.i) ** 2,
        lambda: V[0, 0] * X.sum(1) ** 2,
    ),
    "product": (
        lambda a: cp.prod(a.y[a.n, a.h] * a.V[a.h, a.k], a.h, a.k),
        lambda: np.prod(Y[:, :, None] * V, (1, 2)),
    ),
    "mean": (
        lambda a: cp.mean(a.y[a.n, a.h] * a.V[a.h, a.k], a.h, a.k),
        lambda: (Y[:, :, None] * V).mean((1, 2)),
    ),
    "norm": (lambda a: cp.norm(a.x[a.n, a.i], a.i), lambda: np.linalg.norm(X, axis=1)),
    "logsumexp": (
        lambda a: cp.logsumexp(300 * a.y[a.n, a.h], a.h),
        lambda: np.logaddexp.reduce(300 * Y, axis=1),
    ),
    "softmax of another letter": (
        lambda a: cp.sum(cp.softmax(a.V[a.h, a.k], a.k) * a.y[a.n, a.h] * a.y[a.n, a.k], a.h, a.k),
        lambda: np.einsum("hk,nh,nk->n", np.exp(V) / np.exp(V).sum(1, keepdims=True), Y, Y),
    ),
    "layer norm": (
        lambda a: cp.sum(cp.layer_norm(a.x[a.n, a.i], a.i, eps=0.1) * a.W[0, a.i], a.i),
        lambda: (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(axis=1, keepdims=True) + 0.1) @ W[0],
    ),
    "largest": (lambda a: cp.max(a.y[a.n, a.h] * a.V[a.h, a.k], a.h, a.k), lambda: (Y[:, :, None] * V).max((1, 2))),
    "smallest along one of two": (
        lambda a: cp.sum(cp.min(a.y[a.n, a.h] * a.V[a.h, a.k], a.h) ** 2, a.k),
        lambda: ((Y[:, :, None] * V).min(1) ** 2).sum(1),
    ),
    "logsumexp of two letters": (
        lambda a: cp.logsumexp(300 * a.y[a.n, a.h] * a.V[a.h, a.k], a.h, a.k),
        lambda: np.logaddexp.reduce((300 * Y[:, :, None] * V).reshape(4, 9), axis=1),
    ),
    "softmax of two letters beside a third": (
        lambda a: cp.sum(
            cp.softmax(a.y[a.n, a.h] * a.W[a.h, a.p] * a.V[a.k, a.h], a.p, a.k) * a.x[a.n, a.p + a.q],
            *(a.h, a.p, a.k, a.q),
        ),
        lambda: _softmax_of_two(),
    ),
    "rms norm": (
        lambda a: cp.sum(cp.rms_norm(a.x[a.n, a.i], a.i, eps=0.1) * a.W[0, a.i], a.i),
        lambda: X / np.sqrt((X**2).mean(1, keepdims=True) + 0.1) @ W[0],
    ),
    "layer norm of two letters": (
        lambda a: cp.sum(cp.layer_norm(a.y[a.n, a.h] * a.V[a.k, a.h], a.h, a.k) * a.V[a.k, a.h] ** 2, a.h, a.k),
        lambda: _layer_norm_of_two(),
    ),
    "extrema of quotients": (
        lambda a: cp.max(a.x[a.n, a.i // 2 * 2] - a.y[a.n, a.i % 3] * a.V[a.i // 2, 0], a.i),
        lambda: (np.repeat(X[:, ::2], 2, 1) - np.tile(Y, 2) * np.repeat(V[:, 0], 2)).max(1),
    ),
    "parameters only": (
        lambda a: cp.sum(a.V[a.h, a.k] ** 2, a.h, a.k) + 0 * a.x[a.n, 0],
        lambda: (V**2).sum() * np.ones(4),
    ),
}


def _softmax_of_two() -> np.ndarray:
    s = np.exp(np.einsum("nh,hp,kh->nhpk", Y, W[:, :5], V))
    return np.einsum("nhpk,npq->n", s / s.sum((2, 3), keepdims=True), np.stack([X[:, :5], X[:, 1:]], axis=2))


def _layer_norm_of_two() -> np.ndarray:
    s = Y[:, None, :] * V
    centred = s - s.mean((1, 2), keepdims=True)
    return (centred / np.sqrt((centred**2).mean((1, 2), keepdims=True) + 1e-5) * V**2).sum((1, 2))


@pytest.mark.parametrize("name", MEANINGS)
def test_meaning(name: str) -> None:
    write, in_numpy = MEANINGS[name]
    a = Letters()
    z = a.m.define("z", a.n, write(a))
    a.m.objective(z[a.n] ** 2)
    est = cp.compile(a.m, wrt=["x", "V"], backend="interpreter", programs=())
    arrays = {"x": X, "y": Y, "W": W, "V": V}
    found = est.rows(**arrays)
    expected = in_numpy() ** 2
    np.testing.assert_allclose(found if found.shape else np.full(4, found / 4), expected, rtol=1e-12)
    direction = {"x": RNG.normal(size=X.shape), "V": RNG.normal(size=V.shape)}
    step = 1e-6
    sides = [{**arrays, **{k: arrays[k] + s * step * d for k, d in direction.items()}} for s in (1, -1)]
    slope = (est.value(**sides[0]) - est.value(**sides[1])) / (2 * step)
    assert np.sum(est.jvp(direction, **arrays)) == pytest.approx(slope, rel=1e-6, abs=1e-6)
    gradient = est.gradient(**arrays)
    assert sum(np.sum(gradient[k] * d) for k, d in direction.items()) == pytest.approx(
        slope, rel=1e-6, abs=1e-6
    )


def test_a_definition_may_order_its_axes_freely() -> None:
    a = Letters()
    t = a.m.define("t", (a.i, a.h), sp.sin(a.W[a.h, a.i]))
    s = a.m.define("s", (a.n, a.k), cp.sum(t[a.i, a.k] * a.x[a.n, a.i], a.i))
    a.m.objective(cp.sum(s[a.n, a.h] ** 2, a.h))
    est = cp.compile(a.m, wrt=["W"], backend="interpreter", programs=())
    np.testing.assert_allclose(est.rows(x=X, W=W), ((X @ np.sin(W).T) ** 2).sum(1), rtol=1e-13)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rows_are_summed_or_averaged(reduction: str) -> None:
    a = Letters()
    a.m.objective(cp.sum(a.W[0, a.i] * a.x[a.n, a.i], a.i) ** 2, reduction=reduction)
    est = cp.compile(a.m, wrt=["W"], backend="interpreter", programs=())
    rows = (X @ W[0]) ** 2
    assert est.value(x=X, W=W) == pytest.approx(getattr(np, reduction)(rows), rel=1e-14)


def test_an_objective_without_rows_beside_inputs_with_rows() -> None:
    a = Letters()
    a.m.objective(cp.sum(a.V[a.h, a.k] ** 3, a.h, a.k))
    est = cp.compile(a.m, backend="interpreter", programs=())
    assert est.value(V=V) == pytest.approx((V**3).sum(), rel=1e-14)
    np.testing.assert_allclose(est.diagonal(V=V, W=W)["V"].value, 6 * V, rtol=1e-13)


def test_one_letter_is_one_axis_and_strings_are_not_expressions_of_the_model() -> None:
    m = cp.Model("single")
    i = m.axes("i", i=3)
    assert i.extent == 3
    w = m.param("w", i)
    assert repr(w) == "w[i]" and str(w[i + 1 - 1]) == "w[i]"


def test_scalars_and_numbers() -> None:
    m = cp.Model("scalars")
    n = m.axis("n", cp.ROWS)
    t, s = m.input("t", n), m.param("s")
    half = m.define("half", (), s / 2)
    m.objective((t[n] * half + 3) ** 2)
    est = cp.compile(m, wrt=["s", "t"], backend="interpreter", programs=())
    t0 = np.array([1.0, -2.0])
    np.testing.assert_allclose(est.rows(t=t0, s=0.5), (t0 / 4 + 3) ** 2)
    np.testing.assert_allclose(est.hessian(t=t0, s=0.5).blocks["s", "s"], (t0**2 / 2).sum())
