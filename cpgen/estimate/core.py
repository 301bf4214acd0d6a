"""What every program of a model runs through: arrays checked, columns in batches, memory, results that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.derived import Derived
from cpgen.derive.outputs import SUMMED, name_of, read_output, variance_of
from cpgen.derive.probes import direction_count
from cpgen.derive.programs import ESTIMATORS
from cpgen.derive.request import EXACT, Request, by_method
from cpgen.errors import BudgetError, RequestError
from cpgen.estimate.arrays import all_finite, check_arrays
from cpgen.estimate.compiled import Compiled, Loaded
from cpgen.estimate.finite import MOST_ROWS, settle
from cpgen.estimate.memory import available_bytes, human
from cpgen.estimate.options import Options
from cpgen.estimate.results import Estimate, Estimates
from cpgen.estimate.sampling import (
    Sampling,
    combine,
    freedom,
    small_enough,
    variance_of_mean,
    whole_design,
    widening,
)
from cpgen.ir.call import Call
from cpgen.ir.nodes import ROWS, Graph, Input
from cpgen.ir.noise import DESIGNS, IDENTITY, variance_of_column
from cpgen.native import arithmetic, rows_of, warn_of_arithmetic

Array = NDArray[np.floating]

# workspace above which columns are evaluated in batches, so that a few thousand samples need no more memory than a few
BATCH_BYTES = 256 << 20
SMALL_BYTES = 16 << 20


class Data(NamedTuple):
    """The checked arrays that a program reads, by name, and the rows; None if plain numbers stand for the one row."""

    arrays: dict[str, Array]
    rows: int | None

    @property
    def row_count(self) -> int:
        """1 for the one row of plain numbers."""
        return self.rows or 1

    def with_arrays(self, more: Mapping[str, Array]) -> Data:
        """The same with inputs that are no variables of the model: directions, weights."""
        return Data({**self.arrays, **more}, self.rows)


@dataclass(frozen=True)
class Found:
    """Outputs of a program by name, from so many columns, ``exact`` if no random ones were needed."""

    outputs: dict[str, Array]
    columns: int
    exact: bool


class Core:
    """One model with its programs: derived, compiled, their methods chosen (:attr:`programs`), and run."""

    def __init__(self, graph: Graph, wrt: Sequence[Input], options: Options) -> None:
        self.graph, self.wrt, self.options = graph, tuple(wrt), options
        self.real = np.dtype(options.real)
        self.programs = Compiled(graph, wrt, options)
        self._with_rows = [v for v in graph.variables if v.has_rows]
        self._constants = {v.name: v.held(self.real) for v in graph.variables if v.kind == "constant"}
        self._names = {v.name for v in graph.variables} - self._constants.keys()

    def derive(self, request: Request) -> Derived:
        """See :meth:`Compiled.derive`."""
        return self.programs.derive(request)

    def outline(self, request: Request) -> Derived:
        """See :meth:`Compiled.outline`."""
        return self.programs.outline(request)

    def loaded(self, request: Request) -> Loaded:
        """See :meth:`Compiled.loaded`."""
        return self.programs.loaded(request)

    def leaf(self, name: str) -> Input:
        """The variable of that name in wrt.  Raises RequestError if there is none."""
        for leaf in self.wrt:
            if leaf.name == name:
                return leaf
        raise RequestError(
            f"{name!r} is not among wrt ({', '.join(v.name for v in self.wrt)}): compile with wrt containing it"
        )

    # What the outputs of a request are, and what users call them

    @cached_property
    def gradients(self) -> dict[str, str]:
        """Output -> what an error calls it."""
        return {name_of("gradient", v.name): f"gradient of {v.name}" for v in self.wrt}

    @cached_property
    def diagonals(self) -> dict[str, str]:
        """Output -> leaf, which is what the estimate is called."""
        return {name_of("diagonal", v.name): v.name for v in self.wrt}

    def by_leaf(self, role: str, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a role, one for each leaf, by leaf."""
        return {v.name: outputs[name_of(role, v.name)] for v in self.wrt}

    # Methods

    def diagonal_request(self, method: str, sampling: Sampling) -> tuple[Request, str]:
        """The program behind a method of the diagonal, and why it was chosen where the library chose it."""
        if method not in ("auto", *ESTIMATORS):
            raise RequestError(f"method={method!r} is not one of auto, {', '.join(ESTIMATORS)}")
        return self.request("diagonal", method, sampling)

    def request(self, what: str, method: str, sampling: Sampling) -> tuple[Request, str]:
        """The program behind a method, and why it was chosen where "auto" left it to the library."""
        if method != "auto":
            return self._by_method(what, method, sampling), ""
        usual = self._by_method(what, "cp", sampling)
        if sampling.decide(self.outline(usual))[0] != "sample":
            return usual, self.outline(usual).choice or "exact for no more columns than samples"
        if sampling.exact is None:
            columns = self.programs.exact_columns(what, int(sampling.samples))
            if columns is not None:
                return self.programs.exact(EXACT[what]), f"exact for {columns} columns"
        choice = self.programs.choice(what)
        if choice.method == "cp":
            return usual, choice.reason
        return by_method(what, choice.method), choice.reason

    def _by_method(self, what: str, method: str, sampling: Sampling) -> Request:
        """The program behind a method; for "cp" the exact one where that is wanted, unless sampling is insisted on."""
        if method == "directions":
            self.check_directions()
            if sampling.exact is False:
                raise RequestError("method='directions' is exact; leave out exact=False or take another method")
        if method != "cp":
            return by_method(what, method)
        usual = by_method(what)
        outline = self.outline(usual)
        if outline.unit:
            return by_method(what, "cp") if sampling.exact is False else usual
        return self.programs.exact(EXACT[what]) if sampling.decide(outline)[0] == "exact" else usual

    def check_directions(self) -> None:
        """Raise RequestError where unit directions have no meaning."""
        if direction_count(self.wrt) is None:
            raise RequestError("method='directions' is for inputs with rows or for parameters, not for both at once")

    # Evaluation

    def arrays(self, loaded: Loaded, arrays: Mapping[str, object]) -> Data:
        """The arrays that a program reads, checked.  Raises RequestError, ShapeError, DataError."""
        variables = loaded.variables
        gpu = self.options.target == "cuda"
        every = {**arrays, **self._constants} if self._constants else arrays
        if not gpu and arrays.keys() <= self._names and all(type(every.get(v.name)) is np.ndarray for v in variables):
            quick = {v.name: cast(Array, every[v.name]) for v in variables}
            found = rows_of(tuple(quick.values()), loaded.shapes, self.options.real)
            if found or (found == 0 and not self._with_rows):
                return Data(quick, found or 1)
        given, rows = check_arrays(self.graph, variables, arrays, self.real, gpu)
        with_rows = [v for v in self._with_rows if v.name in arrays]
        if with_rows and not any(v.has_rows for v in variables):
            _, rows = check_arrays(self.graph, with_rows, arrays, self.real, gpu)
        if with_rows and all(np.ndim(arrays[v.name]) == 0 for v in with_rows):  # type: ignore[arg-type]
            return Data(given, None)
        return Data(given, rows)

    def call(self, data: Data, **numbers: Any) -> Call:
        """A call over these rows; ``numbers``: the other fields of :class:`cpgen.ir.call.Call`."""
        return Call(data.row_count, row_scale=1.0 / data.row_count, threads=self.options.threads, **numbers)

    def unit_call(self, data: Data, columns: int, **numbers: Any) -> Call:
        """A call with unit vectors for noise."""
        return self.call(data, columns=columns, design=IDENTITY, **numbers)

    def evaluate(self, request: Request, arrays: Mapping[str, object], asked: Mapping[str, str]) -> dict[str, Array]:
        """The outputs of a program without columns; those that were ``asked`` for follow the policy."""
        loaded = self.loaded(request)
        return self.settled(loaded, self.arrays(loaded, arrays), asked)

    def settled(self, loaded: Loaded, data: Data, asked: Mapping[str, str]) -> dict[str, Array]:
        """:meth:`run` without columns, then :meth:`settle`."""
        call = self.call(data)
        outputs = self.run(loaded, data, call)
        self.settle(loaded, outputs, asked, data, call)
        return outputs

    def run(self, loaded: Loaded, data: Data, call: Call) -> dict[str, Array]:
        """The outputs of one call, without an axis of rows where plain numbers stand for the one row."""
        if found := arithmetic():
            warn_of_arithmetic(found)
        self.check_memory(loaded, call)
        outputs = loaded.backend.run(data.arrays, call)
        if data.rows is None:
            for name, node in loaded.program.outputs:
                if node.has_rows and name in outputs:
                    outputs[name] = np.squeeze(outputs[name], axis=node.shape.index(ROWS))
        return outputs

    def settle(
        self,
        loaded: Loaded,
        outputs: dict[str, Array],
        asked: Mapping[str, str],
        data: Data,
        call: Call | None = None,
    ) -> None:
        """Apply the policy of :mod:`cpgen.estimate.finite` to the outputs that were ``asked`` for, in place.

        Where rows were added up, those at fault are looked for with calls like ``call``; None leaves that out.
        """

        def row_axis(label: str) -> int | None:
            return self._row_axis(loaded, label) if data.rows is not None else None

        def bad_rows(labels: Sequence[str]) -> list[int]:
            return [] if call is None else self._bad_rows(loaded, labels, data, call)

        settle(outputs, asked, row_axis, bad_rows, self.options.nonfinite, self.graph, self.real)

    def _row_axis(self, loaded: Loaded, label: str) -> int | None:
        node = loaded.outputs.get(label)
        if node is None:  # a block put together from products with unit directions
            first = [v for v in self.wrt for b in self.wrt if label == name_of("block", v.name, b.name)]
            return 0 if any(v.has_rows for v in first) else None
        return node.shape.index(ROWS) if node.has_rows else None

    def _bad_rows(self, loaded: Loaded, labels: Sequence[str], data: Data, call: Call) -> list[int]:
        """The first rows whose part of a sum over rows is not finite, by halving."""
        given = data.arrays
        split = [v.name for v in loaded.program.inputs if v.has_rows and v.name in given]
        if data.row_count == 1 or not split or not all(isinstance(given[name], np.ndarray) for name in split):
            return []
        found: list[int] = []
        known = [label for label in labels if label in loaded.outputs] or list(loaded.outputs)
        waiting = [(0, data.row_count)]
        while waiting and len(found) < MOST_ROWS:
            start, stop = waiting.pop()
            part = {name: array[start:stop] if name in split else array for name, array in given.items()}
            size = stop - start
            outputs = self.run(loaded, Data(part, size), replace(call, rows=size, row_scale=1.0 / size))
            if getattr(outputs, "finite", False) or all(all_finite(outputs[label]) for label in known):
                continue
            if size == 1:
                found.append(start)
                continue
            middle = (start + stop) // 2
            waiting += [(middle, stop), (start, middle)]
        return found

    # Memory

    def exceeded(self, need: int) -> int | None:
        """The bytes that are allowed, if ``need`` is more."""
        limit = self.options.memory_limit
        if limit is None:
            if need <= SMALL_BYTES:  # not worth asking the system
                return None
            limit = available_bytes()
        return limit if need > limit else None

    def check_memory(self, loaded: Loaded, call: Call) -> None:
        """Raise BudgetError if workspace and outputs of a call do not fit."""
        need = self._bytes(loaded, call)
        limit = self.exceeded(need)
        if limit is None:
            return
        fits = call.columns
        while fits > 0:
            fits //= 2
            if self._bytes(loaded, replace(call, columns=fits)) <= limit:
                break
        hint = (
            f"{fits} columns at a time would fit"
            if fits
            else "ask for fewer rows or for single blocks or entries"
        )
        raise BudgetError(
            f"{loaded.program.name} needs {human(need)} for {call.rows} rows and {call.columns} columns, "
            f"{human(limit)} are allowed; {hint} (or raise memory_limit)"
        )

    def _bytes(self, loaded: Loaded, call: Call) -> int:
        return loaded.backend.workspace_bytes(call) + loaded.output_bytes(call, self.real)

    def batch(self, loaded: Loaded, data: Data, columns: int) -> int:
        """How many of ``columns`` to evaluate in one sweep: fewer do not help against what needs memory without any."""

        def needed(columns: int) -> int:
            return loaded.backend.workspace_bytes(Call(data.row_count, columns, threads=self.options.threads))

        size, fixed = columns, needed(0)
        while size > 2 and needed(size) - fixed > BATCH_BYTES:
            size = (size + 1) // 2
        return size

    # Estimates

    def estimated(
        self,
        request: Request,
        wanted: Mapping[str, str],
        sampling: Sampling,
        arrays: Mapping[str, object],
        reason: str = "",
        more: Mapping[str, Array] | None = None,
    ) -> tuple[Estimates, dict[str, Array]]:
        """The ``wanted`` outputs (output -> name of the result) as estimates, and all outputs.

        ``reason``: why this method.  ``more``: inputs of the program besides ``arrays``.
        """
        mode, columns = sampling.decide(self.outline(request))
        loaded = self.loaded(request)
        data = self.arrays(loaded, arrays).with_arrays(more or {})
        call = self.call(data)
        if mode == "closed":
            found = Found(self.run(loaded, data, call), columns, True)
        elif mode == "exact":
            found = Found(self.exact(loaded, data, columns), columns, True)
        else:
            found = self._sampled(loaded, data, columns, sampling, wanted)
        if mode != "closed":
            design = IDENTITY if found.exact else DESIGNS[sampling.design]
            batch = self.batch(loaded, data, found.columns)
            call = self.call(data, columns=batch, design=design, seed=sampling.seed, wanted=loaded.without_variances)
        what = request.what
        asked = {label: what if name == what else f"{what} of {name}" for label, name in wanted.items()}
        if request.with_gradient:
            asked |= {"value": "value"} | self.gradients
        self.settle(loaded, found.outputs, asked, data, call)
        return self.package(loaded, wanted, found, sampling, data.rows, reason), found.outputs

    def exact(self, loaded: Loaded, data: Data, columns: int) -> dict[str, Array]:
        """Unit columns; in batches, each of which repeats what needs no columns, taken off again."""
        batch = self.batch(loaded, data, columns)
        wanted = loaded.without_variances
        if columns <= batch:
            return self.run(loaded, data, self.unit_call(data, columns, wanted=wanted))
        base = self.run(loaded, data, self.unit_call(data, 0, wanted=wanted))
        total = {name: array.copy() for name, array in base.items()}
        for start in range(0, columns, batch):
            size = min(batch, columns - start)
            part = self.run(loaded, data, self.unit_call(data, size, first_column=start, wanted=wanted))
            for name, array in part.items():
                if name != "kinks":
                    with np.errstate(invalid="ignore"):  # inf - inf; settle has the word on it
                        total[name] = total[name] + (array - base[name])
        return total

    def _sampled(
        self, loaded: Loaded, data: Data, columns: int, sampling: Sampling, wanted: Mapping[str, str]
    ) -> Found:
        """Batches of columns until the count, or the error asked for, is reached."""
        total: dict[str, Array] = {}
        used, target = 0, columns
        order = whole_design(loaded.derived)
        while True:
            size = self.batch(loaded, data, target - used)
            if target - used - size == 1:
                size -= 1  # a batch of one column has no spread of its own
            spread = variance_of_column(size)  # until all have come
            call = self.call(
                data,
                columns=size,
                first_column=used,
                seed=sampling.seed,
                design=DESIGNS[sampling.design],
                first_row=sampling.first_row,
                column_scale=1.0 / size,
                variance_scale=spread,
                wanted=None if spread > 0 else loaded.without_variances,
            )
            part = self.run(loaded, data, call)
            with np.errstate(invalid="ignore"):
                total = combine(total, used, part, size)
            used += size
            of_mean = variance_of_mean(used, sampling.design, order)
            scaled = {n: a * of_mean if read_output(n).is_variance else a for n, a in total.items()}
            if not getattr(part, "finite", False) and not all(all_finite(total[label]) for label in wanted):
                return Found(scaled, used, False)  # more columns make it no better
            if used < target:
                continue
            draws = min(self.draws_of_rows(loaded, label, data.rows) for label in wanted)
            free = freedom(used, draws, any(read_output(label).role in SUMMED for label in wanted))
            if (
                sampling.rtol is None
                or small_enough(scaled, wanted, sampling.rtol, sampling.confidence, free)
                or used >= sampling.max_samples
            ):
                return Found(scaled, used, False)
            p = loaded.derived.columns
            if sampling.exact is None and p is not None and p <= min(2 * used, sampling.max_samples):
                return Found(self.exact(loaded, data, p), p, True)
            target = min(2 * used, sampling.max_samples)

    def draws_of_rows(self, loaded: Loaded, label: str, rows: int | None) -> int:
        """How many rows that draw on their own an output adds up."""
        own = loaded.outputs.get(label)
        return 1 if own is None or own.has_rows or label in loaded.derived.joint else rows or 1

    def package(
        self,
        loaded: Loaded,
        wanted: Mapping[str, str],
        found: Found,
        sampling: Sampling,
        rows: int | None,
        reason: str = "",
    ) -> Estimates:
        """Outputs with their variances as estimates; ``wanted``: output -> name of the result."""
        derived, outputs = loaded.derived, found.outputs
        samples, exact = found.columns, found.exact
        result = {}
        kinks = int(outputs["kinks"]) if "kinks" in outputs else 0
        for label, name in wanted.items():
            value = outputs[label]
            is_exact = exact or label in derived.exact
            if is_exact:
                stderr = np.zeros(value.shape, value.dtype)
            elif samples == 1:
                stderr = np.empty(value.shape, value.dtype)
                stderr.fill(np.nan)
            else:
                summed = read_output(label).role in SUMMED
                wider = widening(samples, self.draws_of_rows(loaded, label, rows), summed)
                stderr = np.sqrt(outputs[variance_of(label)]) * value.dtype.type(wider)
            if not all_finite(value):  # it is NaN there, and nothing is known about its error
                stderr = np.where(np.isfinite(value), stderr, np.nan).astype(value.dtype)
            result[name] = Estimate(
                name=name,
                value=value,
                stderr=stderr,
                samples=samples,
                exact=is_exact and not derived.biased,
                seed=sampling.seed,
                method=derived.estimator,
                design="unit" if exact and samples else ("none" if exact else sampling.design),
                backend=loaded.backend.label,
                biased=derived.biased,
                kinks=kinks,
                reason=reason,
            )
        return Estimates(result)


