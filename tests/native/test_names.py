"""Any name can be a variable's: whatever it means to C, to its headers, to Python or to cpgen itself."""

from __future__ import annotations

import keyword
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from cffi.commontypes import COMMON_TYPES

import cpgen as cp
from cpgen.code.identifiers import identifier
from cpgen.model.names import SCALES

TEMPLATES = Path(cp.__file__).parents[1] / "templates"
HEADERS = ("stddef", "stdint", "math", "stdio", "string", "stdlib", "limits", "float")
# arguments of methods, prefixes of inputs and outputs, and what stands beside them in the generated structures
OWN = """n samples seed rows design out what method exact rtol max_samples first_row directions wanted pairs program
    programs self estimator arrays named value trace jvp kinks columns args work out_weight v_proj v_w dir_w diag_w
    var_diag_w grad_w hvp_w block_w_w entry_0 p_w q_w column_w cpgen_tanh_f64 row_scale_2 w_2 w_at w_tile k""".split()


def usable(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z](?:_?[A-Za-z0-9])*", name)) and len(name) <= 63 and name not in SCALES


def macros() -> list[str]:
    """What the headers of this machine's C library define as macros."""
    text = "".join(f"#include <{header}.h>\n" for header in HEADERS)
    done = subprocess.run(["cc", "-std=gnu11", "-E", "-dM", "-"], input=text, capture_output=True, text=True, check=True)
    return re.findall(r"^#define ([A-Za-z]\w*)", done.stdout, re.MULTILINE)


def words() -> list[str]:
    """Every word of the templates, with the lists above."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.rglob("*.[ch]*"))]
    found = {word for text in texts for word in re.findall(r"\b[A-Za-z]\w*", re.sub(r"/\*.*?\*/", "", text, flags=re.S))}
    return sorted(filter(usable, found | {*COMMON_TYPES, *keyword.kwlist, *OWN, *macros()}))


def model(names: list[str]) -> tuple[cp.Model, dict[str, np.ndarray]]:
    m = cp.Model("names")
    n, k = m.axis("n", cp.ROWS), m.axis("k", 2)
    w = m.param("w", k)
    terms = []
    for number, name in enumerate(names):
        read = m.input(name, n)[n] if number % 2 else m.param(name, k)[k]
        terms.append(read if number % 2 else cp.sum(w[k] * read, k))
    pairs = [sp.sin(a) * b for a, b in zip(terms, terms[1:] + terms[:1], strict=True)]
    m.objective(sp.Add(*pairs))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=3 if number % 2 else 2) for number, name in enumerate(names)}
    return m, {**arrays, "w": rng.normal(size=2)}


def expected(names: list[str], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Values by row, in NumPy."""
    terms = [arrays[x] if k % 2 else np.full(3, arrays["w"] @ arrays[x]) for k, x in enumerate(names)]
    return np.asarray(sum(np.sin(a) * b for a, b in zip(terms, terms[1:] + terms[:1], strict=True)))


@pytest.mark.skipif(shutil.which("cc") is None, reason="asks the C compiler for macros")
def test_no_macro_of_a_header_is_an_identifier() -> None:
    assert {name for name in macros() if usable(name) and identifier(name) == name} - {"linux", "unix"} == set()


@pytest.mark.skipif(shutil.which("cc") is None, reason="asks the C compiler for macros")
@pytest.mark.parametrize("part", range(4))
def test_every_word_of_c_and_of_the_templates_is_free(part: int) -> None:
    names = [name for name in words()[part::4] if name != "w"]
    names = names[: len(names) // 2 * 2]
    m, arrays = model(names)
    est = cp.compile(m, wrt=["w"], backend="native", programs=("value",))
    np.testing.assert_allclose(est.rows(arrays), expected(names, arrays), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("backend", [pytest.param("native", marks=pytest.mark.slow), "interpreter"])
def test_every_method_takes_the_names_of_its_own_arguments(backend: str) -> None:
    names = [name for name in OWN if usable(name) and name != "k"]
    names = names[: len(names) // 2 * 2]
    m, arrays = model(names)
    est = cp.compile(m, wrt=["w", "out_weight", "v_proj"], backend=backend, programs=())
    plain_names = [f"plain{number}" for number in range(len(names))]
    plain_model, _ = model(plain_names)
    leaves = {"w": "w", **dict(zip(names, plain_names, strict=True))}
    plain = cp.compile(plain_model, wrt=[leaves[v.name] for v in est.wrt], backend="interpreter", programs=())
    given = {leaves[name]: array for name, array in arrays.items()}

    def same(found: dict, wanted: dict) -> None:
        for name in ("w", "out_weight", "v_proj"):
            np.testing.assert_allclose(np.asarray(found[name]), np.asarray(wanted[leaves[name]]), rtol=1e-9, atol=1e-10)

    vector = {"w": np.ones(2)}
    same(est.gradient(arrays), plain.gradient(given))
    same(est.value_and_gradient(arrays)[1], plain.value_and_gradient(given)[1])
    same(est.hvp(vector, arrays), plain.hvp(vector, given))
    np.testing.assert_allclose(est.jvp(vector, arrays), plain.jvp(vector, given), rtol=1e-9)
    same(est.diagonal(arrays, exact=True), plain.diagonal(given, exact=True))
    same(est.value_gradient_and_diagonal(arrays, exact=True)[2], plain.diagonal(given, exact=True))
    np.testing.assert_allclose(est.hessian(arrays).blocks["w", "w"], plain.hessian(given).blocks["w", "w"], rtol=1e-9)
    wanted = [(("w", (0,)), ("w", (1,)))]
    exact = plain.block("w", "w", given, exact=True).value
    np.testing.assert_allclose(est.block("w", "w", arrays, exact=True).value, exact, rtol=1e-9)
    np.testing.assert_allclose(est.entries(wanted, arrays, exact=True)[0].value, exact[0, 1], rtol=1e-9)
    np.testing.assert_allclose(est.bind("gradient", arrays)()["w"], plain.gradient(given)["w"], rtol=1e-9)
    probes = est.diagonal(arrays, samples=2, method="hutchinson_plain")["w"]
    assert np.isfinite(probes.value).all() and probes.samples == 2
    assert est.sketch(arrays, samples=2).p["w"].shape == (2, 2)


def test_leaves_whose_names_joined_are_alike_have_their_own_blocks() -> None:
    a, b_c, a_b, c = symbols = sp.symbols("a b_c a_b c")
    est = cp.compile(a * b_c + 5 * a_b * c, wrt=symbols, programs=())
    point = {str(s): 1.0 for s in symbols}
    for method in ("cp", "directions"):
        matrix = est.hessian(point, method=method).matrix()
        assert matrix.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 5], [0, 0, 5, 0]]
    assert est.block("a_b", "c", point, exact=True).value == 5


def test_an_element_is_no_variable_of_a_similar_name() -> None:
    """``W[1]`` and ``W_1`` are two things to the symbolic reference as well."""
    m = cp.Model("alike")
    i = m.axis("i", 2)
    big, small = m.param("W", i), m.param("W_1")
    m.objective(cp.sum(big[i] ** 2, i) + small**3)
    found = cp.verify(cp.compile(m, backend="interpreter"), reference="symbolic")
    assert found.ok, str(found)


def test_an_axis_may_have_the_name_of_a_variable() -> None:
    m = cp.Model("shared")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, count = m.input("i", n, i), m.input("n", n)
    m.define("h", n, cp.sum(x[n, i] ** 2, i) * count[n])
    h = m.axis("h", 2)
    w = m.param("w", h)
    m.objective(cp.sum(w[h] ** 2, h) * m.define("z", n, count[n] * 2)[n] + cp.sum(x[n, i] ** 3, i))
    est = cp.compile(m, wrt=["w", "i"])
    assert est.value({"i": np.ones((1, 3)), "n": [2], "w": [1, 2]}) == 23
    n, k = sp.symbols("n k")
    assert cp.compile(n**2 * k, wrt=n).value(n=3, k=2) == 18
