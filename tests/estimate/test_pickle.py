"""Estimators travel: by pickle, copy and cloudpickle, to other processes, with the same text and the same bits."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from tests.catalogue import ENTRIES, Entry


def partial_x(x: Any, a: Any) -> Any:
    return sp.cos(x) * a


def partial_a(x: Any, a: Any) -> Any:
    return sp.sin(x)


def numpy_wave(x: Any, a: Any) -> Any:
    return np.sin(x) * a


WAVE = cp.function("wave", [partial_x, partial_a], "(sin({0}) * {1})", numpy_wave)


# of user_function the derivatives are lambdas; see test_user_functions
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name != "user_function"], ids=lambda entry: entry.name)
def test_the_text_is_the_same(entry: Entry) -> None:
    estimator = entry.compile(programs=(), backend="interpreter")
    text = estimator.source(("value", "gradient", "diagonal"))
    assert pickle.loads(pickle.dumps(estimator)).source(("value", "gradient", "diagonal")) == text


def small() -> tuple[cp.Estimator, dict[str, Any]]:
    m = cp.Model("small")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w = m.input("x", n, i), m.param("w", i)
    z = m.define("z", (n,), cp.sum(w[i] * x[n, i], i))
    m.objective(sp.exp(sp.sin(z[n])) + z[n] ** 2)
    rng = np.random.default_rng(0)
    return cp.compile(m, wrt=["w"], threads=2), {"x": rng.normal(size=(200, 3)), "w": rng.normal(size=3)}


def bits(estimator: cp.Estimator, arrays: dict[str, Any]) -> tuple[bytes, ...]:
    diagonal = estimator.diagonal(samples=4, exact=False, **arrays)["w"]
    return (estimator.gradient(**arrays)["w"].tobytes(), diagonal.value.tobytes(), diagonal.stderr.tobytes())


def elsewhere(place: Any, data: bytes) -> None:
    estimator, arrays = pickle.loads(data)
    place.put(bits(estimator, arrays))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_after_a_call_to_another_process(method: str) -> None:
    estimator, arrays = small()
    before = bits(estimator, arrays)
    context = multiprocessing.get_context(method)
    place = context.Queue()
    child = context.Process(target=elsewhere, args=(place, pickle.dumps((estimator, arrays))))
    child.start()
    assert place.get(timeout=120) == before
    child.join(60)


def test_copies() -> None:
    estimator, arrays = small()
    before = bits(estimator, arrays)
    for other in (copy.copy(estimator), copy.deepcopy(estimator)):
        assert other.options == estimator.options and bits(other, arrays) == before


def test_user_functions() -> None:
    """Declared with functions that a module holds, they are pickled; with lambdas, cloudpickle takes them."""
    x, a = sp.symbols("x a", real=True)
    estimator = cp.compile(WAVE(x, a) ** 2, wrt=[x, a], programs=())
    text = estimator.source(("gradient",))
    assert pickle.loads(pickle.dumps(estimator)).source(("gradient",)) == text
    cloudpickle = pytest.importorskip("cloudpickle")
    entry = next(e for e in ENTRIES if e.name == "user_function")
    estimator = entry.compile(programs=())
    restored = pickle.loads(cloudpickle.dumps(estimator))
    assert restored.source(("gradient",)) == estimator.source(("gradient",))


def test_a_deep_graph_costs_no_recursion() -> None:
    m = cp.Model("deep")
    n = m.axes("n", n=cp.ROWS)
    x, w = m.input("x", n), m.param("w")
    last = x
    for k in range(1500):
        last = m.define(f"d{k}", (n,), sp.sin(last[n]) + w)
    m.objective(last[n])
    estimator = cp.compile(m, programs=())
    assert pickle.loads(pickle.dumps(estimator)).graph.definitions[-1][0] == "d1499"
