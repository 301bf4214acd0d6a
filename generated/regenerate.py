"""Regenerate the committed C and compare it with the disk.

    python generated/regenerate.py            compare; print what differs, exit 1 if anything does
    python generated/regenerate.py --write    write it

Both modes run ``cpgen build`` and ``cpgen bundle`` as a user would, into a temporary folder first.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import shutil
import sys
import tempfile
from pathlib import Path

from cpgen import cli

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
# folder -> the command, and its arguments after the model and before --out
BUILDS: dict[str, tuple[str, ...]] = {
    "digits": ("build", "--real", "float64", "--programs", "value,gradient,diagonal,sketch"),
    "rosenbrock": ("build", "--real", "float32", "--programs", "value,gradient,diagonal"),
    "pmsm": ("bundle", "--real", "float32", "--wrt", "i_d,i_q", "--programs", "value,gradient,hessian"),
}
SHOWN_LINES = 40  # of the difference of one file


def build(target: Path) -> None:
    """Write every folder of :data:`BUILDS` below ``target``.  Raises RuntimeError if a command fails."""
    for name, (command, *arguments) in BUILDS.items():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as log:
            status = cli.main([command, str(EXAMPLES / f"{name}.py"), *arguments, "--out", str(target / name)])
        if status != 0:
            raise RuntimeError(f"cpgen {command} {name} exits with {status}: {log.getvalue().strip()}")


def files(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file in the subfolders that are generated, in order."""
    found = [path for name in BUILDS for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


def differences(committed: Path = HERE) -> list[str]:
    """What a fresh build would change below ``committed``: one shortened unified diff a file, empty if nothing."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        fresh = files(Path(folder))
    old = files(committed)
    result = []
    for name in sorted({*fresh, *old}):
        before, after = old.get(name, b""), fresh.get(name, b"")
        if name in old and name in fresh and before == after:
            continue
        left, right = (text.decode(errors="replace").splitlines() for text in (before, after))
        lines = list(difflib.unified_diff(left, right, f"committed/{name}", f"regenerated/{name}", lineterm=""))
        if not lines:
            lines = [f"{name}: only line ends differ, or one side is missing"]
        if len(lines) > SHOWN_LINES:
            lines = [*lines[:SHOWN_LINES], f"... and {len(lines) - SHOWN_LINES} more lines"]
        result.append("\n".join(lines))
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    if parser.parse_args(arguments).write:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
            for name in BUILDS:
                shutil.rmtree(HERE / name, ignore_errors=True)
                shutil.copytree(Path(folder) / name, HERE / name)
        print(f"wrote {len(files(HERE))} files")
        return 0
    found = differences()
    print("\n".join(found) if found else f"{len(files(HERE))} files are as regenerated")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
