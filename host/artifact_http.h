/* Artifacts over HTTP: rows of bulk_table.c, each served on a thread (bulk.h). docs/artifacts.md
 * says what they take and answer. */
#ifndef HOST_ARTIFACT_HTTP_H
#define HOST_ARTIFACT_HTTP_H

#include "host/bulk.h"

/* artifact_http.c: contents that come */
gw_err artifact_http_put(struct bulk_request *r, struct bulk_io *io);
gw_err artifact_http_upload(struct bulk_request *r, struct bulk_io *io);
gw_err artifact_http_append(struct bulk_request *r, struct bulk_io *io);
gw_err artifact_http_offset(struct bulk_request *r, struct bulk_io *io); /* GET and HEAD */
gw_err artifact_http_drop(struct bulk_request *r, struct bulk_io *io);
/* artifact_content.c: contents that go; GET and HEAD */
gw_err artifact_http_content(struct bulk_request *r, struct bulk_io *io);

#endif
