/* SPDX-License-Identifier: CC0-1.0
 * How a program made by cpgen is run: its arguments checked, its memory laid out, its rows in chunks
 * and tiles, its threads. All numbers are of the type double.
 */
#ifndef DIGITS_RT_RUN_H
#define DIGITS_RT_RUN_H

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
#if DBL_MANT_DIG != 53 || DBL_MAX_EXP != 1024
#error "this file needs the type double as IEEE 754 has it (double on avr-gcc: -mdouble=64)"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 && (FLT_EVAL_METHOD != 1 || 53 < 53)
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
enum digits_rt_status {
    digits_rt_ok = 0,
    digits_rt_not_finite = 1,
    digits_rt_bad_args = -1,
    digits_rt_bad_n_rows = -2,
    digits_rt_bad_columns = -3,
    digits_rt_bad_first_row = -4,
    digits_rt_bad_first_column = -5,
    digits_rt_bad_design = -6,
    digits_rt_bad_accumulate = -7,
    digits_rt_bad_threads = -8,
    digits_rt_bad_work = -9,
    digits_rt_bad_work_bytes = -10,
    digits_rt_bad_outputs = -11
};

/* An array of a program's arguments. One that is read must be there unless it is empty. */
typedef struct digits_rt_array {
    size_t member; /* where in the arguments its address is */
    size_t count; /* numbers, times rows and columns */
    uint8_t by_rows, by_columns;
    int16_t status; /* returned where it is missing or misaligned; that of outputs: it is one */
} digits_rt_array;

/* What one thread works on; stages read it. */
typedef struct digits_rt_frame {
    const void *args;
    double *work; /* values without rows */
    double *tile; /* values of one tile of rows: [element][lane] */
    double *rows; /* values of a chunk of rows: [row][column][element] */
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
} digits_rt_frame;

/* Numbers in memory: so many, and so many more for each column. */
typedef struct digits_rt_size {
    size_t fixed, column;
} digits_rt_size;

/* Operations: once, for each row, for each column, and for each row of each column. */
typedef struct digits_rt_cost {
    int64_t once, row, column, both;
} digits_rt_cost;

/* A program: its memory, what it costs, and its phases (NULL where it has none). */
typedef struct digits_rt_program {
    const digits_rt_array *arrays;
    size_t n_arrays;
    digits_rt_size work, tile, rows; /* at all, for each lane of a tile, for each row of a chunk */
    size_t alignment; /* bytes; the workspace is that much larger, so that it may begin anywhere */
    int32_t lanes; /* rows in a tile */
    int32_t group; /* lanes whose sums are held at once, 0 for all */
    int32_t beside; /* 1: lanes without a row stand for further columns */
    int32_t chunk_tiles; /* for each thread, between two visits of the sums over rows */
    int32_t barriers, chunk_barriers; /* that threads wait at: once, and for each chunk */
    digits_rt_cost shared, tiles; /* operations that threads share, and those of tiles, each one thread's */
    int64_t least_columns, whole; /* the fewest columns, and those of the exact answer (0: any) */
    int32_t unit; /* 1: all columns are those of the exact answer, unless design is 3 */
    void (*clear)(const digits_rt_frame *f); /* starts the sums over rows */
    void (*setup)(const digits_rt_frame *f);
    void (*rows_of_tile)(digits_rt_frame *f);
    void (*sums)(const digits_rt_frame *f);
    void (*finish)(const digits_rt_frame *f);
} digits_rt_program;

/* The numbers that a program is called with, 0 for those that it has no use for. */
typedef struct digits_rt_call {
    int64_t n_rows, columns, first_row, first_column;
    int32_t design, accumulate, threads;
} digits_rt_call;

enum digits_rt_limits { digits_rt_most = 2147483647, digits_rt_most_threads = 65536 };

/* Of the type of every number, to tell where in memory one may lie. */
typedef struct digits_rt_place {
    char before;
    double value;
} digits_rt_place;

/* Sizes that stay at SIZE_MAX once they are too large. */
static size_t digits_rt_size_product(size_t a, size_t b)
{
    const int small = ((a | b) >> (4U * sizeof(size_t))) == 0U; /* the usual case needs no division */
    return !small && b != 0U && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

static size_t digits_rt_size_sum(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static size_t digits_rt_numbers(digits_rt_size size, int64_t columns)
{
    return digits_rt_size_sum(size.fixed, digits_rt_size_product(size.column, (size_t)columns));
}

/* The address of an array. */
static const double *digits_rt_address(const void *args, size_t member)
{
    const double *place;
    memcpy(&place, (const unsigned char *)args + member, sizeof place);
    return place;
}

/* Whether all arrays are there that must be, and where numbers may lie; else the status of the first
 * that is not. */
INLINE int32_t digits_rt_check(
    const digits_rt_array *arrays, size_t count, const void *args, int64_t n_rows)
{
    int32_t status = args == NULL ? digits_rt_bad_args : digits_rt_ok;
    for (size_t k = 0U; k < count && status == digits_rt_ok; ++k) {
        const double *const place = digits_rt_address(args, arrays[k].member);
        const uintptr_t past = (uintptr_t)(const void *)place % offsetof(digits_rt_place, value);
        const int empty = arrays[k].by_rows != 0U && n_rows == 0;
        const int optional = arrays[k].status == digits_rt_bad_outputs || empty;
        if ((place == NULL && !optional) || past != 0U) {
            status = arrays[k].status;
        }
    }
    return status;
}

/* Whether all numbers are finite, in a time that does not depend on them. */
static int digits_rt_all_finite(const double *values, size_t count)
{
    int other = 0;
    for (size_t k = 0U; k < count; ++k) {
        other |= !(values[k] >= -DBL_MAX);
        other |= !(values[k] <= DBL_MAX);
    }
    return other == 0;
}

/* The status of a call that has computed everything. */
INLINE int32_t digits_rt_end(
    const digits_rt_array *arrays, size_t count, const void *args, int64_t n_rows, int64_t columns)
{
    int finite = 1;
    for (size_t k = 0U; k < count; ++k) {
        const double *const place = digits_rt_address(args, arrays[k].member);
        if (arrays[k].status == digits_rt_bad_outputs && place != NULL) {
            const size_t rows = arrays[k].by_rows != 0U ? (size_t)n_rows : 1U;
            const size_t each = arrays[k].by_columns != 0U ? (size_t)columns : 1U;
            finite &= digits_rt_all_finite(place, rows * each * arrays[k].count);
        }
    }
    return finite ? digits_rt_ok : digits_rt_not_finite;
}

/* Where numbers may begin in memory of the caller's. */
static double *digits_rt_aligned(void *work, size_t alignment)
{
    const size_t past = (size_t)((uintptr_t)work % alignment);
    void *const place = (unsigned char *)work + (past == 0U ? 0U : alignment - past);
    return (double *)place;
}

/* Whether there is workspace enough. */
static int32_t digits_rt_check_work(const void *work, size_t work_bytes, size_t needed)
{
    return work == NULL ? digits_rt_bad_work : work_bytes < needed ? digits_rt_bad_work_bytes : digits_rt_ok;
}

/* Rows between two visits of the sums over rows. */
static ptrdiff_t digits_rt_chunk(const digits_rt_program *p, int64_t n_rows, int32_t threads)
{
    const int64_t tiles = (n_rows + p->lanes - 1) / p->lanes;
    const int64_t most = (int64_t)threads * p->chunk_tiles;
    return (ptrdiff_t)((tiles < most ? tiles : most) * p->lanes);
}

/* Bytes of workspace of a call; 0 if an argument is out of range. */
static size_t digits_rt_workspace_bytes(
    const digits_rt_program *p, int64_t n_rows, int64_t columns, int32_t threads)
{
    size_t numbers;
    if (n_rows < 0 || n_rows > digits_rt_most || columns < 0 || columns > digits_rt_most || threads < 1
        || threads > digits_rt_most_threads) {
        return 0U;
    }
    numbers = digits_rt_numbers(p->work, columns);
    if (p->rows_of_tile != NULL) {
        const size_t lanes = (size_t)threads * (size_t)p->lanes;
        const size_t rows = (size_t)digits_rt_chunk(p, n_rows, threads);
        const size_t tile = digits_rt_numbers(p->tile, columns), row = digits_rt_numbers(p->rows, columns);
        numbers = digits_rt_size_sum(numbers, digits_rt_size_product(lanes, tile));
        numbers = digits_rt_size_sum(numbers, digits_rt_size_product(rows, row));
    }
    return digits_rt_size_sum(digits_rt_size_product(numbers, sizeof(double)), p->alignment);
}

/* Whether the columns are some that the program can be called with. */
static int digits_rt_columns_good(const digits_rt_program *p, const digits_rt_call *call)
{
    const int exact = p->whole > 0 && (p->unit != 0 ? call->design != 3 : call->design == 2);
    return call->columns >= p->least_columns && call->columns <= digits_rt_most
        && (!exact || (call->columns == p->whole && call->first_column == 0));
}

/* Whether the numbers are some that the program can be called with; else the status of the first that
 * is not. */
static int32_t digits_rt_check_numbers(const digits_rt_program *p, const digits_rt_call *call)
{
    const int64_t last = INT64_C(0x4000000000000000); /* rows and columns of all calls */
    int32_t status = digits_rt_ok;
    if (call->n_rows < 0 || call->n_rows > digits_rt_most) {
        status = digits_rt_bad_n_rows;
    } else if (!digits_rt_columns_good(p, call)) {
        status = digits_rt_bad_columns;
    } else if (call->first_row < 0 || call->first_row >= last) {
        status = digits_rt_bad_first_row;
    } else if (call->first_column < 0 || call->first_column >= last) {
        status = digits_rt_bad_first_column;
    } else if (call->design < 0 || call->design > 3) {
        status = digits_rt_bad_design;
    } else if (call->accumulate < 0 || call->accumulate > 1) {
        status = digits_rt_bad_accumulate;
    } else if (call->threads < 1 || call->threads > digits_rt_most_threads) {
        status = digits_rt_bad_threads;
    }
    return status;
}

/* The threads of a call: one where that is sooner done than others have woken up. */
static int32_t digits_rt_threads(const digits_rt_program *p, const digits_rt_call *call)
{
    int32_t threads = call->threads;
#ifdef _OPENMP
    const ptrdiff_t chunk = digits_rt_chunk(p, call->n_rows, threads);
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
INLINE int32_t digits_rt_begin(const digits_rt_program *p, const void *args, const digits_rt_call *call,
    void *work, size_t work_bytes, digits_rt_frame *frame)
{
    const digits_rt_frame empty = {0};
    int32_t status = digits_rt_check(p->arrays, p->n_arrays, args, call->n_rows);
    *frame = empty;
    if (status == digits_rt_ok) {
        status = digits_rt_check_numbers(p, call);
    }
    if (status == digits_rt_ok) {
        frame->args = args;
        frame->n_rows = (ptrdiff_t)call->n_rows;
        frame->columns = (ptrdiff_t)call->columns;
        frame->threads = digits_rt_threads(p, call);
        frame->chunk = digits_rt_chunk(p, call->n_rows, frame->threads);
        frame->beside = 1;
        if (p->alignment > 0U) {
            status = digits_rt_check_work(work, work_bytes,
                digits_rt_workspace_bytes(p, call->n_rows, call->columns, call->threads));
        }
    }
    if (status == digits_rt_ok && p->alignment > 0U) {
        frame->work = digits_rt_aligned(work, p->alignment);
        frame->tile = frame->work + digits_rt_numbers(p->work, call->columns);
        frame->tile_size = (size_t)p->lanes * digits_rt_numbers(p->tile, call->columns);
        frame->rows = frame->tile + (size_t)frame->threads * frame->tile_size;
    }
    return status;
}

/* Sums that start at zero. */
INLINE void digits_rt_zero(double *sums, ptrdiff_t count)
{
    OMP_SIMD
    for (ptrdiff_t k = 0; k < count; ++k) {
        sums[k] = (double)0;
    }
}

/* Start the sums of an output, if it is wanted and does not go on. */
SHARED void digits_rt_start(double *out, ptrdiff_t count, double start, int32_t accumulate)
{
    if (out != NULL && accumulate == 0) {
        OMP_FOR_NOWAIT
        for (ptrdiff_t item = 0; item < count; ++item) {
            out[item] = start;
        }
    }
}

/* The tiles of a chunk, dealt out to the threads. */
INLINE void digits_rt_tiles(const digits_rt_program *p, const digits_rt_frame *f)
{
    const ptrdiff_t lanes = p->lanes, group = p->group;
    digits_rt_frame own = *f;
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
INLINE void digits_rt_phases(const digits_rt_program *p, const digits_rt_frame *frame)
{
    digits_rt_frame f = *frame;
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
            digits_rt_tiles(p, &f);
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
#define DIGITS_OMP_TEAM(program) \
    if (frame.threads == 1 && omp_get_level() == 0) { \
        digits_rt_phases(&(program), &frame); \
    } else { \
        OMP_PARALLEL \
        { \
            digits_rt_phases(&(program), &frame); \
        } \
    }
#else
#define DIGITS_OMP_TEAM(program) digits_rt_phases(&(program), &frame);
#endif

/* What the processor was told to leave out of IEEE arithmetic, as the header of each model explains. */
static int32_t digits_rt_arithmetic(void)
{
    const volatile double one = 1, step = DBL_EPSILON / 8, least = DBL_MIN;
    const volatile double half = (double)1 / 2, tiny = DBL_MIN / 2;
    const int flushed = !(least * half > 0) || !(tiny > 0);
    const int directed = one + step > one || one - step < one;
    int joined = 0;
#if !CPGEN_FUSED
    /* (1 + s)^2 = 1 + 2*s + s^2, of which the last is lost by rounding */
    const volatile double side = 1 + 0x1p-27, square = 1 + 2 * 0x1p-27;
    joined = directed == 0 && side * side - square != 0;
#endif
    return (int32_t)(flushed + 2 * directed + 4 * joined);
}

#endif
