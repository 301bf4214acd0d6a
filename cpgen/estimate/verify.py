"""Verifying an estimator against an independent Hessian."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.derive import programs
from cpgen.derive.outputs import name_of, read_output
from cpgen.derive.symbolic import RowDerivatives, row_derivatives
from cpgen.errors import DataError, RequestError
from cpgen.estimate.arrays import check_arrays, gathered
from cpgen.estimate.estimator import Estimator
from cpgen.estimate.options import Options
from cpgen.estimate.sampling import is_count
from cpgen.ir.draws import draws
from cpgen.ir.nodes import ROWS, Graph, Input, Program, topological
from cpgen.ir.rounding import run_bounded
from cpgen.simplify import simplified

Array = NDArray[np.floating]

# operations of the written-out objective times the square of the variables: beyond, SymPy's Hessian takes minutes
SYMBOLIC_WORK = 80_000
HESSIAN_VARIABLES = 2000
STEP = 3e-4  # of differences
DIFFERENCES = "central differences"
# rounding relative to the largest entry below which data are taken without looking for better ones
CLEAR = {"float64": 1e-8, "float32": 1e-3}
TRIED = 4  # magnitudes after which zeros are taken for the model's own
REFERENCES = ("auto", "symbolic", "differences")


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference relative to the largest reference entry, and what is allowed.

    With a symbolic reference relative to the entries of the same variable, for the variable that does worst.
    """

    what: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """Outcome of :func:`verify`.  ``reference`` says where the reference Hessian came from.

    ``zero``: what is 0 in every entry for these data, result and reference alike, and so hardly tested.  ``kinks``:
    evaluation points exactly on a kink, where a convention decides on a derivative (and differences may not agree).
    """

    model: str
    reference: str
    backend: str
    checks: tuple[Check, ...]
    zero: tuple[str, ...] = ()
    kinks: int = 0

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
        if self.zero:
            lines.append(f"  note zero for these data, so hardly tested: {', '.join(self.zero)}")
        if self.kinks:
            points = "1 point lies" if self.kinks == 1 else f"{self.kinks} points lie"
            lines.append(f"  note {points} exactly on a kink, where a convention decides on the derivative")
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
    "differences" insists on one of them.  ``arrays`` default to random ones (:func:`random_arrays`), ``rows`` of them.
    The Hessian is the exact one (sum over unit noise columns), so no statistics are involved.  What is allowed grows
    where the data make the model cancel: with the interpreter's bound of rounding (:mod:`cpgen.ir.rounding`).

    Raises RequestError for ``rows``, ``seed`` or ``reference`` out of range, DataError if no random data inside the
    declared ranges make value and gradient finite.
    """
    if not isinstance(estimator, Estimator):
        raise RequestError(f"verify takes what cp.compile returned, not {type(estimator).__name__}")
    _check_counts(rows, seed)
    if reference not in REFERENCES:
        raise RequestError(f"reference={reference!r} is not one of {', '.join(REFERENCES)}")
    graph = estimator.graph
    given = gathered(arrays, named) or random_arrays(graph, rows, seed, estimator.real, estimator.wrt)
    checked, n = check_arrays(graph, graph.variables, given, estimator.real)
    double = {k: v.astype(np.float64) for k, v in checked.items()}
    called = {k: v for k, v in checked.items() if k in given}  # without the model's constants
    (expected_gradient, expected_hessian), source, tolerance = _reference(estimator, double, n, reference)
    tolerance = 2e-4 if estimator.real == np.float32 else tolerance
    real = estimator.real
    (_, first), (_, second) = (_bounded(estimator.derive(key).program, double, n, real) for key in ("gradient", "hvp"))
    summed = _collapse(estimator, np.stack([np.diagonal(h) for h in expected_hessian]))
    # differences are only as good as the largest entry that went into them
    apart = source != DIFFERENCES
    gradient = _vector(estimator, estimator.gradient(called), n)
    checks = [_check("gradient", gradient, expected_gradient, _limits(estimator, first, "gradient"), tolerance, apart)]
    limits = _limits(estimator, second, "hvp")
    total = sum(int(np.prod(v.element_shape)) for v in estimator.wrt)
    if total <= HESSIAN_VARIABLES:
        found = _dense(estimator, estimator.hessian(called).blocks, n)
        checks.append(_check("Hessian from unit columns", found, expected_hessian, limits, tolerance, apart))
    diagonal = estimator.diagonal(called, exact=True)
    values = _vector(estimator, {k: e.value for k, e in diagonal.items()}, n)
    checks.append(_check("diagonal", values, summed, limits, tolerance, apart))
    backend = diagonal[estimator.wrt[0].name].backend
    zero = _zero(estimator, {"gradient": expected_gradient, "diagonal": summed})
    return Verification(graph.name, source, backend, tuple(checks), zero, diagonal.kinks)


def _check_counts(rows: object, seed: object) -> None:
    for what, number, least in (("rows", rows, 1), ("seed", seed, 0)):
        if not is_count(number) or number < least:  # type: ignore[operator]
            raise RequestError(f"{what}={number!r}: an integer of at least {least} is needed")


def random_arrays(
    graph: Graph, rows: int, seed: int, real: np.dtype, wrt: Sequence[Input] | None = None
) -> dict[str, Array]:
    """Random arrays for every input and parameter, inside the declared ranges (:mod:`cpgen.ir.draws`).

    Several magnitudes are tried until the objective is finite in ``real`` and, with ``wrt``, its gradient too, not zero,
    and clear of rounding.  Raises RequestError for ``rows`` below 1 or a negative ``seed``, DataError if none will do.
    """
    _check_counts(rows, seed)
    program = simplified((programs.value(graph) if wrt is None else programs.gradient(graph, wrt)).program)
    best: tuple[tuple[int, float], dict[str, Array]] | None = None
    clear = CLEAR[np.dtype(real).name]
    for attempt, drawn in enumerate(draws(topological([graph.objective]), graph.variables, rows, 0, seed), 1):
        made = {name: array.astype(real) for name, array in drawn.items()}
        found = _rounding(program, {k: v.astype(np.float64) for k, v in made.items()}, rows, real)
        if np.isfinite(found[1]) and (best is None or found < best[0]):
            best = found, made
        if best is not None and best[0][1] < clear and (best[0][0] == 0 or attempt >= TRIED):
            break
    if best is None:
        raise DataError(
            f"the model {graph.name!r} is not finite for any of the random data tried: declare ranges "
            "(m.input(..., low=, high=)) or pass arrays inside its domain",
            graph.origin,
        )
    return {v.name: best[1][v.name] for v in graph.variables if v.kind != "constant"}


def _bounded(
    program: Program, arrays: Mapping[str, Array], rows: int, real: np.dtype
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Results of a program, tangents of 1, and how far rounding in ``real`` can move them."""
    given = dict(arrays)
    for node in program.inputs:
        if node.kind == "scale":
            given[node.name] = np.asarray(1.0 / rows)
        elif node.kind == "tangent":
            given[node.name] = np.ones([rows if e is ROWS else e for e in node.shape])  # type: ignore[misc]
    return run_bounded(program, given, rows, 1, real=np.dtype(real).name)


def _rounding(program: Program, arrays: Mapping[str, Array], rows: int, real: np.dtype) -> tuple[int, float]:
    """How many outputs are 0 throughout, and how far rounding can move the others, beside the largest entry of each.

    Infinite where a result is not finite, 1 where all are 0.
    """
    values, bounds = _bounded(program, arrays, rows, real)
    names = [name for name, _ in program.outputs if name != "kinks"]
    if not all(np.isfinite(bounds[name]).all() for name in names):
        return len(names), float("inf")
    names = [name for name in names if read_output(name).role == "gradient"] or names
    scales = {name: float(np.max(np.abs(values[name]), initial=0.0)) for name in names}
    ratios = [float(np.max(bounds[name])) / scales[name] for name in names if scales[name] > 0]
    return len(names) - len(ratios), max(ratios, default=1.0)


def _limits(estimator: Estimator, bounds: Mapping[str, Array], role: str) -> list[tuple[int, float]]:
    """For each variable of wrt its elements and the largest bound of its part of a result."""
    return [
        (size, float(np.max(bounds.get(name_of(role, name), np.zeros(1)), initial=0.0)))
        for name, size, _ in _layout(estimator)
    ]


def _check(
    what: str, found: Array, expected: Array, limits: list[tuple[int, float]], tolerance: float, apart: bool
) -> Check:
    """Compare ``[row, i, ...]``, each variable's part beside its own largest entry if ``apart``, else all of it at once.

    ``limits``: elements of each variable and the bound of rounding there.  The worst part is reported.
    """
    if not apart:
        limits = [(expected.shape[1], max(limit for _, limit in limits))]
    whole = max(float(np.max(np.abs(expected), initial=0.0)), 1e-300)
    parts, start = [], 0
    for size, limit in limits:
        own, of = found[:, start : start + size], expected[:, start : start + size]
        scale = float(np.max(np.abs(of), initial=0.0))
        scale = scale if scale > 0 else whole
        parts.append(Check(what, _error(own, of, scale), max(tolerance, limit / scale)))
        start += size
    return max(parts, key=lambda part: part.error / part.tolerance)


def _zero(estimator: Estimator, expected: Mapping[str, Array]) -> tuple[str, ...]:
    found, start = [], 0
    for name, size, _ in _layout(estimator):
        found += [f"{what} of {name}" for what, a in expected.items() if not a[:, start : start + size].any()]
        start += size
    return tuple(found)


def _error(found: Array, expected: Array, scale: float) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.max(np.abs(found - expected), initial=0.0)) / (scale if scale > 1e-290 else 1.0)


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
    return _differences(estimator, arrays, rows), DIFFERENCES, 1e-6


def _symbolic(
    estimator: Estimator, derivatives: RowDerivatives, arrays: Mapping[str, Array], rows: int
) -> tuple[Array, Array]:
    gradient, hessian = [], []
    for r, weight in enumerate(_weights(estimator, rows)):
        g, h = derivatives(
            {v.name: arrays[v.name][r] if v.has_rows else arrays[v.name] for v in estimator.graph.variables}
        )
        gradient.append(g * weight)
        hessian.append(h * weight)
    return _fold(estimator, np.stack(gradient), np.stack(hessian))


def _weights(estimator: Estimator, rows: int) -> list[float]:
    """What the objective of each row counts; one without rows counts once, however many rows other inputs have."""
    if not estimator.graph.objective.has_rows:
        return [1.0] + [0.0] * (rows - 1)
    return [1.0 / rows if estimator.graph.reduction == "mean" else 1.0] * rows


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

    def value(point: Mapping[str, Array]) -> Array:
        return np.asarray(reference.value(point))

    def gradient(point: Mapping[str, Array]) -> Array:
        found = reference.gradient(point)
        return np.concatenate([np.ravel(found[v.name]) for v in estimator.wrt])

    gradients, hessians = [], []
    for r, weight in enumerate(_weights(estimator, rows)):
        point = {
            v.name: arrays[v.name][r : r + 1] if v.has_rows else arrays[v.name] for v in estimator.graph.variables
        }
        gradients.append(_jacobian(estimator, value, point) * weight)
        hessians.append(_jacobian(estimator, gradient, point).T * weight)
    return _fold(estimator, np.stack(gradients), np.stack(hessians))


def _jacobian(
    estimator: Estimator, function: Callable[[Mapping[str, Array]], Array], point: Mapping[str, Array]
) -> Array:
    """Derivatives ``[i, ...]`` of ``function`` by every element of wrt, error of order ``step**4``.

    The step is small beside the array's own magnitude, so that it seldom crosses a kink or leaves a domain.
    """
    result = []
    for v in estimator.wrt:
        step = STEP * (float(np.max(np.abs(point[v.name]))) or 1.0)
        for k in range(point[v.name].size):

            def moved(steps: int, name: str = v.name, k: int = k, step: float = step) -> Array:
                array = point[name].copy()
                array.flat[k] += steps * step
                return function({**point, name: array})

            near, far = moved(1) - moved(-1), moved(2) - moved(-2)
            result.append((8 * near - far) / (12 * step))
    return np.stack(result)
