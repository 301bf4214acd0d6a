"""Every mistake a user can make is answered in the user's terms: the name, what was seen, what to do, and the line."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import (
    BudgetError,
    CpgenError,
    DataError,
    ModelError,
    RequestError,
    ShapeError,
    UnsupportedError,
)

u, v = sp.symbols("u v")


class Setting:
    """A model with something of everything, for the mistakes below."""

    def __init__(self) -> None:
        self.m = m = cp.Model("toy")
        self.n, self.i, self.j, self.h = m.axes("n i j h", n=cp.ROWS, i=4, j=4, h=3)
        self.x, self.y = m.input("x", self.n, self.i), m.input("y", self.n)
        self.W, self.b = m.param("W", self.h, self.i), m.param("b", self.h)
        self.a = m.define(
            "a", (self.n, self.h), cp.sum(self.W[self.h, self.i] * self.x[self.n, self.i], self.i)
        )


# what is written wrongly, the error, and what its message must contain
DECLARATIONS: list[tuple[Callable[[Setting], Any], type[CpgenError], list[str]]] = [
    # names
    (lambda s: cp.Model("two words"), ModelError, ["two words", "letters, digits"]),
    (lambda s: cp.Model("a; rm -rf"), ModelError, ["a; rm -rf", "identifier"]),
    (lambda s: s.m.param("w" * 300, s.h), ModelError, ["www...", "300 letters", "63"]),
    (lambda s: s.m.param("row_scale", s.h), ModelError, ["row_scale", "argument", "column_scale", "another"]),
    (lambda s: s.m.param("x'", s.h), ModelError, ["x'", "identifier"]),
    (lambda s: s.m.param("w\n", s.h), ModelError, ["identifier"]),
    (lambda s: s.m.param("größe", s.h), ModelError, ["größe", "identifier"]),
    (lambda s: s.m.param("_w", s.h), ModelError, ["_w", "identifier"]),
    (lambda s: s.m.param("3w", s.h), ModelError, ["3w", "identifier"]),
    (lambda s: s.m.param(3, s.h), ModelError, ["must be a string", "int"]),
    (lambda s: s.m.param("W", s.h), ModelError, ["W", "taken already"]),
    (lambda s: s.m.axis("h", 5), ModelError, ["h", "declared already", "3"]),
    # axes
    (lambda s: s.m.axes("p q", p=3), ModelError, ["q has no extent", "q=..."]),
    (lambda s: s.m.axes("p", p=3, q=4), ModelError, ["q="]),
    (lambda s: s.m.axis("p", 2.5), ModelError, ["p", "2.5", "integer"]),
    (lambda s: s.m.axis("p", 0), ShapeError, ["p is 0", "at least 1"]),
    (lambda s: s.m.axis("p", cp.ROWS), ModelError, ["p", "second axis of rows", "n"]),
    (lambda s: s.m.input("z", s.i, s.n), ShapeError, ["z", "rows", "first"]),
    (lambda s: s.m.param("z", s.n), ModelError, ["z", "rows", "input("]),
    (lambda s: s.m.input("z", "i"), ModelError, ["z", "'i'", "not an axis", "axes(...)"]),
    (lambda s: s.m.input("z", cp.Model("other").axis("k", 2)), ModelError, ["z", "k", "another model"]),
    # an axis twice
    (lambda s: s.m.param("z", s.h, s.h), ModelError, ["z", "h", "twice", "second axis"]),
    (
        lambda s: s.m.define("z", (s.n, s.i), cp.sum(s.x[s.n, s.i] ** 2, s.i)),
        ModelError,
        ["z", "i", "summed over", "on the left as well", "second axis"],
    ),
    (lambda s: cp.sum(s.x[s.n, s.i], s.i, s.i), ModelError, ["sum", "twice", "i"]),
    (lambda s: cp.sum(s.x[s.n, s.i], s.h), ModelError, ["sum along h", "x[n, i]"]),
    (lambda s: cp.sum(s.x[s.n, s.i]), ModelError, ["sum", "no axis"]),
    (lambda s: cp.sum(s.y[s.n], s.n), ModelError, ["sum over n, the rows", "summed at the end"]),
    (lambda s: cp.softmax(s.x[s.n, s.i], 1), ModelError, ["softmax", "axes of the model"]),
    (lambda s: s.m.define("z", s.n, s.x[s.n, s.i]), ModelError, ["z", "i", "neither", "cp.sum(..., i)"]),
    # reads
    (lambda s: s.x[s.n], ShapeError, ["x has 2 axes (n, i)", "1 subscripts"]),
    (lambda s: s.x[s.n, s.h + 2], ShapeError, ["x", "h + 2", "2 to 4", "extent 4", "x.padded"]),
    (lambda s: s.x[s.n, s.i - 1], ShapeError, ["x", "-1 to 2", "padded"]),
    (lambda s: s.x[s.n, 4], ShapeError, ["x", "4 to 4", "extent 4"]),
    (lambda s: s.b[s.i], ShapeError, ["b", "axis h has extent 3", "i", "extent 4"]),
    (lambda s: s.x[s.n + 1, s.i], ShapeError, ["x", "rows are independent", "n + 1"]),
    (lambda s: s.x[0, s.i], ShapeError, ["x", "rows are independent"]),
    (lambda s: s.b[s.n], ShapeError, ["b", "rows"]),
    (lambda s: s.x[s.n, s.i**2], ModelError, ["x", "i**2", "whole multiples"]),
    (lambda s: s.x[s.n, s.i / 2], ModelError, ["x", "i/2", "whole multiples"]),
    (lambda s: s.x[s.n, u], ModelError, ["x", "u", "not an axis"]),
    (lambda s: s.x[s.n, 1.5], ModelError, ["x", "1.5", "whole"]),
    (lambda s: s.m.define("z", s.n, s.y + 1), ModelError, ["y", "without subscripts", "y[n]"]),
    (lambda s: s.m.define("z", s.h, 2 * s.b), ModelError, ["b", "without subscripts", "b[h]"]),
    (lambda s: s.m.define("z", s.h, sp.exp(s.b)), ModelError, ["b", "without subscripts", "b[h]"]),
    (lambda s: cp.sum(s.b, s.h), ModelError, ["b", "without subscripts", "b[h]"]),
    (lambda s: s.b > 0, ModelError, ["b", "without subscripts", "b[h]"]),
    (lambda s: abs(s.b), ModelError, ["b", "without subscripts", "b[h]"]),
    (lambda s: sum(s.b), ModelError, ["b", "without subscripts", "b[h]"]),
    (lambda s: np.tanh(s.b), ModelError, ["np.tanh", "b is symbolic", "b[h]"]),
    (lambda s: np.tanh(s.b[s.h]), ModelError, ["np.tanh", "b[h] is symbolic", "SymPy's function"]),
    (lambda s: np.ones(3) @ s.b, ModelError, ["np.matmul", "b is symbolic"]),
    (lambda s: sum(s.b[s.h], s.h), ModelError, ["b[h] is one number", "Python's sum", "cp.sum"]),
    # expressions
    (lambda s: s.m.define("z", s.n, s.y[s.n] * sp.IndexedBase("A")[0]), ModelError, ["z", "A[0]", "IndexedBase"]),
    (lambda s: s.m.define("z", s.n, s.y[s.n] * sp.MatrixSymbol("X", 2, 2)[0, 1]), ModelError, ["z", "X", "matrix"]),
    (lambda s: s.m.objective(s.y[s.n] * sp.Function("q")(u)), ModelError, ["objective", "q(u)", "dynamicsymbols"]),
    (lambda s: s.m.define("z", s.n, s.y[s.n] * u), ModelError, ["z", "symbol u", "not declared", "param("]),
    (lambda s: s.m.define("z", s.i, s.i * s.x[s.n, s.i]), ModelError, ["z", "n"]),
    (lambda s: s.m.define("z", s.i, s.i + 1), ModelError, ["z", "axis i", "as a number", "cp.position"]),
    (lambda s: s.m.define("z", s.n, sp.besselj(9, s.y[s.n])), UnsupportedError, ["z", "besselj"]),
    (lambda s: s.m.define("z", s.n, sp.Function("mystery")(s.y[s.n])), UnsupportedError, ["z", "mystery"]),
    (lambda s: s.m.define("z", s.n, sp.zeta(s.y[s.n])), UnsupportedError, ["z", "zeta"]),
    (lambda s: s.m.define("z", s.n, sp.I * s.y[s.n]), CpgenError, ["z"]),
    (lambda s: s.m.define("z", s.n, sp.nan * s.y[s.n]), CpgenError, ["z"]),
    (lambda s: s.m.define("z", s.n, sp.oo + s.y[s.n]), CpgenError, ["z"]),
    (lambda s: s.m.define("z", s.n, "y +"), ModelError, ["z", "y +", "not an expression"]),
    (lambda s: s.m.define("z", s.n, s.y[s.n] > 0), ModelError, ["z", "not a scalar expression"]),
    (lambda s: s.m.define("z", s.n, None), ModelError, ["z", "None"]),
    (
        lambda s: s.m.define("a", (s.n, s.h), s.a[s.n, s.h] + 1),
        ModelError,
        ["a", "reads itself", "m.state("],
    ),
    (
        lambda s: s.m.define("z", s.n, cp.Model("other").input("q")),
        ModelError,
        ["z", "q", "not declared in the model 'toy'"],
    ),
    (
        lambda s: s.m.define("z", s.n, cp.Model("other").input("x")),
        ModelError,
        ["z", "x", "0 subscripts", "2 axes", "another model"],
    ),
    # the objective
    (
        lambda s: s.m.objective(s.a[s.n, s.h]),
        ShapeError,
        ["objective varies over h", "one number per row", "cp.sum(..., h)"],
    ),
    (lambda s: s.m.objective(s.y[s.n], reduction="max"), ModelError, ["'max'", '"mean"']),
    (lambda s: s.m.objective(s.y[s.n], convex_in="q"), ModelError, ["convex_in='q'", "a"]),
    (lambda s: s.m.graph(), ModelError, ["toy", "no objective", "objective(...)"]),
    (lambda s: cp.compile(s.m), ModelError, ["toy", "no objective"]),
    # layers
    (lambda s: cp.layers.dense(s.m, "z", s.y, s.W), ShapeError, ["z", "y[n]", "rows", "4"]),
    (lambda s: cp.layers.dense(s.m, "z", s.a, s.W), ShapeError, ["z", "a[n, h]", "3", "W[h, i]", "4"]),
    (lambda s: cp.layers.dense(s.m, "z", s.x, s.b), ShapeError, ["z", "weight", "b[h]", "2 axes"]),
    (lambda s: cp.layers.dense(s.m, "z", s.x, 3), ModelError, ["z", "weight", "declared variable"]),
    (
        lambda s: cp.layers.dense(s.m, "z", s.x, s.W, s.m.param("c", s.i)),
        ShapeError,
        ["z", "bias c[i]", "h of 3"],
    ),
    (lambda s: cp.layers.conv1d(s.m, "z", s.x, s.W), ShapeError, ["z", "weight", "3 axes"]),
    (lambda s: cp.layers.avg_pool(s.m, "z", s.x, 0), ModelError, ["z", "window", "at least 1"]),
    (lambda s: cp.layers.max_pool(s.m, "z", s.x, 0), ModelError, ["z", "window", "at least 1"]),
    (lambda s: cp.layers.max_pool(s.m, "z", s.x), ModelError, ["z", "size of a window"]),
    (lambda s: cp.layers.max_pool(s.m, "z", s.x, 2, stride=0), ModelError, ["z", "stride=0", "at least 1"]),
    (lambda s: cp.layers.max_pool(s.m, "z", s.x, 2, padding=2), ModelError, ["z", "padding=2", "outside", "x[n, i]"]),
    (lambda s: cp.layers.max_pool(s.m, "z", s.x, 9), ShapeError, ["z", "window of 9", "axis i of 4"]),
    (lambda s: convolved(s, groups=2), ShapeError, ["z", "4 channels", "2 groups", "3 outputs", "expects 4"]),
    (lambda s: convolved(s, dilation=0), ModelError, ["z", "dilation=0", "at least 1"]),
    (lambda s: convolved(s, dilation=2), ShapeError, ["z", "window of 3", "axis q of 2"]),
    (lambda s: cp.layers.attention(s.m, "z", s.x, s.x, s.y), ShapeError, ["z", "value", "y[n]", "2 axes"]),
]


def convolved(s: Setting, **options: int) -> object:
    q, k = s.m.axes("q k", q=2, k=2)
    source, weight = s.m.input("grid", s.n, s.i, q), s.m.param("kernel", s.h, s.i, k)
    return cp.layers.conv1d(s.m, "z", source, weight, **options)


def label(case: tuple[Callable[[Setting], Any], Any, Any]) -> str:
    return re.sub(r"\W+", "_", " ".join(case[2]))[:50]


@pytest.mark.parametrize("case", DECLARATIONS, ids=label)
def test_declarations(case: tuple[Callable[[Setting], Any], type[CpgenError], list[str]]) -> None:
    wrong, kind, words = case
    with pytest.raises(kind) as caught:
        wrong(Setting())
    for word in words:
        assert word in str(caught.value)


def test_a_declaration_error_names_the_users_line() -> None:
    s = Setting()
    here = Path(__file__).name
    for wrong in (
        lambda: s.m.param("two words", s.h),
        lambda: s.m.define("z", (s.n,), s.y[s.n] * u),
        lambda: s.m.objective(s.a[s.n, s.h]),
        lambda: s.x[s.n, s.i + 1],
        lambda: s.m.define("q", s.n, sp.besselj(9, s.y[s.n])),
        lambda: cp.layers.dense(s.m, "z", s.x, s.b),
        lambda: cp.sum(s.y[s.n], s.n),
        lambda: cp.sum(s.b, s.h),
        lambda: sp.exp(s.b),
        lambda: np.tanh(s.b[s.h]),
        lambda: sum(s.b[s.h], s.h),
        lambda: s.m.axes("p q", p=1),
    ):
        line = inspect.getsourcelines(wrong)[1]
        with pytest.raises(CpgenError) as caught:
            wrong()
        assert str(caught.value).endswith(f"({here}:{line})"), str(caught.value)


def test_a_failed_declaration_leaves_the_model_usable() -> None:
    s = Setting()
    with pytest.raises(ModelError):
        s.m.define("z", s.n, s.y[s.n] * u)
    with pytest.raises(ModelError):
        s.m.param("z", s.n)
    with pytest.raises(ShapeError):
        s.m.objective(s.a[s.n, s.h])
    z = s.m.define("z", s.n, cp.sum(s.a[s.n, s.h] ** 2, s.h))
    s.m.objective(z[s.n])
    est = cp.compile(s.m, backend="interpreter")
    assert est.columns("diagonal") is not None


def toy(**options: Any) -> tuple[cp.Estimator, dict[str, Any]]:
    s = Setting()
    s.m.objective(cp.sum(sp.tanh(s.a[s.n, s.h] + s.b[s.h]), s.h) * s.y[s.n])
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(5, 4)),
        "y": rng.normal(size=5),
        "W": rng.normal(size=(3, 4)),
        "b": np.zeros(3),
    }
    return cp.compile(s.m, **{"programs": (), "backend": "interpreter", **options}), arrays


def nan_at(array: Any, place: tuple[int, ...], value: float = np.nan) -> Any:
    broken = array.copy()
    broken[place] = value
    return broken


ARRAYS: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], type[CpgenError], list[str]]] = [
    (lambda a: {**a, "V": a["W"]}, RequestError, ["'toy'", "'V'", "W, b, x, y"]),
    (lambda a: {k: a[k] for k in ("x", "y", "b")}, RequestError, ["missing: W", "keyword"]),
    (lambda a: {**a, "W": np.ones((3, 5))}, ShapeError, ["W", "(3, 5)", "expected (3, 4)"]),
    (
        lambda a: {**a, "W": np.ones((4, 3))},
        ShapeError,
        ["W", "(4, 3)", "(3, 4)", "np.ascontiguousarray(W.T)"],
    ),
    (lambda a: {**a, "x": np.ones(4)}, ShapeError, ["x", "(4,)", "(rows, 4)", "x[None]"]),
    (lambda a: {**a, "b": 1.0}, ShapeError, ["b", "()", "(3,)"]),
    (lambda a: {**a, "y": np.ones(6)}, ShapeError, ["y has 6 rows", "x has 5"]),
    (lambda a: {**a, "y": 1.0}, ShapeError, ["y has 1 rows", "x has 5"]),
    (
        lambda a: {**a, "W": np.ma.masked_array(a["W"], a["W"] == a["W"][0, 0])},
        DataError,
        ["W is a masked array", "1 of its 12", "W.filled(...)"],
    ),
    (lambda a: {**a, "b": np.array([1, 2, 1 << 60])}, DataError, ["b", "integers beyond 9007199254740992", "float64"]),
    (lambda a: {**a, "x": np.ones((0, 4)), "y": np.ones(0)}, ShapeError, ["x is empty", "(0, 4)"]),
    (lambda a: {**a, "x": nan_at(a["x"], (2, 1))}, DataError, ["x[2, 1] is nan", "1 of 20"]),
    (lambda a: {**a, "W": nan_at(a["W"], (0, 3), np.inf)}, DataError, ["W[0, 3] is inf", "1 of 12"]),
    (lambda a: {**a, "b": np.zeros(3, complex)}, DataError, ["b", "complex128", "float64"]),
    (lambda a: {**a, "b": np.array(["1", "2", "3"])}, DataError, ["b", "dtype", "float64"]),
    (lambda a: {**a, "b": np.array([None] * 3)}, DataError, ["b", "object", "float64"]),
    (
        lambda a: {**a, "b": np.zeros(3, np.longdouble)},
        DataError,
        ["b", str(np.dtype(np.longdouble)), "pass b.astype(np.float64) ("],
    ),
    (lambda a: {**a, "b": [[0.0], [0.0, 1.0], 2.0]}, DataError, ["b", "array"]),
]


@pytest.mark.parametrize("case", ARRAYS, ids=label)
def test_arrays(case: tuple[Callable[[dict[str, Any]], dict[str, Any]], type[CpgenError], list[str]]) -> None:
    change, kind, words = case
    est, arrays = toy()
    for ask in (est.value, est.gradient, est.diagonal, est.hessian):
        with pytest.raises(kind) as caught:
            ask(**change(arrays))
        for word in words:
            assert word in str(caught.value)


def test_a_request_names_the_line_of_the_call() -> None:
    est, arrays = toy()
    here = Path(__file__).name
    for wrong in (
        lambda: est.diagonal(arrays, samples=0),
        lambda: est.value(4),
        lambda: est.hessian(arrays, method="magic"),
        lambda: cp.compile(u**2, threads="2"),
        lambda: cp.verify(est, rows=-1),
    ):
        line = inspect.getsourcelines(wrong)[1]
        with pytest.raises(RequestError) as caught:
            wrong()
        assert str(caught.value).endswith(f"({here}:{line})"), str(caught.value)


def test_an_error_keeps_its_line_on_the_way_between_processes() -> None:
    est, arrays = toy()
    with pytest.raises(RequestError) as caught:
        est.diagonal(arrays, samples=0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# who can hold a vector in double precision, and may not be installed
WIDE: dict[str, Callable[[], Any]] = {
    "list": lambda: [0.0, 0.0, 0.0],
    "numpy": lambda: np.float64(0),
    "pandas": lambda: pytest.importorskip("pandas").Series(np.zeros(3)),
    "torch": lambda: pytest.importorskip("torch").tensor(np.zeros(3)),
}


@pytest.mark.parametrize("holder", WIDE)
def test_single_precision_refuses_to_lose_digits_whoever_holds_them(holder: str) -> None:
    wide = WIDE[holder]()
    est, arrays = toy(real="float32")
    small = {name: array.astype(np.float32) for name, array in arrays.items()}
    with pytest.raises(DataError, match=r"b has dtype float64 but .*float32.* or compile with real='float64'"):
        est.value({**small, "b": wide})


def test_single_precision_refuses_to_lose_digits_of_plain_numbers() -> None:
    est, arrays = toy(real="float32")
    one = cp.compile(u**2, real="float32", backend="interpreter", programs=())
    assert one.value(u=0.1) == np.float32(np.float32(0.1) ** 2)  # a plain number has no type to be kept
    with pytest.raises(DataError, match="u holds integers beyond 16777216"):
        one.value(u=np.array([16777217]))
    with pytest.raises(DataError, match=r"x has dtype float64.*x\.astype\(np\.float32\) or .*real='float64'"):
        est.value(**arrays)


def test_tensors_that_numpy_cannot_read_are_refused_by_name() -> None:
    torch = pytest.importorskip("torch")
    est, arrays = toy()
    with pytest.raises(DataError, match=r"b is a tensor that records gradients.*b\.detach\(\) \(test_errors"):
        est.value({**arrays, "b": torch.nn.Parameter(torch.zeros(3))})
    with pytest.raises(DataError, match=r"b is no array of numbers \(dtype torch.bfloat16.*b\.float\(\)"):
        est.value({**arrays, "b": torch.zeros(3, dtype=torch.bfloat16)})
    assert est.value({**arrays, "b": torch.zeros(3)}) == est.value(arrays)


def test_arrays_in_any_order_are_copied() -> None:
    est, arrays = toy()
    wide = np.zeros((5, 8))
    wide[:, ::2] = arrays["x"]
    ordered = {
        "x": wide[:, ::2],
        "W": np.asfortranarray(arrays["W"]),
        "b": arrays["b"][::-1].copy()[::-1],
        "y": np.broadcast_to(1.5, 5),
    }
    plain = {**arrays, "y": np.full(5, 1.5)}
    unmasked = np.ma.masked_array(arrays["W"], np.zeros((3, 4), bool))
    swapped = arrays["W"].astype(arrays["W"].dtype.newbyteorder())
    for given in (ordered, {**plain, "W": unmasked}, {**plain, "W": swapped}):
        for found, wanted in zip(est.gradient(given).values(), est.gradient(plain).values(), strict=True):
            assert np.array_equal(found, wanted)


def test_frames_are_arrays() -> None:
    pandas = pytest.importorskip("pandas")
    est, arrays = toy()
    frames = {"x": pandas.DataFrame(arrays["x"]), "W": pandas.DataFrame(arrays["W"]), "b": pandas.Series(arrays["b"])}
    for found, wanted in zip(
        est.gradient({**arrays, **frames}).values(), est.gradient(arrays).values(), strict=True
    ):
        assert np.array_equal(found, wanted)


def test_harmless_arrays_are_converted() -> None:
    est, arrays = toy()
    whole = {**arrays, "b": [0, 1, 0], "y": np.array([True, False, True, True, False])}
    exact = {**arrays, "b": np.array([0.0, 1.0, 0.0]), "y": np.array([1.0, 0.0, 1.0, 1.0, 0.0])}
    assert est.value(**whole) == est.value(**exact)
    single = {k: a.astype(np.float32) for k, a in arrays.items()}
    assert est.value(**single) == est.value(**{k: a.astype(float) for k, a in single.items()})


REQUESTS: list[tuple[Callable[[cp.Estimator, dict[str, Any]], Any], type[CpgenError], list[str]]] = [
    (lambda e, a: e.diagonal(samples=0, **a), RequestError, ["samples=0", "at least one", "exact=True"]),
    (lambda e, a: e.diagonal(samples=-3, **a), RequestError, ["samples=-3"]),
    (lambda e, a: e.trace(samples=0, **a), RequestError, ["samples=0"]),
    (lambda e, a: e.sketch(samples=0, **a), RequestError, ["samples=0"]),
    (lambda e, a: e.block("W", "b", samples=0, **a), RequestError, ["samples=0"]),
    (lambda e, a: e.diagonal(samples=2.5, **a), RequestError, ["samples=2.5"]),
    (lambda e, a: e.diagonal(samples=4, seed=-1, **a), RequestError, ["seed=-1"]),
    (lambda e, a: e.diagonal(samples=4, seed=None, **a), RequestError, ["seed=None", "whole number"]),
    (lambda e, a: e.diagonal(samples=4, seed=1.5, **a), RequestError, ["seed=1.5", "whole number"]),
    (lambda e, a: e.diagonal(samples=4, seed=True, **a), RequestError, ["seed=True"]),
    (lambda e, a: e.diagonal(samples="4", **a), RequestError, ["samples='4'"]),
    (lambda e, a: e.diagonal(samples=4, rtol="small", **a), RequestError, ["rtol='small'"]),
    (lambda e, a: e.diagonal(samples=4, exact="yes", **a), RequestError, ["exact='yes'"]),
    (lambda e, a: e.diagonal(samples=4, first_row=-1, **a), RequestError, ["first_row=-1", "2**62"]),
    (lambda e, a: e.stream(samples=4, first_row=-1), RequestError, ["first_row=-1", "2**62"]),
    (lambda e, a: e.diagonal(samples=4, max_samples=2.5, **a), RequestError, ["max_samples=2.5"]),
    (lambda e, a: e.diagonal(4, **a), RequestError, ["mapping", "int", "samples=16"]),
    (lambda e, a: e.diagonal(wrt="W", **a), RequestError, ["'wrt'", "argument of compile"]),
    (lambda e, a: e.value(a, x=a["x"]), RequestError, ["mapping and as a keyword: x"]),
    (lambda e, a: e.value({3: a["x"]}), RequestError, ["3", "int", "not a string"]),
    (lambda e, a: e.block("W", **a), RequestError, ["block('W', ...)", "second leaf", "block('W', 'W')"]),
    (lambda e, a: e.entries([("W", "b")], **a), RequestError, ["entries are pairs"]),
    (lambda e, a: e.entries([(("W", (0.5, 1)), ("b", (0,)))], **a), RequestError, ["W[0.5, 1]"]),
    (lambda e, a: e.hvp(np.ones(15), **a), RequestError, ["directions is a mapping", "ndarray", "{'W': ...}"]),
    (lambda e, a: e.jvp(**a), RequestError, ["directions is a mapping"]),
    (lambda e, a: cp.verify(e, seed=-1), RequestError, ["seed=-1"]),
    (lambda e, a: cp.verify(e, rows=0), RequestError, ["rows=0"]),
    (lambda e, a: cp.verify(u**2), RequestError, ["cp.compile", "Pow"]),
    (lambda e, a: cp.compile(u**2, threads="2"), RequestError, ["threads='2'"]),
    (lambda e, a: cp.compile(u**2, memory_limit="1G"), RequestError, ["memory_limit='1G'", "bytes"]),
    (lambda e, a: e.diagonal(samples=4, rtol=0.0, **a), RequestError, ["rtol=0.0", "positive"]),
    (lambda e, a: e.diagonal(design="latin", **a), RequestError, ["'latin'", "hadamard"]),
    (lambda e, a: e.diagonal(method="magic", **a), RequestError, ["'magic'", "hutchinson"]),
    (lambda e, a: e.block("W", "V", **a), RequestError, ["'V'", "W, b"]),
    (lambda e, a: e.block("W", "x", **a), RequestError, ["'x'", "wrt", "W, b"]),
    (lambda e, a: e.entries([], **a), RequestError, ["no entries"]),
    (lambda e, a: e.entries([(("W", (3, 0)), ("b", (0,)))], **a), RequestError, ["W[3, 0]", "(3, 4)"]),
    (lambda e, a: e.hvp({"q": 1.0}, **a), RequestError, ["'q'", "W, b"]),
    (lambda e, a: e.hvp({"W": np.ones(3)}, **a), ShapeError, ["W", "(3,)", "(3, 4)"]),
    (lambda e, a: e.loaded("nonsense"), RequestError, ["'nonsense'", "diagonal"]),
    (lambda e, a: cp.compile("x**2"), RequestError, ["str", "SymPy expression"]),
    (lambda e, a: cp.compile(u**2, real="float16"), RequestError, ["'float16'", "float32"]),
    (lambda e, a: cp.compile(u**2, backend="fast"), RequestError, ["'fast'", "interpreter"]),
    (lambda e, a: cp.compile(u**2, threads=0), RequestError, ["threads=0"]),
    (lambda e, a: cp.compile(u**2, wrt=[]), RequestError, ["wrt is empty"]),
    (lambda e, a: cp.compile(u**2, wrt=[u, u]), RequestError, ["twice", "u"]),
    (lambda e, a: cp.compile(u**2, wrt=[v]), ModelError, ["v", "not in the expression", "u"]),
    (lambda e, a: cp.compile(u**2, programs=["hess"]), RequestError, ["'hess'", "hessian"]),
    (lambda e, a: cp.compile(sp.Symbol("x'") ** 2), ModelError, ["x'", "identifier"]),
    (lambda e, a: cp.compile(u * sp.Symbol("u", real=True)), ModelError, ["two symbols u", "real", "each symbol once"]),
    (lambda e, a: cp.compile(sp.IndexedBase("A")[1] ** 2), ModelError, ["A[1]", "IndexedBase"]),
    (lambda e, a: cp.compile(sp.MatrixSymbol("X", 2, 2)[0, 0] ** 2), ModelError, ["X", "matrix", "as_explicit"]),
    (lambda e, a: cp.compile(sp.Determinant(sp.MatrixSymbol("X", 2, 2))), ModelError, ["X", "matrix"]),
    (lambda e, a: cp.compile(sp.Function("q")(u) ** 2), ModelError, ["q(u)", "expr.subs("]),
    (lambda e, a: cp.compile(sp.Function("q")(u).diff(u) ** 2), ModelError, ["Derivative(q(u), u)", "expr.subs("]),
    (lambda e, a: cp.compile(sp.Matrix([u])), RequestError, ["DenseMatrix", "SymPy expression"]),
    (lambda e, a: cp.compile(u**2, wrt=[3.5]), RequestError, ["wrt=3.5", "names, symbols or variables"]),
    (lambda e, a: cp.compile(sp.airyai(u)), UnsupportedError, ["airyai"]),
    (lambda e, a: cp.compile(sp.Integer(3)), RequestError, ["wrt is empty"]),
]


@pytest.mark.parametrize("case", REQUESTS, ids=label)
def test_requests(
    case: tuple[Callable[[cp.Estimator, dict[str, Any]], Any], type[CpgenError], list[str]],
) -> None:
    wrong, kind, words = case
    with pytest.raises(kind) as caught:
        wrong(*toy())
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_memory_is_refused_before_it_is_taken(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty thousand million columns: had the need not been predicted, this would not return."""
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path))
    s = Setting()
    z = s.m.define("z", (s.n, s.h), sp.tanh(s.a[s.n, s.h] + s.b[s.h]))
    s.m.objective(sp.tanh(cp.sum(z[s.n, s.h] * s.b[s.h], s.h) * s.y[s.n]))
    est = cp.compile(s.m, backend=backend, programs=())
    arrays = toy()[1]
    if backend == "interpreter":
        wanted = {"samples": 40_000_000_000}
        with pytest.raises(BudgetError) as caught:
            est.sketch(**wanted, **arrays)
        for word in ("sketch", "5 rows", "40000000000 columns", "at a time would fit", "memory_limit"):
            assert word in str(caught.value)
    est = cp.compile(s.m, backend=backend, programs=(), memory_limit=500)
    with pytest.raises(BudgetError) as caught:
        est.diagonal(samples=2, exact=False, method="s", **arrays)
    for word in ("diagonal_s needs", "5 rows and 2 columns", "500 bytes are allowed", "memory_limit"):
        assert word in str(caught.value)


def test_a_hessian_that_does_not_fit_is_refused() -> None:
    """A million parameters: the matrix alone would take 8 TB."""
    m = cp.Model("large")
    i = m.axis("i", 1_000_000)
    w = m.param("w", i)
    m.objective(sp.exp(cp.sum(w[i], i)))
    est = cp.compile(m, backend="interpreter", programs=())
    with pytest.raises(BudgetError, match=r"hessian needs \d+ TB .* or for single blocks or entries"):
        est.hessian(w=np.zeros(1_000_000))


def test_a_whole_hessian_keeps_to_a_small_limit() -> None:
    """1,000 parameters: a block of 8 MB, which is less than is always allowed where no limit is given."""
    m = cp.Model("middling")
    i = m.axis("i", 1000)
    w = m.param("w", i)
    m.objective(sp.exp(cp.sum(w[i], i)))
    est = cp.compile(m, backend="interpreter", programs=(), memory_limit=3 << 20)
    with pytest.raises(BudgetError, match="or for single blocks or entries"):
        est.hessian(w=np.zeros(1000))


def test_results_out_of_range_are_not_returned() -> None:
    est = cp.compile(sp.log(u) + u**4, backend="interpreter", programs=())
    with pytest.raises(CpgenError, match="u.*log of a negative number"):
        est.diagonal(u=0.0)


@pytest.mark.parametrize("where", ["definition", "objective"])
def test_what_is_nested_too_deeply_for_one_definition_is_refused(where: str) -> None:
    m = cp.Model("deep")
    n = m.axis("n", cp.ROWS)
    x = m.input("x", n)[n]
    f = x
    for _ in range(600):
        f = sp.sin(f) + x
    with pytest.raises(ModelError, match="nested 1202 levels deep.*define parts of it") as caught:
        m.objective(f) if where == "objective" else m.define("f", (n,), f)
    assert "test_errors.py" in str(caught.value)
