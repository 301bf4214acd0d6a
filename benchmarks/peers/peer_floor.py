"""The floor: the products that a gradient cannot avoid, through OpenBLAS, and its transcendental calls in vectors."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.methods import Method, Methods
from benchmarks.peers.workloads import Workload

SOURCE = """
#include <math.h>
void calls(const REAL *x, REAL *y, long n) {
#pragma omp parallel for simd schedule(static) num_threads(THREADS) if(n > 4096)
  for (long i = 0; i < n; i++) y[i] = FUNCTION(x[i]);
}
"""


def methods(workload: Workload, real: str, threads: int) -> Methods:
    rng = np.random.default_rng(7)
    products = [
        (rng.normal(size=(m, k)).astype(real), rng.normal(size=(k, n)).astype(real), np.empty((m, n), real))
        for m, k, n in workload.products
    ]
    name, count = workload.calls
    x, y = rng.normal(size=count).astype(real), np.empty(count, real)
    calls = _vector(
        name + ("f" if real == "float32" else ""), "float" if real == "float32" else "double", threads
    )
    pointers = x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p)

    def floor() -> None:
        for a, b, c in products:
            np.dot(a, b, out=c)
        if count:
            calls(*pointers, ctypes.c_long(count))

    if products or count:
        yield Method("floor", f"{len(products)} products, {count} {name}", floor, lambda a: None)


def _vector(function: str, kind: str, threads: int) -> Any:
    """``function`` over an array, compiled for the vector unit of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "calls.c"), Path(folder, "calls.so")
        text = SOURCE.replace("REAL", kind).replace("FUNCTION", function).replace("THREADS", str(threads))
        source.write_text(text)
        flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC"]
        # linked without -ffast-math, which would make the whole process flush subnormal numbers
        subprocess.run(["gcc", *flags, "-c", str(source), "-o", f"{source}.o"], check=True)
        subprocess.run(
            ["gcc", "-shared", f"{source}.o", "-o", str(library), "-fopenmp", "-lmvec", "-lm"], check=True
        )
        return ctypes.CDLL(str(library)).calls
