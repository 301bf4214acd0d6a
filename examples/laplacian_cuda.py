"""The Laplacian of an energy at points that lie on a GPU, without copying them; on the CPU where there is none.

    python examples/laplacian_cuda.py [rows]

The energy is a softplus network with a quadratic well, as in score matching: E(x) = sum softplus(V softplus(W x + b) + c)
+ |x|^2 / 2.  Its Laplacian, one number a point, comes with a standard error from 8 noise columns, and exactly from one
forward tangent for each coordinate.  The exact one is held against central differences of the gradient.
"""

from __future__ import annotations

import sys

import numpy as np
import sympy as sp

import cpgen as cp
from cpgen.errors import EnvironmentProblem

INPUTS, HIDDEN = 32, 64


def energy() -> cp.Model:
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=INPUTS, h=HIDDEN, k=HIDDEN)
    x = m.input("x", n, i)
    W, b, V, c = m.param("W", h, i), m.param("b", h), m.param("V", k, h), m.param("c", k)
    a = m.define("a", (n, h), cp.sum(W[h, i] * x[n, i], i) + b[h])
    z = m.define("z", (n, h), sp.log(1 + sp.exp(a[n, h])))
    s = m.define("s", (n, k), cp.sum(V[k, h] * z[n, h], h) + c[k])
    m.objective(cp.sum(sp.log(1 + sp.exp(s[n, k])), k) + cp.sum(x[n, i] ** 2, i) / 2)
    return m


def points(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(rows, INPUTS)),
        "W": rng.normal(0, INPUTS**-0.5, (HIDDEN, INPUTS)),
        "b": rng.normal(0, 0.1, HIDDEN),
        "V": rng.normal(0, HIDDEN**-0.5, (HIDDEN, HIDDEN)),
        "c": rng.normal(0, 0.1, HIDDEN),
    }


def on_the_gpu(arrays: dict[str, np.ndarray]) -> dict[str, object] | None:
    """The arrays as CUDA tensors of PyTorch, or arrays of CuPy; None where neither can make them."""
    try:
        import torch

        if torch.cuda.is_available():
            return {name: torch.tensor(value, device="cuda") for name, value in arrays.items()}
    except ImportError:
        pass
    try:
        import cupy

        return {name: cupy.asarray(value) for name, value in arrays.items()}
    except Exception as problem:  # no CuPy, or no device: CuPy has many ways to say so
        print(f"no array library with a GPU here ({type(problem).__name__}); NumPy arrays will be copied")
        return None


def main(rows: int) -> int:
    arrays = points(rows)
    given: dict[str, object] = dict(arrays)
    try:
        est = cp.compile(energy(), wrt=["x"], programs=("trace",), target="cuda")
        given = on_the_gpu(arrays) or given
    except EnvironmentProblem as problem:
        print(f"computing on the CPU: {problem}")
        est = cp.compile(energy(), wrt=["x"], programs=("trace",))
    sampled = est.trace(samples=8, exact=False, seed=1, **given)
    exact = est.trace(exact=True, **given)
    print(f"backend: {exact.backend}")
    print(f"Laplacian of the first 3 points:  {np.round(exact.value[:3], 4)}, by {exact.method}")
    print(f"from 8 noise columns:             {np.round(sampled.value[:3], 4)} +- {np.round(sampled.stderr[:3], 4)}")
    inside = np.abs(sampled.value - exact.value) <= 3 * sampled.stderr
    print(f"within three standard errors: {inside.mean():.1%} of {rows} points")
    step, reference = 1e-5, np.zeros(3)
    for i in range(INPUTS):
        shifted = [{**arrays, "x": arrays["x"][:3] + sign * step * np.eye(INPUTS)[i]} for sign in (1, -1)]
        up, down = (est.gradient(**s)["x"][:, i] for s in shifted)
        reference += (up - down) / (2 * step)
    error = float(np.max(np.abs(exact.value[:3] - reference) / np.abs(reference)))
    print(f"relative error against differences of the gradient: {error:.1e}")
    return 0 if error < 1e-6 and inside.mean() > 0.9 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
