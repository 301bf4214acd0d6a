"""Range analysis of affine indices on constant extents, and where loops are cut so that no test is left inside.

A narrower range than the extent may be known for an axis: functions take those as ``within``, by axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from cpgen.ir.nodes import Access, Dim, Extent, Guard, Index, Map
from cpgen.loops.plan import Check
from cpgen.scalar import placeholder

Within = Mapping[int, range]
Condition = tuple[Index, Extent]  # the index must be valid for an axis of that extent
WHOLE: Within = {}


def span(index: Index, extents: Sequence[Extent], within: Within = WHOLE) -> tuple[int, int]:
    """The least and the largest numerator of ``index``."""
    low = high = index.offset
    for a, c in index.terms:
        size = extents[a]
        part = within.get(a, range(size if isinstance(size, int) else 2**62))
        ends = (c * part.start, c * (part.stop - 1))
        low, high = low + min(ends), high + max(ends)
    return low, high


def check(index: Index, extent: Extent, extents: Sequence[Extent], within: Within = WHOLE) -> Check | None:
    """The test that ``index`` needs before it may be used for an axis of ``extent``, or None if it is always valid."""
    if isinstance(extent, Dim):
        return None  # run-time axes are only indexed by their own loop axis
    low, high = span(index, extents, within)
    test_low, test_high = low < 0, high >= extent * index.divisor
    if index.divisor == 1 and not test_low and not test_high:
        return None
    return Check(index, extent, test_low, test_high)


def never(index: Index, extent: Extent, extents: Sequence[Extent], within: Within = WHOLE) -> bool:
    """Whether ``index`` is invalid at every point."""
    if isinstance(extent, Dim):
        return False
    low, high = span(index, extents, within)
    return high < 0 or low >= extent * index.divisor


def access_checks(access: Access, extents: Sequence[Extent], within: Within = WHOLE) -> tuple[Check, ...]:
    found = (check(i, e, extents, within) for i, e in zip(access.index, access.node.shape, strict=True))
    return tuple(c for c in found if c is not None)


def guard_checks(guards: Sequence[Guard], extents: Sequence[Extent], within: Within = WHOLE) -> tuple[Check, ...]:
    found = (check(g.index, g.extent, extents, within) for g in guards)
    return tuple(c for c in found if c is not None)


def checked_axes(node: Map) -> frozenset[int]:
    """Loop axes that occur in any run-time test of ``node``."""
    checks = list(guard_checks(node.guards, node.extents))
    for access in node.args:
        checks += access_checks(access, node.extents)
    return frozenset(a for c in checks for a in c.index.axes)


def valid_points(index: Index, extent: Extent, size: int) -> range | None:
    """Where an index of one axis of ``size`` points, with divisor 1, is valid; None for any other index."""
    if isinstance(extent, Dim) or index.divisor != 1 or len(index.terms) != 1:
        return None
    ((_, c),) = index.terms
    # 0 <= c * i + offset < extent, in whole numbers
    if c > 0:
        first, stop = -(index.offset // c), -((index.offset - extent) // c)
    else:
        first, stop = (index.offset - extent) // -c + 1, index.offset // -c + 1
    return common(range(first, stop), range(size))


def common(a: range, b: range) -> range:
    """The points of both."""
    start = max(a.start, b.start)
    return range(start, max(start, min(a.stop, b.stop)))


def conditions(node: Map) -> Iterator[Condition]:
    """What must be valid for a point to add anything to a sum: guards, and accesses whose zero makes the term zero."""
    for guard in node.guards:
        yield guard.index, guard.extent
    if node.reduce == "sum" and node.reduced:
        for k in vanishing(node):
            access = node.args[k]
            yield from zip(access.index, access.node.shape, strict=True)


def vanishing(node: Map) -> tuple[int, ...]:
    """The arguments that need a test and whose zero makes the expression zero."""
    return tuple(
        k
        for k, access in enumerate(node.args)
        if access_checks(access, node.extents) and node.expr.xreplace({placeholder(k): placeholder(k) * 0}) == 0
    )


def live(node: Map, within: Within = WHOLE) -> dict[int, range]:
    """The ranges outside which no point counts, as far as conditions on single axes tell, by axis."""
    found = dict(within)
    for index, extent in conditions(node):
        for a in index.axes:
            size = node.extents[a]
            points = valid_points(index, extent, size) if isinstance(size, int) else None
            if points is not None and isinstance(size, int):
                found[a] = common(points, found.get(a, range(size)))
    return found


def pieces(part: range, at: Iterable[int]) -> list[range]:
    """``part`` cut at the points ``at``."""
    ends = [part.start, *(p for p in at if part.start < p < part.stop), part.stop]
    return [range(a, b) for a, b in pairwise(ends) if a < b]
