"""The text form of a program: one line a node, for reading, for goldens and for digests."""

from __future__ import annotations

import hashlib

import sympy

from cpgen.ir.build import affine, axis
from cpgen.ir.nodes import Access, Carry, Dim, Extent, Index, Map, Node, Program
from cpgen.scalar import placeholder, renamed

_LETTERS = "ijklmnopqrstuvwxyzabcdefgh"


def letter(position: int) -> str:
    """The printed name of a loop axis."""
    return _LETTERS[position] if position < len(_LETTERS) else f"i{position}"


def index_text(index: Index) -> str:
    """An affine index in loop letters."""
    terms: list[str] = []
    for a, c in index.terms:
        factor = letter(a) if abs(c) == 1 else f"{abs(c)}*{letter(a)}"
        terms.append(("-" if c < 0 else "+" if terms else "") + factor)
    if index.offset or not terms:
        terms.append(f"{index.offset:+d}" if terms else str(index.offset))
    body = "".join(terms)
    return body if index.divisor == 1 else f"({body})/{index.divisor}"


def extent_text(extent: Extent) -> str:
    return extent.value if isinstance(extent, Dim) else str(extent)


def names(program: Program) -> dict[Node, str]:
    """A unique printed name for every node: its own, numbered where two share one."""
    used: dict[str, int] = {}
    result: dict[Node, str] = {}
    for node in program.nodes():
        base = node.name or "node"  # type: ignore[attr-defined]
        count = used.get(base, 0)
        used[base] = count + 1
        result[node] = base if count == 0 else f"{base}_{count + 1}"
    return result


def access_text(access: Access, name: str) -> str:
    return f"{name}[{', '.join(index_text(i) for i in access.index)}]" if access.index else name


def equation(node: Map, name: dict[Node, str]) -> str:
    """The definition of a map in index notation."""
    reads = {placeholder(k): sympy.Symbol(access_text(a, name[a.node])) for k, a in enumerate(node.args)}
    body = str(renamed(node.expr, reads))
    if node.reduced:
        axes = ", ".join(f"{letter(a)}<{extent_text(node.extents[a])}" for a in node.reduced)
        body = f"{node.reduce}_{{{axes}}} {body}"
    if node.guards:
        body += " where " + ", ".join(
            f"0<={index_text(g.index)}<{extent_text(g.extent)}" for g in node.guards
        )
    left = name[node]
    if node.rank:
        left += f"[{', '.join(letter(a) for a in range(node.rank))}]"
    return f"{left} = {body}"


def text(program: Program) -> str:
    """The whole program, arguments before uses."""
    name = names(program)
    lines = [f"program {program.name}"]
    for given in program.inputs:
        about = f", {given.range_text}" if given.range_text else ""
        lines.append(f"{given.kind} {_declared(given, name.get(given, given.name))}{about}")
    for node in program.nodes():
        if isinstance(node, Map):
            shape = ", ".join(extent_text(e) for e in node.shape)
            lines.append(f"({shape}) {equation(node, name)}")
    lines += [carry_text(carry, name) for carry in program.carries()]
    lines += [f"output {label} = {name[node]}" for label, node in program.outputs]
    return "\n".join(lines) + "\n"


def carry_text(carry: Carry, name: dict[Node, str]) -> str:
    """What a carry holds, and along which axis, upwards or downwards."""
    index = [axis(a) for a in range(len(carry.shape))]
    index[carry.axis] = affine({carry.axis: 1}, -carry.step)
    along = f"along {letter(carry.axis)}{', downwards' if carry.step < 0 else ''}"
    here = ", ".join(letter(a) for a in range(len(carry.shape)))
    read = access_text(Access(carry.body, tuple(index)), name[carry.body])
    return f"carry {name[carry]}[{here}] = {read} {along}"


def _declared(node: Node, name: str) -> str:
    return f"{name}({', '.join(extent_text(e) for e in node.shape)})"


def digest(program: Program) -> str:
    """SHA-256 of the text form."""
    return hashlib.sha256(text(program).encode()).hexdigest()
