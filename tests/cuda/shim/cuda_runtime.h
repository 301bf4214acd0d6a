/* A stand-in for <cuda_runtime.h> that runs the text of a .cu file on the host, to test kernels where there is no GPU.
 *
 *     g++ -std=c++17 -x c++ -DCPGEN_CUDA_SHIM -I tests/cuda/shim program.cu
 *     (with -fsanitize=address,undefined -fsanitize-sections=cpgen_shared for bounds, or -fsanitize=thread for races)
 *
 * Every CUDA thread is a fibre: it runs until it ends, or until it has to wait at a barrier or a warp operation; a thread
 * that never waits costs a function call.  Blocks run one after another.  The order of threads and blocks comes from
 * the environment: CPGEN_SHIM_ORDER = fwd (the default), rev, or a number, the seed of a shuffle drawn anew each time
 * round.  A kernel whose result depends on the order lacks a barrier.  Shared memory holds 0xFF bytes (NaN) when a
 * block starts, and so does fresh device memory.
 *
 * What cannot be right on a device ends the process with a message: a barrier that part of the block does not reach, warp
 * operations whose lanes disagree or whose mask leaves out the caller.  AddressSanitizer sees each access outside a
 * device buffer, a shared array or the dynamic shared memory, all of which have their exact sizes.  ThreadSanitizer is
 * told that CUDA threads are threads, ordered only by __syncthreads, __syncwarp and the order of blocks: it reports a
 * missing barrier in any order, even one whose result is right.
 *
 * Not shown: values of the GPU's own math library, weak memory order, launch limits by registers, races between blocks,
 * misaligned access (but -fsanitize=alignment finds it), host pointers passed to a kernel.  A __shared__ array inside a
 * template is not filled, because compilers drop its section: write plain kernels or use CPGEN_SHARED. */
#ifndef CPGEN_SHIM_CUDA_RUNTIME_H
#define CPGEN_SHIM_CUDA_RUNTIME_H

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <functional>
#include <tuple>
#include <vector>
#if !defined(__x86_64__)
#define CPGEN_SHIM_UCONTEXT
#endif
#if defined(CPGEN_SHIM_UCONTEXT)
#include <ucontext.h> /* anywhere, but two system calls a switch */
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static __attribute__((section("cpgen_shared")))

/* Dynamic shared memory, and a launch; under nvcc: an extern __shared__ array, and <<<grid, block, shared, stream>>>. */
#define CPGEN_SHARED(type, name) type *const name = static_cast<type *>(cpgen_shim::dynamic_shared)
#define CPGEN_LAUNCH(kernel, grid, block, shared, stream, args) \
    (cpgen_shim::prepare(kernel, #kernel, grid, block, shared, stream) args)

#define threadIdx (cpgen_shim::current->index)
#define blockIdx (cpgen_shim::block_index)
#define blockDim (cpgen_shim::block_shape)
#define gridDim (cpgen_shim::grid_shape)
#define warpSize 32

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

/* What was recorded between the begin and the end of a capture, to be done in that order. */
struct CUgraph_st {
    std::vector<std::function<void()>> nodes;
};

struct CUstream_st {
    CUgraph_st *recorded; /* while this stream is captured */
    bool spoilt;          /* by something that cannot be */
};

typedef CUstream_st *cudaStream_t;
typedef CUgraph_st *cudaGraph_t;
typedef CUgraph_st *cudaGraphExec_t;

enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidMemcpyDirection = 21,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureImplicit = 906
};
typedef enum cudaError cudaError_t;

enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};

enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal = 0,
    cudaStreamCaptureModeThreadLocal = 1,
    cudaStreamCaptureModeRelaxed = 2
};

enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

struct cudaDeviceProp {
    char name[256];
};

enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMemoryClockRate = 36,
    cudaDevAttrGlobalMemoryBusWidth = 37,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

/* First and last byte of the __shared__ arrays; null where a program has none. */
extern "C" char __start_cpgen_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_cpgen_shared[] __attribute__((weak, visibility("hidden")));

/* The scheduler is not the program under test: sanitizers leave it alone. */
#define CPGEN_SHIM_OWN __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))

namespace cpgen_shim __attribute__((visibility("hidden"))) {

constexpr unsigned max_threads = 1024;       /* of a block */
constexpr size_t stack_bytes = 256 * 1024;   /* of a fibre, the guard page included; touched pages alone cost memory */
constexpr size_t guard_bytes = 4096;
constexpr size_t default_shared = 48 * 1024; /* bytes of dynamic shared memory without an attribute ... */
constexpr size_t optin_shared = 163 * 1024;  /* ... and with one: the least of compute capabilities 8.0, 9.0 and 10.0 */

enum State : unsigned char { fresh, ready, running, at_barrier, at_exchange, ended };
enum Kind : unsigned char { syncwarp, shuffle, ballot };

/* A stack on which threads run; the host's own stack is one as well. */
struct Fibre {
    void *saved = nullptr;  /* stack pointer while another fibre runs */
    void *memory = nullptr; /* guard page and stack; null for the host's */
    char *bottom = nullptr;
    size_t bytes = 0;
    void *fake_stack = nullptr;
#if defined(CPGEN_SHIM_UCONTEXT)
    ucontext_t context;
#endif
};

/* A CUDA thread of the running block. */
struct Thread {
    uint3 index;
    unsigned linear;
    State state;
    Kind kind;        /* of the warp operation it waits at */
    unsigned mask;
    int source;       /* the lane it reads */
    uint64_t value;   /* offered to the other lanes, then the result */
    const char *file; /* where it waits */
    int line;
    unsigned phase;
    Fibre *fibre;     /* null before it starts */
};

/* What the host has asked for since the program began: a test can show that a function allocates nothing. */
struct Counters {
    long launches = 0, blocks = 0, allocations = 0, synchronisations = 0;
};

inline Counters counters;
inline Thread threads[max_threads];
inline Thread *current = nullptr;
inline uint3 block_index;
inline dim3 block_shape, grid_shape;
inline void *dynamic_shared = nullptr;
inline cudaError_t last_error = cudaSuccess;
inline pthread_mutex_t launching = PTHREAD_MUTEX_INITIALIZER;

inline Fibre host;
inline Fibre fibres[max_threads];
inline Fibre *idle[max_threads];
inline unsigned idle_count = 0, fibre_count = 0;
inline Fibre *active = &host, *previous = nullptr;

inline const char *kernel_name = "";
inline void (*body)(void *) = nullptr;
inline void *body_data = nullptr;

enum Order : unsigned char { forward, backward, shuffled };
inline Order order = forward;
inline uint64_t random_state = 0;
inline unsigned sequence[max_threads]; /* the threads in the order of this round */
inline unsigned cursor = 0;            /* how far the round is */
inline unsigned thread_count = 0, runnable = 0, ended_count = 0, barrier_count = 0;
inline unsigned alive[max_threads / 32], waiting[max_threads / 32]; /* lanes by warp */

struct SharedLimit {
    const void *kernel;
    size_t bytes;
};
inline SharedLimit limits[4096];
inline unsigned limit_count = 0;

#if defined(__SANITIZE_THREAD__)
constexpr bool separate_stacks = true; /* a stack used by two threads in turn would look like a race */
inline void *tsan_threads[max_threads];
inline void *tsan_host = nullptr;
inline char tsan_start, tsan_end, tsan_barrier[2], tsan_groups[max_threads][2];
inline unsigned barrier_phase = 0, group_phase[max_threads];
#else
constexpr bool separate_stacks = false;
#endif

inline const char *state_name(const Thread &t) {
    switch (t.state) {
    case ended: return "ended";
    case at_barrier: return "at __syncthreads";
    case at_exchange: return t.kind == syncwarp ? "at __syncwarp" : t.kind == shuffle ? "at a shuffle" : "at a vote";
    default: return "able to run";
    }
}

CPGEN_SHIM_OWN inline bool same_doing(const Thread &a, const Thread &b) {
    if (a.state != b.state) return false;
    if (a.state != at_barrier && a.state != at_exchange) return true;
    if (a.line != b.line || strcmp(a.file, b.file) != 0) return false;
    return a.state == at_barrier || (a.kind == b.kind && a.mask == b.mask);
}

/* Ends the process: the message, the block, and what each of its threads is doing. */
[[noreturn]] CPGEN_SHIM_OWN inline void fault(const char *message) {
    fflush(stdout);
    fprintf(stderr, "cpgen shim: %s\n  kernel %s, block (%u, %u, %u) of %u x %u x %u threads\n", message, kernel_name,
            block_index.x, block_index.y, block_index.z, block_shape.x, block_shape.y, block_shape.z);
    for (unsigned i = 0; i < thread_count; i++) {
        unsigned first = 0;
        while (!same_doing(threads[first], threads[i])) first++;
        if (first < i) continue; /* listed with the first thread that does the same */
        const Thread &t = threads[i];
        fprintf(stderr, "  %s", state_name(t));
        if (t.state == at_barrier || t.state == at_exchange) fprintf(stderr, ", %s:%d", t.file, t.line);
        if (t.state == at_exchange) fprintf(stderr, ", mask 0x%08x", t.mask);
        fputs(": threads", stderr);
        for (unsigned from = i, to; from < thread_count; from = to + 1) {
            to = from;
            if (!same_doing(threads[from], t)) continue;
            while (to + 1 < thread_count && same_doing(threads[to + 1], t)) to++;
            fprintf(stderr, from == to ? " %u" : " %u-%u", from, to);
        }
        fputc('\n', stderr);
    }
    fflush(stderr);
    abort();
}

/* ---- fibres ---- */

#if !defined(CPGEN_SHIM_UCONTEXT)
/* Keeps the callee-saved registers and the stack pointer in *save, and goes on with those of another stack. */
__attribute__((naked, noinline)) inline void swap_stacks(void **, void *) {
    __asm__ volatile("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
                     "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
                     "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif

/* On arrival at a stack: tells AddressSanitizer, and learns the bounds of the host's stack. */
CPGEN_SHIM_OWN inline void arrived() {
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(active->fake_stack, &bottom, &bytes);
    if (previous == &host) {
        host.bottom = static_cast<char *>(const_cast<void *>(bottom));
        host.bytes = bytes;
    }
#endif
}

CPGEN_SHIM_OWN inline void switch_to(Fibre *to) {
    Fibre *const from = active;
    previous = from;
    active = to;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
#endif
#if !defined(CPGEN_SHIM_UCONTEXT)
    swap_stacks(&from->saved, to->saved);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrived();
}

[[noreturn]] CPGEN_SHIM_OWN inline void fibre_main();

CPGEN_SHIM_OWN inline void make_fibre(Fibre *f, unsigned number) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *const memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard_bytes, PROT_NONE) != 0) fault("no memory for a thread's stack");
    f->memory = memory;
    f->bottom = static_cast<char *>(memory) + guard_bytes;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f->bottom, stack_bytes - guard_bytes); /* of a stack that was there before */
#endif
    f->bytes = stack_bytes - guard_bytes - (number % 16) * 256; /* tops at equal page offsets would share cache sets */
#if !defined(CPGEN_SHIM_UCONTEXT)
    void **top = reinterpret_cast<void **>(f->bottom + f->bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(&fibre_main); /* popped by ret; then rsp is 8 modulo 16, as after a call */
    f->saved = top - 6;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->bottom;
    f->context.uc_stack.ss_size = f->bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, reinterpret_cast<void (*)()>(&fibre_main), 0);
#endif
}

CPGEN_SHIM_OWN inline Fibre *take_fibre(const Thread *t) {
    if (separate_stacks) {
        Fibre *const own = &fibres[t->linear];
        if (own->bottom == nullptr) make_fibre(own, t->linear);
        return own;
    }
    if (idle_count > 0) return idle[--idle_count];
    Fibre *const made = &fibres[fibre_count];
    make_fibre(made, fibre_count++);
    return made;
}

/* Gives the stacks back: with their guard pages they are two mappings each, of which a process may have some 65,000, and
 * each library that a test program loads has fibres of its own. */
CPGEN_SHIM_OWN inline void release_fibres() {
    for (unsigned i = 0; i < max_threads; i++) {
        if (fibres[i].memory == nullptr) continue;
        munmap(fibres[i].memory, stack_bytes);
        fibres[i] = Fibre();
    }
    idle_count = fibre_count = 0;
}

/* ---- scheduler ---- */

CPGEN_SHIM_OWN inline uint64_t random_bits() { /* splitmix64 */
    uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

template <class Item>
CPGEN_SHIM_OWN inline void shuffle_items(Item *items, size_t count) {
    for (size_t i = count; i > 1; i--) {
        const size_t j = static_cast<size_t>(random_bits() % i);
        const Item kept = items[i - 1];
        items[i - 1] = items[j];
        items[j] = kept;
    }
}

CPGEN_SHIM_OWN inline void make_ready(Thread *t) {
    t->state = ready;
    runnable++;
}

/* No thread can run: opens the barrier that all have reached, or reports why the block cannot go on. */
CPGEN_SHIM_OWN inline void settle() {
    if (ended_count == thread_count) return;
    if (barrier_count + ended_count < thread_count)
        fault(barrier_count > 0 ? "deadlock: a warp operation waits for lanes that wait at a barrier"
                                : "deadlock: a warp operation waits for lanes that do not take part in it");
    if (ended_count > 0) fault("divergent barrier: part of the block waits at __syncthreads, the rest has ended");
    for (unsigned i = 1; i < thread_count; i++)
        if (threads[i].line != threads[0].line || strcmp(threads[i].file, threads[0].file) != 0)
            fault("divergent barrier: the threads of the block wait at different __syncthreads");
    barrier_count = 0;
#if defined(__SANITIZE_THREAD__)
    barrier_phase++;
#endif
    for (unsigned i = 0; i < thread_count; i++) make_ready(&threads[i]);
}

/* The thread to run next, taken from those that can; null when the block is done. */
CPGEN_SHIM_OWN inline Thread *next_thread() {
    if (runnable == 0) settle();
    if (runnable == 0) return nullptr;
    for (;;) {
        if (cursor == thread_count) {
            cursor = 0;
            if (order == shuffled) shuffle_items(sequence, thread_count);
        }
        Thread *const t = &threads[sequence[cursor++]];
        if (t->state == fresh || t->state == ready) {
            runnable--;
            return t;
        }
    }
}

/* Goes on with a thread, or with the host after the last one. */
CPGEN_SHIM_OWN inline void leave(Thread *next) {
    if (next == nullptr) {
#if defined(__SANITIZE_THREAD__)
        __tsan_switch_to_fiber(tsan_host, __tsan_switch_to_fiber_no_sync);
#endif
        switch_to(&host);
        return;
    }
    current = next;
    if (next->fibre == nullptr) next->fibre = take_fibre(next);
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(tsan_threads[next->linear], __tsan_switch_to_fiber_no_sync);
#endif
    next->state = running;
    if (next->fibre != active) switch_to(next->fibre);
}

/* The current thread waits until another one makes it ready. */
CPGEN_SHIM_OWN inline void wait() { leave(next_thread()); }

/* Whether two waiting lanes are in the same warp operation. */
CPGEN_SHIM_OWN inline bool together(const Thread &a, const Thread &b) {
    return a.mask == b.mask && a.kind == b.kind && a.line == b.line && strcmp(a.file, b.file) == 0;
}

/* Performs the warp operation at which `t` waits if every lane of its mask that has not ended is there. */
CPGEN_SHIM_OWN inline void complete(const Thread &t) {
    const unsigned warp = t.linear / 32, needed = t.mask & alive[warp];
    Thread *const lanes = &threads[warp * 32];
    const unsigned here = needed & waiting[warp];
    /* Two lanes that each wait for the other, at different operations, can never go on. */
    for (unsigned j = 0; j < 32; j++)
        if ((here >> j) & 1u && !together(t, lanes[j])) {
            if (!((lanes[j].mask >> (t.linear % 32)) & 1u)) return;
            fault(lanes[j].mask != t.mask ? "warp operation: the masks of its lanes differ"
                                          : "warp operation: its lanes are at different operations");
        }
    if (here != needed) return;
    uint64_t result[32], votes = 0;
    for (unsigned j = 0; j < 32; j++)
        if ((needed >> j) & 1u) votes |= lanes[j].value << j;
    for (unsigned j = 0; j < 32; j++) {
        if (!((needed >> j) & 1u)) continue;
        const int source = lanes[j].source;
        if (t.kind == ballot) result[j] = votes;
        else result[j] = t.kind == shuffle && (needed >> source) & 1u ? lanes[source].value : ~uint64_t(0);
    }
#if defined(__SANITIZE_THREAD__)
    group_phase[warp * 32 + static_cast<unsigned>(__builtin_ctz(t.mask))]++;
#endif
    waiting[warp] &= ~needed;
    for (unsigned j = 0; j < 32; j++)
        if ((needed >> j) & 1u) {
            lanes[j].value = result[j];
            make_ready(&lanes[j]);
        }
}

/* After the kernel has returned for the current thread: its warp no longer waits for it. */
CPGEN_SHIM_OWN inline void finish() {
    Thread &t = *current;
    const unsigned warp = t.linear / 32;
    t.state = ended;
    ended_count++;
    alive[warp] &= ~(1u << (t.linear % 32));
    for (unsigned j = 0; j < 32 && waiting[warp] != 0; j++) {
        const Thread &other = threads[warp * 32 + j];
        if ((waiting[warp] >> j) & 1u && (other.mask >> (t.linear % 32)) & 1u) complete(other);
    }
}

[[noreturn]] CPGEN_SHIM_OWN inline void fibre_main() {
    arrived();
    for (;;) {
#if defined(__SANITIZE_THREAD__)
        __tsan_acquire(&tsan_start); /* the host alone releases it: the threads of a block are not in order */
#endif
        body(body_data);
#if defined(__SANITIZE_THREAD__)
        __tsan_release(&tsan_end);
#endif
        finish();
        Thread *const next = next_thread();
        if (!separate_stacks) {
            if (next != nullptr && next->fibre == nullptr) { /* the way of kernels without barriers: no switch at all */
                next->fibre = active;
                next->state = running;
                current = next;
                continue;
            }
            idle[idle_count++] = active;
        }
        leave(next);
    }
}

/* ---- what kernels call ---- */

CPGEN_SHIM_OWN __attribute__((noinline)) inline void block_barrier(const char *file, int line) {
    Thread &t = *current;
    t.state = at_barrier;
    t.file = file;
    t.line = line;
    barrier_count++;
#if defined(__SANITIZE_THREAD__)
    /* Two in turn: a thread that runs ahead to the next barrier must not count as ordered by this one. */
    char *const token = &tsan_barrier[barrier_phase & 1u];
    __tsan_release(token);
#endif
    wait();
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(token);
#endif
}

/* A warp operation: offers a value, and returns that of the source lane, the votes, or all ones where there is none. */
CPGEN_SHIM_OWN __attribute__((noinline)) inline uint64_t exchange(Kind kind, unsigned mask, uint64_t value, int source,
                                                                  const char *file, int line) {
    Thread &t = *current;
    const unsigned warp = t.linear / 32, lane = t.linear % 32;
    t.state = at_exchange;
    t.kind = kind;
    t.mask = mask;
    t.value = value;
    t.source = source;
    t.file = file;
    t.line = line;
    if (!((mask >> lane) & 1u)) fault("warp operation: the calling lane is not in its mask");
    waiting[warp] |= 1u << lane;
#if defined(__SANITIZE_THREAD__)
    const unsigned group = warp * 32 + static_cast<unsigned>(__builtin_ctz(mask));
    char *const token = &tsan_groups[group][group_phase[group] & 1u];
    if (kind == syncwarp) __tsan_release(token); /* shuffles and votes order no memory */
#endif
    complete(t);
    if (t.state == ready) { /* the last to arrive goes on at once */
        t.state = running;
        runnable--;
    } else {
        wait();
    }
#if defined(__SANITIZE_THREAD__)
    if (kind == syncwarp) __tsan_acquire(token);
#endif
    return t.value;
}

template <class T>
inline T shuffled_value(unsigned mask, T value, int source, const char *file, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "warp shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = exchange(shuffle, mask, bits, source, file, line);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

inline int lane() { return static_cast<int>(current->linear % 32); }

/* ---- blocks and launches ---- */

/* Bytes past the ends of the arrays are red zones: they too are overwritten, so no ordinary memset. */
CPGEN_SHIM_OWN inline void poison(char *first, const char *last) {
    volatile char *p = first;
    while (p < last && (reinterpret_cast<uintptr_t>(p) & 7u) != 0) *p++ = static_cast<char>(-1);
    for (; last - const_cast<char *>(p) >= 8; p += 8) *reinterpret_cast<volatile uint64_t *>(p) = ~uint64_t(0);
    while (p < last) *p++ = static_cast<char>(-1);
}

CPGEN_SHIM_OWN inline void run_block(size_t shared) {
    if (__start_cpgen_shared != nullptr) poison(__start_cpgen_shared, __stop_cpgen_shared);
    poison(static_cast<char *>(dynamic_shared), static_cast<char *>(dynamic_shared) + shared);
    uint3 index = {0, 0, 0};
    for (unsigned i = 0; i < thread_count; i++) {
        threads[i].index = index;
        threads[i].linear = i;
        threads[i].state = fresh;
        threads[i].fibre = nullptr;
        sequence[i] = order == backward ? thread_count - 1 - i : i;
        if (++index.x == block_shape.x) {
            index.x = 0;
            if (++index.y == block_shape.y) index.y = 0, index.z++;
        }
    }
    for (unsigned w = 0; w * 32 < thread_count; w++) {
        const unsigned lanes = thread_count - w * 32;
        alive[w] = lanes < 32 ? (1u << lanes) - 1u : ~0u;
        waiting[w] = 0;
    }
    if (order == shuffled) shuffle_items(sequence, thread_count);
    cursor = ended_count = barrier_count = 0;
    runnable = thread_count;
    counters.blocks++;
#if defined(__SANITIZE_THREAD__)
    tsan_host = __tsan_get_current_fiber();
    for (unsigned i = 0; i < thread_count; i++)
        if (tsan_threads[i] == nullptr) tsan_threads[i] = __tsan_create_fiber(0);
    __tsan_release(&tsan_start);
#endif
    leave(next_thread());
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&tsan_end);
#endif
    current = nullptr;
}

CPGEN_SHIM_OWN inline void read_order() {
    const char *const text = getenv("CPGEN_SHIM_ORDER");
    order = forward;
    if (text == nullptr || text[0] == '\0' || strcmp(text, "fwd") == 0) return;
    if (strcmp(text, "rev") == 0) {
        order = backward;
        return;
    }
    char *end = nullptr;
    random_state = strtoull(text, &end, 10);
    order = shuffled;
    if (text[0] < '0' || text[0] > '9' || *end != '\0') fault("CPGEN_SHIM_ORDER must be fwd, rev or a number");
}

inline cudaError_t record(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

CPGEN_SHIM_OWN inline size_t shared_limit(const void *kernel) {
    for (unsigned i = 0; i < limit_count; i++)
        if (limits[i].kernel == kernel) return limits[i].bytes;
    return default_shared;
}

CPGEN_SHIM_OWN inline bool possible(const void *kernel, dim3 grid, dim3 block, size_t shared) {
    return grid.x != 0 && grid.y != 0 && grid.z != 0 && block.x != 0 && block.y != 0 && block.z != 0 &&
           grid.x <= 0x7FFFFFFFu && grid.y <= 65535u && grid.z <= 65535u && block.x <= 1024u && block.y <= 1024u &&
           block.z <= 64u && uint64_t(block.x) * block.y * block.z <= max_threads && shared <= shared_limit(kernel);
}

CPGEN_SHIM_OWN inline void run_grid(const void *kernel, const char *name, dim3 grid, dim3 block, size_t shared,
                                    void (*call)(void *), void *data) {
    counters.launches++;
    if (!possible(kernel, grid, block, shared)) {
        record(cudaErrorInvalidConfiguration);
        return;
    }
    pthread_mutex_lock(&launching);
    kernel_name = name;
    grid_shape = grid;
    block_shape = block;
    thread_count = 0; /* until there is a block, for the message of a fault */
    body = call;
    body_data = data;
    read_order();
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    uint64_t *const turns = order == shuffled ? static_cast<uint64_t *>(malloc(blocks * sizeof(uint64_t))) : nullptr;
    dynamic_shared = malloc(shared);
    if ((order == shuffled && turns == nullptr) || dynamic_shared == nullptr) fault("no memory for a launch");
    for (uint64_t i = 0; turns != nullptr && i < blocks; i++) turns[i] = i;
    if (turns != nullptr) shuffle_items(turns, blocks);
    thread_count = block.x * block.y * block.z;
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = turns != nullptr ? turns[i] : order == backward ? blocks - 1 - i : i;
        block_index.x = static_cast<unsigned>(b % grid.x);
        block_index.y = static_cast<unsigned>(b / grid.x % grid.y);
        block_index.z = static_cast<unsigned>(b / (uint64_t(grid.x) * grid.y));
        run_block(shared);
    }
    release_fibres();
    free(dynamic_shared);
    free(turns);
    dynamic_shared = nullptr;
    pthread_mutex_unlock(&launching);
}

/* ---- captures: one at a time ---- */

inline CUstream_st *capturing = nullptr;

/* Whether an operation on a stream is to be recorded rather than done. */
inline bool records(cudaStream_t stream) { return capturing != nullptr && stream == capturing; }

/* During a capture, what would wait, allocate, or use the default stream is an error and spoils the capture. */
inline bool forbidden(cudaError_t error) {
    if (capturing == nullptr) return false;
    capturing->spoilt = true;
    record(error);
    return true;
}

/* A configured launch; its arguments are converted to the kernel's parameters once, as in a real launch. */
template <class... Parameters>
struct Launch {
    void (*kernel)(Parameters...);
    const char *name;
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;

    void operator()(Parameters... values) const {
        if (records(stream)) {
            if (!possible(reinterpret_cast<const void *>(kernel), grid, block, shared))
                record(cudaErrorInvalidConfiguration);
            else
                stream->recorded->nodes.push_back([launch = *this, kept = std::make_tuple(values...)] {
                    std::apply([&](auto... each) { launch.run(each...); }, kept);
                });
            return;
        }
        if (!forbidden(cudaErrorStreamCaptureImplicit)) run(values...);
    }

    void run(Parameters... values) const {
        auto call = [&] { kernel(values...); };
        using Call = decltype(call);
        run_grid(reinterpret_cast<const void *>(kernel), name, grid, block, shared,
                 [](void *data) { (*static_cast<Call *>(data))(); }, &call);
    }
};

template <class... Parameters>
inline Launch<Parameters...> prepare(void (*kernel)(Parameters...), const char *name, dim3 grid, dim3 block,
                                     size_t shared, cudaStream_t stream) {
    return {kernel, name, grid, block, shared, stream};
}

} // namespace cpgen_shim

/* ---- device functions; the last two parameters are where the caller stands ---- */

#define CPGEN_SHIM_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CPGEN_SHIM_SITE) { cpgen_shim::block_barrier(file, line); }

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, CPGEN_SHIM_SITE) {
    cpgen_shim::exchange(cpgen_shim::syncwarp, mask, 0, 0, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CPGEN_SHIM_SITE) {
    return static_cast<unsigned>(cpgen_shim::exchange(cpgen_shim::ballot, mask, predicate != 0, 0, file, line));
}

inline int __any_sync(unsigned mask, int predicate, CPGEN_SHIM_SITE) {
    return cpgen_shim::exchange(cpgen_shim::ballot, mask, predicate != 0, 0, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, CPGEN_SHIM_SITE) {
    return cpgen_shim::exchange(cpgen_shim::ballot, mask, predicate == 0, 0, file, line) == 0;
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, CPGEN_SHIM_SITE) {
    const int lane = cpgen_shim::lane();
    return cpgen_shim::shuffled_value(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), file, line);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CPGEN_SHIM_SITE) {
    const int lane = cpgen_shim::lane(), source = lane - static_cast<int>(delta);
    return cpgen_shim::shuffled_value(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CPGEN_SHIM_SITE) {
    const int lane = cpgen_shim::lane(), source = lane + static_cast<int>(delta);
    return cpgen_shim::shuffled_value(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, CPGEN_SHIM_SITE) {
    const int lane = cpgen_shim::lane(), source = lane ^ lanes;
    return cpgen_shim::shuffled_value(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Atomics of integers alone: sums of reals in the order of arrival would differ from run to run. */
inline int atomicAdd(int *p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicAdd(unsigned *p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline int atomicOr(int *p, int v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicOr(unsigned *p, unsigned v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
inline int atomicCAS(int *p, int expected, int v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}

/* ---- host functions ---- */

inline cudaError_t cudaGetLastError() {
    const cudaError_t error = cpgen_shim::last_error;
    cpgen_shim::last_error = cudaSuccess;
    return error;
}

inline cudaError_t cudaPeekAtLastError() { return cpgen_shim::last_error; }

inline const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidMemcpyDirection: return "invalid copy direction for memcpy";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit: return "operation would make the legacy stream depend on a capturing blocking stream";
    }
    return "unrecognized error code";
}

/* One device, or as many as CPGEN_SHIM_DEVICES says: 0 shows what a program does without any. */
inline cudaError_t cudaGetDeviceCount(int *count) {
    const char *const text = getenv("CPGEN_SHIM_DEVICES");
    *count = text != nullptr ? atoi(text) : 1;
    return cpgen_shim::record(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

inline cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

inline cudaError_t cudaSetDevice(int device) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) return error;
    return cpgen_shim::record(device >= 0 && device < count ? cudaSuccess : cudaErrorInvalidDevice);
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *about, int) {
    snprintf(about->name, sizeof about->name, "none: the CPU by the shim of cpgen's tests");
    return cudaSuccess;
}

inline cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}

inline cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = static_cast<int>(cpgen_shim::max_threads); return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = static_cast<int>(cpgen_shim::default_shared); return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(cpgen_shim::optin_shared); return cudaSuccess;
    case cudaDevAttrWarpSize: *value = 32; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = 2; return cudaSuccess;
    case cudaDevAttrClockRate: *value = 1000000; return cudaSuccess;
    case cudaDevAttrMemoryClockRate: *value = 1000000; return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth: *value = 64; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; return cudaSuccess;
    }
    return cpgen_shim::record(cudaErrorInvalidValue);
}

template <class Kernel>
inline cudaError_t cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute attribute, int value) {
    using namespace cpgen_shim;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || static_cast<size_t>(value) > optin_shared) return record(cudaErrorInvalidValue);
    const void *const key = reinterpret_cast<const void *>(kernel);
    unsigned i = 0;
    while (i < limit_count && limits[i].kernel != key) i++;
    if (i == sizeof limits / sizeof limits[0]) return record(cudaErrorMemoryAllocation);
    if (i == limit_count) limit_count++;
    limits[i] = {key, static_cast<size_t>(value)};
    return cudaSuccess;
}

/* A buffer of exactly the bytes asked for, aligned as on a device. */
inline cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    *pointer = nullptr;
    if (cpgen_shim::forbidden(cudaErrorStreamCaptureUnsupported)) return cudaErrorStreamCaptureUnsupported;
    cpgen_shim::counters.allocations++;
    if (bytes == 0) return cudaSuccess;
    if (posix_memalign(pointer, 256, bytes) != 0) return cpgen_shim::record(cudaErrorMemoryAllocation);
    memset(*pointer, 0xFF, bytes);
    return cudaSuccess;
}

template <class T>
inline cudaError_t cudaMalloc(T **pointer, size_t bytes) {
    void *memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    *pointer = static_cast<T *>(memory);
    return error;
}

inline cudaError_t cudaFree(void *pointer) {
    if (cpgen_shim::forbidden(cudaErrorStreamCaptureUnsupported)) return cudaErrorStreamCaptureUnsupported;
    cpgen_shim::counters.synchronisations++; /* a real one waits for the device */
    free(pointer);
    return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t stream = nullptr) {
    if (cpgen_shim::records(stream)) {
        stream->recorded->nodes.push_back([=] { memcpy(to, from, bytes); });
        return cudaSuccess;
    }
    if (cpgen_shim::forbidden(cudaErrorStreamCaptureImplicit)) return cudaErrorStreamCaptureImplicit;
    if (bytes > 0) memcpy(to, from, bytes);
    return cudaSuccess;
}

inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    cpgen_shim::counters.synchronisations++;
    return cudaMemcpyAsync(to, from, bytes, kind);
}

inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream = nullptr) {
    if (cpgen_shim::records(stream)) {
        stream->recorded->nodes.push_back([=] { memset(to, value, bytes); });
        return cudaSuccess;
    }
    if (cpgen_shim::forbidden(cudaErrorStreamCaptureImplicit)) return cudaErrorStreamCaptureImplicit;
    if (bytes > 0) memset(to, value, bytes);
    return cudaSuccess;
}

inline cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes); }

inline cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = new CUstream_st{nullptr, false};
    return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    if (cpgen_shim::forbidden(cudaErrorStreamCaptureUnsupported)) return cudaErrorStreamCaptureUnsupported;
    cpgen_shim::counters.synchronisations++;
    return cudaSuccess;
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream == nullptr || cpgen_shim::capturing != nullptr) return cpgen_shim::record(cudaErrorStreamCaptureUnsupported);
    stream->recorded = new CUgraph_st;
    stream->spoilt = false;
    cpgen_shim::capturing = stream;
    return cudaSuccess;
}

inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = nullptr;
    if (stream == nullptr || stream != cpgen_shim::capturing) return cpgen_shim::record(cudaErrorInvalidValue);
    cpgen_shim::capturing = nullptr;
    if (stream->spoilt) {
        delete stream->recorded;
        return cpgen_shim::record(cudaErrorStreamCaptureInvalidated);
    }
    *graph = stream->recorded;
    return cudaSuccess;
}

inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long) {
    *made = new CUgraph_st(*graph);
    return cudaSuccess;
}

inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    if (cpgen_shim::records(stream) || cpgen_shim::forbidden(cudaErrorStreamCaptureImplicit))
        return cpgen_shim::record(cudaErrorStreamCaptureUnsupported); /* graphs in graphs: not here */
    for (const auto &node : graph->nodes) node();
    return cudaSuccess;
}

/* Events: the time at which they were recorded, in seconds. */
struct CUevent_st {
    double seconds;
};

typedef CUevent_st *cudaEvent_t;

inline cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = new CUevent_st{0.0};
    return cudaSuccess;
}

inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t = nullptr) {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->seconds = static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
    return cudaSuccess;
}

inline cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    *milliseconds = static_cast<float>(1e3 * (end->seconds - begin->seconds));
    return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaGraphDestroy(graph); }

inline cudaError_t cudaDeviceSynchronize() { return cudaStreamSynchronize(nullptr); }

#endif
