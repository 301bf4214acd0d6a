"""Which elements of a leaf can share a direction: those that no second derivative couples.

Where a function couples neighbours only, its Hessian is banded: ``H[i, j]`` is zero unless ``|i - j| <= w`` along each
axis.  Elements that are at least ``w + 1`` apart can then share a unit direction: they do not disturb each other's
diagonal, so that ``w + 1`` directions are as good as one for each element (Curtis, Powell & Reid, "On the estimation of
sparse Jacobian matrices", 1974; Coleman & More, "Estimation of sparse Hessian matrices and graph coloring", 1984).

The width is read off the indices: what a node depends on, along an axis of a leaf, is a window ``base + [low, high]``,
``base`` being affine in the node's own axes.  Two arguments of a map are coupled where its expression has a mixed second
derivative; the elements of the leaf that they depend on lie in the union of their windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from sympy import Integer

from cpgen.derive.uses import Uses
from cpgen.ir.build import affine, make_map
from cpgen.ir.nodes import COLUMNS, Access, Extent, Graph, Guard, Index, Input, Map, Node, Origin
from cpgen.scalar import diff, placeholder, vanishes


@dataclass(frozen=True)
class Window:
    """``base + [low, high]`` along one axis of a leaf; ``base``: the terms of an index in the axes of a node."""

    base: tuple[tuple[int, int], ...]
    low: int
    high: int


Windows = tuple[Window, ...]  # one for each element axis of a leaf


def widths(graph: Graph, leaf: Input, uses: Uses | None = None) -> tuple[int, ...]:
    """How far apart, along each axis, two elements of ``leaf`` in one row can be that the Hessian couples.

    ``uses``: those of the objective, for which ``leaf`` is a leaf, where they are known.
    """
    sizes = leaf.element_shape
    uses = uses or Uses([graph.objective], [leaf])
    windows: dict[Node, Windows] = {leaf: tuple(Window(((leaf.lead + a, 1),), 0, 0) for a in range(len(sizes)))}
    found = [0] * len(sizes)
    if any(uses.depends(carry, leaf) for carry in uses.carries):
        return tuple(size - 1 for size in sizes)  # each step may reach all before it
    waiting = sorted({uses.order[use.map] for use in uses.of(leaf)})  # a heap
    # upwards only as long as some elements are not coupled yet, which are few maps where an axis is summed over
    while waiting and any(width < size - 1 for width, size in zip(found, sizes, strict=True)):
        node = uses.nodes[heappop(waiting)]
        if node in windows:
            continue
        assert isinstance(node, Map)
        seen = {
            k: _moved(windows[access.node], access, node.extents, sizes)
            for k, access in enumerate(node.args)
            if access.node in windows
        }
        for a, b in _coupled(node, list(seen)):
            for axis, window in enumerate(_union(seen[a], seen[b], sizes)):
                found[axis] = max(found[axis], window.high - window.low)
        whole = [_summed(w, node, sizes) for w in seen.values()]
        joined = whole[0]
        for other in whole[1:]:
            joined = _union(joined, other, sizes)
        windows[node] = joined
        for use in uses.of(node):
            heappush(waiting, uses.order[use.map])
    return tuple(found)


def colours(graph: Graph, leaf: Input, uses: Uses | None = None) -> tuple[int, ...]:
    """The number of colours along each axis of ``leaf``; their product is the number of directions that it takes."""
    return tuple(width + 1 for width in widths(graph, leaf, uses))


def coloured_vectors(shape: Sequence[int], numbers: Sequence[int], offset: int, origin: Origin) -> Map:
    """``v[column, e..]``: 1 where ``column - offset`` is the colour of element ``e``, else 0.

    ``numbers``: the colours along each axis.  The colour of ``e`` is ``sum_a e_a * s_a`` modulo the product of all, with
    ``s_a`` the product of the numbers behind axis ``a``: elements of one colour differ by at least a number somewhere.
    """
    terms, stride, furthest = {0: -1}, 1, 0
    for a in range(len(shape), 0, -1):
        terms[a] = stride
        furthest += stride * (shape[a - 1] - 1)
        stride *= numbers[a - 1]
    extents: tuple[Extent, ...] = (COLUMNS, *shape)
    guards = [Guard(affine({0: 1}, -offset), stride)]
    if furthest:
        same = affine(terms, offset)
        guards.append(Guard(Index(same.terms, same.offset, stride), furthest // stride + 1))
    made = make_map(extents, len(extents), (), Integer(1), guards, origin=origin)
    assert isinstance(made, Map)
    return made


def _coupled(node: Map, known: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs of arguments among ``known`` with a second derivative."""
    pairs = []
    for k, a in enumerate(known):
        slope = diff(node.expr, placeholder(a))
        pairs += [(a, b) for b in known[k:] if not vanishes(diff(slope, placeholder(b)))]
    return pairs


def _moved(windows: Windows, access: Access, extents: Sequence[Extent], sizes: Sequence[int]) -> Windows:
    """The windows of what ``access`` reads, in the loop axes of the reader."""
    return tuple(_substituted(w, access.index, size) for w, size in zip(windows, sizes, strict=True))


def _substituted(window: Window, index: Sequence[Index], size: int) -> Window:
    terms: dict[int, int] = {}
    shift = 0
    for a, c in window.base:
        if index[a].divisor != 1:
            return _everything(size)
        shift += c * index[a].offset
        for axis, times in index[a].terms:
            terms[axis] = terms.get(axis, 0) + c * times
    base = tuple(sorted((a, c) for a, c in terms.items() if c))
    return Window(base, window.low + shift, window.high + shift)


def _summed(windows: Windows, node: Map, sizes: Sequence[int]) -> Windows:
    """The windows of all points that ``node`` adds up, in its output axes."""
    return tuple(_over_reduced(w, node, size) for w, size in zip(windows, sizes, strict=True))


def _over_reduced(window: Window, node: Map, size: int) -> Window:
    low, high = window.low, window.high
    for a, c in window.base:
        if a < node.rank:
            continue
        extent = node.extents[a]
        if not isinstance(extent, int):
            return _everything(size)
        low, high = low + min(c * (extent - 1), 0), high + max(c * (extent - 1), 0)
    base = tuple((a, c) for a, c in window.base if a < node.rank)
    return Window(base, low, high) if high - low < size else _everything(size)


def _union(first: Windows, second: Windows, sizes: Sequence[int]) -> Windows:
    return tuple(_joined(a, b, size) for a, b, size in zip(first, second, sizes, strict=True))


def _joined(a: Window, b: Window, size: int) -> Window:
    low, high = min(a.low, b.low), max(a.high, b.high)
    return Window(a.base, low, high) if a.base == b.base and high - low < size else _everything(size)


def _everything(size: int) -> Window:
    return Window((), 0, size - 1)

