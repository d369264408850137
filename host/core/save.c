/* gw_save of `run`: a transaction in the middle of a handler, and messages in between.
 *
 *   run --SAVE--> suspended: {its save} is committed --durable--> messages that waited, one after
 * the other, as ever --> SAVED --> it is current again
 *
 * While a handler is suspended the agent's queue goes on, with messages only, as many as waited
 * when it saved. What needs the agent quiet (a move, sleep, end, a stop of the host) gets it by
 * GW_ECANCELLED: `run` returns, its hook stays due and stands in the queue again. The runner's
 * object must not go away under the suspended handler: nothing is unloaded meanwhile, and when a
 * message has spoilt it, SAVED brings the parts. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

static void saved(struct work *s, gw_err err, const struct run_result *r,
                  const struct gw_error *why)
{
    struct live *live = s->agent->live;
    (void)r;
    if (!live->suspended) {
        return; /* its runner has ended meanwhile: it begins again from here, or from before */
    }
    live->save_why = err == GW_OK ? (struct gw_error){0} : *why;
    live->save_why.code = err;
    if (err == GW_OK) { /* of the asks behind it: repeated by one that begins again from here */
        node_random(s->node, live->suspended->key, sizeof live->suspended->key);
    }
} /* work_finish pumps: save_go_on */

static bool nonsense(struct runner *r)
{
    log_error("runner.frame", "runner=%zu a save out of place; it is ended", r->index);
    r->node->env->runner_kill(r->node->env->ctx, r->index);
    return false;
}

bool save_frame(struct runner *r, const struct frame *f)
{
    struct work *w = NULL;
    struct frame own;
    HASH_FIND(hh, r->in_flight, &f->stream, sizeof f->stream, w);
    struct live *live = w && !w->probe ? w->agent->live : NULL;
    if (!live || w->hook != HOOK_RUN || live->current != w) {
        return nonsense(r);
    }
    struct work *s = work_new(r->node, w->agent, HOOK_NONE);
    buf_add(&s->kept, f->raw.p, f->raw.n);
    if (!buf_ok(&s->kept) || frame_parse(buf_span(&s->kept), &own) != GW_OK ||
        outcome_read_save(&own, &s->result) != GW_OK) {
        work_free(s);
        return nonsense(r);
    }
    s->asks_save = true;
    s->done = saved;
    live->suspended = w;
    live->current = s;
    live->save_messages = live->queued;
    commit_result(s);
    return true;
}

/* ---- going on ---- */

/* What an agent may do while a handler of it is suspended. */
static bool may_come_between(const struct work *w)
{
    bool message = (w->hook == HOOK_METHOD || w->hook == HOOK_TIMER) && !w->lifecycle;
    bool copy = w->no_commit && !(w->flags & RUN_DISCARD);
    return message || copy || w->only_known;
}

static bool is_to_stop(const struct node *n, const struct agent *a)
{
    const struct work *w;
    TAILQ_FOREACH (w, &a->live->queue, link) {
        if (!may_come_between(w)) {
            return true;
        }
    }
    return n->stopping || a->status != AGENT_ACTIVE || (a->intent && !a->intent_busy);
}

static void send_saved(struct node *n, struct work *w, struct span parts)
{
    struct runner *r = w->agent->type->runner;
    struct live *live = w->agent->live;
    struct gw_error why = live->save_why;
    struct buf frame = {0};
    if (why.code == GW_OK && is_to_stop(n, w->agent)) {
        gw_fail(&why, GW_ECANCELLED,
                "saved; the agent is to move, sleep or end, or the host stops");
        w->cancelled = true;
    }
    size_t at = frame_begin(&frame, FRAME_SAVED, w->stream, 5);
    mp_uint(&frame, why.code);
    mp_str(&frame, why.code == GW_OK ? NULL : why.text);
    mp_str(&frame, why.hint[0] ? why.hint : NULL);
    if (parts.n > 0) {
        buf_add(&frame, parts.p, parts.n);
        live->incarnation = r->incarnation;
    } else {
        mp_nil(&frame);
    }
    mp_bin(&frame, w->key, REQUEST_KEY_BYTES);
    frame_end(&frame, at);
    if (!buf_ok(&frame)) {
        log_die("memory", "out of memory for the state of an agent");
    }
    n->env->runner_send(n->env->ctx, r->index, &frame);
}

struct reading {
    struct runner *r;
    uint64_t stream;
};

static void parts_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct reading g = *(struct reading *)arg;
    struct work *w = NULL;
    struct buf parts = {0};
    free(arg);
    HASH_FIND(hh, g.r->in_flight, &g.stream, sizeof g.stream, w);
    if (!w) {
        return; /* the runner has ended */
    }
    if (err != GW_OK) {
        gw_fail(&w->agent->live->save_why, err, "the state of the agent cannot be read: %s",
                gw_err_text(err));
    }
    struct storage_row *all = unsaved_over(w->agent, rows, count, &count);
    if (err == GW_OK) {
        parts_of_rows(all, count, &parts);
    }
    free(all);
    send_saved(g.r->node, w, buf_span(&parts));
    buf_free(&parts);
}

static void resume(struct node *n, struct agent *a)
{
    struct live *live = a->live;
    struct work *w = live->suspended;
    struct runner *r = a->type->runner;
    uint8_t raw[ROW_KEY_BYTES];
    live->suspended = NULL;
    live->current = w;
    if (live->incarnation == r->incarnation) {
        send_saved(n, w, (struct span){0});
        return;
    }
    struct reading *g = xcalloc(1, sizeof *g);
    *g = (struct reading){r, w->stream};
    live->have_parts = false;
    const struct store_range range = {.table = TABLE_STATES,
                                      .prefix = row_key(raw, &a->id, a->epoch)};
    n->env->read(n->env->ctx, &range, 1, parts_read, g);
}

struct work *save_next(struct node *n, struct agent *a, struct work *next)
{
    struct live *live = a->live;
    bool goes_on = live->save_why.code == GW_OK && live->save_messages > 0 && !n->stopping &&
                   a->status == AGENT_ACTIVE && !(a->intent && !a->intent_busy) &&
                   a->type->runner->suspects == 0 && next && may_come_between(next);
    if (goes_on && pipeline_takes(a, next)) {
        live->save_messages--;
        return next;
    }
    if (TAILQ_EMPTY(&live->committing)) {
        resume(n, a);
    } /* else when the last of them is durable */
    return NULL;
}

void save_again(struct work *w)
{
    struct agent *a = w->agent;
    if (w->cancelled && a->pending & 1u << HOOK_RUN) {
        struct work *again = work_new(w->node, a, HOOK_RUN);
        again->done = w->done;
        work_enqueue(again); /* not begun here: what it was cancelled for comes first */
    }
}
