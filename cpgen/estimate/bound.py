"""One program on fixed arrays, for many calls with little overhead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.outputs import name_of
from cpgen.derive.request import EXACT_DIAGONAL, EXACT_TRACE, GRADIENT, HESSIAN, VALUE
from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.estimate.backends import Native
from cpgen.estimate.compiled import Loaded
from cpgen.estimate.core import Core, Data
from cpgen.estimate.options import Form
from cpgen.ir.call import Call
from cpgen.ir.nodes import ROWS
from cpgen.native import NativeProgram, arithmetic, warn_of_arithmetic

Array = NDArray[np.floating]

FEW_ROWS = 2  # up to this many rows are computed one by one rather than as a padded tile
SHORT = 200_000  # operations that one thread has done before a second one is awake
REQUESTS = {
    "value": VALUE,
    "gradient": GRADIENT,
    "diagonal": EXACT_DIAGONAL,
    "trace": EXACT_TRACE,
    "hessian": HESSIAN.by("directions"),
}
ROLES = {"gradient": "gradient", "diagonal": "diagonal", "hessian": "column"}  # of outputs, one for each leaf


class Bound(Protocol):
    """Made by :meth:`cpgen.Estimator.bind`.  ``out``: the output arrays by name; calling it fills and returns them."""

    out: dict[str, Array]

    def __call__(self) -> dict[str, Array]: ...


def _specialised(core: Core, loaded: Loaded, backend: Native, call: Call) -> NativeProgram:
    """The program as compiled, or compiled for one row at a time and without threads where the call is that small."""
    face = backend.native.interface
    few = face.has_rows and call.rows <= FEW_ROWS
    short = face.total_operations(call.rows, call.columns) < SHORT
    if not few and not (short and backend.native.openmp):
        return backend.native
    form = Form(1 if few else None, serial=short)
    return backend.variant(form, lambda: core.programs.native(loaded.request, form))


class _Interpreted:
    """The same where there is no compiler."""

    def __init__(self, run: Callable[[], None], out: dict[str, Array]) -> None:
        self._run, self.out = run, out

    def __call__(self) -> dict[str, Array]:
        self._run()
        return self.out


def _results(
    real: np.dtype, shapes: Mapping[str, tuple[int, ...]], out: Mapping[str, Array], given: Mapping[str, Array]
) -> dict[str, Array]:
    """Where results are written: the caller's arrays if they will do, and new ones."""
    unknown = sorted(set(out) - set(shapes))
    if unknown:
        raise RequestError(f"out has {', '.join(unknown)}; expected some of {', '.join(shapes)}")
    results: dict[str, Array] = {}
    for name, shape in shapes.items():
        array = out[name] if name in out else np.empty(shape, real)
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise DataError(f"out[{name!r}] is {type(array).__name__}; results are written to plain arrays of NumPy")
        if array.shape != shape:
            raise ShapeError(f"out[{name!r}] has shape {array.shape}, expected {shape}")
        if array.dtype != real or not array.flags.c_contiguous or not array.flags.writeable:
            raise DataError(f"out[{name!r}] must be a writable C-contiguous array of dtype {real}")
        results[name] = array
    for name, array in results.items():
        others = {**given, **{f"out[{n!r}]": second for n, second in results.items() if n != name}}
        for other, second in others.items():
            if np.may_share_memory(array, second):
                raise DataError(f"out[{name!r}] shares memory with {other}: give each result memory of its own")
    return results


def bind(core: Core, what: str, out: Mapping[str, Array] | None, arrays: Mapping[str, object]) -> Bound:
    """See :meth:`cpgen.Estimator.bind`."""
    if what not in REQUESTS:
        raise RequestError(f"bind({what!r}): only {', '.join(REQUESTS)} can be bound")
    request = REQUESTS[what]
    loaded = core.loaded(core.programs.exact(request) if request.exact else request)
    data = core.arrays(loaded, arrays)
    for name, array in data.arrays.items():
        if name not in arrays:  # a constant, which the model holds
            continue
        if not (isinstance(arrays[name], np.ndarray) and np.may_share_memory(array, arrays[name])):
            raise DataError(
                f"{name} would have to be copied, so that later changes of it were not seen: bind needs a C-contiguous "
                f"array of dtype {core.real}"
            )
    columns = loaded.derived.columns
    if what == "hessian" and any(node.has_columns for _, node in loaded.program.outputs):
        raise RequestError(
            f"the Hessian of {core.graph.name!r} is too large to be written out, and bind computes no other: call "
            "hessian() or block()"
        )
    if columns is None:
        raise RequestError(f"{what} of {core.graph.name!r} has no exact form, and bind computes exact answers only")
    if what in ROLES:
        labels = {v.name: name_of(ROLES[what], v.name) for v in core.wrt}
    else:
        labels = {what: what}
    call = core.unit_call(data, columns, wanted=tuple(labels.values()))
    core.check_memory(loaded, call)
    nodes = loaded.outputs
    shapes = {
        name: tuple(e if isinstance(e, int) else call.rows for e in nodes[label].shape)
        for name, label in labels.items()
    }
    results = _results(core.real, shapes, out or {}, data.arrays)
    by_label = {label: results[name] for name, label in labels.items()}
    if data.rows is None:
        for name, label in labels.items():
            if nodes[label].has_rows:
                results[name] = np.squeeze(results[name], axis=nodes[label].shape.index(ROWS))
    return _bound(core, loaded, data, call, by_label, results, what)


def _bound(
    core: Core,
    loaded: Loaded,
    data: Data,
    call: Call,
    by_label: dict[str, Array],
    results: dict[str, Array],
    what: str,
) -> Bound:
    backend = loaded.backend
    given = Data(data.arrays, data.row_count)
    asked = dict.fromkeys(by_label, what)
    if what in ROLES:
        asked = {name_of(ROLES[what], v.name): f"{what} of {v.name}" for v in core.wrt}

    def settled() -> None:
        if isinstance(backend, Native):
            backend.repair(data.arrays, call, by_label)
        core.settle(loaded, by_label, asked, given, call)

    if found := arithmetic():
        warn_of_arithmetic(found)
    if isinstance(backend, Native):
        program = _specialised(core, loaded, backend, call)
        return program.bind(data.arrays, call, out=by_label, returned=results, not_finite=settled)

    def run() -> None:
        found = backend.run(data.arrays, call)
        for label, array in by_label.items():
            array[...] = found[label]
        settled()

    return _Interpreted(run, results)
