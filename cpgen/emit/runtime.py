"""The runtime headers: whole for use in this process, or only what a program calls, under a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cpgen.code import tokens
from cpgen.version import PACKAGE

# functions of math.h that programs call, without the f that those of float end with
_MATHEMATICS = frozenset(
    """
    sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh tgamma lgamma erf erfc pow hypot sqrt fabs cbrt
    exp exp2 expm1 log log2 log10 log1p logb fmax fmin fdim fma fmod remainder floor ceil round trunc rint nearbyint
    copysign ldexp scalbn nextafter
    """.split()
)
# its macros that are called like functions, and those that are not
_CLASSES = frozenset("isnan isinf isfinite signbit".split())
_MACROS = frozenset("HUGE_VAL HUGE_VALF INFINITY NAN".split())
# those whose own text takes the vector unit and is 2 to 6 times faster than the library's
VECTORISED = ("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "hypot")
# the vectorised forms of these give NaN for large arguments, where the library's still have an answer
MODERATE = ("sin", "cos", "tan")
# what IEEE arithmetic defines, so that a device's own have the right bits
EXACT = ("sqrt", "fabs")
LIMITED = frozenset(f"cpgen_{name}_moderate_{real}" for name in MODERATE for real in ("f32", "f64"))

HEADERS = ("cpgen_philox.h", "cpgen_scalar.h")
RUN = "cpgen_run.h"  # how programs in C are run
# what stands in it for the type of numbers, its limits as IEEE 754 has them, and 1/2^k such that (1 + 1/2^k)^2 is rounded
_REALS = {
    "float64": ("double", "DBL", "53", "1024", "0x1p-27"),
    "float32": ("float", "FLT", "24", "128", "0x1p-13f"),
}
_LIMITS = ("MAX", "MIN", "EPSILON", "MANT_DIG", "MAX_EXP")


def template_folder() -> Path:
    """The templates: beside the package in a checkout, inside it when installed."""
    inside = PACKAGE / "templates"
    return inside if inside.is_dir() else PACKAGE.parent / "templates"


@dataclass(frozen=True)
class Part:
    """What lies between blank lines of a header: one definition or several, a heading, directives."""

    text: str
    defines: frozenset[str]
    names: frozenset[str]  # that occur
    calls: frozenset[str]  # those that are called

    @property
    def heading(self) -> bool:
        return not self.defines and self.text.startswith("/* ----")


@lru_cache(maxsize=8)
def header_parts(file: str) -> tuple[Part, ...]:
    """A header of ``templates/runtime``."""
    text = (template_folder() / "runtime" / file).read_text(encoding="utf-8")
    return tuple(_part(part) for part in text.strip("\n").split("\n\n"))


# macros that a part may be wanted for
_DEFINED = ("OMP", "SHARED", "STAGE", "INLINE", "CPGEN_SERIAL_BELOW", "CPGEN_BARRIERS")


def _part(text: str) -> Part:
    found = [t for t in tokens.tokens(text) if t.kind not in ("comment", "space")]
    defines, depth = set[str](), 0
    for k, token in enumerate(found):
        depth += (token.text == "{") - (token.text == "}")
        if token.kind != "name" or not token.text.startswith(("cpgen_", *_DEFINED)):
            continue
        before, after = (found[j].text if 0 <= j < len(found) else "" for j in (k - 1, k + 1))
        if found[0].text == "enum":
            defines.add(token.text)
        elif not depth and token.text.startswith("cpgen_"):
            # static inline type name(...), } name; and #define name
            function = after == "(" and found[0].text in ("static", "SHARED", "INLINE", "CPGEN_DRIVER")
            if function or (before == "}" and after == ";") or before == "define":
                defines.add(token.text)
        elif before == "define":
            defines.add(token.text)
    names = frozenset(t.text for t in found if t.kind == "name")
    pairs = zip(found, found[1:], strict=False)
    calls = frozenset(token.text for token, after in pairs if token.kind == "name" and after.text == "(")
    return Part(text, frozenset(defines), names, calls)


@lru_cache(maxsize=8)
def defined(file: str) -> frozenset[str]:
    """All names that a header defines."""
    return frozenset(name for part in header_parts(file) for name in part.defines)


def header(file: str) -> str:
    """The text of a whole header."""
    return "\n\n".join(part.text for part in header_parts(file)) + "\n"


def real_names(real: str) -> dict[str, str]:
    """What stands for the names of :data:`RUN` that depend on the type of numbers."""
    name, limits, digits, exponent, side = _REALS[real]
    # whoever has flash to spare has the driver as a part of each program, others once
    found = {"CPGEN_DRIVER": "INLINE"}
    found |= {f"CPGEN_REAL_{limit}": f"{limits}_{limit}" for limit in _LIMITS}
    own = {"cpgen_real": name, "CPGEN_REAL_DIGITS": digits, "CPGEN_REAL_EXPONENT": exponent, "CPGEN_REAL_SIDE": side}
    return found | own


def select(parts: Sequence[Part], needed: Iterable[str], others: Sequence[Part] = ()) -> list[Part]:
    """Of a header's ``parts`` those that define what is ``needed``, or what these use, and those that define nothing.

    ``others`` are parts of another header, which take the place of those that define the same.
    """
    instead = {name: part for part in others for name in part.defines}
    parts = [next((instead[n] for n in sorted(p.defines) if n in instead), p) for p in parts]
    where = {name: part for part in parts for name in part.defines}
    wanted, queue = set[str](), [n for n in needed if n in where]
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += [n for n in where[name].names if n in where]
    kept = [p for p in parts if not p.defines or wanted & p.defines]
    following = [*kept[1:], None]
    return [p for p, after in zip(kept, following, strict=True) if not p.heading or (after and after.defines)]


def text_of(parts: Sequence[Part]) -> str:
    """A header of some parts, with math.h where they call it."""
    library = any(uses_library(part.calls, part.names) for part in parts)
    include = "#include <stdint.h>"
    texts = [f"#include <math.h>\n{p.text}" if library and p.text == include else p.text for p in parts]
    return "\n\n".join(texts) + "\n"


def library_name(function: str, real: str) -> str:
    """The function of math.h that ``function`` is for a type, without the f of float; "" for none."""
    name = function if real == "float64" else function[:-1] if function.endswith("f") else ""
    return name if name in _MATHEMATICS else ""


def uses_library(calls: Collection[str], names: Collection[str]) -> bool:
    """Whether functions that are called, or other names, are of math.h."""
    both = {*calls, *(name[:-1] for name in calls if name.endswith("f"))}
    return bool(both & (_MATHEMATICS | _CLASSES)) or not _MACROS.isdisjoint(names)


def own_function(real: str, only: Sequence[str] | None = None) -> Callable[[str], str]:
    """What stands for a function of math.h: the runtime header's, where it has one.

    ``only`` some of them, for the vector unit: sin, cos and tan by their moderate forms.
    """
    suffix = "f64" if real == "float64" else "f32"
    there = defined("cpgen_scalar.h")

    def found(function: str) -> str:
        name = library_name(function, real)
        if not name or f"cpgen_{name}_{suffix}" not in there or (only is not None and name not in only):
            return function
        kind = "_moderate" if only is not None and name in MODERATE else ""
        return f"cpgen_{name}{kind}_{suffix}"

    return found


def amalgamated(sources: Sequence[str], headers: Mapping[str, str]) -> str:
    """One text of several: private headers are put in where they are first included, licences stay on top of each."""
    seen: set[str] = set()
    found = []
    for source in sources:
        lines: list[str] = []
        for line in source.splitlines(keepends=True):
            quoted = line.startswith('#include "') and line.rstrip("\n").endswith('"')
            name = line.split('"')[1] if quoted else ""
            if not name:
                lines.append(line)
            elif name not in seen:
                seen.add(name)
                lines.append(headers.get(name, line))
        found.append("".join(lines))
    return "\n".join(found)
