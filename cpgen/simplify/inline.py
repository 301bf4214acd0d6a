"""Fold an elementwise map into its only reader when nothing is computed more often for it."""

from __future__ import annotations

from collections.abc import Mapping

from cpgen.ir.build import always_valid
from cpgen.ir.nodes import Access, Map, Node, Program
from cpgen.ir.rewrite import behind, from_position, rebuilt, rewritten, times_read
from cpgen.ir.stack import viewed
from cpgen.scalar import operations, placeholder, renamed

MAX_ARGUMENTS = 8
MAX_OPERATIONS = 40


def inline(program: Program) -> Program:
    """Replace single-use elementwise maps by their expression inside the reader.

    A map is folded only where the reader runs over exactly its points (no value is computed twice, no expensive call
    moves into a longer loop) and the result stays readable.  Outputs and maps that several nodes read stay.
    """
    readers = times_read(program)
    return rewritten(program, lambda node, new: _inlined(node, new, readers))


def _inlined(node: Map, new: Mapping[Node, Node], readers: Mapping[Node, int]) -> Node:
    args: list[Access] = []
    expr = node.expr
    folded: dict[object, object] = {}
    size = operations(expr)
    for k, old in enumerate(node.args):
        access = Access(new[old.node], old.index)
        source = access.node
        symbol = placeholder(k)
        alone = readers[old.node] == 1 and viewed(node) is None
        if alone and isinstance(source, Map) and _covers(source, access, node):
            cost = operations(source.expr)
            if size + cost <= MAX_OPERATIONS and len(node.args) + len(source.args) <= MAX_ARGUMENTS:
                size += cost
                folded[symbol] = from_position(source.expr, len(source.args), len(args))
                args += behind(access)
                continue
        folded[symbol] = placeholder(len(args))
        args.append(access)
    return rebuilt(node, args, renamed(expr, folded))


def _covers(source: Map, access: Access, reader: Map) -> bool:
    """Whether ``reader`` visits each element of ``source`` exactly once, and ``source`` is elementwise."""
    if source.reduced or source.guards or source.reduce != "sum":
        return False
    plain = [index.axis for index in access.index]
    if None in plain or len(set(plain)) != len(plain) or len(plain) != len(reader.extents):
        return False
    return all(always_valid(i, e, reader.extents) for i, e in zip(access.index, source.shape, strict=True))
