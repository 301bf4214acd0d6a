"""Directions shared by elements that no second derivative couples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive.colours import coloured_vectors, colours, widths
from cpgen.ir.interpret import run
from cpgen.ir.nodes import Origin, Program
from tests.catalogue import CATALOGUE

RNG = np.random.default_rng(8)


def chain(n: int = 9) -> cp.Model:
    """Steps that couple neighbours, coupled once more."""
    m = cp.Model("chain")
    x = m.param("x", m.axis("i", n))
    j, k = m.axis("j", n - 1), m.axis("k", n - 2)
    z = m.define("z", (j,), sp.tanh(x[j] * x[j + 1] + x[j]))
    m.objective(cp.sum(z[k] ** 2 * z[k + 1] + sp.exp(z[k] * z[k + 1]), k))
    return m


def chain_value(x: np.ndarray) -> sp.Expr:
    z = [sp.tanh(x[j] * x[j + 1] + x[j]) for j in range(len(x) - 1)]
    return sum(a**2 * b + sp.exp(a * b) for a, b in zip(z, z[1:], strict=False))


def deep_chain(n: int) -> cp.Model:
    """So many layers of neighbours that the paths between two elements are many."""
    m = cp.Model("deep_chain")
    z = m.param("x", m.axis("i", n))
    for layer in range(4):
        j = m.axis(f"j{layer}", n - 1 - layer)
        z = m.define(f"z{layer}", (j,), sp.tanh(z[j] + z[j + 1] / 2))
    m.objective(cp.sum(z[j] ** 2, j))
    return m


def grid(rows: int = 4, across: int = 5) -> cp.Model:
    """A field on a grid whose cells are coupled to two neighbours, and cells of neighbouring columns again."""
    m = cp.Model("grid")
    x = m.param("x", m.axis("i", rows), m.axis("j", across))
    a, b, c = m.axis("a", rows - 1), m.axis("b", across - 1), m.axis("c", across - 2)
    z = m.define("z", (a, b), sp.sin(x[a, b] * x[a + 1, b] + x[a, b + 1]))
    m.objective(cp.sum(cp.sum(z[a, c] * z[a, c + 1], a), c))
    return m


def grid_value(x: np.ndarray) -> sp.Expr:
    rows, across = x.shape
    z = [[sp.sin(x[a, b] * x[a + 1, b] + x[a, b + 1]) for b in range(across - 1)] for a in range(rows - 1)]
    return sum(z[a][c] * z[a][c + 1] for a in range(rows - 1) for c in range(across - 2))


def strided() -> cp.Model:
    """Windows of three, two apart, through a network with a bottleneck; its inputs have rows."""
    m = cp.Model("strided")
    n, i, k, r = m.axis("n", cp.ROWS), m.axis("i", 11), m.axis("k", 5), m.axis("r", 3)
    x = m.input("x", n, i)
    w = m.param("w", r)
    z = m.define("z", (n, k), cp.sum(w[r] * x[n, 2 * k + r], r))
    m.objective(cp.sum(sp.tanh(z[n, k]) ** 2, k))
    return m


def groups() -> cp.Model:
    """Groups that share nothing, with all elements of a group coupled."""
    m = cp.Model("groups")
    g, i = m.axis("g", 6), m.axis("i", 3)
    w = m.param("w", g, i)
    total = m.define("total", (g,), cp.sum(w[g, i] * sp.exp(w[g, i] / 3), i))
    m.objective(cp.sum(sp.log(1 + total[g] ** 2), g))
    return m


def groups_value(w: np.ndarray) -> sp.Expr:
    return sum(sp.log(1 + sum(e * sp.exp(e / 3) for e in row) ** 2) for row in w)


def symbolic_diagonal(value: Callable[[np.ndarray], sp.Expr], point: np.ndarray) -> np.ndarray:
    names = np.array([sp.Symbol(f"x{k}") for k in range(point.size)])
    expression = value(names.reshape(point.shape))
    at = dict(zip(names, point.reshape(-1), strict=True))
    found = [float(sp.diff(expression, s, 2).subs(at)) for s in names]
    return np.array(found).reshape(point.shape)


@pytest.mark.parametrize(
    ("make", "value", "leaf", "shape", "expected"),
    [
        (chain, chain_value, "x", (9,), (2,)),
        (grid, grid_value, "x", (4, 5), (1, 2)),
        (groups, groups_value, "w", (6, 3), (0, 2)),
    ],
)
def test_the_exact_diagonal_takes_a_direction_for_each_colour(
    make: Callable[[], cp.Model],
    value: Callable[[np.ndarray], sp.Expr],
    leaf: str,
    shape: tuple[int, ...],
    expected: tuple[int, ...],
) -> None:
    model = make()
    graph = model.graph()
    assert widths(graph, graph.variable(leaf)) == expected
    est = cp.compile(model, wrt=[leaf], programs=())
    assert est.columns("diagonal:directions") == est.columns("trace:directions") == np.prod(np.array(expected) + 1)
    point = 0.5 * RNG.normal(size=shape)
    reference = symbolic_diagonal(value, point)
    for backend in ("auto", "interpreter"):
        est = cp.compile(model, wrt=[leaf], programs=(), backend=backend)
        found = est.diagonal(method="directions", exact=True, **{leaf: point})
        np.testing.assert_allclose(found[leaf].value, reference, rtol=1e-11, atol=1e-12)
        trace = est.trace(method="directions", exact=True, **{leaf: point})
        np.testing.assert_allclose(trace.value, reference.sum(), rtol=1e-11)


@pytest.mark.parametrize(("model", "columns"), [(chain, 3), (deep_chain, 5)])
def test_a_chain_of_any_length_takes_as_many(model: Callable[[int], cp.Model], columns: int) -> None:
    """And that is what is chosen, for the exact answer and in place of a few samples, where no closed form is known."""
    est = cp.compile(model(100), programs=())
    assert est.columns("diagonal:directions") == est.columns("trace:directions") == columns
    chosen = 0 if model is chain else columns
    assert est.columns("diagonal") == est.columns("diagonal:exact") == est.columns("trace:exact") == chosen
    x = RNG.normal(size=100) / 2
    found = est.diagonal(x=x, method="directions", exact=True)
    assert found.exact
    swept = est.diagonal(x=x, method="cp", exact=True)
    np.testing.assert_allclose(found["x"].value, swept["x"].value, rtol=1e-10, atol=1e-12)


def test_inputs_with_rows() -> None:
    model = strided()
    graph = model.graph()
    assert colours(graph, graph.variable("x")) == (3,)
    arrays = {"x": RNG.normal(size=(4, 11)), "w": RNG.normal(size=3)}
    est = cp.compile(model, wrt=["x"], programs=())
    assert est.columns("diagonal:directions") == 3
    found = est.diagonal(method="directions", exact=True, **arrays)["x"].value
    for row in range(4):
        reference = symbolic_diagonal(
            lambda x: sum(sp.tanh(sum(arrays["w"][r] * x[2 * k + r] for r in range(3))) ** 2 for k in range(5)),
            arrays["x"][row],
        )
        np.testing.assert_allclose(found[row], reference, rtol=1e-11, atol=1e-13)


def test_two_leaves_have_directions_of_their_own() -> None:
    m = cp.Model("two")
    i, k = m.axis("i", 8), m.axis("k", 7)
    x, y = m.param("x", i), m.param("y", i)
    z = m.define("z", (k,), sp.sin(x[k] * y[k + 1] + x[k + 1]))
    m.objective(cp.sum(z[k] ** 2, k))
    est = cp.compile(m, wrt=["x", "y"], programs=())
    assert est.columns("diagonal:directions") == 2 + 1
    point = {"x": RNG.normal(size=8), "y": RNG.normal(size=8)}
    found = est.diagonal(method="directions", exact=True, **point)
    value = lambda x, y: sum(sp.sin(x[k] * y[k + 1] + x[k + 1]) ** 2 for k in range(7))  # noqa: E731
    np.testing.assert_allclose(
        found["x"].value, symbolic_diagonal(lambda x: value(x, point["y"]), point["x"]), rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(
        found["y"].value, symbolic_diagonal(lambda y: value(point["x"], y), point["y"]), rtol=1e-11, atol=1e-12
    )


def test_what_couples_everything_shares_nothing() -> None:
    m = cp.Model("whole")
    i = m.axis("i", 6)
    x = m.param("x", i)
    m.objective(sp.log(cp.sum(sp.exp(x[i]), i)) + x[0] * x[5])
    graph = m.graph()
    assert widths(graph, graph.variable("x")) == (5,)
    assert cp.compile(m, programs=()).columns("diagonal:directions") == 6


def test_leaves_with_and_without_rows_have_no_directions_in_common() -> None:
    est = CATALOGUE["convolution_1d"].compile(programs=())
    with pytest.raises(cp.CpgenError, match="not for both at once"):
        est.columns("diagonal:directions")


@pytest.mark.parametrize(("shape", "numbers"), [((7,), (3,)), ((4, 5), (2, 3)), ((2, 3, 4), (2, 1, 3)), ((3,), (1,))])
def test_elements_of_a_colour_are_far_apart(shape: tuple[int, ...], numbers: tuple[int, ...]) -> None:
    count = int(np.prod(numbers))
    node = coloured_vectors(shape, numbers, 2, Origin("v"))
    found = run(Program("t", (("v", node),), ()), {}, 1, count + 4)["v"]
    assert not found[:2].any() and not found[2 + count :].any()
    assert (found.sum(0) == 1).all()  # each element has one colour
    for vector in found:
        for a, b in product(np.argwhere(vector), repeat=2):
            apart = np.abs(a - b)
            assert not apart.any() or (apart >= numbers).any()


@pytest.mark.parametrize(
    "name", ["lattice", "chained_rosenbrock", "convolution_1d", "convolution_2d", "recurrent", "softplus_energy"]
)
def test_no_second_derivative_reaches_further(name: str) -> None:
    """Of models with neighbours, strides, padding, pooling and shared weights."""
    entry = CATALOGUE[name]
    model = entry.build()
    graph = model.graph()
    arrays: Mapping[str, np.ndarray] = entry.arrays(2, 4)
    hessian = entry.compile(programs=()).hessian(**arrays)
    banded = False
    for leaf in entry.wrt:
        block = hessian.blocks[leaf, leaf]
        size = graph.variable(leaf).element_shape
        matrix = np.abs(block.reshape(-1, int(np.prod(size)), int(np.prod(size)))).max(0)
        places = np.array(list(np.ndindex(*size))).reshape(len(matrix), -1)
        apart = np.abs(places[:, None] - places[None])
        beyond = (apart > np.array(widths(graph, graph.variable(leaf)))).any(-1)
        assert not matrix[beyond].any(), leaf
        banded = banded or beyond.any()
    assert banded or name not in ("lattice", "chained_rosenbrock")
