"""Calling a bound program for less than cffi's dynamic call costs.

A function found by ``ffi.dlopen`` is called through libffi.  One small extension module, the same for all programs and
kept beside their libraries, calls through a pointer instead; it needs Python's own headers, and without them the dynamic
call remains.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import io
import sysconfig
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cffi

from cpgen.errors import EnvironmentProblem
from cpgen.native.compiler import compile_library, find_compiler

NAME = "cpgen_fastcall"
DECLARED = """
typedef struct { int32_t (*run)(const void *, void *, size_t); const void *args; void *work; size_t bytes; } bound;
int32_t call(const bound *b);
"""
SOURCE = f"""
#include <stdint.h>
{DECLARED.strip().rpartition(chr(10))[0]}
static int32_t call(const bound *b)
{{
    return b->run(b->args, b->work, b->bytes);
}}
"""


def fast_call(run: Any, args: Any, work: Any, work_bytes: int) -> tuple[Callable[[Any], int], Any] | None:
    """``(f, b)`` so that ``f(b)`` is ``run(args, work, work_bytes)``; None where the extension cannot be made.

    ``run``, ``args`` and ``work`` are addresses; what they point to must outlive ``b``.
    """
    module = _extension()
    if module is None:
        return None
    ffi = module.ffi
    bound = ffi.new("bound *")
    bound.run = ffi.cast("int32_t (*)(const void *, void *, size_t)", run)
    bound.args, bound.work, bound.bytes = ffi.cast("void *", args), ffi.cast("void *", work), work_bytes
    return module.lib.call, bound


@lru_cache(maxsize=1)
def _extension() -> Any:
    headers = sysconfig.get_path("include")
    if not (Path(headers) / "Python.h").is_file():
        return None
    builder = cffi.FFI()
    builder.cdef(DECLARED)
    builder.set_source(NAME, SOURCE)
    with tempfile.TemporaryDirectory(prefix="cpgen-") as folder:
        text = Path(folder) / "source.c"
        with contextlib.redirect_stdout(io.StringIO()):  # it says what it writes
            builder.emit_c_code(str(text))
        source = text.read_text(encoding="utf-8")
    try:
        compiler = find_compiler().extension(headers)
        library = compile_library(NAME, {f"{NAME}.c": source}, compiler)
        loader = importlib.machinery.ExtensionFileLoader(NAME, str(library))
        spec = importlib.util.spec_from_file_location(NAME, library, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except (EnvironmentProblem, ImportError):
        return None
    return module
