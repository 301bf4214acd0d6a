"""Sums that have nothing to do with rows: how they are computed side by side, and that no bit depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import sympy

from cpgen.ir.build import elementwise, make_map, new_input, read
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, Access, Extent, Input, Map, Node, Program
from cpgen.ir.noise import HADAMARD, noise_array
from cpgen.loops import plan
from cpgen.loops.turn import turn
from cpgen.native import build, check_against_interpreter, find_compiler
from cpgen.scalar import placeholder as p

HIDDEN, SIZE = 24, 40
W = new_input("W", (HIDDEN, SIZE), "param")
X = new_input("x", (SIZE,), "param")
V = new_input("v", (COLUMNS, HIDDEN), "noise")


def product(shape: tuple[Extent, ...], *reads: Access) -> Map:
    """The sum of the product of ``reads`` over the last axis of ``shape``."""
    made = make_map(shape, len(shape) - 1, reads, p(0) * p(1))
    assert isinstance(made, Map)
    return made


def forwards() -> Map:
    """z[h] = sum_i W[h, i] x[i]."""
    return product((HIDDEN, SIZE), read(W, 0, 1), read(X, 1))


def backwards(y: Node) -> Map:
    """For each column, sum_h W[h, i] y[h]."""
    return product((COLUMNS, SIZE, HIDDEN), read(W, 2, 1), read(y, 0, 2))


def program(**outputs: Node) -> Program:
    made = Program("rowless", tuple(outputs.items()), ())
    return replace(made, inputs=tuple(n for n in made.nodes() if isinstance(n, Input)))


def there_and_back() -> Program:
    """Noise through the weights backwards and forwards again, squared and added up over the columns."""
    slope = elementwise(sympy.tanh(p(0)), [forwards()])
    noisy = make_map((COLUMNS, HIDDEN), 2, [read(V, 0, 1), read(slope, 1)], p(0) * p(1))
    again = product((COLUMNS, HIDDEN, SIZE), read(W, 1, 2), read(backwards(noisy), 0, 2))
    return program(slope=slope, total=make_map((HIDDEN, COLUMNS), 1, [read(again, 1, 0)], p(0) ** 2))


def test_what_lies_apart_is_not_gathered() -> None:
    """z[h] = sum_i W[h, i] x[i]: neighbouring h lie SIZE apart, so that several sums run in turn, without a vector."""
    made = plan(program(z=forwards()))
    (nest,) = (s.nest for s in made.setup if s.kind == "map")
    assert nest is not None and nest.vector is None and nest.block == 0 and nest.block_width > 4


def test_what_lies_side_by_side_is_a_vector() -> None:
    y = new_input("y", (HIDDEN,), "param")
    made = plan(program(x=product((SIZE, HIDDEN), read(W, 1, 0), read(y, 1))))
    (nest,) = (s.nest for s in made.setup if s.kind == "map")
    assert nest is not None and nest.vector == 0 and nest.vector_width > 8


def test_columns_share_the_weights() -> None:
    made = plan(program(x=backwards(V)))
    (nest,) = (s.nest for s in made.setup if s.kind == "map")
    assert nest is not None and nest.block == 0 and nest.vector == 1 and nest.rest is not None
    assert nest.rest.block is None and nest.rest.outer == (0,)
    assert plan(program(x=backwards(V)), compact=True).setup[-1].nest.rest is None  # type: ignore[union-attr]


def test_weights_are_turned_for_columns_and_for_squares_but_not_for_one_use() -> None:
    tangent = product((COLUMNS, HIDDEN, SIZE), read(W, 1, 2), read(new_input("u", (COLUMNS, SIZE), "noise"), 0, 2))
    gram = product((HIDDEN, HIDDEN, SIZE), read(W, 0, 2), read(W, 1, 2))
    for node in (tangent, gram):
        ((_, turned),), nodes = turn([("y", node)], 8, rows=False)
        assert isinstance(turned, Map)
        assert any(isinstance(n, Map) and n.shape == (SIZE, HIDDEN) for n in nodes)
    assert turn([("y", forwards())], 8, rows=False)[0][0][1] is forwards()


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_any_number_of_columns(real: str) -> None:
    """In blocks and one by one: NumPy's sums, on one thread and on two, and column by column the same bits."""
    made = there_and_back()
    rng = np.random.default_rng(4)
    arrays = {"W": rng.normal(size=(HIDDEN, SIZE)).astype(real), "x": rng.normal(size=SIZE).astype(real)}
    compiler = find_compiler()
    threaded = replace(compiler, flags=(*compiler.flags, "-DCPGEN_SERIAL_BELOW=-1.0"))
    natives = [build("rowless", [made], real, compiler=c)["rowless"] for c in (compiler, threaded)]
    (noise,) = (i for i in made.inputs if i.kind == "noise")
    weights, x = arrays["W"].astype(float), arrays["x"].astype(float)
    slope = np.tanh(weights @ x)
    for columns in (1, 7, 8, 9, 16, 21):
        out = natives[0].run(arrays, Call(1, columns, seed=3, design=HADAMARD))
        v = noise_array(noise, made, 3, 1, columns, HADAMARD, 0, 0)
        expected = ((v * slope @ weights @ weights.T) ** 2).sum(0)
        share = 1e-13 if real == "float64" else 1e-5  # of the largest: what cancellation may leave of another
        np.testing.assert_allclose(out["total"], expected, rtol=10 * share, atol=share * expected.max())
        check_against_interpreter(natives[0], arrays, Call(1, columns, seed=3, design=HADAMARD))
        for threads in (1, 2):
            other = natives[1].run(arrays, Call(1, columns, seed=3, design=HADAMARD, threads=threads))
            assert all(other[k].tobytes() == out[k].tobytes() for k in out)


def sums(made: Program, arrays: Mapping[str, np.ndarray], columns: int) -> np.ndarray:
    return build("rowless", [made], "float64")["rowless"].run(arrays, Call(1, columns, seed=5))["each"]


def test_a_column_has_the_same_bits_in_a_block_and_alone() -> None:
    made = program(each=backwards(V))
    arrays = {"W": np.random.default_rng(1).normal(size=(HIDDEN, SIZE))}
    together, alone = sums(made, arrays, 11), [sums(made, arrays, n) for n in (1, 3, 8)]
    for part in alone:
        assert part.tobytes() == together[: len(part)].tobytes()


@pytest.mark.parametrize("shape", [(16, 40), (9, 24), (7, 11), (3, 8, 5)])
def test_copies_in_another_order(shape: tuple[int, ...]) -> None:
    """A few points at a time along the axis that lies side by side, where they divide it."""
    source = new_input("A", shape, "param")
    last = len(shape) - 1
    order = (last, *range(last))
    places = [order.index(k) for k in range(len(shape))]
    turned = tuple(shape[k] for k in order)
    copied = Map(turned, len(turned), (read(source, *places),), p(0))
    twice = make_map(turned, len(turned), [read(copied, *range(len(turned)))], p(0) * 2)
    (nest,) = {s.nest for s in plan(program(y=twice, z=copied)).setup[:1]}
    assert nest is not None and (nest.block is not None) == (shape[-1] % 2 == 0 or shape[-1] < 11)
    array = np.random.default_rng(2).normal(size=shape)
    found = build("rowless", [program(y=twice, z=copied)])["rowless"].run({"A": array}, Call(1))
    assert np.array_equal(found["z"], np.moveaxis(array, last, 0))
    assert np.array_equal(found["y"], 2 * np.moveaxis(array, last, 0))


def test_a_read_at_the_number_of_the_column() -> None:
    """Side by side from column to column, of which there are any number."""
    doubled = make_map((COLUMNS, HIDDEN), 2, [read(W, 1, 0)], p(0) * 2)
    array = np.random.default_rng(3).normal(size=(HIDDEN, SIZE))
    found = build("rowless", [program(y=doubled)])["rowless"].run({"W": array}, Call(1, 5))
    assert np.array_equal(found["y"], 2 * array.T[:5])
