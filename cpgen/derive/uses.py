"""Who reads whom: the uses of every node and the leaves every node depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cpgen.ir.nodes import Carry, Map, Node, carries, topological
from cpgen.ir.recur import settled


@dataclass(frozen=True)
class Use:
    """Argument ``position`` of ``map``."""

    map: Map
    position: int


class Uses:
    """The part of a graph between ``leaves`` and ``roots``.

    ``nodes``: all nodes, arguments first.  ``of(node)``: the uses of a node by maps of this graph.  Nothing flows through
    ``reduce="max"``.  What depends on a carry depends on its body.
    """

    def __init__(self, roots: Sequence[Node], leaves: Sequence[Node]) -> None:
        self.nodes = topological(list(roots))
        self.order = {n: k for k, n in enumerate(self.nodes)}
        self.carries = carries(self.nodes)
        self._uses: dict[Node, list[Use]] = {}
        self._carried: dict[Node, list[Carry]] = {}
        self._active = {leaf for leaf in leaves if leaf in self.order}
        for node in self.nodes:
            if isinstance(node, Map) and node.reduce == "sum":
                for k, access in enumerate(node.args):
                    self._uses.setdefault(access.node, []).append(Use(node, k))
                    if access.node in self._active:
                        self._active.add(node)
            elif isinstance(node, Carry):
                self._carried.setdefault(node.body, []).append(node)
        self._activate_carries()

    def _activate_carries(self) -> None:
        """Follow carries of active bodies."""
        waiting: list[Node] = [c for c in self.carries if c.body in self._active and c not in self._active]
        while waiting:
            node = waiting.pop()
            if node not in self._active:
                self._active.add(node)
                waiting += [*(use.map for use in self.of(node)), *self.carried(node)]

    @cached_property
    def _below(self) -> list[int]:
        """The nodes below each node as the bits of a number, so that a graph of thousands takes a few megabytes."""
        found = [0] * len(self.nodes)
        settled = False
        while not settled:
            settled = True
            for number, node in enumerate(self.nodes):
                below = 1 << number
                if isinstance(node, Map) and node.reduce == "sum":
                    for access in node.args:
                        below |= found[self.order[access.node]]
                elif isinstance(node, Carry):
                    below |= found[self.order[node.body]]
                    settled = settled and below == found[number]
                found[number] = below
        return found

    @cached_property
    def _recurrent(self) -> frozenset[Node]:
        """The nodes that depend on themselves."""
        own = [c for c in self.carries if self.depends(c.body, c)]
        return frozenset(n for c in own for n in self.nodes if self.depends(n, c) and self.depends(c, n))

    def is_recurrent(self, node: Node) -> bool:
        """Whether ``node`` depends on itself, at an earlier step."""
        return bool(self.carries) and node in self._recurrent

    def carried(self, node: Node) -> list[Carry]:
        """The carries of ``node``."""
        return self._carried.get(node, [])

    def along_one(self, node: Node) -> Use | None:
        """The only use of ``node``, if it has one and no carry."""
        found = self.of(node)
        return found[0] if len(found) == 1 and node not in self._carried else None

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


def arriving(uses: Uses, own: Mapping[Node, int]) -> dict[Node, int]:
    """The bits of all nodes that depend on each node; ``own``: those of the nodes themselves."""

    def rule(node: Node, found: Mapping[Node, int]) -> int:
        bits = own.get(node, 0)
        for use in uses.of(node):
            bits |= found.get(use.map, 0)
        for carry in uses.carried(node):
            bits |= found.get(carry, 0)
        return bits

    return settled(tuple(reversed(uses.nodes)), rule)
