"""What a derivation hands on: a program with what is known about it, and the pieces that all programs share."""

from __future__ import annotations

import math
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
    ``joint``: outputs whose rows were added up, or share signs, before they were squared: their variance rests on the
    columns alone, where otherwise each row has a say.
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
    joint: frozenset[str] = frozenset()


def program_of(graph: Graph, name: str, outputs: Iterable[tuple[str, Node]]) -> Program:
    """Wrap outputs; inputs in order of declaration, then directions, noise in sweep order and scales."""
    listed = tuple(outputs)
    probe = Program(name, listed, ())
    used = [n for n in probe.nodes() if isinstance(n, Input)]
    declared = {v: k for k, v in enumerate(graph.variables)}
    rank = {"tangent": 1, "noise": 2, "scale": 3}

    def key(node: Input) -> tuple[int, int, str]:
        if node in declared:
            return 0, declared[node], node.name
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


PRIOR = 4  # columns that what the elements of a row have in common counts for, in the variance of one of them
SUM_PRIOR = 2  # what the terms of one number count for, in its variance


def _unseen(k: sympy.Expr) -> sympy.Expr:
    """The share of its mean square by which a number may vary though it was not seen to: 6 / (K (K + 2)), k = 1/K."""
    return 6 * k**2 / (1 + 2 * k)


class Statistics:
    """Means over the columns of a sweep and the variances of those means.

    The runtime supplies ``column_scale`` (1/K, or 1 when the columns are unit vectors) and ``variance_scale``: the
    variance of the mean of K columns is that times their sum of squared deviations (1/(K(K-1)) for independent columns, 0
    when there is nothing to estimate).

    A few draws of a few signs often agree by chance, and their own spread is then no measure of their error.  So each
    element's variance is moderated (empirical Bayes; Smyth 2004, "Linear models and empirical Bayes methods for assessing
    differential expression in microarray experiments") towards what it would be if the relative variance were the same
    for all elements of the row: ``((K-1) s2 + PRIOR rho B) / (K-1 + PRIOR)``.  ``B`` is the mean square, no less than
    the variance, drawn itself (as if by two columns) towards a mean over the row in which the large do not drown the
    others; ``rho`` is the ratio of variance to mean square over the row, and a share for what was not seen.
    """

    def __init__(self) -> None:
        self.column = new_input("column_scale", (), "scale")
        self.variance = new_input("variance_scale", (), "scale")

    def of(
        self, expr: sympy.Expr, nodes: Sequence[Node], origin: Origin, unseen: float = 1.0
    ) -> tuple[Node, Node]:
        """Mean and variance of the mean of ``expr`` of nodes of equal element shape, for each row and element.

        ``unseen`` scales what is added for variation that was not seen: less where a row has many elements of which
        some vary in any case, and their mean square is no measure of it.
        """
        shape = nodes[0].element_shape
        return self.over(shape, [(n, range(len(shape))) for n in nodes], expr, origin, unseen)

    def over(
        self,
        shape: Sequence[int],
        reads: Sequence[tuple[Node, Sequence[int]]],
        expr: sympy.Expr,
        origin: Origin,
        unseen: float = 1.0,
    ) -> tuple[Node, Node]:
        """The same for elements of ``shape`` that read nodes at other places (see :func:`cpgen.derive.points.over`)."""
        total = over(shape, reads, expr, (COLUMNS,), role_of(origin, "sum"))
        squares = over(shape, reads, expr**2, (COLUMNS,), role_of(origin, "sum_sq"))
        mean = elementwise(_0 * _1, [total, self.column], role_of(origin, "mean"))
        deviations = self._deviations(total, squares, origin)
        count = math.prod(shape)
        column = self.column
        if count == 1:
            rows = deviations, squares, squares
        else:
            summed = [_sum_elements(n) for n in (deviations, squares)]
            # the mean of fourth roots: the mean squares of one row may span orders of magnitude
            root = elementwise(sympy.sqrt(sympy.sqrt(_0)), [squares], role_of(origin, "root"))
            typical = elementwise((_0 / count) ** 4, [_sum_elements(root)], role_of(origin, "typical"))
            rows = summed[0], summed[1], typical
        axes, along = range(len(shape)), range(len(shape) if count == 1 else 0)
        d, s, shared, k = _0, _1, _2, placeholder(3)
        ratio = d / s + _unseen(_2)
        if unseen < 1:  # then the ratio stands alone and needs its K / (K - 1), here finite at K = 1 too
            ratio = d / s * (1 + _2 + _2**2 + _2**3) + unseen * _unseen(_2)
        weight = sympy.Piecewise((PRIOR * ratio * _2 / (1 + 2 * _2), s > 0), (0, True))
        prior = elementwise(weight, [rows[0], rows[1], column], role_of(origin, "prior"))
        factor = (1 - _0) / (1 + (PRIOR - 1) * _0) * _1
        scale = elementwise(factor, [column, self.variance], role_of(origin, "scale"))
        expected = placeholder(5) * (d + shared * (s + 2 * k * placeholder(4)))
        here = [(deviations, axes), (squares, axes), (prior, along), (column, ()), (rows[2], along), (scale, ())]
        variance = over(shape, here, expected, (), role_of(origin, "mean_var"))
        return mean, variance

    def _deviations(self, total: Node, squares: Node, origin: Origin) -> Node:
        """The sum over columns of squared deviations from their mean."""
        return elementwise(maximum(_1 - _2 * _0**2, 0), [total, squares, self.column], role_of(origin, "deviations"))

    def of_sum(
        self, column: Node, terms: Sequence[tuple[sympy.Expr, Sequence[Node]]], origin: Origin
    ) -> tuple[Node, Node]:
        """Mean and variance of the mean of ``column``, one number a row, which is the sum of the elements of ``terms``.

        Its variance is moderated upwards, to that of terms that vary independently of each other.
        """
        total = over((), [(column, ())], _0, (COLUMNS,), role_of(origin, "sum"))
        squares = over((), [(column, ())], _0**2, (COLUMNS,), role_of(origin, "sum_sq"))
        mean = elementwise(_0 * _1, [total, self.column], role_of(origin, "mean"))
        deviations = self._deviations(total, squares, origin)
        apart: list[Node] = [_sum_elements(self._spread(expr, nodes, origin)) for expr, nodes in terms]
        prior = add(apart, role_of(origin, "prior")) or constant(0, ())
        return mean, self._of_sums(deviations, prior, origin)

    def of_sums(
        self, column: Node, terms: Sequence[tuple[sympy.Expr, Sequence[Node], Node]], pairs: bool, origin: Origin
    ) -> tuple[Node, Node, Node | None]:
        """The same for several sums at once, ``column[columns, rows?, sums]``: mean, variance, and with ``pairs`` the
        covariance of each two, ``[rows?, sums, sums]``.

        ``terms``: expressions of nodes with columns, and the weights ``[rows?, sums, elements]`` that they are added up
        with.  Elements that several sums share vary together in the prior as well.
        """
        count = column.element_shape[0]
        total = over((count,), [(column, (0,))], _0, (COLUMNS,), role_of(origin, "sum"))
        squares = over((count,), [(column, (0,))], _0**2, (COLUMNS,), role_of(origin, "sum_sq"))
        mean = elementwise(_0 * _1, [total, self.column], role_of(origin, "mean"))
        spreads = [(self._spread(expr, nodes, origin), weight) for expr, nodes, weight in terms]

        def prior(sums: Sequence[int]) -> Node:
            apart: list[Node] = []
            for each, weight in spreads:
                shape = each.element_shape
                axes = range(len(sums), len(sums) + len(shape))
                reads = [(each, axes), *((weight, (g, *axes)) for g in (0, len(sums) - 1))]
                apart.append(over([count] * len(sums), reads, _0 * _1 * _2, shape, role_of(origin, "prior")))
            found = add([rows_summed(n, column.has_rows) for n in apart], role_of(origin, "prior"))
            return found if found is not None else constant(0, [count] * len(sums))

        deviations, apart_one = self._deviations(total, squares, origin), prior((0,))
        variance = self._of_sums(deviations, apart_one, origin)
        if not pairs:
            return mean, variance, None
        products = over(
            (count, count), [(column, (0,)), (column, (1,))], _0 * _1, (COLUMNS,), role_of(origin, "sum_pair")
        )
        reads = [(products, (0, 1)), (total, (0,)), (total, (1,)), (self.column, ())]
        together = over((count, count), reads, _0 - _1 * _2 * _3, (), role_of(origin, "codeviations"))
        # as if the prior counted in any case, then lengthened like the two variances
        k = _2
        both = elementwise(_0 + SUM_PRIOR * k * _1, [together, prior((0, 1)), self.column], role_of(origin, "pairs"))
        alone = elementwise(_0 + SUM_PRIOR * k * _1, [deviations, apart_one, self.column], role_of(origin, "alone"))
        root = sympy.Piecewise((sympy.sqrt(_0 / _1), _1 > 0), (0, True))
        longer = elementwise(root, [variance, alone], role_of(origin, "longer"))
        axes = [(both, (0, 1)), (longer, (0,)), (longer, (1,))]
        return mean, variance, over((count, count), axes, _0 * _1 * _2, (), role_of(origin, "mean_cov"))

    def _spread(self, expr: sympy.Expr, nodes: Sequence[Node], origin: Origin) -> Node:
        """K times the variance of each element, what was not seen included."""
        shape = nodes[0].element_shape
        reads = [(n, range(len(shape))) for n in nodes]
        term = over(shape, reads, expr, (COLUMNS,), role_of(origin, "term"))
        term_squares = over(shape, reads, expr**2, (COLUMNS,), role_of(origin, "term_sq"))
        spread = maximum(_1 - _2 * _0**2, 0) + 2 * _unseen(_2) * _1
        return elementwise(spread, [term, term_squares, self.column], role_of(origin, "term_var"))

    def _of_sums(self, deviations: Node, prior: Node, origin: Origin) -> Node:
        """The variance of the mean from the sum of squared deviations, moderated.

        Terms that vary together vary more than the prior says, and often do: it lengthens a bar and shortens none.
        """
        k = _2
        expected = ((1 - k) * _0 + SUM_PRIOR * k * maximum((1 - k) * _1, _0)) / (1 + (SUM_PRIOR - 1) * k)
        return elementwise(expected * _3, [deviations, prior, self.column, self.variance], role_of(origin, "mean_var"))


def role_of(origin: Origin, role: str) -> Origin:
    return Origin(origin.name, origin.file, origin.line, "", origin.axes, role)
