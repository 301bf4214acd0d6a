"""Run the suite: ``python3 run.py bench`` for everything, ``python3 run.py bench W4`` for one workload.

    python -m benchmarks.peers [W4 W2/10 ...] [--seconds 40] [--output DIRECTORY]

Every peer runs in a process of its own for each thread count.  A workload is opened by all of them, their answers are
compared, and only then are the calls timed, one short batch of each in turn, round after round.  Writes peers.csv,
peers-errors.csv, peers.md and peers.svg; exits with 1 if an answer disagrees.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import claims, table
from benchmarks.peers.methods import BOTH
from benchmarks.peers.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("cpgen", "fused", "jax", "torch", "backpack", "casadi", "sympy", "floor")
TOLERANCE = {"float64": 1e-8, "float32": 2e-3}  # relative L2 distance between answers
ROUNDS = (3, 25)
PAUSE = 0.002  # seconds between batches, for the threads of the last one to go to sleep


class Process:
    """A peer at work elsewhere, spoken to in lines of JSON."""

    def __init__(self, peer: str, threads: int) -> None:
        self.peer, self.threads = peer, threads
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
        environment = {**os.environ, **dict.fromkeys(variables, str(threads))}
        # threads that wait spin for less than PAUSE, so that they wake at once in a batch and are asleep in another's
        environment.setdefault("GOMP_SPINCOUNT", "300000")
        environment.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")
        if peer == "jax" and threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        command = [sys.executable, "-m", "benchmarks.peers.worker", peer, str(threads)]
        if peer == "jax" and threads == 1:
            core = max(os.sched_getaffinity(0))
            command = ["taskset", "-c", str(core), *command]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            text=True,
            cwd=ROOT,
        )
        self.alive = self._read() is not None

    def ask(self, do: str, **arguments: Any) -> dict[str, Any] | None:
        """The reply; None if the process has died."""
        if not self.alive:
            return None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.alive = False
            return None
        return self._read()

    def _read(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.alive = False
            self.log.seek(0)
            print(f"  {self.peer}: {self.log.read()[-400:].strip()}", file=sys.stderr)
            return None
        reply: dict[str, Any] = json.loads(line)
        return reply

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


@dataclass
class Entry:
    """One call of one peer."""

    process: Process
    index: int
    quantity: str
    label: str
    scale: float
    stochastic: bool
    first: float = 0.0
    distance: float | None = None  # from the reference answer
    times: list[float] = field(default_factory=list)


def bench(
    name: str, real: str, processes: list[Process], seconds: float
) -> tuple[list[table.Row], list[str]]:
    """Open, compare, time.  Returns the rows of the table and what went wrong."""
    trouble: list[str] = []
    entries: list[Entry] = []
    if WORKLOADS[name].single:
        processes = [p for p in processes if p.threads == 1]
    for process in processes:
        reply = process.ask("open", workload=name, real=real)
        if reply is None or "error" in reply or reply["failed"]:
            why = "died" if reply is None else reply.get("error") or reply["failed"]
            trouble.append(f"{name} {real}: {process.peer} could not: {why.strip().splitlines()[-1]}")
        for index, method in enumerate([] if reply is None else reply.get("methods", [])):
            entries.append(Entry(process, index, *method))
    with tempfile.TemporaryDirectory() as folder:
        entries, wrong = _compare(name, real, processes, entries, Path(folder))
    trouble += wrong
    rounds, end = 0, time.monotonic() + seconds
    while rounds < ROUNDS[0] or (rounds < ROUNDS[1] and time.monotonic() < end):
        for entry in entries:
            if (
                len(entry.times) >= 3
                and entry.first / entry.scale > 0.5
                or len(entry.times) == 1
                and _long(entry)
            ):
                continue
            time.sleep(PAUSE)
            reply = entry.process.ask("time", index=entry.index)
            if reply is not None and "error" not in reply:
                entry.times.append(reply["seconds"])
        rounds += 1
    rows = [
        table.Row(name, real, e.process.threads, e.quantity, e.process.peer, e.label, *table.spread(e.times),
                  len(e.times), e.scale, e.distance)
        for e in entries if e.times
    ]  # fmt: skip
    return rows, trouble


def _long(entry: Entry) -> bool:
    return entry.first / entry.scale > 1.0


def _compare(
    name: str, real: str, processes: list[Process], entries: list[Entry], folder: Path
) -> tuple[list[Entry], list[str]]:
    """Keep the entries whose answers agree with cpgen's (a sample's with cpgen's product with the probe)."""
    trouble: list[str] = []
    expected: dict[str, Any] = {}
    own = next((p for p in processes if p.peer == "cpgen"), None)
    if (
        own is not None
        and own.ask("references", workload=name, real=real, path=str(folder / "own.npz")) == {}
    ):
        with np.load(folder / "own.npz") as found:
            expected |= {key: found[key] for key in found.files}
    kept = []
    for k, entry in enumerate(entries):
        path = folder / f"{k}.npy"
        reply = entry.process.ask("answer", index=entry.index, path=str(path))
        where = f"{name} {real}: {entry.process.peer}, {entry.quantity}, {entry.label}"
        if reply is None or "error" in reply:
            why = "died" if reply is None else reply["error"].strip().splitlines()[-1]
            trouble.append(f"{where}: {why}")
            continue
        entry.first = reply["seconds"]
        if reply["long"]:
            entry.times.append(entry.first)
        if reply["answer"]:
            answer = np.load(path)
            exact = "diagonal" if "sample" in entry.quantity or entry.quantity == "xdiag" else entry.quantity
            exact = "trace" if "trace" in entry.quantity and entry.stochastic else exact
            reference = expected.get(exact if entry.stochastic else entry.quantity)
            if entry.stochastic and entry.quantity == BOTH:
                reference = None  # the sample's distance is that of the sample alone
            if reference is None and not entry.stochastic:
                expected[entry.quantity] = answer
            elif reference is not None:
                reference = reference[: answer.size]
                size = float(np.linalg.norm(reference)) or 1.0
                entry.distance = float(np.linalg.norm(answer - reference)) / size
                if not entry.stochastic and not entry.distance <= TOLERANCE[real]:
                    trouble.append(f"{where}: DISAGREES by {entry.distance:.2g}")
                    continue
        kept.append(entry)
    if "diagonal" in expected and own is not None:
        for method in ("hutchinson", "curvature propagation"):
            if method in expected:
                size = np.linalg.norm(expected["diagonal"])
                kept_error = float(np.linalg.norm(expected[method] - expected["diagonal"]) / size)
                ERRORS[name, real, method] = kept_error
    return kept, trouble


ERRORS: dict[tuple[str, str, str], float] = {}  # relative error of the diagonal by 64 samples


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py bench", description="cpgen beside its peers")
    parser.add_argument(
        "workloads", nargs="*", help="names or their beginnings, such as W4 or W2/10; default: all"
    )
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="time to spend on the batches of one workload"
    )
    parser.add_argument(
        "--output", type=Path, help="where to write; default: benchmarks/results for a whole run"
    )
    parser.add_argument("--update", action="store_true", help="keep the other workloads that --output holds")
    parser.add_argument("--peers", default=",".join(PEERS), help="only these, by commas")
    parser.add_argument("--threads", type=int, nargs="*", default=[2, 1], help="thread counts")
    options = parser.parse_args()
    chosen = [
        w for w in WORKLOADS
        if not options.workloads or any(w == o or w.startswith(o + "/") for o in options.workloads)
    ]  # fmt: skip
    if not chosen:
        parser.error(f"no such workload; there are {', '.join(WORKLOADS)}")
    peers = options.peers.split(",")
    processes = [Process(peer, threads) for threads in options.threads for peer in PEERS if peer in peers]
    rows: list[table.Row] = []
    trouble: list[str] = []
    if options.update:
        rows, errors = table.read(options.output)
        rows = [r for r in rows if r.workload not in chosen]
        ERRORS.update({key: error for key, error in errors.items() if key[0] not in chosen})
    output = options.output or (None if options.workloads else ROOT / "benchmarks/results")
    try:
        for name in chosen:
            for real in WORKLOADS[name].reals:
                print(f"{name} {real}", file=sys.stderr, flush=True)
                found, wrong = bench(name, real, processes, options.seconds)
                rows += found
                trouble += wrong
                print("\n".join(wrong), file=sys.stderr, flush=True)
                if output:
                    table.write(output, rows, ERRORS, trouble)
    finally:
        for process in processes:
            process.end()
    order = list(WORKLOADS)
    rows.sort(key=lambda r: order.index(r.workload))
    if output:
        table.write(output, rows, ERRORS, trouble)
        judged = ["", *claims.text(rows, ERRORS), "", *table.brief(rows), ""]
        with (output / "peers.md").open("a") as file:
            file.write("\n".join(judged))
    print(
        "\n".join([table.text(rows, ERRORS, trouble), "", *claims.text(rows, ERRORS), "", *table.brief(rows)])
    )
    return 1 if any("DISAGREES" in line for line in trouble) else 0


if __name__ == "__main__":
    sys.exit(main())
