"""Where a thread of a GPU reads and writes, and loops whose points belong to different threads.

In a loop over noise columns a stage handles several of them, ``part`` by ``part``, so that a weight is read once for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cpgen.code.rewrite import mentions
from cpgen.code.tree import (
    Body,
    Call,
    Cast,
    Do,
    Expression,
    For,
    Group,
    Name,
    Statement,
    binary,
    group,
    is_number,
    joined,
    let,
    loop,
    number,
    of,
    times,
)
from cpgen.emit.places import Places
from cpgen.ir.nodes import Access, Node
from cpgen.loops.kernels import Threads
from cpgen.loops.plan import Plan, Stage

BARRIER = Do(Call("__syncthreads"))
THREAD, BLOCK = Name("threadIdx.x"), Name("blockIdx.x")
ITEM = Name("item")
COLS = "COLS"  # noise columns that a stage handles together: a parameter of its function


class DevicePlaces(Places):
    """Every thread has a lane of its own.

    ``wide``: the sums of all columns of a batch are held at once, where otherwise the stage takes a column at a time.
    """

    def __init__(self, plan: Plan, stage: Stage, prefix: str) -> None:
        super().__init__(plan, stage, prefix)
        self.schedule = plan.schedule
        self.nearer: Mapping[Access, Expression] = {}  # what is read elsewhere than where it lies
        if plan.spread:
            self.lanes = of("f", "stride")
        kernel = stage.kernel
        if isinstance(kernel, Threads) and kernel.batch:
            self.template = COLS
        self.wide = isinstance(kernel, Threads) and kernel.at_once

    def variable(self, a: int) -> Expression:
        if not self.template or self.axes[a] != "col":
            return super().variable(a)
        first = self.declare("first_column", Cast("ptrdiff_t", of("f", "args", "first_column")))
        return Group(binary("+", first, Name("col")))

    def column(self) -> Name:
        return Name("col") if self.template else super().column()

    def spot(self, node: Node, place: Expression) -> Expression:
        if not (self.template and node.has_columns):
            return super().spot(node, place)
        slot = self.plan.value(node).tile
        assert slot is not None
        part: Expression = Name("part")
        if slot.columns:  # the values of a column lie together
            here = times(part, number(slot.elements))
            here = here if is_number(place, 0) else joined(here, place)
        else:
            here = part if is_number(place, 0) else joined(times(place, Name(COLS)), part)
        return joined(times(here, self.lanes), Name("lane"))

    def element(self, access: Access) -> Expression:
        return self.nearer.get(access) or super().element(access)

    @contextmanager
    def reading(self, places: Mapping[Access, Expression]) -> Iterator[None]:
        """While code is made that reads these operands where they have been copied to."""
        self.nearer = places
        yield
        self.nearer = {}


def each_column(body: Body) -> Body:
    """``body`` for each of the columns of this batch, in their order."""
    if mentions(body, "col"):
        body = [let("col", binary("+", of("f", "col"), Name("part"))), *body]
    return [loop("part", Name(COLS), body)]


def strided(variable: str, stop: Expression | int, body: Body, who: str = "WORKER") -> Statement:
    """A loop whose values belong to the workers of a block, or to all threads of the grid."""
    return loop(variable, stop, body, Name(who), Name(f"{who}S"))


def blocks(variable: str, stop: int, body: Body) -> For:
    """A loop whose values belong to the blocks of a grid."""
    return loop(variable, stop, body, BLOCK, Name("gridDim.x"))


def flat(
    loops: Sequence[tuple[str, Expression, int]], point: Expression = ITEM
) -> tuple[Expression | None, Body]:
    """How many points the loops have together (None: there are no loops), and the variables at one of them."""
    places: Body = []
    rest = group(point) if len(loops) > 1 else point
    for k in range(len(loops) - 1, -1, -1):
        name, count, step = loops[k]
        here = rest if k == 0 else binary("%", rest, group(count))
        places.insert(0, let(name, times(here, number(step))))
        rest = binary("/", rest, group(count))
    total: Expression | None = None
    for _, count, _ in loops:
        total = count if total is None else binary("*", total, count)
    return total, places
