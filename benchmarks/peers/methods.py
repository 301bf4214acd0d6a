"""What every peer offers the suite: named calls, each with its answer in one flat form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answer = NDArray[np.float64]
SAMPLES = 16  # of "16 samples"; the price of a further one is its time less that of one, divided by 15
BOTH = "gradient and sample"  # of the diagonal, from one call
SLICE = 64  # columns of an exact diagonal that are timed where all of them would take minutes


@dataclass(frozen=True)
class Method:
    """``call`` is timed; ``answer`` turns what it returns into one flat array (None: nothing comparable).

    ``scale``: the time stands for this many times itself, and the answer for the first entries alone.
    ``stochastic``: an answer of its own noise, whose error against the exact answer is recorded instead.
    """

    quantity: str
    label: str
    call: Callable[[], Any]
    answer: Callable[[Any], Answer | None]
    scale: float = 1.0
    stochastic: bool = False


Methods = Iterator[Method]


def flat(leaves: tuple[str, ...], arrays: Mapping[str, Any]) -> Answer:
    """The arrays of the leaves behind one another."""
    return np.concatenate([np.asarray(arrays[v], np.float64).ravel() for v in leaves])


def one(array: Any) -> Answer:
    return np.asarray(array, np.float64).ravel()
