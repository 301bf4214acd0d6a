"""Rewrites that change how something is computed and not what: graph in, graph out, in the order of :data:`PASSES`."""

from cpgen.simplify.hoist import hoist
from cpgen.simplify.inline import inline
from cpgen.simplify.merge import merge_sums
from cpgen.simplify.narrow import narrow
from cpgen.simplify.recompute import recompute
from cpgen.simplify.share import share

PASSES = (inline, narrow, merge_sums, hoist, share)

__all__ = ["PASSES", "hoist", "inline", "merge_sums", "narrow", "recompute"]
