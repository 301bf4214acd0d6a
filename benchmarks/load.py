"""Latency of calls on a busy machine: cpgen beside JAX and PyTorch, while other processes want the processors.

    python -m benchmarks.load [--quick] [--seconds S] [--busy 0 2 4 8] [--out benchmarks/results/load.csv]

For each workload and number of busy processes, all peers on one and on two threads call by turns, a few calls each,
so that all of them meet the same machine.  A line of the CSV holds the calls and their median, 90th and 99th
percentile in milliseconds; the end says by how much the 90th percentile exceeds JAX's on as many threads, and that of
one thread.

Every peer and number of threads is a process of its own.  JAX takes the number of its threads from the processors it may
use, so that its process is bound to as many as it has threads; cpgen and PyTorch are told, and bound to none.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

ROOT = Path(__file__).parents[1]
CASES = {"W3/par/1024": ("gradient", "sample"), "W4": ("gradient", "sample"), "W8": ("gradient", "sample")}
CASES["W7"] = ("gradient", "sample")
PEERS = ("cpgen", "jax", "torch")
TURN = 0.12  # seconds of calls before the next has its turn
FIELDS = ("workload", "quantity", "peer", "threads", "busy", "calls", "median_ms", "p90_ms", "p99_ms")


def serve(peer: str, threads: int) -> None:
    """Answer the questions of :func:`main`, one JSON value a line: [workload, quantity, seconds] -> seconds of calls."""
    if peer == "jax" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    from benchmarks.peers.workloads import WORKLOADS

    module: Any = importlib.import_module(f"benchmarks.peers.peer_{peer}")
    calls: dict[tuple[str, str], Any] = {}
    out = os.fdopen(os.dup(1), "w")  # libraries may print
    os.dup2(2, 1)
    for line in sys.stdin:
        workload, quantity, seconds = json.loads(line)
        if (workload, quantity) not in calls:
            for method in module.methods(WORKLOADS[workload], "float64", threads):
                if method.quantity == quantity:
                    calls[workload, quantity] = method.call
                    break
            for _ in range(3):
                calls[workload, quantity]()
        call, found = calls[workload, quantity], []
        start = last = time.perf_counter()
        while last - start < seconds:
            call()
            now = time.perf_counter()
            found.append(now - last)
            last = now
        print(json.dumps(found), file=out, flush=True)


class Served:
    """A process that runs :func:`serve`."""

    def __init__(self, peer: str, threads: int) -> None:
        self.peer, self.threads = peer, threads
        command = [sys.executable, "-m", "benchmarks.load", "--serve", peer, str(threads)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def times(self, workload: str, quantity: str, seconds: float) -> list[float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps([workload, quantity, seconds]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.peer} on {self.threads} threads ended")
        found: list[float] = json.loads(line)
        return found

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def busy(count: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]


def measure(options: argparse.Namespace, file: TextIO) -> list[dict[str, Any]]:
    peers = [p for p in PEERS if importlib.util.find_spec(p) is not None]
    served = [Served(peer, threads) for peer in peers for threads in (1, 2)]
    cases = [(w, q) for w, quantities in CASES.items() for q in quantities]
    rows: list[dict[str, Any]] = []
    writer = csv.DictWriter(file, FIELDS)
    writer.writeheader()
    try:
        for workload, quantity in cases:  # compile while nothing else wants the processors
            for one in served:
                one.times(workload, quantity, 0.0)
        each = options.seconds / (len(cases) * len(options.busy) * len(served))
        for count in options.busy:
            others = busy(count)
            try:
                for workload, quantity in cases:
                    times: dict[Served, list[float]] = {one: [] for one in served}
                    spent = dict.fromkeys(served, 0.0)
                    while min(spent.values()) < each and sum(spent.values()) < 2 * each * len(served):
                        for one in served:
                            new = one.times(workload, quantity, min(TURN, each))
                            times[one] += new
                            spent[one] += sum(new)
                    for one in served:
                        median, p90, p99 = 1e3 * np.percentile(times[one], (50, 90, 99))
                        figures = [f"{x:.4g}" for x in (median, p90, p99)]
                        values = [workload, quantity, one.peer, one.threads, count, len(times[one]), *figures]
                        rows.append(dict(zip(FIELDS, values, strict=True)))
                        writer.writerow(rows[-1])
                    file.flush()
            finally:
                for process in others:
                    process.kill()
                    process.wait()
    finally:
        for one in served:
            one.end()
    return rows


def summary(rows: list[dict[str, Any]]) -> None:
    """The largest ratios of 90th percentiles for each number of busy processes."""
    p90 = {tuple(r[f] for f in FIELDS[:5]): float(r["p90_ms"]) for r in rows}
    for count in sorted({r["busy"] for r in rows}):
        beside, two = (0.0, ""), (0.0, "")
        for (workload, quantity, peer, threads, b), value in p90.items():
            if peer != "cpgen" or b != count:
                continue
            jax = p90.get((workload, quantity, "jax", threads, b))
            if jax is not None:
                beside = max(beside, (value / jax, f"{workload} {quantity}, {threads} threads"))
            if threads == 2:
                two = max(two, (value / p90[workload, quantity, peer, 1, b], f"{workload} {quantity}"))
        print(f"{count} busy: at most {beside[0]:.2f} of JAX's ({beside[1]}); two threads {two[0]:.2f} of one ({two[1]})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute in place of six")
    parser.add_argument("--seconds", type=float, help="of all calls together")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2, 4, 8], help="numbers of busy processes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/load.csv")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
        return
    options.seconds = options.seconds or (40.0 if options.quick else 300.0)
    with options.out.open("w", newline="") as file:
        summary(measure(options, file))


if __name__ == "__main__":
    main()
