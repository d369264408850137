#include "host/files/guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files/beneath.h"
#include "host/files/names.h"
#include "protocol/base/buf.h"
#include "protocol/base/log.h"

#define STEPS 65536 /* upwards; a tree that is moved about all the time has an end, too */

struct place {
    int fd; /* O_PATH; it keeps the inode */
    dev_t dev;
    ino_t ino;
};

struct guard {
    struct place work;
    struct place *places; /* guarded with all that is in them */
    size_t count, room;
};

/* In the work folder: what the host has to find as it left it. */
static const char *const kept[] = {"parts", "copies", "incoming", "trash"};

void guard_close(struct guard *g)
{
    if (!g) {
        return;
    }
    for (size_t i = 0; i < g->count; i++) {
        close(g->places[i].fd);
    }
    if (g->work.fd >= 0) {
        close(g->work.fd);
    }
    free(g->places);
    free(g);
}

static void guard_closep(struct guard **g)
{
    guard_close(*g);
}

static gw_err no_memory(struct gw_error *why)
{
    return gw_fail(why, GW_ENOMEM, "out of memory");
}

static gw_err open_place(int at, const char *path, struct place *ret, struct gw_error *why)
{
    struct stat st;
    int fd = openat(at, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        return beneath_fail(why, error, "open the folder", path);
    }
    *ret = (struct place){.fd = fd, .dev = st.st_dev, .ino = st.st_ino};
    return GW_OK;
}

static bool is_place(const struct place *p, dev_t dev, ino_t ino)
{
    return p->ino == ino && p->dev == dev;
}

/* `p` is taken. */
static gw_err add(struct guard *g, struct place p, struct gw_error *why)
{
    if (is_place(&g->work, p.dev, p.ino)) {
        close(p.fd);
        return GW_OK;
    }
    if (g->count == g->room) {
        size_t room = g->room ? 2 * g->room : 16;
        struct place *more = realloc(g->places, room * sizeof *more);
        if (!more) {
            close(p.fd);
            return no_memory(why);
        }
        g->places = more;
        g->room = room;
    }
    g->places[g->count++] = p;
    return GW_OK;
}

/* The folder and those in it: they may stand elsewhere by links, or be mounted elsewhere, too. */
static gw_err add_with_inner(struct guard *g, const char *path, struct gw_error *why)
{
    struct place p;
    GW_TRY(open_place(AT_FDCWD, path, &p, why));
    GW_TRY(add(g, p, why));
    DIR *dir = opendir(path);
    if (!dir) {
        return beneath_fail(why, errno, "read the folder", path);
    }
    gw_err err = GW_OK;
    const struct dirent *e;
    while (err == GW_OK && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            (e->d_type == DT_DIR || e->d_type == DT_LNK || e->d_type == DT_UNKNOWN) &&
            open_place(dirfd(dir), e->d_name, &p, NULL) == GW_OK) {
            err = add(g, p, why);
        }
    }
    closedir(dir);
    return err;
}

gw_err guard_open(const char *host_dir, struct guard **ret, struct gw_error *why)
{
    GW_AUTO(free_charp) char *home = strdup(host_dir);
    GW_AUTO(buf_free) struct buf work = {0};
    GW_AUTO(guard_closep) struct guard *g = calloc(1, sizeof *g);
    buf_addf(&work, "%s/work", host_dir);
    buf_add(&work, "", 1);
    if (g) {
        g->work.fd = -1;
    }
    if (!home || !g || !buf_ok(&work)) {
        return no_memory(why);
    }
    for (int i = 0; i < 2; i++) { /* "/hosts/NAME" */
        char *slash = strrchr(home, '/');
        if (!slash || slash == home) {
            return gw_fail(why, GW_EARG, "\"%.200s\" is not the folder of a host", host_dir);
        }
        *slash = '\0';
    }
    const char *path = (const char *)work.data;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return beneath_fail(why, errno, "make the folder", path);
    }
    GW_TRY(open_place(AT_FDCWD, path, &g->work, why));
    GW_TRY(add_with_inner(g, home, why));
    GW_TRY(add_with_inner(g, host_dir, why));
    *ret = g;
    g = NULL;
    return GW_OK;
}

/* --- asking --- */
static bool is_kept(const struct guard *g, dev_t dev, ino_t ino)
{
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        struct stat st;
        if (fstatat(g->work.fd, kept[i], &st, 0) == 0 && st.st_dev == dev && st.st_ino == ino) {
            return true;
        }
    }
    return false;
}

bool guard_holds(const struct guard *g, dev_t dev, ino_t ino)
{
    if (!g) {
        return false;
    }
    for (size_t i = 0; i < g->count; i++) {
        if (is_place(&g->places[i], dev, ino)) {
            return true;
        }
    }
    return is_kept(g, dev, ino);
}

gw_err guard_deny(struct gw_error *why, const char *name)
{
    char shown[NAMES_SHOWN];
    gw_fail(why, GW_EDENIED,
            "\"%s\" belongs to Godwit itself, which keeps its keys and stores there",
            names_show(name, shown, sizeof shown));
    gw_hint(why, "no copy and no listing goes there, whatever the roots are; of a folder around it "
                 "leave it out by --exclude");
    return GW_EDENIED;
}

bool guard_holds_link(const struct guard *g, int folder, const char *name)
{
    struct stat st;
    return g && fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) &&
           fstatat(folder, name, &st, 0) == 0 &&
           (guard_holds(g, st.st_dev, st.st_ino) || is_place(&g->work, st.st_dev, st.st_ino));
}

/* The folder above; *fd is closed, unless it is the caller's. */
static int go_up(int *fd, int of_caller)
{
    int above = openat(*fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC), error = errno;
    if (*fd != of_caller) {
        close(*fd);
    }
    *fd = above;
    return above < 0 ? error : 0;
}

gw_err guard_folder(const struct guard *g, int folder, const char *name, struct gw_error *why)
{
    struct stat st, below = {0};
    int fd = folder, error = 0;
    bool guarded = false, ended = g == NULL;
    for (int i = 0; !ended && error == 0; i++) {
        if (i == STEPS || fstat(fd, &st) != 0) {
            error = i == STEPS ? ELOOP : errno;
            break;
        }
        guarded = guard_holds(g, st.st_dev, st.st_ino);
        ended = guarded || is_place(&g->work, st.st_dev, st.st_ino) ||
                (i > 0 && st.st_dev == below.st_dev && st.st_ino == below.st_ino);
        below = st;
        if (!ended) {
            error = go_up(&fd, folder);
        }
    }
    if (fd >= 0 && fd != folder) {
        close(fd);
    }
    if (guarded) {
        return guard_deny(why, name);
    }
    if (error == 0) {
        return GW_OK;
    }
    char shown[NAMES_SHOWN];
    return gw_fail(why, GW_EDENIED, "it cannot be told where \"%s\" is: %s",
                   names_show(name, shown, sizeof shown), strerror(error));
}
