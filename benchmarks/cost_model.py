"""Predicted operations and accesses of programs beside counts of callgrind: ``python benchmarks/cost_model.py``.

Each program of the catalogue is written as a bundle (one row at a time, built-in mathematics), compiled without
vectorisation, and one call of it is counted by valgrind's callgrind: instructions, and reads and writes of memory.
Prints both beside the prediction and writes results/cost_model.csv.  What the prediction is used for is to compare
programs of one model, so the last line says how often it orders a pair of them as the count does.
"""

from __future__ import annotations

import csv
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from cpgen.errors import CpgenError  # noqa: E402
from cpgen.ir.cost import operations  # noqa: E402
from cpgen.loops import plan  # noqa: E402
from tests.catalogue import CATALOGUE, Entry  # noqa: E402

PROGRAMS = ("value", "gradient", "diagonal:cp", "diagonal:hutchinson_plain", "diagonal:hutchinson")
FLAGS = ["-std=c99", "-O1", "-fno-inline", "-fno-tree-vectorize", "-ffp-contract=off", "-g"]
OUT = ROOT / "benchmarks/results/cost_model.csv"


def counted(folder: Path, function: str) -> tuple[int, int]:
    """Instructions, and reads and writes of memory, of all calls of a function and what it calls."""
    out = folder / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", "--cache-sim=yes", f"--callgrind-out-file={out}"]
    subprocess.run([*command, f"--toggle-collect={function}", str(folder / "example")], check=True, capture_output=True)
    text = out.read_text()
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)
    totals = re.search(r"^(?:totals|summary): (.*)$", text, re.MULTILINE)
    assert events is not None and totals is not None
    found = dict(zip(events[1].split(), map(int, totals[1].split()), strict=False))
    return found["Ir"], found["Dr"] + found["Dw"]


def check(entry: Entry) -> list[list[object]]:
    with tempfile.TemporaryDirectory(prefix="cpgen-cost-") as place:
        folder = Path(place) / "bundle"
        est = cp.compile(entry.build(), wrt=list(entry.wrt), backend="interpreter", programs=())
        cp.bundle(est, folder, programs=PROGRAMS, prefix="m", vectors=entry.arrays())
        sources = [str(p) for p in sorted(folder.glob("*.c"))]
        subprocess.run(["gcc", *FLAGS, *sources, "-o", str(folder / "example"), "-lm"], check=True)
        main = (folder / "main.c").read_text()
        lines = []
        for key in PROGRAMS:
            program = est.derive(key).program
            block = main[main.index(f"static int run_{program.name}(void)") :]
            rows, columns = (int(re.search(rf"\.{n} = (\d+)", block)[1]) for n in ("n_rows", "columns"))  # type: ignore[index]
            planned = plan(program, "float64", 1, compact=True)
            # the example calls it twice with the same arguments: in the self-test and by itself
            instructions, accesses = (count // 2 for count in counted(folder, f"m_{program.name}_run"))
            predicted = operations(program, rows, columns), planned.accesses(rows, columns)
            lines.append([entry.name, key, rows, columns, predicted[0], instructions, predicted[1], accesses])
        return lines


def main() -> int:
    if shutil.which("valgrind") is None or shutil.which("gcc") is None:
        print("this needs valgrind and gcc (Debian and Ubuntu: apt install valgrind gcc)")
        return 3
    head = ["model", "program", "rows", "columns", "operations", "instructions", "accesses", "reads and writes"]
    lines: list[list[object]] = []
    for name in sys.argv[1:] or CATALOGUE:
        try:
            lines += check(CATALOGUE[name])
        except CpgenError as problem:
            print(f"{name}: {problem}")
            continue
        for line in lines[-len(PROGRAMS) :]:
            print(*line, sep="\t", flush=True)
    with OUT.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *lines])
    table = np.array([line[4:] for line in lines], dtype=float)
    for what, predicted, count in (("instructions per operation", 0, 1), ("accesses", 2, 3)):
        ratio = table[:, count] / np.maximum(table[:, predicted], 1)
        low, middle, high = np.percentile(ratio, [10, 50, 90])
        print(f"{what}, counted / predicted: median {middle:.2f}, 10 to 90 percent {low:.2f} to {high:.2f}")
    agreed = pairs = 0
    for start in range(0, len(lines), len(PROGRAMS)):
        for a, b in itertools.combinations(range(start, start + len(PROGRAMS)), 2):
            if max(table[a, 1], table[b, 1]) > 1.2 * min(table[a, 1], table[b, 1]):
                pairs += 1
                agreed += (table[a, 0] < table[b, 0]) == (table[a, 1] < table[b, 1])
    print(f"pairs of programs whose counts differ by more than a fifth: {pairs}, ordered as predicted: {agreed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
