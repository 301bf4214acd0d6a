"""Test vectors: inputs, what the interpreter makes of them, and the bits that compiled code gives on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.emit import CFiles
from cpgen.emit.arguments import arrays
from cpgen.errors import CheckError, EnvironmentProblem, ShapeError
from cpgen.ir.call import Call, inputs_of
from cpgen.ir.draws import draws
from cpgen.ir.nodes import ROWS, Input
from cpgen.ir.noise import HADAMARD, IDENTITY, INDEPENDENT, variance_of_columns
from cpgen.ir.rounding import arithmetic, run_bounded
from cpgen.loops import Plan
from cpgen.native import NativeModule, load

Array = NDArray[np.floating]
Referred = tuple[dict[str, Array], dict[str, Array]]  # values and bounds by output
Bits = dict[str, dict[str, Array]]  # results by program and output
ROWS_TESTED, COLUMNS_TESTED, SEED = 3, 2, 1
EXERCISED = 0.25  # of an output's entries: what clears its own rounding, for data to be taken without looking further


@dataclass(frozen=True)
class Vectors:
    """``inputs`` by name; for each program the numbers of its call, the expected outputs, how far rounding may take a
    result from each element of them, and their bits, if known."""

    rows: int
    inputs: Mapping[str, Array]
    calls: Mapping[str, Call]
    expected: Mapping[str, Mapping[str, Array]]
    bounds: Mapping[str, Mapping[str, Array]]
    bits: Mapping[str, Mapping[str, Array]] | None


def make_vectors(
    files: CFiles,
    plans: Sequence[Plan],
    directions: Sequence[int],
    real: str,
    given: Mapping[str, Array],
    exact: bool,
) -> Vectors:
    """Vectors of ``plans`` and their C text; ``given`` arrays are used, others are random (:mod:`cpgen.ir.draws`).

    ``directions``: for each plan the unit directions it must be called with, 0 where its columns are random.  ``exact``:
    also run the text, compiled, to learn the bits (left out where there is no compiler).  The random arrays are the first
    for which every result is finite in ``real`` and a quarter of each output's entries are larger than their rounding,
    or else those that come closest.  Raises ShapeError for a wrong array and CheckError where a result is not finite.
    """
    wanted: dict[str, Input] = {}
    for p in plans:
        for node in arrays(p):
            wanted.setdefault(node.name, node)
    rows = _rows(wanted, given)
    fixed = {}
    for name, node in wanted.items():
        if name in given:
            fixed[name] = np.asarray(given[name], real)
            shape = tuple(e if isinstance(e, int) else rows if e is ROWS else COLUMNS_TESTED for e in node.shape)
            if fixed[name].shape != shape:
                raise ShapeError(f"{name} has shape {fixed[name].shape}, expected {shape}", node.origin)
    free = [node for name, node in wanted.items() if name not in fixed]
    calls = {p.name: _call(p, units, rows, real) for p, units in zip(plans, directions, strict=True)}
    maps = [node for p in plans for node in p.program.nodes()]
    module = _compiled(files, plans) if exact else None
    best: tuple[float, dict[str, Array], dict[str, Referred], Bits | None] | None = None
    for drawn in draws(maps, free, rows, COLUMNS_TESTED) if free else [{}]:
        inputs = {n: fixed[n] if n in fixed else drawn[n].astype(real) for n in wanted}
        found = _references(plans, inputs, calls, real)
        bits = None if module is None or found is None else _bits(module, plans, inputs, calls)
        if found is None or not all(np.isfinite(a).all() for outputs in (bits or {}).values() for a in outputs.values()):
            continue
        reached = _exercised(found)
        if best is None or reached > best[0]:
            best = reached, inputs, found, bits
        if reached >= EXERCISED:
            break
    if best is None:
        what = "these arrays" if not free else "any of the random data tried"
        raise CheckError(
            f"there is no test vector for {', '.join(p.name for p in plans)}: results are not finite in {real} for "
            f"{what}; "
            "declare ranges (m.input(..., low=, high=)) or give arrays inside the model's domain with vectors={...}"
        )
    _, inputs, found, bits = best
    values = {name: outputs for name, (outputs, _) in found.items()}
    bounds = {name: limits for name, (_, limits) in found.items()}
    return Vectors(rows, inputs, calls, values, bounds, bits)


def _references(
    plans: Sequence[Plan], inputs: Mapping[str, Array], calls: Mapping[str, Call], real: str
) -> dict[str, Referred] | None:
    """Values and bounds of every program, None where one is not finite in ``real``."""
    found = {}
    for p in plans:
        values, bounds = _reference(p, inputs, calls[p.name])
        bounds = {name: _rounded_up(limit, real) for name, limit in bounds.items()}
        with np.errstate(over="ignore"):
            if not all(np.isfinite(a.astype(real)).all() for a in [*values.values(), *bounds.values()]):
                return None
        found[p.name] = values, bounds
    return found


def _rounded_up(bound: Array, real: str) -> Array:
    """Room for the rounding of the reference itself and of the comparison in ``real``; never 0."""
    about = np.finfo(real)
    return bound * (1 + 4 * float(about.eps)) + 4 * float(about.tiny)


def _exercised(found: Mapping[str, Referred]) -> float:
    """Of the output with the fewest, the rate of entries larger than their rounding."""
    rates = [
        float(np.mean(np.abs(values[name]) > bounds[name]))
        for values, bounds in found.values()
        for name in values
        if name != "kinks"
    ]
    return min(rates, default=1.0)


def _call(p: Plan, directions: int, rows: int, real: str) -> Call:
    columns = directions or (COLUMNS_TESTED if p.has_columns else 0)

    def rounded(scale: float) -> float:
        return float(np.dtype(real).type(scale))

    return Call(
        rows,
        columns,
        SEED,
        IDENTITY if directions else HADAMARD if p.has_noise else INDEPENDENT,
        row_scale=rounded(1.0 / rows),
        column_scale=1.0 if directions else rounded(1.0 / COLUMNS_TESTED),
        variance_scale=0.0 if directions else rounded(variance_of_columns(columns)),
        threads=1,
    )


def _rows(wanted: Mapping[str, Input], given: Mapping[str, Array]) -> int:
    for name, node in wanted.items():
        if name in given and node.has_rows and np.ndim(given[name]) == len(node.shape):
            return max(int(np.shape(given[name])[node.shape.index(ROWS)]), 1)
    return ROWS_TESTED if any(node.has_rows for node in wanted.values()) else 1


def _reference(p: Plan, inputs: Mapping[str, Array], call: Call) -> Referred:
    """The interpreter's float64 answer for the inputs as rounded, and its bounds of rounding."""
    values = inputs_of(p.program, inputs, call, np.dtype(np.float64))
    found, bounds = run_bounded(p.program, values, call.rows, call.columns, real=p.real)
    rounding = arithmetic(p.real).unit  # of the reference when it is stored
    return found, {name: bounds[name] + rounding * np.abs(found[name]) for name in found}


def _compiled(files: CFiles, plans: Sequence[Plan]) -> NativeModule | None:
    """The text, compiled; None without a compiler."""
    try:
        return load(files, plans)
    except EnvironmentProblem:
        return None


def _bits(
    module: NativeModule, plans: Sequence[Plan], inputs: Mapping[str, Array], calls: Mapping[str, Call]
) -> Bits:
    """What the compiled text gives."""
    return {
        p.name: module[p.name].run({node.name: inputs[node.name] for node in arrays(p)}, calls[p.name]) for p in plans
    }


__all__ = ["Vectors", "make_vectors"]
