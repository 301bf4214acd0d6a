"""The rooms import in one direction only, and each third-party library has the rooms it may be used in."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cpgen"

# A room may import itself and rooms of a lower layer; rooms that share a layer do not see each other.
LAYER = {
    "version": 0,
    "errors": 0,
    "code": 0,
    "scalar": 1,
    "ir": 2,
    "model": 3,
    "derive": 3,
    "simplify": 3,
    "loops": 4,
    "emit": 5,
    "native": 6,
    "estimate": 7,
    "bundle": 8,
    "doctor": 8,
    "api": 9,
    "cli": 10,
    "__init__": 11,
    "__main__": 11,
}

# Where a library may be imported; numpy may be imported anywhere, anything not named here nowhere.
ROOMS_OF = {
    "numpy": set(LAYER),
    "sympy": {"scalar", "ir", "model", "derive", "simplify"},
    "mpmath": {"scalar"},
    "jinja2": {"emit"},
    "cffi": {"native"},
    "subprocess": {"native"},
}


def room(path: Path) -> str:
    """``cpgen/ir/nodes.py`` -> "ir", ``cpgen/api.py`` -> "api"."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path, text: str | None = None) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that ``path`` imports, inside functions too."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8") if text is None else text, str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cpgen":
            yield node.lineno, f"cpgen.{node.attr}"


def complaint(path: Path, name: str) -> str | None:
    """What is wrong with importing ``name`` in ``path``, or None."""
    here, parts = room(path), name.split(".")
    if parts[0] == "cpgen":
        if len(parts) == 1:  # what is read from the package itself is looked at where it is read
            return None
        there = parts[1]
        if there == here or there == "templates":
            return None
        if there not in LAYER:
            return f"{there} is not a known room"
        return None if LAYER[there] < LAYER[here] else f"{here} must not import {there}"
    if parts[0] in ROOMS_OF:
        return None if here in ROOMS_OF[parts[0]] else f"{parts[0]} must not be imported in {here}"
    return None if parts[0] in sys.stdlib_module_names else f"{parts[0]} is not a dependency of cpgen"


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def test_every_module_belongs_to_a_room() -> None:
    assert {room(path) for path in sources()} <= set(LAYER), "a new room needs its place in LAYER"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    wrong = [f"line {line}: {text}" for line, name in imported(path) if (text := complaint(path, name))]
    assert not wrong, f"{path.relative_to(ROOT)}: " + "; ".join(wrong)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("ir/x.py", "def f():\n    from cpgen.derive import reverse", "ir must not import derive"),
        ("ir/x.py", "from ..loops import stages", "ir must not import loops"),
        ("ir/x.py", "from . import nodes", None),
        ("derive/x.py", "from cpgen import simplify", "derive must not import simplify"),
        ("loops/x.py", "import sympy.core", "sympy must not be imported in loops"),
        ("emit/x.py", "from cpgen.version import __version__", None),
        ("emit/x.py", "import cpgen\ncpgen.compile(1)", "compile is not a known room"),
        ("emit/x.py", "import cffi", "cffi must not be imported in emit"),
        ("estimate/x.py", "import subprocess", "subprocess must not be imported in estimate"),
        ("estimate/x.py", "import scipy.sparse", "scipy is not a dependency of cpgen"),
        ("api.py", "from cpgen.estimate import result; import numpy as np, json", None),
    ],
)
def test_the_check_itself(file: str, text: str, expected: str | None) -> None:
    path = PACKAGE / file
    found = [message for _, name in imported(path, text) if (message := complaint(path, name))]
    assert found == ([expected] if expected else [])


def modules() -> dict[str, Path]:
    """Every file by the name it is imported by."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources()}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def circles(imports: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Sets of files that import each other, directly or by way of others, for the eyes of a type checker too."""
    reached: dict[str, set[str]] = {}
    for name in imports:
        seen: set[str] = set()
        waiting = list(imports[name])
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting += imports[other]
        reached[name] = seen
    found = {frozenset(b for b in reached[a] if a in reached[b]) for a in imports if a in reached[a]}
    return sorted(sorted(circle) for circle in found)


def test_files_do_not_import_each_other_in_a_circle() -> None:
    known = modules()
    imports = {}
    for name, path in known.items():
        found = [text if text in known else text.rpartition(".")[0] for _, text in imported(path)]
        imports[name] = [text for text in found if text in known and text != name]
    assert circles(imports) == []
    assert sum(map(len, imports.values())) > 500  # that something was looked at


def test_circles_are_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": []}) == [["b", "c"]]


def test_run_py_uses_the_standard_library_only() -> None:
    assert all(name.split(".")[0] in sys.stdlib_module_names for _, name in _plain_imports(ROOT / "run.py"))


def _plain_imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
