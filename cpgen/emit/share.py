"""Stages that differ only in the arrays they work on share one C function, which gets those as parameters.

The layers of a deep network are such stages: what each of them costs in text and in compile time is a call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cpgen.emit.statements import Body, Declaration

# what a body declares itself: loop counters and local values
_BOUND = re.compile(r"(?:\bconst \w+|\(ptrdiff_t|^(?:double|float)) (\w+)(?:\[\w+\])* ?(?:=|;|\[)")
_WORD = re.compile(r"(?<![\w>.])[A-Za-z_]\w*")


@dataclass(frozen=True)
class Draft:
    """A stage before its function is made; ``declared`` are the arrays and numbers that ``body`` reads.

    ``template``: the function's parameter at compile time, if it has one.
    """

    function: str
    declared: tuple[Declaration, ...]
    body: Body
    template: str = ""


@dataclass(frozen=True)
class Function:
    """A C function that stands for the drafts ``members`` (positions); ``arguments`` are those of each member."""

    name: str
    parameters: tuple[str, ...]
    declared: tuple[Declaration, ...]
    body: Body
    members: tuple[int, ...]
    arguments: tuple[tuple[str, ...], ...]
    uses_frame: bool
    template: str = ""


def share(drafts: Sequence[Draft]) -> list[Function]:
    """One function for all drafts that are equal up to the names and values of what they declare, in order."""
    groups: dict[str, list[int]] = {}
    for position, draft in enumerate(drafts):
        groups.setdefault(_shape(draft), []).append(position)
    return [_function(drafts, members) for members in groups.values()]


def _function(drafts: Sequence[Draft], members: list[int]) -> Function:
    first = drafts[members[0]]
    same = [len({drafts[k].declared[d].value for k in members}) == 1 for d in range(len(first.declared))]
    varied = [d for d, equal in enumerate(same) if not equal]
    declared = tuple(d for d, equal in zip(first.declared, same, strict=True) if equal)
    texts = [*(d.value for d in declared), *_lines(first.body)]
    return Function(
        first.function,
        tuple(first.declared[d].left for d in varied),
        declared,
        first.body,
        tuple(members),
        tuple(tuple(drafts[k].declared[d].value for d in varied) for k in members),
        len(members) == 1 or any("f->" in text for text in texts),
        first.template,
    )


def _shape(draft: Draft) -> str:
    """The text of a draft with its own names replaced by numbers."""
    lines = _lines(draft.body)
    names = [d.name for d in draft.declared]
    for text in lines:
        names += _BOUND.findall(text)
    numbers = {name: f"${k}" for k, name in enumerate(dict.fromkeys(names))}
    heads = [f"{d.kind} {numbers[d.name]}" for d in draft.declared]
    return "\n".join([draft.template, *heads] + [_WORD.sub(lambda m: numbers.get(m[0], m[0]), text) for text in lines])


def _lines(body: Body) -> list[str]:
    lines = []
    for statement in body:
        lines += [statement.pragma, statement.text]
        if statement.body is not None:
            lines += ["{", *_lines(statement.body), "}"]
    return lines
