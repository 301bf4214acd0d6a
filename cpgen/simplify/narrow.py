"""Compute once what does not vary: a map along an output axis that nothing in it reads, a sum of a factor that does not
depend on the axis summed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy

from cpgen.ir.build import axis, make_map, moved
from cpgen.ir.nodes import Access, Dim, Extent, Map, Node, Origin, Program
from cpgen.ir.rewrite import in_loop, renewed, rewritten
from cpgen.ir.stack import viewed
from cpgen.scalar import free_symbols, placeholder, renamed


def narrow(program: Program) -> Program:
    """Drop the output axes that a map does not read, and take factors out of sums along axes they do not read.

    ``a[t, g] = sum_i W[i, g] * s[i]`` is computed without ``t``: what is averaged over tokens or positions has such
    adjoints, and the rows can be such an axis of a sum.  ``w[i, g] = sum_t a[t, g] * s[i]`` becomes
    ``(sum_t a[t, g]) * s[i]``, which changes rounding.
    """
    parts = {viewed(node) for node in program.nodes()}  # numbers of stacks, which have all axes of the stack in front

    def narrowed(node: Map, new: Mapping[Node, Node]) -> Node:
        found = _factored(renewed(node, new))
        return found if node in parts else _without_axes(found)

    return rewritten(program, narrowed)


def _without_axes(node: Node) -> Node:
    """A view of a map without the output axes that ``node`` does not read; readers look through it."""
    if not isinstance(node, Map) or not node.args:
        return node
    used = {a for access in node.args for index in access.index for a in index.axes}
    used |= {a for guard in node.guards for a in guard.index.axes}
    # of what is no sum, rows and columns stay: as a value of its own it would cost a stage and save next to nothing
    stays = {a for a, e in enumerate(node.extents) if a >= node.rank or (isinstance(e, Dim) and not node.reduced)}
    kept = [a for a in range(len(node.extents)) if a in used or a in stays]
    if len(kept) == len(node.extents) or _is_view(node):
        return node
    outer = [a for a in kept if a < node.rank]
    place = {old: axis(new) for new, old in enumerate(kept)}
    origin = node.origin
    names = origin.axes
    if len(names) == node.rank - node.lead:
        names = tuple(names[a - node.lead] for a in outer if a >= node.lead)
    small = in_loop(node, [node.extents[a] for a in kept], len(outer), place, replace(origin, axes=names))
    read = Access(small, tuple(axis(a) for a in outer))
    return make_map(node.shape, node.rank, [read], placeholder(0), origin=origin)


def _is_view(node: Map) -> bool:
    return node.expr == placeholder(0) and not node.reduced and not node.guards


def _factored(node: Node) -> Node:
    """``sum_r f * g`` with the sum over axes that only ``f`` reads taken first, as long as there are such axes."""
    while isinstance(node, Map) and node.reduce == "sum" and node.expr.is_Mul and not node.guards:
        found = _inner_sum(node)
        if found is None:
            return node
        node = found
    return node


def _inner_sum(node: Map) -> Node | None:
    """``node`` with one inner sum as a map of its own; None if there is none that saves anything."""
    factors = node.expr.args
    reads = [_axes(node, factor) for factor in factors]
    for r in node.reduced:
        if isinstance(node.extents[r], Dim):
            continue
        inside = [k for k, axes in enumerate(reads) if r in axes]
        summed = [
            s
            for s in node.reduced
            if not isinstance(node.extents[s], Dim) and inside == [k for k, axes in enumerate(reads) if s in axes]
        ]
        covered = set().union(*(reads[k] for k in inside))
        if covered != set(range(len(node.extents))):
            return _split(node, inside, summed, sorted(covered - set(summed), key=lambda a: _order(node, a)))
    return None


def _axes(node: Map, factor: sympy.Expr) -> set[int]:
    """The loop axes that a factor depends on."""
    return {
        a
        for k, access in enumerate(node.args)
        if placeholder(k) in free_symbols(factor)
        for index in access.index
        for a in index.axes
    }


def _order(node: Map, a: int) -> tuple[int, int]:
    """Run-time axes first, as every shape has them."""
    extent: Extent = node.extents[a]
    return (0 if extent is Dim.COLUMNS else 1 if extent is Dim.ROWS else 2), a


def _split(node: Map, inside: list[int], summed: list[int], outer: list[int]) -> Node:
    factors = node.expr.args
    part = sympy.Mul(*(factors[k] for k in inside))
    reads = [(k, a) for k, a in enumerate(node.args) if placeholder(k) in free_symbols(part)]
    place = {old: axis(new) for new, old in enumerate([*outer, *summed])}
    inner = [moved(a, place) for _, a in reads]
    numbered = {placeholder(k): placeholder(j) for j, (k, _) in enumerate(reads)}
    source = reads[0][1].node.origin
    origin = Origin(source.name, node.origin.file, node.origin.line, "", (), f"{source.role}_total".lstrip("_"))
    extents = [node.extents[a] for a in (*outer, *summed)]
    made = make_map(extents, len(outer), inner, renamed(part, numbered), origin=origin)
    rest = sympy.Mul(*(f for k, f in enumerate(factors) if k not in inside), placeholder(len(node.args)))
    kept = [a for a in range(len(node.extents)) if a not in summed]
    back = {old: axis(new) for new, old in enumerate(kept)}
    # axes that only the inner part still names are not read by the others
    args = [moved(a, back) if placeholder(k) in free_symbols(rest) else a for k, a in enumerate(node.args)]
    args.append(Access(made, tuple(back[a] for a in outer)))
    return make_map([node.extents[a] for a in kept], node.rank, args, rest, (), node.reduce, node.origin)
