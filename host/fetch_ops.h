/* What the files with operations on artifacts share (fetch_ops.c, agent_artifact_ops.c). */
#ifndef HOST_FETCH_OPS_H
#define HOST_FETCH_OPS_H

#include "host/core/op.h"
#include "host/fetch.h"
#include "host/host.h"

bool fetch_ops_of_agent(const struct op_call *call); /* a handler of this host makes it */
/* The one answer of a call: of one that streams the last item, but for handlers. `value` is taken;
 * why NULL with an error: no memory. */
void fetch_ops_answer(struct op_call *call, gw_err err, gw_value *value,
                      const struct gw_error *why);
/* hash, size, name, type, created, expires. */
gw_err fetch_ops_info(const struct artifact_info *info, gw_value *ret) GW_MUST_USE;
/* The same, and artifact, host, fetched, sources. */
gw_err fetch_ops_result(struct host *h, const struct fetch_result *r, gw_value *ret) GW_MUST_USE;

/* agent_artifact_ops.c: artifacts.fetch of a handler. */
void agent_artifact_fetch(struct node *n, struct op_call *call);

#endif
