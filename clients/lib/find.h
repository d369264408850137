/* Which host is meant: the one running here, a name, an id, a URL. */
#ifndef CLIENTS_LIB_FIND_H
#define CLIENTS_LIB_FIND_H

#include "clients/lib/conn.h"
#include "clients/lib/file.h"
#include "protocol/limits.h"

/* Where a client connects, and again after a loss. */
struct find_target {
    bool local;
    char dir[FILE_PATH_BYTES]; /* local: the folder with api.sock */
    char url[300];             /* else */
    char text[320];            /* for people: host "alpha", or the URL */
};

/* The host that `spec` names (NULL or "": $GODWIT_HOST, else the one that runs under `home`).
 * A name that does not run here is looked up among the members that the hosts here know (one call
 * of `hosts`). c  gets a connection to a local target, without upgrade; stays closed for a URL; its
 * wake_fd is kept Errors: see gw_client_open. */
gw_err find_host(const char *home, const char *spec, struct conn *c, struct find_target *ret,
                 int64_t deadline_ms, struct gw_error *why) GW_MUST_USE;
/* Append the names of hosts below `home`, sorted; running: only those that answer. No folder =
 * none. */
gw_err find_names(const char *home, bool running, gw_strs *ret, struct gw_error *why) GW_MUST_USE;
/* Whether the host answers on its socket. */
bool find_is_running(const char *home, const char *name);

#endif
