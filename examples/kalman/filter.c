/* SPDX-License-Identifier: CC0-1.0
 * See filter.h. The second order adds to each mean half the trace of P times a Hessian, and to the variance of the
 * predicted measurement half the trace of (P H) squared (Athans, Wishner & Bertolini, "Suboptimal state estimation for
 * continuous-time nonlinear systems from discrete noisy measurements", IEEE Trans. Automatic Control 13 (1968) 504).
 */
#include "filter.h"

#include <stddef.h>

#include "distance.h"
#include "drag.h"

typedef struct rates {
    float x[STATES];
    float P[STATES][STATES];
} rates;

/* Value, gradient and Hessian of one generated function at x; the workspace lies here, on the stack. */
typedef struct local {
    float value;
    float gradient[STATES];
    float hessian[STATES][STATES];
} local;

static int32_t drag_at(const float *x, int32_t second_order, local *found)
{
    float work[(DRAG_HESSIAN_WORKSPACE_BYTES(1, 1) + DRAG_GRADIENT_WORKSPACE_BYTES(1, 1)) / sizeof(float)];
    drag_gradient_args first = {.x = x, .out_value = &found->value, .out_grad_x = found->gradient, .n_rows = 1, .threads = 1};
    drag_hessian_args second = {.x = x, .out_block_x_x = found->hessian[0], .n_rows = 1, .threads = 1};
    int32_t status = drag_gradient_run(&first, work, sizeof work);
    if (status == 0 && second_order != 0) {
        status = drag_hessian_run(&second, work, sizeof work);
    }
    return status;
}

static int32_t distance_at(const float *x, int32_t second_order, local *found)
{
    float work[(DISTANCE_HESSIAN_WORKSPACE_BYTES(1, 1) + DISTANCE_GRADIENT_WORKSPACE_BYTES(1, 1)) / sizeof(float)];
    distance_gradient_args first = {
        .x = x, .out_value = &found->value, .out_grad_x = found->gradient, .n_rows = 1, .threads = 1};
    distance_hessian_args second = {.x = x, .out_block_x_x = found->hessian[0], .n_rows = 1, .threads = 1};
    int32_t status = distance_gradient_run(&first, work, sizeof work);
    if (status == 0 && second_order != 0) {
        status = distance_hessian_run(&second, work, sizeof work);
    }
    return status;
}

/* trace(P H) and trace(P H P H). */
static void traces(float P[STATES][STATES], float H[STATES][STATES], float *once, float *twice)
{
    float product[STATES][STATES];
    *once = 0.0f;
    *twice = 0.0f;
    for (int32_t i = 0; i < STATES; ++i) {
        for (int32_t j = 0; j < STATES; ++j) {
            product[i][j] = 0.0f;
            for (int32_t k = 0; k < STATES; ++k) {
                product[i][j] += P[i][k] * H[k][j];
            }
        }
        *once += product[i][i];
    }
    for (int32_t i = 0; i < STATES; ++i) {
        for (int32_t j = 0; j < STATES; ++j) {
            *twice += product[i][j] * product[j][i];
        }
    }
}

/* The rates of change of estimate and covariance: x' = f + 1/2 trace(P H), P' = F P + P F'. */
static int32_t rates_at(const filter *f, rates *r)
{
    local speed;
    float F[STATES][STATES] = {{0.0f, -0.1f, 0.0f}, {0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f}};
    filter now = *f;
    const int32_t status = drag_at(now.x, now.second_order, &speed);
    if (status != 0) {
        return status;
    }
    r->x[0] = -0.1f * now.x[1];
    r->x[1] = speed.value;
    r->x[2] = 0.0f;
    if (now.second_order != 0) {
        float once, twice;
        traces(now.P, speed.hessian, &once, &twice);
        r->x[1] += 0.5f * once;
    }
    for (int32_t j = 0; j < STATES; ++j) {
        F[1][j] = speed.gradient[j];
    }
    for (int32_t i = 0; i < STATES; ++i) {
        for (int32_t j = 0; j < STATES; ++j) {
            r->P[i][j] = 0.0f;
            for (int32_t k = 0; k < STATES; ++k) {
                r->P[i][j] += F[i][k] * now.P[k][j] + now.P[i][k] * F[j][k];
            }
        }
    }
    return 0;
}

/* f + h r */
static filter moved(const filter *f, float h, const rates *r)
{
    filter result = *f;
    for (int32_t i = 0; i < STATES; ++i) {
        result.x[i] += h * r->x[i];
        for (int32_t j = 0; j < STATES; ++j) {
            result.P[i][j] += h * r->P[i][j];
        }
    }
    return result;
}

void filter_start(filter *f, int32_t second_order)
{
    const float x[STATES] = {3.0f, 2.0f, 0.03f};
    const float variance[STATES] = {1e-4f, 4e-2f, 100.0f};
    for (int32_t i = 0; i < STATES; ++i) {
        f->x[i] = x[i];
        for (int32_t j = 0; j < STATES; ++j) {
            f->P[i][j] = i == j ? variance[i] : 0.0f;
        }
    }
    f->second_order = second_order;
}

int32_t filter_predict(filter *f, float seconds, int32_t steps)
{
    const float h = seconds / (float)steps;
    for (int32_t step = 0; step < steps; ++step) {
        const float half[4] = {0.5f * h, 0.5f * h, h, 0.0f};
        const float weight[4] = {h / 6.0f, h / 3.0f, h / 3.0f, h / 6.0f};
        filter at = *f, next = *f;
        for (int32_t k = 0; k < 4; ++k) {
            rates r;
            const int32_t status = rates_at(&at, &r);
            if (status != 0) {
                return status;
            }
            next = moved(&next, weight[k], &r);
            at = moved(f, half[k], &r);
        }
        *f = next;
    }
    return 0;
}

int32_t filter_update(filter *f, float distance, float variance)
{
    local h;
    float gain[STATES], Ph[STATES];
    float expected, spread = variance;
    const int32_t status = distance_at(f->x, f->second_order, &h);
    if (status != 0) {
        return status;
    }
    expected = h.value;
    if (f->second_order != 0) {
        float once, twice;
        traces(f->P, h.hessian, &once, &twice);
        expected += 0.5f * once;
        spread += 0.5f * twice;
    }
    for (int32_t i = 0; i < STATES; ++i) {
        Ph[i] = 0.0f;
        for (int32_t k = 0; k < STATES; ++k) {
            Ph[i] += f->P[i][k] * h.gradient[k];
        }
    }
    for (int32_t i = 0; i < STATES; ++i) {
        spread += h.gradient[i] * Ph[i];
    }
    for (int32_t i = 0; i < STATES; ++i) {
        gain[i] = Ph[i] / spread;
        f->x[i] += gain[i] * (distance - expected);
    }
    for (int32_t i = 0; i < STATES; ++i) {
        for (int32_t j = 0; j <= i; ++j) {
            f->P[i][j] -= gain[i] * Ph[j];
            f->P[j][i] = f->P[i][j]; /* stays symmetric */
        }
    }
    return 0;
}
