/* File sessions between two folders: the sender on the thread of the test, the receiver on its own,
 * over a socketpair. For test programs: everything is static. */
#ifndef TESTS_UNIT_FILES_TRANSFER_RIG_H
#define TESTS_UNIT_FILES_TRANSFER_RIG_H

#include "tests/unit/files/stream_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "host/files/receive.h"
#include "host/files/send.h"
#include "persistence/chunker.h"
#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

struct world {
    struct scratch dir;
    char src[160], dst[160], work[160];
    struct roots *roots;
    struct parts *parts;
};

/* One session: what goes in, what came of it. */
struct session {
    struct send_options o;
    struct source_options source;
    struct stream a, b; /* sender, receiver; set after session_open */
    struct progress progress, b_progress;
    struct send_result result;
    gw_err err, b_err;
    struct gw_error why, b_why;
    struct receive_config config;
    unsigned failures;
    gw_err failure; /* the last */
    char failed[256], failed_why[320];
};

static inline void world_open(struct world *w)
{
    *w = (struct world){0};
    scratch_make(&w->dir);
    (void)scratch_mount(&w->dir, "900m"); /* in memory where that may be: flushes cost seconds */
    snprintf(w->src, sizeof w->src, "%s/src", w->dir.path);
    snprintf(w->dst, sizeof w->dst, "%s/dst", w->dir.path);
    snprintf(w->work, sizeof w->work, "%s/parts", w->dir.path);
    assert_int_equal(mkdir(w->src, 0700), 0);
    assert_int_equal(mkdir(w->dst, 0700), 0);
    const char *root = w->dir.path;
    assert_int_equal(roots_open(&root, 1, &w->roots, NULL), GW_OK);
    assert_int_equal(parts_open(w->work, &w->parts, NULL), GW_OK);
}

static inline void world_close(struct world *w)
{
    parts_close(w->parts);
    roots_close(w->roots);
    scratch_remove(&w->dir);
}

static inline void on_failed(void *arg, const char *path, gw_err code, const struct gw_error *why)
{
    struct session *s = arg;
    s->failures++;
    s->failure = code;
    snprintf(s->failed, sizeof s->failed, "%s", path);
    snprintf(s->failed_why, sizeof s->failed_why, "%s", why->text);
}

static inline void session_open(struct session *s, const struct world *w, const char *dst)
{
    *s = (struct session){.o = {.dst = dst, .on_failed = on_failed, .arg = s},
                          .source = {.recursive = true},
                          .config = {.roots = w->roots, .parts = w->parts}};
    stream_pair(&s->a, &s->b);
    progress_init(&s->progress);
    progress_init(&s->b_progress);
}

static inline void *session_receive(void *arg)
{
    struct session *s = arg;
    s->b_err = receive_files(&s->b.io, &s->config, &s->b_progress, &s->b_why);
    stream_close(&s->b);
    return NULL;
}

/* Run it. The session may be looked at afterwards, and is over. */
static inline void session_run(struct session *s, const struct world *w, const char *const *paths,
                               size_t n)
{
    struct source *source;
    pthread_t thread;
    if (source_open(w->roots, paths, n, &s->source, &source, &s->why) != GW_OK) {
        fail_msg("no source: %s", s->why.text);
    }
    s->o.arg = s;
    assert_int_equal(pthread_create(&thread, NULL, session_receive, s), 0);
    s->err = send_files(&s->a.io, source, &s->o, &s->progress, &s->result, &s->why);
    stream_close(&s->a);
    assert_int_equal(pthread_join(thread, NULL), 0);
    source_close(source);
    progress_deinit(&s->progress);
    progress_deinit(&s->b_progress);
}

/* One source, and everything has to go well. */
static inline void session_good(struct session *s, const struct world *w, const char *path)
{
    session_run(s, w, &path, 1);
    if (s->err != GW_OK || s->b_err != GW_OK || s->failures > 0) {
        fail_msg("sender %s \"%s\", receiver %s \"%s\", %u failed, last \"%s\" %s \"%s\"",
                 gw_err_name(s->err), s->why.text, gw_err_name(s->b_err), s->b_why.text,
                 s->failures, s->failed, gw_err_name(s->failure), s->failed_why);
    }
}

/* --- files --- */
static inline const char *path_of(char to[512], const char *folder, const char *name)
{
    assert_true(snprintf(to, 512, "%s/%s", folder, name) < 512);
    return to;
}
#define PATH(folder, name) path_of((char[512]){0}, (folder), (name))

static inline void put_bytes(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    for (size_t at = 0; at < n;) {
        ssize_t wrote = write(fd, (const char *)bytes + at, n - at);
        assert_true(wrote > 0);
        at += (size_t)wrote;
    }
    close(fd);
}

/* n bytes of noise, and a time of its own. */
static inline void put_noise(const char *path, uint64_t seed, size_t n)
{
    uint8_t *bytes = malloc(n ? n : 1);
    assert_non_null(bytes);
    noise_fill(seed, bytes, n);
    put_bytes(path, bytes, n);
    free(bytes);
    struct timespec t[2] = {{1700000000, 5}, {1600000000 + (time_t)seed, 123456789}};
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static inline int64_t mtime_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
}

static inline bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static inline void same_file(const char *a, const char *b)
{
    uint8_t x[65536], y[65536];
    int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);
    if (fa < 0 || fb < 0) {
        fail_msg("\"%s\" or \"%s\" is not there", a, b);
    }
    ssize_t n, m;
    do {
        n = read(fa, x, sizeof x);
        m = read(fb, y, sizeof y);
        if (n != m || memcmp(x, y, (size_t)n) != 0) {
            fail_msg("\"%s\" and \"%s\" differ", a, b);
        }
    } while (n > 0);
    close(fa);
    close(fb);
}

/* Equal in kind, mode, time, content, target. */
static inline void same_thing(const char *a, const char *b)
{
    struct stat x, y;
    if (lstat(a, &x) != 0 || lstat(b, &y) != 0) {
        fail_msg("\"%s\" or \"%s\" is not there", a, b);
    }
    assert_int_equal(x.st_mode, y.st_mode);
    if (x.st_mtim.tv_sec != y.st_mtim.tv_sec || x.st_mtim.tv_nsec != y.st_mtim.tv_nsec) {
        fail_msg("\"%s\" and \"%s\" have different times", a, b);
    }
    if (S_ISREG(x.st_mode)) {
        same_file(a, b);
    } else if (S_ISLNK(x.st_mode)) {
        char p[4096] = {0}, q[4096] = {0};
        assert_true(readlink(a, p, sizeof p - 1) > 0 && readlink(b, q, sizeof q - 1) > 0);
        assert_string_equal(p, q);
    }
}

static inline unsigned same_tree(const char *a, const char *b)
{
    unsigned n = 0;
    struct dirent *e;
    same_thing(a, b);
    DIR *dir = opendir(a);
    assert_non_null(dir);
    while ((e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        const char *x = PATH(a, e->d_name), *y = PATH(b, e->d_name);
        n += e->d_type == DT_DIR ? 1 + same_tree(x, y) : (same_thing(x, y), 1u);
    }
    closedir(dir);
    return n;
}

/* Names in a folder and below. */
static inline unsigned count_names(const char *path)
{
    unsigned n = 0;
    struct dirent *e;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while ((e = readdir(dir))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            n += 1 + (e->d_type == DT_DIR ? count_names(PATH(path, e->d_name)) : 0);
        }
    }
    closedir(dir);
    return n;
}

#endif
