"""Forward mode: tangents as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpgen.derive.carries import close, tangent_carries
from cpgen.derive.linear import push_forward
from cpgen.derive.reverse import adjoint_origin
from cpgen.ir.nodes import Input, Map, Node, topological


def tangents(roots: Sequence[Node], directions: Mapping[Input, Node] | Mapping[Node, Node]) -> list[Node | None]:
    """The derivative of each root along ``directions`` (node -> tangent shaped like it, run-time axes in front)."""
    known: dict[Node, Node | None] = dict(directions.items())
    nodes = topological(list(roots))
    carried = tangent_carries(nodes, dict(directions.items()))
    known |= dict(carried.items())
    for node in nodes:
        if node in known or not isinstance(node, Map):
            continue
        moving = {k: t for k, a in enumerate(node.args) if (t := known.get(a.node)) is not None}
        known[node] = push_forward(node, moving, origin=adjoint_origin(node, "dot")) if moving else None
    for carry, tangent in carried.items():
        close(tangent, known.get(carry.body))
    return [known.get(root) for root in roots]
