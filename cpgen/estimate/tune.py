"""Measuring what the cost model only estimates, once, and keeping the answer in a file."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.derived import Derived
from cpgen.derive.request import DIAGONAL, EXACT, GRADIENT, TRACE, Request
from cpgen.errors import RequestError
from cpgen.estimate.backends import Cuda, Native
from cpgen.estimate.choice import SEED, Trial, compared, trial
from cpgen.estimate.core import Core
from cpgen.estimate.tuning import AUTO, Tuning
from cpgen.ir.noise import INDEPENDENT
from cpgen.loops.device import ALTERNATIVES, choose
from cpgen.loops.schedule import Schedule, schedule_of
from cpgen.native import build, build_cuda

Array = NDArray[np.floating]
TILES = (4, 8, 16, 32)
TUNED = (GRADIENT, DIAGONAL, TRACE)
TRIALS = 16  # samples of each estimator on given arrays
COLUMNS = 8  # noise columns for which schedules are measured
REPEATS = 7
GAIN = 0.95  # what is kept must take at most this share of the default's time


def choose_methods(core: Core, arrays: Mapping[str, object]) -> Tuning:
    """Try both estimators on given arrays, with signs of their own, and keep the better one of diagonal and of trace."""
    methods: dict[str, str] = {}
    for what, key in AUTO.items():
        usual = Request(what, "cp")
        if core.derive(usual).columns == 0:
            continue
        rows = core.arrays(core.loaded(usual), arrays).row_count

        def tried(derived: Derived, what: str = what) -> list[Trial | None]:
            loaded = core.loaded(Request(what, derived.estimator))
            data = core.arrays(loaded, arrays)

            def run(column: int) -> dict[str, Array]:
                call = core.call(
                    data,
                    columns=1,
                    seed=SEED,
                    design=INDEPENDENT,
                    first_column=column,
                    wanted=loaded.without_variances,
                )
                core.check_memory(loaded, call)
                return loaded.backend.run(data.arrays, call)

            return [trial(what, run, TRIALS)]

        (first,) = tried(core.derive(usual))
        if first is None:
            continue
        methods[key] = compared(core, what, rows, [first], tried).method
    known = core.options.tuning
    if known is not None:
        return replace(known, methods={**known.methods, **methods})
    return Tuning(core.graph.name, tuple(v.name for v in core.wrt), core.options.real, methods)


def tune(core: Core, arrays: Mapping[str, object]) -> Tuning:
    """Time the exact methods against each other, and the gradient, the diagonal and the trace with several tiles.

    On a GPU schedules are measured instead.  The default stays where nothing is at least 5 percent faster, and where
    there is no C compiler.  Tiles are those of the program's own loops, so none are measured with a BLAS.
    """
    if core.options.target == "cuda":
        schedules = {str(request): s for request in TUNED if (s := _best_schedule(core, request, arrays))}
        leaves = tuple(v.name for v in core.wrt)
        methods = choose_methods(core, arrays).methods
        return Tuning(core.graph.name, leaves, core.options.real, methods, schedules=schedules)
    tiles: dict[str, int] = {}
    methods = dict(choose_methods(core, arrays).methods)
    for request in EXACT.values():
        try:
            programs = {"cp": request.by("units"), "directions": request.by("directions")}
            taken = core.programs.exact(request)
            if taken != request:  # the program with noise, which is then what another has to beat
                programs["cp"] = taken
            seconds = {method: _seconds(core, program, arrays, None) for method, program in programs.items()}
        except RequestError:
            continue
        usual = core.derive(request).estimator
        best = min(seconds, key=lambda method: seconds[method])
        if best != usual and seconds[best] < GAIN * seconds[usual]:
            methods[str(request)] = best
    for request in () if core.options.blas else TUNED:
        try:
            usual_seconds = _seconds(core, request, arrays, None)
            by_tile = {t: _seconds(core, request, arrays, t) for t in TILES}
        except RequestError:
            continue
        tile = min(by_tile, key=lambda t: by_tile[t])
        if by_tile[tile] < GAIN * usual_seconds:
            tiles[str(request)] = tile
    wrt = tuple(v.name for v in core.wrt)
    return Tuning(core.graph.name, wrt, core.options.real, methods, tiles)


def _seconds(core: Core, request: Request, arrays: Mapping[str, object], tile: int | None) -> float:
    """The median time of one call; exact if that takes columns."""
    loaded = core.loaded(request)
    if not isinstance(loaded.backend, Native):
        raise RequestError(f"tuning measures compiled code, and this runs on {loaded.backend.label}")
    data = core.arrays(loaded, arrays)
    columns = loaded.derived.columns
    if columns is None:
        raise RequestError(f"{request} has no exact form")
    call = core.unit_call(data, columns)
    core.check_memory(loaded, call)
    backend = loaded.backend
    if tile is not None:
        program = core.derive(request).program
        module = build(core.graph.name, [program], core.options.real, tile, loaded.backend.compiler)
        backend = Native(module[program.name], module.compiler)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        backend.run(data.arrays, call)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _best_schedule(core: Core, request: Request, arrays: Mapping[str, object]) -> dict[str, int] | None:
    """The numbers of the fastest schedule of a program; None if that is the chosen one, or the model has no such program.

    Groups of numbers are tried one after the other, each with the best of those before.
    """
    try:
        program = core.derive(request).program
    except RequestError:
        return None
    chosen = choose(program, core.options.real)
    best, least = chosen, _gpu_seconds(core, request, arrays, chosen)
    usual = least
    for group in ALTERNATIVES:
        for numbers in group:
            try:
                tried = schedule_of({**best.numbers(), **numbers}, "tried")
                if tried == best:
                    continue
                seconds = _gpu_seconds(core, request, arrays, tried)
            except RequestError:  # impossible together, or no memory for it
                continue
            if seconds < least:
                best, least = tried, seconds
    return best.numbers() if best != chosen and least < GAIN * usual else None


def _gpu_seconds(core: Core, request: Request, arrays: Mapping[str, object], schedule: Schedule) -> float:
    """The median time of one call with everything on the device."""
    loaded = core.loaded(request)
    data = core.arrays(loaded, arrays)
    module = build_cuda(core.graph.name, [loaded.program], core.options.real, schedules=[schedule])
    program = Cuda(module[loaded.program.name]).program
    columns = COLUMNS if program.plan.has_columns else 0
    call = core.call(data, columns=columns, column_scale=1 / max(columns, 1))
    core.check_memory(loaded, call)
    with program.prepared(data.arrays, program.outputs(call), call) as prepared:
        launch, _ = prepared
        times = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            launch()
            program.device.wait()
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
