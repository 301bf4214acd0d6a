"""Rewriting a user's scalar expression into the supported primitives.

The rewriting is bottom-up and local: every rule looks at one node whose arguments are already canonical, and every rule
is an identity over the reals, so nothing depends on the order of terms.  ``sympy.simplify`` is never used.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import sympy
from sympy import Add, Expr, Mul, Pow, S
from sympy.codegen import cfunctions
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import And, Boolean, BooleanFalse, BooleanTrue, Not, Or

from cpgen.errors import UnsupportedError
from cpgen.scalar import functions as fn
from cpgen.scalar.memo import free_symbols, kinds, remembered
from cpgen.scalar.primitives import (
    BESSEL_ORDERS,
    BY_ORDER,
    PHI_ORDERS,
    POLYGAMMA_ORDERS,
    PRIMITIVES,
    SPHERICAL_ORDERS,
    entry_of,
)
from cpgen.scalar.together import BESIDE_EXP, BESIDE_ONE, Together, beyond, fold, plain_product, unfold

# What to suggest for functions whose name gives no hint.
_ADVICE = {
    **dict.fromkeys(
        ("besselj", "bessely", "besseli", "besselk", "hankel1", "hankel2"),
        "besselj, bessely, besseli, besselk of whole orders 0 to 4 (those of half an odd order are elementary: "
        "sympy.expand_func)",
    ),
    "yn": "jn of order 0 to 4; sympy.expand_func writes it with sin and cos",
    "binomial": "loggamma",
    "re": "declare the symbols real",
    "im": "declare the symbols real",
    "conjugate": "declare the symbols real",
    "Derivative": "call .doit() first",
    "Integral": "a sum over an index of the model",
    "Sum": "a sum over an index of the model",
    "Product": "exp of a sum of logarithms",
}


def canonical(expr: Any) -> Expr:
    """``expr`` in the supported primitives; equal input gives equal output and the result is a fixed point.

    Raises UnsupportedError, naming the function and the nearest supported ones, for anything that cannot be expressed:
    complex or infinite constants, undefined functions, unevaluated sums, integrals and derivatives, unknown functions.
    """
    if not isinstance(expr, Expr):
        expr = sympy.sympify(expr)
    if not isinstance(expr, Expr) or expr.is_Matrix:
        raise UnsupportedError(f"expected a scalar expression, got {type(expr).__name__}: {expr}")
    return _canonical(expr)


@remembered
def _canonical(expr: Expr) -> Expr:
    return fold(_rewritten(expr))


def _plainly(expr: Expr) -> Expr:
    """The canonical form with plain products outermost, which is what the rules read."""
    return unfold(_canonical(expr))


def _rewritten(expr: Expr) -> Expr:
    if expr.is_Symbol:
        if expr.is_extended_real is False:
            raise UnsupportedError(f"the symbol {expr} is declared not real; all quantities are real numbers")
        return expr
    if not free_symbols(expr):
        return _constant(expr)
    if isinstance(expr, Add):
        return _sum(_plainly(term) for term in expr.args)
    if isinstance(expr, Mul):
        if any(isinstance(f, (sympy.besselj, sympy.besseli)) and f.args[1].is_Add for f in expr.args):
            return _product(plain_product(_canonical(factor)) for factor in _signs_met(expr))
        return _product(plain_product(_canonical(factor)) for factor in expr.args)
    if isinstance(expr, Pow):
        return _power(_plainly(expr.base), _canonical(expr.exp))
    if isinstance(expr, Together):
        if expr.is_foldable:
            return _plainly(expr.definition())
        return expr.func(*(_canonical(argument) for argument in expr.args))
    if isinstance(expr, sympy.Piecewise):
        return _piecewise(expr)
    rule = _RULES.get(expr.func)
    if rule is not None:
        return rule(*(_canonical(argument) for argument in expr.args))
    if isinstance(expr, fn.UserFunction):
        return expr.func(*(_canonical(argument) for argument in expr.args))
    raise _unsupported(expr)


def _unsupported(expr: Expr) -> UnsupportedError:
    name = type(expr).__name__
    if isinstance(expr, AppliedUndef):
        what = f"the undefined function {expr}"
    elif name == "polygamma":
        what = f"polygamma of order {expr.args[0]} (in {expr})"
    else:
        what = f"{name} (in {expr})"
    known = [*(entry.name for entry in PRIMITIVES), "Piecewise"]
    near = _ADVICE.get(name) or ", ".join(difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5))
    advice = f"nearest supported: {near}" if near else "supported: " + ", ".join(known)
    return UnsupportedError(
        f"{what} is not supported; {advice}; other functions can be declared with cpgen.function(...)"
    )


def _constant(expr: Expr) -> Expr:
    """Check that a constant is a finite real number; it stays exact."""
    if expr.is_Rational or (isinstance(expr, sympy.NumberSymbol)):
        return expr
    value = expr.evalf(30)
    if not (value.is_Float or value.is_Rational) or not value.is_finite:
        if value.is_number and not expr.has(AppliedUndef):
            raise UnsupportedError(f"the constant {expr} is not a finite real number")
        raise _unsupported(expr)
    return expr


def _exponential(term: Expr) -> tuple[Expr, Expr] | None:
    """``(c, u)`` if ``term`` is a number ``c`` times ``exp(u)``; a number is ``c * exp(0)``."""
    if term.is_number:
        return term, S.Zero
    coefficient, rest = term.as_coeff_Mul()
    return (coefficient, rest.args[0]) if isinstance(rest, sympy.exp) else None


def _two_exponentials(expr: Expr) -> tuple[Expr, Expr, Expr] | None:
    """``(u, c, v)`` with positive ``c`` if ``expr = exp(u) * c * (1 + exp(v))``, a sum of two positive exponentials."""
    if not isinstance(expr, Add) or len(expr.args) != 2:
        return None
    first, second = (_exponential(term) for term in expr.args)
    if first is None or second is None:
        return None
    (c, u), (d, v) = first, second
    if not (c.is_positive and d.is_positive):
        return None
    shift = S.Zero if c == d else sympy.log(d / c)
    return u, c, v - u + shift


# a longer sum of exponentials is better written as cp.logsumexp over an axis
MOST_EXPONENTIALS = 32


def _log_sum_exp(expr: Expr) -> Expr | None:
    """``log(expr)`` without overflow if ``expr`` is a sum of three or more positive exponentials, else None.

    Two by two, so that the derivatives are products of sigmoids.
    """
    if not isinstance(expr, Add) or not 2 < len(expr.args) <= MOST_EXPONENTIALS:
        return None
    found = [_exponential(term) for term in expr.args]
    if not all(pair is not None and pair[0].is_positive for pair in found):
        return None
    logs = [u if c == 1 else _sum([*Add.make_args(u), sympy.log(c)]) for c, u in found]  # type: ignore[misc]

    def joined(parts: list[Expr]) -> Expr:
        if len(parts) == 1:
            return parts[0]
        return fn.logaddexp(joined(parts[: len(parts) // 2]), joined(parts[len(parts) // 2 :]))

    return joined(logs)


def _sum(terms: Iterable[Expr]) -> Expr:
    total = Add(*terms)
    if not isinstance(total, Add):
        return total
    parts = list(total.args)
    constant = S.Zero
    if parts[0].is_Number:
        constant = parts.pop(0)
    # c - c*f(u) for the functions whose complement has a name, exp(u) - 1 among them
    for k, part in enumerate(parts):
        coefficient, rest = part.as_coeff_Mul()
        if isinstance(rest, sympy.erfc) and constant == -2 * coefficient:
            complement: Expr | None = fn.normcdf(sympy.sqrt(2) * rest.args[0])
        elif constant != 0 and abs(coefficient) == abs(constant) and rest.is_Function:
            complement = _complement(rest, same_sign=coefficient == constant)
        else:
            continue
        if complement is not None:
            parts[k] = constant * complement
            return _sum(parts)
    for rule in (_with_phi, _without_share):
        shorter = rule([constant, *parts])
        # SymPy may have multiplied a product out again
        if shorter is not None and len(Add.make_args(Add(*shorter))) < len(total.args):
            return _sum(shorter)
    # a*exp(u) +- a*exp(-u)
    exponentials: dict[Expr, tuple[Expr, int]] = {}
    for k, part in enumerate(parts):
        coefficient, rest = part.as_coeff_Mul()
        if isinstance(rest, sympy.exp):
            other = exponentials.get(-rest.args[0])
            if (
                other is not None
                and abs(other[0]) == abs(coefficient)
                and not beyond(abs(coefficient), BESIDE_EXP)
            ):
                rebuilt = sympy.cosh if other[0] == coefficient else sympy.sinh
                keep = [p for j, p in enumerate(parts) if j not in (k, other[1])]
                return _sum([constant, *keep, 2 * coefficient * rebuilt(rest.args[0])])
            exponentials[rest.args[0]] = (coefficient, k)
    return total


def _with_phi(terms: list[Expr]) -> list[Expr] | None:
    """The terms of a sum with two that are one by ``u*phi1(k, u) + k*phi1(k - 1, u) = exp(u)``; else None."""
    for term in terms:
        for factor in Mul.make_args(term):
            if not isinstance(factor, fn.phi1):
                continue
            k, u = factor.args
            c = term / factor
            other, both = (-c * sympy.exp(u), -c * u * fn.phi1(1, u)) if k == 0 else (
                c * k / u * fn.phi1(k - 1, u), c / u * sympy.exp(u)
            )
            if other in terms:
                return [*(t for t in terms if t not in (term, other)), both]
    return None


# a longer sum is not looked for among the terms of another
MOST_TERMS = 8


def _without_share(terms: list[Expr]) -> list[Expr] | None:
    """The terms of a sum with ``t - t*f``, for a share ``f`` of 1, as ``t*(1 - f)`` that does not cancel; else None.

    A share is a sigmoid, a normal distribution function, Hill's function, or a term of a sum over the sum:
    ``1/(k + x) - x/(k + x)**2`` is ``k/(k + x)**2``.
    """
    present = set(terms)
    for k, term in enumerate(terms):
        for factor in Mul.make_args(term):
            found: Iterable[tuple[Expr, Expr]] = ()
            if isinstance(factor, (fn.sigmoid, fn.normcdf, fn.hill)):
                whole = -term / factor
                if all(len(f.args) <= MOST_TERMS for f in Mul.make_args(whole) if isinstance(f, Add)):
                    found = [(whole, _complement(factor, same_sign=False))]
            elif isinstance(factor, Pow) and isinstance(factor.base, Add) and factor.exp.is_Integer and factor.exp < -1:
                total = factor.base
                if len(total.args) <= MOST_TERMS:
                    sums = [f for f in Mul.make_args(term) if isinstance(f, Add) and set(f.args) & set(total.args)]
                    found = [(-term * total / part, (total - part) / total) for part in (*total.args, *sums)]
            for whole, complement in found:
                factors = Mul.make_args(whole)
                sums = [f for f in factors if isinstance(f, Add)]
                if math.prod(len(f.args) for f in sums) > len(terms) - 1:
                    continue
                # most are not there: one product of terms tells before all are multiplied out
                if sums and not any(
                    Mul(*(f.args[end] if isinstance(f, Add) else f for f in factors)) in present for end in (0, -1)
                ):
                    continue
                # what is inside functions is not looked into: it is as it stands among the others
                wanted = Add.make_args(sympy.expand_mul(whole, deep=False)) if sums else (whole,)
                if all(t in present and t != term for t in wanted):
                    others = (t for j, t in enumerate(terms) if j != k and t not in wanted)
                    return [*others, whole * complement]
    return None


def _complement(function: Expr, same_sign: bool) -> Expr | None:
    """``1 + f`` (``same_sign``) or ``1 - f`` as one function, else None; ``exp(u) - 1`` arrives as ``-(1 - exp(u))``."""
    argument = function.args[0]
    if isinstance(function, sympy.erf):
        # not erfc, which SymPy turns back into 2 - erfc(-u) for a negative argument
        return 2 * fn.normcdf(sympy.sqrt(2) * argument * (1 if same_sign else -1))
    if same_sign:
        return -fn.bose(-argument) if isinstance(function, fn.bose) else None
    if isinstance(function, sympy.exp):
        return -fn.expm1(argument)
    if isinstance(function, (fn.sigmoid, fn.normcdf)):
        return function.func(-argument)
    if isinstance(function, fn.hill):
        x, k, n = function.args
        return fn.hill(k, x, n)
    return None


def _size(expr: Expr) -> Expr:
    """How much there is in a sum: the total of its absolute coefficients."""
    return Add(*(abs(term.as_coeff_Mul()[0]) for term in Add.make_args(expr))) if expr != 0 else S.Zero


def _product(factors: Iterable[Expr]) -> Expr:
    total = Mul(*factors)
    if not isinstance(total, Mul):
        return total
    powers = [
        factor.as_base_exp() if not isinstance(factor, sympy.exp) else (factor, S.One)
        for factor in total.args
    ]
    whole = [(k, f, m) for k, (f, m) in enumerate(powers) if m.is_Integer]
    left = [(k, f, m) for k, f, m in whole if m.is_positive and isinstance(f, _MERGED)]
    right = [(k, g, n) for k, g, n in whole if n.is_negative or isinstance(g, _MERGED_WITH)] if left else []
    for i, f, m in left:
        for j, g, n in right:
            merged = _merge(f, m, g, n) if i != j else None
            if merged is not None:
                rest = [factor for k, factor in enumerate(total.args) if k not in (i, j)]
                return _product([*rest, *Mul.make_args(merged)])
    return _with_hill(total)


def _with_hill(product: Expr) -> Expr:
    """``x**n / (k**n + x**n)``, ``1 / (1 + (x/k)**n)`` and multiples of them as Hill's function; squares stay."""
    factors = Mul.make_args(product)
    for factor in factors:
        if isinstance(factor, fn.hill):
            # (x/k)**n * hill(k, x, n), where 1 + (x/k)**n was divided by before the rest was seen
            k, x, n = factor.args
            for power in ((x / k) ** n, x**n * k**-n):
                if set(Mul.make_args(power)) <= set(factors):
                    return _product([*Mul.make_args(product / power / factor), fn.hill(x, k, n)])
        if not (isinstance(factor, Pow) and factor.exp == -1 and isinstance(factor.base, Add)):
            continue
        terms = factor.base.args
        if len(terms) != 2:
            continue
        # the term that is a factor of the product as well, 1 if none is
        for own, other in sorted((terms, terms[::-1]), key=lambda pair: pair[0] == 1):
            found = _as_power(own / other) if own == 1 or set(Mul.make_args(own)) <= set(factors) else None
            if found is not None:
                x, k = sympy.fraction(found[0])
                return _product([*Mul.make_args(product / own * factor.base), fn.hill(x, k, found[1])])
    return product


def _as_power(product: Expr) -> tuple[Expr, Expr] | None:
    """``(b, n)`` with ``product = b**n``, if every factor is a power with the exponent ``n`` or ``-n``.

    None for exponents of 1 and 2, which need no function.
    """
    powers = [f.as_base_exp() if isinstance(f, Pow) else (f, S.One) for f in Mul.make_args(product)]
    n = powers[0][1]
    if n.is_number or n.could_extract_minus_sign():
        n = abs(n) if n.is_number else -n
    if n in (1, 2) or any(e not in (n, -n) for _, e in powers):
        return None
    return Mul(*(b if e == n else 1 / b for b, e in powers)), n


_MERGED = (sympy.exp, sympy.sinh, sympy.cosh, fn.expm1)  # the left and the right side of what is merged
_MERGED_WITH = (fn.sigmoid, fn.bose, sympy.sech, sympy.exp)


def _merge(f: Expr, m: Expr, g: Expr, n: Expr) -> Expr | None:
    """``f**m * g**n`` in a form that cannot overflow, for the quotients that define sigmoid and tanh; else None.

    ``m`` and ``n`` are whole numbers, ``m`` positive and ``f`` one of ``_MERGED``; ``g`` is one of ``_MERGED_WITH``, or
    ``n`` is negative.
    """
    if n.is_negative:
        if not (isinstance(f, fn.expm1) and m == 1):
            return None
        # (exp(u) - 1) / v, finite where v is 0
        u = f.args[0]
        bases = [b for b, e in map(Expr.as_base_exp, Mul.make_args(u)) if e.is_number and e >= 1]
        return u / g * fn.phi1(0, u) * g ** (n + 1) if g in bases or -g in bases else None
    common = min(m, n)
    left, right = f ** (m - common), g ** (n - common)
    if isinstance(f, sympy.exp) and isinstance(g, fn.sigmoid):
        # exp(v) * sigmoid(-v) = sigmoid(v), as often as it shortens the exponent
        exponent, v = f.args[0], -g.args[0]
        remaining = exponent - v
        if _size(remaining) < _size(exponent):
            return sympy.exp(remaining) * fn.sigmoid(v) * g ** (n - 1)
        return None
    if isinstance(f, sympy.exp) and isinstance(g, fn.bose):
        # exp(u) * bose(u) = -bose(-u), as often as it shortens the exponent
        exponent, u = f.args[0], g.args[0]
        if _size(exponent - u) < _size(exponent):
            return -sympy.exp(exponent - u) * fn.bose(-u) * g ** (n - 1)
        return None
    if isinstance(f, sympy.sinh) and isinstance(g, sympy.sech) and f.args == g.args:
        return left * right * sympy.tanh(f.args[0]) ** common
    if isinstance(f, fn.expm1) and isinstance(g, fn.sigmoid) and f.args[0] == -g.args[0]:
        return left * right * sympy.tanh(f.args[0] / 2) ** common
    if isinstance(f, sympy.cosh) and isinstance(g, sympy.sech) and f.args == g.args:
        return left * right
    if isinstance(f, sympy.exp) and isinstance(g, sympy.exp) and g.has(fn.logaddexp):
        # a share of a sum of exponentials
        return _exp(_sum([*Add.make_args(f.args[0]), *Add.make_args(g.args[0])]))
    return None


def _power(base: Expr, exponent: Expr) -> Expr:
    if base == S.Exp1:
        return _exp(exponent)
    if exponent.is_number and exponent.is_negative:
        if isinstance(base, fn.expm1):
            return fn.bose(base.args[0]) ** -exponent
        if isinstance(base, fn.bose):
            return fn.expm1(base.args[0]) ** -exponent
        if isinstance(base, sympy.cosh):
            return sympy.sech(base.args[0]) ** -exponent
        if isinstance(base, sympy.sech):
            return sympy.cosh(base.args[0]) ** -exponent
        two = _two_exponentials(base)
        if two is not None:
            u, c, v = two
            return _product([c**exponent, _exp(u * exponent), fn.sigmoid(-v) ** -exponent])
        total = _log_sum_exp(base)
        if total is not None:
            return _exp(exponent * total)
    if isinstance(base, Pow) and base.exp.is_Integer and base.exp.is_even and exponent.is_number:
        if not exponent.is_Integer:
            return fn.absval(base.base) ** (base.exp * exponent)
    result = Pow(base if isinstance(base, Mul) and exponent.is_number else fold(base), exponent)
    if isinstance(result, Mul):
        # SymPy has split off a factor, for example (2*cosh(x))**-1 = cosh(x)**-1 / 2
        return _product(
            _power(*factor.as_base_exp()) if free_symbols(factor) else factor for factor in result.args
        )
    return _with_hill(_recheck(result))


def _recheck(expr: Expr) -> Expr:
    """SymPy's constructors may answer in functions of their own, such as Abs for ``sqrt(x**2)``."""
    if not kinds(expr).isdisjoint((sympy.Abs, sympy.sign, sympy.Max, sympy.Min, sympy.Heaviside)):
        return _canonical(expr)
    return expr


def _exp(x: Expr) -> Expr:
    return sympy.exp(x)


def _log(x: Expr) -> Expr:
    x = unfold(x)
    if isinstance(x, sympy.exp):
        return x.args[0]
    two = _two_exponentials(x)
    if two is not None:
        u, c, v = two
        return _sum([u, sympy.log(c), fn.softplus(v)])
    total = _log_sum_exp(x)
    if total is not None:
        return total
    split, rest = S.Zero, []
    found = False
    for factor in Mul.make_args(x):
        base, exponent = (factor, S.One) if isinstance(factor, sympy.exp) else factor.as_base_exp()
        known = _log_of_positive(base)
        if known is not None and exponent.is_Rational:
            split += exponent * known
            found = True
        else:
            rest.append(factor)
    if found:
        remainder = Mul(*rest)
        return _sum([*Add.make_args(split), *([] if remainder == 1 else [_log(remainder)])])
    if isinstance(x, Add):
        constant, others = x.as_coeff_Add()
        if constant == 1:
            return _log1p(others)
    if isinstance(x, Mul) and len(x.args) == 2 and x.args[0].is_number and x.args[0].is_positive:
        if beyond(x.args[0], BESIDE_ONE):
            return _sum([sympy.log(x.args[0]), _log(x.args[1])])
    return sympy.log(fold(x))


def _log_of_positive(base: Expr) -> Expr | None:
    """The stable logarithm of functions that are positive everywhere on their domain."""
    if isinstance(base, sympy.exp):
        return base.args[0]
    if isinstance(base, sympy.cosh):
        return fn.logcosh(base.args[0])
    if isinstance(base, sympy.sech):
        return -fn.logcosh(base.args[0])
    if isinstance(base, fn.sigmoid):
        return -fn.softplus(-base.args[0])
    if isinstance(base, sympy.gamma):
        return sympy.loggamma(base.args[0])
    if isinstance(base, fn.normcdf):
        return fn.log_ndtr(base.args[0])
    if isinstance(base, sympy.erfc):
        return sympy.log(2) + fn.log_ndtr(-sympy.sqrt(2) * base.args[0])
    return None


def _log1p(x: Expr) -> Expr:
    x = unfold(x)
    pair = _exponential(x) if not x.is_number else None
    if pair is not None and pair[0].is_positive:
        return fn.softplus(pair[1] + sympy.log(pair[0]))
    if isinstance(x, fn.expm1):
        return x.args[0]
    return fn.log1p(fold(x))


def _max(*arguments: Expr) -> Expr:
    ordered = sorted((a for a in arguments if a != 0), key=sympy.default_sort_key)
    result = ordered[0]
    for argument in ordered[1:]:
        result = fn.maximum(result, argument)
    return fn.relu(result) if len(ordered) < len(arguments) else result


def _min(*arguments: Expr) -> Expr:
    ordered = sorted((a for a in arguments if a != 0), key=sympy.default_sort_key)
    result = ordered[0]
    for argument in ordered[1:]:
        result = fn.minimum(result, argument)
    return -fn.relu(-result) if len(ordered) < len(arguments) else result


def _maximum(a: Expr, b: Expr) -> Expr:
    return fn.relu(a) if b == 0 else fn.maximum(a, b)


def _polygamma(order: Expr, x: Expr) -> Expr:
    result = sympy.polygamma(order, x)
    if not (order == 0 or order in POLYGAMMA_ORDERS):
        raise _unsupported(result)
    return result


def _spherical(order: Expr, x: Expr) -> Expr:
    if order == 0:
        return sympy.sinc(x)
    if order not in SPHERICAL_ORDERS:
        raise _unsupported(sympy.jn(order, x))
    return sympy.jn(order, x)


def _bessel(kind: Any) -> Callable[..., Expr]:
    def rule(order: Expr, x: Expr) -> Expr:
        if order not in BESSEL_ORDERS:
            raise _unsupported(kind.kind(order, x))
        return kind(order, x)

    return rule


def _signs_met(expr: Mul) -> tuple[Expr, ...]:
    """The factors of a product, without what SymPy makes of the sign of ``y - x`` in a Bessel function of it."""
    inside = {f.args[1] for f in expr.args if isinstance(f, (sympy.besselj, sympy.besseli))}
    powers = dict(f.as_base_exp() for f in expr.args)
    sign = 1
    for z in inside:
        below, above = powers.get(z, S.Zero), powers.get(-z, S.Zero)
        if below.is_Integer and above.is_Integer and below * above < 0:
            met = min(abs(below), abs(above))
            powers[z], powers[-z] = below - sympy.sign(below) * met, above - sympy.sign(above) * met
            sign *= (-1) ** met
    return (S(sign), *(base**exponent for base, exponent in powers.items()))


def _phi(order: Expr, x: Expr) -> Expr:
    if order not in PHI_ORDERS:
        raise UnsupportedError(f"derivatives of (exp(x) - 1)/x are known up to order {PHI_ORDERS[-1]}, not {order}")
    return fn.phi1(order, x)


def _lambertw(x: Expr, branch: Expr = S.Zero) -> Expr:
    result = sympy.LambertW(x)
    if branch != 0:
        raise UnsupportedError(f"{sympy.LambertW(x, branch)}: of LambertW only the principal branch is supported")
    return result if isinstance(result, sympy.LambertW) else _canonical(result)


def _beta(x: Expr, y: Expr) -> Expr:
    logarithm = sympy.loggamma(x) + sympy.loggamma(y) - sympy.loggamma(x + y)
    return _exp(_canonical(logarithm))


def _expm1(x: Expr) -> Expr:
    return _sum([S.NegativeOne, x.args[0]]) if isinstance(x, sympy.log) else fn.expm1(x)


def _condition(condition: Boolean) -> Boolean:
    if isinstance(condition, (BooleanTrue, BooleanFalse)):
        return condition
    if isinstance(condition, Relational):
        return condition.func(_canonical(condition.lhs), _canonical(condition.rhs))
    if isinstance(condition, sympy.ITE):  # what SymPy makes of a comparison of a Piecewise
        test, yes, no = condition.args
        return _condition(Or(And(test, yes), And(Not(test), no)))
    if isinstance(condition, (And, Or, Not)):
        return condition.func(
            *(_condition(part) for part in sorted(condition.args, key=sympy.default_sort_key))
        )
    raise UnsupportedError(
        f"the condition {condition} of a Piecewise is not supported; use <, <=, >, >=, Eq, Ne joined by And, Or, Not"
    )


def _piecewise(expr: sympy.Piecewise) -> Expr:
    """Where no condition holds, and where a piece is NaN, it is ``undefined``."""
    pieces: list[tuple[Expr | None, Boolean]] = []
    for value, condition in expr.args:
        checked = _condition(condition)
        if checked == S.false:
            continue
        pieces.append((None if value is S.NaN or isinstance(value, fn.undefined) else _canonical(value), checked))
        if checked == S.true:
            break
    if all(value is None for value, _ in pieces):
        raise UnsupportedError(f"no condition of {expr} ever holds, so it has no value")
    if pieces[-1][1] != S.true:
        if Or(*(condition for _, condition in pieces)) == S.true:  # x < 0 and x >= 0
            pieces[-1] = pieces[-1][0], S.true
        else:
            pieces.append((None, S.true))
    symbols = set().union(*(condition.free_symbols for _, condition in pieces))
    nowhere = fn.undefined(min(symbols, key=sympy.default_sort_key)) if symbols else S.Zero
    return piecewise([(nowhere if value is None else value, condition) for value, condition in pieces])


def piecewise(pieces: list[tuple[Expr, Boolean]]) -> Expr:
    """The Piecewise of canonical pieces, the last condition True, without SymPy's rewriting of the conditions."""
    while len(pieces) > 1 and pieces[-2][0] == pieces[-1][0]:
        pieces = [*pieces[:-2], pieces[-1]]
    if len(pieces) == 1:
        return pieces[0][0]
    return sympy.Piecewise(*pieces, evaluate=False)


def _heaviside(x: Expr, at_zero: Expr = S.Half) -> Expr:
    """The value at 0 is the one that was written (SymPy's own default is 1/2); derivatives are 0 everywhere."""
    if at_zero == 0:
        return fn.step(x)
    if at_zero == 1:
        return _sum([S.One, -fn.step(-x)])
    if at_zero == S.Half:
        return _sum([S.Half, fn.sign0(x) / 2])
    return _sum([fn.step(x), at_zero, *(-at_zero * fn.step(side) for side in (x, -x))])


def _dirac(*arguments: Expr) -> Expr:
    written = ", ".join(str(a) for a in arguments)
    raise UnsupportedError(
        f"DiracDelta({written}) is a distribution and has no value at a point; use a narrow smooth function, such as "
        "exp(-(x/w)**2/2)/(w*sqrt(2*pi)), or its integral Heaviside"
    )


def _reciprocal(function: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    return lambda x: _power(function(x), S.NegativeOne)


def _of_reciprocal(function: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    return lambda x: function(1 / x)


_RULES: dict[Any, Callable[..., Expr]] = {
    sympy.exp: _exp,
    sympy.log: _log,
    sympy.Abs: fn.absval,
    sympy.sign: fn.sign0,
    sympy.floor: fn.floor,
    sympy.ceiling: lambda x: _canonical(-fn.floor(-x)),
    sympy.frac: lambda x: _canonical(x - fn.floor(x)),
    sympy.Mod: lambda a, b: _canonical(a - b * fn.floor(a / b)),
    sympy.Heaviside: _heaviside,
    sympy.DiracDelta: _dirac,
    sympy.Max: _max,
    sympy.Min: _min,
    fn.maximum: _maximum,
    fn.log1p: _log1p,
    fn.expm1: _expm1,
    sympy.polygamma: _polygamma,
    sympy.jn: _spherical,
    fn.phi1: _phi,
    **{source: _bessel(kind) for kind in fn.BESSEL for source in (kind, kind.kind)},
    sympy.LambertW: _lambertw,
    sympy.beta: _beta,
    sympy.factorial: lambda x: _canonical(sympy.gamma(x + 1)),
    sympy.digamma: lambda x: sympy.polygamma(0, x),
    sympy.trigamma: lambda x: sympy.polygamma(1, x),
    sympy.sec: _reciprocal(sympy.cos),
    sympy.csc: _reciprocal(sympy.sin),
    sympy.cot: _reciprocal(sympy.tan),
    sympy.csch: _reciprocal(sympy.sinh),
    sympy.coth: _reciprocal(sympy.tanh),
    sympy.asec: _of_reciprocal(sympy.acos),
    sympy.acsc: _of_reciprocal(sympy.asin),
    sympy.acot: _of_reciprocal(sympy.atan),
    sympy.asech: _of_reciprocal(sympy.acosh),
    sympy.acsch: _of_reciprocal(sympy.asinh),
    sympy.acoth: _of_reciprocal(sympy.atanh),
    sympy.UnevaluatedExpr: lambda x: x,
    cfunctions.log1p: _log1p,
    cfunctions.expm1: _expm1,
    cfunctions.hypot: fn.hypot,
    cfunctions.Sqrt: lambda x: _power(x, S.Half),
    cfunctions.log2: lambda x: _log(x) / sympy.log(2),
    cfunctions.log10: lambda x: _log(x) / sympy.log(10),
    cfunctions.exp2: lambda x: Pow(2, x),
}


def _plain(sympy_class: Any) -> Callable[..., Expr]:
    """Rebuild a supported function; its constructor may simplify, and then the answer is checked again."""

    def rebuild(*arguments: Expr) -> Expr:
        result = sympy_class(*arguments)
        if result.func == sympy_class:
            return result
        if result.func in (Add, Mul, Pow) or (entry_of(result) is None and not isinstance(result, fn.Composite)):
            return _canonical(result)
        return result

    return rebuild


for _entry in PRIMITIVES:
    if _entry.sympy_class not in (None, Pow, *BY_ORDER):
        _RULES.setdefault(_entry.sympy_class, _plain(_entry.sympy_class))
_RULES[fn.eigenroot] = fn.eigenroot
for _composite in (*fn.COMPOSITES, fn.hill, fn.hill_density):
    _RULES[_composite] = _plain(_composite)
