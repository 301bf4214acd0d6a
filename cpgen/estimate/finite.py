"""The one policy for results that are not finite: an error that says where, or NaN for the rows concerned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import CheckError, NonFiniteWarning, warn_user
from cpgen.estimate.arrays import all_finite
from cpgen.ir.nodes import Graph

Array = NDArray[np.floating]
POLICIES = ("error", "nan")
MOST_ROWS = 5  # that a message names


def settle(
    outputs: dict[str, Array],
    asked: Mapping[str, str],
    row_axis: Callable[[str], int | None],
    find_rows: Callable[[Sequence[str]], list[int]],
    policy: str,
    graph: Graph,
    real: np.dtype,
) -> None:
    """Apply ``policy`` to the outputs that were ``asked`` for (label -> what a user calls it).

    "error" raises CheckError with the first entry that is not finite, its row and what to look for.  "nan" makes the
    result of such a row NaN, and where rows were added up each entry that is not finite, with a NonFiniteWarning that
    names the rows.  ``row_axis``: the axis of an output that counts rows; ``find_rows``: rows that make outputs without
    one not finite.
    """
    if getattr(outputs, "finite", False):
        return
    bad = [label for label in asked if not all_finite(outputs[label])]
    if not bad:
        return
    if policy == "error":
        raise CheckError(_message(bad[0], outputs[bad[0]], asked, row_axis, find_rows, real), graph.origin)
    summed = []
    for label in bad:
        value, axis = np.asarray(outputs[label]), row_axis(label)  # what was one number may be replaced now
        outputs[label] = value
        other = ~np.isfinite(value)
        if axis is None:
            value[other] = np.nan
            summed.append(label)
        else:
            rows = other.any(axis=tuple(k for k in range(value.ndim) if k != axis))
            np.moveaxis(value, axis, 0)[rows] = np.nan
    if summed:
        rows_found = find_rows(summed)
        if rows_found:
            names = ", ".join(asked[label] for label in summed)
            warn_user(f"{names}: NaN, because {_rows(rows_found)}", NonFiniteWarning)


def _rows(rows: Sequence[int]) -> str:
    listed = ", ".join(str(r) for r in rows[:MOST_ROWS])
    if len(rows) == 1:
        return f"row {listed} is not finite"
    return f"rows {listed}{' and others' if len(rows) >= MOST_ROWS else ''} are not finite"


def _message(
    label: str,
    value: Array,
    asked: Mapping[str, str],
    row_axis: Callable[[str], int | None],
    find_rows: Callable[[Sequence[str]], list[int]],
    real: np.dtype,
) -> str:
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
    axis = row_axis(label)
    if axis is not None:
        count = int(np.isfinite(value).all(axis=tuple(k for k in range(value.ndim) if k != axis)).sum())
        place = f" (row {where[axis]}; {value.shape[axis] - count} of {value.shape[axis]} rows)"
    else:
        rows = find_rows([label])
        place = f" ({_rows(rows)})" if rows else ""
    entry = f"entry {list(where)} of the result" if where else "the result"
    return (
        f"{asked[label]}: {entry} is {value[where]}{place}: the model left the range of its functions or of {real} at "
        f"these inputs. Look for a log of a negative number or its root, a division by zero, an exp that overflows, a "
        "derivative that is infinite there; compile(..., nonfinite='nan') gives NaN for such rows instead"
    )
