/* A BLAS of plain loops for the tests, with integers of 32 bits. It counts its calls and those during which it was not
 * told to use one thread, and adds up backwards, as no loop of a program does. */
#include <stdatomic.h>

static atomic_int calls, crowded, threads = 5;

int standin_calls(void) { return calls; }
int standin_crowded(void) { return crowded; }
int openblas_get_num_threads(void) { return threads; }
void openblas_set_num_threads(int count) { threads = count; }

#define GEMM(name, real)                                                                                            \
    void name(int layout, int transpose_a, int transpose_b, int m, int n, int k, real alpha, const real *a, int lda, \
        const real *b, int ldb, real beta, real *c, int ldc)                                                         \
    {                                                                                                                \
        calls += 1;                                                                                                  \
        crowded += threads != 1;                                                                                     \
        if (layout != 101 || transpose_b != 111 || (transpose_a != 111 && transpose_a != 112) || alpha != 1 || beta) { \
            return;                                                                                                  \
        }                                                                                                            \
        for (long i = 0; i < m; ++i) {                                                                               \
            for (long q = 0; q < n; ++q) {                                                                           \
                real sum = 0;                                                                                        \
                for (long j = k - 1; j >= 0; --j) {                                                                  \
                    sum += (transpose_a == 112 ? a[j * lda + i] : a[i * lda + j]) * b[j * ldb + q];                  \
                }                                                                                                    \
                c[i * ldc + q] = sum;                                                                                \
            }                                                                                                        \
        }                                                                                                            \
    }

GEMM(cblas_dgemm, double)
GEMM(cblas_sgemm, float)
