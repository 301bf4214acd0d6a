"""Sums on a GPU: in a thread's own variables, or over rows of terms that the threads of a block compute together."""

from __future__ import annotations

from math import prod

from cpgen.code.rewrite import mentions
from cpgen.code.tree import (
    Assign,
    Body,
    Call,
    Cast,
    Do,
    Element,
    Expression,
    Let,
    Name,
    Return,
    Select,
    Statement,
    Type,
    binary,
    branch,
    every,
    joined,
    let,
    loop,
    number,
    of,
    times,
)
from cpgen.emit.device_places import BARRIER, COLS, THREAD, DevicePlaces, blocks, each_column, flat
from cpgen.emit.names import constant, elements
from cpgen.emit.rows import NULL
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import Map
from cpgen.loops.kernels import Terms
from cpgen.loops.plan import Nest


class DeviceSums(Sums):
    """The sums of one lane, of several columns where the places are wide."""

    def __init__(self, places: DevicePlaces, root: Map, nest: Nest) -> None:
        super().__init__(places, root, nest)
        self.wide = places.wide

    def total(self, name: str = "sum") -> Expression:
        found: Expression = Name(name)
        if self.nest.block is not None:
            found = Element(found, Name("step"))
        return Element(found, Name("part")) if self.wide else found

    def declaration(self, name: str) -> Let:
        sizes: list[Expression] = [] if self.nest.block is None else [number(self.nest.block_width)]
        return Let(Type(self.places.real), name, None, tuple([*sizes, Name(COLS)] if self.wide else sizes))

    def started(self, start: Expression) -> Body:
        names = self.own.values()
        body: Body = [self.declaration(name) for name in names]
        return body + self.over_block([Assign(self.total(name), start) for name in names])

    def over_block(self, body: Body) -> Body:
        if self.wide:
            body = each_column(body)
        if self.nest.block is None:
            return body
        return [loop("step", self.nest.block_width, self.in_block(self.nest.block, "step", body))]


# Sums over rows of which a block owns a few elements


def shared_terms(places: DevicePlaces, root: Map, nest: Nest, kernel: Terms) -> Body:
    """The whole stage: all threads of a block compute terms, and the owner of an element adds them up."""
    schedule, count = places.schedule, elements(root)
    width = kernel.width
    each = prod(constant(root.extents[a]) for a in nest.reduction[1:])
    rows = of("f", "count")
    total = times(rows, number(each))
    sizes = [(places.axes[a], number(constant(root.extents[a])), 1) for a in range(root.rank)]
    where = flat(sizes)[1] if sizes else []
    inner = [(places.axes[a], number(constant(root.extents[a])), 1) for a in nest.reduction[1:]]
    first, part, at = Name("first"), Name("part"), Name("at")
    _, point = flat([("row", rows, 1), *inner], joined(first, part))
    lets, value = places.expression(root)
    mine = Element(Name("terms"), joined(times(part, number(width)), at) if width > 1 else part)
    depth = schedule.terms // width
    put: Body = [*lets, Assign(mine, value)]
    names = ["row", *(name for name, _, _ in inner)]  # of which a term need not depend on any
    point = [place for name, place in zip(names, point, strict=True) if mentions(put, name)]
    thread = Cast("ptrdiff_t", THREAD)
    mine_first = binary("/", thread, number(width)) if width > 1 else thread
    left = Name("left")
    make: Statement = loop("part", left, [*point, *put], mine_first, schedule.threads // width)
    inside = binary("<", Name("item"), number(count)) if count % width else None
    owner = every([binary("<", thread, number(width)), *([inside] if inside else [])])
    tile = times(Name("tile"), number(width))
    rest = binary("-", total, first)
    body: Body = [
        *([let("item", joined(tile, at) if width > 1 else tile)] if root.rank or inside else []),
        *where,
        let("owner", owner, Type("bool", constant=True)),
        Let(Type(places.real), "sum", Select(Name("owner"), places.result(root), places.zero)),
        loop(
            "first",
            total,
            [
                let("left", Select(binary("<", rest, number(depth)), rest, number(depth))),
                branch(inside, [make]) if inside else make,
                BARRIER,
                branch(Name("owner"), [loop("part", left, [Assign(Name("sum"), mine, "+=")])]),
                BARRIER,
            ],
            step=depth,
        ),
        branch(Name("owner"), [Assign(places.result(root), Name("sum"))]),
    ]
    out = places.plan.value(root)
    unwanted = branch(binary("==", Name(f"{out.name}_out"), NULL), [Return()])
    return [
        *([unwanted] if out.direct else []),
        Do(Call("CPGEN_SHARED", (Name(places.real), Name("terms")))),
        *([let("at", binary("%", THREAD, number(width)))] if width > 1 else []),
        blocks("tile", kernel.launch.items, body),
    ]
