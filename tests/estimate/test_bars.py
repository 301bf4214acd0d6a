"""Error bars: their factors against tables and simulation, and what they promise on small models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import RequestError
from cpgen.estimate.sampling import combine, quantile, variance_of_mean, widening


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 3, 3.182),
        (0.95, 4, 2.776),
        (0.95, 10, 2.228),
        (0.95, 30, 2.042),
        (0.99, 4, 4.604),
        (0.99, 20, 2.845),
        (0.90, 5, 2.015),
        (0.95, 1e9, 1.960),
    ],
)
def test_quantiles_of_the_tables(confidence: float, freedom: float, expected: float) -> None:
    # the expansion is at its worst at 99 percent and four degrees: half a percent
    assert quantile(confidence, freedom) == pytest.approx(expected, rel=6e-3 if confidence == 0.99 else 2e-3)


def test_bars_from_few_columns_are_longer() -> None:
    assert widening(2, 1) > widening(4, 1) > widening(16, 1) > widening(1000, 1) > 1
    assert widening(2, 100) < 1.01 and widening(10**9, 1) == pytest.approx(1, abs=1e-6)


def test_the_variance_of_a_mean_without_replacement() -> None:
    """All samples of K of 6 numbers, and whole rounds before."""
    from itertools import combinations

    numbers = np.array([3.0, -1.0, 4.0, 1.0, 5.0, -9.0])
    for k in (1, 2, 3, 5, 6):
        means = [np.mean(c) for c in combinations(numbers, k)]
        assert np.var(means) == pytest.approx(numbers.var(ddof=1) * variance_of_mean(k, "hadamard", 6), abs=1e-12)
    longer = [(numbers.sum() + sum(c)) / 8 for c in combinations(numbers, 2)]
    assert np.var(longer) == pytest.approx(numbers.var(ddof=1) * variance_of_mean(8, "hadamard", 6))
    assert variance_of_mean(5, "independent", 6) == 1 / 5


def test_batches_of_columns_are_pooled_by_their_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 3))
    total: dict[str, Any] = {}
    used = 0
    for size in (4, 2, 3):
        part = x[used : used + size]
        total = combine(total, used, {"diag_w": part.mean(axis=0), "var_diag_w": part.var(axis=0, ddof=1)}, size)
        used += size
    np.testing.assert_allclose(total["diag_w"], x.mean(axis=0))
    pooled = sum((len(p) - 1) * p.var(axis=0, ddof=1) for p in (x[:4], x[4:6], x[6:])) / 6
    np.testing.assert_allclose(total["var_diag_w"], pooled, rtol=0.2)


@pytest.fixture(scope="module")
def two_signs() -> tuple[cp.Estimator, dict[str, Any]]:
    """Entries made by two noise elements, 32 apart, and others by all: the exact diagonal is 2 and 0.64 in turn.

    There are so many that a closed form would cost more than columns.
    """
    m = cp.Model("two")
    i, j, k = m.axes("i j k", i=8, j=64, k=64)
    w, b, a = m.param("w", i), m.param("B", j, i), m.param("A", k, j)
    u = m.define("u", j, cp.sum(b[j, i] * w[i], i))
    y = m.define("y", k, cp.sum(a[k, j] * u[j], j))
    m.objective(cp.sum(sp.exp(y[k]), k))
    matrix = np.zeros((64, 8))
    matrix[:, 1::2] = np.random.default_rng(0).choice([-0.1, 0.1], size=(64, 4))
    matrix[[0, 1, 2, 3], [0, 2, 4, 6]] = matrix[[32, 33, 34, 35], [0, 2, 4, 6]] = 1
    est = cp.compile(m, wrt=[w], backend="interpreter", programs=())
    return est, {"w": np.zeros(8), "B": matrix, "A": np.eye(64)}


@pytest.mark.parametrize("design", ["hadamard", "independent"])
def test_no_bar_is_zero_on_a_wrong_value(two_signs: Any, design: str) -> None:
    est, arrays = two_signs
    exact = est.diagonal(arrays, exact=True)["w"].value
    np.testing.assert_allclose(exact, [2, 0.64] * 4, rtol=1e-12)
    for samples in (4, 16):
        covered = []
        for seed in range(120):
            found = est.diagonal(arrays, samples=samples, seed=seed, design=design, exact=False, method="cp")["w"]
            off = np.abs(found.value - exact)
            assert np.all((found.stderr > 0) | (off < 1e-12))
            covered.append(off <= 2 * found.stderr)
        # at four columns two signs agree by chance in an eighth of the runs: less than 95 percent is all there is to have
        assert np.mean(covered) > (0.85 if samples == 4 else 0.9)


def test_a_whole_design_is_exact_and_says_so(two_signs: Any) -> None:
    est, arrays = two_signs
    found = est.diagonal(arrays, samples=64, exact=False, method="cp")["w"]
    assert found.samples == 64
    np.testing.assert_allclose(found.value, [2, 0.64] * 4, rtol=1e-12)
    assert not found.stderr.any()


def test_rtol_is_kept_with_the_stated_confidence(two_signs: Any) -> None:
    est, arrays = two_signs
    exact = est.diagonal(arrays, exact=True)["w"].value
    missed = 0
    for seed in range(60):
        found = est.diagonal(arrays, rtol=0.3, samples=4, seed=seed, design="independent", exact=False, method="cp")["w"]
        missed += bool(np.linalg.norm(found.value - exact) > 0.3 * np.linalg.norm(exact))
    assert missed <= 6  # 3 expected; 7 or more have a probability of 0.03
    few = est.diagonal(arrays, rtol=0.2, confidence=0.5, design="independent", exact=False, method="cp")["w"].samples
    many = est.diagonal(arrays, rtol=0.2, confidence=0.999, design="independent", exact=False, method="cp")["w"].samples
    assert few < many
    with pytest.raises(RequestError, match="confidence"):
        est.diagonal(arrays, rtol=0.2, confidence=1.5)


def test_probes_of_rows_and_of_none_have_a_bar_after_whole_designs() -> None:
    """Rows shuffle their columns by themselves, so the products of the two kinds of probes do not cancel."""
    m = cp.Model("mixed")
    n, i, s = m.axes("n i s", n=cp.ROWS, i=4, s=4)
    x, w, e = m.input("x", n, i), m.param("w", i), m.param("E", i, s)
    v = m.define("v", i, cp.sum(e[i, s] * w[s], s))
    z = m.define("z", (n, i), cp.hypot(sp.sin(v[i]) ** 2 + 1, x[n, i]))
    u = m.define("u", (n, i), z[n, 3] * z[n, i])
    c = m.define("c", (n, i), cp.sum(e[i, s] * u[n, s], s))
    y = m.define("y", (n, i), sp.tanh(u[n, 2] + u[n, i] * c[n, i]))
    m.objective(cp.sum(sp.asin(4 * sp.tanh(sp.tanh(c[n, i] * y[n, i])) / 5), i))
    est = cp.compile(m, wrt=["x", "w"], backend="interpreter", programs=())
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(2, 4)), "w": rng.normal(size=4), "E": rng.normal(size=(4, 4))}
    exact = est.diagonal(arrays, exact=True)
    found = est.diagonal(arrays, samples=64, exact=False, method="hutchinson", seed=2)
    for leaf in ("x", "w"):
        assert (np.abs(found[leaf].value - exact[leaf].value) <= 6 * found[leaf].stderr + 1e-12).all(), leaf
