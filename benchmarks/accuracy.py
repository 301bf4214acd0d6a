"""How far the weight diagonal of a tanh network is from the truth, for every estimator.

    python benchmarks/accuracy.py

The network is 256-20-20-20-10 with softmax cross entropy (6190 parameters), the data 100 rows of scikit-learn's digits,
resampled bilinearly from 8x8 to 16x16.  Weights: random with standard deviation 0.1, and trained on all the digits.
Errors are relative L2 norms over all weights and biases together, the median over seeds with the 10 and 90 percent
quantiles; the reference is the complex-step derivative of a gradient written in NumPy, which shares nothing with cpgen.
Prints markdown tables and writes benchmarks/results/accuracy.csv; exits 1 if an answer that claims to be exact is not.
Needs scipy and scikit-learn.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402

Array = NDArray[np.floating]
Arrays = dict[str, Array]

SIZES = (256, 20, 20, 20, 10)
NAMES = tuple(f"{letter}{k}" for k in range(1, len(SIZES)) for letter in "Wb")
ROWS, SAMPLES, SEEDS = 100, (1, 4, 16, 64), 21
TRAINING_STEPS, OTHER_STEPS = 60, (10, 20, 100)
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Method:
    """A row of the table: ``run(samples, seed)`` gives the diagonal; ``repeats``: whether seeds and samples matter."""

    label: str
    kind: str
    repeats: bool
    run: Callable[[int, int], cp.Estimates]


@dataclass(frozen=True)
class Result:
    """Errors of one method with one number of samples, over seeds; ``columns`` that were evaluated."""

    method: Method
    samples: int
    columns: int
    exact: bool
    errors: Array

    def text(self, spread: bool) -> str:
        if self.exact:
            return f"exact ({self.columns})"
        middle = f"{np.median(self.errors):.2g}"
        if not spread or len(self.errors) == 1:
            return middle
        low, high = np.quantile(self.errors, (0.1, 0.9))
        return f"{middle} ({low:.2g} - {high:.2g})"


# Model and data


def model() -> cp.Model:
    m = cp.Model("tanh_network")
    axes = m.axes("n i h1 h2 h3 c", n=cp.ROWS, **dict(zip(("i", "h1", "h2", "h3", "c"), SIZES, strict=True)))
    n, layers = axes[0], axes[1:]
    y = m.input("y", n, layers[-1])
    node = m.input("x", n, layers[0])
    for k, (inner, out) in enumerate(zip(layers, layers[1:], strict=False), 1):
        node = cp.layers.dense(m, f"a{k}", node, m.param(f"W{k}", out, inner), m.param(f"b{k}", out))
        if k < len(SIZES) - 1:
            node = m.define(f"z{k}", (n, out), sp.tanh(node[n, out]))
    c = layers[-1]
    m.objective(
        cp.logsumexp(node[n, c], c) - cp.sum(y[n, c] * node[n, c], c), reduction="mean", convex_in=node
    )
    return m


def digits() -> tuple[Array, Array]:
    """All 1797 digits as (rows, 256) in 0..1, and their labels one-hot.

    Bilinear with aligned centres: new pixel j lies at (j + 1/2) / 2 - 1/2 on the old grid, the border is repeated.
    """
    pixels, labels = load_digits(return_X_y=True)
    at = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    weight = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(8)))
    images = np.einsum("ai,bj,nij->nab", weight, weight, pixels.reshape(-1, 8, 8) / 16)
    return images.reshape(-1, 256), np.eye(10)[labels]


def shapes() -> dict[str, tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for inner, out in zip(SIZES, SIZES[1:], strict=False):
        found += [(out, inner), (out,)]
    return dict(zip(NAMES, found, strict=True))


def flat(arrays: Arrays) -> Array:
    return np.concatenate([arrays[name].ravel() for name in NAMES])


def unflat(vector: Array) -> Arrays:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes().values()])[:-1]
    pieces = np.split(vector, ends)
    return {name: p.reshape(shape) for (name, shape), p in zip(shapes().items(), pieces, strict=True)}


def random_weights(deviation: float, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, deviation, shape) for name, shape in shapes().items()}


def trained_weights(est: cp.Estimator, x: Array, y: Array, steps: int) -> Arrays:
    """L-BFGS from random weights with cpgen's gradient; rounded to 4 digits, so that all machines get the same."""

    def both(vector: Array) -> tuple[float, Array]:
        value, gradient = est.value_and_gradient(x=x, y=y, **unflat(vector))
        return value, flat(gradient)

    found = minimize(
        both, flat(random_weights(0.1, 1)), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    return unflat(np.round(found.x, 4))


# The reference


def forward(weights: Arrays, x: Array) -> list[Array]:
    """Inputs of each layer, then the logits."""
    found = [x]
    for k in range(1, len(SIZES)):
        a = found[-1] @ weights[f"W{k}"].T + weights[f"b{k}"]
        found.append(a if k == len(SIZES) - 1 else np.tanh(a))
    return found


def reference_diagonal(weights: Arrays, x: Array, y: Array) -> Array:
    """diag(H) of the mean loss, to rounding: the imaginary part of a hand-written gradient along each unit vector.

    Squire & Trapp 1998.  A step in layer k moves one unit of that layer only, so the sweep starts there.
    """
    step = 1e-30
    inputs = forward(weights, x)
    total: list[float] = []
    for k in range(1, len(SIZES)):
        w, b = weights[f"W{k}"], weights[f"b{k}"]
        a = inputs[k - 1] @ w.T + b

        def second(unit: int, by: Array, k: int = k, a: Array = a) -> float:
            moved = a.astype(complex)
            moved[:, unit] += 1j * step * by
            zs = [moved]
            for j in range(k + 1, len(SIZES)):
                zs.append(np.tanh(zs[-1]))
                zs.append(zs[-1] @ weights[f"W{j}"].T + weights[f"b{j}"])
            e = np.exp(zs[-1] - zs[-1].real.max(axis=1, keepdims=True))
            delta = e / e.sum(axis=1, keepdims=True) - y
            for j in range(len(SIZES) - 1, k, -1):
                delta = (delta @ weights[f"W{j}"]) * (1 - zs[2 * (j - k) - 1] ** 2)
            return float((delta[:, unit] * by).sum().imag) / step / len(x)

        total += [second(u, inputs[k - 1][:, i]) for u in range(w.shape[0]) for i in range(w.shape[1])]
        total += [second(u, np.ones(len(x))) for u in range(w.shape[0])]
    return np.array(total)


def relative(found: Array, truth: Array) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


# The experiment


def methods(est: cp.Estimator, data: Arrays) -> list[Method]:
    def run(method: str, **options: object) -> Callable[[int, int], cp.Estimates]:
        return lambda k, seed: est.diagonal(samples=k, seed=seed, method=method, **options, **data)  # type: ignore[arg-type]

    sampled: dict[str, object] = {"design": "independent", "exact": False}
    return [
        Method("cp", "unbiased", True, run("cp")),
        Method("cp, independent columns", "unbiased", True, run("cp", **sampled)),
        Method("Hutchinson", "unbiased", True, run("hutchinson_plain", **sampled)),
        Method("S of 2012, whole graph", "unbiased", True, run("s", **sampled)),
        Method("T/U of 2012, whole graph", "unbiased", True, run("tu", **sampled)),
        Method("Gauss-Newton, sampled", "biased", True, run("gauss_newton", exact=False)),
        Method("Gauss-Newton, all columns", "biased", False, run("gauss_newton", exact=True)),
        Method("Becker-LeCun", "biased", False, run("becker_lecun")),
        Method("cp, all columns", "exact", False, run("cp", exact=True)),
    ]


def measure(method: Method, truth: Array) -> list[Result]:
    results = []
    for k in SAMPLES if method.repeats else (SAMPLES[0],):
        errors = []
        for seed in range(SEEDS if method.repeats else 1):
            found = method.run(k, seed)
            errors.append(relative(found.flat()[0], truth))
            if found.exact:
                break
        columns = max(e.samples for e in found.values())
        results.append(Result(method, k, columns, found.exact, np.array(errors)))
    return results


def check(est: cp.Estimator, data: Arrays, truth: Array) -> list[tuple[str, float, bool]]:
    """What is compared, the relative difference, and whether 1e-12 is promised: exact answers, computed another way."""
    columns = est.columns("diagonal")
    assert columns is not None
    order = 1 << (columns - 1).bit_length()

    def sampled(k: int, exact: bool | None) -> Array:
        return est.diagonal(samples=k, exact=exact, method="cp", **data).flat()[0]  # type: ignore[arg-type]

    def moved(position: int, step: float) -> Array:
        found = np.zeros(len(truth))
        found[position] = step
        return found

    chosen = np.sort(np.random.default_rng(0).choice(len(truth), 100, replace=False))
    exact, weights, step = sampled(1, True), flat(data), 1e-4
    products = [flat(est.hvp(unflat(moved(i, 1.0)), **data))[i] for i in chosen]
    differences = []
    for i in chosen[:10]:
        ends = [flat(est.gradient(**{**data, **unflat(weights + moved(i, s))}))[i] for s in (step, -step)]
        differences.append((ends[0] - ends[1]) / (2 * step))
    return [
        (f"{columns} unit columns - complex step of a NumPy gradient", relative(exact, truth), True),
        (
            f"samples={columns}, nothing else asked for - the same",
            relative(sampled(columns, None), truth),
            True,
        ),
        (f"{order} orthogonal columns, exact=False - the same", relative(sampled(order, False), truth), True),
        ("unit columns - 100 Hessian-vector products", relative(exact[chosen], np.array(products)), True),
        ("unit columns - 10 central differences", relative(exact[chosen[:10]], np.array(differences)), False),
        (f"{columns - 1} orthogonal columns, one short", relative(sampled(columns - 1, False), truth), False),
    ]


def accuracy(weights: Arrays, x: Array, y: Array) -> float:
    return float((forward(weights, x)[-1].argmax(1) == y.argmax(1)).mean())


def row_norms(est: cp.Estimator, data: Arrays, below: int) -> Array:
    """Norms of what each row adds to the first ``below`` entries of the diagonal."""
    norms = []
    for row in range(ROWS):
        one = {**data, "x": data["x"][row : row + 1], "y": data["y"][row : row + 1]}
        found = est.diagonal(exact=True, **one).flat()[0]  # type: ignore[arg-type]
        norms.append(np.linalg.norm(found[:below]) / ROWS)
    return np.array(norms)


def print_training(est: cp.Estimator, first: Arrays, x: Array, y: Array) -> None:
    """What training does to the error of one sample.

    The diagonal of the last layer is read at the logits, where it is known, so a Hessian that sits there is estimated
    well.  Below it, rows draw independent noise and their squared errors add, so with d_n what row n contributes the
    root mean square error is a product: (error of one row) (effective rows)^(-1/2) (sum |d_n| / |sum d_n|), where
    effective rows are (sum |d_n|)^2 / sum |d_n|^2 and the error of one row is relative to (sum |d_n|^2)^(1/2).
    """
    print(f"\nOne sample, after more or less training ({len(x)} rows; 0 steps: random weights).")
    print("Last layer: its share of the squared norm of the diagonal; cp finds that part exactly.")
    print("Below it, cp's error (rms) = one row x rows^(-1/2) x cancellation between rows.\n")
    header = ["steps", "training accuracy", "last layer", "cp", "Hutchinson", "Becker-LeCun"]
    header += ["cp below, rms", "one row", "effective rows", "cancellation"]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for steps in sorted((0, TRAINING_STEPS, *OTHER_STEPS)):
        weights = trained_weights(est, x, y, steps) if steps else random_weights(0.1, 0)
        data = {**first, **weights}
        truth = est.diagonal(exact=True, **data).flat()[0]  # type: ignore[arg-type]
        below = len(truth) - SIZES[-1] * (SIZES[-2] + 1)
        last = np.sum(truth[below:] ** 2) / np.sum(truth**2)
        found = {m.label: m for m in methods(est, data)}
        errors = []
        for label, seeds in (("cp", SEEDS), ("Hutchinson", SEEDS), ("Becker-LeCun", 1)):
            runs = [relative(found[label].run(1, s).flat()[0], truth) for s in range(seeds)]
            errors.append(f"{np.median(runs):.2g}")
        many = [found["cp"].run(1, s).flat()[0][:below] for s in range(10 * SEEDS)]
        rms = float(np.sqrt(np.mean([relative(values, truth[:below]) ** 2 for values in many])))
        norms = row_norms(est, data, below)
        cancellation = norms.sum() / np.linalg.norm(truth[:below])
        rows = norms.sum() ** 2 / np.sum(norms**2)
        factors = f"{rms:.2g} | {rms * rows**0.5 / cancellation:.2g} | {rows:.0f} | {cancellation:.2g}"
        share = accuracy(weights, x, y)
        print(f"| {steps} | {share:.3f} | {100 * last:.2g}% | {' | '.join(errors)} | {factors} |")


def print_table(table: dict[str, list[list[Result]]], spread: bool) -> None:
    header = [f"{name}, K={k}" for name in table for k in SAMPLES]
    print(f"\n| estimator | {' | '.join(header)} |")
    print(f"|---|{'---|' * len(header)}")
    for rows in zip(*table.values(), strict=True):
        method = rows[0][0].method
        cells = []
        for results in rows:
            texts = [r.text(spread) for r in results]
            cells += texts if method.repeats else texts * len(SAMPLES)
        label = f"{method.label} (biased)" if method.kind == "biased" else method.label
        print(f"| {label} | {' | '.join(cells)} |")


def main() -> int:
    est = cp.compile(model())
    images, labels = digits()
    first = {"x": images[:ROWS], "y": labels[:ROWS]}
    sets = {"trained": trained_weights(est, images, labels, TRAINING_STEPS), "random": random_weights(0.1, 0)}
    share = accuracy(sets["trained"], images, labels)
    print(f"Trained: {TRAINING_STEPS} L-BFGS steps, accuracy {share:.3f} on the {len(images)} training rows.")
    table: dict[str, list[list[Result]]] = {}
    bad = False
    for name, weights in sets.items():
        data = {**first, **weights}
        truth = reference_diagonal(weights, **first)
        print(f"\n{name} weights: exact from {est.columns('diagonal')} columns; relative L2 differences:")
        for what, error, promised in check(est, data, truth):
            print(f"  {'< 1e-12' if error < TOLERANCE else f'{error:.1g}'}  {what}")
            bad |= promised and error >= TOLERANCE
        table[name] = [measure(method, truth) for method in methods(est, data)]
    for name, rows in table.items():
        print_table({name: rows}, spread=True)
    print_table(table, spread=False)
    write(table)
    print_training(est, first, images, labels)
    return int(bad)


def write(table: dict[str, list[list[Result]]]) -> None:
    path = ROOT / "benchmarks" / "results" / "accuracy.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["weights", "estimator", "kind", "samples", "columns", "seeds", "median", "p10", "p90", "max"]
        )
        for name, rows in table.items():
            for r in (result for results in rows for result in results):
                spread = [np.median(r.errors), *np.quantile(r.errors, (0.1, 0.9)), r.errors.max()]
                numbers = ["<1e-12" if e < TOLERANCE else f"{e:.3g}" for e in spread]
                samples = r.samples if r.method.repeats else "any"
                writer.writerow(
                    [name, r.method.label, r.method.kind, samples, r.columns, len(r.errors), *numbers]
                )


if __name__ == "__main__":
    sys.exit(main())
