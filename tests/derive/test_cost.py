"""What derivation costs: deep graphs, large expressions, and memory that returns with the model."""

from __future__ import annotations

import gc
import math
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import FrameType

import mpmath
import numpy as np
import pytest
import sympy as sp
from sympy.core.cache import clear_cache

import cpgen as cp
from benchmarks import memory_growth
from benchmarks.compile_time import residual
from cpgen.derive import colours, sweep
from cpgen.derive.sources import Curvature
from cpgen.derive.uses import Uses
from cpgen.ir.build import new_input
from cpgen.ir.nodes import Input, Map
from cpgen.loops import fuse
from cpgen.loops.memory import Demand, place
from cpgen.scalar import free_symbols, kinds, vanishes
from tests.catalogue import CATALOGUE


@pytest.mark.parametrize("name", ["mlp_tanh", "residual_tied", "attention", "robot_arm"])
def test_dependence_is_that_of_a_walk_along_the_arguments(name: str) -> None:
    entry = CATALOGUE[name]
    estimator = entry.compile(programs=(), backend="interpreter")
    graph, wrt = estimator.graph, list(estimator.wrt)
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
        assert kinds(expr) == {type(part) for part in sp.preorder_traversal(expr)}


@pytest.mark.parametrize("depth", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_deep_sine_as_an_expression(depth: int) -> None:
    t = sp.Symbol("t")
    f = t
    for _ in range(depth):
        f = sp.sin(f) + t
    estimator = cp.compile(f, programs=(), backend="interpreter")

    def jet(v: float) -> tuple[float, float, float]:
        a, b, c = v, 1.0, 0.0  # value and two derivatives, by the chain rule
        for _ in range(depth):
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
    assert len(cut.graph.definitions) > 3
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
        est = cp.compile(model, programs=(), backend="interpreter")
        return len(list(est.derive("diagonal").program.nodes()))

    assert nodes(160) < 2.1 * nodes(80)


def _calls(action: Callable[[], object]) -> int:
    """How often functions of cpgen are called."""
    count = 0

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "cpgen" in frame.f_globals.get("__name__", "")

    clear_cache()
    sys.setprofile(see)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("program", ["gradient", "diagonal"])
def test_each_further_layer_costs_as_many_calls_as_the_last(program: str) -> None:
    def calls(layers: int) -> int:
        model = residual(layers)
        return _calls(lambda: cp.compile(model, programs=(), backend="interpreter").source([program]))

    calls(2)  # what is done once in a process: templates, headers
    few, more, most = (calls(k) for k in (8, 16, 32))
    assert most - more < 1.02 * 2 * (more - few)


def test_leaves_sources_and_sums_are_not_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"_exact_diagonal": sweep, "_coupled": colours, "are_twins": fuse}
    counts = dict.fromkeys(asked, 0)

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def count(*given: object) -> object:
            counts[name] += 1
            return function(*given)

        return count

    for name, module in asked.items():
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    found = []
    for layers in (10, 20):
        counts.update(dict.fromkeys(counts, 0))
        cp.compile(residual(layers), programs=(), backend="interpreter").source(["diagonal"])
        found.append(dict(counts))
    assert all(found[1][name] <= 2.2 * found[0][name] for name in asked), found


def test_places_are_those_of_first_fit() -> None:
    rng = np.random.default_rng(5)
    nodes = [new_input(f"x{k}", (), "data") for k in range(60)]
    for _ in range(200):
        starts = np.sort(rng.integers(0, 40, 60))
        lasting = np.where(rng.random(60) < 0.2, 40, 1 + rng.integers(0, 6, 60))
        demands = [
            Demand(nodes[k], int(rng.integers(1, 9)), bool(rng.integers(0, 2)), int(a), int(a + b))
            for k, (a, b) in enumerate(zip(starts, lasting, strict=True))
        ]
        slots, totals = place("tile", demands, 2)
        for columns, total in ((False, totals.constant), (True, totals.columns)):
            taken: list[tuple[int, int, int]] = []
            for d in sorted((d for d in demands if d.columns == columns), key=lambda d: (d.start, d.end)):
                size = d.elements + d.elements % 2
                beside = [(a, b) for a, b, end in taken if end >= d.start]
                fits = (p for p in range(0, 1000, 2) if all(p + size <= a or b <= p for a, b in beside))
                first = next(fits)
                assert slots[d.node].offset == first
                taken.append((first, first + size, d.end))
            assert total == max((b for _, b, _ in taken), default=0)


def test_an_expression_that_is_large_as_a_tree_is_split() -> None:
    x, y = sp.symbols("x y")
    f = x
    for k in range(1, 12):
        f = sp.sin(f) * y + f / (1 + k * f**2)
    estimator = cp.compile(f, programs=(), backend="interpreter")
    assert len(estimator.graph.definitions) > 10
    at = {"x": 0.3, "y": -0.7}
    function = sp.lambdify((x, y), f, modules="mpmath", cse=True)
    with mpmath.workdps(60):
        want = [[mpmath.diff(function, (0.3, -0.7), n) for n in row] for row in (((2, 0), (1, 1)), ((1, 1), (0, 2)))]
    np.testing.assert_allclose(estimator.hessian(**at).matrix(), np.array(want, dtype=float), rtol=1e-10)
    # every definition is one map or two, whatever the depth of the whole
    nodes = len(list(estimator.derive("hessian").program.nodes()))
    assert nodes < 60 * len(estimator.graph.definitions)


def _text(k: int) -> str:
    x, y, z = sp.symbols("x y z")
    expr = sp.exp(sp.sin(x * y + k) + z) + sp.log(1 + (x - k * y) ** 2 + sp.tanh(z) ** 2)
    return cp.compile(expr, programs=(), backend="interpreter").source(["gradient", "diagonal"])["expression.c"]


def test_nothing_of_a_model_stays() -> None:
    """Models of other names, extents, functions and constants: when they are gone, so are their nodes and expressions."""

    def own_objects() -> Counter[type]:
        clear_cache()  # SymPy's own, which holds the last thousand answers of each of its functions
        gc.collect()
        return Counter(type(o) for o in gc.get_objects() if str(type(o).__module__).startswith("cpgen"))

    for k in range(4):  # one for each function
        memory_growth.text(k)
    before = own_objects()
    for k in range(4, 12):
        memory_growth.text(k)
    assert not own_objects() - before


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
