#include "host/files/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "host/files/tops.h"
#include "host/files/walk.h"
#include "protocol/base/log.h"

#define READ_AHEAD_BYTES (1024 * 1024) /* of files from this size on the kernel is told */

struct source {
    struct tops tops;
    struct excludes excludes;
    bool recursive;
    struct walk walk, count; /* what is sent; what is counted ahead */
    struct source_totals totals;
    bool counted;
    int base_fd; /* of top base_top: where source_file was last; -1 */
    uint32_t base_top;
    struct buf target; /* of source_look */
};

void source_close(struct source *s)
{
    if (!s) {
        return;
    }
    walk_end(&s->walk);
    walk_end(&s->count);
    excludes_clear(&s->excludes);
    tops_clear(&s->tops);
    buf_free(&s->target);
    if (s->base_fd >= 0) {
        close(s->base_fd);
    }
    free(s);
}

void source_closep(struct source **s)
{
    source_close(*s);
}

void source_set_pass(struct source *s, gw_err (*on_pass)(void *arg), void *arg)
{
    s->tops.on_pass = on_pass;
    s->tops.arg = arg;
}

gw_err source_open(const struct roots *roots, const char *const *paths, size_t n,
                   const struct source_options *o, struct source **ret, struct gw_error *why)
{
    if (n == 0) {
        return gw_fail(why, GW_EARG, "there is no source");
    }
    GW_AUTO(source_closep) struct source *s = calloc(1, sizeof *s);
    if (!s) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    s->tops.roots = roots;
    s->tops.cancel = o->cancel;
    source_set_pass(s, o->on_pass, o->arg);
    s->base_fd = s->walk.base_fd = s->count.base_fd = -1;
    s->recursive = o->recursive;
    GW_TRY(excludes_set(&s->excludes, o->excludes, o->exclude_count, why));
    for (size_t i = 0; i < n; i++) {
        GW_TRY(tops_add(&s->tops, paths[i], o->recursive, why));
    }
    GW_TRY(tops_seal(&s->tops, why));
    walk_begin(&s->walk, &s->tops, &s->excludes, s->recursive, false);
    walk_begin(&s->count, &s->tops, &s->excludes, s->recursive, false);
    *ret = s;
    s = NULL;
    return GW_OK;
}

size_t source_count(const struct source *s)
{
    return s->tops.count;
}

gw_err source_next(struct source *s, const struct file_entry **ret, struct gw_error *why)
{
    return walk_next(&s->walk, ret, NULL, why);
}

const char *source_at(const struct source *s)
{
    return s->walk.path.data ? (const char *)s->walk.path.data : "";
}

gw_err source_totals(struct source *s, unsigned steps, struct source_totals *ret, bool *ret_done,
                     struct gw_error *why)
{
    for (; steps > 0 && !s->counted; steps--) {
        const struct file_entry *e;
        gw_err err = walk_next(&s->count, &e, NULL, why);
        if (err == GW_ENOMEM || err == GW_ECANCELLED) {
            return gw_fail(why, err, "%s", gw_err_text(err));
        }
        if (err == GW_ENOT_FOUND) {
            walk_end(&s->count);
            s->counted = true;
        } else if (!err) {
            s->totals.files += e->type == ENTRY_FILE;
            s->totals.folders += e->type == ENTRY_FOLDER;
            s->totals.links += e->type == ENTRY_LINK;
            s->totals.bytes += e->type == ENTRY_FILE ? e->size : 0;
        }
    }
    *ret = s->totals;
    *ret_done = s->counted;
    return GW_OK;
}

/* --- one entry, later --- */
static gw_err changed(const char *path, const char *how, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    return gw_fail(why, GW_ECONFLICT, "\"%s\" %s", names_show(path, shown, sizeof shown), how);
}

static gw_err gone(int error, const char *verb, const char *path, struct gw_error *why)
{
    if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENXIO) {
        return changed(path, "has gone, or is another thing by now", why);
    }
    return beneath_fail(why, error, verb, path);
}

static gw_err base_of(struct source *s, uint32_t top, int *ret_fd, struct gw_error *why)
{
    gw_assert(top < s->tops.count);
    if (s->base_fd < 0 || s->tops.items[s->base_top].base != s->tops.items[top].base) {
        int fd;
        GW_TRY(tops_open_base(&s->tops, top, &fd, why));
        if (s->base_fd >= 0) {
            close(s->base_fd);
        }
        s->base_fd = fd;
    }
    s->base_top = top;
    *ret_fd = s->base_fd;
    return GW_OK;
}

/* The folder of an entry (O_PATH, the caller's) and its name in it, borrowed from the entry. */
static gw_err folder_of(struct source *s, const struct file_entry *e, int *ret_fd,
                        const char **ret_name, struct gw_error *why)
{
    int base;
    GW_TRY(base_of(s, e->top, &base, why));
    const char *slash = strrchr(e->path, '/');
    GW_AUTO(free_charp) char *folder = strndup(e->path, slash ? (size_t)(slash - e->path) : 0);
    if (!folder) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    int fd = beneath_folder(base, folder, O_PATH);
    if (fd < 0) {
        return gone(errno, "open the folder of", e->path, why);
    }
    *ret_fd = fd;
    *ret_name = slash ? slash + 1 : e->path;
    return GW_OK;
}

gw_err source_unchanged(const struct file_entry *e, int fd, struct gw_error *why)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return beneath_fail(why, errno, "look at", e->path);
    }
    if (!S_ISREG(st.st_mode) || st.st_dev != e->dev || st.st_ino != e->ino) {
        return changed(e->path, "is another file by now", why);
    }
    if ((uint64_t)st.st_size != e->size) {
        return changed(e->path, (uint64_t)st.st_size < e->size ? "shrank" : "grew", why);
    }
    if (entry_ns(st.st_mtim) != e->mtime_ns || entry_ns(st.st_ctim) != e->ctime_ns) {
        return changed(e->path, "was changed", why);
    }
    return GW_OK;
}

gw_err source_file(struct source *s, const struct file_entry *e, int *ret_fd, struct gw_error *why)
{
    int base;
    GW_TRY(base_of(s, e->top, &base, why));
    /* Not to wait for the other end of what has become a fifo. */
    int fd = beneath_file(base, e->path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) {
        return gone(errno, "read", e->path, why);
    }
    gw_err err = source_unchanged(e, fd, why);
    if (err) {
        close(fd);
        return err;
    }
    if (e->size >= READ_AHEAD_BYTES) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    *ret_fd = fd;
    return GW_OK;
}

gw_err source_look(struct source *s, const struct file_entry *e, struct file_entry *ret,
                   struct gw_error *why)
{
    int folder;
    const char *name;
    GW_TRY(folder_of(s, e, &folder, &name, why));
    struct file_entry now;
    gw_err err = walk_look(folder, name, e->path, &s->target, &now, why);
    close(folder);
    GW_TRY(err);
    now.path = e->path; /* borrowed for the copy */
    now.top = e->top;
    return entry_copy(&now, ret) ? gw_fail(why, GW_ENOMEM, "out of memory") : GW_OK;
}

/* --- what has been moved --- */
static gw_err remove_at(int folder, const char *name, const struct file_entry *e, struct source *s,
                        struct gw_error *why)
{
    struct file_entry now;
    GW_TRY(walk_look(folder, name, e->path, &s->target, &now, why));
    if (guard_holds_link(roots_guard(s->tops.roots), folder, name)) {
        return guard_deny(why, e->path);
    }
    bool is_folder = e->type == ENTRY_FOLDER && now.type == ENTRY_FOLDER && now.ino == e->ino &&
                     now.dev == e->dev; /* its time is that of the last removal in it */
    if (!is_folder && !entry_is_unchanged(&now, e)) {
        return changed(e->path, "was changed after it was sent, and is kept", why);
    }
    if (unlinkat(folder, name, is_folder ? AT_REMOVEDIR : 0) != 0) {
        if (errno == ENOTEMPTY || errno == EEXIST) {
            char shown[NAMES_SHOWN];
            return gw_fail(why, GW_EREFUSED, "the folder \"%s\" is not empty, and is kept",
                           names_show(e->path, shown, sizeof shown));
        }
        return beneath_fail(why, errno, "remove", e->path);
    }
    return GW_OK;
}

gw_err source_remove(struct source *s, const struct file_entry *e, struct gw_error *why)
{
    int folder;
    const char *name;
    GW_TRY(folder_of(s, e, &folder, &name, why));
    gw_err err = remove_at(folder, name, e, s, why);
    close(folder);
    return err;
}

gw_err source_prune(struct source *s, size_t *ret_left, struct gw_error *why)
{
    struct walk w;
    size_t left = 0;
    gw_err err = GW_OK;
    walk_begin(&w, &s->tops, &s->excludes, s->recursive, true);
    while (err != GW_ENOT_FOUND && err != GW_ENOMEM && err != GW_ECANCELLED) {
        const struct file_entry *e;
        int folder;
        err = walk_next(&w, &e, &folder, why);
        if (!err && strcmp(e->path, ".") != 0) {
            const char *slash = strrchr(e->path, '/');
            left += unlinkat(folder, slash ? slash + 1 : e->path, AT_REMOVEDIR) != 0;
        }
    }
    walk_end(&w);
    if (err != GW_ENOT_FOUND) {
        return err;
    }
    *ret_left = left;
    return GW_OK;
}
