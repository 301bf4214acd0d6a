"""The version, and where the package lies: for every room, without the package's own front door."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"
PACKAGE = Path(__file__).parent
