"""Which names a user may give: they become identifiers in C and keyword arguments in Python."""

from __future__ import annotations

import re

from cpgen.errors import ModelError
from cpgen.ir.nodes import Origin

C_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof main "
    "bool true false nullptr class new delete this template typename namespace using operator private public protected "
    "virtual friend try catch throw and or not xor export mutable explicit".split()
)
# keyword arguments of the estimator's methods
PYTHON_ARGUMENTS = frozenset(
    "self estimator samples seed method design exact rtol max_samples first_row directions wanted pairs program "
    "programs".split()
)
# fields of the generated argument structures and what the runtime supplies
GENERATED = frozenset(
    "n_rows columns first_column accumulate threads args work work_bytes value rows jvp trace kinks row_scale "
    "column_scale variance_scale LANES OMP_SIMD NULL INFINITY NAN I".split()
)
PREFIXES = ("v_", "diag_", "var_", "grad_", "hvp_", "dir_", "out_", "block_", "entry_", "cpgen")


def check_name(name: object, what: str, origin: Origin) -> str:
    """Return ``name`` if it can be used everywhere, else raise ModelError saying why not."""
    if not isinstance(name, str):
        raise ModelError(f"the name of {what} must be a string, not {type(name).__name__}", origin)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name or name.endswith("_"):
        raise ModelError(
            f"{what} {name!r}: a name is a letter followed by letters, digits and single underscores (it becomes a C "
            "identifier)",
            origin,
        )
    if name in C_KEYWORDS:
        raise ModelError(f"{what} {name!r}: this is a keyword of C or C++; choose another name", origin)
    if name in PYTHON_ARGUMENTS or name in GENERATED or name.startswith(PREFIXES):
        raise ModelError(
            f"{what} {name!r}: this name is used by generated code or by the estimator's own arguments",
            origin,
        )
    return name
