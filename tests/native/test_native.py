"""The generated C: clean, self-contained, deterministic, the same noise as NumPy; refusals write nothing."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cffi
import numpy as np
import pytest
import sympy

import cpgen
from cpgen.derive.request import Request
from cpgen.emit import emit_c
from cpgen.emit.runtime import template_folder
from cpgen.errors import CheckError, DataError, EnvironmentProblem, RequestError, ShapeError, UnsupportedError
from cpgen.ir.build import affine, axis, elementwise, make_map, new_input, read, reduce_sum
from cpgen.ir.call import Call
from cpgen.ir.nodes import COLUMNS, ROWS, Access, Guard, Input, Node, Origin, Program, topological
from cpgen.ir.noise import noise_array
from cpgen.loops import Plan, plan
from cpgen.loops.kernels import Loops
from cpgen.native import Compiler, build, check_against_interpreter, compiler, find_compiler
from cpgen.native.compiler import compile_library, warnings_of
from cpgen.scalar import placeholder as p


def threads_for_all(compiler: Compiler) -> Compiler:
    """A compiler whose programs use threads for problems of any size."""
    return replace(compiler, flags=(*compiler.flags, "-DCPGEN_SERIAL_BELOW=-1.0"))


def origin(name: str, *axes: str, role: str = "", line: int = 0) -> Origin:
    return Origin(name, "model.py" if line else "", line, "", axes, role)


def classifier(inputs: int = 30, hidden: int = 21, classes: int = 10) -> Program:
    """A hand-made sweep through a softmax classifier, with every kind of stage."""
    x = new_input("x", (ROWS, inputs), "data", origin("x", "n", "i"))
    weight = new_input("W", (hidden, inputs), "param", origin("W", "h", "i"))
    last = new_input("V", (classes, hidden), "param", origin("V", "c", "h"))
    bias = new_input("b", (hidden,), "param", origin("b", "h"))
    row_scale, column_scale = new_input("row_scale", (), "scale"), new_input("column_scale", (), "scale")
    noise = new_input("v_z", (COLUMNS, ROWS, classes), "noise")
    shared = new_input("v_w", (COLUMNS, hidden), "noise", offset=classes)
    u = make_map(
        (ROWS, hidden, inputs),
        2,
        [read(x, 0, 2), read(weight, 1, 2)],
        p(0) * p(1),
        origin=origin("u", line=3),
    )
    h = elementwise(sympy.tanh(p(0)), [u], origin("h", "n", "h", line=4))
    z = make_map(
        (ROWS, classes, hidden),
        2,
        [read(h, 0, 2), read(last, 1, 2)],
        p(0) * p(1),
        origin=origin("z", "n", "c"),
    )
    top = make_map((ROWS, classes), 1, [read(z, 0, 1)], p(0), reduce="max", origin=origin("top"))
    e = make_map(
        (ROWS, classes), 2, [read(z, 0, 1), read(top, 0)], sympy.exp(p(0) - p(1)), origin=origin("e")
    )
    total = reduce_sum(e, [1], origin("total"))
    soft = make_map((ROWS, classes), 2, [read(e, 0, 1), read(total, 0)], p(0) / p(1), origin=origin("p"))
    loss = make_map(
        (ROWS,),
        0,
        [read(total, 0), read(top, 0), Access(row_scale, ())],
        (sympy.log(p(0)) + p(1)) * p(2),
        origin=origin("loss"),
    )
    zp = make_map(
        (COLUMNS, ROWS, classes),
        3,
        [read(noise, 0, 1, 2), read(soft, 1, 2)],
        p(0) * sympy.sqrt(p(1)),
        origin=origin("z", role="p"),
    )
    mean = reduce_sum(zp, [2], origin("z", role="dot"))
    zq = make_map(
        (COLUMNS, ROWS, classes),
        3,
        [read(zp, 0, 1, 2), read(mean, 0, 1), read(soft, 1, 2)],
        p(0) - p(1) * p(2),
        origin=origin("z", role="q"),
    )
    hp = make_map(
        (COLUMNS, ROWS, hidden, classes),
        3,
        [read(zq, 0, 1, 3), read(last, 3, 2)],
        p(0) * p(1),
        origin=origin("h", role="p"),
    )
    up = make_map(
        (COLUMNS, ROWS, hidden),
        3,
        [read(hp, 0, 1, 2), read(h, 1, 2), read(shared, 0, 2)],
        p(0) * (1 - p(1) ** 2) + p(2) / 8,
        origin=origin("u", role="p"),
    )
    square = make_map(
        (ROWS, hidden, COLUMNS),
        2,
        [read(up, 2, 0, 1), Access(column_scale, ())],
        p(0) ** 2 * p(1),
        origin=origin("u", role="square"),
    )
    spread = make_map(
        (ROWS, hidden, COLUMNS),
        2,
        [read(up, 2, 0, 1), read(square, 0, 1)],
        (p(0) ** 2 - p(1)) ** 2,
        origin=origin("u", role="spread"),
    )
    diagonal = make_map(
        (hidden, inputs, ROWS),
        2,
        [read(square, 2, 0), read(x, 2, 1)],
        p(0) * p(1) ** 2,
        origin=origin("W", "h", "i", role="diagonal"),
    )
    cross = make_map(
        (classes, hidden, ROWS, COLUMNS),
        2,
        [read(zq, 3, 2, 0), read(up, 3, 2, 1)],
        p(0) * p(1),
        origin=origin("cross"),
    )
    scalar = reduce_sum(square, [0, 1], origin("trace"))
    root = elementwise(sympy.sqrt(p(0)), [diagonal], origin("W", "h", "i", role="root"))
    outputs = (
        ("loss", loss),
        ("W", diagonal),
        ("cross", cross),
        ("spread", spread),
        ("z", zq),
        ("trace", scalar),
        ("root", root),
        ("h", h),
    )
    return Program("diagonal", outputs, (x, weight, last, bias, row_scale, column_scale, noise, shared))


def summable() -> Program:
    """Only outputs that may be accumulated."""
    x = new_input("x", (ROWS, 5), "data", origin("x", "n", "i"))
    w = new_input("w", (5,), "param", origin("w", "i"))
    u = make_map((ROWS, 5), 1, [read(x, 0, 1), read(w, 1)], p(0) * p(1), origin=origin("u"))
    return Program(
        "gradient",
        (("loss", reduce_sum(u, [0])), ("w", reduce_sum(x, [0], origin("w", role="bar"))), ("u", u)),
        (x, w),
    )


def arrays(program: Program, rows: int, real: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        i.name: rng.normal(size=[rows if e is ROWS else e for e in i.shape]).astype(real) / 2
        for i in program.inputs
        if i.kind in ("data", "param")
    }


def is_clean(name: str, files: dict[str, str]) -> None:
    for extra in ((), ("-fopenmp",), ("-fopenmp-simd", "-DCPGEN_OPENMP_SIMD")):
        assert warnings_of(name, files, find_compiler(), extra) == ""


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_classifier_equals_the_interpreter(real: str) -> None:
    native = build("toy", [classifier()], real)["diagonal"]
    for rows in (1, 15, 16, 17, 130):
        for design in (0, 1, 2):
            call = Call(rows, 5, 123456789123, design, 9, 2**33 + 3, row_scale=0.25, column_scale=0.2)
            given = arrays(native.program, rows, real)
            error = check_against_interpreter(native, given, call, tolerance=1e-12 if real == "float64" else 1e-5)
            assert error > 0  # otherwise nothing was compared


def test_bits_do_not_depend_on_threads() -> None:
    native = build("toy", [classifier()], compiler=threads_for_all(find_compiler()))["diagonal"]
    given = arrays(native.program, 130)
    runs = [native.run(given, Call(130, 4, seed=3, threads=t)) for t in (1, 2, 7)]
    for name, value in runs[0].items():
        assert all(r[name].tobytes() == value.tobytes() for r in runs[1:]), name


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_no_warnings(real: str) -> None:
    files = emit_c("toy", [plan(classifier(), real), plan(summable(), real)], real)
    is_clean("toy", files.files())


def test_float32_means_float32() -> None:
    text = emit_c("toy", [plan(classifier(), "float32")], "float32").source
    assert not re.search(r"\bdouble\b", text)
    assert not re.search(r"\d\.\d+(e[-+]?\d+)?\b(?!f)", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


def test_only_prefixed_symbols_and_no_writable_data(tmp_path: Path) -> None:
    files = emit_c("toy", [plan(classifier()), plan(summable())])
    for name, text in files.files().items():
        (tmp_path / name).write_text(text)
    cc = find_compiler().path
    # with addresses that are known when linking; else tables of them are written once, before they are read-only
    subprocess.run([cc, "-std=c99", "-O2", "-fno-pie", "-c", "toy.c", "-o", "toy.o"], cwd=tmp_path, check=True)
    nm = subprocess.run(["nm", "toy.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    kinds = {line.split()[-1]: line.split()[-2] for line in nm.splitlines()}
    external = {name for name, kind in kinds.items() if kind.isupper() and kind != "U"}
    called = {f"toy_{p}_{f}" for p in ("diagonal", "gradient") for f in ("run", "workspace_bytes")}
    assert external == called | {"toy_arithmetic"}
    assert not {name for name, kind in kinds.items() if kind in "bBdDcC"}
    undefined = {name for name, kind in kinds.items() if kind == "U"}
    assert not undefined & {"malloc", "calloc", "free", "printf", "fopen", "__errno_location"}


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_header_is_usable_from_cpp(tmp_path: Path) -> None:
    files = emit_c("toy", [plan(classifier()), plan(summable())])
    (tmp_path / "toy.h").write_text(files.header)
    (tmp_path / "use.cpp").write_text(
        '#include "toy.h"\n#include "toy.h"\nint main() { return toy_gradient_run(nullptr, nullptr, 0) == 0; }\n'
    )
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "use.cpp"],
        cwd=tmp_path,
        check=True,
    )


def test_text_size_does_not_depend_on_extents() -> None:
    def sizes(made: Plan) -> tuple[int, int]:
        source = emit_c("toy", [made]).source
        return source.count("\n"), len(source)

    small, large, wide, wider = (
        classifier(*e) for e in ((30, 21, 10), (1200, 1021, 10), (3000, 2100, 1000), (9000, 4200, 2000))
    )
    alike = [(plan(a), plan(b)) for a, b in ((small, large), (wide, wider))]
    for one, other in alike:
        (lines, length), (lines_then, length_then) = sizes(one), sizes(other)
        # only the loops over the ragged end of an axis come and go
        assert abs(lines - lines_then) <= 10
        assert abs(length - length_then) < 0.02 * length
    compact, compact_wider = (sizes(plan(p, tile=1, compact=True)) for p in (small, wider))
    assert compact_wider[0] <= compact[0] + 10 and compact_wider[1] < 1.02 * compact[1]
    # where weights lie in no cache, a product with them has loops over pieces, and what it was computed with its own
    several = plan(classifier(300, 210, 100))  # whose axes have several blocks, too
    assert not any(isinstance(s.kernel, Loops) and s.kernel.pieces for s in several.stages)
    (lines, _), (lines_wide, _) = sizes(several), sizes(plan(wide))
    pieces = sum(isinstance(s.kernel, Loops) and s.kernel.pieces is not None for s in plan(wide).stages)
    assert pieces > 0 and lines_wide - lines <= 24 + 40 * pieces


HASH_SCRIPT = """
import importlib.util, sys, hashlib
spec = importlib.util.spec_from_file_location("t", sys.argv[1])
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)
print(hashlib.sha256(repr(t.emit_c("toy", [t.plan(t.classifier()), t.plan(t.summable())]).files()).encode()).hexdigest())
"""


def test_text_does_not_depend_on_hash_seed() -> None:
    digests = set()
    for seed in ("0", "1", "4242"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(cpgen.__file__).parent.parent),
        }
        done = subprocess.run(
            [sys.executable, "-c", HASH_SCRIPT, __file__],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_text_names_no_place_or_date() -> None:
    files = emit_c("toy", [plan(classifier())])
    for text in (files.header, files.source):
        assert str(Path.home()) not in text
        assert str(Path(cpgen.__file__).parent) not in text
        assert "model.py:3" in text or text is files.header


# Noise


def philox_library(folder: Path) -> tuple[cffi.FFI, object]:
    header = template_folder() / "runtime" / "cpgen_philox.h"
    (folder / "p.c").write_text(
        '#include "cpgen_philox.h"\n'
        "void words(const uint32_t *c, uint64_t seed, uint32_t *out);\n"
        "void words(const uint32_t *c, uint64_t seed, uint32_t *out)\n"
        "{ cpgen_philox(c[0], c[1], c[2], c[3], seed, out); }\n"
    )
    shutil.copy(header, folder)
    subprocess.run(
        [find_compiler().path, "-std=c99", "-shared", "-fPIC", "p.c", "-o", "p.so"], cwd=folder, check=True
    )
    ffi = cffi.FFI()
    ffi.cdef("void words(const uint32_t *c, uint64_t seed, uint32_t *out);")
    return ffi, ffi.dlopen(str(folder / "p.so"))


@pytest.mark.parametrize(
    ("counter", "seed", "expected"),
    [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((1, 0, 0, 0), 0, "f8e4cca4 5cb200db b1a574eb 097eff67"),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], seed: int, expected: str, tmp_path: Path) -> None:
    ffi, library = philox_library(tmp_path)
    out = ffi.new("uint32_t[4]")
    library.words(ffi.new("uint32_t[4]", counter), seed, out)  # type: ignore[attr-defined]
    assert " ".join(f"{word:08x}" for word in out) == expected


def noise_program() -> Program:
    """Noise straight to the outputs: 300 elements a row (three Philox blocks) and 7 without rows."""
    by_row = new_input("v", (COLUMNS, ROWS, 300), "noise")
    shared = new_input("w", (COLUMNS, 7), "noise", offset=300)
    return Program("draw", (("v", by_row), ("w", shared)), (by_row, shared))


@pytest.mark.parametrize("design", [0, 1, 2])
def test_noise_equals_numpy(design: int) -> None:
    program = noise_program()
    native = build("draws", [program])["draw"]
    for first_column in (0, 500, 2**34):
        call = Call(18, 9, 2**63 + 11, design, first_row=2**32 - 5, first_column=first_column)
        found = native.run({}, call)
        for i in program.inputs:
            expected = noise_array(i, program, 2**63 + 11, 18, 9, design, 2**32 - 5, first_column)
            np.testing.assert_array_equal(found[i.name], expected)


def test_hadamard_columns_are_orthogonal() -> None:
    native = build("draws", [noise_program()])["draw"]
    found = native.run({}, Call(2, 512, seed=5, design=1))
    for row in range(2):
        both = np.concatenate([found["v"][:, row], found["w"]], axis=1)
        gram = both.T @ both
        np.testing.assert_array_equal(gram[:300, :300], 512 * np.eye(300))


# Index arithmetic


def test_convolution_stride_and_padding() -> None:
    x = new_input("x", (ROWS, 9), "data")
    kernel = new_input("k", (3,), "param")
    y = make_map(
        (ROWS, 5, 3),
        2,
        [Access(x, (axis(0), affine({1: 2, 2: 1}, -1))), read(kernel, 2)],
        p(0) * p(1),
        origin=origin("y"),
    )
    # the transposed convolution: x_bar[i] = sum_{o, j} k[j] [2 o + j - 1 = i], as a division that must be exact
    back = make_map(
        (ROWS, 9, 3),
        2,
        [Access(y, (axis(0), affine({1: 1, 2: -1}, 1, 2))), read(kernel, 2)],
        p(0) * p(1),
        origin=origin("x", role="bar"),
    )
    bump = make_map(
        (ROWS, 9), 2, [Access(x, (axis(0), affine({1: 1}, 1)))], sympy.exp(p(0)), origin=origin("bump")
    )
    part = make_map(
        (ROWS, 9), 2, [read(x, 0, 1)], p(0) + 1, [Guard(affine({1: 1}, -2), 3)], origin=origin("part")
    )
    gradient = make_map(
        (3, ROWS, 5),
        1,
        [read(y, 1, 2), Access(x, (axis(1), affine({2: 2, 0: 1}, -1)))],
        p(0) * p(1),
        origin=origin("k", role="bar"),
    )
    program = Program(
        "conv", (("y", y), ("back", back), ("bump", bump), ("part", part), ("k", gradient)), (x, kernel)
    )
    native = build("conv", [program])["conv"]
    given = arrays(program, 19)
    assert check_against_interpreter(native, given, Call(19), tolerance=1e-13) >= 0
    found = native.run(given, Call(19))
    padded = np.pad(given["x"], ((0, 0), (1, 1)))
    expected = np.stack([padded[:, 2 * o : 2 * o + 3] @ given["k"] for o in range(5)], axis=1)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-14)
    np.testing.assert_array_equal(found["bump"][:, -1], 1.0)  # exp of the 0 read outside
    np.testing.assert_array_equal(found["part"][:, [0, 1, 5, 8]], 0.0)


def test_always_valid_indices_are_not_tested() -> None:
    x = new_input("x", (ROWS, 9), "data")
    inside = make_map(
        (ROWS, 7), 2, [Access(x, (axis(0), affine({1: 1}, 2)))], sympy.exp(p(0)), origin=origin("y")
    )
    outside = make_map(
        (ROWS, 8), 2, [Access(x, (axis(0), affine({1: 1}, 2)))], sympy.exp(p(0)), origin=origin("y")
    )
    assert "?" not in body_of(Program("a", (("y", inside),), (x,)), "a_compute_y")
    program = Program("a", (("y", outside),), (x,))
    assert "i + 2 < 9 ?" in body_of(program, "a_compute_y", compact=True)
    assert "?" not in body_of(program, "a_compute_y")  # the last point has a piece of its own


def body_of(program: Program, function: str, compact: bool = False) -> str:
    text = emit_c("toy", [plan(program, compact=compact)]).source
    start = text.index(f"static void toy_{function}(")
    return text[start : text.index("\n}\n", start)]


# Programs without rows


def test_program_without_rows() -> None:
    a = new_input("a", (40, 30), "param")
    v = new_input("v", (COLUMNS, 30), "noise")
    t = make_map((COLUMNS, 40, 30), 2, [read(a, 1, 2), read(v, 0, 2)], p(0) * p(1), origin=origin("t"))
    s = make_map((40, COLUMNS), 1, [read(t, 1, 0)], p(0) ** 2, origin=origin("s"))
    trace = reduce_sum(s, [0], origin("trace"))
    lead = make_map((30,), 1, [Access(a, (affine({}, 3), axis(0)))], p(0) + 1, origin=origin("lead"))
    native = build(
        "still", [Program("trace", (("trace", trace), ("s", s), ("lead", lead), ("a", a)), (a, v))]
    )["trace"]
    given = arrays(native.program, 1)
    assert check_against_interpreter(native, given, Call(1, 6, seed=1, threads=2), tolerance=1e-13) >= 0


# Refusals


def test_two_passes_over_the_rows_are_refused() -> None:
    x = new_input("x", (ROWS,), "data")
    mean = reduce_sum(x, [0], origin("centre", line=5))
    shifted = make_map(
        (ROWS,), 1, [read(x, 0), Access(mean, ())], p(0) - p(1), origin=origin("shifted", line=6)
    )
    with pytest.raises(UnsupportedError, match=r"shifted.*centre.*second pass.*model.py:6"):
        plan(Program("a", (("y", shifted),), (x,)))


def test_rows_against_rows_are_refused() -> None:
    x = new_input("x", (ROWS,), "data")
    pairs = make_map((ROWS, ROWS), 1, [read(x, 0), read(x, 1)], p(0) * p(1), origin=origin("pairs"))
    with pytest.raises(UnsupportedError, match="pairs combines two different rows"):
        plan(Program("a", (("y", pairs),), (x,)))


def test_arrays_are_checked() -> None:
    native = build("toy2", [summable()])["gradient"]
    good = arrays(native.program, 4)
    with pytest.raises(RequestError, match="needs the array 'w'"):
        native.run({"x": good["x"]}, Call(4))
    with pytest.raises(ShapeError, match=r"x has shape \(4, 5\), expected \(3, 5\)"):
        native.run(good, Call(3))
    with pytest.raises(DataError, match="float32"):
        native.run({**good, "w": good["w"].astype(np.float32)}, Call(4))
    with pytest.raises(DataError, match="not C-contiguous"):
        native.run({**good, "x": np.asfortranarray(good["x"])}, Call(4))
    with pytest.raises(RequestError, match="lacks"):
        native.run(good, Call(4, accumulate=True))
    locked = {name: np.zeros_like(value) for name, value in native.run(good, Call(4)).items()}
    locked["w"].flags.writeable = False
    with pytest.raises(DataError, match="read-only"):
        native.run(good, Call(4), out=locked)
    with pytest.raises(DataError, match=r"out\[w\] shares memory with w"):
        native.run(good, Call(4), out={"w": good["w"]})
    with pytest.raises(RequestError, match="threads"):
        native.run(good, Call(4, threads=0))


@pytest.mark.parametrize(
    ("field", "value", "meaning"),
    [
        ("n_rows", -1, "n_rows"),
        ("accumulate", 2, "accumulate"),
        ("threads", 0, "threads"),
        ("x", None, "x is NULL"),
        ("w", None, "w is NULL"),
        ("work", None, "work is NULL"),
        ("work_bytes", None, "workspace is too small"),
        ("args", None, "args is NULL"),
    ],
)
def test_every_status_is_reached_and_nothing_written(field: str, value: int | None, meaning: str) -> None:
    native = build("toy2", [summable()])["gradient"]
    ffi, given = native._ffi, arrays(native.program, 4)
    out = np.full(5, 77.0)
    args = ffi.new("toy2_gradient_args *")
    pointers = {name: ffi.from_buffer("double[]", array) for name, array in {**given, "out_w": out}.items()}
    for name, pointer in pointers.items():
        setattr(args, name, pointer)
    args.n_rows, args.threads = 4, 1
    work = np.zeros(native.workspace_bytes(4, 0, 1), np.uint8)
    memory, size, passed = ffi.cast("void *", work.ctypes.data), work.size, args
    if field == "work":
        memory = ffi.NULL
    elif field == "work_bytes":
        size -= 1
    elif field == "args":
        passed = ffi.NULL
    else:
        setattr(args, field, ffi.NULL if value is None else value)
    status = native._run(passed, memory, size)
    assert status < 0
    assert meaning in native._meanings[status]
    assert (out == 77.0).all()
    assert not work.any()


def test_accumulate_is_refused_when_an_output_needs_finished_sums() -> None:
    native = build("toy", [classifier()])["diagonal"]
    given = arrays(native.program, 4)
    out = native.run(given, Call(4, 1))
    with pytest.raises(RequestError, match="finished sums"):
        native.run(given, Call(4, 1, accumulate=True), out=out)


def test_unwanted_outputs_are_not_computed() -> None:
    native = build("toy", [classifier()])["diagonal"]
    given = arrays(native.program, 17)
    everything = native.run(given, Call(17, 2))
    for name, value in everything.items():
        np.testing.assert_array_equal(native.run(given, Call(17, 2, wanted=[name]))[name], value)


def test_check_finds_wrong_code() -> None:
    native = build("toy2", [summable()])["gradient"]
    given = arrays(native.program, 4)
    assert check_against_interpreter(native, given, Call(4)) < 1e-14
    other = Program(
        "gradient",
        tuple((n, elementwise(p(0) + 1, [node])) for n, node in native.program.outputs),
        native.program.inputs,
    )
    native.program = other
    with pytest.raises(CheckError, match="disagrees with the interpreter"):
        check_against_interpreter(native, given, Call(4))


# Compiler and cache


def test_names_that_c_reserves() -> None:
    x = new_input("double", (ROWS, 3), "data", origin("double", "for", "int"))
    row, again = new_input("row", (3,), "param"), new_input("x_tile", (3,), "param")
    y = make_map(
        (ROWS, 3),
        2,
        [read(x, 0, 1), read(row, 1), read(again, 1)],
        p(0) * p(1) + p(2),
        origin=origin("return"),
    )
    z = make_map((ROWS, 3), 2, [read(y, 0, 1)], p(0) ** 2, origin=origin("return"))
    t = reduce_sum(z, [0], origin("sum"))
    program = Program("static", (("a.b", z), ("a_b", t), ("double", y)), (x, row, again))
    is_clean("while_", emit_c("while", [plan(program)]).files())
    native = build("while", [program])["static"]
    assert check_against_interpreter(native, arrays(program, 20), Call(20)) < 1e-14


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(EnvironmentProblem, match="install gcc or clang"):
        find_compiler()


def test_broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "mycc"
    fake.write_text('#!/bin/sh\necho broken >&2\n[ "$1" = --version ] && echo mycc 1 && exit 0\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    with pytest.raises(EnvironmentProblem, match=r"cannot make a shared library:\nbroken"):
        find_compiler()


def test_serial_fallback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = find_compiler().path
    fake = tmp_path / "noomp"
    fake.write_text(f'#!/bin/sh\nfor a in "$@"; do [ "$a" = -fopenmp ] && exit 1; done\nexec {real} "$@"\n')
    fake.chmod(0o755)
    expected = build("toy2", [summable()])["gradient"].run(arrays(summable(), 40), Call(40))
    monkeypatch.setenv("CC", str(fake))
    module = build("toy2", [summable()])
    assert not module.compiler.openmp
    found = module["gradient"].run(arrays(summable(), 40), Call(40))
    assert all(found[name].tobytes() == value.tobytes() for name, value in expected.items())


def test_cache_is_private_and_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path / "new" / "cache"))
    files = emit_c("toy2", [plan(summable())])
    serial = find_compiler().serial()
    first = compile_library(files.name, files.files(), serial)
    assert stat.S_IMODE((tmp_path / "new" / "cache").stat().st_mode) == 0o700
    assert [f.name for f in first.parent.iterdir()] == [first.name]
    assert [f.name for f in first.parents[1].iterdir()] == [first.parent.name]
    written = first.stat().st_mtime_ns
    assert compile_library(files.name, files.files(), serial) == first
    assert first.stat().st_mtime_ns == written
    other = emit_c("toy2", [plan(summable(), tile=4)])
    assert compile_library(other.name, other.files(), serial) != first


def test_compiler_message_is_shown() -> None:
    with pytest.raises(EnvironmentProblem, match="could not compile the generated bad.c"):
        compile_library("bad", {"bad.c": "int f(void) { return oops; }\n"}, find_compiler())


def test_operation_counts() -> None:
    counts = plan(classifier(30, 21, 10)).operations(rows=1, columns=0)
    assert dict(counts.calls)["tanh"] == 21
    assert counts.muls >= 30 * 21 + 21 * 10
    node: Node = summable().outputs[2][1]
    only = plan(Program("u", (("u", node),), summable().inputs)).operations(rows=7, columns=0)
    assert (only.adds, only.muls) == (35, 35)


def test_large_footprints_get_small_tiles() -> None:
    assert plan(classifier()).tile == 8
    assert plan(classifier(200_000, 21, 10)).tile < 16
    assert compiler.FLAGS.count("-ffp-contract=off") == 1


def layers(depth: int, width: int = 5) -> Program:
    """A residual network of equal layers, and the sum of its last one over rows."""
    h: Node = new_input("x", (ROWS, width), "data", origin("x", "n", "i"))
    for k in range(depth):
        weight = new_input(f"W{k}", (width, width), "param", origin(f"W{k}", "j", "i"))
        u = make_map(
            (ROWS, width, width), 2, [read(h, 0, 2), read(weight, 1, 2)], p(0) * p(1), origin=origin(f"u{k}")
        )
        h = elementwise(p(0) + sympy.tanh(p(1)), [h, u], origin(f"h{k}", "n", "j"))
    total = reduce_sum(h, [0], origin("total"))
    return Program(
        "layers", (("total", total),), tuple(n for n in topological([total]) if isinstance(n, Input))
    )


def test_equal_layers_share_functions() -> None:
    small, large = (emit_c("deep", [plan(layers(depth))]).source for depth in (4, 40))
    assert len(re.findall(r"^(?:SHARED|static) void", large, re.MULTILINE)) == len(
        re.findall(r"^(?:SHARED|static) void", small, re.MULTILINE)
    )
    assert len(large) - len(small) < 36 * 500
    rng = np.random.default_rng(5)
    program = layers(6)
    arrays = {f"W{k}": rng.normal(size=(5, 5)) for k in range(6)} | {"x": rng.normal(size=(19, 5))}
    assert check_against_interpreter(build("deep", [program])["layers"], arrays, Call(rows=19)) < 1e-12


def test_blocks_end_where_the_axis_does() -> None:
    """Sums are held several at a time along an axis: never more than it has, whatever its extent."""
    rng = np.random.default_rng(9)
    for extent in range(2, 27):
        x = new_input("x", (ROWS, 3), "data")
        weight = new_input("W", (2, extent, 3), "param")
        z = make_map((ROWS, 2, extent, 3), 3, [read(weight, 1, 2, 3), read(x, 0, 3)], p(0) * p(1))
        squares = make_map((ROWS, 2, extent), 3, [read(z, 0, 1, 2)], p(0) ** 2)
        program = Program("blocks", (("squares", squares), ("sums", z)), (x, weight))
        nests = [s.nest for segment in plan(program).segments for s in segment.stages if s.nest and s.nest.block]
        assert nests and all(n.block_width <= extent for n in nests)
        if extent in (11, 13):
            arrays = {"x": rng.normal(size=(9, 3)), "W": rng.normal(size=(2, extent, 3))}
            assert check_against_interpreter(build("blocks", [program])["blocks"], arrays, Call(rows=9)) < 1e-13


def test_calls_on_fixed_memory() -> None:
    native = build("toy", [classifier()])["diagonal"]
    given = arrays(native.program, 20)
    call = native.bind(given, Call(20, 3, seed=5))
    for factor in (1.0, 0.5):
        given["x"][...] *= factor
        expected = native.run(given, Call(20, 3, seed=5))
        found = call()
        assert found is call.out
        assert all(found[name].tobytes() == value.tobytes() for name, value in expected.items())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what is mapped")
def test_the_openmp_runtime_outlives_the_programs() -> None:
    """Its idle threads would otherwise wake up in memory that is no longer theirs."""
    code = """
import gc
from tests.catalogue import CATALOGUE
entry = CATALOGUE["mlp_tanh"]
est = entry.compile(programs=(), threads=2)
est.gradient(**entry.arrays(5000, 1))
held = lambda: any(word in line for line in open("/proc/self/maps") for word in ("libgomp", "libomp"))
before = held()
del est
gc.collect()
print(before, held())
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout in ("True True\n", "False False\n")  # the latter without OpenMP


def test_loops_over_a_block_of_columns_test_no_column() -> None:
    """A sum that counts in some columns only is tested outside the loop over a block, where no column is chosen yet."""
    from benchmarks.exact_choice import encoder
    from cpgen.loops.ranges import checked_axes

    case = encoder(["Q", "K", "V", "O", "W1", "W2"])
    est = cpgen.compile(case.model, wrt=case.wrt, programs=(), backend="interpreter")
    for stage in est.core.programs.plan(Request("diagonal", "units")).stages:
        if stage.nest is not None and stage.nest.block is not None:
            assert stage.nest.block not in checked_axes(stage.nodes[0])
    (source,) = (text for name, text in est.source(["diagonal:units"]).items() if name == "encoder.c")
    guarded = [line for line in source.splitlines() if "first_column + col)" in line and line.lstrip().startswith("if")]
    assert guarded
