"""Run the project's tasks on a machine that has only Python (3.10 or newer) and a C compiler.

    python3 run.py test [pytest arguments]     the whole test suite
    python3 run.py digits [example arguments]  the handwritten digits example
    python3 run.py lint                        ruff and mypy
    python3 run.py samples [--write]           regenerate generated/ and compare it with (or write it to) the disk

Each task first makes the environment it needs in ``.venv-run`` beside this file, or reuses it if pyproject.toml has not
changed since.  Uses the standard library only.  Exits with the task's own status, or 3 if the environment cannot be made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv-run"
STAMP = ENVIRONMENT / "installed.json"

# task -> (extras of pyproject.toml it needs, the commands it runs with the environment's python)
TASKS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "test": (("test", "examples"), (("-m", "pytest"),)),
    "digits": (("examples",), (("examples/digits.py",),)),
    "lint": (("dev",), (("-m", "ruff", "check", "."), ("-m", "mypy"))),
    "samples": (("examples",), (("generated/regenerate.py",),)),
}


def main(arguments: list[str]) -> int:
    """Run one task; returns the exit status."""
    if len(arguments) < 1 or arguments[0] not in TASKS:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.version_info < (3, 10):  # noqa: UP036 - this file also runs where the package cannot be installed
        print(f"run.py: Python 3.10 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 3
    extras, commands = TASKS[arguments[0]]
    try:
        python = prepare(extras)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"run.py: the environment {ENVIRONMENT.name} could not be made: {error}", file=sys.stderr)
        print(
            "run.py: this needs the venv module (on Debian and Ubuntu: apt install python3-venv) "
            "and a package index that pip can reach",
            file=sys.stderr,
        )
        return 3
    for command in commands:
        status = subprocess.run([str(python), *command, *arguments[1:]], cwd=ROOT).returncode
        if status != 0:
            return status
    return 0


def prepare(extras: tuple[str, ...]) -> Path:
    """Make or reuse the environment with (at least) ``extras`` installed; returns its python."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    identity = {"project": project, "root": str(ROOT), "python": sys.version}
    installed: set[str] = set()
    try:
        stamp = json.loads(STAMP.read_text())
        if all(stamp.get(key) == value for key, value in identity.items()) and python.exists():
            installed = set(stamp["extras"])
            if installed.issuperset(extras):
                return python
    except (OSError, ValueError, KeyError):
        pass
    if not installed:
        print(f"run.py: making {ENVIRONMENT.name}", file=sys.stderr)
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    wanted = sorted(installed.union(extras))
    print(f"run.py: installing cpgen and its extras {', '.join(wanted)}", file=sys.stderr)
    requirement = f"{ROOT}[{','.join(wanted)}]"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", requirement]
    subprocess.run([str(python), *install], check=True)
    STAMP.write_text(json.dumps({**identity, "extras": wanted}))
    return python


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
