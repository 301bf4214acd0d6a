/* One team of threads for all compiled programs of a process.
 *
 * An OpenMP library lets all threads meet at every barrier: one that lost its processor to somebody else's work holds up the
 * others for as long as the system likes, and after a fork its threads are gone while it still waits for them.  Here nobody
 * waits for a thread, only for work.  A call is a sequence of pieces: each loop is cut into a few, each `single` is one, and
 * they are numbered through, in the order of the text.  `next` counts the pieces that were handed out, `finished` those that
 * are done.  Every thread goes through the whole text and takes the next piece of the loop it is at, if there is one.
 * Whoever reaches a barrier has seen all pieces before it handed out and waits until as many are done: `finished` reaches
 * the number of pieces before the barrier.  A thread that comes late finds them taken and the barriers open.
 *
 * The caller is one of the threads and does everything itself where nobody else comes.  At the end it takes back what
 * workers have not begun, and those that wait at a barrier: these jump out of the text and touch nothing of the caller's.
 * Only a worker in the midst of the text is waited for.
 *
 * Who waits spins for SPIN nanoseconds and then sleeps in the kernel.  A child of a fork begins without workers.
 *
 * Where something else wants the processors, workers come late or lose theirs while they have a piece.  So the time of
 * calls with and without workers is kept for each text, and the next call is of the kind that takes less; one in many is
 * of the other kind, to see whether that is still so.  No bit of a result depends on it. */
#define _GNU_SOURCE
#include "team.h"

#include <fenv.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 1023, REGIONS = 64, SHARE = 4 /* pieces of a loop for each thread */, SPIN = 20000, LINE = 128 };
enum { FREE, TAKEN, OFFERED, RUNNING, WAITING, REVOKED, KINDS = 8 }; /* what a worker does, and for which region */

enum { TEAM, ALONE }; /* calls with workers, without */
enum { TEXTS = 256, OFTEN = 64, RARELY = 128, FIRST = 8 /* call that tries the other kind */ };

typedef struct experience {
    void (*body)(void *);
    uint32_t calls;
    float cost[2]; /* nanoseconds for each point of the loops; 0: not known */
} experience;

typedef struct region {
    _Alignas(LINE) uint32_t used;
    unsigned threads;
    void (*body)(void *);
    void *data;
    fenv_t arithmetic; /* rounding and the like of the caller */
    _Alignas(LINE) uint32_t next;
    _Alignas(LINE) uint32_t finished; /* sleepers sleep here */
    uint32_t sleepers;
} region;

typedef struct worker {
    _Alignas(LINE) uint32_t state; /* kind + KINDS * number of the region; 0 while free */
    uint32_t asleep, watched; /* somebody sleeps at `state`: the worker, a caller */
    unsigned index;
    uint32_t first; /* pieces before the call */
    region *region;
} worker;

static region regions[REGIONS];
static worker workers[WORKERS];
static uint32_t count, creating; /* workers there are; a lock */
static experience experiences[TEXTS];

static _Thread_local struct {
    region *region;
    worker *self; /* NULL in a caller */
    unsigned index;
    uint32_t before, pieces; /* before this loop, and in it */
    int holding; /* a piece that is not finished */
    unsigned long long points, start, step;
    unsigned long long all; /* points of all loops so far */
} me;
static _Thread_local jmp_buf outside;

#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)
#define ADD(place, value) __atomic_add_fetch(&(place), (value), __ATOMIC_SEQ_CST)

/* From 1; not kept in a region, where somebody late would read it while the next call writes it. */
static uint32_t number_of(const region *r)
{
    return (uint32_t)(r - regions) + 1U;
}

static int change(uint32_t *place, uint32_t old, uint32_t new)
{
    return __atomic_compare_exchange_n(place, &old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static float load_cost(float *place)
{
    float found;
    __atomic_load(place, &found, __ATOMIC_RELAXED);
    return found;
}

static void store_cost(float *place, float value)
{
    __atomic_store(place, &value, __ATOMIC_RELAXED);
}

static void sleep_at(uint32_t *place, uint32_t seen)
{
    syscall(SYS_futex, place, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void wake_at(uint32_t *place)
{
    syscall(SYS_futex, place, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Spin until `*place` is not `seen`, for a short while; returns what it is then. */
static uint32_t spin_at(uint32_t *place, uint32_t seen)
{
    const long long end = now() + SPIN;
    do {
        for (int k = 0; k < 16; ++k) {
            const uint32_t found = LOAD(*place);
            if (found != seen) {
                return found;
            }
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("yield");
#endif
        }
    } while (now() < end);
    return seen;
}

static void set_state(worker *w, uint32_t state)
{
    STORE(w->state, state);
    if (LOAD(w->watched)) {
        wake_at(&w->state);
    }
}

static void settle(void)
{
    if (me.holding) {
        region *const r = me.region;
        me.holding = 0;
        ADD(r->finished, 1U);
        if (LOAD(r->sleepers)) {
            wake_at(&r->finished);
        }
    }
}

/* The number of the next piece of the current loop, or -1 if all have been handed out. */
static int64_t take(uint32_t pieces)
{
    for (;;) {
        const uint32_t next = LOAD(me.region->next), past = next - me.before;
        if (past >= pieces) {
            return -1;
        }
        if (change(&me.region->next, next, next + 1U)) {
            me.holding = 1;
            return past;
        }
    }
}

static void barrier(void)
{
    region *const r = me.region;
    uint32_t seen;
    settle();
    seen = LOAD(r->finished);
    if ((int32_t)(seen - me.before) >= 0) {
        return;
    }
    if (me.self != NULL) {
        set_state(me.self, WAITING + KINDS * number_of(r));
    }
    while ((int32_t)(seen - me.before) < 0) {
        if (me.self != NULL && LOAD(me.self->state) % KINDS == REVOKED) {
            break;
        }
        if (spin_at(&r->finished, seen) == seen) {
            ADD(r->sleepers, 1U);
            sleep_at(&r->finished, seen); /* also over when the region is given up, which changes it */
            ADD(r->sleepers, -1U);
        }
        seen = LOAD(r->finished);
    }
    if (me.self != NULL && !change(&me.self->state, WAITING + KINDS * number_of(r), RUNNING + KINDS * number_of(r))) {
        longjmp(outside, 1);
    }
}

static int single(void)
{
    settle();
    const int mine = take(1U) >= 0;
    me.before += 1U;
    return mine;
}

static void loop(unsigned long long points, unsigned long long least, unsigned long long start, unsigned long long step)
{
    const unsigned long long most = me.region->threads == 1U ? 1U : SHARE * (unsigned long long)me.region->threads;
    const unsigned long long pieces = points / least + (points % least != 0U);
    settle();
    me.pieces = (uint32_t)(pieces < most ? pieces : most);
    me.points = points;
    me.all += points;
    me.start = start;
    me.step = step;
}

static int piece(unsigned long long *from, unsigned long long *to)
{
    int64_t number;
    settle();
    number = take(me.pieces);
    if (number < 0) {
        return 0;
    }
    {
        const unsigned long long p = (unsigned long long)number, each = me.points / me.pieces, more = me.points % me.pieces;
        const unsigned long long first = p * each + (p < more ? p : more);
        *from = me.start + first * me.step;
        *to = me.start + (first + each + (p < more)) * me.step;
    }
    return 1;
}

static void end(void)
{
    settle();
    me.before += me.pieces;
    me.pieces = 0; /* a loop without points ends without having begun */
}

static int index_of(void)
{
    return (int)me.index;
}

static void enter(region *r, worker *self, unsigned index, uint32_t before)
{
    me.region = r;
    me.self = self;
    me.index = index;
    me.before = before;
    me.pieces = 0;
    me.holding = 0;
    me.all = 0;
}

static void *work(void *given)
{
    worker *const w = given;
    for (;;) {
        uint32_t state = LOAD(w->state);
        if (state % KINDS != OFFERED) { /* free, or about to be offered something */
            if (spin_at(&w->state, state) == state) {
                STORE(w->asleep, 1U);
                sleep_at(&w->state, state);
                STORE(w->asleep, 0U);
            }
            continue;
        }
        if (!change(&w->state, state, state - OFFERED + RUNNING)) {
            continue;
        }
        enter(w->region, w, w->index, w->first);
        fesetenv(&w->region->arithmetic);
        if (setjmp(outside) == 0) {
            w->region->body(w->region->data);
            settle();
        }
        set_state(w, FREE);
    }
    return NULL;
}

static void offer(region *r, worker *w, unsigned index)
{
    w->region = r;
    w->index = index;
    w->first = me.before;
    STORE(w->state, OFFERED + KINDS * number_of(r));
}

/* Workers for `threads` - 1 more threads, as many as are free or can be made. */
static void gather(region *r, unsigned threads)
{
    unsigned index = 1;
    const uint32_t there = LOAD(count);
    for (uint32_t k = 0; k < there && index < threads; ++k) {
        worker *const w = &workers[k];
        if (LOAD(w->state) == FREE && change(&w->state, FREE, TAKEN + KINDS * number_of(r))) {
            offer(r, w, index++);
            if (LOAD(w->asleep)) {
                wake_at(&w->state);
            }
        }
    }
    if (index < threads && there < threads - 1U && change(&creating, 0U, 1U)) {
        sigset_t all, before;
        pthread_attr_t detached;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        sigfillset(&all); /* signals are for the threads of the program */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (index < threads && LOAD(count) < threads - 1U && LOAD(count) < WORKERS) {
            worker *const w = &workers[count];
            pthread_t thread;
            offer(r, w, index);
            if (pthread_create(&thread, &detached, work, w) != 0) {
                STORE(w->state, FREE);
                break;
            }
            ++index;
            ADD(count, 1U);
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&detached);
        STORE(creating, 0U);
    }
}

/* All work is done: take the workers back. */
static void dismiss(region *r)
{
    const uint32_t mine = KINDS * number_of(r), there = LOAD(count);
    int waiting = 0;
    for (worker *w = workers; w < workers + there; ++w) {
        for (;;) {
            const uint32_t state = LOAD(w->state);
            if (state - state % KINDS != mine) {
                break; /* free, or somebody else's */
            }
            if (state == OFFERED + mine) {
                if (change(&w->state, state, FREE)) {
                    break;
                }
            } else if (state == WAITING + mine) {
                if (change(&w->state, state, REVOKED + mine)) {
                    waiting = 1;
                    break;
                }
            } else if (spin_at(&w->state, state) == state) {
                ADD(w->watched, 1U);
                sleep_at(&w->state, state);
                ADD(w->watched, -1U);
            }
        }
    }
    if (waiting) { /* a change, so that nobody falls asleep after this */
        ADD(r->next, 1U);
        ADD(r->finished, 1U);
        wake_at(&r->finished);
    }
}

/* What is known of a text with so many threads; of two in one place, of the later. */
static experience *experience_of(void (*body)(void *), unsigned threads)
{
    experience *const e = &experiences[((uintptr_t)body / 16U + threads) % TEXTS];
    if (LOAD(e->body) != body) {
        store_cost(&e->cost[TEAM], 0.0F);
        store_cost(&e->cost[ALONE], 0.0F);
        STORE(e->calls, 0U);
        STORE(e->body, body);
    }
    return e;
}

/* TEAM or ALONE for the next call; `learn`: whether to keep its time. */
static int choose(experience *e, int *learn)
{
    const float team = load_cost(&e->cost[TEAM]), alone = load_cost(&e->cost[ALONE]);
    const uint32_t calls = ADD(e->calls, 1U);
    *learn = 1;
    if (alone > 0.0F && team > 1.125F * alone) { /* where both are alike, two threads are interrupted for shorter */
        *learn = calls % OFTEN != 0U; /* of two calls with workers the first has to wake them */
        return calls % OFTEN > 1U ? ALONE : TEAM;
    }
    return calls % (team > 0.75F * alone && alone > 0.0F ? OFTEN : RARELY) == FIRST ? ALONE : TEAM;
}

/* The mean over the last calls, to which one that was interrupted adds little. */
static void remember(float *cost, long long time)
{
    const float found = (float)time / ((float)me.all + 1.0F), old = load_cost(cost);
    const float most = found < 4.0F * old ? found : 4.0F * old;
    store_cost(cost, old <= 0.0F ? found : found < old / 2.0F ? (old + found) / 2.0F : old + (most - old) / 8.0F);
}

static void parallel(void (*body)(void *), void *data, unsigned threads)
{
    experience *const known = me.region == NULL && threads > 1U ? experience_of(body, threads) : NULL;
    int learn = 0;
    const int kind = known != NULL ? choose(known, &learn) : ALONE;
    const long long start = learn ? now() : 0;
    region alone, *r = NULL;
    if (kind == TEAM) {
        for (uint32_t k = 0; k < REGIONS && r == NULL; ++k) {
            if (LOAD(regions[k].used) == 0U && change(&regions[k].used, 0U, 1U)) {
                r = &regions[k];
            }
        }
    }
    if (r == NULL) {
        const __typeof__(me) before = me;
        memset(&alone, 0, sizeof alone);
        alone.threads = 1;
        enter(&alone, NULL, 0U, 0U);
        body(data);
        if (learn && kind == ALONE) {
            remember(&known->cost[ALONE], now() - start);
        }
        me = before;
        return;
    }
    r->threads = threads;
    r->body = body;
    r->data = data;
    fegetenv(&r->arithmetic);
    enter(r, NULL, 0U, LOAD(r->next));
    gather(r, threads);
    body(data);
    barrier();
    dismiss(r);
    if (learn) {
        remember(&known->cost[TEAM], now() - start);
    }
    me.region = NULL;
    STORE(r->used, 0U);
}

/* The one thread that goes on after a fork is in no region. */
static void forked(void)
{
    memset(regions, 0, sizeof regions);
    memset(workers, 0, sizeof workers);
    count = creating = 0;
}

const cpgen_team *cpgen_make_team(void);

/* The team, made ready; to be called once. */
const cpgen_team *cpgen_make_team(void)
{
    static const cpgen_team made = {parallel, barrier, single, loop, piece, end, index_of};
    return pthread_atfork(NULL, NULL, forked) == 0 ? &made : NULL;
}
