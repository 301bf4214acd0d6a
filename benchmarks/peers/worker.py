"""One peer in a process of its own: reads one JSON command a line, answers with one JSON line.

    python -m benchmarks.peers.worker <peer> <threads>

Commands: ``open`` a workload (its methods become available), ``answer`` a method into a file, ``time`` a method.  A
process for each peer and thread count keeps the thread pools of the libraries from disturbing each other.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

import numpy as np

from benchmarks.peers.methods import Method
from benchmarks.peers.workloads import WORKLOADS

LONG = 8.0  # seconds; a call that takes more is not repeated
BATCH = 0.004  # seconds that one timed batch should last at least


class Worker:
    def __init__(self, peer: str, threads: int) -> None:
        self.module: Any = importlib.import_module(f"benchmarks.peers.peer_{peer}")
        self.threads = threads
        self.methods: list[Method] = []
        self.calls: list[int] = []

    def open(self, workload: str, real: str) -> dict[str, Any]:
        self.methods, failed = [], ""
        try:
            for method in self.module.methods(WORKLOADS[workload], real, self.threads):
                self.methods.append(method)
        except Exception:
            failed = traceback.format_exc(limit=3)
        self.calls = [1] * len(self.methods)
        found = [[m.quantity, m.label, m.scale, m.stochastic] for m in self.methods]
        return {"methods": found, "failed": failed}

    def answer(self, index: int, path: str) -> dict[str, Any]:
        """The answer and, from the second call on, how many calls fill a batch."""
        method = self.methods[index]
        start = time.perf_counter()
        answer = method.answer(method.call())
        first = time.perf_counter() - start
        if answer is not None:
            np.save(path, answer)
        if first > LONG:
            return {"answer": answer is not None, "seconds": first * method.scale, "long": True}
        start = time.perf_counter()
        method.call()
        first = time.perf_counter() - start
        self.calls[index] = max(1, int(BATCH / first))
        if self.calls[index] > 1:
            self.calls[index] = max(1, int(BATCH / (self.time(index)["seconds"] / method.scale)))
        return {"answer": answer is not None, "seconds": first * method.scale, "long": False}

    def time(self, index: int) -> dict[str, Any]:
        """Seconds a call, over one batch after a call that warms the caches."""
        method, count = self.methods[index], self.calls[index]
        call = method.call
        if count > 1:
            call()
        start = time.perf_counter()
        for _ in range(count):
            call()
        return {"seconds": (time.perf_counter() - start) / count * method.scale}

    def references(self, workload: str, real: str, path: str) -> dict[str, Any]:
        np.savez(path, **self.module.references(WORKLOADS[workload], real, self.threads))
        return {}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    replies.write("{}\n")
    replies.flush()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(worker, command.pop("do"))(**command)
        except Exception:
            reply = {"error": traceback.format_exc(limit=3)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
