/* Streams of another host: a call that answers items goes there over its link, its items and its
 * answer come back through this one. A caller that goes away is one that goes away there: CANCEL,
 * and the answer that follows ends the call here. CANCEL overtakes what waits on the link and may
 * arrive before the CALL; so it is repeated for each item that comes all the same. */
#include "host/core/internal.h"

#include <stdlib.h>

struct relay {
    struct node *n;
    struct op_call *call;
    struct peer *to;
    uint64_t stream;
    bool gone; /* the caller */
};

static void caller_gone(void *arg)
{
    struct relay *r = arg;
    r->gone = true;
    peer_cancel(r->n, r->to, r->stream);
}

static void pass_item(void *arg, const struct frame *f)
{
    struct relay *r = arg;
    struct mp m = f->rest;
    gw_value value = gw_nil();
    if (value_unpack(&m, &value) != GW_OK) {
        return; /* a host that sends nonsense; its answer counts */
    }
    if (r->gone) {
        peer_cancel(r->n, r->to, r->stream);
    } else if (!r->call->item(r->call, &value)) {
        caller_gone(r);
    }
    gw_value_free(&value);
}

static void pass_answer(void *arg, gw_err err, const struct frame *f)
{
    struct relay *r = arg;
    struct op_call *call = r->call;
    struct gw_error why = {0};
    gw_value value = gw_nil();
    if (err == GW_OK) {
        err = route_read_reply(f, &value, &why);
    } else if (err == GW_ECANCELLED) {
        gw_fail(&why, err, "host \"%s\" is stopping", r->n->name);
    } else {
        gw_fail(&why, err, "host \"%s\" cannot be reached", peer_label(r->to));
    }
    free(r);
    call->on_gone = NULL;
    call->answer(call, err, &value, err == GW_OK ? NULL : &why);
}

void route_relay(struct node *n, struct op_call *call, struct peer *to)
{
    struct relay *r = xcalloc(1, sizeof *r);
    struct buf frame = {0};
    *r = (struct relay){.n = n, .call = call, .to = to, .stream = peer_stream(n)};
    call->on_gone = caller_gone;
    call->gone_arg = r;
    route_call_frame(n, call, r->stream, &frame);
    peer_request_stream(n, to, r->stream, &frame, pass_item, pass_answer, r);
}
