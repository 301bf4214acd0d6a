"""Stages as device code: the same arithmetic in the same order as in C, spread over the threads of a GPU.

A block owns a tile of rows.  Its threads are a grid of lanes (the row in the tile, threadIdx.x) by workers
(threadIdx.y); workers share the items of a stage, and a barrier ends each stage.  Stages without rows are kernels of
their own in which every thread owns some elements.  The numbers are those of the plan's schedule.
"""

from __future__ import annotations

from collections.abc import Callable

from cpgen.code.rewrite import replaced
from cpgen.code.tree import (
    Assign,
    Body,
    Call,
    Cast,
    Do,
    Element,
    Expression,
    Name,
    Select,
    Statement,
    binary,
    block,
    branch,
    joined,
    let,
    loop,
    number,
    of,
)
from cpgen.emit.body import StageBody
from cpgen.emit.device_panels import PanelSums
from cpgen.emit.device_places import BARRIER, THREAD, DevicePlaces, each_column, flat, strided
from cpgen.emit.device_sums import DeviceSums, shared_terms
from cpgen.emit.names import constant, elements
from cpgen.emit.outer import Ends, block_start
from cpgen.emit.rows import LANE, Rows
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import COLUMNS, Input, Map
from cpgen.loops.kernels import Panels, Terms, Threads
from cpgen.loops.plan import ROW, Nest, Plan, Stage
from cpgen.loops.schedule import LANES

AT = Name("at")


class DeviceRows(Rows):
    """Every thread has a lane of its own, and workers share the items.

    Rows in memory have their elements side by side, values of a chunk their rows: where there are many elements a square
    of both passes through shared memory, so that neighbouring threads move neighbouring numbers on either side.
    """

    in_step = False

    def __init__(self, places: DevicePlaces) -> None:
        super().__init__(places)
        self.template = places.template
        self.squares = isinstance(places.stage.kernel, Threads) and places.stage.kernel.squares

    def lanes(self, body: Body, pragma: str = "") -> Body:
        return body

    def valid_lanes(self, body: Body) -> Body:
        return [branch(binary("<", LANE, of("f", "lanes")), body)]

    def items(self, count: int, body: Body) -> Body:
        if count == 1:
            return [branch(binary("==", Name("WORKER"), number(0)), [let("item", number(0)), *body])]
        return [strided("item", count, body)]

    def bits(self, body: Body) -> Statement:
        return strided("bit", Name("left"), body) if self.stage.phase == ROW else super().bits(body)

    def dealt(self, variable: str, stop: Expression, body: Body) -> Statement:
        return strided(variable, stop, body, "ITEM")

    def past(self, node: Input) -> Expression:
        if not (self.template and node.has_columns):
            return number(0)
        return binary("*", binary("*", Name("part"), of("f", "n_rows")), number(elements(node)))

    def move_in(self, count: int, target: Expression, source: Expression) -> Body:
        if not self.squares:
            return super().move_in(count, target, source)
        lanes = of("f", "lanes")
        clamped = let("row", Select(binary("<", AT, lanes), AT, binary("-", lanes, number(1))))
        read = strided("at", LANES, [clamped, Assign(_turned(LANE, AT), source)])
        write: Body = [Assign(target, _turned(AT, LANE))]
        return self._squares(count, [block(self._side(count, LANE, [read]))], self._across_side(count, write))

    def move_out(self, count: int, target: Expression, source: Expression) -> Body:
        if not self.squares:
            return super().move_out(count, target, source)
        read: Body = [Assign(_turned(AT, LANE), source)]
        there = replaced(target, LANE, AT)  # the row is no longer the thread's own
        put = Assign(there, _turned(LANE, AT))
        write = block(self._side(count, LANE, [strided("at", of("f", "lanes"), [put])]))
        return self._squares(count, self._across_side(count, read), [write])

    def _squares(self, count: int, first: Body, second: Body) -> Body:
        return [
            Do(Call("CPGEN_SHARED", (Name(self.places.real), Name("turned")))),
            loop("first", count, [*first, BARRIER, *second, BARRIER], step=LANES),
        ]

    def _side(self, count: int, by: Expression, body: Body) -> Body:
        """``body`` with ``item`` the element of this square that a thread takes ``by`` one of its numbers."""
        inside = [branch(binary("<", Name("item"), number(count)), body)] if count % LANES else body
        return [let("item", joined(Name("first"), by)), *inside]

    def _across_side(self, count: int, body: Body) -> Body:
        return [strided("at", LANES, self._side(count, AT, body))]


def _turned(row: Expression, column: Expression) -> Expression:
    """An element of the square in shared memory."""
    return Element(Name("turned"), joined(binary("*", row, number(LANES + 1)), column))


def device_body(plan: Plan, stage: Stage, prefix: str) -> DeviceBody:
    """As device code; ``prefix`` starts the names of functions made for user functions."""
    places = DevicePlaces(plan, stage, prefix)
    return DeviceBody(places, DeviceRows(places))


class DeviceBody(StageBody):
    """See the module docstring."""

    divided = True
    places: DevicePlaces

    def build(self) -> Body:
        if self.stage.phase == ROW:
            self.places.declare("lane", Cast("ptrdiff_t", THREAD))
        body = super().build()
        return each_column(body) if self.places.template and not self.places.wide else body

    def map(self, root: Map, nest: Nest) -> Body:
        kernel = self.stage.kernel
        if isinstance(kernel, Terms):
            return shared_terms(self.places, root, nest, kernel)
        if isinstance(kernel, Panels):
            sums = PanelSums(self.places, root, nest, kernel)
            return sums.panels(lambda: self.finish(root, nest, sums))
        return super().map(root, nest)

    def sums(self, root: Map, nest: Nest) -> Sums:
        return DeviceSums(self.places, root, nest)

    def outer_loops(
        self, root: Map, nest: Nest, sums: Sums | None, point: Callable[[], Body], columns: Ends
    ) -> Body:
        body = point()
        loops: list[tuple[str, Expression, int]] = []  # variable, number of values, step between them
        starts: Body = []
        kernel = self.stage.kernel
        assert isinstance(kernel, Threads)
        for a in kernel.order:
            extent, name = root.extents[a], self.places.axes[a]
            if a != nest.block:
                loops.append((name, of("f", "columns") if extent is COLUMNS else number(constant(extent)), 1))
                continue
            size, width = constant(extent), nest.block_width
            variable, first = block_start(name, size, width)
            starts += first
            if variable:
                loops.append((variable, number(-(-size // width)), width))
        body = starts + body
        who = "WORKER" if self.stage.phase == ROW else "ITEM"
        total, places = flat(loops)
        if total is None:
            return [branch(binary("==", Name(who), number(0)), body)]
        return [strided("item", total, [*places, *body], who)]
