"""Outer products summed over rows on a GPU: a block owns a square panel of the output, each thread some of its elements.

The operands pass through shared memory.
"""

from __future__ import annotations

from collections.abc import Callable

from cpgen.code.rewrite import mentions
from cpgen.code.tree import (
    Assign,
    Body,
    Braces,
    Call,
    Do,
    Element,
    Expression,
    Group,
    Let,
    Name,
    Select,
    Statement,
    Type,
    binary,
    block,
    branch,
    every,
    joined,
    let,
    loop,
    number,
    of,
)
from cpgen.emit.device_places import BARRIER, ITEM, THREAD, DevicePlaces, blocks
from cpgen.emit.names import constant
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import Access, Map
from cpgen.loops.kernels import Panels
from cpgen.loops.plan import Nest
from cpgen.scalar import factors, placeholder

STEP, LANE = Name("step"), Name("lane")


class PanelSums(Sums):
    """The sums that a thread owns of a panel."""

    places: DevicePlaces

    def __init__(self, places: DevicePlaces, root: Map, nest: Nest, kernel: Panels) -> None:
        super().__init__(places, root, nest)
        self.kernel = kernel
        self.schedule = places.schedule

    def total(self, name: str = "sum") -> Expression:
        return Element(Element(Name(name), STEP), LANE)

    def overlap(self) -> list[Expression]:
        return []

    def over_block(self, body: Body) -> Body:
        inside = [binary("<", Name(self.places.axes[a]), number(constant(self.root.extents[a]))) for a in range(2)]
        return self._each([branch(every(inside), body)])

    def _each(self, body: Body) -> Body:
        """``body`` for each sum of a thread, with its place in the output declared where it is used."""
        panel, each_down, each_across = self.schedule.panel, self.schedule.down, self.schedule.across
        for a in (1, 0):
            name = self.places.axes[a]
            if mentions(body, name):
                body = [let(name, joined(Name(f"{name}_first"), self._place(a))), *body]
        return [loop("step", panel // each_down, [loop("lane", panel // each_across, body)])]

    def _place(self, side: int) -> Expression:
        """Where in the panel, along one side, the current sum of a thread is."""
        if side == 0:
            return joined(binary("*", number(self.schedule.down), STEP), Name("down"))
        return joined(binary("*", number(self.schedule.across), LANE), Name("across"))

    def panels(self, finish: Callable[[], Body]) -> Body:
        """The whole stage; ``finish`` makes what follows the sums."""
        places, root = self.places, self.root
        down, across = (places.axes[a] for a in range(2))
        staged, panel, depth = self.kernel.operands, self.schedule.panel, self.schedule.depth
        each_down, each_across = self.schedule.down, self.schedule.across
        fetch: Body = []
        held: dict[Access, Expression] = {}  # where an operand is read from shared memory
        each = [frozenset(placeholder(k) for k, a in enumerate(root.args) if a == access) for access in staged]
        # what an operand contributes to a product is computed where it is read: x**2 once and not for each sum
        apart = factors(root.expr, each)
        shared, part = Name("panel"), Name("part")
        for k, access in enumerate(staged):
            side = next(i.axis for i in access.index if i.axis is not None and i.axis < 2)
            name, extent = places.axes[side], constant(root.extents[side])
            here = Element(shared, joined(number(k * panel * depth), ITEM) if k else ITEM)
            at = let(name, joined(Name(f"{name}_first"), binary("%", ITEM, number(panel))))
            inside = binary("<", Name(name), number(extent))
            lets: Body = []
            value = places.element(access)
            if apart:
                lets, value = places.computed(root, apart[k], dict.fromkeys(each[k], value))
            put: Statement = Assign(here, Select(inside, value, places.zero))
            if lets:
                put = branch(inside, [*lets, Assign(here, value)])
            fetch.append(block([at, put]))
            row: Expression = Group(joined(number(k * depth), part)) if k else part
            held[access] = Element(shared, joined(binary("*", row, number(panel)), self._place(side)))
        start = self.over_block([Assign(self.total(), places.result(root))])
        if apart:
            lets, (value, *others) = [], held.values()
            for other in others:
                value = binary("*", value, other)
        else:
            with places.reading(held):
                lets, value = places.expression(root)
        first, left = Name("first"), Name("left")
        rest = binary("-", of("f", "count"), first)
        moved = [let("row", joined(first, binary("/", ITEM, number(panel)))), *fetch]
        rows: Body = [
            let("left", Select(binary("<", rest, number(depth)), rest, number(depth))),
            loop("item", binary("*", left, number(panel)), moved, THREAD, self.schedule.threads),
            BARRIER,
            loop("part", left, self._each([*lets, Assign(self.total(), value, "+=")])),
            BARRIER,
        ]
        wide = self.kernel.tiles[1]
        tile = Name("tile")
        sizes = (number(panel // each_down), number(panel // each_across))
        body: Body = [
            let(f"{down}_first", binary("*", Group(binary("/", tile, number(wide))), number(panel))),
            let(f"{across}_first", binary("*", Group(binary("%", tile, number(wide))), number(panel))),
            Let(Type(places.real), "sum", Braces(), sizes),
            *start,
            loop("first", of("f", "count"), rows, step=depth),
            *finish(),
        ]
        return [
            Do(Call("CPGEN_SHARED", (Name(places.real), shared))),
            let("down", binary("/", THREAD, number(each_across))),
            let("across", binary("%", THREAD, number(each_across))),
            blocks("tile", self.kernel.launch.items, body),
        ]
