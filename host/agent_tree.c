#include "host/agent_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 512 /* the unit of st_blocks, whatever the file system */
#define NAME_BYTES  256

struct walk {
    DIR *open[AGENT_TREE_DEPTH]; /* from the top */
    char names[AGENT_TREE_DEPTH][NAME_BYTES];
    int depth;
    agent_tree_go_on go_on;
    void *arg;
};

static gw_err of_errno(int e)
{
    return e == ENOENT ? GW_ENOT_FOUND : e == ENOMEM ? GW_ENOMEM : GW_EIO;
}

/* A folder that its owner has closed to himself is opened again. */
static int open_closed(int at, const char *name)
{
    char path[64];
    int handle = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd = -1;
    if (handle >= 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
        if (chmod(path, 0700) == 0) {
            fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        close(handle);
    }
    return fd;
}

/* Go down into a folder; a file, or a link in its place, is GW_ENOT_FOUND. `own`: whatever its mode
 * says, what is in it can be removed then. */
static gw_err enter(struct walk *w, int at, const char *name, bool own)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && own) {
        fd = open_closed(at, name);
    }
    if (fd < 0) {
        return errno == ENOTDIR || errno == ELOOP ? GW_ENOT_FOUND : of_errno(errno);
    }
    DIR *d = own && fchmod(fd, 0700) != 0 ? NULL : fdopendir(fd);
    if (!d) {
        gw_err err = of_errno(errno);
        close(fd);
        return err;
    }
    w->open[w->depth] = d;
    snprintf(w->names[w->depth], NAME_BYTES, "%s", name);
    w->depth++;
    return GW_OK;
}

static void leave(struct walk *w)
{
    closedir(w->open[--w->depth]);
}

static void leave_all(struct walk *w)
{
    while (w->depth > 0) {
        leave(w);
    }
}

static int here(const struct walk *w)
{
    return dirfd(w->open[w->depth - 1]);
}

/* The next name of the present folder, NULL at its end. */
static const char *next_name(struct walk *w)
{
    const struct dirent *e;
    do {
        e = readdir(w->open[w->depth - 1]);
    } while (e && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
    return e ? e->d_name : NULL;
}

/* ---- measure ---- */

static gw_err measure_name(struct walk *w, const char *name, dev_t device, uint64_t *bytes)
{
    struct stat st;
    if (fstatat(here(w), name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? GW_OK : GW_EIO;
    }
    *bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
    if (!S_ISDIR(st.st_mode) || st.st_dev != device) {
        return GW_OK;
    }
    if (w->depth == AGENT_TREE_DEPTH) {
        return GW_ETOO_BIG;
    }
    gw_err err = enter(w, here(w), name, false);
    return err == GW_ENOT_FOUND ? GW_OK : err; /* gone, or replaced, meanwhile */
}

gw_err agent_tree_measure(int at, const char *name, agent_tree_go_on go_on, void *arg,
                          uint64_t *ret_bytes)
{
    struct walk w = {.go_on = go_on, .arg = arg};
    struct stat top;
    GW_TRY(enter(&w, at, name, false));
    gw_err err = fstat(here(&w), &top) == 0 ? GW_OK : GW_EIO;
    uint64_t bytes = 0;
    while (err == GW_OK && w.depth > 0) {
        const char *next = next_name(&w);
        if (!next) {
            leave(&w);
        } else if (!go_on(arg)) {
            err = GW_ECANCELLED;
        } else {
            err = measure_name(&w, next, top.st_dev, &bytes);
        }
    }
    leave_all(&w);
    if (err == GW_OK) {
        *ret_bytes = bytes;
    }
    return err;
}

/* ---- remove ---- */

/* A folder that is too deep goes up to where the walk began. */
static gw_err lift(struct walk *w, const char *name, int top, bool *more)
{
    for (unsigned i = 0; i < 10000; i++) {
        char up[32];
        snprintf(up, sizeof up, "deep-%u", i);
        if (renameat(here(w), name, top, up) == 0) {
            *more = true;
            return GW_OK;
        }
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR) {
            return of_errno(errno);
        }
    }
    return GW_EIO;
}

static gw_err remove_name(struct walk *w, const char *name, int top, bool *more)
{
    if (unlinkat(here(w), name, 0) == 0 || errno == ENOENT) {
        return GW_OK;
    }
    if (errno != EISDIR && errno != EPERM) {
        return of_errno(errno);
    }
    if (w->depth == AGENT_TREE_DEPTH) {
        return lift(w, name, top, more);
    }
    gw_err err = enter(w, here(w), name, true);
    return err == GW_ENOT_FOUND ? GW_EIO : err;
}

/* The present folder is empty now, or what is left cannot be removed. */
static gw_err remove_empty(struct walk *w, int top)
{
    char name[NAME_BYTES];
    memcpy(name, w->names[w->depth - 1], sizeof name);
    leave(w);
    int at = w->depth > 0 ? here(w) : top;
    return unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? GW_OK : of_errno(errno);
}

/* An error of one name does not keep the others; the first one is told at the end. */
static gw_err remove_below(struct walk *w, int top, bool *more)
{
    gw_err first = GW_OK;
    while (w->depth > 0) {
        const char *next = next_name(w);
        if (next && !w->go_on(w->arg)) {
            return GW_ECANCELLED;
        }
        gw_err err = next ? remove_name(w, next, top, more) : remove_empty(w, top);
        first = first ? first : err;
    }
    return first;
}

gw_err agent_tree_remove(int at, const char *name, agent_tree_go_on go_on, void *arg,
                         bool *ret_more)
{
    struct walk w = {.go_on = go_on, .arg = arg};
    bool more = false;
    gw_err err = enter(&w, at, name, true);
    if (err == GW_ENOT_FOUND) { /* a file, a link, nothing */
        err = unlinkat(at, name, 0) == 0 || errno == ENOENT ? GW_OK : of_errno(errno);
    } else if (err == GW_OK) {
        err = remove_below(&w, at, &more);
        leave_all(&w);
    }
    if (err == GW_OK) {
        *ret_more = more;
    }
    return err;
}
