"""Squared norms of linear images as quadratic forms: where they are taken, what they cost, and how accurate they are."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

import cpgen as cp
from cpgen.ir.build import add, affine, axis, make_map, new_input, read
from cpgen.ir.call import Call
from cpgen.ir.cost import operations
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Extent, Guard, Input, Map, Node, Origin, Program
from cpgen.ir.noise import IDENTITY
from cpgen.ir.text import text
from cpgen.ir.verify import verify
from cpgen.scalar import placeholder as p
from cpgen.simplify import gram
from cpgen.simplify.gram import LEAST_HALVED

RNG = np.random.default_rng(12)
MANY = 40  # columns, enough for a matrix of products to pay


def image(matrix: Input, vector: Node, elements: int, *guards: Guard) -> Map:
    """``x[column, row, i] = sum_r A[r, i] z[column, row, r]``."""
    extents: tuple[Extent, ...] = (*vector.shape[: vector.lead], elements, *vector.element_shape)
    lead = vector.lead
    summed = range(lead + 1, len(extents))
    args = [read(matrix, *summed, lead), read(vector, *range(lead), *summed)]
    made = make_map(extents, lead + 1, args, p(0) * p(1), guards, origin=Origin("x"))
    assert isinstance(made, Map)
    return made


def norm(x: Node, factor: int = 1) -> Node:
    shape = x.shape
    return make_map(shape, x.lead, [read(x, *range(len(shape)))], factor * p(0) ** 2, origin=Origin("t"))


def rewritten(node: Node, columns: int = MANY, **arrays: np.ndarray) -> tuple[Program, Program]:
    """Before and after, having checked that the values agree."""
    outputs = (("y", node),)
    before = Program("t", outputs, tuple(n for n in Program("t", outputs, ()).nodes() if isinstance(n, Input)))
    after = gram(before, columns)
    verify(after)
    assert text(gram(after, columns)) == text(after)
    found, expected = (run(q, arrays, 3, 5)["y"] for q in (after, before))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    return before, after


def in_columns(program: Program) -> list[tuple[Extent, ...]]:
    """The loops of the sums over elements that are computed for each column."""
    return [m.extents for m in program.maps() if COLUMNS in m.extents and len(m.reduced) and COLUMNS in m.shape]


def test_a_long_image_of_a_short_vector_is_not_formed() -> None:
    z, a = new_input("z", (COLUMNS, ROWS, 3), "noise"), new_input("a", (3, 20), "param")
    arrays = {"z": RNG.normal(size=(5, 3, 3)), "a": RNG.normal(size=(3, 20))}
    before, after = rewritten(norm(image(a, z, 20), -2), **arrays)
    assert any(20 in extents for extents in in_columns(before))
    assert not any(20 in extents for extents in in_columns(after))
    assert operations(after, 8, MANY) < operations(before, 8, MANY)


def test_a_short_image_of_a_long_vector_stays() -> None:
    z, a = new_input("z", (COLUMNS, ROWS, 20), "noise"), new_input("a", (20, 3), "param")
    before, after = rewritten(norm(image(a, z, 3)), z=RNG.normal(size=(5, 3, 20)), a=RNG.normal(size=(20, 3)))
    assert after is before


def test_few_columns_do_not_pay_for_the_products() -> None:
    z, a = new_input("z", (COLUMNS, 30), "noise"), new_input("a", (30, 40), "param")
    arrays = {"z": RNG.normal(size=(5, 30)), "a": RNG.normal(size=(30, 40))}
    before, after = rewritten(norm(image(a, z, 40)), 5, **arrays)
    assert after is before
    before, after = rewritten(norm(image(a, z, 40)), 5000, **arrays)
    assert after is not before


def test_vectors_of_several_axes_padded_matrices_and_guards() -> None:
    z, a = new_input("z", (COLUMNS, ROWS, 2, 2), "noise"), new_input("a", (2, 9), "param")
    shifted = Access(a, (axis(3), affine({2: 1, 4: 1}, -2)))
    inside, some = Guard(affine({2: 1, 3: -1}), 25), Guard(affine({0: 1}, -1), 3)
    args = [shifted, read(z, 0, 1, 3, 4)]
    x = make_map((COLUMNS, ROWS, 30, 2, 2), 3, args, 3 * p(0) * p(1), [inside, some], origin=Origin("x"))
    arrays = {"z": RNG.normal(size=(5, 3, 2, 2)), "a": RNG.normal(size=(2, 9))}
    _, after = rewritten(norm(x), **arrays)
    assert not any(30 in extents for extents in in_columns(after))
    assert any(some in m.guards for m in after.maps())


def test_the_vector_may_be_read_at_any_order_of_its_axes() -> None:
    z, a = new_input("z", (COLUMNS, ROWS, 2, 3), "noise"), new_input("a", (2, 3, 25), "param")
    args = [read(a, 4, 3, 2), read(z, 0, 1, 4, 3)]
    x = make_map((COLUMNS, ROWS, 25, 3, 2), 3, args, p(0) * p(1), origin=Origin("x"))
    _, after = rewritten(norm(x), z=RNG.normal(size=(5, 3, 2, 3)), a=RNG.normal(size=(2, 3, 25)))
    assert not any(25 in extents for extents in in_columns(after))


def test_what_depends_on_rows_or_is_read_elsewhere_stays() -> None:
    z = new_input("z", (COLUMNS, ROWS, 3), "noise")
    a, d = new_input("a", (3, 20), "param"), new_input("d", (ROWS, 3, 20), "data")
    own = make_map((COLUMNS, ROWS, 20, 3), 3, [read(d, 1, 3, 2), read(z, 0, 1, 3)], p(0) * p(1), origin=Origin("x"))
    arrays = {"z": RNG.normal(size=(5, 3, 3)), "a": RNG.normal(size=(3, 20)), "d": RNG.normal(size=(3, 3, 20))}
    x = image(a, z, 20)
    weighted = make_map((COLUMNS, ROWS, 20), 2, [read(x, 0, 1, 2), read(d, 1, 0, 2)], p(0) ** 2 * p(1))
    twice = add([norm(x), make_map((COLUMNS, ROWS, 20), 2, [read(x, 0, 1, 2)], p(0))])
    assert twice is not None
    fourth = make_map((COLUMNS, ROWS, 20), 2, [read(x, 0, 1, 2)], p(0) ** 4)
    shifted = make_map((COLUMNS, ROWS, 19), 2, [Access(x, (axis(0), axis(1), affine({2: 1}, 1)))], p(0) ** 2)
    for node in (norm(own), twice, fourth, shifted):
        before, after = rewritten(node, **arrays)
        assert after is before
    program = Program("t", (("y", weighted),), ())
    assert gram(program, MANY) is program


@pytest.mark.parametrize("size", [LEAST_HALVED, LEAST_HALVED + 3, LEAST_HALVED + 37])
def test_of_two_equal_products_one_is_taken(size: int) -> None:
    z, a = new_input("z", (COLUMNS, ROWS, size), "noise"), new_input("a", (size, 3 * size), "param")
    arrays = {"z": RNG.normal(size=(5, 3, size)), "a": RNG.normal(size=(size, 3 * size))}
    some = Guard(affine({0: 1}, -1), 3)
    for guards in ((), (some,)):
        _, after = rewritten(norm(image(a, z, 3 * size, *guards), 3), columns=5 * size, **arrays)
        per_column = operations(after, columns=2) - operations(after, columns=1)
        assert per_column < 0.7 * 2 * size**2 + 10 * size
        assert len(after.maps()) < 30


# How accurate


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(np.zeros((), x.dtype), x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def traces(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The trace of the energy below by its input, in extended precision: the Jacobian of the second layer is formed."""
    x, w1, b1, w2, b2 = (arrays[k].astype(np.longdouble) for k in ("x", "W1", "b1", "W2", "b2"))
    found = []
    for row in x:
        s = w1 @ row + b1
        u = w2 @ softplus(s) + b2
        jacobian = w2 @ (sigmoid(s)[:, None] * w1)
        top = np.sum(sigmoid(u) * sigmoid(-u) * np.sum(jacobian**2, 1))
        inner = np.sum((w2.T @ sigmoid(u)) * sigmoid(s) * sigmoid(-s) * np.sum(w1**2, 1))
        found.append(top + inner + len(row))
    return np.array(found)


def energy(inputs: int, hidden: int) -> cp.Model:
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=inputs, h=hidden, k=hidden)
    x = m.input("x", n, i)
    w1, b1, w2, b2 = m.param("W1", h, i), m.param("b1", h), m.param("W2", k, h), m.param("b2", k)
    z = m.define("z", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i) + b1[h]))
    e = m.define("e", (n, k), cp.softplus(cp.sum(w2[k, h] * z[n, h], h) + b2[k]))
    m.objective(cp.sum(e[n, k], k) + cp.sum(x[n, i] ** 2, i) / 2)
    return m


@pytest.mark.parametrize("weights", ["plain", "scaled", "nearly equal"])
@pytest.mark.parametrize("hidden", [12, LEAST_HALVED + 6])
def test_the_relative_accuracy_is_that_of_the_long_way(hidden: int, weights: str) -> None:
    """Against extended precision: both ways to a few units in the last place, whatever the scales of the weights."""
    inputs = 5 * hidden
    w1 = RNG.normal(size=(hidden, inputs)) / np.sqrt(inputs)
    if weights == "scaled":
        w1 *= 10.0 ** RNG.uniform(-3, 3, size=(hidden, 1))
    if weights == "nearly equal":
        w1 = w1[:1] + 1e-5 * w1
    arrays = {
        "x": RNG.normal(size=(4, inputs)), "W1": w1, "b1": RNG.normal(size=hidden),
        "W2": RNG.normal(size=(hidden, hidden)) / np.sqrt(hidden), "b2": RNG.normal(size=hidden),
    }  # fmt: skip
    est = cp.compile(energy(inputs, hidden), wrt=["x"], programs=(), backend="interpreter")
    short = est.loaded("trace:units")
    assert not any(inputs in extents for extents in in_columns(short.program))
    expected = traces(arrays)
    long = est.loaded("trace:cp").backend
    given, rows = est.core.arrays(short, arrays)
    call = Call(rows or 1, hidden, design=IDENTITY)
    errors = [
        float(np.max(np.abs(backend.run(given, call)["trace"] - expected) / expected))
        for backend in (short.backend, long)
    ]
    assert max(errors) < 2e-14, errors


def test_laplacian_of_a_small_energy_is_sympys() -> None:
    """The quadratic form against the symbolic Laplacian, evaluated with 30 digits."""
    inputs, hidden = 7, 3
    arrays = {
        "x": RNG.normal(size=(2, inputs)), "W1": RNG.normal(size=(hidden, inputs)), "b1": RNG.normal(size=hidden),
        "W2": RNG.normal(size=(hidden, hidden)), "b2": RNG.normal(size=hidden),
    }  # fmt: skip
    est = cp.compile(energy(inputs, hidden), wrt=["x"], programs=(), backend="interpreter")
    program = est.derive("trace:units").program
    assert not any(inputs in extents for extents in in_columns(program))
    found = est.trace(exact=True, **arrays).value
    symbols = sympy.symbols(f"x:{inputs}")
    exact = {k: [[sympy.Rational(float(v)) for v in row] for row in np.atleast_2d(a)] for k, a in arrays.items()}

    def soft(t: sympy.Expr) -> sympy.Expr:
        return sympy.log(1 + sympy.exp(t))

    def layer(inputs: list[sympy.Expr], w: str, b: str) -> list[sympy.Expr]:
        rows = zip(exact[w], exact[b][0], strict=True)
        return [soft(sum(a * s for a, s in zip(row, inputs, strict=True)) + shift) for row, shift in rows]

    e = layer(layer(list(symbols), "W1", "b1"), "W2", "b2")
    laplacian = sum(sympy.diff(sum(e), s, 2) for s in symbols) + inputs
    for row, value in zip(exact["x"], found, strict=True):
        reference = sympy.N(laplacian.subs(dict(zip(symbols, row, strict=True))), 30)
        assert abs(float((sympy.Float(float(value), 30) - reference) / reference)) < 1e-14
