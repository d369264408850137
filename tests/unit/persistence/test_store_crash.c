/* A process that ends in the middle of commits, by kill -9 or because the disk does not flush:
 * after reopening, all that was reported durable is there, each batch is whole or absent, no file
 * is left over. The child reports each group on a pipe after store_apply has returned. */
#include "persistence/store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

#define SLOTS      5
#define BLOB_EVERY 4 /* each fourth batch rewrites a large value */

/* --- a disk whose n-th flush fails, for SQLite's calls and ours --- */
static int flushes_left; /* 0 = all work */

/* SQLite ignores how the fsync of the folder of a new log ends; the store has done it by then. */
static bool is_folder_of_the_log(int fd)
{
    struct stat st;
    char proc[64], path[256];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(proc, path, sizeof path);
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && n > 6 &&
           memcmp(path + n - 6, "/blobs", 6) != 0;
}

static int flush(int fd, long call)
{
    if (flushes_left > 0 && !is_folder_of_the_log(fd) && --flushes_left == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return flush(fd, SYS_fsync);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return flush(fd, SYS_fdatasync);
}

/* --- what batch number i does --- */
static uint8_t value[300000];

static size_t blob_size(uint64_t i)
{
    return LIMIT_STORE_INLINE_BYTES + 1 + i % 30000;
}

static struct store_batch *batch_number(uint64_t i)
{
    uint8_t key[8], slot[2] = {'s', (uint8_t)(i / BLOB_EVERY % SLOTS)};
    store_u64(key, i);
    struct span number = {key, sizeof key};
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_EVENTS, number, number);
    store_batch_put(b, TABLE_META, (struct span){(const uint8_t *)"last", 4}, number);
    if (i % BLOB_EVERY == 0) {
        memset(value, (int)(i & 0xff), blob_size(i));
        store_batch_put(b, TABLE_STATES, (struct span){slot, 2},
                        (struct span){value, blob_size(i)});
        store_batch_del_prefix(b, TABLE_FILES, (struct span){slot, 2});
        store_batch_copy_prefix(b, TABLE_STATES, (struct span){slot, 2}, (struct span){slot, 2});
    }
    return b;
}

/* Commit batches from number `i` on until something ends this process. */
static __attribute__((noreturn)) void child_main(const char *path, uint64_t i, int report,
                                                 int fail_flush)
{
    struct store *store;
    if (store_open_sqlite(path, &store, NULL) != GW_OK) {
        _exit(50);
    }
    flushes_left = fail_flush;
    for (;;) {
        struct store_batch *group[3];
        gw_err errors[3];
        size_t n = 1 + i % 3;
        for (size_t j = 0; j < n; j++) {
            group[j] = batch_number(i + j);
        }
        store_apply(store, group, n, errors);
        for (size_t j = 0; j < n; j++) {
            store_batch_free(group[j]);
            if (errors[j]) {
                _exit(51);
            }
        }
        i += n;
        uint64_t last = i - 1;
        if (write(report, &last, sizeof last) != sizeof last) {
            _exit(52);
        }
        if (i % 7 == 0) {
            store_idle(store);
        }
    }
}

/* --- checking --- */
static uint64_t read_number(struct store *store, store_table table, struct span key)
{
    struct buf got = {0};
    assert_int_equal(store_get(store, table, key, &got), GW_OK);
    assert_int_equal(got.len, 8);
    uint64_t n = load_u64(got.data);
    buf_free(&got);
    return n;
}

struct count {
    uint64_t next;
};

static bool in_sequence(void *arg, struct span key, struct span val)
{
    struct count *c = arg;
    assert_int_equal(key.n, 8);
    assert_int_equal(load_u64(key.p), c->next);
    assert_memory_equal(key.p, val.p, 8);
    c->next++;
    return true;
}

/* Returns the number of the next batch. */
static uint64_t check(const struct scratch *d, uint64_t reported)
{
    struct store *store = NULL;
    struct gw_error why = {0};
    if (store_open_sqlite(d->path, &store, &why)) {
        fail_msg("%s", why.text);
    }
    struct count c = {.next = 1};
    struct store_range all = {.table = TABLE_EVENTS};
    assert_int_equal(store_scan(store, &all, in_sequence, &c), GW_OK);
    uint64_t last = c.next - 1;
    assert_true(last >= reported); /* nothing that was reported is lost */
    if (last > 0) {
        struct span key = {(const uint8_t *)"last", 4};
        assert_int_equal(read_number(store, TABLE_META, key), last); /* whole batches only */
    }
    size_t files = 0;
    for (uint64_t s = 0; s < SLOTS; s++) {
        uint64_t i = last;
        while (i > 0 && (i % BLOB_EVERY != 0 || i / BLOB_EVERY % SLOTS != s)) {
            i--;
        }
        uint8_t slot[2] = {'s', (uint8_t)s};
        struct buf got = {0};
        gw_err err = store_get(store, TABLE_STATES, (struct span){slot, 2}, &got);
        assert_int_equal(err, i > 0 ? GW_OK : GW_ENOT_FOUND);
        if (i > 0) {
            assert_int_equal(got.len, blob_size(i));
            assert_int_equal(got.data[0], i & 0xff);
            assert_int_equal(got.data[got.len - 1], i & 0xff);
            files++;
        }
        buf_free(&got);
    }
    assert_int_equal(scratch_count(d, "blobs"), files);
    store_close(store);
    return c.next;
}

/* Run a child, until `kill_after_us` have passed (0: until it ends); returns what it reported last.
 */
static uint64_t run_child(const struct scratch *d, uint64_t next, int fail_flush,
                          unsigned kill_after_us, int *ret_status)
{
    int report[2];
    assert_int_equal(pipe(report), 0);
    pid_t child = fork();
    if (child == 0) {
        close(report[0]);
        child_main(d->path, next, report[1], fail_flush);
    }
    close(report[1]);
    uint64_t last = next - 1, got;
    if (kill_after_us) {
        /* The clock starts at the first report: opening takes its own time. */
        if (read(report[0], &got, sizeof got) == sizeof got) {
            last = got;
        }
        struct timespec pause = {0, (long)kill_after_us * 1000};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
    }
    while (read(report[0], &got, sizeof got) == sizeof got) {
        last = got;
    }
    close(report[0]);
    assert_int_equal(waitpid(child, ret_status, 0), child);
    return last;
}

static void killed_in_mid_commit(void **state)
{
    (void)state;
    struct scratch d;
    scratch_make(&d);
    uint64_t next = 1;
    srandom(20261);
    for (int round = 0; round < 30; round++) {
        int status;
        unsigned us = 1 + (unsigned)(random() % 20000);
        uint64_t reported = run_child(&d, next, 0, us, &status);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        next = check(&d, reported);
    }
    assert_true(next > 100);
    scratch_remove(&d);
}

static void failed_flush_ends_the_process(void **state)
{
    (void)state;
    struct scratch d;
    scratch_make(&d);
    uint64_t next = 1;
    for (int n = 1; n <= 24; n++) {
        int status;
        uint64_t reported = run_child(&d, next, n, 0, &status);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1); /* log_die, not a result */
        next = check(&d, reported);
    }
    scratch_remove(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_in_mid_commit),
        cmocka_unit_test(failed_flush_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
