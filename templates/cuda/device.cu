/* SPDX-License-Identifier: CC0-1.0
 * Device memory, graphs and a library for products, for callers that have no CUDA of their own.
 */
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The number of devices, or minus the CUDA error. */
extern "C" int32_t cpgen_device_count(void)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    return error == cudaSuccess ? (int32_t)count : -(int32_t)error;
}

/* The name of the device in use, and: multiprocessors, compute capability (2), clock rates of processor and memory in kHz,
 * bits of the memory bus; 0 for what the driver does not say. Returns a CUDA error, 0 if all is well. */
extern "C" int32_t cpgen_device_about(char *name, int32_t name_bytes, int64_t *numbers)
{
    static const cudaDeviceAttr asked[] = {cudaDevAttrMultiProcessorCount, cudaDevAttrComputeCapabilityMajor,
        cudaDevAttrComputeCapabilityMinor, cudaDevAttrClockRate, cudaDevAttrMemoryClockRate,
        cudaDevAttrGlobalMemoryBusWidth};
    cudaDeviceProp about;
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaGetDeviceProperties(&about, device);
    }
    if (error != cudaSuccess) {
        return (int32_t)error;
    }
    (void)snprintf(name, (size_t)name_bytes, "%s", about.name);
    for (int k = 0; k < 6; ++k) {
        int value = 0;
        if (cudaDeviceGetAttribute(&value, asked[k], device) != cudaSuccess) {
            (void)cudaGetLastError();
            value = 0;
        }
        numbers[k] = value;
    }
    return 0;
}

extern "C" const char *cpgen_device_error(int32_t error)
{
    return cudaGetErrorString((cudaError_t)error);
}

/* NULL if there is not that much. */
extern "C" void *cpgen_device_alloc(size_t bytes)
{
    void *place = NULL;
    return cudaMalloc(&place, bytes) == cudaSuccess ? place : NULL;
}

extern "C" void cpgen_device_free(void *place)
{
    (void)cudaFree(place);
}

/* These return a CUDA error, 0 if all is well. */
extern "C" int32_t cpgen_device_put(void *place, const void *from, size_t bytes)
{
    return (int32_t)cudaMemcpy(place, from, bytes, cudaMemcpyHostToDevice);
}

extern "C" int32_t cpgen_device_get(void *to, const void *place, size_t bytes)
{
    return (int32_t)cudaMemcpy(to, place, bytes, cudaMemcpyDeviceToHost);
}

extern "C" int32_t cpgen_device_wait(uintptr_t stream)
{
    return (int32_t)cudaStreamSynchronize((cudaStream_t)stream);
}

extern "C" int32_t cpgen_device_wait_all(void)
{
    return (int32_t)cudaDeviceSynchronize();
}

/* A stream of its own; the functions below return a CUDA error, 0 if all is well. */
extern "C" int32_t cpgen_device_stream(uintptr_t *stream)
{
    cudaStream_t made = NULL;
    const cudaError_t error = cudaStreamCreate(&made);
    *stream = (uintptr_t)made;
    return (int32_t)error;
}

extern "C" int32_t cpgen_device_stream_end(uintptr_t stream)
{
    return (int32_t)cudaStreamDestroy((cudaStream_t)stream);
}

/* From here to the end of the capture what is enqueued on the stream is recorded and not done. */
extern "C" int32_t cpgen_device_capture(uintptr_t stream)
{
    return (int32_t)cudaStreamBeginCapture((cudaStream_t)stream, cudaStreamCaptureModeThreadLocal);
}

extern "C" int32_t cpgen_device_capture_end(uintptr_t stream, uintptr_t *graph)
{
    cudaGraph_t recorded = NULL;
    cudaGraphExec_t made = NULL;
    cudaError_t error = cudaStreamEndCapture((cudaStream_t)stream, &recorded);
    if (error == cudaSuccess) {
        error = cudaGraphInstantiateWithFlags(&made, recorded, 0);
        (void)cudaGraphDestroy(recorded);
    } else {
        (void)cudaGetLastError();
    }
    *graph = (uintptr_t)made;
    return (int32_t)error;
}

extern "C" int32_t cpgen_device_replay(uintptr_t graph, uintptr_t stream)
{
    return (int32_t)cudaGraphLaunch((cudaGraphExec_t)graph, (cudaStream_t)stream);
}

extern "C" int32_t cpgen_device_graph_end(uintptr_t graph)
{
    return (int32_t)cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

/* cuBLAS, opened when asked for: what is built with this file does not depend on it. */
typedef struct cpgen_blas {
    void *library, *handle;
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, cudaStream_t stream);
    int (*sgemm)(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha, const float *a, int a_pitch,
        const float *b, int b_pitch, const float *beta, float *c, int c_pitch);
    int (*dgemm)(void *handle, int op_a, int op_b, int m, int n, int k, const double *alpha, const double *a, int a_pitch,
        const double *b, int b_pitch, const double *beta, double *c, int c_pitch);
} cpgen_blas;

extern "C" void cpgen_blas_close(void *opened)
{
    cpgen_blas *const blas = (cpgen_blas *)opened;
    if (blas != NULL) {
        if (blas->handle != NULL) {
            (void)blas->destroy(blas->handle);
        }
        (void)dlclose(blas->library);
        delete blas;
    }
}

/* NULL if the library cannot be opened, lacks a function, or cannot start. */
extern "C" void *cpgen_blas_open(const char *library)
{
    void *const found = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (found == NULL) {
        return NULL;
    }
    cpgen_blas *const blas = new cpgen_blas();
    blas->library = found;
    int (*const create)(void **) = (int (*)(void **))dlsym(found, "cublasCreate_v2");
    *(void **)&blas->destroy = dlsym(found, "cublasDestroy_v2");
    *(void **)&blas->set_stream = dlsym(found, "cublasSetStream_v2");
    *(void **)&blas->sgemm = dlsym(found, "cublasSgemm_v2");
    *(void **)&blas->dgemm = dlsym(found, "cublasDgemm_v2");
    if (create == NULL || blas->destroy == NULL || blas->set_stream == NULL || blas->sgemm == NULL || blas->dgemm == NULL
        || create(&blas->handle) != 0) {
        blas->handle = NULL;
        cpgen_blas_close(blas);
        return NULL;
    }
    return blas;
}

/* out[i, q] = sum over j of weights[i, j]*values[j, q], plus what is there if `accumulate`: see the type of `gemm`. cuBLAS
 * counts columns first: to it the arrays are transposed, and so is the product. */
template <class Real>
static int32_t cpgen_blas_product(
    cpgen_blas *blas, int (*gemm)(void *, int, int, int, int, int, const Real *, const Real *, int, const Real *, int,
                          const Real *, Real *, int),
    cudaStream_t stream, int64_t outs, int64_t wide, int64_t depth, const Real *weights, int64_t weights_pitch,
    int32_t transposed, const Real *values, int64_t values_pitch, Real *out, int64_t out_pitch, int32_t accumulate)
{
    const Real one = 1, start = accumulate ? (Real)1 : (Real)0;
    for (const int64_t size : {outs, wide, depth, weights_pitch, values_pitch, out_pitch}) {
        if (size > INT32_MAX) {
            return -1;
        }
    }
    const int error = blas->set_stream(blas->handle, stream);
    if (error != 0) {
        return error;
    }
    return gemm(blas->handle, 0, transposed != 0, (int)wide, (int)outs, (int)depth, &one, values, (int)values_pitch,
        weights, (int)weights_pitch, &start, out, (int)out_pitch);
}

extern "C" int32_t cpgen_blas_float(void *opened, cudaStream_t stream, int64_t outs, int64_t wide, int64_t depth,
    const float *weights, int64_t weights_pitch, int32_t transposed, const float *values, int64_t values_pitch,
    float *out, int64_t out_pitch, int32_t accumulate)
{
    cpgen_blas *const blas = (cpgen_blas *)opened;
    return cpgen_blas_product(blas, blas->sgemm, stream, outs, wide, depth, weights, weights_pitch, transposed, values,
        values_pitch, out, out_pitch, accumulate);
}

extern "C" int32_t cpgen_blas_double(void *opened, cudaStream_t stream, int64_t outs, int64_t wide, int64_t depth,
    const double *weights, int64_t weights_pitch, int32_t transposed, const double *values, int64_t values_pitch,
    double *out, int64_t out_pitch, int32_t accumulate)
{
    cpgen_blas *const blas = (cpgen_blas *)opened;
    return cpgen_blas_product(blas, blas->dgemm, stream, outs, wide, depth, weights, weights_pitch, transposed, values,
        values_pitch, out, out_pitch, accumulate);
}
