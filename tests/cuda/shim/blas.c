/* A stand-in for cuBLAS with the functions that device.cu asks for.  It adds up backwards, so that its use can be seen. */
#include <stddef.h>

static int handles;

int cublasCreate_v2(void **handle)
{
    *handle = &handles;
    ++handles;
    return 0;
}

int cublasDestroy_v2(void *handle)
{
    return handle == &handles && --handles >= 0 ? 0 : 1;
}

int cublasSetStream_v2(void *handle, void *stream)
{
    (void)stream;
    return handle == &handles ? 0 : 1;
}

#define GEMM(name, real)                                                                                               \
    int name(void *handle, int op_a, int op_b, int m, int n, int k, const real *alpha, const real *a, int a_pitch,       \
             const real *b, int b_pitch, const real *beta, real *c, int c_pitch)                                        \
    {                                                                                                                  \
        if (handle != &handles || a_pitch < (op_a ? k : m) || b_pitch < (op_b ? n : k) || c_pitch < m) return 7;         \
        for (int j = 0; j < n; ++j) {                                                                                  \
            for (int i = 0; i < m; ++i) {                                                                              \
                real sum = 0;                                                                                          \
                for (int l = k - 1; l >= 0; --l) {                                                                      \
                    sum += a[op_a ? (size_t)i * a_pitch + l : (size_t)l * a_pitch + i] *                                \
                           b[op_b ? (size_t)l * b_pitch + j : (size_t)j * b_pitch + l];                                 \
                }                                                                                                      \
                c[(size_t)j * c_pitch + i] = *alpha * sum + (*beta != 0 ? *beta * c[(size_t)j * c_pitch + i] : 0);       \
            }                                                                                                          \
        }                                                                                                              \
        return 0;                                                                                                      \
    }

GEMM(cublasSgemm_v2, float)
GEMM(cublasDgemm_v2, double)
