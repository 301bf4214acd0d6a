"""Products taken apart: only two factors, each of one group."""

from __future__ import annotations

import pytest
import sympy as sp

from cpgen.scalar import factors

a, b, c = sp.symbols("a b c")


@pytest.mark.parametrize(
    ("expr", "groups", "expected"),
    [
        (a * b, [{a}, {b}], (a, b)),
        (a**2 * b**4, [{b}, {a}], (b**4, a**2)),
        (sp.tanh(a) * (b + c), [{a}, {b, c}], (sp.tanh(a), b + c)),
        (2 * a * b, [{a}, {b}], ()),
        (a * b * c, [{a}, {b, c}], ()),
        (a + b, [{a}, {b}], ()),
        ((a + b) * b, [{a}, {b}], ()),
        (a * sp.exp(a), [{a}, {b}], ()),
        (a * b, [{a}], ()),
    ],
)
def test_factors(expr: sp.Expr, groups: list[set[sp.Symbol]], expected: tuple[sp.Expr, ...]) -> None:
    found = factors(expr, [frozenset(g) for g in groups])
    assert found == expected
    if expected:
        assert sp.expand(sp.Mul(*found) - expr) == 0
