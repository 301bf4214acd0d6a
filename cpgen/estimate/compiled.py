"""The programs of one model: derived, simplified and compiled when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from cpgen.derive import programs
from cpgen.derive.derivation import derivation
from cpgen.derive.derived import Derived, program_of
from cpgen.derive.outputs import read_output
from cpgen.derive.probes import colour_count, direction_count
from cpgen.derive.request import CHOSEN, HESSIAN, Request, by_method, read_request
from cpgen.derive.sources import Setting
from cpgen.emit import CFiles, emit_c
from cpgen.errors import EnvironmentProblem, warn_user
from cpgen.estimate.backends import Backend, Cuda, Interpreted, Native
from cpgen.estimate.choice import Choice, choose
from cpgen.estimate.notes import LibraryNote, Notes, derived_from, library_note, outline_of
from cpgen.estimate.options import Form, Options
from cpgen.estimate.progress import working
from cpgen.ir.call import Call
from cpgen.ir.cost import work
from cpgen.ir.nodes import Graph, Input, Node, Program, topological
from cpgen.ir.recur import unwritten
from cpgen.loops import Plan, plan
from cpgen.loops.device import device_plan
from cpgen.loops.products import LEAST_BLAS
from cpgen.loops.schedule import Schedule, schedule_of
from cpgen.native import (
    ANY_ROWS,
    Compiler,
    NativeProgram,
    Opened,
    Shapes,
    build_cuda,
    compiled,
    find_compiler,
    known_compiler,
    load,
    prepare,
)
from cpgen.native.blas import find_blas
from cpgen.native.cache import library_kept, ready_folder
from cpgen.native.compiler import machine
from cpgen.native.cuda import LEAST_GEMM, CudaModule
from cpgen.native.team import default_threads
from cpgen.scalar import scoped
from cpgen.simplify import simplified

METHODS = ("units", "cp", "directions")  # of an exact answer
FEW_SAMPLES = 4  # that an exact answer is compared with
FAR = 32  # times the columns or the products of another method: not worth deriving
BY_DIRECTIONS = HESSIAN.by("directions")
# rows of calls for which a method has to be good: one chosen by the rows of each call would change bits with their split
ROW_COUNTS = (1, 64)


@dataclass(frozen=True)
class Loaded:
    """A derivation, of whose program the inputs and outputs count (:meth:`Compiled.outline`), and what runs it."""

    request: Request
    derived: Derived
    backend: Backend

    @property
    def program(self) -> Program:
        return self.derived.program

    @cached_property
    def variables(self) -> list[Input]:
        """The inputs that a caller's arrays, or the model's own, are given for."""
        return [i for i in self.program.inputs if i.kind in ("data", "param", "constant")]

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of :attr:`variables`, with ANY_ROWS for the rows."""
        return tuple(
            tuple(e if isinstance(e, int) else ANY_ROWS for e in variable.shape) for variable in self.variables
        )

    @cached_property
    def _output_counts(self) -> list[tuple[int, bool, bool]]:
        """Elements of each output, and whether they are so many for each row and for each column."""
        return [(prod(n.element_shape), n.has_rows, n.has_columns) for _, n in self.program.outputs]

    def output_bytes(self, call: Call, real: np.dtype) -> int:
        """Bytes of all outputs together."""
        rows, columns = call.rows, call.columns
        counts = self._output_counts
        return real.itemsize * sum([n * (rows if r else 1) * (columns if c else 1) for n, r, c in counts])

    @cached_property
    def without_variances(self) -> tuple[str, ...]:
        """The names of the other outputs."""
        return tuple(name for name, _ in self.program.outputs if not read_output(name).is_variance)

    @cached_property
    def outputs(self) -> dict[str, Node]:
        """The outputs by name."""
        return dict(self.program.outputs)


def _of_library(request: Request, form: Form, compiler: Compiler) -> str:
    """The question for a library that was found right, where it would be found right again."""
    return repr(("library", str(request), form, compiler.identity, machine()))


def _renamed(derived: Derived, request: Request, choice: str) -> Derived:
    return replace(derived, program=replace(derived.program, name=request.program), choice=choice)


def _and_gradient(derived: Derived, graph: Graph, wrt: Sequence[Input]) -> Derived:
    """The same with the value and the gradient among the outputs: what both need is computed once."""
    outputs = dict(programs.gradient(graph, wrt).program.outputs) | dict(derived.program.outputs)
    program = program_of(graph, f"{derived.program.name}_and_gradient", outputs.items())
    return replace(derived, program=program)


class Compiled:
    """Programs of ``graph`` by their requests.

    Diagonal and trace without a method stand for the cheaper of "cp" with few samples and "directions"; the Hessian, and
    the others insisted to be exact, for the cheaper of "units" and "directions", "units" being "cp" with unit vectors in
    place of random signs.
    """

    def __init__(self, graph: Graph, wrt: Sequence[Input], options: Options) -> None:
        self.graph, self.wrt, self.options = graph, tuple(wrt), options
        self._derived: dict[Request, Derived] = {}
        self._raw: dict[Request, Derived] = {}  # before simplification; for what is chosen, that of the choice
        self._loaded: dict[Request, Loaded] = {}
        self._fallback = ""
        self._choices: dict[str, Choice] = {}
        self._notes = Notes(graph, wrt, options)
        self._outlines: dict[Request, Derived] = {}
        self._exact: dict[Request, Request] = {}
        self._coloured: dict[int, int | None] = {}  # unit directions of an exact diagonal, by how many are worth counting
        self._by_noise: set[Request] = set()  # whose exact answer the program with noise gives for less

    @cached_property
    def recurrent(self) -> str:
        """Why nothing of this model can be compiled; "" if it can."""
        return unwritten(topological([self.graph.objective]))

    def exact(self, request: Request) -> Request:
        """The program that a call runs for the exact answer to ``request``, one of :data:`CHOSEN`.

        That of ``request`` itself takes unit vectors and nothing else.  Where the program with noise is cheaper it is
        taken with the identity as its design, and then the one of the samples if that is the same.
        """
        found = self._exact.get(request)
        if found is None:
            question = f"exact program {request}"
            found = self._notes.recall(question, lambda: self._find_exact(request), str, read_request)
            self._exact[request] = found
        return found

    def _find_exact(self, request: Request) -> Request:
        self.derive(request)
        if request not in self._by_noise:
            return request
        usual = Request(request.what)
        found = self.derive(usual)
        return usual if found.estimator == "cp" and not found.unit else usual.by("cp")

    @scoped
    def choice(self, what: str) -> Choice:
        """What ``method="auto"`` samples "diagonal" or "trace" by: a function of the model and the options."""
        if what not in self._choices:
            self._choices[what] = self._notes.recall(
                f"choice {what}", lambda: self._choice(what), asdict, lambda found: Choice(**found)
            )
        return self._choices[what]

    def _choice(self, what: str) -> Choice:
        with working(f"trying the estimators of the {what} of {self.graph.name}"):
            return choose(self, what)

    def exact_columns(self, what: str, most: int) -> int | None:
        """The fewest columns with which some exact method gives "diagonal" or "trace"; None if they exceed ``most``."""
        known = [self.outline(by_method(what, "cp")).columns, self._colours(most)]
        return min((n for n in known if n is not None and n <= most), default=None)

    def _colours(self, most: int) -> int | None:
        if most not in self._coloured:
            self._coloured[most] = colour_count(self.graph, self.wrt, most)
        return self._coloured[most]

    def outline(self, request: Request) -> Derived:
        """:meth:`derive` for whoever asks for no expressions: its program may have nothing but inputs and outputs."""
        known = self._derived.get(request) or self._outlines.get(request)
        if known is None:
            known = self._notes.get(f"program {request}", lambda found: derived_from(self.graph, found))
            if known is None:
                return self.derive(request)
            self._outlines[request] = known
        return known

    @scoped
    def derive(self, request: Request) -> Derived:
        """The simplified derivation behind ``request``.  Raises RequestError for a method that is not known."""
        if request in self._derived:
            return self._derived[request]
        with working(f"deriving {request.what} of {self.graph.name}"):
            if request in CHOSEN:
                chosen, reason = self._cheapest(request)
                self._derived[request] = _renamed(self.derive(chosen), request, reason)
                self._raw[request] = self._raw[chosen]
            else:
                derived = self._derivation(request)
                units = derived.columns if derived.unit else None
                program = simplified(derived.program, units, symmetric=request == BY_DIRECTIONS)
                program = replace(program, whole=derived.columns, unit=derived.unit)
                self._raw[request], self._derived[request] = derived, replace(derived, program=program)
        self._notes.put(f"program {request}", outline_of(self._derived[request]))
        return self._derived[request]

    def _cheapest(self, request: Request) -> tuple[Request, str]:
        """The request to choose, and why.

        Methods are compared by :func:`cpgen.ir.cost.work` for few rows and for many; that method wins whose worst ratio
        to the best is least.  A diagonal or a trace need not be exact, so unless asked for ":exact" a few samples of
        curvature propagation are compared with the exact answer by directions.
        """
        tuned = self.options.tuning.methods.get(str(request)) if self.options.tuning else None
        if tuned:
            return request.by("units" if tuned == "cp" else tuned), "measured by tune"
        insisted = request.insists
        found = self._candidates(request)
        columns = {m: d.columns if d.columns is not None else FEW_SAMPLES for m, d in found.items()}
        counted = {m: n if insisted or found[m].unit else min(n, FEW_SAMPLES) for m, n in columns.items()}
        spent = {m: [work(d.program, rows, counted[m]) for rows in self._row_counts()] for m, d in found.items()}
        least = [max(min(each), 1) for each in zip(*spent.values(), strict=True)]
        worst = {m: max(w / low for w, low in zip(each, least, strict=True)) for m, each in spent.items()}
        ordered = sorted(found, key=lambda m: worst[m])
        told = ", ".join(f"{spent[m][0]} by {self._said(m, found[m], counted[m])}" for m in found)
        reason = f"{told} (work, rows: {self._row_counts()[0]})" if len(found) > 1 else ""
        if insisted and ordered[0] == "cp":
            self._by_noise.add(request)
            reason += "; a call takes the noise columns, as unit vectors"
            ordered.remove("cp")
        return request.by(ordered[0]), reason

    def _candidates(self, request: Request) -> dict[str, Derived]:
        """The methods that may be the cheapest.  Deriving takes long, so what is out by its columns alone is left out."""
        directions = direction_count(self.wrt)
        found: dict[str, Derived] = {}
        is_hessian, exact = request == HESSIAN, request.insists
        if is_hessian and directions is not None:
            found["directions"] = self.derive(BY_DIRECTIONS)
            raw = self._derivation(request.by("units"))
            products = (raw.columns or 0) * directions**2 // 2  # of the sweep's columns, element by element
            if products > FAR * work(found["directions"].program, 1, directions):
                return found
        usual = "units" if exact else "cp"
        sweep = found[usual] = self.derive(request.by(usual))
        if exact and sweep.columns:
            found["cp"] = self.derive(request.by("cp"))
        if not is_hessian:
            most = FAR * max(sweep.columns or 1, 1) if exact else sweep.columns or 0
            if colour_count(self.graph, self.wrt, most) is not None:
                found["directions"] = self.derive(request.by("directions"))
        return found

    def _row_counts(self) -> tuple[int, ...]:
        return ROW_COUNTS if self.graph.objective.has_rows else (1,)

    def _said(self, method: str, derived: Derived, columns: int) -> str:
        if columns == 0:
            return "no columns"
        if method == "directions":
            shared = " that uncoupled elements share" if columns < (direction_count(self.wrt) or 0) else ""
            return f"{columns} unit directions{shared}"
        return f"{columns} {'unit vectors of the sweep' if derived.unit else 'noise columns'}"

    def _derivation(self, request: Request) -> Derived:
        if request.with_gradient:
            self.derive(request.alone)
            return _and_gradient(self._raw[request.alone], self.graph, self.wrt)
        return derivation(self.graph, self.wrt, request, Setting(self.options.factor, self.options.epsilon))

    @scoped
    def load(self, *requests: Request) -> None:
        """Compile several programs together (those not loaded yet).

        Raises EnvironmentProblem with backend="native" and no compiler ("auto" falls back to the interpreter), and with
        target="cuda" and no nvcc or no GPU.
        """
        missing = [request for request in requests if request not in self._loaded]
        if missing:
            many = "1 program" if len(missing) == 1 else f"{len(missing)} programs"
            with working(f"compiling {many} of {self.graph.name}"):
                self._load(missing)

    def _load(self, missing: Sequence[Request]) -> None:
        if self.options.target == "cuda":
            derived = {request: self.derive(request) for request in missing}
            device = self.on_gpu(derived)
            for request, d in derived.items():
                self._loaded[request] = Loaded(request, d, Cuda(device[d.program.name], self.options.blas))
            return
        found: dict[Request, Native] = {}
        if self.options.blas:
            find_blas(self.options.blas)  # without it nothing runs, and the interpreter does not stand for it
        if self.options.backend == "auto" and not self._fallback and self.recurrent:
            self._fallback = f"interpreter ({self.recurrent})"
            warn_user(f"{self.recurrent}; until then results come from the NumPy interpreter, which is slow")
        if self.options.backend != "interpreter" and not self._fallback:
            # measured on the programs' own loops
            tuned = self.options.tuning.tiles if self.options.tuning and not self.options.blas else {}
            try:
                found = self._native({r: Form(tuned.get(str(r)), blas=self.options.blas) for r in missing})
            except EnvironmentProblem as problem:
                if self.options.backend == "native":
                    raise
                self._fallback = f"interpreter ({problem.message})"
                warn_user(f"{problem.message}; until then results come from the NumPy interpreter, which is slow")
        for request in missing:
            if request in found:
                self._loaded[request] = Loaded(request, self.outline(request), found[request])
            else:
                d = self.derive(request)
                backend = Interpreted(d.program, np.dtype(self.options.real), self._fallback or "interpreter")
                self._loaded[request] = Loaded(request, d, backend)

    @scoped
    def native(self, request: Request, form: Form) -> NativeProgram:
        """A program compiled in another form."""
        return self._native({request: form})[request].native

    def _native(self, forms: Mapping[Request, Form]) -> dict[Request, Native]:
        """Some programs, each compiled in its form.

        What an earlier process compiled and checked is only opened.  Of the rest each is a library of its own, so that it
        is found whatever is asked for together with it, and that compilers work side by side, as many as a call may have
        threads.  Raises EnvironmentProblem.
        """
        usual = self._fused(known_compiler())
        known = {request: self._reopened(request, form, form.of(usual)) for request, form in forms.items()}
        found = {request: native for request, native in known.items() if native is not None}
        missing = {request: form for request, form in forms.items() if request not in found}
        if not missing:
            return found
        compiler = self._fused(find_compiler())
        programs = {request: self.derive(request).program for request in missing}
        texts: dict[Request, tuple[Plan, CFiles]] = {}
        jobs: list[Future[Path]] = []
        ready_folder()  # here, so that a warning about it names the user's line
        with ThreadPoolExecutor(min(self.options.threads or default_threads(), len(missing) + 1)) as pool:
            others = pool.submit(prepare, compiler)
            # the longest first: it keeps one compiler busy while the others' texts are written
            for request in sorted(missing, key=lambda request: -len(programs[request].nodes())):
                form = missing[request]
                texts[request] = self._text(programs[request], form)
                jobs.append(pool.submit(compiled, texts[request][1], form.of(compiler)))
            for job in jobs:
                job.result()
            others.result()
        for request, form in missing.items():
            made, files = texts[request]
            blas = find_blas(form.blas) if form.blas else None
            module = load(files, [made], form.of(compiler), blas)
            program = module[programs[request].name]
            wide = self._wide(request, form, files.limited)
            found[request] = Native(program, module.compiler, wide, form.blas)
            self._notes.put(_of_library(request, form, module.compiler), library_note(module))
        return found

    def _reopened(self, request: Request, form: Form, compiler: Compiler) -> Native | None:
        """What an earlier process compiled with this compiler and found to agree with the interpreter on this machine."""
        note = self._notes.get(_of_library(request, form, compiler), LibraryNote.read)
        library = library_kept(note.library) if note is not None else None
        if note is None or library is None:
            return None
        try:
            opened = Opened(library, note.name, note.declarations, compiler)
        except EnvironmentProblem:
            return None
        face = note.interface(self.outline(request).program)
        wide = self._wide(request, form, note.limited)
        return Native(NativeProgram(face, opened), compiler, wide, checked=True)

    def _text(self, program: Program, form: Form) -> tuple[Plan, CFiles]:
        least = LEAST_BLAS[self.options.real] if form.blas else 0
        made = plan(program, self.options.real, form.tile, blas=least)
        return made, emit_c(self.graph.name, [made], self.options.real, libm=form.libm)

    def _wide(self, request: Request, form: Form, limited: bool) -> Callable[[], NativeProgram] | None:
        """What compiles the program with the C library's functions, if that makes a difference."""
        if not limited or form.libm:
            return None
        return lambda: self.native(request, Form(libm=True, blas=form.blas))

    def _fused(self, compiler: Compiler) -> Compiler:
        return compiler.fused() if self.options.fused else compiler

    @scoped
    def plan(self, request: Request) -> Plan:
        """The plan of a program for the CPU."""
        real = self.options.real
        least = LEAST_BLAS[real] if self.options.blas and self.options.target == "cpu" else 0
        return plan(self.derive(request).program, real, blas=least)

    def gpu_plan(self, request: Request) -> Plan:
        """The plan of a program for a GPU."""
        gemm = LEAST_GEMM if self.options.blas else 0
        return device_plan(self.derive(request).program, self.options.real, self.schedule(request), gemm)

    def on_gpu(self, derived: Mapping[Request, Derived]) -> CudaModule:
        """Some programs in one library for the GPU."""
        programs = [d.program for d in derived.values()]
        schedules = [self.schedule(request) for request in derived]
        return build_cuda(self.graph.name, programs, self.options.real, None, schedules, self.options.blas)

    def schedule(self, request: Request) -> Schedule | None:
        """The measured schedule of a program, or None to have one chosen."""
        numbers = self.options.tuning.schedules.get(str(request)) if self.options.tuning else None
        if numbers is None:
            return None
        return replace(schedule_of(numbers, "measured by tune"), gemm=LEAST_GEMM if self.options.blas else 0)

    def labels(self) -> dict[str, str]:
        """What runs each program that is loaded."""
        return {str(request): loaded.backend.label for request, loaded in self._loaded.items()}

    def loaded(self, request: Request) -> Loaded:
        """A program with what runs it, compiled if it was not."""
        found = self._loaded.get(request)
        if found is None:
            self.load(request)
            found = self._loaded[request]
        return found

