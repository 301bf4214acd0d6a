"""What asks about nodes one by one: at any depth, in any order, and once for each node however many ways lead to it."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from cpgen.derive.restrict import restrict
from cpgen.derive.signs import signs
from cpgen.ir.build import affine, axis, elementwise, make_map, new_input
from cpgen.ir.interpret import run
from cpgen.ir.nodes import ROWS, Access, Input, Node, Program
from cpgen.scalar import placeholder as p

DEEP = 3000


def value(node: Node, **arrays: np.ndarray) -> np.ndarray:
    inputs = tuple(n for n in Program("t", (("y", node),), ()).nodes() if isinstance(n, Input))
    return run(Program("t", (("y", node),), inputs), arrays, 2)["y"]


def positive(levels: int) -> list[Node]:
    """``x**2`` and then ``y + y**2`` of it over and over, none of which is ever negative."""
    nodes = [elementwise(p(0) ** 2, [new_input("x", (ROWS,), "data")])]
    for _ in range(levels):
        nodes.append(elementwise(p(0) + p(0) ** 2, [nodes[-1]]))
    return nodes


@pytest.mark.parametrize("backwards", [True, False])
def test_a_sign_does_not_depend_on_the_order_of_asking(backwards: bool) -> None:
    nodes = positive(40)
    sign = signs()
    assert [sign(node) for node in (reversed(nodes) if backwards else nodes)] == [1] * len(nodes)


def test_a_sign_is_found_at_any_depth() -> None:
    assert signs()(positive(DEEP)[-1]) == 1


def test_an_element_of_a_deep_graph_takes_one_map_for_each_element_on_the_way() -> None:
    """``y[i] = sin(x[i]) - x[1 - i] / 2``, 40 times over: a million million ways lead up to an element."""
    x = new_input("x", (ROWS, 2), "data")
    node: Node = x
    for _ in range(40):
        reads = [Access(node, (axis(0), axis(1))), Access(node, (axis(0), affine({1: -1}, 1)))]
        node = make_map((ROWS, 2), 2, reads, sympy.sin(p(0)) - p(1) / 2)
    element = restrict(node, (1,))
    assert len(Program("t", (("y", element),), ()).maps()) == 2 * 40 - 1
    given = np.random.default_rng(0).normal(size=(2, 2))
    np.testing.assert_allclose(value(element, x=given), value(node, x=given)[:, 1], rtol=1e-12)


def test_an_element_is_found_at_any_depth() -> None:
    x = new_input("x", (ROWS, 3), "data")
    node: Node = x
    for _ in range(DEEP):
        node = elementwise(sympy.cos(p(0)), [node])
    given = np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_allclose(value(restrict(node, (2,)), x=given), value(node, x=given)[:, 2], rtol=1e-12)
