"""The NumPy interpreter: what a program means, slowly.  Every other back end is compared with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import sympy
from numpy.typing import NDArray

from cpgen.errors import UnsupportedError
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Carry, Dim, Extent, Guard, Index, Input, Map, Node, Program
from cpgen.ir.recur import Recurrence, components
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

    def evaluate(node: Map, at: Mapping[int, int] | None = None) -> Array:
        try:
            return _evaluate(node, values, sizes, dtype, first_column, at or {})
        except UnsupportedError as error:
            raise UnsupportedError(f"{node.origin.name}: {error.message}", node.origin) from error

    for part in components(program.nodes()):
        if isinstance(part, Recurrence):
            values |= {node: np.zeros(_sizes(node.shape, sizes), dtype) for node in part.nodes}
            for t in part.steps:
                for node in part.nodes:
                    if isinstance(node, Carry):
                        step_back(node, t, values[node], values[node.body])
                    else:
                        assert isinstance(node, Map)
                        values[node][step_of(part, node, t)] = evaluate(node, {part.axis[node]: t})
        elif isinstance(part, Input):
            value = np.asarray(arrays[part.name], dtype=dtype)
            expected = _sizes(part.shape, sizes)
            if value.shape != expected:
                raise ValueError(f"input {part.name}: shape {value.shape}, expected {expected}")
            values[part] = value
        elif isinstance(part, Carry):
            values[part] = carried(part, values[part.body])
        else:
            assert isinstance(part, Map)
            values[part] = evaluate(part)
    return {name: values[node] for name, node in program.outputs}


def step_of(recurrence: Recurrence, node: Node, t: int) -> tuple[slice, ...]:
    """Where the values of step ``t`` are in the array of ``node``."""
    return (*(slice(None) for _ in range(recurrence.axis[node])), slice(t, t + 1))


def step_back(carry: Carry, t: int, into: Array, body: Array) -> None:
    """Write step ``t`` of a carry, which holds zeros."""
    if 0 <= t - carry.step < body.shape[carry.axis]:
        np.moveaxis(into, carry.axis, 0)[t] = np.moveaxis(body, carry.axis, 0)[t - carry.step]


def carried(carry: Carry, body: Array) -> Array:
    """All of a carry whose body does not depend on it."""
    made = np.zeros_like(body)
    for t in range(body.shape[carry.axis]):
        step_back(carry, t, made, body)
    return made


def _sizes(extents: Sequence[Extent], sizes: Mapping[Dim, int]) -> tuple[int, ...]:
    return tuple(e if isinstance(e, int) else sizes[e] for e in extents)


def _points(
    node: Map, sizes: Mapping[Dim, int], first_column: int, at: Mapping[int, int]
) -> list[NDArray[np.int_]]:
    """What each loop axis of ``node`` runs over: all of it, or the one position in ``at``."""
    extents = zip(_sizes(node.extents, sizes), node.extents, strict=True)
    whole = [np.arange(n) + (first_column if e is COLUMNS else 0) for n, e in extents]
    return [run[at[a] : at[a] + 1] if a in at else run for a, run in enumerate(whole)]


def _evaluate(
    node: Map,
    values: Mapping[Node, Array],
    sizes: Mapping[Dim, int],
    dtype: np.dtype,
    first_column: int,
    at: Mapping[int, int],
) -> Array:
    points = _points(node, sizes, first_column, at)
    extents = tuple(len(run) for run in points)
    gathered = [_gather(access, values[access.node], points) for access in node.args]
    mask = _mask(node.guards, points, sizes, dtype)
    # a mask multiplies, which is no way to leave out a point where something is infinite
    maskable = mask is None or all(np.isfinite(array).all() for array, _ in gathered)
    if node.reduce == "sum" and maskable:
        total: Array = np.zeros(extents[: node.rank], dtype)
        factored = products_of(node, dtype)
        if factored is not None:
            for coefficient, factors in factored:
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


Products = list[tuple[float, list[int]]]
_products: WeakKeyDictionary[Map, dict[np.dtype, Products | None]] = WeakKeyDictionary()


def products_of(node: Map, dtype: np.dtype) -> Products | None:
    """The terms of ``node`` as :func:`_as_product` has them, None if one is no such product; made once for each node."""
    known = _products.setdefault(node, {})
    if dtype not in known:
        found = [_as_product(term, dtype) for term in sympy.Add.make_args(node.expr)]
        whole = [product for product in found if product is not None]
        known[dtype] = whole if len(whole) == len(found) else None
    return known[dtype]


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
        runs = [points[a] for a in plain]  # type: ignore[index]
        starts = [0 if isinstance(e, Dim) else int(r[:1].sum()) for e, r in zip(access.node.shape, runs, strict=True)]
        cut = tuple(slice(start, start + len(run)) for start, run in zip(starts, runs, strict=True))
        if all(part.stop <= size for part, size in zip(cut, value.shape, strict=True)):
            return value[cut], plain  # type: ignore[return-value]
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
