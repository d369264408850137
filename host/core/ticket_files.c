/* Handoff at the source: a ticket whose agent has files, and is alone in it (ticket_out.c).
 *
 *   look (all there?) --> OFFERING --accept--> SENDING --settled, bound--> FREEZING
 *                                      the agent runs                        |
 *                                                 STAGING <--settled-- CHECKING, frozen */
#include "host/core/files.h"
#include "host/core/reach.h"

/* What the agent is about to become is not known yet: it is asked again. */
#define BIND_MS    20
#define BIND_TRIES 250

static void looked_at(void *arg, gw_err err, const struct gw_error *why)
{
    struct ticket_out *t = arg;
    if (err == GW_OK) {
        ticket_out_offer(t);
    } else {
        ticket_out_abort(t, why);
    }
}

void ticket_files_bind(struct ticket_out *t)
{
    struct gw_error why;
    struct move_out *m = TAILQ_FIRST(&t->moves);
    gw_err err = move_out_bind(m, &why);
    if (err == GW_OK) {
        t->tries = 0;
        ticket_out_freeze(t);
    } else if (m->agent && agent_is_changing(m->agent) && ++t->tries < BIND_TRIES) {
        t->node->env->timer_start(t->node->env->ctx, t->timer, BIND_MS);
    } else {
        ticket_out_abort(t, &why);
    }
}

static void flowed(void *arg, gw_err err, const struct gw_error *why)
{
    struct ticket_out *t = arg;
    if (err == GW_OK) {
        ticket_files_bind(t);
    } else {
        ticket_out_abort(t, why);
    }
}

void ticket_files_flow(struct ticket_out *t)
{
    ticket_out_set_phase(t, OUT_SENDING);
    t->staged_sent = true; /* files: an abort is told */
    files_out_settle(TAILQ_FIRST(&t->moves)->files, flowed, t);
}

void ticket_files_look(struct ticket_out *t)
{
    files_out_look(TAILQ_FIRST(&t->moves)->files, looked_at, t);
}

static void still(void *arg, gw_err err, const struct gw_error *why)
{
    struct ticket_out *t = arg;
    if (err != GW_OK) {
        ticket_out_abort(t, why);
        return;
    }
    ticket_out_send(t);
}

void ticket_files_check(struct ticket_out *t)
{
    ticket_out_set_phase(t, OUT_CHECKING);
    files_out_settle(TAILQ_FIRST(&t->moves)->files, still, t);
}

/* Files that were registered after the offer: nobody there expects them. */
bool ticket_files_late(struct ticket_out *t)
{
    struct gw_error why;
    struct move_out *m, *next;
    bool any = false;
    TAILQ_FOREACH (m, &t->moves, link) {
        const struct agent *a = move_out_source(m);
        any |= a && a->files && a->files->count > 0 && !m->files;
    }
    if (!any) {
        return false;
    }
    ticket_out_hold(t);
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        const struct agent *a = move_out_source(m);
        next = TAILQ_NEXT(m, link);
        if (a && a->files && a->files->count > 0 && !m->files) {
            REACH(FILES_LATE);
            gw_fail(&why, GW_EBUSY, "the agent has registered files while its move began");
            gw_hint(&why, "try again: they go along then");
            move_out_abort(m, &why);
        }
    }
    ticket_out_drop(t); /* which stages those who are left */
    return true;
}
