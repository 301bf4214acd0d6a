"""Expressions as trees of C."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from cpgen.code.rewrite import nodes
from cpgen.code.tree import Call, Element, Expression, Group, Literal, Member, Name, Select, Unary, binary
from cpgen.errors import RequestError, UnsupportedError
from cpgen.scalar.lower import Spelling, lower, render
from cpgen.scalar.numeric import exact_float
from cpgen.scalar.primitives import BY_NAME

_TYPES = {"float64": ("double", "f64"), "float32": ("float", "f32")}
_OPERATORS = {"and": "&&", "or": "||"}


@dataclass(frozen=True)
class CCode:
    """C99 of some expressions.

    ``lets`` are temporaries of the real type, ``(name, expression)``, in an order in which each uses earlier ones only;
    ``results`` are the expressions asked for; ``definitions`` are the C functions of user functions, which must precede.
    """

    lets: list[tuple[str, Expression]]
    results: list[Expression]
    definitions: tuple[str, ...] = ()


def literal(value: Expr, real: str) -> Expression:
    """A constant of type ``real`` ("float64" or "float32") that reads back as the nearest number of that type.

    Raises UnsupportedError for a constant that is not a normal number of the type, nor 0, nor exactly a smaller one.
    """
    number = exact_float(value, real)
    if real == "float64":
        text = _with_point(repr(number))
    else:
        single = np.float32(number)
        text = _with_point(np.format_float_scientific(single, unique=True) if _is_wide(number) else str(single)) + "f"
    return Unary("-", Literal(text[1:])) if text.startswith("-") else Literal(text)


def _is_wide(number: float) -> bool:
    return number != 0 and not 1e-4 <= abs(number) < 1e9


def _with_point(text: str) -> str:
    """``1e-05`` as ``1.0e-05`` and ``1.e+10`` as ``1.0e+10``: always digits on both sides of a point."""
    mantissa, mark, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    return f"{whole}.{fraction or '0'}{mark}{exponent}"


def to_c(
    exprs: Sequence[Expr],
    symbols: Mapping[Symbol, Expression],
    real: str = "float64",
    temp: Callable[[int], str] = "t{}".format,
    prefix: str = "cpgen_",
    share: Callable[[str, Call], Expression] | None = None,
) -> CCode:
    """C99 of ``exprs`` with common subexpressions as lets.

    ``symbols`` gives the C expression of every symbol (a name, an element or a call; anything looser is parenthesised),
    ``temp(k)`` the name of let ``k`` and ``prefix`` starts the names of the C functions made for user functions.  All
    arithmetic is in ``real``.  ``share(type, call)`` names the result of a call that gives several values at once and
    whose arguments are symbols and numbers; without it every value makes its own.  Raises UnsupportedError for what
    cannot be printed, RequestError for an unknown ``real``.
    """
    if real not in _TYPES:
        raise RequestError(f"real must be float64 or float32, not {real!r}")
    c_type, suffix = _TYPES[real]
    definitions: dict[str, tuple[Any, str]] = {}
    given: set[Expression] = set()  # symbols and numbers

    def symbol_tree(symbol: Symbol) -> Expression:
        if symbol not in symbols:
            raise UnsupportedError(f"the expression uses {symbol}, which has no C name")
        given.add(symbols[symbol])
        return symbols[symbol]

    def number_tree(value: Expr) -> Expression:
        tree = literal(value, real)
        given.add(tree)
        return tree

    def call(function: Any, arguments: Sequence[Expression]) -> Expression:
        if isinstance(function, str):
            entry = BY_NAME[function]
            made = Call(entry.c_name(real), (*(Literal(str(n)) for n in entry.leading), *arguments))
            if entry.factor:
                return Group(binary("*", arguments[0], Call(made.function)))
            if not entry.member:
                return made
            shared = share is not None and given.issuperset(arguments)
            whole = share(f"{made.function}_t", made) if shared and share is not None else made
            return Element(Member(whole, entry.member[0]), Literal(str(entry.member[1])))
        name = f"{prefix}{function.__name__}_{suffix}"
        known = definitions.setdefault(name, (function, _definition(function, name, c_type)))
        if known[0] is not function:
            raise UnsupportedError(f"two user functions are named {function.__name__}; rename one of them")
        return Call(name, tuple(arguments))

    spelling = Spelling[Expression](
        symbol=symbol_tree,
        number=number_tree,
        loose=_looseness,
        temporary=Name,
        call=call,
        operate=lambda op, left, right: binary(_OPERATORS.get(op, op), left, right),
        minus=lambda operand: Unary("-", operand),
        negate=lambda condition: Unary("!", condition),
        select=lambda condition, yes, no: Group(Select(condition, yes, no)),
        group=Group,
    )
    lets, results = render(lower(exprs, real), spelling, temp)
    texts = tuple(text for _, (_, text) in sorted(definitions.items()))
    return CCode(lets, results, texts)


def _looseness(tree: Expression) -> str:
    """As :class:`Spelling` asks; an element of an element is put in parentheses, too, for the reader."""
    if isinstance(tree, Unary):
        return "neg"
    simple = isinstance(tree, (Name, Literal)) or (
        isinstance(tree, Element)
        and isinstance(tree.array, Name)
        and not any(isinstance(n, Element) for n in nodes(tree.place))
    )
    return "" if simple else "any"


def _definition(function: Any, name: str, c_type: str) -> str:
    template = function.c64 if c_type == "double" else function.c32
    if template is None:
        raise UnsupportedError(
            f"the function {function.__name__} has no float32 text; declare it with c32=... or use real='float64'"
        )
    letters = [f"x{k}" for k in range(len(function.partials))]
    parameters = ", ".join(f"{c_type} {letter}" for letter in letters)
    return f"static inline {c_type} {name}({parameters})\n{{\n    return {template.format(*letters)};\n}}\n"
