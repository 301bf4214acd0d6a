"""Hutchinson's estimators where they are least noisy: of what is not known already, read out where few elements are.

The Hessian is a sum over sources of ``G' M G`` (:mod:`cpgen.derive.sources`).  With random signs ``v`` and the forward
tangents ``t = G v`` the quadratic form ``v'Hv`` is the sum of ``t' M t``, and half its derivative by ``v`` is ``Hv``
(Hutchinson 1989; Bekas, Kokiopoulou & Saad 2007).  As in a curvature sweep (:mod:`cpgen.derive.sweep`),

* a source whose diagonal is known in closed form at every read-out, or is zero there, is left out of the form, and its
  diagonal added: its off-diagonal entries make no noise then.  The diagonal itself never does, for signs square to one;
* the signs sit at the read-outs, the highest variables from which squared derivatives carry a diagonal down.  For the
  weights of a layer these are its activations: a few signs a row in place of one for each weight, and rows independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sympy

from cpgen.derive.carries import close, tangent_carries
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
from cpgen.derive.linear import Extra, element_index, output_axes, pull, push_forward
from cpgen.derive.outputs import name_of, variance_of
from cpgen.derive.points import over
from cpgen.derive.probes import unseen
from cpgen.derive.reverse import Adjoints, adjoint_origin
from cpgen.derive.sources import HALF, Cross, Curvature, Logsumexp, RegionSource, Self, Softmax, Source
from cpgen.derive.sweep import Readout, carry_down, find_readouts, needed, weights_up
from cpgen.derive.uses import Uses
from cpgen.ir.build import add, constant, elementwise, reduce_sum
from cpgen.ir.nodes import COLUMNS, ROWS, Carry, Graph, Input, Map, Node, Origin, Program
from cpgen.ir.noise import elements, noise_count
from cpgen.scalar import diff, placeholder, vanishes

_0, _1, _2, _3 = (placeholder(k) for k in range(4))


@dataclass(frozen=True)
class Probed:
    """Read-outs with the sources that are known there, and signs for each read-out's variable."""

    curvature: Curvature
    sources: tuple[Source, ...]
    known: frozenset[str]
    readouts: tuple[Readout, ...]
    own: Mapping[Node, Node]
    """By a read-out's variable: its own second derivatives, which are known there but not elsewhere."""
    probes: Mapping[Node, Input]
    """By a read-out's variable."""

    @property
    def joint(self) -> bool:
        """Whether rows share signs."""
        return any(not probe.has_rows for probe in self.probes.values())

    def program(self, name: str, outputs: Iterable[tuple[str, Node]]) -> Program:
        wrt = [r.leaf for r in self.readouts]
        return program_of(self.curvature.graph, name, [*outputs, *kink_outputs(self.curvature.graph, wrt)])

    def summary(self, program: Program, exact: Iterable[str], joint: Iterable[str] = ()) -> Derived:
        used = {i.name for i in program.inputs if i.kind == "noise"}
        where = {r.variable: r.variable.name for r in self.readouts}  # type: ignore[attr-defined]
        return Derived(
            program,
            "hutchinson",
            noise_count(program),
            frozenset(exact),
            tuple(
                Drawn(v.name, f"direction of {where[k]}", elements(v)) for k, v in self.probes.items() if v.name in used
            ),
            tuple(Drawn(s.name, s.describe(), s.size) for s in self.sources if s.name in self.known),
            tuple((r.leaf.name, where[r.variable]) for r in self.readouts),
            joint=frozenset(joint),
        )


def at_readouts(graph: Graph, wrt: Sequence[Input]) -> Probed:
    """Signs at the read-outs of ``wrt``, and what is known there."""
    curvature = Curvature(graph, list(wrt))
    sources = [s for s in curvature.sources() if _countable(curvature, s)]
    first = find_readouts(curvature, wrt, sources)
    drawn = sum(s.parts for s in needed(sources, [r.exact for r in first]))
    known = [s for s in sources if not s.parts & drawn]
    readouts = find_readouts(curvature, wrt, known)
    mine = {s.variable: s.diagonal for s in sources if isinstance(s, Self) and s.parts & drawn}
    offset = 0
    probes: dict[Node, Input] = {}
    apart = list(dict.fromkeys(r.variable for r in readouts))
    names = graph.fresh(f"v_{node.name}" for node in apart)  # type: ignore[attr-defined]
    for node, name in zip(apart, names, strict=True):
        # rows share the signs of a parameter, as they share the parameter
        rows = () if isinstance(node, Input) and not node.has_rows else curvature.rows
        noise = Input(name, (COLUMNS, *rows, *node.element_shape), "noise", Origin(name), offset)
        offset += elements(noise)
        probes[node] = noise
    own = {n: mine[n] for n in apart if n in mine}
    return Probed(curvature, tuple(sources), frozenset(s.name for s in known), tuple(readouts), own, probes)


def _countable(curvature: Curvature, source: Source) -> bool:
    """Whether the source is a part of the form on its own, so that it can be left out of it."""
    if isinstance(source, Self):
        return source.diagonal is curvature.self_curvature(source.variable)
    return isinstance(source, (Cross, Logsumexp, Softmax))


def _form(probed: Probed, directions: Mapping[Node, Node]) -> tuple[Node | None, dict[Node, Node]]:
    """``v'Hv`` of each column and row, without the sources that are known, and the tangents by their node.

    ``directions``: what is added to the tangent of a variable.
    """
    curvature = probed.curvature
    moving: dict[Node, Node] = {}
    carried = tangent_carries(curvature.uses.nodes, directions)
    for node in curvature.uses.nodes:
        parts: list[Node | None] = [directions.get(node)]
        if isinstance(node, Carry) and node in carried:
            parts.append(carried[node])
        if isinstance(node, Map):
            below = {k: moving[a.node] for k, a in enumerate(node.args) if a.node in moving}
            if below:
                parts.append(push_forward(node, below, origin=adjoint_origin(node, "dot")))
        tangent = add(parts, adjoint_origin(node, "dot"))
        if tangent is not None:
            moving[node] = tangent
    for carry, tangent in carried.items():
        close(tangent, moving.get(carry.body))
    left_out = {s.name for s in probed.sources} & probed.known
    without_self = {s.variable for s in probed.sources if isinstance(s, Self) and s.name in left_out}
    without_pair = {
        (s.map, *sorted((s.a, s.b))) for s in probed.sources if isinstance(s, Cross) and s.name in left_out
    }
    known_maps = {
        n
        for s in probed.sources
        if isinstance(s, RegionSource) and s.name in left_out
        for n in s.region.nodes
    }
    terms: list[Node | None] = []
    for node in curvature.uses.nodes:
        tangent = moving.get(node)
        if tangent is not None and node not in without_self:
            curved = curvature.self_curvature(node)
            if curved is not None:
                axes = range(len(node.element_shape))
                origin = adjoint_origin(node, "form")
                terms.append(over((), [(curved, axes), (tangent, axes)], _0 * _1**2, node.element_shape, origin))
        if not isinstance(node, Map) or node.reduce != "sum" or node in known_maps:
            continue
        # inside a region that is not known every map counts for itself
        inside = node in curvature.inside
        known = [k for k, a in enumerate(node.args) if a.node in moving]
        for position, a in enumerate(known):
            for b in known[position if inside else position + 1 :]:
                if (node, a, b) not in without_pair:
                    terms.append(second_form(curvature, node, a, b, moving))
    return add(terms, Origin("form")), moving


def second_form(curvature: Curvature, m: Map, a: int, b: int, moving: Mapping[Node, Node]) -> Node | None:
    """What the second derivative of ``m`` by its arguments ``a`` and ``b`` adds to ``t' M t``; the pair counts twice."""
    mixed = diff(diff(m.expr, placeholder(a)), placeholder(b))
    cotangent = curvature.adjoints.of(m)
    if cotangent is None or vanishes(mixed):
        return None
    extras = [Extra(cotangent, output_axes(m))]
    extras += [Extra(moving[m.args[k].node], element_index(m.args[k])) for k in (a, b)]
    factor = mixed if a == b else 2 * mixed
    for k in range(len(extras)):
        factor *= placeholder(len(m.args) + k)
    return pull(m, [], factor, extras, (COLUMNS, *curvature.rows), adjoint_origin(m, "form"))


def probed_diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``diag_<leaf>``: ``v * Hv`` at the read-outs of what is not known in closed form, carried down by squares."""
    probed = at_readouts(graph, wrt)
    curvature = probed.curvature
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    exact: list[str] = []
    joint: list[str] = []
    for readout, known, drawn in terms(probed):
        label, origin = name_of("diagonal", readout.leaf.name), adjoint_origin(readout.variable, "diag")
        sampled = None if drawn is None else statistics.of(*drawn, origin, unseen(readout.variable))
        if sampled is None or readout.variable is readout.leaf:
            carried = carry_down(curvature, readout, add(known, origin), 2, lambda node: True)
            mean = add([carried, *(sampled or ())[:1]], origin)
            variance = None if sampled is None else sampled[1]
        else:
            mean = carry_down(curvature, readout, add([*known, sampled[0]], origin), 2, lambda node: True)
            variance = carry_down(curvature, readout, sampled[1], 4, lambda node: False)
        outputs.append((label, own_shape(mean, readout.leaf)))
        if sampled is not None and not sampled[1].has_rows:
            joint.append(label)
        if variance is None:
            exact.append(label)
        else:
            outputs.append((variance_of(label), own_shape(variance, readout.leaf)))
    return probed.summary(probed.program("diagonal_hutchinson", outputs), exact, joint)


Drawing = tuple[sympy.Expr, list[Node]]  # an expression of nodes with columns


def terms(probed: Probed) -> list[tuple[Readout, list[Node | None], Drawing | None]]:
    """For each read-out what is known of the diagonal at its variable, and what of it each column draws."""
    form, moving = _form(probed, probed.probes)
    slopes: dict[Node, Node | None] = {}
    if form is not None:
        total = reduce_sum(form, range(len(form.shape)), Origin("form"))
        adjoints = Adjoints(total, Uses([total], list(probed.probes.values())))
        slopes = {key: adjoints.summed(probe) for key, probe in probed.probes.items()}
    found: list[tuple[Readout, list[Node | None], Drawing | None]] = []
    for readout in probed.readouts:
        key = readout.variable
        known: list[Node | None] = [*readout.diagonals()]
        drawn: Drawing | None = None
        slope, probe, own = slopes.get(key), probed.probes[key], probed.own.get(key)
        if slope is not None and own is not None and moving[key] is not probe:
            # its own curvature is known here: v * m * t would bring in what arrives from below
            known.append(own)
            drawn = (_0 * HALF - _2 * _3) * _1, [slope, probe, own, moving[key]]
        elif slope is not None:
            drawn = _0 * _1 * HALF, [slope, probe]
        found.append((readout, known, drawn))
    return found


def probed_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``trace``: ``v'Hv`` of what is not known in closed form; per row if every leaf has rows, else over everything.

    Signs at a read-out count with the root of what its diagonal weighs in the trace.
    """
    probed = at_readouts(graph, wrt)
    curvature = probed.curvature
    origin = Origin("trace")
    known: list[Node | None] = []
    weights: dict[Node, list[Node]] = {}
    for readout in probed.readouts:
        up = weights_up(curvature, readout)
        weights.setdefault(readout.variable, []).append(up[-1][1])
        known += readout.forms(up[-1][1], origin)
        for lower, weight in up[:-1]:
            curved = curvature.self_curvature(lower)
            if curved is not None:
                extents = lower.element_shape
                along = range(len(extents))
                known.append(over((), [(curved, along), (weight, along)], _0 * _1, extents, origin))
    leaves = {r.leaf for r in probed.readouts}
    directions: dict[Node, Node] = {}
    for key, probe in probed.probes.items():
        directions[key] = probe
        if key not in leaves:
            total = add(weights[key], role_of(probe.origin, "weight"))
            if total is not None:
                root = elementwise(_0**HALF, [total], role_of(probe.origin, "root"))
                directions[key] = elementwise(_0 * _1, [root, probe], role_of(probe.origin, "weighted"))
    form, _ = _form(probed, directions)
    per_row = all(v.has_rows for v in wrt)
    parts: list[Node | None] = [rows_summed(n, per_row) for n in known if n is not None]
    outputs: list[tuple[str, Node]] = []
    exact = ["trace"]
    if form is not None:
        mean, variance = Statistics().of(_0, [rows_summed(form, not probed.joint)], origin)
        parts.append(rows_summed(mean, per_row))
        outputs.append((variance_of("trace"), rows_summed(variance, per_row)))
        exact = []
    result = add(parts, origin)
    if result is None:
        result = constant(0, (ROWS,) if per_row else ())
    program = probed.program("trace_hutchinson", [("trace", result), *outputs])
    return probed.summary(program, exact, ["trace"] if probed.joint else ())
