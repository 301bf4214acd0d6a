"""Rewrites that change how something is computed and not what: graph in, graph out."""

from cpgen.simplify.inline import inline

PASSES = (inline,)

__all__ = ["PASSES", "inline"]
