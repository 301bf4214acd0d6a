"""The programs: what can be asked of a model, each as a graph.  Their outputs: :mod:`cpgen.derive.outputs`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import sympy

from cpgen.derive import becker_lecun, probes
from cpgen.derive.derived import (
    Derived,
    Drawn,
    Statistics,
    kink_outputs,
    own_shape,
    program_of,
    role_of,
    rows_summed,
)
from cpgen.derive.forward import tangents
from cpgen.derive.joint import Asked, join
from cpgen.derive.methods import Method, plain
from cpgen.derive.outputs import name_of, variance_of
from cpgen.derive.points import over
from cpgen.derive.probed import probed_diagonal, probed_trace
from cpgen.derive.restrict import restrict
from cpgen.derive.reverse import Adjoints, adjoint_origin, gradients
from cpgen.derive.sources import (
    SIGNED,
    UNIT,
    Curvature,
    Field,
    Setting,
    Sides,
    Source,
    squared_difference,
)
from cpgen.derive.sweep import (
    BlockReadout,
    Pair,
    Readout,
    Sweep,
    carry_down,
    find_block_readout,
    find_readouts,
    needed,
    weights_up,
)
from cpgen.derive.units import with_units
from cpgen.derive.uses import Uses
from cpgen.errors import RequestError
from cpgen.ir.build import add, constant, new_input, reduce_sum
from cpgen.ir.nodes import COLUMNS, ROWS, Graph, Input, Node, Origin, Program
from cpgen.ir.noise import noise_count
from cpgen.scalar import placeholder

_0, _1, _2, _3 = (placeholder(k) for k in range(4))

Entry = tuple[Input, tuple[int, ...]]


# First order


def value(graph: Graph) -> Derived:
    """``value``: the objective summed over rows; ``rows``: the objective of each row (models with rows)."""
    return Derived(program_of(graph, "value", [*_value_outputs(graph), *kink_outputs(graph, graph.variables)]))


def _value_outputs(graph: Graph) -> list[tuple[str, Node]]:
    objective = graph.objective
    if not objective.has_rows:
        return [("value", objective)]
    return [("value", reduce_sum(objective, [0], Origin("value"))), ("rows", objective)]


def gradient(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``value`` and ``grad_<leaf>``: per row for inputs with rows, summed over rows for parameters."""
    found = gradients(graph.objective, wrt)
    outputs: list[tuple[str, Node]] = [("value", _value_outputs(graph)[0][1])]
    outputs += [(name_of("gradient", v.name), own_shape(g, v)) for v, g in zip(wrt, found, strict=True)]
    return Derived(program_of(graph, "gradient", [*outputs, *kink_outputs(graph, wrt)]))


def direction_names(graph: Graph, wrt: Sequence[Input]) -> dict[str, str]:
    """What the input is called that holds the direction along a leaf, by the leaf's name: usually ``dir_<leaf>``."""
    names = graph.fresh(f"dir_{v.name}" for v in wrt)
    return {v.name: name for v, name in zip(wrt, names, strict=True)}


def _directions(graph: Graph, wrt: Sequence[Input]) -> dict[Input, Node]:
    names = direction_names(graph, wrt)
    return {v: new_input(names[v.name], v.shape, "tangent") for v in wrt}


def jvp(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``jvp``: the derivative of the objective along ``dir_<leaf>``, per row."""
    (tangent,) = tangents([graph.objective], _directions(graph, wrt))
    if tangent is None:
        tangent = constant(0, graph.objective.shape)
    return Derived(program_of(graph, "jvp", [("jvp", tangent)]))


def hvp(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``hvp_<leaf>``: the Hessian times ``dir_<leaf>``, forward over reverse."""
    found = [own_shape(g, v) for v, g in zip(wrt, gradients(graph.objective, wrt), strict=True)]
    products = tangents(found, _directions(graph, wrt))
    outputs = [(name_of("hvp", v.name), own_shape(h, v)) for v, h in zip(wrt, products, strict=True)]
    return Derived(program_of(graph, "hvp", [*outputs, *kink_outputs(graph, wrt)]))


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
    kept = [s for s in sources if all(curvature.uses.depends(v, loss) for v in s.variables)]
    names = {s.name for s in kept}
    return kept, [s for s in sources if s.name not in names]


def _sweep(curvature: Curvature, sources: Sequence[Source], estimator: str, asked: Sequence[Asked]) -> Sweep:
    """The sweep that draws what the read-outs ask for, factored together except for what is known to be semi-definite."""
    drawn = needed(sources, [a.exact for a in asked])
    is_whole = estimator == "cp" or curvature.setting.factor == "unit"
    return Sweep(curvature, join(curvature, drawn, asked) if is_whole else drawn)


@dataclass(frozen=True)
class Swept:
    """A sweep that draws what the read-outs of all leaves ask for.

    ``every``: all sources, drawn or not.  ``local``: whether a variable's own second derivatives count.
    """

    curvature: Curvature
    estimator: str
    every: Sequence[Source]
    readouts: Sequence[Readout]
    sweep: Sweep
    local: Callable[[Node], bool]

    def drawn(self, readout: Readout) -> tuple[sympy.Expr, list[Node]] | None:
        """The diagonal of one column at a read-out, as an expression of the fields; None if nothing arrives."""
        return squared_difference(*self.sweep.fields(readout.variable, readout.exact))

    def summary(self, program: Program, exact: Iterable[str]) -> Derived:
        where = [(r.leaf.name, r.variable.name) for r in self.readouts]  # type: ignore[attr-defined]
        return _summary(program, self.estimator, self.sweep, self.every, exact, where)


def swept(graph: Graph, wrt: Sequence[Input], estimator: str, setting: Setting) -> Swept:
    """The sweep of "cp" or "gauss_newton" for the diagonals of ``wrt``."""
    curvature = Curvature(graph, list(wrt), setting)
    sources, left_out = _selected(curvature, estimator)
    readouts = find_readouts(curvature, wrt, sources)
    sweep = _sweep(curvature, sources, estimator, [Asked((r.variable, r.variable), r.exact) for r in readouts])
    return Swept(curvature, estimator, [*sources, *left_out], readouts, sweep, _counts(curvature, estimator))


def _summary(
    program: Program,
    estimator: str,
    sweep: Sweep,
    every: Sequence[Source],
    exact: Iterable[str],
    readouts: Iterable[tuple[str, str]] = (),
) -> Derived:
    drawn = sum(s.parts for s in sweep.sources)
    columns = sweep.columns if sweep.is_unit else noise_count(program)
    return Derived(
        with_units(program, columns) if sweep.is_unit else program,
        estimator,
        columns,
        frozenset(exact),
        tuple(Drawn(s.name, s.describe(), s.size) for s in sweep.sources),
        tuple(Drawn(s.name, s.describe(), s.size) for s in every if not s.parts & drawn),
        tuple(readouts),
        METHODS[estimator].biased,
        unit=sweep.is_unit and columns > 0,
    )


def diagonal(graph: Graph, wrt: Sequence[Input], estimator: str = "cp", setting: Setting = SIGNED) -> Derived:
    """``diag_<leaf>`` and ``var_diag_<leaf>`` by one of :data:`METHODS`."""
    make = METHODS[estimator].diagonal if estimator in METHODS else None
    if make is None:
        raise RequestError(f"the diagonal is estimated by {_by('diagonal')}, not by {estimator}")
    return make(graph, wrt, setting)


def _swept_diagonal(graph: Graph, wrt: Sequence[Input], estimator: str, setting: Setting) -> Derived:
    """By a sweep of "cp", "gauss_newton" or "units"."""
    if estimator == "units":
        estimator, setting = "cp", UNIT
    whole = swept(graph, wrt, estimator, setting)
    curvature, sweep = whole.curvature, whole.sweep
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for readout in whole.readouts:
        label = name_of("diagonal", readout.leaf.name)
        p, q = sweep.fields(readout.variable, readout.exact)
        parts = readout.diagonals()
        sampled = squared_difference(p, q)
        variance: Node | None = None
        if sweep.is_unit:
            shape, origin = readout.variable.element_shape, adjoint_origin(readout.variable, "sum")
            along = range(len(shape))
            for left, right, scale in _unit_products(sweep, (p, q), (p, q)):
                reads = [(left, along), (right, along), *((w, range(0)) for w in scale)]
                parts.append(over(shape, reads, _product(reads), (COLUMNS,), origin))
        elif sampled is not None:
            mean, variance = statistics.of(*sampled, adjoint_origin(readout.variable, "diag"))
            parts.append(mean)
        top = add(parts, adjoint_origin(readout.variable, "diag"))
        down = carry_down(curvature, readout, top, 2, whole.local)
        outputs.append((label, own_shape(down, readout.leaf)))
        if variance is None:
            exact.append(label)
        else:
            carried = carry_down(curvature, readout, variance, 4, lambda node: False)
            outputs.append((variance_of(label), own_shape(carried, readout.leaf)))
    outputs += kink_outputs(graph, wrt)
    return whole.summary(program_of(graph, program_name("diagonal", estimator), outputs), exact)


def _unit_products(sweep: Sweep, left: Field, right: Field) -> list[tuple[Node, Node, tuple[Node, ...]]]:
    """What the columns of unit vectors add to the block of two variables: pairs of fields to multiply, with a weight.

    That is ``w p p^T + p q^T + q p^T``.
    """
    (p, q), (other_p, other_q) = left, right
    weight = () if sweep.weight is None else (sweep.weight,)
    pairs: list[tuple[Node | None, Node | None, tuple[Node, ...]]] = [(p, other_q, ()), (q, other_p, ())]
    if weight:
        pairs.insert(0, (p, other_p, weight))
    return [(a, b, w) for a, b, w in pairs if a is not None and b is not None]


def _product(reads: Sequence[object]) -> sympy.Expr:
    return sympy.Mul(*(placeholder(k) for k in range(len(reads))))


def program_name(what: str, estimator: str) -> str:
    """The name of a program by an estimator."""
    return what if estimator == "cp" else f"{what}_{estimator}"


def _counts(curvature: Curvature, estimator: str) -> Callable[[Node], bool]:
    """Whether a variable's own curvature counts: all of it, or for Gauss-Newton only what lies above the
    loss argument."""
    if estimator != "gauss_newton":
        return lambda node: True
    loss = curvature.graph.loss_argument
    assert loss is not None
    return lambda node: curvature.uses.depends(node, loss)


def trace(graph: Graph, wrt: Sequence[Input], estimator: str = "cp", setting: Setting = SIGNED) -> Derived:
    """``trace`` and ``var_trace``: per row if every leaf has rows (the Laplacian), else over everything."""
    make = METHODS[estimator].trace if estimator in METHODS else None
    if make is None:
        raise RequestError(f"the trace is estimated by {_by('trace')}, not by {estimator}")
    return make(graph, wrt, setting)


def _swept_trace(graph: Graph, wrt: Sequence[Input], estimator: str, setting: Setting) -> Derived:
    """By a sweep of "cp", "gauss_newton" or "units"."""
    if estimator == "units":
        estimator, setting = "cp", UNIT
    whole = swept(graph, wrt, estimator, setting)
    curvature, sweep = whole.curvature, whole.sweep
    statistics = Statistics()
    sampled: list[Node | None] = []
    terms: list[tuple[sympy.Expr, list[Node]]] = []
    known: list[Node | None] = []
    origin = Origin("trace")
    for readout in whole.readouts:
        weights = weights_up(curvature, readout)
        variable, weight = weights[-1]
        shape = variable.element_shape
        axes = range(len(shape))
        p, q = sweep.fields(variable, readout.exact)
        difference = squared_difference(p, q)
        if sweep.is_unit:
            for left, right, scale in _unit_products(sweep, (p, q), (p, q)):
                # the elements first, then the columns
                reads = [(left, axes), (right, axes), (weight, axes)]
                column = over((), reads, _product(reads), shape, role_of(origin, readout.leaf.name))
                weighted = [(n, range(0)) for n in (column, *scale)]
                known.append(over((), weighted, _product(weighted), (COLUMNS,), role_of(origin, "sum")))
        elif difference is not None:
            expr, nodes = difference
            reads = [(n, axes) for n in [*nodes, weight]]
            weighted_expr = expr * placeholder(len(nodes))
            sampled.append(over((), reads, weighted_expr, shape, role_of(origin, readout.leaf.name)))
            terms.append((weighted_expr, [*nodes, weight]))
        known += readout.forms(weight, origin)
        for lower, lower_weight in weights[:-1]:
            own = curvature.self_curvature(lower)
            if own is not None and whole.local(lower):
                extents = lower.element_shape
                along = range(len(extents))
                known.append(over((), [(own, along), (lower_weight, along)], _0 * _1, extents, origin))
    total = add(sampled, origin)
    parts = known
    variance: Node | None = None
    if total is not None:
        mean, variance = statistics.of_sum(total, terms, origin)
        parts = [*known, mean]
    result = add(parts, origin)
    per_row = all(v.has_rows for v in wrt)
    if result is None:
        result = constant(0, (ROWS,) if per_row else ())
    outputs = [("trace", rows_summed(result, per_row))]
    exact = []
    if variance is None:
        exact.append("trace")
    else:
        outputs.append((variance_of("trace"), rows_summed(variance, per_row)))
    outputs += kink_outputs(graph, wrt)
    return whole.summary(program_of(graph, program_name("trace", estimator), outputs), exact)


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
    sweep = _sweep(curvature, sources, estimator, [Asked(r.pair, r.exact) for r in readouts])
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for readout in readouts:
        a, b = readout.pair
        label = name_of("block", a.name, b.name)
        mean, variance = _block(sweep, statistics, readout)
        per_row = a.has_rows or b.has_rows
        if mean is None:
            shape = ((ROWS,) if per_row else ()) + a.element_shape + b.element_shape
            mean = constant(0, shape)
        outputs.append((label, rows_summed(mean, per_row)))
        if variance is None:
            exact.append(label)
        else:
            outputs.append((variance_of(label), rows_summed(variance, per_row)))
    outputs += kink_outputs(graph, wrt)
    program = program_of(graph, program_name(name, estimator), outputs)
    return _summary(program, estimator, sweep, [*sources, *left_out], exact)


def _block(sweep: Sweep, statistics: Statistics, readout: BlockReadout) -> tuple[Node | None, Node | None]:
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
    if sweep.is_unit:
        for left, right, scale in _unit_products(sweep, fields[0], fields[1]):
            unit_reads = [(left, first), (right, second), *((w, range(0)) for w in scale)]
            parts.append(over(shape, unit_reads, _product(unit_reads), (COLUMNS,), role_of(origin, "sum")))
    elif reads:
        mean, variance = statistics.over(shape, reads, expr, origin)
        parts.append(mean)
    return add(parts, origin), variance


def hessian(
    graph: Graph, wrt: Sequence[Input], estimator: str = "cp", setting: Setting = SIGNED
) -> Derived:
    """Every block ``block_A_B`` with A not after B in ``wrt``, by "cp" or "units" (see :func:`diagonal`); by "directions"
    instead ``column_A``, the products of the Hessian with its unit directions (one column each)."""
    if estimator not in ("cp", "units", "directions"):
        raise RequestError(f"the Hessian is by cp, units or directions, not by {estimator}")
    if estimator == "directions":
        return probes.directions_hessian(graph, wrt)
    pairs = [(a, b) for k, a in enumerate(wrt) for b in wrt[k:]]
    return blocks(graph, wrt, pairs, "cp", UNIT if estimator == "units" else setting, name="hessian")


def sketch(
    graph: Graph, wrt: Sequence[Input], pairs: Sequence[Pair] | None = None, setting: Setting = SIGNED
) -> Derived:
    """``p_<leaf>`` and ``q_<leaf>``, one column a sample: ``H ~ (P P^T - Q Q^T) / K``, rows summed for parameters.

    Noise that no entry of ``pairs`` (default: all) can see is dropped; ``answers`` says which blocks remain unbiased.
    """
    curvature = Curvature(graph, list(wrt), setting)
    every = curvature.sources()
    all_pairs = [(a, b) for k, a in enumerate(wrt) for b in wrt[k:]]
    wanted = pairs if pairs is not None else all_pairs
    sides = Sides(curvature, every)
    sources = [s for s in every if any(s.parts & sides.seen(a, b) for a, b in wanted)]
    sweep = Sweep(curvature, join(curvature, sources, [Asked(pair, 0) for pair in wanted]))
    outputs: list[tuple[str, Node]] = []
    for leaf in wrt:
        for role, part in zip("pq", sweep.fields(leaf), strict=True):
            if part is None:
                part = constant(0, (COLUMNS, *leaf.shape), adjoint_origin(leaf, role))
            outputs.append((name_of(role, leaf.name), rows_summed(part, leaf.has_rows)))
    name = "sketch" if pairs is None else "sketch_of_" + "_".join(f"{a.name}_{b.name}" for a, b in pairs)
    program = program_of(graph, name, [*outputs, *kink_outputs(graph, wrt)])
    dropped = sum(s.parts for s in every) - sum(s.parts for s in sources)
    answers = frozenset((a.name, b.name) for a, b in all_pairs if not dropped & sides.seen(a, b))
    return replace(_summary(program, "cp", sweep, every, ()), answers=answers)


def entries(
    graph: Graph, wrt: Sequence[Input], wanted: Sequence[tuple[Entry, Entry]], setting: Setting = SIGNED
) -> Derived:
    """``entry_k`` and ``var_entry_k`` for single entries of the Hessian, rows squared on their own.

    An entry is (leaf, index into its element shape).  Only the parts of the fields that are asked for are computed.
    """
    curvature = Curvature(graph, list(wrt), setting)
    sources = curvature.sources()
    readouts = [find_block_readout(curvature, (a, b), sources) for (a, _), (b, _) in wanted]
    sweep = _sweep(curvature, sources, "cp", [Asked(r.pair, r.exact) for r in readouts])
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for k, (((a, i), (b, j)), readout) in enumerate(zip(wanted, readouts, strict=True)):
        label = name_of("entry", str(k))
        origin = Origin(label)
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
            outputs.append((variance_of(label), rows_summed(variance, per_row)))
        else:
            exact.append(label)
        total = add(parts, origin)
        shape = (ROWS,) if per_row else ()
        made = rows_summed(total, per_row) if total is not None else constant(0, shape, origin)
        outputs.append((label, made))
    program = program_of(graph, "entries", [*outputs, *kink_outputs(graph, wrt)])
    return _summary(program, "cp", sweep, sources, exact)


def _paper_sources(curvature: Curvature, estimator: str) -> list[Source]:
    return curvature.sources() if estimator == "s" else curvature.mixed_sources()


def _whole_graph(graph: Graph, wrt: Sequence[Input], estimator: str) -> Derived:
    """The estimators of the paper as they stand: all noise drawn, rows summed before squaring."""
    curvature = Curvature(graph, list(wrt))
    sources = _paper_sources(curvature, estimator)
    sweep = Sweep(curvature, sources)
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    for leaf in wrt:
        pair = [rows_summed(f, leaf.has_rows) if f is not None else None for f in sweep.fields(leaf)]
        difference = squared_difference(pair[0], pair[1])
        label = name_of("diagonal", leaf.name)
        if difference is None:
            outputs.append((label, constant(0, leaf.shape)))
            exact.append(label)
            continue
        mean, variance = statistics.of(*difference, adjoint_origin(leaf, "diag"))
        outputs += [(label, mean), (variance_of(label), variance)]
    program = program_of(graph, program_name("diagonal", estimator), [*outputs, *kink_outputs(graph, wrt)])
    summary = _summary(program, estimator, sweep, sources, exact)
    # rows are summed before squaring, so unit columns shared by all rows do not give the exact answer
    columns = summary.columns if not graph.objective.has_rows or all(v.has_rows for v in wrt) else None
    joint = frozenset(name_of("diagonal", leaf.name) for leaf in wrt if not leaf.has_rows)
    return Derived(program, estimator, columns, summary.exact, summary.drawn, joint=joint)


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
    outputs += [(name_of("gradient", v.name), own_shape(adjoints.summed(v), v)) for v in parameters]
    program = program_of(graph, "trace_gradient", outputs)
    return Derived(
        program, "cp", estimate.columns, frozenset(), estimate.drawn, estimate.dropped, estimate.readouts
    )


# What can be asked for by name


def _swept(name: str, biased: str = "", named: bool = True) -> Method:
    return Method(
        lambda graph, wrt, setting: _swept_diagonal(graph, wrt, name, setting),
        lambda graph, wrt, setting: _swept_trace(graph, wrt, name, setting),
        biased,
        named,
    )


METHODS = {
    # curvature propagation in its least-variance form (cpgen.derive.sweep)
    "cp": _swept("cp"),
    # those of the 2012 paper on the whole graph, rows summed before squaring
    "s": Method(lambda graph, wrt, setting: _whole_graph(graph, wrt, "s")),
    "tu": Method(lambda graph, wrt, setting: _whole_graph(graph, wrt, "tu")),
    # of what is not known in closed form, at the read-outs (cpgen.derive.probed); and v * Hv as it stands
    "hutchinson": Method(plain(probed_diagonal), plain(probed_trace)),
    "hutchinson_plain": Method(plain(probes.hutchinson_diagonal), plain(probes.hutchinson_trace)),
    "gauss_newton": _swept("gauss_newton", "Gauss-Newton: the curvature of the loss only, not of what feeds it"),
    "becker_lecun": Method(plain(becker_lecun.diagonal), biased=becker_lecun.BIASED),
    # e * He summed over unit vectors e, and "cp" with a unit vector for each sign: exact, and cheap where those are few
    "directions": Method(plain(probes.directions_diagonal), plain(probes.directions_trace)),
    "units": _swept("units", named=False),
}
"""Every estimator by its name, in the order in which messages list them."""
ESTIMATORS = tuple(name for name, method in METHODS.items() if method.named)


def _by(what: str) -> str:
    """The names that a user may give for a diagonal or a trace, as a list in words."""
    names = [name for name in ESTIMATORS if getattr(METHODS[name], what) is not None]
    return f"{', '.join(names[:-1])} or {names[-1]}"
