"""Diagonals carried from a variable down to what it depends on, along one path.

What is done to a diagonal matrix by the Jacobians of a chain of maps is known where the chain keeps it diagonal, and once
more in the first map that mixes elements, of which sums of squared derivatives give the diagonal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cpgen.derive.linear import one_to_one, pull_back, reads_one, single_path
from cpgen.derive.uses import Use, Uses
from cpgen.ir.build import axis, elementwise, make_map
from cpgen.ir.nodes import Access, Map, Node, Origin
from cpgen.scalar import diff, placeholder

_0, _1 = placeholder(0), placeholder(1)


@dataclass(frozen=True)
class Term:
    """The part of a diagonal that is ``top`` carried down ``chain`` (from the bottom up) by squared derivatives."""

    top: Node
    chain: tuple[Use, ...] = ()


def carries_diagonal(uses: Uses, inside: Collection[Node], node: Node, top: Node) -> list[Use] | None:
    """The uses from ``node`` up to ``top`` if a diagonal matrix at ``top`` has a known diagonal at ``node``.

    There must be one path.  As long as each output of its maps reads one element, a diagonal matrix stays diagonal; the
    first map that mixes elements leaves a matrix of which only the diagonal is known (sums of squared derivatives), and
    that passes only through maps in which each element is read once.  No chain leads through maps ``inside`` regions.
    """
    chain: list[Use] = []
    current = top
    is_diagonal = True
    # from the top, where most chains that do not carry break off
    while current is not node:
        if not isinstance(current, Map) or current.reduce != "sum" or current in inside:
            return None
        found = [Use(current, k) for k, access in enumerate(current.args) if uses.depends(access.node, node)]
        if len(found) != 1 or not (single_path if is_diagonal else one_to_one)(current, found[0].position):
            return None
        is_diagonal = is_diagonal and reads_one(current, found[0].position)
        chain.append(found[0])
        current = current.args[found[0].position].node
    return chain[::-1]


def down(chain: Sequence[Use], cotangent: Node | None, power: int, origin: Origin) -> Node | None:
    for use in reversed(chain):
        if cotangent is not None:
            cotangent = pull_back(use.map, use.position, cotangent, power=power, lift=True, origin=origin)
    return cotangent


def variance(chain: Sequence[Use], p: Node, weight: Node, origin: Origin) -> Node | None:
    """``weight`` times the variance of the derivatives ``J`` under ``p``, if one map leads from ``node`` to every logit.

    Summed as ``p (J - mean)**2``: the difference ``sum p J**2 - mean**2`` cancels where one logit has all the weight.
    """
    if len(chain) != 1:
        return None
    mean = pull_back(chain[0].map, chain[0].position, p, lift=True, origin=origin)
    if not isinstance(mean, Map) or mean.reduce != "sum" or mean.guards or len(mean.extents) != mean.rank + 1:
        return None
    places = [k for k, a in enumerate(mean.args) if a.node is p]
    if len(places) != 1 or mean.args[places[0]].index[-1].axis != mean.rank or mean.extents[-1] != p.shape[-1]:
        return None
    share = placeholder(places[0])
    slope = diff(mean.expr, share)
    if share in slope.free_symbols:
        return None
    args = [*mean.args, Access(mean, tuple(axis(a) for a in range(mean.rank)))]
    expr = share * (slope - placeholder(len(mean.args))) ** 2
    total = make_map(mean.extents, mean.rank, args, expr, origin=origin)
    return elementwise(_0 * _1, [weight, total], origin)
