"""Measuring what the cost model only estimates, once, and keeping the answer in a file."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cpgen.errors import RequestError
from cpgen.estimate.backends import Call, Native
from cpgen.ir.noise import IDENTITY
from cpgen.native import build

if TYPE_CHECKING:
    from cpgen.estimate.estimator import Estimator

TILES = (4, 8, 16, 32)
CHOSEN = ("diagonal:exact", "trace:exact")
REPEATS = 7
GAIN = 0.95  # what is kept must take at most this share of the default's time


@dataclass(frozen=True)
class Tuning:
    """``methods``: program key -> "cp" or "directions"; ``tiles``: program key -> rows in a tile.

    ``model`` and ``wrt`` say what was measured; it is refused for anything else.
    """

    model: str
    wrt: tuple[str, ...]
    real: str
    methods: Mapping[str, str] = field(default_factory=dict)
    tiles: Mapping[str, int] = field(default_factory=dict)

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
        known = Tuning(data["model"], tuple(data["wrt"]), data["real"], dict(data["methods"]), dict(data["tiles"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is not a tuning that cpgen wrote: {error}") from error
    if not all(isinstance(t, int) and 1 <= t <= 1024 for t in known.tiles.values()):
        raise RequestError(f"{path} asks for tiles that are not between 1 and 1024 rows")
    if not set(known.methods.values()) <= {"cp", "directions"}:
        raise RequestError(f"{path} names methods other than cp and directions")
    return known


def tune(estimator: Estimator, arrays: Mapping[str, object]) -> Tuning:
    """Time the exact methods against each other, and the gradient, the diagonal and the trace with several tiles.

    The default stays where nothing is at least 5 percent faster, and where there is no C compiler.
    """
    tiles: dict[str, int] = {}
    methods: dict[str, str] = {}
    for key in CHOSEN:
        try:
            what = key.partition(":")[0]
            programs = {"cp": f"{what}:units", "directions": f"{what}:directions"}
            seconds = {method: _seconds(estimator, program, arrays, None) for method, program in programs.items()}
        except RequestError:
            continue
        usual = estimator.derive(key).estimator
        best = min(seconds, key=lambda method: seconds[method])
        if best != usual and seconds[best] < GAIN * seconds[usual]:
            methods[key] = best
    for key in ("gradient", "diagonal", "trace"):
        try:
            usual_seconds = _seconds(estimator, key, arrays, None)
            by_tile = {t: _seconds(estimator, key, arrays, t) for t in TILES}
        except RequestError:
            continue
        tile = min(by_tile, key=lambda t: by_tile[t])
        if by_tile[tile] < GAIN * usual_seconds:
            tiles[key] = tile
    wrt = tuple(v.name for v in estimator.wrt)
    return Tuning(estimator.graph.name, wrt, estimator.options.real, methods, tiles)


def _seconds(estimator: Estimator, key: str, arrays: Mapping[str, object], tile: int | None) -> float:
    """The median time of one call; exact if that takes columns."""
    loaded = estimator.loaded(key)
    if not isinstance(loaded.backend, Native):
        raise RequestError(f"tuning measures compiled code, and this runs on {loaded.backend.label}")
    given, rows = estimator.arrays(loaded, arrays)
    columns = loaded.derived.columns
    if columns is None:
        raise RequestError(f"{key} has no exact form")
    call = Call(rows or 1, columns, design=IDENTITY, row_scale=1.0 / (rows or 1))
    estimator.check_memory(loaded, call)
    backend = loaded.backend
    if tile is not None:
        module = build(estimator.graph.name, [loaded.program], estimator.options.real, tile, loaded.backend.compiler)
        backend = Native(module[loaded.program.name], module.compiler)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        backend.run(given, call, estimator.options.threads)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
