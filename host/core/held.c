/* A host that is told that its store is an old copy, or that another process is it.
 *
 *   not held --VERDICT with a point of ours that is not on our line--> stale
 *   --start with --restored--> restored --the mesh was asked (restored.c)--> not held
 *
 * A held host lets nothing run, is up for nobody, and says so in HELLO; what stops it is durable.
 * What a peer says counts only with a seal of our own (standing.c). */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/core/handoff.h"

/* [point, name of the host that remembers it] */
void held_row(struct node *n, struct span value)
{
    struct mp m = mp_over(value);
    size_t fields;
    n->held = HELD_STALE; /* whatever the rest says */
    if (mp_read_array(&m, &fields) != GW_OK || fields < 5 ||
        standing_read(&m, &n->proof) != GW_OK ||
        mp_read_text(&m, n->held_by, sizeof n->held_by) != GW_OK) {
        log_error("store.row", "table=meta why this host is stale does not decode");
    }
}

gw_err held_check(const struct node *n, struct gw_error *why)
{
    if (n->held == HELD_STALE) {
        gw_fail(why, GW_ESTORE_STALE,
                "host \"%s\" lets no agent run: its store is an older copy (host \"%s\" remembers "
                "transaction %llu of its start %llu)",
                n->name, n->held_by, (unsigned long long)n->proof.number,
                (unsigned long long)n->proof.boot);
        gw_hint(why,
                "put the newer store back; if it is lost, stop the host and start it with "
                "`godwit host --name %s --restored`",
                n->name);
        return GW_ESTORE_STALE;
    }
    if (n->held == HELD_RESTORED) {
        gw_fail(why, GW_EBUSY, "host \"%s\" was restored and asks the mesh about its agents",
                n->name);
        gw_hint(why, "in a few seconds they run; try again");
        return GW_EBUSY;
    }
    return GW_OK;
}

gw_err held_refuse(const struct node *n, const struct op *op, const struct peer *from,
                   struct gw_error *why)
{
    if (op->role != ROLE_OPERATOR && op->run != op_resolve && op->run != op_accept) {
        return GW_OK;
    }
    if (from && from->held != HELD_NOT) {
        return gw_fail(why, GW_ESTORE_STALE, "the store of host \"%s\", which asks, is an old copy",
                       peer_label(from));
    }
    return held_check(n, why);
}

/* What waits is told; what runs ends by itself, and leaves no more than its transaction. */
static void refuse_waiting(struct node *n)
{
    struct gw_error why;
    struct agent *a, *next;
    (void)held_check(n, &why);
    pressure_refuse_all(n, &why);
    HASH_ITER (hh, n->agents, a, next) {
        if (a->live) {
            work_refuse_callers(a, &why);
        }
    }
}

static void become_stale(struct node *n, struct peer *p, const struct standing *s)
{
    struct gw_error why;
    struct store_batch *batch = store_batch_new();
    struct buf value = {0};
    n->held = HELD_STALE;
    n->proof = *s;
    const char *by = peer_label(p);
    (void)span_text((struct span){(const uint8_t *)by, strlen(by)}, n->held_by, sizeof n->held_by);
    (void)held_check(n, &why);
    log_error("host.stale", "%s; %s", why.text, why.hint);
    mp_array(&value, 5);
    mp_uint(&value, s->boot);
    mp_bin(&value, s->instance, INSTANCE_BYTES);
    mp_uint(&value, s->number);
    mp_bin(&value, s->seal, SEAL_BYTES);
    mp_str(&value, n->held_by);
    store_batch_put_take(batch, TABLE_META, (struct span){(const uint8_t *)"stale", 5}, &value);
    buf_free(&value);
    event_put(n, batch, &(struct event){.kind = "host.stale", .peer = n->self, .text = why.text});
    node_commit(n, batch, POINT_STALE, NULL, NULL);
    refuse_waiting(n);
    peers_settle(n);
}

/* Another process with our key has answered to the instance of this one. */
static void copied(struct node *n, const struct peer *p, const struct standing *s)
{
    struct gw_error why;
    uint8_t seal[SEAL_BYTES];
    standing_alive(n, s->boot, s->instance, n->standing.instance, seal);
    if (memcmp(s->instance, n->standing.instance, INSTANCE_BYTES) == 0 ||
        sodium_memcmp(seal, s->seal, SEAL_BYTES) != 0) {
        log_warn("host.verdict", "host=%s says that there are two of us, and cannot show it",
                 peer_label(p));
        return;
    }
    gw_fail(&why, GW_EIDENTITY_COPIED,
            "another process runs as host \"%s\": host \"%s\" has a link to it (its start %llu)",
            n->name, peer_label(p), (unsigned long long)s->boot);
    gw_hint(&why, "this one ends: its state directory is a copy. For one more host take a new "
                  "--name; to go on here, stop the other one first");
    log_error("host.copied", "%s", why.text);
    n->cfg.on_fatal(n->env->ctx, &why);
}

void held_verdict(struct node *n, struct peer *p, uint32_t code, const struct standing *s)
{
    if (code == GW_EIDENTITY_COPIED) {
        copied(n, p, s);
        return;
    }
    if (code != GW_ESTORE_STALE || n->held == HELD_STALE || n->stopping) {
        return;
    }
    if (!standing_is_ours(n, s)) {
        log_warn("host.verdict", "host=%s says that this store is an old copy, and cannot show it",
                 peer_label(p));
    } else if (standing_goes_through(n, s)) {
        log_debug("host.verdict", "host=%s has heard more since", peer_label(p));
    } else if (n->held == HELD_RESTORED) {
        standing_rise(n, s->boot);
    } else {
        become_stale(n, p, s);
    }
}
