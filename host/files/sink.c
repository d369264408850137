#include "host/files/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "host/files/sink_inside.h"
#include "protocol/base/log.h"

static gw_err no_memory(struct gw_error *why)
{
    gw_fail(why, GW_ENOMEM, "out of memory");
    return GW_ENOMEM;
}

static size_t batch_size(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 16 >= SINK_BATCH_FILES) {
        return SINK_BATCH_FILES;
    }
    return limit.rlim_cur / 16 > 0 ? limit.rlim_cur / 16 : 1;
}

static struct sink *sink_new(const struct sink_options *o, struct parts *parts)
{
    struct sink *s = calloc(1, sizeof *s);
    if (s) {
        s->o = *o;
        s->parts = parts;
        s->base_fd = -1;
        s->batch = batch_size();
        s->waiting.end = &s->waiting.first;
        s->placed.end = &s->placed.first;
        TAILQ_INIT(&s->folders);
    }
    return s;
}

static void drop_files(struct sink_files *list)
{
    while (list->first) {
        struct sink_file *f = list->first;
        list->first = f->next;
        sink_file_free(f);
    }
    *list = (struct sink_files){.end = &list->first};
}

void sink_close(struct sink *s)
{
    if (!s) {
        return;
    }
    gw_assert(s->open_files == 0);
    drop_files(&s->waiting);
    drop_files(&s->placed);
    sink_folder_close(s);
    if (s->base_fd >= 0) {
        close(s->base_fd);
    }
    buf_free(&s->later);
    free(s->path);
    free(s->as);
    free(s->top);
    free(s);
}

void sink_closep(struct sink **s)
{
    sink_close(*s);
}

sink_placing sink_place(const struct sink *s)
{
    return s->as ? SINK_AS : SINK_INTO;
}

const char *sink_path(const struct sink *s)
{
    return s->path ? s->path : "";
}

/* --- opening --- */
struct destination {
    const struct roots *roots;
    size_t root;
    char *rest;  /* owned */
    bool folder; /* it ended in '/' */
};

static gw_err set_path(struct sink *s, const struct destination *d, struct gw_error *why)
{
    struct buf path = {0};
    const char *root = roots_path(d->roots, d->root);
    buf_addf(&path, "%s%s%s", strcmp(root, "/") == 0 ? "" : root, d->rest[0] ? "/" : "", d->rest);
    if (path.len == 0) {
        buf_add(&path, "/", 1);
    }
    buf_add(&path, "", 1);
    if (!buf_ok(&path)) {
        buf_free(&path);
        return no_memory(why);
    }
    s->path = (char *)path.data;
    return GW_OK;
}

/* Entries go into the destination, which is there or is made: one level. */
static gw_err open_into(struct sink *s, const struct destination *d, struct gw_error *why)
{
    gw_err err =
        roots_open_at(d->roots, d->root, d->rest, O_RDONLY | O_DIRECTORY, &s->base_fd, why);
    if (err != GW_ENOT_FOUND || d->rest[0] == '\0') {
        return err;
    }
    const char *slash = strrchr(d->rest, '/'), *name = slash ? slash + 1 : d->rest;
    GW_AUTO(free_charp) char *above = strndup(d->rest, slash ? (size_t)(slash - d->rest) : 0);
    if (!above) {
        return no_memory(why);
    }
    int fd;
    GW_TRY(roots_open_at(d->roots, d->root, above, O_RDONLY | O_DIRECTORY, &fd, why));
    if (!s->o.dry_run) {
        err = mkdirat(fd, name, 0777) == 0 && busy_sync(&s->o.busy, fsync, fd) == 0
                  ? GW_OK
                  : sink_fail(why, errno == EEXIST ? ENOTDIR : errno, "make the folder", name);
        if (!err) {
            s->base_fd = beneath_folder(fd, name, O_RDONLY);
            err = s->base_fd >= 0 ? GW_OK : sink_fail(why, errno, "open the folder", name);
        }
    } else {
        err = GW_OK;
    }
    close(fd);
    return err;
}

/* The destination is the name of the one source, in the folder above it. */
static gw_err open_as(struct sink *s, const struct destination *d, struct gw_error *why)
{
    const char *slash = strrchr(d->rest, '/');
    GW_AUTO(free_charp) char *above = strndup(d->rest, slash ? (size_t)(slash - d->rest) : 0);
    s->as = strdup(slash ? slash + 1 : d->rest);
    if (!above || !s->as) {
        return no_memory(why);
    }
    return roots_open_at(d->roots, d->root, above, O_RDONLY | O_DIRECTORY, &s->base_fd, why);
}

/* By the rules of the header: is it a folder? */
static gw_err guess(const struct destination *d, bool one_source, sink_placing *ret,
                    struct gw_error *why)
{
    int fd;
    gw_err err = roots_open_at(d->roots, d->root, d->rest, O_PATH | O_DIRECTORY, &fd, why);
    if (err == GW_EDENIED) {
        return err;
    }
    if (!err) {
        close(fd);
    }
    if (!err || d->folder || d->rest[0] == '\0') {
        *ret = SINK_INTO;
        return GW_OK;
    }
    if (!one_source) {
        char shown[NAMES_SHOWN];
        gw_fail(why, GW_EREFUSED, "\"%s\" is not a folder, and there are several sources",
                names_show(d->rest, shown, sizeof shown));
        gw_hint(why, "make that folder, or end the destination in '/'");
        return GW_EREFUSED;
    }
    *ret = SINK_AS;
    return GW_OK;
}

gw_err sink_open(const struct roots *roots, const char *dst, bool one_source,
                 const struct sink_options *o, struct parts *parts, struct sink **ret,
                 struct gw_error *why)
{
    struct destination d = {.roots = roots};
    GW_TRY(roots_find(roots, dst, &d.root, &d.rest, &d.folder, why));
    GW_AUTO(free_charp) char *rest = d.rest;
    GW_AUTO(sink_closep) struct sink *s = sink_new(o, parts);
    if (!s) {
        return no_memory(why);
    }
    s->guard = roots_guard(roots);
    GW_TRY(set_path(s, &d, why));
    s->keep_base = d.rest[0] == '\0';
    sink_placing placing = o->placing;
    if (placing == SINK_GUESS) {
        GW_TRY(guess(&d, one_source, &placing, why));
    }
    if (placing == SINK_AS && (!one_source || d.rest[0] == '\0')) {
        return gw_fail(why, GW_EREFUSED, "only one source can get the name of the destination");
    }
    GW_TRY(placing == SINK_INTO ? open_into(s, &d, why) : open_as(s, &d, why));
    *ret = s;
    s = NULL;
    return GW_OK;
}

gw_err sink_open_dir(int dirfd, const struct sink_options *o, struct parts *parts,
                     struct sink **ret, struct gw_error *why)
{
    struct sink *s = sink_new(o, parts);
    if (!s) {
        close(dirfd);
        return no_memory(why);
    }
    s->base_fd = dirfd;
    *ret = s;
    return GW_OK;
}

/* --- entries --- */
/* The one source is the content of a folder: the new name is that folder, and the base from now on.
 */
static gw_err become_into(struct sink *s, struct gw_error *why)
{
    struct sink_folder *f;
    GW_TRY(sink_folder_get(s, s->as, strlen(s->as), &f, why));
    int fd = f->fd < 0 ? -1 : beneath_folder(f->fd, "", O_RDONLY);
    gw_err err = f->fd >= 0 && fd < 0 ? sink_fail(why, errno, "open the folder", s->as) : GW_OK;
    sink_folder_put(s, f);
    GW_TRY(err);
    GW_TRY(sink_folder_sync(s, why));
    sink_folder_close(s); /* their paths are those below the old base */
    if (s->base_fd >= 0) {
        close(s->base_fd);
    }
    s->base_fd = fd;
    free(s->as);
    s->as = NULL;
    s->keep_base = false;
    return GW_OK;
}

/* The path of an entry below the base. */
static gw_err map_path(struct sink *s, const char *path, char **ret, struct gw_error *why)
{
    if (!s->as) {
        *ret = strdup(path);
        return *ret ? GW_OK : no_memory(why);
    }
    size_t top_len = strcspn(path, "/");
    if (!s->top) {
        s->top = strndup(path, top_len);
        if (!s->top) {
            return no_memory(why);
        }
    }
    if (strlen(s->top) != top_len || memcmp(s->top, path, top_len) != 0) {
        return gw_fail(why, GW_EREFUSED, "only one source can get the name of the destination");
    }
    struct buf mapped = {0};
    buf_addf(&mapped, "%s%s", s->as, path + top_len);
    buf_add(&mapped, "", 1);
    if (!buf_ok(&mapped)) {
        buf_free(&mapped);
        return no_memory(why);
    }
    *ret = (char *)mapped.data;
    return GW_OK;
}

static gw_err place_entry(struct sink *s, const struct file_entry *e, const char *path,
                          sink_verdict *ret, struct sink_file **ret_file, struct gw_error *why)
{
    if (e->type == ENTRY_FOLDER) {
        GW_TRY(sink_folder_entry(s, e, path, why));
        *ret = SINK_DONE;
        return GW_OK;
    }
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct sink_folder *folder;
    GW_TRY(sink_folder_get(s, path, slash ? (size_t)(slash - path) : 0, &folder, why));
    gw_err err;
    if (e->type == ENTRY_LINK) {
        err = sink_flush_link(s, e, folder, name, why);
        if (!err) {
            *ret = SINK_DONE;
        }
    } else {
        err = sink_file_entry(s, e, folder, name, ret, ret_file, why);
    }
    sink_folder_put(s, folder);
    return err;
}

gw_err sink_entry(struct sink *s, const struct file_entry *e, sink_verdict *ret,
                  struct sink_file **ret_file, struct gw_error *why)
{
    if (s->broken) {
        return gw_fail(why, GW_EIO, "the disk failed before");
    }
    GW_TRY(entry_check_path(e->path, strlen(e->path), why));
    if (s->as && strcmp(e->path, ".") == 0) {
        GW_TRY(become_into(s, why));
    }
    GW_AUTO(free_charp) char *path = NULL;
    GW_TRY(map_path(s, e->path, &path, why));
    gw_assert(path);
    GW_TRY(entry_check_path(path, strlen(path), why));
    return place_entry(s, e, path, ret, ret_file, why);
}
