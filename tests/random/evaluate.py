"""Values and derivatives of the generator's own trees, in extended precision; nothing here comes from cpgen.

A value is an array over (batch, then one position for every axis of the model, of size 1 where it does not vary).
First derivatives are complex steps, second ones central differences of them, extrapolated from two step sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Tree = tuple[Any, ...]
Array = np.ndarray
REAL, COMPLEX = np.longdouble, np.clongdouble
SHIFT = 16
# B_2k of Stirling's series
BERNOULLI = [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798)]
PI = REAL(2) * np.arccos(REAL(0))


def _erf(z: Array) -> Array:
    term, total = z, z
    for k in range(1, 120):
        term = -term * z * z / k
        total = total + term / (2 * k + 1)
    return 2 * total / np.sqrt(PI)


def _loggamma(z: Array) -> Array:
    w = z + SHIFT
    total = (w - REAL(0.5)) * np.log(w) - w + np.log(2 * PI) / 2
    for k, (a, b) in enumerate(BERNOULLI, 1):
        total = total + REAL(a) / REAL(b) / (2 * k * (2 * k - 1)) / w ** (2 * k - 1)
    for k in range(SHIFT):
        total = total - np.log(z + k)
    return total


def _digamma(z: Array) -> Array:
    w = z + SHIFT
    total = np.log(w) - 1 / (2 * w)
    for k, (a, b) in enumerate(BERNOULLI, 1):
        total = total - REAL(a) / REAL(b) / (2 * k) / w ** (2 * k)
    for k in range(SHIFT):
        total = total - 1 / (z + k)
    return total


def _trigamma(z: Array) -> Array:
    w = z + SHIFT
    total = 1 / w + 1 / (2 * w * w)
    for k, (a, b) in enumerate(BERNOULLI, 1):
        total = total + REAL(a) / REAL(b) / w ** (2 * k + 1)
    for k in range(SHIFT):
        total = total + 1 / (z + k) ** 2
    return total


def _sigmoid(z: Array) -> Array:
    return (1 + np.tanh(z / 2)) / 2


def _softplus(z: Array) -> Array:
    flipped = np.where(z.real > 0, -z, z)
    return np.where(z.real > 0, z, 0) + np.log(1 + np.exp(flipped))


def _logcosh(z: Array) -> Array:
    side = np.where(z.real > 0, z, -z)
    return side + np.log((1 + np.exp(-2 * side)) / 2)


def _normcdf(z: Array) -> Array:
    return (1 + _erf(z / np.sqrt(REAL(2)))) / 2


UNARY: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "tan": lambda z: np.sin(z) / np.cos(z),
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "sech": lambda z: 1 / np.cosh(z),
    "expm1": lambda z: np.exp(z) - 1,
    "log1p": lambda z: np.log(1 + z),
    "log": np.log,
    "sqrt": np.sqrt,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": lambda z: np.log(z + np.sqrt(z * z + 1)),
    "acosh": lambda z: np.log(z + np.sqrt(z * z - 1)),
    "atanh": lambda z: np.log((1 + z) / (1 - z)) / 2,
    "erf": _erf,
    "erfc": lambda z: 1 - _erf(z),
    "normcdf": _normcdf,
    "gelu": lambda z: z * _normcdf(z),
    "silu": lambda z: z * _sigmoid(z),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "logcosh": _logcosh,
    "gamma": lambda z: np.exp(_loggamma(z)),
    "loggamma": _loggamma,
    "digamma": _digamma,
    "trigamma": _trigamma,
    "abs": lambda z: np.where(z.real < 0, -z, z),
    "relu": lambda z: np.where(z.real > 0, z, 0),
    "user": lambda z: z / (1 + z * z),
    "floor": lambda z: np.floor(z.real) + 0j,
    "ceil": lambda z: np.ceil(z.real) + 0j,
    "rint": lambda z: np.rint(z.real) + 0j,
    "frac": lambda z: z - np.floor(z.real),
    "sign": lambda z: np.sign(z.real) + 0j,
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: np.exp(b * np.log(a)),
    "max": lambda a, b: np.where(a.real > b.real, a, b),
    "min": lambda a, b: np.where(a.real < b.real, a, b),
    "hypot": lambda a, b: np.sqrt(a * a + b * b),
    "mod": lambda a, b: a - b * np.floor(a.real / b.real),
    "atan2": lambda a, b: 2 * np.arctan(a / (np.sqrt(a * a + b * b) + b)),
}


class Evaluator:
    """``axes``: name -> extent, rows among them; ``definitions``: (name, axes, tree) in order."""

    def __init__(
        self,
        axes: Mapping[str, int],
        variables: Mapping[str, tuple[str, ...]],
        definitions: list[tuple[str, tuple[str, ...], Tree]],
        objective: Tree,
        divide: int,
        rows_counted: bool,
        constants: Mapping[str, Array] | None = None,
    ) -> None:
        self.axes, self.variables, self.definitions = dict(axes), dict(variables), definitions
        self.objective, self.divide, self.rows_counted = objective, divide, rows_counted
        self.position = {name: k + 1 for k, name in enumerate(axes)}
        self.constants = {name: np.asarray(v, COMPLEX)[None] for name, v in (constants or {}).items()}
        self.largest = 0.0

    def value(self, arrays: Mapping[str, Array]) -> Array:
        """The objective for each batch entry; arrays have a leading batch axis."""
        env = {**arrays, **self.constants}
        for name, axes, tree in self.definitions:
            full = self._tree(tree, env)
            batch = full.shape[0]
            wanted = [self.axes[a] if a in axes else 1 for a in self.axes]
            kept = np.broadcast_to(full, (batch, *wanted))
            order = [0, *(self.position[a] for a in axes)]
            rest = [p for p in range(kept.ndim) if p not in order]
            env[name] = np.transpose(kept, (*order, *rest)).reshape(batch, *(self.axes[a] for a in axes))
        out = self._tree(self.objective, env)
        assert out.size == out.shape[0] * (self.axes["n"] if out.shape[1] > 1 else 1)
        if self.rows_counted:
            out = np.broadcast_to(out, (out.shape[0], self.axes["n"], *out.shape[2:]))
        result = out.reshape(out.shape[0], -1)
        total = (result if self.rows_counted else result[:, :1]).sum(1) / self.divide
        return np.broadcast_to(total, len(next(iter(arrays.values()))))

    def _tree(self, tree: Tree, env: Mapping[str, Array]) -> Array:
        found = self._node(tree, env)
        with np.errstate(all="ignore"):
            top = float(np.max(np.abs(found.real)))
        self.largest = max(self.largest, top) if np.isfinite(top) else np.inf
        return found

    def _node(self, tree: Tree, env: Mapping[str, Array]) -> Array:
        kind = tree[0]
        if kind == "num":
            return np.full((1,) * (len(self.axes) + 1), REAL(tree[1][0]) / REAL(tree[1][1]), COMPLEX)
        if kind == "read":
            return self._read(tree, env)
        if kind == "position":
            shape = [1] * (len(self.axes) + 1)
            shape[self.position[tree[1]]] = self.axes[tree[1]]
            return np.arange(self.axes[tree[1]]).reshape(shape).astype(COMPLEX)
        if kind == "un":
            return UNARY[tree[1]](self._tree(tree[2], env))
        if kind == "bin":
            return BINARY[tree[1]](self._tree(tree[2], env), self._tree(tree[3], env))
        if kind in ("add", "mul"):
            total = self._tree(tree[1][0], env)
            for part in tree[1][1:]:
                other = self._tree(part, env)
                total = total + other if kind == "add" else total * other
            return total
        if kind == "ipow":
            base = self._tree(tree[1], env)
            result = base
            for _ in range(tree[2] - 1):
                result = result * base
            return result
        if kind == "select":
            test, yes, no = (self._tree(t, env) for t in tree[1:])
            return np.where(test.real > 0, yes, no)
        return self._reduce(tree, env)

    def _reduce(self, tree: Tree, env: Mapping[str, Array]) -> Array:
        _, kind, letters, body = tree
        inside = self._tree(body, env)
        dims = tuple(self.position[a] for a in letters)
        if kind == "sum":
            return inside.sum(axis=dims, keepdims=True)
        if kind == "mean":
            return inside.mean(axis=dims, keepdims=True)
        if kind == "prod":
            return inside.prod(axis=dims, keepdims=True)
        if kind == "norm":
            return np.sqrt((inside * inside).sum(axis=dims, keepdims=True))
        if kind in ("max", "min"):
            for dim in dims:
                where = inside.real.argmax(dim) if kind == "max" else inside.real.argmin(dim)
                inside = np.take_along_axis(inside, np.expand_dims(where, dim), dim)
            return inside
        if kind == "rmsnorm":
            return inside / np.sqrt((inside * inside).mean(axis=dims, keepdims=True) + REAL(1e-5))
        if kind == "layernorm":
            centred = inside - inside.mean(axis=dims, keepdims=True)
            return centred / np.sqrt((centred * centred).mean(axis=dims, keepdims=True) + REAL(1e-5))
        top = inside.real.max(axis=dims, keepdims=True)
        powers = np.exp(inside - top)
        total = powers.sum(axis=dims, keepdims=True)
        return powers / total if kind == "softmax" else np.log(total) + top

    def _read(self, tree: Tree, env: Mapping[str, Array]) -> Array:
        _, name, subscripts, _ = tree
        array = env[name]
        ones = (1,) * len(self.axes)
        if not subscripts:
            return array.reshape(array.shape[0], *ones)
        places, inside = [], np.ones(ones, bool)
        for (coefficients, offset, *steps), extent in zip(subscripts, array.shape[1:], strict=True):
            place = np.full(ones, offset)
            for letter, factor in coefficients:
                shape = list(ones)
                shape[self.position[letter] - 1] = self.axes[letter]
                place = place + factor * np.arange(self.axes[letter]).reshape(shape)
            for sign, by in steps:
                place = place // by if sign == "//" else place % by
            inside = inside & (place >= 0) & (place < extent)
            places.append(np.clip(place, 0, extent - 1))
        return np.where(inside, array[(slice(None), *places)], 0)


def derivatives(
    f: Evaluator, arrays: Mapping[str, Array], spots: list[tuple[str, tuple[int, ...]]], size: float = 2.0**-11
) -> tuple[Array, Array, Array]:
    """(gradient, Hessian, its error before extrapolation) at ``spots``, (leaf, index) pairs, by steps of ``size``."""
    count = len(spots)
    pairs = [(a, b) for a in range(count) for b in range(a, count)]
    step, tiny = REAL(size), REAL(2.0**-80)
    moves = [m * step for m in (-2, -1, 1, 2)]
    plan = [(a, None, REAL(0)) for a in range(count)] + [(a, b, h) for a, b in pairs for h in moves]
    batch = {k: np.repeat(np.asarray(v, COMPLEX)[None], len(plan), axis=0) for k, v in arrays.items()}
    for row, (a, b, h) in enumerate(plan):
        name, index = spots[a]
        batch[name][(row, *index)] += 1j * tiny
        if b is not None:
            name, index = spots[b]
            batch[name][(row, *index)] += h
    slopes = f.value(batch).imag / tiny
    gradient = slopes[:count]
    hessian, error = np.zeros((count, count), REAL), np.zeros((count, count), REAL)
    for (a, b), at in zip(pairs, slopes[count:].reshape(-1, 4), strict=True):
        wide, narrow = (at[3] - at[0]) / (4 * step), (at[2] - at[1]) / (2 * step)
        hessian[a, b] = hessian[b, a] = narrow + (narrow - wide) / 3
        error[a, b] = error[b, a] = abs(narrow - wide)
    return gradient, hessian, error
