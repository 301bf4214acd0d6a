"""One stage of a plan as the body of a C function: maps here, other stages in :mod:`cpgen.emit.rows`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

from cpgen.code.tree import (
    Assign,
    Body,
    Call,
    Do,
    Expression,
    Group,
    Name,
    Return,
    Select,
    Type,
    binary,
    branch,
    every,
    let,
    number,
    of,
)
from cpgen.emit.affine import condition
from cpgen.emit.names import LANES, elements, member_axes
from cpgen.emit.outer import COLUMN_RANGE, Ends, outer_loops
from cpgen.emit.pieces import in_pieces
from cpgen.emit.places import Places
from cpgen.emit.rows import NULL, Rows
from cpgen.emit.sums import Sums
from cpgen.ir.build import axis, constant_index
from cpgen.ir.nodes import COLUMNS, Access, Map, Node
from cpgen.ir.stack import Place, stacked
from cpgen.loops.kernels import Loops, Product
from cpgen.loops.plan import ROW, Nest, Plan, Stage
from cpgen.loops.ranges import guard_checks, never


def stage_body(plan: Plan, stage: Stage, prefix: str) -> StageBody:
    """In C; ``prefix`` starts the names of C functions made for user functions."""
    places = Places(plan, stage, prefix)
    return StageBody(places, Rows(places))


class StageBody:
    """Builds the statements of one stage, after which ``places`` holds what stands above them.

    ``divided``: the items of a tile belong to different threads.  Device code overrides :meth:`build`, :meth:`map`,
    :meth:`sums` and :meth:`outer_loops`.
    """

    divided = False

    def __init__(self, places: Places, rows: Rows) -> None:
        self.places = places
        self.rows = rows
        self.plan = places.plan
        self.stage = places.stage

    def build(self) -> Body:
        if self.stage.kind != "map":
            return self.rows.build()
        nest, root = self.stage.nest, self.stage.nodes[0]
        assert nest is not None and isinstance(root, Map)
        return [*self.map(root, nest), *self._columns_added()]

    def map(self, root: Map, nest: Nest) -> Body:
        kernel = self.stage.kernel
        if nest.rest is None:
            pieces, blas = (kernel.pieces, kernel.blas) if isinstance(kernel, Loops) else (None, None)
            if pieces:
                loops = in_pieces(self.places, root, self.sums(root, nest), pieces)
            else:
                loops = self._loops(root, nest)
            return [*self._by_blas(root, blas), *loops] if blas else loops
        columns, whole = of("f", "columns"), Name("whole")
        return [
            let(whole.text, binary("-", columns, binary("%", columns, number(nest.block_width)))),
            *self._loops(root, nest, (number(0), whole)),
            *self._loops(root, nest.rest, (whole, columns)),
        ]

    def _loops(self, root: Map, nest: Nest, columns: Ends = COLUMN_RANGE) -> Body:
        sums = self.sums(root, nest) if nest.summed else None

        def point() -> Body:
            return [*(sums.build() if sums else []), *self.finish(root, nest, sums)]

        return self.outer_loops(root, nest, sums, point, columns)

    def _by_blas(self, root: Map, found: Product) -> Body:
        """The call of the caller's BLAS in place of what follows, where one is passed in."""
        places = self.places
        weights, values = places.array(found.weights.node), places.tile(found.values.node, True)
        blas = of("f", "args", "blas")
        shape = (number(found.outs), number(found.depth), weights, number(found.pitch), number(int(found.transposed)))
        tiles = (values, places.tile(root, False), LANES, places.filled())
        call = Call(f"{places.prefix}by_blas", (blas, *shape, *tiles))
        return [branch(binary("!=", blas, NULL), [Do(call), Return()])]

    def sums(self, root: Map, nest: Nest) -> Sums:
        return Sums(self.places, root, nest)

    def outer_loops(
        self, root: Map, nest: Nest, sums: Sums | None, point: Callable[[], Body], columns: Ends
    ) -> Body:
        return outer_loops(self.places, root, nest, sums, point, columns)

    def finish(self, root: Map, nest: Nest, sums: Sums | None) -> Body:
        """Compute the members that have no sums of their own and store what is read elsewhere.

        Where a tile is one row, stores come last: what has been read from the caller's array need not be read again.
        """
        single = self.places.single
        body: Body = []
        stores: Body = []
        self.places.shared = {}
        overlap = sums.overlap() if sums else []
        for node in self.stage.nodes:
            assert isinstance(node, Map)
            numbers = stacked(node)
            if numbers is not None:
                put = self._put_together(node, numbers)
                body, stores = (body, [*stores, *put]) if single else ([*body, *put], stores)
                continue
            with self.places.named(member_axes(self.places.axes, root, node)):
                computed, stored = self._member(node, nest, sums, overlap)
            body += computed
            stores += stored
            if not single:
                body, stores = [*body, *stores], []
        body += stores
        self.places.shared = None
        if sums:
            return sums.over_block(body)
        return self.rows.lanes(body, "OMP_SIMD") if nest.lanes else body

    def _member(self, node: Map, nest: Nest, sums: Sums | None, overlap: list[Expression]) -> tuple[Body, Body]:
        """The statements that compute a member of the stage at the current point, and those that store it."""
        places, value = self.places, self.plan.value(node)
        body: Body = []
        in_rows = self.stage.phase == ROW
        if sums and node in sums.own:
            found = sums.total(sums.own[node])
        else:
            lets, found = self._guarded(node)
            body += lets
        # in the row phase a repeated value may simply be stored again; elsewhere another thread may own it
        repeated = list(overlap) if nest.carried or not in_rows or self.divided else []
        if in_rows and node.reduced and not (sums and node in sums.own):
            place = places.result(node)
            before = Select(places.going_on(), place, places.zero)
            found = binary("+", Group(before), Group(found))
            repeated = list(overlap)
        elif len(self.stage.nodes) > 1:
            body.append(let(value.name, found, Type(places.real, constant=True)))
            found = Name(value.name)
            if value.direct and self.stage.needed_by != (value.direct,):
                repeated = [binary("!=", Name(f"{value.name}_out"), NULL), *repeated]
        if not (value.direct or (value.tile or value.rows if in_rows else value.work) is not None):
            return body, []
        store = Assign(places.result(node), found)
        return body, [branch(every(repeated), [store]) if repeated else store]

    def _columns_added(self) -> Body:
        """What adds up terms of columns that lie side by side in the lanes of a tile."""
        if not (self.plan.beside and self.stage.phase == ROW):
            return []
        sums = [n for n in self.stage.nodes if isinstance(n, Map) and COLUMNS in n.extents[n.rank :]]
        stop = self.places.filled()
        calls = [
            Do(Call("cpgen_add_columns", (Name("f"), self.places.tile(n, False), number(elements(n)), LANES, stop)))
            for n in sums
            if self.plan.value(n).tile
        ]
        return [branch(binary(">", of("f", "beside"), number(1)), calls)] if calls else []

    def _guarded(self, node: Map) -> tuple[Body, Expression]:
        """Declarations, and what ``node`` is at the current point, where its guards need not hold."""
        places = self.places
        other = places.zero if node.reduce == "sum" else places.lowest
        points = places.points(node)
        if any(never(g.index, g.extent, node.extents, points) for g in node.guards):
            return [], other
        lets, found = places.expression(node)
        test = condition(guard_checks(node.guards, node.extents, points), places.variable)
        return lets, found if test is None else Select(test, Group(found), other)

    def _put_together(self, node: Map, numbers: Mapping[Place, Node]) -> Body:
        """Store the numbers of a stack, each at its place."""
        places, value = self.places, self.plan.value(node)
        lead = tuple(axis(a) for a in range(node.lead))
        body: Body = []
        for place in product(*(range(e) for e in node.element_shape)):
            part = numbers.get(place)
            found = places.zero if part is None else places.element(Access(part, lead))
            body.append(Assign(places.result(node, [constant_index(k) for k in place]), found))
        optional = value.direct and self.stage.needed_by != (value.direct,)
        return [branch(binary("!=", Name(f"{value.name}_out"), NULL), body)] if optional else body
