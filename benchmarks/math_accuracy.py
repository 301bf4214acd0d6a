"""Largest error and speed of the built-in mathematical functions: ``python -m benchmarks.math_accuracy [points]``.

Every function of cpgen_scalar.h with one or two arguments, float64 and float32, on ``points`` points (default 10^6):
spread evenly over the exponents of the whole range, dense near the places in ``DENSE``, and the extremes.  All points
are judged by MPFR at 160 bits (through gmpy2), polygamma by mpmath at 40 digits on 10^5 points; the worst one of each
function is judged again by mpmath at 60 digits, and the two must agree.  An error is |result - exact| over the distance
of neighbouring numbers at the exact value (at least the smallest subnormal); a wrong NaN or infinity counts as infinite.

Speed: a loop over 4096 numbers, compiled like any program of cpgen, beside glibc's scalar function and, where glibc has
one, its vector function (libmvec); medians of interleaved runs, as ratios to ours.
"""

from __future__ import annotations

import csv
import ctypes
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from cpgen.native.compiler import FLAGS

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "templates" / "runtime"
RESULTS = ROOT / "benchmarks" / "results"
SUFFIX = {"float64": "f64", "float32": "f32"}
C_TYPE = {"float64": "double", "float32": "float"}
UNARY = (
    "sqrt exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc softplus sigmoid"
    " logcosh sech sech2 silu normcdf gelu log_ndtr mills mills_gap sinc erfinv erfcinv gamma loggamma"
    " digamma polygamma1 polygamma2 polygamma3 polygamma4"
).split()
BINARY = ("pow", "atan2", "hypot")
LIBRARY = (
    "sqrt exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc gamma loggamma"
).split()
LIBMVEC = "exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc".split()
GLIBC = {"gamma": "tgamma", "loggamma": "lgamma"}
DENSE = {"log": (1.0,), "log1p": (0.0, -1.0), "acosh": (1.0,), "asin": (1.0, -1.0, 0.5), "acos": (1.0, -1.0, 0.5),
         "atanh": (1.0, -1.0), "atan": (1.0, -1.0), "gamma": (1.0, 2.0, 12.0), "loggamma": (1.0, 2.0, 12.0),
         "digamma": (1.4616321449683622, 1.0, 2.0), "erf": (1.0,), "erfc": (0.5, 1.0),
         "silu": (-1.0,), "gelu": (-1.0,)}  # fmt: skip
# where each function lives: log-uniform sizes up to the largest number of interest, and whether signs are drawn
POSITIVE = {"erfcinv", "sqrt", "log", "acosh", "gamma", "loggamma", "digamma"} | {f"polygamma{k}" for k in range(1, 5)}
# a uniform part beside the log-uniform one
UNIFORM = {
    "exp": (-745.5, 710.0), "expm1": (-60.0, 710.0), "sinh": (-711.0, 711.0), "cosh": (-711.0, 711.0),
    "tanh": (-22.0, 22.0), "erf": (-6.5, 6.5), "erfc": (-6.5, 27.5), "softplus": (-746.0, 50.0),
    "sigmoid": (-746.0, 50.0), "silu": (-750.0, 50.0), "sech": (-750.0, 750.0), "sech2": (-374.0, 374.0),
    "logcosh": (-30.0, 30.0),
    "normcdf": (-39.0, 9.0), "gelu": (-39.0, 9.0), "gamma": (0.0, 172.0), "loggamma": (0.0, 30.0),
    "digamma": (0.0, 30.0), "log_ndtr": (-39.0, 9.0), "mills": (-39.0, 9.0), "mills_gap": (-39.0, 9.0),
    "erfinv": (-1.0, 1.0), "erfcinv": (0.0, 2.0), "asin": (-1.0, 1.0), "acos": (-1.0, 1.0), "atanh": (-1.0, 1.0),
}  # fmt: skip
EXTREME = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, 0.5]
SINGLE_SCALE = 8.0  # exponents of float32 end eight times earlier
# most points of functions that are slow to judge: MPFR lacks polygamma
JUDGED_BY_MPMATH = (
    *(f"polygamma{k}" for k in range(1, 5)), "log_ndtr", "mills", "mills_gap", "sinc", "erfinv", "erfcinv"
)  # fmt: skip
FEWER = dict.fromkeys(JUDGED_BY_MPMATH, 100_000)


def points(name: str, real: str, count: int, seed: int = 1) -> tuple[NDArray[Any], ...]:
    """Arguments of ``name``: one array (two for the functions of two arguments) of type ``real``."""
    with np.errstate(over="ignore"):
        return _points(name, real, count, np.random.default_rng(seed))


def _points(name: str, real: str, count: int, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    kind = np.dtype(real)
    info = np.finfo(kind)
    special = np.array(
        [*EXTREME, info.tiny, -info.tiny, info.smallest_subnormal, info.max, -info.max, info.eps], kind
    )

    def spread(n: int, low: float, high: float, signs: bool) -> NDArray[Any]:
        size = 2.0 ** rng.uniform(low, high, n)
        return (size * rng.choice([-1.0, 1.0], n) if signs else size).astype(kind)

    low, high = (-1074.0, 1023.99) if real == "float64" else (-149.0, 127.99)
    if name in BINARY:
        if name == "pow":
            x = spread(count, low, high, False)
            y = (
                rng.uniform(-1.05, 1.05, count) * high / np.maximum(np.abs(np.log2(x.astype(float))), 1e-3)
            ).astype(kind)
            x[: count // 4] = rng.uniform(0.5, 2.0, count // 4).astype(kind)
        else:
            x = spread(count, low, high, True)
            y = (x.astype(float) * 2.0 ** rng.uniform(-60, 60, count)).astype(kind)
            near = count // 3
            x[:near], y[:near] = rng.normal(size=near), rng.normal(size=near)
        a, b = (g.ravel() for g in np.meshgrid(special, special))
        return np.concatenate([a, x])[:count], np.concatenate([b, y])[:count]
    signs = name not in POSITIVE
    if name in ("asin", "acos", "atanh", "erfinv", "erfcinv"):
        high = 0.0
    third = count // 3
    scale = 1.0 if real == "float64" else SINGLE_SCALE
    a, b = UNIFORM.get(name, (0.0 if not signs else -20.0, 20.0))
    a, b = (a / scale, b / scale) if max(abs(a), abs(b)) > 600 else (a, b)
    if real == "float32" and name == "gamma":
        b = 35.2
    parts = [special, rng.uniform(a, b, third).astype(kind)]
    for centre in DENSE.get(name, (0.0,)):
        offset = spread(
            third // len(DENSE.get(name, (0.0,))), -30.0 if real == "float64" else -20.0, -0.5, True
        )
        parts.append((centre + offset.astype(float)).astype(kind))
    kept = np.concatenate(parts)
    x = np.concatenate([kept, spread(max(count - kept.size, 0), low, high, signs)])[:count]
    return (x,)


def exact(name: str, g: Any) -> Callable[..., Any]:
    """The function in MPFR (``g`` is gmpy2) at the current precision."""
    one = g.mpfr(1)
    half = one / 2
    table: dict[str, Callable[..., Any]] = {
        "loggamma": lambda x: g.lgamma(x)[0],
        "softplus": lambda x: g.log1p(g.exp(x)) if x < 100 else x + g.exp(-x),
        "sigmoid": lambda x: one / (one + g.exp(-x)),
        "sech2": lambda x: g.sech(x) ** 2,
        "logcosh": lambda x: (
            g.log1p(g.expm1(abs(x)) ** 2 / (2 * g.exp(abs(x)))) if abs(x) < 300 else abs(x) - g.const_log2()
        ),
        "silu": lambda x: x / (one + g.exp(-x)),
        "normcdf": lambda x: half * g.erfc(-x * g.sqrt(half)),
        "gelu": lambda x: x * half * g.erfc(-x * g.sqrt(half)),
        "pow": lambda x, y: x**y,
    }
    return table.get(name) or getattr(g, name)


# beyond, two terms of the asymptotic series have more digits than are asked for
_FAR_LEFT = -1e8


def _log_ndtr(x: Any) -> Any:
    if x < _FAR_LEFT:
        return -x * x / 2 - mpmath.log(-x) - mpmath.log(2 * mpmath.pi) / 2
    tail = mpmath.erfc(abs(x) / mpmath.sqrt(2)) / 2
    return mpmath.log1p(-tail) if x > 0 else mpmath.log(tail)


def _mills(x: Any) -> tuple[Any, Any]:
    """``phi(x)/Phi(x)``, and that plus ``x``."""
    if x < _FAR_LEFT:
        gap = (1 - 2 / x**2) / -x
        return gap - x, gap
    if x > -_FAR_LEFT:
        return mpmath.mpf(0), x
    with mpmath.workdps(mpmath.mp.dps + 40):
        value = mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-x * x / 2) / mpmath.erfc(-x / mpmath.sqrt(2))
        return value, value + x


def _erfcinv(q: Any) -> Any:
    if q > 0.01:
        return mpmath.erfinv(1 - q)
    return mpmath.findroot(lambda w: mpmath.log(mpmath.erfc(w) / q), mpmath.sqrt(-mpmath.log(q)))


def by_mpmath(name: str) -> Callable[..., Any]:
    """The function in mpmath; independent of :func:`exact`."""
    mp = mpmath
    table: dict[str, Callable[..., Any]] = {
        "acosh": mp.acosh,
        "softplus": lambda x: mp.log1p(mp.exp(x)) if x < 200 else x,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "sech2": lambda x: mp.sech(x) ** 2,
        "logcosh": lambda x: (
            mp.log1p(mp.expm1(abs(x)) ** 2 / (2 * mp.exp(abs(x)))) if abs(x) < 300 else abs(x) - mp.log(2)
        ),
        "silu": lambda x: x / (1 + mp.exp(-x)),
        "normcdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
        "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "pow": mp.power,
        "hypot": mp.hypot,
        "loggamma": mp.loggamma,
        "digamma": lambda x: mp.psi(0, x),
    }
    table |= {"log_ndtr": _log_ndtr, "mills": lambda x: _mills(x)[0], "mills_gap": lambda x: _mills(x)[1]}
    table |= {"sinc": mp.sinc, "erfinv": mp.erfinv, "erfcinv": _erfcinv}
    if name.startswith("polygamma"):
        return lambda x: mp.psi(int(name[-1]), x)
    return table.get(name) or getattr(mp, name)


def defined(name: str, args: tuple[float, ...]) -> bool:
    """Whether the exact value at finite ``args`` is a real number and inside what the function takes."""
    x = args[0]
    if name in POSITIVE - {"sqrt", "acosh", "erfcinv"}:
        return x > 0
    return {
        "sqrt": x >= 0, "acosh": x >= 1, "asin": abs(x) <= 1, "acos": abs(x) <= 1, "atanh": abs(x) < 1,
        "log1p": x > -1, "pow": x > 0, "erfinv": abs(x) < 1, "erfcinv": 0 < x < 2,
    }.get(name, True)  # fmt: skip


def errors(name: str, real: str, args: tuple[NDArray[Any], ...], got: NDArray[Any]) -> NDArray[np.float64]:
    """Errors in units in the last place; NaN where the exact value is not a finite real number."""
    import gmpy2 as g

    info = np.finfo(real)
    digits, least = info.nmant, info.minexp - info.nmant
    own = name in JUDGED_BY_MPMATH
    result = np.full(got.size, np.nan)
    with g.context(g.get_context(), precision=160, emax=1 << 40, emin=-(1 << 40)), mpmath.workdps(40):
        function = by_mpmath(name) if own else exact(name, g)
        number = mpmath.mpf if own else g.mpfr
        limit = g.mpfr(float(info.max)) + g.mpfr(2) ** (info.maxexp - digits - 2)
        arguments = zip(*(a.tolist() for a in args), strict=True)
        for k, (values, value) in enumerate(zip(arguments, got.tolist(), strict=True)):
            if not all(-np.inf < v < np.inf for v in values) or not defined(name, values):
                continue
            true = function(*map(number, values))
            true = g.mpfr(mpmath.nstr(true, 40)) if own else true
            if abs(true) >= limit:
                result[k] = 0.0 if value in (np.inf, -np.inf) and (value > 0) == (true > 0) else np.inf
            elif not -np.inf < value < np.inf:
                result[k] = np.inf
            else:
                exponent = least if true == 0 else max(g.get_exp(true) - 1 - digits, least)
                result[k] = float(abs(value - true) * g.exp2(-exponent))
    return result


def judged(name: str, real: str, values: tuple[float, ...], value: float) -> float:
    """The error of one point by mpmath at 60 digits."""
    info = np.finfo(real)
    with mpmath.workdps(60):
        true = by_mpmath(name)(*map(mpmath.mpf, values))
        _, exponent = mpmath.frexp(true)
        unit = mpmath.ldexp(1, max(exponent - 1 - info.nmant, info.minexp - info.nmant))
        return float(abs(value - true) / unit)


def library(real: str, folder: Path, libmvec: bool = False, fused: bool = False) -> ctypes.CDLL:
    """Loops over each function, compiled like a program: ours, and with ``libmvec`` glibc's vector functions."""
    c, s, f = C_TYPE[real], SUFFIX[real], "" if real == "float64" else "f"
    lines = ['#include "cpgen_scalar.h"']
    if libmvec:
        lines += [f'__attribute__((simd("notinbranch"))) {c} {n}{f}({c});' for n in LIBMVEC]
    lines += ["#include <math.h>"]
    loop = "{{ for (long i = 0; i < n; ++i) {{ y[i] = {}; }} }}"
    for n in UNARY:
        call = f"cpgen_polygamma_{s}({n[-1]}, x[i])" if n.startswith("polygamma") else f"cpgen_{n}_{s}(x[i])"
        lines.append(f"void own_{n}(long n, const {c} *restrict x, {c} *restrict y) " + loop.format(call))
    for n in BINARY:
        head = f"void own_{n}(long n, const {c} *restrict x, const {c} *restrict z, {c} *restrict y) "
        lines.append(head + loop.format(f"cpgen_{n}_{s}(x[i], z[i])"))
    for n in LIBRARY:
        head = f"void lib_{n}(long n, const {c} *restrict x, {c} *restrict y) "
        lines.append(head + loop.format(f"{GLIBC.get(n, n)}{f}(x[i])"))
    source, target = folder / f"loops_{s}{libmvec}.c", folder / f"loops_{s}{libmvec}.so"
    source.write_text("\n".join(lines) + "\n")
    flags = [*FLAGS, *(["-ffp-contract=fast"] if fused else []), f"-I{RUNTIME}", str(source), "-o", str(target)]
    subprocess.run(["gcc", *flags, *(["-lmvec"] if libmvec else []), "-lm"], check=True)
    return ctypes.CDLL(str(target))


def evaluate(lib: ctypes.CDLL, name: str, args: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """The results of our loop."""
    out = np.empty_like(args[0])
    getattr(lib, f"own_{name}")(
        ctypes.c_long(out.size), *(ctypes.c_void_p(a.ctypes.data) for a in (*args, out))
    )
    return out


def measure(task: tuple[str, str, int]) -> tuple[str, str, int, float, str, float]:
    """Name, type, points with a finite exact value, the largest error, where, and that error by mpmath."""
    name, real, count = task
    count = min(count, FEWER.get(name, count))
    with tempfile.TemporaryDirectory() as folder:
        lib = library(real, Path(folder))
        args = points(name, real, count)
        got = evaluate(lib, name, args)
    found = errors(name, real, args, got)
    judgeable = int(np.count_nonzero(~np.isnan(found)))
    worst = int(np.nanargmax(found))
    values = tuple(float(a[worst]) for a in args)
    again = judged(name, real, values, float(got[worst])) if np.isfinite(found[worst]) else np.inf
    return name, real, judgeable, float(found[worst]), " ".join(v.hex() for v in values), again


def timed(real: str) -> list[tuple[str, float, float, float]]:
    """Name, our nanoseconds a number, and glibc's scalar and vector time over ours (NaN where there is none)."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plain, vector = library(real, Path(folder)), library(real, Path(folder), libmvec=True)
        rng = np.random.default_rng(2)
        x = np.empty(4096, real)
        y = np.empty(4096, real)
        for name in LIBRARY:
            low, high = (1.0, 9.0) if name in POSITIVE else (-0.9, 0.9)
            x[:] = rng.uniform(low, high, x.size)
            calls = [getattr(plain, f"own_{name}"), getattr(plain, f"lib_{name}")]
            calls += [getattr(vector, f"lib_{name}")] if name in LIBMVEC else []
            seconds: list[list[float]] = [[] for _ in calls]
            pointers = ctypes.c_long(x.size), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)
            for _ in range(41):
                for call, kept in zip(calls, seconds, strict=True):
                    start = time.perf_counter()
                    for _ in range(5):
                        call(*pointers)
                    kept.append(time.perf_counter() - start)
            medians = [float(np.median(s)) for s in seconds] + [float("nan")]
            rows.append(
                (name, medians[0] / 5 / x.size * 1e9, medians[1] / medians[0], medians[2] / medians[0])
            )
    return rows


def main(count: int) -> None:
    """Print both tables and write them to benchmarks/results."""
    tasks = [(name, real, count) for real in SUFFIX for name in (*UNARY, *BINARY)]
    with open(RESULTS / "math_accuracy.csv", "w", newline="") as file, multiprocessing.Pool(2) as pool:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["function", "type", "points", "largest error (ulp)", "at", "by mpmath (ulp)"])
        for name, real, judgeable, worst, at, again in pool.imap(measure, tasks):
            table.writerow([name, real, judgeable, f"{worst:.3f}", at, f"{again:.3f}"])
            file.flush()
            print(
                f"{name:12s} {real} {judgeable:8d} {worst:9.3f} ulp at {at} (mpmath {again:.3f})", flush=True
            )
    write_speed()


def write_speed() -> None:
    """Print the times and write them to benchmarks/results."""
    with open(RESULTS / "math_speed.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["function", "type", "ns a number", "glibc over ours", "libmvec over ours"])
        for real in SUFFIX:
            for name, own, scalar, vector in timed(real):
                shown = "" if np.isnan(vector) else f"{vector:.2f}"
                table.writerow([name, real, f"{own:.2f}", f"{scalar:.2f}", shown])
                print(
                    f"{name:12s} {real} {own:7.2f} ns; glibc {scalar:.2f} times, libmvec {shown or '-'} times"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
