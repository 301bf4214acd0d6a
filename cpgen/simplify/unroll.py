"""Write small arrays out as single numbers, so that what is constant, zero or equal in some elements is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import sympy

from cpgen.ir.build import axis, constant_index, make_map
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Guard, Index, Map, Node, Origin, Program
from cpgen.ir.rewrite import rebuilt
from cpgen.ir.stack import Place, stack
from cpgen.scalar import placeholder

MOST_ELEMENTS = 9  # of an array that is written out: a rotation has so many
MOST_POINTS = 4096  # of all loops of a program together: what one function of straight-line code can hold
UNDEFINED = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo)


def unroll(program: Program, columns: int | None = None, symmetric: bool = False) -> Program:
    """``program`` with each element of each map a map of its own, where that can save work and all arrays are small.

    That is where maps pick single elements out of arrays (``q[n, 3]``), whose derivatives would be put back among zeros,
    and where the columns are nothing but ``columns`` unit directions: written out, most of their zeros and ones vanish.
    An output with an axis of columns then has it as its first ordinary axis.  Sums over rows stay maps.  ``symmetric``:
    the outputs with columns are, side by side, a symmetric matrix; of two equal elements one is computed, that of the
    later column, which has fewer values below it.
    """
    maps = program.maps()
    if program.carries():
        return program  # step by step they are few
    if any(_points(n.shape, 1) > MOST_ELEMENTS for n in (*maps, *program.inputs)):
        return program
    kept = any(COLUMNS in m.extents and (_over_rows(m) or m.reduce == "max") for m in maps)
    if columns is not None and (kept or columns > MOST_ELEMENTS):
        columns = None
    picks = any(_picks(access) for m in maps for access in m.args)
    if not (picks or columns) or sum(_points(m.extents, columns or 1) for m in maps) > MOST_POINTS:
        return program
    written = _Unrolled(columns, symmetric).program(program)
    if any(m.expr.has(*UNDEFINED) for m in written.maps()):
        return program  # what is left to the arithmetic of the machine stays with it
    return written


def _picks(access: Access) -> bool:
    """Whether ``access`` reads one element of an axis that has several."""
    return any(not i.terms and e != 1 for i, e in zip(access.index, access.node.shape, strict=True))


def _points(extents: tuple[Extent, ...], columns: int) -> int:
    count = 1
    for extent in extents:
        count *= extent if isinstance(extent, int) else columns if extent is COLUMNS else 1
    return count


def _over_rows(node: Map) -> bool:
    return ROWS in node.extents[node.rank :]


class _Unrolled:
    """The numbers behind each node, by place; with columns written out, a place begins with its column."""

    def __init__(self, columns: int | None, symmetric: bool) -> None:
        self.columns, self.symmetric = columns, symmetric
        self.numbers: dict[Node, dict[Place, Node]] = {}
        self.whole: dict[Node, Node] = {}

    def program(self, program: Program) -> Program:
        for node in program.nodes():
            if isinstance(node, Map):
                if self._stays(node):
                    self.whole[node] = self._with_whole_arguments(node)
                else:
                    self.numbers[node] = self._elements_of(node)
            else:
                self.whole[node] = node
        if self.symmetric and self.columns is not None:
            self._mirror([node for _, node in program.outputs if node.has_columns])
        outputs = tuple((name, self._array(node)) for name, node in program.outputs)
        found = Program(program.name, outputs, (), program.origin)
        used = set(found.nodes())
        return replace(found, inputs=tuple(i for i in program.inputs if i in used))

    def _mirror(self, blocks: list[Node]) -> None:
        """Let both of two elements that are equal by symmetry be that of the later column."""
        places = [(b, p) for b in blocks for p in product(*(range(e) for e in b.element_shape))]
        for column in range(len(places)):
            for element in range(column + 1, len(places)):
                (above, place), (below, mirrored) = places[element], places[column]
                if above in self.numbers and below in self.numbers:
                    self.numbers[above][(column, *place)] = self.numbers[below][(element, *mirrored)]

    def _stays(self, node: Map) -> bool:
        """Whether ``node`` is left as a map: sums over rows, maxima, and columns that are not known."""
        return _over_rows(node) or node.reduce == "max" or (self.columns is None and COLUMNS in node.extents)

    def _array(self, node: Node) -> Node:
        """The whole of ``node``."""
        if node not in self.whole:
            origin = node.origin
            lead = self._lead(node.shape)
            numbers = {k: n for k, n in self.numbers[node].items() if not _is_zero(n)}
            extents = self._fixed(node.shape)
            self.whole[node] = (
                stack(numbers, lead, extents, origin) if extents else self.numbers[node][()]
            )
        return self.whole[node]

    def _lead(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        return tuple(e for e in shape if isinstance(e, Dim) and (e is not COLUMNS or self.columns is None))

    def _fixed(self, shape: tuple[Extent, ...]) -> tuple[int, ...]:
        """The extents that are written out, in order."""
        return tuple(e if isinstance(e, int) else self.columns for e in shape if self._is_fixed(e))  # type: ignore[misc]

    def _is_fixed(self, extent: Extent) -> bool:
        return isinstance(extent, int) or (extent is COLUMNS and self.columns is not None)

    def _with_whole_arguments(self, node: Map) -> Node:
        args = [Access(self._array(a.node), a.index) for a in node.args]
        return rebuilt(node, args)

    def _elements_of(self, node: Map) -> dict[Place, Node]:
        output, summed = node.extents[: node.rank], node.extents[node.rank :]
        return {
            place: self._element(node, place, list(product(*(range(e) for e in self._fixed(summed)))))
            for place in product(*(range(e) for e in self._fixed(output)))
        }

    def _element(self, node: Map, place: Place, points: list[Place]) -> Node:
        """The number of ``node`` at ``place``, summed over ``points`` of its other axes."""
        lead = self._lead(node.shape)
        fixed = [a for a, e in enumerate(node.extents) if self._is_fixed(e)]
        run_time = {a: axis(k) for k, a in enumerate(a for a, e in enumerate(node.extents) if a not in fixed)}
        args: list[Access] = []
        positions: dict[tuple[Node, tuple[Index, ...]], sympy.Symbol] = {}
        terms = []
        for point in points:
            at = dict(zip(fixed, (*place, *point), strict=True))
            if not all(_holds(guard, at) for guard in node.guards):
                continue
            values: dict[sympy.Symbol, sympy.Expr] = {}
            for k, access in enumerate(node.args):
                found = self._read(access, at, run_time)
                if isinstance(found, Access):
                    key = (found.node, found.index)
                    if key not in positions:
                        positions[key] = placeholder(len(args))
                        args.append(found)
                    values[placeholder(k)] = positions[key]
                else:
                    values[placeholder(k)] = found
            terms.append(node.expr.xreplace(values))
        expr = sympy.Add(*terms)
        o = node.origin
        return make_map(lead, len(lead), args, expr, origin=Origin(o.name, o.file, o.line, "", (), _role(o, place)))

    def _read(self, access: Access, at: Mapping[int, int], run_time: Mapping[int, Index]) -> Access | sympy.Expr:
        """What ``access`` reads at a point: a node of numbers, or a number."""
        node = access.node
        lead: list[Index] = []
        place: list[int] = []
        for index, extent in zip(access.index, node.shape, strict=True):
            if not self._is_fixed(extent):
                assert index.axis is not None
                lead.append(run_time[index.axis])
                continue
            value = _value(index, at)
            limit = extent if isinstance(extent, int) else self.columns
            if value is None or limit is None or not 0 <= value < limit:
                return sympy.Integer(0)
            place.append(value)
        if node in self.numbers:
            number = self.numbers[node][tuple(place)]
            if isinstance(number, Map) and not number.args:
                return number.expr
            return Access(number, tuple(lead))
        return Access(self.whole[node], (*lead, *(constant_index(k) for k in place)))


def _role(origin: Origin, place: Place) -> str:
    return "_".join([*([origin.role] if origin.role else []), *(str(k) for k in place)])


def _is_zero(node: Node) -> bool:
    return isinstance(node, Map) and node.expr == 0


def _value(index: Index, at: Mapping[int, int]) -> int | None:
    """The value of ``index``, or None where it is no integer."""
    total = index.offset + sum(c * at[a] for a, c in index.terms)
    return total // index.divisor if total % index.divisor == 0 else None


def _holds(guard: Guard, at: Mapping[int, int]) -> bool:
    value = _value(guard.index, at)
    return value is not None and isinstance(guard.extent, int) and 0 <= value < guard.extent
