"""Each source of curvature alone: its factors multiply out to the local Hessian, F D F^T = M, from SymPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive.sources import (
    Cross,
    Curvature,
    Logsumexp,
    Mixed,
    MixedRegion,
    Self,
    Setting,
    Softmax,
    Source,
)
from cpgen.ir.build import new_input
from cpgen.ir.interpret import run
from cpgen.ir.nodes import COLUMNS, ROWS, Input, Program
from cpgen.ir.verify import verify
from tests.derive.small import Array, Small, close, each, reference

ROWS_USED = 3
SIGNED, MIXED, SMOOTH = Setting("signed"), Setting("mixed"), Setting("smooth", 0.3)


@dataclass(frozen=True)
class Alone:
    """A model whose leaves are the variables of its one source of ``kind``."""

    case: Small
    kind: type[Source]


def alone(kind: type[Source], wrt: str, objective: Callable[[Mapping[str, Array]], sp.Expr]) -> Any:
    def register(build: Callable[[], cp.Model]) -> Alone:
        return Alone(Small(build.__name__, build, tuple(wrt.split()), objective), kind)

    return register


@alone(Self, "x", lambda v: v["c"] @ each(sp.sin, v["x"]))
def self_of_either_sign() -> cp.Model:
    m = cp.Model("self_of_either_sign")
    n, i = m.axes("n i", n=cp.ROWS, i=4)
    x, c = m.input("x", n, i), m.param("c", i)
    m.objective(cp.sum(c[i] * sp.sin(x[n, i]), i))
    return m


@alone(Self, "x", lambda v: (v["x"] ** 4).sum() + v["c"][0] ** 2 * (v["x"][1:] ** 2).sum())
def self_merged_over_readers() -> cp.Model:
    """Two readers whose curvature is added before it is factored."""
    m = cp.Model("self_merged_over_readers")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=4, j=3)
    x, c = m.input("x", n, i), m.param("c", i)
    m.objective(cp.sum(x[n, i] ** 4, i) + c[0] ** 2 * cp.sum(x[n, j + 1] ** 2, j))
    return m


@alone(Cross, "a b", lambda v: v["a"] @ v["M"] @ v["b"])
def cross_of_two_sizes() -> cp.Model:
    m = cp.Model("cross_of_two_sizes")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=2, j=3)
    a, b, w = m.input("a", n, i), m.input("b", n, j), m.input("M", n, i, j)
    m.objective(cp.sum(a[n, i] * b[n, j] * w[n, i, j], i, j))
    return m


@alone(Cross, "a b", lambda v: (each(sp.cos, v["c"]) * v["a"] * v["b"]).sum())
def cross_elementwise() -> cp.Model:
    m = cp.Model("cross_elementwise")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    a, b, c = m.input("a", n, i), m.input("b", n, i), m.input("c", n, i)
    m.objective(cp.sum(sp.cos(c[n, i]) * a[n, i] * b[n, i], i))
    return m


@alone(Cross, "x", lambda v: sum(v["c"][k] * v["x"][k] * v["x"][k + 1] for k in range(3)))
def cross_of_neighbours() -> cp.Model:
    m = cp.Model("cross_of_neighbours")
    n, i, k = m.axes("n i k", n=cp.ROWS, i=4, k=3)
    x, c = m.input("x", n, i), m.param("c", k)
    m.objective(cp.sum(c[k] * x[n, k] * x[n, k + 1], k))
    return m


@alone(Cross, "x k", lambda v: sum(v["k"][t] * v["x"][q + t] * v["c"][q] for q in range(3) for t in range(2)))
def cross_of_a_convolution() -> cp.Model:
    m = cp.Model("cross_of_a_convolution")
    n, i, q, t = m.axes("n i q t", n=cp.ROWS, i=4, q=3, t=2)
    x, k, c = m.input("x", n, i), m.input("k", n, t), m.param("c", q)
    m.objective(cp.sum(k[n, t] * x[n, q + t] * c[q], q, t))
    return m


@alone(Logsumexp, "x", lambda v: v["g"] * sp.log(sum(each(sp.exp, v["x"]))))
def logsumexp_of_either_sign() -> cp.Model:
    m = cp.Model("logsumexp_of_either_sign")
    n, i = m.axes("n i", n=cp.ROWS, i=4)
    x, g = m.input("x", n, i), m.input("g", n)
    m.objective(g[n] * cp.logsumexp(x[n, i], i))
    return m


@alone(Logsumexp, "x", lambda v: v["g"] @ [sp.log(sum(each(sp.exp, v["x"][:, j]))) for j in range(2)])
def logsumexp_along_the_first_axis() -> cp.Model:
    m = cp.Model("logsumexp_along_the_first_axis")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=3, j=2)
    x, g = m.input("x", n, i, j), m.param("g", j)
    m.objective(cp.sum(g[j] * cp.logsumexp(x[n, i, j], i), j))
    return m


@alone(Softmax, "x", lambda v: v["g"] @ each(sp.exp, v["x"]) / sum(each(sp.exp, v["x"])))
def softmax_of_a_vector() -> cp.Model:
    m = cp.Model("softmax_of_a_vector")
    n, i = m.axes("n i", n=cp.ROWS, i=4)
    x, g = m.input("x", n, i), m.input("g", n, i)
    y = m.define("y", (n, i), cp.softmax(x[n, i], i))
    m.objective(cp.sum(g[n, i] * y[n, i], i))
    return m


@alone(
    Softmax,
    "x",
    lambda v: sum(
        v["g"][i, j] * sp.exp(v["x"][i, j]) / sum(each(sp.exp, v["x"][:, j]))
        for i in range(2)
        for j in range(2)
    ),
)
def softmax_along_the_first_axis() -> cp.Model:
    m = cp.Model("softmax_along_the_first_axis")
    n, i, j = m.axes("n i j", n=cp.ROWS, i=2, j=2)
    x, g = m.input("x", n, i, j), m.param("g", i, j)
    y = m.define("y", (n, i, j), cp.softmax(x[n, i, j], i))
    m.objective(cp.sum(g[i, j] * y[n, i, j], i, j))
    return m


@alone(Mixed, "a b", lambda v: (v["c"] * each(sp.exp, v["a"] * v["b"]) * v["a"] ** 2).sum())
def local_hessian_of_two_variables() -> cp.Model:
    m = cp.Model("local_hessian_of_two_variables")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    a, b, c = m.input("a", n, i), m.input("b", n, i), m.param("c", i)
    m.objective(cp.sum(c[i] * sp.exp(a[n, i] * b[n, i]) * a[n, i] ** 2, i))
    return m


SIGNED_MODELS = [
    self_of_either_sign,
    self_merged_over_readers,
    cross_of_two_sizes,
    cross_elementwise,
    cross_of_neighbours,
    cross_of_a_convolution,
    logsumexp_of_either_sign,
    logsumexp_along_the_first_axis,
    softmax_of_a_vector,
    softmax_along_the_first_axis,
]
MIXED_MODELS = [
    local_hessian_of_two_variables,
    *(m for m in SIGNED_MODELS if m is not self_merged_over_readers),
]
REGIONS = (Logsumexp, Softmax)


def factors(case: Small, source: Source, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """``P[column, row, i]`` and ``Q`` of a source over all elements of the leaves, by unit noise."""
    total = source.size
    noise, start, given = [], 0, dict(arrays)
    for k, shape in enumerate(source.shapes):
        node = new_input(f"v_{k}", (COLUMNS, ROWS, *shape), "noise")
        size = int(np.prod(shape, dtype=np.int64))
        unit = np.zeros((total, ROWS_USED, size))
        unit[start : start + size] = np.eye(size)[:, None]
        given[node.name] = unit.reshape(total, ROWS_USED, *shape)
        noise.append(node)
        start += size
    injected = source.inject(tuple(noise))
    outputs = {}
    for j, (variable, pair) in enumerate(injected):
        assert variable in case.leaves
        outputs |= {f"{role}{j}": node for role, node in zip("pq", pair, strict=True) if node is not None}
    inputs = tuple(n for n in Program("t", tuple(outputs.items()), ()).nodes() if isinstance(n, Input))
    program = Program("t", tuple(outputs.items()), inputs)
    verify(program)
    found = run(program, given, ROWS_USED, total)
    places, start = {}, 0
    for leaf in case.leaves:
        size = int(np.prod(leaf.element_shape, dtype=np.int64))
        places[id(leaf)] = slice(start, start + size)
        start += size
    fields = [np.zeros((total, ROWS_USED, start)) for _ in "pq"]
    for j, (variable, _) in enumerate(injected):
        for role, field in zip("pq", fields, strict=True):
            if f"{role}{j}" in found:
                field[:, :, places[id(variable)]] += found[f"{role}{j}"].reshape(total, ROWS_USED, -1)
    return fields[0], fields[1]


def local(model: Alone, setting: Setting, whole: bool = False) -> tuple[Source, Array, Array, Array]:
    """The one source with its factors, and SymPy's M[row, i, j]."""
    case = model.case
    arrays = case.arrays(ROWS_USED)
    curvature = Curvature(case.graph, case.leaves, setting)
    sources = curvature.mixed_sources() if whole else curvature.sources()
    assert len(sources) == 1
    if whole:
        assert type(sources[0]) is (MixedRegion if model.kind in REGIONS else Mixed)
    else:
        assert type(sources[0]) is model.kind
    p, q = factors(case, sources[0], arrays)
    return sources[0], p, q, reference(case, arrays, ROWS_USED).hessian


def product(p: Array, q: Array) -> Array:
    return np.einsum("kni,knj->nij", p, p) - np.einsum("kni,knj->nij", q, q)


@pytest.mark.parametrize("setting", [SIGNED, MIXED, SMOOTH], ids=lambda s: s.factor)
@pytest.mark.parametrize("model", SIGNED_MODELS, ids=lambda m: m.case.name)
def test_factors_multiply_out(model: Alone, setting: Setting) -> None:
    _, p, q, m = local(model, setting)
    assert np.abs(m).max() > 1e-2
    close(product(p, q), m, 1e-12)


@pytest.mark.parametrize("model", MIXED_MODELS, ids=lambda m: m.case.name)
def test_the_factorisation_of_a_whole_map_multiplies_out(model: Alone) -> None:
    """(M, I): with T = p + q and U = p - q, the sum of T U^T over columns is M."""
    source, p, q, m = local(model, SIGNED, whole=True)
    close(product(p, q), m, 1e-12)
    close(np.einsum("kni,knj->nij", p + q, p - q), m, 1e-12)
    assert source.size == m.shape[-1]  # noise at every element of every variable


@pytest.mark.parametrize("model", [self_of_either_sign, self_merged_over_readers], ids=lambda m: m.case.name)
def test_signed_self_factors_have_one_field_an_entry(model: Alone) -> None:
    """p carries the positive entries, q the negative ones, never both: the eigen-split."""
    _, p, q, m = local(model, SIGNED)
    assert np.all(np.abs(p).max(axis=0) * np.abs(q).max(axis=0) == 0)
    close(
        np.einsum("kni,kni->ni", p, p) + np.einsum("kni,kni->ni", q, q),
        np.abs(np.einsum("nii->ni", m)),
        1e-12,
    )


def test_known_signs_leave_a_field_out() -> None:
    for model, field in ((self_merged_over_readers, 1),):
        case = model.case
        source = Curvature(case.graph, case.leaves).sources()[0]
        noise = tuple(new_input("v", (COLUMNS, ROWS, *s), "noise") for s in source.shapes)
        ((_, pair),) = source.inject(noise)
        assert pair[field] is None and pair[1 - field] is not None


@pytest.mark.parametrize("model", [logsumexp_of_either_sign, softmax_of_a_vector], ids=lambda m: m.case.name)
def test_shifting_the_logits_is_in_the_nullspace(model: Alone) -> None:
    """F^T 1 = 0, column by column, and so M 1 = 0."""
    _, p, q, m = local(model, SIGNED)
    close(p.sum(axis=2), np.zeros(p.shape[:2]), 1e-13)
    close(q.sum(axis=2), np.zeros(q.shape[:2]), 1e-13)
    close(m.sum(axis=2), np.zeros(m.shape[:2]), 1e-13)


def test_logsumexp_sends_everything_one_way() -> None:
    """M = g (diag(p) - p p^T) is semi-definite: p where g > 0, q where g < 0."""
    case = logsumexp_of_either_sign.case
    arrays = case.arrays(ROWS_USED)
    arrays["g"] = np.array([1.5, -0.5, 0.0])
    source = Curvature(case.graph, case.leaves).sources()[0]
    p, q = factors(case, source, arrays)
    assert np.abs(p[:, 0]).max() > 0.1 and not q[:, 0].any()
    assert np.abs(q[:, 1]).max() > 0.1 and not p[:, 1].any()
    assert not p[:, 2].any() and not q[:, 2].any()


def test_region_diagonals_are_diagonals() -> None:
    for model in (logsumexp_of_either_sign, softmax_of_a_vector, softmax_along_the_first_axis):
        case = model.case
        arrays = case.arrays(ROWS_USED)
        source = Curvature(case.graph, case.leaves).sources()[0]
        node = source.diagonal  # type: ignore[attr-defined]
        inputs = tuple(n for n in Program("t", (("d", node),), ()).nodes() if isinstance(n, Input))
        found = run(Program("t", (("d", node),), inputs), arrays, ROWS_USED)["d"]
        expected = np.einsum("nii->ni", reference(case, arrays, ROWS_USED).hessian)
        close(found.reshape(ROWS_USED, -1), expected, 1e-12)


def test_a_product_draws_one_sign_an_element_of_its_smaller_side() -> None:
    source, p, q, _ = local(cross_of_two_sizes, SIGNED)
    assert source.size == 2
    # the larger side gets the same in both fields, the smaller one opposite signs: both diagonal blocks cancel
    np.testing.assert_array_equal(p[:, :, 2:], q[:, :, 2:])
    np.testing.assert_array_equal(p[:, :, :2], -q[:, :, :2])


def test_the_scale_of_a_product_balances_its_sides() -> None:
    """Column by column, both sides of a product have the same norm, which minimises their product's spread."""
    _, p, _, _ = local(cross_of_two_sizes, SIGNED)
    np.testing.assert_allclose(
        np.linalg.norm(p[:, :, :2], axis=2), np.linalg.norm(p[:, :, 2:], axis=2), rtol=1e-12
    )


def test_smooth_factors_are_exact_for_any_epsilon_and_tend_to_the_signed_ones() -> None:
    _, p, q, m = local(self_of_either_sign, SIGNED)
    for epsilon in (1e-9, 1e-3, 1.0, 10.0):
        _, ps, qs, _ = local(self_of_either_sign, Setting("smooth", epsilon))
        close(product(ps, qs), m, 1e-11)
    _, ps, qs, _ = local(self_of_either_sign, Setting("smooth", 1e-9))
    close(ps, p, 1e-6)
    close(np.abs(qs), np.abs(q), 1e-6)
