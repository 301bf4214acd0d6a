"""How often ``value +- 2 stderr`` contains the truth.

    python benchmarks/coverage.py [--quick] [--seeds N] [model ...]

The models of sampled_models.py, 2 to 64 noise columns (fewer than the order of the design), both designs, diagonal and
trace by curvature propagation and the diagonal by Hutchinson's estimator; the truth is the exact answer.  Printed and
written to benchmarks/results/coverage.csv for each: the share of (entry, seed) pairs covered, the median over entries of
the ratio of the median bar to the true error's root mean square, and how many bars are zero on values that are wrong.
Entries without sampling error are left out.  ``--quick``: a third of the models, 60 seeds, nothing written.  Exits 1 if a
model is covered in less than 90 percent, if the mean over models is outside 92 to 99, if a zero bar is wrong, or a ratio
outside 0.8 to 2.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from benchmarks.sampled_models import CASES, Case  # noqa: E402

COLUMNS = (2, 4, 8, 16, 64)
DESIGNS = ("independent", "hadamard")
ROUNDING = 1e-11  # an entry is exact if no seed moves it by more, relative to the largest entry


def measure(case: Case, seeds: int) -> list[dict[str, Any]]:
    """One row of the table for each quantity, number of columns and design."""
    est = cp.compile(case.model, wrt=list(case.wrt), programs=())
    arrays: dict[str, Any] = dict(case.data)
    truth = est.diagonal(arrays, exact=True)
    flat = truth.flat()[0]
    with_rows = all(v.has_rows for v in est.wrt)
    total = est.trace(arrays, exact=True).value if with_rows or not any(v.has_rows for v in est.wrt) else None
    wanted: list[tuple[str, str, Any]] = [("diagonal", "cp", flat), ("diagonal", "hutchinson", flat)]
    if total is not None:
        wanted.append(("trace", "cp", np.ravel(total)))
    rows = []
    for what, method, expected in wanted:
        order = 1 << max((est.columns(f"{what}:{method}") or 1) - 1, 0).bit_length()
        if method == "hutchinson" and order > 512:
            continue
        scale = np.abs(expected).max()
        for k in (k for k in COLUMNS if k < order):
            for design in DESIGNS:
                options: dict[str, Any] = {"samples": k, "design": design, "method": method, "exact": False}
                found = []
                for seed in range(seeds):
                    made = getattr(est, what)(arrays, seed=seed, **options)
                    found.append(
                        made.flat() if what == "diagonal" else (np.ravel(made.value), np.ravel(made.stderr))
                    )
                values, errors = (np.stack(part) for part in zip(*found, strict=True))
                off = np.abs(values - expected)
                sampled = (off > ROUNDING * scale).any(axis=0)
                if not sampled.any():
                    continue
                off, errors = off[:, sampled], errors[:, sampled]
                covered = off <= 2 * errors
                rms = np.sqrt((off**2).mean(axis=0))
                rows.append(
                    {
                        "model": case.name,
                        "quantity": what,
                        "method": method,
                        "columns": k,
                        "order": order,
                        "design": design,
                        "entries": int(sampled.sum()),
                        "covered": round(float(covered.mean()), 4),
                        "bar / error": round(float(np.median(np.median(errors, axis=0) / rms)), 3),
                        "zero and wrong": int(((errors == 0) & (off > ROUNDING * scale)).sum()),
                    }
                )
    return rows


def failures(rows: list[dict[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        name = (
            f"{row['model']}, {row['quantity']} by {row['method']}, {row['columns']} {row['design']} columns"
        )
        if row["covered"] < 0.9:
            found.append(f"{name}: {100 * row['covered']:.1f} percent covered")
        if not 0.8 <= row["bar / error"] <= 2:
            found.append(f"{name}: bar / error {row['bar / error']}")
        if row["zero and wrong"]:
            found.append(f"{name}: {row['zero and wrong']} zero bars on wrong values")
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Means over models, one line for each quantity, number of columns and design."""
    lines = []
    keys = dict.fromkeys((r["quantity"], r["method"], r["columns"], r["design"]) for r in rows)
    for key in sorted(keys):
        part = [r for r in rows if (r["quantity"], r["method"], r["columns"], r["design"]) == key]
        covered = [r["covered"] for r in part]
        ratio = [r["bar / error"] for r in part]
        bad = sum(r["zero and wrong"] for r in part)
        lines.append(
            f"{key[0]:8} {key[1]:10} K={key[2]:<2} {key[3]:11} {len(part):2} models: covered {np.mean(covered):.3f}, "
            f"least {min(covered):.3f}; bar / error {min(ratio):.2f} to {max(ratio):.2f}, "
            f"median {np.median(ratio):.2f}; zero and wrong {bad}"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("models", nargs="*")
    asked = parser.parse_args()
    names = asked.models or (list(CASES)[::3] if asked.quick else list(CASES))
    rows = []
    for name in names:
        rows += measure(CASES[name](), 60 if asked.quick else asked.seeds)
        for line in table([row for row in rows if row["model"] == name]):
            print(f"{name}: {line}", file=sys.stderr, flush=True)
    print("\n".join(table(rows)))
    if not asked.quick and not asked.models:
        with (ROOT / "benchmarks" / "results" / "coverage.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    bad = failures(rows)
    print("\n".join(bad))
    means = [line for line in table(rows) if not 0.92 <= float(line.split("covered ")[1][:5]) <= 0.99]
    return 1 if bad or means else 0


if __name__ == "__main__":
    sys.exit(main())
