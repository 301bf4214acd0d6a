"""Calling a bound program for less than cffi's dynamic call costs.

A function found by ``ffi.dlopen`` is called through libffi, by a Python function that looks at the status.  One small
extension type, the same for all programs and kept beside their libraries, does both in C; it needs Python's own headers,
and without them the dynamic call remains.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from cpgen.errors import EnvironmentProblem
from cpgen.native.compiler import compile_library, find_compiler

NAME = "cpgen_bound_call"


def bound_call_type() -> Callable[..., Any] | None:
    """The type in ``bound_call.c``, or None where it cannot be made.

    ``bound_call(run, args, work, bytes, brief, out, keep, refuse)()`` is ``run(args, work, bytes)`` and then ``out``, or
    ``refuse(status)`` for a status other than 0; the first three are addresses of what ``keep`` owns.  ``brief``: do not
    release the GIL.
    """
    headers = sysconfig.get_path("include")
    return _load(headers) if (Path(headers) / "Python.h").is_file() else None


@lru_cache(maxsize=1)
def _load(headers: str) -> Callable[..., Any] | None:
    source = resources.files("cpgen.native").joinpath("bound_call.c").read_text(encoding="utf-8")
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
    made: Callable[..., Any] = module.bound_call
    return made
