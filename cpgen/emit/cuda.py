"""Stages as device code: the same arithmetic in the same order as in C, spread over the threads of a GPU.

A block owns a tile of rows.  Its threads are a grid of lanes (the row in the tile, threadIdx.x) by workers
(threadIdx.y); workers share the items of a stage, and a barrier ends each stage.  Stages without rows are kernels of
their own in which every thread owns some elements; for outer products summed over rows a block owns a square panel.
All sums run in the order of the C text, so results have its bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cpgen
from cpgen.emit.body import StageBody, constant, mentions, times
from cpgen.emit.render import render, runtime_header
from cpgen.emit.runtime import own_functions, select, uses
from cpgen.emit.statements import Body, Statement, branch, factor, line, loop
from cpgen.emit.views import LARGEST, MOST_THREADS, Dialect, ProgramView, Status, program_view
from cpgen.errors import RequestError
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Extent, Map, Node
from cpgen.loops.names import identifier
from cpgen.loops.phases import ACCUMULATE, ROW
from cpgen.loops.plan import ALIGNMENT, Nest, Plan, Stage
from cpgen.loops.ranges import access_checks, guard_checks

LANES = 32  # rows of a tile: a warp
WORKERS = 8  # threads for each of them
THREADS = 128  # of a block in stages without rows
MOST_BLOCKS = 1024  # of one launch
TILES_PER_CHUNK = 256  # between two visits of the sums over rows
SHARED_BYTES = 96 * 1024  # of a tile that is kept in shared memory
PANEL = 64  # output elements along both sides of what a block sums over rows together
PANEL_ROWS = 16  # rows of the operands in shared memory at a time
LEAST_PANEL = 32  # output elements along a side from which on panels are used
MOST_OPERANDS = 3  # in shared memory
DOWN, ACROSS = 8, 16  # threads of a block along the sides of a panel


@dataclass(frozen=True)
class Kernel:
    """One stage without rows: its number, the call of its function, and the blocks it is launched with."""

    number: int
    call: str
    grid: str
    shared: int = 0  # bytes


@dataclass(frozen=True)
class DeviceView:
    """A program and its launches: ``before`` and ``after`` the rows, and the ``sums`` over a chunk of them."""

    program: ProgramView
    before: tuple[Kernel, ...]
    sums: tuple[Kernel, ...]
    after: tuple[Kernel, ...]
    clear_grid: str

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
        self.panels: dict[Access, str] = {}  # operands that are read from shared memory, and where
        self.in_panels = operands(stage) != ()

    def build(self) -> Body:
        if self.stage.phase == ROW:
            self._declare("lane", "const ptrdiff_t", "(ptrdiff_t)threadIdx.x")
        return super().build()

    # Outer products summed over rows: a block owns PANEL x PANEL elements, each thread some of them

    def _map(self) -> Body:
        if not self.in_panels:
            return super()._map()
        nest, root = self.stage.nest, self.stage.nodes[0]
        assert nest is not None and isinstance(root, Map)
        down, across = (self.axes[a] for a in range(2))
        staged = operands(self.stage)
        fetch: Body = []
        for k, access in enumerate(staged):
            side = next(i.axis for i in access.index if i.axis is not None and i.axis < 2)
            name, extent = self.axes[side], constant(root.extents[side])
            here = f"panel[{k * PANEL * PANEL_ROWS} + item]" if k else "panel[item]"
            read = [
                line(f"const ptrdiff_t {name} = {name}_first + item % {PANEL};"),
                line(f"{here} = {name} < {extent} ? {super()._element(access)} : {self.zero};"),
            ]
            fetch.append(Statement("", read))
            place = f"{DOWN} * step + down" if side == 0 else f"{ACROSS} * lane + across"
            first = k * PANEL_ROWS
            self.panels[access] = f"panel[{f'({first} + part)' if first else 'part'} * {PANEL} + {place}]"
        start = self._over_block(nest, [line(f"{self._sum_text(nest)} = {self._result(root, nest)};")])
        lets, text = self._expression(root)
        self.panels.clear()
        add = [*lets, line(f"{self._sum_text(nest)} += {text};")]
        rows = [
            line(f"const ptrdiff_t left = f->count - first < {PANEL_ROWS} ? f->count - first : {PANEL_ROWS};"),
            Statement(
                f"for (ptrdiff_t item = threadIdx.x; item < left * {PANEL}; item += BLOCK_THREADS)",
                [line(f"const ptrdiff_t row = first + item / {PANEL};"), *fetch],
            ),
            line("__syncthreads();"),
            loop("part", "left", self._over_sums(add)),
            line("__syncthreads();"),
        ]
        wide = _panels(root.extents[1])
        body: Body = [
            line(f"const ptrdiff_t {down}_first = (tile / {wide}) * {PANEL};"),
            line(f"const ptrdiff_t {across}_first = (tile % {wide}) * {PANEL};"),
            line(f"{self.real} sum[{PANEL // DOWN}][{PANEL // ACROSS}] = {{}};"),
            *start,
            loop("first", "f->count", rows, step=PANEL_ROWS),
            *self._finish(root, nest),
        ]
        tiles = _panels(root.extents[0]) * wide
        return [
            line(f"CPGEN_SHARED({self.real}, panel);"),
            line(f"const ptrdiff_t down = threadIdx.x / {ACROSS};"),
            line(f"const ptrdiff_t across = threadIdx.x % {ACROSS};"),
            Statement(f"for (ptrdiff_t tile = blockIdx.x; tile < {tiles}; tile += gridDim.x)", body),
        ]

    def _element(self, access: Access) -> str:
        return self.panels.get(access) or super()._element(access)

    def _over_sums(self, body: Body) -> Body:
        """``body`` for each sum of a thread, with its place in the output declared where it is used."""
        for a, place in ((1, f"{ACROSS} * lane + across"), (0, f"{DOWN} * step + down")):
            name = self.axes[a]
            if mentions(body, name):
                body = [line(f"const ptrdiff_t {name} = {name}_first + {place};"), *body]
        return [loop("step", PANEL // DOWN, [loop("lane", PANEL // ACROSS, body)])]

    def _overlap(self, root: Map, nest: Nest) -> list[str]:
        return [] if self.in_panels else super()._overlap(root, nest)

    # Every thread has a lane of its own

    def _sum_text(self, nest: Nest, text: str = "sum") -> str:
        if self.in_panels:
            return f"{text}[step][lane]"
        return text if nest.block is None else f"{text}[step]"

    def _sum_declaration(self, nest: Nest, sums: str = "sum") -> str:
        return f"{self.real} {sums};" if nest.block is None else f"{self.real} {sums}[{nest.block_width}];"

    def _over_block(self, nest: Nest, body: Body) -> Body:
        if self.in_panels:
            root = self.stage.nodes[0]
            assert isinstance(root, Map)
            inside = " && ".join(f"{self.axes[a]} < {constant(root.extents[a])}" for a in range(2))
            return self._over_sums([branch(inside, body)])
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


def operands(stage: Stage) -> tuple[Access, ...]:
    """What a stage should read through shared memory: the row values of a large outer product summed over rows.

    Empty for any other stage.  An operand belongs to one side of the output and to the rows, so that a block reads it
    once for all elements of a panel.
    """
    nest, root = stage.nest, stage.nodes[0]
    if stage.phase != ACCUMULATE or nest is None or not isinstance(root, Map) or root.reduce != "sum":
        return ()
    sizes = root.extents[: root.rank]
    if len(sizes) != 2 or any(not isinstance(e, int) or e < LEAST_PANEL for e in sizes):
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


def _panels(extent: Extent) -> int:
    """How many panels lie along an axis."""
    return -(-constant(extent) // PANEL)


def _strided(variable: str, stop: str, body: Body, who: str = "WORKER") -> Statement:
    """A loop whose values belong to the workers of a block, or to all threads of the grid."""
    return Statement(f"for (ptrdiff_t {variable} = {who}; {variable} < {stop}; {variable} += {who}S)", body)


def _flat(loops: Sequence[tuple[str, str, int]]) -> tuple[str, Body]:
    """How many points the loops have together, and the variables at point ``item``."""
    places: Body = []
    rest = "item"
    for k in range(len(loops) - 1, -1, -1):
        name, count, step = loops[k]
        here = rest if k == 0 else f"{rest} % {factor(count)}"
        places.insert(0, line(f"const ptrdiff_t {name} = {times(here, str(step))};"))
        rest = f"{rest} / {factor(count)}"
    return " * ".join(count for _, count, _ in loops), places


DEVICE = Dialect(DeviceBody, "static __device__ void", "static __device__ void", together=False)


def emit_cuda(model_name: str, plans: Sequence[Plan], real: str = "float64", prefix: str | None = None) -> CudaFiles:
    """CUDA text of all ``plans``, which must have been made with ``tile=LANES`` and ``compact=True``.

    The functions of math.h are those of the runtime header, except for square roots and absolute values, which IEEE
    arithmetic defines.  Raises RequestError if a plan was made for another ``real`` or tile.
    """
    name = identifier(prefix or model_name, "model")
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
        "workers": WORKERS,
        "threads": THREADS,
        "most_blocks": MOST_BLOCKS,
        "most_threads": MOST_THREADS,
        "tiles_per_chunk": TILES_PER_CHUNK,
        "shared_bytes": SHARED_BYTES,
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
        return tuple(_kernel(s, c, plan.real) for s, c in zip(stages, calls, strict=True))

    return DeviceView(
        replace(view, statuses=tuple(statuses)),
        kernels(plan.setup, view.setup),
        kernels(plan.accumulate, view.accumulate),
        kernels(plan.finish, view.finish),
        _grid([stage.nodes[0] for stage in plan.accumulate]),
    )


def _kernel(stage: Stage, call: str, real: str) -> Kernel:
    staged, root = operands(stage), stage.nodes[0]
    if not staged:
        return Kernel(stage.number, call, _grid(stage.nodes))
    assert isinstance(root, Map)
    tiles = _panels(root.extents[0]) * _panels(root.extents[1])
    numbers = len(staged) * PANEL * PANEL_ROWS
    return Kernel(stage.number, call, f"blocks_for({tiles}, 1)", numbers * (8 if real == "float64" else 4))


def _grid(nodes: Sequence[Node]) -> str:
    """Blocks for the largest of ``nodes``, as C text."""
    if not nodes:
        return "1U"
    texts = [_elements(node) for node in nodes]
    return f"blocks_for({max(texts, key=lambda pair: pair[0])[1]}, BLOCK_THREADS)"


def _elements(node: Node) -> tuple[int, str]:
    count = 1
    for extent in node.element_shape:
        count *= extent
    return count, f"{count}" if not node.has_columns else f"frame.columns * {count}"
