"""Splitting one large expression into definitions, without changing what it means.

The expression is brought to its canonical form first, so no rule of that form can be missed where a part is read by
name.  Three kinds of subexpression get no name of their own.  What stands inside a branch is not computed outside of it:
a Piecewise and the products of :mod:`cpgen.scalar.together` are shared as wholes or not at all.  Conditions are not
numbers.  And what has an infinite derivative where its value is finite (roots, powers that are no whole numbers, sums
with them), or is a logarithm, stays where it is read: beside its other factors it cancels in the derivative,
``x**(3/2)`` and not ``sqrt(x)**3``, while the chain rule through a name would multiply 0 by infinity.

Up to some size the parts are SymPy's common subexpressions.  What is deeper or larger is cut into parts of a bounded
size as well, by one walk over its graph that does not recurse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import sympy
from sympy import Add, Basic, Expr, Mul, Pow, Symbol

from cpgen.errors import UnsupportedError
from cpgen.scalar import canonical, is_whole, log1p

MOST_DEPTH = 40  # levels from which on an expression is cut: SymPy and the passes recurse
LARGE = 20_000  # operations, written out as a tree, from which on an expression is cut
PART_DEPTH = 3  # levels of one part: the second derivative of nested functions grows with the cube
MOST_SIZE = 60  # operations of one part, written out

Parts = list[tuple[Symbol, Expr]]


def is_beyond(expr: Basic) -> bool:
    """Whether ``expr`` is too deep or too large for what walks it as a tree."""
    depth, size = measures(expr)
    return depth > MOST_DEPTH or size > LARGE


def measures(expr: Basic) -> tuple[int, int]:
    """Levels of ``expr`` and its operations written out as a tree; each node of the graph is visited once."""
    depth: dict[Basic, int] = {}
    size: dict[Basic, int] = {}
    for node in _arguments_first(expr):
        depth[node], size[node] = _measure(node.args, depth, size)
    return depth[expr], size[expr]


def symbols_in(expr: Basic) -> set[Symbol]:
    """The symbols that occur in ``expr``."""
    return {node for node in _arguments_first(expr) if isinstance(node, Symbol)}


def canonical_in(expr: Expr, symbols: Mapping[Symbol, Symbol]) -> Expr:
    """The canonical form of ``expr`` with its symbols replaced, however deep ``expr`` is."""
    replaced = _rebuilt(expr, symbols)
    for node in _arguments_first(replaced):
        # remembered, so that the next level finds its arguments; what is refused, the whole refuses
        if isinstance(node, Expr):
            with suppress(UnsupportedError):
                canonical(node)
    return canonical(replaced)


def split(expr: Expr, names: Iterator[Symbol]) -> tuple[Parts, Expr]:
    """``(parts, rest)``: definitions in an order in which each reads earlier ones only, and what is left of ``expr``.

    ``expr`` is in canonical form and ``names`` gives new symbols.  Substituting the parts back gives ``expr``.
    """
    order = _arguments_first(expr, _has_no_parts)
    uses = _uses(order, expr)
    wholes = {node: sympy.Dummy(real=True) for node in order if _has_no_parts(node)}
    opened = _rebuilt(expr, wholes)
    back: dict[Basic, Basic] = {dummy: whole for whole, dummy in wholes.items()}
    parts: Parts = []

    def named(part: Expr) -> Expr:
        """``part`` by a name, or with names in it where it gets none itself."""
        if _stays(part):
            return _with_named_arguments(part, named)
        name = next(names)
        parts.append((name, part.xreplace(back)))
        return name

    for whole, dummy in wholes.items():
        if uses[whole] > 1:
            back[dummy] = named(dummy)
    if is_beyond(opened):
        known = {
            dummy: measures(whole) if back[dummy] is whole else (1, 0) for whole, dummy in wholes.items()
        }
        return parts, _cut(opened, named, known).xreplace(back)
    place: dict[Basic, Expr] = {}
    shared, (final,) = sympy.cse(
        opened, symbols=sympy.numbered_symbols("_cse", cls=sympy.Dummy), order="none"
    )
    for symbol, part in shared:
        # what was put in place may itself have become part of something singular
        place[symbol] = named(part.xreplace(place))
    return parts, final.xreplace(place).xreplace(back)


def _cut(expr: Expr, named: Callable[[Expr], Expr], known: Mapping[Basic, tuple[int, int]]) -> Expr:
    """``expr`` with what is shared, too deep or too large in it by name; ``known`` measures some of its symbols."""
    order = _arguments_first(expr)
    uses = _uses(order, expr)
    new: dict[Basic, Basic] = {}
    depth = {node: levels for node, (levels, _) in known.items()}
    size = {node: operations for node, (_, operations) in known.items()}

    def by_name(part: Expr) -> Expr:
        read = named(part)
        depth[read], size[read] = measures(read)
        return read

    def joined(node: Basic, args: list[Basic]) -> Basic:
        made = _with_arguments(node, args)
        depth[made], size[made] = _measure(args, depth, size)
        return made

    for node in order:
        args = [new[a] for a in node.args]
        while isinstance(node, (Add, Mul)) and sum(size[a] + 1 for a in args) > MOST_SIZE:
            groups = [joined(node, group) if len(group) > 1 else group[0] for group in _groups(args, size)]
            fewer = [by_name(g) if size[g] > MOST_SIZE // 4 else g for g in groups]
            if len(fewer) == len(args) and sum(map(size.__getitem__, fewer)) >= sum(map(size.__getitem__, args)):
                break  # what is left gets no name
            args = fewer
        if not args:
            depth.setdefault(node, 1)
            size.setdefault(node, 0)
        made = joined(node, args) if args else node
        common = uses[node] > 1 and (size[made] > 1 or made.is_Function)
        if node is not expr and (common or depth[made] >= PART_DEPTH or size[made] > MOST_SIZE):
            made = by_name(made)
        new[node] = made
    return new[expr]


def _groups(args: list[Basic], size: Mapping[Basic, int]) -> list[list[Basic]]:
    """Neighbours together, up to half of what a part may hold."""
    groups: list[list[Basic]] = [[]]
    held = 0
    for a in args:
        if held and held + size[a] + 1 > MOST_SIZE // 2:
            groups.append([])
            held = 0
        groups[-1].append(a)
        held += size[a] + 1
    return groups


def _stays(expr: Expr) -> bool:
    """Whether ``expr`` is read in place; no limit is so large that nothing could be compiled any more."""
    return _is_singular(expr) and not (
        measures(expr)[0] > MOST_DEPTH // 2 or measures(expr)[1] > 2 * MOST_SIZE
    )


def _is_singular(expr: Expr) -> bool:
    return _has_root(expr) or (
        any(map(_is_singular, expr.args))
        if isinstance(expr, Mul)
        else _is_singular(expr.base)
        if isinstance(expr, Pow)
        else isinstance(expr, (sympy.log, log1p))
    )


def _has_root(expr: Expr) -> bool:
    """Whether a power that is no whole number is a factor of ``expr`` or of one of its terms."""
    if isinstance(expr, (Add, Mul)):
        return any(_has_root(part) for part in expr.args)
    return isinstance(expr, Pow) and (not expr.exp.is_Integer or _has_root(expr.base))


def _with_named_arguments(expr: Expr, named: Callable[[Expr], Expr]) -> Expr:
    """A singular expression with the composite arguments of its singular functions as parts of their own."""
    if isinstance(expr, (Add, Mul)):
        return expr.func(*(_with_named_arguments(part, named) for part in expr.args))
    if not _is_singular(expr):
        return expr
    composite = (Add, sympy.Function)
    return expr.func(
        *(named(a) if isinstance(a, composite) and not _is_singular(a) else a for a in expr.args)
    )


def _has_no_parts(expr: Basic) -> bool:
    return isinstance(expr, sympy.Piecewise) or is_whole(expr)


def _arguments_first(expr: Basic, is_leaf: Callable[[Basic], bool] = lambda _: False) -> list[Basic]:
    """The different nodes of ``expr``, each after its arguments, without recursion."""
    order: list[Basic] = []
    done: set[Basic] = set()
    stack = [(expr, False)]
    while stack:
        node, expanded = stack.pop()
        if node in done:
            continue
        if expanded or is_leaf(node):
            done.add(node)
            order.append(node)
        else:
            stack.append((node, True))
            stack += [(a, False) for a in reversed(node.args) if a not in done]
    return order


def _uses(order: list[Basic], expr: Basic) -> dict[Basic, int]:
    """How often each node is read: as an argument of one of ``order``, or as ``expr`` itself."""
    uses = dict.fromkeys(order, 0)
    uses[expr] += 1
    for node in order:
        for a in node.args:
            if a in uses:
                uses[a] += 1
    return uses


def _rebuilt(expr: Basic, new: Mapping[Basic, Basic]) -> Expr:
    """``expr.xreplace(new)``, each node of the graph visited once."""
    made = dict(new)
    for node in _arguments_first(expr, made.__contains__):
        if node not in made:
            args = [made[a] for a in node.args]
            made[node] = _with_arguments(node, args)
    return made[expr]


def _with_arguments(node: Basic, args: Sequence[Basic]) -> Basic:
    same = len(args) == len(node.args) and all(n is o for n, o in zip(args, node.args, strict=True))
    return node if same else node.func(*args)


def _measure(
    args: Sequence[Basic], depth: Mapping[Basic, int], size: Mapping[Basic, int]
) -> tuple[int, int]:
    if not args:
        return 1, 0
    return 1 + max(depth[a] for a in args), sum(size[a] for a in args) + max(len(args) - 1, 1)
