"""NumPy versions of the stable functions, float32 and float64 preserving.

The gamma family uses the recurrence ``f(x) = f(x + 1) + ...`` up to ``x >= SHIFT`` followed by the asymptotic series
(Abramowitz and Stegun 6.1.41, 6.3.18, 6.4.11), for ``x > 0``; outside, the result is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mpmath
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


def undefined(x: Array) -> Array:
    return np.full_like(x, np.nan)


def step(x: Array) -> Array:
    return np.where(np.isnan(x), x, (np.asarray(x) > 0).astype(np.asarray(x).dtype))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def normcdf(x: Array) -> Array:
    return 0.5 * erfc(-x * math.sqrt(0.5))


# (1 + t)(phi(t)/Phi(-t) - t) for t >= 0 in powers of (t - 4)/(t + 4), the highest first: interpolated in Chebyshev points
MILLS = (
    6.9100219813068025e-09,
    1.6408782709952746e-09,
    -7.319489931332117e-08,
    1.0280565972055142e-08,
    3.9978383672116733e-07,
    -2.804602802770555e-07,
    -1.5339209924039294e-06,
    2.3331034918042364e-06,
    4.591133492146448e-06,
    -1.279478490668889e-05,
    -1.0273011792657903e-05,
    5.532697741826453e-05,
    9.212125311686349e-06,
    -0.00020243886411859457,
    6.874061401677924e-05,
    0.0006390048822711196,
    -0.0005603834150684914,
    -0.001693714638995166,
    0.0027520372390943734,
    0.0032926607174017745,
    -0.01060553895943636,
    -0.001129086131595163,
    0.03242420504450178,
    -0.030769392021502348,
    -0.06107108420317223,
    0.19293246887907473,
    -0.1921037481908367,
    -0.062056379981136375,
    1.1280357224473554,
)


def mills_gap(x: Array) -> Array:
    """``x + phi(x)/Phi(x)`` of the standard normal; on the left by a polynomial, for the two terms cancel."""
    x = np.asarray(x)
    t = np.minimum(np.maximum(-x, 0.0), 1e30).astype(np.float64)
    left = np.polyval(MILLS, (t - 4.0) / (t + 4.0)) / (1.0 + np.maximum(-x, 0.0))
    right = np.maximum(x, 0.0).astype(np.float64)
    density = np.exp(-0.5 * right * right) / math.sqrt(2.0 * math.pi)
    return np.where(x < 0, left, x + density / normcdf(right)).astype(x.dtype)


def mills(x: Array) -> Array:
    """``phi(x)/Phi(x)`` of the standard normal."""
    x = np.asarray(x)
    right = np.maximum(x, 0.0).astype(np.float64)
    density = np.exp(-0.5 * right * right) / math.sqrt(2.0 * math.pi)
    return np.where(x < 0, mills_gap(np.minimum(x, 0.0)) - x, density / normcdf(right)).astype(x.dtype)


def log_ndtr(x: Array) -> Array:
    """``log(Phi(x))`` of the standard normal."""
    x = np.asarray(x)
    wide = x.astype(np.float64)
    left = np.minimum(wide, 0.0)
    tail = -0.5 * left * left - (np.log(mills(left)) + 0.5 * math.log(2.0 * math.pi))
    return np.where(wide < 0, tail, np.log1p(-normcdf(-np.maximum(wide, 0.0)))).astype(x.dtype)


def gelu(x: Array) -> Array:
    return x * normcdf(x)


def sech(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return 2.0 * decay / (1.0 + decay * decay)


def sech2(x: Array) -> Array:
    """``sech(x)**2``."""
    decay = sech(x)
    return decay * decay


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


def _spherical_scalar(order: int, x: float) -> float:
    """The spherical Bessel function ``j_order``: its power series for ``|x| <= order + 1``, else the recurrence."""
    if math.isinf(x):
        return 0.0
    if abs(x) <= order + 1.0:
        total = 1.0
        for k in range(22, 0, -1):
            total = 1.0 - 0.5 * x * x / k / (2 * (order + k) + 1) * total
        return total * math.prod(x / (2 * k + 1) for k in range(1, order + 1))
    value, lower = math.sin(x) / x, math.cos(x) / x
    for k in range(order):
        value, lower = (2 * k + 1) / x * value - lower, value
    return value


def spherical(order: int) -> Callable[[Array], Array]:
    """The vectorised spherical Bessel function of the first kind and a fixed order."""
    return _elementwise(lambda x: _spherical_scalar(order, x), math.nan)


def bessel(name: str, order: int) -> Callable[[Array], Array]:
    """The vectorised Bessel function "besselj", "bessely", "besseli" or "besselk" of a fixed order, by mpmath."""
    function = getattr(mpmath, name)
    at_zero = {"bessely": -math.inf, "besselk": math.inf}.get(name)
    at_end = math.inf if name == "besseli" else 0.0

    def scalar(x: float) -> float:
        if at_zero is not None and not x > 0.0:
            return at_zero if x == 0.0 else math.nan
        if math.isinf(x):
            return -at_end if x < 0.0 and order % 2 else at_end
        return float(function(order, x))

    return _elementwise(scalar)


PHI_TERMS = 40


def _phi1_scalar(order: int, x: float) -> float:
    """The integral of ``s**order exp(s x)``: series of positive terms up to ``|x| = 6``, the recurrence from there."""
    size = abs(x)
    if order == 0:
        return math.expm1(x) / x if 0.0 < size < 700.0 else 1.0 if x == 0.0 else _phi1_far(0, x)
    if size > 6.0 or math.isnan(x):
        return _phi1_far(order, x)
    if x < 0.0:
        total = 1.0
        for m in range(PHI_TERMS, 0, -1):
            total = 1.0 + size / (order + 1 + m) * total
        return math.exp(x) * total / (order + 1)
    total = 0.0
    for m in range(PHI_TERMS, -1, -1):
        total = 1.0 / (order + 1 + m) + x / (m + 1) * total
    return total


def _phi1_far(order: int, x: float) -> float:
    size = abs(x)
    if math.isinf(x):
        return 0.0 if x < 0 else x
    # of exp(-x) times the integral for x > 0
    value, end = -math.expm1(-size) / size, math.exp(x) if x < 0.0 else 1.0
    for k in range(1, order + 1):
        value = (k * value - end) / size if x < 0.0 else (end - k * value) / size
    half = math.exp(0.5 * x) if x > 0.0 else 1.0
    return half * value * half


def phi1(order: int) -> Callable[[Array], Array]:
    """The vectorised derivative of a fixed order of ``(exp(x) - 1)/x``."""
    return _elementwise(lambda x: _phi1_scalar(order, x), math.inf)


def _erfc_tail(q: float) -> float:
    """``w`` with ``erfc(w) = q`` for ``0 < q <= 1/2``, by Newton's method on the logarithms."""
    target = -math.log(q)
    w = math.sqrt(target - 0.5 * math.log(1.0 + 3.0 * target))
    for _ in range(5):
        # erfc(w) = 2 Phi(-sqrt(2) w) and Phi'/Phi are known where erfc is below the smallest number
        t = math.sqrt(2.0) * w
        scaled = math.sqrt(2.0 / math.pi) / float(mills(np.asarray(-t)))
        w += (target - w * w + math.log(scaled)) * 0.5 * math.sqrt(math.pi) * scaled
    return w


def _erfinv_scalar(x: float) -> float:
    size = abs(x)
    if size > 0.5:
        if size >= 1.0:
            return math.copysign(math.inf, x) if size == 1.0 else math.nan
        return math.copysign(_erfc_tail(1.0 - size), x)
    w = 0.5 * math.sqrt(math.pi) * x * (1.0 + math.pi / 12.0 * x * x)
    for _ in range(4):
        w -= (math.erf(w) - x) * 0.5 * math.sqrt(math.pi) * math.exp(w * w)
    return w if x else x


def _erfcinv_scalar(q: float) -> float:
    if 0.0 < q < 0.5:
        return _erfc_tail(q)
    return math.inf if q == 0.0 else _erfinv_scalar(1.0 - q)


erfinv = _elementwise(_erfinv_scalar)
erfcinv = _elementwise(_erfcinv_scalar)


def _lambertw_scalar(x: float) -> float:
    above = math.e * ((x + 0.36787944117144233) - 1.2428753672788363e-17)
    if not above >= 0.0 or x == 0.0 or math.isinf(x):
        return math.nan if above < 0.0 else x
    if x < -0.25:
        p = math.sqrt(2.0 * above)
        w = -1.0 + p * (1.0 + p * (-1.0 / 3.0 + p * (11.0 / 72.0 - p * 43.0 / 540.0)))
        if p < 1e-4:
            return w
    else:
        growth = math.log1p(x)
        w = growth * (1.0 - math.log1p(growth) / (2.0 + growth))
    for _ in range(5):
        w = w / (1.0 + w) * (1.0 + math.log(x / w))
    return w


def _lambertw_slope_scalar(x: float) -> float:
    w = _lambertw_scalar(x)
    if math.isinf(x) or w == -1.0:
        return math.inf if w == -1.0 else w if w < 0 else 0.0
    return w / (1.0 + w) / x if x > 1.0 else math.exp(-w) / (1.0 + w)


lambertw = _elementwise(_lambertw_scalar)
lambertw_slope = _elementwise(_lambertw_slope_scalar)


def xlogy(x: Array, y: Array) -> Array:
    return np.where((x == 0) & ~np.isnan(y), np.zeros_like(x), x * np.log(y))


def xdivy(x: Array, y: Array) -> Array:
    return np.where((x == 0) & ~np.isnan(y), np.zeros_like(x), x / y)


def significand(x: Array) -> Array:
    """``x / 2**exponent(x)``, from 1 to 2 in size; 0, infinities and NaN stay."""
    return np.where((x == 0) | ~np.isfinite(x), x, 2 * np.frexp(x)[0]).astype(np.asarray(x).dtype)


def exponent(x: Array) -> Array:
    return np.where((x == 0) | ~np.isfinite(x), 0, np.frexp(x)[1] - 1).astype(np.asarray(x).dtype)


def scalbn(y: Array, k: Array) -> Array:
    """``y * 2**k`` for whole numbers ``k``."""
    return np.ldexp(y, np.clip(k, -3000, 3000).astype(np.int32))


def eigenroot(k: int, number: int) -> Callable[..., Array]:
    """One number of :class:`cpgen.scalar.functions.eigenroot`, operation by operation as the runtime header has it."""

    def entry(*upper: Array) -> Array:
        full = np.broadcast_arrays(*upper)
        content = tuple(np.ascontiguousarray(m).tobytes() for m in full)
        return _eigenroots(k, full[0].dtype.name, content)[number].reshape(full[0].shape)

    return entry


@lru_cache(maxsize=64)
def _eigenroots(k: int, real: str, content: tuple[bytes, ...]) -> list[Array]:
    """All numbers of the roots of the matrices whose upper triangles are the bytes in ``content``."""
    upper = iter([np.frombuffer(c, real) for c in content])
    half, quarter, one = (np.dtype(real).type(x) for x in (0.5, 0.25, 1))
    tiny = np.dtype(real).type(1e-300 if real == "float64" else 1e-30)
    x = {(i, j): next(upper) for i in range(k) for j in range(i, k)}
    size = np.full(len(x[0, 0]), np.finfo(real).tiny, real)
    for m in x.values():
        size = np.where(np.abs(m) > size, np.abs(m), size)
    x = {place: m / size for place, m in x.items()}
    q = {(i, j): np.full(len(size), i == j, real) for i in range(k) for j in range(k)}
    for _ in range(1 if k == 2 else 2):
        for a in range(k):
            for b in range(a + 1, k):
                gap, twice = x[b, b] - x[a, a], x[a, b] + x[a, b]
                below = (np.abs(gap) + np.sqrt(gap * gap + twice * twice)) + tiny
                t = np.where(gap < 0, -twice, twice) / below
                c = one / np.sqrt(one + t * t)
                s = t * c
                x[a, a], x[b, b] = x[a, a] - t * x[a, b], x[b, b] + t * x[a, b]
                x[a, b] = np.zeros_like(size)
                moves = [(x, (min(r, a), max(r, a)), (min(r, b), max(r, b))) for r in range(k) if r not in (a, b)]
                for where, u, v in [*moves, *((q, (r, a), (r, b)) for r in range(k))]:
                    where[u], where[v] = c * where[u] - s * where[v], s * where[u] + c * where[v]
    numbers = [size] * (2 * k * k)
    for j in range(k):
        y = {i: x[j, i] if i == j else x[j, i] + x[j, i] for i in range(j, k)}
        norm = sum(y[i] * y[i] for i in range(j, k))
        left = (half * np.sqrt(size)) * np.sqrt(np.sqrt(norm))
        right = np.where(norm > 0, (quarter * size) / left, norm * 0)
        for r in range(k):
            up, down = q[r, j] * left, sum(q[r, i] * y[i] for i in range(j, k)) * right
            numbers[k * r + j], numbers[k * k + k * r + j] = up + down, up - down
    return numbers
