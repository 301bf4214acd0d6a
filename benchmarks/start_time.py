"""From a process's start to its first numbers: cold, with an empty cache, and warm, with what the first one left there.

    python -m benchmarks.start_time [model ...] [--repeats 3] [--write]     # also into benchmarks/results/start_time.csv

Each figure is a process of its own that imports cpgen, compiles a model and calls value, gradient and diagonal once.
Seconds of processor time, the medians of the repeats: the import, this process after it, and its children, which are
the C compilers; and the wall clock after the import.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/start_time.csv"
FIELDS = ("model", "start", "import_s", "python_s", "compiler_s", "wall_s")
REPEATS = 3


def digits() -> tuple[Any, dict[str, Any]]:
    """The README's network of 64-32-16-10."""
    import numpy as np

    from benchmarks.peers.workloads import mlp

    workload = mlp("digits", (64, 32, 16, 10), 256, "softmax", quantities=())
    return workload.build(), {k: np.ascontiguousarray(v) for k, v in workload.data("float64").items()}


def workload(name: str) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def build() -> tuple[Any, dict[str, Any]]:
        from benchmarks.peers.workloads import WORKLOADS

        return WORKLOADS[name].build(), dict(WORKLOADS[name].data("float64"))

    return build


def residual() -> tuple[Any, dict[str, Any]]:
    """Ten layers of width 16."""
    import numpy as np

    from benchmarks.compile_time import residual as build

    rng = np.random.default_rng(0)
    weights = {f"W{k}": rng.normal(0, 0.2, (16, 16)) for k in range(1, 11)}
    weights |= {f"b{k}": np.zeros(16) for k in range(1, 11)}
    data = {"x": rng.normal(0, 1, (64, 64)), "y": np.eye(10)[rng.integers(10, size=64)]}
    return build(10), {**data, "V": rng.normal(0, 0.1, (16, 64)), "U": rng.normal(0, 0.2, (10, 16)), **weights}


MODELS = {
    "digits 64-32-16-10": digits,
    "W7 transformer": workload("W7"),
    "residual 10": residual,
    "W6 LeNet": workload("W6"),
}


def one(name: str) -> dict[str, float]:
    """The figures of this process."""
    import cpgen as cp

    imported = time.process_time()
    model, data = MODELS[name]()
    before, built = time.process_time(), time.perf_counter()
    est = cp.compile(model)
    est.value(**data)
    est.gradient(**data)
    est.diagonal(samples=1, exact=False, method="cp", **data)
    after, wall = time.process_time(), time.perf_counter()
    children = os.times()
    return {
        "import_s": imported,
        "python_s": after - before,
        "compiler_s": children.children_user + children.children_system,
        "wall_s": wall - built,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    lines = []
    for name in options.models:
        found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                for figures in found.values():
                    command = [sys.executable, "-m", "benchmarks.start_time", "--one", name]
                    environment = {**os.environ, "CPGEN_CACHE_DIR": folder}
                    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
                    figures.append(json.loads(done.stdout.splitlines()[-1]))
        for start, figures in found.items():
            values = {field: f"{median(f[field] for f in figures):.2f}" for field in FIELDS[2:]}
            lines.append({"model": name, "start": start, **values})
            print("  ".join(str(lines[-1][field]) for field in FIELDS), flush=True)
    if options.write:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
