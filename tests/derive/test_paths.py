"""Closed forms over pairs of paths: no noise, and the Hessian's diagonal and trace, from SymPy, the chain rule or JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.paths import PRICE, _never_valid
from cpgen.ir.build import affine
from cpgen.ir.cost import work
from cpgen.ir.nodes import Guard
from cpgen.simplify import simplified
from tests.derive.small import Array, Small, close, each, evaluate, reference

try:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
except ImportError:  # an extra of the benchmarks
    jax = None
needs_jax = pytest.mark.skipif(jax is None, reason="compares with JAX")
KNOWN: list[Small] = []
FEW_COLUMNS = ("attended", "strides")


def known(wrt: str, objective: Callable[[Mapping[str, Array]], sp.Expr]) -> Any:
    def register(build: Callable[[], cp.Model]) -> Callable[[], cp.Model]:
        KNOWN.append(Small(build.__name__, build, tuple(wrt.split()), objective))
        return build

    return register


def everywhere(*sizes: int) -> product[tuple[int, ...]]:
    return product(*map(range, sizes))


# Reads that meet


@known("x", lambda v: sum(v["w"][a, b] * sp.sin(v["x"][a] * v["x"][b]) for a, b in everywhere(3, 3)))
def products_of_all() -> cp.Model:
    """Every element with every other and with itself: nothing is masked."""
    m = cp.Model("products_of_all")
    a, b = m.axes("a b", a=3, b=3)
    x, w = m.param("x", a), m.param("w", a, b)
    m.objective(cp.sum(w[a, b] * sp.sin(x[a] * x[b]), a, b))
    return m


@known("x", lambda v: v["x"] @ v["w"] @ v["x"] + sum(v["x"]) ** 3)
def quadratic_form() -> cp.Model:
    m = cp.Model("quadratic_form")
    n, a, b = m.axes("n a b", n=cp.ROWS, a=3, b=3)
    x, w = m.input("x", n, a), m.param("w", a, b)
    m.objective(cp.sum(w[a, b] * x[n, a] * x[n, b], a, b) + cp.sum(x[n, a], a) ** 3)
    return m


def _triples(v: Mapping[str, Array]) -> sp.Expr:
    x = v["x"]
    return sum(sp.exp(x[a] * x[b] - x[c] ** 2 * x[a]) for a, b, c in everywhere(2, 2, 2))


@known("x", _triples)
def triples() -> cp.Model:
    m = cp.Model("triples")
    a, b, c = m.axes("a b c", a=2, b=2, c=2)
    x = m.param("x", a)
    m.objective(cp.sum(sp.exp(x[a] * x[b] - x[c] ** 2 * x[a]), a, b, c))
    return m


def _strides(v: Mapping[str, Array]) -> sp.Expr:
    x = v["x"]
    first = sum(sp.sin(x[2 * i] * x[i + 3]) for i in range(4))
    u = [x[3 * i + 1] ** 2 * x[i] + x[5 - i] for i in range(2)]
    return first + sum(each(sp.exp, np.array(u))) + sum(x[2 * i] * x[3 * j] for i, j in everywhere(4, 3))


@known("x", _strides)
def strides() -> cp.Model:
    """``x[2 i]``, ``x[i + 3]`` meet at ``i = 3``, ``x[3 i + 1]`` and ``x[i]`` nowhere, ``x[2 i]``, ``x[3 j]`` at two."""
    m = cp.Model("strides")
    k, i, j, l = m.axes("k i j l", k=7, i=4, j=2, l=3)
    x = m.param("x", k)
    u = m.define("u", j, x[3 * j + 1] ** 2 * x[j] + x[5 - j])
    m.objective(
        cp.sum(sp.sin(x[2 * i] * x[i + 3]), i) + cp.sum(sp.exp(u[j]), j) + cp.sum(x[2 * i] * x[3 * l], i, l)
    )
    return m


def _beyond(v: Mapping[str, Array]) -> sp.Expr:
    x = [sp.Integer(0), *v["x"], sp.Integer(0)]
    return sum(sp.sin(x[i] * x[i + 2] + x[i + 1]) + sp.exp(x[i] - x[i + 2]) for i in range(4))


@known("x", _beyond)
def beyond_the_edge() -> cp.Model:
    """Reads beyond the array are zero and have no derivative."""
    m = cp.Model("beyond_the_edge")
    i = m.axis("i", 4)
    x = m.param("x", i)
    y = x.padded
    u = m.define("u", i, y[i - 1] * y[i + 1] + x[i])
    m.objective(cp.sum(sp.sin(u[i]) + sp.exp(y[i - 1] - y[i + 1]), i))
    return m


# Short chains


def _distances(x: Array) -> Array:
    return np.array([[sum((p - q) ** 2) for q in x] for p in x])


def _cluster(v: Mapping[str, Array]) -> sp.Expr:
    r = _distances(v["x"]) + 1 + v["e"] ** 2
    return sum(v["w"][a, b] * (r[a, b] ** -6 - r[a, b] ** -3) for a, b in everywhere(3, 3))


@known("x", _cluster)
def cluster() -> cp.Model:
    """A pair potential of distances; self-pairs are not masked (but kept off zero)."""
    m = cp.Model("cluster")
    a, b, k = m.axes("a b k", a=3, b=3, k=2)
    x, w, e = m.param("x", a, k), m.param("w", a, b), m.param("e", a, b)
    r = m.define("r", (a, b), cp.sum((x[a, k] - x[b, k]) ** 2, k) + 1 + e[a, b] ** 2)
    m.objective(cp.sum(w[a, b] * (r[a, b] ** -6 - r[a, b] ** -3), a, b))
    return m


def _morse(v: Mapping[str, Array]) -> sp.Expr:
    d = each(sp.sqrt, _distances(v["x"]) + 1)
    return sum((1 - sp.exp(-(s - v["s"]))) ** 2 for s in np.ravel(d))


@known("x s", _morse)
def morse() -> cp.Model:
    """Differences, squares, roots and the potential as definitions of their own."""
    m = cp.Model("morse")
    n, a, b, k = m.axes("n a b k", n=cp.ROWS, a=3, b=3, k=2)
    x, s = m.input("x", n, a, k), m.param("s")
    z = m.define("z", (n, a, b, k), x[n, a, k] - x[n, b, k])
    r = m.define("r", (n, a, b), cp.sum(z[n, a, b, k] ** 2, k))
    d = m.define("d", (n, a, b), sp.sqrt(r[n, a, b] + 1))
    e = m.define("e", (n, a, b), 1 - sp.exp(-(d[n, a, b] - s)))
    m.objective(cp.sum(e[n, a, b] ** 2, a, b))
    return m


def _surface(v: Mapping[str, Array]) -> sp.Expr:
    u = v["u"]
    total = sum(
        sp.sqrt(1 + (u[i + 1, j] - u[i, j]) ** 2 + (u[i, j + 1] - u[i, j]) ** 2) for i, j in everywhere(2, 3)
    )
    padded = np.pad(u, 1, constant_values=sp.Integer(0))
    for i, j in everywhere(3, 4):
        near = padded[i, j + 1] + padded[i + 2, j + 1] + padded[i + 1, j] + padded[i + 1, j + 2]
        total += (near - 4 * u[i, j]) ** 2 * (1 + u[i, j] ** 2) / 2
    return total


@known("u", _surface)
def surface() -> cp.Model:
    """Finite differences on a grid: an area, and a Laplacian with a zero border."""
    m = cp.Model("surface")
    i, j, p, q = m.axes("i j p q", i=3, j=4, p=2, q=3)
    u = m.param("u", i, j)
    y = u.padded
    g = m.define("g", (p, q), (u[p + 1, q] - u[p, q]) ** 2 + (u[p, q + 1] - u[p, q]) ** 2)
    l = m.define("l", (i, j), y[i + 1, j] + y[i - 1, j] + y[i, j + 1] + y[i, j - 1] - 4 * u[i, j])
    m.objective(cp.sum(sp.sqrt(1 + g[p, q]), p, q) + cp.sum(l[i, j] ** 2 * (1 + u[i, j] ** 2) / 2, i, j))
    return m


def _messages(v: Mapping[str, Array]) -> sp.Expr:
    x, w = v["x"], v["W"]
    z = each(sp.tanh, v["A"] @ (x @ w.T))
    o = z @ v["v"] + np.array([sum(v["A"][a] * each(sp.sin, x @ x[a])) for a in range(len(x))])
    return sum(o**2)


@known("W v x", _messages)
def messages() -> cp.Model:
    """A graph network by its adjacency matrix: messages of a node's neighbours, and of pairs."""
    m = cp.Model("messages")
    n, a, b, f, h = m.axes("n a b f h", n=cp.ROWS, a=3, b=3, f=2, h=2)
    x, w, v, adjacency = m.input("x", n, a, f), m.param("W", h, f), m.param("v", h), m.param("A", a, b)
    s = m.define("s", (n, a, h), cp.sum(w[h, f] * x[n, a, f], f))
    z = m.define("z", (n, a, h), sp.tanh(cp.sum(adjacency[a, b] * s[n, b, h], b)))
    p = m.define("p", (n, a, b), cp.sum(x[n, a, f] * x[n, b, f], f))
    o = m.define("o", (n, a), cp.sum(v[h] * z[n, a, h], h) + cp.sum(adjacency[a, b] * sp.sin(p[n, a, b]), b))
    m.objective(cp.sum(o[n, a] ** 2, a))
    return m


# Regions


def _lse(values: Any) -> sp.Expr:
    return sp.log(sum(each(sp.exp, np.ravel(np.array(values)))))


@known("x c", lambda v: sum(v["c"][a] * _lse(-row) for a, row in enumerate(_distances(v["x"]))))
def logsumexp_over_pairs() -> cp.Model:
    m = cp.Model("logsumexp_over_pairs")
    a, b, k = m.axes("a b k", a=3, b=3, k=2)
    x, c = m.param("x", a, k), m.param("c", a)
    r = m.define("r", (a, b), -cp.sum((x[a, k] - x[b, k]) ** 2, k))
    m.objective(cp.sum(c[a] * cp.logsumexp(r[a, b], b), a))
    return m


def _tokens(v: Mapping[str, Array]) -> sp.Expr:
    s = each(sp.tanh, v["x"] @ v["W"].T) @ v["V"].T
    return sum(_lse(row) - row @ v["y"][t] for t, row in enumerate(s))


@known("W V", _tokens)
def tokens() -> cp.Model:
    """A classifier of several tokens: a log-sum-exp for each, over weights that all share."""
    m = cp.Model("tokens")
    n, t, i, h, c = m.axes("n t i h c", n=cp.ROWS, t=2, i=2, h=2, c=3)
    x, y, w, v = m.input("x", n, t, i), m.input("y", n, t, c), m.param("W", h, i), m.param("V", c, h)
    z = m.define("z", (n, t, h), sp.tanh(cp.sum(w[h, i] * x[n, t, i], i)))
    s = m.define("s", (n, t, c), cp.sum(v[c, h] * z[n, t, h], h))
    m.objective(cp.sum(cp.logsumexp(s[n, t, c], c) - cp.sum(y[n, t, c] * s[n, t, c], c), t))
    return m


def _attended(v: Mapping[str, Array]) -> sp.Expr:
    x = v["x"]
    e = each(sp.exp, x @ v["Q"] @ x.T)
    o = np.array([row / sum(row) @ x for row in e])
    return (o**3).sum()


@known("x Q", _attended)
def attended() -> cp.Model:
    """A softmax of pairs that weighs what it is made from."""
    m = cp.Model("attended")
    n, a, b, i, j = m.axes("n a b i j", n=cp.ROWS, a=2, b=2, i=1, j=1)
    x, q = m.input("x", n, a, i), m.param("Q", i, j)
    s = m.define("s", (n, a, b), cp.sum(x[n, a, i] * q[i, j] * x[n, b, j], i, j))
    w = m.define("w", (n, a, b), cp.softmax(s[n, a, b], b))
    o = m.define("o", (n, a, i), cp.sum(w[n, a, b] * x[n, b, i], b))
    m.objective(cp.sum(o[n, a, i] ** 3, a, i))
    return m


each_known = pytest.mark.parametrize("case", KNOWN, ids=lambda case: case.name)


@each_known
def test_no_noise_and_the_symbolic_diagonal(case: Small) -> None:
    rows = 2 if case.has_rows else 1
    arrays = case.arrays(rows)
    diagonal, trace = programs.diagonal(case.graph, case.leaves), programs.trace(case.graph, case.leaves)
    # where a source has two elements, two columns are as good
    if case.name not in FEW_COLUMNS:
        assert diagonal.columns == trace.columns == 0
    expected = reference(case, arrays, rows)
    found = evaluate(diagonal, arrays, rows=rows, unit=True)
    for name in case.wrt:
        close(found[f"diag_{name}"], expected.diag(name), 1e-12)
    close(evaluate(trace, arrays, rows=rows, unit=True)["trace"], expected.trace, 1e-12)


# Random reads


@st.composite
def reads(draw: Any) -> list[tuple[tuple[int, ...], int]]:
    """Two to four affine indices ``sum_a c_a * axis_a + offset`` of a loop over (3, 2, 2), inside an array of 12."""
    found = []
    for _ in range(draw(st.integers(2, 4))):
        steps = tuple(draw(st.integers(-2, 2)) for _ in range(3))
        low = sum(min(0, c * (e - 1)) for c, e in zip(steps, (3, 2, 2), strict=True))
        high = sum(max(0, c * (e - 1)) for c, e in zip(steps, (3, 2, 2), strict=True))
        found.append((steps, -low + draw(st.integers(0, 11 - high + low))))
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(reads(), st.integers(0, 3))
def test_random_reads_of_one_leaf(indices: list[tuple[tuple[int, ...], int]], kept: int) -> None:
    """``u`` over the first ``kept`` axes, the other axes summed, then a function of ``u``: by the chain rule."""
    m = cp.Model("random")
    x = m.param("x", m.axis("k", 12))
    axes = [m.axis(name, size) for name, size in zip("abc", (3, 2, 2), strict=True)]
    w = m.param("w", *axes)
    accesses = [x[sum(c * a for c, a in zip(steps, axes, strict=True)) + offset] for steps, offset in indices]
    body = w[tuple(axes)] * (sp.sin(sum(accesses)) + sp.prod(accesses))
    summed = axes[kept:]
    u = m.define("u", tuple(axes[:kept]), cp.sum(body, *summed) if summed else body)
    read = u[tuple(axes[:kept])] if kept else u
    m.objective(cp.sum(sp.exp(read / 4), *axes[:kept]) if kept else sp.exp(read / 4))
    rng = np.random.default_rng(3)
    arrays = {"x": rng.normal(size=12), "w": rng.normal(size=(3, 2, 2))}
    grid = np.indices((3, 2, 2))
    places = [np.tensordot(steps, grid, 1) + offset for steps, offset in indices]

    # by the chain rule, point by point
    slope, curved = np.zeros((*(3, 2, 2)[:kept], 12)), np.zeros((*(3, 2, 2)[:kept], 12))
    inner = np.zeros((3, 2, 2)[:kept])
    count = len(places)
    for point in np.ndindex(3, 2, 2):
        at = [int(p[point]) for p in places]
        t, weight, here = arrays["x"][at], arrays["w"][point], point[:kept]
        inner[here] += weight * (np.sin(t.sum()) + t.prod())
        for k in range(count):
            slope[(*here, at[k])] += weight * (np.cos(t.sum()) + np.delete(t, k).prod())
            for other in range(count):
                if at[other] == at[k]:
                    pair = 0.0 if other == k else np.delete(t, [k, other]).prod()
                    curved[(*here, at[k])] += weight * (pair - np.sin(t.sum()))
    size = np.exp(inner / 4)[..., None]
    expected = (size * (slope**2 / 16 + curved / 4)).reshape(-1, 12).sum(axis=0)
    graph = m.graph()
    leaves = [graph.variable("x")]
    close(evaluate(programs.diagonal(graph, leaves), arrays, rows=1, unit=True)["diag_x"], expected, 1e-11)
    close(evaluate(programs.trace(graph, leaves), arrays, rows=1, unit=True)["trace"], expected.sum(), 1e-11)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-4, 4), min_size=0, max_size=3),
    st.integers(-12, 12),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_a_guard_that_never_holds(steps: list[int], offset: int, divisor: int, extent: int) -> None:
    """What is called empty is empty, by enumeration."""
    extents = [3, 2, 4][: len(steps)]
    guard = Guard(affine(dict(enumerate(steps)), offset, divisor), extent)
    values = [sum(c * a for c, a in zip(steps, p, strict=True)) + offset for p in everywhere(*extents)]
    holds = any(v % divisor == 0 and 0 <= v // divisor < extent for v in values)
    assert not (holds and _never_valid(guard, extents))


# Sizes


def lennard_jones(atoms: int = 13, morse: bool = False) -> cp.Model:
    m = cp.Model("lennard_jones")
    a, b, k = m.axes("a b k", a=atoms, b=atoms, k=3)
    x, w, e = m.param("x", a, k), m.param("w", a, b), m.param("e", a, b)
    r = m.define("r", (a, b), cp.sum((x[a, k] - x[b, k]) ** 2, k) + e[a, b])
    d = m.define("d", (a, b), sp.sqrt(r[a, b]))
    well = (1 - sp.exp(1 - d[a, b])) ** 2 if morse else 4 * (r[a, b] ** -6 - r[a, b] ** -3)
    m.objective(cp.sum(w[a, b] * well, a, b) / 2)
    return m


def network(nodes: int = 20) -> cp.Model:
    m = cp.Model("network")
    n, a, b, f, h = m.axes("n a b f h", n=cp.ROWS, a=nodes, b=nodes, f=4, h=8)
    x, y = m.input("x", n, a, f), m.input("y", n, a)
    adjacency, w, v = m.param("A", a, b), m.param("W", h, f), m.param("v", h)
    s = m.define("s", (n, a, h), cp.sum(w[h, f] * x[n, a, f], f))
    z = m.define("z", (n, a, h), sp.tanh(cp.sum(adjacency[a, b] * s[n, b, h], b)))
    m.objective(cp.sum((cp.sum(v[h] * z[n, a, h], h) - y[n, a]) ** 2, a))
    return m


def area(size: int = 24) -> cp.Model:
    m = cp.Model("area")
    i, p = m.axes("i p", i=size, p=size - 1)
    j, q = m.axes("j q", j=size, q=size - 1)
    u = m.param("u", i, j)
    s = (u[p + 1, q] - u[p, q]) ** 2 + (u[p, q + 1] - u[p, q]) ** 2
    g = m.define("g", (p, q), s)
    m.objective(cp.sum(sp.sqrt(1 + g[p, q]), p, q) + cp.sum(u[i, j] ** 4, i, j))
    return m


def tied(inputs: int = 32, hidden: int = 64) -> cp.Model:
    m = cp.Model("tied")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=inputs, h=hidden)
    x, w = m.input("x", n, i), m.param("W", h, i)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    o = m.define("o", (n, i), cp.sum(w[h, i] * z[n, h], h))
    m.objective(cp.sum((o[n, i] - x[n, i]) ** 2, i) / 2)
    return m


SIZED: list[tuple[Callable[[], cp.Model], tuple[str, ...]]] = [
    (lennard_jones, ("x",)),
    (lambda: lennard_jones(morse=True), ("x",)),
    (network, ("W", "v")),
    (area, ("u",)),
    (tied, ("W",)),
]
sized = pytest.mark.parametrize(("build", "wrt"), SIZED, ids=["lennard_jones", "morse", "network", "area", "tied"])


@sized
def test_the_price_is_that_of_a_gradient(build: Callable[[], cp.Model], wrt: tuple[str, ...]) -> None:
    """Counted work of the whole, adjoints included, against the gradient's."""
    graph = build().graph()
    leaves = [graph.variable(name) for name in wrt]
    gradient = work(simplified(programs.gradient(graph, leaves).program), 16, 1)
    for what in (programs.diagonal, programs.trace):
        derived = what(graph, leaves)
        assert derived.columns == 0 and not derived.drawn
        assert work(simplified(derived.program), 16, 1) < 2.5 * gradient


def _jax(name: str, arrays: Mapping[str, Array]) -> Callable[[Any], Any]:
    def pairs(x: Any) -> Any:
        return ((x[:, None] - x[None]) ** 2).sum(axis=-1) + arrays["e"]

    def morse(x: Any) -> Any:
        return (arrays["w"] * (1 - jnp.exp(1 - jnp.sqrt(pairs(x)))) ** 2).sum() / 2

    def surface(u: Any) -> Any:
        g = (u[1:, :-1] - u[:-1, :-1]) ** 2 + (u[:-1, 1:] - u[:-1, :-1]) ** 2
        return jnp.sqrt(1 + g).sum() + (u**4).sum()

    def encoder(w: Any) -> Any:
        return ((jnp.tanh(arrays["x"] @ w.T) @ w - arrays["x"]) ** 2).sum() / 2

    def messages(w: Any) -> Any:
        z = jnp.tanh(jnp.einsum("ab,nbf,hf->nah", arrays["A"], arrays["x"], w))
        return ((z @ arrays["v"] - arrays["y"]) ** 2).sum()

    return {
        "lennard_jones": lambda x: (arrays["w"] * 2 * (pairs(x) ** -6 - pairs(x) ** -3)).sum(),
        "morse": morse,
        "area": surface,
        "tied": encoder,
        "network": messages,
    }[name]


@needs_jax
@pytest.mark.parametrize("name", ["lennard_jones", "morse", "area", "network", "tied"])
def test_larger_models_by_jax(name: str) -> None:
    """Compiled: the diagonal and the trace of JAX's Hessian."""
    rng = np.random.default_rng(1)
    model = {
        "lennard_jones": lennard_jones,
        "morse": lambda: lennard_jones(morse=True),
        "area": lambda: area(8),
        "network": lambda: network(6),
        "tied": lambda: tied(4, 6),
    }[name]()
    graph = model.graph()
    arrays = {
        v.name: rng.normal(size=[e if isinstance(e, int) else 3 for e in v.shape]) / 2 for v in graph.variables
    }
    if "e" in arrays:
        corners = np.array(list(everywhere(3, 3, 3)), dtype=float)[:13]
        arrays = {"x": 1.1 * corners + 0.05 * rng.normal(size=(13, 3)), "w": 1 - np.eye(13), "e": np.eye(13)}
    leaf = {"area": "u", "network": "W", "tied": "W"}.get(name, "x")
    hessian = jax.hessian(_jax(name, arrays))(arrays[leaf])
    size = arrays[leaf].size
    expected = np.diagonal(np.asarray(hessian).reshape(size, size))
    est = cp.compile(model, wrt=[leaf], programs=())
    found, trace = est.diagonal(**arrays), est.trace(**arrays)
    assert found.exact and trace.exact and trace.method == "cp"
    close(np.ravel(found[leaf].value), expected, 1e-12)
    close(trace.value, expected.sum(), 1e-12)


def test_layers_that_mix_everything_twice_stay_sampled() -> None:
    """Their closed form would cost as many pull-backs as a layer is wide."""
    m = cp.Model("wide")
    n, i = m.axis("n", cp.ROWS), m.axis("i", 40)
    x = m.input("x", n, i)
    z, width = x, i
    for layer in range(3):
        h = m.axis(f"h{layer}", 40)
        w = m.param(f"W{layer}", h, width)
        z = m.define(f"z{layer}", (n, h), sp.tanh(cp.sum(w[h, width] * z[n, width], width)))
        width = h
    m.objective(cp.sum(z[n, width] ** 2, width))
    graph = m.graph()
    derived = programs.diagonal(graph, [graph.variable("x")])
    assert derived.columns == 2 * 40  # the lowest layer is one mixing map away from x, and known
    assert PRICE < 40
