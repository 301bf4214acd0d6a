"""Test vectors: inputs, what the interpreter makes of them, and the bits that compiled code gives on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.emit import CFiles
from cpgen.emit.views import arrays, scale_inputs
from cpgen.errors import CheckError, EnvironmentProblem, ShapeError
from cpgen.ir.interpret import run
from cpgen.ir.nodes import ROWS, Input
from cpgen.ir.noise import HADAMARD, IDENTITY, INDEPENDENT, noise_array
from cpgen.loops import Plan
from cpgen.native import load

Array = NDArray[np.floating]
ROWS_TESTED, COLUMNS_TESTED, SEED = 3, 2, 1
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


@dataclass(frozen=True)
class Call:
    """What one program is called with besides arrays."""

    columns: int
    design: int
    scales: Mapping[str, float]


@dataclass(frozen=True)
class Vectors:
    """``inputs`` by name; for each program the numbers of its call, the expected outputs and their bits, if known."""

    rows: int
    inputs: Mapping[str, Array]
    calls: Mapping[str, Call]
    expected: Mapping[str, Mapping[str, Array]]
    bits: Mapping[str, Mapping[str, Array]] | None


def make_vectors(
    files: CFiles,
    plans: Sequence[Plan],
    directions: Sequence[int],
    real: str,
    given: Mapping[str, Array],
    exact: bool,
) -> Vectors:
    """Vectors of ``plans`` and their C text; ``given`` arrays are used, others are random in (0.2, 0.8).

    ``directions``: for each plan the unit directions it must be called with, 0 where its columns are random.  ``exact``:
    also run the text, compiled, to learn the bits (left out where there is no compiler).  Raises ShapeError for a wrong
    array and CheckError where a result is not finite.
    """
    wanted: dict[str, Input] = {}
    for p in plans:
        for node in arrays(p):
            wanted.setdefault(node.name, node)
    rows = _rows(wanted, given)
    rng = np.random.default_rng(0)
    inputs = {}
    for node in wanted.values():
        shape = tuple(e if isinstance(e, int) else rows if e is ROWS else COLUMNS_TESTED for e in node.shape)
        random = rng.uniform(0.2, 0.8, shape)
        array = np.asarray(given.get(node.name, random), real)
        if array.shape != shape:
            raise ShapeError(f"{node.name} has shape {array.shape}, expected {shape}", node.origin)
        inputs[node.name] = array
    calls = {p.name: _call(p, units, rows, real) for p, units in zip(plans, directions, strict=True)}
    expected = {p.name: _reference(p, inputs, calls[p.name], rows) for p in plans}
    with np.errstate(over="ignore"):
        _check_finite({p: {o: v.astype(real) for o, v in outputs.items()} for p, outputs in expected.items()}, "")
    bits = _bits(files, plans, inputs, calls, rows) if exact else None
    if bits is not None:
        _check_finite(bits, f" in {real}")
        _check_close(expected, bits, real)
    return Vectors(rows, inputs, calls, expected, bits)


def _check_finite(results: Mapping[str, Mapping[str, Array]], where: str) -> None:
    """Raise CheckError for numbers that no C constant can hold."""
    for program, outputs in results.items():
        for output, value in outputs.items():
            if not np.isfinite(value).all():
                raise CheckError(
                    f"the test vector of {program} is useless: {output} is not finite{where} for the given "
                    "inputs and random ones in (0.2, 0.8); give arrays inside the model's domain with vectors={...}"
                    + (", or compile for float64" if "float32" in where else "")
                )


def _check_close(
    expected: Mapping[str, Mapping[str, Array]], bits: Mapping[str, Mapping[str, Array]], real: str
) -> None:
    """Raise CheckError where the self-test would fail on the very machine that made it."""
    for program, outputs in expected.items():
        for output, value in outputs.items():
            scale = max(float(np.max(np.abs(value), initial=0.0)), 1.0)
            error = float(np.max(np.abs(bits[program][output] - value), initial=0.0)) / scale
            if error > TOLERANCE[real]:
                raise CheckError(
                    f"the self-test of {program} would fail: {output} in {real} is off by {error:.1e} from a float64 "
                    f"reference (allowed {TOLERANCE[real]:.0e}), most likely because terms cancel for these inputs; give "
                    "arrays where they do not with vectors={...}"
                    + (", or compile for float64" if real == "float32" else "")
                )


def _call(p: Plan, directions: int, rows: int, real: str) -> Call:
    columns = directions or (COLUMNS_TESTED if p.has_columns else 0)
    pairs = max(columns * (columns - 1), 1)
    numbers = {
        "row_scale": 1.0 / rows,
        "column_scale": 1.0 if directions else 1.0 / COLUMNS_TESTED,
        "variance_scale": 0.0 if directions else 1.0 / pairs,
    }
    design = IDENTITY if directions else HADAMARD if p.has_noise else INDEPENDENT
    return Call(columns, design, {key: float(np.dtype(real).type(value)) for key, value in numbers.items()})


def _rows(wanted: Mapping[str, Input], given: Mapping[str, Array]) -> int:
    for name, node in wanted.items():
        if name in given and node.has_rows and np.ndim(given[name]) == len(node.shape):
            return max(int(np.shape(given[name])[node.shape.index(ROWS)]), 1)
    return ROWS_TESTED if any(node.has_rows for node in wanted.values()) else 1


def _reference(p: Plan, inputs: Mapping[str, Array], call: Call, rows: int) -> dict[str, Array]:
    """The interpreter's float64 answer for the inputs as rounded."""
    values: dict[str, Array] = {}
    for node in p.program.inputs:
        if node.kind == "noise":
            values[node.name] = noise_array(node, p.program, SEED, rows, call.columns, call.design)
        elif node.kind == "scale":
            values[node.name] = np.asarray(call.scales[node.name])
        else:
            values[node.name] = inputs[node.name].astype(np.float64)
    return run(p.program, values, rows, call.columns)


def _bits(
    files: CFiles, plans: Sequence[Plan], inputs: Mapping[str, Array], calls: Mapping[str, Call], rows: int
) -> dict[str, dict[str, Array]] | None:
    try:
        module = load(files, plans)
    except EnvironmentProblem:
        return None
    found = {}
    for p in plans:
        call = calls[p.name]
        read = {node.name: inputs[node.name] for node in arrays(p)}
        used = {node.name: call.scales[node.name] for node in scale_inputs(p)}
        found[p.name] = module[p.name].run(
            read, rows, call.columns, SEED, call.design, threads=1, **used  # type: ignore[arg-type]
        )
    return found


__all__ = ["SEED", "TOLERANCE", "Call", "Vectors", "make_vectors"]
