"""Trade time for memory: compute an elementwise value where it is read instead of keeping it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cpgen.ir.build import always_valid
from cpgen.ir.nodes import Access, Map, Node, Program
from cpgen.ir.rewrite import behind, from_position, rebuilt
from cpgen.ir.stack import viewed
from cpgen.scalar import operations, placeholder

MAX_OPERATIONS = 120
MAX_ARGUMENTS = 16


def recompute(program: Program, memory: Callable[[Program], int]) -> Program:
    """Fold elementwise maps into all their readers, one after the other, as long as ``memory`` of the program shrinks.

    Values stay what they are; outputs stay outputs.  Readers do not grow beyond what can be read.
    """
    best, size = program, memory(program)
    k = 0
    while True:
        candidates = [m for m in best.maps() if _elementwise(m) and all(m is not n for _, n in best.outputs)]
        if k >= len(candidates):
            return best
        trial = _folded(best, candidates[k])
        smaller = size if trial is None else memory(trial)
        if trial is not None and smaller < size:
            best, size = trial, smaller
        else:
            k += 1


def _elementwise(node: Map) -> bool:
    return not node.reduced and not node.guards and node.reduce == "sum"


def _folded(program: Program, target: Map) -> Program | None:
    """``program`` with ``target`` inside its readers; None if a reader cannot take it."""
    new: dict[Node, Node] = {}
    for node in program.nodes():
        if not isinstance(node, Map):
            new[node] = node
            continue
        args: list[Access] = []
        changes = {}
        size = operations(node.expr)
        for k, access in enumerate(node.args):
            if access.node is not target:
                changes[placeholder(k)] = placeholder(len(args))
                args.append(Access(new[access.node], access.index))
                continue
            size += operations(target.expr)
            valid = all(always_valid(i, e, node.extents) for i, e in zip(access.index, target.shape, strict=True))
            if viewed(node) is not None or not valid or size > MAX_OPERATIONS:
                return None
            changes[placeholder(k)] = from_position(target.expr, len(target.args), len(args))
            args += behind(access)  # what is below the target stays as it is
        if len(args) > MAX_ARGUMENTS and any(a.node is target for a in node.args):
            return None
        new[node] = rebuilt(node, args, node.expr.xreplace(changes))
    return replace(program, outputs=tuple((name, new[node]) for name, node in program.outputs))
