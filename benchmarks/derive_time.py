"""Processor seconds from a model to its C text: derivation, simplification, plan and emission, no C compiler.

    python benchmarks/derive_time.py                     # all models, gradient and diagonal
    python benchmarks/derive_time.py "kalman 40"         # those whose name contains it
    python benchmarks/derive_time.py --profile "arm"     # where the time goes
    python benchmarks/derive_time.py --limit 60          # seconds for each model and program
    python benchmarks/derive_time.py --write             # also into benchmarks/results/derive_time.csv

Each figure is from a process of its own, and counts from after the model is built; "> n" is one that was stopped.  A name
that is a model's chooses that model alone.
"""

from __future__ import annotations

import argparse
import cProfile
import csv
import pstats
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sympy as sp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cpgen as cp  # noqa: E402
from benchmarks.compile_time import residual  # noqa: E402


def double_pendulum(state: list[Any], m: Any, length: Any, g: Any) -> list[Any]:
    """The state's derivative (angles, angular velocities; two equal masses on rods of equal length)."""
    a, b, v, w = state
    d = a - b
    below = length * (3 - sp.cos(2 * d)) * m
    first = -3 * g * m * sp.sin(a) - m * g * sp.sin(a - 2 * b)
    first -= 2 * sp.sin(d) * m * length * (w**2 + v**2 * sp.cos(d))
    second = 2 * sp.sin(d) * (2 * v**2 * length * m + 2 * g * m * sp.cos(a) + w**2 * length * m * sp.cos(d))
    return [v, w, first / below, second / below]


def runge_kutta(name: Callable[[str, Any], Any], state: list[Any], m: Any, length: Any, g: Any, h: Any) -> list[Any]:
    """One classical Runge-Kutta step; ``name`` may make a definition of each value."""

    def slope(at: list[Any], stage: int) -> list[Any]:
        return [name(f"k{stage}_{i}", s) for i, s in enumerate(double_pendulum(at, m, length, g))]

    def moved(k: list[Any], step: Any, stage: int) -> list[Any]:
        return [name(f"y{stage}_{i}", y + step * d) for i, (y, d) in enumerate(zip(state, k, strict=True))]

    k1 = slope(state, 1)
    k2 = slope(moved(k1, h / 2, 1), 2)
    k3 = slope(moved(k2, h / 2, 2), 3)
    k4 = slope(moved(k3, h, 3), 4)
    return [y + h / 6 * (a + 2 * b + 2 * c + d) for y, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)]


def rk4_expression() -> Any:
    *state, m, length, g, h = sp.symbols("a b v w m l g h")
    return sum(y**2 for y in runge_kutta(lambda _, e: e, state, m, length, g, h))


def rk4_definitions() -> Any:
    model = cp.Model("rk4")
    n = model.axis("n", cp.ROWS)
    *state, m, length, g, h = (model.input(s, n)[n] for s in "a b v w m l g h".split())
    new = runge_kutta(lambda name, e: model.define(name, (n,), e)[n], state, m, length, g, h)
    model.objective(sum(y**2 for y in new))
    return model


def many_terms() -> Any:
    """60 symbols, 400 terms."""
    rng = random.Random(0)
    s = sp.symbols("s:60")
    functions = [sp.sin, sp.cos, sp.exp, sp.tanh, lambda e: e**2, lambda e: sp.log(1 + e**2)]
    terms = []
    for _ in range(400):
        a, b, c = rng.sample(s, 3)
        terms.append(sp.Rational(rng.randint(1, 9), 4) * rng.choice(functions)(a * b) * rng.choice(functions)(c))
    return sp.Add(*terms)


def arm() -> Any:
    """The height and reach of a 7-joint arm: offsets, lengths and fixed twists."""
    q = sp.symbols("q:7")
    position = sp.Matrix([0, 0, 0])
    turn = sp.eye(3)
    for k in range(7):
        c, s = sp.cos(q[k]), sp.sin(q[k])
        about = [[c, -s, 0], [s, c, 0], [0, 0, 1]] if k % 2 else [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        turn = turn * sp.Matrix(about)
        position = position + turn * sp.Matrix([sp.Rational(k + 1, 20), 0, sp.Rational(3, 10)])
    target = sp.Matrix([sp.Rational(1, 2), sp.Rational(1, 5), sp.Rational(7, 10)])
    return sum(e**2 for e in position - target)


def sabr() -> Any:
    """The price of a call from Hagan's expansion of SABR's implied volatility (2002), Black's formula on it."""
    F, K, T, alpha, beta, rho, nu = sp.symbols("F K T alpha beta rho nu", positive=True)
    log = sp.log(F / K)
    mid = (F * K) ** ((1 - beta) / 2)
    z = nu / alpha * mid * log
    x = sp.log((sp.sqrt(1 - 2 * rho * z + z**2) + z - rho) / (1 - rho))
    below = mid * (1 + (1 - beta) ** 2 / 24 * log**2 + (1 - beta) ** 4 / 1920 * log**4)
    drift = (1 - beta) ** 2 / 24 * alpha**2 / mid**2 + rho * beta * nu * alpha / 4 / mid + (2 - 3 * rho**2) / 24 * nu**2
    sigma = alpha / below * z / x * (1 + drift * T)
    d1 = (log + sigma**2 * T / 2) / (sigma * sp.sqrt(T))
    cdf = lambda e: (1 + sp.erf(e / sp.sqrt(2))) / 2  # noqa: E731
    return F * cdf(d1) - K * cdf(d1 - sigma * sp.sqrt(T))


def kalman(steps: int) -> Any:
    """Negative log-likelihood of a constant-velocity filter, its steps as definitions."""
    m = cp.Model("kalman")
    n, t = m.axes("n t", n=cp.ROWS, t=steps)
    y = m.input("y", n, t)
    q, r = m.input("q", n)[n], m.input("r", n)[n]
    x0, x1 = sp.Integer(0), sp.Integer(0)
    p00, p01, p11 = sp.Integer(1), sp.Integer(0), sp.Integer(1)
    total = sp.Integer(0)
    d = lambda name, e: m.define(name, (n,), e)[n]  # noqa: E731
    dt = sp.Rational(1, 10)
    for k in range(steps):
        a0 = d(f"a0_{k}", x0 + dt * x1) if k else x0
        a1 = x1
        c00 = d(f"c00_{k}", p00 + 2 * dt * p01 + dt**2 * p11 + q * dt**3 / 3)
        c01 = d(f"c01_{k}", p01 + dt * p11 + q * dt**2 / 2)
        c11 = d(f"c11_{k}", p11 + q * dt)
        s = d(f"s_{k}", c00 + r)
        e = d(f"e_{k}", y[n, k] - a0)
        g0, g1 = d(f"g0_{k}", c00 / s), d(f"g1_{k}", c01 / s)
        x0, x1 = d(f"x0_{k}", a0 + g0 * e), d(f"x1_{k}", a1 + g1 * e)
        p00, p01 = d(f"p00_{k}", (1 - g0) * c00), d(f"p01_{k}", (1 - g0) * c01)
        p11 = d(f"p11_{k}", c11 - g1 * c01)
        total = d(f"l_{k}", total + (e**2 / s + sp.log(s)) / 2)
    m.objective(total)
    return m


def nested(depth: int) -> Any:
    t = sp.Symbol("t")
    f = t
    for _ in range(depth):
        f = sp.sin(f) + t
    return f


def chain(length: int) -> Any:
    m = cp.Model("chain")
    n = m.axis("n", cp.ROWS)
    t = m.input("t", n)[n]
    f = t
    for k in range(length):
        f = m.define(f"f{k}", (n,), sp.sin(f) + t)[n]
    m.objective(f)
    return m


def large(operations: int) -> Any:
    """An expression of so many operations in 20 symbols: terms of four operations."""
    rng = random.Random(0)
    s = sp.symbols("s:20")
    functions = [sp.sin, sp.cos, sp.exp, sp.tanh]
    terms = []
    for k in range(operations // 4):
        a, b = rng.sample(s, 2)
        terms.append(rng.choice(functions)(a + sp.Rational(k, 7)) * b)
    return sp.Add(*terms)


MODELS: dict[str, Callable[[], Any]] = {
    "residual 10": lambda: residual(10),
    "residual 50": lambda: residual(50),
    "residual 200": lambda: residual(200),
    "residual 1000": lambda: residual(1000),
    "rk4 expression": rk4_expression,
    "rk4 definitions": rk4_definitions,
    "60 symbols, 400 terms": many_terms,
    "arm of 7 joints": arm,
    "SABR": sabr,
    "kalman 40": lambda: kalman(40),
    "nested sin 150": lambda: nested(150),
    "chain 1000": lambda: chain(1000),
    "chain 3000": lambda: chain(3000),
    "100000 operations": lambda: large(100_000),
}
WRT = {
    "SABR": ["F", "alpha", "rho", "nu"],
    "kalman 40": ["q", "r"],
    "rk4 expression": list("abvw"),
    "rk4 definitions": list("abvw"),
}
PROGRAMS = ("gradient", "diagonal")
RESULTS = Path(__file__).parent / "results" / "derive_time.csv"
# seconds with cpgen at 3fb81c2, whichever program took them, as issue 13 reports them
BEFORE = {
    "residual 50": "130",
    "rk4 expression": "never",
    "rk4 definitions": "> 15",
    "60 symbols, 400 terms": "185",
    "arm of 7 joints": "22",
    "SABR": "24",
    "kalman 40": "69",
    "nested sin 150": "RecursionError",
}


def text(name: str, program: str) -> tuple[float, int]:
    """Processor seconds and bytes of text."""
    built = MODELS[name]()
    begin = time.process_time()
    files = cp.compile(built, wrt=WRT.get(name), programs=(), backend="interpreter").source([program])
    return time.process_time() - begin, sum(len(f) for n, f in files.items() if "cpgen_" not in n)


def measured(name: str, program: str, limit: float) -> list[str]:
    command = [sys.executable, __file__, "--one", name, program]
    cut = lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=cut)  # noqa: S603, PLW1509
    if done.returncode < 0:
        return [f"> {limit:.0f}", ""]
    return done.stdout.split() if done.returncode == 0 else [done.stderr.strip().splitlines()[-1][:60], ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--limit", type=float, default=120)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "PROGRAM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        seconds, size = text(*arguments.one)
        print(f"{seconds:.2f} {size}")
        return
    chosen = [arguments.name] if arguments.name in MODELS else [n for n in MODELS if arguments.name in n]
    if arguments.profile:
        for name in chosen:
            for program in PROGRAMS:
                profile = cProfile.Profile()
                try:
                    profile.runcall(text, name, program)
                except RecursionError as error:
                    print(error)
                pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
        return
    titles = ["model", "before", *(f"{program} {what}" for program in PROGRAMS for what in ("seconds", "bytes"))]
    rows = []
    for name in chosen:
        found = [part for p in PROGRAMS for part in measured(name, p, arguments.limit)]
        rows.append([name, BEFORE.get(name, ""), *found])
        print(*rows[-1], sep=" | ", flush=True)
    if arguments.write:
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([titles, *rows])


if __name__ == "__main__":
    main()
