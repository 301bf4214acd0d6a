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
#ifndef CPGEN_SCALAR_H
#define CPGEN_SCALAR_H

#include <stdint.h>

#ifdef __FAST_MATH__
#error "cpgen_scalar.h needs exact floating-point semantics: compile without -ffast-math"
#endif

/* ---- bits of floating-point numbers ---- */

typedef union cpgen_bits_f64
{
    double real;
    uint64_t bits;
} cpgen_bits_f64;

typedef union cpgen_bits_f32
{
    float real;
    uint32_t bits;
} cpgen_bits_f32;

static inline uint64_t cpgen_to_bits_f64(double x)
{
    cpgen_bits_f64 both;
    both.real = x;
    return both.bits;
}

static inline double cpgen_from_bits_f64(uint64_t bits)
{
    cpgen_bits_f64 both;
    both.bits = bits;
    return both.real;
}

static inline uint32_t cpgen_to_bits_f32(float x)
{
    cpgen_bits_f32 both;
    both.real = x;
    return both.bits;
}

static inline float cpgen_from_bits_f32(uint32_t bits)
{
    cpgen_bits_f32 both;
    both.bits = bits;
    return both.real;
}

static inline double cpgen_infinity_f64(void)
{
    return cpgen_from_bits_f64(UINT64_C(0x7ff0000000000000));
}

static inline double cpgen_nan_f64(void)
{
    return cpgen_from_bits_f64(UINT64_C(0x7ff8000000000000));
}

static inline float cpgen_infinity_f32(void)
{
    return cpgen_from_bits_f32(UINT32_C(0x7f800000));
}

static inline float cpgen_nan_f32(void)
{
    return cpgen_from_bits_f32(UINT32_C(0x7fc00000));
}

/* ---- sign and square root: exact, with the machine's own instruction where there is one ---- */

static inline double cpgen_fabs_f64(double x)
{
#if defined(__GNUC__)
    return __builtin_fabs(x);
#else
    return cpgen_from_bits_f64(cpgen_to_bits_f64(x) & UINT64_C(0x7fffffffffffffff));
#endif
}

static inline double cpgen_copysign_f64(double size, double sign)
{
#if defined(__GNUC__)
    return __builtin_copysign(size, sign);
#else
    return cpgen_from_bits_f64((cpgen_to_bits_f64(size) & UINT64_C(0x7fffffffffffffff)) | (cpgen_to_bits_f64(sign) & UINT64_C(0x8000000000000000)));
#endif
}

static inline double cpgen_sqrt_f64(double x)
{
#if defined(__GNUC__) && defined(__NO_MATH_ERRNO__) && (defined(__x86_64__) || defined(__aarch64__) || (defined(__ARM_FP) && ((__ARM_FP & 8) != 0)) || \
        (defined(__riscv_flen) && (__riscv_flen >= 64)))
    return __builtin_sqrt(x);
#else
    /* one bit of the root after the other; the remainder tells how to round */
    const int subnormal = x < 0x1p-1022;
    const uint64_t bits = cpgen_to_bits_f64(subnormal ? (x * 0x1p54) : x);
    uint64_t rest = (bits & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x0010000000000000);
    uint64_t exponent = bits >> 52U;
    uint64_t root = 0U;
    uint64_t sum = 0U;
    uint64_t bit;
    double y;
    if (!(x > 0.0) || (x == cpgen_infinity_f64()))
    {
        return ((x == 0.0) || (x > 0.0) || (x != x)) ? x : cpgen_nan_f64();
    }
    if ((exponent & 1U) == 0U)
    {
        rest += rest;
        exponent -= 1U;
    }
    rest += rest;
    for (bit = UINT64_C(0x0020000000000000); bit != 0U; bit >>= 1U)
    {
        const uint64_t trial = sum + bit;
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
    y = cpgen_from_bits_f64((root >> 1U) + ((((exponent - 1023U) + 2048U) >> 1U) << 52U) - UINT64_C(0x20000000000000));
    return subnormal ? (y * 0x1p-27) : y;
#endif
}

static inline float cpgen_fabs_f32(float x)
{
#if defined(__GNUC__)
    return __builtin_fabsf(x);
#else
    return cpgen_from_bits_f32(cpgen_to_bits_f32(x) & UINT32_C(0x7fffffff));
#endif
}

static inline float cpgen_copysign_f32(float size, float sign)
{
#if defined(__GNUC__)
    return __builtin_copysignf(size, sign);
#else
    return cpgen_from_bits_f32((cpgen_to_bits_f32(size) & UINT32_C(0x7fffffff)) | (cpgen_to_bits_f32(sign) & UINT32_C(0x80000000)));
#endif
}

static inline float cpgen_sqrt_f32(float x)
{
#if defined(__GNUC__) && defined(__NO_MATH_ERRNO__) && (defined(__x86_64__) || defined(__aarch64__) || (defined(__ARM_FP) && ((__ARM_FP & 4) != 0)) || \
        (defined(__riscv_flen) && (__riscv_flen >= 32)))
    return __builtin_sqrtf(x);
#else
    /* one bit of the root after the other; the remainder tells how to round */
    const int subnormal = x < 0x1p-126f;
    const uint32_t bits = cpgen_to_bits_f32(subnormal ? (x * 0x1p24f) : x);
    uint32_t rest = (bits & UINT32_C(0x007fffff)) | UINT32_C(0x00800000);
    uint32_t exponent = bits >> 23U;
    uint32_t root = 0U;
    uint32_t sum = 0U;
    uint32_t bit;
    float y;
    if (!(x > 0.0f) || (x == cpgen_infinity_f32()))
    {
        return ((x == 0.0f) || (x > 0.0f) || (x != x)) ? x : cpgen_nan_f32();
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
    y = cpgen_from_bits_f32((root >> 1U) + ((((exponent - 127U) + 256U) >> 1U) << 23U) - UINT32_C(0x1000000));
    return subnormal ? (y * 0x1p-12f) : y;
#endif
}

/* ---- exponentials and logarithms, double ---- */

/* (exp(r) - 1 - r) / r^2 for |r| <= log(2)/2, minimax polynomial. */
static inline double cpgen_exp_tail_f64(double r)
{
    double p = 0x1.af63b6abd74d0p-26;
    p = (p * r) + 0x1.2891d56b8f868p-22;
    p = (p * r) + 0x1.71ddf66a1b7cfp-19;
    p = (p * r) + 0x1.a019b8c9bc5d6p-16;
    p = (p * r) + 0x1.a01a01b026100p-13;
    p = (p * r) + 0x1.6c16c1789d3f1p-10;
    p = (p * r) + 0x1.111111110f7cep-7;
    p = (p * r) + 0x1.5555555553d36p-5;
    p = (p * r) + 0x1.5555555555558p-3;
    p = (p * r) + 0x1.0000000000001p-1;
    return p;
}

/* x = k log(2) + r with k = round(x / log 2): returns r, *biased = k + 2048 and *power = k. */
static inline double cpgen_reduce_f64(double x, uint64_t *biased, double *power)
{
    const double t = (x * 0x1.71547652b82fep0) + 0x1.8p52;
    const double k = t - 0x1.8p52;
    *biased = cpgen_to_bits_f64(t) - cpgen_to_bits_f64(0x1.8p52) + 2048U;
    *power = k;
    return (x - (k * 0x1.62e42feep-1)) - (k * 0x1.a39ef35793c76p-33);
}

/* y * 2^k in two exact steps, so that subnormal results are rounded once. */
static inline double cpgen_scale_f64(double y, uint64_t biased)
{
    const uint64_t half = biased >> 1U;
    const uint64_t rest = biased - half;
    return (y * cpgen_from_bits_f64((half - 1U) << 52U)) * cpgen_from_bits_f64((rest - 1U) << 52U);
}

static inline double cpgen_exp_f64(double x)
{
    const double below = (x < 709.8) ? x : 709.8;
    const double clamped = (below > -745.2) ? below : -745.2;
    uint64_t biased;
    double power;
    const double r = cpgen_reduce_f64(clamped, &biased, &power);
    const double y = cpgen_scale_f64(1.0 + (r + ((r * r) * cpgen_exp_tail_f64(r))), biased);
    const double high = (x > 709.8) ? cpgen_infinity_f64() : y;
    return (x == x) ? high : x;
}

static inline double cpgen_expm1_f64(double x)
{
    const double below = (x < 709.8) ? x : 709.8;
    const double clamped = (below > -50.0) ? below : -50.0;
    uint64_t biased;
    double power;
    const double r = cpgen_reduce_f64(clamped, &biased, &power);
    const double tail = r + ((r * r) * cpgen_exp_tail_f64(r));
    /* 2^k (tail + 1) - 1 = 2^k (tail + (1 - 2^-k)) */
    const double inverse = cpgen_scale_f64(1.0, 4096U - biased);
    const double y = cpgen_scale_f64(tail + (1.0 - inverse), biased);
    const double high = (x > 709.8) ? cpgen_infinity_f64() : y;
    const double small = (cpgen_fabs_f64(x) < 0x1p-54) ? x : high;
    return (x == x) ? small : x;
}

static inline double cpgen_log_f64(double x)
{
    /* subnormal numbers are scaled up by 2^54 first */
    const int subnormal = x < 0x1p-1022;
    const double scaled = subnormal ? (x * 0x1p54) : x;
    const uint64_t shifted = cpgen_to_bits_f64(scaled) - UINT64_C(0x3fe6a09e667f3bcd);
    /* exponent k with 2^k * m = scaled, sqrt(1/2) <= m < sqrt(2); the bias keeps it positive */
    const uint64_t biased = (shifted + ((uint64_t)2048U << 52U)) >> 52U;
    const double m = cpgen_from_bits_f64(cpgen_to_bits_f64(scaled) - ((biased - 2048U) << 52U));
    const double exponent = cpgen_from_bits_f64(cpgen_to_bits_f64(0x1.8p52) + (biased - 2048U)) - 0x1.8p52;
    const double k = subnormal ? (exponent - 54.0) : exponent;
    const double f = m - 1.0;
    const double s = f / (2.0 + f);
    const double z = s * s;
    const double half = 0.5 * (f * f);
    /* log(1 + f) = f - f^2/2 + s (f^2/2 + tail), tail = (log((1 + s)/(1 - s)) - 2 s)/s, minimax polynomial */
    double p = 0x1.0c189ff826675p-3;
    p = (p * z) + 0x1.0fbc86e31f50cp-3;
    p = (p * z) + 0x1.3b1c49932c6a6p-3;
    p = (p * z) + 0x1.745cf8a25c03ap-3;
    p = (p * z) + 0x1.c71c72024d021p-3;
    p = (p * z) + 0x1.24924924763d1p-2;
    p = (p * z) + 0x1.9999999999a3cp-2;
    p = (p * z) + 0x1.5555555555555p-1;
    const double tail = z * p;
    const double y = (k * 0x1.62e42feep-1) - ((half - ((s * (half + tail)) + (k * 0x1.a39ef35793c76p-33))) - f);
    const double low = (x > 0.0) ? y : ((x == 0.0) ? -cpgen_infinity_f64() : cpgen_nan_f64());
    const double high = (x < cpgen_infinity_f64()) ? low : x;
    return (x == x) ? high : x;
}

static inline double cpgen_log1p_f64(double x)
{
    const double u = 1.0 + x;
    const double rounding = x - (u - 1.0);
    const double y = cpgen_log_f64(u);
    const double corrected = y + (rounding / u);
    const double value = ((u > 0.0) && (x < cpgen_infinity_f64())) ? corrected : y;
    return (x == 0.0) ? x : value;
}

/* expm1(2|x|), far out expm1(2|x| - 38) and at most expm1(709): what tanh and sech2 share, for a compiler to compute once */
static inline double cpgen_growth_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double near = (size < 354.5) ? size : (size - 19.0);
    const double twice = (near < 354.5) ? (near + near) : 709.0;
    uint64_t biased;
    double power;
    const double r = cpgen_reduce_f64(twice, &biased, &power);
    const double tail = r + ((r * r) * cpgen_exp_tail_f64(r));
    const double scale = cpgen_from_bits_f64((biased - 1025U) << 52U);
    return (scale * tail) + (scale - 1.0);
}

static inline double cpgen_tanh_f64(double x)
{
    const double growth = cpgen_growth_f64(x);
    const double y = growth / (growth + 2.0);
    return (x == x) ? cpgen_copysign_f64(y, x) : x;
}

/* 1 / cosh(x)^2 = 4 (growth + 1) / (growth + 2)^2, far out exp(-38) times as much */
static inline double cpgen_sech2_f64(double x)
{
    const double growth = cpgen_growth_f64(x);
    const double inverse = 2.0 / (growth + 2.0);
    const double y = inverse * (inverse * (growth + 1.0));
    const double found = y * ((cpgen_fabs_f64(x) < 354.5) ? 1.0 : 0x1.2188ad6ae3303p-55);
    return (x == x) ? found : x;
}

/* ---- trigonometric and hyperbolic functions; the moderate ones, which a compiler can vectorise, have the bits of the
 * others for |x| <= 1e6 and give NaN beyond, double ---- */

/* x = k pi/2 + r with k = round(x / (pi/2)): returns r, *quarter = k modulo 2^20 or more. */
static inline double cpgen_quarter_f64(double x, uint64_t *quarter)
{
    const double t = (x * 0x1.45f306dc9c883p-1) + 0x1.8p52;
    const double k = t - 0x1.8p52;
    const double first = (x - (k * 0x1.921fb54400000p+0));
    const double product = k * 0x1.0b4611a600000p-34;
    const double rough = first - product;
    const double rest = ((first - rough) - product) - (k * 0x1.3198a2e037073p-69);
    *quarter = cpgen_to_bits_f64(t);
    return rough + rest;
}

/* sin(r) and cos(r) for |r| <= pi/4, minimax polynomials (Moshier's and fdlibm's). */
static inline double cpgen_sin_near_f64(double r)
{
    const double z = r * r;
    double p = 1.58969099521155010221e-10;
    p = (p * z) + (-2.50507602534068634195e-08);
    p = (p * z) + 2.75573137070700676789e-06;
    p = (p * z) + (-1.98412698298579493134e-04);
    p = (p * z) + 8.33333333332248946124e-03;
    p = (p * z) + (-1.66666666666666324348e-01);
    return r + ((r * z) * p);
}

static inline double cpgen_cos_near_f64(double r)
{
    const double z = r * r;
    const double half = 0.5 * z;
    const double w = 1.0 - half;
    double p = -1.13596475577881948265e-11;
    p = (p * z) + 2.08757232129817482790e-09;
    p = (p * z) + (-2.75573143513906633035e-07);
    p = (p * z) + 2.48015872894767294178e-05;
    p = (p * z) + (-1.38888888888741095749e-03);
    p = (p * z) + 4.16666666666666019037e-02;
    return w + (((1.0 - w) - half) + ((z * z) * p));
}

static inline double cpgen_sin_moderate_f64(double x)
{
    uint64_t quarter;
    const int inside = cpgen_fabs_f64(x) <= 1000000.0;
    const double r = cpgen_quarter_f64(inside ? x : 0.0, &quarter);
    const double s = cpgen_sin_near_f64(r);
    const double c = cpgen_cos_near_f64(r);
    const double size = ((quarter & 1U) != 0U) ? c : s;
    const double y = ((quarter & 2U) != 0U) ? -size : size;
    const double exact = (x == 0.0) ? x : y;
    return inside ? exact : cpgen_nan_f64();
}

static inline double cpgen_cos_moderate_f64(double x)
{
    uint64_t quarter;
    const int inside = cpgen_fabs_f64(x) <= 1000000.0;
    const double r = cpgen_quarter_f64(inside ? x : 0.0, &quarter);
    const double s = cpgen_sin_near_f64(r);
    const double c = cpgen_cos_near_f64(r);
    const double size = ((quarter & 1U) != 0U) ? s : c;
    const double y = (((quarter + 1U) & 2U) != 0U) ? -size : size;
    return inside ? y : cpgen_nan_f64();
}

static inline double cpgen_tan_moderate_f64(double x)
{
    return cpgen_sin_moderate_f64(x) / cpgen_cos_moderate_f64(x);
}

/* x = k pi/2 + r for any finite x of 2^19 or more in size, after Payne and Hanek (1983): 192 bits of 2/pi, from the first
 * that leaves a remainder modulo 4 on, times the mantissa, in integers.  Returns r, *quarter = k modulo 4. */
static inline double cpgen_quarter_far_f64(double x, uint64_t *quarter)
{
    /* 64 zeros, then the bits of 2/pi */
    static const uint32_t digits[40] = {
        UINT32_C(0x00000000), UINT32_C(0x00000000), UINT32_C(0xa2f9836e), UINT32_C(0x4e441529), UINT32_C(0xfc2757d1),
        UINT32_C(0xf534ddc0), UINT32_C(0xdb629599), UINT32_C(0x3c439041), UINT32_C(0xfe5163ab), UINT32_C(0xdebbc561),
        UINT32_C(0xb7246e3a), UINT32_C(0x424dd2e0), UINT32_C(0x06492eea), UINT32_C(0x09d1921c), UINT32_C(0xfe1deb1c),
        UINT32_C(0xb129a73e), UINT32_C(0xe88235f5), UINT32_C(0x2ebb4484), UINT32_C(0xe99c7026), UINT32_C(0xb45f7e41),
        UINT32_C(0x3991d639), UINT32_C(0x835339f4), UINT32_C(0x9c845f8b), UINT32_C(0xbdf9283b), UINT32_C(0x1ff897ff),
        UINT32_C(0xde05980f), UINT32_C(0xef2f118b), UINT32_C(0x5a0a6d1f), UINT32_C(0x6d367ecf), UINT32_C(0x27cb09b7),
        UINT32_C(0x4f463f66), UINT32_C(0x9e5fea2d), UINT32_C(0x7527bac7), UINT32_C(0xebe5f17b), UINT32_C(0x3d0739f7),
        UINT32_C(0x8a5292ea), UINT32_C(0x6bfb5fb1), UINT32_C(0x1f8d5d08), UINT32_C(0x56033046), UINT32_C(0xfc7b6bab)
    };
    const uint64_t size = cpgen_to_bits_f64(x) & UINT64_C(0x7fffffffffffffff);
    const uint64_t mantissa = (size & UINT64_C(0xfffffffffffff)) | UINT64_C(0x10000000000000);
    const uint32_t first = (uint32_t)(size >> 52U) - 1013U;
    const uint32_t word = first >> 5U;
    const uint32_t shift = first & 31U;
    const uint64_t low = mantissa & UINT32_C(0xffffffff);
    const uint64_t high = mantissa >> 32U;
    uint64_t product[6];
    uint64_t carry = 0U;
    uint64_t before = 0U;
    uint64_t a;
    uint64_t b;
    uint64_t top;
    uint64_t up;
    uint64_t right;
    uint64_t left;
    uint64_t across;
    double scale = 0x1p-63;
    double r;
    int k;
    /* modulo 2^192, the last word first */
    for (k = 5; k >= 0; --k)
    {
        const uint32_t at = word + (uint32_t)k;
        const uint64_t pair = ((uint64_t)digits[at] << 32U) | digits[at + 1U];
        const uint64_t piece = (pair >> (32U - shift)) & UINT32_C(0xffffffff);
        const uint64_t one = low * piece;
        const uint64_t two = high * before;
        const uint64_t sum = (one & UINT32_C(0xffffffff)) + (two & UINT32_C(0xffffffff)) + carry;
        product[k] = sum & UINT32_C(0xffffffff);
        carry = (sum >> 32U) + (one >> 32U) + (two >> 32U);
        before = piece;
    }
    a = (product[0] << 32U) | product[1];
    b = (product[2] << 32U) | product[3];
    /* two bits count quarters; the fraction after them is taken from the nearer end */
    top = a >> 62U;
    a = (a << 2U) | (b >> 62U);
    b = (b << 2U) | (product[4] >> 30U);
    up = a >> 63U;
    a ^= (uint64_t)0U - up;
    b ^= (uint64_t)0U - up;
    top += up;
    /* leading zeros away, in six steps */
    for (k = 5; k >= 0; --k)
    {
        const uint32_t step = (uint32_t)1U << (uint32_t)k;
        const int zeros = (a >> (64U - step)) == 0U;
        a = zeros ? ((a << step) | (b >> (64U - step))) : a;
        b = zeros ? (b << step) : b;
        scale = zeros ? (scale * cpgen_from_bits_f64((uint64_t)(1023U - step) << 52U)) : scale;
    }
    /* the upper 64 of the 128 bits of a times pi/2 */
    right = a & UINT32_C(0xffffffff);
    left = a >> 32U;
    across = ((right * UINT32_C(0x2168c235)) >> 32U) + ((right * UINT32_C(0xc90fdaa2)) & UINT32_C(0xffffffff))
        + ((left * UINT32_C(0x2168c235)) & UINT32_C(0xffffffff));
    a = (left * UINT32_C(0xc90fdaa2)) + ((right * UINT32_C(0xc90fdaa2)) >> 32U) + ((left * UINT32_C(0x2168c235)) >> 32U)
        + (across >> 32U);
    r = (double)a * scale;
    r = (up != 0U) ? -r : r;
    *quarter = (x < 0.0) ? ((uint64_t)0U - top) : top;
    return (x < 0.0) ? -r : r;
}

/* x = k pi/2 + r for any x; infinity and NaN give NaN */
static inline double cpgen_quarter_any_f64(double x, uint64_t *quarter)
{
    const double size = cpgen_fabs_f64(x);
    if (size <= 1000000.0)
    {
        return cpgen_quarter_f64(x, quarter);
    }
    if (size < cpgen_infinity_f64())
    {
        return cpgen_quarter_far_f64(x, quarter);
    }
    *quarter = 0U;
    return cpgen_nan_f64();
}

static inline double cpgen_sin_f64(double x)
{
    uint64_t quarter;
    const double r = cpgen_quarter_any_f64(x, &quarter);
    const double s = cpgen_sin_near_f64(r);
    const double c = cpgen_cos_near_f64(r);
    const double size = ((quarter & 1U) != 0U) ? c : s;
    const double y = ((quarter & 2U) != 0U) ? -size : size;
    return (x == 0.0) ? x : y;
}

static inline double cpgen_cos_f64(double x)
{
    uint64_t quarter;
    const double r = cpgen_quarter_any_f64(x, &quarter);
    const double s = cpgen_sin_near_f64(r);
    const double c = cpgen_cos_near_f64(r);
    const double size = ((quarter & 1U) != 0U) ? s : c;
    return (((quarter + 1U) & 2U) != 0U) ? -size : size;
}

static inline double cpgen_tan_f64(double x)
{
    uint64_t quarter;
    const double r = cpgen_quarter_any_f64(x, &quarter);
    const double s = cpgen_sin_near_f64(r);
    const double c = cpgen_cos_near_f64(r);
    const double y = ((quarter & 1U) != 0U) ? (-c / s) : (s / c);
    return (x == 0.0) ? x : y;
}

static inline double cpgen_sinh_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double growth = cpgen_expm1_f64(size);
    const double root = cpgen_exp_f64(0.5 * size);
    const double low = 0.5 * (growth + (growth / (growth + 1.0)));
    const double high = (0.5 * root) * root;
    return cpgen_copysign_f64((size < 700.0) ? low : high, x);
}

static inline double cpgen_cosh_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double growth = cpgen_exp_f64(size);
    const double root = cpgen_exp_f64(0.5 * size);
    const double low = (0.5 * growth) + (0.5 / growth);
    const double high = (0.5 * root) * root;
    return (size < 700.0) ? low : high;
}

/* sqrt(x^2 + y^2) without overflow on the way */
static inline double cpgen_hypot_f64(double x, double y)
{
    const double a = cpgen_fabs_f64(x);
    const double b = cpgen_fabs_f64(y);
    const double large = (a > b) ? a : b;
    const double small = (a > b) ? b : a;
    const double ratio = small / large;
    const double length = large * cpgen_sqrt_f64(1.0 + (ratio * ratio));
    const double finite = (large == 0.0) ? large : length;
    const double infinite = ((a == cpgen_infinity_f64()) || (b == cpgen_infinity_f64())) ? cpgen_infinity_f64() : finite;
    return (((x != x) || (y != y)) && (infinite != cpgen_infinity_f64())) ? (x + y) : infinite;
}

/* ---- inverse trigonometric and hyperbolic functions, double ---- */

static inline double cpgen_atan_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const int high = size > 0x1.3504f333f9de6p+1;
    const int middle = size > 0.66;
    const double less = middle ? (size - 1.0) : size;
    const double more = middle ? (size + 1.0) : 1.0;
    const double over = high ? -1.0 : less;
    const double under = high ? size : more;
    const double y = over / under;
    const double eighth = middle ? 0x1.921fb54442d18p-1 : 0.0;
    const double little = middle ? 0x1.1a62633145c07p-55 : 0.0;
    const double from = high ? 0x1.921fb54442d18p+0 : eighth;
    const double rest = high ? 0x1.1a62633145c07p-54 : little;
    const double z = y * y;
    double p = -0x1.c007fa1f72594p-1;
    p = (p * z) + (-0x1.028545b6b807ap+4);
    p = (p * z) + (-0x1.2c08c36880273p+6);
    p = (p * z) + (-0x1.eb8bf2d05ba25p+6);
    p = (p * z) + (-0x1.03669fd28ec8ep+6);
    double q = 0x1.0000000000000p+0;
    q = (q * z) + 0x1.8dbc45b14603cp+4;
    q = (q * z) + 0x1.4a0dd43b8fa25p+7;
    q = (q * z) + 0x1.b0e18d2e2be3bp+8;
    q = (q * z) + 0x1.e563f13b049eap+8;
    q = (q * z) + 0x1.8519efbbd62ecp+7;
    p = (z * p) / q;
    p = from + (((y * p) + rest) + y);
    return cpgen_copysign_f64(p, x);
}

static inline double cpgen_atan2_f64(double y, double x)
{
    const double a = cpgen_fabs_f64(y);
    const double b = cpgen_fabs_f64(x);
    const int same = (a == b) && (b != 0.0);
    const double ratio = same ? 1.0 : (a / ((b == 0.0) ? 1.0 : b));
    const double acute = (b == 0.0) ? ((a == 0.0) ? 0.0 : 0x1.921fb54442d18p+0) : cpgen_atan_f64(ratio);
    const int left = (cpgen_to_bits_f64(x) >> 63U) != 0U;
    const double angle = left ? (0x1.921fb54442d18p+1 - (acute - 0x1.1a62633145c07p-53)) : acute;
    return ((x != x) || (y != y)) ? (x + y) : cpgen_copysign_f64(angle, y);
}

static inline double cpgen_asin_f64(double x)
{
    return cpgen_atan2_f64(x, cpgen_sqrt_f64((1.0 - x) * (1.0 + x)));
}

static inline double cpgen_acos_f64(double x)
{
    return cpgen_atan2_f64(cpgen_sqrt_f64((1.0 - x) * (1.0 + x)), x);
}

static inline double cpgen_asinh_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const int far = size >= 0x1p28;
    const double near = far ? 1.0 : size;
    const double square = near * near;
    const double low = near + (square / (1.0 + cpgen_sqrt_f64(square + 1.0)));
    const double grown = cpgen_log1p_f64(far ? (size - 1.0) : low);
    return cpgen_copysign_f64(far ? (grown + 0x1.62e42fefa39efp-1) : grown, x);
}

static inline double cpgen_acosh_f64(double x)
{
    const int far = x >= 0x1p28;
    const int inside = x >= 1.0;
    const double less = inside ? (x - 1.0) : 1.0;
    const double near = far ? 1.0 : less;
    const double low = near + cpgen_sqrt_f64(near * (near + 2.0));
    const double grown = cpgen_log1p_f64(far ? less : low);
    const double value = far ? (grown + 0x1.62e42fefa39efp-1) : grown;
    const double outside = (x == x) ? cpgen_nan_f64() : x;
    return inside ? value : outside;
}

static inline double cpgen_atanh_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    return cpgen_copysign_f64(0.5 * cpgen_log1p_f64((size + size) / (1.0 - size)), x);
}

/* ---- powers: log2(x) and its product with y in two parts each, after fdlibm, double ---- */

static inline double cpgen_upper_f64(double x)
{
    return cpgen_from_bits_f64(cpgen_to_bits_f64(x) & UINT64_C(0xffffffff00000000));
}

/* x^y for finite x > 0 and finite y */
static inline double cpgen_pow_positive_f64(double x, double y)
{
    const int subnormal = x < 0x1p-1022;
    const uint64_t bits = cpgen_to_bits_f64(subnormal ? (x * 0x1p54) : x);
    const double m = cpgen_from_bits_f64((bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000));
    const int second = (m >= 0x1.3988e1409212ep+0) && (m < 0x1.bb67ae8584caap+0);
    const int third = m >= 0x1.bb67ae8584caap+0;
    const double mantissa = third ? (0.5 * m) : m;
    const double base = second ? 1.5 : 1.0;
    const double exponent = ((double)(int32_t)(bits >> 52U) - 1023.0) + (third ? 1.0 : 0.0) - (subnormal ? 54.0 : 0.0);
    /* s = (m - base) / (m + base) in two parts */
    const double difference = mantissa - base;
    const double sum = mantissa + base;
    const double s = difference / sum;
    const double sh = cpgen_upper_f64(s);
    const double th = cpgen_upper_f64(sum);
    const double tl = mantissa - (th - base);
    const double sl = ((difference - (sh * th)) - (sh * tl)) / sum;
    /* log2(m / base) = 2 / (3 log 2) (3 s + s^3 + ...) */
    const double z = s * s;
    double p = 0x1.a513f075206bap-3;
    p = (p * z) + 0x1.d87af4f7ce712p-3;
    p = (p * z) + 0x1.1745e96517755p-2;
    p = (p * z) + 0x1.555555465e3e6p-2;
    p = (p * z) + 0x1.b6db6db6ded90p-2;
    p = (p * z) + 0x1.3333333333332p-1;
    {
        const double tail = ((z * z) * p) + (sl * (sh + s));
        const double square = sh * sh;
        const double uh = cpgen_upper_f64((3.0 + square) + tail);
        const double ul = tail - ((uh - 3.0) - square);
        const double a = sh * uh;
        const double b = (sl * uh) + (ul * s);
        const double ph = cpgen_upper_f64(a + b);
        const double pl = b - (ph - a);
        const double zh = 0x1.ec709c0000000p-1 * ph;
        const double zl = ((0x1.c3a03fd749fc1p-25 * ph) + (pl * 0x1.ec709dc3a03fdp-1)) + (second ? 0x1.fbd6879fa00b1p-32 : 0.0);
        const double dh = second ? 0x1.2b80347000000p-1 : 0.0;
        const double t1 = cpgen_upper_f64(((zh + zl) + dh) + exponent);
        const double t2 = zl - (((t1 - exponent) - dh) - zh);
        /* y log2(x) */
        const double yh = cpgen_upper_f64(y);
        const double low = ((y - yh) * t1) + (y * t2);
        const double high = yh * t1;
        const double total = low + high;
        const double below = (total < 1024.0) ? total : 1024.0;
        const double bounded = (below > -1080.0) ? below : -1080.0;
        const double shifted = bounded + 0x1.8p52;
        const double n = shifted - 0x1.8p52;
        const uint64_t biased = (cpgen_to_bits_f64(shifted) - cpgen_to_bits_f64(0x1.8p52)) + 2048U;
        const double rest = high - n;
        const double wh = cpgen_upper_f64(low + rest);
        const double wl = low - (wh - rest);
        const double eh = wh * 0x1.62e42f8000000p-1;
        const double el = (wl * 0x1.62e42fefa39efp-1) + (wh * 0x1.be8e7bcd5e4f2p-27);
        const double v = eh + el;
        const double w = el - (v - eh);
        const double power = 1.0 + (v + (w + ((v * v) * cpgen_exp_tail_f64(v)) + (v * w)));
        const double inside = cpgen_scale_f64(power, biased);
        const double above = (total > 1024.0) ? cpgen_infinity_f64() : inside;
        return (total <= -1080.0) ? 0.0 : above;
    }
}

static inline double cpgen_pow_f64(double x, double y)
{
    const double size = cpgen_fabs_f64(x);
    const double order = cpgen_fabs_f64(y);
    const int whole = (order >= 0x1p52) || (((order + 0x1p52) - 0x1p52) == order);
    const double halved = 0.5 * order;
    const int odd = whole && (order < 0x1p53) && (((halved + 0x1p52) - 0x1p52) != halved);
    const int negative = (cpgen_to_bits_f64(x) >> 63U) != 0U;
    double result;
    if ((y == 0.0) || (x == 1.0))
    {
        return 1.0;
    }
    if ((x != x) || (y != y))
    {
        return x + y;
    }
    if (order == cpgen_infinity_f64())
    {
        if (size == 1.0)
        {
            return 1.0;
        }
        return ((size > 1.0) == (y > 0.0)) ? order : 0.0;
    }
    if ((size == 0.0) || (size == cpgen_infinity_f64()))
    {
        result = ((size == 0.0) == (y > 0.0)) ? 0.0 : cpgen_infinity_f64();
    }
    else if ((x < 0.0) && !whole)
    {
        return cpgen_nan_f64();
    }
    else
    {
        result = cpgen_pow_positive_f64(size, y);
    }
    return (negative && odd) ? -result : result;
}

/* ---- error functions, double ---- */

/* exp(x^2) erfc(x) for 0 <= x <= 29: 1 / (1 + 2 x) times a polynomial in (x - 4) / (x + 4) */
static inline double cpgen_erfc_scaled_f64(double x)
{
    const double z = (x - 4.0) / (x + 4.0);
    double p = 0x1.6fbfbc73f7b96p-35;
    p = (p * z) + (-0x1.2e4a1567a7226p-33);
    p = (p * z) + (-0x1.279c6e4c55443p-31);
    p = (p * z) + 0x1.ec1f75354e746p-30;
    p = (p * z) + 0x1.0f809a563bdc6p-28;
    p = (p * z) + (-0x1.f96a93e7cc6f0p-27);
    p = (p * z) + (-0x1.77b283fa2e4e6p-26);
    p = (p * z) + 0x1.d8dd577cdf1c6p-24;
    p = (p * z) + 0x1.52cb6cb440e9fp-24;
    p = (p * z) + (-0x1.bae01eb0d8ac7p-21);
    p = (p * z) + 0x1.386645c623edcp-22;
    p = (p * z) + 0x1.7f2369c34c9ffp-18;
    p = (p * z) + (-0x1.7881b41b9237dp-17);
    p = (p * z) + (-0x1.9958ab3ba5c33p-16);
    p = (p * z) + 0x1.3be033c67d86cp-13;
    p = (p * z) + (-0x1.a1df2abbaddf5p-13);
    p = (p * z) + (-0x1.8d4a999e1af42p-11);
    p = (p * z) + 0x1.49c6728d8f7d4p-8;
    p = (p * z) + (-0x1.09623885391d1p-6);
    p = (p * z) + 0x1.3079edf66992fp-5;
    p = (p * z) + (-0x1.0fb06dfe49094p-4);
    p = (p * z) + 0x1.7fee004e1312cp-4;
    p = (p * z) + (-0x1.9ddb23c3e90c5p-4);
    p = (p * z) + 0x1.16ecefcfa5342p-4;
    p = (p * z) + 0x1.f7f5df66fd7b5p-7;
    p = (p * z) + (-0x1.1df1ad154a28ep-3);
    p = (p * z) + 0x1.3ba5916e9fd7fp+0;
    return p / (1.0 + (2.0 * x));
}

/* cpgen_erfc_f64(x) for x >= 0 */
static inline double cpgen_erfc_right_f64(double x)
{
    const double near = (x < 28.0) ? x : 28.0;
    const double high = cpgen_upper_f64(near);
    const double low = (near - high) * (near + high);
    return (cpgen_exp_f64(-(high * high)) * (1.0 + cpgen_expm1_f64(-low))) * cpgen_erfc_scaled_f64(near);
}

static inline double cpgen_erf_near_f64(double x)
{
    const double z = x * x;
    double p = -0x1.acbabf57ef501p-31;
    p = (p * z) + 0x1.d777c51831224p-27;
    p = (p * z) + (-0x1.5c14fc0842667p-23);
    p = (p * z) + 0x1.b982295083cfcp-20;
    p = (p * z) + (-0x1.f4ca8c11f4161p-17);
    p = (p * z) + 0x1.f9a2bee1b1f05p-14;
    p = (p * z) + (-0x1.c02db06ca928fp-11);
    p = (p * z) + 0x1.565bccfa6f4bep-8;
    p = (p * z) + (-0x1.b82ce31204d17p-6);
    p = (p * z) + 0x1.ce2f21a040fbfp-4;
    p = (p * z) + (-0x1.812746b0379c1p-2);
    p = (p * z) + 0x1.20dd750429b6dp+0;
    return x * p;
}

static inline double cpgen_erf_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double near = cpgen_erf_near_f64((size < 1.0) ? x : 1.0);
    const double far = 1.0 - cpgen_erfc_right_f64((size < 28.0) ? size : 28.0);
    return (x == x) ? ((size < 1.0) ? near : cpgen_copysign_f64(far, x)) : x;
}

static inline double cpgen_erfc_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double right = cpgen_erfc_right_f64((size < 28.0) ? size : 28.0);
    const double near = 1.0 - cpgen_erf_near_f64((size < 0.5) ? x : 0.5);
    const double far = (x > 0.0) ? right : (2.0 - right);
    return (x == x) ? ((size < 0.5) ? near : far) : x;
}

/* ---- smooth activations, double ---- */

/* log(1 + exp(x)) */
static inline double cpgen_softplus_f64(double x)
{
    return ((x < 0.0) ? 0.0 : x) + cpgen_log1p_f64(cpgen_exp_f64(-cpgen_fabs_f64(x)));
}

/* 1 / (1 + exp(-x)) */
static inline double cpgen_sigmoid_f64(double x)
{
    const double decay = cpgen_exp_f64(-cpgen_fabs_f64(x));
    return ((x < 0.0) ? decay : 1.0) / (1.0 + decay);
}

/* log(cosh(x)): |x| above 20 is split off, below cosh(x) - 1 = expm1(x)^2 / (2 exp(x)) */
static inline double cpgen_logcosh_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double near = (size < 20.0) ? size : 20.0;
    const double growth = cpgen_expm1_f64(near);
    return (size - near) + cpgen_log1p_f64((growth * growth) / (2.0 * (1.0 + growth)));
}

/* 1 / cosh(x) */
static inline double cpgen_sech_f64(double x)
{
    const double decay = cpgen_exp_f64(-cpgen_fabs_f64(x));
    return (2.0 * decay) / (1.0 + (decay * decay));
}

/* x / (1 + exp(-x)) */
static inline double cpgen_silu_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    /* far left exp(x) is smaller than the result: it is taken exp(40) times as large */
    const int far = size > 700.0;
    const double decay = cpgen_exp_f64((far ? 40.0 : 0.0) - size);
    const double left = (x * decay) * (far ? 0x1.39792499b1a24p-58 : 1.0);
    return ((x < 0.0) ? left : x) / (1.0 + decay);
}

/* factor times the distribution function of the standard normal */
static inline double cpgen_normal_f64(double x, double factor)
{
    const double size = (cpgen_fabs_f64(x) < 40.0) ? cpgen_fabs_f64(x) : 40.0;
    const double s = size * 0.70710678118654752;
    const double high = cpgen_upper_f64(size);
    const double low = (size - high) * (size + high);
    const double decay = cpgen_exp_f64(-(0.5 * (high * high))) * (1.0 + cpgen_expm1_f64(-(0.5 * low)));
    const double tail = ((decay * factor) * (0.5 * cpgen_erfc_scaled_f64(s)));
    const double near = factor * (0.5 * (1.0 - cpgen_erf_near_f64((s < 0.5) ? -(x * 0.70710678118654752) : 0.5)));
    const double far = (x < 0.0) ? tail : (factor - tail);
    return (x == x) ? ((s < 0.5) ? near : far) : x;
}

/* distribution function of the standard normal */
static inline double cpgen_normcdf_f64(double x)
{
    return cpgen_normal_f64(x, 1.0);
}

/* x times the distribution function of the standard normal */
static inline double cpgen_gelu_f64(double x)
{
    return cpgen_normal_f64(x, x);
}

/* ---- logarithm of the normal distribution function and its derivatives, double ---- */

/* (x + phi(x) / Phi(x)) for x = -t, t >= 0: 1 / (1 + t) times a polynomial in (t - 4) / (t + 4) */
static inline double cpgen_mills_left_f64(double t)
{
    const double near = (t < 1e30) ? t : 1e30;
    const double z = (near - 4.0) / (near + 4.0);
    double p = 0x1.dada646b8dfbep-28;
    p = (p * z) + 0x1.c30a8b144a4b8p-30;
    p = (p * z) + (-0x1.3a5ea4945dc65p-24);
    p = (p * z) + 0x1.613cd08a5b1b3p-27;
    p = (p * z) + 0x1.ad43be885843ep-22;
    p = (p * z) + (-0x1.2d2455b6fdec6p-22);
    p = (p * z) + (-0x1.9bc23f79ce5dcp-20);
    p = (p * z) + 0x1.3924d3582736ep-19;
    p = (p * z) + 0x1.341b12a31c17bp-18;
    p = (p * z) + (-0x1.ad525d8f41976p-17);
    p = (p * z) + (-0x1.58b47fd62c610p-17);
    p = (p * z) + 0x1.d01dc7802374bp-15;
    p = (p * z) + 0x1.351b8dcb2007dp-17;
    p = (p * z) + (-0x1.a88b89a0639e3p-13);
    p = (p * z) + 0x1.2051ac1a5cbe9p-14;
    p = (p * z) + 0x1.4f05c8921a123p-11;
    p = (p * z) + (-0x1.25cd63870b883p-11);
    p = (p * z) + (-0x1.bbff43eed6a56p-10);
    p = (p * z) + 0x1.68b70be0e9e4cp-9;
    p = (p * z) + 0x1.af935c3235834p-9;
    p = (p * z) + (-0x1.5b85b57e5da6fp-7);
    p = (p * z) + (-0x1.27fbb009cc4afp-10);
    p = (p * z) + 0x1.099e7c887a559p-5;
    p = (p * z) + (-0x1.f8202f1ccf5acp-6);
    p = (p * z) + (-0x1.f44b58ac48cd4p-5);
    p = (p * z) + 0x1.8b202da160976p-3;
    p = (p * z) + (-0x1.896db09f596bep-3);
    p = (p * z) + (-0x1.fc5da950de3f6p-5);
    p = (p * z) + 0x1.20c6f2f8a1916p+0;
    return p / (1.0 + t);
}

/* phi(x) / Phi(x) of the standard normal for x >= 0 */
static inline double cpgen_mills_right_f64(double x)
{
    const double size = (x < 40.0) ? x : 40.0;
    const double high = cpgen_upper_f64(size);
    const double low = (size - high) * (size + high);
    const double decay = cpgen_exp_f64(-(0.5 * (high * high))) * (1.0 + cpgen_expm1_f64(-(0.5 * low)));
    return (0.398942280401432678 * decay) / cpgen_normcdf_f64(x);
}

/* phi(x) / Phi(x), the slope of log(Phi(x)) */
static inline double cpgen_mills_f64(double x)
{
    const double left = cpgen_mills_left_f64((x < 0.0) ? -x : 0.0) - x;
    const double right = cpgen_mills_right_f64((x < 0.0) ? 0.0 : x);
    return (x < 0.0) ? left : ((x == x) ? right : x);
}

/* x + phi(x) / Phi(x) */
static inline double cpgen_mills_gap_f64(double x)
{
    const double left = cpgen_mills_left_f64((x < 0.0) ? -x : 0.0);
    const double right = x + cpgen_mills_right_f64((x < 0.0) ? 0.0 : x);
    return (x < 0.0) ? left : ((x == x) ? right : x);
}

/* log(Phi(x)) = -x^2/2 - log(sqrt(2 pi) phi(x) / Phi(x)) on the left */
static inline double cpgen_log_ndtr_f64(double x)
{
    const double side = (x < 0.0) ? x : 0.0;
    const double left = -(((0.5 * side) * side) + (cpgen_log_f64(cpgen_mills_left_f64(-side) - side) + 0.918938533204672742));
    const double right = cpgen_log1p_f64(-cpgen_normcdf_f64((x < 0.0) ? 0.0 : -x));
    return (x < 0.0) ? left : ((x == x) ? right : x);
}

/* ---- spherical Bessel functions, inverse error functions, Lambert's W, double ---- */

/* j_n(x) for n >= 0: the power series up to |x| = n + 1, the recurrence upwards from there */
static inline double cpgen_jn_f64(int n, double x)
{
    const double size = cpgen_fabs_f64(x);
    double lower;
    double value;
    int k;
    if (size <= ((double)n + 1.0))
    {
        const double half = 0.5 * (x * x);
        double sum = 1.0;
        value = 1.0;
        for (k = 22; k >= 1; --k)
        {
            sum = 1.0 - (((half / (double)k) / (double)((2 * (n + k)) + 1)) * sum);
        }
        for (k = 1; k <= n; ++k)
        {
            value *= x / (double)((2 * k) + 1);
        }
        return value * sum;
    }
    if (size == cpgen_infinity_f64())
    {
        return 0.0;
    }
    value = cpgen_sin_f64(x) / x;
    lower = cpgen_cos_f64(x) / x;
    for (k = 0; k < n; ++k)
    {
        const double next = (((double)((2 * k) + 1) / x) * value) - lower;
        lower = value;
        value = next;
    }
    return value;
}

/* sin(x) / x */
static inline double cpgen_sinc_f64(double x)
{
    return cpgen_jn_f64(0, x);
}

/* derivative of order k of (exp(x) - 1) / x, the integral of s^k exp(s x) over 0 <= s <= 1: series of positive terms
 * up to |x| = 6, the recurrence from there */
static inline double cpgen_phi1_f64(int k, double x)
{
    const double size = cpgen_fabs_f64(x);
    double value;
    double end;
    int m;
    if ((k == 0) && (size < 700.0))
    {
        return (x == 0.0) ? 1.0 : (cpgen_expm1_f64(x) / x);
    }
    if (size <= 6.0)
    {
        value = (x < 0.0) ? 1.0 : 0.0;
        for (m = 40; m >= 0; --m)
        {
            if (x >= 0.0)
            {
                value = (1.0 / (double)(k + 1 + m)) + ((x / (double)(m + 1)) * value);
            }
            else if (m > 0)
            {
                value = 1.0 + ((size / (double)(k + 1 + m)) * value);
            }
        }
        return (x < 0.0) ? ((cpgen_exp_f64(x) * value) / (double)(k + 1)) : value;
    }
    if (size == cpgen_infinity_f64())
    {
        return (x < 0.0) ? 0.0 : x;
    }
    value = -cpgen_expm1_f64(-size) / size;
    end = (x < 0.0) ? cpgen_exp_f64(x) : 1.0;
    for (m = 1; m <= k; ++m)
    {
        value = (end - ((double)m * value)) / size;
        value = (x < 0.0) ? -value : value;
    }
    if (x > 0.0)
    {
        end = cpgen_exp_f64(0.5 * x);
        value = (end * value) * end;
    }
    return value;
}

/* w with erfc(w) = q for 0 < q <= 1/2: Newton's method on the logarithms */
static inline double cpgen_erfc_tail_f64(double q)
{
    const double target = -cpgen_log_f64(q);
    double w = cpgen_sqrt_f64(target - (0.5 * cpgen_log_f64(1.0 + (3.0 * target))));
    int k;
    for (k = 0; k < 5; ++k)
    {
        const double scaled = cpgen_erfc_scaled_f64(w);
        w += ((target - (w * w)) + cpgen_log_f64(scaled)) * (0.886226925452758014 * scaled);
    }
    return w;
}

/* w with erf(w) = x for |x| <= 1/2, by Newton's method */
static inline double cpgen_erfinv_near_f64(double x)
{
    double w = 0.886226925452758014 * (x * (1.0 + ((x * x) * (0.261799387799149436 + (0.143931730849218955 * (x * x))))));
    int k;
    for (k = 0; k < 3; ++k)
    {
        w -= ((cpgen_erf_near_f64(w) - x) * 0.886226925452758014) * cpgen_exp_f64(w * w);
    }
    return (x == 0.0) ? x : w;
}

static inline double cpgen_erfinv_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    if (size <= 0.5)
    {
        return cpgen_erfinv_near_f64(x);
    }
    if (!(size < 1.0))
    {
        return (size == 1.0) ? cpgen_copysign_f64(cpgen_infinity_f64(), x) : cpgen_nan_f64();
    }
    return cpgen_copysign_f64(cpgen_erfc_tail_f64(1.0 - size), x);
}

static inline double cpgen_erfcinv_f64(double q)
{
    if ((q > 0.0) && (q < 0.5))
    {
        return cpgen_erfc_tail_f64(q);
    }
    return (q == 0.0) ? cpgen_infinity_f64() : cpgen_erfinv_f64(1.0 - q);
}

/* w exp(w) = x, the branch with w >= -1, by the iteration of Iacono and Boyd (2017) */
static inline double cpgen_lambertw_f64(double x)
{
    /* e (x + 1/e) */
    const double above = 2.71828182845904524 * ((x + 0x1.78b56362cef38p-2) - 0x1.ca8a4270fadf5p-57);
    double w;
    int k;
    if (!(above >= 0.0) || (x == 0.0) || (x == cpgen_infinity_f64()))
    {
        return (above < 0.0) ? cpgen_nan_f64() : x;
    }
    if (x < -0.25)
    {
        const double p = cpgen_sqrt_f64(2.0 * above);
        w = -1.0 + (p * (1.0 + (p * (-0.333333333333333333 + (p * (0.152777777777777778 - (p * 0.0796296296296296296)))))));
        if (p < 1e-4)
        {
            return w;
        }
    }
    else
    {
        const double growth = cpgen_log1p_f64(x);
        w = growth * (1.0 - (cpgen_log1p_f64(growth) / (2.0 + growth)));
    }
    for (k = 0; k < 5; ++k)
    {
        w = (w / (1.0 + w)) * (1.0 + cpgen_log_f64(x / w));
    }
    return w;
}

/* dw/dx = 1 / (exp(w) (1 + w)) */
static inline double cpgen_lambertw_slope_f64(double x)
{
    const double w = cpgen_lambertw_f64(x);
    if (x == cpgen_infinity_f64())
    {
        return 0.0;
    }
    return (x > 1.0) ? ((w / (1.0 + w)) / x) : (cpgen_exp_f64(-w) / (1.0 + w));
}

/* x log(y), 0 where x is 0 */
static inline double cpgen_xlogy_f64(double x, double y)
{
    return ((x == 0.0) && (y == y)) ? 0.0 : (x * cpgen_log_f64(y));
}

/* x / y, 0 where x is 0 */
static inline double cpgen_xdivy_f64(double x, double y)
{
    return ((x == 0.0) && (y == y)) ? 0.0 : (x / y);
}

/* ---- Bessel functions of order n >= 0, double ----
 *
 * Of orders 0 and 1 for large x: amplitude and phase, or what is left beside the exponential function, as polynomials in
 * (x - a) / (x + 2), interpolated in Chebyshev points. */

/* sqrt(pi x / 2) (cos(x - c) J_0(x) + sin(x - c) Y_0(x)), c = pi / 4, for x >= 2 */
static inline double cpgen_bessel_p0_f64(double x)
{
    const double z = (x - 6.0) / (x + 2.0);
    double p = -0x1.8e16129eb8551p-38;
    p = (p * z) + 0x1.28265a02a0bd9p-37;
    p = (p * z) + (-0x1.0f05953e401e6p-35);
    p = (p * z) + 0x1.6d69b9bdcc139p-34;
    p = (p * z) + (-0x1.f89045ed58497p-33);
    p = (p * z) + 0x1.1e5c6a4528463p-30;
    p = (p * z) + (-0x1.82f5b4f206cf6p-29);
    p = (p * z) + 0x1.49345e2eb7698p-27;
    p = (p * z) + (-0x1.1adf3d8870540p-25);
    p = (p * z) + 0x1.b3cf2772d86d9p-24;
    p = (p * z) + (-0x1.7f67d2a76bdcep-22);
    p = (p * z) + 0x1.3cfaa19e5fd41p-20;
    p = (p * z) + (-0x1.067a35ae215a1p-18);
    p = (p * z) + 0x1.d2031cecd9aa4p-17;
    p = (p * z) + (-0x1.87e9997e23865p-15);
    p = (p * z) + 0x1.50294799f6e06p-13;
    p = (p * z) + (-0x1.3422ca56c1d74p-11);
    p = (p * z) + 0x1.f132f067a4a0fp-10;
    p = (p * z) + (-0x1.1ed9f08948d13p-8);
    p = (p * z) + 0x1.3be159258c201p-8;
    p = (p * z) + 0x1.ff0a1082add68p-1;
    return p;
}

/* x sqrt(pi x / 2) (cos(x - c) Y_0(x) - sin(x - c) J_0(x)), c = pi / 4, for x >= 2 */
static inline double cpgen_bessel_q0_f64(double x)
{
    const double z = (x - 6.0) / (x + 2.0);
    double p = -0x1.3f0889ab8c2d6p-38;
    p = (p * z) + 0x1.2762071e7574dp-39;
    p = (p * z) + 0x1.9eb42bb87313fp-35;
    p = (p * z) + 0x1.784b90785c505p-35;
    p = (p * z) + (-0x1.b0a01bef22fc6p-34);
    p = (p * z) + (-0x1.f2d0c054ca766p-33);
    p = (p * z) + (-0x1.2405b7bb24c1fp-32);
    p = (p * z) + (-0x1.6770f76b633eep-32);
    p = (p * z) + 0x1.0c4ef65bca044p-32;
    p = (p * z) + 0x1.485ba386a8715p-29;
    p = (p * z) + 0x1.3f79c0a6dd3c0p-27;
    p = (p * z) + 0x1.34fa461c02fdfp-27;
    p = (p * z) + 0x1.0b44041c003c5p-26;
    p = (p * z) + (-0x1.97264a31d7e06p-23);
    p = (p * z) + (-0x1.d1f717f9d94d3p-28);
    p = (p * z) + (-0x1.1848f11ac1170p-19);
    p = (p * z) + 0x1.4957e8c07c1f1p-17;
    p = (p * z) + (-0x1.7b615985ef865p-16);
    p = (p * z) + 0x1.ba8e8a148c245p-13;
    p = (p * z) + (-0x1.5586e880717f2p-10);
    p = (p * z) + 0x1.008b682068465p-8;
    p = (p * z) + (-0x1.33aa4abad5416p-8);
    p = (p * z) + (-0x1.f845766c4a58ep-4);
    return p;
}

/* sqrt(pi x / 2) (cos(x - c) J_1(x) + sin(x - c) Y_1(x)), c = 3 pi / 4, for x >= 2 */
static inline double cpgen_bessel_p1_f64(double x)
{
    const double z = (x - 6.0) / (x + 2.0);
    double p = 0x1.065f974d12394p-35;
    p = (p * z) + (-0x1.6952bd33c1aafp-34);
    p = (p * z) + 0x1.1da77937b42b8p-33;
    p = (p * z) + (-0x1.a1dee83f995b1p-32);
    p = (p * z) + 0x1.874b159fc086ap-30;
    p = (p * z) + (-0x1.4307e9d7e2c3ap-28);
    p = (p * z) + 0x1.d231ef09ee3f9p-27;
    p = (p * z) + (-0x1.6cd5117febb99p-25);
    p = (p * z) + 0x1.1e8b8284eacf1p-23;
    p = (p * z) + (-0x1.b57c3f02c093bp-22);
    p = (p * z) + 0x1.5a4ed846b7a6ap-20;
    p = (p * z) + (-0x1.0d19c417fc095p-18);
    p = (p * z) + 0x1.a2afb3e8a6745p-17;
    p = (p * z) + (-0x1.4d043f08d90d3p-15);
    p = (p * z) + 0x1.02adfb97ca387p-13;
    p = (p * z) + (-0x1.9342ae3cdd9bbp-12);
    p = (p * z) + 0x1.4008456346c5dp-10;
    p = (p * z) + (-0x1.cad6db82347fdp-9);
    p = (p * z) + 0x1.f1702bf7a63a4p-8;
    p = (p * z) + (-0x1.0bdd265edfbf5p-7);
    p = (p * z) + 0x1.00cecdaebb386p+0;
    return p;
}

/* x sqrt(pi x / 2) (cos(x - c) Y_1(x) - sin(x - c) J_1(x)), c = 3 pi / 4, for x >= 2 */
static inline double cpgen_bessel_q1_f64(double x)
{
    const double z = (x - 6.0) / (x + 2.0);
    double p = 0x1.5a4ae40636c84p-38;
    p = (p * z) + (-0x1.5a40a30833d3bp-40);
    p = (p * z) + (-0x1.c00194a9d188dp-35);
    p = (p * z) + (-0x1.98e7254117caep-35);
    p = (p * z) + 0x1.985ea0f7f9ed3p-34;
    p = (p * z) + 0x1.20f758afc27a4p-32;
    p = (p * z) + 0x1.c98f114af550dp-33;
    p = (p * z) + 0x1.5b1dd9d27feb6p-31;
    p = (p * z) + (-0x1.1a747309b05b4p-30);
    p = (p * z) + 0x1.c90732d66041ep-32;
    p = (p * z) + (-0x1.4d2bd3ff066b3p-26);
    p = (p * z) + 0x1.70036201f55c9p-26;
    p = (p * z) + (-0x1.13ea6f255deafp-23);
    p = (p * z) + 0x1.322594a60e8fcp-21;
    p = (p * z) + (-0x1.55dbb044d8154p-20);
    p = (p * z) + 0x1.cbde71102b15cp-18;
    p = (p * z) + (-0x1.b8629a059bf26p-16);
    p = (p * z) + 0x1.52d69df211282p-14;
    p = (p * z) + (-0x1.ca1b43b5c862ap-12);
    p = (p * z) + 0x1.0eafa35f2f6b3p-9;
    p = (p * z) + (-0x1.766fd19e6c881p-8);
    p = (p * z) + 0x1.b67df738a41e6p-8;
    p = (p * z) + 0x1.7d450edc2a9bep-2;
    return p;
}

/* sqrt(x) exp(x) K_0(x) for x >= 1 */
static inline double cpgen_bessel_k0_f64(double x)
{
    const double z = (x - 4.0) / (x + 2.0);
    double p = -0x1.4271190022bf6p-31;
    p = (p * z) + 0x1.4f5c8f76c54d1p-30;
    p = (p * z) + 0x1.85c4ca820718bp-30;
    p = (p * z) + (-0x1.937cdb755a9acp-29);
    p = (p * z) + (-0x1.8e1f57ee4306cp-28);
    p = (p * z) + 0x1.9f51bb3532ea4p-27;
    p = (p * z) + (-0x1.2db4c0c45b0c2p-28);
    p = (p * z) + 0x1.450915f424288p-27;
    p = (p * z) + (-0x1.7c3aee8893f3ap-25);
    p = (p * z) + 0x1.934cf923c4ce4p-24;
    p = (p * z) + (-0x1.854950d57cc37p-23);
    p = (p * z) + 0x1.a096478293adcp-22;
    p = (p * z) + (-0x1.c4e0a1e6c65a9p-21);
    p = (p * z) + 0x1.e86722ad75ae8p-20;
    p = (p * z) + (-0x1.0862dbb5cbfbdp-18);
    p = (p * z) + 0x1.202089b5d7b08p-17;
    p = (p * z) + (-0x1.3c075dd50a939p-16);
    p = (p * z) + 0x1.5d3bfe6982273p-15;
    p = (p * z) + (-0x1.85591d30e37f9p-14);
    p = (p * z) + 0x1.b6c6743fcc371p-13;
    p = (p * z) + (-0x1.f4f71bbc5bde5p-12);
    p = (p * z) + 0x1.22dd47873def9p-10;
    p = (p * z) + (-0x1.5912be9258b3bp-9);
    p = (p * z) + 0x1.a682ea75e0d7ep-8;
    p = (p * z) + (-0x1.0e0068ce4bf4dp-6);
    p = (p * z) + 0x1.7dce5e121648ap-5;
    p = (p * z) + 0x1.37f5dd35f91a9p+0;
    return p;
}

/* sqrt(x) exp(x) K_1(x) for x >= 1 */
static inline double cpgen_bessel_k1_f64(double x)
{
    const double z = (x - 4.0) / (x + 2.0);
    double p = 0x1.22ac86ca21313p-27;
    p = (p * z) + (-0x1.2773f5e713a4dp-26);
    p = (p * z) + (-0x1.7c11e459cd2bep-26);
    p = (p * z) + 0x1.819d7ae02b8b0p-25;
    p = (p * z) + 0x1.585d3c35bfb78p-24;
    p = (p * z) + (-0x1.5e68facf4a114p-23);
    p = (p * z) + 0x1.0cf5bd61b6f17p-25;
    p = (p * z) + (-0x1.188a199c39af1p-24);
    p = (p * z) + 0x1.01bbb447c3c72p-21;
    p = (p * z) + (-0x1.08449a426c87dp-20);
    p = (p * z) + 0x1.d6ff99454fb6ep-20;
    p = (p * z) + (-0x1.e52d5d185b839p-19);
    p = (p * z) + 0x1.fe600e263d3e3p-18;
    p = (p * z) + (-0x1.07d1f3b030258p-16);
    p = (p * z) + 0x1.10ef1d6507fb7p-15;
    p = (p * z) + (-0x1.1b9c8ad9f4845p-14);
    p = (p * z) + 0x1.27ab30e23c83bp-13;
    p = (p * z) + (-0x1.355ca5649bdbcp-12);
    p = (p * z) + 0x1.4522c11ffe9d0p-11;
    p = (p * z) + (-0x1.5796cae35d651p-10);
    p = (p * z) + 0x1.6d8f83f80c7f3p-9;
    p = (p * z) + (-0x1.885f54b08ee58p-8);
    p = (p * z) + 0x1.aa0dea821ec3cp-7;
    p = (p * z) + (-0x1.d67392f832c2bp-6);
    p = (p * z) + 0x1.0a2ffa3855e3fp-4;
    p = (p * z) + (-0x1.3d7d8a7c6fb76p-3);
    p = (p * z) + 0x1.5cf785b4a0203p+0;
    return p;
}

/* J_n(x), or Y_n(x) if second is not 0, for n = 0 or 1 and finite x >= 2 */
static inline double cpgen_bessel_far_f64(int n, int second, double x)
{
    const double c = cpgen_cos_f64(x);
    const double s = cpgen_sin_f64(x);
    const double p = (n == 0) ? cpgen_bessel_p0_f64(x) : cpgen_bessel_p1_f64(x);
    const double q = ((n == 0) ? cpgen_bessel_q0_f64(x) : cpgen_bessel_q1_f64(x)) / x;
    /* sqrt(2) times cosine and sine of the phase */
    const double cosine = (n == 0) ? (c + s) : (s - c);
    const double sine = (n == 0) ? (s - c) : -(c + s);
    const double wave = (second != 0) ? ((p * sine) + (q * cosine)) : ((p * cosine) - (q * sine));
    return (0.564189583547756287 / cpgen_sqrt_f64(x)) * wave;
}

/* for n = 0 or 1 and 0 < x <= 2: sum_k sign^k (x/2)^(2k+n) / (k! (k+n)!) (log(x/2) + c - (H_k + H_(k+n)) / 2), c Euler's constant,
 * H_k = 1 + 1/2 + ... + 1/k */
static inline double cpgen_bessel_log_f64(int n, double sign, double x)
{
    const double half = 0.5 * x;
    const double square = sign * (half * half);
    const double level = cpgen_log_f64(half) + 0.577215664901532861;
    double term = (n == 0) ? 1.0 : half;
    double mean = (n == 0) ? 0.0 : 0.5;
    double sum = term * (level - mean);
    int k;
    for (k = 1; k <= 14; ++k)
    {
        term *= square / (double)(k * (k + n));
        mean += 0.5 * ((1.0 / (double)k) + (1.0 / (double)(k + n)));
        sum += term * (level - mean);
    }
    return sum;
}

/* J_n(x): the power series up to the larger of n and 2, the recurrence upwards from there */
static inline double cpgen_besselj_f64(int n, double x)
{
    const double size = cpgen_fabs_f64(x);
    double lower;
    double value;
    int k;
    if (!((size > 2.0) && (size > (double)n)))
    {
        const double square = 0.25 * (x * x);
        double sum = 1.0;
        value = 1.0;
        for (k = 24; k >= 1; --k)
        {
            sum = 1.0 - ((square / (double)(k * (k + n))) * sum);
        }
        for (k = 1; k <= n; ++k)
        {
            value *= (0.5 * x) / (double)k;
        }
        return value * sum;
    }
    if (size == cpgen_infinity_f64())
    {
        return 0.0;
    }
    lower = cpgen_bessel_far_f64(0, 0, size);
    if (n == 0)
    {
        return lower;
    }
    value = cpgen_bessel_far_f64(1, 0, size);
    for (k = 1; k < n; ++k)
    {
        const double next = (((double)(2 * k) / size) * value) - lower;
        lower = value;
        value = next;
    }
    return ((x < 0.0) && ((n % 2) == 1)) ? -value : value;
}

/* Y_n(x), x > 0: the recurrence upwards */
static inline double cpgen_bessely_f64(int n, double x)
{
    double lower;
    double value;
    int k;
    if (!(x > 0.0) || (x == cpgen_infinity_f64()))
    {
        return (x == 0.0) ? -cpgen_infinity_f64() : ((x > 0.0) ? 0.0 : cpgen_nan_f64());
    }
    lower = (x < 2.0) ? (0.636619772367581343 * cpgen_bessel_log_f64(0, -1.0, x)) : cpgen_bessel_far_f64(0, 1, x);
    if (n == 0)
    {
        return lower;
    }
    value = (x < 2.0) ? (0.636619772367581343 * (cpgen_bessel_log_f64(1, -1.0, x) - (1.0 / x)))
                      : cpgen_bessel_far_f64(1, 1, x);
    for (k = 1; (k < n) && (value > -cpgen_infinity_f64()); ++k)
    {
        const double next = (((double)(2 * k) / x) * value) - lower;
        lower = value;
        value = next;
    }
    return value;
}

/* I_n(x): the power series up to |x| = 22, from there the series in 1 / x (Abramowitz and Stegun 9.7.1) */
static inline double cpgen_besseli_f64(int n, double x)
{
    const double size = cpgen_fabs_f64(x);
    double sum = 1.0;
    double value = 1.0;
    double half;
    int k;
    if (!(size > 22.0))
    {
        const double square = 0.25 * (x * x);
        for (k = 38; k >= 1; --k)
        {
            sum = 1.0 + ((square / (double)(k * (k + n))) * sum);
        }
        for (k = 1; k <= n; ++k)
        {
            value *= (0.5 * x) / (double)k;
        }
        return value * sum;
    }
    for (k = 30; k >= 1; --k)
    {
        const int odd = (2 * k) - 1;
        sum = 1.0 - (((double)((4 * n * n) - (odd * odd)) / ((double)(8 * k) * size)) * sum);
    }
    half = cpgen_exp_f64(0.5 * size);
    value = (half * ((0.398942280401432678 * sum) / cpgen_sqrt_f64(size))) * half;
    value = (size == cpgen_infinity_f64()) ? size : value;
    return ((x < 0.0) && ((n % 2) == 1)) ? -value : value;
}

/* K_n(x), x > 0: the recurrence upwards */
static inline double cpgen_besselk_f64(int n, double x)
{
    double lower;
    double value;
    double decay;
    int k;
    if (!(x > 0.0) || (x == cpgen_infinity_f64()))
    {
        return (x == 0.0) ? cpgen_infinity_f64() : ((x > 0.0) ? 0.0 : cpgen_nan_f64());
    }
    decay = cpgen_exp_f64(-x) / cpgen_sqrt_f64(x);
    lower = (x < 1.0) ? -cpgen_bessel_log_f64(0, 1.0, x) : (cpgen_bessel_k0_f64(x) * decay);
    if (n == 0)
    {
        return lower;
    }
    value = (x < 1.0) ? ((1.0 / x) + cpgen_bessel_log_f64(1, 1.0, x)) : (cpgen_bessel_k1_f64(x) * decay);
    for (k = 1; k < n; ++k)
    {
        const double next = lower + (((double)(2 * k) / x) * value);
        lower = value;
        value = next;
    }
    return value;
}

/* ---- significands and exponents of products that leave the range on the way, double ---- */

/* x / 2^exponent(x), with 1 <= |significand| < 2; 0, infinities and NaN are their own significand, of exponent 0 */
static inline double cpgen_significand_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double normal = (size < 0x1p-1022) ? (x * 0x1p54) : x;
    const double y = cpgen_from_bits_f64((cpgen_to_bits_f64(normal) & UINT64_C(0x800fffffffffffff)) | UINT64_C(0x3ff0000000000000));
    return ((size > 0.0) && (size < cpgen_infinity_f64())) ? y : x;
}

static inline double cpgen_exponent_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double normal = (size < 0x1p-1022) ? (size * 0x1p54) : size;
    const double biased = cpgen_from_bits_f64(cpgen_to_bits_f64(0x1.8p52) + (cpgen_to_bits_f64(normal) >> 52U)) - 0x1.8p52;
    const double y = biased - ((size < 0x1p-1022) ? 1077.0 : 1023.0);
    return ((size > 0.0) && (size < cpgen_infinity_f64())) ? y : 0.0;
}

/* y * 2^k for a whole number k and 2^-100 < |y| < 2^100, rounded once */
static inline double cpgen_scalbn_f64(double y, double k)
{
    const double below = (k < 2040.0) ? k : 2040.0;
    const double clamped = (below > -2040.0) ? below : -2040.0;
    return cpgen_scale_f64(y, (cpgen_to_bits_f64(clamped + 0x1.8p52) - cpgen_to_bits_f64(0x1.8p52)) + 2048U);
}

/* ---- functions with kinks, double; comparisons are arranged so that NaN is kept ---- */

static inline double cpgen_relu_f64(double x)
{
    return (x < 0.0) ? 0.0 : x;
}

static inline double cpgen_step_f64(double x)
{
    return (x > 0.0) ? 1.0 : ((x <= 0.0) ? 0.0 : x);
}

static inline double cpgen_sign0_f64(double x)
{
    return (x > 0.0) ? 1.0 : ((x < 0.0) ? -1.0 : x);
}

/* to the nearest whole number, of two equally near the even one; from 2^52 on every number is whole */
static inline double cpgen_rint_f64(double x)
{
    const double size = cpgen_fabs_f64(x);
    const double sum = size + 0x1p52;
    const double whole = sum - 0x1p52;
    return (size < 0x1p52) ? ((x < 0.0) ? -whole : whole) : x;
}

static inline double cpgen_floor_f64(double x)
{
    const double near = cpgen_rint_f64(x);
    return (near > x) ? (near - 1.0) : near;
}

static inline double cpgen_maximum_f64(double a, double b)
{
    return (a > b) ? a : ((a == a) ? b : a);
}

static inline double cpgen_minimum_f64(double a, double b)
{
    return (a < b) ? a : ((a == a) ? b : a);
}

/* ---- the gamma family for x > 0, double ----
 * Recurrence to an interval of length one, where a polynomial serves; from 12.0 on the asymptotic series (Abramowitz and
 * Stegun 6.1.41, 6.3.18, 6.4.11).  x = 0 gives the pole's infinity, x < 0 NaN. */

static inline double cpgen_bernoulli_f64(int k)
{
    /* B_2, B_4, ... */
    static const double numbers[10] = {
        1.0 / 6.0, -1.0 / 30.0, 1.0 / 42.0, -1.0 / 30.0, 5.0 / 66.0,
        -691.0 / 2730.0, 7.0 / 6.0, -3617.0 / 510.0, 43867.0 / 798.0, -174611.0 / 330.0
    };
    return numbers[k - 1];
}

/* Gamma(2 + t) for |t| <= 1/2, interpolated in Chebyshev points */
static inline double cpgen_gamma_near_f64(double t)
{
    double p = 0x1.66347dc368c10p-21;
    p = (p * t) + (-0x1.662ce103d5a08p-20);
    p = (p * t) + 0x1.e130adde2ad08p-20;
    p = (p * t) + (-0x1.e112fcbe6608ap-19);
    p = (p * t) + 0x1.00fc0c22a86f6p-17;
    p = (p * t) + (-0x1.00d6ff6c8312ep-16);
    p = (p * t) + 0x1.fecdd9c5d5b0bp-16;
    p = (p * t) + (-0x1.fdd88f716eeaap-15);
    p = (p * t) + 0x1.fe57373dd0895p-14;
    p = (p * t) + (-0x1.f94b68c024035p-13);
    p = (p * t) + 0x1.011ad0809b87dp-11;
    p = (p * t) + (-0x1.e21f17c77552ep-11);
    p = (p * t) + 0x1.13c449cf50cb3p-9;
    p = (p * t) + (-0x1.75e6e9128e131p-9);
    p = (p * t) + 0x1.6d7eeac9deecdp-7;
    p = (p * t) + (-0x1.17f3740d0d761p-12);
    p = (p * t) + 0x1.301fbb0f25ad6p-4;
    p = (p * t) + 0x1.4e23998465025p-4;
    p = (p * t) + 0x1.a5b978b96bebfp-2;
    p = (p * t) + 0x1.b0ee6072093cep-2;
    p = (p * t) + 0x1.0000000000000p+0;
    return p;
}

/* log(Gamma(2 + t)) / t for |t| <= 1/2, interpolated in Chebyshev points */
static inline double cpgen_loggamma_near_f64(double t)
{
    double p = -0x1.091589d02d1a3p-25;
    p = (p * t) + 0x1.15fea8732cd9fp-24;
    p = (p * t) + (-0x1.9a854795e5fe9p-24);
    p = (p * t) + 0x1.b1a8c8bf04f15p-23;
    p = (p * t) + (-0x1.e40f95a8192dep-22);
    p = (p * t) + 0x1.01462b5944f7dp-20;
    p = (p * t) + (-0x1.11a85684e8499p-19);
    p = (p * t) + 0x1.258c9651dbedcp-18;
    p = (p * t) + (-0x1.3cbce9a3c4ad1p-17);
    p = (p * t) + 0x1.580e260121a51p-16;
    p = (p * t) + (-0x1.78de5a3d2d4d3p-15);
    p = (p * t) + 0x1.a127af44aaf71p-14;
    p = (p * t) + (-0x1.d3fd4c7b8f6a9p-13);
    p = (p * t) + 0x1.0b36af88b2884p-11;
    p = (p * t) + (-0x1.38ac5c2bf50a2p-10);
    p = (p * t) + 0x1.7add6eadb2c11p-9;
    p = (p * t) + (-0x1.e404fc218f61fp-8);
    p = (p * t) + 0x1.51322ac7d849bp-6;
    p = (p * t) + (-0x1.13e001a557606p-4);
    p = (p * t) + 0x1.4a34cc4a60fa6p-2;
    p = (p * t) + 0x1.b0ee6072093cep-2;
    return p;
}

/* log(Gamma(1 + y)) / y for 0 <= y <= 1/2, interpolated in Chebyshev points */
static inline double cpgen_loggamma_one_f64(double y)
{
    const double t = y - 0.25;
    double p = -0x1.f3bf3c319cb42p-10;
    p = (p * t) + 0x1.4b4932773530fp-9;
    p = (p * t) + (-0x1.767dc5c6da0cdp-9);
    p = (p * t) + 0x1.f52f9c50784b9p-9;
    p = (p * t) + (-0x1.54b5bc69a6ee4p-8);
    p = (p * t) + 0x1.cceec563603e8p-8;
    p = (p * t) + (-0x1.39e30e07797c9p-7);
    p = (p * t) + 0x1.af535ded1011fp-7;
    p = (p * t) + (-0x1.2b8896fdbdd28p-6);
    p = (p * t) + 0x1.a5c9924a1e820p-6;
    p = (p * t) + (-0x1.2e86e8e3639e3p-5);
    p = (p * t) + 0x1.bd90f0965544fp-5;
    p = (p * t) + (-0x1.5593614f36ca2p-4);
    p = (p * t) + 0x1.181b4928a5519p-3;
    p = (p * t) + (-0x1.059d40f5f4dfap-2);
    p = (p * t) + 0x1.5337d1f7e6626p-1;
    p = (p * t) + (-0x1.92857d38caf41p-2);
    return p;
}

/* digamma(3/2 + t) over the distance to its zero for |t| <= 1/2, interpolated in Chebyshev points */
static inline double cpgen_digamma_near_f64(double t)
{
    double p = -0x1.5600aebc07538p-14;
    p = (p * t) + 0x1.0080971c5617fp-13;
    p = (p * t) + (-0x1.0081238b97022p-14);
    p = (p * t) + 0x1.80c273fb322c5p-14;
    p = (p * t) + (-0x1.c8e71b670fd14p-13);
    p = (p * t) + 0x1.56ae8897d5d3dp-12;
    p = (p * t) + (-0x1.e24e3f4fdc1dcp-12);
    p = (p * t) + 0x1.69be71d89ad40p-11;
    p = (p * t) + (-0x1.1138fd323dc0cp-10);
    p = (p * t) + 0x1.99e14548a2d9bp-10;
    p = (p * t) + (-0x1.335166d938f39p-9);
    p = (p * t) + 0x1.cd1f2dbc0dbedp-9;
    p = (p * t) + (-0x1.5a07ffdcf1525p-8);
    p = (p * t) + 0x1.03c0b29031197p-7;
    p = (p * t) + (-0x1.8635595c28480p-7);
    p = (p * t) + 0x1.256471573c163p-6;
    p = (p * t) + (-0x1.b9f8b14eb372ep-6);
    p = (p * t) + 0x1.4de9aa17fed5cp-5;
    p = (p * t) + (-0x1.fb4420299c39ep-5);
    p = (p * t) + 0x1.8512e59037f3fp-4;
    p = (p * t) + (-0x1.2feeeb98a7e14p-3);
    p = (p * t) + 0x1.eca189b8e6f7bp-3;
    p = (p * t) + (-0x1.b1cb63005ee96p-2);
    p = (p * t) + 0x1.e6f0cbb873616p-1;
    return p;
}

/* log(Gamma(y)) - (y - 1/2) log(y) + y - log(2 pi)/2 for y >= 12.0 */
static inline double cpgen_stirling_f64(double y)
{
    const double w = 1.0 / (y * y);
    double series = 0.0;
    int k;
    for (k = 10; k >= 1; --k)
    {
        const double even = 2.0 * (double)k;
        series = (series * w) + (cpgen_bernoulli_f64(k) / (even * (even - 1.0)));
    }
    return series / y;
}

static inline double cpgen_gamma_f64(double x)
{
    double y = x;
    double product = 1.0;
    double root;
    double s;
    if (!(x > 0.0))
    {
        return (x == 0.0) ? cpgen_infinity_f64() : cpgen_nan_f64();
    }
    if (x > 171.7)
    {
        return cpgen_infinity_f64();
    }
    if (x < 0.5)
    {
        return cpgen_gamma_near_f64(x) / (x * (1.0 + x));
    }
    if (x < 1.5)
    {
        return cpgen_gamma_near_f64(x - 1.0) / x;
    }
    if (x < 12.0)
    {
        while (y >= 2.5)
        {
            y -= 1.0;
            product *= y;
        }
        return product * cpgen_gamma_near_f64(y - 2.0);
    }
    /* x^(x - 1/2) as a square, which may pass the largest number; the exponents are exact */
    root = cpgen_pow_f64(x, 0.5 * (x - 0.5));
    s = cpgen_stirling_f64(x);
    product = (root * cpgen_exp_f64(-x)) * 2.50662827463100050;
    product += product * (s + ((s * s) * cpgen_exp_tail_f64(s)));
    return product * root;
}

static inline double cpgen_loggamma_f64(double x)
{
    double y = x;
    double product = 1.0;
    if (!(x > 0.0))
    {
        return (x == 0.0) ? cpgen_infinity_f64() : cpgen_nan_f64();
    }
    if (x < 0.5)
    {
        return ((x * cpgen_loggamma_near_f64(x)) - cpgen_log1p_f64(x)) - cpgen_log_f64(x);
    }
    if (x < 1.5)
    {
        y = x - 1.0;
        return (y < 0.0) ? ((y * cpgen_loggamma_near_f64(y)) - cpgen_log1p_f64(y)) : (y * cpgen_loggamma_one_f64(y));
    }
    if (x < 12.0)
    {
        while (y >= 2.5)
        {
            y -= 1.0;
            product *= y;
        }
        y -= 2.0;
        return cpgen_log_f64(product) + (y * cpgen_loggamma_near_f64(y));
    }
    y = (((x - 0.5) * (cpgen_log_f64(x) - 1.0)) + 0.418938533204672742) + cpgen_stirling_f64(x);
    return (x < cpgen_infinity_f64()) ? y : x;
}

static inline double cpgen_digamma_f64(double x)
{
    double y = x;
    double tail = 0.0;
    double w;
    double series = 0.0;
    int k;
    if (!(x > 0.0))
    {
        return (x == 0.0) ? -cpgen_infinity_f64() : cpgen_nan_f64();
    }
    if (x < 12.0)
    {
        if (x < 1.0)
        {
            tail = -1.0 / x;
            y += 1.0;
        }
        while (y >= 2.0)
        {
            y -= 1.0;
            tail += 1.0 / y;
        }
        return (((y - 0x1.762d86356be3fp+0) - 0x1.b86a722197829p-54) * cpgen_digamma_near_f64(y - 1.5)) + tail;
    }
    w = 1.0 / (x * x);
    for (k = 10; k >= 1; --k)
    {
        series = (series + (cpgen_bernoulli_f64(k) / (2.0 * (double)k))) * w;
    }
    return (cpgen_log_f64(x) - (0.5 / x)) - series;
}

static inline double cpgen_power_f64(double x, int n)
{
    double result = 1.0;
    int k;
    for (k = 0; k < n; ++k)
    {
        result *= x;
    }
    return result;
}

/* a / x^n, also where x^n is beyond the largest number */
static inline double cpgen_divided_f64(double a, double x, int n)
{
    double result = a;
    int k;
    for (k = 0; k < n; ++k)
    {
        result /= x;
    }
    return result;
}

/* d^(n+1) log Gamma(x) / dx^(n+1) for n >= 1 */
static inline double cpgen_polygamma_f64(int n, double x)
{
    double y = x;
    double before = 1.0; /* (n - 1)! */
    double tail = 0.0;
    double series = 0.0;
    double ratio;
    double result;
    double inverse;
    int k;
    if (!(x > 0.0))
    {
        const double pole = ((n % 2) == 1) ? cpgen_infinity_f64() : -cpgen_infinity_f64();
        return (x == 0.0) ? pole : cpgen_nan_f64();
    }
    for (k = 2; k < n; ++k)
    {
        before *= (double)k;
    }
    while (y < (12.0 + (double)n))
    {
        tail += cpgen_divided_f64(1.0, y, n + 1);
        y += 1.0;
    }
    /* ratio = (2k + n - 1)! / (2k)! */
    ratio = (before * (double)n * (double)(n + 1)) * 0.5;
    inverse = 1.0 / y;
    for (k = 1; k <= 10; ++k)
    {
        series += (cpgen_bernoulli_f64(k) * ratio) * cpgen_power_f64(inverse, 2 * k);
        ratio *= (double)(((2 * k) + n) * ((2 * k) + n + 1)) / (double)(((2 * k) + 1) * ((2 * k) + 2));
    }
    result = (before * (double)n * (tail + cpgen_divided_f64(0.5, y, n + 1)))
        + cpgen_divided_f64(before + series, y, n);
    return ((n % 2) == 1) ? result : -result;
}

/* ---- exponentials and logarithms, float ---- */

/* (exp(r) - 1 - r) / r^2 for |r| <= log(2)/2, minimax polynomial. */
static inline float cpgen_exp_tail_f32(float r)
{
    float p = 0x1.6d75f0p-10f;
    p = (p * r) + 0x1.120be6p-7f;
    p = (p * r) + 0x1.5554b8p-5f;
    p = (p * r) + 0x1.5554dcp-3f;
    p = (p * r) + 0.5f;
    return p;
}

/* x = k log(2) + r with k = round(x / log 2): returns r, *biased = k + 256 and *power = k. */
static inline float cpgen_reduce_f32(float x, uint32_t *biased, float *power)
{
    const float t = (x * 0x1.715476p0f) + 0x1.8p23f;
    const float k = t - 0x1.8p23f;
    *biased = cpgen_to_bits_f32(t) - cpgen_to_bits_f32(0x1.8p23f) + 256U;
    *power = k;
    return (x - (k * 0x1.62e400p-1f)) - (k * 0x1.7f7d1cp-20f);
}

/* y * 2^k in two exact steps, so that subnormal results are rounded once. */
static inline float cpgen_scale_f32(float y, uint32_t biased)
{
    const uint32_t half = biased >> 1U;
    const uint32_t rest = biased - half;
    return (y * cpgen_from_bits_f32((half - 1U) << 23U)) * cpgen_from_bits_f32((rest - 1U) << 23U);
}

static inline float cpgen_exp_f32(float x)
{
    const float below = (x < 88.8f) ? x : 88.8f;
    const float clamped = (below > -104.0f) ? below : -104.0f;
    uint32_t biased;
    float power;
    const float r = cpgen_reduce_f32(clamped, &biased, &power);
    const float y = cpgen_scale_f32(1.0f + (r + ((r * r) * cpgen_exp_tail_f32(r))), biased);
    const float high = (x > 88.8f) ? cpgen_infinity_f32() : y;
    return (x == x) ? high : x;
}

static inline float cpgen_expm1_f32(float x)
{
    const float below = (x < 88.8f) ? x : 88.8f;
    const float clamped = (below > -50.0f) ? below : -50.0f;
    uint32_t biased;
    float power;
    const float r = cpgen_reduce_f32(clamped, &biased, &power);
    const float tail = r + ((r * r) * cpgen_exp_tail_f32(r));
    /* 2^k (tail + 1) - 1 = 2^k (tail + (1 - 2^-k)) */
    const float inverse = cpgen_scale_f32(1.0f, 512U - biased);
    const float y = cpgen_scale_f32(tail + (1.0f - inverse), biased);
    const float high = (x > 88.8f) ? cpgen_infinity_f32() : y;
    const float small = (cpgen_fabs_f32(x) < 0x1p-25f) ? x : high;
    return (x == x) ? small : x;
}

static inline float cpgen_log_f32(float x)
{
    /* subnormal numbers are scaled up by 2^25 first */
    const int subnormal = x < 0x1p-126f;
    const float scaled = subnormal ? (x * 0x1p25f) : x;
    const uint32_t shifted = cpgen_to_bits_f32(scaled) - UINT32_C(0x3f3504f3);
    /* exponent k with 2^k * m = scaled, sqrt(1/2) <= m < sqrt(2); the bias keeps it positive */
    const uint32_t biased = (shifted + ((uint32_t)256U << 23U)) >> 23U;
    const float m = cpgen_from_bits_f32(cpgen_to_bits_f32(scaled) - ((biased - 256U) << 23U));
    const float exponent = cpgen_from_bits_f32(cpgen_to_bits_f32(0x1.8p23f) + (biased - 256U)) - 0x1.8p23f;
    const float k = subnormal ? (exponent - 25.0f) : exponent;
    const float f = m - 1.0f;
    const float s = f / (2.0f + f);
    const float z = s * s;
    const float half = 0.5f * (f * f);
    /* log(1 + f) = f - f^2/2 + s (f^2/2 + tail), tail = (log((1 + s)/(1 - s)) - 2 s)/s, minimax polynomial */
    float p = 0x1.dde458p-3f;
    p = (p * z) + 0x1.245bd6p-2f;
    p = (p * z) + 0x1.9999ecp-2f;
    p = (p * z) + 0x1.555556p-1f;
    const float tail = z * p;
    const float y = (k * 0x1.62e400p-1f) - ((half - ((s * (half + tail)) + (k * 0x1.7f7d1cp-20f))) - f);
    const float low = (x > 0.0f) ? y : ((x == 0.0f) ? -cpgen_infinity_f32() : cpgen_nan_f32());
    const float high = (x < cpgen_infinity_f32()) ? low : x;
    return (x == x) ? high : x;
}

static inline float cpgen_log1p_f32(float x)
{
    const float u = 1.0f + x;
    const float rounding = x - (u - 1.0f);
    const float y = cpgen_log_f32(u);
    const float corrected = y + (rounding / u);
    const float value = ((u > 0.0f) && (x < cpgen_infinity_f32())) ? corrected : y;
    return (x == 0.0f) ? x : value;
}

/* expm1(2|x|), far out expm1(2|x| - 19) and at most expm1(88): what tanh and sech2 share, for a compiler to compute once */
static inline float cpgen_growth_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float near = (size < 44.0f) ? size : (size - 9.5f);
    const float twice = (near < 44.0f) ? (near + near) : 88.0f;
    uint32_t biased;
    float power;
    const float r = cpgen_reduce_f32(twice, &biased, &power);
    const float tail = r + ((r * r) * cpgen_exp_tail_f32(r));
    const float scale = cpgen_from_bits_f32((biased - 129U) << 23U);
    return (scale * tail) + (scale - 1.0f);
}

static inline float cpgen_tanh_f32(float x)
{
    const float growth = cpgen_growth_f32(x);
    const float y = growth / (growth + 2.0f);
    return (x == x) ? cpgen_copysign_f32(y, x) : x;
}

/* 1 / cosh(x)^2 = 4 (growth + 1) / (growth + 2)^2, far out exp(-19) times as much */
static inline float cpgen_sech2_f32(float x)
{
    const float growth = cpgen_growth_f32(x);
    const float inverse = 2.0f / (growth + 2.0f);
    const float y = inverse * (inverse * (growth + 1.0f));
    const float found = y * ((cpgen_fabs_f32(x) < 44.0f) ? 1.0f : 0x1.8105700000000p-28f);
    return (x == x) ? found : x;
}

/* ---- trigonometric and hyperbolic functions; the moderate ones, which a compiler can vectorise, have the bits of the
 * others for |x| <= 1e4 and give NaN beyond, float ---- */

/* x = k pi/2 + r with k = round(x / (pi/2)): returns r, *quarter = k modulo 2^20 or more. */
static inline float cpgen_quarter_f32(float x, uint32_t *quarter)
{
    const float t = (x * 0x1.45f3060000000p-1f) + 0x1.8p23f;
    const float k = t - 0x1.8p23f;
    const float first = ((x - (k * 0x1.9200000000000p+0f)) - (k * 0x1.fb40000000000p-12f));
    const float product = k * 0x1.4440000000000p-24f;
    const float rough = first - product;
    const float rest = ((first - rough) - product) - (k * 0x1.68c2340000000p-39f);
    *quarter = cpgen_to_bits_f32(t);
    return rough + rest;
}

/* sin(r) and cos(r) for |r| <= pi/4, minimax polynomials (Moshier's and fdlibm's). */
static inline float cpgen_sin_near_f32(float r)
{
    const float z = r * r;
    float p = -0x1.9943f20000000p-13f;
    p = (p * z) + 0x1.11073c0000000p-7f;
    p = (p * z) + (-0x1.5555460000000p-3f);
    return r + ((r * z) * p);
}

static inline float cpgen_cos_near_f32(float r)
{
    const float z = r * r;
    const float half = 0.5f * z;
    const float w = 1.0f - half;
    float p = 0x1.99eb9c0000000p-16f;
    p = (p * z) + (-0x1.6c0c340000000p-10f);
    p = (p * z) + 0x1.55554a0000000p-5f;
    return w + (((1.0f - w) - half) + ((z * z) * p));
}

static inline float cpgen_sin_moderate_f32(float x)
{
    uint32_t quarter;
    const int inside = cpgen_fabs_f32(x) <= 10000.0f;
    const float r = cpgen_quarter_f32(inside ? x : 0.0f, &quarter);
    const float s = cpgen_sin_near_f32(r);
    const float c = cpgen_cos_near_f32(r);
    const float size = ((quarter & 1U) != 0U) ? c : s;
    const float y = ((quarter & 2U) != 0U) ? -size : size;
    const float exact = (x == 0.0f) ? x : y;
    return inside ? exact : cpgen_nan_f32();
}

static inline float cpgen_cos_moderate_f32(float x)
{
    uint32_t quarter;
    const int inside = cpgen_fabs_f32(x) <= 10000.0f;
    const float r = cpgen_quarter_f32(inside ? x : 0.0f, &quarter);
    const float s = cpgen_sin_near_f32(r);
    const float c = cpgen_cos_near_f32(r);
    const float size = ((quarter & 1U) != 0U) ? s : c;
    const float y = (((quarter + 1U) & 2U) != 0U) ? -size : size;
    return inside ? y : cpgen_nan_f32();
}

static inline float cpgen_tan_moderate_f32(float x)
{
    return cpgen_sin_moderate_f32(x) / cpgen_cos_moderate_f32(x);
}

/* x = k pi/2 + r for any finite x of 2^12 or more in size, after Payne and Hanek (1983): 96 bits of 2/pi, from the first
 * that leaves a remainder modulo 4 on, times the mantissa, in integers.  Returns r, *quarter = k modulo 4. */
static inline float cpgen_quarter_far_f32(float x, uint32_t *quarter)
{
    /* 64 zeros, then the bits of 2/pi */
    static const uint32_t digits[10] = {
        UINT32_C(0x00000000), UINT32_C(0x00000000), UINT32_C(0xa2f9836e), UINT32_C(0x4e441529), UINT32_C(0xfc2757d1),
        UINT32_C(0xf534ddc0), UINT32_C(0xdb629599), UINT32_C(0x3c439041), UINT32_C(0xfe5163ab), UINT32_C(0xdebbc561)
    };
    const uint32_t size = cpgen_to_bits_f32(x) & UINT32_C(0x7fffffff);
    const uint32_t mantissa = (size & UINT32_C(0x7fffff)) | UINT32_C(0x800000);
    const uint32_t first = (size >> 23U) - 88U;
    const uint32_t word = first >> 5U;
    const uint32_t shift = first & 31U;
    uint32_t product[3];
    uint32_t carry = 0U;
    uint32_t a;
    uint32_t b;
    uint32_t top;
    uint32_t up;
    float scale = 0x1p-31f;
    float r;
    int k;
    /* modulo 2^96, the last word first */
    for (k = 2; k >= 0; --k)
    {
        const uint32_t at = word + (uint32_t)k;
        const uint64_t pair = ((uint64_t)digits[at] << 32U) | digits[at + 1U];
        const uint64_t sum = ((uint64_t)mantissa * (uint32_t)(pair >> (32U - shift))) + carry;
        product[k] = (uint32_t)sum;
        carry = (uint32_t)(sum >> 32U);
    }
    a = product[0];
    b = product[1];
    /* two bits count quarters; the fraction after them is taken from the nearer end */
    top = a >> 30U;
    a = (a << 2U) | (b >> 30U);
    b = (b << 2U) | (product[2] >> 30U);
    up = a >> 31U;
    a ^= (uint32_t)0U - up;
    b ^= (uint32_t)0U - up;
    top += up;
    /* leading zeros away, in five steps */
    for (k = 4; k >= 0; --k)
    {
        const uint32_t step = (uint32_t)1U << (uint32_t)k;
        const int zeros = (a >> (32U - step)) == 0U;
        a = zeros ? ((a << step) | (b >> (32U - step))) : a;
        b = zeros ? (b << step) : b;
        scale = zeros ? (scale * cpgen_from_bits_f32((127U - step) << 23U)) : scale;
    }
    /* the upper 32 of the 64 bits of a times pi/2 */
    a = (uint32_t)(((uint64_t)a * UINT32_C(0xc90fdaa2)) >> 32U);
    r = (float)a * scale;
    r = (up != 0U) ? -r : r;
    *quarter = (x < 0.0f) ? ((uint32_t)0U - top) : top;
    return (x < 0.0f) ? -r : r;
}

/* x = k pi/2 + r for any x; infinity and NaN give NaN */
static inline float cpgen_quarter_any_f32(float x, uint32_t *quarter)
{
    const float size = cpgen_fabs_f32(x);
    if (size <= 10000.0f)
    {
        return cpgen_quarter_f32(x, quarter);
    }
    if (size < cpgen_infinity_f32())
    {
        return cpgen_quarter_far_f32(x, quarter);
    }
    *quarter = 0U;
    return cpgen_nan_f32();
}

static inline float cpgen_sin_f32(float x)
{
    uint32_t quarter;
    const float r = cpgen_quarter_any_f32(x, &quarter);
    const float s = cpgen_sin_near_f32(r);
    const float c = cpgen_cos_near_f32(r);
    const float size = ((quarter & 1U) != 0U) ? c : s;
    const float y = ((quarter & 2U) != 0U) ? -size : size;
    return (x == 0.0f) ? x : y;
}

static inline float cpgen_cos_f32(float x)
{
    uint32_t quarter;
    const float r = cpgen_quarter_any_f32(x, &quarter);
    const float s = cpgen_sin_near_f32(r);
    const float c = cpgen_cos_near_f32(r);
    const float size = ((quarter & 1U) != 0U) ? s : c;
    return (((quarter + 1U) & 2U) != 0U) ? -size : size;
}

static inline float cpgen_tan_f32(float x)
{
    uint32_t quarter;
    const float r = cpgen_quarter_any_f32(x, &quarter);
    const float s = cpgen_sin_near_f32(r);
    const float c = cpgen_cos_near_f32(r);
    const float y = ((quarter & 1U) != 0U) ? (-c / s) : (s / c);
    return (x == 0.0f) ? x : y;
}

static inline float cpgen_sinh_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float growth = cpgen_expm1_f32(size);
    const float root = cpgen_exp_f32(0.5f * size);
    const float low = 0.5f * (growth + (growth / (growth + 1.0f)));
    const float high = (0.5f * root) * root;
    return cpgen_copysign_f32((size < 80.0f) ? low : high, x);
}

static inline float cpgen_cosh_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float growth = cpgen_exp_f32(size);
    const float root = cpgen_exp_f32(0.5f * size);
    const float low = (0.5f * growth) + (0.5f / growth);
    const float high = (0.5f * root) * root;
    return (size < 80.0f) ? low : high;
}

/* sqrt(x^2 + y^2) without overflow on the way */
static inline float cpgen_hypot_f32(float x, float y)
{
    const float a = cpgen_fabs_f32(x);
    const float b = cpgen_fabs_f32(y);
    const float large = (a > b) ? a : b;
    const float small = (a > b) ? b : a;
    const float ratio = small / large;
    const float length = large * cpgen_sqrt_f32(1.0f + (ratio * ratio));
    const float finite = (large == 0.0f) ? large : length;
    const float infinite = ((a == cpgen_infinity_f32()) || (b == cpgen_infinity_f32())) ? cpgen_infinity_f32() : finite;
    return (((x != x) || (y != y)) && (infinite != cpgen_infinity_f32())) ? (x + y) : infinite;
}

/* ---- error functions, float ---- */

static inline float cpgen_atan_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const int high = size > 0x1.3504f40000000p+1f;
    const int middle = size > 0x1.a8279a0000000p-2f;
    const float less = middle ? (size - 1.0f) : size;
    const float more = middle ? (size + 1.0f) : 1.0f;
    const float over = high ? -1.0f : less;
    const float under = high ? size : more;
    const float y = over / under;
    const float eighth = middle ? 0x1.921fb60000000p-1f : 0.0f;
    const float little = middle ? -0x1.777a5c0000000p-26f : 0.0f;
    const float from = high ? 0x1.921fb60000000p+0f : eighth;
    const float rest = high ? -0x1.777a5c0000000p-25f : little;
    const float z = y * y;
    float p = 0x1.49e1a20000000p-4f;
    p = (p * z) + (-0x1.1c370a0000000p-3f);
    p = (p * z) + 0x1.9924be0000000p-3f;
    p = (p * z) + (-0x1.5554540000000p-2f);
    p = z * p;
    p = from + (((y * p) + rest) + y);
    return cpgen_copysign_f32(p, x);
}

static inline float cpgen_atan2_f32(float y, float x)
{
    const float a = cpgen_fabs_f32(y);
    const float b = cpgen_fabs_f32(x);
    const int same = (a == b) && (b != 0.0f);
    const float ratio = same ? 1.0f : (a / ((b == 0.0f) ? 1.0f : b));
    const float acute = (b == 0.0f) ? ((a == 0.0f) ? 0.0f : 0x1.921fb60000000p+0f) : cpgen_atan_f32(ratio);
    const int left = (cpgen_to_bits_f32(x) >> 31U) != 0U;
    const float angle = left ? (0x1.921fb60000000p+1f - (acute - -0x1.777a5c0000000p-24f)) : acute;
    return ((x != x) || (y != y)) ? (x + y) : cpgen_copysign_f32(angle, y);
}

static inline float cpgen_asin_f32(float x)
{
    return cpgen_atan2_f32(x, cpgen_sqrt_f32((1.0f - x) * (1.0f + x)));
}

static inline float cpgen_acos_f32(float x)
{
    return cpgen_atan2_f32(cpgen_sqrt_f32((1.0f - x) * (1.0f + x)), x);
}

static inline float cpgen_asinh_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const int far = size >= 0x1p14f;
    const float near = far ? 1.0f : size;
    const float square = near * near;
    const float low = near + (square / (1.0f + cpgen_sqrt_f32(square + 1.0f)));
    const float grown = cpgen_log1p_f32(far ? (size - 1.0f) : low);
    return cpgen_copysign_f32(far ? (grown + 0x1.62e4300000000p-1f) : grown, x);
}

static inline float cpgen_acosh_f32(float x)
{
    const int far = x >= 0x1p14f;
    const int inside = x >= 1.0f;
    const float less = inside ? (x - 1.0f) : 1.0f;
    const float near = far ? 1.0f : less;
    const float low = near + cpgen_sqrt_f32(near * (near + 2.0f));
    const float grown = cpgen_log1p_f32(far ? less : low);
    const float value = far ? (grown + 0x1.62e4300000000p-1f) : grown;
    const float outside = (x == x) ? cpgen_nan_f32() : x;
    return inside ? value : outside;
}

static inline float cpgen_atanh_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    return cpgen_copysign_f32(0.5f * cpgen_log1p_f32((size + size) / (1.0f - size)), x);
}

static inline float cpgen_upper_f32(float x)
{
    return cpgen_from_bits_f32(cpgen_to_bits_f32(x) & UINT32_C(0xfffff000));
}

/* x^y for finite x > 0 and finite y */
static inline float cpgen_pow_positive_f32(float x, float y)
{
    const int subnormal = x < 0x1p-126f;
    const uint32_t bits = cpgen_to_bits_f32(subnormal ? (x * 0x1p25f) : x);
    const float m = cpgen_from_bits_f32((bits & UINT32_C(0x7fffff)) | UINT32_C(0x3f800000));
    const int second = (m >= 0x1.3988e20000000p+0f) && (m < 0x1.bb67ae0000000p+0f);
    const int third = m >= 0x1.bb67ae0000000p+0f;
    const float mantissa = third ? (0.5f * m) : m;
    const float base = second ? 1.5f : 1.0f;
    const float exponent = ((float)(int32_t)(bits >> 23U) - 127.0f) + (third ? 1.0f : 0.0f) - (subnormal ? 25.0f : 0.0f);
    /* s = (m - base) / (m + base) in two parts */
    const float difference = mantissa - base;
    const float sum = mantissa + base;
    const float s = difference / sum;
    const float sh = cpgen_upper_f32(s);
    const float th = cpgen_upper_f32(sum);
    const float tl = mantissa - (th - base);
    const float sl = ((difference - (sh * th)) - (sh * tl)) / sum;
    /* log2(m / base) = 2 / (3 log 2) (3 s + s^3 + ...) */
    const float z = s * s;
    float p = 0x1.1c403e0000000p-2f;
    p = (p * z) + 0x1.554d040000000p-2f;
    p = (p * z) + 0x1.b6db720000000p-2f;
    p = (p * z) + 0x1.3333340000000p-1f;
    {
        const float tail = ((z * z) * p) + (sl * (sh + s));
        const float square = sh * sh;
        const float uh = cpgen_upper_f32((3.0f + square) + tail);
        const float ul = tail - ((uh - 3.0f) - square);
        const float a = sh * uh;
        const float b = (sl * uh) + (ul * s);
        const float ph = cpgen_upper_f32(a + b);
        const float pl = b - (ph - a);
        const float zh = 0x1.ec40000000000p-1f * ph;
        const float zl = ((0x1.84ee1e0000000p-12f * ph) + (pl * 0x1.ec709e0000000p-1f)) + (second ? 0x1.a39fbe0000000p-20f : 0.0f);
        const float dh = second ? 0x1.2b80000000000p-1f : 0.0f;
        const float t1 = cpgen_upper_f32(((zh + zl) + dh) + exponent);
        const float t2 = zl - (((t1 - exponent) - dh) - zh);
        /* y log2(x) */
        const float yh = cpgen_upper_f32(y);
        const float low = ((y - yh) * t1) + (y * t2);
        const float high = yh * t1;
        const float total = low + high;
        const float below = (total < 128.0f) ? total : 128.0f;
        const float bounded = (below > -152.0f) ? below : -152.0f;
        const float shifted = bounded + 0x1.8p23f;
        const float n = shifted - 0x1.8p23f;
        const uint32_t biased = (cpgen_to_bits_f32(shifted) - cpgen_to_bits_f32(0x1.8p23f)) + 256U;
        const float rest = high - n;
        const float wh = cpgen_upper_f32(low + rest);
        const float wl = low - (wh - rest);
        const float eh = wh * 0x1.62c0000000000p-1f;
        const float el = (wl * 0x1.62e4300000000p-1f) + (wh * 0x1.217f7e0000000p-12f);
        const float v = eh + el;
        const float w = el - (v - eh);
        const float power = 1.0f + (v + (w + ((v * v) * cpgen_exp_tail_f32(v)) + (v * w)));
        const float inside = cpgen_scale_f32(power, biased);
        const float above = (total > 128.0f) ? cpgen_infinity_f32() : inside;
        return (total <= -152.0f) ? 0.0f : above;
    }
}

static inline float cpgen_pow_f32(float x, float y)
{
    const float size = cpgen_fabs_f32(x);
    const float order = cpgen_fabs_f32(y);
    const int whole = (order >= 0x1p23f) || (((order + 0x1p23f) - 0x1p23f) == order);
    const float halved = 0.5f * order;
    const int odd = whole && (order < 0x1p24f) && (((halved + 0x1p23f) - 0x1p23f) != halved);
    const int negative = (cpgen_to_bits_f32(x) >> 31U) != 0U;
    float result;
    if ((y == 0.0f) || (x == 1.0f))
    {
        return 1.0f;
    }
    if ((x != x) || (y != y))
    {
        return x + y;
    }
    if (order == cpgen_infinity_f32())
    {
        if (size == 1.0f)
        {
            return 1.0f;
        }
        return ((size > 1.0f) == (y > 0.0f)) ? order : 0.0f;
    }
    if ((size == 0.0f) || (size == cpgen_infinity_f32()))
    {
        result = ((size == 0.0f) == (y > 0.0f)) ? 0.0f : cpgen_infinity_f32();
    }
    else if ((x < 0.0f) && !whole)
    {
        return cpgen_nan_f32();
    }
    else
    {
        result = cpgen_pow_positive_f32(size, y);
    }
    return (negative && odd) ? -result : result;
}

/* exp(x^2) erfc(x) for 0 <= x <= 11: 1 / (1 + 2 x) times a polynomial in (x - 4) / (x + 4) */
static inline float cpgen_erfc_scaled_f32(float x)
{
    const float z = (x - 4.0f) / (x + 4.0f);
    float p = -0x1.216aca0000000p-17f;
    p = (p * z) + 0x1.df06180000000p-14f;
    p = (p * z) + (-0x1.ce38c40000000p-13f);
    p = (p * z) + (-0x1.73ca320000000p-11f);
    p = (p * z) + 0x1.4ac6740000000p-8f;
    p = (p * z) + (-0x1.09eb320000000p-6f);
    p = (p * z) + 0x1.306d480000000p-5f;
    p = (p * z) + (-0x1.0fa48e0000000p-4f);
    p = (p * z) + 0x1.7fef4c0000000p-4f;
    p = (p * z) + (-0x1.9ddd1c0000000p-4f);
    p = (p * z) + 0x1.16ecd20000000p-4f;
    p = (p * z) + 0x1.f7f6da0000000p-7f;
    p = (p * z) + (-0x1.1df1ac0000000p-3f);
    p = (p * z) + 0x1.3ba5920000000p+0f;
    return p / (1.0f + (2.0f * x));
}

/* cpgen_erfc_f32(x) for x >= 0 */
static inline float cpgen_erfc_right_f32(float x)
{
    const float near = (x < 11.0f) ? x : 11.0f;
    const float high = cpgen_upper_f32(near);
    const float low = (near - high) * (near + high);
    return (cpgen_exp_f32(-(high * high)) * (1.0f + cpgen_expm1_f32(-low))) * cpgen_erfc_scaled_f32(near);
}

static inline float cpgen_erf_near_f32(float x)
{
    const float z = x * x;
    float p = 0x1.4a9dac0000000p-14f;
    p = (p * z) + (-0x1.a46b400000000p-11f);
    p = (p * z) + 0x1.5416360000000p-8f;
    p = (p * z) + (-0x1.b7fb380000000p-6f);
    p = (p * z) + 0x1.ce2d180000000p-4f;
    p = (p * z) + (-0x1.81273e0000000p-2f);
    p = (p * z) + 0x1.20dd740000000p+0f;
    return x * p;
}

static inline float cpgen_erf_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float near = cpgen_erf_near_f32((size < 1.0f) ? x : 1.0f);
    const float far = 1.0f - cpgen_erfc_right_f32((size < 11.0f) ? size : 11.0f);
    return (x == x) ? ((size < 1.0f) ? near : cpgen_copysign_f32(far, x)) : x;
}

static inline float cpgen_erfc_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float right = cpgen_erfc_right_f32((size < 11.0f) ? size : 11.0f);
    const float near = 1.0f - cpgen_erf_near_f32((size < 0.5f) ? x : 0.5f);
    const float far = (x > 0.0f) ? right : (2.0f - right);
    return (x == x) ? ((size < 0.5f) ? near : far) : x;
}

/* ---- smooth activations, float ---- */

/* log(1 + exp(x)) */
static inline float cpgen_softplus_f32(float x)
{
    return ((x < 0.0f) ? 0.0f : x) + cpgen_log1p_f32(cpgen_exp_f32(-cpgen_fabs_f32(x)));
}

/* 1 / (1 + exp(-x)) */
static inline float cpgen_sigmoid_f32(float x)
{
    const float decay = cpgen_exp_f32(-cpgen_fabs_f32(x));
    return ((x < 0.0f) ? decay : 1.0f) / (1.0f + decay);
}

/* log(cosh(x)): |x| above 20 is split off, below cosh(x) - 1 = expm1(x)^2 / (2 exp(x)) */
static inline float cpgen_logcosh_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float near = (size < 20.0f) ? size : 20.0f;
    const float growth = cpgen_expm1_f32(near);
    return (size - near) + cpgen_log1p_f32((growth * growth) / (2.0f * (1.0f + growth)));
}

/* 1 / cosh(x) */
static inline float cpgen_sech_f32(float x)
{
    const float decay = cpgen_exp_f32(-cpgen_fabs_f32(x));
    return (2.0f * decay) / (1.0f + (decay * decay));
}

/* x / (1 + exp(-x)) */
static inline float cpgen_silu_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    /* far left exp(x) is smaller than the result: it is taken exp(20) times as large */
    const int far = size > 80.0f;
    const float decay = cpgen_exp_f32((far ? 20.0f : 0.0f) - size);
    const float left = (x * decay) * (far ? 0x1.1b48660000000p-29f : 1.0f);
    return ((x < 0.0f) ? left : x) / (1.0f + decay);
}

/* factor times the distribution function of the standard normal */
static inline float cpgen_normal_f32(float x, float factor)
{
    const float size = (cpgen_fabs_f32(x) < 15.0f) ? cpgen_fabs_f32(x) : 15.0f;
    const float s = size * 0.707106781f;
    const float high = cpgen_upper_f32(size);
    const float low = (size - high) * (size + high);
    const float decay = cpgen_exp_f32(-(0.5f * (high * high))) * (1.0f + cpgen_expm1_f32(-(0.5f * low)));
    const float tail = ((decay * factor) * (0.5f * cpgen_erfc_scaled_f32(s)));
    const float near = factor * (0.5f * (1.0f - cpgen_erf_near_f32((s < 0.5f) ? -(x * 0.707106781f) : 0.5f)));
    const float far = (x < 0.0f) ? tail : (factor - tail);
    return (x == x) ? ((s < 0.5f) ? near : far) : x;
}

/* distribution function of the standard normal */
static inline float cpgen_normcdf_f32(float x)
{
    return cpgen_normal_f32(x, 1.0f);
}

/* x times the distribution function of the standard normal */
static inline float cpgen_gelu_f32(float x)
{
    return cpgen_normal_f32(x, x);
}

/* ---- logarithm of the normal distribution function and its derivatives, float ---- */

/* (x + phi(x) / Phi(x)) for x = -t, t >= 0: 1 / (1 + t) times a polynomial in (t - 4) / (t + 4) */
static inline float cpgen_mills_left_f32(float t)
{
    const float near = (t < 1e12f) ? t : 1e12f;
    const float z = (near - 4.0f) / (near + 4.0f);
    float p = 0x1.f754340000000p-15f;
    p = (p * z) + 0x1.a5d8b60000000p-13f;
    p = (p * z) + (-0x1.17d1640000000p-11f);
    p = (p * z) + (-0x1.31762e0000000p-10f);
    p = (p * z) + 0x1.6590040000000p-9f;
    p = (p * z) + 0x1.80210e0000000p-9f;
    p = (p * z) + (-0x1.5b2d740000000p-7f);
    p = (p * z) + (-0x1.037b8e0000000p-10f);
    p = (p * z) + 0x1.0999b40000000p-5f;
    p = (p * z) + (-0x1.f896740000000p-6f);
    p = (p * z) + (-0x1.f44ae60000000p-5f);
    p = (p * z) + 0x1.8b21840000000p-3f;
    p = (p * z) + (-0x1.896db20000000p-3f);
    p = (p * z) + (-0x1.fc5dce0000000p-5f);
    p = (p * z) + 0x1.20c6f20000000p+0f;
    return p / (1.0f + t);
}

/* phi(x) / Phi(x) of the standard normal for x >= 0 */
static inline float cpgen_mills_right_f32(float x)
{
    const float size = (x < 15.0f) ? x : 15.0f;
    const float high = cpgen_upper_f32(size);
    const float low = (size - high) * (size + high);
    const float decay = cpgen_exp_f32(-(0.5f * (high * high))) * (1.0f + cpgen_expm1_f32(-(0.5f * low)));
    return (0.398942280401432678f * decay) / cpgen_normcdf_f32(x);
}

/* phi(x) / Phi(x), the slope of log(Phi(x)) */
static inline float cpgen_mills_f32(float x)
{
    const float left = cpgen_mills_left_f32((x < 0.0f) ? -x : 0.0f) - x;
    const float right = cpgen_mills_right_f32((x < 0.0f) ? 0.0f : x);
    return (x < 0.0f) ? left : ((x == x) ? right : x);
}

/* x + phi(x) / Phi(x) */
static inline float cpgen_mills_gap_f32(float x)
{
    const float left = cpgen_mills_left_f32((x < 0.0f) ? -x : 0.0f);
    const float right = x + cpgen_mills_right_f32((x < 0.0f) ? 0.0f : x);
    return (x < 0.0f) ? left : ((x == x) ? right : x);
}

/* log(Phi(x)) = -x^2/2 - log(sqrt(2 pi) phi(x) / Phi(x)) on the left */
static inline float cpgen_log_ndtr_f32(float x)
{
    const float side = (x < 0.0f) ? x : 0.0f;
    const float left = -(((0.5f * side) * side) + (cpgen_log_f32(cpgen_mills_left_f32(-side) - side) + 0.918938533204672742f));
    const float right = cpgen_log1p_f32(-cpgen_normcdf_f32((x < 0.0f) ? 0.0f : -x));
    return (x < 0.0f) ? left : ((x == x) ? right : x);
}

/* ---- spherical Bessel functions, inverse error functions, Lambert's W, float ---- */

/* j_n(x) for n >= 0: the power series up to |x| = n + 1, the recurrence upwards from there */
static inline float cpgen_jn_f32(int n, float x)
{
    const float size = cpgen_fabs_f32(x);
    float lower;
    float value;
    int k;
    if (size <= ((float)n + 1.0f))
    {
        const float half = 0.5f * (x * x);
        float sum = 1.0f;
        value = 1.0f;
        for (k = 13; k >= 1; --k)
        {
            sum = 1.0f - (((half / (float)k) / (float)((2 * (n + k)) + 1)) * sum);
        }
        for (k = 1; k <= n; ++k)
        {
            value *= x / (float)((2 * k) + 1);
        }
        return value * sum;
    }
    if (size == cpgen_infinity_f32())
    {
        return 0.0f;
    }
    value = cpgen_sin_f32(x) / x;
    lower = cpgen_cos_f32(x) / x;
    for (k = 0; k < n; ++k)
    {
        const float next = (((float)((2 * k) + 1) / x) * value) - lower;
        lower = value;
        value = next;
    }
    return value;
}

/* sin(x) / x */
static inline float cpgen_sinc_f32(float x)
{
    return cpgen_jn_f32(0, x);
}

/* derivative of order k of (exp(x) - 1) / x, the integral of s^k exp(s x) over 0 <= s <= 1: series of positive terms
 * up to |x| = 6, the recurrence from there */
static inline float cpgen_phi1_f32(int k, float x)
{
    const float size = cpgen_fabs_f32(x);
    float value;
    float end;
    int m;
    if ((k == 0) && (size < 85.0f))
    {
        return (x == 0.0f) ? 1.0f : (cpgen_expm1_f32(x) / x);
    }
    if (size <= 6.0f)
    {
        value = (x < 0.0f) ? 1.0f : 0.0f;
        for (m = 24; m >= 0; --m)
        {
            if (x >= 0.0f)
            {
                value = (1.0f / (float)(k + 1 + m)) + ((x / (float)(m + 1)) * value);
            }
            else if (m > 0)
            {
                value = 1.0f + ((size / (float)(k + 1 + m)) * value);
            }
        }
        return (x < 0.0f) ? ((cpgen_exp_f32(x) * value) / (float)(k + 1)) : value;
    }
    if (size == cpgen_infinity_f32())
    {
        return (x < 0.0f) ? 0.0f : x;
    }
    value = -cpgen_expm1_f32(-size) / size;
    end = (x < 0.0f) ? cpgen_exp_f32(x) : 1.0f;
    for (m = 1; m <= k; ++m)
    {
        value = (end - ((float)m * value)) / size;
        value = (x < 0.0f) ? -value : value;
    }
    if (x > 0.0f)
    {
        end = cpgen_exp_f32(0.5f * x);
        value = (end * value) * end;
    }
    return value;
}

/* w with erfc(w) = q for 0 < q <= 1/2: Newton's method on the logarithms */
static inline float cpgen_erfc_tail_f32(float q)
{
    const float target = -cpgen_log_f32(q);
    float w = cpgen_sqrt_f32(target - (0.5f * cpgen_log_f32(1.0f + (3.0f * target))));
    int k;
    for (k = 0; k < 5; ++k)
    {
        const float scaled = cpgen_erfc_scaled_f32(w);
        w += ((target - (w * w)) + cpgen_log_f32(scaled)) * (0.886226925452758014f * scaled);
    }
    return w;
}

/* w with erf(w) = x for |x| <= 1/2, by Newton's method */
static inline float cpgen_erfinv_near_f32(float x)
{
    float w = 0.886226925452758014f * (x * (1.0f + ((x * x) * (0.261799387799149436f + (0.143931730849218955f * (x * x))))));
    int k;
    for (k = 0; k < 3; ++k)
    {
        w -= ((cpgen_erf_near_f32(w) - x) * 0.886226925452758014f) * cpgen_exp_f32(w * w);
    }
    return (x == 0.0f) ? x : w;
}

static inline float cpgen_erfinv_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    if (size <= 0.5f)
    {
        return cpgen_erfinv_near_f32(x);
    }
    if (!(size < 1.0f))
    {
        return (size == 1.0f) ? cpgen_copysign_f32(cpgen_infinity_f32(), x) : cpgen_nan_f32();
    }
    return cpgen_copysign_f32(cpgen_erfc_tail_f32(1.0f - size), x);
}

static inline float cpgen_erfcinv_f32(float q)
{
    if ((q > 0.0f) && (q < 0.5f))
    {
        return cpgen_erfc_tail_f32(q);
    }
    return (q == 0.0f) ? cpgen_infinity_f32() : cpgen_erfinv_f32(1.0f - q);
}

/* w exp(w) = x, the branch with w >= -1, by the iteration of Iacono and Boyd (2017) */
static inline float cpgen_lambertw_f32(float x)
{
    /* e (x + 1/e) */
    const float above = 2.71828182845904524f * ((x + 0x1.78b5640000000p-2f) - 0x1.3a621a0000000p-27f);
    float w;
    int k;
    if (!(above >= 0.0f) || (x == 0.0f) || (x == cpgen_infinity_f32()))
    {
        return (above < 0.0f) ? cpgen_nan_f32() : x;
    }
    if (x < -0.25f)
    {
        const float p = cpgen_sqrt_f32(2.0f * above);
        w = -1.0f + (p * (1.0f + (p * (-0.333333333333333333f + (p * (0.152777777777777778f - (p * 0.0796296296296296296f)))))));
        if (p < 0.01f)
        {
            return w;
        }
    }
    else
    {
        const float growth = cpgen_log1p_f32(x);
        w = growth * (1.0f - (cpgen_log1p_f32(growth) / (2.0f + growth)));
    }
    for (k = 0; k < 5; ++k)
    {
        w = (w / (1.0f + w)) * (1.0f + cpgen_log_f32(x / w));
    }
    return w;
}

/* dw/dx = 1 / (exp(w) (1 + w)) */
static inline float cpgen_lambertw_slope_f32(float x)
{
    const float w = cpgen_lambertw_f32(x);
    if (x == cpgen_infinity_f32())
    {
        return 0.0f;
    }
    return (x > 1.0f) ? ((w / (1.0f + w)) / x) : (cpgen_exp_f32(-w) / (1.0f + w));
}

/* x log(y), 0 where x is 0 */
static inline float cpgen_xlogy_f32(float x, float y)
{
    return ((x == 0.0f) && (y == y)) ? 0.0f : (x * cpgen_log_f32(y));
}

/* x / y, 0 where x is 0 */
static inline float cpgen_xdivy_f32(float x, float y)
{
    return ((x == 0.0f) && (y == y)) ? 0.0f : (x / y);
}

/* ---- Bessel functions of order n >= 0, float ----
 *
 * Of orders 0 and 1 for large x: amplitude and phase, or what is left beside the exponential function, as polynomials in
 * (x - a) / (x + 2), interpolated in Chebyshev points. */

/* sqrt(pi x / 2) (cos(x - c) J_0(x) + sin(x - c) Y_0(x)), c = pi / 4, for x >= 2 */
static inline float cpgen_bessel_p0_f32(float x)
{
    const float z = (x - 6.0f) / (x + 2.0f);
    float p = 0x1.8d37960000000p-20f;
    p = (p * z) + (-0x1.4c84480000000p-18f);
    p = (p * z) + 0x1.c8c8860000000p-17f;
    p = (p * z) + (-0x1.7fe0e60000000p-15f);
    p = (p * z) + 0x1.505f380000000p-13f;
    p = (p * z) + (-0x1.3451b00000000p-11f);
    p = (p * z) + 0x1.f132160000000p-10f;
    p = (p * z) + (-0x1.1ed9340000000p-8f);
    p = (p * z) + 0x1.3be15a0000000p-8f;
    p = (p * z) + 0x1.ff0a100000000p-1f;
    return p;
}

/* x sqrt(pi x / 2) (cos(x - c) Y_0(x) - sin(x - c) J_0(x)), c = pi / 4, for x >= 2 */
static inline float cpgen_bessel_q0_f32(float x)
{
    const float z = (x - 6.0f) / (x + 2.0f);
    float p = -0x1.585ebc0000000p-23f;
    p = (p * z) + 0x1.289d900000000p-24f;
    p = (p * z) + (-0x1.1be8c40000000p-19f);
    p = (p * z) + 0x1.46c7be0000000p-17f;
    p = (p * z) + (-0x1.7b37220000000p-16f);
    p = (p * z) + 0x1.ba9e080000000p-13f;
    p = (p * z) + (-0x1.5586fe0000000p-10f);
    p = (p * z) + 0x1.008b580000000p-8f;
    p = (p * z) + (-0x1.33aa4a0000000p-8f);
    p = (p * z) + (-0x1.f845760000000p-4f);
    return p;
}

/* sqrt(pi x / 2) (cos(x - c) J_1(x) + sin(x - c) Y_1(x)), c = 3 pi / 4, for x >= 2 */
static inline float cpgen_bessel_p1_f32(float x)
{
    const float z = (x - 6.0f) / (x + 2.0f);
    float p = -0x1.5ef9200000000p-18f;
    p = (p * z) + 0x1.11f8ec0000000p-16f;
    p = (p * z) + (-0x1.438e7c0000000p-15f);
    p = (p * z) + 0x1.f670140000000p-14f;
    p = (p * z) + (-0x1.93b17a0000000p-12f);
    p = (p * z) + 0x1.405f9e0000000p-10f;
    p = (p * z) + (-0x1.cad51c0000000p-9f);
    p = (p * z) + 0x1.f16d6a0000000p-8f;
    p = (p * z) + (-0x1.0bdd280000000p-7f);
    p = (p * z) + 0x1.00cece0000000p+0f;
    return p;
}

/* x sqrt(pi x / 2) (cos(x - c) Y_1(x) - sin(x - c) J_1(x)), c = 3 pi / 4, for x >= 2 */
static inline float cpgen_bessel_q1_f32(float x)
{
    const float z = (x - 6.0f) / (x + 2.0f);
    float p = 0x1.52669a0000000p-21f;
    p = (p * z) + (-0x1.c247e60000000p-20f);
    p = (p * z) + 0x1.c82ba60000000p-18f;
    p = (p * z) + (-0x1.b20ffe0000000p-16f);
    p = (p * z) + 0x1.52ec420000000p-14f;
    p = (p * z) + (-0x1.ca40680000000p-12f);
    p = (p * z) + 0x1.0eaf8e0000000p-9f;
    p = (p * z) + (-0x1.766f860000000p-8f);
    p = (p * z) + 0x1.b67df80000000p-8f;
    p = (p * z) + 0x1.7d450e0000000p-2f;
    return p;
}

/* sqrt(x) exp(x) K_0(x) for x >= 1 */
static inline float cpgen_bessel_k0_f32(float x)
{
    const float z = (x - 4.0f) / (x + 2.0f);
    float p = -0x1.1c4b300000000p-17f;
    p = (p * z) + 0x1.3363ec0000000p-16f;
    p = (p * z) + (-0x1.9ca9a80000000p-17f);
    p = (p * z) + 0x1.cf1fcc0000000p-16f;
    p = (p * z) + (-0x1.96f4020000000p-14f);
    p = (p * z) + 0x1.c9a6ae0000000p-13f;
    p = (p * z) + (-0x1.f3a22c0000000p-12f);
    p = (p * z) + 0x1.22268e0000000p-10f;
    p = (p * z) + (-0x1.59182e0000000p-9f);
    p = (p * z) + 0x1.a688be0000000p-8f;
    p = (p * z) + (-0x1.0e00620000000p-6f);
    p = (p * z) + 0x1.7dce580000000p-5f;
    p = (p * z) + 0x1.37f5de0000000p+0f;
    return p;
}

/* sqrt(x) exp(x) K_1(x) for x >= 1 */
static inline float cpgen_bessel_k1_f32(float x)
{
    const float z = (x - 4.0f) / (x + 2.0f);
    float p = 0x1.3bd1780000000p-14f;
    p = (p * z) + (-0x1.46cf220000000p-13f);
    p = (p * z) + 0x1.49c92c0000000p-14f;
    p = (p * z) + (-0x1.5d11f40000000p-13f);
    p = (p * z) + 0x1.5a3b340000000p-11f;
    p = (p * z) + (-0x1.6d55320000000p-10f);
    p = (p * z) + 0x1.6bf5d80000000p-9f;
    p = (p * z) + (-0x1.86b9200000000p-8f);
    p = (p * z) + 0x1.aa1afe0000000p-7f;
    p = (p * z) + (-0x1.d6810e0000000p-6f);
    p = (p * z) + 0x1.0a2fec0000000p-4f;
    p = (p * z) + (-0x1.3d7d7a0000000p-3f);
    p = (p * z) + 0x1.5cf7860000000p+0f;
    return p;
}

/* J_n(x), or Y_n(x) if second is not 0, for n = 0 or 1 and finite x >= 2 */
static inline float cpgen_bessel_far_f32(int n, int second, float x)
{
    const float c = cpgen_cos_f32(x);
    const float s = cpgen_sin_f32(x);
    const float p = (n == 0) ? cpgen_bessel_p0_f32(x) : cpgen_bessel_p1_f32(x);
    const float q = ((n == 0) ? cpgen_bessel_q0_f32(x) : cpgen_bessel_q1_f32(x)) / x;
    /* sqrt(2) times cosine and sine of the phase */
    const float cosine = (n == 0) ? (c + s) : (s - c);
    const float sine = (n == 0) ? (s - c) : -(c + s);
    const float wave = (second != 0) ? ((p * sine) + (q * cosine)) : ((p * cosine) - (q * sine));
    return (0.564189583547756287f / cpgen_sqrt_f32(x)) * wave;
}

/* for n = 0 or 1 and 0 < x <= 2: sum_k sign^k (x/2)^(2k+n) / (k! (k+n)!) (log(x/2) + c - (H_k + H_(k+n)) / 2), c Euler's constant,
 * H_k = 1 + 1/2 + ... + 1/k */
static inline float cpgen_bessel_log_f32(int n, float sign, float x)
{
    const float half = 0.5f * x;
    const float square = sign * (half * half);
    const float level = cpgen_log_f32(half) + 0.577215664901532861f;
    float term = (n == 0) ? 1.0f : half;
    float mean = (n == 0) ? 0.0f : 0.5f;
    float sum = term * (level - mean);
    int k;
    for (k = 1; k <= 8; ++k)
    {
        term *= square / (float)(k * (k + n));
        mean += 0.5f * ((1.0f / (float)k) + (1.0f / (float)(k + n)));
        sum += term * (level - mean);
    }
    return sum;
}

/* J_n(x): the power series up to the larger of n and 2, the recurrence upwards from there */
static inline float cpgen_besselj_f32(int n, float x)
{
    const float size = cpgen_fabs_f32(x);
    float lower;
    float value;
    int k;
    if (!((size > 2.0f) && (size > (float)n)))
    {
        const float square = 0.25f * (x * x);
        float sum = 1.0f;
        value = 1.0f;
        for (k = 15; k >= 1; --k)
        {
            sum = 1.0f - ((square / (float)(k * (k + n))) * sum);
        }
        for (k = 1; k <= n; ++k)
        {
            value *= (0.5f * x) / (float)k;
        }
        return value * sum;
    }
    if (size == cpgen_infinity_f32())
    {
        return 0.0f;
    }
    lower = cpgen_bessel_far_f32(0, 0, size);
    if (n == 0)
    {
        return lower;
    }
    value = cpgen_bessel_far_f32(1, 0, size);
    for (k = 1; k < n; ++k)
    {
        const float next = (((float)(2 * k) / size) * value) - lower;
        lower = value;
        value = next;
    }
    return ((x < 0.0f) && ((n % 2) == 1)) ? -value : value;
}

/* Y_n(x), x > 0: the recurrence upwards */
static inline float cpgen_bessely_f32(int n, float x)
{
    float lower;
    float value;
    int k;
    if (!(x > 0.0f) || (x == cpgen_infinity_f32()))
    {
        return (x == 0.0f) ? -cpgen_infinity_f32() : ((x > 0.0f) ? 0.0f : cpgen_nan_f32());
    }
    lower = (x < 2.0f) ? (0.636619772367581343f * cpgen_bessel_log_f32(0, -1.0f, x)) : cpgen_bessel_far_f32(0, 1, x);
    if (n == 0)
    {
        return lower;
    }
    value = (x < 2.0f) ? (0.636619772367581343f * (cpgen_bessel_log_f32(1, -1.0f, x) - (1.0f / x)))
                      : cpgen_bessel_far_f32(1, 1, x);
    for (k = 1; (k < n) && (value > -cpgen_infinity_f32()); ++k)
    {
        const float next = (((float)(2 * k) / x) * value) - lower;
        lower = value;
        value = next;
    }
    return value;
}

/* I_n(x): the power series up to |x| = 16, from there the series in 1 / x (Abramowitz and Stegun 9.7.1) */
static inline float cpgen_besseli_f32(int n, float x)
{
    const float size = cpgen_fabs_f32(x);
    float sum = 1.0f;
    float value = 1.0f;
    float half;
    int k;
    if (!(size > 16.0f))
    {
        const float square = 0.25f * (x * x);
        for (k = 24; k >= 1; --k)
        {
            sum = 1.0f + ((square / (float)(k * (k + n))) * sum);
        }
        for (k = 1; k <= n; ++k)
        {
            value *= (0.5f * x) / (float)k;
        }
        return value * sum;
    }
    for (k = 16; k >= 1; --k)
    {
        const int odd = (2 * k) - 1;
        sum = 1.0f - (((float)((4 * n * n) - (odd * odd)) / ((float)(8 * k) * size)) * sum);
    }
    half = cpgen_exp_f32(0.5f * size);
    value = (half * ((0.398942280401432678f * sum) / cpgen_sqrt_f32(size))) * half;
    value = (size == cpgen_infinity_f32()) ? size : value;
    return ((x < 0.0f) && ((n % 2) == 1)) ? -value : value;
}

/* K_n(x), x > 0: the recurrence upwards */
static inline float cpgen_besselk_f32(int n, float x)
{
    float lower;
    float value;
    float decay;
    int k;
    if (!(x > 0.0f) || (x == cpgen_infinity_f32()))
    {
        return (x == 0.0f) ? cpgen_infinity_f32() : ((x > 0.0f) ? 0.0f : cpgen_nan_f32());
    }
    decay = cpgen_exp_f32(-x) / cpgen_sqrt_f32(x);
    lower = (x < 1.0f) ? -cpgen_bessel_log_f32(0, 1.0f, x) : (cpgen_bessel_k0_f32(x) * decay);
    if (n == 0)
    {
        return lower;
    }
    value = (x < 1.0f) ? ((1.0f / x) + cpgen_bessel_log_f32(1, 1.0f, x)) : (cpgen_bessel_k1_f32(x) * decay);
    for (k = 1; k < n; ++k)
    {
        const float next = lower + (((float)(2 * k) / x) * value);
        lower = value;
        value = next;
    }
    return value;
}

/* ---- significands and exponents of products that leave the range on the way, float ---- */

/* x / 2^exponent(x), with 1 <= |significand| < 2; 0, infinities and NaN are their own significand, of exponent 0 */
static inline float cpgen_significand_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float normal = (size < 0x1p-126f) ? (x * 0x1p24f) : x;
    const float y = cpgen_from_bits_f32((cpgen_to_bits_f32(normal) & UINT32_C(0x807fffff)) | UINT32_C(0x3f800000));
    return ((size > 0.0f) && (size < cpgen_infinity_f32())) ? y : x;
}

static inline float cpgen_exponent_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float normal = (size < 0x1p-126f) ? (size * 0x1p24f) : size;
    const float biased = cpgen_from_bits_f32(cpgen_to_bits_f32(0x1.8p23f) + (cpgen_to_bits_f32(normal) >> 23U)) - 0x1.8p23f;
    const float y = biased - ((size < 0x1p-126f) ? 151.0f : 127.0f);
    return ((size > 0.0f) && (size < cpgen_infinity_f32())) ? y : 0.0f;
}

/* y * 2^k for a whole number k and 2^-100 < |y| < 2^100, rounded once */
static inline float cpgen_scalbn_f32(float y, float k)
{
    const float below = (k < 248.0f) ? k : 248.0f;
    const float clamped = (below > -248.0f) ? below : -248.0f;
    return cpgen_scale_f32(y, (cpgen_to_bits_f32(clamped + 0x1.8p23f) - cpgen_to_bits_f32(0x1.8p23f)) + 256U);
}

/* ---- functions with kinks, float; comparisons are arranged so that NaN is kept ---- */

static inline float cpgen_relu_f32(float x)
{
    return (x < 0.0f) ? 0.0f : x;
}

static inline float cpgen_step_f32(float x)
{
    return (x > 0.0f) ? 1.0f : ((x <= 0.0f) ? 0.0f : x);
}

static inline float cpgen_sign0_f32(float x)
{
    return (x > 0.0f) ? 1.0f : ((x < 0.0f) ? -1.0f : x);
}

/* to the nearest whole number, of two equally near the even one; from 2^23 on every number is whole */
static inline float cpgen_rint_f32(float x)
{
    const float size = cpgen_fabs_f32(x);
    const float sum = size + 0x1p23f;
    const float whole = sum - 0x1p23f;
    return (size < 0x1p23f) ? ((x < 0.0f) ? -whole : whole) : x;
}

static inline float cpgen_floor_f32(float x)
{
    const float near = cpgen_rint_f32(x);
    return (near > x) ? (near - 1.0f) : near;
}

static inline float cpgen_maximum_f32(float a, float b)
{
    return (a > b) ? a : ((a == a) ? b : a);
}

static inline float cpgen_minimum_f32(float a, float b)
{
    return (a < b) ? a : ((a == a) ? b : a);
}

/* ---- the gamma family for x > 0, float ----
 * Recurrence to an interval of length one, where a polynomial serves; from 6.0 on the asymptotic series (Abramowitz and
 * Stegun 6.1.41, 6.3.18, 6.4.11).  x = 0 gives the pole's infinity, x < 0 NaN. */

static inline float cpgen_bernoulli_f32(int k)
{
    /* B_2, B_4, ... */
    static const float numbers[5] = {
        1.0f / 6.0f, -1.0f / 30.0f, 1.0f / 42.0f, -1.0f / 30.0f, 5.0f / 66.0f
    };
    return numbers[k - 1];
}

/* Gamma(2 + t) for |t| <= 1/2, interpolated in Chebyshev points */
static inline float cpgen_gamma_near_f32(float t)
{
    float p = -0x1.1cf3c00000000p-10f;
    p = (p * t) + 0x1.405b900000000p-9f;
    p = (p * t) + (-0x1.70f0ec0000000p-9f);
    p = (p * t) + 0x1.6afa1e0000000p-7f;
    p = (p * t) + (-0x1.1b8c020000000p-12f);
    p = (p * t) + 0x1.3027080000000p-4f;
    p = (p * t) + 0x1.4e23b60000000p-4f;
    p = (p * t) + 0x1.a5b96a0000000p-2f;
    p = (p * t) + 0x1.b0ee600000000p-2f;
    p = (p * t) + 0x1.0000000000000p+0f;
    return p;
}

/* log(Gamma(2 + t)) / t for |t| <= 1/2, interpolated in Chebyshev points */
static inline float cpgen_loggamma_near_f32(float t)
{
    float p = 0x1.dbf0840000000p-14f;
    p = (p * t) + (-0x1.0a25820000000p-12f);
    p = (p * t) + 0x1.098f940000000p-11f;
    p = (p * t) + (-0x1.36ddb80000000p-10f);
    p = (p * t) + 0x1.7ae6fe0000000p-9f;
    p = (p * t) + (-0x1.e40f700000000p-8f);
    p = (p * t) + 0x1.5132220000000p-6f;
    p = (p * t) + (-0x1.13dffc0000000p-4f);
    p = (p * t) + 0x1.4a34cc0000000p-2f;
    p = (p * t) + 0x1.b0ee600000000p-2f;
    return p;
}

/* log(Gamma(1 + y)) / y for 0 <= y <= 1/2, interpolated in Chebyshev points */
static inline float cpgen_loggamma_one_f32(float y)
{
    const float t = y - 0.25f;
    float p = -0x1.42c71c0000000p-6f;
    p = (p * t) + 0x1.c5b3d80000000p-6f;
    p = (p * t) + (-0x1.2df92e0000000p-5f);
    p = (p * t) + 0x1.bcce640000000p-5f;
    p = (p * t) + (-0x1.55949e0000000p-4f);
    p = (p * t) + 0x1.181c220000000p-3f;
    p = (p * t) + (-0x1.059d400000000p-2f);
    p = (p * t) + 0x1.5337d20000000p-1f;
    p = (p * t) + (-0x1.92857e0000000p-2f);
    return p;
}

/* digamma(3/2 + t) over the distance to its zero for |t| <= 1/2, interpolated in Chebyshev points */
static inline float cpgen_digamma_near_f32(float t)
{
    float p = -0x1.ea009c0000000p-8f;
    p = (p * t) + 0x1.6fc2a80000000p-7f;
    p = (p * t) + (-0x1.708afc0000000p-7f);
    p = (p * t) + 0x1.1523980000000p-6f;
    p = (p * t) + (-0x1.bb6bba0000000p-6f);
    p = (p * t) + 0x1.4f00040000000p-5f;
    p = (p * t) + (-0x1.fb39120000000p-5f);
    p = (p * t) + 0x1.850a9c0000000p-4f;
    p = (p * t) + (-0x1.2feefa0000000p-3f);
    p = (p * t) + 0x1.eca1a00000000p-3f;
    p = (p * t) + (-0x1.b1cb620000000p-2f);
    p = (p * t) + 0x1.e6f0cc0000000p-1f;
    return p;
}

/* log(Gamma(y)) - (y - 1/2) log(y) + y - log(2 pi)/2 for y >= 6.0 */
static inline float cpgen_stirling_f32(float y)
{
    const float w = 1.0f / (y * y);
    float series = 0.0f;
    int k;
    for (k = 5; k >= 1; --k)
    {
        const float even = 2.0f * (float)k;
        series = (series * w) + (cpgen_bernoulli_f32(k) / (even * (even - 1.0f)));
    }
    return series / y;
}

static inline float cpgen_gamma_f32(float x)
{
    float y = x;
    float product = 1.0f;
    float root;
    float s;
    if (!(x > 0.0f))
    {
        return (x == 0.0f) ? cpgen_infinity_f32() : cpgen_nan_f32();
    }
    if (x > 35.1f)
    {
        return cpgen_infinity_f32();
    }
    if (x < 0.5f)
    {
        return cpgen_gamma_near_f32(x) / (x * (1.0f + x));
    }
    if (x < 1.5f)
    {
        return cpgen_gamma_near_f32(x - 1.0f) / x;
    }
    if (x < 6.0f)
    {
        while (y >= 2.5f)
        {
            y -= 1.0f;
            product *= y;
        }
        return product * cpgen_gamma_near_f32(y - 2.0f);
    }
    /* x^(x - 1/2) as a square, which may pass the largest number; the exponents are exact */
    root = cpgen_pow_f32(x, 0.5f * (x - 0.5f));
    s = cpgen_stirling_f32(x);
    product = (root * cpgen_exp_f32(-x)) * 2.50662827463100050f;
    product += product * (s + ((s * s) * cpgen_exp_tail_f32(s)));
    return product * root;
}

static inline float cpgen_loggamma_f32(float x)
{
    float y = x;
    float product = 1.0f;
    if (!(x > 0.0f))
    {
        return (x == 0.0f) ? cpgen_infinity_f32() : cpgen_nan_f32();
    }
    if (x < 0.5f)
    {
        return ((x * cpgen_loggamma_near_f32(x)) - cpgen_log1p_f32(x)) - cpgen_log_f32(x);
    }
    if (x < 1.5f)
    {
        y = x - 1.0f;
        return (y < 0.0f) ? ((y * cpgen_loggamma_near_f32(y)) - cpgen_log1p_f32(y)) : (y * cpgen_loggamma_one_f32(y));
    }
    if (x < 6.0f)
    {
        while (y >= 2.5f)
        {
            y -= 1.0f;
            product *= y;
        }
        y -= 2.0f;
        return cpgen_log_f32(product) + (y * cpgen_loggamma_near_f32(y));
    }
    y = (((x - 0.5f) * (cpgen_log_f32(x) - 1.0f)) + 0.418938533204672742f) + cpgen_stirling_f32(x);
    return (x < cpgen_infinity_f32()) ? y : x;
}

static inline float cpgen_digamma_f32(float x)
{
    float y = x;
    float tail = 0.0f;
    float w;
    float series = 0.0f;
    int k;
    if (!(x > 0.0f))
    {
        return (x == 0.0f) ? -cpgen_infinity_f32() : cpgen_nan_f32();
    }
    if (x < 6.0f)
    {
        if (x < 1.0f)
        {
            tail = -1.0f / x;
            y += 1.0f;
        }
        while (y >= 2.0f)
        {
            y -= 1.0f;
            tail += 1.0f / y;
        }
        return (((y - 0x1.762d860000000p+0f) - 0x1.ab5f200000000p-27f) * cpgen_digamma_near_f32(y - 1.5f)) + tail;
    }
    w = 1.0f / (x * x);
    for (k = 5; k >= 1; --k)
    {
        series = (series + (cpgen_bernoulli_f32(k) / (2.0f * (float)k))) * w;
    }
    return (cpgen_log_f32(x) - (0.5f / x)) - series;
}

static inline float cpgen_power_f32(float x, int n)
{
    float result = 1.0f;
    int k;
    for (k = 0; k < n; ++k)
    {
        result *= x;
    }
    return result;
}

/* a / x^n, also where x^n is beyond the largest number */
static inline float cpgen_divided_f32(float a, float x, int n)
{
    float result = a;
    int k;
    for (k = 0; k < n; ++k)
    {
        result /= x;
    }
    return result;
}

/* d^(n+1) log Gamma(x) / dx^(n+1) for n >= 1 */
static inline float cpgen_polygamma_f32(int n, float x)
{
    float y = x;
    float before = 1.0f; /* (n - 1)! */
    float tail = 0.0f;
    float series = 0.0f;
    float ratio;
    float result;
    float inverse;
    int k;
    if (!(x > 0.0f))
    {
        const float pole = ((n % 2) == 1) ? cpgen_infinity_f32() : -cpgen_infinity_f32();
        return (x == 0.0f) ? pole : cpgen_nan_f32();
    }
    for (k = 2; k < n; ++k)
    {
        before *= (float)k;
    }
    while (y < (5.0f + (float)n))
    {
        tail += cpgen_divided_f32(1.0f, y, n + 1);
        y += 1.0f;
    }
    /* ratio = (2k + n - 1)! / (2k)! */
    ratio = (before * (float)n * (float)(n + 1)) * 0.5f;
    inverse = 1.0f / y;
    for (k = 1; k <= 5; ++k)
    {
        series += (cpgen_bernoulli_f32(k) * ratio) * cpgen_power_f32(inverse, 2 * k);
        ratio *= (float)(((2 * k) + n) * ((2 * k) + n + 1)) / (float)(((2 * k) + 1) * ((2 * k) + 2));
    }
    result = (before * (float)n * (tail + cpgen_divided_f32(0.5f, y, n + 1)))
        + cpgen_divided_f32(before + series, y, n);
    return ((n % 2) == 1) ? result : -result;
}

/* ---- roots of small symmetric matrices, double ----
 *
 * cpgen_eigenroot<k> of a symmetric k x k matrix M, by its upper triangle row after row: at[k * i + j] is P[i][j] and
 * at[k * k + k * i + j] is Q[i][j] with P P^T - Q Q^T = M, where column j of P or of Q is an eigenvector times the root of
 * the size of its eigenvalue and the other one is zero.  Eigenvectors by two sweeps of cyclic Jacobi rotations (one
 * rotation for k = 2).  What they leave beside the diagonal is small, and goes into the columns: with Q^T M Q = X they
 * are (T + U) / 2 and (T - U) / 2 for T = Q e_j, U = Q (X_jj e_j + 2 sum_{i > j} X_ij e_i), both scaled to one norm.  So
 * the product is M however far the rotations came.  No branches or calls: a loop over matrices can be vectorised.
 */

/* what one rotation of the plane (a, b) does to two numbers */
#define cpgen_move_f64(u, v) \
    { \
        const double moved = (c * u) - (s * v); \
        v = (s * u) + (c * v); \
        u = moved; \
    }

/* the rotation that makes the element ``off`` beside the diagonal elements a and b zero: by less than 45 degrees, and none
 * where it is zero already */
#define cpgen_turn_f64(a, b, off, ...) \
    { \
        const double gap = b - a; \
        const double twice = off + off; \
        const double below = (cpgen_fabs_f64(gap) + cpgen_sqrt_f64((gap * gap) + (twice * twice))) + 1.0e-300; \
        const double t = ((gap < 0.0) ? -twice : twice) / below; \
        const double c = 1.0 / cpgen_sqrt_f64(1.0 + (t * t)); \
        const double s = t * c; \
        a -= t * off; \
        b += t * off; \
        off = 0.0; \
        __VA_ARGS__ \
    }

#define cpgen_larger_f64(m) size = (cpgen_fabs_f64(m) > size) ? cpgen_fabs_f64(m) : size;

/* numbers ``place`` of P and, ``further`` on, of Q */
#define cpgen_root_f64(place, further, q, sum) \
    { \
        const double first = (q) * left; \
        const double second = (sum) * right; \
        root.at[place] = first + second; \
        root.at[(place) + (further)] = first - second; \
    }

#define cpgen_scales_f64(squares) \
    const double norm = squares; \
    const double left = (0.5 * outer) * cpgen_sqrt_f64(cpgen_sqrt_f64(norm)); \
    const double right = (norm > 0.0) ? ((0.25 * size) / left) : 0.0;

typedef struct cpgen_eigenroot2_f64_t
{
    double at[8];
} cpgen_eigenroot2_f64_t;

static inline cpgen_eigenroot2_f64_t cpgen_eigenroot2_f64(
    double m00, double m01, double m11)
{
    cpgen_eigenroot2_f64_t root;
    double size = 0x1p-1022;
    cpgen_larger_f64(m00) cpgen_larger_f64(m01) cpgen_larger_f64(m11)
    {
        const double outer = cpgen_sqrt_f64(size);
        double x00 = m00 / size; double x01 = m01 / size; double x11 = m11 / size;
        double q00 = 1.0; double q01 = 0.0; double q10 = 0.0; double q11 = 1.0;
        cpgen_turn_f64(x00, x11, x01,
            cpgen_move_f64(q00, q01) cpgen_move_f64(q10, q11))
        {
            const double y0 = x00;
            cpgen_scales_f64((y0 * y0))
            cpgen_root_f64(0, 4, q00, (q00 * y0))
            cpgen_root_f64(2, 4, q10, (q10 * y0))
        }
        {
            const double y1 = x11;
            cpgen_scales_f64((y1 * y1))
            cpgen_root_f64(1, 4, q01, (q01 * y1))
            cpgen_root_f64(3, 4, q11, (q11 * y1))
        }
    }
    return root;
}

#define cpgen_sweep3_f64 \
    cpgen_turn_f64(x00, x11, x01, \
        cpgen_move_f64(x02, x12) cpgen_move_f64(q00, q01) cpgen_move_f64(q10, q11) cpgen_move_f64(q20, q21)) \
    cpgen_turn_f64(x00, x22, x02, \
        cpgen_move_f64(x01, x12) cpgen_move_f64(q00, q02) cpgen_move_f64(q10, q12) cpgen_move_f64(q20, q22)) \
    cpgen_turn_f64(x11, x22, x12, \
        cpgen_move_f64(x01, x02) cpgen_move_f64(q01, q02) cpgen_move_f64(q11, q12) cpgen_move_f64(q21, q22))

typedef struct cpgen_eigenroot3_f64_t
{
    double at[18];
} cpgen_eigenroot3_f64_t;

static inline cpgen_eigenroot3_f64_t cpgen_eigenroot3_f64(
    double m00, double m01, double m02, double m11, double m12, double m22)
{
    cpgen_eigenroot3_f64_t root;
    double size = 0x1p-1022;
    cpgen_larger_f64(m00) cpgen_larger_f64(m01) cpgen_larger_f64(m02) cpgen_larger_f64(m11) cpgen_larger_f64(m12)
    cpgen_larger_f64(m22)
    {
        const double outer = cpgen_sqrt_f64(size);
        double x00 = m00 / size; double x01 = m01 / size; double x02 = m02 / size; double x11 = m11 / size;
        double x12 = m12 / size; double x22 = m22 / size;
        double q00 = 1.0; double q01 = 0.0; double q02 = 0.0; double q10 = 0.0; double q11 = 1.0; double q12 = 0.0;
        double q20 = 0.0; double q21 = 0.0; double q22 = 1.0;
        cpgen_sweep3_f64
        cpgen_sweep3_f64
        {
            const double y0 = x00; const double y1 = x01 + x01; const double y2 = x02 + x02;
            cpgen_scales_f64((y0 * y0) + (y1 * y1) + (y2 * y2))
            cpgen_root_f64(0, 9, q00, (q00 * y0) + (q01 * y1) + (q02 * y2))
            cpgen_root_f64(3, 9, q10, (q10 * y0) + (q11 * y1) + (q12 * y2))
            cpgen_root_f64(6, 9, q20, (q20 * y0) + (q21 * y1) + (q22 * y2))
        }
        {
            const double y1 = x11; const double y2 = x12 + x12;
            cpgen_scales_f64((y1 * y1) + (y2 * y2))
            cpgen_root_f64(1, 9, q01, (q01 * y1) + (q02 * y2))
            cpgen_root_f64(4, 9, q11, (q11 * y1) + (q12 * y2))
            cpgen_root_f64(7, 9, q21, (q21 * y1) + (q22 * y2))
        }
        {
            const double y2 = x22;
            cpgen_scales_f64((y2 * y2))
            cpgen_root_f64(2, 9, q02, (q02 * y2))
            cpgen_root_f64(5, 9, q12, (q12 * y2))
            cpgen_root_f64(8, 9, q22, (q22 * y2))
        }
    }
    return root;
}

#define cpgen_sweep4_f64 \
    cpgen_turn_f64(x00, x11, x01, \
        cpgen_move_f64(x02, x12) cpgen_move_f64(x03, x13) cpgen_move_f64(q00, q01) cpgen_move_f64(q10, q11) \
        cpgen_move_f64(q20, q21) cpgen_move_f64(q30, q31)) \
    cpgen_turn_f64(x00, x22, x02, \
        cpgen_move_f64(x01, x12) cpgen_move_f64(x03, x23) cpgen_move_f64(q00, q02) cpgen_move_f64(q10, q12) \
        cpgen_move_f64(q20, q22) cpgen_move_f64(q30, q32)) \
    cpgen_turn_f64(x00, x33, x03, \
        cpgen_move_f64(x01, x13) cpgen_move_f64(x02, x23) cpgen_move_f64(q00, q03) cpgen_move_f64(q10, q13) \
        cpgen_move_f64(q20, q23) cpgen_move_f64(q30, q33)) \
    cpgen_turn_f64(x11, x22, x12, \
        cpgen_move_f64(x01, x02) cpgen_move_f64(x13, x23) cpgen_move_f64(q01, q02) cpgen_move_f64(q11, q12) \
        cpgen_move_f64(q21, q22) cpgen_move_f64(q31, q32)) \
    cpgen_turn_f64(x11, x33, x13, \
        cpgen_move_f64(x01, x03) cpgen_move_f64(x12, x23) cpgen_move_f64(q01, q03) cpgen_move_f64(q11, q13) \
        cpgen_move_f64(q21, q23) cpgen_move_f64(q31, q33)) \
    cpgen_turn_f64(x22, x33, x23, \
        cpgen_move_f64(x02, x03) cpgen_move_f64(x12, x13) cpgen_move_f64(q02, q03) cpgen_move_f64(q12, q13) \
        cpgen_move_f64(q22, q23) cpgen_move_f64(q32, q33))

typedef struct cpgen_eigenroot4_f64_t
{
    double at[32];
} cpgen_eigenroot4_f64_t;

static inline cpgen_eigenroot4_f64_t cpgen_eigenroot4_f64(
    double m00, double m01, double m02, double m03, double m11, double m12, double m13, double m22, double m23,
    double m33)
{
    cpgen_eigenroot4_f64_t root;
    double size = 0x1p-1022;
    cpgen_larger_f64(m00) cpgen_larger_f64(m01) cpgen_larger_f64(m02) cpgen_larger_f64(m03) cpgen_larger_f64(m11)
    cpgen_larger_f64(m12) cpgen_larger_f64(m13) cpgen_larger_f64(m22) cpgen_larger_f64(m23) cpgen_larger_f64(m33)
    {
        const double outer = cpgen_sqrt_f64(size);
        double x00 = m00 / size; double x01 = m01 / size; double x02 = m02 / size; double x03 = m03 / size;
        double x11 = m11 / size; double x12 = m12 / size; double x13 = m13 / size; double x22 = m22 / size;
        double x23 = m23 / size; double x33 = m33 / size;
        double q00 = 1.0; double q01 = 0.0; double q02 = 0.0; double q03 = 0.0; double q10 = 0.0; double q11 = 1.0;
        double q12 = 0.0; double q13 = 0.0; double q20 = 0.0; double q21 = 0.0; double q22 = 1.0; double q23 = 0.0;
        double q30 = 0.0; double q31 = 0.0; double q32 = 0.0; double q33 = 1.0;
        cpgen_sweep4_f64
        cpgen_sweep4_f64
        {
            const double y0 = x00; const double y1 = x01 + x01; const double y2 = x02 + x02; const double y3 = x03 + x03;
            cpgen_scales_f64((y0 * y0) + (y1 * y1) + (y2 * y2) + (y3 * y3))
            cpgen_root_f64(0, 16, q00, (q00 * y0) + (q01 * y1) + (q02 * y2) + (q03 * y3))
            cpgen_root_f64(4, 16, q10, (q10 * y0) + (q11 * y1) + (q12 * y2) + (q13 * y3))
            cpgen_root_f64(8, 16, q20, (q20 * y0) + (q21 * y1) + (q22 * y2) + (q23 * y3))
            cpgen_root_f64(12, 16, q30, (q30 * y0) + (q31 * y1) + (q32 * y2) + (q33 * y3))
        }
        {
            const double y1 = x11; const double y2 = x12 + x12; const double y3 = x13 + x13;
            cpgen_scales_f64((y1 * y1) + (y2 * y2) + (y3 * y3))
            cpgen_root_f64(1, 16, q01, (q01 * y1) + (q02 * y2) + (q03 * y3))
            cpgen_root_f64(5, 16, q11, (q11 * y1) + (q12 * y2) + (q13 * y3))
            cpgen_root_f64(9, 16, q21, (q21 * y1) + (q22 * y2) + (q23 * y3))
            cpgen_root_f64(13, 16, q31, (q31 * y1) + (q32 * y2) + (q33 * y3))
        }
        {
            const double y2 = x22; const double y3 = x23 + x23;
            cpgen_scales_f64((y2 * y2) + (y3 * y3))
            cpgen_root_f64(2, 16, q02, (q02 * y2) + (q03 * y3))
            cpgen_root_f64(6, 16, q12, (q12 * y2) + (q13 * y3))
            cpgen_root_f64(10, 16, q22, (q22 * y2) + (q23 * y3))
            cpgen_root_f64(14, 16, q32, (q32 * y2) + (q33 * y3))
        }
        {
            const double y3 = x33;
            cpgen_scales_f64((y3 * y3))
            cpgen_root_f64(3, 16, q03, (q03 * y3))
            cpgen_root_f64(7, 16, q13, (q13 * y3))
            cpgen_root_f64(11, 16, q23, (q23 * y3))
            cpgen_root_f64(15, 16, q33, (q33 * y3))
        }
    }
    return root;
}

#define cpgen_sweep5_f64 \
    cpgen_turn_f64(x00, x11, x01, \
        cpgen_move_f64(x02, x12) cpgen_move_f64(x03, x13) cpgen_move_f64(x04, x14) cpgen_move_f64(q00, q01) \
        cpgen_move_f64(q10, q11) cpgen_move_f64(q20, q21) cpgen_move_f64(q30, q31) cpgen_move_f64(q40, q41)) \
    cpgen_turn_f64(x00, x22, x02, \
        cpgen_move_f64(x01, x12) cpgen_move_f64(x03, x23) cpgen_move_f64(x04, x24) cpgen_move_f64(q00, q02) \
        cpgen_move_f64(q10, q12) cpgen_move_f64(q20, q22) cpgen_move_f64(q30, q32) cpgen_move_f64(q40, q42)) \
    cpgen_turn_f64(x00, x33, x03, \
        cpgen_move_f64(x01, x13) cpgen_move_f64(x02, x23) cpgen_move_f64(x04, x34) cpgen_move_f64(q00, q03) \
        cpgen_move_f64(q10, q13) cpgen_move_f64(q20, q23) cpgen_move_f64(q30, q33) cpgen_move_f64(q40, q43)) \
    cpgen_turn_f64(x00, x44, x04, \
        cpgen_move_f64(x01, x14) cpgen_move_f64(x02, x24) cpgen_move_f64(x03, x34) cpgen_move_f64(q00, q04) \
        cpgen_move_f64(q10, q14) cpgen_move_f64(q20, q24) cpgen_move_f64(q30, q34) cpgen_move_f64(q40, q44)) \
    cpgen_turn_f64(x11, x22, x12, \
        cpgen_move_f64(x01, x02) cpgen_move_f64(x13, x23) cpgen_move_f64(x14, x24) cpgen_move_f64(q01, q02) \
        cpgen_move_f64(q11, q12) cpgen_move_f64(q21, q22) cpgen_move_f64(q31, q32) cpgen_move_f64(q41, q42)) \
    cpgen_turn_f64(x11, x33, x13, \
        cpgen_move_f64(x01, x03) cpgen_move_f64(x12, x23) cpgen_move_f64(x14, x34) cpgen_move_f64(q01, q03) \
        cpgen_move_f64(q11, q13) cpgen_move_f64(q21, q23) cpgen_move_f64(q31, q33) cpgen_move_f64(q41, q43)) \
    cpgen_turn_f64(x11, x44, x14, \
        cpgen_move_f64(x01, x04) cpgen_move_f64(x12, x24) cpgen_move_f64(x13, x34) cpgen_move_f64(q01, q04) \
        cpgen_move_f64(q11, q14) cpgen_move_f64(q21, q24) cpgen_move_f64(q31, q34) cpgen_move_f64(q41, q44)) \
    cpgen_turn_f64(x22, x33, x23, \
        cpgen_move_f64(x02, x03) cpgen_move_f64(x12, x13) cpgen_move_f64(x24, x34) cpgen_move_f64(q02, q03) \
        cpgen_move_f64(q12, q13) cpgen_move_f64(q22, q23) cpgen_move_f64(q32, q33) cpgen_move_f64(q42, q43)) \
    cpgen_turn_f64(x22, x44, x24, \
        cpgen_move_f64(x02, x04) cpgen_move_f64(x12, x14) cpgen_move_f64(x23, x34) cpgen_move_f64(q02, q04) \
        cpgen_move_f64(q12, q14) cpgen_move_f64(q22, q24) cpgen_move_f64(q32, q34) cpgen_move_f64(q42, q44)) \
    cpgen_turn_f64(x33, x44, x34, \
        cpgen_move_f64(x03, x04) cpgen_move_f64(x13, x14) cpgen_move_f64(x23, x24) cpgen_move_f64(q03, q04) \
        cpgen_move_f64(q13, q14) cpgen_move_f64(q23, q24) cpgen_move_f64(q33, q34) cpgen_move_f64(q43, q44))

typedef struct cpgen_eigenroot5_f64_t
{
    double at[50];
} cpgen_eigenroot5_f64_t;

static inline cpgen_eigenroot5_f64_t cpgen_eigenroot5_f64(
    double m00, double m01, double m02, double m03, double m04, double m11, double m12, double m13, double m14,
    double m22, double m23, double m24, double m33, double m34, double m44)
{
    cpgen_eigenroot5_f64_t root;
    double size = 0x1p-1022;
    cpgen_larger_f64(m00) cpgen_larger_f64(m01) cpgen_larger_f64(m02) cpgen_larger_f64(m03) cpgen_larger_f64(m04)
    cpgen_larger_f64(m11) cpgen_larger_f64(m12) cpgen_larger_f64(m13) cpgen_larger_f64(m14) cpgen_larger_f64(m22)
    cpgen_larger_f64(m23) cpgen_larger_f64(m24) cpgen_larger_f64(m33) cpgen_larger_f64(m34) cpgen_larger_f64(m44)
    {
        const double outer = cpgen_sqrt_f64(size);
        double x00 = m00 / size; double x01 = m01 / size; double x02 = m02 / size; double x03 = m03 / size;
        double x04 = m04 / size; double x11 = m11 / size; double x12 = m12 / size; double x13 = m13 / size;
        double x14 = m14 / size; double x22 = m22 / size; double x23 = m23 / size; double x24 = m24 / size;
        double x33 = m33 / size; double x34 = m34 / size; double x44 = m44 / size;
        double q00 = 1.0; double q01 = 0.0; double q02 = 0.0; double q03 = 0.0; double q04 = 0.0; double q10 = 0.0;
        double q11 = 1.0; double q12 = 0.0; double q13 = 0.0; double q14 = 0.0; double q20 = 0.0; double q21 = 0.0;
        double q22 = 1.0; double q23 = 0.0; double q24 = 0.0; double q30 = 0.0; double q31 = 0.0; double q32 = 0.0;
        double q33 = 1.0; double q34 = 0.0; double q40 = 0.0; double q41 = 0.0; double q42 = 0.0; double q43 = 0.0;
        double q44 = 1.0;
        cpgen_sweep5_f64
        cpgen_sweep5_f64
        {
            const double y0 = x00; const double y1 = x01 + x01; const double y2 = x02 + x02; const double y3 = x03 + x03; const double y4 = x04 + x04;
            cpgen_scales_f64((y0 * y0) + (y1 * y1) + (y2 * y2) + (y3 * y3) + (y4 * y4))
            cpgen_root_f64(0, 25, q00, (q00 * y0) + (q01 * y1) + (q02 * y2) + (q03 * y3) + (q04 * y4))
            cpgen_root_f64(5, 25, q10, (q10 * y0) + (q11 * y1) + (q12 * y2) + (q13 * y3) + (q14 * y4))
            cpgen_root_f64(10, 25, q20, (q20 * y0) + (q21 * y1) + (q22 * y2) + (q23 * y3) + (q24 * y4))
            cpgen_root_f64(15, 25, q30, (q30 * y0) + (q31 * y1) + (q32 * y2) + (q33 * y3) + (q34 * y4))
            cpgen_root_f64(20, 25, q40, (q40 * y0) + (q41 * y1) + (q42 * y2) + (q43 * y3) + (q44 * y4))
        }
        {
            const double y1 = x11; const double y2 = x12 + x12; const double y3 = x13 + x13; const double y4 = x14 + x14;
            cpgen_scales_f64((y1 * y1) + (y2 * y2) + (y3 * y3) + (y4 * y4))
            cpgen_root_f64(1, 25, q01, (q01 * y1) + (q02 * y2) + (q03 * y3) + (q04 * y4))
            cpgen_root_f64(6, 25, q11, (q11 * y1) + (q12 * y2) + (q13 * y3) + (q14 * y4))
            cpgen_root_f64(11, 25, q21, (q21 * y1) + (q22 * y2) + (q23 * y3) + (q24 * y4))
            cpgen_root_f64(16, 25, q31, (q31 * y1) + (q32 * y2) + (q33 * y3) + (q34 * y4))
            cpgen_root_f64(21, 25, q41, (q41 * y1) + (q42 * y2) + (q43 * y3) + (q44 * y4))
        }
        {
            const double y2 = x22; const double y3 = x23 + x23; const double y4 = x24 + x24;
            cpgen_scales_f64((y2 * y2) + (y3 * y3) + (y4 * y4))
            cpgen_root_f64(2, 25, q02, (q02 * y2) + (q03 * y3) + (q04 * y4))
            cpgen_root_f64(7, 25, q12, (q12 * y2) + (q13 * y3) + (q14 * y4))
            cpgen_root_f64(12, 25, q22, (q22 * y2) + (q23 * y3) + (q24 * y4))
            cpgen_root_f64(17, 25, q32, (q32 * y2) + (q33 * y3) + (q34 * y4))
            cpgen_root_f64(22, 25, q42, (q42 * y2) + (q43 * y3) + (q44 * y4))
        }
        {
            const double y3 = x33; const double y4 = x34 + x34;
            cpgen_scales_f64((y3 * y3) + (y4 * y4))
            cpgen_root_f64(3, 25, q03, (q03 * y3) + (q04 * y4))
            cpgen_root_f64(8, 25, q13, (q13 * y3) + (q14 * y4))
            cpgen_root_f64(13, 25, q23, (q23 * y3) + (q24 * y4))
            cpgen_root_f64(18, 25, q33, (q33 * y3) + (q34 * y4))
            cpgen_root_f64(23, 25, q43, (q43 * y3) + (q44 * y4))
        }
        {
            const double y4 = x44;
            cpgen_scales_f64((y4 * y4))
            cpgen_root_f64(4, 25, q04, (q04 * y4))
            cpgen_root_f64(9, 25, q14, (q14 * y4))
            cpgen_root_f64(14, 25, q24, (q24 * y4))
            cpgen_root_f64(19, 25, q34, (q34 * y4))
            cpgen_root_f64(24, 25, q44, (q44 * y4))
        }
    }
    return root;
}

/* ---- roots of small symmetric matrices, float ---- */

/* what one rotation of the plane (a, b) does to two numbers */
#define cpgen_move_f32(u, v) \
    { \
        const float moved = (c * u) - (s * v); \
        v = (s * u) + (c * v); \
        u = moved; \
    }

/* the rotation that makes the element ``off`` beside the diagonal elements a and b zero: by less than 45 degrees, and none
 * where it is zero already */
#define cpgen_turn_f32(a, b, off, ...) \
    { \
        const float gap = b - a; \
        const float twice = off + off; \
        const float below = (cpgen_fabs_f32(gap) + cpgen_sqrt_f32((gap * gap) + (twice * twice))) + 1.0e-30f; \
        const float t = ((gap < 0.0f) ? -twice : twice) / below; \
        const float c = 1.0f / cpgen_sqrt_f32(1.0f + (t * t)); \
        const float s = t * c; \
        a -= t * off; \
        b += t * off; \
        off = 0.0f; \
        __VA_ARGS__ \
    }

#define cpgen_larger_f32(m) size = (cpgen_fabs_f32(m) > size) ? cpgen_fabs_f32(m) : size;

/* numbers ``place`` of P and, ``further`` on, of Q */
#define cpgen_root_f32(place, further, q, sum) \
    { \
        const float first = (q) * left; \
        const float second = (sum) * right; \
        root.at[place] = first + second; \
        root.at[(place) + (further)] = first - second; \
    }

#define cpgen_scales_f32(squares) \
    const float norm = squares; \
    const float left = (0.5f * outer) * cpgen_sqrt_f32(cpgen_sqrt_f32(norm)); \
    const float right = (norm > 0.0f) ? ((0.25f * size) / left) : 0.0f;

typedef struct cpgen_eigenroot2_f32_t
{
    float at[8];
} cpgen_eigenroot2_f32_t;

static inline cpgen_eigenroot2_f32_t cpgen_eigenroot2_f32(
    float m00, float m01, float m11)
{
    cpgen_eigenroot2_f32_t root;
    float size = 0x1p-126f;
    cpgen_larger_f32(m00) cpgen_larger_f32(m01) cpgen_larger_f32(m11)
    {
        const float outer = cpgen_sqrt_f32(size);
        float x00 = m00 / size; float x01 = m01 / size; float x11 = m11 / size;
        float q00 = 1.0f; float q01 = 0.0f; float q10 = 0.0f; float q11 = 1.0f;
        cpgen_turn_f32(x00, x11, x01,
            cpgen_move_f32(q00, q01) cpgen_move_f32(q10, q11))
        {
            const float y0 = x00;
            cpgen_scales_f32((y0 * y0))
            cpgen_root_f32(0, 4, q00, (q00 * y0))
            cpgen_root_f32(2, 4, q10, (q10 * y0))
        }
        {
            const float y1 = x11;
            cpgen_scales_f32((y1 * y1))
            cpgen_root_f32(1, 4, q01, (q01 * y1))
            cpgen_root_f32(3, 4, q11, (q11 * y1))
        }
    }
    return root;
}

#define cpgen_sweep3_f32 \
    cpgen_turn_f32(x00, x11, x01, \
        cpgen_move_f32(x02, x12) cpgen_move_f32(q00, q01) cpgen_move_f32(q10, q11) cpgen_move_f32(q20, q21)) \
    cpgen_turn_f32(x00, x22, x02, \
        cpgen_move_f32(x01, x12) cpgen_move_f32(q00, q02) cpgen_move_f32(q10, q12) cpgen_move_f32(q20, q22)) \
    cpgen_turn_f32(x11, x22, x12, \
        cpgen_move_f32(x01, x02) cpgen_move_f32(q01, q02) cpgen_move_f32(q11, q12) cpgen_move_f32(q21, q22))

typedef struct cpgen_eigenroot3_f32_t
{
    float at[18];
} cpgen_eigenroot3_f32_t;

static inline cpgen_eigenroot3_f32_t cpgen_eigenroot3_f32(
    float m00, float m01, float m02, float m11, float m12, float m22)
{
    cpgen_eigenroot3_f32_t root;
    float size = 0x1p-126f;
    cpgen_larger_f32(m00) cpgen_larger_f32(m01) cpgen_larger_f32(m02) cpgen_larger_f32(m11) cpgen_larger_f32(m12)
    cpgen_larger_f32(m22)
    {
        const float outer = cpgen_sqrt_f32(size);
        float x00 = m00 / size; float x01 = m01 / size; float x02 = m02 / size; float x11 = m11 / size;
        float x12 = m12 / size; float x22 = m22 / size;
        float q00 = 1.0f; float q01 = 0.0f; float q02 = 0.0f; float q10 = 0.0f; float q11 = 1.0f; float q12 = 0.0f;
        float q20 = 0.0f; float q21 = 0.0f; float q22 = 1.0f;
        cpgen_sweep3_f32
        cpgen_sweep3_f32
        {
            const float y0 = x00; const float y1 = x01 + x01; const float y2 = x02 + x02;
            cpgen_scales_f32((y0 * y0) + (y1 * y1) + (y2 * y2))
            cpgen_root_f32(0, 9, q00, (q00 * y0) + (q01 * y1) + (q02 * y2))
            cpgen_root_f32(3, 9, q10, (q10 * y0) + (q11 * y1) + (q12 * y2))
            cpgen_root_f32(6, 9, q20, (q20 * y0) + (q21 * y1) + (q22 * y2))
        }
        {
            const float y1 = x11; const float y2 = x12 + x12;
            cpgen_scales_f32((y1 * y1) + (y2 * y2))
            cpgen_root_f32(1, 9, q01, (q01 * y1) + (q02 * y2))
            cpgen_root_f32(4, 9, q11, (q11 * y1) + (q12 * y2))
            cpgen_root_f32(7, 9, q21, (q21 * y1) + (q22 * y2))
        }
        {
            const float y2 = x22;
            cpgen_scales_f32((y2 * y2))
            cpgen_root_f32(2, 9, q02, (q02 * y2))
            cpgen_root_f32(5, 9, q12, (q12 * y2))
            cpgen_root_f32(8, 9, q22, (q22 * y2))
        }
    }
    return root;
}

#define cpgen_sweep4_f32 \
    cpgen_turn_f32(x00, x11, x01, \
        cpgen_move_f32(x02, x12) cpgen_move_f32(x03, x13) cpgen_move_f32(q00, q01) cpgen_move_f32(q10, q11) \
        cpgen_move_f32(q20, q21) cpgen_move_f32(q30, q31)) \
    cpgen_turn_f32(x00, x22, x02, \
        cpgen_move_f32(x01, x12) cpgen_move_f32(x03, x23) cpgen_move_f32(q00, q02) cpgen_move_f32(q10, q12) \
        cpgen_move_f32(q20, q22) cpgen_move_f32(q30, q32)) \
    cpgen_turn_f32(x00, x33, x03, \
        cpgen_move_f32(x01, x13) cpgen_move_f32(x02, x23) cpgen_move_f32(q00, q03) cpgen_move_f32(q10, q13) \
        cpgen_move_f32(q20, q23) cpgen_move_f32(q30, q33)) \
    cpgen_turn_f32(x11, x22, x12, \
        cpgen_move_f32(x01, x02) cpgen_move_f32(x13, x23) cpgen_move_f32(q01, q02) cpgen_move_f32(q11, q12) \
        cpgen_move_f32(q21, q22) cpgen_move_f32(q31, q32)) \
    cpgen_turn_f32(x11, x33, x13, \
        cpgen_move_f32(x01, x03) cpgen_move_f32(x12, x23) cpgen_move_f32(q01, q03) cpgen_move_f32(q11, q13) \
        cpgen_move_f32(q21, q23) cpgen_move_f32(q31, q33)) \
    cpgen_turn_f32(x22, x33, x23, \
        cpgen_move_f32(x02, x03) cpgen_move_f32(x12, x13) cpgen_move_f32(q02, q03) cpgen_move_f32(q12, q13) \
        cpgen_move_f32(q22, q23) cpgen_move_f32(q32, q33))

typedef struct cpgen_eigenroot4_f32_t
{
    float at[32];
} cpgen_eigenroot4_f32_t;

static inline cpgen_eigenroot4_f32_t cpgen_eigenroot4_f32(
    float m00, float m01, float m02, float m03, float m11, float m12, float m13, float m22, float m23, float m33)
{
    cpgen_eigenroot4_f32_t root;
    float size = 0x1p-126f;
    cpgen_larger_f32(m00) cpgen_larger_f32(m01) cpgen_larger_f32(m02) cpgen_larger_f32(m03) cpgen_larger_f32(m11)
    cpgen_larger_f32(m12) cpgen_larger_f32(m13) cpgen_larger_f32(m22) cpgen_larger_f32(m23) cpgen_larger_f32(m33)
    {
        const float outer = cpgen_sqrt_f32(size);
        float x00 = m00 / size; float x01 = m01 / size; float x02 = m02 / size; float x03 = m03 / size;
        float x11 = m11 / size; float x12 = m12 / size; float x13 = m13 / size; float x22 = m22 / size;
        float x23 = m23 / size; float x33 = m33 / size;
        float q00 = 1.0f; float q01 = 0.0f; float q02 = 0.0f; float q03 = 0.0f; float q10 = 0.0f; float q11 = 1.0f;
        float q12 = 0.0f; float q13 = 0.0f; float q20 = 0.0f; float q21 = 0.0f; float q22 = 1.0f; float q23 = 0.0f;
        float q30 = 0.0f; float q31 = 0.0f; float q32 = 0.0f; float q33 = 1.0f;
        cpgen_sweep4_f32
        cpgen_sweep4_f32
        {
            const float y0 = x00; const float y1 = x01 + x01; const float y2 = x02 + x02; const float y3 = x03 + x03;
            cpgen_scales_f32((y0 * y0) + (y1 * y1) + (y2 * y2) + (y3 * y3))
            cpgen_root_f32(0, 16, q00, (q00 * y0) + (q01 * y1) + (q02 * y2) + (q03 * y3))
            cpgen_root_f32(4, 16, q10, (q10 * y0) + (q11 * y1) + (q12 * y2) + (q13 * y3))
            cpgen_root_f32(8, 16, q20, (q20 * y0) + (q21 * y1) + (q22 * y2) + (q23 * y3))
            cpgen_root_f32(12, 16, q30, (q30 * y0) + (q31 * y1) + (q32 * y2) + (q33 * y3))
        }
        {
            const float y1 = x11; const float y2 = x12 + x12; const float y3 = x13 + x13;
            cpgen_scales_f32((y1 * y1) + (y2 * y2) + (y3 * y3))
            cpgen_root_f32(1, 16, q01, (q01 * y1) + (q02 * y2) + (q03 * y3))
            cpgen_root_f32(5, 16, q11, (q11 * y1) + (q12 * y2) + (q13 * y3))
            cpgen_root_f32(9, 16, q21, (q21 * y1) + (q22 * y2) + (q23 * y3))
            cpgen_root_f32(13, 16, q31, (q31 * y1) + (q32 * y2) + (q33 * y3))
        }
        {
            const float y2 = x22; const float y3 = x23 + x23;
            cpgen_scales_f32((y2 * y2) + (y3 * y3))
            cpgen_root_f32(2, 16, q02, (q02 * y2) + (q03 * y3))
            cpgen_root_f32(6, 16, q12, (q12 * y2) + (q13 * y3))
            cpgen_root_f32(10, 16, q22, (q22 * y2) + (q23 * y3))
            cpgen_root_f32(14, 16, q32, (q32 * y2) + (q33 * y3))
        }
        {
            const float y3 = x33;
            cpgen_scales_f32((y3 * y3))
            cpgen_root_f32(3, 16, q03, (q03 * y3))
            cpgen_root_f32(7, 16, q13, (q13 * y3))
            cpgen_root_f32(11, 16, q23, (q23 * y3))
            cpgen_root_f32(15, 16, q33, (q33 * y3))
        }
    }
    return root;
}

#define cpgen_sweep5_f32 \
    cpgen_turn_f32(x00, x11, x01, \
        cpgen_move_f32(x02, x12) cpgen_move_f32(x03, x13) cpgen_move_f32(x04, x14) cpgen_move_f32(q00, q01) \
        cpgen_move_f32(q10, q11) cpgen_move_f32(q20, q21) cpgen_move_f32(q30, q31) cpgen_move_f32(q40, q41)) \
    cpgen_turn_f32(x00, x22, x02, \
        cpgen_move_f32(x01, x12) cpgen_move_f32(x03, x23) cpgen_move_f32(x04, x24) cpgen_move_f32(q00, q02) \
        cpgen_move_f32(q10, q12) cpgen_move_f32(q20, q22) cpgen_move_f32(q30, q32) cpgen_move_f32(q40, q42)) \
    cpgen_turn_f32(x00, x33, x03, \
        cpgen_move_f32(x01, x13) cpgen_move_f32(x02, x23) cpgen_move_f32(x04, x34) cpgen_move_f32(q00, q03) \
        cpgen_move_f32(q10, q13) cpgen_move_f32(q20, q23) cpgen_move_f32(q30, q33) cpgen_move_f32(q40, q43)) \
    cpgen_turn_f32(x00, x44, x04, \
        cpgen_move_f32(x01, x14) cpgen_move_f32(x02, x24) cpgen_move_f32(x03, x34) cpgen_move_f32(q00, q04) \
        cpgen_move_f32(q10, q14) cpgen_move_f32(q20, q24) cpgen_move_f32(q30, q34) cpgen_move_f32(q40, q44)) \
    cpgen_turn_f32(x11, x22, x12, \
        cpgen_move_f32(x01, x02) cpgen_move_f32(x13, x23) cpgen_move_f32(x14, x24) cpgen_move_f32(q01, q02) \
        cpgen_move_f32(q11, q12) cpgen_move_f32(q21, q22) cpgen_move_f32(q31, q32) cpgen_move_f32(q41, q42)) \
    cpgen_turn_f32(x11, x33, x13, \
        cpgen_move_f32(x01, x03) cpgen_move_f32(x12, x23) cpgen_move_f32(x14, x34) cpgen_move_f32(q01, q03) \
        cpgen_move_f32(q11, q13) cpgen_move_f32(q21, q23) cpgen_move_f32(q31, q33) cpgen_move_f32(q41, q43)) \
    cpgen_turn_f32(x11, x44, x14, \
        cpgen_move_f32(x01, x04) cpgen_move_f32(x12, x24) cpgen_move_f32(x13, x34) cpgen_move_f32(q01, q04) \
        cpgen_move_f32(q11, q14) cpgen_move_f32(q21, q24) cpgen_move_f32(q31, q34) cpgen_move_f32(q41, q44)) \
    cpgen_turn_f32(x22, x33, x23, \
        cpgen_move_f32(x02, x03) cpgen_move_f32(x12, x13) cpgen_move_f32(x24, x34) cpgen_move_f32(q02, q03) \
        cpgen_move_f32(q12, q13) cpgen_move_f32(q22, q23) cpgen_move_f32(q32, q33) cpgen_move_f32(q42, q43)) \
    cpgen_turn_f32(x22, x44, x24, \
        cpgen_move_f32(x02, x04) cpgen_move_f32(x12, x14) cpgen_move_f32(x23, x34) cpgen_move_f32(q02, q04) \
        cpgen_move_f32(q12, q14) cpgen_move_f32(q22, q24) cpgen_move_f32(q32, q34) cpgen_move_f32(q42, q44)) \
    cpgen_turn_f32(x33, x44, x34, \
        cpgen_move_f32(x03, x04) cpgen_move_f32(x13, x14) cpgen_move_f32(x23, x24) cpgen_move_f32(q03, q04) \
        cpgen_move_f32(q13, q14) cpgen_move_f32(q23, q24) cpgen_move_f32(q33, q34) cpgen_move_f32(q43, q44))

typedef struct cpgen_eigenroot5_f32_t
{
    float at[50];
} cpgen_eigenroot5_f32_t;

static inline cpgen_eigenroot5_f32_t cpgen_eigenroot5_f32(
    float m00, float m01, float m02, float m03, float m04, float m11, float m12, float m13, float m14, float m22,
    float m23, float m24, float m33, float m34, float m44)
{
    cpgen_eigenroot5_f32_t root;
    float size = 0x1p-126f;
    cpgen_larger_f32(m00) cpgen_larger_f32(m01) cpgen_larger_f32(m02) cpgen_larger_f32(m03) cpgen_larger_f32(m04)
    cpgen_larger_f32(m11) cpgen_larger_f32(m12) cpgen_larger_f32(m13) cpgen_larger_f32(m14) cpgen_larger_f32(m22)
    cpgen_larger_f32(m23) cpgen_larger_f32(m24) cpgen_larger_f32(m33) cpgen_larger_f32(m34) cpgen_larger_f32(m44)
    {
        const float outer = cpgen_sqrt_f32(size);
        float x00 = m00 / size; float x01 = m01 / size; float x02 = m02 / size; float x03 = m03 / size;
        float x04 = m04 / size; float x11 = m11 / size; float x12 = m12 / size; float x13 = m13 / size;
        float x14 = m14 / size; float x22 = m22 / size; float x23 = m23 / size; float x24 = m24 / size;
        float x33 = m33 / size; float x34 = m34 / size; float x44 = m44 / size;
        float q00 = 1.0f; float q01 = 0.0f; float q02 = 0.0f; float q03 = 0.0f; float q04 = 0.0f; float q10 = 0.0f;
        float q11 = 1.0f; float q12 = 0.0f; float q13 = 0.0f; float q14 = 0.0f; float q20 = 0.0f; float q21 = 0.0f;
        float q22 = 1.0f; float q23 = 0.0f; float q24 = 0.0f; float q30 = 0.0f; float q31 = 0.0f; float q32 = 0.0f;
        float q33 = 1.0f; float q34 = 0.0f; float q40 = 0.0f; float q41 = 0.0f; float q42 = 0.0f; float q43 = 0.0f;
        float q44 = 1.0f;
        cpgen_sweep5_f32
        cpgen_sweep5_f32
        {
            const float y0 = x00; const float y1 = x01 + x01; const float y2 = x02 + x02; const float y3 = x03 + x03; const float y4 = x04 + x04;
            cpgen_scales_f32((y0 * y0) + (y1 * y1) + (y2 * y2) + (y3 * y3) + (y4 * y4))
            cpgen_root_f32(0, 25, q00, (q00 * y0) + (q01 * y1) + (q02 * y2) + (q03 * y3) + (q04 * y4))
            cpgen_root_f32(5, 25, q10, (q10 * y0) + (q11 * y1) + (q12 * y2) + (q13 * y3) + (q14 * y4))
            cpgen_root_f32(10, 25, q20, (q20 * y0) + (q21 * y1) + (q22 * y2) + (q23 * y3) + (q24 * y4))
            cpgen_root_f32(15, 25, q30, (q30 * y0) + (q31 * y1) + (q32 * y2) + (q33 * y3) + (q34 * y4))
            cpgen_root_f32(20, 25, q40, (q40 * y0) + (q41 * y1) + (q42 * y2) + (q43 * y3) + (q44 * y4))
        }
        {
            const float y1 = x11; const float y2 = x12 + x12; const float y3 = x13 + x13; const float y4 = x14 + x14;
            cpgen_scales_f32((y1 * y1) + (y2 * y2) + (y3 * y3) + (y4 * y4))
            cpgen_root_f32(1, 25, q01, (q01 * y1) + (q02 * y2) + (q03 * y3) + (q04 * y4))
            cpgen_root_f32(6, 25, q11, (q11 * y1) + (q12 * y2) + (q13 * y3) + (q14 * y4))
            cpgen_root_f32(11, 25, q21, (q21 * y1) + (q22 * y2) + (q23 * y3) + (q24 * y4))
            cpgen_root_f32(16, 25, q31, (q31 * y1) + (q32 * y2) + (q33 * y3) + (q34 * y4))
            cpgen_root_f32(21, 25, q41, (q41 * y1) + (q42 * y2) + (q43 * y3) + (q44 * y4))
        }
        {
            const float y2 = x22; const float y3 = x23 + x23; const float y4 = x24 + x24;
            cpgen_scales_f32((y2 * y2) + (y3 * y3) + (y4 * y4))
            cpgen_root_f32(2, 25, q02, (q02 * y2) + (q03 * y3) + (q04 * y4))
            cpgen_root_f32(7, 25, q12, (q12 * y2) + (q13 * y3) + (q14 * y4))
            cpgen_root_f32(12, 25, q22, (q22 * y2) + (q23 * y3) + (q24 * y4))
            cpgen_root_f32(17, 25, q32, (q32 * y2) + (q33 * y3) + (q34 * y4))
            cpgen_root_f32(22, 25, q42, (q42 * y2) + (q43 * y3) + (q44 * y4))
        }
        {
            const float y3 = x33; const float y4 = x34 + x34;
            cpgen_scales_f32((y3 * y3) + (y4 * y4))
            cpgen_root_f32(3, 25, q03, (q03 * y3) + (q04 * y4))
            cpgen_root_f32(8, 25, q13, (q13 * y3) + (q14 * y4))
            cpgen_root_f32(13, 25, q23, (q23 * y3) + (q24 * y4))
            cpgen_root_f32(18, 25, q33, (q33 * y3) + (q34 * y4))
            cpgen_root_f32(23, 25, q43, (q43 * y3) + (q44 * y4))
        }
        {
            const float y4 = x44;
            cpgen_scales_f32((y4 * y4))
            cpgen_root_f32(4, 25, q04, (q04 * y4))
            cpgen_root_f32(9, 25, q14, (q14 * y4))
            cpgen_root_f32(14, 25, q24, (q24 * y4))
            cpgen_root_f32(19, 25, q34, (q34 * y4))
            cpgen_root_f32(24, 25, q44, (q44 * y4))
        }
    }
    return root;
}

#endif /* CPGEN_SCALAR_H */
