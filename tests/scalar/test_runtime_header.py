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
    "silu",
    "relu",
    "step",
    "sign0",
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
        for text in (entry.c64, entry.c32):
            for name in re.findall(r"cpgen_\w+", text):
                assert f" {name}(" in HEADER


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
