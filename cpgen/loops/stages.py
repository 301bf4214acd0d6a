"""The stages of each phase, in order, before they are numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpgen.ir.nodes import COLUMNS, Input, Map, Node
from cpgen.loops.facts import Facts, over_columns
from cpgen.loops.fuse import groups, reads
from cpgen.loops.nests import nest_of
from cpgen.loops.plan import ACCUMULATE, FINISH, ROW, SETUP, Segment, Stage, is_noise
from cpgen.loops.strategy import Strategy


@dataclass(frozen=True)
class Staged:
    """The stages of a program.

    ``direct``: the nodes whose only memory is an output, and which one; ``stored``: those without rows that need memory.
    """

    setup: tuple[Stage, ...]
    segments: tuple[Segment, ...]
    accumulate: tuple[Stage, ...]
    finish: tuple[Stage, ...]
    direct: Mapping[Node, str]
    stored: tuple[Node, ...]


def staged(facts: Facts, strategy: Strategy) -> Staged:
    setup = _plain(facts, strategy, SETUP)
    segments, direct = _rows(facts, strategy)
    accumulate = [
        Stage(0, "map", ACCUMULATE, (m,), nest_of([m], ACCUMULATE, strategy)) for m in facts.maps(ACCUMULATE)
    ]
    finish = _plain(facts, strategy, FINISH)
    stored, written = _without_rows(facts, [*setup, *accumulate, *finish])
    finish += [
        Stage(0, "copy", FINISH, (node,), None, name)
        for name, node in facts.outputs
        if not node.has_rows and node not in written
    ]
    return Staged(tuple(setup), segments, tuple(accumulate), tuple(finish), {**written, **direct}, tuple(stored))


def _plain(facts: Facts, strategy: Strategy, phase: str) -> list[Stage]:
    """The stages of a phase without rows."""
    stages = []
    if phase == SETUP:
        drawn = [i for i in facts.nodes if is_noise(i) and not i.has_rows]
        stages += [Stage(0, "noise", SETUP, (node,)) for node in drawn]
    for group in groups(facts.maps(phase), lambda m: False):
        stages.append(Stage(0, "map", phase, tuple(group), nest_of(group, phase, strategy)))
    return stages


def _without_rows(facts: Facts, stages: Sequence[Stage]) -> tuple[list[Node], dict[Node, str]]:
    """The values without rows that need memory, and those whose only memory is an output."""
    stored, written = [], {}
    for stage in stages:
        inside = set(stage.nodes)
        for node in stage.nodes:
            read = any(r not in inside for r in facts.readers.get(node, ()))
            names = facts.output_names.get(node, [])
            if not read and len(names) == 1 and stage.kind == "map":
                written[node] = names[0]
            elif read or names:
                stored.append(node)
    return stored, written


# The row phase


def _segment_of(facts: Facts) -> dict[Node, int]:
    """The segment of each value of rows: even ones run once, odd ones for each column.

    An input is loaded or drawn where it is first needed.
    """
    segment: dict[Node, int] = {}
    for node in facts.maps(ROW):
        needed = 0
        for arg in reads(node):
            if arg in segment:
                needed = max(needed, segment[arg] + (1 if over_columns(arg) else 0))
        inside = COLUMNS in node.extents
        segment[node] = needed if (needed % 2 == 1) == inside else needed + 1
    for source in _sources(facts):
        uses = [segment[r] for r in facts.readers.get(source, ()) if r in segment]
        if uses or facts.kept(source) or source in facts.output_names:
            first = min(uses, default=0)
            if (first % 2 == 1) != source.has_columns:
                first = 1 if source.has_columns else first - 1
            segment[source] = first
    return segment


def _sources(facts: Facts) -> list[Input]:
    return [n for n in facts.nodes if isinstance(n, Input) and n.has_rows]


def _rows(facts: Facts, strategy: Strategy) -> tuple[tuple[Segment, ...], dict[Node, str]]:
    """The segments of the row phase, and the values that only live in an output."""
    segment, sources = _segment_of(facts), _sources(facts)
    last = max(segment.values(), default=-1)
    stages: list[list[Stage]] = [[] for _ in range(last + 2)]
    maps: list[list[Map]] = [[] for _ in range(last + 1)]
    for m in facts.maps(ROW):
        maps[segment[m]].append(m)
    # inputs that are still to be loaded or drawn, in order
    waiting: list[dict[Node, Input]] = [{} for _ in range(last + 1)]
    place = {source: k for k, source in enumerate(sources)}
    for source in sources:
        if source in segment:
            waiting[segment[source]][source] = source
    direct: dict[Node, str] = {}
    for number, here in enumerate(waiting):
        for group in groups(maps[number], over_columns, strategy.alone):
            wanted = {here[n] for m in group for n in reads(m) if n in here}
            for source in sorted(wanted, key=place.__getitem__):
                stages[number] += _source(facts, strategy, here.pop(source))
            stages[number].append(Stage(0, "map", ROW, tuple(group), nest_of(group, ROW, strategy)))
            if strategy.in_place:
                direct |= _written_in_place(facts, group)
            for member in group:
                exports = _exports(facts, strategy, member, direct.get(member, ""))
                stages[number + (1 if over_columns(member) else 0)] += exports
        for source in here.values():
            stages[number] += _source(facts, strategy, source)
    return tuple(Segment(k % 2 == 1, tuple(made)) for k, made in enumerate(stages)), direct


def _source(facts: Facts, strategy: Strategy, node: Input) -> list[Stage]:
    """The stages that bring an input into the tile, and out of it again."""
    exports = _exports(facts, strategy, node, "")
    if is_noise(node):
        return [Stage(0, "noise", ROW, (node,)), *exports]
    return exports if strategy.in_place else [Stage(0, "load", ROW, (node,)), *exports]


def _written_in_place(facts: Facts, group: Sequence[Map]) -> dict[Node, str]:
    """The member that writes an output itself, where a tile is a row and that output is all the stage is for."""
    inside = set(group)
    read_outside = {m: any(r not in inside for r in facts.readers.get(m, ())) for m in group}
    stored = [m for m in group if m in facts.output_names or read_outside[m]]
    if len(stored) != 1 or read_outside[stored[0]]:
        return {}
    names = facts.output_names[stored[0]]
    return {stored[0]: names[0]} if len(names) == 1 else {}


def _exports(facts: Facts, strategy: Strategy, node: Node, direct: str) -> list[Stage]:
    """The stages that take a value out of the tile; ``direct``: the output that it is written to where it is computed."""
    stages = [Stage(0, "keep", ROW, (node,))] if facts.kept(node) and not strategy.in_place else []
    names = [name for name in facts.output_names.get(node, []) if name != direct]
    return stages + [Stage(0, "store", ROW, (node,), None, name) for name in names]
