"""Each rewrite does what it says on a small example, and changes no result on whole models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sympy

from cpgen.derive import programs
from cpgen.derive.derived import Derived
from cpgen.derive.units import unit_vectors
from cpgen.ir.build import affine, axis, constant_index, elementwise, make_map, new_input, read, reduce_sum
from cpgen.ir.cost import operations
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Input, Map, Node, Origin, Program
from cpgen.ir.noise import INDEPENDENT, noise_array
from cpgen.ir.stack import stack, stacked
from cpgen.ir.text import text
from cpgen.ir.verify import verify
from cpgen.scalar import placeholder as p
from cpgen.simplify import PASSES, hoist, inline, merge_sums, narrow, share, simplified, unroll
from tests.catalogue import CATALOGUE

Pass = Callable[[Program], Program]
X = new_input("x", (ROWS, 3), "data")
W = new_input("w", (3,), "param")
Z = new_input("z", (ROWS, 2), "data")
ARRAYS = {
    "x": np.random.default_rng(0).normal(size=(4, 3)),
    "w": np.random.default_rng(1).normal(size=3),
    "z": np.random.default_rng(2).normal(size=(4, 2)),
    "v": np.random.default_rng(3).normal(size=(5, 4, 3)),
}


def program(*nodes: Node) -> Program:
    outputs = tuple((f"y{k}", node) for k, node in enumerate(nodes))
    inputs = tuple(n for n in Program("t", outputs, ()).nodes() if isinstance(n, Input))
    return Program("t", outputs, inputs)


def applied(rewrite: Pass, *nodes: Node) -> tuple[Program, Program]:
    """A program before and after, having checked that both mean the same."""
    before = program(*nodes)
    after = rewrite(before)
    verify(after)
    assert [name for name, _ in after.outputs] == [name for name, _ in before.outputs]
    left, right = (run(q, ARRAYS, 4, 5) for q in (before, after))
    for name in left:
        np.testing.assert_allclose(right[name], left[name], rtol=1e-13, atol=1e-13)
    if rewrite is not inline:  # which looks at each map once, so that long chains fold in steps
        assert text(rewrite(after)) == text(after)
    return before, after


def named(name: str, expr: sympy.Expr, *nodes: Node) -> Node:
    return elementwise(expr, nodes, Origin(name))


# inline


def test_inline_folds_what_one_map_reads() -> None:
    a = named("a", sympy.sin(p(0)), X)
    b = named("b", p(0) ** 2 + 1, a)
    before, after = applied(inline, named("c", 3 * p(0) * p(1), b, X))
    assert (len(before.maps()), len(after.maps())) == (3, 1)
    assert after.maps()[0].expr == 3 * p(0) * (sympy.sin(p(0)) ** 2 + 1)


def test_inline_follows_transposed_reads() -> None:
    m = new_input("m", (3, 3), "data")
    a = named("a", sympy.exp(p(0)) * p(1), m, make_map((3, 3), 2, [read(m, 1, 0)], p(0) ** 2))
    node = make_map((3, 3), 2, [read(a, 1, 0), read(m, 0, 1)], p(0) + p(1))
    before, after = program(node), inline(program(node))
    array = np.random.default_rng(4).normal(size=(3, 3))
    expected = (np.exp(array) * array.T**2).T + array
    for q in (before, after):
        np.testing.assert_allclose(run(q, {"m": array})["y0"], expected, rtol=1e-13)
    assert len(after.maps()) == 1


def test_inline_leaves_what_is_read_twice_or_is_an_answer() -> None:
    a = named("a", sympy.sin(p(0)), X)
    _, after = applied(inline, named("b", p(0) + 1, a), named("c", p(0) * 2, a))
    assert len(after.maps()) == 3
    _, after = applied(inline, a, named("b", p(0) + 1, a))
    assert len(after.maps()) == 2


def test_inline_moves_no_work_into_a_longer_loop() -> None:
    """tanh(w) is three values; inside the contraction it would be computed for every row."""
    t = named("t", sympy.tanh(p(0)), W)
    contraction = make_map((ROWS, 3), 1, [read(X, 0, 1), read(t, 1)], p(0) * p(1))
    _, after = applied(inline, contraction)
    assert len(after.maps()) == 2
    # in a loop over exactly its points it is folded, reductions included
    t = named("t", sympy.tanh(p(0)), X)
    _, after = applied(inline, make_map((ROWS, 3), 1, [read(t, 0, 1), read(W, 1)], p(0) * p(1)))
    assert len(after.maps()) == 1


def test_inline_leaves_sums_guards_and_shifted_reads() -> None:
    total = make_map((ROWS, 3), 1, [read(X, 0, 1)], sympy.sin(p(0)), origin=Origin("total"))
    _, after = applied(inline, named("y", p(0) ** 2, total))
    assert len(after.maps()) == 2
    guarded = make_map((ROWS, 3), 2, [read(X, 0, 1)], sympy.cos(p(0)), [Guard(affine({1: 1}, -1), 2)])
    _, after = applied(inline, named("y", p(0) ** 2, guarded))
    assert len(after.maps()) == 2
    # outside its extent cos(x) reads 0, and cos of x read outside would be 1
    plain = named("c", sympy.cos(p(0)), X)
    shifted = make_map((ROWS, 3), 2, [Access(plain, (axis(0), affine({1: 1}, 1)))], 2 * p(0))
    _, after = applied(inline, shifted)
    assert len(after.maps()) == 2


def test_inline_keeps_expressions_readable() -> None:
    node: Node = X
    for k in range(30):
        node = named(f"n{k}", sympy.sin(p(0)) + p(0) ** 2, node)
    before, after = applied(inline, node)
    assert 1 < len(after.maps()) < len(before.maps())


# merge_sums


def contraction(name: str, expr: sympy.Expr) -> Node:
    return make_map((3, ROWS), 1, [read(X, 1, 0)], expr, origin=Origin(name))


def test_sums_over_one_loop_are_merged() -> None:
    total = named(
        "y",
        p(0) + p(1) + p(2),
        contraction("a", p(0) ** 2),
        contraction("b", sympy.sin(p(0))),
        contraction("c", p(0)),
    )
    before, after = applied(merge_sums, total)
    (only,) = after.maps()
    assert len(before.maps()) == 4 and only.extents == (3, ROWS)
    assert only.expr == p(0) ** 2 + sympy.sin(p(0)) + p(0)


def test_sums_with_equal_guards_are_merged_and_with_others_not() -> None:
    def sliced(offset: int, power: int) -> Node:
        args = [Access(X, (axis(0), affine({1: 1}, 0)))]
        return make_map((ROWS, 3), 1, args, p(0) ** power, [Guard(affine({1: 1}, offset), 2)])

    _, after = applied(merge_sums, named("y", p(0) + p(1), sliced(-1, 1), sliced(-1, 2)))
    assert len(after.maps()) == 1
    _, after = applied(merge_sums, named("y", p(0) + p(1), sliced(-1, 1), sliced(0, 2)))
    assert len(after.maps()) == 3


def test_sums_that_differ_or_are_used_elsewhere_stay() -> None:
    a, b = contraction("a", p(0) ** 2), contraction("b", sympy.sin(p(0)))
    other = make_map((3, ROWS, 2), 1, [read(X, 1, 0), read(Z, 1, 2)], p(0) * p(1))  # another loop
    for nodes, count in (
        ([named("y", p(0) + p(1), a, other)], 3),
        ([named("y", p(0) + 2 * p(1), a, b)], 3),  # not a plain sum
        ([named("y", p(0) * p(1), a, b)], 3),
        ([named("y", p(0) + p(1), a, b), a], 3),  # a is an answer as well
        ([named("y", p(0) + p(1), a, b), named("z", sympy.exp(p(0)), b)], 4),
        ([named("y", p(0) + p(1), a, W)], 2),  # an array is no sum
    ):
        _, after = applied(merge_sums, *nodes)
        assert len(after.maps()) == count
    top = make_map((ROWS, 3), 1, [read(X, 0, 1)], p(0), reduce="max")
    low = make_map((ROWS, 3), 1, [read(X, 0, 1)], p(0))
    _, after = applied(merge_sums, named("y", p(0) + p(1), top, low))
    assert len(after.maps()) == 3


# hoist


def work(q: Program) -> list[tuple[tuple[object, ...], sympy.Expr]]:
    return [(m.extents, m.expr) for m in q.maps()]


def test_hoist_takes_row_free_work_out_of_the_rows() -> None:
    node = make_map((ROWS, 3), 1, [read(X, 0, 1), read(W, 1)], p(0) * sympy.exp(p(1)))
    _, after = applied(hoist, node)
    assert work(after) == [((3,), sympy.exp(p(0))), ((ROWS, 3), p(0) * p(1))]


def test_hoist_squares_once() -> None:
    """sum_n e[n, h] x[n, i]**2: the squares have fewer axes than the loop."""
    node = make_map((2, 3, ROWS), 2, [read(Z, 2, 0), read(X, 2, 1)], sympy.sin(p(0)) * p(1) ** 2)
    _, after = applied(hoist, node)
    assert sorted(map(str, work(after)[:2])) == sorted(
        map(str, [((ROWS, 2), sympy.sin(p(0))), ((ROWS, 3), p(0) ** 2)])
    )
    assert after.maps()[-1].expr == p(0) * p(1)


def test_hoist_keeps_run_time_axes_first() -> None:
    v = new_input("v", (COLUMNS, ROWS, 3), "noise")
    node = make_map((3, 2, ROWS, COLUMNS), 2, [read(v, 3, 2, 0), read(Z, 2, 1)], p(0) ** 2 * p(1))
    _, after = applied(hoist, node)
    factor = next(m for m in after.maps() if not m.reduced)
    assert factor.shape == (COLUMNS, ROWS, 3)


def test_hoist_leaves_what_would_save_nothing() -> None:
    for node in (
        make_map((ROWS, 3), 1, [read(X, 0, 1)], 2 * sympy.sin(p(0))),  # varies over the whole loop
        make_map((ROWS, 3), 2, [read(X, 0, 1), read(W, 1)], p(0) * sympy.exp(p(1))),  # no reduction
        make_map((ROWS, 3), 1, [read(X, 0, 1), read(W, 1)], p(0) + sympy.exp(p(1))),  # no product
        make_map((ROWS, 3), 1, [read(X, 0, 1), read(W, 1)], p(0) * p(1)),  # nothing to compute
        make_map(
            (ROWS, 3), 1, [read(X, 0, 1), Access(W, (affine({1: 1}, 1),))], p(0) * sympy.cos(p(1))
        ),  # shifted
        make_map((ROWS, 2), 1, [read(X, 0, 1), read(W, 1)], p(0) * sympy.exp(p(1))),  # a part of w
    ):
        _, after = applied(hoist, node)
        assert len(after.maps()) == 1


def test_hoist_under_a_guard_keeps_excluded_points_out() -> None:
    """1 / x is hoisted to a point at which x is zero and the sum is guarded: nothing may leak from there."""
    x, m = new_input("x", (4,), "param"), new_input("m", (2, 3), "param")
    index = affine({0: 1}, -1)
    node = make_map((4, 2), 1, [Access(m, (axis(1), index)), read(x, 0)], p(0) / p(1), [Guard(index, 3)])
    before = program(node)
    after = hoist(before)
    assert len(after.maps()) == 2
    arrays = {"x": np.array([0.0, 1.0, 2.0, 3.0]), "m": np.arange(1.0, 7.0).reshape(2, 3)}
    for q in (before, after):
        np.testing.assert_allclose(run(q, arrays)["y0"], [0, 5, 3.5, 3], rtol=1e-14)


# narrow


def test_narrow_computes_once_what_an_axis_does_not_change() -> None:
    """a[row, j] = sum_i z[row, i] for each j: one sum, read by the product with x."""
    wide = make_map((ROWS, 3, 2), 2, [read(Z, 0, 2)], sympy.sin(p(0)), origin=Origin("wide"))
    _, after = applied(narrow, named("y", p(0) * p(1), wide, X))
    assert work(after) == [((ROWS, 2), sympy.sin(p(0))), ((ROWS, 3), p(0) * p(1))]
    # an answer keeps its shape
    _, after = applied(narrow, wide)
    assert work(after) == [((ROWS, 2), sympy.sin(p(0))), ((ROWS, 3), p(0))]


def test_narrow_reads_zero_outside_as_before() -> None:
    wide = make_map((ROWS, 3, 2), 2, [read(Z, 0, 2)], sympy.cos(p(0)), origin=Origin("wide"))
    shifted = make_map((ROWS, 3), 2, [Access(wide, (axis(0), affine({1: 1}, 1))), read(X, 0, 1)], p(0) + p(1))
    _, after = applied(narrow, shifted)
    assert ((ROWS, 2), sympy.cos(p(0))) in work(after)


def test_narrow_keeps_axes_in_guards() -> None:
    guarded = make_map((ROWS, 3, 2), 2, [read(Z, 0, 2)], p(0), [Guard(affine({1: 1}, -1), 2)])
    before, after = applied(narrow, guarded)
    assert work(after) == work(before)


def test_narrow_computes_once_for_all_rows() -> None:
    m = new_input("m", (3, 3), "data")
    each = make_map((ROWS, 3, 3), 2, [read(m, 1, 2)], p(0) ** 2, origin=Origin("each"))
    node = named("y", p(0) * p(1), each, X)
    before, after = program(node, reduce_sum(each, [0])), narrow(program(node, reduce_sum(each, [0])))
    assert ((3, 3), p(0) ** 2) in work(after)
    assert all(m.expr != p(0) ** 2 for m in after.maps() if m.has_rows)
    arrays = {**ARRAYS, "m": np.random.default_rng(5).normal(size=(3, 3))}
    for name, value in run(before, arrays, 4).items():
        np.testing.assert_allclose(run(after, arrays, 4)[name], value, rtol=1e-13)
    # what is no sum is as quickly computed where it is
    _, after = applied(narrow, make_map((ROWS, 3), 2, [read(W, 1)], 2 * p(0)))
    assert work(after) == [((ROWS, 3), 2 * p(0))]


def test_narrow_takes_a_factor_out_of_the_sum() -> None:
    """sum_t x[row, t] z[row, i] w[t]: x and w are summed first, over what only they vary with."""
    node = make_map((ROWS, 2, 3), 2, [read(X, 0, 2), read(Z, 0, 1), read(W, 2)], p(0) * p(1) * p(2))
    _, after = applied(narrow, node)
    assert work(after) == [((ROWS, 3), p(0) * p(1)), ((ROWS, 2), p(0) * p(1))]
    # the sum over rows stays where both factors have rows
    node = make_map((2, ROWS, 3), 1, [read(X, 1, 2), read(Z, 1, 0)], p(0) ** 2 * p(1))
    _, after = applied(narrow, node)
    assert work(after) == [((ROWS, 3), p(0) ** 2), ((2, ROWS), p(0) * p(1))]


def test_narrow_leaves_sums_that_need_every_axis() -> None:
    for node in (
        make_map((ROWS, 2, 3), 2, [read(X, 0, 2), read(Z, 0, 1)], p(0) + p(1)),  # no product
        make_map((ROWS, 3), 1, [read(X, 0, 1), read(W, 1)], p(0) * p(1)),  # both factors are summed
        make_map((ROWS, 3), 1, [read(X, 0, 1)], 2 * p(0)),  # a number is no factor to save
        make_map((ROWS, 2, 3), 2, [read(X, 0, 2), read(Z, 0, 1)], p(0) * p(1), reduce="max"),
        make_map((3, 3), 1, [read(W, 0), Access(W, (axis(1),))], p(0) * p(1), [Guard(affine({0: 1, 1: -1}), 3)]),
    ):
        before, after = applied(narrow, node)
        assert work(after) == work(before)


# share


def calls(q: Program, function: object) -> int:
    return sum(m.expr.count(function) for m in q.maps())


def test_share_computes_a_call_of_two_maps_once() -> None:
    nodes = [elementwise(expr, [X]) for expr in (sympy.sin(p(0)) + p(0), 2 * sympy.sin(p(0)), sympy.cos(p(0)))]
    _, after = applied(share, *nodes)
    assert (calls(after, sympy.sin), calls(after, sympy.cos)) == (1, 1)
    assert work(after)[0] == ((ROWS, 3), sympy.sin(p(0)))


def test_share_computes_over_no_more_axes_than_needed() -> None:
    """exp(w[j]) does not depend on the row, sin(x[row, 1]) not on j."""
    first = Access(X, (axis(0), affine({}, 1)))
    node = make_map((ROWS, 3), 2, [first, read(W, 1)], sympy.sin(p(0)) + sympy.exp(p(1)) * p(0))
    _, after = applied(share, node)
    assert {m.extents for m in after.maps()} == {(ROWS,), (3,), (ROWS, 3)}


def test_share_reads_the_map_that_is_the_call() -> None:
    z = named("z", sympy.tanh(p(0)), X)
    _, after = applied(share, z, elementwise(1 - sympy.tanh(p(0)) ** 2, [X]))
    assert calls(after, sympy.tanh) == 1 and len(after.maps()) == 2


def test_share_looks_inside_what_it_shares() -> None:
    inner = sympy.cos(p(0))
    nodes = [elementwise(expr, [X]) for expr in (sympy.exp(inner) + 1, 3 * sympy.exp(inner), inner * p(0))]
    _, after = applied(share, *nodes)
    assert (calls(after, sympy.exp), calls(after, sympy.cos)) == (1, 1)


def test_share_tells_places_and_guards_apart() -> None:
    """x[i] and x[i + 1] are different values, and what a guard keeps out of range is not computed there."""
    here, there = (Access(X, (axis(0), affine({1: 1}, k))) for k in (0, 1))
    nodes = [make_map((ROWS, 2), 2, [a], sympy.sin(p(0)) * k) for k, a in enumerate((here, there), 2)]
    _, after = applied(share, *nodes)
    assert len(after.maps()) == 2
    outside = affine({1: 1}, 1)
    padded = [
        make_map((ROWS, 3), 2, [Access(X, (axis(0), outside))], k * sympy.sin(p(0)), [Guard(outside, 3)])
        for k in (2, 3)
    ]
    _, after = applied(share, *padded)
    assert len(after.maps()) == 2


def test_share_leaves_what_is_cheap() -> None:
    _, after = applied(share, elementwise(2 * (p(0) + 1), [X]), elementwise((p(0) + 1) ** 2, [X]))
    assert len(after.maps()) == 2


# Whole models


MODELS = [
    "mlp_tanh",
    "softplus_energy",
    "gaussian_mixture",
    "lattice",
    "recurrent",
    "several_inputs",
    "huber",
    "attention",
]
KEYS: dict[str, Callable[..., Derived]] = {
    "gradient": lambda graph, wrt: programs.gradient(graph, wrt),
    "diagonal": lambda graph, wrt: programs.diagonal(graph, wrt),
    "diagonal:s": lambda graph, wrt: programs.diagonal(graph, wrt, "s"),
}


def evaluate(q: Program, arrays: dict[str, np.ndarray], rows: int, columns: int) -> dict[str, np.ndarray]:
    given = dict(arrays)
    for node in q.inputs:
        if node.kind == "noise":
            given[node.name] = noise_array(node, q, 11, rows, columns, INDEPENDENT)
    given |= {
        "row_scale": np.asarray(1 / rows),
        "column_scale": np.asarray(1 / columns),
        "variance_scale": np.asarray(1 / (columns * (columns - 1))),
    }
    return run(q, given, rows, columns)


@pytest.mark.parametrize("key", list(KEYS))
@pytest.mark.parametrize("name", MODELS)
def test_no_rewrite_changes_a_result(name: str, key: str) -> None:
    entry = CATALOGUE[name]
    graph = entry.build().graph()
    original = KEYS[key](graph, [graph.variable(v) for v in entry.wrt]).program
    arrays = entry.arrays(1, 3)
    expected = evaluate(original, arrays, 3, 4)
    assert all(np.isfinite(v).all() for v in expected.values())
    together = original
    for rewrite in PASSES:
        together = rewrite(together)
        for changed in (rewrite(original), together):
            verify(changed)
            assert [i.name for i in changed.inputs] == [i.name for i in original.inputs]
            found = evaluate(changed, arrays, 3, 4)
            for label, value in expected.items():
                scale = max(1.0, float(np.abs(value).max(initial=0.0)))
                np.testing.assert_allclose(found[label], value, rtol=0, atol=1e-12 * scale)
    assert len(together.maps()) <= len(original.maps()) * 1.3


def test_the_passes_find_something_to_do() -> None:
    """On the classifier each of them changes the program, and inlining makes it smaller."""
    entry = CATALOGUE["mlp_tanh"]
    graph = entry.build().graph()
    q = programs.diagonal(graph, [graph.variable(v) for v in entry.wrt]).program
    assert len(inline(q).maps()) < len(q.maps())
    merged = inline(q)
    assert len(hoist(merged).maps()) > len(merged.maps())  # factors of their own
    assert all(isinstance(m, Map) for m in hoist(merged).maps())
    sums = reduce_sum(X, [0])
    assert len(merge_sums(program(named("y", p(0) + p(1), sums, contraction("b", p(0) ** 2)))).maps()) == 1


@pytest.mark.parametrize("rewrite", PASSES, ids=lambda f: f.__name__)
def test_rewrites_are_deterministic(rewrite: Pass) -> None:
    entry = CATALOGUE["several_inputs"]

    def printed() -> str:
        graph = entry.build().graph()
        return text(rewrite(programs.diagonal(graph, [graph.variable(v) for v in entry.wrt]).program))

    assert printed() == printed()


# unroll


def neighbours(x: Node) -> Node:
    """y[n, i] = x[n, i] * x[n, i+1] * x[n, 1], where reading beyond the end gives zero."""
    shifted = Access(x, (axis(0), affine({1: 1}, 1)))
    picked = Access(x, (axis(0), constant_index(1)))
    return make_map((ROWS, 3), 2, [read(x, 0, 1), shifted, picked], p(0) * p(1) * p(2), origin=Origin("y"))


def test_unroll_writes_elements_out_and_drops_what_is_zero() -> None:
    y = neighbours(X)
    total = make_map((ROWS, 3), 1, [read(y, 0, 1), Access(W, (axis(1),))], p(0) * p(1), origin=Origin("total"))
    _, after = applied(unroll, total, y)
    assert all(m.extents == (ROWS,) for m in after.maps() if m.origin.name == "total")
    numbers = stacked(dict(after.outputs)["y1"])
    assert numbers is not None and sorted(numbers) == [(0,), (1,)]  # x[2]*x[3] is zero
    assert "w[2]" not in text(after)


def test_unroll_keeps_sums_over_rows_and_guards() -> None:
    inside = Guard(affine({2: 1, 1: -1}), 2)  # i <= k < i + 2
    args = [read(X, 0, 2), Access(X, (axis(0), constant_index(1)))]
    y = make_map((ROWS, 3, 3), 2, args, p(0) ** 2 * p(1), [inside], origin=Origin("y"))
    summed = reduce_sum(y, [0], Origin("summed"))
    _, after = applied(unroll, summed)
    (sums,) = (m for m in after.maps() if ROWS in m.extents[m.rank :])
    assert sums.shape == (3,)
    assert all(not m.guards and not m.reduced for m in after.maps() if m is not sums)


def test_unroll_leaves_large_arrays_alone() -> None:
    for extent, written in ((9, True), (10, False)):
        wide = new_input("wide", (ROWS, extent), "data")
        args = [read(wide, 0, 1), Access(wide, (axis(0), constant_index(2)))]
        before = program(make_map((ROWS, extent), 1, args, p(0) ** 2 * p(1)))
        assert (unroll(before) is not before) == written


def test_unroll_leaves_loops_over_equal_elements_alone() -> None:
    before = program(make_map((ROWS, 3), 1, [read(X, 0, 1)], p(0) ** 2))
    assert unroll(before) is before


def test_unroll_writes_unit_directions_out() -> None:
    """w'Av by unit directions v: with the columns written out, no direction and no product with one is left."""
    v = unit_vectors((3,), 0, Origin("v"))
    along = make_map((COLUMNS, ROWS, 3), 2, [read(X, 1, 2), read(v, 0, 2)], sympy.sin(p(0)) * p(1))
    back = make_map((ROWS, 3, COLUMNS), 2, [read(along, 2, 0), read(v, 2, 1)], p(0) ** 2 * p(1))
    before = program(back)
    after = unroll(before, 3)
    verify(after)
    assert [i.name for i in after.inputs] == ["x"]
    expected = run(before, {"x": ARRAYS["x"]}, 4, 3)["y0"]
    np.testing.assert_allclose(run(after, ARRAYS, 4, 0)["y0"], expected, rtol=1e-15)
    np.testing.assert_allclose(expected, np.sin(ARRAYS["x"]) ** 2, rtol=1e-15)
    assert sum("sin" in str(m.expr) for m in after.maps()) == 3


def test_unroll_refuses_what_would_divide_by_a_written_zero() -> None:
    shifted = Access(X, (axis(0), affine({1: 1}, 1)))
    picked = Access(X, (axis(0), constant_index(1)))
    before = program(make_map((ROWS, 3), 2, [picked, shifted], p(0) / p(1)))
    assert unroll(before) is before


def test_a_stack_is_recognised() -> None:
    a, b = (named(name, sympy.sin(p(0)) + k, reduce_sum(X, [1])) for k, name in enumerate("ab"))
    both = stack({(0, 1): a, (1, 0): b}, (ROWS,), (2, 2), Origin("s"))
    assert stacked(both) == {(0, 1): a, (1, 0): b}
    assert stacked(a) is None and stacked(neighbours(X)) is None
    found = run(program(both, a, b), ARRAYS, 4, 1)
    np.testing.assert_array_equal(found["y0"][:, 0, 1], found["y1"])
    np.testing.assert_array_equal(found["y0"][:, 1, 0], found["y2"])
    assert not found["y0"][:, [0, 1], [0, 1]].any()


def test_small_arrays_are_written_out_only_where_that_saves_operations() -> None:
    chained, arm = (CATALOGUE[name].compile(programs=()) for name in ("chained_rosenbrock", "robot_arm"))
    directed = programs.diagonal(chained.graph, chained.wrt, "directions")
    looped, written = (simplified(directed.program, units) for units in (None, directed.columns))
    assert directed.columns and operations(written) < operations(looped, columns=directed.columns) / 2
    assert not written.inputs or all(i.kind != "noise" for i in written.inputs)
    gradient = programs.gradient(arm.graph, arm.wrt).program  # picks elements, but its loops do less
    assert unroll(gradient) is not gradient
    assert all(stacked(m) is None for m in simplified(gradient).maps())
