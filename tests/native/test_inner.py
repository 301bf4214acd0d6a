"""Tiles of one row: sums side by side along an axis of the row, and the same bits as in tiles of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import sympy

from cpgen.derive import programs
from cpgen.ir.build import affine, axis, elementwise, make_map, new_input, read
from cpgen.ir.call import Call
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Input, Map, Node, Program
from cpgen.ir.noise import HADAMARD
from cpgen.loops import plan
from cpgen.loops.turn import inner_axis, inner_share, turn
from cpgen.native import build, check_against_interpreter, find_compiler
from cpgen.scalar import placeholder as p
from cpgen.simplify import PASSES
from tests.catalogue import CATALOGUE

TOKENS, WIDE, ODD = 13, 11, 9
SCALES = {"row_scale": 1 / 5, "column_scale": 1 / 3, "variance_scale": 1 / 6}


def product(shape: Sequence[int], *reads: Access) -> Map:
    """A row's sum over one more axis of TOKENS or so: out[row, a, b] = sum_c of the product of ``reads``."""
    made = make_map((ROWS, *shape), 3, reads, p(0) * p(1))
    assert isinstance(made, Map)
    return made


X = new_input("x", (ROWS, TOKENS, WIDE), "data")
W = new_input("W", (ODD, WIDE), "param")


def layer() -> Map:
    """y[row, t, o] = sum_i W[o, i] x[row, t, i]: nothing lies side by side along t or o."""
    return product((TOKENS, ODD, WIDE), read(W, 2, 3), read(X, 0, 1, 3))


def inputs(*outputs: Node) -> tuple[Input, ...]:
    found = Program("t", tuple((f"y{k}", n) for k, n in enumerate(outputs)), ()).nodes()
    return tuple(n for n in found if isinstance(n, Input))


def sweep() -> Program:
    """Two fields through a layer of tokens, squares of their products with the tokens, added over the columns."""
    noise = [new_input(n, (COLUMNS, ROWS, TOKENS, ODD), "noise", offset=TOKENS * ODD * k) for k, n in enumerate("vu")]
    y = elementwise(sympy.tanh(p(0)), [layer()])
    fields = [elementwise(p(0) * p(1), [y, n]) for n in noise]
    outer = [
        make_map((COLUMNS, ROWS, ODD, WIDE, TOKENS), 4, [read(X, 1, 4, 3), read(f, 0, 1, 4, 2)], p(0) * p(1))
        for f in fields
    ]
    reads = [read(n, 3, 0, 1, 2) for n in outer]
    squares = make_map((ROWS, ODD, WIDE, COLUMNS), 3, reads, p(0) ** 2 - p(1) ** 2)
    back = make_map(
        (COLUMNS, ROWS, TOKENS, WIDE, ODD), 4, [read(W, 4, 3), read(fields[0], 0, 1, 2, 4)], p(0) * p(1)
    )
    shifted = Access(back, (axis(3), axis(0), affine({1: 1}, -2), axis(2)))
    moved = make_map((ROWS, TOKENS, WIDE, COLUMNS), 3, [shifted], p(0) ** 2)
    total = make_map((ODD, WIDE, ROWS), 2, [read(squares, 2, 0, 1)], p(0))
    outputs = (("total", total), ("moved", moved))
    return Program("sweep", outputs, inputs(total, moved))


def test_parameters_are_turned_where_rows_use_them_often() -> None:
    assert inner_axis(layer(), 8) is None
    ((_, turned),), nodes = turn([("y", layer())], 8)
    assert isinstance(turned, Map)
    copy = turned.args[0].node
    assert isinstance(copy, Map) and copy.shape == (WIDE, ODD) and not copy.has_rows
    assert inner_axis(turned, 8) == 2 and copy in nodes
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(2, TOKENS, WIDE)), "W": rng.normal(size=(ODD, WIDE))}
    program = Program("t", (("y", turned),), inputs(turned))
    np.testing.assert_allclose(run(program, arrays, 2)["y"], arrays["x"] @ arrays["W"].T, rtol=1e-13)


def test_what_is_not_turned() -> None:
    x = new_input("x", (ROWS, WIDE), "data")
    once = make_map((ROWS, ODD, WIDE), 2, [read(W, 1, 2), read(x, 0, 2)], p(0) * p(1))  # each weight used once a row
    plain = product((TOKENS, WIDE, ODD), read(W, 3, 2), read(new_input("z", (ROWS, TOKENS, ODD), "data"), 0, 1, 3))
    for node in (once, plain):
        assert turn([("y", node)], 8)[0] == (("y", node),)
    assert isinstance(once, Map)
    assert inner_axis(once, 8) is None and inner_axis(plain, 8) == 2
    assert inner_share([plain, once], 8) == pytest.approx(TOKENS / (TOKENS + 1))


def test_a_tile_is_one_row_where_rows_are_large() -> None:
    """Tokens that fill the cache eight rows at a time; a network of the same size without tokens stays in lanes."""
    t, i, o = 64, 64, 256
    x, w = new_input("x", (ROWS, t, i), "data"), new_input("W", (o, i), "param")
    y = make_map((ROWS, t, o, i), 3, [read(x, 0, 1, 3), read(w, 2, 3)], p(0) * p(1))
    z = make_map((ROWS, t, i, o), 3, [read(w, 3, 2), read(elementwise(sympy.tanh(p(0)), [y]), 0, 1, 3)], p(0) * p(1))
    total = make_map((ROWS,), 0, [read(make_map((ROWS, t, i), 1, [read(z, 0, 1, 2)], p(0) ** 2), 0)], p(0))
    program = Program("tokens", (("total", total),), (x, w))
    assert plan(program).tile == 1
    assert plan(program, compact=True).tile > 1
    n = 20_000
    v, u = new_input("x", (ROWS, n), "data"), new_input("U", (n, 4), "param")
    hidden = make_map((ROWS, n, 4), 2, [read(u, 1, 2), read(v, 0, 1)], p(0) * p(1))
    out = make_map((ROWS, n), 1, [read(elementwise(sympy.tanh(p(0)), [hidden]), 0, 1)], p(0))
    assert plan(Program("wide", (("out", out),), inputs(out))).tile > 1


def catalogue(name: str) -> tuple[Program, dict[str, np.ndarray]]:
    entry = CATALOGUE[name]
    graph = entry.build().graph()
    program = programs.diagonal(graph, [graph.variable(v) for v in entry.wrt]).program
    for simplify in PASSES:
        program = simplify(program)
    return program, entry.arrays(4, 5)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", ["sweep", "attention", "convolution_1d", "mlp_tanh", "recurrent", "layer_normalised"])
def test_a_row_at_a_time_gives_the_bits_of_many(name: str, real: str) -> None:
    rng = np.random.default_rng(6)
    made = sweep(), {"x": rng.normal(size=(5, TOKENS, WIDE)), "W": rng.normal(size=(ODD, WIDE))}
    program, arrays = made if name == "sweep" else catalogue(name)
    given = {i.name: arrays[i.name].astype(real) for i in program.inputs if i.kind in ("data", "param")}
    compiler = find_compiler()
    threaded = replace(compiler, flags=(*compiler.flags, "-DCPGEN_SERIAL_BELOW=-1.0"))
    natives = [build("rowwise", [program], real, tile, threaded)[program.name] for tile in (8, 1)]
    many = natives[0].run(given, Call(5, 3, seed=2, design=HADAMARD, **SCALES))
    for threads in (1, 2):
        one = natives[1].run(given, Call(5, 3, seed=2, design=HADAMARD, threads=threads, **SCALES))
        for label, value in many.items():
            assert np.isfinite(value).all()
            assert one[label].tobytes() == value.tobytes(), label
    if real == "float64":
        assert check_against_interpreter(natives[1], given, Call(5, 3, seed=2, **SCALES)) < 1e-9
