/* SPDX-License-Identifier: CC0-1.0
 * Device memory for callers that have no CUDA of their own.
 */
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

/* The number of devices, or minus the CUDA error. */
extern "C" int32_t cpgen_device_count(void)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    return error == cudaSuccess ? (int32_t)count : -(int32_t)error;
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
