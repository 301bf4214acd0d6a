"""Arrays put together from single numbers, as a map like any other.

The stack of ``s_k`` at places ``k`` is ``out[.., i] = sum_k s_k[.., i - k]``, where each ``s_k`` is viewed as an array
with one element: reading it anywhere else gives zero, so each place holds its own number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import sympy

from cpgen.ir.build import affine, axis, constant, make_map, read
from cpgen.ir.nodes import Access, Extent, Map, Node, Origin
from cpgen.scalar import placeholder

Place = tuple[int, ...]


def stack(
    numbers: Mapping[Place, Node], lead: Sequence[Extent], element_shape: Sequence[int], origin: Origin
) -> Node:
    """The array of shape ``(*lead, *element_shape)`` with ``numbers`` (each of shape ``lead``) at their places, zero
    elsewhere."""
    first = len(lead)
    shape = (*lead, *element_shape)
    args = []
    for place, number in numbers.items():
        view = make_map(
            (*lead, *(1 for _ in element_shape)),
            len(shape),
            [read(number, *range(first))],
            placeholder(0),
            origin=number.origin,
        )
        index = [axis(a) for a in range(first)] + [affine({first + a: 1}, -k) for a, k in enumerate(place)]
        args.append(Access(view, tuple(index)))
    if not args:
        return constant(0, shape, origin)
    return make_map(shape, len(shape), args, _sum_of(len(args)), origin=origin)


@lru_cache(maxsize=64)
def _sum_of(count: int) -> sympy.Expr:
    return sympy.Add(*(placeholder(k) for k in range(count)))


def stacked(node: Node) -> dict[Place, Node] | None:
    """The numbers and places that :func:`stack` made ``node`` of; None if it is no stack."""
    if not isinstance(node, Map) or node.reduced or node.guards or not node.args or not node.element_shape:
        return None
    if not (node.expr.is_Add or node.expr.is_Symbol) or node.expr != _sum_of(len(node.args)):
        return None
    lead, found = node.lead, dict[Place, Node]()
    for access in node.args:
        number = viewed(access.node)
        if number is None or access.node.lead != lead:
            return None
        if any(index.axis != a for a, index in enumerate(access.index[:lead])):
            return None
        place = tuple(-index.offset for index in access.index[lead:])
        if any(i.divisor != 1 or i.terms != ((lead + a, 1),) for a, i in enumerate(access.index[lead:])):
            return None
        if place in found or any(not 0 <= k < e for k, e in zip(place, node.element_shape, strict=True)):
            return None
        found[place] = number
    return found


def viewed(node: Node) -> Node | None:
    """The number that ``node`` shows as an array with one element, or None if it is anything else."""
    if not isinstance(node, Map) or node.reduced or node.guards or any(e != 1 for e in node.element_shape):
        return None
    if not node.element_shape or len(node.args) != 1 or not node.expr.is_Symbol:
        return None
    source = node.args[0].node
    plain = tuple(axis(a) for a in range(node.lead))
    return source if source.shape == node.shape[: node.lead] and node.args[0].index == plain else None
