/* SPDX-License-Identifier: CC0-1.0
 * The functions of cpgen_scalar.h that the C library has too, in terms of it.
 */

static inline double cpgen_exp_f64(double x)
{
    return exp(x);
}

static inline double cpgen_expm1_f64(double x)
{
    return expm1(x);
}

static inline double cpgen_log_f64(double x)
{
    return log(x);
}

static inline double cpgen_log1p_f64(double x)
{
    return log1p(x);
}

static inline double cpgen_tanh_f64(double x)
{
    return tanh(x);
}

static inline double cpgen_sin_f64(double x)
{
    return sin(x);
}

static inline double cpgen_cos_f64(double x)
{
    return cos(x);
}

static inline double cpgen_tan_f64(double x)
{
    return tan(x);
}

static inline double cpgen_asin_f64(double x)
{
    return asin(x);
}

static inline double cpgen_acos_f64(double x)
{
    return acos(x);
}

static inline double cpgen_atan_f64(double x)
{
    return atan(x);
}

static inline double cpgen_sinh_f64(double x)
{
    return sinh(x);
}

static inline double cpgen_cosh_f64(double x)
{
    return cosh(x);
}

static inline double cpgen_asinh_f64(double x)
{
    return asinh(x);
}

static inline double cpgen_acosh_f64(double x)
{
    return acosh(x);
}

static inline double cpgen_atanh_f64(double x)
{
    return atanh(x);
}

static inline double cpgen_erf_f64(double x)
{
    return erf(x);
}

static inline double cpgen_erfc_f64(double x)
{
    return erfc(x);
}

static inline double cpgen_sqrt_f64(double x)
{
    return sqrt(x);
}

static inline double cpgen_pow_f64(double x, double y)
{
    return pow(x, y);
}

static inline double cpgen_atan2_f64(double x, double y)
{
    return atan2(x, y);
}

static inline double cpgen_hypot_f64(double x, double y)
{
    return hypot(x, y);
}

static inline float cpgen_exp_f32(float x)
{
    return expf(x);
}

static inline float cpgen_expm1_f32(float x)
{
    return expm1f(x);
}

static inline float cpgen_log_f32(float x)
{
    return logf(x);
}

static inline float cpgen_log1p_f32(float x)
{
    return log1pf(x);
}

static inline float cpgen_tanh_f32(float x)
{
    return tanhf(x);
}

static inline float cpgen_sin_f32(float x)
{
    return sinf(x);
}

static inline float cpgen_cos_f32(float x)
{
    return cosf(x);
}

static inline float cpgen_tan_f32(float x)
{
    return tanf(x);
}

static inline float cpgen_asin_f32(float x)
{
    return asinf(x);
}

static inline float cpgen_acos_f32(float x)
{
    return acosf(x);
}

static inline float cpgen_atan_f32(float x)
{
    return atanf(x);
}

static inline float cpgen_sinh_f32(float x)
{
    return sinhf(x);
}

static inline float cpgen_cosh_f32(float x)
{
    return coshf(x);
}

static inline float cpgen_asinh_f32(float x)
{
    return asinhf(x);
}

static inline float cpgen_acosh_f32(float x)
{
    return acoshf(x);
}

static inline float cpgen_atanh_f32(float x)
{
    return atanhf(x);
}

static inline float cpgen_erf_f32(float x)
{
    return erff(x);
}

static inline float cpgen_erfc_f32(float x)
{
    return erfcf(x);
}

static inline float cpgen_sqrt_f32(float x)
{
    return sqrtf(x);
}

static inline float cpgen_pow_f32(float x, float y)
{
    return powf(x, y);
}

static inline float cpgen_atan2_f32(float x, float y)
{
    return atan2f(x, y);
}

static inline float cpgen_hypot_f32(float x, float y)
{
    return hypotf(x, y);
}
