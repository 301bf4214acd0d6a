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
from dataclasses import dataclass, replace
from typing import Any

import cpgen
from cpgen.emit.body import StageBody
from cpgen.emit.names import address, constant, elements
from cpgen.emit.render import render, runtime_header
from cpgen.emit.runtime import own_functions, select, uses
from cpgen.emit.statements import Body, Statement, branch, factor, line, loop, mentions, times
from cpgen.emit.views import (
    LARGEST,
    MOST_THREADS,
    Dialect,
    Field,
    ProgramView,
    Status,
    program_view,
    stage_text,
)
from cpgen.errors import RequestError
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Extent, Input, Map, Node
from cpgen.loops.names import external_prefix
from cpgen.loops.phases import ACCUMULATE, ROW
from cpgen.loops.plan import ALIGNMENT, Nest, Plan, Stage
from cpgen.loops.products import is_product, product
from cpgen.loops.ranges import access_checks, guard_checks
from cpgen.loops.schedule import LANES, Schedule
from cpgen.scalar import factors, placeholder, to_c

MOST_OPERANDS = 3  # in shared memory
COLS = "COLS"  # noise columns that a stage handles together: a parameter of its function


@dataclass(frozen=True)
class Kernel:
    """One stage without rows: its number, the call of its function, and the blocks it is launched with.

    ``library``: the members of a product's structure by array, if the caller's library may do it.
    """

    number: int
    call: str
    grid: str
    shared: int = 0  # bytes
    library: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ProductView:
    """One launch of the kernel for products: the members of its argument structure by array, and the comment."""

    stage: int
    comment: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    gemm: bool  # whether the caller's library may do it


@dataclass(frozen=True)
class Step:
    """A part of the row phase that is a launch of its own: calls of stages over tiles, or a product."""

    number: int
    columns: bool
    calls: tuple[str, ...] = ()
    product: ProductView | None = None


@dataclass(frozen=True)
class SegmentSteps:
    """Steps of a segment, which are repeated for each batch of columns if ``columns``."""

    columns: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class DeviceView:
    """A program and its launches: ``before`` and ``after`` the rows, and the ``sums`` over a chunk of them.

    ``spread`` is the row phase in several launches; empty where it is one.
    """

    program: ProgramView
    plan: Plan
    before: tuple[Kernel, ...]
    sums: tuple[Kernel, ...]
    after: tuple[Kernel, ...]
    clear_grid: str
    spread: tuple[SegmentSteps, ...]
    gemm: bool  # whether the caller may pass a library

    @property
    def schedule(self) -> Schedule:
        return self.plan.schedule

    @property
    def products(self) -> tuple[ProductView, ...]:
        return tuple(step.product for part in self.spread for step in part.steps if step.product)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        return (*self.before, *self.sums, *self.after)

    def __getattr__(self, name: str) -> Any:
        """For the templates: everything that the C version has."""
        return getattr(self.program, name)


@dataclass(frozen=True)
class CudaFiles:
    """The CUDA text of a model: ``<name>.cu`` and ``<name>.cuh``, complete in themselves."""

    name: str
    header: str
    source: str
    declarations: str
    programs: tuple[DeviceView, ...]

    def files(self) -> dict[str, str]:
        """Both files by name."""
        return {f"{self.name}.cuh": self.header, f"{self.name}.cu": self.source}


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
        wide = _panels(root.extents[1], panel)
        body: Body = [
            line(f"const ptrdiff_t {down}_first = (tile / {wide}) * {panel};"),
            line(f"const ptrdiff_t {across}_first = (tile % {wide}) * {panel};"),
            line(f"{self.real} sum[{panel // each_down}][{panel // each_across}] = {{}};"),
            *start,
            loop("first", "f->count", rows, step=depth),
            *self._finish(root, nest),
        ]
        tiles = _panels(root.extents[0], panel) * wide
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


def _panels(extent: Extent, panel: int) -> int:
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


def _is_product(plan: Plan, stage: Stage) -> bool:
    root = stage.nodes[0]
    return stage.kind == "map" and isinstance(root, Map) and is_product(root, plan.schedule)


DEVICE = Dialect(DeviceBody, "static __device__ void", "static __device__ void", together=False, omits=_is_product)


def emit_cuda(model_name: str, plans: Sequence[Plan], real: str = "float64", prefix: str | None = None) -> CudaFiles:
    """CUDA text of all ``plans``, which must have been made for a GPU (:func:`cpgen.loops.device.device_plan`).

    The functions of math.h are those of the runtime header, except for square roots and absolute values, which IEEE
    arithmetic defines.  Raises RequestError if a plan was made for another ``real`` or tile.
    """
    name = external_prefix(prefix or model_name)
    if any(p.real != real or p.tile != LANES for p in plans):
        raise RequestError(f"programs of {model_name} for a GPU must be planned for {real} and tiles of {LANES} rows")
    views = tuple(_device_view(plan, name) for plan in plans)
    scalar = runtime_header("cpgen_scalar.h")
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": cpgen.__version__,
        "real": real,
        "programs": views,
        "alignment": ALIGNMENT,
        "largest": LARGEST,
        "most_threads": MOST_THREADS,
        "spread": any(v.spread for v in views),
        "notes": [],
        "definitions": [_device(d) for d in dict.fromkeys(d for v in views for d in v.definitions)],
    }
    header_text = {file: _ieee(runtime_header(file)) for file in ("cpgen_philox.h", "cpgen_scalar.h")}
    body = _ieee(own_functions(render("cuda/program.cu.j2", {**context, "runtime": []}), scalar, real))
    runtime = []
    for text in header_text.values():
        chosen = select(text, uses(_code(body)))
        runtime += [_device(_own_text(chosen))] if "static inline" in chosen else []
    source = _ieee(own_functions(render("cuda/program.cu.j2", {**context, "runtime": runtime}), scalar, real))
    declarations = render("cuda/declarations.h.j2", context)
    header = render("cuda/program.h.j2", {**context, "declarations": declarations})
    return CudaFiles(name, header, source, declarations, views)


def _own_text(text: str) -> str:
    """A runtime header without its include guard and includes: it becomes part of the source."""
    text = re.sub(r"^#(?:ifndef|define) CPGEN_\w+_H\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n#endif[^\n]*\n*\Z", "\n", text)
    return re.sub(r"^#include .*\n+", "", text, flags=re.MULTILINE)


def _ieee(text: str) -> str:
    """``text`` with the device's square root and absolute value, which round as IEEE arithmetic asks."""
    for name in ("sqrt", "fabs"):
        text = re.sub(rf"^static inline \w+ cpgen_{name}_f(?:32|64)\(.*?^}}\n+", "", text, flags=re.MULTILINE | re.DOTALL)
        text = text.replace(f"cpgen_{name}_f64(", f"{name}(").replace(f"cpgen_{name}_f32(", f"{name}f(")
    return text


def _code(text: str) -> str:
    """``text`` without its comments."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _device(text: str) -> str:
    return re.sub(r"^static inline", "static __device__ inline", text, flags=re.MULTILINE)


def _device_view(plan: Plan, model: str) -> DeviceView:
    view = program_view(plan, model, DEVICE)
    size = f"{view.name}_workspace_bytes"
    statuses = [
        replace(s, test=s.test.replace(f"{size}(", f"{size}_cuda(").replace(", args->threads)", ")"))
        for s in view.statuses
    ]
    lowest = min(s.code for s in statuses)
    statuses.append(Status(f"{view.upper}_LAUNCH_FAILED", lowest - 1, "a kernel could not be launched", ""))

    def kernels(stages: Sequence[Stage], calls: Sequence[str]) -> tuple[Kernel, ...]:
        return tuple(_kernel(s, c, plan) for s, c in zip(stages, calls, strict=True))

    spread = _spread(plan, view) if plan.schedule.products else ()
    sums = kernels(plan.accumulate, view.accumulate)
    steps = [step for segment in spread for step in segment.steps]
    gemm = any(k.library for k in sums) or any(step.product.gemm for step in steps if step.product)
    fields = list(view.fields)
    if gemm:
        statuses.append(Status(f"{view.upper}_GEMM_FAILED", lowest - 2, "gemm returned an error", ""))
        fields += [
            Field("gemm", f"{view.name}_gemm *gemm", "the caller's library for large products, or NULL"),
            Field("gemm_context", "void *gemm_context", "its first argument"),
        ]
    return DeviceView(
        replace(view, statuses=tuple(statuses), fields=tuple(fields)),
        plan,
        kernels(plan.setup, view.setup),
        sums,
        kernels(plan.finish, view.finish),
        _grid([stage.nodes[0] for stage in plan.accumulate], plan.schedule),
        spread,
        gemm,
    )


def _spread(plan: Plan, view: ProgramView) -> tuple[SegmentSteps, ...]:
    """The row phase in launches: each product is one, and so is each run of other stages between them."""
    segments = []
    number = 0
    for segment in plan.segments:
        steps: list[Step] = []
        for stage in segment.stages:
            if _is_product(plan, stage):
                number += 1
                steps.append(Step(number, segment.columns, product=_product_view(plan, stage)))
            elif steps and steps[-1].product is None:
                steps[-1] = replace(steps[-1], calls=(*steps[-1].calls, view.calls[stage.number]))
            else:
                number += 1
                steps.append(Step(number, segment.columns, calls=(view.calls[stage.number],)))
        segments.append(SegmentSteps(segment.columns, tuple(steps)))
    return tuple(segments)


def _product_view(plan: Plan, stage: Stage) -> ProductView:
    root = stage.nodes[0]
    assert isinstance(root, Map)
    found = product(root)
    assert found is not None
    weights = plan.value(found.weights.node)
    if weights.work is not None:
        matrix = address(plan, weights.work, weights.name)
    else:
        matrix = f"args->{weights.name}"

    def row_value(node: Node) -> tuple[str, ...]:
        """Address, numbers between two elements, and between two columns."""
        value = plan.value(node)
        assert value.tile is not None
        place, stride = address(plan, value.tile, value.name, "f->stride"), "f->stride"
        if not node.has_columns:
            return place, stride, "0"
        if value.tile.columns:
            return f"{place} + f->col * f->stride * {value.tile.elements}", stride, f"{value.tile.elements} * {stride}"
        return place, f"cols * {stride}", stride

    members = (
        (matrix, str(found.weights.node.element_shape[-1]), "1" if found.transposed else "0"),
        row_value(found.values.node),
        row_value(root),
        (str(found.outs), str(found.depth), "padded", "cols" if root.has_columns else "1"),
    )
    large = 0 < plan.schedule.gemm <= found.outs * found.depth
    on_host = tuple(tuple(m.replace("f->", "frame.") for m in group) for group in members)
    return ProductView(stage.number, tuple(stage_text(plan, stage)), on_host, large)


def _kernel(stage: Stage, call: str, plan: Plan) -> Kernel:
    schedule = plan.schedule
    size = 8 if plan.real == "float64" else 4
    staged, root = operands(stage, schedule), stage.nodes[0]
    if sums_terms(stage) and not staged:
        count = elements(root)
        width = owned(count)
        blocks = f"blocks_for({-(-count // width)}, 1, {schedule.most_blocks})"
        return Kernel(stage.number, call, blocks, schedule.terms // width * width * size)
    if not staged:
        return Kernel(stage.number, call, _grid(stage.nodes, schedule))
    assert isinstance(root, Map)
    tiles = _panels(root.extents[0], schedule.panel) * _panels(root.extents[1], schedule.panel)
    numbers = len(staged) * schedule.panel * schedule.depth
    blocks = f"blocks_for({tiles}, 1, {schedule.most_blocks})"
    return Kernel(stage.number, call, blocks, numbers * size, _outer_product(plan, stage))


def _outer_product(plan: Plan, stage: Stage) -> tuple[tuple[str, ...], ...]:
    """A plain outer product summed over rows as a product, where the caller's library may do it; else nothing.

    The one side takes the place of the weights, and the rows of a chunk that of the terms.
    """
    root = stage.nodes[0]
    assert isinstance(root, Map)
    outs, wide = (constant(e) for e in root.extents[:2])
    schedule = plan.schedule
    if not (schedule.products and 0 < schedule.gemm <= outs * wide):
        return ()
    if len(root.args) != 2 or root.expr != placeholder(0) * placeholder(1) or len(operands(stage, schedule)) != 2:
        return ()
    left, right = sorted(root.args, key=lambda a: a.index[-1].axis or 0)
    if left.index[-1].axis == right.index[-1].axis:
        return ()

    def side(node: Node) -> tuple[str, str]:
        """Address of the chunk's rows, and numbers from row to row."""
        value = plan.value(node)
        pitch = elements(node)
        if value.rows is not None:
            return address(plan, value.rows, value.name), str(pitch)
        return f"args->{value.name} + f->begin * {pitch}", str(pitch)

    value = plan.value(root)
    if value.direct:
        target = f"args->{plan.output_field(value.direct)}"
    else:
        assert value.work is not None
        target = address(plan, value.work, value.name)
    members = (
        (*side(left.node), "1"),
        (*side(right.node), "0"),
        (target, str(wide), "0"),
        (str(outs), "f->count", str(wide), "1"),
    )
    return tuple(tuple(m.replace("f->", "frame.") for m in group) for group in members)


def _grid(nodes: Sequence[Node], schedule: Schedule) -> str:
    """Blocks for the largest of ``nodes``, as C text."""
    if not nodes:
        return "1U"
    largest = max(nodes, key=elements)
    total = f"{'frame.columns * ' if largest.has_columns else ''}{elements(largest)}"
    return f"blocks_for({total}, {schedule.threads}, {schedule.most_blocks})"
