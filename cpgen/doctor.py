"""What this machine has of what cpgen needs, each finding with its fix."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from cpgen.errors import EnvironmentProblem

OK, WARNING, FAILED = "ok", "warning", "failed"

DISTRIBUTION = "cpgen-curvature"
NAMESAKE = "cpgen"  # an unrelated distribution that installs a package of the same import name
REINSTALL = f"pip install --force-reinstall {DISTRIBUTION}"
TEMPLATES = ("c/program.c.j2", "c/program.h.j2", "runtime/cpgen_philox.h", "runtime/cpgen_scalar.h")

PROBE = """#include <math.h>
#include <stdint.h>
extern double probe(int32_t n);
double probe(int32_t n) { return erf((double)n); }
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``state`` is "ok", "warning" (works, but less well) or "failed"; ``fix`` is empty if ok."""

    what: str
    state: str
    detail: str
    fix: str = ""


def examine() -> tuple[Finding, ...]:
    """Look at everything once."""
    return (
        _python(),
        _package("sympy"),
        _package("numpy"),
        _package("jinja2"),
        _package("cffi"),
        namesake(_installed(NAMESAKE), _installed(DISTRIBUTION)),
        _templates(),
        _cache(),
        *compiler(),
        cuda(),
    )


def text(findings: Sequence[Finding]) -> str:
    """For people: a line for each finding, its fix below it."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.what:<{width}}  {finding.detail}")
        if finding.fix:
            lines.append(f"{'':<8} {'':<{width}}  fix: {finding.fix}")
    return "\n".join(lines)


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < (3, 10):  # noqa: UP036 - reported even where installation was forced
        return Finding("python", FAILED, version, "use Python 3.10 or newer")
    return Finding("python", OK, f"{version}, {sys.executable}")


def _package(name: str) -> Finding:
    version = _installed(name)
    if version is None:
        return Finding(name, FAILED, "not installed", f"pip install {name}")
    return Finding(name, OK, version)


def namesake(other: str | None, own: str | None) -> Finding:
    """Whether another distribution of the import name is installed; ``other`` and ``own`` are versions or None."""
    what = "import name"
    if other is not None:
        detail = f"the distribution {NAMESAKE} {other} is installed too and writes into the same package"
        return Finding(what, FAILED, detail, f"pip uninstall {NAMESAKE}, then {REINSTALL}")
    if own is None:
        detail = f"{DISTRIBUTION} is not installed; running from a source folder"
        return Finding(what, WARNING, detail, "pip install -e . in the source folder")
    return Finding(what, OK, f"{DISTRIBUTION} {own}")


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _templates() -> Finding:
    from cpgen.emit.runtime import template_folder

    folder = template_folder()
    missing = [name for name in TEMPLATES if not (folder / name).is_file()]
    if missing:
        return Finding("templates", FAILED, f"{', '.join(missing)} missing from {folder}", REINSTALL)
    return Finding("templates", OK, str(folder))


def _cache() -> Finding:
    from cpgen.native.cache import cache_folder

    fix = "set CPGEN_CACHE_DIR to a folder that you own and that nobody else can write to"
    lost = "every process compiles anew, in a temporary folder"
    try:
        folder = cache_folder()
    except EnvironmentProblem as problem:
        return Finding("cache", WARNING, f"{problem}; {lost}", fix)
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        count = sum(1 for _ in folder.glob("*/*.so"))
    except OSError as error:
        return Finding("cache", WARNING, f"{folder} cannot be written to ({error.strerror}); {lost}", fix)
    return Finding("cache", OK, f"{folder}, {count} compiled libraries")


def cuda() -> Finding:
    """nvcc and the driver, which only target="cuda" needs."""
    from cpgen.native.cuda import INSTALL, driver_found, find_nvcc

    try:
        found = find_nvcc()
    except EnvironmentProblem:
        return Finding("cuda", OK, f"no nvcc, so target='cuda' cannot be used; to have it: {INSTALL}")
    if not driver_found():
        detail = f"{found.path}, {found.version}; no driver, so nothing can run on a GPU here"
        return Finding("cuda", OK, detail)
    return Finding("cuda", OK, f"{found.path}, {found.version}, with a driver")


def compiler() -> tuple[Finding, ...]:
    """The C compiler, its OpenMP and the headers of the C library."""
    from cpgen.native.compiler import find_compiler, warnings_of

    names = ("compiler", "openmp", "headers")
    try:
        found = find_compiler()
    except EnvironmentProblem as problem:
        fix = "install gcc (Debian and Ubuntu: apt install gcc libc6-dev), or name a compiler in the variable CC"
        detail = f"{problem}; results come from the NumPy interpreter, which is slow"
        return (Finding(names[0], FAILED, detail, fix),)
    openmp = Finding(names[1], OK, "several threads")
    if not found.openmp:
        fix = "use a compiler with OpenMP (gcc with libgomp; clang with libomp-dev), for example CC=gcc"
        openmp = Finding(names[1], WARNING, "does not compile or link; programs run on one thread", fix)
    try:
        said = warnings_of("probe", {"probe.c": PROBE}, found).strip()
    except (EnvironmentProblem, OSError) as problem:  # no temporary folder, or a compiler that hangs
        said = str(problem)
    headers = Finding(names[2], OK, "math.h and stdint.h")
    if said:
        fix = "install the C library's headers (Debian and Ubuntu: apt install libc6-dev)"
        headers = Finding(names[2], FAILED, said.splitlines()[0], fix)
    return (Finding(names[0], OK, f"{' '.join(found.command)}, {found.version}"), openmp, headers)
