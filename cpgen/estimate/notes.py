"""What earlier processes found out about a model, so that a warm start needs no derivation.

Kept as notes beside the compiled libraries (:mod:`cpgen.native.cache`): answers to questions about a model, each a few
numbers and names as JSON.  A program's note says what its derivation found and how the library is called; expressions are
not kept, and whoever asks for them (``show``, ``source``, a bundle) has them derived anew.

A note counts for the same model (every digit of it, :func:`cpgen.ir.flat.fingerprint`), leaves and options, the same text
of this package and the same versions of what derives and checks.  That a library was compared with the interpreter counts
for the same compiler, processor and C library.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from cpgen.derive.derived import Derived, Drawn
from cpgen.emit.runtime import template_folder
from cpgen.estimate.options import Options
from cpgen.ir.flat import fingerprint
from cpgen.ir.nodes import Dim, Extent, Graph, Input, Node, Origin, Program
from cpgen.loops.plan import Footprint, Totals
from cpgen.native import NativeModule
from cpgen.native.cache import keep, kept
from cpgen.native.interface import Interface
from cpgen.version import PACKAGE, __version__

T = TypeVar("T")
FORMAT = 1
OFF = "CPGEN_NOTES"  # "0": nothing is asked of earlier processes, and nothing told to later ones
_IMPORTED = time.time()


class Notes:
    """The notes about one model with its options; without any where they cannot be told from those of another."""

    def __init__(self, graph: Graph, wrt: Sequence[Input], options: Options) -> None:
        self._graph, self._wrt, self._options = graph, wrt, options

    @cached_property
    def _key(self) -> str:
        options = self._options
        other = options.target != "cpu" or options.blas or options.backend == "interpreter"
        if other or os.environ.get(OFF) == "0":
            return ""
        text, model = text_digest(), fingerprint(self._graph)
        if text is None or model is None:
            return ""
        chosen = (options.real, options.factor, options.epsilon, options.fused)
        tuning = json.dumps(asdict(options.tuning), sort_keys=True) if options.tuning else ""
        return repr((FORMAT, text, _versions(), model, [v.name for v in self._wrt], chosen, tuning))

    def get(self, question: str, read: Callable[[Any], T]) -> T | None:
        """What ``read`` makes of the answer; None if there is none."""
        text = kept(f"{self._key}\n{question}") if self._key else None
        if text is None:
            return None
        try:
            return read(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None

    def put(self, question: str, answer: object) -> None:
        """``answer``: numbers, texts, lists and dictionaries."""
        if self._key:
            keep(f"{self._key}\n{question}", json.dumps(answer, separators=(",", ":")))

    def recall(
        self, question: str, find: Callable[[], T], write: Callable[[T], object], read: Callable[[Any], T]
    ) -> T:
        """The answer that is known, else the one that ``find`` gives."""
        known = self.get(question, read)
        if known is None:
            known = find()
            self.put(question, write(known))
        return known


@lru_cache(maxsize=1)
def text_digest() -> str | None:
    """SHA-256 of this package's own files; None if they are not, or may not be, those that are running."""
    package, templates = PACKAGE, template_folder()
    files = [
        *package.rglob("*.py"),
        *package.rglob("*.[ch]"),
        *templates.rglob("*.j2"),
        *templates.rglob("*.h"),
    ]
    digest = hashlib.sha256()
    try:
        for file in sorted(set(files)):
            if file.stat().st_mtime > _IMPORTED:
                return None
            name = file.relative_to(package.parent).as_posix()
            digest.update(repr((name, file.stat().st_size)).encode() + file.read_bytes())
    except OSError:
        return None
    return digest.hexdigest() if files else None


@lru_cache(maxsize=1)
def _versions() -> tuple[str, ...]:
    others = (getattr(sys.modules.get(name), "__version__", "") for name in ("sympy", "mpmath", "numpy"))
    return __version__, platform.python_version(), *others


# Derivations without their expressions


def outline_of(derived: Derived) -> dict[str, Any]:
    """What :func:`derived_from` needs."""
    program = derived.program
    return {
        "name": program.name,
        "inputs": [(n.name, n.kind, _shape(n), n.offset, _origin(n)) for n in program.inputs],
        "outputs": [(name, _shape(node), _origin(node)) for name, node in program.outputs],
        "whole": program.whole,
        "unit": program.unit,
        "estimator": derived.estimator,
        "columns": derived.columns,
        "exact": sorted(derived.exact),
        "drawn": [asdict(d) for d in derived.drawn],
        "dropped": [asdict(d) for d in derived.dropped],
        "readouts": derived.readouts,
        "biased": derived.biased,
        "answers": sorted(derived.answers),
        "units": derived.unit,
        "choice": derived.choice,
        "joint": sorted(derived.joint),
    }


def derived_from(graph: Graph, found: Mapping[str, Any]) -> Derived:
    """A derivation whose program has inputs and outputs, and nothing in between.  Raises KeyError and the like."""
    variables = {v.name: v for v in graph.variables}
    inputs = []
    for name, kind, shape, offset, origin in found["inputs"]:
        if kind in ("data", "param", "constant"):
            inputs.append(variables[name])
        else:
            inputs.append(Input(name, _extents(shape), kind, _placed(graph, origin), offset))
    outputs = [
        (name, Input(name, _extents(shape), "output", _placed(graph, origin)))
        for name, shape, origin in found["outputs"]
    ]
    program = Program(
        found["name"], tuple(outputs), tuple(inputs), graph.origin, found["whole"], found["unit"]
    )
    return Derived(
        program,
        found["estimator"],
        found["columns"],
        frozenset(found["exact"]),
        tuple(Drawn(**d) for d in found["drawn"]),
        tuple(Drawn(**d) for d in found["dropped"]),
        tuple((leaf, where) for leaf, where in found["readouts"]),
        found["biased"],
        frozenset((a, b) for a, b in found["answers"]),
        found["units"],
        found["choice"],
        frozenset(found["joint"]),
    )


def _shape(node: Node) -> list[int | str]:
    return [e.value if isinstance(e, Dim) else e for e in node.shape]


def _extents(shape: Sequence[int | str]) -> tuple[Extent, ...]:
    return tuple(Dim(e) if isinstance(e, str) else e for e in shape)


def _origin(node: Node) -> tuple[str, str, tuple[str, ...], bool]:
    return node.origin.name, node.origin.role, node.origin.axes, bool(node.origin.file)


def _placed(graph: Graph, origin: Sequence[Any]) -> Origin:
    """An origin; where it had a file and a line, with those that the user's definition of that name has now."""
    name, role, axes, placed = origin
    named = [*graph.variables, *(node for n, node in graph.definitions if n == name)]
    where = next((node.origin for node in named if placed and node.origin.name == name), Origin(""))
    return Origin(name, where.file, where.line, "", tuple(axes), role)


# Compiled programs


@dataclass(frozen=True)
class LibraryNote:
    """One compiled program.  ``library``: where in the cache; ``name`` and ``declarations``: of its text; ``limited``:
    :attr:`cpgen.emit.CFiles.limited`; ``face``: what :meth:`interface` needs."""

    library: str
    name: str
    declarations: str
    limited: bool
    face: Mapping[str, Any]

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> LibraryNote:
        note = cls(**found)
        note.interface(Program("", (), ()))  # raises where something is missing
        return note

    def interface(self, program: Program) -> Interface:
        """How it is called."""
        face = self.face
        memory = dict(face["footprint"])
        memory |= {space: Totals(**memory[space]) for space in ("work", "tile_memory", "rows")}
        pairs = {
            name: tuple((a, b) for a, b in face[name]) for name in ("inputs", "outputs", "scales", "meanings")
        }
        once, row, column, both = face["operations"]
        numbers = tuple(str(name) for name in face["numbers"])
        others = {"footprint": Footprint(**memory), "operations": (once, row, column, both), "numbers": numbers}
        return Interface(program, **{**face, **pairs, **others})


def library_note(module: NativeModule) -> dict[str, Any]:
    """What a later process has to know to open the one program of a module."""
    (program,) = module.programs.values()
    face = {name: value for name, value in vars(program.interface).items() if name != "program"}
    face["footprint"] = asdict(program.interface.footprint)
    files, library = module.files, module.library
    place = f"{library.parent.name}/{library.name}"
    return asdict(LibraryNote(place, files.name, files.declarations, files.limited, face))
