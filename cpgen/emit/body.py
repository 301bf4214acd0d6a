"""One stage of a plan as the body of a C function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from cpgen.emit.names import address, axis_names, constant, elements, member_axes
from cpgen.emit.statements import (
    Body,
    Declaration,
    Position,
    Statement,
    branch,
    condition,
    factor,
    line,
    linear,
    loop,
    mentions,
    plus,
    position,
    simd,
    times,
)
from cpgen.ir.build import axis, constant_index
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Index, Input, Map, Node
from cpgen.ir.noise import node_key
from cpgen.ir.stack import Place, stacked
from cpgen.loops.fuse import own_sums
from cpgen.loops.phases import ACCUMULATE, ROW
from cpgen.loops.plan import Check, Nest, Plan, Stage, is_noise, is_scale
from cpgen.loops.ranges import (
    Condition,
    access_checks,
    check,
    conditions,
    guard_checks,
    live,
    never,
    pieces,
    span,
)
from cpgen.scalar import placeholder, to_c


@dataclass(frozen=True)
class _Level:
    """A loop over an output axis: ``parts`` of its points, of which more than one need not be of one kind."""

    variable: str
    parts: tuple[range | tuple[str, str], ...]  # points, or the text of the first and of the end
    step: int = 1


@dataclass(frozen=True)
class _Limits:
    """Bounds of a loop ("" for the end of the axis), the lines that compute them, and the checks they stand for."""

    lets: Body
    start: str
    stop: str
    step: int
    done: tuple[Check, ...]


class StageBody:
    """Builds the statements of one stage, after which ``declared`` holds what stands above them.

    Values of declarations depend on the frame alone.  ``helpers`` collects the scalar functions it calls, ``definitions``
    the C text of the user's own.  ``team``: the items of a tile belong to different threads.  ``single``: a tile is one
    row, so that there are no lanes; sums that are not computed side by side keep one, without which compilers are tempted
    to gather what they add.  ``lanes`` numbers lie between two elements of a row value.  ``template``: what the function
    is made for at compile time, "" for nothing.
    """

    team = False
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
        sums = nest is not None and bool(nest.reduction or nest.carried)
        side_by_side = nest is not None and stage.phase == ROW and not nest.lanes
        self.single = plan.tile == 1 and (side_by_side or not sums)
        self.axes = axis_names(plan, stage)
        self.within: dict[str, range] = {}  # points that a loop variable takes, where they are not its whole axis
        self.declared: dict[str, Declaration] = {}
        self.prefix = prefix  # of the C functions made for user functions
        self.helpers: set[str] = set()
        self.definitions: dict[str, None] = {}

    def build(self) -> Body:
        make = {
            "map": self._map,
            "load": self._load,
            "noise": self._noise,
            "keep": self._keep,
            "store": self._store,
            "copy": self._copy,
        }[self.stage.kind]
        return make()

    # Names and addresses

    def _variable(self, a: int) -> str:
        """A loop axis in an index; the column counts all columns there, of which this call may compute a part."""
        name = self.axes[a]
        if name != "col":
            return name
        first = "(ptrdiff_t)f->args->first_column"
        if self.stage.phase == ROW:
            return self._declare("column", "const ptrdiff_t", f"{first} + f->col")
        return f"({self._declare('first_column', 'const ptrdiff_t', first)} + col)"

    def _declare(self, name: str, kind: str, value: str) -> str:
        self.declared.setdefault(name, Declaration(kind, name, value))
        return name

    def _column(self) -> str:
        """The current column; in the row phase it belongs to the frame."""
        if self.stage.phase == ROW:
            self._declare("col", "const ptrdiff_t", "f->col")
        return "col"

    def _pointer(self, name: str, place: str, constant: bool = True) -> str:
        qualifier = "const " if constant else ""
        return self._declare(name, f"{qualifier}{self.real} *const", place)

    def _argument(self, node: Input) -> str:
        name = self.plan.value(node).name
        return self._pointer(name, f"f->args->{name}")

    def _tile(self, node: Node, constant: bool) -> str:
        """Where a row value is while its tile is computed."""
        value = self.plan.value(node)
        if value.tile is None:
            return self._row(node, constant)
        place = address(self.plan, value.tile, value.name, self.lanes)
        if value.tile.columns:
            place += f" + f->col * {'' if self.single else f'{self.lanes} * '}{value.tile.elements}"
        return self._pointer(f"{value.name}_tile", place, constant)

    def _row(self, node: Node, constant: bool) -> str:
        """The same for a value that lies in an array of rows."""
        value, count = self.plan.value(node), str(elements(node))
        if value.rows is not None:
            row = "f->row * f->columns + f->col" if node.has_columns else "f->row"
            place = f"{address(self.plan, value.rows, value.name)} + {times(row, count)}"
            return self._pointer(f"{value.name}_rows", place, constant)
        row = "f->col * f->n_rows + f->begin + f->row" if node.has_columns else "f->begin + f->row"
        field = self.plan.output_field(value.direct) if value.direct else value.name
        name = f"{value.name}_out" if value.direct else value.name
        return self._pointer(name, f"f->args->{field} + {times(row, count)}", constant)

    def _in_tile(self, node: Node, place: Position, constant: bool) -> str:
        """The element at ``place`` of a row value, for the current lane."""
        return f"{self._tile(node, constant)}[{self._spot(node, place.text())}]"

    def _spot(self, node: Node, place: str) -> str:
        """Where element ``place`` of a row value lies in its tile, for the current lane."""
        if self.single:
            return place
        return plus(place if place == "0" else times(place, self.lanes), "lane")

    def _rows(self, node: Node, constant: bool) -> str:
        value = self.plan.value(node)
        assert value.rows is not None
        return self._pointer(f"{value.name}_rows", address(self.plan, value.rows, value.name), constant)

    def _work(self, node: Node) -> str:
        value = self.plan.value(node)
        assert value.work is not None
        return self._pointer(value.name, address(self.plan, value.work, value.name))

    def _target(self, node: Node) -> str:
        """Where a value without rows is written."""
        value = self.plan.value(node)
        if value.direct:
            return self._pointer(
                f"{value.name}_out", f"f->args->{self.plan.output_field(value.direct)}", constant=False
            )
        assert value.work is not None
        return self._pointer(f"{value.name}_out", address(self.plan, value.work, value.name), constant=False)

    def _element(self, access: Access) -> str:
        """The C text of an access whose indices are valid."""
        node = access.node
        if id(node) in self.inside:
            return self.plan.value(node).name
        if is_scale(node):
            name = self.plan.value(node).name
            return self._declare(name, f"const {self.real}", f"f->args->{name}")
        lead = node.lead
        place = position(access.index[lead:], node.element_shape, self._variable)
        count = elements(node)
        if not node.has_rows:
            name = (
                self._argument(node) if isinstance(node, Input) and not is_noise(node) else self._work(node)
            )
            if node.has_columns:
                place.terms = {self._column(): count, **place.terms}
            return f"{name}[{place.text()}]"
        if self.stage.phase == ROW:
            return self._in_tile(node, place, True)
        if isinstance(node, Input) and not is_noise(node):
            name = self._argument(node)
            self._declare("begin", "const ptrdiff_t", "f->begin")
            row = "begin + row"
            if node.has_columns:
                row = f"{self._column()} * f->n_rows + begin + row"
            return f"{name}[{plus(times(row, str(count)), place.text())}]"
        name = self._rows(node, True)
        if node.has_columns:
            row = f"row * f->columns + {self._column()}"
        else:
            row = "row"
        return f"{name}[{plus(times(row, str(count)), place.text())}]"

    # Expressions

    def _points(self, node: Map) -> dict[int, range]:
        """The points that the current piece of the loops visits, by axis, where they are not the whole axis."""
        return {a: self.within[name] for a, name in self.axes.items() if name in self.within and a < len(node.extents)}

    def _expression(self, node: Map, valid: Collection[Condition] = ()) -> tuple[Body, str]:
        """Declarations and the text of ``node.expr`` at the current point, where the indices ``valid`` are."""
        texts = {}
        points = self._points(node)
        for k, access in enumerate(node.args):
            read = zip(access.index, access.node.shape, strict=True)
            if any(never(index, extent, node.extents, points) for index, extent in read):
                texts[placeholder(k)] = self.zero
                continue
            text = self._element(access)
            checks = access_checks(access, node.extents, points)
            tests = [c for c in checks if (c.index, c.extent) not in valid]
            if tests:
                text = f"({condition(tests, self._variable)} ? {text} : {self.zero})"
            texts[placeholder(k)] = text
        base = self.plan.value(node).name
        code = to_c([node.expr], texts, self.plan.real, lambda k: f"{base}_t{k}", self.prefix)
        self.helpers.update(code.helpers)
        for definition in code.definitions:
            self.definitions.setdefault(definition)
        return [line(f"const {self.real} {name} = {text};") for name, text in code.lets], code.results[0]

    # Maps

    def _map(self) -> Body:
        nest, root = self.stage.nest, self.stage.nodes[0]
        assert nest is not None and isinstance(root, Map)

        def point() -> Body:
            sums = self._sums(root, nest) if nest.reduction or nest.carried else []
            return [*sums, *self._finish(root, nest)]

        return self._outer_loops(root, nest, point)

    def _outer_loops(self, root: Map, nest: Nest, point: Callable[[], Body]) -> Body:
        """Loops over the output, blocks first to last; shared between threads outside the row phase.

        ``point`` makes what is inside, once for each piece of the loops.
        """
        loops: list[_Level] = []
        at = dict(nest.cuts)
        for a in nest.outer:
            extent = root.extents[a]
            parts: tuple[range | tuple[str, str], ...] = (("0", "f->columns"),)
            if extent is not COLUMNS:
                parts = tuple(pieces(range(constant(extent)), at.get(a, ())))
            loops.append(_Level(self.axes[a], parts))
        elementwise = not (nest.reduction or nest.carried)
        starts: Body = []
        if not elementwise:
            for a, width in self._blocks(nest):
                extent = constant(root.extents[a])
                name = self.axes[a]
                if extent <= width:
                    starts.append(line(f"const ptrdiff_t {name}_first = 0;"))
                elif extent % width == 0:
                    loops.append(_Level(f"{name}_first", (("0", str(extent)),), width))
                else:
                    loops.append(_Level(f"{name}_next", (("0", str(extent)),), width))
                    last = extent - width
                    starts.append(
                        line(f"const ptrdiff_t {name}_first = {name}_next < {last} ? {name}_next : {last};")
                    )
        shared = self.stage.phase != ROW
        # sums over rows are independent of each other
        wait = "_NOWAIT" if self.stage.phase == ACCUMULATE else ""
        if shared and not loops:
            return [Statement("", starts + point(), f"OMP_SINGLE{wait}")]

        def level(depth: int) -> Body:
            if depth == len(loops):
                return starts + point()
            here = loops[depth]
            body: Body = []
            for part in here.parts:
                pragma = ""
                point_alone = isinstance(part, range) and len(part) == 1 and len(here.parts) > 1
                if shared and depth == 0:
                    pragma = "OMP_SINGLE" if point_alone else self._sharing(loops, elementwise)
                    pragma += wait if part is here.parts[-1] else "_NOWAIT"  # pieces are independent, too
                elif point_alone:
                    pass
                elif elementwise and depth == len(loops) - 1 and (self.single or not nest.lanes):
                    pragma = "OMP_SIMD"
                if isinstance(part, range):
                    with self._inside(here.variable, part):
                        inner = level(depth + 1)
                    if point_alone:
                        place = line(f"const ptrdiff_t {here.variable} = {part.start};")
                        body.append(Statement("", [place, *inner], pragma))
                    else:
                        body.append(loop(here.variable, part.stop, inner, part.start, pragma=pragma))
                else:
                    body.append(loop(here.variable, part[1], level(depth + 1), step=here.step, pragma=pragma))
            return body

        return level(0)

    @staticmethod
    def _sharing(loops: Sequence[_Level], elementwise: bool) -> str:
        """How loops, the outermost first, are dealt out to threads: those down to the first that is not a single loop.

        The innermost loop of an elementwise nest is left to the vector unit.
        """
        if elementwise and len(loops) == 1:
            return "OMP_FOR_SIMD"
        count = 1
        while count < len(loops) - (1 if elementwise else 0) and len(loops[count].parts) == 1:
            count += 1
        return "OMP_FOR" if count == 1 else f"OMP_FOR_{min(count, 4)}"

    @contextmanager
    def _inside(self, variable: str, part: range) -> Iterator[None]:
        """While the body of a loop over ``part`` is made."""
        before = self.within
        self.within = {**before, variable: part}
        yield
        self.within = before

    def _blocks(self, nest: Nest) -> list[tuple[int, int]]:
        """(axis, width) of the output axes that are walked in blocks."""
        found = [] if nest.block is None else [(nest.block, nest.block_width)]
        return found if nest.lanes or nest.vector is None else [(nest.vector, nest.vector_width), *found]

    def _overlap(self, root: Map, nest: Nest) -> list[str]:
        """Conditions that hold where a block does not repeat sums of the block before it."""
        tests = []
        for a, width in self._blocks(nest):
            if constant(root.extents[a]) > width and constant(root.extents[a]) % width:
                tests.append(f"{self.axes[a]} >= {self.axes[a]}_next")
        return tests

    def _sum_text(self, nest: Nest, text: str = "sum") -> str:
        if nest.block is not None:
            text += "[step]"
        if self._has_lanes(nest):
            text += "[lane]"
        return text

    def _has_lanes(self, nest: Nest) -> bool:
        """Whether sums are held for several points of the vector axis."""
        return nest.vector is not None and not (nest.lanes and self.single)

    def _sum_declaration(self, nest: Nest, sums: str = "sum") -> str:
        if nest.block is not None:
            sums += f"[{nest.block_width}]"
        if self._has_lanes(nest):
            sums += "[LANES]" if nest.lanes else f"[{nest.vector_width}]"
        return f"{self.real} {sums};"

    def _over_block(self, nest: Nest, body: Body) -> Body:
        """Wrap ``body`` in the loops over the local sums."""
        if nest.vector is not None and self._has_lanes(nest):
            if not nest.lanes:
                body = self._in_block(nest.vector, "lane", body)
            body = [simd(loop("lane", "LANES" if nest.lanes else nest.vector_width, body))]
        if nest.block is not None:
            body = [loop("step", nest.block_width, self._in_block(nest.block, "step", body))]
        return body

    def _in_block(self, a: int, counter: str, body: Body) -> Body:
        """``body`` with the position along a blocked axis declared, if it is used."""
        name = self.axes[a]
        return (
            [line(f"const ptrdiff_t {name} = {name}_first + {counter};"), *body]
            if mentions(body, name)
            else body
        )

    def _own_sums(self) -> dict[Map, str]:
        """The sums over the nest's loops by name: that of the root, and that of its twin if it has one."""
        return {m: f"sum_{k}" if k > 1 else "sum" for k, m in enumerate(own_sums(self.stage.nodes), 1)}

    def _sums(self, root: Map, nest: Nest) -> Body:
        """Declare, start and add up the local sums."""
        start = self.zero if root.reduce == "sum" else self.lowest
        if nest.carried:
            stored = self._result(root, nest)
            tests = self._overlap(root, nest)
            if self.stage.phase == ROW:
                tests = ["col > 0", *tests]
                self._column()
            start = f"{' && '.join(tests)} ? {stored} : {start}" if tests else stored
        names = self._own_sums().values()
        body: Body = [line(self._sum_declaration(nest, name)) for name in names]
        body += self._over_block(nest, [line(f"{self._sum_text(nest, name)} = {start};") for name in names])
        return body + self._adding(root, nest)

    def _adding(self, root: Map, nest: Nest) -> Body:
        """Loops over the terms that count, with the addition inside."""
        counted = live(root, self._points(root))
        needed = list(conditions(root))
        if not all(counted.values()) or any(never(i, e, root.extents, counted) for i, e in needed):
            return []
        known = set(range(len(root.extents))) - set(nest.reduction)
        at = dict(nest.cuts)
        checks = []
        for index, extent in dict.fromkeys(needed):
            # the loops over the output visit more points than those that count
            points = self._points(root) if set(index.axes) <= known else counted
            found = check(index, extent, root.extents, points)
            checks += [] if found is None else [found]

        def level(depth: int, known: set[int], left: list[Check]) -> Body:
            here = [c for c in left if set(c.index.axes) <= known]
            left = [c for c in left if c not in here]
            if depth == len(nest.reduction):
                inner = self._over_block(nest, self._add(root, nest, needed))
            else:
                a = nest.reduction[depth]
                name, extent = self.axes[a], root.extents[a]
                if not isinstance(extent, int):
                    stop = "f->count" if extent is ROWS else "f->columns"
                    inner = [loop(name, stop, level(depth + 1, known | {a}, left))]
                else:
                    part = counted.get(a, range(extent))
                    limits = self._limits(root, a, [c for c in left if set(c.index.axes) <= known | {a}], counted)
                    left = [c for c in left if c not in limits.done]
                    inner = list(limits.lets)
                    for piece in [part] if limits.done else pieces(part, at.get(a, ())):
                        with self._inside(name, piece):
                            rest = level(depth + 1, known | {a}, left)
                        start = limits.start or piece.start
                        inner.append(loop(name, limits.stop or piece.stop, rest, start, limits.step))
            return [branch(condition(here, self._variable), inner)] if here else inner

        with self._narrowed(root, counted, known):
            return level(0, known, checks)

    @contextmanager
    def _narrowed(self, root: Map, counted: dict[int, range], axes: set[int]) -> Iterator[None]:
        """While code is made that runs at the points ``counted`` of the output axes ``axes`` only."""
        before = self.within
        self.within = {**before, **{self.axes[a]: part for a, part in counted.items() if a in axes}}
        yield
        self.within = before

    def _add(self, root: Map, nest: Nest, valid: Collection[Condition]) -> Body:
        """One term of each sum (or of the maximum), at a point where the indices ``valid`` are."""
        body: Body = []
        for node, name in self._own_sums().items():
            lets, text = self._expression(node, valid)
            total, item = self._sum_text(nest, name), name.replace("sum", "item")
            body += lets
            if root.reduce == "sum":
                body.append(line(f"{total} += {text};"))
            else:
                body.append(line(f"const {self.real} {item} = {text};"))
                body.append(line(f"{total} = {item} > {total} || {item} != {item} ? {item} : {total};"))
        return body

    def _limits(self, root: Map, a: int, checks: Sequence[Check], counted: dict[int, range]) -> _Limits:
        """The bounds of the loop over ``a`` that ``checks`` amount to, all their other axes being known there.

        What does not fit into one loop stays a test.
        """
        part = counted.get(a, range(constant(root.extents[a])))
        name = self.axes[a]
        start = stop = ""
        step = 1
        lets: Body = []
        done = []
        for c in sorted(checks, key=lambda c: -c.index.divisor):
            sign = dict(c.index.terms)[a]
            rest = Index(tuple(t for t in c.index.terms if t[0] != a), c.index.offset)
            end = c.extent * c.index.divisor
            least, most = span(rest, root.extents, counted)
            below, above = (c.low, c.high) if sign > 0 else (c.high, c.low)
            first = ""
            if c.index.divisor > 1:
                # every divisor-th point, from the first at which the division is exact
                if start or part.start or least < 0 or (below and sign < 0):
                    continue
                first = self._residue(rest, -sign, c.index.divisor)
                below = False
                above = above and (sign > 0 or part.stop > c.index.divisor)
            if abs(sign) != 1 or (below and start) or (above and stop):
                continue
            done.append(c)
            if first:
                start, step = first, c.index.divisor
            if below:  # 0 <= rest + a, or rest - a < end
                start = self._affine(rest, -1) if sign > 0 else self._affine(rest, 1, 1 - end)
                if (-most if sign > 0 else least + 1 - end) < part.start:
                    lets.append(line(f"const ptrdiff_t {name}_from = {start} > {part.start} ? {start} : {part.start};"))
                    start = f"{name}_from"
            if above:  # rest + a < end, or 0 <= rest - a
                stop = self._affine(rest, -1, end) if sign > 0 else self._affine(rest, 1, 1)
                if (end - least if sign > 0 else most + 1) > part.stop:
                    lets.append(line(f"const ptrdiff_t {name}_to = {stop} < {part.stop} ? {stop} : {part.stop};"))
                    stop = f"{name}_to"
        return _Limits(lets, start, stop, step, tuple(done))

    def _affine(self, index: Index, sign: int = 1, plus: int = 0) -> str:
        """``sign * index + plus`` for an index with divisor 1."""
        terms = {self._variable(a): sign * c for a, c in index.terms}
        offset = sign * index.offset + plus
        moving = linear(terms, 0)
        if offset > 0 and moving.startswith("-"):
            return f"{offset} - {moving[1:]}"
        return linear(terms, offset)

    def _residue(self, index: Index, sign: int, divisor: int) -> str:
        """``sign * index`` modulo ``divisor``, for an index that is nowhere negative, with divisor 1."""
        if not index.terms:
            return str(sign * index.offset % divisor)
        text = f"{factor(self._affine(index))} % {divisor}"
        return text if sign > 0 else f"({divisor} - {text}) % {divisor}"

    def _put_together(self, node: Map, numbers: Mapping[Place, Node], nest: Nest) -> Body:
        """Store the numbers of a stack, each at its place."""
        value = self.plan.value(node)
        lead = [axis(a) for a in range(node.lead)]
        body: Body = []
        for place in product(*(range(e) for e in node.element_shape)):
            number = numbers.get(place)
            text = self.zero if number is None else self._element(Access(number, tuple(lead)))
            body.append(line(f"{self._result(node, nest, [constant_index(k) for k in place])} = {text};"))
        optional = value.direct and self.stage.needed_by != (value.direct,)
        return [branch(f"{value.name}_out != NULL", body)] if optional else body

    def _result(self, node: Map, nest: Nest, index: Sequence[Index] | None = None) -> str:
        """The element of ``node`` that the current point computes, or at ``index``, as an lvalue."""
        lead = node.lead
        if index is None:
            index = [axis(a) for a in range(lead, node.rank)]
        place = position(index, node.element_shape, self._variable)
        if self.stage.phase == ROW:
            return self._in_tile(node, place, False)
        if node.has_columns:
            place.terms = {self._column(): elements(node), **place.terms}
        return f"{self._target(node)}[{place.text()}]"

    def _finish(self, root: Map, nest: Nest) -> Body:
        """Compute the members that have no sums of their own and store what is read elsewhere.

        Where a tile is one row, stores come last: what has been read from the caller's array need not be read again.
        """
        body: Body = []
        stores: Body = []
        in_rows = self.stage.phase == ROW
        summed = bool(nest.reduction or nest.carried)
        sums = self._own_sums() if summed else {}
        overlap = self._overlap(root, nest) if summed else []
        for node in self.stage.nodes:
            assert isinstance(node, Map)
            value = self.plan.value(node)
            numbers = stacked(node)
            if numbers is not None:
                put = self._put_together(node, numbers, nest)
                body, stores = (body, [*stores, *put]) if self.single else ([*body, *put], stores)
                continue
            shared_axes, self.axes = self.axes, member_axes(self.axes, root, node)
            if node in sums:
                text = self._sum_text(nest, sums[node])
            else:
                other = self.zero if node.reduce == "sum" else self.lowest
                points = self._points(node)
                if any(never(g.index, g.extent, node.extents, points) for g in node.guards):
                    text = other
                else:
                    lets, text = self._expression(node)
                    tests = condition(guard_checks(node.guards, node.extents, points), self._variable)
                    if tests:
                        text = f"{tests} ? ({text}) : {other}"
                    body += lets
            # in the row phase a repeated value may simply be stored again; elsewhere another thread may own it
            repeated = list(overlap) if nest.carried or not in_rows or self.team else []
            stored = bool(value.direct) or (value.tile or value.rows if in_rows else value.work) is not None
            if node not in sums and in_rows and node.reduced:
                place = self._result(node, nest)
                text = f"({self._column()} > 0 ? {place} : {self.zero}) + ({text})"
                repeated = list(overlap)
            elif len(self.stage.nodes) > 1:
                body.append(line(f"const {self.real} {value.name} = {text};"))
                text = value.name
                if value.direct and self.stage.needed_by != (value.direct,):
                    repeated = [f"{value.name}_out != NULL", *repeated]
            if stored:
                store = line(f"{self._result(node, nest)} = {text};")
                stores.append(branch(" && ".join(repeated), [store]) if repeated else store)
            if not self.single:
                body, stores = [*body, *stores], []
            self.axes = shared_axes
        body += stores
        if not summed:
            return self._lanes(body, "OMP_SIMD") if nest.lanes else body
        return self._over_block(nest, body)

    # Moving rows in and out of a tile

    def _lanes(self, body: Body, pragma: str = "") -> Body:
        """``body`` for each row of a full tile."""
        if self.single:
            return body
        return [loop("lane", "LANES", body, pragma=pragma)]

    def _valid_lanes(self, body: Body) -> Body:
        """``body`` for each row of the tile that exists."""
        if self.single:
            return body
        return [loop("lane", "f->lanes", body)]

    def _items(self, count: int, body: Body) -> Body:
        """``body`` for each element ``item``, or for the only one."""
        return [loop("item", count, body)] if count != 1 else [_without_items(s) for s in body]

    def _load(self) -> Body:
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = elements(node)
        row = "f->begin + f->row"
        if node.has_columns:
            row = f"f->col * f->n_rows + {row}"
        place = f"f->args->{self.plan.value(node).name} + {times(row, str(count))}"
        self._pointer("source", place)
        target = self._tile(node, False)
        if self.single:
            return self._items(count, [line(f"{target}[item] = source[item];")])
        place = f"source[{self._past(node)}{times('row', str(count))} + item]"
        return self._move_in(count, f"{target}[{self._spot(node, 'item')}]", place)

    def _move_in(self, count: int, target: str, source: str) -> Body:
        """``target = source`` for each ``item`` and ``lane``, whose ``row`` of the caller is at most the last."""
        clamped = line("const ptrdiff_t row = lane < f->lanes ? lane : f->lanes - 1;")
        return self._items(count, self._lanes([clamped, line(f"{target} = {source};")]))

    def _move_out(self, count: int, target: str, source: str) -> Body:
        """``target = source`` for each ``item`` and ``lane`` that is a row."""
        return self._valid_lanes(self._items(count, [line(f"{target} = {source};")]))

    def _past(self, node: Input) -> str:
        """What is added to a position in the caller's rows beyond those of the first column."""
        return ""

    def _keep(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        source, target = self._tile(node, True), self._rows(node, False)
        row = "f->row" if self.single else "f->row + lane"
        if node.has_columns:
            row = f"{factor(row)} * f->columns + {self._column()}"
        place = f"{target}[{times(row, str(count))} + item]"
        return self._move_out(count, place, f"{source}[{self._spot(node, 'item')}]")

    def _store(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        source = self._tile(node, True)
        target = self.plan.output_field(self.stage.output)
        self._pointer(target, f"f->args->{target}", constant=False)
        row = "f->begin + f->row" if self.single else "f->begin + f->row + lane"
        if node.has_columns:
            row = f"{self._column()} * f->n_rows + {row}"
        place = f"{target}[{times(row, str(count))} + item]"
        moved = self._move_out(count, place, f"{source}[{self._spot(node, 'item')}]")
        return [branch(f"{target} != NULL", moved)]

    def _copy(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        if is_scale(node):
            source = self._element(Access(node, ()))
            read = source
        else:
            source = (
                self._argument(node) if isinstance(node, Input) and not is_noise(node) else self._work(node)
            )
            read = f"{source}[item]"
        target = self.plan.output_field(self.stage.output)
        self._pointer(target, f"f->args->{target}", constant=False)
        stop = f"f->columns * {count}" if node.has_columns else str(count)
        return [branch(f"{target} != NULL", [self._copy_loop(stop, [line(f"{target}[item] = {read};")])])]

    def _copy_loop(self, stop: str, body: Body) -> Statement:
        return loop("item", stop, body, pragma="OMP_FOR")

    # Noise

    def _noise(self) -> Body:
        """Fill a noise value: one Philox call gives the signs of 128 elements."""
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = elements(node)
        value = self.plan.value(node)
        if self.stage.phase == ROW:
            target = self._tile(node, False)
            row = "f->args->first_row + f->begin + f->row"
            if not self.single:
                self._declare("last", "const ptrdiff_t", "f->lanes - 1")
                row += " + (lane < last ? lane : last)"
            put = f"{target}[{self._spot(node, 'item + bit')}]"
        else:
            assert value.work is not None
            target = self._target(node)
            row = "0"
            put = f"{target}[{times('col', str(count))} + item + bit]"
        column = f"f->args->first_column + {self._column()}"
        self._declare("noise_offset", "const uint32_t", f"{node.offset}U")
        self._declare("noise_key", "const uint32_t", f"{node_key(node.name)}U")
        key = f"{self.plan.noise_order}U, noise_offset, noise_key"
        header = [
            line("const cpgen_noise noise = cpgen_noise_at("),
            line(f"    f->args->seed, f->args->design, {key}, (uint64_t)({column}), (uint32_t)({row}));"),
        ]
        put_one = line(f"{put} = ({self.real})cpgen_noise_value(&noise, words, (uint32_t)(item + bit));")
        return self._draw(header, count, put_one)

    def _draw(self, header: Body, count: int, put: Statement) -> Body:
        """Words of 128 signs and what is done with each of them."""
        words = [
            line("uint32_t words[4];"),
            line("cpgen_noise_words(&noise, (uint32_t)(item / 128), words);"),
            line(f"const ptrdiff_t left = {count} - item < 128 ? {count} - item : 128;"),
            loop("bit", "left", [put]),
        ]
        body = [*header, loop("item", count, words, step=128)]
        if self.stage.phase == ROW:
            return self._lanes(body)
        return [loop("col", "f->columns", body, pragma="OMP_FOR")]


def _without_items(statement: Statement) -> Statement:
    text = statement.text.replace("[item * LANES + lane]", "[lane]").replace(" + item]", "]").replace("[item]", "[0]")
    body = None if statement.body is None else [_without_items(s) for s in statement.body]
    return Statement(text, body, statement.pragma)
