"""Arrays that belong to a model, and the numbers of an axis, which are one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import ModelError, ShapeError
from cpgen.ir.nodes import Origin
from cpgen.model.expressions import Axis, Read
from cpgen.model.place import caller


def constant_values(
    name: str, array: Any, shape: tuple[int, ...], origin: Origin
) -> NDArray[np.floating]:
    """``array`` as a copy in float64 that nobody can write to.  Raises ModelError or ShapeError."""
    try:
        given = np.asarray(array)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the constant {name} is no array of numbers: {error}", origin) from error
    if given.dtype.kind not in "fiub" or np.ma.is_masked(array):
        what = "a masked array" if np.ma.is_masked(array) else f"of dtype {given.dtype}"
        raise ModelError(f"the constant {name} is {what}; it must be an array of real numbers", origin)
    if given.shape != shape:
        raise ShapeError(f"the constant {name} has shape {given.shape}, its axes {shape}", origin)
    values = np.array(given, np.float64)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ModelError(f"the constant {name} is {values[where]} at {list(where)}; its numbers must be finite", origin)
    values.flags.writeable = False
    return values


def position_name(axis: Axis) -> str:
    """The constant that holds 0, 1, 2, ... along ``axis``."""
    return f"position_of_{axis.name}"


def position(axis: Any) -> Read:
    """The axis as a number: 0 at its first position, 1 at the next.  Raises ModelError for the rows."""
    if not isinstance(axis, Axis):
        raise ModelError(f"position(...) is that along an axis of the model, and {axis!r} is none", caller())
    if axis.is_rows:
        raise ModelError(
            f"position({axis.name}): rows have no numbers, since a call may hold any part of them; declare an input",
            caller(),
        )
    return Read(position_name(axis), (axis,))
