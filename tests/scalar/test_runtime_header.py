"""The runtime header as C: warnings, vectorisation, and one result whatever the optimisation."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cpgen.scalar import PRIMITIVES

RUNTIME = Path(__file__).resolve().parents[2] / "templates" / "runtime"
HEADER = (RUNTIME / "cpgen_scalar.h").read_text()
STRICT = [
    "-std=c99",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wdouble-promotion",
    "-Wundef",
    "-Werror",
]
SIMPLE = [
    "exp",
    "expm1",
    "log",
    "log1p",
    "tanh",
    "sigmoid",
    "softplus",
    "logcosh",
    "sech",
    "sech2",
    "silu",
    *"sin_moderate cos_moderate tan_moderate".split(),
    *"asin acos atan sinh cosh asinh acosh atanh erf erfc normcdf gelu sqrt".split(),
    "relu",
    "step",
    "sign0",
    "floor",
    "rint",
    "significand",
    "exponent",
]
REALS = (("double", "f64"), ("float", "f32"))

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


def _loops():
    lines = ['#include "cpgen_scalar.h"']
    for name in SIMPLE:
        for c_type, suffix in REALS:
            head = f"void {name}_{suffix}(int n, const {c_type} *restrict x, {c_type} *restrict y)"
            body = f"for (i = 0; i < n; ++i) {{ y[i] = cpgen_{name}_{suffix}(x[i]); }}"
            lines.append(f"{head};\n{head} {{ int i; {body} }}")
    return "\n".join(lines) + "\n"


def _compile(folder, *options):
    (folder / "loops.c").write_text(_loops())
    library = folder / "loops.so"
    command = ["gcc", *STRICT, "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", *options]
    command += ["-shared", "-fPIC", f"-I{RUNTIME}", str(folder / "loops.c"), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library, done.stderr


def test_every_helper_of_the_table_is_defined():
    for entry in PRIMITIVES:
        for name in (entry.c_name("float64"), entry.c_name("float32")):
            assert f" {name}(" in HEADER or not name.startswith("cpgen_")


def test_float_functions_use_no_double():
    for body in re.findall(r"_f32\([^)]*\)\n\{.*?\n\}", HEADER, re.S):
        assert "double" not in body and not re.search(r"\b\d+\.\d+(?!\d|f)", body), body


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the vector options are those of x86-64")
def test_simple_functions_vectorise(tmp_path):
    _, report = _compile(tmp_path, "-O3", "-mavx2", "-fopt-info-vec-optimized")
    lines = {int(line) for line in re.findall(r"loops\.c:(\d+):\d+: optimized: loop vectorized", report)}
    assert len(lines) == 2 * len(SIMPLE)


def test_optimisation_does_not_change_bits(tmp_path):
    results = []
    for option in ("-O0", "-O3"):
        folder = tmp_path / option
        folder.mkdir()
        library = ctypes.CDLL(str(_compile(folder, option)[0]))
        values = []
        for name in SIMPLE:
            for (_, suffix), dtype in zip(REALS, (np.float64, np.float32), strict=True):
                rng = np.random.default_rng(11)
                x = np.concatenate([rng.normal(size=1000) * 30, [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(
                    dtype
                )
                y = np.empty_like(x)
                address = (ctypes.c_void_p(a.ctypes.data) for a in (x, y))
                getattr(library, f"{name}_{suffix}")(ctypes.c_int(x.size), *address)
                values.append(np.nan_to_num(y, nan=123.0).tobytes())
        results.append(values)
    assert results[0] == results[1]


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_moderate_functions_have_the_bits_of_the_whole_ones(real, tmp_path):
    c_type, suffix, end = {"float64": ("double", "f64", 1e6), "float32": ("float", "f32", 1e4)}[real]
    lines = ['#include "cpgen_scalar.h"']
    for name in ("sin", "cos", "tan"):
        for kind in ("", "_moderate"):
            head = f"void {name}{kind}(long n, const {c_type} *x, {c_type} *y)"
            lines.append(f"{head} {{ for (long i = 0; i < n; ++i) y[i] = cpgen_{name}{kind}_{suffix}(x[i]); }}")
    (tmp_path / "turns.c").write_text("\n".join(lines))
    options = ["-std=c99", "-O2", "-shared", "-fPIC", "-ffp-contract=off", f"-I{RUNTIME}"]
    subprocess.run(["gcc", *options, "turns.c", "-o", "turns.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "turns.so"))
    x = np.array([0.0, -0.0, end, -end, *np.random.default_rng(3).uniform(-end, end, 500)], real)
    number = np.dtype(real).type
    far = np.array([np.nextafter(number(end), number(np.inf)), np.finfo(real).max], real)
    for name in ("sin", "cos", "tan"):
        results = {}
        for kind, args in (("", x), ("_moderate", x), ("_far", far), ("_moderate_far", far)):
            y = np.empty_like(args)
            function = getattr(library, name + kind.replace("_far", ""))
            function(ctypes.c_long(args.size), *(ctypes.c_void_p(a.ctypes.data) for a in (args, y)))
            results[kind] = y
        assert results[""].tobytes() == results["_moderate"].tobytes()
        assert np.isfinite(results["_far"]).all() and np.isnan(results["_moderate_far"]).all()


def test_nothing_of_the_c_library_is_called(tmp_path):
    """Every function of the header, taken by its address: the object asks for no symbol."""
    assert "math.h>" not in HEADER
    names = re.findall(r"^static inline (?:double|float) (cpgen_\w+)\(", HEADER, re.M)
    assert len(names) > 100
    table = ",\n".join(f"(void (*)(void))&{name}" for name in names)
    (tmp_path / "all.c").write_text(
        f'#include "cpgen_scalar.h"\nextern void (*const all[])(void);\nvoid (*const all[])(void) = {{{table}}};\n'
    )
    for options in (["-O0"], ["-O2"], ["-O2", "-fno-math-errno"]):
        command = ["gcc", "-std=c99", *options, f"-I{RUNTIME}", "-c", "all.c", "-o", "all.o"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert not subprocess.run(["nm", "-u", "all.o"], cwd=tmp_path, capture_output=True, text=True).stdout


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_special_values_are_those_of_the_c_library(real, tmp_path):
    """Zeros with their signs, infinities, NaN, ends of domains, smallest and largest numbers, against math.h."""
    c_type, f, suffix = {"float64": ("double", "", "f64"), "float32": ("float", "f", "f32")}[real]
    one = "exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc sqrt".split()
    two = "pow atan2 hypot".split()
    lines = ['#include "cpgen_scalar.h"', "#include <math.h>"]
    for name in (*one, *two):
        xs, calls = ("x", "x[i]") if name in one else ("x, const T *z", "x[i], z[i]")
        for kind, called in (("own", f"cpgen_{name}_{suffix}"), ("lib", f"{name}{f}")):
            head = f"void {kind}_{name}(long n, T *y, const T *{xs})"
            lines.append(f"{head} {{ for (long i = 0; i < n; ++i) {{ y[i] = {called}({calls}); }} }}")
    (tmp_path / "special.c").write_text("\n".join(lines).replace("T *", f"{c_type} *"))
    options = ["-std=c99", "-O2", "-shared", "-fPIC", "-ffp-contract=off", f"-I{RUNTIME}"]
    subprocess.run(["gcc", *options, "special.c", "-o", "special.so", "-lm"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "special.so"))
    info = np.finfo(real)
    sizes = [0.0, info.smallest_subnormal, info.tiny, 0.5, 1.0, 2.0, 3.0, 1e5, info.max, np.inf]
    special = np.array([*sizes, *(-s for s in sizes), np.nan], real)
    pairs = [np.ascontiguousarray(g.ravel()) for g in np.meshgrid(special, special)]
    for name in (*one, *two):
        arguments = [special] if name in one else pairs
        own, lib = np.empty_like(arguments[0]), np.empty_like(arguments[0])
        for kind, out in (("own", own), ("lib", lib)):
            addresses = (ctypes.c_void_p(a.ctypes.data) for a in (out, *arguments))
            getattr(library, f"{kind}_{name}")(ctypes.c_long(out.size), *addresses)
        plain = np.isfinite(lib) & (lib != 0.0)
        np.testing.assert_array_equal(own[~plain], lib[~plain], err_msg=name)
        np.testing.assert_array_equal(np.signbit(own)[lib == 0.0], np.signbit(lib)[lib == 0.0], err_msg=name)
        np.testing.assert_allclose(own[plain], lib[plain], rtol=5.0 * info.eps, atol=info.smallest_subnormal)
