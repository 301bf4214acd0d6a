"""What is known of a program before any loop is chosen: phases, readers, and which outputs need what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cpgen.errors import UnsupportedError
from cpgen.ir.nodes import COLUMNS, Input, Map, Node, Program
from cpgen.ir.recur import unwritten
from cpgen.ir.rewrite import readers
from cpgen.ir.stack import viewed
from cpgen.loops.fuse import reads
from cpgen.loops.phases import phases, split_sums
from cpgen.loops.plan import ACCUMULATE, Stage, is_noise
from cpgen.loops.products import by_blas
from cpgen.loops.turn import turn

FEW = 2  # outputs that alone need a stage: their absence is worth a test


@dataclass(frozen=True, eq=False)
class Facts:
    """A program as it is planned: ``outputs`` by name, and ``every`` node behind them in order."""

    program: Program
    outputs: tuple[tuple[str, Node], ...]
    every: tuple[Node, ...]

    @classmethod
    def of(cls, program: Program) -> Facts:
        """Raises UnsupportedError for a recurrence, and as :func:`cpgen.loops.phases.split_sums` does."""
        reason = unwritten(program.nodes())
        if reason:
            raise UnsupportedError(f"{program.name}: {reason}", program.origin)
        return cls(program, *split_sums(program))

    def turned(self, width: int, rows: bool = True) -> Facts:
        """With the copies of :func:`cpgen.loops.turn.turn`."""
        return Facts(self.program, *turn(self.outputs, width, rows))

    def has_product(self, least: int) -> bool:
        """Whether there is a product of at least ``least`` multiplications a row (0: of none)."""
        return any(by_blas(node, least) for node in self.every)

    @cached_property
    def phase(self) -> Mapping[Node, str]:
        """Raises UnsupportedError as :func:`cpgen.loops.phases.phases` does."""
        return phases(self.every)

    @cached_property
    def output_names(self) -> Mapping[Node, list[str]]:
        found: dict[Node, list[str]] = {}
        for name, node in self.outputs:
            found.setdefault(node, []).append(name)
        return found

    @cached_property
    def readers(self) -> Mapping[Node, Sequence[Node]]:
        """Who reads a node; numbers are read by the stacks they are part of, not by views of them."""
        return readers(self.every, reads)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Without the views that only stacks read."""
        return tuple(n for n in self.every if viewed(n) is None or n in self.readers or n in self.output_names)

    def maps(self, phase: str) -> list[Map]:
        return [n for n in self.nodes if isinstance(n, Map) and self.phase[n] == phase]

    def kept(self, node: Node) -> bool:
        """Whether a sum over rows reads ``node`` from the ``rows`` space.

        Row arrays of the caller are read in place.
        """
        if not node.has_rows or (isinstance(node, Input) and not is_noise(node)):
            return False
        return any(self.phase[r] == ACCUMULATE for r in self.readers.get(node, ()))

    @cached_property
    def _uses(self) -> Mapping[Node, int]:
        """The outputs that each node leads to, as the bits of a number."""
        uses: dict[Node, int] = {}
        for position, (_, node) in enumerate(self.outputs):
            uses[node] = uses.get(node, 0) | 1 << position
        for node in reversed(self.nodes):
            if isinstance(node, Map):
                for read in reads(node):
                    uses[read] = uses.get(read, 0) | uses[node]
        return uses

    def needed_by(self, stage: Stage, direct: Mapping[Node, str]) -> tuple[str, ...]:
        """The outputs that ``stage`` is needed by, if those are few or it writes to the only one itself; else ().

        ``direct``: the outputs that are the only memory of a node.
        """
        if stage.kind in ("store", "copy"):
            return ()  # these test their output themselves
        used = 0
        for node in stage.nodes:
            used |= self._uses[node]
        count = used.bit_count()
        alone = count == 1 and any(n in direct for n in stage.nodes)
        if not alone and count > min(FEW, len(self.outputs) - 1):
            return ()
        names = []
        while used:
            lowest = used & -used
            names.append(self.outputs[lowest.bit_length() - 1][0])
            used ^= lowest
        return tuple(names)


def over_columns(node: Node) -> bool:
    """Whether ``node`` sums over columns."""
    return isinstance(node, Map) and COLUMNS in node.extents[node.rank :]
