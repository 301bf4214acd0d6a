"""Flash, RAM, stack and operations of a bundle, before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpgen.code import printer
from cpgen.code.tokens import tokens
from cpgen.emit import CFiles
from cpgen.emit.arguments import arrays
from cpgen.emit.views import CView
from cpgen.errors import BudgetError
from cpgen.ir.nodes import COLUMNS, ROWS, Node
from cpgen.loops import Plan
from cpgen.loops.plan import OperationCounts

# Bytes of Thumb-2 code (gcc -Os, Cortex-M4F: float in hardware, double in software) for each operator, subscript and loop
# of the C text, each built-in function and each program, fitted to the catalogue and rounded up;
# benchmarks/check_bundles.py prints estimate beside measurement.
CODE_PER_OPERATOR = {"float32": 2.4, "float64": 1.9}
CODE_PER_HELPER = {"float32": 75, "float64": 310}
CODE_PER_PROGRAM = 450
FRAME_WORDS = 14


@dataclass(frozen=True)
class ProgramReport:
    """One program for one row and the reported number of columns; bytes, on a machine with 32-bit pointers.

    ``workspace`` is exact, ``arguments`` counts the argument structure, ``outputs`` all result arrays and ``inputs`` the
    arrays the caller must have in RAM; ``stack`` and ``code`` are estimates.
    """

    name: str
    stages: int
    columns: int
    operations: OperationCounts
    workspace: int
    inputs: int
    outputs: int
    arguments: int
    stack: int
    code: int

    @property
    def ram(self) -> int:
        return self.workspace + self.inputs + self.outputs + self.arguments + self.stack


@dataclass(frozen=True)
class Report:
    """What a bundle needs.  ``files`` are the names written, ``weights`` the bytes of constant parameters."""

    prefix: str
    real: str
    math: str
    tile: int
    programs: tuple[ProgramReport, ...]
    weights: int
    files: tuple[str, ...] = ()

    @property
    def flash(self) -> int:
        """Estimated bytes of code and constants of the library, self-test and vectors left out."""
        return self.weights + sum(p.code for p in self.programs)

    @property
    def ram(self) -> int:
        """Bytes of the program that needs most: workspace, stack, arguments, inputs and outputs."""
        return max(p.ram for p in self.programs)

    @property
    def stack(self) -> int:
        return max(p.stack for p in self.programs)

    def lines(self) -> list[str]:
        lines = [
            f"{self.prefix} ({self.real}, {self.math} math, {self.tile} row{'s' if self.tile > 1 else ''} at a time): "
            f"flash about {self.flash} bytes, RAM {self.ram} bytes (of which stack about {self.stack})"
        ]
        for p in self.programs:
            calls = "".join(f", {count} {name}" for name, count in p.operations.calls)
            lines.append(
                f"  {p.name}: RAM {p.ram} = workspace {p.workspace} + inputs {p.inputs} + outputs {p.outputs} "
                f"+ arguments {p.arguments} + stack about {p.stack}; code about {p.code}"
            )
            lines.append(
                f"    one row{f' and {p.columns} columns' if p.columns else ''}: {p.operations.adds} adds, "
                f"{p.operations.muls} muls, {p.operations.divs} divs{calls}"
            )
        if self.weights:
            lines.append(f"  constant weights: {self.weights} bytes of flash")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def check(self, ram: int | None, flash: int | None) -> None:
        """Raise BudgetError, with the numbers, where a budget is exceeded."""
        problems = []
        if ram is not None and self.ram > ram:
            problems.append(f"RAM {self.ram} bytes of {ram} allowed")
        if flash is not None and self.flash > flash:
            problems.append(f"flash about {self.flash} bytes of {flash} allowed")
        if problems:
            hints = "fewer programs, fewer columns, tile=1, recompute or constant weights may help"
            raise BudgetError("\n".join([f"the bundle does not fit: {' and '.join(problems)}; {hints}", *self.lines()]))


def make_report(
    files: CFiles, plans: Sequence[Plan], weights: Mapping[str, object], columns: int, math: str, real: str
) -> Report:
    """The report of ``plans``; ``weights`` names the parameters that are constants."""
    size = 8 if real == "float64" else 4
    programs = []
    constants: dict[str, int] = {}
    lines = [line for text in files.runtime.values() for line in text.splitlines()]
    helpers = sum(line.startswith("static inline") for line in lines)
    shared = CODE_PER_HELPER[real] * helpers
    for k, (p, view) in enumerate(zip(plans, files.programs, strict=True)):
        k_columns = columns if p.has_columns else 0
        inputs = 0
        for node in arrays(p):
            count = size * _count(node, k_columns)
            if node.name in weights:
                constants[node.name] = count
            else:
                inputs += count
        outputs = size * sum(_count(node, k_columns) for _, node in p.program.outputs)
        code = int(CODE_PER_PROGRAM + CODE_PER_OPERATOR[real] * _operators(view)) + (shared if k == 0 else 0)
        programs.append(
            ProgramReport(
                p.name,
                len(p.stages),
                k_columns,
                p.operations(1, k_columns),
                p.workspace_bytes(1, k_columns, 1),
                inputs,
                outputs,
                _arguments(view),
                _stack(p, size),
                code,
            )
        )
    tile = max(p.tile for p in plans)
    return Report(files.name, real, math, tile, tuple(programs), sum(constants.values()))


def _count(node: Node, columns: int) -> int:
    count = 1
    for extent in node.shape:
        count *= 1 if extent is ROWS else columns if extent is COLUMNS else int(extent)  # type: ignore[arg-type]
    return count


def _arguments(view: CView) -> int:
    """Bytes of the argument structure with 32-bit pointers."""
    offset = largest = 0
    for field in view.fields:
        size = 8 if field.type.base in ("int64_t", "uint64_t", "double") and not field.type.pointer else 4
        offset = -(-offset // size) * size + size
        largest = max(largest, size)
    return -(-offset // largest) * largest


def _operators(view: CView) -> int:
    """Operators, calls, subscripts and loops in the text of the stages; neighbours count as one."""
    total = 0
    for stage in view.stages:
        before = False
        for token in tokens("\n".join(printer.lines(stage.function.body))):
            here = token.kind == "other" and token.text in "-+*/<>=?[("
            total += here and not before
            before = here
    return total + 2 * len(view.stages)


def _stack(plan: Plan, size: int) -> int:
    """Three frames (of the call, of a thread and of a tile), the largest local sums, and what the calls save."""
    sums = 0
    for stage in plan.stages:
        if stage.nest is not None:
            width = plan.tile if stage.nest.lanes else max(stage.nest.vector_width, 1)
            sums = max(sums, size * stage.nest.block_width * width)
    return 3 * FRAME_WORDS * 4 + sums + 240
