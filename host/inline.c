/* The runner of the built-in types: the engine in this process, on the loop thread.
 *
 * To the node it is one more runner: it gets RUN and UNLOAD and gives DONE and LOG, only that the
 * frames lie in memory. They are taken up in a later turn of the loop, some at a time, so that no
 * handler runs inside a call of the node and no flood of them keeps the loop from its sockets. A
 * handler here must be short: nothing protects the host from it, so one that takes longer than
 * SLOW_MS is logged. It cannot block: blocking verbs are refused by the engine (GW_EINLINE). */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "agents/sdk/call.h"
#include "agents/sdk/engine.h"
#include "host/host.h"
#include "protocol/base/log.h"
#include "protocol/value.h"

#define TURN_FRAMES 64 /* of one turn */
#define SLOW_MS     10 /* the host does nothing else meanwhile */

struct pending {
    STAILQ_ENTRY(pending) link;
    struct buf frame;
};

struct inline_runner {
    struct host *host;
    size_t index;
    struct engine *engine;
    struct event *turn;
    bool hello; /* HELLO is due */
    STAILQ_HEAD(, pending) frames;
};

/* ---- what the engine needs ---- */

static void log_line(void *ctx, const gw_id *agent, unsigned level, const char *text,
                     const char *trace)
{
    struct inline_runner *r = ctx;
    struct buf out = {0};
    struct frame f;
    mp_array(&out, 6);
    mp_uint(&out, FRAME_LOG);
    mp_uint(&out, 0);
    mp_id(&out, agent);
    mp_uint(&out, level);
    mp_str(&out, text);
    mp_str(&out, trace[0] ? trace : NULL);
    if (buf_ok(&out) && frame_parse(buf_span(&out), &f) == GW_OK) {
        node_runner_frame(r->host->node, r->index, &f);
    }
    buf_free(&out);
}

static int64_t now_ms(void *ctx)
{
    const struct inline_runner *r = ctx;
    return r->host->env.wall_ms(r->host);
}

/* ---- frames ---- */

static void say_hello(struct inline_runner *r)
{
    gw_value about = gw_nil(), types = gw_nil();
    struct buf out = {0};
    struct frame f;
    if (engine_describe(r->engine, &types) != GW_OK ||
        gw_map_set(&about, "pid", gw_int(getpid())) != GW_OK ||
        gw_map_set(&about, "types", types) != GW_OK) {
        log_die("memory", "out of memory for the built-in types");
    }
    mp_array(&out, 5);
    mp_uint(&out, FRAME_HELLO);
    mp_uint(&out, 0);
    mp_str(&out, "runner");
    mp_uint(&out, PROTOCOL_VERSION);
    value_pack(&about, &out);
    gw_value_free(&about);
    gw_err err = buf_ok(&out) ? frame_parse(buf_span(&out), &f) : GW_ENOMEM;
    gw_assert(err == GW_OK);
    node_runner_frame(r->host->node, r->index, &f);
    buf_free(&out);
}

/* The clock that ticks but is cheap to read: precise enough to find what is far too slow. */
static int64_t tick_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void complain(const char *type, const char *method, int64_t took_ms)
{
    log_warn("builtin.slow", "type=%s handler=%s took_ms=%lld the host stood still", type, method,
             (long long)took_ms);
}

static void complain_of_frame(const struct frame *f, int64_t took_ms)
{
    struct run run;
    struct gw_error why;
    if (f->kind == FRAME_RUN && run_parse(f, &run, &why) == GW_OK) {
        complain(run.type, run.hook == HOOK_METHOD ? run.method : "hook", took_ms);
    }
}

static void run_one(struct inline_runner *r, struct buf *raw)
{
    struct span in = buf_span(raw);
    struct buf out = {0};
    struct frame f;
    gw_err err = frame_take(&in, raw->len, &f);
    gw_assert(err == GW_OK);
    int64_t begun_ms = tick_ms();
    engine_run(r->engine, &f, &out);
    int64_t took_ms = tick_ms() - begun_ms;
    if (took_ms > SLOW_MS) {
        complain_of_frame(&f, took_ms);
    }
    if (!buf_ok(&out)) {
        log_die("memory", "out of memory for an answer of a built-in type");
    }
    struct span answer = buf_span(&out);
    if (answer.n > 0) { /* UNLOAD has none */
        struct frame done;
        err = frame_take(&answer, out.len, &done);
        gw_assert(err == GW_OK);
        node_runner_frame(r->host->node, r->index, &done);
    }
    buf_free(&out);
}

void inline_run(void *ctx, struct inline_run *in, struct inline_done *done)
{
    const struct host *h = ctx;
    int64_t begun_ms = tick_ms();
    engine_call(h->inline_runner->engine, in, done);
    int64_t took_ms = tick_ms() - begun_ms;
    if (took_ms > SLOW_MS) {
        complain(in->type, in->method, took_ms);
    }
}

static void arm(struct inline_runner *r)
{
    struct timeval now = {0};
    event_add(r->turn, &now);
}

static void turn(evutil_socket_t fd, short what, void *arg)
{
    struct inline_runner *r = arg;
    struct pending *p;
    (void)fd, (void)what;
    if (r->hello) {
        r->hello = false;
        say_hello(r);
    }
    for (int i = 0; i < TURN_FRAMES && (p = STAILQ_FIRST(&r->frames)); i++) {
        STAILQ_REMOVE_HEAD(&r->frames, link);
        run_one(r, &p->frame);
        buf_free(&p->frame);
        free(p);
    }
    if (!STAILQ_EMPTY(&r->frames)) {
        arm(r);
    }
}

/* ---- as the node's environment ---- */

void inline_start(struct host *h)
{
    h->inline_runner->hello = true;
    arm(h->inline_runner);
}

void inline_send(struct host *h, struct buf *frame)
{
    struct inline_runner *r = h->inline_runner;
    struct pending *p = xcalloc(1, sizeof *p);
    p->frame = buf_take(frame);
    STAILQ_INSERT_TAIL(&r->frames, p, link);
    arm(r);
}

/* ---- life ---- */

gw_err inline_open(struct host *h, struct gw_error *why)
{
    static const struct engine_io io = {.log = log_line, .now_ms = now_ms};
    if (h->builtin_count == 0) {
        return GW_OK;
    }
    struct inline_runner *r = xcalloc(1, sizeof *r);
    h->inline_runner = r;
    r->host = h;
    r->index = h->plugins.len;
    STAILQ_INIT(&r->frames);
    r->engine = engine_new(&io, r);
    r->turn = event_new(h->base, -1, 0, turn, r);
    if (!r->turn) {
        return gw_fail(why, GW_ENOMEM, "the built-in types cannot be run: out of memory");
    }
    for (size_t i = 0; i < h->builtin_count; i++) {
        GW_TRY(engine_add_type(r->engine, h->builtins[i].def, why));
    }
    return GW_OK;
}

void inline_close(struct host *h)
{
    struct inline_runner *r = h->inline_runner;
    struct pending *p;
    if (!r) {
        return;
    }
    while ((p = STAILQ_FIRST(&r->frames))) {
        STAILQ_REMOVE_HEAD(&r->frames, link);
        buf_free(&p->frame);
        free(p);
    }
    if (r->turn) {
        event_free(r->turn);
    }
    engine_free(r->engine);
    free(r);
    h->inline_runner = NULL;
}
