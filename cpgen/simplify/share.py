"""Compute once what several maps compute: calls, and long sums and products, over the axes that they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sympy

from cpgen.ir.build import always_valid, axis, make_map, substitute
from cpgen.ir.nodes import Access, Dim, Extent, Index, Map, Node, Origin, Program
from cpgen.ir.rewrite import reading, rebuilt, rewritten
from cpgen.scalar import (
    canonical,
    free_symbols,
    kinds,
    logistic_density,
    operations,
    placeholder,
    remembered,
    renamed,
    sech2,
    sigmoid,
    softplus,
    wide,
)

# additions: below, reading a stored value costs as much as computing it again
WORTH_STORING = 8
ROUNDS = 4
# functions that take nearly all of their work from one exponential of their argument's size: beside one of them another
# costs a few operations, and by itself the whole exponential again
FAMILIES = {
    **dict.fromkeys((sympy.tanh, sech2), "tanh"),
    **dict.fromkeys((sigmoid, softplus, logistic_density), "sigmoid"),
}


@dataclass(frozen=True)
class _Part:
    """A subexpression as a map over ``extents`` of its own; equal parts of different maps are equal."""

    extents: tuple[Extent, ...]
    reads: tuple[tuple[int, tuple[Index, ...]], ...]
    expr: sympy.Expr


@dataclass(frozen=True)
class _Found:
    """A part where it stands in a map: which of the map's axes its own are, and the nodes it reads."""

    part: _Part
    axes: tuple[int, ...]
    nodes: tuple[Node, ...]


def share(program: Program) -> Program:
    """Give every expensive subexpression that two maps have in common, or that one map repeats over axes it does not
    depend on, a map of its own.

    Forward-mode, reverse-mode and curvature passes each differentiate a node on their own; this is where the sine and the
    cosine that they all need are made once.
    """
    parts = _Parts()
    for _ in range(ROUNDS):
        changed = _once(program, parts)
        if changed is program:
            break
        program = changed
    return program


def _once(program: Program, parts: _Parts) -> Program:
    parts.see(program.nodes())
    count: dict[_Part, int] = {}
    first: dict[_Part, Map] = {}
    repeated: set[_Part] = set()
    relatives: dict[_Part | None, int] = {}  # maps that compute something of the same family, of the same argument
    for reader in program.maps():
        own = dict.fromkeys(found.part for _, found in parts.of(reader))
        for family in dict.fromkeys(map(_family, own)):
            relatives[family] = relatives.get(family, 0) + 1
        for part in own:
            count[part] = count.get(part, 0) + 1
            first.setdefault(part, reader)
            if len(part.extents) < len(reader.extents):
                repeated.add(part)

    def shared(node: Map, new: Mapping[Node, Node]) -> Node:
        args = reading(node, new)
        taken: dict[sympy.Expr, sympy.Expr] = {}
        whole: _Part | None = None
        for sub, found in parts.of(node):
            # a map that is nothing but the part is where the others will read it
            alone = sub == _spelled(node.expr) and not node.reduced and not node.guards
            family = _family(found.part)
            whole = family if alone else whole
            beside = family not in (None, whole) and relatives[family] > 1
            if not alone and (count[found.part] > 1 or found.part in repeated or beside):
                taken[sub] = placeholder(len(args))
                args.append(_access(found, new, first[found.part]))
        if taken:
            return rebuilt(node, args, _spelled(node.expr).xreplace(taken))
        return node if args == list(node.args) else rebuilt(node, args)

    changed = rewritten(program, shared)
    return program if changed.outputs == program.outputs else changed


@remembered
def _spelled(expr: sympy.Expr) -> sympy.Expr:
    """The canonical form with even powers of sech as powers of the slope of tanh."""
    expr = canonical(expr)
    if sympy.sech not in kinds(expr):
        return expr
    powers = [p for p in expr.atoms(sympy.Pow) if isinstance(p.base, sympy.sech) and p.exp.is_Integer and p.exp.is_even]
    return expr.xreplace({p: sech2(p.base.args[0]) ** (p.exp / 2) for p in powers}) if powers else expr


def _family(part: _Part) -> _Part | None:
    """What all functions of a part share: their family as a part of its own; None if they are not of one."""
    call = _family_call(part.expr)
    return None if call is None else _Part(part.extents, part.reads, call)


@remembered
def _family_call(expr: sympy.Expr) -> sympy.Expr | None:
    """A call that is the same for all expressions of one family and argument."""
    if any(issubclass(kind, sympy.Function) and kind not in FAMILIES for kind in kinds(expr)):
        return None
    found: set[tuple[str, sympy.Expr]] = set()
    for call in expr.atoms(sympy.Function):
        argument = call.args[0]
        found.add((FAMILIES[call.func], -argument if argument.could_extract_minus_sign() else argument))
    if len(found) != 1:
        return None
    name, argument = found.pop()
    return sympy.Function(name)(argument)


def _access(found: _Found, new: Mapping[Node, Node], origin_of: Map) -> Access:
    part = found.part
    args = [Access(new[n], index) for n, (_, index) in zip(found.nodes, part.reads, strict=True)]
    origin = origin_of.origin
    source = found.nodes[0].origin if len(found.nodes) == 1 else origin
    role = part.expr.func.__name__ if part.expr.is_Function else "part"
    named = Origin(source.name, origin.file, origin.line, "", (), f"{source.role}_{role}".lstrip("_"))
    made = make_map(part.extents, len(part.extents), args, part.expr, origin=named)
    return Access(made, tuple(axis(a) for a in found.axes))


class _Parts:
    """The expensive subexpressions of maps, found once; nodes are told apart by the order in which they were seen."""

    def __init__(self) -> None:
        self._number: dict[Node, int] = {}
        self._found: dict[Node, tuple[tuple[sympy.Expr, _Found], ...]] = {}

    def see(self, nodes: Sequence[Node]) -> None:
        """Number the nodes that are new."""
        for node in nodes:
            if node not in self._number:
                self._number[node] = len(self._number)

    def of(self, node: Map) -> tuple[tuple[sympy.Expr, _Found], ...]:
        """Subexpressions of ``node`` with their part, larger ones before those inside them."""
        if node not in self._found:
            self._found[node] = tuple(self._find(node))
        return self._found[node]

    def _find(self, node: Map) -> Iterator[tuple[sympy.Expr, _Found]]:
        reads = {placeholder(k): a for k, a in enumerate(node.args)}
        for sub in _expensive(_spelled(node.expr)):
            symbols = free_symbols(sub)
            if not all(
                always_valid(i, e, node.extents)
                for s in symbols
                for i, e in zip(reads[s].index, reads[s].node.shape, strict=True)
            ):
                continue
            used = {a for s in symbols for index in reads[s].index for a in index.axes}
            # run-time axes first, in the order that every shape has them
            axes = sorted(used, key=lambda a: (_rank(node.extents[a]), a))
            place = {a: axis(k) for k, a in enumerate(axes)}
            moved = {s: tuple(substitute(i, place) for i in reads[s].index) for s in symbols}
            order = sorted(moved, key=lambda s: (self._number[reads[s].node], repr(moved[s])))
            where = tuple((self._number[reads[s].node], moved[s]) for s in order)
            extents = tuple(node.extents[a] for a in axes)
            part = _Part(extents, where, _numbered(sub, tuple(order)))
            yield sub, _Found(part, tuple(axes), tuple(reads[s].node for s in order))


@remembered
def _numbered(expr: sympy.Expr, symbols: tuple[sympy.Symbol, ...]) -> sympy.Expr:
    """The canonical form of ``expr`` in placeholders, those of ``symbols`` in order."""
    moved = {s: p for k, s in enumerate(symbols) if s != (p := placeholder(k))}
    return canonical(renamed(expr, moved))


def _rank(extent: Extent) -> int:
    return 0 if extent is Dim.COLUMNS else 1 if extent is Dim.ROWS else 2


@remembered
def _expensive(expr: sympy.Expr) -> tuple[sympy.Expr, ...]:
    """Subexpressions worth storing, larger ones first."""
    weights: dict[sympy.Expr, int] = {}

    def weigh(sub: sympy.Expr) -> int:
        if sub not in weights:
            own = 0
            if sub.args and not sub.is_number:
                own = len(sub.args) - 1
                if isinstance(sub, sympy.Expr) and (sub.is_Function or sub.is_Pow) and not sub.is_Piecewise:
                    plain = (a if a.is_number else placeholder(k) for k, a in enumerate(sub.args))
                    own = operations(sub.func(*plain))
            weights[sub] = own + sum(weigh(a) for a in sub.args)
        return weights[sub]

    weigh(expr)
    order = {sub: k for k, sub in enumerate(sympy.preorder_traversal(expr))}
    # by itself a factor of such a product may leave the range that the product keeps to
    together = {f for sub in weights if isinstance(sub, sympy.Mul) and wide(sub) for f in sub.args}
    found = [
        s
        for s, weight in weights.items()
        if weight >= WORTH_STORING and isinstance(s, sympy.Expr) and s not in together
    ]
    # a power of what is stored costs less than reading it
    found = [s for s in found if free_symbols(s) and not (s.is_Pow and s.base.func in FAMILIES and s.exp.is_Integer)]
    return tuple(sorted(found, key=order.__getitem__))
