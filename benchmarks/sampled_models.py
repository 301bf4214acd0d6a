"""Models whose diagonals have to be sampled: what coverage.py and confidence.py measure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from benchmarks.peers.workloads import WORKLOADS, mlp  # noqa: E402
from tests.catalogue import CATALOGUE  # noqa: E402

Arrays = dict[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Case:
    name: str
    model: cp.Model
    wrt: tuple[str, ...]
    data: Arrays


CASES: dict[str, Callable[[], Case]] = {}


def case(build: Callable[[], tuple[Any, str, Arrays]]) -> Callable[[], Case]:
    """Register a function that returns model, leaves and data."""
    name = build.__name__.replace("_", " ")

    def made() -> Case:
        model, wrt, data = build()
        return Case(name, model, tuple(wrt.split()), data)

    CASES[name] = made
    return made


def _pairs(count: int, potential: Callable[[sp.Expr], sp.Expr]) -> cp.Model:
    """The sum over pairs of ``count`` points in space of ``potential(squared distance)``."""
    m = cp.Model("cluster")
    a, b, d = m.axes("a b d", a=count, b=count, d=3)
    r, far = m.param("r", a, d), m.param("far", a, b)  # far: 1 on the diagonal, so that no point meets itself
    square = m.define("square", (a, b), cp.sum((r[a, d] - r[b, d]) ** 2, d) + far[a, b])
    m.objective(cp.sum((1 - far[a, b]) * potential(square[a, b]), a, b) / 2)
    return m


def _cluster(count: int) -> Arrays:
    """An icosahedron's corners around one point, shaken; or fewer of them."""
    g = (1 + 5**0.5) / 2
    corners = [(0, s, t * g) for s in (-1, 1) for t in (-1, 1)]
    points = [(0.0, 0.0, 0.0), *(c[k:] + c[:k] for c in corners for k in range(3))]
    r = np.array(points[:count]) * 0.57
    return {"r": r + 0.02 * np.random.default_rng(3).normal(size=r.shape), "far": np.eye(count)}


@case
def lennard_jones() -> tuple[Any, str, Arrays]:
    return _pairs(13, lambda s: 4 * (s**-6 - s**-3)), "r", _cluster(13)


@case
def morse() -> tuple[Any, str, Arrays]:
    return _pairs(7, lambda s: (1 - sp.exp(-3 * (sp.sqrt(s) - 1))) ** 2), "r", _cluster(7)


@case
def gaussian_mixture_by_input() -> tuple[Any, str, Arrays]:
    m = cp.Model("mixture")
    n, k, i, j = m.axes("n k i j", n=cp.ROWS, k=5, i=3, j=3)
    x, mean, weight, root = (
        m.input("x", n, i),
        m.param("mean", k, i),
        m.param("weight", k),
        m.param("root", k, j, i),
    )
    u = m.define("u", (n, k, j), cp.sum(root[k, j, i] * (x[n, i] - mean[k, i]), i))
    score = m.define("score", (n, k), weight[k] - cp.sum(u[n, k, j] ** 2, j) / 2)
    m.objective(-cp.logsumexp(score[n, k], k))
    rng = np.random.default_rng(4)
    data = {
        "x": rng.normal(size=(20, 3)),
        "mean": 1.5 * rng.normal(size=(5, 3)),
        "weight": rng.normal(size=5),
    }
    return m, "x", data | {"root": np.eye(3) + 0.3 * rng.normal(size=(5, 3, 3))}


@case
def two_signs() -> tuple[Any, str, Arrays]:
    """One entry made by two noise elements, 32 apart, the other by all."""
    m = cp.Model("two")
    i, j, k = m.axes("i j k", i=2, j=64, k=64)
    w, b, a = m.param("w", i), m.param("B", j, i), m.param("A", k, j)
    u = m.define("u", j, cp.sum(b[j, i] * w[i], i))
    y = m.define("y", k, cp.sum(a[k, j] * u[j], j))
    m.objective(cp.sum(sp.exp(y[k]), k))
    matrix = np.full((64, 2), 0.1)
    matrix[:, 0] = 0
    matrix[[0, 32], 0] = 1
    return m, "w", {"w": np.zeros(2), "B": matrix, "A": np.eye(64)}


@case
def lstm_of_3_steps() -> tuple[Any, str, Arrays]:
    m = cp.Model("lstm")
    n, i, h, j = m.axes("n i h j", n=cp.ROWS, i=4, h=6, j=6)
    out, y = m.param("out", h), m.input("y", n)
    weights = {g: (m.param(f"W{g}", h, i), m.param(f"U{g}", h, j), m.param(f"b{g}", h)) for g in "ifgo"}
    hidden: Any = None
    cell: Any = None
    for t in range(3):
        x = m.input(f"x{t}", n, i)
        gate = {}
        for g, (w, u, b) in weights.items():
            total = cp.sum(w[h, i] * x[n, i], i) + b[h]
            if hidden is not None:
                total += cp.sum(u[h, j] * hidden[n, j], j)
            gate[g] = m.define(f"{g}{t}", (n, h), sp.tanh(total) if g == "g" else cp.sigmoid(total))
        state = gate["i"][n, h] * gate["g"][n, h]
        if cell is not None:
            state += gate["f"][n, h] * cell[n, h]
        cell = m.define(f"c{t}", (n, h), state)
        hidden = m.define(f"h{t}", (n, h), gate["o"][n, h] * sp.tanh(cell[n, h]))
    m.objective((cp.sum(out[h] * hidden[n, h], h) - y[n]) ** 2 / 2)
    rng = np.random.default_rng(5)
    data = {f"x{t}": rng.normal(size=(1, 4)) for t in range(3)} | {"y": rng.normal(size=1)}
    data |= {f"W{g}": 0.5 * rng.normal(size=(6, 4)) for g in "ifgo"}
    data |= {f"U{g}": 0.5 * rng.normal(size=(6, 6)) for g in "ifgo"}
    data |= {f"b{g}": 0.5 * rng.normal(size=6) for g in "ifgo"} | {"out": rng.normal(size=6)}
    return m, " ".join(f"{kind}{g}" for g in "ifgo" for kind in "WU"), data


@case
def transformer_layer() -> tuple[Any, str, Arrays]:
    m = cp.Model("layer")
    n, t, s, i, e, d, o, g = m.axes("n t s i e d o g", n=cp.ROWS, t=5, s=5, i=4, e=4, d=4, o=4, g=8)
    x = m.input("x", n, t, i)
    q = m.define("q", (n, t, e), cp.sum(m.param("Q", e, i)[e, i] * x[n, t, i], i))
    k = m.define("k", (n, t, e), cp.sum(m.param("K", e, i)[e, i] * x[n, t, i], i))
    v = m.define("v", (n, t, d), cp.sum(m.param("V", d, i)[d, i] * x[n, t, i], i))
    score = m.define("score", (n, t, s), cp.sum(q[n, t, e] * k[n, s, e], e) / 2)
    weight = m.define("weight", (n, t, s), cp.softmax(score[n, t, s], s))
    mixed = m.define("mixed", (n, t, d), cp.sum(weight[n, t, s] * v[n, s, d], s))
    wo = m.param("O", o, d)
    z = m.define("z", (n, t, o), cp.sum(wo[o, d] * mixed[n, t, d], d) + x[n, t, o])
    w1, w2 = m.param("W1", g, o), m.param("W2", i, g)
    a = m.define("a", (n, t, g), sp.tanh(cp.sum(w1[g, o] * z[n, t, o], o)))
    r = m.define("r", (n, t, i), cp.sum(w2[i, g] * a[n, t, g], g) + z[n, t, i])
    m.objective(cp.sum(r[n, t, i] ** 2, t, i) / 2)
    rng = np.random.default_rng(6)
    shapes = {"Q": (4, 4), "K": (4, 4), "V": (4, 4), "O": (4, 4), "W1": (8, 4), "W2": (4, 8)}
    data = {name: rng.normal(size=shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
    return m, "Q K V O W1", data | {"x": rng.normal(size=(2, 5, 4))}


@case
def softplus_energy_by_input() -> tuple[Any, str, Arrays]:
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
    return m, "x", data | {"x": rng.normal(size=(20, 24))}


def _deep(kind: str, layers: int, wrt: str) -> tuple[Any, str, Arrays]:
    m = cp.Model("deep")
    n, *units = m.axes("n " + " ".join(f"u{k}" for k in range(layers + 1)), n=cp.ROWS,
                       **{f"u{k}": 16 for k in range(layers + 1)})  # fmt: skip
    z = m.input("x", n, units[0])
    for k in range(1, layers + 1):
        w = m.param(f"W{k}", units[k], units[k - 1])
        total = cp.sum(w[units[k], units[k - 1]] * z[n, units[k - 1]], units[k - 1])
        z = m.define(f"z{k}", (n, units[k]), cp.softplus(total) if kind == "softplus" else sp.tanh(total))
    last = units[-1]
    m.objective(cp.sum(z[n, last], last))
    rng = np.random.default_rng(7)
    data = {f"W{k}": rng.normal(0, 0.25, (16, 16)) for k in range(1, layers + 1)}
    rows = 10 if wrt == "x" else 20
    return m, wrt, data | {"x": rng.normal(size=(rows, 16))}


@case
def softplus_net_by_weights() -> tuple[Any, str, Arrays]:
    return _deep("softplus", 4, "W1 W2 W3 W4")


@case
def tanh_net_by_input() -> tuple[Any, str, Arrays]:
    return _deep("tanh", 4, "x")


@case
def physics_informed_net_by_input() -> tuple[Any, str, Arrays]:
    """u(x, t) of a tanh network 2-24-24-1: the Laplacian of a residual's network, point by point."""
    m = cp.Model("pinn")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=2, h=24, k=24)
    x, w1, w2, w3 = m.input("x", n, i), m.param("W1", h, i), m.param("W2", k, h), m.param("w3", k)
    b1 = m.param("b1", h)
    a = m.define("a", (n, h), sp.tanh(cp.sum(w1[h, i] * x[n, i], i) + b1[h]))
    b = m.define("b", (n, k), sp.tanh(cp.sum(w2[k, h] * a[n, h], h)))
    m.objective(cp.sum(w3[k] * b[n, k], k))
    rng = np.random.default_rng(8)
    data = {"W1": rng.normal(size=(24, 2)), "b1": rng.normal(size=24)}
    data |= {"W2": rng.normal(0, 24**-0.5, (24, 24)), "w3": rng.normal(0, 0.3, 24)}
    return m, "x", data | {"x": rng.uniform(-1, 1, (20, 2))}


@case
def deep_kernel_energy() -> tuple[Any, str, Arrays]:
    """A weighted sum of Gaussian kernels of a softplus network's features: an energy by its input."""
    m = cp.Model("kernel")
    n, i, h, f, c = m.axes("n i h f c", n=cp.ROWS, i=6, h=12, f=8, c=10)
    x, w1, w2 = m.input("x", n, i), m.param("W1", h, i), m.param("W2", f, h)
    centre, alpha = m.param("centre", c, f), m.param("alpha", c)
    a = m.define("a", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i)))
    b = m.define("b", (n, f), cp.softplus(cp.sum(w2[f, h] * a[n, h], h)))
    s = m.define("s", (n, c), cp.sum((b[n, f] - centre[c, f]) ** 2, f))
    m.objective(cp.sum(alpha[c] * sp.exp(-s[n, c] / 4), c))
    rng = np.random.default_rng(9)
    data = {"W1": rng.normal(0, 0.4, (12, 6)), "W2": rng.normal(0, 0.3, (8, 12))}
    data |= {"centre": rng.normal(0.7, 0.5, (10, 8)), "alpha": rng.normal(size=10)}
    return m, "x", data | {"x": rng.normal(size=(10, 6))}


@case
def convolutions_by_filters() -> tuple[Any, str, Arrays]:
    m = cp.Model("convolution")
    n, c, t, o, q, u, v = m.axes("n c t o q u v", n=cp.ROWS, c=2, t=12, o=3, q=3, u=3, v=3)
    x, w1, w2 = m.input("x", n, c, t), m.param("F1", o, c, u), m.param("F2", q, o, v)
    a = cp.layers.conv1d(m, "a", x, w1)
    z = m.define("z", a.axes, sp.tanh(a[a.axes]))
    b = cp.layers.conv1d(m, "b", z, w2)
    y = m.input("y", *b.axes)
    m.objective(cp.sum((sp.tanh(b[b.axes]) - y[b.axes]) ** 2, *b.axes[1:]) / 2)
    rng = np.random.default_rng(2)
    data = {"x": rng.normal(size=(10, 2, 12)), "y": rng.normal(0, 0.5, (10, 3, 8))}
    data |= {"F1": rng.normal(0, 0.4, (3, 2, 3)), "F2": rng.normal(0, 0.4, (3, 3, 3))}
    return m, "F1 F2", data


@case
def tanh_network_W8() -> tuple[Any, str, Arrays]:
    """A smaller W8: 32-20-20-20-10 by weights and biases, 50 rows."""
    w = mlp("W8", (32, 20, 20, 20, 10), 50, "softmax", quantities=())
    return w.build(), " ".join(w.leaves), w.data("float64")


def _workload(name: str, rows: int, wrt: str) -> tuple[Any, str, Arrays]:
    w = WORKLOADS[name]
    data = {k: a[:rows] if k in ("x", "y") else a for k, a in w.data("float64").items()}
    return w.build(), wrt, data


@case
def digits_network() -> tuple[Any, str, Arrays]:
    """64-32-32-10 on intensities between 0 and 1, by its first two layers."""
    w = mlp("digits", (64, 32, 32, 10), 60, "softmax", quantities=())
    data = w.data("float64")
    data["x"] = np.clip(data["x"] * 0.4 + 0.3, 0, 1)
    return w.build(), "W1 b1 W2 b2", data


@case
def lenet_W6() -> tuple[Any, str, Arrays]:
    return _workload("W6", 1, "F1 f1 F2 f2")


def _catalogue(name: str, rows: int) -> tuple[Any, str, Arrays]:
    e = CATALOGUE[name]
    return e.build(), " ".join(e.wrt), e.arrays(11, rows)


@case
def attention() -> tuple[Any, str, Arrays]:
    return _catalogue("attention", 3)


@case
def recurrent_by_weights() -> tuple[Any, str, Arrays]:
    return _catalogue("recurrent", 3)


@case
def residual_tied() -> tuple[Any, str, Arrays]:
    return _catalogue("residual_tied", 3)
