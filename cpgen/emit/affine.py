"""Affine indices and the positions they stand for, as trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cpgen.code.tree import Expression, Group, Unary, binary, every, group, is_number, joined, number
from cpgen.ir.nodes import Index
from cpgen.loops.plan import Check

Variable = Callable[[int], Expression]


def linear(terms: Mapping[Expression, int], offset: int) -> Expression:
    """``a * 3 + b - 1`` from coefficients by variable (in the order given)."""
    found: Expression | None = None
    for variable, c in terms.items():
        if c == 0:
            continue
        start = Unary("-", variable) if found is None and c < 0 else variable
        term = start if abs(c) == 1 else binary("*", start, number(abs(c)))
        found = term if found is None else binary("-" if c < 0 else "+", found, term)
    if found is None:
        return number(offset)
    return binary("-" if offset < 0 else "+", found, number(abs(offset))) if offset else found


def numerator(index: Index, variable: Variable) -> Expression:
    return linear({variable(a): c for a, c in index.terms}, index.offset)


@dataclass
class Position:
    """An affine position in an array: sums of ``variable * stride``, a constant, and quotients."""

    terms: dict[Expression, int] = field(default_factory=dict)
    offset: int = 0
    quotients: list[Expression] = field(default_factory=list)

    def add(self, index: Index, stride: int, variable: Variable) -> None:
        if index.divisor == 1:
            for a, c in index.terms:
                place = variable(a)
                self.terms[place] = self.terms.get(place, 0) + c * stride
            self.offset += index.offset * stride
        else:
            quotient = binary("/", Group(numerator(index, variable)), number(index.divisor))
            self.quotients.append(quotient if stride == 1 else binary("*", quotient, number(stride)))

    def tree(self) -> Expression:
        found = linear(self.terms, self.offset)
        for quotient in self.quotients:
            found = quotient if is_number(found, 0) else joined(found, quotient)
        return found


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


def condition(checks: Sequence[Check], variable: Variable) -> Expression | None:
    """The condition under which all ``checks`` pass; None if nothing has to."""
    parts: list[Expression] = []
    for check in checks:
        top = numerator(check.index, variable)
        if check.index.divisor != 1:
            parts.append(binary("==", binary("%", group(top), number(check.index.divisor)), number(0)))
        if check.low:
            parts.append(binary(">=", top, number(0)))
        if check.high:
            parts.append(binary("<", top, number(check.extent * check.index.divisor)))
    return every(list(dict.fromkeys(parts))) if parts else None
