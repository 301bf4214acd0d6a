"""How an estimator is compiled and run."""

from __future__ import annotations

from dataclasses import dataclass

from cpgen.errors import RequestError
from cpgen.estimate.finite import POLICIES
from cpgen.estimate.sampling import is_count
from cpgen.estimate.tuning import Tuning
from cpgen.native import Compiler


@dataclass(frozen=True)
class Options:
    """How an estimator is compiled and run.

    ``real``: "float64" or "float32".  ``target``: "cpu", or "cuda" for a GPU.  ``backend``: "auto" (native if there is a
    compiler), "native" or "interpreter".  ``threads``: for the native code; None means all that the machine offers.
    ``memory_limit``: bytes that one call may need, None for three quarters of what is free.  ``factor``: see
    :class:`cpgen.derive.sources.Setting`.  ``fused``: see :func:`cpgen.compile`.  ``tuning``: measured choices, in place
    of those of the cost model.  ``blas``: a library for large products, "openblas" on the CPU and "cublas" on a GPU, or a
    path; results then have bits of their own.  ``nonfinite``: "error" or "nan", see :mod:`cpgen.estimate.finite`.
    """

    real: str = "float64"
    backend: str = "auto"
    threads: int | None = None
    memory_limit: int | None = None
    factor: str = "signed"
    epsilon: float = 1e-3
    target: str = "cpu"
    fused: bool = False
    tuning: Tuning | None = None
    blas: str = ""
    nonfinite: str = "error"

    def __post_init__(self) -> None:
        for value, allowed, what in (
            (self.real, ("float64", "float32"), "real"),
            (self.backend, ("auto", "native", "interpreter"), "backend"),
            (self.factor, ("signed", "mixed", "smooth"), "factor"),
            (self.target, ("cpu", "cuda"), "target"),
            (self.nonfinite, POLICIES, "nonfinite"),
        ):
            if value not in allowed:
                raise RequestError(f"{what}={value!r} is not one of {', '.join(allowed)}")
        if self.fused and self.target != "cpu":
            raise RequestError("fused=True is for target='cpu': on a GPU results have the bits of the plain C text")
        other, usual = ("cpu", "cublas") if self.target == "cuda" else ("cuda", "openblas")
        if self.blas in ("openblas", "cublas") and self.blas != usual:
            raise RequestError(
                f"blas={self.blas!r} is for target={other!r}: for target={self.target!r} name {usual!r} or the path of "
                "a library"
            )
        if self.blas and self.backend == "interpreter":
            raise RequestError(f"blas={self.blas!r} is for compiled programs: leave it out with backend='interpreter'")
        if self.threads is not None and (not is_count(self.threads) or self.threads < 1):
            raise RequestError(f"threads={self.threads!r}: a whole number is needed, at least 1, or None")
        if self.memory_limit is not None and (not is_count(self.memory_limit) or self.memory_limit < 1):
            raise RequestError(
                f"memory_limit={self.memory_limit!r} is no number of bytes (a gigabyte is 1 << 30) and not None"
            )


@dataclass(frozen=True)
class Form:
    """How a program is compiled: with so many rows in a tile (None: as planned), without threads, with the functions of
    the C library, with a library for its large products ("": none)."""

    tile: int | None = None
    serial: bool = False
    libm: bool = False
    blas: str = ""

    def of(self, compiler: Compiler) -> Compiler:
        return compiler.serial() if self.serial else compiler
