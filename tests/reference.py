"""Derivatives of the catalogue's NumPy objectives by differences in extended precision, and their layout.

Nothing of the package is used to compute them.  Matrices are laid out as ``[row, i, j]`` over all elements of ``wrt`` in
order; what belongs to parameters only is summed over rows into row 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
                if _has_rows(entry, name):
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


def folded(entry: Entry, arrays: Arrays, gradient: Array, hessian: Array) -> tuple[Array, Array]:
    """Sum what belongs to parameters over rows into row 0."""
    parts = [np.full(_elements(entry, arrays, name), not _has_rows(entry, name)) for name in entry.wrt]
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
        part[slice(None) if _has_rows(entry, name) else slice(0, 1)] = values.reshape(-1, part.shape[1])
        parts.append(part)
    return np.concatenate(parts, axis=1)


def matrix(entry: Entry, arrays: Arrays, blocks: Mapping[tuple[str, str], Array]) -> Array:
    """Blocks of leaves as ``[row, i, j]``."""
    sizes = [_elements(entry, arrays, name) for name in entry.wrt]
    starts = np.cumsum([0, *sizes])
    result = np.zeros((_rows(entry, arrays), starts[-1], starts[-1]))
    for i, a in enumerate(entry.wrt):
        for j, b in enumerate(entry.wrt[i:], i):
            where = slice(None) if _has_rows(entry, a) or _has_rows(entry, b) else slice(0, 1)
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


def _has_rows(entry: Entry, name: str) -> bool:
    return (
        entry.draws[name](np.random.default_rng(0), 2).shape
        != entry.draws[name](np.random.default_rng(0), 5).shape
    )


def _rows(entry: Entry, arrays: Arrays) -> int:
    return len(entry.value(arrays))


def _elements(entry: Entry, arrays: Arrays, name: str) -> int:
    return arrays[name].size // (_rows(entry, arrays) if _has_rows(entry, name) else 1)
