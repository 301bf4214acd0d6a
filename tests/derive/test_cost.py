"""What derivation costs: deep graphs, large expressions, and memory that returns with the model."""

from __future__ import annotations

import gc
import math
import tracemalloc

import numpy as np
import pytest
import sympy as sp
from sympy.core.cache import clear_cache

import cpgen as cp
from cpgen.derive.sources import Curvature
from cpgen.derive.uses import Uses
from cpgen.ir.nodes import Input, Map
from cpgen.scalar import free_symbols, vanishes
from tests.catalogue import CATALOGUE


@pytest.mark.parametrize("name", ["mlp_tanh", "residual_tied", "attention", "robot_arm"])
def test_dependence_is_that_of_a_walk_along_the_arguments(name: str) -> None:
    entry = CATALOGUE[name]
    estimator = entry.compile(programs=(), backend="interpreter")
    graph, wrt = estimator._compiled.graph, list(estimator._compiled.wrt)
    uses = Uses([graph.objective], wrt)
    for node in uses.nodes:
        below, stack = {node}, [node]
        while stack:
            top = stack.pop()
            if isinstance(top, Map) and top.reduce == "sum":
                stack += [a.node for a in top.args if a.node not in below]
                below |= {a.node for a in top.args}
        assert [uses.depends(node, other) for other in uses.nodes] == [other in below for other in uses.nodes]
        assert uses.active(node) == any(leaf in below for leaf in wrt)
    assert not uses.depends(graph.objective, Input("other", (), "data", graph.origin))
    assert Curvature(graph, wrt).uses.nodes == uses.nodes


def test_own_queries_agree_with_sympy() -> None:
    x, y = sp.symbols("x y", real=True)
    for expr in (sp.S.Zero, sp.Float(0), sp.S.One, x, x - x, x * y + sp.sin(x), sp.Piecewise((x, y > 0), (0, True))):
        assert free_symbols(expr) == expr.free_symbols
        assert vanishes(expr) == (expr.is_zero is True)


def test_sine_150_deep_as_an_expression() -> None:
    t = sp.Symbol("t")
    f = t
    for _ in range(150):
        f = sp.sin(f) + t
    estimator = cp.compile(f, programs=(), backend="interpreter")

    def jet(v: float) -> tuple[float, float, float]:
        a, b, c = v, 1.0, 0.0  # value and two derivatives, by the chain rule
        for _ in range(150):
            a, b, c = math.sin(a) + v, math.cos(a) * b + 1, math.cos(a) * c - math.sin(a) * b * b
        return a, b, c

    value, first, second = jet(0.3)
    assert estimator.value(t=0.3) == pytest.approx(value, rel=1e-12)
    assert np.asarray(estimator.gradient(t=0.3)["t"]) == pytest.approx(first, rel=1e-9)
    found = estimator.diagonal(t=0.3)["t"]
    assert found.exact and np.asarray(found.value).item() == pytest.approx(second, rel=1e-9)


def test_a_cut_expression_has_the_derivatives_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sp.symbols("x y")
    shared = sp.exp(sp.sin(x * y) + y)
    expr = sum(sp.cos(k * shared + x) * (y + k) for k in range(1, 30)) + sp.Piecewise((sp.sqrt(x), x > 0), (0, True))
    at = {"x": -0.4, "y": 0.7}
    whole = cp.compile(expr, backend="interpreter")
    monkeypatch.setattr("cpgen.model.split.LARGE", 10)
    monkeypatch.setattr("cpgen.model.split.MOST_SIZE", 12)
    cut = cp.compile(expr, backend="interpreter")
    assert len(cut._compiled.graph.definitions) > 3
    np.testing.assert_allclose(cut.hessian(**at).matrix(), whole.hessian(**at).matrix(), rtol=1e-12)
    assert cut.value(**at) == pytest.approx(whole.value(**at), rel=1e-13)


def test_the_diagonal_of_a_chain_of_numbers_is_linear_in_its_length() -> None:
    def nodes(length: int) -> int:
        model = cp.Model("chain")
        n = model.axis("n", cp.ROWS)
        t = model.input("t", n)[n]
        f = t
        for k in range(length):
            f = model.define(f"f{k}", (n,), sp.sin(f) + t)[n]
        model.objective(f)
        compiled = cp.compile(model, programs=(), backend="interpreter")._compiled
        return len(list(compiled.derive("diagonal").program.nodes()))

    assert nodes(160) < 2.1 * nodes(80)


def _text(k: int) -> str:
    x, y, z = sp.symbols("x y z")
    expr = sp.exp(sp.sin(x * y + k) + z) + sp.log(1 + (x - k * y) ** 2 + sp.tanh(z) ** 2)
    return cp.compile(expr, programs=(), backend="interpreter").source(["gradient", "diagonal"])["expression.c"]


def test_memory_returns_with_the_model() -> None:
    first = _text(1)
    for k in range(2, 4):
        _text(k)
    gc.collect()
    tracemalloc.start()
    try:
        sizes = []
        for k in range(4, 12):
            _text(k)
            clear_cache()  # SymPy's own, which holds the last thousand answers of each of its functions
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[1] < 6 * 15_000, sizes  # one model took 100,000 and more
    assert _text(1) == first
