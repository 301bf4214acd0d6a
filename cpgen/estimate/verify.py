"""Verifying an estimator against an independent Hessian."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.symbolic import RowDerivatives, row_derivatives
from cpgen.errors import RequestError
from cpgen.estimate.arrays import check_arrays, gathered
from cpgen.estimate.compiled import Options
from cpgen.estimate.estimator import Estimator
from cpgen.estimate.sampling import is_count
from cpgen.ir.nodes import ROWS, Graph

Array = NDArray[np.floating]

# operations of the written-out objective times the square of the variables: beyond, SymPy's Hessian takes minutes
SYMBOLIC_WORK = 80_000
HESSIAN_VARIABLES = 2000
REFERENCES = ("auto", "symbolic", "differences")


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


def verify(
    estimator: Estimator,
    arrays: Mapping[str, object] | None = None,
    /,
    rows: int = 3,
    seed: int = 0,
    reference: str = "auto",
    **named: object,
) -> Verification:
    """Compare gradient, Hessian and diagonal with an independent reference.

    The reference is SymPy's Hessian of the written-out objective for small models, and otherwise central differences: of
    the interpreter's objective for the gradient, of its gradient for the Hessian; ``reference`` "symbolic" or
    "differences" insists on one of them.  ``arrays`` default to random values in (0.2, 0.8), ``rows`` of them.
    The Hessian is the exact one (sum over unit noise columns), so no statistics are involved.
    """
    if not isinstance(estimator, Estimator):
        raise RequestError(f"verify takes what cp.compile returned, not {type(estimator).__name__}")
    if not is_count(seed) or seed < 0:
        raise RequestError(f"seed={seed!r} is not a whole number, at least 0")
    if not is_count(rows) or rows < 1:
        raise RequestError(f"rows={rows!r} is not a whole number, at least 1")
    if reference not in REFERENCES:
        raise RequestError(f"reference={reference!r} is not one of {', '.join(REFERENCES)}")
    graph = estimator.graph
    given = gathered(arrays, named) or random_arrays(graph, rows, seed, estimator.real)
    checked, n = check_arrays(graph, graph.variables, given, estimator.real)
    double = {k: v.astype(np.float64) for k, v in checked.items()}
    loose = estimator.real == np.float32
    (expected_gradient, expected_hessian), source, tolerance = _reference(estimator, double, n, reference)
    tolerance = 2e-4 if loose else tolerance
    checks = []
    gradient = estimator.gradient(checked)
    checks.append(Check("gradient", _error(_vector(estimator, gradient, n), expected_gradient), tolerance))
    total = sum(int(np.prod(v.element_shape)) for v in estimator.wrt)
    if total <= HESSIAN_VARIABLES:
        blocks = estimator.hessian(checked).blocks
        checks.append(
            Check("Hessian from unit columns", _error(_dense(estimator, blocks, n), expected_hessian), tolerance)
        )
    diagonal = estimator.diagonal(checked, exact=True)
    values = _vector(estimator, {k: e.value for k, e in diagonal.items()}, n)
    expected = np.stack([np.diagonal(h) for h in expected_hessian])
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
    estimator: Estimator, arrays: Mapping[str, Array], rows: int, wanted: str
) -> tuple[tuple[Array, Array], str, float]:
    """Gradient ``[row, i]`` and Hessian ``[row, i, j]`` laid out as by :func:`_vector` and :func:`_dense`."""
    if wanted != "differences":
        total = sum(size for _, size, _ in _layout(estimator))
        limit = None if wanted == "symbolic" else SYMBOLIC_WORK // total**2
        derivatives = row_derivatives(estimator.graph, estimator.wrt, limit)
        if derivatives is not None:
            return _symbolic(estimator, derivatives, arrays, rows), "SymPy's symbolic Hessian", 1e-10
    return _differences(estimator, arrays, rows), "central differences", 1e-6


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
    """The gradient by differences of the objective, the Hessian by differences of the gradient, row by row.

    Fourth-order central differences of the interpreter's float64 results; both are derivatives of something simpler
    than what they check.
    """
    reference = Estimator(estimator.graph, estimator.wrt, Options(backend="interpreter"))
    weight = 1.0 / rows if estimator.graph.reduction == "mean" else 1.0

    def value(point: Mapping[str, Array]) -> Array:
        return np.asarray(reference.value(point))

    def gradient(point: Mapping[str, Array]) -> Array:
        found = reference.gradient(point)
        return np.concatenate([np.ravel(found[v.name]) for v in estimator.wrt])

    gradients, hessians = [], []
    for r in range(rows):
        point = {
            v.name: arrays[v.name][r : r + 1] if v.has_rows else arrays[v.name] for v in estimator.graph.variables
        }
        gradients.append(_jacobian(estimator, value, point) * weight)
        hessians.append(_jacobian(estimator, gradient, point).T * weight)
    return _fold(estimator, np.stack(gradients), np.stack(hessians))


def _jacobian(
    estimator: Estimator, function: Callable[[Mapping[str, Array]], Array], point: Mapping[str, Array]
) -> Array:
    """Derivatives ``[i, ...]`` of ``function`` by every element of wrt, error of order ``step**4``."""
    step = 1e-3
    result = []
    for v in estimator.wrt:
        for k in range(point[v.name].size):

            def moved(steps: int, name: str = v.name, k: int = k) -> Array:
                array = point[name].copy()
                array.flat[k] += steps * step
                return function({**point, name: array})

            near, far = moved(1) - moved(-1), moved(2) - moved(-2)
            result.append((8 * near - far) / (12 * step))
    return np.stack(result)
