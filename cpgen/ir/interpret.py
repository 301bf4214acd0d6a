"""The NumPy interpreter: what a program means, slowly.  Every other back end is compared with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import sympy
from numpy.typing import NDArray

from cpgen.errors import UnsupportedError
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Guard, Index, Input, Map, Node, Program
from cpgen.scalar import exact_float, placeholder, to_numpy, wide

Array = NDArray[np.floating]


def run(
    program: Program, arrays: Mapping[str, Array], rows: int = 1, columns: int = 1, first_column: int = 0
) -> dict[str, Array]:
    """Evaluate ``program`` on ``arrays`` (one for each input, noise and scales included, keyed by name).

    The columns are those from ``first_column`` on.  Returns one array for each output.  Raises KeyError if an input is
    missing, ValueError on a wrong shape and UnsupportedError for a constant that the number type does not hold.
    """
    sizes = {ROWS: rows, COLUMNS: columns}
    values: dict[Node, Array] = {}
    given = [np.asarray(arrays[i.name]).dtype for i in program.inputs]
    dtype = np.result_type(*given) if given else np.dtype(np.float64)
    for node in program.nodes():
        if isinstance(node, Input):
            value = np.asarray(arrays[node.name], dtype=dtype)
            expected = _sizes(node.shape, sizes)
            if value.shape != expected:
                raise ValueError(f"input {node.name}: shape {value.shape}, expected {expected}")
            values[node] = value
        else:
            assert isinstance(node, Map)
            try:
                values[node] = _evaluate(node, values, sizes, dtype, first_column)
            except UnsupportedError as error:
                raise UnsupportedError(f"{node.origin.name}: {error.message}", node.origin) from error
    return {name: values[node] for name, node in program.outputs}


def _sizes(extents: Sequence[Extent], sizes: Mapping[Dim, int]) -> tuple[int, ...]:
    return tuple(e if isinstance(e, int) else sizes[e] for e in extents)


def _evaluate(
    node: Map, values: Mapping[Node, Array], sizes: Mapping[Dim, int], dtype: np.dtype, first_column: int
) -> Array:
    extents = _sizes(node.extents, sizes)
    points = [np.arange(n) + (first_column if e is COLUMNS else 0) for n, e in zip(extents, node.extents, strict=True)]
    gathered = [_gather(access, values[access.node], points) for access in node.args]
    mask = _mask(node.guards, points, sizes, dtype)
    # a mask multiplies, which is no way to leave out a point where something is infinite
    maskable = mask is None or all(np.isfinite(array).all() for array, _ in gathered)
    if node.reduce == "sum" and maskable:
        total: Array = np.zeros(extents[: node.rank], dtype)
        terms = sympy.Add.make_args(node.expr)
        factored = [_as_product(t, dtype) for t in terms]
        if all(f is not None for f in factored):
            for coefficient, factors in factored:  # type: ignore[misc]
                total = total + _contract(
                    coefficient, [gathered[k] for k in factors], mask, node, extents, dtype
                )
            return total
    full = [_broadcast(g, len(extents)) for g in gathered]
    if not full:
        exact_float(node.expr, dtype.name)
    with np.errstate(all="ignore"):
        value = _function(node)(*full)[0]
    value = np.broadcast_to(np.asarray(value, dtype), extents)
    reduced = node.reduced
    if node.reduce == "max":
        if mask is not None:
            value = np.where(_broadcast(mask, len(extents)) != 0, value, -np.inf)
        return value.max(axis=reduced)
    if mask is not None:
        value = np.where(_broadcast(mask, len(extents)) != 0, value, np.zeros((), dtype))
    return value.sum(axis=reduced) if reduced else np.array(value)


_functions: WeakKeyDictionary[Map, Callable[..., list[Array]]] = WeakKeyDictionary()


def _function(node: Map) -> Callable[..., list[Array]]:
    """The expression of ``node`` as a function of its arguments, made once for each node."""
    if node not in _functions:
        _functions[node] = to_numpy([node.expr], [placeholder(k) for k in range(len(node.args))])
    return _functions[node]


Labelled = tuple[Array, tuple[int, ...]]


def _broadcast(labelled: Labelled, rank: int) -> Array:
    """Spread an array over the loop axes it is labelled with into a ``rank``-dimensional broadcastable one."""
    array, axes = labelled
    order = sorted(range(len(axes)), key=lambda k: axes[k])
    array = array.transpose(order)
    shape = [1] * rank
    for k in order:
        shape[axes[k]] = labelled[0].shape[k]
    return array.reshape(shape)


def _gather(access: Access, value: Array, points: Sequence[NDArray[np.int_]]) -> Labelled:
    """The argument over the loop axes it depends on, which run over ``points``; invalid indices read zero."""
    axes = tuple(sorted({a for index in access.index for a in index.axes}))
    plain = tuple(index.axis for index in access.index)
    if None not in plain and len(set(plain)) == len(plain):
        runs = zip(value.shape, access.node.shape, (points[a] for a in plain), strict=True)  # type: ignore[index]
        if all(size == len(run) and (isinstance(extent, Dim) or not run[:1].any()) for size, extent, run in runs):
            return value, plain  # type: ignore[return-value]
    grids = dict(zip(axes, np.meshgrid(*(points[a] for a in axes), indexing="ij"), strict=True))
    shape = tuple(len(points[a]) for a in axes)
    valid: NDArray[np.bool_] = np.ones(shape, bool)
    positions = []
    for index, extent, own in zip(access.index, value.shape, access.node.shape, strict=True):
        position, exact = _index_values(index, grids, shape)
        if isinstance(own, Dim):  # read at its own loop axis, wherever that starts
            position = position - points[index.axes[0]][:1].sum()
        valid &= exact & (position >= 0) & (position < extent)
        positions.append(position)
    # an invalid point reads element 0, then is replaced by zero
    picked = (
        value[tuple(np.where(valid, p, 0) for p in positions)] if value.size else np.zeros(shape, value.dtype)
    )
    return np.where(valid, picked, np.zeros((), value.dtype)), axes


def _index_values(
    index: Index, grids: Mapping[int, NDArray[np.int_]], shape: tuple[int, ...]
) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    numerator: NDArray[np.int_] = np.full(shape, index.offset, dtype=np.int64)
    for a, c in index.terms:
        numerator = numerator + c * grids[a]
    return numerator // index.divisor, numerator % index.divisor == 0


def _mask(
    guards: Sequence[Guard], points: Sequence[NDArray[np.int_]], sizes: Mapping[Dim, int], dtype: np.dtype
) -> Labelled | None:
    if not guards:
        return None
    axes = tuple(sorted({a for g in guards for a in g.index.axes}))
    grids = dict(zip(axes, np.meshgrid(*(points[a] for a in axes), indexing="ij"), strict=True))
    shape = tuple(len(points[a]) for a in axes)
    valid: NDArray[np.bool_] = np.ones(shape, bool)
    for guard in guards:
        position, exact = _index_values(guard.index, grids, shape)
        valid &= exact & (position >= 0) & (position < _sizes([guard.extent], sizes)[0])
    return valid.astype(dtype), axes


def _as_product(term: sympy.Expr, dtype: np.dtype) -> tuple[float, list[int]] | None:
    """``(coefficient, argument numbers)`` if ``term`` is a number times distinct arguments to positive powers."""
    if wide(term, dtype.name):
        return None
    coefficient, factors = term.as_coeff_mul()
    numbers: list[int] = []
    for factor in factors:
        base, exponent = factor.as_base_exp()
        if not (base.is_Symbol and exponent.is_Integer and 0 < exponent <= 4):
            return None
        numbers += [int(base.name[1:])] * int(exponent)
    if not coefficient.is_number:
        return None
    try:
        return exact_float(coefficient, dtype.name), numbers
    except UnsupportedError:  # not a number of this type: lowering knows what to do
        return None


def _contract(
    coefficient: float,
    factors: Sequence[Labelled],
    mask: Labelled | None,
    node: Map,
    extents: tuple[int, ...],
    dtype: np.dtype,
) -> Array:
    """One einsum; axes that no factor carries are broadcast (output) or counted (reduction)."""
    operands = list(factors) + ([mask] if mask is not None else [])
    present = {a for _, axes in operands for a in axes}
    scale = coefficient
    for a in node.reduced:
        if a not in present:
            scale *= extents[a]
    out_axes = [a for a in range(node.rank) if a in present]
    if operands:
        arguments: list[object] = []
        for array, axes in operands:
            arguments += [array, list(axes)]
        value = np.einsum(*arguments, out_axes, optimize=len(operands) > 1)  # type: ignore[call-overload]
    else:
        value = np.ones((), dtype)
    value = _broadcast((np.asarray(value, dtype), tuple(out_axes)), node.rank)
    return np.broadcast_to(value * np.asarray(scale, dtype), extents[: node.rank])
