"""Estimates over data that arrives in pieces: the same bits as one call over all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import CheckError, RequestError
from cpgen.estimate.arrays import gathered
from cpgen.estimate.sampling import variance_of_mean
from cpgen.ir.call import Call
from cpgen.ir.noise import DESIGNS, IDENTITY, noise_order, variance_of_column

if TYPE_CHECKING:
    from cpgen.estimate.estimator import Estimator
    from cpgen.estimate.results import Estimates
    from cpgen.estimate.sampling import Sampling

Array = NDArray[np.floating]


class Stream:
    """Accumulates the diagonal over pieces of the rows in constant memory.  Made by :meth:`Estimator.stream`.

    Sums over rows are carried on in the order of the rows and every row draws the noise of its own number, so the result
    does not depend, to the bit, on how the rows were split.  Only parameters can be streamed: results of inputs belong to
    their own piece.
    """

    def __init__(
        self,
        estimator: Estimator,
        method: str,
        wanted: Mapping[str, str],
        sampling: Sampling,
        total_rows: int | None,
    ) -> None:
        self._estimator, self._wanted, self._sampling = estimator, wanted, sampling
        key = f"diagonal:{method}"
        if method == "cp" and sampling.decide(estimator.outline(key))[0] == "exact":
            key = "diagonal:units"
        self._loaded = estimator.loaded(key)
        if estimator.graph.reduction == "mean" and total_rows is None:
            raise RequestError(
                "the objective is a mean over rows: say how many there will be with total_rows=..."
            )
        leaves = [v for v in estimator.wrt if v.has_rows]
        if leaves:
            raise RequestError(
                f"{leaves[0].name} has rows: its results belong to each piece and are not summed; "
                "stream the parameters, and call diagonal(first_row=...) on the pieces for inputs"
            )
        self._total_rows = total_rows
        self._mode, self._columns = sampling.decide(self._loaded.derived)
        order = noise_order(self._loaded.program)
        self._spread = variance_of_mean(self._columns, sampling.design, order) if self._columns else 0.0
        self._sums: dict[str, Array] = {
            name: np.zeros([e for e in node.shape if isinstance(e, int)], estimator.real)
            for name, node in self._loaded.program.outputs
        }
        self.rows = 0

    def add(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Stream:
        """Take in the next rows.  Raises like :meth:`Estimator.diagonal`; nothing is added then."""
        given, count = self._estimator.arrays(self._loaded, gathered(arrays, named))
        rows = count or 1
        exact = self._mode != "sample"
        k = self._columns
        call = Call(
            rows,
            k,
            self._sampling.seed,
            IDENTITY if exact else DESIGNS[self._sampling.design],
            self._sampling.first_row + self.rows,
            row_scale=1.0 / (self._total_rows or 1),
            column_scale=1.0 if exact else 1.0 / k,
            variance_scale=0.0 if exact else variance_of_column(k),
            threads=self._estimator.options.threads,
        )
        self._estimator.check_memory(self._loaded, call)
        before = {name: array.copy() for name, array in self._sums.items()}
        self._loaded.backend.accumulate(given, call, self._sums)
        numbers: dict[str, int | float] = {"columns": k, "seed": call.seed, "design": call.design} if k else {}
        try:
            self._estimator.settle(self._loaded, self._sums, self._asked, given, rows, **numbers)
        except CheckError:
            self._sums = before
            raise
        self.rows += rows
        return self

    @property
    def _asked(self) -> dict[str, str]:
        """What has to be finite: all that was so before, so that each piece is blamed for its own rows."""
        return {label: f"diagonal of {name}" for label, name in self._wanted.items()}

    def result(self) -> Estimates:
        """The estimate over all rows so far.  Raises RequestError if there are none."""
        if self.rows == 0:
            raise RequestError("the stream has seen no rows yet; call add(...) first")
        exact = self._mode != "sample"
        outputs = {
            name: array * self._spread if name.startswith("var_") else array.copy() for name, array in self._sums.items()
        }
        return self._estimator.package(
            self._loaded, self._wanted, outputs, self._sampling, self._columns, exact, self.rows
        )
