/* Parents and children: a child watches its parent.
 *
 * The create of a child writes {its row, "$watch" to the parent}; the parent keeps a row for each
 * child. When the parent ends, its transaction puts a "$down" for each child into its outbox, as
 * for any watcher; what differs is what a child does with it: nothing runs. A child that ends with
 * its parent writes that it has to (WATCH_ENDING) when it accepts the message, and is disposed as
 * soon as it can be; that word is part of the child, so it holds across crashes and moves. A child
 * that outlives its parent merely loses its row. A child that finds no parent any more (it ended
 * while the child was being made) does the same. A parent that cannot be reached, or is
 * quarantined, has not ended. */
#include "host/core/watches.h"

#include <stdlib.h>

void lineage_put(struct node *n, struct watch *w, struct store_batch *batch)
{
    const struct agent *a = w->agent;
    if (w->row.kind == WATCH_LOOSE) {
        watch_del(a, &w->row, batch);
        event_put(n, batch,
                  &(struct event){.kind = "agent.orphan", .agent = &a->id, .type = a->type->name});
        return;
    }
    struct watch ending = *w;
    ending.row.kind = WATCH_ENDING;
    watch_put(&ending, batch);
}

void lineage_written(struct node *n, struct watch *w)
{
    struct agent *a = w->agent;
    w->due = NULL;
    if (w->row.kind == WATCH_LOOSE) {
        watch_drop(n, w);
        return;
    }
    w->row.kind = WATCH_ENDING;
    lineage_pump(n, a);
}

static bool is_ending(const struct agent *a)
{
    const struct watch *w = a->watches ? a->watches->first : NULL;
    while (w && w->row.kind != WATCH_ENDING) {
        w = w->next;
    }
    return w != NULL;
}

void lineage_pump(struct node *n, struct agent *a)
{
    bool here =
        a->status == AGENT_ACTIVE || a->status == AGENT_INACTIVE || a->status == AGENT_QUARANTINED;
    if (is_ending(a) && here && !a->move && !a->sending && !a->loading && !n->loading && n->ready &&
        !n->stopping && !agent_is_changing(a)) {
        dispose_here(n, a, NULL, 0); /* a failure: housekeeping tries again */
    }
}

gw_err watches_check_parent(struct node *n, const gw_id *parent, struct gw_error *why)
{
    const struct agent *a = agent_find(n, parent);
    if (a && a->watches && a->watches->counts[WATCH_IN] >= LIMIT_WATCHERS_PER_AGENT) {
        return gw_fail(why, GW_EBUSY, "the parent has %d children and watchers already",
                       LIMIT_WATCHERS_PER_AGENT);
    }
    return GW_OK;
}

gw_err lineage_describe(const struct agent *a, gw_value *ret_parent, gw_value *ret_children)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    char id[GW_ID_TEXT];
    *ret_parent = gw_nil();
    for (const struct watch *w = a->watches ? a->watches->first : NULL; err == GW_OK && w;
         w = w->next) {
        if (watch_is_of_child(w)) {
            *ret_parent = gw_str(gw_id_text(&w->row.other, id));
        } else if (w->row.kind == WATCH_PARENT && list.list.n < LIMIT_PAGE) {
            err = gw_list_add(&list, gw_str(gw_id_text(&w->row.other, id)));
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        gw_value_free(ret_parent);
        return err;
    }
    *ret_children = list;
    return GW_OK;
}
