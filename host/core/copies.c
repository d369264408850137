/* Two copies of one agent (an operator ended a move by his word, H8): the lower epoch gives way.
 *
 * Who hears of a higher epoch of an agent that is here asks the other host itself, and then
 * quarantines the copy here: in memory at once, on disk as soon as there is room. A copy that is
 * active on disk would run again after a restart, so the row is tried until it is durable. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

/* A quarantine on its way to the disk; in node->yielding when that was rolled back. */
struct yielding {
    LIST_ENTRY(yielding) link;
    struct node *n;
    gw_id agent;
    uint64_t epoch;
    struct peer *other; /* who has the other, of epoch `above` */
    uint64_t above;
    char text[LIMIT_ERROR_TEXT_BYTES];
};

static void written(void *arg, gw_err err)
{
    struct yielding *y = arg;
    if (err == GW_OK) {
        free(y);
    } else {
        LIST_INSERT_HEAD(&y->n->yielding, y, link);
    }
}

static void write_row(struct yielding *y, struct agent *a)
{
    struct store_batch *batch = store_batch_new();
    agent_put_row(batch, a, AGENT_QUARANTINED, a->pending, NULL);
    location_write(batch, &a->id, y->above, y->other);
    event_put(y->n, batch,
              &(struct event){.kind = "agent.quarantined",
                              .agent = &a->id,
                              .type = a->type->name,
                              .peer = y->other,
                              .text = y->text});
    node_commit(y->n, batch, POINT_AGENT_COPIES, written, y);
}

void copies_yield(struct node *n, struct agent *a, struct peer *other, uint64_t epoch)
{
    char id[GW_ID_TEXT];
    struct gw_error why;
    if ((a->status == AGENT_QUARANTINED && !a->fault) || a->status == AGENT_DISPOSED || a->move) {
        return; /* a move ends first: the next meeting sees what came of it */
    }
    free(a->fault); /* nothing releases this one */
    a->fault = NULL;
    gw_fail(
        &why, GW_ECORRUPT,
        "host \"%s\" has this agent at epoch %llu, this copy is of epoch %llu: it is quarantined",
        peer_label(other), (unsigned long long)epoch, (unsigned long long)a->epoch);
    log_error("agent.quarantined", "agent=%s %s", gw_id_text(&a->id, id), why.text);
    struct yielding *y = xcalloc(1, sizeof *y);
    *y = (struct yielding){
        .n = n, .agent = a->id, .epoch = a->epoch, .other = other, .above = epoch};
    (void)span_text((struct span){(const uint8_t *)why.text, strlen(why.text)}, y->text,
                    sizeof y->text);
    write_row(y, a);
    location_know(n, &a->id, epoch, other, false, true);
    agent_set_status(n, a, AGENT_QUARANTINED);
    tells_forget(n, &a->id);
    work_refuse_queued(n, a, &why);
}

/* ---- asking ---- */

struct meeting { /* a host is said to have a higher epoch of an agent that is here, too */
    struct node *n;
    struct peer *other;
    gw_id agent;
};

static void met(void *arg, gw_err err, const struct frame *f)
{
    struct meeting t = *(struct meeting *)arg;
    uint32_t code;
    gw_value about = gw_nil();
    struct host_id host;
    struct mp m = f ? f->rest : (struct mp){0};
    free(arg);
    struct agent *a = err == GW_ECANCELLED ? NULL : agent_find(t.n, &t.agent);
    if (a && err == GW_OK && mp_read_u32(&m, &code) == GW_OK && code == GW_OK &&
        value_unpack(&m, &about) == GW_OK &&
        host_id_parse(gw_map_str(&about, "host_id", ""), &host) == GW_OK &&
        host_id_equal(&host, &t.other->id) && gw_map_int(&about, "epoch", 0) > (int64_t)a->epoch) {
        copies_yield(t.n, a, t.other, (uint64_t)gw_map_int(&about, "epoch", 0));
    }
    gw_value_free(&about);
}

void copies_meet(struct node *n, struct peer *other, const gw_id *agent)
{
    char id[GW_ID_TEXT];
    struct meeting *t = xcalloc(1, sizeof *t);
    *t = (struct meeting){n, other, *agent};
    location_ask(n, other, gw_id_text(agent, id), met, t);
}

/* ---- life ---- */

void copies_housekeeping(struct node *n)
{
    struct yielding *y, *next;
    struct yielding_list again = n->yielding;
    LIST_INIT(&n->yielding);
    for (y = LIST_FIRST(&again); y; y = next) {
        next = LIST_NEXT(y, link);
        struct agent *a = agent_find(n, &y->agent);
        if (a && a->epoch == y->epoch && a->status == AGENT_QUARANTINED) {
            write_row(y, a);
        } else {
            free(y); /* it has been disposed of */
        }
    }
}

void copies_free(struct node *n)
{
    struct yielding *y;
    while ((y = LIST_FIRST(&n->yielding))) {
        LIST_REMOVE(y, link);
        free(y);
    }
}
