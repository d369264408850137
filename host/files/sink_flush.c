/* The last step of files and links: flushed, then named, then their names flushed.
 *
 *   committed --> waiting --(syncfs, or their own fsync)--> named --> placed --(folders flushed)-->
 * told
 *
 * A batch that was flushed by syncfs flushes the names of the batch before it, too: so a long run
 * of small files costs one syncfs per batch, and the last names are flushed when the caller asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "host/files/sink_inside.h"

#define PLACED_MAX 4096 /* names that wait to be flushed; their structs are in memory */

gw_err sink_fail(struct gw_error *why, int error, const char *verb, const char *name)
{
    char shown[NAMES_SHOWN];
    names_show(name[0] ? name : ".", shown, sizeof shown);
    switch (error) {
    case ELOOP:
        return gw_fail(why, GW_EREFUSED,
                       "cannot %s \"%s\": a link is in the way, and none is followed", verb, shown);
    case ENOTDIR:
        return gw_fail(why, GW_EREFUSED, "cannot %s \"%s\": what is there is no folder", verb,
                       shown);
    case EISDIR: return gw_fail(why, GW_EREFUSED, "\"%s\" is there and a folder", shown);
    case EEXIST:
        gw_fail(why, GW_EEXISTS, "\"%s\" is there already", shown);
        gw_hint(why, "--overwrite replaces what is there, --update what is older");
        return GW_EEXISTS;
    default: return beneath_fail(why, error, verb, name[0] ? name : ".");
    }
}

/* --- lists --- */
static void append(struct sink_files *list, struct sink_file *f)
{
    f->next = NULL;
    *list->end = f;
    list->end = &f->next;
    list->count++;
}

static struct sink_file *take_first(struct sink_files *list)
{
    struct sink_file *f = list->first;
    list->first = f->next;
    list->count--;
    if (!list->first) {
        list->end = &list->first;
    }
    return f;
}

static void tell(struct sink *s, struct sink_file *f, gw_err err, const struct gw_error *why)
{
    if (s->o.on_placed) {
        s->o.on_placed(s->o.ctx, f->tag, err, why);
    }
    sink_file_free(f);
}

static void tell_all(struct sink *s, struct sink_files *list, gw_err err,
                     const struct gw_error *why)
{
    while (list->first) {
        tell(s, take_first(list), err, why);
    }
}

/* --- names --- */
gw_err sink_flush_clear(const struct sink_folder *folder, const char *part, const char *name,
                        struct gw_error *why)
{
    struct stat st;
    if (fstatat(folder->fd, part, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? GW_OK : sink_fail(why, errno, "look at", name);
    }
    int fd = -1;
    if (S_ISREG(st.st_mode)) {
        fd = openat(folder->fd, part, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
            char shown[NAMES_SHOWN];
            close(fd);
            return gw_fail(why, GW_ECONFLICT, "another transfer writes to \"%s\"",
                           names_show(name, shown, sizeof shown));
        }
    }
    int failed = unlinkat(folder->fd, part, 0), error = errno;
    if (fd >= 0) {
        close(fd);
    }
    return failed && error != ENOENT ? sink_fail(why, error, "remove what is left of", name)
                                     : GW_OK;
}

/* Give the file behind fd, which has no name, this one. */
static int link_fd(int fd, int folder, const char *name)
{
    char from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, from, folder, name, AT_SYMLINK_FOLLOW);
}

/* Without a part: straight to its name, or, where it replaces another, over a temporary one. */
static gw_err name_unnamed(struct sink *s, struct sink_file *f, struct gw_error *why)
{
    if (link_fd(f->fd, f->folder->fd, f->name) == 0) {
        return GW_OK;
    }
    if (errno != EEXIST || !(s->o.overwrite || s->o.update)) {
        return sink_fail(why, errno, "write", f->name);
    }
    struct stat st;
    if (fstatat(f->folder->fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
        return sink_fail(why, EISDIR, "write", f->name);
    }
    char part[PARTS_NAME_BYTES];
    parts_name(f->name, part);
    gw_err err = sink_folder_enter(s, f->folder, why);
    if (err && err != GW_ETOO_BIG) { /* too deep to be noted: so short a time has to do without */
        return err;
    }
    GW_TRY(sink_flush_clear(f->folder, part, f->name, why));
    if (link_fd(f->fd, f->folder->fd, part) != 0) {
        return sink_fail(why, errno, "write", f->name);
    }
    if (renameat(f->folder->fd, part, f->folder->fd, f->name) != 0) {
        int error = errno;
        (void)unlinkat(f->folder->fd, part, 0);
        return sink_fail(why, error, "write", f->name);
    }
    return GW_OK;
}

static gw_err name_part(struct sink *s, struct sink_file *f, struct gw_error *why)
{
    char part[PARTS_NAME_BYTES];
    parts_name(f->name, part);
    int at = f->folder->fd;
    if (s->o.overwrite || s->o.update) {
        return renameat(at, part, at, f->name) == 0 ? GW_OK
                                                    : sink_fail(why, errno, "write", f->name);
    }
    if (renameat2(at, part, at, f->name, RENAME_NOREPLACE) == 0) {
        return GW_OK;
    }
    if (errno == EINVAL || errno == ENOSYS) { /* not on every file system */
        if (linkat(at, part, at, f->name, 0) == 0) {
            (void)unlinkat(at, part, 0);
            return GW_OK;
        }
    }
    return sink_fail(why, errno, "write", f->name);
}

/* --- batches --- */
/* The data of what waits, in one go; names that were given before come along. */
static gw_err sync_waiting(struct sink *s, struct gw_error *why)
{
    if (!s->waiting_unsynced) {
        return GW_OK;
    }
    const struct sink_folder *any = s->waiting.first->folder;
    struct stat base;
    if (busy_sync(&s->o.busy, syncfs, any->fd) != 0 || fstat(s->base_fd, &base) != 0) {
        s->broken = true;
        return sink_fail(why, errno, "flush", sink_path(s));
    }
    struct sink_folder *f;
    bool dirty = s->dropped_dirty && any->dev != base.st_dev;
    TAILQ_FOREACH (f, &s->folders, link) {
        if (f->dev == any->dev) {
            f->dirty = false;
        }
        dirty |= f->dirty;
    }
    s->dropped_dirty &= any->dev != base.st_dev;
    if (!dirty) {
        tell_all(s, &s->placed, GW_OK, NULL);
    }
    return GW_OK;
}

/* Files that replace others get their names over temporary ones: their folders are noted in one go.
 * What fails here is tried again, and told, with each of them. */
static void note_folders(struct sink *s)
{
    bool noted = false;
    for (struct sink_file *f = s->waiting.first; f && s->parts; f = f->next) {
        noted |= f->over && !f->part && sink_folder_note(s, f->folder, NULL) == GW_OK;
    }
    if (noted && sink_folder_flush_parts(s, NULL)) {
        return;
    }
}

static gw_err fail_broken(struct gw_error *why)
{
    return gw_fail(why, GW_EIO,
                   "the disk failed; nothing is certain of what it was to "
                   "flush");
}

static gw_err flush(struct sink *s, bool names_too, struct gw_error *why)
{
    struct gw_error own = {0};
    gw_err first = s->broken && s->waiting.first ? fail_broken(&own) : sync_waiting(s, &own);
    if (first) {
        tell_all(s, &s->waiting, first, &own);
    }
    note_folders(s);
    while (s->waiting.first) {
        struct sink_file *f = take_first(&s->waiting);
        struct gw_error one = {0};
        if (s->o.busy.tick) {
            s->o.busy.tick(s->o.busy.arg);
        }
        gw_err err = f->part ? name_part(s, f, &one) : name_unnamed(s, f, &one);
        f->folder->dirty |= !err;
        sink_file_close(f);
        if (!err) {
            append(&s->placed, f);
            continue;
        }
        if (!first) {
            first = err;
            own = one;
        }
        tell(s, f, err, &one);
    }
    s->waiting_bytes = 0;
    s->waiting_unsynced = false;
    if (names_too && !s->broken) {
        gw_err err = sink_folder_sync(s, first ? NULL : &own);
        first = first ? first : err;
    }
    if (names_too || s->broken) {
        tell_all(s, &s->placed, s->broken ? GW_EIO : GW_OK, s->broken ? &own : NULL);
    }
    if (first && why) {
        *why = own;
    }
    return first;
}

bool sink_flush_some(struct sink *s)
{
    if (!s->waiting.first || s->broken) {
        return false;
    }
    (void)flush(s, false, NULL); /* each is told of by itself */
    return true;
}

gw_err sink_flush(struct sink *s, struct gw_error *why)
{
    return flush(s, true, why);
}

gw_err sink_finish(struct sink *s, struct gw_error *why)
{
    gw_err err = flush(s, true, why);
    if (s->broken || s->base_fd < 0) {
        return err;
    }
    gw_err modes = sink_folder_modes(s, err ? NULL : why);
    return err ? err : modes;
}

gw_err sink_flush_add(struct sink *s, struct sink_file *f, struct gw_error *why)
{
    if (s->waiting.first && s->waiting.first->folder->dev != f->folder->dev) {
        gw_err err = flush(s, true, NULL); /* each was told of by itself */
        if (err && s->broken) {
            sink_file_free(f);
            return gw_fail(why, GW_EIO, "the disk failed before");
        }
    }
    append(&s->waiting, f);
    s->waiting_bytes += f->written_to;
    s->waiting_unsynced |= f->unsynced;
    if (s->waiting.count >= s->batch || s->waiting_bytes >= SINK_BATCH_BYTES ||
        s->folder_count > SINK_FOLDERS) {
        /* Names whose data was flushed file by file have no syncfs that would come along. */
        (void)flush(s, !s->waiting_unsynced || s->placed.count > PLACED_MAX, NULL);
    }
    return s->broken ? fail_broken(why) : GW_OK;
}

/* --- links --- */
/* What is there already. *ret_done: it stays. */
static gw_err look_at_link(struct sink *s, const struct file_entry *e,
                           const struct sink_folder *folder, const char *name, bool *ret_there,
                           bool *ret_done, struct gw_error *why)
{
    struct stat st;
    if (fstatat(folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        *ret_there = *ret_done = false;
        return errno == ENOENT ? GW_OK : sink_fail(why, errno, "look at", name);
    }
    *ret_there = true;
    *ret_done = false;
    if (S_ISDIR(st.st_mode)) {
        return sink_fail(why, EISDIR, "write", name);
    }
    if (guard_holds_link(s->guard, folder->fd, name)) {
        return guard_deny(why, name);
    }
    if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(folder->fd, name, target, sizeof target);
        if (n >= 0 && (size_t)n == strlen(e->target) && memcmp(target, e->target, (size_t)n) == 0 &&
            (entry_ns(st.st_mtim) == e->mtime_ns || !(s->o.overwrite || s->o.update))) {
            *ret_done = true;
            return GW_OK;
        }
    } else if (!S_ISREG(st.st_mode)) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_EREFUSED, "\"%s\" is there and neither file nor link",
                       names_show(name, shown, sizeof shown));
    }
    *ret_done = s->o.update && entry_ns(st.st_mtim) > e->mtime_ns;
    return s->o.overwrite || s->o.update ? GW_OK : sink_fail(why, EEXIST, "write", name);
}

static gw_err make_link(struct sink *s, const struct file_entry *e, struct sink_folder *folder,
                        const char *name, bool there, struct gw_error *why)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry_time(e->mtime_ns)};
    char part[PARTS_NAME_BYTES];
    const char *as = name;
    if (there) {
        parts_name(name, part);
        as = part;
        gw_err err = sink_folder_enter(s, folder, why);
        if (err && err != GW_ETOO_BIG) {
            return err;
        }
        GW_TRY(sink_flush_clear(folder, part, name, why));
    }
    if (symlinkat(e->target, folder->fd, as) != 0) {
        return sink_fail(why, errno, "make the link", name);
    }
    (void)utimensat(folder->fd, as, times, AT_SYMLINK_NOFOLLOW); /* not on every file system */
    if (there && renameat(folder->fd, part, folder->fd, name) != 0) {
        int error = errno;
        (void)unlinkat(folder->fd, part, 0);
        return sink_fail(why, error, "make the link", name);
    }
    folder->dirty = true;
    return GW_OK;
}

gw_err sink_flush_link(struct sink *s, const struct file_entry *e, struct sink_folder *folder,
                       const char *name, struct gw_error *why)
{
    if (!e->target || !e->target[0]) {
        return gw_fail(why, GW_EARG, "a link needs a target");
    }
    if (folder->fd < 0) {
        return GW_OK; /* dry run */
    }
    bool there, done;
    GW_TRY(look_at_link(s, e, folder, name, &there, &done, why));
    if (done || s->o.dry_run) {
        return GW_OK;
    }
    if (s->parts) {
        GW_TRY(parts_claim(s->parts, folder->dev, folder->ino, name, why));
    }
    gw_err err = make_link(s, e, folder, name, there, why);
    if (s->parts) {
        parts_release(s->parts, folder->dev, folder->ino, name);
    }
    return err;
}
