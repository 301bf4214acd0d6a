"""One program on fixed arrays, for many calls with little overhead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.estimate.backends import Native
from cpgen.estimate.compiled import Form
from cpgen.ir.call import Call
from cpgen.ir.nodes import ROWS
from cpgen.ir.noise import IDENTITY
from cpgen.native import NativeProgram, arithmetic, warn_of_arithmetic

if TYPE_CHECKING:
    from cpgen.estimate.compiled import Loaded
    from cpgen.estimate.estimator import Estimator

Array = NDArray[np.floating]

FEW_ROWS = 2  # up to this many rows are computed one by one rather than as a padded tile
SHORT = 200_000  # operations that one thread has done before a second one is awake
PREFIX = {"value": "", "gradient": "grad_", "diagonal": "diag_", "trace": "", "hessian": "column_"}


FORM = {"diagonal": ":exact", "trace": ":exact", "hessian": ":directions"}


class Bound(Protocol):
    """Made by :meth:`Estimator.bind`.  ``out``: the output arrays by name; calling it fills and returns them."""

    out: dict[str, Array]

    def __call__(self) -> dict[str, Array]: ...


def _specialised(estimator: Estimator, loaded: Loaded, backend: Native, call: Call) -> NativeProgram:
    """The program as compiled, or compiled for one row at a time and without threads where the call is that small."""
    face = backend.native.interface
    few = face.has_rows and call.rows <= FEW_ROWS
    short = face.total_operations(call.rows, call.columns) < SHORT
    if not few and not (short and backend.native.openmp):
        return backend.native
    form = Form(1 if few else None, serial=short)
    return backend.variant(form, lambda: estimator.native(loaded.key, form))


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


def bind(
    estimator: Estimator, what: str, out: Mapping[str, Array] | None, arrays: Mapping[str, object]
) -> Bound:
    """See :meth:`Estimator.bind`."""
    if what not in PREFIX:
        raise RequestError(f"bind({what!r}): only {', '.join(PREFIX)} can be bound")
    key = what + FORM.get(what, "")
    loaded = estimator.loaded(estimator.exact_key(key) if key.endswith(":exact") else key)
    given, rows = estimator.arrays(loaded, arrays)
    for name, array in given.items():
        if not (isinstance(arrays[name], np.ndarray) and np.may_share_memory(array, arrays[name])):
            raise DataError(
                f"{name} would have to be copied, so that later changes of it were not seen: bind needs a C-contiguous "
                f"array of dtype {estimator.real}"
            )
    columns = loaded.derived.columns
    if what == "hessian" and any(node.has_columns for _, node in loaded.program.outputs):
        raise RequestError(
            f"the Hessian of {estimator.graph.name!r} is too large to be written out, and bind computes no other: call "
            "hessian() or block()"
        )
    if columns is None:
        raise RequestError(
            f"{what} of {estimator.graph.name!r} has no exact form, and bind computes exact answers only"
        )
    fields = {v.name: PREFIX[what] + v.name for v in estimator.wrt} if PREFIX[what] else {what: what}
    call = Call(
        rows or 1,
        columns,
        design=IDENTITY,
        row_scale=1.0 / (rows or 1),
        threads=estimator.options.threads,
        wanted=tuple(fields.values()),
    )
    estimator.check_memory(loaded, call)
    shapes = {
        name: tuple(e if isinstance(e, int) else call.rows for e in node.shape)
        for name, node in loaded.program.outputs
    }
    results = _results(estimator.real, {name: shapes[field] for name, field in fields.items()}, out or {}, given)
    backend = loaded.backend
    by_field = {field: results[name] for name, field in fields.items()}
    if rows is None:
        nodes = dict(loaded.program.outputs)
        for name, field in fields.items():
            if nodes[field].has_rows:
                results[name] = np.squeeze(results[name], axis=nodes[field].shape.index(ROWS))
    asked = {field: f"{what} of {name}" if PREFIX[what] else what for name, field in fields.items()}
    numbers: dict[str, int | float] = {"columns": columns, "design": IDENTITY} if columns else {}

    def settled() -> None:
        if isinstance(backend, Native):
            backend.repair(given, call, by_field)
        estimator.settle(loaded, by_field, asked, given, call.rows, **numbers)

    if found := arithmetic():
        warn_of_arithmetic(found)
    if isinstance(backend, Native):
        return _specialised(estimator, loaded, backend, call).bind(
            given, call, out=by_field, returned=results, not_finite=settled
        )

    def run() -> None:
        found = backend.run(given, call)
        for field, array in by_field.items():
            array[...] = found[field]
        settled()

    return _Interpreted(run, results)
