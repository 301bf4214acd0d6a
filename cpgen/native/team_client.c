/* Linked into each library that was compiled with OpenMP: what GCC makes of the work sharing of the generated text calls the
 * functions below, and they hand over to the one team of threads of this process (team.c).  They are hidden, so nobody
 * else's OpenMP sees them.  A name that is missing here is an error when linking, never a second set of threads. */
#include "team.h"

#define HIDDEN __attribute__((visibility("hidden")))
typedef unsigned long long ull;

void cpgen_use_team(const cpgen_team *given); /* before anything else */
HIDDEN void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
HIDDEN void GOMP_barrier(void);
HIDDEN _Bool GOMP_single_start(void);
HIDDEN _Bool GOMP_loop_dynamic_start(long start, long end, long step, long least, long *from, long *to);
HIDDEN _Bool GOMP_loop_dynamic_next(long *from, long *to);
HIDDEN _Bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long least, long *from, long *to);
HIDDEN _Bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to);
HIDDEN _Bool GOMP_loop_ull_dynamic_start(_Bool up, ull start, ull end, ull step, ull least, ull *from, ull *to);
HIDDEN _Bool GOMP_loop_ull_dynamic_next(ull *from, ull *to);
HIDDEN _Bool GOMP_loop_ull_nonmonotonic_dynamic_start(_Bool up, ull start, ull end, ull step, ull least, ull *from, ull *to);
HIDDEN _Bool GOMP_loop_ull_nonmonotonic_dynamic_next(ull *from, ull *to);
HIDDEN void GOMP_loop_end(void);
HIDDEN void GOMP_loop_end_nowait(void);
HIDDEN int omp_get_thread_num(void);
HIDDEN int omp_get_level(void);

static const cpgen_team *team;

void cpgen_use_team(const cpgen_team *given)
{
    team = given;
}

void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags)
{
    (void)flags;
    team->parallel(body, data, threads);
}

void GOMP_barrier(void)
{
    team->barrier();
}

_Bool GOMP_single_start(void)
{
    return team->single() != 0;
}

/* The generated loops go up, in steps that are positive. */
_Bool GOMP_loop_ull_dynamic_start(_Bool up, ull start, ull end, ull step, ull least, ull *from, ull *to)
{
    (void)up;
    team->loop(end > start ? (end - start + step - 1U) / step : 0U, least, start, step);
    return team->piece(from, to) != 0;
}

_Bool GOMP_loop_ull_dynamic_next(ull *from, ull *to)
{
    return team->piece(from, to) != 0;
}

_Bool GOMP_loop_ull_nonmonotonic_dynamic_start(_Bool up, ull start, ull end, ull step, ull least, ull *from, ull *to)
{
    return GOMP_loop_ull_dynamic_start(up, start, end, step, least, from, to);
}

_Bool GOMP_loop_ull_nonmonotonic_dynamic_next(ull *from, ull *to)
{
    return team->piece(from, to) != 0;
}

_Bool GOMP_loop_dynamic_next(long *from, long *to)
{
    ull first, last;
    if (team->piece(&first, &last) == 0) {
        return 0;
    }
    *from = (long)first;
    *to = (long)last;
    return 1;
}

_Bool GOMP_loop_dynamic_start(long start, long end, long step, long least, long *from, long *to)
{
    const ull count = end > start ? ((ull)end - (ull)start + (ull)step - 1U) / (ull)step : 0U;
    team->loop(count, (ull)least, (ull)start, (ull)step);
    return GOMP_loop_dynamic_next(from, to);
}

_Bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long least, long *from, long *to)
{
    return GOMP_loop_dynamic_start(start, end, step, least, from, to);
}

_Bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to)
{
    return GOMP_loop_dynamic_next(from, to);
}

void GOMP_loop_end(void)
{
    team->end();
    team->barrier();
}

void GOMP_loop_end_nowait(void)
{
    team->end();
}

int omp_get_thread_num(void)
{
    return team->index();
}

int omp_get_level(void)
{
    return 1; /* never outside: a call on one thread is a team of one */
}
