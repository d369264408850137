/* Folders of a destination: the open ones are kept in a short list, the one used last first;
 * entries come folder by folder, so most look no further than its head. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "host/files/sink_inside.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

#define SYNC_EACH 4 /* so many folders are flushed one by one, more by one syncfs */

/* What a folder gets at the end; its path and NUL follow. */
struct later {
    int64_t mtime_ns;
    uint32_t mode, uid, gid;
};

static gw_err no_memory(struct gw_error *why)
{
    return gw_fail(why, GW_ENOMEM, "out of memory");
}

mode_t sink_mode(const struct file_entry *e, const struct stat *here)
{
    mode_t mode = e->mode & 01777;
    if ((e->mode & S_ISUID) && e->uid == here->st_uid) {
        mode |= S_ISUID;
    }
    if ((e->mode & S_ISGID) && e->gid == here->st_gid) {
        mode |= S_ISGID;
    }
    return mode;
}

/* --- opening --- */
/* fchmod for a descriptor that is only O_PATH. */
static int change_mode(int fd, mode_t mode)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return chmod(link, mode);
}

/* A folder of ours into which we may not write gets the right to; its own mode comes at the end. */
static void unlock_folder(const struct sink *s, int at, const char *path)
{
    struct stat st;
    int fd = beneath_folder(at, path, O_PATH);
    if (fd < 0) {
        return;
    }
    if (guard_folder(s->guard, fd, path, NULL) == GW_OK && fstat(fd, &st) == 0 &&
        st.st_uid == geteuid() && (st.st_mode & 0700) != 0700) {
        (void)change_mode(fd, (st.st_mode & 07777) | 0700);
    }
    close(fd);
}

static int open_folder(const struct sink *s, const char *path)
{
    int fd = beneath_folder(s->base_fd, path, O_RDONLY);
    if (fd < 0 && errno == EACCES) {
        unlock_folder(s, s->base_fd, path);
        fd = beneath_folder(s->base_fd, path, O_RDONLY);
    }
    return fd;
}

/* Make what is missing of a path, part by part. */
static gw_err make_way(struct sink *s, const char *path, struct gw_error *why)
{
    int at = s->base_fd;
    gw_err err = GW_OK;
    while (!err && *path) {
        char part[LIMIT_FILE_NAME_BYTES + 1];
        size_t n = strcspn(path, "/");
        gw_assert(n < sizeof part); /* entry_check_path */
        memcpy(part, path, n);
        part[n] = '\0';
        path += n + (path[n] == '/');
        int next = beneath_open(at, part, O_PATH | O_DIRECTORY, false);
        if (next < 0 && errno == ENOENT) {
            if (mkdirat(at, part, 0777) == 0) {
                s->dropped_dirty = true;
            }
            next = beneath_open(at, part, O_PATH | O_DIRECTORY, false);
        }
        err = next < 0 ? sink_fail(why, errno, "make the folder", part)
                       : guard_folder(s->guard, next, part, why);
        if (at != s->base_fd) {
            close(at);
        }
        at = next;
    }
    if (at != s->base_fd && at >= 0) {
        close(at);
    }
    return err;
}

static void drop_folder(struct sink *s, struct sink_folder *f)
{
    if (f->dirty) {
        s->dropped_dirty = true;
    }
    if (f->entered) {
        parts_leave(s->parts, f->fd);
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    TAILQ_REMOVE(&s->folders, f, link);
    s->folder_count--;
    free(f->path);
    free(f);
}

static void trim_folders(struct sink *s)
{
    struct sink_folder *f = TAILQ_LAST(&s->folders, sink_folders), *before;
    for (; f && s->folder_count > SINK_FOLDERS; f = before) {
        before = TAILQ_PREV(f, sink_folders, link);
        if (f->users == 0) {
            drop_folder(s, f);
        }
    }
}

static gw_err open_new(struct sink *s, struct sink_folder *f, struct gw_error *why)
{
    if (s->base_fd < 0) {
        return GW_OK;
    }
    f->fd = open_folder(s, f->path);
    if (f->fd < 0 && errno == ENOENT) {
        if (s->o.dry_run) {
            return GW_OK;
        }
        GW_TRY(make_way(s, f->path, why));
        f->fd = open_folder(s, f->path);
    }
    struct stat st;
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        return sink_fail(why, errno, "write in the folder", f->path);
    }
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    return guard_folder(s->guard, f->fd, f->path, why);
}

gw_err sink_folder_get(struct sink *s, const char *path, size_t n, struct sink_folder **ret,
                       struct gw_error *why)
{
    struct sink_folder *f;
    TAILQ_FOREACH (f, &s->folders, link) {
        if (strncmp(f->path, path, n) == 0 && f->path[n] == '\0') {
            TAILQ_REMOVE(&s->folders, f, link);
            TAILQ_INSERT_HEAD(&s->folders, f, link);
            f->users++;
            *ret = f;
            return GW_OK;
        }
    }
    f = calloc(1, sizeof *f);
    if (!f || !(f->path = strndup(path, n))) {
        free(f);
        return no_memory(why);
    }
    f->fd = -1;
    f->users = 1;
    gw_err err = open_new(s, f, why);
    if (err) {
        if (f->fd >= 0) {
            close(f->fd);
        }
        free(f->path);
        free(f);
        return err;
    }
    TAILQ_INSERT_HEAD(&s->folders, f, link);
    s->folder_count++;
    trim_folders(s);
    *ret = f;
    return GW_OK;
}

void sink_folder_put(struct sink *s, struct sink_folder *f)
{
    (void)s;
    gw_assert(f->users > 0);
    f->users--;
}

void sink_folder_close(struct sink *s)
{
    struct sink_folder *f;
    while ((f = TAILQ_FIRST(&s->folders))) {
        drop_folder(s, f);
    }
}

gw_err sink_folder_note(struct sink *s, struct sink_folder *f, struct gw_error *why)
{
    if (s->parts && !f->entered) {
        GW_TRY(parts_enter(s->parts, f->fd, why));
        f->entered = true;
    }
    return GW_OK;
}

struct flushing {
    struct parts *parts;
    struct gw_error *why;
};

static int flush_parts(void *arg)
{
    const struct flushing *f = arg;
    return (int)parts_flush(f->parts, f->why);
}

gw_err sink_folder_flush_parts(struct sink *s, struct gw_error *why)
{
    struct flushing f = {.parts = s->parts, .why = why};
    return (gw_err)busy_run(&s->o.busy, flush_parts, &f);
}

gw_err sink_folder_enter(struct sink *s, struct sink_folder *f, struct gw_error *why)
{
    GW_TRY(sink_folder_note(s, f, why));
    return s->parts ? sink_folder_flush_parts(s, why) : GW_OK;
}

/* --- flushing names --- */
static gw_err sync_failed(struct sink *s, int error, struct gw_error *why)
{
    s->broken = true;
    return sink_fail(why, error, "flush", sink_path(s));
}

gw_err sink_folder_sync(struct sink *s, struct gw_error *why)
{
    if (s->base_fd < 0) {
        return GW_OK;
    }
    struct sink_folder *f;
    struct stat base;
    size_t dirty = 0;
    TAILQ_FOREACH (f, &s->folders, link) {
        dirty += f->dirty;
    }
    bool all = s->dropped_dirty || dirty > SYNC_EACH;
    if (all && (fstat(s->base_fd, &base) != 0 || busy_sync(&s->o.busy, syncfs, s->base_fd) != 0)) {
        return sync_failed(s, errno, why);
    }
    TAILQ_FOREACH (f, &s->folders, link) {
        if (f->dirty && !(all && f->dev == base.st_dev) &&
            busy_sync(&s->o.busy, fsync, f->fd) != 0) {
            return sync_failed(s, errno, why);
        }
        f->dirty = false;
    }
    s->dropped_dirty = false;
    return GW_OK;
}

/* --- entries --- */
static gw_err add_later(struct sink *s, const struct file_entry *e, const char *path,
                        struct gw_error *why)
{
    size_t n = strlen(path) + 1;
    if (s->later.len + sizeof(struct later) + n > LIMIT_FILE_LATER_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "more folders than one copy can hold: %u bytes of paths",
                       LIMIT_FILE_LATER_BYTES);
    }
    struct later l = {.mtime_ns = e->mtime_ns, .mode = e->mode, .uid = e->uid, .gid = e->gid};
    if (!buf_reserve(&s->later, sizeof l + n)) {
        s->later.failed = false; /* what is there is whole */
        return no_memory(why);
    }
    buf_add(&s->later, &l, sizeof l);
    buf_add(&s->later, path, n);
    return GW_OK;
}

static gw_err not_a_folder(const char *path, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    return gw_fail(why, GW_EREFUSED, "\"%s\" is there and no folder",
                   names_show(path, shown, sizeof shown));
}

static gw_err make_folder(struct sink *s, struct sink_folder *above, const char *name,
                          const char *path, struct gw_error *why)
{
    struct stat st;
    if (above->fd < 0) {
        return GW_OK; /* dry run */
    }
    if (!s->o.dry_run && mkdirat(above->fd, name, 0700) == 0) {
        above->dirty = true;
        return GW_OK;
    }
    int error = s->o.dry_run ? EEXIST : errno;
    if (error != EEXIST) {
        return sink_fail(why, error, "make the folder", path);
    }
    if (fstatat(above->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return s->o.dry_run && errno == ENOENT ? GW_OK : sink_fail(why, errno, "look at", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        return not_a_folder(path, why);
    }
    if (guard_holds(s->guard, st.st_dev, st.st_ino)) {
        return guard_deny(why, path);
    }
    if (!s->o.dry_run) {
        unlock_folder(s, above->fd, name);
    }
    return GW_OK;
}

gw_err sink_folder_entry(struct sink *s, const struct file_entry *e, const char *path,
                         struct gw_error *why)
{
    if (strcmp(path, ".") == 0) {
        return s->o.dry_run || s->keep_base ? GW_OK : add_later(s, e, "", why);
    }
    const char *slash = strrchr(path, '/');
    struct sink_folder *above;
    GW_TRY(sink_folder_get(s, path, slash ? (size_t)(slash - path) : 0, &above, why));
    gw_err err = make_folder(s, above, slash ? slash + 1 : path, path, why);
    sink_folder_put(s, above);
    GW_TRY(err);
    return s->o.dry_run ? GW_OK : add_later(s, e, path, why);
}

/* --- modes and times --- */
/* ret_changed: to be flushed. */
static gw_err set_mode(struct sink *s, const struct later *l, const char *path, bool flush,
                       bool *ret_changed, struct gw_error *why)
{
    struct stat st;
    int fd = open_folder(s, path);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        return sink_fail(why, error, "set mode and time of", path);
    }
    if (guard_holds(s->guard, st.st_dev, st.st_ino)) {
        close(fd);
        return guard_deny(why, path);
    }
    struct file_entry e = {.mode = l->mode, .uid = l->uid, .gid = l->gid};
    mode_t mode = sink_mode(&e, &st);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry_time(l->mtime_ns)};
    bool mode_differs = (st.st_mode & 07777) != mode;
    bool time_differs = entry_ns(st.st_mtim) != l->mtime_ns;
    gw_err err = GW_OK;
    if ((mode_differs && fchmod(fd, mode) != 0) || (time_differs && futimens(fd, times) != 0)) {
        err = sink_fail(why, errno, "set mode and time of", path);
    } else if (flush && (mode_differs || time_differs) && busy_sync(&s->o.busy, fsync, fd) != 0) {
        err = sync_failed(s, errno, why);
    }
    *ret_changed |= mode_differs || time_differs;
    close(fd);
    return err;
}

gw_err sink_folder_modes(struct sink *s, struct gw_error *why)
{
    const uint8_t *all = s->later.data;
    size_t count = 0;
    for (size_t at = 0; at < s->later.len; count++) {
        at += sizeof(struct later) + strlen((const char *)all + at + sizeof(struct later)) + 1;
    }
    size_t *starts = count ? calloc(count, sizeof *starts) : NULL;
    if (count && !starts) {
        return no_memory(why);
    }
    for (size_t at = 0, i = 0; i < count; i++) {
        starts[i] = at;
        at += sizeof(struct later) + strlen((const char *)all + at + sizeof(struct later)) + 1;
    }
    gw_err first = GW_OK;
    bool changed = false;
    for (size_t i = count; i-- > 0 && !s->broken;) { /* the inner ones first: they need the outer */
        struct later l;
        memcpy(&l, all + starts[i], sizeof l);
        gw_err err = set_mode(s, &l, (const char *)all + starts[i] + sizeof l, count <= SYNC_EACH,
                              &changed, first ? NULL : why);
        first = first ? first : err;
    }
    free(starts);
    if (changed && count > SYNC_EACH && busy_sync(&s->o.busy, syncfs, s->base_fd) != 0) {
        return sync_failed(s, errno, why);
    }
    return first;
}
