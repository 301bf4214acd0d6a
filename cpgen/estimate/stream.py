"""Estimates over data that arrives in pieces: the same bits as one call over all of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.outputs import read_output
from cpgen.derive.request import Request
from cpgen.errors import CheckError, RequestError
from cpgen.estimate.arrays import gathered
from cpgen.estimate.core import Core, Data, Found
from cpgen.estimate.results import Estimates
from cpgen.estimate.sampling import Sampling, variance_of_mean, whole_design
from cpgen.ir.call import Call
from cpgen.ir.noise import DESIGNS, IDENTITY, variance_of_column

Array = NDArray[np.floating]
OF_TRACE = ("per_leaf", "groups", "covariance")  # options


def not_streamed(option: str) -> str:
    """What to say of an option that :meth:`cpgen.Estimator.stream` does not have."""
    what = f"{option}= is no option of stream"
    if option in OF_TRACE:
        return f"{what}, which gives the diagonal: add up its entries, or call trace({option}=...) on all rows at once"
    return f"{what}; arrays are given to stream.add(...)"


class Stream:
    """Accumulates the diagonal over pieces of the rows in constant memory.  Made by :meth:`Estimator.stream`.

    Sums over rows are carried on in the order of the rows and every row draws the noise of its own number, so the result
    does not depend, to the bit, on how the rows were split.  Only parameters can be streamed: results of inputs belong to
    their own piece.
    """

    def __init__(
        self,
        core: Core,
        method: str,
        sampling: Sampling,
        total_rows: int | None,
    ) -> None:
        self._core, self._sampling = core, sampling
        request = Request("diagonal", method)
        if method == "cp" and sampling.decide(core.outline(request))[0] == "exact":
            request = Request("diagonal", "units")
        self._loaded = core.loaded(request)
        if core.graph.reduction == "mean" and total_rows is None:
            raise RequestError(
                "the objective is a mean over rows: say how many there will be with total_rows=..."
            )
        leaves = [v for v in core.wrt if v.has_rows]
        if leaves:
            raise RequestError(
                f"{leaves[0].name} has rows: its results belong to each piece and are not summed; "
                "stream the parameters, and call diagonal(first_row=...) on the pieces for inputs"
            )
        self._total_rows = total_rows
        self._mode, self._columns = sampling.decide(self._loaded.derived)
        order = whole_design(self._loaded.derived)
        self._spread = variance_of_mean(self._columns, sampling.design, order) if self._columns else 0.0
        self._sums: dict[str, Array] = {
            name: np.zeros([e for e in node.shape if isinstance(e, int)], core.real)
            for name, node in self._loaded.program.outputs
        }
        self.rows = 0

    def add(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Stream:
        """Take in the next rows.  Raises like :meth:`Estimator.diagonal`; nothing is added then."""
        data = self._core.arrays(self._loaded, gathered(arrays, named))
        exact = self._mode != "sample"
        k = self._columns
        call = Call(
            data.row_count,
            k,
            self._sampling.seed,
            IDENTITY if exact else DESIGNS[self._sampling.design],
            self._sampling.first_row + self.rows,
            row_scale=1.0 / (self._total_rows or 1),
            column_scale=1.0 if exact else 1.0 / k,
            variance_scale=0.0 if exact else variance_of_column(k),
            threads=self._core.options.threads,
        )
        self._core.check_memory(self._loaded, call)
        before = {name: array.copy() for name, array in self._sums.items()}
        self._loaded.backend.accumulate(data.arrays, call, self._sums)
        given = Data(data.arrays, data.row_count)
        # what has to be finite is all that was so before, so that each piece is blamed for its own rows
        asked = {label: f"diagonal of {leaf}" for label, leaf in self._core.diagonals.items()}
        try:
            self._core.settle(self._loaded, self._sums, asked, given, call)
        except CheckError:
            self._sums = before
            raise
        self.rows += data.row_count
        return self

    def result(self) -> Estimates:
        """The estimate over all rows so far.  Raises RequestError if there are none."""
        if self.rows == 0:
            raise RequestError("the stream has seen no rows yet; call add(...) first")
        exact = self._mode != "sample"
        outputs = {
            name: array * self._spread if read_output(name).is_variance else array.copy()
            for name, array in self._sums.items()
        }
        found = Found(outputs, self._columns, exact)
        return self._core.package(self._loaded, self._core.diagonals, found, self._sampling, self.rows)
