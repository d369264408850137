#include "host/trust/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "protocol/limits.h"

static gw_err fail_errno(struct gw_error *why, int error, const char *verb, const char *path)
{
    gw_err code = GW_EIO;
    if (error == EACCES || error == EPERM || error == EROFS) {
        code = GW_EDENIED;
    } else if (error == ENOSPC || error == EDQUOT) {
        code = GW_EDISK_FULL;
    }
    return gw_fail(why, code, "cannot %s \"%s\": %s", verb, path, strerror(error));
}

gw_err keyfile_path(char ret[KEYFILE_PATH_BYTES], const char *dir, const char *name,
                    struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path) {
        return gw_fail(why, GW_EARG, "the path \"%.100s...\" is longer than %d bytes", dir,
                       KEYFILE_PATH_BYTES - 1);
    }
    memcpy(ret, path, (size_t)n + 1);
    return GW_OK;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

int keyfile_keep_name(const char *path)
{
    char dir[KEYFILE_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir) {
        return ENAMETOOLONG;
    }
    memcpy(dir, n ? path : ".", n ? n : 1);
    dir[n ? n : 1] = '\0';
    GW_AUTO(close_fd)
    int fd = open(slash && n == 0 ? "/" : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

gw_err keyfile_mkdir(const char *path, struct gw_error *why)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        /* Who made it may have ended before its name was durable. The folder above may be one that
         * others made and that this user cannot open. */
        int error = keyfile_keep_name(path);
        return error == 0 || error == EACCES ? GW_OK : fail_errno(why, error, "flush", path);
    }
    char at[KEYFILE_PATH_BYTES];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof at) {
        return gw_fail(why, GW_EARG, "the path of a directory has %zu bytes, the limit is %d", n,
                       KEYFILE_PATH_BYTES - 1);
    }
    memcpy(at, path, n + 1);
    for (char *p = at + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char c = *p;
        *p = '\0';
        int error = mkdir(at, 0700) == 0 ? keyfile_keep_name(at) : errno;
        if (error && error != EEXIST) {
            return fail_errno(why, error, "make the directory", at);
        }
        *p = c;
        if (c == '\0') {
            break;
        }
    }
    if (stat(path, &st) != 0) {
        return fail_errno(why, errno, "look at", path);
    }
    return S_ISDIR(st.st_mode) ? GW_OK
                               : gw_fail(why, GW_EDENIED, "\"%s\" is not a directory", path);
}

static gw_err check_secret(const char *path, const struct stat *st, struct gw_error *why)
{
    if (st->st_mode & 077) {
        gw_err err = gw_fail(why, GW_EDENIED, "others can read the secret file \"%s\" (mode %04o)",
                             path, (unsigned)(st->st_mode & 07777));
        gw_hint(why, "chmod 600 %s, if you trust that nobody has read it", path);
        return err;
    }
    return GW_OK;
}

gw_err keyfile_read(const char *path, keyfile_kind kind, struct buf *ret, struct gw_error *why)
{
    GW_AUTO(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT ? GW_ENOT_FOUND : fail_errno(why, errno, "read", path);
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return gw_fail(why, GW_ECORRUPT, "\"%s\" is not a file", path);
    }
    if (kind == KEYFILE_SECRET) {
        GW_TRY(check_secret(path, &st, why));
    }
    if (st.st_size > LIMIT_KEY_FILE_BYTES) {
        return gw_fail(why, GW_ECORRUPT, "\"%s\" is larger than %u bytes", path,
                       LIMIT_KEY_FILE_BYTES);
    }
    GW_AUTO(keyfile_wipe) struct buf b = {0};
    if (!buf_reserve(&b, (size_t)st.st_size + 1)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    while (b.len < b.cap) {
        ssize_t n = read(fd, b.data + b.len, b.cap - b.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail_errno(why, errno, "read", path);
        }
        if (n == 0) {
            break;
        }
        b.len += (size_t)n;
    }
    *ret = buf_take(&b);
    return GW_OK;
}

static int write_all(int fd, struct span s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? errno : EIO;
        }
        s.p += n;
        s.n -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

gw_err keyfile_write(const char *path, keyfile_kind kind, struct span content, struct gw_error *why)
{
    char part[KEYFILE_PATH_BYTES];
    int n = snprintf(part, sizeof part, "%s.%ld.part", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof part) {
        return gw_fail(why, GW_EARG, "the path \"%.100s...\" is too long", path);
    }
    /* A leftover of a process that had our id would keep its mode and owner. */
    (void)unlink(part);
    int fd =
        open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kind == KEYFILE_SECRET ? 0600 : 0644);
    if (fd < 0) {
        return fail_errno(why, errno, "write", path);
    }
    int error = write_all(fd, content);
    if (close(fd) != 0 && !error) {
        error = errno;
    }
    if (!error && rename(part, path) != 0) {
        error = errno;
    }
    if (error) {
        (void)unlink(part);
        return fail_errno(why, error, "write", path);
    }
    error = keyfile_keep_name(path);
    return error ? fail_errno(why, error, "write", path) : GW_OK;
}

gw_err keyfile_remove(const char *path, struct gw_error *why)
{
    if (unlink(path) != 0) {
        return errno == ENOENT ? GW_ENOT_FOUND : fail_errno(why, errno, "remove", path);
    }
    int error = keyfile_keep_name(path);
    return error ? fail_errno(why, error, "remove", path) : GW_OK;
}

bool keyfile_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

gw_err keyfile_lock(const char *path, int *ret_fd, struct gw_error *why)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fail_errno(why, errno, "open the lock", path);
    }
    while (flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            int error = errno;
            close(fd);
            return fail_errno(why, error, "lock", path);
        }
    }
    *ret_fd = fd;
    return GW_OK;
}

void keyfile_unlock(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void keyfile_wipe(struct buf *b)
{
    if (b->data) {
        sodium_memzero(b->data, b->cap);
    }
    buf_free(b);
}
