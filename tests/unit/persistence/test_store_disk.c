/* What the SQLite engine does with its files: reopening, refusing, damage, a full disk, no memory.
 */
#include "persistence/store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <sqlite3.h>

#include "persistence/engine.h"
#include "persistence/seal.h"
#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

/* --- memory of SQLite that can run out --- */
static sqlite3_mem_methods real_memory;
static int fail_after; /* the n-th allocation from now fails; 0 = none */

static bool fails_now(void)
{
    return fail_after > 0 && --fail_after == 0;
}

static void *failing_malloc(int n)
{
    return fails_now() ? NULL : real_memory.xMalloc(n);
}

static void *failing_realloc(void *p, int n)
{
    return fails_now() ? NULL : real_memory.xRealloc(p, n);
}

static void use_failing_memory(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory);
    sqlite3_mem_methods failing = real_memory;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
}

/* --- helpers --- */
static struct span text(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

static struct store *open_ok(const struct scratch *d)
{
    struct store *store = NULL;
    struct gw_error why = {0};
    if (store_open_sqlite(d->path, &store, &why)) {
        fail_msg("%s", why.text);
    }
    return store;
}

/* Opening is refused with this code, a text that has `part` in it, and a hint. */
static void assert_refused(const char *path, gw_err want, const char *part)
{
    struct store *store = NULL;
    struct gw_error why = {0};
    gw_err err = store_open_sqlite(path, &store, &why);
    if (err != want || !strstr(why.text, part) || why.hint[0] == '\0' || store) {
        fail_msg("%s: \"%s\" hint \"%s\"", gw_err_name(err), why.text, why.hint);
    }
    assert_int_equal(why.code, want);
}

static gw_err apply(struct store *store, struct store_batch *batch)
{
    gw_err err = GW_EFAIL;
    store_apply(store, &batch, 1, &err);
    store_batch_free(batch);
    return err;
}

static gw_err put_bytes(struct store *store, const char *key, size_t len, uint8_t fill)
{
    struct buf value = {0};
    assert_true(buf_reserve(&value, len));
    memset(value.data, fill, len);
    value.len = len;
    struct store_batch *b = store_batch_new();
    store_batch_put_take(b, TABLE_STATES, text(key), &value);
    return apply(store, b);
}

static void assert_bytes(struct store *store, const char *key, size_t len, uint8_t fill)
{
    struct buf got = {0};
    assert_int_equal(store_get(store, TABLE_STATES, text(key), &got), GW_OK);
    assert_int_equal(got.len, len);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(got.data[i], fill);
    }
    buf_free(&got);
}

static void assert_absent(struct store *store, const char *key)
{
    struct buf got = {0};
    assert_int_equal(store_get(store, TABLE_STATES, text(key), &got), GW_ENOT_FOUND);
    buf_free(&got);
}

static off_t file_size(const struct scratch *d, const char *name)
{
    char path[256];
    struct stat st;
    return stat(scratch_path(d, name, path), &st) == 0 ? st.st_size : -1;
}

/* Change the database behind the store's back, but with the checksums of its pages. */
static void with_sqlite(const struct scratch *d, const char *sql)
{
    char path[256];
    sqlite3 *db;
    const char *vfs = sqlite3_vfs_find(SEAL_VFS) ? SEAL_VFS : NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    assert_int_equal(sqlite3_open_v2(scratch_path(d, "store.db", path), &db, flags, vfs),
                     SQLITE_OK);
    /* As the store does it: without memory that is shared with others. */
    assert_int_equal(sqlite3_exec(db, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Name of the only blob file; `ret` holds 256 bytes. */
static void only_blob(const struct scratch *d, char ret[256])
{
    char path[256];
    DIR *dir = opendir(scratch_path(d, "blobs", path));
    const struct dirent *e;
    ret[0] = '\0';
    while ((e = readdir(dir))) {
        if (e->d_name[0] != '.') {
            assert_string_equal(ret, "");
            snprintf(ret, 256, "%s/blobs/%.64s", d->path, e->d_name);
        }
    }
    closedir(dir);
    assert_string_not_equal(ret, "");
}

/* --- reopening --- */
static void reopening_keeps_all(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    assert_int_equal(put_bytes(store, "small", 10, 1), GW_OK);
    assert_int_equal(put_bytes(store, "large", 300000, 2), GW_OK);
    store_close(store);
    for (int i = 0; i < 2; i++) {
        store = open_ok(d);
        assert_bytes(store, "small", 10, 1);
        assert_bytes(store, "large", 300000, 2);
        store_close(store);
    }
    store = open_ok(d); /* it remembers that the row is a file */
    assert_int_equal(put_bytes(store, "large", 3, 3), GW_OK);
    assert_int_equal(scratch_count(d, "blobs"), 0);
    store_close(store);
    store_close(NULL);
}

static void files_are_private(void **state)
{
    struct scratch *d = *state;
    store_close(open_ok(d));
    char path[256];
    struct stat st;
    assert_int_equal(stat(scratch_path(d, "store.db", path), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(scratch_path(d, "blobs", path), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void sweep_takes_only_its_own(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    assert_int_equal(put_bytes(store, "large", 300000, 2), GW_OK);
    store_close(store);
    scratch_write(d, "blobs/0123456789abcdef00000000.part", "half", 4);
    scratch_write(d, "blobs/0123456789abcdef00000001", "unnamed", 7);
    scratch_write(d, "blobs/README", "not ours", 8);
    scratch_write(d, "blobs/0123456789abcdefXX000001", "not ours", 8);
    store = open_ok(d);
    assert_int_equal(scratch_count(d, "blobs"), 3);
    assert_bytes(store, "large", 300000, 2);
    store_close(store);
}

static void log_stays_short(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    bool wanted = false;
    for (int i = 0; i < 4000; i++) {
        char key[32];
        snprintf(key, sizeof key, "key %d", i % 100);
        assert_int_equal(put_bytes(store, key, 900, (uint8_t)i), GW_OK);
        if (store_wants_idle(store)) {
            wanted = true;
            store_idle(store);
            assert_false(store_wants_idle(store));
        }
    }
    assert_true(wanted);
    assert_in_range(file_size(d, "store.db-wal"), 1, 5 << 20);
    store_close(store);
}

static void log_is_bounded_without_idle_work(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(put_bytes(store, "k", 250000, (uint8_t)i), GW_OK);
    }
    assert_in_range(file_size(d, "store.db-wal"), 1, 40 << 20);
    store_close(store);
}

/* --- the lock --- */
static void lock_names_the_process(void **state)
{
    struct scratch *d = *state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *store = NULL;
        gw_err err = store_open_sqlite(d->path, &store, NULL);
        char c = err ? 'n' : 'y';
        if (write(ready[1], &c, 1) == 1) {
            pause();
        }
        _exit(0);
    }
    char c = 0, pid[32];
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    snprintf(pid, sizeof pid, "process %ld", (long)child);
    assert_refused(d->path, GW_ELOCKED, pid);
    assert_refused(d->path, GW_ELOCKED, d->path);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    store_close(open_ok(d));
}

static void lock_holds_within_a_process(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    assert_refused(d->path, GW_ELOCKED, "in use");
    assert_refused(d->path, GW_ELOCKED, "in use"); /* the refusal did not drop the lock */
    assert_int_equal(put_bytes(store, "k", 1, 1), GW_OK);
    store_close(store);
    store_close(open_ok(d));
}

/* --- files that are refused --- */
static void refuses_what_is_no_database(void **state)
{
    struct scratch *d = *state;
    static char junk[20000];
    memset(junk, 'j', sizeof junk);
    const size_t sizes[] = {1, 99, 100, 4096, sizeof junk};
    for (size_t i = 0; i < 5; i++) {
        scratch_write(d, "store.db", junk, sizes[i]);
        assert_refused(d->path, GW_ECORRUPT, "store.db");
        assert_int_equal(file_size(d, "store.db"), sizes[i]); /* left as it was */
    }
}

static void refuses_a_foreign_database(void **state)
{
    struct scratch *d = *state;
    with_sqlite(d, "CREATE TABLE songs(title); INSERT INTO songs VALUES('x');");
    assert_refused(d->path, GW_ECORRUPT, "another program");
    with_sqlite(d, "PRAGMA user_version=4711;");
    assert_refused(d->path, GW_ECORRUPT, "another program");
    with_sqlite(d, "INSERT INTO songs SELECT title FROM songs; PRAGMA application_id=77;");
    assert_refused(d->path, GW_ECORRUPT, "0x0000004d");
    assert_int_equal(file_size(d, "store.db-wal"), -1);
}

static void refuses_a_newer_store(void **state)
{
    struct scratch *d = *state;
    store_close(open_ok(d));
    with_sqlite(d, "PRAGMA user_version=4711;");
    assert_refused(d->path, GW_ENEWER, "4711");
    with_sqlite(d, "PRAGMA user_version=-1;");
    assert_refused(d->path, GW_ECORRUPT, "damaged");
}

static void refuses_a_damaged_store(void **state)
{
    struct scratch *d = *state;
    store_close(open_ok(d));
    with_sqlite(d, "DROP TABLE timers;");
    assert_refused(d->path, GW_ECORRUPT, "timers");
    with_sqlite(d, "CREATE TABLE timers(k, v);");
    store_close(open_ok(d));
    with_sqlite(d,
                "INSERT INTO blobs(t, k, f, n, h) VALUES(1, x'00', '../../../etc/passwd', 1, 1);");
    assert_refused(d->path, GW_ECORRUPT, "blobs");
    char path[256];
    assert_int_equal(truncate(scratch_path(d, "store.db", path), 8192), 0);
    assert_refused(d->path, GW_ECORRUPT, "store.db");
}

static void refuses_an_empty_file_beside_blobs(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    assert_int_equal(put_bytes(store, "large", 300000, 2), GW_OK);
    store_close(store);
    char path[256];
    assert_int_equal(truncate(scratch_path(d, "store.db", path), 0), 0);
    assert_refused(d->path, GW_ECORRUPT, "missing or empty");
    assert_int_equal(unlink(path), 0);
    assert_refused(d->path, GW_ECORRUPT, "missing or empty");
    assert_int_equal(unlink(scratch_path(d, "store.db-mark", path)), 0);
    assert_refused(d->path, GW_ECORRUPT, "blobs"); /* without that trace of it, too */
    assert_refused(d->path, GW_ECORRUPT, "blobs");
    assert_int_equal(scratch_count(d, "blobs"), 1); /* still there to be restored with */
}

static void refuses_bad_folders(void **state)
{
    struct scratch *d = *state;
    char path[256];
    assert_refused(scratch_path(d, "missing", path), GW_EIO, "missing");
    scratch_write(d, "file", "x", 1);
    assert_refused(scratch_path(d, "file", path), GW_EIO, "file");
    assert_int_equal(mkdir(scratch_path(d, "store.db", path), 0700), 0);
    assert_refused(d->path, GW_EIO, "store.db");
    assert_int_equal(rmdir(path), 0);
    scratch_write(d, "blobs", "x", 1);
    assert_refused(d->path, GW_EIO, "blobs");
}

static void refuses_a_folder_that_cannot_be_written(void **state)
{
    struct scratch *d = *state;
    pid_t child = fork();
    if (child == 0) { /* as another user: root may write everywhere */
        struct gw_error why = {0};
        struct store *store;
        if (chmod(d->path, 0555) != 0 || (geteuid() == 0 && setuid(65534) != 0)) {
            _exit(3);
        }
        gw_err err = store_open_sqlite(d->path, &store, &why);
        _exit(err == GW_EIO && strstr(why.text, d->path) && strstr(why.text, "denied") ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- damage that shows later --- */
static void damaged_page_is_an_error_of_its_table(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    for (int i = 0; i < 200; i++) {
        char key[32];
        snprintf(key, sizeof key, "key %d", i);
        assert_int_equal(put_bytes(store, key, 500, 1), GW_OK);
    }
    store_close(store);
    off_t size = file_size(d, "store.db");
    char path[256], junk[4096];
    memset(junk, 0xee, sizeof junk);
    int fd = open(scratch_path(d, "store.db", path), O_WRONLY);
    for (off_t at = 20 * 4096; at < size; at += 4096) { /* after the roots of the tables */
        assert_int_equal(pwrite(fd, junk, sizeof junk, at), sizeof junk);
    }
    close(fd);
    store = open_ok(d);
    struct buf got = {0};
    assert_int_equal(store_get(store, TABLE_STATES, text("key 7"), &got), GW_ECORRUPT);
    assert_int_equal(put_bytes(store, "key 7", 1, 1), GW_ECORRUPT);
    assert_int_equal(store_get(store, TABLE_META, text("k"), &got), GW_ENOT_FOUND);
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_META, text("k"), text("v"));
    assert_int_equal(apply(store, b), GW_OK); /* other tables go on */
    store_close(store);
    buf_free(&got);
}

static void damaged_file_is_an_error_of_its_row(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    assert_int_equal(put_bytes(store, "large", 300000, 2), GW_OK);
    assert_int_equal(put_bytes(store, "small", 3, 3), GW_OK);
    char path[256];
    struct buf got = {0};
    only_blob(d, path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "!", 1, 1000), 1); /* a flipped byte */
    assert_int_equal(store_get(store, TABLE_STATES, text("large"), &got), GW_ECORRUPT);
    assert_int_equal(ftruncate(fd, 1000), 0);
    assert_int_equal(store_get(store, TABLE_STATES, text("large"), &got), GW_ECORRUPT);
    close(fd);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(store_get(store, TABLE_STATES, text("large"), &got), GW_ECORRUPT);
    assert_bytes(store, "small", 3, 3);
    store_close(store);
    store = open_ok(d); /* says so in the log, and lives */
    assert_int_equal(put_bytes(store, "large", 4, 4), GW_OK);
    assert_bytes(store, "large", 4, 4);
    store_close(store);
    buf_free(&got);
}

/* A batch that fails at its last operation leaves nothing, files included; its neighbours stand. */
static void failed_batch_leaves_nothing(void **state)
{
    struct scratch *d = *state;
    struct store *store = open_ok(d);
    assert_int_equal(put_bytes(store, "old", 300000, 2), GW_OK);
    char path[256];
    only_blob(d, path);
    assert_int_equal(unlink(path), 0); /* so that copying it fails */
    assert_int_equal(put_bytes(store, "kept", 300000, 3), GW_OK);
    static uint8_t big[300000];
    for (size_t n = 1; n <= 3; n += 2) { /* alone, and between neighbours */
        struct store_batch *group[3];
        gw_err errors[3];
        for (size_t i = 0; i < n; i++) {
            group[i] = store_batch_new();
        }
        struct store_batch *bad = group[n / 2];
        store_batch_put(bad, TABLE_STATES, text("new"), (struct span){big, sizeof big});
        store_batch_put(bad, TABLE_STATES, text("kept"), text("overwritten"));
        store_batch_copy_prefix(bad, TABLE_STATES, text("old"), text("cpy"));
        if (n == 3) {
            store_batch_put(group[0], TABLE_STATES, text("first"), (struct span){big, sizeof big});
            store_batch_del(group[2], TABLE_STATES, text("first"));
            store_batch_put(group[2], TABLE_STATES, text("last"), text("v"));
        }
        store_apply(store, group, n, errors);
        assert_int_equal(errors[n / 2], GW_ECORRUPT);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(errors[i], i == n / 2 ? GW_ECORRUPT : GW_OK);
            store_batch_free(group[i]);
        }
        assert_absent(store, "new");
        assert_absent(store, "cpy");
        assert_bytes(store, "kept", 300000, 3);
        assert_int_equal(scratch_count(d, "blobs"), 1);
    }
    assert_bytes(store, "last", 1, 'v');
    store_close(store);
}

/* --- a full disk --- */
static size_t fill_with_rows(struct store *store)
{
    size_t n = 0;
    gw_err err;
    do {
        char key[32];
        snprintf(key, sizeof key, "row %06zu", n);
        err = put_bytes(store, key, 700, (uint8_t)n);
        n += err == GW_OK;
        store_idle(store);
    } while (!err && n < 20000);
    assert_int_equal(err, GW_EDISK_FULL);
    return n;
}

static void full_disk_rolls_back_and_recovers(void **state)
{
    struct scratch *d = *state;
    if (!scratch_mount(d, "2m")) {
        skip();
    }
    static uint8_t ballast[600000], big[900000];
    scratch_write(d, "ballast", ballast, sizeof ballast);
    struct store *store = open_ok(d);
    size_t n = fill_with_rows(store);
    assert_in_range(n, 50, 5000);
    /* A whole group: nobody gets in. */
    struct store_batch *group[3];
    gw_err errors[3];
    for (int i = 0; i < 3; i++) {
        group[i] = store_batch_new();
        store_batch_put(group[i], TABLE_STATES,
                        text(i == 0   ? "x"
                             : i == 1 ? "y"
                                      : "z"),
                        (struct span){big, 200000});
    }
    store_apply(store, group, 3, errors);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(errors[i], GW_EDISK_FULL);
        store_batch_free(group[i]);
    }
    assert_int_equal(put_bytes(store, "large", sizeof big, 1), GW_EDISK_FULL); /* a file */
    assert_int_equal(scratch_count(d, "blobs"), 0);
    assert_absent(store, "x");
    assert_absent(store, "large");
    assert_bytes(store, "row 000000", 700, 0);
    char path[256];
    assert_int_equal(unlink(scratch_path(d, "ballast", path)), 0); /* room again */
    assert_int_equal(put_bytes(store, "after", 100000, 5), GW_OK);
    store_close(store);
    store = open_ok(d);
    for (size_t i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "row %06zu", i);
        assert_bytes(store, key, 700, (uint8_t)i);
    }
    assert_bytes(store, "after", 100000, 5);
    assert_absent(store, "y");
    store_close(store);
}

static void full_disk_at_open(void **state)
{
    struct scratch *d = *state;
    if (!scratch_mount(d, "64k")) {
        skip();
    }
    assert_refused(d->path, GW_EDISK_FULL, "store.db");
    assert_int_equal(mount(NULL, d->path, NULL, MS_REMOUNT, "size=1m"), 0);
    store_close(open_ok(d)); /* the half-made file is no obstacle */
}

static void large_file_on_a_full_disk_fails_alone(void **state)
{
    struct scratch *d = *state;
    if (!scratch_mount(d, "2m")) {
        skip();
    }
    struct store *store = open_ok(d);
    static uint8_t big[4000000];
    struct store_batch *group[3];
    gw_err errors[3];
    for (int i = 0; i < 3; i++) {
        group[i] = store_batch_new();
        store_batch_put(group[i], TABLE_STATES,
                        text(i == 0   ? "x"
                             : i == 1 ? "y"
                                      : "z"),
                        (struct span){big, i == 1 ? sizeof big : 100});
    }
    store_apply(store, group, 3, errors);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(errors[i], i == 1 ? GW_EDISK_FULL : GW_OK);
        store_batch_free(group[i]);
    }
    assert_bytes(store, "x", 100, 0);
    assert_bytes(store, "z", 100, 0);
    assert_absent(store, "y");
    assert_int_equal(scratch_count(d, "blobs"), 0);
    store_close(store);
}

/* --- no memory --- */
/* Each allocation of SQLite fails once: the batch is applied whole or not at all. */
static void no_memory_undoes_the_batch(void **state)
{
    struct scratch *d = *state;
    for (size_t batches = 1; batches <= 2; batches++) {
        struct store *store = open_ok(d);
        assert_int_equal(put_bytes(store, "e1", 300000, 1), GW_OK);
        bool hit = true;
        for (int n = 1; hit && n < 2000; n++) {
            struct store_batch *b = store_batch_new();
            store_batch_put(b, TABLE_STATES, text("t1"), text("v"));
            store_batch_copy_prefix(b, TABLE_STATES, text("e1"), text("e2"));
            store_batch_put(b, TABLE_INBOX, text("t2"), text("v"));
            store_batch_del_prefix(b, TABLE_STATES, text("nothing"));
            store_group_begin(store, batches);
            fail_after = n;
            gw_err err = store_group_apply(store, b);
            hit = fail_after == 0;
            fail_after = 0;
            gw_err committed = store_group_commit(store);
            store_batch_free(b);
            assert_true(err == GW_OK || err == GW_ENOMEM);
            struct buf got = {0};
            gw_err want = err || committed ? GW_ENOT_FOUND : GW_OK;
            assert_int_equal(store_get(store, TABLE_STATES, text("t1"), &got), want);
            assert_int_equal(store_get(store, TABLE_STATES, text("e2"), &got), want);
            assert_int_equal(store_get(store, TABLE_INBOX, text("t2"), &got), want);
            buf_free(&got);
            assert_int_equal(scratch_count(d, "blobs"), want == GW_OK ? 2 : 1);
            b = store_batch_new();
            store_batch_del(b, TABLE_STATES, text("t1"));
            store_batch_del(b, TABLE_STATES, text("e2"));
            store_batch_del(b, TABLE_INBOX, text("t2"));
            assert_int_equal(apply(store, b), GW_OK);
        }
        assert_false(hit);
        store_close(store);
    }
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    use_failing_memory();
    const struct CMUnitTest tests[] = {
        ON_DISK(reopening_keeps_all),
        ON_DISK(files_are_private),
        ON_DISK(sweep_takes_only_its_own),
        ON_DISK(log_stays_short),
        ON_DISK(log_is_bounded_without_idle_work),
        ON_DISK(lock_names_the_process),
        ON_DISK(lock_holds_within_a_process),
        ON_DISK(refuses_what_is_no_database),
        ON_DISK(refuses_a_foreign_database),
        ON_DISK(refuses_a_newer_store),
        ON_DISK(refuses_a_damaged_store),
        ON_DISK(refuses_an_empty_file_beside_blobs),
        ON_DISK(refuses_bad_folders),
        ON_DISK(refuses_a_folder_that_cannot_be_written),
        ON_DISK(damaged_page_is_an_error_of_its_table),
        ON_DISK(damaged_file_is_an_error_of_its_row),
        ON_DISK(failed_batch_leaves_nothing),
        ON_DISK(full_disk_rolls_back_and_recovers),
        ON_DISK(full_disk_at_open),
        ON_DISK(large_file_on_a_full_disk_fails_alone),
        ON_DISK(no_memory_undoes_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
