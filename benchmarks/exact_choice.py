"""Every exact method beside the one that is chosen: ``python benchmarks/exact_choice.py [--models 300] [NAME ...]``.

For the diagonal, the trace and the Hessian of each model of the catalogue, of a few larger ones and of random models
(:mod:`tests.random.generate`), each exact program is compiled and timed on few and on many rows: "units" (the sweep with
unit vectors), "cp" (the sampled program with the identity as its design) and "directions".  What is timed is the C
function alone, on one thread: the least processor time of several calls, which other processes on the machine hardly
change; the methods take turns, so that what does change it meets all of them.

Deriving and compiling take nearly all of the time.  So a model with long programs is timed for one or two of the three
questions, by turns, and one that takes longer to derive than LONG is left out; the last line names those.

Writes results/exact_choice.csv, a line for each question, and carries on where an interrupted run stopped; ``--fresh``
begins anew, and ``--predict`` only chooses again, with the times of the file.  The last lines say how far the choice is
from the best method.
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import sympy as sp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from benchmarks.peers.workloads import WORKLOADS  # noqa: E402
from cpgen.derive.derived import Derived  # noqa: E402
from cpgen.derive.request import Request, read_request  # noqa: E402
from cpgen.errors import CpgenError  # noqa: E402
from cpgen.estimate.compiled import METHODS  # noqa: E402
from cpgen.ir.call import Call  # noqa: E402
from cpgen.ir.cost import operations  # noqa: E402
from cpgen.ir.noise import IDENTITY  # noqa: E402
from cpgen.native import build, find_compiler  # noqa: E402
from tests.catalogue import CATALOGUE  # noqa: E402
from tests.random.generate import Unwritable, model_number  # noqa: E402

OUT = ROOT / "benchmarks/results/exact_choice.csv"
QUESTIONS = ("diagonal:exact", "trace:exact", "hessian")
MANY = 64  # rows
ENOUGH = 1e-3  # seconds of one measurement
TURNS = 10  # measurements of each method
LONGEST = 3e9  # operations of a call that is still timed
MANY_MAPS = 40  # of a model's programs: with more, no further question is asked of it
LONG = 10.0  # seconds of derivation after which a model is left out
CALL = 20e-6  # seconds that a call from Python takes besides the C function (see ``Estimator.diagonal`` of a tiny model)
HEAD = ["model", "question", "rows", *(f"{m} {what}" for m in METHODS for what in ("columns", "us")), "chosen", "best",
        "ratio"]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model with arrays for some number of rows (the same ones for a model without rows)."""

    name: str
    model: Any
    wrt: list[str]
    arrays: Callable[[int], Mapping[str, np.ndarray]]
    rows: tuple[int, ...]


def digits(wrt: list[str]) -> Case:
    """The README's network."""
    m = cp.Model("digits")
    n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=64, h=32, k=16, c=10)
    x, y = m.input("x", n, i), m.input("y", n, c)
    W1, b1, W2, W3 = m.param("W1", h, i), m.param("b1", h), m.param("W2", k, h), m.param("W3", c, k)
    z = m.define("z", (n, h), sp.tanh(cp.sum(W1[h, i] * x[n, i], i) + b1[h]))
    u = m.define("u", (n, k), sp.tanh(cp.sum(W2[k, h] * z[n, h], h)))
    s = m.define("s", (n, c), cp.sum(W3[c, k] * u[n, k], k))
    m.objective(cp.logsumexp(s[n, c], c) - cp.sum(y[n, c] * s[n, c], c), reduction="mean")
    shapes: dict[str, tuple[int, ...]] = {"x": (0, 64), "y": (0, 10), "W1": (32, 64), "b1": (32,), "W2": (16, 32)}
    return Case("digits " + ",".join(wrt), m, wrt, normal({**shapes, "W3": (10, 16)}), (4, MANY))


def encoder(wrt: list[str]) -> Case:
    """A layer of a transformer encoder with two heads over eight tokens of width 12."""
    tokens, width, heads, head, hidden = 8, 12, 2, 6, 24
    m = cp.Model("encoder")
    n, t, s, i, o, h, e, g = m.axes(
        "n t s i o h e g", n=cp.ROWS, t=tokens, s=tokens, i=width, o=width, h=heads, e=head, g=hidden
    )
    x = m.input("x", n, t, i)
    q, k, v = (m.param(name, h, e, i) for name in ("Q", "K", "V"))
    wo, W1, W2 = m.param("O", o, h, e), m.param("W1", g, o), m.param("W2", i, g)
    a, b, c = (
        m.define(name, (n, h, t, e), cp.sum(w[h, e, i] * x[n, t, i], i))
        for name, w in (("q", q), ("k", k), ("v", v))
    )
    scores = m.define("scores", (n, h, t, s), cp.sum(a[n, h, t, e] * b[n, h, s, e], e) / sp.sqrt(head))
    weights = m.define("weights", (n, h, t, s), cp.softmax(scores[n, h, t, s], s))
    mixed = m.define("mixed", (n, t, h, e), cp.sum(weights[n, h, t, s] * c[n, h, s, e], s))
    z = m.define("z", (n, t, o), cp.sum(wo[o, h, e] * mixed[n, t, h, e], h, e) + x[n, t, o])
    norm = m.define("norm", (n, t, o), cp.layer_norm(z[n, t, o], o))
    inner = m.define("inner", (n, t, g), sp.tanh(cp.sum(W1[g, o] * norm[n, t, o], o)))
    out = m.define("out", (n, t, i), cp.sum(W2[i, g] * inner[n, t, g], g) + norm[n, t, i])
    m.objective(cp.sum(out[n, t, i] ** 2, t, i), reduction="mean")
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys("QKV", (heads, head, width))
    shapes |= {"O": (width, heads, head), "W1": (hidden, width), "W2": (width, hidden), "x": (0, tokens, width)}
    return Case("encoder " + ",".join(wrt), m, wrt, normal(shapes), (8,))


def normal(shapes: Mapping[str, tuple[int, ...]]) -> Callable[[int], Mapping[str, np.ndarray]]:
    """Normal arrays scaled by their last extent; 0 in a shape stands for the rows."""

    def arrays(rows: int) -> Mapping[str, np.ndarray]:
        rng = np.random.default_rng(0)
        drawn = {v: rng.normal(size=[e or rows for e in shape]) for v, shape in shapes.items()}
        return {v: a if 0 in shapes[v] else a / np.sqrt(a.shape[-1]) for v, a in drawn.items()}

    return arrays


def cases(models: int, names: list[str]) -> Iterator[Case]:
    """The catalogue, the larger models and ``models`` random ones; with names, those of these names."""
    wanted = lambda name: not names or any(name.startswith(n) for n in names)  # noqa: E731
    for entry in CATALOGUE.values():
        if not wanted(entry.name):
            continue
        model = entry.build()
        kinds = {v.name: v.has_rows for v in model.graph().variables} if isinstance(model, cp.Model) else {}
        any_rows = any(kinds.values())
        counts = (entry.rows, MANY) if any_rows else (entry.rows,)
        arrays = lambda rows, entry=entry: entry.arrays(0, rows)  # noqa: E731
        # directions are for inputs or for parameters
        groups = [list(entry.wrt)] + [[v for v in entry.wrt if kinds.get(v, False) is k] for k in (True, False)]
        for group in dict.fromkeys(tuple(g) for g in groups if g):
            label = entry.name + ("" if group == entry.wrt else " " + ",".join(group))
            yield Case(label, model, list(group), arrays, counts)
    if wanted("digits"):
        yield from (digits(g) for g in (["W1", "b1", "W2", "W3"], ["W1"], ["W2", "W3"], ["x"]))
    if wanted("encoder"):
        yield from (encoder(g) for g in (["Q", "K", "V", "O", "W1", "W2"], ["W1", "W2"], ["W2"], ["x"]))
    for workload in WORKLOADS.values():
        if not workload.name.startswith("W1/") and workload.name[:2] not in ("W6", "W7") and wanted(workload.name):
            data = workload.data("float64")
            rows = 1 if workload.single else int(workload.name.rpartition("/")[2]) if workload.by_row else 0
            kinds = {v.name: v.has_rows for v in workload.build().graph().variables}
            given = [len(data[v]) for v, has in kinds.items() if has]
            leading = given[0] if given else rows or 1
            yield Case(workload.name, workload.build(), list(workload.leaves), lambda _, data=data: data, (leading,))
    for number in range(models):
        name = f"random {number}"
        if not wanted(name):
            continue
        try:
            case = model_number(number)
        except (CpgenError, Unwritable):
            continue
        yield Case(name, case.model, case.wrt, repeated(case.arrays, case.with_rows), (case.rows or 1, MANY)
                   if case.with_rows else (1,))  # fmt: skip


def repeated(arrays: Mapping[str, np.ndarray], with_rows: set[str]) -> Callable[[int], Mapping[str, np.ndarray]]:
    def make(rows: int) -> Mapping[str, np.ndarray]:
        return {v: np.resize(a, (rows, *a.shape[1:])) if v in with_rows else a for v, a in arrays.items()}

    return make


def name(question: str, method: str) -> str:
    return f"{question.partition(':')[0]}_{method}"


def seconds(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The least processor time of one call of each."""
    found: dict[str, float] = {}
    counts: dict[str, int] = {}

    def measure(which: str, count: int) -> None:
        call = calls[which]
        start = time.process_time()
        for _ in range(count):
            call()
        found[which] = min(found.get(which, np.inf), (time.process_time() - start) / count)

    for which, call in calls.items():
        call()
        measure(which, 1)
        counts[which] = max(1, int(ENOUGH / max(found[which], 1e-7)))
    for turn in range(TURNS):
        for which, count in counts.items():
            if turn == 0 or found[which] < 1 / TURNS:
                measure(which, count)
    return found


class TooLong(BaseException):  # which no handler of exceptions on the way takes for its own
    """A model takes too long to derive."""


@contextmanager
def no_longer_than(limit: float) -> Iterator[None]:
    """Raise TooLong after so many seconds of this process's time; 0 for no limit."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def ask(case: Case, known: Mapping[tuple[str, str, str], list[str]], predict: bool) -> Iterator[list[object]]:
    """The lines of one model."""
    est = cp.compile(case.model, wrt=case.wrt, programs=(), threads=1)
    made: dict[tuple[str, str], Derived] = {}
    first = crc32(case.name.encode()) % len(QUESTIONS)
    questions, maps = (*QUESTIONS[first:], *QUESTIONS[:first]), 0
    if predict:
        questions = tuple(q for q in questions if (case.name, q, str(case.rows[0])) in known)
    with no_longer_than(0 if predict else LONG):
        for question in questions:
            what = question.partition(":")[0]
            if maps > MANY_MAPS and (case.name, question, str(case.rows[0])) not in known:
                continue
            for method in METHODS:
                try:
                    derived = est.derive(f"{what}:{method}")
                    maps += len(derived.program.maps())
                    est.core.programs.plan(Request(what, method))
                except CpgenError:
                    continue
                if derived.columns is not None:
                    made[question, method] = derived
    module = None
    for rows in case.rows:
        arrays = {v: np.array(a, np.float64, order="C") for v, a in case.arrays(rows).items()}
        for question in questions:
            methods = [m for m in METHODS if (question, m) in made]
            if len(methods) < 2:
                continue
            old = known.get((case.name, question, str(rows)))
            times: dict[str, float] = {}
            calls: dict[str, Callable[[], object]] = {}
            for k, method in enumerate(METHODS):
                if old is not None:
                    if old[4 + 2 * k]:
                        times[method] = float(old[4 + 2 * k]) * 1e-6
                    continue
                if method not in methods:
                    continue
                derived = made[question, method]
                columns = derived.columns or 0
                if operations(derived.program, rows, columns) > LONGEST:
                    continue
                if module is None:
                    programs = [replace(d.program, name=name(*key)) for key, d in made.items()]
                    module = build(case.name.split()[0], programs, "float64", None, find_compiler())
                given = {i.name: arrays[i.name] for i in derived.program.inputs if i.kind in ("data", "param")}
                wanted = [n for n, _ in derived.program.outputs if not n.startswith("var_")]
                native = module[name(question, method)]
                call = Call(rows, columns, design=IDENTITY, threads=1, wanted=wanted)
                calls[method] = native.bind(given, call)
            times |= seconds(calls)
            key = str(est.core.programs.exact(read_request(question)))
            directed = est.derive(question).estimator == "directions"
            chosen = "cp" if key != question else "directions" if directed else "units"
            best = min(times, key=lambda m: times[m]) if times else ""
            ratio = f"{times[chosen] / times[best]:.3f}" if chosen in times else ""
            cells: list[object] = []
            for method in METHODS:
                cells += [made[question, method].columns if method in methods else "",
                          f"{times[method] * 1e6:.3f}" if method in times else ""]  # fmt: skip
            yield [case.name, question, rows, *cells, chosen, best, ratio]


def summary(lines: list[list[str]]) -> None:
    """How far the choices are from the best."""
    for what, extra in (("of the C function", 0.0), ("of a call from Python", CALL * 1e6)):
        ratios = []
        for line in lines:
            times = {m: float(line[4 + 2 * k]) + extra for k, m in enumerate(METHODS) if line[4 + 2 * k]}
            chosen = line[-3]
            if chosen in times:
                ratios.append((times[chosen] / min(times.values()), line))
        found = np.array([r for r, _ in ratios])
        if len(found):
            within = 100 * np.mean(found <= 1.5)
            print(f"{len(found)} questions, time {what}: within 1.5 of the best {within:.1f} percent, largest "
                  f"{found.max():.2f}, geometric mean {np.exp(np.log(found).mean()):.3f}")  # fmt: skip
        for ratio, line in sorted(ratios, key=lambda r: -r[0])[:8] if not extra else []:
            if ratio > 1.5:
                print(f"  {ratio:.2f}", *line[:-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    known: dict[tuple[str, str, str], list[str]] = {}
    begun = args.out.with_suffix(".part")
    for path in () if args.fresh else (args.out, begun):
        if path.exists():
            with path.open(newline="") as file:
                known |= {(line[0], line[1], line[2]): line for line in list(csv.reader(file))[1:]}
    lines: list[list[str]] = []
    left_out: list[str] = []
    with begun.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        for case in cases(args.models, args.names):
            try:
                for line in ask(case, known, args.predict):
                    lines.append([str(cell) for cell in line])
                    writer.writerow(line)
                    file.flush()
                    print(*line, sep="\t", flush=True)
            except TooLong:
                left_out.append(case.name)
            except CpgenError as problem:
                print(f"{case.name}: {problem}", flush=True)
    if not args.names or args.out != OUT:
        begun.replace(args.out)
    summary(lines)
    if left_out:
        print(f"left out, for {LONG:g} seconds were not enough to derive them: {', '.join(left_out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
