#include "host/files/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "protocol/base/buf.h"
#include "protocol/base/log.h"

struct root {
    char *path; /* as the operator wrote it, without '/' at its end; "" is the folder of all */
    char *real; /* the same without links; NULL: as path, or not there when the host began */
};

struct roots {
    struct guard *guard; /* NULL: none */
    size_t count;
    struct root items[];
};

void roots_close(struct roots *r)
{
    if (!r) {
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        free(r->items[i].path);
        free(r->items[i].real);
    }
    guard_close(r->guard);
    free(r);
}

void roots_closep(struct roots **r)
{
    roots_close(*r);
}

static void trim(char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') {
        path[--n] = '\0';
    }
}

static gw_err root_set(struct root *root, const char *path, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    if (path[0] != '/' || strlen(path) >= PATH_MAX) {
        return gw_fail(why, GW_EARG, "the root \"%s\" is not an absolute path",
                       names_show(path, shown, sizeof shown));
    }
    root->path = strdup(path);
    if (!root->path) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    trim(root->path);
    char real[PATH_MAX];
    if (root->path[0] && realpath(root->path, real) && strcmp(real, root->path) != 0) {
        root->real = strdup(real);
        if (!root->real) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        trim(root->real);
    }
    return GW_OK;
}

gw_err roots_open(const char *const *paths, size_t n, struct roots **ret, struct gw_error *why)
{
    if (n == 0) {
        return gw_fail(why, GW_EARG, "a host needs a root for its files");
    }
    GW_AUTO(roots_closep) struct roots *r = calloc(1, sizeof *r + n * sizeof r->items[0]);
    if (!r) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        r->count = i + 1;
        GW_TRY(root_set(&r->items[i], paths[i], why));
    }
    *ret = r;
    r = NULL;
    return GW_OK;
}

static gw_err home_folder(char **ret, struct gw_error *why)
{
    const char *home = getenv("HOME");
    struct passwd entry, *found = NULL;
    char room[4096];
    if ((!home || home[0] != '/') &&
        getpwuid_r(geteuid(), &entry, room, sizeof room, &found) == 0 && found) {
        home = found->pw_dir;
    }
    if (!home || home[0] != '/') {
        return gw_fail(why, GW_EARG, "the home folder of this user is not known; name a root");
    }
    *ret = strdup(home);
    return *ret ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
}

gw_err roots_open_setting(const char *const *paths, size_t n, const char *work, struct roots **ret,
                          struct gw_error *why)
{
    if (n > 0) {
        return roots_open(paths, n, ret, why);
    }
    GW_AUTO(free_charp) char *home = NULL;
    GW_TRY(home_folder(&home, why));
    return roots_open((const char *const[]){home, work}, 2, ret, why);
}

gw_err roots_protect(struct roots *r, const char *host_dir, struct gw_error *why)
{
    gw_assert(!r->guard);
    return guard_open(host_dir, &r->guard, why);
}

const struct guard *roots_guard(const struct roots *r)
{
    return r->guard;
}

size_t roots_count(const struct roots *r)
{
    return r->count;
}

const char *roots_path(const struct roots *r, size_t i)
{
    gw_assert(i < r->count);
    return r->items[i].path[0] ? r->items[i].path : "/";
}

/* What follows `folder` in `path`, without '/'; NULL: it is not below. */
static const char *below(const char *folder, const char *path)
{
    size_t n = strlen(folder);
    if (strncmp(path, folder, n) != 0 || (path[n] && path[n] != '/')) {
        return NULL;
    }
    return path + n + strspn(path + n, "/");
}

static gw_err outside(const struct roots *r, const char *path, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    GW_AUTO(buf_free) struct buf all = {0};
    for (size_t i = 0; i < r->count; i++) {
        buf_addf(&all, "%s%s", i ? ", " : "", roots_path(r, i));
    }
    gw_fail(why, GW_EDENIED, "\"%s\" is outside of the roots of this host (%.*s)",
            names_show(path, shown, sizeof shown), buf_ok(&all) ? (int)all.len : 0,
            (const char *)all.data);
    gw_hint(why,
            "start the host with --root PATH for each folder that others may reach, or list them "
            "as `roots` in its config file");
    return GW_EDENIED;
}

/* The root with the longest path counts: it is the one that is meant. */
static const char *find_absolute(const struct roots *r, const char *path, size_t *ret_root)
{
    const char *best = NULL;
    for (size_t i = 0; i < r->count; i++) {
        const char *names[2] = {r->items[i].path, r->items[i].real};
        for (int j = 0; j < 2; j++) {
            const char *rest = names[j] ? below(names[j], path) : NULL;
            if (rest && (!best || rest > best)) {
                best = rest;
                *ret_root = i;
            }
        }
    }
    return best;
}

/* Without empty and "." parts. */
static char *tidy(const char *rest)
{
    char *out = malloc(strlen(rest) + 1), *to = out;
    while (out && *rest) {
        size_t n = strcspn(rest, "/");
        if (n > 0 && !(n == 1 && rest[0] == '.')) {
            if (to > out) {
                *to++ = '/';
            }
            memcpy(to, rest, n);
            to += n;
        }
        rest += n;
        rest += strspn(rest, "/");
    }
    if (out) {
        *to = '\0';
    }
    return out;
}

static bool means_folder(const char *path)
{
    size_t n = strlen(path);
    const char *last = strrchr(path, '/');
    last = last ? last + 1 : path;
    return n == 0 || *last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
}

gw_err roots_find(const struct roots *r, const char *path, size_t *ret_root, char **ret_rest,
                  bool *ret_folder, struct gw_error *why)
{
    if (path[0] == '\0') {
        return gw_fail(why, GW_EARG, "an empty path names nothing");
    }
    if (strlen(path) >= PATH_MAX) {
        return gw_fail(why, GW_EARG, "a path has more than %d bytes", PATH_MAX - 1);
    }
    size_t root = 0;
    const char *rest = path;
    if (path[0] == '/') {
        rest = find_absolute(r, path, &root);
        if (!rest) {
            return outside(r, path, why);
        }
    } else if (path[0] == '~' && (path[1] == '\0' || path[1] == '/')) {
        rest = path + 1 + strspn(path + 1, "/");
    }
    char *tidied = tidy(rest);
    if (!tidied) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *ret_root = root;
    *ret_rest = tidied;
    if (ret_folder) {
        *ret_folder = means_folder(rest);
    }
    return GW_OK;
}

static gw_err open_failed(const struct roots *r, size_t i, const char *rest, int error,
                          struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    if (error == EXDEV) {
        gw_fail(why, GW_EDENIED, "\"%s\" leads out of the root \"%s\"",
                names_show(rest, shown, sizeof shown), roots_path(r, i));
        gw_hint(why,
                "a link or \"..\" on the way points outside; name the place itself, which must be "
                "below a root");
        return GW_EDENIED;
    }
    if (error == ENOENT || error == ENOTDIR) {
        return gw_fail(why, GW_ENOT_FOUND, "there is no \"%s\" in \"%s\"",
                       names_show(rest, shown, sizeof shown), roots_path(r, i));
    }
    return beneath_fail(why, error, "open", rest);
}

/* The folder that the last part of `rest` is in, or of what is there of it. */
static gw_err check_above(const struct roots *r, int root, const char *rest, struct stat *ret_named,
                          struct gw_error *why)
{
    GW_AUTO(free_charp) char *above = strdup(rest);
    if (!above) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    int fd = -1;
    const char *name = rest;
    while (fd < 0 && above[0]) {
        char *slash = strrchr(above, '/');
        name = rest + (slash ? slash + 1 - above : 0);
        *(slash ? slash : above) = '\0';
        fd = beneath_open(root, above[0] ? above : ".", O_PATH | O_DIRECTORY, true);
    }
    if (fd < 0) {
        return GW_OK; /* nothing of it can be reached */
    }
    gw_err err = guard_folder(r->guard, fd, rest, why);
    if (!err && fstatat(fd, name, ret_named, AT_SYMLINK_NOFOLLOW) != 0) {
        *ret_named = (struct stat){0};
    }
    close(fd);
    return err;
}

/* Whether what was opened, or could not be, is free. */
static gw_err check_guard(const struct roots *r, int root, const char *rest, int fd,
                          struct gw_error *why)
{
    struct stat st, named = {0};
    if (fd < 0) {
        return check_above(r, root, rest, &named, why); /* nor is it told what is there */
    }
    if (fstat(fd, &st) != 0) {
        return beneath_fail(why, errno, "look at", rest);
    }
    if (S_ISDIR(st.st_mode)) {
        return guard_folder(r->guard, fd, rest, why);
    }
    GW_TRY(check_above(r, root, rest, &named, why));
    if (st.st_dev != named.st_dev || st.st_ino != named.st_ino) {
        char shown[NAMES_SHOWN];
        return gw_fail(why, GW_EDENIED, "\"%s\" is a link: name what it leads to",
                       names_show(rest, shown, sizeof shown));
    }
    return GW_OK;
}

gw_err roots_open_at(const struct roots *r, size_t i, const char *rest, int flags, int *ret_fd,
                     struct gw_error *why)
{
    int root = open(roots_path(r, i), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        int error = errno;
        if (error == ENOENT || error == ENOTDIR) {
            return gw_fail(why, GW_ENOT_FOUND, "the root \"%s\" is not there", roots_path(r, i));
        }
        return beneath_fail(why, error, "open the root", roots_path(r, i));
    }
    int fd = beneath_open(root, rest[0] ? rest : ".", flags, true), error = errno;
    gw_err err = r->guard ? check_guard(r, root, rest, fd, why) : GW_OK;
    close(root);
    if (err) {
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    if (fd < 0) {
        return open_failed(r, i, rest, error, why);
    }
    *ret_fd = fd;
    return GW_OK;
}
