/* Sleep and end: deactivate, activate, wake on message, dispose.
 *
 * An inactive agent is a row: nothing of it is in memory but its entry in the registry. How it
 * sleeps (whether a message wakes it, whether its host's start does, when it wakes by itself) is
 * decided for each of the three by the first that says something: who puts it to sleep (a caller,
 * or the agent by a wish), its on_deactivate, its type. on_deactivate may refuse: then it stays
 * awake, whoever asked. Being woken ends what was said. The time to wake is a row of its timers
 * (timers.c); so it travels, and a time that was missed while the host was down is due at its
 * start. */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

gw_err agent_check_free(struct node *n, const struct agent *a, struct gw_error *why)
{
    char id[GW_ID_TEXT];
    (void)n;
    if (a->status == AGENT_QUARANTINED) {
        return crashes_refuse(a, why);
    }
    const struct move_out *m = move_out_of(a);
    if (m) {
        gw_fail(why, GW_ECONFLICT, "the agent is moving to host \"%s\"", peer_label(m->t->to));
        gw_hint(why, "ticket %s; `godwit moves` shows it", gw_id_text(&m->t->id, id));
        return why ? why->code : GW_ECONFLICT;
    }
    return GW_OK;
}

void answer_status(struct op_call *call, struct node *n, const gw_id *agent, uint64_t epoch,
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
    TAILQ_FOREACH (w, &a->live->committing, link) {
        if (changes(w)) {
            return true;
        }
    }
    TAILQ_FOREACH (w, &a->live->queue, link) {
        if (changes(w)) {
            return true;
        }
    }
    return false;
}

bool agent_is_ending(const struct agent *a)
{
    const struct work *w = a->live ? TAILQ_FIRST(&a->live->committing) : NULL;
    while (w && !(w->lifecycle && w->hook == HOOK_DISPOSE)) {
        w = TAILQ_NEXT(w, link);
    }
    return w != NULL;
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

/* ---- how it sleeps ---- */

struct sleeping {
    struct sleep_wish asked, now; /* by who puts it to sleep; what came of it */
    int64_t set_us;
    bool no_wake_before, at_start_before; /* for a roll-back */
};

static gw_err read_when(const gw_value *args, struct sleep_wish *w, struct gw_error *why)
{
    const gw_value *after = gw_map_get(args, "wake_after"), *at = gw_map_get(args, "wake_at");
    bool has_after = after && after->kind != GW_NIL, has_at = at && at->kind != GW_NIL;
    if (has_after && has_at) {
        return gw_fail(why, GW_EARG, "give either the time to sleep or the time to wake, not both");
    }
    if (has_after) {
        if (after->kind != GW_INT || after->i < 0 || after->i > LIMIT_TIMER_MS) {
            return gw_fail(why, GW_EARG, "the time to sleep is out of range");
        }
        w->when = WAKE_AFTER;
        w->ms = after->i;
    } else if (has_at) {
        if (at->kind != GW_TIME || at->time.ms < 0 || at->time.ms > LIMIT_TIMER_AT_MS) {
            return gw_fail(why, GW_EARG, "the time to wake is out of range");
        }
        w->when = WAKE_AT;
        w->ms = at->time.ms;
    }
    return GW_OK;
}

static says says_of(const gw_value *args, const char *key)
{
    const gw_value *v = gw_map_get(args, key);
    return !v || v->kind != GW_BOOL ? SAYS_NOTHING : v->b ? SAYS_YES : SAYS_NO;
}

gw_err sleep_wish_read(const gw_value *args, struct sleep_wish *ret, struct gw_error *why)
{
    struct sleep_wish w = {.on_message = says_of(args, "wake_on_message"),
                           .at_start = says_of(args, "at_start")};
    GW_TRY(read_when(args, &w, why));
    *ret = w;
    return GW_OK;
}

static bool says_something(const struct sleep_wish *w)
{
    return w->on_message || w->at_start || w->when;
}

/* What on_deactivate has recorded, if anything: the last "deactivate" of its actions. */
static struct sleep_wish said_by_hook(const struct run_result *r)
{
    struct sleep_wish w = {0};
    struct mp m = mp_over(r->actions);
    size_t n = 0, fields;
    if (r->actions.n == 0 || mp_read_array(&m, &n) != GW_OK) {
        return w;
    }
    for (size_t i = 0; i < n; i++) {
        struct span raw, verb, packed;
        gw_value args = gw_nil();
        struct sleep_wish one;
        if (mp_skip(&m, &raw) != GW_OK) {
            break;
        }
        struct mp action = mp_over(raw);
        if (mp_read_array(&action, &fields) == GW_OK && mp_read_str(&action, &verb) == GW_OK &&
            mp_skip(&action, &packed) == GW_OK && span_is(verb, "deactivate") &&
            value_unpack_span(packed, &args) == GW_OK &&
            sleep_wish_read(&args, &one, NULL) == GW_OK) {
            w = one;
        }
        gw_value_free(&args);
    }
    return w;
}

/* What `w` leaves open, `next` decides. */
static void fill_in(struct sleep_wish *w, const struct sleep_wish *next)
{
    w->on_message = w->on_message ? w->on_message : next->on_message;
    w->at_start = w->at_start ? w->at_start : next->at_start;
    if (w->when == WAKE_NEVER) {
        w->when = next->when;
        w->ms = next->ms;
    }
}

void sleep_travels(const struct agent *a, bool slept, struct agent_row *row)
{
    struct sleep_wish w = a->type->sleep;
    row->no_wake = slept ? a->no_wake : w.on_message == SAYS_NO;
    row->wake_at_start = slept ? a->wake_at_start : w.at_start == SAYS_YES;
}

gw_err sleep_describe(struct node *n, const struct agent *a, gw_value *ret)
{
    gw_value v = gw_nil();
    int64_t at;
    if (a->status != AGENT_INACTIVE) {
        *ret = v;
        return GW_OK;
    }
    bool wakes = timers_wake_time(n, a, &at);
    gw_err err = gw_map_set(&v, "wake_on_message", gw_bool(!a->no_wake));
    if (err == GW_OK) {
        err = gw_map_set(&v, "at_start", gw_bool(a->wake_at_start));
    }
    if (err == GW_OK) {
        err = gw_map_set(&v, "wake_at", wakes ? gw_time_value((gw_time){at}) : gw_nil());
    }
    if (err != GW_OK) {
        gw_value_free(&v);
        return err;
    }
    *ret = v;
    return GW_OK;
}

static void set_policy(struct agent *a, bool no_wake, bool at_start)
{
    a->no_wake = no_wake;
    a->wake_at_start = at_start;
}

static struct sleeping *remember_policy(const struct agent *a)
{
    struct sleeping *s = xcalloc(1, sizeof *s);
    s->no_wake_before = a->no_wake;
    s->at_start_before = a->wake_at_start;
    return s;
}

/* ---- deactivate ---- */

static void sleep_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct sleeping *s = w->sleep;
    struct sleep_wish hook = said_by_hook(r);
    w->point = POINT_SLEEP;
    s->now = s->asked;
    fill_in(&s->now, &hook);
    fill_in(&s->now, &a->type->sleep);
    s->set_us = n->env->mono_us(n->env->ctx);
    set_policy(a, s->now.on_message == SAYS_NO, s->now.at_start == SAYS_YES);
    timers_wake_put(n, a, batch, &s->now);
    if (a->status == AGENT_INACTIVE) { /* it sleeps on, otherwise than before */
        agent_put_row(batch, a, AGENT_INACTIVE, a->pending, a->intent);
        return;
    }
    agent_put_row(batch, a, AGENT_INACTIVE, 0, NULL);
    event_put(n, batch,
              &(struct event){.kind = "agent.deactivate", .agent = &a->id, .type = a->type->name});
}

/* What on_deactivate says against it, for who asked. */
static gw_err refused(const struct work *w, gw_err err, const struct gw_error *why,
                      struct gw_error *ret)
{
    if (w->rolled_back || w->result.err != err || err == GW_EDECODE || err == GW_ECRASHED) {
        return err;
    }
    *ret = *why;
    ret->code = GW_EREFUSED;
    return GW_EREFUSED;
}

static void fell_asleep(struct node *n, struct agent *a)
{
    if (a->status == AGENT_INACTIVE) {
        return; /* as before */
    }
    agent_set_status(n, a, AGENT_INACTIVE);
    a->pending = 0;
    work_withdraw_run(a); /* it begins again when it wakes */
    intent_forget(a);
    if (a->type->runner && a->live->incarnation == a->type->runner->incarnation) {
        runner_unload(a->type->runner, &a->id);
    }
    a->live->incarnation = 0;
}

static void sleep_done(struct work *w, gw_err err, const struct run_result *r,
                       const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    const struct sleeping *s = w->sleep;
    struct gw_error said;
    (void)r;
    if (err == GW_OK) {
        fell_asleep(n, a);
    } else {
        REACH(SLEEP_FAILED);
        set_policy(a, s->no_wake_before, s->at_start_before);
        err = refused(w, err, why, &said);
        why = err == GW_EREFUSED ? &said : why;
    }
    timers_wake_settled(n, a, &s->now, s->set_us, err == GW_OK);
    lifecycle_end(w, err, why, &a->id, a->epoch, "inactive");
}

void deactivate_here(struct node *n, struct agent *a, struct op_call *call,
                     const struct sleep_wish *asked, uint64_t wish)
{
    struct work *w = lifecycle(n, a, HOOK_DEACTIVATE);
    w->direct |= a->status == AGENT_INACTIVE; /* only its policy changes */
    w->sleep = remember_policy(a);
    w->sleep->asked = asked ? *asked : (struct sleep_wish){0};
    w->wish = wish;
    w->prepare = sleep_prepare;
    w->done = sleep_done;
    w->arg = w->call = call;
    work_push(w, false);
}

static void deactivate_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    struct sleep_wish asked;
    if (agent_check_free(n, a, &why) != GW_OK ||
        sleep_wish_read(&call->args, &asked, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (agent_is_changing(a)) {
        call_again_later(n, call);
    } else if (a->status == AGENT_INACTIVE && !says_something(&asked)) {
        answer_status(call, n, &a->id, a->epoch, "inactive");
    } else {
        deactivate_here(n, a, call, &asked, 0);
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
    w->point = POINT_WAKE;
    (void)r;
    set_policy(a, false, false);
    timers_wake_put(w->node, a, batch, NULL);
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
    if (err != GW_OK) {
        REACH(WAKE_FAILED);
        set_policy(a, w->sleep->no_wake_before, w->sleep->at_start_before);
    }
    timers_wake_settled(n, a, NULL, 0, err == GW_OK);
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
    w->sleep = remember_policy(a);
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
    if (a->status == AGENT_QUARANTINED && a->fault) {
        crashes_release(n, a, call);
    } else if (agent_check_free(n, a, &why) != GW_OK) {
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
    w->point = POINT_DISPOSE;
    (void)r;
    if (location_has_other(n, a)) { /* a mere copy: nothing has ended */
        agent_delete_rows(batch, &a->id, a->epoch);
    } else {
        watches_end(w, batch);
        agent_end_rows(batch, &a->id, a->epoch); /* what it told others is still delivered */
        location_write_end(n, batch, &a->id, a->epoch, n->self);
    }
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
        bool copy = location_has_other(n, a);
        gw_fail(&gone, GW_EDISPOSED, copy ? "this copy was removed" : "the agent was disposed");
        agent_set_status(n, a, AGENT_DISPOSED);
        if (!copy) {
            location_know(n, &id, epoch, n->self, true, true);
            location_tell_home(n, &id, epoch, a->home, true);
            topics_ended(n, &id);
        }
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
    if ((a->status != AGENT_QUARANTINED && agent_check_free(n, a, &why) != GW_OK) ||
        builtin_check_single(n, a, &why) != GW_OK) {
        op_fail(call, &why);
    } else {
        dispose_here(n, a, call, 0);
    }
}

void op_dispose(struct node *n, struct op_call *call)
{
    route_call(n, call, dispose_local);
}
