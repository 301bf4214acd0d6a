"""Random programs: compiled C equals the interpreter, for ragged rows, any threads and any split of the rows."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import sympy

from cpgen.errors import UnsupportedError
from cpgen.ir.build import affine, axis, make_map, new_input
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Dim, Extent, Guard, Index, Input, Map, Node, Origin, Program
from cpgen.ir.verify import verify
from cpgen.loops import plan
from cpgen.native import NativeModule, build, check_against_interpreter, find_compiler
from cpgen.scalar import placeholder as p
from tests.short import cases

TYPES_AND_TILES = [("float64", None), ("float32", None), ("float64", 1)]
SIZES = [1, 2, 3, 5, 8, 17, 21, 40]
EXPRESSIONS = [
    lambda a: sum(a, sympy.Integer(0)) / 2,
    lambda a: sympy.Mul(*a) / 3,
    lambda a: sympy.tanh(sum(a, sympy.Integer(0))),
    lambda a: a[0] * sympy.tanh(a[-1]),
    lambda a: a[0] ** 2 - a[-1] / 4 + sympy.Rational(1, 8),
]


class Generator:
    """Makes one program; every choice comes from the seed."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.inputs = [
            new_input("x", (ROWS, 17), "data"),
            new_input("grid", (ROWS, 5, 8), "data"),
            new_input("label", (ROWS,), "data"),
            new_input("W", (21, 17), "param"),
            new_input("b", (5,), "param"),
            new_input("c", (), "param"),
            new_input("row_scale", (), "scale"),
            new_input("v", (COLUMNS, ROWS, 40), "noise"),
            new_input("w", (COLUMNS, 5), "noise", offset=40),
            new_input("direction", (COLUMNS, ROWS, 3), "tangent"),
        ]
        self.nodes: list[Node] = list(self.inputs)
        self.summed: set[int] = set()  # nodes that depend on a sum over rows

    def program(self, number: int) -> Program:
        while len(self.nodes) < len(self.inputs) + 12:
            self.add(len(self.nodes))
        made = [n for n in self.nodes if isinstance(n, Map)]
        chosen = [n for n in made if self.pick.random() < 0.7] or made[-1:]
        outputs = tuple((f"y{k}", n) for k, n in enumerate(dict.fromkeys(chosen)))
        return Program(f"random_{number}", outputs, tuple(self.inputs))

    def add(self, number: int) -> None:
        pick = self.pick
        lead = [d for d in (COLUMNS, ROWS) if pick.random() < 0.5]
        elements = [pick.choice(SIZES) for _ in range(pick.choice([0, 1, 1, 2]))]
        reduced: list[Extent] = [pick.choice(SIZES) for _ in range(pick.choice([0, 0, 1, 2]))]
        reduced += [d for d in (ROWS, COLUMNS) if d not in lead and pick.random() < 0.5]
        extents: list[Extent] = [*lead, *elements, *reduced]
        readable = [
            n
            for n in self.nodes
            if all(not isinstance(e, Dim) or e in extents for e in n.shape)
            and not (ROWS in extents and id(n) in self.summed)
        ]
        # recent values first, so that programs get deep
        args = [
            pick.choice(readable[-6:] if pick.random() < 0.7 else readable)
            for _ in range(pick.choice([1, 2, 3]))
        ]
        accesses = [Access(a, tuple(self.index(e, extents) for e in a.shape)) for a in args]
        guards = []
        reduce = "max" if reduced and pick.random() < 0.15 else "sum"
        if reduce == "sum" and pick.random() < 0.3:
            size = pick.choice(SIZES)
            guards = [Guard(self.affine(size, extents), size)]
        expr = pick.choice(EXPRESSIONS)([p(k) for k in range(len(accesses))])
        node = make_map(
            extents, len(lead) + len(elements), accesses, expr, guards, reduce, Origin(f"n{number}")
        )
        if any(id(a.node) in self.summed for a in accesses) or ROWS in reduced:
            self.summed.add(id(node))
        self.nodes.append(node)

    def index(self, extent: Extent, extents: list[Extent]) -> Index:
        same = [a for a, e in enumerate(extents) if e == extent]
        if isinstance(extent, Dim) or (same and self.pick.random() < 0.7):
            return axis(self.pick.choice(same))
        return self.affine(extent, extents)

    def affine(self, extent: int, extents: list[Extent]) -> Index:
        pick = self.pick
        plain = [a for a, e in enumerate(extents) if e is not ROWS]
        used = pick.sample(plain, min(len(plain), pick.choice([0, 1, 1, 2])))
        return affine(
            {a: pick.choice([-2, -1, 1, 1, 2, 3]) for a in used},
            pick.randrange(-3, extent),
            pick.choice([1, 1, 2, 3]),
        )


def data(program: Program, rows: int, columns: int, real: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for everything the caller supplies."""
    rng = np.random.default_rng(seed)
    sizes = {ROWS: rows, COLUMNS: columns}
    return {
        node.name: rng.uniform(-1, 1, [e if isinstance(e, int) else sizes[e] for e in node.shape]).astype(
            real
        )
        for node in program.inputs
        if node.kind not in ("noise", "scale")
    }


def supported(seed: int) -> Program:
    """The first supported random program at or after a seed."""
    while True:
        program = Generator(seed).program(seed)
        verify(program)
        try:
            plan(program)
        except UnsupportedError:
            seed += 1000
            continue
        return program


@pytest.fixture(scope="module", params=cases(TYPES_AND_TILES, [("float64", None)]), ids=str)
def module(request: pytest.FixtureRequest) -> NativeModule:
    programs = [supported(seed) for seed in range(16)]
    found = find_compiler()
    threaded = replace(found, flags=(*found.flags, "-DCPGEN_SERIAL_BELOW=-1.0"))  # threads at any size
    real, tile = request.param
    return build("randoms", programs, real, tile, compiler=threaded)


def test_random_programs_equal_the_interpreter(module: NativeModule) -> None:
    for name, native in module.programs.items():
        real = native.plan.real
        for rows, columns, threads in ((1, 1, 1), (15, 3, 2), (17, 2, 1), (130, 2, 3)):
            arrays = data(native.program, rows, columns, real)
            tolerance = 1e-12 if real == "float64" else 1e-4
            (
                check_against_interpreter(
                    native,
                    arrays,
                    Call(
                        rows,
                        columns,
                        seed=2**40 + 5,
                        first_row=3,
                        first_column=4 * (rows - 1),
                        row_scale=0.5,
                        threads=threads,
                    ),
                    tolerance,
                ),
                name,
            )


def test_threads_do_not_change_a_bit(module: NativeModule) -> None:
    for native in module.programs.values():
        arrays = data(native.program, 130, 2, native.plan.real)
        expected = native.run(arrays, Call(130, 2, seed=1, threads=1))
        for threads in (2, 7):
            assert_same_bits(native.run(arrays, Call(130, 2, seed=1, threads=threads)), expected)


def test_splitting_the_rows_does_not_change_a_bit(module: NativeModule) -> None:
    tried = 0
    for native in module.programs.values():
        if not native.plan.accumulable:
            continue
        tried += 1
        arrays = data(native.program, 130, 2, native.plan.real)
        expected = native.run(arrays, Call(130, 2, seed=9, design=1, threads=2))
        total = {name: np.zeros_like(value) for name, value in expected.items()}
        by_row = {name for name, node in native.program.outputs if ROWS in node.shape}
        first = True
        for start, stop in ((0, 1), (1, 50), (50, 130)):
            part = {
                n.name: a
                for n, a in zip(
                    _given(native.program), _cut(native.program, arrays, start, stop), strict=True
                )
            }
            out = {name: value for name, value in total.items() if name not in by_row}
            rows = {
                name: np.empty(
                    [stop - start if e is ROWS else 2 if e is COLUMNS else e for e in node.shape], native.real
                )
                for name, node in native.program.outputs
                if name in by_row
            }
            call = Call(stop - start, 2, seed=9, design=1, first_row=start, accumulate=not first)
            native.run(part, call, out={**out, **rows})
            first = False
            for name, node in native.program.outputs:
                if name in by_row:
                    total[name][
                        tuple(slice(start, stop) if e is ROWS else slice(None) for e in node.shape)
                    ] = rows[name]
        assert_same_bits(total, expected)
    assert tried >= 1


def _given(program: Program) -> list[Input]:
    return [i for i in program.inputs if i.kind not in ("noise", "scale")]


def _cut(program: Program, arrays: Mapping[str, np.ndarray], start: int, stop: int) -> list[np.ndarray]:
    cuts = [tuple(slice(start, stop) if e is ROWS else slice(None) for e in i.shape) for i in _given(program)]
    return [
        np.ascontiguousarray(arrays[i.name][cut]) if i.shape else arrays[i.name]
        for i, cut in zip(_given(program), cuts, strict=True)
    ]


def assert_same_bits(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name


def test_workspace_in_c_equals_python(module: NativeModule) -> None:
    for native in module.programs.values():
        for rows, columns, threads in ((0, 1, 1), (1, 1, 1), (130, 3, 2), (5000, 7, 16)):
            in_c = getattr(native._library, f"{native.interface.function}_workspace_bytes")
            assert in_c(rows, columns, threads) == native.workspace_bytes(rows, columns, threads)
