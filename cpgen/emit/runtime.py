"""The runtime headers: whole for use in this process, or only what a program calls, under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_DEFINED = re.compile(r"^static inline [\w ]+?(cpgen_\w+)\(|^} (cpgen_\w+);|^#define (cpgen_\w+)", re.MULTILINE)
# functions and macros of math.h
LIBRARY = re.compile(
    r"\b(?:(?:a?sin|a?cos|a?tan|atan2|sinh|cosh|asinh|acosh|atanh|tgamma|erfc?|pow|hypot|sqrt|fabs|exp|log|tanh"
    r"|expm1|log1p|fmax|fmin|cbrt|floor|ceil|lgamma|exp2|log2|log10|logb|fmod|remainder|round|trunc|rint|nearbyint"
    r"|copysign|fdim|fma|ldexp|scalbn|nextafter|isnan|isinf|isfinite|signbit)f?\(|HUGE_VALF?\b|INFINITY\b|NAN\b)"
)
# those whose own text takes the vector unit and is 2 to 6 times faster than the library's
VECTORISED = ("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "hypot")
# the vectorised forms of these give NaN for large arguments, where the library's still have an answer
MODERATE = ("sin", "cos", "tan")
LIMITED = re.compile(r"\bcpgen_(?:sin|cos|tan)_moderate_f(?:32|64)\(")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_USED = re.compile(r"\bcpgen_\w+")


@dataclass(frozen=True)
class _Block:
    """Text between blank lines; ``names`` are what it defines."""

    text: str
    names: tuple[str, ...]

    @property
    def heading(self) -> bool:
        return not self.names and self.text.startswith("/* ----")


def select(text: str, needed: Iterable[str], others: str = "") -> str:
    """The runtime header ``text`` with only the definitions that ``needed`` names, or what these use, lead to.

    ``others`` is a header whose definitions take the place of those of the same name.
    """
    instead = {name: block for block in _blocks(others) for name in block.names}
    blocks = [next((instead[n] for n in b.names if n in instead), b) for b in _blocks(text)]
    where = {name: block for block in blocks for name in block.names}
    wanted, queue = set[str](), [n for n in needed if n in where]
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += [n for n in _USED.findall(_COMMENT.sub("", where[name].text)) if n in where]
    kept = [b for b in blocks if not b.names or wanted & set(b.names)]
    result = []
    for block, following in zip(kept, [*kept[1:], None], strict=True):
        if block.heading and (following is None or not following.names):
            continue
        result.append(block.text)
    chosen = "\n\n".join(result) + "\n"
    if not needs_library(chosen):
        return chosen
    return chosen.replace("#include <stdint.h>\n", "#include <math.h>\n#include <stdint.h>\n", 1)


def own_functions(text: str, header: str, real: str, only: Sequence[str] | None = None) -> str:
    """``text`` with calls of math.h replaced by what ``header`` defines for them.

    ``only`` some of them, for the vector unit: sin, cos and tan by their moderate forms.
    """
    suffix, end = ("f64", "") if real == "float64" else ("f32", "f")
    defined = {n for b in _blocks(header) for n in b.names}
    if only is not None:
        defined &= {f"cpgen_{name}_{suffix}" for name in only}

    def put(match: re.Match[str]) -> str:
        own = f"cpgen_{match[1]}_{suffix}"
        if own not in defined:
            return match[0]
        kind = "_moderate" if only is not None and match[1] in MODERATE else ""
        return f"cpgen_{match[1]}{kind}_{suffix}("

    parts = re.split(r"(/\*.*?\*/)", text, flags=re.DOTALL)
    for k in range(0, len(parts), 2):  # comments keep the mathematics
        parts[k] = re.sub(rf"\b([a-z][a-z0-9]*?){end}\(", put, parts[k])
        if only is None:
            parts[k] = re.sub(r"\bHUGE_VALF?\b", f"cpgen_infinity_{suffix}()", parts[k])
    return "".join(parts)


def needs_library(text: str) -> bool:
    """Whether a C text calls math.h."""
    return bool(LIBRARY.search(_COMMENT.sub("", text)))


def uses(text: str) -> set[str]:
    """The runtime names in a C text."""
    return set(_USED.findall(text))


def rename(text: str, prefix: str) -> str:
    """``cpgen_`` and ``CPGEN_`` at the start of names as ``<prefix>_rt_`` and ``<PREFIX>_RT_``."""
    text = re.sub(r"\bcpgen_", f"{prefix}_rt_", text)
    return re.sub(r"\bCPGEN_", f"{prefix.upper()}_RT_", text)


def amalgamated(sources: Sequence[str], headers: Mapping[str, str]) -> str:
    """One text of several: private headers are put in where they are first included, licences stay on top of each."""
    seen: set[str] = set()

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in headers:
            return "" if name in seen else seen.add(name) or match[0]  # type: ignore[func-returns-value]
        if name in seen:
            return ""
        seen.add(name)
        return headers[name]

    return "\n".join(re.sub(r'^#include "(\S+)"\n', put, text, flags=re.MULTILINE) for text in sources)


def _blocks(text: str) -> list[_Block]:
    found = []
    for part in re.split(r"\n{2,}", text.strip("\n")):
        names = tuple(name for match in _DEFINED.findall(part) for name in match if name)
        found.append(_Block(part, names))
    return found
