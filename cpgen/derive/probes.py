"""Hessian-vector products of every leaf at once: with random directions (Hutchinson), or with unit ones (exact)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cpgen.derive.derived import Derived, Drawn, Statistics, kink_outputs, own_shape, program_of
from cpgen.derive.forward import tangents
from cpgen.derive.points import over
from cpgen.derive.reverse import adjoint_origin, gradients
from cpgen.errors import RequestError
from cpgen.ir.build import add, constant
from cpgen.ir.nodes import COLUMNS, Graph, Input, Node, Origin
from cpgen.ir.noise import elements
from cpgen.scalar import placeholder

_0, _1 = placeholder(0), placeholder(1)


def _probes(graph: Graph, wrt: Sequence[Input]) -> tuple[dict[Input, Node], list[Node]]:
    """Random directions for every leaf and the Hessian times them."""
    offset = 0
    directions: dict[Input, Node] = {}
    for leaf in wrt:
        noise = Input(f"v_{leaf.name}", (COLUMNS, *leaf.shape), "noise", Origin(f"v_{leaf.name}"), offset)
        offset += elements(noise)
        directions[leaf] = noise
    found = [own_shape(g, v) for v, g in zip(wrt, gradients(graph.objective, wrt), strict=True)]
    products = tangents(found, directions)
    return directions, [
        h if h is not None else constant(0, (COLUMNS, *v.shape)) for v, h in zip(wrt, products, strict=True)
    ]


def direction_count(wrt: Sequence[Input]) -> int | None:
    """How many unit directions cover ``wrt``: its elements, of one row for inputs.

    None where leaves with and without rows are mixed: a direction of a parameter is shared by rows whose answers are
    kept apart.
    """
    if any(v.has_rows for v in wrt) and not all(v.has_rows for v in wrt):
        return None
    return sum(_count(v) for v in wrt)


def _count(leaf: Input) -> int:
    total = 1
    for extent in leaf.element_shape:
        total *= extent
    return total


def _probe_summary(wrt: Sequence[Input], directions: dict[Input, Node]) -> tuple[Drawn, ...]:
    return tuple(Drawn(directions[v].name, f"direction of {v.name}", _count(v)) for v in wrt)  # type: ignore[attr-defined]


def hutchinson_diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``v * Hv`` (Bekas, Kokiopoulou & Saad 2007)."""
    directions, products = _probes(graph, wrt)
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    for leaf, product in zip(wrt, products, strict=True):
        mean, variance = statistics.of(_0 * _1, [product, directions[leaf]], adjoint_origin(leaf, "diag"))
        outputs += [(f"diag_{leaf.name}", mean), (f"var_diag_{leaf.name}", variance)]
    program = program_of(graph, "diagonal_hutchinson", [*outputs, *kink_outputs(graph, wrt)])
    return Derived(program, "hutchinson", direction_count(wrt), drawn=_probe_summary(wrt, directions))


def hutchinson_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
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
    mean, variance = Statistics().of(_0, [total], Origin("trace"))
    outputs = [("trace", mean), ("var_trace", variance), *kink_outputs(graph, wrt)]
    program = program_of(graph, "trace_hutchinson", outputs)
    return Derived(program, "hutchinson", direction_count(wrt), drawn=_probe_summary(wrt, directions))


def _directed(
    graph: Graph, name: str, wrt: Sequence[Input], found: Iterable[tuple[str, Node]], units: dict[Input, Node]
) -> Derived:
    outputs = tuple(found)
    program = program_of(graph, name, [*outputs, *kink_outputs(graph, wrt)])
    return Derived(
        program,
        "directions",
        direction_count(wrt),
        frozenset(label for label, _ in outputs),
        drawn=_probe_summary(wrt, units),
        unit=True,
    )


def directions_diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``diag_<leaf>``: ``e * He`` summed over unit vectors."""
    units, products = _probes(graph, wrt)
    outputs = []
    for leaf, product in zip(wrt, products, strict=True):
        axes = range(len(leaf.element_shape))
        reads = [(product, axes), (units[leaf], axes)]
        label = f"diag_{leaf.name}"
        outputs.append((label, over(leaf.element_shape, reads, _0 * _1, (COLUMNS,), adjoint_origin(leaf, "diag"))))
    return _directed(graph, "diagonal_directions", wrt, outputs, units)


def directions_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``trace``: ``e . He`` summed over unit vectors; per row if every leaf has rows."""
    units, products = _probes(graph, wrt)
    parts: list[Node | None] = []
    for leaf, product in zip(wrt, products, strict=True):
        axes = range(len(leaf.element_shape))
        reads = [(product, axes), (units[leaf], axes)]
        parts.append(over((), reads, _0 * _1, (COLUMNS, *leaf.element_shape), Origin("trace")))
    total = add(parts, Origin("trace"))
    assert total is not None
    return _directed(graph, "trace_directions", wrt, [("trace", total)], units)


def directions_hessian(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``column_<leaf>[columns, ...]``: the Hessian times each unit vector."""
    units, products = _probes(graph, wrt)
    outputs = [(f"column_{leaf.name}", product) for leaf, product in zip(wrt, products, strict=True)]
    return _directed(graph, "hessian_directions", wrt, outputs, units)
