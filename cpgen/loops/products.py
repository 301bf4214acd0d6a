"""Which maps are products of a weight matrix and the values of rows."""

from __future__ import annotations

from cpgen.ir.nodes import Dim, Map, Node
from cpgen.loops.kernels import Product
from cpgen.loops.plan import is_scale
from cpgen.loops.ranges import access_checks
from cpgen.scalar import placeholder

# Multiplications a row of a product whose weights lie in no cache from tile to tile: they take 16 MiB.  Measured by
# benchmarks/blas_size.py, as is that a BLAS is slower than a program's own loops below, by a tenth and more; above it is
# a tenth slower in float64 and up to a quarter faster in float32.
UNCACHED = {"float64": 1 << 21, "float32": 1 << 22}
LEAST_BLAS = UNCACHED  # from which on a product is handed to a BLAS, where one is asked for


def product(node: Map) -> Product | None:
    """``node`` as a product, or None if it is something else."""
    axes = tuple(e for e in node.extents if not isinstance(e, Dim))
    if not node.has_rows or node.reduce != "sum" or node.guards or len(node.reduced) != 1 or len(axes) != 2:
        return None
    if len(node.args) != 2 or node.expr != placeholder(0) * placeholder(1) or len(node.extents) != node.lead + 2:
        return None
    if any(access_checks(a, node.extents) for a in node.args):
        return None
    weights, values = sorted(node.args, key=lambda a: a.node.has_rows)
    out, depth = node.rank - 1, node.rank
    where = [i.axis for i in weights.index]
    if weights.node.lead or is_scale(weights.node) or where not in ([out, depth], [depth, out]):
        return None
    if values.node.shape[: values.node.lead] != node.shape[: node.lead]:
        return None
    if [i.axis for i in values.index] != [*range(node.lead), depth]:
        return None
    return Product(weights, values, axes[0], axes[1], where == [depth, out])


def by_blas(node: Node, least: int) -> Product | None:
    """``node`` as a product of at least ``least`` multiplications a row, which a BLAS may compute; None if it is not, or
    ``least`` is 0."""
    found = product(node) if least and isinstance(node, Map) else None
    return found if found is not None and found.size >= least else None
