/* SPDX-License-Identifier: CC0-1.0
 * Scalar functions for generated code: plain C99, no state, every function for double (suffix _f64) and for float (_f32;
 * no double arithmetic in it).  math.h is not needed.
 *
 * exp, expm1, log, log1p, tanh, what is built from them (sigmoid, softplus, logcosh, silu, sech) and the moderate sin, cos
 * and tan contain no branches, calls or tables, so a compiler can vectorise a loop over them; the same operations run in
 * scalar and in vector code, so both give the same bits if contraction into fused multiply-adds is off.
 *
 * Largest errors against the exact value, in units in the last place of the result, double/float, over the whole range
 * (polygamma1 is polygamma with n = 1; more n cost about one unit each):
 * sqrt 0.5/0.5, exp 1.5/1.5, expm1 3/2, log 1.5/1.5, log1p 2/2, sin 2/2, cos 2/2, tan 3.5/3.5, asin 2.5/3.5,
 * acos 2.5/3, atan 1.5/2.5, sinh 3.5/3, cosh 3.5/3, tanh 3/2.5, asinh 2.5/2.5, acosh 3.5/3, atanh 2.5/2.5, erf 2/3,
 * erfc 5/5, softplus 2.5/2.5, sigmoid 2.5/2.5, logcosh 6/4.5, sech 2.5/2.5, sech2 4/4, silu 3/3.5,
 * normcdf 4.5/5, gelu 5/5.5, log_ndtr 5.5/5.5, mills 5/5, mills_gap 5/5, sinc 3/3, erfinv 4/4, erfcinv 4/4,
 * gamma 5.5/5, loggamma 4/3.5, digamma 4/4, polygamma1 5/4, polygamma2 5.5/4.5, polygamma3 7/6.5, polygamma4 7.5/6,
 * pow 1.5/1.5, atan2 2/3, hypot 2.5/2.5. Bessel functions: docs/mathematics.md. floor and rint are exact.
 * NaN gives NaN; overflow gives infinity; a point outside the domain gives NaN.
 *
 * Needs round-to-nearest arithmetic and no value-changing compiler options: rounding to an integer is done by adding
 * and subtracting 1.5 * 2^52 (2^23), which -ffast-math would remove.
 */
#ifndef PMSM_RT_SCALAR_H
#define PMSM_RT_SCALAR_H

#include <stdint.h>

#ifdef __FAST_MATH__
#error "pmsm_rt_scalar.h needs exact floating-point semantics: compile without -ffast-math"
#endif

/* ---- bits of floating-point numbers ---- */

typedef union pmsm_rt_bits_f32
{
    float real;
    uint32_t bits;
} pmsm_rt_bits_f32;

static inline uint32_t pmsm_rt_to_bits_f32(float x)
{
    pmsm_rt_bits_f32 both;
    both.real = x;
    return both.bits;
}

static inline float pmsm_rt_from_bits_f32(uint32_t bits)
{
    pmsm_rt_bits_f32 both;
    both.bits = bits;
    return both.real;
}

static inline float pmsm_rt_infinity_f32(void)
{
    return pmsm_rt_from_bits_f32(UINT32_C(0x7f800000));
}

static inline float pmsm_rt_nan_f32(void)
{
    return pmsm_rt_from_bits_f32(UINT32_C(0x7fc00000));
}

/* ---- sign and square root: exact, with the machine's own instruction where there is one ---- */

static inline float pmsm_rt_fabs_f32(float x)
{
#if defined(__GNUC__)
    return __builtin_fabsf(x);
#else
    return pmsm_rt_from_bits_f32(pmsm_rt_to_bits_f32(x) & UINT32_C(0x7fffffff));
#endif
}

static inline float pmsm_rt_sqrt_f32(float x)
{
#if defined(__GNUC__) && defined(__NO_MATH_ERRNO__) && (defined(__x86_64__) || defined(__aarch64__) || (defined(__ARM_FP) && ((__ARM_FP & 4) != 0)) || \
        (defined(__riscv_flen) && (__riscv_flen >= 32)))
    return __builtin_sqrtf(x);
#else
    /* one bit of the root after the other; the remainder tells how to round */
    const int subnormal = x < 0x1p-126f;
    const uint32_t bits = pmsm_rt_to_bits_f32(subnormal ? (x * 0x1p24f) : x);
    uint32_t rest = (bits & UINT32_C(0x007fffff)) | UINT32_C(0x00800000);
    uint32_t exponent = bits >> 23U;
    uint32_t root = 0U;
    uint32_t sum = 0U;
    uint32_t bit;
    float y;
    if (!(x > 0.0f) || (x == pmsm_rt_infinity_f32()))
    {
        return ((x == 0.0f) || (x > 0.0f) || (x != x)) ? x : pmsm_rt_nan_f32();
    }
    if ((exponent & 1U) == 0U)
    {
        rest += rest;
        exponent -= 1U;
    }
    rest += rest;
    for (bit = UINT32_C(0x01000000); bit != 0U; bit >>= 1U)
    {
        const uint32_t trial = sum + bit;
        if (trial <= rest)
        {
            sum = trial + bit;
            rest -= trial;
            root += bit;
        }
        rest += rest;
    }
    if (rest != 0U)
    {
        root += root & 1U;
    }
    y = pmsm_rt_from_bits_f32((root >> 1U) + ((((exponent - 127U) + 256U) >> 1U) << 23U) - UINT32_C(0x1000000));
    return subnormal ? (y * 0x1p-12f) : y;
#endif
}

/* ---- exponentials and logarithms, float ---- */

/* y * 2^k in two exact steps, so that subnormal results are rounded once. */
static inline float pmsm_rt_scale_f32(float y, uint32_t biased)
{
    const uint32_t half = biased >> 1U;
    const uint32_t rest = biased - half;
    return (y * pmsm_rt_from_bits_f32((half - 1U) << 23U)) * pmsm_rt_from_bits_f32((rest - 1U) << 23U);
}

/* ---- trigonometric and hyperbolic functions; the moderate ones, which a compiler can vectorise, have the bits of the
 * others for |x| <= 1e4 and give NaN beyond, float ---- */

/* sqrt(x^2 + y^2) without overflow on the way */
static inline float pmsm_rt_hypot_f32(float x, float y)
{
    const float a = pmsm_rt_fabs_f32(x);
    const float b = pmsm_rt_fabs_f32(y);
    const float large = (a > b) ? a : b;
    const float small = (a > b) ? b : a;
    const float ratio = small / large;
    const float length = large * pmsm_rt_sqrt_f32(1.0f + (ratio * ratio));
    const float finite = (large == 0.0f) ? large : length;
    const float infinite = ((a == pmsm_rt_infinity_f32()) || (b == pmsm_rt_infinity_f32())) ? pmsm_rt_infinity_f32() : finite;
    return (((x != x) || (y != y)) && (infinite != pmsm_rt_infinity_f32())) ? (x + y) : infinite;
}

/* ---- significands and exponents of products that leave the range on the way, float ---- */

/* x / 2^exponent(x), with 1 <= |significand| < 2; 0, infinities and NaN are their own significand, of exponent 0 */
static inline float pmsm_rt_significand_f32(float x)
{
    const float size = pmsm_rt_fabs_f32(x);
    const float normal = (size < 0x1p-126f) ? (x * 0x1p24f) : x;
    const float y = pmsm_rt_from_bits_f32((pmsm_rt_to_bits_f32(normal) & UINT32_C(0x807fffff)) | UINT32_C(0x3f800000));
    return ((size > 0.0f) && (size < pmsm_rt_infinity_f32())) ? y : x;
}

static inline float pmsm_rt_exponent_f32(float x)
{
    const float size = pmsm_rt_fabs_f32(x);
    const float normal = (size < 0x1p-126f) ? (size * 0x1p24f) : size;
    const float biased = pmsm_rt_from_bits_f32(pmsm_rt_to_bits_f32(0x1.8p23f) + (pmsm_rt_to_bits_f32(normal) >> 23U)) - 0x1.8p23f;
    const float y = biased - ((size < 0x1p-126f) ? 151.0f : 127.0f);
    return ((size > 0.0f) && (size < pmsm_rt_infinity_f32())) ? y : 0.0f;
}

/* y * 2^k for a whole number k and 2^-100 < |y| < 2^100, rounded once */
static inline float pmsm_rt_scalbn_f32(float y, float k)
{
    const float below = (k < 248.0f) ? k : 248.0f;
    const float clamped = (below > -248.0f) ? below : -248.0f;
    return pmsm_rt_scale_f32(y, (pmsm_rt_to_bits_f32(clamped + 0x1.8p23f) - pmsm_rt_to_bits_f32(0x1.8p23f)) + 256U);
}

#endif /* PMSM_RT_SCALAR_H */
