/* SPDX-License-Identifier: CC0-1.0
 * How a program made by cpgen is run: its arguments checked, its memory laid out, its rows in chunks
 * and tiles, its threads. All numbers are of the type float.
 */
#ifndef PMSM_RT_RUN_H
#define PMSM_RT_RUN_H

#if defined(__GNUC__) && !defined(__clang__) && (defined(_OPENMP) || defined(PMSM_RT_OPENMP_SIMD))
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
#if FLT_MANT_DIG != 24 || FLT_MAX_EXP != 128
#error "this file needs the type float as IEEE 754 has it (double on avr-gcc: -mdouble=64)"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 && (FLT_EVAL_METHOD != 1 || 24 < 53)
#error "this compiler computes in more digits than the type has: on x86 compile with -msse2 -mfpmath=sse"
#endif
#if INT_MAX < 2147483647 || PTRDIFF_MAX < 2147483647 || SIZE_MAX < 4294967295
#error "this file needs int, ptrdiff_t and size_t of 32 bits: its positions do not fit into 16"
#endif
#ifndef PMSM_RT_FUSED
#define PMSM_RT_FUSED 0 /* 1: multiplications and additions may be joined, which changes bits */
#endif
/* Joined multiplications and additions (one rounding in place of two): told to clang, not to be had from
 * MSVC, and left out by GCC under -std=c99. In its GNU modes GCC joins them where the processor can, and no
 * macro tells whether -ffp-contract=off was given. */
#if !PMSM_RT_FUSED
#if defined(_M_FP_CONTRACT)
#error "this compiler joins multiplications and additions: compile with /fp:precise and without /fp:contract"
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && !defined(__STRICT_ANSI__) && (defined(__FP_FAST_FMA) || defined(__FP_FAST_FMAF)) \
    && !defined(PMSM_RT_CONTRACT_OFF)
#error "GCC joins operations in GNU modes: -std=c99, or -ffp-contract=off and -DCPGEN_CONTRACT_OFF"
#endif
#endif

/* Functions with many callers; copies of them in every place would only take time to compile. */
#ifdef __GNUC__
#define PMSM_SHARED static __attribute__((noinline))
#else
#define PMSM_SHARED static
#endif

/* Stages stay functions of their own: the stack then holds one at a time. */
#ifdef __GNUC__
#define PMSM_STAGE static __attribute__((noinline))
#else
#define PMSM_STAGE static
#endif

/* What a call returns: 0 and 1 where everything was computed, else what is wrong, and nothing has been
 * written. Arrays that are read have numbers of their own. */
enum pmsm_rt_status {
    pmsm_rt_ok = 0,
    pmsm_rt_not_finite = 1,
    pmsm_rt_bad_args = -1,
    pmsm_rt_bad_n_rows = -2,
    pmsm_rt_bad_columns = -3,
    pmsm_rt_bad_first_row = -4,
    pmsm_rt_bad_first_column = -5,
    pmsm_rt_bad_design = -6,
    pmsm_rt_bad_accumulate = -7,
    pmsm_rt_bad_threads = -8,
    pmsm_rt_bad_work = -9,
    pmsm_rt_bad_work_bytes = -10,
    pmsm_rt_bad_outputs = -11
};

/* An array of a program's arguments. One that is read must be there unless it is empty. */
typedef struct pmsm_rt_array {
    size_t member; /* where in the arguments its address is */
    size_t count; /* numbers, times rows and columns */
    uint8_t by_rows, by_columns;
    int16_t status; /* returned where it is missing or misaligned; that of outputs: it is one */
} pmsm_rt_array;

/* Of the type of every number, to tell where in memory one may lie. */
typedef struct pmsm_rt_place {
    char before;
    float value;
} pmsm_rt_place;

/* The address of an array. */
static const float *pmsm_rt_address(const void *args, size_t member)
{
    const float *place;
    memcpy(&place, (const unsigned char *)args + member, sizeof place);
    return place;
}

/* Whether all arrays are there that must be, and where numbers may lie; else the status of the first
 * that is not. */
PMSM_SHARED int32_t pmsm_rt_check(
    const pmsm_rt_array *arrays, size_t count, const void *args, int64_t n_rows)
{
    int32_t status = args == NULL ? pmsm_rt_bad_args : pmsm_rt_ok;
    for (size_t k = 0U; k < count && status == pmsm_rt_ok; ++k) {
        const float *const place = pmsm_rt_address(args, arrays[k].member);
        const uintptr_t past = (uintptr_t)(const void *)place % offsetof(pmsm_rt_place, value);
        const int empty = arrays[k].by_rows != 0U && n_rows == 0;
        const int optional = arrays[k].status == pmsm_rt_bad_outputs || empty;
        if ((place == NULL && !optional) || past != 0U) {
            status = arrays[k].status;
        }
    }
    return status;
}

/* Whether all numbers are finite, in a time that does not depend on them. */
static int pmsm_rt_all_finite(const float *values, size_t count)
{
    int other = 0;
    for (size_t k = 0U; k < count; ++k) {
        other |= !(values[k] >= -FLT_MAX);
        other |= !(values[k] <= FLT_MAX);
    }
    return other == 0;
}

/* The status of a call that has computed everything. */
PMSM_SHARED int32_t pmsm_rt_end(
    const pmsm_rt_array *arrays, size_t count, const void *args, int64_t n_rows, int64_t columns)
{
    int finite = 1;
    for (size_t k = 0U; k < count; ++k) {
        const float *const place = pmsm_rt_address(args, arrays[k].member);
        if (arrays[k].status == pmsm_rt_bad_outputs && place != NULL) {
            const size_t rows = arrays[k].by_rows != 0U ? (size_t)n_rows : 1U;
            const size_t each = arrays[k].by_columns != 0U ? (size_t)columns : 1U;
            finite &= pmsm_rt_all_finite(place, rows * each * arrays[k].count);
        }
    }
    return finite ? pmsm_rt_ok : pmsm_rt_not_finite;
}

/* What the processor was told to leave out of IEEE arithmetic, as the header of each model explains. */
static int32_t pmsm_rt_arithmetic(void)
{
    const volatile float one = 1, step = FLT_EPSILON / 8, least = FLT_MIN;
    const volatile float half = (float)1 / 2, tiny = FLT_MIN / 2;
    const int flushed = !(least * half > 0) || !(tiny > 0);
    const int directed = one + step > one || one - step < one;
    int joined = 0;
#if !PMSM_RT_FUSED
    /* (1 + s)^2 = 1 + 2*s + s^2, of which the last is lost by rounding */
    const volatile float side = 1 + 0x1p-13f, square = 1 + 2 * 0x1p-13f;
    joined = directed == 0 && side * side - square != 0;
#endif
    return (int32_t)(flushed + 2 * directed + 4 * joined);
}

#endif
