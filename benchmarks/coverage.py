"""How often ``value +- 2 stderr`` contains the truth.

    python benchmarks/coverage.py

Three models, 64 noise columns (fewer than an exact answer needs), 200 seeds, both designs; the truth is the exact
diagonal from unit columns.  Printed and written to benchmarks/results/coverage.csv: the share of (entry, seed) pairs
covered, the least and the median share of an entry, and the mean reported variance relative to the variance of the
values over seeds (median over entries).  Entries without sampling error are left out and counted.  Exits 1 if independent
columns cover less than 92 or more than 98 percent, or the default design less than 92.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402

Array = NDArray[np.floating]

SAMPLES, SEEDS = 64, 200
DESIGNS = ("independent", "hadamard")
ROUNDING = 1e-11  # an entry is exact if no seed moves it by more, relative to the largest entry of its leaf


@dataclass(frozen=True)
class Case:
    name: str
    model: cp.Model
    wrt: list[str]
    data: Mapping[str, Array]


def network() -> Case:
    """tanh 64-32-32-32-10 with softmax cross entropy, by its weights; 100 rows."""
    sizes = (64, 32, 32, 32, 10)
    m = cp.Model("network")
    axes = m.axes("n i h k l c", n=cp.ROWS, **dict(zip("ihklc", sizes, strict=True)))
    n, layers = axes[0], axes[1:]
    y = m.input("y", n, layers[-1])
    node = m.input("x", n, layers[0])
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(100, 64)), "y": np.eye(10)[rng.integers(0, 10, 100)]}
    wrt = []
    for level, (inner, out) in enumerate(zip(layers, layers[1:], strict=False), 1):
        weight, bias = m.param(f"W{level}", out, inner), m.param(f"b{level}", out)
        shape = (sizes[level], sizes[level - 1])
        data[f"W{level}"] = rng.normal(0, shape[1] ** -0.5, shape)
        data[f"b{level}"] = rng.normal(0, 0.1, shape[0])
        wrt += [f"W{level}", f"b{level}"]
        node = cp.layers.dense(m, f"a{level}", node, weight, bias)
        if level < len(sizes) - 1:
            node = m.define(f"z{level}", (n, out), sp.tanh(node[n, out]))
    c = layers[-1]
    m.objective(cp.logsumexp(node[n, c], c) - cp.sum(y[n, c] * node[n, c], c), reduction="mean")
    return Case("tanh network by weights", m, wrt, data)


def energy() -> Case:
    """softplus 24-64-96-1, by its inputs: one diagonal for each of 20 rows, nothing averaged over rows."""
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=24, h=64, k=96)
    x = m.input("x", n, i)
    w1, w2, w3 = m.param("W1", h, i), m.param("W2", k, h), m.param("w3", k)
    a = m.define("a", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i)))
    b = m.define("b", (n, k), cp.softplus(cp.sum(w2[k, h] * a[n, h], h)))
    m.objective(cp.sum(w3[k] * b[n, k], k) + cp.sum(x[n, i] ** 2, i) / 2)
    rng = np.random.default_rng(1)
    shapes = {"W1": (64, 24), "W2": (96, 64), "w3": (96,)}
    data = {name: rng.normal(0, shape[-1] ** -0.5, shape) for name, shape in shapes.items()}
    return Case("softplus energy by inputs", m, ["x"], data | {"x": rng.normal(size=(20, 24))})


def convolution() -> Case:
    """Two 1-D convolutions with tanh, a sum of squares at the end, by filters; 30 rows.  Filters are shared."""
    m = cp.Model("convolution")
    n, c, t, o, q, u, v = m.axes("n c t o q u v", n=cp.ROWS, c=2, t=30, o=4, q=4, u=5, v=3)
    x, w1, w2 = m.input("x", n, c, t), m.param("F1", o, c, u), m.param("F2", q, o, v)
    a = cp.layers.conv1d(m, "a", x, w1)
    z = m.define("z", a.axes, sp.tanh(a[a.axes]))
    b = cp.layers.conv1d(m, "b", z, w2)
    y = m.input("y", *b.axes)
    m.objective(cp.sum((sp.tanh(b[b.axes]) - y[b.axes]) ** 2, *b.axes[1:]) / 2)
    rng = np.random.default_rng(2)
    data = {
        "x": rng.normal(size=(30, 2, 30)),
        "y": rng.normal(0, 0.5, (30, 4, 24)),
        "F1": rng.normal(0, 0.3, (4, 2, 5)),
        "F2": rng.normal(0, 0.3, (4, 4, 3)),
    }
    return Case("convolutions by filters", m, ["F1", "F2"], data)


def measure(case: Case) -> list[dict[str, Any]]:
    """One row of the table for each design."""
    est = cp.compile(case.model, wrt=case.wrt, programs=())
    truth = est.diagonal(exact=True, **case.data)  # type: ignore[arg-type]
    columns = est.columns("diagonal:cp")
    assert columns is not None and columns > SAMPLES
    scale = np.concatenate([np.full(e.value.size, np.abs(e.value).max()) for e in truth.values()])
    expected = truth.flat()[0]
    rows = []
    for design in DESIGNS:
        asked: dict[str, Any] = {"samples": SAMPLES, "design": design, "exact": False, **case.data}
        runs = [est.diagonal(seed=seed, method="cp", **asked).flat() for seed in range(SEEDS)]
        values, errors = (np.stack(part) for part in zip(*runs, strict=True))
        off = np.abs(values - expected)
        sampled = (off > ROUNDING * scale).any(axis=0)
        covered = (off <= 2 * errors)[:, sampled].mean(axis=0)
        ratio = (errors**2).mean(axis=0)[sampled] / values.var(axis=0, ddof=1)[sampled]
        z_mean = (values.mean(axis=0) - expected)[sampled] / values.std(axis=0, ddof=1)[sampled] * SEEDS**0.5
        rows.append(
            {
                "model": case.name,
                "exact from": columns,
                "design": design,
                "entries": int(sampled.sum()),
                "exact": int((~sampled).sum()),
                "covered %": f"{100 * covered.mean():.1f}",
                "entry: least %": f"{100 * covered.min():.1f}",
                "median %": f"{100 * np.median(covered):.1f}",
                "variance ratio": f"{np.median(ratio):.2f}",
                "bias z (rms)": f"{np.sqrt(np.mean(z_mean**2)):.2f}",
            }
        )
    return rows


def failures(rows: list[dict[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        share = float(row["covered %"])
        if share < 92 or (row["design"] == "independent" and share > 98):
            found.append(f"{row['model']}, {row['design']}: {share:.1f} percent covered")
    return found


def main() -> int:
    rows = [row for make in (network, energy, convolution) for row in measure(make())]
    print(f"{SAMPLES} samples, {SEEDS} seeds, value +- 2 stderr; bias z: 1 if unbiased.\n")
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")
    with (ROOT / "benchmarks" / "results" / "coverage.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    bad = failures(rows)
    for line in bad:
        print(f"outside 92 - 98: {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
