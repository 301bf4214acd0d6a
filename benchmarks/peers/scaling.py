"""How cpgen's times grow with rows, width, depth and samples: ``python -m benchmarks.peers.scaling``.

tanh networks with a softmax cross entropy.  Writes scaling.csv and prints the exponent of each sweep over its last half,
where fixed costs no longer count: 1 is proportional, and 2 is expected of a network's width.  Last the gradients of W4
and W5 with one thread and with two, in turn: in the table of all peers other processes wake up between the calls.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cpgen as cp
from benchmarks.peers.workloads import WORKLOADS, mlp

SWEEPS: dict[str, tuple[int, ...]] = {
    "rows": (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536),
    "width": (16, 32, 64, 128, 256, 512),
    "depth": (1, 2, 4, 8, 16),
    "samples": (1, 4, 16, 64, 256, 1024),
}


def seconds(call: Callable[[], object], budget: float) -> float:
    """The median of a few calls after one that warms up."""
    call()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < budget and len(times) < 50):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def threads(name: str, rounds: int = 30, calls: int = 10) -> dict[int, float]:
    """Median seconds of a workload's gradient by number of threads, timed in turn."""
    workload = WORKLOADS[name]
    data = workload.data("float64")
    bound = {
        count: cp.compile(workload.build(), wrt=list(workload.leaves), threads=count, programs=()).bind(**data)
        for count in (1, 2)
    }
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, call in bound.items():
            call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            times[count].append((time.perf_counter() - start) / calls)
    return {count: float(np.median(found)) for count, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers.scaling")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.2, help="seconds for each point")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[1] / "results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    lines: list[tuple[str, int, str, float]] = []
    for sweep, points in SWEEPS.items():
        for point in points:
            rows = point if sweep == "rows" else 64
            width = point if sweep == "width" else 32
            depth = point if sweep == "depth" else 2
            samples = point if sweep == "samples" else 1
            sizes = (width, *[width] * depth, 10)
            workload = mlp("scaling", sizes, rows, "softmax", quantities=())
            data = workload.data("float64")
            estimator = cp.compile(
                workload.build(), threads=options.threads, programs=("gradient", "diagonal")
            )
            calls: dict[str, Callable[[], object]] = {
                "diagonal": lambda e=estimator, k=samples, d=data: e.diagonal(samples=k, exact=False, method="cp", **d)
            }
            if sweep != "samples":
                calls["gradient"] = lambda e=estimator, d=data: e.gradient(**d)
            for quantity, call in calls.items():
                lines.append((sweep, point, quantity, seconds(call, options.budget)))
    pairs = {name: threads(name) for name in ("W4", "W5/100", "W5/784")}
    for name, found in pairs.items():
        lines += [(f"threads {name}", count, "gradient", t) for count, t in found.items()]
    with (options.output / "scaling.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["sweep", "point", "quantity", "seconds"])
        out.writerows((s, p, q, f"{t:.4g}") for s, p, q, t in lines)
    print("| sweep | from | to | gradient | diagonal, one estimate |\n|---|---|---|---|---|")
    for sweep, points in SWEEPS.items():
        cells = []
        for quantity in ("gradient", "diagonal"):
            found = [(p, t) for s, p, q, t in lines if (s, q) == (sweep, quantity)]
            last = found[len(found) // 2 :]
            cells.append(f"{np.polyfit(*np.log(np.array(last)).T, 1)[0]:.2f}" if found else "")
        print(f"| {sweep} | {points[0]} | {points[-1]} | {cells[0]} | {cells[1]} |")
    for name, by_threads in pairs.items():
        print(f"{name} gradient: two threads {by_threads[1] / by_threads[2]:.2f} times one")


if __name__ == "__main__":
    main()
