/* A pool of threads that execute the parts of a loop. It stays fast if other programs also use the processors.

A loop of a kernel often takes only microseconds. If a thread loses its processor to another program in the middle of a
loop, it continues only some milliseconds later, and all other threads would have to wait for it. Three rules avoid most
such waits:

1. No thread owns a part. A thread claims a part when it begins this part. Therefore, the caller executes all parts that
   no worker has begun, and waits only for parts that have begun.
2. Waiting is short. A worker without work spins for 200 us, so that it is ready for the next loop of the same pass, and
   then sleeps. The caller spins for 50 us, and then yields its processor.
3. A governor watches the clock. If a wait shows that a thread had no processor, the next loops run on the calling
   thread alone. This lasts ten times as long as the delay. On an idle machine, it never happens.

One 64-bit word holds the generation (the number of the loop) and how many of its parts nobody has claimed yet. A thread
claims a part by compare-and-swap of the whole word. If this succeeds, the generation has not changed. The fields of the
loop, which the thread has read before, then belong to this part. Fields change only while no part is left.

The pool serves one loop at a time. A caller that finds it taken (another Python thread, or a loop within a loop) runs
alone. Results do not depend on who executes which part. */

#ifndef RCNN_THREADS_H
#define RCNN_THREADS_H

#include <stddef.h>
#include <stdint.h>

typedef void (*rcnn_body)(void* task, ptrdiff_t first, ptrdiff_t stop, int thread);
typedef int (*rcnn_check)(void); /* returns nonzero if the loop has to end early */

enum {
    RCNN_MOST_THREADS = 256, /* backend.MOST_THREADS */
    RCNN_PARTS = 16 /* per thread: few enough to be claimed quickly, and enough for all threads to finish together */
};

#define RCNN_SPIN 200000         /* ns until a worker without work sleeps */
#define RCNN_CALLER_SPIN 50000   /* ns until the waiting caller yields */
#define RCNN_LONG_WAIT 300000    /* ns; if a wait exceeds the caller's longest part by it, a worker had no processor */
#define RCNN_LATE 1500000        /* ns; after a longer delay, an idle worker had no processor, or was woken late */
#define RCNN_REST 10             /* loops run on one thread for this many times the delay */
#ifndef RCNN_MOST_REST
#define RCNN_MOST_REST 1000000000
#endif
#define RCNN_CHECK 50000000      /* ns between two calls of the check */

/* ---------------------------------------------------------------- the clock, atomics and threads of the platform */

#if defined(__wasm__) && !defined(_REENTRANT)
#define RCNN_NO_THREADS 1
#endif

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <process.h>

typedef volatile LONG64 rcnn_atomic;
#define rcnn_load(p) InterlockedCompareExchange64((p), 0, 0)
#define rcnn_store(p, value) ((void)InterlockedExchange64((p), (value)))
#define rcnn_add(p, value) InterlockedExchangeAdd64((p), (value))
#define rcnn_swap(p, old, new) (InterlockedCompareExchange64((p), (new), (old)) == (old))
#define rcnn_pause() YieldProcessor()
#define rcnn_yield() ((void)SwitchToThread())

static int64_t rcnn_now(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return count.QuadPart / frequency.QuadPart * 1000000000 +
           count.QuadPart % frequency.QuadPart * 1000000000 / frequency.QuadPart;
}
#define rcnn_coarse_now rcnn_now

typedef struct { SRWLOCK lock; CONDITION_VARIABLE condition; } rcnn_bed;
static void rcnn_make_bed(rcnn_bed* b) { InitializeSRWLock(&b->lock); InitializeConditionVariable(&b->condition); }
static void rcnn_sleep(rcnn_bed* b, rcnn_atomic* asleep) {
    AcquireSRWLockExclusive(&b->lock);
    while (rcnn_load(asleep)) SleepConditionVariableSRW(&b->condition, &b->lock, INFINITE, 0);
    ReleaseSRWLockExclusive(&b->lock);
}
static void rcnn_wake(rcnn_bed* b, rcnn_atomic* asleep) {
    AcquireSRWLockExclusive(&b->lock);
    rcnn_store(asleep, 0);
    ReleaseSRWLockExclusive(&b->lock);
    WakeConditionVariable(&b->condition);
}

#define RCNN_THREAD unsigned __stdcall
static int rcnn_start(unsigned(__stdcall* run)(void*), void* argument) {
    uintptr_t thread = _beginthreadex(NULL, 1 << 20, run, argument, 0, NULL);
    if (!thread) return 0;
    CloseHandle((HANDLE)thread);
    return 1;
}

#else

#include <time.h>

typedef int64_t rcnn_atomic;
#define rcnn_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define rcnn_store(p, value) __atomic_store_n((p), (value), __ATOMIC_SEQ_CST)
#define rcnn_add(p, value) __atomic_fetch_add((p), (value), __ATOMIC_SEQ_CST)
static inline int rcnn_swap(rcnn_atomic* p, int64_t old, int64_t value) {
    return __atomic_compare_exchange_n(p, &old, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

#if defined(__EMSCRIPTEN__)
/* Not clock_gettime, because its result has 32-bit seconds in old versions of Emscripten, and 64-bit ones in new ones. */
double emscripten_get_now(void); /* ms */
static int64_t rcnn_now(void) { return (int64_t)(emscripten_get_now() * 1e6); }
#else
static int64_t rcnn_read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
#define rcnn_now() rcnn_read_clock(CLOCK_MONOTONIC)
#endif

#if defined(CLOCK_MONOTONIC_COARSE) && !defined(__EMSCRIPTEN__)
#define rcnn_coarse_now() rcnn_read_clock(CLOCK_MONOTONIC_COARSE) /* four times as fast, exact to some milliseconds */
#else
#define rcnn_coarse_now rcnn_now
#endif

#if !defined(RCNN_NO_THREADS)

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#if defined(__x86_64__) || defined(__i386__)
#define rcnn_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define rcnn_pause() __asm__ volatile("yield")
#else
#define rcnn_pause() ((void)0)
#endif
#define rcnn_yield() ((void)sched_yield())

#if defined(__linux__)

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct { int32_t down; } rcnn_bed; /* 1 while its worker sleeps, or is about to */
static void rcnn_make_bed(rcnn_bed* b) { b->down = 0; }
static void rcnn_sleep(rcnn_bed* b, rcnn_atomic* asleep) {
    __atomic_store_n(&b->down, 1, __ATOMIC_SEQ_CST);
    while (rcnn_load(asleep)) syscall(SYS_futex, &b->down, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
}
static void rcnn_wake(rcnn_bed* b, rcnn_atomic* asleep) {
    rcnn_store(asleep, 0);
    __atomic_store_n(&b->down, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &b->down, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#else

typedef struct { pthread_mutex_t lock; pthread_cond_t condition; } rcnn_bed;
static void rcnn_make_bed(rcnn_bed* b) {
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->condition, NULL);
}
static void rcnn_sleep(rcnn_bed* b, rcnn_atomic* asleep) {
    pthread_mutex_lock(&b->lock);
    while (rcnn_load(asleep)) pthread_cond_wait(&b->condition, &b->lock);
    pthread_mutex_unlock(&b->lock);
}
static void rcnn_wake(rcnn_bed* b, rcnn_atomic* asleep) {
    pthread_mutex_lock(&b->lock);
    rcnn_store(asleep, 0);
    pthread_mutex_unlock(&b->lock);
    pthread_cond_signal(&b->condition);
}

#endif

#define RCNN_THREAD void*
static int rcnn_start(void* (*run)(void*), void* argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int failed;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* only Python's threads receive signals */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, &attributes, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

#endif
#endif

/* ---------------------------------------------------------------- parts of a loop */

/* Execute part number `part` of `parts`; parts differ by at most one element. */
static void rcnn_run_part(
    rcnn_body body, void* task, ptrdiff_t count, ptrdiff_t parts, ptrdiff_t part, int thread
) {
    ptrdiff_t size = count / parts, larger = count % parts;
    ptrdiff_t first = part * size + (part < larger ? part : larger);
    body(task, first, first + size + (part < larger), thread);
}

static int rcnn_run_alone(rcnn_body body, void* task, ptrdiff_t count, rcnn_check check) {
    ptrdiff_t part, parts = count < RCNN_PARTS ? count : RCNN_PARTS;
    int64_t now, checked = rcnn_coarse_now();
    for (part = 0; part < parts; part++) {
        rcnn_run_part(body, task, count, parts, part, 0);
        now = rcnn_coarse_now();
        if (now - checked > RCNN_CHECK) {
            if (check()) return -1;
            checked = now;
        }
    }
    return 0;
}

#if defined(RCNN_NO_THREADS)

static int rcnn_parallel_for(rcnn_body body, void* task, ptrdiff_t count, int threads, rcnn_check check) {
    (void)threads;
    return rcnn_run_alone(body, task, count, check);
}
static int64_t rcnn_rests(void) { return 0; }

#else

/* ---------------------------------------------------------------- the pool */

#if defined(_MSC_VER)
#define RCNN_OWN_LINE __declspec(align(64))
#else
#define RCNN_OWN_LINE __attribute__((aligned(64)))
#endif

typedef struct {
    RCNN_OWN_LINE rcnn_atomic asleep; /* 1 while the worker sleeps */
    rcnn_atomic woken_at;
    rcnn_bed bed;
} rcnn_worker;

static struct {
    RCNN_OWN_LINE rcnn_atomic word;    /* generation << 32 | parts that are left */
    RCNN_OWN_LINE rcnn_atomic pending; /* parts that are not finished */
    RCNN_OWN_LINE rcnn_atomic taken;   /* 1 while a caller uses the pool */
    /* the loop; atomic, because a late worker may read it while the next loop is written (it discards these values) */
    rcnn_atomic body, task, count, parts, threads;
    RCNN_OWN_LINE rcnn_atomic rest_until; /* loops run on one thread until this time */
    rcnn_atomic rests;                    /* how often the governor has reduced the number of threads */
    int workers;                          /* read and written only by the caller that has taken the pool */
    int prepared;
    rcnn_worker worker[RCNN_MOST_THREADS];
} rcnn_pool;

/* Run the next loops on one thread, because a thread had no processor for `delay` ns. */
static void rcnn_rest(int64_t now, int64_t delay) {
    int64_t rest = delay < RCNN_MOST_REST / RCNN_REST ? delay * RCNN_REST : RCNN_MOST_REST;
    if (now + rest > rcnn_load(&rcnn_pool.rest_until)) rcnn_store(&rcnn_pool.rest_until, now + rest);
    rcnn_add(&rcnn_pool.rests, 1);
}

/* Claim and execute one part of the current loop; return 0 if none is left for this thread. */
static int rcnn_take_part(int thread) {
    int64_t word = rcnn_load(&rcnn_pool.word), left = word & 0xffffffff;
    rcnn_body body;
    void* task;
    int64_t count, parts;
    while (left) {
        body = (rcnn_body)(intptr_t)rcnn_load(&rcnn_pool.body);
        task = (void*)(intptr_t)rcnn_load(&rcnn_pool.task);
        count = rcnn_load(&rcnn_pool.count);
        parts = rcnn_load(&rcnn_pool.parts);
        if (thread >= rcnn_load(&rcnn_pool.threads)) return 0;
        if (rcnn_swap(&rcnn_pool.word, word, word - 1)) {
            rcnn_run_part(body, task, (ptrdiff_t)count, (ptrdiff_t)parts, (ptrdiff_t)(parts - left), thread);
            rcnn_add(&rcnn_pool.pending, -1);
            return 1;
        }
        word = rcnn_load(&rcnn_pool.word);
        left = word & 0xffffffff;
    }
    return 0;
}

static int rcnn_has_work(int thread) {
    return (rcnn_load(&rcnn_pool.word) & 0xffffffff) && thread < rcnn_load(&rcnn_pool.threads);
}

static RCNN_THREAD rcnn_work(void* argument) {
    rcnn_worker* self = argument;
    int i, thread = (int)(self - rcnn_pool.worker) + 1;
    int64_t now, before, began;
    for (;;) {
        while (rcnn_take_part(thread)) {}
        began = before = rcnn_now();
        for (;;) { /* spin for a while */
            for (i = 0; i < 32 && !rcnn_has_work(thread); i++) rcnn_pause();
            if (i < 32) break;
            rcnn_yield();
            now = rcnn_now();
            if (now - before > RCNN_LATE) rcnn_rest(now, now - before);
            before = now;
            if (now - began > RCNN_SPIN) {
                rcnn_store(&self->asleep, 1);
                if (rcnn_has_work(thread)) { /* the loop began before the caller could see that this worker sleeps */
                    rcnn_store(&self->asleep, 0);
                    break;
                }
                rcnn_sleep(&self->bed, &self->asleep);
                now = rcnn_now();
                before = rcnn_load(&self->woken_at);
                if (now - before > RCNN_LATE) rcnn_rest(now, now - before);
                break;
            }
        }
    }
    return 0; /* never reached */
}

#if !defined(_WIN32)
/* The workers do not exist in a forked child, so it begins with an empty pool. */
static void rcnn_after_fork(void) {
    int64_t word = rcnn_load(&rcnn_pool.word);
    rcnn_store(&rcnn_pool.word, word & ~(int64_t)0xffffffff);
    rcnn_store(&rcnn_pool.pending, 0);
    rcnn_store(&rcnn_pool.taken, 0);
    rcnn_pool.workers = 0;
}
#endif

/* Start workers until the pool has `count` of them, or as many as the system allows. */
static void rcnn_hire(int count) {
    if (!rcnn_pool.prepared) {
        rcnn_pool.prepared = 1;
#if !defined(_WIN32)
        pthread_atfork(NULL, NULL, rcnn_after_fork);
#endif
    }
    while (rcnn_pool.workers < count) {
        rcnn_worker* worker = rcnn_pool.worker + rcnn_pool.workers;
        rcnn_make_bed(&worker->bed);
        rcnn_store(&worker->asleep, 0);
        if (!rcnn_start(rcnn_work, worker)) return;
        rcnn_pool.workers++;
    }
}

/* Give up the parts that nobody has claimed. */
static void rcnn_cancel(void) {
    int64_t word, left;
    do {
        word = rcnn_load(&rcnn_pool.word);
        left = word & 0xffffffff;
    } while (!rcnn_swap(&rcnn_pool.word, word, word - left));
    rcnn_add(&rcnn_pool.pending, -left);
}

/* Call body(task, first, stop, thread) for ranges that together cover 0 .. count - 1, on at most `threads` threads.

The ranges run in any order. `thread` is less than `threads`, and differs between calls that run at the same time.
Return 0, or -1 if check() ended the loop early. */
static int rcnn_parallel_for(rcnn_body body, void* task, ptrdiff_t count, int threads, rcnn_check check) {
    int64_t parts, start, now, before, longest = 0, checked;
    int i, stopped = 0;
    if (threads > RCNN_MOST_THREADS) threads = RCNN_MOST_THREADS;
    if (threads > count) threads = (int)count;
    if (threads <= 1) return rcnn_run_alone(body, task, count, check);
    now = rcnn_now();
    if (now < rcnn_load(&rcnn_pool.rest_until) || !rcnn_swap(&rcnn_pool.taken, 0, 1))
        return rcnn_run_alone(body, task, count, check);
    rcnn_hire(threads - 1);
    if (threads > rcnn_pool.workers + 1) threads = rcnn_pool.workers + 1;
    parts = (int64_t)threads * RCNN_PARTS;
    if (parts > count) parts = count;
    rcnn_store(&rcnn_pool.body, (int64_t)(intptr_t)body);
    rcnn_store(&rcnn_pool.task, (int64_t)(intptr_t)task);
    rcnn_store(&rcnn_pool.count, count);
    rcnn_store(&rcnn_pool.parts, parts);
    rcnn_store(&rcnn_pool.threads, threads);
    rcnn_store(&rcnn_pool.pending, parts);
    rcnn_store(&rcnn_pool.word, (int64_t)(((uint64_t)(rcnn_load(&rcnn_pool.word) >> 32) + 1) << 32 | (uint64_t)parts));
    for (i = 0; i < threads - 1; i++) {
        rcnn_worker* worker = rcnn_pool.worker + i;
        if (rcnn_load(&worker->asleep)) {
            rcnn_store(&worker->woken_at, now);
            rcnn_wake(&worker->bed, &worker->asleep);
        }
    }
    before = checked = rcnn_now();
    while (rcnn_take_part(0)) {
        now = rcnn_now();
        if (now - before > longest) longest = now - before;
        before = now;
        if (now - checked > RCNN_CHECK) {
            if (check()) {
                stopped = -1;
                rcnn_cancel();
                break;
            }
            checked = before = rcnn_now();
        }
    }
    start = now = before;
    while (rcnn_load(&rcnn_pool.pending)) {
        if (now - start < RCNN_CALLER_SPIN) rcnn_pause();
        else rcnn_yield();
        now = rcnn_now();
    }
    if (now - start > RCNN_LONG_WAIT + longest) rcnn_rest(now, now - start);
    rcnn_store(&rcnn_pool.taken, 0);
    return stopped;
}

static int64_t rcnn_rests(void) { return rcnn_load(&rcnn_pool.rests); }

#endif
#endif
