"""Who reads whom: the uses of every node and the leaves every node depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cpgen.ir.nodes import Map, Node, topological


@dataclass(frozen=True)
class Use:
    """Argument ``position`` of ``map``."""

    map: Map
    position: int


class Uses:
    """The part of a graph between ``leaves`` and ``roots``.

    ``nodes``: all nodes, arguments first.  ``of(node)``: the uses of a node by maps of this graph.  Nothing flows through
    ``reduce="max"``.
    """

    def __init__(self, roots: Sequence[Node], leaves: Sequence[Node]) -> None:
        self.nodes = topological(list(roots))
        self.order = {n: k for k, n in enumerate(self.nodes)}
        self._uses: dict[Node, list[Use]] = {}
        self._active = {leaf for leaf in leaves if leaf in self.order}
        for node in self.nodes:
            if isinstance(node, Map) and node.reduce == "sum":
                for k, access in enumerate(node.args):
                    self._uses.setdefault(access.node, []).append(Use(node, k))
                    if access.node in self._active:
                        self._active.add(node)

    @cached_property
    def _below(self) -> list[int]:
        """The nodes below each node as the bits of a number, so that a graph of thousands takes a few megabytes."""
        found: list[int] = []
        for number, node in enumerate(self.nodes):
            below = 1 << number
            if isinstance(node, Map) and node.reduce == "sum":
                for access in node.args:
                    below |= found[self.order[access.node]]
            found.append(below)
        return found

    def of(self, node: Node) -> list[Use]:
        """Uses of ``node``, users in graph order."""
        return self._uses.get(node, [])

    def active(self, node: Node) -> bool:
        """Whether ``node``, one of this graph, depends on any leaf."""
        return node in self._active

    def depends(self, node: Node, on: Node) -> bool:
        """Whether ``node`` is ``on`` or depends on it."""
        if node not in self.order or on not in self.order:
            return node is on
        return bool(self._below[self.order[node]] >> self.order[on] & 1)
