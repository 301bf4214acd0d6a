"""The tree: expressions, statements and functions of C and CUDA, as frozen data.

A tree says what is computed; how it is laid out, and which parentheses its operators need, the printer knows
(:mod:`cpgen.code.printer`).  Equal trees are equal objects of Python, so that what is alike can be found by comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Expressions


@dataclass(frozen=True)
class Expression:
    """Anything that has a value."""


@dataclass(frozen=True)
class Name(Expression):
    """A variable, a constant of an enumeration or a macro without arguments."""

    text: str


@dataclass(frozen=True)
class Literal(Expression):
    """A number that is not negative, with its suffix."""

    text: str


@dataclass(frozen=True)
class Unary(Expression):
    """``op operand``, ``op`` being "-", "!" or "&"."""

    op: str
    operand: Expression


@dataclass(frozen=True)
class Operation(Expression):
    """``first op operand op operand ...`` from left to right, the operators being alike (:data:`LEVELS`).

    A sum of a thousand terms is flat, so that no walk over a tree is deep.
    """

    first: Expression
    rest: tuple[tuple[str, Expression], ...]

    @property
    def level(self) -> int:
        """How tightly it holds."""
        return LEVEL[self.rest[0][0]]


# operators by how tightly they hold, loosest first
LEVELS = (("||",), ("&&",), ("|",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
LEVEL = {op: k for k, ops in enumerate(LEVELS, 2) for op in ops}


@dataclass(frozen=True)
class Select(Expression):
    """``test ? yes : no``."""

    test: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True)
class Call(Expression):
    """``function(arguments)``, or ``function<template>(arguments)`` on a device."""

    function: str
    arguments: tuple[Expression, ...] = ()
    template: str = ""


@dataclass(frozen=True)
class Element(Expression):
    """``array[place]``."""

    array: Expression
    place: Expression


@dataclass(frozen=True)
class Member(Expression):
    """``whole.name``, or ``whole->name`` where ``whole`` is a pointer."""

    whole: Expression
    name: str
    pointer: bool = False


@dataclass(frozen=True)
class Cast(Expression):
    """``(type)operand``."""

    type: str
    operand: Expression


@dataclass(frozen=True)
class Group(Expression):
    """Parentheses that a reader is glad of; those that the operators need are the printer's."""

    inside: Expression


@dataclass(frozen=True)
class Braces(Expression):
    """``{items}``, which starts an array or a structure."""

    items: tuple[Expression, ...] = ()


# Statements


@dataclass(frozen=True)
class Type:
    """``const base *const``, as far as each word applies."""

    base: str
    constant: bool = False
    pointer: bool = False
    fixed: bool = False  # the pointer itself


@dataclass(frozen=True)
class Statement:
    """Anything that is done."""


@dataclass(frozen=True)
class Let(Statement):
    """``type name[sizes] = value;``"""

    type: Type
    name: str
    value: Expression | None = None
    sizes: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Assign(Statement):
    """``target op value;``, ``op`` being "=", "+=" and the like."""

    target: Expression
    value: Expression
    op: str = "="


@dataclass(frozen=True)
class Do(Statement):
    """``call;``"""

    call: Expression


@dataclass(frozen=True)
class Return(Statement):
    value: Expression | None = None


@dataclass(frozen=True)
class For(Statement):
    """``for (ptrdiff_t variable = start; test; variable += step)``; ``pragma`` is the macro on the line before."""

    variable: str
    start: Expression
    test: Expression
    step: Expression
    body: tuple[Statement, ...]
    pragma: str = ""


@dataclass(frozen=True)
class If(Statement):
    test: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Block(Statement):
    """``{ body }``, behind a ``pragma`` that says who runs it."""

    body: tuple[Statement, ...]
    pragma: str = ""


Body = list[Statement]


@dataclass(frozen=True)
class Parameter:
    type: Type
    name: str


@dataclass(frozen=True)
class Function:
    """``kind name(parameters) { body }`` behind the lines of a comment.

    ``kind`` is all that stands before the name; ``template``: an integer known at compile time, "" for none.
    """

    kind: str
    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    comment: tuple[str, ...] = ()
    template: str = ""


# What is often built


def number(value: int) -> Expression:
    """An integer."""
    return Unary("-", Literal(str(-value))) if value < 0 else Literal(str(value))


def of(whole: str, first: str, *more: str) -> Member:
    """``whole->first->...``, but ``frame.first``: the host's frame is a structure."""
    found = Member(Name(whole), first, pointer=whole != "frame")
    for member in more:
        found = Member(found, member, pointer=True)
    return found


def is_number(expression: Expression, value: int) -> bool:
    return isinstance(expression, Literal) and expression.text == str(value)


def binary(op: str, left: Expression, right: Expression) -> Operation:
    """``left op right``."""
    if isinstance(left, Operation) and left.level == LEVEL[op]:
        return Operation(left.first, (*left.rest, (op, right)))
    return Operation(left, ((op, right),))


def is_loose(expression: Expression) -> bool:
    """Whether an operator beside it might tear an expression apart, to a reader's eye."""
    return isinstance(expression, (Unary, Operation, Select, Cast))


def group(expression: Expression) -> Expression:
    """In parentheses, unless it holds together without."""
    return Group(expression) if is_loose(expression) else expression


def times(expression: Expression, by: Expression) -> Expression:
    """``expression * by``."""
    return expression if is_number(by, 1) else binary("*", group(expression), by)


def joined(first: Expression, second: Expression) -> Expression:
    """``first + second``, the terms of ``second`` one after the other: for whole numbers and addresses."""
    if not isinstance(second, Operation) or second.level != LEVEL["+"]:
        return binary("+", first, second)
    found = binary("+", first, second.first)
    return Operation(found.first, (*found.rest, *second.rest))


def plus(first: Expression, second: Expression) -> Expression:
    """The same without what is zero."""
    if is_number(first, 0):
        return second
    return first if is_number(second, 0) else joined(first, second)


def every(tests: Sequence[Expression], op: str = "&&") -> Expression:
    """``test && test && ...``, of at least one."""
    found = tests[0]
    for test in tests[1:]:
        found = binary(op, found, test)
    return found


INDEX = Type("ptrdiff_t", constant=True)


def let(name: str, value: Expression, type: Type = INDEX) -> Let:
    """``const ptrdiff_t name = value;``"""
    return Let(type, name, value)


def loop(
    variable: str,
    stop: Expression | int,
    body: Sequence[Statement],
    start: Expression | int = 0,
    step: Expression | int = 1,
    pragma: str = "",
) -> For:
    """``for (ptrdiff_t variable = start; variable < stop; variable += step)``."""
    first, end, stride = (number(e) if isinstance(e, int) else e for e in (start, stop, step))
    return For(variable, first, binary("<", Name(variable), end), stride, tuple(body), pragma)


def branch(test: Expression, body: Sequence[Statement]) -> If:
    return If(test, tuple(body))


def block(body: Sequence[Statement], pragma: str = "") -> Block:
    return Block(tuple(body), pragma)
