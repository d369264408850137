#include "agents/runner/pool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "agents/runner/crew.h"
#include "agents/runner/lane.h"
#include "protocol/base/log.h"
#include "protocol/base/table.h"
#include "protocol/limits.h"
#include "protocol/value.h"

#define POOL_SLOW_NS       20000 /* a handler slower than waking another thread */
#define POOL_COMPANY_BYTES 4096  /* a larger answer gains nothing from leaving with others */
#define POOL_KEEP_BYTES    (1024u * 1024) /* an answer buffer larger than this is not kept */

/* A handler that waits for answers. */
struct waiter {
    pthread_cond_t here;
    size_t missing;      /* answers that it still needs */
    int64_t deadline_ms; /* of crew_now_ms; INT64_MAX = none */
    LIST_ENTRY(waiter) next;
};

/* A CALL of a handler; belongs to its thread. */
struct engine_ask {
    UT_hash_handle hh; /* by stream, until it is answered */
    uint64_t stream;
    struct packet *answer; /* NULL until it is here */
    uint64_t answered;     /* its number among the answers; 0 until it is here */
    struct waiter *waiter; /* who waits for it just now, or NULL */
    bool reserved;         /* counts among the blocked ones from its start on */
};

/* A handler of `run` that waits for its save; belongs to its thread. */
struct saver {
    uint64_t stream;
    struct lane *lane;     /* frames that come into it are for this thread */
    struct packet *answer; /* SAVED */
    struct waiter waiter;
    LIST_ENTRY(saver) next;
};

/* All but `wire` and `engine` under the lock of the crew, which is never held while reading or in a
 * handler. */
struct pool {
    struct wire *wire;
    struct engine *engine;
    struct crew crew;
    struct lanes lanes;
    struct engine_ask *asks; /* not answered */
    LIST_HEAD(, waiter) waiters;
    LIST_HEAD(, saver) savers;
    uint64_t streams; /* of our CALLs */
    uint64_t answers; /* that have come to them */
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
#ifdef __SANITIZE_ADDRESS__
    __lsan_do_leak_check(); /* _exit does not */
#endif
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
    struct waiter *w;
    LIST_FOREACH (w, &p->waiters, next) {
        if (w->missing > 0) {
            pthread_cond_signal(&w->here);
            return;
        }
    }
}

/* --- frames coming in (lock held) --- */

static bool deliver(struct pool *p, struct packet *packet)
{
    struct engine_ask *a;
    HASH_FIND(hh, p->asks, &packet->frame.stream, sizeof a->stream, a);
    if (!a) {
        return false; /* of nobody: late, or not of us */
    }
    HASH_DEL(p->asks, a);
    a->answer = packet;
    a->answered = ++p->answers;
    if (a->waiter && a->waiter->missing > 0 && --a->waiter->missing == 0) {
        pthread_cond_signal(&a->waiter->here);
    }
    return true;
}

static void wake_saver(struct saver *s)
{
    if (s->waiter.missing > 0) {
        s->waiter.missing = 0;
        pthread_cond_signal(&s->waiter.here);
    }
}

static bool deliver_saved(struct pool *p, struct packet *packet)
{
    struct saver *s;
    LIST_FOREACH (s, &p->savers, next) {
        if (s->stream == packet->frame.stream && !s->answer) {
            s->answer = packet;
            wake_saver(s);
            return true;
        }
    }
    return false;
}

/* A frame has come into the lane of an agent that is at work: perhaps it waits for its save. */
static void tell_saver(struct pool *p, const gw_id *id)
{
    struct saver *s;
    LIST_FOREACH (s, &p->savers, next) {
        if (gw_id_equal(&s->lane->id, id)) {
            wake_saver(s);
        }
    }
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
        gw_id id;
        bool target = engine_target(&packet->frame, &id) == GW_OK;
        gw_err err = lanes_put(&p->lanes, packet, &lane);
        if (err != GW_OK) {
            gone(err);
        }
        if (!lane && target) {
            tell_saver(p, &id);
        }
        return lane;
    }
    case FRAME_SAVED:
        if (!deliver_saved(p, packet)) {
            free(packet);
        }
        return NULL;
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

/* Whether there is something to read before the deadline of `mine`. What is at hand when it passes
 * is still read, as far as it is whole, and what comes with one more look (`*late`). */
static bool input_in_time(struct pool *p, const struct waiter *mine, bool *late)
{
    if (!mine || mine->deadline_ms == INT64_MAX || wire_ready(p->wire)) {
        return true;
    }
    int64_t left_ms = mine->deadline_ms - crew_now_ms();
    bool again = *late;
    *late = left_ms <= 0;
    return !again && wire_wait(p->wire, left_ms);
}

/* Read as the leader (lock held, seat empty): until a lane can run, which is returned, or with
 * `mine` until its answers are here or its time is over; lanes then go to `ready`. The seat is
 * empty again on return. */
static struct lane *lead(struct pool *p, struct waiter *mine)
{
    struct lane *lane = NULL;
    bool late = false;
    p->crew.seat_taken = true;
    while (!lane && !(mine && mine->missing == 0)) {
        struct packet *packet;
        unlock(p);
        if (!wire_ready(p->wire)) { /* nothing more is at hand: answers that wait for company go */
            send_or_die(wire_flush(p->wire));
        }
        if (!input_in_time(p, mine, &late)) {
            lock(p);
            break;
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

/* One frame of the lane; its agent stays at work. */
static void run_one(struct pool *p, struct lane *lane, struct buf *out)
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
}

static void run_lane(struct pool *p, struct lane *lane, struct buf *out)
{
    run_one(p, lane, out);
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
    LIST_INIT(&p->waiters);
    LIST_INIT(&p->savers);
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

/* --- asks of handlers --- */

/* Until its answers are here or its time is over, as the leader when nobody else reads. Lock held.
 */
static void await(struct pool *p, struct waiter *w)
{
    bool late = false;
    p->at_work--;
    LIST_INSERT_HEAD(&p->waiters, w, next);
    if (!STAILQ_EMPTY(&p->lanes.ready)) {
        crew_summon(&p->crew);
    }
    while (w->missing > 0 && !late) {
        if (p->crew.seat_taken) {
            late = !crew_wait(&p->crew, &w->here, w->deadline_ms);
        } else {
            (void)lead(p, w);
            late = crew_now_ms() >= w->deadline_ms;
        }
    }
    LIST_REMOVE(w, next);
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

static gw_err too_many(struct gw_error *why)
{
    return gw_fail(why, GW_EBUSY, "%d handlers of this runner wait for answers already",
                   LIMIT_RUNNER_BLOCKED);
}

static gw_err ask_new(struct pool *p, bool waits, struct engine_ask **ret, struct gw_error *why)
{
    struct engine_ask *ask = calloc(1, sizeof *ask);
    if (!ask) {
        return gw_fail(why, GW_ENOMEM, "out of memory for an ask");
    }
    lock(p);
    bool room = !waits || p->blocked < LIMIT_RUNNER_BLOCKED;
    if (room) {
        p->blocked += waits; /* before the host can know of it */
        ask->reserved = waits;
        ask->stream = ++p->streams;
        HASH_ADD(hh, p->asks, stream, sizeof ask->stream, ask);
    }
    unlock(p);
    if (!room) {
        free(ask);
        return too_many(why);
    }
    *ret = ask;
    return GW_OK;
}

static void ask_drop(void *ctx, struct engine_ask *ask)
{
    struct pool *p = ctx;
    lock(p);
    if (!ask->answer) {
        HASH_DEL(p->asks, ask);
    }
    p->blocked -= ask->reserved;
    unlock(p);
    free(ask->answer);
    free(ask);
}

static gw_err ask_start(void *ctx, const char *op, const gw_value *args, const gw_value *context,
                        bool waits, struct engine_ask **ret, struct gw_error *why)
{
    struct pool *p = ctx;
    struct engine_ask *ask = NULL;
    GW_TRY(ask_new(p, waits, &ask, why));
    struct buf out = {0};
    pack_call(&out, ask->stream, op, args, context);
    gw_err err = buf_ok(&out) ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
    if (err == GW_OK && out.len - 4 > LIMIT_MESSAGE_BYTES) {
        err = gw_fail(why, GW_ETOO_BIG, "the call has %zu bytes, the limit is %u bytes",
                      out.len - 4, LIMIT_MESSAGE_BYTES);
    }
    if (err == GW_OK) {
        send_or_die(wire_write(p->wire, &out));
        *ret = ask;
    } else {
        ask_drop(p, ask);
    }
    buf_free(&out);
    return err;
}

/* How many of them have to be answered yet (lock held); with `w`, they tell it. */
static size_t open_asks(struct engine_ask *const *asks, size_t n, struct waiter *w)
{
    size_t open = 0;
    for (size_t i = 0; i < n; i++) {
        open += !asks[i]->answer && (!w || asks[i]->waiter != w);
        asks[i]->waiter = w;
    }
    return open;
}

static gw_err ask_wait(void *ctx, struct engine_ask *const *asks, size_t n, bool all,
                       int64_t timeout_ms, struct gw_error *why)
{
    struct pool *p = ctx;
    struct waiter w = {.deadline_ms = INT64_MAX};
    int64_t now_ms = crew_now_ms();
    if (timeout_ms >= 0 && timeout_ms < INT64_MAX - now_ms) {
        w.deadline_ms = now_ms + timeout_ms;
    }
    bool reserved = n == 1 && asks[0]->reserved, answered = false;
    gw_err err = GW_OK;
    crew_cond_init(&w.here);
    lock(p);
    for (size_t i = 0; i < n; i++) {
        answered = answered || asks[i]->answer;
    }
    size_t open = open_asks(asks, n, &w);
    w.missing = all ? open : answered ? 0 : 1;
    if (w.missing > 0 && !reserved && p->blocked >= LIMIT_RUNNER_BLOCKED) {
        err = too_many(why);
    } else if (w.missing > 0) {
        p->blocked += !reserved;
        await(p, &w);
        p->blocked -= !reserved;
        err = w.missing > 0 ? GW_ETIMEOUT : GW_OK;
    }
    (void)open_asks(asks, n, NULL);
    unlock(p);
    pthread_cond_destroy(&w.here);
    return err;
}

static uint64_t ask_answered(void *ctx, const struct engine_ask *ask)
{
    struct pool *p = ctx;
    lock(p);
    uint64_t answered = ask->answered;
    unlock(p);
    return answered;
}

static gw_err ask_take(void *ctx, struct engine_ask *ask, gw_value *ret, struct gw_error *why)
{
    (void)ctx; /* it is answered: nobody else touches it */
    return parse_reply(&ask->answer->frame, ret, why);
}

/* ---- saves of `run` ---- */

/* Until SAVED is here; what comes for the agent before it is run in this thread. Lock held. */
static void await_saved(struct pool *p, struct saver *s)
{
    struct buf out = {0};
    while (!s->answer) {
        if (!STAILQ_EMPTY(&s->lane->packets)) {
            p->at_work--; /* run_one counts */
            run_one(p, s->lane, &out);
            p->at_work++;
        } else {
            s->waiter.missing = 1;
            await(p, &s->waiter);
        }
    }
    buf_free(&out);
}

static gw_err save(void *ctx, const gw_id *agent, uint64_t stream, const struct buf *frame,
                   struct buf *ret_answer, struct gw_error *why)
{
    struct pool *p = ctx;
    struct saver s = {.stream = stream, .waiter = {.deadline_ms = INT64_MAX}};
    lock(p);
    HASH_FIND(hh, p->lanes.busy, agent, sizeof *agent, s.lane);
    bool room = s.lane && p->blocked < LIMIT_RUNNER_BLOCKED;
    if (room) {
        p->blocked++;
        crew_cond_init(&s.waiter.here);
        LIST_INSERT_HEAD(&p->savers, &s, next);
    }
    unlock(p);
    if (!room) {
        return too_many(why);
    }
    send_or_die(wire_write(p->wire, frame));
    lock(p);
    await_saved(p, &s);
    LIST_REMOVE(&s, next);
    p->blocked--;
    unlock(p);
    buf_add(ret_answer, s.answer->frame.raw.p, s.answer->frame.raw.n);
    free(s.answer);
    pthread_cond_destroy(&s.waiter.here);
    return buf_ok(ret_answer) ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
}

static void log_line(void *ctx, const gw_id *agent, unsigned level, const char *text,
                     const char *trace)
{
    struct pool *p = ctx;
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_LOG, 0, 4);
    mp_id(&out, agent);
    mp_uint(&out, level);
    mp_str(&out, text);
    mp_str(&out, trace[0] ? trace : NULL);
    frame_end(&out, at);
    if (buf_ok(&out)) {
        send_or_die(wire_write(p->wire, &out)); /* at once: it may explain the crash that follows */
    }
    buf_free(&out);
}

const struct engine_io pool_io = {.start = ask_start,
                                  .wait = ask_wait,
                                  .answered = ask_answered,
                                  .take = ask_take,
                                  .drop = ask_drop,
                                  .save = save,
                                  .log = log_line};
