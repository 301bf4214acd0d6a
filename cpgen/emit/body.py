"""One stage of a plan as the body of a C function."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cpgen.emit.statements import (
    Body,
    Declaration,
    Statement,
    branch,
    condition,
    factor,
    line,
    loop,
    position,
    simd,
)
from cpgen.ir.build import axis
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Input, Map, Node
from cpgen.ir.noise import node_key
from cpgen.loops.names import identifier, unique
from cpgen.loops.phases import ACCUMULATE, ROW
from cpgen.loops.plan import Check, Nest, Plan, Slot, Stage, is_noise, is_scale
from cpgen.loops.ranges import access_checks, guard_checks
from cpgen.scalar import placeholder, to_c

LETTERS = "ijklmnpqrstuvwxyz"


COLUMNS_BEGIN = "columns_begin"  # the offset at which values for all columns begin


def offset_name(plan: Plan, space: str, value: str) -> str:
    """The enumerator of a value's offset."""
    return f"{identifier(plan.name, 'program').upper()}_{space.upper()}_{value}"


def address(plan: Plan, slot: Slot, value: str, lanes: str = "LANES") -> str:
    """The C address of a slot; ``lanes`` numbers lie between two elements of a row value."""
    offset = offset_name(plan, slot.space, value)
    scale = {"work": "", "tile": lanes, "rows": "f->chunk"}[slot.space]
    if slot.columns:
        offset = f"{offset_name(plan, slot.space, COLUMNS_BEGIN)} + f->columns * {offset}"
        offset = f"{scale} * ({offset})" if scale else offset
    elif scale:
        offset = f"{scale} * {offset}"
    return f"f->{slot.space} + {offset}"


class StageBody:
    """Builds the statements of one stage, after which ``declared`` holds what stands above them.

    Values of declarations depend on the frame alone.  ``helpers`` collects the scalar functions it calls, ``definitions``
    the C text of the user's own.  ``team``: the items of a tile belong to different threads.  ``lanes`` numbers lie
    between two elements of a row value.  ``template``: what the function is made for at compile time, "" for nothing.
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
        self.axes = axis_names(plan, stage)
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
        return self.axes[a]

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
        value = self.plan.value(node)
        assert value.tile is not None
        place = address(self.plan, value.tile, value.name, self.lanes)
        if value.tile.columns:
            place += f" + f->col * {self.lanes} * {value.tile.elements}"
        return self._pointer(f"{value.name}_tile", place, constant)

    def _spot(self, node: Node, place: str) -> str:
        """Where element ``place`` of a row value lies in its tile, for the current lane."""
        return _sum(place if place == "0" else times(place, self.lanes), "lane")

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
        count = 1
        for extent in node.element_shape:
            count *= extent
        if not node.has_rows:
            name = (
                self._argument(node) if isinstance(node, Input) and not is_noise(node) else self._work(node)
            )
            if node.has_columns:
                place.terms = {self._column(): count, **place.terms}
            return f"{name}[{place.text()}]"
        if self.stage.phase == ROW:
            return f"{self._tile(node, True)}[{self._spot(node, place.text())}]"
        if isinstance(node, Input) and not is_noise(node):
            name = self._argument(node)
            self._declare("begin", "const ptrdiff_t", "f->begin")
            row = "begin + row"
            if node.has_columns:
                row = f"{self._column()} * f->n_rows + begin + row"
            return f"{name}[{_sum(times(row, str(count)), place.text())}]"
        name = self._rows(node, True)
        if node.has_columns:
            row = f"row * f->columns + {self._column()}"
        else:
            row = "row"
        return f"{name}[{_sum(times(row, str(count)), place.text())}]"

    # Expressions

    def _expression(self, node: Map, skip: Sequence[Check] = ()) -> tuple[Body, str]:
        """Declarations and the text of ``node.expr`` at the current point.

        Accesses whose tests are in ``skip`` are known to be valid.
        """
        texts = {}
        for k, access in enumerate(node.args):
            text = self._element(access)
            tests = [c for c in access_checks(access, node.extents) if c not in skip]
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
        body: Body = []
        if nest.reduction or nest.carried:
            body += self._sums(root, nest)
        body += self._finish(root, nest)
        body = self._outer_loops(root, nest, body)
        value = self.plan.value(root)
        if value.direct and len(self.stage.nodes) == 1:
            body = [branch(f"{value.name}_out == NULL", [line("return;")]), *body]
        return body

    def _outer_loops(self, root: Map, nest: Nest, body: Body) -> Body:
        """Loops over the output, blocks first to last; shared between threads outside the row phase."""
        loops: list[tuple[str, str | int, int]] = []
        for a in nest.outer:
            extent = root.extents[a]
            loops.append((self.axes[a], "f->columns" if extent is COLUMNS else constant(extent), 1))
        elementwise = not (nest.reduction or nest.carried)
        starts: Body = []
        if not elementwise:
            for a, width in self._blocks(nest):
                extent = constant(root.extents[a])
                name = self.axes[a]
                if extent <= width:
                    starts.append(line(f"const ptrdiff_t {name}_first = 0;"))
                elif extent % width == 0:
                    loops.append((f"{name}_first", extent, width))
                else:
                    loops.append((f"{name}_next", extent, width))
                    last = extent - width
                    starts.append(
                        line(f"const ptrdiff_t {name}_first = {name}_next < {last} ? {name}_next : {last};")
                    )
        body = starts + body
        shared = self.stage.phase != ROW
        wait = (
            "_NOWAIT" if self.stage.phase == ACCUMULATE else ""
        )  # sums over rows are independent of each other
        for depth in range(len(loops) - 1, -1, -1):
            name, stop, step = loops[depth]
            pragma = ""
            if shared and depth == 0:
                # the innermost loop of an elementwise nest is left to the vector unit
                count = len(loops) - (1 if elementwise and len(loops) > 1 else 0)
                pragma = "OMP_FOR" if count == 1 else f"OMP_FOR_{min(count, 4)}"
                if elementwise and len(loops) == 1:
                    pragma = "OMP_FOR_SIMD"
                pragma += wait
            elif elementwise and not nest.lanes and depth == len(loops) - 1:
                pragma = "OMP_SIMD"
            body = [loop(name, stop, body, step=step, pragma=pragma)]
        if shared and not loops:
            body = [Statement("", body, f"OMP_SINGLE{wait}")]
        return body

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

    def _sum_text(self, nest: Nest) -> str:
        text = "sum"
        if nest.block is not None:
            text += "[step]"
        if nest.vector is not None:
            text += "[lane]"
        return text

    def _sum_declaration(self, nest: Nest) -> str:
        sums = "sum"
        if nest.block is not None:
            sums += f"[{nest.block_width}]"
        if nest.vector is not None:
            sums += "[LANES]" if nest.lanes else f"[{nest.vector_width}]"
        return f"{self.real} {sums};"

    def _over_block(self, nest: Nest, body: Body) -> Body:
        """Wrap ``body`` in the loops over the local sums."""
        if nest.vector is not None:
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

    def _sums(self, root: Map, nest: Nest) -> Body:
        """Declare, start and add up the local sums."""
        start = self.zero if root.reduce == "sum" else self.lowest
        if nest.carried:
            stored = self._result(root, nest)
            tests = self._overlap(root, nest)
            if nest.lanes:
                tests = ["col > 0", *tests]
                self._column()
            start = f"{' && '.join(tests)} ? {stored} : {start}" if tests else stored
        body: Body = [line(self._sum_declaration(nest))]
        body += self._over_block(nest, [line(f"{self._sum_text(nest)} = {start};")])
        checks = list(guard_checks(root.guards, root.extents))
        if root.reduce == "sum":
            for k, access in enumerate(root.args):
                needed = access_checks(access, root.extents)
                if needed and root.expr.xreplace({placeholder(k): placeholder(k) * 0}) == 0:
                    checks += needed
        checks = list(dict.fromkeys(checks))
        lets, text = self._expression(root, checks)
        total = self._sum_text(nest)
        if root.reduce == "sum":
            point = [*lets, line(f"{total} += {text};")]
        else:
            point = [
                *lets,
                line(f"const {self.real} item = {text};"),
                line(f"{total} = item > {total} || item != item ? item : {total};"),
            ]
        inner = self._over_block(nest, point)
        known: list[set[int]] = []
        seen = set(range(root.rank))
        seen |= {a for a in root.reduced if a not in nest.reduction}
        known.append(set(seen))
        for a in nest.reduction:
            seen.add(a)
            known.append(set(seen))
        for depth in range(len(nest.reduction), -1, -1):
            here = [
                c
                for c in checks
                if set(c.index.axes) <= known[depth]
                and (depth == 0 or not set(c.index.axes) <= known[depth - 1])
            ]
            if here:
                inner = [branch(condition(here, self._variable), inner)]
            if depth:
                a = nest.reduction[depth - 1]
                extent = root.extents[a]
                stop = (
                    str(extent) if isinstance(extent, int) else "f->count" if extent is ROWS else "f->columns"
                )
                inner = [loop(self.axes[a], stop, inner)]
        return body + inner

    def _result(self, node: Map, nest: Nest) -> str:
        """The element of ``node`` that the current point computes, as an lvalue."""
        lead = node.lead
        place = position([axis(a) for a in range(lead, node.rank)], node.element_shape, self._variable)
        if nest.lanes:
            return f"{self._tile(node, False)}[{self._spot(node, place.text())}]"
        if node.has_columns:
            count = 1
            for extent in node.element_shape:
                count *= extent
            place.terms = {self._column(): count, **place.terms}
        return f"{self._target(node)}[{place.text()}]"

    def _finish(self, root: Map, nest: Nest) -> Body:
        """Compute the members that have no sums of their own and store what is read elsewhere."""
        body: Body = []
        summed = bool(nest.reduction or nest.carried)
        overlap = self._overlap(root, nest) if summed else []
        for node in self.stage.nodes:
            assert isinstance(node, Map)
            value = self.plan.value(node)
            shared_axes, self.axes = self.axes, member_axes(self.axes, root, node)
            if node is root and summed:
                text = self._sum_text(nest)
            else:
                lets, text = self._expression(node)
                tests = condition(guard_checks(node.guards, node.extents), self._variable)
                if tests:
                    other = self.zero if node.reduce == "sum" else self.lowest
                    text = f"{tests} ? ({text}) : {other}"
                body += lets
            # in the row phase a repeated value may simply be stored again; elsewhere another thread may own it
            repeated = list(overlap) if nest.carried or not nest.lanes or self.team else []
            stored = value.tile is not None if nest.lanes else bool(value.direct) or value.work is not None
            if node is not root and nest.lanes and node.reduced:
                place = self._result(node, nest)
                text = f"({self._column()} > 0 ? {place} : {self.zero}) + ({text})"
                repeated = list(overlap)
            elif len(self.stage.nodes) > 1:
                body.append(line(f"const {self.real} {value.name} = {text};"))
                text = value.name
                if value.direct:
                    repeated = [f"{value.name}_out != NULL", *repeated]
            if stored:
                store = line(f"{self._result(node, nest)} = {text};")
                body.append(branch(" && ".join(repeated), [store]) if repeated else store)
            self.axes = shared_axes
        if not summed:
            return self._lanes(body, "OMP_SIMD") if nest.lanes else body
        return self._over_block(nest, body)

    # Moving rows in and out of a tile

    def _lanes(self, body: Body, pragma: str = "") -> Body:
        """``body`` for each row of a full tile."""
        return [loop("lane", "LANES", body, pragma=pragma)]

    def _valid_lanes(self, body: Body) -> Body:
        """``body`` for each row of the tile that exists."""
        return [loop("lane", "f->lanes", body)]

    def _items(self, count: int, body: Body) -> Body:
        """``body`` for each element ``item``, or for the only one."""
        return [loop("item", count, body)] if count != 1 else [_without_items(s) for s in body]

    def _count(self, node: Node) -> int:
        count = 1
        for extent in node.element_shape:
            count *= extent
        return count

    def _load(self) -> Body:
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = self._count(node)
        row = "f->begin + f->row"
        if node.has_columns:
            row = f"f->col * f->n_rows + {row}"
        place = f"f->args->{self.plan.value(node).name} + {times(row, str(count))}"
        self._pointer("source", place)
        target = self._tile(node, False)
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
        count = self._count(node)
        source, target = self._tile(node, True), self._rows(node, False)
        row = "f->row + lane"
        if node.has_columns:
            row = f"(f->row + lane) * f->columns + {self._column()}"
        place = f"{target}[{times(row, str(count))} + item]"
        return self._move_out(count, place, f"{source}[{self._spot(node, 'item')}]")

    def _store(self) -> Body:
        node = self.stage.nodes[0]
        count = self._count(node)
        source = self._tile(node, True)
        target = self.plan.output_field(self.stage.output)
        self._pointer(target, f"f->args->{target}", constant=False)
        row = "f->begin + f->row + lane"
        if node.has_columns:
            row = f"{self._column()} * f->n_rows + {row}"
        place = f"{target}[{times(row, str(count))} + item]"
        moved = self._move_out(count, place, f"{source}[{self._spot(node, 'item')}]")
        return [branch(f"{target} != NULL", moved)]

    def _copy(self) -> Body:
        node = self.stage.nodes[0]
        count = self._count(node)
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
        count = self._count(node)
        value = self.plan.value(node)
        if self.stage.phase == ROW:
            target = self._tile(node, False)
            self._declare("last", "const ptrdiff_t", "f->lanes - 1")
            row = "f->args->first_row + f->begin + f->row + (lane < last ? lane : last)"
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
    text = statement.text.replace("[item * LANES + lane]", "[lane]").replace(" + item]", "]")
    body = None if statement.body is None else [_without_items(s) for s in statement.body]
    return Statement(text, body, statement.pragma)


def mentions(body: Body, name: str) -> bool:
    """Whether a variable occurs in some statements."""
    pattern = re.compile(rf"\b{re.escape(name)}\b")
    return any(pattern.search(s.text) or (s.body is not None and mentions(s.body, name)) for s in body)


def constant(extent: Extent) -> int:
    assert isinstance(extent, int)
    return extent


def times(text: str, by: str) -> str:
    return text if by == "1" else f"{factor(text)} * {by}"


def _sum(first: str, second: str) -> str:
    if first == "0":
        return second
    return first if second == "0" else f"{first} + {second}"


def axis_names(plan: Plan, stage: Stage) -> dict[int, str]:
    """Loop variables of a map stage by axis: the user's letters where known, else free letters."""
    root = stage.nodes[0]
    if not isinstance(root, Map):
        return {}
    taken = {v.name for v in plan.values}
    names: dict[int, str] = {}
    for a, extent in enumerate(root.extents):
        if extent is ROWS:
            names[a] = "row"
        elif extent is COLUMNS:
            names[a] = "col"
    for node in stage.nodes:
        for a, name in zip(range(root.lead, root.rank), _aligned(node)[node.lead :], strict=True):
            if name and a not in names:
                names[a] = _free(name, taken)
    for access in root.args:
        for index, name in zip(access.index, _aligned(access.node), strict=True):
            if name and index.axis is not None and index.axis not in names:
                names[index.axis] = _free(name, taken)
    letters = iter(LETTERS)
    for a in range(len(root.extents)):
        if a not in names:
            letter = next((c for c in letters if c not in taken), None)
            names[a] = _free(letter or f"i{a}", taken)
    return names


def member_axes(names: dict[int, str], root: Map, node: Map) -> dict[int, str]:
    """Loop variables of a member of the group of ``root``: its elements are those of ``root``."""
    if node is root or node.lead == root.lead:
        return names
    elements = {node.lead + k: names[root.lead + k] for k in range(len(node.element_shape))}
    runtime = {a: "row" if e is ROWS else "col" for a, e in enumerate(node.extents) if isinstance(e, Dim)}
    return {**elements, **runtime}


def _free(name: str, taken: set[str]) -> str:
    name = identifier(name)
    return unique(f"{name}_at" if name in taken else name, taken)


def _aligned(node: Node) -> list[str]:
    """The user's axis names, one for each axis of ``node`` ("" for run-time axes and unknown ones)."""
    axes = node.origin.axes
    shape = node.shape
    for skipped in range(node.lead + 1):
        if len(axes) == len(shape) - skipped:
            padded = [""] * skipped + list(axes)
            return ["" if a < node.lead else name for a, name in enumerate(padded)]
    return [""] * len(shape)
