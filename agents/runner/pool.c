#include "agents/runner/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <uthash.h>

#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/value.h"

#define POOL_TICK_MS       2     /* how long the seat may stay empty unnoticed */
#define POOL_CALM_MS       50    /* without a frame for so long the watch sleeps until called */
#define POOL_SLOW_NS       20000 /* a handler slower than waking another thread */
#define POOL_AT_WORK       2     /* threads that are worth having for short handlers */
#define POOL_THREADS_MAX   (LIMIT_RUNNER_BLOCKED + 8)
#define POOL_BENCH_S       10 /* a thread not needed for so long ends */
#define POOL_STACK_BYTES   (256u * 1024)
#define POOL_COMPANY_BYTES 4096 /* a larger answer gains nothing from leaving with others */
#define POOL_KEEP_BYTES    (1024u * 1024) /* an answer buffer larger than this is not kept */

/* A busy agent: the frames that wait for it, the one at work excluded. */
struct lane {
    gw_id id;
    struct engine_agent *agent; /* held while the lane lives */
    STAILQ_HEAD(, packet) packets;
    STAILQ_ENTRY(lane) next; /* in `ready` */
    UT_hash_handle hh;
};

/* A handler that waits for the answer to its CALL. */
struct ask {
    uint64_t stream;
    struct packet *answer; /* NULL until it is here */
    pthread_cond_t here;
    LIST_ENTRY(ask) next;
};

struct pool {
    struct wire *wire;
    struct engine *engine;
    pthread_mutex_t lock;      /* of everything below; never held while reading or in a handler */
    struct lane *lanes;        /* busy agents by id */
    STAILQ_HEAD(, lane) ready; /* wait for a thread */
    LIST_HEAD(, ask) asks;
    uint64_t streams;     /* of our CALLs */
    bool seat_taken;      /* someone reads, or is about to */
    int64_t seat_left_ms; /* when it became empty */
    int64_t last_frame_ms;
    int64_t slow_ns; /* running mean of the time in handlers */
    unsigned threads, at_work, blocked;
    bool watch_here;   /* a thread is the watch, waiting */
    bool watch_asleep; /* ... until called, without ticks */
    bool watch_called;
    unsigned bench; /* threads that wait on `benched` */
    unsigned bench_called;
    unsigned coming; /* threads called or started that did not look around yet */
    pthread_cond_t watch, benched;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ms(void)
{
    return now_ns() / 1000000;
}

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* false: the time is over. */
static bool wait_ms(struct pool *p, pthread_cond_t *cond, int64_t ms)
{
    int64_t at = now_ns() + ms * 1000000;
    struct timespec until = {at / 1000000000, at % 1000000000};
    return pthread_cond_timedwait(cond, &p->lock, &until) != ETIMEDOUT;
}

static __attribute__((noreturn)) void gone(gw_err err)
{
    if (err == GW_ENOMEM) {
        log_die("runner.memory", "out of memory for a frame; stopping");
    }
    if (err != GW_EIO) {
        log_die("runner.protocol", "error=%s what the host sends is not a frame; stopping",
                gw_err_name(err));
    }
    _exit(0); /* the host ended: what it did not commit does not count */
}

static void send_or_die(gw_err err)
{
    if (err != GW_OK) {
        gone(err == GW_EIO ? GW_EIO : GW_ENOMEM);
    }
}

/* --- calling threads (lock held) --- */

static void *thread_main(void *arg);

static void spawn(struct pool *p)
{
    if (p->threads >= POOL_THREADS_MAX) {
        return;
    }
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, POOL_STACK_BYTES);
    if (pthread_create(&thread, &attr, thread_main, p) == 0) {
        p->threads++;
        p->coming++;
    } else {
        log_warn("runner.threads", "count=%u cannot start another one", p->threads);
    }
    pthread_attr_destroy(&attr);
}

static void call_bench(struct pool *p)
{
    p->bench_called++;
    p->coming++;
    pthread_cond_signal(&p->benched);
}

/* Someone shall look for work or take the seat. The bench goes first, so that the watch stays. */
static void summon(struct pool *p)
{
    if (p->bench > p->bench_called) {
        call_bench(p);
    } else if (p->watch_here && !p->watch_called) {
        p->watch_called = true;
        pthread_cond_signal(&p->watch);
    } else {
        spawn(p);
    }
}

/* There shall be a watch while handlers run. */
static void want_watch(struct pool *p)
{
    if (p->watch_here || p->coming > 0) {
        return;
    }
    if (p->bench > p->bench_called) {
        call_bench(p);
    } else {
        spawn(p);
    }
}

/* The seat is empty: a handler that waits for its answer takes it (nobody else would read it in
 * time), else the watch looks after it. */
static void leave_seat(struct pool *p)
{
    p->seat_taken = false;
    p->seat_left_ms = p->last_frame_ms = now_ms();
    struct ask *a;
    LIST_FOREACH (a, &p->asks, next) {
        if (!a->answer) {
            pthread_cond_signal(&a->here);
            return;
        }
    }
    if (p->watch_here && p->watch_asleep) {
        pthread_cond_signal(&p->watch); /* ticks from now on */
    }
}

/* --- frames coming in (lock held) --- */

static bool deliver(struct pool *p, struct packet *packet)
{
    struct ask *a;
    LIST_FOREACH (a, &p->asks, next) {
        if (a->stream == packet->frame.stream && !a->answer) {
            a->answer = packet;
            pthread_cond_signal(&a->here);
            return true;
        }
    }
    return false; /* of nobody: late, or not of us */
}

/* RUN or UNLOAD: into the lane of its agent; returns the lane when it was not busy. */
static struct lane *enqueue(struct pool *p, struct packet *packet)
{
    gw_id id;
    if (engine_target(&packet->frame, &id) != GW_OK) {
        gone(GW_EPROTO);
    }
    struct lane *lane;
    HASH_FIND(hh, p->lanes, &id, sizeof id, lane);
    bool busy = lane;
    if (!busy) {
        lane = calloc(1, sizeof *lane);
        if (!lane || !(lane->agent = engine_hold(p->engine, &id))) {
            log_die("runner.memory", "out of memory for an agent; stopping");
        }
        lane->id = id;
        STAILQ_INIT(&lane->packets);
        HASH_ADD(hh, p->lanes, id, sizeof lane->id, lane);
    }
    STAILQ_INSERT_TAIL(&lane->packets, packet, next);
    return busy ? NULL : lane;
}

static void answer_other(struct pool *p, const struct frame *f)
{
    struct buf out = {0};
    if (f->kind == FRAME_PING) {
        frame_end(&out, frame_begin(&out, FRAME_PONG, f->stream, 0));
    } else if (f->stream != 0 && f->kind != FRAME_CANCEL) {
        frame_reply(&out, f->stream, GW_ENOT_SUPPORTED, (struct span){0}, NULL);
    }
    if (out.len > 0) {
        send_or_die(wire_write(p->wire, &out));
    }
    buf_free(&out);
}

/* Sort one frame; returns a lane that can run now. */
static struct lane *sort(struct pool *p, struct packet *packet)
{
    switch (packet->frame.kind) {
    case FRAME_RUN:
    case FRAME_UNLOAD: return enqueue(p, packet);
    case FRAME_REPLY:
        if (!deliver(p, packet)) {
            free(packet);
        }
        return NULL;
    default:
        answer_other(p, &packet->frame);
        free(packet);
        return NULL;
    }
}

/* Read as the leader (lock held, seat empty): until a lane can run, which is returned, or with
 * `mine` until its answer is here; lanes then go to `ready`. The seat is empty again on return. */
static struct lane *lead(struct pool *p, struct ask *mine)
{
    struct lane *lane = NULL;
    p->seat_taken = true;
    while (!lane && !(mine && mine->answer)) {
        struct packet *packet;
        pthread_mutex_unlock(&p->lock);
        if (!wire_ready(p->wire)) { /* nothing more is at hand: answers that wait for company go */
            send_or_die(wire_flush(p->wire));
        }
        gw_err err = wire_read(p->wire, &packet);
        if (err != GW_OK) {
            gone(err);
        }
        pthread_mutex_lock(&p->lock);
        lane = sort(p, packet);
        if (lane && mine) {
            STAILQ_INSERT_TAIL(&p->ready, lane, next);
            summon(p);
            lane = NULL;
        }
    }
    leave_seat(p);
    return lane;
}

/* --- running (lock held on entry and exit) --- */

/* Before a handler begins: who takes care of the seat? */
static void arrange_help(struct pool *p)
{
    if (p->at_work < POOL_AT_WORK && p->slow_ns > POOL_SLOW_NS && !p->seat_taken &&
        wire_ready(p->wire)) {
        summon(p);
    }
    want_watch(p);
}

/* The answer waits for those of the frames that are buffered already, if these are quick and it is
 * small. It is queued under the lock: whoever reads those frames flushes before he waits for more.
 */
static void send_answer(struct pool *p, struct buf *out)
{
    if (!buf_ok(out)) {
        log_die("runner.memory", "out of memory for an answer; stopping");
    }
    if (out->len <= POOL_COMPANY_BYTES && p->slow_ns <= POOL_SLOW_NS && !p->seat_taken &&
        wire_ready(p->wire)) {
        send_or_die(wire_queue(p->wire, out));
        return;
    }
    pthread_mutex_unlock(&p->lock);
    send_or_die(wire_write(p->wire, out));
    pthread_mutex_lock(&p->lock);
}

static void end_lane(struct pool *p, struct lane *lane)
{
    HASH_DEL(p->lanes, lane);
    engine_release(p->engine, lane->agent);
    free(lane);
}

/* One frame of the lane; what waits behind it goes to the end of `ready`, for fairness. */
static void run_lane(struct pool *p, struct lane *lane, struct buf *out)
{
    struct packet *packet = STAILQ_FIRST(&lane->packets);
    STAILQ_REMOVE_HEAD(&lane->packets, next);
    p->at_work++;
    arrange_help(p);
    pthread_mutex_unlock(&p->lock);

    int64_t begin = now_ns();
    engine_execute(p->engine, lane->agent, &packet->frame, out);
    int64_t took = now_ns() - begin;
    free(packet);

    pthread_mutex_lock(&p->lock);
    p->slow_ns += (took - p->slow_ns) / 8;
    p->at_work--;
    send_answer(p, out); /* before the agent's next frame can run */
    if (out->cap > POOL_KEEP_BYTES) {
        buf_free(out);
    }
    buf_reset(out);
    if (STAILQ_EMPTY(&lane->packets)) {
        end_lane(p, lane);
    } else {
        STAILQ_INSERT_TAIL(&p->ready, lane, next);
    }
}

/* --- the life of a thread --- */

/* Be the watch until the seat needs someone or there is work. */
static void keep_watch(struct pool *p)
{
    p->watch_here = true;
    while (!p->watch_called && STAILQ_EMPTY(&p->ready)) {
        int64_t now = now_ms();
        if (!p->seat_taken && now - p->seat_left_ms >= POOL_TICK_MS) {
            pthread_mutex_unlock(&p->lock); /* a handler takes long: let waiting answers go */
            send_or_die(wire_flush(p->wire));
            pthread_mutex_lock(&p->lock);
            if (!p->seat_taken) {
                break;
            }
        } else if (p->seat_taken && now - p->last_frame_ms > POOL_CALM_MS) {
            p->watch_asleep = true;
            pthread_cond_wait(&p->watch, &p->lock);
            p->watch_asleep = false;
        } else {
            (void)wait_ms(p, &p->watch, POOL_TICK_MS);
        }
    }
    p->watch_here = p->watch_called = false;
}

/* Wait to be called; false: not needed any more. */
static bool sit_on_bench(struct pool *p)
{
    bool in_time = true;
    p->bench++;
    while (p->bench_called == 0 && in_time) {
        in_time = wait_ms(p, &p->benched, POOL_BENCH_S * 1000);
    }
    p->bench--;
    if (p->bench_called > 0) {
        p->bench_called--;
        p->coming--;
        return true;
    }
    return p->threads <= POOL_AT_WORK;
}

static void serve(struct pool *p)
{
    struct buf out = {0};
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct lane *lane = STAILQ_FIRST(&p->ready);
        if (lane) {
            STAILQ_REMOVE_HEAD(&p->ready, next);
        } else if (!p->seat_taken) {
            lane = lead(p, NULL);
        } else if (!p->watch_here) {
            keep_watch(p);
        } else if (!sit_on_bench(p)) {
            break;
        }
        if (lane) {
            run_lane(p, lane, &out);
        }
    }
    p->threads--;
    pthread_mutex_unlock(&p->lock);
    buf_free(&out);
}

static void *thread_main(void *arg)
{
    struct pool *p = arg;
    pthread_mutex_lock(&p->lock);
    p->coming--;
    pthread_mutex_unlock(&p->lock);
    serve(p);
    return NULL;
}

struct pool *pool_new(struct wire *wire)
{
    struct pool *p = xcalloc(1, sizeof *p);
    p->wire = wire;
    pthread_mutex_init(&p->lock, NULL);
    cond_init(&p->watch);
    cond_init(&p->benched);
    STAILQ_INIT(&p->ready);
    LIST_INIT(&p->asks);
    return p;
}

void pool_free(struct pool *p)
{
    if (p) {
        pthread_mutex_destroy(&p->lock);
        pthread_cond_destroy(&p->watch);
        pthread_cond_destroy(&p->benched);
        free(p);
    }
}

void pool_serve(struct pool *p, struct engine *engine)
{
    p->engine = engine;
    p->threads = 1;
    pthread_mutex_lock(&p->lock);
    spawn(p);
    pthread_mutex_unlock(&p->lock);
    for (;;) {
        serve(p); /* the main thread may leave the bench, but not end */
        pthread_mutex_lock(&p->lock);
        p->threads++;
        pthread_mutex_unlock(&p->lock);
    }
}

/* --- blocking verbs --- */

/* Wait for the answer, as the leader when nobody else reads. Lock held. */
static void await(struct pool *p, struct ask *ask)
{
    p->blocked++;
    p->at_work--;
    if (!STAILQ_EMPTY(&p->ready)) {
        summon(p);
    }
    while (!ask->answer) {
        if (p->seat_taken) {
            pthread_cond_wait(&ask->here, &p->lock);
        } else {
            (void)lead(p, ask);
        }
    }
    LIST_REMOVE(ask, next);
    p->at_work++;
    p->blocked--;
}

static gw_err parse_reply(const struct frame *f, gw_value *ret, struct gw_error *why)
{
    struct mp m = f->rest;
    uint32_t code;
    struct span value;
    char text[sizeof why->text], hint[sizeof why->hint];
    if (mp_read_u32(&m, &code) != GW_OK || mp_skip(&m, &value) != GW_OK ||
        mp_read_text_or_nil(&m, text, sizeof text) != GW_OK ||
        mp_read_text_or_nil(&m, hint, sizeof hint) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the host's answer is malformed");
    }
    gw_err err = gw_err_from_wire(code);
    if (err != GW_OK) {
        gw_fail(why, err, "%s", text[0] ? text : gw_err_text(err));
        gw_hint(why, "%s", hint);
        return err;
    }
    if (value_unpack_span(value, ret) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the value of the host's answer does not decode");
    }
    return GW_OK;
}

static void pack_call(struct buf *out, uint64_t stream, const char *op, const gw_value *args,
                      const gw_value *context)
{
    size_t at = frame_begin(out, FRAME_CALL, stream, 3);
    mp_str(out, op);
    value_pack(args, out);
    value_pack(context, out);
    frame_end(out, at);
}

static gw_err call(void *ctx, const char *op, const gw_value *args, const gw_value *context,
                   gw_value *ret, struct gw_error *why)
{
    struct pool *p = ctx;
    struct ask ask = {0};
    pthread_mutex_lock(&p->lock);
    if (p->blocked >= LIMIT_RUNNER_BLOCKED) {
        pthread_mutex_unlock(&p->lock);
        return gw_fail(why, GW_EBUSY, "%d handlers of this runner wait for answers already",
                       LIMIT_RUNNER_BLOCKED);
    }
    cond_init(&ask.here);
    ask.stream = ++p->streams;
    LIST_INSERT_HEAD(&p->asks, &ask, next);
    pthread_mutex_unlock(&p->lock);

    struct buf out = {0};
    pack_call(&out, ask.stream, op, args, context);
    gw_err err = buf_ok(&out) ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
    if (err == GW_OK && out.len - 4 > LIMIT_MESSAGE_BYTES) {
        err = gw_fail(why, GW_ETOO_BIG, "the call has %zu bytes, the limit is %u bytes",
                      out.len - 4, LIMIT_MESSAGE_BYTES);
    }
    if (err == GW_OK) {
        send_or_die(wire_write(p->wire, &out));
    }
    buf_free(&out);

    pthread_mutex_lock(&p->lock);
    if (err == GW_OK) {
        await(p, &ask);
    } else {
        LIST_REMOVE(&ask, next);
    }
    pthread_mutex_unlock(&p->lock);
    if (err == GW_OK) {
        err = parse_reply(&ask.answer->frame, ret, why);
        free(ask.answer);
    }
    pthread_cond_destroy(&ask.here);
    return err;
}

static void log_line(void *ctx, const gw_id *agent, unsigned level, const char *text)
{
    struct pool *p = ctx;
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_LOG, 0, 3);
    mp_id(&out, agent);
    mp_uint(&out, level);
    mp_str(&out, text);
    frame_end(&out, at);
    if (buf_ok(&out)) {
        send_or_die(wire_write(p->wire, &out)); /* at once: it may explain the crash that follows */
    }
    buf_free(&out);
}

const struct engine_io pool_io = {.call = call, .log = log_line};
