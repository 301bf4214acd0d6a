"""The models on which estimators are compared (benchmarks/estimators.py): what each is, and seeded arrays for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp
from benchmarks.peers.workloads import WORKLOADS

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Case:
    """``what`` ("diagonal" or "trace") of ``model`` by ``wrt`` at ``data``."""

    name: str
    what: str
    model: Callable[[], cp.Model]
    wrt: tuple[str, ...]
    data: Mapping[str, Array]


def deep(kind: str, layers: int, by_input: bool = True, width: int = 24, rows: int = 16) -> Case:
    """Dense layers of one width with softplus or tanh, summed: the trace by the input, or the diagonal by the weights."""
    rng = np.random.default_rng(layers)
    function = cp.softplus if kind == "softplus" else sp.tanh

    def build() -> cp.Model:
        m = cp.Model(f"{kind}_{layers}")
        n, *units = m.axes("n " + " ".join(f"h{k}" for k in range(layers + 1)), n=cp.ROWS,
                           **{f"h{k}": width for k in range(layers + 1)})  # fmt: skip
        z: Any = m.input("x", n, units[0])
        for k in range(layers):
            w = m.param(f"W{k}", units[k + 1], units[k])
            below, here = units[k], units[k + 1]
            z = m.define(f"z{k}", (n, here), function(cp.sum(w[here, below] * z[n, below], below)))
        m.objective(cp.sum(z[n, units[-1]], units[-1]))
        return m

    data = {"x": rng.normal(size=(rows, width))}
    data |= {f"W{k}": rng.normal(size=(width, width)) * 1.2 / np.sqrt(width) for k in range(layers)}
    wrt = ("x",) if by_input else tuple(f"W{k}" for k in range(layers))
    what = "trace" if by_input else "diagonal"
    return Case(f"{kind}, {layers} layers, by {'input' if by_input else 'weights'}", what, build, wrt, data)


def lstm(steps: int = 3, inputs: int = 4, hidden: int = 6, rows: int = 16) -> Case:
    rng = np.random.default_rng(5)

    def build() -> cp.Model:
        m = cp.Model("lstm")
        n, i, h, g, o = m.axes("n i h g o", n=cp.ROWS, i=inputs, h=hidden, g=hidden, o=2)
        xs = [m.input(f"x{t}", n, i) for t in range(steps)]
        y = m.input("y", n, o)
        w = {k: m.param(f"W{k}", h, i) for k in "ifgo"}
        u = {k: m.param(f"U{k}", h, g) for k in "ifgo"}
        v = m.param("V", o, h)
        state: Any = None
        cell: Any = None
        for t in range(steps):
            pre = {}
            for k in "ifgo":
                total = cp.sum(w[k][h, i] * xs[t][n, i], i)
                if state is not None:
                    total = total + cp.sum(u[k][h, g] * state[n, g], g)
                pre[k] = m.define(f"a{k}{t}", (n, h), total)[n, h]
            fresh = cp.sigmoid(pre["i"]) * sp.tanh(pre["g"])
            kept = fresh if cell is None else cp.sigmoid(pre["f"]) * cell[n, h] + fresh
            cell = m.define(f"c{t}", (n, h), kept)
            state = m.define(f"s{t}", (n, h), cp.sigmoid(pre["o"]) * sp.tanh(cell[n, h]))
        out = m.define("out", (n, o), cp.sum(v[o, h] * state[n, h], h))
        m.objective(cp.sum((out[n, o] - y[n, o]) ** 2, o) / 2, reduction="mean")
        return m

    data = {f"x{t}": rng.normal(size=(rows, inputs)) for t in range(steps)} | {"y": rng.normal(size=(rows, 2))}
    data |= {f"W{k}": 0.5 * rng.normal(size=(hidden, inputs)) for k in "ifgo"}
    data |= {f"U{k}": 0.5 * rng.normal(size=(hidden, hidden)) for k in "ifgo"}
    data["V"] = 0.5 * rng.normal(size=(2, hidden))
    wrt = (*(f"W{k}" for k in "ifgo"), *(f"U{k}" for k in "ifgo"), "V")
    return Case(f"LSTM of {steps} steps, by weights", "diagonal", build, wrt, data)


def attention(layer: bool, tokens: int = 6, width: int = 8, rows: int = 8) -> Case:
    """One head of attention; ``layer``: with a tanh network behind it and a skip around each, a transformer layer."""
    rng = np.random.default_rng(7)

    def build() -> cp.Model:
        m = cp.Model("transformer_layer" if layer else "attention")
        n, t, s, i, j, e, d, g = m.axes("n t s i j e d g", n=cp.ROWS, t=tokens, s=tokens, i=width, j=width, e=width,
                                        d=width, g=2 * width)  # fmt: skip
        x, y = m.input("x", n, t, i), m.input("y", n, t, j)
        wq, wk, wv = m.param("Q", e, i), m.param("K", e, i), m.param("V", d, i)
        wo = m.param("O", j, d)
        q = m.define("q", (n, t, e), cp.sum(wq[e, i] * x[n, t, i], i))
        k = m.define("k", (n, t, e), cp.sum(wk[e, i] * x[n, t, i], i))
        v = m.define("v", (n, t, d), cp.sum(wv[d, i] * x[n, t, i], i))
        scores = m.define("scores", (n, t, s), cp.sum(q[n, t, e] * k[n, s, e], e) / sp.sqrt(width))
        weights = m.define("weights", (n, t, s), cp.softmax(scores[n, t, s], s))
        mixed = m.define("mixed", (n, t, d), cp.sum(weights[n, t, s] * v[n, s, d], s))
        out = m.define("z", (n, t, j), cp.sum(wo[j, d] * mixed[n, t, d], d) + (x[n, t, j] if layer else 0))
        if layer:
            w1, w2 = m.param("W1", g, j), m.param("W2", j, g)
            a = m.define("a", (n, t, g), sp.tanh(cp.sum(w1[g, j] * out[n, t, j], j)))
            out = m.define("out", (n, t, j), cp.sum(w2[j, g] * a[n, t, g], g) + out[n, t, j])
        m.objective(cp.sum((out[n, t, j] - y[n, t, j]) ** 2, t, j) / 2, reduction="mean")
        return m

    data = {"x": rng.normal(size=(rows, tokens, width)), "y": rng.normal(size=(rows, tokens, width))}
    shapes = dict.fromkeys("QKVO", (width, width))
    shapes |= {"W1": (2 * width, width), "W2": (width, 2 * width)} if layer else {}
    data |= {k: rng.normal(size=shape) / np.sqrt(shape[-1]) for k, shape in shapes.items()}
    name = "transformer layer, by weights" if layer else "attention, by weights"
    return Case(name, "diagonal", build, tuple(shapes), data)


def cluster(kind: str, atoms: int = 13) -> Case:
    """An icosahedron with an atom in its middle, slightly moved, under a pair potential: the diagonal by positions."""
    rng = np.random.default_rng(13)
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    corners = [tuple(np.roll(c, k)) for c in corners for k in range(3)]
    points = np.array([(0, 0, 0), *corners]) * 1.1 / np.sqrt(1 + golden**2)
    points = points[:atoms] + 0.03 * rng.normal(size=(atoms, 3))

    def build() -> cp.Model:
        m = cp.Model(kind)
        n, a, b, c = m.axes("n a b c", n=cp.ROWS, a=atoms, b=atoms, c=3)
        r = m.input("r", n, a, c)
        # one on the diagonal, so that an atom is not at distance zero from itself; masked below
        self_pair = m.input("self", a, b)
        square = m.define("d2", (n, a, b), cp.sum((r[n, a, c] - r[n, b, c]) ** 2, c) + self_pair[a, b])
        if kind == "lennard_jones":
            pair = square[n, a, b] ** -6 - 2 * square[n, a, b] ** -3
        else:
            pair = (1 - sp.exp(-6 * (sp.sqrt(square[n, a, b]) - 1))) ** 2
        energy = m.define("e", (n, a, b), pair * (1 - self_pair[a, b]))
        m.objective(cp.sum(energy[n, a, b], a, b) / 2)
        return m

    name = "Lennard-Jones" if kind == "lennard_jones" else "Morse"
    data = {"r": points[None], "self": np.eye(atoms)}
    return Case(f"{name}, {atoms} atoms, by positions", "diagonal", build, ("r",), data)


def mixture(components: int = 5, rows: int = 16) -> Case:
    """Minus the log density of a Gaussian mixture by its three inputs."""
    rng = np.random.default_rng(3)

    def build() -> cp.Model:
        m = cp.Model("gaussian_mixture")
        n, i, k = m.axes("n i k", n=cp.ROWS, i=3, k=components)
        x, mu, w = m.input("x", n, i), m.param("mu", k, i), m.param("w", k)
        m.objective(-cp.logsumexp(w[k] - cp.sum((x[n, i] - mu[k, i]) ** 2, i) / 2, k))
        return m

    data = {"x": rng.normal(size=(rows, 3)), "mu": 1.5 * rng.normal(size=(components, 3))}
    data["w"] = rng.normal(size=components)
    return Case("Gaussian mixture, by 3 inputs", "diagonal", build, ("x",), data)


def graph_network(nodes: int = 10, width: int = 6, rows: int = 8) -> Case:
    """Two rounds of messages along a symmetric adjacency, by the weights."""
    rng = np.random.default_rng(17)

    def build() -> cp.Model:
        m = cp.Model("graph_network")
        n, a, b, i, j, k = m.axes("n a b i j k", n=cp.ROWS, a=nodes, b=nodes, i=width, j=width, k=width)
        x, adjacency, y = m.input("x", n, a, i), m.input("A", a, b), m.input("y", n, k)
        w1, w2 = m.param("W1", j, i), m.param("W2", k, j)
        m1 = m.define("m1", (n, a, i), cp.sum(adjacency[a, b] * x[n, b, i], b))
        z1 = m.define("z1", (n, a, j), sp.tanh(cp.sum(w1[j, i] * m1[n, a, i], i)))
        m2 = m.define("m2", (n, a, j), cp.sum(adjacency[a, b] * z1[n, b, j], b))
        z2 = m.define("z2", (n, a, k), sp.tanh(cp.sum(w2[k, j] * m2[n, a, j], j)))
        pooled = m.define("pooled", (n, k), cp.mean(z2[n, a, k], a))
        m.objective(cp.sum((pooled[n, k] - y[n, k]) ** 2, k) / 2, reduction="mean")
        return m

    edges = np.triu(rng.random((nodes, nodes)) < 0.3, 1)
    joined = (edges | edges.T) + np.eye(nodes)
    data = {"A": joined / joined.sum(1, keepdims=True), "x": rng.normal(size=(rows, nodes, width))}
    data |= {f"W{k}": rng.normal(size=(width, width)) / np.sqrt(width) for k in (1, 2)}
    data["y"] = rng.normal(size=(rows, width))
    return Case("graph network, by weights", "diagonal", build, ("W1", "W2"), data)


def pinn(inputs: int = 10, width: int = 32, rows: int = 16) -> Case:
    """The Laplacian of a tanh network with one output by its input, as a physics-informed network needs it."""
    rng = np.random.default_rng(19)

    def build() -> cp.Model:
        m = cp.Model("pinn")
        n, i, h, k, l = m.axes("n i h k l", n=cp.ROWS, i=inputs, h=width, k=width, l=width)  # noqa: E741
        x = m.input("x", n, i)
        w1, w2, w3, w4 = m.param("W1", h, i), m.param("W2", k, h), m.param("W3", l, k), m.param("w4", l)
        z1 = m.define("z1", (n, h), sp.tanh(cp.sum(w1[h, i] * x[n, i], i)))
        z2 = m.define("z2", (n, k), sp.tanh(cp.sum(w2[k, h] * z1[n, h], h)))
        z3 = m.define("z3", (n, l), sp.tanh(cp.sum(w3[l, k] * z2[n, k], k)))
        m.objective(cp.sum(w4[l] * z3[n, l], l))
        return m

    shapes = {"W1": (width, inputs), "W2": (width, width), "W3": (width, width), "w4": (width,)}
    data = {"x": rng.normal(size=(rows, inputs))}
    data |= {k: 1.5 * rng.normal(size=shape) / np.sqrt(shape[-1]) for k, shape in shapes.items()}
    return Case("PINN, Laplacian by 10 inputs", "trace", build, ("x",), data)


def kernel_energy(points: int = 12, inputs: int = 8, width: int = 16, rows: int = 16) -> Case:
    """Gaussian kernels on the features of a softplus network, weighted and summed, as in deep kernel exponential
    families: the trace by the input."""
    rng = np.random.default_rng(23)

    def build() -> cp.Model:
        m = cp.Model("kernel_energy")
        n, i, h, k, p = m.axes("n i h k p", n=cp.ROWS, i=inputs, h=width, k=width, p=points)
        x, w1, w2 = m.input("x", n, i), m.param("W1", h, i), m.param("W2", k, h)
        centre, alpha = m.param("c", p, k), m.param("alpha", p)
        z = m.define("z", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i)))
        f = m.define("f", (n, k), cp.softplus(cp.sum(w2[k, h] * z[n, h], h)))
        near = m.define("near", (n, p), sp.exp(-cp.sum((f[n, k] - centre[p, k]) ** 2, k) / (2 * width / 4)))
        m.objective(cp.sum(alpha[p] * near[n, p], p) - cp.sum(x[n, i] ** 2, i) / 8)
        return m

    data = {"x": rng.normal(size=(rows, inputs)), "W1": rng.normal(size=(width, inputs)) / np.sqrt(inputs)}
    data |= {"W2": rng.normal(size=(width, width)) / np.sqrt(width), "c": rng.normal(1.0, 0.5, (points, width))}
    data["alpha"] = rng.normal(size=points)
    return Case("deep kernel energy, by input", "trace", build, ("x",), data)


def hill(rows: int = 50) -> Case:
    """Least squares of Hill curves with a common background: ten compounds, by all parameters."""
    rng = np.random.default_rng(29)
    compounds = 10

    def build() -> cp.Model:
        m = cp.Model("hill")
        n, c = m.axes("n c", n=cp.ROWS, c=compounds)
        dose, y = m.input("dose", n, c, low=0.01, high=100.0), m.input("y", n, c)
        top, k = m.param("top", c, low=0.5, high=2.0), m.param("k", c, low=0.1, high=10.0)
        power, base = m.param("power", low=0.5, high=3.0), m.param("base", low=0.0, high=0.3)
        share = m.define("s", (n, c), 1 / (1 + (k[c] / dose[n, c]) ** power))
        m.objective(cp.sum((base + top[c] * share[n, c] - y[n, c]) ** 2, c) / 2)
        return m

    data = {"dose": np.exp(rng.uniform(-3, 3, (rows, compounds))), "top": rng.uniform(0.8, 1.5, compounds)}
    data |= {"k": np.exp(rng.uniform(-1, 1, compounds)), "power": np.array(1.3), "base": np.array(0.1)}
    share = 1 / (1 + (data["k"] / data["dose"]) ** 1.3)
    data["y"] = 0.1 + data["top"] * share + 0.05 * rng.normal(size=(rows, compounds))
    return Case("Hill fit, by parameters", "diagonal", build, ("top", "k", "power", "base"), data)


def garch(steps: int = 12, rows: int = 16) -> Case:
    """Minus the log likelihood of a GARCH(1, 1) written out, by its returns."""
    rng = np.random.default_rng(31)

    def build() -> cp.Model:
        m = cp.Model("garch")
        n, t = m.axes("n t", n=cp.ROWS, t=steps)
        r = m.input("r", n, t)
        omega, alpha, beta = (
            m.param(name, low=low, high=high)
            for name, low, high in (("omega", 0.05, 0.2), ("alpha", 0.05, 0.2), ("beta", 0.6, 0.79))
        )
        h: Any = omega / (1 - alpha - beta)
        total: Any = 0
        for k in range(steps):
            h = m.define(f"h{k}", n, omega + (alpha * r[n, k - 1] ** 2 + beta * h if k else beta * h))[n]
            total = total + sp.log(h) + r[n, k] ** 2 / h
        m.objective(total / 2)
        return m

    data = {"r": rng.normal(size=(rows, steps)), "omega": np.array(0.1), "alpha": np.array(0.15)}
    data["beta"] = np.array(0.7)
    return Case("GARCH recursion, by 12 returns", "diagonal", build, ("r",), data)


def workload(name: str, label: str) -> Case:
    w = WORKLOADS[name]
    return Case(label, "diagonal", w.build, w.leaves, w.data("float64"))


def cases() -> list[Case]:
    """All of them, in the order of the table."""
    return [
        *(deep("softplus", k) for k in (2, 3, 4, 8)),
        *(deep("tanh", k) for k in (4, 8)),
        deep("softplus", 4, by_input=False),
        lstm(),
        attention(True),
        attention(False),
        cluster("lennard_jones"),
        cluster("morse"),
        mixture(),
        graph_network(),
        pinn(),
        kernel_energy(),
        hill(),
        garch(),
        workload("W8", "digits network (W8), by weights"),
        workload("W4", "W4: 784-100-10, by weights"),
        workload("W6", "W6: convolutions, by filters"),
        workload("W7", "W7: transformer, by weights"),
    ]
