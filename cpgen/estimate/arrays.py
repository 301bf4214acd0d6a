"""Checking what the user hands in, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.ir.nodes import ROWS, Graph, Input
from cpgen.native import DeviceArray, on_device

Array = NDArray[np.floating]


def check_arrays(
    graph: Graph, needed: Sequence[Input], arrays: Mapping[str, object], real: np.dtype, gpu: bool = False
) -> tuple[dict[str, Array], int]:
    """The needed arrays as contiguous ones of ``real`` and the number of rows (1 for a model without rows).

    Integers and booleans are converted, and float32 to float64 (nothing is lost); everything else that does not fit is
    refused.  A scalar stands for one row where a model has scalar inputs.  ``gpu``: arrays that lie on a GPU stay there,
    and their elements are not looked at.
    """
    if not arrays.keys() <= (known := {v.name for v in graph.variables}):
        name = next(name for name in arrays if name not in known)
        raise RequestError(f"the model {graph.name!r} has no {name!r}; it has: {', '.join(sorted(known))}")
    if missing := [v.name for v in needed if v.name not in arrays]:
        raise RequestError(f"missing: {', '.join(missing)}. Pass an array for each as a keyword argument")
    rows: tuple[int, str] | None = None
    checked: dict[str, Array] = {}
    for variable in needed:
        array = _one(variable, arrays[variable.name], real, gpu)
        if variable.has_rows:
            if rows is None:
                rows = (array.shape[0], variable.name)
            elif rows[0] != array.shape[0]:
                raise ShapeError(
                    f"{variable.name} has {array.shape[0]} rows but {rows[1]} has {rows[0]}: all inputs with rows "
                    "must have the same number"
                )
        checked[variable.name] = array
    return checked, rows[0] if rows else 1


def expected_shape(variable: Input) -> str:
    return (
        "("
        + ", ".join("rows" if e is ROWS else str(e) for e in variable.shape)
        + ("," if len(variable.shape) == 1 else "")
        + ")"
    )


def _on_gpu(variable: Input, found: DeviceArray, real: np.dtype, gpu: bool) -> Array:
    name = variable.name
    if not gpu:
        raise DataError(f"{name} lies on a GPU: compile with target='cuda', or copy it to the CPU", variable.origin)
    if found.dtype != real:
        raise DataError(f"{name} has dtype {found.dtype} on the GPU; expected {real}", variable.origin)
    expected = [s if e is ROWS else e for e, s in zip(variable.shape, found.shape, strict=False)]
    if len(found.shape) != len(variable.shape) or tuple(expected) != found.shape:
        raise ShapeError(f"{name} has shape {found.shape}, expected {expected_shape(variable)}", variable.origin)
    if 0 in found.shape:
        raise ShapeError(f"{name} is empty (shape {found.shape}): there is nothing to evaluate", variable.origin)
    return cast(Array, found)  # only its shape is asked for before it reaches the GPU


def all_finite(array: Array) -> bool:
    """Whether no element is infinite or NaN; for small arrays in half the time that a reduction takes to start."""
    return b"\0" not in np.isfinite(array).tobytes()


def _one(variable: Input, given: object, real: np.dtype, gpu: bool) -> Array:
    name = variable.name
    if type(given) is not np.ndarray and (found := on_device(name, given)) is not None:
        return _on_gpu(variable, found, real, gpu)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError(f"{name} is no array of numbers: {error}", variable.origin) from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} has dtype {array.dtype}; expected {real} (or integers, which are converted)",
            variable.origin,
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > real.itemsize and isinstance(given, np.ndarray):
        raise DataError(
            f"{name} has dtype {array.dtype} but the estimator was compiled for {real}: "
            f"pass {name}.astype(np.{real}) or compile with real={str(array.dtype)!r}",
            variable.origin,
        )
    if array.ndim == 0 and variable.shape == (ROWS,):
        array = array.reshape(1)
    expected = variable.shape
    if array.ndim != len(expected) or array.shape != tuple(
        [s if e is ROWS else e for e, s in zip(expected, array.shape, strict=True)]
    ):
        hint = ""
        if array.ndim == len(expected) - 1 and variable.has_rows:
            hint = f"; for one row pass {name}[None]"
        elif array.ndim == 2 and len(expected) == 2 and array.shape[::-1] == tuple(expected):
            hint = f"; did you mean np.ascontiguousarray({name}.T)?"
        raise ShapeError(
            f"{name} has shape {array.shape}, expected {expected_shape(variable)}{hint}", variable.origin
        )
    if array.size == 0:
        raise ShapeError(
            f"{name} is empty (shape {array.shape}): there is nothing to evaluate", variable.origin
        )
    if not array.flags.c_contiguous:
        raise DataError(
            f"{name} is not C-contiguous (strides {array.strides} for shape {array.shape}): "
            f"pass np.ascontiguousarray({name})",
            variable.origin,
        )
    array = array.astype(real, copy=False)
    if not all_finite(array):
        finite = np.isfinite(array)
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        count = int(array.size - finite.sum())
        raise DataError(
            f"{name}{list(where)} is {array[where]} ({count} of {array.size} entries are not finite): "
            "clean the data or mask those rows before the call",
            variable.origin,
        )
    return array
