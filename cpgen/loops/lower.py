"""Program to plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from cpgen.errors import UnsupportedError
from cpgen.ir.nodes import COLUMNS, ROWS, Input, Map, Node, Program
from cpgen.ir.noise import noise_order
from cpgen.ir.recur import unwritten
from cpgen.ir.rewrite import readers
from cpgen.ir.stack import viewed
from cpgen.loops.beside import shares_lanes
from cpgen.loops.fuse import groups, reads, space
from cpgen.loops.memory import ROUND, Demand, place
from cpgen.loops.names import node_names, spell, unique
from cpgen.loops.phases import ACCUMULATE, FINISH, ROW, SETUP, phases, split_sums
from cpgen.loops.plan import ALIGNMENT, Nest, Plan, Segment, Slot, Stage, Totals, Value, is_noise, is_scale
from cpgen.loops.products import UNCACHED, by_blas, is_product
from cpgen.loops.ranges import checked_axes, cuts
from cpgen.loops.schedule import Schedule
from cpgen.loops.turn import inner_axis, inner_share, step, turn

# rows in a tile: a cache line of them where sums are blocked, which then fit the registers, else enough to hide what a
# stage costs besides
LANES = {"float64": 8, "float32": 16}
PLAIN = 4
CACHE_BYTES = 1 << 20  # a tile that needs more is one row where that one has enough sums to compute side by side
ENOUGH_INNER = 0.9  # of the points of all sums
TILE_BYTES = 8 << 20  # a tile that needs more memory than this gets fewer lanes
# where weights lie in no cache: rows in a tile, so that they are read fewer times, and terms that a stage adds up at a
# time if it reads the weights transposed, that is in steps of a row of them, after copying them side by side
WIDE_LANES = 64
PIECE = 64
# rows in a tile where a BLAS computes products, since it copies the weights for each tile: measured by
# benchmarks/blas_size.py
BLAS_LANES = 128
BLAS_TILE_BYTES = 32 << 20
# Sums held at once along a blocked axis, best first: measured; fewer than five do not hide the latency of additions.
BLOCKS = (10, 12, 8, 6, 5, 7)
VECTOR = {"float64": 8, "float32": 16}  # sums along a vector axis, beside a blocked one
WIDE = 32  # and alone
AT_ONCE = 8  # noise columns that share what they read
COMPACT = 4  # sums held at once, of an axis, where the stack is small
CHUNK_TILES = (16, 1 << 16)  # of each thread, at least and at most
CHUNK_BYTES = 1 << 18  # of rows kept for sums by each thread, what lies in its second-level cache
FEW = 2  # outputs that alone need a stage: their absence is worth a test
LARGEST_OFFSET = 2**31 - 1  # offsets are enumerators, which are ints


def plan(
    program: Program,
    real: str = "float64",
    tile: int | None = None,
    compact: bool = False,
    schedule: Schedule | None = None,
    blas: int = 0,
) -> Plan:
    """Decide phases, stages, loops and memory of ``program``.

    ``tile`` overrides the number of rows in a tile.  That is one row where rows are large and the sums of one can be
    computed side by side (:mod:`cpgen.loops.turn`), so that its values stay in the cache.  ``compact`` keeps few sums on
    the stack and loops in one piece; ``schedule`` is for a GPU.  ``blas``: products of weights and values of rows with at
    least this many multiplications a row are stages of their own, which a caller's BLAS may compute, and a tile has more
    rows; 0 for none.  A program without such products, or whose tile is one row, is planned as if it were 0.

    Raises UnsupportedError if rows depend on each other in a way that one pass over the rows cannot compute, or if the
    program is too large, or has a recurrence.
    """
    reason = unwritten(program.nodes())
    if reason:
        raise UnsupportedError(f"{program.name}: {reason}", program.origin)
    outputs, nodes = split_sums(program)
    if compact:
        device = schedule is not None
        return _Lowering(program, outputs, nodes, real, tile, compact, device, schedule or Schedule()).plan()
    outputs, nodes = turn(outputs, VECTOR[real], rows=False)
    if blas and tile != 1 and any(by_blas(node, blas) for node in nodes):
        lanes = tile
        if lanes is None:
            usual = plan(program, real)
            if usual.tile == 1:
                return usual
            lanes = _lanes(usual.tile_memory, real, BLAS_LANES, BLAS_TILE_BYTES)
        return _Lowering(program, outputs, nodes, real, lanes, blas=blas, wide=blas).plan()
    if tile not in (None, 1):
        return _Lowering(program, outputs, nodes, real, tile, wide=UNCACHED[real] if tile > LANES[real] else 0).plan()
    if tile is None:
        lowering = _Lowering(program, outputs, nodes, real, None)
        in_lanes, size = lowering.plan(), lowering.row_size
        if in_lanes.tile == LANES[real] and any(by_blas(node, UNCACHED[real]) for node in nodes):
            lanes = _lanes(in_lanes.tile_memory, real, WIDE_LANES)
            in_lanes = _Lowering(program, outputs, nodes, real, lanes, wide=UNCACHED[real]).plan()
        if size * LANES[real] * (8 if real == "float64" else 4) <= CACHE_BYTES:
            return in_lanes
    turned, nodes = turn(outputs, VECTOR[real])
    if tile is None and inner_share(nodes, VECTOR[real]) < ENOUGH_INNER:
        return in_lanes
    return _Lowering(program, turned, nodes, real, 1).plan()


@dataclass
class _Life:
    """Stages (by position in the row phase) between which a value must stay in its tile."""

    start: int
    end: int
    full: bool = False  # all columns at once


@dataclass
class _Lowering:
    program: Program
    outputs: tuple[tuple[str, Node], ...]
    nodes: tuple[Node, ...]
    real: str
    tile: int | None
    compact: bool = False
    device: bool = False
    schedule: Schedule = Schedule()
    blas: int = 0
    wide: int = 0  # multiplications a row from which on weights are taken to lie in no cache; 0 for never
    phase: dict[Node, str] = field(default_factory=dict)
    output_names: dict[Node, list[str]] = field(default_factory=dict)
    row_direct: dict[Node, str] = field(default_factory=dict)  # values with rows that only live in an output
    row_size: int = 0  # numbers that one row of a full tile needs, and one column of it

    def plan(self) -> Plan:
        self.phase = phases(self.nodes)
        for name, node in self.outputs:
            self.output_names.setdefault(node, []).append(name)
        self.readers = readers(self.nodes, reads)
        self.nodes = tuple(
            n for n in self.nodes if viewed(n) is None or n in self.readers or n in self.output_names
        )
        self._find_uses()
        setup = self._plain_phase(SETUP)
        segments = self._row_segments()
        accumulate = [
            Stage(0, "map", ACCUMULATE, (m,), self._nest([m], ACCUMULATE)) for m in self._maps(ACCUMULATE)
        ]
        finish = self._plain_phase(FINISH)
        work, direct = self._work_demands([*setup, *accumulate, *finish])
        finish += self._copies(direct)
        direct |= self.row_direct
        tile_slots, tile_total = self._tile_memory(segments)
        self.row_size = tile_total.constant + tile_total.columns
        row_slots, row_total = place("rows", self._kept_demands())
        work_slots, work_total = place("work", work, ROUND)
        blocked = any(
            stage.nest is not None and stage.nest.block is not None for s in segments for stage in s.stages
        )
        lanes = self.tile or _lanes(tile_total, self.real, LANES[self.real] * (1 if blocked else PLAIN))
        beside = lanes > 1 and not self.compact and not tile_total.columns and shares_lanes(segments)
        if beside:
            tile_slots, tile_total = self._tile_memory(segments, beside)
        self._check_size((work_total, tile_total, row_total), tile_total, lanes)
        lists = [setup, *(s.stages for s in segments), accumulate, finish]
        numbered = _number([[self._conditional(s, direct) for s in stages] for stages in lists])
        names = node_names((*self.program.inputs, *self.nodes))
        values = []
        for node in dict.fromkeys((*self.program.inputs, *self.nodes)):
            values.append(
                Value(
                    node,
                    names[node],
                    work_slots.get(node),
                    tile_slots.get(node),
                    row_slots.get(node),
                    direct.get(node, ""),
                )
            )
        count = len(segments)
        return Plan(
            program=replace(self.program, outputs=self.outputs),
            real=self.real,
            tile=lanes,
            values=tuple(values),
            setup=numbered[0],
            segments=tuple(
                Segment(s.columns, n) for s, n in zip(segments, numbered[1 : count + 1], strict=True) if n
            ),
            accumulate=numbered[count + 1],
            finish=numbered[count + 2],
            work=work_total,
            tile_memory=tile_total,
            rows=row_total,
            output_fields=tuple(_output_fields([name for name, _ in self.outputs])),
            accumulable=self._accumulable(direct),
            noise_order=noise_order(self.program),
            chunk_tiles=CHUNK_TILES[0] if self.compact else _chunk_tiles(row_total, lanes, self.real),
            schedule=self.schedule,
            beside=beside,
            blas=self.blas,
            alignment=ALIGNMENT if self.device or not self.compact else 8 if self.real == "float64" else 4,
        )

    # Who needs what

    def _find_uses(self) -> None:
        """The outputs that each node leads to, as the bits of a number."""
        self.uses: dict[Node, int] = {}
        for position, (_, node) in enumerate(self.outputs):
            self.uses[node] = self.uses.get(node, 0) | 1 << position
        for node in reversed(self.nodes):
            if isinstance(node, Map):
                for read in reads(node):
                    self.uses[read] = self.uses.get(read, 0) | self.uses[node]

    def _conditional(self, stage: Stage, direct: dict[Node, str]) -> Stage:
        """``stage`` with the outputs that it is needed by, if those are few or it writes to the only one itself."""
        if stage.kind in ("store", "copy"):
            return stage  # these test their output themselves
        used = 0
        for node in stage.nodes:
            used |= self.uses[node]
        count = used.bit_count()
        alone = count == 1 and any(n in direct for n in stage.nodes)
        if not alone and count > min(FEW, len(self.outputs) - 1):
            return stage
        names = []
        while used:
            lowest = used & -used
            names.append(self.outputs[lowest.bit_length() - 1][0])
            used ^= lowest
        return replace(stage, needed_by=tuple(names))

    def _maps(self, phase: str) -> list[Map]:
        return [n for n in self.nodes if isinstance(n, Map) and self.phase[n] == phase]

    def _kept(self, node: Node) -> bool:
        """Whether a sum over rows reads ``node`` from the ``rows`` space.

        Row arrays of the caller are read in place.
        """
        if not node.has_rows or (isinstance(node, Input) and not is_noise(node)):
            return False
        return any(self.phase[r] == ACCUMULATE for r in self.readers.get(node, ()))

    # Phases without rows

    def _plain_phase(self, phase: str) -> list[Stage]:
        stages = []
        if phase == SETUP:
            drawn = [i for i in self.nodes if is_noise(i) and not i.has_rows]
            stages += [Stage(0, "noise", SETUP, (node,)) for node in drawn]
        for group in groups(self._maps(phase), lambda m: False):
            stages.append(Stage(0, "map", phase, tuple(group), self._nest(group, phase)))
        return stages

    def _work_demands(self, stages: Sequence[Stage]) -> tuple[list[Demand], dict[Node, str]]:
        """Values without rows that need memory, and those whose only memory is an output array."""
        demands, direct = [], {}
        for stage in stages:
            inside = set(stage.nodes)
            for node in stage.nodes:
                read = any(r not in inside for r in self.readers.get(node, ()))
                names = self.output_names.get(node, [])
                if not read and len(names) == 1 and stage.kind == "map":
                    direct[node] = names[0]
                elif read or names:
                    demands.append(Demand(node, _count(node.element_shape), node.has_columns, 0, 0))
        return demands, direct

    def _copies(self, direct: dict[Node, str]) -> list[Stage]:
        return [
            Stage(0, "copy", FINISH, (node,), None, name)
            for name, node in self.outputs
            if not node.has_rows and node not in direct
        ]

    def _accumulable(self, direct: dict[Node, str]) -> bool:
        return all(
            node.has_rows or (self.phase[node] == ACCUMULATE and node in direct)
            for _, node in self.outputs
        )

    # The row phase

    def _segment_of(self) -> dict[Node, int]:
        """Segment of each row map: even ones run once, odd ones for each column."""
        segment: dict[Node, int] = {}
        for node in self._maps(ROW):
            needed = 0
            for arg in reads(node):
                if arg in segment:
                    assert isinstance(arg, Map)
                    needed = max(needed, segment[arg] + (1 if _over_columns(arg) else 0))
            inside = COLUMNS in node.extents
            segment[node] = needed if (needed % 2 == 1) == inside else needed + 1
        return segment

    def _row_segments(self) -> list[Segment]:
        segment = self._segment_of()
        maps = self._maps(ROW)
        sources = [n for n in self.nodes if isinstance(n, Input) and n.has_rows]
        for node in sources:  # an input is loaded or drawn where it is first needed
            uses = [segment[r] for r in self.readers.get(node, ()) if r in segment]
            if uses or self._kept(node) or node in self.output_names:
                first = min(uses, default=0)
                if (first % 2 == 1) != node.has_columns:
                    first = 1 if node.has_columns else first - 1
                segment[node] = first
        last = max(segment.values(), default=-1)
        self.segment = segment
        result: list[list[Stage]] = [[] for _ in range(last + 2)]
        maps_in: list[list[Map]] = [[] for _ in range(last + 1)]
        for m in maps:
            maps_in[segment[m]].append(m)
        # inputs that are still to be loaded or drawn, in order
        waiting: list[dict[Node, Input]] = [{} for _ in range(last + 1)]
        place = {source: k for k, source in enumerate(sources)}
        for source in sources:
            if source in segment:
                waiting[segment[source]][source] = source
        for number in range(last + 1):
            here = waiting[number]
            for group in groups(maps_in[number], _over_columns, self._alone):
                wanted = {here[n] for m in group for n in reads(m) if n in here}
                for source in sorted(wanted, key=place.__getitem__):
                    result[number] += self._source(here.pop(source))
                result[number].append(Stage(0, "map", ROW, tuple(group), self._nest(group, ROW)))
                self._write_in_place(group)
                for member in group:
                    result[number + (1 if _over_columns(member) else 0)] += self._exports(member)
            for node in here.values():
                result[number] += self._source(node)
        return [Segment(k % 2 == 1, tuple(stages)) for k, stages in enumerate(result)]

    @property
    def _in_place(self) -> bool:
        """Whether a tile, being one row, is laid out like a row of an array."""
        return self.tile == 1

    def _source(self, node: Input) -> list[Stage]:
        if is_noise(node):
            return [Stage(0, "noise", ROW, (node,)), *self._exports(node)]
        return ([] if self._in_place else [Stage(0, "load", ROW, (node,))]) + self._exports(node)

    def _write_in_place(self, group: Sequence[Map]) -> None:
        """Let a stage write an output itself, where a tile is a row and that output is all the stage is for."""
        inside = set(group)
        stored = [
            m
            for m in group
            if m in self.output_names or any(r not in inside for r in self.readers.get(m, ()))
        ]
        if self._in_place and len(stored) == 1:
            (node,) = stored
            names = self.output_names.get(node, [])
            if len(names) == 1 and all(r in inside for r in self.readers.get(node, ())):
                self.row_direct[node] = names[0]

    def _exports(self, node: Node) -> list[Stage]:
        stages = [Stage(0, "keep", ROW, (node,))] if self._kept(node) and not self._in_place else []
        return stages + [
            Stage(0, "store", ROW, (node,), None, name)
            for name in self.output_names.get(node, [])
            if self.row_direct.get(node) != name
        ]

    def _tile_memory(self, segments: Sequence[Segment], beside: bool = False) -> tuple[dict[Node, Slot], Totals]:
        """Liveness over the row stages; a value used in a column loop lives through all of it.

        Where columns may lie ``beside`` each other, the sums over them lie behind their terms.
        """
        first: list[int] = []
        position = 0
        for segment in segments:
            first.append(position)
            position += len(segment.stages)
        lives: dict[Node, _Life] = {}
        defined_in: dict[Node, int] = {}
        used: set[Node] = set()
        position = 0
        for number, segment in enumerate(segments):
            end_of_segment = first[number] + len(segment.stages) - 1
            for stage in segment.stages:
                inside = set(stage.nodes) if stage.kind == "map" else set()
                read: Iterable[Node] = (
                    [n for m in stage.nodes if isinstance(m, Map) for n in reads(m)]
                    if stage.kind == "map"
                    else stage.nodes
                    if stage.kind in ("keep", "store")
                    else []
                )
                for node in read:
                    life = lives.get(node)
                    if node in inside or life is None:
                        continue
                    used.add(node)
                    passing = not (node.has_columns and defined_in[node] == number)
                    life.end = max(life.end, end_of_segment if segment.columns and passing else position)
                    if node.has_columns and defined_in[node] != number:
                        life.full = True
                        life.start = first[defined_in[node]]
                        life.end = max(life.end, end_of_segment)
                if stage.kind in ("map", "load", "noise"):
                    for node in stage.nodes:
                        defined_in[node] = number
                        carried = _over_columns(node)
                        lives[node] = _Life(first[number] if carried else position, position)
                        if carried:
                            lives[node].end = end_of_segment
                position += 1
        # a full value must outlive the whole loop that makes it
        for node, life in lives.items():
            if life.full:
                made = defined_in[node]
                life.end = max(life.end, first[made] + len(segments[made].stages) - 1)
        demands = []
        for node, life in lives.items():
            if node not in used or (self._in_place and self._kept(node)) or node in self.row_direct:
                continue
            together = self.schedule.columns if node.has_columns and not life.full else 1
            if beside and _over_columns(node):
                together = 2
            count = together * _count(node.element_shape)
            demands.append(Demand(node, count, life.full, life.start, life.end))
        return place("tile", demands)

    def _alone(self, node: Map) -> bool:
        """Whether a map is a kernel of its own, which no other map shares."""
        if is_product(node, self.schedule) or by_blas(node, self.blas):
            return True
        found = by_blas(node, self.wide)
        return found is not None and found.transposed

    def _kept_demands(self) -> list[Demand]:
        return [
            Demand(n, _count(n.element_shape), n.has_columns, 0, 0) for n in self.nodes if self._kept(n)
        ]

    # Loops

    def _nest(self, group: Sequence[Map], phase: str) -> Nest:
        """The loops of a group, which are those of its first map."""
        node = group[0]
        in_rows = phase == ROW
        hidden = {a for a, e in enumerate(node.extents) if in_rows and e in (ROWS, COLUMNS)}
        reduction = [a for a in node.reduced if a not in hidden]
        if phase == ACCUMULATE:
            reduction.sort(key=lambda a: (node.extents[a] is not ROWS, a))
        carried = phase == ACCUMULATE or (in_rows and _over_columns(node))
        free = [
            a for a in range(node.rank) if isinstance(node.extents[a], int) and a not in checked_axes(node)
        ]
        vector, block = self._at_once(node, in_rows, free) if reduction else (None, self._across(node, in_rows))
        lanes = in_rows and vector is None
        if lanes:
            vector = node.extents.index(ROWS)
        vector_width, width = 0, 1
        if not lanes and vector is not None:
            together = COMPACT if self.compact else WIDE if block is None else VECTOR[self.real]
            vector_width = min(together, _extent(node, vector))
        if block is not None and node.extents[block] is COLUMNS:
            width = AT_ONCE
        elif block is not None:
            extent = _extent(node, block)
            width = min(COMPACT, extent) if self.compact else _block_width(extent)
        if lanes and block is not None and not self.compact and (self.tile or 0) > LANES[self.real]:
            vector_width = LANES[self.real]  # the sums of more rows would not fit the registers
        outer = [a for a in range(len(space(node))) if a not in hidden and a not in (block, vector)]
        at: tuple[tuple[int, tuple[int, ...]], ...] = ()
        if not self.compact:
            loops = [a for a in (*outer, *reduction) if isinstance(node.extents[a], int)]
            at = cuts(group, loops, bool(reduction) or carried)
        nest = Nest(tuple(outer), block, width, vector, vector_width, lanes, tuple(reduction), carried, at)
        found = by_blas(node, self.wide)
        # blocks that overlap would add some terms twice
        if found is not None and found.transposed and lanes and vector_width and found.outs % width == 0:
            nest = replace(nest, piece=PIECE)
        if block is None or node.extents[block] is not COLUMNS:
            return nest
        assert vector is not None
        one_by_one = (*outer, block)
        wide = min(WIDE, _extent(node, vector))
        return replace(nest, rest=replace(nest, outer=one_by_one, block=None, block_width=1, vector_width=wide))

    def _at_once(self, node: Map, in_rows: bool, free: Sequence[int]) -> tuple[int | None, int | None]:
        """The output axes along which several sums are held at once: one whose sums are a vector, None for rows as lanes
        or for no such axis, and one more.
        """
        vector: int | None = None
        if self.device:
            vector = free[-1] if free and not in_rows else None
        elif not in_rows or (self._in_place and not self.compact):
            vector = inner_axis(node, VECTOR[self.real])
            if vector is None and ROWS in node.extents[node.rank :] and free:
                vector = free[-1]  # rows added number by number might be fused or not, depending on how many there are
        others = [a for a in reversed(free) if a != vector and _extent(node, a) > 1]
        side = node.extents.index(ROWS) if in_rows and vector is None else vector
        if side is None:  # what does not lie side by side is added up number by number, several sums in turn
            return None, others[0] if others else None
        if not in_rows and not self.compact and COLUMNS in node.extents[: node.rank]:
            column = node.extents.index(COLUMNS)
            # what is tested of a column is tested outside the loops over a block
            others += [] if column in checked_axes(node) else [column]
        return vector, next((a for a in others if _reuses(node, side, a)), None)

    def _across(self, node: Map, in_rows: bool) -> int | None:
        """The axis to walk along in the innermost loop, a few points at a time, where the last axis jumps through memory:
        each cache line is then used up before the next."""
        if self.compact or in_rows or len(node.args) != 1 or node.rank < 2:
            return None
        (read,) = node.args
        last = node.rank - 1
        along = [a for a in range(node.lead, last) if step(read, a) == 1]
        found = [a for a in along if not _extent(node, a) % _block_width(_extent(node, a))]
        return found[-1] if found and step(read, last) not in (0, 1) else None

    def _check_size(self, totals: Iterable[Totals], tile: Totals, lanes: int) -> None:
        largest = max((_count(n.element_shape) for n in self.nodes), default=0)
        numbers = max(largest, *(max(t.constant, t.columns) for t in totals)) * LANES[self.real] * PLAIN
        if max(numbers, max(tile.constant, tile.columns) * lanes) > LARGEST_OFFSET:
            raise UnsupportedError(
                f"the program {self.program.name} needs arrays of more than 2**31 numbers; reduce the extents or ask for "
                "fewer entries at a time",
                self.program.origin,
            )


def _output_fields(names: Sequence[str]) -> list[tuple[str, str]]:
    taken: set[str] = set()
    return [(name, unique(f"out_{spell(name)}", taken)) for name in names]


def _reuses(node: Map, vector: int, block: int) -> bool:
    """Whether blocking ``block`` reads some vector once for several sums."""
    return any(
        any(vector in i.axes for i in access.index) and not any(block in i.axes for i in access.index)
        for access in node.args
    )


def _over_columns(node: Node) -> bool:
    return isinstance(node, Map) and COLUMNS in node.extents[node.rank :]


def _extent(node: Map, axis: int) -> int:
    extent = node.extents[axis]
    assert isinstance(extent, int)
    return extent


def _block_width(extent: int) -> int:
    """Sums held at once along an axis: a width that divides it, else the one that repeats the fewest sums."""
    if extent <= BLOCKS[0]:
        return extent
    return min((width for width in BLOCKS if width <= extent), key=lambda width: -extent % width)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _lanes(total: Totals, real: str, lanes: int, most: int = TILE_BYTES) -> int:
    """Rows in a tile: fewer if a tile would not fit the cache anyway."""
    per_lane = (total.constant + total.columns) * (8 if real == "float64" else 4)
    while lanes > 1 and per_lane * lanes > most:
        lanes //= 2
    return lanes


def _chunk_tiles(rows: Totals, lanes: int, real: str) -> int:
    """Tiles of a chunk for each thread: as many as the cache keeps the rows of, since threads wait after each chunk."""
    tile = lanes * rows.constant * (8 if real == "float64" else 4)
    fitting = CHUNK_BYTES // max(tile, 1) if not rows.columns else 0
    least = max(CHUNK_TILES[0] * min(LANES[real] * PLAIN, lanes) // lanes, 1)
    return min(max(fitting, least), CHUNK_TILES[1])


def _number(lists: Sequence[Sequence[Stage]]) -> list[tuple[Stage, ...]]:
    number = 0
    result = []
    for stages in lists:
        renumbered = []
        for stage in stages:
            number += 1
            renumbered.append(replace(stage, number=number))
        result.append(tuple(renumbered))
    return result


def scales(program: Program) -> tuple[Input, ...]:
    """The run-time scale factors of a program."""
    return tuple(i for i in program.inputs if is_scale(i))
