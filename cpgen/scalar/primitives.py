"""The table of supported scalar functions, as data: one row for each, with its C and NumPy spellings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from sympy import Expr

from cpgen.scalar import functions, special

# Orders of polygamma that C, NumPy and derivatives know; order 0 is called digamma.
POLYGAMMA_ORDERS = range(1, 7)
# Orders of the spherical Bessel function jn; order 0 is called sinc.
SPHERICAL_ORDERS = range(1, 7)
# Orders of the Bessel functions J, Y, I and K.
BESSEL_ORDERS = range(7)
# Orders of the derivatives of (exp(x) - 1)/x.
PHI_ORDERS = range(7)


@dataclass(frozen=True)
class Entry:
    """One supported function.

    ``c`` is the function in C99: one of math.h, to whose name float32 adds an f, or of the runtime header, whose names
    start with ``cpgen_`` and get ``_f64`` or ``_f32``.  It is called with the numbers ``leading`` before the arguments; a
    ``factor`` is called without any, and the argument multiplied by it.  ``kink`` says in words what happens where the
    function is not differentiable ("" if it is smooth on its domain) and ``kink_at`` gives, from the arguments, the
    expression that is 0 there.  ``weight`` is a rough cost in additions.  ``member``: the call gives a structure, of the
    type named like the function with "_t" after it, and this is its array and the place of the value there; equal calls
    can be made once.
    """

    name: str
    sympy_class: Any
    arity: int
    c: str
    numpy: Callable[..., Any]
    domain: str = "all reals"
    kink: str = ""
    kink_at: Callable[..., Expr] | None = None
    weight: int = 16
    leading: tuple[int, ...] = ()
    factor: bool = False
    member: tuple[str, int] | None = None

    def c_name(self, real: str) -> str:
        """The function in C for "float64" or "float32"."""
        if self.c.startswith("cpgen_"):
            return f"{self.c}_{'f64' if real == 'float64' else 'f32'}"
        return self.c if real == "float64" else f"{self.c}f"


def _libm(
    name: str, sympy_class: Any, numpy: Callable[..., Any], domain: str = "all reals", arity: int = 1
) -> Entry:
    return Entry(name, sympy_class, arity, name, numpy, domain)


def _runtime(
    name: str,
    sympy_class: Any,
    numpy: Callable[..., Any],
    domain: str = "all reals",
    arity: int = 1,
    kink: str = "",
    kink_at: Callable[..., Expr] | None = None,
    weight: int = 16,
) -> Entry:
    return Entry(name, sympy_class, arity, f"cpgen_{name}", numpy, domain, kink, kink_at, weight)


def _polygamma(order: int) -> Entry:
    numpy = special.polygamma(order)
    return Entry(
        f"polygamma{order}", sympy.polygamma, 1, "cpgen_polygamma", numpy, "x > 0", weight=64, leading=(order,)
    )


def _spherical(order: int) -> Entry:
    return Entry(f"jn{order}", sympy.jn, 1, "cpgen_jn", special.spherical(order), weight=64, leading=(order,))


def _bessel(kind: Any, order: int) -> Entry:
    name = kind.__name__
    domain = "x > 0" if kind in (functions.bessely, functions.besselk) else "all reals"
    return Entry(
        f"{name}{order}", kind, 1, f"cpgen_{name}", special.bessel(name, order), domain, weight=96, leading=(order,)
    )


def _phi(order: int) -> Entry:
    weight = 64 if order else 20
    return Entry(
        f"phi1_{order}", functions.phi1, 1, "cpgen_phi1", special.phi1(order), weight=weight, leading=(order,)
    )


def _same(x: Expr) -> Expr:
    return x


def _gap(a: Expr, b: Expr) -> Expr:
    return a - b


PRIMITIVES: tuple[Entry, ...] = (
    Entry("sqrt", None, 1, "sqrt", np.sqrt, "x >= 0", weight=4),
    Entry(
        "pow",
        sympy.Pow,
        2,
        "pow",
        np.power,
        "x > 0, or an integer exponent",
        weight=32,
    ),
    _runtime("exp", sympy.exp, np.exp),
    _runtime("expm1", functions.expm1, np.expm1),
    _runtime("log", sympy.log, np.log, "x > 0"),
    _runtime("log1p", functions.log1p, np.log1p, "x > -1"),
    _libm("sin", sympy.sin, np.sin),
    _libm("cos", sympy.cos, np.cos),
    _libm("tan", sympy.tan, np.tan, "x not an odd multiple of pi/2"),
    _libm("asin", sympy.asin, np.arcsin, "-1 <= x <= 1"),
    _libm("acos", sympy.acos, np.arccos, "-1 <= x <= 1"),
    _libm("atan", sympy.atan, np.arctan),
    _libm("atan2", sympy.atan2, np.arctan2, "not both zero", arity=2),
    _libm("sinh", sympy.sinh, np.sinh),
    _libm("cosh", sympy.cosh, np.cosh),
    _runtime("tanh", sympy.tanh, np.tanh),
    _runtime("sech", sympy.sech, special.sech),
    _runtime("sech2", functions.sech2, special.sech2),
    _libm("asinh", sympy.asinh, np.arcsinh),
    _libm("acosh", sympy.acosh, np.arccosh, "x >= 1"),
    _libm("atanh", sympy.atanh, np.arctanh, "-1 < x < 1"),
    _libm("erf", sympy.erf, special.erf),
    _libm("erfc", sympy.erfc, special.erfc),
    _runtime("softplus", functions.softplus, special.softplus),
    _runtime("sigmoid", functions.sigmoid, special.sigmoid),
    _runtime("logcosh", functions.logcosh, special.logcosh),
    _runtime("silu", functions.silu, special.silu),
    _runtime("normcdf", functions.normcdf, special.normcdf),
    _runtime("log_ndtr", functions.log_ndtr, special.log_ndtr, weight=48),
    _runtime("mills", functions.mills, special.mills, weight=48),
    _runtime("mills_gap", functions.mills_gap, special.mills_gap, weight=48),
    _runtime("gelu", functions.gelu, special.gelu),
    _runtime("relu", functions.relu, special.relu, kink="derivative 0 at x = 0", kink_at=_same, weight=1),
    _runtime(
        "step", functions.step, special.step, kink="value and derivative 0 at x = 0", kink_at=_same, weight=1
    ),
    _runtime(
        "sign0", functions.sign0, np.sign, kink="value and derivative 0 at x = 0", kink_at=_same, weight=2
    ),
    _runtime(
        "floor",
        functions.floor,
        np.floor,
        kink="derivative 0 where it jumps, at whole numbers",
        kink_at=lambda x: x - functions.floor(x),
        weight=4,
    ),
    _runtime(
        "rint",
        functions.rint,
        np.rint,
        kink="derivative 0 where it jumps, halfway between whole numbers",
        kink_at=lambda x: x - sympy.S.Half - functions.floor(x - sympy.S.Half),
        weight=3,
    ),
    Entry(
        "undefined",
        functions.undefined,
        1,
        "cpgen_nan",
        special.undefined,
        "nowhere",
        weight=1,
        factor=True,
    ),
    Entry(
        "absval",
        functions.absval,
        1,
        "fabs",
        np.abs,
        kink="derivative 0 at x = 0",
        kink_at=_same,
        weight=1,
    ),
    _runtime(
        "maximum",
        functions.maximum,
        np.maximum,
        arity=2,
        kink="derivative of the second argument at a tie",
        kink_at=_gap,
        weight=1,
    ),
    _runtime(
        "minimum",
        functions.minimum,
        np.minimum,
        arity=2,
        kink="derivative of the second argument at a tie",
        kink_at=_gap,
        weight=1,
    ),
    Entry(
        "hypot",
        functions.hypot,
        2,
        "hypot",
        np.hypot,
        kink="derivative NaN where both are 0",
        kink_at=functions.vanishing_length,
    ),
    _runtime("gamma", sympy.gamma, special.gamma, "x > 0", weight=64),
    _runtime("loggamma", sympy.loggamma, special.loggamma, "x > 0", weight=64),
    _runtime("digamma", sympy.digamma, special.polygamma(0), "x > 0", weight=64),
    *(_polygamma(order) for order in POLYGAMMA_ORDERS),
    _runtime("sinc", sympy.sinc, special.spherical(0), weight=64),
    *(_spherical(order) for order in SPHERICAL_ORDERS),
    *(_bessel(kind, order) for kind in functions.BESSEL for order in BESSEL_ORDERS),
    *(_phi(order) for order in PHI_ORDERS),
    _runtime("erfinv", sympy.erfinv, special.erfinv, "-1 <= x <= 1", weight=128),
    _runtime("erfcinv", sympy.erfcinv, special.erfcinv, "0 <= x <= 2", weight=128),
    _runtime("lambertw", sympy.LambertW, special.lambertw, "x >= -exp(-1)", weight=128),
    _runtime("lambertw_slope", functions.lambertw_slope, special.lambertw_slope, "x > -exp(-1)", weight=128),
    _runtime("xlogy", functions.xlogy, special.xlogy, "y > 0, or x = 0", arity=2, weight=18),
    _runtime("xdivy", functions.xdivy, special.xdivy, "y not 0, or x = 0", arity=2, weight=6),
    # what lowering makes of products whose factors are of very different sizes
    _runtime("significand", None, special.significand, weight=4),
    _runtime("exponent", None, special.exponent, weight=6),
    _runtime("scalbn", None, special.scalbn, "2**-100 < |x| < 2**100", arity=2, weight=8),
)

def _eigenroot(k: int, number: int) -> Entry:
    arity = k * (k + 1) // 2
    # about 12 k + 40 operations a rotation, for all numbers together
    rotations = 1 if k == 2 else k * (k - 1)
    weight = rotations * (12 * k + 40) // (2 * k * k)
    numpy = special.eigenroot(k, number)
    name, c = f"eigenroot{k}_{number}", f"cpgen_eigenroot{k}"
    return Entry(name, functions.eigenroot, arity, c, numpy, weight=weight, member=("at", number))


# what programs call besides, but users cannot
ROOTS = tuple(_eigenroot(k, number) for k in range(2, functions.LARGEST_ROOT + 1) for number in range(2 * k * k))
BY_NAME: dict[str, Entry] = {entry.name: entry for entry in (*PRIMITIVES, *ROOTS)}
# classes of which each order is a row
BY_ORDER = (sympy.polygamma, sympy.digamma, sympy.jn, functions.phi1, *functions.BESSEL)
BY_CLASS: dict[Any, Entry] = {
    entry.sympy_class: entry for entry in PRIMITIVES if entry.sympy_class not in (None, sympy.Pow, *BY_ORDER)
}


def entry_of(expr: Expr) -> Entry | None:
    """The row of a function application, or None if ``expr`` is not one of the supported functions."""
    if isinstance(expr, sympy.polygamma):
        order = expr.args[0]
        name = "digamma" if order == 0 else f"polygamma{order}"
        return BY_NAME.get(name)
    if isinstance(expr, sympy.jn):
        return BY_NAME.get(f"jn{expr.args[0]}")
    if isinstance(expr, functions.phi1):
        return BY_NAME.get(f"phi1_{expr.args[0]}")
    if isinstance(expr, functions.Bessel):
        return BY_NAME.get(f"{type(expr).__name__}{expr.args[0]}")
    if isinstance(expr, functions.eigenroot):
        return BY_NAME[f"eigenroot{expr.args[0]}_{expr.args[1]}"]
    return BY_CLASS.get(expr.func)
