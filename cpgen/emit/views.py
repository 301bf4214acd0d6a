"""What the templates see of a program: its functions as trees, and frozen names, numbers and lists."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import PurePath

from cpgen.code import printer
from cpgen.code.identifiers import identifier
from cpgen.code.rewrite import mentions, nodes
from cpgen.code.tokens import in_comment, renamed
from cpgen.code.tree import (
    Body,
    Call,
    Cast,
    Do,
    Expression,
    Function,
    Group,
    Literal,
    Name,
    Parameter,
    Select,
    Statement,
    Type,
    binary,
    branch,
    every,
    joined,
    number,
    of,
)
from cpgen.emit.body import StageBody, stage_body
from cpgen.emit.names import COLUMNS_BEGIN, address, axis_names, elements, member_axes, offset_name
from cpgen.emit.places import lowest, zero
from cpgen.emit.rows import NULL
from cpgen.emit.share import Draft, Shared, share
from cpgen.emit.spelling import Spelling
from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Index, Input, Map, Node
from cpgen.ir.stack import stacked
from cpgen.ir.text import digest, extent_text
from cpgen.loops.plan import Plan, Stage, Totals, Value, Work, is_noise, is_scale
from cpgen.scalar import spelled

WIDTH = 100
LARGEST = 2147483647  # rows and columns of one call: positions fit ptrdiff_t on 32-bit machines too
MOST_THREADS = 65536
MISPLACED = "MISPLACED"


@dataclass(frozen=True)
class Field:
    """One member of the argument structure."""

    name: str
    type: Type
    comment: str

    @property
    def declaration(self) -> str:
        return printer.declarator(self.type, self.name)


@dataclass(frozen=True)
class Status:
    name: str
    code: int
    meaning: str
    test: Expression | None  # the condition under which it is returned; None if the template knows


@dataclass(frozen=True)
class OutputView:
    field: str
    count: Expression  # of its numbers, as size_t


@dataclass(frozen=True)
class SizeView:
    """Numbers in the workspace, for one lane and for one row, computed so that they cannot overflow, and the counts
    behind it as (constant, for each column)."""

    work: Expression
    tile: Expression
    rows: Expression
    counts: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Offset:
    name: str
    value: int


@dataclass(frozen=True)
class StageView:
    """A function and the stages it is called for."""

    function: Function
    members: tuple[Stage, ...]


@dataclass(frozen=True)
class SegmentView:
    columns: bool
    calls: tuple[Statement, ...]


@dataclass(frozen=True)
class ProgramView:
    """One program of a model."""

    name: str  # prefix of its external names
    title: str
    title_id: str  # title as part of a C name
    upper: str
    real: str
    digest: str
    fields: tuple[Field, ...]
    statuses: tuple[Status, ...]
    outputs: tuple[OutputView, ...]
    alignment: int  # bytes that the workspace has more than its numbers need, so that it may begin anywhere
    whole: int | None  # columns of the exact answer, where they are the caller's to give
    lanes: int
    group: int  # lanes whose sums are held at once, 0 where that is always the whole tile
    chunk_tiles: int
    offsets: tuple[Offset, ...]
    stages: tuple[StageView, ...]
    setup: tuple[Statement, ...]
    segments: tuple[SegmentView, ...]
    calls: Mapping[int, Statement]  # of all stages by number
    accumulate: tuple[Statement, ...]
    finish: tuple[Statement, ...]
    clear: tuple[Statement, ...]
    has_tiles: bool
    beside: bool
    has_rows: bool
    has_clear: bool
    work_numbers: Expression
    tile_numbers: Expression
    size: SizeView
    sizes_use_columns: bool
    alone: Expression  # whether a call is sooner done on one thread, by what a team has to wait for
    cost_by_rows: bool
    cost_by_columns: bool
    barriers: tuple[int, int]  # once, and for each chunk of rows
    blas: bool  # whether the caller may pass a BLAS
    definitions: tuple[str, ...]

    @property
    def trees(self) -> tuple[object, ...]:
        """All that the text computes."""
        stages = tuple(stage.function for stage in self.stages)
        return (stages, self.setup, tuple(s.calls for s in self.segments), self.accumulate, self.finish, self.clear)

    @property
    def own_names(self) -> set[str]:
        """What the text of this program defines, except for what begins with its name."""
        found = {stage.function.name for stage in self.stages} | {offset.name for offset in self.offsets}
        return found | {f"{self.title_id}_{name}" for name in ("repeat_lanes", "add_columns")}

    def spelled(self, spelling: Spelling) -> ProgramView:
        """This program with the names of a text."""
        tree = spelling.tree
        size = self.size
        return replace(
            self,
            statuses=tuple(replace(s, test=tree(s.test)) for s in self.statuses),
            offsets=tuple(replace(o, name=spelling.word(o.name)) for o in self.offsets),
            stages=tuple(replace(s, function=tree(s.function)) for s in self.stages),
            setup=tree(self.setup),
            segments=tuple(replace(s, calls=tree(s.calls)) for s in self.segments),
            calls={number: tree(call) for number, call in self.calls.items()},
            accumulate=tree(self.accumulate),
            finish=tree(self.finish),
            clear=tree(self.clear),
            alone=tree(self.alone),
            size=SizeView(tree(size.work), tree(size.tile), tree(size.rows), size.counts),
        )


def words(views: Sequence[ProgramView]) -> set[str]:
    """All names that the functions of some programs use."""
    found = set[str]()
    for node in nodes([view.trees for view in views]):
        if isinstance(node, Name):
            found.add(node.text)
        elif isinstance(node, Call):
            found.add(node.function)
        elif isinstance(node, Type):
            found.add(node.base)
    return found


@dataclass(frozen=True)
class Dialect:
    """How the functions of stages are declared and built: in C, or as device code.

    ``together``: stages may follow each other without anything in between.
    """

    body: Callable[[Plan, Stage, str], StageBody] = stage_body
    function: str = "static void"
    shared: str = "SHARED void"  # of a function with several callers
    together: bool = True
    omits: Callable[[Plan, Stage], bool] = lambda plan, stage: False  # stages without a function


C = Dialect()


def program_view(plan: Plan, model: str, dialect: Dialect = C) -> ProgramView:
    """The view of one plan; ``model`` prefixes every external name."""
    name = f"{model}_{identifier(plan.name, 'program')}"
    drafts, definitions = [], dict[str, None]()
    made = [stage for stage in plan.stages if not dialect.omits(plan, stage)]
    for stage in made:
        body = dialect.body(plan, stage, f"{model}_")
        statements = body.build()
        places = body.places
        definitions.update(places.definitions)
        function = _function(plan, stage, identifier(plan.name, "program"))
        drafts.append(Draft(function, tuple(places.declared.values()), statements, places.template))
    stages = []
    made_calls: dict[int, Statement] = {}
    for shared in share(drafts):
        members = tuple(made[k] for k in shared.members)
        stages.append(_stage_view(plan, name, shared, members, dialect))
        for stage, arguments in zip(members, shared.arguments, strict=True):
            frame = (Name("f"),) if shared.uses_frame else ()
            made_calls[stage.number] = Do(Call(shared.name, (*frame, *arguments), shared.template))

    def calls(phase: Sequence[Stage]) -> tuple[Statement, ...]:
        made = [s for s in phase if s.number in made_calls]
        found: list[Statement] = []
        alike = groupby(made, lambda s: s.needed_by) if dialect.together else ((s.needed_by, [s]) for s in made)
        for names, together in alike:
            found += _if_needed(plan, names, [made_calls[s.number] for s in together])
        return tuple(found)

    clear, cost = _clear(plan, name), _cost(plan)
    sizes = (plan.work, plan.tile_memory, plan.rows) if plan.segments else (plan.work,)
    return ProgramView(
        name=name,
        title=plan.name,
        title_id=identifier(plan.name, "program"),
        upper=name.upper(),
        real="double" if plan.real == "float64" else "float",
        digest=digest(plan.program),
        fields=tuple(_fields(plan, model)),
        statuses=tuple(statuses(plan, name)),
        outputs=tuple(OutputView(field, _count(node)) for _, field, node in output_fields(plan)),
        alignment=plan.alignment,
        whole=plan.program.whole if plan.has_columns else None,
        lanes=plan.tile,
        group=plan.group,
        chunk_tiles=plan.chunk_tiles,
        offsets=tuple(_offsets(plan)),
        stages=tuple(stages),
        setup=calls(plan.setup),
        segments=tuple(SegmentView(s.columns, calls(s.stages)) for s in plan.segments),
        calls=made_calls,
        accumulate=calls(plan.accumulate),
        finish=calls(plan.finish),
        clear=tuple(clear),
        has_tiles=bool(plan.segments),
        beside=plan.beside,
        has_rows=bool(plan.segments or plan.accumulate),
        has_clear=bool(clear),
        work_numbers=_numbers(plan.work),
        tile_numbers=_numbers(plan.tile_memory),
        size=_size_view(plan),
        alone=_alone(plan, cost),
        cost_by_rows=mentions(cost, "rows"),
        cost_by_columns=mentions(cost, "cols"),
        barriers=plan.barriers,
        sizes_use_columns=any(t.columns for t in sizes),
        blas=plan.blas > 0,
        definitions=tuple(definitions),
    )


def _if_needed(plan: Plan, outputs: Sequence[str], calls: Sequence[Statement]) -> list[Statement]:
    """``calls``, made if the caller wants one of the outputs that need them (if any are named)."""
    if not outputs:
        return list(calls)
    wanted: list[Expression] = [binary("!=", of("f", "args", plan.output_field(name)), NULL) for name in outputs]
    return [branch(every(wanted, "||"), calls)]


def _stage_view(
    plan: Plan, name: str, shared: Shared, members: tuple[Stage, ...], dialect: Dialect
) -> StageView:
    comment = stage_text(plan, members[0])
    if len(members) > 1:
        others = ", ".join(str(s.number) for s in members[1:])
        comment += textwrap.wrap(f"The same, on other arrays: stages {others}", WIDTH, subsequent_indent="  ")
    kind = dialect.shared if len(members) > 1 else dialect.function
    frame = [Parameter(Type(f"{name}_frame", constant=True, pointer=True), "f")] if shared.uses_frame else []
    function = Function(
        kind,
        shared.name,
        (*frame, *shared.parameters),
        (*shared.declared, *shared.body),
        tuple(comment),
        shared.template,
    )
    return StageView(function, members)


# The interface


def arrays(plan: Plan) -> list[Input]:
    """The inputs that the caller passes as arrays, in order."""
    return [i for i in plan.program.inputs if not is_noise(i) and not is_scale(i)]


def scale_inputs(plan: Plan) -> list[Input]:
    return [i for i in plan.program.inputs if is_scale(i)]


def output_fields(plan: Plan) -> list[tuple[str, str, Node]]:
    """(output name, C field, node)."""
    return [(name, plan.output_field(name), node) for name, node in plan.program.outputs]


def _fields(plan: Plan, model: str) -> list[Field]:
    real = "double" if plan.real == "float64" else "float"
    fields = []
    for given in arrays(plan):
        name = plan.value(given).name
        about = f", {in_comment(given.range_text)}" if given.range_text else ""
        array = Type(real, constant=True, pointer=True)
        fields.append(Field(name, array, _shape(given, f"{given.kind} {given.name}") + about))
    for name, field, node in output_fields(plan):
        fields.append(Field(field, Type(real, pointer=True), _shape(node, f"output {name}") + ", or NULL"))
    fields += [
        Field("n_rows", Type("int64_t"), "rows of this call"),
        Field("columns", Type("int64_t"), "noise columns of this call"),
        Field("first_row", Type("int64_t"), "absolute number of the first row (for the noise)"),
        Field("first_column", Type("int64_t"), "absolute number of the first column (for the noise)"),
        Field("seed", Type("uint64_t"), "seed of the noise"),
        Field("design", Type("int32_t"), "0 independent, 1 Hadamard, 2 exact answer, 3 some columns of it"),
        Field("accumulate", Type("int32_t"), "1: add to the outputs without rows, 0: overwrite them"),
        Field("threads", Type("int32_t"), "threads to use, at least 1"),
    ]
    for scale in scale_inputs(plan):
        fields.append(Field(plan.value(scale).name, Type(real), f"scale {scale.name}"))
    if plan.blas:
        blas = Type(f"{model}_blas", constant=True, pointer=True)
        fields.append(Field("blas", blas, "for large products, or NULL: own loops compute them"))
    return fields


def _size(count: int) -> Expression:
    return Cast("size_t", number(count))


def _count(node: Node) -> Expression:
    """The number of numbers of an output, as size_t."""
    found: Expression | None = None
    for name, runtime in (("n_rows", ROWS), ("columns", COLUMNS)):
        if runtime in node.shape:
            part = Cast("size_t", of("args", name))
            found = part if found is None else binary("*", found, part)
    return _size(elements(node)) if found is None else binary("*", found, _size(elements(node)))


def _shape(node: Node, what: str) -> str:
    dims = ", ".join(_extent(e) for e in node.shape)
    return in_comment(f"{what} ({dims})")


def _extent(extent: Extent) -> str:
    return {"rows": "n_rows", "columns": "columns"}.get(extent_text(extent), extent_text(extent))


def statuses(plan: Plan, name: str) -> list[Status]:
    """Status codes: 0 is success, a negative one names the argument that is wrong; 1 (in C) says that all was computed
    and that a number of the outputs is not finite."""
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
    meaning = "accumulate is not 0 or 1"
    if not plan.accumulable:
        accumulate = binary("!=", of("args", "accumulate"), number(0))
        meaning = "accumulate is not 0, and an output needs finished sums"
    most = Call("INT64_C", (Literal("0x4000000000000000"),))
    size = Call(f"{name}_workspace_bytes", (of("args", "n_rows"), of("args", "columns"), of("args", "threads")))
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
    result = [
        Status(f"{upper}_OK", 0, "success", None),
        Status(f"{upper}_NOT_FINITE", 1, "computed; a number of the outputs is infinite or NaN", None),
    ]
    taken: set[str] = set()
    for k, (suffix, text, test) in enumerate(found):
        unique = suffix if suffix not in taken else f"{suffix}_{k}"
        taken.add(unique)
        result.append(Status(f"{upper}_BAD_{unique}", -1 - k, text, test))
    return result


def _outside(field: str, least: int, most: Expression, beyond: str) -> Expression:
    """``args->field < least || args->field > most``."""
    value = of("args", field)
    return binary("||", binary("<", value, number(least)), binary(beyond, value, most))


# Memory


def _numbers(total: Totals) -> Expression:
    """The number of numbers in a space, as size_t."""
    if not total.columns:
        return _size(total.constant)
    columns = binary("*", _size(total.columns), Cast("size_t", Name("columns")))
    return joined(_size(total.constant), columns) if total.constant else columns


def _cost(plan: Plan) -> Expression:
    """Operations of a run that threads can share, by ``rows`` and ``cols``; those of one tile are one thread's."""
    suffix = "" if plan.real == "float64" else "f"
    nothing: Expression = Literal(f"0.0{suffix}")

    def polynomial(work: Work) -> Expression:
        found: Expression | None = None
        for count, names in zip(work, ((), ("rows",), ("cols",), ("rows", "cols")), strict=True):
            if count:
                term: Expression = Literal(f"{count}.0{suffix}")
                for name in names:
                    term = binary("*", term, Name(name))
                found = term if found is None else joined(found, term)
        return nothing if found is None else found

    shared, tiles = (polynomial(work) for work in plan.work_shared)
    if tiles == nothing:
        return shared
    several = binary(">", of("args", "n_rows"), Name("LANES"))
    return joined(shared, Group(Select(several, tiles, nothing)))


def _alone(plan: Plan, cost: Expression) -> Expression:
    """Whether the operations of a call are too few for a team of threads that has to wait ``waits`` times."""
    least = Cast("double" if plan.real == "float64" else "float", Name("CPGEN_SERIAL_BELOW"))
    waits = binary("/", Name("waits"), Name("CPGEN_BARRIERS"))
    return binary("<", cost, binary("*", least, Group(joined(number(1), waits))))


def _size_view(plan: Plan) -> SizeView:
    def safe(total: Totals) -> Expression:
        constant = Literal(f"{total.constant}U")
        if not total.columns:
            return constant
        product = Call("size_product", (Literal(f"{total.columns}U"), Cast("size_t", Name("columns"))))
        return Call("size_sum", (constant, product)) if total.constant else product

    spaces = (plan.work, plan.tile_memory, plan.rows)
    work, tile, rows = (safe(total) for total in spaces)
    a, b, c = ((total.constant, total.columns) for total in spaces)
    return SizeView(work, tile, rows, (a, b, c))


def _offsets(plan: Plan) -> list[Offset]:
    offsets = []
    for space, total in (("work", plan.work), ("tile", plan.tile_memory), ("rows", plan.rows)):
        found = [(v, getattr(v, space)) for v in plan.values]
        slots = [(v, slot) for v, slot in found if slot is not None]
        offsets += [Offset(offset_name(plan, space, v.name), slot.offset) for v, slot in slots]
        if any(slot.columns for _, slot in slots):
            offsets.append(Offset(offset_name(plan, space, COLUMNS_BEGIN), total.constant))
    return offsets


def _clear(plan: Plan, name: str) -> Body:
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


# Comments and names of stages


def _function(plan: Plan, stage: Stage, program: str) -> str:
    verb = {"map": "compute", "noise": "draw"}.get(stage.kind, stage.kind)
    what = plan.value(stage.nodes[-1] if stage.kind == "map" else stage.nodes[0]).name
    if stage.output:
        what = f"{what}_to_{plan.output_field(stage.output)}"
    return f"{program}_{verb}_{what}"


def stage_text(plan: Plan, stage: Stage) -> list[str]:
    """Number, what is computed and where it comes from, in lines: the comment above the stage's C."""
    first = stage.nodes[0]
    name = plan.value(first).name
    what = {
        "load": f"rows of {name} into the tile",
        "noise": f"random signs {name}, element 0 is noise element {getattr(first, 'offset', 0)} of its row",
        "keep": f"rows of {name} for the sums over rows",
        "store": f"{name} to the output {stage.output}",
        "copy": f"{name} to the output {stage.output}",
    }
    phase = {
        "setup": "once",
        "row": "each tile of rows",
        "accumulate": "each chunk of rows",
        "finish": "at the end",
    }
    lines = [f"Stage {stage.number}, {phase[stage.phase]}: " + what.get(stage.kind, "")]
    if stage.kind == "map":
        lines[0] = lines[0].rstrip()
        axes, root = axis_names(plan, stage), first
        assert isinstance(root, Map)
        for node in stage.nodes:
            assert isinstance(node, Map)
            lines.append("  " + equation(plan, node, member_axes(axes, root, node)) + _origin(node))
    wrapped = []
    for text in lines:
        wrapped += textwrap.wrap(in_comment(text), WIDTH, subsequent_indent="      ", break_on_hyphens=False) or [
            ""
        ]
    return wrapped


def _origin(node: Map) -> str:
    origin = node.origin
    place = f"{PurePath(origin.file).name}:{origin.line}" if origin.file else ""
    role = f"{origin.role} of {origin.name}" if origin.role else ""
    text = ", ".join(part for part in (role, place) if part)
    return f"   [{text}]" if text else ""


def equation(plan: Plan, node: Map, axes: dict[int, str]) -> str:
    """The definition of a map in index notation, in the names of the C text."""

    def subscript(access_node: Node, indices: Sequence[str]) -> str:
        name = plan.value(access_node).name
        return f"{name}[{', '.join(indices)}]" if indices else name

    def affine(index: Index) -> str:
        terms: list[str] = []
        for a, c in index.terms:
            part = axes[a] if abs(c) == 1 else f"{abs(c)}*{axes[a]}"
            terms.append(("-" if c < 0 else "+" if terms else "") + part)
        offset, divisor = index.offset, index.divisor
        if offset or not terms:
            terms.append(f"{offset:+d}" if terms else str(offset))
        text = "".join(terms)
        return text if divisor == 1 else f"({text})/{divisor}"

    numbers = stacked(node)
    if numbers is not None:
        zeros = (numbers.get(place) for place in product(*(range(e) for e in node.element_shape)))
        along = ["row" if e is ROWS else "col" for e in node.shape[: node.lead]]
        listed = ", ".join("0" if n is None else subscript(n, along) for n in zeros)
        return f"{subscript(node, [*along, *(':' for _ in node.element_shape)])} = ({listed})"
    reads = [subscript(a.node, [affine(i) for i in a.index]) for a in node.args]
    read = {f"_{k}": text for k, text in enumerate(reads)}
    body = renamed(spelled(node.expr), lambda name: read.get(name, name))
    if node.reduced:
        over = ", ".join(f"{axes[a]} < {_extent(node.extents[a])}" for a in node.reduced)
        body = f"{node.reduce}_{{{over}}} {body}"
    if node.guards:
        body += " where " + ", ".join(f"0 <= {affine(g.index)} < {_extent(g.extent)}" for g in node.guards)
    return f"{subscript(node, [axes[a] for a in range(node.rank)])} = {body}"
