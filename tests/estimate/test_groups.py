"""Traces by leaf and by group: values against an independent Hessian, bars and covariances against many seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp
from cpgen.errors import BudgetError, RequestError
from tests import reference
from tests.catalogue import CATALOGUE, Arrays

Array = NDArray[np.floating]
SEEDS = 400


def tied() -> tuple[cp.Model, tuple[str, ...], Arrays]:
    """One matrix read twice, and biases that share its read-outs."""
    entry = CATALOGUE["residual_tied"]
    return entry.build(), entry.wrt, entry.arrays()


def deep() -> tuple[cp.Model, tuple[str, ...], Arrays]:
    """Four curved layers, by weights that are read at different places and by those of the loss, which are exact."""
    m = cp.Model("deep")
    n, i, h, k, j = m.axes("n i h k j", n=cp.ROWS, i=8, h=9, k=8, j=8)
    x, w, b, v = m.input("x", n, i), m.param("W", h, i), m.param("b", h), m.param("V", k, h)
    a, u = m.param("A", j, k), m.param("u", j)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i) + b[h]))
    y = m.define("y", (n, k), cp.softplus(cp.sum(v[k, h] * z[n, h], h)))
    t = m.define("t", (n, j), sp.tanh(cp.sum(a[j, k] * y[n, k], k)))
    m.objective(sp.exp(cp.sum(u[j] * t[n, j], j)))
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(3, 8)), "W": rng.normal(size=(9, 8)) / 2, "b": rng.normal(size=9)}
    data |= {"V": rng.normal(size=(8, 9)) / 3, "A": rng.normal(size=(8, 8)) / 3}
    return m, ("W", "b", "V", "u"), data | {"u": rng.normal(size=8) / 2}


def by_input() -> tuple[cp.Model, tuple[str, ...], Arrays]:
    model, _, data = deep()
    return model, ("x",), data


def value(a: Arrays) -> Array:
    """:func:`deep` in NumPy, one number a row."""
    z = np.tanh(a["x"] @ a["W"].T + a["b"])
    return np.exp(np.tanh(np.log1p(np.exp(z @ a["V"].T)) @ a["A"].T) @ a["u"])


def diagonal(name: str, wrt: tuple[str, ...], data: Arrays) -> dict[str, Array]:
    """By differences of sixth order in extended precision; of parameters summed over rows."""
    if name == "tied":
        entry = CATALOGUE["residual_tied"]
        hessian = reference.derivatives(entry, data)[1][0]
        flat, found = np.diag(hessian), {}
        for leaf in wrt:
            found[leaf], flat = flat[: data[leaf].size].reshape(data[leaf].shape), flat[data[leaf].size :]
        return found
    step = np.longdouble(2e-3)
    point = {k: v.astype(np.longdouble) for k, v in data.items()}
    result = {}
    for leaf in wrt:
        per_row = leaf == "x"
        array = np.zeros((3, *data[leaf].shape[per_row:]))
        for place in np.ndindex(array.shape[1:]):
            total = np.zeros(3, np.longdouble)
            for t, weight in zip(range(-3, 4), reference.SECOND, strict=True):
                moved = point[leaf].copy()
                moved[(slice(None), *place) if per_row else place] += t * step
                total += weight * value(point | {leaf: moved})
            array[(slice(None), *place)] = total / step**2
        result[leaf] = array if per_row else array.sum(axis=0)
    return result


MODELS = {"tied": tied, "deep": deep, "by_input": by_input}
GROUPS: dict[str, dict[str, Any]] = {
    "tied": {"all": ["W", "b"], "bias": "b", "first": {"W": 0, "b": [0]}, "ends": {"W": np.s_[[0, 2], [0, 2]]}},
    "deep": {"layer": ["W", "b"], "loss": "u", "mixed": {"W": np.s_[:, 1], "V": np.eye(8, 9, dtype=bool), "u": True}},
    "by_input": {"all": "x", "two": {"x": [0, 2]}, "one": {"x": np.arange(8) == 1}},
}


def expected(name: str, wrt: tuple[str, ...], data: Arrays, groups: dict[str, Any]) -> Array:
    """``[row?, group]``, written from what the groups mean."""
    exact = diagonal(name, wrt, data)
    found = []
    for content in groups.values():
        total: Any = 0
        listed = [content] if isinstance(content, str) else content
        for leaf in listed:
            value, lead = exact[leaf], int(leaf == "x")
            chosen = np.zeros(value.shape[lead:])
            chosen[listed[leaf] if isinstance(listed, dict) else ...] = 1
            total = total + (value * chosen).reshape(*value.shape[:lead], -1).sum(axis=-1)
        found.append(total)
    return np.stack(found, axis=-1)


def compiled(name: str, backend: str = "interpreter", **options: Any) -> tuple[cp.Estimator, Arrays]:
    model, wrt, data = MODELS[name]()
    return cp.compile(model, wrt=list(wrt), backend=backend, programs=(), **options), data


def stacked(found: cp.Traces, what: str) -> Array:
    return np.stack([getattr(e, what) for e in found.values()], axis=-1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_exact_sums_are_those_of_an_independent_hessian(name: str, backend: str) -> None:
    est, data = compiled(name, backend)
    wanted = expected(name, tuple(v.name for v in est.wrt), data, GROUPS[name])
    for method in ("auto", "directions"):
        found = est.trace(data, groups=GROUPS[name], exact=True, method=method, covariance=True)
        assert list(found) == list(GROUPS[name]) and found.exact
        np.testing.assert_allclose(stacked(found, "value"), wanted, rtol=1e-9, atol=1e-9)
        assert not stacked(found, "stderr").any()
        assert found.covariance is not None and not found.covariance.any()
        assert found.covariance.shape == (*wanted.shape, len(GROUPS[name]))
    # unit columns in the program that samples; where more samples would do, it ends there
    found = est.trace(data, groups=GROUPS[name], rtol=1e-9, samples=2, method="cp")
    assert found.exact
    np.testing.assert_allclose(stacked(found, "value"), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["cp", "hutchinson", "hutchinson_plain", "auto"])
@pytest.mark.parametrize("name", MODELS)
def test_bars_and_covariances_are_those_of_many_seeds(name: str, method: str) -> None:
    est, data = compiled(name, "native")
    groups = GROUPS[name]
    wanted = expected(name, tuple(v.name for v in est.wrt), data, groups)
    values, bars, covariances = [], [], []
    for seed in range(SEEDS):
        found = est.trace(
            data, groups=groups, method=method, samples=16, seed=seed, design="independent", exact=False, covariance=True
        )
        assert found.covariance is not None
        values.append(stacked(found, "value"))
        bars.append(stacked(found, "stderr"))
        covariances.append(found.covariance)
    off, bar, covariance = np.stack(values) - wanted, np.stack(bars), np.stack(covariances)
    sampled = np.abs(off).max(axis=0) > 1e-9
    assert sampled.any()
    # unbiased: four standard errors of the mean, for each of a dozen numbers
    assert np.all(np.abs(off.mean(axis=0))[sampled] <= 4 * off.std(axis=0)[sampled] / SEEDS**0.5)
    covered = (np.abs(off) <= 2 * bar)[:, sampled]
    assert covered.mean() >= 0.9 and covered.mean(axis=0).min() >= 0.88
    np.testing.assert_allclose(np.diagonal(covariance, axis1=-2, axis2=-1), bar**2, rtol=1e-9, atol=1e-15)
    # sums and differences of groups, whose variances come from covariances of either sign
    rng = np.random.default_rng(0)
    for _ in range(12):
        w = rng.choice([-1.0, 1.0], size=wanted.shape[-1])
        true = ((off @ w) ** 2).mean(axis=0)
        told = np.einsum("...ab,a,b->...", covariance, w, w).mean(axis=0)
        seen = true > 1e-3 * (off**2).mean(axis=0).max()
        assert np.all((told / true)[seen] > 0.7) and np.all((told / true)[seen] < 1.6)


def test_the_bar_of_a_sum_is_not_that_of_independent_entries() -> None:
    est, data = compiled("tied")
    options: dict[str, Any] = {"samples": 16, "design": "independent", "exact": False, "method": "cp"}
    found = [est.trace(data, groups=GROUPS["tied"], seed=seed, **options)["all"] for seed in range(50)]
    entries = [est.diagonal(data, seed=seed, **options).flat()[1] for seed in range(50)]
    apart = np.median([np.sqrt((e**2).sum()) for e in entries])
    assert np.median([float(f.stderr) for f in found]) > 1.5 * apart


@pytest.mark.parametrize("method", ["cp", "hutchinson_plain"])
@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_the_total_over_leaves_is_the_trace_with_its_bar(backend: str, method: str) -> None:
    est, data = compiled("deep", backend)
    options: dict[str, Any] = {"samples": 4, "seed": 3, "exact": False, "method": method}
    found = est.trace(data, per_leaf=True, covariance=True, **options)
    whole = est.trace(data, **options)
    assert found.total is not None and found.covariance is not None
    assert list(found) == ["W", "b", "V", "u"] and found.covariance.shape == (4, 4)
    np.testing.assert_allclose(found.total.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(sum(float(e) for e in found.values()), whole.value, rtol=1e-12)
    np.testing.assert_allclose(np.diag(found.covariance), [e.stderr**2 for e in found.values()], rtol=1e-9, atol=1e-15)
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12 * np.trace(found.covariance)
    # the priors of a sum and of its parts lengthen bars by different amounts
    np.testing.assert_allclose(found.covariance.sum(), found.total.stderr**2, rtol=0.5)
    np.testing.assert_allclose(found.total.stderr, whole.stderr, rtol=0.3)
    if method == "hutchinson_plain":
        return
    assert found["u"].exact and not found["u"].stderr.any() and not found["W"].exact
    each = est.diagonal(data, **options)
    for leaf, trace in found.items():
        np.testing.assert_allclose(trace.value, each[leaf].value.sum(), rtol=1e-12)
    assert "total trace" in str(found)


def test_interpreter_and_native_agree_also_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"samples": 6, "exact": False, "method": "cp", "covariance": True}
    found = []
    for backend in ("interpreter", "native"):
        est, data = compiled("deep", backend)
        found.append(est.trace(data, groups=GROUPS["deep"], **options))
    monkeypatch.setattr("cpgen.estimate.core.BATCH_BYTES", 0)
    found.append(est.trace(data, groups=GROUPS["deep"], **options))
    for other in found[1:]:
        np.testing.assert_allclose(stacked(other, "value"), stacked(found[0], "value"), rtol=1e-10)
    assert found[0].covariance is not None and found[1].covariance is not None
    np.testing.assert_allclose(found[1].covariance, found[0].covariance, rtol=1e-9, atol=1e-12)
    single, data = compiled("deep", real="float32")
    narrow = single.trace({k: v.astype(np.float32) for k, v in data.items()}, groups=GROUPS["deep"], **options)
    assert narrow.covariance is not None and narrow.covariance.dtype == np.float32
    np.testing.assert_allclose(stacked(narrow, "value"), stacked(found[0], "value"), rtol=1e-4)


def test_one_sample_has_no_bar_and_no_covariance() -> None:
    est, data = compiled("tied")
    found = est.trace(data, per_leaf=True, covariance=True, samples=1, exact=False, method="cp")
    assert found.total is not None and np.isnan(found.total.stderr) and np.isnan(found["W"].stderr)
    assert found.covariance is not None and np.isnan(found.covariance).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": {}}, "mapping, name -> leaf names"),
        ({"groups": ["W"]}, "mapping, name -> leaf names"),
        ({"groups": {"a": {}}}, "group 'a'"),
        ({"groups": {"a": "Z"}}, "'Z' is not among wrt"),
        ({"groups": {"a": {"W": 3}}}, "group 'a': 3 does not index W"),
        ({"groups": {"a": {"W": np.ones((3, 2), bool)}}}, "the mask has shape"),
        ({"groups": {"a": {"W": 0.5}}}, "does not index W"),
        ({"groups": {"a": "W"}, "per_leaf": True}, "not both"),
        ({"per_leaf": True, "method": "xtrace"}, "the whole trace alone"),
        ({"per_leaf": True, "method": "s", "exact": False}, "samples single entries alone"),
        ({"per_leaf": True, "method": "best"}, "is not one of"),
        ({"covariance": True}, "several traces"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], message: str) -> None:
    est, data = compiled("tied")
    with pytest.raises(RequestError, match=message):
        est.trace(data, **options)


def test_where_it_is_not_to_be_had() -> None:
    est, data = compiled("tied")
    with pytest.raises(RequestError, match="per_leaf= is no option of this method"):
        est.bind("trace", per_leaf=True, **data)
    with pytest.raises(RequestError, match="groups= is no option of this method"):
        est.diagonal(groups={"a": "W"}, **data)
    with pytest.raises(BudgetError, match="masks of 2000 groups"):
        compiled("deep", memory_limit=1 << 17)[0].trace(
            data, groups={f"g{k}": {"V": (k % 4, 0)} for k in range(2000)}
        )
    for option in ("per_leaf", "groups", "covariance"):
        with pytest.raises(RequestError, match=f"{option}= is no option of stream, which gives the diagonal"):
            est.stream(**{option: True})
    with pytest.raises(RequestError, match=r"arrays are given to stream.add"):
        est.stream(**data)
    model, wrt, data = tied()
    gpu = cp.compile(model, wrt=list(wrt), target="cuda", programs=())
    with pytest.raises(RequestError, match="for target='cpu'"):
        gpu.trace(data, per_leaf=True)
