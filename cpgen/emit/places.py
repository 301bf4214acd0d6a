"""Where a stage reads and writes: in the caller's arrays, the tile, the rows of a chunk or the workspace."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cpgen.code.tree import (
    INDEX,
    Body,
    Call,
    Cast,
    Element,
    Expression,
    Group,
    Let,
    Literal,
    Name,
    Select,
    Type,
    Unary,
    binary,
    every,
    is_number,
    joined,
    let,
    number,
    of,
    plus,
    times,
)
from cpgen.emit.affine import Position, condition, position
from cpgen.emit.names import LANES, address, axis_names, elements
from cpgen.errors import UnsupportedError
from cpgen.ir.build import axis
from cpgen.ir.nodes import Access, Index, Input, Map, Node
from cpgen.loops.kernels import Loops
from cpgen.loops.plan import ROW, Plan, Stage, is_noise, is_scale
from cpgen.loops.ranges import Condition, access_checks, never
from cpgen.scalar import placeholder
from cpgen.scalar.ccode import to_c


class Places:
    """Values at the current point of a stage's loops.

    What is asked for adds to ``declared``, whose values depend on the frame alone, and to ``definitions``, the C text of
    the user's own functions.  ``single``: there are no lanes, a tile being one row.

    Device code overrides :meth:`variable`, :meth:`column`, :meth:`spot` and :meth:`element`.  ``lanes`` numbers lie
    between two elements of a row value; ``template`` is what the function is made for at compile time, "" for nothing.
    """

    lanes: Expression = LANES
    template = ""

    def __init__(self, plan: Plan, stage: Stage, prefix: str) -> None:
        self.plan = plan
        self.stage = stage
        self.real = "double" if plan.real == "float64" else "float"
        self.zero, self.lowest = zero(plan.real), lowest(plan.real)
        self.inside = set(stage.nodes) if stage.kind == "map" else set[Node]()
        nest = stage.nest
        self.grouped = nest is not None and nest.grouped
        self.single = isinstance(stage.kernel, Loops) and stage.kernel.one_row
        self.axes = axis_names(plan, stage)
        self.within: dict[str, range] = {}  # points that a loop variable takes, where they are not its whole axis
        self.declared: dict[str, Let] = {}
        self.prefix = prefix  # of the C functions made for user functions
        self.definitions: dict[str, None] = {}
        self.shared: dict[Call, Name] | None = None  # what calls were made at this point, where members may share them

    # Variables and pointers

    def declare(self, name: str, value: Expression, type: Type = INDEX) -> Name:
        self.declared.setdefault(name, Let(type, name, value))
        return Name(name)

    def variable(self, a: int) -> Expression:
        """A loop axis in an index; the column counts all columns there, of which this call may compute a part."""
        name = self.axes[a]
        if name != "col":
            return Name(name)
        first = Cast("ptrdiff_t", of("f", "args", "first_column"))
        if self.stage.phase == ROW:
            return self.declare("column", binary("+", first, of("f", "col")))
        return Group(binary("+", self.declare("first_column", first), Name("col")))

    def filled(self) -> Name:
        """The lanes that are computed: all, or in large tiles the groups in which there are rows."""
        return self.declare("filled", of("f", "filled")) if self.plan.group else LANES

    def column(self) -> Name:
        """The current column; in the row phase it belongs to the frame."""
        if self.stage.phase == ROW:
            self.declare("col", of("f", "col"))
        return Name("col")

    def going_on(self) -> Expression:
        """In the row phase, whether a sum over columns starts from what is there.

        Of columns side by side, each lane has the term of its own.
        """
        if not self.plan.beside:
            return binary(">", self.column(), number(0))
        alone = binary("==", of("f", "beside"), number(1))
        going_on = every([alone, binary(">", of("f", "col"), number(0))])
        return self.declare("going_on", going_on, Type("int", constant=True))

    def pointer(self, name: str, place: Expression, constant: bool = True) -> Name:
        return self.declare(name, place, Type(self.real, constant, pointer=True, fixed=True))

    def tile(self, node: Node, constant: bool) -> Name:
        """Where a row value is while its tile is computed."""
        value = self.plan.value(node)
        if value.tile is None:
            return self._row(node, constant)
        place = address(self.plan, value.tile, value.name, self.lanes)
        if value.tile.columns:
            column: Expression = of("f", "col")
            if not self.single:
                column = binary("*", column, self.lanes)
            place = joined(place, binary("*", column, number(value.tile.elements)))
        return self.pointer(f"{value.name}_tile", place, constant)

    def _row(self, node: Node, constant: bool) -> Name:
        """The same for a value that lies in an array of rows."""
        value, count = self.plan.value(node), number(elements(node))
        col, row = of("f", "col"), of("f", "row")
        if value.rows is not None:
            at = joined(binary("*", row, of("f", "columns")), col) if node.has_columns else row
            place = joined(address(self.plan, value.rows, value.name), times(at, count))
            return self.pointer(f"{value.name}_rows", place, constant)
        at = joined(of("f", "begin"), row)
        if node.has_columns:
            at = joined(binary("*", col, of("f", "n_rows")), at)
        field = self.plan.output_field(value.direct) if value.direct else value.name
        name = f"{value.name}_out" if value.direct else value.name
        return self.pointer(name, joined(of("f", "args", field), times(at, count)), constant)

    def rows(self, node: Node, constant: bool) -> Name:
        """Where the values of all rows of a chunk are."""
        value = self.plan.value(node)
        assert value.rows is not None
        return self.pointer(f"{value.name}_rows", address(self.plan, value.rows, value.name), constant)

    def array(self, node: Node) -> Name:
        """Where a whole value is read: an array of the caller's, or one without rows in the workspace."""
        value = self.plan.value(node)
        if isinstance(node, Input) and not is_noise(node):
            return self.pointer(value.name, of("f", "args", value.name))
        assert value.work is not None
        return self.pointer(value.name, address(self.plan, value.work, value.name))

    def target(self, node: Node) -> Name:
        """Where a value without rows is written."""
        value = self.plan.value(node)
        name = f"{value.name}_out"
        if value.direct:
            return self.pointer(name, of("f", "args", self.plan.output_field(value.direct)), constant=False)
        assert value.work is not None
        return self.pointer(name, address(self.plan, value.work, value.name), constant=False)

    def output(self) -> Name:
        """The output that this stage writes."""
        name = self.plan.output_field(self.stage.output)
        return self.pointer(name, of("f", "args", name), constant=False)

    # Elements

    def spot(self, node: Node, place: Expression) -> Expression:
        """Where element ``place`` of a row value lies in its tile, for the current lane."""
        if self.single:
            return place
        lane = Name("lane")
        here = binary("+", Name("group"), lane) if self.grouped else lane
        return plus(in_lanes(place, self.lanes), here)

    def _in_tile(self, node: Node, place: Position, constant: bool) -> Expression:
        """The element at ``place`` of a row value, for the current lane."""
        return Element(self.tile(node, constant), self.spot(node, place.tree()))

    def element(self, access: Access) -> Expression:
        """An access whose indices are valid."""
        node = access.node
        if node in self.inside:
            return Name(self.plan.value(node).name)
        if is_scale(node):
            name = self.plan.value(node).name
            return self.declare(name, of("f", "args", name), Type(self.real, constant=True))
        place = position(access.index[node.lead :], node.element_shape, self.variable)
        count = elements(node)
        if not node.has_rows:
            array = self.array(node)
            if node.has_columns:
                place.terms = {self.column(): count, **place.terms}
            return Element(array, place.tree())
        if self.stage.phase == ROW:
            return self._in_tile(node, place, True)
        row: Expression = Name("row")
        if isinstance(node, Input) and not is_noise(node):
            array = self.array(node)
            self.declare("begin", of("f", "begin"))
            row = joined(Name("begin"), row)
            if node.has_columns:
                row = joined(binary("*", self.column(), of("f", "n_rows")), row)
        else:
            array = self.rows(node, True)
            if node.has_columns:
                row = joined(binary("*", row, of("f", "columns")), self.column())
        return Element(array, plus(times(row, number(count)), place.tree()))

    def result(self, node: Map, index: Sequence[Index] | None = None) -> Expression:
        """The element of ``node`` that the current point computes, or at ``index``."""
        if index is None:
            index = [axis(a) for a in range(node.lead, node.rank)]
        place = position(index, node.element_shape, self.variable)
        if self.stage.phase == ROW:
            return self._in_tile(node, place, False)
        if node.has_columns:
            place.terms = {self.column(): elements(node), **place.terms}
        return Element(self.target(node), place.tree())

    # Expressions

    @contextmanager
    def narrowed(self, points: Mapping[str, range]) -> Iterator[None]:
        """While code is made that runs only where the loop variables have these values."""
        before = self.within
        self.within = {**before, **points}
        yield
        self.within = before

    @contextmanager
    def named(self, axes: dict[int, str]) -> Iterator[None]:
        """While code is made for a member of the stage whose loop variables are ``axes``."""
        before = self.axes
        self.axes = axes
        yield
        self.axes = before

    def points(self, node: Map) -> dict[int, range]:
        """The points that the current piece of the loops visits, by axis, where they are not the whole axis."""
        return {a: self.within[name] for a, name in self.axes.items() if name in self.within and a < len(node.extents)}

    def expression(self, node: Map, valid: Collection[Condition] = ()) -> tuple[Body, Expression]:
        """Declarations, and ``node.expr`` at the current point, where the indices ``valid`` are."""
        found: dict[Any, Expression] = {}
        points = self.points(node)
        for k, access in enumerate(node.args):
            read = zip(access.index, access.node.shape, strict=True)
            if any(never(index, extent, node.extents, points) for index, extent in read):
                found[placeholder(k)] = self.zero
                continue
            value = self.element(access)
            checks = access_checks(access, node.extents, points)
            test = condition([c for c in checks if (c.index, c.extent) not in valid], self.variable)
            found[placeholder(k)] = value if test is None else Group(Select(test, value, self.zero))
        return self.computed(node, node.expr, found)

    def computed(self, node: Map, expr: Any, values: Mapping[Any, Expression]) -> tuple[Body, Expression]:
        """Declarations, and an expression on the way to ``node``, given what its placeholders are."""
        base = self.plan.value(node).name
        made: Body = []

        def share(kind: str, call: Call) -> Expression:
            assert self.shared is not None
            if call not in self.shared:
                self.shared[call] = Name(f"{base}_all")
                made.append(let(f"{base}_all", call, Type(kind, constant=True)))
            return self.shared[call]

        sharing = None if self.shared is None else share
        try:
            code = to_c([expr], values, self.plan.real, lambda k: f"{base}_t{k}", self.prefix, sharing)
        except UnsupportedError as error:
            raise UnsupportedError(f"{node.origin.name}: {error.message}", node.origin) from error
        for definition in code.definitions:
            self.definitions.setdefault(definition)
        lets = [let(name, value, Type(self.real, constant=True)) for name, value in code.lets]
        return [*made, *lets], code.results[0]


def zero(real: str) -> Expression:
    return Literal("0.0" if real == "float64" else "0.0f")


def lowest(real: str) -> Expression:
    """What a maximum begins with."""
    return Unary("-", Name("HUGE_VAL" if real == "float64" else "HUGE_VALF"))


def in_lanes(place: Expression, lanes: Expression) -> Expression:
    """Where element ``place`` of a tile begins."""
    return place if is_number(place, 0) else times(place, lanes)
