/* Back-pressure: calls before a full mailbox.
 *
 * A caller that can be kept waiting (over a link: the door says so in op_call.waits) waits here, in
 * the order of priority and arrival, until the mailbox has room or nobody waits for the answer any
 * more; so a sender is slowed before it is refused, and needs no luck to get its turn. What waits
 * is bounded over the whole host, and by what one link may have open (api_link.c); beyond, and over
 * HTTP, the answer is `busy` at once, with {retry_ms}: the client library tries again by itself,
 * HTTP says Retry-After. One-way messages of agents wait in the outbox of their sender (tells.c).
 */
#include "host/core/internal.h"

#include <stdlib.h>

#define WAIT_MS  30000 /* of a call without a time-out of its own */
#define RETRY_MS 500
#define BATCH    64 /* calls that are let in before the loop turns to others */

struct waiting {
    TAILQ_ENTRY(waiting) link;
    struct crowd *crowd;
    struct op_call *call;
    struct env_timer *timer;
    int64_t priority;
};
struct crowd {         /* what waits for one agent */
    UT_hash_handle hh; /* by agent */
    gw_id agent;
    struct node *n;
    TAILQ_HEAD(crowd_calls, waiting) calls; /* by priority, then as they came */
    bool easing;                            /* let_in will come */
};

bool pressure_full(const struct node *n, const struct agent *a)
{
    const struct live *live = a->live;
    return live && (live->queued + live->arriving >= n->cfg.limits.mailbox ||
                    live->queued_bytes >= n->cfg.limits.mailbox_bytes);
}

void pressure_answer_busy(struct op_call *call, const struct gw_error *why)
{
    gw_value about = gw_nil();
    if (gw_map_set(&about, "retry_ms", gw_int(RETRY_MS)) != GW_OK) {
        gw_value_free(&about);
    }
    call->answer(call, GW_EBUSY, &about, why);
}

static struct crowd *crowd_find(const struct node *n, const gw_id *id)
{
    struct crowd *c;
    HASH_FIND(hh, n->crowds, id, sizeof *id, c);
    return c;
}

static void crowd_settle(struct crowd *c)
{
    if (TAILQ_EMPTY(&c->calls) && !c->easing) {
        HASH_DEL(c->n->crowds, c);
        free(c);
    }
}

/* Its call is the caller's again. */
static struct op_call *leave(struct waiting *w)
{
    struct op_call *call = w->call;
    struct node *n = w->crowd->n;
    TAILQ_REMOVE(&w->crowd->calls, w, link);
    n->waiting_count--;
    n->waiting_bytes -= call->bytes;
    n->env->timer_free(n->env->ctx, w->timer);
    call->on_gone = NULL;
    free(w);
    return call;
}

static void time_over(void *arg)
{
    struct waiting *w = arg;
    struct crowd *c = w->crowd;
    struct gw_error why;
    gw_fail(&why, GW_EBUSY, "the mailbox of the agent has stayed full (%zu messages may wait)",
            c->n->cfg.limits.mailbox);
    gw_hint(&why, "it is sent more than it can do; `godwit show` says what it does now");
    struct op_call *call = leave(w);
    crowd_settle(c);
    pressure_answer_busy(call, &why);
}

static void caller_gone(void *arg)
{
    struct waiting *w = arg;
    struct crowd *c = w->crowd;
    struct gw_error why;
    struct op_call *call = leave(w);
    crowd_settle(c);
    gw_fail(&why, GW_ECANCELLED, "nobody waits for the answer any more");
    op_fail(call, &why);
}

static void wait_here(struct node *n, struct op_call *call, const gw_id *agent)
{
    struct crowd *c = crowd_find(n, agent);
    struct waiting *w = xcalloc(1, sizeof *w);
    int64_t now_us = n->env->mono_us(n->env->ctx);
    if (!c) {
        c = xcalloc(1, sizeof *c);
        c->agent = *agent;
        c->n = n;
        TAILQ_INIT(&c->calls);
        HASH_ADD(hh, n->crowds, agent, sizeof c->agent, c);
    }
    w->crowd = c;
    w->call = call;
    w->priority = gw_map_int(&call->args, "priority", PRIORITY_NORMAL);
    struct waiting *before = TAILQ_LAST(&c->calls, crowd_calls);
    while (before && before->priority < w->priority) { /* what is urgent goes before, here too */
        before = TAILQ_PREV(before, crowd_calls, link);
    }
    if (before) {
        TAILQ_INSERT_AFTER(&c->calls, before, w, link);
    } else {
        TAILQ_INSERT_HEAD(&c->calls, w, link);
    }
    n->waiting_count++;
    n->waiting_bytes += call->bytes;
    call->waits_since_us = call->waits_since_us ? call->waits_since_us : now_us;
    int64_t left_ms = call_left_ms(n, call, WAIT_MS - (now_us - call->waits_since_us) / 1000);
    call->on_gone = caller_gone;
    call->gone_arg = w;
    w->timer = n->env->timer_new(n->env->ctx, time_over, w);
    n->env->timer_start(n->env->ctx, w->timer, left_ms > 0 ? left_ms : 0);
}

bool pressure_admits(struct node *n, struct op_call *call, const struct agent *a)
{
    struct gw_error why;
    const struct crowd *before = n->crowds ? crowd_find(n, &a->id) : NULL;
    bool in_turn = call->in_turn;
    call->in_turn = false;
    if (!pressure_full(n, a) && (in_turn || !before)) {
        return true;
    }
    if (call->waits && n->waiting_count < LIMIT_WAITING_CALLS &&
        n->waiting_bytes + call->bytes <= LIMIT_WAITING_BYTES) {
        wait_here(n, call, &a->id);
        if (!pressure_full(n, a)) {
            pressure_ease(n, &a->id);
        }
        return false;
    }
    gw_fail(&why, GW_EBUSY, "the mailbox of the agent is full (%zu messages wait)",
            a->live ? a->live->queued : 0);
    gw_hint(&why, "try again a little later");
    pressure_answer_busy(call, &why);
    return false;
}

static void let_in(void *arg)
{
    struct crowd *c = arg;
    struct node *n = c->n;
    struct waiting *w;
    for (int i = 0; i < BATCH && (w = TAILQ_FIRST(&c->calls)); i++) {
        const struct agent *a = agent_find(n, &c->agent);
        if (a && pressure_full(n, a)) {
            break;
        }
        struct op_call *call = leave(w);
        call->in_turn = true; /* when the agent has left, the call finds out itself where it is */
        node_call(n, call);
    }
    const struct agent *a = agent_find(n, &c->agent);
    c->easing = !TAILQ_EMPTY(&c->calls) && !(a && pressure_full(n, a));
    if (c->easing) {
        n->env->defer(n->env->ctx, let_in, c);
    } else {
        crowd_settle(c);
    }
}

void pressure_ease(struct node *n, const gw_id *agent)
{
    struct crowd *c = n->crowds ? crowd_find(n, agent) : NULL;
    if (c && !c->easing) {
        c->easing = true;
        n->env->defer(n->env->ctx, let_in, c);
    }
}

void pressure_refuse_all(struct node *n, const struct gw_error *why)
{
    struct crowd *c, *next;
    HASH_ITER (hh, n->crowds, c, next) {
        while (!TAILQ_EMPTY(&c->calls)) {
            op_fail(leave(TAILQ_FIRST(&c->calls)), why);
        }
        crowd_settle(c); /* or let_in does */
    }
}

void pressure_free(struct node *n)
{
    struct crowd *c, *next;
    HASH_ITER (hh, n->crowds, c, next) {
        while (!TAILQ_EMPTY(&c->calls)) {
            (void)leave(TAILQ_FIRST(&c->calls)); /* of its door */
        }
        HASH_DEL(n->crowds, c);
        free(c);
    }
}
