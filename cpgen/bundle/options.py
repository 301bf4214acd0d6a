"""What a bundle is asked to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpgen.code.identifiers import external_prefix
from cpgen.errors import RequestError

Array = NDArray[np.floating]
MATH = ("builtin", "libm")
TARGETS = ("cpu", "cuda")
_UNITS = {"": 1, "b": 1, "k": 1024, "kb": 1024, "kib": 1024, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20}


@dataclass(frozen=True)
class BundleOptions:
    """How a bundle is made.

    ``programs``: program keys. ``prefix``: starts every external name (a C identifier; default: the model's name).
    ``weights``: parameters that become constant data. ``vectors``: arrays for the self-test instead of random numbers
    (inside declared ranges). ``amalgamate``: one .c file besides the header. ``math``: "builtin" or "libm". ``tile``:
    rows computed at once; None for 1, the least memory. ``columns``: noise columns for which sizes are reported.
    ``ram``, ``flash``: budgets in bytes. ``recompute``: compute values again where they are read instead of keeping
    them. ``command``: how to make the bundle again, for its README. ``instructions``: measured instructions for one
    row, machine -> program -> count, for the README. ``target``: "cuda" adds the programs as CUDA text.
    """

    programs: tuple[str, ...]
    prefix: str = ""
    weights: Mapping[str, object] | None = None
    vectors: Mapping[str, object] | None = None
    amalgamate: bool = False
    math: str = "builtin"
    tile: int | None = None
    columns: int = 16
    ram: int | None = None
    flash: int | None = None
    recompute: bool = False
    command: str = ""
    instructions: Mapping[str, Mapping[str, int]] | None = None
    target: str = "cpu"

    def check(self) -> None:
        """Raise RequestError for what no bundle can be."""
        if not self.programs:
            raise RequestError("a bundle needs at least one program, for example value")
        if len(set(self.programs)) != len(self.programs):
            raise RequestError(f"a program is named twice: {', '.join(self.programs)}")
        if self.math not in MATH:
            raise RequestError(f"math={self.math!r} is not one of {', '.join(MATH)}")
        if self.target not in TARGETS:
            raise RequestError(f"target={self.target!r} is not one of {', '.join(TARGETS)}")
        if self.tile is not None and not 1 <= self.tile <= 1024:
            raise RequestError(f"tile={self.tile} is not between 1 and 1024 rows")
        if self.columns < 1:
            raise RequestError(f"columns={self.columns}: at least one column is needed")
        if self.prefix:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.prefix):
                raise RequestError(f"prefix={self.prefix!r} is not a C identifier that starts with a letter")
            if self.prefix.startswith("cpg_") or external_prefix(self.prefix) != self.prefix:
                raise RequestError(f"prefix={self.prefix!r} is taken by C, by the generated code or by another generator")
        for name, budget in (("ram", self.ram), ("flash", self.flash)):
            if budget is not None and budget < 1:
                raise RequestError(f"{name}={budget} must be a positive number of bytes")


def size_in_bytes(text: str | int) -> int:
    """``"32k"`` -> 32768; units b, k, m (powers of 1024).  Raises RequestError for anything else."""
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        raise RequestError(f"{text!r} is not a size; write for example 32k, 1.5M or 4096")
    return int(float(match[1]) * _UNITS[match[2].lower()])
