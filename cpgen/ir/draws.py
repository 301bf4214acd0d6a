"""Random arrays on which a program can be tried: several magnitudes, inside the domains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cpgen.ir.nodes import COLUMNS, ROWS, Dim, Input, Map, Node

Array = NDArray[np.floating]

# ends of the interval of one draw, and whether an array that is summed over is divided by the root of its terms.  The
# first is like the weights and the standardised data of a network; the others reach into logarithms, roots, arc
# functions, temperatures, times and rates
INTERVALS: tuple[tuple[float, float, bool], ...] = (
    (-1.0, 1.0, True),
    (0.2, 0.8, True),
    (0.2, 0.8, False),
    (1.2, 3.0, False),
    (-0.1, 0.1, True),
    (-3.0, 3.0, False),
    (5.0, 15.0, False),
    (-1e-3, 1e-3, False),
    (200.0, 400.0, False),
    (1e-4, 1e-3, False),
    (-1e-6, 1e-6, False),
    (1e-7, 1e-6, False),
)
# further draws in which every input has an interval of its own: one of these, so many times (few where that takes long)
MIXED = (0, 1, 3, 6, 8, 9)
TIMES, TIMES_LARGE, LARGE = 120, 20, 10_000


def draws(
    nodes: Sequence[Node], inputs: Sequence[Input], rows: int, columns: int = 0, seed: int = 0
) -> Iterator[dict[str, Array]]:
    """Float64 arrays for ``inputs`` by name, one dictionary for each attempt, always the same for a ``seed`` >= 0.

    ``nodes``: the maps that read the inputs (for the number of terms in the sums over each).  A declared range
    (``Input.low``, ``Input.high``) is kept to by every attempt.
    """
    sizes = {ROWS: rows, COLUMNS: columns}
    terms = _terms(nodes)
    elements = sum(int(np.prod([e for e in node.shape if isinstance(e, int)], dtype=np.int64)) for node in inputs)
    mixed = 0 if len(inputs) < 2 else TIMES if elements * len(nodes) < LARGE else TIMES_LARGE
    for attempt in range(len(INTERVALS) + mixed):
        rng = np.random.default_rng([seed, attempt])
        made = {}
        for node in inputs:
            which = attempt if attempt < len(INTERVALS) else MIXED[int(rng.integers(len(MIXED)))]
            shape = tuple(sizes[e] if isinstance(e, Dim) else e for e in node.shape)
            made[node.name] = _draw(rng, node, shape, which, terms.get(node, 1))
        yield made


def _draw(rng: np.random.Generator, node: Input, shape: tuple[int, ...], which: int, terms: int) -> Array:
    if node.values is not None:
        return np.array(node.values)
    low, high, divided = INTERVALS[which]
    if node.low is not None and node.high is not None:
        if which % 2 and node.low > 0 and node.high / node.low > 10:  # several decades
            return np.clip(np.exp(rng.uniform(np.log(node.low), np.log(node.high), shape)), node.low, node.high)
        return rng.uniform(node.low, node.high, shape)
    if node.low is not None or node.high is not None:
        away = np.abs(rng.uniform(low, high, shape))
        return node.low + away if node.low is not None else node.high - away
    if node.kind == "tangent":
        return rng.uniform(-1.0, 1.0, shape)
    return rng.uniform(low, high, shape) / (np.sqrt(terms) if divided else 1.0)


def _terms(nodes: Sequence[Node]) -> Mapping[Node, int]:
    """For each parameter the most terms of a sum in which its elements are weights of something else."""
    found: dict[Node, int] = {}
    for node in nodes:
        if not isinstance(node, Map) or not node.reduced or len({a.node for a in node.args}) < 2:
            continue
        for access in node.args:
            if isinstance(access.node, Input) and access.node.kind == "param":
                own = {a for index in access.index for a in index.axes}
                extents = [node.extents[a] for a in node.reduced if a in own]
                count = int(np.prod([e for e in extents if isinstance(e, int)], dtype=np.int64))
                found[access.node] = max(found.get(access.node, 1), count)
    return found


__all__ = ["draws"]
