"""Which phase each node belongs to, and the split of sums over rows."""

from __future__ import annotations

from collections.abc import Mapping

from cpgen.errors import UnsupportedError
from cpgen.ir.build import axis, make_map, read
from cpgen.ir.nodes import COLUMNS, ROWS, Extent, Input, Map, Node, Origin, Program
from cpgen.ir.rewrite import behind, from_position, in_loop, reading, rebuilt, rewritten
from cpgen.loops.plan import ACCUMULATE, FINISH, ROW, SETUP, is_noise
from cpgen.loops.ranges import check
from cpgen.scalar import cost, placeholder

CHEAP = 4  # operations that are sooner repeated than stored


def split_sums(program: Program) -> tuple[tuple[tuple[str, Node], ...], tuple[Node, ...]]:
    """``(outputs, nodes in order)`` with each sum over rows written as row values and a plain sum of those.

    Row values are computed in parallel over tiles; the plain sum, which is sequential, then has little to do.  A sum
    whose result is larger than what it reads for one row (an outer product) stays as it is.
    """

    def written(node: Map, new: Mapping[Node, Node]) -> Node:
        _check_run_time_axes(node)
        args = reading(node, new)
        found = node if args == list(node.args) else rebuilt(node, args)
        if isinstance(found, Map) and ROWS in found.extents[found.rank :]:
            return _split(found) if _worth_splitting(found) else _recompute(found)
        return found

    split = rewritten(program, written)
    return split.outputs, split.nodes()


def _check_run_time_axes(node: Map) -> None:
    for dim in (ROWS, COLUMNS):
        if node.extents.count(dim) > 1:
            raise UnsupportedError(
                f"{node.name} combines two different {dim.value} with each other; only values of the same "
                f"{dim.value[:-1]} can be combined",
                node.origin,
            )


def _elements(extents: tuple[Extent, ...]) -> int:
    count = 1
    for extent in extents:
        count *= extent if isinstance(extent, int) else 1
    return count


def _worth_splitting(node: Map) -> bool:
    plain = (
        len(node.args) == 1
        and node.expr == placeholder(0)
        and node.args[0].node.has_rows
        and len(node.reduced) == 1
        and not node.guards
    )
    read_per_row = max((_elements(a.node.shape) for a in node.args if a.node.has_rows), default=1)
    return not plain and _elements(node.shape) <= read_per_row


def _recompute(node: Map) -> Node:
    """Read the caller's rows in place of cheap functions of them, such as ``x[n, i]**2``, which then need no memory."""
    args = list(node.args)
    expr = node.expr
    for k, access in enumerate(node.args):
        source = access.node
        if not (isinstance(source, Map) and source.has_rows and _is_cheap(source)):
            continue
        parts = behind(access)
        here = all(
            check(i, e, node.extents) is None
            for a in (access, *parts)
            for i, e in zip(a.index, a.node.shape, strict=True)
        )
        if here:
            expr = expr.xreplace({placeholder(k): from_position(source.expr, len(parts), len(args))})
            args += parts
    return rebuilt(node, args, expr)


def _is_cheap(node: Map) -> bool:
    """Whether a map is a few operations on the caller's own arrays."""
    own = all(isinstance(a.node, Input) and not is_noise(a.node) for a in node.args)
    if not own or node.reduced or node.guards:
        return False
    work = cost(node.expr)
    return not work.calls and work.divs == 0 and work.adds + work.muls <= CHEAP


def _split(node: Map) -> Node:
    """``out[p] = sum_{n, r} f`` as ``rows[n, p] = sum_r f`` and ``out[p] = sum_n rows[n, p]``."""
    rows = node.extents.index(ROWS)
    lead = [a for a in range(node.rank) if node.extents[a] is COLUMNS]
    order = [
        *lead,
        rows,
        *(a for a in range(node.rank) if a not in lead),
        *(a for a in node.reduced if a != rows),
    ]
    place = {old: axis(new) for new, old in enumerate(order)}
    origin = node.origin
    role = f"{origin.role}_row" if origin.role else "row"
    own = Origin(origin.name, origin.file, origin.line, "", (), role)
    each = in_loop(node, [node.extents[a] for a in order], node.rank + 1, place, own)
    positions = (*lead, node.rank, *(a for a in range(node.rank) if a not in lead))
    total = [read(each, *positions)]
    return make_map((*node.shape, ROWS), node.rank, total, placeholder(0), (), node.reduce, origin)


def phases(nodes: tuple[Node, ...]) -> dict[Node, str]:
    """The phase of each node; inputs are "row" or "setup".

    Raises UnsupportedError if a row value needs a sum over rows, which would take a second pass over the rows.
    """
    phase: dict[Node, str] = {}
    for node in nodes:
        if isinstance(node, Input):
            phase[node] = ROW if node.has_rows else SETUP
            continue
        assert isinstance(node, Map)
        summed = next((a.node for a in node.args if phase[a.node] in (ACCUMULATE, FINISH)), None)
        if ROWS in node.extents:
            if summed is not None:
                raise UnsupportedError(
                    f"{node.name} has a value for each row but reads {label(summed)}, which is a sum over all rows; "
                    "this needs a second pass over the data: compute the sum first and pass it in as a parameter",
                    node.origin,
                )
            phase[node] = ROW if node.has_rows else ACCUMULATE
        else:
            phase[node] = SETUP if summed is None else FINISH
    return phase


def label(node: Node) -> str:
    """The user's name of a node."""
    return node.name if isinstance(node, (Input, Map)) else "a value"
