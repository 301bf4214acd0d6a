"""What the templates see of a program: its functions as trees, and frozen names, numbers and lists."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import PurePath
from typing import Any, TypeVar

from cpgen.code import printer
from cpgen.code.identifiers import identifier
from cpgen.code.rewrite import mentions, nodes, rebuilt, replaced
from cpgen.code.tokens import in_comment, renamed
from cpgen.code.tree import (
    Assign,
    Block,
    Body,
    Call,
    Do,
    Element,
    Expression,
    For,
    Function,
    If,
    Let,
    Member,
    Name,
    Operation,
    Parameter,
    Statement,
    Type,
    binary,
    branch,
    every,
    number,
    of,
)
from cpgen.emit.arguments import (
    NUMBERS,
    ArrayView,
    Field,
    Status,
    Statuses,
    extent_name,
    fields,
    statuses,
)
from cpgen.emit.body import StageBody, stage_body
from cpgen.emit.names import COLUMNS_BEGIN, LANES, address, axis_names, elements, member_axes, offset_name
from cpgen.emit.places import lowest, zero
from cpgen.emit.rows import NULL
from cpgen.emit.share import ARGS, Draft, Shared, share
from cpgen.emit.spelling import Spelling
from cpgen.ir.nodes import ROWS, Index, Map, Node
from cpgen.ir.stack import stacked
from cpgen.ir.text import digest
from cpgen.loops.plan import Plan, Stage, Totals, Value, Work
from cpgen.scalar import spelled

WIDTH = 104  # of comments
# as in templates/runtime/cpgen_run.h: operations of a call that is not worth a team, and barriers that cost as much again
SERIAL_BELOW, BARRIERS = 200_000, 50
WORK = Name("numbers")  # the workspace of a program that has no frame

View = TypeVar("View", bound="ProgramView")


@dataclass(frozen=True)
class Offset:
    """Where a value begins in its space; ``tile``: that of a tile, counted for each lane."""

    name: str
    value: int
    tile: bool = False


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
    """One program of a model, in C or on a device: its functions and who calls them when.

    ``stages``: functions that no program before has.
    """

    name: str  # prefix of its external names
    title: str
    title_id: str  # title as part of a C name
    upper: str
    real: str
    digest: str
    offsets: tuple[Offset, ...]
    stages: tuple[StageView, ...]
    clear: tuple[Statement, ...]  # starts the sums over rows
    setup: tuple[Statement, ...]
    segments: tuple[SegmentView, ...]
    calls: Mapping[int, Statement]  # of all stages by number
    accumulate: tuple[Statement, ...]
    finish: tuple[Statement, ...]
    has_tiles: bool
    has_rows: bool
    definitions: tuple[str, ...]

    @property
    def has_clear(self) -> bool:
        return bool(self.clear)

    @property
    def trees(self) -> tuple[object, ...]:
        """All that the text computes."""
        stages = tuple(stage.function for stage in self.stages)
        return (stages, self.setup, tuple(s.calls for s in self.segments), self.accumulate, self.finish, self.clear)

    @property
    def own_names(self) -> set[str]:
        """What the text of this program defines, except for what begins with its name."""
        return {stage.function.name for stage in self.stages} | {offset.name for offset in self.offsets}

    def spelled(self: View, spelling: Spelling) -> View:
        """This program with the names of a text."""
        tree = spelling.tree
        return replace(
            self,
            offsets=tuple(replace(o, name=spelling.word(o.name)) for o in self.offsets),
            stages=tuple(replace(s, function=tree(s.function)) for s in self.stages),
            setup=tree(self.setup),
            segments=tuple(replace(s, calls=tree(s.calls)) for s in self.segments),
            calls={number: tree(call) for number, call in self.calls.items()},
            accumulate=tree(self.accumulate),
            finish=tree(self.finish),
            clear=tree(self.clear),
        )


@dataclass(frozen=True)
class Phase:
    """Calls of stages that the driver makes at one time."""

    name: str
    comment: str
    calls: tuple[Statement, ...]
    reads_args: bool


@dataclass(frozen=True)
class CView(ProgramView):
    """One program in C.

    ``plain``: without rows, columns and a team, so that it is no more than checks and calls of its stages; others are run
    by templates/runtime/cpgen_run.h.  ``numbers``: the members of its arguments besides arrays, scales and the BLAS.
    ``workspace``: whether it needs any.
    """

    fields: tuple[Field, ...] = ()
    numbers: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    arrays: tuple[ArrayView, ...] = ()
    plain: bool = False
    workspace: bool = False
    alignment: int = 0  # bytes that the workspace has more than its numbers need, so that it may begin anywhere
    memory: tuple[Totals, Totals, Totals] = (Totals(0, 0), Totals(0, 0), Totals(0, 0))  # work, tile, rows
    has_columns: bool = False
    whole: int | None = None  # columns of the exact answer, where they are the caller's to give
    unit: bool = False
    lanes: int = 1
    lanes_macro: str = "LANES"  # in the text
    lanes_chosen: str = ""  # what whoever compiles may define
    group: int = 0  # lanes whose sums are held at once, 0 where that is always the whole tile
    group_macro: str = "GROUP"
    chunk_tiles: int = 0
    beside: bool = False
    shared_cost: Work = Work(0, 0, 0, 0)
    tile_cost: Work = Work(0, 0, 0, 0)
    barriers: tuple[int, int] = (0, 0)  # once, and for each chunk of rows
    blas: bool = False  # whether the caller may pass a BLAS

    @property
    def sized_by(self) -> tuple[str, ...]:
        """What the size of the workspace depends on, as members of the arguments."""
        if not self.has_tiles:
            return ("columns",) if self.memory[0].columns else ()
        columns = any(total.columns for total in self.memory)
        return ("n_rows", "columns", "threads") if columns else ("n_rows", "threads")

    @property
    def size_signature(self) -> str:
        """The head of the function that tells the size of the workspace."""
        given = ", ".join(f"{NUMBERS[name][0]} {name}" for name in self.sized_by)
        return f"size_t {self.name}_workspace_bytes({given or 'void'})"

    @property
    def size_arguments(self) -> str:
        """Rows, columns and threads as that function has them."""
        others = {"n_rows": "0", "columns": "0", "threads": "1"}
        return ", ".join(name if name in self.sized_by else other for name, other in others.items())

    def workspace_of(self, n_rows: int, columns: int, threads: int = 1) -> str:
        """The size of the workspace of a call, as a constant expression."""
        if not self.workspace:
            return "0U"
        numbers = {"n_rows": n_rows, "columns": columns, "threads": threads}
        given = ", ".join(str(numbers[name]) for name in self.sized_by)
        return f"{self.upper}_WORKSPACE_BYTES" + (f"({given})" if given else "")

    @property
    def offset_lines(self) -> list[str]:
        by_lane = f" * {self.lanes_macro}" if self.lanes > 1 else ""
        found = [f"{o.name} = {o.value}{by_lane if o.tile and o.value else ''}" for o in self.offsets]
        return printer.packed(found, 4)

    @property
    def program_lines(self) -> list[str]:
        """The members of the driver's description of this program."""
        found = [f".arrays = {self.name}_arrays", f".n_arrays = {len(self.arrays)}U"]
        if self.workspace:
            for name, size in zip(("work", "tile", "rows"), self.memory, strict=True):
                if size.constant or size.columns:
                    found.append(f".{name} = {{{size.constant}U, {size.columns}U}}")
            found.append(f".alignment = {self.alignment}U")
        found.append(f".lanes = {self.lanes_macro if self.has_tiles and self.lanes > 1 else 1}")
        found += [f".group = {self.group_macro}"] if self.group else []
        found += [".beside = 1"] if self.beside else []
        found += [f".chunk_tiles = {self.chunk_tiles}"]
        named = zip(("barriers", "chunk_barriers"), self.barriers, strict=True)
        found += [f".{name} = {count}" for name, count in named if count]
        for name, cost in (("shared", self.shared_cost), ("tiles", self.tile_cost)):
            if any(cost):
                found.append(f".{name} = {{{', '.join(map(str, cost))}}}")
        found += [".least_columns = 1"] if self.has_columns else []
        found += [f".whole = {self.whole}"] if self.whole is not None else []
        found += [".unit = 1"] if self.unit else []
        found += [f".{phase.name} = {self.name}_{phase.name}" for phase in self.phases]
        found += [f".rows_of_tile = {self.name}_tile"] if self.has_tiles else []
        return printer.packed(found, 4)

    @property
    def workspace_text(self) -> str:
        """The size of the workspace, as the body of a macro."""

        def numbers(size: Totals) -> str:
            columns = [f"{size.columns}U * (size_t)(columns)"] if size.columns else []
            return " + ".join([f"{size.constant}U"] * bool(size.constant) + columns) or "0U"

        work, tile, row = self.memory
        parts = [numbers(work)] if work.constant or work.columns else []
        if self.has_tiles:
            model = self.name[: -len(self.title_id) - 1].upper()
            lanes = self.lanes_chosen if self.lanes > 1 else "1U"
            sizes = f"{numbers(tile)}, {numbers(row)}, {lanes}, {self.chunk_tiles}U"
            parts.append(f"{model}_TILED({sizes}, n_rows, threads)")
        total = parts[0] if len(parts) == 1 and self.has_tiles else f"({' + '.join(parts)})"
        return f"    ({total} * sizeof({self.real}) + {self.alignment}U)"

    @property
    def run_signature(self) -> str:
        work = ", void *work, size_t work_bytes" if self.workspace else ""
        return f"int32_t {self.name}_run(const {self.name}_args *args{work})"

    def call_lines(self, start: str) -> str:
        """The numbers of a call, as the driver takes them, behind ``start``."""
        found = [f".{name} = args->{name}" for name in self.numbers if name != "seed"]
        whole = f"{start}{{{', '.join(found)}}};"
        return whole if len(whole) <= printer.LONGEST else "\n".join([f"{start}{{", *printer.packed(found, 12)]) + "};"

    @property
    def tile_calls(self) -> tuple[Statement, ...]:
        return tuple(call for segment in self.segments for call in segment.calls)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The functions that the driver calls, besides that of a tile."""
        comments = ("Start the sums over rows.", "What depends on no row.", "The sums over the rows of a chunk.",
            "What follows from the sums.")
        found = (self.clear, self.setup, self.accumulate, self.finish)
        names = ("clear", "setup", "sums", "finish")
        every_phase = zip(names, comments, found, strict=True)
        return tuple(Phase(n, c, calls, mentions(calls, ARGS.text)) for n, c, calls in every_phase if calls)

    @property
    def tile_reads_args(self) -> bool:
        return mentions(self.tile_calls, ARGS.text)

    @property
    def runtime(self) -> set[str]:
        """What its text needs of the runtime header besides what its functions name."""
        found = {"cpgen_array", "cpgen_check", "cpgen_end"}
        if self.plain:
            return found | ({"cpgen_aligned", "cpgen_check_work"} if self.workspace else set())
        found |= {"cpgen_program", "cpgen_begin", "OMP_TEAM"}
        found |= {"cpgen_columns_left"} if self.beside else set()
        return found


def words(trees: object) -> set[str]:
    """All names that some functions use."""
    found = set[str]()
    for node in nodes(trees):
        if isinstance(node, Name):
            found.add(node.text)
        elif isinstance(node, Call):
            found.add(node.function)
        elif isinstance(node, Type):
            found.add(node.base)
        elif isinstance(node, (For, Block)) and node.pragma:
            found.add(node.pragma)
        elif isinstance(node, Function):
            found.update(node.kind.split(" "))
    return found


@dataclass(frozen=True)
class Dialect:
    """How the functions of stages are declared and built: in C, or as device code.

    ``frame``: the type of what they work on, from the program's name.  ``arguments``: they get what they read of the
    program's arguments and workspace as parameters.  ``together``: stages may follow each other without anything in
    between.
    """

    body: Callable[[Plan, Stage, str], StageBody] = stage_body
    function: str = "static void"
    shared: str = "SHARED void"  # of a function with several callers
    frame: Callable[[str], str] = lambda name: "cpgen_frame"
    arguments: bool = True
    together: bool = True
    omits: Callable[[Plan, Stage], bool] = lambda plan, stage: False  # stages without a function


C = Dialect()


@dataclass(frozen=True)
class Drafted:
    """A program's stages before it is known which of them share a function."""

    plan: Plan
    name: str
    stages: tuple[Stage, ...]
    drafts: tuple[Draft, ...]
    definitions: tuple[str, ...]
    plain: bool = False


def _drafted(plan: Plan, model: str, dialect: Dialect) -> Drafted:
    name = f"{model}_{identifier(plan.name, 'program')}"
    drafts, definitions = [], dict[str, None]()
    made = tuple(stage for stage in plan.stages if not dialect.omits(plan, stage))
    frame = Parameter(Type(dialect.frame(name), constant=True, pointer=True), "f")
    for stage in made:
        body = dialect.body(plan, stage, f"{model}_")
        statements = body.build()
        places = body.places
        definitions.update(places.definitions)
        declared = tuple(places.declared.values())
        names = identifier(plan.name, "program"), *_function(plan, stage)
        drafts.append(Draft(*names, (frame,), declared, statements, places.template))
    found = Drafted(plan, name, made, tuple(drafts), tuple(definitions))
    return _in_c(found) if dialect.arguments else found


def _views(found: Sequence[Drafted], dialect: Dialect, clear: Callable[[Drafted], Body]) -> list[ProgramView]:
    """Programs of a model, which share what they have alike."""
    every_stage = [(k, stage) for k, program in enumerate(found) for stage in program.stages]
    views: list[list[StageView]] = [[] for _ in found]
    calls: list[dict[int, Statement]] = [{} for _ in found]
    for shared in share([draft for program in found for draft in program.drafts]):
        members = [every_stage[k] for k in shared.members]
        first = members[0][0]
        views[first].append(_stage_view([(found[k].plan, stage) for k, stage in members], shared, dialect))
        for (k, stage), arguments in zip(members, shared.arguments, strict=True):
            calls[k][stage.number] = Do(Call(shared.name, arguments, shared.template))
    return [
        _view(program, tuple(views[k]), calls[k], tuple(clear(program)), dialect) for k, program in enumerate(found)
    ]


def _view(
    found: Drafted,
    stages: tuple[StageView, ...],
    made: Mapping[int, Statement],
    clear: tuple[Statement, ...],
    dialect: Dialect,
) -> ProgramView:
    plan = found.plan

    def calls(phase: Sequence[Stage]) -> tuple[Statement, ...]:
        here = [s for s in phase if s.number in made]
        listed: list[Statement] = []
        alike = groupby(here, lambda s: s.needed_by) if dialect.together else ((s.needed_by, [s]) for s in here)
        for names, together in alike:
            listed += _if_needed(plan, names, [made[s.number] for s in together])
        return tuple(_own_arguments(listed) if dialect.arguments else listed)

    return ProgramView(
        name=found.name,
        title=plan.name,
        title_id=identifier(plan.name, "program"),
        upper=found.name.upper(),
        real="double" if plan.real == "float64" else "float",
        digest=digest(plan.program),
        offsets=tuple(_offsets(plan)),
        stages=stages,
        clear=clear,
        setup=calls(plan.setup),
        segments=tuple(SegmentView(s.columns, calls(s.stages)) for s in plan.segments),
        calls=made,
        accumulate=calls(plan.accumulate),
        finish=calls(plan.finish),
        has_tiles=bool(plan.segments),
        has_rows=bool(plan.segments or plan.accumulate),
        definitions=found.definitions,
    )


def program_view(plan: Plan, model: str, dialect: Dialect, clear: Callable[[Drafted], Body]) -> ProgramView:
    """The view of one plan; ``model`` prefixes every external name."""
    return _views([_drafted(plan, model, dialect)], dialect, clear)[0]


def _if_needed(plan: Plan, outputs: Sequence[str], calls: Sequence[Statement]) -> list[Statement]:
    """``calls``, made if the caller wants one of the outputs that need them (if any are named)."""
    if not outputs:
        return list(calls)
    wanted: list[Expression] = [binary("!=", of("f", "args", plan.output_field(name)), NULL) for name in outputs]
    return [branch(every(wanted, "||"), calls)]


def _stage_view(members: Sequence[tuple[Plan, Stage]], shared: Shared, dialect: Dialect) -> StageView:
    others = {plan.name: [s.number for p, s in members[1:] if p is plan] for plan, _ in members}
    own = members[0][0].name
    said = [
        (f"{name} " if name != own else "") + ", ".join(map(str, found)) for name, found in others.items() if found
    ]
    comment = stage_text(*members[0], f" (as well as {'; '.join(said)})" if said else "")
    function = Function(
        dialect.shared if said else dialect.function,
        shared.name,
        (*shared.context, *shared.parameters),
        (*shared.declared, *shared.body),
        tuple(comment),
        shared.template,
    )
    return StageView(function, tuple(stage for _, stage in members))


# In C


def c_views(plans: Sequence[Plan], model: str) -> tuple[CView, ...]:
    """The programs of a model in C; ``model`` prefixes every external name."""
    found = [_drafted(plan, model, C) for plan in plans]
    named = statuses(plans, model)
    macros = _macros(found, model)
    found = [replace(p, drafts=tuple(m.drafts(p.drafts))) for p, m in zip(found, macros, strict=True)]
    views = _views(found, C, _clear)
    return tuple(
        _c_view(program, macros[k].view(view), named, model)
        for k, (program, view) in enumerate(zip(found, views, strict=True))
    )


def _c_view(found: Drafted, view: CView, named: Statuses, model: str) -> CView:
    plan = found.plan
    numbers = _numbers(plan, view.trees, found.plain)
    memory = (plan.work, plan.tile_memory, plan.rows) if plan.segments else (plan.work, Totals(0, 0), Totals(0, 0))
    workspace = plan.footprint.needed
    shared, tiles = plan.work_shared
    return replace(
        view,
        fields=fields(plan, model, numbers),
        numbers=numbers,
        statuses=named.of(plan, numbers, workspace),
        arrays=named.checked(plan),
        plain=found.plain,
        workspace=workspace,
        alignment=plan.alignment if workspace else 0,
        memory=memory,
        has_columns=plan.has_columns,
        whole=plan.program.whole if plan.has_columns else None,
        unit=plan.program.unit,
        chunk_tiles=plan.chunk_tiles,
        beside=plan.beside,
        shared_cost=shared,
        tile_cost=tiles,
        barriers=plan.barriers,
        blas=plan.blas > 0,
    )


def _numbers(plan: Plan, trees: object, plain: bool) -> tuple[str, ...]:
    """The members of :data:`NUMBERS` that a program has a use for."""
    whole = plan.program.whole is not None and plan.has_columns
    read = {n.name for n in nodes(trees) if isinstance(n, Member) and n.whole == ARGS}
    used: set[str] = {"first_row", "first_column", "seed", "design", "accumulate"} & read
    used |= {"first_column", "design"} if whole else set()
    used |= {"n_rows"} if plan.has_rows else set()
    used |= {"columns"} if plan.has_columns else set()
    used |= set() if plain else {"threads"}
    return tuple(name for name in NUMBERS if name in used)


def _in_c(found: Drafted) -> Drafted:
    """Functions that get arguments and, where that is all there is of a frame, the workspace as parameters."""
    plan = found.plan
    shared = plan.work_shared[0]
    least = SERIAL_BELOW * (1 + plan.barriers[0] / BARRIERS)
    plain = not (plan.has_rows or plan.has_columns) and shared.fixed < least
    given = Parameter(Type(f"{found.name}_args", constant=True, pointer=True), ARGS.text)
    real = "double" if plan.real == "float64" else "float"
    drafts = []
    for draft in found.drafts:
        declared, body = _own_arguments(draft.declared), list(_stored(_own_arguments(draft.body)))
        context = (*draft.context, given)
        if plain:
            context = (given, Parameter(Type(real, pointer=True, fixed=True), WORK.text))
            declared = replaced(declared, of("f", "work"), WORK)
            body = _alone(replaced(body, of("f", "work"), WORK))
        drafts.append(replace(draft, context=context, declared=tuple(declared), body=body))
    return replace(found, drafts=tuple(drafts), plain=plain)


def _own_arguments(tree: Any) -> Any:
    """``args->x`` in place of ``f->args->x``."""
    return replaced(tree, of("f", "args"), ARGS)


def _stored(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """Statements without names for what is only stored, or is a sum that is read once."""
    found: list[Statement] = []
    left = list(body)
    while left:
        here = left.pop(0)
        after = left[0] if left else None
        if isinstance(here, (For, Block, If)):
            here = replace(here, body=_stored(here.body))
        elif isinstance(here, Let) and here.value is not None and not here.sizes:
            times = sum(node == Name(here.name) for node in nodes(left))
            if times == 1 and isinstance(after, Assign) and after.op == "=" and after.value == Name(here.name):
                here = replace(after, value=here.value)
                left.pop(0)
            elif times == 1 and isinstance(here.value, Element) and _of_sums(here.value):
                left = list(replaced(left, Name(here.name), here.value))
                continue
        found.append(here)
    return tuple(found)


def _of_sums(value: Element) -> bool:
    """Whether a value is one of the local sums of a block."""
    first = next(node for node in nodes(value) if isinstance(node, Name))
    return first.text == "sum" or first.text[:4] == "sum_" and first.text[4:].isdigit()


def _alone(body: Body) -> Body:
    """Statements for one thread: nothing is dealt out."""

    def change(node: Any) -> Any:
        if isinstance(node, (For, Block)) and node.pragma.startswith(("OMP_FOR", "OMP_SINGLE")):
            return replace(node, pragma="OMP_SIMD" if "SIMD" in node.pragma else "")
        return node

    found: Body = rebuilt(body, change)
    only = found[0] if len(found) == 1 else None
    return list(only.body) if isinstance(only, Block) else found


@dataclass(frozen=True)
class _Macros:
    """What a program calls the rows in its tile, and the group of them whose sums are held at once."""

    lanes: str
    group: str
    chosen: str
    plan: Plan

    def drafts(self, drafts: Sequence[Draft]) -> list[Draft]:
        offsets = {offset.name for offset in _offsets(self.plan) if offset.tile}

        def placed(node: Any) -> Any:
            """``offset`` in place of ``LANES * offset``: the enumerators count all lanes."""
            if isinstance(node, Operation) and node.first == LANES and len(node.rest) == 1:
                op, place = node.rest[0]
                first = next((n.text for n in nodes(place) if isinstance(n, Name)), "")
                return place if op == "*" and first in offsets else node
            return node

        def named(tree: Any) -> Any:
            tree = rebuilt(tree, placed)
            for name, macro in (("LANES", self.lanes), ("GROUP", self.group)):
                tree = tree if macro == name else replaced(tree, Name(name), Name(macro))
            return tree

        return [replace(d, declared=named(d.declared), body=named(d.body)) for d in drafts]

    def view(self, view: ProgramView) -> CView:
        return CView(
            **vars(view),
            lanes=self.plan.tile,
            group=self.plan.group,
            lanes_macro=self.lanes,
            lanes_chosen=self.chosen,
            group_macro=self.group,
        )


def _macros(found: Sequence[Drafted], model: str) -> list[_Macros]:
    """One name for all programs where they agree."""
    tiled = [p.plan for p in found if p.plan.segments]
    one_tile = len({plan.tile for plan in tiled}) == 1
    one_group = one_tile and len({plan.group for plan in tiled if plan.group}) <= 1
    macros = []
    for program in found:
        upper = program.name.upper()
        chosen = f"{model.upper()}_LANES" if one_tile else f"{upper}_LANES"
        macros.append(
            _Macros("LANES" if one_tile else chosen, "GROUP" if one_group else f"{upper}_GROUP", chosen, program.plan)
        )
    return macros


# Memory and threads


def _offsets(plan: Plan) -> list[Offset]:
    offsets = []
    for space, total in (("work", plan.work), ("tile", plan.tile_memory), ("rows", plan.rows)):
        found = [(v, getattr(v, space)) for v in plan.values]
        slots = [(v, slot) for v, slot in found if slot is not None]
        in_tile = space == "tile"
        offsets += [Offset(offset_name(plan, space, v.name), slot.offset, in_tile) for v, slot in slots]
        if any(slot.columns for _, slot in slots):
            offsets.append(Offset(offset_name(plan, space, COLUMNS_BEGIN), total.constant, in_tile))
    return offsets


def _clear(found: Drafted) -> Body:
    """Calls that set the sums over rows to their starting values."""
    plan = found.plan
    body: Body = []
    for stage in plan.accumulate:
        node = stage.nodes[0]
        assert isinstance(node, Map)
        value: Value = plan.value(node)
        count = number(elements(node))
        size = binary("*", of("f", "columns"), count) if node.has_columns else count
        start = zero(plan.real) if node.reduce == "sum" else lowest(plan.real)
        if value.direct:
            goes_on = of("args", "accumulate") if plan.accumulable else number(0)
            target: Expression = of("args", plan.output_field(value.direct))
            body.append(Do(Call("cpgen_start", (target, size, start, goes_on))))
        elif value.work is not None:
            target = address(plan, value.work, value.name)
            body.append(Do(Call("cpgen_start", (target, size, start, number(0)))))
    return body


# Comments and names of stages


def _function(plan: Plan, stage: Stage) -> tuple[str, str]:
    """What a stage's function is called behind its program's name, and for any array it moves ("" if it computes)."""
    verb = {"map": "compute", "noise": "draw"}.get(stage.kind, stage.kind)
    what = plan.value(stage.nodes[-1] if stage.kind == "map" else stage.nodes[0]).name
    if stage.output:
        what = f"{what}_to_{plan.output_field(stage.output)}"
    return f"{verb}_{what}", "" if stage.kind == "map" else f"{verb}_{elements(stage.nodes[0])}"


def stage_text(plan: Plan, stage: Stage, others: str = "") -> list[str]:
    """Number, what is computed and where it comes from, in lines: the comment above the stage's C.

    ``others``: stages of which the same can be said, but for the names.
    """
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
    lines = [f"Stage {stage.number}{others}, {phase[stage.phase]}: " + what.get(stage.kind, "")]
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
        over = ", ".join(f"{axes[a]} < {extent_name(node.extents[a])}" for a in node.reduced)
        body = f"{node.reduce}_{{{over}}} {body}"
    if node.guards:
        body += " where " + ", ".join(f"0 <= {affine(g.index)} < {extent_name(g.extent)}" for g in node.guards)
    return f"{subscript(node, [axes[a] for a in range(node.rank)])} = {body}"
