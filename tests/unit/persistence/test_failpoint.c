/* Failpoints: what may be set, when they fire, and that the store takes what they do as what the
 * system would do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "persistence/failpoint.h"
#include "persistence/store.h"
#include "protocol/limits.h"

#define FRAME_STAGE_SENT (FAIL_AT_FRAME + 2 * FRAME_STAGE)

static int reset(void **state)
{
    (void)state;
    failpoint_reset();
    return 0;
}

static void set(const char *text)
{
    struct gw_error why;
    failpoint_reset();
    gw_err err = failpoint_open(text, &why);
    if (err) {
        fail_msg("%s: %s", text, why.text);
    }
}

static void test_nothing_is_set(void **state)
{
    (void)state;
    assert_int_equal(failpoint_open(NULL, NULL), GW_OK);
    assert_int_equal(failpoint_open("", NULL), GW_OK);
    assert_false(failpoint_on);
    assert_int_equal(failpoint_frame(FRAME_STAGE, false), 0);
    assert_int_equal(failpoint_frame(UINT32_MAX, true), 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "nobody:kill",                  /* no such place */
        "move.departed:kill",           /* before or after it? */
        "move.departed.before",         /* no action */
        "move.departed.before:",        /* the same */
        "move.departed.before:burn",    /* no such action */
        "move.departed.before:lost",    /* of frames */
        "move.departed.after:eio",      /* it is written */
        "move.departed.before:0:kill",  /* no pass */
        "move.departed.before:-1:kill", /* no pass */
        "move.departed.before:4294967295:kill",
        "move.departed.before:1:kill:2",
        "frame.stage.received:twice", /* it is not sent there */
        "frame.run.sent:kill",        /* of runners */
        "frame.item.received:kill",   /* no host receives it */
        "speed=0",
        "speed=1001",
        "speed=",
        "speed",
        ",",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gw_error why = {0};
        failpoint_reset();
        if (failpoint_open(wrong[i], &why) != GW_EARG || !why.text[0] || !why.hint[0]) {
            fail_msg("\"%s\" is taken, or refused without a word", wrong[i]);
        }
    }
}

static void test_fires_at_its_pass(void **state)
{
    (void)state;
    set("frame.stage.sent:3:lost,frame.commit.sent:*:twice,speed=20");
    assert_int_equal(failpoint_speed, 20);
    for (int pass = 1; pass < 6; pass++) {
        assert_int_equal(failpoint(FRAME_STAGE_SENT), pass == 3 ? FAIL_LOST : 0);
        assert_int_equal(failpoint_frame(FRAME_COMMIT, false), FAIL_TWICE);
        assert_int_equal(failpoint_frame(FRAME_COMMIT, true), 0);
    }
}

static void test_names_are_one_each(void **state)
{
    (void)state;
    char room[48], other[48];
    unsigned may, count = 0;
    for (unsigned at = 0; at < FAIL_COUNT; at++) {
        const char *name = failpoint_name(at, room, &may);
        if (!name) {
            continue;
        }
        count++;
        assert_true(may & FAIL_KILL && may & FAIL_STOP && !(may & ~(unsigned)FAIL_ACTIONS));
        for (unsigned i = 0; i < at; i++) {
            const char *before = failpoint_name(i, other, &may);
            assert_true(!before || strcmp(before, name) != 0);
        }
    }
    assert_true(count > 2 * (POINT_COUNT - 1) + PLACE_COUNT);
}

/* ---- the store ---- */

static struct store *open_store(const char *dir)
{
    struct store *store = NULL;
    struct gw_error why;
    if (store_open_sqlite(dir, &store, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return store;
}

static gw_err put(struct store *store, const char *key, size_t bytes)
{
    struct store_batch *batch = store_batch_new();
    struct buf value = {0};
    gw_err err;
    assert_true(buf_reserve(&value, bytes));
    memset(value.data, 7, bytes);
    value.len = bytes;
    store_batch_point(batch, POINT_MESSAGE);
    store_batch_put_take(batch, TABLE_META, (struct span){(const uint8_t *)key, strlen(key)},
                         &value);
    store_apply(store, &batch, 1, &err);
    store_batch_free(batch);
    return err;
}

static bool has(struct store *store, const char *key)
{
    struct buf value = {0};
    gw_err err =
        store_get(store, TABLE_META, (struct span){(const uint8_t *)key, strlen(key)}, &value);
    buf_free(&value);
    return err == GW_OK;
}

static void make_dir(char dir[64])
{
    snprintf(dir, 64, "%s/gw-fail-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(dir));
}

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"store.db", "store.db-wal", "store.db-shm", "store.db-mark",
                                        "store.lock"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    snprintf(path, sizeof path, "%s/blobs", dir);
    assert_int_equal(rmdir(path), 0); /* nothing is left of a value that was not stored */
    assert_int_equal(rmdir(dir), 0);
}

static void test_full_disk_is_rolled_back(void **state)
{
    (void)state;
    static const char *const items[] = {"message.before:enospc", "blob.make:enospc",
                                        "blob.flush:enospc", "blob.name:enospc",
                                        "blob.folder:enospc"};
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        char dir[64];
        make_dir(dir);
        set(items[i]);
        struct store *store = open_store(dir);
        size_t bytes = i == 0 ? 100 : LIMIT_STORE_INLINE_BYTES + 1;
        assert_int_equal(put(store, "first", bytes), GW_EDISK_FULL);
        assert_false(has(store, "first"));
        assert_int_equal(put(store, "second", 100), GW_OK);
        assert_false(has(store, "first"));
        assert_true(has(store, "second"));
        store_close(store);
        remove_dir(dir);
    }
}

/* Whether the process that stores it ends, as log_die ends it. */
static bool dies(const char *dir, const char *items, size_t bytes)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        set(items);
        struct store *store = open_store(dir);
        _exit(put(store, "first", bytes) == GW_OK ? 0 : 2);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

static void test_io_error_ends_the_process(void **state)
{
    (void)state;
    static const char *const items[] = {"message.before:eio", "store.flush:eio", "blob.make:eio",
                                        "blob.flush:eio",     "blob.name:eio",   "blob.folder:eio"};
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        char dir[64];
        bool large = strncmp(items[i], "blob", 4) == 0;
        make_dir(dir);
        set("");
        store_close(open_store(dir));
        if (!dies(dir, items[i], large ? LIMIT_STORE_INLINE_BYTES + 1 : 100)) {
            fail_msg("%s: the process goes on", items[i]);
        }
        struct store *store = open_store(dir);
        assert_true(!has(store, "first") ||
                    i == 1); /* what was written before the flush may stay */
        assert_int_equal(put(store, "second", 100), GW_OK);
        store_close(store);
        remove_dir(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nothing_is_set, reset),
        cmocka_unit_test_teardown(test_refused, reset),
        cmocka_unit_test_teardown(test_fires_at_its_pass, reset),
        cmocka_unit_test_teardown(test_names_are_one_each, reset),
        cmocka_unit_test_teardown(test_full_disk_is_rolled_back, reset),
        cmocka_unit_test_teardown(test_io_error_ends_the_process, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
