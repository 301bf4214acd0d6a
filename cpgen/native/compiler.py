"""The C compiler: which one, with which flags; compiled libraries are cached by content."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from cpgen.errors import EnvironmentProblem

CANDIDATES = ("cc", "gcc", "clang")
FLAGS = (
    "-std=c99",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
)
# GCC's work sharing between the threads of team.c: only the compiler proper is told of OpenMP, the linker is not
TEAM = ("-Xpreprocessor", "-fopenmp", "-DOMP_SHARE=dynamic", "-DOMP_SHARE_SIMD=dynamic,256", "-Wl,-z,defs")
CLIENT = ("team.h", "team_client.c")  # compiled with every program then
OPENMP = ("-fopenmp",)
SERIAL = ("-fopenmp-simd", "-DCPGEN_OPENMP_SIMD")
WARNINGS = (
    *(
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wsign-conversion",
        "-Wdouble-promotion",
        "-Wfloat-conversion",
    ),
    *(
        "-Wshadow",
        "-Wcast-qual",
        "-Wstrict-prototypes",
        "-Wmissing-prototypes",
        "-Wundef",
        "-Wvla",
        "-Werror",
    ),
)
TIMEOUT = 300  # seconds
# every kind of work sharing that a program may use
TEAM_PROBE = """
#include <omp.h>
#include <stddef.h>
int probe(ptrdiff_t n, int threads, int *x) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic) collapse(2) nowait
        for (ptrdiff_t i = 0; i < n; ++i) { for (ptrdiff_t j = 0; j < n; ++j) { x[i + j * n] = omp_get_level(); } }
#pragma omp for simd schedule(dynamic, 256)
        for (ptrdiff_t i = 0; i < n; ++i) { x[i] += 1; }
#pragma omp single
        x[0] = omp_get_thread_num();
#pragma omp barrier
    }
    return x[0];
}
"""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that was found to work.  ``openmp`` says whether programs can use several threads."""

    path: str
    version: str
    flags: tuple[str, ...]
    openmp: bool
    target: str  # what -march=native means here

    @property
    def joins(self) -> bool:
        """Whether multiplications and additions may be joined."""
        return "-ffp-contract=fast" in self.flags

    @property
    def identity(self) -> str:
        """Everything besides the source that decides what is compiled."""
        return "\n".join((self.path, self.version, " ".join(self.flags), self.target, platform.machine()))


    @property
    def team(self) -> bool:
        """Whether the threads are those of ``team.c``, which programs are linked to, and not of an OpenMP library."""
        return "-DOMP_SHARE=dynamic" in self.flags

    def fused(self) -> Compiler:
        """The same with multiplications and additions joined where the processor can: one rounding in place of two."""
        kept = tuple(f for f in self.flags if not f.startswith("-ffp-contract"))
        return replace(self, flags=(*kept, "-ffp-contract=fast", "-DCPGEN_FUSED=1"))

    def serial(self) -> Compiler:
        """The same without OpenMP, for calls too short to be shared between threads."""
        flags = tuple(f for f in self.flags if f not in OPENMP + TEAM)
        return replace(self, flags=flags + SERIAL, openmp=False) if self.openmp else self

    def extension(self, headers: str) -> Compiler:
        """The same for a Python extension module; ``headers`` is the folder of Python.h."""
        machine = tuple(f for f in self.flags if f.startswith("-march"))
        return replace(self, flags=("-O3", *machine, "-fPIC", "-shared", f"-I{headers}"), openmp=False)


def find_compiler() -> Compiler:
    """The compiler named by the environment variable CC, else the first of cc, gcc, clang.

    OpenMP is used if a small program with it compiles and links.  Raises EnvironmentProblem if there is no compiler or
    it cannot make a shared library.
    """
    return _find(os.environ.get("CC", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _find(preferred: str, path: str) -> Compiler:
    names = (preferred,) if preferred else CANDIDATES
    found = next((p for p in (shutil.which(name, path=path) for name in names) if p), None)
    if found is None:
        raise EnvironmentProblem(
            f"no C compiler found (looked for {', '.join(names)}); install gcc or clang, or name one in the environment "
            "variable CC"
        )
    version = _run([found, "--version"]).splitlines()[0]
    probe = "#include <math.h>\nint probe(int n) { int s = 0;\n%s\nfor (int i = 0; i < n; ++i) { s += i; }\nreturn s; }\n"
    plain = tuple(f for f in FLAGS if f != "-march=native")
    parallel = probe % "#pragma omp parallel for reduction(+ : s)"
    trials = (
        (FLAGS + TEAM, TEAM_PROBE, True),
        (FLAGS + OPENMP, parallel, True),
        (plain + OPENMP, parallel, True),
        (FLAGS + SERIAL, probe % "", False),
        (plain, probe % "", False),
    )
    message = ""
    if not sys.platform.startswith("linux"):
        trials = trials[1:]
    with tempfile.TemporaryDirectory(prefix="cpgen-") as folder:
        for flags, text, openmp in trials:
            source = Path(folder) / "probe.c"
            source.write_text(text)
            others = CLIENT if flags == FLAGS + TEAM else ()
            for file in others:
                (Path(folder) / file).write_text(source_file(file), encoding="utf-8")
            sources = [str(Path(folder) / f) for f in ("probe.c", *others) if f.endswith(".c")]
            command = [found, *flags, *sources, "-o", str(Path(folder) / "probe.so"), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
            if done.returncode == 0:
                return Compiler(found, version, flags, openmp, _target(found, flags))
            message = done.stderr
    raise EnvironmentProblem(
        f"the C compiler {found} cannot make a shared library:\n{message.strip()[:2000]}"
    )


def source_file(name: str) -> str:
    """A C file of this package."""
    return resources.files("cpgen.native").joinpath(name).read_text(encoding="utf-8")


def _target(path: str, flags: Sequence[str]) -> str:
    """The macros the compiler predefines: they tell what -march=native stands for on this machine."""
    done = subprocess.run(
        [path, *flags, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, timeout=TIMEOUT
    )
    return hashlib.sha256(done.stdout.encode()).hexdigest() if done.returncode == 0 else "unknown"


def _run(command: Sequence[str]) -> str:
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout
            or "unknown"
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentProblem(f"the C compiler {command[0]} does not run: {error}") from error


def cache_folder() -> Path:
    """CPGEN_CACHE_DIR, else cpgen under XDG_CACHE_HOME or ~/.cache; made with mode 0700.

    Raises EnvironmentProblem if it cannot be made or belongs to somebody else.
    """
    named = os.environ.get("CPGEN_CACHE_DIR")
    if named:
        folder = Path(named)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(base) if base else Path.home() / ".cache") / "cpgen"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise EnvironmentProblem(
            f"the cache folder {folder} cannot be made ({error}); set CPGEN_CACHE_DIR to a writable folder"
        ) from error
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise EnvironmentProblem(
            f"the cache folder {folder} belongs to another user, who could replace the compiled code; set CPGEN_CACHE_DIR"
        )
    return folder


def compile_library(name: str, files: Mapping[str, str], compiler: Compiler) -> Path:
    """Path of the shared library made of ``files``: C files and the headers they include.

    Comes from the cache if possible.  Raises EnvironmentProblem with the compiler's message if it cannot be made.
    """
    sources = [file for file in files if file.endswith(".c")]

    def command(target: str) -> list[str]:
        return [compiler.path, *compiler.flags, *sources, "-o", target, "-lm"]

    return compile_files(name, files, compiler.identity, command)


def compile_files(
    name: str, files: Mapping[str, str], identity: str, command: Callable[[str], Sequence[str]], suffix: str = ".c"
) -> Path:
    """Path of what ``command(target)`` makes of ``files``, from the cache if possible.

    ``identity`` is all that decides the result besides the files.  Raises EnvironmentProblem.
    """
    digest = hashlib.sha256(identity.encode())
    for file in sorted(files):
        digest.update(b"\0" + file.encode() + b"\0" + files[file].encode())
    folder = cache_folder()
    library = folder / f"{name[:40]}_{digest.hexdigest()[:32]}.so"
    if library.exists():
        return library
    # built beside its place and moved there in one step: two processes may build it at once
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as work:
        for file, text in files.items():
            (Path(work) / file).write_text(text, encoding="utf-8")
        made = Path(work) / "library.so"
        try:
            done = subprocess.run(command(str(made)), cwd=work, capture_output=True, text=True, timeout=TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            raise EnvironmentProblem(f"compiling {name}{suffix} failed: {error}") from error
        if done.returncode != 0:
            raise EnvironmentProblem(
                f"{command('')[0]} could not compile the generated {name}{suffix}:\n{done.stderr.strip()[:4000]}"
            )
        os.replace(made, library)
    return library


def warnings_of(name: str, files: Mapping[str, str], compiler: Compiler, extra: Sequence[str] = ()) -> str:
    """What the compiler says about the text under strict warnings; empty if it is clean."""
    with tempfile.TemporaryDirectory(prefix="cpgen-") as work:
        for file, text in files.items():
            (Path(work) / file).write_text(text, encoding="utf-8")
        command = [compiler.path, "-std=c99", "-O2", *WARNINGS, *extra, "-c", f"{name}.c", "-o", "object.o"]
        return subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT).stderr
