"""The graph language: inputs, maps, and what a recurrence carries from one step to the next.

A program is a list of named output nodes.  A node is

* an :class:`Input` - an array the caller supplies (data, a parameter, noise),
* a :class:`Map` - ``out[p] = reduce_r f(arg_0, ..., arg_k)``: a scalar expression ``f`` evaluated at every point of a
  rectangular loop space and reduced over its trailing axes.  ``p`` are the first ``rank`` loop axes, ``r`` the rest, or
* a :class:`Carry` - another node one step back along one of its axes, zero before the first step.  It is a leaf, so that
  the graph has no cycle, and its ``body`` may depend on it: that is a recurrence.

Each argument of a map is an :class:`Access`: a node read at affine functions of the loop axes.  Loop axes are positions
(0, 1, 2, ...), so there is nothing to rename and nothing to capture.  Elementwise functions, broadcasting, contractions,
convolutions, slices and their derivatives are all maps, and maps are closed under differentiation (:mod:`cpgen.derive`).

What the language means exactly:

* An index ``(sum_a coefficient_a * axis_a + offset) / divisor`` is *valid* when the division is exact and the result lies
  inside the extent it indexes.  An access with an invalid index reads the value 0.
* A :class:`Guard` is a pair (index, extent); a loop point with an invalid guard contributes nothing to the reduction.
* ``reduce`` is "sum" or "max".  "max" exists to stabilise exponentials; nothing is differentiated through it.
* An extent is an ``int`` or one of the two run-time extents ``ROWS`` (independent data rows) and ``COLUMNS`` (noise
  columns of one sweep).  COLUMNS, when present in a shape, is its first axis; ROWS is the first axis after it.  Both are
  only ever indexed by the plain loop axis.
* A COLUMNS loop axis may occur in the index of an ordinary axis and in a guard.  There it counts all columns, of which a
  call may compute a part (those from ``first_column`` on): column ``c`` of a sweep over unit vectors concerns element
  ``c``.  A ROWS loop axis may not.

* Nodes that depend on each other through carries are computed step by step along one axis (:mod:`cpgen.ir.recur`).

What it refuses: gathers by data, control flow other than inside ``f``.

Maps that compute the same of the same arguments are the same object, with the origin of the first: build them only with
:func:`cpgen.ir.build.make_map`.  Two exceptions: maps that read nothing belong to no graph, so those of different origins
are different objects (their values are folded into readers, so little is computed twice for it); and two inputs are never
the same.  A map is remembered by its first argument, and so goes when the model goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import sympy


class Dim(Enum):
    """A run-time extent."""

    ROWS = "rows"
    COLUMNS = "columns"

    def __repr__(self) -> str:
        return self.name


ROWS = Dim.ROWS
COLUMNS = Dim.COLUMNS

Extent: TypeAlias = int | Dim


@dataclass(frozen=True)
class Origin:
    """Where a node comes from, for messages and comments.

    ``name`` is the user's name, ``role`` says what this node is to it ("", "adjoint", "p", ...), ``equation`` is the
    definition in index notation, ``axes`` the user's names of the output axes.
    """

    name: str
    file: str = ""
    line: int = 0
    equation: str = ""
    axes: tuple[str, ...] = ()
    role: str = ""


@dataclass(frozen=True)
class Index:
    """The affine index ``(sum_a coefficients[a] * axis_a + offset) / divisor``; terms are sorted by axis."""

    terms: tuple[tuple[int, int], ...] = ()
    offset: int = 0
    divisor: int = 1

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.terms, self.offset, self.divisor))

    @cached_property
    def axis(self) -> int | None:
        """The loop axis if this index is exactly that axis, else None."""
        if self.divisor == 1 and self.offset == 0 and len(self.terms) == 1 and self.terms[0][1] == 1:
            return self.terms[0][0]
        return None

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The loop axes that occur in this index."""
        return tuple(axis for axis, _ in self.terms)


@dataclass(frozen=True)
class Guard:
    """A loop point counts only if ``index`` is an integer in ``[0, extent)``."""

    index: Index
    extent: Extent


class Node:
    """Common part of inputs and maps: ``shape``, ``origin``; equal and hashed by identity, so that nodes are keys."""

    shape: tuple[Extent, ...]
    origin: Origin

    @cached_property
    def readers(self) -> dict[tuple[object, ...], Map]:
        """The maps whose first argument is this node, which makes equal ones the same object: see :func:`make_map`."""
        return {}

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "readers"}

    @cached_property
    def has_rows(self) -> bool:
        return ROWS in self.shape

    @cached_property
    def has_columns(self) -> bool:
        return COLUMNS in self.shape

    @cached_property
    def lead(self) -> int:
        """Number of leading run-time axes (COLUMNS and/or ROWS)."""
        return sum(isinstance(extent, Dim) for extent in self.shape)

    @cached_property
    def element_shape(self) -> tuple[int, ...]:
        """The shape without its leading run-time axes."""
        return tuple(extent for extent in self.shape if not isinstance(extent, Dim))


@dataclass(frozen=True, eq=False)
class Input(Node):
    """An array the caller supplies.

    ``kind`` is "data", "param", "constant" (an array that belongs to the model: ``values``, in float64), "noise" (random
    signs drawn by the runtime, see :mod:`cpgen.noise`) or "cotangent" / "tangent" (a direction supplied by the caller).
    For noise, ``offset`` is the position of its first element among all noise elements of one row, which orthogonal
    designs need.  ``low``, ``high`` and ``unit`` are what the user declared about the values (None and "": nothing): test
    data keep to them, and they are shown; nothing is computed from them.
    """

    name: str
    shape: tuple[Extent, ...]
    kind: str
    origin: Origin
    offset: int = 0
    low: float | None = None
    high: float | None = None
    unit: str = ""
    values: NDArray[np.floating] | None = None

    @cached_property
    def _held(self) -> dict[np.dtype, NDArray[np.floating]]:
        return {}

    def held(self, real: np.dtype) -> NDArray[np.floating]:
        """The values of a constant as an array of ``real``, always the same one."""
        assert self.values is not None
        if real not in self._held:
            with np.errstate(over="ignore"):  # refused where a model is compiled
                self._held[real] = np.ascontiguousarray(self.values, real).reshape(self.values.shape)
        return self._held[real]

    @property
    def range_text(self) -> str:
        """What was declared about the values, such as "0 to 5 V"; "" if nothing was."""
        low, high = ("" if end is None else f"{end:g}" for end in (self.low, self.high))
        ends = f"{low} to {high}" if low and high else f"from {low}" if low else f"to {high}" if high else ""
        return f"{ends} {self.unit}".strip() if ends else f"in {self.unit}" if self.unit else ""


@dataclass(frozen=True)
class Access:
    """Read ``node`` at ``index`` (one :class:`Index` for each axis of the node)."""

    node: Node
    index: tuple[Index, ...]


@dataclass(frozen=True, eq=False)
class Map(Node):
    """``out[p] = reduce_r expr(args)`` over the loop space ``extents``; see the module docstring.

    ``expr`` is a scalar SymPy expression in the placeholders ``_0 .. _{len(args)-1}`` (:func:`cpgen.scalar.placeholder`).
    """

    extents: tuple[Extent, ...]
    rank: int
    args: tuple[Access, ...]
    expr: sympy.Expr
    guards: tuple[Guard, ...] = ()
    reduce: str = "sum"
    origin: Origin = field(default_factory=lambda: Origin(""))

    @cached_property
    def shape(self) -> tuple[Extent, ...]:  # type: ignore[override]
        return self.extents[: self.rank]

    @cached_property
    def reduced(self) -> tuple[int, ...]:
        """The reduction axes."""
        return tuple(range(self.rank, len(self.extents)))

    @property
    def name(self) -> str:
        role = self.origin.role
        return f"{self.origin.name}_{role}" if role else self.origin.name


@dataclass(frozen=True, eq=False)
class Carry(Node):
    """``out[.., t, ..] = body[.., t - step, ..]``, zero where that lies outside; ``t`` is element axis ``along``.

    ``step`` is 1, or -1 for a recurrence that runs from the end.  The body is a node of the same shape, usually one that
    reads the carry: so the carry is made first and closed, once, when the body is there.
    """

    shape: tuple[Extent, ...]
    along: int
    step: int
    origin: Origin

    @property
    def name(self) -> str:
        return f"{self.origin.name}_{self.origin.role}"

    @property
    def axis(self) -> int:
        """The position of the sequential axis in the shape."""
        return self.lead + self.along

    @property
    def is_closed(self) -> bool:
        return "_body" in self.__dict__

    @property
    def body(self) -> Node:
        found: Node = self.__dict__["_body"]
        return found

    def close(self, body: Node) -> None:
        """Say what is carried."""
        assert not self.is_closed and body.shape == self.shape, (self.name, body.shape, self.shape)
        self.__dict__["_body"] = body


@dataclass(frozen=True)
class Region:
    """A group of maps whose curvature is known in closed form as a whole.

    ``kind`` "logsumexp": ``output[q] = log sum_c exp(source[q, c])``; "softmax": ``output[q, c]``, both along ``axis`` of
    ``source`` (a position in ``source.shape``).  ``softmax`` is the node of the probabilities, shaped like ``source``.
    ``nodes`` are the maps inside, which inject no noise of their own.
    """

    kind: str
    source: Node
    output: Node
    softmax: Node
    axis: int
    nodes: tuple[Map, ...]


@dataclass(frozen=True)
class Program:
    """Named outputs over a graph; ``inputs`` in a stable order (the caller's first, then noise).

    ``whole``: columns of unit vectors that make up its exact answer, None if they never do.  ``unit``: it computes
    nothing else.
    """

    name: str
    outputs: tuple[tuple[str, Node], ...]
    inputs: tuple[Input, ...]
    origin: Origin = field(default_factory=lambda: Origin(""))
    whole: int | None = None
    unit: bool = False

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each after its arguments, in a deterministic order."""
        return topological([node for _, node in self.outputs])

    def maps(self) -> tuple[Map, ...]:
        return tuple(node for node in self.nodes() if isinstance(node, Map))

    def carries(self) -> tuple[Carry, ...]:
        return carries(self.nodes())


def carries(nodes: Iterable[Node]) -> tuple[Carry, ...]:
    """The carries among ``nodes``."""
    return tuple(node for node in nodes if isinstance(node, Carry))


def topological(roots: list[Node]) -> tuple[Node, ...]:
    """Nodes reachable from ``roots``, arguments first (iterative, so that deep graphs do not hit the recursion limit).

    A carry comes before what reads it; its body, which may do so, is a root of its own.
    """
    order: list[Node] = []
    done: set[Node] = set()
    waiting = list(roots)
    for root in waiting:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if node in done:
                continue
            if expanded or not isinstance(node, Map):
                done.add(node)
                order.append(node)
                if isinstance(node, Carry) and node.is_closed:
                    waiting.append(node.body)
                continue
            stack.append((node, True))
            stack.extend(
                (access.node, False) for access in reversed(node.args) if access.node not in done
            )
    return tuple(order)


@dataclass(frozen=True)
class Graph:
    """A lowered model: what the derivations start from.

    ``objective`` has shape ``(ROWS,)`` or ``()`` (a model without rows) and is the quantity summed over rows.  With
    ``reduction == "mean"`` it is already multiplied by the input ``row_scale`` (kind "scale", 1 / number of rows).
    ``variables`` are the declared inputs and parameters in order of declaration, ``definitions`` the user's named nodes.
    ``loss_argument`` is the node in which the user declared the loss to be convex (for Gauss-Newton), or None.
    """

    name: str
    objective: Node
    variables: tuple[Input, ...]
    definitions: tuple[tuple[str, Node], ...]
    regions: tuple[Region, ...] = ()
    reduction: str = "sum"
    loss_argument: Node | None = None
    origin: Origin = field(default_factory=lambda: Origin(""))

    def variable(self, name: str) -> Input:
        return next(node for node in self.variables if node.name == name)

    def fresh(self, names: Iterable[str]) -> tuple[str, ...]:
        """``names`` told apart from those of the variables, and from each other, by numbers after them."""
        taken = {v.name for v in self.variables}
        made = []
        for name in names:
            candidate, number = name, 1
            while candidate in taken:
                number += 1
                candidate = f"{name}_{number}"
            taken.add(candidate)
            made.append(candidate)
        return tuple(made)
