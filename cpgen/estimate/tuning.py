"""Measured choices, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cpgen.errors import RequestError
from cpgen.loops.schedule import schedule_of

METHODS = ("cp", "hutchinson")  # that method="auto" chooses from
AUTO = {"diagonal": "diagonal:auto", "trace": "trace:auto"}  # the keys of what it samples by


@dataclass(frozen=True)
class Tuning:
    """``methods``: program key -> "cp" or "directions", and "diagonal:auto" or "trace:auto" -> what ``method="auto"``
    samples by, "cp" or "hutchinson"; ``tiles``: program key -> rows in a tile; ``schedules``: program key -> the numbers
    of a :class:`cpgen.loops.schedule.Schedule`, for a GPU.

    ``model`` and ``wrt`` say what was measured; it is refused for anything else.
    """

    model: str
    wrt: tuple[str, ...]
    real: str
    methods: Mapping[str, str] = field(default_factory=dict)
    tiles: Mapping[str, int] = field(default_factory=dict)
    schedules: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write it as JSON.  Raises RequestError if the file cannot be written."""
        try:
            Path(path).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write the tuning to {path}: {error.strerror}") from error


def load_tuning(path: str | Path) -> Tuning:
    """Read what :meth:`Tuning.save` wrote.  Raises RequestError if it is something else."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        methods, tiles = dict(data["methods"]), dict(data["tiles"])
        schedules = {key: dict(numbers) for key, numbers in data.get("schedules", {}).items()}
        known = Tuning(data["model"], tuple(data["wrt"]), data["real"], methods, tiles, schedules)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is not a tuning that cpgen wrote: {error}") from error
    if not all(isinstance(t, int) and 1 <= t <= 1024 for t in known.tiles.values()):
        raise RequestError(f"{path} asks for tiles that are not between 1 and 1024 rows")
    if not all(method in _methods(key) for key, method in known.methods.items()):
        raise RequestError(f"{path} names methods that are not known: {', '.join(known.methods.values())}")
    for numbers in known.schedules.values():
        schedule_of(numbers, "")
    return known


def _methods(key: str) -> tuple[str, ...]:
    return METHODS if key in AUTO.values() else ("cp", "directions")
