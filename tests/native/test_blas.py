"""Products handed to a BLAS: the same answers to rounding, the library's own threads off, the program's loops without."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cpgen as cp
from cpgen.emit import emit_c
from cpgen.errors import EnvironmentProblem, RequestError
from cpgen.ir.call import Call
from cpgen.ir.nodes import Program
from cpgen.ir.noise import HADAMARD
from cpgen.loops import Plan, plan
from cpgen.loops.kernels import Loops
from cpgen.loops.lower import BLAS_LANES, WIDE_LANES
from cpgen.loops.plan import Stage
from cpgen.loops.products import LEAST_BLAS, by_blas
from cpgen.loops.strategy.base import LANES
from cpgen.loops.strategy.lanes import PIECE
from cpgen.native import NativeProgram, blas, build, find_compiler
from cpgen.native.blas import Blas, find_blas
from cpgen.native.compiler import warnings_of
from tests.catalogue import CATALOGUE

ROWS, COLUMNS, TILE = 37, 3, 16
HIDDEN, OUT = 33, 21


def energy(inputs: int, hidden: int, out: int) -> cp.Model:
    """E(x) = sum softplus(V softplus(W x + b)): weights read forwards and, in the gradient, transposed."""
    m = cp.Model("energy")
    n, i, h, k = m.axes("n i h k", n=cp.ROWS, i=inputs, h=hidden, k=out)
    x, W, b, V = m.input("x", n, i), m.param("W", h, i), m.param("b", h), m.param("V", k, h)
    z = m.define("z", (n, h), cp.softplus(cp.sum(W[h, i] * x[n, i], i) + b[h]))
    e = m.define("e", (n, k), cp.softplus(cp.sum(V[k, h] * z[n, h], h)))
    m.objective(cp.sum(e[n, k], k))
    return m


def data(rows: int, inputs: int, hidden: int, out: int, real: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shapes = {"x": (rows, inputs), "W": (hidden, inputs), "b": (hidden,), "V": (out, hidden)}
    return {name: (rng.normal(size=s) / np.sqrt(s[-1])).astype(real) for name, s in shapes.items()}


def gradient(a: dict[str, np.ndarray]) -> np.ndarray:
    """By x, in NumPy."""
    pre = a["x"] @ a["W"].T + a["b"]
    out = 1 / (1 + np.exp(-np.logaddexp(0, pre) @ a["V"].T))
    return (out @ a["V"] / (1 + np.exp(-pre))) @ a["W"]


def in_pieces(planned: Plan) -> list[Stage]:
    return [s for s in planned.stages if isinstance(s.kernel, Loops) and s.kernel.pieces]


def programs() -> list[Program]:
    est = cp.compile(energy(17, HIDDEN, OUT), wrt=["x"], programs=())
    return [est.derive(key).program for key in ("gradient", "trace:cp")]


def run(program: NativeProgram, real: str = "float64", threads: int = 2, rows: int = ROWS) -> dict[str, np.ndarray]:
    arrays = {k: v[:rows] if k == "x" else v for k, v in data(ROWS, 17, HIDDEN, OUT, real).items()}
    scales = {"row_scale": 1 / rows, "column_scale": 1 / 3, "variance_scale": 1 / 6}
    return program.run(arrays, Call(rows, COLUMNS, 5, HADAMARD, threads=threads, **scales))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library of plain loops with the functions of a BLAS."""
    target = tmp_path_factory.mktemp("blas") / "libstandin.so"
    source = Path(__file__).parent / "standin.c"
    subprocess.run([find_compiler().path, "-O1", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    return str(target)


@pytest.fixture(params=["openblas", "stand-in"])
def found(request: pytest.FixtureRequest, library: str) -> Blas:
    return find_blas("openblas" if request.param == "openblas" else library)


# The answers


@pytest.mark.parametrize("real, allowed", [("float64", 1e-12), ("float32", 1e-4)])
def test_the_same_answers_to_rounding(found: Blas, real: str, allowed: float) -> None:
    made = programs()
    own = build("energy", made, real)
    with_blas = build("energy", made, real, TILE, blas=found, least=1)
    for program in made:
        expected = run(own[program.name], real)
        for name, value in run(with_blas[program.name], real).items():
            assert np.allclose(value, expected[name], rtol=allowed, atol=allowed * np.abs(expected[name]).max()), name
    got = run(with_blas["gradient"], real)["grad_x"]
    assert np.allclose(got, gradient(data(ROWS, 17, HIDDEN, OUT, real)), rtol=allowed, atol=allowed)


def test_threads_do_not_change_a_bit(found: Blas) -> None:
    made = programs()
    module = build("energy", made, tile=TILE, blas=found, least=1)
    for program in made:
        expected = run(module[program.name], threads=1)
        for threads in (2, 5):
            for name, value in run(module[program.name], threads=threads).items():
                assert value.tobytes() == expected[name].tobytes()


@pytest.mark.parametrize("rows", [1, 3, TILE, TILE + 1])
def test_few_rows(found: Blas, rows: int) -> None:
    """Tiles that are not full: the rows that are there do not see the memory of those that are not."""
    made = programs()
    expected = run(build("energy", made)["gradient"], rows=rows)["grad_x"]
    module = build("energy", made, tile=TILE, blas=found, least=1)
    assert np.allclose(run(module["gradient"], rows=rows)["grad_x"], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_without_a_library_the_bits_are_those_of_the_usual_program(real: str) -> None:
    """The text made for a BLAS has its own loops as well: NULL in the place of the library."""
    made = programs()
    usual, null = build("energy", made, real), build("energy", made, real, TILE, least=1)
    for program in made:
        assert "blas" in null.files.declarations and null[program.name].blas is None
        expected = run(usual[program.name], real)
        for name, value in run(null[program.name], real).items():
            assert value.tobytes() == expected[name].tobytes()


@pytest.mark.parametrize("real", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("hidden, out", [(150, 20), (2 * PIECE, 16), (40, PIECE + 1)])
def test_pieces_change_no_bit(hidden: int, out: int, real: str) -> None:
    """Sums over transposed weights, in pieces of which the last is shorter, whole, or the only one."""
    est = cp.compile(energy(24, hidden, out), wrt=["x"], programs=())
    made = [est.derive(key).program for key in ("gradient", "trace:cp")]
    usual, pieces = build("energy", made, real, LANES[real]), build("energy", made, real, 2 * LANES[real], least=1)
    scales = {"row_scale": 1 / ROWS, "column_scale": 1 / 3, "variance_scale": 1 / 6}
    for program in made:
        assert len(in_pieces(pieces[program.name].plan)) >= 2 and f" packed[{PIECE}][" in pieces.files.source
        for threads in (1, 3):
            found, expected = (
                m[program.name].run(
                    data(ROWS, 24, hidden, out, real), Call(ROWS, COLUMNS, 5, HADAMARD, threads=threads, **scales)
                )
                for m in (pieces, usual)
            )
            for name, value in found.items():
                assert value.tobytes() == expected[name].tobytes()


def test_each_product_is_one_call_for_a_tile(library: str) -> None:
    found, counter = find_blas(library), ctypes.CDLL(library)
    made = programs()[0]
    module = build("energy", [made], tile=TILE, blas=found, least=1)
    before = counter.standin_calls()
    run(module["gradient"])
    products = sum(by_blas(s.nodes[0], 1) is not None for s in module["gradient"].plan.stages if s.kind == "map")
    assert products == 4  # two layers, forwards and backwards
    assert counter.standin_calls() - before == products * -(-ROWS // TILE)


@pytest.mark.parametrize("least, count", [(1, 4), (17 * HIDDEN, 4), (17 * HIDDEN + 1, 2), (HIDDEN * OUT + 1, 0)])
def test_only_large_products_are_handed_over(least: int, count: int) -> None:
    planned = plan(programs()[0], blas=least)
    stages = [s for s in planned.stages if isinstance(s.kernel, Loops) and s.kernel.blas]
    assert len(stages) == count and all(len(s.nodes) == 1 for s in stages)
    assert planned.tile == (BLAS_LANES if count else LANES["float64"])


def test_rows_computed_one_at_a_time_stay_so() -> None:
    """Where a tile is one row, a product of a tile would be one of a vector."""
    program = CATALOGUE["softplus_energy"].compile(programs=()).derive("gradient").program
    assert plan(program, tile=1, blas=1) == plan(program, tile=1)


def test_large_rows_get_smaller_tiles() -> None:
    est = cp.compile(energy(64, 60_000, 16), wrt=["x"], programs=())
    planned = plan(est.derive("gradient").program, blas=1)
    assert planned.blas == 1 and LANES["float64"] <= planned.tile < BLAS_LANES


@pytest.mark.parametrize("real", ["float64", "float32"])
def test_wide_weights_are_read_for_more_rows_at_once(real: str) -> None:
    """By the program's own loops, too, with the same bits as in tiles of a vector of rows."""
    side = 2048
    program = cp.compile(energy(side, side, 16), wrt=["x"], programs=()).derive("gradient").program
    assert plan(program, real).tile == WIDE_LANES
    arrays = data(ROWS, side, side, 16, real)
    expected = build("energy", [program], real, LANES[real])["gradient"].run(arrays, Call(ROWS))["grad_x"]
    for tile in (None, 2 * LANES[real]):
        made = build("energy", [program], real, tile)["gradient"]
        assert in_pieces(made.plan)
        assert np.array_equal(made.run(arrays, Call(ROWS))["grad_x"], expected)
    narrow = cp.compile(energy(side, 512, 16), wrt=["x"], programs=()).derive("gradient").program
    assert plan(narrow, real).tile == LANES[real]


# The library's threads


def test_the_threads_of_the_library_are_off_during_a_call_only(library: str) -> None:
    """Also while calls from several threads overlap."""
    found, counter = find_blas(library), ctypes.CDLL(library)
    program = build("energy", programs()[:1], tile=TILE, blas=found, least=1)["gradient"]
    expected = run(program)["grad_x"]
    wrong: list[int] = []

    def often() -> None:
        for k in range(50):
            if not np.array_equal(run(program)["grad_x"], expected):
                wrong.append(k)

    workers = [threading.Thread(target=often) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong and counter.standin_crowded() == 0
    assert counter.openblas_get_num_threads() == 5


def test_numpy_keeps_its_threads() -> None:
    found = find_blas("openblas")
    if found.threads is None:
        pytest.skip("this OpenBLAS does not say how many threads it uses")
    ask, tell = found.threads
    before = ask()
    tell(2)
    try:
        program = build("energy", programs()[:1], tile=TILE, blas=found, least=1)["gradient"]
        run(program)
        call = program.bind(data(ROWS, 17, HIDDEN, OUT), Call(ROWS, threads=2))
        assert np.array_equal(call()["grad_x"], run(program)["grad_x"])
        assert ask() == 2
        with pytest.raises(ZeroDivisionError), found.alone():
            assert ask() == 1
            raise ZeroDivisionError
        assert ask() == 2
    finally:
        tell(before)


# The text


@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize("name", ["energy", "mlp_tanh"])
def test_no_warnings(real: str, name: str) -> None:
    made = programs()
    if name != "energy":
        est = CATALOGUE[name].compile(programs=())
        made = [est.derive(key).program for key in ("gradient", "diagonal:cp")]
    files = emit_c(name, [plan(p, real, blas=1) for p in made], real)
    assert f"{name}_by_blas(args->blas" in files.source
    assert warnings_of(name, files.files(), find_compiler()) == ""
    assert warnings_of(name, files.files(), find_compiler(), ("-fopenmp",)) == ""


def test_a_library_without_functions_is_refused() -> None:
    program = build("energy", programs()[:1], tile=TILE, least=1)["gradient"]
    (args, work, size), out, keep = program._prepare(data(ROWS, 17, HIDDEN, OUT), Call(ROWS, threads=1), None)
    out["grad_x"][...] = 7
    nothing = program._ffi.new("energy_blas *")
    args.blas = nothing
    with pytest.raises(RequestError, match="blas has neither of its functions"):
        program.refuse(program._run(args, work, size))
    assert (out["grad_x"] == 7).all() and keep


# Finding a library


def test_no_such_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    something = ctypes.util.find_library("m") or "libm.so.6"
    for name in ("nowhere", str(tmp_path / "libnone.so"), something):
        with pytest.raises(EnvironmentProblem, match=r"no library of that name with the functions cblas_dgemm"):
            find_blas(name)
    monkeypatch.setattr(blas, "_openblas", lambda: ["libnowhere.so", something])
    find_blas.cache_clear()
    with pytest.raises(EnvironmentProblem, match="looked for libnowhere.so"):
        cp.compile(energy(3, 4, 5), wrt=["x"], blas="openblas")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    find_blas.cache_clear()


def test_the_width_of_integers(library: str, tmp_path: Path) -> None:
    """By the suffix of the functions, or by what the library says of itself."""
    assert not find_blas(library).wide
    source = tmp_path / "wide.c"
    source.write_text(
        "void cblas_dgemm(void) {}\nvoid cblas_sgemm(void) {}\n"
        'char *openblas_get_config(void) { return "OpenBLAS 0.3.26 USE64BITINT DYNAMIC_ARCH"; }\n'
    )
    target = tmp_path / "libwide.so"
    subprocess.run([find_compiler().path, "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    found = find_blas(str(target))
    assert found.wide and found.threads is None


# What a user sees


def test_compile(tmp_path: Path) -> None:
    side = 1480
    assert side * side >= LEAST_BLAS["float64"]
    model = energy(side, side, 16)
    own, est = (cp.compile(model, wrt=["x"], programs=(), blas=name) for name in ("", "openblas"))
    arrays = data(ROWS, side, side, 16)
    found = est.gradient(**arrays)["x"]
    assert np.allclose(found, gradient(arrays), rtol=1e-12, atol=1e-12)
    assert np.allclose(found, own.gradient(**arrays)["x"], rtol=1e-12, atol=1e-12)
    label = est.loaded("gradient").backend.label
    assert "large products by openblas: not the bits of other machines" in label
    assert "openblas" not in own.loaded("gradient").backend.label
    assert np.array_equal(est.bind("gradient", **arrays)()["x"], found)
    lines = est.show("gradient").split("large products\n")[1].split("stages\n")[0].splitlines()
    assert len(lines) == 2 and all("by openblas: 1480 x 1480 multiplications a row, at least the" in t for t in lines)
    assert "1480 x 1480 multiplications a row; blas='openblas' would take it" in own.show("gradient")
    assert "energy_blas *blas" in est.source(("gradient",))["energy.h"]
    assert "blas" not in own.source(("gradient",))["energy.h"]
    with pytest.raises(RequestError, match="a bundle computes all products by loops of its own"):
        cp.bundle(est, tmp_path / "bundle", programs=("gradient",))
    assert not (tmp_path / "bundle").exists()


def test_small_products_are_not_worth_a_word() -> None:
    est = cp.compile(energy(17, HIDDEN, OUT), wrt=["x"], programs=("gradient",), blas="openblas")
    assert "openblas" not in est.loaded("gradient").backend.label
    assert "large products" not in est.show("gradient")


def test_wrong_requests() -> None:
    with pytest.raises(RequestError, match="blas='cublas' is for target='cuda': for target='cpu' name 'openblas'"):
        cp.compile(energy(3, 4, 5), wrt=["x"], blas="cublas")
    with pytest.raises(RequestError, match="blas='openblas' is for target='cpu': for target='cuda' name 'cublas'"):
        cp.compile(energy(3, 4, 5), wrt=["x"], blas="openblas", target="cuda")
    with pytest.raises(RequestError, match="blas='openblas' is for compiled programs"):
        cp.compile(energy(3, 4, 5), wrt=["x"], blas="openblas", backend="interpreter")
