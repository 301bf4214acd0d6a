"""The C compiler: which one, with which flags, and what it makes of files."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from cpgen.errors import EnvironmentProblem
from cpgen.native.cache import keep, kept, stored

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
# programs that start a compiler whose own file says nothing of what they start
LAUNCHERS = ("ccache", "distcc", "icecc", "sccache", "colorgcc", "zig")
# what compilers read besides the command line
READ = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "SDKROOT", "LD_LIBRARY_PATH")
TIMEOUT = 300  # seconds for a model
ASKING = 30  # seconds for a question that a compiler answers in a fraction of one
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
    """A C compiler that was found to work.

    ``words`` follow ``path`` on its command line ("ccache gcc", "gcc -m32"), before all flags.  ``openmp`` says whether
    programs can use several threads.
    """

    path: str
    version: str
    flags: tuple[str, ...]
    openmp: bool
    target: str  # what -march=native means here
    words: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """What starts the compiler, without flags."""
        return (self.path, *self.words)

    @property
    def name(self) -> str:
        """What a person calls it."""
        return " ".join((Path(self.path).name, *self.words))

    @property
    def joins(self) -> bool:
        """Whether multiplications and additions may be joined."""
        return "-ffp-contract=fast" in self.flags

    @property
    def identity(self) -> str:
        """Everything besides the source that decides what is compiled."""
        return "\n".join((*self.command, self.version, " ".join(self.flags), self.target, platform.machine()))

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

    CC may hold a launcher and flags, as in "ccache gcc" or "gcc -m32".  OpenMP is used if a small program with it
    compiles and links.  Raises EnvironmentProblem if there is no compiler or it cannot make a shared library.
    """
    return _find(*_asked())


def known_compiler() -> Compiler:
    """What :func:`find_compiler` found here in an earlier process, else what it finds.

    Asking a compiler takes longer than opening what it made: this one is enough to look for that.  What is to be
    compiled is compiled by :func:`find_compiler`'s.
    """
    preferred, path = _asked()
    key = _compiler_key(preferred, path)
    note = kept(key) if key else None
    if note is not None:
        try:
            found = json.loads(note)
            return Compiler(**{**found, "flags": tuple(found["flags"]), "words": ()})
        except (ValueError, TypeError, KeyError):
            pass
    return find_compiler()


def _asked() -> tuple[str, str]:
    return os.environ.get("CC", "").strip(), os.environ.get("PATH", "")


def _compiler_key(preferred: str, path: str) -> str:
    """All that tells whether the same compiler would be found again; empty where files do not tell."""
    names = (preferred,) if preferred else CANDIDATES
    found = next((p for p in (shutil.which(name, path=path) for name in names) if p), None)
    if found is None:
        return ""
    try:
        file = os.path.realpath(found)
        status = os.stat(file)
    except OSError:
        return ""
    if any(launcher in place for launcher in LAUNCHERS for place in (file, found)):
        return ""
    about = (file, status.st_size, status.st_mtime_ns, status.st_ino)
    tried = (FLAGS, TEAM, OPENMP, SERIAL, TEAM_PROBE)
    return repr(("compiler", found, about, [os.environ.get(name) for name in READ], tried, machine()))


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor and the C library: what else decides the numbers of a compiled program that was found right."""
    about = [platform.machine(), platform.system(), platform.processor()]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        about.append(os.confstr("CS_GNU_LIBC_VERSION") or "")
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not line.strip():
                break  # the others are alike
            if line.startswith(("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")):
                about.append(line.strip())
    return "\n".join(about)


@lru_cache(maxsize=8)
def _find(preferred: str, path: str) -> Compiler:
    found = _tried_all(preferred, path)
    key = "" if found.words else _compiler_key(preferred, path)
    if key:
        keep(key, json.dumps(asdict(found)))
    return found


def _tried_all(preferred: str, path: str) -> Compiler:
    first, *words = _named(preferred, path)
    names = (first,) if first else CANDIDATES
    found = next((p for p in (shutil.which(name, path=path) for name in names) if p), None)
    if found is None:
        raise EnvironmentProblem(
            f"no C compiler found (looked for {', '.join(names)}); install gcc or clang, or name one in the environment "
            "variable CC"
        )
    start = (found, *words)
    asked = run([*start, "--version"], ASKING)
    if asked.returncode != 0:
        raise EnvironmentProblem(f"the C compiler {' '.join(start)} does not run: {_said(asked)}")
    version = (asked.stdout.strip().splitlines() or ["unknown"])[0]
    probe = "#include <math.h>\nint probe(int n) { int s = 0;\n%s\nfor (int i = 0; i < n; ++i) { s += i; }\nreturn s; }\n"
    plain = tuple(f for f in FLAGS if f != "-march=native")
    parallel = probe % "#pragma omp parallel for reduction(+ : s)"
    trials = (
        (FLAGS + TEAM, TEAM_PROBE, True),
        (FLAGS + OPENMP, parallel, True),
        (plain + TEAM, TEAM_PROBE, True),
        (plain + OPENMP, parallel, True),
        (FLAGS + SERIAL, probe % "", False),
        (plain, probe % "", False),
    )
    if not sys.platform.startswith("linux"):
        trials = tuple(trial for trial in trials if trial[1] is not TEAM_PROBE)
    message = ""
    try:
        with tempfile.TemporaryDirectory(prefix="cpgen-", ignore_cleanup_errors=True) as folder:
            for flags, text, openmp in trials:
                message = _tried([*start, *flags], text, Path(folder))
                if not message:
                    return Compiler(found, version, flags, openmp, _target(start, flags), tuple(words))
    except OSError as error:
        raise EnvironmentProblem(f"there is no temporary folder to try the C compiler in: {error}") from error
    raise EnvironmentProblem(f"the C compiler {' '.join(start)} cannot make a shared library:\n{message}")


def _named(preferred: str, path: str) -> list[str]:
    """The words of CC; one word if that is a file as it stands."""
    if not preferred or shutil.which(preferred, path=path):
        return [preferred]
    try:
        return shlex.split(preferred)
    except ValueError as error:
        raise EnvironmentProblem(f"the environment variable CC, {preferred!r}, cannot be read: {error}") from error


def _tried(command: Sequence[str], text: str, folder: Path) -> str:
    """What is wrong with a shared library that the command makes of ``text``; empty if it is good."""
    source, library = folder / "probe.c", folder / "probe.so"
    library.unlink(missing_ok=True)
    source.write_text(text)
    others = CLIENT if set(TEAM) <= set(command) else ()
    for file in others:
        (folder / file).write_text(source_file(file), encoding="utf-8")
    sources = [str(source), *(file for file in others if file.endswith(".c"))]
    done = run([*command, *sources, "-o", str(library), "-lm"], ASKING, folder)
    if done.returncode != 0:
        return _said(done) or f"it ended with status {done.returncode} and said nothing"
    if not library.is_file():
        return "it ended with status 0, but made no file"
    try:
        ctypes.CDLL(str(library)).probe  # noqa: B018 - looks the name up
    except (OSError, AttributeError) as error:
        return f"what it made cannot be loaded: {error}"
    return ""


def source_file(name: str) -> str:
    """A C file of this package."""
    return resources.files("cpgen.native").joinpath(name).read_text(encoding="utf-8")


def _target(start: Sequence[str], flags: Sequence[str]) -> str:
    """The macros the compiler predefines: they tell what -march=native stands for on this machine."""
    done = run([*start, *flags, "-dM", "-E", "-x", "c", os.devnull], ASKING)
    return hashlib.sha256(done.stdout.encode()).hexdigest() if done.returncode == 0 else "unknown"


def run(command: Sequence[str], timeout: float, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a compiler; its own temporary files go to ``folder``, which is its working directory.

    Raises EnvironmentProblem if it cannot be started or takes longer than ``timeout`` seconds.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    if folder is not None:
        environment["TMPDIR"] = str(folder)
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"the compiler {command[0]} did not end within {timeout:g} seconds ({' '.join(command[:2])} ...)"
        ) from error
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"the compiler {command[0]} does not run: {error}") from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip())[:4000]


def compile_library(name: str, files: Mapping[str, str], compiler: Compiler) -> Path:
    """Path of the shared library made of ``files``: C files and the headers they include.

    Comes from the cache if possible.  Raises EnvironmentProblem with the compiler's message if it cannot be made.
    """
    sources = [file for file in files if file.endswith(".c")]

    def command(target: str) -> list[str]:
        return [*compiler.command, *compiler.flags, *sources, "-o", target, "-lm"]

    return compile_files(name, files, compiler.identity, command)


def compile_files(
    name: str, files: Mapping[str, str], identity: str, command: Callable[[str], Sequence[str]], suffix: str = ".c"
) -> Path:
    """Path of what ``command(target)`` makes of ``files``, from the cache if possible.

    ``identity`` is all that decides the result besides the files.  Raises EnvironmentProblem.
    """

    def make(folder: Path) -> Path:
        made = folder / "library.so"
        done = run(command(str(made)), TIMEOUT, folder)
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        compiler = command("")[0]
        if done.returncode != 0:
            raise EnvironmentProblem(
                f"{compiler} could not compile the generated {name}{suffix}:\n{_said(done)}"
            )
        if not made.is_file():
            raise EnvironmentProblem(f"{compiler} made nothing of the generated {name}{suffix}, though its status was 0")
        return made

    return stored(name, files, identity, make)


def warnings_of(name: str, files: Mapping[str, str], compiler: Compiler, extra: Sequence[str] = ()) -> str:
    """What the compiler says about the text under strict warnings; empty if it is clean."""
    with tempfile.TemporaryDirectory(prefix="cpgen-") as work:
        for file, text in files.items():
            (Path(work) / file).write_text(text, encoding="utf-8")
        command = [*compiler.command, "-std=c99", "-O2", *WARNINGS, *extra, "-c", f"{name}.c", "-o", "object.o"]
        return run(command, TIMEOUT, Path(work)).stderr
