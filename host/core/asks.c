/* Calls that the environment makes to other hosts: which there are, and an operation of one. */
#include "host/core/internal.h"

#include <stdlib.h>

struct asking_host {
    struct node *n;
    node_asked done;
    void *arg;
    struct peer *peer;
};

static struct node_host view(const struct peer *p)
{
    return (struct node_host){p->id, peer_label(p), p->url, p->self, p->self || p->up};
}

gw_err node_pick_host(struct node *n, const char *selector, struct node_host *ret,
                      struct gw_error *why)
{
    struct peer *p;
    GW_TRY(peers_pick(n, selector, false, &p, why));
    *ret = view(p);
    return GW_OK;
}

void node_each_host(struct node *n, bool (*visit)(void *arg, const struct node_host *host),
                    void *arg)
{
    for (const struct peer *p = n->peers; p; p = p->hh.next) {
        struct node_host host = view(p);
        if ((p->self || p->url[0]) && !visit(arg, &host)) {
            return;
        }
    }
}

static void answered(void *arg, gw_err err, const struct frame *f)
{
    struct asking_host *a = arg;
    struct gw_error why = {0};
    gw_value value = gw_nil();
    if (err != GW_OK) {
        gw_fail(&why, err, "host \"%s\" %s", peer_label(a->peer),
                err == GW_ETIMEOUT ? "did not answer in time" : "cannot be reached");
    } else {
        err = route_read_reply(f, &value, &why);
    }
    a->done(a->arg, err, &value, &why);
    gw_value_free(&value);
    free(a);
}

void node_ask(struct node *n, const struct host_id *to, const char *op, gw_value args,
              int64_t timeout_ms, node_asked done, void *arg)
{
    struct asking_host *a = xcalloc(1, sizeof *a);
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    *a = (struct asking_host){n, done, arg, peer_intern(n, to)};
    size_t at = frame_begin(&frame, FRAME_CALL, stream, 3);
    mp_str(&frame, op);
    if (args.kind == GW_NIL) {
        mp_map(&frame, 0);
    } else {
        value_pack(&args, &frame);
    }
    mp_nil(&frame);
    frame_end(&frame, at);
    gw_value_free(&args);
    peer_request(n, a->peer, stream, &frame, timeout_ms, answered, a);
}
