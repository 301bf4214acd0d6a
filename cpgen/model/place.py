"""Where the user wrote what is being declared."""

from __future__ import annotations

from cpgen.errors import users_line
from cpgen.ir.nodes import Origin


def caller(name: str = "") -> Origin:
    """An origin called ``name`` at the innermost line outside this package."""
    place = users_line()
    return Origin(name, place.file, place.line)
