/* A file that is being written. A small one has no name until it is whole (O_TMPFILE, opened at its
 * first byte). A large one is written to its part:
 *
 *   .NAME.HASH.godwit-part   locked by who writes it; an unlocked one is what an interrupted try
 * left .NAME.HASH.godwit-rest   such a one, moved aside by the next try, which builds upon it
 *
 * The larger of two rests stays. Both go when the file gets its name, or when their bytes turn out
 * to be wrong. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/direct.h"
#include "host/files/names.h"
#include "host/files/sink_inside.h"
#include "protocol/base/log.h"

#define TRIES      16                 /* at a name that others make and remove meanwhile */
#define WRITE_BACK (8u * 1024 * 1024) /* so much at a time is given to the disk early */
#define DIRTY_BYTES                                                                                \
    (32u * 1024 * 1024) /* what may be on its way to the disk; then we wait for it */
#define BLOCK 4096u     /* runs of zeros become holes in such steps */

static gw_err no_memory(struct gw_error *why)
{
    return gw_fail(why, GW_ENOMEM, "out of memory");
}

static gw_err in_use(const char *name, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    return gw_fail(why, GW_ECONFLICT, "another transfer writes to \"%s\"",
                   names_show(name, shown, sizeof shown));
}

/* --- life --- */
static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void drop_direct(struct sink_file *f)
{
    if (f->direct) {
        direct_close(f->direct);
        free(f->direct);
        f->direct = NULL;
    }
}

void sink_file_close(struct sink_file *f)
{
    drop_direct(f);
    close_fd(&f->fd);
    close_fd(&f->old_fd);
    close_fd(&f->rest_fd);
    if (f->claimed) {
        parts_release(f->sink->parts, f->folder->dev, f->folder->ino, f->name);
        f->claimed = false;
    }
    if (f->folder) {
        sink_folder_put(f->sink, f->folder);
        f->folder = NULL;
    }
}

void sink_file_free(struct sink_file *f)
{
    sink_file_close(f);
    entry_clear(&f->entry);
    free(f);
}

static gw_err file_new(struct sink *s, const struct file_entry *e, struct sink_folder *folder,
                       const char *name, struct sink_file **ret, struct gw_error *why)
{
    struct sink_file *f = calloc(1, sizeof *f);
    if (!f) {
        return no_memory(why);
    }
    f->sink = s;
    f->fd = f->old_fd = f->rest_fd = -1;
    f->entry = *e;
    f->entry.target = NULL;
    f->entry.path = strdup(name); /* its name is all that is needed of it */
    if (!f->entry.path) {
        free(f);
        return no_memory(why);
    }
    f->name = f->entry.path;
    f->large = e->size > SINK_SMALL_BYTES;
    f->folder = folder;
    folder->users++;
    if (s->parts && !s->o.dry_run) {
        gw_err err = parts_claim(s->parts, folder->dev, folder->ino, name, why);
        if (err) {
            sink_file_free(f);
            return err;
        }
        f->claimed = true;
    }
    *ret = f;
    return GW_OK;
}

/* --- the part --- */
/* Whether the name still stands for the file behind fd. */
static bool is_at(int fd, int folder, const char *name, struct stat *ret)
{
    struct stat there;
    return fstat(fd, ret) == 0 && fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           there.st_dev == ret->st_dev && there.st_ino == ret->st_ino;
}

static bool is_ours(const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && st->st_nlink == 1;
}

/* Move the part of an earlier try aside, unless what is aside already is more. Its lock is held. */
static gw_err move_aside(struct sink_file *f, int old, const char *part, const char *rest,
                         const struct stat *st, struct gw_error *why)
{
    struct stat aside;
    int at = f->folder->fd;
    if (fstatat(at, rest, &aside, AT_SYMLINK_NOFOLLOW) == 0 && is_ours(&aside) &&
        aside.st_blocks >= st->st_blocks) {
        if (unlinkat(at, part, 0) != 0) {
            return sink_fail(why, errno, "remove what is left of", f->name);
        }
        close(old);
        return GW_OK;
    }
    if (renameat(at, part, at, rest) != 0) {
        return sink_fail(why, errno, "move aside what is left of", f->name);
    }
    close_fd(&f->rest_fd);
    f->rest_fd = old;
    return GW_OK;
}

/* The part is there: take it up. GW_EAGAIN: look again. `old` is taken on success. */
static gw_err take_up(struct sink_file *f, int old, const char *part, const char *rest,
                      struct gw_error *why)
{
    struct stat st;
    if (flock(old, LOCK_EX | LOCK_NB) != 0) {
        return in_use(f->name, why);
    }
    if (!is_at(old, f->folder->fd, part, &st)) {
        close(old);
        return GW_EAGAIN;
    }
    if (!is_ours(&st)) { /* a trap, or a toy: its name goes, its bytes are never touched */
        if (unlinkat(f->folder->fd, part, 0) != 0) {
            return sink_fail(why, errno, "remove what is left of", f->name);
        }
        close(old);
        return GW_EAGAIN;
    }
    if (st.st_size == 0) {
        f->fd = old;
        return GW_OK;
    }
    GW_TRY(move_aside(f, old, part, rest, &st, why));
    return GW_EAGAIN;
}

static gw_err try_part(struct sink_file *f, const char *part, const char *rest,
                       struct gw_error *why)
{
    int at = f->folder->fd;
    int fd = openat(at, part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        struct stat st;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return in_use(f->name, why);
        }
        if (!is_at(fd, at, part, &st)) { /* somebody took it for a rest in between */
            close(fd);
            return GW_EAGAIN;
        }
        f->fd = fd;
        return GW_OK;
    }
    if (errno != EEXIST) {
        return sink_fail(why, errno, "write", f->name);
    }
    int old = openat(at, part, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (old >= 0) {
        gw_err err = take_up(f, old, part, rest, why);
        if (err && err != GW_EAGAIN) {
            close(old);
        }
        return err;
    }
    if (errno == ENOENT) {
        return GW_EAGAIN;
    }
    if (unlinkat(at, part, 0) != 0 && errno != ENOENT) {
        return sink_fail(why, errno, "remove what is left of", f->name);
    }
    return GW_EAGAIN;
}

/* What was moved aside, now or by a try before. */
static void open_rest(struct sink_file *f, const char *rest)
{
    struct stat st;
    if (f->rest_fd < 0) {
        f->rest_fd = openat(f->folder->fd, rest, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }
    if (f->rest_fd < 0) {
        return;
    }
    if (flock(f->rest_fd, LOCK_EX | LOCK_NB) != 0 || fstat(f->rest_fd, &st) != 0 || !is_ours(&st)) {
        close_fd(&f->rest_fd);
        return;
    }
    f->rest_size = (uint64_t)st.st_size;
}

static gw_err open_part(struct sink_file *f, struct gw_error *why)
{
    char part[PARTS_NAME_BYTES], rest[PARTS_NAME_BYTES];
    parts_name(f->name, part);
    parts_rest_name(f->name, rest);
    GW_TRY(sink_folder_enter(f->sink, f->folder, why));
    gw_err err = GW_EAGAIN;
    for (int i = 0; i < TRIES && err == GW_EAGAIN; i++) {
        err = try_part(f, part, rest, why);
    }
    if (err) {
        return err == GW_EAGAIN ? in_use(f->name, why) : err;
    }
    f->part = true;
    open_rest(f, rest);
    return GW_OK;
}

static gw_err open_unnamed(struct sink_file *f, struct gw_error *why)
{
    f->fd = openat(f->folder->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (f->fd >= 0) {
        return GW_OK;
    }
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) {
        f->sink->no_tmpfile = true;
        return GW_EAGAIN;
    }
    return sink_fail(why, errno, "write", f->name);
}

/* A place that is too deep to be noted gets no part: an interrupted try leaves nothing there. */
static gw_err open_once(struct sink_file *f, struct gw_error *why)
{
    gw_err err = GW_EAGAIN;
    if (!f->large && !f->sink->no_tmpfile) {
        err = open_unnamed(f, why);
    }
    if (err == GW_EAGAIN) {
        err = open_part(f, why);
        if (err == GW_ETOO_BIG && !f->sink->no_tmpfile) {
            err = open_unnamed(f, why);
            err = err == GW_EAGAIN ? GW_ETOO_BIG : err;
        }
    }
    return err;
}

/* Without a descriptor left: those that wait for their names give some back. */
static gw_err open_file(struct sink_file *f, struct gw_error *why)
{
    gw_err err = open_once(f, why);
    return err == GW_EBUSY && sink_flush_some(f->sink) ? open_once(f, why) : err;
}

/* Dry run: what a try would find, without a lock. */
static void peek_rest(struct sink_file *f)
{
    char name[2][PARTS_NAME_BYTES];
    parts_name(f->name, name[0]);
    parts_rest_name(f->name, name[1]);
    for (int i = 0; i < 2 && f->folder->fd >= 0; i++) {
        struct stat st;
        int fd = openat(f->folder->fd, name[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && is_ours(&st) && (uint64_t)st.st_size > f->rest_size) {
            close_fd(&f->rest_fd);
            f->rest_fd = fd;
            f->rest_size = (uint64_t)st.st_size;
        } else if (fd >= 0) {
            close(fd);
        }
    }
}

/* --- the entry --- */
static gw_err quota_add(struct sink_file *f, uint64_t upto, struct gw_error *why)
{
    struct sink *s = f->sink;
    if (upto <= f->quota) {
        return GW_OK;
    }
    uint64_t more = upto - f->quota;
    if (s->o.quota_bytes && (s->quota >= s->o.quota_bytes || more > s->o.quota_bytes - s->quota)) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_ETOO_BIG,
                       "with \"%s\" the files are more than the %llu bytes that may "
                       "be written here",
                       names_show(f->name, shown, sizeof shown),
                       (unsigned long long)s->o.quota_bytes);
    }
    s->quota += more;
    f->quota = upto;
    return GW_OK;
}

static void quota_drop(struct sink_file *f)
{
    f->sink->quota -= f->quota;
    f->quota = 0;
}

/* What stands at the destination, and what the options make of it. */
struct old {
    bool there, file, replace;
    sink_verdict verdict;
    struct stat st;
};

static gw_err look_at_old(const struct sink *s, const struct file_entry *e,
                          const struct sink_folder *folder, const char *name, struct old *ret,
                          struct gw_error *why)
{
    struct stat st;
    bool replace = s->o.overwrite || s->o.update;
    *ret = (struct old){.verdict = SINK_WANTED, .replace = true};
    if (folder->fd < 0 ||
        (fstatat(folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)) {
        return GW_OK;
    }
    if (fstatat(folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return sink_fail(why, errno, "look at", name);
    }
    if (S_ISDIR(st.st_mode)) {
        return sink_fail(why, EISDIR, "write", name);
    }
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_EREFUSED, "\"%s\" is there and neither file nor link",
                       names_show(name, shown, sizeof shown));
    }
    if (guard_holds_link(s->guard, folder->fd, name)) {
        return guard_deny(why, name);
    }
    *ret = (struct old){.there = true, .file = S_ISREG(st.st_mode), .replace = replace, .st = st};
    bool same = ret->file && (uint64_t)st.st_size == e->size && entry_ns(st.st_mtim) == e->mtime_ns;
    ret->verdict = same && !s->o.verify                                         ? SINK_SAME
                   : !same && s->o.update && entry_ns(st.st_mtim) > e->mtime_ns ? SINK_KEPT
                                                                                : SINK_WANTED;
    return ret->verdict == SINK_WANTED && !replace && !same ? sink_fail(why, EEXIST, "write", name)
                                                            : GW_OK;
}

/* A file with the right content gets the mode of the source, if it may be changed at all. */
static void fix_mode(struct sink *s, const struct file_entry *e, const struct sink_folder *folder,
                     const char *name, const struct old *old)
{
    mode_t mode = sink_mode(e, &old->st);
    if (s->o.dry_run || !old->replace || (old->st.st_mode & 07777) == mode) {
        return;
    }
    int fd = openat(folder->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        if (fchmod(fd, mode) == 0) {
            s->dropped_dirty = true;
        }
        close(fd);
    }
}

gw_err sink_file_entry(struct sink *s, const struct file_entry *e, struct sink_folder *folder,
                       const char *name, sink_verdict *ret, struct sink_file **ret_file,
                       struct gw_error *why)
{
    struct old old;
    GW_TRY(look_at_old(s, e, folder, name, &old, why));
    if (old.verdict != SINK_WANTED) {
        if (old.verdict == SINK_SAME) {
            fix_mode(s, e, folder, name, &old);
        }
        *ret = old.verdict;
        return GW_OK;
    }
    struct sink_file *f = NULL;
    GW_TRY(file_new(s, e, folder, name, &f, why));
    f->replace = old.replace;
    f->over = old.there;
    f->old_size = old.file ? (uint64_t)old.st.st_size : 0;
    gw_err err = quota_add(f, e->size, why);
    if (!err && s->o.dry_run) {
        peek_rest(f);
    } else if (!err && f->large) {
        err = open_file(f, why);
    }
    if (err) {
        quota_drop(f);
        sink_file_free(f);
        return err;
    }
    s->open_files++;
    *ret = SINK_WANTED;
    *ret_file = f;
    return GW_OK;
}

int sink_old(struct sink_file *f)
{
    struct stat st;
    if (f->old_fd < 0 && f->old_size > 0) {
        f->old_fd = openat(f->folder->fd, f->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (f->old_fd >= 0 && (fstat(f->old_fd, &st) != 0 || !S_ISREG(st.st_mode))) {
            close_fd(&f->old_fd);
        }
    }
    return f->old_fd;
}

int sink_rest(struct sink_file *f)
{
    return f->rest_size > 0 ? f->rest_fd : -1;
}

/* --- bytes --- */
static gw_err write_at(struct sink_file *f, uint64_t offset, const uint8_t *p, size_t n,
                       struct gw_error *why)
{
    if (f->direct) {
        int error = direct_write(f->direct, offset, p, n);
        return error ? sink_fail(why, error, "write", f->name) : GW_OK;
    }
    while (n > 0) {
        ssize_t done = pwrite(f->fd, p, n, (off_t)offset);
        if (done < 0) {
            if (errno == EINTR) {
                continue;
            }
            return sink_fail(why, errno, "write", f->name);
        }
        offset += (uint64_t)done;
        p += done;
        n -= (size_t)done;
    }
    return GW_OK;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* How many bytes from p on are all zero blocks, or (zero false) none: blocks of the file. */
static size_t run_of(const uint8_t *p, size_t n, uint64_t offset, bool zero)
{
    size_t at = 0;
    while (at < n) {
        size_t step = BLOCK - (size_t)((offset + at) % BLOCK);
        step = step < n - at ? step : n - at;
        if (is_zero(p + at, step) != zero) {
            break;
        }
        at += step;
    }
    return at;
}

static gw_err write_sparse(struct sink_file *f, uint64_t offset, const uint8_t *p, size_t n,
                           struct gw_error *why)
{
    while (n > 0) {
        size_t hole = run_of(p, n, offset, true);
        size_t data = run_of(p + hole, n - hole, offset + hole, false);
        GW_TRY(write_at(f, offset + hole, p + hole, data, why));
        offset += hole + data;
        p += hole + data;
        n -= hole + data;
    }
    return GW_OK;
}

/* Hand whole windows to the disk, and wait for older ones: so the flush at the end is short, and a
 * fast sender does not fill the memory of the machine. */
static gw_err write_back(struct sink_file *f, struct gw_error *why)
{
    while (f->written_to - f->written_back >= WRITE_BACK) {
        int failed =
            sync_file_range(f->fd, (off_t)f->written_back, WRITE_BACK, SYNC_FILE_RANGE_WRITE);
        if (!failed && f->written_back >= DIRTY_BYTES) {
            failed = sync_file_range(f->fd, (off_t)(f->written_back - DIRTY_BYTES), WRITE_BACK,
                                     SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                         SYNC_FILE_RANGE_WAIT_AFTER);
        }
        if (failed && errno != ENOSYS && errno != EINVAL && errno != ESPIPE) {
            return sink_fail(why, errno, "write", f->name);
        }
        f->written_back += WRITE_BACK;
    }
    return GW_OK;
}

/* Before its first byte: a large file goes around the page cache, where that works. */
static void begin(struct sink_file *f)
{
    if (!f->part || f->entry.sparse || f->entry.size < SINK_ALONE_BYTES) {
        return;
    }
    f->direct = calloc(1, sizeof *f->direct);
    if (f->direct && !direct_open(f->direct, f->fd)) {
        free(f->direct);
        f->direct = NULL;
    }
}

gw_err sink_write(struct sink_file *f, uint64_t offset, const void *data, size_t n,
                  struct gw_error *why)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, n, &end) || end > INT64_MAX) {
        return gw_fail(why, GW_ETOO_BIG, "no file is so large");
    }
    if (n == 0 || f->sink->o.dry_run) {
        return GW_OK;
    }
    GW_TRY(quota_add(f, end, why));
    if (f->fd < 0) {
        GW_TRY(open_file(f, why));
    }
    if (f->written_to == 0) {
        begin(f);
    }
    f->written_to = end > f->written_to ? end : f->written_to;
    GW_TRY(f->entry.sparse ? write_sparse(f, offset, data, n, why)
                           : write_at(f, offset, data, n, why));
    return f->direct ? GW_OK : write_back(f, why);
}

/* --- ends --- */
static void remove_name(const struct sink_file *f, bool rest)
{
    char name[PARTS_NAME_BYTES];
    (rest ? parts_rest_name : parts_name)(f->name, name);
    (void)unlinkat(f->folder->fd, name, 0); /* what stays is swept */
}

void sink_abort(struct sink_file *f, bool keep_part)
{
    gw_assert(f->sink->open_files > 0);
    f->sink->open_files--;
    quota_drop(f);
    if (f->direct && keep_part) {
        (void)direct_flush(f->direct); /* a next try sees what is there */
    }
    if (f->part && (!keep_part || f->written_to == 0)) {
        remove_name(f, false);
    }
    if (f->rest_fd >= 0 && !keep_part && !f->sink->o.dry_run) {
        remove_name(f, true);
    }
    sink_file_free(f);
}

/* Size, mode and time; a large file is flushed here. */
static gw_err complete(struct sink_file *f, uint64_t size, struct gw_error *why)
{
    struct stat st;
    if (size > INT64_MAX) {
        return gw_fail(why, GW_ETOO_BIG, "no file is so large");
    }
    GW_TRY(quota_add(f, size, why));
    if (f->fd < 0) {
        GW_TRY(open_file(f, why));
    }
    int error = f->direct ? direct_flush(f->direct) : 0;
    if (error) {
        return sink_fail(why, error, "write", f->name);
    }
    if (fstat(f->fd, &st) != 0 ||
        ((uint64_t)st.st_size != size && ftruncate(f->fd, (off_t)size) != 0)) {
        return sink_fail(why, errno, "write", f->name);
    }
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry_time(f->entry.mtime_ns)};
    if (fchmod(f->fd, sink_mode(&f->entry, &st)) != 0 || futimens(f->fd, times) != 0) {
        return sink_fail(why, errno, "set mode and time of", f->name);
    }
    f->unsynced = !f->part || size < SINK_ALONE_BYTES;
    if (!f->unsynced && busy_sync(&f->sink->o.busy, fsync, f->fd) != 0) {
        return sink_fail(why, errno, "flush", f->name);
    }
    return GW_OK;
}

gw_err sink_commit(struct sink_file *f, uint64_t size, uint64_t tag, struct gw_error *why)
{
    if (f->sink->o.dry_run) {
        sink_abort(f, true);
        return GW_OK;
    }
    if (!f->replace) {
        gw_err err = sink_fail(why, EEXIST, "write", f->name);
        sink_abort(f, false);
        return err;
    }
    gw_err err = complete(f, size, why);
    if (err) {
        sink_abort(f, err != GW_EIO); /* a disk that fails may have lost any of it */
        return err;
    }
    if (f->rest_fd >= 0) {
        remove_name(f, true);
    }
    drop_direct(f); /* its window: a file may wait for its name */
    close_fd(&f->old_fd);
    close_fd(&f->rest_fd);
    f->tag = tag;
    f->sink->open_files--;
    return sink_flush_add(f->sink, f, why);
}

gw_err sink_same(struct sink_file *f, struct gw_error *why)
{
    gw_err err = GW_OK;
    struct stat st;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry_time(f->entry.mtime_ns)};
    int fd = sink_old(f);
    if (f->replace && !f->sink->o.dry_run && fd >= 0) {
        if (fstat(fd, &st) != 0 || fchmod(fd, sink_mode(&f->entry, &st)) != 0 ||
            futimens(fd, times) != 0) {
            err = sink_fail(why, errno, "set mode and time of", f->name);
        }
        f->sink->dropped_dirty = true;
    }
    sink_abort(f, f->sink->o.dry_run);
    return err;
}
