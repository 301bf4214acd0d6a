"""Random models from the whole language: what became of each.

    python benchmarks/random_models.py --models 2000 --native-every 10 --seed 0 [--processes 2]

Model number i of a seed is the same everywhere; rerun one with --first i --models 1.  Prints counts and every failure,
writes benchmarks/results/random_models.csv, and exits 1 if any number was wrong or anything but a cpgen error was raised.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.random.check import Outcome, outcome  # noqa: E402
from tests.random.illegal import ILLEGAL, attempt  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--native-every", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    bad = 0
    begun = time.monotonic()
    numbers = range(args.first, args.first + args.models)
    one = partial(checked, seed=args.seed, native_every=args.native_every)
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        outcomes = pool.map(one, numbers, chunksize=5)
        bad = report(zip(numbers, outcomes, strict=True), args.seed, counts, begun)
    for (status, kind), count in sorted(counts.items()):
        print(f"{count:6d}  {status:8s} {kind}")
    total = Counter(status for (status, _), count in counts.items() for _ in range(count))
    print(", ".join(f"{s} {total[s]}" for s in ("ok", "refused", "skipped", "wrong", "crashed")))
    results = ROOT / "benchmarks" / "results" / "random_models.csv"
    with results.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "first", "models", "status", "kind", "count"])
        for (status, kind), count in sorted(counts.items()):
            writer.writerow([args.seed, args.first, args.models, status, kind, count])
    return 1 if bad else 0


def checked(number: int, seed: int, native_every: int) -> Outcome:
    """Model ``number``, or in every twentieth place a deliberate mistake."""
    rng = random.Random(f"{seed}:{number}")
    if number % 20 == 19:
        return attempt(rng.choice(list(ILLEGAL)), rng)
    return outcome(rng, native=native_every > 0 and number % native_every == 0)


def report(
    found: Iterable[tuple[int, Outcome]], seed: int, counts: Counter[tuple[str, str]], begun: float
) -> int:
    """Count outcomes as they come, print failures; returns how many there were."""
    bad = 0
    for done, (number, result) in enumerate(found, 1):
        kind = result.detail.split(":")[0] if result.status in ("refused", "crashed", "wrong") else result.detail
        counts[result.status, kind] += 1
        if result.status in ("wrong", "crashed"):
            bad += 1
            print(f"{result.status}: --seed {seed} --first {number} --models 1: {result.detail[:300]}", flush=True)
        if done % 100 == 0:
            print(f"{done} models, {time.monotonic() - begun:.0f} s", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
