"""Time to C text, time in the C compiler and size of the text: they do not grow with the extents, and little with depth.

    python benchmarks/compile_time.py

Value, gradient and diagonal of a classifier 784-100-10, of one ten times as wide, and of a residual network of 50 layers,
each built into an empty cache.  The loading time includes the check of the build against the interpreter.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import sympy as sp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cpgen as cp  # noqa: E402

PROGRAMS = ("value", "gradient", "diagonal")


def classifier(inputs: int, hidden: int) -> cp.Model:
    m = cp.Model("classifier")
    n, i, h, c = m.axes("n i h c", n=cp.ROWS, i=inputs, h=hidden, c=10)
    x, y = m.input("x", n, i), m.input("y", n, c)
    W1, b1, W2, b2 = m.param("W1", h, i), m.param("b1", h), m.param("W2", c, h), m.param("b2", c)
    a = m.define("a", (n, h), cp.sum(W1[h, i] * x[n, i], i) + b1[h])
    z = m.define("z", (n, h), sp.tanh(a[n, h]))
    s = m.define("s", (n, c), cp.sum(W2[c, h] * z[n, h], h) + b2[c])
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    return m


def residual(layers: int, width: int = 16) -> cp.Model:
    m = cp.Model("residual")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=64, h=width, k=width, c=10)
    x, y = m.input("x", n, i), m.input("y", n, c)
    V, U = m.param("V", h, i), m.param("U", c, h)
    z = m.define("z0", (n, h), cp.sum(V[h, i] * x[n, i], i))
    for layer in range(1, layers + 1):
        W, b = m.param(f"W{layer}", h, k), m.param(f"b{layer}", h)
        inner = cp.sum(W[h, k] * z[n, k], k) + b[h]
        z = m.define(f"z{layer}", (n, h), z[n, h] + sp.tanh(inner))
    s = m.define("s", (n, c), cp.sum(U[c, h] * z[n, h], h))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    return m


def main() -> None:
    models = {
        "784-100-10": classifier(784, 100),
        "7840-1000-10": classifier(7840, 1000),
        "residual, 50 layers": residual(50),
    }
    print("| model | to text, s | compile, load and check, s | source, bytes | header | runtime headers |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CPGEN_CACHE_DIR"] = folder
        for name, model in models.items():
            start = time.perf_counter()
            est = cp.compile(model, programs=())
            files = {file: len(text.encode()) for file, text in est.source(PROGRAMS).items()}
            middle = time.perf_counter()
            est.load(*PROGRAMS)
            end = time.perf_counter()
            source, header = (next(s for f, s in files.items() if f == f"{model.name}.{e}") for e in "ch")
            rest = sum(files.values()) - source - header
            print(f"| {name} | {middle - start:.2f} | {end - middle:.2f} | {source} | {header} | {rest} |")


if __name__ == "__main__":
    main()
