"""What a user waits for until the first answers: processor time of the import, of Python beyond it, of the compiler.

    python benchmarks/start_time.py [--before ROOT] [--repeats N]

Model, ``cp.compile``, a gradient and a diagonal of four samples, in a process of its own: with an empty cache (cold), and
again with what that process left (warm).  The README's model, a residual network of 10 layers, and W6 and W7 of the
comparison with other libraries.  ``--before``: another checkout, measured in turn with this one.  The least of the
repeats goes to results/start_time.csv.  Seconds of processor time say about the same on a busy machine, those of the
clock do not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("quickstart", "residual 10", "W6", "W7")
COLUMNS = ("source", "model", "start", "import_s", "python_s", "compiler_s", "clock_s")

# clock_s leaves out the import and making the data
CHILD = """
import json, resource, sys, time
import cpgen as cp
imported = time.process_time()
import numpy as np, sympy as sp
sys.path.insert(0, sys.argv[2])
import compile_time
from peers import workloads

def quickstart():
    m = cp.Model("digits")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=64, h=32, k=16, c=10)
    x, y = m.input("x", n, i), m.input("y", n, c)
    W1, b1, W2, W3 = m.param("W1", h, i), m.param("b1", h), m.param("W2", k, h), m.param("W3", c, k)
    z = m.define("z", (n, h), sp.tanh(cp.sum(W1[h, i] * x[n, i], i) + b1[h]))
    u = m.define("u", (n, k), sp.tanh(cp.sum(W2[k, h] * z[n, h], h)))
    s = m.define("s", (n, c), cp.sum(W3[c, k] * u[n, k], k))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    return m

build = {"quickstart": quickstart, "residual 10": lambda: compile_time.residual(10),
         "W6": lambda: workloads.convolutions().build(), "W7": lambda: workloads.transformer().build()}[sys.argv[1]]
clock, begun = time.perf_counter(), time.process_time()
model = build()
built, clock = time.process_time() - begun, time.perf_counter() - clock
rng = np.random.default_rng(0)
shapes = {v.name: v.shape for v in model.graph().variables}
data = {name: rng.normal(size=[e if isinstance(e, int) else 8 for e in shape]) / 8 for name, shape in shapes.items()}
begun, started = time.process_time(), time.perf_counter()
est = cp.compile(model)
gradient = est.gradient(**data)
diagonal = est.diagonal(samples=4, **data)
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([imported, built + time.process_time() - begun, children.ru_utime + children.ru_stime,
                  clock + time.perf_counter() - started]))
"""


def measured(package: Path, model: str, cache: Path, bytecode: Path) -> list[float]:
    """The four times of one process."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "CPGEN_NOTES")}
    environment |= {"CPGEN_CACHE_DIR": str(cache), "PYTHONPATH": str(package), "PYTHONPYCACHEPREFIX": str(bytecode)}
    command = [sys.executable, "-c", CHILD, model, str(ROOT / "benchmarks")]
    done = subprocess.run(command, cwd=package, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in json.loads(done.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", default=",".join(MODELS))
    options = parser.parse_args()
    sources = {"before": options.before, "now": ROOT} if options.before else {"now": ROOT}
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, package in sources.items():  # which writes the bytecode
            measured(package, "quickstart", Path(folder) / f"first-{name}", Path(folder) / f"code-{name}")
        for model in options.models.split(","):
            for repeat in range(options.repeats):
                for name, package in sources.items():
                    cache, bytecode = Path(folder) / f"{name}-{model}-{repeat}", Path(folder) / f"code-{name}"
                    for start in ("cold", "warm"):
                        rows.setdefault((name, model, start), []).append(measured(package, model, cache, bytecode))
            write(rows)


def write(rows: Mapping[tuple[str, str, str], Sequence[Sequence[float]]]) -> None:
    """Write and print what has been measured so far."""
    with (ROOT / "benchmarks" / "results" / "start_time.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for key in sorted(rows, key=lambda key: (MODELS.index(key[1]), key[2], key[0])):
            line = [*key, *(f"{min(times):.2f}" for times in zip(*rows[key], strict=True))]
            table.writerow(line)
            print(*line)


if __name__ == "__main__":
    main()
