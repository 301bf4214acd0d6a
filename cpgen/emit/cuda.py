"""Plans for a GPU to CUDA text: views through the templates in ``templates/cuda``.

All sums run in the order of the C text (:mod:`cpgen.emit.device_body`), so results have its bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cpgen.code import tokens
from cpgen.code.identifiers import external_prefix
from cpgen.emit.arguments import LARGEST
from cpgen.emit.device_views import DeviceView, device_view
from cpgen.emit.render import render
from cpgen.emit.runtime import EXACT, HEADERS, Part, defined, header_parts, own_function, select
from cpgen.emit.spelling import Spelling
from cpgen.emit.views import words
from cpgen.errors import RequestError
from cpgen.loops.plan import ALIGNMENT, Plan
from cpgen.loops.schedule import LANES
from cpgen.version import __version__


@dataclass(frozen=True)
class CudaFiles:
    """The CUDA text of a model: ``<name>.cu`` and ``<name>.cuh``, complete in themselves."""

    name: str
    header: str
    source: str
    declarations: str
    programs: tuple[DeviceView, ...]

    def files(self) -> dict[str, str]:
        """Both files by name."""
        return {f"{self.name}.cuh": self.header, f"{self.name}.cu": self.source}


def emit_cuda(model_name: str, plans: Sequence[Plan], real: str = "float64", prefix: str | None = None) -> CudaFiles:
    """CUDA text of all ``plans``, which must have been made for a GPU (:func:`cpgen.loops.device.device_plan`).

    The functions of math.h are those of the runtime header, except for square roots and absolute values, which IEEE
    arithmetic defines.  Raises RequestError if a plan was made for another ``real`` or tile.
    """
    name = external_prefix(prefix or model_name)
    if any(p.real != real or p.tile != LANES for p in plans):
        raise RequestError(f"programs of {model_name} for a GPU must be planned for {real} and tiles of {LANES} rows")
    suffix = "f64" if real == "float64" else "f32"
    own = own_function(real)
    exact = {f"cpgen_{name}_{suffix}": name if real == "float64" else f"{name}f" for name in EXACT}

    def function(name: str) -> str:
        """The runtime header's, except where IEEE arithmetic says what the device's own gives."""
        return exact.get(own(name), own(name))

    spelling = Spelling(name, function=function, infinity=f"cpgen_infinity_{suffix}")
    views = tuple(device_view(plan, name).spelled(spelling) for plan in plans)
    definitions = [spelling.text(d) for d in dict.fromkeys(d for v in views for d in v.program.definitions)]
    needed = words([v.program.trees for v in views]).union(*map(tokens.names, definitions))
    runtime = []
    for file in HEADERS:
        chosen = select(_without_exact(header_parts(file)), needed)
        if needed & defined(file) and any(part.defines for part in chosen):
            runtime.append(_device(_inner(chosen)))
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": __version__,
        "real": real,
        "programs": views,
        "alignment": ALIGNMENT,
        "largest": LARGEST,
        "spread": any(v.spread for v in views),
        "notes": [],
        "definitions": [_device(d) for d in definitions],
        "runtime": runtime,
    }
    source = render("cuda/program.cu.j2", context)
    declarations = render("cuda/declarations.h.j2", context)
    header = render("cuda/program.h.j2", {**context, "declarations": declarations})
    return CudaFiles(name, header, source, declarations, views)


def _without_exact(parts: Sequence[Part]) -> list[Part]:
    """A runtime header that calls the device's square root and absolute value."""
    own = {f"cpgen_{name}_{t}": f"{name}{end}" for name in EXACT for t, end in (("f64", ""), ("f32", "f"))}
    found = []
    for part in parts:
        if part.defines and part.defines <= own.keys():
            continue
        text = tokens.renamed(part.text, lambda name: own.get(name, name))
        found.append(replace(part, text=text, names=part.names - own.keys()))
    return found


def _inner(parts: Sequence[Part]) -> str:
    """A runtime header without its include guard and includes: it becomes part of the source."""
    texts = []
    for part in parts:
        lines = [line for line in part.text.split("\n") if not _is_frame(line)]
        texts += ["\n".join(lines)] if lines else []
    assert texts[-1].startswith("#endif") and "\n" not in texts[-1]
    return "\n\n".join(texts[:-1]) + "\n"


def _is_frame(line: str) -> bool:
    guard = line.startswith(("#ifndef CPGEN_", "#define CPGEN_")) and line.endswith("_H")
    return guard or line.startswith("#include ")


def _device(text: str) -> str:
    """Functions of the host as functions of the device."""
    return tokens.renamed(text, lambda name: "__device__ inline" if name == "inline" else name)
