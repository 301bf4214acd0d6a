"""Measuring what the cost model only estimates, once, and keeping the answer in a file."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import RequestError
from cpgen.estimate.backends import Cuda, Native
from cpgen.estimate.choice import METHODS, SEED, Trial, compared, trial
from cpgen.ir.call import Call
from cpgen.ir.noise import IDENTITY, INDEPENDENT
from cpgen.loops.device import ALTERNATIVES, choose
from cpgen.loops.schedule import Schedule, schedule_of
from cpgen.native import build, build_cuda

if TYPE_CHECKING:
    from cpgen.derive.derived import Derived
    from cpgen.estimate.estimator import Estimator

Array = NDArray[np.floating]
TILES = (4, 8, 16, 32)
CHOSEN = ("diagonal:exact", "trace:exact")
TUNED = ("gradient", "diagonal", "trace")
AUTO = ":auto"  # after "diagonal" and "trace": the key of what method="auto" samples by
TRIALS = 16  # samples of each estimator on given arrays
COLUMNS = 8  # noise columns for which schedules are measured
REPEATS = 7
GAIN = 0.95  # what is kept must take at most this share of the default's time


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
    return METHODS if key.endswith(AUTO) else ("cp", "directions")


def choose_methods(estimator: Estimator, arrays: Mapping[str, object]) -> Tuning:
    """Try both estimators on given arrays, with signs of their own, and keep the better one of diagonal and of trace."""
    methods: dict[str, str] = {}
    for what in ("diagonal", "trace"):
        if estimator.derive(f"{what}:cp").columns == 0:
            continue

        _, rows = estimator.arrays(estimator.loaded(f"{what}:cp"), arrays)

        def tried(derived: Derived, what: str = what) -> list[Trial | None]:
            loaded = estimator.loaded(f"{what}:{derived.estimator}")
            given, rows = estimator.arrays(loaded, arrays)

            def run(column: int) -> dict[str, Array]:
                call = Call(
                    rows or 1,
                    1,
                    SEED,
                    INDEPENDENT,
                    first_column=column,
                    row_scale=1.0 / (rows or 1),
                    threads=estimator.options.threads,
                    wanted=loaded.without_variances,
                )
                estimator.check_memory(loaded, call)
                return loaded.backend.run(given, call)

            return [trial(what, run, TRIALS)]

        (first,) = tried(estimator.derive(f"{what}:cp"))
        if first is None:
            continue
        methods[f"{what}{AUTO}"] = compared(estimator, what, rows or 1, [first], tried).method
    known = estimator.options.tuning
    if known is not None:
        return replace(known, methods={**known.methods, **methods})
    return Tuning(estimator.graph.name, tuple(v.name for v in estimator.wrt), estimator.options.real, methods)


def tune(estimator: Estimator, arrays: Mapping[str, object]) -> Tuning:
    """Time the exact methods against each other, and the gradient, the diagonal and the trace with several tiles.

    On a GPU schedules are measured instead.  The default stays where nothing is at least 5 percent faster, and where
    there is no C compiler.  Tiles are those of the program's own loops, so none are measured with a BLAS.
    """
    if estimator.options.target == "cuda":
        schedules = {key: s for key in TUNED if (s := _best_schedule(estimator, key, arrays))}
        leaves = tuple(v.name for v in estimator.wrt)
        methods = choose_methods(estimator, arrays).methods
        return Tuning(estimator.graph.name, leaves, estimator.options.real, methods, schedules=schedules)
    tiles: dict[str, int] = {}
    methods = dict(choose_methods(estimator, arrays).methods)
    for key in CHOSEN:
        try:
            what = key.partition(":")[0]
            programs = {"cp": f"{what}:units", "directions": f"{what}:directions"}
            usual_key = estimator.exact_key(key)
            if usual_key != key:  # the program with noise, which is then what another has to beat
                programs["cp"] = usual_key
            seconds = {method: _seconds(estimator, program, arrays, None) for method, program in programs.items()}
        except RequestError:
            continue
        usual = estimator.derive(key).estimator
        best = min(seconds, key=lambda method: seconds[method])
        if best != usual and seconds[best] < GAIN * seconds[usual]:
            methods[key] = best
    for key in () if estimator.options.blas else TUNED:
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
    call = Call(
        rows or 1, columns, design=IDENTITY, row_scale=1.0 / (rows or 1), threads=estimator.options.threads
    )
    estimator.check_memory(loaded, call)
    backend = loaded.backend
    if tile is not None:
        program = estimator.derive(key).program
        module = build(estimator.graph.name, [program], estimator.options.real, tile, loaded.backend.compiler)
        backend = Native(module[program.name], module.compiler)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        backend.run(given, call)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _best_schedule(estimator: Estimator, key: str, arrays: Mapping[str, object]) -> dict[str, int] | None:
    """The numbers of the fastest schedule of a program; None if that is the chosen one, or the model has no such program.

    Groups of numbers are tried one after the other, each with the best of those before.
    """
    try:
        program = estimator.derive(key).program
    except RequestError:
        return None
    chosen = choose(program, estimator.options.real)
    best, least = chosen, _gpu_seconds(estimator, key, arrays, chosen)
    usual = least
    for group in ALTERNATIVES:
        for numbers in group:
            try:
                tried = schedule_of({**best.numbers(), **numbers}, "tried")
                if tried == best:
                    continue
                seconds = _gpu_seconds(estimator, key, arrays, tried)
            except RequestError:  # impossible together, or no memory for it
                continue
            if seconds < least:
                best, least = tried, seconds
    return best.numbers() if best != chosen and least < GAIN * usual else None


def _gpu_seconds(estimator: Estimator, key: str, arrays: Mapping[str, object], schedule: Schedule) -> float:
    """The median time of one call with everything on the device."""
    loaded = estimator.loaded(key)
    given, rows = estimator.arrays(loaded, arrays)
    module = build_cuda(estimator.graph.name, [loaded.program], estimator.options.real, schedules=[schedule])
    program = Cuda(module[loaded.program.name]).program
    columns = COLUMNS if program.plan.has_columns else 0
    call = Call(rows or 1, columns, column_scale=1 / max(columns, 1), row_scale=1.0 / (rows or 1))
    estimator.check_memory(loaded, call)
    with program.prepared(given, program.outputs(call), call) as prepared:
        launch, _ = prepared
        times = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            launch()
            program.device.wait()
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
