"""Rows moved in and out of a tile, outputs copied, and noise drawn: the stages that compute nothing else."""

from __future__ import annotations

from cpgen.code.rewrite import rebuilt, replaced
from cpgen.code.tree import (
    Assign,
    Body,
    Call,
    Cast,
    Do,
    Element,
    Expression,
    Group,
    Let,
    Literal,
    Name,
    Operation,
    Select,
    Statement,
    Type,
    Unary,
    binary,
    branch,
    group,
    is_number,
    joined,
    let,
    loop,
    number,
    of,
    plus,
    times,
)
from cpgen.emit.names import LANES, elements
from cpgen.emit.places import Places
from cpgen.ir.nodes import Access, Input
from cpgen.ir.noise import node_key
from cpgen.loops.plan import ROW, is_scale

ITEM, LANE = Name("item"), Name("lane")
NULL = Name("NULL")


class Rows:
    """The statements of such stages.

    Device code overrides the methods without an underscore, except :meth:`build`: who does what, and how rows move.
    """

    in_step = True  # the lanes of a tile are computed by one thread

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
        return [loop("lane", of("f", "lanes"), body)]

    def items(self, count: int, body: Body) -> Body:
        """``body`` for each element ``item``, or for the only one."""
        return [loop("item", count, body)] if count != 1 else _first_item(body)

    def bits(self, body: Body) -> Statement:
        """``body`` for each ``bit`` of those that are ``left``."""
        return loop("bit", Name("left"), body)

    def dealt(self, variable: str, stop: Expression, body: Body) -> Statement:
        """A loop outside the row phase that all threads share."""
        return loop(variable, stop, body, pragma="OMP_FOR")

    def move_in(self, count: int, target: Expression, source: Expression) -> Body:
        """``target = source`` for each ``item`` and ``lane``, whose ``row`` of the caller is at most the last."""
        lanes = of("f", "lanes")
        clamped = let("row", Select(binary("<", LANE, lanes), LANE, binary("-", lanes, number(1))))
        return self.items(count, self.lanes([clamped, Assign(target, source)]))

    def move_out(self, count: int, target: Expression, source: Expression) -> Body:
        """``target = source`` for each ``item`` and ``lane`` that is a row."""
        return self.valid_lanes(self.items(count, [Assign(target, source)]))

    def past(self, node: Input) -> Expression:
        """What is added to a position in the caller's rows beyond those of the first column."""
        return number(0)

    def _load(self) -> Body:
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = elements(node)
        row: Expression = binary("+", of("f", "begin"), of("f", "row"))
        if node.has_columns:
            row = joined(binary("*", of("f", "col"), of("f", "n_rows")), row)
        place = joined(of("f", "args", self.plan.value(node).name), times(row, number(count)))
        source = self.places.pointer("source", place)
        target = self.places.tile(node, False)
        if self.places.single:
            return self.items(count, [Assign(Element(target, ITEM), Element(source, ITEM))])
        target_item = Element(target, self.places.spot(node, ITEM))
        here = plus(self.past(node), joined(times(Name("row"), number(count)), ITEM))
        if self.plan.beside:
            moved = self.move_out(count, target_item, Element(source, replaced(here, Name("row"), LANE)))
            return [*moved, self._repeat(node, of("f", "lanes"))]
        return self.move_in(count, target_item, Element(source, here))

    def _repeat(self, node: Input, lanes: Expression) -> Statement:
        """Fill the lanes from ``lanes`` on, for which there is nothing, with what the lanes before have."""
        stop = self.places.filled()
        call = Call("cpgen_repeat_lanes", (self.places.tile(node, False), number(elements(node)), LANES, lanes, stop))
        return branch(binary("<", lanes, stop), [Do(call)])

    def _keep(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        source, target = self.places.tile(node, True), self.places.rows(node, False)
        row: Expression = of("f", "row") if self.places.single else binary("+", of("f", "row"), LANE)
        if node.has_columns:
            row = joined(binary("*", group(row), of("f", "columns")), self.places.column())
        place = Element(target, joined(times(row, number(count)), ITEM))
        return self.move_out(count, place, Element(source, self.places.spot(node, ITEM)))

    def _store(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        source = self.places.tile(node, True)
        target = self.places.output()
        row: Expression = binary("+", of("f", "begin"), of("f", "row"))
        if not self.places.single:
            row = joined(row, LANE)
        if node.has_columns:
            row = joined(binary("*", self.places.column(), of("f", "n_rows")), row)
        place = Element(target, joined(times(row, number(count)), ITEM))
        moved = self.move_out(count, place, Element(source, self.places.spot(node, ITEM)))
        return [branch(binary("!=", target, NULL), moved)]

    def _copy(self) -> Body:
        node = self.stage.nodes[0]
        count = elements(node)
        read = (
            self.places.element(Access(node, ())) if is_scale(node) else Element(self.places.array(node), ITEM)
        )
        target = self.places.output()
        stop = binary("*", of("f", "columns"), number(count)) if node.has_columns else number(count)
        return [branch(binary("!=", target, NULL), [self.dealt("item", stop, [Assign(Element(target, ITEM), read)])])]

    def _noise(self) -> Body:
        """Fill a noise value: one Philox call gives the signs of 128 elements."""
        node = self.stage.nodes[0]
        assert isinstance(node, Input)
        count = elements(node)
        if self.in_step and self.stage.phase == ROW and not self.places.single:
            return self._noise_of_lanes(node)
        element = binary("+", ITEM, Name("bit"))
        row: Expression = number(0)
        if self.stage.phase == ROW:
            target = self.places.tile(node, False)
            row = joined(of("f", "args", "first_row"), binary("+", of("f", "begin"), of("f", "row")))
            if not self.places.single:
                last = self.places.declare("last", binary("-", of("f", "lanes"), number(1)))
                row = joined(row, Group(Select(binary("<", LANE, last), LANE, last)))
            put = Element(target, self.places.spot(node, element))
        else:
            assert self.plan.value(node).work is not None
            target = self.places.target(node)
            put = Element(target, joined(times(Name("col"), number(count)), element))
        column = joined(of("f", "args", "first_column"), self.places.column())
        unsigned = Type("uint32_t", constant=True)
        offset = self.places.declare("noise_offset", Literal(f"{node.offset}U"), unsigned)
        key = self.places.declare("noise_key", Literal(f"{node_key(node.name)}U"), unsigned)
        order = Literal(f"{self.plan.noise_order}U")
        design = (of("f", "args", "seed"), of("f", "args", "design"), order, offset, key)
        place = (Cast("uint64_t", Group(column)), Cast("uint32_t", Group(row)))
        noise = Call("cpgen_noise_at", (*design, *place))
        here = Unary("&", Name("noise"))
        sign = Call("cpgen_noise_value", (here, Name("words"), Cast("uint32_t", Group(element))))
        words = Call("cpgen_noise_words", (here, Cast("uint32_t", Group(binary("/", ITEM, number(128)))), Name("words")))
        rest = binary("-", number(count), ITEM)
        inside = [
            Let(Type("uint32_t"), "words", None, (number(4),)),
            Do(words),
            let("left", Select(binary("<", rest, number(128)), rest, number(128))),
            self.bits([Assign(put, Cast(self.places.real, sign))]),
        ]
        body = [let("noise", noise, Type("cpgen_noise", constant=True)), loop("item", count, inside, step=128)]
        if self.stage.phase != ROW:
            return [self.dealt("col", of("f", "columns"), body)]
        return self.lanes(body)

    def _noise_of_lanes(self, node: Input) -> Body:
        """Fill a noise value for the rows of a tile in step; lanes that are no row have signs as well."""
        beside = self.plan.beside
        row = joined(of("f", "args", "first_row"), binary("+", of("f", "begin"), of("f", "row")))
        column = joined(of("f", "args", "first_column"), self.places.column())
        what = (of("f", "args", "seed"), of("f", "args", "design"), Literal(f"{self.plan.noise_order}U"))
        which = (Literal(f"{node.offset}U"), Literal(f"{node_key(node.name)}U"))
        where = (Cast("uint64_t", Group(column)), Cast("uint32_t", Group(row)), of("f", "lanes") if beside else LANES)
        tile = (self.places.tile(node, False), LANES, self.places.filled(), number(elements(node)))
        suffix = "f64" if self.plan.real == "float64" else "f32"
        return [Do(Call(f"cpgen_noise_tile_{suffix}", (*tile, *what, *which, *where)))]


def _first_item(body: Body) -> Body:
    """``body`` for ``item`` 0."""

    def folded(node: object) -> object:
        if not isinstance(node, Operation):
            return node
        parts = [node.first, *(operand for _, operand in node.rest)]
        ops = {op for op, _ in node.rest}
        if ops == {"*"} and any(is_number(part, 0) for part in parts):
            return number(0)
        if ops != {"+"}:
            return node
        left = [part for part in parts if not is_number(part, 0)] or [number(0)]
        return left[0] if len(left) == 1 else Operation(left[0], tuple(("+", part) for part in left[1:]))

    found: Body = rebuilt(replaced(body, ITEM, number(0)), folded)
    return found
