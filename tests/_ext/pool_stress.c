/* Loops from several callers on one pool, compiled by test_threads.py with ThreadSanitizer: every element once. */

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "_threads.h"

enum { ROUNDS = 4000, MOST = 3000, CALLERS = 3 };

typedef struct {
    unsigned char* done;
    int threads;
    unsigned char busy[8]; /* by thread number: a number is never used twice at a time */
} work;

static int checks;

static void mark(void* task, ptrdiff_t first, ptrdiff_t stop, int thread) {
    work* w = task;
    assert(0 <= thread && thread < w->threads);
    assert(!w->busy[thread]);
    w->busy[thread] = 1;
    for (ptrdiff_t i = first; i < stop; i++) w->done[i]++; /* ThreadSanitizer reports an element in two ranges */
    w->busy[thread] = 0;
}

static void nested(void* task, ptrdiff_t first, ptrdiff_t stop, int thread);
static int never(void) { return 0; }
static int at_once(void) { return __atomic_add_fetch(&checks, 1, __ATOMIC_RELAXED) % 2; }

static void nested(void* task, ptrdiff_t first, ptrdiff_t stop, int thread) {
    unsigned char done[100] = {0};
    work inner = {done, 2, {0}};
    assert(rcnn_parallel_for(mark, &inner, 100, 2, never) == 0);
    for (int i = 0; i < 100; i++) assert(done[i] == 1);
    mark(task, first, stop, thread);
}

static void* call(void* argument) {
    unsigned seed = (unsigned)(intptr_t)argument;
    unsigned char* done = malloc(MOST);
    for (int round = 0; round < ROUNDS; round++) {
        ptrdiff_t count = 1 + rand_r(&seed) % (round % 2 ? MOST : 20);
        work w = {done, 1 + rand_r(&seed) % 4, {0}};
        for (ptrdiff_t i = 0; i < count; i++) done[i] = 0;
        if (rand_r(&seed) % 50 == 0) {
            struct timespec pause = {0, 400000}; /* long enough for the workers to fall asleep */
            nanosleep(&pause, NULL);
        }
        assert(rcnn_parallel_for(round % 97 ? mark : nested, &w, count, w.threads, never) == 0);
        for (ptrdiff_t i = 0; i < count; i++) assert(done[i] == 1);
    }
    free(done);
    return NULL;
}

static void slow(void* task, ptrdiff_t first, ptrdiff_t stop, int thread) {
    struct timespec pause = {0, 30000000};
    mark(task, first, stop, thread);
    nanosleep(&pause, NULL);
}

int main(void) {
    pthread_t callers[CALLERS];
    unsigned char done[64] = {0};
    work w = {done, 3, {0}};
    int stopped = 0;
    for (intptr_t i = 0; i < CALLERS; i++) pthread_create(callers + i, NULL, call, (void*)(i + 1));
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
    for (int threads = 1; threads <= 3; threads += 2) { /* a check that ends the loop leaves the pool usable */
        w.threads = threads;
        stopped += rcnn_parallel_for(slow, &w, 48, threads, at_once) == -1;
        for (int i = 0; i < 64; i++) done[i] = 0;
        assert(rcnn_parallel_for(mark, &w, 64, threads, never) == 0);
        for (int i = 0; i < 64; i++) assert(done[i] == 1);
    }
    assert(stopped == 2);
    printf("rests %lld\n", (long long)rcnn_rests());
    return 0;
}
