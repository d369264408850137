/* Copies that other hosts send here: what a session writes is below the roots of this host. */
#include "host/core/node.h"
#include "host/file_ops.h"
#include "host/files/receive.h"
#include "protocol/base/log.h"

struct ended {
    struct node *node;
    struct node_transfer transfer;
};

static void tell_ended(void *arg)
{
    const struct ended *e = arg;
    node_transfer_ended(e->node, &e->transfer);
}

/* A session that was refused at its beginning is the sender's to tell. */
static bool is_worth_telling(gw_err err, const struct node_transfer *t)
{
    return err == GW_OK || t->files > 0 || t->bytes > 0;
}

gw_err file_serve(struct bulk_request *request, struct bulk_io *io)
{
    struct host *h = request->ctx;
    struct file_ops *f = h->files;
    struct receive_config config = {.roots = f->roots, .parts = f->parts};
    struct flow flow;
    flow_begin(f, &flow, true);
    gw_err err = receive_files(io, &config, &flow.progress, request->why);
    struct ended e = {.node = h->node,
                      .transfer = {.received = true,
                                   .other = &request->peer,
                                   .files = atomic_load(&flow.progress.files),
                                   .bytes = atomic_load(&flow.progress.bytes),
                                   .err = err,
                                   .reason = request->why->text}};
    flow_end(f, &flow);
    if (is_worth_telling(err, &e.transfer) &&
        bulk_on_loop(request->bulk, tell_ended, &e) != GW_OK) {
        log_info("files.received", "the host is stopping: the event log does not tell of it");
    }
    return err;
}
