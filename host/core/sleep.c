/* Sleep and end: deactivate, activate, wake on message, dispose; and what agents ask about themselves.
 *
 * An inactive agent is a row: nothing of it is in memory but its entry in the registry. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE_US 30000000LL /* after a start, for hosts that a wish names to be linked again */

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
    TAILQ_FOREACH(w, &a->live->queue, link)
    {
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
    } else {
        struct agent *a = agent_find(n, id);
        if (a && a->intent_busy) {
            intent_pop(n, a);
        }
    }
}

/* ---- deactivate ---- */

static void sleep_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    (void)r;
    agent_put_row(batch, a, AGENT_INACTIVE, 0, NULL);
    event_put(w->node, batch,
              &(struct event){.kind = "agent.deactivate", .agent = &a->id, .type = a->type->name});
}

static void sleep_done(struct work *w, gw_err err, const struct run_result *r, const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    (void)r;
    if (err == GW_OK) {
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

static void deactivate_here(struct node *n, struct agent *a, struct op_call *call, bool no_wake)
{
    struct work *w = lifecycle(n, a, HOOK_DEACTIVATE);
    a->no_wake = no_wake;
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
    } else if (a->status == AGENT_INACTIVE) {
        answer_status(call, n, &a->id, a->epoch, "inactive");
    } else {
        deactivate_here(n, a, call, !gw_map_bool(&call->args, "wake_on_message", true));
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
    agent_put_row(batch, a, AGENT_ACTIVE, hooks_to_run(a->type, 0), NULL);
    event_put(w->node, batch,
              &(struct event){.kind = "agent.activate", .agent = &a->id, .type = a->type->name});
}

static void wake_done(struct work *w, gw_err err, const struct run_result *r, const struct gw_error *why)
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
        struct live *live = a->live; /* what waited for it cannot run either */
        struct work *m;
        while ((m = TAILQ_FIRST(&live->queue)) && !m->lifecycle && !m->inbox) {
            TAILQ_REMOVE(&live->queue, m, link);
            live->queued--;
            live->queued_bytes -= m->args.len;
            m->done(m, why->code, NULL, why);
            work_free(m);
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
    agent_delete_rows(batch, &a->id, a->epoch);
    location_write(batch, &a->id, a->epoch, n->self, true);
    event_put(n, batch, &(struct event){.kind = "agent.dispose", .agent = &a->id, .type = a->type->name});
}

static void dispose_past_hook(struct node *n, struct agent *a, struct op_call *call);

static void end_done(struct work *w, gw_err err, const struct run_result *r, const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    gw_id id = a->id;
    uint64_t epoch = a->epoch;
    (void)r;
    if (err != GW_OK && !w->direct && err != GW_EMOVED && !n->stopping) {
        /* on_dispose failed, or the state does not decode: the end does not depend on it */
        event_now(n, &(struct event){.kind = "hook.failed", .agent = &id, .type = a->type->name, .text = why->text});
        dispose_past_hook(n, a, w->arg);
        return;
    }
    if (err == GW_OK) {
        struct gw_error gone;
        gw_fail(&gone, GW_EDISPOSED, "the agent was disposed");
        agent_set_status(n, a, AGENT_DISPOSED);
        location_know(n, &id, epoch, n->self, true, true);
        location_tell_home(n, &id, epoch, a->home, true);
        tells_forget(n, &id);
        agent_discard(n, a, &gone);
    }
    lifecycle_end(w, err, why, &id, epoch, "disposed");
}

static void dispose_past_hook(struct node *n, struct agent *a, struct op_call *call)
{
    struct work *w = lifecycle(n, a, HOOK_DISPOSE);
    w->direct = true;
    w->prepare = end_prepare;
    w->done = end_done;
    w->arg = w->call = call;
    work_push(w, true);
}

static void dispose_here(struct node *n, struct agent *a, struct op_call *call)
{
    struct work *w = lifecycle(n, a, HOOK_DISPOSE);
    if (a->status == AGENT_QUARANTINED) {
        w->direct = true;
    }
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
        dispose_here(n, a, call);
    }
}

void op_dispose(struct node *n, struct op_call *call)
{
    route_call(n, call, dispose_local);
}

/* ---- what an agent asked about itself, while it ran (durable with that handler's transaction) ---- */

void intent_forget(struct agent *a)
{
    if (a->intent) {
        buf_free(a->intent);
        free(a->intent);
        a->intent = NULL;
    }
    a->intent_busy = false;
}

void intent_replace(struct agent *a, struct buf *intent)
{
    struct buf *old = a ? a->intent : intent;
    if (old) {
        buf_free(old);
        free(old);
    }
    if (a) {
        a->intent = intent;
    }
}

struct buf *intent_append(struct agent *a, struct buf *more)
{
    struct buf *before = a->intent;
    if (!before) {
        a->intent = more;
        return NULL;
    }
    struct mp old = mp_over(buf_span(before)), new = mp_over(buf_span(more));
    size_t n_old = 0, n_new = 0;
    struct buf *both = xcalloc(1, sizeof *both);
    bool good = mp_read_array(&old, &n_old) == GW_OK && mp_read_array(&new, &n_new) == GW_OK;
    gw_assert(good); /* both were packed here */
    mp_array(both, n_old + n_new);
    buf_add(both, old.p, (size_t)(old.end - old.p));
    buf_add(both, new.p, (size_t)(new.end - new.p));
    intent_replace(NULL, more);
    a->intent = both;
    return before;
}

void intent_pop(struct node *n, struct agent *a)
{
    size_t count;
    struct span first;
    struct buf rest = {0};
    a->intent_busy = false;
    if (!a->intent || a->status == AGENT_DISPOSED) {
        return; /* forgotten meanwhile: it sleeps, or is no more */
    }
    struct mp m = mp_over(buf_span(a->intent));
    bool more = mp_read_array(&m, &count) == GW_OK && count > 1 && mp_skip(&m, &first) == GW_OK;
    if (more) {
        mp_array(&rest, count - 1);
        buf_add(&rest, m.p, (size_t)(m.end - m.p));
    }
    buf_free(a->intent);
    if (more) {
        *a->intent = rest;
    } else {
        free(a->intent);
        a->intent = NULL;
    }
    struct store_batch *batch = store_batch_new();
    agent_put_row(batch, a, a->status == AGENT_MOVING ? AGENT_ACTIVE : a->status, a->pending, a->intent);
    node_commit(n, batch, NULL, NULL);
}

/* Tell the agent that it stays: method on_dispatch_failed(to, code, text), if it has one. */
static void stays_done(struct work *w, gw_err err, const struct run_result *r, const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why; /* a type without the method is fine */
}

static void tell_stays(struct node *n, struct agent *a, const char *to, const struct gw_error *why)
{
    struct work *w = work_new(n, a, HOOK_METHOD);
    w->method = xstrdup("on_dispatch_failed");
    node_random(n, w->key, sizeof w->key);
    mp_map(&w->args, 3);
    mp_str(&w->args, "to");
    mp_str(&w->args, to);
    mp_str(&w->args, "code");
    mp_str(&w->args, gw_err_name(why->code));
    mp_str(&w->args, "text");
    mp_str(&w->args, why->text);
    w->done = stays_done;
    work_push(w, true);
}

static void wish_moved(void *arg, gw_err err, struct move_out *m, const struct gw_error *why)
{
    struct node *n = m->node;
    struct agent *a = agent_find(n, &m->agent_id); /* a clone's source may have ended */
    (void)arg;
    if (!a || a->epoch != m->epoch) {
        return; /* it is gone from here: its intent went with the row */
    }
    intent_pop(n, a);
    if (err != GW_OK && !m->clone) {
        tell_stays(n, a, peer_label(m->to), why);
    }
}

/* `clone`: the id of the clone, NULL: it wants to go itself. */
static void wish_travel(struct node *n, struct agent *a, const gw_value *args, const gw_id *clone)
{
    struct gw_error why;
    struct peer *to = n->self;
    const char *where = gw_map_str(args, "to", NULL);
    gw_err err = where ? peers_pick(n, where, !clone, &to, &why) : GW_OK;
    if (err == GW_OK && to->self && clone && (agent_find(n, clone) || location_find(n, clone))) {
        intent_pop(n, a); /* made before a crash, which forgot that it was */
        return;
    }
    if (err == GW_OK && to->self && clone) {
        clone_here(n, a, NULL, clone);
        return;
    }
    if (err == GW_OK && to->self) {
        a->pending |= hooks_to_run(a->type, 1u << HOOK_ARRIVE); /* it is there already: it arrives at once */
        intent_pop(n, a);
        work_push_pending(n, a);
        return;
    }
    if (err == GW_OK) {
        err = move_out_begin(n, a, to, 0, clone, wish_moved, NULL, &why);
    }
    if (err == GW_EUNREACHABLE && n->env->mono_us(n->env->ctx) - n->started_us < PATIENCE_US) {
        a->intent_busy = false; /* links are only coming up again */
        n->any_held = true;
        return;
    }
    if (err != GW_OK) {
        event_now(n, &(struct event){.kind = "transfer.failed",
                                     .agent = &a->id,
                                     .type = a->type->name,
                                     .text = why.text});
        intent_pop(n, a);
        tell_stays(n, a, where ? where : "", &why);
    }
}

void intent_run(struct node *n, struct agent *a)
{
    size_t count, fields;
    struct span verb;
    gw_id id = {{0}};
    gw_value args = gw_nil();
    if (!a->intent || a->intent_busy || a->status != AGENT_ACTIVE || a->move || n->stopping ||
        (a->live && a->live->current)) {
        return;
    }
    if (!a->type->runner || !runner_usable(a->type->runner)) {
        return; /* run again when it is up */
    }
    struct mp m = mp_over(buf_span(a->intent));
    a->intent_busy = true;
    if (mp_read_array(&m, &count) != GW_OK || mp_read_array(&m, &fields) != GW_OK || fields < 2 ||
        mp_read_str(&m, &verb) != GW_OK || value_unpack(&m, &args) != GW_OK || fields < 3 ||
        mp_read_id(&m, &id) != GW_OK) {
        intent_pop(n, a);
    } else if (span_is(verb, "dispatch")) {
        wish_travel(n, a, &args, NULL);
    } else if (span_is(verb, "clone")) {
        wish_travel(n, a, &args, &id);
    } else if (span_is(verb, "deactivate")) {
        deactivate_here(n, a, NULL, !gw_map_bool(&args, "wake_on_message", true));
    } else if (span_is(verb, "dispose")) {
        dispose_here(n, a, NULL);
    } else {
        log_warn("agent.wish", "type=%s asked for something that this host does not know",
                 a->type->name);
        intent_pop(n, a);
    }
    gw_value_free(&args);
}
