"""Two sums in one loop nest: what is paired, and that it changes no bit."""

from __future__ import annotations

import numpy as np
import pytest

from cpgen.derive import programs
from cpgen.ir.build import affine, axis, elementwise, make_map, new_input, read
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Map, Node, Program
from cpgen.ir.noise import INDEPENDENT
from cpgen.loops import fuse, plan
from cpgen.loops.fuse import are_twins, groups
from cpgen.loops.plan import ROW, Stage
from cpgen.native import build, check_against_interpreter, find_compiler
from cpgen.scalar import placeholder as p
from cpgen.simplify import PASSES
from tests.catalogue import CATALOGUE

W = new_input("W", (5, 4), "param")
ROW_COUNT = 11
V, U = (new_input(name, (COLUMNS, ROWS, 5), "noise", offset=5 * k) for k, name in enumerate("vu"))


def through(field: Node, weight: Node = W, shift: int = 0) -> Map:
    """out[col, row, i] = sum_h weight[h, i + shift] field[col, row, h]"""
    args = [Access(weight, (axis(3), affine({2: 1}, shift))), read(field, 0, 1, 3)]
    made = make_map((COLUMNS, ROWS, 4, 5), 3, args, p(0) * p(1))
    assert isinstance(made, Map)
    return made


def never(node: Map) -> bool:
    return False


def test_what_are_twins() -> None:
    assert are_twins(through(V), through(U))
    assert not are_twins(through(V), through(U, new_input("X", (5, 4), "param")))  # nothing in common
    assert not are_twins(through(V), through(U, shift=1))  # read at another place
    each = new_input("e", (ROWS, 5), "data")
    single = [make_map((ROWS, 4, 5), 2, [read(W, 2, 1), read(each, 0, 2)], p(0) ** k * p(1)) for k in (1, 2)]
    assert all(isinstance(m, Map) for m in single) and not are_twins(*single)  # type: ignore[arg-type]  # no columns


def test_the_first_waits_for_what_the_second_reads() -> None:
    """q needs a value that is computed after p: p moves there, unless something in between reads it."""
    first, between = through(V), elementwise(p(0) + 1, [U])
    second = through(between)
    assert isinstance(between, Map)
    assert groups([first, between, second], never) == [[between], [first, second]]
    assert Stage(1, "map", ROW, (first, second)).own_sums == (first, second)
    after = make_map((COLUMNS, ROWS, 5, 4), 3, [read(first, 0, 1, 3), read(U, 0, 1, 2)], p(0) * p(1))
    second = through(after)
    assert isinstance(after, Map)
    assert groups([first, after, second], never) == [[first], [after], [second]]
    third = through(elementwise(p(0) - 2, [U]))
    assert [len(g) for g in groups([first, through(U), third], never)] == [2, 1]


def catalogue(name: str) -> tuple[Program, dict[str, np.ndarray]]:
    entry = CATALOGUE[name]
    graph = entry.build().graph()
    program = programs.diagonal(graph, [graph.variable(v) for v in entry.wrt]).program
    for simplify in PASSES:
        program = simplify(program)
    return program, entry.arrays(2, ROW_COUNT)


def padded() -> tuple[Program, dict[str, np.ndarray]]:
    """Two fields of a convolution, squared and added over the columns: both are read beyond their edges."""
    kernel = new_input("k", (3,), "param")
    args = [[Access(kernel, (axis(3),)), Access(f, (axis(0), axis(1), affine({2: 1, 3: -1}, 0)))] for f in (V, U)]
    first, second = (make_map((COLUMNS, ROWS, 7, 3), 3, a, p(0) * p(1)) for a in args)
    reads = [read(first, 2, 0, 1), read(second, 2, 0, 1)]
    total = make_map((ROWS, 7, COLUMNS), 2, reads, p(0) ** 2 - p(1) ** 2)
    return Program("padded", (("total", total),), (kernel, V, U)), {"k": np.array([0.5, -1.25, 2.0])}


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", ["padded", "recurrent", "softplus_energy"])
def test_pairs_change_no_bit(name: str, real: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, arrays = padded() if name == "padded" else catalogue(name)
    given = {i.name: arrays[i.name].astype(real) for i in program.inputs if i.kind in ("data", "param")}
    scales = {"row_scale": 1 / ROW_COUNT, "column_scale": 1 / 3, "variance_scale": 1 / 6}

    def results() -> dict[str, np.ndarray]:
        native = build("paired", [program], real, compiler=find_compiler().serial())[program.name]
        if real == "float64":
            assert check_against_interpreter(native, given, Call(ROW_COUNT, 3, seed=7, **scales)) < 1e-9
        return native.run(given, Call(ROW_COUNT, 3, seed=7, design=INDEPENDENT, **scales))

    def sums() -> list[int]:
        found = plan(program, real)
        return [len(s.own_sums) for segment in found.segments for s in segment.stages if s.kind == "map"]

    assert 2 in sums()
    paired = results()
    monkeypatch.setattr(fuse, "are_twins", lambda first, second: False)
    assert 2 not in sums()
    for label, value in results().items():
        assert np.isfinite(value).all()
        assert paired[label].tobytes() == value.tobytes()
