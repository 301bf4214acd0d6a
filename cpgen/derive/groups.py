"""Traces of parts of the Hessian: sums of the diagonal over groups of its entries, and how they vary together.

A group's sum is taken in each column, at the read-outs, before it is squared: entries share noise, so the variance of a
sum is not the sum of their variances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import sympy

from cpgen.derive import probed, probes
from cpgen.derive.derived import Derived, Statistics, kink_outputs, program_of, role_of, rows_summed
from cpgen.derive.outputs import name_of, variance_of
from cpgen.derive.points import over
from cpgen.derive.programs import program_name, swept
from cpgen.derive.request import Sums
from cpgen.derive.sources import SIGNED, Curvature, Setting
from cpgen.derive.sweep import Readout, weights_up
from cpgen.errors import RequestError
from cpgen.ir.build import add, constant, new_input
from cpgen.ir.nodes import ROWS, Graph, Input, Node, Origin, Program
from cpgen.scalar import placeholder

_0, _1 = placeholder(0), placeholder(1)
WHOLE, PARTS = "whole", "parts"  # how groups divide a leaf


@dataclass(frozen=True)
class Terms:
    """The diagonal of one leaf at its read-out: nodes that are ``known`` there, and what each column draws.

    ``drawn``: an expression of nodes with columns, if anything is.
    """

    readout: Readout
    known: Sequence[Node | None]
    drawn: tuple[sympy.Expr, list[Node]] | None


@dataclass(frozen=True)
class Parts:
    """What an estimator knows of the diagonal of each leaf.

    ``local``: whether a variable's own second derivatives count on the way down from a read-out.  ``joint``: the draws of
    rows depend on each other, so that rows have to be added up before a sum is squared.  ``finish``: what the estimator
    says of a program of that name with these outputs.
    """

    curvature: Curvature
    terms: Sequence[Terms]
    local: Callable[[Node], bool]
    joint: bool
    finish: Callable[[Program, Iterable[str]], Derived]


def member_names(graph: Graph, wrt: Sequence[Input]) -> dict[str, str]:
    """What the input is called that holds the groups' weights of a leaf, by the leaf's name."""
    names = graph.fresh(f"in_groups_{v.name}" for v in wrt)
    return {v.name: name for v, name in zip(wrt, names, strict=True)}


def sums(
    graph: Graph,
    wrt: Sequence[Input],
    asked: Sums,
    estimator: str = "cp",
    setting: Setting = SIGNED,
) -> Derived:
    """``sums[rows?, count]`` of the diagonal over groups, and ``var_sums``; ``var_pairs[rows?, count, count]``, the
    covariances, if asked for.  Per row if every leaf has rows, else over everything.

    The leaves of ``asked`` are :data:`WHOLE` where groups have all of one or nothing (an input with one weight for each
    group), or :data:`PARTS` (a weight for each group and element).  Exact leaves are named as ``diag_<leaf>`` among the
    exact outputs.  ``estimator``: "cp", "gauss_newton", "hutchinson" or "hutchinson_plain".
    """
    divided, count = dict(asked.leaves), asked.count
    parts = _parts(graph, wrt, estimator, setting)
    origin = Origin("sums")
    names = member_names(graph, wrt)
    known: list[Node | None] = []
    drawn: dict[tuple[object, ...], tuple[sympy.Expr, list[Node], list[Node | None]]] = {}
    exact = []
    for terms in parts.terms:
        readout = terms.readout
        leaf = readout.leaf
        if terms.drawn is None:
            exact.append(name_of("diagonal", leaf.name))
        kind = divided.get(leaf.name)
        if kind is None:
            continue
        shape = leaf.element_shape
        member = new_input(names[leaf.name], (count, *shape) if kind == PARTS else (count,), "tangent")
        if kind == PARTS:
            ladder = weights_up(parts.curvature, readout, member, count)
        else:
            ladder = [
                (node, _times(member, weight, count, leaf.name)) for node, weight in weights_up(parts.curvature, readout)
            ]
        variable, weight = ladder[-1]
        for lower, lower_weight in ladder[:-1]:
            own = parts.curvature.self_curvature(lower)
            if own is not None and parts.local(lower):
                known.append(_summed(_0, [own], lower_weight, count, origin))
        diagonal = add(terms.known, origin)
        if diagonal is not None:
            known.append(_summed(_0, [diagonal], weight, count, origin))
        if terms.drawn is not None:
            # leaves that are read at the same place vary together: their weights come first
            expr, nodes = terms.drawn
            key = (variable, expr, *nodes)
            drawn.setdefault(key, (expr, nodes, []))[2].append(weight)
    weighted = [(expr, nodes, w) for expr, nodes, all_w in drawn.values() if (w := add(all_w, origin)) is not None]
    columns = [_summed(expr, nodes, w, count, role_of(origin, "column")) for expr, nodes, w in weighted]
    column = add([rows_summed(c, not parts.joint) for c in columns], origin)
    per_row = all(v.has_rows for v in wrt)
    results = [rows_summed(node, per_row) for node in known if node is not None]
    outputs: list[tuple[str, Node]] = []
    if column is not None:
        mean, variance, together = Statistics().of_sums(column, weighted, asked.covariance, origin)
        results.append(rows_summed(mean, per_row))
        outputs.append((variance_of("sums"), rows_summed(variance, per_row)))
        if together is not None:
            outputs.append((variance_of("pairs"), rows_summed(together, per_row)))
    total = add(results, origin) or constant(0, ((ROWS,) if per_row else ()) + (count,), origin)
    made = [("sums", total), *outputs, *kink_outputs(graph, wrt)]
    program = program_of(graph, program_name("sums", estimator), made)
    return replace(parts.finish(program, exact), joint=frozenset(("sums",) if parts.joint else ()))


def _times(member: Node, weight: Node, count: int, name: str) -> Node:
    """``member[group] * weight[element]``."""
    shape = weight.element_shape
    reads = [(member, (0,)), (weight, range(1, 1 + len(shape)))]
    return over((count, *shape), reads, _0 * _1, (), Origin(name, role="weight"))


def _summed(expr: sympy.Expr, nodes: Sequence[Node], weight: Node, count: int, origin: Origin) -> Node:
    """``expr`` of nodes summed over their elements with the weights of each group."""
    shape = nodes[0].element_shape
    axes = range(1, 1 + len(shape))
    reads = [*((node, axes) for node in nodes), (weight, (0, *axes))]
    return over((count,), reads, expr * placeholder(len(nodes)), shape, origin)


def _parts(graph: Graph, wrt: Sequence[Input], estimator: str, setting: Setting) -> Parts:
    if estimator in ("cp", "gauss_newton"):
        found = swept(graph, wrt, estimator, setting)
        terms = [Terms(readout, readout.diagonals(), found.drawn(readout)) for readout in found.readouts]
        return Parts(found.curvature, terms, found.local, False, found.summary)
    if estimator == "hutchinson":
        made = probed.at_readouts(graph, wrt)
        return Parts(
            made.curvature,
            [Terms(*each) for each in probed.terms(made)],
            lambda node: True,
            made.joint,
            made.summary,
        )
    if estimator == "hutchinson_plain":
        return _plain(graph, wrt)
    raise RequestError(f"sums over groups are estimated by cp, gauss_newton or hutchinson, not by {estimator}")


def _plain(graph: Graph, wrt: Sequence[Input]) -> Parts:
    per_row = all(v.has_rows for v in wrt)
    columns = probes.direction_count(wrt)
    if columns is None:
        raise RequestError("plain Hutchinson sums are over inputs with rows or over parameters, not over both at once")
    terms = [
        Terms(Readout(leaf, leaf, (), 0, ()), (), (_0 * _1, [product, direction]))
        for leaf, product, direction in probes.random_products(graph, wrt)
    ]

    def finish(program: Program, exact: Iterable[str]) -> Derived:
        return Derived(program, "hutchinson_plain", columns, frozenset(exact))

    return Parts(Curvature(graph, list(wrt)), terms, lambda node: True, not per_row, finish)
