"""Verifying an estimator against an independent Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.symbolic import RowDerivatives, row_derivatives
from cpgen.estimate.arrays import check_arrays
from cpgen.estimate.estimator import Estimator
from cpgen.estimate.library import Options
from cpgen.ir.nodes import ROWS, Graph

Array = NDArray[np.floating]

# beyond these, SymPy's Hessian of the written-out objective takes minutes, and gradients are differenced instead
SYMBOLIC_VARIABLES = 40
SYMBOLIC_OPERATIONS = 4000
HESSIAN_VARIABLES = 2000


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference relative to the largest reference entry, and what is allowed."""

    what: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """Outcome of :func:`verify`.  ``reference`` says where the reference Hessian came from."""

    model: str
    reference: str
    backend: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(c.ok for c in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {'verified' if self.ok else 'FAILED'} against {self.reference}, {self.backend}"
        ]
        for c in self.checks:
            lines.append(
                f"  {'ok  ' if c.ok else 'FAIL'} {c.what}: relative error {c.error:.1e} (allowed {c.tolerance:.0e})"
            )
        return "\n".join(lines)


def verify(estimator: Estimator, rows: int = 3, seed: int = 0, **arrays: object) -> Verification:
    """Compare gradient, Hessian and diagonal with an independent reference.

    The reference is SymPy's Hessian of the written-out objective for small models, and central differences of the
    interpreter's objective gradient otherwise.  ``arrays`` default to random values in (0.2, 0.8), ``rows`` of them.
    The Hessian is the exact one (sum over unit noise columns), so no statistics are involved.
    """
    graph = estimator.graph
    given = dict(arrays) or random_arrays(graph, rows, seed, estimator.real)
    checked, n = check_arrays(graph, graph.variables, given, estimator.real)
    double = {k: v.astype(np.float64) for k, v in checked.items()}
    loose = estimator.real == np.float32
    reference, source, tolerance = _reference(estimator, double, n)
    tolerance = 2e-4 if loose else tolerance
    checks = []
    gradient = estimator.gradient(**checked)
    checks.append(Check("gradient", _error(_vector(estimator, gradient, n), reference[0]), tolerance))
    total = sum(int(np.prod(v.element_shape)) for v in estimator.wrt)
    if total <= HESSIAN_VARIABLES:
        blocks = estimator.hessian(**checked).blocks
        checks.append(
            Check("Hessian from unit columns", _error(_dense(estimator, blocks, n), reference[1]), tolerance)
        )
    diagonal = estimator.diagonal(exact=True, **checked)  # type: ignore[arg-type]
    values = _vector(estimator, {k: e.value for k, e in diagonal.items()}, n)
    expected = np.stack([np.diagonal(h) for h in reference[1]])
    summed = _collapse(estimator, expected)
    checks.append(Check("diagonal", _error(values, summed), tolerance))
    return Verification(graph.name, source, diagonal[estimator.wrt[0].name].backend, tuple(checks))


def random_arrays(graph: Graph, rows: int, seed: int, real: np.dtype) -> dict[str, Array]:
    """Values in (0.2, 0.8), inside the domain of every function that has one around there."""
    rng = np.random.default_rng(seed)
    result = {}
    for v in graph.variables:
        shape = tuple(rows if e is ROWS else e for e in v.shape)
        result[v.name] = rng.uniform(0.2, 0.8, size=shape).astype(real)  # type: ignore[arg-type]
    return result


def _error(found: Array, expected: Array) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1e-300)
    return float(np.max(np.abs(found - expected), initial=0.0)) / (scale if scale > 1e-12 else 1.0)


def _layout(estimator: Estimator) -> list[tuple[str, int, bool]]:
    return [(v.name, int(np.prod(v.element_shape)), v.has_rows) for v in estimator.wrt]


def _vector(estimator: Estimator, arrays: Mapping[str, Array], rows: int) -> Array:
    """One row of ``[row, i]`` for each data row; parameters stand in the first row only."""
    parts = []
    for name, size, has_rows in _layout(estimator):
        block = np.zeros((rows, size))
        if has_rows:
            block[:] = np.asarray(arrays[name]).reshape(rows, size)
        else:
            block[0] = np.asarray(arrays[name]).ravel()
        parts.append(block)
    return np.concatenate(parts, axis=1)


def _collapse(estimator: Estimator, per_row: Array) -> Array:
    """Sum the parameters' columns of ``[row, i]`` into the first row, like :func:`_vector`."""
    result = per_row.copy()
    start = 0
    for _, size, has_rows in _layout(estimator):
        if not has_rows:
            result[0, start : start + size] = per_row[:, start : start + size].sum(axis=0)
            result[1:, start : start + size] = 0
        start += size
    return result


def _dense(estimator: Estimator, blocks: Mapping[tuple[str, str], Array], rows: int) -> Array:
    """``H[row, i, j]`` from blocks; blocks of two parameters stand in the first row only."""
    layout = _layout(estimator)
    starts = np.cumsum([0, *(size for _, size, _ in layout)])
    result = np.zeros((rows, starts[-1], starts[-1]))
    for k, (a, size_a, rows_a) in enumerate(layout):
        for j, (b, size_b, rows_b) in list(enumerate(layout))[k:]:
            block = np.asarray(blocks[a, b])
            part = block.reshape(-1, size_a, size_b)
            where = slice(None) if rows_a or rows_b else slice(0, 1)
            result[where, starts[k] : starts[k] + size_a, starts[j] : starts[j] + size_b] = part
            result[where, starts[j] : starts[j] + size_b, starts[k] : starts[k] + size_a] = part.transpose(
                0, 2, 1
            )
    return result


def _reference(
    estimator: Estimator, arrays: Mapping[str, Array], rows: int
) -> tuple[tuple[Array, Array], str, float]:
    """Gradient ``[row, i]`` and Hessian ``[row, i, j]`` laid out as by :func:`_vector` and :func:`_dense`."""
    total = sum(size for _, size, _ in _layout(estimator))
    if total <= SYMBOLIC_VARIABLES:
        derivatives = row_derivatives(estimator.graph, estimator.wrt, SYMBOLIC_OPERATIONS)
        if derivatives is not None:
            return _symbolic(estimator, derivatives, arrays, rows), "SymPy's symbolic Hessian", 1e-10
    return _differences(estimator, arrays, rows), "central differences of the gradient", 1e-6


def _symbolic(
    estimator: Estimator, derivatives: RowDerivatives, arrays: Mapping[str, Array], rows: int
) -> tuple[Array, Array]:
    weight = 1.0 / rows if estimator.graph.reduction == "mean" else 1.0
    gradient, hessian = [], []
    for r in range(rows):
        g, h = derivatives(
            {v.name: arrays[v.name][r] if v.has_rows else arrays[v.name] for v in estimator.graph.variables}
        )
        gradient.append(g * weight)
        hessian.append(h * weight)
    return _fold(estimator, np.stack(gradient), np.stack(hessian))


def _fold(estimator: Estimator, gradient: Array, hessian: Array) -> tuple[Array, Array]:
    """Sum what belongs to parameters over rows into the first row."""
    folded = hessian.copy()
    parameter = np.concatenate([np.full(size, not has_rows) for _, size, has_rows in _layout(estimator)])
    both = parameter[:, None] & parameter[None, :]
    folded[0][both] = hessian.sum(axis=0)[both]
    for r in range(1, len(folded)):
        folded[r][both] = 0
    return _collapse(estimator, gradient), folded


def _differences(estimator: Estimator, arrays: Mapping[str, Array], rows: int) -> tuple[Array, Array]:
    """Hessian rows by central differences of the interpreter's gradient of single data rows."""
    step = 1e-5
    reference = Estimator(estimator.graph, estimator.wrt, Options(backend="interpreter"))
    gradients, hessians = [], []
    weight = 1.0 / rows if estimator.graph.reduction == "mean" else 1.0
    for r in range(rows):
        point = {
            v.name: (arrays[v.name][r : r + 1] if v.has_rows else arrays[v.name]).copy()
            for v in estimator.graph.variables
        }

        def gradient(at: Mapping[str, Array]) -> Array:
            found = reference.gradient(**at)
            return np.concatenate([np.ravel(found[v.name]) for v in estimator.wrt])

        columns = []
        for v in estimator.wrt:
            base = point[v.name]
            for k in range(base.size):
                sides = []
                for sign in (1, -1):
                    moved = base.copy()
                    moved.flat[k] += sign * step
                    sides.append(gradient({**point, v.name: moved}))
                columns.append((sides[0] - sides[1]) / (2 * step))
        gradients.append(gradient(point) * weight)
        hessians.append(np.stack(columns, axis=1) * weight)
    return _fold(estimator, np.stack(gradients), np.stack(hessians))
