"""What random models found, made small."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp


@pytest.mark.parametrize("backend", ["interpreter", "auto"])
def test_a_condition_on_a_piecewise_value(backend: str) -> None:
    """SymPy turns ``Piecewise((a, c), (b, True)) > 0`` into an if-then-else of conditions, which was refused."""
    a, b, c = sp.symbols("a b c", real=True)
    inner = sp.Piecewise((a**3, c > 0), (b**2, True))
    expr = sp.Piecewise((a**2 * b, inner > 1), (sp.sin(a), True))
    est = cp.compile(expr, wrt=["a"], backend=backend, programs=())
    at = {
        "a": np.array([2.0, 0.5, 2.0, 2.0]),
        "b": np.array([3.0, 3.0, 3.0, 0.5]),
        "c": np.array([1.0, 1, -1, -1]),
    }
    expected = [6.0, -np.sin(0.5), 6.0, -np.sin(2.0)]
    np.testing.assert_allclose(est.diagonal(exact=True, **at)["a"].value, expected, rtol=1e-14)


@pytest.mark.parametrize("backend", ["interpreter", "auto"])
def test_a_constant_that_is_zero_only_when_computed(backend: str) -> None:
    """``ramp(0)`` beside other factors was taken for a constant too small to stand alone, with a logarithm."""
    x, y = sp.symbols("x y", real=True)
    ramp = cp.function("ramp", [lambda x: 1], c64="({0})", numpy=lambda x: x)
    est = cp.compile(ramp(0) * x * sp.sin(y) + x**2 * y, wrt=["x"], backend=backend, programs=())
    assert est.value(x=3.0, y=2.0) == 18.0
    assert float(est.diagonal(x=3.0, y=2.0)["x"].value) == 4.0
