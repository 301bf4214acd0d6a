"""What the templates see: frozen strings, numbers and lists, nothing to compute."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import PurePath

from cpgen.emit.body import StageBody, stage_body
from cpgen.emit.names import COLUMNS_BEGIN, address, axis_names, elements, member_axes, offset_name
from cpgen.emit.share import Draft, Function, share
from cpgen.emit.statements import Body, Statement, line
from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Index, Input, Map, Node
from cpgen.ir.stack import stacked
from cpgen.ir.text import digest, extent_text
from cpgen.loops.names import identifier
from cpgen.loops.plan import Plan, Stage, Totals, Value, is_noise, is_scale
from cpgen.scalar import spelled

WIDTH = 100
LARGEST = 2147483647  # rows and columns of one call: positions fit ptrdiff_t on 32-bit machines too
MOST_THREADS = 65536
CALL = 16  # operations that one elementary function costs, about


@dataclass(frozen=True)
class Field:
    """One member of the argument structure."""

    name: str
    declaration: str
    comment: str


@dataclass(frozen=True)
class Status:
    name: str
    code: int
    meaning: str
    test: str  # the C condition under which it is returned; "" if the template knows


@dataclass(frozen=True)
class OutputView:
    field: str
    count: str  # of its numbers: C text in size_t


@dataclass(frozen=True)
class SizeView:
    """Numbers in the workspace, for one lane and for one row: C text that cannot overflow, and the counts behind it
    as (constant, for each column)."""

    work: str
    tile: str
    rows: str
    counts: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Offset:
    name: str
    value: int


@dataclass(frozen=True)
class StageView:
    """``comment`` lines, then ``static void function(const frame *f, parameters)`` with ``body``.

    ``signature`` is that without the body; ``members`` are the stages it is called for.
    """

    function: str
    members: tuple[Stage, ...]
    signature: str
    comment: tuple[str, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class SegmentView:
    columns: bool
    calls: tuple[str, ...]  # statements, which may be several lines


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
    setup: tuple[str, ...]
    segments: tuple[SegmentView, ...]
    calls: Mapping[int, str]  # of all stages by number
    accumulate: tuple[str, ...]
    finish: tuple[str, ...]
    clear: tuple[Statement, ...]
    has_tiles: bool
    beside: bool
    has_rows: bool
    has_clear: bool
    work_numbers: str
    tile_numbers: str
    row_numbers: str
    size: SizeView
    sizes_use_columns: bool
    cost: str
    barriers: tuple[int, int]  # once, and for each chunk of rows
    uses_noise: bool
    blas: bool  # whether the caller may pass a BLAS
    helpers: tuple[str, ...]
    definitions: tuple[str, ...]


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
    drafts, helpers, definitions = [], set[str](), dict[str, None]()
    made = [stage for stage in plan.stages if not dialect.omits(plan, stage)]
    for stage in made:
        body = dialect.body(plan, stage, f"{model}_")
        statements = body.build()
        places = body.places
        helpers |= places.helpers
        definitions.update(places.definitions)
        function = _function(plan, stage, identifier(plan.name, "program"))
        drafts.append(Draft(function, tuple(places.declared.values()), statements, places.template))
    stages = []
    text: dict[int, str] = {}
    for shared in share(drafts):
        members = tuple(made[k] for k in shared.members)
        stages.append(_stage_view(plan, name, shared, members, dialect))
        for stage, arguments in zip(members, shared.arguments, strict=True):
            frame = ["f"] if shared.uses_frame else []
            name_of = f"{shared.name}<{shared.template}>" if shared.template else shared.name
            text[stage.number] = _list(f"{name_of}(", [*frame, *arguments], ");")

    def calls(phase: Sequence[Stage]) -> tuple[str, ...]:
        made = [s for s in phase if s.number in text]
        if not dialect.together:
            return tuple(_if_needed(plan, s.needed_by, [text[s.number]]) for s in made)
        alike = groupby(made, lambda s: s.needed_by)
        return tuple(_if_needed(plan, names, [text[s.number] for s in stages]) for names, stages in alike)

    clear = _clear(plan, name)
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
        calls=text,
        accumulate=calls(plan.accumulate),
        finish=calls(plan.finish),
        clear=tuple(clear),
        has_tiles=bool(plan.segments),
        beside=plan.beside,
        has_rows=bool(plan.segments or plan.accumulate),
        has_clear=bool(clear),
        work_numbers=_size(plan.work),
        tile_numbers=_size(plan.tile_memory),
        row_numbers=_size(plan.rows),
        size=_size_view(plan),
        cost=_cost(plan),
        barriers=_barriers(plan, {stage.number: draft.body for stage, draft in zip(made, drafts, strict=True)}),
        sizes_use_columns=any(t.columns for t in sizes),
        uses_noise=plan.has_noise,
        blas=plan.blas > 0,
        helpers=tuple(sorted(helpers)),
        definitions=tuple(definitions),
    )


def _if_needed(plan: Plan, outputs: Sequence[str], calls: Sequence[str]) -> str:
    """``calls``, made if the caller wants one of the outputs that need them (if any are named)."""
    together = "\n".join(calls)
    if not outputs:
        return together
    wanted = " || ".join(f"f->args->{plan.output_field(name)} != NULL" for name in outputs)
    return f"if ({wanted}) {{\n{textwrap.indent(together, '    ')}\n}}"


def _stage_view(
    plan: Plan, name: str, shared: Function, members: tuple[Stage, ...], dialect: Dialect
) -> StageView:
    comment = stage_text(plan, members[0])
    if len(members) > 1:
        others = ", ".join(str(s.number) for s in members[1:])
        comment += textwrap.wrap(f"The same, on other arrays: stages {others}", WIDTH, subsequent_indent="  ")
    kind = dialect.shared if len(members) > 1 else dialect.function
    frame = [f"const {name}_frame *f"] if shared.uses_frame else []
    signature = _list(f"{kind} {shared.name}(", [*frame, *shared.parameters], ")")
    if shared.template:
        signature = f"template <int {shared.template}>\n{signature}"
    body = [*(line(d.text) for d in shared.declared), *shared.body]
    return StageView(shared.name, members, signature, tuple(comment), tuple(body))


def _list(start: str, items: Sequence[str], end: str) -> str:
    """``start item, item end``, broken into lines where it is long."""
    text = ", ".join(items)
    if len(start) + len(text) + len(end) <= WIDTH:
        return start + text + end
    lines = [""]
    for k, item in enumerate(items):
        piece = item + ("," if k < len(items) - 1 else end)
        if lines[-1] and len(lines[-1]) + len(piece) > WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{piece}"
    return "\n    ".join([start, *lines])


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
        about = f", {_safe(given.range_text)}" if given.range_text else ""
        fields.append(Field(name, f"const {real} *{name}", _shape(given, f"{given.kind} {given.name}") + about))
    for name, field, node in output_fields(plan):
        fields.append(Field(field, f"{real} *{field}", _shape(node, f"output {name}") + ", or NULL"))
    fields += [
        Field("n_rows", "int64_t n_rows", "rows of this call"),
        Field("columns", "int64_t columns", "noise columns of this call"),
        Field("first_row", "int64_t first_row", "absolute number of the first row (for the noise)"),
        Field("first_column", "int64_t first_column", "absolute number of the first column (for the noise)"),
        Field("seed", "uint64_t seed", "seed of the noise"),
        Field("design", "int32_t design", "0 independent, 1 Hadamard, 2 exact answer, 3 some columns of it"),
        Field("accumulate", "int32_t accumulate", "1: add to the outputs without rows, 0: overwrite them"),
        Field("threads", "int32_t threads", "threads to use, at least 1"),
    ]
    for scale in scale_inputs(plan):
        name = plan.value(scale).name
        fields.append(Field(name, f"{real} {name}", f"scale {scale.name}"))
    if plan.blas:
        fields.append(Field("blas", f"const {model}_blas *blas", "for large products, or NULL: own loops compute them"))
    return fields


def _count(node: Node) -> str:
    """The number of numbers of an output, as C text in size_t."""
    factors = [f"(size_t)args->{name}" for name, axis in (("n_rows", ROWS), ("columns", COLUMNS)) if axis in node.shape]
    return " * ".join([*factors, f"(size_t){elements(node)}"])


def _shape(node: Node, what: str) -> str:
    dims = ", ".join(_extent(e) for e in node.shape)
    return _safe(f"{what} ({dims})")


def _extent(extent: Extent) -> str:
    return {"rows": "n_rows", "columns": "columns"}.get(extent_text(extent), extent_text(extent))


def statuses(plan: Plan, name: str) -> list[Status]:
    """Status codes: 0 is success, a negative one names the argument that is wrong; 1 (in C) says that all was computed
    and that a number of the outputs is not finite."""
    upper = name.upper()
    found = [("ARGS", "args is NULL", "")]
    for node in arrays(plan):
        field = plan.value(node).name
        needed = f"args->{field} == NULL"
        if node.has_rows:
            needed = f"({needed} && args->n_rows > 0)"
        found.append((field.upper(), f"{field} is NULL or misaligned", f"{needed} || MISPLACED(args->{field})"))
    lowest_columns = 1 if plan.has_columns else 0
    columns = f"args->columns < {lowest_columns} || args->columns > {LARGEST}"
    columns_meaning = f"columns is not in [{lowest_columns}, 2**31)"
    whole = plan.program.whole if plan.has_columns else None
    if whole is not None:
        exact = "args->design != 3" if plan.program.unit else "args->design == 2"
        columns += f" || ({exact} && (args->columns != {whole} || args->first_column != 0))"
        columns_meaning += f", or not the {whole} from first_column 0 of the exact answer"
    accumulate = "args->accumulate < 0 || args->accumulate > 1"
    meaning = "accumulate is not 0 or 1"
    if not plan.accumulable:
        accumulate = "args->accumulate != 0"
        meaning = "accumulate is not 0, and an output is computed from finished sums"
    found += [
        (
            "N_ROWS",
            "n_rows is not in [0, 2**31)",
            f"args->n_rows < 0 || args->n_rows > {LARGEST}",
        ),
        ("COLUMNS", columns_meaning, columns),
        (
            "FIRST_ROW",
            "first_row is not in [0, 2**62)",
            "args->first_row < 0 || args->first_row >= INT64_C(0x4000000000000000)",
        ),
        (
            "FIRST_COLUMN",
            "first_column is not in [0, 2**62)",
            "args->first_column < 0 || args->first_column >= INT64_C(0x4000000000000000)",
        ),
        ("DESIGN", "design is not 0, 1, 2 or 3", "args->design < 0 || args->design > 3"),
        ("ACCUMULATE", meaning, accumulate),
        (
            "THREADS",
            f"threads is not in [1, {MOST_THREADS}]",
            f"args->threads < 1 || args->threads > {MOST_THREADS}",
        ),
        ("WORK", "work is NULL", "work == NULL"),
        (
            "WORK_BYTES",
            "the workspace is too small",
            f"work_bytes < {name}_workspace_bytes(args->n_rows, args->columns, args->threads)",
        ),
    ]
    if plan.blas:
        neither = "args->blas != NULL && args->blas->gemm == NULL && args->blas->gemm_64 == NULL"
        found.append(("BLAS", "blas has neither of its functions", neither))
    misplaced = [f"MISPLACED(args->{field})" for _, field, _ in output_fields(plan)]
    found.append(("OUTPUTS", "an output is misaligned", " || ".join(misplaced)))
    result = [
        Status(f"{upper}_OK", 0, "success", ""),
        Status(f"{upper}_NOT_FINITE", 1, "computed; a number of the outputs is infinite or NaN", ""),
    ]
    taken: set[str] = set()
    for k, (suffix, text, test) in enumerate(found):
        unique = suffix if suffix not in taken else f"{suffix}_{k}"
        taken.add(unique)
        result.append(Status(f"{upper}_BAD_{unique}", -1 - k, text, test))
    return result


# Memory


def _size(total: Totals) -> str:
    """The number of numbers in a space, as C text in size_t."""
    parts = [f"(size_t){total.constant}"] if total.constant or not total.columns else []
    if total.columns:
        parts.append(f"(size_t){total.columns} * (size_t)columns")
    return " + ".join(parts)


def _cost(plan: Plan) -> str:
    """Operations of a run that threads can share, a call counting as CALL of them: C text in ``rows`` and ``cols``.

    The stages of one tile of rows are one thread's.
    """
    others = replace(plan, segments=())
    suffix = "" if plan.real == "float64" else "f"

    def total(rows: int, columns: int) -> tuple[int, int]:
        found, rest = (
            o.total + (CALL - 1) * sum(n for _, n in o.calls)
            for o in (plan.operations(rows, columns), others.operations(rows, columns))
        )
        return rest, found - rest

    def text(part: int) -> str:
        fixed, rows, columns, both = (total(r, k)[part] for r, k in ((0, 0), (1, 0), (0, 1), (1, 1)))
        terms = [(fixed, ""), (rows - fixed, " * rows"), (columns - fixed, " * cols")]
        terms.append((both - rows - columns + fixed, " * rows * cols"))
        return " + ".join(f"{number}.0{suffix}{by}" for number, by in terms if number) or f"0.0{suffix}"

    tiles, nothing = text(1), f"0.0{suffix}"
    if not plan.segments or tiles == nothing:
        return text(0)
    return f"{text(0)} + (args->n_rows > LANES ? {tiles} : {nothing})"


def _barriers(plan: Plan, bodies: Mapping[int, Body]) -> tuple[int, int]:
    """How often threads wait for each other's work: once in a run, and besides for each chunk of rows."""

    def waits(body: Body) -> int:
        own = sum(s.pragma.startswith(("OMP_FOR", "OMP_SINGLE")) and not s.pragma.endswith("NOWAIT") for s in body)
        return own + sum(waits(s.body) for s in body if s.body)

    once = sum(waits(bodies[s.number]) for s in (*plan.setup, *plan.finish) if s.number in bodies)
    return once, bool(plan.segments) + bool(plan.accumulate)


def _size_view(plan: Plan) -> SizeView:
    def safe(total: Totals) -> str:
        if not total.columns:
            return f"{total.constant}U"
        product = f"size_product({total.columns}U, (size_t)columns)"
        return f"size_sum({total.constant}U, {product})" if total.constant else product

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
    zero, lowest = ("0.0", "-HUGE_VAL") if plan.real == "float64" else ("0.0f", "-HUGE_VALF")
    for stage in plan.accumulate:
        node = stage.nodes[0]
        assert isinstance(node, Map)
        value: Value = plan.value(node)
        count = elements(node)
        size = f"f->columns * {count}" if node.has_columns else str(count)
        start = zero if node.reduce == "sum" else lowest
        if value.direct:
            target = f"f->args->{plan.output_field(value.direct)}"
            call = line(f"{name}_fill({target}, {size}, {start});")
            body.append(Statement(f"if ({target} != NULL && f->args->accumulate == 0)", [call]))
        elif value.work is not None:
            body.append(line(f"{name}_fill({address(plan, value.work, value.name)}, {size}, {start});"))
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
        wrapped += textwrap.wrap(_safe(text), WIDTH, subsequent_indent="      ", break_on_hyphens=False) or [
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
    body = re.sub(r"\b_(\d+)\b", lambda m: reads[int(m.group(1))], spelled(node.expr))
    if node.reduced:
        over = ", ".join(f"{axes[a]} < {_extent(node.extents[a])}" for a in node.reduced)
        body = f"{node.reduce}_{{{over}}} {body}"
    if node.guards:
        body += " where " + ", ".join(f"0 <= {affine(g.index)} < {_extent(g.extent)}" for g in node.guards)
    return f"{subscript(node, [axes[a] for a in range(node.rank)])} = {body}"


def _safe(text: str) -> str:
    """Text that cannot end a comment or leave its line."""
    text = text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
    return "".join(c if c.isprintable() and ord(c) < 127 else " " if c.isspace() else "?" for c in text)
