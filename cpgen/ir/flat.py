"""A graph as plain tuples, for pickling and copying: nodes refer to each other by number, so depth costs no recursion."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import sympy
from numpy.typing import NDArray

from cpgen.ir.build import make_map
from cpgen.ir.nodes import (
    Access,
    Carry,
    Extent,
    Graph,
    Guard,
    Index,
    Input,
    Map,
    Node,
    Origin,
    Region,
    topological,
)
from cpgen.scalar import UserFunction, kinds

FlatMap: TypeAlias = tuple[
    tuple[Extent, ...],
    int,
    tuple[tuple[int, tuple[Index, ...]], ...],
    sympy.Expr,
    tuple[Guard, ...],
    str,
    Origin,
]
FlatInput: TypeAlias = tuple[
    str, tuple[Extent, ...], str, Origin, int, tuple[float | None, float | None], str, NDArray[np.floating] | None
]
FlatCarry: TypeAlias = tuple[tuple[Extent, ...], int, int, Origin, int]  # the last: what is carried
FlatRegion: TypeAlias = tuple[str, int, int, int, int, tuple[int, ...]]
FlatGraph: TypeAlias = tuple[
    str,
    tuple[FlatInput | FlatMap | FlatCarry, ...],
    int,
    tuple[int, ...],
    tuple[tuple[str, int], ...],
    tuple[FlatRegion, ...],
    str,
    int | None,
    Origin,
]


def flat(graph: Graph) -> FlatGraph:
    """The graph as tuples."""
    regions = [node for r in graph.regions for node in (r.source, r.output, r.softmax, *r.nodes)]
    loss = [graph.loss_argument] if graph.loss_argument is not None else []
    named = [node for _, node in graph.definitions]
    nodes = topological([graph.objective, *graph.variables, *named, *regions, *loss])
    number = {node: k for k, node in enumerate(nodes)}

    def record(node: Node) -> FlatInput | FlatMap | FlatCarry:
        if isinstance(node, Input):
            ends = (node.low, node.high)
            return (node.name, node.shape, node.kind, node.origin, node.offset, ends, node.unit, node.values)
        if isinstance(node, Carry):
            return (node.shape, node.along, node.step, node.origin, number[node.body])
        assert isinstance(node, Map)
        args = tuple((number[a.node], a.index) for a in node.args)
        return (node.extents, node.rank, args, node.expr, node.guards, node.reduce, node.origin)

    return (
        graph.name,
        tuple(record(node) for node in nodes),
        number[graph.objective],
        tuple(number[v] for v in graph.variables),
        tuple((name, number[node]) for name, node in graph.definitions),
        tuple(
            (r.kind, number[r.source], number[r.output], number[r.softmax], r.axis, tuple(number[n] for n in r.nodes))
            for r in graph.regions
        ),
        graph.reduction,
        None if graph.loss_argument is None else number[graph.loss_argument],
        graph.origin,
    )


def graph_of(flattened: FlatGraph) -> Graph:
    """The graph behind :func:`flat`, of new inputs."""
    name, records, objective, variables, definitions, regions, reduction, loss, origin = flattened
    nodes: list[Node] = []
    for record in records:
        if len(record) == 8:
            label, shape, kind, place, offset, (low, high), unit, held = record
            nodes.append(Input(label, shape, kind, place, offset, low, high, unit, held))
        elif len(record) == 5:
            nodes.append(Carry(*record[:4]))
        else:
            extents, rank, args, expr, guards, reduce, place = record
            read = [Access(nodes[k], index) for k, index in args]
            nodes.append(make_map(extents, rank, read, expr, guards, reduce, place))
    for node, record in zip(nodes, records, strict=True):
        if isinstance(node, Carry):
            body = record[4]
            assert isinstance(body, int)
            node.close(nodes[body])

    def map_of(k: int) -> Map:
        node = nodes[k]
        assert isinstance(node, Map)
        return node

    def input_of(k: int) -> Input:
        node = nodes[k]
        assert isinstance(node, Input)
        return node

    return Graph(
        name,
        nodes[objective],
        tuple(input_of(k) for k in variables),
        tuple((label, nodes[k]) for label, k in definitions),
        tuple(
            Region(kind, nodes[source], nodes[output], nodes[softmax], axis, tuple(map_of(k) for k in inside))
            for kind, source, output, softmax, axis, inside in regions
        ),
        reduction,
        None if loss is None else nodes[loss],
        origin,
    )


def fingerprint(graph: Graph) -> str | None:
    """SHA-256 of all of a graph that a derivation may depend on: equal graphs have equal ones in every process.

    Numbers count with all their digits; where in a file something was written, and what the line said, does not count.
    None for a graph with functions of the user's own: the code behind their names cannot be told apart.
    """
    name, records, *numbers, place = flat(graph)
    written: list[object] = []
    for record in records:
        if len(record) == 8:
            values = None if record[7] is None else hashlib.sha256(record[7].tobytes()).hexdigest()
            written.append((*record[:3], _without_place(record[3]), *record[4:7], values))
        elif len(record) == 5:
            written.append((*record[:3], _without_place(record[3]), record[4]))
        else:
            if any(issubclass(kind, UserFunction) for kind in kinds(record[3])):
                return None
            written.append((*record[:3], _spelled_exactly(record[3]), *record[4:6], _without_place(record[6])))
    whole = (name, written, numbers, _without_place(place))
    return hashlib.sha256(repr(whole).encode(errors="surrogateescape")).hexdigest()


def _without_place(origin: Origin) -> Origin:
    return replace(origin, file="", line=0, equation="")


@lru_cache(maxsize=1024)
def _spelled_exactly(expr: sympy.Expr) -> str:
    """``str`` would round numbers to 15 digits."""
    return str(sympy.srepr(expr))
