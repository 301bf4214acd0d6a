"""What programs and their outputs are called is written and read in one module each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cpgen.derive.outputs import _STEMS, Output, name_of, read_output, variance_of
from cpgen.derive.programs import METHODS
from cpgen.derive.request import PROGRAMS, Request, Sums, read_request
from cpgen.errors import RequestError

PACKAGE = Path(__file__).resolve().parents[2] / "cpgen"
ROOMS = ("derive", "estimate", "bundle")
OWN = {"derive/outputs.py", "derive/request.py", "estimate/tuning.py"}  # the last has the keys of its file
OUTPUT = re.compile(f"(var|{'|'.join(_STEMS.values())})_")
REQUEST = re.compile(rf"({'|'.join(PROGRAMS)})?(:({'|'.join(METHODS)}|exact)|\+gradient)")
SPLITS = ("partition", "rpartition", "split", "startswith", "endswith", "removeprefix", "removesuffix")


def complaints(text: str) -> Iterator[str]:
    """Texts that make or take apart the name of an output or of a program, by their line."""
    tree = ast.parse(text)
    whole = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values[:1]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            begins = id(node) in whole
            if OUTPUT.fullmatch(node.value) or (begins and OUTPUT.match(node.value)):
                yield f"line {node.lineno}: {node.value!r} is part of an output's name"
            if REQUEST.fullmatch(node.value):
                yield f"line {node.lineno}: {node.value!r} is part of a request"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SPLITS:
            if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value in (":", "+"):
                yield f"line {node.lineno}: a request is taken apart"


@pytest.mark.parametrize("room", ROOMS)
def test_no_name_is_made_or_parsed_elsewhere(room: str) -> None:
    found = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place not in OWN:
            found += [f"{place}, {text}" for text in complaints(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('name.startswith("var_")', 1),
        ('f"grad_{leaf}"', 1),
        ('f"{what}:cp"', 1),
        ('key = "diagonal:exact"', 1),
        ('what, _, rest = key.partition(":")', 1),
        ('new_input("column_scale", (), "scale")', 0),
        ('raise RequestError(f"the diagonal of {name}: no")', 0),
    ],
)
def test_the_check_itself(text: str, count: int) -> None:
    assert len(list(complaints(text))) == count


@pytest.mark.parametrize(
    "output",
    [
        *(Output(role) for role in ("value", "rows", "jvp", "trace", "sums", "pairs", "kinks")),
        *(Output(role, ("W",)) for role in ("gradient", "hvp", "diagonal", "column", "p", "q")),
        Output("gradient", ("var_x",)),
        Output("diagonal", ("grad_of_b",)),
        Output("block", ("W", "b")),
        Output("block", ("a_b", "c")),
        Output("entry", ("12",)),
    ],
    ids=lambda output: output.name,
)
def test_the_name_of_an_output_is_read_as_it_was_made(output: Output) -> None:
    assert read_output(output.name) == output
    assert read_output(variance_of(output.name)) == replace(output, is_variance=True)
    assert replace(output, is_variance=True).name == variance_of(output.name)


def test_names_of_blocks_are_told_apart() -> None:
    assert len({name_of("block", *pair) for pair in (("a_b", "c"), ("a", "b_c"), ("a", "b"))}) == 3


@pytest.mark.parametrize(
    "text",
    (
        "value gradient hessian diagonal diagonal:exact trace:hutchinson hessian:units diagonal+gradient "
        "diagonal:exact+gradient sketch sketch:W,b sketch:W,W;W,b block:W,b"
    ).split(),
)
def test_a_request_is_written_as_it_is_read(text: str) -> None:
    request = read_request(text)
    assert str(request) == text
    assert request.alone.and_gradient == request.and_gradient


def test_requests_that_are_different_are_written_differently() -> None:
    entries = ((("W", (0, 1)), ("b", (2,))),)
    sums = (Sums(n, (("W", kind),), c) for n in (2, 3) for kind in ("whole", "parts") for c in (False, True))
    made = [Request("entries", entries=e) for e in (entries, entries * 2)]
    made += [Request("sums", "cp", sums=s) for s in sums]
    assert len({str(request) for request in made}) == len(made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vallue", "there is no program 'vallue'"),
        ("entries", "there is no program 'entries'"),
        ("gradient:cp", "knows one way only"),
        ("block", "block:W,b"),
        ("block:W", "block:W,b"),
        ("sketch:a,b,c", "sketch:W,b"),
        (3, "this is int"),
    ],
)
def test_what_is_no_request_is_said(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_request(text)
