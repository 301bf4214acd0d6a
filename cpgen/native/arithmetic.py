"""What other libraries in this process may have switched off: subnormal numbers, rounding to nearest.

A library linked with -ffast-math sets flush-to-zero for the thread that loads it, and others call fesetround; both hold
for every floating-point operation after it, in whoever's code (Intel SDM, volume 1, section 10.2.3: MXCSR).
"""

from __future__ import annotations

from cpgen.errors import ArithmeticWarning, warn_user

# names, since constants would be multiplied by Python's compiler
_LEAST, _HALF, _ONE, _STEP = 2.0**-1022, 0.5, 1.0, 2.0**-55
_MEANING = {
    1: "subnormal numbers count as zero (flush-to-zero)",
    2: "results are not rounded to nearest",
    3: "subnormal numbers count as zero (flush-to-zero) and results are not rounded to nearest",
}
_JOINED = 4  # told by the C function alone


def arithmetic() -> int:
    """What the calling thread's processor leaves out of IEEE arithmetic: the numbers of the C function
    ``<model>_arithmetic``, which adds 4 where its compiler joined operations; 0 for nothing."""
    flushed = not _LEAST * _HALF > 0.0
    directed = _ONE + _STEP > _ONE or _ONE - _STEP < _ONE
    return flushed + 2 * directed


def warn_of_arithmetic(found: int) -> None:
    """Warn where ``found``, of :func:`arithmetic` or the C function, is not 0."""
    if found & _JOINED:
        warn_user(
            "the C compiler joins multiplications and additions, though told -ffp-contract=off: results of cpgen may "
            "have other bits than elsewhere. Look for -ffp-contract in what CC stands for",
            ArithmeticWarning,
        )
    if thread := found & ~_JOINED:
        warn_user(
            f"{_MEANING[thread]} in this thread, which another library has switched on: results of cpgen may have other "
            "bits than elsewhere, and tiny ones may be 0. Switch it off (for example torch.set_flush_denormal(False), or "
            "load the library that was linked with -ffast-math in another process)",
            ArithmeticWarning,
        )
