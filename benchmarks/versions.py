"""Two states of cpgen side by side: the same calls of the same workloads, by turns, in one run.

    python benchmarks/versions.py --before CHECKOUT [--threads 1 2] [--rounds 15] [--out FILE.csv] [workload ...]

CHECKOUT is another checkout of the project (``git worktree add``).  Workloads W1 to W8 of peers/workloads.py as each
checkout has them: value, gradient, one sample and the exact diagonal, as peers/peer_cpgen.py asks for them.  A round
calls both for a fifth of a second each, the first of the two by turns; a ratio is the median over rounds of now / before,
of the median call (below 1: now is faster), and beside it what one sample costs in gradients of the same state.  With two
processors at rest a ratio is good to about 2 percent, which ``--before .`` shows.  Answers that take more than two
seconds are left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "W1/1", "W1/10000", "W2/100", "W2/1000", "W3/in/1024", "W3/par/1", "W3/par/1024", "W4", "W5/100", "W6", "W7", "W8",
)  # fmt: skip
QUANTITIES = ("value", "gradient", "sample", "trace sample", "diagonal", "trace")
TURN = 0.2  # seconds
LONGEST = 2.0  # seconds of a call that is compared


def serve(workload: str, threads: int, quantities: str) -> None:
    """Say what can be asked, then answer "quantity seconds", a line each, by the seconds of the median call."""
    sys.path.insert(0, os.getcwd())
    out = os.fdopen(os.dup(1), "w")  # libraries may print
    os.dup2(2, 1)
    from benchmarks.peers import peer_cpgen
    from benchmarks.peers.workloads import WORKLOADS

    calls: dict[str, Any] = {}
    for method in peer_cpgen.methods(WORKLOADS[workload], "float64", threads):
        if method.quantity in quantities.split(","):
            calls[method.quantity] = method.call  # the last is the bound one where there is one
    for quantity, call in list(calls.items()):
        call()
        start = time.perf_counter()
        call()
        if time.perf_counter() - start > LONGEST:
            del calls[quantity]
    print(json.dumps(list(calls)), file=out, flush=True)
    for line in sys.stdin:
        quantity, seconds = json.loads(line)
        call, found = calls[quantity], []
        last = start = time.perf_counter()
        while last - start < seconds or len(found) < 3:
            call()
            now = time.perf_counter()
            found.append(now - last)
            last = now
        print(json.dumps(statistics.median(found)), file=out, flush=True)


class Served:
    """A process of one checkout that runs :func:`serve`."""

    def __init__(self, checkout: Path, workload: str, threads: int, quantities: str) -> None:
        command = [sys.executable, __file__, "--serve", workload, str(threads), quantities]
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.process = subprocess.Popen(
            command, cwd=checkout, env=kept, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.quantities: list[str] = self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a process of {self.process.args!r} ended")
        return json.loads(line)

    def seconds(self, quantity: str) -> float:
        assert self.process.stdin is not None
        print(json.dumps([quantity, TURN]), file=self.process.stdin, flush=True)
        return float(self.answer())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(before: Path, workload: str, threads: int, rounds: int, quantities: str) -> list[dict[str, Any]]:
    old, new = (Served(place, workload, threads, quantities) for place in (before, ROOT))
    shared = [q for q in new.quantities if q in old.quantities]
    times: dict[str, list[tuple[float, float]]] = {q: [] for q in shared}
    for k in range(rounds):
        for quantity in shared:
            if k % 2:
                then, now = old.seconds(quantity), new.seconds(quantity)
            else:
                now = new.seconds(quantity)
                then = old.seconds(quantity)
            times[quantity].append((then, now))
    old.end()
    new.end()
    lines = []
    for quantity, found in times.items():
        ratios = sorted(now / then for then, now in found)
        line = {
            "workload": workload,
            "quantity": quantity,
            "threads": threads,
            "ms before": f"{1e3 * statistics.median(t for t, _ in found):.4g}",
            "ms now": f"{1e3 * statistics.median(n for _, n in found):.4g}",
            "now / before": f"{statistics.median(ratios):.3f}",
            "least": f"{ratios[0]:.3f}",
            "most": f"{ratios[-1]:.3f}",
            "gradients before": "",
            "gradients now": "",
        }
        if quantity != "gradient" and "gradient" in times:
            for k, state in enumerate(("before", "now")):
                costs = [pair[k] / whole[k] for pair, whole in zip(found, times["gradient"], strict=True)]
                line[f"gradients {state}"] = f"{statistics.median(costs):.2f}"
        lines.append(line)
        print(json.dumps(line), flush=True)
    return lines


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quantities", default=",".join(QUANTITIES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("workloads", nargs="*")
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for workload in options.workloads or NAMES:
        for threads in options.threads:
            lines += compare(options.before.resolve(), workload, threads, options.rounds, options.quantities)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    worse = [line for line in lines if float(line["now / before"]) > 1.03]
    print(f"{len(lines)} ratios, {len(worse)} above 1.03")
    return 0


if __name__ == "__main__":
    sys.exit(main())
