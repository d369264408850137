/* Files that travel with agents, on the disks and wires of the machine: what env.h asks of the
 * environment. The loop asks; threads of the data plane (bulk.h) look, read, hash, send, write.
 *
 *   work/incoming/TICKET/AGENT/NAME    what has come for a ticket (agent_files_in.c)
 *   work/agents/AGENT/                 becomes that by a rename (agent_dirs.h)
 *
 * They cross in sessions of the service "carried" (PROTOCOL.md 11), one file after the other; a
 * session that breaks goes on where it was. A file is verified by its SHA-256 as it comes, flushed,
 * and then counts as whole: what is known of it stays in memory until the ticket is staged. */
#ifndef HOST_AGENT_FILES_H
#define HOST_AGENT_FILES_H

#include "host/bulk.h"
#include "host/core/env.h"

struct host;
struct agent_files;

/* Makes its folder, fills its calls into h->env. Before the node. */
gw_err agent_files_open(struct host *h, struct gw_error *why) GW_MUST_USE;
/* Below it each agent has its work folder. Borrowed. */
const char *agent_files_folder(const struct host *h);
/* After the node; what was asked and not answered stays so. NULL members allowed. */
void agent_files_close(struct host *h);
/* The service "carried" (a row of bulk_services). */
gw_err agent_files_serve(struct bulk_request *request, struct bulk_io *io);

#endif
