/* Pack files: chunk behind chunk, written at reserved places by any thread, flushed before a row
 * names what was written. A pack whose flush failed for want of room is never flushed again: what
 * the kernel has dropped then would look written. */
#include "persistence/chunk_inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persistence/failpoint.h"
#include "persistence/folder.h"
#include "protocol/base/log.h"

#define NAME_BYTES      sizeof "00000001.pack"
#define OPEN_PACKS_MOST 32 /* descriptors that are kept; those in use come on top */

static char *name_of(uint32_t id, char ret[NAME_BYTES])
{
    snprintf(ret, NAME_BYTES, "%08" PRIx32 ".pack", id);
    return ret;
}

static __attribute__((noreturn)) void die(const struct chunk_store *s, const char *verb,
                                          const char *name)
{
    log_die("artifacts.failed",
            "file=\"%s/packs/%s\" cannot %s: %s; stopping, because it is not known what is on the "
            "disk. Check the disk, then start the host again: it goes on from its last commit",
            s->dir, name, verb, strerror(errno));
}

static gw_err full(const struct chunk_store *s, struct gw_error *why)
{
    gw_fail(why, GW_EDISK_FULL, "no room for artifacts in \"%s\"", s->dir);
    gw_hint(why, "make room on that disk, or remove artifacts, and try again");
    return GW_EDISK_FULL;
}

static gw_err out_of_descriptors(struct gw_error *why)
{
    return gw_fail(why, GW_EBUSY, "no file descriptor for a pack of artifacts: %s",
                   strerror(errno));
}

/* --- the list --- */
struct pack *pack_find(struct chunk_store *s, uint32_t id)
{
    struct pack *p;
    LIST_FOREACH (p, &s->packs, link) {
        if (p->id == id) {
            return p;
        }
    }
    return NULL;
}

static struct pack *add(struct chunk_store *s, uint32_t id)
{
    struct pack *p = calloc(1, sizeof *p);
    if (p) {
        p->id = id;
        p->fd = -1;
        LIST_INSERT_HEAD(&s->packs, p, link);
        s->next_pack = id >= s->next_pack ? id + 1 : s->next_pack;
    }
    return p;
}

static void close_fd(struct chunk_store *s, struct pack *p)
{
    if (p->fd >= 0) {
        close(p->fd);
        p->fd = -1;
        s->open_packs--;
    }
}

/* The list begins with the pack that was used last: close the one that was not for longest. */
static void close_one(struct chunk_store *s)
{
    struct pack *p, *oldest = NULL;
    LIST_FOREACH (p, &s->packs, link) {
        if (p->fd >= 0 && p->users == 0 && p->unnamed == 0 && !p->dirty && p != s->active) {
            oldest = p;
        }
    }
    if (oldest) {
        close_fd(s, oldest);
    }
}

static gw_err open_fd(struct chunk_store *s, struct pack *p, int flags, struct gw_error *why)
{
    char name[NAME_BYTES];
    if (s->open_packs >= OPEN_PACKS_MOST) {
        close_one(s);
    }
    p->fd =
        openat(s->packs_fd, name_of(p->id, name), flags | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (p->fd >= 0) {
        s->open_packs++;
        return GW_OK;
    }
    if (errno_is_scarce(errno)) {
        return out_of_descriptors(why);
    }
    if (errno_is_full(errno)) {
        return full(s, why);
    }
    gw_err code = errno == EIO ? GW_EIO : GW_ECORRUPT;
    return gw_fail(why, code, "\"%s/packs/%s\" cannot be opened: %s", s->dir, name,
                   strerror(errno));
}

/* --- reading --- */
gw_err pack_hold(struct chunk_store *s, uint32_t id, struct pack **ret, struct gw_error *why)
{
    struct pack *p = id ? pack_find(s, id) : NULL;
    char name[NAME_BYTES];
    if (!p) {
        return gw_fail(why, GW_ECORRUPT, "its file \"%s/packs/%s\" is gone", s->dir,
                       name_of(id, name));
    }
    if (p->fd < 0) {
        GW_TRY(open_fd(s, p, 0, why));
    }
    LIST_REMOVE(p, link);
    LIST_INSERT_HEAD(&s->packs, p, link);
    p->users++;
    *ret = p;
    return GW_OK;
}

void pack_drop(struct chunk_store *s, struct pack *p)
{
    gw_assert(p->users > 0);
    p->users--;
    if (s->open_packs > OPEN_PACKS_MOST) {
        close_one(s);
    }
}

static gw_err read_bytes(struct chunk_store *s, const struct pack *p, const struct chunk_row *row,
                         struct buf *ret, struct gw_error *why)
{
    char name[NAME_BYTES];
    name_of(p->id, name);
    if (!buf_reserve(ret, row->len)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    while (ret->len < row->len) {
        ssize_t n =
            pread(p->fd, ret->data + ret->len, row->len - ret->len, (off_t)(row->at + ret->len));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return gw_fail(why, GW_EIO, "\"%s/packs/%s\" cannot be read at %" PRIu64 ": %s", s->dir,
                           name, row->at, strerror(errno));
        }
        if (n == 0) {
            return gw_fail(why, GW_ECORRUPT, "\"%s/packs/%s\" ends before %" PRIu64, s->dir, name,
                           row->at + row->len);
        }
        ret->len += (size_t)n;
    }
    struct chunk_hash hash = chunk_hash_of(ret->data, ret->len);
    if (memcmp(hash.b, row->hash.b, CHUNK_HASH_BYTES) != 0) {
        return gw_fail(why, GW_ECORRUPT,
                       "%" PRIu32 " bytes of \"%s/packs/%s\" at %" PRIu64
                       " are not as they were written",
                       row->len, s->dir, name, row->at);
    }
    return GW_OK;
}

gw_err pack_read(struct chunk_store *s, const struct pack *p, const struct chunk_row *row,
                 struct buf *ret, struct gw_error *why)
{
    buf_reset(ret);
    gw_err err = read_bytes(s, p, row, ret, why);
    if (err) {
        buf_reset(ret); /* nobody sees bytes that are not the chunk's */
    }
    return err;
}

/* --- writing --- */
static gw_err begin(struct chunk_store *s, struct gw_error *why)
{
    struct pack *p = add(s, s->next_pack);
    gw_err err;
    if (!p) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    if (failpoint_place(PLACE_PACK_MAKE)) {
        err = errno_is_full(errno) ? full(s, why) : GW_EIO;
    } else {
        err = open_fd(s, p, O_CREAT | O_EXCL, why);
    }
    if (err) {
        char name[NAME_BYTES];
        name_of(p->id, name);
        LIST_REMOVE(p, link);
        free(p);
        if (err != GW_EDISK_FULL && err != GW_EBUSY) {
            die(s, "make", name);
        }
        return err;
    }
    s->active = p;
    s->unsynced = true;
    return GW_OK;
}

gw_err pack_reserve(struct chunk_store *s, uint32_t len, struct pack **ret, uint64_t *ret_at,
                    struct gw_error *why)
{
    struct pack *p = s->active;
    if (!p || p->failed || (p->end > 0 && p->end + len > PACK_BYTES)) {
        GW_TRY(begin(s, why));
        p = s->active;
    } else if (p->fd < 0) {
        GW_TRY(open_fd(s, p, 0, why));
    }
    *ret = p;
    *ret_at = p->end;
    p->end += len;
    p->users++;
    p->unnamed++;
    return GW_OK;
}

void pack_unreserve(struct chunk_store *s, struct pack *p, uint64_t at, uint32_t len)
{
    if (p->end == at + len && ftruncate(p->fd, (off_t)at) == 0) {
        p->end = at;
    }
    pack_drop(s, p);
    p->unnamed--;
}

gw_err pack_write(struct chunk_store *s, struct pack *p, uint64_t at, struct span bytes,
                  struct gw_error *why)
{
    char name[NAME_BYTES];
    uint64_t from = at;
    size_t len = bytes.n;
    while (bytes.n > 0) {
        ssize_t n =
            failpoint_place(PLACE_PACK_WRITE) ? -1 : pwrite(p->fd, bytes.p, bytes.n, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno_is_full(errno)) {
            return full(s, why);
        }
        if (n <= 0) {
            die(s, "write", name_of(p->id, name));
        }
        bytes.p += n;
        bytes.n -= (size_t)n;
        at += (uint64_t)n;
    }
    /* Let the disk begin, so that the flush finds little to wait for. Its result does not matter.
     */
    (void)sync_file_range(p->fd, (off_t)from, (off_t)len, SYNC_FILE_RANGE_WRITE);
    return GW_OK;
}

static void flush_one(struct chunk_store *s, struct pack *p)
{
    char name[NAME_BYTES];
    p->dirty = false;
    p->users++;
    pthread_mutex_unlock(&s->lock);
    int failed = failpoint_place(PLACE_PACK_FLUSH) || fdatasync(p->fd) != 0;
    int error = errno;
    pthread_mutex_lock(&s->lock);
    if (failed && !errno_is_full(error)) {
        errno = error;
        die(s, "fsync", name_of(p->id, name));
    }
    if (failed) {
        p->failed = GW_EDISK_FULL;
        s->active = s->active == p ? NULL : s->active;
    }
    pack_drop(s, p);
}

static struct pack *any_dirty(struct chunk_store *s)
{
    struct pack *p;
    LIST_FOREACH (p, &s->packs, link) {
        if (p->dirty && !p->failed) {
            return p;
        }
    }
    return NULL;
}

gw_err pack_flush(struct chunk_store *s, struct gw_error *why)
{
    struct pack *p;
    while ((p = any_dirty(s))) {
        flush_one(s, p);
    }
    if (!s->unsynced) {
        return GW_OK;
    }
    s->unsynced = false;
    pthread_mutex_unlock(&s->lock);
    int failed = failpoint_place(PLACE_PACK_FOLDER) || fsync(s->packs_fd) != 0;
    int error = errno;
    pthread_mutex_lock(&s->lock);
    if (failed && !errno_is_full(error)) {
        errno = error;
        die(s, "fsync", "");
    }
    s->unsynced = s->unsynced || failed;
    return failed ? full(s, why) : GW_OK;
}

void pack_remove(struct chunk_store *s, struct pack *p)
{
    char name[NAME_BYTES];
    gw_assert(p->users == 0 && p->unnamed == 0);
    if (unlinkat(s->packs_fd, name_of(p->id, name), 0) != 0 && errno != ENOENT) {
        log_warn("artifacts.pack_kept",
                 "file=\"%s/packs/%s\" cannot remove: %s; it is not used any more", s->dir, name,
                 strerror(errno));
    }
    close_fd(s, p);
    s->active = s->active == p ? NULL : s->active;
    LIST_REMOVE(p, link);
    free(p);
}

void pack_punch(struct chunk_store *s, struct pack *p, const struct extent *kept, size_t n)
{
    uint64_t at = 0;
    if (p->fd < 0 && open_fd(s, p, 0, NULL) != GW_OK) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (kept[i].at > at) {
            (void)fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                            (off_t)(kept[i].at - at));
        }
        at = kept[i].at + kept[i].len;
    }
    if (p->end > at && ftruncate(p->fd, (off_t)at) == 0) {
        p->end = at;
    }
}

/* --- opening --- */
static void close_dirp(DIR **dir)
{
    if (*dir) {
        closedir(*dir);
    }
}

static bool parse_name(const char *text, uint32_t *ret)
{
    char again[NAME_BYTES];
    char *rest;
    unsigned long id = strtoul(text, &rest, 16);
    if (id == 0 || id > UINT32_MAX || strcmp(text, name_of((uint32_t)id, again)) != 0) {
        return false;
    }
    *ret = (uint32_t)id;
    return true;
}

static gw_err open_failed(const char *path, const char *verb, struct gw_error *why)
{
    gw_err code = errno_is_full(errno) ? GW_EDISK_FULL : GW_EIO;
    gw_fail(why, code, "cannot %s \"%s\": %s", verb, path, strerror(errno));
    gw_hint(why, code == GW_EDISK_FULL ? "make room on that disk and start again"
                                       : "it must be a folder that this user can write in");
    return code;
}

gw_err pack_open_all(struct chunk_store *s, struct gw_error *why)
{
    char path[PATH_MAX];
    GW_TRY(folder_join(path, s->dir, "packs", why));
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return open_failed(path, "make", why);
    }
    s->packs_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    GW_AUTO(close_dirp) DIR *dir = s->packs_fd < 0 ? NULL : opendir(path);
    if (!dir) {
        return open_failed(path, "open", why);
    }
    const struct dirent *e;
    while ((e = readdir(dir))) {
        uint32_t id;
        struct stat st;
        if (!parse_name(e->d_name, &id)) {
            continue;
        }
        if (fstatat(s->packs_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            return open_failed(path, "look into", why);
        }
        struct pack *p = add(s, id);
        if (!p) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        p->end = (uint64_t)st.st_size;
    }
    return GW_OK;
}

gw_err pack_known(struct chunk_store *s, uint32_t id, uint64_t live, uint64_t end)
{
    char name[NAME_BYTES];
    struct pack *p = pack_find(s, id);
    if (id == 0) { /* damaged ones that are nowhere any more */
        return GW_OK;
    }
    if (p) {
        p->live = live;
        p->named_end = end;
    } else {
        s->next_pack = id >= s->next_pack ? id + 1 : s->next_pack;
        log_error("artifacts.pack_missing",
                  "file=\"%s/packs/%s\" bytes=%" PRIu64
                  " are gone; `godwit artifacts verify` says which artifacts need them",
                  s->dir, name_of(id, name), live);
    }
    return GW_OK;
}

/* What a process that ended in mid-write has left behind the last chunk that a row names. */
static void trim(struct chunk_store *s, struct pack *p)
{
    char name[NAME_BYTES];
    if (p->end < p->named_end) {
        log_error("artifacts.pack_short",
                  "file=\"%s/packs/%s\" has %" PRIu64 " of %" PRIu64
                  " bytes; `godwit artifacts verify` says which artifacts need them",
                  s->dir, name_of(p->id, name), p->end, p->named_end);
        return;
    }
    if (p->end > p->named_end && open_fd(s, p, 0, NULL) == GW_OK) {
        if (ftruncate(p->fd, (off_t)p->named_end) == 0) {
            p->end = p->named_end;
        }
        close_fd(s, p);
    }
    if (p->end < PACK_BYTES && (!s->active || s->active->id < p->id)) {
        s->active = p;
    }
}

void pack_trim_all(struct chunk_store *s)
{
    struct pack *p = LIST_FIRST(&s->packs), *next;
    for (; p; p = next) {
        next = LIST_NEXT(p, link);
        if (p->live == 0) {
            pack_remove(s, p);
        } else {
            trim(s, p);
        }
    }
}

void pack_close_all(struct chunk_store *s)
{
    struct pack *p;
    while ((p = LIST_FIRST(&s->packs))) {
        gw_assert(p->users == 0);
        close_fd(s, p);
        LIST_REMOVE(p, link);
        free(p);
    }
    if (s->packs_fd >= 0) {
        close(s->packs_fd);
    }
}
