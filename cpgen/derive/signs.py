"""What sign a node provably has: lets positive semi-definite parts travel as one field instead of two."""

from __future__ import annotations

from cpgen.ir.nodes import Input, Map, Node
from cpgen.scalar import placeholder, sign_of


def sign_of_node(node: Node, cache: dict[Node, int | None], depth: int = 12) -> int | None:
    """+1 if every entry is provably >= 0, -1 if <= 0, 0 if identically zero, None if unknown."""
    if node in cache:
        return cache[node]
    result: int | None = None
    if isinstance(node, Input):
        result = 1 if node.kind == "scale" else None
    elif isinstance(node, Map) and depth > 0:
        signs = {placeholder(k): sign_of_node(a.node, cache, depth - 1) for k, a in enumerate(node.args)}
        result = sign_of(node.expr, signs)
    cache[node] = result
    return result
