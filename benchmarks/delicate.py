"""Delicate formulas of five fields against mpmath: ``python -m benchmarks.delicate [native] [interpreter]``.

Each formula is written once, as its textbook has it, and evaluated by cpgen (float32 and float64; value, gradient,
exact Hessian; by the compiled C and the interpreter, unless one is named) and by mpmath at 200 digits (derivatives by
mpmath's own differences), at ten points spread evenly or by size over a realistic range, with seeded noise.  An error is
given in units of what rounding the inputs and the constants of the formula causes anyway: eps * (|q| + sum |v dq/dv|)
over variables and constants v of the quantity q.  "non-finite" counts results that are no numbers though the true value
is a normal number of the type.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import sympy

import cpgen as cp

RESULT = Path(__file__).resolve().parent / "results" / "delicate.csv"
POINTS = 10
DIGITS = 200  # of the reference; 60 where that takes minutes
REALS = ("float32", "float64")
BACKENDS = ("native", "interpreter")


@dataclass(frozen=True)
class Formula:
    """``function(library, variables, constants)``; ``ranges`` are (low, high) of each variable.

    A positive range is spread by size if ``low * 50 < high``, any other evenly.
    """

    name: str
    field: str
    function: Callable[[Any, Sequence[Any], Sequence[Any]], Any]
    constants: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]
    digits: int = DIGITS


class Numbers:
    """mpmath by SymPy's names."""

    exp, log, sqrt, sin, cos, tan = mpmath.exp, mpmath.log, mpmath.sqrt, mpmath.sin, mpmath.cos, mpmath.tan
    sinh, cosh, tanh, atan, erf, erfc = (
        mpmath.sinh, mpmath.cosh, mpmath.tanh, mpmath.atan, mpmath.erf, mpmath.erfc,
    )  # fmt: skip
    loggamma, Abs, asinh = mpmath.loggamma, abs, mpmath.asinh


def _black_scholes(f: Any, v: Sequence[Any], c: Sequence[Any]) -> Any:
    (s, sigma), (k, r, t) = v, c
    d1 = (f.log(s / k) + (r + sigma**2 / 2) * t) / (sigma * f.sqrt(t))
    d2 = d1 - sigma * f.sqrt(t)
    return s * f.erfc(-d1 / f.sqrt(2)) / 2 - k * f.exp(-r * t) * f.erfc(-d2 / f.sqrt(2)) / 2


FORMULAS = (
    Formula(
        "diode",
        "electronics",
        lambda f, v, c: c[0] * (f.exp(v[0] / (c[1] * v[1])) - 1),
        (1e-14, 0.02585),
        ((0.3, 0.8), (1, 2)),
    ),
    Formula(
        "diode about a working point",
        "electronics",
        lambda f, v, c: v[1] * f.exp((v[0] - c[0]) * c[1]),
        (0.65, 2000.0),
        ((0.63, 0.67), (0.5, 2)),
    ),
    Formula(
        "transistor (Ebers-Moll)",
        "electronics",
        lambda f, v, c: c[0] * (f.exp(v[0] / c[1]) - f.exp((v[0] - v[1]) / c[1])),
        (1e-15, 0.02585),
        ((0.5, 0.75), (0.2, 5)),
    ),
    Formula(
        "thermistor (beta)",
        "electronics",
        lambda f, v, c: c[0] * f.exp(v[1] * (1 / v[0] - 1 / c[1])),
        (10000.0, 298.15),
        ((233, 398), (3000, 4500)),
    ),
    Formula(
        "thermistor (Steinhart-Hart)",
        "electronics",
        lambda f, v, c: 1 / (c[0] + c[1] * f.log(v[0]) + c[2] * f.log(v[0]) ** 3),
        (1.129e-3, 2.341e-4, 8.775e-8),
        ((100, 1e6),),
    ),
    Formula(
        "skin depth",
        "electronics",
        lambda f, v, c: f.sqrt(v[0] / (c[0] * v[1] * c[1])),
        (3.14159265358979, 1.25663706e-6),
        ((1e-8, 1e-6), (50, 1e10)),
    ),
    Formula(
        "thermal noise",
        "electronics",
        lambda f, v, c: f.sqrt(4 * c[0] * v[0] * v[1] * c[1]),
        (1.380649e-23, 1e4),
        ((4, 400), (1, 1e6)),
    ),
    Formula(
        "tunnel current",
        "electronics",
        lambda f, v, c: v[0] * f.exp(-c[0] * f.sqrt(v[1]) * v[2]),
        (1.025e10,),
        ((0.01, 1), (3, 5), (3e-10, 2e-9)),
    ),
    Formula(
        "Arrhenius about 25 C",
        "chemistry",
        lambda f, v, c: f.exp(v[1] * (1 / v[0] - 1 / c[0])),
        (298.15,),
        ((280, 340), (20000, 30000)),
    ),
    Formula(
        "Arrhenius, constants written out",
        "chemistry",
        lambda f, v, c: f.exp(c[0] * (1 / v[0] - 1 / c[1])),
        (30000.0, 298.15),
        ((280, 340),),
    ),
    Formula(
        "Arrhenius with prefactor",
        "chemistry",
        lambda f, v, c: c[0] * f.exp(-v[1] / (c[1] * v[0])),
        (1e13, 8.314),
        ((250, 900), (5e4, 2e5)),
    ),
    Formula(
        "Butler-Volmer",
        "chemistry",
        lambda f, v, c: v[1] * (f.exp(c[0] * v[0]) - f.exp(-c[0] * v[0])),
        (19.46,),
        ((-0.3, 0.3), (1e-6, 1e-2)),
    ),
    Formula(
        "Nernst",
        "chemistry",
        lambda f, v, c: c[0] * v[0] * f.log(v[1] / v[2]),
        (8.617333e-5,),
        ((270, 320), (1e-9, 1), (1e-9, 1)),
    ),
    Formula(
        "Debye-Hueckel",
        "chemistry",
        lambda f, v, c: 10 ** (-c[0] * f.sqrt(v[0]) / (1 + c[1] * v[1] * f.sqrt(v[0]))),
        (0.509, 3.28),
        ((1e-6, 0.1), (0.3, 1.1)),
    ),
    Formula(
        "Antoine",
        "chemistry",
        lambda f, v, c: 10 ** (c[0] - c[1] / (c[2] + v[0])),
        (8.07131, 1730.63, 233.426),
        ((1, 100),),
    ),
    Formula(
        "Hill",
        "chemistry",
        lambda f, v, c: v[0] ** v[2] / (v[1] ** v[2] + v[0] ** v[2]),
        (),
        ((1e-9, 1e-5), (1e-8, 1e-6), (0.7, 3)),
    ),
    Formula(
        "mixing free energy",
        "chemistry",
        lambda f, v, c: v[0] * f.log(v[0]) + (1 - v[0]) * f.log(1 - v[0]) + v[1] * v[0] * (1 - v[0]),
        (),
        ((1e-6, 0.9), (1, 3)),
    ),
    Formula(
        "Black-Scholes, far out of the money",
        "finance",
        _black_scholes,
        (100.0, 0.02, 0.5),
        ((60, 140), (0.15, 0.6)),
    ),
    Formula(
        "continuous discount",
        "finance",
        lambda f, v, c: (1 - f.exp(-v[0] * v[1])) / v[0],
        (),
        ((1e-4, 0.1), (0.1, 30)),
    ),
    Formula(
        "logistic default rate",
        "finance",
        lambda f, v, c: 1 / (1 + f.exp(-(c[0] + c[1] * v[0] + v[1]))),
        (-4.5, 0.8),
        ((-40, 40), (-2, 2)),
    ),
    Formula(
        "log-normal density",
        "finance",
        lambda f, v, c: f.exp(-((f.log(v[0]) - c[0]) ** 2) / (2 * v[1] ** 2)) / (v[0] * v[1] * c[1]),
        (0.05, 2.5066282746),
        ((0.1, 10), (0.1, 0.6)),
    ),
    Formula(
        "Kepler's equation",
        "astronomy",
        lambda f, v, c: v[0] - v[1] * f.sin(v[0]),
        (),
        ((0.1, 3), (0.01, 0.99)),
    ),
    Formula(
        "Planck, SI units",
        "astronomy",
        lambda f, v, c: 2 * c[0] * c[1] ** 2 / v[0] ** 5 / (f.exp(c[0] * c[1] / (v[0] * c[2] * v[1])) - 1),
        (6.62607015e-34, 299792458.0, 1.380649e-23),
        ((3e-7, 3e-5), (300, 10000)),
    ),
    Formula(
        "magnitude",
        "astronomy",
        lambda f, v, c: -2.5 * f.log(v[0] / c[0]) / c[1],
        (3.63e-20, 2.302585092994046),
        ((1e-29, 1e-19),),
    ),
    Formula(
        "relativistic redshift",
        "astronomy",
        lambda f, v, c: f.sqrt((1 + v[0]) / (1 - v[0])),
        (),
        ((0.001, 0.999),),
    ),
    Formula(
        "gravitational binding",
        "astronomy",
        lambda f, v, c: c[0] * v[0] ** 2 / v[1],
        (4.0045e-11,),
        ((1e22, 1e31), (1e6, 1e10)),
    ),
    Formula(
        "Saha",
        "astronomy",
        lambda f, v, c: (c[0] * v[0]) ** 1.5 * f.exp(-c[1] / v[0]) / v[1],
        (1.7998e10, 157821.0),
        ((3000, 30000), (1e16, 1e24)),
    ),
    Formula(
        "logistic log-likelihood",
        "statistics",
        lambda f, v, c: f.log(1 + f.exp(-v[0] * v[1])),
        (),
        ((-30, 30), (0.1, 4)),
    ),
    Formula(
        "Kullback-Leibler term",
        "statistics",
        lambda f, v, c: v[0] * f.log(v[0] / v[1]),
        (),
        ((1e-12, 1), (1e-9, 1)),
    ),
    Formula("logit", "statistics", lambda f, v, c: f.log(v[0] / (1 - v[0])), (), ((1e-9, 0.9),)),
    Formula(
        "Student log-density",
        "statistics",
        lambda f, v, c: (
            f.loggamma((v[1] + 1) / 2)
            - f.loggamma(v[1] / 2)
            - f.log(v[1] * c[0]) / 2
            - (v[1] + 1) / 2 * f.log(1 + v[0] ** 2 / v[1])
        ),
        (3.14159265358979,),
        ((0.01, 50), (1, 60)),
        60,
    ),
    Formula(
        "tail of a Gaussian mixture",
        "statistics",
        lambda f, v, c: f.log(
            c[0] * f.exp(-((v[0] - c[1]) ** 2) / 2) + c[2] * f.exp(-((v[0] - v[1]) ** 2) / 2)
        ),
        (0.3, -1.0, 0.7),
        ((-12, 12), (0.5, 2)),
    ),
    Formula(
        "Weibull survival",
        "statistics",
        lambda f, v, c: f.exp(-((v[0] / c[0]) ** v[1])),
        (1500.0,),
        ((10, 5000), (0.5, 3)),
    ),
)


def points(formula: Formula) -> np.ndarray:
    """``out[POINTS, variables]``, numbers of float32."""
    rng = np.random.default_rng([sum(formula.name.encode()), POINTS])
    columns = []
    for low, high in formula.ranges:
        place = (rng.permutation(POINTS) + rng.uniform(0.1, 0.9, POINTS)) / POINTS
        by_size = low > 0 and low * 50 < high
        columns.append(low * (high / low) ** place if by_size else low + (high - low) * place)
    return np.stack(columns, 1).astype(np.float32)


def found(formula: Formula, real: str, at: np.ndarray, backend: str) -> np.ndarray:
    """``out[POINTS, quantity]``: value, gradient, upper triangle of the Hessian."""
    symbols = sympy.symbols(f"x:{len(formula.ranges)}")
    expr = formula.function(sympy, symbols, formula.constants)
    est = cp.compile(expr, wrt=list(symbols), real=real, backend=backend, programs=(), nonfinite="nan")
    arrays = {str(s): at[:, k].astype(real) for k, s in enumerate(symbols)}
    gradient, hessian = est.gradient(**arrays), est.hessian(**arrays).matrix()
    pairs = combinations_with_replacement(range(len(symbols)), 2)
    columns = [
        est.rows(**arrays),
        *(gradient[str(s)] for s in symbols),
        *(hessian[:, i, j] for i, j in pairs),
    ]
    return np.stack(columns, 1).astype(float)


def exact(formula: Formula, at: np.ndarray) -> Iterator[list[tuple[Any, Any]]]:
    """For each point the quantities of :func:`found` as ``(q, |q| + sum |v dq/dv|)``."""
    n = len(formula.ranges)
    with mpmath.workdps(formula.digits):
        for point in at.tolist():
            everything = tuple(mpmath.mpf(x) for x in (*point, *formula.constants))

            def function(*v: Any) -> Any:
                return formula.function(Numbers, v[:n], v[n:])

            orders = [(), *((i,) for i in range(n)), *combinations_with_replacement(range(n), 2)]

            value = function(*everything)

            def partial(
                order: tuple[int, ...], function: Any = function, where: Any = everything, value: Any = value
            ) -> Any:
                """``prod_k v_k**n_k`` times the derivative: steps relative to each variable."""
                if not order:
                    return value

                def relative(*s: Any) -> Any:
                    return function(*(w * x for w, x in zip(where, s, strict=True)))

                counts = tuple(order.count(k) for k in range(len(where)))
                found = mpmath.diff(relative, (mpmath.mpf(1),) * len(where), counts)
                # the noise of differences where the derivative is exactly 0
                return (
                    mpmath.mpf(0)
                    if abs(found) < abs(value) * mpmath.mpf(10) ** (-formula.digits // 2)
                    else found
                )

            row = []
            for order in orders:
                size = mpmath.mpf(1)
                for k in order:
                    size *= everything[k]
                q = partial(order) / size
                # v d/dv (scaled / size) = (scaled' - count(v) * scaled) / size
                condition = abs(q)
                for v in range(len(everything)):
                    slope = partial(tuple(sorted((*order, v)))) - order.count(v) * q * size
                    condition += abs(slope / size)
                row.append((q, condition))
            yield row


def judge(
    formula: Formula, backends: Sequence[str] = BACKENDS, reals: Sequence[str] = REALS
) -> Iterator[dict[str, object]]:
    """One row of the table for each number type and backend."""
    at = points(formula)
    wanted = list(exact(formula, at))
    n = len(formula.ranges)
    groups = ["value", *["gradient"] * n, *["Hessian"] * (n * (n + 1) // 2)]
    for real, backend in product(reals, backends):
        got = found(formula, real, at, backend)
        kind = np.finfo(real)
        worst = dict.fromkeys(("value", "gradient", "Hessian"), 0.0)
        broken = 0
        for row, want in zip(got, wanted, strict=True):
            for value, (q, condition), group in zip(row, want, groups, strict=True):
                if not np.isfinite(value):
                    broken += float(kind.smallest_normal) <= abs(q) <= float(kind.max)
                    continue
                # what is below the normal numbers has their absolute error
                unit = max(
                    float(kind.eps) * condition, mpmath.mpf(float(kind.smallest_normal)) * float(kind.eps)
                )
                worst[group] = max(worst[group], float(abs(value - q) / unit))
        yield {"formula": formula.name, "field": formula.field, "type": real, "backend": backend,
               **{k: f"{v:.2f}" for k, v in worst.items()}, "non-finite": int(broken)}  # fmt: skip


def main() -> None:
    rows = []
    for formula in FORMULAS:
        for row in judge(formula, sys.argv[1:] or BACKENDS):
            rows.append(row)
            print(*row.values(), sep=", ", flush=True)
    with open(RESULT, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
