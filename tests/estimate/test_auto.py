"""``method="auto"``: what it takes and says, that nothing sways it, and that its mean is the exact answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import RequestError
from cpgen.estimate.choice import Trial, compared
from cpgen.estimate.tuning import METHODS, Tuning, load_tuning
from tests.catalogue import CATALOGUE

Arrays = dict[str, np.ndarray]


def deep(layers: int, width: int = 24, rows: int = 3) -> tuple[cp.Model, Arrays]:
    """softplus layers of one width, summed: the deeper, the larger the absolute Hessian by the input."""
    m = cp.Model("deep")
    n, *h = m.axes("n " + " ".join(f"h{k}" for k in range(layers + 1)), n=cp.ROWS,
                   **{f"h{k}": width for k in range(layers + 1)})  # fmt: skip
    rng = np.random.default_rng(layers)
    z: Any = m.input("x", n, h[0])
    arrays = {"x": rng.normal(size=(rows, width))}
    for k in range(layers):
        w = m.param(f"W{k}", h[k + 1], h[k])
        arrays[f"W{k}"] = 1.2 * rng.normal(size=(width, width)) / width**0.5
        z = m.define(f"z{k}", (n, h[k + 1]), cp.softplus(cp.sum(w[h[k + 1], h[k]] * z[n, h[k]], h[k])))
    m.objective(cp.sum(z[n, h[-1]], h[-1]))
    return m, arrays


def estimator(layers: int, wrt: list[str] | None = None, **options: Any) -> tuple[cp.Estimator, Arrays]:
    model, arrays = deep(layers)
    return cp.compile(model, wrt=wrt or ["x"], programs=(), backend="interpreter", **options), arrays


def test_deep_traces_by_input_take_hutchinson_and_weights_take_cp() -> None:
    est, arrays = estimator(5)
    by_input = est.trace(arrays, samples=2)
    assert by_input.method == "hutchinson" and not by_input.exact
    assert by_input.reason and f"chosen: {by_input.reason}" in str(by_input)
    np.testing.assert_array_equal(by_input.value, est.trace(arrays, samples=2, method="hutchinson").value)
    est, arrays = estimator(3, ["W0", "W1", "W2"])
    by_weights = est.diagonal(arrays, samples=2, exact=False)
    for leaf, e in est.diagonal(arrays, samples=2, exact=False, method="cp").items():
        np.testing.assert_array_equal(by_weights[leaf].value, e.value)
        np.testing.assert_array_equal(by_weights[leaf].stderr, e.stderr)
        assert by_weights[leaf].method == "cp" and by_weights[leaf].reason and not e.reason
    value, gradient, joint = est.value_gradient_and_diagonal(arrays, samples=2, exact=False)
    assert joint["W0"].method == "cp" and np.isfinite(value) and set(gradient) == {"W0", "W1", "W2"}


def test_a_step_of_an_optimiser_can_take_hutchinson() -> None:
    est, arrays = estimator(5)
    value, gradient, found = est.value_gradient_and_diagonal(arrays, samples=2)
    assert found["x"].method == "hutchinson"
    np.testing.assert_allclose(found["x"].value, est.diagonal(arrays, samples=2).flat()[0].reshape(3, 24), rtol=1e-12)
    assert value == pytest.approx(est.value(arrays)) and gradient["x"].shape == (3, 24)


def test_exact_where_it_is_cheap() -> None:
    """As many samples as there are directions are enough, though noise would take more columns."""
    est, arrays = estimator(5)
    found = est.trace(arrays, samples=24)
    assert found.exact and found.reason and (est.columns("trace:cp") or 0) > 24
    np.testing.assert_allclose(found.value, est.trace(arrays, method="cp", exact=True).value, rtol=1e-10)
    assert not est.trace(arrays, samples=23).exact
    assert not est.trace(arrays, samples=24, exact=False).exact


def test_neither_earlier_calls_nor_arrays_nor_seeds_nor_a_split_sway_it() -> None:
    first, arrays = estimator(4)
    other, _ = estimator(4)
    other.trace({**arrays, "x": 100 * arrays["x"]}, samples=3, seed=5)
    other.diagonal(arrays, samples=2, seed=1)
    other.choose(arrays)
    a, b = (e.trace(arrays, samples=3, seed=7) for e in (first, other))
    assert a.value.tobytes() == b.value.tobytes() and a.reason == b.reason
    assert {first.trace(arrays, samples=k, seed=s).method for k in (1, 2, 5) for s in (0, 9)} == {a.method}
    x = arrays["x"]
    parts = [first.trace({**arrays, "x": x[k : k + 1]}, samples=3, seed=7, first_row=k).value for k in range(3)]
    np.testing.assert_allclose(np.concatenate(parts), a.value, rtol=1e-13)
    single, _ = estimator(4, real="float32")
    narrow = {name: array.astype(np.float32) for name, array in arrays.items()}
    assert single.trace(narrow, samples=3).method == a.method


def test_threads_do_not_change_a_bit() -> None:
    model, arrays = deep(4)
    found = [cp.compile(model, wrt=["x"], programs=(), threads=t).trace(arrays, samples=3) for t in (1, 3)]
    assert found[0].method == "hutchinson" and found[0].value.tobytes() == found[1].value.tobytes()


def test_the_second_program_is_derived_only_if_the_first_errs() -> None:
    def refuse(_: object) -> list[Trial | None]:
        raise AssertionError("tried")

    est, _ = estimator(3)
    assert compared(est, "trace", 4, [Trial(1e-4, 1.0), Trial(0.0, 0.0)], refuse).method == "cp"
    bad = compared(est, "trace", 4, [Trial(1.0, 1.0)], lambda _: [Trial(2.0, 1.0)])
    good = compared(est, "trace", 4, [Trial(1.0, 1.0)], lambda _: [Trial(0.01, 1.0)])
    assert (bad.method, good.method) == METHODS
    assert compared(est, "trace", 4, [Trial(1.0, 1.0)], lambda _: [None]).method == "cp"


def test_a_choice_by_given_arrays_is_kept(tmp_path: Path) -> None:
    est, arrays = estimator(5)
    tuning = est.choose(arrays)
    assert set(tuning.methods) == {"diagonal:auto", "trace:auto"} and set(tuning.methods.values()) <= set(METHODS)
    tuning.save(tmp_path / "choice.json")
    assert load_tuning(tmp_path / "choice.json") == tuning
    for method in METHODS:
        kept = Tuning("deep", ("x",), "float64", {"trace:auto": method})
        found = estimator(5, tuning=kept)[0].trace(arrays, samples=2)
        assert found.method == method and "choose" in found.reason
    Tuning("deep", ("x",), "float64", {"trace:auto": "directions"}).save(tmp_path / "bad.json")
    with pytest.raises(RequestError, match="names methods"):
        load_tuning(tmp_path / "bad.json")


def test_show_says_what_is_taken_and_why() -> None:
    est, _ = estimator(5)
    text = est.show("trace")
    assert "method='auto' samples by hutchinson: one sample of cp errs by" in text
    assert "method='auto'" not in est.show("gradient")


def test_streams_keep_cp() -> None:
    est, arrays = estimator(3, ["W0", "W1"])
    found = est.stream(samples=2, exact=False).add(arrays).result()
    assert found["W0"].method == "cp"


def gated() -> tuple[cp.Model, Arrays]:
    m = cp.Model("gated")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
    x, w, u = m.input("x", n, i), m.param("W", h, i), m.param("U", h, i)
    z = x
    for step in range(2):
        gate = cp.sigmoid(cp.sum(w[h, i] * z[n, i], i)) * sp.tanh(cp.sum(u[h, i] * z[n, i], i))
        z = m.define(f"z{step}", (n, h), gate)
    m.objective(sp.exp(cp.sum(z[n, h], h)))
    rng = np.random.default_rng(2)
    return m, {k: rng.normal(size=(2, 2)) for k in ("x", "W", "U")}


@pytest.mark.parametrize("name", ["deep", "weights", "gated"])
def test_its_mean_is_the_exact_answer(name: str) -> None:
    """benchmarks/estimators.py does the same with 10,000 seeds."""
    sizes = {"deep": (3, 4, 2), "weights": (6, 8, 2)}
    model, arrays = gated() if name == "gated" else deep(*sizes[name])
    wrt = {"deep": ["x"], "weights": ["W0", "W1", "W2"], "gated": ["W", "U"]}[name]
    est = cp.compile(model, wrt=wrt, programs=(), threads=1)
    truth = est.diagonal(arrays, exact=True).flat()[0]
    seeds = 1000
    found = np.stack([est.diagonal(arrays, samples=1, exact=False, seed=s).flat()[0] for s in range(seeds)])
    error = found.std(axis=0, ddof=1) / seeds**0.5
    assert np.all(np.abs(found.mean(axis=0) - truth) <= 4.5 * error + 1e-11 * np.abs(truth).max())
    assert error.max() > 1e-4 * np.abs(truth).max()


def test_it_is_an_error_to_name_another() -> None:
    entry = CATALOGUE["softplus_energy"]
    est = entry.compile(programs=(), backend="interpreter")
    with pytest.raises(RequestError, match="auto, cp"):
        est.diagonal(entry.arrays(), method="best")
