"""The threads that all compiled programs of this process share, and how many they are by default.

GCC's OpenMP directives become calls of a few functions.  ``team_client.c``, linked to every program, hands them to
``team.c``, which is loaded once: a preempted thread holds up nobody, waiting is passive after a short spin, and a
child of a fork starts threads of its own.  Where the compiler is not GCC, or not on Linux, its own OpenMP library
does the work.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cffi

from cpgen.errors import EnvironmentProblem
from cpgen.native.compiler import CLIENT, Compiler, compile_library, source_file

NAME = "cpgen_team"
# nodelete: its threads sleep in it until the process ends
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", "-Wl,-z,nodelete")


def client_files() -> dict[str, str]:
    """What is compiled together with a program that is to use the team."""
    return {name: source_file(name) for name in CLIENT}


def join(library: Path, compiler: Compiler) -> None:
    """Let the programs of a loaded library use the team.  Raises EnvironmentProblem if there is none to be had."""
    ffi = cffi.FFI()
    ffi.cdef("void cpgen_use_team(const void *given);")
    if not _TEAM:
        _TEAM.append(_load(compiler))
    ffi.dlopen(str(library)).cpgen_use_team(_TEAM[0][0])


# two threads that load it at once find the same library, and in it the same team
_TEAM: list[tuple[Any, Any]] = []


def team_library(compiler: Compiler) -> Path:
    """The library of threads, compiled.  Raises EnvironmentProblem."""
    files = {f"{NAME}.c": source_file("team.c"), "team.h": source_file("team.h")}
    return compile_library(NAME, files, replace(compiler, flags=FLAGS, openmp=False))


def _load(compiler: Compiler) -> tuple[Any, Any]:
    """The address of the team, and the library that holds it."""
    ffi = cffi.FFI()
    ffi.cdef("const void *cpgen_make_team(void);")
    try:
        library = ffi.dlopen(str(team_library(compiler)))
    except OSError as error:
        raise EnvironmentProblem(f"the library of threads cannot be loaded: {error}") from error
    team = library.cpgen_make_team()
    if team == ffi.NULL:
        raise EnvironmentProblem("the system has no memory left to prepare threads for a fork")
    return team, library


def default_threads(root: Path = Path("/")) -> int:
    """Threads of a call that names none: the processors that this process may use, and no more than OMP_NUM_THREADS.

    The processors are those of the affinity mask, and as many as the quotas of the control groups (version 1 or 2, of
    this process and of the groups around it, below ``root``) amount to, rounded up.  Quotas are read once.
    """
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        first = os.environ.get(name, "").split(",")[0].strip()  # a list is for nested regions
        if first.isascii() and first.isdigit() and int(first) > 0:
            most = min(most, int(first))
    quota = _quota(root)
    return max(1, most if quota is None else min(most, quota))


@lru_cache(maxsize=4)
def _quota(root: Path) -> int | None:
    """Processors that the control groups grant, at least one; None without a limit.

    https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max) and the kernel's scheduler/sched-bwc.rst (version 1).
    """
    found: list[int] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        controllers, group = parts[1].split(","), parts[2].strip("/")
        if parts[1] == "":
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        elif "cpu" in controllers:
            mounts = [f"sys/fs/cgroup/{parts[1]}", "sys/fs/cgroup/cpu"]
        else:
            continue
        for mount in mounts:
            # in a container the path may be one seen from outside, which leads nowhere here: all above it are looked at
            top = root / mount
            for folder in (top / group, *(top / group).parents):
                if folder == top or top in folder.parents:
                    limit = _limit(folder)
                    found += [] if limit is None else [limit]
    return min(found) if found else None


def _limit(folder: Path) -> int | None:
    both = _text(folder / "cpu.max").split()
    if len(both) != 2:
        both = [_text(folder / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period")]
    if not all(part.isascii() and part.isdigit() for part in both):
        return None  # "max" or -1: no limit
    quota, period = int(both[0]), int(both[1])
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
