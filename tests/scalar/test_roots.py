"""Roots of small symmetric matrices, in NumPy and in C: P P^T - Q Q^T = M, with nearly the least P P^T + Q Q^T."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from numpy.typing import NDArray

from cpgen.code.printer import expression
from cpgen.code.tree import Call, Element, Expression, Name, number
from cpgen.scalar import LARGEST_ROOT, computed_together, eigenroot, placeholder, to_c, to_numpy
from tests.scalar.test_runtime_header import RUNTIME, STRICT

Array = NDArray[Any]
SIZES = range(2, LARGEST_ROOT + 1)
COUNT = 60


def matrices(k: int, real: str) -> Array:
    """``m[e, i, j]``: random ones of many magnitudes, then delicate ones."""
    rng = np.random.default_rng(k)
    span = 100 if real == "float64" else 12
    raw = rng.normal(size=(COUNT, k, k)) * 10.0 ** rng.uniform(-span, span, size=(COUNT, 1, 1))
    vector = rng.normal(size=k)
    delicate = [
        np.zeros((k, k)),
        np.eye(k),
        -3.0 * np.eye(k),
        np.ones((k, k)),
        1.0 - np.eye(k),
        np.outer(vector, vector),
        np.eye(k) + 1e-9 * (1.0 - np.eye(k)),
        np.diag(np.arange(k) - 1.0),
        np.eye(k)[::-1] * 1e-3,
    ]
    return np.array([*(raw + raw.transpose(0, 2, 1)), *delicate]).astype(real)


def upper(m: Array) -> list[Array]:
    k = m.shape[-1]
    return [np.ascontiguousarray(m[:, i, j]) for i in range(k) for j in range(i, k)]


def symbols(k: int) -> list[sympy.Symbol]:
    return [placeholder(n) for n in range(k * (k + 1) // 2)]


def by_numpy(m: Array) -> tuple[Array, Array]:
    k = m.shape[-1]
    given = symbols(k)
    numbers = [to_numpy([eigenroot(k, n, *given)], given)(*upper(m))[0] for n in range(2 * k * k)]
    p, q = np.array(numbers).reshape(2, k, k, len(m))
    return np.moveaxis(p, -1, 0), np.moveaxis(q, -1, 0)


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("k", SIZES)
def test_roots_multiply_out_and_take_the_least(k: int, real: str) -> None:
    m = matrices(k, real)
    p, q = by_numpy(m)
    assert p.dtype == real and np.isfinite(p).all() and np.isfinite(q).all()
    p, q, m = p.astype(np.longdouble), q.astype(np.longdouble), m.astype(np.longdouble)
    size = np.maximum(np.abs(m).max(axis=(1, 2)), np.finfo(real).tiny)
    unit = np.finfo(real).eps
    product = np.einsum("eia,eja->eij", p, p) - np.einsum("eia,eja->eij", q, q)
    assert float((np.abs(product - m).max(axis=(1, 2)) / size).max()) < 10 * k * unit
    absolute = (p**2 + q**2).sum(axis=(1, 2)) / size
    least = np.abs(np.linalg.eigvalsh((m / size[:, None, None]).astype(float))).sum(axis=1)
    # one rotation is enough for two, and two sweeps come near enough for more
    assert (absolute <= least * (1 + 20 * unit if k == 2 else 1.2) + unit).all()
    assert absolute.sum() <= least.sum() * (1 + 20 * unit if k == 2 else 1.01)
    one_sided = np.minimum(np.abs(p).max(axis=1), np.abs(q).max(axis=1)) / np.sqrt(size)[:, None]
    assert k > 2 or float(one_sided.max()) < 10 * unit


def test_what_is_not_finite_stays_so() -> None:
    for bad in (np.nan, np.inf):
        m = np.ones((1, 3, 3))
        m[0, 0, 1] = m[0, 1, 0] = bad
        assert all(not np.isfinite(part).all() for part in by_numpy(m))


def test_numbers_of_one_matrix_are_computed_together() -> None:
    given = symbols(2)
    first, second = eigenroot(2, 0, *given), eigenroot(2, 5, *given)
    assert computed_together(first, second)
    assert not computed_together(first, eigenroot(2, 5, *given[::-1]))
    assert not computed_together(first, given[0] + 1)
    made: dict[Call, Name] = {}
    names: dict[sympy.Symbol, Expression] = {s: Element(Name("m"), number(n)) for n, s in enumerate(given)}

    def share(kind: str, call: Call) -> Name:
        return made.setdefault(call, Name(f"{kind}_{len(made)}"))

    texts = [expression(to_c([e], names, share=share).results[0]) for e in (first, second)]
    assert [expression(call) for call in made] == ["cpgen_eigenroot2_f64(m[0], m[1], m[2])"]
    assert texts == ["cpgen_eigenroot2_f64_t_0.at[0]", "cpgen_eigenroot2_f64_t_0.at[5]"]
    # an argument that is computed first has a temporary of its own, which another member cannot read
    assert not share_calls(eigenroot(2, 0, given[0] * given[1], given[1], given[2]), names)


def share_calls(expr: sympy.Expr, names: dict[sympy.Symbol, Expression]) -> list[Call]:
    calls: list[Call] = []

    def share(kind: str, call: Call) -> Name:
        calls.append(call)
        return Name("all")

    to_c([expr], names, share=share)
    return calls


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("real", ["float64", "float32"])
def test_c_has_the_numbers_of_numpy(real: str, tmp_path: Path) -> None:
    """Strictly compiled, with the vector unit: the same bits, as nothing but +, -, *, / and roots is in it."""
    c_type, suffix = ("double", "f64") if real == "float64" else ("float", "f32")
    lines = ['#include "cpgen_scalar.h"']
    for k in SIZES:
        arguments = ", ".join(f"m[{n} * count + e]" for n in range(k * (k + 1) // 2))
        head = f"void root{k}(int count, const {c_type} *restrict m, {c_type} *restrict out)"
        name = f"cpgen_eigenroot{k}_{suffix}"
        stores = " ".join(f"out[{n} * count + e] = all.at[{n}];" for n in range(2 * k * k))
        loop = f"for (e = 0; e < count; ++e) {{ const {name}_t all = {name}({arguments}); {stores} }}"
        lines.append(f"{head};\n{head} {{ int e; {loop} }}")
    (tmp_path / "roots.c").write_text("\n".join(lines) + "\n")
    command = ["gcc", *STRICT, "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
    command += ["-shared", "-fPIC", f"-I{RUNTIME}", str(tmp_path / "roots.c"), "-o", str(tmp_path / "roots.so")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(tmp_path / "roots.so"))
    for k in SIZES:
        m = matrices(k, real)
        given, found = np.array(upper(m)), np.empty((2 * k * k, len(m)), real)
        getattr(library, f"root{k}")(len(m), given.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p))
        p, q = (np.moveaxis(part, 0, -1).reshape(k * k, len(m)) for part in by_numpy(m))
        np.testing.assert_array_equal(found, np.concatenate([p, q]))
