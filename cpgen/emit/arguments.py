"""What a program is called with and what it answers: the members of its argument structure, and status codes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cpgen.code import printer
from cpgen.code.tokens import in_comment
from cpgen.code.tree import Type
from cpgen.emit.names import elements
from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Input, Node
from cpgen.ir.text import extent_text
from cpgen.loops.plan import Plan, is_noise, is_scale

LARGEST = 2147483647  # rows and columns of one call: positions fit ptrdiff_t on 32-bit machines too
MOST_THREADS = 65536


@dataclass(frozen=True)
class Field:
    """One member of the argument structure."""

    name: str
    type: Type
    comment: str

    @property
    def declaration(self) -> str:
        return printer.declarator(self.type, self.name)


def declared(fields: Sequence[Field], known: Sequence[Field], whose: str) -> list[str]:
    """The lines of a structure with these members; those that the program ``whose`` has alike are explained there."""
    found: list[str] = []
    alike: list[Field] = []
    for field in [*fields, None]:
        if field is not None and field in known and (not alike or alike[-1].type == field.type):
            alike.append(field)
            continue
        if len(alike) == 1:
            found.append(f"{alike[0].declaration}; /* {alike[0].comment} */")
        elif alike:
            star = "*" if alike[0].type.pointer else ""
            names = "".join(f", {star}{other.name}" for other in alike[1:])
            found.append(f"{alike[0].declaration}{names}; /* as in {whose} */")
        alike = []
        if field is not None and field in known:
            alike = [field]
        elif field is not None:
            found.append(f"{field.declaration}; /* {field.comment} */")
    return found


@dataclass(frozen=True)
class Status:
    name: str
    code: int
    meaning: str


@dataclass(frozen=True)
class ArrayView:
    """An array among the arguments, as the driver checks it; ``status`` is the name of what is returned."""

    field: str
    count: int  # numbers, times rows and columns
    by_rows: bool
    by_columns: bool
    status: str


def arrays(plan: Plan) -> list[Input]:
    """The inputs that the caller passes as arrays, in order."""
    return [i for i in plan.program.inputs if not is_noise(i) and not is_scale(i)]


def scale_inputs(plan: Plan) -> list[Input]:
    return [i for i in plan.program.inputs if is_scale(i)]


def output_fields(plan: Plan) -> list[tuple[str, str, Node]]:
    """(output name, C field, node)."""
    return [(name, plan.output_field(name), node) for name, node in plan.program.outputs]


# The numbers of a call besides scales: type and meaning
NUMBERS = {
    "n_rows": ("int64_t", "rows of this call"),
    "columns": ("int64_t", "noise columns of this call"),
    "first_row": ("int64_t", "absolute number of the first row (for the noise)"),
    "first_column": ("int64_t", "absolute number of the first column (for the noise)"),
    "seed": ("uint64_t", "seed of the noise"),
    "design": ("int32_t", "0 independent, 1 Hadamard, 2 exact answer, 3 some columns of it"),
    "accumulate": ("int32_t", "1: add to the outputs without rows, 0: overwrite them"),
    "threads": ("int32_t", "threads to use, at least 1"),
}
SCALES = {
    "row_scale": "a factor of every row: 1 for their sum, 1/rows for their mean",
    "column_scale": "a factor of every column: 1 for their sum, 1/columns for their mean",
    "variance_scale": "a factor of the sum of squared deviations: 1/(columns*(columns - 1)), 0 for one column",
}
UNIT_NUMBERS = {  # of a program whose columns are unit vectors
    "columns": "unit vectors of this call",
    "first_column": "absolute number of the first of them",
    "design": "3: some of the unit vectors, else all of them",
}


def fields(plan: Plan, model: str, numbers: Collection[str]) -> tuple[Field, ...]:
    """The argument structure: arrays, outputs, those of :data:`NUMBERS` that there are, scales, a BLAS."""
    real = "double" if plan.real == "float64" else "float"
    found = []
    for given in arrays(plan):
        about = f", {in_comment(given.range_text)}" if given.range_text else ""
        what = _shape(given, f"{given.kind} {given.name}") + about
        found.append(Field(plan.value(given).name, Type(real, constant=True, pointer=True), what))
    for name, field, node in output_fields(plan):
        found.append(Field(field, Type(real, pointer=True), _shape(node, f"output {name}") + ", or NULL"))
    for name, (kind, about) in NUMBERS.items():
        if name in numbers:
            about = UNIT_NUMBERS.get(name, about) if plan.program.unit else about
            found.append(Field(name, Type(kind), about))
    for scale in scale_inputs(plan):
        about = SCALES.get(scale.name, "a factor")
        found.append(Field(plan.value(scale).name, Type(real), about))
    if plan.blas:
        blas = Type(f"{model}_blas", constant=True, pointer=True)
        found.append(Field("blas", blas, "for large products, or NULL: own loops compute them"))
    return tuple(found)


def _shape(node: Node, what: str) -> str:
    dims = ", ".join(extent_name(e) for e in node.shape)
    return in_comment(f"{what} ({dims})")


def extent_name(extent: Extent) -> str:
    return {"rows": "n_rows", "columns": "columns"}.get(extent_text(extent), extent_text(extent))


# Statuses.  What templates/runtime/cpgen_run.h calls cpgen_bad_..., by the argument that is wrong.
CODES = {
    "args": -1,
    "n_rows": -2,
    "columns": -3,
    "first_row": -4,
    "first_column": -5,
    "design": -6,
    "accumulate": -7,
    "threads": -8,
    "work": -9,
    "work_bytes": -10,
    "outputs": -11,
    "blas": -12,
}
FIRST_ARRAY = -16  # of arrays that are read, downwards
MEANINGS = {
    "args": "args is NULL",
    "n_rows": "n_rows is not in [0, 2**31)",
    "columns": "columns is not in [1, 2**31), or not what an exact answer takes",
    "first_row": "first_row is not in [0, 2**62)",
    "first_column": "first_column is not in [0, 2**62)",
    "design": "design is not 0, 1, 2 or 3",
    "accumulate": "accumulate is not 0 or 1",
    "threads": f"threads is not in [1, {MOST_THREADS}]",
    "work": "work is NULL",
    "work_bytes": "the workspace is too small",
    "outputs": "an output is misaligned",
    "blas": "blas has neither of its functions",
}
FINISHED = "accumulate is not 0, and an output needs finished sums"


@dataclass(frozen=True)
class Statuses:
    """The statuses of a model's programs: codes and names by what is wrong, an argument of :data:`CODES` or an array."""

    upper: str
    arrays: tuple[str, ...]  # that are read, by their fields

    def array(self, field: str) -> Status:
        place = self.arrays.index(field)
        suffix = field.upper()
        if suffix in {*map(str.upper, CODES), *map(str.upper, self.arrays[:place])}:
            suffix = f"{suffix}_{place + 1}"
        return Status(f"{self.upper}_BAD_{suffix}", FIRST_ARRAY - place, f"{field} is NULL or misaligned")

    def number(self, name: str, meaning: str = "") -> Status:
        return Status(f"{self.upper}_BAD_{name.upper()}", CODES[name], meaning or MEANINGS[name])

    @property
    def done(self) -> tuple[Status, Status]:
        return (
            Status(f"{self.upper}_OK", 0, "success"),
            Status(f"{self.upper}_NOT_FINITE", 1, "computed; a number of the outputs is infinite or NaN"),
        )

    def of(self, plan: Plan, numbers: Collection[str], workspace: bool) -> tuple[Status, ...]:
        """What one program can return, and means by it."""
        found = [*self.done, self.number("args")]
        for name in numbers:
            if name in CODES:
                found.append(self.number(name, _columns_meaning(plan) if name == "columns" else ""))
        found += [self.number(name) for name in ("work", "work_bytes") if workspace]
        found += [self.number("outputs")]
        found += [self.number("blas")] if plan.blas else []
        return (*found, *(self.array(plan.value(node).name) for node in arrays(plan)))

    def of_model(self, programs: Sequence[Sequence[Status]]) -> tuple[Status, ...]:
        """What any of a model's programs can return, arrays that are read left out."""
        used = {s.code for statuses in programs for s in statuses}
        return (*self.done, *(self.number(name) for name, code in CODES.items() if code in used))

    def checked(self, plan: Plan) -> tuple[ArrayView, ...]:
        """The arrays of a program."""

        def view(field: str, node: Node, status: Status) -> ArrayView:
            return ArrayView(field, elements(node), ROWS in node.shape, COLUMNS in node.shape, status.name)

        read = [(plan.value(node).name, node) for node in arrays(plan)]
        written = [(field, node) for _, field, node in output_fields(plan)]
        outputs = self.number("outputs")
        return (*(view(f, n, self.array(f)) for f, n in read), *(view(f, n, outputs) for f, n in written))


def statuses(plans: Sequence[Plan], model: str) -> Statuses:
    """The statuses of a model of these programs."""
    names = dict.fromkeys(plan.value(node).name for plan in plans for node in arrays(plan))
    return Statuses(model.upper(), tuple(names))


def _columns_meaning(plan: Plan) -> str:
    whole = plan.program.whole
    return "columns is not in [1, 2**31)" + (f"; exact: the {whole} from first_column 0" if whole is not None else "")
