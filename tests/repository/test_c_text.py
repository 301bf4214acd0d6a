"""C is a tree until it is printed: no module that makes it edits text, and no template decides by what a text says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpgen.code.printer import LONGEST

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("code", "emit", "bundle")
# reads C that was not made here, token by token, and makes text fit for a comment
READERS = {"cpgen/code/tokens.py"}
EDITS = {"replace", "sub", "subn", "translate"}  # methods of strings and of regular expressions
# a template asks for values and flags; what it may not do is look into a text
DECISION = re.compile(r"""{%-?\s*(?:el)?if[^%]*["'][^"']*["']\s+(?:not\s+)?in\b|\|\s*replace\b""")


def faults(name: str, text: str) -> Iterator[str]:
    """Where a module edits text."""
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in EDITS:
            if node.func.attr == "replace" and any(k.arg for k in node.keywords):
                continue  # of a dataclass, through its module
            if _of_a_key(node):
                continue
            yield f"{name}:{node.lineno}: .{node.func.attr}("


def _of_a_key(node: ast.Call) -> bool:
    """``key.replace(":", "_")``: the name of a program, not C."""
    assert isinstance(node.func, ast.Attribute)
    return isinstance(node.func.value, ast.Name) and node.func.value.id == "key"


def modules() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / "cpgen" / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name not in READERS:
                yield name, path.read_text(encoding="utf-8")


def test_no_module_edits_c_text() -> None:
    found = [fault for name, text in modules() for fault in faults(name, text)]
    assert not found, "C text is edited as text:\n" + "\n".join(found)


def test_no_template_looks_into_a_text() -> None:
    folders = (ROOT / "templates" / "c", ROOT / "templates" / "cuda")
    bundles = [*(ROOT / "templates" / "bundle").glob("*.c.j2"), *(ROOT / "templates" / "bundle").glob("*.h.j2")]
    for path in sorted([*(p for folder in folders for p in folder.glob("*.j2")), *bundles]):
        found = [m[0] for m in DECISION.finditer(path.read_text(encoding="utf-8"))]
        assert not found, f"{path.name} decides by a text: {found}"


@pytest.mark.parametrize(
    "line",
    ['text = text.replace("lane", "at")', 'made = re.sub(r"\\blane\\b", "at", target)', "text = pattern.sub(put, text)"],
)
def test_a_planted_fault_is_found(line: str) -> None:
    name, text = next(iter(modules()))
    assert not list(faults(name, text))
    assert list(faults(name, f"{text}\n\ndef planted(text, target, pattern, put):\n    {line}\n"))


def test_a_template_that_looks_into_a_text_is_found() -> None:
    assert DECISION.search('{% if "* rows" in program.cost %}')
    assert DECISION.search("{{ stage.body | replace('a', 'b') }}")


def test_lines_fit_a_page() -> None:
    files = [p for p in sorted((ROOT / "generated").glob("*/*.[ch]")) if not p.name.endswith("_scalar.h")]
    assert len(files) > 3
    for path in files:
        long = [n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if len(line) > LONGEST]
        assert not long, f"{path.name} has more than {LONGEST} characters in lines {long[:9]}"


# lines: what a reader has to go through does not grow unnoticed
MOST = {"digits/digits.c": 1700, "digits/digits.h": 130, "rosenbrock/rosenbrock.c": 200, "pmsm/pmsm.h": 80}


def test_samples_are_short() -> None:
    for name, most in MOST.items():
        count = len((ROOT / "generated" / name).read_text(encoding="utf-8").splitlines())
        assert count <= most, f"{name} has {count} lines"


def test_no_function_of_a_sample_is_there_twice() -> None:
    for path in sorted((ROOT / "generated").glob("*/*.c")):
        heads, bodies = set[str](), dict[str, str]()
        for head, body in re.findall(r"^(\w[^;{}]*\))\n\{\n(.*?)^\}$", path.read_text(encoding="utf-8"), re.S | re.M):
            assert head not in heads, f"{path.name}: {head}"
            heads.add(head)
            if body.count("\n") > 3 and "selftest" not in path.name and path.name != "main.c":
                assert body not in bodies, f"{path.name}: {head} and {bodies[body]}"
                bodies[body] = head
