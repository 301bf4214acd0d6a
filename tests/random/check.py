"""One random model against its independent evaluator: value, gradient, Hessian, exact and sampled diagonal, native C."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

import cpgen as cp
from cpgen.errors import CpgenError
from tests.random.evaluate import COMPLEX, derivatives
from tests.random.generate import Builder, Case, Unwritable

# leaf elements of which the Hessian is compared; of a larger model a random choice
SPOTS = 8
# intermediate values above which float64 has too few digits left for a comparison
HUGE = 1e7
# disagreement of the two difference steps above which the reference itself is not trusted (a kink within a step)
ROUGH = 1e-3


@dataclass(frozen=True)
class Outcome:
    """``status``: "ok", "refused", "skipped", "wrong" or "crashed"; ``detail`` says of what kind, or what was seen."""

    status: str
    detail: str = ""


class Wrong(AssertionError):
    """A number that differs."""


def outcome(rng: random.Random, native: bool = False) -> Outcome:
    """Build a model from ``rng`` and check it; never raises."""
    try:
        try:
            case = Builder(rng).build()
            est = cp.compile(case.model, wrt=case.wrt, backend="interpreter", programs=())
            return check(case, est, native)
        except CpgenError as error:
            return Outcome("refused", f"{type(error).__name__}: {error}")
    except Wrong as error:
        return Outcome("wrong", str(error))
    except Unwritable as error:
        return Outcome("skipped", str(error))
    except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
        return Outcome("crashed", f"{type(error).__name__}: {error}")


def check(case: Case, est: cp.Estimator, native: bool) -> Outcome:
    """Raises Wrong where a number differs and CpgenError where cpgen refuses."""
    f, arrays = case.evaluator, case.arrays
    value = float(f.value({k: np.asarray(v, COMPLEX)[None] for k, v in arrays.items()}).real[0])
    size = max(1.0, f.largest)
    if not np.isfinite(value) or size > HUGE:
        return Outcome("skipped", "intermediate values too large")
    _close("value", est.value(**arrays), value, 1e-11 * size)
    every = [(v, index) for v in case.wrt for index in np.ndindex(arrays[v].shape)]
    pick = np.random.default_rng(0).permutation(len(every))[:SPOTS]
    chosen = sorted(int(p) for p in pick)
    gradient, hessian, error = derivatives(f, arrays, [every[p] for p in chosen])
    found = est.gradient(**arrays)
    slope = np.concatenate([np.ravel(found[v]) for v in case.wrt])[chosen]
    full = est.hessian(method="cp", **arrays)
    if full.kinks:
        return Outcome("skipped", "on a kink")
    top = float(np.max(np.abs(hessian), initial=1.0))
    if not np.isfinite(top) or top > HUGE:
        return Outcome("skipped", "derivatives too large")
    _close("gradient", slope, gradient, 1e-10 * (size + float(np.max(np.abs(gradient), initial=0))))
    if float(np.max(error, initial=0)) > ROUGH * top:
        return Outcome("skipped", "a kink or a steep place within a difference step")
    matrix = _matrix(full, case)
    part, floor = matrix[np.ix_(chosen, chosen)], 1e-9 * (top + size)
    if (np.abs(part - hessian) > floor + 1e-2 * error).any():
        # steep: the extrapolation is off by more than a hundredth, so a step a sixteenth as wide decides
        _, hessian, error = derivatives(f, arrays, [every[p] for p in chosen], 2.0**-15)
    _close("Hessian", part, hessian, floor + 1e-2 * error)
    if len({v in case.with_rows for v in case.wrt}) == 1:
        by_units = _matrix(est.hessian(method="directions", **arrays), case)
        _close("Hessian by directions", by_units, matrix, 1e-9 * (top + size))
    _diagonal(case, est, np.diag(matrix), 1e-9 * (float(np.max(np.abs(matrix), initial=0)) + size))
    if native:
        compiled = cp.compile(case.model, wrt=case.wrt, backend="native", threads=1)
        _close("native value", compiled.value(**arrays), est.value(**arrays), 1e-10 * size)
        both = zip(compiled.gradient(**arrays).values(), found.values(), strict=True)
        for a, b in both:
            _close("native gradient", a, b, 1e-10 * (size + float(np.max(np.abs(b), initial=0))))
        a, b = (e.diagonal(samples=8, seed=3, exact=False, **arrays).flat()[0] for e in (compiled, est))
        _close("native diagonal", a, b, 1e-10 * (size + float(np.max(np.abs(b), initial=0))))
    return Outcome("ok", "native" if native else "")


def _diagonal(case: Case, est: cp.Estimator, expected: np.ndarray, slack: float) -> None:
    arrays = case.arrays
    if est.columns() is not None:
        exact = est.diagonal(exact=True, **arrays)
        _close("exact diagonal", _flat(exact, case), expected, slack)
    # a rare sign pattern may hide from few columns: only an estimate that stays off with many is wrong
    for samples, seed in ((32, 5), (2048, 6)):
        found = est.diagonal(samples=samples, seed=seed, exact=False, **arrays)
        stderr = np.concatenate([np.ravel(found[v].stderr) for v in case.wrt])
        if (np.abs(_flat(found, case) - expected) <= 8 * stderr + slack).all():
            return
    _close("sampled diagonal", _flat(found, case), expected, 8 * stderr + slack)


def _flat(found: cp.Estimates, case: Case) -> np.ndarray:
    return np.concatenate([np.ravel(found[v].value) for v in case.wrt])


def _matrix(full: cp.Hessian, case: Case) -> np.ndarray:
    """The whole matrix over all elements of all leaves, rows among them."""
    sizes = [case.arrays[v].size for v in case.wrt]
    start = dict(zip(case.wrt, np.cumsum([0, *sizes]), strict=False))
    result = np.zeros((sum(sizes), sum(sizes)))
    for (a, b), block in full.blocks.items():
        lead = {v: case.rows if v in case.with_rows and case.rows else 1 for v in (a, b)}
        count = {v: case.arrays[v].size // lead[v] for v in (a, b)}
        parts = block.reshape(max(lead.values()), count[a], count[b])
        for row, part in enumerate(parts):
            at = {v: start[v] + (row * count[v] if lead[v] > 1 else 0) for v in (a, b)}
            result[at[a] : at[a] + count[a], at[b] : at[b] + count[b]] += part
            if a != b:
                result[at[b] : at[b] + count[b], at[a] : at[a] + count[a]] += part.T
    return result


def _close(what: str, found: object, expected: object, slack: object) -> None:
    gap = np.abs(np.asarray(found, np.longdouble) - np.asarray(expected, np.longdouble))
    if not (gap <= np.asarray(slack)).all():
        raise Wrong(
            f"{what}: {found} but expected {expected} (largest gap {gap.max():.3g})".replace("\n", " ")
        )
