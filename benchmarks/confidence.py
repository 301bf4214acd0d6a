"""How often ``rtol`` is kept, and how many samples that takes.

    python benchmarks/confidence.py [--seeds N]

Twelve models of sampled_models.py, ``rtol`` 0.3, 0.1 and 0.03 at the default confidence of 95 percent, starting from 4
independent columns and never exact (``max_samples`` 65536).  Printed and written to benchmarks/results/confidence.csv:
the share of seeds whose relative error, by norm over all leaves, is at most ``rtol``, of those that did not reach
``max_samples``, and the median number of samples.  Exits 1 if one of them is kept in less than 95 percent.
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
from benchmarks.sampled_models import CASES  # noqa: E402

MODELS = (
    "lennard jones", "morse", "gaussian mixture by input", "two signs", "lstm of 3 steps", "transformer layer",
    "softplus net by weights", "tanh net by input", "physics informed net by input", "deep kernel energy", "attention",
    "residual tied",
)  # fmt: skip
TOLERANCES = (0.3, 0.1, 0.03)
MOST = 65536


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        case = CASES[name]()
        est = cp.compile(case.model, wrt=list(case.wrt), programs=())
        arrays: dict[str, Any] = dict(case.data)
        truth = est.diagonal(arrays, exact=True).flat()[0]
        for rtol in TOLERANCES:
            kept, used = [], []
            for seed in range(seeds):
                found = est.diagonal(
                    arrays, rtol=rtol, samples=4, seed=seed, design="independent", exact=False, max_samples=MOST
                )
                samples = next(iter(found.values())).samples
                used.append(samples)
                if samples < MOST:
                    error = np.linalg.norm(found.flat()[0] - truth)
                    kept.append(bool(error <= rtol * np.linalg.norm(truth)))
            share = round(float(np.mean(kept)), 3) if kept else float("nan")
            rows.append({"model": name, "rtol": rtol, "runs": len(kept), "kept": share, "samples": int(np.median(used))})
            print(*rows[-1].values(), sep=", ", flush=True)
    with (ROOT / "benchmarks" / "results" / "confidence.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 1 if any(row["kept"] < 0.95 for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
