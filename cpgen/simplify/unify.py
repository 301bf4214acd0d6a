"""Compute equal recurrences once."""

from __future__ import annotations

from dataclasses import replace

from cpgen.ir.nodes import Carry, Node, Program
from cpgen.ir.rewrite import images_among, renewed


def unify(program: Program) -> Program:
    """``program`` with one carry for those that hold the same.

    Maps of the same are the same object as soon as they are made; carries are not, since each is made before what it
    carries.  Adjoints that two derivations opened, each on its own, are found here: carries are taken for equal until
    what they carry differs though they are (partition refinement; Hopcroft 1971, "An n log n algorithm for minimizing
    states in a finite automaton").
    """
    nodes, held = program.nodes(), program.carries()
    if len(held) < 2:
        return program
    kinds: dict[Carry, object] = {c: (c.shape, c.along, c.step) for c in held}
    while True:
        stands: dict[object, Carry] = {}
        for c in held:
            stands.setdefault(kinds[c], Carry(c.shape, c.along, c.step, c.origin))
        new = images_among(nodes, renewed, {c: stands[kinds[c]] for c in held})
        finer = {c: (kinds[c], new[c.body]) for c in held}
        if len(set(finer.values())) == len(stands):
            break
        number: dict[tuple[object, Node], int] = {}
        kinds = {c: number.setdefault(finer[c], len(number)) for c in held}
    if len(stands) == len(held):
        return program
    for c in held:
        if not stands[kinds[c]].is_closed:
            stands[kinds[c]].close(new[c.body])
    return replace(program, outputs=tuple((name, new[node]) for name, node in program.outputs))
