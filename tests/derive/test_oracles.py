"""Facts about Hessians and their estimators that hold whatever the numbers: identities, symmetries, special cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.derived import Derived
from cpgen.derive.sources import Setting
from cpgen.errors import RequestError
from cpgen.ir.nodes import Graph
from cpgen.ir.noise import noise_count, noise_inputs
from tests.derive.small import (
    CASES,
    Array,
    Arrays,
    Small,
    close,
    draws,
    each,
    evaluate,
    every_sign,
    reference,
    signs,
)


def sketch(case: Small, arrays: Arrays, setting: Setting | None = None) -> tuple[Array, Array]:
    """P and Q by unit columns, one row of the model, ``[column, i]`` over all leaves."""
    derived = programs.sketch(case.graph, case.leaves, None, setting or Setting())
    found = evaluate(derived, arrays, rows=1, unit=True)
    p, q = (
        np.concatenate(
            [found[f"{r}_{n}"].reshape(noise_count(derived.program), -1) for n in case.wrt], axis=1
        )
        for r in "pq"
    )
    return p, q


def graph_of(model: cp.Model, *names: str) -> tuple[Graph, list[Any]]:
    graph = model.graph()
    return graph, [graph.variable(name) for name in names]


# One draw is exact


def test_separable_functions_are_exact_on_every_draw() -> None:
    """f = sum phi(x_i): even the paper's estimator has no variance, because v**2 = 1."""

    def build() -> cp.Model:
        m = cp.Model("separable")
        n, i = m.axes("n i", n=cp.ROWS, i=3)
        x, c = m.input("x", n, i), m.param("c", i)
        m.objective(cp.sum(c[i] * sp.sin(x[n, i]) + sp.exp(x[n, i]), i))
        return m

    case = Small(
        "separable", build, ("x",), lambda v: v["c"] @ each(sp.sin, v["x"]) + sum(each(sp.exp, v["x"]))
    )
    arrays = case.arrays(2)
    expected = reference(case, arrays, 2).diag("x")
    for method in ("s", "tu", "hutchinson_plain"):
        derived = programs.diagonal(case.graph, case.leaves, method)
        assert noise_count(derived.program) >= 3
        for v in every_sign(2, 3)[::5]:
            full = np.zeros((1, 2, noise_count(derived.program)))
            full[0, :, :3] = v
            found = evaluate(derived, arrays, signs(derived.program, full), 2, 1)
            close(found["diag_x"], expected)
    assert programs.diagonal(case.graph, case.leaves).columns == 0
    trace = draws(programs.trace(case.graph, case.leaves, "hutchinson_plain"), {**arrays, "x": arrays["x"][:1]})
    assert np.ptp(trace["trace"]) < 1e-12


def test_a_linear_objective_is_estimated_as_zero() -> None:
    def build() -> cp.Model:
        m = cp.Model("line")
        n, i = m.axes("n i", n=cp.ROWS, i=3)
        x, c = m.input("x", n, i), m.param("c", i)
        m.objective(cp.sum(c[i] * x[n, i], i) + 3)
        return m

    graph, leaves = graph_of(build(), "x")
    arrays = {"x": np.ones((2, 3)), "c": np.arange(3.0)}
    for method in ("cp", "s", "tu", "becker_lecun"):
        derived = programs.diagonal(graph, leaves, method)
        assert not noise_inputs(derived.program)
        assert not evaluate(derived, arrays, columns=1)["diag_x"].any()


def test_one_hidden_layer_is_exact_by_its_inputs_without_noise() -> None:
    """Each hidden unit's curvature reaches the inputs by one product: sum of squares, nothing to sample."""

    def build() -> cp.Model:
        m = cp.Model("shallow")
        n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=5)
        x, w, v = m.input("x", n, i), m.param("W", h, i), m.param("v", h)
        z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
        m.objective(cp.sum(v[h] * z[n, h], h))
        return m

    case = Small("shallow", build, ("x",), lambda v: v["v"] @ each(sp.tanh, v["W"] @ v["x"]))
    arrays = case.arrays(2)
    derived = programs.diagonal(case.graph, case.leaves)
    assert derived.columns == 0 and not derived.drawn and derived.dropped
    close(evaluate(derived, arrays, columns=0)["diag_x"], reference(case, arrays).diag("x"))
    # with orthogonal filters the sampled trace has no variance either
    orthogonal = {**arrays, "x": arrays["x"][:1], "W": np.zeros((5, 3))}
    orthogonal["W"][:3] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    whole = programs.sketch(case.graph, case.leaves)
    expected = reference(case, orthogonal, 1).trace
    for v in every_sign(1, 5):
        found = evaluate(whole, orthogonal, signs(whole.program, v[None]), 1, 1)
        close(np.array([(found["p_x"] ** 2 - found["q_x"] ** 2).sum()]), expected)


def test_a_diagonal_quadratic_form_is_exact_and_a_full_one_is_not() -> None:
    case = CASES["quadratic"]
    arrays = case.arrays(1)
    derived = programs.diagonal(case.graph, case.leaves, "hutchinson_plain")
    full = draws(derived, arrays)["diag_x"]
    diagonal = draws(derived, {**arrays, "B": np.diag(np.diag(arrays["B"]))})["diag_x"]
    assert np.ptp(full, axis=0).max() > 0.1 and np.ptp(diagonal, axis=0).max() < 1e-12
    close(diagonal[0, 0], np.diag(arrays["B"]))


# Symmetries


@pytest.mark.parametrize("method", ["cp", "s", "tu", "hutchinson"])
def test_the_opposite_signs_give_the_same_estimate(method: str) -> None:
    """Estimates are even in the noise, so antithetic pairs would be a waste."""
    case = CASES["energy"]
    arrays = case.arrays(1)
    derived = programs.diagonal(case.graph, case.leaves, method)
    found = draws(derived, arrays)["diag_x"]
    # patterns are listed in order, so that reversing them flips every sign
    np.testing.assert_array_equal(found, found[::-1])
    assert np.ptp(found, axis=0).max() > 1e-3


def scaled(model: str, factor: float | None, linear: bool = False) -> cp.Model:
    """The tanh network of CASES["energy"] times a number, or with a linear term added."""
    m = cp.Model(model)
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=3, h=2, k=2)
    x, w, u, v = m.input("x", n, i), m.param("W", h, i), m.param("U", k, h), m.param("v", k)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    e = m.define("e", (n, k), sp.tanh(cp.sum(u[k, h] * z[n, h], h)))
    total = cp.sum(v[k] * e[n, k], k)
    total = total if factor is None else factor * total
    m.objective(total + 3 * x[n, 0] - cp.sum(x[n, i], i) / 7 if linear else total)
    return m


@pytest.mark.parametrize("method", ["cp", "s", "hutchinson"])
@pytest.mark.parametrize("factor", [2.5, -1.0, -0.4])
def test_scaling_the_objective_scales_every_draw(method: str, factor: float) -> None:
    case = CASES["energy"]
    arrays = case.arrays(1)
    graph, leaves = graph_of(scaled("scaled", factor), "x")
    plain = draws(programs.diagonal(case.graph, case.leaves, method), arrays)["diag_x"]
    found = draws(programs.diagonal(graph, leaves, method), arrays)["diag_x"]
    close(found, factor * plain)
    assert np.ptp(plain, axis=0).max() > 1e-3


def test_a_negative_scale_swaps_p_and_q() -> None:
    case = CASES["energy"]
    arrays = case.arrays(1)
    plain = sketch(case, arrays)
    assert all(np.abs(f).max() > 1e-2 for f in plain)
    for factor in (-1.0, -4.0):
        graph = scaled("swapped", factor).graph()
        derived = programs.sketch(graph, [graph.variable("x")])
        found = evaluate(derived, arrays, rows=1, unit=True)
        size = np.sqrt(-factor)
        close(np.abs(found["p_x"][:, 0]), size * np.abs(plain[1]))
        close(np.abs(found["q_x"][:, 0]), size * np.abs(plain[0]))


@pytest.mark.parametrize("method", ["cp", "s", "tu", "hutchinson"])
def test_adding_a_linear_term_changes_nothing(method: str) -> None:
    case = CASES["energy"]
    arrays = case.arrays(1)
    graph, leaves = graph_of(scaled("tilted", None, linear=True), "x")
    plain = programs.diagonal(case.graph, case.leaves, method)
    found = programs.diagonal(graph, leaves, method)
    assert [(n.name, n.offset) for n in noise_inputs(plain.program)] == [
        (n.name, n.offset) for n in noise_inputs(found.program)
    ]
    close(draws(found, arrays)["diag_x"], draws(plain, arrays)["diag_x"], 1e-13)


@pytest.mark.parametrize("name", list(CASES))
def test_s_is_tu_with_the_signed_factors(name: str) -> None:
    """T = p + q, U = p - q: T U^T, symmetrised, has H as its mean and equals p p^T - q q^T draw by draw."""
    case = CASES[name]
    arrays = case.arrays(1)
    p, q = sketch(case, arrays)
    t, u = p + q, p - q
    if not len(p):
        return
    close((t.T @ u + u.T @ t) / 2, reference(case, arrays, 1).hessian[0])
    v = np.sign(np.random.default_rng(1).normal(size=(4, len(p))))
    for draw in v:
        left = np.outer(draw @ t, draw @ u)
        close((left + left.T) / 2, np.outer(draw @ p, draw @ p) - np.outer(draw @ q, draw @ q))


def test_tu_of_one_map_is_hutchinson_draw_by_draw() -> None:
    """A single map factored as (M, I) is T U^T = (H v) v^T."""

    def build() -> cp.Model:
        m = cp.Model("single")
        n = m.axis("n", cp.ROWS)
        a, b, c = (m.input(x, n) for x in "abc")
        m.objective(sp.exp(a[n] * b[n]) * c[n] ** 2 + a[n] * c[n] ** 3)
        return m

    graph, leaves = graph_of(build(), "a", "b", "c")
    arrays = {k: np.array([x]) for k, x in zip("abc", (0.3, -0.7, 1.1), strict=True)}
    tu = draws(programs.diagonal(graph, leaves, "tu"), arrays)
    hutchinson = draws(programs.diagonal(graph, leaves, "hutchinson_plain"), arrays)
    # the two number their signs differently: the same draws in another order
    left, right = (
        np.array(sorted(zip(*(np.round(found[f"diag_{k}"].ravel(), 9) for k in "abc"), strict=True)))
        for found in (tu, hutchinson)
    )
    close(left, right, 1e-8)
    assert np.ptp(left, axis=0).min() > 1e-2


# Identities of the Hessian


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_homogeneity(degree: int) -> None:
    """Euler: H x = (d - 1) g for f of degree d."""
    m = cp.Model("form")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=2)
    x, w = m.input("x", n, i), m.param("W", h, i)
    s = m.define("s", (n, h), cp.sum(w[h, i] * x[n, i], i))
    m.objective(cp.sum(s[n, h] ** (degree - 1), h) * x[n, 0])
    graph, leaves = graph_of(m, "x")
    rng = np.random.default_rng(degree)
    arrays = {"x": rng.normal(size=(2, 3)), "W": rng.normal(size=(2, 3))}
    product = evaluate(programs.hvp(graph, leaves), {**arrays, "dir_x": arrays["x"]})["hvp_x"]
    gradient = evaluate(programs.gradient(graph, leaves), arrays)["grad_x"]
    close(product, (degree - 1) * gradient)
    hessian = evaluate(programs.hessian(graph, leaves), arrays, unit=True)["block_x_x"]
    close(np.einsum("nij,nj->ni", hessian, arrays["x"]), (degree - 1) * gradient)
    assert np.abs(gradient).max() > 1e-2


@pytest.mark.parametrize("what", ["logsumexp", "softmax", "distances"])
def test_shifts_that_change_nothing_are_in_the_nullspace(what: str) -> None:
    m = cp.Model(what)
    n, i, j = m.axes("n i j", n=cp.ROWS, i=4, j=3)
    x, c = m.input("x", n, i), m.param("c", i)
    if what == "logsumexp":
        m.objective(cp.logsumexp(x[n, i], i) - cp.sum(x[n, i], i) / 4)
    elif what == "softmax":
        y = m.define("y", (n, i), cp.softmax(x[n, i], i))
        m.objective(cp.sum(c[i] * y[n, i] ** 2, i))
    else:
        m.objective(cp.sum(sp.cosh(x[n, j + 1] - x[n, j]), j))
    graph, leaves = graph_of(m, "x")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(2, 4)), "c": rng.normal(size=4)}
    hessian = evaluate(programs.hessian(graph, leaves), arrays, unit=True)["block_x_x"]
    close(hessian.sum(axis=2), np.zeros((2, 4)), 1e-13)
    ones = {"dir_x": np.ones((2, 4))}
    close(evaluate(programs.hvp(graph, leaves), {**arrays, **ones})["hvp_x"], np.zeros((2, 4)), 1e-13)
    assert np.abs(hessian).max() > 1e-2


@pytest.mark.parametrize("name", list(CASES))
def test_quadratic_forms_agree_with_products(name: str) -> None:
    """v^T H v = sum_k (G_k v)^T M_k (G_k v): the sketch's columns against forward-over-reverse."""
    case = CASES[name]
    arrays = case.arrays(1)
    rng = np.random.default_rng(8)
    given = {
        f"dir_{v.name}": rng.normal(size=[e if isinstance(e, int) else 1 for e in v.shape])
        for v in case.leaves
    }
    product = evaluate(programs.hvp(case.graph, case.leaves), {**arrays, **given}, rows=1)
    form = sum((product[f"hvp_{n}"] * given[f"dir_{n}"]).sum() for n in case.wrt)
    p, q = sketch(case, arrays)
    v = np.concatenate([given[f"dir_{n}"].ravel() for n in case.wrt])
    close(np.array(((p @ v) ** 2).sum() - ((q @ v) ** 2).sum()), np.array(form))


def relu_net() -> cp.Model:
    m = cp.Model("relu_net")
    n, i, h, c = m.axes("n i h c", n=cp.ROWS, i=2, h=3, c=2)
    x, y = m.input("x", n, i), m.input("y", n, c)
    w, b, v = m.param("W", h, i), m.param("b", h), m.param("V", c, h)
    z = m.define("z", (n, h), cp.relu(cp.sum(w[h, i] * x[n, i], i) + b[h]))
    o = m.define("o", (n, c), cp.sum(v[c, h] * z[n, h], h))
    m.objective(cp.sum((o[n, c] - y[n, c]) ** 2, c) / 2, convex_in="o")
    return m


def test_piecewise_linear_nets_have_only_gauss_newton_curvature() -> None:
    """By the first layer alone: no q field, and the estimate is the Gauss-Newton one, draw by draw."""
    graph, leaves = graph_of(relu_net(), "W", "b")
    rng = np.random.default_rng(0)
    arrays: Arrays = {
        v.name: rng.normal(size=[e if isinstance(e, int) else 1 for e in v.shape]) for v in graph.variables
    }
    derived = programs.sketch(graph, leaves)
    found = evaluate(derived, arrays, rows=1, unit=True)
    assert not found["q_W"].any() and not found["q_b"].any() and found["p_W"].any()
    diagonal, newton = programs.diagonal(graph, leaves), programs.diagonal(graph, leaves, "gauss_newton")
    assert [n.name for n in noise_inputs(diagonal.program)] == [n.name for n in noise_inputs(newton.program)]
    left, right = draws(diagonal, arrays), draws(newton, arrays)
    for name in ("W", "b"):
        np.testing.assert_array_equal(left[f"diag_{name}"], right[f"diag_{name}"])
        assert np.all(left[f"diag_{name}"] >= 0)
    # J^T J with J from the active units
    a = arrays["x"][0] @ arrays["W"].T + arrays["b"]
    assert 0 < (a > 0).sum() < 3
    j = arrays["V"] * (a > 0)
    unit = evaluate(diagonal, arrays, rows=1, unit=True)
    close(unit["diag_b"], (j**2).sum(axis=0))
    close(unit["diag_W"], np.outer((j**2).sum(axis=0), arrays["x"][0] ** 2))


def test_kinks_are_counted_and_have_no_curvature() -> None:
    graph, leaves = graph_of(relu_net(), "W", "b")
    arrays = {
        "x": np.array([[1.0, 2.0], [0.5, -1.0]]),
        "y": np.zeros((2, 2)),
        "W": np.array([[2.0, -1.0], [1.0, 1.0], [-1.0, 3.0]]),
        "b": np.zeros(3),
        "V": np.ones((2, 3)),
    }
    found = evaluate(programs.diagonal(graph, leaves), arrays, unit=True)
    assert found["kinks"] == 1  # 2*1 - 1*2 = 0 in the first row only
    assert np.isfinite(found["diag_W"]).all()
    arrays["b"] = np.full(3, 0.25)
    assert evaluate(programs.diagonal(graph, leaves), arrays, unit=True)["kinks"] == 0


def test_rescaling_the_layers_of_a_relu_net() -> None:
    """W -> 2 W, b -> 2 b, V -> V / 2 leaves the function alone, so second derivatives by W shrink by 4."""
    graph, leaves = graph_of(relu_net(), "W", "V")
    rng = np.random.default_rng(3)
    arrays: Arrays = {
        v.name: rng.normal(size=[e if isinstance(e, int) else 2 for e in v.shape]) for v in graph.variables
    }
    moved = {**arrays, "W": 2 * arrays["W"], "b": 2 * arrays["b"], "V": arrays["V"] / 2}
    before, after = (evaluate(programs.hessian(graph, leaves), a, unit=True) for a in (arrays, moved))
    close(4 * after["block_W_W"], before["block_W_W"])
    close(after["block_W_V"], before["block_W_V"])
    close(after["block_V_V"] / 4, before["block_V_V"])
    assert np.abs(before["block_W_V"]).max() > 1e-2


# Noise that was dropped


def bilinear() -> Small:
    """u . tanh(W x): the noise of the product of u and z can be seen by the (W, u) block only."""

    def build() -> cp.Model:
        m = cp.Model("dropping")
        n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
        x, w, u = m.input("x", n, i), m.param("W", h, i), m.param("u", h)
        z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
        o = m.define("o", n, cp.sum(u[h] * z[n, h], h))
        m.objective(sp.exp(o[n]))
        return m

    def objective(v: Mapping[str, Array]) -> sp.Expr:
        return sp.exp(v["u"] @ each(sp.tanh, v["W"] @ v["x"]))

    return Small("dropping", build, ("W", "u"), objective)


def test_noise_that_no_diagonal_entry_sees_is_dropped_without_bias() -> None:
    case = bilinear()
    diagonal = programs.diagonal(case.graph, case.leaves)
    product = [d for d in diagonal.dropped if "product of" in d.what and "z" in d.what]
    assert product, diagonal.dropped
    arrays = case.arrays(3)
    expected = reference(case, arrays, 3)
    found = evaluate(diagonal, arrays, rows=3, unit=True)
    for name in case.wrt:
        close(found[f"diag_{name}"], expected.diag(name))
    # the block that does see it draws it
    w, u = case.leaves
    block = programs.blocks(case.graph, case.leaves, [(w, u)])
    assert {d.name for d in product} <= {d.name for d in block.drawn}
    close(evaluate(block, arrays, rows=3, unit=True)["block_W_u"], expected.block("W", "u"))


def test_entries_that_need_dropped_noise_are_refused() -> None:
    case = bilinear()
    w, u = case.leaves
    partial = programs.sketch(case.graph, case.leaves, [(w, w), (u, u)])
    assert partial.dropped and partial.answers == {("W", "W"), ("u", "u")}
    whole = programs.sketch(case.graph, case.leaves)
    assert not whole.dropped and whole.answers == {("W", "W"), ("W", "u"), ("u", "u")}
    # and for good reason: the block that it refuses would be wrong
    arrays = case.arrays(1)
    expected = reference(case, arrays, 1)

    def block(derived: Derived, a: str, b: str) -> Array:
        found = evaluate(derived, arrays, rows=1, unit=True)
        return np.tensordot(found[f"p_{a}"], found[f"p_{b}"], (0, 0)) - np.tensordot(
            found[f"q_{a}"], found[f"q_{b}"], (0, 0)
        )

    for a, b in (("W", "W"), ("u", "u")):
        close(block(partial, a, b), expected.block(a, b))
    assert np.abs(block(partial, "W", "u") - expected.block("W", "u")).max() > 1e-2
    close(block(whole, "W", "u"), expected.block("W", "u"))
    compiled = cp.compile(case.build(), wrt=["W", "u"], programs=(), backend="interpreter")
    found = compiled.sketch(pairs=[("W", "W"), ("u", "u")], exact=True, **arrays)
    close(found.block("W", "W"), expected.block("W", "W"))
    with pytest.raises(RequestError, match=r"\(W, u\) needs noise that was dropped"):
        found.block("W", "u")
    with pytest.raises(RequestError, match="needs noise that was dropped"):
        found.matrix()
    with pytest.raises(RequestError, match="needs noise that was dropped"):
        found.matvec({"W": arrays["W"], "u": arrays["u"]})


def test_weights_that_are_shared_keep_the_noise_of_their_products() -> None:
    """The tied autoencoder is where dropping the bilinear noise would be wrong, so a sketch keeps it."""
    case = CASES["tied"]
    drawn = programs.sketch(case.graph, case.leaves).drawn
    assert any("product of" in d.what for d in drawn)
