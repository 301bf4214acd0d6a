"""The estimator: one model, compiled, and everything that can be asked of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from cpgen.derive import programs
from cpgen.derive.derived import Derived
from cpgen.derive.probes import direction_count
from cpgen.derive.sources import Setting
from cpgen.emit import emit_c
from cpgen.emit.cuda import emit_cuda
from cpgen.errors import BudgetError, RequestError
from cpgen.estimate import lowrank, show
from cpgen.estimate.arrays import all_finite, check_arrays, gathered, keyword
from cpgen.estimate.bound import Bound, bind
from cpgen.estimate.captured import Captured
from cpgen.estimate.compiled import AND_GRADIENT, Compiled, Form, Loaded, Options
from cpgen.estimate.finite import MOST_ROWS, settle
from cpgen.estimate.groups import Groups, traces
from cpgen.estimate.memory import available_bytes, human
from cpgen.estimate.results import Estimate, Estimates, Hessian, Sketch, Traces, pair_name
from cpgen.estimate.sampling import (
    Sampling,
    combine,
    freedom,
    is_count,
    small_enough,
    variance_of_mean,
    widening,
)
from cpgen.estimate.stream import Stream
from cpgen.estimate.tune import Tuning, choose_methods, tune
from cpgen.ir.call import Call
from cpgen.ir.flat import FlatGraph, flat, graph_of
from cpgen.ir.nodes import ROWS, Graph, Input
from cpgen.ir.noise import DESIGNS, IDENTITY, noise_order, variance_of_column
from cpgen.ir.verify import verify_constants
from cpgen.native import NativeProgram, arithmetic, rows_of, warn_of_arithmetic
from cpgen.native.cuda import CudaModule
from cpgen.scalar import scoped

Array = NDArray[np.floating]

# workspace above which columns are evaluated in batches, so that a few thousand samples need no more memory than a few
BATCH_BYTES = 256 << 20
SMALL_BYTES = 16 << 20
DEFAULT_PROGRAMS = ("value", "gradient", "diagonal")
NUMBERS = ("trace", "sums")  # outputs whose variances are moderated as those of sums


class Estimator:
    """Curvature of one model, natively.  Made by :func:`cpgen.compile`.

    Every method takes the model's arrays by name: as keywords, or as one mapping before the options, where a variable may
    have the name of an option too (``est.diagonal(arrays, samples=4)``).  Inputs with rows give results for each row,
    parameters give results summed (or averaged) over rows; where every input with rows is a plain number, results have no
    axis of rows.  Programs are compiled when first asked for and cached on disk.
    """

    def __init__(self, graph: Graph, wrt: Sequence[Input], options: Options) -> None:
        self.graph = graph
        self.wrt = tuple(wrt)
        self.options = options
        self.real = np.dtype(options.real)
        verify_constants(graph, options.real)
        self._compiled = Compiled(graph, wrt, options)
        self._with_rows = [v for v in graph.variables if v.has_rows]
        self._constants = {v.name: v.held(self.real) for v in graph.variables if v.kind == "constant"}
        self._names = {v.name for v in graph.variables} - self._constants.keys()

    def __repr__(self) -> str:
        return show.described(self.graph, self.wrt, self.options, self._compiled.labels())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled and copied as model and options: programs are compiled, or found in the cache, at their first call."""
        return _restored, (flat(self.graph), tuple(v.name for v in self.wrt), self.options)

    def derive(self, key: str) -> Derived:
        """The derivation behind a program key such as "gradient" or "diagonal:hutchinson", simplified."""
        return self._compiled.derive(key)

    def outline(self, key: str, make: Callable[[], Derived] | None = None) -> Derived:
        """What a derivation found, without its expressions: see :meth:`Compiled.outline`.  What a key alone does not
        describe is derived by ``make``."""
        return self._compiled.outline(key, make)

    def load(self, *keys: str) -> None:
        """Compile several programs side by side (those not loaded yet)."""
        self._compiled.load(*keys)

    def loaded(self, key: str) -> Loaded:
        """A program with what runs it, compiled if it was not."""
        return self._compiled.loaded(key)

    def native(self, key: str, form: Form) -> NativeProgram:
        """A program compiled in another form than the one that is loaded."""
        return self._compiled.native(key, form)

    def show(self, program: str = "diagonal") -> str:
        """The noise analysis, the graph, the strategy and the stages of a program, for reading.

        For "diagonal" and "trace" the first line says what ``method="auto"`` samples by, which has a program of its own.
        """
        blas = self.options.blas if self.options.target == "cpu" else ""
        drawn = self._compiled.plan if self.options.target == "cpu" else self._compiled.gpu_plan
        planned = None if self._compiled.recurrent else drawn(program)
        text = show.show(self.derive(program), planned, blas)
        if program not in ("diagonal", "trace"):
            return text
        choice = self._compiled.choice(program)
        return f"method='auto' samples by {choice.method}: {choice.reason}\n{text}"

    def columns(self, program: str = "diagonal") -> int | None:
        """Noise columns with which a program's answer is exact; 0 if it is exact as it stands, None if it never is."""
        return self.outline(program).columns

    def size(
        self, programs: Sequence[str] = DEFAULT_PROGRAMS, rows: int = 1, columns: int = 1, threads: int = 1
    ) -> dict[str, object]:
        """Text size, operations and workspace of programs, before anything is compiled."""
        plans = [self._compiled.plan(key) for key in programs]
        return show.size(self.graph.name, plans, self.options.real, rows, columns, threads)

    @scoped
    def source(self, programs: Sequence[str] = DEFAULT_PROGRAMS, target: str | None = None) -> dict[str, str]:
        """The C or CUDA text of programs, file name -> content; ``target``: "cpu" or "cuda" (default: as compiled)."""
        if (target or self.options.target) == "cuda":
            plans = [self._compiled.gpu_plan(key) for key in programs]
            return dict(emit_cuda(self.graph.name, plans, self.options.real).files())
        plans = [self._compiled.plan(key) for key in programs]
        return dict(emit_c(self.graph.name, plans, self.options.real).files())

    # Evaluation

    def _call(self, key: str, arrays: Mapping[str, object], asked: Mapping[str, str]) -> dict[str, Array]:
        """The outputs of a program without columns; those that were ``asked`` for follow the policy."""
        loaded = self.loaded(key)
        given, rows = self.arrays(loaded, arrays)
        outputs = self._run(loaded, given, rows)
        self.settle(loaded, outputs, asked, given, rows)
        return outputs

    def settle(
        self,
        loaded: Loaded,
        outputs: dict[str, Array],
        asked: Mapping[str, str],
        given: Mapping[str, Array] | None,
        rows: int | None,
        **numbers: int | float,
    ) -> None:
        """Apply the policy of :mod:`cpgen.estimate.finite` to the outputs that were ``asked`` for, in place.

        ``rows`` None: outputs have no axis of rows.  Where rows were added up, those at fault are looked for in ``given``
        with calls of these ``numbers``; None for ``given`` leaves that out.
        """
        settle(
            outputs,
            asked,
            lambda label: self._row_axis(loaded, label) if rows is not None else None,
            lambda labels: self.bad_rows(loaded, labels, given or {}, rows or 1, **numbers),
            self.options.nonfinite,
            self.graph,
            self.real,
        )

    def _row_axis(self, loaded: Loaded, label: str) -> int | None:
        node = loaded.outputs.get(label)
        if node is None:  # a block put together from products with unit directions
            first = [v for v in self.wrt for b in self.wrt if label == programs.block_label(v.name, b.name)]
            return 0 if any(v.has_rows for v in first) else None
        return node.shape.index(ROWS) if node.has_rows else None

    def bad_rows(
        self, loaded: Loaded, labels: Sequence[str], given: Mapping[str, Array], rows: int, **numbers: int | float
    ) -> list[int]:
        """The first rows whose part of a sum over rows is not finite, by halving."""
        split = [v.name for v in loaded.program.inputs if v.has_rows and v.name in given]
        if rows == 1 or not split or not all(isinstance(given[name], np.ndarray) for name in split):
            return []
        found: list[int] = []
        known = [label for label in labels if label in loaded.outputs] or list(loaded.outputs)
        waiting = [(0, rows)]
        while waiting and len(found) < MOST_ROWS:
            start, stop = waiting.pop()
            part = {name: array[start:stop] if name in split else array for name, array in given.items()}
            outputs = self._run(loaded, part, stop - start, **numbers)
            if getattr(outputs, "finite", False) or all(all_finite(outputs[label]) for label in known):
                continue
            if stop - start == 1:
                found.append(start)
                continue
            middle = (start + stop) // 2
            waiting += [(middle, stop), (start, middle)]
        return found

    def arrays(self, loaded: Loaded, arrays: Mapping[str, object]) -> tuple[dict[str, Array], int | None]:
        """The checked arrays that a program reads and the rows; None if plain numbers stand for the one row."""
        variables = loaded.variables
        gpu = self.options.target == "cuda"
        every = {**arrays, **self._constants} if self._constants else arrays
        if not gpu and arrays.keys() <= self._names and all(type(every.get(v.name)) is np.ndarray for v in variables):
            quick = {v.name: cast(Array, every[v.name]) for v in variables}
            found = rows_of(tuple(quick.values()), loaded.shapes, self.options.real)
            if found or (found == 0 and not self._with_rows):
                return quick, found or 1
        given, rows = check_arrays(self.graph, variables, arrays, self.real, gpu)
        with_rows = [v for v in self._with_rows if v.name in arrays]
        if with_rows and not any(v.has_rows for v in variables):
            _, rows = check_arrays(self.graph, with_rows, arrays, self.real, gpu)
        if with_rows and all(np.ndim(arrays[v.name]) == 0 for v in with_rows):  # type: ignore[arg-type]
            return given, None
        return given, rows

    def _run(
        self, loaded: Loaded, given: Mapping[str, Array], rows: int | None, **numbers: int | float
    ) -> dict[str, Array]:
        if found := arithmetic():
            warn_of_arithmetic(found)
        spread = bool(numbers.get("variance_scale")) or not numbers.get("columns")
        call = Call(
            rows or 1,
            row_scale=1.0 / (rows or 1),
            threads=self.options.threads,
            wanted=None if spread else loaded.without_variances,
            **numbers,  # type: ignore[arg-type]
        )
        self.check_memory(loaded, call)
        outputs = loaded.backend.run(given, call)
        if rows is None:
            for name, node in loaded.program.outputs:
                if node.has_rows and name in outputs:
                    outputs[name] = np.squeeze(outputs[name], axis=node.shape.index(ROWS))
        return outputs

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
        need = loaded.backend.workspace_bytes(call) + loaded.output_bytes(call, self.real)
        limit = self.exceeded(need)
        if limit is None:
            return
        fits = call.columns
        while fits > 0:
            fits //= 2
            smaller = replace(call, columns=fits)
            if loaded.backend.workspace_bytes(smaller) + loaded.output_bytes(smaller, self.real) <= limit:
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

    def value(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> float:
        """The objective summed (or averaged) over rows."""
        outputs = self._call("value", gathered(arrays, named), {"value": "value"})
        return float(outputs["value"])

    def rows(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Array:
        """The objective of each row, shape (rows,); a model without rows gives shape ()."""
        label = "rows" if "rows" in self.loaded("value").outputs else "value"
        return self._call("value", gathered(arrays, named), {label: "rows"})[label]

    def gradient(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> dict[str, Array]:
        """The gradient for each leaf, shaped like it."""
        outputs = self._call("gradient", gathered(arrays, named), self._gradients)
        return {v.name: outputs[f"grad_{v.name}"] for v in self.wrt}

    @cached_property
    def _gradients(self) -> dict[str, str]:
        return {f"grad_{v.name}": f"gradient of {v.name}" for v in self.wrt}

    def value_and_gradient(
        self, arrays: Mapping[str, object] | None = None, /, **named: object
    ) -> tuple[float, dict[str, Array]]:
        """Both from one evaluation."""
        outputs = self._call("gradient", gathered(arrays, named), {"value": "value"} | self._gradients)
        return float(outputs["value"]), {v.name: outputs[f"grad_{v.name}"] for v in self.wrt}

    def jvp(
        self,
        directions: Mapping[str, object] | None = None,
        arrays: Mapping[str, object] | None = None,
        /,
        **named: object,
    ) -> Array:
        """The derivative of the objective along ``directions`` (leaf -> array shaped like it; absent means
        zero), per row."""
        directions = keyword(directions, "directions", named, Mapping)
        loaded = self.loaded("jvp")
        given, rows = self.arrays(loaded, gathered(arrays, named))
        given |= self._directions(loaded, directions, rows)
        outputs = self._run(loaded, given, rows)
        self.settle(loaded, outputs, {"jvp": "jvp"}, given, rows)
        return outputs["jvp"]

    def hvp(
        self,
        directions: Mapping[str, object] | None = None,
        arrays: Mapping[str, object] | None = None,
        /,
        **named: object,
    ) -> dict[str, Array]:
        """The Hessian times ``directions`` (leaf -> array shaped like it; absent means zero), leaf by leaf."""
        directions = keyword(directions, "directions", named, Mapping)
        loaded = self.loaded("hvp")
        given, rows = self.arrays(loaded, gathered(arrays, named))
        given |= self._directions(loaded, directions, rows)
        return self.product(loaded, given, rows)

    def product(self, loaded: Loaded, given: Mapping[str, Array], rows: int | None) -> dict[str, Array]:
        """The Hessian times the directions among arrays that are checked, leaf by leaf."""
        outputs = self._run(loaded, given, rows)
        self.settle(loaded, outputs, {f"hvp_{v.name}": f"hvp, {v.name}" for v in self.wrt}, given, rows)
        return {v.name: outputs[f"hvp_{v.name}"] for v in self.wrt}

    def _directions(
        self, loaded: Loaded, directions: Mapping[str, object] | None, rows: int | None
    ) -> dict[str, Array]:
        if not isinstance(directions, Mapping):
            raise RequestError(
                f"directions is a mapping, leaf -> array shaped like it, and this is {type(directions).__name__}: write "
                f"{{{self.wrt[0].name!r}: ...}}"
            )
        for name in directions:
            self._compiled.leaf(name)
        result: dict[str, Array] = {}
        names = programs.direction_names(self.graph, self.wrt)
        leaves = {names[v.name]: v for v in self.wrt}
        for node in loaded.program.inputs:
            if node.kind != "tangent":
                continue
            leaf = leaves[node.name]
            shape = tuple(e if isinstance(e, int) else rows or 1 for e in leaf.shape)
            if leaf.name in directions:
                checked, _ = check_arrays(self.graph, [leaf], {leaf.name: directions[leaf.name]}, self.real)
                result[node.name] = checked[leaf.name]
            else:
                result[node.name] = np.zeros(shape, self.real)
        return result

    def bind(
        self,
        what: str | None = None,
        arrays: Mapping[str, object] | None = None,
        /,
        out: Mapping[str, Array] | None = None,
        **named: object,
    ) -> Bound:
        """``what`` (default "gradient") of these very arrays, for calling again and again.

        "value", "gradient", exact "diagonal" or "trace", or for a few variables "hessian" (leaf -> its part of the
        Hessian, shaped ``(rows, elements of all leaves, *shape of the leaf)``).

        The arrays are checked once and read in place: change their elements between calls, not their memory.  The
        function that is returned fills ``out`` (leaf, "value" or "trace" -> array of its shape; absent ones are made) and
        returns it; a call costs little more than the generated C.  Results that are not finite follow ``nonfinite`` of
        :func:`cpgen.compile` (an error is raised after ``out`` was filled).

        Raises RequestError, ShapeError, DataError, BudgetError.
        """
        what = keyword(what, "what", named, str) or "gradient"
        return bind(self, what, out, gathered(arrays, named))

    def capture(
        self, *what: Any, samples: int = 16, seed: int = 0, design: str = "hadamard", **named: object
    ) -> Captured:
        """Some of "value", "gradient", "diagonal" and "trace" of these arrays as one CUDA graph, for replaying.

        ``with est.capture("gradient", "diagonal", samples=4, **arrays) as graph:`` holds the device memory; ``graph()``
        computes everything anew and returns program -> result, as the methods of the same names do; ``graph.replay()``
        only enqueues it on ``graph.stream``, and ``graph.results()`` waits.  Arrays that lie on the GPU are read in place
        each time; those of NumPy are copied once and again by ``graph.update(x=...)``.  Each replay draws the same noise.

        Raises RequestError (for target="cpu" too: see :meth:`bind`), ShapeError, DataError, BudgetError.
        """
        arrays = what[-1] if what and not isinstance(what[-1], str) else None
        what = what if arrays is None else what[:-1]
        return Captured(self, what, samples, seed, design, gathered(arrays, named))

    def gpu_module(self, *keys: str) -> CudaModule:
        """Programs in one library for the GPU, which a CUDA graph needs."""
        return self._compiled.on_gpu({key: self.derive(key) for key in keys})

    def tune(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Tuning:
        """Measure which exact methods and which tiles, or for target="cuda" which schedules, are fastest here.

        Keep the answer with ``.save(path)`` and compile with ``tuning=path``; nothing changes before.  Results of another
        method or tile agree to rounding, those of another schedule have the same bits.
        Raises RequestError, ShapeError, DataError.
        """
        return tune(self, gathered(arrays, named))

    def choose(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Tuning:
        """Try on these arrays which estimator ``method="auto"`` should sample the diagonal and the trace by.

        What is returned keeps the choice: compile with ``tuning=`` it, or ``.save(path)`` it first; nothing changes
        before.  The trials draw signs of their own, and nothing of them enters an estimate.  :meth:`tune` does the same
        and measures times.  Raises RequestError, ShapeError, DataError, BudgetError.
        """
        return choose_methods(self, gathered(arrays, named))

    # Estimates

    def diagonal(
        self,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 16,
        seed: int = 0,
        method: str = "auto",
        design: str = "hadamard",
        exact: bool | None = None,
        rtol: float | None = None,
        confidence: float = 0.95,
        max_samples: int = 4096,
        first_row: int = 0,
        **named: object,
    ) -> Estimates:
        """The diagonal of the Hessian, leaf by leaf: unbiased, with standard errors.

        ``samples``: noise columns.  If no more columns than that give the exact answer, the exact answer is returned
        (``exact=None``); ``exact=True`` insists on it, ``exact=False`` forbids it.  ``rtol``: keep sampling until the
        norm of the error is below ``rtol`` times the norm of the diagonal with this ``confidence`` (a probability), or
        ``max_samples`` is reached: then the bars tell how far it got.
        ``method``: "auto" (default: the exact answer where it is cheap, else "cp" or "hutchinson", whichever has the less
        variance for its work; a function of model and options, see :mod:`cpgen.estimate.choice`; ``.reason`` of a result
        says why), "cp" (curvature propagation), "hutchinson" (of what is not known in closed form), "hutchinson_plain"
        (``v * Hv``), "xdiag" (for a few dominant eigenvalues), "directions" (exact: a forward tangent for each variable),
        "s" and "tu" (the 2012 paper's, whole graph), "gauss_newton" and "becker_lecun" (biased, and labelled so).
        ``design``: "hadamard" (orthogonal columns) or "independent".
        ``first_row``: number of the first row in a larger data set, so that pieces draw the noise that the whole would.

        Raises RequestError, ShapeError, DataError, BudgetError.
        """
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, first_row, confidence)
        if method in lowrank.OF_DIAGONAL:
            return Estimates(lowrank.estimated(self, method, sampling, gathered(arrays, named)))
        key, reason = self.diagonal_key(method, sampling)
        return self.estimated(key, self._diagonals, sampling, gathered(arrays, named), reason)[0]

    @property
    def _diagonals(self) -> dict[str, str]:
        return {f"diag_{v.name}": v.name for v in self.wrt}

    def diagonal_key(self, method: str, sampling: Sampling) -> tuple[str, str]:
        """The program behind a method of the diagonal, and why it was chosen where the library chose it."""
        if method not in ("auto", *programs.ESTIMATORS):
            raise RequestError(f"method={method!r} is not one of auto, {', '.join(programs.ESTIMATORS)}")
        return self._key("diagonal", method, sampling)

    def value_gradient_and_diagonal(
        self,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 1,
        seed: int = 0,
        method: str = "auto",
        design: str = "hadamard",
        exact: bool | None = None,
        rtol: float | None = None,
        confidence: float = 0.95,
        max_samples: int = 4096,
        first_row: int = 0,
        **named: object,
    ) -> tuple[float, dict[str, Array], Estimates]:
        """All three from one forward pass: what a step of a second-order optimiser takes.

        Arguments as in :meth:`diagonal`.
        """
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, first_row, confidence)
        key, reason = self.diagonal_key(method, sampling)
        given = gathered(arrays, named)
        found, outputs = self.estimated(key + AND_GRADIENT, self._diagonals, sampling, given, reason)
        return float(outputs["value"]), {v.name: outputs[f"grad_{v.name}"] for v in self.wrt}, found

    @overload
    def trace(
        self, arrays: Mapping[str, object] | None = None, /, *, per_leaf: Literal[True], **named: Any
    ) -> Traces: ...

    @overload
    def trace(
        self, arrays: Mapping[str, object] | None = None, /, *, groups: Groups, **named: Any
    ) -> Traces: ...

    @overload
    def trace(
        self,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 16,
        seed: int = 0,
        method: str = "auto",
        design: str = "hadamard",
        exact: bool | None = None,
        rtol: float | None = None,
        confidence: float = 0.95,
        max_samples: int = 4096,
        first_row: int = 0,
        per_leaf: Literal[False] = False,
        groups: None = None,
        covariance: bool = False,
        **named: object,
    ) -> Estimate: ...

    def trace(
        self,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 16,
        seed: int = 0,
        method: str = "auto",
        design: str = "hadamard",
        exact: bool | None = None,
        rtol: float | None = None,
        confidence: float = 0.95,
        max_samples: int = 4096,
        first_row: int = 0,
        per_leaf: bool = False,
        groups: Groups | None = None,
        covariance: bool = False,
        **named: object,
    ) -> Estimate | Traces:
        """The trace of the Hessian: for each row if every leaf has rows (the Laplacian), else over everything.

        Methods: "auto" (default), "cp", "hutchinson", "hutchinson_plain", "xtrace", "hutch++", "directions" (exact) and
        "gauss_newton".  Other arguments as in :meth:`diagonal`.

        ``per_leaf=True``: the trace of each leaf's block, by name, and ``.total``, their sum.  ``groups``: the sum of the
        diagonal over each group, name -> leaf names (``["W1", "b1"]``), or leaf -> True, a mask of its elements' shape or
        whatever indexes them (``{"W1": np.s_[0, :]}``); groups may overlap.  Leaves share noise and so do entries: the
        bars of sums and total know it, and with ``covariance=True`` the result has ``.covariance``, of each two of them.
        On the CPU, by the methods of the diagonal that are no low-rank ones; neither bound nor streamed.
        """
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, first_row, confidence)
        if per_leaf or groups is not None:
            return traces(self, groups, per_leaf, covariance, method, sampling, gathered(arrays, named))
        if covariance:
            raise RequestError("covariance=True is that of several traces: give per_leaf=True or groups=...")
        if method in lowrank.OF_TRACE:
            return lowrank.estimated(self, method, sampling, gathered(arrays, named))["trace"]
        key, reason = self._key("trace", method, sampling)
        return self.estimated(key, {"trace": "trace"}, sampling, gathered(arrays, named), reason)[0]["trace"]

    def _key(self, what: str, method: str, sampling: Sampling) -> tuple[str, str]:
        """The program behind a method, and why it was chosen where "auto" left it to the library."""
        if method != "auto":
            return self._named_key(what, method, sampling), ""
        usual = self._named_key(what, "cp", sampling)
        if sampling.decide(self.outline(usual))[0] != "sample":
            return usual, self.outline(usual).choice or "exact for no more columns than samples"
        if sampling.exact is None:
            columns = self._compiled.exact_columns(what, int(sampling.samples))
            if columns is not None:
                return self._compiled.exact_key(f"{what}:exact"), f"exact for {columns} columns"
        choice = self._compiled.choice(what)
        if choice.method == "cp":
            return usual, choice.reason
        return f"{what}:{choice.method}", choice.reason

    def _named_key(self, what: str, method: str, sampling: Sampling) -> str:
        """The program behind a method; for "cp" the exact one where that is wanted, unless sampling is insisted on."""
        if method == "directions":
            self._check_directions()
            if sampling.exact is False:
                raise RequestError("method='directions' is exact; leave out exact=False or take another method")
        if method != "cp":
            return f"{what}:{method}"
        usual = self.outline(what)
        if usual.unit:
            return f"{what}:cp" if sampling.exact is False else what
        return self._compiled.exact_key(f"{what}:exact") if sampling.decide(usual)[0] == "exact" else what

    def exact_key(self, key: str) -> str:
        """The program that a call runs for an exact answer: see :meth:`Compiled.exact_key`."""
        return self._compiled.exact_key(key)

    def block(
        self,
        a: str,
        b: str | None = None,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 16,
        seed: int = 0,
        design: str = "hadamard",
        exact: bool | None = None,
        rtol: float | None = None,
        confidence: float = 0.95,
        max_samples: int = 4096,
        **named: object,
    ) -> Estimate:
        """The block of leaves ``a`` and ``b``, shape (rows?, *a, *b); arguments as in :meth:`diagonal`."""
        if not isinstance(b, str):
            raise RequestError(f"block({a!r}, ...) needs a second leaf: block({a!r}, {a!r}) is the block on the diagonal")
        first, second = self._compiled.leaf(a), self._compiled.leaf(b)
        swap = self.wrt.index(first) > self.wrt.index(second)
        if swap:
            first, second = second, first
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, 0, confidence)
        label = programs.block_label(first.name, second.name)
        name = pair_name(a, b)
        key, given = f"block:{first.name},{second.name}", gathered(arrays, named)
        found = self.estimated(key, {label: name}, sampling, given)[0][name]
        if not swap:
            return found
        inner = len(first.element_shape)
        lead = found.value.ndim - inner - len(second.element_shape)
        order = [*range(lead), *range(lead + inner, found.value.ndim), *range(lead, lead + inner)]
        return replace(found, value=found.value.transpose(order), stderr=found.stderr.transpose(order))

    def stream(
        self,
        samples: int = 16,
        seed: int = 0,
        method: str = "auto",
        design: str = "hadamard",
        exact: bool | None = None,
        first_row: int = 0,
        total_rows: int | None = None,
    ) -> Stream:
        """The diagonal over rows that arrive in pieces: ``stream.add(**arrays)`` repeatedly, then ``stream.result()``.

        The result has the same bits as one call over all rows with that method ("auto" is "cp" here).  ``total_rows`` is
        needed where the objective is a mean.
        """
        if method not in ("auto", "cp", "gauss_newton", "becker_lecun"):
            raise RequestError(f"method={method!r} cannot be streamed; cp, gauss_newton and becker_lecun can")
        method = "cp" if method == "auto" else method
        wanted = {f"diag_{v.name}": v.name for v in self.wrt}
        sampling = Sampling(samples, seed, design, exact, None, samples, first_row)
        return Stream(self, method, wanted, sampling, total_rows)

    def entries(
        self,
        wanted: Sequence[tuple[tuple[str, tuple[int, ...]], tuple[str, tuple[int, ...]]]] | None = None,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 16,
        seed: int = 0,
        design: str = "hadamard",
        exact: bool | None = None,
        rtol: float | None = None,
        confidence: float = 0.95,
        max_samples: int = 4096,
        **named: object,
    ) -> list[Estimate]:
        """Single entries of the Hessian: pairs of (leaf, index), for example ``(("W", (0, 1)), ("b", (2,)))``.

        An index into a leaf with rows is given without its row; the result then has one value a row.
        """
        wanted = keyword(wanted, "wanted", named, (list, tuple)) or ()
        try:
            pairs = [(self._entry(first), self._entry(second)) for first, second in wanted]
        except (TypeError, ValueError) as error:
            raise RequestError(
                'entries are pairs of (leaf, index), for example [(("W", (0, 1)), ("b", (2,)))]; these are ' f"{wanted!r}"
            ) from error
        if not pairs:
            raise RequestError("no entries asked for")
        key = "entries:" + ";".join(f"{a.name}{list(i)},{b.name}{list(j)}" for (a, i), (b, j) in pairs)
        setting = Setting(self.options.factor, self.options.epsilon)
        self._compiled.outline(key, lambda: programs.entries(self.graph, self.wrt, pairs, setting))
        names = {
            f"entry_{k}": f"{a.name}{list(i)},{b.name}{list(j)}#{k}"
            for k, ((a, i), (b, j)) in enumerate(pairs)
        }
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, 0, confidence)
        return list(self.estimated(key, names, sampling, gathered(arrays, named))[0].values())

    def _entry(self, wanted: tuple[str, tuple[int, ...]]) -> tuple[Input, tuple[int, ...]]:
        name, index = wanted
        leaf = self._compiled.leaf(name)
        shape = leaf.element_shape
        whole = len(index) == len(shape) and all(map(is_count, index))
        if not whole or any(not 0 <= i < e for i, e in zip(index, shape, strict=False)):
            raise RequestError(f"{name}{list(index)} is outside {name}, whose elements have shape {shape}")
        return leaf, tuple(index)

    def estimated(
        self,
        key: str,
        wanted: Mapping[str, str],
        sampling: Sampling,
        arrays: Mapping[str, object],
        reason: str = "",
        extra: Mapping[str, Array] | None = None,
    ) -> tuple[Estimates, dict[str, Array]]:
        """The ``wanted`` outputs as estimates, and all outputs.  ``extra``: inputs of the program besides ``arrays``."""
        mode, used = sampling.decide(self.outline(key))
        exact = mode != "sample"
        loaded = self.loaded(key)
        given, rows = self.arrays(loaded, arrays)
        given |= extra or {}
        if mode == "closed":
            outputs = self._run(loaded, given, rows)
        elif exact:
            outputs = self._exact(loaded, given, rows, used, sampling)
        else:
            outputs, used, exact = self._sample(loaded, given, rows, used, sampling, wanted)
        what = re.split("[:+]", key)[0]
        asked = {label: what if name == what else f"{what} of {name}" for label, name in wanted.items()}
        if AND_GRADIENT in key:
            asked |= {"value": "value"} | self._gradients
        numbers: dict[str, int | float] = {}
        if mode != "closed":
            design = IDENTITY if exact else DESIGNS[sampling.design]
            numbers = {"columns": self._batch(loaded, rows, used), "design": design, "seed": sampling.seed}
        self.settle(loaded, outputs, asked, given, rows, **numbers)
        return self.package(loaded, wanted, outputs, sampling, used, exact, rows, reason), outputs

    def _exact(
        self, loaded: Loaded, given: Mapping[str, Array], rows: int | None, columns: int, sampling: Sampling
    ) -> dict[str, Array]:
        """Unit columns; in batches, each of which repeats what needs no columns, taken off again."""
        batch = self._batch(loaded, rows, columns)
        if columns <= batch:
            return self._run(loaded, given, rows, columns=columns, design=IDENTITY, column_scale=1.0)
        base = self._run(loaded, given, rows, columns=0, design=IDENTITY, column_scale=1.0)
        total = {name: array.copy() for name, array in base.items()}
        for start in range(0, columns, batch):
            size = min(batch, columns - start)
            part = self._run(
                loaded, given, rows, columns=size, first_column=start, design=IDENTITY, column_scale=1.0
            )
            for name, array in part.items():
                if name != "kinks":
                    with np.errstate(invalid="ignore"):  # inf - inf; settle has the word on it
                        total[name] = total[name] + (array - base[name])
        return total

    def _batch(self, loaded: Loaded, rows: int | None, columns: int) -> int:
        """How many of ``columns`` to evaluate in one sweep: fewer do not help against what needs memory without any."""

        def needed(size: int) -> int:
            return loaded.backend.workspace_bytes(Call(rows or 1, size, threads=self.options.threads))

        size, fixed = columns, needed(0)
        while size > 2 and needed(size) - fixed > BATCH_BYTES:
            size = (size + 1) // 2
        return size

    def _sample(
        self,
        loaded: Loaded,
        given: Mapping[str, Array],
        rows: int | None,
        columns: int,
        sampling: Sampling,
        wanted: Mapping[str, str],
    ) -> tuple[dict[str, Array], int, bool]:
        """Batches of columns until the count, or the error asked for, is reached."""
        total: dict[str, Array] = {}
        used, target = 0, columns
        order = noise_order(loaded.program)
        while True:
            size = self._batch(loaded, rows, target - used)
            if target - used - size == 1:
                size -= 1  # a batch of one column has no spread of its own
            part = self._run(
                loaded,
                given,
                rows,
                columns=size,
                first_column=used,
                seed=sampling.seed,
                design=DESIGNS[sampling.design],
                first_row=sampling.first_row,
                column_scale=1.0 / size,
                variance_scale=variance_of_column(size),  # until all have come
            )
            with np.errstate(invalid="ignore"):
                total = combine(total, used, part, size)
            used += size
            scaled = dict(total)
            for name in total:
                if name.startswith("var_"):
                    scaled[name] = total[name] * variance_of_mean(used, sampling.design, order)
            if not getattr(part, "finite", False) and not all(all_finite(total[label]) for label in wanted):
                return scaled, used, False  # more columns make it no better
            if used < target:
                continue
            draws = min(self.draws_of_rows(loaded, label, rows) for label in wanted)
            free = freedom(used, draws, not wanted.keys().isdisjoint(NUMBERS))
            if (
                sampling.rtol is None
                or small_enough(scaled, wanted, sampling.rtol, sampling.confidence, free)
                or used >= sampling.max_samples
            ):
                return scaled, used, False
            p = loaded.derived.columns
            if sampling.exact is None and p is not None and p <= min(2 * used, sampling.max_samples):
                return self._exact(loaded, given, rows, p, sampling), p, True
            target = min(2 * used, sampling.max_samples)

    def draws_of_rows(self, loaded: Loaded, label: str, rows: int | None) -> int:
        """How many rows that draw on their own an output adds up."""
        own = loaded.outputs.get(label)
        return 1 if own is None or own.has_rows or label in loaded.derived.joint else rows or 1

    def package(
        self,
        loaded: Loaded,
        wanted: Mapping[str, str],
        outputs: Mapping[str, Array],
        sampling: Sampling,
        samples: int,
        exact: bool,
        rows: int | None,
        reason: str = "",
    ) -> Estimates:
        derived = loaded.derived
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
                wider = widening(samples, self.draws_of_rows(loaded, label, rows), label in NUMBERS)
                stderr = np.sqrt(outputs[f"var_{label}"]) * value.dtype.type(wider)
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

    def sketch(
        self,
        arrays: Mapping[str, object] | None = None,
        /,
        samples: int = 16,
        seed: int = 0,
        design: str = "hadamard",
        exact: bool = False,
        pairs: Sequence[tuple[str, str]] | None = None,
        **named: object,
    ) -> Sketch:
        """Low-rank factors with signs.  ``pairs``: only these blocks are wanted, and noise they cannot see is dropped.

        ``exact=True`` uses one column for each noise element of one row (models of a single row only: the
        factors of several rows share columns).
        """
        key = "sketch"
        if pairs is not None:
            ordered = sorted(
                {tuple(sorted(p, key=[v.name for v in self.wrt].index)) for p in map(self._named, pairs)}
            )
            key += ":" + ";".join(",".join(p) for p in ordered)
        loaded = self.loaded(key)
        given, rows = self.arrays(loaded, gathered(arrays, named))
        derived = loaded.derived
        sampling = Sampling(samples, seed, design, None, None, samples, 0)
        sampling.check()
        shared = rows is not None and rows > 1 and not all(v.has_rows for v in self.wrt)
        if exact and shared:
            raise RequestError(
                f"an exact sketch of parameters is possible for one row, not for {rows}: rows share the columns. "
                "Use hessian(), block() or entries()"
            )
        columns = (derived.columns or 0) if exact else samples
        scale = 1.0 if exact else 1.0 / columns
        outputs = self._run(
            loaded,
            given,
            rows,
            columns=columns,
            seed=seed,
            design=IDENTITY if exact else DESIGNS[design],
            column_scale=scale,
        )
        factors = {f"{sign}_{v.name}": f"factor {sign} of {v.name}" for sign in "pq" for v in self.wrt}
        numbers = {"columns": columns, "seed": seed, "design": IDENTITY if exact else DESIGNS[design]}
        self.settle(loaded, outputs, factors, given, rows, **numbers)
        return Sketch(
            p={v.name: outputs[f"p_{v.name}"] for v in self.wrt},
            q={v.name: outputs[f"q_{v.name}"] for v in self.wrt},
            scale=scale,
            exact=exact,
            samples=columns,
            seed=seed,
            backend=loaded.backend.label,
            answers=derived.answers,
            dropped=tuple(d.what for d in derived.dropped),
            kinks=int(outputs.get("kinks", np.zeros(()))),
        )

    def _named(self, pair: tuple[str, str]) -> tuple[str, str]:
        return self._compiled.leaf(pair[0]).name, self._compiled.leaf(pair[1]).name

    def hessian(
        self, arrays: Mapping[str, object] | None = None, /, method: str | None = None, **named: object
    ) -> Hessian:
        """The exact Hessian of a small problem.  Raises BudgetError if it does not fit, RequestError for a wrong method.

        ``method``: "cp" (unit vectors in place of the noise) or "directions" (of the variables); default the cheaper.
        """
        if method not in (None, "cp", "directions"):
            raise RequestError(f"method={method!r} is not one of cp, directions")
        if method == "directions":
            self._check_directions()
        usual = self._compiled.exact_key("hessian") if method is None else ""
        loaded = self.loaded({None: usual, "cp": "hessian:units"}.get(method, f"hessian:{method}"))
        given, rows = self.arrays(loaded, gathered(arrays, named))
        columns = loaded.derived.columns or 0
        self._check_whole(rows)
        if loaded.derived.estimator == "directions":
            outputs = self._by_directions(loaded, given, rows, columns)
        else:
            sampling = Sampling(1, 0, "hadamard", True, None, 1, 0)
            outputs = self._exact(loaded, given, rows, columns, sampling)
        asked = {
            programs.block_label(a.name, b.name): f"block {a.name}, {b.name} of the Hessian"
            for k, a in enumerate(self.wrt)
            for b in self.wrt[k:]
        }
        numbers = {"columns": self._batch(loaded, rows, columns), "design": IDENTITY} if columns else {}
        self.settle(loaded, outputs, asked, given, rows, **numbers)
        blocks = {
            (a.name, b.name): outputs[programs.block_label(a.name, b.name)]
            for k, a in enumerate(self.wrt)
            for b in self.wrt[k:]
        }
        sizes = {v.name: v.element_shape for v in self.wrt}
        lead = {v.name: rows if v.has_rows else None for v in self.wrt}
        kinks = int(outputs.get("kinks", np.zeros(())))
        return Hessian(blocks, sizes, lead, kinks, loaded.derived.estimator, loaded.backend.label)

    def _check_whole(self, rows: int | None) -> None:
        """Raise BudgetError if the blocks of the whole Hessian do not fit, however few columns a sweep has."""
        sizes = [int(np.prod(v.element_shape, dtype=np.int64)) for v in self.wrt]
        pairs = sum(a * b for k, a in enumerate(sizes) for b in sizes[k:])
        each = (rows or 1) if any(v.has_rows for v in self.wrt) else 1
        need = self.real.itemsize * each * pairs
        limit = self.exceeded(need)
        if limit is not None:
            raise BudgetError(
                f"the hessian needs {human(need)} for the {pairs} entries of its blocks, {human(limit)} are allowed; ask "
                "for fewer rows or for single blocks or entries (or raise memory_limit)"
            )

    def _check_directions(self) -> None:
        if direction_count(self.wrt) is None:
            raise RequestError("method='directions' is for inputs with rows or for parameters, not for both at once")

    def _by_directions(
        self, loaded: Loaded, given: Mapping[str, Array], rows: int | None, columns: int
    ) -> dict[str, Array]:
        """``block_A_B`` from products of the Hessian with unit directions, batch by batch."""
        written = all(not node.has_columns for _, node in loaded.program.outputs)
        batch = columns if written else self._batch(loaded, rows, columns)
        parts: dict[str, list[Array]] = {}
        for start in range(0, columns, batch):
            size = min(batch, columns - start)
            for name, array in self._run(
                loaded, given, rows, columns=size, first_column=start, design=IDENTITY
            ).items():
                if written and rows is not None and loaded.outputs[name].has_rows:
                    array = np.moveaxis(array, 1, 0)  # columns first, as where they are an axis of their own
                parts.setdefault(name, []).append(array)
        products = {}
        for b in self.wrt:
            found = parts[f"column_{b.name}"]
            products[b.name] = found[0] if len(found) == 1 else np.concatenate(found)
        outputs: dict[str, Array] = {}
        start = 0
        for k, a in enumerate(self.wrt):
            size = int(np.prod(a.element_shape, dtype=np.int64))
            for b in self.wrt[k:]:
                part = products[b.name][start : start + size]
                if a.has_rows and rows is not None:
                    part = np.moveaxis(part, 0, 1)
                lead = part.shape[:1] if a.has_rows and rows is not None else ()
                block = part.reshape((*lead, *a.element_shape, *b.element_shape))
                if not block.flags.c_contiguous:  # ascontiguousarray makes an axis for a number
                    block = np.ascontiguousarray(block)
                outputs[programs.block_label(a.name, b.name)] = block
            start += size
        if "kinks" in parts:
            outputs["kinks"] = parts["kinks"][0]
        return outputs


def _restored(flattened: FlatGraph, wrt: Sequence[str], options: Options) -> Estimator:
    graph = graph_of(flattened)
    return Estimator(graph, [graph.variable(name) for name in wrt], options)


__all__ = ["DEFAULT_PROGRAMS", "Estimator"]
