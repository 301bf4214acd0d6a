"""How many columns of which noise, and putting batches of them together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.derived import PRIOR, SUM_PRIOR, Derived
from cpgen.derive.outputs import read_output, variance_of
from cpgen.errors import RequestError
from cpgen.ir.noise import noise_inputs, noise_order

Array = NDArray[np.floating]
TWO_SIGMA = math.erf(math.sqrt(2))  # what two standard deviations hold of a normal distribution


def is_count(number: object) -> bool:
    """Whether it is a whole number, of Python or NumPy."""
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


@dataclass(frozen=True)
class Sampling:
    """How a statistic is to be sampled."""

    samples: int
    seed: int
    design: str
    exact: bool | None = None
    rtol: float | None = None
    max_samples: int = 4096
    first_row: int = 0
    confidence: float = 0.95

    def check(self) -> None:
        """Raise RequestError in the caller's terms."""
        if not is_count(self.samples) or self.samples < 1:
            raise RequestError(
                f"samples={self.samples!r}: at least one sample is needed, a whole number (or exact=True for the exact "
                "answer)"
            )
        if not is_count(self.seed) or not 0 <= self.seed < 1 << 64:
            raise RequestError(f"seed={self.seed!r} is not a whole number in 0 .. 2**64 - 1")
        if self.design not in ("hadamard", "independent"):
            raise RequestError(f"design={self.design!r} is not one of hadamard, independent")
        if self.exact not in (None, False, True):
            raise RequestError(f"exact={self.exact!r} is none of None, False and True")
        if self.rtol is not None and not (isinstance(self.rtol, (float, int, np.number)) and self.rtol > 0):
            raise RequestError(f"rtol={self.rtol!r} must be positive")
        if not (isinstance(self.confidence, (float, int, np.number)) and 0.5 <= self.confidence < 1):
            raise RequestError(f"confidence={self.confidence!r} must be at least 0.5 and less than 1")
        if not is_count(self.max_samples) or self.max_samples < 1:
            raise RequestError(f"max_samples={self.max_samples!r} must be a whole number, at least 1")
        if not is_count(self.first_row) or not 0 <= self.first_row < 1 << 62:
            raise RequestError(f"first_row={self.first_row!r} is not a whole number in 0 .. 2**62 - 1")

    def decide(self, derived: Derived) -> tuple[str, int]:
        """("closed", 0), ("exact", p) or ("sample", K)."""
        self.check()
        p = derived.columns
        if p == 0:
            return "closed", 0
        if derived.unit:
            assert p is not None
            return "exact", p
        if self.exact is True:
            if p is None:
                raise RequestError(
                    f"method={derived.estimator!r} has no exact form here; use method='cp' with exact=True"
                )
            return "exact", p
        samples = min(int(self.samples), self.max_samples) if self.rtol is not None else int(self.samples)
        if self.rtol is not None and samples == 1:
            samples = 2
        if self.exact is None and p is not None and p <= samples:
            return "exact", p
        return "sample", samples


def whole_design(derived: Derived) -> int:
    """Columns after which the mean of a Hadamard design has no error; 0 if there are none such.

    Rows shuffle the columns of their designs by themselves.  Probes of a row see each other and those of no row, whose
    columns are those of the first: where Hutchinson's products mix both, no number of columns cancels all of them.
    """
    mixed = len({given.has_rows for given in noise_inputs(derived.program)}) > 1
    return 0 if mixed and derived.estimator.startswith("hutchinson") else noise_order(derived.program)


def variance_of_mean(columns: int, design: str, order: int) -> float:
    """The variance of the mean of so many columns where one column has variance 1.

    The columns of a Hadamard design of this order are all different until each has come once: what is left over is a
    sample without replacement, and the means of whole designs have no error at all.  ``order``: :func:`whole_design`.
    """
    if design != "hadamard" or not order:
        return 1.0 / columns
    left = columns % order
    return left * (1.0 - left / order) / columns**2


def combine(total: dict[str, Array], used: int, part: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Means weighted by their columns; variances of one column by their degrees of freedom."""
    if not total:
        return dict(part)
    old, new = used / (used + size), size / (used + size)
    spread = max(size - 1, 0) / max(used + size - 2, 1)
    result = dict(total)  # a batch of one column brings no variances
    for name, array in part.items():
        output = read_output(name)
        if output.is_variance:
            result[name] = (1 - spread) * total[name] + spread * array
        elif output.of_column:
            result[name] = old * total[name] + new * array
        else:
            result[name] = array
    return result


def quantile(confidence: float, freedom: float) -> float:
    """The two-sided quantile of Student's t, for at least one degree of freedom; good to 0.2 percent."""
    p = (1 + confidence) / 2
    if freedom < 3:
        exact = [math.tan(math.pi * (p - 0.5)), (2 * p - 1) / math.sqrt(2 * p * (1 - p)), quantile(confidence, 3)]
        return float(np.interp(1 / freedom, [1 / 3, 1 / 2, 1], exact[::-1]))
    z = NormalDist().inv_cdf(p)
    # Cornish and Fisher's expansion: Abramowitz & Stegun 26.7.5
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (k + 1) for k, term in enumerate(terms))


def freedom(samples: int, rows: int, one: bool = False) -> float:
    """Degrees of freedom of a variance from so many columns, moderated as in :class:`cpgen.derive.derived.Statistics`,
    and summed over rows, which draw noise of their own (half of them, as some weigh more than others).

    The prior of an array counts for one column less than its weight, being estimated; ``one``: that of a single number.
    """
    return (samples - 1 + (SUM_PRIOR if one else PRIOR - 1)) * (rows + 1) / 2


def widening(samples: int, rows: int, one: bool = False) -> float:
    """By how much a standard error from few columns is longer, so that two of them hold 95 percent."""
    return quantile(TWO_SIGMA, freedom(samples, rows, one)) / 2


def small_enough(
    outputs: Mapping[str, Array], wanted: Mapping[str, str], rtol: float, confidence: float, freedoms: float
) -> bool:
    """Whether the error, by norm, is below ``rtol`` times the norm of what is estimated with this confidence.

    The squared error is a sum of squares whose expectation is the sum of the variances; that it exceeds the square of
    a quantile times that is the least improbable where one direction has it all (Szekely & Bakirov 2003, "Extremal
    probabilities for Gaussian quadratic forms").
    """
    variances = [variance_of(label) for label in wanted]
    variance = sum(float(np.sum(outputs[name])) for name in variances if name in outputs)
    size = math.sqrt(sum(float(np.sum(outputs[label] ** 2)) for label in wanted))
    limit = quantile(confidence, freedoms) * math.sqrt(variance)
    return limit <= rtol * max(size - limit, 0.0)
