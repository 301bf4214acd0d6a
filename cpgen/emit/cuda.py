"""Plans for a GPU to CUDA text: views through the templates in ``templates/cuda``.

All sums run in the order of the C text (:mod:`cpgen.emit.device_body`), so results have its bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cpgen
from cpgen.emit.device_views import DeviceView, device_view
from cpgen.emit.render import render, runtime_header
from cpgen.emit.runtime import own_functions, select, uses
from cpgen.emit.views import LARGEST, MOST_THREADS
from cpgen.errors import RequestError
from cpgen.loops.names import external_prefix
from cpgen.loops.plan import ALIGNMENT, Plan
from cpgen.loops.schedule import LANES


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
    views = tuple(device_view(plan, name) for plan in plans)
    scalar = runtime_header("cpgen_scalar.h")
    context = {
        "name": name,
        "model": model_name,
        "upper": name.upper(),
        "version": cpgen.__version__,
        "real": real,
        "programs": views,
        "alignment": ALIGNMENT,
        "largest": LARGEST,
        "most_threads": MOST_THREADS,
        "spread": any(v.spread for v in views),
        "notes": [],
        "definitions": [_device(d) for d in dict.fromkeys(d for v in views for d in v.definitions)],
    }
    header_text = {file: _ieee(runtime_header(file)) for file in ("cpgen_philox.h", "cpgen_scalar.h")}
    body = _ieee(own_functions(render("cuda/program.cu.j2", {**context, "runtime": []}), scalar, real))
    runtime = []
    for text in header_text.values():
        chosen = select(text, uses(_code(body)))
        runtime += [_device(_own_text(chosen))] if "static inline" in chosen else []
    source = _ieee(own_functions(render("cuda/program.cu.j2", {**context, "runtime": runtime}), scalar, real))
    declarations = render("cuda/declarations.h.j2", context)
    header = render("cuda/program.h.j2", {**context, "declarations": declarations})
    return CudaFiles(name, header, source, declarations, views)


def _own_text(text: str) -> str:
    """A runtime header without its include guard and includes: it becomes part of the source."""
    text = re.sub(r"^#(?:ifndef|define) CPGEN_\w+_H\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n#endif[^\n]*\n*\Z", "\n", text)
    return re.sub(r"^#include .*\n+", "", text, flags=re.MULTILINE)


def _ieee(text: str) -> str:
    """``text`` with the device's square root and absolute value, which round as IEEE arithmetic asks."""
    for name in ("sqrt", "fabs"):
        text = re.sub(rf"^static inline \w+ cpgen_{name}_f(?:32|64)\(.*?^}}\n+", "", text, flags=re.MULTILINE | re.DOTALL)
        text = text.replace(f"cpgen_{name}_f64(", f"{name}(").replace(f"cpgen_{name}_f32(", f"{name}f(")
    return text


def _code(text: str) -> str:
    """``text`` without its comments."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _device(text: str) -> str:
    return re.sub(r"^static inline", "static __device__ inline", text, flags=re.MULTILINE)
