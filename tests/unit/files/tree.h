/* Trees of files to copy, and a copy without a network between its ends: what a source gives goes
 * straight into a sink. For test programs: everything is static. */
#ifndef TESTS_UNIT_FILES_TREE_H
#define TESTS_UNIT_FILES_TREE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "host/files/sink.h"
#include "host/files/source.h"
#include "protocol/base/log.h"
#include "tests/unit/persistence/scratch.h"

/* A text that may be changed, for the members of entries. */
#define TEXT(s) ((char[]){s})

struct tree {
    struct scratch dir;
    struct roots *roots; /* one: the folder */
    struct parts *parts; /* in "parts" */
};

static inline char *tree_path(const struct tree *t, const char *name, char ret[PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s/%.3900s", t->dir.path, name);
    return ret;
}

static inline void tree_open(struct tree *t)
{
    char path[PATH_MAX];
    assert_int_equal(roots_open((const char *const[]){t->dir.path}, 1, &t->roots, NULL), GW_OK);
    assert_int_equal(parts_open(tree_path(t, "parts", path), &t->parts, NULL), GW_OK);
}

static inline int tree_make(void **state)
{
    struct tree *t = calloc(1, sizeof *t);
    assert_non_null(t);
    scratch_make(&t->dir);
    tree_open(t);
    *state = t;
    return 0;
}

static inline int tree_drop(void **state)
{
    struct tree *t = *state;
    parts_close(t->parts);
    roots_close(t->roots);
    scratch_remove(&t->dir);
    free(t);
    return 0;
}

/* --- making --- */
static inline void tree_folder(const struct tree *t, const char *name)
{
    char path[PATH_MAX];
    assert_int_equal(mkdir(tree_path(t, name, path), 0755), 0);
}

static inline void tree_bytes(const struct tree *t, const char *name, const void *data, size_t n)
{
    char path[PATH_MAX];
    int fd = open(tree_path(t, name, path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    assert_int_equal(close(fd), 0);
}

static inline void tree_file(const struct tree *t, const char *name, const char *text)
{
    tree_bytes(t, name, text, strlen(text));
}

/* `n` bytes that differ everywhere, by `seed`. */
static inline void tree_fill(uint8_t *p, size_t n, unsigned seed)
{
    uint64_t x = 0x9e3779b97f4a7c15u * (seed + 1);
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (uint8_t)x;
    }
}

static inline void tree_large(const struct tree *t, const char *name, size_t n, unsigned seed)
{
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    tree_fill(p, n, seed);
    tree_bytes(t, name, p, n);
    free(p);
}

static inline void tree_link(const struct tree *t, const char *target, const char *name)
{
    char path[PATH_MAX];
    assert_int_equal(symlink(target, tree_path(t, name, path)), 0);
}

static inline void tree_touch(const struct tree *t, const char *name, int64_t s, long ns)
{
    char path[PATH_MAX];
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = s, .tv_nsec = ns}};
    assert_int_equal(utimensat(AT_FDCWD, tree_path(t, name, path), times, AT_SYMLINK_NOFOLLOW), 0);
}

static inline void tree_mode(const struct tree *t, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    assert_int_equal(chmod(tree_path(t, name, path), mode), 0);
}

/* --- looking --- */
static inline bool tree_stat(const struct tree *t, const char *name, struct stat *ret)
{
    char path[PATH_MAX];
    return lstat(tree_path(t, name, path), ret) == 0;
}

static inline bool tree_has(const struct tree *t, const char *name)
{
    struct stat st;
    return tree_stat(t, name, &st);
}

static inline void tree_assert_text(const struct tree *t, const char *name, const char *text)
{
    char path[PATH_MAX], got[4096];
    int fd = open(tree_path(t, name, path), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    assert_true(n >= 0);
    got[n] = '\0';
    assert_string_equal(got, text);
}

static inline void tree_assert_same_bytes(int a, int b)
{
    static char x[65536], y[65536];
    for (off_t at = 0;;) {
        ssize_t n = pread(a, x, sizeof x, at), m = pread(b, y, sizeof y, at);
        assert_true(n >= 0);
        assert_int_equal(n, m);
        if (n == 0) {
            return;
        }
        assert_memory_equal(x, y, (size_t)n);
        at += n;
    }
}

/* Files, folders and links below two folders are the same: content, targets, modes, mtimes. */
static inline void tree_assert_same_at(int a, int b, const char *name)
{
    struct stat x, y;
    if (fstatat(a, name, &x, AT_SYMLINK_NOFOLLOW) != 0 ||
        fstatat(b, name, &y, AT_SYMLINK_NOFOLLOW) != 0) {
        fail_msg("\"%s\" is not on both sides", name);
    }
    assert_int_equal(x.st_mode, y.st_mode);
    assert_int_equal(x.st_mtim.tv_sec, y.st_mtim.tv_sec);
    assert_int_equal(x.st_mtim.tv_nsec, y.st_mtim.tv_nsec);
    if (S_ISLNK(x.st_mode)) {
        char p[PATH_MAX] = "", q[PATH_MAX] = "";
        assert_true(readlinkat(a, name, p, sizeof p - 1) > 0);
        assert_true(readlinkat(b, name, q, sizeof q - 1) > 0);
        assert_string_equal(p, q);
        return;
    }
    int c = openat(a, name, O_RDONLY | O_CLOEXEC), d = openat(b, name, O_RDONLY | O_CLOEXEC);
    assert_true(c >= 0 && d >= 0);
    if (S_ISREG(x.st_mode)) {
        assert_int_equal(x.st_size, y.st_size);
        tree_assert_same_bytes(c, d);
        close(c);
    } else {
        DIR *dir = fdopendir(c);
        assert_non_null(dir);
        const struct dirent *e;
        size_t n = 0, m = 0;
        while ((e = readdir(dir))) {
            n++;
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                tree_assert_same_at(c, d, e->d_name);
            }
        }
        closedir(dir);
        DIR *other = fdopendir(dup(d));
        assert_non_null(other);
        while (readdir(other)) {
            m++;
        }
        closedir(other);
        assert_int_equal(n, m);
    }
    close(d);
}

static inline void tree_assert_same(const struct tree *t, const char *a, const char *b)
{
    char path[PATH_MAX];
    int x = open(tree_path(t, a, path), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int y = open(tree_path(t, b, path), O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(x >= 0 && y >= 0);
    tree_assert_same_at(x, y, ".");
    close(x);
    close(y);
}

/* No temporary name is left anywhere, and the registry is empty. */
static inline int tree_count_part(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    if (parts_is_part(path + at->base)) {
        fail_msg("\"%s\" is left", path);
    }
    return 0;
}

static inline void tree_assert_clean(const struct tree *t)
{
    assert_int_equal(nftw(t->dir.path, tree_count_part, 16, FTW_PHYS), 0);
    assert_int_equal(scratch_count(&t->dir, "parts"), 0);
}

/* --- copying --- */
struct copied {
    unsigned entries, same, kept, done, sent, placed, failed;
    gw_err source_err, entry_err, open_err, end_err; /* the last of each kind */
    struct gw_error why;                             /* of the last failure */
    sink_placing placing;
};

struct copy {
    struct source_options from;
    struct sink_options to;
};

static inline void tree_on_placed(void *ctx, uint64_t tag, gw_err err, const struct gw_error *why)
{
    struct copied *c = ctx;
    (void)tag;
    c->placed += !err;
    c->failed += err != GW_OK;
    if (err) {
        c->entry_err = err;
        c->why = *why;
    }
}

static inline gw_err tree_send(struct source *from, const struct file_entry *e, struct sink_file *f,
                               struct gw_error *why)
{
    static uint8_t room[1 << 20];
    int fd;
    gw_err err = source_file(from, e, &fd, why);
    uint64_t at = 0;
    while (!err) {
        ssize_t n = pread(fd, room, sizeof room, (off_t)at);
        assert_true(n >= 0);
        if (n == 0) {
            break;
        }
        err = sink_write(f, at, room, (size_t)n, why);
        at += (uint64_t)n;
    }
    if (!err) {
        err = source_unchanged(e, fd, why);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (err) {
        sink_abort(f, true);
        return err;
    }
    return sink_commit(f, at, 0, why);
}

static inline struct copied tree_copy(struct tree *t, const char *const *sources, size_t n,
                                      const char *dst, const struct copy *how)
{
    struct copied c = {0};
    struct copy h = *how;
    struct source *from;
    struct sink *to;
    h.to.on_placed = tree_on_placed;
    h.to.ctx = &c;
    c.open_err = source_open(t->roots, sources, n, &h.from, &from, &c.why);
    if (c.open_err) {
        return c;
    }
    c.open_err = sink_open(t->roots, dst, source_count(from) == 1, &h.to, t->parts, &to, &c.why);
    if (c.open_err) {
        source_close(from);
        return c;
    }
    const struct file_entry *e;
    gw_err err;
    while ((err = source_next(from, &e, &c.why)) != GW_ENOT_FOUND) {
        sink_verdict verdict;
        struct sink_file *f = NULL;
        if (err) {
            c.source_err = err;
            c.failed++;
            continue;
        }
        c.entries++;
        err = sink_entry(to, e, &verdict, &f, &c.why);
        if (err) {
            c.entry_err = err;
            c.failed++;
            continue;
        }
        c.same += verdict == SINK_SAME;
        c.kept += verdict == SINK_KEPT;
        c.done += verdict == SINK_DONE;
        c.sent += verdict == SINK_WANTED;
        if (f) {
            err = tree_send(from, e, f, &c.why);
            c.entry_err = err ? err : c.entry_err;
            c.failed += err != GW_OK;
        }
    }
    c.end_err = sink_finish(to, &c.why);
    c.placing = sink_place(to);
    sink_close(to);
    source_close(from);
    return c;
}

/* One source, nothing may fail. */
static inline struct copied tree_copy_well(struct tree *t, const char *source, const char *dst,
                                           const struct copy *how)
{
    struct copied c = tree_copy(t, &source, 1, dst, how);
    if (c.open_err || c.failed || c.end_err) {
        fail_msg("copy of \"%s\": %s", source, c.why.text);
    }
    return c;
}

#define TREE_R ((struct copy){.from = {.recursive = true}})

#endif
