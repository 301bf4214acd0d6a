"""Squared norms of long vectors taken where the vectors come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import sympy

from cpgen.ir.build import add, affine, axis, make_map, moved, moved_guard, read
from cpgen.ir.cost import operations
from cpgen.ir.nodes import Access, Dim, Extent, Guard, Index, Map, Node, Origin, Program
from cpgen.ir.rewrite import renewed, rewritten, times_read
from cpgen.scalar import placeholder

MANY_ROWS = 8  # rows of a call that share a matrix of products
PARTS = 4  # runs of elements between which products are taken once: 5/8 of the work, where one half is the limit
LEAST_HALVED = 64  # elements from which on that is worth the text
_0, _1 = placeholder(0), placeholder(1)


def gram(program: Program, columns: int) -> Program:
    """``sum_i x[i]**2`` with ``x = A z`` becomes ``z' (A' A) z`` where that saves operations, for ``columns`` columns.

    ``A`` must not depend on rows or columns, so that the matrix of products is computed once.  The two are equal in exact
    arithmetic; where ``z`` is close to the null space of ``A`` the second has the square of the first one's condition.
    """
    while True:
        readers = times_read(program)
        better = None
        for node in program.maps():
            small = _in_small_space(node, readers)
            if small is not None:
                trial = _replaced(program, node, small)
                if operations(trial, MANY_ROWS, columns) < operations(program, MANY_ROWS, columns):
                    better = trial
                    break
        if better is None:
            return program
        program = better


def _replaced(program: Program, old: Node, new: Node) -> Program:
    return rewritten(program, lambda node, images: new if node is old else renewed(node, images))


@dataclass(frozen=True)
class _Image:
    """A map ``x[dims, i] = sum_r A[i, r] z[dims, r]``: factors of ``A``, their guards, ``z``, and guards on columns."""

    node: Map
    coefficient: sympy.Expr
    matrix: tuple[Access, ...]
    guards: tuple[Guard, ...]
    vector: Access
    own: tuple[Guard, ...]


def _in_small_space(node: Map, readers: Mapping[Node, int]) -> Node | None:
    """``node`` as a quadratic form, if it is the sum of the squares of a linear image that nothing else reads."""
    coefficient, square = node.expr.as_coeff_Mul()
    if square != _0**2 or node.reduce != "sum" or not node.reduced or node.guards:
        return None
    source, lead = node.args[0].node, node.rank
    if not isinstance(source, Map) or readers[source] != 1 or source.lead != lead:
        return None
    axes = [i.axis for i in node.args[0].index if i.axis is not None]
    if axes[:lead] != list(range(lead)) or sorted(axes) != list(range(len(node.extents))):
        return None
    if tuple(node.extents[a] for a in axes) != source.shape:
        return None
    image = _image(source)
    return None if image is None else _form(image, coefficient, node.origin)


def _image(source: Map) -> _Image | None:
    if source.reduce != "sum" or not source.reduced or any(isinstance(source.extents[a], Dim) for a in source.reduced):
        return None
    coefficient, factors = source.expr.as_coeff_mul()
    if set(factors) != {placeholder(k) for k in range(len(source.args))}:
        return None
    vectors = [a for a in source.args if a.node.lead]
    matrix = tuple(a for a in source.args if not a.node.lead)
    dims = set(range(source.lead))
    if len(vectors) != 1 or any(dims & set(i.axes) for a in matrix for i in a.index):
        return None
    vector = vectors[0]
    inner = [i.axis for i in vector.index[vector.node.lead :]]
    if sorted(a for a in inner if a is not None) != list(source.reduced) or None in inner:
        return None
    if any(source.extents[a] != e for a, e in zip(inner, vector.node.element_shape, strict=True) if a is not None):
        return None
    own = tuple(g for g in source.guards if dims & set(g.index.axes))
    if any(not set(g.index.axes) <= dims for g in own):
        return None
    return _Image(source, coefficient, matrix, tuple(g for g in source.guards if g not in own), vector, own)


def _form(image: _Image, coefficient: sympy.Expr, origin: Origin) -> Node:
    """``coefficient * z' (A' A) z``, the products of columns of ``A`` in a map of their own."""
    x = image.node
    lead, summed, long = x.lead, x.reduced, range(x.lead, x.rank)
    extents, n = [x.extents[a] for a in summed], len(summed)

    def at(first: int, others: int = 0) -> dict[int, Index]:
        """The places of the summed axes from ``first`` on, and of the long ones from ``others`` on."""
        place = {a: axis(first + k) for k, a in enumerate(summed)}
        return place | {a: axis(others + k) for k, a in enumerate(long)}

    sides = [at(0, 2 * n), at(n, 2 * n)]
    products = make_map(
        [*extents, *extents, *(x.extents[a] for a in long)],
        2 * n,
        [moved(a, side) for side in sides for a in image.matrix],
        sympy.Mul(image.coefficient**2, *(placeholder(k) for k in range(2 * len(image.matrix)))),
        [moved_guard(g, side) for side in sides for g in image.guards],
        origin=_named(x.origin, "gram"),
    )
    if n == 1 and _size(extents[0]) >= LEAST_HALVED:
        return _half(image, products, coefficient, origin)
    dims = x.extents[:lead]
    first, second = range(lead, lead + n), range(lead + n, lead + 2 * n)
    whole = make_map(
        [*dims, *extents, *extents],
        lead + n,
        [read(products, *second, *first), moved(image.vector, at(lead + n))],
        _0 * _1,
        image.own,
        origin=_named(x.origin, "products"),
    )
    parts = [read(whole, *range(lead), *first), moved(image.vector, at(lead))]
    return make_map([*dims, *extents], lead, parts, coefficient * _0 * _1, origin=origin)


def _half(image: _Image, products: Node, coefficient: sympy.Expr, origin: Origin) -> Node:
    """The same, elements in PARTS runs: products of elements of different runs count twice and are taken once."""
    x = image.node
    lead, (summed,) = x.lead, x.reduced
    size = _size(x.extents[summed])
    ends = [size * k // PARTS for k in range(PARTS + 1)]
    found: list[Node | None] = []
    for begin, end in pairwise(ends):
        run = end - begin
        # rows of all elements up to the run's end, columns of the run
        here, there = axis(1), affine({1: 1}, begin)
        own = make_map([run, run], 2, [Access(products, (affine({0: 1}, begin), there))], _0, origin=products.origin)
        twice = [Access(products, (axis(0), there)), Access(own, (affine({0: 1}, -begin), here))]
        matrix = make_map([end, run], 2, twice, 2 * _0 - _1, origin=_named(x.origin, "gram_part"))

        def vector(index: Index) -> Access:
            return moved(image.vector, {summed: index})

        part = make_map(
            [*x.extents[:lead], run, end],
            lead + 1,
            [read(matrix, lead + 1, lead), vector(axis(lead + 1))],
            _0 * _1,
            image.own,
            origin=_named(x.origin, "products"),
        )
        pair = [read(part, *range(lead + 1)), vector(affine({lead: 1}, begin))]
        found.append(make_map([*x.extents[:lead], run], lead, pair, coefficient * _0 * _1, origin=origin))
    total = add(found, origin)
    assert total is not None
    return total


def _size(extent: Extent) -> int:
    assert isinstance(extent, int)
    return extent


def _named(origin: Origin, role: str) -> Origin:
    return Origin(origin.name, origin.file, origin.line, "", (), f"{origin.role}_{role}".lstrip("_"))
