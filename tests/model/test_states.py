"""Declaring recurrences: what is refused, and in whose terms."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import ModelError, ShapeError, UnsupportedError
from cpgen.ir.nodes import carries, topological


class Words:
    """A model with axes and inputs to make mistakes with."""

    def __init__(self) -> None:
        self.m = cp.Model("states")
        self.n, self.t, self.s, self.k, self.j = self.m.axes("n t s k j", n=cp.ROWS, t=5, s=4, k=2, j=2)
        self.x = self.m.input("x", self.n, self.t)
        self.w = self.m.param("w", self.k, self.j)

    def state(self, name: str = "h", **changed: Any) -> Any:
        given = {"axes": (self.n, self.t, self.k), "along": self.t, **changed}
        return self.m.state(name, given.pop("axes"), **given)


def twice(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous[v.n, v.t, v.k] + 1)
    v.m.define(h, h.previous[v.n, v.t, v.k] + 2)


def never(v: Words) -> None:
    h, c = v.state(), v.state("c")
    v.m.define(h, c.previous[v.n, v.t, v.k])
    v.m.objective(cp.sum(h[v.n, 4, v.k], v.k))
    v.m.graph()


def itself(v: Words) -> None:
    h = v.state()
    v.m.define(h, h[v.n, v.t, v.k] + 1)


def too_early(v: Words) -> None:
    h = v.state()
    v.m.define("g", (v.n, v.k), h[v.n, 4, v.k] ** 2)


def two_back(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous.padded[v.n, v.t - 1, v.k] + 1)


def one_element(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous[v.n, 0, v.k] + 1)


def all_steps(v: Words) -> None:
    h = v.state()
    v.m.define("g", (v.n, v.k), cp.sum(h.previous[v.n, v.t, v.k], v.t))
    g = v.m._definitions["g"]
    assert g is not None
    v.m.define(h, sp.Symbol("g") * 0 + cp.model.expressions.Read("g", (v.n, v.k)))


def outside(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous[v.n, v.t + 1, v.k] + 1)


def both_directions(v: Words) -> None:
    h, c = v.state(), v.state("c", reverse=True)
    v.m.define(h, c.previous[v.n, v.t, v.k] + h.previous[v.n, v.t, v.k])
    v.m.define(c, h[v.n, v.t, v.k] + 1)


def two_axes(v: Words) -> None:
    axes = (v.n, v.k, v.j)
    h = v.state(axes=axes, along=v.k)
    c = v.state("c", axes=axes, along=v.j)
    v.m.define(h, c.previous[v.n, v.k, v.j] + h.previous[v.n, v.k, v.j])
    v.m.define(c, h[v.n, v.k, v.j] + 1)


def rows_as_time(v: Words) -> None:
    v.state(axes=(v.n, v.k), along=v.n)


def no_such_axis(v: Words) -> None:
    v.state(along=v.s)


def start_varies(v: Words) -> None:
    v.state(start=v.x[v.n, v.t])


def start_loose(v: Words) -> None:
    v.state(start=v.w[v.k, v.j])


def axes_again(v: Words) -> None:
    v.m.define(v.state(), (v.n, v.t, v.k), 1)


def taken(v: Words) -> None:
    v.state("x")


def loose_axis(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous[v.n, v.t, v.j])


def missing_subscript(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous[v.n, v.k])


def another_models(v: Words) -> None:
    v.m.define(Words().state(), 1)


def name_again(v: Words) -> None:
    h = v.state()
    v.m.define(h, h.previous[v.n, v.t, v.k])
    v.m.define("h", (v.n,), 1)


WRONG: list[tuple[Callable[[Words], None], type[Exception], str]] = [
    (twice, ModelError, "the state h is defined already (h[n, t, k] = "),
    (never, ModelError, "the state c is never defined: write m.define(c, ...)"),
    (itself, ModelError, "h: the state h is read before it is defined; until then only h.previous[...]"),
    (too_early, ModelError, "g: the state h is read before it is defined"),
    (two_back, ModelError, "for two steps back define a second state"),
    (one_element, ModelError, "h depends on itself, and h[n, t, k] = h.previous[n, 0, k] + 1 reads another step"),
    (all_steps, ModelError, "h depends on itself, and g[n, k] = sum_t(h.previous[n, t, k]) reads another step"),
    (outside, ShapeError, "h.previous: the subscript t + 1 runs from 1 to 5"),
    (both_directions, ModelError, "the states c, h depend on each other, but not along one axis in one direction"),
    (two_axes, ModelError, "the states c, h depend on each other"),
    (rows_as_time, ModelError, "the state h cannot go along n: the rows are independent"),
    (no_such_axis, ModelError, "the state h has no axis s"),
    (start_varies, ModelError, "the start of h varies along t"),
    (start_loose, ModelError, "h: the axis j is neither on the left nor summed over"),
    (axes_again, ModelError, "h is a state, whose axes are declared"),
    (taken, ModelError, "the state x: the name is taken already"),
    (loose_axis, ModelError, "the axis j is neither on the left"),
    (missing_subscript, ShapeError, "h.previous has 3 axes"),
    (another_models, ModelError, "the state h belongs to another model"),
    (name_again, ModelError, "h is a state, whose axes are declared: write m.define(h, expression)"),
]


@pytest.mark.parametrize(("wrong", "kind", "words"), WRONG, ids=[w[0].__name__ for w in WRONG])
def test_what_is_refused(wrong: Callable[[Words], None], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        wrong(Words())
    assert words in str(caught.value)
    assert "test_states.py" in str(caught.value)


def test_what_was_two_steps_back_is_a_second_state() -> None:
    """x[t] = a x[t-1] + b x[t-2] + e[t]: an autoregression of second order."""
    m = cp.Model("ar2")
    n, t = m.axes("n t", n=cp.ROWS, t=6)
    e, a, b = m.input("e", n, t), m.param("a"), m.param("b")
    x = m.state("x", (n, t), along=t, start=1)
    before = m.state("before", (n, t), along=t, start=-1)
    m.define(before, x.previous[n, t])
    m.define(x, a * x.previous[n, t] + b * before.previous[n, t] + e[n, t])
    m.objective(cp.sum(x[n, t] ** 2, t))
    est = cp.compile(m, backend="interpreter", programs=())
    e_values = np.random.default_rng(0).normal(size=(3, 6))
    past = [np.full(3, -1.0), np.ones(3)]
    for k in range(6):
        past.append(0.5 * past[-1] - 0.3 * past[-2] + e_values[:, k])
    expected = sum(float(p @ p) for p in past[2:])
    assert est.value(e=e_values, a=0.5, b=-0.3) == pytest.approx(expected, rel=1e-14)


def test_a_state_with_a_start_that_is_a_number_and_no_rows() -> None:
    m = cp.Model("growth")
    t = m.axis("t", 4)
    r = m.param("r")
    p = m.state("p", t, along=t, start=2, reverse=True)
    m.define(p, r * p.previous[t])
    m.objective(p[0])
    est = cp.compile(m, backend="interpreter", programs=())
    assert est.value(r=3.0) == 2 * 3.0**4
    assert est.gradient(r=3.0)["r"] == 8 * 3.0**3
    assert est.diagonal(r=3.0)["r"].value == 24 * 3.0**2


def test_previous_may_be_read_afterwards_and_where_there_is_one_step() -> None:
    m = cp.Model("after")
    t = m.axis("t", 1)
    a = m.param("a")
    h = m.state("h", (t,), along=t, start=a**2)
    m.define(h, 3 * h.previous[t])
    m.objective(cp.sum(h[t] * h.previous[t], t))
    graph = m.graph()
    assert not carries(topological([graph.objective]))
    assert cp.compile(m, backend="interpreter", programs=()).value(a=2.0) == 48


# Estimators


def elman() -> cp.Model:
    v = Words()
    h = v.state(start=0.5)
    v.m.define(h, sp.tanh(cp.sum(v.w[v.k, v.j] * h.previous[v.n, v.t, v.j], v.j) + v.x[v.n, v.t]))
    v.m.objective(cp.sum(h[v.n, 4, v.k] ** 2, v.k))
    return v.m


def test_an_estimator_runs_in_the_interpreter_and_says_why() -> None:
    with pytest.warns(cp.CpgenWarning, match="no C is written for recurrences yet, and the state h is one") as told:
        est = cp.compile(elman(), programs=("gradient",))
    assert len(told) == 1
    arrays = {"x": np.random.default_rng(1).normal(size=(4, 5)), "w": np.array([[0.5, -0.2], [0.3, 0.8]])}
    exact = est.diagonal(**arrays)["w"]
    assert exact.exact and "the state h" in str(est.diagonal(**arrays))
    sampled = est.diagonal(method="cp", samples=400, seed=3, **arrays)["w"]
    assert np.all(np.abs(sampled.value - exact.value) <= 5 * sampled.stderr)
    assert cp.verify(est).ok
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.gradient(**arrays)["w"], est.gradient(**arrays)["w"])
    shown = est.show("gradient")
    assert "carry h_carry[i, j, k] = h[i, j-1, k] along j" in shown and "stages" not in shown


@pytest.mark.parametrize("what", ["native", "cuda", "source", "cuda source", "size", "bundle"])
def test_c_is_refused_with_the_name_of_the_state(what: str, tmp_path: Any) -> None:
    model = elman()
    est = cp.compile(model, backend="interpreter", programs=())
    act = {
        "native": lambda: cp.compile(model, backend="native"),
        "cuda": lambda: cp.compile(model, target="cuda"),
        "source": lambda: est.source(),
        "cuda source": lambda: est.source(target="cuda"),
        "size": lambda: est.size(),
        "bundle": lambda: cp.bundle(model, tmp_path / "out"),
    }[what]
    with pytest.raises(UnsupportedError, match="no C is written for recurrences yet, and the state h is one"):
        act()
    assert not (tmp_path / "out").exists()
