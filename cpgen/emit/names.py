"""What the C text calls loop variables and where it says that values lie: names, addresses and the sizes behind them."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from cpgen.code.identifiers import identifier, unique
from cpgen.code.tree import Expression, Name, binary, joined, of
from cpgen.ir.nodes import COLUMNS, ROWS, Dim, Extent, Map, Node
from cpgen.ir.stack import stacked
from cpgen.loops.plan import Plan, Slot, Stage

LETTERS = "ijklmnpqrstuvwxyz"
LANES = Name("LANES")  # the rows of a tile
COLUMNS_BEGIN = "columns_begin"  # the offset at which values for all columns begin


def offset_name(plan: Plan, space: str, value: str) -> str:
    """The enumerator of a value's offset."""
    return f"{identifier(plan.name, 'program').upper()}_{space.upper()}_{value}"


def address(plan: Plan, slot: Slot, value: str, lanes: Expression = LANES, frame: str = "f") -> Expression:
    """The address of a slot; ``lanes`` numbers lie between two elements of a row value."""
    place: Expression = Name(offset_name(plan, slot.space, value))
    scale: Expression | None = {"work": None, "tile": lanes if plan.tile > 1 else None, "rows": of(frame, "chunk")}[
        slot.space
    ]
    if slot.columns:
        begin = Name(offset_name(plan, slot.space, COLUMNS_BEGIN))
        place = binary("+", begin, binary("*", of(frame, "columns"), place))
    if scale is not None:
        place = binary("*", scale, place)
    return joined(of(frame, slot.space), place)


def constant(extent: Extent) -> int:
    assert isinstance(extent, int)
    return extent


def elements(node: Node) -> int:
    """The numbers of ``node`` for one row and column."""
    return prod(node.element_shape)


def axis_names(plan: Plan, stage: Stage) -> dict[int, str]:
    """Loop variables of a map stage by axis: the user's letters where known, else free letters."""
    root = stage.nodes[0]
    if not isinstance(root, Map):
        return {}
    taken: set[str] = set()
    fixed = plan.value_names
    names: dict[int, str] = {}
    for a, extent in enumerate(root.extents):
        if extent is ROWS:
            names[a] = "row"
        elif extent is COLUMNS:
            names[a] = "col"
    for node in stage.nodes:
        if stacked(node) is not None:
            continue
        for a, name in zip(range(root.lead, root.rank), _aligned(node)[node.lead :], strict=True):
            if name and a not in names:
                names[a] = _free(name, taken, fixed)
    for access in root.args:
        for index, name in zip(access.index, _aligned(access.node), strict=True):
            if name and index.axis is not None and index.axis not in names:
                names[index.axis] = _free(name, taken, fixed)
    letters = iter(LETTERS)
    for a in range(len(root.extents)):
        if a not in names:
            letter = next((c for c in letters if c not in taken and c not in fixed), None)
            names[a] = _free(letter or f"i{a}", taken, fixed)
    return names


def member_axes(names: dict[int, str], root: Map, node: Map) -> dict[int, str]:
    """Loop variables of a member of the group of ``root``: its elements are those of ``root``."""
    if node is root or node.lead == root.lead:
        return names
    elements = {node.lead + k: names[root.lead + k] for k in range(len(node.element_shape))}
    runtime = {a: "row" if e is ROWS else "col" for a, e in enumerate(node.extents) if isinstance(e, Dim)}
    return {**elements, **runtime}


def _free(name: str, taken: set[str], fixed: Collection[str]) -> str:
    name = identifier(name)
    return unique(f"{name}_at" if name in taken or name in fixed else name, taken, fixed)


def _aligned(node: Node) -> list[str]:
    """The user's axis names, one for each axis of ``node`` ("" for run-time axes and unknown ones)."""
    axes = node.origin.axes
    shape = node.shape
    for skipped in range(node.lead + 1):
        if len(axes) == len(shape) - skipped:
            padded = [""] * skipped + list(axes)
            return ["" if a < node.lead else name for a, name in enumerate(padded)]
    return [""] * len(shape)
