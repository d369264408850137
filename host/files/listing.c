/* A page is the first `limit` names after a given one. They are gathered in a heap whose top is the
 * last of them, so that a folder of a million names is read once per page and never held. */
#include "host/files/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/entry.h"
#include "host/files/names.h"
#include "host/files/parts.h"
#include "host/files/walk.h"
#include "protocol/limits.h"

static gw_err no_memory(struct gw_error *why)
{
    return gw_fail(why, GW_ENOMEM, "out of memory");
}

void listing_clear(struct listing *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->items[i].name);
        free(l->items[i].target);
    }
    free(l->items);
    free(l->last);
    *l = (struct listing){0};
}

/* --- the heap: parents are not before their children --- */
struct page {
    char **names; /* owned, limit + 1 of them: the last one tells that there are more */
    size_t count, room;
};

static void page_clear(struct page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->names[i]);
    }
    free(p->names);
    *p = (struct page){0};
}

static void swap(char **a, char **b)
{
    char *t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(struct page *p)
{
    for (size_t at = p->count - 1; at > 0; at = (at - 1) / 2) {
        if (strcmp(p->names[at], p->names[(at - 1) / 2]) <= 0) {
            break;
        }
        swap(&p->names[at], &p->names[(at - 1) / 2]);
    }
}

static void sift_down(struct page *p)
{
    for (size_t at = 0, child; (child = 2 * at + 1) < p->count; at = child) {
        if (child + 1 < p->count && strcmp(p->names[child + 1], p->names[child]) > 0) {
            child++;
        }
        if (strcmp(p->names[at], p->names[child]) >= 0) {
            break;
        }
        swap(&p->names[at], &p->names[child]);
    }
}

static gw_err page_add(struct page *p, const char *name)
{
    if (p->count == p->room && strcmp(name, p->names[0]) >= 0) {
        return GW_OK;
    }
    char *copy = strdup(name);
    if (!copy) {
        return GW_ENOMEM;
    }
    if (p->count < p->room) {
        p->names[p->count++] = copy;
        sift_up(p);
    } else {
        free(p->names[0]);
        p->names[0] = copy;
        sift_down(p);
    }
    return GW_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* --- reading --- */
static gw_err gather(DIR *dir, const char *pattern, const char *after, struct page *p)
{
    const struct dirent *e;
    while (errno = 0, (e = readdir(dir))) {
        const char *name = e->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !parts_is_part(name) &&
            (!after || strcmp(name, after) > 0) && (!pattern || names_fit(pattern, name, false))) {
            GW_TRY(page_add(p, name));
        }
    }
    return errno ? GW_EIO : GW_OK;
}

/* One item. GW_ENOT_FOUND: it vanished. */
static gw_err fill(int folder, const char *name, struct listed *ret)
{
    struct stat st;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return GW_ENOT_FOUND;
    }
    struct listed l = {
        .type = S_ISREG(st.st_mode)   ? LISTED_FILE
                : S_ISDIR(st.st_mode) ? LISTED_FOLDER
                : S_ISLNK(st.st_mode) ? LISTED_LINK
                                      : LISTED_OTHER,
        .mode = st.st_mode & 07777,
        .size = S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? (uint64_t)st.st_size : 0,
        .mtime_ns = entry_ns(st.st_mtim),
        .dev = st.st_dev,
        .ino = st.st_ino,
    };
    if (l.type == LISTED_LINK) {
        char target[LIMIT_FILE_TARGET_BYTES + 1];
        ssize_t n = readlinkat(folder, name, target, sizeof target);
        if (n < 0) {
            return GW_ENOT_FOUND;
        }
        l.target = strndup(target, (size_t)n);
    }
    l.name = strdup(name);
    if (!l.name || (l.type == LISTED_LINK && !l.target)) {
        free(l.name);
        free(l.target);
        return GW_ENOMEM;
    }
    *ret = l;
    return GW_OK;
}

static gw_err fill_page(int folder, const struct page *p, size_t limit, struct listing *ret)
{
    size_t n = p->count < limit ? p->count : limit;
    ret->items = calloc(n ? n : 1, sizeof *ret->items);
    if (!ret->items) {
        return GW_ENOMEM;
    }
    if (p->count > limit && !(ret->last = strdup(p->names[limit - 1]))) {
        return GW_ENOMEM; /* the name, not an item: all of a page may vanish */
    }
    for (size_t i = 0; i < n; i++) {
        gw_err err = fill(folder, p->names[i], &ret->items[ret->count]);
        if (err == GW_ENOMEM) {
            return err;
        }
        ret->count += !err;
    }
    return GW_OK;
}

static gw_err read_folder(int folder, const char *pattern, const char *after, size_t limit,
                          struct listing *ret)
{
    int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own < 0 ? NULL : fdopendir(own);
    struct page p = {.names = calloc(limit + 1, sizeof *p.names), .room = limit + 1};
    gw_err err = dir && p.names ? gather(dir, pattern, after, &p) : GW_EIO;
    int error = errno;
    if (!p.names) {
        err = GW_ENOMEM;
    }
    if (dir) {
        closedir(dir);
    } else if (own >= 0) {
        close(own);
    }
    if (!err) {
        qsort(p.names, p.count, sizeof *p.names, compare_names);
        err = fill_page(folder, &p, limit, ret);
    }
    page_clear(&p);
    errno = error;
    return err;
}

/* The folder that a path is, or that its last part is in; ret_name: that part, "" for a folder. */
static gw_err open_place(const struct roots *roots, const char *path, int *ret_fd,
                         char ret_name[LIMIT_FILE_NAME_BYTES + 1], struct gw_error *why)
{
    size_t root;
    GW_AUTO(free_charp) char *rest = NULL;
    bool folder;
    GW_TRY(roots_find(roots, path, &root, &rest, &folder, why));
    gw_err err = roots_open_at(roots, root, rest, O_RDONLY | O_DIRECTORY, ret_fd, why);
    char *slash = strrchr(rest, '/'), *name = slash ? slash + 1 : rest;
    ret_name[0] = '\0';
    if (err != GW_ENOT_FOUND || folder || rest[0] == '\0') {
        return err;
    }
    if (strlen(name) > LIMIT_FILE_NAME_BYTES) {
        return err;
    }
    memcpy(ret_name, name, strlen(name) + 1);
    name[0] = '\0';
    if (slash) {
        *slash = '\0';
    }
    return roots_open_at(roots, root, rest, O_RDONLY | O_DIRECTORY, ret_fd, why);
}

static gw_err read_one(int folder, const char *name, const char *path, const char *after,
                       size_t limit, struct listing *ret, struct gw_error *why)
{
    ret->items = calloc(1, sizeof *ret->items);
    if (!ret->items) {
        return no_memory(why);
    }
    gw_err err = fill(folder, name, &ret->items[0]);
    ret->count = !err;
    if (!err) {
        ret->one_file = true;
        return GW_OK;
    }
    if (err == GW_ENOT_FOUND && names_is_pattern(name)) {
        free(ret->items);
        ret->items = NULL;
        GW_TRY(names_check_pattern(name, why));
        err = read_folder(folder, name, after, limit, ret);
        if (!err) {
            return GW_OK;
        }
    }
    if (err == GW_ENOT_FOUND) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, err, "there is no \"%s\"", names_show(path, shown, sizeof shown));
    }
    return err == GW_ENOMEM ? no_memory(why) : beneath_fail(why, errno, "list", path);
}

gw_err listing_read(const struct roots *roots, const char *path, const char *after, size_t limit,
                    struct listing *ret, struct gw_error *why)
{
    if (limit < 1 || limit > LIMIT_PAGE) {
        return gw_fail(why, GW_EARG, "a page has 1 to %d names", LIMIT_PAGE);
    }
    int folder;
    char name[LIMIT_FILE_NAME_BYTES + 1];
    GW_TRY(open_place(roots, path, &folder, name, why));
    struct listing l = {0};
    gw_err err;
    if (name[0]) {
        err = read_one(folder, name, path, after, limit, &l, why);
    } else {
        err = read_folder(folder, NULL, after, limit, &l);
        if (err) {
            err = err == GW_ENOMEM ? no_memory(why) : beneath_fail(why, errno, "list", path);
        }
    }
    close(folder);
    if (err) {
        listing_clear(&l);
        return err;
    }
    *ret = l;
    return GW_OK;
}
