"""The whole Hessian by its blocks, and its low-rank sketch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.outputs import name_of
from cpgen.derive.request import HESSIAN, Request
from cpgen.errors import BudgetError, RequestError
from cpgen.estimate.compiled import Loaded
from cpgen.estimate.core import Core, Data
from cpgen.estimate.memory import human
from cpgen.estimate.results import Hessian, Sketch
from cpgen.estimate.sampling import Sampling
from cpgen.ir.noise import DESIGNS, IDENTITY

Array = NDArray[np.floating]


def hessian(core: Core, method: str | None, arrays: Mapping[str, object]) -> Hessian:
    """See :meth:`cpgen.Estimator.hessian`."""
    if method not in (None, "cp", "directions"):
        raise RequestError(f"method={method!r} is not one of cp, directions")
    if method == "directions":
        core.check_directions()
    if method is None:
        request = core.programs.exact(HESSIAN)
    else:
        request = HESSIAN.by("units" if method == "cp" else method)
    loaded = core.loaded(request)
    data = core.arrays(loaded, arrays)
    columns = loaded.derived.columns or 0
    _check_whole(core, data.rows)
    if loaded.derived.estimator == "directions":
        outputs = _by_directions(core, loaded, data, columns)
    else:
        outputs = core.exact(loaded, data, columns)
    pairs = [(a.name, b.name) for a, b in combinations_with_replacement(core.wrt, 2)]
    labels = {pair: name_of("block", *pair) for pair in pairs}
    asked = {labels[a, b]: f"block {a}, {b} of the Hessian" for a, b in pairs}
    call = core.unit_call(data, core.batch(loaded, data, columns), wanted=loaded.without_variances)
    core.settle(loaded, outputs, asked, data, call if columns else core.call(data))
    return Hessian(
        blocks={pair: outputs[label] for pair, label in labels.items()},
        sizes={v.name: v.element_shape for v in core.wrt},
        rows={v.name: data.rows if v.has_rows else None for v in core.wrt},
        kinks=int(outputs.get("kinks", np.zeros(()))),
        method=loaded.derived.estimator,
        backend=loaded.backend.label,
    )


def _check_whole(core: Core, rows: int | None) -> None:
    """Raise BudgetError if the blocks of the whole Hessian do not fit, however few columns a sweep has."""
    sizes = [int(np.prod(v.element_shape, dtype=np.int64)) for v in core.wrt]
    pairs = sum(a * b for a, b in combinations_with_replacement(sizes, 2))
    each = (rows or 1) if any(v.has_rows for v in core.wrt) else 1
    need = core.real.itemsize * each * pairs
    limit = core.exceeded(need)
    if limit is not None:
        raise BudgetError(
            f"the hessian needs {human(need)} for the {pairs} entries of its blocks, {human(limit)} are allowed; ask "
            "for fewer rows or for single blocks or entries (or raise memory_limit)"
        )


def _by_directions(core: Core, loaded: Loaded, data: Data, columns: int) -> dict[str, Array]:
    """The blocks from products of the Hessian with unit directions, batch by batch."""
    written = all(not node.has_columns for _, node in loaded.program.outputs)
    batch = columns if written else core.batch(loaded, data, columns)
    parts: dict[str, list[Array]] = {}
    for start in range(0, columns, batch):
        call = core.unit_call(data, min(batch, columns - start), first_column=start)
        for name, array in core.run(loaded, data, call).items():
            if written and data.rows is not None and loaded.outputs[name].has_rows:
                array = np.moveaxis(array, 1, 0)  # columns first, as where they are an axis of their own
            parts.setdefault(name, []).append(array)
    products = {}
    for b in core.wrt:
        found = parts[name_of("column", b.name)]
        products[b.name] = found[0] if len(found) == 1 else np.concatenate(found)
    outputs: dict[str, Array] = {}
    start = 0
    for k, a in enumerate(core.wrt):
        size = int(np.prod(a.element_shape, dtype=np.int64))
        for b in core.wrt[k:]:
            part = products[b.name][start : start + size]
            if a.has_rows and data.rows is not None:
                part = np.moveaxis(part, 0, 1)
            lead = part.shape[:1] if a.has_rows and data.rows is not None else ()
            block = part.reshape((*lead, *a.element_shape, *b.element_shape))
            if not block.flags.c_contiguous:  # ascontiguousarray makes an axis for a number
                block = np.ascontiguousarray(block)
            outputs[name_of("block", a.name, b.name)] = block
        start += size
    if "kinks" in parts:
        outputs["kinks"] = parts["kinks"][0]
    return outputs


def sketch(
    core: Core,
    sampling: Sampling,
    exact: bool,
    pairs: Sequence[tuple[str, str]] | None,
    arrays: Mapping[str, object],
) -> Sketch:
    """See :meth:`cpgen.Estimator.sketch`."""
    order = [v.name for v in core.wrt]
    named = [(core.leaf(a).name, core.leaf(b).name) for a, b in pairs or ()]
    ordered = sorted({(a, b) if order.index(a) <= order.index(b) else (b, a) for a, b in named})
    loaded = core.loaded(Request("sketch", pairs=tuple(ordered)))
    data = core.arrays(loaded, arrays)
    derived = loaded.derived
    sampling.check()
    if exact and data.row_count > 1 and not all(v.has_rows for v in core.wrt):
        raise RequestError(
            f"an exact sketch of parameters is possible for one row, not for {data.rows}: rows share the columns. "
            "Use hessian(), block() or entries()"
        )
    columns = (derived.columns or 0) if exact else sampling.samples
    scale = 1.0 if exact else 1.0 / columns
    design = IDENTITY if exact else DESIGNS[sampling.design]
    call = core.call(
        data,
        columns=columns,
        seed=sampling.seed,
        design=design,
        column_scale=scale,
        wanted=loaded.without_variances,
    )
    outputs = core.run(loaded, data, call)
    factors = {name_of(sign, v.name): f"factor {sign} of {v.name}" for sign in "pq" for v in core.wrt}
    core.settle(loaded, outputs, factors, data, call)
    return Sketch(
        p=core.by_leaf("p", outputs),
        q=core.by_leaf("q", outputs),
        scale=scale,
        exact=exact,
        samples=columns,
        seed=sampling.seed,
        backend=loaded.backend.label,
        answers=derived.answers,
        dropped=tuple(d.what for d in derived.dropped),
        kinks=int(outputs.get("kinks", np.zeros(()))),
    )
