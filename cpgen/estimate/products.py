"""Programs that take directions: products with the gradient and with the Hessian."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.outputs import name_of
from cpgen.derive.programs import direction_names
from cpgen.derive.request import Request
from cpgen.errors import RequestError
from cpgen.estimate.arrays import check_arrays
from cpgen.estimate.compiled import Loaded
from cpgen.estimate.core import Core, Data

Array = NDArray[np.floating]


def along(
    core: Core, request: Request, directions: Mapping[str, object] | None, arrays: Mapping[str, object]
) -> tuple[Loaded, Data]:
    """A program that takes directions, and its checked arrays with them; a direction that is absent is zero.

    Raises RequestError, ShapeError, DataError.
    """
    loaded = core.loaded(request)
    data = core.arrays(loaded, arrays)
    if not isinstance(directions, Mapping):
        raise RequestError(
            f"directions is a mapping, leaf -> array shaped like it, and this is {type(directions).__name__}: write "
            f"{{{core.wrt[0].name!r}: ...}}"
        )
    for name in directions:
        core.leaf(name)
    found: dict[str, Array] = {}
    names = direction_names(core.graph, core.wrt)
    leaves = {names[v.name]: v for v in core.wrt}
    for node in loaded.program.inputs:
        if node.kind != "tangent":
            continue
        leaf = leaves[node.name]
        if leaf.name in directions:
            checked, _ = check_arrays(core.graph, [leaf], {leaf.name: directions[leaf.name]}, core.real)
            found[node.name] = checked[leaf.name]
        else:
            found[node.name] = np.zeros([e if isinstance(e, int) else data.row_count for e in leaf.shape], core.real)
    return loaded, data.with_arrays(found)


def hvp(core: Core, loaded: Loaded, data: Data) -> dict[str, Array]:
    """The Hessian times the directions among ``data``, leaf by leaf."""
    asked = {name_of("hvp", v.name): f"hvp, {v.name}" for v in core.wrt}
    return core.by_leaf("hvp", core.settled(loaded, data, asked))
