"""A catalogue of models that together use every construct of the language, each with an objective in plain NumPy.

The NumPy objectives are written from the mathematics, not from the model, and keep the dtype of what they are given, so
that :func:`tests.reference.hessian` can difference them in extended precision.  Use ``CATALOGUE[name]`` or ``ENTRIES``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp

Array = NDArray[np.floating]
Arrays = dict[str, Array]
Draw = Callable[[np.random.Generator, int], Array]


@dataclass(frozen=True)
class Entry:
    """One model.

    ``arrays(seed, rows)`` gives float64 arrays; ``value(arrays)`` the objective of each row, shape (rows,), or (1,) for a
    model without rows.  ``symbolic``: SymPy's Hessian takes a few seconds at most.  ``kinked``: second derivatives jump
    somewhere, so differences need a small step.
    """

    name: str
    build: Callable[[], Any]
    wrt: tuple[str, ...]
    draws: dict[str, Draw]
    value: Callable[[Arrays], Array]
    symbolic: bool
    kinked: bool
    rows: int
    reduction: str

    def arrays(self, seed: int = 0, rows: int | None = None) -> Arrays:
        rng = np.random.default_rng(seed)
        return {name: draw(rng, rows or self.rows) for name, draw in self.draws.items()}

    def compile(self, **options: Any) -> cp.Estimator:
        return cp.compile(self.build(), wrt=list(self.wrt), **options)


CATALOGUE: dict[str, Entry] = {}


@functools.cache
def estimator(name: str, backend: str = "auto") -> cp.Estimator:
    """One for all tests of a process that do no more than call it, so that each program is derived once."""
    return CATALOGUE[name].compile(programs=(), backend=backend)


def entry(
    wrt: str,
    value: Callable[[Arrays], Array],
    symbolic: bool = True,
    kinked: bool = False,
    rows: int = 3,
    reduction: str = "sum",
    **draws: Draw,
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a builder under its own name."""

    def register(build: Callable[[], Any]) -> Callable[[], Any]:
        name = build.__name__
        assert name not in CATALOGUE
        CATALOGUE[name] = Entry(
            name, build, tuple(wrt.split()), draws, value, symbolic, kinked, rows, reduction
        )
        return build

    return register


# Random arrays; "n" in a shape stands for the number of rows


def _shape(shape: tuple[Any, ...], rows: int) -> tuple[int, ...]:
    return tuple(rows if e == "n" else e for e in shape)


def normal(*shape: Any, scale: float = 1.0, mean: float = 0.0) -> Draw:
    return lambda rng, rows: np.asarray(mean + scale * rng.normal(size=_shape(shape, rows)))


def uniform(low: float, high: float, *shape: Any) -> Draw:
    return lambda rng, rows: np.asarray(rng.uniform(low, high, size=_shape(shape, rows)))


def one_hot(classes: int) -> Draw:
    return lambda rng, rows: np.eye(classes)[rng.integers(0, classes, rows)]


def counts(high: int, *shape: Any) -> Draw:
    return lambda rng, rows: rng.integers(0, high, size=_shape(shape, rows)).astype(float)


def with_zeros(*shape: Any) -> Draw:
    """About a third of the entries are exactly zero."""

    def draw(rng: np.random.Generator, rows: int) -> Array:
        values = rng.normal(size=_shape(shape, rows))
        return np.where(rng.uniform(size=values.shape) < 0.35, 0.0, values)

    return draw


# NumPy pieces that keep the dtype


def np_logsumexp(s: Array, axis: int = -1) -> Array:
    top = s.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(s - top).sum(axis=axis))


def np_softmax(s: Array, axis: int = -1) -> Array:
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def np_softplus(s: Array) -> Array:
    return np.logaddexp(s, np.zeros_like(s))


def np_sigmoid(s: Array) -> Array:
    return 1 / (1 + np.exp(-s))


def np_erf(x: Array) -> Array:
    """Maclaurin series; for |x| < 3."""
    term = x * 2 / np.sqrt(x.dtype.type(4) * np.arctan(x.dtype.type(1)))
    total = term
    for k in range(1, 80):
        term = -term * x * x / k
        total = total + term / (2 * k + 1)
    return total


def np_loggamma(x: Array) -> Array:
    """Stirling's series after 24 steps of the recurrence; for x > 0."""
    one = x.dtype.type(1)
    z = x + 24
    half_log_two_pi = np.log(8 * np.arctan(one)) / 2
    series = 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5) - 1 / (1680 * z**7) + 1 / (1188 * z**9)
    shift = np.log(np.stack([x + k for k in range(24)])).sum(axis=0)
    return (z - one / 2) * np.log(z) - z + half_log_two_pi + series - shift


def np_digamma(x: Array) -> Array:
    """The derivative of :func:`np_loggamma`, term by term."""
    one = x.dtype.type(1)
    z = x + 24
    series = 1 / (12 * z**2) - 1 / (120 * z**4) + 1 / (252 * z**6) - 1 / (240 * z**8) + 1 / (132 * z**10)
    return np.log(z) - one / (2 * z) - series - (1 / np.stack([x + k for k in range(24)])).sum(axis=0)


# Plain expressions


@entry(
    "u v",
    lambda a: (1 - a["u"]) ** 2 + 100 * (a["v"] - a["u"] ** 2) ** 2,
    u=normal("n"),
    v=normal("n"),
)
def rosenbrock() -> Any:
    u, v = sp.symbols("u v")
    return (1 - u) ** 2 + 100 * (v - u**2) ** 2


def _arrhenius(a: Arrays) -> Array:
    k1 = np.exp(a["lnA"] - a["E"] / a["T"])
    k2 = np.exp(a["lnB"] - 2 * a["E"] / a["T"])
    return (k1 * a["ca"] - k2 * a["cb"] ** 2) ** 2 / (1 + a["ca"]) + a["T"] * np.log(a["T"])


@entry(
    "lnA lnB E T ca",
    _arrhenius,
    **{k: uniform(0.5, 1.5, "n") for k in ("lnA", "lnB", "E", "T", "ca", "cb")},
)
def reaction_rate() -> Any:
    """A plain expression of which only some symbols are differentiated."""
    ln_a, ln_b, e, t, ca, cb = sp.symbols("lnA lnB E T ca cb")
    k1, k2 = sp.exp(ln_a - e / t), sp.exp(ln_b - 2 * e / t)
    return (k1 * ca - k2 * cb**2) ** 2 / (1 + ca) + t * sp.log(t)


# Models without rows


@entry(
    "x",
    lambda a: np.sum(100 * (a["x"][1:] - a["x"][:-1] ** 2) ** 2 + (1 - a["x"][:-1]) ** 2, keepdims=True),
    x=normal(6),
)
def chained_rosenbrock() -> cp.Model:
    m = cp.Model("chained_rosenbrock")
    i, k = m.axes("i k", i=6, k=5)
    x = m.param("x", i)
    m.objective(cp.sum(100 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2, k))
    return m


def _lattice(a: Arrays) -> Array:
    f = a["f"]
    links = ((f[1:] - f[:-1]) ** 2).sum() + ((f[:, 1:] - f[:, :-1]) ** 2).sum()
    return np.reshape(links / 2 + (a["mass"] * f**2 / 2 + a["g"] * f**4).sum(), 1)


@entry("f mass g", _lattice, f=normal(3, 4), mass=uniform(0.5, 1.0), g=uniform(0.1, 0.3))
def lattice() -> cp.Model:
    """A field on a grid with neighbours in two directions, and its couplings, all differentiated."""
    m = cp.Model("lattice")
    p, q, u, v = m.axes("p q u v", p=3, q=4, u=2, v=3)
    f, mass, g = m.param("f", p, q), m.param("mass"), m.param("g")
    links = cp.sum((f[u + 1, q] - f[u, q]) ** 2, u, q) + cp.sum((f[p, v + 1] - f[p, v]) ** 2, p, v)
    m.objective(links / 2 + cp.sum(mass * f[p, q] ** 2 / 2 + g * f[p, q] ** 4, p, q))
    return m


# Generalised linear models


@entry(
    "w b",
    lambda a: np_softplus(a["x"] @ a["w"] + a["b"]) - a["y"] * (a["x"] @ a["w"] + a["b"]),
    x=normal("n", 4),
    y=counts(2, "n"),
    w=normal(4),
    b=normal(),
)
def logistic_regression() -> cp.Model:
    m = cp.Model("logistic_regression")
    n, i = m.axes("n i", n=cp.ROWS, i=4)
    x, y = m.input("x", n, i), m.input("y", n)
    w, b = m.param("w", i), m.param("b")
    s = m.define("s", n, cp.sum(w[i] * x[n, i], i) + b)
    m.objective(sp.log(1 + sp.exp(s[n])) - y[n] * s[n], convex_in="s")
    return m


@entry(
    "W b",
    lambda a: np_logsumexp(a["x"] @ a["W"].T + a["b"]) - (a["y"] * (a["x"] @ a["W"].T + a["b"])).sum(1),
    x=normal("n", 4),
    y=one_hot(3),
    W=normal(3, 4),
    b=normal(3),
)
def softmax_regression() -> cp.Model:
    m = cp.Model("softmax_regression")
    n, i, c = m.axes("n i c", n=cp.ROWS, i=4, c=3)
    x, y = m.input("x", n, i), m.input("y", n, c)
    s = cp.layers.dense(m, "s", x, m.param("W", c, i), m.param("b", c))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), convex_in="s")
    return m


def _poisson_and_gamma(a: Arrays) -> Array:
    linear, shape = a["x"] @ a["w"], np.exp(a["x"] @ a["v"])
    poisson = np.exp(linear) - a["k"] * linear + np_loggamma(a["k"] + 1)
    return (
        poisson
        + np_loggamma(shape)
        - shape * np.log(a["beta"])
        - (shape - 1) * np.log(a["t"])
        + a["beta"] * a["t"]
    )


@entry(
    "w v beta",
    _poisson_and_gamma,
    x=normal("n", 3, scale=0.6),
    k=counts(5, "n"),
    t=uniform(0.3, 2.0, "n"),
    w=normal(3),
    v=normal(3),
    beta=uniform(0.5, 1.5),
)
def poisson_and_gamma() -> cp.Model:
    """A Poisson count and a gamma duration; the shape parameter of the latter is differentiated through loggamma."""
    m = cp.Model("poisson_and_gamma")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, k, t = m.input("x", n, i), m.input("k", n), m.input("t", n)
    w, v, beta = m.param("w", i), m.param("v", i), m.param("beta")
    lin = m.define("lin", n, cp.sum(w[i] * x[n, i], i))
    alpha = m.define("alpha", n, sp.exp(cp.sum(v[i] * x[n, i], i)))
    poisson = sp.exp(lin[n]) - k[n] * lin[n] + sp.loggamma(k[n] + 1)
    gamma = sp.loggamma(alpha[n]) - alpha[n] * sp.log(beta) - (alpha[n] - 1) * sp.log(t[n]) + beta * t[n]
    m.objective(poisson + gamma)
    return m


def _gaussian_mixture(a: Arrays) -> Array:
    z = (a["x"][:, None, :] - a["mu"]) * np.exp(-a["ls"])
    parts = np.log(np_softmax(a["logit"])) - (z**2).sum(2) / 2 - a["ls"].sum(1)
    return -np_logsumexp(parts)


@entry(
    "mu ls logit",
    _gaussian_mixture,
    x=normal("n", 2),
    mu=normal(3, 2),
    ls=normal(3, 2, scale=0.3),
    logit=normal(3),
)
def gaussian_mixture() -> cp.Model:
    """Mixture weights by a softmax of parameters, scales by their logarithms."""
    m = cp.Model("gaussian_mixture")
    n, k, d, j = m.axes("n k d j", n=cp.ROWS, k=3, d=2, j=3)
    x = m.input("x", n, d)
    mu, ls, logit = m.param("mu", k, d), m.param("ls", k, d), m.param("logit", j)
    weight = m.define("weight", j, cp.softmax(logit[j], j))
    square = m.define("square", (n, k), cp.sum(((x[n, d] - mu[k, d]) * sp.exp(-ls[k, d])) ** 2, d))
    part = m.define("part", (n, k), sp.log(weight[k]) - square[n, k] / 2 - cp.sum(ls[k, d], d))
    m.objective(-cp.logsumexp(part[n, k], k))
    return m


# Networks


def _mlp_tanh(a: Arrays) -> Array:
    z = np.tanh(a["x"] @ a["W1"].T + a["b1"])
    z = np.tanh(z @ a["W2"].T + a["b2"])
    s = z @ a["W3"].T + a["b3"]
    return np_logsumexp(s) - (a["y"] * s).sum(1)


@entry(
    "W1 b1 W2 b2 W3 b3",
    _mlp_tanh,
    symbolic=False,
    x=normal("n", 4),
    y=one_hot(3),
    W1=normal(3, 4),
    b1=normal(3),
    W2=normal(3, 3),
    b2=normal(3),
    W3=normal(3, 3),
    b3=normal(3),
)
def mlp_tanh() -> cp.Model:
    m = cp.Model("mlp_tanh")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=4, h=3, k=3, c=3)
    x, y = m.input("x", n, i), m.input("y", n, c)
    a1 = cp.layers.dense(m, "a1", x, m.param("W1", h, i), m.param("b1", h))
    z1 = m.define("z1", (n, h), sp.tanh(a1[n, h]))
    a2 = cp.layers.dense(m, "a2", z1, m.param("W2", k, h), m.param("b2", k))
    z2 = m.define("z2", (n, k), sp.tanh(a2[n, k]))
    s = cp.layers.dense(m, "s", z2, m.param("W3", c, k), m.param("b3", c))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), convex_in=s)
    return m


@entry(
    "W1 b1 W2",
    lambda a: (
        ((np.maximum(np.maximum(a["x"] @ a["W1"].T + a["b1"], 0) @ a["W2"].T, 0) - a["y"]) ** 2).sum(1) / 2
    ),
    symbolic=False,
    kinked=True,
    x=normal("n", 3),
    y=normal("n", 2),
    W1=normal(4, 3),
    b1=normal(4),
    W2=normal(2, 4),
)
def mlp_relu() -> cp.Model:
    """relu by its own function and as sympy.Max; half the Hessian comes from the multilinear maps alone."""
    m = cp.Model("mlp_relu")
    n, i, h, c = m.axes("n i h c", n=cp.ROWS, i=3, h=4, c=2)
    x, y = m.input("x", n, i), m.input("y", n, c)
    w1, b1, w2 = m.param("W1", h, i), m.param("b1", h), m.param("W2", c, h)
    z = m.define("z", (n, h), cp.relu(cp.sum(w1[h, i] * x[n, i], i) + b1[h]))
    o = m.define("o", (n, c), sp.Max(cp.sum(w2[c, h] * z[n, h], h), 0))
    m.objective(cp.sum((o[n, c] - y[n, c]) ** 2, c) / 2)
    return m


@entry(
    "x",
    lambda a: (
        np_softplus(np_softplus(a["x"] @ a["W"].T + a["b"]) @ a["U"].T) @ a["v"] + (a["x"] ** 2).sum(1) / 2
    ),
    x=normal("n", 4),
    W=normal(4, 4),
    b=normal(4),
    U=normal(3, 4),
    v=normal(3),
)
def softplus_energy() -> cp.Model:
    """An energy by its inputs: the diagonal and the Laplacian of each row."""
    m = cp.Model("softplus_energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=4, h=4, k=3)
    x = m.input("x", n, i)
    w, b, u, v = m.param("W", h, i), m.param("b", h), m.param("U", k, h), m.param("v", k)
    z = m.define("z", (n, h), cp.softplus(cp.sum(w[h, i] * x[n, i], i) + b[h]))
    e = m.define("e", (n, k), cp.softplus(cp.sum(u[k, h] * z[n, h], h)))
    m.objective(cp.sum(v[k] * e[n, k], k) + cp.sum(x[n, i] ** 2, i) / 2)
    return m


def _activations(a: Arrays) -> Array:
    s = a["x"] @ a["W"].T
    gelu = s * (1 + np_erf(s / np.sqrt(s.dtype.type(2)))) / 2
    silu = s * np_sigmoid(s)
    return ((a["g"] * gelu + silu * np_sigmoid(a["t"] * s)) ** 2).sum(1) + np.log(np.cosh(s)).sum(1)


@entry("W g t", _activations, x=normal("n", 2), W=normal(3, 2), g=normal(3), t=normal(3))
def smooth_activations() -> cp.Model:
    m = cp.Model("smooth_activations")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=3)
    x, w, g, t = m.input("x", n, i), m.param("W", h, i), m.param("g", h), m.param("t", h)
    s = m.define("s", (n, h), cp.sum(w[h, i] * x[n, i], i))
    z = m.define("z", (n, h), g[h] * cp.gelu(s[n, h]) + cp.silu(s[n, h]) * cp.sigmoid(t[h] * s[n, h]))
    m.objective(cp.sum(z[n, h] ** 2, h) + cp.sum(sp.log(sp.cosh(s[n, h])), h))
    return m


def _residual_tied(a: Arrays) -> Array:
    h = a["x"]
    for _ in range(3):
        h = h + np.tanh(h @ a["W"].T + a["b"])
    return ((h @ a["W"] - a["y"]) ** 2).sum(1) / 2


@entry(
    "W b",
    _residual_tied,
    symbolic=False,
    x=normal("n", 3),
    y=normal("n", 3),
    W=normal(3, 3, scale=0.6),
    b=normal(3, scale=0.5),
)
def residual_tied() -> cp.Model:
    """Three residual blocks sharing one matrix, whose transpose also decodes."""
    m = cp.Model("residual_tied")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=3, j=3)
    x, y, w, b = m.input("x", n, i), m.input("y", n, i), m.param("W", i, j), m.param("b", i)
    h = x
    for step in (1, 2, 3):
        h = m.define(f"h{step}", (n, i), h[n, i] + sp.tanh(cp.sum(w[i, j] * h[n, j], j) + b[i]))
    o = m.define("o", (n, j), cp.sum(w[i, j] * h[n, i], i))
    m.objective(cp.sum((o[n, i] - y[n, i]) ** 2, i) / 2)
    return m


def _recurrent(a: Arrays) -> Array:
    h = np.tanh(a["x"][:, 0] @ a["U"].T + a["b"])
    for t in (1, 2):
        h = np.tanh(h @ a["W"].T + a["x"][:, t] @ a["U"].T + a["b"])
    return (h @ a["v"] - a["y"]) ** 2


@entry(
    "U W b v",
    _recurrent,
    symbolic=False,
    x=normal("n", 3, 2),
    y=normal("n"),
    U=normal(3, 2),
    W=normal(3, 3),
    b=normal(3),
    v=normal(3),
)
def recurrent() -> cp.Model:
    """Three steps with the same weights; the step is a constant subscript."""
    m = cp.Model("recurrent")
    n, t, i, h, k = m.axes("n t i h k", n=cp.ROWS, t=3, i=2, h=3, k=3)
    x, y = m.input("x", n, t, i), m.input("y", n)
    u, w, b, v = m.param("U", h, i), m.param("W", h, k), m.param("b", h), m.param("v", h)
    s = m.define("s0", (n, h), sp.tanh(cp.sum(u[h, i] * x[n, 0, i], i) + b[h]))
    for step in (1, 2):
        drive = cp.sum(u[h, i] * x[n, step, i], i) + b[h]
        s = m.define(f"s{step}", (n, h), sp.tanh(cp.sum(w[h, k] * s[n, k], k) + drive))
    m.objective((cp.sum(v[h] * s[n, h], h) - y[n]) ** 2)
    return m


def _attention(a: Arrays) -> Array:
    q, k, v = (np.einsum("nti,ei->nte", a["x"], a[w]) for w in ("Q", "K", "V"))
    scores = np.einsum("nte,nse->nts", q, k) / np.sqrt(q.dtype.type(2))
    out = np.einsum("nts,nsd->ntd", np_softmax(scores), v) + a["x"]
    return (out**3).sum(axis=(1, 2)) / 3


@entry(
    "Q K V x",
    _attention,
    symbolic=False,
    x=normal("n", 3, 2),
    Q=normal(2, 2),
    K=normal(2, 2),
    V=normal(2, 2),
)
def attention() -> cp.Model:
    """Self-attention with a skip connection, by its weights and by its inputs."""
    m = cp.Model("attention")
    n, t, i, e, d = m.axes("n t i e d", n=cp.ROWS, t=3, i=2, e=2, d=2)
    x = m.input("x", n, t, i)
    q = cp.layers.dense(m, "q", x, m.param("Q", e, i))
    k = cp.layers.dense(m, "k", x, m.param("K", e, i))
    v = cp.layers.dense(m, "v", x, m.param("V", d, i))
    mixed = cp.layers.attention(m, "mixed", q, k, v)
    m.objective(cp.sum((mixed[n, t, d] + x[n, t, d]) ** 3, t, d) / 3)
    return m


def _layer_norm(a: Arrays) -> Array:
    s = a["x"] @ a["W"].T
    centred = s - s.mean(axis=1, keepdims=True)
    z = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-2)
    s = (a["g"] * z + a["b"]) ** 2
    return np_logsumexp(s)


@entry(
    "W g b",
    _layer_norm,
    symbolic=False,
    x=normal("n", 3),
    W=normal(4, 3),
    g=normal(4, mean=1.0, scale=0.3),
    b=normal(4, scale=0.3),
)
def layer_normalised() -> cp.Model:
    m = cp.Model("layer_normalised")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=4)
    x, w, g, b = m.input("x", n, i), m.param("W", h, i), m.param("g", h), m.param("b", h)
    s = m.define("s", (n, h), cp.sum(w[h, i] * x[n, i], i))
    z = m.define("z", (n, h), g[h] * cp.layer_norm(s[n, h], h, eps=1e-2) + b[h])
    m.objective(cp.logsumexp(z[n, h] ** 2, h))
    return m


def _conv1d(a: Arrays) -> Array:
    padded = np.pad(a["x"], ((0, 0), (0, 0), (1, 1)))
    windows = np.stack([padded[:, :, 2 * q : 2 * q + 3] for q in range(3)], axis=2)  # [n, c, q, k]
    s = np.einsum("nouk,cok->ncu", windows, a["W"]) + a["b"][:, None]
    return np_softplus(s).sum(axis=1) @ a["v"]


@entry(
    "x W b",
    _conv1d,
    x=normal("n", 2, 5),
    W=normal(3, 2, 3),
    b=normal(3),
    v=normal(3),
)
def convolution_1d() -> cp.Model:
    """Stride 2 with padding, differentiated by the signal and by the filters."""
    m = cp.Model("convolution_1d")
    n, c, p, o, k = m.axes("n c p o k", n=cp.ROWS, c=2, p=5, o=3, k=3)
    x, w, b = m.input("x", n, c, p), m.param("W", o, c, k), m.param("b", o)
    s = cp.layers.conv1d(m, "s", x, w, b, stride=2, padding=1)
    q = s.axes[-1]
    v = m.param("v", q)
    m.objective(cp.sum(v[q] * cp.softplus(s[n, o, q]), o, q))
    return m


def _conv2d(a: Arrays) -> Array:
    x, f = a["x"], a["F"]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    s = np.zeros((len(x), 2, 4, 4), x.dtype)
    for r in range(3):
        for q in range(3):
            window = padded[:, :, r : r + 4, q : q + 4]
            s = s + np.einsum("ncpq,oc->nopq", window, f[:, :, r, q])
    s = np.tanh(s)
    pooled = s.reshape(len(x), 2, 2, 2, 2, 2).mean(axis=(3, 5))
    z = np.einsum("nopq,kopq->nk", pooled, a["W"]) + a["b"]
    return np_logsumexp(z) - (a["y"] * z).sum(1)


@entry(
    "F W b",
    _conv2d,
    symbolic=False,
    x=normal("n", 1, 4, 4),
    y=one_hot(2),
    F=normal(2, 1, 3, 3),
    W=normal(2, 2, 2, 2),
    b=normal(2),
)
def convolution_2d() -> cp.Model:
    """Same-size convolution, average pooling, and a read-out over three axes at once."""
    m = cp.Model("convolution_2d")
    n, c, p, q, o, r, t, k = m.axes("n c p q o r t k", n=cp.ROWS, c=1, p=4, q=4, o=2, r=3, t=3, k=2)
    x, y = m.input("x", n, c, p, q), m.input("y", n, k)
    s = cp.layers.conv2d(m, "s", x, m.param("F", o, c, r, t), padding=1)
    z = m.define("z", s.axes, sp.tanh(s[s.axes]))
    pooled = cp.layers.avg_pool(m, "pooled", z, 2, 2)
    u, v = pooled.axes[-2:]
    w, b = m.param("W", k, o, u, v), m.param("b", k)
    out = m.define("out", (n, k), cp.sum(w[k, o, u, v] * pooled[n, o, u, v], o, u, v) + b[k])
    m.objective(cp.logsumexp(out[n, k], k) - cp.sum(y[n, k] * out[n, k], k))
    return m


def _experts(a: Arrays) -> Array:
    gate = np_softmax(a["x"] @ a["G"].T)
    expert = np.sin(a["x"] @ a["E"].T)
    return ((gate * expert).sum(1) - a["y"]) ** 2


@entry("G E", _experts, x=normal("n", 2), y=normal("n"), G=normal(3, 2), E=normal(3, 2))
def mixture_of_experts() -> cp.Model:
    m = cp.Model("mixture_of_experts")
    n, i, k = m.axes("n i k", n=cp.ROWS, i=2, k=3)
    x, y, g, e = m.input("x", n, i), m.input("y", n), m.param("G", k, i), m.param("E", k, i)
    gate = m.define("gate", (n, k), cp.softmax(cp.sum(g[k, i] * x[n, i], i), k))
    expert = m.define("expert", (n, k), sp.sin(cp.sum(e[k, i] * x[n, i], i)))
    m.objective((cp.sum(gate[n, k] * expert[n, k], k) - y[n]) ** 2)
    return m


# Reductions and contractions


@entry(
    "x c",
    lambda a: np.prod(a["x"], axis=1) + np.prod(a["x"] - a["c"], axis=1) ** 2,
    x=with_zeros("n", 5),
    c=with_zeros(5),
)
def products() -> cp.Model:
    """Products over an axis with zeros among the factors, by inputs and parameters."""
    m = cp.Model("products")
    n, i = m.axes("n i", n=cp.ROWS, i=5)
    x, c = m.input("x", n, i), m.param("c", i)
    m.objective(cp.prod(x[n, i], i) + cp.prod(x[n, i] - c[i], i) ** 2)
    return m


@entry(
    "W",
    lambda a: np.sqrt(
        1 + np.sqrt(((a["y"] - np.einsum("ijk,nk->nij", a["W"], a["x"])) ** 2).sum(axis=(1, 2)))
    ),
    x=normal("n", 2),
    y=normal("n", 2, 3),
    W=normal(2, 3, 2),
)
def robust_norm() -> cp.Model:
    m = cp.Model("robust_norm")
    n, i, j, k = m.axes("n i j k", n=cp.ROWS, i=2, j=3, k=2)
    x, y, w = m.input("x", n, k), m.input("y", n, i, j), m.param("W", i, j, k)
    r = m.define("r", (n, i, j), y[n, i, j] - cp.sum(w[i, j, k] * x[n, k], k))
    m.objective(sp.sqrt(1 + cp.norm(r[n, i, j], i, j)))
    return m


@entry(
    "x B A",
    lambda a: np.tanh(np.einsum("ni,hij,nj,hj->nh", a["x"], a["B"], a["z"], a["A"])).sum(1),
    x=normal("n", 2),
    z=normal("n", 3),
    B=normal(3, 2, 3),
    A=normal(3, 3),
)
def bilinear() -> cp.Model:
    """A contraction of four operands over two axes."""
    m = cp.Model("bilinear")
    n, i, j, h = m.axes("n i j h", n=cp.ROWS, i=2, j=3, h=3)
    x, z, b, a = m.input("x", n, i), m.input("z", n, j), m.param("B", h, i, j), m.param("A", h, j)
    s = m.define("s", (n, h), cp.sum(x[n, i] * b[h, i, j] * z[n, j] * a[h, j], i, j))
    m.objective(cp.sum(sp.tanh(s[n, h]), h))
    return m


def _repeated(a: Arrays) -> Array:
    trace = a["x"] @ np.diagonal(a["A"])
    cubed = np.einsum("ij,jk,ki->", a["A"], a["A"], a["A"])
    return np.exp(trace / 2) + np.einsum("ni,ij,nj->n", a["x"], a["A"], a["x"]) ** 2 + cubed


@entry("A x", _repeated, x=normal("n", 3, scale=0.5), A=normal(3, 3, scale=0.5))
def repeated_index() -> cp.Model:
    """A[i, i], a quadratic form, and the trace of a third power: one matrix three times in one sum."""
    m = cp.Model("repeated_index")
    n, i, j, k = m.axes("n i j k", n=cp.ROWS, i=3, j=3, k=3)
    x, a = m.input("x", n, i), m.param("A", i, j)
    form = m.define("form", n, cp.sum(x[n, i] * a[i, j] * x[n, j], i, j))
    cubed = m.define("cubed", (), cp.sum(a[i, j] * a[j, k] * a[k, i], i, j, k))
    m.objective(sp.exp(cp.sum(a[i, i] * x[n, i], i) / 2) + form[n] ** 2 + cubed)
    return m


def _factorisation(a: Arrays) -> Array:
    table = np.einsum("uk,vk->uv", a["U"], a["V"]) + a["r"][:, None] + a["s"]
    missed = a["mask"] * (a["y"] - table) ** 2
    penalty = (a["U"] ** 2).sum() + (a["V"] ** 2).sum()
    return (missed.sum(axis=(1, 2)) + 0.1 * penalty) / len(missed)


@entry(
    "U V r s",
    _factorisation,
    reduction="mean",
    y=normal("n", 3, 4),
    mask=counts(2, "n", 3, 4),
    U=normal(3, 2),
    V=normal(4, 2),
    r=normal(3),
    s=normal(4),
)
def factorisation() -> cp.Model:
    """Low-rank tables with masks and a penalty, averaged over rows; row and column offsets broadcast."""
    m = cp.Model("factorisation")
    n, u, v, k = m.axes("n u v k", n=cp.ROWS, u=3, v=4, k=2)
    y, mask = m.input("y", n, u, v), m.input("mask", n, u, v)
    left, right, r, s = m.param("U", u, k), m.param("V", v, k), m.param("r", u), m.param("s", v)
    table = m.define("table", (u, v), cp.sum(left[u, k] * right[v, k], k) + r[u] + s[v])
    penalty = m.define("penalty", (), cp.sum(left[u, k] ** 2, u, k) + cp.sum(right[v, k] ** 2, v, k))
    missed = cp.sum(mask[n, u, v] * (y[n, u, v] - table[u, v]) ** 2, u, v)
    m.objective(missed + 0.1 * penalty, reduction="mean")
    return m


@entry(
    "w",
    lambda a: (
        (
            (a["x"] * np.exp(a["w"])).mean(axis=(1, 2))
            - ((a["x"] - a["x"].mean(axis=(1, 2), keepdims=True)) ** 2).mean(axis=(1, 2))
        )
        ** 3
    ),
    x=normal("n", 2, 3),
    w=normal(3, scale=0.5),
)
def means() -> cp.Model:
    m = cp.Model("means")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=2, j=3)
    x, w = m.input("x", n, i, j), m.param("w", j)
    average = m.define("average", n, cp.mean(x[n, i, j], i, j))
    variance = m.define("variance", n, cp.mean((x[n, i, j] - average[n]) ** 2, i, j))
    m.objective((cp.mean(x[n, i, j] * sp.exp(w[j]), i, j) - variance[n]) ** 3)
    return m


@entry(
    "W b x",
    lambda a: (
        np.tanh((a["W"] * a["x"][:, None, :] + a["b"][:, None] - 1).sum(2)).sum(1)
        + (a["x"][:, None, :] * a["b"][:, None] + a["x"][:, None, :] + 2).mean(axis=(1, 2)) ** 3
    ),
    x=normal("n", 3),
    W=normal(2, 3),
    b=normal(2),
)
def unlike_terms() -> cp.Model:
    """Sums whose terms do not vary along every axis that is summed over."""
    m = cp.Model("unlike_terms")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=2)
    x, w, b = m.input("x", n, i), m.param("W", h, i), m.param("b", h)
    s = m.define("s", (n, h), cp.sum(w[h, i] * x[n, i] + b[h] - 1, i))
    m.objective(cp.sum(sp.tanh(s[n, h]), h) + cp.mean(x[n, i] * b[h] + x[n, i] + 2, i, h) ** 3)
    return m


@entry(
    "x a",
    lambda a: (
        np.exp(a["a"]) * np.log(np.cosh(np.diff(a["x"], axis=1))).sum(1)
        + ((a["x"][:, 2:] - 2 * a["x"][:, 1:-1] + a["x"][:, :-2]) ** 2).sum(1)
        + ((a["x"] - a["y"]) ** 2).sum(1) / 2
    ),
    x=normal("n", 6),
    y=normal("n", 6),
    a=normal(),
)
def smoother() -> cp.Model:
    """First and second differences along an axis; a scalar parameter beside the rows."""
    m = cp.Model("smoother")
    n, t, p, q = m.axes("n t p q", n=cp.ROWS, t=6, p=5, q=4)
    x, y, a = m.input("x", n, t), m.input("y", n, t), m.param("a")
    first = m.define("first", (n, p), x[n, p + 1] - x[n, p])
    second = m.define("second", (n, q), x[n, q + 2] - 2 * x[n, q + 1] + x[n, q])
    rough = sp.exp(a) * cp.sum(sp.log(sp.cosh(first[n, p])), p) + cp.sum(second[n, q] ** 2, q)
    m.objective(rough + cp.sum((x[n, t] - y[n, t]) ** 2, t) / 2)
    return m


# Scalar functions


def _robot_arm(a: Arrays) -> Array:
    angle = np.cumsum(a["q"], axis=1)
    x, y = (a["l"] * np.cos(angle)).sum(1), (a["l"] * np.sin(angle)).sum(1)
    distance = (x - a["goal"][:, 0]) ** 2 + (y - a["goal"][:, 1]) ** 2
    return distance / 2 + np.arctan2(y, x) ** 2 + np.tan(a["q"] / 4).sum(1)


@entry(
    "q l",
    _robot_arm,
    q=uniform(0.1, 0.8, "n", 3),
    l=uniform(0.5, 1.5, 3),
    goal=normal("n", 2),
    lower=lambda rng, rows: np.tri(3),
)
def robot_arm() -> cp.Model:
    m = cp.Model("robot_arm")
    n, i, j, d = m.axes("n i j d", n=cp.ROWS, i=3, j=3, d=2)
    q, goal, l = m.input("q", n, i), m.input("goal", n, d), m.param("l", i)
    lower = m.input("lower", j, i)
    angle = m.define("angle", (n, j), cp.sum(lower[j, i] * q[n, i], i))
    x = m.define("px", n, cp.sum(l[j] * sp.cos(angle[n, j]), j))
    y = m.define("py", n, cp.sum(l[j] * sp.sin(angle[n, j]), j))
    distance = (x[n] - goal[n, 0]) ** 2 + (y[n] - goal[n, 1]) ** 2
    m.objective(distance / 2 + sp.atan2(y[n], x[n]) ** 2 + cp.sum(sp.tan(q[n, i] / 4), i))
    return m


def _huber(a: Arrays) -> Array:
    r = a["x"] @ a["w"] - a["y"]
    d = a["delta"]
    return np.where(np.abs(r) <= d, r**2 / 2, d * (np.abs(r) - d / 2))


@entry(
    "w delta",
    _huber,
    symbolic=False,
    kinked=True,
    rows=6,
    x=normal("n", 3),
    y=normal("n"),
    w=normal(3),
    delta=uniform(0.5, 1.0),
)
def huber() -> cp.Model:
    m = cp.Model("huber")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, y, w, d = m.input("x", n, i), m.input("y", n), m.param("w", i), m.param("delta")
    r = m.define("r", n, cp.sum(w[i] * x[n, i], i) - y[n])
    quadratic, linear = r[n] ** 2 / 2, d * (sp.Abs(r[n]) - d / 2)
    m.objective(sp.Piecewise((quadratic, sp.Abs(r[n]) <= d), (linear, True)))
    return m


@entry(
    "x c",
    lambda a: (
        np.maximum(a["x"] ** 2, a["c"] * a["x"]).sum(1)
        + np.minimum(np.minimum(a["x"] ** 3, a["c"]), 2.0).sum(1)
    ),
    kinked=True,
    x=normal("n", 4),
    c=normal(4),
)
def largest_and_smallest() -> cp.Model:
    m = cp.Model("largest_and_smallest")
    n, i = m.axes("n i", n=cp.ROWS, i=4)
    x, c = m.input("x", n, i), m.param("c", i)
    high, low = sp.Max(x[n, i] ** 2, c[i] * x[n, i]), sp.Min(x[n, i] ** 3, c[i], 2)
    m.objective(cp.sum(high, i) + cp.sum(low, i))
    return m


@entry(
    "w",
    lambda a: np.abs(a["x"] @ a["w"] - a["y"]) ** 3 + 0.5 * np.abs(a["w"]).sum() + np.abs(a["x"] @ a["w"]),
    kinked=True,
    x=normal("n", 4),
    y=normal("n"),
    w=normal(4),
)
def absolute_values() -> cp.Model:
    m = cp.Model("absolute_values")
    n, i = m.axes("n i", n=cp.ROWS, i=4)
    x, y, w = m.input("x", n, i), m.input("y", n), m.param("w", i)
    s = m.define("s", n, cp.sum(w[i] * x[n, i], i))
    m.objective(sp.Abs(s[n] - y[n]) ** 3 + 0.5 * cp.sum(sp.Abs(w[i]), i) + sp.Abs(s[n]))
    return m


softsign2 = cp.function(
    "softsign2",
    fdiff=[
        lambda x, a: 1 / (a + x**2) - 2 * x**2 / (a + x**2) ** 2,
        lambda x, a: -x / (a + x**2) ** 2,
    ],
    c64="({0} / ({1} + {0} * {0}))",
    c32="({0} / ({1} + {0} * {0}))",
    numpy=lambda x, a: x / (a + x * x),
)


@entry(
    "W a",
    lambda a: np.exp((a["x"] @ a["W"].T / (np.exp(a["a"]) + (a["x"] @ a["W"].T) ** 2)).sum(1)),
    x=normal("n", 3),
    W=normal(2, 3),
    a=normal(scale=0.3),
)
def user_function() -> cp.Model:
    """A function with derivatives and C text of the user's own."""
    m = cp.Model("user_function")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=2)
    x, w, a = m.input("x", n, i), m.param("W", h, i), m.param("a")
    s = m.define("s", (n, h), cp.sum(w[h, i] * x[n, i], i))
    m.objective(sp.exp(cp.sum(softsign2(s[n, h], sp.exp(a)), h)))
    return m


def _inverse_functions(a: Arrays) -> Array:
    s = np.tanh(a["x"] @ a["W"].T) / 2
    parts = np.arcsin(s) ** 2 + np.arccos(s) * np.arctan(s) + np.arctanh(s) ** 2
    return (parts + np.arcsinh(s) * np.arccosh(2 + s) + np_erf(s) ** 2).sum(1)


@entry("W", _inverse_functions, x=normal("n", 2), W=normal(2, 2))
def inverse_functions() -> cp.Model:
    m = cp.Model("inverse_functions")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
    x, w = m.input("x", n, i), m.param("W", h, i)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)) / 2)
    s = z[n, h]
    parts = sp.asin(s) ** 2 + sp.acos(s) * sp.atan(s) + sp.atanh(s) ** 2
    m.objective(cp.sum(parts + sp.asinh(s) * sp.acosh(2 + s) + sp.erf(s) ** 2, h))
    return m


def _special_functions(a: Arrays) -> Array:
    s = a["x"] @ np.exp(a["W"]).T
    half = np.sqrt(s.dtype.type(2))
    complement, normal_cdf = 1 - np_erf(s - 1), (1 + np_erf((s - 1) / half)) / 2
    gammas = np.exp(np_loggamma(s)) * np_digamma(s + 1) / 4
    return (gammas + complement * normal_cdf + np.log(np.cosh(s)) * np.sqrt(s**2 + a["b"] ** 2)).sum(1)


@entry("W b x", _special_functions, x=uniform(0.5, 1.0, "n", 2), W=normal(2, 2, scale=0.4), b=normal(2))
def special_functions() -> cp.Model:
    m = cp.Model("special_functions")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
    x, w, b = m.input("x", n, i), m.param("W", h, i), m.param("b", h)
    z = m.define("z", (n, h), cp.sum(sp.exp(w[h, i]) * x[n, i], i))
    s = z[n, h]
    gammas = sp.gamma(s) * sp.digamma(s + 1) / 4
    bells = sp.erfc(s - 1) * cp.normcdf(s - 1)
    m.objective(cp.sum(gammas + bells + cp.logcosh(s) * cp.hypot(s, b[h]), h))
    return m


@entry(
    "p c x",
    lambda a: (
        (np.exp(a["c"]) * a["x"] ** a["p"]).sum(1)
        + np.sqrt(1 + a["x"][:, 0] * a["x"][:, 1])
        + a["x"][:, 2] ** -1.5
    ),
    x=uniform(0.5, 2.0, "n", 3),
    p=normal(3),
    c=normal(3),
)
def power_laws() -> cp.Model:
    """Exponents that are parameters, negative and fractional ones, and constant subscripts."""
    m = cp.Model("power_laws")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, p, c = m.input("x", n, i), m.param("p", i), m.param("c", i)
    tail = sp.sqrt(1 + x[n, 0] * x[n, 1]) + x[n, 2] ** sp.Rational(-3, 2)
    m.objective(cp.sum(sp.exp(c[i]) * x[n, i] ** p[i], i) + tail)
    return m


@entry(
    "V b",
    lambda a: (
        (np.sinh(a["x"] @ np.exp(a["V"]).T / 4 + a["b"]) - a["y"]).sum(1) ** 2
        + 1 / np.cosh(a["x"] @ np.exp(a["V"]).T / 4 + a["b"]).sum(1)
    ),
    x=normal("n", 3),
    y=normal("n", 2),
    V=normal(2, 3, scale=0.5),
    b=normal(2),
)
def positive_weights() -> cp.Model:
    """Parameters transformed before use, W = exp(V): curvature of a definition without rows."""
    m = cp.Model("positive_weights")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=2)
    x, y, v, b = m.input("x", n, i), m.input("y", n, h), m.param("V", h, i), m.param("b", h)
    w = m.define("W", (h, i), sp.exp(v[h, i]))
    s = m.define("s", (n, h), cp.sum(w[h, i] * x[n, i], i) / 4 + b[h])
    m.objective(cp.sum(sp.sinh(s[n, h]) - y[n, h], h) ** 2 + 1 / cp.sum(sp.cosh(s[n, h]), h))
    return m


def _shared_scalar(a: Arrays) -> Array:
    s = a["x"] @ a["W"].T / a["T"]
    z = np.tanh(s * a["T"] ** 2)
    return a["T"] * np_logsumexp(z / a["T"]) + a["T"] ** 2 * (a["x"] ** 2).sum(1)


@entry("T W", _shared_scalar, x=normal("n", 2), W=normal(3, 2), T=uniform(0.6, 1.2))
def shared_scalar() -> cp.Model:
    """One scalar parameter in every definition."""
    m = cp.Model("shared_scalar")
    n, i, c = m.axes("n i c", n=cp.ROWS, i=2, c=3)
    x, w, t = m.input("x", n, i), m.param("W", c, i), m.param("T")
    s = m.define("s", (n, c), cp.sum(w[c, i] * x[n, i], i) / t)
    z = m.define("z", (n, c), sp.tanh(s[n, c] * t**2))
    m.objective(t * cp.logsumexp(z[n, c] / t, c) + t**2 * cp.sum(x[n, i] ** 2, i))
    return m


@entry(
    "x u W",
    lambda a: (
        np.cos(np.sin(a["x"]) @ a["W"].T + a["u"][:, None] * a["z"] + a["f"]).sum(1) + a["u"] ** 2 * a["k"]
    ),
    x=normal("n", 2),
    z=normal("n", 3),
    u=normal("n"),
    f=normal(3),
    k=normal(),
    W=normal(3, 2),
)
def several_inputs() -> cp.Model:
    """Inputs with and without rows, scalars among them; two inputs and a parameter differentiated together."""
    m = cp.Model("several_inputs")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=3)
    x, z, u = m.input("x", n, i), m.input("z", n, h), m.input("u", n)
    f, k, w = m.input("f", h), m.input("k"), m.param("W", h, i)
    mixed = m.define("mixed", (n, h), cp.sum(w[h, i] * sp.sin(x[n, i]), i) + u[n] * z[n, h] + f[h])
    m.objective(cp.sum(sp.cos(mixed[n, h]), h) + u[n] ** 2 * k)
    return m


@entry(
    "w x spare idle",
    lambda a: a["x"] @ a["w"] + 3,
    x=normal("n", 3),
    w=normal(3),
    spare=normal(2),
    idle=normal("n"),
)
def linear() -> cp.Model:
    """Linear in each of its arguments, so only the mixed block is not zero; and leaves that nothing reads."""
    m = cp.Model("linear")
    n, i, k = m.axes("n i k", n=cp.ROWS, i=3, k=2)
    x, w = m.input("x", n, i), m.param("w", i)
    m.param("spare", k)
    m.input("idle", n)
    m.objective(cp.sum(w[i] * x[n, i], i) + 3)
    return m


def _regrouped(a: Arrays) -> Array:
    x = a["x"]
    flat = x.reshape(len(x), 6)
    up = np.repeat(np.tanh(a["V"][:2] * x[:, :, 0]), 3, axis=1)[:, :5]
    heads = np.stack([(flat[:, 2 * g : 2 * g + 2] * a["W"][g]).sum(1) for g in (0, 0, 1, 1, 2, 2)], axis=1)
    turned = sum(np.sin(a["V"][(k - 4) % 3] * x[:, (5 - k) // 3, (k // 2) % 3]) for k in range(6))
    return np.tanh(flat @ a["U"]) ** 2 + (up**3).sum(1) + (heads**2 * flat).sum(1) + turned


@entry("x U V W", _regrouped, x=normal("n", 2, 3), U=normal(6), V=normal(3), W=normal(3, 2))
def regrouped() -> cp.Model:
    """Subscripts with // and %: an array flattened, repeated, in groups, and read round a ring."""
    m = cp.Model("regrouped")
    n, q, k, c, r = m.axes("n q k c r", n=cp.ROWS, q=6, k=5, c=2, r=6)
    a, b = m.axes("a b", a=2, b=3)
    x, u, v, w = m.input("x", n, a, b), m.param("U", q), m.param("V", b), m.param("W", b, c)
    flat = m.define("flat", (n, q), x[n, q // 3, q % 3])
    dense = m.define("dense", n, sp.tanh(cp.sum(u[q] * x[n, q // 3, q % 3], q)))
    small = m.define("small", (n, a), sp.tanh(v[a] * x[n, a, 0]))
    up = m.define("up", (n, k), small[n, k // 3])
    heads = m.define("heads", (n, q), cp.sum(w[q // 2, c] * flat[n, q // 2 * 2 + c], c))
    turned = cp.sum(sp.sin(v[(r - 4) % 3] * x[n, (5 - r) // 3, r // 2 % 3]), r)
    m.objective(dense[n] ** 2 + cp.sum(up[n, k] ** 3, k) + cp.sum(heads[n, q] ** 2 * flat[n, q], q) + turned)
    return m


def _windows(x: Array, size: int, step: int, padding: int) -> Array:
    wide = np.pad(x, [(0, 0), (padding, padding)], constant_values=-np.inf)
    return np.stack([wide[:, p : p + size] for p in range(0, wide.shape[1] - size + 1, step)], axis=1)


def _extrema(a: Arrays) -> Array:
    pooled = _windows(a["x"], 3, 2, 1).max(axis=2)
    spread = np.max(a["V"] * a["x"][:, None, :5], axis=(1, 2)) - np.min(a["x"][:, None, :5] ** 2 + a["V"], axis=(1, 2))
    return (pooled**2).sum(1) + np.exp(spread / 2)


@entry("x V", _extrema, symbolic=False, kinked=True, x=normal("n", 7, mean=-1.0), V=normal(2, 5))
def extrema() -> cp.Model:
    """Largest and smallest over one and two axes; max pooling whose windows begin outside, of numbers below zero."""
    m = cp.Model("extrema")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=7, h=2, k=5)
    x, v = m.input("x", n, i), m.param("V", h, k)
    pooled = cp.layers.max_pool(m, "pooled", x, 3, stride=2, padding=1)
    extremes = cp.max(v[h, k] * x[n, k], h, k) - cp.min(x[n, k] ** 2 + v[h, k], h, k)
    spread = m.define("spread", n, extremes)
    m.objective(cp.sum(pooled[n, pooled.axes[1]] ** 2, pooled.axes[1]) + sp.exp(spread[n] / 2))
    return m


def _several_axes(a: Arrays) -> Array:
    s = a["V"] * a["x"]
    weights = np_softmax(s.reshape(len(s), 6)).reshape(s.shape)
    centred = s - s.mean(axis=(1, 2), keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True) + 0.01)
    rms = a["x"] / np.sqrt((a["x"] ** 2).mean(axis=2, keepdims=True) + 0.01)
    return (
        np_logsumexp(s.reshape(len(s), 6)) ** 2
        + (weights * a["x"] ** 2 + np.sin(a["V"] * normed) + a["V"] * rms**3).sum((1, 2))
    )


@entry("x V", _several_axes, symbolic=False, x=normal("n", 2, 3), V=normal(2, 3))
def several_axes() -> cp.Model:
    """logsumexp, softmax and layer norm over two axes, RMS norm over one."""
    m = cp.Model("several_axes")
    n, a, b = m.axes("n a b", n=cp.ROWS, a=2, b=3)
    x, v = m.input("x", n, a, b), m.param("V", a, b)
    s = m.define("s", (n, a, b), v[a, b] * x[n, a, b])
    weights = m.define("weights", (n, a, b), cp.softmax(s[n, a, b], a, b))
    normed = m.define("normed", (n, a, b), cp.layer_norm(s[n, a, b], b, a, eps=0.01))
    rms = m.define("rms", (n, a, b), cp.rms_norm(x[n, a, b], b, eps=0.01))
    parts = weights[n, a, b] * x[n, a, b] ** 2 + sp.sin(v[a, b] * normed[n, a, b]) + v[a, b] * rms[n, a, b] ** 3
    m.objective(cp.logsumexp(s[n, a, b], a, b) ** 2 + cp.sum(parts, a, b))
    return m


def _grouped(a: Arrays) -> Array:
    """Depthwise in two groups, every other tap."""
    x = np.pad(a["x"], [(0, 0), (0, 0), (1, 1)])
    size = x.shape[2] - 2
    out = np.stack(
        [
            sum(a["W"][o, c, k] * x[:, 2 * (o // 2) + c, 2 * k : 2 * k + size] for c in range(2) for k in range(2))
            for o in range(4)
        ],
        axis=1,
    )
    return np.log(1 + np.tanh(out + a["b"][:, None]) ** 2).sum((1, 2))


@entry("W b x", _grouped, x=normal("n", 4, 4), W=normal(4, 2, 2), b=normal(4))
def grouped_convolution() -> cp.Model:
    """A convolution in groups, dilated and padded."""
    m = cp.Model("grouped_convolution")
    n, c, i, o, g, k = m.axes("n c i o g k", n=cp.ROWS, c=4, i=4, o=4, g=2, k=2)
    x, w, b = m.input("x", n, c, i), m.param("W", o, g, k), m.param("b", o)
    z = cp.layers.conv1d(m, "z", x, w, b, padding=1, dilation=2, groups=2)
    m.objective(cp.sum(sp.log(1 + sp.tanh(z[z.axes]) ** 2), *z.axes[1:]))
    return m


@entry(
    "x V",
    lambda a: (np.sin(a["V"] * np.mod(a["x"], 0.75)) + a["V"] ** 2 * np.ceil(a["x"])).sum(1)
    + np.rint(3 * a["x"]) @ a["V"] ** 3
    + (a["x"] - np.floor(a["x"])).sum(1) ** 2 * np.sign(a["V"][0]),
    symbolic=False,
    kinked=True,
    x=normal("n", 3),
    V=normal(3),
)
def rounded() -> cp.Model:
    """floor, ceiling, rint, frac, Mod and sign: constant between their jumps."""
    m = cp.Model("rounded")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, v = m.input("x", n, i), m.param("V", i)
    wrapped = sp.sin(v[i] * (x[n, i] % sp.Rational(3, 4))) + v[i] ** 2 * sp.ceiling(x[n, i])
    steps = cp.sum(v[i] ** 3 * cp.rint(3 * x[n, i]), i)
    m.objective(cp.sum(wrapped, i) + steps + cp.sum(sp.frac(x[n, i]), i) ** 2 * sp.sign(v[0]))
    return m


TABLE = np.array([[0.5, -1.0, 2.0], [0.0, 1.5, -0.5]])


def _constants(a: Arrays) -> Array:
    z = np.tanh(a["x"] @ TABLE.astype(a["x"].dtype) + a["b"])
    return (np.arange(3) * a["b"] * z**2).sum(1) + np.exp(z @ a["b"] / 4) * a["x"].dtype.type(0.75)


@entry("b x", _constants, x=normal("n", 2), b=normal(3))
def constants() -> cp.Model:
    """A table and a number that belong to the model, and an axis as a number."""
    m = cp.Model("constants")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=3)
    x, b = m.input("x", n, i), m.param("b", h)
    table, rate = m.constant("table", (i, h), TABLE), m.constant("rate", (), 0.75)
    z = m.define("z", (n, h), sp.tanh(cp.sum(table[i, h] * x[n, i], i) + b[h]))
    m.objective(cp.sum(cp.position(h) * b[h] * z[n, h] ** 2, h) + rate * sp.exp(cp.sum(b[h] * z[n, h], h) / 4))
    return m


ENTRIES = tuple(CATALOGUE.values())
