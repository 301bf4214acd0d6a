/* Compiled in before generated CUDA text (-include): every launch is timed by events, and cpgen_times lists them. */
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>
#include <vector>

struct cpgen_timed {
    const char *kernel;
    cudaEvent_t begin, end;
};

inline std::vector<cpgen_timed> cpgen_launches;

inline void cpgen_begin(const char *kernel, cudaStream_t stream)
{
    cpgen_timed timed = {kernel, nullptr, nullptr};
    (void)cudaEventCreate(&timed.begin);
    (void)cudaEventCreate(&timed.end);
    (void)cudaEventRecord(timed.begin, stream);
    cpgen_launches.push_back(timed);
}

inline void cpgen_end(cudaStream_t stream)
{
    (void)cudaEventRecord(cpgen_launches.back().end, stream);
}

/* "kernel milliseconds" for each launch since the last call, a line each, as far as `bytes` reach; waits for them. */
extern "C" __attribute__((weak, used, visibility("default"))) int32_t cpgen_times(char *text, int64_t bytes)
{
    int64_t used = 0;
    (void)cudaDeviceSynchronize();
    for (const cpgen_timed &timed : cpgen_launches) {
        float milliseconds = 0.0F;
        (void)cudaEventElapsedTime(&milliseconds, timed.begin, timed.end);
        (void)cudaEventDestroy(timed.begin);
        (void)cudaEventDestroy(timed.end);
        if (used < bytes) {
            used += snprintf(text + used, (size_t)(bytes - used), "%s %.9g\n", timed.kernel, (double)milliseconds);
        }
    }
    cpgen_launches.clear();
    return used < bytes ? 0 : 1;
}

#ifdef CPGEN_LAUNCH /* the stand-in of the tests has one already */
#undef CPGEN_LAUNCH
#define CPGEN_LAUNCH(kernel, grid, block, shared, stream, args)                          \
    do {                                                                                 \
        cpgen_begin(#kernel, stream);                                                    \
        (cpgen_shim::prepare(kernel, #kernel, grid, block, shared, stream) args);        \
        cpgen_end(stream);                                                               \
    } while (0)
#else
#define CPGEN_LAUNCH(kernel, grid, block, shared, stream, args) \
    do {                                                        \
        cpgen_begin(#kernel, stream);                           \
        kernel<<<grid, block, shared, stream>>> args;           \
        cpgen_end(stream);                                      \
    } while (0)
#define CPGEN_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char shared_bytes[]; \
    type *const name = reinterpret_cast<type *>(shared_bytes)
#endif
