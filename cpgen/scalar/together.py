"""Products whose factors must not be computed apart, as functions that SymPy does not take apart.

SymPy evaluates while the user writes: ``exp(30000.0*(1/T - 1/298.15))`` arrives as ``2.0e-44*exp(30000.0/T)``, whose
factors leave the range of a float where their product is 1, and ``(1e-30*x)**2`` as ``1.0e-60*x**2``, whose constant is
0 in a float.  :func:`fold` gives such products one name, :func:`unfold` gives the product back, so that every other rule
works on plain products and a derivative is that of the product.  Lowering knows the number type and computes a product in
an order in which no intermediate result leaves the range that its operands and its value keep to.
"""

from __future__ import annotations

import math

import sympy
from sympy import Add, Expr, Integer, Mul, Pow, S

from cpgen.scalar import functions as fn
from cpgen.scalar.memo import free_symbols, remembered

# Sizes of constants beyond which a product is kept together: beside an exponential, beside several factors, beside one.
BESIDE_EXP = (sympy.Rational(1, 10**6), Integer(10**6))
BESIDE_MANY = (sympy.Rational(1, 10**12), Integer(10**12))
BESIDE_ONE = (sympy.Rational(1, 10**30), Integer(10**30))
# Sizes of constants beyond which a product of several factors is computed from significands and exponents.
BESIDE_OTHERS = {"float32": BESIDE_EXP, "float64": (sympy.Rational(1, 10**48), Integer(10**48))}
MOST_FACTORS = 96  # the product of so many significands is a number of both types


class Together(fn.Primitive):
    """Base of the products that are computed as a whole; the plain product is their definition."""

    nargs = 2

    @property
    def is_foldable(self) -> bool:
        """Whether :func:`fold` would find the product again."""
        return True

    def fdiff(self, argindex: int = 1) -> Expr:
        places = [sympy.Dummy(real=True) for _ in self.args]
        product = self.func(*places).definition()
        found = sympy.diff(product, places[argindex - 1])
        return found.xreplace(dict(zip(places, self.args, strict=True)))


class exponential(Together):
    """``c * exp(g)`` for a positive number ``c``, as ``exponential(g, c)``."""

    @classmethod
    def eval(cls, g: Expr, c: Expr) -> Expr | None:
        return c * sympy.exp(g) if g.is_number else None

    def definition(self) -> Expr:
        return self.args[1] * sympy.exp(self.args[0])


class scaled(Together):
    """``s * u`` for a power of two ``s``, as ``scaled(u, s)``."""

    @classmethod
    def eval(cls, u: Expr, s: Expr) -> Expr | None:
        return s * u if u.is_number else None

    def definition(self) -> Expr:
        return self.args[1] * self.args[0]


class vanishing(Together):
    """``p * g``, and 0 where ``p`` is 0 and ``g`` infinite: ``g`` holds a logarithm of what ``p`` is a power of."""

    @classmethod
    def eval(cls, p: Expr, g: Expr) -> Expr | None:
        if p.is_zero or g.is_infinite:
            return S.Zero
        return p * g if p.is_number or g.is_number else None

    @property
    def is_foldable(self) -> bool:
        # once its parts were computed elsewhere, nothing shows any more that they belong together
        return _vanishing([self.args[0], *Mul.make_args(self.args[1])]) is not None

    def definition(self) -> Expr:
        return self.args[0] * self.args[1]


def is_whole(expr: Expr) -> bool:
    """Whether ``expr`` is one of these products."""
    return isinstance(expr, Together)


def unfold(expr: Expr) -> Expr:
    """``expr`` with its own product, or those that are terms of its sum, as plain products."""
    if isinstance(expr, Add):
        parts = [plain_product(term) for term in expr.args]
        return expr if all(n is o for n, o in zip(parts, expr.args, strict=True)) else Add(*parts)
    return plain_product(expr)


def plain_product(expr: Expr) -> Expr:
    """``expr`` as a plain product, if it is one that was kept together; terms of sums stay."""
    if isinstance(expr, Together):
        return expr.definition() if expr.is_foldable else expr
    if isinstance(expr, Pow) and isinstance(expr.base, Together) and expr.base.is_foldable:
        return Pow(expr.base.definition(), expr.exp)
    if isinstance(expr, Mul) and any(isinstance(f, (Together, Pow)) for f in expr.args):
        return Mul(*(f if isinstance(f, Mul) else plain_product(f) for f in expr.args))
    return expr


def fold(expr: Expr) -> Expr:
    """The inverse of :func:`unfold`: a dangerous product, or each that is a term of the sum, gets its name."""
    if isinstance(expr, Add):
        terms = [_fold_product(term) if isinstance(term, Mul) else term for term in expr.args]
        return expr if all(n is o for n, o in zip(terms, expr.args, strict=True)) else Add(*terms)
    return _fold_product(expr) if isinstance(expr, Mul) else expr


@remembered
def _fold_product(product: Mul) -> Expr:
    numbers = [f for f in product.args if f.is_number]
    rest = [f for f in product.args if not f.is_number]
    changed = False
    vanish = _vanishing(rest)
    if vanish is not None:
        changed, rest = True, vanish
    constant = Mul(*numbers)
    if constant != 1:
        sign = S.NegativeOne if constant.is_negative else S.One
        kept = _with_constant(sign * constant, rest)
        if kept is not None:
            changed, constant, rest = True, sign * kept[0], kept[1]
    return Mul(constant, *rest) if changed else product


@remembered
def beyond(value: Expr, limits: tuple[Expr, Expr]) -> bool:
    """Whether a positive number lies outside of ``limits``."""
    size = value if value.is_Rational or value.is_Float else value.evalf(20)
    return bool(size < limits[0] or size > limits[1])


def _with_constant(size: Expr, rest: list[Expr]) -> tuple[Expr, list[Expr]] | None:
    """A constant that may stand alone and the other factors, with what could not in a product of theirs."""
    if not beyond(size, BESIDE_EXP) or size.evalf(20) == 0:  # 0: a user's function of a number
        return None
    for k, factor in enumerate(rest):
        if isinstance(factor, sympy.exp):
            return S.One, [*rest[:k], exponential(factor.args[0], size), *rest[k + 1 :]]
    powers = [_as_power(factor) for factor in rest]
    total = Add(*(abs(exponent) for _, exponent in powers))
    if not beyond(size, BESIDE_MANY if total >= 2 else BESIDE_ONE):
        return None
    # exact: powers of two, to exponents that keep their product one
    step = sympy.Rational(total).q
    share = sympy.log(size, 2).evalf(20) / total / step
    bits = step * Integer(round(share))
    if step > 64 or bits == 0:
        return None
    parts = [
        Pow(scaled(base, Integer(2) ** (bits if exponent > 0 else -bits)), exponent)
        for base, exponent in powers
    ]
    return size / Integer(2) ** Integer(bits * total), parts


def wide(product: Expr, real: str = "float32") -> bool:
    """Whether a product has factors of so different a size that partial products may leave the range of ``real``.

    A constant tells, within the factors that :func:`fold` makes or beside them: where there is none, sizes are not known.
    Products without a power or a division, as in long sums, are left as they are.
    """
    if not isinstance(product, Mul):
        return False
    rest = [f for f in product.args if not f.is_number]
    if not rest or (len(rest) == 1 and isinstance(_as_power(rest[0])[0], Together)):
        return False
    constant, factors = parts_of(product, real)
    if constant == 1 or not beyond(constant, BESIDE_OTHERS[real]):
        return False
    if sum(math.ceil(abs(times)) for _, times in factors) > MOST_FACTORS:
        return False
    return any(times != 1 or isinstance(base, fn.bose) for base, times in factors)


def parts_of(product: Expr, real: str) -> tuple[Expr, list[tuple[Expr, Expr]]]:
    """``(constant, [(base, exponent), ...])`` of a product, constants of its factors taken out.

    Exponents are numbers; a power with another exponent is a base.  The constant is that of the absolute value.  What an
    exponential needs beside it, because no number of the type holds it, stays there.
    """
    constant: Expr = S.One
    factors: list[tuple[Expr, Expr]] = []
    for factor in Mul.make_args(product):
        if factor.is_number:
            constant *= abs(factor)
            continue
        base, exponent = _as_power(factor)
        if isinstance(base, scaled):
            constant *= base.args[1] ** sympy.Rational(exponent)
            base = base.args[0]
        elif isinstance(base, exponential) and exponent == 1 and is_within(base.args[1], real):
            constant *= base.args[1]
            base = sympy.exp(base.args[0])
        factors.append((base, exponent))
    return constant, factors


# The exponents of two between which constants of a type are normal numbers, with room for a factor or two.
EXPONENTS = {"float64": 1000, "float32": 120}


def is_within(constant: Expr, real: str) -> bool:
    """Whether a positive constant lies well within the range of a type."""
    return bool(abs(sympy.log(constant, 2).evalf(15)) < EXPONENTS[real])


def _as_power(factor: Expr) -> tuple[Expr, Expr]:
    if isinstance(factor, Pow) and (factor.exp.is_Rational or factor.exp.is_Float):
        return factor.base, factor.exp
    return factor, S.One


# 0 log 0


def _vanishing(factors: list[Expr]) -> list[Expr] | None:
    """The factors with logarithms beside what vanishes where they are infinite put into one function; None if none is."""
    found = False
    if not any(map(_holds_log, factors)):
        return None
    for k, factor in enumerate(factors):
        base, exponent = factor.as_base_exp() if isinstance(factor, Pow) else (factor, S.One)
        if isinstance(factor, Together) or (exponent.is_number and not exponent.is_positive):
            continue
        logs = [j for j, other in enumerate(factors) if j != k and _is_log_of(other, base)]
        if logs:
            together = vanishing(factor, Mul(*(factors[j] for j in logs)))
            factors = [f for j, f in enumerate(factors) if j != k and j not in logs]
            factors = (_vanishing(factors) or factors) + [together]
            found = True
            break
    return factors if found else None


def _holds_log(expr: Expr) -> bool:
    """Whether :func:`_is_log_of` can hold of ``expr`` for any base."""
    base = expr.base if isinstance(expr, Pow) else expr
    return any(isinstance(t, (sympy.log, fn.log1p)) for a in Add.make_args(base) for t in Mul.make_args(a))


def _is_log_of(expr: Expr, base: Expr) -> bool:
    """Whether ``expr`` is infinite like a logarithm where ``base`` is 0, and finite otherwise."""
    if isinstance(expr, Pow) and expr.exp.is_Integer and expr.exp.is_positive:
        expr = expr.base
    if isinstance(expr, Add):
        # the rest of the sum must stay finite: it does not know the base, or is a logarithm of it as well
        logs = [t for t in expr.args if _is_log_of(t.as_coeff_Mul()[1], base)]
        others = [t for t in expr.args if t not in logs]
        return bool(logs) and all(not (free_symbols(t) & free_symbols(base)) for t in others)
    return zero_of_log(expr) is not None and _vanishes(zero_of_log(expr), base)


def zero_of_log(expr: Expr) -> Expr | None:
    """What is 0 where a logarithm is infinite; None if ``expr`` is none."""
    if isinstance(expr, sympy.log):
        return expr.args[0]
    return 1 + expr.args[0] if isinstance(expr, fn.log1p) else None


def _vanishes(inside: Expr, base: Expr) -> bool:
    """Whether ``base`` is a factor of ``inside``, to a positive power."""
    for factor in Mul.make_args(unfold(inside)):
        own, exponent = factor.as_base_exp() if isinstance(factor, Pow) else (factor, S.One)
        if own == base and (exponent.is_positive or not exponent.is_number):
            return True
        if isinstance(base, fn.hill_density) and any(own in Mul.make_args(end) for end in base.args[:2]):
            return True
    return inside == base
