"""What is remembered about expressions while something is compiled, and forgotten afterwards.

An expression is a graph whose nodes SymPy's own methods visit as often as they are reached; what is remembered here is
found once for each node.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from functools import cmp_to_key, lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import sympy

P = ParamSpec("P")
T = TypeVar("T")

MOST = 1 << 18  # answers of one function: a bound for what is asked outside any scope
_forget: list[Callable[[], None]] = []
_open = 0
_paused = False
_lock = threading.Lock()


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, a pure one of hashable values, its answers kept until the outermost :func:`scoped` call ends."""
    found = lru_cache(maxsize=MOST)(function)
    _forget.append(found.cache_clear)
    return found  # type: ignore[return-value]


def scoped(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, keeping answers while it runs; such calls may be nested, and run in several threads.

    Meanwhile Python does not look for cycles: a compilation leaves none behind, and visiting all that it holds again and
    again, which has to grow faster than the model, was a quarter of its time.
    """

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        global _open, _paused
        with _lock:
            _open += 1
            if _open == 1 and gc.isenabled():
                gc.disable()
                _paused = True
        try:
            return function(*args, **kwargs)
        finally:
            with _lock:
                _open -= 1
                last = _open == 0
                if last and _paused:
                    _paused = False
                    gc.enable()
            if last:
                for forget in _forget:
                    forget()

    return inside


@lru_cache(maxsize=1 << 10)
def _has_own_symbols(kind: Any) -> bool:
    """Whether a class says itself what its symbols are; its metaclass may have an attribute of that name too."""
    return next(base for base in kind.__mro__ if "free_symbols" in base.__dict__) is not sympy.Basic


@remembered
def free_symbols(expr: sympy.Basic) -> frozenset[sympy.Symbol]:
    """``expr.free_symbols``, each node of the graph visited once."""
    if _has_own_symbols(expr.__class__):
        return frozenset(expr.free_symbols)
    if len(expr.args) == 1:
        return free_symbols(expr.args[0])
    return frozenset().union(*map(free_symbols, expr.args))


@remembered
def kinds(expr: sympy.Basic) -> frozenset[type]:
    """The classes of all parts of ``expr``, each node of the graph visited once: what ``has`` and ``atoms`` can find."""
    return frozenset((type(expr),)).union(*map(kinds, expr.args))


_in_order = cmp_to_key(sympy.Basic.compare)


def renamed(expr: sympy.Expr, names: Mapping[sympy.Symbol, sympy.Basic]) -> sympy.Expr:
    """``expr.xreplace(names)``, without another evaluation where ``names`` gives different symbols other names.

    The assumptions must be the same.  Nothing but the order of terms and factors then depends on the names, and which
    sign a function takes out of a sum; SymPy, asking everything anew, takes most of the time that a rule takes.
    """
    own = {s: names[s] for s in free_symbols(expr) if s in names and names[s] != s}
    if not own:
        return expr
    kept = free_symbols(expr) - own.keys()
    if not all(map(_is_name, own.values())) or len({*own.values(), *kept}) < len(own) + len(kept):
        return expr.xreplace(names)
    return _renamed(expr, own, {})


def _is_name(expr: sympy.Basic) -> bool:
    """Whether SymPy knows of ``expr`` what it knows of a symbol: so of a symbol, and of what a model reads."""
    return expr.is_Symbol or not (expr.is_number or expr.is_Add or expr.is_Mul or expr.is_Pow or expr.is_Function)


def _renamed(expr: Any, own: Mapping[sympy.Symbol, sympy.Basic], made: dict[Any, Any]) -> Any:
    if isinstance(expr, sympy.Symbol):
        return own.get(expr, expr)
    if expr in made:
        return made[expr]
    if free_symbols(expr).isdisjoint(own):
        return expr
    args = [_renamed(a, own, made) for a in expr.args]
    kind = type(expr)
    if kind in (sympy.Add, sympy.Mul) and expr.is_commutative and not (args[0].is_Number and args[1].is_Add):
        first = args[:1] if args[0].is_Number else []
        found = kind._from_args([*first, *sorted(args[len(first) :], key=_in_order)], True)
    elif kind is sympy.Pow and expr.is_commutative:
        found = sympy.Pow(*args, evaluate=False)
    elif len(args) == 1 and kind.__new__ is sympy.Function.__new__ and not _takes_sign_out(expr.args[0], args[0]):
        found = sympy.Basic.__new__(kind, *args)
        found.nargs = expr.nargs
    else:
        found = expr.func(*args)
    made[expr] = found
    return found


def _takes_sign_out(before: sympy.Expr, after: sympy.Expr) -> bool:
    """Whether a function of an argument may be told otherwise under its new names."""
    return sympy.Add in kinds(before) and (before.could_extract_minus_sign() or after.could_extract_minus_sign())


@remembered
def spelled(expr: sympy.Basic) -> str:
    """``str(expr)``; the maps of equal layers share theirs."""
    return str(expr)


def vanishes(expr: sympy.Expr) -> bool:
    """Whether ``expr`` is written as 0, or is a number and 0.

    ``expr.is_zero`` would also ask for the sign and the type of every part of every sum, which on a large expression
    costs more than its derivative.
    """
    return bool(expr.is_zero) if expr.is_Number or not free_symbols(expr) else False
