/* SPDX-License-Identifier: CC0-1.0
 * How a program made by cpgen is run: its arguments checked, its memory laid out, its rows in chunks
 * and tiles, its threads. All numbers are of the type cpgen_real.
 */
#ifndef CPGEN_RUN_H
#define CPGEN_RUN_H

#if defined(__GNUC__) && !defined(__clang__) && (defined(_OPENMP) || defined(CPGEN_OPENMP_SIMD))
/* GCC 12 drops stores to an array of which a simd loop reads a[t][t] alone. */
#pragma GCC optimize("no-tree-dse")
#endif

#include <float.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What the numbers rely on. None of it can be had back later, so each is an error here. */
#if defined(__FAST_MATH__) || defined(_M_FP_FAST) \
    || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0) || defined(__ASSOCIATIVE_MATH__) \
    || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "this file relies on IEEE arithmetic: compile it without -ffast-math, its parts \
(-fassociative-math, -ffinite-math-only, ...) and /fp:fast"
#endif
#if CPGEN_REAL_MANT_DIG != CPGEN_REAL_DIGITS || CPGEN_REAL_MAX_EXP != CPGEN_REAL_EXPONENT
#error "this file needs the type cpgen_real as IEEE 754 has it (double on avr-gcc: -mdouble=64)"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 && (FLT_EVAL_METHOD != 1 || CPGEN_REAL_DIGITS < 53)
#error "this compiler computes in more digits than the type has: on x86 compile with -msse2 -mfpmath=sse"
#endif
#if INT_MAX < 2147483647 || PTRDIFF_MAX < 2147483647 || SIZE_MAX < 4294967295
#error "this file needs int, ptrdiff_t and size_t of 32 bits: its positions do not fit into 16"
#endif
#ifndef CPGEN_FUSED
#define CPGEN_FUSED 0 /* 1: multiplications and additions may be joined, which changes bits */
#endif
/* Joined multiplications and additions (one rounding in place of two): told to clang, not to be had from
 * MSVC, and left out by GCC under -std=c99. In its GNU modes GCC joins them where the processor can, and no
 * macro tells whether -ffp-contract=off was given. */
#if !CPGEN_FUSED
#if defined(_M_FP_CONTRACT)
#error "this compiler joins multiplications and additions: compile with /fp:precise and without /fp:contract"
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && !defined(__STRICT_ANSI__) && (defined(__FP_FAST_FMA) || defined(__FP_FAST_FMAF)) \
    && !defined(CPGEN_CONTRACT_OFF)
#error "GCC joins operations in GNU modes: -std=c99, or -ffp-contract=off and -DCPGEN_CONTRACT_OFF"
#endif
#endif

/* Functions with many callers; copies of them in every place would only take time to compile. */
#ifdef __GNUC__
#define SHARED static __attribute__((noinline))
#else
#define SHARED static
#endif

/* Stages stay functions of their own: the stack then holds one at a time. */
#ifdef __GNUC__
#define STAGE static __attribute__((noinline))
#else
#define STAGE static
#endif

/* Small functions that are part of whoever calls them. */
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Lanes of a vector unit. */
#if defined(_OPENMP) || defined(CPGEN_OPENMP_SIMD)
#define OMP_SIMD _Pragma("omp simd")
#else
#define OMP_SIMD
#endif

/* Work sharing between threads. Without OpenMP the program runs on one thread, with the same results. */
#ifdef _OPENMP
#include <omp.h>
#ifndef CPGEN_SERIAL_BELOW
#define CPGEN_SERIAL_BELOW 2e5 /* operations of a call that is not worth a team of threads */
#endif
#define CPGEN_BARRIERS 50 /* that cost as much as to begin with a team */
#ifndef OMP_SHARE
#define OMP_SHARE static /* how loops are handed out; no bit depends on it */
#define OMP_SHARE_SIMD static
#endif
#define OMP_TEXT(...) _Pragma(#__VA_ARGS__)
#define OMP(...) OMP_TEXT(omp __VA_ARGS__)
#define OMP_PARALLEL OMP(parallel num_threads(frame.threads))
#define OMP_FOR OMP(for schedule(OMP_SHARE))
#define OMP_FOR_NOWAIT OMP(for schedule(OMP_SHARE) nowait)
#define OMP_FOR_2 OMP(for schedule(OMP_SHARE) collapse(2))
#define OMP_FOR_2_NOWAIT OMP(for schedule(OMP_SHARE) collapse(2) nowait)
#define OMP_FOR_3 OMP(for schedule(OMP_SHARE) collapse(3))
#define OMP_FOR_3_NOWAIT OMP(for schedule(OMP_SHARE) collapse(3) nowait)
#define OMP_FOR_4 OMP(for schedule(OMP_SHARE) collapse(4))
#define OMP_FOR_4_NOWAIT OMP(for schedule(OMP_SHARE) collapse(4) nowait)
#define OMP_FOR_SIMD OMP(for simd schedule(OMP_SHARE_SIMD))
#define OMP_FOR_SIMD_NOWAIT OMP(for simd schedule(OMP_SHARE_SIMD) nowait)
#define OMP_SINGLE OMP(single)
#define OMP_SINGLE_NOWAIT OMP(single nowait)
#define OMP_BARRIER OMP(barrier)
#define OMP_INDEX omp_get_thread_num()
#else
#define OMP_FOR
#define OMP_FOR_NOWAIT
#define OMP_FOR_2
#define OMP_FOR_2_NOWAIT
#define OMP_FOR_3
#define OMP_FOR_3_NOWAIT
#define OMP_FOR_4
#define OMP_FOR_4_NOWAIT
#define OMP_FOR_SIMD OMP_SIMD
#define OMP_FOR_SIMD_NOWAIT OMP_SIMD
#define OMP_SINGLE
#define OMP_SINGLE_NOWAIT
#define OMP_BARRIER
#define OMP_INDEX 0
#endif

/* What a call returns: 0 and 1 where everything was computed, else what is wrong, and nothing has been
 * written. Arrays that are read have numbers of their own. */
enum cpgen_status {
    cpgen_ok = 0,
    cpgen_not_finite = 1,
    cpgen_bad_args = -1,
    cpgen_bad_n_rows = -2,
    cpgen_bad_columns = -3,
    cpgen_bad_first_row = -4,
    cpgen_bad_first_column = -5,
    cpgen_bad_design = -6,
    cpgen_bad_accumulate = -7,
    cpgen_bad_threads = -8,
    cpgen_bad_work = -9,
    cpgen_bad_work_bytes = -10,
    cpgen_bad_outputs = -11
};

/* An array of a program's arguments. One that is read must be there unless it is empty. */
typedef struct cpgen_array {
    size_t member; /* where in the arguments its address is */
    size_t count; /* numbers, times rows and columns */
    uint8_t by_rows, by_columns;
    int16_t status; /* returned where it is missing or misaligned; that of outputs: it is one */
} cpgen_array;

/* What one thread works on; stages read it. */
typedef struct cpgen_frame {
    const void *args;
    cpgen_real *work; /* values without rows */
    cpgen_real *tile; /* values of one tile of rows: [element][lane] */
    cpgen_real *rows; /* values of a chunk of rows: [row][column][element] */
    ptrdiff_t n_rows, columns;
    size_t tile_size; /* numbers of a tile */
    ptrdiff_t chunk; /* rows in a full chunk */
    ptrdiff_t begin, count; /* first row and rows of this chunk */
    ptrdiff_t row, lanes; /* first row of the tile in the chunk, and its rows */
    ptrdiff_t filled; /* lanes of the groups of a tile that are in use */
    ptrdiff_t col; /* current column */
    ptrdiff_t beside; /* columns from there on that share the lanes, the rows of each side by side */
    ptrdiff_t used; /* lanes that stand for a row and a column, the others repeat them */
    int32_t threads;
} cpgen_frame;

/* Numbers in memory: so many, and so many more for each column. */
typedef struct cpgen_size {
    size_t fixed, column;
} cpgen_size;

/* Operations: once, for each row, for each column, and for each row of each column. */
typedef struct cpgen_cost {
    int64_t once, row, column, both;
} cpgen_cost;

/* A program: its memory, what it costs, and its phases (NULL where it has none). */
typedef struct cpgen_program {
    const cpgen_array *arrays;
    size_t n_arrays;
    cpgen_size work, tile, rows; /* at all, for each lane of a tile, for each row of a chunk */
    size_t alignment; /* bytes; the workspace is that much larger, so that it may begin anywhere */
    int32_t lanes; /* rows in a tile */
    int32_t group; /* lanes whose sums are held at once, 0 for all */
    int32_t beside; /* 1: lanes without a row stand for further columns */
    int32_t chunk_tiles; /* for each thread, between two visits of the sums over rows */
    int32_t barriers, chunk_barriers; /* that threads wait at: once, and for each chunk */
    cpgen_cost shared, tiles; /* operations that threads share, and those of tiles, each one thread's */
    int64_t least_columns, whole; /* the fewest columns, and those of the exact answer (0: any) */
    int32_t unit; /* 1: all columns are those of the exact answer, unless design is 3 */
    void (*clear)(const cpgen_frame *f); /* starts the sums over rows */
    void (*setup)(const cpgen_frame *f);
    void (*rows_of_tile)(cpgen_frame *f);
    void (*sums)(const cpgen_frame *f);
    void (*finish)(const cpgen_frame *f);
} cpgen_program;

/* The numbers that a program is called with, 0 for those that it has no use for. */
typedef struct cpgen_call {
    int64_t n_rows, columns, first_row, first_column;
    int32_t design, accumulate, threads;
} cpgen_call;

enum cpgen_limits { cpgen_most = 2147483647, cpgen_most_threads = 65536 };

/* Of the type of every number, to tell where in memory one may lie. */
typedef struct cpgen_place {
    char before;
    cpgen_real value;
} cpgen_place;

/* Sizes that stay at SIZE_MAX once they are too large. */
static size_t cpgen_size_product(size_t a, size_t b)
{
    const int small = ((a | b) >> (4U * sizeof(size_t))) == 0U; /* the usual case needs no division */
    return !small && b != 0U && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

static size_t cpgen_size_sum(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static size_t cpgen_numbers(cpgen_size size, int64_t columns)
{
    return cpgen_size_sum(size.fixed, cpgen_size_product(size.column, (size_t)columns));
}

/* The address of an array. */
static const cpgen_real *cpgen_address(const void *args, size_t member)
{
    const cpgen_real *place;
    memcpy(&place, (const unsigned char *)args + member, sizeof place);
    return place;
}

/* Whether all arrays are there that must be, and where numbers may lie; else the status of the first
 * that is not. */
CPGEN_DRIVER int32_t cpgen_check(
    const cpgen_array *arrays, size_t count, const void *args, int64_t n_rows)
{
    int32_t status = args == NULL ? cpgen_bad_args : cpgen_ok;
    for (size_t k = 0U; k < count && status == cpgen_ok; ++k) {
        const cpgen_real *const place = cpgen_address(args, arrays[k].member);
        const uintptr_t past = (uintptr_t)(const void *)place % offsetof(cpgen_place, value);
        const int empty = arrays[k].by_rows != 0U && n_rows == 0;
        const int optional = arrays[k].status == cpgen_bad_outputs || empty;
        if ((place == NULL && !optional) || past != 0U) {
            status = arrays[k].status;
        }
    }
    return status;
}

/* Whether all numbers are finite, in a time that does not depend on them. */
static int cpgen_all_finite(const cpgen_real *values, size_t count)
{
    int other = 0;
    for (size_t k = 0U; k < count; ++k) {
        other |= !(values[k] >= -CPGEN_REAL_MAX);
        other |= !(values[k] <= CPGEN_REAL_MAX);
    }
    return other == 0;
}

/* The status of a call that has computed everything. */
CPGEN_DRIVER int32_t cpgen_end(
    const cpgen_array *arrays, size_t count, const void *args, int64_t n_rows, int64_t columns)
{
    int finite = 1;
    for (size_t k = 0U; k < count; ++k) {
        const cpgen_real *const place = cpgen_address(args, arrays[k].member);
        if (arrays[k].status == cpgen_bad_outputs && place != NULL) {
            const size_t rows = arrays[k].by_rows != 0U ? (size_t)n_rows : 1U;
            const size_t each = arrays[k].by_columns != 0U ? (size_t)columns : 1U;
            finite &= cpgen_all_finite(place, rows * each * arrays[k].count);
        }
    }
    return finite ? cpgen_ok : cpgen_not_finite;
}

/* Where numbers may begin in memory of the caller's. */
static cpgen_real *cpgen_aligned(void *work, size_t alignment)
{
    const size_t past = (size_t)((uintptr_t)work % alignment);
    void *const place = (unsigned char *)work + (past == 0U ? 0U : alignment - past);
    return (cpgen_real *)place;
}

/* Whether there is workspace enough. */
static int32_t cpgen_check_work(const void *work, size_t work_bytes, size_t needed)
{
    return work == NULL ? cpgen_bad_work : work_bytes < needed ? cpgen_bad_work_bytes : cpgen_ok;
}

/* Rows between two visits of the sums over rows. */
static ptrdiff_t cpgen_chunk(const cpgen_program *p, int64_t n_rows, int32_t threads)
{
    const int64_t tiles = (n_rows + p->lanes - 1) / p->lanes;
    const int64_t most = (int64_t)threads * p->chunk_tiles;
    return (ptrdiff_t)((tiles < most ? tiles : most) * p->lanes);
}

/* Bytes of workspace of a call; 0 if an argument is out of range. */
static size_t cpgen_workspace_bytes(
    const cpgen_program *p, int64_t n_rows, int64_t columns, int32_t threads)
{
    size_t numbers;
    if (n_rows < 0 || n_rows > cpgen_most || columns < 0 || columns > cpgen_most || threads < 1
        || threads > cpgen_most_threads) {
        return 0U;
    }
    numbers = cpgen_numbers(p->work, columns);
    if (p->rows_of_tile != NULL) {
        const size_t lanes = (size_t)threads * (size_t)p->lanes;
        const size_t rows = (size_t)cpgen_chunk(p, n_rows, threads);
        const size_t tile = cpgen_numbers(p->tile, columns), row = cpgen_numbers(p->rows, columns);
        numbers = cpgen_size_sum(numbers, cpgen_size_product(lanes, tile));
        numbers = cpgen_size_sum(numbers, cpgen_size_product(rows, row));
    }
    return cpgen_size_sum(cpgen_size_product(numbers, sizeof(cpgen_real)), p->alignment);
}

/* Whether the columns are some that the program can be called with. */
static int cpgen_columns_good(const cpgen_program *p, const cpgen_call *call)
{
    const int exact = p->whole > 0 && (p->unit != 0 ? call->design != 3 : call->design == 2);
    return call->columns >= p->least_columns && call->columns <= cpgen_most
        && (!exact || (call->columns == p->whole && call->first_column == 0));
}

/* Whether the numbers are some that the program can be called with; else the status of the first that
 * is not. */
static int32_t cpgen_check_numbers(const cpgen_program *p, const cpgen_call *call)
{
    const int64_t last = INT64_C(0x4000000000000000); /* rows and columns of all calls */
    int32_t status = cpgen_ok;
    if (call->n_rows < 0 || call->n_rows > cpgen_most) {
        status = cpgen_bad_n_rows;
    } else if (!cpgen_columns_good(p, call)) {
        status = cpgen_bad_columns;
    } else if (call->first_row < 0 || call->first_row >= last) {
        status = cpgen_bad_first_row;
    } else if (call->first_column < 0 || call->first_column >= last) {
        status = cpgen_bad_first_column;
    } else if (call->design < 0 || call->design > 3) {
        status = cpgen_bad_design;
    } else if (call->accumulate < 0 || call->accumulate > 1) {
        status = cpgen_bad_accumulate;
    } else if (call->threads < 1 || call->threads > cpgen_most_threads) {
        status = cpgen_bad_threads;
    }
    return status;
}

/* The threads of a call: one where that is sooner done than others have woken up. */
static int32_t cpgen_threads(const cpgen_program *p, const cpgen_call *call)
{
    int32_t threads = call->threads;
#ifdef _OPENMP
    const ptrdiff_t chunk = cpgen_chunk(p, call->n_rows, threads);
    const double chunks = chunk > 0 ? (double)((call->n_rows + chunk - 1) / chunk) : 0.0;
    const double rows = (double)call->n_rows, columns = (double)call->columns;
    const double waits = (double)p->barriers + (double)p->chunk_barriers * chunks;
    double cost = (double)p->shared.once + (double)p->shared.row * rows
        + ((double)p->shared.column + (double)p->shared.both * rows) * columns;
    if (call->n_rows > p->lanes) {
        cost += (double)p->tiles.once + (double)p->tiles.row * rows
            + ((double)p->tiles.column + (double)p->tiles.both * rows) * columns;
    }
    if (cost < (double)CPGEN_SERIAL_BELOW * (1.0 + waits / CPGEN_BARRIERS)) {
        threads = 1;
    }
#else
    (void)p;
#endif
    return threads;
}

/* Check the arguments of a call and lay out its memory. */
CPGEN_DRIVER int32_t cpgen_begin(const cpgen_program *p, const void *args, const cpgen_call *call,
    void *work, size_t work_bytes, cpgen_frame *frame)
{
    const cpgen_frame empty = {0};
    int32_t status = cpgen_check(p->arrays, p->n_arrays, args, call->n_rows);
    *frame = empty;
    if (status == cpgen_ok) {
        status = cpgen_check_numbers(p, call);
    }
    if (status == cpgen_ok) {
        frame->args = args;
        frame->n_rows = (ptrdiff_t)call->n_rows;
        frame->columns = (ptrdiff_t)call->columns;
        frame->threads = cpgen_threads(p, call);
        frame->chunk = cpgen_chunk(p, call->n_rows, frame->threads);
        frame->beside = 1;
        if (p->alignment > 0U) {
            status = cpgen_check_work(work, work_bytes,
                cpgen_workspace_bytes(p, call->n_rows, call->columns, call->threads));
        }
    }
    if (status == cpgen_ok && p->alignment > 0U) {
        frame->work = cpgen_aligned(work, p->alignment);
        frame->tile = frame->work + cpgen_numbers(p->work, call->columns);
        frame->tile_size = (size_t)p->lanes * cpgen_numbers(p->tile, call->columns);
        frame->rows = frame->tile + (size_t)frame->threads * frame->tile_size;
    }
    return status;
}

/* Lanes from `lanes` to `stop`, for which there is nothing, repeat those before; `pitch` numbers lie
 * between two elements. */
SHARED void cpgen_repeat_lanes(
    cpgen_real *values, ptrdiff_t count, ptrdiff_t pitch, ptrdiff_t lanes, ptrdiff_t stop)
{
    for (ptrdiff_t first = 0; first < count * pitch; first += pitch) {
        for (ptrdiff_t lane = lanes; lane < stop; ++lane) {
            values[first + lane] = values[first + lane - lanes];
        }
    }
}

/* Columns side by side: add the term of each lane to the sum of its row, in the order of the columns.
 * The sums lie behind the terms, and after the last column in their place. Lanes up to `stop` repeat
 * them. */
SHARED void cpgen_add_columns(
    const cpgen_frame *f, cpgen_real *terms, ptrdiff_t count, ptrdiff_t pitch, ptrdiff_t stop)
{
    cpgen_real *const sums = terms + count * pitch;
    for (ptrdiff_t first = 0; first < count * pitch; first += pitch) {
        for (ptrdiff_t row = 0; row < f->lanes; ++row) {
            cpgen_real sum = f->col > 0 ? sums[first + row] : (cpgen_real)0;
            for (ptrdiff_t lane = row; lane < f->used; lane += f->lanes) {
                sum += terms[first + lane];
            }
            sums[first + row] = sum;
            terms[first + row] = sum;
        }
    }
    cpgen_repeat_lanes(terms, count, pitch, f->lanes, stop);
}

/* Sums that start at zero. */
INLINE void cpgen_zero(cpgen_real *sums, ptrdiff_t count)
{
    OMP_SIMD
    for (ptrdiff_t k = 0; k < count; ++k) {
        sums[k] = (cpgen_real)0;
    }
}

/* Whether there are columns left; those that share the lanes from the current one on then have theirs. */
static int cpgen_columns_left(cpgen_frame *f)
{
    const ptrdiff_t left = f->columns - f->col;
    f->used = (f->beside < left ? f->beside : left) * f->lanes;
    return left > 0;
}

/* Start the sums of an output, if it is wanted and does not go on. */
SHARED void cpgen_start(cpgen_real *out, ptrdiff_t count, cpgen_real start, int32_t accumulate)
{
    if (out != NULL && accumulate == 0) {
        OMP_FOR_NOWAIT
        for (ptrdiff_t item = 0; item < count; ++item) {
            out[item] = start;
        }
    }
}

/* The tiles of a chunk, dealt out to the threads. */
CPGEN_DRIVER void cpgen_tiles(const cpgen_program *p, const cpgen_frame *f)
{
    const ptrdiff_t lanes = p->lanes, group = p->group;
    cpgen_frame own = *f;
    if (own.tile_size > 0U) {
        own.tile += (size_t)OMP_INDEX * own.tile_size;
    }
    OMP_FOR
    for (ptrdiff_t row = 0; row < f->count; row += lanes) {
        own.row = row;
        own.lanes = own.count - row < lanes ? own.count - row : lanes;
        own.filled = own.lanes;
        own.col = 0;
        /* joined operations would let what a sum is joined with depend on the number of rows */
        if (p->beside != 0 && own.columns > 1 && !CPGEN_FUSED) {
            own.beside = lanes / own.lanes;
            own.filled = own.lanes * (own.beside < own.columns ? own.beside : own.columns);
        }
        if (group > 0) {
            own.filled = (own.filled + group - 1) / group * group;
        }
        p->rows_of_tile(&own);
    }
}

/* All phases; every thread of a team calls this. */
CPGEN_DRIVER void cpgen_phases(const cpgen_program *p, const cpgen_frame *frame)
{
    cpgen_frame f = *frame;
    if (p->clear != NULL) {
        p->clear(&f);
        OMP_BARRIER
    }
    if (p->setup != NULL) {
        p->setup(&f);
    }
    for (f.begin = 0; f.begin < f.n_rows; f.begin += f.chunk) {
        f.count = f.n_rows - f.begin < f.chunk ? f.n_rows - f.begin : f.chunk;
        if (p->rows_of_tile != NULL) {
            cpgen_tiles(p, &f);
        }
        if (p->sums != NULL) {
            p->sums(&f);
            OMP_BARRIER
        }
    }
    if (p->finish != NULL) {
        p->finish(&f);
    }
}

/* The phases of `program` in a team of frame.threads. Each program has a region of its own, to be timed
 * apart. */
#ifdef _OPENMP
#define OMP_TEAM(program) \
    if (frame.threads == 1 && omp_get_level() == 0) { \
        cpgen_phases(&(program), &frame); \
    } else { \
        OMP_PARALLEL \
        { \
            cpgen_phases(&(program), &frame); \
        } \
    }
#else
#define OMP_TEAM(program) cpgen_phases(&(program), &frame);
#endif

/* What the processor was told to leave out of IEEE arithmetic, as the header of each model explains. */
static int32_t cpgen_arithmetic(void)
{
    const volatile cpgen_real one = 1, step = CPGEN_REAL_EPSILON / 8, least = CPGEN_REAL_MIN;
    const volatile cpgen_real half = (cpgen_real)1 / 2, tiny = CPGEN_REAL_MIN / 2;
    const int flushed = !(least * half > 0) || !(tiny > 0);
    const int directed = one + step > one || one - step < one;
    int joined = 0;
#if !CPGEN_FUSED
    /* (1 + s)^2 = 1 + 2*s + s^2, of which the last is lost by rounding */
    const volatile cpgen_real side = 1 + CPGEN_REAL_SIDE, square = 1 + 2 * CPGEN_REAL_SIDE;
    joined = directed == 0 && side * side - square != 0;
#endif
    return (int32_t)(flushed + 2 * directed + 4 * joined);
}

#endif
