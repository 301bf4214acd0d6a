"""Walks over trees: what occurs in them, and trees with parts replaced."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from cpgen.code.tree import (
    Call,
    Expression,
    For,
    Function,
    Let,
    Name,
    Parameter,
    Statement,
    Type,
)

_PARTS = (Expression, Statement, Function, Parameter, Type)
_FIELDS: dict[Any, tuple[str, ...]] = {}


def _fields(kind: Any) -> tuple[str, ...]:
    """The fields of a class in which there can be trees."""
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(f.name for f in fields(kind) if f.type not in ("str", "bool"))
    return _FIELDS[kind]


def nodes(tree: Any) -> Iterator[Any]:
    """A tree or a sequence of trees, and all that is in it, from the outside in and from left to right."""
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, _PARTS):
            yield part
            left += [getattr(part, field) for field in reversed(_fields(type(part)))]
        elif isinstance(part, (tuple, list)):
            left += reversed(part)


def mentions(tree: Any, name: str) -> bool:
    """Whether a variable occurs."""
    return any(isinstance(n, Name) and n.text == name for n in nodes(tree))


def calls(tree: Any) -> Iterator[str]:
    """The functions that are called."""
    return (n.function for n in nodes(tree) if isinstance(n, Call))


def bound(tree: Any) -> Iterator[str]:
    """The names that statements declare: loop variables and local values."""
    for node in nodes(tree):
        if isinstance(node, For):
            yield node.variable
        elif isinstance(node, Let):
            yield node.name


def rebuilt(tree: Any, change: Callable[[Any], Any]) -> Any:
    """``tree`` with ``change`` applied to each part, from the inside out; it returns what takes the part's place."""
    if isinstance(tree, (tuple, list)):
        parts = [rebuilt(part, change) for part in tree]
        return tree if all(map(operator.is_, parts, tree)) else type(tree)(parts)
    if not isinstance(tree, _PARTS):
        return tree
    made = None
    for field in _fields(type(tree)):
        before = getattr(tree, field)
        after = rebuilt(before, change)
        if after is not before:
            made = made or {}
            made[field] = after
    return change(replace(tree, **made) if made else tree)


def renamed(tree: Any, names: Mapping[str, str]) -> Any:
    """``tree`` with variables, and what declares them, under other names."""

    def change(node: Any) -> Any:
        if isinstance(node, Name) and node.text in names:
            return Name(names[node.text])
        if isinstance(node, For) and node.variable in names:
            return replace(node, variable=names[node.variable])
        if isinstance(node, (Let, Parameter)) and node.name in names:
            return replace(node, name=names[node.name])
        return node

    return rebuilt(tree, change)


def replaced(tree: Any, old: Expression, new: Expression) -> Any:
    """``tree`` with ``new`` wherever ``old`` stands."""
    return rebuilt(tree, lambda node: new if node == old else node)
