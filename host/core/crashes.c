/* Agents whose handlers crash again and again.
 *
 *   crash --pause, from the last committed state--> next try ... --the N-th within T--> QUARANTINED
 *   QUARANTINED --activate--> active, counted anew
 *   what the store holds of it is damaged --> QUARANTINED
 *
 * A crash counts when the agent was alone on its runner. One that happened beside others makes all
 * of them suspects at the second time: what they do next runs alone, as for messages that crashed
 * (outcome.c), and whoever answers is cleared. Pauses double from PAUSE_FIRST_MS, beginning with
 * the second crash. Counts are in memory: they begin anew with the host and on another one; that an
 * agent is quarantined, and why, is in its row. */
#include "host/core/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AFTER          10
#define WITHIN_MS      600000
#define PAUSE_FIRST_MS 100
#define PAUSE_MAX_MS   10000
#define UNPROVEN       2

struct agent_crashes {
    struct node *n;
    gw_id agent;
    int64_t at_us[LIMIT_CRASHES]; /* the last ones, oldest first */
    size_t count;
    unsigned unproven; /* beside others, in a row */
    bool suspect;
    bool entering;    /* its quarantine is queued */
    int64_t until_us; /* nothing runs before */
    struct env_timer *timer;
    char last[160]; /* what happened */
};

static void pause_over(void *arg)
{
    struct agent_crashes *c = arg;
    struct agent *a = agent_find(c->n, &c->agent);
    c->until_us = 0;
    if (a) {
        work_pump(c->n, a);
    }
}

static struct agent_crashes *crashes_of(struct node *n, struct agent *a)
{
    if (!a->crashes) {
        a->crashes = xcalloc(1, sizeof *a->crashes);
        a->crashes->n = n;
        a->crashes->agent = a->id;
        a->crashes->timer = n->env->timer_new(n->env->ctx, pause_over, a->crashes);
    }
    return a->crashes;
}

void crashes_forget(struct node *n, struct agent *a)
{
    if (a->crashes) {
        n->env->timer_free(n->env->ctx, a->crashes->timer);
        free(a->crashes);
        a->crashes = NULL;
    }
}

gw_err crashes_refuse(const struct agent *a, struct gw_error *why)
{
    if (!a->fault) {
        gw_fail(why, GW_ECORRUPT, "the agent is quarantined");
        gw_hint(why, "`godwit events --agent …` says why; it is kept as it is, not run");
        return GW_ECORRUPT;
    }
    gw_fail(why, GW_EQUARANTINED, "the agent is quarantined: %.200s", a->fault);
    gw_hint(why, "it is kept as it was last committed; `godwit activate` lets it go on, when the "
                 "cause is mended");
    return GW_EQUARANTINED;
}

/* ---- quarantine, and the way out: transactions without a handler ---- */

static struct work *change(struct node *n, struct agent *a)
{
    struct work *w = work_new(n, a, HOOK_NONE);
    w->lifecycle = true;
    w->direct = true;
    return w;
}

static void enter_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    w->point = POINT_QUARANTINE;
    (void)r;
    free(a->fault);
    a->fault = xstrdup((const char *)w->args.data);
    agent_put_row(batch, a, AGENT_QUARANTINED, a->pending, a->intent);
    if (agent_live(a)->known || !a->watches) { /* who watches is told under a number */
        watches_crashed(w, batch);
    }
    event_put(
        w->node, batch,
        &(struct event){
            .kind = "agent.quarantined", .agent = &a->id, .type = a->type->name, .text = a->fault});
}

static void enter_done(struct work *w, gw_err err, const struct run_result *r,
                       const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct gw_error refused;
    char id[GW_ID_TEXT];
    (void)r, (void)why;
    if (err == GW_ECORRUPT && w->blind) {
        log_error("agent.quarantined",
                  "agent=%s that it is cannot be written: it is until this "
                  "host ends",
                  gw_id_text(&a->id, id));
        watches_crashed_undo(a);
    } else if (err != GW_OK) { /* rolled back, or it is leaving: the next time sees to it */
        if (a->crashes) {
            a->crashes->entering = false;
        }
        watches_crashed_undo(a);
        free(a->fault);
        a->fault = NULL;
        return;
    }
    log_error("agent.quarantined", "agent=%s type=%s %s", gw_id_text(&a->id, id), a->type->name,
              a->fault);
    agent_set_status(n, a, AGENT_QUARANTINED);
    watches_crashed_done(n, a);
    crashes_forget(n, a);
    (void)crashes_refuse(a, &refused);
    work_refuse_callers(a, &refused);
}

/* The text of its fault is in w->args. */
static void quarantine(struct work *w)
{
    buf_add(&w->args, "", 1);
    w->prepare = enter_prepare;
    w->done = enter_done;
    w->agent->crashes->entering = true;
    work_push(w, true);
}

void crashes_damaged(struct node *n, const gw_id *agent, const char *what)
{
    struct agent *a = agent_find(n, agent);
    bool here = a && (a->status == AGENT_ACTIVE || a->status == AGENT_INACTIVE);
    if (!here || a->move || a->unborn || crashes_of(n, a)->entering) {
        return;
    }
    agent_live(a);
    struct work *w = change(n, a);
    w->blind = true;
    buf_addf(&w->args, "%s: what the store of host \"%s\" holds of it is damaged, see its log",
             what, n->name);
    quarantine(w);
}

static void release_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    char *fault = a->fault;
    w->point = POINT_RELEASE;
    (void)r;
    a->fault = NULL;
    agent_put_row(batch, a, AGENT_ACTIVE, a->pending, a->intent);
    a->fault = fault; /* until that is durable */
    event_put(w->node, batch,
              &(struct event){.kind = "agent.release", .agent = &a->id, .type = a->type->name});
}

static void release_done(struct work *w, gw_err err, const struct run_result *r,
                         const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct op_call *call = w->arg;
    (void)r;
    if (err != GW_OK) {
        op_fail(call, why);
        return;
    }
    free(a->fault);
    a->fault = NULL;
    agent_set_status(n, a, AGENT_ACTIVE);
    answer_status(call, n, &a->id, a->epoch, "active");
    timers_thaw(n, a);
    work_push_pending(n, a);
}

void crashes_release(struct node *n, struct agent *a, struct op_call *call)
{
    struct live *live = agent_live(a);
    if (live->current || pipeline_busy(live)) {
        call_again_later(n, call);
        return;
    }
    struct work *w = change(n, a);
    w->prepare = release_prepare;
    w->done = release_done;
    w->arg = w->call = call;
    work_push(w, true);
}

/* ---- counting ---- */

static void rest(struct node *n, struct agent_crashes *c)
{
    int64_t ms = PAUSE_FIRST_MS;
    for (size_t i = 2; i < c->count && ms < PAUSE_MAX_MS; i++) {
        ms *= 2;
    }
    ms = ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
    c->until_us = n->env->mono_us(n->env->ctx) + ms * 1000;
    n->env->timer_start(n->env->ctx, c->timer, ms);
}

static void count(struct node *n, struct agent *a, const char *what)
{
    struct agent_crashes *c = crashes_of(n, a);
    unsigned after = a->type->quarantine_after ? a->type->quarantine_after : AFTER;
    int64_t within_ms = a->type->quarantine_ms > 0 ? a->type->quarantine_ms : WITHIN_MS;
    int64_t now = n->env->mono_us(n->env->ctx);
    size_t old = 0;
    while (old < c->count && c->at_us[old] < now - within_ms * 1000) {
        old++;
    }
    old += c->count - old == LIMIT_CRASHES;
    memmove(c->at_us, c->at_us + old, (c->count - old) * sizeof c->at_us[0]);
    c->count -= old;
    c->at_us[c->count++] = now;
    (void)snprintf(c->last, sizeof c->last, "%s", what);
    bool here = a->status == AGENT_ACTIVE || a->status == AGENT_INACTIVE;
    if (c->count >= after && here && !a->move && !c->entering) {
        struct work *w = change(n, a);
        buf_addf(&w->args, "its handlers crashed %u times within %lld s; the last time: %s", after,
                 (long long)(within_ms / 1000), c->last);
        quarantine(w);
    } else if (c->count > 1) {
        rest(n, c);
    }
}

void crashes_lost(struct node *n, const gw_id *agent, bool alone, const char *reason)
{
    struct agent *a = agent_find(n, agent);
    if (!a || !a->live || a->unborn) {
        return;
    }
    struct agent_crashes *c = crashes_of(n, a);
    if (alone) {
        c->unproven = 0;
        count(n, a, reason);
    } else if (++c->unproven >= UNPROVEN) {
        c->suspect = true;
    }
}

void crashes_hook_failed(struct work *w)
{
    uint32_t after = w->agent->type->quarantine_after;
    if (after && after != UINT32_MAX && w->result.err != GW_ECRASHED && !w->agent->unborn) {
        count(w->node, w->agent, w->result.why.text);
    }
}

void crashes_survived(struct work *w)
{
    struct agent_crashes *c = w->agent->crashes;
    if (c && w->hook != HOOK_NONE && (!c->suspect || w->suspect_of)) {
        c->suspect = false;
        c->unproven = 0;
    }
}

void crashes_suspect(struct work *w)
{
    const struct agent_crashes *c = w->agent->crashes;
    if (c && c->suspect && !w->suspect_of) {
        w->suspect_of = w->agent->type->runner;
        w->suspect_of->suspects++;
    }
}

bool crashes_pause(struct node *n, const struct agent *a, const struct work *w)
{
    return a->crashes && !w->lifecycle && n->env->mono_us(n->env->ctx) < a->crashes->until_us;
}
