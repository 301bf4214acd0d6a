"""cpgen: a compiler from SymPy models to native code that estimates curvature."""

from __future__ import annotations

__version__ = "0.1.0"
