"""Products whose weights are read transposed and lie in no cache: piece by piece, the weights of a block side by side."""

from __future__ import annotations

from cpgen.code.tree import Assign, Body, Element, Let, Name, Select, Type, binary, let, loop, number
from cpgen.emit.outer import block_start
from cpgen.emit.places import Places
from cpgen.emit.sums import Sums
from cpgen.ir.nodes import Map
from cpgen.loops.kernels import Pieces


def in_pieces(places: Places, root: Map, sums: Sums, by: Pieces) -> Body:
    """``out[row, i] = sum_j weights[j, i]*values[row, j]`` in loops over pieces of j, blocks of i and groups of lanes.

    Between pieces the sums stay where their results will be: terms are added in the order of j, as without pieces.
    """
    nest, found = sums.nest, by.product
    assert nest.block == root.rank - 1
    inner, width = places.axes[root.rank], nest.block_width
    first, last = Name(f"{inner}_from"), Name(f"{inner}_to")
    name = sums.own[root]
    packed = Name("packed")
    counter = sums.counter(nest.block, "step")
    place = Element(Element(packed, binary("-", Name(inner), first)), counter)
    result, total = places.result(root), sums.total(name)

    copied = sums.in_block(nest.block, counter.text, [Assign(place, places.element(found.weights))])
    copy = loop(inner, last, [loop(counter.text, width, copied)], first)
    start = Select(binary(">", first, number(0)), result, places.zero)
    added = binary("*", place, places.element(found.values))
    group = [
        sums.declaration(name),
        *sums.over_block([Assign(total, start)]),
        loop(inner, last, sums.over_block([Assign(total, added, "+=")]), first),
        *sums.over_block([Assign(result, total)]),
    ]
    groups = loop("group", places.filled(), group, step=Name("GROUP"))
    variable, begin = block_start(places.axes[nest.block], found.outs, width)
    pieces = Let(Type(places.real), packed.text, None, (number(by.terms), number(width)))
    block = [*(begin if variable else []), pieces, copy, groups]
    blocks = [loop(variable, found.outs, block, step=width)] if variable else block
    more, depth = binary("+", first, number(by.terms)), number(found.depth)
    end = more if found.depth % by.terms == 0 else Select(binary("<", more, depth), more, depth)
    return [loop(first.text, depth, [let(last.text, end), *blocks], step=by.terms)]
