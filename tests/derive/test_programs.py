"""Every program on small models, run by the interpreter, against SymPy's derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.sources import Setting
from cpgen.errors import RequestError
from cpgen.ir.noise import noise_count, noise_inputs
from tests.derive.small import ALL, CASES, Reference, Small, close, evaluate, reference, signs

SETTINGS = [Setting("signed"), Setting("mixed"), Setting("smooth", 0.3)]
every = pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)


def prepared(case: Small, rows: int = 2) -> tuple[dict[str, np.ndarray], Reference, int]:
    rows = rows if case.has_rows else 1
    arrays = case.arrays(rows)
    return arrays, reference(case, arrays, rows), rows


@every
def test_value_and_gradient(case: Small) -> None:
    arrays, expected, rows = prepared(case, 3)
    found = evaluate(programs.value(case.graph), arrays, rows=rows)
    close(found["value"], expected.value.sum())
    if case.has_rows:
        close(found["rows"], expected.value)
    found = evaluate(programs.gradient(case.graph, case.leaves), arrays, rows=rows)
    close(found["value"], expected.value.sum())
    for name in case.wrt:
        close(found[f"grad_{name}"], expected.grad(name))


def directions(case: Small, rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random directions by input name, and ``[row, i]`` over all elements of wrt."""
    rng = np.random.default_rng(5)
    given = {
        f"dir_{v.name}": rng.normal(size=[e if isinstance(e, int) else rows for e in v.shape])
        for v in case.leaves
    }
    parts = [
        given[f"dir_{v.name}"].reshape(rows, -1)
        if v.has_rows
        else np.tile(given[f"dir_{v.name}"].ravel(), (rows, 1))
        for v in case.leaves
    ]
    return given, np.concatenate(parts, axis=1)


@every
def test_jvp_and_hvp(case: Small) -> None:
    arrays, expected, rows = prepared(case, 3)
    given, along = directions(case, rows)
    found = evaluate(programs.jvp(case.graph, case.leaves), {**arrays, **given}, rows=rows)
    jvp = np.einsum("ni,ni->n", expected.gradient, along)
    close(found["jvp"], jvp if case.has_rows else jvp[0])
    found = evaluate(programs.hvp(case.graph, case.leaves), {**arrays, **given}, rows=rows)
    products = np.einsum("nij,nj->ni", expected.hessian, along)
    for leaf in case.leaves:
        part = products[:, expected.place(leaf.name)]
        part = part if leaf.has_rows else part.sum(axis=0)
        close(found[f"hvp_{leaf.name}"], part.reshape(found[f"hvp_{leaf.name}"].shape))


@every
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.factor)
def test_unit_columns_give_the_exact_diagonal_trace_and_hessian(case: Small, setting: Setting) -> None:
    arrays, expected, rows = prepared(case, 3)
    diagonal = programs.diagonal(case.graph, case.leaves, "cp", setting)
    found = evaluate(diagonal, arrays, rows=rows, unit=True)
    for name in case.wrt:
        close(found[f"diag_{name}"], expected.diag(name))
    found = evaluate(programs.trace(case.graph, case.leaves, "cp", setting), arrays, rows=rows, unit=True)
    close(found["trace"], expected.trace)
    hessian = programs.hessian(case.graph, case.leaves, setting=setting)
    found = evaluate(hessian, arrays, rows=rows, unit=True)
    for k, a in enumerate(case.wrt):
        for b in case.wrt[k:]:
            close(found[f"block_{a}_{b}"], expected.block(a, b))


@every
def test_outputs_named_exact_need_no_noise(case: Small) -> None:
    """What the derivation calls exact does not depend on the noise; everything else has a variance."""
    arrays, expected, rows = prepared(case)
    derived = programs.diagonal(case.graph, case.leaves)
    k = 2
    zeros = {
        i.name: np.zeros(
            [e if isinstance(e, int) else {"rows": rows, "columns": k}[e.value] for e in i.shape]
        )
        for i in noise_inputs(derived.program)
    }
    found = evaluate(derived, arrays, zeros, rows, k)
    labels = [label for label, _ in derived.program.outputs]
    for name in case.wrt:
        label = f"diag_{name}"
        assert (f"var_{label}" in labels) == (label not in derived.exact)
        if label in derived.exact:
            close(found[label], expected.diag(name))
        else:
            assert np.abs(found[label] - expected.diag(name)).max() > 1e-6
    if derived.columns == 0:
        assert set(derived.exact) == {f"diag_{name}" for name in case.wrt}


@every
def test_whole_graph_estimators_and_hutchinson_are_exact_with_unit_columns_for_one_row(case: Small) -> None:
    arrays, expected, _ = prepared(case, 1)
    for method in ("s", "tu", "hutchinson_plain"):
        found = evaluate(programs.diagonal(case.graph, case.leaves, method), arrays, rows=1, unit=True)
        for name in case.wrt:
            close(found[f"diag_{name}"], expected.diag(name))
    mixed = {leaf.has_rows for leaf in case.leaves}
    if len(mixed) == 1:
        found = evaluate(programs.trace(case.graph, case.leaves, "hutchinson_plain"), arrays, rows=1, unit=True)
        close(found["trace"], expected.trace)
    else:
        with pytest.raises(RequestError, match="not over both at once"):
            programs.trace(case.graph, case.leaves, "hutchinson_plain")


@every
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.factor)
def test_the_sketch_holds_the_whole_hessian(case: Small, setting: Setting) -> None:
    """H = P^T P - Q^T Q over unit columns, all leaves together."""
    arrays, expected, _ = prepared(case, 1)
    found = evaluate(programs.sketch(case.graph, case.leaves, None, setting), arrays, rows=1, unit=True)
    p, q = (
        np.concatenate(
            [found[f"{role}_{n}"].reshape(len(found[f"{role}_{n}"]), -1) for n in case.wrt], axis=1
        )
        for role in "pq"
    )
    close(p.T @ p - q.T @ q, expected.hessian[0])


@every
def test_entries_are_entries(case: Small) -> None:
    arrays, expected, rows = prepared(case, 3)
    rng = np.random.default_rng(3)

    def place(leaf: object) -> tuple[int, ...]:
        return tuple(int(rng.integers(e)) for e in leaf.element_shape)  # type: ignore[attr-defined]

    wanted = [((a, place(a)), (b, place(b))) for a in case.leaves for b in case.leaves]
    wanted += [((a, i), (a, i)) for a in case.leaves[:1] for i in [place(a)]]
    derived = programs.entries(case.graph, case.leaves, wanted)
    found = evaluate(derived, arrays, rows=rows, unit=True)
    for k, ((a, i), (b, j)) in enumerate(wanted):
        block = expected.block(a.name, b.name)
        lead = (slice(None),) if a.has_rows or b.has_rows else ()
        close(found[f"entry_{k}"], block[(*lead, *i, *j)])


def test_one_block_costs_no_more_noise_than_the_whole() -> None:
    case = CASES["classifier"]
    w, v = case.leaves
    arrays, expected, rows = prepared(case)
    whole = noise_count(programs.hessian(case.graph, case.leaves).program)
    for a, b in ((w, w), (w, v), (v, v)):
        derived = programs.blocks(case.graph, case.leaves, [(a, b)])
        assert derived.columns is not None and derived.columns <= whole
        found = evaluate(derived, arrays, rows=rows, unit=True)
        close(found[f"block_{a.name}_{b.name}"], expected.block(a.name, b.name))
    assert programs.blocks(case.graph, case.leaves, [(v, v)]).columns < whole


def test_what_is_linear_has_no_curvature_anywhere() -> None:
    """An objective linear in its leaf: nothing is drawn and the answers are zero."""
    case = CASES["energy"]
    leaf = [case.graph.variable("v")]
    for derived in (
        programs.diagonal(case.graph, leaf),
        programs.trace(case.graph, leaf),
        programs.hessian(case.graph, leaf),
    ):
        assert derived.columns == 0 and not derived.drawn
        found = evaluate(derived, case.arrays(), columns=0)
        assert found and all(np.array_equal(a, np.zeros_like(a)) for a in found.values())


@pytest.mark.parametrize("what", ["diagonal", "trace"])
@pytest.mark.parametrize("name", [*programs.METHODS, "nonsense"])
def test_every_estimator_is_found_by_its_name_or_refused(name: str, what: str) -> None:
    case = CASES["net"]
    method = programs.METHODS.get(name)
    if method is None or getattr(method, what) is None:
        with pytest.raises(RequestError, match=f"the {what} is estimated by cp, .* or directions, not by {name}"):
            getattr(programs, what)(case.graph, case.leaves, name)
    else:
        derived = getattr(programs, what)(case.graph, case.leaves, name)
        assert derived.estimator == ("cp" if name == "units" else name)
        assert derived.biased == method.biased and bool(derived.biased) == (name in ("gauss_newton", "becker_lecun"))


def test_a_mean_over_rows_is_the_sum_over_their_number() -> None:
    """Value, gradient and diagonal of the same model declared both ways; variances shrink by the square."""
    rows, found = 3, {}
    for reduction in ("sum", "mean"):
        m = cp.Model("reduced")
        n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=2)
        x, w = m.input("x", n, i), m.param("W", h, i)
        z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
        e = m.define("e", (n, h), sp.sin(3 * cp.sum(w[h, i] * z[n, i], i)))
        m.objective(cp.sum(sp.exp(e[n, h]), h), reduction=reduction)
        graph = m.graph()
        leaves = [graph.variable("W")]
        arrays = {"x": CASES["twice"].arrays(rows)["x"], "W": CASES["twice"].arrays(rows)["W"]}
        diagonal = programs.diagonal(graph, leaves)
        v = np.sign(np.random.default_rng(0).normal(size=(4, rows, noise_count(diagonal.program))))
        found[reduction] = {
            **evaluate(programs.gradient(graph, leaves), arrays, rows=rows),
            **evaluate(diagonal, arrays, signs(diagonal.program, v), rows, 4),
            "exact": evaluate(diagonal, arrays, rows=rows, unit=True)["diag_W"],
        }
    for label, value in found["sum"].items():
        close(found["mean"][label] * (rows**2 if label.startswith("var_") else rows), value)
    case = CASES["twice"]
    close(found["sum"]["exact"], reference(case, case.arrays(rows), rows).diag("W"))


@pytest.mark.parametrize(("name", "leaves"), [("net", "W b u"), ("classifier", "W V")])
def test_one_mixing_layer_below_the_loss_needs_no_noise(name: str, leaves: str) -> None:
    case = CASES[name]
    derived = programs.diagonal(case.graph, [case.graph.variable(v) for v in leaves.split()])
    assert derived.columns == 0 and not derived.drawn
    assert derived.exact == {f"diag_{v}" for v in leaves.split()}


def test_two_mixing_layers_need_the_noise_of_what_lies_above_both() -> None:
    case = CASES["deep"]
    derived = programs.diagonal(case.graph, case.leaves)
    assert [(d.name, d.size) for d in derived.drawn] == [("v_objective_logsumexp", 2)]
    assert derived.exact == {"diag_U", "diag_V"}


def test_two_mixing_layers_take_the_closed_form_away() -> None:
    """A skip past one mixing layer is a second path, which costs little; past two, columns of noise are cheaper."""
    for layers, columns in ((1, 0), (2, 40)):
        m = cp.Model("skip")
        n, i, k = m.axes("n i k", n=cp.ROWS, i=20, k=20)
        x, w = m.input("x", n, i), m.param("W", k, i)
        z = m.define("z", (n, i), sp.sin(x[n, i]))
        for layer in range(layers):
            z = m.define(f"e{layer}", (n, k), sp.sin(cp.sum(w[k, i] * z[n, i], i)) + z[n, k])
        m.objective(cp.sum(sp.exp(z[n, k]), k))
        graph = m.graph()
        assert programs.diagonal(graph, [graph.variable("x")]).columns == columns


def test_the_exact_part_of_a_trace_comes_from_the_top() -> None:
    """Two layers: trace = sum_h c[row, h] sum_i W1[h, i]**2 + what is sampled; the inner sum is the same for all rows."""
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=7, h=5, k=4)
    x, w1, w2 = m.input("x", n, i), m.param("W1", h, i), m.param("W2", k, h)
    z = m.define("z", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i)))
    m.objective(cp.sum(sp.sin(cp.sum(w2[k, h] * z[n, h], h)), k) + cp.sum(sp.sin(x[n, i]), i))
    est = cp.compile(m, wrt=["x"], programs=(), backend="interpreter")
    found = est.derive("trace:cp").program.maps()
    weights = [node for node in found if node.shape == (5,) and node.reduced]
    assert [node.extents for node in weights] == [(5, 7)]
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 7)), "W1": rng.normal(size=(5, 7)), "W2": rng.normal(size=(4, 5))}
    exact = est.trace(exact=True, **arrays).value
    np.testing.assert_allclose(exact, np.trace(est.hessian(**arrays).matrix(), axis1=1, axis2=2), rtol=1e-10)
    steps, size = np.eye(7), 1e-4
    base = est.rows(**arrays)
    ends = [est.rows(**arrays | {"x": arrays["x"] + s * size * e}) for e in steps for s in (1, -1)]
    np.testing.assert_allclose(exact, (sum(ends) - 14 * base) / size**2, rtol=1e-4)
