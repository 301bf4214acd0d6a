"""Every model of the catalogue: the sum over unit noise columns is the Hessian, by the interpreter and by C.

Reference is ``sympy.hessian`` where it takes seconds, otherwise sixth-order differences in extended precision of the
NumPy objective, which reach 1e-10 on x86 (tests/reference.py); JAX's Hessian of the same objective is a second route.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import cpgen as cp
from cpgen.ir.call import Call
from cpgen.ir.noise import DESIGNS, IDENTITY, noise_order
from tests import reference
from tests.catalogue import CATALOGUE, Arrays, Entry
from tests.reference import Array, frobenius
from tests.short import FEW, cases, models

# the exactness claimed; without extended precision, differences cannot show it and only compare at their own accuracy
EXACT = 1e-10
EACH_OTHER = 1e-12

Compiled = Callable[[str, str], cp.Estimator]
both = pytest.mark.parametrize("backend", ["interpreter", "native"])
every_model = pytest.mark.parametrize("name", models())
# the short suite meets every construct in the interpreter, and compiles a few models
by_interpreter = [pytest.param(name, "interpreter") for name in CATALOGUE]
by_c = [pytest.param(name, "native", marks=() if name in FEW else pytest.mark.slow) for name in CATALOGUE]
every_model_by_both = pytest.mark.parametrize(("name", "backend"), [*by_interpreter, *by_c])


def test_the_table_describes_every_model() -> None:
    from benchmarks.catalogue_table import CONSTRUCTS

    assert set(CONSTRUCTS) == set(CATALOGUE)


@functools.cache
def expected(name: str) -> tuple[Arrays, Array, Array, float]:
    """Arrays, gradient, Hessian and what they are good for."""
    entry = CATALOGUE[name]
    arrays = entry.arrays()
    if entry.symbolic:
        return arrays, *reference.sympy_derivatives(entry, arrays), EXACT
    return arrays, *reference.derivatives(entry, arrays), reference.tolerance(entry)


def hessian(entry: Entry, est: cp.Estimator, arrays: Arrays, columns: int, design: int) -> Array:
    """``[row, i, j]`` from the given columns, whose outer products sum to ``columns`` (or, unit columns, 1) times one."""
    loaded = est.loaded("hessian:cp")
    given, rows = est.core.arrays(loaded, arrays)
    scale = 1.0 if design == IDENTITY else 1.0 / columns
    call = Call(rows, columns, 0, design, row_scale=1.0 / rows, column_scale=scale)
    found = loaded.backend.run(given, call)
    pairs = [(a, b) for k, a in enumerate(entry.wrt) for b in entry.wrt[k:]]
    return reference.matrix(entry, arrays, {pair: found["block_{}_{}".format(*pair)] for pair in pairs})


@every_model_by_both
def test_unit_columns_sum_to_the_hessian(name: str, backend: str, compiled: Compiled) -> None:
    entry, est = CATALOGUE[name], compiled(name, backend)
    arrays, _, wanted, tolerance = expected(name)
    found = est.hessian(method="cp", **arrays)
    pairs = [(a, b) for k, a in enumerate(entry.wrt) for b in entry.wrt[k:]]
    shaped = {(a, b): np.asarray(found.blocks[a, b]) for a, b in pairs}
    assert frobenius(reference.matrix(entry, arrays, shaped), wanted) < tolerance
    columns = est.columns("hessian:cp")
    assert columns is not None
    assert frobenius(hessian(entry, est, arrays, columns, IDENTITY), wanted) < tolerance


@both
@every_model
def test_a_full_hadamard_block_of_columns_sums_to_the_hessian(
    name: str, backend: str, compiled: Compiled
) -> None:
    entry, est = CATALOGUE[name], compiled(name, backend)
    arrays, _, wanted, tolerance = expected(name)
    order = noise_order(est.derive("hessian:cp").program)
    assert frobenius(hessian(entry, est, arrays, order, DESIGNS["hadamard"]), wanted) < tolerance


@every_model
def test_interpreter_and_c_agree(name: str, compiled: Compiled) -> None:
    entry = CATALOGUE[name]
    arrays, *_ = expected(name)
    columns = compiled(name, "native").columns("hessian:cp") or 0
    found = [
        hessian(entry, compiled(name, backend), arrays, columns, IDENTITY)
        for backend in ("native", "interpreter")
    ]
    assert frobenius(*found) < EACH_OTHER


@pytest.mark.parametrize("name", cases([n for n, e in CATALOGUE.items() if e.symbolic], FEW))
def test_the_references_agree(name: str) -> None:
    arrays, gradient, wanted, _ = expected(name)
    by_differences = reference.derivatives(CATALOGUE[name], arrays)
    tolerance = reference.tolerance(CATALOGUE[name])
    assert frobenius(by_differences[0], gradient) < tolerance
    assert frobenius(by_differences[1], wanted) < tolerance


@every_model
def test_jax_agrees(name: str, compiled: Compiled) -> None:
    pytest.importorskip("jax")
    entry, est = CATALOGUE[name], compiled(name, "native")
    arrays, *_ = expected(name)
    wanted = reference.jax_derivatives(entry, arrays)[1]
    assert frobenius(hessian(entry, est, arrays, est.columns("hessian:cp") or 0, IDENTITY), wanted) < EXACT


@every_model_by_both
def test_every_other_answer(name: str, backend: str, compiled: Compiled) -> None:
    """Value, gradient, Hessian-vector product, diagonal and trace."""
    entry, est = CATALOGUE[name], compiled(name, backend)
    arrays, gradient, wanted, tolerance = expected(name)
    assert est.value(**arrays) == pytest.approx(float(entry.value(arrays).sum()), rel=1e-12)
    assert frobenius(reference.vector(entry, arrays, est.gradient(**arrays)), gradient) < tolerance

    rng = np.random.default_rng(1)
    directions = {leaf: rng.normal(size=arrays[leaf].shape) for leaf in entry.wrt}
    product = reference.vector(entry, arrays, est.hvp(directions, **arrays))
    assert frobenius(product, along(entry, arrays, wanted, directions)) < 10 * tolerance

    diagonal = np.stack([np.diagonal(h) for h in wanted])
    found = est.diagonal(exact=True, **arrays)
    assert found.exact and not found.biased
    # measured against the whole Hessian: a diagonal may be zero where the Hessian is not
    size = np.linalg.norm(wanted)
    assert np.linalg.norm(reference.vector(entry, arrays, found) - diagonal) < tolerance * size
    trace = np.asarray(est.trace(exact=True, **arrays).value)
    per_row = all(reference.has_rows(entry, leaf) for leaf in entry.wrt)
    reached = diagonal.sum(axis=1) if per_row else diagonal.sum()
    assert trace.shape == reached.shape
    assert np.linalg.norm(trace - reached) < tolerance * size * diagonal.shape[1] ** 0.5


def along(entry: Entry, arrays: Arrays, matrix: Array, directions: Mapping[str, Any]) -> Array:
    """``[row, i]`` of the Hessian times a direction; what belongs to parameters is summed into row 0."""
    blank = np.zeros((len(matrix), matrix.shape[1], matrix.shape[1]))
    flat = reference.vector(entry, arrays, directions)
    parameter = np.concatenate(
        [np.full(_size(entry, arrays, leaf), not reference.has_rows(entry, leaf)) for leaf in entry.wrt]
    )
    flat[:, parameter] = flat[0, parameter]
    # blocks of two parameters stand in row 0 only, already summed
    return reference.folded(entry, arrays, np.einsum("nij,nj->ni", matrix, flat), blank)[0]


def _size(entry: Entry, arrays: Arrays, leaf: str) -> int:
    return arrays[leaf].size // (len(entry.value(arrays)) if reference.has_rows(entry, leaf) else 1)


@pytest.mark.usefixtures("compiled")  # which skips where there is no compiler
@pytest.mark.parametrize("name", ["convolution_1d", "mixture_of_experts", "special_functions"])
def test_single_precision(name: str) -> None:
    entry = CATALOGUE[name]
    arrays, gradient, wanted, _ = expected(name)
    est = entry.compile(programs=("gradient", "hessian"), real="float32", backend="native")
    single = {k: v.astype(np.float32) for k, v in arrays.items()}
    found = est.gradient(**single)
    assert all(g.dtype == np.float32 for g in found.values())
    assert frobenius(reference.vector(entry, arrays, found), gradient) < 1e-5
    assert frobenius(reference.matrix(entry, arrays, est.hessian(**single).blocks), wanted) < 1e-4


@pytest.mark.parametrize("name", ["convolution_1d", "attention"])
def test_blocks_one_at_a_time(name: str, compiled: Compiled) -> None:
    """Blocks of inputs with parameters, in both orders, by unit and by Hadamard columns."""
    entry, est = CATALOGUE[name], compiled(name, "interpreter")
    arrays, _, wanted, tolerance = expected(name)
    whole = est.hessian(**arrays).blocks
    assert frobenius(reference.matrix(entry, arrays, whole), wanted) < tolerance
    a, b = ("x", "W") if name == "convolution_1d" else ("K", "x")
    block = whole[a, b]
    order = noise_order(est.derive(f"block:{a},{b}").program)
    np.testing.assert_allclose(est.block(a, b, exact=True, **arrays).value, block, atol=1e-12)
    sampled = est.block(a, b, samples=order, exact=False, **arrays)
    np.testing.assert_allclose(sampled.value, block, atol=1e-12)
    flipped = est.block(b, a, exact=True, **arrays).value
    rows = len(flipped)
    size = np.prod(flipped.shape[1 : 1 + np.ndim(arrays[b]) - reference.has_rows(entry, b)], dtype=int)
    np.testing.assert_allclose(
        flipped.reshape(rows, size, -1).transpose(0, 2, 1).ravel(), block.ravel(), atol=1e-12
    )
