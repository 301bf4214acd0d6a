"""The little tree of C statements that the templates lay out, and the spelling of affine indices."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cpgen.ir.nodes import Index
from cpgen.loops.plan import Check


@dataclass
class Statement:
    """One line, or ``text { body }`` if ``body`` is not None; ``pragma`` is a macro on the line before."""

    text: str
    body: list[Statement] | None = None
    pragma: str = ""


Body = list[Statement]


@dataclass(frozen=True)
class Declaration:
    """``kind name = value;`` at the top of a function."""

    kind: str
    name: str
    value: str

    @property
    def left(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def text(self) -> str:
        return f"{self.left} = {self.value};"


def line(text: str) -> Statement:
    return Statement(text)


def loop(
    variable: str, stop: str | int, body: Body, start: str | int = 0, step: int | str = 1, pragma: str = ""
) -> Statement:
    """``for (ptrdiff_t variable = start; variable < stop; variable += step)``."""
    advance = f"++{variable}" if step == 1 else f"{variable} += {step}"
    return Statement(f"for (ptrdiff_t {variable} = {start}; {variable} < {stop}; {advance})", body, pragma)


def branch(condition: str, body: Body) -> Statement:
    return Statement(f"if ({condition})", body)


def simd(body_loop: Statement) -> Statement:
    """The same loop, to be vectorised."""
    body_loop.pragma = "OMP_SIMD"
    return body_loop


def mentions(body: Body, name: str) -> bool:
    """Whether a variable occurs in some statements."""
    pattern = re.compile(rf"\b{re.escape(name)}\b")
    return any(pattern.search(s.text) or (s.body is not None and mentions(s.body, name)) for s in body)


Variable = Callable[[int], str]


def linear(terms: Mapping[str, int], offset: int) -> str:
    """``a * 3 + b - 1`` from coefficients by variable (in the order given)."""
    text = ""
    for variable, c in terms.items():
        if c == 0:
            continue
        factor = variable if abs(c) == 1 else f"{variable} * {abs(c)}"
        text += f"{' - ' if c < 0 else ' + '}{factor}" if text else f"{'-' if c < 0 else ''}{factor}"
    if offset or not text:
        text += f"{' - ' if offset < 0 else ' + '}{abs(offset)}" if text else str(offset)
    return text


def numerator(index: Index, variable: Variable) -> str:
    return linear({variable(a): c for a, c in index.terms}, index.offset)


def is_sum(text: str) -> bool:
    return " " in text or text.startswith("-")


def factor(text: str) -> str:
    """``text`` in parentheses if it is not a single name or number."""
    return f"({text})" if is_sum(text) else text


def times(text: str, by: str) -> str:
    """``text * by``."""
    return text if by == "1" else f"{factor(text)} * {by}"


def plus(first: str, second: str) -> str:
    """``first + second``."""
    if first == "0":
        return second
    return first if second == "0" else f"{first} + {second}"


@dataclass
class Position:
    """An affine position in an array: sums of ``variable * stride``, a constant, and quotients that stay text."""

    terms: dict[str, int] = field(default_factory=dict)
    offset: int = 0
    quotients: list[str] = field(default_factory=list)

    def add(self, index: Index, stride: int, variable: Variable) -> None:
        if index.divisor == 1:
            for a, c in index.terms:
                self.terms[variable(a)] = self.terms.get(variable(a), 0) + c * stride
            self.offset += index.offset * stride
        else:
            quotient = f"({numerator(index, variable)}) / {index.divisor}"
            self.quotients.append(quotient if stride == 1 else f"{quotient} * {stride}")

    def text(self) -> str:
        base = linear(self.terms, self.offset)
        if not self.quotients:
            return base
        rest = " + ".join(self.quotients)
        return rest if base == "0" else f"{base} + {rest}"


def position(indices: Sequence[Index], shape: Sequence[int], variable: Variable) -> Position:
    """Row-major position of ``indices`` in an array of ``shape``."""
    result = Position()
    stride = 1
    strides = []
    for extent in reversed(shape):
        strides.append(stride)
        stride *= extent
    for index, step in zip(indices, reversed(strides), strict=True):
        result.add(index, step, variable)
    return result


def condition(checks: Sequence[Check], variable: Variable) -> str:
    """The C condition under which all ``checks`` pass."""
    parts = []
    for check in checks:
        top = numerator(check.index, variable)
        if check.index.divisor != 1:
            parts.append(f"{factor(top)} % {check.index.divisor} == 0")
        if check.low:
            parts.append(f"{top} >= 0")
        if check.high:
            parts.append(f"{top} < {check.extent * check.index.divisor}")
    return " && ".join(dict.fromkeys(parts))
