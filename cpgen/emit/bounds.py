"""Bounds of a loop that stand for tests: ``0 <= i + k < 5`` makes the loop over ``k`` begin and end elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpgen.code.tree import Body, Expression, Group, Name, Select, binary, group, let, number
from cpgen.emit.affine import linear
from cpgen.emit.names import constant
from cpgen.emit.places import Places
from cpgen.ir.nodes import Index, Map
from cpgen.loops.plan import Check
from cpgen.loops.ranges import span


@dataclass(frozen=True)
class Limits:
    """Bounds of a loop (None for the end of the axis), the lines that compute them, and the checks they stand for."""

    lets: Body
    start: Expression | None
    stop: Expression | None
    step: int
    done: tuple[Check, ...]


def limits(places: Places, root: Map, a: int, checks: Sequence[Check], counted: Mapping[int, range]) -> Limits:
    """The bounds of the loop over ``a`` that ``checks`` amount to, all their other axes being known there.

    What does not fit into one loop stays a test.
    """
    part = counted.get(a, range(constant(root.extents[a])))
    name = places.axes[a]
    start: Expression | None = None
    stop: Expression | None = None
    step = 1
    lets: Body = []
    done = []
    for c in sorted(checks, key=lambda c: -c.index.divisor):
        sign = dict(c.index.terms)[a]
        rest = Index(tuple(t for t in c.index.terms if t[0] != a), c.index.offset)
        end = c.extent * c.index.divisor
        least, most = span(rest, root.extents, counted)
        below, above = (c.low, c.high) if sign > 0 else (c.high, c.low)
        first: Expression | None = None
        if c.index.divisor > 1:
            # every divisor-th point, from the first at which the division is exact
            if start is not None or part.start or least < 0 or (below and sign < 0):
                continue
            first = _residue(places, rest, -sign, c.index.divisor)
            below = False
            above = above and (sign > 0 or part.stop > c.index.divisor)
        if abs(sign) != 1 or (below and start is not None) or (above and stop is not None):
            continue
        done.append(c)
        if first is not None:
            start, step = first, c.index.divisor
        if below:  # 0 <= rest + a, or rest - a < end
            start = _affine(places, rest, -1) if sign > 0 else _affine(places, rest, 1, 1 - end)
            if (-most if sign > 0 else least + 1 - end) < part.start:
                least_start = number(part.start)
                lets.append(let(f"{name}_from", Select(binary(">", start, least_start), start, least_start)))
                start = Name(f"{name}_from")
        if above:  # rest + a < end, or 0 <= rest - a
            stop = _affine(places, rest, -1, end) if sign > 0 else _affine(places, rest, 1, 1)
            if (end - least if sign > 0 else most + 1) > part.stop:
                most_stop = number(part.stop)
                lets.append(let(f"{name}_to", Select(binary("<", stop, most_stop), stop, most_stop)))
                stop = Name(f"{name}_to")
    return Limits(lets, start, stop, step, tuple(done))


def _affine(places: Places, index: Index, sign: int = 1, plus: int = 0) -> Expression:
    """``sign * index + plus`` for an index with divisor 1."""
    terms = {places.variable(a): sign * c for a, c in index.terms}
    offset = sign * index.offset + plus
    first = next((c for c in terms.values() if c), 0)
    if offset > 0 and first < 0:  # 4 - i, and not -i + 4
        return linear({number(offset): 1, **terms}, 0)
    return linear(terms, offset)


def _residue(places: Places, index: Index, sign: int, divisor: int) -> Expression:
    """``sign * index`` modulo ``divisor``, for an index that is nowhere negative, with divisor 1."""
    if not index.terms:
        return number(sign * index.offset % divisor)
    rest = binary("%", group(_affine(places, index)), number(divisor))
    return rest if sign > 0 else binary("%", Group(binary("-", number(divisor), rest)), number(divisor))
