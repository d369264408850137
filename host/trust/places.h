/* Where the files of one host lie below $GODWIT_HOME. */
#ifndef HOST_TRUST_PLACES_H
#define HOST_TRUST_PLACES_H

#include "host/trust/keyfile.h"

struct places {
    char home[KEYFILE_PATH_BYTES]; /* absolute */
    char mesh[KEYFILE_PATH_BYTES]; /* home/mesh */
    char host[KEYFILE_PATH_BYTES]; /* home/hosts/NAME */
};
/* Check the name before it becomes a path, make the directories (0700). GW_EARG, GW_EDENIED,
 * GW_EIO. */
gw_err places_open(const char *home, const char *name, struct places *ret,
                   struct gw_error *why) GW_MUST_USE;
/* Take the lock of a mesh directory: first start, join, token records. */
gw_err places_lock(const char *mesh_dir, int *ret_fd, struct gw_error *why) GW_MUST_USE;

#endif
