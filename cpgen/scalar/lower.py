"""Expressions as a graph of machine operations, shared by the C printer, the NumPy printer and the cost count.

Equal operations are one operation, so common subexpressions are found by construction.  Powers become products,
``x**(-1/2)`` becomes ``1 / sqrt(x)``, constants become single numbers.  The order of operations follows the order of
SymPy's arguments, which does not depend on hashing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import sympy
from sympy import Add, Expr, Integer, Mul, Pow, S, Symbol
from sympy.core.relational import Relational
from sympy.logic.boolalg import And, Not, Or

from cpgen.errors import UnsupportedError
from cpgen.scalar import functions as fn
from cpgen.scalar.canonical import canonical
from cpgen.scalar.memo import free_symbols, remembered
from cpgen.scalar.primitives import BY_NAME, entry_of
from cpgen.scalar.together import (
    EXPONENTS,
    Together,
    exponential,
    is_within,
    parts_of,
    scaled,
    vanishing,
    wide,
)

# Larger integer powers go through pow().
LARGEST_PRODUCT = 64

_COMPARISONS = {
    sympy.Lt: "<",
    sympy.Le: "<=",
    sympy.Gt: ">",
    sympy.Ge: ">=",
    sympy.Eq: "==",
    sympy.Ne: "!=",
}


@dataclass(frozen=True)
class Op:
    """One operation; ``args`` are positions of earlier operations.

    ``kind`` is "symbol" or "number" (``value``), "add", "sub", "mul", "div", "neg", "call" (``value`` is the name of a
    primitive or a user function class), "compare" (``value`` is the C operator), "and", "or", "not", or "select"
    (condition, value if true, value if false).
    """

    kind: str
    value: Any = None
    args: tuple[int, ...] = ()


@dataclass
class Operations:
    """``ops`` in an order in which arguments come first; ``results`` are positions in it."""

    ops: list[Op] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def uses(self) -> list[int]:
        """How often each operation is used, counting being a result."""
        counts = [0] * len(self.ops)
        for op in self.ops:
            for argument in op.args:
                counts[argument] += 1
        for result in self.results:
            counts[result] += 1
        return counts


class _Builder:
    def __init__(self, real: str) -> None:
        self.real = real
        self.ops: list[Op] = []
        self._position: dict[Op, int] = {}
        self._memo: dict[Any, int] = {}

    def emit(self, kind: str, *args: int, value: Any = None) -> int:
        op = Op(kind, value, args)
        if op not in self._position:
            self._position[op] = len(self.ops)
            self.ops.append(op)
        return self._position[op]

    def number(self, value: Expr) -> int:
        return self.emit("number", value=value)

    def lower(self, expr: Any) -> int:
        if expr not in self._memo:
            self._memo[expr] = self._lower(expr)
        return self._memo[expr]

    def _lower(self, expr: Any) -> int:
        if expr.is_Symbol:
            return self.emit("symbol", value=expr)
        if isinstance(expr, (Relational, Not, And, Or)):
            return self._condition(expr)
        if not free_symbols(expr):
            return self.number(expr)
        if isinstance(expr, Add):
            return self._add(expr)
        if isinstance(expr, (Mul, Pow)):
            return self._mul(expr)
        if isinstance(expr, sympy.Piecewise):
            result = self.lower(expr.args[-1][0])
            for value, condition in reversed(expr.args[:-1]):
                result = self.emit("select", self.lower(condition), self.lower(value), result)
            return result
        if isinstance(expr, fn.UserFunction):
            return self.emit("call", *(self.lower(a) for a in expr.args), value=type(expr))
        if isinstance(expr, fn.Composite):
            return self.lower(expr.definition())
        if isinstance(expr, Together):
            return self._together(expr)
        if isinstance(expr, fn.hill):
            return self._hill(*expr.args)
        if isinstance(expr, fn.hill_density):
            return self._hill_density(*expr.args)
        entry = entry_of(expr)
        if entry is None:
            raise UnsupportedError(f"{expr} has no C or NumPy form")
        arguments = expr.args[len(expr.args) - entry.arity :]  # before them the order of a family
        return self.emit("call", *(self.lower(a) for a in arguments), value=entry.name)

    def _condition(self, expr: Any) -> int:
        if isinstance(expr, Relational):
            return self.emit("compare", self.lower(expr.lhs), self.lower(expr.rhs), value=_COMPARISONS[expr.func])
        if isinstance(expr, Not):
            return self.emit("not", self.lower(expr.args[0]))
        kind = "and" if isinstance(expr, And) else "or"
        return self._fold(kind, [self.lower(a) for a in sorted(expr.args, key=sympy.default_sort_key)])

    def _together(self, expr: Together) -> int:
        if isinstance(expr, exponential):
            return self._exponential(*expr.args)
        first, second = expr.args
        if isinstance(expr, scaled):
            result = self.lower(first)
            for piece in _pieces(second, self.real):
                result = self.emit("mul", self.number(piece), result)
            return result
        assert isinstance(expr, vanishing)
        power, other = self.lower(first), self.lower(second)
        zero, largest = self.number(S.Zero), self.number(_LARGEST[self.real])
        size = self.emit("call", other, value="absval")
        nothing = self.emit(
            "and",
            self.emit("compare", power, zero, value="=="),
            self.emit("compare", size, largest, value=">"),
        )
        return self.emit("select", nothing, zero, self.emit("mul", power, other))

    def _exponential(self, g: Expr, c: Expr) -> int:
        """``c * exp(g)``: where ``c`` is a number of the type, halfway to the result and then the rest of the way, so
        that no intermediate value lies beyond both ends; else ``exp(g + log(c))``."""
        if is_within(c, self.real):
            half = self.emit("mul", self.number(S.Half), self.lower(g))
            root = self.emit("call", half, value="exp")
            return self.emit("mul", self.emit("mul", self.number(c), root), root)
        shift = sympy.log(c).evalf(40)
        if isinstance(g, Add):
            return self.emit("call", self.lower(Add(g, shift)), value="exp")
        # a * (u - u0): the rounding of the product a * u0 is saved
        a, u = g.as_coeff_Mul()
        inner = self.lower(Add(u, (shift / a).evalf(40)))
        if a != 1:
            inner = self.emit("mul", self.number(abs(a)), inner)
        return self.emit("call", self.emit("neg", inner) if a.is_negative else inner, value="exp")

    def _hill(self, x: Expr, k: Expr, n: Expr) -> int:
        one = self.number(S.One)
        power, turned = self._quotient_power(k, x, n)
        return self.emit("div", one, self.emit("add", one, self.emit("div", one, power) if turned else power))

    def _quotient_power(self, a: Expr, b: Expr, n: Expr) -> tuple[int, bool]:
        """``(a/b)**n``, or its inverse and True: one power for a quotient and its inverse."""
        turned = sympy.default_sort_key(a) > sympy.default_sort_key(b)
        over, under = (b, a) if turned else (a, b)
        return self._raised(self.emit("div", self.lower(over), self.lower(under)), n), turned

    def _hill_density(self, x: Expr, k: Expr, n: Expr, i: Expr, j: Expr) -> int:
        one = self.number(S.One)
        power, _ = self._quotient_power(x, k, n)
        above = self.emit("compare", power, one, value=">")
        least = self.emit("select", above, self.emit("div", one, power), power)
        both = self.emit("add", one, least)
        result = self.emit("div", least, self.emit("mul", both, both))
        ends = ((self.lower(x), int(i), self.lower(k)), (self.lower(k), int(j), self.lower(x)))
        for end, times, _ in ends:
            for _ in range(times):
                result = self.emit("div", result, end)
        for end, times, other in ends:
            if times:
                result = self._at_zero(end, times, self._product(other, int(i + j)), n, result)
        return result

    def _at_zero(self, end: int, times: int, scale: int, n: Expr, result: int) -> int:
        """``result``, where ``end`` is not 0; there the limit of ``end**(|n| - times) / scale``."""
        zero, one = self.number(S.Zero), self.number(S.One)
        size = self.emit("call", self.lower(n), value="absval")
        whole = self.number(Integer(times))
        pole = self.emit(
            "select",
            self.emit("compare", size, whole, value="=="),
            self.emit("div", one, scale),
            self.emit("div", one, end),
        )
        limit = self.emit("select", self.emit("compare", size, whole, value=">"), zero, pole)
        return self.emit("select", self.emit("compare", end, zero, value="=="), limit, result)

    def _fold(self, kind: str, operands: Sequence[int]) -> int:
        result = operands[0]
        for operand in operands[1:]:
            result = self.emit(kind, result, operand)
        return result

    def _add(self, expr: Add) -> int:
        terms = [(*_split_sign(term),) for term in expr.args]
        # a positive term first, so that the sum starts without a negation
        first = next((k for k, (negative, _) in enumerate(terms) if not negative), None)
        if first is None:
            return self.emit("neg", self._fold("add", [self.lower(size) for _, size in terms]))
        terms.insert(0, terms.pop(first))
        result = self.lower(terms[0][1])
        for negative, size in terms[1:]:
            result = self.emit("sub" if negative else "add", result, self.lower(size))
        return result

    def _mul(self, expr: Expr) -> int:
        negative, size = _split_sign(expr)
        if negative:
            return self.emit("neg", self.lower(size))
        if wide(expr, self.real):
            return self._wide(expr)
        constant: Expr = S.One
        above: list[tuple[Expr, Expr]] = []
        below: list[tuple[Expr, Expr]] = []
        for factor in Mul.make_args(expr):
            if not free_symbols(factor):
                constant *= factor
                continue
            base, exponent = (factor.base, factor.exp) if isinstance(factor, Pow) else (factor, S.One)
            if exponent.is_Number and exponent.is_negative:
                below.append((base, -exponent))
            else:
                above.append((base, exponent))
        ratio = _squares_over(above, below)
        if ratio is not None:
            return self._ratio(constant, *ratio)
        numerator = [self._power(*factor) for factor in above]
        if constant != 1 or not numerator:
            numerator.insert(0, self.number(constant))
        result = self._fold("mul", numerator)
        return self.emit("div", result, self._fold("mul", [self._power(*f) for f in below])) if below else result

    def _ratio(self, constant: Expr, rest: Sequence[tuple[Expr, Expr]], x: Expr, m: int, y: Expr, n: int) -> int:
        """``constant * rest * x**m / y**n`` for ``1 < m <= 3``, ``n <= m`` without ``x**m``, which may leave the range
        where the result does not: ``(x/y) * x`` for ``x**2/y``.  No more operations than the other way round."""
        top = self.lower(x)
        quotient = self.emit("div", top, self.lower(y))
        factors = [self._power(*factor) for factor in rest]
        if constant != 1:
            factors.insert(0, self.number(constant))
        if m == n:
            return self._fold("mul", [*factors, self._product(quotient, m)])
        # every partial product lies between 1 and the result, or is a quotient of two operands
        own = [quotient, top, top][:m] if n == 1 else [quotient, top, quotient]
        return self._fold("mul", [*factors, *own])

    def _wide(self, expr: Expr) -> int:
        """A product whose factors are of very different sizes: that of the significands, then the exponents' sum."""
        constant, factors = parts_of(expr, self.real)
        power = Integer(sympy.floor(sympy.log(constant, 2).evalf(30)))
        above: list[int] = []
        below: list[int] = []
        exponent = self.number(power)
        for base, times in factors:
            for part, count in self._in_range(base, abs(times)):
                significand = self._product(self.emit("call", part, value="significand"), count)
                (above if times > 0 else below).append(significand)
                own = self.emit("call", part, value="exponent")
                if count != 1:
                    own = self.emit("mul", self.number(Integer(count)), own)
                exponent = self.emit("add" if times > 0 else "sub", exponent, own)
        above.insert(0, self.number(constant / Integer(2) ** power))
        result = self._fold("mul", above)
        if below:
            result = self.emit("div", result, self._fold("mul", below))
        return self.emit("call", result, exponent, value="scalbn")

    def _in_range(self, base: Expr, times: Expr) -> list[tuple[int, int]]:
        """``base**times`` for ``times > 0`` as whole powers of operations, each of which keeps to the range."""
        if isinstance(base, sympy.exp) and times == 1:
            half = self.emit("mul", self.number(S.Half), self.lower(base.args[0]))
            return [(self.emit("call", half, value="exp"), 2)]
        if isinstance(base, fn.bose) and times.is_Integer:
            # exp(-u) / (1 - exp(-u)) for u > 0, and -1 / (1 - exp(u)) for u < 0
            u = self.lower(base.args[0])
            half = self.emit("mul", self.number(-S.Half), self.emit("call", u, value="relu"))
            tail = self.emit("call", self.emit("neg", self.emit("call", u, value="absval")), value="expm1")
            positive = self.emit("compare", u, self.number(S.Zero), value=">")
            inverse = self.emit(
                "div", self.number(S.One), self.emit("select", positive, self.emit("neg", tail), tail)
            )
            return [(self.emit("call", half, value="exp"), int(2 * times)), (inverse, int(times))]
        whole, rest = divmod(times, 1)
        found = [(self.lower(base), int(whole))] if whole else []
        if rest:
            found.append((self._power(base, rest), 1))
        return found

    def _power(self, base: Expr, exponent: Expr) -> int:
        if isinstance(base, sympy.sech) and exponent.is_Integer and exponent.is_even:
            base, exponent = fn.sech2(base.args[0]), exponent / 2
        return self._raised(self.lower(base), exponent)

    def _raised(self, operand: int, exponent: Expr) -> int:
        quarters = 4 * exponent
        if quarters.is_Number and quarters == int(quarters) and 0 < quarters <= 4 * LARGEST_PRODUCT:
            whole, rest = divmod(int(quarters), 4)
            factors = [self._product(operand, whole)] if whole else []
            if rest:
                root = self.emit("call", operand, value="sqrt")
                factors += [root] if rest >= 2 else []
                factors += [self.emit("call", root, value="sqrt")] if rest % 2 else []
            found = factors[0]
            for factor in factors[1:]:
                found = self.emit("mul", found, factor)
            return found
        return self.emit("call", operand, self.lower(exponent), value="pow")

    def _product(self, operand: int, power: int) -> int:
        """``operand**power`` for ``power >= 1`` by squaring."""
        if power == 1:
            return operand
        half = self._product(operand, power // 2)
        square = self.emit("mul", half, half)
        return self.emit("mul", square, operand) if power % 2 else square


def _squares_over(
    above: Sequence[tuple[Expr, Expr]], below: Sequence[tuple[Expr, Expr]]
) -> tuple[list[tuple[Expr, Expr]], Expr, int, Expr, int] | None:
    """``(rest, x, m, y, n)`` if a product is ``rest * x**m / y**n`` with ``1 < m <= 3`` and ``n <= m``, else None."""
    if len(below) != 1 or not below[0][1].is_Integer:
        return None
    y, n = below[0]
    for k, (x, m) in enumerate(above):
        if m.is_Integer and 1 < m <= 3 and n <= m:
            return [*above[:k], *above[k + 1 :]], x, int(m), y, int(n)
    return None


def _split_sign(term: Expr) -> tuple[bool, Expr]:
    """Whether ``term`` has a negative numeric coefficient, and the term without that sign."""
    if not free_symbols(term):
        return (True, -term) if term.is_negative else (False, term)
    coefficient, rest = term.as_coeff_Mul()
    return (True, Mul(-coefficient, rest)) if coefficient.is_negative else (False, term)


_LARGEST = {real: sympy.Rational(float(np.finfo(real).max)) for real in EXPONENTS}


def _pieces(power: Expr, real: str) -> list[Expr]:
    """Powers of two that are numbers of the type and have the product ``power``."""
    bits, most = int(sympy.log(power, 2)), EXPONENTS[real]
    count = -(-abs(bits) // most)
    if count > 2:  # twice the range: whatever it is multiplied by, the product is 0 or infinite
        raise UnsupportedError(f"a factor of about {power.evalf(3)} is beyond the range of {real}")
    first = bits // count
    return [Integer(2) ** first, *([Integer(2) ** (bits - first)] if count == 2 else [])]


def lower(exprs: Sequence[Expr], real: str = "float64") -> Operations:
    """The operations of several expressions together, for a number type; the expressions are made canonical first."""
    builder = _Builder(real)
    results = [builder.lower(canonical(expr)) for expr in exprs]
    return Operations(builder.ops, results)


T = TypeVar("T")


@dataclass(frozen=True)
class Spelling(Generic[T]):
    """How a target writes each kind of operation: as text, or as a tree.

    ``loose`` tells of a symbol or a number what an operator beside it has to know: "neg" of what begins with a minus,
    "any" of what else needs parentheses, "" of what needs none.
    """

    symbol: Callable[[Symbol], T]
    number: Callable[[Expr], T]
    loose: Callable[[T], str]
    temporary: Callable[[str], T]
    call: Callable[[Any, Sequence[T]], T]
    operate: Callable[[str, T, T], T]  # "+" and the like, "<" and the like, "and", "or"
    minus: Callable[[T], T]
    negate: Callable[[T], T]  # of a condition
    select: Callable[[T, T, T], T]
    group: Callable[[T], T]  # in parentheses


_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
DEEPEST = 100  # levels of operations in one expression: compilers and readers have limits
# operations of which a run is written on one level
_RUN = {"add": "+", "sub": "+", "mul": "*"}
_LOGICAL = ("compare", "and", "or", "not")


def render(
    operations: Operations, spelling: Spelling[T], temporary: Callable[[int], str]
) -> tuple[list[tuple[str, T]], list[T]]:
    """``(lets, results)``: an operation used more than once becomes a let, and so does one that is very deep; everything
    else is written in place.

    Operands of mixed operators are parenthesised; only a run of additions and subtractions, or of multiplications, is
    written without parentheses, from left to right.
    """
    uses = operations.uses()
    lets: list[tuple[str, T]] = []
    texts: list[T] = []
    # the loosest operator of each text, "" if it needs no parentheses
    loose: list[str] = []
    depths: list[int] = []

    def operand(position: int, chain: tuple[str, ...] = ()) -> T:
        text = texts[position]
        return text if loose[position] in ("", *chain) else spelling.group(text)

    for position, op in enumerate(operations.ops):
        kind = op.kind
        if kind in ("symbol", "number"):
            text = spelling.symbol(op.value) if kind == "symbol" else spelling.number(op.value)
            looseness = spelling.loose(text)
        elif kind in _SYMBOLS:
            chain = {"add": ("add", "sub"), "sub": ("add", "sub"), "mul": ("mul",), "div": ()}[kind]
            left, right = op.args
            text, looseness = spelling.operate(_SYMBOLS[kind], operand(left, chain), operand(right)), kind
        elif kind == "neg":
            text, looseness = spelling.minus(operand(op.args[0])), "neg"
        elif kind == "call":
            text, looseness = spelling.call(op.value, [texts[a] for a in op.args]), ""
        elif kind == "compare":
            text, looseness = spelling.operate(op.value, operand(op.args[0]), operand(op.args[1])), "compare"
        elif kind in ("and", "or"):
            text, looseness = spelling.operate(kind, operand(op.args[0]), operand(op.args[1])), kind
        elif kind == "not":
            text, looseness = spelling.negate(operand(op.args[0])), "not"
        else:
            condition, yes, no = op.args
            text, looseness = spelling.select(operand(condition), operand(yes), operand(no)), ""
        runs = [k == 0 and kind in _RUN and _RUN[kind] == _RUN.get(loose[a]) for k, a in enumerate(op.args)]
        depth = 1 + max((depths[a] - run for a, run in zip(op.args, runs, strict=True)), default=0)
        if (uses[position] > 1 or depth > DEEPEST) and kind not in ("symbol", "number", *_LOGICAL):
            name = temporary(len(lets))
            lets.append((name, text))
            text, looseness, depth = spelling.temporary(name), "", 0
        depths.append(depth)
        texts.append(text)
        loose.append(looseness)
    return lets, [texts[result] for result in operations.results]


@dataclass(frozen=True)
class Cost:
    """Operations of one evaluation; a comparison counts as an addition, negation and selection are free."""

    adds: int
    muls: int
    divs: int
    calls: tuple[tuple[str, int], ...]


def cost(expr: Expr) -> Cost:
    """The operations of ``expr`` after common subexpressions are shared; ``calls`` is sorted by name."""
    return _cost(canonical(expr))


@remembered
def _cost(expr: Expr) -> Cost:
    counts: dict[str, int] = {}
    calls: dict[str, int] = {}
    for op in lower([expr]).ops:
        if op.kind == "call":
            name = op.value if isinstance(op.value, str) else op.value.__name__
            calls[name] = calls.get(name, 0) + 1
        else:
            counts[op.kind] = counts.get(op.kind, 0) + 1
    adds = sum(counts.get(kind, 0) for kind in ("add", "sub", "compare"))
    return Cost(adds, counts.get("mul", 0), counts.get("div", 0), tuple(sorted(calls.items())))


@remembered
def operations(expr: Expr) -> int:
    """A rough cost of ``expr`` in additions: a division counts 4, a call the weight of its row in ``PRIMITIVES``."""
    total = cost(expr)
    calls = sum(n * (BY_NAME[name].weight if name in BY_NAME else 16) for name, n in total.calls)
    return total.adds + total.muls + 4 * total.divs + calls
