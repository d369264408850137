/* The registry: DIR/<32 hex of BLAKE2b of a path> -> path. A symbolic link holds the path in its
 * inode, so it is whole or not there; the fsync of DIR that follows makes it older than any part.
 */
#include "host/files/parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "protocol/base/buf.h"
#include "protocol/base/table.h"
#include "protocol/limits.h"

#define PART        ".godwit-part"
#define REST        ".godwit-rest"
#define SUFFIX      (sizeof PART - 1)
#define HASH_HEX    16
#define RECORD_NAME 33

struct folder_key {
    uint64_t dev, ino;
};

/* A folder that sinks of this process are in. */
struct entered {
    struct folder_key key;
    unsigned users;
    char record[RECORD_NAME];
    UT_hash_handle hh;
};

/* A destination that is written. */
struct claim {
    struct folder_key key;
    char name[LIMIT_FILE_NAME_BYTES + 1]; /* zeros after it: it is part of the key */
    UT_hash_handle hh;
};
#define CLAIM_KEY_BYTES (sizeof(struct folder_key) + LIMIT_FILE_NAME_BYTES + 1)

struct parts {
    char *path; /* owned */
    int fd;
    pthread_mutex_t guard;
    struct entered *entered;
    struct claim *claims;
    bool dirty;       /* links were made that are not flushed */
    uint64_t entries; /* how often anybody entered a folder: what was seen before may be old */
};

/* --- names --- */
static void name_with(const char *name, const char *suffix, char ret[PARTS_NAME_BYTES])
{
    uint8_t hash[crypto_generichash_BYTES_MIN];
    char hex[2 * sizeof hash + 1];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)name, strlen(name), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    int room = LIMIT_FILE_NAME_BYTES - 2 - HASH_HEX - (int)SUFFIX;
    snprintf(ret, PARTS_NAME_BYTES, ".%.*s.%.*s%s", room, name, HASH_HEX, hex, suffix);
}

void parts_name(const char *name, char ret[PARTS_NAME_BYTES])
{
    name_with(name, PART, ret);
}

void parts_rest_name(const char *name, char ret[PARTS_NAME_BYTES])
{
    name_with(name, REST, ret);
}

bool parts_is_part(const char *name)
{
    size_t n = strlen(name);
    if (name[0] != '.' || n < 2 + HASH_HEX + SUFFIX) {
        return false;
    }
    const char *suffix = name + n - SUFFIX, *hash = suffix - HASH_HEX;
    return (strcmp(suffix, PART) == 0 || strcmp(suffix, REST) == 0) && hash[-1] == '.' &&
           strspn(hash, "0123456789abcdef") == HASH_HEX;
}

/* --- life --- */
gw_err parts_open(const char *dir, struct parts **ret, struct gw_error *why)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return beneath_fail(why, errno, "make the folder", dir);
    }
    struct parts *p = calloc(1, sizeof *p);
    char *path = strdup(dir);
    int fd = p && path ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        int error = p && path ? errno : ENOMEM;
        free(p);
        free(path);
        return beneath_fail(why, error, "open the folder", dir);
    }
    p->path = path;
    p->fd = fd;
    pthread_mutex_init(&p->guard, NULL);
    *ret = p;
    return GW_OK;
}

void parts_close(struct parts *p)
{
    if (!p) {
        return;
    }
    struct entered *e, *next_e;
    HASH_ITER (hh, p->entered, e, next_e) {
        HASH_DEL(p->entered, e);
        free(e);
    }
    struct claim *c, *next_c;
    HASH_ITER (hh, p->claims, c, next_c) {
        HASH_DEL(p->claims, c);
        free(c);
    }
    pthread_mutex_destroy(&p->guard);
    close(p->fd);
    free(p->path);
    free(p);
}

/* --- one writer per destination --- */
static void claim_key(struct claim *c, uint64_t dev, uint64_t ino, const char *name)
{
    *c = (struct claim){.key = {dev, ino}};
    memcpy(c->name, name, strnlen(name, LIMIT_FILE_NAME_BYTES));
}

gw_err parts_claim(struct parts *p, uint64_t dev, uint64_t ino, const char *name,
                   struct gw_error *why)
{
    struct claim *c = calloc(1, sizeof *c), *other = NULL;
    if (!c) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    claim_key(c, dev, ino, name);
    pthread_mutex_lock(&p->guard);
    HASH_FIND(hh, p->claims, &c->key, CLAIM_KEY_BYTES, other);
    if (!other) {
        HASH_ADD(hh, p->claims, key, CLAIM_KEY_BYTES, c);
    }
    pthread_mutex_unlock(&p->guard);
    if (other) {
        char shown[NAMES_SHOWN];
        free(c);
        return gw_fail(why, GW_ECONFLICT, "another transfer writes to \"%s\"",
                       names_show(name, shown, sizeof shown));
    }
    return GW_OK;
}

void parts_release(struct parts *p, uint64_t dev, uint64_t ino, const char *name)
{
    struct claim key, *c = NULL;
    claim_key(&key, dev, ino, name);
    pthread_mutex_lock(&p->guard);
    HASH_FIND(hh, p->claims, &key.key, CLAIM_KEY_BYTES, c);
    if (c) {
        HASH_DEL(p->claims, c);
    }
    pthread_mutex_unlock(&p->guard);
    free(c);
}

/* --- folders --- */
/* Where the folder behind fd is. ENAMETOOLONG, ENOENT (removed), other errno: 0 = there. */
static int path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX);
    if (n < 0) {
        return errno;
    }
    if (n == PATH_MAX) {
        return ENAMETOOLONG;
    }
    path[n] = '\0';
    if (path[0] != '/' || fstat(fd, &st) != 0 || st.st_nlink == 0) {
        return ENOENT;
    }
    return 0;
}

static void record_name(const char *path, char ret[RECORD_NAME])
{
    uint8_t hash[crypto_generichash_BYTES_MIN];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)path, strlen(path), NULL, 0);
    sodium_bin2hex(ret, RECORD_NAME, hash, sizeof hash);
}

static bool key_of(int fd, struct folder_key *ret)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return false;
    }
    *ret = (struct folder_key){st.st_dev, st.st_ino};
    return true;
}

/* Under the mutex. */
static gw_err write_record(struct parts *p, int fd, char record[RECORD_NAME], struct gw_error *why)
{
    char path[PATH_MAX];
    int error = path_of(fd, path);
    if (error) {
        return beneath_fail(why, error, "find the path of", "the destination");
    }
    record_name(path, record);
    if (symlinkat(path, p->fd, record) != 0) {
        if (errno == EEXIST) {
            return GW_OK;
        }
        return beneath_fail(why, errno, "note a folder in", p->path);
    }
    p->dirty = true;
    return GW_OK;
}

gw_err parts_flush(struct parts *p, struct gw_error *why)
{
    int failed = 0, error = 0;
    pthread_mutex_lock(&p->guard); /* whoever comes meanwhile has to wait for it, too */
    if (p->dirty) {
        failed = fsync(p->fd);
        error = errno;
        p->dirty = failed != 0;
    }
    pthread_mutex_unlock(&p->guard);
    return failed ? beneath_fail(why, error, "flush the folder", p->path) : GW_OK;
}

static gw_err enter(struct parts *p, int fd, const struct folder_key *key, struct gw_error *why)
{
    struct entered *e = NULL;
    p->entries++;
    HASH_FIND(hh, p->entered, key, sizeof *key, e);
    if (e) {
        e->users++;
        return GW_OK;
    }
    e = calloc(1, sizeof *e);
    if (!e) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    gw_err err = write_record(p, fd, e->record, why);
    if (err) {
        free(e);
        return err;
    }
    e->key = *key;
    e->users = 1;
    HASH_ADD(hh, p->entered, key, sizeof e->key, e);
    return GW_OK;
}

gw_err parts_enter(struct parts *p, int fd, struct gw_error *why)
{
    struct folder_key key;
    if (!key_of(fd, &key)) {
        return beneath_fail(why, errno, "look at", "the destination");
    }
    pthread_mutex_lock(&p->guard);
    gw_err err = enter(p, fd, &key, why);
    pthread_mutex_unlock(&p->guard);
    return err;
}

static void close_dirp(DIR **dir)
{
    if (*dir) {
        closedir(*dir);
    }
}

/* The folder behind fd again, for reading from its beginning. */
static DIR *list(int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own < 0 ? NULL : fdopendir(own);
    if (!dir && own >= 0) {
        close(own);
    }
    return dir;
}

static bool holds_part(int fd)
{
    GW_AUTO(close_dirp) DIR *dir = list(fd);
    const struct dirent *e;
    bool found = !dir; /* not to be forgotten */
    while (!found && (e = readdir(dir))) {
        found = parts_is_part(e->d_name);
    }
    return found;
}

static uint64_t entries_now(struct parts *p)
{
    pthread_mutex_lock(&p->guard);
    uint64_t entries = p->entries;
    pthread_mutex_unlock(&p->guard);
    return entries;
}

void parts_leave(struct parts *p, int fd)
{
    struct folder_key key;
    uint64_t entries = entries_now(p);
    if (!key_of(fd, &key)) {
        return; /* the next start knows nothing of it, and the sweep finds the folder empty */
    }
    bool holds = holds_part(fd);
    struct entered *e = NULL;
    pthread_mutex_lock(&p->guard);
    HASH_FIND(hh, p->entered, &key, sizeof key, e);
    if (e && --e->users == 0) {
        if (!holds && entries == p->entries) {
            (void)unlinkat(p->fd, e->record, 0);
        }
        HASH_DEL(p->entered, e);
        free(e);
    }
    pthread_mutex_unlock(&p->guard);
}

/* --- the sweep --- */
static bool is_entered(struct parts *p, int fd)
{
    struct folder_key key;
    struct entered *e = NULL;
    if (key_of(fd, &key)) {
        HASH_FIND(hh, p->entered, &key, sizeof key, e);
    }
    return e != NULL;
}

/* One name of the form of a part. Returns whether it is gone. */
static bool sweep_part(int folder, const char *name, int64_t older_than, struct parts_swept *swept)
{
    struct stat st, now;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT;
    }
    if (st.st_uid != geteuid() || (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) ||
        st.st_ctim.tv_sec > older_than) {
        return false;
    }
    int fd = -1;
    bool ours = true;
    if (S_ISREG(st.st_mode)) { /* in use: locked; else nobody begins while we hold the lock */
        fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        ours = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &now) == 0 &&
               now.st_ino == st.st_ino && now.st_ctim.tv_sec <= older_than &&
               fstatat(folder, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == st.st_ino;
    }
    bool gone = ours && unlinkat(folder, name, 0) == 0;
    if (fd >= 0) {
        close(fd);
    }
    if (gone) {
        swept->removed++;
        swept->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : 0;
    }
    return gone;
}

/* Returns whether parts are left. */
static bool sweep_folder(int folder, int64_t older_than, struct parts_swept *swept)
{
    GW_AUTO(close_dirp) DIR *dir = list(folder);
    const struct dirent *e;
    bool left = !dir;
    while (dir && (e = readdir(dir))) {
        if (parts_is_part(e->d_name) && !sweep_part(folder, e->d_name, older_than, swept)) {
            swept->kept++;
            left = true;
        }
    }
    return left;
}

/* The folder of a record, without following links: it was recorded without any. */
static int open_recorded(const struct parts *p, const char *record)
{
    char path[PATH_MAX];
    ssize_t n = readlinkat(p->fd, record, path, sizeof path);
    if (n <= 0 || n == (ssize_t)sizeof path || path[0] != '/') {
        errno = EIO;
        return -1;
    }
    path[n] = '\0';
    int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) {
        return -1;
    }
    int fd = beneath_folder(top, path + 1, O_RDONLY), error = errno;
    close(top);
    errno = error;
    return fd;
}

static void sweep_record(struct parts *p, const char *record, int64_t older_than,
                         struct parts_swept *swept)
{
    int fd = open_recorded(p, record);
    if (fd < 0) {
        struct stat st;
        bool gone = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
        /* A disk may come back; a record that is old with its parts would be swept anyway. */
        if (gone && fstatat(p->fd, record, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_ctim.tv_sec <= older_than) {
            (void)unlinkat(p->fd, record, 0);
        } else {
            swept->unreachable++;
        }
        return;
    }
    uint64_t entries = entries_now(p);
    bool left = sweep_folder(fd, older_than, swept);
    pthread_mutex_lock(&p->guard);
    if (!left && entries == p->entries && !is_entered(p, fd)) {
        (void)unlinkat(p->fd, record, 0);
    }
    pthread_mutex_unlock(&p->guard);
    close(fd);
}

gw_err parts_sweep(struct parts *p, int64_t ttl_s, struct parts_swept *ret, struct gw_error *why)
{
    GW_AUTO(close_dirp) DIR *dir = list(p->fd);
    if (!dir) {
        return beneath_fail(why, errno, "list", p->path);
    }
    struct parts_swept swept = {0};
    int64_t older_than = (int64_t)time(NULL) - ttl_s;
    const struct dirent *e;
    while ((e = readdir(dir))) {
        if (strlen(e->d_name) == RECORD_NAME - 1) {
            sweep_record(p, e->d_name, older_than, &swept);
        }
    }
    *ret = swept;
    return GW_OK;
}
