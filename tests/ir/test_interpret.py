"""The interpreter against plain NumPy, and against a loop over every point of the loop space."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import sympy

from cpgen.ir.build import affine, axis, constant_index, elementwise, make_map, new_input, read
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Index, Input, Map, Node, Program
from cpgen.scalar import kinks, maximum
from cpgen.scalar import placeholder as p

RNG = np.random.default_rng(20)
X, Y = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 3))


def evaluate(
    node: Node, rows: int = 1, columns: int = 1, first_column: int = 0, **arrays: np.ndarray
) -> np.ndarray:
    inputs = tuple(n for n in Program("t", (("y", node),), ()).nodes() if isinstance(n, Input))
    return run(Program("t", (("y", node),), inputs), arrays, rows, columns, first_column)["y"]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def test_contraction_over_rows() -> None:
    x, y = new_input("x", (ROWS, 4), "data"), new_input("y", (4, 3), "param")
    close(
        evaluate(make_map((ROWS, 3, 4), 2, [read(x, 0, 2), read(y, 2, 1)], p(0) * p(1)), 5, x=X, y=Y), X @ Y
    )
    gram = make_map((4, 4, ROWS), 2, [read(x, 2, 0), read(x, 2, 1)], p(0) * p(1))
    close(evaluate(gram, 5, x=X), np.einsum("ni,nj->ij", X, X))


def test_sums_of_products_with_coefficients_and_powers() -> None:
    x, y = new_input("x", (ROWS, 4), "data"), new_input("y", (4, 3), "param")
    expr = 3 * p(0) ** 2 * p(1) - p(1) / 2 + 7
    node = make_map((ROWS, 3, 4), 2, [read(x, 0, 2), read(y, 2, 1)], expr)
    expected = (3 * X[:, :, None] ** 2 * Y[None] - Y[None] / 2 + 7).sum(axis=1)
    close(evaluate(node, 5, x=X, y=Y), expected)


def test_functions_are_evaluated_at_every_point_before_they_are_summed() -> None:
    x, y = new_input("x", (ROWS, 4), "data"), new_input("y", (4, 3), "param")
    node = make_map(
        (ROWS, 3, 4), 2, [read(x, 0, 2), read(y, 2, 1)], sympy.tanh(p(0) * p(1)) / (1 + p(0) ** 2)
    )
    expected = (np.tanh(X[:, :, None] * Y[None]) / (1 + X[:, :, None] ** 2)).sum(axis=1)
    close(evaluate(node, 5, x=X, y=Y), expected)


def test_columns_in_an_index_count_from_the_first_of_all_columns() -> None:
    """In the index of an ordinary axis and in a guard, but not in that of the columns themselves."""
    w, v = new_input("w", (5,), "param"), new_input("v", (COLUMNS, 2), "noise")
    node = make_map(
        (COLUMNS, 2, 3), 2, [Access(w, (affine({0: 1, 2: 1}, -1),)), read(v, 0, 1)], p(0) * p(1) + 1,
        [Guard(affine({0: 1, 1: 2}, -1), 5)],
    )  # fmt: skip
    given, drawn = RNG.normal(size=5), RNG.normal(size=(6, 2))
    expected = np.zeros((6, 2))
    for c, i, j in product(range(6), range(2), range(3)):
        if 0 <= c + 2 * i - 1 < 5:
            expected[c, i] += (given[c + j - 1] if 0 <= c + j - 1 < 5 else 0.0) * drawn[c, i] + 1
    close(evaluate(node, columns=6, w=given, v=drawn), expected)
    for first in range(5):
        part = slice(first, first + 2)
        close(evaluate(node, columns=2, first_column=first, w=given, v=drawn[part]), expected[part])
    plain = make_map((COLUMNS,), 1, [read(w, 0)], p(0))
    close(evaluate(plain, columns=5, w=given), given)
    close(evaluate(plain, columns=5, first_column=2, w=given), np.array([*given[2:], 0.0, 0.0]))


def test_branches_are_where() -> None:
    x = new_input("x", (ROWS, 4), "data")
    expr = sympy.Piecewise((p(0) ** 2, p(0) > 0), (-3 * p(0), True))
    close(evaluate(elementwise(expr, [x]), 5, x=X), np.where(X > 0, X**2, -3 * X))
    close(evaluate(elementwise(maximum(p(0), 0), [x]), 5, x=X), np.maximum(X, 0))
    assert kinks(maximum(p(0), 0))


def test_padding_reads_zero() -> None:
    x, k = new_input("x", (6,), "data"), new_input("k", (3,), "param")
    signal, kernel = RNG.normal(size=6), RNG.normal(size=3)
    reads = [Access(x, (affine({0: 1, 1: 1}, -1),)), read(k, 1)]
    close(
        evaluate(make_map((6, 3), 1, reads, p(0) * p(1)), x=signal, k=kernel),
        np.correlate(np.pad(signal, 1), kernel, "valid"),
    )
    # outside is the value 0, not an absent point: cos(0) = 1 counts
    close(
        evaluate(make_map((6, 3), 1, reads[:1], sympy.cos(p(0))), x=signal),
        np.cos(np.lib.stride_tricks.sliding_window_view(np.pad(signal, 1), 3)).sum(axis=1),
    )


def test_guards_leave_points_out() -> None:
    x = new_input("x", (6,), "data")
    signal = RNG.normal(size=6)
    index = affine({0: 1, 1: 1}, -1)
    node = make_map((6, 3), 1, [Access(x, (index,))], sympy.cos(p(0)), [Guard(index, 6)])
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(signal, 1, constant_values=np.nan), 3)
    close(evaluate(node, x=signal), np.where(np.isnan(windows), 0, np.cos(windows)).sum(axis=1))
    diagonal = make_map((6, 6), 2, [read(x, 0)], p(0), [Guard(affine({0: 1, 1: -1}), 1)])
    close(evaluate(diagonal, x=signal), np.diag(signal))


def test_guards_leave_out_points_where_something_is_infinite() -> None:
    w, x = new_input("w", (2, 3), "param"), new_input("x", (4,), "data")
    index = affine({0: 1}, -1)
    reads = [Access(w, (axis(1), index)), read(x, 0)]
    weights, values = RNG.normal(size=(2, 3)), np.array([np.inf, 1.0, 2.0, 3.0])
    node = make_map((4, 2), 1, reads, p(0) * p(1), [Guard(index, 3)])
    close(evaluate(node, w=weights, x=values), np.concatenate([[0.0], weights.sum(axis=0) * values[1:]]))


def test_strides_and_divisors() -> None:
    x, k = new_input("x", (9,), "data"), new_input("k", (3,), "param")
    signal, kernel = RNG.normal(size=9), RNG.normal(size=3)
    reads = [Access(x, (affine({0: 2, 1: 1}),)), read(k, 1)]
    windows = np.lib.stride_tricks.sliding_window_view(signal, 3)[::2]
    close(evaluate(make_map((4, 3), 1, reads, p(0) * p(1)), x=signal, k=kernel), windows @ kernel)
    # the transposed convolution reads at (t - k) / 2 where that is whole
    up = make_map((9, 3), 1, [Access(x, (affine({0: 1, 1: -1}, 0, 2),)), read(k, 1)], p(0) * p(1))
    expected = np.zeros(20)
    for t in range(9):
        for j in range(3):
            expected[2 * t + j] += signal[t] * kernel[j]
    close(evaluate(up, x=signal, k=kernel), expected[:9])
    # halving with a guard leaves the points out
    half = affine({0: 1}, 0, 2)
    node = make_map((9,), 1, [Access(x, (half,))], sympy.exp(p(0)), [Guard(half, 9)])
    close(evaluate(node, x=signal), np.where(np.arange(9) % 2 == 0, np.exp(signal[np.arange(9) // 2]), 0))


def test_reversal_constant_subscripts_and_diagonals() -> None:
    m = new_input("m", (4, 4), "data")
    array = RNG.normal(size=(4, 4))
    flip = make_map((4,), 1, [Access(m, (affine({0: -1}, 3), constant_index(2)))], p(0))
    close(evaluate(flip, m=array), array[::-1, 2])
    close(evaluate(make_map((4,), 1, [read(m, 0, 0)], p(0)), m=array), np.diag(array))
    close(evaluate(make_map((4,), 0, [read(m, 0, 0)], p(0)), m=array), np.trace(array))


def test_maximum_along_axes_with_guards() -> None:
    x = new_input("x", (ROWS, 4), "data")
    close(evaluate(make_map((ROWS, 4), 1, [read(x, 0, 1)], p(0), reduce="max"), 5, x=X), X.max(axis=1))
    guarded = make_map((ROWS, 4), 1, [read(x, 0, 1)], -(p(0) ** 2), [Guard(axis(1), 2)], reduce="max")
    close(evaluate(guarded, 5, x=X), (-(X[:, :2] ** 2)).max(axis=1))


def test_columns_and_rows_are_run_time_extents() -> None:
    v, x = new_input("v", (COLUMNS, ROWS, 4), "noise"), new_input("x", (ROWS, 4), "data")
    noise = RNG.normal(size=(3, 5, 4))
    node = make_map((ROWS, COLUMNS, 4), 1, [read(v, 1, 0, 2), read(x, 0, 2)], p(0) * p(1))
    close(evaluate(node, 5, 3, v=noise, x=X), np.einsum("kni,ni->n", noise, X))
    nothing = evaluate(node, 5, 0, v=noise[:0], x=X)
    assert np.array_equal(nothing, np.zeros(5))  # no columns, no contribution


def test_missing_and_misshapen_arrays_are_refused() -> None:
    x = new_input("x", (ROWS, 4), "data")
    program = Program("t", (("y", elementwise(2 * p(0), [x])),), (x,))
    with pytest.raises(KeyError, match="x"):
        run(program, {}, 5)
    with pytest.raises(ValueError, match=r"input x: shape \(5, 4\), expected \(4, 4\)"):
        run(program, {"x": X}, 4)


def test_single_precision_stays_single() -> None:
    x = new_input("x", (ROWS, 4), "data")
    node = elementwise(sympy.exp(p(0)) / 3, [x])
    found = run(Program("t", (("y", node),), (x,)), {"x": X.astype(np.float32)}, 5)["y"]
    assert found.dtype == np.float32


# A loop over every point


def by_loops(node: Map, arrays: Mapping[str, np.ndarray], sizes: Mapping[object, int]) -> np.ndarray:
    """What a map means, written as loops over Python numbers."""

    def at(index: Index, point: tuple[int, ...]) -> int | None:
        numerator = index.offset + sum(c * point[a] for a, c in index.terms)
        return numerator // index.divisor if numerator % index.divisor == 0 else None

    def size(extent: object) -> int:
        return sizes.get(extent, extent)  # type: ignore[call-overload, no-any-return]

    function = sympy.lambdify([p(k) for k in range(len(node.args))], node.expr, "math")
    out = np.zeros([size(e) for e in node.shape])
    for point in product(*(range(size(e)) for e in node.extents)):
        places = [at(g.index, point) for g in node.guards]
        if any(q is None or not 0 <= q < size(g.extent) for q, g in zip(places, node.guards, strict=True)):
            continue
        values = []
        for access in node.args:
            where = [at(i, point) for i in access.index]
            inside = all(
                q is not None and 0 <= q < size(e) for q, e in zip(where, access.node.shape, strict=True)
            )
            values.append(float(arrays[access.node.name][tuple(where)]) if inside else 0.0)  # type: ignore[attr-defined]
        out[point[: node.rank]] += function(*values)
    return out


@pytest.mark.parametrize("seed", range(40))
def test_random_maps_agree_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    extents = (ROWS, *(int(e) for e in rng.integers(1, 4, 3)))
    rank = int(rng.integers(1, 5))
    sizes = {ROWS: 2}

    def index() -> Index:
        chosen = rng.choice([1, 2, 3], size=rng.integers(0, 3), replace=False)
        terms = {int(a): int(rng.choice([-2, -1, 1, 2])) for a in chosen}
        return affine(terms, int(rng.integers(-2, 3)), int(rng.choice([1, 1, 1, 2, 3])))

    a, b = new_input("a", (ROWS, 3, 4), "data"), new_input("b", (5,), "param")
    args = [Access(a, (axis(0), index(), index())), Access(b, (index(),)), Access(b, (index(),))]
    guards = [Guard(index(), int(rng.integers(1, 5))) for _ in range(int(rng.integers(0, 3)))]
    expr = [p(0) * p(1) + 2 * p(2) ** 2, sympy.sin(p(0)) * p(1) + sympy.cos(p(2)), 1 + p(0) * p(1) * p(2)][
        seed % 3
    ]
    node = make_map(extents, rank, args, expr, guards)
    arrays = {"a": rng.normal(size=(2, 3, 4)), "b": rng.normal(size=5)}
    program = Program("t", (("y", node),), (a, b))
    found = run(program, arrays, 2)["y"]
    # the loops run over the map as it was asked for, so that make_map's simplifications are checked as well
    close(found, by_loops(Map(extents, rank, tuple(args), expr, tuple(guards)), arrays, sizes))
