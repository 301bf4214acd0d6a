"""The interface of a program for a GPU: the same structure for every program, statuses of its own, and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from cpgen.code.tree import (
    Body,
    Call,
    Cast,
    Do,
    Expression,
    Group,
    Literal,
    Name,
    binary,
    branch,
    every,
    joined,
    number,
    of,
)
from cpgen.emit.arguments import FINISHED, LARGEST, MEANINGS, MOST_THREADS, arrays, output_fields
from cpgen.emit.names import address, elements
from cpgen.emit.places import lowest, zero
from cpgen.emit.rows import NULL
from cpgen.ir.nodes import Map
from cpgen.loops.plan import Plan, Totals, Value

MISPLACED = "MISPLACED"


@dataclass(frozen=True)
class DeviceStatus:
    name: str
    code: int
    meaning: str
    test: Expression | None  # the condition under which it is returned; None if the template knows


@dataclass(frozen=True)
class SizeView:
    """Numbers in the workspace, for one lane and for one row, computed so that they cannot overflow."""

    work: Expression
    tile: Expression
    rows: Expression


def device_statuses(plan: Plan, name: str) -> list[DeviceStatus]:
    """Status codes: 0 is success, a negative one names the argument that is wrong."""
    upper = name.upper()
    found: list[tuple[str, str, Expression | None]] = [("ARGS", "args is NULL", None)]
    for node in arrays(plan):
        field = of("args", plan.value(node).name)
        needed: Expression = binary("==", field, NULL)
        if node.has_rows:
            needed = Group(binary("&&", needed, binary(">", of("args", "n_rows"), number(0))))
        misplaced = binary("||", needed, Call(MISPLACED, (field,)))
        found.append((field.name.upper(), f"{field.name} is NULL or misaligned", misplaced))
    least = 1 if plan.has_columns else 0
    columns = _outside("columns", least, number(LARGEST), ">")
    columns_meaning = f"columns is not in [{least}, 2**31)"
    whole = plan.program.whole if plan.has_columns else None
    if whole is not None:
        design = of("args", "design")
        exact = binary("!=", design, number(3)) if plan.program.unit else binary("==", design, number(2))
        part = binary("!=", of("args", "columns"), number(whole))
        first = binary("!=", of("args", "first_column"), number(0))
        columns = binary("||", columns, Group(binary("&&", exact, Group(binary("||", part, first)))))
        columns_meaning += f"; exact: the {whole} from first_column 0"
    accumulate: Expression = _outside("accumulate", 0, number(1), ">")
    meaning = MEANINGS["accumulate"]
    if not plan.accumulable:
        accumulate = binary("!=", of("args", "accumulate"), number(0))
        meaning = FINISHED
    most = Call("INT64_C", (Literal("0x4000000000000000"),))
    size = Call(f"{name}_workspace_bytes_cuda", (of("args", "n_rows"), of("args", "columns")))
    found += [
        ("N_ROWS", "n_rows is not in [0, 2**31)", _outside("n_rows", 0, number(LARGEST), ">")),
        ("COLUMNS", columns_meaning, columns),
        ("FIRST_ROW", "first_row is not in [0, 2**62)", _outside("first_row", 0, most, ">=")),
        ("FIRST_COLUMN", "first_column is not in [0, 2**62)", _outside("first_column", 0, most, ">=")),
        ("DESIGN", "design is not 0, 1, 2 or 3", _outside("design", 0, number(3), ">")),
        ("ACCUMULATE", meaning, accumulate),
        ("THREADS", f"threads is not in [1, {MOST_THREADS}]", _outside("threads", 1, number(MOST_THREADS), ">")),
        ("WORK", "work is NULL", binary("==", Name("work"), NULL)),
        ("WORK_BYTES", "the workspace is too small", binary("<", Name("work_bytes"), size)),
    ]
    if plan.blas:
        neither = [
            binary("!=", of("args", "blas"), NULL),
            *(binary("==", of("args", "blas", gemm), NULL) for gemm in ("gemm", "gemm_64")),
        ]
        found.append(("BLAS", "blas has neither of its functions", every(neither)))
    outputs = [Call(MISPLACED, (of("args", field),)) for _, field, _ in output_fields(plan)]
    found.append(("OUTPUTS", "an output is misaligned", every(outputs, "||")))
    result = [DeviceStatus(f"{upper}_OK", 0, "success", None)]
    taken: set[str] = set()
    for k, (suffix, text, test) in enumerate(found):
        unique = suffix if suffix not in taken else f"{suffix}_{k}"
        taken.add(unique)
        result.append(DeviceStatus(f"{upper}_BAD_{unique}", -1 - k, text, test))
    return result


def _outside(field: str, least: int, most: Expression, beyond: str) -> Expression:
    """``args->field < least || args->field > most``."""
    value = of("args", field)
    return binary("||", binary("<", value, number(least)), binary(beyond, value, most))


def numbers_of(total: Totals) -> Expression:
    """The number of numbers in a space, as size_t."""
    if not total.columns:
        return Cast("size_t", number(total.constant))
    columns = binary("*", Cast("size_t", number(total.columns)), Cast("size_t", Name("columns")))
    return joined(Cast("size_t", number(total.constant)), columns) if total.constant else columns


def size_view(plan: Plan) -> SizeView:
    def safe(total: Totals) -> Expression:
        constant = Literal(f"{total.constant}U")
        if not total.columns:
            return constant
        product = Call("size_product", (Literal(f"{total.columns}U"), Cast("size_t", Name("columns"))))
        return Call("size_sum", (constant, product)) if total.constant else product

    return SizeView(safe(plan.work), safe(plan.tile_memory), safe(plan.rows))


def device_clear(plan: Plan, name: str) -> Body:
    """Calls that set the sums over rows to their starting values."""
    body: Body = []
    for stage in plan.accumulate:
        node = stage.nodes[0]
        assert isinstance(node, Map)
        value: Value = plan.value(node)
        count = number(elements(node))
        size = binary("*", of("f", "columns"), count) if node.has_columns else count
        start = zero(plan.real) if node.reduce == "sum" else lowest(plan.real)
        if value.direct:
            target = of("f", "args", plan.output_field(value.direct))
            wanted = [binary("!=", target, NULL), binary("==", of("f", "args", "accumulate"), number(0))]
            body.append(branch(every(wanted), [Do(Call(f"{name}_fill", (target, size, start)))]))
        elif value.work is not None:
            body.append(Do(Call(f"{name}_fill", (address(plan, value.work, value.name), size, start))))
    return body
