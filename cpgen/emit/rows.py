"""Rows moved in and out of a tile, outputs copied, and noise drawn: the stages that compute nothing else."""

from __future__ import annotations

from cpgen.emit.names import elements
from cpgen.emit.places import Places
from cpgen.emit.statements import Body, Statement, branch, factor, line, loop, times
from cpgen.ir.nodes import Access, Input
from cpgen.ir.noise import node_key
from cpgen.loops.names import identifier
from cpgen.loops.phases import ROW
from cpgen.loops.plan import is_scale


class Rows:
    """The statements of such stages.

    Device code overrides the methods without an underscore, except :meth:`build`: who does what, and how rows move.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.stage = places.stage
        self.plan = places.plan

    def build(self) -> Body:
        make = {"load": self._load, "noise": self._noise, "keep": self._keep, "store": self._store, "copy": self._copy}
        return make[self.stage.kind]()

    def lanes(self, body: Body, pragma: str = "") -> Body:
        """``body`` for each row of a full tile."""
        if self.places.single:
            return body
        return [loop("lane", self.places.filled(), body, pragma=pragma)]

    def valid_lanes(self, body: Body) -> Body:
        """``body`` for each row of the tile that exists."""
        if self.places.single:
            return body
        return [loop("lane", "f->lanes", body)]

    def items(self, count: int, body: Body) -> Body:
        """``body`` for each element ``item``, or for the only one."""
        return [loop("item", count, body)] if count != 1 else [_without_items(s) for s in body]

    def bits(self, body: Body) -> Statement:
        """``body`` for each ``bit`` of those that are ``left``."""
        return loop("bit", "left", body)

    def dealt(self, variable: str, stop: str, body: Body) -> Statement:
        """A loop outside the row phase that all threads share."""
        return loop(variable, stop, body, pragma="OMP_FOR")

    def move_in(self, count: int, target: str, source: str) -> Body:
        """``target = source`` for each ``item`` and ``lane``, whose ``row`` of the caller is at most the last."""
        clamped = line("const ptrdiff_t row = lane < f->lanes ? lane : f->lanes - 1;")
        return self.items(count, self.lanes([clamped, line(f"{target} = {source};")]))

    def move_out(self, count: int, target: str, source: str) -> Body:
        """``target = source`` for each ``item`` and ``lane`` that is a row."""
        return self.valid_lanes(self.items(count, [line(f"{target} = {source};")]))

    def past(self, node: Input) -> str:
        """What is added to a position in the caller's rows beyond those of the first column."""
        return ""

    def _load(self) -> Body:
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = elements(node)
        row = "f->begin + f->row"
        if node.has_columns:
            row = f"f->col * f->n_rows + {row}"
        place = f"f->args->{self.plan.value(node).name} + {times(row, str(count))}"
        self.places.pointer("source", place)
        target = self.places.tile(node, False)
        if self.places.single:
            return self.items(count, [line(f"{target}[item] = source[item];")])
        place = f"source[{self.past(node)}{times('row', str(count))} + item]"
        if self.plan.beside:
            moved = self.move_out(count, f"{target}[{self.places.spot(node, 'item')}]", place.replace("row", "lane"))
            return [*moved, self._repeat(node, "f->lanes")]
        return self.move_in(count, f"{target}[{self.places.spot(node, 'item')}]", place)

    def _repeat(self, node: Input, lanes: str) -> Statement:
        """Fill the lanes from ``lanes`` on, for which there is nothing, with what the lanes before have."""
        repeat = f"{identifier(self.plan.name, 'program')}_repeat_lanes"
        stop = self.places.filled()
        call = line(f"{repeat}({self.places.tile(node, False)}, {elements(node)}, {lanes}, {stop});")
        return branch(f"{lanes} < {stop}", [call])

    def _keep(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        source, target = self.places.tile(node, True), self.places.rows(node, False)
        row = "f->row" if self.places.single else "f->row + lane"
        if node.has_columns:
            row = f"{factor(row)} * f->columns + {self.places.column()}"
        place = f"{target}[{times(row, str(count))} + item]"
        return self.move_out(count, place, f"{source}[{self.places.spot(node, 'item')}]")

    def _store(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        source = self.places.tile(node, True)
        target = self.places.output()
        row = "f->begin + f->row" if self.places.single else "f->begin + f->row + lane"
        if node.has_columns:
            row = f"{self.places.column()} * f->n_rows + {row}"
        place = f"{target}[{times(row, str(count))} + item]"
        moved = self.move_out(count, place, f"{source}[{self.places.spot(node, 'item')}]")
        return [branch(f"{target} != NULL", moved)]

    def _copy(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        if is_scale(node):
            read = self.places.element(Access(node, ()))
        else:
            read = f"{self.places.array(node)}[item]"
        target = self.places.output()
        stop = f"f->columns * {count}" if node.has_columns else str(count)
        return [branch(f"{target} != NULL", [self.dealt("item", stop, [line(f"{target}[item] = {read};")])])]

    def _noise(self) -> Body:
        """Fill a noise value: one Philox call gives the signs of 128 elements."""
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = elements(node)
        if self.stage.phase == ROW:
            target = self.places.tile(node, False)
            row = "f->args->first_row + f->begin + f->row"
            if self.plan.beside:
                row += " + lane - first"
            elif not self.places.single:
                self.places.declare("last", "const ptrdiff_t", "f->lanes - 1")
                row += " + (lane < last ? lane : last)"
            put = f"{target}[{self.places.spot(node, 'item + bit')}]"
        else:
            assert self.plan.value(node).work is not None
            target = self.places.target(node)
            row = "0"
            put = f"{target}[{times('col', str(count))} + item + bit]"
        column = f"f->args->first_column + {self.places.column()}"
        beside = self.plan.beside and self.stage.phase == ROW
        if beside:
            column += " + part"
        self.places.declare("noise_offset", "const uint32_t", f"{node.offset}U")
        self.places.declare("noise_key", "const uint32_t", f"{node_key(node.name)}U")
        key = f"{self.plan.noise_order}U, noise_offset, noise_key"
        header = [
            line("const cpgen_noise noise = cpgen_noise_at("),
            line(f"    f->args->seed, f->args->design, {key}, (uint64_t)({column}), (uint32_t)({row}));"),
        ]
        put_one = line(f"{put} = ({self.places.real})cpgen_noise_value(&noise, words, (uint32_t)(item + bit));")
        words = [
            line("uint32_t words[4];"),
            line("cpgen_noise_words(&noise, (uint32_t)(item / 128), words);"),
            line(f"const ptrdiff_t left = {count} - item < 128 ? {count} - item : 128;"),
            self.bits([put_one]),
        ]
        body = [*header, loop("item", count, words, step=128)]
        if self.stage.phase != ROW:
            return [self.dealt("col", "f->columns", body)]
        if not self.plan.beside:
            return self.lanes(body)
        first = line("const ptrdiff_t first = part * f->lanes;")
        each = loop("lane", "first + f->lanes", body, start="first")
        return [
            Statement("for (ptrdiff_t part = 0; part * f->lanes < f->used; ++part)", [first, each]),
            self._repeat(node, "f->used"),
        ]


def _without_items(statement: Statement) -> Statement:
    text = statement.text.replace("[item * LANES + lane]", "[lane]").replace(" + item]", "]").replace("[item]", "[0]")
    body = None if statement.body is None else [_without_items(s) for s in statement.body]
    return Statement(text, body, statement.pragma)
