#include "persistence/blob.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "persistence/failpoint.h"
#include "persistence/folder.h"
#include "protocol/base/log.h"

#define PART ".part"

static __attribute__((noreturn)) void die(const struct blob_dir *d, const char *verb,
                                          const char *name, int error)
{
    log_die("store.failed",
            "file=\"%s/%s\" cannot %s: %s; stopping, because it is not known what is on the disk. "
            "Check the disk, then start the host again: it goes on from its last commit",
            d->path, name, verb, strerror(error));
}

bool blob_name_is_valid(const char *name, size_t len)
{
    return len == BLOB_NAME_BYTES && strspn(name, "0123456789abcdef") >= BLOB_NAME_BYTES;
}

/* --- the folder --- */
static gw_err open_failed(const char *path, const char *verb, struct gw_error *why)
{
    int error = errno;
    gw_err code = errno_is_full(error) ? GW_EDISK_FULL : GW_EIO;
    gw_fail(why, code, "cannot %s \"%s\": %s", verb, path, strerror(error));
    gw_hint(why, code == GW_EDISK_FULL ? "make room on that disk and start again"
                                       : "it must be a folder that this user can write in");
    return code;
}

gw_err blob_dir_open(struct blob_dir *d, const char *path, struct gw_error *why)
{
    struct blob_dir new = {.fd = -1};
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return open_failed(path, "make", why);
    }
    if (getrandom(&new.run, sizeof new.run, 0) != (ssize_t)sizeof new.run) {
        return gw_fail(why, GW_EIO, "no random numbers: %s", strerror(errno));
    }
    new.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (new.fd < 0) {
        return open_failed(path, "open", why);
    }
    new.path = strdup(path);
    if (!new.path) {
        close(new.fd);
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *d = new;
    return GW_OK;
}

void blob_dir_close(struct blob_dir *d)
{
    if (d->path) {
        close(d->fd);
        free(d->path);
        *d = (struct blob_dir){.fd = -1};
    }
}

static void close_dirp(DIR **dir)
{
    if (*dir) {
        closedir(*dir);
    }
}

/* An own descriptor: closedir closes it, and the offset of d->fd is nobody's. */
static DIR *list(const struct blob_dir *d)
{
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0) {
        close(fd);
    }
    return dir;
}

gw_err blob_dir_used(const struct blob_dir *d, bool *ret, struct gw_error *why)
{
    GW_AUTO(close_dirp) DIR *dir = list(d);
    if (!dir) {
        return open_failed(d->path, "list", why);
    }
    *ret = false;
    const struct dirent *e;
    while (!*ret && (e = readdir(dir))) {
        *ret = blob_name_is_valid(e->d_name, strlen(e->d_name));
    }
    return GW_OK;
}

static int compare_names(const void *a, const void *b)
{
    return memcmp(a, b, BLOB_NAME_BYTES);
}

gw_err blob_sweep(struct blob_dir *d, const char *names, size_t count, size_t *ret_removed,
                  size_t *ret_missing, struct gw_error *why)
{
    GW_AUTO(close_dirp) DIR *dir = list(d);
    if (!dir) {
        return open_failed(d->path, "list", why);
    }
    size_t removed = 0, found = 0;
    const struct dirent *e;
    while ((e = readdir(dir))) {
        size_t len = strlen(e->d_name);
        bool part = len == BLOB_NAME_BYTES + sizeof PART - 1 &&
                    strcmp(e->d_name + BLOB_NAME_BYTES, PART) == 0;
        if (!blob_name_is_valid(e->d_name, part ? BLOB_NAME_BYTES : len)) {
            continue;
        }
        if (!part && count > 0 &&
            bsearch(e->d_name, names, count, BLOB_NAME_BYTES, compare_names)) {
            found++;
        } else {
            blob_remove(d, e->d_name);
            removed++;
        }
    }
    *ret_removed = removed;
    *ret_missing = count - found;
    return GW_OK;
}

void blob_remove(struct blob_dir *d, const char *name)
{
    if (unlinkat(d->fd, name, 0) != 0 && errno != ENOENT) {
        log_warn("store.blob_kept", "file=\"%s/%s\" cannot remove: %s; it is not used any more",
                 d->path, name, strerror(errno));
    }
}

/* --- files --- */
static void next_name(struct blob_dir *d, struct blob_ref *ref)
{
    snprintf(ref->name, sizeof ref->name, "%016" PRIx64 "%08" PRIx32, d->run, d->next++);
}

/* GW_OK, or GW_EDISK_FULL; ends the process on anything else. */
static gw_err write_all(const struct blob_dir *d, int fd, const char *name, struct span value)
{
    while (value.n > 0) {
        ssize_t n = write(fd, value.p, value.n);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno_is_full(errno)) {
            return GW_EDISK_FULL;
        }
        if (n <= 0) {
            die(d, "write", name, n < 0 ? errno : EIO);
        }
        value.p += n;
        value.n -= (size_t)n;
    }
    if (failpoint_place(PLACE_BLOB_FLUSH) || fsync(fd) != 0) {
        if (errno_is_full(errno)) {
            return GW_EDISK_FULL; /* nobody names the file yet: removing it leaves no doubt */
        }
        die(d, "fsync", name, errno);
    }
    return GW_OK;
}

gw_err blob_write(struct blob_dir *d, struct span value, struct blob_ref *ret)
{
    struct blob_ref ref = {.size = value.n, .hash = XXH3_64bits(value.p, value.n)};
    next_name(d, &ref);
    char part[BLOB_NAME_BYTES + sizeof PART];
    snprintf(part, sizeof part, "%s" PART, ref.name);
    int fd = failpoint_place(PLACE_BLOB_MAKE)
                 ? -1
                 : openat(d->fd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        if (errno_is_full(errno)) {
            return GW_EDISK_FULL;
        }
        if (errno_is_scarce(errno)) {
            return GW_EBUSY;
        }
        die(d, "make", part, errno);
    }
    gw_err err = write_all(d, fd, part, value);
    close(fd);
    if (!err && (failpoint_place(PLACE_BLOB_NAME) || renameat(d->fd, part, d->fd, ref.name) != 0)) {
        if (!errno_is_full(errno)) {
            die(d, "rename", part, errno);
        }
        err = GW_EDISK_FULL;
    }
    if (err) {
        blob_remove(d, part);
        return err;
    }
    (void)failpoint_place(PLACE_BLOB_ROW);
    d->unsynced = true;
    *ret = ref;
    return GW_OK;
}

gw_err blob_link(struct blob_dir *d, const struct blob_ref *from, struct blob_ref *ret)
{
    struct blob_ref ref = *from;
    next_name(d, &ref);
    if (linkat(d->fd, from->name, d->fd, ref.name, 0) == 0) {
        d->unsynced = true;
        *ret = ref;
        return GW_OK;
    }
    if (errno_is_full(errno)) {
        return GW_EDISK_FULL;
    }
    /* No hard links here (EPERM), too many on this file (EMLINK), or the source is gone, which the
     * read then says. */
    GW_AUTO(buf_free) struct buf content = {0};
    GW_TRY(blob_read(d, from, &content));
    return blob_write(d, buf_span(&content), ret);
}

gw_err blob_sync(struct blob_dir *d)
{
    if (!d->unsynced) {
        return GW_OK;
    }
    if (failpoint_place(PLACE_BLOB_FOLDER) || fsync(d->fd) != 0) {
        if (errno_is_full(errno)) {
            return GW_EDISK_FULL;
        }
        die(d, "fsync", "", errno);
    }
    d->unsynced = false;
    return GW_OK;
}

static gw_err damaged(const struct blob_dir *d, const struct blob_ref *ref, const char *what)
{
    log_error("store.blob_damaged", "file=\"%s/%s\" %s; restore it from a backup", d->path,
              ref->name, what);
    return GW_ECORRUPT;
}

static gw_err read_all(const struct blob_dir *d, int fd, const struct blob_ref *ref,
                       struct buf *ret)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != ref->size) {
        return damaged(d, ref, "has another size than its row says");
    }
    buf_reset(ret);
    if (!buf_reserve(ret, ref->size)) {
        return GW_ENOMEM;
    }
    while (ret->len < ref->size) {
        ssize_t n = read(fd, ret->data + ret->len, ref->size - ret->len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            log_error("store.blob_unreadable", "file=\"%s/%s\" cannot read: %s", d->path, ref->name,
                      strerror(errno));
            return GW_EIO;
        }
        if (n == 0) {
            return damaged(d, ref, "ends early");
        }
        ret->len += (size_t)n;
    }
    if (XXH3_64bits(ret->data, ret->len) != ref->hash) {
        return damaged(d, ref, "has another content than was written");
    }
    return GW_OK;
}

gw_err blob_read(const struct blob_dir *d, const struct blob_ref *ref, struct buf *ret)
{
    if (!blob_name_is_valid(ref->name, strlen(ref->name))) {
        return damaged(d, ref, "is no name of a file of the store");
    }
    int fd = openat(d->fd, ref->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        if (errno_is_scarce(errno)) {
            return GW_EBUSY;
        }
        return damaged(d, ref, strerror(errno));
    }
    gw_err err = read_all(d, fd, ref, ret);
    close(fd);
    return err;
}
