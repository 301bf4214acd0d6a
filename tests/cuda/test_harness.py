"""The host shim for .cu text: right results in every order of threads, and each planted fault noticed.

Other tests rely on the shim to find what is wrong with generated kernels, so these fail when it does not notice. The
kernels and their faults are in shim/kernels.cu; expected results are computed here, from exactly representable numbers.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.short import cases

SHIM = Path(__file__).parent / "shim"
ORDERS = ("fwd", "rev", "1", "2")
COMPILE = [
    "-std=c++17",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Werror",
    "-ffp-contract=off",
    "-x",
    "c++",
]
ADDRESS = ["-fsanitize=address", "-fsanitize-sections=cpgen_shared"]
THREAD = ["-fsanitize=thread"]


def given(i: int) -> float:
    """Element i of every input array: a multiple of 1/8, so that sums and products are exact."""
    return (i * 37 % 101 - 50) / 8


def expected(case: str) -> list[float]:
    """The results of a case, in the order in which it prints them."""
    if case == "elementwise":
        return [given(i) ** 2 + 1 for i in range(1000)]
    if case in ("block_sum", "tree_sum"):
        return [math.fsum(given(i) for i in range(256 * b, min(256 * b + 256, 1000))) for b in range(4)]
    if case == "matrix_product":
        rows, inner, columns = 37, 50, 21
        return [
            math.fsum(given(i * inner + k) * given(k * columns + j) for k in range(inner))
            for i in range(rows)
            for j in range(columns)
        ]
    if case == "warps":
        return [warp_result(t % 32) for t in range(96)]
    if case == "reverse":
        return [given(99 - t) for t in range(100)]
    if case == "neighbours":
        return [2.0 + t // 32 * 32 + (t + 1) % 32 for t in range(64)]
    if case == "silent_race":
        return [1.0] * 64
    assert case == "many"
    return [math.fsum(given(i) ** 2 + 1 for i in range(1024 * b, 1024 * b + 1024)) for b in range(8)]


def warp_result(lane: int) -> float:
    """What kernel `warps` adds up for a lane, from the definition of each operation."""
    anywhere = lane // 8 * 8 + (lane + 9) % 8
    up = lane if lane % 16 < 3 else lane - 3
    down = lane if lane % 4 >= 2 else lane + 2
    return 528.0 + 1e3 * anywhere + 1e5 * up + 1e7 * down + 1e9 * (5 if lane < 16 else 21)


CASES = "elementwise block_sum tree_sum matrix_product warps reverse neighbours silent_race many".split()


class Program:
    """shim/kernels.cu compiled with some sanitizer; `run` is one process."""

    def __init__(self, path: Path, prefix: list[str]) -> None:
        self.command = [*prefix, str(path)]

    def run(self, *words: str, order: str = "fwd", **environment: str) -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ,
            "CPGEN_SHIM_ORDER": order,
            "ASAN_OPTIONS": "detect_leaks=0",
            "TSAN_OPTIONS": "exitcode=66:atexit_sleep_ms=0",
            **environment,
        }
        return subprocess.run([*self.command, *words], env=env, capture_output=True, text=True, timeout=120)

    def results(self, *words: str, order: str = "fwd") -> list[float]:
        done = self.run(*words, order=order)
        assert done.returncode == 0, done.stderr
        first, *rest = done.stdout.splitlines()
        assert first == "launch: no error"
        return [float.fromhex(line) for line in rest]


def attempt(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def build(folder: Path, flags: list[str]) -> Program:
    """Compiles the kernels; skips, with the reason, where g++ or the sanitizer's library is missing or does not start."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    probe, program = folder / "probe.cpp", folder / "kernels"
    probe.write_text("int main() { return 0; }\n")
    linked = attempt([compiler, *flags, str(probe), "-o", str(folder / "probe")])
    if linked.returncode:
        pytest.skip(f"g++ cannot link a program with {flags[0]}: {linked.stderr.strip().splitlines()[-1]}")
    prefix: list[str] = []
    if attempt([str(folder / "probe")]).returncode:
        prefix = [
            "setarch",
            os.uname().machine,
            "-R",
        ]  # random addresses may lie where ThreadSanitizer has its own
        if not shutil.which("setarch") or attempt([*prefix, str(folder / "probe")]).returncode:
            pytest.skip(f"a program built with {flags[0]} does not start here")
    command = [compiler, *COMPILE, *flags, "-DCPGEN_CUDA_SHIM", "-I", str(SHIM), str(SHIM / "kernels.cu")]
    done = attempt([*command, "-o", str(program)])
    assert done.returncode == 0, done.stderr
    return Program(program, prefix)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return build(tmp_path_factory.mktemp("plain"), ["-O2"])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return build(tmp_path_factory.mktemp("address"), ADDRESS)


@pytest.fixture(scope="module")
def thread(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return build(tmp_path_factory.mktemp("thread"), THREAD)


@pytest.mark.parametrize("order", cases(ORDERS, ["rev", "1"]))
@pytest.mark.parametrize("case", CASES)
def test_results(plain: Program, case: str, order: str) -> None:
    assert plain.results(case, order=order) == expected(case)


@pytest.mark.parametrize("order", cases(ORDERS, ["rev", "1"]))
@pytest.mark.parametrize("case", CASES)
def test_results_within_bounds(address: Program, case: str, order: str) -> None:
    assert address.results(case, order=order) == expected(case)


@pytest.mark.parametrize("order", ["fwd", "2"])
@pytest.mark.parametrize("case", [case for case in CASES if case != "many"])
def test_results_without_races(thread: Program, case: str, order: str) -> None:
    assert thread.results(case, order=order) == expected(case)


def test_orders(plain: Program) -> None:
    """Threads and blocks run one after another, backwards, or shuffled: by the seed alone, blocks as a whole."""
    forward = [float(t) for t in range(120)]
    assert plain.results("turns", order="fwd") == plain.results("turns", order="") == forward
    assert plain.results("turns", order="rev") == forward[::-1]
    shuffles = [plain.results("turns", order=str(seed)) for seed in range(6)]
    assert all(sorted(turns) == forward and turns != forward for turns in shuffles)
    assert len({tuple(turns) for turns in shuffles}) == 6
    assert len({tuple(turns[at] // 40 for at in (0, 40, 80)) for turns in shuffles}) > 1
    assert all(len({t // 40 for t in turns[at : at + 40]}) == 1 for turns in shuffles for at in (0, 40, 80))
    assert plain.results("turns", order="3") == shuffles[3]


def test_fibres_of_the_c_library(tmp_path: Path) -> None:
    """The portable way of switching stacks, for processors without one of the shim's own."""
    program = build(tmp_path, ["-DCPGEN_SHIM_UCONTEXT"])
    for case in ("tree_sum", "warps"):
        assert program.results(case, order="1") == expected(case)


BARRIERS = [
    ("block_sum", "MISSING_BARRIER"),
    ("tree_sum", "MISSING_BARRIER"),
    ("matrix_product", "MISSING_BARRIER"),
    ("matrix_product", "MISSING_LAST_BARRIER"),
    ("reverse", "MISSING_BARRIER"),
    ("neighbours", "MISSING_WARP_BARRIER"),
]
UNSEEN_BY_ORDERS = [("silent_race", "MISSING_BARRIER"), ("neighbours", "VOTE_AS_BARRIER")]


@pytest.mark.parametrize("case, fault", BARRIERS)
def test_missing_barrier_changes_a_result(plain: Program, case: str, fault: str) -> None:
    results = {order: plain.results(case, fault, order=order) for order in ("fwd", "rev")}
    assert any(result != expected(case) for result in results.values())


@pytest.mark.parametrize("order", cases(ORDERS, ["rev", "1"]))
@pytest.mark.parametrize("case, fault", [*BARRIERS, *UNSEEN_BY_ORDERS])
def test_missing_barrier_is_a_race_in_every_order(thread: Program, case: str, fault: str, order: str) -> None:
    done = thread.run(case, fault, order=order)
    assert done.returncode == 66
    assert "ThreadSanitizer: data race" in done.stderr
    assert f"in {case}" in done.stderr


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case, fault", UNSEEN_BY_ORDERS)
def test_race_that_no_order_shows(plain: Program, case: str, fault: str, order: str) -> None:
    """Why ThreadSanitizer is needed beside the orders."""
    assert plain.results(case, fault, order=order) == expected(case)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "case, fault, kind",
    [
        ("elementwise", "GLOBAL_BOUND", "heap-buffer-overflow"),
        ("elementwise", "GLOBAL_READ_BOUND", "heap-buffer-overflow"),
        ("tree_sum", "SHARED_BOUND", "heap-buffer-overflow"),
        ("block_sum", "STATIC_BOUND", "global-buffer-overflow"),
    ],
)
def test_out_of_bounds(address: Program, case: str, fault: str, kind: str, order: str) -> None:
    done = address.run(case, fault, order=order)
    assert done.returncode != 0
    assert f"AddressSanitizer: {kind}" in done.stderr
    assert f"in {case}" in done.stderr


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "case, fault, message",
    [
        (
            "reverse",
            "DIVERGENT_ENDED",
            "divergent barrier: part of the block waits at __syncthreads, the rest has ended",
        ),
        (
            "reverse",
            "DIVERGENT_BRANCHES",
            "divergent barrier: the threads of the block wait at different __syncthreads",
        ),
        ("warps", "MASK_WITHOUT_CALLER", "the calling lane is not in its mask"),
        ("warps", "MASKS_DIFFER", "the masks of its lanes differ"),
        ("warps", "OPERATIONS_DIFFER", "its lanes are at different operations"),
        ("warps", "WARP_DEADLOCK", "deadlock: a warp operation waits for lanes that wait at a barrier"),
    ],
)
def test_divergence(plain: Program, case: str, fault: str, message: str, order: str) -> None:
    done = plain.run(case, fault, order=order)
    assert done.returncode < 0  # aborted
    assert message in done.stderr
    assert f"kernel {case}, block (0, 0, 0)" in done.stderr
    assert "kernels.cu:" in done.stderr


def test_who_waits_where(plain: Program) -> None:
    lines = plain.run("reverse", "DIVERGENT_ENDED").stderr.splitlines()
    assert lines[2].startswith("  at __syncthreads, ") and lines[2].endswith(": threads 0-99")
    assert lines[3] == "  ended: threads 100-127"


@pytest.mark.parametrize("order", ORDERS)
def test_uninitialised_memory_is_not_a_number(plain: Program, order: str) -> None:
    assert all(math.isnan(part) for part in plain.results("tree_sum", "UNINITIALISED", order=order))
    fresh = plain.results("elementwise", "FRESH_MEMORY", order=order)
    assert all(math.isnan(y) for y in fresh[:32])
    assert fresh[32:] == expected("elementwise")[32:]


@pytest.mark.parametrize("order", ORDERS)
def test_lane_outside_the_mask_is_not_a_number(plain: Program, order: str) -> None:
    assert all(math.isnan(y) for y in plain.results("warps", "SOURCE_OUTSIDE", order=order))


def test_static_shared_memory_is_filled_for_each_block(plain: Program) -> None:
    assert all(math.isnan(part) for part in plain.results("block_sum", "MISSING_BARRIER", order="fwd"))


def test_refused_launches(plain: Program) -> None:
    invalid = "invalid configuration argument"
    assert plain.run("refusals").stdout.splitlines() == [
        f"1025 threads: {invalid}",
        "afterwards: no error",
        f"no blocks: {invalid}",
        f"no threads: {invalid}",
        f"65536 blocks in y: {invalid}",
        f"65 threads in z: {invalid}",
        f"50000 bytes: {invalid}",
        "50000 bytes with the attribute: no error",
        "300000 bytes: invalid argument",
    ]


def test_counters(plain: Program) -> None:
    """Lets a test show that a function enqueues its work and does nothing else."""
    expected_counts = ["launches 1", "blocks 3", "allocations 0", "synchronisations 1"]
    assert plain.run("counters").stdout.splitlines() == expected_counts


@pytest.mark.parametrize("kind", ["plain", "address"])  # ThreadSanitizer keeps memory of its own for each fibre
def test_stacks_are_given_back(kind: str, request: pytest.FixtureRequest) -> None:
    """1,024 threads had a stack and a guard page each; a process that loads many libraries would run out of mappings."""
    program: Program = request.getfixturevalue(kind)
    before, after = (int(line.split()[1]) for line in program.run("mappings").stdout.splitlines()[1:])
    assert before > 0 and abs(after - before) < 64


def test_unknown_order(plain: Program) -> None:
    done = plain.run("reverse", order="backwards")
    assert done.returncode < 0
    assert "CPGEN_SHIM_ORDER must be fwd, rev or a number" in done.stderr


def test_the_kernels_are_cuda(tmp_path: Path) -> None:
    """The text that the shim runs is what nvcc accepts without a warning."""
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("needs nvcc")
    flags = ["-std=c++17", "-arch=sm_80", "-Werror", "all-warnings", "--fmad=false", "-cubin"]
    command = [compiler, *flags, "-o", str(tmp_path / "kernels.cubin"), str(SHIM / "kernels.cu")]
    done = attempt(command)
    assert done.returncode == 0, done.stdout + done.stderr
