"""Which weights and which pixels matter: the curvature of a network trained on handwritten digits.

    python examples/digits.py [--out FILE.png]

The network 64-32-10 (tanh, softmax cross entropy, mean over rows) is trained on scikit-learn's 1,797 handwritten digits
with cpgen's gradient and SciPy's L-BFGS.  Then:

1. the Hessian diagonal of all 2,410 weights, which the compiler proves to need no noise at all, beside Hutchinson's
   estimate from four vectors;
2. the curvature of the loss by each pixel of each image: from four noise columns, and exactly from ten (one a class);
3. a decision: prune weights by the saliency ``w**2 * H_ii / 2`` of LeCun, Denker & Solla ("Optimal brain damage", NIPS
   1989) or by magnitude, and see what the test accuracy says.

A picture of 1 and 2 is written to examples/output/digits.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp

Array = NDArray[np.floating]

PIXELS, HIDDEN, CLASSES = 64, 32, 10
WEIGHTS = ("W1", "b1", "W2", "b2")
# pixels are 0 .. 16; a weight decay of this size (on the mean loss) keeps the minimum finite
DECAY = 1e-3
TEST_ROWS = 450


def network() -> cp.Model:
    """Inputs ``x[n, i]`` and one-hot ``y[n, c]``; the objective is the mean cross entropy of row ``n``."""
    m = cp.Model("digits")
    n, i, h, c = m.axes("n i h c", n=cp.ROWS, i=PIXELS, h=HIDDEN, c=CLASSES)
    x, y = m.input("x", n, i), m.input("y", n, c)
    W1, b1 = m.param("W1", h, i), m.param("b1", h)
    W2, b2 = m.param("W2", c, h), m.param("b2", c)
    a = m.define("a", (n, h), cp.sum(W1[h, i] * x[n, i], i) + b1[h])
    z = m.define("z", (n, h), sp.tanh(a[n, h]))
    s = m.define("s", (n, c), cp.sum(W2[c, h] * z[n, h], h) + b2[c])
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    return m


model = network()


@dataclass(frozen=True)
class Data:
    """Images ``x[n, 64]`` in 0 .. 1 and labels ``y[n]``, for training and held out."""

    x: Array
    y: NDArray[np.int64]
    test_x: Array
    test_y: NDArray[np.int64]

    def arrays(self) -> dict[str, Array]:
        return {"x": self.x, "y": np.eye(CLASSES)[self.y]}


def load(seed: int = 0) -> Data:
    """scikit-learn's copy of the UCI test set of handwritten digits (Alpaydin & Kaynak 1998), shuffled and split."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    x, y = images[order] / 16.0, labels[order]
    return Data(x[TEST_ROWS:], y[TEST_ROWS:], x[:TEST_ROWS], y[:TEST_ROWS])


def train(est: cp.Estimator, data: Data, iterations: int = 150, seed: int = 0) -> dict[str, Array]:
    """Minimise the mean loss plus ``DECAY / 2 * |weights|**2`` by L-BFGS; returns the weights by name."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    start = {
        "W1": rng.normal(0, 1 / np.sqrt(PIXELS), (HIDDEN, PIXELS)),
        "b1": np.zeros(HIDDEN),
        "W2": rng.normal(0, 1 / np.sqrt(HIDDEN), (CLASSES, HIDDEN)),
        "b2": np.zeros(CLASSES),
    }
    arrays = data.arrays()

    def loss(flat: Array) -> tuple[float, Array]:
        value, gradient = est.value_and_gradient(**arrays, **unflatten(flat, start))
        return value + DECAY / 2 * float(flat @ flat), flatten(gradient) + DECAY * flat

    found = minimize(loss, flatten(start), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return unflatten(found.x, start)


def flatten(weights: Mapping[str, Array]) -> Array:
    return np.concatenate([weights[name].ravel() for name in WEIGHTS])


def unflatten(flat: Array, like: Mapping[str, Array]) -> dict[str, Array]:
    sizes = [like[name].size for name in WEIGHTS]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return {name: part.reshape(like[name].shape) for name, part in zip(WEIGHTS, parts, strict=True)}


def accuracy(weights: Mapping[str, Array], x: Array, y: NDArray[np.int64]) -> float:
    """The share of rows whose largest logit is the label."""
    hidden = np.tanh(x @ weights["W1"].T + weights["b1"])
    return float(np.mean(np.argmax(hidden @ weights["W2"].T + weights["b2"], axis=1) == y))


def prune(weights: Mapping[str, Array], saliency: Array, share: float) -> dict[str, Array]:
    """The weights with the ``share`` of least saliency set to zero."""
    flat = flatten(weights).copy()
    flat[np.argsort(saliency, kind="stable")[: int(share * flat.size)]] = 0.0
    return unflatten(flat, weights)


def relative_error(estimate: Array, exact: Array) -> float:
    return float(np.linalg.norm(estimate - exact) / np.linalg.norm(exact))


def inside(value: Array, stderr: Array, exact: Array) -> float:
    """The share of entries within two standard errors of the exact value."""
    return float(np.mean(np.abs(value - exact) <= 2 * stderr))


def draw(file: Path, weights: tuple[Array, Array], images: Array, pixels: tuple[Array, Array]) -> None:
    """Estimate and exact diagonal of W1 (one image a hidden unit), and of the pixels of some digits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = len(images)
    figure = pyplot.figure(figsize=(11, 8), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.0, 1.0))
    upper.suptitle("Hessian diagonal of W1[h, i], a tile a hidden unit: Hutchinson, 4 vectors (above), exact (below)")
    top = max(np.abs(w).max() for w in weights)
    for axes, diagonal in zip(upper.subplots(2, 1), weights, strict=True):
        tiles = diagonal.reshape(2, 16, 8, 8).transpose(0, 2, 1, 3).reshape(16, 128)
        picture = axes.imshow(tiles, cmap="RdBu_r", vmin=-top, vmax=top)
        axes.set_xticks(np.arange(-0.5, 128, 8), labels=[])
        axes.set_yticks(np.arange(-0.5, 16, 8), labels=[])
        axes.tick_params(length=0)
        axes.grid(color="0.7", linewidth=0.5)
    upper.colorbar(picture, ax=upper.axes, shrink=0.8)
    lower.suptitle("Curvature of the loss by pixel: image (top), 4 noise columns, exact (bottom)")
    grid = lower.subplots(3, shown)
    for k in range(shown):
        top = max(np.abs(p[k]).max() for p in pixels)
        grid[0, k].imshow(images[k].reshape(8, 8), cmap="gray_r")
        for row, values in enumerate(pixels):
            grid[row + 1, k].imshow(values[k].reshape(8, 8), cmap="RdBu_r", vmin=-top, vmax=top)
    for axes in grid.flat:
        axes.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main(out: Path) -> None:
    data = load()
    est = cp.compile(model, wrt=list(WEIGHTS))
    weights = train(est, data)
    print(f"trained: accuracy {accuracy(weights, data.x, data.y):.3f} on {len(data.x)} digits, "
          f"{accuracy(weights, data.test_x, data.test_y):.3f} on {len(data.test_x)} held out")

    arrays = {**data.arrays(), **weights}
    exact = est.diagonal(**arrays)
    sampled = est.diagonal(samples=4, method="hutchinson_plain", seed=0, **arrays)
    count, needed = flatten(weights).size, est.columns("diagonal")
    print(f"Hessian diagonal of {count} weights: exact with {needed} noise columns; Hutchinson's 4 vectors give")
    for name in WEIGHTS:
        e = sampled[name]
        print(
            f"  {name:>2}: relative error {relative_error(e.value, exact[name].value):.2f}, "
            f"{100 * inside(e.value, e.stderr, exact[name].value):.0f}% of entries within 2 stderr"
        )
    worst = int(np.argmax(exact["b1"].value))
    print(f"  b1[{worst}]: {sampled['b1'].value[worst]:.5f} +- {sampled['b1'].stderr[worst]:.5f}, "
          f"exactly {exact['b1'].value[worst]:.5f}")

    by_pixel = cp.compile(model, wrt=["x"], programs=["diagonal"])
    rows = [int(np.argmax(data.test_y == digit)) for digit in range(CLASSES)]
    images = data.test_x[rows]
    view = {**weights, "x": images, "y": np.eye(CLASSES)[data.test_y[rows]]}
    pixel_estimate = by_pixel.diagonal(samples=4, seed=0, **view)["x"]
    pixel_exact = by_pixel.diagonal(exact=True, **view)["x"]
    print(f"curvature by pixel of {len(rows)} held-out digits: {by_pixel.columns('diagonal')} columns are exact; "
          f"4 columns give relative error {relative_error(pixel_estimate.value, pixel_exact.value):.3f}")

    curvature, _ = exact.flat()
    flat = flatten(weights)
    # the weight decay is part of what was minimised, and of the saliency
    saliency = 0.5 * (curvature + DECAY) * flat**2
    estimated = 0.5 * (sampled.flat()[0] + DECAY) * flat**2
    print("accuracy on held-out digits after pruning, by")
    print("  share     magnitude  saliency  saliency by Hutchinson")
    for share in (0.5, 0.7, 0.8, 0.9):
        pruned = [prune(weights, by, share) for by in (np.abs(flat), saliency, estimated)]
        print(f"  {share:.0%} " + "".join(f"{accuracy(w, data.test_x, data.test_y):11.3f}" for w in pruned))

    draw(out, (sampled["W1"].value, exact["W1"].value), images, (pixel_estimate.value, pixel_exact.value))
    print(f"picture: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "output" / "digits.png")
    main(parser.parse_args().out)
