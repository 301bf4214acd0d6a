"""What a caller of a compiled program has to know of it: all that is needed of a plan once its text is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from cpgen.emit.arguments import arrays, output_fields, scale_inputs
from cpgen.emit.views import CView
from cpgen.ir.nodes import Program
from cpgen.loops import Plan
from cpgen.loops.plan import Footprint


@dataclass(frozen=True)
class Interface:
    """How a compiled program is called.

    ``program``: its name, inputs and outputs; what is computed in between does not matter here.  ``function``: what the
    names of its C functions and of its structure begin with.  ``inputs`` (arrays), ``outputs`` and ``scales``: name and
    field of the structure, in order.  ``numbers``: its other members, of :data:`cpgen.emit.arguments.NUMBERS`.
    ``meanings``: of the status codes.  ``accumulable``: outputs without rows can go on from what they hold.  ``blas``:
    large products are for a library.  Its functions are called with a workspace if ``footprint.needed``.
    ``operations``: for nothing, for each row, for each column, and for each row of each column.
    """

    program: Program
    function: str
    real: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    scales: tuple[tuple[str, str], ...]
    numbers: tuple[str, ...]
    meanings: tuple[tuple[int, str], ...]
    accumulable: bool
    has_rows: bool
    blas: bool
    footprint: Footprint
    operations: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return self.program.name

    def total_operations(self, rows: int, columns: int) -> int:
        """Operations of a call, about those of :meth:`cpgen.loops.Plan.operations`."""
        once, row, column, both = self.operations
        return once + row * rows + column * columns + both * rows * columns


def interface(plan: Plan, view: CView) -> Interface:
    """The interface of a program's text."""
    none, row, column, both = (plan.operations(*size).total for size in ((0, 0), (1, 0), (0, 1), (1, 1)))
    return Interface(
        plan.program,
        view.name,
        plan.real,
        tuple((node.name, plan.value(node).name) for node in arrays(plan)),
        tuple((name, field) for name, field, _ in output_fields(plan)),
        tuple((node.name, plan.value(node).name) for node in scale_inputs(plan)),
        view.numbers,
        tuple((status.code, status.meaning) for status in view.statuses),
        plan.accumulable,
        plan.has_rows,
        bool(plan.blas),
        plan.footprint,
        (none, row - none, column - none, both - row - column + none),
    )
