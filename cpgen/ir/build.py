"""Building maps: affine index algebra and the one constructor, :func:`make_map`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import gcd
from weakref import WeakValueDictionary

import sympy

from cpgen.ir.nodes import Access, Dim, Extent, Guard, Index, Input, Map, Node, Origin
from cpgen.scalar import free_symbols, placeholder, renamed, vanishes

# maps that read nothing; every other is kept by its first argument, and so is freed with its model
_CONSTANTS: WeakValueDictionary[tuple[object, ...], Map] = WeakValueDictionary()
NOWHERE = Origin("")
_0 = placeholder(0)


# Indices


def affine(terms: Mapping[int, int], offset: int = 0, divisor: int = 1) -> Index:
    """The index ``(sum_a terms[a] * axis_a + offset) / divisor`` in lowest terms, divisor positive."""
    if divisor < 0:
        terms, offset, divisor = {a: -c for a, c in terms.items()}, -offset, -divisor
    kept = tuple(sorted((a, c) for a, c in terms.items() if c))
    common = gcd(divisor, offset, *(c for _, c in kept))
    if common > 1:
        kept = tuple((a, c // common) for a, c in kept)
        offset, divisor = offset // common, divisor // common
    return Index(kept, offset, divisor)


@lru_cache(maxsize=64)
def axis(position: int) -> Index:
    """The index that is one loop axis."""
    return Index(((position, 1),))


def constant_index(value: int) -> Index:
    """The index that is a number."""
    return Index((), value)


def substitute(index: Index, replacement: Mapping[int, Index]) -> Index:
    """``index`` with loop axes replaced by affine indices; axes not named stay."""
    if index.axis is not None:  # nearly all are
        return replacement.get(index.axis, index)
    if not index.terms:
        return index
    divisor = 1
    for a, _ in index.terms:
        if a in replacement:
            divisor = divisor * replacement[a].divisor // gcd(divisor, replacement[a].divisor)
    terms: dict[int, int] = {}
    offset = index.offset * divisor
    for a, c in index.terms:
        by = replacement.get(a)
        if by is None:
            terms[a] = terms.get(a, 0) + c * divisor
            continue
        scale = c * divisor // by.divisor
        offset += scale * by.offset
        for b, d in by.terms:
            terms[b] = terms.get(b, 0) + scale * d
    return affine(terms, offset, index.divisor * divisor)


def moved(access: Access, place: Mapping[int, Index]) -> Access:
    """``access`` in a loop whose axes are elsewhere: its loop axes replaced by those at ``place``."""
    return Access(access.node, tuple(substitute(i, place) for i in access.index))


def moved_guard(guard: Guard, place: Mapping[int, Index]) -> Guard:
    """``guard`` likewise."""
    return Guard(substitute(guard.index, place), guard.extent)


def always_valid(index: Index, extent: Extent, extents: Sequence[Extent]) -> bool:
    """Whether ``index`` provably is an integer inside ``extent`` at every point of the loop space."""
    if index.axis is not None and extents[index.axis] == extent:
        return True
    if isinstance(extent, Dim) or index.divisor != 1:
        return False
    low = high = index.offset
    for a, c in index.terms:
        size = extents[a]
        if isinstance(size, Dim):
            return False
        low, high = low + min(0, c * (size - 1)), high + max(0, c * (size - 1))
    return low >= 0 and high < extent


def read(node: Node, *axes: int) -> Access:
    """Read ``node`` at plain loop axes."""
    assert len(axes) == len(node.shape), (node, axes)
    return Access(node, tuple(axis(a) for a in axes))


def read_here(node: Node, extents: Sequence[Extent]) -> Access:
    """Read ``node`` at the loop axes that carry its shape: its run-time axes by kind, its element axes as the last ones.

    The loop space must be an output space of the form (COLUMNS?, ROWS?, elements...) whose elements match the node's.
    """
    lead = [a for a, extent in enumerate(extents) if isinstance(extent, Dim)]
    first = len(lead)
    index = []
    element = first
    for extent in node.shape:
        if isinstance(extent, Dim):
            index.append(axis(next(a for a in lead if extents[a] == extent)))
        else:
            index.append(axis(element))
            element += 1
    return Access(node, tuple(index))


# Maps


def make_map(
    extents: Sequence[Extent],
    rank: int,
    args: Sequence[Access],
    expr: sympy.Expr,
    guards: Sequence[Guard] = (),
    reduce: str = "sum",
    origin: Origin = NOWHERE,
) -> Node:
    """The map ``out[p] = reduce_r expr(args)``, simplified and interned.

    Drops arguments that ``expr`` does not use, merges equal ones, folds constants and views, drops guards that always
    hold and reduction axes that nothing reads.  Returns the argument itself when the map would copy it, and an equal map
    of the same arguments if there is one, whatever its origin.
    """
    if not isinstance(expr, sympy.Basic):
        expr = sympy.sympify(expr)
    extents = tuple(extents)
    args, expr = _fold_arguments(tuple(args), expr, extents)
    guards = tuple(dict.fromkeys(g for g in guards if not always_valid(g.index, g.extent, extents)))
    if vanishes(expr):
        args, guards, extents, expr = (), (), extents[:rank], sympy.Integer(0)
    extents, args, guards, expr = _drop_reductions(extents, rank, args, guards, expr, reduce)
    if len(extents) == rank:
        reduce = "sum"
    if _is_copy(extents, rank, args, expr, guards):
        return args[0].node
    key: tuple[object, ...] = (extents, rank, args, expr, guards, reduce)
    # what reads nothing belongs to no model: another one's must not lend it its name
    table, key = (args[0].node.readers, key) if args else (_CONSTANTS, (*key, origin))
    found = table.get(key)
    if found is None:
        found = table[key] = Map(extents, rank, args, expr, guards, reduce, origin)
    return found


def _fold_arguments(
    args: tuple[Access, ...], expr: sympy.Expr, extents: tuple[Extent, ...]
) -> tuple[tuple[Access, ...], sympy.Expr]:
    """Substitute constants, look through views, drop unused arguments, merge equal ones, renumber."""
    kept: list[Access] = []
    position: dict[Access, int] = {}
    replace: dict[sympy.Symbol, sympy.Expr] = {}
    used = free_symbols(expr)
    for k, access in enumerate(args):
        if placeholder(k) not in used:
            continue
        access = _through_views(access, extents)
        node = access.node
        valid = all(always_valid(i, e, extents) for i, e in zip(access.index, node.shape, strict=True))
        if (
            isinstance(node, Map)
            and not node.args
            and not node.reduced
            and not node.guards
            and (valid or node.expr == 0)
        ):
            replace[placeholder(k)] = node.expr
            continue
        if access not in position:
            position[access] = len(kept)
            kept.append(access)
        replace[placeholder(k)] = placeholder(position[access])
    if any(old != new for old, new in replace.items()):
        expr = renamed(expr, replace)
        if any(placeholder(k) not in free_symbols(expr) for k in range(len(kept))):
            return _fold_arguments(tuple(kept), expr, extents)
    return tuple(kept), expr


def _through_views(access: Access, extents: tuple[Extent, ...]) -> Access:
    """Read the source of a pure view (a map that only re-indexes) where that means the same."""
    while True:
        node = access.node
        if not (
            isinstance(node, Map) and node.expr.is_Symbol and node.expr == _0 and not node.reduced and not node.guards
        ):
            return access
        if not all(always_valid(i, e, extents) for i, e in zip(access.index, node.shape, strict=True)):
            return access
        access = moved(node.args[0], dict(enumerate(access.index)))


def _drop_reductions(
    extents: tuple[Extent, ...],
    rank: int,
    args: tuple[Access, ...],
    guards: tuple[Guard, ...],
    expr: sympy.Expr,
    reduce: str,
) -> tuple[tuple[Extent, ...], tuple[Access, ...], tuple[Guard, ...], sympy.Expr]:
    """Replace a sum over an axis that nothing reads by a factor (run-time extents stay: their size is not known)."""
    read_axes = {a for access in args for index in access.index for a in index.axes}
    read_axes |= {a for guard in guards for a in guard.index.axes}
    keep = [a for a, e in enumerate(extents) if a < rank or a in read_axes or isinstance(e, Dim)]
    if len(keep) == len(extents):
        return extents, args, guards, expr
    for a, extent in enumerate(extents):
        if a not in keep and reduce == "sum":
            expr = expr * extent
    renumber = {old: axis(new) for new, old in enumerate(keep)}
    args = tuple(moved(a, renumber) for a in args)
    guards = tuple(moved_guard(g, renumber) for g in guards)
    return tuple(extents[a] for a in keep), args, guards, expr


def _is_copy(
    extents: tuple[Extent, ...],
    rank: int,
    args: tuple[Access, ...],
    expr: sympy.Expr,
    guards: tuple[Guard, ...],
) -> bool:
    if len(extents) != rank or guards or len(args) != 1 or not expr.is_Symbol:
        return False
    return args[0].node.shape == extents and args[0].index == tuple(axis(a) for a in range(rank))


def constant(value: sympy.Expr | float, shape: Sequence[Extent], origin: Origin = NOWHERE) -> Node:
    """The node of ``shape`` that holds ``value`` everywhere."""
    return make_map(shape, len(shape), (), sympy.sympify(value), origin=origin)


def is_zero(node: Node | None) -> bool:
    """Whether a node is structurally zero (None counts as zero)."""
    return node is None or (isinstance(node, Map) and node.expr == 0)


def elementwise(expr: sympy.Expr, nodes: Sequence[Node], origin: Origin = NOWHERE) -> Node:
    """``expr`` of the placeholders at equal element positions; run-time axes are broadcast.

    All nodes have the same element shape, or no element axes at all.
    """
    lead: list[Extent] = [d for d in (Dim.COLUMNS, Dim.ROWS) if any(d in n.shape for n in nodes)]
    elements = max((n.element_shape for n in nodes), key=len)
    extents = (*lead, *elements)
    return make_map(extents, len(extents), [read_here(n, extents) for n in nodes], expr, origin=origin)


def add(nodes: Sequence[Node | None], origin: Origin = NOWHERE) -> Node | None:
    """The sum of nodes of equal element shape; structural zeros vanish; None if nothing is left."""
    present = [n for n in nodes if n is not None and not is_zero(n)]
    if not present:
        return None
    if len(present) == 1:
        return present[0]
    return elementwise(sympy.Add(*(placeholder(k) for k in range(len(present)))), present, origin)


def reduce_sum(node: Node, axes: Sequence[int], origin: Origin = NOWHERE) -> Node:
    """The sum of ``node`` over some of its axes."""
    kept = [a for a in range(len(node.shape)) if a not in axes]
    order = [*kept, *axes]
    place = {old: new for new, old in enumerate(order)}
    extents = tuple(node.shape[a] for a in order)
    access = Access(node, tuple(axis(place[a]) for a in range(len(node.shape))))
    return make_map(extents, len(kept), [access], placeholder(0), origin=origin)


def new_input(
    name: str, shape: Sequence[Extent], kind: str, origin: Origin = NOWHERE, offset: int = 0
) -> Input:
    """An input; two calls give two different inputs."""
    return Input(name, tuple(shape), kind, origin if origin is not NOWHERE else Origin(name), offset)
