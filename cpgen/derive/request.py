"""What is asked of a model, as a value; and as the text that users write and that notes are kept under."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from cpgen.errors import RequestError

PROGRAMS = ("value", "gradient", "jvp", "hvp", "hessian", "diagonal", "trace", "sketch", "block")
"""What a text can ask for, in the order in which messages list them."""
_BY_METHOD = ("diagonal", "trace", "hessian")
_BY_PAIRS = ("sketch", "block")
_GRADIENT = "+gradient"

Entry = tuple[str, tuple[int, ...]]  # a leaf, and an index of its elements


@dataclass(frozen=True)
class Sums:
    """Sums of the diagonal over ``count`` groups.

    ``leaves``: those that some group has a part in, each with how groups divide it (:mod:`cpgen.derive.groups`).
    ``covariance``: with that of each two sums.
    """

    count: int
    leaves: tuple[tuple[str, str], ...]
    covariance: bool = False


@dataclass(frozen=True)
class Request:
    """One program of a model.

    ``what``: one of :data:`PROGRAMS`, "entries" or "sums".  ``method``: by which estimator; "" leaves it to the library,
    which takes the cheapest, for ``exact`` among those that are exact.  ``pairs`` of leaves: of a block, or the only ones
    a sketch is for.  ``entries``, ``sums``: of which.  ``with_gradient``: the program with value and gradient as well.
    """

    what: str
    method: str = ""
    exact: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    entries: tuple[tuple[Entry, Entry], ...] = ()
    sums: Sums | None = None
    with_gradient: bool = False

    def __str__(self) -> str:
        """As :func:`read_request` reads it, but for entries and sums, which no text asks for."""
        parts = [self.what]
        if self.method:
            parts.append(self.method)
        if self.exact:
            parts.append("exact")
        if self.pairs:
            parts.append(";".join(map(",".join, self.pairs)))
        if self.entries:
            parts.append(";".join(",".join(f"{leaf}{list(index)}" for leaf, index in pair) for pair in self.entries))
        if self.sums is not None:
            parts.append(str(self.sums.count))
            parts.append(",".join(f"{leaf}={kind}" for leaf, kind in self.sums.leaves))
            parts += ["pairs"] if self.sums.covariance else []
        return ":".join(parts) + (_GRADIENT if self.with_gradient else "")

    @property
    def program(self) -> str:
        """A name for its program."""
        return str(self).replace(":", "_")

    @property
    def insists(self) -> bool:
        """Whether nothing but an exact answer will do."""
        return self.exact or self.what == "hessian"

    def by(self, method: str) -> Request:
        """The same by that method."""
        return replace(self, method=method, exact=False)

    @property
    def alone(self) -> Request:
        """The same without value and gradient."""
        return replace(self, with_gradient=False)

    @property
    def and_gradient(self) -> Request:
        """The same with value and gradient."""
        return replace(self, with_gradient=True)


@lru_cache(maxsize=256)
def by_method(what: str, method: str = "") -> Request:
    """A request by a method; always the same object, so that a call which looks it up compares no fields."""
    return Request(what, method)


def read_request(text: str) -> Request:
    """The request behind a text such as "gradient", "diagonal:exact" or "block:W,b".  Raises RequestError."""
    if not isinstance(text, str):
        raise RequestError(f"a program is named by a text such as 'diagonal:exact', and this is {type(text).__name__}")
    plain = text.removesuffix(_GRADIENT)
    what, _, rest = plain.partition(":")
    if what not in PROGRAMS:
        raise RequestError(f"there is no program {what!r}; there are: {', '.join(PROGRAMS)}")
    made = Request(what, with_gradient=plain != text)
    if what in _BY_PAIRS:
        pairs = tuple(tuple(pair.split(",")) for pair in rest.split(";")) if rest else ()
        if any(len(pair) != 2 for pair in pairs) or (what == "block" and not pairs):
            raise RequestError(f"{text!r}: a {what} is named with pairs of leaves, {what}:W,b")
        return replace(made, pairs=tuple((a, b) for a, b in pairs))
    if rest == "exact" and what in _BY_METHOD:
        return replace(made, exact=what != "hessian")  # which is so in any case
    if rest and what not in _BY_METHOD:
        raise RequestError(f"{text!r}: a method is named with {', '.join(_BY_METHOD)}, and {what} knows one way only")
    return replace(made, method=rest)


VALUE, GRADIENT, JVP, HVP, HESSIAN = map(by_method, ("value", "gradient", "jvp", "hvp", "hessian"))
DIAGONAL, TRACE = by_method("diagonal"), by_method("trace")
EXACT_DIAGONAL, EXACT_TRACE = Request("diagonal", exact=True), Request("trace", exact=True)
EXACT = {"diagonal": EXACT_DIAGONAL, "trace": EXACT_TRACE}
CHOSEN = (DIAGONAL, EXACT_DIAGONAL, TRACE, EXACT_TRACE, HESSIAN)
"""Whose method the library chooses by its cost."""
