"""What the C text says instead of computing something else in silence: statuses, and errors when it is compiled."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import ArithmeticWarning, CheckError
from cpgen.native import arithmetic

x, y = sp.symbols("x y")
GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="no gcc")


def program(est, key, **given):
    """The C function behind ``key``, its arguments for one row and its outputs."""
    native = est.loaded(key).backend.native
    ffi = native._ffi
    args = ffi.new(native._args_type)
    keep = [np.array([given[name]], native.real) for name, _, _ in native._inputs]
    for (_, field, _), array in zip(native._inputs, keep, strict=True):
        setattr(args, field, ffi.from_buffer(native._pointer, array))
    outputs = {}
    for name, field, node in native._outputs:
        outputs[name] = np.full([e if isinstance(e, int) else 1 for e in node.shape] or [1], 77.0, native.real)
        setattr(args, field, ffi.from_buffer(native._pointer, outputs[name]))
        keep.append(outputs[name])
    for name in {"n_rows", "threads"}.intersection(native.interface.numbers):
        setattr(args, name, 1)
    for _, field in native._scales:
        setattr(args, field, 1.0)

    def run():
        if not native.interface.footprint.needed:
            return native._run(args)
        work = np.empty(native.workspace_bytes(1, getattr(args, "columns", 0), 1), np.uint8)
        return native._run(args, ffi.from_buffer(work), work.size)

    run.keep = keep  # type: ignore[attr-defined]
    return run, args, outputs, native


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(("at", "status"), [(0.5, 0), (0.0, 1), (-1.0, 1)])
def test_outputs_that_are_not_finite_have_a_status(real: str, at: float, status: int) -> None:
    """log at 0 and below: -inf and NaN, which were returned with status 0."""
    est = cp.compile(sp.log(x) * y, wrt=[x, y], real=real)
    for key in ("value", "gradient", "hessian"):
        run, args, outputs, native = program(est, key, x=at, y=2.0)
        for name, value in (("columns", native.program.whole or 0), ("design", 2)):
            if name in native.interface.numbers:
                setattr(args, name, value)
        found = run()
        assert found == (0 if all(np.isfinite(v).all() for v in outputs.values()) else 1)
        assert key == "hessian" or found == status  # it has no log in it, only powers


def test_outputs_that_nobody_asked_for_are_not_looked_at() -> None:
    est = cp.compile(sp.sqrt(x), wrt=[x])
    run, args, outputs, native = program(est, "gradient", x=0.0)
    assert run() == 1 and np.isinf(outputs["grad_x"])
    args.out_grad_x = native._ffi.NULL
    assert run() == 0 and outputs["value"] == 0


def exact_model() -> cp.Model:
    """Its diagonal takes several unit columns: each entry of W couples with the others."""
    m = cp.Model("coupled")
    i, j, k, c = m.axes("i j k c", i=3, j=9, k=9, c=9)
    W, V, U = m.param("W", j, i), m.param("V", k, j), m.param("U", c, k)
    z = m.define("z", (j,), sp.tanh(cp.sum(W[j, i] * sp.Rational(1, 3), i)))
    u = m.define("u", (k,), sp.tanh(cp.sum(V[k, j] * z[j], j)))
    s = m.define("s", (c,), cp.sum(U[c, k] * u[k], k))
    m.objective(cp.logsumexp(s[c], c))
    return m


@pytest.mark.parametrize("key", ["diagonal:units", "diagonal:cp", "hessian:units", "trace:directions"])
def test_part_of_an_exact_answer_is_refused(key: str) -> None:
    est = cp.compile(exact_model(), wrt=["W"])
    rng = np.random.default_rng(3)
    given = {"W": rng.normal(size=(9, 3)), "V": rng.normal(size=(9, 9)), "U": rng.normal(size=(9, 9))}
    native = est.loaded(key).backend.native
    whole = native.program.whole
    assert whole is not None and whole > 1
    ffi, args = native._ffi, native._ffi.new(native._args_type)
    outputs, keep = {}, []
    for name, field, _ in native._inputs:
        setattr(args, field, ffi.from_buffer("double[]", given[name]))
    for name, field, node in native._outputs:
        if node.has_columns:
            continue
        outputs[name] = np.full(node.shape or (1,), 77.0)
        keep.append(ffi.from_buffer("double[]", outputs[name]))
        setattr(args, field, keep[-1])
    for _, field in native._scales:
        setattr(args, field, 1.0)
    work = np.empty(native.workspace_bytes(1, whole + 1, 1), np.uint8)
    memory = (ffi.from_buffer(work), work.size) if work.size else ()

    diagonal = np.diag(est.hessian(**given).matrix()).reshape(9, 3)  # held to SymPy by other tests
    if not native.plan.has_columns:  # all written out: the whole answer, of which nobody can ask for a part
        assert not {"columns", "first_column", "design"}.intersection(native.interface.numbers)
        assert native._run(args, *memory) == 0
        np.testing.assert_allclose(outputs.get("diag_W", diagonal), diagonal, rtol=1e-9, atol=1e-12)
        return
    args.threads, args.design = 1, 2
    for columns, first in ((1, 0), (whole - 1, 0), (whole + 1, 0), (whole, 1)):
        args.columns, args.first_column = columns, first
        status = native._run(args, *memory)
        assert status < 0 and f"the {whole} from first_column 0" in native._meanings[status]
        assert all((v == 77.0).all() for v in outputs.values())
    args.columns, args.first_column = whole, 0
    assert native._run(args, *memory) == 0
    np.testing.assert_allclose(outputs.get("diag_W", diagonal), diagonal, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(outputs.get("trace", diagonal.sum()), diagonal.sum(), rtol=1e-9)
    args.design, args.columns = 3, 1  # a part, asked for as such
    assert native._run(args, *memory) == 0


def test_misaligned_arrays_are_refused() -> None:
    est = cp.compile(x**2 * y, wrt=[x, y])
    run, args, outputs, native = program(est, "gradient", x=1.0, y=2.0)
    ffi = native._ffi
    memory = ffi.new("char[]", 64)
    odd = ffi.cast("double *", memory + 1)
    for field, meaning in (("x", "x is NULL or misaligned"), ("out_grad_y", "an output is misaligned")):
        before = getattr(args, field)
        setattr(args, field, odd)
        status = run()
        assert status < 0 and native._meanings[status] == meaning
        assert (outputs["grad_x"] == 77.0).all()
        setattr(args, field, before)
    assert run() == 0 and outputs["grad_x"] == 4.0


# Compiling


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for prefix, real in (("one", "float64"), ("two", "float64"), ("three", "float32")):
        cp.bundle(
            sp.log(x) * y**2 + sp.exp(x), folder / prefix, wrt=[x, y], prefix=prefix, real=real,
            programs=("value", "gradient", "diagonal", "hessian"), amalgamate=True,
        )
    return folder


def compiled(source: Path, *flags: str) -> str:
    """What the compiler says, empty where it accepts the text."""
    command = [str(GCC), "-std=c99", *flags, "-c", str(source), "-o", str(source.with_suffix(".o"))]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


X86 = platform.machine() in ("x86_64", "AMD64")


@needs_gcc
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-ffast-math"], "-ffast-math"),
        (["-ffinite-math-only"], "-ffinite-math-only"),
        (["-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"], "-fassociative-math"),
        (["-freciprocal-math"], "relies on IEEE arithmetic"),
        (["-D_M_FP_FAST"], "/fp:fast"),
        (["-D_M_FP_CONTRACT"], "/fp:contract"),
        (["-U__INT_MAX__", "-D__INT_MAX__=32767"], "size_t of 32 bits"),
        (["-DONE_LANES=4"], "one row at a time"),
        pytest.param(["-mfpmath=387"], "more digits than the type has", marks=pytest.mark.skipif(not X86, reason="x86")),
        pytest.param(["-std=gnu99", "-mfma"], "-ffp-contract=off", marks=pytest.mark.skipif(not X86, reason="x86")),
    ],
)
def test_what_would_change_the_numbers_does_not_compile(bundles: Path, flags: list[str], said: str) -> None:
    found = compiled(bundles / "one/one.c", *flags)
    assert "#error" in found and said in found
    assert "ONE_LANES" in said or compiled(bundles / "one/one.c", "-Werror") == ""


@needs_gcc
@pytest.mark.skipif(not X86, reason="x86")
def test_contraction_can_be_answered_for(bundles: Path) -> None:
    flags = ["-std=gnu99", "-mfma", "-ffp-contract=off", "-DONE_RT_CONTRACT_OFF"]
    assert compiled(bundles / "one/one.c", *flags) == ""


@needs_gcc
@pytest.mark.skipif(not X86, reason="x86")
@pytest.mark.parametrize("name", ["one", "three"])
def test_contraction_is_told_at_run_time(name: str, bundles: Path, tmp_path: Path) -> None:
    """GCC has no macro for it."""
    if "fma" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor joins nothing")
    source = tmp_path / "main.c"
    source.write_text(f'#include "{bundles}/{name}/{name}.c"\nint main(void) {{ return (int){name}_arithmetic(); }}\n')
    usual, fast = ["-ffp-contract=off"], ["-ffp-contract=fast"]
    for flags, expected in ((usual, 0), (fast, 4), ([*fast, f"-D{name.upper()}_RT_FUSED=1"], 0)):
        command = [str(GCC), "-std=c99", "-O2", "-mfma", *flags, str(source), "-o", str(tmp_path / "main")]
        subprocess.run(command, check=True)
        assert subprocess.run([str(tmp_path / "main")]).returncode == expected


@needs_gcc
def test_several_bundles_in_one_unit(bundles: Path, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    calls = "".join(f"bad += !({n}_selftest(memory, sizeof memory, &different) <= 1) || different;\n" for n in names)
    (tmp_path / "unit.c").write_text(
        "".join(f'#include "{bundles}/{n}/{n}.c"\n' for n in names)
        + "static double memory[1000];\nint main(void) { int bad = 0; int32_t different = 0;\n"
        + calls
        + "return bad; }\n"
    )
    flags = "-std=c99 -pedantic -Wall -Wextra -Wconversion -Wshadow -Werror -ffp-contract=off".split()
    subprocess.run([str(GCC), *flags, str(tmp_path / "unit.c"), "-o", str(tmp_path / "unit")], check=True)
    subprocess.run([str(tmp_path / "unit")], check=True)


def test_little_workspace_beyond_the_numbers(bundles: Path) -> None:
    """It was 64 bytes more for every program."""
    header = (bundles / "three/three.h").read_text()
    assert "sizeof(float) + 4U)" in header and "sizeof(float) + 64U" not in header


# Bundles


@pytest.mark.parametrize(
    ("expr", "real", "said"),
    [
        (sp.log(x - 1e6), "float64", "not finite"),
        (sp.exp(1e5 + x**2), "float32", "not finite"),
    ],
)
def test_useless_vectors_are_refused(expr: sp.Expr, real: str, said: str, tmp_path: Path) -> None:
    """Such bundles held inf.0f and nan.0f."""
    with pytest.raises(CheckError, match=said):
        cp.bundle(expr, tmp_path / "b", wrt=[x], real=real, prefix="b")
    assert not (tmp_path / "b").exists()


# The processor


@needs_gcc
@pytest.mark.skipif(not X86, reason="x86")
@pytest.mark.parametrize(("bits", "found"), [(0x8000, 1), (0x0040, 1), (0x2000, 2), (0x4000, 2), (0xE040, 3)])
def test_flush_to_zero_and_rounding_are_said(bits: int, found: int, tmp_path: Path) -> None:
    source = tmp_path / "mode.c"
    source.write_text(
        "#include <xmmintrin.h>\n"
        "unsigned get(void) { return _mm_getcsr(); }\nvoid set(unsigned v) { _mm_setcsr(v); }\n"
    )
    subprocess.run([str(GCC), "-shared", "-fPIC", str(source), "-o", str(tmp_path / "mode.so")], check=True)
    mode = ctypes.CDLL(str(tmp_path / "mode.so"))
    est = cp.compile(x**2, wrt=[x])
    at = np.array(0.5)
    native = est.loaded("value").backend.native
    of_c = native._library.expression_arithmetic
    usual = mode.get()
    assert arithmetic() == 0 and of_c() == 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mode.set(usual | bits)
        try:
            answers = arithmetic(), of_c()
            est.value(x=at)
        finally:
            mode.set(usual)
    assert answers == (found, found)
    assert [w.category for w in seen] == [ArithmeticWarning]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.value(x=at)
