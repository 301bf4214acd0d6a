"""Stages that differ only in the arrays they work on share one C function, which gets those as parameters.

The layers of a deep network are such stages, and what several programs of a model compute alike: what each of them costs
in text and in compile time is a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpgen.code.rewrite import bound, mentions, renamed
from cpgen.code.tree import Body, Expression, Let, Name, Parameter

ARGS = Name("args")  # the arguments of a program, of a type of its own


@dataclass(frozen=True)
class Draft:
    """A stage before its function is made; ``declared`` are the arrays and numbers that ``body`` reads.

    ``prefix``: what the program's names begin with, ``plain``: the name of its function behind that, ``general``: another
    for whatever array it moves, "" if it computes.  ``context``: what its function can be given besides.  ``template``:
    the function's parameter at compile time, if it has one.
    """

    prefix: str
    plain: str
    general: str
    context: tuple[Parameter, ...]
    declared: tuple[Let, ...]
    body: Body
    template: str = ""

    @property
    def function(self) -> str:
        """Its name among those of all programs."""
        return f"{self.prefix}_{self.plain}"


@dataclass(frozen=True)
class Shared:
    """A C function that stands for the drafts ``members`` (positions); ``arguments`` are those of each member, the first
    of them the ``context`` that it reads."""

    name: str
    context: tuple[Parameter, ...]
    parameters: tuple[Parameter, ...]
    declared: tuple[Let, ...]
    body: Body
    members: tuple[int, ...]
    arguments: tuple[tuple[Expression, ...], ...]
    template: str = ""


def share(drafts: Sequence[Draft]) -> list[Shared]:
    """One function for all drafts that are equal up to the names and values of what they declare, in order."""
    groups: dict[Any, list[int]] = {}
    for position, draft in enumerate(drafts):
        groups.setdefault(_shape(draft), []).append(position)
    taken: set[str] = set()
    return [_function(drafts, members, taken) for members in groups.values()]


def _function(drafts: Sequence[Draft], members: list[int], taken: set[str]) -> Shared:
    first = drafts[members[0]]
    several = len({drafts[k].prefix for k in members}) > 1
    same = [len({drafts[k].declared[d].value for k in members}) == 1 for d in range(len(first.declared))]
    if several:  # whose arguments have types of their own
        same = [equal and not mentions(d.value, ARGS.text) for equal, d in zip(same, first.declared, strict=True)]
    varied = [d for d, equal in enumerate(same) if not equal]
    declared = tuple(d for d, equal in zip(first.declared, same, strict=True) if equal)
    context = tuple(p for p in first.context if mentions((declared, first.body), p.name))
    arguments = []
    for k in members:
        values = [drafts[k].declared[d].value for d in varied]
        arguments.append((*(Name(p.name) for p in context), *(v for v in values if v is not None)))
    plain = first.plain
    if first.general and len({drafts[k].plain for k in members}) > 1:
        plain = first.general
    wanted = plain if several else f"{first.prefix}_{plain}"
    name = wanted if wanted not in taken else first.function
    taken.add(name)
    return Shared(
        name,
        context,
        tuple(Parameter(first.declared[d].type, first.declared[d].name) for d in varied),
        declared,
        first.body,
        tuple(members),
        tuple(arguments),
        first.template,
    )


def _shape(draft: Draft) -> Any:
    """What is alike in drafts that can share a function: all but the values and the names of what they declare."""
    names = dict.fromkeys([d.name for d in draft.declared] + list(bound(draft.body)))
    numbers = {name: f"${k}" for k, name in enumerate(names)}
    heads = tuple((d.type, numbers[d.name]) for d in draft.declared)
    own = draft.prefix if mentions(draft.body, ARGS.text) else ""
    return own, draft.template, heads, tuple(renamed(draft.body, numbers))
