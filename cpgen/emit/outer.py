"""The loops over the output of a map: in pieces, in blocks of sums, shared between threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cpgen.code.tree import Body, Expression, Name, Select, binary, block, let, loop, number, of
from cpgen.emit.names import constant
from cpgen.emit.places import Places
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import COLUMNS, Map
from cpgen.loops.plan import Nest, Team
from cpgen.loops.ranges import pieces

COLUMN_RANGE = (number(0), of("f", "columns"))  # the first noise column and the end


Ends = tuple[Expression, Expression]  # the first point of a loop, and the end


@dataclass(frozen=True)
class _Level:
    """A loop over an output axis: ``parts`` of its points, of which more than one need not be of one kind."""

    variable: str
    parts: tuple[range | Ends, ...]
    step: Expression | int = 1


def outer_loops(
    places: Places,
    root: Map,
    nest: Nest,
    sums: Sums | None,
    point: Callable[[], Body],
    columns: Ends = COLUMN_RANGE,
) -> Body:
    """Loops over the output, blocks first to last; shared between threads outside the row phase.

    ``point`` makes what is inside, once for each piece of the loops.  ``columns``: the first noise column and the end.
    """
    loops, starts = _levels(places, root, nest, sums, columns)
    elementwise = sums is None
    team = nest.team
    if team and not loops:
        return [block(starts + point(), _dealt(team))]

    def level(depth: int) -> Body:
        if depth == len(loops):
            return starts + point()
        here = loops[depth]
        body: Body = []
        for part in here.parts:
            pragma = ""
            point_alone = isinstance(part, range) and len(part) == 1 and len(here.parts) > 1
            if team and depth == 0:  # pieces are independent of each other
                pragma = _dealt(team, point_alone, here.parts[-1] is not part)
            elif point_alone:
                pass
            elif elementwise and depth == len(loops) - 1 and (places.single or not nest.lanes):
                pragma = "OMP_SIMD"
            if isinstance(part, range):
                with places.narrowed({here.variable: part}):
                    inner = level(depth + 1)
                if point_alone:
                    body.append(block([let(here.variable, number(part.start)), *inner], pragma))
                else:
                    body.append(loop(here.variable, part.stop, inner, part.start, pragma=pragma))
            else:
                body.append(loop(here.variable, part[1], level(depth + 1), part[0], here.step, pragma))
        return body

    return level(0)


def _levels(
    places: Places, root: Map, nest: Nest, sums: Sums | None, columns: Ends
) -> tuple[list[_Level], Body]:
    """The loops from the outside in, and the lines that say where the blocks of the innermost begin."""
    loops: list[_Level] = []
    at = dict(nest.cuts)
    for a in nest.outer:
        extent = root.extents[a]
        parts: tuple[range | Ends, ...] = (columns,)
        if extent is not COLUMNS:
            parts = tuple(pieces(range(constant(extent)), at.get(a, ())))
        loops.append(_Level(places.axes[a], parts))
    starts: Body = []
    if sums is not None:
        for a, width in nest.blocks:
            if root.extents[a] is COLUMNS:
                loops.append(_Level(f"{places.axes[a]}_first", (columns,), width))
                continue
            extent = constant(root.extents[a])
            variable, begin = block_start(places.axes[a], extent, width)
            if variable:  # else the sums themselves are counted along the axis
                starts += begin
                loops.append(_Level(variable, ((number(0), number(extent)),), width))
        if places.grouped:  # inside, so that what a block reads of the weights stays in the cache
            loops.append(_Level("group", ((number(0), places.filled()),), Name("GROUP")))
    elif nest.block is not None:
        name, width, extent = places.axes[nest.block], nest.block_width, constant(root.extents[nest.block])
        if extent > width:
            first = Name(f"{name}_first")
            loops.insert(0, _Level(f"{name}_first", ((number(0), number(extent)),), width))
            loops.append(_Level(name, ((first, binary("+", first, number(width))),)))
        else:
            loops.append(_Level(name, ((number(0), number(width)),)))
    return loops, starts


def _dealt(team: Team, point: bool = False, followed: bool = False) -> str:
    """The macro in front of a loop, or of a single ``point`` of it, that threads share; ``followed`` by more of it."""
    how = "OMP_FOR_SIMD" if team.simd else "OMP_FOR" if team.loops == 1 else f"OMP_FOR_{team.loops}"
    if point or not team.loops:
        how = "OMP_SINGLE"
    return how if team.wait and not followed else f"{how}_NOWAIT"


def block_start(name: str, extent: int, width: int) -> tuple[str, Body]:
    """The variable of the loop over the blocks of an axis, "" for a single block, and a line that says where one begins.

    The last of several begins early enough to be whole.
    """
    if extent <= width:
        return "", [let(f"{name}_first", number(0))]
    if extent % width == 0:
        return f"{name}_first", []
    following, last = Name(f"{name}_next"), number(extent - width)
    return f"{name}_next", [let(f"{name}_first", Select(binary("<", following, last), following, last))]
