"""How many columns of which noise, and putting batches of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.derived import Derived
from cpgen.errors import RequestError

Array = NDArray[np.floating]


def is_count(number: object) -> bool:
    """Whether it is a whole number, of Python or NumPy."""
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


@dataclass(frozen=True)
class Sampling:
    """How a statistic is to be sampled."""

    samples: int
    seed: int
    design: str
    exact: bool | None
    rtol: float | None
    max_samples: int
    first_row: int

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


def combine(total: dict[str, Array], used: int, part: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Means weighted by their columns; variances of means accordingly."""
    if not total:
        return dict(part)
    old, new = used / (used + size), size / (used + size)
    result = {}
    for name, array in part.items():
        if name in ("kinks", "value") or name.startswith("grad_"):
            result[name] = array
        elif name.startswith("var_"):
            result[name] = old**2 * total[name] + new**2 * array
        else:
            result[name] = old * total[name] + new * array
    return result


def small_enough(outputs: Mapping[str, Array], wanted: Mapping[str, str], rtol: float, used: int) -> bool:
    """Whether the norm of the standard errors is at most ``rtol`` times the norm of the values."""
    if used < 2:
        return False
    error = sum(float(np.sum(outputs[f"var_{label}"])) for label in wanted if f"var_{label}" in outputs)
    size = sum(float(np.sum(outputs[label] ** 2)) for label in wanted)
    return error <= rtol**2 * size
