"""Splitting one large expression into definitions, without changing what it means.

The expression is canonical already, so no rule of the canonical form can be missed where a part is read by name.  Three
kinds of subexpression get no name of their own.  What stands inside a branch is not computed outside of it: a Piecewise
and the products of :mod:`cpgen.scalar.together` are shared as wholes or not at all.  Conditions are not numbers.  And
what has an infinite derivative where its value is finite (roots, powers that are no whole numbers), or is a logarithm,
stays where it is read: beside its other factors it cancels in the derivative, ``x**(3/2)`` and not ``sqrt(x)**3``, while
the chain rule through a name would multiply 0 by infinity.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy import Basic, Expr, Mul, Pow, Symbol

from cpgen.scalar import is_whole, log1p

Parts = list[tuple[Symbol, Expr]]


def split(expr: Expr, names: Iterator[Symbol]) -> tuple[Parts, Expr]:
    """``(parts, rest)``: definitions in an order in which each reads earlier ones only, and what is left of ``expr``.

    ``names`` gives new symbols.  Substituting the parts back gives ``expr``.
    """
    wholes: dict[Expr, Symbol] = {}
    uses: dict[Expr, int] = {}
    opened = _without_wholes(expr, wholes, uses, {})
    back = {dummy: whole for whole, dummy in wholes.items()}
    parts: Parts = []
    place: dict[Basic, Expr] = {}
    for whole, dummy in wholes.items():
        if uses[whole] > 1:
            name = next(names)
            parts.append((name, whole))
            back[dummy] = name
    shared, (final,) = sympy.cse(opened, symbols=sympy.numbered_symbols("_cse", cls=sympy.Dummy), order="none")
    for symbol, part in shared:
        # what was put in place may itself have become part of something singular
        part = part.xreplace(place)
        if _is_singular(part):
            place[symbol] = _with_named_arguments(part, back, names, parts)
        else:
            name = next(names)
            parts.append((name, part.xreplace(back)))
            place[symbol] = name
    return parts, final.xreplace(place).xreplace(back)


def _without_wholes(
    expr: Expr, wholes: dict[Expr, Symbol], uses: dict[Expr, int], done: dict[Expr, Expr]
) -> Expr:
    """``expr`` with dummies for what is shared as a whole; ``uses`` counts where each is read."""
    if isinstance(expr, sympy.Piecewise) or is_whole(expr):
        uses[expr] = uses.get(expr, 0) + 1
        return wholes.setdefault(expr, sympy.Dummy(real=True))
    if not expr.args:
        return expr
    if expr not in done:
        args = [_without_wholes(a, wholes, uses, done) for a in expr.args]
        same = all(new is old for new, old in zip(args, expr.args, strict=True))
        done[expr] = expr if same else expr.func(*args)
    return done[expr]


def _is_singular(expr: Expr) -> bool:
    if isinstance(expr, Mul):
        return any(_is_singular(factor) for factor in expr.args)
    if isinstance(expr, Pow):
        return not expr.exp.is_Integer or _is_singular(expr.base)
    return isinstance(expr, (sympy.log, log1p))


def _with_named_arguments(
    expr: Expr, back: dict[Symbol, Expr], names: Iterator[Symbol], parts: Parts
) -> Expr:
    """A singular expression with the composite arguments of its singular functions as parts of their own."""
    if isinstance(expr, Mul):
        return Mul(*(_with_named_arguments(f, back, names, parts) for f in expr.args))
    if not _is_singular(expr):
        return expr
    args = []
    for argument in expr.args:
        if isinstance(argument, (sympy.Add, sympy.Function)) and not _is_singular(argument):
            name = next(names)
            parts.append((name, argument.xreplace(back)))
            argument = name
        args.append(argument)
    return expr.func(*args)
