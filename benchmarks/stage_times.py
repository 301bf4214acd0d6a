"""Where the time of a workload goes, stage by stage: ``python -m benchmarks.stage_times W1/10000:diagonal W5/784:trace``.

The program is compiled with its stages kept apart (the mathematics stays inlined), called for three seconds on one thread
under Linux's perf, and the samples are counted by function.  Prints a table for each and writes results/stage_times.md.
Quantities: value, gradient, diagonal, trace.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cpgen as cp
from benchmarks.peers.workloads import WORKLOADS
from cpgen.ir.call import Call
from cpgen.ir.noise import IDENTITY
from cpgen.native import build, find_compiler

OUT = Path(__file__).parent / "results/stage_times.md"
APART = ("-g", "-fno-inline-functions", "-fno-inline-small-functions", "-fno-inline-functions-called-once")
SECONDS = 3.0


def bound(name: str, what: str) -> tuple[Any, Any]:
    """The program of a workload, compiled for a profile, and a call of it on the workload's data."""
    workload = WORKLOADS[name]
    arrays = workload.data("float64")
    est = cp.compile(workload.build(), wrt=list(workload.leaves), programs=())
    loaded = est.loaded(f"{what}:exact" if what in ("diagonal", "trace") else what)
    given, rows = est.core.arrays(loaded, arrays)
    compiler = find_compiler().serial()
    compiler = replace(compiler, flags=compiler.flags + APART)
    module = build(est.graph.name, [loaded.program], tile=1 if workload.single else None, compiler=compiler)
    columns = loaded.derived.columns or 0
    program = module[loaded.program.name]
    numbers = Call(rows or 1, columns, design=IDENTITY, row_scale=1.0 / (rows or 1), threads=1)
    call = program.bind(given, numbers)
    return module, call


def work(name: str, what: str) -> None:
    """Call the program for some seconds: what perf watches."""
    _, call = bound(name, what)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        call()


def comments(source: str) -> dict[str, str]:
    """What the comment above each function of the C text says, on one line."""
    found = re.findall(r"/\*((?:[^*]|\*(?!/))*)\*/\s*(?:SHARED|static)[^;{(]*?(\w+)\(", source)
    return {function: " ".join(text.replace("*", " ").split()) for text, function in found}


def profile(name: str, what: str) -> list[tuple[float, str, str]]:
    """Share of the samples (percent), function and what it computes, largest first."""
    module, _ = bound(name, what)  # compiled before perf looks
    with tempfile.TemporaryDirectory(prefix="cpgen-profile-") as place:
        data = str(Path(place) / "perf.data")
        loop = [sys.executable, "-m", "benchmarks.stage_times", "--work", name, what]
        subprocess.run(["perf", "record", "-q", "-F", "2000", "-o", data, "--", *loop], check=True)
        library = module.files.name
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol", "--percent-limit", "0"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    # what Python needs to start and to compile is not the program's
    lines = re.findall(r"^\s*([\d.]+)%\s+(\S+)\s+\[\.\]\s+(\S+)", report, re.MULTILINE)
    ours = [line for line in lines if line[1].startswith(library) or "libm" in line[1]]
    own = [(float(share), symbol.partition(".")[0]) for share, _, symbol in ours]
    total = sum(share for share, _ in own)
    said = comments(module.files.source)
    return [(100 * share / total, symbol, said.get(symbol, "")) for share, symbol in own if share > 0.01 * total]


def main(wanted: list[str]) -> int:
    if shutil.which("perf") is None:
        print("this needs perf (Debian and Ubuntu: apt install linux-perf)")
        return 3
    text = ["# Where the time goes", ""]
    for item in wanted:
        name, _, what = item.partition(":")
        text += [f"## {name}, {what}, one thread", "", "| share | function | what it computes |", "|---|---|---|"]
        for share, function, meaning in profile(name, what):
            meaning = meaning if len(meaning) < 160 else meaning[:157] + "..."
            text.append(f"| {share:.1f} % | `{function}` | {meaning.replace('|', chr(92) + '|')} |")
        text.append("")
    OUT.write_text("\n".join(text))
    print("\n".join(text))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
    else:
        sys.exit(main(sys.argv[1:] or ["W1/10000:gradient", "W3/par/1024:gradient", "W5/784:trace"]))
