"""Second derivatives along directions: random ones (Hutchinson), or unit ones, which are exact.

A product ``Hv`` takes a tangent forward and one back.  Where only ``v'Hv`` is wanted the way back is not needed: the
Hessian is a sum over the graph's nodes of ``G' M G`` with the Jacobian ``G`` of what the node reads and its local
curvature ``M`` (see :mod:`cpgen.derive.sources`), so with the forward tangents ``t = Gv`` it is the sum of ``t' M t``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from cpgen.derive.colours import coloured_vectors, colours
from cpgen.derive.derived import Derived, Drawn, Statistics, kink_outputs, own_shape, program_of, rows_summed
from cpgen.derive.forward import tangents
from cpgen.derive.linear import Extra, element_index, output_axes, pull
from cpgen.derive.outputs import name_of, variance_of
from cpgen.derive.points import over
from cpgen.derive.reverse import adjoint_origin, gradients
from cpgen.derive.sources import Curvature
from cpgen.derive.units import unit_vectors, with_units
from cpgen.derive.uses import Uses
from cpgen.errors import RequestError
from cpgen.ir.build import add, constant
from cpgen.ir.cost import operations
from cpgen.ir.nodes import COLUMNS, Graph, Input, Map, Node, Origin
from cpgen.ir.noise import elements
from cpgen.scalar import diff, placeholder, vanishes

_0, _1 = placeholder(0), placeholder(1)


def _directions(graph: Graph, wrt: Sequence[Input]) -> dict[Input, Node]:
    """A random direction for every leaf, all of one numbering."""
    offset = 0
    directions: dict[Input, Node] = {}
    for leaf, name in zip(wrt, graph.fresh(f"v_{leaf.name}" for leaf in wrt), strict=True):
        noise = Input(name, (COLUMNS, *leaf.shape), "noise", Origin(name), offset)
        offset += elements(noise)
        directions[leaf] = noise
    return directions


def _units(wrt: Sequence[Input]) -> dict[Input, Node]:
    """The unit directions of every leaf, all of one numbering."""
    offset = 0
    directions: dict[Input, Node] = {}
    for leaf in wrt:
        directions[leaf] = unit_vectors(leaf.element_shape, offset, Origin(f"v_{leaf.name}"))
        offset += _count(leaf)
    return directions


def _colours(graph: Graph, wrt: Sequence[Input], most: int | None = None) -> list[tuple[int, ...]] | None:
    """The colours of each leaf (:mod:`cpgen.derive.colours`); None where together they are more than ``most``."""
    uses = Uses([graph.objective], wrt)
    found = []
    total = len(wrt)  # each has one at least
    for leaf in wrt:
        found.append(colours(graph, leaf, uses))
        total += prod(found[-1]) - 1
        if most is not None and total > most:
            return None
    return found


def _coloured(graph: Graph, wrt: Sequence[Input]) -> tuple[dict[Input, Node], int] | None:
    """Unit directions shared by elements that are not coupled, and how many there are.

    None where every element needs its own.
    """
    numbers = _colours(graph, wrt)
    assert numbers is not None
    total = sum(map(prod, numbers))
    if direction_count(wrt) in (None, total):
        return None
    offset = 0
    directions: dict[Input, Node] = {}
    for leaf, own in zip(wrt, numbers, strict=True):
        directions[leaf] = coloured_vectors(leaf.element_shape, own, offset, Origin(f"v_{leaf.name}"))
        offset += prod(own)
    return directions, total


def colour_count(graph: Graph, wrt: Sequence[Input], most: int) -> int | None:
    """How many directions the exact diagonal and the exact trace take.

    None where that is more than ``most``, and as in :func:`direction_count`.
    """
    numbers = _colours(graph, wrt, most) if direction_count(wrt) is not None else None
    return None if numbers is None else sum(map(prod, numbers))


def quadratic_form(graph: Graph, directions: Mapping[Input, Node]) -> Node:
    """``v'Hv`` of each column: for each row if all leaves have rows, else rows summed."""
    # the closed forms of regions are for factoring; here every map counts for itself
    curvature = Curvature(replace(graph, regions=()), list(directions))
    nodes = curvature.uses.nodes
    moving = {n: t for n, t in zip(nodes, tangents(nodes, directions), strict=True) if t is not None}
    parts: list[Node | None] = []
    for node in nodes:
        tangent = moving.get(node)
        curved = curvature.self_curvature(node) if tangent is not None else None
        if tangent is not None and curved is not None:
            axes = range(len(node.element_shape))
            origin = adjoint_origin(node, "form")
            parts.append(over((), [(curved, axes), (tangent, axes)], _0 * _1**2, node.element_shape, origin))
        if isinstance(node, Map) and node.reduce == "sum":
            parts += _crosses(curvature, node, moving)
    total = add(parts, Origin("form"))
    if total is None:
        total = constant(0, (COLUMNS, *curvature.rows))
    return rows_summed(total, all(v.has_rows for v in directions))


def _crosses(curvature: Curvature, m: Map, moving: Mapping[Node, Node]) -> list[Node]:
    """``2 t_a t_b d2f/da db`` times the adjoint of ``m``, summed, for each pair of its arguments."""
    cotangent = curvature.adjoints.of(m)
    if cotangent is None:
        return []
    found = []
    known = [k for k, a in enumerate(m.args) if a.node in moving]
    for position, a in enumerate(known):
        for b in known[position + 1 :]:
            mixed = diff(diff(m.expr, placeholder(a)), placeholder(b))
            if vanishes(mixed):
                continue
            extras = [Extra(cotangent, output_axes(m))]
            extras += [Extra(moving[m.args[k].node], element_index(m.args[k])) for k in (a, b)]
            factor = 2 * mixed
            for k in range(len(extras)):
                factor *= placeholder(len(m.args) + k)
            dims = (COLUMNS, *curvature.rows)
            found.append(pull(m, [], factor, extras, dims, adjoint_origin(m, "form")))
    return found


def _products(graph: Graph, wrt: Sequence[Input], directions: Mapping[Input, Node]) -> list[Node]:
    """The Hessian times ``directions``, for every leaf."""
    found = [own_shape(g, v) for v, g in zip(wrt, gradients(graph.objective, wrt), strict=True)]
    products = tangents(found, directions)
    return [
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


def unseen(probed: Node) -> float:
    """What :class:`cpgen.derive.derived.Statistics` is to add for variation that was not seen in ``v * Hv``.

    An entry's square is mostly that of its mean; that no element of a variable varies in two draws has this chance.
    """
    return float(0.5 ** min(prod(probed.element_shape) - 1, 50))


def hutchinson_diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``v * Hv`` (Bekas, Kokiopoulou & Saad 2007)."""
    made = random_products(graph, wrt)
    statistics = Statistics()
    outputs: list[tuple[str, Node]] = []
    for leaf, product, direction in made:
        mean, variance = statistics.of(_0 * _1, [product, direction], adjoint_origin(leaf, "diag"), unseen(leaf))
        label = name_of("diagonal", leaf.name)
        outputs += [(label, mean), (variance_of(label), variance)]
    program = program_of(graph, "diagonal_hutchinson_plain", [*outputs, *kink_outputs(graph, wrt)])
    directions = {leaf: direction for leaf, _, direction in made}
    joint = frozenset(name_of("diagonal", leaf.name) for leaf in wrt if not leaf.has_rows)
    drawn = _probe_summary(wrt, directions)
    return Derived(program, "hutchinson_plain", direction_count(wrt), drawn=drawn, joint=joint)


def random_products(graph: Graph, wrt: Sequence[Input]) -> list[tuple[Input, Node, Node]]:
    """Each leaf with the Hessian times a random direction, and the direction."""
    directions = _directions(graph, wrt)
    products = _products(graph, wrt, directions)
    return [(leaf, product, directions[leaf]) for leaf, product in zip(wrt, products, strict=True)]


def hutchinson_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``v . Hv`` per row if every leaf has rows, else over everything (Hutchinson 1989)."""
    directions = _directions(graph, wrt)
    per_row = all(v.has_rows for v in wrt)
    if not per_row and any(v.has_rows for v in wrt):
        raise RequestError(
            "a Hutchinson trace is over inputs with rows or over parameters, not over both at once"
        )
    mean, variance = Statistics().of(_0, [quadratic_form(graph, directions)], Origin("trace"))
    outputs = [("trace", mean), (variance_of("trace"), variance), *kink_outputs(graph, wrt)]
    program = program_of(graph, "trace_hutchinson_plain", outputs)
    joint = frozenset() if per_row else frozenset(("trace",))
    drawn = _probe_summary(wrt, directions)
    return Derived(program, "hutchinson_plain", direction_count(wrt), drawn=drawn, joint=joint)


def _directed(
    graph: Graph,
    name: str,
    wrt: Sequence[Input],
    found: Iterable[tuple[str, Node]],
    units: dict[Input, Node],
    columns: int | None = None,
) -> Derived:
    outputs = tuple(found)
    count = direction_count(wrt) if columns is None else columns
    if count is None:
        raise RequestError("unit directions are for inputs with rows or for parameters, not for both at once")
    program = program_of(graph, name, [*outputs, *kink_outputs(graph, wrt)])
    # where there are only single numbers, testing which column it is costs more than a product with the vector
    read = with_units(program, count)
    return Derived(
        min((read, program), key=lambda p: operations(p, columns=count)),
        "directions",
        count,
        frozenset(label for label, _ in outputs),
        drawn=_probe_summary(wrt, units),
        unit=True,
    )


def directions_diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``diag_<leaf>``: ``e'He`` of each unit vector, or ``v * Hv`` of vectors that uncoupled elements share."""
    shared = _coloured(graph, wrt)
    vectors, count = shared or (_units(wrt), None)
    form = None if shared else quadratic_form(graph, vectors)
    products = _products(graph, wrt, vectors) if shared else []
    outputs = []
    for k, leaf in enumerate(wrt):
        axes = range(len(leaf.element_shape))
        curved: tuple[Node, Sequence[int]] = (products[k], axes) if form is None else (form, ())
        reads = [curved, (vectors[leaf], axes)]
        made = over(leaf.element_shape, reads, _0 * _1, (COLUMNS,), adjoint_origin(leaf, "diag"))
        outputs.append((name_of("diagonal", leaf.name), made))
    return _directed(graph, "diagonal_directions", wrt, outputs, vectors, count)


def directions_trace(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``trace``: ``v'Hv`` summed over unit vectors, shared by uncoupled elements; per row if every leaf has rows."""
    units, count = _coloured(graph, wrt) or (_units(wrt), None)
    total = over((), [(quadratic_form(graph, units), ())], _0, (COLUMNS,), Origin("trace"))
    return _directed(graph, "trace_directions", wrt, [("trace", total)], units, count)


def directions_hessian(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``column_<leaf>[columns, ...]``: the Hessian times each unit vector."""
    units = _units(wrt)
    products = _products(graph, wrt, units)
    outputs = [(name_of("column", leaf.name), product) for leaf, product in zip(wrt, products, strict=True)]
    return _directed(graph, "hessian_directions", wrt, outputs, units)
