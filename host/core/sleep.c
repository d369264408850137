/* Sleep and end: deactivate, activate, wake on message, dispose.
 *
 * An inactive agent is a row: nothing of it is in memory but its entry in the registry. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

gw_err agent_check_free(struct node *n, const struct agent *a, struct gw_error *why)
{
    char id[GW_ID_TEXT];
    (void)n;
    if (a->status == AGENT_QUARANTINED) {
        return gw_fail(why, GW_ECORRUPT, "the agent is quarantined");
    }
    if (a->move) {
        gw_fail(why, GW_ECONFLICT, "the agent is moving to host \"%s\"", peer_label(a->move->to));
        gw_hint(why, "ticket %s; `godwit moves` shows it", gw_id_text(&a->move->ticket, id));
        return why ? why->code : GW_ECONFLICT;
    }
    return GW_OK;
}

static void answer_status(struct op_call *call, struct node *n, const gw_id *agent, uint64_t epoch,
                          const char *status)
{
    char id[GW_ID_TEXT];
    gw_value result = gw_nil();
    if (gw_map_set(&result, "agent", gw_str(gw_id_text(agent, id))) != GW_OK ||
        gw_map_set(&result, "status", gw_str(status)) != GW_OK ||
        gw_map_set(&result, "host", gw_str(n->name)) != GW_OK ||
        gw_map_set(&result, "epoch", gw_int((int64_t)epoch)) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
}

static bool changes(const struct work *w)
{
    return w->lifecycle &&
           (w->hook == HOOK_DEACTIVATE || w->hook == HOOK_ACTIVATE || w->hook == HOOK_DISPOSE);
}

bool agent_is_changing(const struct agent *a)
{
    const struct work *w;
    if (!a->live) {
        return false;
    }
    if (a->live->current && changes(a->live->current)) {
        return true;
    }
    TAILQ_FOREACH (w, &a->live->queue, link) {
        if (changes(w)) {
            return true;
        }
    }
    return false;
}

/* A piece of lifecycle work; past the runner when the type has no such hook. */
static struct work *lifecycle(struct node *n, struct agent *a, frame_hook hook)
{
    struct work *w = work_new(n, a, hook);
    w->lifecycle = true;
    w->direct = !(a->type->hooks & 1u << hook);
    return w;
}

/* End a piece of lifecycle work: answer the call, or the wish of the agent. */
static void lifecycle_end(struct work *w, gw_err err, const struct gw_error *why, const gw_id *id,
                          uint64_t epoch, const char *status)
{
    struct node *n = w->node;
    struct op_call *call = w->arg;
    if (call && err == GW_OK) {
        answer_status(call, n, id, epoch, status);
    } else if (call) {
        op_fail(call, why);
    } else if (w->wish && err != GW_OK) {
        struct agent *a = agent_find(n, id);
        if (a && w->rolled_back) {
            a->intent_busy = false;
            work_hold_agent(n, a); /* tried again */
        } else if (a) {
            intent_failed(n, a, w->wish, why);
        }
    } /* a wish that was granted went with the row */
}

/* ---- deactivate ---- */

static void sleep_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    (void)r;
    w->flag_before = a->no_wake;
    a->no_wake = w->flag;
    agent_put_row(batch, a, AGENT_INACTIVE, 0, NULL);
    event_put(w->node, batch,
              &(struct event){.kind = "agent.deactivate", .agent = &a->id, .type = a->type->name});
}

static void sleep_done(struct work *w, gw_err err, const struct run_result *r,
                       const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    (void)r;
    if (err != GW_OK) {
        a->no_wake = w->flag_before;
    } else {
        agent_set_status(n, a, AGENT_INACTIVE);
        a->pending = 0;
        intent_forget(a);
        if (a->type->runner && a->live->incarnation == a->type->runner->incarnation) {
            runner_unload(a->type->runner, &a->id);
        }
        a->live->incarnation = 0;
    }
    lifecycle_end(w, err, why, &a->id, a->epoch, "inactive");
}

void deactivate_here(struct node *n, struct agent *a, struct op_call *call, bool no_wake,
                     uint64_t wish)
{
    struct work *w = lifecycle(n, a, HOOK_DEACTIVATE);
    w->flag = no_wake;
    w->flag_before = a->no_wake;
    w->wish = wish;
    w->prepare = sleep_prepare;
    w->done = sleep_done;
    w->arg = w->call = call;
    work_push(w, false);
}

static void deactivate_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    if (agent_check_free(n, a, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (agent_is_changing(a)) {
        call_again_later(n, call);
    } else if (a->status == AGENT_INACTIVE) {
        answer_status(call, n, &a->id, a->epoch, "inactive");
    } else {
        deactivate_here(n, a, call, !gw_map_bool(&call->args, "wake_on_message", true), 0);
    }
}

void op_deactivate(struct node *n, struct op_call *call)
{
    route_call(n, call, deactivate_local);
}

/* ---- activate ---- */

static void wake_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    (void)r;
    agent_put_row(batch, a, AGENT_ACTIVE, hooks_to_run(a->type, 0), a->intent); /* of on_activate */
    event_put(w->node, batch,
              &(struct event){.kind = "agent.activate", .agent = &a->id, .type = a->type->name});
}

static void wake_done(struct work *w, gw_err err, const struct run_result *r,
                      const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    (void)r;
    a->waking = false;
    if (err == GW_OK && a->status == AGENT_INACTIVE) {
        agent_set_status(n, a, AGENT_ACTIVE);
        a->pending = hooks_to_run(a->type, 0);
    }
    lifecycle_end(w, err, why, &a->id, a->epoch, "active");
    if (err != GW_OK) {
        work_refuse_callers(a, why); /* what waited for it cannot run either */
        if (!TAILQ_EMPTY(&a->live->queue)) {
            work_hold_agent(n, a); /* what was accepted: a little later */
        }
    } else if (a->pending) {
        work_push_pending(n, a);
    }
}

static void activate_here(struct node *n, struct agent *a, struct op_call *call)
{
    struct work *w = lifecycle(n, a, HOOK_ACTIVATE);
    a->waking = true;
    w->prepare = wake_prepare;
    w->done = wake_done;
    w->arg = w->call = call;
    work_push(w, true);
}

void agent_wake(struct node *n, struct agent *a)
{
    if (!a->waking) {
        activate_here(n, a, NULL);
    }
}

static void activate_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    if (agent_check_free(n, a, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (a->status == AGENT_ACTIVE) {
        answer_status(call, n, &a->id, a->epoch, "active");
    } else if (a->waking) {
        call_again_later(n, call);
    } else {
        activate_here(n, a, call);
    }
}

void op_activate(struct node *n, struct op_call *call)
{
    route_call(n, call, activate_local);
}

/* ---- dispose ---- */

static void end_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    (void)r;
    agent_end_rows(batch, &a->id, a->epoch); /* what it told others is still delivered */
    location_write(batch, &a->id, a->epoch, n->self, true);
    event_put(n, batch,
              &(struct event){.kind = "agent.dispose", .agent = &a->id, .type = a->type->name});
}

static void dispose_past_hook(struct node *n, struct agent *a, struct op_call *call, uint64_t wish);

static void end_done(struct work *w, gw_err err, const struct run_result *r,
                     const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    gw_id id = a->id;
    uint64_t epoch = a->epoch;
    (void)r;
    if (err != GW_OK && !w->direct && err != GW_EMOVED && !w->rolled_back && !n->stopping) {
        /* on_dispose failed, or the state does not decode: the end does not depend on it */
        event_now(
            n, &(struct event){
                   .kind = "hook.failed", .agent = &id, .type = a->type->name, .text = why->text});
        dispose_past_hook(n, a, w->arg, w->wish);
        return;
    }
    if (err == GW_OK) {
        struct gw_error gone;
        gw_fail(&gone, GW_EDISPOSED, "the agent was disposed");
        agent_set_status(n, a, AGENT_DISPOSED);
        location_know(n, &id, epoch, n->self, true, true);
        location_tell_home(n, &id, epoch, a->home, true);
        agent_discard(n, a, &gone);
    }
    lifecycle_end(w, err, why, &id, epoch, "disposed");
}

static void dispose_past_hook(struct node *n, struct agent *a, struct op_call *call, uint64_t wish)
{
    struct work *w = lifecycle(n, a, HOOK_DISPOSE);
    w->direct = true;
    w->prepare = end_prepare;
    w->done = end_done;
    w->arg = w->call = call;
    w->wish = wish;
    work_push(w, true);
}

void dispose_here(struct node *n, struct agent *a, struct op_call *call, uint64_t wish)
{
    struct work *w = lifecycle(n, a, HOOK_DISPOSE);
    if (a->status == AGENT_QUARANTINED || !type_offered(a->type)) {
        w->direct = true; /* its hook cannot run */
    }
    w->wish = wish;
    w->prepare = end_prepare;
    w->done = end_done;
    w->arg = w->call = call;
    work_push(w, false);
}

static void dispose_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    if (a->status != AGENT_QUARANTINED && agent_check_free(n, a, &why) != GW_OK) {
        op_fail(call, &why);
    } else {
        dispose_here(n, a, call, 0);
    }
}

void op_dispose(struct node *n, struct op_call *call)
{
    route_call(n, call, dispose_local);
}
