/* Folders that agents have below that of their host, and the thread that looks after them:
 *
 *   work/agents/AGENT   scratch of one agent: made on first use, removed when it ends
 *   storage/TYPE        of all agents of a type on this host: stays
 *   work/trash          what was removed, until the thread has taken it apart
 *
 * One thread does all of it in the order of the calls, so that a folder that is asked for after a
 * removal is a new one. Removing is one rename; taking apart and measuring give way to whoever
 * waits. A folder is measured while it is in use (DIRS_PERIOD_MS after it was handed out, and again
 * until nobody has asked for it for DIRS_USED_MS) and the thread rests four times as long as each
 * measuring took. Nothing stops an agent from writing more than its quota between two measurings:
 * what it meets is the next agent_dirs_want, which fails until a fresh measuring shows less.
 *
 * Functions are for the loop thread; callbacks come in agent_dirs_complete. */
#ifndef HOST_AGENT_DIRS_H
#define HOST_AGENT_DIRS_H

#include <stdbool.h>
#include <stdint.h>

#include <godwit/types.h>

#include "protocol/limits.h"

#define DIRS_PERIOD_MS 2000
#define DIRS_USED_MS   60000

typedef enum dirs_kind { DIRS_WORK, DIRS_STORAGE } dirs_kind;

struct agent_dirs;

struct dirs_config {
    const char *host_dir; /* copied */
    uint64_t work_quota;  /* bytes of one folder; 0 = none */
    uint64_t storage_quota;
    void (*wake)(void *arg); /* from the thread: agent_dirs_complete has something to do */
    /* A folder is over its quota, and was not before: in agent_dirs_complete. `name`: of the agent,
     * or of the type. */
    void (*on_over)(void *arg, dirs_kind kind, const char *name, uint64_t bytes, uint64_t quota);
    void *arg; /* of both */
};

struct dirs_folder {
    const char *path; /* absolute; borrowed */
    uint64_t bytes;   /* as last measured; 0 = it was not */
    uint64_t quota;   /* 0 = none */
};

/* GW_EIO, GW_EDENIED, GW_EDISK_FULL: its folders cannot be made. GW_ENOMEM. */
gw_err agent_dirs_open(const struct dirs_config *config, struct agent_dirs **ret,
                       struct gw_error *why) GW_MUST_USE;
/* What was asked for is answered (GW_ESTOPPING, if not done), in here. NULL allowed. */
void agent_dirs_close(struct agent_dirs *d);

/* `folder` is NULL on failure: GW_ETOO_BIG over its quota, GW_EIO, GW_EDISK_FULL, GW_ESTOPPING. */
typedef void (*dirs_done)(void *arg, gw_err err, const struct dirs_folder *folder,
                          const struct gw_error *why);
/* Make the folder if it is not there, and tell its path. `name`: of the agent (its text) or of the
 * type. `look`: measured now, and told whatever its quota. */
void agent_dirs_want(struct agent_dirs *d, dirs_kind kind, const char *name, bool look,
                     dirs_done done, void *arg);
/* The folder `from` (absolute, on the same file system) becomes the work folder of the agent; what
 * was there before is removed. done() as above, GW_ENOT_FOUND: there is no `from`, and nothing was
 * changed; GW_EIO. */
void agent_dirs_adopt(struct agent_dirs *d, const gw_id *agent, const char *from, dirs_done done,
                      void *arg);
/* The agent is gone from here: its work folder, too. One that is known to have none costs nothing
 * (agent_dirs_sweep finds out who has). */
void agent_dirs_remove(struct agent_dirs *d, const gw_id *agent);
/* Remove the work folders of all agents that `holds` does not know. It is asked in
 * agent_dirs_complete, a few hundred at a time. */
void agent_dirs_sweep(struct agent_dirs *d, bool (*holds)(void *arg, const gw_id *agent),
                      void *arg);
/* Call callbacks of what is done. */
void agent_dirs_complete(struct agent_dirs *d);
/* For tests: wait until the thread has nothing to do but to measure again. */
void agent_dirs_settle(struct agent_dirs *d);

#endif
