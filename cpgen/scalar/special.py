"""NumPy versions of the stable functions, float32 and float64 preserving.

The gamma family uses the recurrence ``f(x) = f(x + 1) + ...`` up to ``x >= SHIFT`` followed by the asymptotic series
(Abramowitz and Stegun 6.1.41, 6.3.18, 6.4.11), for ``x > 0``; outside, the result is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SHIFT = 15.0
# Bernoulli numbers B_2, B_4, ..., B_20.
BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return np.where(x < 0, decay, np.ones_like(decay)) / (1.0 + decay)


def logcosh(x: Array) -> Array:
    size = np.abs(x)
    near = np.minimum(size, 20.0)
    growth = np.expm1(near)
    return (size - near) + np.log1p(growth * growth / (2.0 * (1.0 + growth)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def step(x: Array) -> Array:
    return np.where(np.isnan(x), x, (np.asarray(x) > 0).astype(np.asarray(x).dtype))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def normcdf(x: Array) -> Array:
    return 0.5 * erfc(-x * math.sqrt(0.5))


def gelu(x: Array) -> Array:
    return x * normcdf(x)


def sech(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return 2.0 * decay / (1.0 + decay * decay)


def _elementwise(scalar: Callable[[float], float], overflow: float = math.inf) -> Callable[[Array], Array]:
    """Lift a Python float function; NumPy itself has no such function and SciPy is not a dependency."""

    def guarded(x: float) -> float:
        try:
            return scalar(x)
        except OverflowError:
            return overflow
        except ValueError:
            return math.nan

    lifted = np.vectorize(guarded, otypes=[np.float64])

    def function(x: Array) -> Array:
        x = np.asarray(x)
        return np.asarray(lifted(x)).astype(x.dtype if x.dtype.kind == "f" else np.float64)

    return function


erf = _elementwise(math.erf)
erfc = _elementwise(math.erfc)


def _positive(scalar: Callable[[float], float], at_zero: float) -> Callable[[Array], Array]:
    """Restrict to ``x > 0``; ``at_zero`` is the pole, which is also where overflow happens."""

    def restricted(x: float) -> float:
        return scalar(x) if x > 0 else at_zero if x == 0 else math.nan

    return _elementwise(restricted, at_zero)


gamma = _positive(math.gamma, math.inf)
loggamma = _positive(math.lgamma, math.inf)


def polygamma_scalar(order: int, x: float) -> float:
    """``d^(order+1)/dx^(order+1) log Gamma(x)`` for ``order >= 0`` and finite or infinite ``x > 0``."""
    if math.isinf(x):
        return math.inf if order == 0 else 0.0
    sign = 1.0 if order % 2 else -1.0
    factorial = math.factorial(order)
    tail = 0.0
    while x < SHIFT + order:
        tail += (1.0 / x) ** (order + 1)
        x += 1.0
    inverse = 1.0 / x
    if order == 0:
        series = sum(b / (2 * k) * inverse ** (2 * k) for k, b in reversed(list(enumerate(BERNOULLI, 1))))
        return math.log(x) - 0.5 * inverse - series - tail
    series = math.factorial(order - 1) * inverse**order + 0.5 * factorial * inverse ** (order + 1)
    for k, b in enumerate(BERNOULLI, 1):
        ratio = math.factorial(2 * k + order - 1) / math.factorial(2 * k)
        series += b * ratio * inverse ** (2 * k + order)
    return sign * (factorial * tail + series)


def polygamma(order: int) -> Callable[[Array], Array]:
    """The vectorised polygamma function of a fixed order."""
    at_zero = -math.inf if order % 2 == 0 else math.inf
    return _positive(lambda x: polygamma_scalar(order, x), at_zero)
