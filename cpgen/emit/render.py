"""Views through the templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jinja2

import cpgen
from cpgen.emit.runtime import LIMITED, VECTORISED, needs_library, own_functions, rename, select, uses
from cpgen.emit.views import LARGEST, MOST_THREADS, ProgramView, program_view
from cpgen.errors import RequestError
from cpgen.loops.names import external_prefix
from cpgen.loops.plan import Plan


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

    @property
    def limited(self) -> bool:
        """Whether a function is called that gives NaN for arguments beyond its range (sin, cos, tan)."""
        return bool(LIMITED.search(self.source))

    def files(self) -> dict[str, str]:
        """All files by name."""
        return {f"{self.name}.h": self.header, f"{self.name}.c": self.source, **self.runtime}


def template_folder() -> Path:
    """The templates: beside the package in a checkout, inside it when installed."""
    package = Path(cpgen.__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


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
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": cpgen.__version__,
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
        "definitions": list(dict.fromkeys(d for v in views for d in v.definitions)),
    }
    body = render("c/program.c.j2", {**context, "includes": [], "math_header": False})
    scalar = runtime_header("cpgen_scalar.h")
    # a single row gives the vector unit nothing to do
    own = None if private else VECTORISED if any(p.tile > 1 for p in plans) else ()
    if not libm:
        body = own_functions(body, scalar, real, own)
    needed = uses(body) | set(helpers)
    runtime = {}
    for file in ("cpgen_philox.h", "cpgen_scalar.h"):
        text = runtime_header(file)
        if needed & _defined(text):
            runtime[file] = select(text, needed, runtime_header("cpgen_libm.h") if libm else "") if private else text
    math_header = needs_library(body)
    source = render("c/program.c.j2", {**context, "includes": sorted(runtime), "math_header": math_header})
    if not libm:
        source = own_functions(source, scalar, real, own)
    declarations = render("c/declarations.h.j2", context)
    header = render("c/program.h.j2", {**context, "declarations": declarations})
    if private:
        runtime = {rename(file, name): rename(text, name) for file, text in runtime.items()}
        source = rename(_apart(source), name)
    source = _own_names(source, name, private)
    return CFiles(name, header, source, runtime, declarations, views)


# so that no frame holds the variables of all stages at once, and the deepest stack is short
_STAGE = """/* Stages stay functions of their own: the stack then holds one at a time. */
#if defined(__GNUC__)
#define STAGE static __attribute__((noinline)) void
#else
#define STAGE static void
#endif

"""


def _apart(source: str) -> str:
    """``source`` with every function that returns nothing kept out of line."""
    place = source.index("/* Sizes that stay")
    return source[:place] + _STAGE + re.sub(r"^static void ", "STAGE ", source[place:], flags=re.MULTILINE)


_OWN = (
    r"^#define (\w+)",
    r"^(?:static|SHARED|STAGE)\b[^\n=;]*?\b(\w+)\(",
    r"^    (\w+) = \d+,?$",  # enumerators
)
_DIFFERENT = r"^#define (MISPLACED)\("  # the one macro that is not the same in every text
# of each program, undefined behind it; and what a compiler's command line may say
_SHARED_NAMES = {"LANES", "GROUP", "OMP_SHARE", "OMP_SHARE_SIMD"}


def _own_names(source: str, name: str, macros: bool) -> str:
    """``source`` with ``name`` before what it defines, so that one file may include it beside another model's.

    Without ``macros`` those keep their names that are the same in every text.
    """
    own = (name, name.upper())
    patterns = _OWN if macros else (*_OWN[1:], _DIFFERENT)
    found = {word for pattern in patterns for word in re.findall(pattern, source, re.MULTILINE)}
    others = {word for word in found if not word.startswith((f"{own[0]}_", f"{own[1]}_"))} - _SHARED_NAMES
    if not others:
        return source
    words = re.compile(r"(?<![\w.>])(" + "|".join(sorted(others, key=len, reverse=True)) + r")\b")
    return words.sub(lambda m: (own[1] if m[1].isupper() else own[0]) + "_" + m[1], source)


def render(template: str, context: Mapping[str, object]) -> str:
    """The text of one template."""
    return _environment().get_template(template).render(context)


@lru_cache(maxsize=8)
def runtime_header(name: str) -> str:
    """A header of ``templates/runtime``."""
    return (template_folder() / "runtime" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=8)
def _defined(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"^static inline [\w ]+?(cpgen_\w+)\(", text, re.MULTILINE))
