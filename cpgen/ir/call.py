"""The numbers of one evaluation, the same for the interpreter, compiled code, a GPU and test vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.ir.interpret import run
from cpgen.ir.nodes import Program
from cpgen.ir.noise import INDEPENDENT, noise_array

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Call:
    """What a program is called with besides arrays.

    ``rows``, ``columns``: how many; ``first_row``, ``first_column``: the number of the first in a larger whole, whose
    noise they draw.  ``seed`` and ``design`` (:mod:`cpgen.ir.noise`): of the noise.  ``row_scale`` is 1/rows where the
    objective is a mean, ``column_scale`` 1/columns (1 for unit vectors), ``variance_scale`` what a sum of squared
    deviations is multiplied by.  ``accumulate``: add to the outputs that are given, carrying on their sums over rows.
    ``threads``: of compiled code on the CPU, None for all.  ``wanted``: the outputs to compute, None for all.
    """

    rows: int = 1
    columns: int = 0
    seed: int = 0
    design: int = INDEPENDENT
    first_row: int = 0
    first_column: int = 0
    row_scale: float = 1.0
    column_scale: float = 1.0
    variance_scale: float = 0.0
    accumulate: bool = False
    threads: int | None = None
    wanted: Sequence[str] | None = None

    def scales(self) -> dict[str, float]:
        """The scale inputs of a program by name."""
        return {
            "row_scale": self.row_scale,
            "column_scale": self.column_scale,
            "variance_scale": self.variance_scale,
        }


def inputs_of(program: Program, arrays: Mapping[str, Array], call: Call, real: np.dtype) -> dict[str, Array]:
    """Every input of a program as ``real``: ``arrays``, the noise that the call draws, and its scales.

    A scale among ``arrays`` is taken from there.  Raises KeyError for an array that is missing.
    """
    given: dict[str, Array] = {}
    scales = call.scales()
    for node in program.inputs:
        if node.kind == "noise":
            place = (call.rows, call.columns, call.design, call.first_row, call.first_column)
            found: Array = noise_array(node, program, call.seed, *place)
        elif node.kind == "scale" and node.name not in arrays:
            found = np.asarray(scales[node.name])
        else:
            found = arrays[node.name]
        given[node.name] = np.asarray(found, real)
    return given


def interpreted(program: Program, inputs: Mapping[str, Array], call: Call) -> dict[str, Array]:
    """The wanted outputs of a call by the interpreter; ``inputs`` as by :func:`inputs_of`."""
    found = run(program, inputs, call.rows, call.columns, call.first_column)
    return found if call.wanted is None else {name: value for name, value in found.items() if name in call.wanted}
