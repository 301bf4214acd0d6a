"""Stages as device code: the same arithmetic in the same order as in C, spread over the threads of a GPU.

A block owns a tile of rows.  Its threads are a grid of lanes (the row in the tile, threadIdx.x) by workers
(threadIdx.y); workers share the items of a stage, and a barrier ends each stage.  Stages without rows are kernels of
their own in which every thread owns some elements.  The numbers are those of the plan's schedule.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cpgen.emit.body import StageBody
from cpgen.emit.device_panels import PanelSums, operands
from cpgen.emit.device_places import DevicePlaces, each_column, flat, strided
from cpgen.emit.device_sums import DeviceSums, shared_terms, sums_terms
from cpgen.emit.names import constant, elements
from cpgen.emit.outer import block_start
from cpgen.emit.rows import Rows
from cpgen.emit.statements import Body, Statement, branch, line, loop
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import COLUMNS, Input, Map
from cpgen.loops.phases import ACCUMULATE, ROW
from cpgen.loops.plan import Nest, Plan, Stage
from cpgen.loops.schedule import LANES


class DeviceRows(Rows):
    """Every thread has a lane of its own, and workers share the items.

    Rows in memory have their elements side by side, values of a chunk their rows: where there are many elements a square
    of both passes through shared memory, so that neighbouring threads move neighbouring numbers on either side.
    """

    def __init__(self, places: DevicePlaces) -> None:
        super().__init__(places)
        self.template = places.template
        self.schedule = places.schedule

    def lanes(self, body: Body, pragma: str = "") -> Body:
        return body

    def valid_lanes(self, body: Body) -> Body:
        return [branch("lane < f->lanes", body)]

    def items(self, count: int, body: Body) -> Body:
        if count == 1:
            return [branch("WORKER == 0", [line("const ptrdiff_t item = 0;"), *body])]
        return [strided("item", str(count), body)]

    def bits(self, body: Body) -> Statement:
        return strided("bit", "left", body) if self.stage.phase == ROW else super().bits(body)

    def dealt(self, variable: str, stop: str, body: Body) -> Statement:
        return strided(variable, stop, body, "ITEM")

    def past(self, node: Input) -> str:
        if not (self.template and node.has_columns):
            return ""
        return f"part * f->n_rows * {elements(node)} + "

    def _turns(self, count: int) -> bool:
        return 0 < self.schedule.products <= count

    def move_in(self, count: int, target: str, source: str) -> Body:
        if not self._turns(count):
            return super().move_in(count, target, source)
        clamped = line("const ptrdiff_t row = at < f->lanes ? at : f->lanes - 1;")
        read = strided("at", str(LANES), [clamped, line(f"turned[lane * {LANES + 1} + at] = {source};")])
        write = [line(f"{target} = turned[at * {LANES + 1} + lane];")]
        return self._squares(count, [Statement("", self._side(count, "lane", [read]))], self._across_side(count, write))

    def move_out(self, count: int, target: str, source: str) -> Body:
        if not self._turns(count):
            return super().move_out(count, target, source)
        read = [line(f"turned[at * {LANES + 1} + lane] = {source};")]
        there = re.sub(r"\blane\b", "at", target)  # the row is no longer the thread's own
        put = line(f"{there} = turned[lane * {LANES + 1} + at];")
        write = Statement("", self._side(count, "lane", [strided("at", "f->lanes", [put])]))
        return self._squares(count, self._across_side(count, read), [write])

    def _squares(self, count: int, first: Body, second: Body) -> Body:
        barrier = line("__syncthreads();")
        return [
            line(f"CPGEN_SHARED({self.places.real}, turned);"),
            loop("first", count, [*first, barrier, *second, barrier], step=LANES),
        ]

    def _side(self, count: int, by: str, body: Body) -> Body:
        """``body`` with ``item`` the element of this square that a thread takes ``by`` one of its numbers."""
        inside = [branch(f"item < {count}", body)] if count % LANES else body
        return [line(f"const ptrdiff_t item = first + {by};"), *inside]

    def _across_side(self, count: int, body: Body) -> Body:
        return [strided("at", str(LANES), self._side(count, "at", body))]


def device_body(plan: Plan, stage: Stage, prefix: str) -> DeviceBody:
    """As device code; ``prefix`` starts the names of functions made for user functions."""
    places = DevicePlaces(plan, stage, prefix)
    return DeviceBody(places, DeviceRows(places))


class DeviceBody(StageBody):
    """See the module docstring.  ``in_panels`` and ``in_terms``: the stage is a kernel with shared memory."""

    team = True
    places: DevicePlaces

    def __init__(self, places: DevicePlaces, rows: DeviceRows) -> None:
        super().__init__(places, rows)
        self.in_panels = operands(self.stage, places.schedule) != ()
        self.in_terms = not self.in_panels and sums_terms(self.stage)

    def build(self) -> Body:
        if self.stage.phase == ROW:
            self.places.declare("lane", "const ptrdiff_t", "(ptrdiff_t)threadIdx.x")
        body = super().build()
        return each_column(body) if self.places.template and not self.places.wide else body

    def map(self, root: Map, nest: Nest) -> Body:
        if self.in_terms:
            return shared_terms(self.places, root, nest)
        if not self.in_panels:
            return super().map(root, nest)
        sums = PanelSums(self.places, root, nest)
        return sums.panels(lambda: self.finish(root, nest, sums))

    def sums(self, root: Map, nest: Nest) -> Sums:
        return DeviceSums(self.places, root, nest)

    def outer_loops(
        self, root: Map, nest: Nest, sums: Sums | None, point: Callable[[], Body], columns: tuple[str, str]
    ) -> Body:
        body = point()
        loops: list[tuple[str, str, int]] = []  # variable, number of values, step between them
        starts: Body = []
        parts = [(a, 0) for a in nest.outer]
        if sums and nest.block is not None:
            # neighbouring threads should walk along the last outer axis of a sum over rows
            follows = self.stage.phase == ACCUMULATE and bool(nest.outer)
            parts.insert(len(parts) - (1 if follows else 0), (nest.block, nest.block_width))
        for a, width in parts:
            extent, name = root.extents[a], self.places.axes[a]
            if not width:
                loops.append((name, "f->columns" if extent is COLUMNS else str(constant(extent)), 1))
                continue
            size = constant(extent)
            variable, first = block_start(name, size, width)
            starts += first
            if variable:
                loops.append((variable, str(-(-size // width)), width))
        body = starts + body
        who = "WORKER" if self.stage.phase == ROW else "ITEM"
        if not loops:
            return [branch(f"{who} == 0", body)]
        total, places = flat(loops)
        return [strided("item", total, [*places, *body], who)]
