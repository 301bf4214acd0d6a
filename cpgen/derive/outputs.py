"""What the outputs of programs are, and what they are called.

``value`` and ``rows``; ``grad_W``; ``jvp``; ``hvp_W``; ``diag_W``; ``trace``; ``block_A_B``; ``entry_0``; ``column_W``
(products of the Hessian with unit directions); ``p_W`` and ``q_W`` (factors of a sketch, one column a sample); ``sums``
(of the diagonal over groups) and ``pairs`` (of them); ``kinks`` (how many evaluation points sit on a kink).  The variance
of the mean of one is ``var_`` with its name, and absent where the answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

# role -> how its names begin
_STEMS = {
    "value": "value",
    "rows": "rows",
    "gradient": "grad",
    "jvp": "jvp",
    "hvp": "hvp",
    "diagonal": "diag",
    "trace": "trace",
    "block": "block",
    "entry": "entry",
    "column": "column",
    "p": "p",
    "q": "q",
    "sums": "sums",
    "pairs": "pairs",
    "kinks": "kinks",
}
_ROLES = {stem: role for role, stem in _STEMS.items()}
_VARIANCE = "var_"
SUMMED = ("trace", "sums")  # roles of numbers that are sums of many elements


@dataclass(frozen=True)
class Output:
    """One output: its ``role``, ``of`` which leaves (an entry: its number), and whether it is the variance of that."""

    role: str
    of: tuple[str, ...] = ()
    is_variance: bool = False

    @property
    def name(self) -> str:
        """``a_b`` with ``c`` is not ``a`` with ``b_c``: where a name in a pair has an underscore, a comma parts them."""
        between = "," if any("_" in leaf for leaf in self.of) else "_"
        stem = _STEMS[self.role]
        text = f"{stem}_{between.join(self.of)}" if self.of else stem
        return _VARIANCE + text if self.is_variance else text

    @property
    def of_column(self) -> bool:
        """Whether it is a mean over columns; the others are the same whatever the columns."""
        return not self.is_variance and self.role not in ("value", "rows", "gradient", "kinks")


@lru_cache(maxsize=4096)
def name_of(role: str, *of: str) -> str:
    """The name of an output that is no variance."""
    return Output(role, of).name


def variance_of(name: str) -> str:
    """The name of the variance of the output of that name."""
    return _VARIANCE + name


@lru_cache(maxsize=4096)
def read_output(name: str) -> Output:
    """The output of that name.  Raises KeyError for a name that no output has."""
    plain = name.removeprefix(_VARIANCE)
    stem, _, rest = plain.partition("_")
    role = _ROLES[stem]
    of: tuple[str, ...] = (rest,) if rest else ()
    if role == "block":
        of = tuple(rest.split("," if "," in rest else "_"))
    return Output(role, of, plain != name)
