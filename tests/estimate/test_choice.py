"""Unit directions where they are cheaper than noise columns: the same numbers, and the choice itself."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive.request import DIAGONAL, EXACT_DIAGONAL, EXACT_TRACE, HESSIAN
from tests.catalogue import CATALOGUE

MODELS = ("mlp_tanh", "softplus_energy", "attention", "convolution_2d", "chained_rosenbrock", "repeated_index")


def chain(links: int) -> cp.Model:
    """Two inputs through a chain of products: curved at each link, so noise columns grow with its length."""
    m = cp.Model("chain")
    n, i = m.axes("n i", n=cp.ROWS, i=2)
    x = m.input("x", n, i)
    c, s = x[n, 0], x[n, 1]
    for k in range(links):
        c = m.define(f"c{k}", n, sp.cos(x[n, 0]) * c - sp.sin(x[n, 1]) * s)[n]
        s = m.define(f"s{k}", n, sp.sin(x[n, 0]) * s + sp.cos(x[n, 1]) * c)[n]
    m.objective(c**2 + s)
    return m


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize("name", MODELS)
def test_directions_give_the_hessian_of_noise_columns(name: str, backend: str) -> None:
    entry = CATALOGUE[name]
    arrays = entry.arrays()
    # directions are for inputs or for parameters: take the first leaf's kind
    has_rows = {v.name: v.has_rows for v in entry.build().graph().variables}
    wrt = [leaf for leaf in entry.wrt if has_rows[leaf] == has_rows[entry.wrt[0]]]
    est = cp.compile(entry.build(), wrt=wrt, programs=(), backend=backend)
    by_noise, by_units = (est.hessian(method=method, **arrays) for method in ("cp", "directions"))
    assert by_units.kinks == by_noise.kinks
    for pair, block in by_noise.blocks.items():
        assert by_units.blocks[pair].shape == block.shape
        np.testing.assert_allclose(by_units.blocks[pair], block, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_forward_tangents_give_diagonal_and_trace(name: str) -> None:
    """Curvature summed over forward tangents of unit directions, against the Hessian of noise columns."""
    entry = CATALOGUE[name]
    arrays = entry.arrays()
    has_rows = {v.name: v.has_rows for v in cp.compile(entry.build(), programs=()).graph.variables}
    for rows in (True, False):
        wrt = [leaf for leaf in entry.wrt if has_rows[leaf] is rows]
        if not wrt:
            continue
        est = cp.compile(entry.build(), wrt=wrt, programs=(), backend="interpreter")
        hessian = est.hessian(method="cp", **arrays).matrix()
        diagonal = est.diagonal(method="directions", **arrays)
        found = [diagonal[leaf].value for leaf in wrt]
        if rows and hessian.ndim == 3:
            found = [value.reshape(len(hessian), -1) for value in found]
        expected = np.diagonal(hessian, axis1=-2, axis2=-1)
        size = max(float(np.abs(hessian).max()), 1.0)
        flat = np.concatenate([value.reshape(*expected.shape[:-1], -1) for value in found], axis=-1)
        np.testing.assert_allclose(flat, expected, rtol=1e-10, atol=1e-12 * size)
        trace = est.trace(method="directions", **arrays).value
        np.testing.assert_allclose(trace, expected.sum(-1), rtol=1e-9, atol=1e-11 * size)


def test_the_diagonal_and_the_trace_take_the_cheaper_way() -> None:
    est = cp.compile(chain(6), wrt=["x"], programs=(), backend="interpreter")
    x = np.random.default_rng(0).normal(size=(5, 2))
    assert (est.columns("diagonal"), est.columns("trace"), est.columns("hessian")) == (2, 2, 2)
    noise = est.columns("diagonal:cp")
    assert noise is not None and noise > 5
    found = est.diagonal(x=x)["x"]
    assert found.exact and found.method == "directions" and found.samples == 2
    hessian = est.hessian(method="cp", x=x).matrix()
    np.testing.assert_allclose(found.value, np.diagonal(hessian, axis1=1, axis2=2), rtol=1e-10)
    np.testing.assert_allclose(est.trace(x=x).value, np.trace(hessian, axis1=1, axis2=2), rtol=1e-10)


def test_sampling_can_be_insisted_on() -> None:
    est = cp.compile(chain(6), wrt=["x"], programs=(), backend="interpreter")
    x = np.random.default_rng(1).normal(size=(5, 2))
    exact = est.diagonal(x=x)["x"].value
    sampled = est.diagonal(exact=False, samples=4096, design="independent", method="cp", x=x)["x"]
    assert not sampled.exact and sampled.method == "cp"
    assert np.all(np.abs(sampled.value - exact) <= 5 * sampled.stderr)


def test_a_wide_model_is_sampled() -> None:
    entry = CATALOGUE["mlp_tanh"]
    est = entry.compile(programs=(), backend="interpreter")
    assert est.derive("diagonal").estimator == "cp"


def test_directions_do_not_mix_inputs_and_parameters() -> None:
    entry = CATALOGUE["attention"]
    est = entry.compile(programs=(), backend="interpreter")
    with pytest.raises(cp.errors.RequestError, match="not for both at once"):
        est.hessian(method="directions", **entry.arrays())
    with pytest.raises(cp.errors.RequestError, match="not for both"):
        est.diagonal(method="directions", **entry.arrays())


def test_an_exact_answer_takes_the_cheaper_exact_way() -> None:
    """Few inputs under wide layers: sampling is cheaper than all directions, all directions than all noise columns."""
    m = cp.Model("wide")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=20, h=40, k=40)
    x, V, W = m.input("x", n, i), m.param("V", h, i), m.param("W", k, h)
    z = m.define("z", (n, h), sp.tanh(cp.sum(V[h, i] * x[n, i], i)))
    m.objective(cp.sum(sp.tanh(cp.sum(W[k, h] * z[n, h], h)), k))
    est = cp.compile(m, wrt=["x"], programs=(), backend="interpreter")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 20)), "V": rng.normal(size=(40, 20)), "W": rng.normal(size=(40, 40)) / 6}
    sampled = est.trace(samples=4, method="cp", **arrays)
    assert not sampled.exact and sampled.method == "cp"
    exact = est.trace(exact=True, **arrays)
    assert exact.exact and exact.method == "directions" and exact.samples == 20
    assert "chosen: " in est.show("diagonal:exact") and "by 20 unit directions" in est.show("diagonal:exact")
    hessian = est.hessian(method="cp", **arrays).matrix()
    np.testing.assert_allclose(exact.value, np.trace(hessian, axis1=1, axis2=2), rtol=1e-10)


def network(hidden: int = 32) -> cp.Model:
    """The README's network: many weights under few noise columns, whose outer products cost more than all directions."""
    m = cp.Model("digits")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=2 * hidden, h=hidden, k=hidden // 2, c=10)
    x, y = m.input("x", n, i), m.input("y", n, c)
    W1, b1, W2, W3 = m.param("W1", h, i), m.param("b1", h), m.param("W2", k, h), m.param("W3", c, k)
    z = m.define("z", (n, h), sp.tanh(cp.sum(W1[h, i] * x[n, i], i) + b1[h]))
    u = m.define("u", (n, k), sp.tanh(cp.sum(W2[k, h] * z[n, h], h)))
    s = m.define("s", (n, c), cp.sum(W3[c, k] * u[n, k], k))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    return m


def test_a_hessian_counts_the_outer_products_of_its_columns() -> None:
    est = cp.compile(network(), programs=(), backend="interpreter")
    assert (est.columns("hessian:units"), est.columns("hessian:cp")) == (90, 138)
    assert (est.derive("hessian").estimator, est.columns("hessian")) == ("directions", 2752)
    # ten columns are enough for the diagonal, and no direction is worth a thought
    assert (est.derive("diagonal:exact").estimator, est.columns("diagonal:exact")) == ("cp", 10)
    assert "directions" not in est.derive("diagonal:exact").choice
    small = cp.compile(network(4), programs=(), backend="interpreter")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 8)), "y": np.eye(10)[[1, 4, 9]], "W1": rng.normal(size=(4, 8)) / 3}
    arrays |= {"b1": rng.normal(size=4), "W2": rng.normal(size=(2, 4)), "W3": rng.normal(size=(10, 2))}
    np.testing.assert_allclose(
        small.hessian(**arrays).matrix(), small.hessian(method="cp", **arrays).matrix(), rtol=1e-10, atol=1e-12
    )


def test_an_exact_answer_may_take_the_noise_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program with noise is the cheaper one, it runs with the identity as its design; it is loaded already."""
    entry = CATALOGUE["attention"]
    est = entry.compile(programs=(), backend="interpreter")
    arrays = entry.arrays()
    by_units = est.diagonal(exact=True, **arrays)
    programs = est.core.programs
    monkeypatch.setattr(programs, "_by_noise", {EXACT_DIAGONAL, EXACT_TRACE, HESSIAN})
    assert (programs.exact(EXACT_DIAGONAL), programs.exact(HESSIAN)) == (DIAGONAL, HESSIAN.by("cp"))
    by_noise = est.diagonal(exact=True, **arrays)
    for leaf, expected in by_units.items():
        found = by_noise[leaf]
        assert found.exact and found.samples == est.columns("diagonal") and not found.stderr.any()
        np.testing.assert_allclose(found.value, expected.value, rtol=1e-9, atol=1e-11)
    expected_blocks = est.hessian(method="cp", **arrays).blocks
    for pair, block in est.hessian(**arrays).blocks.items():
        np.testing.assert_allclose(block, expected_blocks[pair], rtol=1e-9, atol=1e-11)


def test_one_sample_needs_no_program_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOGUE["mlp_tanh"]
    est, plain = entry.compile(), entry.compile(programs=(), backend="interpreter")
    arrays = entry.arrays()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled anew")

    monkeypatch.setattr("cpgen.estimate.compiled.compiled", refuse)
    found = est.diagonal(samples=1, exact=False, **arrays)
    expected = plain.diagonal(samples=1, exact=False, **arrays)
    for leaf, estimate in found.items():
        assert estimate.samples == 1 and (estimate.exact or np.isnan(estimate.stderr).all())
        np.testing.assert_allclose(estimate.value, expected[leaf].value, rtol=1e-10, atol=1e-12)
