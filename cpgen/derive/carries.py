"""What derivatives do at a carry: one of their own, opened before what it carries is known and closed when it is.

A carry is linear: it shifts its body by one step.  Its tangent shifts the body's tangent, in the same direction; the
adjoint of a body contains the carry's adjoint shifted the other way.  So the derivatives of a recurrence are recurrences
(transposed, in reverse mode), whatever is carried through it: adjoints, tangents, the fields of a sweep, diagonals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sympy

from cpgen.derive.uses import Uses
from cpgen.ir.build import constant, make_map, read_here
from cpgen.ir.nodes import COLUMNS, ROWS, Carry, Dim, Map, Node, Origin, carries
from cpgen.ir.recur import settled
from cpgen.scalar import diff, placeholder, vanishes

Dims = frozenset[Dim]
_NONE: Dims = frozenset()


def opened(carry: Carry, dims: Iterable[Dim | int], step: int, role: str) -> Carry:
    """A carry of something that has the elements of ``carry`` and run-time axes ``dims``."""
    lead = [d for d in (COLUMNS, ROWS) if d in dims]
    own = carry.body.origin
    origin = Origin(f"{carry.body.name}_{role}", own.file, own.line, "", own.axes, "carry")  # type: ignore[attr-defined]
    return Carry((*lead, *carry.element_shape), carry.along, step, origin)


def close(carry: Carry, body: Node | None) -> None:
    """Carry ``body``, the same for all of the run-time axes that it has not; None is zero."""
    if body is None:
        body = constant(sympy.Integer(0), carry.shape, carry.origin)
    if body.shape != carry.shape:
        body = make_map(
            carry.shape, len(carry.shape), [read_here(body, carry.shape)], placeholder(0), origin=body.origin
        )
    carry.close(body)


def passes(m: Map, k: int) -> bool:
    """Whether argument ``k`` of ``m`` has a derivative."""
    return m.reduce == "sum" and not vanishes(diff(m.expr, placeholder(k)))


def tangent_carries(nodes: Sequence[Node], directions: Mapping[Node, Node]) -> dict[Carry, Carry]:
    """By carry one for its tangent, where there is one; ``directions``: those tangents that are given.

    They are closed with :func:`close` when the tangents of their bodies are known.
    """
    held = carries(nodes)
    if not held:
        return {}

    def rule(node: Node, found: Mapping[Node, Dims | None]) -> Dims | None:
        below: list[Dims | None] = []
        if node in directions:
            below.append(frozenset(d for d in directions[node].shape if isinstance(d, Dim)))
        if isinstance(node, Carry):
            below.append(found.get(node.body))
        elif isinstance(node, Map):
            below += [
                found[a.node]
                for k, a in enumerate(node.args)
                if found[a.node] is not None and passes(node, k)
            ]
        moving = [dims for dims in below if dims is not None]
        own = frozenset(d for d in node.shape if isinstance(d, Dim))
        return own.union(*moving) if moving else None

    dims = settled(nodes, rule)
    return {c: opened(c, found, c.step, "dot") for c in held if (found := dims[c]) is not None}


def reaching(uses: Uses, tops: Mapping[Node, int]) -> dict[Node, int]:
    """The bits of ``tops`` (by node) that each node has a derivative of, carries followed."""

    def rule(node: Node, found: Mapping[Node, int]) -> int:
        bits = tops.get(node, 0)
        for use in uses.of(node):
            above = found.get(use.map, 0)
            if above & ~bits and passes(use.map, use.position):
                bits |= above
        for carry in uses.carried(node):
            bits |= found.get(carry, 0)
        return bits

    return settled(tuple(reversed(uses.nodes)), rule)
