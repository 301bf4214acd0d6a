"""Hutchinson's estimators of what is not known: exact with unit columns, and with the variance that is left."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.ir.noise import noise_inputs
from cpgen.ir.verify import verify
from tests.derive.small import CASES, Small, close, draws, evaluate, reference

every = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


@every
def test_unit_columns_give_diagonal_and_trace_over_rows(case: Small) -> None:
    """Also where leaves with rows and leaves without stand side by side."""
    rows = 2 if case.has_rows else 1
    arrays = case.arrays(rows)
    expected = reference(case, arrays, rows)
    diagonal = programs.diagonal(case.graph, case.leaves, "hutchinson")
    verify(diagonal.program)
    found = evaluate(diagonal, arrays, rows=rows, unit=True)
    for name in case.wrt:
        close(found[f"diag_{name}"], expected.diag(name))
    trace = programs.trace(case.graph, case.leaves, "hutchinson")
    verify(trace.program)
    close(evaluate(trace, arrays, rows=rows, unit=True)["trace"], expected.trace)


def test_the_curvature_of_the_first_layer_makes_no_noise() -> None:
    """What is left is the off-diagonal part of the second layer's curvature, seen from the input."""
    case = CASES["energy"]
    arrays = case.arrays(1)
    w, u, v, x = (arrays[k] for k in ("W", "U", "v", "x"))
    z = np.tanh(x[0] @ w.T)
    y = np.tanh(z @ u.T)
    inner = u * (1 - z**2)
    rest = (inner @ w).T @ np.diag(v * -2 * y * (1 - y**2)) @ (inner @ w)
    off = (rest**2).sum(axis=1) - np.diag(rest) ** 2
    found = draws(programs.diagonal(case.graph, case.leaves, "hutchinson"), arrays)["diag_x"][:, 0]
    close(found.var(axis=0), off)
    trace = draws(programs.trace(case.graph, case.leaves, "hutchinson"), arrays)["trace"].ravel()
    close(np.asarray(trace.var()), np.asarray(2 * off.sum()))


def network() -> tuple[cp.Model, dict[str, np.ndarray]]:
    m = cp.Model("network")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=5, h=3, k=2, c=2)
    x, w, u, v = m.input("x", n, i), m.param("W", h, i), m.param("U", k, h), m.param("V", c, k)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    a = m.define("a", (n, k), sp.tanh(cp.sum(u[k, h] * z[n, h], h)))
    b = m.define("b", (n, c), sp.tanh(cp.sum(v[c, k] * a[n, k], k)))
    m.objective(cp.sum(b[n, c] ** 2, c))
    rng = np.random.default_rng(3)
    shapes = {"x": (4, 5), "W": (3, 5), "U": (2, 3), "V": (2, 2)}
    return m, {name: rng.normal(size=shape) for name, shape in shapes.items()}


def test_weights_are_probed_at_their_activations() -> None:
    """A sign for each activation of each row, not for each weight, and rows that are independent."""
    m, _ = network()
    graph = m.graph()
    leaves = [graph.variable(name) for name in ("W", "U", "V")]
    derived = programs.diagonal(graph, leaves, "hutchinson")
    shapes = [i.element_shape for i in noise_inputs(derived.program)]
    assert sorted(shapes) == [(2,), (3,)]
    assert all(i.has_rows for i in noise_inputs(derived.program))
    plain = programs.diagonal(graph, leaves, "hutchinson_plain")
    assert derived.columns is not None and plain.columns is not None and derived.columns < plain.columns


@pytest.mark.parametrize("what", ["diagonal", "trace"])
@pytest.mark.parametrize("wrt", [["W", "U", "V"], ["x"]])
def test_the_seeds_average_to_the_exact_answer_and_bars_to_their_spread(what: str, wrt: list[str]) -> None:
    m, arrays = network()
    est = cp.compile(m, wrt=wrt, programs=(), backend="interpreter")
    method = getattr(est, what)
    exact, seeds = method(arrays, exact=True), 200
    options = {"samples": 16, "exact": False, "method": "hutchinson", "design": "independent"}
    found = [method(arrays, seed=s, **options) for s in range(seeds)]

    def flat(result: cp.Estimates | cp.Estimate, which: str) -> np.ndarray:
        parts = list(result.values()) if isinstance(result, cp.Estimates) else [result]
        return np.concatenate([np.ravel(getattr(part, which)) for part in parts])

    values = np.stack([flat(f, "value") for f in found])
    variances = np.stack([flat(f, "stderr") ** 2 for f in found]).mean(axis=0)
    spread = values.var(axis=0, ddof=1)
    truth = flat(exact, "value")
    off = np.abs(values.mean(axis=0) - truth)
    assert np.all(off < 4.5 * np.sqrt(spread / seeds) + 1e-12)
    assert spread.max() > 1e-6
    moving = spread > 1e-12
    assert 0.8 < variances[moving].sum() / spread[moving].sum() < 1.6


def test_less_noise_than_the_plain_form() -> None:
    m, arrays = network()
    est = cp.compile(m, wrt=["W", "U", "V"], programs=(), backend="interpreter")
    truth = est.diagonal(arrays, exact=True).flat()[0]
    errors = {
        method: np.mean([
            np.sum((est.diagonal(arrays, samples=1, exact=False, seed=s, method=method).flat()[0] - truth) ** 2)
            for s in range(60)
        ])
        for method in ("hutchinson", "hutchinson_plain")
    }  # fmt: skip
    assert errors["hutchinson"] < errors["hutchinson_plain"] / 4
