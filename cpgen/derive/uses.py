"""Who reads whom: the uses of every node and the leaves every node depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpgen.ir.nodes import Input, Map, Node, topological


@dataclass(frozen=True)
class Use:
    """Argument ``position`` of ``map``."""

    map: Map
    position: int


class Uses:
    """The part of a graph between ``leaves`` and ``roots``.

    ``nodes``: all nodes, arguments first.  ``leaves_of(node)``: which of ``leaves`` the node depends on.
    ``of(node)``: the uses of a node by maps of this graph.  Nothing flows through ``reduce="max"``.
    """

    def __init__(self, roots: Sequence[Node], leaves: Sequence[Node]) -> None:
        self.nodes = topological(list(roots))
        self.order = {id(n): k for k, n in enumerate(self.nodes)}
        self._uses: dict[int, list[Use]] = {}
        self._leaves: dict[int, frozenset[int]] = {id(n): frozenset([id(n)]) for n in leaves}
        for node in self.nodes:
            if isinstance(node, Input):
                self._leaves.setdefault(id(node), frozenset())
                continue
            assert isinstance(node, Map)
            below: frozenset[int] = self._leaves.get(id(node), frozenset())
            if node.reduce == "sum":
                for k, access in enumerate(node.args):
                    self._uses.setdefault(id(access.node), []).append(Use(node, k))
                    below |= self._leaves[id(access.node)]
            self._leaves[id(node)] = below

    def of(self, node: Node) -> list[Use]:
        """Uses of ``node``, users in graph order."""
        return self._uses.get(id(node), [])

    def leaves_of(self, node: Node) -> frozenset[int]:
        """The ``id`` of every leaf that ``node`` depends on."""
        return self._leaves[id(node)]

    def active(self, node: Node) -> bool:
        """Whether ``node`` depends on any leaf."""
        return bool(self._leaves[id(node)])

    def above(self, node: Node) -> set[int]:
        """The ``id`` of every node that depends on ``node``, itself included; a leaf that nothing reads is alone."""
        found = {id(node)}
        for other in self.nodes[self.order.get(id(node), len(self.nodes)) :]:
            if (
                isinstance(other, Map)
                and other.reduce == "sum"
                and any(id(a.node) in found for a in other.args)
            ):
                found.add(id(other))
        return found
