"""Largest errors of value, first and second derivative: ``python -m benchmarks.derivative_accuracy [points]``.

Every smooth primitive of one argument and some forms that are recognised, as C text with the built-in mathematics,
float64 and float32, on points spread over the exponents of the range, dense near its ends, against mpmath.  The unit is
``|result - exact| / (u + eps |x d(exact)/dx|)``, ``u`` the distance of neighbouring numbers at the exact value: 1 is what
rounding the result and the argument alone may cost, so that zeros, poles and steep places do not count against a
function.  Points whose exact value is no normal number are left out.  The table goes to docs/mathematics.md by hand.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sympy
from mpmath import mp
from numpy.typing import NDArray
from sympy import Expr

from cpgen.code.printer import expression
from cpgen.code.tree import Element, Name
from cpgen.emit.runtime import own_function
from cpgen.emit.spelling import Spelling
from cpgen.scalar import canonical, diff, lengths, placeholder, to_c
from cpgen.scalar import functions as fn

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "templates" / "runtime"
X = placeholder(0)
Case = tuple[Expr, Callable[[Any], Any], str]


def _tail(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _log_ndtr(x: Any) -> Any:
    return mp.log1p(-_tail(-x)) if x > 0 else mp.log(_tail(x))


def _logcosh(x: Any) -> Any:
    return mp.log1p(2 * mp.sinh(x / 2) ** 2)


# expression, its value in mpmath, and where: (low, high) of log10 |x|, "+" or "-" or both signs, or an interval's ends
CASES: dict[str, Case] = {
    "sqrt": (sympy.sqrt(X), mp.sqrt, "+30"),
    "exp": (sympy.exp(X), mp.exp, "80"),
    "expm1": (fn.expm1(X), mp.expm1, "80"),
    "log": (sympy.log(X), mp.log, "+12"),
    "log1p": (fn.log1p(X), mp.log1p, "-1,9"),
    "sin": (sympy.sin(X), mp.sin, "1e9"),
    "cos": (sympy.cos(X), mp.cos, "1e9"),
    "tan": (sympy.tan(X), mp.tan, "1e9"),
    "asin": (sympy.asin(X), mp.asin, "-1,1"),
    "acos": (sympy.acos(X), mp.acos, "-1,1"),
    "atan": (sympy.atan(X), mp.atan, "1e12"),
    "sinh": (sympy.sinh(X), mp.sinh, "80"),
    "cosh": (sympy.cosh(X), mp.cosh, "80"),
    "tanh": (sympy.tanh(X), mp.tanh, "40"),
    "sech": (sympy.sech(X), mp.sech, "80"),
    "asinh": (sympy.asinh(X), mp.asinh, "1e12"),
    "acosh": (sympy.acosh(X), mp.acosh, "1,1e12"),
    "atanh": (sympy.atanh(X), mp.atanh, "-1,1"),
    "erf": (sympy.erf(X), mp.erf, "8"),
    "erfc": (sympy.erfc(X), mp.erfc, "8"),
    "softplus": (fn.softplus(X), lambda x: mp.log1p(mp.exp(x)), "80"),
    "sigmoid": (fn.sigmoid(X), lambda x: 1 / (1 + mp.exp(-x)), "80"),
    "logcosh": (fn.logcosh(X), _logcosh, "40"),
    "silu": (fn.silu(X), lambda x: x / (1 + mp.exp(-x)), "80"),
    "normcdf": (fn.normcdf(X), _tail, "12"),
    "gelu": (fn.gelu(X), lambda x: x * _tail(x), "12"),
    "log_ndtr": (fn.log_ndtr(X), _log_ndtr, "12"),
    "gamma": (sympy.gamma(X), mp.gamma, "0,30"),
    "loggamma": (sympy.loggamma(X), mp.loggamma, "0,1e6"),
    "digamma": (sympy.polygamma(0, X), lambda x: mp.psi(0, x), "0,1e6"),
    "sinc": (sympy.sinc(X), mp.sinc, "1e4"),
    "jn1": (sympy.jn(1, X), lambda x: (mp.sinc(x) - mp.cos(x)) / x, "1e4"),
    **{f"besselj{n}": (sympy.besselj(n, X), partial(mp.besselj, n), "1e4") for n in (0, 1, 4)},
    **{f"bessely{n}": (sympy.bessely(n, X), partial(mp.bessely, n), "0,1e3") for n in (0, 1, 4)},
    **{f"besseli{n}": (sympy.besseli(n, X), partial(mp.besseli, n), "80") for n in (0, 1, 4)},
    **{f"besselk{n}": (sympy.besselk(n, X), partial(mp.besselk, n), "0,80") for n in (0, 1, 4)},
    "erfinv": (sympy.erfinv(X), mp.erfinv, "-1,1"),
    "lambertw": (sympy.LambertW(X), lambda x: mp.lambertw(x).real, "-0.36787,1e12"),
    "sqrt(1 + x^2)": (sympy.sqrt(1 + X**2), lambda x: mp.sqrt(1 + x * x), "1e12"),
    "hypot(x, 2)": (fn.hypot(X, 2), lambda x: mp.sqrt(4 + x * x), "1e12"),
    "atan2(x, 2)": (sympy.atan2(X, 2), lambda x: mp.atan(x / 2), "1e12"),
    "atan2(2, x)": (sympy.atan2(2, X), lambda x: mp.atan2(2, x), "1e12"),
    "x^2.5": (X ** sympy.Rational(5, 2), lambda x: x**2 * mp.sqrt(x), "+10"),
    "log(1 + 2 e^x + 3 e^-x)": (
        sympy.log(1 + 2 * sympy.exp(X) + 3 * sympy.exp(-X)),
        lambda x: mp.log(1 + 2 * mp.exp(x) + 3 * mp.exp(-x)),
        "80",
    ),
    "beta(x, 2.5)": (sympy.beta(X, sympy.Rational(5, 2)), lambda x: mp.beta(x, 2.5), "0,100"),
    "factorial": (sympy.factorial(X), lambda x: mp.gamma(x + 1), "0,30"),
}


def points(where: str, real: str, count: int, seed: int = 3) -> NDArray[Any]:
    """``count`` arguments or fewer: of both signs up to ``where``, of one up to 10 to it, or between two ends."""
    rng = np.random.default_rng(seed)
    if "," in where:
        low, high = map(float, where.split(","))
        ends = 10.0 ** rng.uniform(-12, 0, (2, count // 3)) * min(high - low, 1.0)
        wide = low + 10.0 ** rng.uniform(-3, np.log10(high - low), count // 3)
        x = np.concatenate([low + ends[0], (high - ends[1]) if high <= 1 else wide, wide])
        x = x.astype(real)
        return x[(x > low) & (x < high)]
    if where[0] == "+":
        return (10.0 ** rng.uniform(-float(where[1:]), float(where[1:]), count)).astype(real)
    top = np.log10(float(where))
    size = np.concatenate([10.0 ** rng.uniform(-6, top, count // 2), 10.0 ** rng.uniform(top - 2, top, count // 2)])
    return (size * rng.choice([-1.0, 1.0], size.size)).astype(real)


def evaluate(exprs: list[Expr], real: str, x: NDArray[Any]) -> list[NDArray[Any]]:
    """The values of ``exprs`` at ``x`` as compiled C with the built-in mathematics."""
    kind = {"float64": "double", "float32": "float"}[real]
    code = to_c(exprs, {X: Element(Name("x"), Name("i"))}, real)
    own = Spelling("", function=own_function(real))
    lines = [f"        const {kind} {name} = {expression(own.tree(tree))};" for name, tree in code.lets]
    lines += [f"        y[{k} * n + i] = {expression(own.tree(tree))};" for k, tree in enumerate(code.results)]
    body = "\n".join(lines)
    head = f"void evaluate(long n, const {kind} *x, {kind} *y)\n{{\n    for (long i = 0; i < n; ++i)\n    {{\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "f.c").write_text(f'#include "cpgen_scalar.h"\n{head}{body}\n    }}\n}}\n')
        command = ["gcc", "-std=c99", "-O1", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC", f"-I{RUNTIME}"]
        subprocess.run([*command, str(path / "f.c"), "-o", str(path / "f.so")], check=True)
        y = np.empty((len(exprs), x.size), real)
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (x, y))
        ctypes.CDLL(str(path / "f.so")).evaluate(ctypes.c_long(x.size), *pointers)
    return list(y)


def largest(name: str, real: str, count: int) -> list[tuple[float, float]]:
    """The largest error of f, f' and f'', each with its place."""
    expr, function, where = CASES[name]
    expr = lengths(canonical(expr))
    first = diff(expr, X)
    x = points(where, real, count)
    found = []
    info = np.finfo(real)
    for order, values in enumerate(evaluate([expr, first, diff(first, X)], real, x)):
        worst, place = 0.0, float("nan")
        for at, value in zip(x.tolist(), values.tolist(), strict=True):
            with mp.workdps(60):
                point = mp.mpf(at)
                scale = min([abs(point), *(abs(point - e) for e in _ends(where))]) or mp.mpf(1)
                h = scale * mp.mpf(10) ** -15
                exact, slope = _derivatives(function, point, h, order)
            if not info.tiny * 4 <= abs(exact) <= info.max / 4:
                continue
            unit = np.spacing(np.abs(np.dtype(real).type(float(exact)))) + info.eps * abs(float(point * slope))
            error = abs(float(mp.mpf(value) - exact)) / float(unit) if np.isfinite(value) else float("inf")
            if not error <= worst:
                worst, place = error, at
        found.append((worst, place))
    return found


def _ends(where: str) -> list[float]:
    return [float(end) for end in where.split(",")] if "," in where else []


def _derivatives(function: Callable[[Any], Any], x: Any, h: Any, order: int) -> tuple[Any, Any]:
    """The derivatives of orders ``order`` and ``order + 1``, by central differences at twice the digits."""
    with mp.workdps(130):
        f = [function(x + k * h) for k in (-2, -1, 0, 1, 2)]
        table = [
            f[2],
            (f[0] - 8 * f[1] + 8 * f[3] - f[4]) / (12 * h),
            (-f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]) / (12 * h**2),
            (f[4] - 2 * f[3] + 2 * f[1] - f[0]) / (2 * h**3),
        ]
        return table[order], table[order + 1]


def rows(count: int) -> list[str]:
    """The lines of the table in docs/mathematics.md."""
    lines = []
    for name in CASES:
        cells = []
        for real in ("float64", "float32"):
            errors = largest(name, real, count)
            cells += [f"{worst:.1f}" for worst, _ in errors]
            worst, place = max(errors, key=lambda e: e[0])
            cells.append(f"{place:.3g}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def documented() -> dict[str, list[float]]:
    """The table in docs/mathematics.md: f, f', f'' in float64, then in float32."""
    text = (ROOT / "docs" / "mathematics.md").read_text()
    table = {}
    for line in text[text.index("## Derivatives") :].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and re.fullmatch(r"[\d.]+", cells[1]):
            table[cells[0]] = [float(cells[k]) for k in (1, 2, 3, 5, 6, 7)]
    return table


if __name__ == "__main__":
    rows(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
