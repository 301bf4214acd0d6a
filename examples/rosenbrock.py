"""Rosenbrock's valley three ways, against SciPy's own derivatives.

    python examples/rosenbrock.py

1. two variables as a plain SymPy expression: gradient and Hessian against ``scipy.optimize.rosen_der`` and
   ``rosen_hess``, and Newton's method on the compiled Hessian;
2. ten variables, the same way: the expression is written out, one symbol a variable (from this start both methods find
   the second minimum, near u0 = -1, where f is about 4);
3. a thousand variables in index notation: the C does not grow with their number, and the diagonal is exact without any
   noise because the compiler sees that every curved term is read where it stands.
"""

from __future__ import annotations

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess

import cpgen as cp

Array = NDArray[np.floating]


def written_out(variables: int) -> tuple[sp.Expr, list[sp.Symbol]]:
    """Rosenbrock's function of ``u0 .. u<n-1>`` and its variables."""
    u = list(sp.symbols(f"u:{variables}"))
    f = sum(100 * (u[k + 1] - u[k] ** 2) ** 2 + (1 - u[k]) ** 2 for k in range(variables - 1))
    return f, u


def indexed(variables: int) -> cp.Model:
    """The same as a model of one vector ``u``."""
    m = cp.Model("rosenbrock")
    k, j = m.axes("k j", k=variables, j=variables - 1)
    u = m.param("u", k)
    m.objective(cp.sum(100 * (u[j + 1] - u[j] ** 2) ** 2 + (1 - u[j]) ** 2, j))
    return m


expression, symbols = written_out(2)
model = indexed(1000)


def by_name(point: Array) -> dict[str, float]:
    return {f"u{k}": float(value) for k, value in enumerate(point)}


def newton(est: cp.Estimator, start: Array, steps: int = 100) -> tuple[Array, int]:
    """Newton's method with halved steps; returns the point and the number of steps.

    Where the Hessian is not positive definite its eigenvalues are replaced by their sizes.
    """
    point = start.copy()
    for step in range(steps):
        at = by_name(point)
        gradient = np.array([float(g) for g in est.gradient(**at).values()])
        if np.linalg.norm(gradient) < 1e-10:
            return point, step
        values, vectors = np.linalg.eigh(est.hessian(**at).matrix())
        move = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-8))
        size = 1.0
        while rosen(point + size * move) > rosen(point) + 1e-4 * size * float(gradient @ move):
            size /= 2
        point = point + size * move
    return point, steps


def differences(est: cp.Estimator, point: Array) -> tuple[float, float]:
    """The largest difference from SciPy's gradient and Hessian, relative to their largest entries."""
    at = by_name(point)
    gradient = np.array([float(g) for g in est.gradient(**at).values()])
    hessian = est.hessian(**at).matrix()
    expected, expected_hessian = rosen_der(point), rosen_hess(point)
    return (
        float(np.max(np.abs(gradient - expected)) / np.max(np.abs(expected))),
        float(np.max(np.abs(hessian - expected_hessian)) / np.max(np.abs(expected_hessian))),
    )


def main() -> None:
    rng = np.random.default_rng(0)
    for variables in (2, 10):
        f, u = written_out(variables)
        est = cp.compile(f, wrt=u, programs=["value", "gradient", "hessian"])
        worst = np.max([differences(est, rng.normal(size=variables)) for _ in range(100)], axis=0)
        print(f"n = {variables}: 100 points, gradient within {worst[0]:.0e} and Hessian within {worst[1]:.0e} of SciPy's")
        start = np.tile([-1.2, 1.0], variables // 2)
        found, steps = newton(est, start)
        trust = minimize(rosen, start, jac=rosen_der, hess=rosen_hess, method="trust-exact")
        print(f"  Newton from {start[:2]}...: f = {rosen(found):.1e} after {steps} steps "
              f"(SciPy's trust-exact: {trust.fun:.1e} after {trust.nit})")

    est = cp.compile(model)
    point = rng.normal(size=1000)
    diagonal = est.diagonal(u=point)["u"]
    error = float(np.max(np.abs(diagonal.value - np.diag(rosen_hess(point)))) / np.max(diagonal.value))
    text = {n: len(cp.compile(indexed(n), programs=()).source()["rosenbrock.c"]) for n in (1000, 100_000)}
    print(f"n = 1000: diagonal within {error:.0e} of SciPy's, exact: {diagonal.exact}, {diagonal.samples} noise columns; "
          f"{text[1000]:,} characters of C, {text[100_000]:,} for n = 100,000")


if __name__ == "__main__":
    main()
