#include "agents/runner/pool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agents/runner/crew.h"
#include "agents/runner/lane.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/value.h"

#define POOL_SLOW_NS       20000 /* a handler slower than waking another thread */
#define POOL_COMPANY_BYTES 4096  /* a larger answer gains nothing from leaving with others */
#define POOL_KEEP_BYTES    (1024u * 1024) /* an answer buffer larger than this is not kept */

/* A handler that waits for the answer to its CALL. */
struct ask {
    uint64_t stream;
    struct packet *answer; /* NULL until it is here */
    pthread_cond_t here;
    LIST_ENTRY(ask) next;
};

/* All but `wire` and `engine` under the lock of the crew, which is never held while reading or in a
 * handler. */
struct pool {
    struct wire *wire;
    struct engine *engine;
    struct crew crew;
    struct lanes lanes;
    LIST_HEAD(, ask) asks;
    uint64_t streams; /* of our CALLs */
    int64_t slow_ns;  /* running mean of the time in handlers */
    unsigned at_work; /* handlers that run and do not wait for an answer */
    unsigned blocked; /* handlers that do */
};

static void lock(struct pool *p)
{
    pthread_mutex_lock(&p->crew.lock);
}

static void unlock(struct pool *p)
{
    pthread_mutex_unlock(&p->crew.lock);
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

/* The seat is empty: a handler that waits for its answer takes it (nobody else would read it in
 * time), else the watch looks after it. Lock held. */
static void leave_seat(struct pool *p)
{
    crew_leave_seat(&p->crew);
    struct ask *a;
    LIST_FOREACH (a, &p->asks, next) {
        if (!a->answer) {
            pthread_cond_signal(&a->here);
            return;
        }
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
    case FRAME_UNLOAD: {
        struct lane *lane = NULL;
        gw_err err = lanes_put(&p->lanes, packet, &lane);
        if (err != GW_OK) {
            gone(err);
        }
        return lane;
    }
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
    p->crew.seat_taken = true;
    while (!lane && !(mine && mine->answer)) {
        struct packet *packet;
        unlock(p);
        if (!wire_ready(p->wire)) { /* nothing more is at hand: answers that wait for company go */
            send_or_die(wire_flush(p->wire));
        }
        gw_err err = wire_read(p->wire, &packet);
        if (err != GW_OK) {
            gone(err);
        }
        lock(p);
        lane = sort(p, packet);
        if (lane && mine) {
            lanes_push(&p->lanes, lane);
            crew_summon(&p->crew);
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
    if (p->at_work < CREW_AT_WORK && p->slow_ns > POOL_SLOW_NS && !p->crew.seat_taken &&
        wire_ready(p->wire)) {
        crew_summon(&p->crew);
    }
    if (!STAILQ_EMPTY(&p->lanes.ready)) {
        crew_summon(&p->crew);
    }
    crew_want_watch(&p->crew);
}

/* The answer waits for those of the frames that are buffered already, if these are quick and it is
 * small. It is queued under the lock: whoever reads those frames flushes before he waits for more.
 */
static void send_answer(struct pool *p, struct buf *out)
{
    if (!buf_ok(out)) {
        log_die("runner.memory", "out of memory for an answer; stopping");
    }
    if (out->len <= POOL_COMPANY_BYTES && p->slow_ns <= POOL_SLOW_NS && !p->crew.seat_taken &&
        wire_ready(p->wire)) {
        send_or_die(wire_queue(p->wire, out));
        return;
    }
    unlock(p);
    send_or_die(wire_write(p->wire, out));
    lock(p);
}

/* One frame of the lane. */
static void run_lane(struct pool *p, struct lane *lane, struct buf *out)
{
    struct packet *packet = lane_take(lane);
    p->at_work++;
    arrange_help(p);
    unlock(p);

    int64_t begin = crew_now_ns();
    engine_execute(p->engine, lane->agent, &packet->frame, out);
    int64_t took = crew_now_ns() - begin;
    free(packet);

    lock(p);
    p->slow_ns += (took - p->slow_ns) / 8;
    p->at_work--;
    send_answer(p, out); /* before the agent's next frame can run */
    if (out->cap > POOL_KEEP_BYTES) {
        buf_free(out);
    }
    buf_reset(out);
    lanes_done(&p->lanes, lane);
}

/* --- the life of a thread --- */

/* The seat was empty for long, or there is work: answers that wait for company shall go first. */
static void watch(struct pool *p)
{
    crew_keep_watch(&p->crew);
    unlock(p);
    send_or_die(wire_flush(p->wire));
    lock(p);
}

/* Until the thread is not needed any more. */
static void serve(struct pool *p)
{
    struct buf out = {0};
    bool needed = true;
    while (needed) {
        struct lane *lane = lanes_pop(&p->lanes);
        if (!lane && !p->crew.seat_taken) {
            lane = lead(p, NULL);
        }
        if (lane) {
            run_lane(p, lane, &out);
        } else if (!p->crew.watch_here) {
            watch(p);
        } else {
            needed = crew_sit_on_bench(&p->crew);
        }
    }
    buf_free(&out);
}

static void *thread_main(void *arg)
{
    struct pool *p = arg;
    lock(p);
    crew_joined(&p->crew);
    serve(p);
    p->crew.threads--;
    unlock(p);
    return NULL;
}

struct pool *pool_new(struct wire *wire)
{
    struct pool *p = xcalloc(1, sizeof *p);
    p->wire = wire;
    crew_init(&p->crew, thread_main, p);
    LIST_INIT(&p->asks);
    return p;
}

void pool_free(struct pool *p)
{
    if (p) {
        crew_deinit(&p->crew);
        free(p);
    }
}

void pool_serve(struct pool *p, struct engine *engine)
{
    lock(p);
    p->engine = engine;
    lanes_init(&p->lanes, engine);
    p->crew.threads = 1;
    crew_spawn(&p->crew);
    for (;;) {
        serve(p); /* the main thread may leave the bench, but not end */
    }
}

/* --- blocking verbs --- */

/* Wait for the answer, as the leader when nobody else reads. Lock held. */
static void await(struct pool *p, struct ask *ask)
{
    p->at_work--;
    if (!STAILQ_EMPTY(&p->lanes.ready)) {
        crew_summon(&p->crew);
    }
    while (!ask->answer) {
        if (p->crew.seat_taken) {
            pthread_cond_wait(&ask->here, &p->crew.lock);
        } else {
            (void)lead(p, ask);
        }
    }
    p->at_work++;
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
    lock(p);
    if (p->blocked >= LIMIT_RUNNER_BLOCKED) {
        unlock(p);
        return gw_fail(why, GW_EBUSY, "%d handlers of this runner wait for answers already",
                       LIMIT_RUNNER_BLOCKED);
    }
    p->blocked++; /* before the host can know of it */
    crew_cond_init(&ask.here);
    ask.stream = ++p->streams;
    LIST_INSERT_HEAD(&p->asks, &ask, next);
    unlock(p);

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

    lock(p);
    if (err == GW_OK) {
        await(p, &ask);
    }
    LIST_REMOVE(&ask, next);
    p->blocked--;
    unlock(p);
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
