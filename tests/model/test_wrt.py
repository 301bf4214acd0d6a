"""What to differentiate by, in every form in which people hold it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import RequestError

u, v = sp.symbols("u v")


@pytest.mark.parametrize(
    ("wrt", "names"),
    [
        ("v", ["v"]),
        (u, ["u"]),
        ((v, "u"), ["v", "u"]),
        (sp.Matrix([v, u]), ["v", "u"]),
        (sp.ImmutableMatrix([[u, v]]), ["u", "v"]),
        (sp.Array([u, v]), ["u", "v"]),
        (np.array([v, u]), ["v", "u"]),
        ({v, u}, ["u", "v"]),
        (frozenset("vu"), ["u", "v"]),
        ({v: 1.0, u: 2.0}, ["v", "u"]),
        ({v: 1.0, u: 2.0}.keys(), ["v", "u"]),
        ((s for s in (v, u)), ["v", "u"]),
        (None, ["u", "v"]),
    ],
    ids=lambda value: type(value).__name__,  # sets are printed in another order by each process
)
def test_of_an_expression(wrt: Any, names: list[str]) -> None:
    est = cp.compile(u**3 * v, wrt=wrt, backend="interpreter", programs=())
    found = est.hessian({"u": 2.0, "v": 3.0})
    assert [leaf.name for leaf in est.wrt] == names == list(found.sizes)
    by_name = {str(s): s for s in (u, v)}
    expected = sp.hessian(u**3 * v, [by_name[name] for name in names]).subs({u: 2, v: 3})
    assert np.array_equal(found.matrix(), np.array(expected, float))


def test_variables_of_the_model() -> None:
    m = cp.Model("m")
    n, h = m.axes("n h", n=cp.ROWS, h=2)
    x, w, t = m.input("x", n, h), m.param("w", h), m.param("t")
    m.objective(cp.sum(w[h] * x[n, h], h) ** 2 * t)
    for wrt, names in ((w, ["w"]), ([t, x], ["t", "x"]), (t, ["t"]), ({w, "x"}, ["w", "x"])):
        assert [v.name for v in cp.compile(m, wrt=wrt, backend="interpreter", programs=()).wrt] == names
    other = cp.Model("other")
    with pytest.raises(RequestError, match="w of another model"):
        cp.compile(m, wrt=other.param("w", other.axis("h", 2)))


def test_numbers_of_numpy_multiply_reads() -> None:
    m = cp.Model("m")
    n = m.axis("n", cp.ROWS)
    x = m.input("x", n)
    weights = np.array([1.5, 2.0])
    m.objective(np.float64(2) * x[n] ** 2 + sum(weights * x[n]) + x[n] / np.float64(4) + np.float32(1) - x[n])
    assert cp.compile(m, wrt=x, backend="interpreter").value(x=2.0) == pytest.approx(8 + 7 + 0.5 + 1 - 2)
