"""Taking a product apart."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr, Symbol

from cpgen.scalar.memo import free_symbols


def factors(expr: Expr, groups: Sequence[frozenset[Symbol]]) -> tuple[Expr, ...]:
    """The factor of each group of symbols, if ``expr`` is the product of two that use one group each; else nothing.

    The rounded product of the rounded factors has the bits of the whole: a C expression computes the same two first.
    """
    if not expr.is_Mul or len(expr.args) != 2 or len(groups) != 2:
        return ()
    found = [[f for f in expr.args if free_symbols(f) and free_symbols(f) <= group] for group in groups]
    return tuple(mine[0] for mine in found) if all(len(mine) == 1 for mine in found) else ()
