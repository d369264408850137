/* Rotten bytes: one bit turned, 24 bytes of rubbish, or the end cut off, at 64 places of each file
 * of a store that a killed process has left (a database, a log that is longer than its last
 * checkpoint, large values). Whatever is done to it: what can be read is what was written, what
 * cannot is said to be damaged, and nothing is missing in silence. */
#include "persistence/store.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <sqlite3.h>

#include "persistence/seal.h"
#include "persistence/wal.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

#define PLACES 64
#define ROWS   600
#define LARGE  3 /* of them in files */

/* --- the store: all rows, then a checkpoint, then those whose keys come first once more --- */
static size_t value_of(uint64_t i, uint8_t ret[270000])
{
    size_t len = i < LARGE ? LIMIT_STORE_INLINE_BYTES + 1 + i * 1000 : 40 + i * 7 % 300;
    for (size_t at = 0; at < len; at++) {
        ret[at] = (uint8_t)((i + 1) * 31 + at * 7 + at / 251);
    }
    return len;
}

static store_table table_of(uint64_t i)
{
    static const store_table tables[] = {TABLE_STATES, TABLE_AGENTS, TABLE_INBOX};
    return i < LARGE ? TABLE_STATES : tables[i % 3];
}

static bool is_twice(uint64_t i)
{
    return (i * 37 & 0xff) < 64;
}

static struct span key_of(uint64_t i, uint8_t ret[24])
{
    memset(ret, (int)(i * 37 & 0xff), 24); /* not in the order of writing */
    store_u64(ret + 16, i);
    return (struct span){ret, 24};
}

static struct store_batch *batch_of(uint64_t i, bool first)
{
    static uint8_t value[270000];
    uint8_t key[24];
    size_t len = value_of(i, value);
    if (first) {
        value[0] ^= 0xff; /* what stood there before is seen when it comes back */
    }
    struct store_batch *b = store_batch_new();
    store_batch_put(b, table_of(i), key_of(i, key), (struct span){value, len});
    return b;
}

static void write_row(struct store *store, uint64_t i, bool first)
{
    gw_err err;
    struct store_batch *b = batch_of(i, first);
    store_apply(store, &b, 1, &err);
    store_batch_free(b);
    if (err) {
        _exit(3);
    }
}

static __attribute__((noreturn)) void write_all(const char *path)
{
    struct store *store;
    if (store_open_sqlite(path, &store, NULL) != GW_OK) {
        _exit(2);
    }
    for (uint64_t i = 0; i < ROWS; i++) {
        write_row(store, i, is_twice(i));
    }
    store_idle(store);
    for (uint64_t i = 0; i < ROWS; i++) {
        if (is_twice(i)) {
            write_row(store, i, false);
        }
    }
    _exit(0); /* like a kill: the log stays */
}

/* --- its files, kept in memory --- */
struct file {
    char name[64];
    uint8_t *bytes;
    size_t len;
    size_t used; /* a log may be longer: behind it is what was before the last checkpoint */
};
#define FILES_MAX 12
static struct scratch dir;
static struct file files[FILES_MAX];
static size_t file_count;
static bool large_harmed;

static void keep(const char *name)
{
    char path[256];
    struct stat st;
    struct file *f = &files[file_count++];
    assert_true(file_count <= FILES_MAX);
    FILE *in = fopen(scratch_path(&dir, name, path), "r");
    assert_non_null(in);
    assert_int_equal(fstat(fileno(in), &st), 0);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->len = (size_t)st.st_size;
    f->bytes = malloc(f->len + 1);
    assert_int_equal(fread(f->bytes, 1, f->len, in), f->len);
    fclose(in);
    f->used = f->len;
    if (strcmp(name, "store.db-wal") == 0) {
        f->used = WAL_HEADER_BYTES;
        while (f->used + WAL_FRAME_BYTES <= f->len &&
               memcmp(f->bytes + f->used + 8, f->bytes + 16, 8) == 0) { /* the salts */
            f->used += WAL_FRAME_BYTES;
        }
    }
}

static void keep_all(void)
{
    static const char *const fixed[] = {"store.db", "store.db-wal", "store.db-mark", "store.lock"};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        keep(fixed[i]);
    }
    char path[256], name[64];
    DIR *blobs = opendir(scratch_path(&dir, "blobs", path));
    const struct dirent *e;
    while ((e = readdir(blobs))) {
        if (e->d_name[0] != '.') {
            snprintf(name, sizeof name, "blobs/%.40s", e->d_name);
            keep(name);
        }
    }
    closedir(blobs);
    assert_int_equal(file_count, 4 + LARGE);
}

/* (A large value that nobody has touched is left: a store does not change it.) */
static void restore(void)
{
    for (size_t i = 0; i < file_count; i++) {
        char path[256];
        struct stat st;
        bool large = strncmp(files[i].name, "blobs/", 6) == 0;
        if (large && !large_harmed && stat(scratch_path(&dir, files[i].name, path), &st) == 0) {
            continue;
        }
        scratch_write(&dir, files[i].name, files[i].bytes, files[i].len);
    }
}

static const struct file *file(const char *name)
{
    for (size_t i = 0; i < file_count; i++) {
        if (strncmp(files[i].name, name, strlen(name)) == 0 &&
            (files[i].name[strlen(name)] == '\0' || name[strlen(name) - 1] == '/')) {
            return &files[i];
        }
    }
    fail_msg("no file \"%s\"", name);
    return NULL;
}

static int make_all(void **state)
{
    (void)state;
    assert_int_equal(log_open("/dev/null", NULL), GW_OK); /* thousands of lines */
    scratch_make(&dir);
    pid_t child = fork();
    if (child == 0) {
        write_all(dir.path);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    keep_all();
    return 0;
}

static int drop_all(void **state)
{
    (void)state;
    scratch_remove(&dir);
    for (size_t i = 0; i < file_count; i++) {
        free(files[i].bytes);
    }
    return 0;
}

/* --- looking at what is there --- */
struct found {
    size_t right, damaged;
    bool refused;
    char text[400];
};

static bool count_row(void *arg, struct span key, struct span value)
{
    (void)key;
    (void)value;
    ++*(size_t *)arg;
    return true;
}

/* A scan tells of damage, or has every row. */
static void scan_table(struct store *store, store_table table, bool backwards)
{
    size_t count = 0, want = 0;
    for (uint64_t i = 0; i < ROWS; i++) {
        want += table_of(i) == table;
    }
    const struct store_range all = {.table = table, .backwards = backwards};
    gw_err err = store_scan(store, &all, count_row, &count);
    assert_true(err == GW_ECORRUPT || (err == GW_OK && count == want));
}

static struct found look(void)
{
    static uint8_t want[270000];
    struct found f = {0};
    struct gw_error why = {0};
    struct store *store;
    gw_err err = store_open_sqlite(dir.path, &store, &why);
    if (err) {
        if (err != GW_ECORRUPT || !strstr(why.text, dir.path) || why.hint[0] == '\0') {
            fail_msg("%s: \"%s\" hint \"%s\"", gw_err_name(err), why.text, why.hint);
        }
        f.refused = true;
        snprintf(f.text, sizeof f.text, "%s", why.text);
        return f;
    }
    for (uint64_t i = 0; i < ROWS; i++) {
        struct buf got = {0};
        uint8_t key[24];
        err = store_get(store, table_of(i), key_of(i, key), &got);
        if (err == GW_OK) {
            size_t len = value_of(i, want);
            assert_int_equal(got.len, len);
            assert_memory_equal(got.data, want, len);
            f.right++;
        } else {
            assert_int_equal(err, GW_ECORRUPT); /* never "not found" */
            f.damaged++;
        }
        buf_free(&got);
    }
    for (store_table t = 0; t < TABLE_COUNT; t++) {
        scan_table(store, t, false);
        scan_table(store, t, true);
    }
    store_close(store);
    return f;
}

/* --- what is done to a file --- */
typedef enum harm { FLIP, RUBBISH, CUT } harm;

static void do_harm(const struct file *f, harm what, size_t place)
{
    char path[256];
    size_t at = f->used * place / PLACES + place * 131 % (f->used / PLACES + 1);
    at = at < f->used ? at : f->used - 1;
    restore();
    large_harmed = strncmp(f->name, "blobs/", 6) == 0;
    int fd = open(scratch_path(&dir, f->name, path), O_RDWR);
    assert_true(fd >= 0);
    uint8_t bytes[24];
    ssize_t n = pread(fd, bytes, sizeof bytes, (off_t)at);
    assert_true(n > 0);
    if (what == CUT) {
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
    } else if (what == FLIP) {
        bytes[0] ^= (uint8_t)(1u << place % 8);
        assert_int_equal(pwrite(fd, bytes, 1, (off_t)at), 1);
    } else {
        for (ssize_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)~bytes[i];
        }
        assert_int_equal(pwrite(fd, bytes, (size_t)n, (off_t)at), n);
    }
    close(fd);
}

static struct found after(const struct file *f, harm what, size_t place)
{
    do_harm(f, what, place);
    return look();
}

/* --- cases --- */
static void whole_store_is_read_whole(void **state)
{
    (void)state;
    restore();
    struct found f = look();
    assert_false(f.refused);
    assert_int_equal(f.right, ROWS);
    assert_in_range(file("store.db-wal")->used, 100000, file("store.db-wal")->len - 1);
    assert_in_range(file("store.db")->len, 100000, 1 << 23);
}

/* One bit in the database is put right, wherever it is; the next start finds nothing. */
static void one_bit_is_put_right(void **state)
{
    (void)state;
    for (size_t place = 0; place < PLACES; place++) {
        do_harm(file("store.db"), FLIP, place);
        for (int start = 0; start < 2; start++) {
            struct found f = look();
            if (f.refused || f.right != ROWS) {
                fail_msg("place %zu: %zu rows, %s", place, f.right, f.text);
            }
        }
    }
}

/* Each bit of what the whole database hangs on. */
static void one_bit_of_the_head_is_put_right(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 100 * 8; bit += 7) {
        char path[256];
        struct store *store;
        struct gw_error why = {0};
        restore();
        int fd = open(scratch_path(&dir, "store.db", path), O_RDWR);
        uint8_t byte = file("store.db")->bytes[bit / 8] ^ (uint8_t)(1u << bit % 8);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
        close(fd);
        if (store_open_sqlite(dir.path, &store, &why) != GW_OK) {
            fail_msg("bit %zu: %s", bit, why.text);
        }
        store_close(store);
    }
}

/* Rubbish in the database costs what is on that page, or the start where all hangs on it. */
static void rubbish_in_the_database_is_found(void **state)
{
    (void)state;
    size_t refused = 0, partly = 0, harmless = 0;
    for (size_t place = 0; place < PLACES; place++) {
        struct found f = after(file("store.db"), RUBBISH, place);
        refused += f.refused;
        partly += !f.refused && f.damaged > 0;
        harmless += !f.refused && f.damaged == 0; /* the page is in the log, too */
        assert_true(f.refused || f.damaged < ROWS / 2);
    }
    print_message("refused %zu, partly read %zu, nothing lost %zu\n", refused, partly, harmless);
    assert_true(partly > PLACES / 8);
    assert_true(refused < PLACES / 4);
}

/* A log of which anything is missing is not used: what was acknowledged last would be lost. */
static void harm_to_the_log_is_found(void **state)
{
    (void)state;
    for (harm what = FLIP; what <= CUT; what++) {
        for (size_t place = 0; place < PLACES; place++) {
            struct found f = after(file("store.db-wal"), what, place);
            assert_true(f.refused && strstr(f.text, "store.db-wal"));
        }
    }
}

static void cut_database_is_found(void **state)
{
    (void)state;
    size_t refused = 0;
    for (size_t place = 0; place < PLACES; place++) {
        struct found f = after(file("store.db"), CUT, place);
        refused += f.refused;
        assert_true(f.refused || f.damaged > 0 || f.right == ROWS);
    }
    assert_true(refused > 0);
}

static void missing_files_are_found(void **state)
{
    (void)state;
    static const char *const names[] = {"store.db", "store.db-wal"};
    char path[256];
    for (size_t i = 0; i < 2; i++) {
        restore();
        assert_int_equal(unlink(scratch_path(&dir, names[i], path)), 0);
        struct found f = look();
        assert_true(f.refused && strstr(f.text, names[i]) && strstr(f.text, "missing"));
    }
}

/* A large value belongs to one row. */
static void harm_to_a_large_value_is_its_own(void **state)
{
    (void)state;
    const struct file *one = file("blobs/");
    for (harm what = FLIP; what <= CUT; what++) {
        for (size_t place = what; place < PLACES; place += 3) {
            struct found f = after(one, what, place);
            assert_false(f.refused);
            assert_int_equal(f.damaged, 1);
        }
    }
    char path[256];
    restore();
    assert_int_equal(unlink(scratch_path(&dir, one->name, path)), 0);
    struct found f = look();
    assert_int_equal(f.damaged, 1);
}

/* The mark only says what has to be there: without it the rest is as right as before. */
static void harm_to_the_mark_is_harmless(void **state)
{
    (void)state;
    static const char *const names[] = {"store.db-mark", "store.lock"};
    for (size_t i = 0; i < 2; i++) {
        const struct file *one = file(names[i]);
        for (harm what = FLIP; one->len > 0 && what <= CUT; what++) {
            for (size_t place = what; place < PLACES; place += 3) {
                struct found f = after(one, what, place);
                assert_false(f.refused);
                assert_int_equal(f.right, ROWS);
            }
        }
    }
}

/* With a mark that is too old, as after a power cut, the log alone still tells of most damage. */
static void damage_is_found_without_the_mark(void **state)
{
    (void)state;
    char path[256];
    const struct file *wal = file("store.db-wal");
    for (size_t place = 0; place < PLACES / 2; place++) { /* well before its end */
        do_harm(wal, RUBBISH, place);
        assert_int_equal(unlink(scratch_path(&dir, "store.db-mark", path)), 0);
        struct found f = look();
        assert_true(f.refused && strstr(f.text, "store.db-wal"));
    }
}

/* --- stores of earlier builds --- */
static void run_sql(sqlite3 *db, const char *sql)
{
    char *error = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK) {
        fail_msg("%s: %s", sql, error);
    }
}

static int copy_table(void *arg, int n, char **sql_and_name, char **names)
{
    char sql[160];
    (void)n;
    (void)names;
    run_sql(arg, sql_and_name[0]);
    snprintf(sql, sizeof sql, "INSERT INTO main.%s SELECT * FROM new.%s", sql_and_name[1],
             sql_and_name[1]);
    run_sql(arg, sql);
    return 0;
}

/* The same rows in a file as the builds before left it: no room for checksums, three steps. */
static void make_old(void)
{
    char path[256], old[256], sql[400];
    sqlite3 *db;
    restore();
    (void)look(); /* nothing stays in the log */
    assert_int_equal(sqlite3_open(scratch_path(&dir, "old.db", old), &db), SQLITE_OK);
    snprintf(sql, sizeof sql, "ATTACH '%s' AS new", scratch_path(&dir, "store.db", path));
    run_sql(db, sql);
    assert_int_equal(
        sqlite3_exec(db, "SELECT sql, name FROM new.sqlite_schema", copy_table, db, NULL),
        SQLITE_OK);
    run_sql(db, "DETACH new; PRAGMA application_id=1734637428; PRAGMA user_version=3;"
                "PRAGMA journal_mode=WAL");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(rename(old, path), 0);
    assert_int_equal(unlink(scratch_path(&dir, "store.db-mark", path)), 0);
}

static void old_stores_get_checksums(void **state)
{
    (void)state;
    char path[256];
    uint8_t head[100], junk[24] = "this was never written";
    make_old();
    struct found f = look();
    if (f.refused) {
        fail_msg("%s", f.text);
    }
    assert_int_equal(f.right, ROWS);
    int fd = open(scratch_path(&dir, "store.db", path), O_RDWR);
    assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
    assert_int_equal(head[20], SEAL_BYTES);
    assert_int_equal(load_u32(head + 60), SEAL_VERSION);
    for (off_t page = 1; pread(fd, head, 1, page * 4096) == 1; page++) {
        assert_int_equal(pwrite(fd, junk, sizeof junk, page * 4096 + 2000), sizeof junk);
    }
    close(fd);
    f = look();
    assert_true(f.refused || f.right == 0);
}

/* An earlier build was killed in its first start: a page without room, and no table. */
static void begin_old(bool cut_off)
{
    /* of 0 pages, in sectors of 512 bytes, pages of 4096 */
    uint8_t journal[512] = {0xd9, 0xd5, 5, 0xf9, 0x20, 0xa1, 0x63, 0xd7, [22] = 2, [26] = 16};
    char path[256];
    sqlite3 *db;
    scratch_make(&dir);
    assert_int_equal(sqlite3_open(scratch_path(&dir, "store.db", path), &db), SQLITE_OK);
    run_sql(db, "PRAGMA journal_mode=WAL");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    if (cut_off) {
        scratch_write(&dir, "store.db-journal", journal, sizeof journal);
    }
}

static void look_at_begun(bool cut_off)
{
    char path[256];
    uint8_t head[100];
    struct store *store;
    struct store_batch *batches[ROWS];
    gw_err errs[ROWS];
    struct scratch other = dir;
    begin_old(cut_off);
    assert_int_equal(store_open_sqlite(dir.path, &store, NULL), GW_OK);
    for (uint64_t i = 0; i < ROWS; i++) {
        batches[i] = batch_of(i, false);
    }
    store_apply(store, batches, ROWS, errs);
    for (uint64_t i = 0; i < ROWS; i++) {
        assert_int_equal(errs[i], GW_OK);
        store_batch_free(batches[i]);
    }
    store_close(store);
    struct found f = look();
    assert_false(f.refused);
    assert_int_equal(f.right, ROWS);
    int fd = open(scratch_path(&dir, "store.db", path), O_RDONLY);
    assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
    close(fd);
    assert_int_equal(head[20], SEAL_BYTES);
    scratch_remove(&dir);
    dir = other;
}

static void begun_stores_get_checksums(void **state)
{
    (void)state;
    look_at_begun(false);
    look_at_begun(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_store_is_read_whole),
        cmocka_unit_test(one_bit_is_put_right),
        cmocka_unit_test(one_bit_of_the_head_is_put_right),
        cmocka_unit_test(rubbish_in_the_database_is_found),
        cmocka_unit_test(harm_to_the_log_is_found),
        cmocka_unit_test(cut_database_is_found),
        cmocka_unit_test(missing_files_are_found),
        cmocka_unit_test(harm_to_a_large_value_is_its_own),
        cmocka_unit_test(harm_to_the_mark_is_harmless),
        cmocka_unit_test(damage_is_found_without_the_mark),
        cmocka_unit_test(old_stores_get_checksums),
        cmocka_unit_test(begun_stores_get_checksums),
    };
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
