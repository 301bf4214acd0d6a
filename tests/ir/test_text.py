"""The printed form: readable, stable, and the same in every process; the checker of programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sympy

from cpgen.ir.build import affine, axis, elementwise, make_map, new_input, read
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Input, Map, Node, Origin, Program
from cpgen.ir.text import digest, equation, index_text, names, text
from cpgen.ir.verify import verify
from cpgen.scalar import placeholder as p

ROOT = Path(__file__).resolve().parents[2]


def example() -> Program:
    x = new_input("x", (ROWS, 4), "data")
    w = new_input("w", (3,), "param")
    v = new_input("v_z", (COLUMNS, ROWS, 2), "noise")
    z = make_map(
        (ROWS, 2, 3),
        2,
        [Access(x, (axis(0), affine({1: 2, 2: 1}, -1))), read(w, 2)],
        p(0) * p(1),
        [Guard(affine({1: 2, 2: 1}, -1), 4)],
        origin=Origin("z"),
    )
    y = elementwise(sympy.tanh(p(0)), [z], Origin("y"))
    drawn = elementwise(p(0) * p(1), [v, y], Origin("y", role="p"))
    top = make_map((ROWS, 2), 1, [read(y, 0, 1)], p(0), reduce="max", origin=Origin("y"))
    return Program("example", (("drawn", drawn), ("top", top)), (x, w, v))


EXPECTED = """\
program example
data x(rows, 4)
param w(3)
noise v_z(columns, rows, 2)
(rows, 2) z[i, j] = sum_{k<3} w[k]*x[i, 2*j+k-1] where 0<=2*j+k-1<4
(rows, 2) y[i, j] = tanh(z[i, j])
(columns, rows, 2) y_p[i, j, k] = v_z[i, j, k]*y[j, k]
(rows) y_2[i] = max_{j<2} y[i, j]
output drawn = y_p
output top = y_2
"""


def test_text_reads_like_index_notation() -> None:
    assert text(example()) == EXPECTED


def test_indices_in_letters() -> None:
    assert index_text(affine({0: 1, 2: -2}, 3)) == "i-2*k+3"
    assert index_text(affine({1: -1})) == "-j"
    assert index_text(affine({1: 1}, 1, 2)) == "(j+1)/2"
    assert index_text(affine({}, 4)) == "4"


def test_nodes_that_share_a_name_are_numbered() -> None:
    program = example()
    found = names(program)
    assert len(set(found.values())) == len(found)
    assert equation(program.maps()[0], found).startswith("z[i, j] = ")


def test_digest_tells_programs_apart() -> None:
    program = example()
    assert digest(program) == digest(example())
    assert re.fullmatch("[0-9a-f]{64}", digest(program))
    assert digest(program) != digest(Program("other", program.outputs, program.inputs))
    assert digest(program) != digest(Program("example", program.outputs[:1], program.inputs))


SCRIPT = """
from tests.catalogue import CATALOGUE
from cpgen.estimate.estimator import Estimator
from cpgen.estimate.options import Options
from cpgen.ir.text import text
for name in ("mlp_tanh", "several_inputs", "lattice"):
    entry = CATALOGUE[name]
    graph = entry.build().graph()
    wrt = [graph.variable(v) for v in entry.wrt]
    made = Estimator(graph, wrt, Options(backend="interpreter"))
    for key in ("gradient", "diagonal", "diagonal:tu", "sketch"):
        print(text(made.derive(key).program))
"""


def test_text_does_not_depend_on_the_hash_seed() -> None:
    def printed(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    first = printed("1")
    assert first.count("\nprogram ") + first.startswith("program ") == 12
    assert "0x" not in first  # no addresses
    for seed in ("2", "31337"):
        assert printed(seed) == first


# The checker


X = new_input("x", (ROWS, 4), "data")
GOOD = (read(X, 0, 1),)
TWICE = 2 * p(0)


def bad(
    extents: tuple = (ROWS, 4),
    rank: int = 2,
    args: tuple = GOOD,
    expr: sympy.Expr = TWICE,
    guards: tuple = (),
    reduce: str = "sum",
) -> Map:
    return Map(extents, rank, args, expr, guards, reduce, Origin("broken"))


BROKEN: dict[str, tuple[Node, str]] = {
    "more arguments read than given": (bad(expr=p(0) + p(1)), "reads more than its arguments"),
    "a user's symbol left over": (bad(expr=p(0) * sympy.Symbol("t")), "reads more than its arguments"),
    "too few subscripts": (bad(args=(Access(X, (axis(0),)),)), "wrong number of subscripts"),
    "subscript outside the loops": (bad(args=(read(X, 0, 5),)), "index outside the loop space"),
    "guard outside the loops": (bad(guards=(Guard(axis(2), 4),)), "index outside the loop space"),
    "rows read at another row": (bad(args=(Access(X, (affine({0: 1}, 1), axis(1))),)), "ROWS index"),
    "rows read along an element axis": (
        bad(extents=(4, 4), args=(Access(X, (axis(0), axis(1))),)),
        "ROWS index",
    ),
    "the number of a row in a subscript": (
        bad(extents=(ROWS, 4), args=(Access(new_input("w", (9, 4), "param"), (axis(0), axis(1))),)),
        "number of a row",
    ),
    "the number of a row in a guard": (bad(guards=(Guard(affine({0: 1, 1: 1}), 4),)), "number of a row"),
    "rank beyond the loops": (bad(rank=3), "rank 3"),
    "an unknown reduction": (bad(rank=1, reduce="min"), "reduce min"),
    "rows behind elements": (bad(extents=(4, ROWS), args=(read(X, 1, 0),)), "run-time axes"),
    "columns behind rows": (
        bad(extents=(ROWS, COLUMNS, 4), rank=3, args=(read(X, 0, 2),)),
        "run-time axes out of order",
    ),
    "an input with columns last": (
        bad(
            extents=(ROWS, COLUMNS),
            rank=1,
            args=(read(Input("v", (ROWS, COLUMNS), "noise", Origin("v")), 0, 1),),
        ),
        "run-time axes out of order",
    ),
}


@pytest.mark.parametrize("why", BROKEN)
def test_malformed_programs_are_rejected(why: str) -> None:
    node, message = BROKEN[why]
    inputs = tuple(n for n in Program("t", (("y", node),), ()).nodes() if isinstance(n, Input))
    with pytest.raises(AssertionError, match=message):
        verify(Program("t", (("y", node),), inputs))


def test_inputs_must_be_listed() -> None:
    with pytest.raises(AssertionError, match="input x is used but not listed"):
        verify(Program("t", (("y", bad()),), ()))


def test_well_formed_programs_pass() -> None:
    verify(example())
    verify(Program("t", (("y", bad()),), (X,)))
