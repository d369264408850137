/* The stack has a level for each folder that is being read. A level holds the names of its folder:
 * at first all; once its files have been given, only those of the folders in it. So what is held at
 * any time is one folder's names, and the subfolders of those above it. */
#include "host/files/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "host/files/parts.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

struct walk_level {
    int fd; /* -1: closed for now */
    dev_t dev;
    ino_t ino;
    struct walk_names names;
    size_t next;     /* of names */
    size_t folders;  /* names[0 .. folders) have been seen to be folders, in the first pass */
    bool second;     /* pass: descend into each */
    bool top;        /* the one name of a top, in its folder: nothing was read */
    size_t path_len; /* of the path of the folder itself */
};

/* --- names of a folder --- */
void walk_names_clear(struct walk_names *n)
{
    buf_free(&n->bytes);
    free(n->items);
    *n = (struct walk_names){0};
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static gw_err read_all(DIR *dir, struct walk_names *n)
{
    const struct dirent *e;
    while (errno = 0, (e = readdir(dir))) {
        const char *name = e->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !parts_is_part(name)) {
            buf_add(&n->bytes, name, strlen(name) + 1);
            n->count++;
        }
    }
    if (errno) {
        return GW_EIO;
    }
    n->items = n->count ? calloc(n->count, sizeof *n->items) : NULL;
    if (!buf_ok(&n->bytes) || (n->count && !n->items)) {
        return GW_ENOMEM;
    }
    char *at = (char *)n->bytes.data;
    for (size_t i = 0; i < n->count; i++, at += strlen(at) + 1) {
        n->items[i] = at;
    }
    if (n->count) {
        qsort(n->items, n->count, sizeof *n->items, compare_names);
    }
    return GW_OK;
}

gw_err walk_read_names(int fd, struct walk_names *ret)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own < 0 ? NULL : fdopendir(own);
    if (!dir) {
        int error = errno;
        if (own >= 0) {
            close(own);
        }
        errno = error;
        return error == ENOMEM ? GW_ENOMEM : GW_EIO;
    }
    struct walk_names n = {0};
    gw_err err = read_all(dir, &n);
    int error = errno;
    closedir(dir);
    errno = error;
    if (err) {
        walk_names_clear(&n);
        return err;
    }
    *ret = n;
    return GW_OK;
}

/* --- one entry --- */
static gw_err failed(struct gw_error *why, int error, const char *verb, const char *path)
{
    char shown[NAMES_SHOWN];
    if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == ESTALE) {
        return gw_fail(why, GW_ECONFLICT, "\"%s\" vanished while it was read",
                       names_show(path, shown, sizeof shown));
    }
    return beneath_fail(why, error, verb, path);
}

static gw_err read_target(int folder, const char *name, const char *path, struct buf *target,
                          struct file_entry *e, struct gw_error *why)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(folder, name, text, sizeof text);
    if (n < 0) {
        return failed(why, errno == EINVAL ? ENOENT : errno, "read the link", path);
    }
    buf_reset(target);
    buf_add(target, text, (size_t)n);
    buf_add(target, "", 1);
    if (!buf_ok(target)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    e->target = (char *)target->data;
    e->size = (uint64_t)n;
    return GW_OK;
}

gw_err walk_look(int folder, const char *name, const char *path, struct buf *target,
                 struct file_entry *ret, struct gw_error *why)
{
    struct stat st;
    char shown[NAMES_SHOWN];
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return failed(why, errno, "look at", path);
    }
    struct file_entry e = {
        .mode = st.st_mode & 07777,
        .mtime_ns = entry_ns(st.st_mtim),
        .ctime_ns = entry_ns(st.st_ctim),
        .uid = st.st_uid,
        .gid = st.st_gid,
        .dev = st.st_dev,
        .ino = st.st_ino,
    };
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        e.type = ENTRY_FILE;
        e.size = (uint64_t)st.st_size;
        e.sparse = st.st_blocks * 512 < st.st_size;
        break;
    case S_IFDIR: e.type = ENTRY_FOLDER; break;
    case S_IFLNK:
        e.type = ENTRY_LINK;
        GW_TRY(read_target(folder, name, path, target, &e, why));
        break;
    default:
        return gw_fail(why, GW_EREFUSED, "\"%s\" is a %s: only files, folders and links are copied",
                       names_show(path, shown, sizeof shown),
                       S_ISFIFO(st.st_mode)   ? "fifo"
                       : S_ISSOCK(st.st_mode) ? "socket"
                                              : "device");
    }
    *ret = e;
    return GW_OK;
}

/* --- the stack --- */
void walk_begin(struct walk *w, const struct tops *tops, const struct excludes *excludes,
                bool recursive, bool post)
{
    *w = (struct walk){
        .tops = tops, .excludes = excludes, .recursive = recursive, .post = post, .base_fd = -1};
}

static struct walk_level *innermost(struct walk *w)
{
    return &w->levels[w->depth - 1];
}

static void drop_level(struct walk *w)
{
    struct walk_level *l = innermost(w);
    if (l->fd >= 0 && l->fd != w->base_fd) {
        close(l->fd);
    }
    walk_names_clear(&l->names);
    w->depth--;
}

void walk_end(struct walk *w)
{
    while (w->depth > 0) {
        drop_level(w);
    }
    if (w->base_fd >= 0) {
        close(w->base_fd);
    }
    free(w->levels);
    buf_free(&w->path);
    buf_free(&w->target);
    *w = (struct walk){.base_fd = -1};
}

static gw_err no_memory(struct gw_error *why)
{
    return gw_fail(why, GW_ENOMEM, "out of memory");
}

/* A level is on the stack only when nothing can fail any more. */
static gw_err push_level(struct walk *w, const struct walk_level *level, struct gw_error *why)
{
    if (w->depth == w->room) {
        size_t room = w->room ? 2 * w->room : 16;
        struct walk_level *more = realloc(w->levels, room * sizeof *more);
        if (!more) {
            return no_memory(why);
        }
        w->levels = more;
        w->room = room;
    }
    w->levels[w->depth++] = *level;
    if (w->depth > WALK_OPEN) {
        struct walk_level *outer = &w->levels[w->depth - 1 - WALK_OPEN];
        if (outer->fd >= 0 && !outer->top) {
            close(outer->fd);
            outer->fd = -1;
        }
    }
    return GW_OK;
}

static const char *path_of(const struct walk *w)
{
    return w->path.data ? (const char *)w->path.data : "";
}

/* The path of the folder with path_len, and a name. */
static gw_err set_path(struct walk *w, size_t path_len, const char *name, struct gw_error *why)
{
    w->path.len = path_len;
    if (path_len > 0) {
        buf_add(&w->path, "/", 1);
    }
    buf_add(&w->path, name, strlen(name) + 1);
    if (!buf_ok(&w->path)) { /* the path of the folder is whole: the walk may go on */
        w->path.failed = false;
        w->path.len = path_len;
        if (w->path.data) {
            w->path.data[path_len] = '\0';
        }
        return no_memory(why);
    }
    return GW_OK;
}

static const struct guard *guard_of(const struct walk *w)
{
    return w->tops->roots ? roots_guard(w->tops->roots) : NULL;
}

/* The folder of a top's first entry: its base, or below it without links. */
static gw_err open_top(struct walk *w, uint32_t at, size_t folder_len, int *ret_fd,
                       struct gw_error *why)
{
    const struct top *top = &w->tops->items[at];
    if (w->base_fd >= 0) {
        close(w->base_fd);
        w->base_fd = -1;
    }
    gw_err err = tops_open_base(w->tops, at, &w->base_fd, why);
    if (err) {
        return err == GW_ENOT_FOUND ? GW_ECONFLICT : err;
    }
    if (folder_len == 0) {
        *ret_fd = w->base_fd;
        return GW_OK;
    }
    GW_AUTO(free_charp) char *folder = strndup(top->path, folder_len);
    if (!folder) {
        return no_memory(why);
    }
    int fd = beneath_folder(w->base_fd, folder, O_PATH);
    if (fd < 0) {
        return failed(why, errno, "open", folder);
    }
    gw_err denied = guard_folder(guard_of(w), fd, top->path, why);
    if (denied) {
        close(fd);
        return denied;
    }
    *ret_fd = fd;
    return GW_OK;
}

static gw_err begin_top(struct walk *w, struct gw_error *why)
{
    uint32_t at = w->next_top++;
    const struct top *top = &w->tops->items[at];
    const char *slash = strrchr(top->path, '/'), *name = slash ? slash + 1 : top->path;
    struct walk_level level = {.second = true, .top = true};
    level.path_len = slash ? (size_t)(slash - top->path) : 0;
    GW_TRY(set_path(w, 0, top->path, why));
    if (top->twice) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_ECONFLICT, "another source has the name \"%s\", too",
                       names_show(top->path, shown, sizeof shown));
    }
    GW_TRY(open_top(w, at, level.path_len, &level.fd, why));
    level.names.items = calloc(1, sizeof *level.names.items);
    buf_add(&level.names.bytes, name, strlen(name) + 1);
    if (!level.names.items || !buf_ok(&level.names.bytes) || push_level(w, &level, NULL)) {
        walk_names_clear(&level.names);
        if (level.fd != w->base_fd) {
            close(level.fd);
        }
        return no_memory(why);
    }
    struct walk_level *l = innermost(w);
    l->names.items[0] = (char *)l->names.bytes.data;
    l->names.count = 1;
    return GW_OK;
}

/* Read the folder that `entry` is: its level is what comes next. */
static gw_err descend(struct walk *w, struct gw_error *why)
{
    w->descend = false;
    struct walk_level *outer = innermost(w);
    const char *name = outer->names.items[outer->next - 1];
    struct walk_level level = {.path_len = strcmp(path_of(w), ".") == 0 ? 0 : w->path.len - 1};
    level.fd = beneath_file(outer->fd, name, O_RDONLY | O_DIRECTORY);
    if (level.fd < 0) {
        return failed(why, errno, "read the folder", path_of(w));
    }
    struct stat st;
    gw_err err = fstat(level.fd, &st) == 0 ? walk_read_names(level.fd, &level.names) : GW_EIO;
    if (err == GW_EIO) {
        err = failed(why, errno, "read the folder", path_of(w));
    } else if (err) {
        err = no_memory(why);
    } else if (guard_holds(guard_of(w), st.st_dev, st.st_ino)) {
        err = guard_deny(why, path_of(w));
    } else {
        level.dev = st.st_dev;
        level.ino = st.st_ino;
        level.second = level.names.count == 0;
        err = push_level(w, &level, why);
    }
    if (err) {
        close(level.fd);
        walk_names_clear(&level.names);
    }
    return err;
}

static bool is_same(int fd, const struct walk_level *l)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino;
}

/* The folder of a level that was closed, again. -1: it is not where it was. */
static int open_again(const struct walk *w, const struct walk_level *l, int inner_fd)
{
    int fd = openat(inner_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (is_same(fd, l)) {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    GW_AUTO(free_charp) char *path = strndup(path_of(w), l->path_len);
    fd = path ? beneath_folder(w->base_fd, path, O_RDONLY) : -1;
    if (fd >= 0 && !is_same(fd, l)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The innermost level is done: the one around it goes on. */
static gw_err ascend(struct walk *w, struct gw_error *why)
{
    if (w->depth > 1) {
        struct walk_level *l = innermost(w) - 1;
        if (l->fd < 0) {
            l->fd = open_again(w, l, innermost(w)->fd);
        }
    }
    drop_level(w);
    struct walk_level *l = w->depth > 0 ? innermost(w) : NULL;
    if (!l || l->fd >= 0) {
        return GW_OK;
    }
    l->next = l->names.count; /* the rest of that folder is lost; the one around it is tried next */
    l->second = true;
    char shown[NAMES_SHOWN];
    w->path.data[l->path_len] = '\0';
    w->path.len = l->path_len + 1;
    return gw_fail(why, GW_ECONFLICT, "the folder \"%s\" was moved while it was read",
                   names_show(path_of(w), shown, sizeof shown));
}

/* After the first pass: forget the names of all but folders. */
static gw_err keep_folders(struct walk_level *l, struct gw_error *why)
{
    struct walk_names kept = {0};
    for (size_t i = 0; i < l->folders; i++) {
        buf_add(&kept.bytes, l->names.items[i], strlen(l->names.items[i]) + 1);
    }
    kept.items = l->folders ? calloc(l->folders, sizeof *kept.items) : NULL;
    if (!buf_ok(&kept.bytes) || (l->folders && !kept.items)) {
        walk_names_clear(&kept);
        return no_memory(why);
    }
    char *at = (char *)kept.bytes.data;
    for (size_t i = 0; i < l->folders; i++, at += strlen(at) + 1) {
        kept.items[i] = at;
    }
    kept.count = l->folders;
    walk_names_clear(&l->names);
    l->names = kept;
    l->next = 0;
    l->second = true;
    return GW_OK;
}

/* --- the walk --- */
static gw_err look_at(struct walk *w, const struct walk_level *l, const char *name,
                      struct gw_error *why)
{
    GW_TRY(set_path(w, l->path_len, name, why));
    if (w->path.len > LIMIT_FILE_PATH_BYTES) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_ETOO_BIG, "the path \"%s\" has more than %u bytes",
                       names_show(path_of(w), shown, sizeof shown), LIMIT_FILE_PATH_BYTES);
    }
    struct file_entry e;
    GW_TRY(walk_look(l->fd, name, path_of(w), &w->target, &e, why));
    e.path = (char *)w->path.data;
    e.top = w->next_top - 1;
    w->entry = e;
    return GW_OK;
}

/* The next name of the innermost level. GW_EAGAIN: nothing to give yet. */
static gw_err step(struct walk *w, struct gw_error *why)
{
    struct walk_level *l = innermost(w);
    if (l->next == l->names.count) {
        return l->second ? ascend(w, why) : keep_folders(l, why);
    }
    char *name = l->names.items[l->next++];
    gw_err err = look_at(w, l, name, why);
    bool folder = !err && w->entry.type == ENTRY_FOLDER;
    if (strcmp(path_of(w), ".") != 0 && excludes_fit(w->excludes, path_of(w), folder)) {
        return GW_EAGAIN; /* whatever it is, and whether it can be read */
    }
    GW_TRY(err);
    if (folder && !l->second) {
        l->names.items[l->folders++] = name;
        return GW_EAGAIN;
    }
    if (folder && guard_holds(guard_of(w), w->entry.dev, w->entry.ino)) {
        return guard_deny(why, path_of(w));
    }
    if (folder && !w->recursive) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_EARG, "\"%s\" is a folder: give -r to copy what is in it",
                       names_show(path_of(w), shown, sizeof shown));
    }
    if (!folder && l->second && !l->top) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_ECONFLICT, "\"%s\" is no folder any more",
                       names_show(path_of(w), shown, sizeof shown));
    }
    w->descend = folder;
    return GW_OK;
}

/* With `post`: the folder that has just been left, while the level around it is on the stack. */
static bool left_folder(struct walk *w, size_t depth, int *ret_folder)
{
    if (!w->post || w->depth == 0 || w->depth >= depth) {
        return false;
    }
    struct walk_level *l = innermost(w);
    if (l->next == 0 || l->fd < 0) {
        return false;
    }
    return set_path(w, l->path_len, l->names.items[l->next - 1], NULL) == GW_OK &&
           look_at(w, l, l->names.items[l->next - 1], NULL) == GW_OK &&
           w->entry.type == ENTRY_FOLDER && (*ret_folder = l->fd, true);
}

gw_err walk_next(struct walk *w, const struct file_entry **ret, int *ret_folder,
                 struct gw_error *why)
{
    for (;;) {
        GW_TRY(tops_pass(w->tops, why));
        if (w->descend) {
            GW_TRY(descend(w, why));
            continue;
        }
        if (w->depth == 0) {
            if (w->next_top == w->tops->count) {
                return GW_ENOT_FOUND;
            }
            GW_TRY(begin_top(w, why));
            continue;
        }
        size_t depth = w->depth;
        const struct walk_level *l = innermost(w);
        bool gives = l->next < l->names.count;
        gw_err err = step(w, why);
        if (err && err != GW_EAGAIN) {
            return err;
        }
        bool given = w->post ? left_folder(w, depth, ret_folder) : gives && !err;
        if (given) {
            *ret = &w->entry;
            return GW_OK;
        }
    }
}
