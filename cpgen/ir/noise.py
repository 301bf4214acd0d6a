"""Random signs from a counter: the same bits in NumPy, C and CUDA, for any threads and any split of the rows.

Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with key = seed and
counter = (sample, row, node, block).  One call yields the signs of 128 elements.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cpgen.ir.nodes import COLUMNS, ROWS, Input, Program

# IDENTITY is the exact answer, PART some columns of it, to be added up by the caller
INDEPENDENT, HADAMARD, IDENTITY, PART = 0, 1, 2, 3
DESIGNS = {"independent": INDEPENDENT, "hadamard": HADAMARD, "identity": IDENTITY}
DESIGN_NODE = 0xFFFFFFFF  # counter word reserved for the column permutation of a Hadamard design

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_SPREAD = 0x9E3779B1
_LOW = np.uint64(0xFFFFFFFF)


def philox(counter: tuple[object, ...], seed: int) -> list[NDArray[np.uint64]]:
    """Four arrays of 32-bit words (held in uint64) for broadcastable counter words and a 64-bit seed."""
    words = [np.asarray(c, dtype=np.uint64) & _LOW for c in counter]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)]
    for _ in range(10):
        product0 = words[0] * np.uint64(_MULTIPLIERS[0])
        product1 = words[2] * np.uint64(_MULTIPLIERS[1])
        words = [
            (product1 >> np.uint64(32)) ^ words[1] ^ key[0],
            product1 & _LOW,
            (product0 >> np.uint64(32)) ^ words[3] ^ key[1],
            product0 & _LOW,
        ]
        key = [(k + np.uint64(w)) & _LOW for k, w in zip(key, _WEYL, strict=True)]
    return words


def node_key(name: str) -> int:
    """The counter word of a noise input: from its name, so that other nodes do not change its bits."""
    return crc32(name.encode()) & 0x7FFFFFFF


def noise_inputs(program: Program) -> tuple[Input, ...]:
    return tuple(i for i in program.inputs if i.kind == "noise")


def elements(node: Input) -> int:
    """Noise elements of one row."""
    return int(np.prod(node.element_shape, dtype=np.int64))


def variance_of_column(columns: int) -> float:
    """``1 / (K - 1)``: times their sum of squared deviations the variance of one of K columns; 0 where none is seen."""
    return 1.0 / (columns - 1) if columns > 1 else 0.0


def variance_of_columns(columns: int) -> float:
    """``1 / (K (K - 1))``: times their sum of squared deviations the variance of the mean of K independent columns."""
    return 1.0 / (columns * (columns - 1)) if columns > 1 else 0.0


def noise_count(program: Program) -> int:
    """p: noise elements per row (unused ones in between included), the number of columns an exact answer needs."""
    return max((i.offset + elements(i) for i in noise_inputs(program)), default=0)


def part(design: int, program: Program) -> int:
    """``design`` for a caller who adds up the columns of exact answers himself, whatever number of them this call has."""
    return PART if design == IDENTITY or program.unit else design


def noise_order(program: Program) -> int:
    """Order of the Hadamard design: the power of two >= p."""
    return 1 << max(noise_count(program) - 1, 0).bit_length()


def noise_array(
    node: Input,
    program: Program,
    seed: int,
    rows: int,
    columns: int,
    design: int,
    first_row: int = 0,
    first_column: int = 0,
) -> NDArray[np.float64]:
    """The noise of one input, shaped like it: +-1, or unit vectors for the identity design."""
    count = elements(node)
    n_rows = rows if ROWS in node.shape else 1
    k = (first_column + np.arange(columns, dtype=np.uint64))[:, None, None]
    n = (np.arange(n_rows, dtype=np.uint64) + np.uint64(first_row if ROWS in node.shape else 0))[
        None, :, None
    ]
    e = np.arange(count, dtype=np.uint64)[None, None, :]
    j = e + np.uint64(node.offset)
    if design in (IDENTITY, PART):
        value = np.broadcast_to(k == j, (columns, n_rows, count)).astype(np.float64)
    else:
        order = np.uint64(noise_order(program))
        sample = k // order if design == HADAMARD else k
        negative = _sign_bits(node, seed, sample, n, e)
        if design == HADAMARD:
            words = philox((sample, n, DESIGN_NODE, 0), seed)
            negative = negative ^ _odd(j & shuffled(k % order, int(order), words))
        value = np.where(negative, -1.0, 1.0)
    shape = tuple(e if isinstance(e, int) else {COLUMNS: columns, ROWS: rows}[e] for e in node.shape)
    return np.ascontiguousarray(value.reshape(shape))


def shuffled(
    numbers: NDArray[np.uint64], order: int, words: list[NDArray[np.uint64]]
) -> NDArray[np.uint64]:
    """A bijection of ``0 .. order - 1`` (a power of two) keyed by four words: any few numbers become a random subset.

    Each round multiplies, adds, folds the upper half onto the lower, and exchanges random pairs (the swap-or-not shuffle
    of Hoang, Morris & Rogaway, CRYPTO 2012), which the small orders need: their affine maps are few.
    """
    mask, half = np.uint64(order - 1), np.uint64(max(order.bit_length() // 2, 1))
    mixed = [(w * np.uint64(_SPREAD) & _LOW) ^ (words[(i + 1) % 4] >> np.uint64(7)) for i, w in enumerate(words)]
    keys = [*words, *mixed]
    x = numbers
    for key in keys:
        turned = (key >> np.uint64(16)) | (key << np.uint64(16) & _LOW)
        x = (x * (key | np.uint64(1)) + turned) & mask
        x = x ^ (x >> half)
        partner = x ^ (key >> np.uint64(9) & mask)
        swap = turned >> (np.maximum(x, partner) & np.uint64(31)) & np.uint64(1)
        x = np.where(swap.astype(bool), partner, x)
    return x


def _odd(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each has an odd number of bits set (``np.bitwise_count`` came with NumPy 2)."""
    for shift in (32, 16, 8, 4, 2, 1):
        words = words ^ (words >> np.uint64(shift))
    return (words & np.uint64(1)).astype(bool)


def _sign_bits(
    node: Input, seed: int, sample: NDArray[np.uint64], row: NDArray[np.uint64], element: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    words = np.stack(np.broadcast_arrays(*philox((sample, row, node_key(node.name), element // 128), seed)))
    word = ((element % 128) // 32).astype(np.int64)
    picked = np.take_along_axis(words, np.broadcast_to(word, words.shape[1:])[None], axis=0)[0]
    return ((picked >> (element % np.uint64(32))) & np.uint64(1)).astype(bool)
