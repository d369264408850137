#include "host/files/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/files/names.h"

#define TRIES 64 /* openat2 says EAGAIN when a rename goes on anywhere on the machine */

int beneath_open(int dirfd, const char *path, int flags, bool links)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (links ? 0 : RESOLVE_NO_SYMLINKS),
    };
    int fd = -1;
    for (int i = 0; i < TRIES; i++) {
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
            break;
        }
    }
    return fd;
}

/* As much of the path as one call takes, up to a '/'. Returns its length. */
static size_t stretch(const char *path, size_t n)
{
    if (n < PATH_MAX) {
        return n;
    }
    size_t at = PATH_MAX - 1;
    while (at > 0 && path[at] != '/') {
        at--;
    }
    return at;
}

/* The first n bytes of path. */
static int walk_down(int dirfd, const char *path, size_t n, int flags)
{
    if (n == 0) {
        return beneath_open(dirfd, ".", flags | O_DIRECTORY, false);
    }
    int at = dirfd;
    while (n > 0) {
        char piece[PATH_MAX];
        size_t len = stretch(path, n);
        if (len == 0) {
            errno = ENAMETOOLONG;
        }
        memcpy(piece, path, len);
        piece[len] = '\0';
        path += len;
        n -= len;
        if (n > 0) { /* the '/' */
            path++;
            n--;
        }
        int next =
            len == 0 ? -1 : beneath_open(at, piece, O_DIRECTORY | (n > 0 ? O_PATH : flags), false);
        int error = errno;
        if (at != dirfd) {
            close(at);
        }
        errno = error;
        if (next < 0) {
            return -1;
        }
        at = next;
    }
    return at;
}

int beneath_folder(int dirfd, const char *path, int flags)
{
    return walk_down(dirfd, path, strcmp(path, ".") == 0 ? 0 : strlen(path), flags);
}

int beneath_file(int dirfd, const char *path, int flags)
{
    const char *slash = strrchr(path, '/');
    if (!slash || strlen(path) < PATH_MAX) {
        return beneath_open(dirfd, path, flags | O_NOFOLLOW, false);
    }
    int folder = walk_down(dirfd, path, (size_t)(slash - path), O_PATH);
    if (folder < 0) {
        return -1;
    }
    int fd = beneath_open(folder, slash + 1, flags | O_NOFOLLOW, false), error = errno;
    close(folder);
    errno = error;
    return fd;
}

gw_err beneath_code(int error)
{
    switch (error) {
    case ENOENT: return GW_ENOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
    case EXDEV: return GW_EDENIED;
    case ELOOP:
    case ENOTDIR:
    case EISDIR: return GW_EREFUSED;
    case ENOSPC:
    case EDQUOT: return GW_EDISK_FULL;
    case EMFILE:
    case ENFILE: return GW_EBUSY;
    case ENOMEM: return GW_ENOMEM;
    case ENAMETOOLONG:
    case EFBIG: return GW_ETOO_BIG;
    case EEXIST: return GW_EEXISTS;
    default: return GW_EIO;
    }
}

gw_err beneath_fail(struct gw_error *why, int error, const char *verb, const char *name)
{
    char shown[NAMES_SHOWN];
    gw_fail(why, beneath_code(error), "cannot %s \"%s\": %s", verb,
            names_show(name, shown, sizeof shown),
            error == EXDEV ? "it leads out of its root" : strerror(error));
    if (error == ENOSPC || error == EDQUOT) {
        gw_hint(why, "make room on that disk and start again: what has come is kept");
    } else if (error == EMFILE || error == ENFILE) {
        gw_hint(why, "no file descriptor is left; try again when less goes on, or raise the limit");
    }
    return beneath_code(error);
}
