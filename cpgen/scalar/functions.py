"""The scalar functions SymPy lacks, or lacks in a form that stays finite for large arguments.

Each class is a real SymPy function with a derivative that is again made of these functions, so differentiation never
leaves the set.  :meth:`Primitive.definition` gives the textbook form, used for exact constants and in tests.

Conventions at kinks: the derivative of a kinked function at its kink is the left one where that is flat.  Precisely
``step(0) = 0`` (so ``relu'(0) = 0``), ``sign0(0) = 0`` (so ``absval'(0) = 0``), at a tie ``maximum(a, b)`` and
``minimum(a, b)`` follow ``b``, and ``floor`` and ``rint`` are flat where they jump as well.  Second derivatives of these
functions are 0 everywhere; nothing produces a DiracDelta.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Integer, Rational, S, Symbol
from sympy.core.function import FunctionClass

from cpgen.errors import ModelError
from cpgen.scalar import special

LARGEST_ROOT = 5  # of the matrices that the runtime headers take apart


@lru_cache(maxsize=1 << 12)
def placeholder(k: int) -> Symbol:
    """The real symbol ``_k`` that stands for argument ``k >= 0`` of a map."""
    return Symbol(f"_{k}", real=True)


class Primitive(sympy.Function):
    """Base of the functions below: real valued, evaluated to a number only when every argument is one."""

    is_real = True
    is_commutative = True

    def definition(self) -> Expr:
        """The same value in plain SymPy functions, valid at the given arguments."""
        raise TypeError(f"{self.func.__name__} has no textbook form")

    def _eval_evalf(self, prec: int) -> Expr:
        # Extra digits: the textbook forms may cancel where the primitive does not.
        digits = int(prec / 3.3) + 30
        return self.definition().evalf(digits).evalf(max(int(prec / 3.3219) + 1, 1))

    def _eval_conjugate(self) -> Expr:
        return self


def computed_together(first: Expr, second: Expr) -> bool:
    """Whether one call in C gives both expressions, if their placeholders stand for the same."""
    roots = isinstance(first, eigenroot) and isinstance(second, eigenroot)
    return roots and (first.args[0], *first.args[2:]) == (second.args[0], *second.args[2:])


def _decided_sign(value: Expr) -> int | None:
    """Sign of a number; None for anything with symbols in it."""
    if not value.is_number:
        return None
    if value.is_positive:
        return 1
    if value.is_negative:
        return -1
    return 0 if value.is_zero else None


class softplus(Primitive):
    """``log(1 + exp(x))``."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return sigmoid(self.args[0])

    def definition(self) -> Expr:
        return sympy.log(1 + sympy.exp(self.args[0]))


class sech2(Primitive):
    """``1/cosh(x)**2``, the slope of tanh and nearly all of the same work; lowering makes it of ``sech(x)**2``."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -2 * sympy.tanh(self.args[0]) * sympy.sech(self.args[0]) ** 2

    def definition(self) -> Expr:
        return sympy.sech(self.args[0]) ** 2


class sigmoid(Primitive):
    """``1 / (1 + exp(-x))``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return Rational(1, 2) if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return logistic_density(self.args[0])

    def definition(self) -> Expr:
        return 1 / (1 + sympy.exp(-self.args[0]))


class logcosh(Primitive):
    """``log(cosh(x))``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.tanh(self.args[0])

    def definition(self) -> Expr:
        return sympy.log(sympy.cosh(self.args[0]))


class eigenroot(Primitive):
    """``eigenroot(k, number, m_00, m_01, ..., m_kk)``: one of the numbers of P and Q, for which ``P P^T - Q Q^T = M``.

    M is a symmetric k x k matrix by its upper triangle, 2 <= k <= LARGEST_ROOT; the columns of P and Q are its
    eigenvectors times the roots of their eigenvalues' sizes (see ``templates/runtime/cpgen_scalar.h``).  ``number`` is
    ``k * i + j`` for P[i, j] and ``k**2`` more for Q[i, j].  The numbers of one matrix are computed together.  Nothing
    differentiates it: which eigenvector comes first may change from one matrix to the next.
    """

    @classmethod
    def eval(cls, k: Expr, number: Expr, *upper: Expr) -> Expr | None:
        if not all(m.is_number for m in upper):
            return None
        with np.errstate(all="ignore"):
            (value,) = special.eigenroot(int(k), int(number))(*(np.array([float(m)]) for m in upper))
        return sympy.Float(float(value))

    def fdiff(self, argindex: int = 1) -> Expr:
        raise TypeError("the roots of a matrix have no derivative here")


class relu(Primitive):
    """``max(x, 0)``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        sign = _decided_sign(x)
        return None if sign is None else x if sign > 0 else S.Zero

    def fdiff(self, argindex: int = 1) -> Expr:
        return step(self.args[0])

    def definition(self) -> Expr:
        return sympy.Max(self.args[0], 0)


class step(Primitive):
    """1 for ``x > 0``, else 0; its derivative is taken as 0."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        sign = _decided_sign(x)
        return None if sign is None else Integer(sign > 0)

    def _eval_power(self, exponent: Expr) -> Expr | None:
        return self if exponent.is_positive else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return S.Zero

    def definition(self) -> Expr:
        return sympy.Piecewise((1, self.args[0] > 0), (0, True))


class undefined(Primitive):
    """NaN, whatever ``x`` is: what a Piecewise is where none of its conditions holds, and what its derivatives are."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return self

    def definition(self) -> Expr:
        return S.NaN


class sign0(Primitive):
    """-1, 0 or 1; its derivative is taken as 0."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        sign = _decided_sign(x)
        return None if sign is None else Integer(sign)

    def fdiff(self, argindex: int = 1) -> Expr:
        return S.Zero

    def definition(self) -> Expr:
        return sympy.sign(self.args[0])


class floor(Primitive):
    """The largest whole number that is not larger; its derivative is taken as 0."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return sympy.floor(x) if x.is_number and x.is_finite else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return S.Zero

    def definition(self) -> Expr:
        return sympy.floor(self.args[0])


class rint(Primitive):
    """The nearest whole number, of two equally near the even one; its derivative is taken as 0."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return cls._rounded(x) if x.is_number and x.is_finite else None

    @staticmethod
    def _rounded(x: Expr) -> Expr:
        up = sympy.floor(x + S.Half)
        return up - sympy.Piecewise((1, sympy.Eq(sympy.Mod(x + S.Half, 2), 1)), (0, True))

    def fdiff(self, argindex: int = 1) -> Expr:
        return S.Zero

    def definition(self) -> Expr:
        return self._rounded(self.args[0])


class absval(Primitive):
    """``|x|``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        sign = _decided_sign(x)
        if sign is not None:
            return x if sign >= 0 else -x
        if isinstance(x, absval):
            return x
        return absval(-x) if x.could_extract_minus_sign() else None

    def _eval_power(self, exponent: Expr) -> Expr | None:
        return self.args[0] ** exponent if exponent.is_even else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return sign0(self.args[0])

    def definition(self) -> Expr:
        return sympy.Abs(self.args[0])


class maximum(Primitive):
    """The larger of two numbers."""

    nargs = 2

    @classmethod
    def eval(cls, a: Expr, b: Expr) -> Expr | None:
        if a == b:
            return a
        sign = _decided_sign(a - b)
        return None if sign is None else a if sign > 0 else b

    def fdiff(self, argindex: int = 1) -> Expr:
        wins = step(self.args[0] - self.args[1])
        return wins if argindex == 1 else 1 - wins

    def definition(self) -> Expr:
        return sympy.Max(*self.args)


class minimum(Primitive):
    """The smaller of two numbers."""

    nargs = 2

    @classmethod
    def eval(cls, a: Expr, b: Expr) -> Expr | None:
        if a == b:
            return a
        sign = _decided_sign(a - b)
        return None if sign is None else a if sign < 0 else b

    def fdiff(self, argindex: int = 1) -> Expr:
        wins = step(self.args[1] - self.args[0])
        return wins if argindex == 1 else 1 - wins

    def definition(self) -> Expr:
        return sympy.Min(*self.args)


class normcdf(Primitive):
    """Distribution function of the standard normal, ``erfc(-x / sqrt(2)) / 2``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return Rational(1, 2) if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.exp(-(self.args[0] ** 2) / 2) / sympy.sqrt(2 * sympy.pi)

    def definition(self) -> Expr:
        return sympy.erfc(-self.args[0] / sympy.sqrt(2)) / 2


class log_ndtr(Primitive):
    """Logarithm of :class:`normcdf`, also where that is below the smallest number."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return -sympy.log(2) if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return mills(self.args[0])

    def definition(self) -> Expr:
        return sympy.log(sympy.erfc(-self.args[0] / sympy.sqrt(2)) / 2)


class mills(Primitive):
    """``phi(x) / Phi(x)`` of the standard normal, the inverse of Mills' ratio at ``-x``."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -self * mills_gap(self.args[0])

    def definition(self) -> Expr:
        x = self.args[0]
        return sympy.sqrt(2 / sympy.pi) * sympy.exp(-(x**2) / 2) / sympy.erfc(-x / sympy.sqrt(2))


class mills_gap(Primitive):
    """``x + mills(x)``, accurate for large negative ``x``; its derivative cancels there."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return 1 - mills(self.args[0]) * self

    def definition(self) -> Expr:
        return self.args[0] + mills(self.args[0]).definition()


class xlogy(Primitive):
    """``x * log(y)``, which is 0 where ``x`` is, ``y = 0`` included."""

    nargs = 2

    @classmethod
    def eval(cls, x: Expr, y: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        x, y = self.args
        return sympy.log(y) if argindex == 1 else xdivy(x, y)

    def definition(self) -> Expr:
        return self.args[0] * sympy.log(self.args[1])


class xdivy(Primitive):
    """``x / y``, which is 0 where ``x`` is, ``y = 0`` included."""

    nargs = 2

    @classmethod
    def eval(cls, x: Expr, y: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        x, y = self.args
        return 1 / y if argindex == 1 else -xdivy(self, y)

    def definition(self) -> Expr:
        return self.args[0] / self.args[1]


class lambertw_slope(Primitive):
    """Derivative of the principal branch of Lambert's W, ``exp(-W(x)) / (1 + W(x))``."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        w = sympy.LambertW(self.args[0])
        return -(self**2) * (2 + w) / (1 + w)

    def definition(self) -> Expr:
        w = sympy.LambertW(self.args[0])
        return sympy.exp(-w) / (1 + w)


class gelu(Primitive):
    """``x`` times the standard normal distribution function, the exact (erf) form."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        x = self.args[0]
        return normcdf(x) + x * sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)

    def definition(self) -> Expr:
        return self.args[0] * sympy.erfc(-self.args[0] / sympy.sqrt(2)) / 2


class silu(Primitive):
    """``x * sigmoid(x)``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        x = self.args[0]
        return sigmoid(x) + x * logistic_density(x)

    def definition(self) -> Expr:
        return self.args[0] / (1 + sympy.exp(-self.args[0]))


class log1p(Primitive):
    """``log(1 + x)``, accurate near 0; needs ``x > -1``."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return 1 / (1 + self.args[0])

    def definition(self) -> Expr:
        return sympy.log(1 + self.args[0])


class expm1(Primitive):
    """``exp(x) - 1``, accurate near 0."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return S.Zero if x.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.exp(self.args[0])

    def definition(self) -> Expr:
        return sympy.exp(self.args[0]) - 1


class hypot(Primitive):
    """``sqrt(a**2 + b**2)`` without intermediate overflow; it has a kink where both are 0."""

    nargs = 2

    @classmethod
    def eval(cls, a: Expr, b: Expr) -> Expr | None:
        return hypot(b, a) if sympy.default_sort_key(b) < sympy.default_sort_key(a) else None

    def fdiff(self, argindex: int = 1) -> Expr:
        a, b = self.args
        return unit(a, b) if argindex == 1 else unit(b, a)

    def definition(self) -> Expr:
        return sympy.sqrt(self.args[0] ** 2 + self.args[1] ** 2)


def vanishing_length(a: Expr, b: Expr) -> Expr:
    """What is 0 where ``hypot(a, b)`` has its kink: a constant side leaves none."""
    sides = [side for outer in (a, b) for side in (outer.args if isinstance(outer, hypot) else (outer,))]
    return S.One if any(side.is_number and side.is_nonzero for side in sides) else hypot(a, b)


class Composite(Primitive):
    """A function that is computed as :meth:`definition` says, factor by factor.

    SymPy sees an opaque name: it neither multiplies ``(1 - x)*(1 + x)`` out nor gathers powers of a quotient, either of
    which would cancel, overflow or underflow.
    """


class complement_square(Composite):
    """``1 - x**2``, accurate near 1 and -1."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -2 * self.args[0]

    def definition(self) -> Expr:
        return (1 - self.args[0]) * (1 + self.args[0])


class unit(Composite):
    """``a / hypot(a, b)``, the cosine of the angle between ``(a, b)`` and the first axis."""

    nargs = 2

    @classmethod
    def eval(cls, a: Expr, b: Expr) -> Expr | None:
        return S.Zero if a.is_zero else None

    def fdiff(self, argindex: int = 1) -> Expr:
        a, b = self.args
        across = unit(b, a)
        return (across**2 if argindex == 1 else -across * self) / hypot(a, b)

    def definition(self) -> Expr:
        return self.args[0] / hypot(*self.args)


class lorentz(Composite):
    """``1 / (1 + x**2)``, whose derivatives are products that stay in range."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -2 * lorentz_odd(self.args[0]) * self

    def definition(self) -> Expr:
        return 1 / (1 + self.args[0] ** 2)


class lorentz_odd(Composite):
    """``x / (1 + x**2)``."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return lorentz(self.args[0]) - 2 * self**2

    def definition(self) -> Expr:
        return self.args[0] / (1 + self.args[0] ** 2)


class acosh_slope(Composite):
    """``1 / sqrt(x**2 - 1)``, accurate near 1 and without overflow on the way."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -acosh_ratio(self.args[0]) * self**2

    def definition(self) -> Expr:
        return 1 / (sympy.sqrt(self.args[0] - 1) * sympy.sqrt(self.args[0] + 1))


class acosh_ratio(Composite):
    """``x / sqrt(x**2 - 1)``."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -(acosh_slope(self.args[0]) ** 3)

    def definition(self) -> Expr:
        return self.args[0] * acosh_slope(self.args[0])


class logistic_density(Composite):
    """``sigmoid(x) * sigmoid(-x)``; the slope goes through tanh, so that it does not cancel around 0."""

    nargs = 1

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return logistic_density(-x) if x.could_extract_minus_sign() else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return -self * sympy.tanh(self.args[0] / 2)

    def definition(self) -> Expr:
        return sigmoid(self.args[0]) * sigmoid(-self.args[0])


class logaddexp(Composite):
    """``log(exp(a) + exp(b))``."""

    nargs = 2

    def fdiff(self, argindex: int = 1) -> Expr:
        a, b = self.args
        return sigmoid(a - b if argindex == 1 else b - a)

    def definition(self) -> Expr:
        a, b = self.args
        return maximum(a, b) + softplus(-absval(a - b))


class phi1(Primitive):
    """The derivative of order ``k`` of ``(exp(x) - 1) / x``, as ``phi1(k, x)``: the integral of ``s**k exp(s x)`` over
    ``0 <= s <= 1``."""

    nargs = 2

    @classmethod
    def eval(cls, k: Expr, x: Expr) -> Expr | None:
        return 1 / (k + 1) if x.is_zero else None

    def fdiff(self, argindex: int = 2) -> Expr:
        return phi1(self.args[0] + 1, self.args[1])

    def definition(self) -> Expr:
        k, x = self.args
        result = (sympy.exp(x) - 1) / x
        for order in range(1, int(k) + 1):
            result = (sympy.exp(x) - order * result) / x
        return result


class Bessel(Primitive):
    """A Bessel function of a whole order ``n >= 0``, as ``name(n, x)``.

    Classes of their own, because SymPy's take the sign of an argument out as ``(-x + y)/(x - y)``, which is 0/0.
    """

    nargs = 2
    kind: Any
    signs = (1, 1)  # of the orders below and above in twice the derivative

    def fdiff(self, argindex: int = 2) -> Expr:
        n, x = self.args
        below, above = self.signs
        if n == 0:
            return above * self.func(1, x)
        return (below * self.func(n - 1, x) + above * self.func(n + 1, x)) / 2

    def definition(self) -> Expr:
        return self.kind(*self.args)


class besselj(Bessel):
    """``J_n(x)``."""

    kind = sympy.besselj
    signs = (1, -1)


class bessely(Bessel):
    """``Y_n(x)``, ``x > 0``."""

    kind = sympy.bessely
    signs = (1, -1)


class besseli(Bessel):
    """``I_n(x)``."""

    kind = sympy.besseli


class besselk(Bessel):
    """``K_n(x)``, ``x > 0``."""

    kind = sympy.besselk
    signs = (-1, -1)


BESSEL = (besselj, bessely, besseli, besselk)


class bose(Composite):
    """``1 / (exp(x) - 1)``, whose derivatives are products of itself, so that no exponential overflows in them."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return self * bose(-self.args[0])

    def definition(self) -> Expr:
        return 1 / expm1(self.args[0])


class hill(Primitive):
    """``x**n / (k**n + x**n)``, from the power of the quotient: neither power needs to be a number of the type."""

    nargs = 3

    def fdiff(self, argindex: int = 1) -> Expr:
        x, k, n = self.args
        if argindex == 3:
            return hill_density(x, k, n, 0, 0) * sympy.log(x / k)
        return n * hill_density(x, k, n, 1, 0) if argindex == 1 else -n * hill_density(x, k, n, 0, 1)

    def definition(self) -> Expr:
        x, k, n = self.args
        return x**n / (k**n + x**n)


class hill_density(Primitive):
    """``hill(x, k, n) * hill(k, x, n) / (x**i * k**j)`` for whole ``i, j >= 0``; its limit where ``x`` or ``k`` is 0."""

    nargs = 5

    @classmethod
    def eval(cls, x: Expr, k: Expr, n: Expr, i: Expr, j: Expr) -> Expr | None:
        turned = sympy.default_sort_key(k) < sympy.default_sort_key(x)
        return hill_density(k, x, n, j, i) if turned else None

    def fdiff(self, argindex: int = 1) -> Expr:
        x, k, n, i, j = self.args
        gap = hill(k, x, n) - hill(x, k, n)
        if argindex == 3:
            return gap * self * sympy.log(x / k)
        if argindex == 1:
            return (n * gap - i) * hill_density(x, k, n, i + 1, j)
        return -(n * gap + j) * hill_density(x, k, n, i, j + 1)

    def definition(self) -> Expr:
        x, k, n, i, j = self.args
        return x ** (n - i) * k ** (n - j) / (k**n + x**n) ** 2


COMPOSITES = (
    logaddexp, complement_square, unit, lorentz, lorentz_odd, acosh_slope, acosh_ratio, logistic_density, bose,
)  # fmt: skip


class _Declared(FunctionClass):
    """The class of user functions: pickled as what declared them, since no module holds them.

    cloudpickle (joblib) rebuilds it attribute by attribute instead; what SymPy gives as ``nargs`` it keeps in ``_nargs``,
    which is among them.
    """

    @property
    def nargs(cls) -> Any:
        return super().nargs

    @nargs.setter
    def nargs(cls, value: object) -> None:
        pass


class UserFunction(Primitive, metaclass=_Declared):
    """Base of the classes made by :func:`function`; the class attributes hold what the user declared."""

    partials: tuple[Callable[..., Any], ...] = ()
    c64: str = ""
    c32: str | None = None
    numpy: Callable[..., Any]
    kink: Callable[..., Any] | None = None

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.sympify(type(self).partials[argindex - 1](*self.args))

    def _eval_evalf(self, prec: int) -> Expr | None:
        # A constant is computed by the user's own NumPy function, in double precision.
        if not all(argument.is_number for argument in self.args):
            return None
        return sympy.Float(float(type(self).numpy(*(float(argument) for argument in self.args))))


def function(
    name: str,
    fdiff: Sequence[Callable[..., Any]],
    c64: str,
    numpy: Callable[..., Any],
    c32: str | None = None,
    kink: Callable[..., Any] | None = None,
) -> type[UserFunction]:
    """Declare a real function of ``len(fdiff)`` real arguments for use in models.

    ``fdiff[i]`` maps the arguments to the partial derivative with respect to argument ``i``, a SymPy expression that
    may use the new function itself.  ``c64`` is a C99 expression of type double in which ``{0}``, ``{1}``, ... stand for
    the arguments; ``c32`` the same in float (needed only for ``real="float32"``); only ``<math.h>`` may be used.
    ``numpy`` is the vectorised equivalent.  ``kink`` maps the arguments to an expression that is 0 exactly where the
    function is not differentiable.  Raises ModelError for a name that is not a C identifier or a text that does not fit.
    """
    if not (name.isascii() and name.isidentifier()):
        raise ModelError(
            f"the function name {name!r} is not usable in C: use letters, digits and underscores"
        )
    partials = tuple(fdiff)
    if not partials or not all(callable(partial) for partial in partials):
        raise ModelError(f"function {name}: fdiff needs one callable for each argument, at least one")
    letters = [f"x{k}" for k in range(len(partials))]
    for label, text in (("c64", c64), ("c32", c32)):
        if text is None:
            continue
        try:
            text.format(*letters)
        except (IndexError, KeyError, ValueError) as problem:
            raise ModelError(
                f"function {name}: the {label} text {text!r} must be a C expression in {{0}}.."
                f"{{{len(partials) - 1}}} (write literal braces twice): {problem}"
            ) from None
    attributes = {
        "nargs": len(partials),
        "partials": partials,
        "c64": c64,
        "c32": c32,
        "numpy": staticmethod(numpy),
        "kink": None if kink is None else staticmethod(kink),
        "__doc__": f"User function {name}.",
        "__module__": __name__,
    }
    return _Declared(name, (UserFunction,), attributes)


def _declaration(made: type[UserFunction]) -> tuple[Any, ...] | str:
    if made is UserFunction:
        return "UserFunction"
    return function, (made.__name__, made.partials, made.c64, made.numpy, made.c32, made.kink)


copyreg.pickle(_Declared, _declaration)
