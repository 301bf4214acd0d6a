"""Fold an elementwise map into its only reader when nothing is computed more often for it."""

from __future__ import annotations

from dataclasses import replace

from cpgen.ir.build import always_valid, make_map, substitute
from cpgen.ir.nodes import Access, Map, Node, Program
from cpgen.ir.stack import viewed
from cpgen.scalar import operations, placeholder

MAX_ARGUMENTS = 8
MAX_OPERATIONS = 40


def inline(program: Program) -> Program:
    """Replace single-use elementwise maps by their expression inside the reader.

    A map is folded only where the reader runs over exactly its points (no value is computed twice, no expensive call
    moves into a longer loop) and the result stays readable.  Outputs and maps that several nodes read stay.
    """
    readers: dict[Node, int] = {}
    for reader in program.maps():
        for access in reader.args:
            readers[access.node] = readers.get(access.node, 0) + 1
    for _, node in program.outputs:
        readers[node] = readers.get(node, 0) + 2
    known: dict[Node, Node] = {}
    for node in program.nodes():
        known[node] = _rebuild(node, known, readers) if isinstance(node, Map) else node
    outputs = tuple((name, known[node]) for name, node in program.outputs)
    return replace(program, outputs=outputs)


def _rebuild(node: Map, known: dict[Node, Node], readers: dict[Node, int]) -> Node:
    args: list[Access] = []
    expr = node.expr
    folded: dict[object, object] = {}
    size = operations(expr)
    for k, access in enumerate(node.args):
        source = known[access.node]
        symbol = placeholder(k)
        alone = readers[access.node] == 1 and viewed(node) is None
        if alone and isinstance(source, Map) and _covers(source, access, node):
            cost = operations(source.expr)
            if size + cost <= MAX_OPERATIONS and len(node.args) + len(source.args) <= MAX_ARGUMENTS:
                size += cost
                replacement = dict(enumerate(access.index))
                moved = {}
                for j, inner in enumerate(source.args):
                    moved[placeholder(j)] = placeholder(len(args))
                    args.append(Access(inner.node, tuple(substitute(i, replacement) for i in inner.index)))
                folded[symbol] = source.expr.xreplace(moved)
                continue
        folded[symbol] = placeholder(len(args))
        args.append(Access(source, access.index))
    expr = expr.xreplace(folded)
    return make_map(node.extents, node.rank, args, expr, node.guards, node.reduce, node.origin)


def _covers(source: Map, access: Access, reader: Map) -> bool:
    """Whether ``reader`` visits each element of ``source`` exactly once, and ``source`` is elementwise."""
    if source.reduced or source.guards or source.reduce != "sum":
        return False
    plain = [index.axis for index in access.index]
    if None in plain or len(set(plain)) != len(plain) or len(plain) != len(reader.extents):
        return False
    return all(always_valid(i, e, reader.extents) for i, e in zip(access.index, source.shape, strict=True))
