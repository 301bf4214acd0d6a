"""States: definitions that may be read one step back, before they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpgen.ir.build import affine, axis, constant, make_map, read
from cpgen.ir.nodes import Access, Carry, Node, Origin
from cpgen.model.expressions import Axis
from cpgen.scalar import placeholder


@dataclass
class State:
    """A declared state: ``carry`` is what is read of it one step back (None where there is one step only), ``previous``
    the same with the start value, shaped like the state."""

    name: str
    axes: tuple[Axis, ...]
    origin: Origin
    carry: Carry | None
    previous: Node
    is_defined: bool = False

    def close(self, node: Node) -> None:
        """Say what the state is."""
        self.is_defined = True
        if self.carry is not None:
            self.carry.close(node)


def previous_name(name: str) -> str:
    """How reads of a state one step back are called."""
    return f"{name}.previous"


def opened(
    name: str, axes: Sequence[Axis], along: Axis, start: Node | None, reverse: bool, origin: Origin
) -> State:
    """The state ``name[axes]`` along one of its axes; ``start``: what is before the first step, without that axis."""
    shape = tuple(a.extent for a in axes)
    rank, position = len(axes), list(axes).index(along)

    def role(text: str) -> Origin:
        return Origin(name, origin.file, origin.line, origin.equation, origin.axes, text)

    carry = None
    reads: list[Access] = []
    if along.size > 1:
        elements = [a for a in axes if not a.is_rows]
        carry = Carry(shape, elements.index(along), -1 if reverse else 1, role("carry"))
        reads.append(read(carry, *range(rank)))
    if start is not None:
        first = along.size - 1 if reverse else 0
        one = tuple(1 if a == position else e for a, e in enumerate(shape))
        view = make_map(
            one,
            rank,
            [read(start, *(a for a in range(rank) if a != position))],
            placeholder(0),
            origin=role("start"),
        )
        index = [affine({a: 1}, -first) if a == position else axis(a) for a in range(rank)]
        reads.append(Access(view, tuple(index)))
    if not reads:
        return State(name, tuple(axes), origin, carry, constant(0, shape, role("previous")))
    total = sum(placeholder(k) for k in range(len(reads)))
    previous = make_map(shape, rank, reads, total, origin=role("previous"))
    return State(name, tuple(axes), origin, carry, previous)
