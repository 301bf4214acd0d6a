"""Hutch++, XTrace and XDiag: against the papers' formulas on dense matrices, their mean over all signs, and on models."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import cpgen as cp
from cpgen.errors import RequestError
from cpgen.estimate import lowrank
from tests.catalogue import CATALOGUE


def decaying(size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return (u * (0.5 ** np.arange(size) * np.where(rng.random(size) < 0.3, -1, 1))) @ u.T


def signs(size: int, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (1, size, count))


def by_definition(a: np.ndarray, omega: np.ndarray) -> tuple[list[float], np.ndarray]:
    """XTrace's parts and XDiag as defined: a basis of its own for each vector that is left out."""
    traces, diagonals = [], []
    for i in range(omega.shape[1]):
        q = np.linalg.qr(a @ np.delete(omega, i, axis=1))[0]
        off = np.eye(len(a)) - q @ q.T
        w = omega[:, i]
        traces.append(np.trace(q.T @ a @ q) + w @ off @ a @ off @ w)
        diagonals.append(np.diag(q @ q.T @ a) + w * (off @ a @ w))
    return traces, np.mean(diagonals, axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_they_follow_their_definitions(seed: int) -> None:
    a, omega = decaying(12, seed), signs(12, 5, seed)
    parts, diagonal = by_definition(a, omega[0])
    value, variance = lowrank.xtrace(lambda v: a @ v, omega)
    np.testing.assert_allclose(value, np.mean(parts), rtol=1e-10)
    np.testing.assert_allclose(variance, np.var(parts, ddof=1) / 5, rtol=1e-8)
    np.testing.assert_allclose(lowrank.xdiag(lambda v: a @ v, omega)[0], diagonal, rtol=1e-9, atol=1e-12)
    g = signs(12, 4, seed + 9)
    q = np.linalg.qr(a @ omega[0])[0]
    off = (np.eye(12) - q @ q.T) @ g[0]
    value, _ = lowrank.hutch_plus_plus(lambda v: a @ v, omega, g)
    np.testing.assert_allclose(value, np.trace(q.T @ a @ q) + np.trace(off.T @ a @ off) / 4, rtol=1e-10)


@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_their_mean_over_all_signs_is_exact(rank: int) -> None:
    """Also where the sketch has less than full rank: 2 ** 8 patterns of two vectors of four signs."""
    a = decaying(4, rank)
    values, vectors = np.linalg.eigh(a)
    a = (vectors[:, :rank] * values[:rank]) @ vectors[:, :rank].T
    patterns = np.array(list(product([-1.0, 1.0], repeat=8))).reshape(-1, 4, 2)
    stacked = lambda v: a @ v  # noqa: E731
    np.testing.assert_allclose(lowrank.xtrace(stacked, patterns)[0].mean(), np.trace(a), atol=1e-12)
    np.testing.assert_allclose(lowrank.xdiag(stacked, patterns).mean(0), np.diag(a), atol=1e-12)
    found = lowrank.hutch_plus_plus(stacked, patterns[:, :, :1], patterns[:, :, 1:])[0]
    np.testing.assert_allclose(found.mean(), np.trace(a), atol=1e-12)


def test_a_dominant_part_costs_them_nothing() -> None:
    a = decaying(60, 1)
    plain = [np.diag(omega.T @ a @ omega).mean() for omega in (signs(60, 24, s)[0] for s in range(20))]
    better = [lowrank.xtrace(lambda v: a @ v, signs(60, 12, s))[0][0] for s in range(20)]
    assert np.std(better) < np.std(plain) / 20


@pytest.mark.parametrize("name", ["softplus_energy", "mlp_tanh"])
def test_on_a_model(name: str) -> None:
    entry = CATALOGUE[name]
    arrays = entry.arrays()
    has_rows = {v.name: v.has_rows for v in entry.build().graph().variables}
    wrt = [leaf for leaf in entry.wrt if has_rows[leaf] == has_rows[entry.wrt[0]]]
    est = cp.compile(entry.build(), wrt=wrt, programs=(), backend="interpreter")
    trace, diagonal = est.trace(arrays, exact=True).value, est.diagonal(arrays, exact=True).flat()[0]
    for method in ("xtrace", "hutch++"):
        found = [est.trace(arrays, samples=6, seed=s, method=method) for s in range(30)]
        values = np.stack([f.value for f in found])
        assert np.all(np.abs(values.mean(0) - trace) <= 5 * values.std(0, ddof=1) / 30**0.5 + 1e-9 * np.abs(trace).max())
        assert found[0].method == method and not found[0].exact and np.all(found[0].stderr >= 0)
        np.testing.assert_array_equal(est.trace(arrays, samples=6, seed=0, method=method).value, values[0])
    found = np.stack([est.diagonal(arrays, samples=6, seed=s, method="xdiag").flat()[0] for s in range(30)])
    off = np.abs(found.mean(0) - diagonal)
    assert np.all(off <= 6 * found.std(0, ddof=1) / 30**0.5 + 1e-9 * np.abs(diagonal).max())
    assert np.isnan(est.diagonal(arrays, samples=6, method="xdiag").flat()[1]).all()


def test_what_they_refuse() -> None:
    entry = CATALOGUE["attention"]
    both = entry.compile(programs=(), backend="interpreter")
    with pytest.raises(RequestError, match="not for both at once"):
        both.trace(entry.arrays(), method="xtrace")
    entry = CATALOGUE["softplus_energy"]
    est = entry.compile(programs=(), backend="interpreter")
    for options, words in (({"samples": 2}, "at least 4"), ({"exact": True}, "neither"), ({"rtol": 0.1}, "neither")):
        with pytest.raises(RequestError, match=words):
            est.trace(entry.arrays(), method="xtrace", **options)
