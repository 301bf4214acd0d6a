"""Recurrences: which nodes of a graph are computed together, step by step, and along which axis.

A carry reads its body one step back, so the nodes that depend on each other through carries are one recurrence along the
axis that the carries move along: a system of uniform recurrence equations (Karp, Miller & Winograd 1967, "The
organization of computations for uniform recurrence equations", J. ACM 14).  Everything in a recurrence reads the rest of
it at its own step; only the carries look back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cpgen.errors import ModelError
from cpgen.ir.nodes import Carry, Map, Node, carries

Value = TypeVar("Value")


@dataclass(frozen=True)
class Recurrence:
    """Nodes that are computed together for each of ``steps``, in this order; ``axis``: the position of the sequential
    axis in the shape of each."""

    nodes: tuple[Node, ...]
    axis: Mapping[Node, int]
    steps: range


def components(nodes: Sequence[Node]) -> list[Node | Recurrence]:
    """``nodes`` (in order, arguments first) as they can be computed: single ones, and recurrences.

    These are the strongly connected components (Tarjan 1972).  Raises ModelError for a cycle that does not move along
    one axis in one direction.
    """
    if not carries(nodes):
        return list(nodes)
    order = {node: k for k, node in enumerate(nodes)}
    found: list[Node | Recurrence] = []
    for component in _strongly_connected(nodes):
        first = component[0]
        if len(component) == 1 and not (isinstance(first, Carry) and first.body is first):
            found.append(first)
        else:
            found.append(_recurrence(sorted(component, key=lambda node: order[node])))
    return found


def _needs(node: Node) -> list[Node]:
    if isinstance(node, Carry):
        return [node.body]
    return [access.node for access in node.args] if isinstance(node, Map) else []


def _strongly_connected(nodes: Sequence[Node]) -> list[list[Node]]:
    """The strongly connected components, each after those that it needs."""
    number: dict[Node, int] = {}
    lowest: dict[Node, int] = {}
    open_nodes: list[Node] = []
    is_open: set[Node] = set()
    found: list[list[Node]] = []
    for root in nodes:
        if root in number:
            continue
        number[root] = lowest[root] = len(number)
        open_nodes.append(root)
        is_open.add(root)
        path = [(root, iter(_needs(root)))]
        while path:
            node, needs = path[-1]
            for needed in needs:
                if needed not in number:
                    number[needed] = lowest[needed] = len(number)
                    open_nodes.append(needed)
                    is_open.add(needed)
                    path.append((needed, iter(_needs(needed))))
                    break
                if needed in is_open:
                    lowest[node] = min(lowest[node], number[needed])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == number[node]:
                    component = [open_nodes.pop()]
                    while component[-1] is not node:
                        component.append(open_nodes.pop())
                    is_open.difference_update(component)
                    found.append(component)
    return found


def _recurrence(nodes: Sequence[Node]) -> Recurrence:
    inside = set(nodes)
    held = carries(nodes)
    axis: dict[Node, int] = {carry: carry.axis for carry in held}
    for node in nodes:
        if isinstance(node, Map):
            axis[node] = _sequential_axis(node, axis, inside)
    for carry in held:
        same = carry.step == held[0].step and carry.shape[carry.axis] == held[0].shape[held[0].axis]
        if not same or axis[carry.body] != carry.axis:
            raise ModelError(
                f"{_named(nodes)}, but not along one axis in one direction: states that are defined together have the "
                "same along= and reverse=",
                carry.origin,
            )
    extent = held[0].shape[held[0].axis]
    assert isinstance(extent, int)
    steps = range(extent) if held[0].step > 0 else range(extent - 1, -1, -1)
    return Recurrence(tuple(nodes), axis, steps)


def _sequential_axis(node: Map, axis: Mapping[Node, int], inside: set[Node]) -> int:
    """The output axis at which ``node`` reads the rest of its recurrence."""
    positions = set()
    for access in node.args:
        if access.node in inside:
            at = access.index[axis[access.node]].axis
            if at is None or at >= node.rank:
                raise ModelError(
                    f"{_named(list(inside))}, and {node.origin.equation or node.origin.name} reads another step than its "
                    "own, or all of them: within a recurrence the sequential axis stands alone in its subscript (for two "
                    "steps back define a second state as the first one's previous, and read the previous of that)",
                    node.origin,
                )
            positions.add(at)
    if len(positions) != 1:
        raise ModelError(
            f"{_named(list(inside))} along two axes at once in {node.origin.equation or node.origin.name}: a recurrence "
            "has one sequential axis",
            node.origin,
        )
    return positions.pop()


def _named(nodes: Sequence[Node]) -> str:
    """The names of the states of a recurrence, and that it is one."""
    names = sorted({carry.origin.name for carry in carries(nodes)})
    if len(names) > 1:
        return f"the states {', '.join(names)} depend on each other"
    return (
        f"the state {names[0]} depends on itself"
        if names
        else "definitions depend on each other without a state"
    )


def unwritten(nodes: Sequence[Node]) -> str:
    """Why no C or CUDA text can be made of ``nodes``, naming the state; "" if it can."""
    found = carries(nodes)
    # derivatives of a state carry things of their own, named after it, which have no equation of the user's
    states = [carry for carry in found if carry.origin.equation] or found
    return f"no C is written for recurrences yet, and the state {states[0].origin.name} is one" if states else ""


def settled(nodes: Sequence[Node], rule: Callable[[Node, Mapping[Node, Value]], Value]) -> dict[Node, Value]:
    """``rule(node, found)`` for each of ``nodes`` in turn, over again until it no longer changes at a carry.

    What ``rule`` says must only grow with what it is given.  ``nodes`` may run either way: a rule that looks at what a
    node reads asks for the body of a carry, one that looks at the readers asks for the carries of a body, and what is
    missing was not visited yet.
    """
    held = carries(nodes)
    found: dict[Node, Value] = {}
    before: list[Value] | None = None if held else []
    while True:
        for node in nodes:
            found[node] = rule(node, found)
        after = [found[carry] for carry in held]
        if before == after:
            return found
        before = after
