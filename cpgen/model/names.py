"""Which names a user may give: any that can be written in Python and C.

A name that means something to C, to Python or to the estimator is no less free: generated text spells it differently
(:mod:`cpgen.code.identifiers`), and arrays can be given as one mapping.
"""

from __future__ import annotations

import re

from cpgen.errors import ModelError
from cpgen.ir.nodes import Origin

LONGEST = 63  # characters by which C99 tells identifiers apart (5.2.4.1)
# numbers that a call hands to a program beside its arrays, by name
SCALES = frozenset(("row_scale", "column_scale", "variance_scale"))


def check_name(name: object, what: str, origin: Origin) -> str:
    """Return ``name`` if it can be used everywhere, else raise ModelError saying why not."""
    if not isinstance(name, str):
        raise ModelError(f"the name of {what} must be a string, not {type(name).__name__}", origin)
    if len(name) > LONGEST:
        raise ModelError(
            f"{what} {name[:20] + '...'!r}: the name has {len(name)} letters; C tells names apart by {LONGEST}: choose a "
            "shorter one",
            origin,
        )
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name or name.endswith("_"):
        raise ModelError(
            f"{what} {name!r}: a name is a letter followed by letters, digits and single underscores (it becomes a C "
            "identifier)",
            origin,
        )
    if name in SCALES:
        raise ModelError(
            f"{what} {name!r}: generated programs have an argument of this name (there are {', '.join(sorted(SCALES))}); "
            "choose another",
            origin,
        )
    return name
