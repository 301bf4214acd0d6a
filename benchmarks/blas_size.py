"""From which size on a BLAS computes products of weights and rows faster than a program's own loops.

``python -m benchmarks.blas_size`` times, interleaved on one thread, one layer of equal width at both ends: its value (the
weights read forwards) and its gradient by the input (and transposed).  Each is computed by the program as it comes, by
its own loops in tiles of a vector and of 128 rows, and by OpenBLAS in tiles of 64 and 128 rows.  Prints the rates in
GF/s, which count the products alone, and writes results/blas_size.csv; LEAST_BLAS of cpgen/loops/products.py, WIDE_TILE
and BLAS_LANES of cpgen/loops/lower.py come from there.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import cpgen as cp
from cpgen.ir.call import Call
from cpgen.ir.nodes import Program
from cpgen.loops.strategy.base import LANES
from cpgen.native import build
from cpgen.native.blas import find_blas

OUT = Path(__file__).parent / "results/blas_size.csv"
WIDTHS = (128, 256, 512, 1024, 1280, 1536, 2048, 3072, 4096)
ROWS = (32, 128, 512)
PRODUCTS = {"value": 1, "gradient": 2}
WAYS = ("own", "own, a vector of rows", "own, 128 rows", "BLAS, 64 rows", "BLAS, 128 rows")


def layer(width: int) -> cp.Model:
    """E(x) = sum over h of (W x)[h]^2 / 2."""
    m = cp.Model("layer")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=width, h=width)
    x, weights = m.input("x", n, i), m.param("W", h, i)
    y = m.define("y", (n, h), cp.sum(weights[h, i] * x[n, i], i))
    m.objective(cp.sum(y[n, h] ** 2, h) / 2)
    return m


def ways(program: Program, real: str, arrays: dict[str, np.ndarray], rows: int) -> dict[str, Callable[[], object]]:
    """A call for each of WAYS; their results are compared."""
    blas = find_blas("openblas")
    made = {
        "own": build("layer", [program], real),
        "own, a vector of rows": build("layer", [program], real, LANES[real]),
        "own, 128 rows": build("layer", [program], real, 128),
        "BLAS, 64 rows": build("layer", [program], real, 64, blas=blas, least=1),
        "BLAS, 128 rows": build("layer", [program], real, 128, blas=blas, least=1),
    }
    assert tuple(made) == WAYS
    calls = {way: module[program.name].bind(arrays, Call(rows, threads=1)) for way, module in made.items()}
    results = [next(iter(call().values())).copy() for call in calls.values()]
    for result in results:
        assert np.allclose(result, results[0], rtol=1e-10 if real == "float64" else 1e-3)
    return dict(calls)


def fastest(calls: dict[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """Seconds of the fastest of many calls, one of each way in turn."""
    least = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for way, call in calls.items():
            start = time.perf_counter()
            call()
            least[way] = min(least[way], time.perf_counter() - start)
    return least


def measure(real: str, widths: Sequence[int], budget: float) -> list[list[str]]:
    """A line for each width, number of rows and quantity."""
    lines = []
    for width in widths:
        est = cp.compile(layer(width), wrt=["x"], real=real, programs=())
        for rows in ROWS:
            rng = np.random.default_rng(0)
            shapes = {"x": (rows, width), "W": (width, width)}
            arrays = {name: rng.normal(size=shape).astype(real) for name, shape in shapes.items()}
            for quantity, products in PRODUCTS.items():
                seconds = fastest(ways(est.derive(quantity).program, real, arrays, rows), budget)
                rates = [f"{2e-9 * products * rows * width**2 / seconds[way]:.1f}" for way in WAYS]
                lines.append([real, quantity, str(width), str(rows), *rates])
                print("  ".join(f"{item:>9}" for item in lines[-1]), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.blas_size")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--reals", nargs="+", default=("float64", "float32"))
    parser.add_argument("--budget", type=float, default=1.5, help="seconds for each line")
    options = parser.parse_args()
    lines = [line for real in options.reals for line in measure(real, options.widths, options.budget)]
    with OUT.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["real", "quantity", "width", "rows", *(f"GF/s, {way}" for way in WAYS)])
        out.writerows(lines)


if __name__ == "__main__":
    main()
