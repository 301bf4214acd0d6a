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
from cpgen.derive.derived import Derived, program_of
from cpgen.derive.probes import colour_count, direction_count
from cpgen.derive.sources import Setting
from cpgen.emit import CFiles, emit_c
from cpgen.errors import EnvironmentProblem, RequestError, warn_user
from cpgen.estimate.backends import Backend, Cuda, Interpreted, Native
from cpgen.estimate.choice import Choice, choose
from cpgen.estimate.finite import POLICIES
from cpgen.estimate.notes import LibraryNote, Notes, derived_from, library_note, outline_of
from cpgen.estimate.progress import working
from cpgen.estimate.sampling import is_count
from cpgen.estimate.tune import Tuning
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

# programs whose method is chosen by cost, and the samples that an exact answer is compared with
CHOSEN = ("diagonal", "diagonal:exact", "trace", "trace:exact", "hessian")
METHODS = ("units", "cp", "directions")  # of an exact answer
AND_GRADIENT = "+gradient"  # after a key: the program with the value and the gradient
FEW_SAMPLES = 4
FAR = 32  # times the columns or the products of another method: not worth deriving
# rows of calls for which a method has to be good: one chosen by the rows of each call would change bits with their split
ROW_COUNTS = (1, 64)


@dataclass(frozen=True)
class Options:
    """How an estimator is compiled and run.

    ``real``: "float64" or "float32".  ``target``: "cpu", or "cuda" for a GPU.  ``backend``: "auto" (native if there is a
    compiler), "native" or "interpreter".  ``threads``: for the native code; None means all that the machine offers.
    ``memory_limit``: bytes that one call may need, None for three quarters of what is free.  ``factor``: see
    :class:`cpgen.derive.sources.Setting`.  ``fused``: see :func:`cpgen.compile`.  ``tuning``: measured choices, in place
    of those of the cost model.  ``blas``: a library for large products, "openblas" on the CPU and "cublas" on a GPU, or a
    path; results then have bits of their own.  ``nonfinite``: "error" or "nan", see :mod:`cpgen.estimate.finite`.
    """

    real: str = "float64"
    backend: str = "auto"
    threads: int | None = None
    memory_limit: int | None = None
    factor: str = "signed"
    epsilon: float = 1e-3
    target: str = "cpu"
    fused: bool = False
    tuning: Tuning | None = None
    blas: str = ""
    nonfinite: str = "error"

    def __post_init__(self) -> None:
        for value, allowed, what in (
            (self.real, ("float64", "float32"), "real"),
            (self.backend, ("auto", "native", "interpreter"), "backend"),
            (self.factor, ("signed", "mixed", "smooth"), "factor"),
            (self.target, ("cpu", "cuda"), "target"),
            (self.nonfinite, POLICIES, "nonfinite"),
        ):
            if value not in allowed:
                raise RequestError(f"{what}={value!r} is not one of {', '.join(allowed)}")
        if self.fused and self.target != "cpu":
            raise RequestError("fused=True is for target='cpu': on a GPU results have the bits of the plain C text")
        other, usual = ("cpu", "cublas") if self.target == "cuda" else ("cuda", "openblas")
        if self.blas in ("openblas", "cublas") and self.blas != usual:
            raise RequestError(
                f"blas={self.blas!r} is for target={other!r}: for target={self.target!r} name {usual!r} or the path of "
                "a library"
            )
        if self.blas and self.backend == "interpreter":
            raise RequestError(f"blas={self.blas!r} is for compiled programs: leave it out with backend='interpreter'")
        if self.threads is not None and (not is_count(self.threads) or self.threads < 1):
            raise RequestError(f"threads={self.threads!r}: a whole number is needed, at least 1, or None")
        if self.memory_limit is not None and (not is_count(self.memory_limit) or self.memory_limit < 1):
            raise RequestError(
                f"memory_limit={self.memory_limit!r} is no number of bytes (a gigabyte is 1 << 30) and not None"
            )


@dataclass(frozen=True)
class Form:
    """How a program is compiled: with so many rows in a tile (None: as planned), without threads, with the functions of
    the C library, with a library for its large products ("": none)."""

    tile: int | None = None
    serial: bool = False
    libm: bool = False
    blas: str = ""

    def of(self, compiler: Compiler) -> Compiler:
        return compiler.serial() if self.serial else compiler


@dataclass(frozen=True)
class Loaded:
    """A derivation, of whose program the inputs and outputs count (:meth:`Compiled.outline`), and what runs it."""

    key: str
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
        return tuple(name for name, _ in self.program.outputs if not name.startswith("var_"))

    @cached_property
    def outputs(self) -> dict[str, Node]:
        """The outputs by name."""
        return dict(self.program.outputs)


def _of_library(key: str, form: Form, compiler: Compiler) -> str:
    """The question for a library that was found right, where it would be found right again."""
    return repr(("library", key, form, compiler.identity, machine()))


def _renamed(derived: Derived, key: str, choice: str) -> Derived:
    return replace(derived, program=replace(derived.program, name=key.replace(":", "_")), choice=choice)


def _and_gradient(derived: Derived, graph: Graph, wrt: Sequence[Input]) -> Derived:
    """The same with the value and the gradient among the outputs: what both need is computed once."""
    outputs = dict(programs.gradient(graph, wrt).program.outputs) | dict(derived.program.outputs)
    program = program_of(graph, f"{derived.program.name}_and_gradient", outputs.items())
    return replace(derived, program=program)


class Compiled:
    """Programs of ``graph`` by key: "gradient", "diagonal:hutchinson", "block:W,b" and so on.

    "diagonal" and "trace" alone stand for the cheaper of ":cp" with few samples and ":directions"; "hessian", and the
    others with ":exact", for the cheaper of ":units" and ":directions", ":units" being ":cp" with unit vectors in place
    of random signs.  A key with :data:`AND_GRADIENT` behind it stands for the same program with value and gradient.
    """

    def __init__(self, graph: Graph, wrt: Sequence[Input], options: Options) -> None:
        self.graph, self.wrt, self.options = graph, tuple(wrt), options
        self._derived: dict[str, Derived] = {}
        self._raw: dict[str, Derived] = {}  # before simplification; for what is chosen, that of the choice
        self._loaded: dict[str, Loaded] = {}
        self._fallback = ""
        self._choices: dict[str, Choice] = {}
        self._notes = Notes(graph, wrt, options)
        self._outlines: dict[str, Derived] = {}
        self._makers: dict[str, Callable[[], Derived]] = {}  # of what a key alone cannot describe
        self._exact_keys: dict[str, str] = {}
        self._coloured: dict[int, int | None] = {}  # unit directions of an exact diagonal, by how many are worth counting
        self._by_noise: set[str] = set()  # keys whose exact answer the program with noise gives for less

    @cached_property
    def recurrent(self) -> str:
        """Why nothing of this model can be compiled; "" if it can."""
        return unwritten(topological([self.graph.objective]))

    def exact_key(self, key: str) -> str:
        """The program that a call runs for the exact answer behind ``key``, one of :data:`CHOSEN`.

        That of ``key`` itself takes unit vectors and nothing else.  Where the program with noise is cheaper it is taken
        with the identity as its design, and then the one of the samples if that is the same.
        """
        if key not in self._exact_keys:
            self._exact_keys[key] = self._notes.recall(f"exact key {key}", lambda: self._exact_key(key), str, str)
        return self._exact_keys[key]

    def _exact_key(self, key: str) -> str:
        what, _, _ = key.partition(":")
        derived = self.derive(key)
        if key not in self._by_noise:
            return key
        usual = self.derive(what) if what != key else derived
        return what if usual.estimator == "cp" and not usual.unit else f"{what}:cp"

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
        known = [self.outline(f"{what}:cp").columns, self._colours(most)]
        return min((n for n in known if n is not None and n <= most), default=None)

    def _colours(self, most: int) -> int | None:
        if most not in self._coloured:
            self._coloured[most] = colour_count(self.graph, self.wrt, most)
        return self._coloured[most]

    def outline(self, key: str, make: Callable[[], Derived] | None = None) -> Derived:
        """:meth:`derive` for whoever asks for no expressions: its program may have nothing but inputs and outputs."""
        if make is not None:
            self._makers[key] = make
        if key in self._derived:
            return self._derived[key]
        if key not in self._outlines:
            known = self._notes.get(f"program {key}", lambda found: derived_from(self.graph, found))
            if known is None:
                return self.derive(key)
            self._outlines[key] = known
        return self._outlines[key]

    @scoped
    def derive(self, key: str) -> Derived:
        """The simplified derivation behind ``key``.

        Raises RequestError for an unknown key.
        """
        if key in self._derived:
            return self._derived[key]
        with working(f"deriving {key.partition(':')[0]} of {self.graph.name}"):
            if key in CHOSEN:
                chosen, reason = self._cheapest(key)
                self._derived[key] = _renamed(self.derive(chosen), key, reason)
                self._raw[key] = self._raw[chosen]
            else:
                derived = self._makers[key]() if key in self._makers else self._derivation(key)
                units = derived.columns if derived.unit else None
                program = simplified(derived.program, units, symmetric=key == "hessian:directions")
                program = replace(program, whole=derived.columns, unit=derived.unit)
                self._raw[key], self._derived[key] = derived, replace(derived, program=program)
        self._notes.put(f"program {key}", outline_of(self._derived[key]))
        return self._derived[key]

    def _cheapest(self, key: str) -> tuple[str, str]:
        """The key to choose, and why.

        Methods are compared by :func:`cpgen.ir.cost.work` for few rows and for many; that method wins whose worst ratio
        to the best is least.  A diagonal or a trace need not be exact, so unless asked for ":exact" a few samples of
        curvature propagation are compared with the exact answer by directions.
        """
        what, _, exact = key.partition(":")
        tuned = self.options.tuning.methods.get(key) if self.options.tuning else None
        if tuned:
            return f"{what}:{'units' if tuned == 'cp' else tuned}", "measured by tune"
        insisted = bool(exact) or what == "hessian"
        found = self._candidates(what, insisted)
        columns = {m: d.columns if d.columns is not None else FEW_SAMPLES for m, d in found.items()}
        counted = {m: n if insisted or found[m].unit else min(n, FEW_SAMPLES) for m, n in columns.items()}
        spent = {m: [work(d.program, rows, counted[m]) for rows in self._row_counts()] for m, d in found.items()}
        least = [max(min(each), 1) for each in zip(*spent.values(), strict=True)]
        worst = {m: max(w / low for w, low in zip(each, least, strict=True)) for m, each in spent.items()}
        ordered = sorted(found, key=lambda m: worst[m])
        told = ", ".join(f"{spent[m][0]} by {self._said(m, found[m], counted[m])}" for m in found)
        reason = f"{told} (work, rows: {self._row_counts()[0]})" if len(found) > 1 else ""
        if insisted and ordered[0] == "cp":
            self._by_noise.add(key)
            reason += "; a call takes the noise columns, as unit vectors"
            ordered.remove("cp")
        return f"{what}:{ordered[0]}", reason

    def _candidates(self, what: str, exact: bool) -> dict[str, Derived]:
        """The methods that may be the cheapest.  Deriving takes long, so what is out by its columns alone is left out."""
        directions = direction_count(self.wrt)
        found: dict[str, Derived] = {}
        if what == "hessian" and directions is not None:
            found["directions"] = self.derive("hessian:directions")
            raw = self._derivation("hessian:units")
            products = (raw.columns or 0) * directions**2 // 2  # of the sweep's columns, element by element
            if products > FAR * work(found["directions"].program, 1, directions):
                return found
        sweep = found["units" if exact else "cp"] = self.derive(f"{what}:units" if exact else f"{what}:cp")
        if exact and sweep.columns:
            found["cp"] = self.derive(f"{what}:cp")
        if what != "hessian":
            most = FAR * max(sweep.columns or 1, 1) if exact else sweep.columns or 0
            if colour_count(self.graph, self.wrt, most) is not None:
                found["directions"] = self.derive(f"{what}:directions")
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

    def _derivation(self, key: str) -> Derived:
        if key.endswith(AND_GRADIENT):
            base = key.removesuffix(AND_GRADIENT)
            self.derive(base)
            return _and_gradient(self._raw[base], self.graph, self.wrt)
        what, _, rest = key.partition(":")
        setting = Setting(self.options.factor, self.options.epsilon)
        simple: dict[str, Callable[[], Derived]] = {
            "value": lambda: programs.value(self.graph),
            "gradient": lambda: programs.gradient(self.graph, self.wrt),
            "jvp": lambda: programs.jvp(self.graph, self.wrt),
            "hvp": lambda: programs.hvp(self.graph, self.wrt),
            "hessian": lambda: programs.hessian(self.graph, self.wrt, rest or "cp", setting),
            "diagonal": lambda: programs.diagonal(self.graph, self.wrt, rest or "cp", setting),
            "trace": lambda: programs.trace(self.graph, self.wrt, rest or "cp", setting),
            "sketch": lambda: programs.sketch(self.graph, self.wrt, self._pairs(rest), setting),
            "block": lambda: programs.blocks(self.graph, self.wrt, self._pairs(rest) or (), "cp", setting),
        }
        if what not in simple:
            raise RequestError(f"there is no program {what!r}; there are: {', '.join(simple)}")
        return simple[what]()

    def _pairs(self, text: str) -> list[tuple[Input, Input]] | None:
        if not text:
            return None
        return [(self.leaf(a), self.leaf(b)) for a, b in (pair.split(",") for pair in text.split(";"))]

    def leaf(self, name: str) -> Input:
        """The variable of that name in wrt.  Raises RequestError if there is none."""
        for leaf in self.wrt:
            if leaf.name == name:
                return leaf
        raise RequestError(
            f"{name!r} is not among wrt ({', '.join(v.name for v in self.wrt)}): compile with wrt containing it"
        )

    @scoped
    def load(self, *keys: str) -> None:
        """Compile several programs together (those not loaded yet).

        Raises EnvironmentProblem with backend="native" and no compiler ("auto" falls back to the interpreter), and with
        target="cuda" and no nvcc or no GPU.
        """
        missing = [key for key in keys if key not in self._loaded]
        if missing:
            many = "1 program" if len(missing) == 1 else f"{len(missing)} programs"
            with working(f"compiling {many} of {self.graph.name}"):
                self._load(missing)

    def _load(self, missing: Sequence[str]) -> None:
        if self.options.target == "cuda":
            derived = {key: self.derive(key) for key in missing}
            device = self.on_gpu(derived)
            for key, d in derived.items():
                self._loaded[key] = Loaded(key, d, Cuda(device[d.program.name], self.options.blas))
            return
        found: dict[str, Native] = {}
        if self.options.blas:
            find_blas(self.options.blas)  # without it nothing runs, and the interpreter does not stand for it
        if self.options.backend == "auto" and not self._fallback and self.recurrent:
            self._fallback = f"interpreter ({self.recurrent})"
            warn_user(f"{self.recurrent}; until then results come from the NumPy interpreter, which is slow")
        if self.options.backend != "interpreter" and not self._fallback:
            # measured on the programs' own loops
            tuned = self.options.tuning.tiles if self.options.tuning and not self.options.blas else {}
            try:
                found = self._native({key: Form(tuned.get(key), blas=self.options.blas) for key in missing})
            except EnvironmentProblem as problem:
                if self.options.backend == "native":
                    raise
                self._fallback = f"interpreter ({problem.message})"
                warn_user(f"{problem.message}; until then results come from the NumPy interpreter, which is slow")
        for key in missing:
            if key in found:
                self._loaded[key] = Loaded(key, self.outline(key), found[key])
            else:
                d = self.derive(key)
                backend = Interpreted(d.program, np.dtype(self.options.real), self._fallback or "interpreter")
                self._loaded[key] = Loaded(key, d, backend)

    @scoped
    def native(self, key: str, form: Form) -> NativeProgram:
        """The program behind ``key`` compiled in another form."""
        return self._native({key: form})[key].native

    def _native(self, forms: Mapping[str, Form]) -> dict[str, Native]:
        """The programs behind some keys, each compiled in its form.

        What an earlier process compiled and checked is only opened.  Of the rest each is a library of its own, so that it
        is found whatever is asked for together with it, and that compilers work side by side, as many as a call may have
        threads.  Raises EnvironmentProblem.
        """
        usual = self._fused(known_compiler())
        known = {key: self._reopened(key, form, form.of(usual)) for key, form in forms.items()}
        found = {key: native for key, native in known.items() if native is not None}
        missing = {key: form for key, form in forms.items() if key not in found}
        if not missing:
            return found
        compiler = self._fused(find_compiler())
        programs = {key: self.derive(key).program for key in missing}
        texts: dict[str, tuple[Plan, CFiles]] = {}
        jobs: list[Future[Path]] = []
        ready_folder()  # here, so that a warning about it names the user's line
        with ThreadPoolExecutor(min(self.options.threads or default_threads(), len(missing) + 1)) as pool:
            others = pool.submit(prepare, compiler)
            # the longest first: it keeps one compiler busy while the others' texts are written
            for key in sorted(missing, key=lambda key: -len(programs[key].nodes())):
                texts[key] = self._text(programs[key], missing[key])
                jobs.append(pool.submit(compiled, texts[key][1], missing[key].of(compiler)))
            for job in jobs:
                job.result()
            others.result()
        for key, form in missing.items():
            made, files = texts[key]
            blas = find_blas(form.blas) if form.blas else None
            module = load(files, [made], form.of(compiler), blas)
            program = module[programs[key].name]
            found[key] = Native(program, module.compiler, self._wide(key, form, files.limited), form.blas)
            self._notes.put(_of_library(key, form, module.compiler), library_note(module))
        return found

    def _reopened(self, key: str, form: Form, compiler: Compiler) -> Native | None:
        """What an earlier process compiled with this compiler and found to agree with the interpreter on this machine."""
        note = self._notes.get(_of_library(key, form, compiler), LibraryNote.read)
        library = library_kept(note.library) if note is not None else None
        if note is None or library is None:
            return None
        try:
            opened = Opened(library, note.name, note.declarations, compiler)
        except EnvironmentProblem:
            return None
        face = note.interface(self.outline(key).program)
        return Native(NativeProgram(face, opened), compiler, self._wide(key, form, note.limited), checked=True)

    def _text(self, program: Program, form: Form) -> tuple[Plan, CFiles]:
        least = LEAST_BLAS[self.options.real] if form.blas else 0
        made = plan(program, self.options.real, form.tile, blas=least)
        return made, emit_c(self.graph.name, [made], self.options.real, libm=form.libm)

    def _wide(self, key: str, form: Form, limited: bool) -> Callable[[], NativeProgram] | None:
        """What compiles the program with the C library's functions, if that makes a difference."""
        if not limited or form.libm:
            return None
        return lambda: self.native(key, Form(libm=True, blas=form.blas))

    def _fused(self, compiler: Compiler) -> Compiler:
        return compiler.fused() if self.options.fused else compiler

    @scoped
    def plan(self, key: str) -> Plan:
        """The plan of a program for the CPU."""
        real = self.options.real
        least = LEAST_BLAS[real] if self.options.blas and self.options.target == "cpu" else 0
        return plan(self.derive(key).program, real, blas=least)

    def gpu_plan(self, key: str) -> Plan:
        """The plan of a program for a GPU."""
        gemm = LEAST_GEMM if self.options.blas else 0
        return device_plan(self.derive(key).program, self.options.real, self.schedule(key), gemm)

    def on_gpu(self, derived: Mapping[str, Derived]) -> CudaModule:
        """The programs behind some keys in one library for the GPU."""
        programs = [d.program for d in derived.values()]
        schedules = [self.schedule(key) for key in derived]
        return build_cuda(self.graph.name, programs, self.options.real, None, schedules, self.options.blas)

    def schedule(self, key: str) -> Schedule | None:
        """The measured schedule of a program, or None to have one chosen."""
        numbers = self.options.tuning.schedules.get(key) if self.options.tuning else None
        if numbers is None:
            return None
        return replace(schedule_of(numbers, "measured by tune"), gemm=LEAST_GEMM if self.options.blas else 0)

    def labels(self) -> dict[str, str]:
        """What runs each program that is loaded."""
        return {key: loaded.backend.label for key, loaded in self._loaded.items()}

    def loaded(self, key: str) -> Loaded:
        """The program behind ``key``, compiled if it was not."""
        self.load(key)
        return self._loaded[key]

