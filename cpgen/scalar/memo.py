"""What is remembered about expressions while something is compiled, and forgotten afterwards.

An expression is a graph whose nodes SymPy's own methods visit as often as they are reached; what is remembered here is
found once for each node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import sympy

P = ParamSpec("P")
T = TypeVar("T")

MOST = 1 << 18  # answers of one function: a bound for what is asked outside any scope
_forget: list[Callable[[], None]] = []
_open = 0
_lock = threading.Lock()


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, a pure one of hashable values, its answers kept until the outermost :func:`scoped` call ends."""
    found = lru_cache(maxsize=MOST)(function)
    _forget.append(found.cache_clear)
    return found  # type: ignore[return-value]


def scoped(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, keeping answers while it runs; such calls may be nested, and run in several threads."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        global _open
        with _lock:
            _open += 1
        try:
            return function(*args, **kwargs)
        finally:
            with _lock:
                _open -= 1
                last = _open == 0
            if last:
                for forget in _forget:
                    forget()

    return inside


@remembered
def free_symbols(expr: sympy.Basic) -> frozenset[sympy.Symbol]:
    """``expr.free_symbols``, each node of the graph visited once."""
    if type(expr).free_symbols is not sympy.Basic.free_symbols:
        return frozenset(expr.free_symbols)
    if len(expr.args) == 1:
        return free_symbols(expr.args[0])
    return frozenset().union(*map(free_symbols, expr.args))


def vanishes(expr: sympy.Expr) -> bool:
    """Whether ``expr`` is written as 0, or is a number and 0.

    ``expr.is_zero`` would also ask for the sign and the type of every part of every sum, which on a large expression
    costs more than its derivative.
    """
    return bool(expr.is_zero) if expr.is_Number or not free_symbols(expr) else False
