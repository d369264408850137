#include "persistence/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

gw_err folder_join(char ret[PATH_MAX], const char *dir, const char *name, struct gw_error *why)
{
    if ((size_t)snprintf(ret, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX) {
        return gw_fail(why, GW_EARG, "the path of the folder \"%.200s...\" is too long", dir);
    }
    return GW_OK;
}

gw_err folder_sync(const char *dir, struct gw_error *why)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        gw_fail(why, GW_EIO, "cannot fsync \"%s\": %s", dir, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return GW_EIO;
    }
    close(fd);
    return GW_OK;
}

bool errno_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

bool errno_is_scarce(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}
