"""What a derivation hands on: a program with what is known about it, and the pieces that all programs share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sympy

from cpgen.derive.points import over
from cpgen.derive.reverse import adjoint_origin
from cpgen.derive.uses import Uses
from cpgen.ir.build import add, constant, elementwise, make_map, new_input, reduce_sum
from cpgen.ir.nodes import COLUMNS, ROWS, Graph, Input, Map, Node, Origin, Program
from cpgen.scalar import kinks, maximum, placeholder

_0, _1, _2, _3 = (placeholder(k) for k in range(4))


@dataclass(frozen=True)
class Drawn:
    """One source of noise: its name, what it is and its elements per row."""

    name: str
    what: str
    size: int


@dataclass(frozen=True)
class Derived:
    """A program with what the derivation knows about it.

    ``columns``: noise columns an exact answer needs (0: exact as it stands; None: sampling never ends). ``exact``:
    outputs that are exact whatever the number of samples.  ``drawn`` and ``dropped``: noise that is used, and noise
    that is not needed, with the reason.  ``readouts``: where each leaf's diagonal is read.  ``answers``: for a
    sketch, the pairs of leaves whose block it estimates without bias.  ``unit``: the columns are unit vectors, never
    random, so the answer is always the exact one.  ``choice``: why this method and no other, where there was a choice.
    """

    program: Program
    estimator: str = ""
    columns: int | None = 0
    exact: frozenset[str] = frozenset()
    drawn: tuple[Drawn, ...] = ()
    dropped: tuple[Drawn, ...] = ()
    readouts: tuple[tuple[str, str], ...] = ()
    biased: str = ""
    answers: frozenset[tuple[str, str]] = frozenset()
    unit: bool = False
    choice: str = ""


def program_of(graph: Graph, name: str, outputs: Iterable[tuple[str, Node]]) -> Program:
    """Wrap outputs; inputs in order of declaration, then directions, noise in sweep order and scales."""
    listed = tuple(outputs)
    probe = Program(name, listed, ())
    used = [n for n in probe.nodes() if isinstance(n, Input)]
    declared = {id(v): k for k, v in enumerate(graph.variables)}
    rank = {"tangent": 1, "noise": 2, "scale": 3}

    def key(node: Input) -> tuple[int, int, str]:
        if id(node) in declared:
            return 0, declared[id(node)], node.name
        return rank.get(node.kind, 0), node.offset, node.name

    return Program(name, listed, tuple(sorted(used, key=key)), graph.origin)


def own_shape(node: Node | None, shape_of: Input) -> Node:
    """A result in the leaf's shape, zero where nothing arrives."""
    return node if node is not None else constant(0, shape_of.shape, Origin(shape_of.name))


def kink_outputs(graph: Graph, wrt: Sequence[Input]) -> list[tuple[str, Node]]:
    """The number of evaluation points, over all rows, at which some function of the model sits on a kink."""
    uses = Uses([graph.objective], wrt)
    counts: list[Node] = []
    for node in uses.nodes:
        if not isinstance(node, Map) or node.reduce != "sum" or not uses.active(node):
            continue
        found = kinks(node.expr)
        if not found:
            continue
        hit = sympy.Add(*(sympy.Piecewise((1, sympy.Eq(k, 0)), (0, True)) for k in found))
        # a map that reads several things is counted at each of its loop points, its reduction axes included
        counts.append(
            make_map(
                node.extents, node.rank, node.args, hit, node.guards, origin=adjoint_origin(node, "kinks")
            )
        )
    per_row = [_sum_elements(n) for n in counts]
    total = add(per_row, Origin("kinks"))
    if total is None:
        return []
    return [("kinks", reduce_sum(total, range(len(total.shape)), Origin("kinks")))]


def _sum_elements(node: Node) -> Node:
    return reduce_sum(node, range(node.lead, len(node.shape)), node.origin)


def rows_summed(node: Node, per_row: bool) -> Node:
    if per_row or not node.has_rows:
        return node
    return reduce_sum(node, [node.shape.index(ROWS)], node.origin)


class Statistics:
    """Means over the columns of a sweep and the variances of those means.

    The runtime supplies ``column_scale`` (1/K, or 1 when the columns are unit vectors) and ``variance_scale``
    (1/(K(K-1)), 0 when there is nothing to estimate).
    """

    def __init__(self) -> None:
        self.column = new_input("column_scale", (), "scale")
        self.variance = new_input("variance_scale", (), "scale")

    def of(self, expr: sympy.Expr, nodes: Sequence[Node], origin: Origin) -> tuple[Node, Node]:
        """Mean and variance of the mean of ``expr`` of nodes of equal element shape, for each row and element."""
        shape = nodes[0].element_shape
        reads = [(n, range(len(shape))) for n in nodes]
        total = over(shape, reads, expr, (COLUMNS,), role_of(origin, "sum"))
        squares = over(shape, reads, expr**2, (COLUMNS,), role_of(origin, "sum_sq"))
        mean = elementwise(_0 * _1, [total, self.column], role_of(origin, "mean"))
        spread = maximum(_1 - _2 * _0**2, 0) * _3
        variance = elementwise(
            spread, [total, squares, self.column, self.variance], role_of(origin, "mean_var")
        )
        return mean, variance


def role_of(origin: Origin, role: str) -> Origin:
    return Origin(origin.name, origin.file, origin.line, "", origin.axes, role)
