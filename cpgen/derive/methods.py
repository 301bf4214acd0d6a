"""What an estimator is to the rest: what it can be asked for, by which function, and whether it is biased."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cpgen.derive.derived import Derived
from cpgen.derive.sources import Setting
from cpgen.ir.nodes import Graph, Input

Make: TypeAlias = Callable[[Graph, Sequence[Input], Setting], Derived]
"""The program of a graph for these leaves."""


@dataclass(frozen=True)
class Method:
    """One estimator.

    ``diagonal``, ``trace``: None where it gives none.  ``biased``: "", or why it is.  ``named``: whether users ask for it
    by its name.
    """

    diagonal: Make | None = None
    trace: Make | None = None
    biased: str = ""
    named: bool = True


def plain(make: Callable[[Graph, Sequence[Input]], Derived]) -> Make:
    """``make``, which factors nothing and so needs no setting."""
    return lambda graph, wrt, setting: make(graph, wrt)
