/* Agents that begin by themselves, a bounded number at a time: at the start of the host those with
 * hooks, wishes or mail that were left, and those that want to be woken then; later those whose
 * time to wake has come.
 *
 * They stand in one queue, in the order in which they were found. The next begins when one of those
 * that run has come to rest; one whose runner is not there yet goes to the end. Nobody who waits
 * for an answer waits for this queue: an agent with such a message begins at once. */
#include "host/core/internal.h"

#include <stdlib.h>

#define STARTS_AT_ONCE 64 /* enough to keep runners and disk busy */

void starts_add(struct node *n, struct agent *a, bool wake)
{
    if (a->unborn) {
        return; /* whoever makes it waits, and the start may wait for that */
    }
    a->wake_wanted |= wake;
    if (a->start_waits) {
        return;
    }
    if (n->start_count == n->start_cap) {
        size_t cap = n->start_cap ? n->start_cap * 2 : 64;
        gw_id *grown = malloc(cap * sizeof *grown);
        if (!grown) {
            log_die("memory", "out of memory for the agents that begin");
        }
        for (size_t i = 0; i < n->start_count; i++) {
            grown[i] = n->starts[(n->start_head + i) % n->start_cap];
        }
        free(n->starts);
        n->starts = grown;
        n->start_cap = cap;
        n->start_head = 0;
    }
    n->starts[(n->start_head + n->start_count++) % n->start_cap] = a->id;
    a->start_waits = true;
}

/* The next one; NULL: it has begun by itself, or is gone. */
static struct agent *take(struct node *n)
{
    struct agent *a = agent_find(n, &n->starts[n->start_head]);
    n->start_head = (n->start_head + 1) % n->start_cap;
    n->start_count--;
    if (!a || !a->start_waits) {
        return NULL;
    }
    a->start_waits = false;
    return a;
}

static void begin(struct node *n, struct agent *a)
{
    gw_id id = a->id;
    a->starting = true;
    n->starting++;
    if (a->wake_wanted && a->status == AGENT_INACTIVE && !a->move) {
        agent_wake(n, a);
    }
    if ((a = agent_find(n, &id))) {
        a->wake_wanted = false;
        work_pump(n, a);
    }
    if ((a = agent_find(n, &id))) {
        intent_run(n, a);
    }
    if ((a = agent_find(n, &id)) && a->starting && !(a->live && !pipeline_rests(a->live))) {
        starts_end(n, a);
    }
}

static bool has_to_wait(const struct agent *a)
{
    const struct runner *r = a->type->runner;
    return r && (r->state == RUNNER_STARTING || r->state == RUNNER_BACKOFF);
}

void starts_go(struct node *n)
{
    for (size_t i = n->start_count; i > 0 && n->start_count > 0; i--) {
        if (!n->ready || n->loading || node_rests(n) || n->starting >= STARTS_AT_ONCE) {
            return;
        }
        struct agent *a = take(n);
        if (a && has_to_wait(a)) {
            starts_add(n, a, false);
        } else if (a) {
            begin(n, a);
        }
    }
}

bool starts_may(struct node *n, struct agent *a)
{
    const struct work *w;
    (void)n;
    if (!a->start_waits) {
        return true;
    }
    TAILQ_FOREACH (w, &a->live->queue, link) {
        if (w->call) {
            a->start_waits = false; /* its place in the queue is void */
            return true;
        }
    }
    return false;
}

static void go_on(void *arg)
{
    struct node *n = arg;
    n->starts_deferred = false;
    starts_go(n);
}

void starts_end(struct node *n, struct agent *a)
{
    a->starting = false;
    n->starting--;
    if (!n->starts_deferred && n->start_count > 0 && !n->ended) {
        n->starts_deferred = true; /* not deeper in the stack of what has just ended */
        n->env->defer(n->env->ctx, go_on, n);
    }
}

void starts_free(struct node *n)
{
    free(n->starts);
}
