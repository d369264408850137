/* Record locks (fcntl), not flock: a forked child does not inherit them, so a helper that outlives
 * a killed host cannot keep its store locked; and the kernel tells who has the lock. Their trap is
 * that they do not exist between two users in one process, and that any close() of the file drops
 * them: hence the list of what this process holds, which is asked before the file is opened. */
#include "persistence/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

struct held {
    LIST_ENTRY(held) link;
    dev_t dev;
    ino_t ino;
    int fd;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, held) all = LIST_HEAD_INITIALIZER(all);

static gw_err locked(const char *path, pid_t pid, struct gw_error *why)
{
    if (pid > 0) {
        gw_fail(why, GW_ELOCKED, "\"%s\" is in use by process %ld", path, (long)pid);
    } else {
        gw_fail(why, GW_ELOCKED, "\"%s\" is in use by another process", path);
    }
    gw_hint(why, "stop that host first, or give this one another name");
    return GW_ELOCKED;
}

static bool is_held(const struct stat *st)
{
    const struct held *h;
    LIST_FOREACH (h, &all, link) {
        if (h->dev == st->st_dev && h->ino == st->st_ino) {
            return true;
        }
    }
    return false;
}

static gw_err open_failed(const char *path, int error, struct gw_error *why)
{
    if (error == ENOSPC || error == EDQUOT) {
        gw_fail(why, GW_EDISK_FULL, "cannot write \"%s\": %s", path, strerror(error));
        gw_hint(why, "make room on that disk and start again");
        return GW_EDISK_FULL;
    }
    gw_fail(why, GW_EIO, "cannot write \"%s\": %s", path, strerror(error));
    gw_hint(why, "the folder must exist and this user must be able to write in it");
    return GW_EIO;
}

static gw_err take(const char *path, struct held *h, struct gw_error *why)
{
    struct stat st;
    if (stat(path, &st) == 0 && is_held(&st)) {
        return locked(path, getpid(), why);
    }
    h->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->fd < 0) {
        return open_failed(path, errno, why);
    }
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(h->fd, F_SETLK, &lock) != 0) {
        int error = errno;
        struct flock other = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        bool known = fcntl(h->fd, F_GETLK, &other) == 0 && other.l_type != F_UNLCK;
        close(h->fd);
        if (error == EACCES || error == EAGAIN) {
            return locked(path, known ? other.l_pid : 0, why);
        }
        return gw_fail(why, GW_EIO, "cannot lock \"%s\": %s", path, strerror(error));
    }
    if (fstat(h->fd, &st) != 0) {
        gw_fail(why, GW_EIO, "cannot look at \"%s\": %s", path, strerror(errno));
        close(h->fd);
        return GW_EIO;
    }
    h->dev = st.st_dev;
    h->ino = st.st_ino;
    return GW_OK;
}

gw_err lock_take(const char *path, int *ret_fd, struct gw_error *why)
{
    struct held *h = calloc(1, sizeof *h);
    if (!h) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    pthread_mutex_lock(&guard);
    gw_err err = take(path, h, why);
    if (err) {
        free(h);
    } else {
        LIST_INSERT_HEAD(&all, h, link);
        *ret_fd = h->fd;
    }
    pthread_mutex_unlock(&guard);
    return err;
}

void lock_release(int fd)
{
    pthread_mutex_lock(&guard);
    struct held *h;
    LIST_FOREACH (h, &all, link) {
        if (h->fd == fd) {
            LIST_REMOVE(h, link);
            close(fd);
            free(h);
            break;
        }
    }
    pthread_mutex_unlock(&guard);
}
