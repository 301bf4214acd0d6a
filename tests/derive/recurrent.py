"""Models with states, each written twice: as a recurrence, and unrolled, a definition for each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp
from cpgen.ir.nodes import Graph, Input

Arrays = dict[str, NDArray[Any]]
Read = Callable[..., sp.Expr]  # of the subscripts without the step
Define = Callable[[str, Any], Read]


class Roll:
    """States along an axis of ``steps``: a recurrence if ``looped``, else definitions of their own for each step."""

    def __init__(
        self, model: cp.Model, steps: int, looped: bool, reverse: bool = False, axis: Any = None
    ) -> None:
        self.model, self.steps, self.looped, self.reverse = model, steps, looped, reverse
        self.t = model.axis("t", steps) if axis is None else axis
        self._states: dict[str, Any] = {}
        self._axes: dict[str, tuple[Any, ...]] = {}
        self._starts: dict[str, sp.Expr] = {}
        self._unrolled: dict[str, dict[int, Read]] = {}

    def state(self, name: str, axes: tuple[Any, ...], start: Any = 0, place: int | None = None) -> None:
        """``axes`` without the step, which stands before the last ``len(axes) - place`` of them."""
        self._axes[name], self._starts[name] = axes, sp.sympify(start)
        self._unrolled[name] = {}
        if self.looped:
            where = len(axes) if place is None else place
            self._where = where
            whole = (*axes[:where], self.t, *axes[where:])
            self._states[name] = self.model.state(name, whole, along=self.t, start=start, reverse=self.reverse)

    def run(self, body: Callable[[Any, dict[str, Read], Define], None]) -> None:
        """``body(step, previous, define)`` defines every state; ``define`` gives what reads it at that step."""
        if self.looped:
            previous = {name: self._reader(state.previous, self.t) for name, state in self._states.items()}

            def define(name: str, expr: Any) -> Read:
                if name in self._states:
                    self.model.define(self._states[name], expr)
                    return self._reader(self._states[name], self.t)
                raise KeyError(name)

            body(self.t, previous, define)
            return
        before = {name: self._start_reader(name) for name in self._axes}
        order = range(self.steps)
        for step in reversed(order) if self.reverse else order:
            now: dict[str, Read] = {}

            def define_step(name: str, expr: Any, step: int = step, now: dict[str, Read] = now) -> Read:
                axes = self._axes[name]
                made = self.model.define(f"{name}_at{step}", axes, expr)
                now[name] = (lambda *at: made[at]) if axes else (lambda *at: made)
                self._unrolled[name][step] = now[name]
                return now[name]

            body(step, before, define_step)
            before = now

    def _reader(self, variable: Any, step: Any) -> Read:
        where = self._where
        return lambda *at: variable[(*at[:where], step, *at[where:])]

    def _start_reader(self, name: str) -> Read:
        made = self.model.define(f"{name}_start", self._axes[name], self._starts[name])
        return (lambda *at: made[at]) if self._axes[name] else (lambda *at: made)

    def at(self, name: str, step: int) -> Read:
        """A state at one step."""
        return self._reader(self._states[name], step) if self.looped else self._unrolled[name][step]

    def total(self, term: Callable[[Any, dict[str, Read]], sp.Expr]) -> sp.Expr:
        """``term(step, states)`` summed over the steps."""
        if self.looped:
            return cp.sum(term(self.t, {n: self._reader(s, self.t) for n, s in self._states.items()}), self.t)
        return sum(term(s, {n: reads[s] for n, reads in self._unrolled.items()}) for s in range(self.steps))


@dataclass(frozen=True)
class Recurrent:
    """``build(steps, looped)``; ``wrt``: the leaves, several sets of them."""

    name: str
    build: Callable[[int, bool], cp.Model]
    wrt: tuple[tuple[str, ...], ...]
    scale: float = 1.0

    def graph(self, steps: int, looped: bool) -> Graph:
        return _graph(self, steps, looped)

    def leaves(self, steps: int, looped: bool, names: tuple[str, ...]) -> list[Input]:
        return [self.graph(steps, looped).variable(name) for name in names]

    def arrays(self, steps: int, rows: int = 2) -> Arrays:
        rng = np.random.default_rng([steps, *self.name.encode()])
        found: Arrays = {}
        for v in self.graph(steps, True).variables:
            if v.values is not None:
                found[v.name] = v.values
                continue
            shape = [e if isinstance(e, int) else rows for e in v.shape]
            found[v.name] = (
                rng.uniform(v.low, v.high, shape)
                if v.low is not None and v.high is not None
                else self.scale * rng.normal(size=shape)
            )
        return found


@cache
def _graph(case: Recurrent, steps: int, looped: bool) -> Graph:
    return case.build(steps, looped).graph()


CASES: dict[str, Recurrent] = {}


def recurrent(*wrt: str, scale: float = 1.0) -> Callable[[Callable[[int, bool], cp.Model]], Recurrent]:
    def register(build: Callable[[int, bool], cp.Model]) -> Recurrent:
        CASES[build.__name__] = Recurrent(build.__name__, build, tuple(tuple(w.split()) for w in wrt), scale)
        return CASES[build.__name__]

    return register


def _sigmoid(z: sp.Expr) -> sp.Expr:
    return 1 / (1 + sp.exp(-z))


@recurrent("W b", "x h0")
def elman(steps: int, looped: bool) -> cp.Model:
    """A plain recurrent network, read at its last step."""
    m = cp.Model("elman")
    n, k, j, i = m.axes("n k j i", n=cp.ROWS, k=2, j=2, i=2)
    roll = Roll(m, steps, looped)
    x, y, h0 = m.input("x", n, roll.t, i), m.input("y", n, k), m.input("h0", n, k)
    w, u, b = m.param("W", k, j), m.param("U", k, i), m.param("b", k)
    roll.state("h", (n, k), h0[n, k], place=1)
    roll.run(
        lambda t, previous, define: define(
            "h",
            sp.tanh(cp.sum(w[k, j] * previous["h"](n, j), j) + cp.sum(u[k, i] * x[n, t, i], i) + b[k]),
        )
    )
    m.objective(cp.sum((roll.at("h", steps - 1)(n, k) - y[n, k]) ** 2, k))
    return m


@recurrent("W V")
def lstm(steps: int, looped: bool) -> cp.Model:
    """Two states that are defined together."""
    m = cp.Model("lstm")
    n, k, j, i = m.axes("n k j i", n=cp.ROWS, k=2, j=2, i=1)
    g = m.axis("g", 4)
    roll = Roll(m, steps, looped)
    x, y = m.input("x", n, roll.t, i), m.input("y", n)
    w, u, b, v = m.param("W", g, k, j), m.param("U", g, k, i), m.param("b", g, k), m.param("V", k)
    roll.state("c", (n, k), place=1)
    roll.state("h", (n, k), place=1)

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        gates = [
            cp.sum(w[e, k, j] * previous["h"](n, j), j) + cp.sum(u[e, k, i] * x[n, t, i], i) + b[e, k]
            for e in range(4)
        ]
        kept = _sigmoid(gates[0]) * previous["c"](n, k) + _sigmoid(gates[1]) * sp.tanh(gates[2])
        c = define("c", kept)
        define("h", _sigmoid(gates[3]) * sp.tanh(c(n, k)))

    roll.run(body)
    m.objective((cp.sum(v[k] * roll.at("h", steps - 1)(n, k), k) - y[n]) ** 2)
    return m


@recurrent("W a")
def gru(steps: int, looped: bool) -> cp.Model:
    """A gate on the way back, a squared error at every step."""
    m = cp.Model("gru")
    n, k, j = m.axes("n k j", n=cp.ROWS, k=2, j=2)
    roll = Roll(m, steps, looped)
    x, y = m.input("x", n, roll.t), m.input("y", n, roll.t)
    w, r, a = m.param("W", k, j), m.param("R", k, j), m.param("a", k)
    roll.state("h", (n, k), place=1)

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        z = _sigmoid(cp.sum(r[k, j] * previous["h"](n, j), j) + a[k] * x[n, t])
        new = sp.tanh(cp.sum(w[k, j] * previous["h"](n, j), j) * z + x[n, t])
        define("h", (1 - z) * previous["h"](n, k) + z * new)

    roll.run(body)
    m.objective(roll.total(lambda t, s: (cp.sum(a[k] * s["h"](n, k), k) - y[n, t]) ** 2))
    return m


@recurrent("q r", "y")
def local_level(steps: int, looped: bool) -> cp.Model:
    """The likelihood of a random walk seen with noise: a scalar Kalman filter."""
    m = cp.Model("local_level")
    n = m.axis("n", cp.ROWS)
    roll = Roll(m, steps, looped)
    y = m.input("y", n, roll.t)
    q, r = m.param("q", low=0.5, high=1.5), m.param("r", low=0.5, high=1.5)
    roll.state("s", (n,), 1)  # variance and mean, after the observation
    roll.state("a", (n,))

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        ahead = previous["s"](n) + q
        define("s", ahead * r / (ahead + r))
        define("a", previous["a"](n) + ahead / (ahead + r) * (y[n, t] - previous["a"](n)))

    if looped:
        # what the likelihood needs of the step before is read after the recurrence
        roll.run(body)
        s, a, t = roll._states["s"].previous, roll._states["a"].previous, roll.t
        f = s[n, t] + q + r
        m.objective(cp.sum(sp.log(f) + (y[n, t] - a[n, t]) ** 2 / f, t) / 2)
        return m
    roll.run(body)
    total = sp.Integer(0)
    for t in range(steps):
        s_before = roll._unrolled["s"][t - 1](n) if t else sp.Integer(1)
        a_before = roll._unrolled["a"][t - 1](n) if t else sp.Integer(0)
        total += sp.log(s_before + q + r) + (y[n, t] - a_before) ** 2 / (s_before + q + r)
    m.objective(total / 2)
    return m


@recurrent("w a b")
def garch(steps: int, looped: bool) -> cp.Model:
    """GARCH(1, 1) by its three parameters, which are numbers; no rows at all."""
    m = cp.Model("garch")
    roll = Roll(m, steps, looped)
    t = roll.t
    e = m.param("e", t)
    w, a, b = (m.param(name, low=0.1, high=0.4) for name in "wab")
    s = m.axis("one", 1)
    # the variance at a step needs the residual of the step before, which is a state as well
    roll.state("v", (s,), w / (1 - a - b), place=1)
    roll.state("z", (s,), w / (1 - a - b), place=1)

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        define("v", w + a * previous["z"](s) + b * previous["v"](s))
        define("z", e[t] ** 2)

    roll.run(body)
    m.objective(cp.sum(roll.total(lambda t, x: sp.log(x["v"](s)) + e[t] ** 2 / x["v"](s)), s) / 2)
    return m


@recurrent("p", "x0")
def rk4(steps: int, looped: bool) -> cp.Model:
    """A pendulum with friction by Runge and Kutta, by parameters and by its initial state."""
    m = cp.Model("rk4")
    n, d = m.axes("n d", n=cp.ROWS, d=2)
    roll = Roll(m, steps, looped)
    x0, y, p = m.input("x0", n, d), m.input("y", n, roll.t), m.param("p", d)
    roll.state("q", (n,), x0[n, 0])
    roll.state("v", (n,), x0[n, 1])
    step = sp.Rational(1, 10)

    def slope(q: sp.Expr, v: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        return v, -p[0] * sp.sin(q) - p[1] * v

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        q, v = previous["q"](n), previous["v"](n)
        k1 = slope(q, v)
        k2 = slope(q + step / 2 * k1[0], v + step / 2 * k1[1])
        k3 = slope(q + step / 2 * k2[0], v + step / 2 * k2[1])
        k4 = slope(q + step * k3[0], v + step * k3[1])
        define("q", q + step / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0]))
        define("v", v + step / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1]))

    roll.run(body)
    m.objective(roll.total(lambda t, s: (s["q"](n) - y[n, t]) ** 2))
    return m


@recurrent("A B", "x")
def backwards(steps: int, looped: bool) -> cp.Model:
    """From the last step to the first, read at all steps, with a log-sum-exp inside."""
    m = cp.Model("backwards")
    n, k, j = m.axes("n k j", n=cp.ROWS, k=2, j=2)
    roll = Roll(m, steps, looped, reverse=True)
    x, a, b = m.input("x", n, roll.t, k), m.param("A", k, j), m.param("B", k)
    roll.state("beta", (n, k), b[k], place=1)

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        define("beta", cp.logsumexp(a[k, j] + previous["beta"](n, j) + sp.sin(x[n, t, j]), j))

    roll.run(body)
    m.objective(roll.total(lambda t, s: cp.sum(s["beta"](n, k) ** 2 * x[n, t, k], k)))
    return m


@recurrent("W", "x")
def layers(steps: int, looped: bool) -> cp.Model:
    """The axis is depth: equal layers with weights of their own and a residual."""
    m = cp.Model("layers")
    n, k, j = m.axes("n k j", n=cp.ROWS, k=2, j=2)
    roll = Roll(m, steps, looped)
    x, w = m.input("x", n, k), m.param("W", roll.t, k, j)
    roll.state("h", (n, k), x[n, k])
    roll.run(
        lambda t, previous, define: define(
            "h", previous["h"](n, k) + sp.tanh(cp.sum(w[t, k, j] * previous["h"](n, j), j))
        )
    )
    m.objective(cp.sum(roll.at("h", steps - 1)(n, k) ** 4, k))
    return m


@recurrent("W b", "x")
def both_ways(steps: int, looped: bool) -> cp.Model:
    """A recurrence from the first step on, and one from the last that reads its states."""
    m = cp.Model("both_ways")
    n, k, j = m.axes("n k j", n=cp.ROWS, k=2, j=2)
    there = Roll(m, steps, looped)
    back = Roll(m, steps, looped, reverse=True, axis=there.t)
    x, w, b = m.input("x", n, there.t), m.param("W", k, j), m.param("b", k)
    there.state("h", (n, k), place=1)
    there.run(
        lambda t, previous, define: define(
            "h", sp.tanh(cp.sum(w[k, j] * previous["h"](n, j), j) + b[k] * x[n, t])
        )
    )
    back.state("g", (n, k), b[k], place=1)
    back.run(
        lambda t, previous, define: define(
            "g", sp.sin(cp.sum(w[j, k] * previous["g"](n, j), j)) * there.at("h", t)(n, k) + x[n, t]
        )
    )
    m.objective(cp.sum(back.at("g", 0)(n, k) ** 2 * b[k], k))
    return m


@recurrent("p", "p s")
def shared(steps: int, looped: bool) -> cp.Model:
    """A roll-out that no row changes, seen by rows at neighbouring steps, averaged over them."""
    m = cp.Model("shared")
    n, k, j = m.axes("n k j", n=cp.ROWS, k=2, j=2)
    roll = Roll(m, steps, looped)
    x, p, s = m.input("x", n, k), m.param("p", k, j), m.param("s", k)
    roll.state("h", (k,), s[k], place=0)
    roll.run(
        lambda t, previous, define: define(
            "h", sp.sin(cp.sum(p[k, j] * previous["h"](j), j)) + previous["h"](k) ** 2 / 4
        )
    )
    last, first = roll.at("h", steps - 1), roll.at("h", 0)
    m.objective(cp.sum((last(k) * x[n, k] - first(k) * s[k]) ** 2, k), reduction="mean")
    return m


@recurrent("A u")
def attention(steps: int, looped: bool) -> cp.Model:
    """A softmax inside the loop, over what the state of the step before is compared with."""
    m = cp.Model("attention")
    n, k, j, c = m.axes("n k j c", n=cp.ROWS, k=2, j=2, c=3)
    roll = Roll(m, steps, looped)
    x, a, u = m.input("x", n, c, k), m.param("A", k, j), m.param("u", k)
    y = m.input("y", n)
    roll.state("h", (n, k), u[k], place=1)

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        shares = cp.softmax(cp.sum(x[n, c, j] * previous["h"](n, j), j), c)
        mixed = cp.sum(shares * x[n, c, k], c)
        define("h", mixed + cp.sum(a[k, j] * sp.tanh(previous["h"](n, j)), j))

    roll.run(body)
    o = m.define("o", (n,), cp.sum(u[k] * roll.at("h", steps - 1)(n, k), k))
    m.objective((o[n] - y[n]) ** 2 / 2, convex_in="o")
    return m


@recurrent("p", "x h0")
def seasonal(steps: int, looped: bool) -> cp.Model:
    """Seasons by the remainder of the step, neighbours in a ring, the step as a number."""
    m = cp.Model("seasonal")
    n, k, i = m.axes("n k i", n=cp.ROWS, k=3, i=2)
    roll = Roll(m, steps, looped)
    x, p, h0 = m.input("x", n, roll.t), m.param("p", i), m.input("h0", n, k)
    roll.state("h", (n, k), h0[n, k], place=1)

    def body(t: Any, previous: dict[str, Read], define: Define) -> None:
        ring = previous["h"](n, (k + 1) % 3) - previous["h"](n, k)
        number = cp.position(t) if looped else t
        define("h", previous["h"](n, k) + p[t % 2] * sp.sin(ring) + x[n, t] / (1 + number))

    roll.run(body)
    m.objective(cp.sum(roll.at("h", steps - 1)(n, k) ** 2, k))
    return m
