"""The objective of one row written out as a single SymPy expression: the reference that everything is verified against.

Only for small models: writing out is exponential in the depth of a network, which is why the compiler never does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import sympy
from numpy.typing import NDArray

from cpgen.ir.nodes import Access, Carry, Dim, Extent, Graph, Guard, Index, Input, Map, Node, topological
from cpgen.ir.recur import Recurrence, components
from cpgen.scalar import placeholder, to_numpy

Expressions = NDArray[np.object_]


def element_symbols(variable: Input) -> Expressions:
    """One real symbol for each element of a variable, in its element shape."""
    result = np.empty(variable.element_shape, dtype=object)
    for position in np.ndindex(*variable.element_shape):
        result[position] = sympy.Symbol(f"{variable.name}{list(position) or ''}", real=True)
    return result


def written_out(graph: Graph, limit: int | None) -> tuple[sympy.Expr, dict[str, Expressions]] | None:
    """``(objective of one row, symbols by variable)``, or None if it would exceed ``limit`` operations."""
    symbols = {v.name: element_symbols(v) for v in graph.variables}
    values: dict[Node, Expressions] = {}
    size: dict[sympy.Expr, int] = {}

    def fill(node: Map | Carry, at: Sequence[range]) -> bool:
        """Write out the elements of ``node`` at these indices; False where one is beyond the limit."""
        for position in product(*at):
            here = _element(node, position, values) if isinstance(node, Map) else _carried(node, position, values)
            values[node][position] = here
            if limit is not None and _operations(here, size) > limit:
                return False
        return True

    for part in components(topological([graph.objective])):
        if isinstance(part, Input):
            value = symbols.get(part.name)
            # the only input that is not a variable is the scale of a mean over rows, which is 1 for one row
            values[part] = value if value is not None else np.array(sympy.Integer(1), dtype=object)
            continue
        nodes = part.nodes if isinstance(part, Recurrence) else (part,)
        values |= {node: np.empty(node.element_shape, dtype=object) for node in nodes}
        for t in part.steps if isinstance(part, Recurrence) else (None,):
            for node in nodes:
                assert isinstance(node, (Map, Carry))
                at = [range(e) for e in node.element_shape]
                if isinstance(part, Recurrence) and t is not None:
                    at[part.axis[node] - node.lead] = range(t, t + 1)
                if not fill(node, at):
                    return None
    return values[graph.objective][()], symbols


RowDerivatives = Callable[
    [Mapping[str, NDArray[np.floating]]], tuple[NDArray[np.floating], NDArray[np.floating]]
]


def row_derivatives(graph: Graph, wrt: Sequence[Input], limit: int | None) -> RowDerivatives | None:
    """Gradient and Hessian of the objective of one row by ``sympy.diff`` of the written-out expression, as a function.

    The function takes each variable's array for that row and returns ``g[i]`` and ``H[i, j]`` over all
    elements of ``wrt`` in order.  None if the objective would exceed ``limit`` operations.
    """
    out = written_out(graph, limit)
    if out is None:
        return None
    objective, symbols = out
    variables = [s for v in wrt for s in np.ravel(symbols[v.name])]
    everything = [s for v in graph.variables for s in np.ravel(symbols[v.name])]
    first = [sympy.diff(objective, s) for s in variables]
    count = len(variables)
    rows, columns = np.triu_indices(count)
    second = [sympy.diff(first[i], variables[j]) for i, j in zip(rows, columns, strict=True)]
    function = to_numpy([*first, *second], everything)

    def evaluate(
        arrays: Mapping[str, NDArray[np.floating]],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        values = [x for v in graph.variables for x in np.ravel(arrays[v.name])]
        found = np.array([float(x) for x in function(*values)])
        hessian = np.empty((count, count))
        hessian[rows, columns] = hessian[columns, rows] = found[count:]
        return found[:count], hessian

    return evaluate


def _operations(expr: sympy.Expr, known: dict[sympy.Expr, int]) -> int:
    """Operations of the written-out tree (shared parts counted each time), computed without walking it twice."""
    stack = [expr]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        missing = [a for a in top.args if a not in known]
        if missing:
            stack.extend(missing)
            continue
        known[top] = sum(known[a] for a in top.args) + (1 if top.args else 0)
        stack.pop()
    return known[expr]


def _carried(carry: Carry, position: Sequence[int], values: dict[Node, Expressions]) -> sympy.Expr:
    before = position[carry.along] - carry.step
    if not 0 <= before < carry.element_shape[carry.along]:
        return sympy.Integer(0)
    return values[carry.body][(*position[: carry.along], before, *position[carry.along + 1 :])]


def _element(node: Map, position: Sequence[int], values: dict[Node, Expressions]) -> sympy.Expr:
    lead = node.lead
    terms = []
    spaces = [range(1) if isinstance(e, Dim) else range(e) for e in node.extents[node.rank :]]
    for reduced in product(*spaces):
        point = (*([0] * lead), *position, *reduced)
        if not all(_holds(g, point) for g in node.guards):
            continue
        reads = {placeholder(k): _read(a, point, values) for k, a in enumerate(node.args)}
        terms.append(node.expr.xreplace(reads))
    if node.reduce == "max":
        # only ever used to shift exponentials, where any value gives the same result: a maximum would only obscure it
        return sympy.Integer(0)
    return sympy.Add(*terms)


def _holds(guard: Guard, point: Sequence[int]) -> bool:
    position = _at(guard.index, point)
    return position is not None and 0 <= position < _extent(guard.extent)


def _extent(extent: Extent) -> int:
    return extent if isinstance(extent, int) else 1


def _at(index: Index, point: Sequence[int]) -> int | None:
    numerator = index.offset + sum(c * point[a] for a, c in index.terms)
    return numerator // index.divisor if numerator % index.divisor == 0 else None


def _read(access: Access, point: Sequence[int], values: dict[Node, Expressions]) -> sympy.Expr:
    position = []
    for index, extent in zip(access.index, access.node.shape, strict=True):
        at = _at(index, point)
        if at is None or not 0 <= at < _extent(extent):
            return sympy.Integer(0)
        if not isinstance(extent, Dim):
            position.append(at)
    return values[access.node][tuple(position)]
