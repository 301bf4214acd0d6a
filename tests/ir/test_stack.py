"""Arrays that are put together from single numbers are recognised as such, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy

from cpgen.ir.build import constant_index, new_input
from cpgen.ir.nodes import ROWS, Access, Map, Node, Origin
from cpgen.ir.stack import stack, stacked, viewed
from cpgen.scalar import placeholder as p

ORIGIN = Origin("s")


@pytest.mark.parametrize("lead", [(), (ROWS,)])
def test_a_stack_tells_what_it_was_made_of(lead: tuple) -> None:
    numbers: dict[tuple[int, ...], Node] = {(0, 1): new_input("a", lead, "data"), (2, 0): new_input("b", lead, "data")}
    made = stack(numbers, lead, (3, 2), ORIGIN)
    assert made.shape == (*lead, 3, 2) and stacked(made) == numbers
    assert all(viewed(access.node) is number for access, number in zip(made.args, numbers.values(), strict=True))


def test_what_is_like_a_stack_is_none() -> None:
    a, b = new_input("a", (ROWS,), "data"), new_input("b", (ROWS,), "data")
    made = stack({(0,): a, (1,): b}, (ROWS,), (2,), ORIGIN)
    assert isinstance(made, Map) and stacked(made) is not None
    assert stacked(a) is None and viewed(a) is None and viewed(made) is None
    first, second = made.args
    others = [
        replace(made, expr=p(0) - p(1)),  # another sum
        replace(made, expr=sympy.sin(p(0) + p(1))),
        replace(made, args=(first, replace(second, node=new_input("c", (ROWS, 1), "data")))),  # no single number
        replace(made, args=(first, replace(second, index=first.index))),  # twice at one place
        replace(made, args=(first, Access(second.node, (constant_index(0), second.index[1])))),  # of another row
        replace(made, args=(first, replace(second, index=(second.index[0], constant_index(0))))),  # at every place
    ]
    assert [stacked(other) for other in others] == [None] * len(others)
