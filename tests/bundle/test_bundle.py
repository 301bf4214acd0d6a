"""Bundles as a user meets them: written, built with strict flags, run, refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sympy

import cpgen as cp
from cpgen.bundle import size_in_bytes
from cpgen.errors import BudgetError, CheckError, CpgenError, RequestError
from tests.catalogue import CATALOGUE

STRICT = "-std=c99 -pedantic -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Wvla -Werror".split()
EXACT = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
MODELS = ("mlp_tanh", "logistic_regression", "chained_rosenbrock", "means")
CASES = [(model, real) for model in MODELS for real in ("float32", "float64")]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


def make(model: str, folder: Path, **options):
    entry = CATALOGUE[model]
    return cp.bundle(entry.build(), folder, wrt=list(entry.wrt), prefix=options.pop("prefix", "motor"), **options)


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A bundle of each case, made once."""
    made = {}

    def get(model: str, real: str) -> Path:
        if (model, real) not in made:
            folder = tmp_path_factory.mktemp("bundles") / f"{model}-{real}"
            make(model, folder, real=real)
            made[model, real] = folder
        return made[model, real]

    return get


@needs_gcc
@pytest.mark.parametrize(("model", "real"), CASES)
def test_strict_flags_and_selftest(bundles, model, real, tmp_path):
    folder = bundles(model, real)
    for source in sorted(folder.glob("*.c")):
        stack = [] if source.name == "main.c" else ["-Wstack-usage=512"]
        run("gcc", *STRICT, *EXACT, *stack, "-O2", "-c", source, "-o", tmp_path / f"{source.stem}.o")
    run("gcc", *sorted(tmp_path.glob("*.o")), "-o", tmp_path / "example", "-lm")
    said = run(tmp_path / "example")
    assert "self-test passed" in said
    assert "other bits than where this was generated: 0" in said


@needs_gcc
@pytest.mark.parametrize(("model", "real"), CASES)
def test_symbols(bundles, model, real, tmp_path):
    """Only prefixed names go out, nothing writable, nothing comes in but what every C compiler may ask for."""
    folder = bundles(model, real)
    assert "#include <math.h>" not in "".join(p.read_text() for p in folder.glob("motor*.[ch]"))
    for source in sorted(folder.glob("motor*.c")):
        target = tmp_path / "object.o"
        # as in firmware: elsewhere tables of addresses are written once, before they are read-only
        run("gcc", "-std=c99", "-O2", "-fno-pie", *EXACT, "-c", source, "-o", target)
        for line in run("nm", target).splitlines():
            kind, name = line.split()[-2:]
            assert kind not in "DdBbC", line
            if kind == "U":
                assert name.startswith("motor_") or name in ("memset", "memcpy", "memmove"), line
            elif kind.isupper():
                assert name.startswith("motor_"), line


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_headers_are_cpp17(bundles, tmp_path):
    folder = bundles("mlp_tanh", "float32")
    unit = tmp_path / "headers.cpp"
    names = [p.name for p in sorted(folder.glob("*.h")) if "_rt_" not in p.name]
    unit.write_text("".join(f'#include "{n}"\n' for n in names) + "int main() { return 0; }\n")
    flags = ["-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    run("g++", *flags, f"-I{folder}", "-c", unit, "-o", tmp_path / "x.o")


@needs_gcc
def test_workspace_macro_function_and_python_agree(bundles, tmp_path):
    folder = bundles("mlp_tanh", "float32")
    entry = CATALOGUE["mlp_tanh"]
    estimator = entry.compile(programs=(), real="float32")
    sizes = [(1, 1, 1), (3, 2, 1), (17, 16, 4), (1000, 5, 3)]
    lines = ['#include <stdio.h>\n#include "motor.h"\nint main(void) {']
    for n, _, t in sizes:
        lines.append(
            f'printf("%lu %lu\\n", (unsigned long)motor_diagonal_workspace_bytes({n}, {t}), '
            f"(unsigned long)MOTOR_DIAGONAL_WORKSPACE_BYTES({n}, {t}));"
        )
    unit = tmp_path / "sizes.c"
    unit.write_text("\n".join(lines) + "return 0; }\n")
    run("gcc", "-std=c99", f"-I{folder}", unit, folder / "motor.c", "-o", tmp_path / "sizes")
    from cpgen.loops import plan

    planned = plan(estimator.derive("diagonal").program, "float32", 1, compact=True)
    for said, (n, k, t) in zip(run(tmp_path / "sizes").splitlines(), sizes, strict=True):
        expected = planned.workspace_bytes(n, k, t)
        assert said == f"{expected} {expected}"
    report = make("mlp_tanh", None, real="float32", columns=5)
    assert {p.name: p.workspace for p in report.programs}["diagonal"] == planned.workspace_bytes(1, 5, 1)


@needs_gcc
def test_two_bundles_in_one_program(tmp_path):
    make("mlp_tanh", tmp_path / "a", prefix="first")
    make("logistic_regression", tmp_path / "b", prefix="second")
    unit = tmp_path / "both.c"
    unit.write_text(
        '#include "first_selftest.h"\n#include "second_selftest.h"\n'
        "static double memory[65536];\nint main(void) {\n"
        "return first_selftest(memory, sizeof memory, 0) > FIRST_SELFTEST_TOLERANCE ||\n"
        "second_selftest(memory, sizeof memory, 0) > SECOND_SELFTEST_TOLERANCE;\n}\n"
    )
    sources = [*(tmp_path / "a").glob("first*.c"), *(tmp_path / "b").glob("second*.c")]
    run("gcc", "-std=c99", f"-I{tmp_path}/a", f"-I{tmp_path}/b", *sources, unit, "-o", tmp_path / "both")
    run(tmp_path / "both")


@needs_gcc
@pytest.mark.parametrize("options", [{"amalgamate": True}, {"math": "libm"}, {"tile": 16}, {"recompute": True}], ids=str)
def test_options_build_and_pass(options, tmp_path):
    make("mlp_tanh", tmp_path / "out", real="float32", **options)
    assert "self-test passed" in run("make", "-s", "test", cwd=tmp_path / "out")
    if options.get("amalgamate"):
        assert sorted(p.name for p in (tmp_path / "out").glob("*.c")) == ["main.c", "motor.c"]
        run("gcc", *STRICT, *EXACT, "-c", tmp_path / "out" / "motor.c", "-o", tmp_path / "x.o")
    if options.get("math") == "libm":
        assert "tanhf(x)" in (tmp_path / "out" / "motor_rt_scalar.h").read_text()


def test_recompute_saves_workspace():
    kept = make("residual_tied", None, real="float32")
    again = make("residual_tied", None, real="float32", recompute=True)
    name = kept.programs[-1].name
    assert again.programs[-1].workspace < kept.programs[-1].workspace, name
    assert again.programs[-1].operations.total > kept.programs[-1].operations.total


@needs_gcc
def test_constant_weights(tmp_path):
    rng = np.random.default_rng(3)
    weights = {"W1": rng.normal(size=(3, 4)), "b1": rng.normal(size=3)}
    report = make("mlp_tanh", tmp_path / "out", real="float32", weights=weights)
    assert report.weights == 4 * 15
    text = (tmp_path / "out" / "motor_weights.c").read_text()
    assert f"{np.float32(weights['b1'][0])!s}f" in text
    assert "self-test passed" in run("make", "-s", "test", cwd=tmp_path / "out")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
def test_cmake_package_is_found(bundles, tmp_path):
    folder = bundles("logistic_regression", "float64")
    run("cmake", "-S", folder, "-B", tmp_path / "b", f"-DCMAKE_INSTALL_PREFIX={tmp_path}/prefix")
    run("cmake", "--build", tmp_path / "b")
    run("cmake", "--install", tmp_path / "b")
    user = tmp_path / "user"
    user.mkdir()
    (user / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(user CXX)\nfind_package(motor REQUIRED)\n"
        "add_executable(user user.cpp)\ntarget_link_libraries(user motor::motor)\n"
    )
    (user / "user.cpp").write_text(
        '#include "motor_selftest.h"\nstatic double memory[65536];\n'
        "int main() { return motor_selftest(memory, sizeof memory, nullptr) > MOTOR_SELFTEST_TOLERANCE; }\n"
    )
    run("cmake", "-S", user, "-B", user / "b", f"-DCMAKE_PREFIX_PATH={tmp_path}/prefix")
    run("cmake", "--build", user / "b")
    run(user / "b" / "user")
    assert "-lmotor" in (tmp_path / "prefix" / "lib" / "pkgconfig" / "motor.pc").read_text()


@needs_gcc
def test_running_mean_and_standard_error(tmp_path):
    """Welford's recurrence in C against NumPy."""
    make("mlp_tanh", tmp_path / "out", real="float64")
    data = np.random.default_rng(5).normal(size=(7, 3))
    rows = ",".join("{" + ",".join(repr(float(x)) for x in row) + "}" for row in data)
    unit = tmp_path / "stream.c"
    unit.write_text(
        '#include <stdio.h>\n#include "motor_stream.h"\nint main(void) {\n'
        f"static const double x[7][3] = {{{rows}}}; double mean[3], spread[3]; int32_t n = 0;\n"
        "for (int k = 0; k < 7; ++k) { n = motor_stream_add(mean, spread, x[k], 3, n); }\n"
        "if (motor_stream_errors(spread, spread, 3, 1) != -1) { return 1; }\n"
        "if (motor_stream_errors(spread, spread, 3, n) != 0) { return 2; }\n"
        'for (int j = 0; j < 3; ++j) { printf("%.17g %.17g\\n", mean[j], spread[j]); }\nreturn 0; }\n'
    )
    out = tmp_path / "out"
    run("gcc", "-std=c99", f"-I{out}", unit, out / "motor_stream.c", "-o", tmp_path / "stream", "-lm")
    found = np.array([[float(x) for x in line.split()] for line in run(tmp_path / "stream").splitlines()])
    np.testing.assert_allclose(found[:, 0], data.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found[:, 1], data.std(0, ddof=1) / np.sqrt(7), rtol=1e-13)


@needs_gcc
def test_one_row_at_a_time_gives_the_bits_of_one_call(bundles, tmp_path):
    """Rows that arrive one by one, in constant memory: mean and variance go on in the outputs."""
    folder = bundles("mlp_tanh", "float32")
    main = (folder / "main.c").read_text()
    block = main[main.index("static int run_diagonal") : main.index("int main(void)")]
    inputs = re.findall(r"        \.(\w+) = (motor_test_\w+),", block)
    outputs = re.findall(r"        \.(out_\w+) = diagonal_\w+,", block)
    header = (folder / "motor_vectors.h").read_text()
    sizes = {name: int(n) for name, n in re.findall(r"(motor_bits_diagonal_\w+)\[(\d+)\]", header)}
    lines = ['#include <string.h>\n#include "motor.h"\n#include "motor_vectors.h"\n']
    lines += [f"static float {o}[{sizes[f'motor_bits_diagonal_{o[4:]}']}];" for o in outputs]
    lines += ["static float work[MOTOR_DIAGONAL_WORKSPACE_BYTES(1, 1) / sizeof(float) + 1];", "int main(void) {"]
    lines += ["motor_diagonal_args args = {0};"]
    lines += [f"args.{field} = {source};" for field, source in inputs]
    lines += [f"args.{o} = {o};" for o in outputs]
    lines += [f"args.{name} = {value};" for name, value in re.findall(r"        \.(\w+_scale) = (.*),", block)]
    numbers = set(re.findall(r"^        \.(\w+) = \d+U?,", block, re.MULTILINE))
    given = {"columns": 2, "seed": 1, "design": 1, "threads": 1, "n_rows": 1, "accumulate": 1}
    lines += [f"args.{name} = {value};" for name, value in given.items() if name in numbers]
    lines += ["for (int n = 0; n < MOTOR_TEST_ROWS; ++n) {", "args.first_row = n;" if "first_row" in numbers else ""]
    lines += ["args.x = motor_test_x + 4 * n; args.y = motor_test_y + 3 * n;"]
    lines += ["if (motor_diagonal_run(&args, work, sizeof work) != 0) { return 1; } }"]
    lines += [f"if (memcmp({o}, motor_bits_diagonal_{o[4:]}, sizeof {o}) != 0) {{ return 2; }}" for o in outputs]
    unit = tmp_path / "rows.c"
    unit.write_text("\n".join(lines) + "\nreturn 0; }\n")
    sources = [folder / "motor.c", folder / "motor_vectors.c"]
    run("gcc", "-std=c99", *EXACT, f"-I{folder}", unit, *sources, "-o", tmp_path / "rows")
    run(tmp_path / "rows")


def test_budgets_are_refused_with_the_numbers(tmp_path):
    with pytest.raises(BudgetError, match=r"RAM \d+ bytes of 100 allowed(.|\n)*workspace \d+"):
        make("mlp_tanh", tmp_path / "out", ram=100)
    with pytest.raises(BudgetError, match=r"flash about \d+ bytes of 64 allowed"):
        make("mlp_tanh", tmp_path / "out", flash="64")
    assert not (tmp_path / "out").exists()


def test_folders(tmp_path):
    folder = tmp_path / "out"
    first = make("logistic_regression", folder)
    texts = {f: (folder / f).read_text() for f in first.files}
    (folder / "mine.txt").write_text("kept")
    make("logistic_regression", folder)
    assert {f: (folder / f).read_text() for f in first.files} == texts, "not deterministic"
    assert (folder / "mine.txt").read_text() == "kept"
    (folder / "main.c").write_text("edited")
    with pytest.raises(RequestError, match=r"main\.c was changed"):
        make("logistic_regression", folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(RequestError, match="holds no bundle"):
        make("logistic_regression", tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out"]


def test_the_readme_explains_this_bundle(tmp_path):
    counts = {"m4f": {"value": 7}}
    make("mlp_tanh", tmp_path / "out", real="float32", command="cpgen bundle motor.py", instructions=counts)
    text = (tmp_path / "out" / "README.md").read_text()
    for part in ("| `W1` | param | (3, 4) |", "### gradient", "Stage 1", "cpgen bundle motor.py", "| m4f | 7 | - | - |"):
        assert part in text
    assert "Stage 1" in (tmp_path / "out" / "motor.c").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"programs": ()}, "at least one program"),
        ({"programs": ("value", "value")}, "named twice"),
        ({"programs": ("vallue",)}, "there is no program 'vallue'"),
        ({"prefix": "2fast"}, "not a C identifier"),
        ({"prefix": "cpg_x"}, "taken"),
        ({"prefix": "int"}, "taken"),
        ({"math": "fast"}, "builtin, libm"),
        ({"tile": 0}, "tile=0"),
        ({"columns": 0}, "columns=0"),
        ({"ram": "12 parsecs"}, "not a size"),
        ({"weights": {"W9": 1.0}}, "W1"),
        ({"weights": {"W1": [1.0]}}, "expected (3, 4)"),
        ({"weights": {"b1": [1.0, float("nan"), 0.0]}}, "not finite"),
        ({"weights": {"b1": "abc"}}, "not an array of numbers"),
    ],
)
def test_bad_requests(options, message, tmp_path):
    with pytest.raises(CpgenError, match=re.escape(message)):
        make("mlp_tanh", tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_sizes():
    assert [size_in_bytes(t) for t in ("32k", "1.5M", "4096", "2 KiB", 7)] == [32768, 1572864, 4096, 2048, 7]


A, T, X, Y = sympy.symbols("a T x y", real=True)
DELICATE = {
    "fast sine": sympy.sin(2 * sympy.pi * 5e6 * A),
    "temperature": sympy.exp(60 / T),
    "cancelling square": (X + 1e5) ** 2 - 1e10,
    "domains": sympy.exp(60 / T) * (X + 3) ** 2 + sympy.sqrt(T - 100) * X + sympy.acos(Y) * sympy.log(X),
}


@needs_gcc
@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", list(DELICATE))
def test_delicate_formulas_pass_their_own_self_test(name, real, tmp_path):
    cp.bundle(DELICATE[name], tmp_path / "b", ("value", "gradient", "diagonal"), real, prefix="f")
    vectors = (tmp_path / "b" / "f_vectors.c").read_text()
    assert "nan" not in vectors and "inf" not in vectors
    out = selftest(tmp_path / "b")
    assert "self-test passed" in out and "other bits than where this was generated: 0" in out


@needs_gcc
@pytest.mark.parametrize("real", ["float64", "float32"])
def test_the_self_test_finds_a_fault_in_a_small_element(real, tmp_path):
    """The gradient by y is 1e-7 of that by x: relative to the largest element any value of it would do."""
    cp.bundle(1e4 * X**2 + 0.75e-3 * sympy.sin(Y), tmp_path / "b", ("gradient",), real, prefix="f")
    assert "self-test passed" in selftest(tmp_path / "b")
    text = tmp_path / "b" / "f.c"
    wrong = text.read_text().replace("0.00075", "0.000751")
    assert wrong != text.read_text()
    text.write_text(wrong)
    assert "self-test FAILED" in selftest(tmp_path / "b")


def test_a_bundle_needs_finite_vectors(tmp_path):
    with pytest.raises(CheckError, match="declare ranges"):
        cp.bundle(sympy.log(X - 1e6) * Y, tmp_path / "b", ("gradient",))
    with pytest.raises(CheckError, match="not finite in float64 for these arrays"):
        cp.bundle(sympy.log(X), tmp_path / "b", ("gradient",), vectors={"x": [-1.0, 1.0]})


def selftest(folder):
    run("gcc", "-std=c99", *sorted(folder.glob("*.c")), "-o", folder / "main", "-lm")
    return subprocess.run([folder / "main"], capture_output=True, text=True).stdout
