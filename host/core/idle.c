/* Agents that have nothing to do fall asleep: .idle_timeout_ms of their type.
 *
 * The active agents of a type stand in a list in the order of their last use, so that nobody needs
 * a timer: each second the oldest are looked at. One that cannot sleep now (it is at work,
 * on_deactivate refuses) goes to the end of the list and is asked again after another while. Sleep
 * comes up to a second late. */
#include "host/core/internal.h"

#define IDLE_AT_ONCE 1000 /* of one type, each second: so many lie down in one go at most */

void idle_add(struct node *n, struct agent *a)
{
    a->used_us = n->env->mono_us(n->env->ctx);
    TAILQ_INSERT_TAIL(&a->type->idle, a, idle);
}

void idle_remove(struct agent *a)
{
    TAILQ_REMOVE(&a->type->idle, a, idle);
}

void idle_touch(struct node *n, struct agent *a)
{
    if (a->status == AGENT_ACTIVE) {
        idle_remove(a);
        idle_add(n, a);
    }
}

static bool is_idle(const struct agent *a)
{
    const struct live *live = a->live;
    bool works = live && (live->held || !pipeline_rests(live) || !TAILQ_EMPTY(&live->queue));
    return !works && !a->move && !a->sending && !a->intent && !a->unborn && !a->loading &&
           !a->start_waits;
}

void idle_housekeeping(struct node *n)
{
    int64_t now = n->env->mono_us(n->env->ctx);
    if (!n->ready || n->loading || node_rests(n)) {
        return;
    }
    for (struct type *t = n->types; t; t = t->hh.next) {
        struct agent *a;
        for (int i = 0; i < IDLE_AT_ONCE && t->idle_ms > 0 && (a = TAILQ_FIRST(&t->idle)); i++) {
            if (a->used_us + t->idle_ms * 1000 > now) {
                break;
            }
            idle_touch(n, a);
            if (is_idle(a)) {
                deactivate_here(n, a, NULL, NULL, 0);
            }
        }
    }
}
