"""Compile generated scalar C and call it on arrays."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cpgen.code.printer import expression
from cpgen.code.tree import Element, Name, number
from cpgen.scalar import to_c

RUNTIME = Path(__file__).resolve().parents[2] / "templates" / "runtime"
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
SPEED = ["-O2", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]


def source(exprs, symbols, real):
    """A C function ``evaluate(n, in, out)`` over struct-of-arrays inputs and outputs."""
    c_type = {"float64": "double", "float32": "float"}[real]
    given = {s: Element(Element(Name("in"), number(k)), Name("i")) for k, s in enumerate(symbols)}
    code = to_c(exprs, given, real, "t{}".format, "model_")
    lines = ["#include <math.h>", '#include "cpgen_scalar.h"', *code.definitions]
    lines += [f"void evaluate(int n, const {c_type} *const *in, {c_type} *const *out);"]
    lines += [f"void evaluate(int n, const {c_type} *const *in, {c_type} *const *out)", "{", "    int i;"]
    lines += ["    (void)in;", "    for (i = 0; i < n; ++i)", "    {"]
    lines += [f"        const {c_type} {name} = {expression(tree)};" for name, tree in code.lets]
    lines += [f"        out[{k}][i] = {expression(tree)};" for k, tree in enumerate(code.results)]
    return "\n".join([*lines, "    }", "}", ""])


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    """``native(exprs, symbols, real)(*arrays) -> arrays`` through gcc with every warning an error."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("scalar")

    def build(exprs, symbols, real="float64"):
        text = source(exprs, symbols, real)
        stem = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        stem.with_suffix(".c").write_text(text)
        library = stem.with_suffix(".so")
        command = [compiler, *STRICT, *SPEED, "-shared", "-fPIC", f"-I{RUNTIME}"]
        done = subprocess.run(
            [*command, str(stem.with_suffix(".c")), "-o", str(library), "-lm"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        function = ctypes.CDLL(str(library)).evaluate
        dtype = np.dtype(real)

        def call(*arrays):
            inputs = [np.ascontiguousarray(a, dtype) for a in arrays]
            count = inputs[0].size
            outputs = [np.full(count, 77.0, dtype) for _ in exprs]
            pointers = ctypes.c_void_p * max(len(inputs), 1), ctypes.c_void_p * len(outputs)
            function(
                ctypes.c_int(count),
                pointers[0](*(a.ctypes.data for a in inputs)),
                pointers[1](*(a.ctypes.data for a in outputs)),
            )
            return outputs

        return call

    return build
