"""Which estimator samples a diagonal or a trace with ``method="auto"``: the one with least variance times work.

Curvature propagation errs by the absolute Hessian, Hutchinson's estimator by what is off the diagonal, and neither can
be read off a graph. So both are tried, on few arrays that are made for it: unit variances, weights divided by the root
of their fan-in, inside declared ranges, always the same. The choice is a function of the model and the options alone.
No array of a caller and no draw that is averaged has a part in it, so the estimate stays unbiased, and its bits depend
neither on earlier calls nor on a split of the rows. :meth:`cpgen.Estimator.choose` makes it from given arrays instead,
to be kept.

The two are not mixed.  Weights ``w`` and ``1 - w`` by inverse variances ``v`` and work ``c`` give variance times work
``(c1 + c2) / (1/v1 + 1/v2)``, a mean of ``c1 v1`` and ``c2 v2``: never below the better one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.derived import Derived
from cpgen.derive.outputs import read_output
from cpgen.derive.request import Request
from cpgen.estimate.backends import Interpreted
from cpgen.estimate.options import Options
from cpgen.estimate.tuning import AUTO, METHODS
from cpgen.ir.call import Call
from cpgen.ir.cost import work
from cpgen.ir.draws import draws
from cpgen.ir.nodes import Graph, topological
from cpgen.ir.noise import INDEPENDENT

Array = NDArray[np.floating]

SEED = 0x9E3779B97F4A7C15  # of the trials, whatever the caller's
TRIES = 4  # columns of a trial
# rows, and arrays that are drawn: the first that the interpreter can afford
SIZES = ((32, 3), (16, 3), (8, 3), (4, 3), (2, 2), (1, 2))
MOST_WORK = 50_000_000
ATTEMPTS = 4  # kinds of arrays until the results are finite
UNIT = 3**0.5  # makes the variance of numbers drawn from -1 .. 1 one
GAIN = 1.25  # what Hutchinson's estimator has to win, in variance times work
SMALL = 0.05  # the relative error of one sample below which nothing else is looked at
CLEAR = 3  # or 1/3: the same on the first arrays, above which no others are looked at
COLUMNS = 16  # for which the work is counted


@dataclass(frozen=True)
class Choice:
    """What "auto" samples by, and why."""

    method: str
    reason: str
    gain: float | None = None
    """Variance times work of cp over that of hutchinson, where they were compared."""


@dataclass(frozen=True)
class Trial:
    """Of one estimator on one set of arrays: the variance of one sample, and the squared norm of what is estimated."""

    variance: float
    size: float

    @property
    def error(self) -> float:
        """Relative, of one sample."""
        return (self.variance / self.size) ** 0.5 if self.size > 0 else float("inf")


class Derives(Protocol):
    """An estimator, or its programs."""

    def derive(self, request: Request) -> Derived: ...


class Programs(Derives, Protocol):
    """Those of one model."""

    graph: Graph
    options: Options


def choose(programs: Programs, what: str) -> Choice:
    """The choice for "diagonal" or "trace" of a model."""
    tuned = programs.options.tuning.methods.get(AUTO[what]) if programs.options.tuning else None
    if tuned:
        return Choice(tuned, "chosen on given arrays by choose or tune")
    first = programs.derive(Request(what, "cp"))
    if programs.options.factor != "signed":
        return Choice("cp", f"factor={programs.options.factor!r} is curvature propagation's")
    if first.columns == 0:
        return Choice("cp", "no noise is needed")
    graph = programs.graph
    has_rows = graph.objective.has_rows
    fitting = [(r if has_rows else 1, n) for r, n in SIZES if work(first.program, r, 1) * TRIES * n <= MOST_WORK]
    if not fitting:
        return Choice("cp", "too large to be tried here: choose(...) tries on given arrays")
    rows, count = fitting[0]
    arrays: list[Mapping[str, Array]] = []
    tried: dict[str, list[Trial | None]] = {method: [] for method in METHODS}

    def second(derived: Derived) -> Sequence[Trial | None]:
        known = tried["hutchinson"]
        known += [_tried(derived, what, a, rows) for a in arrays[len(known) :]]
        return known

    choice = Choice("cp", "no arrays were found on which to try it: choose(...) tries on given ones")
    for seed in range(count):
        made = ((a, _tried(first, what, a, rows)) for a in synthetic(graph, rows, seed))
        for found, of_first in islice(((a, t) for a, t in made if t is not None), 1):
            arrays.append(found)
            tried["cp"].append(of_first)
        if arrays and seed in (0, count - 1):
            choice = compared(programs, what, rows, [t for t in tried["cp"] if t is not None], second)
            if choice.gain is not None and max(choice.gain, 1 / choice.gain) > CLEAR:
                break
    return choice


def compared(
    programs: Derives,
    what: str,
    rows: int,
    first: Sequence[Trial],
    tried: Callable[[Derived], Sequence[Trial | None]],
) -> Choice:
    """The choice by the trials of cp and those of hutchinson, which is derived and ``tried`` only if the first err."""
    if all(t.error < SMALL or t.variance == 0 for t in first):
        errs = max((t.error for t in first if t.variance), default=0.0)
        return Choice("cp", f"one sample errs by {errs:.2g}, relative to the whole")
    found = {"cp": list(first)}
    trials = tried(programs.derive(Request(what, "hutchinson")))
    if any(t is None for t in trials):
        return Choice("cp", "hutchinson was not finite where it was tried")
    found["hutchinson"] = [t for t in trials if t is not None]
    cost = {m: work(programs.derive(Request(what, m)).program, rows, COLUMNS) for m in METHODS}
    ratios = []
    for a, b in zip(found["cp"], found["hutchinson"], strict=True):
        if a.variance > 0 or b.variance > 0:
            ratios.append(np.clip(a.variance * cost["cp"] / max(b.variance * cost["hutchinson"], 1e-300), 1e-6, 1e6))
    gain = float(np.exp(np.mean(np.log(ratios)))) if ratios else 1.0
    errors = {m: float(np.median([t.error for t in trials])) for m, trials in found.items()}
    share = cost["hutchinson"] / cost["cp"]
    return Choice(
        "hutchinson" if gain > GAIN else "cp",
        f"one sample of cp errs by {errors['cp']:.2g}, of hutchinson by {errors['hutchinson']:.2g} for {share:.2g} of "
        f"the work: variance times work is {gain:.2g} to 1",
        gain,
    )


def synthetic(graph: Graph, rows: int, seed: int) -> Iterator[dict[str, Array]]:
    """Arrays for all variables, several kinds, the likeliest first."""
    bounded = {v.name for v in graph.variables if v.low is not None or v.high is not None or v.kind == "constant"}
    made = draws(topological([graph.objective]), list(graph.variables), rows, seed=seed)
    for attempt, arrays in zip(range(ATTEMPTS), made, strict=False):
        unit = UNIT if attempt == 0 else 1.0
        yield {name: array if name in bounded else array * unit for name, array in arrays.items()}


def _tried(derived: Derived, what: str, arrays: Mapping[str, Array], rows: int) -> Trial | None:
    """By the interpreter, which is there without compiling; None if a result is not finite."""
    backend = Interpreted(derived.program, np.dtype("float64"), "")

    def run(column: int) -> dict[str, Array]:
        call = Call(rows, 1, SEED, INDEPENDENT, first_column=column, row_scale=1.0 / rows)
        with np.errstate(all="ignore"):
            return backend.run(arrays, call)

    return trial(what, run, TRIES)


def trial(what: str, run: Callable[[int], Mapping[str, Array]], columns: int) -> Trial | None:
    """``run``: the outputs of a column.  The variance is taken from columns one by one."""
    values = []
    for column in range(columns):
        outputs = run(column)
        labels = sorted(label for label in outputs if read_output(label).of_column)
        values.append(np.concatenate([np.ravel(np.asarray(outputs[label], np.float64)) for label in labels]))
    each = np.stack(values)
    if not np.isfinite(each).all():
        return None
    variance = float(each.var(axis=0, ddof=1).sum())
    return Trial(variance, max(float((each.mean(axis=0) ** 2).sum()) - variance / columns, 0.0))

