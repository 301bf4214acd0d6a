"""Products whose weights are read transposed and lie in no cache: piece by piece, the weights of a block side by side."""

from __future__ import annotations

from cpgen.emit.outer import block_start
from cpgen.emit.places import Places
from cpgen.emit.statements import Body, line, loop
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import Map
from cpgen.loops.products import product


def in_pieces(places: Places, root: Map, sums: Sums) -> Body:
    """``out[row, i] = sum_j weights[j, i]*values[row, j]`` in loops over pieces of j, blocks of i and groups of lanes.

    Between pieces the sums stay where their results will be: terms are added in the order of j, as without pieces.
    """
    nest, found = sums.nest, product(root)
    assert found is not None and nest.block == root.rank - 1
    inner, width = places.axes[root.rank], nest.block_width
    first, last = f"{inner}_from", f"{inner}_to"
    name = sums.own[root]
    place, result = f"packed[{inner} - {first}][step]", places.result(root)

    copied = sums.in_block(nest.block, "step", [line(f"{place} = {places.element(found.weights)};")])
    copy = loop(inner, last, [loop("step", width, copied)], first)
    start = f"{first} > 0 ? {result} : {places.zero}"
    added = f"{place} * {places.element(found.values)}"
    group = [
        line(sums.declaration(name)),
        *sums.over_block([line(f"{sums.text(name)} = {start};")]),
        loop(inner, last, sums.over_block([line(f"{sums.text(name)} += {added};")]), first),
        *sums.over_block([line(f"{result} = {sums.text(name)};")]),
    ]
    groups = loop("group", places.filled(), group, step="GROUP")
    variable, begin = block_start(places.axes[nest.block], found.outs, width)
    block = [*begin, line(f"{places.real} packed[{nest.piece}][{width}];"), copy, groups]
    blocks = [loop(variable, found.outs, block, step=width)] if variable else block
    more = f"{first} + {nest.piece}"
    end = more if found.depth % nest.piece == 0 else f"{more} < {found.depth} ? {more} : {found.depth}"
    return [loop(first, found.depth, [line(f"const ptrdiff_t {last} = {end};"), *blocks], step=nest.piece)]
