/* The runners of a virtual host: the real engine, called when a frame arrives; what it answers
 * comes back after a delay that differs from frame to frame, in order for each agent. The second
 * one has the built-in types: it is part of the host, there at once, and ends only with it. */
#include "tests/mesh/internal.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/value.h"

struct parcel { /* a frame on its way to the runner or back */
    struct vhost *host;
    size_t index;
    uint64_t runner_life;
    struct buf bytes;
};

static struct parcel *parcel_new(struct vhost *h, size_t index, struct buf *bytes)
{
    struct parcel *p = xcalloc(1, sizeof *p);
    p->host = h;
    p->index = index;
    p->runner_life = h->runners[index].life;
    if (bytes) {
        p->bytes = buf_take(bytes);
    }
    return p;
}

static void parcel_free(void *arg)
{
    struct parcel *p = arg;
    buf_free(&p->bytes);
    free(p);
}

static bool parcel_valid(const struct parcel *p)
{
    return p->runner_life == p->host->runners[p->index].life;
}

/* --- to the host --- */
static void arrive_at_host(void *arg)
{
    struct parcel *p = arg;
    struct span in = buf_span(&p->bytes);
    while (in.n > 0 && parcel_valid(p)) {
        struct frame frame;
        if (frame_take(&in, LIMIT_MESSAGE_BYTES, &frame) != GW_OK) {
            mesh_fail(p->host->mesh, "the engine built a frame that does not parse");
        }
        node_runner_frame(p->host->node, p->index, &frame);
    }
    parcel_free(p);
}

static void send_to_host(struct vhost *h, size_t index, struct buf *bytes, int64_t at_us)
{
    mesh_push(h->mesh, h, at_us, arrive_at_host, parcel_free, parcel_new(h, index, bytes));
}

static void hello(struct vhost *h, size_t index)
{
    const struct vrunner *r = &h->runners[index];
    gw_value about = gw_nil(), types = gw_nil();
    struct buf out = {0};
    if (engine_describe(r->engine, &types) != GW_OK ||
        gw_map_set(&about, "pid", gw_int(r->pid)) != GW_OK ||
        gw_map_set(&about, "types", types) != GW_OK) {
        mesh_fail(h->mesh, "the engine of %s does not describe itself", h->name);
    }
    size_t at = frame_begin(&out, FRAME_HELLO, 0, 3);
    mp_str(&out, "runner");
    mp_uint(&out, PROTOCOL_VERSION);
    value_pack(&about, &out);
    frame_end(&out, at);
    gw_value_free(&about);
    send_to_host(h, index, &out, h->mesh->now_us + mesh_between(h->mesh, 20, 200));
}

static void log_line(void *ctx, const gw_id *agent, unsigned level, const char *text,
                     const char *trace)
{
    struct vhost *h = ctx;
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_LOG, 0, 4);
    mp_id(&out, agent);
    mp_uint(&out, level);
    mp_str(&out, text);
    mp_str(&out, trace[0] ? trace : NULL);
    frame_end(&out, at);
    send_to_host(h, 0, &out, h->mesh->now_us + 1);
}

static int64_t now_ms(void *ctx)
{
    const struct vhost *h = ctx;
    return h->env.wall_ms(h->env.ctx);
}

static void open_engine(struct vhost *h, size_t index)
{
    static const struct engine_io io = {.log = log_line, .now_ms = now_ms, .save = vsave};
    struct vrunner *r = &h->runners[index];
    size_t n = index == 0 ? h->type_count : h->builtin_count;
    r->pid++;
    r->engine = engine_new(&io, h);
    gw_assert(r->engine);
    for (size_t i = 0; i < n; i++) {
        struct gw_error why;
        const struct gw_type *def = index == 0 ? h->types[i] : h->builtin_types[i];
        if (engine_add_type(r->engine, def, &why) != GW_OK) {
            mesh_fail(h->mesh, "type \"%s\": %s", def->name, why.text);
        }
    }
    hello(h, index);
}

static void come_up(void *arg)
{
    struct parcel *p = arg;
    if (parcel_valid(p) && p->host->runners[p->index].starting) {
        p->host->runners[p->index].starting = false;
        open_engine(p->host, p->index);
    }
    parcel_free(p);
}

void vrunner_start(void *ctx, size_t index)
{
    struct vhost *h = ctx;
    struct vrunner *r = &h->runners[index];
    gw_assert(index < 2 && !r->engine && !r->starting);
    r->starting = true;
    int64_t takes_us = index == 0 ? mesh_between(h->mesh, 300, 3000) : 1;
    mesh_push(h->mesh, h, h->mesh->now_us + takes_us, come_up, parcel_free,
              parcel_new(h, index, NULL));
}

/* --- to the runner --- */
/* When the answer for this agent comes: later than its last. */
static int64_t answer_time(struct vhost *h, size_t index, const gw_id *agent)
{
    struct vrunner *r = &h->runners[index];
    int64_t at = h->mesh->now_us + mesh_between(h->mesh, 10, 300);
    const size_t n = sizeof r->lanes / sizeof r->lanes[0];
    for (size_t i = 0; i < n; i++) {
        if (gw_id_equal(&r->lanes[i].agent, agent)) {
            if (at <= r->lanes[i].last_us) {
                at = r->lanes[i].last_us + 1;
            }
            r->lanes[i].last_us = at;
            return at;
        }
    }
    r->lanes[r->next_lane].agent = *agent;
    r->lanes[r->next_lane].last_us = at;
    r->next_lane = (r->next_lane + 1) % n;
    return at;
}

static bool is_run_hook(const struct frame *f)
{
    struct mp m = f->rest;
    uint64_t hook = 0;
    return f->kind == FRAME_RUN && mp_skip_n(&m, 3) == GW_OK && mp_read_uint(&m, &hook) == GW_OK &&
           hook == HOOK_RUN;
}

static void arrive_at_runner(void *arg)
{
    struct parcel *p = arg;
    struct vhost *h = p->host;
    struct span in = buf_span(&p->bytes);
    while (in.n > 0 && parcel_valid(p) && h->runners[p->index].engine) {
        struct frame frame;
        if (frame_take(&in, LIMIT_MESSAGE_BYTES, &frame) != GW_OK) {
            mesh_fail(h->mesh, "%s sent its runner a frame that does not parse", h->name);
        }
        gw_id agent = {0};
        struct buf out = {0};
        struct vrunner *r = &h->runners[p->index];
        if (p->index == 0 && h->mesh->on_runner &&
            h->mesh->on_runner(h->mesh->runner_arg, h->index, &frame)) {
            continue;
        }
        if (frame.kind == FRAME_SAVED) {
            vsave_saved(r, &frame, &agent, &out);
        } else if (engine_target(&frame, &agent) != GW_OK) {
            mesh_fail(h->mesh, "%s sent its runner a %s frame without an agent", h->name,
                      frame_kind_name(frame.kind));
        }
        if (is_run_hook(&frame)) {
            vsave_run(r, &frame, &out);
        } else if (frame.kind != FRAME_SAVED) {
            engine_run(r->engine, &frame, &out);
        }
        if (out.len > 0) {
            send_to_host(h, p->index, &out, answer_time(h, p->index, &agent));
        }
        buf_free(&out);
    }
    parcel_free(p);
}

void vrunner_send(void *ctx, size_t index, struct buf *frame)
{
    struct vhost *h = ctx;
    gw_assert(index < 2 && buf_ok(frame));
    mesh_push(h->mesh, h, h->mesh->now_us + 5, arrive_at_runner, parcel_free,
              parcel_new(h, index, frame));
}

void vrunner_inline(void *ctx, struct inline_run *in, struct inline_done *done)
{
    struct vhost *h = ctx;
    engine_call(h->runners[1].engine, in, done);
}

/* --- the end of one --- */
static void reset(struct vrunner *r)
{
    vsave_end(r);
    engine_free(r->engine);
    *r = (struct vrunner){.life = r->life + 1, .pid = r->pid};
}

void vrunner_reset(struct vhost *h)
{
    reset(&h->runners[0]);
    reset(&h->runners[1]);
}

static void tell_down(void *arg)
{
    struct vhost *h = arg;
    node_runner_down(h->node, 0, h->runners[0].pid, "killed by signal 9");
}

void vrunner_kill(void *ctx, size_t index)
{
    struct vhost *h = ctx;
    struct vrunner *r = &h->runners[0];
    gw_assert(index == 0);
    if (r->engine || r->starting) {
        mesh_note(h->mesh, "%s: its runner dies", h->name);
        mesh_figure_add(FIGURE_RUNNER);
        reset(r);
        if (!h->dying) {
            mesh_push(h->mesh, h, h->mesh->now_us + mesh_between(h->mesh, 10, 500), tell_down, NULL,
                      h);
        }
    }
}

void mesh_crash_runner(struct mesh *m, size_t host)
{
    if (m->hosts[host].node && m->hosts[host].runners[0].engine) {
        vrunner_kill(&m->hosts[host], 0);
    }
}
