"""Models and requests that are wrong on purpose: each must raise a CpgenError."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

import cpgen as cp
from cpgen.errors import CpgenError
from tests.random.check import Outcome


class _Start:
    """A legal model to spoil, of random extents."""

    def __init__(self, rng: random.Random) -> None:
        self.rows, self.size = rng.randint(2, 4), rng.randint(2, 5)
        self.m = cp.Model("spoilt")
        self.n, self.i, self.j = self.m.axes("n i j", n=cp.ROWS, i=self.size, j=self.size + 1)
        self.x, self.w = self.m.input("x", self.n, self.i), self.m.param("w", self.i)
        self.body = sp.sin(self.w[self.i] * self.x[self.n, self.i])

    def run(self, **changed: Any) -> None:
        self.m.objective(cp.sum(self.body, self.i))
        arrays = {"x": np.ones((self.rows, self.size)), "w": np.ones(self.size), **changed}
        cp.compile(self.m, backend="interpreter", programs=()).gradient(**arrays)


def _spoil(array: np.ndarray, value: float) -> np.ndarray:
    array.flat[-1] = value
    return array


def _undeclared(s: _Start) -> None:
    s.m.objective(cp.sum(s.body * sp.Symbol("mystery"), s.i))
    cp.compile(s.m, backend="interpreter", programs=("value",))


def _unsupported_function(s: _Start) -> None:
    s.m.objective(cp.sum(sp.zeta(s.body), s.i))
    cp.compile(s.m, backend="interpreter", programs=("hessian",))


def _undefined_function(s: _Start) -> None:
    s.m.objective(cp.sum(sp.Function("mystery")(s.body), s.i))
    cp.compile(s.m, backend="interpreter", programs=("hessian",))


ILLEGAL: dict[str, Callable[[_Start], object]] = {
    "undeclared symbol": _undeclared,
    "unsupported function": _unsupported_function,
    "undefined function": _undefined_function,
    "slice out of range": lambda s: s.x[s.n, s.i + 1],
    "longer axis": lambda s: s.x[s.n, s.j],
    "shifted rows": lambda s: s.x[s.n + 1, s.i],
    "fractional subscript": lambda s: s.w[s.i / 2],
    "subscript divided by an axis": lambda s: s.w[s.i // (s.j + 1)],
    "remainder by an axis": lambda s: s.w[s.i % (s.j + 2)],
    "quotient too large": lambda s: s.w[(s.i + 40) // 2],
    "product subscript": lambda s: s.w[s.i * s.j],
    "string subscript": lambda s: s.w["i"],
    "too many subscripts": lambda s: s.w[s.i, s.i],
    "axis twice": lambda s: s.m.define("z", (s.i, s.i), s.w[s.i]),
    "axis summed and kept": lambda s: s.m.define("z", (s.i,), cp.sum(s.w[s.i], s.i)),
    "sum over nothing": lambda s: cp.sum(s.w[s.i], s.j),
    "sum over rows": lambda s: cp.sum(s.x[s.n, s.i], s.n),
    "sum over a number": lambda s: cp.sum(s.w[s.i], 3),
    "free axis": lambda s: s.m.define("z", (), s.w[s.i]),
    "no scalar": lambda s: s.m.objective(s.body),
    "reads itself": lambda s: s.m.define("w2", (s.i,), s.m.define("w2", (s.i,), s.w[s.i])[s.i]),
    "long name": lambda s: s.m.param("w" * 64, s.i),
    "bad name": lambda s: s.m.param("2w", s.i),
    "name taken": lambda s: s.m.param("w", s.i),
    "name no string": lambda s: s.m.param(3, s.i),
    "parameter with rows": lambda s: s.m.param("v", s.n, s.i),
    "empty axis": lambda s: s.m.axis("q", 0),
    "fractional axis": lambda s: s.m.axis("q", 1.5),
    "second rows": lambda s: s.m.axis("q", cp.ROWS),
    "text": lambda s: s.m.define("z", (), "w +"),
    "a list": lambda s: s.m.define("z", (), [1, 2]),
    "a matrix": lambda s: s.m.define("z", (), sp.eye(2)),
    "a relation": lambda s: s.m.define("z", (), s.w[0] > 0),
    "none": lambda s: s.m.define("z", (), None),
    "infinity": lambda s: (s.m.objective(sp.oo * s.w[0]), cp.compile(s.m, backend="interpreter").value(w=[1])),
    "complex": lambda s: (s.m.objective(sp.I * s.w[0]), cp.compile(s.m, backend="interpreter", programs=("value",))),
    "no objective": lambda s: cp.compile(s.m),
    "bad reduction": lambda s: s.m.objective(0, reduction="max"),
    "without subscripts": lambda s: s.w + 1,
    "unknown wrt": lambda s: (s.m.objective(s.w[0]), cp.compile(s.m, wrt="v")),
    "nan": lambda s: s.run(w=_spoil(np.ones(s.size), np.nan)),
    "inf": lambda s: s.run(x=_spoil(np.ones((s.rows, s.size)), np.inf)),
    "wrong size": lambda s: s.run(w=np.ones(s.size + 1)),
    "wrong rank": lambda s: s.run(w=np.ones((1, s.size))),
    "no rows": lambda s: s.run(x=np.ones(s.size)),
    "complex data": lambda s: s.run(w=np.ones(s.size) * 1j),
    "text data": lambda s: s.run(w="hello"),
    "ragged data": lambda s: s.run(w=[[1.0], [1.0, 2.0]]),
    "none as data": lambda s: s.run(w=None),
    "unknown array": lambda s: s.run(v=np.ones(2)),
}  # fmt: skip


def attempt(name: str, rng: random.Random) -> Outcome:
    """Make the named mistake: "refused" is right, "wrong" means that it was accepted."""
    try:
        ILLEGAL[name](_Start(rng))
    except CpgenError as error:
        return Outcome("refused", f"{type(error).__name__} (illegal on purpose): {error}")
    except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
        return Outcome("crashed", f"{type(error).__name__}: {name}: {error}")
    return Outcome("wrong", f"accepted: {name}")
