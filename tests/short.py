"""Which of many cases the short suite takes; the others are marked slow and run with --all (CONTRIBUTING.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from tests.catalogue import CATALOGUE

# chosen by hand, so that together they go nearly every way through the compiler that the whole catalogue goes
FEW = (
    "mlp_tanh", "attention", "convolution_2d", "recurrent", "several_inputs", "chained_rosenbrock", "huber",
    "factorisation", "largest_and_smallest", "repeated_index", "regrouped",
)  # fmt: skip


def cases(every: Iterable[Any], short: Collection[Any]) -> list[Any]:
    """Parameters of a test, those not in ``short`` marked slow."""
    return [case if case in short else pytest.param(case, marks=pytest.mark.slow) for case in every]


def models(short: Collection[str] = FEW) -> list[Any]:
    """The catalogue as parameters of a test."""
    return cases(CATALOGUE, short)
