"""Printed trees mean what the trees say: a C compiler evaluates random ones, and Python walks over the trees."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from cpgen.code import printer
from cpgen.code.rewrite import mentions, nodes, renamed, replaced
from cpgen.code.tokens import in_comment, names, tokens
from cpgen.code.tokens import renamed as renamed_text
from cpgen.code.tree import (
    Assign,
    Call,
    Cast,
    Do,
    Element,
    Expression,
    Group,
    Literal,
    Name,
    Operation,
    Select,
    Statement,
    Type,
    Unary,
    binary,
    branch,
    joined,
    let,
    loop,
    number,
    of,
    plus,
    times,
)

VALUES = {"a": 3, "b": -2, "c": 7}
OPERATORS = ("||", "&&", "|", "&", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%")


def made(source: random.Random, depth: int) -> Expression:
    """A random expression of ints."""
    inner = ["binary"] * 6 + ["unary", "select", "group", "cast", "call"]
    kind = source.choice(inner if depth else ["name", "literal"])
    if kind == "name":
        return Name(source.choice(list(VALUES)))
    if kind == "literal":
        return number(source.randint(-9, 9))
    parts = [made(source, depth - 1) for _ in range(3)]
    if kind == "binary":
        return binary(source.choice(OPERATORS), parts[0], parts[1])
    if kind == "unary":
        return Unary(source.choice("-!"), parts[0])
    if kind == "select":
        return Select(*parts)
    if kind == "cast":
        return Cast("int", parts[0])
    return Group(parts[0]) if kind == "group" else Call("least", (parts[0], parts[1]))


def value(tree: Expression) -> int:
    """What C makes of it; ZeroDivisionError where that has no value."""
    if isinstance(tree, Name):
        return VALUES[tree.text]
    if isinstance(tree, Literal):
        return int(tree.text)
    if isinstance(tree, Unary):
        return -value(tree.operand) if tree.op == "-" else int(not value(tree.operand))
    if isinstance(tree, Select):
        return value(tree.yes) if value(tree.test) else value(tree.no)
    if isinstance(tree, Cast):
        return value(tree.operand)
    if isinstance(tree, Group):
        return value(tree.inside)
    if isinstance(tree, Call):
        return min(value(argument) for argument in tree.arguments)
    assert isinstance(tree, Operation)
    found = value(tree.first)
    for op, operand in tree.rest:
        if op == "||":
            found = int(bool(found) or bool(value(operand)))
        elif op == "&&":
            found = int(bool(found) and bool(value(operand)))
        else:
            found = _operated(op, found, value(operand))
    return found


def _operated(op: str, a: int, b: int) -> int:
    if op in "/%":
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)  # towards zero
        return quotient if op == "/" else a - quotient * b
    table = {"|": a | b, "&": a & b, "+": a + b, "-": a - b, "*": a * b}
    comparisons = {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
    return table[op] if op in table else int(comparisons[op])


def test_c_reads_what_the_trees_say(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source = random.Random(20261128)
    trees, expected = [], []
    while len(trees) < 1500:
        tree = made(source, source.randint(1, 5))
        try:
            found = value(tree)
        except ZeroDivisionError:
            continue
        if abs(found) < 10**6 and all(abs(v) < 10**8 for v in _inner(tree)):
            trees.append(tree)
            expected.append(found)
    lines = ["#include <stdio.h>", "static int least(int x, int y) { return x < y ? x : y; }", "int main(void)", "{"]
    lines += [f"    const int {name} = {v};" for name, v in VALUES.items()]
    for tree in trees:
        lines.append("    {")
        lines += printer.lines([let("x", tree, Type("int", constant=True))], 8)
        lines += ['        printf("%d\\n", x);', "    }"]
    (tmp_path / "t.c").write_text("\n".join([*lines, "    return 0;", "}", ""]))
    command = [compiler, "-std=c99", "-O0", "-w", str(tmp_path / "t.c"), "-o", str(tmp_path / "t")]
    subprocess.run(command, check=True)
    done = subprocess.run([str(tmp_path / "t")], check=True, capture_output=True, text=True)
    assert [int(line) for line in done.stdout.split()] == expected


def _inner(tree: Expression) -> list[int]:
    """The values of all parts that have one, so that nothing overflows on the way."""
    found = []
    for part in nodes(tree):
        if isinstance(part, Expression):
            try:
                found.append(value(part))
            except ZeroDivisionError:
                pass
    return found


def test_long_lines_are_broken_and_stay_the_same_tokens() -> None:
    source = random.Random(5)
    for _ in range(300):
        tree = made(source, 6)
        inside = [Assign(Element(Name("out"), Name("a")), tree), Do(Call("f", (tree, tree)))]
        body: list[Statement] = [branch(tree, inside)]
        broken = printer.lines(body, 8)
        assert all(len(line) <= printer.LONGEST for line in broken)
        assert all(line.startswith(" " * 8) for line in broken)
        text = printer.expression(tree)
        whole = f"if ({text}) {{ out[a] = {text}; f({text}, {text}); }}"
        assert _tokens("\n".join(broken)) == _tokens(whole)


def _tokens(text: str) -> list[str]:
    return [token.text for token in tokens(text) if token.kind != "space"]


def test_a_line_ends_as_far_outside_as_it_can() -> None:
    inner = joined(times(Name("a" * 30), Name("b" * 30)), Name("c" * 20))
    [first, second] = printer.lines([let("x", binary("-", Name("d" * 20), Group(inner)))])
    assert first.endswith("d" * 20) and second.startswith("    - (aaa")


def test_sums_of_thousands_of_terms_are_flat() -> None:
    tree: Expression = Name("t0")
    for k in range(1, 5000):
        tree = binary("+", tree, Name(f"t{k}"))
    assert mentions(tree, "t4999") and not mentions(renamed(tree, {"t4999": "u"}), "t4999")
    assert printer.expression(tree).count(" + ") == 4999


def test_what_is_built_is_folded() -> None:
    zero, one, i = number(0), number(1), Name("i")
    assert plus(zero, i) == i == plus(i, zero) and times(i, one) == i
    assert printer.expression(joined(i, binary("-", Name("j"), one))) == "i + j - 1"
    assert printer.expression(times(plus(i, one), Name("LANES"))) == "(i + 1) * LANES"
    assert printer.expression(of("f", "args", "x")) == "f->args->x" and printer.expression(of("frame", "x")) == "frame.x"
    assert printer.expression(Unary("-", Unary("-", i))) == "-(-i)" and printer.expression(number(-3)) == "-3"
    assert printer.lines([loop("i", 3, [Assign(Name("x"), i)])])[0] == "for (ptrdiff_t i = 0; i < 3; ++i) {"
    assert replaced(plus(i, one), one, zero) == Operation(i, (("+", zero),))


def test_names_in_comments_and_strings_are_not_names() -> None:
    text = '/* sin(x) */ y = sin(x) + "sin"[0]; // sin\n#define sin_2 1e-3f\n'
    assert "".join(token.text for token in tokens(text)) == text
    assert names(text) == {"y", "sin", "x", "define", "sin_2"}
    mine = renamed_text(text, lambda name: {"sin": "my_sin"}.get(name, name))
    assert mine == text.replace("y = sin", "y = my_sin")
    assert in_comment("a */ b\nc \\ é") == "a * / b c / ?"
