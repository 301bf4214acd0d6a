/* Small kernels, written by hand, and faults planted in them: what the shim computes and what it has to notice.
 *
 *     kernels CASE [FAULT]     runs one case and prints its results as hexadecimal reals, one a line
 *
 * Without a fault every result is right in every order of threads; the text is CUDA that nvcc accepts. */
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef CPGEN_CUDA_SHIM
#define CPGEN_LAUNCH(kernel, grid, block, shared, stream, args) kernel<<<grid, block, shared, stream>>> args
#define CPGEN_SHARED(type, name)                                 \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    type *const name = reinterpret_cast<type *>(name##_bytes)
#endif

#define FAULTS(F)                                                                                    \
    F(NO_FAULT)                                                                                      \
    F(MISSING_BARRIER)      /* between writing shared memory and reading what other threads wrote */ \
    F(MISSING_LAST_BARRIER) /* between reading a tile and overwriting it */                          \
    F(MISSING_WARP_BARRIER) /* likewise, within a warp */                                            \
    F(VOTE_AS_BARRIER)      /* a vote brings lanes together, but orders no memory */                 \
    F(GLOBAL_BOUND)         /* one element past an array of the device: written ... */               \
    F(GLOBAL_READ_BOUND)    /* ... and read */                                                       \
    F(SHARED_BOUND)         /* one past the dynamic shared memory */                                 \
    F(STATIC_BOUND)         /* one past a __shared__ array */                                        \
    F(DIVERGENT_ENDED)      /* part of the block returns before a barrier */                         \
    F(DIVERGENT_BRANCHES)   /* the two sides of a branch have a barrier each */                      \
    F(MASK_WITHOUT_CALLER)                                                                           \
    F(MASKS_DIFFER)                                                                                  \
    F(OPERATIONS_DIFFER)    /* lanes of one warp are at a shuffle and at a vote */                   \
    F(WARP_DEADLOCK)        /* a warp operation waits for lanes that wait at a barrier */            \
    F(SOURCE_OUTSIDE)       /* a lane reads one that is not in the mask */                           \
    F(UNINITIALISED)        /* shared memory read before anything is written */                      \
    F(FRESH_MEMORY)         /* device memory, likewise */

#define FAULT_NUMBER(name) name,
#define FAULT_NAME(name) #name,
enum Fault { FAULTS(FAULT_NUMBER) FAULT_COUNT };
static const char *const fault_names[] = {FAULTS(FAULT_NAME)};

static const unsigned EVERY_LANE = 0xFFFFFFFFu;

/* y[i] = x[i]^2 + 1 */
extern "C" __global__ void elementwise(const double *__restrict__ x, double *__restrict__ y, int n, int fault) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int last = fault == GLOBAL_BOUND ? n + 1 : n;
    if (i < last) y[i] = x[fault == GLOBAL_READ_BOUND ? i + 1 : i] * x[i] + 1.0;
}

__device__ static double warp_sum(double v) {
    for (unsigned d = 16; d > 0; d >>= 1) v += __shfl_down_sync(EVERY_LANE, v, d);
    return v;
}

/* part[block] = sum of the block's stretch of x */
extern "C" __global__ void block_sum(const double *__restrict__ x, double *__restrict__ part, int n, int fault) {
    __shared__ double warps[8];
    const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
    double v = 0.0;
    const int first = static_cast<int>(blockIdx.x * blockDim.x) + t, step = static_cast<int>(gridDim.x * blockDim.x);
    for (int i = first; i < n; i += step) v += x[i];
    v = warp_sum(v);
    if (lane == 0) warps[fault == STATIC_BOUND ? warp + 1 : warp] = v;
    if (fault != MISSING_BARRIER) __syncthreads();
    if (warp == 0) {
        v = warp_sum(lane < static_cast<int>(blockDim.x) / 32 ? warps[lane] : 0.0);
        if (lane == 0) part[blockIdx.x] = v;
    }
}

/* The same sum by halving in dynamic shared memory. */
extern "C" __global__ void tree_sum(const double *__restrict__ x, double *__restrict__ part, int n, int fault) {
    CPGEN_SHARED(double, s);
    const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x * blockDim.x) + t;
    if (fault != UNINITIALISED || t != 77) s[fault == SHARED_BOUND ? t + 1 : t] = i < n ? x[i] : 0.0;
    for (int d = static_cast<int>(blockDim.x) / 2; d > 0; d /= 2) {
        if (fault != MISSING_BARRIER) __syncthreads();
        if (t < d) s[t] += s[t + d];
    }
    if (t == 0) part[blockIdx.x] = s[0];
}

/* c[i, j] = sum over k of a[i, k] b[k, j], k in order, by tiles of 16 x 16 */
extern "C" __global__ void matrix_product(const double *__restrict__ a, const double *__restrict__ b,
                                          double *__restrict__ c, int rows, int inner, int columns, int fault) {
    __shared__ double at[16][16], bt[16][16];
    const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
    const int j = static_cast<int>(blockIdx.x) * 16 + tx, i = static_cast<int>(blockIdx.y) * 16 + ty;
    double sum = 0.0;
    for (int first = 0; first < inner; first += 16) {
        at[ty][tx] = i < rows && first + tx < inner ? a[i * inner + first + tx] : 0.0;
        bt[ty][tx] = j < columns && first + ty < inner ? b[(first + ty) * columns + j] : 0.0;
        if (fault != MISSING_BARRIER) __syncthreads();
        for (int k = 0; k < 16; k++) sum += at[ty][k] * bt[k][tx];
        if (fault != MISSING_LAST_BARRIER) __syncthreads();
    }
    if (i < rows && j < columns) c[i * columns + j] = sum;
}

/* y[t]: sums, votes and exchanges within warps, each with its own width or mask */
extern "C" __global__ void warps(double *__restrict__ y, int n, int fault) {
    const int t = static_cast<int>(threadIdx.x), lane = t % 32;
    double v = lane + 1.0;
    for (int d = 1; d < 32; d *= 2) v += __shfl_xor_sync(EVERY_LANE, v, d);
    v += 1000.0 * __shfl_sync(EVERY_LANE, lane, lane + 9, 8);
    v += 1e5 * __shfl_up_sync(EVERY_LANE, static_cast<float>(lane), 3, 16);
    v += 1e7 * __shfl_down_sync(EVERY_LANE, lane, 2, 4);
    const unsigned odd = __ballot_sync(EVERY_LANE, lane % 2);
    if (odd != 0xAAAAAAAAu || !__any_sync(EVERY_LANE, lane == 7) || __all_sync(EVERY_LANE, lane == 7)) v = -1.0;
    /* The halves of a warp, each by itself. */
    const unsigned half = lane < 16 ? 0x0000FFFFu : 0xFFFF0000u;
    if (lane < 16)
        v += 1e9 * __shfl_sync(half, lane, 5);
    else
        v += 1e9 * __shfl_sync(half, lane, 21);
    if (fault == MASK_WITHOUT_CALLER) v += __shfl_sync(0x0000FFFFu, v, 0);
    if (fault == MASKS_DIFFER) v += __shfl_sync(lane < 16 ? EVERY_LANE : EVERY_LANE - 1u, v, 3);
    if (fault == OPERATIONS_DIFFER) {
        if (lane < 4)
            v += __shfl_sync(EVERY_LANE, v, 3);
        else
            v += __ballot_sync(EVERY_LANE, 1);
    }
    if (fault == SOURCE_OUTSIDE) v += __shfl_sync(half, v, 31 - lane);
    if (fault == WARP_DEADLOCK) {
        if (lane < 4)
            __syncwarp();
        else
            __syncthreads();
    }
    __syncwarp();
    if (t < n) y[t] = v;
}

/* y[i] = x[n - 1 - i] through shared memory, for one block */
extern "C" __global__ void reverse(const double *__restrict__ x, double *__restrict__ y, int n, int fault) {
    CPGEN_SHARED(double, s);
    const int t = static_cast<int>(threadIdx.x);
    if (fault == DIVERGENT_ENDED && t >= n) return;
    if (t < n) s[t] = x[t];
    if (fault == DIVERGENT_BRANCHES) {
        if (t % 2)
            __syncthreads();
        else
            __syncthreads();
    } else if (fault != MISSING_BARRIER) {
        __syncthreads();
    }
    if (t < n) y[t] = s[n - 1 - t];
}

/* y[t] = t of the neighbour within the warp, through shared memory and barriers of the warp */
extern "C" __global__ void neighbours(double *__restrict__ y, int fault) {
    __shared__ double s[64];
    const int t = static_cast<int>(threadIdx.x), next = t / 32 * 32 + (t + 1) % 32;
    for (int round = 0; round < 3; round++) {
        s[t] = round + t;
        if (fault == VOTE_AS_BARRIER)
            y[t] = __ballot_sync(EVERY_LANE, 1);
        else if (fault != MISSING_WARP_BARRIER)
            __syncwarp();
        y[t] = s[next];
        __syncwarp();
    }
}

/* Two threads write one element without a barrier, but the same value: right in every order, and yet a race. */
extern "C" __global__ void silent_race(double *__restrict__ y, int fault) {
    CPGEN_SHARED(double, s);
    const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
    s[t] = 1.0;
    if (fault != MISSING_BARRIER) __syncthreads();
    s[(t + 1) % n] = 1.0;
    __syncthreads();
    y[t] = s[t];
}

/* y[turn] = thread: the order in which the threads of the grid ran */
extern "C" __global__ void turns(double *__restrict__ y, int *__restrict__ turn) {
    const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    y[atomicAdd(turn, 1)] = t;
}

static double value(int i) { return (i * 37 % 101 - 50) / 8.0; }

static double *device(int n, bool filled = true) {
    double *given = static_cast<double *>(malloc(sizeof(double) * static_cast<size_t>(n))), *there = nullptr;
    for (int i = 0; i < n; i++) given[i] = value(i);
    if (cudaMalloc(&there, sizeof(double) * static_cast<size_t>(n)) != cudaSuccess) exit(3);
    if (filled) cudaMemcpy(there, given, sizeof(double) * static_cast<size_t>(n), cudaMemcpyHostToDevice);
    free(given);
    return there;
}

static void print(const double *there, int n) {
    double *back = static_cast<double *>(malloc(sizeof(double) * static_cast<size_t>(n)));
    cudaMemcpy(back, there, sizeof(double) * static_cast<size_t>(n), cudaMemcpyDeviceToHost);
    for (int i = 0; i < n; i++) printf("%a\n", back[i]);
    free(back);
}

static int failed(const char *what) {
    const cudaError_t error = cudaGetLastError();
    printf("%s: %s\n", what, cudaGetErrorString(error));
    return error != cudaSuccess;
}

/* Launches that a device refuses, and what the error functions say. */
static void refusals() {
    double *y = device(64, false);
    CPGEN_LAUNCH(elementwise, 1, 1025, 0, nullptr, (y, y, 0, 0));
    if (cudaPeekAtLastError() != cudaErrorInvalidConfiguration) printf("not seen\n");
    failed("1025 threads");
    failed("afterwards");
    CPGEN_LAUNCH(elementwise, 0, 32, 0, nullptr, (y, y, 0, 0));
    failed("no blocks");
    CPGEN_LAUNCH(elementwise, 1, 0, 0, nullptr, (y, y, 0, 0));
    failed("no threads");
    CPGEN_LAUNCH(elementwise, dim3(1, 65536), 32, 0, nullptr, (y, y, 0, 0));
    failed("65536 blocks in y");
    CPGEN_LAUNCH(elementwise, 1, dim3(1, 1, 65), 0, nullptr, (y, y, 0, 0));
    failed("65 threads in z");
    CPGEN_LAUNCH(reverse, 1, 64, 50000, nullptr, (y, y, 0, 0));
    failed("50000 bytes");
    cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000);
    CPGEN_LAUNCH(reverse, 1, 64, 50000, nullptr, (y, y, 0, 0));
    failed("50000 bytes with the attribute");
    cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 300000);
    failed("300000 bytes");
    cudaFree(y);
}

#ifdef CPGEN_CUDA_SHIM
/* Mappings of this process. */
static long mappings() {
    long lines = 0;
    if (FILE *const maps = fopen("/proc/self/maps", "r")) {
        for (int c; (c = fgetc(maps)) != EOF;) lines += c == '\n';
        fclose(maps);
    }
    return lines;
}
#endif

int main(int count, char **words) {
    const char *const name = count > 1 ? words[1] : "";
    int fault = NO_FAULT;
    while (count > 2 && fault < FAULT_COUNT && strcmp(words[2], fault_names[fault]) != 0) fault++;
    if (fault == FAULT_COUNT) return 1;
    cudaStream_t stream = nullptr;
    if (strcmp(name, "elementwise") == 0) {
        const int n = 1000;
        double *x = device(n), *y = device(n, false);
        CPGEN_LAUNCH(elementwise, (n + 127) / 128, 128, 0, stream, (x, y, n, fault));
        if (fault == FRESH_MEMORY) {
            double *fresh = device(32, false);
            CPGEN_LAUNCH(elementwise, 1, 32, 0, stream, (fresh, y, 32, fault));
            cudaFree(fresh);
        }
        if (failed("launch")) return 2;
        print(y, n);
        cudaFree(x), cudaFree(y);
    } else if (strcmp(name, "block_sum") == 0 || strcmp(name, "tree_sum") == 0) {
        const int n = 1000, blocks = 4;
        double *x = device(n), *part = device(blocks, false);
        if (name[0] == 'b')
            CPGEN_LAUNCH(block_sum, blocks, 256, 0, stream, (x, part, n, fault));
        else
            CPGEN_LAUNCH(tree_sum, blocks, 256, 256 * sizeof(double), stream, (x, part, n, fault));
        if (failed("launch")) return 2;
        print(part, blocks);
        cudaFree(x), cudaFree(part);
    } else if (strcmp(name, "matrix_product") == 0) {
        const int rows = 37, inner = 50, columns = 21;
        double *a = device(rows * inner), *b = device(inner * columns), *c = device(rows * columns, false);
        const dim3 grid((columns + 15) / 16, (rows + 15) / 16), block(16, 16);
        CPGEN_LAUNCH(matrix_product, grid, block, 0, stream, (a, b, c, rows, inner, columns, fault));
        if (failed("launch")) return 2;
        print(c, rows * columns);
        cudaFree(a), cudaFree(b), cudaFree(c);
    } else if (strcmp(name, "warps") == 0) {
        double *y = device(96, false);
        CPGEN_LAUNCH(warps, 1, 96, 0, stream, (y, 96, fault));
        if (failed("launch")) return 2;
        print(y, 96);
        cudaFree(y);
    } else if (strcmp(name, "reverse") == 0) {
        const int n = 100;
        double *x = device(n), *y = device(n, false);
        CPGEN_LAUNCH(reverse, 1, 128, n * sizeof(double), stream, (x, y, n, fault));
        if (failed("launch")) return 2;
        print(y, n);
        cudaFree(x), cudaFree(y);
    } else if (strcmp(name, "neighbours") == 0 || strcmp(name, "silent_race") == 0) {
        double *y = device(64, false);
        if (name[0] == 'n')
            CPGEN_LAUNCH(neighbours, 1, 64, 0, stream, (y, fault));
        else
            CPGEN_LAUNCH(silent_race, 1, 64, 64 * sizeof(double), stream, (y, fault));
        if (failed("launch")) return 2;
        print(y, 64);
        cudaFree(y);
    } else if (strcmp(name, "many") == 0) {
        double *x = device(8192), *y = device(8192, false);
        for (int i = 0; i < 50; i++) CPGEN_LAUNCH(elementwise, 64, 128, 0, stream, (x, y, 8192, fault));
        for (int i = 0; i < 5; i++) CPGEN_LAUNCH(tree_sum, 8, 1024, 1024 * sizeof(double), stream, (y, x, 8192, fault));
        if (failed("launch")) return 2;
        print(x, 8);
        cudaFree(x), cudaFree(y);
    } else if (strcmp(name, "turns") == 0) {
        double *y = device(120, false);
        int *turn = nullptr;
        if (cudaMalloc(&turn, sizeof(int)) != cudaSuccess) return 3;
        cudaMemset(turn, 0, sizeof(int));
        CPGEN_LAUNCH(turns, 3, 40, 0, stream, (y, turn));
        if (failed("launch")) return 2;
        print(y, 120);
        cudaFree(y), cudaFree(turn);
#ifdef CPGEN_CUDA_SHIM
    } else if (strcmp(name, "counters") == 0) {
        double *y = device(64, false);
        const cpgen_shim::Counters before = cpgen_shim::counters;
        CPGEN_LAUNCH(neighbours, 3, 64, 0, stream, (y, fault));
        cudaStreamSynchronize(stream);
        const cpgen_shim::Counters &after = cpgen_shim::counters;
        printf("launches %ld\n", after.launches - before.launches);
        printf("blocks %ld\n", after.blocks - before.blocks);
        printf("allocations %ld\n", after.allocations - before.allocations);
        printf("synchronisations %ld\n", after.synchronisations - before.synchronisations);
        cudaFree(y);
    } else if (strcmp(name, "mappings") == 0) {
        double *x = device(1024), *y = device(1, false);
        const long before = mappings();
        CPGEN_LAUNCH(tree_sum, 1, 1024, 1024 * sizeof(double), stream, (x, y, 1024, fault));
        if (failed("launch")) return 2;
        printf("before %ld\nafter %ld\n", before, mappings());
        cudaFree(x), cudaFree(y);
#endif
    } else if (strcmp(name, "refusals") == 0) {
        refusals();
    } else {
        fprintf(stderr, "no case %s\n", name);
        return 1;
    }
    return 0;
}
