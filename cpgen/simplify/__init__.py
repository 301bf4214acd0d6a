"""Rewrites that change how something is computed and not what: graph in, graph out, in the order of :data:`PASSES`."""

from __future__ import annotations

from cpgen.ir.cost import operations
from cpgen.ir.nodes import Program
from cpgen.simplify.gram import gram
from cpgen.simplify.hoist import hoist
from cpgen.simplify.inline import inline
from cpgen.simplify.merge import merge_sums
from cpgen.simplify.narrow import narrow
from cpgen.simplify.recompute import recompute
from cpgen.simplify.share import share
from cpgen.simplify.unify import unify
from cpgen.simplify.unroll import unroll

PASSES = (inline, narrow, merge_sums, hoist, share)
WORTH_WRITING_OUT = 0.9  # of the operations, at most; loops are shorter to read


def simplified(program: Program, units: int | None = None, symmetric: bool = False) -> Program:
    """``program`` after all passes, its small arrays written out as numbers where that saves operations.

    ``units``: the number of columns if they are unit directions and nothing else; ``symmetric``: see :func:`unroll`.
    """
    program = unify(program)
    looped, written = gram(program, units) if units else program, unroll(program, units, symmetric)
    for rewrite in PASSES:
        looped = rewrite(looped)
    if written is program:
        return looped
    for rewrite in PASSES:
        written = rewrite(written)
    fewer = operations(written, columns=units or 1) <= WORTH_WRITING_OUT * operations(looped, columns=units or 1)
    return written if fewer else looped


__all__ = [
    "PASSES",
    "gram",
    "hoist",
    "inline",
    "merge_sums",
    "narrow",
    "recompute",
    "share",
    "simplified",
    "unify",
    "unroll",
]
