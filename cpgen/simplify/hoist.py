"""Take factors out of long sums: what depends on fewer axes than the loop is computed once, not once a point."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from cpgen.ir.build import axis, make_map
from cpgen.ir.nodes import Access, Dim, Map, Node, Origin, Program
from cpgen.ir.rewrite import reading, rebuilt, rewritten
from cpgen.scalar import free_symbols, placeholder, renamed, wide


def hoist(program: Program) -> Program:
    """Give every composite factor of a reduced product that varies over fewer axes a map of its own.

    ``sum_n e[n, h] * x[n, i]**2`` becomes a contraction of ``e`` with a map of squares.  Only factors that
    read everything at plain axes are taken out, so the values are the same to the bit.
    """
    return rewritten(program, _hoisted)


def _hoisted(node: Map, new: Mapping[Node, Node]) -> Node:
    args = reading(node, new)
    expr = node.expr
    # a factor of a wide product may leave the range that the product keeps to
    if node.reduced and node.reduce == "sum" and expr.is_Mul and not wide(expr):
        replaced: list[sympy.Expr] = []
        for factor in expr.args:
            taken = None if factor.is_Symbol or factor.is_number else _own_map(node, args, factor)
            if taken is None:
                replaced.append(factor)
            else:
                replaced.append(placeholder(len(args)))
                args.append(taken)
        expr = sympy.Mul(*replaced)
    return rebuilt(node, args, expr)


def _own_map(node: Map, args: list[Access], factor: sympy.Expr) -> Access | None:
    """The factor as a map over the axes it reads, or None if that saves nothing."""
    reads = [(k, a) for k, a in enumerate(args) if placeholder(k) in free_symbols(factor)]
    axes = [i.axis for _, access in reads for i in access.index]
    if any(a is None for a in axes):
        return None
    for _, access in reads:
        sizes = [node.extents[a] for i in access.index if (a := i.axis) is not None]
        if sizes != list(access.node.shape):
            return None
    used = sorted({a for a in axes if a is not None})
    if len(used) == len(node.extents):
        return None
    # run-time axes first, in the order that every shape has them
    order = sorted(used, key=lambda a: (not isinstance(node.extents[a], Dim), _rank(node.extents[a]), a))
    place = {a: k for k, a in enumerate(order)}
    inner = [
        Access(a.node, tuple(axis(place[i.axis]) for i in a.index if i.axis is not None)) for _, a in reads
    ]
    numbered = {placeholder(k): placeholder(j) for j, (k, _) in enumerate(reads)}
    first = reads[0][1].node.origin
    origin = Origin(first.name, first.file, first.line, "", first.axes, f"{first.role}_factor".lstrip("_"))
    extents = [node.extents[a] for a in order]
    made = make_map(extents, len(extents), inner, renamed(factor, numbered), origin=origin)
    return Access(made, tuple(axis(a) for a in order))


def _rank(extent: object) -> int:
    return 0 if extent is Dim.COLUMNS else 1
