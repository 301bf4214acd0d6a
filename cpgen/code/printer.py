"""Trees as text of C99 and of CUDA."""

from __future__ import annotations

from collections.abc import Sequence

from cpgen.code.tree import (
    LEVELS,
    Assign,
    Block,
    Braces,
    Call,
    Cast,
    Do,
    Element,
    Expression,
    For,
    Function,
    Group,
    If,
    Let,
    Literal,
    Member,
    Name,
    Operation,
    Return,
    Select,
    Statement,
    Type,
    Unary,
    is_number,
)

WIDTH = 100  # of signatures and calls

_SELECT, _UNARY, _PRIMARY = 1, len(LEVELS) + 2, len(LEVELS) + 3


def expression(tree: Expression) -> str:
    """The text of an expression, with the parentheses that its operators need."""
    return _text(tree, 0)


def _text(tree: Expression, least: int) -> str:
    text, level = _spelled(tree)
    return f"({text})" if level < least else text


def _spelled(tree: Expression) -> tuple[str, int]:
    """The text, and how tightly it holds together."""
    if isinstance(tree, (Name, Literal)):
        return tree.text, _PRIMARY
    if isinstance(tree, Group):
        return f"({_text(tree.inside, 0)})", _PRIMARY
    if isinstance(tree, Element):
        return f"{_text(tree.array, _PRIMARY)}[{_text(tree.place, 0)}]", _PRIMARY
    if isinstance(tree, Member):
        return f"{_text(tree.whole, _PRIMARY)}{'->' if tree.pointer else '.'}{tree.name}", _PRIMARY
    if isinstance(tree, Call):
        start = "\n    " if tree.apart else ""
        return f"{called(tree)}({start}{', '.join(expression(a) for a in tree.arguments)})", _PRIMARY
    if isinstance(tree, Operation):
        level = tree.level
        rest = "".join(f" {op} {_text(operand, level + 1)}" for op, operand in tree.rest)
        return f"{_text(tree.first, level)}{rest}", level
    if isinstance(tree, Unary):
        inner = _text(tree.operand, _UNARY)
        return f"{tree.op}({inner})" if inner.startswith(tree.op) else f"{tree.op}{inner}", _UNARY
    if isinstance(tree, Select):
        parts = (_text(tree.test, _SELECT + 1), _text(tree.yes, _SELECT + 1), _text(tree.no, _SELECT))
        return f"{parts[0]} ? {parts[1]} : {parts[2]}", _SELECT
    if isinstance(tree, Cast):
        return f"({tree.type}){_text(tree.operand, _UNARY)}", _UNARY
    if isinstance(tree, Braces):
        return f"{{{', '.join(expression(i) for i in tree.items)}}}", _PRIMARY
    raise TypeError(f"{type(tree).__name__} is no expression")


def called(tree: Call) -> str:
    """The function of a call."""
    return f"{tree.function}<{tree.template}>" if tree.template else tree.function


def declarator(type: Type, name: str) -> str:
    """``const double *const name``."""
    star = f"{'*const ' if type.fixed else '*'}" if type.pointer else ""
    return f"{'const ' if type.constant else ''}{type.base} {star}{name}"


def listed(start: str, items: Sequence[str], end: str) -> str:
    """``start item, item end``, broken into lines where it is long."""
    text = ", ".join(items)
    if len(start) + len(text) + len(end) <= WIDTH:
        return start + text + end
    lines = [""]
    for k, item in enumerate(items):
        piece = item + ("," if k < len(items) - 1 else end)
        if lines[-1] and len(lines[-1]) + len(piece) > WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{piece}"
    return "\n    ".join([start, *lines])


def lines(body: Sequence[Statement], macros: str = "") -> list[str]:
    """The lines of some statements; ``macros`` stands before the names of the macros that pragmas are."""
    found: list[str] = []
    for statement in body:
        if isinstance(statement, (For, Block)) and statement.pragma:
            found.append(f"{macros}{statement.pragma}")
        if isinstance(statement, (For, If, Block)):
            head = _head(statement)
            found.append(f"{head} {{" if head else "{")
            found += [f"    {inner}" if inner else inner for inner in lines(statement.body, macros)]
            found.append("}")
        else:
            found += _line(statement).split("\n")
    return found


def _head(statement: For | If | Block) -> str:
    if isinstance(statement, If):
        return f"if ({expression(statement.test)})"
    if isinstance(statement, For):
        variable = statement.variable
        step = statement.step
        advance = f"++{variable}" if is_number(step, 1) else f"{variable} += {expression(step)}"
        return f"for (ptrdiff_t {variable} = {expression(statement.start)}; {expression(statement.test)}; {advance})"
    return ""


def _line(statement: Statement) -> str:
    if isinstance(statement, Let):
        sizes = "".join(f"[{expression(s)}]" for s in statement.sizes)
        value = "" if statement.value is None else f" = {expression(statement.value)}"
        return f"{declarator(statement.type, statement.name)}{sizes}{value};"
    if isinstance(statement, Assign):
        return f"{expression(statement.target)} {statement.op} {expression(statement.value)};"
    if isinstance(statement, Do) and isinstance(statement.call, Call):
        call = statement.call
        return listed(f"{called(call)}(", [expression(a) for a in call.arguments], ");")
    if isinstance(statement, Do):
        return f"{expression(statement.call)};"
    if isinstance(statement, Return):
        return "return;" if statement.value is None else f"return {expression(statement.value)};"
    raise TypeError(f"{type(statement).__name__} is no statement")


def signature(function: Function) -> str:
    """All that stands before the body."""
    head = f"template <int {function.template}>\n" if function.template else ""
    parameters = [declarator(p.type, p.name) for p in function.parameters]
    return head + listed(f"{function.kind} {function.name}(", parameters or ["void"], ")")
