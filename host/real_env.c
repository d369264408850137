/* The real environment: the machine's clock and randomness, libevent timers, the storage thread. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <event2/event_struct.h>
#include <sodium.h>

#include "host/host.h"
#include "persistence/failpoint.h"
#include "protocol/base/log.h"

#define TURN_READS 64

struct env_timer {
    struct event event; /* in here: one block for each, and there is one for each request */
    void (*fire)(void *arg);
    void *arg;
};

/* In a hurry (failpoint.h) both clocks go faster, and alike on all hosts of this machine: as much
 * as time has passed since it was started. */
static int64_t mono_us(void *ctx)
{
    struct timespec t;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return ((int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000) * failpoint_speed;
}

static int64_t wall_ms(void *ctx)
{
    struct timespec t;
    int64_t ahead_ms =
        failpoint_speed == 1 ? 0 : mono_us(ctx) / failpoint_speed * (failpoint_speed - 1) / 1000;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + ahead_ms;
}

/* Reading the clock costs 50 ns in a virtual machine, and a turn under load serves many messages:
 * one reading for all, and a new one now and then, since a turn goes on as long as its callbacks
 * make more. */
static int64_t turn_us(void *ctx)
{
    struct host *h = ctx;
    if (h->turn_us == 0 || ++h->turn_reads >= TURN_READS) {
        h->turn_us = mono_us(ctx);
        h->turn_reads = 0;
    }
    return h->turn_us;
}

/* Each message takes a few bytes: they come from a supply, so that not every one of them is a
 * system call. What has been given out does not stay in it. */
static void random_bytes(void *ctx, void *ret, size_t n)
{
    struct host *h = ctx;
    if (n > sizeof h->random / 4) {
        randombytes_buf(ret, n);
        return;
    }
    if (h->random_left < n) {
        randombytes_buf(h->random, sizeof h->random);
        h->random_left = sizeof h->random;
    }
    h->random_left -= n;
    memcpy(ret, h->random + h->random_left, n);
    memset(h->random + h->random_left, 0, n);
}

/* ---- timers ---- */

static void timer_event(evutil_socket_t fd, short what, void *arg)
{
    struct env_timer *t = arg;
    (void)fd, (void)what;
    t->fire(t->arg);
}

static struct env_timer *timer_new(void *ctx, void (*fire)(void *arg), void *arg)
{
    struct host *h = ctx;
    struct env_timer *t = xcalloc(1, sizeof *t);
    t->fire = fire;
    t->arg = arg;
    int failed = event_assign(&t->event, h->base, -1, 0, timer_event, t);
    gw_assert(failed == 0);
    return t;
}

static struct timeval after_ms(int64_t ms)
{
    int64_t us = ms > INT64_MAX / 1000 ? INT64_MAX : ms * 1000;
    us /= failpoint_speed;
    return (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
}

static void timer_start(void *ctx, struct env_timer *t, int64_t delay_ms)
{
    struct timeval tv = after_ms(delay_ms < 0 ? 0 : delay_ms);
    (void)ctx;
    event_add(&t->event, &tv);
}

static void timer_stop(void *ctx, struct env_timer *t)
{
    (void)ctx;
    if (t) {
        event_del(&t->event);
    }
}

static void timer_free(void *ctx, struct env_timer *t)
{
    (void)ctx;
    if (t) {
        event_del(&t->event);
        free(t);
    }
}

struct deferred {
    void (*run)(void *arg);
    void *arg;
};

static void deferred_event(evutil_socket_t fd, short what, void *arg)
{
    struct deferred d = *(struct deferred *)arg;
    (void)fd, (void)what;
    free(arg);
    d.run(d.arg);
}

static void defer(void *ctx, void (*run)(void *arg), void *arg)
{
    struct host *h = ctx;
    struct deferred *d = xcalloc(1, sizeof *d);
    struct timeval now = {0};
    *d = (struct deferred){run, arg};
    if (event_base_once(h->base, -1, EV_TIMEOUT, deferred_event, d, &now) != 0) {
        log_die("memory", "out of memory for a turn of the loop");
    }
}

/* ---- the store ---- */

static void wake_loop(void *arg)
{
    struct host *h = arg;
    uint64_t one = 1;
    ssize_t n = write(h->storage_fd, &one, sizeof one);
    (void)n; /* full means awake */
}

static void storage_event(evutil_socket_t fd, short what, void *arg)
{
    struct host *h = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n, (void)what;
    storage_complete(h->storage);
}

static void commit(void *ctx, struct store_batch *batch, storage_done done, void *arg)
{
    struct host *h = ctx;
    if (!h->storage) {
        store_batch_free(batch); /* after the end: nobody would be told */
        return;
    }
    storage_commit(h->storage, batch, done, arg);
}

static void read_store(void *ctx, const struct store_range *ranges, size_t n,
                       storage_read_done done, void *arg)
{
    struct host *h = ctx;
    if (h->storage) {
        storage_read(h->storage, ranges, n, done, arg);
    }
}

/* ---- runners: processes, and the one of the built-in types ---- */

static bool is_inline(const struct host *h, size_t index)
{
    return index == h->plugins.len;
}

static void runner_start(void *ctx, size_t index)
{
    if (is_inline(ctx, index)) {
        inline_start(ctx);
    } else {
        spawn_start(ctx, index);
    }
}

static void runner_send(void *ctx, size_t index, struct buf *frame)
{
    if (is_inline(ctx, index)) {
        inline_send(ctx, frame);
    } else {
        spawn_send(ctx, index, frame);
    }
}

static void runner_kill(void *ctx, size_t index)
{
    gw_assert(!is_inline(ctx, index)); /* its engine is ours: what it answers is right */
    spawn_kill(ctx, index);
}

gw_err real_env_open(struct host *h, struct gw_error *why)
{
    h->env = (struct gw_env){.ctx = h,
                             .wall_ms = wall_ms,
                             .mono_us = mono_us,
                             .turn_us = turn_us,
                             .random = random_bytes,
                             .timer_new = timer_new,
                             .timer_start = timer_start,
                             .timer_stop = timer_stop,
                             .timer_free = timer_free,
                             .defer = defer,
                             .commit = commit,
                             .read = read_store,
                             .peer_send = links_send,
                             .peer_want = links_want,
                             .peer_drop = links_drop,
                             .peer_rival = links_rival,
                             .runner_start = runner_start,
                             .runner_send = runner_send,
                             .runner_kill = runner_kill,
                             .inline_run = inline_run,
                             .agent_gone = agent_dir_ops_gone,
                             .file_op = file_ops_run};
    GW_TRY(store_open_sqlite(h->dir, &h->store, why));
    h->storage_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (h->storage_fd < 0) {
        return gw_fail(why, GW_EIO, "cannot make an eventfd: %m");
    }
    h->storage_wake = event_new(h->base, h->storage_fd, EV_READ | EV_PERSIST, storage_event, h);
    if (!h->storage_wake || event_add(h->storage_wake, NULL) != 0 ||
        storage_start(h->store, wake_loop, h, &h->storage) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot start the storage thread");
    }
    return GW_OK;
}

void real_env_stop(struct host *h)
{
    if (h->storage) {
        h->store = storage_stop(h->storage); /* its callbacks may ask for more: that is done, too */
        h->storage = NULL;
    }
}

void real_env_close(struct host *h)
{
    real_env_stop(h);
    if (h->storage_wake) {
        event_free(h->storage_wake);
    }
    if (h->storage_fd > 0) {
        close(h->storage_fd);
    }
    store_close(h->store);
}
