#include "host/trust/places.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/id.h"
#include "protocol/limits.h"

gw_err places_open(const char *home, const char *name, struct places *ret, struct gw_error *why)
{
    if (!name_is_valid(name)) {
        gw_err err = gw_fail(why, GW_EARG, "\"%.80s\" is not a valid host name", name);
        gw_hint(why, "letters, digits, dot, dash and underscore; at most %d", LIMIT_NAME_BYTES);
        return err;
    }
    struct places p;
    char hosts[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_mkdir(home, why));
    GW_AUTO(free_charp) char *absolute = realpath(home, NULL);
    if (!absolute) {
        return gw_fail(why, GW_EDENIED, "cannot use \"%.200s\": %s", home, strerror(errno));
    }
    if (strlen(absolute) >= sizeof p.home) {
        return gw_fail(why, GW_EARG, "the path \"%.100s...\" is too long", absolute);
    }
    memcpy(p.home, absolute, strlen(absolute) + 1);
    GW_TRY(keyfile_path(p.mesh, p.home, "mesh", why));
    GW_TRY(keyfile_path(hosts, p.home, "hosts", why));
    GW_TRY(keyfile_path(p.host, hosts, name, why));
    GW_TRY(keyfile_mkdir(p.mesh, why));
    GW_TRY(keyfile_mkdir(p.host, why));
    *ret = p;
    return GW_OK;
}

gw_err places_lock(const char *mesh_dir, int *ret_fd, struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(path, mesh_dir, "lock", why));
    return keyfile_lock(path, ret_fd, why);
}
