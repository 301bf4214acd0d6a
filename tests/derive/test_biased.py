"""Estimators that are biased and say so: Gauss-Newton against J^T M J, Becker-LeCun where it happens to be exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive import programs
from cpgen.errors import RequestError
from cpgen.ir.noise import noise_count
from tests.derive.small import (
    CASES,
    Array,
    Small,
    close,
    each,
    enumerated,
    evaluate,
    of_row,
    reference,
    symbols,
)

METHODS = ("gauss_newton", "becker_lecun")


def gauss_newton(
    case: Small,
    argument: Callable[[Mapping[str, Array]], Array],
    loss: Callable[[Array, Mapping[str, Array]], sp.Expr],
    arrays: dict[str, Array],
    rows: int,
) -> Array:
    """J^T M J over all elements of wrt for each row: J of the loss argument, M of the loss in it, both by SymPy."""
    named = {k: v if v.shape else v[()] for k, v in symbols(case).items()}
    outputs = np.ravel(argument(named))
    free = np.array(sp.symbols(f"s0:{len(outputs)}", real=True), dtype=object)
    m = sp.hessian(loss(free, named), list(free)).subs(dict(zip(free, outputs, strict=True)))
    variables = [s for name in case.wrt for s in np.ravel(symbols(case)[name])]
    j = sp.Matrix(list(outputs)).jacobian(variables)
    everything = [s for v in case.graph.variables for s in np.ravel(symbols(case)[v.name])]
    function = sp.lambdify(everything, [j, m], "numpy", cse=True)
    found = []
    for row in range(rows):
        jacobian, middle = (np.asarray(a, float) for a in function(*of_row(case, arrays, row)))
        found.append(jacobian.T @ middle @ jacobian)
    return np.stack(found)


def net_output(v: Mapping[str, Array]) -> Array:
    return np.array([v["u"] @ each(sp.tanh, v["W"] @ v["x"] + v["b"])])


def classifier_output(v: Mapping[str, Array]) -> Array:
    return np.asarray(v["V"] @ each(sp.sin, v["W"] @ v["x"]))


def squared_error(s: Array, v: Mapping[str, Array]) -> sp.Expr:
    return (s[0] - v["y"]) ** 2 / 2


def cross_entropy(s: Array, v: Mapping[str, Array]) -> sp.Expr:
    return sp.log(sum(each(sp.exp, s))) - v["y"] @ s


def deep_output(v: Mapping[str, Array]) -> Array:
    return np.asarray(v["V"] @ each(sp.sin, v["U"] @ each(sp.sin, v["W"] @ v["x"])))


LOSSES = [
    ("net", net_output, squared_error),
    ("classifier", classifier_output, cross_entropy),
    ("deep", deep_output, cross_entropy),
]


@pytest.mark.parametrize(("name", "argument", "loss"), LOSSES, ids=[x[0] for x in LOSSES])
def test_gauss_newton_is_the_curvature_of_the_loss_pulled_back(
    name: str,
    argument: Callable[[Mapping[str, Array]], Array],
    loss: Callable[[Array, Mapping[str, Array]], sp.Expr],
) -> None:
    case, rows = CASES[name], 3
    arrays = case.arrays(rows)
    expected = gauss_newton(case, argument, loss, arrays, rows)
    whole = reference(case, arrays, rows)
    diagonal = np.einsum("nii->i", expected)
    derived = programs.diagonal(case.graph, case.leaves, "gauss_newton")
    assert "Gauss-Newton" in derived.biased and derived.estimator == "gauss_newton"
    found = evaluate(derived, arrays, rows=rows, unit=True)
    for leaf in case.wrt:
        close(found[f"diag_{leaf}"].ravel(), diagonal[whole.place(leaf)])
        assert np.all(found[f"diag_{leaf}"] >= 0)
    trace = programs.trace(case.graph, case.leaves, "gauss_newton")
    close(evaluate(trace, arrays, rows=rows, unit=True)["trace"], np.array(diagonal.sum()))
    pairs = [(a, b) for k, a in enumerate(case.leaves) for b in case.leaves[k:]]
    blocks = evaluate(
        programs.blocks(case.graph, case.leaves, pairs, "gauss_newton"), arrays, rows=rows, unit=True
    )
    for a, b in pairs:
        part = expected.sum(axis=0)[whole.place(a.name), whole.place(b.name)]
        close(blocks[f"block_{a.name}_{b.name}"], part.reshape(*a.element_shape, *b.element_shape))
    # and it is not the Hessian
    assert max(np.abs(found[f"diag_{leaf}"] - whole.diag(leaf)).max() for leaf in case.wrt) > 1e-2


def test_gauss_newton_samples_average_to_it() -> None:
    case = CASES["deep"]
    arrays = case.arrays(1)
    expected = np.einsum("nii->i", gauss_newton(case, deep_output, cross_entropy, arrays, 1))
    derived = programs.diagonal(case.graph, case.leaves, "gauss_newton")
    assert 0 < noise_count(derived.program) <= 7
    assert programs.diagonal(CASES["classifier"].graph, CASES["classifier"].leaves, "gauss_newton").columns == 0
    found = enumerated(derived, arrays, 1)
    close(np.concatenate([found[f"diag_{leaf}"].ravel() for leaf in case.wrt]), expected)


def test_gauss_newton_needs_to_know_the_loss() -> None:
    case = CASES["tied"]
    for ask in (programs.diagonal, programs.trace):
        with pytest.raises(RequestError, match="convex_in"):
            ask(case.graph, case.leaves, "gauss_newton")


def unit_chain(wide: int) -> Small:
    """Three layers of ``wide`` units each and a squared error, by weights and biases."""

    def build() -> cp.Model:
        m = cp.Model(f"chain_of_{wide}")
        n, i, h, k, o = m.axes("n i h k o", n=cp.ROWS, i=wide, h=wide, k=wide, o=1)
        x, y = m.input("x", n, i), m.input("y", n, o)
        a, b, c = m.param("A", h, i), m.param("B", k, h), m.param("C", o, k)
        d = m.param("d", k)
        z = m.define("z", (n, h), sp.tanh(cp.sum(a[h, i] * x[n, i], i)))
        e = m.define("e", (n, k), sp.sin(cp.sum(b[k, h] * z[n, h], h) + d[k]))
        s = m.define("s", (n, o), sp.tanh(cp.sum(c[o, k] * e[n, k], k)))
        m.objective(cp.sum((s[n, o] - y[n, o]) ** 2, o))
        return m

    def objective(v: Mapping[str, Array]) -> sp.Expr:
        e = each(sp.sin, v["B"] @ each(sp.tanh, v["A"] @ v["x"]) + v["d"])
        return ((each(sp.tanh, v["C"] @ e) - v["y"]) ** 2).sum()

    return Small(f"chain_of_{wide}", build, ("A", "B", "d", "C"), objective)


def becker_lecun_error(case: Small) -> float:
    arrays = case.arrays(3)
    derived = programs.diagonal(case.graph, case.leaves, "becker_lecun")
    assert "Becker-LeCun" in derived.biased and "off-diagonal" in derived.biased
    assert derived.columns == 0 and noise_count(derived.program) == 0
    found = evaluate(derived, arrays, rows=3, columns=0)
    expected = reference(case, arrays, 3)
    return max(float(np.abs(found[f"diag_{leaf}"] - expected.diag(leaf)).max()) for leaf in case.wrt)


def test_becker_lecun_is_exact_where_there_is_nothing_off_the_diagonal() -> None:
    assert becker_lecun_error(unit_chain(1)) < 1e-12


def test_becker_lecun_is_biased_where_there_is() -> None:
    assert becker_lecun_error(unit_chain(2)) > 1e-3


def test_becker_lecun_takes_the_diagonal_of_the_loss_exactly() -> None:
    """The last layer of a softmax classifier: x**2 p (1 - p), as in HesScale."""
    case = CASES["classifier"]
    arrays = case.arrays(3)
    found = evaluate(programs.diagonal(case.graph, case.leaves, "becker_lecun"), arrays, rows=3, columns=0)
    close(found["diag_V"], reference(case, arrays, 3).diag("V"))
    assert np.abs(found["diag_W"] - reference(case, arrays, 3).diag("W")).max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_results_carry_the_label(method: str) -> None:
    case = CASES["classifier"]
    arrays = case.arrays(2)
    compiled = cp.compile(case.build(), wrt=list(case.wrt), programs=(), backend="interpreter")
    found = compiled.diagonal(samples=64, method=method, **arrays)
    for leaf in case.wrt:
        assert found[leaf].biased and not found[leaf].exact and found[leaf].method == method
    assert found.biased
    assert not compiled.diagonal(samples=64, **arrays).biased
