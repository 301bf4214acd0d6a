"""Cutting an expression that is too deep or too large for one map into parts."""

from __future__ import annotations

from collections.abc import Callable

import sympy
from sympy.logic.boolalg import Boolean

MOST_DEPTH = 40  # levels from which on an expression is cut: SymPy and the passes recurse
PART_DEPTH = 3  # levels of one part: the second derivative of nested functions grows with the cube
MOST_SIZE = 60  # operations of one part, written out
LARGE = 20_000  # operations, written out as a tree, from which on an expression is cut


def measures(expr: sympy.Basic) -> tuple[int, int]:
    """Levels of ``expr`` and its operations written out as a tree; each node of the graph is visited once."""
    depth: dict[sympy.Basic, int] = {}
    size: dict[sympy.Basic, int] = {}
    for node in _arguments_first(expr):
        depth[node] = 1 + max((depth[a] for a in node.args), default=0)
        size[node] = sum(size[a] for a in node.args) + max(0, len(node.args) - 1, int(bool(node.args)))
    return depth[expr], size[expr]


def symbols_in(expr: sympy.Basic) -> set[sympy.Symbol]:
    """The symbols that occur in ``expr``."""
    return {node for node in _arguments_first(expr) if isinstance(node, sympy.Symbol)}


def _arguments_first(expr: sympy.Basic) -> list[sympy.Basic]:
    """The different nodes of ``expr``, each after its arguments, without recursion."""
    order: list[sympy.Basic] = []
    done: set[sympy.Basic] = set()
    stack = [(expr, False)]
    while stack:
        node, expanded = stack.pop()
        if node in done:
            continue
        if expanded:
            done.add(node)
            order.append(node)
        else:
            stack.append((node, True))
            stack += [(a, False) for a in reversed(node.args) if a not in done]
    return order


def cut(expr: sympy.Expr, define: Callable[[sympy.Expr], sympy.Expr]) -> sympy.Expr:
    """``expr`` with what is too deep or too large in it replaced by what ``define`` makes of it, arguments first.

    Nothing inside a Piecewise is cut out of it: there it is computed under a condition only.
    """
    new: dict[sympy.Basic, sympy.Basic] = {}
    depth: dict[sympy.Basic, int] = {}
    size: dict[sympy.Basic, int] = {}
    guarded: set[sympy.Basic] = set()
    order = _arguments_first(expr)
    for node in reversed(order):
        if isinstance(node, (sympy.Piecewise, Boolean)) or node in guarded:
            guarded.update(node.args)

    def defined(part: sympy.Expr) -> sympy.Expr:
        read = define(part)
        depth[read], size[read] = 1, 0
        return read

    def measured(made: sympy.Basic, args: list[sympy.Basic]) -> sympy.Basic:
        depth[made] = 1 + max((depth.get(a, 1) for a in args), default=0)
        size[made] = sum(size.get(a, 0) for a in args) + max(0, len(args) - 1, int(bool(args)))
        return made

    for node in order:
        args = [new[a] for a in node.args]
        free = node not in guarded and not isinstance(node, Boolean)
        if free and isinstance(node, (sympy.Add, sympy.Mul)):
            while len(args) > 1 and sum(size[a] + 1 for a in args) > MOST_SIZE:
                args = [
                    measured(node.func(*group), group) if len(group) > 1 else group[0] for group in _groups(args, size)
                ]
                args = [defined(a) if size[a] > MOST_SIZE // 4 else a for a in args]
        made = measured(node if args == list(node.args) else node.func(*args), args)
        if free and node is not expr and (depth[made] >= PART_DEPTH or size[made] > MOST_SIZE):
            made = defined(made)
        new[node] = made
    result = new[expr]
    assert isinstance(result, sympy.Expr)
    return result


def _groups(args: list[sympy.Basic], size: dict[sympy.Basic, int]) -> list[list[sympy.Basic]]:
    """Neighbours together, up to half of what a part may hold."""
    groups: list[list[sympy.Basic]] = [[]]
    held = 0
    for a in args:
        if held and held + size[a] + 1 > MOST_SIZE // 2:
            groups.append([])
            held = 0
        groups[-1].append(a)
        held += size[a] + 1
    return groups
