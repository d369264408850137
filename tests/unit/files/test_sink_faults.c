/* Sinks on disks that fail or are full, and while others switch what they write to. */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/unit/files/tree.h"

/* --- a disk that fails to flush: the program's own calls stand before the C library's --- */
static int flush_error; /* errno of each fsync and syncfs; 0 = works */
static bool no_flush;   /* they do nothing: for tests of many rounds */
static unsigned flushes;

__attribute__((visibility("default"))) int fsync(int fd)
{
    flushes++;
    if (flush_error) {
        errno = flush_error;
        return -1;
    }
    return no_flush ? 0 : (int)syscall(SYS_fsync, fd);
}

__attribute__((visibility("default"))) int syncfs(int fd)
{
    flushes++;
    if (flush_error) {
        errno = flush_error;
        return -1;
    }
    return no_flush ? 0 : (int)syscall(SYS_syncfs, fd);
}

/* --- a file system that knows no files without a name --- */
static bool no_tmpfile;

__attribute__((visibility("default"))) int openat(int dirfd, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}

static struct sink_file *begin(struct sink *s, const char *name, uint64_t size)
{
    struct file_entry e = {.path = (char *)name, .type = ENTRY_FILE, .mode = 0600, .size = size};
    struct sink_file *f = NULL;
    sink_verdict verdict;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, NULL), GW_OK);
    assert_int_equal(verdict, SINK_WANTED);
    return f;
}

static void a_disk_that_fails_to_flush_makes_nothing_visible(void **state)
{
    struct tree *t = *state;
    struct copied c = {0};
    struct sink_options o = {.on_placed = tree_on_placed, .ctx = &c};
    struct sink *s;
    struct gw_error why = {0};
    static uint8_t bytes[9000000];
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    struct sink_file *small = begin(s, "small", 5), *large = begin(s, "large", sizeof bytes);
    assert_int_equal(sink_write(small, 0, bytes, 5, NULL), GW_OK);
    assert_int_equal(sink_write(large, 0, bytes, sizeof bytes, NULL), GW_OK);
    assert_int_equal(sink_commit(small, 5, 0, NULL), GW_OK);
    flush_error = EIO;
    assert_int_equal(sink_commit(large, sizeof bytes, 0, &why), GW_EIO);
    assert_true(why.text[0] != '\0');
    assert_int_equal(sink_flush(s, &why), GW_EIO);
    assert_int_equal(c.placed, 0);
    assert_int_equal(c.failed, 1);
    assert_int_equal(scratch_count(&t->dir, "d"), 0);
    flush_error = 0;
    struct file_entry e = {.path = TEXT("x"), .type = ENTRY_FOLDER};
    sink_verdict verdict;
    assert_int_equal(sink_entry(s, &e, &verdict, NULL, &why), GW_EIO); /* it stays so */
    assert_int_equal(sink_flush(s, NULL), GW_OK);                      /* nothing waits */
    sink_close(s);
    assert_int_equal(scratch_count(&t->dir, "d"), 0);
    tree_assert_clean(t);
}

static void names_that_are_not_flushed_are_not_told(void **state)
{
    struct tree *t = *state;
    struct copied c = {0};
    struct sink_options o = {.on_placed = tree_on_placed, .ctx = &c};
    struct sink *s;
    static uint8_t bytes[9000000];
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    struct sink_file *f = begin(s, "large", sizeof bytes);
    assert_int_equal(sink_write(f, 0, bytes, sizeof bytes, NULL), GW_OK);
    assert_int_equal(sink_commit(f, sizeof bytes, 0, NULL), GW_OK);
    flush_error = EIO; /* its data has been flushed, its name has not */
    assert_int_equal(sink_flush(s, NULL), GW_EIO);
    flush_error = 0;
    assert_int_equal(c.placed, 0);
    assert_int_equal(c.failed, 1);
    sink_close(s);
}

static void small_files_share_their_flushes(void **state)
{
    struct tree *t = *state;
    char name[32];
    tree_folder(t, "many");
    for (int i = 0; i < 520; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        tree_file(t, name, name);
    }
    flushes = 0;
    struct copied c = tree_copy_well(t, "many", "copy", &TREE_R);
    assert_int_equal(c.placed, 520);
    if (flushes > 6) {
        fail_msg("%u flushes", flushes);
    }
}

/* As many folders as files, all of which are there: their folders are noted together. */
static void replaced_files_share_flushes_too(void **state)
{
    struct tree *t = *state;
    char name[32];
    struct copy over = {.from = {.recursive = true}, .to = {.overwrite = true}};
    tree_folder(t, "many");
    for (int i = 0; i < 120; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        tree_folder(t, name);
        snprintf(name, sizeof name, "many/%d/file", i);
        tree_file(t, name, "old");
    }
    tree_copy_well(t, "many/", "copy/", &over);
    for (int i = 0; i < 120; i++) {
        snprintf(name, sizeof name, "many/%d/file", i);
        tree_file(t, name, "new and longer");
    }
    flushes = 0;
    struct copied c = tree_copy_well(t, "many/", "copy/", &over);
    assert_int_equal(c.placed, 120);
    if (flushes > 12) {
        fail_msg("%u flushes", flushes);
    }
    tree_assert_same(t, "many", "copy");
    tree_assert_clean(t);
}

/* --- few descriptors --- */
static void few_descriptors_make_small_batches(void **state)
{
    struct tree *t = *state;
    char name[32];
    struct rlimit limit, few;
    tree_folder(t, "many");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        tree_file(t, name, name);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    struct copied c = tree_copy_well(t, "many", "copy", &TREE_R);
    assert_int_equal(c.placed, 200);
    /* a batch that was small enough before others took the rest */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct sink_options o = {0};
    struct sink *s;
    assert_int_equal(sink_open(t->roots, "again/", false, &o, t->parts, &s, NULL), GW_OK);
    few.rlim_cur = 40;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "%d", i);
        struct sink_file *f = begin(s, name, 1);
        assert_int_equal(sink_write(f, 0, "x", 1, NULL), GW_OK);
        assert_int_equal(sink_commit(f, 1, 0, NULL), GW_OK);
    }
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(scratch_count(&t->dir, "again"), 200);
    tree_assert_clean(t);
}

/* --- a full disk --- */
static void a_full_disk_keeps_the_part_and_goes_on_later(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX];
    if (!scratch_mount(&t->dir, "8m")) {
        skip();
    }
    parts_close(t->parts); /* on the new file system */
    assert_int_equal(parts_open(tree_path(t, "parts", path), &t->parts, NULL), GW_OK);
    tree_folder(t, "d");
    tree_large(t, "ballast", 4 << 20, 1);
    struct sink_options o = {0};
    struct sink *s;
    struct gw_error why = {0};
    static uint8_t bytes[6 << 20];
    tree_fill(bytes, sizeof bytes, 7);
    assert_int_equal(sink_open(t->roots, "d", false, &o, t->parts, &s, NULL), GW_OK);
    struct sink_file *f = begin(s, "large", sizeof bytes), *small = begin(s, "small", 100000);
    uint64_t at = 0;
    gw_err err = GW_OK;
    while (!err && at < sizeof bytes) {
        err = sink_write(f, at, bytes + at, 100000, &why);
        at += err ? 0 : 100000;
    }
    assert_int_equal(err, GW_EDISK_FULL);
    assert_non_null(strstr(why.hint, "room"));
    assert_int_equal(sink_write(small, 0, bytes, 100000, &why), GW_EDISK_FULL);
    sink_abort(small, true);
    sink_abort(f, true);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    assert_int_equal(scratch_count(&t->dir, "d"), 0);
    assert_int_equal(scratch_count(&t->dir, "parts"), 1);
    assert_int_equal(truncate(tree_path(t, "ballast", path), 0), 0);
    /* room for what is left of the file, beside what was kept */
    assert_int_equal(sink_open(t->roots, "d", false, &o, t->parts, &s, NULL), GW_OK);
    f = begin(s, "large", sizeof bytes);
    assert_true(f->rest_size >= at && f->rest_size < at + 100000);
    uint8_t got[1000];
    assert_int_equal(pread(sink_rest(f), got, sizeof got, 1000000), sizeof got);
    assert_memory_equal(got, bytes + 1000000, sizeof got);
    sink_abort(f, false);
    sink_close(s);
    tree_assert_clean(t);
}

/* --- a file system without O_TMPFILE --- */
static void a_file_system_without_nameless_files(void **state)
{
    struct tree *t = *state;
    tree_folder(t, "s");
    tree_file(t, "s/a", "one");
    tree_file(t, "s/b", "two");
    no_tmpfile = true;
    struct copied c = tree_copy_well(t, "s", "copy", &TREE_R);
    assert_int_equal(c.placed, 2);
    tree_assert_same(t, "s", "copy");
    struct copy over = {.to = {.overwrite = true}};
    tree_file(t, "s/b", "three");
    tree_copy_well(t, "s/b", "copy/b", &over);
    tree_assert_text(t, "copy/b", "three");
    tree_assert_clean(t);
    struct sink_options o = {0}; /* what is given up leaves its part */
    struct sink *s;
    assert_int_equal(sink_open(t->roots, "copy", false, &o, t->parts, &s, NULL), GW_OK);
    struct sink_file *f = begin(s, "c", 3);
    assert_int_equal(sink_write(f, 0, "ab", 2, NULL), GW_OK);
    sink_abort(f, true);
    sink_close(s);
    no_tmpfile = false;
    assert_int_equal(scratch_count(&t->dir, "parts"), 1);
    struct parts_swept swept;
    assert_int_equal(parts_sweep(t->parts, 0, &swept, NULL), GW_OK);
    assert_int_equal(swept.removed, 1);
    tree_assert_clean(t);
}

/* --- races --- */
struct race {
    struct tree *t;
    bool stop;
    unsigned turns;
};

/* `d/sub` is a folder, then a link that leads out, and so on; never neither. */
static void *switch_folder(void *ctx)
{
    struct race *r = ctx;
    char link[PATH_MAX], at[PATH_MAX];
    tree_path(r->t, "in/link", link);
    tree_path(r->t, "in/d/sub", at);
    while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
        if (renameat2(AT_FDCWD, link, AT_FDCWD, at, RENAME_EXCHANGE) == 0) {
            __atomic_fetch_add(&r->turns, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

#define ROUNDS_MAX 20000

static unsigned turns(const struct race *r)
{
    return __atomic_load_n(&r->turns, __ATOMIC_RELAXED);
}

static void nothing_is_written_outside_while_links_switch(void **state)
{
    struct tree *t = *state;
    struct race race = {.t = t};
    struct roots *inside;
    char path[PATH_MAX], name[64];
    tree_folder(t, "in");
    tree_folder(t, "in/d");
    tree_folder(t, "in/d/sub");
    tree_folder(t, "outside");
    tree_link(t, tree_path(t, "outside", path), "in/link");
    tree_path(t, "in", path);
    assert_int_equal(roots_open((const char *const[]){path}, 1, &inside, NULL), GW_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, switch_folder, &race), 0);
    struct sink_options o = {.overwrite = true};
    unsigned written = 0, refused = 0;
    no_flush = true;
    for (int round = 0; round < ROUNDS_MAX && (written < 50 || refused < 50 || turns(&race) < 100);
         round++) {
        struct sink *s;
        /* above the destination, and below it */
        bool below = round % 2 != 0;
        if (sink_open(inside, below ? "d/" : "d/sub", below, &o, t->parts, &s, NULL)) {
            refused++;
            continue;
        }
        snprintf(name, sizeof name, below ? "sub/%d" : "%d", round);
        struct file_entry e = {.path = name, .type = ENTRY_FILE, .mode = 0600};
        e.size = round % 4 < 2 ? 1 : 2000000;
        struct sink_file *f = NULL;
        sink_verdict verdict;
        gw_err err = sink_entry(s, &e, &verdict, &f, NULL);
        if (!err && f) {
            err = sink_write(f, 0, "x", 1, NULL);
            if (err) {
                sink_abort(f, false);
            } else {
                err = sink_commit(f, 1, 0, NULL);
            }
        }
        err = err ? err : sink_flush(s, NULL);
        written += !err;
        refused += err != GW_OK;
        sink_close(s);
    }
    __atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    no_flush = false;
    assert_true(written > 0 && refused > 0 && race.turns > 0);
    assert_int_equal(scratch_count(&t->dir, "outside"), 0);
    roots_close(inside);
}

/* Sources: what is read is never outside either. */
static void nothing_is_read_outside_while_links_switch(void **state)
{
    struct tree *t = *state;
    struct race race = {.t = t};
    struct roots *inside;
    char path[PATH_MAX];
    tree_folder(t, "in");
    tree_folder(t, "in/d");
    tree_folder(t, "in/d/sub");
    tree_file(t, "in/d/sub/file", "public");
    tree_folder(t, "outside");
    tree_file(t, "outside/file", "secret");
    tree_link(t, tree_path(t, "outside", path), "in/link");
    tree_path(t, "in", path);
    assert_int_equal(roots_open((const char *const[]){path}, 1, &inside, NULL), GW_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, switch_folder, &race), 0);
    const char *const names[] = {"d/sub/file", "d", "d/*/file", "d/**/file"};
    unsigned seen = 0;
    for (int round = 0; round < ROUNDS_MAX && (seen < 100 || turns(&race) < 200); round++) {
        struct source *s;
        if (source_open(inside, &names[round % 4], 1, &TREE_R.from, &s, NULL)) {
            continue;
        }
        const struct file_entry *e;
        gw_err err;
        while ((err = source_next(s, &e, NULL)) != GW_ENOT_FOUND) {
            int fd;
            char got[7] = "";
            if (!err && e->type == ENTRY_FILE && source_file(s, e, &fd, NULL) == GW_OK) {
                assert_int_equal(read(fd, got, 6), 6);
                assert_string_equal(got, "public");
                close(fd);
                seen++;
            }
        }
        source_close(s);
    }
    __atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_true(seen > 0 && race.turns > 0);
    roots_close(inside);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(a_disk_that_fails_to_flush_makes_nothing_visible),
        T(names_that_are_not_flushed_are_not_told),
        T(small_files_share_their_flushes),
        T(replaced_files_share_flushes_too),
        T(few_descriptors_make_small_batches),
        T(nothing_is_written_outside_while_links_switch),
        T(nothing_is_read_outside_while_links_switch),
        T(a_full_disk_keeps_the_part_and_goes_on_later),
        T(a_file_system_without_nameless_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
