"""Becker-LeCun: diagonals carried down by squared derivatives, with the loss exact at the top.

Becker & LeCun 1989, with the exact diagonal of the log-sum-exp as in HesScale (Elsayed, Farrahi, Dangel & Mahmood, ICML
2024).  Deterministic and biased: off-diagonal curvature is ignored on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.derive.carries import close, opened
from cpgen.derive.derived import Derived, kink_outputs, own_shape, program_of
from cpgen.derive.linear import pull_back
from cpgen.derive.outputs import name_of
from cpgen.derive.reverse import adjoint_origin
from cpgen.derive.sources import Curvature, RegionSource
from cpgen.ir.build import add
from cpgen.ir.nodes import Graph, Input, Node

BIASED = "Becker-LeCun recursion: off-diagonal curvature is ignored on the way down"


def diagonal(graph: Graph, wrt: Sequence[Input]) -> Derived:
    """``diag_<leaf>`` by the recursion."""
    curvature = Curvature(graph, list(wrt))
    regions = {s.variables[0]: s for s in curvature.sources() if isinstance(s, RegionSource)}
    known: dict[Node, Node | None] = {}
    uses = curvature.uses
    carried = {
        c: opened(c, {*c.shape, *curvature.rows}, -c.step, "diag") for c in uses.carries if uses.active(c)
    }
    for node in reversed(curvature.uses.nodes):
        if not curvature.uses.active(node):
            continue
        lift = not (isinstance(node, Input) and not node.has_rows)
        parts: list[Node | None] = []
        for use in curvature.uses.of(node):
            above = known.get(use.map)
            if above is not None:
                origin = adjoint_origin(node, "diag")
                parts.append(pull_back(use.map, use.position, above, power=2, lift=lift, origin=origin))
        parts.append(curvature.self_curvature(node, lift=lift))
        parts += [carried[carry] for carry in uses.carried(node)]
        region = regions.get(node)
        if region is not None:
            parts.append(region.diagonal)
        known[node] = add(parts, adjoint_origin(node, "diag"))
    for carry, diagonal_of in carried.items():
        close(diagonal_of, known.get(carry))
    outputs = [(name_of("diagonal", v.name), own_shape(known.get(v), v)) for v in wrt]
    program = program_of(graph, "diagonal_becker_lecun", [*outputs, *kink_outputs(graph, wrt)])
    names = frozenset(name_of("diagonal", v.name) for v in wrt)
    return Derived(program, "becker_lecun", 0, names, biased=BIASED)
