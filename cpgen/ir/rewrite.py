"""The kit that passes are written with: who reads whom, maps made again, whole programs rewritten.

A pass says what becomes of one map; the walking, the sharing and the order are here, as in GEM's traversals (Homolya,
Mitchell, Luporini & Ham 2018, "TSFC: a structure-preserving form compiler", SIAM J. Sci. Comput. 40).  Nothing recurses,
since graphs have thousands of levels, and nodes are keys themselves, as they are equal where they are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeAlias, TypeVar

import sympy

from cpgen.ir.build import make_map, moved, moved_guard
from cpgen.ir.nodes import Access, Carry, Extent, Guard, Index, Map, Node, Origin, Program, carries
from cpgen.scalar import placeholder, renamed

Key = TypeVar("Key")
Value = TypeVar("Value")
Rule: TypeAlias = Callable[[Map, Mapping[Node, Node]], Node]
"""What becomes of a map, given what became of all nodes before it."""


# Whole programs


def rewritten(program: Program, rule: Rule) -> Program:
    """``program`` with what ``rule`` makes of each map; inputs stay."""
    new = images(program.nodes(), rule)
    return replace(program, outputs=tuple((name, new[node]) for name, node in program.outputs))


def images(nodes: Sequence[Node], rule: Rule) -> dict[Node, Node]:
    """What becomes of each of ``nodes``, which are in order, arguments first.

    Carries stay as long as what they carry does; else there are new ones, which carry what became of it.
    """
    held: dict[Node, Node] = {carry: carry for carry in carries(nodes)}
    new = images_among(nodes, rule, held)
    if all(new[carry.body] is carry.body for carry in carries(nodes)):
        return new
    held = {carry: Carry(carry.shape, carry.along, carry.step, carry.origin) for carry in carries(nodes)}
    new = images_among(nodes, rule, held)
    for carry in carries(nodes):
        made = held[carry]
        assert isinstance(made, Carry)
        made.close(new[carry.body])
    return new


def images_among(
    nodes: Iterable[Node], rule: Rule, held: Mapping[Carry, Carry] | Mapping[Node, Node]
) -> dict[Node, Node]:
    """The same, given what stands for each carry, which the caller closes."""
    leaves: dict[Node, Node] = dict(held.items())
    new: dict[Node, Node] = {}
    for node in nodes:
        new[node] = rule(node, new) if isinstance(node, Map) else leaves.get(node, node)
    return new


class Memo(Generic[Key, Value]):
    """A recursive function whose values are remembered and whose depth is not bounded by the interpreter's stack.

    ``rule(key)`` is a generator: it yields the keys that it needs, is sent the value of each, and returns its own.  With
    ``def rule(n): return n if n < 2 else (yield n - 1) + (yield n - 2)`` even ``Memo(rule)(100_000)`` has an answer.
    """

    def __init__(self, rule: Callable[[Key], Generator[Key, Value, Value]]) -> None:
        self._rule = rule
        self._known: dict[Key, Value] = {}

    def __call__(self, key: Key) -> Value:
        known = self._known
        if key in known:
            return known[key]
        waiting = [(key, self._rule(key))]
        sent: Value | None = None  # what a generator is started with
        while waiting:
            asking, running = waiting[-1]
            try:
                wanted = running.send(sent)  # type: ignore[arg-type]
            except StopIteration as finished:
                known[asking] = sent = finished.value
                waiting.pop()
                continue
            sent = known.get(wanted)
            if wanted not in known:
                waiting.append((wanted, self._rule(wanted)))
        return known[key]


# Readers


def arguments(node: Map) -> list[Node]:
    """What ``node`` reads, in the order of its arguments."""
    return [access.node for access in node.args]


def readers(nodes: Iterable[Node], reads: Callable[[Map], Iterable[Node]] = arguments) -> dict[Node, list[Map]]:
    """The maps among ``nodes`` that read each node, once for each time that they do; absent for what no map reads."""
    found: dict[Node, list[Map]] = {}
    for node in nodes:
        if isinstance(node, Map):
            for source in reads(node):
                found.setdefault(source, []).append(node)
    return found


def times_read(program: Program) -> Counter[Node]:
    """How often each node is read by maps, is carried or is an output."""
    found = Counter(access.node for reader in program.maps() for access in reader.args)
    found.update(carry.body for carry in program.carries())
    found.update(node for _, node in program.outputs)
    return found


# One map


def reading(node: Map, new: Mapping[Node, Node]) -> list[Access]:
    """The arguments of ``node``, of what became of the nodes that it reads."""
    return [Access(new[access.node], access.index) for access in node.args]


def rebuilt(
    node: Map,
    args: Sequence[Access],
    expr: sympy.Expr | None = None,
    guards: Sequence[Guard] | None = None,
) -> Node:
    """``node`` with other arguments, and as far as given with another expression of them and other guards."""
    return make_map(
        node.extents,
        node.rank,
        args,
        node.expr if expr is None else expr,
        node.guards if guards is None else guards,
        node.reduce,
        node.origin,
    )


def renewed(node: Map, new: Mapping[Node, Node]) -> Node:
    """``node`` as it stands, reading what became of its arguments: the rule for what a pass leaves alone."""
    return rebuilt(node, reading(node, new))


def in_loop(
    node: Map, extents: Sequence[Extent], rank: int, place: Mapping[int, Index], origin: Origin | None = None
) -> Node:
    """``node`` over another loop space, in which its axes are at ``place``."""
    args = [moved(access, place) for access in node.args]
    guards = [moved_guard(guard, place) for guard in node.guards]
    return make_map(extents, rank, args, node.expr, guards, node.reduce, node.origin if origin is None else origin)


def behind(access: Access) -> list[Access]:
    """What the map that ``access`` reads reads itself, at the indices of the reader's loop."""
    source = access.node
    assert isinstance(source, Map)
    place = dict(enumerate(access.index))
    return [moved(inner, place) for inner in source.args]


def from_position(expr: sympy.Expr, count: int, first: int) -> sympy.Expr:
    """``expr`` of arguments ``0 .. count - 1`` as one of the arguments ``first .. first + count - 1``."""
    return renamed(expr, {placeholder(k): placeholder(first + k) for k in range(count)}) if first else expr

