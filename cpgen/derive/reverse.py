"""Reverse mode: adjoints, and gradients as a graph."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from cpgen.derive.carries import close, opened, reaching
from cpgen.derive.linear import pull_back
from cpgen.derive.uses import Uses
from cpgen.ir.build import add, constant
from cpgen.ir.nodes import ROWS, Carry, Dim, Input, Map, Node, Origin


class Adjoints:
    """Derivatives of the sum of ``root`` over its rows with respect to nodes below it.

    ``lift``: adjoints of nodes without a row axis keep one (the derivative of each row's own objective), except on
    request.  ``seed`` is the cotangent of the root, one everywhere by default.
    """

    def __init__(self, root: Node, uses: Uses, lift: bool = False, seed: Node | None = None) -> None:
        self.root, self.uses, self.lift = root, uses, lift
        self._seed = seed if seed is not None else constant(sympy.Integer(1), root.shape)
        self._known: dict[Node, Node | None] = {}
        self._carried = self._open()
        for node in reversed(uses.nodes):
            if isinstance(node, Map) and uses.active(node):
                self._known[node] = self._sum_over_uses(node, lift)
        for carry, adjoint in self._carried.items():
            close(adjoint, self.of(carry))

    def _open(self) -> dict[Carry, Carry]:
        """By carry one for its adjoint, which its body gets a step later."""
        uses, root, seed = self.uses, self.root, self._seed
        if not uses.carries:
            return {}
        reached = reaching(uses, {root: 1})
        more = {d for d in seed.shape if isinstance(d, Dim)} - ({ROWS} if not self.lift else set())
        return {
            c: opened(c, {*c.shape, *more}, -c.step, "bar")
            for c in uses.carries
            if uses.active(c) and reached[c]
        }

    def of(self, node: Node) -> Node | None:
        """The adjoint of ``node``; None if it is structurally zero."""
        if node not in self._known:
            self._known[node] = self._sum_over_uses(node, self.lift)
        return self._known[node]

    def summed(self, node: Node) -> Node | None:
        """The adjoint of ``node`` in its own shape, rows summed."""
        return self._sum_over_uses(node, False)

    def _sum_over_uses(self, node: Node, lift: bool) -> Node | None:
        origin = adjoint_origin(node)
        parts: list[Node | None] = [self._seed] if node is self.root else []
        for use in self.uses.of(node):
            cotangent = self.of(use.map)
            if cotangent is not None:
                parts.append(pull_back(use.map, use.position, cotangent, lift=lift, origin=origin))
        parts += [self._carried[carry] for carry in self.uses.carried(node) if carry in self._carried]
        return add(parts, origin)


def adjoint_origin(node: Node, role: str = "bar") -> Origin:
    """The origin of something derived from ``node``."""
    own = node.origin
    name = own.name if own.role == "" else f"{own.name}_{own.role}"
    return Origin(name, own.file, own.line, "", own.axes, role)


def gradients(root: Node, leaves: Sequence[Input], seed: Node | None = None) -> list[Node | None]:
    """The gradient of the sum of ``root`` with respect to each leaf, in the leaf's shape (None where zero)."""
    uses = Uses([root], leaves)
    adjoints = Adjoints(root, uses, seed=seed)
    return [adjoints.summed(leaf) for leaf in leaves]
