"""Results: a value, its standard error, and what it took to get them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import RequestError

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Estimate(np.lib.mixins.NDArrayOperatorsMixin):
    """One estimated array.

    In arithmetic, NumPy's functions, indexing and ``float()`` it stands for ``value``; what comes out is NumPy's, without
    an error bar, for that of a computed quantity is not known here.

    ``value`` and ``stderr`` have the same shape; ``value +- 2 stderr`` is made to hold the truth in 95 percent of runs
    (zero where the answer is exact, NaN where one sample gives no error bar).  From few samples ``stderr`` is longer than
    the estimated standard deviation of ``value``, by Student's t; what rests on it is in docs/estimators.md.
    ``samples``: noise columns used.  ``exact``: no sampling error.  ``biased``: why the method is biased, or "".
    ``kinks``: evaluation points that sat exactly on a kink (where a one-sided convention decided).  ``reason``: why this
    ``method``, where the library chose it.
    """

    name: str
    value: Array
    stderr: Array
    samples: int
    exact: bool
    seed: int
    method: str
    design: str
    backend: str
    biased: str = ""
    kinks: int = 0
    reason: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        if copy is None:  # NumPy 1 does not know it as "only if needed"
            return np.asarray(self.value, dtype)
        return np.array(self.value, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        values = [given.value if isinstance(given, Estimate) else given for given in inputs]
        if any(isinstance(given, Estimate) for given in options.get("out", ())):
            raise RequestError(f"{self.name} is a result and is not written to: take np.array(estimate)")
        return getattr(ufunc, method)(*values, **options)

    def __getitem__(self, index: Any) -> Any:
        return self.value[index]

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __str__(self) -> str:
        return f"{self._line()}\n  {_origin(self)}"

    __repr__ = __str__

    def _line(self) -> str:
        shape = f" {self.shape}" if self.shape else ""
        if self.exact:
            note = f" (exact, {self.samples} columns)" if self.samples else " (exact)"
        elif self.samples == 1:
            note = " (1 sample, no error bar)"
        elif not self.samples:
            note = ""
        else:
            note = f" +- {_numbers(self.stderr)} ({self.samples} samples)"
        return f"{self.name}{shape}: {_numbers(self.value)}{note}" + (f" BIASED: {self.biased}" if self.biased else "")


def _origin(e: Estimate) -> str:
    """How an estimate came about, and what to beware of."""
    noise = f", {e.design} columns of seed {e.seed}" if e.design in ("hadamard", "independent") else ""
    chosen = f"\n  chosen: {e.reason}" if e.reason and not e.exact else ""
    return f"method {e.method}{noise}; {e.dtype}, {e.backend}{_kinks(e.kinks)}{chosen}"


def _kinks(count: int) -> str:
    return f"; {count} evaluation point{'s' * (count > 1)} on a kink, where a convention decided" if count else ""


def _shaped(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" if shape else name for name, shape in shapes.items())


def _numbers(array: Array) -> str:
    if array.ndim == 0:
        return f"{float(array):.6g}"
    return np.array2string(array, precision=4, threshold=8, edgeitems=2)


class Estimates(Mapping[str, Estimate]):
    """Estimates by name (of a leaf, or of a pair of leaves joined by a comma), from one run."""

    def __init__(self, items: Mapping[str, Estimate]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> Estimate:
        if name not in self._items:
            raise RequestError(f"no result named {name!r}; there are: {', '.join(self._items)}")
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def exact(self) -> bool:
        """Whether every entry is exact."""
        return all(e.exact for e in self._items.values())

    @property
    def biased(self) -> str:
        return next((e.biased for e in self._items.values() if e.biased), "")

    @property
    def kinks(self) -> int:
        return max((e.kinks for e in self._items.values()), default=0)

    def flat(self) -> tuple[Array, Array]:
        """All values, and all standard errors, as two vectors in order."""
        values = np.concatenate([e.value.ravel() for e in self._items.values()])
        errors = np.concatenate([e.stderr.ravel() for e in self._items.values()])
        return values, errors

    def __str__(self) -> str:
        lines = [e._line() for e in self._items.values()]
        return "\n".join([*lines, *(f"  {_origin(e)}" for e in list(self._items.values())[:1])])

    __repr__ = __str__


class Traces(Estimates):
    """Traces by name of a leaf or group, from one run, so that they share noise.

    ``total``: the trace, where they are those of all leaves.  ``covariance[row?, a, b]``, if it was asked for: of the
    errors of the groups ``a`` and ``b`` in order, with the squares of the standard errors on its diagonal; that of a sum
    with weights ``w`` is ``w @ covariance @ w``.  NaN where one sample tells nothing, zero where an answer is exact.
    """

    def __init__(
        self, items: Mapping[str, Estimate], covariance: Array | None = None, total: Estimate | None = None
    ) -> None:
        super().__init__(items)
        self.covariance, self.total = covariance, total

    def __str__(self) -> str:
        if self.total is None:
            return super().__str__()
        return f"{super().__str__()}\ntotal {self.total._line()}"

    __repr__ = __str__


@dataclass(frozen=True)
class Sketch:
    """Rank-one factors of the Hessian with signs: ``H ~ (P^T P - Q^T Q) * scale``, one row of P and Q a column of noise.

    ``p[leaf]`` and ``q[leaf]`` have shape (columns, *leaf shape).  ``scale`` is 1/K, or 1 when the columns
    are unit vectors. ``answers`` lists the pairs of leaves whose block the factors estimate without bias: where noise was
    dropped, the other blocks are refused.
    """

    p: Mapping[str, Array]
    q: Mapping[str, Array]
    scale: float
    exact: bool
    samples: int
    seed: int
    backend: str
    answers: frozenset[tuple[str, str]]
    dropped: tuple[str, ...] = field(default=())
    kinks: int = 0

    def __str__(self) -> str:
        shapes = _shaped({name: factor.shape[1:] for name, factor in self.p.items()})
        kind = "exact" if self.exact else f"seed {self.seed}"
        without = f"\n  without the noise of {', '.join(self.dropped)}" if self.dropped else ""
        return (
            f"sketch of the Hessian by {shapes}: (P'P - Q'Q) * {self.scale:.6g}, {self.samples} columns each ({kind})\n"
            f"  {self.backend}{_kinks(self.kinks)}{without}"
        )

    __repr__ = __str__

    def block(self, a: str, b: str) -> Array:
        """The block of leaves ``a`` and ``b``, shape (*a, *b).

        Raises RequestError if noise that this block needs was dropped, or a name is unknown.
        """
        for name in (a, b):
            if name not in self.p:
                raise RequestError(f"the sketch has no {name!r}; it has {', '.join(self.p)}")
        if (a, b) not in self.answers and (b, a) not in self.answers:
            raise RequestError(
                f"the block ({a}, {b}) needs noise that was dropped ({', '.join(self.dropped)}): "
                "its estimate would be wrong. Ask for it in sketch(pairs=...) or take the whole sketch"
            )
        shape = (*self.p[a].shape[1:], *self.p[b].shape[1:])
        parts = [
            f[a].reshape(f[a].shape[0], -1).T @ f[b].reshape(f[b].shape[0], -1) for f in (self.p, self.q)
        ]
        return ((parts[0] - parts[1]) * self.scale).reshape(shape)

    def matrix(self) -> Array:
        """The dense matrix over all leaves in order.  Raises RequestError like :meth:`block`."""
        names = list(self.p)
        rows = []
        for a in names:
            size = self.p[a][0].size
            rows.append(np.concatenate([self.block(a, b).reshape(size, -1) for b in names], axis=1))
        return np.concatenate(rows, axis=0)

    def matvec(self, vectors: Mapping[str, Array]) -> dict[str, Array]:
        """The sketch times a vector given leaf by leaf, without forming the matrix."""
        for a in self.p:
            for b in self.p:
                if (a, b) not in self.answers and (b, a) not in self.answers:
                    self.block(a, b)
        weights = []
        for factor in (self.p, self.q):
            weights.append(
                sum(f.reshape(f.shape[0], -1) @ np.ravel(vectors[name]) for name, f in factor.items())
            )
        return {
            name: self.scale
            * (np.tensordot(weights[0], self.p[name], 1) - np.tensordot(weights[1], self.q[name], 1))
            for name in self.p
        }


@dataclass(frozen=True)
class Hessian:
    """The exact Hessian by blocks, ``blocks[a, b]`` for each pair in order, and as a dense matrix.

    ``kinks``: evaluation points that sat exactly on a kink.
    """

    blocks: Mapping[tuple[str, str], Array]
    sizes: Mapping[str, tuple[int, ...]]
    rows: Mapping[str, int | None]
    kinks: int = 0
    method: str = ""
    backend: str = ""

    def __str__(self) -> str:
        rows = sorted({count for count in self.rows.values() if count is not None})
        many = f", {rows[0]} row{'s' * (rows[0] != 1)}" if rows else ""
        total = sum(int(np.prod(shape, dtype=np.int64)) for shape in self.sizes.values())
        how = f"\n  method {self.method}, {self.backend}" if self.method else "\n  "
        return f"Hessian by {_shaped(self.sizes)}: {total} x {total}{many}, exact{how}{_kinks(self.kinks)}".rstrip()

    __repr__ = __str__

    def matrix(self) -> Array:
        """``H[i, j]`` over all leaves in order, or ``H[row, i, j]`` if every leaf has rows (given as arrays).

        The order of rows and columns: the leaves as ``wrt`` names them (``list(hessian.sizes)``; by default as they were
        declared, for an expression by name), each leaf's elements as in ``array.ravel()``, the last index fastest.
        Raises RequestError if only some leaves have rows: their blocks have different shapes.
        """
        leading = set(self.rows.values())
        if len(leading) > 1:
            raise RequestError("some leaves have rows and some do not: take .blocks instead of one matrix")
        count_rows = next(iter(leading))
        names = list(self.sizes)
        count = {n: int(np.prod(self.sizes[n], dtype=np.int64)) for n in names}
        total = sum(count.values())
        lead = () if count_rows is None else (count_rows,)
        result = np.zeros((*lead, total, total))
        start = dict(zip(names, np.cumsum([0, *(count[n] for n in names)]), strict=False))
        for (a, b), block in self.blocks.items():
            flat = block.reshape(*lead, count[a], count[b])
            i, j = start[a], start[b]
            result[..., i : i + count[a], j : j + count[b]] = flat
            result[..., j : j + count[b], i : i + count[a]] = np.swapaxes(flat, -1, -2)
        return result


def pair_name(a: str, b: str) -> str:
    """The name of a block in :class:`Estimates`."""
    return f"{a},{b}"
