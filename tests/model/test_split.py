"""A large expression means what a small one does."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.model import model as front
from cpgen.model import split as parts
from cpgen.scalar import canonical

x, y = sp.symbols("x y")
GUARDED = sp.Piecewise((sp.sqrt(x) * sp.sin(sp.sqrt(x)), x > 0), (0, True))
RAMP = sp.Piecewise((x, x > 0), (0, True))
OTHERS = sp.sin(x * y) ** 2 + sp.sin(x * y) * sp.tanh(x + y) + sp.tanh(x + y) ** 3


@pytest.mark.parametrize("limit", ["ONE_MAP", "LARGE"])
@pytest.mark.parametrize(
    "expr, at",
    [
        (GUARDED, -1.0),
        (GUARDED + GUARDED**2 + sp.sqrt(x + 3), -1.0),
        (RAMP**2 + sp.exp(RAMP), -0.5),
        (x ** sp.Rational(5, 2) * sp.sin(x ** sp.Rational(5, 2)) + x ** sp.Rational(3, 2) + sp.sqrt(x) * x, 0.0),
        (x * (1 + sp.sqrt(x)) + x**2 * (1 + sp.sqrt(x)), 0.0),
        (x**3 * sp.log(x) + sp.cos(x**3 * sp.log(x)), 0.0),
        (sp.log(1 + sp.exp(900 * x)) / (1 + sp.exp(900 * x)) + (1 + sp.exp(900 * x)) ** -2, 1.0),
        (sp.exp(2000.0 * (x - 0.65)) + 1 / (3 + sp.exp(2000.0 * (x - 0.65))), 0.65),
    ],
    ids=str,
)
def test_size_changes_nothing(expr, at, limit, monkeypatch):
    def results():
        est = cp.compile(expr + OTHERS, wrt=[x, y], backend="interpreter", programs=())
        found = est.gradient(x=at, y=0.7)
        return np.array([float(est.rows(x=at, y=0.7)), float(found["x"]), float(found["y"])])

    small = results()
    if limit == "ONE_MAP":
        monkeypatch.setattr(front, "ONE_MAP", 0)
    else:  # cut by size and depth as well
        monkeypatch.setattr(parts, "LARGE", 0)
    large = results()
    assert np.isfinite(small).all()
    np.testing.assert_allclose(large, small, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("large", [20_000, 0])
def test_the_parts_put_back_are_the_expression(large, monkeypatch):
    names = (sp.Symbol(f"part{k}", real=True) for k in range(100))
    u, v = sp.symbols("u v", real=True)
    expr = canonical((GUARDED**2 + OTHERS + sp.sqrt(x + y) * sp.log(x + y)).xreplace({x: u, y: v}))
    monkeypatch.setattr(parts, "LARGE", large)
    found, rest = parts.split(expr, names)
    assert found
    for symbol, part in reversed(found):
        rest = rest.xreplace({symbol: part})
    assert canonical(rest) == expr
