"""Outer products summed over rows on a GPU: a block owns a square panel of the output, each thread some of its elements.

The operands pass through shared memory.
"""

from __future__ import annotations

from collections.abc import Callable

from cpgen.emit.device_places import DevicePlaces
from cpgen.emit.names import constant
from cpgen.emit.statements import Body, Statement, branch, line, loop, mentions
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import ROWS, Access, Extent, Map
from cpgen.loops.phases import ACCUMULATE
from cpgen.loops.plan import Nest, Stage
from cpgen.loops.ranges import access_checks, guard_checks
from cpgen.loops.schedule import Schedule
from cpgen.scalar import factors, placeholder

MOST_OPERANDS = 3  # in shared memory


class PanelSums(Sums):
    """The sums that a thread owns of a panel."""

    places: DevicePlaces

    def __init__(self, places: DevicePlaces, root: Map, nest: Nest) -> None:
        super().__init__(places, root, nest)
        self.schedule = places.schedule

    def text(self, name: str = "sum") -> str:
        return f"{name}[step][lane]"

    def overlap(self) -> list[str]:
        return []

    def over_block(self, body: Body) -> Body:
        inside = " && ".join(f"{self.places.axes[a]} < {constant(self.root.extents[a])}" for a in range(2))
        return self._each([branch(inside, body)])

    def _each(self, body: Body) -> Body:
        """``body`` for each sum of a thread, with its place in the output declared where it is used."""
        panel, each_down, each_across = self.schedule.panel, self.schedule.down, self.schedule.across
        for a, place in ((1, f"{each_across} * lane + across"), (0, f"{each_down} * step + down")):
            name = self.places.axes[a]
            if mentions(body, name):
                body = [line(f"const ptrdiff_t {name} = {name}_first + {place};"), *body]
        return [loop("step", panel // each_down, [loop("lane", panel // each_across, body)])]

    def panels(self, finish: Callable[[], Body]) -> Body:
        """The whole stage; ``finish`` makes what follows the sums."""
        places, root = self.places, self.root
        down, across = (places.axes[a] for a in range(2))
        staged, panel, depth = operands(places.stage, self.schedule), self.schedule.panel, self.schedule.depth
        each_down, each_across = self.schedule.down, self.schedule.across
        fetch: Body = []
        held: dict[Access, str] = {}  # where an operand is read from shared memory
        each = [frozenset(placeholder(k) for k, a in enumerate(root.args) if a == access) for access in staged]
        # what an operand contributes to a product is computed where it is read: x**2 once and not for each sum
        apart = factors(root.expr, each)
        for k, access in enumerate(staged):
            side = next(i.axis for i in access.index if i.axis is not None and i.axis < 2)
            name, extent = places.axes[side], constant(root.extents[side])
            here = f"panel[{k * panel * depth} + item]" if k else "panel[item]"
            at = line(f"const ptrdiff_t {name} = {name}_first + item % {panel};")
            lets: Body = []
            text = places.element(access)
            if apart:
                lets, text = places.computed(root, apart[k], dict.fromkeys(each[k], text))
            if lets:
                put = branch(f"{name} < {extent}", [*lets, line(f"{here} = {text};")])
            else:
                put = line(f"{here} = {name} < {extent} ? {text} : {places.zero};")
            fetch.append(Statement("", [at, put]))
            place = f"{each_down} * step + down" if side == 0 else f"{each_across} * lane + across"
            first = k * depth
            held[access] = f"panel[{f'({first} + part)' if first else 'part'} * {panel} + {place}]"
        start = self.over_block([line(f"{self.text()} = {places.result(root)};")])
        if apart:
            lets, text = [], " * ".join(held.values())
        else:
            with places.reading(held):
                lets, text = places.expression(root)
        rows = [
            line(f"const ptrdiff_t left = f->count - first < {depth} ? f->count - first : {depth};"),
            Statement(
                f"for (ptrdiff_t item = threadIdx.x; item < left * {panel}; item += {self.schedule.threads})",
                [line(f"const ptrdiff_t row = first + item / {panel};"), *fetch],
            ),
            line("__syncthreads();"),
            loop("part", "left", self._each([*lets, line(f"{self.text()} += {text};")])),
            line("__syncthreads();"),
        ]
        wide = panels_along(root.extents[1], panel)
        body: Body = [
            line(f"const ptrdiff_t {down}_first = (tile / {wide}) * {panel};"),
            line(f"const ptrdiff_t {across}_first = (tile % {wide}) * {panel};"),
            line(f"{places.real} sum[{panel // each_down}][{panel // each_across}] = {{}};"),
            *start,
            loop("first", "f->count", rows, step=depth),
            *finish(),
        ]
        tiles = panels_along(root.extents[0], panel) * wide
        return [
            line(f"CPGEN_SHARED({places.real}, panel);"),
            line(f"const ptrdiff_t down = threadIdx.x / {each_across};"),
            line(f"const ptrdiff_t across = threadIdx.x % {each_across};"),
            Statement(f"for (ptrdiff_t tile = blockIdx.x; tile < {tiles}; tile += gridDim.x)", body),
        ]


def operands(stage: Stage, schedule: Schedule) -> tuple[Access, ...]:
    """What a stage should read through shared memory: the row values of a large outer product summed over rows.

    Empty for any other stage.  An operand belongs to one side of the output and to the rows, so that a block reads it
    once for all elements of a panel.
    """
    nest, root = stage.nest, stage.nodes[0]
    if stage.phase != ACCUMULATE or nest is None or not isinstance(root, Map) or root.reduce != "sum":
        return ()
    sizes = root.extents[: root.rank]
    if len(sizes) != 2 or any(not isinstance(e, int) or e < schedule.least_panel for e in sizes):
        return ()
    if root.extents[2:] != (ROWS,) or guard_checks(root.guards, root.extents):
        return ()
    if any(access_checks(a, root.extents) for node in stage.nodes if isinstance(node, Map) for a in node.args):
        return ()
    found = []
    for access in dict.fromkeys(root.args):
        if not access.node.has_rows:
            continue
        sides = [i.axes for i in access.index[access.node.lead :]]
        if access.node.has_columns or len(sides) != 1 or len(sides[0]) != 1 or access.index[-1].axis not in (0, 1):
            return ()
        found.append(access)
    return tuple(found) if 2 <= len(found) <= MOST_OPERANDS else ()


def panels_along(extent: Extent, panel: int) -> int:
    """How many panels lie along an axis."""
    return -(-constant(extent) // panel)
