"""Run the project's tasks on a machine that has only Python (3.10 or newer) and a C compiler.

    python3 run.py test [pytest arguments]     the short test suite, a process for each processor (at most four)
    python3 run.py test --all                  the whole one
    python3 run.py minima [pytest arguments]   its quick part on the oldest allowed versions, in .venv-minima
    python3 run.py digits [example arguments]  the handwritten digits example
    python3 run.py kalman                      a second-order Kalman filter, on the host and an emulated Cortex-M4F
    python3 run.py service                     a C++ service around a bundle, on several threads
    python3 run.py lint                        ruff and mypy
    python3 run.py samples [--write]           regenerate generated/ and compare it with (or write it to) the disk
    python3 run.py bench [W4 ...]              cpgen beside its peers, in an environment of their own (.venv-bench)
    python3 run.py gpu [--here] [--quick]      what needs a GPU: bits, compute-sanitizer, the benchmark; with --here in
                                               this Python, which has the peers, else in .venv-gpu

Each task first makes the environment it needs in ``.venv-run`` beside this file, or reuses it if pyproject.toml has not
changed since.  Uses the standard library only.  Exits with the task's own status, or 3 if the environment cannot be made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv-run"
PEERS = ROOT / ".venv-bench"  # the peers bring a gigabyte of libraries that nothing else needs
GPU = ROOT / ".venv-gpu"  # likewise
MINIMA = ROOT / ".venv-minima"
LISTS = {PEERS: ROOT / "benchmarks/peers/requirements.txt", GPU: ROOT / "benchmarks/gpu_requirements.txt"}

# what meets NumPy, SymPy, Jinja2 and cffi, each once
OLD_TESTS = ("tests/ir", "tests/scalar", "tests/estimate", "tests/native/test_native.py", "tests/model/test_language.py")
# task -> (extras of pyproject.toml it needs, the commands it runs with the environment's python)
TASKS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "test": (("test", "examples"), (("-m", "pytest"),)),
    "minima": (("test",), (("-m", "pytest", "-q", "-m", "not slow", *OLD_TESTS),)),
    "digits": (("examples",), (("examples/digits.py",),)),
    "kalman": (("examples",), (("examples/kalman/run.py",),)),
    "service": (("examples",), (("examples/service/run.py",),)),
    "lint": (("dev",), (("-m", "ruff", "check", "."), ("-m", "mypy"))),
    "samples": (("examples",), (("generated/regenerate.py",),)),
    "bench": ((), (("-m", "benchmarks.peers"),)),
    "gpu": (("test",), (("-m", "pytest", "-q", "-rs", "--all", "-m", "gpu", "tests/cuda"), ("benchmarks/gpu.py",))),
}
ENVIRONMENTS = {"bench": PEERS, "gpu": GPU, "minima": MINIMA}
LAST = ("gpu",)  # tasks whose arguments are for the last command alone


def main(arguments: list[str]) -> int:
    """Run one task; returns the exit status."""
    if len(arguments) < 1 or arguments[0] not in TASKS:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.version_info < (3, 10):  # noqa: UP036 - this file also runs where the package cannot be installed
        print(f"run.py: Python 3.10 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 3
    task, given = arguments[0], arguments[1:]
    extras, commands = TASKS[task]
    environment = ENVIRONMENTS.get(task, ENVIRONMENT)
    here = task == "gpu" and "--here" in given
    if here:
        given.remove("--here")
    try:
        python = Path(sys.executable) if here else prepare(extras, environment)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"run.py: the environment {environment.name} could not be made: {error}", file=sys.stderr)
        print(
            "run.py: this needs the venv module (on Debian and Ubuntu: apt install python3-venv) "
            "and a package index that pip can reach",
            file=sys.stderr,
        )
        return 3
    if task in ("test", "minima"):
        given = [*side_by_side(given), *given]
    for command in commands:
        own = given if task not in LAST or command is commands[-1] else []
        status = subprocess.run([str(python), *command, *own], cwd=ROOT).returncode
        if status != 0:
            return status
    return 0


def side_by_side(given: Sequence[str]) -> list[str]:
    """pytest's arguments for several processes, unless those ``given`` ask for one or talk to the terminal."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    alone = {"-n", "--numprocesses", "-s", "--capture=no", "--pdb", "--trace", "--collect-only", "--co"}
    if processors == 1 or alone.intersection(given):
        return []
    return ["-n", str(min(processors, 4))]


def prepare(extras: tuple[str, ...], environment: Path) -> Path:
    """Make or reuse the environment with (at least) ``extras`` and its list of LISTS installed; returns its python."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    record = environment / "installed.json"
    peers = LISTS.get(environment)
    described = (ROOT / "pyproject.toml").read_bytes() + (peers.read_bytes() if peers else b"")
    project = hashlib.sha256(described).hexdigest()
    identity = {"project": project, "root": str(ROOT), "python": sys.version}
    installed: set[str] = set()
    try:
        stamp = json.loads(record.read_text())
        if all(stamp.get(key) == value for key, value in identity.items()) and python.exists():
            installed = set(stamp["extras"])
            if installed.issuperset(extras):
                return python
    except (OSError, ValueError, KeyError):
        pass
    if not installed:
        print(f"run.py: making {environment.name}", file=sys.stderr)
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([_interpreter(environment), "-m", "venv", str(environment)], check=True)
    wanted = sorted(installed.union(extras))
    print(f"run.py: installing cpgen{' and its peers' if peers else ''} {', '.join(wanted)}", file=sys.stderr)
    requirement = [*(["-r", str(peers)] if peers else []), "--editable", f"{ROOT}[{','.join(wanted)}]"]
    if not wanted:
        requirement[-1] = str(ROOT)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirement]
    if environment == MINIMA:
        oldest = environment / "oldest.txt"
        oldest.write_text("\n".join(minima(described.decode())) + "\n")
        install += ["--constraint", str(oldest)]
    subprocess.run([str(python), *install], check=True)
    record.write_text(json.dumps({**identity, "extras": wanted}))
    return python


def _interpreter(environment: Path) -> str:
    """This Python; for the oldest versions an old one if there is one, since the newest have no wheels of them."""
    older = [shutil.which(name) for name in ("python3.10", "python3.11")] if environment == MINIMA else []
    for found in older:
        if found and subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return found
    return sys.executable


def minima(project: str) -> list[str]:
    """The oldest series of each package that pyproject.toml names with one, as pip's constraints.

    The series and not its first release: some have none, or none that was left on the index.
    """
    found = re.findall(r'"([A-Za-z0-9_-]+)>=([0-9.]+)"', project)
    return sorted({f"{name}=={version}.*" for name, version in found})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
