"""Which estimator errs least for its time, and whether ``method="auto"`` takes it.

    python benchmarks/estimators.py [--quick] [name ...]

For each model of benchmarks/estimator_models.py: the relative error (root mean square over seeds of the L2 norm) of cp,
Hutchinson, plain Hutchinson (``v * Hv``) and auto with 1 and with 16 samples, the time of such a call, and the error
"at equal time": error * sqrt(time / cp's time), what remains after as many samples as fit cp's time. ``ratio`` is the
error at equal time of the method that auto takes over the best of cp and Hutchinson (1 where auto is exact); ``chosen``
is that ratio after ``est.choose`` on the data. Then columns for exactness, and auto's mean over 10,000 seeds (--quick:
300) on three small models against the exact answer: the largest deviation of an entry in standard errors of that mean.
Written to benchmarks/results/estimators.csv and estimators_unbiased.csv. Exits 1 if a deviation is more than 5 standard
errors.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from benchmarks.estimator_models import Case, attention, cases, deep, lstm  # noqa: E402

Array = NDArray[np.floating]
METHODS = ("cp", "hutchinson", "hutchinson_plain", "auto")
SAMPLES = (1, 16)
MOST_COLUMNS = 2500  # above, the reference is a mean of many samples


def flat(result: Any) -> Array:
    return result.flat()[0] if isinstance(result, cp.Estimates) else np.ravel(result.value)


def exact_of(result: Any) -> bool:
    return bool(result.exact)


def asked(est: cp.Estimator, case: Case, **options: Any) -> Any:
    return getattr(est, case.what)(dict(case.data), **options)


def truth_of(est: cp.Estimator, case: Case) -> Array:
    columns = est.columns(f"{case.what}:cp")
    if columns is not None and columns <= MOST_COLUMNS:
        return flat(asked(est, case, exact=True))
    many = [flat(asked(est, case, samples=1024, exact=False, method="cp", seed=10**6 + s)) for s in range(8)]
    return np.mean(many, axis=0)


def timed(call: Callable[[], object], times: int) -> float:
    """Seconds of one call, the least of a few rounds."""
    call()
    start = time.perf_counter()
    call()
    one = max(time.perf_counter() - start, 1e-6)
    repeats = max(1, min(200, int(0.02 / one)))
    found = []
    for _ in range(times):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        found.append((time.perf_counter() - start) / repeats)
    return min(found)


def measure(case: Case, quick: bool) -> list[dict[str, Any]]:
    """One row for each number of samples."""
    est = cp.compile(case.model(), wrt=case.wrt, programs=(), threads=1)
    truth = truth_of(est, case)
    size = float(np.linalg.norm(truth))
    seeds, rounds = (5, 1) if quick else (40, 7)
    lines = []
    for samples in SAMPLES:
        errors: dict[str, float] = {}
        seconds: dict[str, float] = {}
        taken = {}
        for method in METHODS:
            options: dict[str, Any] = {"samples": samples, "method": method}
            found = []
            for seed in range(seeds):
                result = asked(est, case, seed=seed, **options)
                found.append(float(np.linalg.norm(flat(result) - truth)) / size)
                if exact_of(result):
                    break
            first = next(iter(result.values())) if isinstance(result, cp.Estimates) else result
            taken[method] = f"exact, {first.samples} columns" if exact_of(result) else first.method
            errors[method] = float(np.sqrt(np.mean(np.square(found))))
        for _ in range(rounds):  # turn about, so that a busy machine slows all of them
            for method in METHODS:
                one = timed(lambda m=method, k=samples: asked(est, case, seed=0, samples=k, method=m), 1)
                seconds[method] = min(seconds.get(method, one), one)
        equal = {m: errors[m] * (seconds[m] / seconds["cp"]) ** 0.5 for m in METHODS}
        best = min(("cp", "hutchinson"), key=lambda m: equal[m])
        exact = errors["auto"] < 1e-9
        # by the method that is taken: auto has its bits, and the two timings would differ by chance alone
        ratio = 1.0 if exact else equal.get(taken["auto"], equal["auto"]) / max(equal[best], 1e-300)
        given = est.choose(dict(case.data)).methods.get(f"{case.what}:auto", "cp")
        lines.append(
            {
                "model": case.name,
                "what": case.what,
                "samples": samples,
                **{f"error {m}": f"{errors[m]:.3g}" for m in METHODS},
                **{f"ms {m}": f"{1e3 * seconds[m]:.3g}" for m in METHODS},
                **{f"at equal time {m}": f"{equal[m]:.3g}" for m in METHODS},
                "auto takes": taken["auto"],
                "best": "exact" if exact else best,
                "ratio": f"{ratio:.2f}",
                "chosen": f"{1.0 if exact else equal[given] / max(equal[best], 1e-300):.2f}",
                "columns cp": est.columns(f"{case.what}:cp"),
                "columns hutchinson": est.columns(f"{case.what}:hutchinson"),
            }
        )
        told = ", ".join(f"{m} {equal[m]:.2g}" for m in METHODS)
        line = lines[-1]
        print(
            f"{case.name:38s} {samples:2d} samples: at equal time {told}; auto takes {taken['auto']}, ratio {ratio:.2f}, "
            f"after choose {line['chosen']}; columns {line['columns cp']}, {line['columns hutchinson']}",
            flush=True,
        )
    return lines


def small() -> list[Case]:
    """Models on which auto is hutchinson, cp and cp again."""
    return [deep("softplus", 3, width=6, rows=2), lstm(2, 2, 3, rows=2), attention(True, tokens=3, width=4, rows=2)]


def unbiased(case: Case, seeds: int) -> dict[str, Any]:
    """The mean of auto over seeds, four samples each, against the exact answer."""
    est = cp.compile(case.model(), wrt=case.wrt, programs=(), threads=1)
    truth = truth_of(est, case)
    total, squares = np.zeros_like(truth), np.zeros_like(truth)
    options: dict[str, Any] = {"samples": 2, "exact": False}
    for seed in range(seeds):
        result = asked(est, case, seed=seed, **options)
        off = flat(result) - truth
        total += off
        squares += off**2
    mean = total / seeds
    error = np.sqrt(np.maximum(squares / seeds - mean**2, 0) / seeds)
    assert squares.sum() > 0, f"{case.name}: nothing is sampled, so nothing was tried"
    # an entry without noise is off by rounding alone
    worst = float(np.max(np.abs(mean) / np.maximum(error, 1e-13 * np.abs(truth).max())))
    first = next(iter(result.values())) if isinstance(result, cp.Estimates) else result
    return {
        "model": case.name,
        "what": case.what,
        "auto takes": first.method,
        "seeds": seeds,
        "entries": truth.size,
        "bias, relative": f"{np.linalg.norm(mean) / np.linalg.norm(truth):.2g}",
        "one estimate errs": f"{np.sqrt(squares.sum() / seeds) / np.linalg.norm(truth):.2g}",
        "largest deviation": f"{worst:.2f}",
        "rms deviation": f"{np.sqrt(np.mean((mean / np.maximum(error, 1e-300))[error > 0] ** 2)):.2f}",
    }


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few seeds, no files written")
    parser.add_argument("names", nargs="*", help="parts of names of models; no files are written then")
    options = parser.parse_args(arguments)
    chosen = [c for c in cases() if not options.names or any(n in c.name for n in options.names)]
    lines = [line for case in chosen for line in measure(case, options.quick)]
    ratios = [float(line["ratio"]) for line in lines]
    if ratios:
        within = sum(r <= 1.3 for r in ratios)
        print(f"auto is within 1.3 of the best on {within} of {len(ratios)}, median {statistics.median(ratios):.2f}")
    bad = False
    checks = []
    if not options.names:
        for case in small():
            checks.append(unbiased(case, 300 if options.quick else 10_000))
            print(checks[-1], flush=True)
            bad |= float(checks[-1]["largest deviation"]) > 5
    if not options.quick and not options.names:
        write(ROOT / "benchmarks/results/estimators.csv", lines)
        write(ROOT / "benchmarks/results/estimators_unbiased.csv", checks)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
