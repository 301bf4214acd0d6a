"""Calling a program for less than cffi's dynamic call and checks written in Python cost.

A function found by ``ffi.dlopen`` is called through libffi, by a Python function that looks at the status, after each
array was looked at in Python.  One small extension module, the same for all programs and kept beside their libraries,
does this in C; it needs Python's own headers, and without them the slower ways remain.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from cpgen.errors import EnvironmentProblem
from cpgen.native.compiler import compile_library, known_compiler

NAME = "cpgen_fastcall"
Shapes = tuple[tuple[int, ...], ...]
ANY_ROWS = -1  # in a shape


def bound_call_type() -> Callable[..., Any] | None:
    """The type in ``fastcall.c``, or None where it cannot be made.

    ``bound_call(run, args, work, bytes, brief, out, keep, refuse)()`` is ``run(args, work, bytes)``, or ``run(args)`` if
    there are no bytes, and then ``out``, or what ``refuse(status)`` returns for a status other than 0; the first three
    are addresses of what ``keep`` owns.
    ``brief``: do not release the GIL.
    """
    module = _module()
    return module.bound_call if module is not None else None


def rows_of(arrays: tuple[object, ...], shapes: Shapes, real: str) -> int | None:
    """The number of rows of finite, contiguous arrays of ``real`` and of these shapes (ANY_ROWS: rows), 0 without rows.

    None if any of them is something else, or if it cannot be told: look closer.
    """
    module = _module()
    if module is None:
        return None
    found: int | None = module.point(0, arrays, shapes, (0,) * len(arrays), ord("d" if real == "float64" else "f"), True)
    return found


def pointer_writer() -> Callable[..., int | None] | None:
    """``point(place, arrays, shapes, offsets, real, finite)`` of ``fastcall.c``, or None where it cannot be made."""
    module = _module()
    return module.point if module is not None else None


def fastcall_library() -> Path | None:
    """The extension module, compiled; None without Python's headers.  Raises EnvironmentProblem."""
    headers = sysconfig.get_path("include")
    if not (Path(headers) / "Python.h").is_file():
        return None
    source = resources.files("cpgen.native").joinpath("fastcall.c").read_text(encoding="utf-8")
    return compile_library(NAME, {f"{NAME}.c": source}, known_compiler().extension(headers))


@lru_cache(maxsize=1)
def _module() -> ModuleType | None:
    try:
        library = fastcall_library()
        if library is None:
            return None
        loader = importlib.machinery.ExtensionFileLoader(NAME, str(library))
        spec = importlib.util.spec_from_file_location(NAME, library, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except (EnvironmentProblem, ImportError):
        return None
    return module
