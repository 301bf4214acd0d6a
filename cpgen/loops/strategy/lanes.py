"""Rows side by side in the lanes of a tile."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cpgen.ir.nodes import Map
from cpgen.loops.kernels import Kernel, Loops, Pieces
from cpgen.loops.plan import Stage
from cpgen.loops.products import by_blas
from cpgen.loops.strategy.base import LANES, Strategy

PIECE = 64  # terms that are added up at a time of a product that reads uncached weights transposed


@dataclass(frozen=True)
class Lanes(Strategy):
    """``uncached``: products of at least so many multiplications a row have weights that lie in no cache; those that read
    them transposed, that is in steps of a row of them, are computed in pieces, as stages of their own.  ``blas``:
    likewise those that the caller's BLAS may make.  0 for none."""

    uncached: int = 0
    blas: int = 0

    def alone(self, node: Map) -> bool:
        found = by_blas(node, self.uncached)
        return by_blas(node, self.blas) is not None or (found is not None and found.transposed)

    @property
    def group(self) -> int:
        usual = LANES[self.real]
        return usual if (self.rows or 0) > usual else 0  # the sums of more rows would not fit the registers

    def kernel(self, stage: Stage, tile: int, in_columns: bool) -> Kernel:
        found, nest, root = super().kernel(stage, tile, in_columns), stage.nest, stage.nodes[0]
        if nest is None:
            return found
        assert isinstance(found, Loops)
        product = by_blas(root, self.uncached)
        if product is not None and product.transposed and nest.grouped and product.outs % nest.block_width == 0:
            found = replace(found, pieces=Pieces(product, PIECE))  # blocks that overlap would add some terms twice
        return replace(found, blas=by_blas(root, self.blas))

    @property
    def least_blas(self) -> int:
        return self.blas

    def reasons(self, tile: int) -> tuple[str, ...]:
        rows = f"{tile} rows side by side" if tile > 1 else "one row at a time"
        if self.blas:
            return (f"{rows}, since a BLAS copies the weights of a product for each tile",)
        if self.uncached:
            return (f"{rows}, since the weights of a product lie in no cache and are read for each tile",)
        return (f"{rows}",)
