"""Small models with their objectives written a second time in SymPy, and the means to compare the two.

``Small.objective`` is written from the mathematics over arrays of symbols; nothing of the package enters it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp
from cpgen.derive.derived import Derived
from cpgen.ir.interpret import run
from cpgen.ir.nodes import ROWS, Graph, Input, Program
from cpgen.ir.noise import elements, noise_count, noise_inputs
from cpgen.ir.verify import verify

Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Small:
    """``objective(symbols by name)`` is the objective of one row; ``wrt`` the leaves in order."""

    name: str
    build: Callable[[], cp.Model]
    wrt: tuple[str, ...]
    objective: Callable[[Mapping[str, Array]], sp.Expr]

    @property
    def graph(self) -> Graph:
        return _graph(self)

    @property
    def leaves(self) -> list[Input]:
        return [self.graph.variable(name) for name in self.wrt]

    @property
    def has_rows(self) -> bool:
        return self.graph.objective.has_rows

    def arrays(self, rows: int = 2, seed: int = 5) -> Arrays:
        """Values of order one for every variable."""
        rng = np.random.default_rng([seed, *self.name.encode()])
        return {
            v.name: rng.normal(size=[e if isinstance(e, int) else rows for e in v.shape])
            for v in self.graph.variables
        }


CASES: dict[str, Small] = {}


def small(
    wrt: str, objective: Callable[[Mapping[str, Array]], sp.Expr]
) -> Callable[[Callable[[], cp.Model]], Small]:
    """Register a builder under its own name."""

    def register(build: Callable[[], cp.Model]) -> Small:
        name = build.__name__
        assert name not in CASES
        CASES[name] = Small(name, build, tuple(wrt.split()), objective)
        return CASES[name]

    return register


@cache
def _graph(case: Small) -> Graph:
    return case.build().graph()


def each(function: Callable[[sp.Expr], sp.Expr], array: Array) -> Array:
    """A SymPy function of every element."""
    return np.vectorize(function, otypes=[object])(array)


# SymPy


@cache
def symbols(case: Small) -> dict[str, Array]:
    """One real symbol for each element of one row of each variable."""
    found = {}
    for v in case.graph.variables:
        array = np.empty(v.element_shape, dtype=object)
        for place in np.ndindex(*v.element_shape):
            array[place] = sp.Symbol("_".join([v.name, *map(str, place)]), real=True)
        found[v.name] = array
    return found


def flat(case: Small, names: tuple[str, ...]) -> list[sp.Symbol]:
    return [s for name in names for s in np.ravel(symbols(case)[name])]


@cache
def _function(case: Small) -> Callable[..., list[float]]:
    objective = case.objective({k: v if v.shape else v[()] for k, v in symbols(case).items()})
    variables = flat(case, case.wrt)
    first = [sp.diff(objective, s) for s in variables]
    second = [sp.diff(f, s) for f in first for s in variables]
    everything = flat(case, tuple(v.name for v in case.graph.variables))
    return sp.lambdify(everything, [objective, *first, *second], "math", cse=True)


def of_row(case: Small, arrays: Arrays, row: int) -> list[float]:
    """The elements of every variable, one row's."""
    return [
        float(x)
        for v in case.graph.variables
        for x in np.ravel(arrays[v.name][row] if v.has_rows else arrays[v.name])
    ]


@dataclass(frozen=True)
class Reference:
    """SymPy's ``value[row]``, ``gradient[row, i]`` and ``hessian[row, i, j]`` over all elements of wrt."""

    case: Small
    value: Array
    gradient: Array
    hessian: Array

    def place(self, name: str) -> slice:
        start = 0
        for leaf in self.case.leaves:
            size = int(np.prod(leaf.element_shape, dtype=np.int64))
            if leaf.name == name:
                return slice(start, start + size)
            start += size
        raise KeyError(name)

    def _shaped(self, part: Array, *names: str) -> Array:
        """Rows summed unless one of the leaves has rows."""
        leaves = [self.case.graph.variable(name) for name in names]
        inner = tuple(e for leaf in leaves for e in leaf.element_shape)
        if any(leaf.has_rows for leaf in leaves):
            return part.reshape(len(part), *inner)
        return part.sum(axis=0).reshape(inner)

    def grad(self, name: str) -> Array:
        return self._shaped(self.gradient[:, self.place(name)], name)

    def diag(self, name: str) -> Array:
        return self._shaped(np.einsum("nii->ni", self.hessian)[:, self.place(name)], name)

    def block(self, a: str, b: str) -> Array:
        return self._shaped(self.hessian[:, self.place(a), self.place(b)], a, b)

    @property
    def trace(self) -> Array:
        each_row = np.einsum("nii->n", self.hessian)
        per_row = all(leaf.has_rows for leaf in self.case.leaves)
        return each_row if per_row else each_row.sum()


def reference(case: Small, arrays: Arrays, rows: int = 2) -> Reference:
    count = len(flat(case, case.wrt))
    found = np.array([_function(case)(*of_row(case, arrays, r)) for r in range(rows)], dtype=float)
    return Reference(
        case, found[:, 0], found[:, 1 : 1 + count], found[:, 1 + count :].reshape(rows, count, count)
    )


# Running programs


def evaluate(
    derived: Derived | Program,
    arrays: Mapping[str, Array],
    noise: Mapping[str, Array] | None = None,
    rows: int = 2,
    columns: int = 1,
    unit: bool = False,
) -> Arrays:
    """Run a program with these noise arrays: K samples, or with ``unit`` the exact answer by unit columns."""
    program = derived if isinstance(derived, Program) else derived.program
    verify(program)
    given: Arrays = {**arrays, **(noise or {})}
    if unit:
        columns = noise_count(program)
        given |= signs(program, np.broadcast_to(np.eye(columns)[:, None], (columns, rows, columns)))
    given["row_scale"] = np.asarray(1.0 / rows)
    given["column_scale"] = np.asarray(1.0 if unit or columns == 0 else 1.0 / columns)
    given["variance_scale"] = np.asarray(0.0 if unit or columns < 2 else 1.0 / (columns * (columns - 1)))
    return run(program, given, rows, columns)


def signs(program: Program, v: Array) -> Arrays:
    """The noise arrays of ``v[column, row, element]``, elements counted as the inputs' offsets do."""
    found = {}
    for node in noise_inputs(program):
        part = v[:, :, node.offset : node.offset + elements(node)]
        if ROWS not in node.shape:
            part = part[:, :1]
        shape = [len(v), *([v.shape[1]] if ROWS in node.shape else []), *node.element_shape]
        found[node.name] = np.ascontiguousarray(part.reshape(shape))
    return found


def every_sign(rows: int, count: int) -> Array:
    """All sign patterns ``v[pattern, row, element]`` of ``rows * count`` independent signs."""
    assert rows * count <= 14, "too many signs to enumerate"
    patterns = np.array(list(product((-1.0, 1.0), repeat=rows * count)))
    return patterns.reshape(len(patterns), rows, count)


def enumerated(
    derived: Derived, arrays: Arrays, rows: int = 2, change: Callable[[Arrays], Arrays] | None = None
) -> Arrays:
    """The expectation of every output but variances: the mean over all sign patterns of all rows."""
    v = every_sign(rows, noise_count(derived.program))
    noise = signs(derived.program, v)
    return evaluate(derived, arrays, change(noise) if change else noise, rows, len(v))


def draws(derived: Derived, arrays: Arrays, rows: int = 1, together: int = 1) -> dict[str, Array]:
    """Every output for each choice of ``together`` sign patterns as the columns of one evaluation."""
    v = every_sign(rows, noise_count(derived.program))
    found = [
        evaluate(derived, arrays, signs(derived.program, v[list(chosen)]), rows, together)
        for chosen in product(range(len(v)), repeat=together)
    ]
    return {name: np.stack([f[name] for f in found]) for name in found[0]}


def close(found: Array, expected: Array, tolerance: float = 1e-11) -> None:
    """Equal shapes; differences at most ``tolerance`` of the largest expected entry (or of one)."""
    assert np.shape(found) == np.shape(expected), (np.shape(found), np.shape(expected))
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


# The models


def _net(v: Mapping[str, Array]) -> sp.Expr:
    z = each(sp.tanh, v["W"] @ v["x"] + v["b"])
    return (v["u"] @ z - v["y"]) ** 2 / 2


@small("W b u", _net)
def net() -> cp.Model:
    """One hidden layer and a squared error, by its weights."""
    m = cp.Model("net")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
    x, y, w, b, u = m.input("x", n, i), m.input("y", n), m.param("W", h, i), m.param("b", h), m.param("u", h)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i) + b[h]))
    o = m.define("o", n, cp.sum(u[h] * z[n, h], h))
    m.objective((o[n] - y[n]) ** 2 / 2, convex_in="o")
    return m


def _energy(v: Mapping[str, Array]) -> sp.Expr:
    return v["v"] @ each(sp.tanh, v["U"] @ each(sp.tanh, v["W"] @ v["x"]))


@small("x", _energy)
def energy() -> cp.Model:
    """Two hidden layers by their inputs."""
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=3, h=2, k=2)
    x, w, u, v = m.input("x", n, i), m.param("W", h, i), m.param("U", k, h), m.param("v", k)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    e = m.define("e", (n, k), sp.tanh(cp.sum(u[k, h] * z[n, h], h)))
    m.objective(cp.sum(v[k] * e[n, k], k))
    return m


def _logsumexp(s: Array) -> sp.Expr:
    return sp.log(sum(each(sp.exp, s)))


def _classifier(v: Mapping[str, Array]) -> sp.Expr:
    s = v["V"] @ each(sp.sin, v["W"] @ v["x"])
    return _logsumexp(s) - v["y"] @ s


@small("W V", _classifier)
def classifier() -> cp.Model:
    m = cp.Model("classifier")
    n, i, h, c = m.axes("n i h c", n=cp.ROWS, i=2, h=2, c=3)
    x, y, w, v = m.input("x", n, i), m.input("y", n, c), m.param("W", h, i), m.param("V", c, h)
    z = m.define("z", (n, h), sp.sin(cp.sum(w[h, i] * x[n, i], i)))
    s = m.define("s", (n, c), cp.sum(v[c, h] * z[n, h], h))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), convex_in="s")
    return m


def _deep(v: Mapping[str, Array]) -> sp.Expr:
    s = v["V"] @ each(sp.sin, v["U"] @ each(sp.sin, v["W"] @ v["x"]))
    return _logsumexp(s) - v["y"] @ s


@small("W U V", _deep)
def deep() -> cp.Model:
    """Two hidden layers by their weights: two mixing layers lie between the loss and the first of them."""
    m = cp.Model("deep")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=2, h=2, k=2, c=2)
    x, y = m.input("x", n, i), m.input("y", n, c)
    w, u, v = m.param("W", h, i), m.param("U", k, h), m.param("V", c, k)
    z = m.define("z", (n, h), sp.sin(cp.sum(w[h, i] * x[n, i], i)))
    e = m.define("e", (n, k), sp.sin(cp.sum(u[k, h] * z[n, h], h)))
    s = m.define("s", (n, c), cp.sum(v[c, k] * e[n, k], k))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), convex_in="s")
    return m


def _chain(v: Mapping[str, Array]) -> sp.Expr:
    x = v["x"]
    return sum(3 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 + x[k] * x[k + 1] for k in range(3))


@small("x", _chain)
def chain() -> cp.Model:
    """No rows; one variable read at two places of one map."""
    m = cp.Model("chain")
    i, k = m.axes("i k", i=4, k=3)
    x = m.param("x", i)
    m.objective(cp.sum(3 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 + x[k] * x[k + 1], k))
    return m


def _gate(v: Mapping[str, Array]) -> sp.Expr:
    e = each(sp.exp, v["W"] @ v["x"])
    y = e / sum(e)
    return y @ v["x"] ** 2 + (y @ v["c"]) ** 2


@small("x", _gate)
def gate() -> cp.Model:
    """A softmax whose weights multiply what they are made from."""
    m = cp.Model("gate")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=2, j=2)
    x, w, c = m.input("x", n, i), m.param("W", i, j), m.param("c", i)
    y = m.define("g", (n, i), cp.softmax(cp.sum(w[i, j] * x[n, j], j), i))
    o = m.define("o", n, cp.sum(y[n, i] * c[i], i))
    m.objective(cp.sum(y[n, i] * x[n, i] ** 2, i) + o[n] ** 2)
    return m


def _convolution(v: Mapping[str, Array]) -> sp.Expr:
    x = [sp.Integer(0), *v["x"], sp.Integer(0)]
    total = sp.Integer(0)
    for q in range(2):
        total += sp.sin(sum(v["k"][t] * x[2 * q + t] for t in range(3))) ** 2
    return total + v["x"][1] * v["x"][3] ** 3


@small("x k", _convolution)
def convolution() -> cp.Model:
    """Stride 2 and padding 1, by input and kernel; constant subscripts besides."""
    m = cp.Model("convolution")
    n, i, q, t = m.axes("n i q t", n=cp.ROWS, i=4, q=2, t=3)
    x, k = m.input("x", n, i), m.param("k", t)
    a = m.define("a", (n, q), sp.sin(cp.sum(k[t] * x.padded[n, 2 * q + t - 1], t)))
    m.objective(cp.sum(a[n, q] ** 2, q) + x[n, 1] * x[n, 3] ** 3)
    return m


def _tied(v: Mapping[str, Array]) -> sp.Expr:
    h = each(sp.tanh, v["W"] @ v["x"])
    return ((v["W"].T @ h - v["x"]) ** 2).sum() / 2


@small("W", _tied)
def tied() -> cp.Model:
    """One matrix encodes and, transposed, decodes: the two paths meet, and the second product has a diagonal."""
    m = cp.Model("tied")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
    x, w = m.input("x", n, i), m.param("W", h, i)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    o = m.define("o", (n, i), cp.sum(w[h, i] * z[n, h], h))
    m.objective(cp.sum((o[n, i] - x[n, i]) ** 2, i) / 2)
    return m


def _twice(v: Mapping[str, Array]) -> sp.Expr:
    h = each(sp.sin, 3 * v["W"] @ each(sp.tanh, v["W"] @ v["x"]))
    return sum(each(sp.exp, h))


@small("W", _twice)
def twice() -> cp.Model:
    """One matrix at two layers, both below the loss: several paths of which the longer ones mix twice."""
    m = cp.Model("twice")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
    x, w = m.input("x", n, i), m.param("W", h, i)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    e = m.define("e", (n, h), sp.sin(3 * cp.sum(w[h, i] * z[n, i], i)))
    m.objective(cp.sum(sp.exp(e[n, h]), h))
    return m


def _mixture(v: Mapping[str, Array]) -> sp.Expr:
    return _logsumexp(np.array([-((v["x"] - v["mu"][k]) ** 2).sum() * sp.exp(v["l"]) for k in range(2)]))


@small("mu l x", _mixture)
def mixture() -> cp.Model:
    """Parameters and an input together; a scalar parameter."""
    m = cp.Model("mixture")
    n, i, k = m.axes("n i k", n=cp.ROWS, i=2, k=2)
    x, mu, l = m.input("x", n, i), m.param("mu", k, i), m.param("l")
    s = m.define("s", (n, k), -cp.sum((x[n, i] - mu[k, i]) ** 2, i) * sp.exp(l))
    m.objective(cp.logsumexp(s[n, k], k))
    return m


def _quadratic(v: Mapping[str, Array]) -> sp.Expr:
    return v["x"] @ v["B"] @ v["x"] / 2


@small("x", _quadratic)
def quadratic() -> cp.Model:
    m = cp.Model("quadratic")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=3, j=3)
    x, b = m.input("x", n, i), m.param("B", i, j)
    m.objective(cp.sum(b[i, j] * x[n, i] * x[n, j], i, j) / 2)
    return m


ALL = tuple(CASES.values())
