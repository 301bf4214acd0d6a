"""From a definition in index notation to maps.

One definition becomes one map where that is possible.  A reduction inside an expression becomes a map of its own, so that
every map is either elementwise or a plain reduction; nonlinear factors of a contraction are computed once, not once a
product; logsumexp and softmax become the maps that compute them without overflow plus a region whose curvature is known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import sympy

from cpgen.errors import ModelError, NonFiniteWarning, UnsupportedError, warn_user
from cpgen.ir.build import affine, axis, make_map, moved, moved_guard, read
from cpgen.ir.nodes import Access, Dim, Index, Map, Node, Origin, Region
from cpgen.model.expressions import Axis, Read, Reduction, free_axes
from cpgen.model.subscripts import (
    NO_SUBSCRIPT,
    NoSubscript,
    Remainders,
    Whole,
    has_quotients,
    parsed,
    quotient,
    regrouped,
    remainder,
)
from cpgen.scalar import canonical, fold, has_gaps, lengths, maximum, minimum, placeholder, wide

_0, _1 = placeholder(0), placeholder(1)


class Lowering:
    """Lowers the definitions of one model; ``node_of(name, origin)`` finds a declared variable or definition."""

    def __init__(self, node_of: Callable[[str, Origin], Node]) -> None:
        self.node_of = node_of
        self.regions: list[Region] = []

    def definition(self, expr: sympy.Expr, axes: Sequence[Axis], origin: Origin) -> Node:
        """The node ``out[axes] = expr``."""
        return self._elementwise(expr, tuple(axes), origin)

    # Expressions

    def _elementwise(self, expr: sympy.Expr, axes: tuple[Axis, ...], origin: Origin) -> Node:
        """A map over ``axes`` of an expression whose reductions become nodes."""
        if isinstance(expr, Reduction) and not expr.keeps_axis:
            # the definition is the reduction itself: name it after the definition
            node, order = self._reduction(expr, axes, origin)
            if order == axes:
                return node
        if isinstance(expr, Read) and any(map(has_quotients, expr.index)):
            order = _used(axes, expr)
            if order == axes:
                return self._view(expr, axes, origin)
        args: list[Access] = []
        body = self._scalar(expr, axes, args, origin)
        return make_map(_extents(axes), len(axes), args, self._canonical(body, expr, origin), origin=origin)

    def _canonical(self, body: sympy.Expr, expr: sympy.Expr, origin: Origin) -> sympy.Expr:
        try:
            found = lengths(canonical(body))
        except UnsupportedError as error:
            raise UnsupportedError(f"{origin.name}: {error.message}", origin) from error
        if has_gaps(found):
            warn_user(
                f"{origin.name}: a Piecewise has no value where none of its conditions holds (an interpolating_spline "
                "beyond its points), and is NaN there; end it with (value, True) to say what holds",
                NonFiniteWarning,
            )
        return found

    def _scalar(
        self, expr: sympy.Expr, axes: tuple[Axis, ...], args: list[Access], origin: Origin
    ) -> sympy.Expr:
        """``expr`` with reads and reductions replaced by placeholders; their accesses are appended to ``args``."""
        made: dict[sympy.Basic, Any] = {}

        def scalar(part: sympy.Basic) -> Any:
            # a definition is a graph: what occurs twice is visited once
            if part not in made:
                found = self._leaf(part, axes, args, origin)
                made[part] = part.func(*map(scalar, part.args)) if found is None else found
            return made[part]

        return scalar(expr)

    def _leaf(
        self, expr: sympy.Basic, axes: tuple[Axis, ...], args: list[Access], origin: Origin
    ) -> sympy.Basic | None:
        """What stands for ``expr`` in the body of a map; None if it is made of what stands for its arguments."""
        if isinstance(expr, Read):
            if any(map(has_quotients, expr.index)):
                order = _used(axes, expr)
                node = self._view(expr, order, _inner(origin, f"{expr.variable}_view"))
                return _argument(args, Access(node, tuple(axis(axes.index(a)) for a in order)))
            return _argument(args, self._access(expr, Remainders(axes.index, len(axes)), origin))
        if isinstance(expr, Reduction):
            node, order = self._reduction(expr, axes, _inner(origin, expr.kind))
            return _argument(args, Access(node, tuple(axis(axes.index(a)) for a in order)))
        if isinstance(expr, Axis):
            raise ModelError(
                f"{origin.name}: the axis {expr.name} is used as a number; write cp.position({expr.name})",
                origin,
            )
        if isinstance(expr, sympy.Symbol) and not expr.name.startswith("_"):
            raise ModelError(
                f"{origin.name}: the symbol {expr} is not declared; declare it with input(...) or param(...)",
                origin,
            )
        return None if expr.args else expr

    def _access(self, expr: Read, places: Remainders, origin: Origin) -> Access:
        node = self.node_of(expr.variable, origin)
        if len(expr.index) != len(node.shape):
            raise ModelError(
                f"{origin.name}: {expr.variable} is read with {len(expr.index)} subscripts but has {len(node.shape)} "
                "axes here; is it a variable of another model?",
                origin,
            )
        return Access(node, tuple(places.index(_form(i, origin)) for i in expr.index))

    def _view(self, expr: Read, axes: tuple[Axis, ...], origin: Origin) -> Node:
        """What ``expr`` reads at subscripts with quotients, as an array over ``axes``."""
        places = Remainders(axes.index, len(axes))
        access = self._access(expr, places, origin)
        extents = (*_extents(axes), *places.extents)
        return make_map(extents, len(axes), [access], _0, places.guards, origin=origin)

    # Reductions

    def _reduction(
        self, expr: Reduction, axes: tuple[Axis, ...], origin: Origin
    ) -> tuple[Node, tuple[Axis, ...]]:
        """The node of a reduction and the axes (in the order of ``axes``) that it is indexed by."""
        free = _used(axes, expr)
        if expr.kind == "sum":
            body, bound = regrouped(expr.body, expr.axes)
            return self._sum(body, free, bound, origin), free
        if expr.kind in JOINED:
            return self._halved(expr, free, origin), free
        if expr.kind in ("layernorm", "rmsnorm"):
            return self._normalised(expr, free, origin), free
        return self._exponentials(expr, free, origin)

    def _sum(self, body: sympy.Expr, free: tuple[Axis, ...], bound: tuple[Axis, ...], origin: Origin) -> Node:
        terms = sympy.Add.make_args(body)
        if len(terms) > 1 and all(_is_contraction(t) for t in terms):
            parts = [
                self._sum_of_product(t, free, bound, _inner(origin, f"term{k}"))
                for k, t in enumerate(terms, 1)
            ]
            reads = [read(p, *range(len(free))) for p in parts]
            total = sympy.Add(*(placeholder(k) for k in range(len(parts))))
            return make_map(_extents(free), len(free), reads, total, origin=origin)
        return self._sum_of_product(body, free, bound, origin)

    def _sum_of_product(
        self, term: sympy.Expr, free: tuple[Axis, ...], bound: tuple[Axis, ...], origin: Origin
    ) -> Node:
        """One reducing map; composite factors over fewer axes get maps of their own, constant ones stay outside."""
        space = (*free, *bound)
        if not _is_contraction(term):
            term = fold(term)  # what must not be computed apart is one factor
        varying: list[sympy.Expr] = []
        outside: list[sympy.Expr] = []
        for factor in [term] if wide(term) else sympy.Mul.make_args(term):
            (varying if free_axes(factor) & set(bound) else outside).append(factor)
        args: list[Access] = []
        places = Remainders(space.index, len(space))
        factors = [self._factor(f, space, args, places, origin) for f in varying]
        body = self._canonical(sympy.Mul(*factors), term, origin)
        kept = tuple(a for a in free if any(a in free_axes(f) for f in varying))
        # remainders in front of the axes summed over: none has to be found inside the inner loops
        rest = range(len(space), len(space) + len(places.extents))
        order = [*map(space.index, kept), *rest, *map(space.index, bound)]
        place = {a: axis(k) for k, a in enumerate(order)}
        extents = (*_extents(kept), *places.extents, *_extents(bound))
        reads = [moved(a, place) for a in args]
        guards = [moved_guard(g, place) for g in places.guards]
        name = origin if not outside else _inner(origin, "sum")
        node = make_map(extents, len(kept), reads, body, guards, origin=name)
        if not outside and kept == free:
            return node
        args = [read(node, *(free.index(a) for a in kept))]
        rest = self._scalar(sympy.Mul(*outside), free, args, origin)
        return make_map(
            _extents(free), len(free), args, self._canonical(_0 * rest, term, origin), origin=origin
        )

    def _factor(
        self,
        factor: sympy.Expr,
        space: tuple[Axis, ...],
        args: list[Access],
        places: Remainders,
        origin: Origin,
    ) -> sympy.Expr:
        if isinstance(factor, Read):
            return _argument(args, self._access(factor, places, origin))
        used = _used(space, factor)
        if isinstance(factor, Reduction) or len(used) == len(space) or not used:
            return self._scalar(factor, space, args, origin)
        if factor.is_Pow and isinstance(factor.base, Read) and factor.exp.is_Integer and 0 < factor.exp <= 4:
            return self._scalar(factor, space, args, origin)
        node = self._elementwise(factor, used, _inner(origin, "factor"))
        return _argument(args, Access(node, tuple(axis(space.index(a)) for a in used)))

    def _halved(self, expr: Reduction, free: tuple[Axis, ...], origin: Origin) -> Node:
        """A product or extremum as a tree of pairs.

        Derivatives of the product never divide, so zeros are no special case; and whatever rounding does to the two sides
        of a comparison, one element has the derivative of an extremum.
        """
        role, join = JOINED[expr.kind]
        node = self._elementwise(expr.body, (*free, *expr.axes), _inner(origin, role))
        for position in reversed(range(len(expr.axes))):
            node = _fold_pairs(node, len(free) + position, join, origin)
        return node

    def _materialised(
        self, body: sympy.Expr, free: tuple[Axis, ...], along: tuple[Axis, ...], origin: Origin
    ) -> tuple[Node, tuple[Axis, ...]]:
        """A node for ``body`` and its axes: the variable itself where the body is a plain read of all of it."""
        if isinstance(body, Read) and all(isinstance(i, Axis) for i in body.index):
            order = tuple(body.index)
            node = self.node_of(body.variable, origin)
            if len(set(order)) == len(order) and tuple(a.extent for a in order) == node.shape:
                return node, order
        order = (*(a for a in free if a not in along), *along)
        return self._elementwise(body, order, _inner(origin, "argument")), order

    def _flattened(
        self, source: Node, order: tuple[Axis, ...], along: tuple[Axis, ...], origin: Origin
    ) -> tuple[Node, tuple[Axis, ...]]:
        """``source`` with the axes ``along`` as one, the last."""
        every = Axis("every__", prod(a.size for a in along))  # a name that no user can give
        space = (*(a for a in order if a not in along), every)
        subscripts: dict[Axis, Whole] = {}
        rest = parsed(every)
        for a in reversed(along):
            rest, subscripts[a] = quotient(rest, a.size), remainder(rest, a.size)
        places = Remainders(space.index, len(space))
        index = tuple(places.index(subscripts.get(a, parsed(a))) for a in order)
        extents = (*_extents(space), *places.extents)
        access = [Access(source, index)]
        return make_map(extents, len(space), access, _0, places.guards, origin=_inner(origin, "flat")), space

    def _exponentials(
        self, expr: Reduction, free: tuple[Axis, ...], origin: Origin
    ) -> tuple[Node, tuple[Axis, ...]]:
        """logsumexp and softmax: shifted by the largest argument, which changes nothing but the range."""
        source, order = self._materialised(expr.body, free, expr.axes, origin)
        if len(expr.axes) > 1:
            flat, flat_order = self._flattened(source, order, expr.axes, origin)
            result, found = self._along(expr.kind, flat, flat_order, flat_order[-1], origin)
            if expr.kind == "logsumexp":
                return result, found
            place = {a: k for k, a in enumerate(order)}
            strides = {place[a]: prod(b.size for b in expr.axes[k + 1 :]) for k, a in enumerate(expr.axes)}
            index = [axis(place[a]) if a in place else affine(strides) for a in found]
            return make_map(source.shape, len(order), [Access(result, tuple(index))], _0, origin=origin), order
        return self._along(expr.kind, source, order, expr.axes[0], origin)

    def _along(
        self, kind: str, source: Node, order: tuple[Axis, ...], along: Axis, origin: Origin
    ) -> tuple[Node, tuple[Axis, ...]]:
        """logsumexp or softmax of ``source[order]`` along one axis."""
        position = order.index(along)
        rest = tuple(a for a in order if a != along)
        extents = _extents((*rest, along))
        reordered = tuple((*rest, along).index(a) for a in order)
        everywhere, short = tuple(range(len(order))), tuple(k for k in range(len(order)) if k != position)

        def over_source(body: sympy.Expr, role: str, *reads: tuple[Node, bool]) -> Node:
            accesses = [read(n, *(everywhere if whole else short)) for n, whole in reads]
            return make_map(source.shape, len(order), accesses, body, origin=_inner(origin, role))

        largest = make_map(
            extents, len(rest), [read(source, *reordered)], _0, reduce="max", origin=_inner(origin, "max")
        )
        exponential = over_source(sympy.exp(_0 - _1), "exp", (source, True), (largest, False))
        total = make_map(
            extents, len(rest), [read(exponential, *reordered)], _0, origin=_inner(origin, "total")
        )
        inside = [largest, exponential, total]
        if kind == "softmax":
            result = make_map(
                source.shape,
                len(order),
                [read(exponential, *everywhere), read(total, *short)],
                _0 / _1,
                origin=origin,
            )
            self._region("softmax", source, result, result, position, [*inside, result])
            return result, order
        outer = tuple(range(len(rest)))
        result = make_map(
            _extents(rest),
            len(rest),
            [read(largest, *outer), read(total, *outer)],
            _0 + sympy.log(_1),
            origin=origin,
        )
        probabilities = over_source(_0 / _1, "softmax", (exponential, True), (total, False))
        self._region("logsumexp", source, result, probabilities, position, [*inside, result])
        return result, rest

    def _region(
        self, kind: str, source: Node, output: Node, softmax: Node, position: int, nodes: list[Node]
    ) -> None:
        maps = tuple(n for n in nodes if isinstance(n, Map))
        # a slice is looked through: nothing reads the source itself then, and its curvature would be lost on the way
        if not any(a.node is source for m in maps for a in m.args):
            return
        region = Region(kind, source, output, softmax, position, maps)
        if region not in self.regions:
            self.regions.append(region)

    def _normalised(self, expr: Reduction, free: tuple[Axis, ...], origin: Origin) -> Node:
        """layernorm and rmsnorm, which differ by the mean that is taken off."""
        source, order = self._materialised(expr.body, free, expr.axes, origin)
        rest = tuple(a for a in order if a not in expr.axes)
        whole = tuple(range(len(order)))
        short = tuple(k for k, a in enumerate(order) if a not in expr.axes)
        space = (*rest, *expr.axes)
        reordered = tuple(space.index(a) for a in order)
        count = prod(a.size for a in expr.axes)

        def mean_of(node: Node, body: sympy.Expr, role: str) -> Node:
            reads = [read(node, *reordered)]
            return make_map(_extents(space), len(rest), reads, body / count, origin=_inner(origin, role))

        centred, spread = source, "mean_square"
        if expr.kind == "layernorm":
            reads = [read(source, *whole), read(mean_of(source, _0, "mean"), *short)]
            centred = make_map(source.shape, len(order), reads, _0 - _1, origin=_inner(origin, "centred"))
            spread = "variance"
        outer = tuple(range(len(rest)))
        scale = make_map(
            _extents(rest),
            len(rest),
            [read(mean_of(centred, _0**2, spread), *outer)],
            canonical(1 / sympy.sqrt(_0 + expr.option)),
            origin=_inner(origin, "scale"),
        )
        # in the order of the definition's axes, whatever the order of the source's
        place = {a: k for k, a in enumerate(free)}
        args = [read(centred, *(place[a] for a in order)), read(scale, *(place[a] for a in rest))]
        return make_map(_extents(free), len(free), args, _0 * _1, origin=origin)


# what makes one number of two, and what the elements are called
JOINED: dict[str, tuple[str, Callable[[sympy.Expr, sympy.Expr], sympy.Expr]]] = {
    "prod": ("factors", operator.mul),
    "max": ("elements", maximum),
    "min": ("elements", minimum),
}


def _argument(args: list[Access], access: Access) -> sympy.Symbol:
    args.append(access)
    return placeholder(len(args) - 1)


def _extents(axes: Sequence[Axis]) -> tuple[int | Dim, ...]:
    return tuple(a.extent for a in axes)


def _inner(origin: Origin, role: str) -> Origin:
    """The origin of a node that a definition needs on the way."""
    return Origin(f"{origin.name}_{role}", origin.file, origin.line, origin.equation, origin.axes)


def _used(axes: Sequence[Axis], expr: sympy.Expr) -> tuple[Axis, ...]:
    """Those of ``axes`` that ``expr`` varies over."""
    free = free_axes(expr)
    return tuple(a for a in axes if a in free)


def _form(subscript: sympy.Expr, origin: Origin) -> Whole:
    try:
        return parsed(subscript)
    except NoSubscript:
        raise ModelError(f"{origin.name}: the subscript {subscript} is {NO_SUBSCRIPT}", origin) from None


def _is_contraction(term: sympy.Expr) -> bool:
    """Whether a term is a product of numbers and reads."""
    return all(f.is_number or isinstance(f, Read) for f in sympy.Mul.make_args(term))


def _fold_pairs(
    node: Node, position: int, join: Callable[[sympy.Expr, sympy.Expr], sympy.Expr], origin: Origin
) -> Node:
    """``node`` with one of its axes joined to one element by halving."""
    shape = node.shape
    outer = [a for a in range(len(shape)) if a != position]
    left_over: list[Node] = []
    while isinstance(size := node.shape[position], int) and size > 1:
        half = size // 2

        def at(offset: int, terms: int = 1) -> tuple[Index, ...]:
            return tuple(
                affine({position: terms} if terms else {}, offset) if a == position else axis(a)
                for a in range(len(shape))
            )

        if size % 2:
            place = {a: k for k, a in enumerate(outer)}
            last = tuple(affine({}, size - 1) if a == position else axis(place[a]) for a in range(len(shape)))
            extents = [shape[a] for a in outer]
            left_over.append(
                make_map(extents, len(outer), [Access(node, last)], _0, origin=_inner(origin, "last"))
            )
        extents = [half if a == position else e for a, e in enumerate(shape)]
        pair = [Access(node, at(0)), Access(node, at(half))]
        node = make_map(extents, len(extents), pair, join(_0, _1), origin=_inner(origin, f"half{half}"))
    extents = [shape[a] for a in outer]
    place = {a: k for k, a in enumerate(outer)}
    first = tuple(affine({}, 0) if a == position else axis(place[a]) for a in range(len(shape)))
    reads = [Access(node, first), *(read(n, *range(len(outer))) for n in left_over)]
    body = reduce(join, (placeholder(k) for k in range(len(reads))))
    return make_map(extents, len(outer), reads, body, origin=origin)
