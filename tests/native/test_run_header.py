"""The driver of generated C on its own: a program written by hand, run by templates/runtime/cpgen_run.h."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cpgen.emit.arguments import CODES, FIRST_ARRAY, LARGEST, MOST_THREADS
from cpgen.emit.runtime import header, real_names
from cpgen.emit.views import BARRIERS, SERIAL_BELOW

GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="no gcc")

# y[n] = 2*x[n] + c, total = sum of y, spread[k] = k*total: a program with each phase, tiles of four rows and columns
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>

typedef struct args {
    const cpgen_real *x; /* (n_rows) */
    const cpgen_real *c; /* () */
    cpgen_real *y; /* (n_rows) */
    cpgen_real *total; /* () */
    cpgen_real *spread; /* (columns) */
    int32_t accumulate;
} args;
enum { BAD_X = -16, BAD_C = -17, WIDE = 4, ROWS = 1000 };

static void clear(const cpgen_frame *f)
{
    const args *const a = f->args;
    cpgen_start(a->total, 1, 0, a->accumulate);
}
static void setup(const cpgen_frame *f)
{
    const args *const a = f->args;
    OMP_SINGLE
    {
        f->work[0] = *a->c;
    }
}
static void tile(cpgen_frame *f)
{
    const args *const a = f->args;
    for (ptrdiff_t lane = 0; lane < WIDE; ++lane) {
        const ptrdiff_t row = lane < f->lanes ? lane : f->lanes - 1;
        f->tile[lane] = 2 * a->x[f->begin + f->row + row] + f->work[0];
    }
    f->col = 0;
    for (; cpgen_columns_left(f); f->col += f->beside) {
        if (f->used < f->lanes || f->used > f->filled || f->filled > WIDE) {
            abort();
        }
    }
    for (ptrdiff_t lane = 0; lane < f->lanes; ++lane) {
        f->rows[f->row + lane] = f->tile[lane];
        a->y[f->begin + f->row + lane] = f->tile[lane];
    }
}
static void sums(const cpgen_frame *f)
{
    const args *const a = f->args;
    OMP_SINGLE_NOWAIT
    {
        for (ptrdiff_t row = 0; row < f->count; ++row) {
            *a->total += f->rows[row];
        }
    }
}
static void finish(const cpgen_frame *f)
{
    const args *const a = f->args;
    OMP_FOR
    for (ptrdiff_t col = 0; col < f->columns; ++col) {
        a->spread[col] = (cpgen_real)col * *a->total;
    }
}

static const cpgen_array arrays[] = {
    {offsetof(args, x), 1U, 1U, 0U, BAD_X}, {offsetof(args, c), 1U, 0U, 0U, BAD_C},
    {offsetof(args, y), 1U, 1U, 0U, cpgen_bad_outputs}, {offsetof(args, total), 1U, 0U, 0U, cpgen_bad_outputs},
    {offsetof(args, spread), 1U, 0U, 1U, cpgen_bad_outputs}};
static const cpgen_program program = {.arrays = arrays, .n_arrays = 5U, .work = {1U, 0U}, .tile = {1U, 0U},
    .rows = {1U, 0U}, .alignment = 64U, .lanes = WIDE, .beside = 1, .chunk_tiles = 2, .barriers = 2,
    .chunk_barriers = 2, .shared = {0, 1, 1, 0}, .tiles = {0, 2, 0, 0}, .least_columns = 1, .whole = 5, .unit = 0,
    .clear = clear, .setup = setup, .rows_of_tile = tile, .sums = sums, .finish = finish};

static int32_t run(const args *a, cpgen_call call, void *work, size_t bytes)
{
    cpgen_frame frame;
    int32_t status = cpgen_begin(&program, a, &call, work, bytes, &frame);
    if (status == cpgen_ok) {
        OMP_TEAM(program)
        status = cpgen_end(arrays, 5U, a, call.n_rows, call.columns);
    }
    return status;
}

#define EXPECT(test) if (!(test)) { printf("line %d: %s\n", __LINE__, #test); return 1; }

int main(void)
{
    static cpgen_real x[ROWS + 1], y[ROWS], spread[8];
    static unsigned char memory[1 << 16];
    cpgen_real total = 0, c = 1;
    const cpgen_call good = {.n_rows = ROWS, .columns = 3, .threads = 3};
    args a = {x, &c, y, &total, spread, 0};
    for (int k = 0; k < ROWS; ++k) {
        x[k] = (cpgen_real)(k % 7);
    }
    for (int32_t threads = 1; threads <= 5; ++threads) {
        for (int64_t rows = 0; rows < 40; ++rows) {
            for (int64_t columns = 1; columns < 8; ++columns) {
                const cpgen_call call = {.n_rows = rows, .columns = columns, .threads = threads};
                const size_t bytes = cpgen_workspace_bytes(&program, rows, columns, threads);
                unsigned char *const own = malloc(bytes + 1U); /* to the byte, for the sanitizer, and not aligned */
                cpgen_real expected = 0;
                y[rows] = -1;
                EXPECT(own != NULL && run(&a, call, own + 1, bytes) == cpgen_ok)
                for (int64_t n = 0; n < rows; ++n) {
                    EXPECT(y[n] == 2 * x[n] + 1)
                    expected += y[n];
                }
                EXPECT(y[rows] == -1 && total == expected && spread[columns - 1] == (cpgen_real)(columns - 1) * expected)
                EXPECT(run(&a, call, own + 1, bytes - 1U) == cpgen_bad_work_bytes)
                free(own);
            }
        }
    }
    total = 100;
    a.accumulate = 1;
    EXPECT(run(&a, (cpgen_call){.n_rows = 1, .columns = 1, .threads = 1}, memory, sizeof memory) == cpgen_ok)
    EXPECT(total == 101)
    a.accumulate = 0;
#define WITH(member, value, status) { cpgen_call call = good; call.member = value; total = 7; \
        EXPECT(run(&a, call, memory, sizeof memory) == status && (status >= 0 || total == 7)) }
    WITH(n_rows, -1, cpgen_bad_n_rows)
    WITH(n_rows, INT64_C(2147483648), cpgen_bad_n_rows)
    WITH(columns, 0, cpgen_bad_columns)
    WITH(columns, INT64_C(2147483648), cpgen_bad_columns)
    WITH(first_row, -1, cpgen_bad_first_row)
    WITH(first_row, INT64_C(0x4000000000000000), cpgen_bad_first_row)
    WITH(first_column, -1, cpgen_bad_first_column)
    WITH(design, 4, cpgen_bad_design)
    WITH(design, 2, cpgen_bad_columns) /* an exact answer takes five */
    WITH(design, 3, cpgen_ok)
    {
        cpgen_call call = good;
        call.design = 2;
        call.columns = 5;
        EXPECT(run(&a, call, memory, sizeof memory) == cpgen_ok)
        call.first_column = 1;
        EXPECT(run(&a, call, memory, sizeof memory) == cpgen_bad_columns)
    }
    WITH(accumulate, 2, cpgen_bad_accumulate)
    WITH(threads, 0, cpgen_bad_threads)
    WITH(threads, 65537, cpgen_bad_threads)
    EXPECT(run(NULL, good, memory, sizeof memory) == cpgen_bad_args)
    EXPECT(run(&a, good, NULL, sizeof memory) == cpgen_bad_work)
    a.x = NULL;
    EXPECT(run(&a, good, memory, sizeof memory) == BAD_X)
    EXPECT(run(&a, (cpgen_call){.columns = 1, .threads = 1}, memory, sizeof memory) == cpgen_ok) /* no rows of it */
    a.x = (const cpgen_real *)(const void *)((const unsigned char *)x + 1);
    EXPECT(run(&a, good, memory, sizeof memory) == BAD_X)
    a.x = x;
    a.c = NULL;
    EXPECT(run(&a, good, memory, sizeof memory) == BAD_C)
    a.c = &c;
    a.y = (cpgen_real *)(void *)((unsigned char *)y + 1);
    EXPECT(run(&a, good, memory, sizeof memory) == cpgen_bad_outputs)
    a.y = y;
    x[17] = (cpgen_real)1e30 * (cpgen_real)1e30 * (cpgen_real)1e300;
    EXPECT(sizeof(cpgen_real) == 8 || run(&a, good, memory, sizeof memory) == cpgen_not_finite)
    EXPECT(cpgen_workspace_bytes(&program, INT64_C(2147483648), 1, 1) == 0U)
    EXPECT(cpgen_workspace_bytes(&program, 40, 1, 1) == (1 + WIDE + 2 * WIDE) * sizeof(cpgen_real) + 64U)
    EXPECT(cpgen_workspace_bytes(&program, -1, 1, 1) == 0U && cpgen_workspace_bytes(&program, 1, 1, 0) == 0U)
    EXPECT(cpgen_size_product(SIZE_MAX / 2U, 3U) == SIZE_MAX && cpgen_size_sum(SIZE_MAX, 1U) == SIZE_MAX)
    EXPECT(cpgen_size_product(7U, 3U) == 21U && cpgen_size_sum(2U, 1U) == 3U && cpgen_arithmetic() == 0)
    return 0;
}
"""


def source(folder: Path, real: str, change: tuple[str, str] = ("", "")) -> Path:
    (folder / "cpgen_run.h").write_text(header("cpgen_run.h").replace(*change))
    names = "".join(f"#define {name} {value}\n" for name, value in real_names(real).items())
    (folder / "main.c").write_text(f'{names}#include "cpgen_run.h"\n{PROGRAM}')
    return folder / "main.c"


def built(path: Path, *flags: str) -> Path:
    # macros in place of a type need the floating types by value; what the program does not call stays out by itself
    strict = "-std=c99 -Wall -Wextra -Wconversion -Wshadow -Werror -Wno-unused-function -ffp-contract=off".split()
    target = path.with_suffix("")
    done = subprocess.run([str(GCC), *strict, *flags, str(path), "-o", str(target)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@needs_gcc
@pytest.mark.parametrize("real", ["float64", "float32"])
@pytest.mark.parametrize(
    "flags",
    [
        ("-O2",),
        ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        ("-O1", "-fopenmp", "-DCPGEN_SERIAL_BELOW=-1.0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ],
    ids=["plain", "sanitized", "team"],
)
def test_a_program_by_hand(flags: tuple[str, ...], real: str, tmp_path: Path) -> None:
    done = subprocess.run([str(built(source(tmp_path, real), *flags))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_gcc
@pytest.mark.parametrize(
    "change",
    [
        ("n_rows > cpgen_most || columns", "columns"),
        ("(size_t)threads * (size_t)p->lanes", "(size_t)p->lanes"),
        ("own.count - row < lanes ? own.count - row : lanes", "lanes"),
        ("f.n_rows - f.begin < f.chunk ? f.n_rows - f.begin : f.chunk", "f.chunk"),
        ("out != NULL && accumulate == 0", "out != NULL"),
        ("call->first_column == 0", "1"),
        ("call->design == 2", "call->design == 1"),
        ("past == 0U ? 0U : alignment - past", "0U"),
        ("call->columns >= p->least_columns", "1"),
        ("p->setup(&f);", ""),
        ("(tiles < most ? tiles : most)", "tiles"),
        ("lanes / own.lanes", "lanes"),
    ],
)
def test_a_fault_would_be_seen(change: tuple[str, str], tmp_path: Path) -> None:
    right = header("cpgen_run.h")
    assert change[0] in right
    path = source(tmp_path, "float64", change)
    flags = "-std=c99 -w -O0 -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all".split()
    done = subprocess.run([str(GCC), *flags, str(path), "-o", str(tmp_path / "main")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([str(tmp_path / "main")], capture_output=True).returncode != 0


def test_python_and_c_have_the_same_numbers() -> None:
    text = header("cpgen_run.h")
    found = {name: int(code) for name, code in re.findall(r"cpgen_bad_(\w+) = (-\d+)", text)}
    assert found == {name: code for name, code in CODES.items() if name != "blas"}
    assert min(CODES.values()) > FIRST_ARRAY
    assert f"cpgen_most = {LARGEST}, cpgen_most_threads = {MOST_THREADS}" in text
    assert float(re.search(r"define CPGEN_SERIAL_BELOW (\S+)", text)[1]) == SERIAL_BELOW  # type: ignore[index]
    assert int(re.search(r"define CPGEN_BARRIERS (\d+)", text)[1]) == BARRIERS  # type: ignore[index]
