"""Subscripts: sums of whole multiples of axes, and of quotients and remainders of such sums by whole numbers.

A subscript with ``//`` or ``%`` is no affine function of its axes, but it is one of them and a remainder: with ``r`` from
0 to 7, ``q // 8`` is ``(q - r)/8`` and ``q % 8`` is ``r`` at the one point where that division is exact.  So a read of
``x[q // 8, q % 8]`` is a sum over ``r`` of which a guard leaves one term.  The transpose of an affine read looks like
that too, so nothing is added to the graph language, and it stays closed under differentiation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd, lcm, prod
from typing import Any, TypeAlias

import numpy as np
import sympy

from cpgen.ir.build import affine, substitute
from cpgen.ir.nodes import Guard, Index
from cpgen.model.expressions import Axis, Read, Reduction

MOST_POINTS = 1_000_000  # up to which a range that interval arithmetic cannot decide is found by counting


NO_SUBSCRIPT = (
    "not a sum of whole multiples of axes and a whole number (nor of such sums // or % a whole number)"
)


class NoSubscript(Exception):
    """An expression that is no subscript."""


@dataclass(frozen=True)
class Whole:
    """``sum of terms + offset``: whole multiples of axes, quotients and remainders."""

    terms: tuple[tuple[Atom, int], ...]
    offset: int = 0


@dataclass(frozen=True)
class Divided:
    """``of // divisor``, or ``of % divisor`` where ``remainder``; rounded down as in Python; ``divisor`` at least 2."""

    of: Whole
    divisor: int
    remainder: bool


Atom: TypeAlias = Axis | Divided


def parsed(subscript: sympy.Expr) -> Whole:
    """``subscript`` as a sum; raises NoSubscript."""
    terms: dict[Atom, int] = {}
    offset = 0
    for term in sympy.Add.make_args(sympy.expand(subscript)):
        coefficient, rest = term.as_coeff_Mul()
        if not coefficient.is_Integer:
            raise NoSubscript
        times = int(coefficient)
        part = Whole(((rest, 1),)) if isinstance(rest, Axis) else Whole((), 1) if rest == 1 else _divided(rest)
        for atom, c in part.terms:
            terms[atom] = terms.get(atom, 0) + times * c
        offset += times * part.offset
    return _whole(terms, offset)


def _whole(terms: Mapping[Atom, int], offset: int) -> Whole:
    return Whole(tuple((atom, c) for atom, c in terms.items() if c), offset)


def _times(form: Whole, factor: int) -> Whole:
    return _whole({atom: factor * c for atom, c in form.terms}, factor * form.offset)


def _divided(expr: sympy.Expr) -> Whole:
    """A rounded quotient or a remainder, in lowest terms."""
    if isinstance(expr, sympy.floor):
        return quotient(*_fraction(expr.args[0]))
    if isinstance(expr, sympy.ceiling):  # -(-q // 2)
        return _times(quotient(*_fraction(-expr.args[0])), -1)
    if isinstance(expr, sympy.Mod) and expr.args[1].is_Integer and expr.args[1] != 0:
        of, divisor = parsed(expr.args[0]), int(expr.args[1])
        return remainder(of, divisor) if divisor > 0 else _times(remainder(_times(of, -1), -divisor), -1)
    raise NoSubscript


def _fraction(expr: sympy.Expr) -> tuple[Whole, int]:
    """``expr`` as a sum over a whole number."""
    terms = sympy.Add.make_args(sympy.expand(expr))
    coefficients = [term.as_coeff_Mul()[0] for term in terms]
    if not all(c.is_Rational for c in coefficients):
        raise NoSubscript
    divisor = lcm(*(int(c.q) for c in coefficients))
    return parsed(divisor * sympy.Add(*terms)), divisor


def quotient(of: Whole, divisor: int) -> Whole:
    """``of // divisor`` with whole parts taken out: ``(8*a + r) // 8`` is ``a`` where ``r`` stays below 8."""
    common = gcd(divisor, *(c for _, c in of.terms))
    of = Whole(tuple((atom, c // common) for atom, c in of.terms), of.offset // common)
    divisor //= common
    terms: dict[Atom, int] = {atom: c // divisor for atom, c in of.terms}
    rest = _whole({atom: c % divisor for atom, c in of.terms}, of.offset % divisor)
    offset = of.offset // divisor
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return _whole(terms, offset + low // divisor)
    return _whole({**terms, Divided(rest, divisor, False): 1}, offset)


def remainder(of: Whole, divisor: int) -> Whole:
    """``of % divisor``, which is what ``of`` exceeds a multiple by where that is always the same one."""
    rest = _whole({atom: c % divisor for atom, c in of.terms}, of.offset % divisor)
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return Whole(rest.terms, rest.offset - low // divisor * divisor)
    return Whole(((Divided(rest, divisor, True), 1),))


# What values they take


def bounds(form: Whole) -> tuple[int, int]:
    """Between what ``form`` lies; wider than it need be where an axis occurs twice.  No axis is that of the rows."""
    low = high = form.offset
    for atom, c in form.terms:
        if isinstance(atom, Axis):
            least, most = 0, atom.size - 1
        elif atom.remainder:
            least, most = 0, atom.divisor - 1
        else:
            least, most = (end // atom.divisor for end in bounds(atom.of))
        low, high = low + min(c * least, c * most), high + max(c * least, c * most)
    return low, high


def reach(form: Whole, size: int) -> tuple[int, int]:
    """The least and the largest value of ``form``, counted where bounds alone would leave ``[0, size)``."""
    low, high = bounds(form)
    axes = sorted(axes_of(form), key=lambda a: a.name)
    if (low >= 0 and high < size) or all(isinstance(atom, Axis) for atom, _ in form.terms):
        return low, high
    if prod(a.size for a in axes) > MOST_POINTS:
        return low, high
    grids = np.meshgrid(*(np.arange(a.size) for a in axes), indexing="ij", sparse=True)
    values = _values(form, dict(zip(axes, grids, strict=True)))
    return int(values.min()), int(values.max())


def axes_of(form: Whole) -> set[Axis]:
    """The axes that occur in ``form``."""
    return set().union(*({atom} if isinstance(atom, Axis) else axes_of(atom.of) for atom, _ in form.terms))


def _values(form: Whole, at: Mapping[Axis, Any]) -> Any:
    total: Any = np.int64(form.offset)
    for atom, c in form.terms:
        if isinstance(atom, Axis):
            total = total + c * at[atom]
        else:
            inner = _values(atom.of, at)
            total = total + c * (inner % atom.divisor if atom.remainder else inner // atom.divisor)
    return total


# As indices


def has_quotients(subscript: sympy.Expr) -> bool:
    """Whether ``subscript`` is more than an affine function of its axes."""
    return subscript.has(sympy.floor, sympy.ceiling, sympy.Mod) and any(
        isinstance(atom, Divided) for atom, _ in parsed(subscript).terms
    )


def regrouped(body: sympy.Expr, bound: tuple[Axis, ...]) -> tuple[sympy.Expr, tuple[Axis, ...]]:
    """A sum in other axes, so that fewer subscripts have quotients: ``8*a + r`` for ``q`` where ``q // 8`` is read."""
    axes = list(bound)
    while True:
        found = _split_of(body, axes)
        if found is None:
            return body, tuple(axes)
        q, inner = found
        outer, rest = (Axis(f"{q.name}__{part}", size) for part, size in (("group", q.size // inner), ("rest", inner)))
        body = body.xreplace({q: inner * outer + rest})
        at = axes.index(q)
        axes[at : at + 1] = [outer, rest]


def _split_of(body: sympy.Expr, axes: list[Axis]) -> tuple[Axis, int] | None:
    """An axis that is divided without a remainder somewhere in ``body``, and its largest such divisor."""
    rebound = {a for r in body.atoms(Reduction) for a in r.axes}
    found: dict[Axis, int] = {}
    for one in sorted(body.atoms(Read), key=str):
        for subscript in one.index:
            if has_quotients(subscript):
                for axis, divisor in _divisions(parsed(subscript)):
                    if axis in axes and axis not in rebound and axis.size % divisor == 0:
                        found[axis] = max(found.get(axis, 1), divisor)
    return next(((a, found[a]) for a in axes if a in found), None)


def _divisions(form: Whole) -> Iterator[tuple[Axis, int]]:
    for atom, _ in form.terms:
        if isinstance(atom, Divided):
            for axis in axes_of(atom.of):
                if atom.of == Whole(((axis, 1),)):
                    yield axis, atom.divisor
            yield from _divisions(atom.of)


class Remainders:
    """The loop axes of the remainders of some subscripts, from ``first`` on, and the guards that pick one value."""

    def __init__(self, place: Callable[[Axis], int], first: int) -> None:
        self._place, self._first = place, first
        self._known: dict[tuple[Whole, int], tuple[Index, Index]] = {}
        self.extents: list[int] = []
        self.guards: list[Guard] = []

    def index(self, form: Whole) -> Index:
        """``form`` as an index of loop axes."""
        # through one level of pseudo axes, since a part may itself be a quotient
        parts = [self._atom(atom) for atom, _ in form.terms]
        return substitute(affine({k: c for k, (_, c) in enumerate(form.terms)}, form.offset), dict(enumerate(parts)))

    def _atom(self, atom: Atom) -> Index:
        if isinstance(atom, Axis):
            return affine({self._place(atom): 1})
        key = (atom.of, atom.divisor)
        if key not in self._known:
            top = self.index(atom.of)
            place = self._first + len(self.extents)
            rest = affine({place: 1})
            self.extents.append(atom.divisor)
            exact = affine({**dict(top.terms), place: -top.divisor}, top.offset, top.divisor * atom.divisor)
            low, high = (end // atom.divisor for end in bounds(atom.of))
            shifted = affine(dict(exact.terms), exact.offset - low * exact.divisor, exact.divisor)
            self.guards.append(Guard(shifted, high - low + 1))
            self._known[key] = (exact, rest)
        exact, rest = self._known[key]
        return rest if atom.remainder else exact
