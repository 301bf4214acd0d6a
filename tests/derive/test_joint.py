"""Second derivatives that are factored together: unbiased, never more noise, and less variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.derived import Derived
from cpgen.derive.joint import Asked, Joint, Pivots, Products, join
from cpgen.derive.sources import SIGNED, UNIT, Curvature, Sides, Source
from cpgen.ir.interpret import run
from cpgen.ir.nodes import Graph
from cpgen.ir.noise import noise_count
from tests.catalogue import CATALOGUE
from tests.derive.small import Array, Arrays, Small, close, each, evaluate, reference, signs
from tests.derive.test_sources import ROWS_USED, factors
from tests.short import models


def sigmoid(x: sp.Expr) -> sp.Expr:
    return 1 / (1 + sp.exp(-x))


def _gates(v: Mapping[str, Array]) -> sp.Expr:
    return (v["w"] * each(sigmoid, v["a"]) * each(sp.tanh, v["b"])).sum()


def gates() -> cp.Model:
    """A product of functions of two arguments: one 2 x 2 matrix an element."""
    m = cp.Model("gates")
    n, h = m.axes("n h", n=cp.ROWS, h=2)
    a, b, w = m.input("a", n, h), m.input("b", n, h), m.input("w", n, h)
    s, t = m.define("s", (n, h), sigmoid(a[n, h])), m.define("t", (n, h), sp.tanh(b[n, h]))
    m.objective(cp.sum(w[n, h] * s[n, h] * t[n, h], h))
    return m


def _cell(v: Mapping[str, Array]) -> sp.Expr:
    i, f, o = (each(sigmoid, v[name]) for name in "ifo")
    c = f * v["c"] + i * each(sp.tanh, v["g"])
    return (v["u"] * o * each(sp.tanh, c)).sum() + (v["w"] * c).sum()


def cell() -> cp.Model:
    """A gated cell by its five arguments: state and output are elementwise definitions of them."""
    m = cp.Model("cell")
    n, h = m.axes("n h", n=cp.ROWS, h=2)
    i, f, g, o, c, u, w = (m.input(name, n, h) for name in "i f g o c u w".split())
    new = m.define("new", (n, h), sigmoid(f[n, h]) * c[n, h] + sigmoid(i[n, h]) * sp.tanh(g[n, h]))
    m.objective(cp.sum(u[n, h] * sigmoid(o[n, h]) * sp.tanh(new[n, h]), h) + cp.sum(w[n, h] * new[n, h], h))
    return m


def _shared(v: Mapping[str, Array]) -> sp.Expr:
    return sum((v["x"] @ v[name] @ v["z"]) for name in "ABC")


def shared() -> cp.Model:
    """Three products with the same smaller argument."""
    m = cp.Model("shared")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=2, j=3)
    z, x = m.input("z", n, j), m.input("x", n, i)
    matrices = [m.input(name, n, i, j) for name in "ABC"]
    total = sum(cp.sum(a[n, i, j] * x[n, i] * z[n, j], i, j) for a in matrices)
    m.objective(total)
    return m


def recurrent(size: int, inputs: int) -> cp.Model:
    """A long short-term memory of three steps, a linear read-out, a squared loss; gates are definitions of their own."""
    m = cp.Model("lstm")
    n, t, h, k, i = m.axes("n t h k i", n=cp.ROWS, t=3, h=size, k=size, i=inputs)
    x, y, r = m.input("x", n, t, i), m.input("y", n), m.param("r", h)
    w, b = ({g: m.param(p + g, h, *e) for g in "ifgo"} for p, e in (("W", (i,)), ("b", ())))
    u = {g: m.param("U" + g, h, k) for g in "ifgo"}
    hidden = state = None
    for step in range(3):
        a = {}
        for g in "ifgo":
            expr = cp.sum(w[g][h, i] * x[n, step, i], i) + b[g][h]
            if hidden is not None:
                expr += cp.sum(u[g][h, k] * hidden[n, k], k)
            a[g] = m.define(f"a{g}{step}", (n, h), expr)
        of = {g: sp.tanh if g == "g" else sigmoid for g in "ifgo"}
        gate = {g: m.define(f"{g}{step}", (n, h), of[g](a[g][n, h])) for g in "ifgo"}
        expr = gate["i"][n, h] * gate["g"][n, h]
        if state is not None:
            expr += gate["f"][n, h] * state[n, h]
        state = m.define(f"c{step}", (n, h), expr)
        hidden = m.define(f"h{step}", (n, h), gate["o"][n, h] * sp.tanh(state[n, h]))
    m.objective((cp.sum(r[h] * hidden[n, h], h) - y[n]) ** 2 / 2)
    return m


WEIGHTS = (*(p + g for p in "WUb" for g in "ifgo"), "r")


def _three(v: Mapping[str, Array]) -> sp.Expr:
    u = each(sp.sin, v["Q"] @ v["x"])
    return ((v["A"] @ u) * (v["B"] @ u) * (v["C"] @ u)).sum()


def three() -> cp.Model:
    """Products of three images of one hidden layer."""
    m = cp.Model("three")
    n, i, h, g = m.axes("n i h g", n=cp.ROWS, i=2, h=3, g=2)
    x, q = m.input("x", n, i), m.param("Q", h, i)
    a, b, c = (m.param(name, g, h) for name in "ABC")
    u = m.define("u", (n, h), sp.sin(cp.sum(q[h, i] * x[n, i], i)))
    za, zb, zc = (m.define(f"z{k}", (n, g), cp.sum(p[g, h] * u[n, h], h)) for k, p in enumerate((a, b, c)))
    m.objective(cp.sum(za[n, g] * zb[n, g] * zc[n, g], g))
    return m


def _read_inside(v: Mapping[str, Array]) -> sp.Expr:
    s = each(sp.tanh, v["W"] @ v["x"])
    z = s * each(sp.sin, v["V"] @ s)
    return (z**2).sum() + (v["V"] @ z) @ (v["V"] @ s)


def read_inside() -> cp.Model:
    """The diagonal of W is read at an elementwise definition of what its readers curve."""
    m = cp.Model("read_inside")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=2, h=2, k=2)
    x, w, v = m.input("x", n, i), m.param("W", h, i), m.param("V", h, k)
    a = m.define("a", (n, h), cp.sum(w[h, i] * x[n, i], i))
    s = m.define("s", (n, h), sp.tanh(a[n, h]))
    e = m.define("e", (n, h), cp.sum(v[h, k] * s[n, k], k))
    z = m.define("z", (n, h), s[n, h] * sp.sin(e[n, h]))
    d = m.define("d", (n, h), cp.sum(v[h, k] * z[n, k], k))
    m.objective(cp.sum(z[n, h] ** 2, h) + cp.sum(d[n, h] * e[n, h], h))
    return m


GATES = Small("gates", gates, ("a", "b"), _gates)
CELL = Small("cell", cell, ("i", "f", "g", "o", "c"), _cell)
SHARED = Small("shared", shared, ("A", "B", "C", "z"), _shared)
THREE = Small("three", three, ("Q", "A", "B", "C"), _three)
READ_INSIDE = Small("read_inside", read_inside, ("W", "V"), _read_inside)


def joined(case: Small) -> list[Source]:
    curvature = Curvature(case.graph, case.leaves)
    pairs = [(a, b) for k, a in enumerate(case.leaves) for b in case.leaves[k:]]
    return join(curvature, curvature.sources(), [Asked(pair, 0) for pair in pairs])


@pytest.mark.parametrize("case", [GATES, CELL], ids=lambda c: c.name)
def test_a_joint_factor_multiplies_out_and_is_least(case: Small) -> None:
    """F D F^T = M, and the absolute Hessian is the absolute value of M: no other factor has a smaller trace."""
    (source,) = joined(case)
    assert isinstance(source, Joint) and len(source.shapes) == len(case.wrt)
    arrays = case.arrays(ROWS_USED)
    p, q = factors(case, source, arrays)
    expected = reference(case, arrays, ROWS_USED).hessian
    assert np.abs(expected).max() > 1e-2
    close(np.einsum("kni,knj->nij", p, p) - np.einsum("kni,knj->nij", q, q), expected, 1e-12)
    size = (p**2 + q**2).sum(axis=(0, 2))
    least = np.abs(np.linalg.eigvalsh(expected)).sum(axis=1)
    assert (size <= least * (1 + 1e-12 if case is GATES else 1.1)).all()


def test_products_with_one_argument_share_their_noise() -> None:
    case = SHARED
    arrays = case.arrays(ROWS_USED)
    (source,) = joined(case)
    assert isinstance(source, Products) and source.size == 3
    p, q = factors(case, source, arrays)
    expected = reference(case, arrays, ROWS_USED).hessian
    close(np.einsum("kni,knj->nij", p, p) - np.einsum("kni,knj->nij", q, q), expected, 1e-12)
    # both sides of a column have one norm, and it is smaller than that of three columns side by side
    large, small = p[:, :, :-3], p[:, :, -3:]
    np.testing.assert_allclose(np.linalg.norm(large, axis=2), np.linalg.norm(small, axis=2), rtol=1e-12)


def by_units(derived: Derived, arrays: Arrays, rows: int) -> Arrays:
    scales = {"row_scale": np.asarray(1.0 / rows), "column_scale": np.asarray(1.0), "variance_scale": np.asarray(0.0)}
    return run(derived.program, {**arrays, **scales}, rows, derived.columns)


@pytest.mark.parametrize("case", [GATES, CELL, SHARED, THREE, READ_INSIDE], ids=lambda c: c.name)
def test_unit_noise_gives_sympys_answers(case: Small) -> None:
    """The whole Hessian, the diagonal and the trace; by unit noise, and by the program for unit vectors."""
    rows = 2
    arrays = case.arrays(rows)
    expected = reference(case, arrays, rows)
    leaves = case.leaves
    for estimator in ("cp", "units"):
        made = [
            make(case.graph, leaves, estimator) for make in (programs.hessian, programs.diagonal, programs.trace)
        ]
        found: Arrays = {}
        for derived in made:
            is_unit = estimator == "units"
            found |= by_units(derived, arrays, rows) if is_unit else evaluate(derived, arrays, rows=rows, unit=True)
        for k, a in enumerate(case.wrt):
            close(found[f"diag_{a}"], expected.diag(a), 1e-12)
            for b in case.wrt[k:]:
                close(found[f"block_{a}_{b}"], expected.block(a, b), 1e-12)
        close(found["trace"], expected.trace, 1e-12)


def test_unit_noise_gives_the_hessian_of_a_recurrent_cell() -> None:
    """Against Hessian-vector products along all directions; three steps, by all parameters."""
    graph, rows = recurrent(2, 1).graph(), 2
    leaves = [graph.variable(name) for name in WEIGHTS]
    rng = np.random.default_rng(0)
    arrays = {v.name: rng.normal(size=[e if isinstance(e, int) else rows for e in v.shape]) for v in graph.variables}
    sizes = [int(np.prod(v.element_shape)) for v in leaves]
    product = programs.hvp(graph, leaves)
    names = programs.direction_names(graph, leaves)
    columns = []
    for e in np.eye(sum(sizes)):
        parts = np.split(e, np.cumsum(sizes)[:-1])
        given = {names[v.name]: part.reshape(v.element_shape) for v, part in zip(leaves, parts, strict=True)}
        found = evaluate(product, {**arrays, **given}, rows=rows)
        columns.append(np.concatenate([np.ravel(found[f"hvp_{v.name}"]) for v in leaves]))
    expected = np.array(columns)
    place = dict(zip(WEIGHTS, np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]), strict=True))
    for estimator in ("cp", "units"):
        derived = programs.hessian(graph, leaves, estimator)
        is_unit = estimator == "units"
        found = by_units(derived, arrays, rows) if is_unit else evaluate(derived, arrays, rows=rows, unit=True)
        for k, a in enumerate(WEIGHTS):
            for b in WEIGHTS[k:]:
                block = found[f"block_{a}_{b}"].reshape(len(place[a]), len(place[b]))
                close(block, expected[np.ix_(place[a], place[b])], 1e-12)


@cache
def separate(name: str) -> dict[str, Derived]:
    """The programs with every second derivative factored on its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "join", lambda curvature, sources, asked: list(sources))
        return derived_of(*catalogued(name), "cp")


def derived_of(graph: Graph, wrt: Sequence[str], estimator: str) -> dict[str, Derived]:
    leaves = [graph.variable(name) for name in wrt]
    found = {f.__name__: f(graph, leaves, estimator) for f in (programs.diagonal, programs.trace, programs.hessian)}
    return found | {"sketch": programs.sketch(graph, leaves)}


@cache
def catalogued(name: str) -> tuple[Graph, tuple[str, ...]]:
    entry = CATALOGUE[name]
    model = entry.build()
    if not isinstance(model, cp.Model):
        from cpgen.model import from_expression

        model = from_expression(model, list(entry.wrt))
    return model.graph(), entry.wrt


@pytest.mark.parametrize("name", models())
def test_no_model_takes_more_columns_and_what_was_exact_stays_so(name: str) -> None:
    for estimator in ("cp", "units"):
        for what, now in derived_of(*catalogued(name), estimator).items():
            before = separate(name)[what]
            assert before.columns is not None and now.columns is not None
            assert now.columns <= before.columns
            assert now.exact >= before.exact and now.answers == before.answers
            # the same sources are drawn and left out
            assert {d.name for d in now.dropped} == {d.name for d in before.dropped}


def variance(derived: Derived, arrays: Arrays, count: int = 200) -> float:
    """The variance of one draw, summed over the entries of the diagonal: estimated from independent draws."""
    rng = np.random.default_rng(3)
    noise = signs(derived.program, rng.choice([-1.0, 1.0], size=(count, 1, noise_count(derived.program))))
    found = evaluate(derived, arrays, noise, rows=1, columns=count)
    return count * sum(float(np.sum(v)) for name, v in found.items() if name.startswith("var_"))


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_a_recurrent_cell_has_less_variance_and_fewer_columns(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 inputs, 6 units, 3 steps, by all parameters."""
    graph = recurrent(6, 4).graph()
    leaves = [graph.variable(name) for name in WEIGHTS]
    rng = np.random.default_rng(1)
    arrays = {
        v.name: rng.normal(size=[e if isinstance(e, int) else 1 for e in v.shape]) * (scale if v.kind == "param" else 1)
        for v in graph.variables
    }
    now = programs.diagonal(graph, leaves)
    units = programs.diagonal(graph, leaves, "units")
    with monkeypatch.context() as patch:
        patch.setattr(programs, "join", lambda curvature, sources, asked: list(sources))
        before = programs.diagonal(graph, leaves)
    assert before.columns is not None and now.columns is not None and units.columns is not None
    # closed forms have already taken half of the 114 that separate factors need without them
    assert units.columns <= 0.6 * before.columns and now.columns <= 0.7 * before.columns
    assert variance(before, arrays) > 5 * variance(now, arrays)


def test_read_outs_stay_above_what_moves_below_them() -> None:
    """W is read at s, so that nothing that arrives at s may be moved below it."""
    case = READ_INSIDE
    derived = programs.diagonal(case.graph, case.leaves)
    assert dict(derived.readouts)["W"] == "s"
    curvature = Curvature(case.graph, case.leaves, UNIT)
    s = dict(case.graph.definitions)["s"]
    (pivots,) = (
        p for p in join(curvature, curvature.sources(), [Asked((s, s), 0)]) if isinstance(p, Pivots)
    )
    assert s in pivots.variables


def test_what_is_known_at_a_read_out_is_joined_with_nothing_drawn_there() -> None:
    leaf = CELL.leaves[0]
    for setting in (SIGNED, UNIT):
        curvature = Curvature(CELL.graph, CELL.leaves, setting)
        sources = curvature.sources()
        known = next(s for s in sources if s.variables == (leaf,))
        result = join(curvature, sources, [Asked((leaf, leaf), known.parts)])
        (own,) = (s for s in result if s.parts & known.parts)
        assert not own.parts & ~known.parts & Sides(curvature, sources).seen(leaf, leaf)


def test_settings_to_be_differentiated_keep_their_factors() -> None:
    graph = recurrent(2, 1).graph()
    leaves = [graph.variable(name) for name in WEIGHTS]
    apart = [d.name for d in programs.diagonal(graph, leaves, "cp", programs.Setting("smooth")).drawn]
    assert apart == [d.name for d in programs.diagonal(graph, leaves, "cp", programs.Setting("mixed")).drawn]
    assert len(apart) == 13
    assert [d.what for d in programs.diagonal(graph, leaves).drawn] == [
        "second derivatives of the readers of ao1, c1 together",
        "second derivatives of the readers of ao2, c1, af2, ag2, ai2 together",
        "second derivative of ag1's readers",
        "second derivative of ai1's readers",
    ]


def test_the_text_takes_a_matrix_apart_once() -> None:
    """All numbers of a root come from one call, in one loop, though a loop has fewer maps otherwise."""
    est = cp.compile(recurrent(2, 1), wrt=list(WEIGHTS), programs=("diagonal",), backend="native")
    text = "\n".join(body for file, body in est.source(["diagonal"]).items() if "scalar" not in file)
    assert text.count("= cpgen_eigenroot5_f64(") in (1, 2)  # stages that are alike share a function
    calls = {k: text.count(f"= cpgen_eigenroot{k}_f64(") for k in range(2, 6)}
    assert text.count(".at[") == sum(2 * k**2 * count for k, count in calls.items())
