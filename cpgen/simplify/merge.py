"""Add sums inside one loop instead of after it."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from cpgen.ir.build import axis, make_map
from cpgen.ir.nodes import Access, Map, Node, Program
from cpgen.ir.rewrite import from_position, reading, rebuilt, rewritten, times_read
from cpgen.scalar import placeholder


def merge_sums(program: Program) -> Program:
    """Turn ``sum_r f + sum_r g`` over the same loop space into ``sum_r (f + g)``.

    Saves a pass over memory, and leaves results that are sums over rows as such, so that they can be carried on when more
    rows arrive.
    """
    readers = times_read(program)
    return rewritten(program, lambda node, new: _merged(node, new, readers))


def _merged(node: Map, new: Mapping[Node, Node], readers: Mapping[Node, int]) -> Node:
    args = reading(node, new)
    sums = [a.node for a in args]
    symbols = [placeholder(k) for k in range(len(args))]
    here = tuple(axis(a) for a in range(node.rank))
    mergeable = (
        len(args) > 1
        and not node.reduced
        and not node.guards
        and node.expr == sympy.Add(*symbols)
        and all(
            a.index == here and readers[old.node] == 1 for a, old in zip(args, node.args, strict=True)
        )
        and all(
            isinstance(s, Map) and s.reduced and s.reduce == "sum" and s.shape == node.shape for s in sums
        )
    )
    if mergeable:
        first = sums[0]
        assert isinstance(first, Map)
        inner: list[Access] = []
        total = sympy.Integer(0)
        for each in sums:
            assert isinstance(each, Map)
            if each.extents != first.extents or each.guards != first.guards:
                break
            total += from_position(each.expr, len(each.args), len(inner))
            inner += each.args
        else:
            return make_map(first.extents, first.rank, inner, total, first.guards, origin=node.origin)
    return rebuilt(node, args)
