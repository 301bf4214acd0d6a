"""Copies with another order of axes, so that sums can be computed side by side where rows are not.

A vector unit adds up several sums at once if what they read lies side by side in memory.  In a tile of rows that is the
row; in a tile of one row, and where there are no rows, it has to be an axis of the values themselves.
``y[t, g] = sum_o W[g, o] z[t, o]`` has no such axis until W is turned: ``W'[o, g] = W[g, o]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cpgen.ir.build import axis
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Input, Map, Node, topological
from cpgen.ir.rewrite import images, reading
from cpgen.loops.ranges import checked_axes
from cpgen.scalar import placeholder

LEAST = 4  # points along an axis that are worth computing side by side
MOST_SHARE = 8  # a copy must have this many times fewer elements than the sum has points
USUAL_COLUMNS = 8  # how many columns a sum without rows is taken to serve


@dataclass(frozen=True)
class _Choice:
    """An axis to compute side by side and the arguments (positions) that have to be turned for it."""

    axis: int
    turned: tuple[int, ...]


def step(access: Access, a: int) -> int | None:
    """Numbers between what ``access`` reads at neighbouring points along axis ``a``; None where that varies."""
    total, stride = 0, 1
    for index, extent in reversed(list(zip(access.index, access.node.shape, strict=True))):
        if not isinstance(extent, int):
            break
        coefficient = dict(index.terms).get(a, 0)
        if coefficient and index.divisor != 1:
            return None
        total += coefficient * stride
        stride *= extent
    return total


def inner_axis(node: Map, width: int) -> int | None:
    """The output axis along which a row's sums read memory in order, the longest up to ``width``, then the last."""
    found = [a for a in _candidates(node) if all(step(x, a) in (0, 1) for x in node.args)]
    return max(found, key=lambda a: (min(_extent(node, a), width), a), default=None)


def turn(
    outputs: Sequence[tuple[str, Node]], width: int, rows: bool = True
) -> tuple[tuple[tuple[str, Node], ...], tuple[Node, ...]]:
    """``(outputs, nodes in order)`` with turned copies where sums need them, of parameters if possible: the sums of each
    row, or those that have nothing to do with rows."""
    copies: dict[tuple[Node, tuple[int, ...]], Node] = {}

    def turned(node: Map, new: Mapping[Node, Node]) -> Node:
        args = reading(node, new)
        wanted = node.has_rows if rows else ROWS not in node.extents
        if node.reduced and wanted and inner_axis(node, width) is None:
            choice = _choose(node, width)
            if choice is not None:
                for k in choice.turned:
                    args[k] = _turned(args[k], choice.axis, copies)
        # not by make_map, which looks through what only changes the order of axes
        return node if args == list(node.args) else replace(node, args=tuple(args))

    new = images(topological([node for _, node in outputs]), turned)
    result = tuple((name, new[node]) for name, node in outputs)
    return result, topological([node for _, node in result])


def inner_share(nodes: Sequence[Node], width: int) -> float:
    """The share of the points of all sums of a row that have an inner axis of at least ``width`` and another output axis,
    along which what is read once serves several sums."""
    good = total = 0
    for node in nodes:
        if isinstance(node, Map) and node.has_rows and node.reduced:
            points = _points(node)
            inner = inner_axis(node, width)
            total += points
            if inner is not None and _extent(node, inner) >= width and len(_candidates(node)) > 1:
                good += points
    return good / total if total else 0.0


def _points(node: Map) -> int:
    """Points of the loops of one row and column."""
    points = 1
    for extent in node.extents:
        points *= extent if isinstance(extent, int) else 1
    return points


def _candidates(node: Map) -> list[int]:
    checked = checked_axes(node)
    return [
        a
        for a in range(node.lead, node.rank)
        if a not in checked and isinstance(node.extents[a], int) and _extent(node, a) >= LEAST
    ]


def _choose(node: Map, width: int) -> _Choice | None:
    """The cheapest copies that give ``node`` an inner axis: of what has no rows, then of what has no columns."""
    points = _points(node) * (USUAL_COLUMNS if COLUMNS in node.extents and not node.has_rows else 1)
    found = []
    for a in _candidates(node):
        turned = tuple(k for k, x in enumerate(node.args) if step(x, a) not in (0, 1))
        sources = [node.args[k].node for k in turned]
        if all(_can_turn(node.args[k], a) for k in turned) and all(_count(n) * MOST_SHARE <= points for n in sources):
            price = max((n.has_rows + n.has_columns, _count(n)) for n in sources)
            found.append((price[0], len(turned), -min(_extent(node, a), width), price[1], -a, _Choice(a, turned)))
    return min(found, key=lambda f: f[:-1])[-1] if found else None


def _can_turn(access: Access, a: int) -> bool:
    """Whether axis ``a`` alone walks along one axis of what ``access`` reads."""
    along = [index for index in access.index if a in index.axes]
    return len(along) == 1 and along[0].axis == a and not (isinstance(access.node, Input) and access.node.kind == "noise")


def _turned(access: Access, a: int, copies: dict[tuple[Node, tuple[int, ...]], Node]) -> Access:
    """``access`` to a copy whose last axis is the one that ``a`` walks along."""
    source = access.node
    moved = next(k for k, index in enumerate(access.index) if index.axis == a)
    order = (*(k for k in range(len(source.shape)) if k != moved), moved)
    if (source, order) not in copies:
        places = [axis(order.index(k)) for k in range(len(order))]
        origin = source.origin
        names = origin.axes
        if len(names) == len(source.element_shape):
            names = tuple(names[k - source.lead] for k in order if k >= source.lead)
        role = f"{origin.role}_turned".lstrip("_")
        copies[source, order] = Map(
            tuple(source.shape[k] for k in order),
            len(order),
            (Access(source, tuple(places)),),
            placeholder(0),
            origin=replace(origin, axes=names, role=role, equation=""),
        )
    return Access(copies[source, order], tuple(access.index[k] for k in order))


def _extent(node: Map, a: int) -> int:
    extent = node.extents[a]
    assert isinstance(extent, int)
    return extent


def _count(node: Node) -> int:
    count = 1
    for extent in node.shape:
        count *= 1 if isinstance(extent, Dim) else extent
    return count
