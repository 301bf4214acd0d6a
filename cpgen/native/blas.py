"""The matrix products of a BLAS library: found, and called with the library's own threads off."""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from cpgen.errors import EnvironmentProblem

OPENBLAS = "openblas"
# besides those that NumPy and SciPy bring with them
SYSTEM = ("libopenblas.so", "libopenblas.so.0", "libopenblas64_.so.0", "libopenblas.dylib", "libopenblas.dll")
PREFIXES = ("", "scipy_")
SUFFIXES = ("64_", "_64", "")  # the first two stand for integers of 64 bits
GEMM = {"float64": "cblas_dgemm", "float32": "cblas_sgemm"}


@dataclass(frozen=True, eq=False)
class Blas:
    """A library that was found to have products; ``gemm``: their addresses by number type.

    ``wide``: its integers have 64 bits.  ``threads``: what asks for the number of its threads and what sets it, None if
    it has no such functions known here; it must then be told by other means to use one.
    """

    path: str
    wide: bool
    gemm: Mapping[str, int]
    threads: tuple[Callable[[], int], Callable[[int], None]] | None
    _library: ctypes.CDLL  # keeps the functions alive
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _users: list[int] = field(default_factory=list)  # the number of threads before the first of them

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While a program runs, whose own threads call the library: each call is then one thread's."""
        if self.threads is None:
            yield
            return
        ask, tell = self.threads
        with self._lock:
            self._users.append(self._users[0] if self._users else ask())
            tell(1)
        try:
            yield
        finally:
            with self._lock:
                before = self._users.pop()
                if not self._users:
                    tell(before)


@lru_cache(maxsize=8)
def find_blas(name: str) -> Blas:
    """The library called ``name``: "openblas" for the one that NumPy brings with it, or else the system's; or a path.

    It must have cblas_dgemm and cblas_sgemm, with or without the prefix and the suffixes that OpenBLAS is built with.
    Raises EnvironmentProblem if there is none.
    """
    places = _openblas() if name == OPENBLAS else [name]
    for place in places:
        found = _open(place)
        if found is not None:
            return found
    if name == OPENBLAS:
        raise EnvironmentProblem(
            f"blas='openblas': no OpenBLAS can be loaded (looked for {', '.join(places)}); install OpenBLAS or a NumPy "
            "from the package index, which brings it, name a library by its path, or leave blas out: the program's own "
            "loops then compute the same"
        )
    raise EnvironmentProblem(
        f"blas={name!r}: no library of that name with the functions cblas_dgemm and cblas_sgemm can be loaded; name "
        "another by its path, or 'openblas', or leave blas out: the program's own loops then compute the same"
    )


def _openblas() -> list[str]:
    """Where OpenBLAS may be, best first: what NumPy has loaded already costs no more memory."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs", package.parent / "scipy.libs")
    brought = [str(p) for folder in folders if folder.is_dir() for p in sorted(folder.glob("*openblas*"))]
    named = ctypes.util.find_library("openblas")
    return list(dict.fromkeys([*brought, *([named] if named else []), *SYSTEM]))


def _open(place: str) -> Blas | None:
    try:
        library = ctypes.CDLL(place)
    except OSError:
        return None
    for prefix in PREFIXES:
        for suffix in SUFFIXES:
            gemm = {real: _address(library, f"{prefix}{name}{suffix}") for real, name in GEMM.items()}
            if all(gemm.values()):
                wide = bool(suffix) or "USE64BITINT" in _configuration(library, f"{prefix}openblas_get_config")
                return Blas(place, wide, gemm, _threads(library, prefix, suffix), library)
    return None


def _address(library: ctypes.CDLL, name: str) -> int:
    """Where a function of the library is, 0 if it has none of that name."""
    function = getattr(library, name, None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function is not None else 0


def _configuration(library: ctypes.CDLL, name: str) -> str:
    """What an OpenBLAS says of how it was built: some have integers of 64 bits without a suffix that tells."""
    function = getattr(library, name, None)
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return (function() or b"").decode(errors="replace")


def _threads(
    library: ctypes.CDLL, prefix: str, suffix: str
) -> tuple[Callable[[], int], Callable[[int], None]] | None:
    ask = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
    tell = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
    if ask is None or tell is None:
        return None
    ask.argtypes, ask.restype = [], ctypes.c_int
    tell.argtypes, tell.restype = [ctypes.c_int], None
    return ask, tell
