"""Square roots of sums of squares as the lengths they are, whose derivatives neither cancel nor leave the range.

``d^2 sqrt(x**2 + y**2) / dx^2`` is ``1/r - x**2/r**3`` by the rules for powers and ``(y/r)**2/r`` by those for ``hypot``.
"""

from __future__ import annotations

import sympy
from sympy import Add, Expr, Pow, S

from cpgen.scalar import functions as fn
from cpgen.scalar.canonical import piecewise
from cpgen.scalar.memo import remembered

# a longer sum is left as it is: every further term costs a root and a division
MOST_TERMS = 4


@remembered
def lengths(expr: Expr) -> Expr:
    """``expr``, in canonical form, with ``sqrt(u**2 + v**2 + ...)`` and its reciprocal in terms of ``hypot``.

    A term may have a positive constant factor, or be a positive constant.
    """
    if not expr.args:
        return expr
    if isinstance(expr, sympy.Piecewise):
        return piecewise([(lengths(value), condition) for value, condition in expr.args])
    args = [lengths(a) if isinstance(a, Expr) else a for a in expr.args]
    if isinstance(expr, Pow) and abs(args[1]) == S.Half and isinstance(args[0], Add):
        length = _length(args[0])
        if length is not None:
            return length if args[1] == S.Half else 1 / length
    return expr if all(a is b for a, b in zip(args, expr.args, strict=True)) else expr.func(*args)


def _length(total: Add) -> Expr | None:
    sides: list[Expr] = []
    if len(total.args) > MOST_TERMS:
        return None
    for term in total.args:
        coefficient, rest = term.as_coeff_Mul() if term.free_symbols else (term, S.One)
        if not coefficient.is_positive:
            return None
        if rest != 1:
            if not (isinstance(rest, Pow) and rest.exp == 2):
                return None
            rest = rest.base
        sides.append(sympy.sqrt(coefficient) * rest)
    length = sides[0]
    for side in sides[1:]:
        length = fn.hypot(length, side)
    return length
