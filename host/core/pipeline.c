/* The transactions of one agent that are on their way to the disk.
 *
 *   current --DONE--> committing (FIFO) --durable, and all before it--> done(): outputs leave
 *                         |
 *                         +-- one is rolled back: it and all behind it are void
 *
 * The next handler of an agent begins while the transactions of those before it are being written:
 * it sees their state. So nothing of it, an answer of a read or an error included, leaves before
 * they are durable (I5): what ends while there are any takes its place behind them, with a
 * transaction of its own or without, and done() runs in this order. Nor does what it asks others
 * while it still runs (pipeline_holds).
 *
 * When one is rolled back, the store applies none of those behind it (store_batch_chain). The
 * handler that runs is awaited; then what they left in memory is undone, last one first, the object
 * is loaded again, and they are run again in their order, but for requests whose transaction
 * failed: these are answered with the error, as nobody knows whether their sender still wants them.
 *
 * Hooks, snapshots and life-cycle work are alone: they begin when all before is durable, and
 * nothing begins before they are. The same holds behind a handler that wishes something about its
 * agent or sets timers (`closes`). */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

struct held_call { /* of a handler that runs, behind the transaction that it has seen */
    STAILQ_ENTRY(held_call) link;
    struct op_call *call;
};

bool pipeline_busy(const struct live *live)
{
    return !TAILQ_EMPTY(&live->committing) || live->broken != GW_OK;
}

bool pipeline_rests(const struct live *live)
{
    return !pipeline_busy(live) && !live->current && !live->suspended;
}

static bool alone(const struct work *w)
{
    return (w->hook != HOOK_METHOD && w->hook != HOOK_TIMER) || w->lifecycle || w->direct ||
           w->prepare || w->only_known || w->no_commit;
}

bool pipeline_takes(const struct agent *a, const struct work *w)
{
    const struct live *live = a->live;
    if (TAILQ_EMPTY(&live->committing)) {
        return true;
    }
    bool wishes = a->intent && !a->intent_busy; /* carried out when nothing is on its way */
    return !live->closed && !wishes && !alone(w) &&
           live->committing_count < LIMIT_COMMITS_PER_AGENT &&
           live->committing_bytes < LIMIT_COMMITS_BYTES;
}

void pipeline_chain(struct agent *a, struct store_batch *batch)
{
    struct live *live = agent_live(a);
    if (!live->chain) {
        live->chain = store_chain_new();
        if (!live->chain) {
            log_die("memory", "out of memory for the transactions of an agent");
        }
    }
    store_batch_chain(batch, live->chain);
}

void pipeline_renew(struct live *live)
{
    if (!pipeline_busy(live)) { /* else pipeline_settle: what is on its way fails, too */
        store_chain_drop(live->chain);
        live->chain = NULL;
    }
}

void pipeline_add(struct work *w, bool written)
{
    struct live *live = w->agent->live;
    gw_assert(live->current == w);
    live->current = NULL;
    asks_forget(live);
    w->written = w->submitted = written;
    w->closes |= alone(w);
    live->closed |= w->closes;
    TAILQ_INSERT_TAIL(&live->committing, w, link);
    live->committing_count++;
    live->committing_bytes += w->kept.len;
}

static void take_off(struct live *live, struct work *w)
{
    TAILQ_REMOVE(&live->committing, w, link);
    live->committing_count--;
    live->committing_bytes -= w->kept.len;
    if (w->closes) {
        live->closed = false;
    }
}

/* ---- calls of handlers that have seen what is not durable ---- */

static void refuse(struct op_call *call, gw_err err)
{
    struct gw_error why;
    gw_fail(&why, err, "a transaction that the handler has built on was rolled back: %s",
            gw_err_text(err));
    op_fail(call, &why);
}

bool pipeline_holds(struct node *n, struct op_call *call)
{
    const gw_value *id = gw_map_get(&call->context, "agent");
    struct agent *a = id && id->kind == GW_ID && !call_is_hop(call) ? agent_find(n, &id->id) : NULL;
    if (!a || !a->live || !pipeline_busy(a->live)) {
        return false;
    }
    if (a->live->broken != GW_OK) {
        refuse(call, a->live->broken);
        return true;
    }
    struct work *last = TAILQ_LAST(&a->live->committing, work_queue);
    struct held_call *h = xcalloc(1, sizeof *h);
    h->call = call;
    STAILQ_INSERT_TAIL(&last->calls, h, link);
    return true;
}

/* GW_OK: they go on. */
static void let_go(struct node *n, struct held_calls *calls, gw_err err)
{
    struct held_call *h;
    while ((h = STAILQ_FIRST(calls))) {
        struct op_call *call = h->call;
        STAILQ_REMOVE_HEAD(calls, link);
        free(h);
        if (err == GW_OK) {
            node_call(n, call);
        } else {
            refuse(call, err);
        }
    }
}

void pipeline_forget_calls(struct work *w)
{
    struct held_call *h;
    while ((h = STAILQ_FIRST(&w->calls))) { /* the calls belong to their doors */
        STAILQ_REMOVE_HEAD(&w->calls, link);
        free(h);
    }
}

/* ---- one is durable ---- */

static void finish_first(struct node *n, struct live *live)
{
    struct work *w = TAILQ_FIRST(&live->committing);
    struct held_calls calls = STAILQ_HEAD_INITIALIZER(calls);
    take_off(live, w);
    STAILQ_CONCAT(&calls, &w->calls);
    commit_finish(w); /* frees it */
    let_go(n, &calls, GW_OK);
}

/* It, and the reads behind it that have waited for it. */
static void finish_durable(struct node *n, gw_id id)
{
    struct agent *a;
    struct work *w;
    do {
        finish_first(n, agent_find(n, &id)->live);
        a = agent_find(n, &id); /* done() may have ended it */
        w = a && a->live && !a->live->broken ? TAILQ_FIRST(&a->live->committing) : NULL;
    } while (w && !w->submitted);
}

void pipeline_durable(void *arg, gw_err err)
{
    struct work *w = arg, *o;
    struct node *n = w->node;
    struct live *live = w->agent->live;
    w->submitted = false;
    if (err == GW_OK) {
        gw_assert(!live->broken && w == TAILQ_FIRST(&live->committing));
        finish_durable(n, w->agent->id);
        return;
    }
    if (live->broken == GW_OK) {
        REACH(HANDLER_ROLLED_BACK);
        live->broken = err;
        TAILQ_FOREACH (o, &live->committing, link) {
            let_go(n, &o->calls, err); /* so that the handler that waits for them can end */
        }
    }
    pipeline_settle(n, w->agent);
}

/* ---- one was rolled back ---- */

static bool quiet(const struct live *live)
{
    const struct work *w;
    TAILQ_FOREACH (w, &live->committing, link) {
        if (w->submitted) {
            return false;
        }
    }
    return !live->current;
}

/* What has left nothing behind is simply run again, and so is what nobody else would repeat. */
static bool again(const struct work *w)
{
    return !w->node->stopping && (!w->written || work_waits(w));
}

static void undo_all(struct node *n, struct live *live, struct work_queue *failed)
{
    struct work *w;
    bool held = false;
    REACH_IF(live->committing_count > 1, HANDLER_VOID);
    TAILQ_FOREACH_REVERSE(w, &live->committing, work_queue, link)
    {
        commit_undo(w);
    }
    while ((w = TAILQ_LAST(&live->committing, work_queue))) {
        take_off(live, w);
        if (again(w)) {
            REACH(HANDLER_AGAIN);
            held |= w->written;
            work_requeue(w);
        } else {
            TAILQ_INSERT_HEAD(failed, w, link);
        }
    }
    if (held) {
        work_hold_agent(n, live->agent);
    }
}

void pipeline_settle(struct node *n, struct agent *a)
{
    struct live *live = a->live;
    gw_id id = a->id;
    gw_err err = live->broken;
    struct work *w;
    if (err == GW_OK || live->settling || !quiet(live)) {
        return;
    }
    struct work_queue failed = TAILQ_HEAD_INITIALIZER(failed);
    live->settling = true;
    log_warn("store.rolled_back",
             "agent type=%s error=%s transactions=%zu it goes on from the last "
             "one that was written",
             a->type->name, gw_err_name(err), live->committing_count);
    commit_unload(a);
    undo_all(n, live, &failed);
    store_chain_drop(live->chain);
    live->chain = NULL;
    while ((w = TAILQ_FIRST(&failed))) {
        TAILQ_REMOVE(&failed, w, link);
        if (TAILQ_EMPTY(&failed)) { /* the only one may be the one with which the agent ends */
            live->broken = GW_OK;
            live->settling = false;
        }
        commit_fail(w, err);
    }
    a = agent_find(n, &id);
    if (a && a->live) {
        a->live->broken = GW_OK;
        a->live->settling = false;
        if (err == GW_ECORRUPT) {
            crashes_damaged(n, &id, "its transaction cannot be written");
        }
        intent_run(n, a);
    }
    if (a && agent_find(n, &id) == a) {
        work_pump(n, a);
    }
}
