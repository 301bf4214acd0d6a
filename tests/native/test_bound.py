"""Calls on fixed arrays: the bits of an ordinary call, the arrays themselves, and what is refused."""

from __future__ import annotations

import gc
import sys
import sysconfig
import weakref
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.ir.call import Call
from cpgen.native import NativeProgram, build
from cpgen.native.fastcall import bound_call_type
from cpgen.native.module import NativeCall

needs_headers = pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").is_file(), reason="Python's headers are not installed"
)


def estimator(real: str = "float64", backend: str = "auto") -> cp.Estimator:
    m = cp.Model("small")
    n, i, h = m.axes("n i h", n=cp.ROWS, i=3, h=5)
    x, weight = m.input("x", n, i), m.param("W", h, i)
    z = m.define("z", (n, h), sp.tanh(cp.sum(weight[h, i] * x[n, i], i)))
    m.objective(cp.sum(z[n, h] ** 2, h))
    return cp.compile(m, wrt=["W"], real=real, backend=backend, programs=())


def arrays(rows: int, real: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    return {"x": rng.normal(size=(rows, 3)).astype(real), "W": rng.normal(size=(5, 3)).astype(real)}


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("rows", [1, 40])
def test_bits_of_ordinary_calls(real: str, rows: int) -> None:
    est, given = estimator(real), arrays(rows, real)
    names = ("gradient", "diagonal", "value", "trace")
    gradient, diagonal, value, trace = (est.bind(what, **given) for what in names)
    for _ in range(2):
        assert gradient()["W"].tobytes() == est.gradient(**given)["W"].tobytes()
        assert diagonal()["W"].tobytes() == est.diagonal(exact=True, **given)["W"].value.tobytes()
        assert float(value()["value"]) == est.value(**given)
        assert trace()["trace"].tobytes() == est.trace(exact=True, **given).value.tobytes()
        given["W"][...] *= 0.5  # seen by the next call


@pytest.mark.parametrize("backend", ["auto", "interpreter"])
@pytest.mark.parametrize("rows", [1, 40])
def test_hessian_of_few_variables(backend: str, rows: int) -> None:
    """Against SymPy's symbolic Hessian; two leaves, one with an axis."""
    m = cp.Model("few")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, y = m.input("x", n, i), m.input("y", n)
    m.objective(sp.sin(x[n, 0] * x[n, 2]) * sp.exp(x[n, 1]) + x[n, 1] ** 3 * y[n] ** 2)
    est = cp.compile(m, wrt=["x", "y"], backend=backend, programs=())
    rng = np.random.default_rng(4)
    given = {"x": rng.normal(size=(rows, 3)), "y": rng.normal(size=rows)}
    call = est.bind("hessian", **given)
    for _ in range(2):
        found = call()
        s = sp.symbols("a:4")
        symbolic = sp.hessian(sp.sin(s[0] * s[2]) * sp.exp(s[1]) + s[1] ** 3 * s[3] ** 2, s)
        points = np.column_stack([given["x"], given["y"]])
        expected = np.array([sp.lambdify(s, symbolic, "numpy")(*point) for point in points])
        np.testing.assert_allclose(found["x"], expected[:, :, :3], rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(found["y"], expected[:, :, 3], rtol=1e-13, atol=1e-13)
        given["x"][...] *= 0.5  # seen by the next call


def test_a_large_hessian_is_not_bound() -> None:
    with pytest.raises(RequestError, match="too large to be written out"):
        estimator().bind("hessian", **arrays(4))


def test_interpreter() -> None:
    est, given = estimator(backend="interpreter"), arrays(4)
    call = est.bind("gradient", **given)
    assert call()["W"].tobytes() == est.gradient(**given)["W"].tobytes()


def test_outputs_of_the_caller() -> None:
    est, given = estimator(), arrays(4)
    mine = np.zeros((5, 3))
    assert est.bind("gradient", out={"W": mine}, **given)()["W"] is mine
    assert np.array_equal(mine, est.gradient(**given)["W"])


def test_refusals() -> None:
    est, given = estimator(), arrays(4)
    with pytest.raises(RequestError, match="only value, gradient, diagonal"):
        est.bind("sketch", **given)
    with pytest.raises(DataError, match="W would have to be copied"):
        est.bind("gradient", x=given["x"], W=given["W"].astype(np.float32))
    with pytest.raises(DataError, match="x would have to be copied"):
        est.bind("gradient", x=given["x"].tolist(), W=given["W"])
    with pytest.raises(ShapeError, match="expected \\(5, 3\\)"):
        est.bind("gradient", out={"W": np.zeros(3)}, **given)
    with pytest.raises(DataError, match="dtype float64"):
        est.bind("gradient", out={"W": np.zeros((5, 3), np.float32)}, **given)
    with pytest.raises(RequestError, match="out has V"):
        est.bind("gradient", out={"V": np.zeros(3)}, **given)


def bound_program() -> tuple[NativeProgram, NativeCall]:
    est, given = estimator(), arrays(1)
    native = build("bound", [est.loaded("gradient").program])["gradient"]
    return native, native.bind({v.name: given[v.name] for v in est.graph.variables}, Call(rows=1))


@needs_headers
@pytest.mark.parametrize("rows", [1, 40])
def test_binding_again_makes_no_text(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    est, given = estimator(), arrays(rows)
    first = est.bind("gradient", **given)()["W"].copy()

    def never(*args: object, **options: object) -> None:
        raise AssertionError("emitted again")

    monkeypatch.setattr("cpgen.native.module.emit_c", never)
    other = arrays(rows)
    assert est.bind("gradient", **other)()["W"].tobytes() == first.tobytes()


def test_takes_no_arguments() -> None:
    call = estimator().bind("gradient", **arrays(1))
    for refused in (lambda: call(1), lambda: call(x=1)):  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="no arguments"):
            refused()


@needs_headers
@pytest.mark.parametrize("brief", [False, True])
def test_a_status_is_raised_by_the_program(brief: bool) -> None:
    made = bound_call_type()
    assert made is not None
    native, _ = bound_program()
    ffi = cffi.FFI()

    @ffi.callback("int32_t(void *, void *, size_t)")
    def run(args: object, work: object, size: int) -> int:
        seen.append(size)
        return status

    seen: list[int] = []
    place = int(ffi.cast("intptr_t", run))
    call = made(place, 0, 0, 17, brief, "the answer", run, native.refuse)
    status = 0
    assert call() == call.out == "the answer"
    status = 2
    with pytest.raises(RequestError, match="gradient refused its arguments"):
        call()
    assert seen == [17, 17]


@needs_headers
def test_bound_calls_are_released() -> None:
    native, call = bound_program()
    made = type(call)

    class Watched(dict[str, object]):
        """A dictionary that a weak reference may point to."""

    def bound(out: dict[str, object]) -> Any:
        return made(0, 0, 0, 0, True, out, native, native.refuse)

    plain = Watched()
    before = sys.getrefcount(plain), sys.getrefcount(native)
    for _ in range(1000):
        bound(plain)
    assert (sys.getrefcount(plain), sys.getrefcount(native)) == before
    for _ in range(1000):
        call()
    assert sys.getrefcount(call.out) < 10
    cycle = Watched()
    cycle["itself"] = bound(cycle)  # only the garbage collector can find this
    gone = weakref.ref(cycle)
    del cycle
    assert gone() is not None
    gc.collect()
    assert gone() is None


@needs_headers
def test_without_the_headers_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fast = bound_program()
    monkeypatch.setattr("cpgen.native.module.bound_call_type", lambda: None)
    _, slow = bound_program()
    assert type(fast) is not type(slow)
    assert slow() is slow.out
    assert all(value.tobytes() == fast()[name].tobytes() for name, value in slow().items())


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_results_that_share_memory_are_refused(backend: str) -> None:
    """Gradients by u and v are 2u and 3: in one memory the second would overwrite the first."""
    u, v = sp.symbols("u v")
    est = cp.compile(u**2 + 3 * v, wrt=[u, v], backend=backend, programs=())
    given = {"u": np.arange(4.0), "v": np.ones(4)}
    memory = np.zeros(6)
    for out in ({"u": memory[:4], "v": memory[2:]}, {"u": memory[:4], "v": memory[:4]}, dict.fromkeys("uv", memory[:4])):
        with pytest.raises(cp.CpgenError, match="memory"):
            est.bind("gradient", given, out=out)
    with pytest.raises(cp.CpgenError, match=r"out\['v'\] shares memory with u"):
        est.bind("gradient", given, out={"v": given["u"]})
    with pytest.raises(cp.CpgenError, match="plain arrays of NumPy"):
        est.bind("gradient", given, out={"u": np.ma.zeros(4)})
    apart = np.zeros(8)
    found = est.bind("gradient", given, out={"u": apart[:4], "v": apart[4:]})()
    assert np.array_equal(found["u"], 2 * given["u"]) and np.array_equal(apart[4:], np.full(4, 3.0))
