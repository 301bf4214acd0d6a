"""Views through the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jinja2

from cpgen.code import printer, tokens
from cpgen.code.identifiers import external_prefix
from cpgen.code.rewrite import calls
from cpgen.code.tree import Statement
from cpgen.emit.runtime import (
    HEADERS,
    LIMITED,
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
from cpgen.emit.spelling import FUNCTIONS, Spelling
from cpgen.emit.views import LARGEST, MOST_THREADS, ProgramView, program_view, words
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
    programs: tuple[ProgramView, ...]
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
    views = tuple(program_view(plan, name) for plan in plans)
    names = [v.name for v in views]
    if len(set(names)) != len(names):
        raise RequestError(f"two programs of {model_name} have the same name: {', '.join(sorted(names))}")
    # a single row gives the vector unit nothing to do
    own = None if private else VECTORISED if any(p.tile > 1 for p in plans) else ()
    spelling = Spelling(
        name,
        frozenset(FUNCTIONS.union(*(view.own_names for view in views))),
        private,
        str if libm else own_function(real, own),
        f"cpgen_infinity_{'f64' if real == 'float64' else 'f32'}" if private and not libm else "",
    )
    definitions = list(dict.fromkeys(d for v in views for d in v.definitions))
    used = spelling.used(words(views).union(*map(tokens.names, definitions)))
    called = spelling.used({name for view in views for name in calls(view.trees)}.union(*map(tokens.called, definitions)))
    runtime, in_headers = {}, False
    for file in HEADERS:
        needed = (used | set(helpers)) & defined(file)
        if needed and private:
            others = header_parts("cpgen_libm.h") if libm else ()
            chosen = select(header_parts(file), needed, others)
            text = text_of(chosen)
            in_headers = in_headers or any(uses_library(part.calls, part.names) for part in chosen)
            runtime[spelling.word(file)] = spelling.header(text)
        elif needed:
            runtime[file] = header(file)
    views = tuple(view.spelled(spelling) for view in views)
    library = uses_library(called, used)
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": __version__,
        "real": real,
        "programs": views,
        "largest_size": max(t.constant for p in plans for t in (p.work, p.tile_memory, p.rows)) if plans else 0,
        "largest_offset": max((o.value for v in views for o in v.offsets), default=0),
        "largest": LARGEST,
        "threads": MOST_THREADS,
        "zero": "0.0" if real == "float64" else "0.0f",
        "beside": any(v.beside for v in views),
        "notes": notes,
        "blas": any(v.blas for v in views),
        "definitions": [spelling.text(d) for d in definitions],
        "private": private,
        "macros": spelling.macros,
        "runtime": spelling.runtime.upper(),
        "local": spelling.local,
        "includes": sorted(runtime),
        "math_header": library,
    }
    source = render("c/program.c.j2", context)
    declarations = render("c/declarations.h.j2", context)
    text = render("c/program.h.j2", {**context, "declarations": declarations})
    return CFiles(name, text, source, runtime, declarations, views, library or in_headers)


def render(template: str, context: Mapping[str, object]) -> str:
    """The text of one template."""
    return _environment().get_template(template).render(context)
