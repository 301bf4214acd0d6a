"""Random models from the whole language: what became of each.

    python benchmarks/random_models.py --models 2000 --native-every 10 --seed 0

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
    args = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    bad: list[tuple[int, Outcome]] = []
    begun = time.monotonic()
    for number in range(args.first, args.first + args.models):
        rng = random.Random(f"{args.seed}:{number}")
        if number % 20 == 19:
            found = attempt(rng.choice(list(ILLEGAL)), rng)
        else:
            found = outcome(rng, native=args.native_every > 0 and number % args.native_every == 0)
        kind = found.detail.split(":")[0] if found.status in ("refused", "crashed", "wrong") else found.detail
        counts[found.status, kind] += 1
        if found.status in ("wrong", "crashed"):
            bad.append((number, found))
            print(
                f"{found.status}: --seed {args.seed} --first {number} --models 1: {found.detail[:300]}",
                flush=True,
            )
        if (number + 1) % 200 == 0:
            print(f"{number + 1} models, {time.monotonic() - begun:.0f} s", flush=True)
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


if __name__ == "__main__":
    sys.exit(main())
