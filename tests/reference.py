"""Derivatives of the catalogue's NumPy objectives by three routes, and their layout.

:func:`derivatives` differences them in extended precision, :func:`sympy_derivatives` runs them on SymPy's symbols and
takes ``sympy.hessian``, :func:`jax_derivatives` runs them on JAX's arrays and takes ``jax.hessian``.  Nothing of the
package is used.  Matrices are laid out as ``[row, i, j]`` over all elements of ``wrt`` in order; what belongs to
parameters only is summed over rows into row 0.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from numpy.typing import NDArray

from tests import catalogue
from tests.catalogue import Arrays, Entry

Array = NDArray[np.floating]

EXTENDED = bool(np.finfo(np.longdouble).eps < 1e-18)  # x87 or quadruple; elsewhere long double is double
# sixth-order central stencils at -3 .. 3 (Fornberg, Math. Comp. 51 (1988) 699, table 1)
FIRST = np.array([-1, 9, -45, 0, 45, -9, 1], dtype=np.longdouble) / 60
SECOND = np.array([2, -27, 270, -490, 270, -27, 2], dtype=np.longdouble) / 180


def tolerance(entry: Entry) -> float:
    """What the differences of :func:`derivatives` are good for, relative to the largest entry."""
    if EXTENDED:
        return 1e-10
    return 1e-5 if entry.kinked else 1e-8


def derivatives(entry: Entry, arrays: Arrays) -> tuple[Array, Array]:
    """Gradient ``[row, i]`` and Hessian ``[row, i, j]`` of the NumPy objective."""
    # rounding is 1e-19 / step**2, truncation step**6 / 560 times the eighth derivative
    step = np.longdouble(2e-4 if entry.kinked else 1.5e-3)
    point = {k: v.astype(np.longdouble) for k, v in arrays.items()}
    rows = len(entry.value(point))
    places = [(name, k) for name in entry.wrt for k in range(_elements(entry, arrays, name))]

    def samples(*along: int) -> Array:
        values = []
        for t in range(-3, 4):
            moved = dict(point)
            for name, k in (places[i] for i in along):
                array = moved[name].copy()
                if has_rows(entry, name):
                    array.reshape(rows, -1)[:, k] += t * step
                else:
                    array.reshape(-1)[k] += t * step
                moved[name] = array
            values.append(entry.value(moved))
        return np.stack(values)

    size = len(places)
    gradient, hessian = np.zeros((rows, size)), np.zeros((rows, size, size))
    pure = np.zeros((rows, size), dtype=np.longdouble)
    for i in range(size):
        along = samples(i)
        gradient[:, i] = FIRST @ along / step
        pure[:, i] = SECOND @ along / step**2
        hessian[:, i, i] = pure[:, i]
    for i in range(size):
        for j in range(i):
            both = SECOND @ samples(i, j) / step**2
            hessian[:, i, j] = hessian[:, j, i] = (both - pure[:, i] - pure[:, j]) / 2
    return folded(entry, arrays, gradient, hessian)


class _SymbolicNumpy:
    """NumPy for object arrays of SymPy expressions; functions NumPy cannot apply to those are SymPy's, entry by entry."""

    NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh"}
    NAMES |= {"arccosh": "acosh", "arctanh": "atanh"}
    NAMES |= {f: f for f in "exp log sqrt sin cos tan sinh cosh tanh".split()}

    def __getattr__(self, name: str) -> Any:
        if name in self.NAMES:
            return np.vectorize(getattr(sp, self.NAMES[name]), otypes=[object])
        return getattr(np, name)

    # piecewise, so that derivatives have no delta functions
    maximum = staticmethod(np.vectorize(lambda a, b: sp.Piecewise((a, a >= b), (b, True)), otypes=[object]))
    minimum = staticmethod(np.vectorize(lambda a, b: sp.Piecewise((a, a <= b), (b, True)), otypes=[object]))
    abs = staticmethod(np.vectorize(lambda a: sp.Piecewise((a, a >= 0), (-a, True)), otypes=[object]))


def _retargeted(
    objective: Callable[[Arrays], Any], numpy: Any, pieces: Mapping[str, Any]
) -> Callable[..., Any]:
    """``objective`` with another module in place of NumPy, and ``pieces`` in place of the catalogue's own functions."""
    names: dict[str, Any] = {}
    for name, value in vars(catalogue).items():
        plain = isinstance(value, types.FunctionType) and value.__module__ == catalogue.__name__
        names[name] = types.FunctionType(value.__code__, names, name, value.__defaults__) if plain else value
    names |= {"np": numpy, **pieces}
    return types.FunctionType(objective.__code__, names, "objective", objective.__defaults__)


@functools.cache
def _symbolic(model: str) -> tuple[Callable[..., Any], list[tuple[str, int]]]:
    """A function from one row's numbers to gradient and Hessian by SymPy, in mpmath; and its arguments' places."""
    entry = catalogue.CATALOGUE[model]
    numpy: Any = _SymbolicNumpy()
    softplus = np.vectorize(lambda x: sp.log(1 + sp.exp(x)), otypes=[object])
    pieces = {
        "np_logsumexp": lambda s, axis=-1: numpy.log(numpy.exp(s).sum(axis=axis)),
        "np_softmax": lambda s, axis=-1: numpy.exp(s) / numpy.exp(s).sum(axis=axis, keepdims=True),
        "np_softplus": softplus,
        "np_erf": np.vectorize(sp.erf, otypes=[object]),
        "np_loggamma": np.vectorize(sp.loggamma, otypes=[object]),
        "np_digamma": np.vectorize(sp.digamma, otypes=[object]),
    }
    point, symbols = {}, {}
    for name, array in entry.arrays(rows=1).items():
        symbols[name] = np.empty(array.shape, dtype=object)
        for k, position in enumerate(np.ndindex(*array.shape)):
            symbols[name][position] = sp.Symbol(f"{name}_{k}", real=True)
        point[name] = symbols[name]
    objective = sp.sympify(_retargeted(entry.value, numpy, pieces)(point)[0])
    variables = [s for name in entry.wrt for s in symbols[name].ravel()]
    gradient = [sp.diff(objective, v) for v in variables]
    second = sp.hessian(objective, variables)
    places = [(name, k) for name, array in symbols.items() for k in range(array.size)]
    everything = [s for array in symbols.values() for s in array.ravel()]
    return sp.lambdify(everything, [*gradient, *second], modules="mpmath", cse=True), places


def sympy_derivatives(entry: Entry, arrays: Arrays) -> tuple[Array, Array]:
    """Gradient and Hessian by ``sympy.hessian``, evaluated with 30 digits; for entries that are ``symbolic``."""
    function, places = _symbolic(entry.name)
    rows, size = _rows(entry, arrays), sum(_elements(entry, arrays, name) for name in entry.wrt)
    gradient, hessian = np.zeros((rows, size)), np.zeros((rows, size, size))
    weight = rows if entry.reduction == "mean" else 1
    with mpmath.workdps(30):
        for row in range(rows):
            flat = {n: np.ravel(v[row] if has_rows(entry, n) else v) for n, v in arrays.items()}
            found = function(*(mpmath.mpf(float(flat[name][k])) for name, k in places))
            values = np.array([float(x) for x in found]) / weight
            gradient[row], hessian[row] = values[:size], values[size:].reshape(size, size)
    return folded(entry, arrays, gradient, hessian)


def jax_derivatives(entry: Entry, arrays: Arrays) -> tuple[Array, Array]:
    """Gradient and Hessian by JAX in float64.  Raises ImportError without JAX."""
    import jax
    from jax.scipy import special

    jax.config.update("jax_enable_x64", True)
    pieces = {"np_erf": special.erf, "np_loggamma": special.gammaln, "np_digamma": special.digamma}
    objective = _retargeted(entry.value, jax.numpy, pieces)
    point = {k: jax.numpy.asarray(v) for k, v in arrays.items()}

    def of_row(leaves: dict[str, Any], row: Any) -> Any:
        moved = dict(point)
        for name, leaf in leaves.items():
            moved[name] = point[name].at[row].set(leaf) if has_rows(entry, name) else leaf
        return objective(moved)[row]

    def both(flat: Any, row: Any) -> tuple[Any, Any]:
        def at(vector: Any) -> Any:
            leaves, start = {}, 0
            for name in entry.wrt:
                shape = arrays[name].shape[1 if has_rows(entry, name) else 0 :]
                size = _elements(entry, arrays, name)
                leaves[name] = vector[start : start + size].reshape(shape)
                start += size
            return of_row(leaves, row)

        return jax.grad(at)(flat), jax.hessian(at)(flat)

    compiled, found = jax.jit(both), []
    for row in range(_rows(entry, arrays)):
        parts = [arrays[n][row] if has_rows(entry, n) else arrays[n] for n in entry.wrt]
        found.append(compiled(np.concatenate([np.ravel(p) for p in parts]), row))
    gradient, hessian = (np.stack([np.asarray(f[k]) for f in found]) for k in (0, 1))
    return folded(entry, arrays, gradient, hessian)


def folded(entry: Entry, arrays: Arrays, gradient: Array, hessian: Array) -> tuple[Array, Array]:
    """Sum what belongs to parameters over rows into row 0."""
    parts = [np.full(_elements(entry, arrays, name), not has_rows(entry, name)) for name in entry.wrt]
    parameter = np.concatenate(parts)
    both = parameter[:, None] & parameter[None, :]
    first, second = gradient.copy(), hessian.copy()
    first[0, parameter], second[0, both] = gradient.sum(axis=0)[parameter], hessian.sum(axis=0)[both]
    first[1:, parameter], second[1:, both] = 0, 0
    return first, second


def vector(entry: Entry, arrays: Arrays, found: Mapping[str, Any]) -> Array:
    """Results by leaf as ``[row, i]``."""
    rows = _rows(entry, arrays)
    parts = []
    for name in entry.wrt:
        part = np.zeros((rows, _elements(entry, arrays, name)))
        values = np.asarray(getattr(found[name], "value", found[name]))
        part[slice(None) if has_rows(entry, name) else slice(0, 1)] = values.reshape(-1, part.shape[1])
        parts.append(part)
    return np.concatenate(parts, axis=1)


def matrix(entry: Entry, arrays: Arrays, blocks: Mapping[tuple[str, str], Array]) -> Array:
    """Blocks of leaves as ``[row, i, j]``."""
    sizes = [_elements(entry, arrays, name) for name in entry.wrt]
    starts = np.cumsum([0, *sizes])
    result = np.zeros((_rows(entry, arrays), starts[-1], starts[-1]))
    for i, a in enumerate(entry.wrt):
        for j, b in enumerate(entry.wrt[i:], i):
            where = slice(None) if has_rows(entry, a) or has_rows(entry, b) else slice(0, 1)
            block = np.asarray(blocks[a, b]).reshape(-1, sizes[i], sizes[j])
            left, right = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
            result[where, left, right] = block
            result[where, right, left] = block.transpose(0, 2, 1)
    return result


def error(found: Array, expected: Array) -> float:
    """The largest difference relative to the largest expected entry (absolute where that is zero)."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    largest = float(np.max(np.abs(expected), initial=0.0))
    return float(np.max(np.abs(found - expected), initial=0.0)) / (largest if largest > 1e-12 else 1.0)


def frobenius(found: Array, expected: Array) -> float:
    """The largest, over rows, of the difference's norm relative to the expected one (absolute where that is zero)."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    axes = tuple(range(1, expected.ndim))
    size = np.sqrt((expected**2).sum(axis=axes))
    missed = np.sqrt(((found - expected) ** 2).sum(axis=axes))
    return float(np.max(missed / np.where(size > 1e-12, size, 1.0)))


def has_rows(entry: Entry, name: str) -> bool:
    """Whether that array has one value for each row."""
    return (
        entry.draws[name](np.random.default_rng(0), 2).shape
        != entry.draws[name](np.random.default_rng(0), 5).shape
    )


def _rows(entry: Entry, arrays: Arrays) -> int:
    return len(entry.value(arrays))


def _elements(entry: Entry, arrays: Arrays, name: str) -> int:
    return arrays[name].size // (_rows(entry, arrays) if has_rows(entry, name) else 1)
