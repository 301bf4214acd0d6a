"""C text that was not made here, read as tokens: the runtime headers and what users write.

A name in a comment, a string or a preprocessor's message is not a name, so nothing is found or changed there.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """``kind`` is "comment", "string", "name", "number", "space" or "other" (one character)."""

    kind: str
    text: str


def tokens(text: str) -> Iterator[Token]:
    """All tokens; their texts one after the other are ``text``."""
    return (Token(match.lastgroup or "other", match[0]) for match in _TOKEN.finditer(text))


def names(text: str) -> set[str]:
    """The names in a text."""
    return {token.text for token in tokens(text) if token.kind == "name"}


def called(text: str) -> set[str]:
    """The names that are followed by an opening parenthesis."""
    found, before = set(), None
    for token in tokens(text):
        if token.text == "(" and before is not None:
            found.add(before)
        if token.kind != "space":
            before = token.text if token.kind == "name" else None
    return found


def renamed(text: str, change: Callable[[str], str], comments: bool = False) -> str:
    """``text`` with other names, on request also in its comments and strings."""

    def put(token: Token) -> str:
        if token.kind == "name":
            return change(token.text)
        if comments and token.kind in ("comment", "string"):
            return token.text[0] + renamed(token.text[1:], change)
        return token.text

    return "".join(map(put, tokens(text)))


def made_by(command: str) -> list[str]:
    """The lines of a comment that name the command behind a file; none without one."""
    text = in_comment(f"Made again by: {' '.join(command.split())}")
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, 107, subsequent_indent="  ", **options) if command else []  # type: ignore[arg-type]


def in_comment(text: str) -> str:
    """``text`` as it can stand in a comment: it cannot end it, nor leave its line, and is ASCII."""
    apart = text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
    return "".join(c if c.isprintable() and ord(c) < 127 else " " if c.isspace() else "?" for c in apart)
