"""Unit vectors as columns: an exact answer without products with ones and zeros.

In a program for unit vectors column ``c`` concerns one element: that of number ``c`` (minus an offset).  Its vector is a
map without arguments, one where the column is the element's own, which a guard says.  A sum over elements times such a
vector has one term, so it is a read at an index of the column (:func:`fold`): ``sum_i W[h, i] v[c, i]`` is ``W[h, c]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy

from cpgen.ir.build import add, affine, always_valid, axis, constant, make_map, moved, moved_guard, substitute
from cpgen.ir.nodes import COLUMNS, Access, Dim, Extent, Guard, Index, Map, Node, Origin, Program
from cpgen.ir.rewrite import behind, from_position, reading, rebuilt, renewed, rewritten
from cpgen.scalar import operations, placeholder, remembered, renamed

_0, _1 = placeholder(0), placeholder(1)


def unit_vectors(shape: Sequence[int], offset: int, origin: Origin) -> Map:
    """``v[column, e..]``: 1 where ``column - offset`` is the row-major number of element ``e``, else 0."""
    terms, stride = {0: 1}, 1
    for a in range(len(shape), 0, -1):
        terms[a] = -stride
        stride *= shape[a - 1]
    extents: tuple[Extent, ...] = (COLUMNS, *shape)
    made = make_map(extents, len(extents), (), sympy.Integer(1), [Guard(affine(terms, -offset), 1)], origin=origin)
    assert isinstance(made, Map)
    return made


def by_column(node: Node, offset: int, origin: Origin) -> Node:
    """``out[column, dims]``: the element of ``node`` whose row-major number is ``column - offset``, else 0."""
    extents = (COLUMNS, *node.shape)
    lead = 1 + node.lead
    units = unit_vectors(node.element_shape, offset, origin)
    reads = [
        Access(node, tuple(axis(a) for a in range(1, len(extents)))),
        Access(units, (axis(0), *(axis(a) for a in range(lead, len(extents))))),
    ]
    return fold(make_map(extents, lead, reads, _0 * _1, origin=origin))


def fold(node: Node) -> Node:
    """The same values with unit vectors taken as what they are.

    Factors that are zero but for some columns become guards; a guard that pins a summed axis to the column replaces that
    axis; what a guard alone ties to the columns is computed without them.
    """
    if not isinstance(node, Map) or node.reduce != "sum" or COLUMNS not in node.extents:
        return node
    if node.reduced and node.expr.is_Add and any(_is_partial(a.node) for a in node.args):
        terms = node.expr.args
        return _sum([make_map(node.extents, node.rank, node.args, t, node.guards, origin=node.origin) for t in terms])
    args, expr, guards = _inlined(node)
    extents = list(node.extents)
    while (found := _pinned(extents, node.rank, guards)) is not None:
        a, guard, solution = found
        after = {b: axis(b - 1) for b in range(a + 1, len(extents))}
        place = after | {a: substitute(solution, after)}
        args = [moved(k, place) for k in args]
        inside = Guard(place[a], extents[a])
        guards = [moved_guard(g, place) for g in guards if g is not guard] + [inside]
        del extents[a]
    if expr.is_polynomial(*expr.free_symbols):
        # what is read where an index is not valid is zero, and so is the product
        said = list(_reads(args, expr))
        guards = [g for g in guards if (g.index, g.extent) not in said]
    return _without_columns(make_map(extents, node.rank, args, expr, guards, origin=node.origin))


def _sum(terms: Sequence[Node]) -> Node:
    total = add([fold(term) for term in terms], terms[0].origin)
    return total if total is not None else terms[0]


def is_thin(node: Node) -> bool:
    """Whether a column of ``node`` has few elements that are not zero: one of its axes goes with the columns."""
    if not isinstance(node, Map) or node.reduced or COLUMNS not in node.shape:
        return False
    column = node.extents.index(COLUMNS)
    own = {a for a, e in enumerate(node.extents) if isinstance(e, int)}
    return any(column in i.axes and own & set(i.axes) for i, _ in _conditions(node))


def _is_partial(node: Node) -> bool:
    """Whether ``node`` is an elementwise map that a guard makes zero somewhere."""
    return isinstance(node, Map) and not node.reduced and bool(node.guards)


def _factors(args: Sequence[Access], expr: sympy.Expr) -> tuple[int, ...]:
    """The arguments that make ``expr`` zero when they are."""
    return _zeroing(expr, len(args))


@remembered
def _zeroing(expr: sympy.Expr, count: int) -> tuple[int, ...]:
    """The same, remembered: many maps share an expression, and each is asked several times."""
    return tuple(k for k in range(count) if expr.xreplace({placeholder(k): sympy.Integer(0)}) == 0)


def _reads(args: Sequence[Access], expr: sympy.Expr) -> Iterator[tuple[Index, Extent]]:
    """Indices that make ``expr`` zero where they are not valid, with what they index."""
    for k in _factors(args, expr):
        yield from zip(args[k].index, args[k].node.shape, strict=True)


def _conditions(node: Map) -> Iterator[tuple[Index, Extent]]:
    """Indices that make ``node`` zero where they are not valid."""
    yield from ((g.index, g.extent) for g in node.guards)
    yield from _reads(node.args, node.expr)


def _inlined(node: Map) -> tuple[list[Access], sympy.Expr, list[Guard]]:
    """Arguments, expression and guards of ``node`` with its partial factors inside."""
    args: list[Access] = []
    guards = list(node.guards)
    numbered: dict[sympy.Expr, sympy.Expr] = {}
    factors = _factors(node.args, node.expr)
    for k, access in enumerate(node.args):
        source = access.node
        if k not in factors or not isinstance(source, Map) or not _is_partial(source) or not _is_cheap(node, source):
            numbered[placeholder(k)] = placeholder(len(args))
            args.append(access)
            continue
        place = dict(enumerate(access.index))
        reads = zip(access.index, source.shape, strict=True)
        guards += [Guard(i, e) for i, e in reads if not always_valid(i, e, node.extents)]
        guards += [moved_guard(g, place) for g in source.guards]
        numbered[placeholder(k)] = from_position(source.expr, len(source.args), len(args))
        args += behind(access)
    return args, renamed(node.expr, numbered), guards


def _is_cheap(reader: Map, source: Map) -> bool:
    """Whether ``source`` is not computed more often inside ``reader`` than on its own."""
    return not reader.reduced or is_thin(source) or operations(source.expr) == 0


def _pinned(extents: Sequence[Extent], rank: int, guards: Sequence[Guard]) -> tuple[int, Guard, Index] | None:
    """A summed axis that takes one value in each column, the guard that says so, and that value."""
    column = extents.index(COLUMNS)
    for guard in guards:
        terms = dict(guard.index.terms)
        if guard.extent != 1 or guard.index.divisor != 1 or column not in terms:
            continue
        summed = [a for a in terms if a >= rank and isinstance(extents[a], int)]
        if summed:
            a = min(summed, key=lambda a: (abs(terms[a]), a))
            c = terms.pop(a)
            return a, guard, affine({b: -d for b, d in terms.items()}, -guard.index.offset, c)
    return None


def _without_columns(node: Node) -> Node:
    """A map that only a guard ties to the columns, computed without them."""
    if not isinstance(node, Map) or COLUMNS not in node.shape:
        return node
    column = node.extents.index(COLUMNS)
    if any(column in i.axes for a in node.args for i in a.index):
        return node
    own = [g for g in node.guards if column in g.index.axes]
    if any(g.index.axes != (column,) for g in own) or not (node.reduced or operations(node.expr)):
        return node
    place = {a: axis(a - 1) for a in range(column + 1, len(node.extents))}
    args = [moved(a, place) for a in node.args]
    guards = [moved_guard(g, place) for g in node.guards if g not in own]
    inner = make_map(node.extents[1:], node.rank - 1, args, node.expr, guards, origin=node.origin)
    read = Access(inner, tuple(axis(a) for a in range(1, node.rank)))
    return make_map(node.shape, node.rank, [read], _0, own, origin=node.origin)


# Whole programs


def with_units(program: Program, columns: int) -> Program:
    """``program``, to be run with ``columns`` columns, with its unit vectors folded and its long sums left out in the
    columns for which they are zero."""
    return _bounded(rewritten(program, lambda node, new: fold(renewed(node, new))), columns)


def _bounded(program: Program, columns: int) -> Program:
    """Guards for sums over elements that are zero in some columns, and zeros for what is zero in all."""
    support: dict[Node, range] = {}

    def bounded(node: Map, new: Mapping[Node, Node]) -> Node:
        guards = list(node.guards)
        if COLUMNS in node.shape:
            found = _support(node, columns, support)
            support[node] = found
            if not found:
                return constant(0, node.shape, node.origin)
            guard = Guard(affine({node.extents.index(COLUMNS): 1}, -found.start), len(found))
            said = (guard.index, guard.extent) in _conditions(node)
            if node.reduced and node.reduce == "sum" and len(found) < columns and not said:
                guards.append(guard)
        return rebuilt(node, reading(node, new), guards=guards)

    return rewritten(program, bounded)


def _support(node: Map, columns: int, support: dict[Node, range]) -> range:
    """The columns outside which ``node`` is zero, given those of what it reads."""
    column = node.extents.index(COLUMNS)
    found = range(0)
    for term in sympy.Add.make_args(node.expr):
        here = range(columns)
        for k in _factors(node.args, term):
            access = node.args[k]
            here = _common(here, support.get(access.node, here))
            for index, extent in zip(access.index, access.node.shape, strict=True):
                here = _common(here, _valid(index, extent, column, node.extents, here))
        found = _hull(found, here)
    for guard in node.guards:
        found = _common(found, _valid(guard.index, guard.extent, column, node.extents, found))
    return found


def _common(a: range, b: range) -> range:
    start = max(a.start, b.start)
    return range(start, max(min(a.stop, b.stop), start))


def _hull(a: range, b: range) -> range:
    return b if not a else a if not b else range(min(a.start, b.start), max(a.stop, b.stop))


def _valid(index: Index, extent: Extent, column: int, extents: Sequence[Extent], among: range) -> range:
    """The columns outside which ``index`` is never valid, if that is known, or else ``among``."""
    terms = dict(index.terms)
    others = {a: extents[a] for a in terms if a != column}
    if terms.get(column) != 1 or isinstance(extent, Dim) or any(isinstance(e, Dim) for e in others.values()):
        return among
    ends = [[0, terms[a] * (size - 1)] for a, size in others.items() if isinstance(size, int)]
    low = index.offset + sum(min(pair) for pair in ends)
    high = index.offset + sum(max(pair) for pair in ends)
    return range(-high, extent * index.divisor - low)
