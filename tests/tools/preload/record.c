/* LD_PRELOAD: records the calls of a process that change files below one folder, for
 * tests/tools/powerloss.c. A call and its entry happen under one lock: the order of the record is
 * the order of the calls, over all threads; processes append to one file.
 *
 * What is seen: open, write, pwrite, ftruncate, fsync, fdatasync, rename, link, unlink, mkdir and
 * their kin, when they go through the C library's symbols. Files that a library opens for itself
 * (fopen) are not seen: the store and the keys of a host use none. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/tools/powerloss.h"

#define OURS __attribute__((visibility("default")))
#define FDS  4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *record; /* opened for each entry: a host closes what it does not know */
static char root[PATH_MAX];
static size_t root_len;
static ino_t watched[FDS]; /* inode of a file below the folder; 0 = none */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p) {
        abort();
    }
    return p;
}

static __attribute__((constructor)) void begin(void)
{
    const char *file = getenv(RECORD_FILE), *dir = getenv(RECORD_DIR);
    if (file && dir && realpath(dir, root)) {
        root_len = strlen(root);
        record = file;
    }
}

/* The path below the folder, or NULL. `room` holds the whole. */
static const char *below(int dir_fd, const char *path, char room[PATH_MAX])
{
    char proc[64];
    int n = 0;
    if (!record) {
        return NULL;
    }
    if (path[0] != '/') {
        snprintf(proc, sizeof proc, dir_fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d",
                 dir_fd);
        n = (int)readlink(proc, room, PATH_MAX - 1);
        if (n < 0) {
            return NULL;
        }
        room[n++] = '/';
    }
    if ((size_t)snprintf(room + n, (size_t)(PATH_MAX - n), "%s", path) >= (size_t)(PATH_MAX - n) ||
        strncmp(room, root, root_len) != 0 || (room[root_len] != '/' && room[root_len] != '\0')) {
        return NULL;
    }
    return room + root_len + (room[root_len] == '/');
}

static void put(rec_kind kind, ino_t file, off_t at, const char *path, const char *to,
                const void *data, size_t len)
{
    int error = errno;
    struct rec r = {.magic = REC_MAGIC,
                    .kind = (uint32_t)kind,
                    .file = (uint64_t)file,
                    .at = (uint64_t)at,
                    .path_len = path ? (uint32_t)strlen(path) : 0,
                    .to_len = to ? (uint32_t)strlen(to) : 0,
                    .data_len = (uint32_t)len};
    struct iovec parts[] = {{&r, sizeof r},
                            {(void *)(uintptr_t)path, r.path_len},
                            {(void *)(uintptr_t)to, r.to_len},
                            {(void *)(uintptr_t)data, len}};
    int fd = REAL(open)(record, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || writev(fd, parts, 4) != (ssize_t)(sizeof r + r.path_len + r.to_len + len)) {
        abort();
    }
    REAL(close)(fd);
    errno = error;
}

static bool is_watched(int fd, ino_t *ret)
{
    struct stat st;
    if (!record || fd < 0 || fd >= FDS || watched[fd] == 0 || fstat(fd, &st) != 0 ||
        st.st_ino != watched[fd]) {
        return false;
    }
    *ret = st.st_ino;
    return true;
}

/* --- names --- */
static int open_at(int dir_fd, const char *path, int flags, mode_t mode)
{
    char room[PATH_MAX];
    struct stat st;
    const char *name = below(dir_fd, path, room);
    if (!name) {
        return REAL(openat)(dir_fd, path, flags, mode);
    }
    pthread_mutex_lock(&lock);
    bool was = fstatat(dir_fd, path, &st, 0) == 0;
    int fd = REAL(openat)(dir_fd, path, flags, mode);
    if (fd >= 0 && fd < FDS && fstat(fd, &st) == 0) {
        watched[fd] = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? st.st_ino : 0;
        if (!was && S_ISREG(st.st_mode)) {
            put(REC_CREATE, st.st_ino, 0, name, NULL, NULL, 0);
        } else if (S_ISREG(st.st_mode) && flags & O_TRUNC) {
            put(REC_CUT, st.st_ino, 0, NULL, NULL, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN_AT(name, dir_fd, ...)                                                                 \
    OURS int name(__VA_ARGS__, int flags, ...)                                                     \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                    \
        va_end(more);                                                                              \
        return open_at(dir_fd, path, flags, mode);                                                 \
    }
OPEN_AT(open, AT_FDCWD, const char *path)
OPEN_AT(open64, AT_FDCWD, const char *path)
OPEN_AT(openat, dir, int dir, const char *path)
OPEN_AT(openat64, dir, int dir, const char *path)

OURS int close(int fd)
{
    if (fd >= 0 && fd < FDS) {
        watched[fd] = 0;
    }
    return REAL(close)(fd);
}

static int end_named(int rc, rec_kind kind, const char *from, const char *to, bool two)
{
    if (rc == 0 && from && (to || !two)) {
        put(kind, 0, 0, from, to, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* A call on one name or on two; `call` is its result. */
#define ONE_NAME(kind, dir, path, call)                                                            \
    char room[PATH_MAX];                                                                           \
    const char *name = below(dir, path, room);                                                     \
    pthread_mutex_lock(&lock);                                                                     \
    return end_named(call, kind, name, NULL, false)
#define TWO_NAMES(kind, old_dir, old, new_dir, new, call)                                          \
    char room[PATH_MAX], new_room[PATH_MAX];                                                       \
    const char *from = below(old_dir, old, room), *to = below(new_dir, new, new_room);             \
    pthread_mutex_lock(&lock);                                                                     \
    return end_named(call, kind, from, to, true)

OURS int mkdir(const char *path, mode_t mode)
{
    ONE_NAME(REC_MKDIR, AT_FDCWD, path, REAL(mkdir)(path, mode));
}

OURS int mkdirat(int dir, const char *path, mode_t mode)
{
    ONE_NAME(REC_MKDIR, dir, path, REAL(mkdirat)(dir, path, mode));
}

OURS int unlink(const char *path)
{
    ONE_NAME(REC_UNLINK, AT_FDCWD, path, REAL(unlink)(path));
}

OURS int unlinkat(int dir, const char *path, int flags)
{
    ONE_NAME(REC_UNLINK, dir, path, REAL(unlinkat)(dir, path, flags));
}

OURS int rename(const char *old, const char *new)
{
    TWO_NAMES(REC_RENAME, AT_FDCWD, old, AT_FDCWD, new, REAL(rename)(old, new));
}

OURS int renameat(int old_dir, const char *old, int new_dir, const char *new)
{
    TWO_NAMES(REC_RENAME, old_dir, old, new_dir, new, REAL(renameat)(old_dir, old, new_dir, new));
}

OURS int link(const char *old, const char *new)
{
    TWO_NAMES(REC_LINK, AT_FDCWD, old, AT_FDCWD, new, REAL(link)(old, new));
}

OURS int linkat(int old_dir, const char *old, int new_dir, const char *new, int flags)
{
    TWO_NAMES(REC_LINK, old_dir, old, new_dir, new,
              REAL(linkat)(old_dir, old, new_dir, new, flags));
}

/* --- bytes --- */
OURS ssize_t write(int fd, const void *data, size_t n)
{
    ino_t file;
    struct stat st;
    if (!is_watched(fd, &file)) {
        return REAL(write)(fd, data, n);
    }
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &st) == 0) {
        at = st.st_size;
    }
    ssize_t done = REAL(write)(fd, data, n);
    if (done > 0) {
        put(REC_WRITE, file, at, NULL, NULL, data, (size_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t write_at(int fd, const void *data, size_t n, off_t at)
{
    ino_t file;
    if (!is_watched(fd, &file)) {
        return REAL(pwrite)(fd, data, n, at);
    }
    pthread_mutex_lock(&lock);
    ssize_t done = REAL(pwrite)(fd, data, n, at);
    if (done > 0) {
        put(REC_WRITE, file, at, NULL, NULL, data, (size_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

OURS ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return write_at(fd, data, n, at);
}

OURS ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    return write_at(fd, data, n, at);
}

static int cut_to(int fd, off_t size)
{
    ino_t file;
    if (!is_watched(fd, &file)) {
        return REAL(ftruncate)(fd, size);
    }
    pthread_mutex_lock(&lock);
    int rc = REAL(ftruncate)(fd, size);
    if (rc == 0) {
        put(REC_CUT, file, size, NULL, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

OURS int ftruncate(int fd, off_t size)
{
    return cut_to(fd, size);
}

OURS int ftruncate64(int fd, off64_t size)
{
    return cut_to(fd, size);
}

static int flush(int fd, int (*call)(int))
{
    ino_t file;
    struct stat st;
    char proc[64], path[PATH_MAX];
    if (!is_watched(fd, &file)) {
        return call(fd);
    }
    pthread_mutex_lock(&lock);
    int rc = call(fd);
    if (rc == 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(proc, path, sizeof path - 1);
        if (n > 0) {
            path[n] = '\0';
            put(REC_SYNC_DIR, file, 0, (size_t)n > root_len ? path + root_len + 1 : "", NULL, NULL,
                0);
        }
    } else if (rc == 0) {
        put(REC_SYNC, file, 0, NULL, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

OURS int fsync(int fd)
{
    return flush(fd, REAL(fsync));
}

OURS int fdatasync(int fd)
{
    return flush(fd, REAL(fdatasync));
}
