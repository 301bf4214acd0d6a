"""What sign a node provably has: lets positive semi-definite parts travel as one field instead of two."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from cpgen.ir.nodes import Carry, Map, Node
from cpgen.ir.rewrite import Memo
from cpgen.scalar import placeholder, sign_of

Sign: TypeAlias = int | None


def signs() -> Memo[Node, Sign]:
    """+1 for a node every entry of which is provably >= 0, -1 if <= 0, 0 if identically zero, None if unknown."""
    return Memo(_sign)


def _sign(node: Node) -> Generator[Node, Sign, Sign]:
    if isinstance(node, Carry):
        return None
    if not isinstance(node, Map):
        return 1 if node.kind == "scale" else None  # type: ignore[attr-defined]
    known = {}
    for k, access in enumerate(node.args):
        known[placeholder(k)] = yield access.node
    return sign_of(node.expr, known)
