"""The sums of a map in local variables: declared, started, added up and walked over in blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from cpgen.code.rewrite import mentions, replaced
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
    Select,
    Type,
    binary,
    branch,
    every,
    let,
    loop,
    number,
    of,
)
from cpgen.emit.affine import condition
from cpgen.emit.bounds import limits
from cpgen.emit.places import Places
from cpgen.ir.nodes import ROWS, Map
from cpgen.loops.plan import ROW, Check, Nest
from cpgen.loops.ranges import Condition, check, conditions, live, never, pieces


class Sums:
    """The sums over the loops of ``nest``, whose output axes are walked in blocks.

    Device code overrides :meth:`total`, :meth:`declaration`, :meth:`over_block`, :meth:`started` and :meth:`overlap`.
    """

    def __init__(self, places: Places, root: Map, nest: Nest) -> None:
        self.places = places
        self.root = root
        self.nest = nest
        # by name: that of the root, and that of its twin if it has one
        nodes = enumerate(places.stage.own_sums, 1)
        self.own: dict[Map, str] = {m: f"sum_{k}" if k > 1 else "sum" for k, m in nodes}

    def overlap(self) -> list[Expression]:
        """Conditions that hold where a block does not repeat sums of the block before it."""
        places, root = self.places, self.root
        tests: list[Expression] = []
        for a, width in self.nest.blocks:
            extent = root.extents[a]
            if isinstance(extent, int) and extent > width and extent % width:
                tests.append(binary(">=", Name(places.axes[a]), Name(f"{places.axes[a]}_next")))
        return tests

    def total(self, name: str = "sum") -> Expression:
        """The sum of the current point."""
        nest = self.nest
        found: Expression = Name(name)
        if nest.block is not None:
            found = Element(found, self.counter(nest.block, "step"))
        if not self._has_lanes():
            return found
        return Element(found, Name("lane") if nest.lanes or nest.vector is None else self.counter(nest.vector, "lane"))

    def counter(self, a: int, usual: str) -> Name:
        """What counts the sums along a blocked axis: the axis itself, where one block is all of it."""
        extent, width = self.root.extents[a], dict(self.nest.blocks)[a]
        return Name(self.places.axes[a] if isinstance(extent, int) and extent <= width else usual)

    def _has_lanes(self) -> bool:
        """Whether sums are held for several points of the vector axis."""
        places, nest = self.places, self.nest
        return nest.vector is not None and not (nest.lanes and places.single)

    def _width(self) -> Expression:
        """The points of the vector axis for which sums are held."""
        if self.nest.lanes:
            return Name("GROUP") if self.places.grouped else self.places.filled()
        return number(self.nest.vector_width)

    def declaration(self, name: str) -> Let:
        """The local variable that holds the sums of a block."""
        places, nest = self.places, self.nest
        sizes: list[Expression] = [] if nest.block is None else [number(nest.block_width)]
        if self._has_lanes():
            sizes.append(Name("LANES") if nest.lanes and not places.grouped else self._width())
        return Let(Type(places.real), name, None, tuple(sizes))

    def over_block(self, body: Body) -> Body:
        """Wrap ``body`` in the loops over the local sums."""
        nest = self.nest
        if nest.vector is not None and self._has_lanes():
            counter = "lane"
            if not nest.lanes:
                counter = self.counter(nest.vector, "lane").text
                body = self.in_block(nest.vector, counter, body)
            body = [loop(counter, self._width(), body, pragma="OMP_SIMD")]
        if nest.block is not None:
            counter = self.counter(nest.block, "step").text
            body = [loop(counter, nest.block_width, self.in_block(nest.block, counter, body))]
        return body

    def in_block(self, a: int, counter: str, body: Body) -> Body:
        """``body`` with the position along a blocked axis declared, if it is used and not what is counted."""
        places = self.places
        name = places.axes[a]
        if name == counter or not mentions(body, name):
            return body
        return [let(name, binary("+", Name(f"{name}_first"), Name(counter))), *body]

    def build(self) -> Body:
        """Declare, start and add up the local sums."""
        places, root, nest = self.places, self.root, self.nest
        start = places.zero if root.reduce == "sum" else places.lowest
        if nest.carried:
            stored = places.result(root)
            tests = self.overlap()
            if places.stage.phase == ROW:
                tests = [places.going_on(), *tests]
            start = Select(every(tests), stored, start) if tests else stored
        return self.started(start) + self._adding()

    def started(self, start: Expression) -> Body:
        """The local sums, declared and started."""
        declared = [self.declaration(name) for name in self.own.values()]
        sizes = declared[0].sizes
        if not sizes:
            return [replace(d, value=start) for d in declared]
        unused = self.nest.lanes and self.places.plan.group > 0 and not self.places.grouped  # lanes of a tile
        if start != self.places.zero or unused:
            return [*declared, *self.over_block([Assign(self.total(name), start) for name in self.own.values()])]
        count: Expression = sizes[0]
        for size in sizes[1:]:
            count = binary("*", count, size)
        first = Cast(f"{self.places.real} *", Name("sum")) if len(sizes) > 1 else Name("sum")
        places = [first if d.name == "sum" else replaced(first, Name("sum"), Name(d.name)) for d in declared]
        return [*declared, *(Do(Call("cpgen_zero", (place, count))) for place in places)]

    def _adding(self) -> Body:
        """Loops over the terms that count, with the addition inside."""
        places, root, nest = self.places, self.root, self.nest
        counted = live(root, places.points(root))
        needed = list(conditions(root))
        if not all(counted.values()) or any(never(i, e, root.extents, counted) for i, e in needed):
            return []
        known = set(range(len(root.extents))) - set(nest.reduction)
        at = dict(nest.cuts)
        checks = []
        for index, extent in dict.fromkeys(needed):
            # the loops over the output visit more points than those that count
            points = places.points(root) if set(index.axes) <= known else counted
            found = check(index, extent, root.extents, points)
            checks += [] if found is None else [found]

        def level(depth: int, known: set[int], left: list[Check]) -> Body:
            here = [c for c in left if set(c.index.axes) <= known]
            left = [c for c in left if c not in here]
            if depth == len(nest.reduction):
                inner = self.over_block(self._add(needed))
            else:
                a = nest.reduction[depth]
                name, extent = places.axes[a], root.extents[a]
                if not isinstance(extent, int):
                    end = of("f", "count" if extent is ROWS else "columns")
                    inner = [loop(name, end, level(depth + 1, known | {a}, left))]
                else:
                    part = counted.get(a, range(extent))
                    bounds = limits(places, root, a, [c for c in left if set(c.index.axes) <= known | {a}], counted)
                    left = [c for c in left if c not in bounds.done]
                    inner = list(bounds.lets)
                    for piece in [part] if bounds.done else pieces(part, at.get(a, ())):
                        with places.narrowed({name: piece}):
                            rest = level(depth + 1, known | {a}, left)
                        start = number(piece.start) if bounds.start is None else bounds.start
                        stop = number(piece.stop) if bounds.stop is None else bounds.stop
                        inner.append(loop(name, stop, rest, start, bounds.step))
            test = condition(here, places.variable)
            return inner if test is None else [branch(test, inner)]

        with places.narrowed({places.axes[a]: part for a, part in counted.items() if a in known}):
            return level(0, known, checks)

    def _add(self, valid: Collection[Condition]) -> Body:
        """One term of each sum (or of the maximum), at a point where the indices ``valid`` are."""
        places, root = self.places, self.root
        body: Body = []
        for node, name in self.own.items():
            lets, value = places.expression(node, valid)
            total, item = self.total(name), Name(f"item{name[len('sum') :]}")
            body += lets
            if root.reduce == "sum":
                body.append(Assign(total, value, "+="))
            else:  # a NaN stays
                body.append(Let(Type(places.real, constant=True), item.text, value))
                other = binary("||", binary(">", item, total), binary("!=", item, item))
                body.append(Assign(total, Select(other, item, total)))
        return body
