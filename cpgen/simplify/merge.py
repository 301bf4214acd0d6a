"""Add sums inside one loop instead of after it."""

from __future__ import annotations

from dataclasses import replace

import sympy

from cpgen.ir.build import axis, make_map
from cpgen.ir.nodes import Access, Map, Node, Program
from cpgen.scalar import placeholder


def merge_sums(program: Program) -> Program:
    """Turn ``sum_r f + sum_r g`` over the same loop space into ``sum_r (f + g)``.

    Saves a pass over memory, and leaves results that are sums over rows as such, so that they can be carried on when more
    rows arrive.
    """
    readers: dict[Node, int] = {}
    for reader in program.maps():
        for access in reader.args:
            readers[access.node] = readers.get(access.node, 0) + 1
    for _, output in program.outputs:
        readers[output] = readers.get(output, 0) + 2
    known: dict[Node, Node] = {}
    for node in program.nodes():
        known[node] = _rebuild(node, known, readers) if isinstance(node, Map) else node
    return replace(program, outputs=tuple((name, known[node]) for name, node in program.outputs))


def _rebuild(node: Map, known: dict[Node, Node], readers: dict[Node, int]) -> Node:
    args = [Access(known[a.node], a.index) for a in node.args]
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
            moved = {placeholder(k): placeholder(len(inner) + k) for k in range(len(each.args))}
            total += each.expr.xreplace(moved)
            inner += each.args
        else:
            return make_map(first.extents, first.rank, inner, total, first.guards, origin=node.origin)
    return make_map(node.extents, node.rank, args, node.expr, node.guards, node.reduce, node.origin)
