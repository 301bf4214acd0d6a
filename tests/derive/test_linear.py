"""One map's Jacobian: pulling back is the transpose of pushing forward, whatever the indices."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from cpgen.derive.linear import one_to_one, pull_back, push_forward, single_path, solve
from cpgen.ir.build import affine, axis, constant_index, make_map, new_input
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Input, Map, Node, Program
from cpgen.ir.verify import verify
from cpgen.scalar import placeholder as p

X = new_input("x", (ROWS, 7), "data")
Y = new_input("y", (ROWS, 4, 5), "data")
K = new_input("k", (3,), "param")
W = new_input("w", (4, 5), "param")
ROW_SIZES = {ROWS: 3, COLUMNS: 2}


def made(*args: object, **more: object) -> Map:
    node = make_map(*args, **more)  # type: ignore[arg-type]
    assert isinstance(node, Map)
    return node


def at(node: Node, *index: object) -> Access:
    return Access(node, (axis(0), *index) if node.has_rows else tuple(index))  # type: ignore[arg-type]


def maps() -> dict[str, Map]:
    nonlinear = sympy.sin(p(0)) * p(1) + p(1) ** 2
    window = affine({1: 2, 2: 1}, -1)
    return {
        "elementwise": made((ROWS, 7), 2, [at(X, axis(1))], sympy.tanh(p(0))),
        "contraction": made((ROWS, 4, 5), 2, [at(Y, axis(1), axis(2)), at(W, axis(1), axis(2))], nonlinear),
        "slice": made((ROWS, 3), 2, [at(X, affine({1: 1}, 2)), at(K, axis(1))], nonlinear),
        "stride": made((ROWS, 3, 3), 2, [at(X, affine({1: 2, 2: 1})), at(K, axis(2))], nonlinear),
        "padding": made((ROWS, 4, 3), 2, [at(X, window), at(K, axis(2))], nonlinear),
        "guarded": made((ROWS, 4, 3), 2, [at(X, window), at(K, axis(2))], nonlinear, [Guard(window, 7)]),
        "divisor": made(
            (ROWS, 9, 3),
            2,
            [at(X, affine({1: 1, 2: -1}, 1, 2)), at(K, axis(2))],
            p(0) * p(1) + sympy.cos(p(1)),
        ),
        "dilation": made((ROWS, 3, 3), 2, [at(X, affine({1: 1, 2: 2})), at(K, axis(2))], nonlinear),
        "pooling": made((ROWS, 3, 2), 2, [at(X, affine({1: 2, 2: 1})), at(K, axis(1))], nonlinear),
        "reversal": made((ROWS, 7), 2, [at(X, affine({1: -1}, 6)), at(K, constant_index(1))], nonlinear),
        "diagonal": made(
            (ROWS, 4), 2, [at(Y, axis(1), axis(1)), at(W, axis(1), affine({1: 1}, 1))], nonlinear
        ),
        "two dimensions": made(
            (ROWS, 3, 4, 2, 2),
            3,
            [at(Y, affine({1: 1, 3: 1}), affine({2: 1, 4: 1})), at(W, axis(3), axis(4))],
            nonlinear,
        ),
        "constant subscripts": made(
            (ROWS, 4), 1, [at(Y, axis(1), constant_index(3)), at(W, axis(1), axis(1))], nonlinear
        ),
        "broadcast": made((ROWS, 4, 7), 3, [at(X, axis(2)), at(W, axis(1), constant_index(0))], nonlinear),
        "outer sum": made((ROWS, 3, 5), 1, [at(X, affine({1: 1, 2: 1})), at(K, axis(1))], nonlinear),
        "rows summed": made(
            (3, ROWS, 5), 1, [Access(X, (axis(1), affine({0: 1, 2: 1}))), Access(K, (axis(0),))], nonlinear
        ),
        "same node twice": made((ROWS, 6), 2, [at(X, axis(1)), at(X, affine({1: 1}, 1))], nonlinear),
    }


MAPS = maps()


def sized(node: Node, columns: bool = False) -> tuple[int, ...]:
    shape = tuple(e if isinstance(e, int) else ROW_SIZES[e] for e in node.shape)
    return (ROW_SIZES[COLUMNS], *shape) if columns else shape


def evaluate(nodes: dict[str, Node], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = tuple(nodes.items())
    inputs = tuple(n for n in Program("t", outputs, ()).nodes() if isinstance(n, Input))
    program = Program("t", outputs, inputs)
    verify(program)
    return run(program, arrays, ROW_SIZES[ROWS], ROW_SIZES[COLUMNS])


CASES = [(name, k) for name, m in MAPS.items() for k in range(len(m.args))]


@pytest.mark.parametrize("columns", [False, True], ids=["plain", "columns"])
@pytest.mark.parametrize(("name", "k"), CASES)
def test_pull_back_is_the_transpose_of_push_forward(name: str, k: int, columns: bool) -> None:
    """<A t, u> = <t, A^T u>, for each column where tangent and cotangent have them."""
    m = MAPS[name]
    source = m.args[k].node
    rng = np.random.default_rng(len(name) + k)
    lead = (COLUMNS,) if columns else ()
    t, u = new_input("t", (*lead, *source.shape), "tangent"), new_input("u", (*lead, *m.shape), "cotangent")
    forward, backward = push_forward(m, {k: t}), pull_back(m, k, u)
    assert forward is not None and backward is not None
    assert forward.shape == (*lead, *m.shape) and backward.shape == (*lead, *source.shape)
    arrays = {n.name: rng.normal(size=sized(n)) for n in (X, Y, K, W)}
    arrays |= {"t": rng.normal(size=sized(source, columns)), "u": rng.normal(size=sized(m, columns))}
    found = evaluate({"f": forward, "b": backward}, arrays)
    axes = tuple(range(1, arrays["u"].ndim)) if columns else None
    left = (found["f"] * arrays["u"]).sum(axis=axes)
    right = (found["b"] * arrays["t"]).sum(axis=tuple(range(1, arrays["t"].ndim)) if columns else None)
    np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)
    assert np.abs(left).min() > 1e-3


@pytest.mark.parametrize(("name", "k"), CASES)
def test_push_forward_is_the_derivative(name: str, k: int) -> None:
    """Central differences along a random direction of one argument (the other read held, where it is another node)."""
    m = MAPS[name]
    source = m.args[k].node
    rng = np.random.default_rng(k)
    t = new_input("t", source.shape, "tangent")
    positions = {j: t for j, a in enumerate(m.args) if a.node is source}
    forward = push_forward(m, positions)
    assert forward is not None
    arrays = {n.name: rng.normal(size=sized(n)) for n in (X, Y, K, W)}
    arrays["t"] = rng.normal(size=sized(source))
    found = evaluate({"f": forward}, arrays)["f"]
    step = 1e-5
    name_of = source.name  # type: ignore[attr-defined]
    moved = [
        evaluate({"m": m}, {**arrays, name_of: arrays[name_of] + s * step * arrays["t"]})["m"]
        for s in (1, -1)
    ]
    np.testing.assert_allclose(found, (moved[0] - moved[1]) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "k"), [c for c in CASES if not MAPS[c[0]].args[c[1]].node.has_rows])
def test_lifted_cotangents_sum_to_the_plain_one(name: str, k: int) -> None:
    """With ``lift`` a parameter keeps the rows apart, and only that."""
    m = MAPS[name]
    u = new_input("u", m.shape, "cotangent")
    plain, lifted = pull_back(m, k, u), pull_back(m, k, u, lift=True)
    assert plain is not None and lifted is not None and lifted.shape == (ROWS, *m.args[k].node.shape)
    rng = np.random.default_rng(2)
    arrays = {n.name: rng.normal(size=sized(n)) for n in (X, Y, K, W)} | {"u": rng.normal(size=sized(m))}
    found = evaluate({"plain": plain, "lifted": lifted}, arrays)
    np.testing.assert_allclose(found["lifted"].sum(axis=0), found["plain"], rtol=1e-12, atol=1e-12)
    assert found["lifted"].std(axis=0).max() > 1e-3


# where the map sums over rows, rows share an output and no diagonal can be carried row by row
@pytest.mark.parametrize(("name", "k"), [c for c in CASES if MAPS[c[0]].has_rows])
def test_squared_derivatives_carry_diagonals_where_paths_are_single(name: str, k: int) -> None:
    """diag(J^T diag(d) J) = sum J**2 d, with J from unit tangents; ``single_path`` is what makes it true."""
    m = MAPS[name]
    access = m.args[k]
    source = access.node
    d = new_input("d", m.shape, "cotangent")
    squared = pull_back(m, k, d, power=2, lift=True)
    assert squared is not None
    rng = np.random.default_rng(4)
    arrays = {n.name: rng.normal(size=sized(n)) for n in (X, Y, K, W)} | {"d": rng.normal(size=sized(m))}
    count = int(np.prod(source.element_shape))
    t = new_input("t", (COLUMNS, *source.shape), "tangent")
    jacobian = push_forward(m, {k: t})
    assert jacobian is not None
    units = np.eye(count).reshape(count, *source.element_shape)
    if source.has_rows:
        units = np.repeat(units[:, None], ROW_SIZES[ROWS], axis=1)
    outputs = (("j", jacobian),)
    inputs = tuple(n for n in Program("t", outputs, ()).nodes() if isinstance(n, Input))
    j = run(Program("t", outputs, inputs), {**arrays, "t": units}, ROW_SIZES[ROWS], count)["j"]
    found = evaluate({"s": squared}, arrays)["s"]
    exact = np.einsum(
        "knq,nq->nk", j.reshape(count, ROW_SIZES[ROWS], -1) ** 2, arrays["d"].reshape(ROW_SIZES[ROWS], -1)
    )
    same = np.allclose(found.reshape(exact.shape), exact, rtol=1e-12, atol=1e-12)
    assert same == single_path(m, k)


def test_paths() -> None:
    expected = {
        # (read at one point of a row at most, one path to each output)
        ("elementwise", 0): (True, True),
        ("contraction", 0): (True, True),
        ("contraction", 1): (True, True),
        ("stride", 0): (False, True),
        ("stride", 1): (False, True),
        ("broadcast", 0): (False, True),
        ("pooling", 0): (
            False,
            True,
        ),  # one point, but windows that tile are not recognised: the cautious answer
        ("constant subscripts", 0): (True, True),
        ("outer sum", 0): (False, False),
        ("outer sum", 1): (False, False),
    }
    found = {(n, k): (one_to_one(MAPS[n], k), single_path(MAPS[n], k)) for n, k in expected}
    assert found == expected


@pytest.mark.parametrize(("name", "k"), [c for c in CASES if c[0] != "elementwise"])
def test_solutions_find_every_point_that_reads_an_element(name: str, k: int) -> None:
    """Counting: pulling ones back through a plain sum counts the loop points that read each element."""
    m = MAPS[name]
    access = m.args[k]
    plain = make_map(m.extents, m.rank, [access], p(0), m.guards)
    assert isinstance(plain, Map)
    u = new_input("u", plain.shape, "cotangent")
    back = pull_back(plain, 0, u)
    assert back is not None
    count = np.zeros(sized(access.node))
    sizes = [e if isinstance(e, int) else ROW_SIZES[e] for e in m.extents]
    for point in np.ndindex(*sizes):
        where = []
        for index in [*access.index, *(g.index for g in m.guards)]:
            numerator = index.offset + sum(c * point[a] for a, c in index.terms)
            where.append(numerator // index.divisor if numerator % index.divisor == 0 else -1)
        reads, guards = where[: len(access.index)], where[len(access.index) :]
        if all(0 <= w < g.extent for w, g in zip(guards, m.guards, strict=True)) and all(  # type: ignore[operator]
            0 <= w < e for w, e in zip(reads, count.shape, strict=True)
        ):
            count[tuple(reads)] += 1
    found = evaluate(
        {"b": back}, {"u": np.ones(sized(plain)), **{n.name: np.zeros(sized(n)) for n in (X, Y, K, W)}}
    )
    np.testing.assert_array_equal(found["b"], count)


def test_nothing_is_differentiated_through_a_maximum() -> None:
    top = made((ROWS, 7), 1, [at(X, axis(1))], p(0), reduce="max")
    u = new_input("u", top.shape, "cotangent")
    assert pull_back(top, 0, u) is None and push_forward(top, {0: X}) is None


def test_structural_zeros_vanish() -> None:
    stepped = made((ROWS, 7), 2, [at(X, axis(1)), at(K, constant_index(0))], sympy.sign(p(0)) * 0 + p(1))
    assert len(stepped.args) == 1
    u = new_input("u", stepped.shape, "cotangent")
    assert pull_back(stepped, 0, u) is not None
    assert push_forward(stepped, {}) is None


def test_a_solution_prefers_the_axes_asked_for_first() -> None:
    indices, extents = [affine({0: 1, 1: 1})], (5, 3)
    assert set(solve(indices, extents).replacement) == {0}  # the longest, so that the short sum remains
    assert set(solve(indices, extents, first=(1,)).replacement) == {1}
