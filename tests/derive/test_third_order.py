"""The gradient of an estimate: the noise frozen, central differences of the same estimate must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.sources import Setting
from cpgen.ir.noise import noise_count, noise_inputs
from tests.derive.small import (
    CASES,
    Array,
    Arrays,
    Small,
    close,
    evaluate,
    every_sign,
    of_row,
    signs,
    symbols,
)

SETTINGS = [Setting("mixed"), Setting("smooth", 0.5)]


def build_weighted() -> cp.Model:
    """A log-sum-exp whose adjoint changes sign with a parameter."""
    m = cp.Model("weighted")
    n, i, c = m.axes("n i c", n=cp.ROWS, i=2, c=3)
    x, w, a = m.input("x", n, i), m.param("W", c, i), m.param("a")
    s = m.define("s", (n, c), sp.sin(cp.sum(w[c, i] * x[n, i], i)))
    m.objective(sp.sin(a) * cp.logsumexp(s[n, c], c))
    return m


def weighted(v: Mapping[str, Array]) -> sp.Expr:
    return sp.sin(v["a"]) * sp.log(sum(sp.exp(sp.sin(s)) for s in v["W"] @ v["x"]))


WEIGHTED = Small("weighted", build_weighted, ("x",), weighted)
# the model, and the parameters by which its trace is differentiated
ASKED = {
    "energy": ("W", "U", "v"),
    "gate": ("W", "c"),
    "quadratic": ("B",),
    "weighted": ("W", "a"),
}
MODELS = {**CASES, "weighted": WEIGHTED}


def prepared(
    case: Small, rows: int, columns: int, setting: Setting
) -> tuple[programs.Derived, Arrays, Arrays]:
    parameters = [case.graph.variable(name) for name in ASKED[case.name]]
    derived = programs.estimate_gradient(case.graph, case.leaves, parameters, setting)
    v = np.sign(np.random.default_rng(3).normal(size=(columns, rows, noise_count(derived.program))))
    return derived, case.arrays(rows), signs(derived.program, v)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.factor)
@pytest.mark.parametrize("name", list(ASKED))
def test_against_central_differences_with_frozen_noise(name: str, setting: Setting) -> None:
    case, rows, columns = MODELS[name], 2, 3
    derived, arrays, noise = prepared(case, rows, columns, setting)
    found = evaluate(derived, arrays, noise, rows, columns)
    trace = programs.trace(case.graph, case.leaves, "cp", setting)
    assert [n.name for n in noise_inputs(trace.program)] == [n.name for n in noise_inputs(derived.program)]
    np.testing.assert_array_equal(evaluate(trace, arrays, noise, rows, columns)["trace"], found["trace"])

    def estimate(parameter: str, place: tuple[int, ...], step: float) -> float:
        moved = arrays[parameter].copy()
        moved[place] += step
        return float(evaluate(trace, {**arrays, parameter: moved}, noise, rows, columns)["trace"].sum())

    step = 1e-3
    for parameter in ASKED[name]:
        expected = np.empty_like(arrays[parameter])
        for place in np.ndindex(*expected.shape):
            near, far = (
                estimate(parameter, place, k * step) - estimate(parameter, place, -k * step) for k in (1, 2)
            )
            expected[place] = (8 * near - far) / (12 * step)
        close(found[f"grad_{parameter}"], expected, 1e-8)
        assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.factor)
def test_its_mean_is_the_gradient_of_the_trace(setting: Setting) -> None:
    """All sign patterns of one row, against SymPy's third derivatives."""
    case = CASES["energy"]
    derived, arrays, _ = prepared(case, 1, 1, setting)
    v = every_sign(1, noise_count(derived.program))
    assert len(v) > 1
    found = evaluate(derived, arrays, signs(derived.program, v), 1, len(v))
    numbers = of_row(case, arrays, 0)
    for parameter in ("U", "v"):
        expected = np.array(third(parameter)(*numbers))
        close(found[f"grad_{parameter}"], expected.reshape(arrays[parameter].shape), 1e-10)


@cache
def third(parameter: str) -> Callable[..., list[float]]:
    """The derivatives of SymPy's trace by the elements of a parameter of "energy"."""
    case = CASES["energy"]
    named = symbols(case)
    objective = case.objective(named)
    everything = [s for v in case.graph.variables for s in np.ravel(named[v.name])]
    wanted = [sum(sp.diff(objective, p, s, s) for s in named["x"]) for p in np.ravel(named[parameter])]
    return sp.lambdify(everything, wanted, "math", cse=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("a", [0.7, -0.7])
def test_negative_adjoints_are_differentiated_too(a: float) -> None:
    """Where the adjoint of a log-sum-exp is negative its positive root is zero, and has no derivative to divide by."""
    derived, arrays, noise = prepared(WEIGHTED, 2, 3, SETTINGS[0])
    arrays["a"] = np.asarray(a)
    found = evaluate(derived, arrays, noise, 2, 3)
    assert all(np.isfinite(array).all() for array in found.values())
    exact = evaluate(derived, arrays, unit=True)
    close(exact["grad_a"] * np.tan(a), exact["trace"].sum())


def test_unit_columns_give_the_exact_gradient() -> None:
    """And so does differencing the exact trace, whatever the factors."""
    case = CASES["gate"]
    gradients: list[Array] = []
    for setting in SETTINGS:
        derived, arrays, _ = prepared(case, 2, 1, setting)
        gradients.append(evaluate(derived, arrays, unit=True)["grad_W"])
    close(gradients[0], gradients[1], 1e-10)
    assert np.abs(gradients[0]).max() > 1e-2
