"""Kinds of kernels, as data: what computes a stage, and how its points are dealt out.

A strategy chooses them (:mod:`cpgen.loops.strategy`); emission has a translation of each and chooses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from cpgen.ir.nodes import Access


@dataclass(frozen=True)
class Product:
    """``out[row, i] = sum_j weights[i, j]*values[row, j]``, with or without a leading axis of columns.

    ``transposed``: the weights are stored as ``weights[j, i]``.
    """

    weights: Access
    values: Access
    outs: int
    depth: int
    transposed: bool

    @property
    def size(self) -> int:
        """Multiplications a row."""
        return self.outs * self.depth

    @property
    def pitch(self) -> int:
        """Numbers between two rows of the weights."""
        pitch = self.weights.node.shape[-1]
        assert isinstance(pitch, int)
        return pitch


@dataclass(frozen=True)
class Team:
    """How a nest outside the row phase is dealt out to the threads of a processor.

    The outermost ``loops`` are dealt out as one; 0: one thread does all.  ``simd``: the only loop is dealt out to
    vectors, too.  ``wait``: threads wait for each other behind it.
    """

    loops: int
    simd: bool
    wait: bool


@dataclass(frozen=True)
class Pieces:
    """A product that reads its weights transposed, in pieces of ``terms`` terms of all sums: the weights of a block are
    copied side by side, and what they add is added up, before the next."""

    product: Product
    terms: int


@dataclass(frozen=True)
class Loops:
    """The loops of the stage's nest, on a processor.

    ``one_row``: a tile is one row, so that there are no lanes; sums that are not computed side by side keep one, without
    which compilers are tempted to gather what they add.  ``pieces``: loops in another order, see there.  ``blas``: the
    product that the caller's BLAS makes in place of the loops, where one is passed in.
    """

    one_row: bool = False
    pieces: Pieces | None = None
    blas: Product | None = None


@dataclass(frozen=True)
class Launch:
    """The blocks that a kernel without rows is launched with: enough for ``items``, or for so many of each column, of
    which a block has ``each``; ``shared`` bytes of shared memory for each block."""

    items: int
    by_columns: bool
    each: int
    shared: int = 0


@dataclass(frozen=True)
class Threads:
    """The loops of the stage's nest, dealt out to the threads of a GPU.

    ``batch``: the stage is in a loop over columns and computes those of a batch together; ``at_once``: with the sums of
    all of them at once, where otherwise it takes a column at a time.  ``squares``: rows are moved square by square
    through shared memory.  ``order``: the output axes that are dealt out, up to the one along which neighbouring threads
    go.  ``launch``: of a stage that is a kernel of its own; None for a part of the row phase.
    """

    batch: bool = False
    at_once: bool = False
    squares: bool = False
    order: tuple[int, ...] = ()
    launch: Launch | None = None


@dataclass(frozen=True)
class Panels:
    """An outer product summed over rows: a block of a GPU owns a square of the output, and what it reads of a row,
    ``operands``, passes through shared memory.

    ``tiles``: squares down and across.  ``gemm``: the caller's library may compute it.
    """

    operands: tuple[Access, ...]
    tiles: tuple[int, int]
    launch: Launch
    gemm: bool


@dataclass(frozen=True)
class Terms:
    """Another sum over rows: all threads of a block of a GPU compute terms of ``width`` elements, whose owners add them
    up."""

    width: int
    launch: Launch


@dataclass(frozen=True)
class Multiply:
    """A product of weights and the values of all rows and columns of a chunk, a launch of its own on a GPU.

    ``gemm``: the caller's library may compute it.
    """

    product: Product
    gemm: bool


Kernel = Loops | Threads | Panels | Terms | Multiply
