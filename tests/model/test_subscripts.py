"""Subscripts with // and %: what they read, for every kind of them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cpgen as cp
from cpgen.errors import ModelError, ShapeError
from cpgen.ir.nodes import Map
from cpgen.model.expressions import Axis
from cpgen.model.subscripts import bounds, parsed, reach

RNG = np.random.default_rng(3)
P, Q = Axis("p", 5), Axis("q", 14)


def subscripts() -> st.SearchStrategy[Any]:
    """Functions of p and q that mean the same of axes and of numbers."""
    sums = st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-9, 9)).map(
        lambda c: lambda p, q: c[0] * p + c[1] * q + c[2]
    )
    divisors = st.sampled_from([1, 2, 3, 4, 7, -2, -3])

    def more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.tuples(inner, divisors).map(lambda c: lambda p, q: c[0](p, q) // c[1]),
            st.tuples(inner, divisors).map(lambda c: lambda p, q: c[0](p, q) % c[1]),
            st.tuples(inner, st.integers(-3, 3), inner).map(lambda c: lambda p, q: c[0](p, q) + c[1] * c[2](p, q)),
        )

    return st.recursive(sums, more, max_leaves=4)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(subscripts())
def test_any_quotient_reads_what_python_says(subscript: Any) -> None:
    values = np.array([[subscript(p, q) for q in range(14)] for p in range(5)])
    # SymPy 1.13 makes a square of a remainder inside another one, which is refused
    assume(not sp.sympify(subscript(P, Q)).has(sp.Pow))
    form = parsed(sp.sympify(subscript(P, Q)))
    low, high = bounds(form)
    assert low <= values.min() and values.max() <= high
    shift = -int(values.min())
    assert reach(parsed(sp.sympify(subscript(P, Q) + shift)), int(np.ptp(values)) + 1) == (0, np.ptp(values)) or (
        all(isinstance(atom, Axis) for atom, _ in form.terms)
    )
    m = cp.Model("read")
    p, q = m.axes("p q", p=5, q=14)
    size = high - low + 1
    x = m.param("x", m.axis("i", size))
    z = m.define("z", (p, q), x[subscript(p, q) - low])
    m.objective(cp.sum(z[p, q] ** 2, p, q))
    data = RNG.normal(size=size)
    est = cp.compile(m, backend="interpreter", programs=())
    read = values - low
    assert est.value(x=data) == pytest.approx((data[read] ** 2).sum(), rel=1e-12)
    times = np.bincount(read.ravel(), minlength=size)
    np.testing.assert_allclose(est.gradient(x=data)["x"], 2 * times * data, rtol=1e-12)
    np.testing.assert_allclose(est.diagonal(x=data)["x"].value, 2 * times, rtol=1e-12)


def model() -> tuple[cp.Model, Any, Any, Any]:
    m = cp.Model("quotients")
    n, q = m.axes("n q", n=cp.ROWS, q=12)
    a, b = m.axes("a b", a=3, b=4)
    return m, m.input("x", n, a, b), n, q


def test_a_flattened_array_costs_no_copy_in_a_sum_and_no_noise() -> None:
    m, x, n, q = model()
    w = m.param("w", q)
    m.objective(sp.tanh(cp.sum(w[q] * x[n, q // 4, q % 4], q)))
    maps = [node for node in (m.graph().objective, m.graph().objective.args[0].node) if isinstance(node, Map)]  # type: ignore[attr-defined]
    assert [len(node.extents) for node in maps] == [1, 3]
    assert cp.compile(m, wrt=["w"], programs=()).columns() == 0


def test_a_view_passes_a_diagonal_on() -> None:
    m, x, n, q = model()
    w = m.param("w", q)
    flat = m.define("flat", (n, q), w[q] * x[n, q // 4, q % 4])
    back = m.define("back", (n, *x.axes[1:]), flat[n, 4 * x.axes[1] + x.axes[2]])
    m.objective(cp.sum(sp.exp(back[n, x.axes[1], x.axes[2]]), *x.axes[1:]))
    assert cp.compile(m, wrt=["w", "x"], programs=()).columns() == 0


REFUSED = {
    "by an axis": (lambda x, n, q: x[n, 0, q // (x.axes[1] + 1)], ModelError, ["subscript floor", "// or %"]),
    "by an axis, remainder": (lambda x, n, q: x[n, 0, q % (x.axes[1] + 1)], ModelError, ["subscript Mod", "// or %"]),
    "by a fraction": (lambda x, n, q: x[n, 0, q // 2.5], ModelError, ["// or %"]),
    "a fraction": (lambda x, n, q: x[n, 0, q / 4], ModelError, ["subscript q/4", "// or %"]),
    "out of range": (lambda x, n, q: x[n, q // 3, 0], ShapeError, ["runs from 0 to 3", "extent 3", "padded"]),
    "below the range": (lambda x, n, q: x[n, (q - 1) // 4, 0], ShapeError, ["runs from -1 to 2"]),
    "of the rows": (lambda x, n, q: x[n // 2, q // 4, 0], ShapeError, ["rows are independent"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    write, kind, says = REFUSED[name]
    m, x, n, q = model()
    with pytest.raises(kind) as caught:
        write(x, n, q)
    assert all(part in str(caught.value) for part in says), caught.value
    assert "test_subscripts.py" in str(caught.value)


def test_padded_reads_zero_outside() -> None:
    m, x, n, q = model()
    z = m.define("z", (n, q), x.padded[n, (q - 2) // 4, (q - 2) % 4])
    m.objective(cp.sum((z[n, q] + 1) ** 2, q))
    data = RNG.normal(size=(2, 3, 4))
    shifted = np.concatenate([np.zeros((2, 2)), data.reshape(2, 12)[:, :10]], axis=1)
    assert cp.compile(m, wrt=["x"], programs=(), backend="interpreter").value(x=data) == pytest.approx(
        ((shifted + 1) ** 2).sum()
    )
