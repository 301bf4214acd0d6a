"""The programs: what can be asked of a model, each as a graph.

Output names: ``value`` and ``rows``; ``grad_W``; ``jvp``; ``hvp_W``; ``diag_W`` with ``var_diag_W`` (the variance of
the mean, absent where the answer is exact); ``trace`` with ``var_trace``; ``block_A_B`` with ``var_block_A_B``;
``p_W`` and ``q_W`` (one column a sample); ``kinks`` (how many evaluation points sit on a kink).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import sympy

from cpgen.derive.forward import tangents
from cpgen.derive.linear import pull_back
from cpgen.derive.points import over
from cpgen.derive.restrict import restrict
from cpgen.derive.reverse import Adjoints, adjoint_origin, gradients
from cpgen.derive.sources import SIGNED, Curvature, RegionSource, Setting, Source, squared_difference
from cpgen.derive.sweep import (
    BlockReadout,
    Pair,
    Sweep,
    carry_down,
    find_block_readout,
    find_readout,
    needed,
    visible,
    weights_up,
)
from cpgen.derive.uses import Uses
from cpgen.errors import RequestError
from cpgen.ir.build import add, constant, elementwise, make_map, new_input, reduce_sum
from cpgen.ir.nodes import COLUMNS, ROWS, Graph, Input, Map, Node, Origin, Program
from cpgen.ir.noise import elements, noise_count
from cpgen.scalar import kinks, maximum, placeholder

_0, _1, _2, _3 = (placeholder(k) for k in range(4))

BIASED = {
    "gauss_newton": "Gauss-Newton: the curvature of the loss only, not of what feeds it",
    "becker_lecun": "Becker-LeCun recursion: off-diagonal curvature is ignored on the way down",
}
Entry = tuple[Input, tuple[int, ...]]
ESTIMATORS = ("cp", "s", "tu", "hutchinson", "gauss_newton", "becker_lecun")


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
    sketch, the pairs of leaves whose block it estimates without bias.  ``unit``: the columns are unit directions, never
    random, so the answer is always the exact one.
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


def _program(graph: Graph, name: str, outputs: Iterable[tuple[str, Node]]) -> Program:
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


def _own_shape(node: Node | None, shape_of: Input) -> Node:
    """A result in the leaf's shape, zero where nothing arrives."""
    return node if node is not None else constant(0, shape_of.shape, Origin(shape_of.name))


# First order


def value(graph: Graph) -> Derived:
    """``value``: the objective summed over rows; ``rows``: the objective of each row (models with rows)."""
    return Derived(_program(graph, "value", [*_value_outputs(graph), *_kink_outputs(graph, graph.variables)]))


def _value_outputs(graph: Graph) -> list[tuple[str, Node]]:
    objective = graph.objective
    if not objective.has_rows:
        return [("value", objective)]
    return [("value", reduce_sum(objective, [0], Origin("value"))), ("rows", objective)]


def gradient(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``value`` and ``grad_<leaf>``: per row for inputs with rows, summed over rows for parameters."""
    found = gradients(graph.objective, wrt)
    outputs: list[tuple[str, Node]] = [("value", _value_outputs(graph)[0][1])]
    outputs += [(f"grad_{v.name}", _own_shape(g, v)) for v, g in zip(wrt, found, strict=True)]
    return Derived(_program(graph, "gradient", [*outputs, *_kink_outputs(graph, wrt)]))


def _directions(wrt: Sequence[Input]) -> dict[Input, Node]:
    return {v: new_input(f"dir_{v.name}", v.shape, "tangent") for v in wrt}


def jvp(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``jvp``: the derivative of the objective along ``dir_<leaf>``, per row."""
    (tangent,) = tangents([graph.objective], _directions(wrt))
    if tangent is None:
        tangent = constant(0, graph.objective.shape)
    return Derived(_program(graph, "jvp", [("jvp", tangent)]))


def hvp(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``hvp_<leaf>``: the Hessian times ``dir_<leaf>``, forward over reverse."""
    found = [_own_shape(g, v) for v, g in zip(wrt, gradients(graph.objective, wrt), strict=True)]
    products = tangents(found, _directions(wrt))
    outputs = [(f"hvp_{v.name}", _own_shape(h, v)) for v, h in zip(wrt, products, strict=True)]
    return Derived(_program(graph, "hvp", [*outputs, *_kink_outputs(graph, wrt)]))


def _kink_outputs(graph: Graph, wrt: Sequence[Input]) -> list[tuple[str, Node]]:
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


# Statistics over columns


class _Statistics:
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
        total = over(shape, reads, expr, (COLUMNS,), _role(origin, "sum"))
        squares = over(shape, reads, expr**2, (COLUMNS,), _role(origin, "sum_sq"))
        mean = elementwise(_0 * _1, [total, self.column], _role(origin, "mean"))
        spread = maximum(_1 - _2 * _0**2, 0) * _3
        variance = elementwise(
            spread, [total, squares, self.column, self.variance], _role(origin, "mean_var")
        )
        return mean, variance


def _role(origin: Origin, role: str) -> Origin:
    return Origin(origin.name, origin.file, origin.line, "", origin.axes, role)


# The sweep's programs


def _selected(curvature: Curvature, estimator: str) -> tuple[list[Source], list[Source]]:
    """Sources that count for an estimator, and those it leaves out by definition."""
    sources = curvature.sources()
    if estimator != "gauss_newton":
        return sources, []
    loss = curvature.graph.loss_argument
    if loss is None:
        raise RequestError(
            "Gauss-Newton needs to know in which node the loss is convex: "
            'declare it with objective(..., convex_in="name")',
            origin=curvature.graph.origin,
        )
    above = curvature.uses.above(loss)
    kept = [s for s in sources if all(id(v) in above for v in s.variables)]
    names = {s.name for s in kept}
    return kept, [s for s in sources if s.name not in names]


def _summary(
    program: Program,
    estimator: str,
    curvature: Curvature,
    drawn: Sequence[Source],
    every: Sequence[Source],
    exact: Iterable[str],
    readouts: Iterable[tuple[str, str]] = (),
) -> Derived:
    names = {s.name for s in drawn}
    return Derived(
        program,
        estimator,
        noise_count(program),
        frozenset(exact),
        tuple(Drawn(s.name, s.describe(), s.size) for s in drawn),
        tuple(Drawn(s.name, s.describe(), s.size) for s in every if s.name not in names),
        tuple(readouts),
        BIASED.get(estimator, ""),
    )


def diagonal(graph: Graph, wrt: Sequence[Input], estimator: str = "cp", setting: Setting = SIGNED) -> Derived:
    """``diag_<leaf>`` and ``var_diag_<leaf>`` by one of :data:`ESTIMATORS`, or "directions".

    "cp" is curvature propagation in its least-variance form (see :mod:`cpgen.derive.sweep`); "s" and "tu" are the
    estimators of the 2012 paper on the whole graph, rows summed before squaring; "hutchinson" is ``v * Hv``;
    "gauss_newton" and "becker_lecun" are biased and say so.  "directions" is ``e * He`` summed over unit vectors: exact,
    and the cheapest where there are few of them.
    """
    if estimator == "hutchinson":
        return _hutchinson(graph, wrt)
    if estimator == "directions":
        return _directions_diagonal(graph, wrt)
    if estimator == "becker_lecun":
        return _becker_lecun(graph, wrt)
    if estimator in ("s", "tu"):
        return _whole_graph(graph, wrt, estimator)
    curvature = Curvature(graph, list(wrt), setting)
    sources, left_out = _selected(curvature, estimator)
    every = [*sources, *left_out]
    readouts = [find_readout(curvature, leaf, sources) for leaf in wrt]
    drawn = needed(sources, [r.exact for r in readouts])
    sweep = Sweep(curvature, drawn)
    statistics = _Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    local = _counts(curvature, estimator)
    for readout in readouts:
        name = readout.leaf.name
        p, q = sweep.fields(readout.variable, readout.exact)
        parts: list[Node | None] = list(readout.terms)
        sampled = squared_difference(p, q)
        variance: Node | None = None
        if sampled is not None:
            mean, variance = statistics.of(*sampled, adjoint_origin(readout.variable, "diag"))
            parts.append(mean)
        top = add(parts, adjoint_origin(readout.variable, "diag"))
        outputs.append(
            (f"diag_{name}", _own_shape(carry_down(curvature, readout, top, 2, local), readout.leaf))
        )
        if variance is None:
            exact.append(f"diag_{name}")
        else:
            carried = carry_down(curvature, readout, variance, 4, lambda node: False)
            outputs.append((f"var_diag_{name}", _own_shape(carried, readout.leaf)))
    outputs += _kink_outputs(graph, wrt)
    program = _program(graph, _name("diagonal", estimator), outputs)
    where = [(r.leaf.name, r.variable.name) for r in readouts]  # type: ignore[attr-defined]
    return _summary(program, estimator, curvature, drawn, every, exact, where)


def _name(what: str, estimator: str) -> str:
    return what if estimator == "cp" else f"{what}_{estimator}"


def _counts(curvature: Curvature, estimator: str) -> Callable[[Node], bool]:
    """Whether a variable's own curvature counts: all of it, or for Gauss-Newton only what lies above the
    loss argument."""
    if estimator != "gauss_newton":
        return lambda node: True
    assert curvature.graph.loss_argument is not None
    above = curvature.uses.above(curvature.graph.loss_argument)
    return lambda node: id(node) in above


def trace(graph: Graph, wrt: Sequence[Input], estimator: str = "cp", setting: Setting = SIGNED) -> Derived:
    """``trace`` and ``var_trace``: per row if every leaf has rows (the Laplacian), else over everything."""
    if estimator == "hutchinson":
        return _hutchinson_trace(graph, wrt)
    if estimator == "directions":
        return _directions_trace(graph, wrt)
    if estimator not in ("cp", "gauss_newton"):
        raise RequestError(f"the trace is estimated by cp, gauss_newton or hutchinson, not by {estimator}")
    curvature = Curvature(graph, list(wrt), setting)
    sources, left_out = _selected(curvature, estimator)
    readouts = [find_readout(curvature, leaf, sources) for leaf in wrt]
    drawn = needed(sources, [r.exact for r in readouts])
    sweep = Sweep(curvature, drawn)
    statistics = _Statistics()
    sampled: list[Node | None] = []
    known: list[Node | None] = []
    origin = Origin("trace")
    local = _counts(curvature, estimator)
    for readout in readouts:
        weights = weights_up(curvature, readout)
        variable, weight = weights[-1]
        shape = variable.element_shape
        axes = range(len(shape))
        p, q = sweep.fields(variable, readout.exact)
        difference = squared_difference(p, q)
        if difference is not None:
            expr, nodes = difference
            reads = [(n, axes) for n in [*nodes, weight]]
            sampled.append(
                over((), reads, expr * placeholder(len(nodes)), shape, _role(origin, readout.leaf.name))
            )
        top = add(readout.terms)
        if top is not None:
            known.append(over((), [(top, axes), (weight, axes)], _0 * _1, shape, origin))
        for lower, lower_weight in weights[:-1]:
            own = curvature.self_curvature(lower)
            if own is not None and local(lower):
                extents = lower.element_shape
                along = range(len(extents))
                known.append(over((), [(own, along), (lower_weight, along)], _0 * _1, extents, origin))
    total = add(sampled, origin)
    parts = known
    variance: Node | None = None
    if total is not None:
        mean, variance = statistics.of(_0, [total], origin)
        parts = [*known, mean]
    result = add(parts, origin)
    per_row = all(v.has_rows for v in wrt)
    if result is None:
        result = constant(0, (ROWS,) if per_row else ())
    outputs = [("trace", _rows_summed(result, per_row))]
    exact = []
    if variance is None:
        exact.append("trace")
    else:
        outputs.append(("var_trace", _rows_summed(variance, per_row)))
    outputs += _kink_outputs(graph, wrt)
    program = _program(graph, _name("trace", estimator), outputs)
    where = [(r.leaf.name, r.variable.name) for r in readouts]  # type: ignore[attr-defined]
    return _summary(program, estimator, curvature, drawn, [*sources, *left_out], exact, where)


def _rows_summed(node: Node, per_row: bool) -> Node:
    if per_row or not node.has_rows:
        return node
    return reduce_sum(node, [node.shape.index(ROWS)], node.origin)


def blocks(
    graph: Graph,
    wrt: Sequence[Input],
    pairs: Sequence[Pair],
    estimator: str = "cp",
    setting: Setting = SIGNED,
    name: str = "block",
) -> Derived:
    """``block_A_B[row?, a.., b..]`` and its variance for each pair of leaves; rows are summed for pairs of parameters."""
    curvature = Curvature(graph, list(wrt), setting)
    sources, left_out = _selected(curvature, estimator)
    readouts = [find_block_readout(curvature, pair, sources) for pair in pairs]
    drawn = needed(sources, [r.exact for r in readouts])
    sweep = Sweep(curvature, drawn)
    statistics = _Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for readout in readouts:
        a, b = readout.pair
        label = f"block_{a.name}_{b.name}"
        mean, variance = _block(sweep, statistics, readout)
        per_row = a.has_rows or b.has_rows
        if mean is None:
            shape = ((ROWS,) if per_row else ()) + a.element_shape + b.element_shape
            mean = constant(0, shape)
        outputs.append((label, _rows_summed(mean, per_row)))
        if variance is None:
            exact.append(label)
        else:
            outputs.append((f"var_{label}", _rows_summed(variance, per_row)))
    outputs += _kink_outputs(graph, wrt)
    program = _program(graph, _name(name, estimator), outputs)
    return _summary(program, estimator, curvature, drawn, [*sources, *left_out], exact)


def _block(sweep: Sweep, statistics: _Statistics, readout: BlockReadout) -> tuple[Node | None, Node | None]:
    a, b = readout.pair
    fields = [sweep.fields(leaf, readout.exact) for leaf in (a, b)]
    shape = a.element_shape + b.element_shape
    first, second = range(len(a.element_shape)), range(len(a.element_shape), len(shape))
    expr: sympy.Expr = sympy.Integer(0)
    reads: list[tuple[Node, range]] = []
    for k, sign in enumerate((1, -1)):
        left, right = fields[0][k], fields[1][k]
        if left is not None and right is not None:
            expr += sign * placeholder(len(reads)) * placeholder(len(reads) + 1)
            reads += [(left, first), (right, second)]
    origin = Origin(f"{a.name}_{b.name}", role="block")
    parts: list[Node | None] = list(readout.terms)
    variance: Node | None = None
    if reads:
        total = over(shape, reads, expr, (COLUMNS,), _role(origin, "sum"))
        squares = over(shape, reads, expr**2, (COLUMNS,), _role(origin, "sum_sq"))
        parts.append(elementwise(_0 * _1, [total, statistics.column], _role(origin, "mean")))
        spread = maximum(_1 - _2 * _0**2, 0) * _3
        variance = elementwise(
            spread, [total, squares, statistics.column, statistics.variance], _role(origin, "var")
        )
    return add(parts, origin), variance


def hessian(
    graph: Graph, wrt: Sequence[Input], estimator: str = "cp", setting: Setting = SIGNED
) -> Derived:
    """Every block ``block_A_B`` with A not after B in ``wrt``; by "directions" instead ``column_A``, the products of the
    Hessian with its unit directions (one column each)."""
    if estimator == "directions":
        return _directions_hessian(graph, wrt)
    pairs = [(a, b) for k, a in enumerate(wrt) for b in wrt[k:]]
    return blocks(graph, wrt, pairs, "cp", setting, name="hessian")


def sketch(
    graph: Graph, wrt: Sequence[Input], pairs: Sequence[Pair] | None = None, setting: Setting = SIGNED
) -> Derived:
    """``p_<leaf>`` and ``q_<leaf>``, one column a sample: ``H ~ (P P^T - Q Q^T) / K``, rows summed for parameters.

    Noise that no entry of ``pairs`` (default: all) can see is dropped; ``answers`` says which blocks remain unbiased.
    """
    curvature = Curvature(graph, list(wrt), setting)
    every = curvature.sources()
    all_pairs = [(a, b) for k, a in enumerate(wrt) for b in wrt[k:]]
    sources = [s for s in every if visible(curvature, s, pairs if pairs is not None else all_pairs)]
    sweep = Sweep(curvature, sources)
    outputs: list[tuple[str, Node]] = []
    for leaf in wrt:
        for role, part in zip("pq", sweep.fields(leaf), strict=True):
            if part is None:
                part = constant(0, (COLUMNS, *leaf.shape), adjoint_origin(leaf, role))
            outputs.append((f"{role}_{leaf.name}", _rows_summed(part, leaf.has_rows)))
    name = "sketch" if pairs is None else "sketch_of_" + "_".join(f"{a.name}_{b.name}" for a, b in pairs)
    program = _program(graph, name, [*outputs, *_kink_outputs(graph, wrt)])
    drawn = {s.name for s in sources}
    dropped = [s for s in every if s.name not in drawn]
    answers = frozenset(
        (a.name, b.name) for a, b in all_pairs if not any(visible(curvature, s, [(a, b)]) for s in dropped)
    )
    return replace(_summary(program, "cp", curvature, sources, every, ()), answers=answers)


def entries(
    graph: Graph, wrt: Sequence[Input], wanted: Sequence[tuple[Entry, Entry]], setting: Setting = SIGNED
) -> Derived:
    """``entry_k`` and ``var_entry_k`` for single entries of the Hessian, rows squared on their own.

    An entry is (leaf, index into its element shape).  Only the parts of the fields that are asked for are computed.
    """
    curvature = Curvature(graph, list(wrt), setting)
    sources = curvature.sources()
    readouts = [find_block_readout(curvature, (a, b), sources) for (a, _), (b, _) in wanted]
    sweep = Sweep(curvature, needed(sources, [r.exact for r in readouts]))
    statistics = _Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for k, (((a, i), (b, j)), readout) in enumerate(zip(wanted, readouts, strict=True)):
        origin = Origin(f"entry_{k}")
        parts: list[Node | None] = [restrict(t, (*i, *j)) for t in readout.terms]
        expr: sympy.Expr = sympy.Integer(0)
        nodes: list[Node] = []
        for left, right, sign in zip(
            sweep.fields(a, readout.exact), sweep.fields(b, readout.exact), (1, -1), strict=True
        ):
            if left is not None and right is not None:
                expr += sign * placeholder(len(nodes)) * placeholder(len(nodes) + 1)
                nodes += [restrict(left, i), restrict(right, j)]
        per_row = a.has_rows or b.has_rows
        if nodes:
            mean, variance = statistics.of(expr, nodes, origin)
            parts.append(mean)
            outputs.append((f"var_entry_{k}", _rows_summed(variance, per_row)))
        else:
            exact.append(f"entry_{k}")
        total = add(parts, origin)
        shape = (ROWS,) if per_row else ()
        outputs.append(
            (f"entry_{k}", _rows_summed(total, per_row) if total is not None else constant(0, shape, origin))
        )
    program = _program(graph, "entries", [*outputs, *_kink_outputs(graph, wrt)])
    return _summary(program, "cp", curvature, sweep.sources, sources, exact)


def _paper_sources(curvature: Curvature, estimator: str) -> list[Source]:
    return curvature.sources() if estimator == "s" else curvature.mixed_sources()


def _whole_graph(graph: Graph, wrt: Sequence[Input], estimator: str) -> Derived:
    """The estimators of the paper as they stand: all noise drawn, rows summed before squaring."""
    curvature = Curvature(graph, list(wrt))
    sources = _paper_sources(curvature, estimator)
    sweep = Sweep(curvature, sources)
    statistics = _Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for leaf in wrt:
        pair = [_rows_summed(f, leaf.has_rows) if f is not None else None for f in sweep.fields(leaf)]
        difference = squared_difference(pair[0], pair[1])
        if difference is None:
            outputs.append((f"diag_{leaf.name}", constant(0, leaf.shape)))
            exact.append(f"diag_{leaf.name}")
            continue
        mean, variance = statistics.of(*difference, adjoint_origin(leaf, "diag"))
        outputs += [(f"diag_{leaf.name}", mean), (f"var_diag_{leaf.name}", variance)]
    program = _program(graph, _name("diagonal", estimator), [*outputs, *_kink_outputs(graph, wrt)])
    summary = _summary(program, estimator, curvature, sources, sources, exact)
    # rows are summed before squaring, so unit columns shared by all rows do not give the exact answer
    columns = summary.columns if not graph.objective.has_rows or all(v.has_rows for v in wrt) else None
    return Derived(program, estimator, columns, summary.exact, summary.drawn)


# Hutchinson


def _probes(graph: Graph, wrt: Sequence[Input]) -> tuple[dict[Input, Node], list[Node]]:
    """Random directions for every leaf and the Hessian times them."""
    offset = 0
    directions: dict[Input, Node] = {}
    for leaf in wrt:
        noise = Input(f"v_{leaf.name}", (COLUMNS, *leaf.shape), "noise", Origin(f"v_{leaf.name}"), offset)
        offset += elements(noise)
        directions[leaf] = noise
    found = [_own_shape(g, v) for v, g in zip(wrt, gradients(graph.objective, wrt), strict=True)]
    products = tangents(found, directions)
    return directions, [
        h if h is not None else constant(0, (COLUMNS, *v.shape)) for v, h in zip(wrt, products, strict=True)
    ]


def _hutchinson(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``v * Hv`` (Bekas, Kokiopoulou & Saad 2007)."""
    directions, products = _probes(graph, wrt)
    statistics = _Statistics()
    outputs: list[tuple[str, Node]] = []
    for leaf, product in zip(wrt, products, strict=True):
        mean, variance = statistics.of(_0 * _1, [product, directions[leaf]], adjoint_origin(leaf, "diag"))
        outputs += [(f"diag_{leaf.name}", mean), (f"var_diag_{leaf.name}", variance)]
    program = _program(graph, "diagonal_hutchinson", [*outputs, *_kink_outputs(graph, wrt)])
    return Derived(program, "hutchinson", _probe_columns(graph, wrt), drawn=_probe_summary(wrt, directions))


def _probe_columns(graph: Graph, wrt: Sequence[Input]) -> int | None:
    """Unit probes give the exact answer if no probe is shared by rows whose answers are kept apart, or all
    rows share it."""
    mixed = any(v.has_rows for v in wrt) and not all(v.has_rows for v in wrt)
    if mixed:
        return None
    return sum(_count(v) for v in wrt)


def _count(leaf: Input) -> int:
    total = 1
    for extent in leaf.element_shape:
        total *= extent
    return total


def _probe_summary(wrt: Sequence[Input], directions: dict[Input, Node]) -> tuple[Drawn, ...]:
    return tuple(Drawn(directions[v].name, f"direction of {v.name}", _count(v)) for v in wrt)  # type: ignore[attr-defined]


def _hutchinson_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``v . Hv`` per row if every leaf has rows, else over everything (Hutchinson 1989)."""
    directions, products = _probes(graph, wrt)
    per_row = all(v.has_rows for v in wrt)
    if not per_row and any(v.has_rows for v in wrt):
        raise RequestError(
            "a Hutchinson trace is over inputs with rows or over parameters, not over both at once"
        )
    parts: list[Node | None] = []
    for leaf, product in zip(wrt, products, strict=True):
        axes = range(len(leaf.element_shape))
        parts.append(
            over(
                (), [(product, axes), (directions[leaf], axes)], _0 * _1, leaf.element_shape, Origin("trace")
            )
        )
    total = add(parts, Origin("trace"))
    assert total is not None
    mean, variance = _Statistics().of(_0, [total], Origin("trace"))
    outputs = [("trace", mean), ("var_trace", variance), *_kink_outputs(graph, wrt)]
    program = _program(graph, "trace_hutchinson", outputs)
    return Derived(program, "hutchinson", _probe_columns(graph, wrt), drawn=_probe_summary(wrt, directions))


# Unit directions: as many Hessian-vector products as there are variables, exact


def directions(graph: Graph, wrt: Sequence[Input]) -> int | None:
    """How many unit directions cover ``wrt``: its elements, of one row for inputs.  None where leaves with and without
    rows are mixed."""
    return _probe_columns(graph, wrt)


def _directed(
    graph: Graph, name: str, wrt: Sequence[Input], found: Iterable[tuple[str, Node]], units: dict[Input, Node]
) -> Derived:
    outputs = tuple(found)
    program = _program(graph, name, [*outputs, *_kink_outputs(graph, wrt)])
    return Derived(
        program,
        "directions",
        directions(graph, wrt),
        frozenset(label for label, _ in outputs),
        drawn=_probe_summary(wrt, units),
        unit=True,
    )


def _directions_diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    units, products = _probes(graph, wrt)
    outputs = []
    for leaf, product in zip(wrt, products, strict=True):
        axes = range(len(leaf.element_shape))
        reads = [(product, axes), (units[leaf], axes)]
        label = f"diag_{leaf.name}"
        outputs.append((label, over(leaf.element_shape, reads, _0 * _1, (COLUMNS,), adjoint_origin(leaf, "diag"))))
    return _directed(graph, "diagonal_directions", wrt, outputs, units)


def _directions_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
    units, products = _probes(graph, wrt)
    parts: list[Node | None] = []
    for leaf, product in zip(wrt, products, strict=True):
        axes = range(len(leaf.element_shape))
        reads = [(product, axes), (units[leaf], axes)]
        parts.append(over((), reads, _0 * _1, (COLUMNS, *leaf.element_shape), Origin("trace")))
    total = add(parts, Origin("trace"))
    assert total is not None
    return _directed(graph, "trace_directions", wrt, [("trace", total)], units)


def _directions_hessian(graph: Graph, wrt: Sequence[Input]) -> Derived:
    units, products = _probes(graph, wrt)
    outputs = [(f"column_{leaf.name}", product) for leaf, product in zip(wrt, products, strict=True)]
    return _directed(graph, "hessian_directions", wrt, outputs, units)


# Becker-LeCun


def _becker_lecun(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """Diagonals carried down by squared derivatives with the loss exact at the top.

    Becker & LeCun 1989, with the exact diagonal of the log-sum-exp as in HesScale (Elsayed, Farrahi, Dangel & Mahmood,
    ICML 2024).  Deterministic and biased: off-diagonal curvature is ignored on the way.
    """
    curvature = Curvature(graph, list(wrt))
    regions = {id(s.variables[0]): s for s in curvature.sources() if isinstance(s, RegionSource)}
    known: dict[int, Node | None] = {}
    for node in reversed(curvature.uses.nodes):
        if not curvature.uses.active(node):
            continue
        lift = not (isinstance(node, Input) and not node.has_rows)
        parts: list[Node | None] = []
        for use in curvature.uses.of(node):
            above = known.get(id(use.map))
            if above is not None:
                origin = adjoint_origin(node, "diag")
                parts.append(pull_back(use.map, use.position, above, power=2, lift=lift, origin=origin))
        parts.append(curvature.self_curvature(node, lift=lift))
        region = regions.get(id(node))
        if region is not None:
            parts.append(region.diagonal)
        known[id(node)] = add(parts, adjoint_origin(node, "diag"))
    outputs = [(f"diag_{v.name}", _own_shape(known.get(id(v)), v)) for v in wrt]
    program = _program(graph, "diagonal_becker_lecun", [*outputs, *_kink_outputs(graph, wrt)])
    names = frozenset(f"diag_{v.name}" for v in wrt)
    return Derived(program, "becker_lecun", 0, names, biased=BIASED["becker_lecun"])


# Third order


def estimate_gradient(
    graph: Graph, wrt: Sequence[Input], parameters: Sequence[Input], setting: Setting
) -> Derived:
    """The gradient of the trace estimate with respect to parameters, the noise frozen.

    Expectation and derivative commute, so this is unbiased for the gradient of the trace.  Use a setting with
    ``factor="smooth"`` or "mixed": the derivative of ``sqrt(|m|)`` has heavy tails.
    """
    estimate = trace(graph, wrt, "cp", setting)
    root = dict(estimate.program.outputs)["trace"]
    uses = Uses([root], parameters)
    adjoints = Adjoints(root, uses)
    outputs = [("trace", root)]
    outputs += [(f"grad_{v.name}", _own_shape(adjoints.summed(v), v)) for v in parameters]
    program = _program(graph, "trace_gradient", outputs)
    return Derived(
        program, "cp", estimate.columns, frozenset(), estimate.drawn, estimate.dropped, estimate.readouts
    )
