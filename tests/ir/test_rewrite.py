"""The kit of passes: what it makes means the same, at any depth."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import numpy as np
import sympy

from cpgen.ir.build import add, affine, axis, elementwise, make_map, moved, moved_guard, new_input, read
from cpgen.ir.interpret import run
from cpgen.ir.nodes import ROWS, Access, Guard, Index, Input, Map, Node, Program
from cpgen.ir.rewrite import (
    Memo,
    behind,
    from_position,
    in_loop,
    readers,
    reading,
    rebuilt,
    renewed,
    rewritten,
    times_read,
)
from cpgen.scalar import placeholder as p

DEEP = 3000  # levels, more than the interpreter's stack has
RNG = np.random.default_rng(0)


def as_program(*outputs: Node) -> Program:
    found = Program("t", tuple((f"y{k}", node) for k, node in enumerate(outputs)), ())
    inputs = tuple(n for n in found.nodes() if isinstance(n, Input))
    return Program("t", found.outputs, inputs)


def chain(x: Node, levels: int) -> Node:
    node = x
    for _ in range(levels):
        node = elementwise(sympy.sin(p(0)) + p(1), [node, x])
    return node


def doubled_sines(node: Map, new: Mapping[Node, Node]) -> Node:
    return rebuilt(node, reading(node, new), node.expr.replace(sympy.sin, lambda e: 2 * sympy.sin(e)))


def test_a_rule_is_applied_to_every_map_once_at_any_depth() -> None:
    x = new_input("x", (ROWS,), "data")
    program = as_program(chain(x, DEEP))
    visited: list[Node] = []

    def rule(node: Map, new: Mapping[Node, Node]) -> Node:
        visited.append(node)
        return doubled_sines(node, new)

    value = given = RNG.normal(size=3)
    for _ in range(DEEP):
        value = 2 * np.sin(value) + given
    np.testing.assert_allclose(run(rewritten(program, rule), {"x": given}, 3)["y0"], value, rtol=1e-9)
    assert visited == list(program.maps()) and len(visited) == DEEP


def test_what_a_pass_leaves_alone_is_the_same_object() -> None:
    x = new_input("x", (ROWS, 4), "data")
    guarded = make_map((ROWS, 4), 1, [read(x, 0, 1)], p(0) ** 2, [Guard(affine({1: 1}, -1), 2)])
    program = as_program(elementwise(sympy.exp(p(0)), [guarded]), guarded)
    assert rewritten(program, renewed) == program


def test_shared_nodes_stay_shared() -> None:
    x = new_input("x", (ROWS,), "data")
    square = elementwise(p(0) ** 2, [x])
    program = as_program(elementwise(sympy.sin(p(0)), [square]), elementwise(sympy.sin(p(0)) * p(0), [square]))
    first, second = (node for _, node in rewritten(program, doubled_sines).outputs)
    assert isinstance(first, Map) and isinstance(second, Map)
    assert first.args[0].node is second.args[0].node is square


def test_a_memo_asks_for_each_value_once_and_does_not_recurse() -> None:
    asked: list[int] = []

    def rule(n: int) -> Generator[int, int, int]:
        asked.append(n)
        return n if n < 2 else (yield n - 1) + (yield n - 2)

    fibonacci = Memo(rule)
    assert [fibonacci(n) for n in (10, 9, 20)] == [55, 34, 6765]
    assert sorted(asked) == list(range(21))
    a, b = 0, 1
    for _ in range(DEEP):
        a, b = b, a + b
    assert fibonacci(DEEP) == a


def test_readers() -> None:
    x, y = new_input("x", (ROWS,), "data"), new_input("y", (ROWS,), "data")
    both = elementwise(p(0) * p(1), [x, y])
    twice = make_map((ROWS,), 1, [read(both, 0), read(x, 0)], p(0) + p(1))
    program = as_program(twice, both)
    found = readers(program.nodes())
    assert found == {x: [both, twice], y: [both], both: [twice]}
    assert times_read(program) == {x: 2, y: 1, both: 2, twice: 1}
    assert readers(program.nodes(), lambda node: [y]) == {y: [both, twice]}


def test_moving_to_another_loop_keeps_the_values() -> None:
    """``s[h] = sum_i x[2 i + h] over i < 3`` of two leading axes, then with its axes in another order."""
    x = new_input("x", (8,), "data")
    extents = (2, 4)
    guard = Guard(affine({1: 1}), 3)
    node = make_map(extents, 1, [Access(x, (affine({0: 1, 1: 2}),))], p(0), [guard])
    assert isinstance(node, Map)
    given = RNG.normal(size=8)
    expected = np.array([sum(given[2 * i + h] for i in range(3)) for h in range(2)])
    np.testing.assert_allclose(run(as_program(node), {"x": given})["y0"], expected)
    # every axis where another stood, and one more in front along which nothing changes
    place = {0: axis(1), 1: axis(2)}
    wide = in_loop(node, (5, 2, 4), 2, place)
    np.testing.assert_allclose(run(as_program(wide), {"x": given})["y0"], np.tile(expected, (5, 1)))
    assert moved(node.args[0], place) == Access(x, (affine({1: 1, 2: 2}),))
    assert moved_guard(guard, {1: affine({0: 1}, 2)}) == Guard(Index(((0, 1),), 2), 3)


def test_what_a_map_reads_seen_from_its_reader() -> None:
    x, y = new_input("x", (6,), "data"), new_input("y", (6,), "data")
    inner = elementwise(sympy.sin(p(0)) * p(1), [x, y])
    reader = make_map((3,), 1, [Access(y, (axis(0),)), Access(inner, (affine({0: 2}, 1),))], p(0) - p(1))
    assert isinstance(reader, Map) and isinstance(inner, Map)
    (k,) = (k for k, a in enumerate(reader.args) if a.node is inner)
    args = [*reader.args, *behind(reader.args[k])]
    whole = reader.expr.xreplace({p(k): from_position(inner.expr, len(inner.args), len(reader.args))})
    folded = rebuilt(reader, args, whole)
    given = {"x": RNG.normal(size=6), "y": RNG.normal(size=6)}
    expected = given["y"][:3] - np.sin(given["x"][1::2]) * given["y"][1::2]
    for node in (reader, folded):
        np.testing.assert_allclose(run(as_program(node), given)["y0"], expected)
    assert all(a.node is not inner for a in folded.args)  # type: ignore[attr-defined]


def test_from_position_swaps_nothing_by_halves() -> None:
    assert from_position(p(0) - p(1) ** 2, 2, 1) == p(1) - p(2) ** 2
    assert from_position(p(0) - p(1), 2, 0) == p(0) - p(1)


def test_rewriting_keeps_names_and_outputs() -> None:
    x = new_input("x", (ROWS,), "data")
    total = add([elementwise(sympy.sin(p(0)), [x]), elementwise(sympy.cos(p(0)), [x])])
    assert total is not None
    program = Program("name", (("a", total), ("b", total), ("x", x)), (x,), whole=3, unit=True)
    found = rewritten(program, doubled_sines)
    assert [name for name, _ in found.outputs] == ["a", "b", "x"]
    assert (found.name, found.inputs, found.whole, found.unit) == ("name", (x,), 3, True)
    assert found.outputs[0][1] is found.outputs[1][1] and found.outputs[2][1] is x
