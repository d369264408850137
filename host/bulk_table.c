/* What the data plane serves, once: a further service or route is a row here. */
#include "host/bulk_table.h"

#include "host/agent_files.h"
#include "host/artifact_http.h"
#include "host/artifacts.h"
#include "host/fetch_wire.h"
#include "host/file_ops.h"

static gw_err serve_chunks(struct bulk_request *r, struct bulk_io *io)
{
    struct chunk_store *store;
    GW_TRY(artifacts_store(r->ctx, &store, r->why));
    return fetch_serve(store, io, r->why);
}

const struct bulk_service bulk_services[] = {
    {"chunks", serve_chunks},
    {"files", file_serve},
    {"carried", agent_files_serve},
    {0},
};

const struct bulk_route bulk_routes[] = {
    {"POST", "/v1/artifacts", ROLE_OPERATOR, artifact_http_put},
    {"POST", "/v1/artifacts/uploads", ROLE_OPERATOR, artifact_http_upload},
    {"PATCH", "/v1/artifacts/uploads/{upload}", ROLE_OPERATOR, artifact_http_append},
    {"GET", "/v1/artifacts/uploads/{upload}", ROLE_OPERATOR, artifact_http_offset},
    {"HEAD", "/v1/artifacts/uploads/{upload}", ROLE_OPERATOR, artifact_http_offset},
    {"DELETE", "/v1/artifacts/uploads/{upload}", ROLE_OPERATOR, artifact_http_drop},
    {"GET", "/v1/artifacts/{artifact}/content", ROLE_VIEWER, artifact_http_content},
    {"HEAD", "/v1/artifacts/{artifact}/content", ROLE_VIEWER, artifact_http_content},
    {0},
};
