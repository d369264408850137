/* Who of a runner's threads does what: the seat of the reader, the watch, the bench. What there is
 * to do is in pool.h; both live under the one lock here, which every function wants held.
 *
 *     at work   runs a handler, or reads (has the seat)
 *     watch     at most one; while handlers run it looks every CREW_TICK_MS whether the seat has
 * been empty for so long that somebody has to read; sleeps when nothing goes on bench     waits
 * until called; ends when it was not needed for CREW_BENCH_S */
#ifndef AGENTS_RUNNER_CREW_H
#define AGENTS_RUNNER_CREW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol/limits.h"

#define CREW_AT_WORK     2 /* threads that are worth having for short handlers; these never end */
#define CREW_THREADS_MAX (LIMIT_RUNNER_BLOCKED + 8)

struct crew {
    pthread_mutex_t lock;
    void *(*body)(void *); /* of a new thread; begins with crew_joined */
    void *arg;
    bool seat_taken;      /* someone reads, or is about to */
    int64_t seat_left_ms; /* when it became empty */
    unsigned threads;
    unsigned coming; /* called or started, and did not look around yet */
    unsigned bench, bench_called;
    bool watch_here;   /* a thread waits as the watch */
    bool watch_asleep; /* ... without ticks */
    bool watch_called;
    pthread_cond_t watch, benched;
};

void crew_init(struct crew *c, void *(*body)(void *), void *arg);
void crew_deinit(struct crew *c);
void crew_cond_init(pthread_cond_t *cond); /* on the clock of crew_now_ms */
int64_t crew_now_ns(void);
int64_t crew_now_ms(void);
/* Wait until `cond` is signalled (perhaps for nothing); false: crew_now_ms has come to until_ms
 * (INT64_MAX: never). */
bool crew_wait(struct crew *c, pthread_cond_t *cond, int64_t until_ms);

/* Start a thread unless there are CREW_THREADS_MAX. */
void crew_spawn(struct crew *c);
/* First deed of a thread. */
void crew_joined(struct crew *c);
/* Someone shall come and look for work or take the seat: from the bench, the watch, or new. */
void crew_summon(struct crew *c);
/* There shall be a watch: a handler begins. */
void crew_want_watch(struct crew *c);
/* The seat is empty from now on; wakes a watch that sleeps. */
void crew_leave_seat(struct crew *c);
/* Be the watch; returns when called or when the seat has been empty too long. */
void crew_keep_watch(struct crew *c);
/* Wait to be called; false: the thread is not needed any more and shall end. */
bool crew_sit_on_bench(struct crew *c);

#endif
