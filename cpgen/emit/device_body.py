"""Stages as device code: the same arithmetic in the same order as in C, spread over the threads of a GPU.

A block owns a tile of rows.  Its threads are a grid of lanes (the row in the tile, threadIdx.x) by workers
(threadIdx.y); workers share the items of a stage, and a barrier ends each stage.  In a loop over noise columns a stage
handles several of them, so that a weight is read once for all.  Stages without rows are kernels of their own in which
every thread owns some elements; for outer products summed over rows a block owns a square panel.  Where the values of a
tile are too many for shared memory, products with large weights are kernels of their own as well, over all rows of a
chunk.  All sums run in the order of the C text, so results have its bits.  The numbers are those of the plan's schedule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cpgen.emit.body import StageBody
from cpgen.emit.names import constant, elements
from cpgen.emit.statements import Body, Statement, branch, factor, line, loop, mentions, times
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Extent, Input, Map, Node
from cpgen.loops.phases import ACCUMULATE, ROW
from cpgen.loops.plan import Nest, Plan, Stage
from cpgen.loops.ranges import access_checks, guard_checks
from cpgen.loops.schedule import LANES, Schedule
from cpgen.scalar import factors, placeholder, to_c

MOST_OPERANDS = 3  # in shared memory
COLS = "COLS"  # noise columns that a stage handles together: a parameter of its function


class DeviceBody(StageBody):
    """See the module docstring."""

    team = True

    def __init__(self, plan: Plan, stage: Stage, prefix: str) -> None:
        nest = stage.nest
        if nest is not None and not nest.lanes and nest.vector is not None:
            # neighbouring threads take the place of the vector unit
            nest = replace(nest, outer=(*nest.outer, nest.vector), vector=None, vector_width=0)
            stage = replace(stage, nest=nest)
        super().__init__(plan, stage, prefix)
        self.schedule = plan.schedule
        self.panels: dict[Access, str] = {}  # operands that are read from shared memory, and where
        self.in_panels = operands(stage, self.schedule) != ()
        self.in_terms = not self.in_panels and sums_terms(stage)
        if self.schedule.products:
            self.lanes = "f->stride"
        looped = any(stage.number == s.number for part in plan.segments if part.columns for s in part.stages)
        if looped and self.schedule.columns > 1:
            self.template = COLS
        root = stage.nodes[0]
        # the sums of several columns at once; those that go on from column to column, or whose indices or tests are of a
        # column, take one at a time
        alike = nest is not None and not nest.carried and not any(reads_by_column(n) for n in stage.nodes)
        self.wide = bool(self.template and alike and nest and nest.reduction and root.has_columns)

    def build(self) -> Body:
        if self.stage.phase == ROW:
            self._declare("lane", "const ptrdiff_t", "(ptrdiff_t)threadIdx.x")
        body = super().build()
        return self._each_column(body) if self.template and not self.wide else body

    # Several columns together

    def _each_column(self, body: Body) -> Body:
        """``body`` for each of the columns of this batch, in their order."""
        if mentions(body, "col"):
            body = [line("const ptrdiff_t col = f->col + part;"), *body]
        return [loop("part", COLS, body)]

    def _variable(self, a: int) -> str:
        if not self.template or self.axes[a] != "col":
            return super()._variable(a)
        first = self._declare("first_column", "const ptrdiff_t", "(ptrdiff_t)f->args->first_column")
        return f"({first} + col)"

    def _column(self) -> str:
        return "col" if self.template else super()._column()

    def _spot(self, node: Node, place: str) -> str:
        if not (self.template and node.has_columns):
            return super()._spot(node, place)
        slot = self.plan.value(node).tile
        assert slot is not None
        if slot.columns:  # the values of a column lie together
            here = f"part * {slot.elements}" if slot.elements > 1 else "part"
            here = here if place == "0" else f"{here} + {place}"
        else:
            here = "part" if place == "0" else f"{times(place, COLS)} + part"
        return f"{times(here, self.lanes)} + lane"

    def _past(self, node: Input) -> str:
        if not (self.template and node.has_columns):
            return ""
        return f"part * f->n_rows * {elements(node)} + "

    # Rows in memory have their elements side by side, values of a chunk their rows: where there are many elements a
    # square of both passes through shared memory, so that neighbouring threads move neighbouring numbers on either side

    def _turns(self, count: int) -> bool:
        return 0 < self.schedule.products <= count

    def _move_in(self, count: int, target: str, source: str) -> Body:
        if not self._turns(count):
            return super()._move_in(count, target, source)
        clamped = line("const ptrdiff_t row = at < f->lanes ? at : f->lanes - 1;")
        read = _strided("at", str(LANES), [clamped, line(f"turned[lane * {LANES + 1} + at] = {source};")])
        write = [line(f"{target} = turned[at * {LANES + 1} + lane];")]
        return self._squares(count, [Statement("", self._side(count, "lane", [read]))], self._across_side(count, write))

    def _move_out(self, count: int, target: str, source: str) -> Body:
        if not self._turns(count):
            return super()._move_out(count, target, source)
        read = [line(f"turned[at * {LANES + 1} + lane] = {source};")]
        there = re.sub(r"\blane\b", "at", target)  # the row is no longer the thread's own
        put = line(f"{there} = turned[lane * {LANES + 1} + at];")
        write = Statement("", self._side(count, "lane", [_strided("at", "f->lanes", [put])]))
        return self._squares(count, self._across_side(count, read), [write])

    def _squares(self, count: int, first: Body, second: Body) -> Body:
        barrier = line("__syncthreads();")
        return [
            line(f"CPGEN_SHARED({self.real}, turned);"),
            loop("first", count, [*first, barrier, *second, barrier], step=LANES),
        ]

    def _side(self, count: int, by: str, body: Body) -> Body:
        """``body`` with ``item`` the element of this square that a thread takes ``by`` one of its numbers."""
        inside = [branch(f"item < {count}", body)] if count % LANES else body
        return [line(f"const ptrdiff_t item = first + {by};"), *inside]

    def _across_side(self, count: int, body: Body) -> Body:
        return [_strided("at", str(LANES), self._side(count, "at", body))]

    # Outer products summed over rows: a block owns PANEL x PANEL elements, each thread some of them

    def _map(self) -> Body:
        if self.in_terms:
            return self._terms()
        if not self.in_panels:
            return super()._map()
        nest, root = self.stage.nest, self.stage.nodes[0]
        assert nest is not None and isinstance(root, Map)
        down, across = (self.axes[a] for a in range(2))
        staged, panel, depth = operands(self.stage, self.schedule), self.schedule.panel, self.schedule.depth
        each_down, each_across = self.schedule.down, self.schedule.across
        fetch: Body = []
        each = [frozenset(placeholder(k) for k, a in enumerate(root.args) if a == access) for access in staged]
        apart = factors(root.expr, each)
        for k, access in enumerate(staged):
            side = next(i.axis for i in access.index if i.axis is not None and i.axis < 2)
            name, extent = self.axes[side], constant(root.extents[side])
            here = f"panel[{k * panel * depth} + item]" if k else "panel[item]"
            at = line(f"const ptrdiff_t {name} = {name}_first + item % {panel};")
            lets, text = self._factor(root, access, apart[k]) if apart else ([], super()._element(access))
            if lets:
                put = branch(f"{name} < {extent}", [*lets, line(f"{here} = {text};")])
            else:
                put = line(f"{here} = {name} < {extent} ? {text} : {self.zero};")
            fetch.append(Statement("", [at, put]))
            place = f"{each_down} * step + down" if side == 0 else f"{each_across} * lane + across"
            first = k * depth
            self.panels[access] = f"panel[{f'({first} + part)' if first else 'part'} * {panel} + {place}]"
        start = self._over_block(nest, [line(f"{self._sum_text(nest)} = {self._result(root, nest)};")])
        if apart:
            lets, text = [], " * ".join(self.panels[access] for access in staged)
        else:
            lets, text = self._expression(root)
        self.panels.clear()
        add = [*lets, line(f"{self._sum_text(nest)} += {text};")]
        rows = [
            line(f"const ptrdiff_t left = f->count - first < {depth} ? f->count - first : {depth};"),
            Statement(
                f"for (ptrdiff_t item = threadIdx.x; item < left * {panel}; item += {self.schedule.threads})",
                [line(f"const ptrdiff_t row = first + item / {panel};"), *fetch],
            ),
            line("__syncthreads();"),
            loop("part", "left", self._over_sums(add)),
            line("__syncthreads();"),
        ]
        wide = panels_along(root.extents[1], panel)
        body: Body = [
            line(f"const ptrdiff_t {down}_first = (tile / {wide}) * {panel};"),
            line(f"const ptrdiff_t {across}_first = (tile % {wide}) * {panel};"),
            line(f"{self.real} sum[{panel // each_down}][{panel // each_across}] = {{}};"),
            *start,
            loop("first", "f->count", rows, step=depth),
            *self._finish(root, nest),
        ]
        tiles = panels_along(root.extents[0], panel) * wide
        return [
            line(f"CPGEN_SHARED({self.real}, panel);"),
            line(f"const ptrdiff_t down = threadIdx.x / {each_across};"),
            line(f"const ptrdiff_t across = threadIdx.x % {each_across};"),
            Statement(f"for (ptrdiff_t tile = blockIdx.x; tile < {tiles}; tile += gridDim.x)", body),
        ]

    def _factor(self, root: Map, access: Access, factor: Any) -> tuple[Body, str]:
        """What an operand contributes to a product, computed where it is read: ``x**2`` once and not for each sum."""
        texts = {placeholder(k): super(DeviceBody, self)._element(a) for k, a in enumerate(root.args) if a == access}
        base = self.plan.value(root).name
        code = to_c([factor], texts, self.plan.real, lambda k: f"{base}_t{k}", self.prefix)
        self.helpers.update(code.helpers)
        for definition in code.definitions:
            self.definitions.setdefault(definition)
        return [line(f"const {self.real} {name} = {text};") for name, text in code.lets], code.results[0]

    # Other sums over rows: the threads of a block share the terms of a few elements, whose owners add them up

    def _terms(self) -> Body:
        nest, root = self.stage.nest, self.stage.nodes[0]
        assert nest is not None and isinstance(root, Map)
        count, threads = elements(root), self.schedule.threads
        width = owned(count)
        each = 1
        for a in nest.reduction[1:]:
            each *= constant(root.extents[a])
        total = "f->count" if each == 1 else f"f->count * {each}"
        sizes = [(self.axes[a], str(constant(root.extents[a])), 1) for a in range(root.rank)]
        where = _flat(sizes)[1] if sizes else []
        inner = [(self.axes[a], str(constant(root.extents[a])), 1) for a in nest.reduction[1:]]
        _, point = _flat([("row", "f->count", 1), *inner], "first + part")
        lets, text = self._expression(root)
        mine = f"part * {width} + at" if width > 1 else "part"
        depth = self.schedule.terms // width
        put = [*lets, line(f"terms[{mine}] = {text};")]
        names = ["row", *(name for name, _, _ in inner)]  # of which a term need not depend on any
        point = [place for name, place in zip(names, point, strict=True) if mentions(put, name)]
        make = loop(
            "part", "left", [*point, *put],
            start="(ptrdiff_t)threadIdx.x" if width == 1 else f"(ptrdiff_t)threadIdx.x / {width}", step=threads // width,
        )  # fmt: skip
        inside = f"item < {count}" if count % width else ""
        owner = " && ".join(t for t in (f"(ptrdiff_t)threadIdx.x < {width}", inside) if t)
        item = line(f"const ptrdiff_t item = {times('tile', str(width))}{' + at' if width > 1 else ''};")
        body: Body = [
            *([item] if root.rank or inside else []),
            *where,
            line(f"const bool owner = {owner};"),
            line(f"{self.real} sum = owner ? {self._result(root, nest)} : {self.zero};"),
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
            branch("owner", [line(f"{self._result(root, nest)} = sum;")]),
        ]
        value = self.plan.value(root)
        return [
            *([branch(f"{value.name}_out == NULL", [line("return;")])] if value.direct else []),
            line(f"CPGEN_SHARED({self.real}, terms);"),
            *([line(f"const ptrdiff_t at = threadIdx.x % {width};")] if width > 1 else []),
            Statement(f"for (ptrdiff_t tile = blockIdx.x; tile < {-(-count // width)}; tile += gridDim.x)", body),
        ]

    def _element(self, access: Access) -> str:
        return self.panels.get(access) or super()._element(access)

    def _over_sums(self, body: Body) -> Body:
        """``body`` for each sum of a thread, with its place in the output declared where it is used."""
        panel, each_down, each_across = self.schedule.panel, self.schedule.down, self.schedule.across
        for a, place in ((1, f"{each_across} * lane + across"), (0, f"{each_down} * step + down")):
            name = self.axes[a]
            if mentions(body, name):
                body = [line(f"const ptrdiff_t {name} = {name}_first + {place};"), *body]
        return [loop("step", panel // each_down, [loop("lane", panel // each_across, body)])]

    def _overlap(self, root: Map, nest: Nest) -> list[str]:
        return [] if self.in_panels else super()._overlap(root, nest)

    # Every thread has a lane of its own

    def _sum_text(self, nest: Nest, text: str = "sum") -> str:
        if self.in_panels:
            return f"{text}[step][lane]"
        return f"{text}{'' if nest.block is None else '[step]'}{'[part]' if self.wide else ''}"

    def _sum_declaration(self, nest: Nest, sums: str = "sum") -> str:
        steps = "" if nest.block is None else f"[{nest.block_width}]"
        return f"{self.real} {sums}{steps}{f'[{COLS}]' if self.wide else ''};"

    def _over_block(self, nest: Nest, body: Body) -> Body:
        if self.in_panels:
            root = self.stage.nodes[0]
            assert isinstance(root, Map)
            inside = " && ".join(f"{self.axes[a]} < {constant(root.extents[a])}" for a in range(2))
            return self._over_sums([branch(inside, body)])
        if self.wide:
            body = self._each_column(body)
        if nest.block is None:
            return body
        return [loop("step", nest.block_width, self._in_block(nest.block, "step", body))]

    def _lanes(self, body: Body, pragma: str = "") -> Body:
        return body

    def _valid_lanes(self, body: Body) -> Body:
        return [branch("lane < f->lanes", body)]

    def _items(self, count: int, body: Body) -> Body:
        if count == 1:
            return [branch("WORKER == 0", [line("const ptrdiff_t item = 0;"), *body])]
        return [_strided("item", str(count), body)]

    # Who does what

    def _outer_loops(self, root: Map, nest: Nest, point: Callable[[], Body]) -> Body:
        body = point()
        in_tile = self.stage.phase == ROW
        loops: list[tuple[str, str, int]] = []  # variable, number of values, step between them
        starts: Body = []
        parts = [(a, 0) for a in nest.outer]
        if (nest.reduction or nest.carried) and nest.block is not None:
            place = len(parts) - (1 if self._follows(nest) else 0)
            parts.insert(place, (nest.block, nest.block_width))
        for a, width in parts:
            extent, name = root.extents[a], self.axes[a]
            if not width:
                loops.append((name, "f->columns" if extent is COLUMNS else str(constant(extent)), 1))
                continue
            size = constant(extent)
            if size <= width:
                starts.append(line(f"const ptrdiff_t {name}_first = 0;"))
            elif size % width == 0:
                loops.append((f"{name}_first", str(size // width), width))
            else:
                loops.append((f"{name}_next", str(-(-size // width)), width))
                last = size - width
                starts.append(
                    line(f"const ptrdiff_t {name}_first = {name}_next < {last} ? {name}_next : {last};")
                )
        body = starts + body
        if not loops:
            return [branch("WORKER == 0" if in_tile else "ITEM == 0", body)]
        total, places = _flat(loops)
        return [_strided("item", total, [*places, *body], "WORKER" if in_tile else "ITEM")]

    def _follows(self, nest: Nest) -> bool:
        """Whether the last outer axis is the one that neighbouring threads should walk along."""
        return self.stage.phase == ACCUMULATE and bool(nest.outer)

    def _copy_loop(self, stop: str, body: Body) -> Statement:
        return _strided("item", stop, body, "ITEM")

    def _draw(self, header: Body, count: int, put: Statement) -> Body:
        in_tile = self.stage.phase == ROW
        words = [
            line("uint32_t words[4];"),
            line("cpgen_noise_words(&noise, (uint32_t)(item / 128), words);"),
            line(f"const ptrdiff_t left = {count} - item < 128 ? {count} - item : 128;"),
            _strided("bit", "left", [put]) if in_tile else loop("bit", "left", [put]),
        ]
        body = [*header, loop("item", count, words, step=128)]
        return body if in_tile else [_strided("col", "f->columns", body, "ITEM")]


def reads_by_column(node: Node) -> bool:
    """Whether the column stands in an index of an ordinary axis, or in a guard."""
    if not isinstance(node, Map) or COLUMNS not in node.extents:
        return False
    column = node.extents.index(COLUMNS)
    ordinary = [i for a in node.args for i, e in zip(a.index, a.node.shape, strict=True) if e is not COLUMNS]
    return any(column in i.axes for i in (*ordinary, *(g.index for g in node.guards)))


def operands(stage: Stage, schedule: Schedule) -> tuple[Access, ...]:
    """What a stage should read through shared memory: the row values of a large outer product summed over rows.

    Empty for any other stage.  An operand belongs to one side of the output and to the rows, so that a block reads it
    once for all elements of a panel.
    """
    nest, root = stage.nest, stage.nodes[0]
    if stage.phase != ACCUMULATE or nest is None or not isinstance(root, Map) or root.reduce != "sum":
        return ()
    sizes = root.extents[: root.rank]
    if len(sizes) != 2 or any(not isinstance(e, int) or e < schedule.least_panel for e in sizes):
        return ()
    if root.extents[2:] != (ROWS,) or guard_checks(root.guards, root.extents):
        return ()
    if any(access_checks(a, root.extents) for node in stage.nodes if isinstance(node, Map) for a in node.args):
        return ()
    found = []
    for access in dict.fromkeys(root.args):
        if not access.node.has_rows:
            continue
        sides = [i.axes for i in access.index[access.node.lead :]]
        if access.node.has_columns or len(sides) != 1 or len(sides[0]) != 1 or access.index[-1].axis not in (0, 1):
            return ()
        found.append(access)
    return tuple(found) if 2 <= len(found) <= MOST_OPERANDS else ()


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


def panels_along(extent: Extent, panel: int) -> int:
    """How many panels lie along an axis."""
    return -(-constant(extent) // panel)


def _strided(variable: str, stop: str, body: Body, who: str = "WORKER") -> Statement:
    """A loop whose values belong to the workers of a block, or to all threads of the grid."""
    return Statement(f"for (ptrdiff_t {variable} = {who}; {variable} < {stop}; {variable} += {who}S)", body)


def _flat(loops: Sequence[tuple[str, str, int]], point: str = "item") -> tuple[str, Body]:
    """How many points the loops have together, and the variables at one of them."""
    places: Body = []
    rest = factor(point) if len(loops) > 1 else point
    for k in range(len(loops) - 1, -1, -1):
        name, count, step = loops[k]
        here = rest if k == 0 else f"{rest} % {factor(count)}"
        places.insert(0, line(f"const ptrdiff_t {name} = {times(here, str(step))};"))
        rest = f"{rest} / {factor(count)}"
    return " * ".join(count for _, count, _ in loops), places
