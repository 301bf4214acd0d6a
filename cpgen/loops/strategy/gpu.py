"""The threads of a GPU: a block owns a tile of rows, and every stage without rows is a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from cpgen.ir.nodes import ROWS, Access, Map, Node
from cpgen.loops.beside import reads_by_column
from cpgen.loops.kernels import Kernel, Launch, Multiply, Panels, Product, Terms, Threads
from cpgen.loops.plan import ACCUMULATE, ALIGNMENT, ROW, Nest, Stage
from cpgen.loops.products import product
from cpgen.loops.ranges import access_checks, guard_checks
from cpgen.loops.schedule import LANES, Schedule
from cpgen.loops.strategy.compact import Compact
from cpgen.scalar import placeholder

MOST_OPERANDS = 3  # of an outer product, in shared memory


@dataclass(frozen=True)
class Gpu(Compact):
    """By the numbers of ``by``."""

    rows: int | None = LANES
    by: Schedule = Schedule()

    @property
    def schedule(self) -> Schedule:
        return self.by

    @property
    def alignment(self) -> int:
        return ALIGNMENT

    @property
    def columns(self) -> int:
        return self.by.columns

    def alone(self, node: Map) -> bool:
        return self._product(node) is not None

    def vector(self, node: Map, in_rows: bool, free: Sequence[int]) -> int | None:
        return free[-1] if free and not in_rows else None

    def dealt(self, nest: Nest, root: Map, phase: str, wait: bool = True) -> Nest:
        """Neighbouring threads take the place of the vector unit."""
        if nest.lanes or nest.vector is None:
            return nest
        return replace(nest, outer=(*nest.outer, nest.vector), vector=None, vector_width=0)

    def kernel(self, stage: Stage, tile: int, in_columns: bool) -> Kernel:
        root = stage.nodes[0]
        if stage.phase == ROW:
            found = self._product(root) if stage.kind == "map" else None
            return self._threads(stage, in_columns) if found is None else Multiply(found, self._by_library(found.size))
        if stage.phase == ACCUMULATE:
            assert isinstance(root, Map)
            return self._panels(stage, root) or self._terms(stage, root) or self._elements(stage)
        return self._elements(stage)

    def _product(self, node: Node) -> Product | None:
        """A product that is a launch of its own."""
        found = product(node) if self.by.products and isinstance(node, Map) else None
        return found if found is not None and min(found.outs, found.depth) >= self.by.products else None

    def _by_library(self, size: int) -> bool:
        return 0 < self.by.gemm <= size

    def _threads(self, stage: Stage, in_columns: bool) -> Threads:
        """A stage of a tile.

        The sums of several columns are held at once, but for those that go on from column to column and those whose
        indices or tests are of a column.
        """
        nest, root = stage.nest, stage.nodes[0]
        batch = in_columns and self.by.columns > 1
        if nest is None:
            moved = stage.kind in ("load", "keep", "store")
            return Threads(batch, squares=moved and 0 < self.by.products <= _elements(root))
        alike = not nest.carried and not any(reads_by_column(n) for n in stage.nodes)
        at_once = batch and alike and bool(nest.reduction) and root.has_columns
        return Threads(batch, at_once, order=_order(nest, stage.phase))

    def _elements(self, stage: Stage) -> Threads:
        """A stage without rows."""
        order = _order(stage.nest, stage.phase) if stage.nest else ()
        return Threads(order=order, launch=self._launch(stage.nodes))

    def _panels(self, stage: Stage, root: Map) -> Panels | None:
        """For a large outer product summed over rows."""
        operands = self._operands(stage, root)
        if not operands:
            return None
        sizes = [_constant(e) for e in root.extents[:2]]
        down, across = (-(-size // self.by.panel) for size in sizes)
        shared = len(operands) * self.by.panel * self.by.depth * self.number_bytes
        plain = len(root.args) == 2 and root.expr == placeholder(0) * placeholder(1) and len(operands) == 2
        both = len({access.index[-1].axis for access in root.args}) == 2
        gemm = bool(self.by.products) and self._by_library(prod(sizes)) and plain and both
        return Panels(operands, (down, across), Launch(down * across, False, 1, shared), gemm)

    def _operands(self, stage: Stage, root: Map) -> tuple[Access, ...]:
        """What an outer product reads of rows; () for anything else.

        An operand belongs to one side of the output and to the rows, so that a block reads it once for all elements of a
        panel.
        """
        sizes = root.extents[: root.rank]
        if root.reduce != "sum" or len(sizes) != 2:
            return ()
        if any(not isinstance(e, int) or e < self.by.least_panel for e in sizes):
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

    def _terms(self, stage: Stage, root: Map) -> Terms | None:
        """For a sum over rows whose terms the threads of a block can compute together."""
        nest = stage.nest
        if nest is None or root.has_columns or root.reduce != "sum" or len(stage.nodes) > 1:
            return None
        reduced = [root.extents[a] for a in nest.reduction]
        inside = reduced[0] is ROWS and all(isinstance(e, int) for e in reduced[1:])
        if not inside or guard_checks(root.guards, root.extents):
            return None
        count, width = _elements(root), 1
        while width < min(count, LANES):
            width *= 2
        shared = self.by.terms // width * width * self.number_bytes
        return Terms(width, Launch(-(-count // width), False, 1, shared))

    def _launch(self, nodes: Sequence[Node]) -> Launch:
        """A thread for each element of the largest of ``nodes``."""
        largest = max(nodes, key=_elements)
        return Launch(_elements(largest), largest.has_columns, self.by.threads)

    def launches(self, stages: Sequence[Stage]) -> tuple[tuple[Stage, ...], ...]:
        """Each product is one, and so is each run of other stages between them."""
        found: list[tuple[Stage, ...]] = []
        for stage in stages if self.by.products else ():
            if found and not any(isinstance(s.kernel, Multiply) for s in (stage, found[-1][0])):
                found[-1] = (*found[-1], stage)
            else:
                found.append((stage,))
        return tuple(found)

    def clear(self, accumulate: Sequence[Stage]) -> Launch | None:
        return self._launch([stage.nodes[0] for stage in accumulate]) if accumulate else None

    def reasons(self, tile: int) -> tuple[str, ...]:
        return (f"the threads of a GPU, {tile} rows in a tile", *self.by.reasons)


def _order(nest: Nest, phase: str) -> tuple[int, ...]:
    """The output axes, blocks last; of sums over rows the last outer axis, along which neighbours lie."""
    if nest.block is None:
        return nest.outer
    last = len(nest.outer) - (1 if phase == ACCUMULATE and nest.outer else 0)
    return (*nest.outer[:last], nest.block, *nest.outer[last:])


def _elements(node: Node) -> int:
    """The numbers of a node for one row and column."""
    return prod(node.element_shape)


def _constant(extent: object) -> int:
    assert isinstance(extent, int)
    return extent
