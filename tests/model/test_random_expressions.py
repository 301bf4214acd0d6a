"""Random definitions against an evaluation of the written expression, one number at a time."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.model.expressions import Axis, Read, Reduction
from tests.short import cases

ROWS = 2
EXTENTS = {"n": ROWS, "i": 3, "j": 2, "k": 3}


def number(expr: Any, at: dict[str, int], arrays: dict[str, np.ndarray]) -> float:
    """The value of an expression at the given axes, read off its tree."""
    if isinstance(expr, Axis):
        return at[expr.name]
    if isinstance(expr, Read):
        place = [int(number(s, at, arrays)) for s in expr.index]
        array = arrays[expr.variable]
        inside = all(0 <= p < e for p, e in zip(place, array.shape, strict=True))
        assert inside or expr.padded
        return float(array[tuple(place)]) if inside else 0.0
    if isinstance(expr, Reduction):
        letters = [a.name for a in expr.axes]
        points = product(*(range(EXTENTS[x]) for x in letters))
        values = [number(expr.body, {**at, **dict(zip(letters, p, strict=True))}, arrays) for p in points]
        if expr.kind == "softmax":
            return math.exp(number(expr.body, at, arrays)) / sum(map(math.exp, values))
        if expr.kind == "logsumexp":
            return math.log(sum(map(math.exp, values)))
        return sum(values) if expr.kind == "sum" else math.prod(values)
    if not expr.args:
        return float(expr)
    return float(expr.func(*(sp.Float(number(a, at, arrays)) for a in expr.args)))


class Writer:
    """Draws definitions of every kind that may stand beside each other."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.m = m = cp.Model("random")
        self.n = m.axis("n", cp.ROWS)
        self.letters = [m.axis(x, e) for x, e in EXTENTS.items() if x != "n"]
        i, j, k = self.letters
        self.variables = [
            m.input("x", self.n, i),
            m.input("t", self.n),
            m.param("A", i, j),
            m.param("B", k, i),
        ]
        self.variables += [m.param("c", j), m.param("s")]
        self.shapes: dict[str, tuple[Any, ...]] = {
            "x": (self.n, i), "t": (self.n,), "A": (i, j), "B": (k, i), "c": (j,), "s": ()
        }  # fmt: skip

    def read(self, free: list[Any]) -> Any:
        """A variable at axes out of ``free``, shifted where it is padded."""
        variable = self.variables[self.rng.integers(len(self.variables))]
        if isinstance(variable, Read):
            return variable
        subscripts, shifted = [], False
        for axis in variable.axes:
            usable = [a for a in free if a.extent == axis.extent]
            if axis.is_rows:
                subscripts.append(self.n)
            elif usable and self.rng.random() < 0.9:
                letter = usable[self.rng.integers(len(usable))]
                shift = int(self.rng.integers(-1, 2)) if self.rng.random() < 0.25 else 0
                shifted |= shift != 0
                subscripts.append(letter + shift)
            else:
                subscripts.append(int(self.rng.integers(axis.extent)))
        return (variable.padded if shifted else variable)[tuple(subscripts)]

    def expression(self, free: list[Any], depth: int) -> Any:
        if depth == 0:
            return (
                self.read(free) if self.rng.random() < 0.9 else sp.Rational(int(self.rng.integers(1, 5)), 2)
            )
        kind = self.rng.integers(6)
        if kind <= 1:
            return sp.Add(*(self.expression(free, depth - 1) for _ in range(2)))
        if kind == 2:
            return sp.Mul(*(self.expression(free, depth - 1) for _ in range(2)))
        if kind == 3:
            return [sp.sin, sp.tanh][self.rng.integers(2)](self.expression(free, depth - 1))
        bound = [a for a in self.letters if self.rng.random() < 0.5 and a not in free]
        body = self.expression([*free, *bound], depth - 1)
        used = [a for a in bound if a in cp.model.expressions.free_axes(sp.sympify(body))]
        if not used:
            return body
        if kind == 4 or len(used) > 1:
            return cp.sum(body, *used)
        return [cp.prod, cp.logsumexp, cp.sum][self.rng.integers(3)](body, *used)


# of these, some take logsumexp of slices
@pytest.mark.parametrize("seed", [123, 126, 285, 381, *range(12)])
def test_a_random_hessian_times_a_vector_is_the_product(seed: int) -> None:
    writer = Writer(seed)
    inner = writer.letters[int(writer.rng.integers(3))]
    z = writer.m.define("z", (writer.n, inner), writer.expression([writer.n, inner], 3))
    writer.variables.append(z)
    outer = sp.sympify(writer.expression([writer.n], 3))
    writer.m.objective(sp.tanh(outer + cp.sum(z[writer.n, inner] * writer.read([inner]), inner)))
    sizes = [[EXTENTS[a.name] for a in axes] for axes in writer.shapes.values()]
    arrays = {x: writer.rng.normal(size=s) for x, s in zip(writer.shapes, sizes, strict=True)}
    est = cp.compile(writer.m, wrt=["A", "B", "c", "s"], backend="interpreter", programs=())
    directions = {v.name: writer.rng.normal(size=arrays[v.name].shape) for v in est.wrt}
    product = np.concatenate([np.ravel(p) for p in est.hvp(directions, **arrays).values()])
    vector = np.concatenate([np.ravel(d) for d in directions.values()])
    found = est.hessian(**arrays).matrix() @ vector
    np.testing.assert_allclose(found, product, rtol=1e-9, atol=1e-9 * np.abs(product).max() + 1e-14)


@pytest.mark.parametrize("seed", cases(range(60), range(20)))
def test_a_random_objective_means_what_it_says(seed: int) -> None:
    writer = Writer(seed)
    inner = writer.letters[int(writer.rng.integers(3))]
    first = writer.expression([writer.n, inner], 3)
    z = writer.m.define("z", (writer.n, inner), first)
    writer.variables.append(z)
    objective = sp.sympify(writer.expression([writer.n], 3)) + cp.sum(
        z[writer.n, inner] * writer.read([inner]), inner
    )
    writer.m.objective(objective)
    sizes = [[EXTENTS[a.name] for a in axes] for axes in writer.shapes.values()]
    arrays = {x: writer.rng.normal(size=s) for x, s in zip(writer.shapes, sizes, strict=True)}
    est = cp.compile(writer.m, backend="interpreter", programs=())
    defined = np.empty((ROWS, inner.extent))
    for row, column in np.ndindex(*defined.shape):
        defined[row, column] = number(sp.sympify(first), {"n": row, inner.name: column}, arrays)
    everything = {**arrays, "z": defined}
    expected = [number(objective, {"n": row}, everything) for row in range(ROWS)]
    found = est.rows(**arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
