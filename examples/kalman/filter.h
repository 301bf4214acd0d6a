/* SPDX-License-Identifier: CC0-1.0
 * An extended Kalman filter of first or second order on three states, in single precision.
 */
#ifndef FILTER_H
#define FILTER_H

#include <stdint.h>

enum { STATES = 3 };

typedef struct filter {
    float x[STATES];         /* estimate */
    float P[STATES][STATES]; /* its covariance */
    int32_t second_order;    /* 0: derivatives of first order only */
} filter;

void filter_start(filter *f, int32_t second_order);

/* Carry estimate and covariance on by `seconds`, in `steps` steps of the fourth-order Runge-Kutta method. 0 is success. */
int32_t filter_predict(filter *f, float seconds, int32_t steps);

/* Take in a measured distance whose error has the given variance. 0 is success. */
int32_t filter_update(filter *f, float distance, float variance);

#endif
