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

LONGEST = 110  # of a line

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
        return f"{called(tree)}({', '.join(expression(a) for a in tree.arguments)})", _PRIMARY
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
    if len(start) + len(text) + len(end) <= LONGEST:
        return start + text + end
    lines = [""]
    for k, item in enumerate(items):
        piece = item + ("," if k < len(items) - 1 else end)
        if lines[-1] and len(lines[-1]) + len(piece) > LONGEST - 4:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{piece}"
    return "\n    ".join([start, *lines])


def packed(items: Sequence[str], indent: int) -> list[str]:
    """Items of a list in as few lines as there can be, none longer than :data:`LONGEST`."""
    margin = " " * indent
    found: list[str] = []
    for k, item in enumerate(items):
        piece = item + ("," if k < len(items) - 1 else "")
        if found and len(found[-1]) + 1 + len(piece) <= LONGEST:
            found[-1] += f" {piece}"
        else:
            found.append(margin + piece)
    return found


def lines(body: Sequence[Statement], indent: int = 0) -> list[str]:
    """The lines of some statements, indented and none longer than :data:`LONGEST` where that can be helped."""
    found: list[str] = []
    margin = " " * indent
    for statement in body:
        if isinstance(statement, (For, Block)) and statement.pragma:
            found.append(f"{margin}{statement.pragma}")
        if isinstance(statement, (For, If, Block)):
            found += _broken(_head(statement, indent), indent)
            found += lines(statement.body, indent + 4)
            found.append(f"{margin}}}")
        else:
            found += _broken(_line(statement, indent), indent)
    return found


def condition(tree: Expression, indent: int = 0) -> str:
    """The head of a branch, ``if (tree) {``, as :func:`lines` has it."""
    return "\n".join(_broken(_head(If(tree, ()), indent), indent))


Chunks = list[tuple[int, str]]  # how deep inside an expression a line may end before it, and a piece of text


def _broken(chunks: Chunks, indent: int) -> list[str]:
    """One statement, broken where it is too long for a line: as far outside as does."""
    margin = " " * indent
    found = [margin + "".join(text for _, text in chunks)]
    depths = sorted({depth for depth, _ in chunks[1:]})
    while len(max(found, key=len)) > LONGEST and depths:
        deepest = depths.pop(0)
        found = [margin]
        pieces: list[str] = []
        for depth, text in chunks:
            if pieces and depth > deepest:
                pieces[-1] += text
            else:
                pieces.append(text)
        for text in pieces:
            if found[-1].strip() and len(found[-1]) + len(text) > LONGEST:
                found.append(f"{margin}    {text.lstrip()}")
            else:
                found[-1] += text
    return found


def _chunks(tree: Expression, least: int = 0, depth: int = 0) -> Chunks:
    """The text of an expression in pieces between which a line may end."""
    text, level = _spelled(tree)
    inside = depth + (level < least)
    found: Chunks
    if isinstance(tree, Operation):
        found = _chunks(tree.first, level, inside + 1)
        for op, operand in tree.rest:
            found += _around(f" {op} ", _chunks(operand, level + 1, inside + 1), "", inside)
    elif isinstance(tree, Select):
        found = _chunks(tree.test, _SELECT + 1, inside + 1)
        found += _around(" ? ", _chunks(tree.yes, _SELECT + 1, inside + 1), "", inside)
        found += _around(" : ", _chunks(tree.no, _SELECT, inside + 1), "", inside)
    elif isinstance(tree, Group):
        found = _around("(", _chunks(tree.inside, 0, inside + 1), ")")
    elif isinstance(tree, Unary) and not isinstance(tree.operand, Unary):
        found = _around(tree.op, _chunks(tree.operand, _UNARY, inside + 1), "")
    elif isinstance(tree, Cast):
        found = _around(f"({tree.type})", _chunks(tree.operand, _UNARY, inside + 1), "")
    elif isinstance(tree, Call) and tree.arguments:
        found = []
        for k, argument in enumerate(tree.arguments):
            end = ")" if k == len(tree.arguments) - 1 else ","
            start = " " if k else f"{called(tree)}("
            found += _around(start, _chunks(argument, 0, inside + 1), end, inside)
    else:
        found = [(inside, text)]
    return _around("(", found, ")") if level < least else found


def _around(before: str, chunks: Chunks, after: str, depth: int | None = None) -> Chunks:
    """``chunks`` with text before and after; a line may end before them at ``depth``."""
    (first, text), *others = chunks
    found = [(first if depth is None else depth, before + text), *others]
    found[-1] = (found[-1][0], found[-1][1] + after)
    return found


def _fitted(before: str, tree: Expression, after: str, indent: int) -> Chunks:
    """``before tree after``, in pieces if that is too long for a line."""
    text = f"{before}{expression(tree)}{after}"
    return [(0, text)] if indent + len(text) <= LONGEST else _around(before, _chunks(tree), after)


def _head(statement: For | If | Block, indent: int) -> Chunks:
    if isinstance(statement, If):
        return _fitted("if (", statement.test, ") {", indent)
    if isinstance(statement, For):
        variable = statement.variable
        step = statement.step
        advance = f"++{variable}" if is_number(step, 1) else f"{variable} += {expression(step)}"
        start = _around(f"for (ptrdiff_t {variable} = ", _chunks(statement.start), ";")
        return [*start, *_around(" ", _chunks(statement.test), ";", 0), (0, f" {advance}) {{")]
    return [(0, "{")]


def _line(statement: Statement, indent: int) -> Chunks:
    if isinstance(statement, Let):
        sizes = "".join(f"[{expression(s)}]" for s in statement.sizes)
        start = f"{declarator(statement.type, statement.name)}{sizes}"
        if statement.value is None:
            return [(0, f"{start};")]
        return _fitted(f"{start} = ", statement.value, ";", indent)
    if isinstance(statement, Assign):
        return _fitted(f"{expression(statement.target)} {statement.op} ", statement.value, ";", indent)
    if isinstance(statement, Do):
        return _fitted("", statement.call, ";", indent)
    if isinstance(statement, Return):
        return [(0, "return;")] if statement.value is None else _fitted("return ", statement.value, ";", indent)
    raise TypeError(f"{type(statement).__name__} is no statement")


def signature(function: Function) -> str:
    """All that stands before the body."""
    head = f"template <int {function.template}>\n" if function.template else ""
    parameters = [declarator(p.type, p.name) for p in function.parameters]
    return head + listed(f"{function.kind} {function.name}(", parameters or ["void"], ")")
