"""Expectations without statistics: every sign pattern is drawn once, so means and variances are exact.

Unbiased means: the mean over all patterns is SymPy's answer to rounding.  The same test, given a planted mistake,
fails by far more than that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.derive.derived import Derived
from cpgen.derive.sources import Setting
from cpgen.ir.noise import HADAMARD, noise_array, noise_count, noise_inputs, noise_order
from tests.derive.small import (
    CASES,
    Array,
    Arrays,
    Small,
    close,
    draws,
    each,
    enumerated,
    evaluate,
    reference,
    signs,
)

LIMIT = 12  # signs to enumerate: 4096 patterns
METHODS = ("cp", "s", "tu", "hutchinson", "hutchinson_plain")
OF_TRACES = ("cp", "hutchinson", "hutchinson_plain")
# more signs than that even for one row; the complete designs below cover them
TOO_MANY = {("classifier", "tu"), ("deep", "tu"), ("convolution", "s"), ("convolution", "tu")}
# leaves with and without rows together: Hutchinson's trace is refused
BOTH_KINDS = {("convolution", "hutchinson_plain"), ("mixture", "hutchinson_plain")}


def rows_for(case: Small, derived: Derived) -> int:
    """Two rows where their patterns can be enumerated together, else one; none if one row is too many."""
    count = noise_count(derived.program)
    rows = 2 if case.has_rows else 1
    while rows and rows * count > LIMIT:
        rows -= 1
    return rows


def pairs(kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, kind) for name in CASES for kind in kinds]


@pytest.mark.parametrize(("name", "method"), [p for p in pairs(METHODS) if p not in TOO_MANY])
def test_diagonals_are_unbiased(name: str, method: str) -> None:
    case = CASES[name]
    derived = programs.diagonal(case.graph, case.leaves, method)
    rows = rows_for(case, derived)
    assert rows
    arrays = case.arrays(rows)
    expected = reference(case, arrays, rows)
    found = enumerated(derived, arrays, rows)
    for leaf in case.wrt:
        close(found[f"diag_{leaf}"], expected.diag(leaf))


@pytest.mark.parametrize("factor", ["mixed", "smooth"])
@pytest.mark.parametrize("name", list(CASES))
def test_diagonals_are_unbiased_however_sources_are_factored(name: str, factor: str) -> None:
    case = CASES[name]
    derived = programs.diagonal(case.graph, case.leaves, "cp", Setting(factor, 0.2))
    rows = rows_for(case, derived)
    assert rows
    arrays = case.arrays(rows)
    expected = reference(case, arrays, rows)
    found = enumerated(derived, arrays, rows)
    for leaf in case.wrt:
        close(found[f"diag_{leaf}"], expected.diag(leaf))


@pytest.mark.parametrize(("name", "method"), [p for p in pairs(OF_TRACES) if p not in BOTH_KINDS])
def test_traces_are_unbiased(name: str, method: str) -> None:
    case = CASES[name]
    derived = programs.trace(case.graph, case.leaves, method)
    rows = rows_for(case, derived)
    assert rows
    arrays = case.arrays(rows)
    close(enumerated(derived, arrays, rows)["trace"], reference(case, arrays, rows).trace)


@pytest.mark.parametrize("name", list(CASES))
def test_blocks_and_entries_are_unbiased(name: str) -> None:
    case = CASES[name]
    a, b = case.leaves[0], case.leaves[-1]
    block = programs.blocks(case.graph, case.leaves, [(a, b)])
    i, j = tuple(0 for _ in a.element_shape), tuple(e - 1 for e in b.element_shape)
    entry = programs.entries(case.graph, case.leaves, [((a, i), (b, j))])
    rows = rows_for(case, block)
    assert rows
    arrays = case.arrays(rows)
    expected = reference(case, arrays, rows).block(a.name, b.name)
    close(enumerated(block, arrays, rows)[f"block_{a.name}_{b.name}"], expected)
    lead = (slice(None),) if a.has_rows or b.has_rows else ()
    close(enumerated(entry, arrays, rows)["entry_0"], expected[(*lead, *i, *j)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list(CASES))
def test_a_complete_hadamard_design_is_exact(name: str, method: str) -> None:
    """P orthogonal columns, P the power of two above the noise elements of a row, give the diagonal itself."""
    case = CASES[name]
    derived = programs.diagonal(case.graph, case.leaves, method)
    rows = 8 if method == "cp" and case.has_rows else 1  # the others add rows before they square
    arrays = case.arrays(rows)
    program, columns = derived.program, noise_order(derived.program)
    noise = {n.name: noise_array(n, program, 7, rows, columns, HADAMARD) for n in noise_inputs(program)}
    found = evaluate(derived, arrays, noise, rows, columns)
    expected = reference(case, arrays, rows)
    for leaf in case.wrt:
        close(found[f"diag_{leaf}"], expected.diag(leaf))
    if noise:
        one = {k: v[:1] for k, v in noise.items()}
        found = evaluate(derived, arrays, one, rows, 1)
        errors = [np.abs(found[f"diag_{leaf}"] - expected.diag(leaf)).max() for leaf in case.wrt]
        assert max(errors) > 1e-3  # one column is a sample


# Planted mistakes: what the tests above would see


def worst(
    derived: Derived, case: Small, rows: int, change: Callable[[Arrays], Arrays] | None = None
) -> float:
    """The largest error of the mean over all patterns after ``change`` of the noise, relative to the diagonal."""
    arrays = case.arrays(rows)
    expected = reference(case, arrays, rows)
    found = enumerated(derived, arrays, rows, change)
    errors = [np.abs(found[f"diag_{leaf}"] - expected.diag(leaf)).max() for leaf in case.wrt]
    return float(max(errors) / max(np.abs(expected.diag(leaf)).max() for leaf in case.wrt))


@pytest.mark.parametrize(("name", "method"), [("energy", "s"), ("twice", "cp"), ("chain", "s"), ("net", "s")])
def test_dropping_any_noise_biases_the_mean(name: str, method: str) -> None:
    """Whatever is drawn is needed by some leaf: without it the mean is wrong by percents, not by rounding.

    The paper's estimators also draw products that no diagonal entry can see; those are told apart by name.
    """
    case = CASES[name]
    derived = programs.diagonal(case.graph, case.leaves, method)
    rows = 1
    assert worst(derived, case, rows) < 1e-12
    seen = 0
    for node in noise_inputs(derived.program):
        error = worst(derived, case, rows, lambda v, name=node.name: {**v, name: 0 * v[name]})  # type: ignore[misc]
        needed = (
            node.name in {d.name for d in programs.diagonal(case.graph, case.leaves).drawn} or method == "cp"
        )
        assert not needed or error > 1e-3, node.name
        seen += error > 1e-3
    assert seen >= 1


def test_reusing_one_array_for_two_sources_biases_the_mean() -> None:
    case = CASES["energy"]
    derived = programs.diagonal(case.graph, case.leaves, "s")
    a, b = (n.name for n in noise_inputs(derived.program))
    assert worst(derived, case, 1) < 1e-12
    assert worst(derived, case, 1, lambda v: {**v, b: v[a]}) > 1e-2


def test_reusing_noise_for_two_rows_biases_estimates_that_add_rows_first() -> None:
    """And not those that square each row on its own: only their variance suffers."""
    case = CASES["tied"]

    def same(v: Arrays) -> Arrays:
        return {k: np.repeat(a[:, :1], a.shape[1], axis=1) for k, a in v.items()}

    assert worst(programs.diagonal(case.graph, case.leaves, "s"), case, 1) < 1e-12
    whole = programs.diagonal(case.graph, case.leaves, "s")
    # 2 rows x 6 signs, all patterns, against the same pattern in both rows
    assert noise_count(whole.program) == 6 and worst(whole, case, 2) < 1e-12
    assert worst(whole, case, 2, same) > 1e-2
    per_row = programs.diagonal(case.graph, case.leaves, "cp")
    assert worst(per_row, case, 2, same) < 1e-12


def test_noise_of_the_wrong_size_biases_the_mean() -> None:
    case = CASES["energy"]
    for method in ("s", "tu", "hutchinson"):
        derived = programs.diagonal(case.graph, case.leaves, method)
        assert worst(derived, case, 1, lambda v: {k: a / np.sqrt(2) for k, a in v.items()}) > 0.1


def test_names_that_look_numbered_do_not_share_noise() -> None:
    """The (M, I) factor of z draws v_z and v_z_2; a definition called z_2 must draw something else."""

    def objective(v: dict[str, Array]) -> sp.Expr:
        return (each(sp.sin, v["a"] * v["b"]) + each(sp.cos, v["a"] * v["b"] ** 2)).sum()

    def build() -> cp.Model:
        m = cp.Model("numbered")
        n, i = m.axes("n i", n=cp.ROWS, i=1)
        a, b = m.input("a", n, i), m.input("b", n, i)
        z = m.define("z", (n, i), sp.sin(a[n, i] * b[n, i]))
        other = m.define("z_2", (n, i), sp.cos(a[n, i] * b[n, i] ** 2))
        m.objective(cp.sum(z[n, i] + other[n, i], i))
        return m

    case = Small("numbered", build, ("a", "b"), objective)  # type: ignore[arg-type]
    derived = programs.diagonal(case.graph, case.leaves, "tu")
    names = [i.name for i in derived.program.inputs]
    assert len(set(names)) == len(names)
    assert worst(derived, case, 1) < 1e-12


# Variances


def spread(found: Array) -> Array:
    """The variance over equally likely draws."""
    return np.asarray(found.var(axis=0))


@pytest.mark.parametrize("name", ["energy", "chain", "quadratic"])
def test_hutchinson_variance(name: str) -> None:
    """Rademacher: sum of the squared off-diagonal entries of the row (Bekas, Kokiopoulou & Saad 2007)."""
    case = CASES[name]
    arrays = case.arrays(1)
    h = reference(case, arrays, 1).hessian[0]
    found = draws(programs.diagonal(case.graph, case.leaves, "hutchinson_plain"), arrays)
    flat = np.concatenate(
        [found[f"diag_{leaf}"].reshape(len(found[f"diag_{leaf}"]), -1) for leaf in case.wrt], axis=1
    )
    close(spread(flat), (h**2).sum(axis=1) - np.diag(h) ** 2)
    trace = draws(programs.trace(case.graph, case.leaves, "hutchinson_plain"), arrays)["trace"].ravel()
    close(spread(trace), 2 * ((h**2).sum() - (np.diag(h) ** 2).sum()))


def hidden(v: dict[str, Array]) -> sp.Expr:
    return v["v"] @ each(sp.tanh, v["W"] @ v["x"])


def build_hidden() -> cp.Model:
    m = cp.Model("hidden")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=2, h=4)
    x, w, v = m.input("x", n, i), m.param("W", h, i), m.param("v", h)
    z = m.define("z", (n, h), sp.tanh(cp.sum(w[h, i] * x[n, i], i)))
    m.objective(cp.sum(v[h] * z[n, h], h))
    return m


HIDDEN = Small("hidden", build_hidden, ("x",), hidden)  # type: ignore[arg-type]


def hidden_factors(arrays: Arrays) -> tuple[Array, Array]:
    """``t[i, k]`` and the curvature ``m[k]`` of f = sum v tanh(W x): H = W^T diag(m) W."""
    z = np.tanh(arrays["x"][0] @ arrays["W"].T)
    return arrays["W"].T, arrays["v"] * -2 * z * (1 - z**2)


def test_s_variance() -> None:
    """A_ii**2 + H_ii**2 - 2 sum_k s_ik**4 with s_ik**2 = w_ki**2 |m_k| and A the absolute Hessian."""
    arrays = HIDDEN.arrays(1)
    w, m = hidden_factors(arrays)
    s2, c = w**2 * np.abs(m), w**2 * m
    found = draws(programs.diagonal(HIDDEN.graph, HIDDEN.leaves, "s"), arrays)["diag_x"][:, 0]
    close(found.mean(axis=0), c.sum(axis=1))
    close(spread(found), s2.sum(axis=1) ** 2 + c.sum(axis=1) ** 2 - 2 * (s2**2).sum(axis=1))


def test_tu_variance() -> None:
    """|t_i|**2 |u_i|**2 + H_ii**2 - 2 sum_k t_ik**2 u_ik**2 with t_ik = w_ki m_k and u_ik = w_ki."""
    arrays = HIDDEN.arrays(1)
    w, m = hidden_factors(arrays)
    t, u = w * m, w
    found = draws(programs.diagonal(HIDDEN.graph, HIDDEN.leaves, "tu"), arrays)["diag_x"][:, 0]
    expected = (t**2).sum(1) * (u**2).sum(1) + (t * u).sum(1) ** 2 - 2 * ((t * u) ** 2).sum(1)
    close(spread(found), expected)
    s = draws(programs.diagonal(HIDDEN.graph, HIDDEN.leaves, "s"), arrays)["diag_x"][:, 0]
    assert np.all(spread(s) <= spread(found) + 1e-12) and np.any(spread(s) < 0.9 * spread(found))


@pytest.mark.parametrize("method", ["s", "tu"])
@pytest.mark.parametrize("name", ["energy", "quadratic", "gate"])
def test_variance_of_a_quadratic_form(name: str, method: str) -> None:
    """Entry i is v^T W_i v: Var = 2 |W_i|_F**2 - 2 sum_k W_i,kk**2, with W_i read off by polarisation."""
    case = CASES[name]
    arrays = case.arrays(1)
    derived = programs.diagonal(case.graph, case.leaves, method)
    count = noise_count(derived.program)
    assert count <= 8

    def at(v: Array) -> Array:
        found = evaluate(derived, arrays, signs(derived.program, v.reshape(1, 1, count)), 1, 1)
        return np.concatenate([found[f"diag_{leaf}"].ravel() for leaf in case.wrt])

    unit = np.eye(count)
    w = (
        np.array(
            [[at(unit[a] + unit[b]) - at(unit[a] - unit[b]) for b in range(count)] for a in range(count)]
        )
        / 4
    )
    close(np.einsum("kki->i", w), np.diag(reference(case, arrays, 1).hessian[0]))
    found = draws(derived, arrays)
    flat = np.concatenate([found[f"diag_{leaf}"].reshape(2**count, -1) for leaf in case.wrt], axis=1)
    expected = 2 * (w**2).sum(axis=(0, 1)) - 2 * np.einsum("kki,kki->i", w, w)
    close(spread(flat), expected, 1e-10)


@pytest.mark.parametrize("name", ["energy", "tied", "chain", "gate"])
def test_exact_terms_never_raise_the_variance(name: str) -> None:
    """What cp adds in closed form, s draws: the means agree and each variance is at most that of s."""
    case = CASES[name]
    arrays = case.arrays(1)
    found = {
        method: draws(programs.diagonal(case.graph, case.leaves, method), arrays) for method in ("cp", "s")
    }
    total = {"cp": 0.0, "s": 0.0}
    for leaf in case.wrt:
        for method in total:
            total[method] += float(spread(found[method][f"diag_{leaf}"]).sum())
    assert total["cp"] < total["s"] * 0.999


# Reported variances


def moderated(x: Array, elements: int, chance: float) -> Array:
    """The variance of the mean of columns ``x[column, ..., e]``, as the docstring of ``Statistics`` has it.

    The last axis holds the elements of one row, of which there are so many.
    """
    k = len(x)
    s2, square = x.var(axis=0, ddof=1), (x**2).mean(axis=0)
    unseen = chance * 6 / (k * (k + 2))
    if elements > 1:
        typical = ((square**0.25).mean(axis=-1, keepdims=True)) ** 4
        total = square.sum(axis=-1, keepdims=True)
        varied = (k - 1) / k * s2.sum(axis=-1, keepdims=True)
    else:
        typical, total, varied = square, square, (k - 1) / k * s2
    series = 1 if chance == 1 else 1 + 1 / k + 1 / k**2 + 1 / k**3
    ratio = np.divide(varied, total, out=np.zeros_like(total), where=total > 0) * series + unseen
    scale = (k * square + 2 * typical) / (k + 2)
    return np.asarray(((k - 1) * s2 + 4 * ratio * scale) / (k - 1 + 4) / k)


def reported(derived: Derived, arrays: Arrays, labels: list[str]) -> None:
    """The reported variance of the mean of two is the formula's for every pair of patterns, and not too small."""
    one, two = draws(derived, arrays), draws(derived, arrays, together=2)
    count = noise_count(derived.program)
    silent = evaluate(derived, arrays, signs(derived.program, np.zeros((1, 1, count))), 1, 1)  # what is known exactly
    some = False
    for label in labels:
        close(two[label].mean(axis=0), one[label].mean(axis=0))
        if f"var_{label}" not in two:
            assert label in derived.exact
            continue
        x = one[label] - silent[label]
        n, shape = len(x), x.shape[1:]
        pairs_of = np.stack([np.repeat(x, n, axis=0), np.tile(x, (n, *(1,) * len(shape)))]).reshape(2, n * n, -1)
        elements = pairs_of.shape[-1]
        chance = 0.5 ** (elements - 1) if derived.program.name.startswith("diagonal_hutchinson") else 1.0
        expected = moderated(pairs_of, elements, chance).reshape(n * n, *shape)
        close(two[f"var_{label}"], expected)
        close(spread(two[label]), spread(one[label]) / 2)
        # pooled over the row, so compared for the row, not for each entry
        assert two[f"var_{label}"].mean(axis=0).sum() > 0.9 * spread(two[label]).sum()
        assert np.all(one[f"var_{label}"] == 0)  # one sample has no spread: nothing is invented
        some = some or bool(spread(one[label]).max() > 1e-3)
    assert some


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("quadratic", "s"),
        ("twice", "cp"),
        ("quadratic", "hutchinson_plain"),
        ("gate", "hutchinson_plain"),
        ("energy", "hutchinson"),
        ("energy", "tu"),
        ("energy", "s"),
    ],
)
def test_reported_variances_are_those_of_the_formula(name: str, method: str) -> None:
    case = CASES[name]
    derived = programs.diagonal(case.graph, case.leaves, method)
    reported(derived, case.arrays(1), [f"diag_{leaf}" for leaf in case.wrt])


def test_variances_are_carried_down_by_fourth_powers() -> None:
    """A parameter's variance: over rows, that at the read-out times the fourth powers of what multiplies it."""
    case = CASES["deep"]
    leaf = [case.graph.variable("W")]
    derived = programs.diagonal(case.graph, leaf)
    assert derived.readouts[0][1] != "W"
    arrays = case.arrays(2)
    count = noise_count(derived.program)
    rng = np.random.default_rng(0)
    v = rng.choice([-1.0, 1.0], (5, 2, count))
    whole = evaluate(derived, arrays, signs(derived.program, v), 2, 5)
    total: Array = np.zeros_like(arrays["W"])
    for row in range(2):
        one_row = {u.name: arrays[u.name][row : row + 1] if u.has_rows else arrays[u.name] for u in case.graph.variables}
        part = evaluate(derived, one_row, signs(derived.program, v[:, row : row + 1]), 1, 5)["var_diag_W"]
        x = arrays["x"][row]
        # one read-out element for each row of W: along it the variance goes like the fourth power of the input
        np.testing.assert_allclose(part / x**4, np.broadcast_to((part / x**4)[:, :1], part.shape), rtol=1e-9)
        total += part
    close(whole["var_diag_W"], total)
    assert total.max() > 1e-4


def test_reported_variances_of_traces() -> None:
    """By Hutchinson one number; by curvature propagation moderated towards terms that vary on their own."""
    case = CASES["quadratic"]
    reported(programs.trace(case.graph, case.leaves, "hutchinson_plain"), case.arrays(1), ["trace"])
    case = CASES["twice"]
    arrays = case.arrays(1)
    derived = programs.trace(case.graph, case.leaves, "cp")
    one, two = draws(derived, arrays), draws(derived, arrays, together=2)
    close(spread(two["trace"]), spread(one["trace"]) / 2)
    assert spread(one["trace"]).max() > 1e-3
    # the terms are the entries of the diagonal, read at the same place
    diagonal = programs.diagonal(case.graph, case.leaves, "cp")
    zero = np.zeros((1, 1, noise_count(diagonal.program)))
    silent = evaluate(diagonal, arrays, signs(diagonal.program, zero), 1, 1)
    terms = draws(diagonal, arrays)
    apart_of = [terms[f"diag_{v}"] - silent[f"diag_{v}"] for v in case.wrt]
    x = np.concatenate([part.reshape(len(part), -1) for part in apart_of], axis=1)
    n = len(x)
    pair = np.stack([np.repeat(x, n, axis=0), np.tile(x, (n, 1))])
    apart = (pair.var(axis=0) + 2 * 6 / 8 * (pair**2).mean(axis=0)).sum(axis=-1)
    expected = (pair.sum(axis=-1).var(axis=0, ddof=1) + 2 * apart) / (1 + 2) / 2
    close(two["var_trace"].ravel(), expected)


def test_reported_variances_of_blocks_and_entries() -> None:
    case = CASES["energy"]
    (x,) = case.leaves
    arrays = case.arrays(1)
    reported(programs.blocks(case.graph, case.leaves, [(x, x)]), arrays, ["block_x_x"])
    reported(programs.entries(case.graph, case.leaves, [((x, (0,)), (x, (2,)))]), arrays, ["entry_0"])


def test_two_equal_draws_are_no_proof_of_certainty() -> None:
    """Wherever a value is off, its bar is positive: also where both columns drew the same."""
    for name, method in (("quadratic", "s"), ("energy", "s"), ("twice", "cp")):
        case = CASES[name]
        arrays = case.arrays(1)
        two = draws(programs.diagonal(case.graph, case.leaves, method), arrays, together=2)
        for leaf in case.wrt:
            value, variance = two[f"diag_{leaf}"], two[f"var_diag_{leaf}"]
            off = np.abs(value - value.mean(axis=0)) > 1e-9
            assert np.all(variance[off] > 0)
