"""Writing a map by its element axes; run-time axes take care of themselves."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from cpgen.ir.build import NOWHERE, axis, make_map
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Node, Origin


def over(
    elements: Sequence[int],
    reads: Sequence[tuple[Node, Sequence[int]]],
    expr: sympy.Expr,
    summed: Sequence[int | Dim] = (),
    origin: Origin = NOWHERE,
) -> Node:
    """``out[dims, e] = sum over summed of expr``.

    ``elements`` are the constant extents of the output, then ``summed`` the extents reduced over (constants or run-time).
    ``reads`` pairs a node with the element axis numbers it is read at: 0.. for the output's, continuing over the constant
    extents in ``summed``.  The output keeps every run-time axis that a node brings in, unless it is summed.
    """
    present = [d for d in (COLUMNS, ROWS) if any(d in node.shape for node, _ in reads)]
    kept = [d for d in present if d not in summed]
    extents: list[Extent] = [*kept, *elements]
    rank = len(extents)
    place: dict[object, int] = {d: k for k, d in enumerate(kept)}
    for e in range(len(elements)):
        place[e] = len(kept) + e
    number = len(elements)
    for extent in summed:
        if isinstance(extent, Dim):
            if extent not in present:
                continue
            place[extent] = len(extents)
        else:
            place[number] = len(extents)
            number += 1
        extents.append(extent)
    args = []
    for node, axes in reads:
        remaining = iter(axes)
        args.append(
            Access(node, tuple(axis(place[d if isinstance(d, Dim) else next(remaining)]) for d in node.shape))
        )
    return make_map(extents, rank, args, expr, origin=origin)
