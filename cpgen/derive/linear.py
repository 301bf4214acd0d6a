"""Pulling back and pushing forward through one map: the closure of the graph language under differentiation.

A map ``out[p] = sum_r f(a_1, ..., a_k)`` reads argument ``a`` at affine indices of its loop axes.  Pulling a
cotangent back to ``a`` means solving those indices for as many loop axes as possible, reading everything else at the
solution, and summing over the loop axes that are left.  What cannot be solved, and the ranges of what can, become
guards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy

from cpgen.ir.build import NOWHERE, affine, axis, make_map, moved, moved_guard, substitute
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Guard, Index, Map, Node, Origin
from cpgen.scalar import diff, placeholder, vanishes


@dataclass(frozen=True)
class Solution:
    """Loop axes expressed in target axes: ``replacement`` of old axes, ``guards``, and the axes that stay ``free``.

    Target axis ``t`` is written as the pseudo axis ``-1 - t``.
    """

    replacement: dict[int, Index]
    guards: tuple[Guard, ...]
    free: tuple[int, ...]


def solve(indices: Sequence[Index], extents: Sequence[Extent], first: Sequence[int] = ()) -> Solution:
    """Solve ``target_t = indices[t]`` for loop axes of constant extent.

    Axes in ``first`` are eliminated before others, then the longest axis, so that short sums remain.
    """
    candidates = [a for a, e in enumerate(extents) if isinstance(e, int)]
    rank = {a: k for k, a in enumerate(first)}
    replacement: dict[int, Index] = {}
    guards: list[Guard] = []
    for t, index in enumerate(indices):
        current = substitute(index, replacement)
        open_axes = [a for a, _ in current.terms if a in candidates and a not in replacement]
        coefficients = dict(current.terms)
        if open_axes:
            chosen = min(
                open_axes, key=lambda a: (rank.get(a, len(rank)), -_size(extents[a]), abs(coefficients[a]), a)
            )
            c = coefficients.pop(chosen)
            terms = {a: -d for a, d in coefficients.items()}
            terms[-1 - t] = terms.get(-1 - t, 0) + current.divisor
            solved = affine(terms, -current.offset, c)
            replacement = {a: substitute(i, {chosen: solved}) for a, i in replacement.items()}
            replacement[chosen] = solved
        else:
            terms = {a: -d for a, d in coefficients.items()}
            terms[-1 - t] = terms.get(-1 - t, 0) + current.divisor
            guards.append(Guard(affine(terms, -current.offset), 1))
    guards = [moved_guard(g, replacement) for g in guards]
    guards += [Guard(index, extents[a]) for a, index in sorted(replacement.items())]
    return Solution(replacement, tuple(guards), tuple(a for a in candidates if a not in replacement))


def _size(extent: Extent) -> int:
    return extent if isinstance(extent, int) else 1 << 62


@dataclass(frozen=True)
class Extra:
    """Another factor's argument: ``node`` read at ``index`` (element axes only) in the loop space of the map."""

    node: Node
    index: tuple[Index, ...]


def output_axes(m: Map) -> tuple[Index, ...]:
    """The indices that read something shaped like the element axes of ``m``'s output."""
    return tuple(axis(a) for a in range(m.rank) if isinstance(m.extents[a], int))


def element_index(access: Access) -> tuple[Index, ...]:
    """The indices of an access at the element axes of its node."""
    return tuple(i for i, e in zip(access.index, access.node.shape, strict=True) if isinstance(e, int))


def pull(
    m: Map,
    target: Sequence[tuple[Index, Extent]],
    factor: sympy.Expr,
    extras: Sequence[Extra],
    dims: Sequence[Dim],
    origin: Origin = NOWHERE,
) -> Node:
    """``out[dims, t] = sum over loop points with target indices = t of factor``.

    ``factor`` is an expression in the placeholders of ``m``'s arguments, then one for each of ``extras``.
    ``dims`` are the run-time axes that the result keeps; the other run-time axes of the loop space are summed.
    """
    needed = {d for e in extras for d in e.node.shape if isinstance(d, Dim)}
    own = [e for e in m.extents if isinstance(e, Dim)]
    added = [d for d in (COLUMNS, ROWS) if d in needed and d not in own]
    extents: tuple[Extent, ...] = (*added, *m.extents)
    shift = {a: axis(a + len(added)) for a in range(len(m.extents))}
    position = {e: a for a, e in enumerate(extents) if isinstance(e, Dim)}
    solution = solve([substitute(i, shift) for i, _ in target], extents)

    kept = [d for d in (COLUMNS, ROWS) if d in dims and d in position]
    summed = [d for d in (COLUMNS, ROWS) if d in position and d not in kept]
    new_extents: list[Extent] = [*kept, *(e for _, e in target)]
    rank = len(new_extents)
    final: dict[int, Index] = {-1 - t: axis(len(kept) + t) for t in range(len(target))}
    final |= {position[d]: axis(k) for k, d in enumerate(kept)}
    for a in (*solution.free, *(position[d] for d in summed)):
        final[a] = axis(len(new_extents))
        new_extents.append(extents[a])
    replacement = {a: substitute(i, final) for a, i in solution.replacement.items()} | final

    args = [moved(moved(a, shift), replacement) for a in m.args]
    for extra in extras:
        remaining = (substitute(substitute(i, shift), replacement) for i in extra.index)
        index = [replacement[position[d]] if isinstance(d, Dim) else next(remaining) for d in extra.node.shape]
        args.append(Access(extra.node, tuple(index)))
    guards = [moved_guard(moved_guard(g, shift), replacement) for g in m.guards]
    guards += [moved_guard(g, final) for g in solution.guards]
    return make_map(new_extents, rank, args, factor, guards, origin=origin)


def own_output(m: Map, factor: sympy.Expr, number: int) -> tuple[sympy.Expr, list[Extra]]:
    """Write ``factor`` in terms of the map's own output where its expression occurs, as in ``tanh' = 1 - out**2``.

    Differentiate first, rewrite last: ``number`` is the placeholder for the output.
    """
    if m.reduced or m.guards or m.expr.is_Symbol or not factor.has(m.expr):
        return factor, []
    return factor.xreplace({m.expr: placeholder(number)}), [Extra(m, output_axes(m))]


def target_of(access: Access) -> list[tuple[Index, Extent]]:
    """Element indices of an access with the extents they run over."""
    return [(i, e) for i, e in zip(access.index, access.node.shape, strict=True) if isinstance(e, int)]


def kept_dims(m: Map, access: Access, cotangent: Node, lift: bool) -> list[Dim]:
    """Run-time axes of a cotangent of ``access.node``: its own, the sweep's COLUMNS, and ROWS when lifting."""
    dims = [d for d in access.node.shape if isinstance(d, Dim)]
    if COLUMNS in cotangent.shape and COLUMNS not in m.extents:
        dims.append(COLUMNS)
    if lift and (ROWS in m.extents or ROWS in cotangent.shape):
        dims.append(ROWS)
    return dims


def pull_back(
    m: Map, k: int, cotangent: Node, *, power: int = 1, lift: bool = False, origin: Origin = NOWHERE
) -> Node | None:
    """The cotangent of argument ``k``: ``sum (df/da_k)**power * cotangent`` over the loop points that read each element.

    ``cotangent`` has the shape of ``m``, with COLUMNS and/or ROWS in front if need be.  With ``lift`` the row axis is
    kept even when the argument has none (rows are independent, so their contributions may be treated one by one).
    ``power=2`` transports diagonals.  Returns None for a structural zero.
    """
    if m.reduce != "sum":
        return None
    derivative = diff(m.expr, placeholder(k))
    if vanishes(derivative):
        return None
    number = len(m.args)
    derivative, own = own_output(m, derivative, number + 1)
    extras = [Extra(cotangent, output_axes(m)), *own]
    access = m.args[k]
    factor = derivative**power * placeholder(number)
    return pull(m, target_of(access), factor, extras, kept_dims(m, access, cotangent, lift), origin)


def push_forward(
    m: Map, tangents: dict[int, Node], *, power: int = 1, stacked: int = 0, origin: Origin = NOWHERE
) -> Node | None:
    """``sum_r sum_k (df/da_k)**power * tangent_k``; a tangent is shaped like its argument, run-time axes in front.

    ``stacked``: so many of them at once, along an axis before those of the elements; so is the result.
    """
    if m.reduce != "sum":
        return None
    needed = {d for t in tangents.values() for d in t.shape if isinstance(d, Dim)}
    added = [d for d in (COLUMNS, ROWS) if d in needed and d not in m.extents]
    more = [stacked] if stacked else []
    extents: tuple[Extent, ...] = (*added, *m.extents[: m.lead], *more, *m.extents[m.lead :])
    shift = {a: axis(a + len(added) + (len(more) if a >= m.lead else 0)) for a in range(len(m.extents))}
    position = {e: a for a, e in enumerate(extents) if isinstance(e, Dim)}
    args = [moved(a, shift) for a in m.args]
    total = sympy.Integer(0)
    for k, tangent in tangents.items():
        derivative = diff(m.expr, placeholder(k))
        if vanishes(derivative):
            continue
        inner = [axis(len(added) + m.lead)] * len(more) + [substitute(i, shift) for i in element_index(m.args[k])]
        remaining = iter(inner)
        index = [axis(position[d]) if isinstance(d, Dim) else next(remaining) for d in tangent.shape]
        total += derivative**power * placeholder(len(args))
        args.append(Access(tangent, tuple(index)))
    if vanishes(total):
        return None
    if not m.reduced and not m.guards and not m.expr.is_Symbol and total.has(m.expr):
        total = total.xreplace({m.expr: placeholder(len(args))})
        args.append(Access(m, tuple(shift[a] for a in range(m.rank))))
    guards = [moved_guard(g, shift) for g in m.guards]
    return make_map(extents, len(added) + len(more) + m.rank, args, total, guards, origin=origin)


def one_to_one(m: Map, k: int) -> bool:
    """Whether each element of argument ``k`` is read at one loop point per row at most."""
    indices = [i for i, _ in target_of(m.args[k])]
    return not solve(indices, m.extents).free


def single_path(m: Map, k: int) -> bool:
    """Whether each element of argument ``k`` enters each output element through one loop point at most."""
    indices = [i for i, _ in target_of(m.args[k])]
    return all(a < m.rank for a in solve(indices, m.extents, first=m.reduced).free)


def reads_one(m: Map, k: int) -> bool:
    """Whether each output element reads one element of argument ``k`` at most."""
    known = {*range(m.rank), *_picked(m)}
    return all(a in known for index, _ in target_of(m.args[k]) for a, _ in index.terms)


def _picked(m: Map) -> set[int]:
    """The axes summed over of which guards leave one point at most, as remainders of subscripts with ``//`` do."""
    found: set[int] = set()
    before = -1
    while len(found) != before:
        before = len(found)
        for guard in m.guards:
            left = [(a, c) for a, c in guard.index.terms if a >= m.rank and a not in found]
            if len(left) == 1:
                (a, c), extent = left[0], m.extents[left[0][0]]
                # values of the numerator that are multiples of the divisor lie that far apart
                if isinstance(extent, int) and abs(c) * (extent - 1) < guard.index.divisor:
                    found.add(a)
    return found
