"""Expressions as finished C99 text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from cpgen.errors import RequestError, UnsupportedError
from cpgen.scalar.lower import Spelling, lower, render
from cpgen.scalar.numeric import exact_float
from cpgen.scalar.primitives import BY_NAME

_TYPES = {"float64": ("double", "f64"), "float32": ("float", "f32")}
_HELPER = re.compile(r"\bcpgen_\w+")


@dataclass(frozen=True)
class CCode:
    """C99 text of some expressions.

    ``lets`` are temporaries of the real type, ``(name, expression)``, in an order in which each uses earlier ones only;
    ``results`` are the expressions asked for; ``helpers`` are the runtime functions called (those starting with
    ``cpgen_`` are in cpgen_scalar.h), sorted; ``definitions`` are the C functions of user functions, which must precede.
    """

    lets: list[tuple[str, str]]
    results: list[str]
    helpers: tuple[str, ...]
    definitions: tuple[str, ...] = ()


def literal(value: Expr, real: str) -> str:
    """A C literal of type ``real`` ("float64" or "float32") that reads back as the nearest number of that type.

    Raises UnsupportedError for a constant that is not a normal number of the type, nor 0, nor exactly a smaller one.
    """
    number = exact_float(value, real)
    if real == "float64":
        return _with_point(repr(number))
    single = np.float32(number)
    return (
        _with_point(np.format_float_scientific(single, unique=True) if _is_wide(number) else str(single))
        + "f"
    )


def _is_wide(number: float) -> bool:
    return number != 0 and not 1e-4 <= abs(number) < 1e9


def _with_point(text: str) -> str:
    """``1e-05`` as ``1.0e-05`` and ``1.e+10`` as ``1.0e+10``: always digits on both sides of a point."""
    mantissa, mark, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    return f"{whole}.{fraction or '0'}{mark}{exponent}"


def to_c(
    exprs: Sequence[Expr],
    symbols: Mapping[Symbol, str],
    real: str = "float64",
    temp: Callable[[int], str] = "t{}".format,
    prefix: str = "cpgen_",
    share: Callable[[str, str], str] | None = None,
) -> CCode:
    """C99 text of ``exprs`` with common subexpressions as lets.

    ``symbols`` gives the C text of every symbol (an identifier, an index or a call; anything looser is parenthesised),
    ``temp(k)`` the name of let ``k`` and ``prefix`` starts the names of the C functions made for user functions.  All
    arithmetic is in ``real``.  ``share(type, call)`` names the result of a call that gives several values at once and
    whose arguments are symbols and numbers; without it every value makes its own.  Raises UnsupportedError for what
    cannot be printed, RequestError for an unknown ``real``.
    """
    if real not in _TYPES:
        raise RequestError(f"real must be float64 or float32, not {real!r}")
    c_type, suffix = _TYPES[real]
    helpers: set[str] = set()
    definitions: dict[str, tuple[Any, str]] = {}
    given: set[str] = set()  # texts of symbols and numbers

    def symbol_text(symbol: Symbol) -> str:
        if symbol not in symbols:
            raise UnsupportedError(f"the expression uses {symbol}, which has no C name")
        given.add(symbols[symbol])
        return symbols[symbol]

    def number_text(value: Expr) -> str:
        text = literal(value, real)
        given.add(text)
        return text

    def call(function: Any, arguments: Sequence[str]) -> str:
        if isinstance(function, str):
            entry = BY_NAME[function]
            template = entry.c64 if real == "float64" else entry.c32
            helpers.update(_HELPER.findall(template))
            text = template.format(*arguments)
            if entry.member and share is not None and given.issuperset(arguments):
                text = share(f"{text.partition('(')[0]}_t", text)
            return text + entry.member
        name = f"{prefix}{function.__name__}_{suffix}"
        known = definitions.setdefault(name, (function, _definition(function, name, c_type)))
        if known[0] is not function:
            raise UnsupportedError(f"two user functions are named {function.__name__}; rename one of them")
        helpers.add(name)
        return f"{name}({', '.join(arguments)})"

    spelling = Spelling(
        symbol=symbol_text,
        number=number_text,
        call=call,
        select=lambda condition, yes, no: f"({condition} ? {yes} : {no})",
        join=lambda kind, left, right: f"{left} {'&&' if kind == 'and' else '||'} {right}",
        negate=lambda condition: f"!{condition}",
    )
    lets, results = render(lower(exprs, real), spelling, temp)
    texts = tuple(text for _, (_, text) in sorted(definitions.items()))
    return CCode(lets, results, tuple(sorted(helpers)), texts)


def _definition(function: Any, name: str, c_type: str) -> str:
    template = function.c64 if c_type == "double" else function.c32
    if template is None:
        raise UnsupportedError(
            f"the function {function.__name__} has no float32 text; declare it with c32=... or use real='float64'"
        )
    letters = [f"x{k}" for k in range(len(function.partials))]
    parameters = ", ".join(f"{c_type} {letter}" for letter in letters)
    return f"static inline {c_type} {name}({parameters})\n{{\n    return {template.format(*letters)};\n}}\n"
