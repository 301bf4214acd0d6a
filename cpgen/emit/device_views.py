"""What the templates see of a program for a GPU: its launches, with their blocks, beside all that the C version has.

Where the values of a tile are too many for shared memory, products with large weights are kernels of their own, over all
rows of a chunk: the row phase is then several launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpgen.code.rewrite import rebuilt
from cpgen.code.tree import Call, Expression, Literal, Name, Statement, Type, binary, joined, number, of
from cpgen.emit.device_body import device_body
from cpgen.emit.device_panels import operands, panels_along
from cpgen.emit.device_sums import owned, sums_terms
from cpgen.emit.names import address, constant, elements
from cpgen.emit.spelling import Spelling
from cpgen.emit.views import Dialect, Field, ProgramView, Status, program_view, stage_text
from cpgen.ir.nodes import Map, Node
from cpgen.loops.plan import Plan, Stage
from cpgen.loops.products import is_product, product
from cpgen.loops.schedule import Schedule
from cpgen.scalar import placeholder

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
    root = stage.nodes[0]
    return stage.kind == "map" and isinstance(root, Map) and is_product(root, plan.schedule)


DEVICE = Dialect(device_body, "static __device__ void", "static __device__ void", together=False, omits=_is_product)


def device_view(plan: Plan, model: str) -> DeviceView:
    view = program_view(plan, model, DEVICE)
    size = f"{view.name}_workspace_bytes"

    def on_device(node: Any) -> Any:
        if isinstance(node, Call) and node.function == size:
            return Call(f"{size}_cuda", node.arguments[:-1])  # which need not know the threads
        return node

    statuses = [
        replace(s, test=rebuilt(s.test, on_device))
        for s in view.statuses
        if s.code <= 0  # the results are not known when it returns
    ]
    lowest = min(s.code for s in statuses)
    statuses.append(Status(f"{view.upper}_LAUNCH_FAILED", lowest - 1, "a kernel could not be launched", None))

    def kernels(stages: Sequence[Stage], calls: Sequence[Statement]) -> tuple[Kernel, ...]:
        return tuple(_kernel(s, c, plan) for s, c in zip(stages, calls, strict=True))

    spread = _spread(plan, view) if plan.schedule.products else ()
    sums = kernels(plan.accumulate, view.accumulate)
    steps = [step for segment in spread for step in segment.steps]
    gemm = any(k.library for k in sums) or any(step.product.gemm for step in steps if step.product)
    fields = list(view.fields)
    if gemm:
        statuses.append(Status(f"{view.upper}_GEMM_FAILED", lowest - 2, "gemm returned an error", None))
        fields += [
            Field("gemm", Type(f"{view.name}_gemm", pointer=True), "the caller's library for large products, or NULL"),
            Field("gemm_context", Type("void", pointer=True), "its first argument"),
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
    large = 0 < plan.schedule.gemm <= found.outs * found.depth
    return ProductView(stage.number, tuple(stage_text(plan, stage)), members, large)


def _kernel(stage: Stage, call: Statement, plan: Plan) -> Kernel:
    schedule = plan.schedule
    size = 8 if plan.real == "float64" else 4
    staged, root = operands(stage, schedule), stage.nodes[0]
    if sums_terms(stage) and not staged:
        count = elements(root)
        width = owned(count)
        blocks = _blocks(number(-(-count // width)), 1, schedule)
        return Kernel(stage.number, call, blocks, schedule.terms // width * width * size)
    if not staged:
        return Kernel(stage.number, call, _grid(stage.nodes, schedule))
    assert isinstance(root, Map)
    tiles = panels_along(root.extents[0], schedule.panel) * panels_along(root.extents[1], schedule.panel)
    numbers = len(staged) * schedule.panel * schedule.depth
    blocks = _blocks(number(tiles), 1, schedule)
    return Kernel(stage.number, call, blocks, numbers * size, _outer_product(plan, stage))


def _outer_product(plan: Plan, stage: Stage) -> Members:
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


def _blocks(items: Expression, each: int, schedule: Schedule) -> Expression:
    """The blocks for some things of which a block has ``each``."""
    return Call("blocks_for", (items, number(each), number(schedule.most_blocks)))


def _grid(nodes: Sequence[Node], schedule: Schedule) -> Expression:
    """Blocks for the largest of ``nodes``."""
    if not nodes:
        return Literal("1U")
    largest = max(nodes, key=elements)
    count = number(elements(largest))
    total = binary("*", of(HOST, "columns"), count) if largest.has_columns else count
    return _blocks(total, schedule.threads, schedule)
