/* Artifacts on a disk that is full, or says so at each write in turn, and without memory. */
#include <errno.h>
#include <sys/mount.h>

#include <sqlite3.h>

#include "persistence/failpoint.h"
#include "tests/unit/persistence/chunks.h"

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

static int make(void **state)
{
    struct scratch *d = calloc(1, sizeof *d);
    assert_non_null(d);
    scratch_make(d);
    *state = d;
    return 0;
}

static int drop(void **state)
{
    failpoint_reset();
    scratch_remove(*state);
    free(*state);
    return 0;
}

static void full_disk_leaves_nothing_half_and_is_gone_on_with(void **state)
{
    struct scratch *d = *state;
    if (!scratch_mount(d, "24m")) {
        skip();
    }
    struct chunk_store *s = open_chunks(d);
    size_t n = 30 * MIB;
    uint8_t *p = new_content(n, 1);
    struct artifact_info old = put_artifact(s, "old", p, 2 * MIB), info;
    struct artifact_meta once = {.name = "once"}, again = {.name = "again", .resumable = true};
    assert_int_equal(put_meta(s, &once, p, n, &info), GW_EDISK_FULL);
    collect_all(s);
    assert_int_equal(stats_of(s).artifacts, 1);
    assert_int_equal(stats_of(s).uploads, 0);
    assert_int_equal(stats_of(s).used_bytes, 2 * MIB);
    struct artifact_writer *w;
    struct gw_error said = {0};
    OK(artifact_writer_new(s, &again, &w, &why));
    gw_id id = artifact_writer_id(w);
    assert_int_equal(artifact_writer_add(w, p, n, &said), GW_EDISK_FULL);
    assert_true(said.hint[0] != '\0');
    artifact_writer_free(w);
    assert_content(s, &old.id, p, 2 * MIB);
    assert_int_equal(mount(NULL, d->path, NULL, MS_REMOUNT, "size=80m"), 0); /* room again */
    OK(artifact_writer_resume(s, &id, &w, &why));
    size_t at = (size_t)artifact_writer_size(w);
    assert_in_range(at, 1, n - 1);
    OK(artifact_writer_add(w, p + at, n - at, &why));
    OK(artifact_writer_finish(w, NULL, &info, &why));
    artifact_writer_free(w);
    assert_content(s, &id, p, n);
    chunk_store_close(s);
    s = open_chunks(d);
    assert_content(s, &id, p, n);
    OK(artifact_remove(s, &old.id, &why)); /* whose last chunk is no other's */
    collect_all(s);
    assert_int_equal(stats_of(s).used_bytes, n);
    chunk_store_close(s);
    free(p);
}

/* What was removed makes room for what comes, without waiting for a collection. */
static void full_disk_collects_what_was_removed(void **state)
{
    struct scratch *d = *state;
    if (!scratch_mount(d, "24m")) {
        skip();
    }
    struct chunk_store *s = open_chunks(d);
    uint8_t *p = new_content(16 * MIB, 2);
    for (uint64_t i = 0; i < 4; i++) {
        fill_content(p, 16 * MIB, i + 30);
        struct artifact_info info = put_artifact(s, "x", p, 16 * MIB);
        assert_content(s, &info.id, p, 16 * MIB);
        OK(artifact_remove(s, &info.id, &why));
    }
    chunk_store_close(s);
    free(p);
}

/* Small ones until the database itself has no room. */
static void full_disk_for_rows(void **state)
{
    struct scratch *d = *state;
    if (!scratch_mount(d, "6m")) {
        skip();
    }
    struct chunk_store *s = open_chunks(d);
    size_t n = 0;
    gw_err err;
    struct artifact_meta meta = {.name = "small"};
    struct artifact_info info, *all = calloc(20000, sizeof *all);
    assert_non_null(all);
    do {
        uint32_t bytes[2] = {(uint32_t)n, 7};
        err = put_meta(s, &meta, (const uint8_t *)bytes, sizeof bytes, &info);
        if (!err) {
            all[n++] = info;
        }
    } while (!err && n < 20000);
    assert_int_equal(err, GW_EDISK_FULL);
    assert_int_equal(stats_of(s).artifacts, n);
    for (size_t i = 0; i < 100; i++) { /* removing works on a full disk */
        OK(artifact_remove(s, &all[--n].id, &why));
    }
    collect_all(s);
    chunk_store_close(s);
    s = open_chunks(d);
    assert_int_equal(stats_of(s).artifacts, n);
    for (size_t i = 0; i < n; i += 37) {
        uint32_t bytes[2] = {(uint32_t)i, 7};
        assert_content(s, &all[i].id, (const uint8_t *)bytes, sizeof bytes);
    }
    chunk_store_close(s);
    free(all);
}

/* Each place that can say that there is no room says so once. */
static void no_room_at_each_place(void **state)
{
    static const char *const places[] = {"pack.make", "pack.write", "pack.flush", "pack.folder"};
    struct scratch *d = *state;
    uint8_t *p = new_content(20 * MIB, 3);
    struct artifact_meta meta = {.resumable = true};
    for (size_t i = 0; i < 4; i++) {
        for (unsigned pass = 1; pass <= 3; pass++) {
            struct chunk_store *s = open_chunks(d);
            char fail[64];
            snprintf(fail, sizeof fail, "%s:%u:enospc", places[i], pass);
            assert_int_equal(failpoint_open(fail, NULL), GW_OK);
            struct artifact_writer *w;
            struct artifact_info info;
            struct seen_damage seen;
            fill_content(p, 20 * MIB, i * 10 + pass);
            OK(artifact_writer_new(s, &meta, &w, &why));
            gw_id id = artifact_writer_id(w);
            gw_err err = artifact_writer_add(w, p, 20 * MIB, NULL);
            err = err ? err : artifact_writer_finish(w, NULL, &info, NULL);
            artifact_writer_free(w);
            failpoint_reset();
            assert_true(err == GW_OK || err == GW_EDISK_FULL); /* a collection may have helped */
            if (err) {
                OK(artifact_writer_resume(s, &id, &w, &why));
                size_t at = (size_t)artifact_writer_size(w);
                OK(artifact_writer_add(w, p + at, 20 * MIB - at, &why));
                OK(artifact_writer_finish(w, NULL, &info, &why));
                artifact_writer_free(w);
            }
            assert_content(s, &id, p, 20 * MIB);
            verify_all(s, &seen);
            assert_int_equal(seen.count, 0);
            OK(artifact_remove(s, &id, &why));
            collect_all(s);
            assert_int_equal(stats_of(s).used_bytes, 0);
            assert_int_equal(scratch_count(d, "artifacts/packs"), 0);
            chunk_store_close(s);
        }
    }
    free(p);
}

/* Each allocation of SQLite fails once: the artifact is there whole or not at all. */
static void no_memory_is_a_result(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    uint8_t *p = new_content(3 * MIB, 4);
    struct artifact_meta meta = {.name = "x"};
    bool hit = true;
    for (int n = 1; hit && n < 3000; n++) {
        struct artifact_info info;
        size_t count;
        fill_content(p, 64, (uint64_t)n);
        fail_after = n;
        gw_err err = put_meta(s, &meta, p, 3 * MIB, &info);
        hit = fail_after == 0;
        fail_after = 0;
        assert_true(err == GW_OK || err == GW_ENOMEM);
        assert_int_equal(stats_of(s).artifacts, err == GW_OK);
        if (!err) {
            assert_content(s, &info.id, p, 3 * MIB);
            OK(artifact_remove(s, &info.id, &why));
        }
        OK(artifact_list(s, NULL, NULL, &info, 1, &count, &why));
        assert_int_equal(count, 0);
        collect_all(s);
        assert_int_equal(stats_of(s).used_bytes, 0);
        assert_int_equal(stats_of(s).uploads, 0);
    }
    assert_false(hit);
    chunk_store_close(s);
    free(p);
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, make, drop)

int main(void)
{
    use_failing_memory();
    const struct CMUnitTest tests[] = {
        ON_DISK(no_room_at_each_place),
        ON_DISK(no_memory_is_a_result),
        ON_DISK(full_disk_leaves_nothing_half_and_is_gone_on_with),
        ON_DISK(full_disk_collects_what_was_removed),
        ON_DISK(full_disk_for_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
