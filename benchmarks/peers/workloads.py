"""The workloads: seeded data, the objective once for all array libraries, and the same model for cpgen.

An objective is written against :class:`Ops`, so NumPy, JAX and PyTorch evaluate one text; ``build`` states it again in
cpgen's index notation, and the suite compares the answers before it times anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp

Arrays = dict[str, NDArray[np.floating]]


class Ops(Protocol):
    """What an objective may use of an array library; axes are given by position."""

    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    einsum: Callable[..., Any]
    softplus: Callable[[Any], Any]
    softmax: Callable[[Any, int], Any]
    logsumexp: Callable[[Any, int], Any]
    conv: Callable[[Any, Any, int], Any]  # (n c p q, o c k l, padding) -> n o p q
    pool: Callable[[Any], Any]  # means of 2 x 2
    mean: Callable[[Any, int], Any]  # keeps the axis


@dataclass(frozen=True)
class Workload:
    """``rows(ops, arrays)`` is the objective of each row; ``by_row``: the leaves are inputs, one answer a row."""

    name: str
    leaves: tuple[str, ...]
    by_row: bool
    draw: Callable[[np.random.Generator], Arrays]
    rows: Callable[[Ops, Mapping[str, Any]], Any]
    build: Callable[[], cp.Model]
    quantities: tuple[str, ...]
    mean: bool = False
    reals: tuple[str, ...] = ("float64",)
    # unavoidable work: (m, k, n) of each product of a gradient, and how many transcendental calls
    products: tuple[tuple[int, int, int], ...] = ()
    calls: tuple[str, int] = ("exp", 0)

    @property
    def single(self) -> bool:
        """One row, which gives a second thread nothing to do."""
        return self.name.startswith("W2") or self.name.endswith("/1")

    def data(self, real: str) -> Arrays:
        """The arrays in ``real``, drawn in double so that both reals see the same numbers."""
        drawn = self.draw(np.random.default_rng(20120626))
        return {name: np.ascontiguousarray(array, dtype=real) for name, array in drawn.items()}

    def probe(self, data: Arrays) -> Arrays:
        """One Rademacher vector shaped like the leaves: every Hutchinson sampler is timed and checked with it."""
        rng = np.random.default_rng(1984)
        return {v: rng.choice([-1.0, 1.0], data[v].shape).astype(data[v].dtype) for v in self.leaves}


# W1: a six-joint arm that tracks a pose

DH_A = (0.0, -0.425, -0.39225, 0.0, 0.0, 0.0)
DH_D = (0.089159, 0.0, 0.0, 0.10915, 0.09465, 0.0823)
DH_ALPHA = ((0, 1), (1, 0), (1, 0), (0, 1), (0, -1), (1, 0))  # cosine and sine of the twist
GOAL = (0.3, -0.2, 0.45)
TURN = ((0.36, 0.48, -0.8), (-0.8, 0.6, 0.0), (0.48, 0.64, 0.6))
REST = (0.1, -1.2, 1.4, -0.3, 0.5, 0.2)


def arm_cost(
    q: Any,
    sin: Callable[[Any], Any],
    cos: Callable[[Any], Any],
    keep: Callable[[str, Any], Any] | None = None,
) -> Any:
    """Half the squared error of the position, a quarter of that of the nine orientation entries, and a pull to rest.

    ``q``: six scalars or arrays of any library; ``keep(name, expression)`` may name what is used more than once.
    """
    named = keep or (lambda name, expression: expression)
    turn: list[list[Any]] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    place: list[Any] = [0, 0, 0]
    for k in range(6):
        s, c, (ca, sa) = named(f"s{k}", sin(q[k])), named(f"c{k}", cos(q[k])), DH_ALPHA[k]
        step = [[c, -s * ca, s * sa], [s, c * ca, -c * sa], [0, sa, ca]]
        shift = [DH_A[k] * c, DH_A[k] * s, DH_D[k]]
        place = [named(f"p{k}{r}", _dot(turn[r], shift) + place[r]) for r in range(3)]
        turn = [
            [named(f"r{k}{r}{j}", _dot(turn[r], [step[i][j] for i in range(3)])) for j in range(3)]
            for r in range(3)
        ]
    position = sum((place[r] - GOAL[r]) ** 2 for r in range(3))
    orientation = sum((turn[r][j] - TURN[r][j]) ** 2 for r in range(3) for j in range(3))
    return 0.5 * position + 0.25 * orientation + 0.005 * sum((q[k] - REST[k]) ** 2 for k in range(6))


def _dot(a: list[Any], b: list[Any]) -> Any:
    """The sum of products without those that are zero."""
    kept = [
        y if is_one(x) else x if is_one(y) else x * y
        for x, y in zip(a, b, strict=True)
        if not (is_zero(x) or is_zero(y))
    ]
    total = kept[0] if kept else 0
    for term in kept[1:]:
        total = total + term
    return total


def is_zero(x: Any) -> bool:
    return isinstance(x, (int, float)) and x == 0


def is_one(x: Any) -> bool:
    return isinstance(x, (int, float)) and x == 1


def _arm_model() -> cp.Model:
    m = cp.Model("arm")
    n, i = m.axes("n i", n=cp.ROWS, i=6)
    q = m.input("q", n, i)

    def keep(name: str, expression: Any) -> Any:
        simple = isinstance(expression, (int, float)) or expression.is_Atom or expression.is_Indexed
        return expression if simple else m.define(name, n, expression)[n]

    m.objective(arm_cost([q[n, k] for k in range(6)], sp.sin, sp.cos, keep))
    return m


def arm(rows: int) -> Workload:
    return Workload(
        f"W1/{rows}",
        ("q",),
        True,
        lambda rng: {"q": rng.uniform(-2.0, 2.0, (rows, 6))},
        lambda ops, a: arm_cost([a["q"][:, k] for k in range(6)], ops.sin, ops.cos),
        _arm_model,
        ("value", "gradient", "hessian", "diagonal") if rows == 1 else ("gradient", "hessian", "diagonal"),
        calls=("sin", 12 * rows),
    )


# W2: the extended Rosenbrock function


def rosenbrock_cost(x: Any, size: int) -> Any:
    return sum(100 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 for k in range(size - 1))


def rosenbrock(size: int) -> Workload:
    def build() -> cp.Model:
        m = cp.Model("rosenbrock")
        n, i, k = m.axes("n i k", n=cp.ROWS, i=size, k=size - 1)
        x = m.input("x", n, i)
        m.objective(cp.sum(100 * (x[n, k + 1] - x[n, k] ** 2) ** 2 + (1 - x[n, k]) ** 2, k))
        return m

    return Workload(
        f"W2/{size}",
        ("x",),
        True,
        lambda rng: {"x": rng.normal(0.5, 0.5, (1, size))},
        lambda ops, a: (100 * (a["x"][:, 1:] - a["x"][:, :-1] ** 2) ** 2 + (1 - a["x"][:, :-1]) ** 2).sum(1),
        build,
        ("value", "gradient", "diagonal"),
    )


# Networks


def _mlp_draw(sizes: tuple[int, ...], rows: int, loss: str) -> Callable[[np.random.Generator], Arrays]:
    def draw(rng: np.random.Generator) -> Arrays:
        arrays: Arrays = {"x": rng.normal(size=(rows, sizes[0]))}
        if loss == "softmax":
            arrays["y"] = np.eye(sizes[-1])[rng.integers(0, sizes[-1], rows)]
        if loss == "square":
            arrays["y"] = rng.normal(size=(rows, sizes[-1]))
        for k in range(1, len(sizes)):
            arrays[f"W{k}"] = rng.normal(size=(sizes[k], sizes[k - 1])) / np.sqrt(sizes[k - 1])
            arrays[f"b{k}"] = 0.1 * rng.normal(size=sizes[k])
        return arrays

    return draw


def mlp(name: str, sizes: tuple[int, ...], rows: int, loss: str, **other: Any) -> Workload:
    """tanh layers and a linear one.  ``loss``: "softmax" cross entropy, half the "square", or the output "sum"."""
    layers = len(sizes) - 1
    weights = tuple(f"{kind}{k}" for k in range(1, layers + 1) for kind in "Wb")

    def rows_of(ops: Ops, a: Mapping[str, Any]) -> Any:
        z = a["x"]
        for k in range(1, layers + 1):
            z = z @ a[f"W{k}"].T + a[f"b{k}"]
            z = ops.tanh(z) if k < layers else z
        if loss == "softmax":
            return ops.logsumexp(z, 1) - (a["y"] * z).sum(1)
        return 0.5 * ((z - a["y"]) ** 2).sum(1) if loss == "square" else z.sum(1)

    def build() -> cp.Model:
        m = cp.Model("mlp")
        n, *units = m.axes(
            "n " + " ".join(f"i{k}" for k in range(layers + 1)),
            n=cp.ROWS,
            **{f"i{k}": size for k, size in enumerate(sizes)},
        )
        z = m.input("x", n, units[0])
        y = m.input("y", n, units[-1]) if loss != "sum" else None
        for k in range(1, layers + 1):
            w, b = m.param(f"W{k}", units[k], units[k - 1]), m.param(f"b{k}", units[k])
            z = cp.layers.dense(m, f"a{k}", z, w, b)
            if k < layers:
                z = m.define(f"z{k}", (n, units[k]), sp.tanh(z[n, units[k]]))
        c = units[-1]
        if loss == "softmax":
            m.objective(cp.logsumexp(z[n, c], c) - cp.sum(y[n, c] * z[n, c], c), reduction="mean")
        elif loss == "square":
            m.objective(cp.sum((z[n, c] - y[n, c]) ** 2, c) / 2, reduction="mean")
        else:
            m.objective(cp.sum(z[n, c], c))
        return m

    by_row = loss == "sum"
    shapes = [(rows, sizes[k], sizes[k + 1]) for k in range(layers)]
    back = [(rows, sizes[k + 1], sizes[k]) for k in range(0 if by_row else 1, layers)]
    outer = [] if by_row else [(sizes[k + 1], rows, sizes[k]) for k in range(layers)]
    return Workload(
        name,
        ("x",) if by_row else weights,
        by_row,
        _mlp_draw(sizes, rows, loss),
        rows_of,
        build,
        mean=not by_row,
        products=(*shapes, *back, *outer) if rows > 1 else (),
        calls=("tanh", rows * sum(sizes[1:-1])),
        **other,
    )


def energy(size: int) -> Workload:
    """E(x) = sum softplus(W2 softplus(W1 x + b1) + b2) + |x|^2 / 2, by its input."""
    rows, hidden = 128, 256

    def draw(rng: np.random.Generator) -> Arrays:
        return {
            "x": rng.normal(size=(rows, size)),
            "W1": rng.normal(size=(hidden, size)) / np.sqrt(size),
            "b1": 0.1 * rng.normal(size=hidden),
            "W2": rng.normal(size=(hidden, hidden)) / np.sqrt(hidden),
            "b2": 0.1 * rng.normal(size=hidden),
        }

    def rows_of(ops: Ops, a: Mapping[str, Any]) -> Any:
        z = ops.softplus(a["x"] @ a["W1"].T + a["b1"])
        return ops.softplus(z @ a["W2"].T + a["b2"]).sum(1) + (a["x"] ** 2).sum(1) / 2

    def build() -> cp.Model:
        m = cp.Model("energy")
        n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=size, h=hidden, k=hidden)
        x = m.input("x", n, i)
        w1, b1, w2, b2 = m.param("W1", h, i), m.param("b1", h), m.param("W2", k, h), m.param("b2", k)
        z = m.define("z", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i) + b1[h]))
        e = m.define("e", (n, k), cp.softplus(cp.sum(w2[k, h] * z[n, h], h) + b2[k]))
        m.objective(cp.sum(e[n, k], k) + cp.sum(x[n, i] ** 2, i) / 2)
        return m

    return Workload(
        f"W5/{size}",
        ("x",),
        True,
        draw,
        rows_of,
        build,
        ("gradient", "trace sample", "trace"),
        products=((rows, size, hidden), (rows, hidden, hidden), (rows, hidden, hidden), (rows, hidden, size)),
        calls=("exp", 3 * rows * hidden),
    )


def convolutions() -> Workload:
    """5x5 convolutions of 6 (padded by 2) and 16 channels, average pooling, 120-84-10, tanh."""
    rows = 32
    shapes = {
        "F1": (6, 1, 5, 5),
        "f1": (6,),
        "F2": (16, 6, 5, 5),
        "f2": (16,),
        "W1": (120, 16, 5, 5),
        "b1": (120,),
        "W2": (84, 120),
        "b2": (84,),
        "W3": (10, 84),
        "b3": (10,),
    }

    def draw(rng: np.random.Generator) -> Arrays:
        arrays: Arrays = {"x": rng.normal(size=(rows, 1, 28, 28)), "y": np.eye(10)[rng.integers(0, 10, rows)]}
        for name, shape in shapes.items():
            fan_in = float(np.prod(shape[1:])) if len(shape) > 1 else 100.0
            arrays[name] = rng.normal(size=shape) / np.sqrt(fan_in)
        return arrays

    def rows_of(ops: Ops, a: Mapping[str, Any]) -> Any:
        z = ops.pool(ops.tanh(ops.conv(a["x"], a["F1"], 2) + a["f1"][:, None, None]))
        z = ops.pool(ops.tanh(ops.conv(z, a["F2"], 0) + a["f2"][:, None, None]))
        z = ops.tanh(z.reshape(rows, 400) @ a["W1"].reshape(120, 400).T + a["b1"])
        z = ops.tanh(z @ a["W2"].T + a["b2"]) @ a["W3"].T + a["b3"]
        return ops.logsumexp(z, 1) - (a["y"] * z).sum(1)

    def build() -> cp.Model:
        m = cp.Model("convolutions")
        n, c, p, q, o, k, e, u, r, s, h, g, d = m.axes(
            "n c p q o k e u r s h g d",
            n=cp.ROWS, c=1, p=28, q=28, o=6, k=5, e=5, u=16, r=5, s=5, h=120, g=84, d=10,
        )  # fmt: skip
        x, y = m.input("x", n, c, p, q), m.input("y", n, d)
        first = cp.layers.conv2d(m, "a1", x, m.param("F1", o, c, k, e), m.param("f1", o), padding=2)
        z1 = m.define("z1", first.axes, sp.tanh(first[first.axes]))
        pooled = cp.layers.avg_pool(m, "p1", z1, 2, 2)
        second = cp.layers.conv2d(m, "a2", pooled, m.param("F2", u, o, r, s), m.param("f2", u))
        z2 = m.define("z2", second.axes, sp.tanh(second[second.axes]))
        last = cp.layers.avg_pool(m, "p2", z2, 2, 2)
        v, w = last.axes[-2:]
        w1, b1 = m.param("W1", h, u, v, w), m.param("b1", h)
        z3 = m.define("z3", (n, h), sp.tanh(cp.sum(w1[h, u, v, w] * last[n, u, v, w], u, v, w) + b1[h]))
        a4 = cp.layers.dense(m, "a4", z3, m.param("W2", g, h), m.param("b2", g))
        z4 = m.define("z4", (n, g), sp.tanh(a4[n, g]))
        a5 = cp.layers.dense(m, "a5", z4, m.param("W3", d, g), m.param("b3", d))
        m.objective(cp.logsumexp(a5[n, d], d) - cp.sum(y[n, d] * a5[n, d], d), reduction="mean")
        return m

    products = (
        (6, 25, rows * 784), (16, 150, rows * 100), (rows, 400, 120), (rows, 120, 84), (rows, 84, 10),
        (rows, 10, 84), (rows, 84, 120), (rows, 120, 400), (150, 16, rows * 100),
        (6, rows * 784, 25), (16, rows * 100, 150), (120, rows, 400), (84, rows, 120), (10, rows, 84),
    )  # fmt: skip
    return Workload(
        "W6",
        tuple(shapes),
        False,
        draw,
        rows_of,
        build,
        ("gradient", "sample", "diagonal"),
        mean=True,
        products=products,
        calls=("tanh", rows * (6 * 784 + 16 * 100 + 120 + 84)),
    )


def transformer() -> Workload:
    """Attention of 4 heads and a tanh network of twice the width, each with a skip; the mean token is classified."""
    rows, tokens, width, heads, head, hidden, classes = 8, 32, 64, 4, 16, 128, 10
    shapes = {
        "Q": (heads, head, width),
        "K": (heads, head, width),
        "V": (heads, head, width),
        "O": (width, heads, head),
        "W1": (hidden, width),
        "b1": (hidden,),
        "W2": (width, hidden),
        "b2": (width,),
        "C": (classes, width),
    }

    def draw(rng: np.random.Generator) -> Arrays:
        arrays: Arrays = {
            "x": rng.normal(size=(rows, tokens, width)),
            "y": np.eye(classes)[rng.integers(0, classes, rows)],
        }
        for name, shape in shapes.items():
            fan_in = {"Q": width, "K": width, "V": width, "O": width}.get(
                name, shape[-1] if len(shape) > 1 else 100
            )
            arrays[name] = rng.normal(size=shape) / np.sqrt(fan_in)
        return arrays

    def rows_of(ops: Ops, a: Mapping[str, Any]) -> Any:
        q, k, v = (ops.einsum("nti,hei->nhte", a["x"], a[w]) for w in ("Q", "K", "V"))
        weights = ops.softmax(ops.einsum("nhte,nhse->nhts", q, k) / head**0.5, 3)
        mixed = ops.einsum("nhts,nhsd->nthd", weights, v)
        z = ops.einsum("nthd,ohd->nto", mixed, a["O"]) + a["x"]
        z = ops.tanh(z @ a["W1"].T + a["b1"]) @ a["W2"].T + a["b2"] + z
        scores = z.mean(1) @ a["C"].T
        return ops.logsumexp(scores, 1) - (a["y"] * scores).sum(1)

    def build() -> cp.Model:
        m = cp.Model("transformer")
        n, t, s, i, o, h, e, d, g, c = m.axes(
            "n t s i o h e d g c",
            n=cp.ROWS, t=tokens, s=tokens, i=width, o=width, h=heads, e=head, d=head, g=hidden, c=classes,
        )  # fmt: skip
        x, y = m.input("x", n, t, i), m.input("y", n, c)
        wq, wk, wv = m.param("Q", h, e, i), m.param("K", h, e, i), m.param("V", h, d, i)
        q = m.define("q", (n, h, t, e), cp.sum(wq[h, e, i] * x[n, t, i], i))
        k = m.define("k", (n, h, t, e), cp.sum(wk[h, e, i] * x[n, t, i], i))
        v = m.define("v", (n, h, t, d), cp.sum(wv[h, d, i] * x[n, t, i], i))
        scores = m.define("scores", (n, h, t, s), cp.sum(q[n, h, t, e] * k[n, h, s, e], e) / sp.sqrt(head))
        weights = m.define("weights", (n, h, t, s), cp.softmax(scores[n, h, t, s], s))
        mixed = m.define("mixed", (n, t, h, d), cp.sum(weights[n, h, t, s] * v[n, h, s, d], s))
        wo = m.param("O", o, h, d)
        z = m.define("z", (n, t, o), cp.sum(wo[o, h, d] * mixed[n, t, h, d], h, d) + x[n, t, o])
        w1, b1, w2, b2 = m.param("W1", g, o), m.param("b1", g), m.param("W2", i, g), m.param("b2", i)
        a = m.define("a", (n, t, g), sp.tanh(cp.sum(w1[g, o] * z[n, t, o], o) + b1[g]))
        out = m.define("out", (n, t, i), cp.sum(w2[i, g] * a[n, t, g], g) + b2[i] + z[n, t, i])
        pooled = m.define("pooled", (n, i), cp.mean(out[n, t, i], t))
        wc = m.param("C", c, i)
        logits = m.define("logits", (n, c), cp.sum(wc[c, i] * pooled[n, i], i))
        m.objective(cp.logsumexp(logits[n, c], c) - cp.sum(y[n, c] * logits[n, c], c), reduction="mean")
        return m

    seen, pairs = rows * tokens, rows * heads
    forward = [(seen, width, width)] * 4 + [(seen, width, hidden), (seen, hidden, width)]
    attend = [(tokens, head, tokens), (tokens, tokens, head)] * pairs
    # each product of the forward pass, and its two counterparts of the backward pass but for those with x itself
    return Workload(
        "W7",
        tuple(shapes),
        False,
        draw,
        rows_of,
        build,
        ("gradient", "sample", "diagonal"),
        mean=True,
        products=(*forward * 3, *attend * 3)[3:],
        calls=("exp", pairs * tokens * tokens + 2 * seen * hidden),
    )


SAMPLED = ("gradient", "sample", "diagonal")
WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        arm(1),
        arm(10_000),
        rosenbrock(10),
        rosenbrock(100),
        rosenbrock(1000),
        mlp("W3/in/1", (16, 32, 32, 1), 1, "sum", quantities=("value", "gradient", "trace", "diagonal")),
        mlp("W3/in/1024", (16, 32, 32, 1), 1024, "sum", quantities=("gradient", "trace", "diagonal")),
        mlp("W3/par/1", (16, 32, 32, 1), 1, "square", quantities=("value", *SAMPLED)),
        mlp("W3/par/1024", (16, 32, 32, 1), 1024, "square", quantities=SAMPLED),
        mlp("W4", (784, 100, 10), 128, "softmax", quantities=SAMPLED, reals=("float64", "float32")),
        energy(100),
        energy(784),
        convolutions(),
        transformer(),
        mlp("W8", (256, 20, 20, 20, 10), 100, "softmax", quantities=SAMPLED),
    )
}
