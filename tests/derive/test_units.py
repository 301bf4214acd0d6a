"""Programs for unit vectors: the answers of the signs they stand for, without products with ones and zeros."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.units import by_column, fold, unit_vectors
from cpgen.estimate.backends import Interpreted
from cpgen.ir.build import affine, axis, make_map, new_input, read
from cpgen.ir.call import Call
from cpgen.ir.cost import operations
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Input, Map, Node, Origin, Program
from cpgen.ir.noise import IDENTITY
from cpgen.ir.text import text
from cpgen.ir.verify import verify
from cpgen.scalar import placeholder as p
from tests.catalogue import CATALOGUE

RNG = np.random.default_rng(31)
COUNT = 9  # columns of the small examples, more than the unit vectors have elements


def evaluated(node: Node, **arrays: np.ndarray) -> np.ndarray:
    outputs = (("y", node),)
    inputs = tuple(n for n in Program("t", outputs, ()).nodes() if isinstance(n, Input))
    program = Program("t", outputs, inputs)
    verify(program)
    return run(program, arrays, 4, COUNT)["y"]


def folded(node: Node, **arrays: np.ndarray) -> Map:
    """The fold of ``node``, having checked that it has the same values."""
    made = fold(node)
    np.testing.assert_allclose(evaluated(made, **arrays), evaluated(node, **arrays), rtol=1e-14, atol=1e-14)
    assert isinstance(made, Map) and made.shape == node.shape
    return made


def test_unit_vectors_are_rows_of_the_identity() -> None:
    found = evaluated(unit_vectors((2, 3), 2, Origin("v")))
    expected = np.zeros((COUNT, 6))
    expected[2:8] = np.eye(6)
    np.testing.assert_array_equal(found.reshape(COUNT, 6), expected)


def test_a_contraction_with_a_unit_vector_is_a_read() -> None:
    w, s = new_input("w", (3, 5), "param"), new_input("s", (ROWS, 5), "data")
    v = unit_vectors((5,), 2, Origin("v"))
    node = make_map((COLUMNS, ROWS, 3, 5), 3, [read(w, 2, 3), read(s, 1, 3), read(v, 0, 3)], p(0) * p(1) * p(2))
    made = folded(node, w=RNG.normal(size=(3, 5)), s=RNG.normal(size=(4, 5)))
    assert not made.reduced and not made.guards
    assert {a.node for a in made.args} == {w, s}
    assert all(affine({0: 1}, -2) in a.index for a in made.args)


def test_scaled_unit_vectors_are_read_too() -> None:
    w, s = new_input("w", (3, 5), "param"), new_input("s", (ROWS, 5), "data")
    v = unit_vectors((5,), 0, Origin("v"))
    scaled = make_map((COLUMNS, ROWS, 5), 3, [read(s, 1, 2), read(v, 0, 2)], p(0) ** 2 * p(1))
    node = make_map((COLUMNS, ROWS, 3, 5), 3, [read(w, 2, 3), read(fold(scaled), 0, 1, 3)], p(0) * p(1))
    made = folded(node, w=RNG.normal(size=(3, 5)), s=RNG.normal(size=(4, 5)))
    assert not made.reduced and made.expr.has(p(0), p(1))


def test_of_several_summed_axes_the_last_is_read_and_the_others_are_guarded() -> None:
    w, v = new_input("w", (4, 2, 3), "param"), unit_vectors((2, 3), 1, Origin("v"))
    node = make_map((COLUMNS, 4, 2, 3), 2, [read(w, 1, 2, 3), read(v, 0, 2, 3)], p(0) * p(1))
    made = folded(node, w=RNG.normal(size=(4, 2, 3)))
    assert [made.extents[a] for a in made.reduced] == [2]


def test_shifted_and_strided_reads_are_solved_for_the_column() -> None:
    """Convolutions read at sums of axes: what pins the axis then carries the others, and a division."""
    w, v = new_input("w", (3,), "param"), unit_vectors((5,), 0, Origin("v"))
    args = [read(w, 2), Access(v, (axis(0), affine({1: 2, 2: 1}, -1)))]
    made = folded(make_map((COLUMNS, 3, 3), 2, args, p(0) * p(1)), w=RNG.normal(size=3))
    assert not made.reduced
    args = [read(w, 1), Access(v, (axis(0), affine({1: 1, 2: 2}, -1)))]
    made = folded(make_map((COLUMNS, 3, 3), 2, args, p(0) * p(1)), w=RNG.normal(size=3))
    assert not made.reduced and any(g.index.divisor == 2 for g in made.guards)


def test_what_only_a_guard_ties_to_the_columns_is_computed_without_them() -> None:
    w, s = new_input("w", (3, 5), "param"), new_input("s", (ROWS, 5), "data")
    inside = [Guard(affine({0: 1}, -2), 3)]
    node = make_map((COLUMNS, ROWS, 3, 5), 3, [read(w, 2, 3), read(s, 1, 3)], p(0) * p(1), inside)
    made = folded(node, w=RNG.normal(size=(3, 5)), s=RNG.normal(size=(4, 5)))
    (access,) = made.args
    assert not made.reduced and not access.node.has_columns and isinstance(access.node, Map) and access.node.reduced


def test_a_division_by_what_is_not_there_is_left_out() -> None:
    """Outside its columns the read gives zero, and zero over zero is not zero: the guard has to stay."""
    s = new_input("s", (ROWS, 5), "data")
    v = unit_vectors((5,), 2, Origin("v"))
    node = make_map((COLUMNS, ROWS, 5), 2, [read(s, 1, 2), read(v, 0, 2)], p(1) / p(0))
    found = evaluated(fold(node), s=RNG.uniform(1.0, 2.0, size=(4, 5)))
    assert np.isfinite(found).all() and not found[:2].any() and not found[7:].any() and found[2:7].all()


def test_by_column_reads_the_element_of_the_column() -> None:
    m = new_input("m", (ROWS, 2, 3), "data")
    array = RNG.normal(size=(4, 2, 3))
    expected = np.zeros((COUNT, 4))
    expected[1:7] = array.reshape(4, 6).T
    np.testing.assert_array_equal(evaluated(by_column(m, 1, Origin("w")), m=array), expected)


# Whole programs


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_unit_vectors_give_the_answers_of_unit_noise(name: str) -> None:
    """The interpreter on both: signs replaced by unit vectors at run time, and the program made for them."""
    entry = CATALOGUE[name]
    arrays = entry.arrays()
    est = cp.compile(entry.build(), wrt=list(entry.wrt), programs=(), backend="interpreter")
    for what in ("diagonal", "trace", "hessian"):
        noisy, unit = est.loaded(f"{what}:cp"), est.loaded(f"{what}:units")
        verify(unit.program)
        count, fewer = noisy.derived.columns, unit.derived.columns
        assert count is not None and fewer is not None and fewer <= count and (fewer > 0) == (count > 0)
        assert not any(i.kind in ("noise", "scale") and i.name != "row_scale" for i in unit.program.inputs)
        given, rows = est.core.arrays(noisy, arrays)
        call = Call(rows or 1, count, design=IDENTITY, row_scale=1.0 / (rows or 1))
        expected = noisy.backend.run(given, call)
        found = unit.backend.run(est.core.arrays(unit, arrays)[0], replace(call, columns=fewer))
        assert set(found) == {k for k in expected if not k.startswith("var_")}
        for output, value in found.items():
            assert value.shape == expected[output].shape
            size = max(float(np.abs(expected[output]).max(initial=0.0)), 1e-300)
            np.testing.assert_allclose(value, expected[output], rtol=0, atol=1e-11 * size, err_msg=f"{what} {output}")


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize("name", ["mlp_tanh", "residual_tied", "convolution_2d", "recurrent", "layer_normalised"])
def test_columns_can_be_computed_in_parts(name: str, backend: str) -> None:
    """Column numbers in indices count all columns, also those that this call leaves out."""
    entry = CATALOGUE[name]
    est = cp.compile(entry.build(), wrt=list(entry.wrt), programs=(), backend=backend)
    for what in ("diagonal:units", "hessian:units"):
        loaded = est.loaded(what)
        given, rows = est.core.arrays(loaded, entry.arrays())
        count = loaded.derived.columns
        assert count is not None and count > 1
        calls = [(0, count), (0, count // 2), (count // 2, count - count // 2), (count, 1)]
        whole, first, second, none = (
            loaded.backend.run(given, Call(rows or 1, size, first_column=start, row_scale=1.0 / (rows or 1)))
            for start, size in calls
        )
        for output in whole:
            if output != "kinks":
                size = max(float(np.abs(whole[output]).max()), 1e-300)
                total = first[output] + second[output] - none[output]
                np.testing.assert_allclose(total, whole[output], rtol=0, atol=1e-12 * size)


def energy(inputs: int, hidden: int) -> cp.Model:
    """softplus twice, as in a learned energy; by its input."""
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=inputs, h=hidden, k=hidden)
    x = m.input("x", n, i)
    w1, b1, w2, b2 = m.param("W1", h, i), m.param("b1", h), m.param("W2", k, h), m.param("b2", k)
    z = m.define("z", (n, h), cp.softplus(cp.sum(w1[h, i] * x[n, i], i) + b1[h]))
    e = m.define("e", (n, k), cp.softplus(cp.sum(w2[k, h] * z[n, h], h) + b2[k]))
    m.objective(cp.sum(e[n, k], k) + cp.sum(x[n, i] ** 2, i) / 2)
    return m


def long_sums(program: Program) -> list[Map]:
    return [m for m in program.maps() if COLUMNS in m.shape and any(isinstance(m.extents[a], int) for a in m.reduced)]


def test_tangents_of_unit_directions_are_columns_of_the_weights() -> None:
    """Forward: of the two products of each direction with weights one is left, and no vector is drawn or stored."""
    est = cp.compile(energy(6, 20), wrt=["x"], programs=(), backend="interpreter")
    derived = est.derive("trace:directions")
    assert not any(i.kind == "noise" for i in derived.program.inputs)
    products = [m for m in long_sums(derived.program) if len(m.extents) == 4]
    assert [[a.node.name for a in m.args if isinstance(a.node, Input)] for m in products] == [["W2"]]
    # beside it, each direction has a dozen operations for each hidden unit, not two more for each weight of W1
    per_column = operations(derived.program, columns=7) - operations(derived.program, columns=6)
    assert 2 * 20 * 20 <= per_column < 2 * 20 * 20 + 20 * 12


def test_the_sweep_starts_with_a_row_of_the_weights() -> None:
    """Backward: the column of hidden unit c is row c of W2, and only the product with W1 is left."""
    est = cp.compile(energy(30, 20), wrt=["x"], programs=(), backend="interpreter")
    products = [m for m in long_sums(est.derive("diagonal:units").program) if len(m.extents) == 4]
    assert [[a.node.name for a in m.args if isinstance(a.node, Input)] for m in products] == [["W1"]]
    assert "W2[i, k]" in text(est.derive("diagonal:units").program)


def test_sums_are_left_out_in_the_columns_of_other_sources() -> None:
    """Two sources: what comes from the upper one goes through the product above the lower one, and nothing else does."""
    m = cp.Model("deep")
    n, i, h, k, g, c = m.axes("n i h k g c", n=cp.ROWS, i=4, h=15, k=16, g=17, c=3)
    x, y = m.input("x", n, i), m.input("y", n, c)
    z = m.define("z", (n, h), sp.sin(cp.sum(m.param("A", h, i)[h, i] * x[n, i], i)))
    e = m.define("e", (n, k), sp.sin(cp.sum(m.param("B", k, h)[k, h] * z[n, h], h)))
    u = m.define("u", (n, g), sp.sin(cp.sum(m.param("C", g, k)[g, k] * e[n, k], k)))
    f = m.define("f", (n, c), cp.sum(m.param("D", c, g)[c, g] * u[n, g], g))
    m.objective(cp.logsumexp(f[n, c], c) - cp.sum(y[n, c] * f[n, c], c))
    est = cp.compile(m, wrt=["A"], programs=(), backend="interpreter")
    derived = est.derive("diagonal:units")
    drawn = {d.name: d.size for d in derived.drawn}
    assert derived.columns == sum(drawn.values()) and list(drawn.values()) == [17, 3]
    guarded = [m for m in long_sums(derived.program) if m.guards]
    assert [[guard.extent for guard in s.guards] for s in guarded] == [[3]]
    assert {a.node.name for a in guarded[0].args if isinstance(a.node, Input)} == {"C"}
    noisy = est.derive("diagonal:cp").program
    assert operations(derived.program, columns=20) < operations(noisy, columns=20) / 2


def test_signs_stay_signs() -> None:
    """Sampled programs are what they were: drawn noise, both fields, variances."""
    est = cp.compile(energy(6, 5), wrt=["x"], programs=(), backend="interpreter")
    derived = est.derive("trace:cp")
    assert not derived.unit and {i.kind for i in derived.program.inputs} >= {"noise", "scale"}
    assert "var_trace" in dict(derived.program.outputs)
    indices = [i for m in derived.program.maps() for a in m.args for i in a.index]
    assert all(i.axis is not None for i in indices)


def test_exact_answers_take_the_program_for_unit_vectors() -> None:
    est = cp.compile(energy(30, 5), wrt=["x"], programs=(), backend="interpreter")
    arrays = {
        "x": RNG.normal(size=(3, 30)), "W1": RNG.normal(size=(5, 30)), "b1": RNG.normal(size=5),
        "W2": RNG.normal(size=(5, 5)), "b2": RNG.normal(size=5),
    }  # fmt: skip
    sampled = est.trace(samples=4, exact=False, **arrays)
    assert not sampled.exact
    exact = [est.trace(exact=True, **arrays), est.trace(samples=64, **arrays), est.trace(samples=5, **arrays)]
    for found in exact:
        assert found.exact and found.method == "cp" and found.samples == 5
        np.testing.assert_array_equal(found.value, exact[0].value)
    assert est.derive("trace:exact").unit and isinstance(est.loaded("trace:exact").backend, Interpreted)
    assert "unit vectors in place of noise" in est.show("trace:exact")
    hessian = est.hessian(**arrays).matrix()
    np.testing.assert_allclose(exact[0].value, np.trace(hessian, axis1=1, axis2=2), rtol=1e-11)


def test_a_stream_and_one_call_have_the_same_bits() -> None:
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays()
    est = cp.compile(entry.build(), wrt=list(entry.wrt), programs=())
    whole = est.diagonal(exact=True, **arrays)
    rows = {v.name for v in est.graph.variables if v.has_rows}
    count = len(arrays[next(iter(rows))])
    stream = est.stream(exact=True, total_rows=count)
    for part in (slice(0, 1), slice(1, count)):
        stream.add(**{k: v[part] if k in rows else v for k, v in arrays.items()})
    for leaf, found in stream.result().items():
        np.testing.assert_array_equal(found.value, whole[leaf].value)


def test_programs_for_unit_vectors_are_derived_by_name() -> None:
    graph = energy(4, 3).graph()
    leaves = [graph.variable("x")]
    for derived in (programs.diagonal(graph, leaves, "units"), programs.trace(graph, leaves, "units")):
        assert derived.unit and derived.estimator == "cp" and derived.columns == 3
        assert derived.exact == frozenset(name for name, _ in derived.program.outputs if name != "kinks")
