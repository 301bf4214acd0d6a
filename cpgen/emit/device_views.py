"""What the templates see of a program for a GPU: its launches, with their blocks, beside all that the C version has.

Where the values of a tile are too many for shared memory, products with large weights are kernels of their own, over all
rows of a chunk: the row phase is then several launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpgen.code.tree import Call, Expression, Literal, Name, Statement, Type, binary, joined, number, of
from cpgen.emit.arguments import NUMBERS, Field, fields
from cpgen.emit.device_body import device_body
from cpgen.emit.device_interface import (
    DeviceStatus,
    SizeView,
    device_clear,
    device_statuses,
    numbers_of,
    size_view,
)
from cpgen.emit.names import address, constant, elements
from cpgen.emit.spelling import Spelling
from cpgen.emit.views import Dialect, ProgramView, program_view, stage_text
from cpgen.ir.nodes import Map, Node
from cpgen.loops.kernels import Launch, Multiply, Panels, Terms, Threads
from cpgen.loops.plan import Plan, Stage
from cpgen.loops.schedule import Schedule

Members = tuple[tuple[Expression, ...], ...]  # what the structure of a product is filled with, by array
HOST = "frame"  # in code of the host the frame is a structure, in kernels a pointer f


@dataclass(frozen=True)
class Kernel:
    """One stage without rows: its number, the call of its function, and the blocks it is launched with.

    ``library``: the members of a product's structure by array, if the caller's library may do it.
    """

    number: int
    call: Statement
    grid: Expression
    shared: int = 0  # bytes
    library: Members = ()


@dataclass(frozen=True)
class ProductView:
    """One launch of the kernel for products: the members of its argument structure by array, and the comment."""

    stage: int
    comment: tuple[str, ...]
    members: Members
    gemm: bool  # whether the caller's library may do it


@dataclass(frozen=True)
class Step:
    """A part of the row phase that is a launch of its own: calls of stages over tiles, or a product."""

    number: int
    columns: bool
    calls: tuple[Statement, ...] = ()
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
    fields: tuple[Field, ...]
    statuses: tuple[DeviceStatus, ...]
    size: SizeView
    work_numbers: Expression
    tile_numbers: Expression
    sizes_use_columns: bool
    before: tuple[Kernel, ...]
    sums: tuple[Kernel, ...]
    after: tuple[Kernel, ...]
    clear_grid: Expression
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

    def spelled(self, spelling: Spelling) -> DeviceView:
        """This program with the names of a text."""
        tree = spelling.tree
        program = self.program.spelled(spelling)

        def kernels(found: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
            return tuple(replace(k, call=tree(k.call)) for k in found)

        spread = tuple(
            replace(part, steps=tuple(replace(step, calls=tree(step.calls)) for step in part.steps))
            for part in self.spread
        )
        return replace(
            self,
            program=program,
            before=kernels(self.before),
            sums=kernels(self.sums),
            after=kernels(self.after),
            spread=spread,
        )

    def __getattr__(self, name: str) -> Any:
        """For the templates: everything that the C version has."""
        return getattr(self.program, name)


def _is_product(plan: Plan, stage: Stage) -> bool:
    return isinstance(stage.kernel, Multiply)


DEVICE = Dialect(
    device_body,
    "static __device__ void",
    "static __device__ void",
    lambda name: f"{name}_frame",
    arguments=False,
    together=False,
    omits=_is_product,
)


def device_view(plan: Plan, model: str) -> DeviceView:
    view = program_view(plan, model, DEVICE, lambda found: device_clear(plan, found.name))
    statuses = device_statuses(plan, view.name)
    lowest = min(s.code for s in statuses)
    statuses.append(DeviceStatus(f"{view.upper}_LAUNCH_FAILED", lowest - 1, "a kernel could not be launched", None))

    def kernels(stages: Sequence[Stage], calls: Sequence[Statement]) -> tuple[Kernel, ...]:
        return tuple(_kernel(s, c, plan) for s, c in zip(stages, calls, strict=True))

    spread = _spread(plan, view) if plan.spread else ()
    sums = kernels(plan.accumulate, view.accumulate)
    steps = [step for segment in spread for step in segment.steps]
    gemm = any(k.library for k in sums) or any(step.product.gemm for step in steps if step.product)
    members = list(fields(plan, model, NUMBERS))
    if gemm:
        statuses.append(DeviceStatus(f"{view.upper}_GEMM_FAILED", lowest - 2, "gemm returned an error", None))
        members += [
            Field("gemm", Type(f"{view.name}_gemm", pointer=True), "the caller's library for large products, or NULL"),
            Field("gemm_context", Type("void", pointer=True), "its first argument"),
        ]
    return DeviceView(
        view,
        plan,
        tuple(members),
        tuple(statuses),
        size_view(plan),
        numbers_of(plan.work),
        numbers_of(plan.tile_memory),
        any(t.columns for t in ((plan.work, plan.tile_memory, plan.rows) if plan.segments else (plan.work,))),
        kernels(plan.setup, view.setup),
        sums,
        kernels(plan.finish, view.finish),
        _grid(plan.clear, plan.schedule) if plan.clear else Literal("1U"),
        spread,
        gemm,
    )


def _spread(plan: Plan, view: ProgramView) -> tuple[SegmentSteps, ...]:
    """The row phase in its launches."""
    segments = []
    number = 0
    for segment in plan.segments:
        steps = []
        for stages in segment.launches:
            number += 1
            kernel = stages[0].kernel
            if isinstance(kernel, Multiply):
                steps.append(Step(number, segment.columns, product=_product_view(plan, stages[0], kernel)))
            else:
                calls = tuple(view.calls[stage.number] for stage in stages)
                steps.append(Step(number, segment.columns, calls))
        segments.append(SegmentSteps(segment.columns, tuple(steps)))
    return tuple(segments)


def _product_view(plan: Plan, stage: Stage, kernel: Multiply) -> ProductView:
    root, found = stage.nodes[0], kernel.product
    weights = plan.value(found.weights.node)
    if weights.work is not None:
        matrix = address(plan, weights.work, weights.name, frame=HOST)
    else:
        matrix = of("args", weights.name)
    stride, cols = of(HOST, "stride"), Name("cols")

    def row_value(node: Node) -> tuple[Expression, ...]:
        """Address, numbers between two elements, and between two columns."""
        value = plan.value(node)
        assert value.tile is not None
        place = address(plan, value.tile, value.name, stride, HOST)
        if not node.has_columns:
            return place, stride, number(0)
        if value.tile.columns:
            count = number(value.tile.elements)
            at = binary("*", binary("*", of(HOST, "col"), stride), count)
            return joined(place, at), stride, binary("*", count, stride)
        return place, binary("*", cols, stride), stride

    members: Members = (
        (matrix, number(found.weights.node.element_shape[-1]), number(int(found.transposed))),
        row_value(found.values.node),
        row_value(root),
        (number(found.outs), number(found.depth), Name("padded"), cols if root.has_columns else number(1)),
    )
    return ProductView(stage.number, tuple(stage_text(plan, stage)), members, kernel.gemm)


def _kernel(stage: Stage, call: Statement, plan: Plan) -> Kernel:
    kernel = stage.kernel
    assert isinstance(kernel, (Threads, Panels, Terms)) and kernel.launch is not None
    library = _outer_product(plan, stage) if isinstance(kernel, Panels) and kernel.gemm else ()
    return Kernel(stage.number, call, _grid(kernel.launch, plan.schedule), kernel.launch.shared, library)


def _outer_product(plan: Plan, stage: Stage) -> Members:
    """An outer product summed over rows as a product for the caller's library.

    The one side takes the place of the weights, and the rows of a chunk that of the terms.
    """
    root = stage.nodes[0]
    assert isinstance(root, Map)
    outs, wide = (constant(e) for e in root.extents[:2])
    left, right = sorted(root.args, key=lambda a: a.index[-1].axis or 0)

    def side(node: Node) -> tuple[Expression, Expression]:
        """Address of the chunk's rows, and numbers from row to row."""
        value = plan.value(node)
        pitch = number(elements(node))
        if value.rows is not None:
            return address(plan, value.rows, value.name, frame=HOST), pitch
        return joined(of("args", value.name), binary("*", of(HOST, "begin"), pitch)), pitch

    value = plan.value(root)
    if value.direct:
        target: Expression = of("args", plan.output_field(value.direct))
    else:
        assert value.work is not None
        target = address(plan, value.work, value.name, frame=HOST)
    return (
        (*side(left.node), number(1)),
        (*side(right.node), number(0)),
        (target, number(wide), number(0)),
        (number(outs), of(HOST, "count"), number(wide), number(1)),
    )


def _grid(launch: Launch, schedule: Schedule) -> Expression:
    """The number of blocks of a launch."""
    count: Expression = number(launch.items)
    items = binary("*", of(HOST, "columns"), count) if launch.by_columns else count
    return Call("blocks_for", (items, number(launch.each), number(schedule.most_blocks)))
