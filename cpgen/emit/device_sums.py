"""Sums on a GPU: in a thread's own variables, or over rows of terms that the threads of a block compute together."""

from __future__ import annotations

from math import prod

from cpgen.emit.device_places import COLS, DevicePlaces, each_column, flat
from cpgen.emit.names import constant, elements
from cpgen.emit.statements import Body, Statement, branch, line, loop, mentions, times
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import ROWS, Map
from cpgen.loops.phases import ACCUMULATE
from cpgen.loops.plan import Nest, Stage
from cpgen.loops.ranges import guard_checks
from cpgen.loops.schedule import LANES


class DeviceSums(Sums):
    """The sums of one lane, of several columns where the places are wide."""

    def __init__(self, places: DevicePlaces, root: Map, nest: Nest) -> None:
        super().__init__(places, root, nest)
        self.wide = places.wide

    def text(self, name: str = "sum") -> str:
        return f"{name}{'' if self.nest.block is None else '[step]'}{'[part]' if self.wide else ''}"

    def declaration(self, name: str) -> str:
        steps = "" if self.nest.block is None else f"[{self.nest.block_width}]"
        return f"{self.places.real} {name}{steps}{f'[{COLS}]' if self.wide else ''};"

    def over_block(self, body: Body) -> Body:
        if self.wide:
            body = each_column(body)
        if self.nest.block is None:
            return body
        return [loop("step", self.nest.block_width, self.in_block(self.nest.block, "step", body))]


# Sums over rows of which a block owns a few elements


def sums_terms(stage: Stage) -> bool:
    """Whether a stage is a sum over rows whose terms the threads of a block can compute together."""
    nest, root = stage.nest, stage.nodes[0]
    if stage.phase != ACCUMULATE or nest is None or not isinstance(root, Map) or root.has_columns:
        return False
    if root.reduce != "sum" or guard_checks(root.guards, root.extents) or len(stage.nodes) > 1:
        return False
    reduced = [root.extents[a] for a in nest.reduction]
    return reduced[0] is ROWS and all(isinstance(e, int) for e in reduced[1:])


def owned(count: int) -> int:
    """Elements that a block sums up together, of ``count``: a power of two, at most those of a warp."""
    width = 1
    while width < min(count, LANES):
        width *= 2
    return width


def shared_terms(places: DevicePlaces, root: Map, nest: Nest) -> Body:
    """The whole stage: all threads of a block compute terms, and the owner of an element adds them up."""
    schedule, count = places.schedule, elements(root)
    width = owned(count)
    each = prod(constant(root.extents[a]) for a in nest.reduction[1:])
    total = "f->count" if each == 1 else f"f->count * {each}"
    sizes = [(places.axes[a], str(constant(root.extents[a])), 1) for a in range(root.rank)]
    where = flat(sizes)[1] if sizes else []
    inner = [(places.axes[a], str(constant(root.extents[a])), 1) for a in nest.reduction[1:]]
    _, point = flat([("row", "f->count", 1), *inner], "first + part")
    lets, text = places.expression(root)
    mine = f"part * {width} + at" if width > 1 else "part"
    depth = schedule.terms // width
    put = [*lets, line(f"terms[{mine}] = {text};")]
    names = ["row", *(name for name, _, _ in inner)]  # of which a term need not depend on any
    point = [place for name, place in zip(names, point, strict=True) if mentions(put, name)]
    mine_first = f"(ptrdiff_t)threadIdx.x{f' / {width}' if width > 1 else ''}"
    make = loop("part", "left", [*point, *put], mine_first, schedule.threads // width)
    inside = f"item < {count}" if count % width else ""
    owner = " && ".join(t for t in (f"(ptrdiff_t)threadIdx.x < {width}", inside) if t)
    item = line(f"const ptrdiff_t item = {times('tile', str(width))}{' + at' if width > 1 else ''};")
    body: Body = [
        *([item] if root.rank or inside else []),
        *where,
        line(f"const bool owner = {owner};"),
        line(f"{places.real} sum = owner ? {places.result(root)} : {places.zero};"),
        loop(
            "first",
            total,
            [
                line(f"const ptrdiff_t left = {total} - first < {depth} ? {total} - first : {depth};"),
                branch(inside, [make]) if inside else make,
                line("__syncthreads();"),
                branch("owner", [loop("part", "left", [line(f"sum += terms[{mine}];")])]),
                line("__syncthreads();"),
            ],
            step=depth,
        ),
        branch("owner", [line(f"{places.result(root)} = sum;")]),
    ]
    value = places.plan.value(root)
    return [
        *([branch(f"{value.name}_out == NULL", [line("return;")])] if value.direct else []),
        line(f"CPGEN_SHARED({places.real}, terms);"),
        *([line(f"const ptrdiff_t at = threadIdx.x % {width};")] if width > 1 else []),
        Statement(f"for (ptrdiff_t tile = blockIdx.x; tile < {-(-count // width)}; tile += gridDim.x)", body),
    ]
