"""The interpreter with a running error bound: what rounding can do to each output of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import sympy
from numpy.typing import NDArray

from cpgen.ir.interpret import (
    Labelled,
    _broadcast,
    _contract,
    _gather,
    _mask,
    _points,
    _sizes,
    carried,
    products_of,
    step_back,
    step_of,
)
from cpgen.ir.nodes import COLUMNS, ROWS, Carry, Dim, Input, Map, Node, Program
from cpgen.ir.recur import Recurrence, components
from cpgen.scalar import placeholder, sign_of
from cpgen.scalar.rounding import Arithmetic, with_rounding

Array = NDArray[np.floating]

# roundings taken for one.  Errors of a long sum are added as independent ones (root of the sum of squares), which is
# what they are like in practice; this is the room for those that are not.  float64 can afford more of it: what a wrong
# program does is many powers of ten larger.
ROOM = {"float64": 1024.0, "float32": 16.0}


def arithmetic(real: str) -> Arithmetic:
    """The roundings of ``real``, "float64" or "float32", with the room above."""
    about = np.finfo(real)
    return Arithmetic(ROOM[real] * float(about.eps) / 2, float(about.tiny), float(about.max))


def run_bounded(
    program: Program,
    arrays: Mapping[str, Array],
    rows: int = 1,
    columns: int = 1,
    first_column: int = 0,
    real: str = "float64",
) -> tuple[dict[str, Array], dict[str, Array]]:
    """``(values, bounds)`` by output: float64 values, and how far the same program in ``real`` may lie from each.

    Arguments as for :func:`cpgen.ir.interpret.run`; the arrays are taken as exact.  Within a map errors add up linearly,
    and so do those that all terms of a sum share; those of the elements of a summed array and the roundings of the sum
    itself by the root of their squares (Higham and Mary, A new approach to probabilistic rounding error analysis,
    SIAM J. Sci. Comput. 41, 2019).  A bound is infinite where a result may overflow or leave its domain in ``real``.
    """
    sizes = {ROWS: rows, COLUMNS: columns}
    how = arithmetic(real)
    values: dict[Node, tuple[Array, Array | None]] = {}
    with np.errstate(all="ignore"):
        for part in components(program.nodes()):
            if isinstance(part, Recurrence):
                _run_recurrence(part, values, sizes, first_column, how)
            elif isinstance(part, Input):
                values[part] = np.asarray(arrays[part.name], np.float64), None
            elif isinstance(part, Carry):
                value, bound = values[part.body]
                values[part] = carried(part, value), None if bound is None else carried(part, bound)
            else:
                assert isinstance(part, Map)
                values[part] = _evaluate(part, values, sizes, first_column, how, {})
    found = {name: values[node] for name, node in program.outputs}
    bounds = {name: np.zeros(value.shape) if bound is None else bound for name, (value, bound) in found.items()}
    return {name: value for name, (value, _) in found.items()}, bounds


def _run_recurrence(
    recurrence: Recurrence,
    values: dict[Node, tuple[Array, Array | None]],
    sizes: Mapping[Dim, int],
    first_column: int,
    how: Arithmetic,
) -> None:
    """Values and bounds of a recurrence, step by step."""
    made = {
        node: (np.zeros(_sizes(node.shape, sizes)), np.zeros(_sizes(node.shape, sizes)))
        for node in recurrence.nodes
    }
    values |= made
    for t in recurrence.steps:
        for node in recurrence.nodes:
            if isinstance(node, Carry):
                for into, body in zip(made[node], made[node.body], strict=True):
                    step_back(node, t, into, body)
            else:
                assert isinstance(node, Map)
                place = step_of(recurrence, node, t)
                found = _evaluate(node, values, sizes, first_column, how, {recurrence.axis[node]: t})
                for into, part in zip(made[node], found, strict=True):
                    into[place] = part


def _evaluate(
    node: Map,
    values: Mapping[Node, tuple[Array, Array | None]],
    sizes: Mapping[Dim, int],
    first_column: int,
    how: Arithmetic,
    at: Mapping[int, int],
) -> tuple[Array, Array]:
    points = _points(node, sizes, first_column, at)
    extents = tuple(len(run) for run in points)
    given = [_gather(access, values[access.node][0], points) for access in node.args]
    errors: list[Labelled | None] = []
    for access in node.args:
        bound = values[access.node][1]
        errors.append(None if bound is None else _gather(access, bound, points))
    mask = _mask(node.guards, points, sizes, np.dtype(np.float64))
    finite = all(np.isfinite(a).all() for a, _ in given) and all(np.isfinite(e[0]).all() for e in errors if e)
    count = int(np.prod([extents[a] for a in node.reduced], dtype=np.int64))
    if node.reduce == "sum" and finite:
        factored = products_of(node, np.dtype(np.float64))
        if factored is not None:
            return _products(node, factored, given, errors, mask, extents, count, how)
    rank = len(extents)
    value, bound = with_rounding(
        node.expr,
        [placeholder(k) for k in range(len(given))],
        [_broadcast(g, rank) for g in given],
        [0.0 if e is None else _broadcast(e, rank) for e in errors],
        how,
        _squares(node),
    )
    value, bound = np.broadcast_to(value, extents), np.broadcast_to(bound, extents)
    if mask is not None:
        inside = _broadcast(mask, rank) != 0
        value = np.where(inside, value, -np.inf if node.reduce == "max" else 0.0)
        bound = np.where(inside, bound, 0.0)
    if not node.reduced:
        return np.array(value), np.array(bound)
    if node.reduce == "max":
        return value.max(axis=node.reduced), bound.max(axis=node.reduced)
    total = value.sum(axis=node.reduced)
    size = np.abs(value).sum(axis=node.reduced)
    return total, how.rounded(total, bound.sum(axis=node.reduced) + np.sqrt(count) * how.unit * size)


def _squares(node: Map) -> list[sympy.Symbol]:
    """The arguments that are sums of what is nowhere negative."""
    if not node.expr.has(sympy.Pow):
        return []
    sums = [(k, a.node) for k, a in enumerate(node.args) if isinstance(a.node, Map) and a.node.reduce == "sum"]
    return [placeholder(k) for k, above in sums if sign_of(above.expr, {}) in (0, 1)]


def _products(
    node: Map,
    terms: Sequence[tuple[float, list[int]]],
    given: Sequence[Labelled],
    errors: Sequence[Labelled | None],
    mask: Labelled | None,
    extents: tuple[int, ...],
    count: int,
    how: Arithmetic,
) -> tuple[Array, Array]:
    """Sums of products, by einsum like the interpreter's."""
    shape = extents[: node.rank]
    total, bound = np.zeros(shape), np.zeros(shape)
    sizes: list[Labelled] = [(np.abs(a), axes) for a, axes in given]

    def contract(coefficient: float, factors: Sequence[Labelled]) -> Array:
        return _contract(coefficient, factors, mask, node, extents, np.dtype(np.float64))

    for coefficient, factors in terms:
        total = total + contract(coefficient, [given[k] for k in factors])
        size = contract(abs(coefficient), [sizes[k] for k in factors])
        roundings = len(factors) + len(terms) + (np.sqrt(count) if count > 1 else 0.0)
        bound = bound + roundings * how.unit * size
        for j, k in enumerate(factors):
            error = errors[k]
            if error is None:
                continue
            others = [*factors[:j], *factors[j + 1 :]]
            if count > 1 and set(node.reduced) <= set(error[1]):
                squares = [(given[other][0] ** 2, given[other][1]) for other in others]
                own = (error[0] ** 2, error[1])
                bound = bound + np.sqrt(np.abs(contract(coefficient**2, [own, *squares])))
            else:
                bound = bound + contract(abs(coefficient), [error, *(sizes[other] for other in others)])
    return total, how.rounded(total, bound)
