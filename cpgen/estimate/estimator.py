"""The estimator: one model, compiled, and everything that can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.derived import Derived
from cpgen.derive.outputs import name_of
from cpgen.derive.request import DIAGONAL, GRADIENT, HVP, JVP, TRACE, VALUE, Entry, Request, read_request
from cpgen.emit import emit_c
from cpgen.emit.cuda import emit_cuda
from cpgen.errors import RequestError
from cpgen.estimate import lowrank, show
from cpgen.estimate.arrays import gathered, keyword
from cpgen.estimate.bound import Bound, bind
from cpgen.estimate.captured import Captured
from cpgen.estimate.compiled import Loaded
from cpgen.estimate.core import Core
from cpgen.estimate.groups import Groups, traces
from cpgen.estimate.hessian import hessian, sketch
from cpgen.estimate.options import Options
from cpgen.estimate.products import along, hvp
from cpgen.estimate.results import Estimate, Estimates, Hessian, Sketch, Traces, pair_name
from cpgen.estimate.sampling import Sampling, is_count
from cpgen.estimate.stream import Stream, not_streamed
from cpgen.estimate.tune import choose_methods, tune
from cpgen.estimate.tuning import Tuning
from cpgen.ir.flat import FlatGraph, flat, graph_of
from cpgen.ir.nodes import Graph, Input
from cpgen.ir.verify import verify_constants
from cpgen.scalar import scoped

Array = NDArray[np.floating]

DEFAULT_PROGRAMS = ("value", "gradient", "diagonal")


def _asked(program: str | Request) -> Request:
    return program if isinstance(program, Request) else read_request(program)


class Estimator:
    """Curvature of one model, natively.  Made by :func:`cpgen.compile`.

    Every method takes the model's arrays by name: as keywords, or as one mapping before the options, where a variable may
    have the name of an option too (``est.diagonal(arrays, samples=4)``).  Inputs with rows give results for each row,
    parameters give results summed (or averaged) over rows; where every input with rows is a plain number, results have no
    axis of rows.  Programs are compiled when first asked for and cached on disk.
    """

    def __init__(self, graph: Graph, wrt: Sequence[Input], options: Options) -> None:
        verify_constants(graph, options.real)
        self.core = Core(graph, wrt, options)
        self.graph, self.wrt, self.options, self.real = graph, self.core.wrt, options, self.core.real

    def __repr__(self) -> str:
        return show.described(self.graph, self.wrt, self.options, self.core.programs.labels())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled and copied as model and options: programs are compiled, or found in the cache, at their first call."""
        return _restored, (flat(self.graph), tuple(v.name for v in self.wrt), self.options)

    # Programs, by a text such as "gradient", "diagonal:hutchinson" or "block:W,b"

    def derive(self, program: str | Request) -> Derived:
        """The derivation behind a program, simplified."""
        return self.core.derive(_asked(program))

    def load(self, *programs: str | Request) -> None:
        """Compile several programs side by side (those not loaded yet)."""
        self.core.programs.load(*map(_asked, programs))

    def loaded(self, program: str | Request) -> Loaded:
        """A program with what runs it, compiled if it was not."""
        return self.core.loaded(_asked(program))

    def show(self, program: str = "diagonal") -> str:
        """The noise analysis, the graph, the strategy and the stages of a program, for reading.

        For "diagonal" and "trace" the first line says what ``method="auto"`` samples by, which has a program of its own.
        """
        request, programs = _asked(program), self.core.programs
        blas = self.options.blas if self.options.target == "cpu" else ""
        drawn = programs.plan if self.options.target == "cpu" else programs.gpu_plan
        planned = None if programs.recurrent else drawn(request)
        text = show.show(programs.derive(request), planned, blas)
        if request not in (DIAGONAL, TRACE):
            return text
        choice = programs.choice(request.what)
        return f"method='auto' samples by {choice.method}: {choice.reason}\n{text}"

    def columns(self, program: str = "diagonal") -> int | None:
        """Noise columns with which a program's answer is exact; 0 if it is exact as it stands, None if it never is."""
        return self.core.outline(_asked(program)).columns

    def size(
        self, programs: Sequence[str] = DEFAULT_PROGRAMS, rows: int = 1, columns: int = 1, threads: int = 1
    ) -> dict[str, object]:
        """Text size, operations and workspace of programs, before anything is compiled."""
        plans = [self.core.programs.plan(_asked(program)) for program in programs]
        return show.size(self.graph.name, plans, self.options.real, rows, columns, threads)

    @scoped
    def source(
        self, programs: Sequence[str] = DEFAULT_PROGRAMS, target: str | None = None, notes: Sequence[str] = ()
    ) -> dict[str, str]:
        """The C or CUDA text of programs, file name -> content; ``target``: "cpu" or "cuda" (default: as compiled).
        ``notes``: lines of C's opening comment."""
        requests, core, real = [_asked(program) for program in programs], self.core.programs, self.options.real
        if (target or self.options.target) == "cuda":
            return dict(emit_cuda(self.graph.name, [core.gpu_plan(r) for r in requests], real).files())
        return dict(emit_c(self.graph.name, [core.plan(r) for r in requests], real, notes=notes).files())

    # Values and products

    def value(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> float:
        """The objective summed (or averaged) over rows."""
        return float(self.core.evaluate(VALUE, gathered(arrays, named), {"value": "value"})["value"])

    def rows(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Array:
        """The objective of each row, shape (rows,); a model without rows gives shape ()."""
        label = "rows" if "rows" in self.core.loaded(VALUE).outputs else "value"
        return self.core.evaluate(VALUE, gathered(arrays, named), {label: "rows"})[label]

    def gradient(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> dict[str, Array]:
        """The gradient for each leaf, shaped like it."""
        core = self.core
        return core.by_leaf("gradient", core.evaluate(GRADIENT, gathered(arrays, named), core.gradients))

    def value_and_gradient(
        self, arrays: Mapping[str, object] | None = None, /, **named: object
    ) -> tuple[float, dict[str, Array]]:
        """Both from one evaluation."""
        core = self.core
        outputs = core.evaluate(GRADIENT, gathered(arrays, named), {"value": "value"} | core.gradients)
        return float(outputs["value"]), core.by_leaf("gradient", outputs)

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
        loaded, data = along(self.core, JVP, directions, gathered(arrays, named))
        return self.core.settled(loaded, data, {"jvp": "jvp"})["jvp"]

    def hvp(
        self,
        directions: Mapping[str, object] | None = None,
        arrays: Mapping[str, object] | None = None,
        /,
        **named: object,
    ) -> dict[str, Array]:
        """The Hessian times ``directions`` (leaf -> array shaped like it; absent means zero), leaf by leaf."""
        directions = keyword(directions, "directions", named, Mapping)
        return hvp(self.core, *along(self.core, HVP, directions, gathered(arrays, named)))

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
        return bind(self.core, what, out, gathered(arrays, named))

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
        sampling = Sampling(samples, seed, design, max_samples=samples)
        return Captured(self.core, what, sampling, gathered(arrays, named))

    def tune(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Tuning:
        """Measure which exact methods and which tiles, or for target="cuda" which schedules, are fastest here.

        Keep the answer with ``.save(path)`` and compile with ``tuning=path``; nothing changes before.  Results of another
        method or tile agree to rounding, those of another schedule have the same bits.
        Raises RequestError, ShapeError, DataError.
        """
        return tune(self.core, gathered(arrays, named))

    def choose(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> Tuning:
        """Try on these arrays which estimator ``method="auto"`` should sample the diagonal and the trace by.

        What is returned keeps the choice: compile with ``tuning=`` it, or ``.save(path)`` it first; nothing changes
        before.  The trials draw signs of their own, and nothing of them enters an estimate.  :meth:`tune` does the same
        and measures times.  Raises RequestError, ShapeError, DataError, BudgetError.
        """
        return choose_methods(self.core, gathered(arrays, named))

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
            return Estimates(lowrank.estimated(self.core, method, sampling, gathered(arrays, named)))
        request, reason = self.core.diagonal_request(method, sampling)
        return self.core.estimated(request, self.core.diagonals, sampling, gathered(arrays, named), reason)[0]

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
        request, reason = self.core.diagonal_request(method, sampling)
        given, core = gathered(arrays, named), self.core
        found, outputs = core.estimated(request.and_gradient, core.diagonals, sampling, given, reason)
        return float(outputs["value"]), core.by_leaf("gradient", outputs), found

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
            return traces(self.core, groups, per_leaf, covariance, method, sampling, gathered(arrays, named))
        if covariance:
            raise RequestError("covariance=True is that of several traces: give per_leaf=True or groups=...")
        if method in lowrank.OF_TRACE:
            return lowrank.estimated(self.core, method, sampling, gathered(arrays, named))["trace"]
        request, reason = self.core.request("trace", method, sampling)
        return self.core.estimated(request, {"trace": "trace"}, sampling, gathered(arrays, named), reason)[0]["trace"]

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
        first, second = self.core.leaf(a), self.core.leaf(b)
        swap = self.wrt.index(first) > self.wrt.index(second)
        if swap:
            first, second = second, first
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, 0, confidence)
        name = pair_name(a, b)
        request = Request("block", pairs=((first.name, second.name),))
        wanted = {name_of("block", first.name, second.name): name}
        found = self.core.estimated(request, wanted, sampling, gathered(arrays, named))[0][name]
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
        **named: object,
    ) -> Stream:
        """The diagonal over rows that arrive in pieces: ``stream.add(**arrays)`` repeatedly, then ``stream.result()``.

        The result has the same bits as one call over all rows with that method ("auto" is "cp" here).  ``total_rows`` is
        needed where the objective is a mean.
        """
        if named:
            raise RequestError(not_streamed(next(iter(named))))
        if method not in ("auto", "cp", "gauss_newton", "becker_lecun"):
            raise RequestError(f"method={method!r} cannot be streamed; cp, gauss_newton and becker_lecun can")
        method = "cp" if method == "auto" else method
        sampling = Sampling(samples, seed, design, exact, max_samples=samples, first_row=first_row)
        return Stream(self.core, method, sampling, total_rows)

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
        sampling = Sampling(samples, seed, design, exact, rtol, max_samples, 0, confidence)
        names = {
            name_of("entry", str(k)): f"{a}{list(i)},{b}{list(j)}#{k}" for k, ((a, i), (b, j)) in enumerate(pairs)
        }
        request = Request("entries", entries=tuple(pairs))
        return list(self.core.estimated(request, names, sampling, gathered(arrays, named))[0].values())

    def _entry(self, wanted: Entry) -> Entry:
        name, index = wanted
        leaf = self.core.leaf(name)
        shape = leaf.element_shape
        whole = len(index) == len(shape) and all(map(is_count, index))
        if not whole or any(not 0 <= i < e for i, e in zip(index, shape, strict=False)):
            raise RequestError(f"{name}{list(index)} is outside {name}, whose elements have shape {shape}")
        return name, tuple(map(int, index))

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
        sampling = Sampling(samples, seed, design, max_samples=samples)
        return sketch(self.core, sampling, exact, pairs, gathered(arrays, named))

    def hessian(
        self, arrays: Mapping[str, object] | None = None, /, method: str | None = None, **named: object
    ) -> Hessian:
        """The exact Hessian of a small problem.  Raises BudgetError if it does not fit, RequestError for a wrong method.

        ``method``: "cp" (unit vectors in place of the noise) or "directions" (of the variables); default the cheaper.
        """
        return hessian(self.core, method, gathered(arrays, named))


def _restored(flattened: FlatGraph, wrt: Sequence[str], options: Options) -> Estimator:
    graph = graph_of(flattened)
    return Estimator(graph, [graph.variable(name) for name in wrt], options)


__all__ = ["DEFAULT_PROGRAMS", "Estimator"]
