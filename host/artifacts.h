/* The artifacts of this host: the chunk store (persistence/chunk_store.h), opened and kept in
 * order, with what operations and HTTP share. A store that cannot be opened does not keep the host
 * from starting: it runs without artifacts, and says so to whoever asks for one.
 *
 * Files: artifacts.c (life, sweep, counts), artifact_ops.c (operations), artifact_http.c (uploads),
 * artifact_content.c (downloads). Loop thread, unless a function says otherwise. */
#ifndef HOST_ARTIFACTS_H
#define HOST_ARTIFACTS_H

#include "host/bulk.h"
#include "host/core/node.h"
#include "persistence/artifact.h"

struct host;
struct artifacts;

/* Fills host->artifacts and, when the store can be opened, host->chunks. GW_ENOMEM. */
gw_err artifacts_open(struct host *h, struct gw_error *why) GW_MUST_USE;
void artifacts_start(struct host *h); /* the data plane runs: sweep from now on */
/* The data plane is closed, the node still there or gone. */
void artifacts_close(struct host *h);
/* For metrics and status: as of the last job that changed something. */
void artifacts_sample(const struct host *h, struct node_artifacts *ret);

/* Whether this host has no store: then the call is answered with why. */
bool artifacts_refuse(const struct host *h, struct op_call *call);

/* --- any thread --- */
/* The store, or why this host has none: the code of what is wrong with it. */
gw_err artifacts_store(const struct host *h, struct chunk_store **ret,
                       struct gw_error *why) GW_MUST_USE;
/* A whole artifact by id or by the hash of its content (then the newest). GW_ENOT_FOUND, GW_EARG.
 */
gw_err artifacts_find(struct chunk_store *s, const char *text, struct artifact_info *ret,
                      struct gw_error *why) GW_MUST_USE;
/* {artifact, name, type, size, hash, owner, created, expires}; owner and expires may be nil. */
gw_err artifacts_value(const struct artifact_info *info, gw_value *ret) GW_MUST_USE;
/* A job has changed something, or moved so many bytes. */
void artifacts_changed(const struct host *h);
void artifacts_moved(const struct host *h, uint64_t received, uint64_t sent);

/* --- a thread of a job --- */
/* One event of the log, about an artifact: its id and name, and `text` (NULL: nothing more). */
void artifacts_tell(struct host *h, node_artifact_news what, const struct artifact_info *info,
                    const char *text);

#endif
