"""Loops in pieces, and sums whose guards are the bounds of their loops: the bits of the form that tests every point."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest

import cpgen as cp
from cpgen.emit import emit_c
from cpgen.ir.build import affine, axis, make_map, new_input
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Guard, Index, Map, Node, Origin, Program
from cpgen.loops import plan
from cpgen.loops.ranges import pieces, valid_points
from cpgen.native import NativeProgram, check_against_interpreter, find_compiler, load
from cpgen.scalar import placeholder as p
from tests.native.test_random_programs import EXPRESSIONS, assert_same_bits, data
from tests.short import cases

SIZES = [1, 2, 3, 4, 7, 12]


class Borders:
    """Makes programs whose indices leave their arrays: offsets, strides, mirrored axes, padding, two-axis guards."""

    def __init__(self, seed: int, inputs: list[Node]) -> None:
        self.pick = random.Random(seed)
        self.nodes: list[Node] = list(inputs)
        self.latest: list[Map] = []

    def program(self, name: str) -> Program:
        while len(self.latest) < 7:
            self.add()
        outputs = tuple((f"y{k}", node) for k, node in enumerate(dict.fromkeys(self.latest[2:])))
        return Program(name, outputs, tuple(n for n in self.nodes if not isinstance(n, Map)))  # type: ignore[arg-type]

    def add(self) -> None:
        pick = self.pick
        lead: list[Extent] = [d for d in (COLUMNS, ROWS) if pick.random() < 0.6]
        shape: list[Extent] = [*lead, *(pick.choice(SIZES) for _ in range(pick.choice([0, 1, 1, 1, 2])))]
        if self.latest and pick.random() < 0.4:
            shape = list(self.latest[-1].shape)  # to be fused with it
        extents = shape + [pick.choice(SIZES) for _ in range(pick.choice([0, 0, 1, 1, 2]))]
        if COLUMNS not in shape and ROWS in shape and pick.random() < 0.2:
            extents.append(COLUMNS)
        known = [n for n in self.nodes if all(not isinstance(e, Dim) or e in extents for e in n.shape)]
        args = [pick.choice(known[-4:] if pick.random() < 0.6 else known) for _ in range(pick.choice([1, 2, 2, 3]))]
        accesses = [Access(a, tuple(self.index(e, extents) for e in a.shape)) for a in args]
        reduce = "max" if len(extents) > len(shape) and pick.random() < 0.15 else "sum"
        guards = []
        if reduce == "sum" or pick.random() < 0.3:
            for _ in range(pick.choice([0, 0, 1, 1, 2])):
                size = pick.choice(SIZES)
                guards.append(Guard(self.affine(size, extents), size))
        last = len(extents) - 1
        along = bool(shape) and isinstance(shape[-1], int) and last >= len(shape) and isinstance(extents[last], int)
        if along and pick.random() < 0.7:
            # a window of the last output axis along the last summed one
            by = {len(shape) - 1: pick.choice([1, -1, 2]), last: pick.choice([1, -1])}
            guards.append(Guard(affine(by, pick.choice([-2, -1, 0, 1, 3]), pick.choice([1, 1, 2])), pick.choice(SIZES)))
        expr = pick.choice(EXPRESSIONS)([p(k) for k in range(len(accesses))])
        origin = Origin(f"n{len(self.nodes)}")
        node = make_map(extents, len(shape), accesses, expr, guards, reduce, origin)
        self.nodes.append(node)
        if isinstance(node, Map):
            self.latest.append(node)

    def index(self, extent: Extent, extents: list[Extent]) -> Index:
        same = [a for a, e in enumerate(extents) if e == extent]
        if isinstance(extent, Dim) or (same and self.pick.random() < 0.4):
            return axis(self.pick.choice(same))
        return self.affine(extent, extents)

    def affine(self, extent: int, extents: list[Extent]) -> Index:
        pick = self.pick
        plain = [a for a, e in enumerate(extents) if isinstance(e, int)]
        used = pick.sample(plain, min(len(plain), pick.choice([0, 1, 1, 2, 2])))
        by = {a: pick.choice([1, 1, 1, -1, -1, -1, 2, -3]) for a in used}
        start = pick.choice([0, 1, -1, -2, 2, extent - 1, extent, -extent])
        return affine(by, start, pick.choice([1, 1, 1, 2, 3]))


def made(seed: int) -> list[Program]:
    inputs: list[Node] = [
        new_input("x", (ROWS, 12), "data"),
        new_input("grid", (ROWS, 3, 4), "data"),
        new_input("W", (7, 3), "param"),
        new_input("b", (2,), "param"),
        new_input("t", (COLUMNS, ROWS, 4), "tangent"),
        new_input("v", (COLUMNS, ROWS, 7), "noise"),
    ]
    return [Borders(seed * 100 + k, inputs).program(f"p{k}") for k in range(12)]


def natives(programs: list[Program], tile: int, compact: bool = False) -> list[NativeProgram]:
    plans = [plan(program, "float64", tile, compact) for program in programs]
    found = find_compiler()
    threaded = replace(found, flags=(*found.flags, "-DCPGEN_SERIAL_BELOW=-1.0"))  # threads at any size
    module = load(emit_c("borders", plans), plans, threaded)
    return [module[program.name] for program in programs]


def test_random_borders_try_every_kind_of_loop() -> None:
    plans = [[plan(program) for program in made(seed)] for seed in (0, 1)]
    for one in plans:
        nests = [stage.nest for p in one for stage in p.stages if stage.nest is not None]
        assert sum(bool(n.cuts) for n in nests) >= 8
    text = "".join(emit_c("borders", one).source for one in plans)
    loops = re.findall(r"for \(ptrdiff_t \w+ = ([^;]+); \w+ < ([^;]+); (\w+ \+= [23])?", text)
    assert sum(" " in stop and "f->" not in stop for _, stop, _ in loops) >= 1
    assert sum(bool(step) for _, _, step in loops) >= 1


@pytest.mark.parametrize("seed", cases(range(4), [0]))
def test_random_borders(seed: int) -> None:
    """Tiles of rows or single rows, loops in pieces or not: the same bits, and the interpreter's values."""
    programs = made(seed)
    tiled, single, whole = natives(programs, 4), natives(programs, 1), natives(programs, 4, compact=True)
    for number, program in enumerate(programs):
        for rows, columns in ((1, 1), (6, 3), (0, 2)):
            arrays = data(program, rows, columns, "float64", seed)
            expected = whole[number].run(arrays, Call(rows, columns, seed=3, threads=1))
            for native in (tiled[number], single[number]):
                assert_same_bits(native.run(arrays, Call(rows, columns, seed=3, threads=3)), expected)
                for name in expected:
                    alone = native.run(arrays, Call(rows, columns, seed=3, threads=1, wanted=[name]))
                    assert_same_bits(alone, {name: expected[name]})
            if rows:
                check_against_interpreter(single[number], arrays, Call(rows, columns, seed=3), tolerance=1e-12)


def body(program: Program, function: str, tile: int = 1) -> str:
    """The C text of one stage."""
    text = emit_c("toy", [plan(program, tile=tile)]).source
    start = text.index(f"static void toy_{function}(")
    return text[start : text.index("\n}\n", start)]


def stencil(size: int, reach: int = 1, rows: bool = True) -> Program:
    """y[i] = x[i + reach] - 2 x[i] + x[i - reach] with zeros outside, and 1 where i >= 1."""
    lead: tuple[Extent, ...] = (ROWS,) if rows else ()
    x = new_input("x", (*lead, size), "data" if rows else "param")
    here = [axis(0)] if rows else []
    place = len(lead)
    reads = [Access(x, (*here, affine({place: 1}, by))) for by in (reach, 0, -reach)]
    second = make_map((*lead, size), place + 1, reads, p(0) - 2 * p(1) + p(2), origin=Origin("second"))
    guard = [Guard(affine({place: 1}, -1), size)]
    one = make_map((*lead, size), place + 1, [reads[1]], p(0) * 0 + 1, guard, origin=Origin("one"))
    both = [Access(n, (*here, axis(place))) for n in (second, one)]
    y = make_map((*lead, size), place + 1, both, p(0) + p(1), origin=Origin("y"))
    return Program("s", (("y", y),), (x,))


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 50])
def test_stencil(size: int, rows: bool) -> None:
    x = np.random.default_rng(size).normal(size=(3, size) if rows else size)
    padded = np.pad(x, ((0, 0), (1, 1)) if rows else 1)
    expected = padded[..., 2:] - 2 * x + padded[..., :-2] + (np.arange(size) >= 1)
    for tile in (1, 4):
        (native,) = natives([stencil(size, rows=rows)], tile)
        for threads in (1, 3):
            found = native.run({"x": x}, Call(3 if rows else 1, threads=threads))["y"]
            np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("rows", [True, False])
def test_text_of_a_stencil(rows: bool) -> None:
    """Three pieces without a test, and no more text for longer arrays."""
    short, long = (body(stencil(size, rows=rows), "s_compute_y") for size in (50, 5000))
    assert "?" not in long
    assert long.count("x[i]") == 3 and long.count("x[i + 1]") == 2 and long.count("x[i - 1]") == 2
    assert re.sub(r"\d+", "0", short) == re.sub(r"\d+", "0", long)
    assert "for (ptrdiff_t i = 1; i < 4999; ++i)" in long


def test_a_row_is_read_and_written_where_it_is() -> None:
    kinds = [s.kind for s in plan(stencil(50), tile=1).stages]
    assert kinds == ["map"]
    assert [s.kind for s in plan(stencil(50), tile=4).stages] == ["load", "map", "store"]
    assert plan(stencil(50), tile=1).workspace_bytes(1, 0, 1) == plan(stencil(50), tile=1).workspace_bytes(9, 0, 1) == 0


def test_the_number_of_pieces_is_limited() -> None:
    x = new_input("x", (ROWS, 30), "data")
    reads = [Access(x, (axis(0), affine({1: 1}, by))) for by in range(-4, 5)]
    y = make_map((ROWS, 30), 2, reads, sum(p(k) for k in range(9)), origin=Origin("y"))
    program = Program("s", (("y", y),), (x,))
    (stage,) = plan(program, tile=1).stages
    assert stage.nest is not None and not stage.nest.cuts
    given = np.random.default_rng(0).normal(size=(2, 30))
    padded = np.pad(given, ((0, 0), (4, 4)))
    expected = sum(padded[:, k : k + 30] for k in range(9))
    (native,) = natives([program], 1)
    np.testing.assert_allclose(native.run({"x": given}, Call(2))["y"], expected, rtol=1e-14, atol=1e-14)


def test_pieces_along_two_axes() -> None:
    """A cross of five points on a grid: three by three pieces."""
    x = new_input("x", (ROWS, 9, 7), "data")
    steps = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    reads = [Access(x, (axis(0), affine({1: 1}, a), affine({2: 1}, b))) for a, b in steps]
    y = make_map((ROWS, 9, 7), 3, reads, p(1) + p(2) + p(3) + p(4) - 4 * p(0), origin=Origin("y"))
    program = Program("s", (("y", y),), (x,))
    given = np.random.default_rng(0).normal(size=(3, 9, 7))
    q = np.pad(given, ((0, 0), (1, 1), (1, 1)))
    expected = q[:, 1:-1, 2:] + q[:, 1:-1, :-2] + q[:, 2:, 1:-1] + q[:, :-2, 1:-1] - 4 * given
    for tile in (1, 4):
        assert "?" not in body(program, "s_compute_y", tile)
        (native,) = natives([program], tile)
        np.testing.assert_allclose(native.run({"x": given}, Call(3))["y"], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_triangle(size: int) -> None:
    """y[i] = sum_{j < i} x[j]: the guard 0 <= i - j - 1 ends the loop."""
    x = new_input("x", (ROWS, size), "data")
    guard = [Guard(affine({1: 1, 2: -1}, -1), size)]
    y = make_map((ROWS, size, size), 2, [Access(x, (axis(0), axis(2)))], p(0), guard, origin=Origin("y"))
    program = Program("s", (("y", y),), (x,))
    if size == 6:
        text = body(program, "s_compute_y")
        assert "j < i; ++j" in text and "if (" not in text and "?" not in text
    given = np.random.default_rng(0).normal(size=(5, size))
    expected = np.cumsum(given, 1) - given
    for tile in (1, 4):
        (native,) = natives([program], tile)
        np.testing.assert_allclose(native.run({"x": given}, Call(5))["y"], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("size", "width", "pad", "stride"), [(1, 3, 1, 1), (2, 3, 1, 1), (9, 5, 2, 1), (9, 3, 1, 2), (8, 5, 3, 3)]
)
def test_convolution_with_padding_and_its_adjoint(size: int, width: int, pad: int, stride: int) -> None:
    """y[o] = sum_k x[stride o + k - pad] w[k], and x_bar[i] = sum_k w[k] y[(i - k + pad) / stride]."""
    count = (size + 2 * pad - width) // stride + 1
    x, w = new_input("x", (ROWS, size), "data"), new_input("w", (width,), "param")
    reads = [Access(x, (axis(0), affine({1: stride, 2: 1}, -pad))), Access(w, (axis(2),))]
    y = make_map((ROWS, count, width), 2, reads, p(0) * p(1), origin=Origin("y"))
    back = affine({1: 1, 2: -1}, pad, stride)
    reads = [Access(y, (axis(0), back)), Access(w, (axis(2),))]
    x_bar = make_map((ROWS, size, width), 2, reads, p(0) * p(1), [Guard(back, count)], origin=Origin("x_bar"))
    program = Program("s", (("y", y), ("x_bar", x_bar)), (x, w))
    rng = np.random.default_rng(1)
    given = {"x": rng.normal(size=(3, size)), "w": rng.normal(size=width)}
    forward = np.zeros((count, size))  # y = forward x
    for o in range(count):
        for k in range(width):
            if 0 <= stride * o + k - pad < size:
                forward[o, stride * o + k - pad] += given["w"][k]
    for function in ("s_compute_y", "s_compute_x_bar"):
        text = body(program, function)
        assert "if (" not in text or (stride == 3 and function == "s_compute_x_bar")
    for tile in (1, 4):
        (native,) = natives([program], tile)
        found = native.run(given, Call(3))
        np.testing.assert_allclose(found["y"], given["x"] @ forward.T, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(found["x_bar"], given["x"] @ forward.T @ forward, rtol=1e-13, atol=1e-13)


def test_what_no_wanted_output_needs_is_left_out() -> None:
    """The value's sum is for the value alone; the gradient is the same bits without it."""
    model = cp.Model("rosenbrock")
    n, i, k = model.axes("n i k", n=cp.ROWS, i=40, k=39)
    x = model.input("x", n, i)
    model.objective(cp.sum(100 * (x[n, k + 1] - x[n, k] ** 2) ** 2 + (1 - x[n, k]) ** 2, k))
    est = cp.compile(model, wrt=["x"], programs=())
    program = est.derive("gradient").program
    needed = {s.nodes[-1].name: s.needed_by for s in plan(program, tile=1).stages}  # type: ignore[attr-defined]
    assert needed == {"objective": ("value",), "x_bar": ("grad_x",), "value": ("value",)}
    (native,) = natives([program], 1)
    given = {"x": np.random.default_rng(0).normal(size=(2, 40))}
    both = native.run(given, Call(2, row_scale=0.5))
    assert_same_bits(native.run(given, Call(2, row_scale=0.5, wanted=["grad_x"])), {"grad_x": both["grad_x"]})
    assert_same_bits(native.run(given, Call(2, row_scale=0.5, wanted=["value"])), {"value": both["value"]})
    expected = np.zeros((2, 40))
    for row in range(2):
        z = given["x"][row]
        expected[row, :-1] += -400 * z[:-1] * (z[1:] - z[:-1] ** 2) - 2 * (1 - z[:-1])
        expected[row, 1:] += 200 * (z[1:] - z[:-1] ** 2)
    np.testing.assert_allclose(both["grad_x"], expected, rtol=1e-12)


def test_ranges() -> None:
    """Valid points and pieces against a list of all points."""
    for c in (-3, -2, -1, 1, 2, 3):
        for offset in range(-8, 9):
            for extent, size in ((1, 5), (4, 4), (7, 3)):
                expected = [i for i in range(size) if 0 <= c * i + offset < extent]
                found = valid_points(affine({0: c}, offset), extent, size)
                assert found is not None and list(found) == expected
    assert pieces(range(2, 9), (1, 2, 4, 8, 9)) == [range(2, 4), range(4, 8), range(8, 9)]
    assert pieces(range(3, 3), (3,)) == []
    assert valid_points(affine({0: 1}, 0, 2), 3, 6) is None
    assert valid_points(affine({0: 1, 1: 1}, 0), 3, 6) is None
