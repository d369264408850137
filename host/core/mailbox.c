/* The order of what waits at an agent, and what is not waited for any longer.
 *
 *   [ put in front ][ the last that is no message ][ messages: 9 9 7 | 5 5 5 5 | 0 ]
 *                                              base^      last[7]^        ^last[5]
 *
 * A message goes behind the last one of its priority or a higher one (9 is the most urgent), never
 * before hooks, life-cycle work or what was put in front: those are not starved, and what was
 * asked for before a deactivation runs before it. As long as all have the normal priority there is
 * nothing to remember. Order and dedup of streams act at acceptance (inbox.c), before this. */
#include "host/core/internal.h"

#include <stdlib.h>

struct mail_order {
    struct work *base; /* messages that may be overtaken stand behind it; NULL: from the head on */
    struct work *last[PRIORITY_MOST + 1]; /* of each priority, behind base */
};

/* May be overtaken, and overtakes. */
static bool is_mail(const struct work *w)
{
    return (w->hook == HOOK_METHOD || w->hook == HOOK_TIMER) && !w->lifecycle && !w->in_front;
}

static void count(struct live *live, const struct work *w)
{
    live->queued++;
    live->queued_bytes += w->args.len;
}

static struct mail_order *order_make(struct live *live)
{
    struct mail_order *o = xcalloc(1, sizeof *o);
    struct work *w = TAILQ_LAST(&live->queue, work_queue);
    if (w && is_mail(w)) {
        o->last[PRIORITY_NORMAL] = w;
    }
    while (w && is_mail(w)) {
        w = TAILQ_PREV(w, work_queue, link);
    }
    o->base = w;
    live->order = o;
    return o;
}

void mailbox_add(struct live *live, struct work *w)
{
    struct mail_order *o = live->order;
    struct work *after = NULL;
    if (!o && is_mail(w) && w->carry.priority != PRIORITY_NORMAL) {
        o = order_make(live);
    }
    if (!o || !is_mail(w)) {
        TAILQ_INSERT_TAIL(&live->queue, w, link);
        if (o) {
            *o = (struct mail_order){.base = w};
        }
        count(live, w);
        return;
    }
    for (size_t p = w->carry.priority; !after && p <= PRIORITY_MOST; p++) {
        after = o->last[p];
    }
    after = after ? after : o->base;
    if (after) {
        TAILQ_INSERT_AFTER(&live->queue, after, w, link);
    } else {
        TAILQ_INSERT_HEAD(&live->queue, w, link);
    }
    o->last[w->carry.priority] = w;
    count(live, w);
}

void mailbox_add_front(struct live *live, struct work *w, struct work *after)
{
    w->in_front = true;
    if (after) {
        TAILQ_INSERT_AFTER(&live->queue, after, w, link);
    } else {
        TAILQ_INSERT_HEAD(&live->queue, w, link);
    }
    if (live->order && live->order->base == after) {
        live->order->base = w;
    }
    count(live, w);
}

void mailbox_remove(struct live *live, struct work *w)
{
    struct mail_order *o = live->order;
    struct work *before = TAILQ_PREV(w, work_queue, link);
    if (o && o->base == w) {
        o->base = before;
    } else if (o && is_mail(w) && o->last[w->carry.priority] == w) {
        bool same = before && before != o->base && is_mail(before) &&
                    before->carry.priority == w->carry.priority;
        o->last[w->carry.priority] = same ? before : NULL;
    }
    TAILQ_REMOVE(&live->queue, w, link);
    live->queued--;
    live->queued_bytes -= w->args.len;
    w->in_front = false;
    if (o && TAILQ_EMPTY(&live->queue)) {
        free(o);
        live->order = NULL;
    }
    pressure_ease(w->node, &w->agent->id);
}

/* ---- deadlines ---- */

static void ring(void *arg);

/* One alarm for all: it rings for the nearest, or for one that has ended meanwhile. */
static void alarm_set(struct node *n, int64_t at_us)
{
    const struct gw_env *env = n->env;
    if (n->dated_next_us && n->dated_next_us <= at_us) {
        return;
    }
    n->dated_next_us = at_us;
    if (!n->dated_alarm) {
        n->dated_alarm = env->timer_new(env->ctx, ring, n);
    }
    int64_t us = at_us - env->mono_us(env->ctx);
    env->timer_start(env->ctx, n->dated_alarm, us > 0 ? (us + 999) / 1000 : 0);
}

void mailbox_date(struct work *w)
{
    struct node *n = w->node;
    if (w->carry.deadline_us && !w->is_dated) {
        w->is_dated = true;
        LIST_INSERT_HEAD(&n->dated, w, dated);
        alarm_set(n, w->carry.deadline_us);
    }
}

void mailbox_undate(struct work *w)
{
    if (w->is_dated) {
        w->is_dated = false;
        LIST_REMOVE(w, dated);
    }
}

/* Nobody is to be told any more. */
static void unheard(struct work *w, gw_err err, const struct run_result *r,
                    const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why;
}

/* Its caller stops waiting. One that runs goes on to its end, one that waits ends at its turn. */
static void give_up(struct work *w)
{
    struct gw_error why;
    mailbox_undate(w);
    gw_fail(&why, GW_ETIMEOUT, "the agent did not answer before the deadline of the call");
    gw_hint(&why, "it may still be carried out if it has begun; `godwit show` says what waits");
    w->done(w, GW_ETIMEOUT, NULL, &why);
    w->done = unheard;
    w->arg = w->call = NULL;
}

static void ring(void *arg)
{
    struct node *n = arg;
    struct work *w, *next;
    struct dated_list late = LIST_HEAD_INITIALIZER(late);
    int64_t now_us = n->env->mono_us(n->env->ctx), nearest = 0;
    n->dated_next_us = 0;
    for (w = LIST_FIRST(&n->dated); w; w = next) {
        next = LIST_NEXT(w, dated);
        if (w->carry.deadline_us <= now_us) {
            LIST_REMOVE(w, dated);
            LIST_INSERT_HEAD(&late, w, dated);
        } else if (!nearest || w->carry.deadline_us < nearest) {
            nearest = w->carry.deadline_us;
        }
    }
    while ((w = LIST_FIRST(&late))) { /* an answer may end others: each leaves the list it is in */
        give_up(w);
    }
    if (nearest) {
        alarm_set(n, nearest);
    }
}

void mailbox_expire(struct work *w)
{
    struct gw_error why;
    w->expired = true;
    w->node->metrics.expired++;
    gw_fail(&why, GW_ETIMEOUT, "its deadline passed before its turn came: it was not run");
    if (w->inbox) { /* taken from the inbox, with an event */
        w->result = (struct run_result){.err = GW_ETIMEOUT, .why = why};
        commit_result(w);
    } else {
        work_fail(w, &why);
    }
}

void mailbox_free(struct node *n)
{
    n->env->timer_free(n->env->ctx, n->dated_alarm);
}
