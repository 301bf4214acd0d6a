"""make_map: one canonical node for each map, and the simplifications it promises."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from cpgen.ir.build import (
    add,
    affine,
    always_valid,
    axis,
    constant,
    constant_index,
    elementwise,
    is_zero,
    make_map,
    new_input,
    read,
    reduce_sum,
    substitute,
)
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Index, Map, Node, Program
from cpgen.scalar import placeholder as p


def value(node: Node, rows: int = 1, columns: int = 1, **arrays: np.ndarray) -> np.ndarray:
    inputs = tuple(i for i in Program("t", (("y", node),), ()).nodes() if not isinstance(i, Map))
    return run(Program("t", (("y", node),), inputs), arrays, rows, columns)["y"]


def test_indices_are_in_lowest_terms() -> None:
    assert affine({0: 4, 2: -6}, 2, -2) == Index(((0, -2), (2, 3)), -1, 1)
    assert affine({0: 2}, 1, 2) == Index(((0, 2),), 1, 2)
    assert affine({1: 0}, 3) == constant_index(3)
    assert affine({3: 1}).axis == 3
    assert (
        affine({3: 1}, 1).axis is None and affine({3: 2}).axis is None and affine({0: 1, 1: 1}).axis is None
    )


@pytest.mark.parametrize("seed", range(20))
def test_substitution_is_composition_of_affine_functions(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def drawn() -> Index:
        c = rng.integers(-3, 4, 3)
        return affine({a: int(c[a]) for a in range(3)}, int(rng.integers(-3, 4)), int(rng.integers(1, 4)))

    def at(index: Index, point: dict[int, sympy.Rational]) -> sympy.Rational:
        return (sum(c * point[a] for a, c in index.terms) + index.offset) / sympy.Integer(index.divisor)

    outer, replacement = drawn(), {0: drawn(), 2: drawn()}
    for point in ({0: 1, 1: 4, 2: -7}, {0: 5, 1: 0, 2: 2}):
        inner = {a: at(replacement[a], point) if a in replacement else point[a] for a in range(3)}
        assert at(substitute(outer, replacement), point) == at(outer, inner)


def test_validity_is_proved_by_interval_arithmetic() -> None:
    assert always_valid(affine({0: 2, 1: -1}, 2), 7, (3, 3))
    assert not always_valid(affine({0: 2, 1: -1}, 2), 6, (3, 3))  # reaches 6
    assert not always_valid(affine({0: 2, 1: -1}, 1), 7, (3, 3))  # reaches -1
    assert not always_valid(affine({0: 1}, 0, 2), 9, (3,))  # not always an integer
    assert always_valid(axis(0), ROWS, (ROWS,)) and not always_valid(axis(0), 5, (ROWS,))


def test_arguments_that_are_not_used_are_dropped() -> None:
    x, y = new_input("x", (3,), "data"), new_input("y", (3,), "data")
    node = make_map((3,), 1, [read(x, 0), read(y, 0)], sympy.sin(p(1)))
    assert isinstance(node, Map)
    assert [a.node for a in node.args] == [y] and node.expr == sympy.sin(p(0))


def test_equal_accesses_are_merged_and_different_ones_are_not() -> None:
    x = new_input("x", (3, 3), "data")
    same = make_map((3, 3), 2, [read(x, 0, 1), read(x, 0, 1)], p(0) * p(1))
    assert isinstance(same, Map)
    assert len(same.args) == 1 and same.expr == p(0) ** 2
    other = make_map((3, 3), 2, [read(x, 0, 1), read(x, 1, 0)], p(0) * p(1))
    assert isinstance(other, Map) and len(other.args) == 2
    cancelled = make_map((3, 3), 2, [read(x, 0, 1), read(x, 0, 1)], p(0) - p(1))
    assert is_zero(cancelled) and isinstance(cancelled, Map) and not cancelled.args


def test_constants_are_folded_into_the_expression() -> None:
    x = new_input("x", (4,), "data")
    two = constant(2, (4,))
    node = make_map((4,), 1, [read(two, 0), read(x, 0)], p(0) * sympy.exp(p(1)))
    assert isinstance(node, Map) and len(node.args) == 1 and node.expr == 2 * sympy.exp(p(0))
    # a constant that may be read outside its extent is not the constant everywhere
    shifted = make_map((4,), 1, [Access(two, (affine({0: 1}, 2),))], p(0))
    assert np.array_equal(value(shifted), [2, 2, 0, 0])
    # but zero is
    assert is_zero(make_map((4,), 1, [Access(constant(0, (4,)), (affine({0: 1}, 2),))], p(0) * 3))


def test_copies_return_what_they_copy() -> None:
    x = new_input("x", (ROWS, 3), "data")
    assert make_map((ROWS, 3), 2, [read(x, 0, 1)], p(0)) is x
    y = new_input("y", (3, 3), "data")
    assert make_map((3, 3), 2, [read(y, 1, 0)], p(0)) is not y  # a transpose is no copy
    assert make_map((2, 3), 2, [read(y, 0, 1)], p(0)) is not y  # nor is a part
    twice = elementwise(p(0), [elementwise(p(0), [x])])
    assert twice is x
    transposed = make_map((3, 3), 2, [read(y, 1, 0)], p(0))
    assert make_map((3, 3), 2, [read(transposed, 1, 0)], p(0)) is y  # views are looked through


def test_views_are_not_looked_through_where_padding_would_change() -> None:
    x = new_input("x", (6,), "data")
    window = make_map((3,), 1, [Access(x, (affine({0: 1}, 1),))], p(0))  # x[1:4]
    padded = make_map((5,), 1, [Access(window, (affine({0: 1}, -1),))], p(0))
    array = np.arange(1.0, 7.0)
    assert np.array_equal(value(padded, x=array), [0, 2, 3, 4, 0])
    inside = make_map((2,), 1, [Access(window, (affine({0: 1}, 1),))], p(0))
    assert isinstance(inside, Map) and inside.args[0].node is x
    assert np.array_equal(value(inside, x=array), [3, 4])


def test_reductions_over_axes_that_nothing_reads_become_factors() -> None:
    x = new_input("x", (4,), "data")
    node = make_map((4, 5, 3), 1, [read(x, 0)], sympy.sin(p(0)))
    assert isinstance(node, Map)
    assert node.extents == (4,) and node.expr == 15 * sympy.sin(p(0))
    biggest = make_map((4, 5), 1, [read(x, 0)], sympy.sin(p(0)), reduce="max")
    assert isinstance(biggest, Map) and biggest.expr == sympy.sin(p(0))
    rows = make_map((4, ROWS), 1, [read(x, 0)], p(0))  # how many is known only at run time
    assert isinstance(rows, Map) and rows.extents == (4, ROWS)
    assert np.array_equal(value(rows, rows=7, x=np.ones(4)), np.full(4, 7.0))
    guarded = make_map((4, 5), 1, [read(x, 0)], p(0), [Guard(affine({0: 1, 1: -1}), 1)])
    assert isinstance(guarded, Map) and guarded.extents == (4, 5)  # the guard reads the axis
    assert np.array_equal(value(guarded, x=np.arange(4.0)), np.arange(4.0))


def test_guards_that_always_hold_are_dropped_and_repeated_ones_kept_once() -> None:
    x = new_input("x", (4,), "data")
    real = Guard(affine({0: 1}, -1), 2)
    node = make_map((4,), 1, [read(x, 0)], p(0), [Guard(axis(0), 4), real, real, Guard(axis(0), 9)])
    assert isinstance(node, Map) and node.guards == (real,)
    assert np.array_equal(value(node, x=np.arange(1.0, 5.0)), [0, 2, 3, 0])


def test_equal_maps_are_the_same_object() -> None:
    x, y = new_input("x", (3, 4), "data"), new_input("x", (3, 4), "data")

    def made(source: Node, factor: int = 2) -> Node:
        return make_map((3, 4), 1, [read(source, 0, 1)], factor * sympy.cos(p(0)))

    assert made(x) is made(x)
    assert made(x) is not made(y)  # two inputs are two inputs, whatever their names
    assert made(x) is not made(x, 3)
    assert make_map((3, 4), 1, [read(x, 0, 1)], p(0)) is not make_map(
        (3, 4), 1, [read(x, 0, 1)], p(0), reduce="max"
    )
    # the order of arguments that merge away makes no difference
    a = make_map((3, 4), 2, [read(x, 0, 1), read(y, 0, 1), read(x, 0, 1)], p(0) * p(1) + p(2))
    b = make_map((3, 4), 2, [read(x, 0, 1), read(y, 0, 1)], p(0) * p(1) + p(0))
    assert a is b


def test_sums_skip_zeros_and_broadcast_rows() -> None:
    x, b = new_input("x", (ROWS, 2), "data"), new_input("b", (2,), "param")
    zero = constant(0, (ROWS, 2))
    assert add([None, zero]) is None and add([None, x, zero]) is x and is_zero(None)
    node = add([x, zero, b])
    assert node is not None and node.shape == (ROWS, 2)
    arrays = {"x": np.arange(6.0).reshape(3, 2), "b": np.array([10.0, 20.0])}
    assert np.array_equal(value(node, rows=3, **arrays), arrays["x"] + arrays["b"])
    v = new_input("v", (COLUMNS, 2), "noise")
    both = elementwise(p(0) * p(1), [v, x])
    assert both.shape == (COLUMNS, ROWS, 2)
    noise = np.array([[1.0, -1.0], [3.0, 5.0]])
    expected = noise[:, None, :] * arrays["x"][None]
    assert np.array_equal(value(both, rows=3, columns=2, v=noise, x=arrays["x"]), expected)


def test_reduce_sum_takes_any_axes() -> None:
    x = new_input("x", (2, 3, 4), "data")
    array = np.random.default_rng(0).normal(size=(2, 3, 4))
    for axes in ([0], [1], [2], [0, 2], [0, 1, 2]):
        assert np.allclose(value(reduce_sum(x, axes), x=array), array.sum(axis=tuple(axes)), rtol=1e-14)
    assert reduce_sum(x, []) is x
