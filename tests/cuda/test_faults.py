"""Faults planted in the generated text: the harness must notice each of them, and must have nothing to say without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cpgen as cp
from cpgen.emit.cuda import emit_cuda
from cpgen.loops.device import device_plan
from cpgen.loops.schedule import Schedule
from tests.catalogue import CATALOGUE
from tests.cuda.conftest import SHIM, shim_compiler

MODEL = "mlp_tanh"
ORDERS = ("fwd", "rev", "3")

MAIN = """
#include <stdio.h>
#include <stdlib.h>
static double *array(size_t count, double start)
{
    double *host = (double *)malloc(count * sizeof(double)), *place = nullptr;
    for (size_t k = 0; k < count; ++k) { host[k] = start + 0.01 * (double)(k % 17); }
    cudaMalloc(&place, count * sizeof(double));
    cudaMemcpy(place, host, count * sizeof(double), cudaMemcpyHostToDevice);
    free(host);
    return place;
}
int main()
{
    NAME_args args = {};
    double *outputs[32];
    size_t sizes[32];
    int count = 0;
FILL
    args.n_rows = ROWS; args.columns = 5; args.seed = 1; args.design = 1; args.threads = 1;
SCALES
    const size_t bytes = NAME_workspace_bytes_cuda(ROWS, 5);
    void *work = nullptr;
    cudaMalloc(&work, bytes);
    if (NAME_run_cuda(&args, work, bytes, nullptr) != 0 || cudaDeviceSynchronize() != cudaSuccess) { return 3; }
    for (int k = 0; k < count; ++k) {
        for (size_t e = 0; e < sizes[k]; ++e) { printf("%a\\n", outputs[k][e]); }
    }
    return 0;
}
"""


def program(folder: Path, edit: tuple[str, str] | None, *flags: str, schedule: Schedule | None = None) -> Path:
    """The diagonal of the model over 40 rows (two tiles, one of them ragged), with one edit of its text."""
    entry = CATALOGUE[MODEL]
    est = cp.compile(entry.build(), wrt=list(entry.wrt), backend="interpreter", programs=())
    plan = device_plan(est.derive("diagonal").program, "float64", schedule)
    files = emit_cuda(est.graph.name, [plan], "float64")
    text = files.source
    if edit is not None:
        assert re.search(edit[0], text), edit[0]
        text = re.sub(edit[0], edit[1], text, count=1)
    view = files.programs[0].program
    fill, scales = [], []
    for field in files.programs[0].fields:
        shape = re.search(r"\(([^()]*)\)", field.comment)
        extents = (shape[1] if shape else "").replace("n_rows", "40").replace("columns", "5").split(", ")
        total = " * ".join(e for e in extents if e) or "1"
        if field.declaration.startswith("const double *"):
            fill.append(f"    args.{field.name} = array({total}, 0.2);")
        elif field.declaration.startswith("double *"):
            fill.append(f"    args.{field.name} = outputs[count] = array({total}, 0); sizes[count++] = {total};")
        elif field.declaration.startswith("double "):
            scales.append(f"    args.{field.name} = 0.25;")
    main = MAIN.replace("NAME", view.name).replace("FILL", "\n".join(fill)).replace("SCALES", "\n".join(scales))
    (folder / f"{files.name}.cuh").write_text(files.header)
    source = folder / "faulty.cu"
    source.write_text(text + main.replace("ROWS", "40"))
    target = folder / "faulty"
    compiler = shim_compiler()
    command = [compiler.path, "-std=c++17", "-O1", "-g", "-ffp-contract=off", *flags, "-x", "c++", "-DCPGEN_CUDA_SHIM"]
    subprocess.run([*command, f"-I{SHIM}", f"-I{folder}", str(source), "-o", str(target)], check=True)
    return target


def run(target: Path, order: str) -> tuple[int, str]:
    extra = {"CPGEN_SHIM_ORDER": order, "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "exitcode=66:atexit_sleep_ms=0"}
    done = subprocess.run([str(target)], capture_output=True, text=True, env={**os.environ, **extra}, timeout=120)
    return done.returncode, done.stdout or done.stderr


ADDRESS = ("-fsanitize=address", "-fsanitize-sections=cpgen_shared")
THREAD = ("-fsanitize=thread",)


# products as kernels of their own, with panels that the model's extents do not fill
SPLIT = Schedule(products=1, columns=2, least_panel=1, panel=16, depth=2, down=4, across=8)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the text prints as it is, in every order and under both sanitizers."""
    answers = set()
    for flags in ((), ADDRESS, THREAD):
        for schedule in (None, SPLIT):
            target = program(tmp_path_factory.mktemp("sound"), None, *flags, schedule=schedule)
            for order in ORDERS:
                status, text = run(target, order)
                assert status == 0
                answers.add(text)
    assert len(answers) == 1 and "nan" not in next(iter(answers))
    return answers.pop()


def test_the_sound_text_passes(sound: str) -> None:
    assert sound.count("\n") > 20


def test_a_missing_barrier_is_noticed(sound: str, tmp_path: Path) -> None:
    """After the rows are loaded, which all workers do, and which all of them then read."""
    edit = (r"(diagonal_load_x\(f\);\n\s+)__syncthreads\(\);", r"\1")
    target = program(tmp_path, edit, *THREAD)
    assert any(run(target, order)[0] == 66 for order in ORDERS)


LOADED = r"column\[\(first \+ j\) \* p\.values_pitch\];\n\s+\}\n\s+"  # the end of what precedes the sums of a product
STORED = r"\n\s+\}\n\s+for \(int lane = 0; lane < 2; \+\+lane\) \{\n\s+const ptrdiff_t place"  # and what follows them
MADE = r"terms\[[^\n]*\] = [^\n]*\n\s+\}\n(?:\s+\}\n)?\s+"
ADDED = r"sum \+= terms\[[^\n]*\n\s+\}\n\s+\}\n\s+"
TURNED = r"turned\[lane \* 33 \+ at\] = [^\n]*(?:\n\s+\})+\n\s+"
BARRIER = r"__syncthreads\(\);"
DRAWN = r"diagonal_draw_\w+<COLS>\(f\);\n\s+"


@pytest.mark.parametrize(
    ("schedule", "edit"),
    [
        (SPLIT, (f"({LOADED}){BARRIER}", r"\1")),
        pytest.param(SPLIT, (f"{BARRIER}({STORED})", r"\1"), marks=pytest.mark.slow),
        pytest.param(SPLIT, (f"({DRAWN}){BARRIER}", r"\1"), marks=pytest.mark.slow),
        (None, (f"({DRAWN}){BARRIER}", r"\1")),
        pytest.param(SPLIT, (f"({TURNED}){BARRIER}", r"\1"), marks=pytest.mark.slow),
        pytest.param(None, (f"({MADE}){BARRIER}", r"\1"), marks=pytest.mark.slow),
        pytest.param(None, (f"({ADDED}){BARRIER}", r"\1"), marks=pytest.mark.slow),
    ],
    ids=["product before", "product after", "columns, split", "columns", "turned", "terms before", "terms after"],
)
def test_a_missing_barrier_is_noticed_in_every_kernel(
    schedule: Schedule | None, edit: tuple[str, str], sound: str, tmp_path: Path
) -> None:
    # few terms at a time, so that what follows the second barrier is reached
    schedule = schedule or Schedule(columns=2, terms=32)
    target = program(tmp_path, edit, *THREAD, schedule=schedule)
    assert any(run(target, order)[0] == 66 for order in ORDERS)


@pytest.mark.parametrize(
    ("schedule", "edit"),
    [
        (SPLIT, (r"j < left && i_first \+ i < p\.outs", "j <= left && i_first + i <= p.outs")),
        (SPLIT, (r"const ptrdiff_t wide = p\.rows \* p\.cols,", "const ptrdiff_t wide = p.rows * p.cols + 4096,")),
        (SPLIT, (r"(_THREADS, )\d+ \* sizeof\(double\)", r"\1 32 * sizeof(double)")),
        (SPLIT, (r"if \(item < (\d+)\) \{(\n\s+for \(ptrdiff_t at)", r"if (item <= \1) {\2")),
        (None, (r"const bool owner = (.*) && item < (\d+);", r"const bool owner = \1 && item <= \2;")),
    ],
    ids=["weights", "rows", "shared memory", "turned", "owner"],
)
def test_an_index_past_the_end_is_noticed_in_every_kernel(
    schedule: Schedule | None, edit: tuple[str, str], sound: str, tmp_path: Path
) -> None:
    target = program(tmp_path, edit, *ADDRESS, schedule=schedule)
    assert all(run(target, order)[0] not in (0, 3) for order in ORDERS)


@pytest.mark.parametrize(
    ("schedule", "edit"),
    [
        (SPLIT, (f"({LOADED})({BARRIER})", r"\1if (threadIdx.x != 5) \2")),
        (None, (r"(sum \+= terms\[[^\n]*\n\s+\}\n)(\s+\})(\n\s+__syncthreads\(\);)", r"\1 \3 \2")),
    ],
    ids=["product", "terms"],
)
def test_a_divergent_barrier_is_noticed_in_every_kernel(
    schedule: Schedule | None, edit: tuple[str, str], sound: str, tmp_path: Path
) -> None:
    target = program(tmp_path, edit, schedule=schedule)
    assert all(run(target, order)[0] not in (0, 3) for order in ORDERS)


def test_an_index_past_the_end_is_noticed(sound: str, tmp_path: Path) -> None:
    edit = (r"item < count; item \+= ITEMS", "item <= count; item += ITEMS")
    target = program(tmp_path, edit, *ADDRESS)
    assert all(run(target, order)[0] not in (0, 3) for order in ORDERS)


def test_a_tile_too_small_is_noticed(sound: str, tmp_path: Path) -> None:
    """Shared memory one row of numbers short."""
    edit = (r"on_chip = in_shared \? tile_bytes : 0U;", "on_chip = in_shared ? tile_bytes - 256U : 0U;")
    target = program(tmp_path, edit, *ADDRESS)
    assert any(run(target, order)[0] not in (0, 3) for order in ORDERS)


def test_a_barrier_that_some_threads_miss_is_noticed(sound: str, tmp_path: Path) -> None:
    edit = (r"(diagonal_compute_s\(f\);\n\s+)__syncthreads\(\);", r"\1if (threadIdx.x != 5) { __syncthreads(); }")
    target = program(tmp_path, edit)
    assert all(run(target, order)[0] not in (0, 3) for order in ORDERS)


def test_memory_that_nobody_wrote_is_noticed(sound: str, tmp_path: Path) -> None:
    """A stage left out: what it should have written is NaN, not an old number."""
    edit = (r"diagonal_load_x\(f\);\n\s+__syncthreads\(\);", "")
    status, text = run(program(tmp_path, edit), "fwd")
    assert status == 0 and "nan" in text


if sys.platform != "linux":
    pytestmark = pytest.mark.skip("the shim is for Linux")
