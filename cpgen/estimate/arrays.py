"""Checking what the user hands in, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.ir.nodes import ROWS, Graph, Input
from cpgen.native import DeviceArray, on_device

Array = NDArray[np.floating]


# options of the estimator's methods, which a keyword of that name is taken for
OPTIONS = frozenset(
    (
        "samples seed method design exact rtol confidence max_samples first_row directions wanted pairs what out rows "
        "reference per_leaf groups covariance"
    ).split()
)


def gathered(arrays: object, named: dict[str, object]) -> dict[str, object]:
    """The arrays of a call, given as one mapping, as keywords, or some each way.

    Raises RequestError for what is no mapping and for an array that is given twice.
    """
    if arrays is None:
        return named
    if not isinstance(arrays, Mapping):
        raise RequestError(
            f"the first argument is a mapping of names to arrays, and this is {type(arrays).__name__}: give options by "
            "name (samples=16)"
        )
    if wrong := [name for name in arrays if not isinstance(name, str)]:
        raise RequestError(f"arrays are given by name, and {wrong[0]!r} is {type(wrong[0]).__name__}, not a string")
    if twice := sorted(arrays.keys() & named.keys()):
        raise RequestError(f"given in the mapping and as a keyword: {', '.join(twice)}")
    return {**arrays, **named}


def keyword(given: object, name: str, named: dict[str, object], kind: type | tuple[type, ...]) -> Any:
    """A leading argument, which may also be given by its name unless that names an array there."""
    if given is None and isinstance(named.get(name), kind):
        return named.pop(name)
    return given


def check_arrays(
    graph: Graph, needed: Sequence[Input], arrays: Mapping[str, object], real: np.dtype, gpu: bool = False
) -> tuple[dict[str, Array], int]:
    """The needed arrays as contiguous ones of ``real`` and the number of rows (1 for a model without rows).

    What loses nothing is converted: integers, booleans and narrower floats; strided arrays are copied.  Numbers that
    ``real`` cannot hold are refused whatever holds them; only a plain Python number is rounded, as NumPy does.  Masked
    entries are refused.  A scalar stands for one row where a model has scalar inputs.  ``gpu``: arrays that lie on a GPU
    stay there, and their elements are not looked at.
    """
    constants = {v.name: v.held(real) for v in graph.variables if v.kind == "constant"}
    if given := sorted(constants.keys() & arrays.keys()):
        raise RequestError(f"{given[0]} is a constant of the model {graph.name!r}, which holds its values")
    if not arrays.keys() <= (known := {v.name for v in graph.variables} - constants.keys()):
        name = next(name for name in arrays if name not in known)
        hint = "; what to differentiate by is an argument of compile" if name == "wrt" else ""
        hint = f"; {name}= is no option of this method" if name in OPTIONS else hint
        raise RequestError(f"the model {graph.name!r} has no {name!r}; it has: {', '.join(sorted(known))}{hint}")
    arrays = {**arrays, **constants}
    if missing := [v.name for v in needed if v.name not in arrays]:
        options = [name for name in missing if name in OPTIONS]
        how = (
            f"{options[0]} is also an option of the methods: give the arrays as one mapping, {{{options[0]!r}: ...}}"
            if options
            else "Pass an array for each as a keyword argument, or all as one mapping"
        )
        raise RequestError(f"missing: {', '.join(missing)}. {how}")
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


def _narrowed(name: str, given: object, real: np.dtype) -> str:
    """How to round ``given`` to ``real``, in its own language."""
    if hasattr(given, "astype"):
        return f"{name}.astype(np.{real})"
    return f"{name}.to(torch.{real})" if hasattr(given, "detach") else f"np.asarray({name}, np.{real})"


def _one(variable: Input, given: object, real: np.dtype, gpu: bool) -> Array:
    name = variable.name
    if type(given) is not np.ndarray and (found := on_device(name, given)) is not None:
        return _on_gpu(variable, found, real, gpu)
    if isinstance(given, np.ma.MaskedArray) and (masked := int(np.ma.count_masked(given))):
        raise DataError(
            f"{name} is a masked array, {masked} of its {given.size} entries masked: pass {name}.filled(...), or leave "
            "those rows out",
            variable.origin,
        )
    if getattr(given, "requires_grad", False):  # PyTorch refuses to hand out its numbers, in words of its own
        raise DataError(
            f"{name} is a tensor that records gradients, and results are no part of its graph: pass {name}.detach()",
            variable.origin,
        )
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        dtype = getattr(given, "dtype", None)
        hint = f" (dtype {dtype}; NumPy has none such: pass {name}.float())" if "bfloat16" in str(dtype) else ""
        raise DataError(f"{name} is no array of numbers{hint}: {error}", variable.origin) from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} has dtype {array.dtype}; expected {real} (or integers, which are converted)",
            variable.origin,
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > real.itemsize and type(given) is not float:
        otherwise = " or compile with real='float64'" if array.dtype.itemsize == 8 else ""
        raise DataError(
            f"{name} has dtype {array.dtype} but the estimator was compiled for {real}: "
            f"pass {_narrowed(name, given, real)}{otherwise}",
            variable.origin,
        )
    if array.dtype.kind in "iu" and array.dtype.itemsize >= real.itemsize:
        most = 1 << (np.finfo(real).nmant + 1)
        if array.size and (int(array.max()) > most or int(array.min()) < -most):
            raise DataError(
                f"{name} holds integers beyond {most}, which {real} cannot tell apart: shift or scale them",
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
    with np.errstate(over="ignore"):  # said below, with the name
        array = np.ascontiguousarray(array, real).reshape(array.shape)
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
