"""Derivatives of recurrences: those of the unrolled model, of SymPy's expression and of JAX's scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.carries import reaching
from cpgen.derive.derived import Derived
from cpgen.derive.reverse import gradients
from cpgen.derive.sources import Setting
from cpgen.derive.symbolic import written_out
from cpgen.derive.uses import Uses
from cpgen.ir.build import elementwise, new_input, reduce_sum
from cpgen.ir.flat import fingerprint, flat, graph_of
from cpgen.ir.interpret import run
from cpgen.ir.nodes import Carry, Program, carries, topological
from cpgen.ir.recur import Recurrence, components
from cpgen.ir.rounding import run_bounded
from cpgen.ir.text import text
from cpgen.scalar import placeholder
from cpgen.simplify import simplified, unify
from tests.derive.recurrent import CASES, Arrays, Recurrent
from tests.derive.small import close, evaluate
from tests.short import cases

NAMES = list(CASES)
WRT = [(name, names) for name, case in CASES.items() for names in case.wrt]
# one of each kind: read at the end and at all steps, several states, the other way, without rows, a softmax inside
FEW = ["elman", "lstm", "local_level", "garch", "both_ways", "attention", "shared", "layers"]
SHORT = [(name, names) for name, names in WRT if name in FEW and names == CASES[name].wrt[0]]


def with_directions(derived: Derived, arrays: Arrays, rows: int) -> Arrays:
    rng = np.random.default_rng(7)
    found = dict(arrays)
    for v in derived.program.inputs:
        if v.kind == "tangent":
            found[v.name] = rng.normal(size=[e if isinstance(e, int) else rows for e in v.shape])
    return found


def values(derived: Derived, arrays: Arrays, rows: int = 2, simple: bool = False) -> Arrays:
    """The exact answer; ``simple``: of the program after all passes."""
    program = simplified(derived.program, derived.columns if derived.unit else None) if simple else derived.program
    given = with_directions(derived, arrays, rows)
    if derived.unit:
        return evaluate(program, given, rows=rows, columns=derived.columns or 1)
    return evaluate(program, given, rows=rows, unit=bool(derived.columns))


def derived_of(case: Recurrent, steps: int, looped: bool, names: tuple[str, ...], what: str, *how: Any) -> Derived:
    graph, leaves = case.graph(steps, looped), case.leaves(steps, looped, names)
    make = getattr(programs, what)
    made: Derived = make(graph) if what == "value" else make(graph, leaves, *how)
    return made


def agree(found: Arrays, expected: Arrays, tolerance: float = 1e-12) -> None:
    for name, value in expected.items():
        if not name.startswith("var_"):
            close(found[name], value, tolerance)


# Against the unrolled model


@pytest.mark.parametrize("steps", cases([1, 2, 8], [1, 8]))
@pytest.mark.parametrize(("name", "names"), WRT)
def test_first_order_and_products_are_those_of_the_unrolled_model(name: str, names: tuple[str, ...], steps: int) -> None:
    case = CASES[name]
    arrays = case.arrays(steps)
    for what in ("value", "gradient", "jvp", "hvp"):
        one, other = (derived_of(case, steps, looped, names, what) for looped in (True, False))
        agree(values(one, arrays), values(other, arrays))


@pytest.mark.parametrize("name", ["lstm", "local_level", "backwards", "layers"])
def test_no_pass_moves_anything_across_a_step(name: str) -> None:
    case = CASES[name]
    arrays = case.arrays(3)
    for what in (("hvp",), ("diagonal", "cp"), ("trace", "units")):
        derived = derived_of(case, 3, True, case.wrt[0], *what)
        agree(values(derived, arrays, simple=True), values(derived, arrays))


@pytest.mark.parametrize("case_and_leaves", cases(WRT, SHORT), ids=lambda pair: "_".join((pair[0], *pair[1])))
def test_every_estimator_has_the_mean_of_the_unrolled_one(case_and_leaves: tuple[str, tuple[str, ...]]) -> None:
    """Unit vectors in place of signs give the expectation, so this says that no estimator is biased."""
    name, names = case_and_leaves
    case, steps = CASES[name], 3
    arrays = case.arrays(steps)
    unrolled = values(derived_of(case, steps, False, names, "hessian", "cp"), arrays)
    exact = values(derived_of(case, steps, False, names, "diagonal", "directions"), arrays)
    trace = values(derived_of(case, steps, False, names, "trace", "directions"), arrays)
    for how in ("cp", "units"):
        agree(values(derived_of(case, steps, True, names, "hessian", how), arrays), unrolled)
    for how in ("cp", "units", "hutchinson", "directions"):
        agree(values(derived_of(case, steps, True, names, "diagonal", how), arrays), exact)
        agree(values(derived_of(case, steps, True, names, "trace", how), arrays), trace)


def test_gauss_newton_counts_the_loss_alone() -> None:
    case = CASES["attention"]
    arrays = case.arrays(3)
    one, other = (derived_of(case, 3, looped, ("A", "u"), "diagonal", "gauss_newton") for looped in (True, False))
    agree(values(one, arrays), values(other, arrays))


@pytest.mark.parametrize("name", cases(NAMES, FEW))
def test_the_sweep_is_exact_over_many_steps(name: str) -> None:
    case, steps = CASES[name], 8
    arrays = case.arrays(steps)
    found = values(derived_of(case, steps, True, case.wrt[0], "diagonal", "cp"), arrays)
    agree(found, values(derived_of(case, steps, False, case.wrt[0], "diagonal", "directions"), arrays))


@pytest.mark.parametrize("name", ["elman", "lstm", "garch"])
def test_sketches_entries_and_the_gradient_of_an_estimate(name: str) -> None:
    case, steps = CASES[name], 3
    names = case.wrt[0]
    arrays = case.arrays(steps, rows=1)
    found = []
    for looped in (True, False):
        graph, leaves = case.graph(steps, looped), case.leaves(steps, looped, names)
        first, last = ((leaf, tuple(0 for _ in leaf.element_shape)) for leaf in (leaves[0], leaves[-1]))
        entry = values(programs.entries(graph, leaves, [(first, last)]), arrays, rows=1)
        third = values(programs.estimate_gradient(graph, leaves, leaves, Setting("smooth")), arrays, rows=1)
        sketch = programs.sketch(graph, leaves)
        fields = values(sketch, arrays, rows=1)
        p, q = (
            np.concatenate([fields[f"{r}_{v.name}"].reshape(sketch.columns or 0, -1) for v in leaves], 1) for r in "pq"
        )
        found.append({**entry, **third, "hessian": p.T @ p - q.T @ q})
    agree(found[0], found[1], 1e-11)


# Against others


def test_an_elman_network_written_out_by_sympy() -> None:
    """The objective once more from the mathematics, and SymPy's derivatives of it."""
    case, steps = CASES["elman"], 2
    graph = case.graph(steps, True)
    names = ("W", "b")
    symbols: dict[str, NDArray[Any]] = {}
    for v in graph.variables:
        symbols[v.name] = np.empty(v.element_shape, object)
        for place in np.ndindex(*v.element_shape):
            symbols[v.name][place] = sp.Symbol(f"{v.name}_{'_'.join(map(str, place))}", real=True)
    tanh = np.vectorize(sp.tanh, otypes=[object])
    h = symbols["h0"]
    for t in range(steps):
        h = tanh(symbols["W"] @ h + symbols["U"] @ symbols["x"][t] + symbols["b"])
    objective = sum((h - symbols["y"]) ** 2)
    leaves = [s for name in names for s in np.ravel(symbols[name])]
    gradient = [sp.diff(objective, s) for s in leaves]
    diagonal = [sp.diff(g, s) for g, s in zip(gradient, leaves, strict=True)]
    everything = [s for array in symbols.values() for s in np.ravel(array)]
    function = sp.lambdify(everything, [objective, *gradient, *diagonal], "math", cse=True)
    arrays = case.arrays(steps, rows=1)
    rows = {v.name: arrays[v.name][0] if v.has_rows else arrays[v.name] for v in graph.variables}
    expected = np.array(function(*(x for name in symbols for x in np.ravel(rows[name]))))
    first = values(derived_of(case, steps, True, names, "gradient"), arrays, rows=1)
    second = values(derived_of(case, steps, True, names, "diagonal", "cp"), arrays, rows=1)
    close(first["value"], expected[0])
    close(np.concatenate([np.ravel(first[f"grad_{name}"]) for name in names]), expected[1:7])
    close(np.concatenate([np.ravel(second[f"diag_{name}"]) for name in names]), expected[7:])


def test_an_lstm_against_scan() -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    case, steps = CASES["lstm"], 12
    arrays = case.arrays(steps)

    def objective(w: Any, v: Any) -> Any:
        def row(x: Any, y: Any) -> Any:
            def step(state: Any, at: Any) -> Any:
                c, h = state
                z = w @ h + arrays["U"] @ at + arrays["b"]
                c = jax.nn.sigmoid(z[0]) * c + jax.nn.sigmoid(z[1]) * jnp.tanh(z[2])
                return (c, jax.nn.sigmoid(z[3]) * jnp.tanh(c)), None

            (_, h), _ = jax.lax.scan(step, (jnp.zeros(2), jnp.zeros(2)), x)
            return (v @ h - y) ** 2

        return jax.vmap(row)(arrays["x"], arrays["y"]).sum()

    leaves = (arrays["W"], arrays["V"])
    product = derived_of(case, steps, True, ("W", "V"), "hvp")
    given = with_directions(product, arrays, 2)
    directions = (given["dir_W"], given["dir_V"])
    gradient, along = jax.jvp(jax.grad(objective, (0, 1)), leaves, directions)
    first = values(derived_of(case, steps, True, ("W", "V"), "gradient"), arrays)
    second = values(product, arrays)
    for name, own, times in zip(("W", "V"), gradient, along, strict=True):
        close(first[f"grad_{name}"], np.asarray(own))
        close(second[f"hvp_{name}"], np.asarray(times))


@pytest.mark.parametrize("name", ["elman", "local_level", "backwards"])
def test_written_out_it_is_the_unrolled_expression(name: str) -> None:
    case = CASES[name]
    one, other = (written_out(case.graph(2, looped), None) for looped in (True, False))
    assert one is not None and other is not None
    at = {s: sp.Rational(k + 2, 7) for k, s in enumerate(sorted(one[0].free_symbols, key=str))}
    assert abs(sp.N(one[0].xreplace(at), 20) - sp.N(other[0].xreplace(at), 20)) < 1e-15


# What a recurrence is


@pytest.mark.parametrize("name", NAMES)
def test_nothing_depends_on_the_number_of_steps(name: str) -> None:
    case = CASES[name]
    for what in ("gradient", "hvp", "diagonal", "trace"):
        few, many = (derived_of(case, steps, True, case.wrt[0], what).program for steps in (8, 1000))
        assert len(few.nodes()) == len(many.nodes()), what


def test_one_step_is_no_recurrence() -> None:
    for case in CASES.values():
        assert not carries(topological([case.graph(1, True).objective]))


def test_derivatives_run_the_other_way() -> None:
    """Carries of adjoints and of fields run backwards, those of tangents forwards, and of an adjoint's adjoint again."""
    case = CASES["elman"]
    graph, leaves = case.graph(5, True), case.leaves(5, True, ("W",))
    (own,) = carries(topological([graph.objective]))
    assert own.step == 1 and isinstance(own, Carry)
    (gradient,) = gradients(graph.objective, leaves)
    assert gradient is not None
    assert sorted(c.step for c in carries(topological([gradient]))) == [-1, 1]
    direction = new_input("dir_W", leaves[0].shape, "tangent")
    product = reduce_sum(elementwise(placeholder(0) * placeholder(1), [gradient, direction]), [0, 1])
    (twice,) = gradients(product, leaves)
    assert twice is not None
    program = Program("twice", (("hvp_W", twice),), (*graph.variables, direction))
    steps = [c.step for c in program.carries()]
    assert set(steps) == {1, -1}
    # reverse over reverse is forward over reverse
    arrays = case.arrays(5)
    forward = derived_of(case, 5, True, ("W",), "hvp")
    given = with_directions(forward, arrays, 2)
    close(run(program, given, 2)["hvp_W"], values(forward, arrays)["hvp_W"], 1e-12)


def test_equal_recurrences_are_computed_once() -> None:
    """Gradient and diagonal of one call each derive adjoints, and a model may say the same twice."""
    m = cp.Model("twice")
    n, t = m.axes("n t", n=cp.ROWS, t=5)
    x, a = m.input("x", n, t), m.param("a")
    states = [m.state(name, (n, t), along=t, start=start) for name, start in (("g", 0), ("h", 0), ("k", a))]
    for state in states:
        m.define(state, sp.sin(a * state.previous[n, t] + x[n, t]))
    g, h, k = (state[n, 4] for state in states)
    m.objective(g * h + k**2)
    graph = m.graph()
    leaves = [graph.variable("a")]
    arrays = {"x": np.random.default_rng(2).normal(size=(2, 5)), "a": np.array(0.7)}
    for what in (programs.gradient, programs.hvp, programs.diagonal):
        derived = what(graph, leaves)
        joined = unify(derived.program)
        assert len(joined.carries()) < len(derived.program.carries())
        given = with_directions(derived, arrays, 2)
        agree(evaluate(joined, given, unit=bool(derived.columns)), evaluate(derived, given, unit=bool(derived.columns)))
        assert unify(joined) is joined
    assert len(unify(programs.value(graph).program).carries()) == 2
    gradient, diagonal = programs.gradient(graph, leaves), programs.diagonal(graph, leaves, "directions")
    both = Program(
        "both", (*gradient.program.outputs, *diagonal.program.outputs), diagonal.program.inputs, whole=diagonal.columns
    )
    assert len(unify(both).carries()) == len(unify(diagonal.program).carries())


def test_reached_through_a_carry() -> None:
    case = CASES["elman"]
    graph, leaves = case.graph(5, True), case.leaves(5, True, ("W", "b"))
    uses = Uses([graph.objective], leaves)
    (carry,) = uses.carries
    assert uses.active(carry) and uses.is_recurrent(carry) and uses.is_recurrent(carry.body)
    assert not any(uses.is_recurrent(leaf) for leaf in leaves) and not uses.is_recurrent(graph.objective)
    assert uses.depends(carry, leaves[0]) and uses.carried(carry.body) == [carry]
    assert reaching(uses, {graph.objective: 1})[carry] == 1


def test_what_a_recurrence_computes() -> None:
    """The product with the inputs is one wide product before it."""
    program = derived_of(CASES["elman"], 5, True, ("W",), "value").program
    found = [part for part in components(program.nodes()) if isinstance(part, Recurrence)]
    assert len(found) == 1 and found[0].steps == range(5)
    inside = set(found[0].nodes)
    outside = [n for n in program.maps() if n not in inside and any(a.node.name == "U" for a in n.args)]  # type: ignore[attr-defined]
    assert len(outside) == 1 and outside[0].reduced


def test_the_printed_form() -> None:
    printed = text(derived_of(CASES["backwards"], 4, True, ("B",), "gradient").program)
    lines = [line for line in printed.splitlines() if line.startswith("carry")]
    assert lines == [
        "carry beta_carry[i, j, k] = beta[i, j+1, k] along j, downwards",
        "carry beta_bar_carry[i, j, k] = beta_previous_bar[i, j-1, k] along j",
    ]


# The rest of the house


@pytest.mark.parametrize("name", ["lstm", "garch", "backwards"])
def test_a_graph_is_copied_with_its_recurrences(name: str) -> None:
    case = CASES[name]
    graph = case.graph(3, True)
    copy = graph_of(flat(graph))
    assert fingerprint(copy) == fingerprint(graph) != fingerprint(case.graph(4, True))
    arrays = case.arrays(3)
    agree(evaluate(programs.value(copy), arrays), evaluate(programs.value(graph), arrays), 0)


@pytest.mark.parametrize("name", ["lstm", "rk4"])
def test_rounding_is_bounded_step_by_step(name: str) -> None:
    case = CASES[name]
    program = derived_of(case, 8, True, case.wrt[0], "gradient").program
    arrays = case.arrays(8)
    exact, bounds = run_bounded(program, arrays, 2, real="float32")
    agree(exact, run(program, arrays, 2), 1e-13)
    single = run(program, {k: v.astype(np.float32) for k, v in arrays.items()}, 2)
    for label, bound in bounds.items():
        assert np.all(np.isfinite(bound))
        assert np.all(np.abs(single[label] - exact[label]) <= bound + 1e-4 * np.abs(exact[label]).max())
