"""Range analysis of affine indices on constant extents."""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.ir.nodes import Access, Dim, Extent, Guard, Index, Map
from cpgen.loops.plan import Check
from cpgen.scalar import placeholder


def check(index: Index, extent: Extent, extents: Sequence[Extent]) -> Check | None:
    """The test that ``index`` needs before it may be used for an axis of ``extent``, or None if it is always valid."""
    if isinstance(extent, Dim):
        return None  # run-time axes are only indexed by their own loop axis
    low = high = index.offset
    for a, c in index.terms:
        size = extents[a]
        last = size - 1 if isinstance(size, int) else 2**62
        low, high = low + min(0, c * last), high + max(0, c * last)
    test_low, test_high = low < 0, high >= extent * index.divisor
    if index.divisor == 1 and not test_low and not test_high:
        return None
    return Check(index, extent, test_low, test_high)


def access_checks(access: Access, extents: Sequence[Extent]) -> tuple[Check, ...]:
    found = (check(i, e, extents) for i, e in zip(access.index, access.node.shape, strict=True))
    return tuple(c for c in found if c is not None)


def guard_checks(guards: Sequence[Guard], extents: Sequence[Extent]) -> tuple[Check, ...]:
    found = (check(g.index, g.extent, extents) for g in guards)
    return tuple(c for c in found if c is not None)


def nothing_to_add(node: Map) -> tuple[Check, ...]:
    """The tests without which a point adds nothing to the sum of ``node``: guards, and factors read beyond an edge."""
    checks = list(guard_checks(node.guards, node.extents))
    if node.reduce == "sum":
        for k, access in enumerate(node.args):
            needed = access_checks(access, node.extents)
            if needed and node.expr.xreplace({placeholder(k): placeholder(k) * 0}) == 0:
                checks += needed
    return tuple(dict.fromkeys(checks))


def checked_axes(node: Map) -> frozenset[int]:
    """Loop axes that occur in any run-time test of ``node``."""
    checks = list(guard_checks(node.guards, node.extents))
    for access in node.args:
        checks += access_checks(access, node.extents)
    return frozenset(a for c in checks for a in c.index.axes)
