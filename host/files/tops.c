#include "host/files/tops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "host/files/walk.h"
#include "protocol/limits.h"

#define MEANING                                                                                    \
    "*?[\\" /* bytes that make a pattern of a path; without them it stands for itself              \
             */

static gw_err no_memory(struct gw_error *why)
{
    gw_fail(why, GW_ENOMEM, "out of memory");
    return GW_ENOMEM;
}

void tops_clear(struct tops *t)
{
    for (size_t i = 0; i < t->base_count; i++) {
        free(t->bases[i].rest);
    }
    for (size_t i = 0; i < t->count; i++) {
        free(t->items[i].path);
    }
    free(t->bases);
    free(t->items);
    *t =
        (struct tops){.roots = t->roots, .cancel = t->cancel, .on_pass = t->on_pass, .arg = t->arg};
}

gw_err tops_pass(const struct tops *t, struct gw_error *why)
{
    bool off = (t->cancel && atomic_load(t->cancel)) || (t->on_pass && t->on_pass(t->arg));
    return off ? gw_fail(why, GW_ECANCELLED, "the copy was called off") : GW_OK;
}

gw_err tops_open_base(const struct tops *t, uint32_t top, int *ret_fd, struct gw_error *why)
{
    const struct base *b = &t->bases[t->items[top].base];
    return roots_open_at(t->roots, b->root, b->rest, O_PATH | O_DIRECTORY, ret_fd, why);
}

/* The number of a base. Neighbours of a list of sources mostly share theirs. */
static gw_err add_base(struct tops *t, size_t root, const char *rest, size_t n, uint32_t *ret,
                       struct gw_error *why)
{
    if (t->base_count > 0) {
        const struct base *last = &t->bases[t->base_count - 1];
        if (last->root == root && strlen(last->rest) == n && memcmp(last->rest, rest, n) == 0) {
            *ret = (uint32_t)(t->base_count - 1);
            return GW_OK;
        }
    }
    if (t->base_count == t->base_room) {
        size_t room = t->base_room ? 2 * t->base_room : 4;
        struct base *more = realloc(t->bases, room * sizeof *more);
        if (!more) {
            return no_memory(why);
        }
        t->bases = more;
        t->base_room = room;
    }
    char *copy = strndup(rest, n);
    if (!copy) {
        return no_memory(why);
    }
    *ret = (uint32_t)t->base_count;
    t->bases[t->base_count++] = (struct base){.root = root, .rest = copy};
    return GW_OK;
}

static gw_err add_top(struct tops *t, uint32_t base, const char *path, struct gw_error *why)
{
    if (t->count == LIMIT_FILE_SOURCES) {
        gw_fail(why, GW_ETOO_BIG, "more than %d sources", LIMIT_FILE_SOURCES);
        gw_hint(why, "copy the folder that they are in (-r), with --exclude for what is to stay");
        return GW_ETOO_BIG;
    }
    if (t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 4;
        struct top *more = realloc(t->items, room * sizeof *more);
        if (!more) {
            return no_memory(why);
        }
        t->items = more;
        t->room = room;
    }
    char *copy = strdup(path);
    if (!copy) {
        return no_memory(why);
    }
    t->items[t->count++] = (struct top){.base = base, .path = copy};
    return GW_OK;
}

/* --- a plain path --- */
static gw_err add_literal(struct tops *t, size_t root, const char *rest, bool folder,
                          struct gw_error *why)
{
    const char *slash = strrchr(rest, '/');
    size_t base_len = folder ? strlen(rest) : slash ? (size_t)(slash - rest) : 0;
    uint32_t base = 0;
    GW_TRY(add_base(t, root, rest, base_len, &base, why));
    return add_top(t, base, folder ? "." : slash ? slash + 1 : rest, why);
}

/* Whether the path is there: as a folder, or as anything, a link that leads nowhere included. */
static gw_err look(const struct tops *t, size_t root, const char *rest, bool folder,
                   struct gw_error *why)
{
    int fd;
    GW_TRY(roots_open_at(t->roots, root, rest, O_PATH | (folder ? O_DIRECTORY : O_NOFOLLOW), &fd,
                         why));
    close(fd);
    return GW_OK;
}

/* --- a pattern --- */
struct expansion {
    struct tops *tops;
    size_t root;
    bool recursive;
    size_t found;
};

static bool is_folder(int at, const char *name)
{
    struct stat st;
    return fstatat(at, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* `name` in the folder `rest`, which is open as fd. */
static gw_err add_match(struct expansion *x, int fd, const char *rest, const char *name,
                        bool folder, struct gw_error *why)
{
    uint32_t base = 0;
    if (folder) { /* the pattern ended in '/': what is in each folder */
        if (!is_folder(fd, name)) {
            return GW_OK;
        }
        GW_AUTO(buf_free) struct buf whole = {0};
        buf_addf(&whole, "%s%s%s", rest, rest[0] ? "/" : "", name);
        if (!buf_ok(&whole)) {
            return no_memory(why);
        }
        GW_TRY(add_base(x->tops, x->root, (char *)whole.data, whole.len, &base, why));
        name = ".";
    } else {
        GW_TRY(add_base(x->tops, x->root, rest, strlen(rest), &base, why));
    }
    x->found++;
    return add_top(x->tops, base, name, why);
}

static gw_err expand(struct expansion *x, const char *rest, const char *pattern, bool folder,
                     struct gw_error *why);

/* One name that fits the first part of the pattern; `more` is what follows that part, or NULL. */
static gw_err go_on(struct expansion *x, int fd, const char *rest, const char *name,
                    const char *more, bool folder, struct gw_error *why)
{
    if (!more) {
        return add_match(x, fd, rest, name, folder, why);
    }
    if (!is_folder(fd, name)) {
        return GW_OK;
    }
    GW_AUTO(buf_free) struct buf below = {0};
    buf_addf(&below, "%s%s%s", rest, rest[0] ? "/" : "", name);
    buf_add(&below, "", 1);
    return buf_ok(&below) ? expand(x, (char *)below.data, more, folder, why) : no_memory(why);
}

/* "**": the whole tree below `rest` is held against the rest of the pattern. */
static gw_err expand_tree(struct expansion *x, const char *rest, const char *pattern,
                          struct gw_error *why)
{
    struct tops one = {.roots = x->tops->roots,
                       .cancel = x->tops->cancel,
                       .on_pass = x->tops->on_pass,
                       .arg = x->tops->arg};
    struct excludes none = {0};
    struct walk w;
    uint32_t base = 0;
    gw_err err = add_literal(&one, x->root, rest, true, why);
    if (!err) {
        err = add_base(x->tops, x->root, rest, strlen(rest), &base, why);
    }
    walk_begin(&w, &one, &none, true, false);
    while (!err) {
        const struct file_entry *e;
        gw_err next = walk_next(&w, &e, NULL, why);
        if (next == GW_ENOT_FOUND) {
            break;
        }
        if (next == GW_ENOMEM || next == GW_ECANCELLED) {
            err = next;
        } else if (!next && strcmp(e->path, ".") != 0 && names_fit_path(pattern, e->path, false) &&
                   (e->type != ENTRY_FOLDER || x->recursive)) {
            w.descend = false; /* a folder comes with what is in it */
            x->found++;
            err = add_top(x->tops, base, e->path, why);
        }
    }
    walk_end(&w);
    tops_clear(&one);
    return err;
}

/* So deep as the pattern has parts (LIMIT_FILE_PATTERN_PARTS): the stack of a thread is small. */
static gw_err expand(struct expansion *x, const char *rest, const char *pattern, bool folder,
                     struct gw_error *why)
{
    size_t len = strcspn(pattern, "/");
    GW_TRY(tops_pass(x->tops, why));
    if (len == 2 && memcmp(pattern, "**", 2) == 0) {
        return expand_tree(x, rest, pattern, why);
    }
    GW_AUTO(free_charp) char *part = strndup(pattern, len);
    if (!part) {
        return no_memory(why);
    }
    const char *more = pattern[len] ? pattern + len + 1 : NULL;
    int fd;
    gw_err err = roots_open_at(x->tops->roots, x->root, rest, O_RDONLY | O_DIRECTORY, &fd, why);
    if (err) { /* as a shell: what cannot be read fits nothing */
        return err == GW_EBUSY || err == GW_ENOMEM ? err : GW_OK;
    }
    if (!strpbrk(part, MEANING)) {
        err = faccessat(fd, part, F_OK, AT_SYMLINK_NOFOLLOW) == 0
                  ? go_on(x, fd, rest, part, more, folder, why)
                  : GW_OK;
    } else {
        struct walk_names names = {0};
        err = walk_read_names(fd, &names);
        err = err == GW_ENOMEM ? no_memory(why) : GW_OK;
        for (size_t i = 0; !err && i < names.count; i++) {
            if (names_fit(part, names.items[i], false)) {
                err = go_on(x, fd, rest, names.items[i], more, folder, why);
            }
        }
        walk_names_clear(&names);
    }
    close(fd);
    return err;
}

static gw_err check_parts(const char *pattern, struct gw_error *why)
{
    size_t parts = 1;
    for (const char *p = pattern; *p; p++) {
        parts += *p == '/';
    }
    return parts <= LIMIT_FILE_PATTERN_PARTS
               ? GW_OK
               : gw_fail(why, GW_EARG, "a pattern has at most %d parts, not %zu",
                         LIMIT_FILE_PATTERN_PARTS, parts);
}

gw_err tops_add(struct tops *t, const char *path, bool recursive, struct gw_error *why)
{
    size_t root;
    GW_AUTO(free_charp) char *rest = NULL;
    bool folder;
    GW_TRY(roots_find(t->roots, path, &root, &rest, &folder, why));
    folder |= rest[0] == '\0'; /* a root itself has no name that could be told */
    gw_err err = look(t, root, rest, folder, why);
    if (err != GW_ENOT_FOUND || !strpbrk(rest, MEANING)) {
        return err ? err : add_literal(t, root, rest, folder, why);
    }
    GW_TRY(names_check_pattern(rest, why));
    GW_TRY(check_parts(rest, why));
    struct expansion x = {.tops = t, .root = root, .recursive = recursive};
    GW_TRY(expand(&x, "", rest, folder, why));
    if (x.found == 0) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_ENOT_FOUND, "nothing fits \"%s\"",
                       names_show(path, shown, sizeof shown));
    }
    return GW_OK;
}

static int compare_tops(const void *a, const void *b)
{
    const struct top *const *x = a, *const *y = b;
    int order = strcmp((*x)->path, (*y)->path);
    return order ? order : (*x < *y ? -1 : *x > *y);
}

gw_err tops_seal(struct tops *t, struct gw_error *why)
{
    struct top **sorted = t->count ? calloc(t->count, sizeof *sorted) : NULL;
    if (!sorted) {
        return t->count ? no_memory(why) : GW_OK;
    }
    for (size_t i = 0; i < t->count; i++) {
        sorted[i] = &t->items[i];
    }
    qsort(sorted, t->count, sizeof *sorted, compare_tops);
    for (size_t i = 1; i < t->count; i++) {
        sorted[i]->twice =
            strcmp(sorted[i]->path, sorted[i - 1]->path) == 0 && strcmp(sorted[i]->path, ".") != 0;
    }
    free(sorted);
    return GW_OK;
}
