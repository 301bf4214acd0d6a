"""Small faults, one at a time: which test of the short suite notices each.

    python benchmarks/mutation.py --reach      # once: which functions each test calls, kept in build/reach.json
    python benchmarks/mutation.py [--areas derive,ir] [--count 40] [--seed 1] [--minutes 60] [--again FILE:LINE ...]

A fault swaps an operator, changes a constant, negates a condition, moves an index by one, returns or ends a loop early,
or drops a statement: in the syntax tree of cpgen's Python, and among the tokens of the C in templates/.  ``--count``
faults of each area, drawn with ``--seed``, are put one after another into a copy of the committed tree, where the tests
of the short suite run that call the function, those of the fault's own area first and the quick ones before the others,
until one fails or ``--budget`` seconds are spent; for C, the test folders of the area.  With ``--all`` what the short
suite has missed is given to the slow tests of the area as well.  Lines go to benchmarks/results/mutation.csv as they are
known; faults that have a line there, and whose line of code is still the same, are not tried again.  The last column is
for people: why a fault changes nothing that anybody can see ("equivalent: ...").

Processor time of a test decides what is an endless loop, so other work on the machine does not.  Needs fork.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import cProfile
import csv
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REACH = ROOT / "build/reach.json"
RESULTS = ROOT / "benchmarks/results/mutation.csv"
COLUMNS = "area file line kind before after source short all noticed_by seconds note".split()
NEVER = ("tests/examples", "tests/repository", "tests/cuda/test_compile.py")  # these look at files, or need nvcc
MEMORY = 12 << 30  # bytes that a process may ask for


@dataclass(frozen=True)
class Area:
    """Files to put faults into, and the tests next to them in the order in which they are run."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


AREAS = {
    "derive": Area(("cpgen/derive/*.py",), ("tests/derive", "tests/random", "tests/acceptance", "tests/estimate")),
    "simplify": Area(("cpgen/simplify/*.py",), ("tests/simplify", "tests/derive", "tests/acceptance", "tests/native")),
    "ir": Area(("cpgen/ir/*.py",), ("tests/ir", "tests/derive", "tests/random", "tests/native", "tests/estimate")),
    "loops": Area(("cpgen/loops/*.py",), ("tests/native", "tests/cuda", "tests/acceptance", "tests/bundle")),
    "emit": Area(("cpgen/emit/*.py",), ("tests/native", "tests/bundle", "tests/cuda", "tests/acceptance")),
    "scalar": Area(("cpgen/scalar/*.py",), ("tests/scalar", "tests/model", "tests/derive", "tests/random")),
    "runtime": Area(("templates/runtime/*.h",), ("tests/scalar", "tests/ir", "tests/native", "tests/bundle")),
    "templates": Area(
        ("templates/c/*.j2", "templates/bundle/*.j2", "templates/cuda/*.j2", "templates/cuda/*.h"),
        ("tests/native", "tests/bundle", "tests/cuda", "tests/acceptance"),
    ),
}


@dataclass(frozen=True)
class Fault:
    """``text`` between two offsets of a file replaced by another."""

    area: str
    file: str
    line: int
    kind: str
    start: int
    end: int
    before: str
    after: str
    source: str  # the line it is in

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        return self.file, self.source.strip(), self.kind, _short(self.before), _short(self.after)

    def apply(self, text: str) -> str:
        assert text[self.start : self.end] == self.before
        return text[: self.start] + self.after + text[self.end :]


def _short(text: str) -> str:
    return " ".join(text.split())[:80]


# Faults in Python

COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
COMPUTED = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "+", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "&", ast.LShift: ">>", ast.RShift: "<<",
}  # fmt: skip


class Finder(ast.NodeVisitor):
    """Collects (kind, first character, last character, replacement) of one file."""

    def __init__(self, text: str) -> None:
        self.text = text
        starts = [0]
        for line in text.encode().splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts, self._bytes = starts, text.encode()
        self.found: list[tuple[str, int, int, str]] = []

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        ends = (self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset)
        return tuple(len(self._bytes[:end].decode()) for end in ends)  # type: ignore[return-value]

    def put(self, kind: str, node: ast.expr | ast.stmt, after: str) -> None:
        self.found.append((kind, *self.span(node), after))

    def source(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def between(self, kind: str, left: ast.expr, right: ast.expr, operator: str) -> None:
        """Another operator between two operands, where nothing but it stands."""
        start, end = self.span(left)[1], self.span(right)[0]
        middle = self.text[start:end]
        old = middle.strip(" ()\n")
        if old and re.fullmatch(r"[^\w#]+|is|is not|in|not in", old):
            self.found.append((kind, start, end, middle.replace(old, operator)))

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between("comparison", left, right, COMPARED[type(op)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = any(isinstance(s, ast.JoinedStr | ast.Constant) and not _number(s) for s in (node.left, node.right))
        if type(node.op) in COMPUTED and not texts:
            self.between("operator", node.left, node.right, COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = "or" if isinstance(node.op, ast.And) else "and"
        parts = [f"({self.source(value)})" for value in node.values]
        self.put("and/or", node, f"({f' {other} '.join(parts)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.put("negation", node, f"bool({self.source(node.operand)})")
        elif isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.put("sign", node, f"({self.source(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.put("constant", node, str(not node.value))
        elif _number(node):
            self.put("constant", node, f"({node.value!r} + 1)" if node.value in (0, 1) else f"({node.value!r} - 1)")

    def condition(self, node: ast.If | ast.IfExp | ast.While) -> None:
        self.put("condition", node.test, f"(not ({self.source(node.test)}))")
        self.generic_visit(node)

    visit_If = visit_IfExp = visit_While = condition

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.put("condition", test, "True")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "range" and node.args:
            last = node.args[min(1, len(node.args) - 1)]
            self.put("off by one", last, f"({self.source(last)}) - 1")
        elif name in ("min", "max", "any", "all"):
            other = {"min": "max", "max": "min", "any": "all", "all": "any"}[name]
            self.put("function", node.func, other)
        elif name in ("sorted", "reversed") and len(node.args) == 1 and not node.keywords:
            self.put("order", node, f"list({self.source(node.args[0])})")
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # of zip: says what holds, like an assertion
            self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for end in (node.lower, node.upper):
            if end is not None and not isinstance(end, ast.Constant):
                self.put("off by one", end, f"({self.source(end)}) + 1")
        self.generic_visit(node)

    def drop(self, node: ast.Assign | ast.AugAssign | ast.Expr | ast.Continue | ast.Break | ast.Raise) -> None:
        plain = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)  # a docstring, a yield
        if not plain and not isinstance(node, ast.Assign):
            self.put("dropped", node, "pass")
        if not isinstance(node, ast.Raise):  # the words of an error are no business of these faults
            self.generic_visit(node)

    visit_Assign = visit_AugAssign = visit_Expr = visit_Continue = visit_Break = visit_Raise = drop

    def visit_For(self, node: ast.For) -> None:
        first = node.body[0]
        start, _ = self.span(first)
        self.found.append(("early end", start, start, "break\n" + " " * first.col_offset))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        first = next((a.arg for a in node.args.args if a.arg != "self"), None)
        same = first and node.args.args and node.returns is not None
        if same and len(body) > 1 and node.returns is not None:
            wanted = next((a.annotation for a in node.args.args if a.arg == first), None)
            if wanted is not None and ast.dump(wanted) == ast.dump(node.returns):
                start, _ = self.span(body[0])
                self.found.append(("early return", start, start, f"return {first}\n" + " " * body[0].col_offset))
        for statement in node.body:
            self.visit(statement)
        for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]:
            self.visit(default)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Positions inside a formatted string are wrong before Python 3.12, and most of them are messages."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """States what holds; a fault in it can only be noticed or not matter."""


def _number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def python_faults(text: str) -> list[tuple[str, int, int, str]]:
    """Every fault of a Python file."""
    finder = Finder(text)
    finder.visit(ast.parse(text))
    return finder.found


def is_python(text: str) -> bool:
    """Whether a fault has left a program."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


# Faults in C

SILENT = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}|^[ \t]*#(?:\\\n|[^\n])*',
    re.DOTALL | re.MULTILINE,
)
TOKEN = re.compile(
    r"(?P<number>\b(?:0[xX][0-9a-fA-F.]+(?:[pP][+-]?\d+)?|\d+\.?\d*(?:[eE][+-]?\d+)?)[uUlLfF]*\b)"
    r"|(?P<operator><<|>>|<=|>=|==|!=|&&|\|\||\+=|-=|\*=|(?<=[\w)\]] )[-+*/<>&|^%?](?= ))"
    r"|(?P<end>\b(?:break|continue);)"
    r"|(?P<statement>(?<=[;{}]\n)[ \t]*[a-z_]\w*(?:\[[^;\n]*\]|->\w+|\.\w+)* (?:[-+*|^&]|<<|>>)?= [^;]*;)"
    r"|(?P<test>(?<=if )\((?:[^()\n]|\([^()\n]*\))*\))"
)
C_OPERATORS = {
    "<<": ">>", ">>": "<<", "<=": "<", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+=": "-=", "-=": "+=",
    "*=": "+=", "+": "-", "-": "+", "*": "+", "/": "*", "<": "<=", ">": ">=", "&": "|", "|": "&", "^": "&", "%": "+",
}  # fmt: skip


def c_faults(text: str) -> list[tuple[str, int, int, str]]:
    """Every fault of a file of C, outside comments, strings, directives of the preprocessor and of Jinja."""
    hidden = SILENT.sub(lambda found: re.sub(r"[^\n]", "\0", found.group()), text)
    faults = []
    for found in TOKEN.finditer(hidden):
        kind = str(found.lastgroup)
        old, (start, end) = found.group(), found.span()
        if "\0" in old:
            continue
        if kind == "operator" and old in C_OPERATORS:
            faults.append(("operator", start, end, C_OPERATORS[old]))
        elif kind == "number":
            faults.append(("constant", start, end, _other(old)))
        elif kind == "end":
            faults.append(("dropped", start, end, ";"))
        elif kind == "statement":
            faults.append(("dropped", start, end, ";"))
            faults += [(k, start + a, start + b, t) for k, a, b, t in _inside(old)]
        elif kind == "test":
            faults.append(("condition", start, end, f"(!{old})"))
            faults += [(k, start + a, start + b, t) for k, a, b, t in _inside(old)]
    return faults


def _inside(text: str) -> list[tuple[str, int, int, str]]:
    """The faults of tokens within a statement."""
    return [(kind, start + 1, end + 1, after) for kind, start, end, after in c_faults(text[1:])]


def _other(number: str) -> str:
    """A number a little off: one more for integers, the last digit another for the rest."""
    digits = re.match(r"0[xX][0-9a-fA-F.]+|\d+\.?\d*", number)
    assert digits is not None
    body, rest = digits.group(), number[digits.end() :]
    if body in ("0", "1"):
        return str(1 - int(body) if body == "0" else 2) + rest
    at = max(k for k, c in enumerate(body) if c not in ".xX")
    new = {"9": "8", "f": "e", "F": "E"}.get(body[at]) or format((int(body[at], 16) + 1), "x")
    return body[:at] + new + body[at + 1 :] + rest


# Which faults, and what becomes of them


def faults(area: str, root: Path) -> list[Fault]:
    """All faults of an area, in the order of the files."""
    found = []
    for pattern in AREAS[area].files:
        for path in sorted(root.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            lines = text.split("\n")
            file = path.relative_to(root).as_posix()
            for kind, start, end, after in (python_faults if path.suffix == ".py" else c_faults)(text):
                line = text.count("\n", 0, start) + 1
                found.append(Fault(area, file, line, kind, start, end, text[start:end], after, lines[line - 1]))
    return found


def drawn(area: str, root: Path, count: int, seed: int) -> list[Fault]:
    """``count`` faults of an area, no two of the same kind in a line, in the order in which they were drawn."""
    every = faults(area, root)
    random.Random(f"{seed}:{area}").shuffle(every)
    chosen: dict[tuple[str, int, str], Fault] = {}
    for fault in every:
        if len(chosen) == count:
            break
        made = fault.apply((root / fault.file).read_text(encoding="utf-8"))
        if not fault.file.endswith(".py") or is_python(made):
            chosen.setdefault((fault.file, fault.line, fault.kind), fault)
    return list(chosen.values())


# Which tests call a function: this file is a plugin of pytest while that is recorded


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Add one line for a test to the file of this process: its name, its seconds, and what it calls of cpgen."""
    profile, began = cProfile.Profile(builtins=False), sum(os.times()[:4])
    profile.enable()
    try:
        result = yield
    finally:
        profile.disable()
    called = set()
    for entry in profile.getstats():  # type: ignore[attr-defined]
        if not isinstance(entry.code, str) and "/cpgen/" in entry.code.co_filename:
            called.add(f"{Path(entry.code.co_filename).relative_to(ROOT).as_posix()}:{entry.code.co_firstlineno}")
    with Path(f"{os.environ['CPGEN_REACH']}.{os.getpid()}").open("a") as file:
        file.write(json.dumps([item.nodeid, sum(os.times()[:4]) - began, sorted(called)]) + "\n")
    return result


def record() -> None:
    """Run the short suite once and write REACH: function -> [[test, seconds], ...]."""
    REACH.parent.mkdir(exist_ok=True)
    for old in REACH.parent.glob(f"{REACH.name}.*"):
        old.unlink()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.mutation", "-n", "2"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "CPGEN_REACH": str(REACH)})
    callers: dict[str, list[tuple[str, float]]] = {}
    for part in sorted(REACH.parent.glob(f"{REACH.name}.*")):
        for line in part.read_text().splitlines():
            test, seconds, called = json.loads(line)
            for function in called:
                callers.setdefault(function, []).append((test, seconds))
    REACH.write_text(json.dumps(callers))


def function_at(text: str, line: int) -> int:
    """The first line of the innermost function around a line, decorators included; 0 outside of functions."""
    found = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if found < first <= line <= node.end_lineno:
                found = first
    return found


def callers(fault: Fault, text: str, reach: Mapping[str, Sequence[tuple[str, float]]], budget: float) -> list[str] | None:
    """The tests of a fault in Python, the likeliest first, for about ``budget`` seconds; None outside of functions."""
    first = function_at(text, fault.line)
    if first == 0:
        return None
    near = {folder: k for k, folder in enumerate(AREAS[fault.area].tests)}
    known = [(near.get("/".join(t.split("/")[:2]), 9), s, t) for t, s in reach.get(f"{fault.file}:{first}", ())]
    chosen, spent = [], 0.0
    for _, seconds, test in sorted(known):
        if not test.startswith(NEVER) and spent < budget:
            chosen.append(test)
            spent += seconds
    return chosen


@dataclass(frozen=True)
class Outcome:
    """``noticed`` by a test, or by none; ``by``: its name, or "time" where it did not end."""

    noticed: bool
    by: str
    seconds: float


def run_tests(tree: Path, arguments: Sequence[str], limit: int) -> Outcome:
    """pytest in a child of this process, which has imported what is slow to import; ``limit``: seconds of processor time.

    Raises RuntimeError if pytest did not understand.
    """
    began = time.monotonic()
    log = tree / "log"
    child = os.fork()
    if child == 0:
        try:
            os._exit(_child(tree, arguments, limit, log))
        finally:
            os._exit(99)
    ended, status = 0, 0
    while ended == 0 and time.monotonic() - began < 8 * limit:  # asleep for ever
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if ended == 0:
        os.waitpid(child, 0)
    seconds = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status) if ended else -signal.SIGXCPU
    said = log.read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    if code in (0, 5):  # 5: there is no such test
        return Outcome(False, "", seconds)
    if code < 0:
        return Outcome(True, "time" if code in (-signal.SIGXCPU, -signal.SIGKILL) else f"signal {-code}", seconds)
    if code in (1, 2, 4) and failed:
        return Outcome(True, failed.group(1), seconds)
    if code in (3, 4):  # cpgen cannot even be imported
        return Outcome(True, "collection", seconds)
    raise RuntimeError(f"pytest {' '.join(arguments)} ended with {code}:\n{said[-2000:]}")


def _child(tree: Path, arguments: Sequence[str], limit: int, log: Path) -> int:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    sys.path[:] = [str(tree), *(p for p in sys.path if p not in (str(ROOT), str(ROOT / "benchmarks"), ""))]
    code = int(pytest.main(["-x", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line", *arguments]))
    sys.stdout.flush()
    return code


@contextlib.contextmanager
def copy() -> Iterator[Path]:
    """The committed tree, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(name)
        # once for all faults, none of which may leave its own
        compileall.compile_dir(name, quiet=2)
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        yield Path(name)


def steps(area: str, tree: Path, every: bool) -> list[str]:
    """pytest's arguments for the tests of an area; ``every``: only those that the short suite leaves out."""
    nearest = [t for t in AREAS[area].tests if (tree / t).exists()]
    return [*nearest, *(["--all", "-m", "slow"] if every else []), *(f"--ignore={t}" for t in NEVER)]


def main(arguments: list[str]) -> int:
    """Try what has no line yet; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--areas", default=",".join(AREAS))
    parser.add_argument("--count", type=int, default=30, help="faults of each area")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no fault after so many")
    parser.add_argument("--limit", type=int, default=900, help="seconds of processor time for the tests of one fault")
    parser.add_argument("--reach", action="store_true", help="record which functions the tests call, and end")
    parser.add_argument("--budget", type=float, default=120, help="seconds of tests that are chosen for one fault")
    parser.add_argument("--all", action="store_true", help="give what the short suite misses to the slow tests")
    parser.add_argument("--again", nargs="*", default=[], metavar="FILE:LINE", help="try these again")
    parser.add_argument("--survivors", action="store_true", help="try again what no test of the short suite noticed")
    given = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        raise SystemExit("mutation.py needs fork")
    if given.reach:
        record()
        return 0
    reach = json.loads(REACH.read_text()) if REACH.exists() else {}
    import hypothesis  # noqa: F401 - in the parent, once for all children
    import jinja2  # noqa: F401
    import mpmath  # noqa: F401
    import scipy.special  # noqa: F401
    import sympy  # noqa: F401

    known = _known()
    began = time.monotonic()
    with copy() as tree:
        os.environ["CPGEN_CACHE_DIR"] = str(tree / "libraries")
        areas = given.areas.split(",")
        lists = {area: drawn(area, tree, given.count, given.seed) for area in areas}
        # one of each area in turn, so that any number of minutes tries all of them
        turn = [lists[a][k] for k in range(given.count) for a in areas if k < len(lists[a])]
        for fault in turn:
            old = known.get(fault.key)
            again = f"{fault.file}:{fault.line}" in given.again or (given.survivors and old and old["short"] == "missed")
            if old is not None and not again:
                continue
            if time.monotonic() - began > 60 * given.minutes:
                break
            text = (tree / fault.file).read_text(encoding="utf-8")
            tests = callers(fault, text, reach, given.budget) if reach and fault.file.endswith(".py") else None
            line = tried(fault, tree, given.limit, tests, given.all)
            known[fault.key] = {**line, "note": old["note"] if old else ""}
            _write(known)
            print(*(line[c] for c in COLUMNS[:-1]), flush=True)
    return 0


def tried(fault: Fault, tree: Path, limit: int, tests: list[str] | None, every: bool) -> dict[str, str]:
    """The line of one fault: ``tests``, or those of its area, and if ``every`` the slow ones as well."""
    path = tree / fault.file
    sound, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(fault.apply(sound), encoding="utf-8")
    longer = ""
    try:
        if tests == []:
            found = Outcome(False, "no test calls it", 0.0)
        else:
            found = run_tests(tree, tests or steps(fault.area, tree, False), limit)
        short = "noticed" if found.noticed else "missed"
        if every and not found.noticed:
            found = run_tests(tree, steps(fault.area, tree, True), 4 * limit)
            longer = "noticed" if found.noticed else "missed"
    finally:
        path.write_text(sound, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(tree / "libraries", ignore_errors=True) if _size(tree / "libraries") > 2e9 else None
    return {
        "area": fault.area,
        "file": fault.file,
        "line": str(fault.line),
        "kind": fault.kind,
        "before": _short(fault.before),
        "after": _short(fault.after),
        "short": short,
        "all": longer,
        "noticed_by": found.by,
        "seconds": f"{found.seconds:.0f}",
        "source": fault.source.strip(),
    }


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.exists() else 0


def _known() -> dict[tuple[str, ...], dict[str, str]]:
    if not RESULTS.exists():
        return {}
    with RESULTS.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return {tuple(line[c] for c in ("file", "source", "kind", "before", "after")): line for line in lines}


def _write(known: dict[tuple[str, ...], dict[str, str]]) -> None:
    lines = sorted(known.values(), key=lambda x: (list(AREAS).index(x["area"]), x["file"], int(x["line"]), x["kind"]))
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
