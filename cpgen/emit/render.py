"""Views through the templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jinja2

import cpgen
from cpgen.emit.views import ProgramView, program_view
from cpgen.errors import RequestError
from cpgen.loops.names import identifier
from cpgen.loops.plan import ALIGNMENT, TILES_PER_THREAD, Plan


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
    model_name: str, plans: Sequence[Plan], real: str = "float64", prefix: str | None = None
) -> CFiles:
    """C99 text of all ``plans`` in one source file.

    Every external name starts with ``prefix`` (by default the model's name).  Deterministic: the text depends on the
    plans alone.  Raises RequestError if two programs have one name or a plan was made for another ``real``.
    """
    name = identifier(prefix or model_name, "model")
    if any(p.real != real for p in plans):
        raise RequestError(f"all programs of {model_name} must be planned for {real}")
    views = tuple(program_view(plan, name) for plan in plans)
    names = [v.name for v in views]
    if len(set(names)) != len(names):
        raise RequestError(f"two programs of {model_name} have the same name: {', '.join(sorted(names))}")
    environment = _environment()
    helpers = {h for v in views for h in v.helpers}
    runtime = {}
    if any(h.startswith("cpgen_") for h in helpers):
        runtime["cpgen_scalar.h"] = _runtime("cpgen_scalar.h")
    if any(v.uses_noise for v in views):
        runtime["cpgen_philox.h"] = _runtime("cpgen_philox.h")
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": cpgen.__version__,
        "real": real,
        "programs": views,
        "includes": sorted(runtime),
        "alignment": ALIGNMENT,
        "tiles_per_thread": TILES_PER_THREAD,
        "definitions": list(dict.fromkeys(d for v in views for d in v.definitions)),
    }
    declarations = environment.get_template("c/declarations.h.j2").render(context)
    header = environment.get_template("c/program.h.j2").render(context, declarations=declarations)
    source = environment.get_template("c/program.c.j2").render(context)
    return CFiles(name, header, source, runtime, declarations, views)


@lru_cache(maxsize=8)
def _runtime(name: str) -> str:
    return (template_folder() / "runtime" / name).read_text(encoding="utf-8")
