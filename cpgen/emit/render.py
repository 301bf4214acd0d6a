"""Views through the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jinja2

from cpgen.code import printer, tokens
from cpgen.code.identifiers import external_prefix, identifier
from cpgen.code.rewrite import calls
from cpgen.code.tree import Statement
from cpgen.emit.arguments import LARGEST, declared, statuses
from cpgen.emit.runtime import (
    HEADERS,
    LIMITED,
    RUN,
    VECTORISED,
    defined,
    header,
    header_parts,
    own_function,
    select,
    template_folder,
    text_of,
    uses_library,
)
from cpgen.emit.spelling import Spelling
from cpgen.emit.views import CView, c_views, words
from cpgen.errors import RequestError
from cpgen.loops.plan import Plan
from cpgen.version import __version__


@dataclass(frozen=True)
class CFiles:
    """The C text of a model: ``<name>.h``, ``<name>.c`` and the runtime headers that must lie beside them.

    ``declarations`` is the part of the header between its include guards, free of preprocessor lines.
    """

    name: str
    header: str
    source: str
    runtime: dict[str, str]
    declarations: str
    programs: tuple[CView, ...]
    library: bool  # whether math.h is used

    @property
    def limited(self) -> bool:
        """Whether a function is called that gives NaN for arguments beyond its range (sin, cos, tan)."""
        return any(not LIMITED.isdisjoint(calls(view.trees)) for view in self.programs)

    def files(self) -> dict[str, str]:
        """All files by name."""
        return {f"{self.name}.h": self.header, f"{self.name}.c": self.source, **self.runtime}


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {
        "c": printer.expression,
        "condition": printer.condition,
        "lines": _lines,
        "signature": printer.signature,
    }
    return environment


def _lines(body: Sequence[Statement], depth: int = 0) -> str:
    """Statements as the lines of a function, indented by ``depth`` spaces."""
    return "".join(f"{line}\n" for line in printer.lines(body, depth))


def emit_c(
    model_name: str,
    plans: Sequence[Plan],
    real: str = "float64",
    prefix: str | None = None,
    private: bool = False,
    libm: bool = False,
    notes: Sequence[str] = (),
    helpers: Sequence[str] = (),
) -> CFiles:
    """C99 text of all ``plans`` in one source file.

    Every name starts with ``prefix`` (by default the model's name) except macros that are the same in every text, so one
    file may include several texts.  ``private``: these macros, too, and the runtime headers are cut down to what is
    called and renamed after the prefix, so that nothing is shared with another model's text; nothing of math.h is then
    used.  Otherwise math.h serves where it is faster.  ``libm``: mathematical functions come from the C library instead
    of the runtime headers.  ``notes`` are added to the banner,
    ``helpers`` are runtime functions needed besides.
    Deterministic: the text depends on the arguments alone.  Raises RequestError if two programs have one name or a plan
    was made for another ``real``.
    """
    name = external_prefix(prefix or model_name)
    if any(p.real != real for p in plans):
        raise RequestError(f"all programs of {model_name} must be planned for {real}")
    named = [identifier(plan.name, "program") for plan in plans]
    if len(set(named)) != len(named):
        raise RequestError(f"two programs of {model_name} have the same name: {', '.join(sorted(named))}")
    views = c_views(plans, name)
    # a single row gives the vector unit nothing to do
    own = None if private else VECTORISED if any(p.tile > 1 for p in plans) else ()
    spelling = Spelling(
        name,
        frozenset().union(*(view.own_names for view in views)),
        private,
        str if libm else own_function(real, own),
        f"cpgen_infinity_{'f64' if real == 'float64' else 'f32'}" if private and not libm else "",
    )
    definitions = list(dict.fromkeys(d for v in views for d in v.definitions))
    trees = [v.trees for v in views]
    used = spelling.used(words(trees).union(*map(tokens.names, definitions)))
    called = spelling.used({*calls(trees)}.union(*map(tokens.called, definitions)))
    views = tuple(view.spelled(spelling) for view in views)
    runtime, in_headers = {}, False
    for file in HEADERS:
        needed = (used | set(helpers)) & defined(file)
        if needed and private:
            others = header_parts("cpgen_libm.h") if libm else ()
            chosen = select(header_parts(file), needed, others)
            in_headers = in_headers or any(uses_library(part.calls, part.names) for part in chosen)
            runtime[spelling.word(file)] = spelling.header(text_of(chosen), real)
        elif needed:
            runtime[file] = header(file)
    driver = {"cpgen_arithmetic"}.union(*(view.runtime for view in views))
    driver |= {"STAGE", "SHARED"} if private else {"INLINE"}
    driver |= {"SHARED"} if any(v.blas for v in views) else set()
    runtime[spelling.word(RUN)] = spelling.header(text_of(select(header_parts(RUN), driver | words(trees))), real)
    library = uses_library(called, used)
    programs, named_as = [view.statuses for view in views], statuses(plans, name)
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": __version__,
        "real": real,
        "number": "double" if real == "float64" else "float",
        "programs": views,
        "statuses": named_as.of_model(programs),
        "array_statuses": printer.packed([f"{s.name} = {s.code}" for s in map(named_as.array, named_as.arrays)], 4),
        "members": {v.name: declared(v.fields, views[0].fields * (k > 0), views[0].title) for k, v in enumerate(views)},
        "notes": notes,
        "blas": any(v.blas for v in views),
        "definitions": [spelling.text(d) for d in definitions],
        "macros": spelling.macros,
        "run": f"{name}_rt_",
        # first what has pragmas for all that follows
        "includes": [spelling.word(RUN), *sorted(file for file in runtime if file != spelling.word(RUN))],
        "math_header": library,
        "lanes": _lanes(views, name),
        "workspaces": any(v.workspace for v in views),
        **_largest(plans, views, real),
    }
    source = render("c/program.c.j2", {**context, "tiles": _tiles(views)})
    declarations = render("c/declarations.h.j2", context)
    text = render("c/program.h.j2", {**context, "declarations": declarations})
    return CFiles(name, text, source, runtime, declarations, views, library or in_headers)


def _largest(plans: Sequence[Plan], views: Sequence[CView], real: str) -> dict[str, object]:
    """The largest size and offset in numbers, and whether a machine of 32 bits might not have room for them."""
    size = max((t.constant for p in plans for t in (p.work, p.tile_memory, p.rows)), default=0)
    offset = max((o.value * (v.lanes if o.tile else 1) for v in views for o in v.offsets), default=0)
    return {
        "largest_size": size,
        "largest_offset": offset,
        "guards": max(size * (8 if real == "float64" else 4), offset) > LARGEST,
    }


@dataclass(frozen=True)
class LanesView:
    """A macro with which whoever compiles chooses the rows in a tile; ``of``: what it is of."""

    chosen: str
    lanes: int
    of: str


def _lanes(views: Sequence[CView], name: str) -> list[LanesView]:
    tiled = [v for v in views if v.has_tiles]
    several = len({v.lanes_chosen for v in tiled}) > 1
    return list(dict.fromkeys(LanesView(v.lanes_chosen, v.lanes, v.title if several else name) for v in tiled))


@dataclass(frozen=True)
class GroupMacro:
    name: str
    size: int


@dataclass(frozen=True)
class TileMacro:
    """What the text calls the rows in a tile, and groups of them."""

    name: str
    chosen: str
    groups: tuple[GroupMacro, ...]


def _tiles(views: Sequence[CView]) -> list[TileMacro]:
    found: dict[str, TileMacro] = {}
    named = words([v.trees for v in views])
    for v in views:
        if v.has_tiles and (v.lanes > 1 or v.lanes_macro in named):
            groups = {GroupMacro(v.group_macro, v.group)} if v.group else set()
            before = found.get(v.lanes_macro)
            groups |= set(before.groups) if before else set()
            rows = v.lanes_chosen if v.lanes > 1 else "1 /* rows in a tile: the text is made for that */"
            found[v.lanes_macro] = TileMacro(v.lanes_macro, rows, tuple(groups))
    return list(found.values())


def render(template: str, context: Mapping[str, object]) -> str:
    """The text of one template."""
    return _environment().get_template(template).render(context)
