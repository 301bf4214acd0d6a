"""Where the user wrote what is being declared."""

from __future__ import annotations

import sys
from pathlib import Path

from cpgen.ir.nodes import Origin

PACKAGE = Path(__file__).resolve().parents[1]


def caller(name: str = "") -> Origin:
    """An origin called ``name`` at the innermost line outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).resolve().is_relative_to(PACKAGE):
        frame = frame.f_back
    return Origin(name, Path(frame.f_code.co_filename).name, frame.f_lineno)
