"""What stays of models that were compiled to text and dropped: resident memory of one process over many of them.

    python benchmarks/memory_growth.py              # 500 models
    python benchmarks/memory_growth.py 200          # fewer
    python benchmarks/memory_growth.py --trace      # and the lines that allocated what is left after the first 50 (slow)

No two models are equal: names, extents, functions and constants differ.  Two libraries keep what they were asked for, up
to a bound: SymPy the last thousand answers of each of its functions, ``re`` its last 512 patterns.  The second figure is
taken with both emptied before each measurement: what it shows beyond zero, cpgen keeps.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import sympy as sp
from sympy.core.cache import clear_cache

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cpgen as cp  # noqa: E402

FIRST = 50  # models after which everything that is made once is there
FUNCTIONS = (sp.tanh, sp.sin, sp.exp, cp.softplus)
PROGRAMS = ("value", "gradient", "diagonal")
SHOWN = 12  # lines of a trace


def model(k: int) -> Any:
    """A layer whose names, extents, function and constants are those of number ``k``."""
    m = cp.Model(f"net_{k}")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3 + k % 5, h=2 + k % 7)
    x, w, b = m.input(f"x_{k}", n, i), m.param(f"W_{k}", h, i), m.param(f"b_{k}", h)
    z = m.define(f"z_{k}", (n, h), cp.sum(w[h, i] * x[n, i], i) + b[h])
    y = m.define(f"y_{k}", (n, h), FUNCTIONS[k % 4](z[n, h]) + sp.Rational(k + 3, 7) * z[n, h] ** 2)
    m.objective(cp.sum(y[n, h] ** 2, h) + sp.Rational(k, 1001))
    return m


def text(k: int) -> None:
    """Compile model ``k`` to C text and drop both."""
    wrt = [f"W_{k}", f"b_{k}"]
    cp.compile(model(k), wrt=wrt, programs=(), backend="interpreter").source(PROGRAMS)


def resident() -> int:
    """Bytes of this process in memory, after a collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def emptied() -> int:
    """The same without what SymPy and ``re`` remember."""
    clear_cache()
    re.purge()
    return resident()


def objects() -> Counter[str]:
    """How many objects of cpgen's own types there are."""
    kinds = (type(o) for o in gc.get_objects())
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if str(kind.__module__).startswith("cpgen"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="?", type=int, default=500)
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    last = arguments.models // 2 + FIRST  # the first half with the caches as they are, the second with both emptied
    for k in range(FIRST):
        text(k)
    before = resident()
    for k in range(FIRST, last):
        text(k)
    between = resident()
    print(f"{(between - before) / 1024 / (last - FIRST):.1f} KiB a model, caches of SymPy and re included")
    before, known = emptied(), objects()
    if arguments.trace:
        tracemalloc.start()
        first = tracemalloc.take_snapshot()
    for k in range(last, last + arguments.models // 2):
        text(k)
        emptied()
    after = emptied()
    count = arguments.models // 2
    print(f"{(after - before) / 1024 / count:.1f} KiB a model, both emptied")
    left = {kind: n for kind, n in (objects() - known).items() if n}
    print(f"objects of cpgen's types left by {count} models: {left or 'none'}")
    if arguments.trace:
        for found in tracemalloc.take_snapshot().compare_to(first, "lineno")[:SHOWN]:
            print(f"{found.size_diff / count:10.1f} bytes a model  {found.traceback}")


if __name__ == "__main__":
    main()
