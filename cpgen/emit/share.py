"""Stages that differ only in the arrays they work on share one C function, which gets those as parameters.

The layers of a deep network are such stages: what each of them costs in text and in compile time is a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpgen.code.rewrite import bound, mentions, renamed
from cpgen.code.tree import Body, Expression, Let, Parameter


@dataclass(frozen=True)
class Draft:
    """A stage before its function is made; ``declared`` are the arrays and numbers that ``body`` reads.

    ``template``: the function's parameter at compile time, if it has one.
    """

    function: str
    declared: tuple[Let, ...]
    body: Body
    template: str = ""


@dataclass(frozen=True)
class Shared:
    """A C function that stands for the drafts ``members`` (positions); ``arguments`` are those of each member."""

    name: str
    parameters: tuple[Parameter, ...]
    declared: tuple[Let, ...]
    body: Body
    members: tuple[int, ...]
    arguments: tuple[tuple[Expression, ...], ...]
    uses_frame: bool
    template: str = ""


def share(drafts: Sequence[Draft]) -> list[Shared]:
    """One function for all drafts that are equal up to the names and values of what they declare, in order."""
    groups: dict[Any, list[int]] = {}
    for position, draft in enumerate(drafts):
        groups.setdefault(_shape(draft), []).append(position)
    return [_function(drafts, members) for members in groups.values()]


def _function(drafts: Sequence[Draft], members: list[int]) -> Shared:
    first = drafts[members[0]]
    same = [len({drafts[k].declared[d].value for k in members}) == 1 for d in range(len(first.declared))]
    varied = [d for d, equal in enumerate(same) if not equal]
    declared = tuple(d for d, equal in zip(first.declared, same, strict=True) if equal)
    arguments = []
    for k in members:
        values = [drafts[k].declared[d].value for d in varied]
        arguments.append(tuple(v for v in values if v is not None))
    return Shared(
        first.function,
        tuple(Parameter(first.declared[d].type, first.declared[d].name) for d in varied),
        declared,
        first.body,
        tuple(members),
        tuple(arguments),
        len(members) == 1 or mentions((declared, first.body), "f"),
        first.template,
    )


def _shape(draft: Draft) -> Any:
    """What is alike in drafts that can share a function: all but the values and the names of what they declare."""
    names = dict.fromkeys([d.name for d in draft.declared] + list(bound(draft.body)))
    numbers = {name: f"${k}" for k, name in enumerate(names)}
    heads = tuple((d.type, numbers[d.name]) for d in draft.declared)
    return draft.template, heads, tuple(renamed(draft.body, numbers))
