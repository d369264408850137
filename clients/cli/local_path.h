/* Paths of this machine, as a host on it is told them. */
#ifndef CLIENTS_CLI_LOCAL_PATH_H
#define CLIENTS_CLI_LOCAL_PATH_H

#include <stdbool.h>

#include <godwit/err.h>

/* A path as typed, made absolute: below $PWD where that is where we are (a root of the host may
 * well be named by a link), without doubled '/' and ".", with a '/' at its end where the typed one
 * says that it means a folder ("docs/", "."). ".." goes where the kernel would go.
 *   is_source  the host takes it for a pattern: when a file of just this name is there, what would
 *              be special in it is not (\*)
 *   ret        the caller's
 * Errors: GW_ENOT_FOUND: what stands before ".." is not there; GW_EARG: empty; GW_EIO: where we are
 * cannot be found out; GW_ENOMEM. */
gw_err local_path(const char *typed, bool is_source, char **ret, struct gw_error *why) GW_MUST_USE;

#endif
