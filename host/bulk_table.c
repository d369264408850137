/* What the data plane serves, once: a further service or route is a row here. */
#include "host/bulk_table.h"

#include "host/agent_files.h"
#include "host/fetch_wire.h"
#include "host/file_ops.h"
#include "host/host.h"

static gw_err serve_chunks(struct bulk_request *r, struct bulk_io *io)
{
    const struct host *h = r->ctx;
    return fetch_serve(h->chunks, io, r->why);
}

const struct bulk_service bulk_services[] = {
    {"chunks", serve_chunks},
    {"files", file_serve},
    {"carried", agent_files_serve},
    {0},
};

const struct bulk_route bulk_routes[] = {
    {0},
};
