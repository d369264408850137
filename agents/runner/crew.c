#include "agents/runner/crew.h"

#include <errno.h>
#include <time.h>

#include "protocol/base/log.h"

#define CREW_TICK_MS     2  /* how long the seat may stay empty unnoticed */
#define CREW_CALM_MS     50 /* without a frame for so long the watch sleeps */
#define CREW_BENCH_S     10
#define CREW_STACK_BYTES (256u * 1024)

int64_t crew_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t crew_now_ms(void)
{
    return crew_now_ns() / 1000000;
}

void crew_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void crew_init(struct crew *c, void *(*body)(void *), void *arg)
{
    *c = (struct crew){.body = body, .arg = arg};
    pthread_mutex_init(&c->lock, NULL);
    crew_cond_init(&c->watch);
    crew_cond_init(&c->benched);
}

void crew_deinit(struct crew *c)
{
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->watch);
    pthread_cond_destroy(&c->benched);
}

bool crew_wait(struct crew *c, pthread_cond_t *cond, int64_t until_ms)
{
    if (until_ms == INT64_MAX) {
        pthread_cond_wait(cond, &c->lock);
        return true;
    }
    struct timespec until = {until_ms / 1000, until_ms % 1000 * 1000000};
    return pthread_cond_timedwait(cond, &c->lock, &until) != ETIMEDOUT;
}

/* false: the time is over. */
static bool wait_ms(struct crew *c, pthread_cond_t *cond, int64_t ms)
{
    int64_t at = crew_now_ns() + ms * 1000000;
    struct timespec until = {at / 1000000000, at % 1000000000};
    return pthread_cond_timedwait(cond, &c->lock, &until) != ETIMEDOUT;
}

void crew_spawn(struct crew *c)
{
    if (c->threads >= CREW_THREADS_MAX) {
        return;
    }
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, CREW_STACK_BYTES);
    if (pthread_create(&thread, &attr, c->body, c->arg) == 0) {
        c->threads++;
        c->coming++;
    } else {
        log_warn("runner.threads", "count=%u cannot start another one", c->threads);
    }
    pthread_attr_destroy(&attr);
}

void crew_joined(struct crew *c)
{
    c->coming--;
}

/* Whether someone was there to be called. */
static bool call_bench(struct crew *c)
{
    if (c->bench <= c->bench_called) {
        return false;
    }
    c->bench_called++;
    c->coming++;
    pthread_cond_signal(&c->benched);
    return true;
}

/* The bench goes first, so that the watch stays. */
void crew_summon(struct crew *c)
{
    if (call_bench(c)) {
        return;
    }
    if (c->watch_here && !c->watch_called) {
        c->watch_called = true;
        pthread_cond_signal(&c->watch);
    } else {
        crew_spawn(c);
    }
}

void crew_want_watch(struct crew *c)
{
    if (!c->watch_here && c->coming == 0 && !call_bench(c)) {
        crew_spawn(c);
    }
}

void crew_leave_seat(struct crew *c)
{
    c->seat_taken = false;
    c->seat_left_ms = crew_now_ms();
    if (c->watch_here && c->watch_asleep) {
        pthread_cond_signal(&c->watch);
    }
}

void crew_keep_watch(struct crew *c)
{
    c->watch_here = true;
    while (!c->watch_called) {
        int64_t since = crew_now_ms() - c->seat_left_ms; /* also the age of the last frame */
        if (!c->seat_taken && since >= CREW_TICK_MS) {
            break;
        }
        if (c->seat_taken && since > CREW_CALM_MS) {
            c->watch_asleep = true;
            pthread_cond_wait(&c->watch, &c->lock);
            c->watch_asleep = false;
        } else {
            (void)wait_ms(c, &c->watch, CREW_TICK_MS);
        }
    }
    c->watch_here = c->watch_called = false;
}

bool crew_sit_on_bench(struct crew *c)
{
    bool in_time = true;
    c->bench++;
    while (c->bench_called == 0 && in_time) {
        in_time = wait_ms(c, &c->benched, CREW_BENCH_S * 1000);
    }
    c->bench--;
    if (c->bench_called > 0) {
        c->bench_called--;
        c->coming--;
        return true;
    }
    return c->threads <= CREW_AT_WORK;
}
