"""Where a stage reads and writes: in the caller's arrays, the tile, the rows of a chunk or the workspace."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cpgen.emit.names import address, axis_names, elements
from cpgen.emit.statements import Body, Declaration, Position, condition, line, plus, position, times
from cpgen.errors import UnsupportedError
from cpgen.ir.build import axis
from cpgen.ir.nodes import Access, Index, Input, Map, Node
from cpgen.loops.phases import ROW
from cpgen.loops.plan import Plan, Stage, is_noise, is_scale
from cpgen.loops.ranges import Condition, access_checks, never
from cpgen.scalar import placeholder, to_c


class Places:
    """The C text of values at the current point of a stage's loops.

    What is asked for adds to ``declared``, whose values depend on the frame alone, to ``helpers``, the scalar functions
    that are called, and to ``definitions``, the C text of the user's own.  ``single``: a tile is one row, so that there
    are no lanes; sums that are not computed side by side keep one, without which compilers are tempted to gather what
    they add.

    Device code overrides :meth:`variable`, :meth:`column`, :meth:`spot` and :meth:`element`.  ``lanes`` numbers lie
    between two elements of a row value; ``template`` is what the function is made for at compile time, "" for nothing.
    """

    lanes = "LANES"
    template = ""

    def __init__(self, plan: Plan, stage: Stage, prefix: str) -> None:
        self.plan = plan
        self.stage = stage
        self.real = "double" if plan.real == "float64" else "float"
        self.zero = "0.0" if plan.real == "float64" else "0.0f"
        self.lowest = "-HUGE_VAL" if plan.real == "float64" else "-HUGE_VALF"
        self.inside = {id(n) for n in stage.nodes} if stage.kind == "map" else set()
        nest = stage.nest
        self.summed = nest is not None and bool(nest.reduction or nest.carried)  # with sums in local variables
        self.grouped = nest is not None and nest.lanes and nest.vector_width > 0  # sums of some lanes at a time
        side_by_side = nest is not None and stage.phase == ROW and not nest.lanes
        self.single = plan.tile == 1 and (side_by_side or not self.summed)
        self.axes = axis_names(plan, stage)
        self.within: dict[str, range] = {}  # points that a loop variable takes, where they are not its whole axis
        self.declared: dict[str, Declaration] = {}
        self.prefix = prefix  # of the C functions made for user functions
        self.helpers: set[str] = set()
        self.definitions: dict[str, None] = {}
        self.shared: dict[str, str] | None = None  # what calls were made at this point, where members may share them

    # Variables and pointers

    def declare(self, name: str, kind: str, value: str) -> str:
        self.declared.setdefault(name, Declaration(kind, name, value))
        return name

    def variable(self, a: int) -> str:
        """A loop axis in an index; the column counts all columns there, of which this call may compute a part."""
        name = self.axes[a]
        if name != "col":
            return name
        first = "(ptrdiff_t)f->args->first_column"
        if self.stage.phase == ROW:
            return self.declare("column", "const ptrdiff_t", f"{first} + f->col")
        return f"({self.declare('first_column', 'const ptrdiff_t', first)} + col)"

    def filled(self) -> str:
        """The lanes that are computed: all, or in large tiles the groups in which there are rows."""
        return self.declare("filled", "const ptrdiff_t", "f->filled") if self.plan.group else "LANES"

    def column(self) -> str:
        """The current column; in the row phase it belongs to the frame."""
        if self.stage.phase == ROW:
            self.declare("col", "const ptrdiff_t", "f->col")
        return "col"

    def going_on(self) -> str:
        """In the row phase, whether a sum over columns starts from what is there.

        Of columns side by side, each lane has the term of its own.
        """
        if not self.plan.beside:
            return f"{self.column()} > 0"
        return self.declare("going_on", "const int", "f->beside == 1 && f->col > 0")

    def pointer(self, name: str, place: str, constant: bool = True) -> str:
        qualifier = "const " if constant else ""
        return self.declare(name, f"{qualifier}{self.real} *const", place)

    def tile(self, node: Node, constant: bool) -> str:
        """Where a row value is while its tile is computed."""
        value = self.plan.value(node)
        if value.tile is None:
            return self._row(node, constant)
        place = address(self.plan, value.tile, value.name, self.lanes)
        if value.tile.columns:
            place += f" + f->col * {'' if self.single else f'{self.lanes} * '}{value.tile.elements}"
        return self.pointer(f"{value.name}_tile", place, constant)

    def _row(self, node: Node, constant: bool) -> str:
        """The same for a value that lies in an array of rows."""
        value, count = self.plan.value(node), str(elements(node))
        if value.rows is not None:
            row = "f->row * f->columns + f->col" if node.has_columns else "f->row"
            place = f"{address(self.plan, value.rows, value.name)} + {times(row, count)}"
            return self.pointer(f"{value.name}_rows", place, constant)
        row = "f->col * f->n_rows + f->begin + f->row" if node.has_columns else "f->begin + f->row"
        field = self.plan.output_field(value.direct) if value.direct else value.name
        name = f"{value.name}_out" if value.direct else value.name
        return self.pointer(name, f"f->args->{field} + {times(row, count)}", constant)

    def rows(self, node: Node, constant: bool) -> str:
        """Where the values of all rows of a chunk are."""
        value = self.plan.value(node)
        assert value.rows is not None
        return self.pointer(f"{value.name}_rows", address(self.plan, value.rows, value.name), constant)

    def array(self, node: Node) -> str:
        """Where a whole value is read: an array of the caller's, or one without rows in the workspace."""
        value = self.plan.value(node)
        if isinstance(node, Input) and not is_noise(node):
            return self.pointer(value.name, f"f->args->{value.name}")
        assert value.work is not None
        return self.pointer(value.name, address(self.plan, value.work, value.name))

    def target(self, node: Node) -> str:
        """Where a value without rows is written."""
        value = self.plan.value(node)
        name = f"{value.name}_out"
        if value.direct:
            return self.pointer(name, f"f->args->{self.plan.output_field(value.direct)}", constant=False)
        assert value.work is not None
        return self.pointer(name, address(self.plan, value.work, value.name), constant=False)

    def output(self) -> str:
        """The output that this stage writes."""
        name = self.plan.output_field(self.stage.output)
        return self.pointer(name, f"f->args->{name}", constant=False)

    # Elements

    def spot(self, node: Node, place: str) -> str:
        """Where element ``place`` of a row value lies in its tile, for the current lane."""
        if self.single:
            return place
        return plus(place if place == "0" else times(place, self.lanes), "group + lane" if self.grouped else "lane")

    def _in_tile(self, node: Node, place: Position, constant: bool) -> str:
        """The element at ``place`` of a row value, for the current lane."""
        return f"{self.tile(node, constant)}[{self.spot(node, place.text())}]"

    def element(self, access: Access) -> str:
        """The C text of an access whose indices are valid."""
        node = access.node
        if id(node) in self.inside:
            return self.plan.value(node).name
        if is_scale(node):
            name = self.plan.value(node).name
            return self.declare(name, f"const {self.real}", f"f->args->{name}")
        place = position(access.index[node.lead :], node.element_shape, self.variable)
        count = elements(node)
        if not node.has_rows:
            name = self.array(node)
            if node.has_columns:
                place.terms = {self.column(): count, **place.terms}
            return f"{name}[{place.text()}]"
        if self.stage.phase == ROW:
            return self._in_tile(node, place, True)
        if isinstance(node, Input) and not is_noise(node):
            name = self.array(node)
            self.declare("begin", "const ptrdiff_t", "f->begin")
            row = f"{self.column()} * f->n_rows + begin + row" if node.has_columns else "begin + row"
        else:
            name = self.rows(node, True)
            row = f"row * f->columns + {self.column()}" if node.has_columns else "row"
        return f"{name}[{plus(times(row, str(count)), place.text())}]"

    def result(self, node: Map, index: Sequence[Index] | None = None) -> str:
        """The element of ``node`` that the current point computes, or at ``index``, as an lvalue."""
        if index is None:
            index = [axis(a) for a in range(node.lead, node.rank)]
        place = position(index, node.element_shape, self.variable)
        if self.stage.phase == ROW:
            return self._in_tile(node, place, False)
        if node.has_columns:
            place.terms = {self.column(): elements(node), **place.terms}
        return f"{self.target(node)}[{place.text()}]"

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

    def expression(self, node: Map, valid: Collection[Condition] = ()) -> tuple[Body, str]:
        """Declarations and the text of ``node.expr`` at the current point, where the indices ``valid`` are."""
        texts = {}
        points = self.points(node)
        for k, access in enumerate(node.args):
            read = zip(access.index, access.node.shape, strict=True)
            if any(never(index, extent, node.extents, points) for index, extent in read):
                texts[placeholder(k)] = self.zero
                continue
            text = self.element(access)
            checks = access_checks(access, node.extents, points)
            tests = [c for c in checks if (c.index, c.extent) not in valid]
            if tests:
                text = f"({condition(tests, self.variable)} ? {text} : {self.zero})"
            texts[placeholder(k)] = text
        return self.computed(node, node.expr, texts)

    def computed(self, node: Map, expr: Any, texts: Mapping[Any, str]) -> tuple[Body, str]:
        """Declarations and the text of an expression on the way to ``node``, given the texts of its placeholders."""
        base = self.plan.value(node).name
        made: Body = []

        def share(kind: str, call: str) -> str:
            assert self.shared is not None
            if call not in self.shared:
                self.shared[call] = f"{base}_all"
                made.append(line(f"const {kind} {base}_all = {call};"))
            return self.shared[call]

        sharing = None if self.shared is None else share
        try:
            code = to_c([expr], texts, self.plan.real, lambda k: f"{base}_t{k}", self.prefix, sharing)
        except UnsupportedError as error:
            raise UnsupportedError(f"{node.origin.name}: {error.message}", node.origin) from error
        self.helpers.update(code.helpers)
        for definition in code.definitions:
            self.definitions.setdefault(definition)
        lets = [line(f"const {self.real} {name} = {text};") for name, text in code.lets]
        return [*made, *lets], code.results[0]
