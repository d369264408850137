/* Chunks: damage, repair, collecting, what is refused at opening, many threads. */
#include "persistence/chunk_store.h"

#include <fcntl.h>
#include <pthread.h>

#include <sqlite3.h>

#include "persistence/seal.h"
#include "tests/unit/persistence/chunks.h"

static struct span span_of(const void *p, size_t n)
{
    return (struct span){p, n};
}

static void chunks_come_and_go(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    uint8_t *p = new_content(CHUNK_MAX + 1, 1);
    struct chunk_hash hash = chunk_hash_of(p, CHUNK_MAX), none = chunk_hash_of("none", 4);
    struct buf got = {0};
    assert_int_equal(chunk_store_put(s, span_of(p, 0), NULL, NULL), GW_EARG);
    assert_int_equal(chunk_store_put(s, span_of(p, CHUNK_MAX + 1), NULL, NULL), GW_EARG);
    assert_int_equal(chunk_store_put(s, span_of(p, 10), &hash, NULL), GW_ECORRUPT);
    OK(chunk_store_put(s, span_of(p, CHUNK_MAX), &hash, &why));
    OK(chunk_store_put(s, span_of(p, CHUNK_MAX), &hash, &why));
    assert_int_equal(stats_of(s).pack_bytes, CHUNK_MAX);
    OK(chunk_store_get(s, &hash, &got, &why));
    assert_int_equal(got.len, CHUNK_MAX);
    assert_memory_equal(got.data, p, CHUNK_MAX);
    assert_int_equal(chunk_store_get(s, &none, &got, NULL), GW_ENOT_FOUND);
    struct chunk_ref asked[2] = {{hash, CHUNK_MAX}, {none, 4}};
    bool missing[2];
    OK(chunk_store_missing(s, asked, 2, missing, &why));
    assert_false(missing[0]);
    assert_true(missing[1]);
    chunk_store_close(s);
    s = open_chunks(d);
    pass_ms(LIMIT_CHUNK_LOOSE_MS);
    collect_all(s);
    assert_int_equal(stats_of(s).chunks, 0);
    assert_int_equal(scratch_count(d, "artifacts/packs"), 0);
    chunk_store_close(s);
    buf_free(&got);
    free(p);
}

static void batches_are_durable_together(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct chunk_batch *b;
    uint8_t bytes[64] = {0};
    assert_int_equal(chunk_batch_new(s, &b), GW_OK);
    gw_err err = GW_OK;
    for (int i = 0; i < 1000 && !err; i++) {
        memcpy(bytes, &i, sizeof i);
        err = chunk_batch_put(b, span_of(bytes, sizeof bytes), NULL, NULL);
        if (err == GW_EBUSY) {
            OK(chunk_batch_commit(b, &why));
            err = chunk_batch_put(b, span_of(bytes, sizeof bytes), NULL, NULL);
        }
    }
    assert_int_equal(err, GW_OK);
    assert_in_range(stats_of(s).chunks, 700, 999); /* the last ones are not named yet */
    assert_int_equal(stats_of(s).used_bytes, 1000 * LIMIT_CHUNK_COUNTED_BYTES);
    collect_all(s);
    chunk_batch_free(b); /* and now never will be */
    assert_int_equal(stats_of(s).used_bytes, stats_of(s).chunks * LIMIT_CHUNK_COUNTED_BYTES);
    uint64_t bytes_then = stats_of(s).pack_bytes, chunks = stats_of(s).chunks;
    chunk_store_close(s);
    s = open_chunks(d);
    assert_int_equal(stats_of(s).chunks, chunks);
    assert_true(stats_of(s).pack_bytes < bytes_then); /* the open cuts what nobody names */
    chunk_store_close(s);
}

/* --- damage --- */
static void flip(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void damage_is_named_and_never_served(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 10 * MIB, count;
    uint8_t *p = new_content(n, 2);
    char path[256];
    struct seen_damage seen;
    struct chunk_ref refs[32];
    struct artifact_info a = put_artifact(s, "a", p, n), b = put_artifact(s, "b", p, n);
    struct artifact_info other = put_artifact(s, "other", p + 5, 1000);
    OK(artifact_recipe(s, &a.id, 0, refs, 32, &count, &why));
    flip(pack_path(d, 1, path), (off_t)refs[0].len + 1000); /* in the second chunk */
    struct artifact_reader *r;
    struct span got;
    struct gw_error said = {0};
    OK(artifact_reader_open(s, &a.id, &r, &why));
    OK(artifact_reader_at(r, 0, &got, &why));
    assert_int_equal(artifact_reader_at(r, refs[0].len, &got, &said), GW_ECORRUPT);
    char text[CHUNK_HASH_TEXT];
    assert_non_null(strstr(said.text, chunk_hash_text(&refs[1].hash, text)));
    assert_int_equal(artifact_reader_at(r, refs[0].len, &got, NULL), GW_ECORRUPT);
    OK(artifact_reader_at(r, refs[0].len + refs[1].len, &got, &why));
    artifact_reader_free(r);
    assert_content(s, &other.id, p + 5, 1000);
    struct chunk_verified sums = verify_all(s, &seen);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.artifacts, 2);
    assert_memory_equal(seen.chunk.hash.b, refs[1].hash.b, CHUNK_HASH_BYTES);
    assert_int_equal(sums.chunks, stats_of(s).chunks);
    bool missing[32];
    OK(chunk_store_missing(s, refs, count, missing, &why));
    assert_true(missing[1]);
    assert_false(missing[0]);
    chunk_store_close(s);
    s = open_chunks(d); /* remembered */
    OK(chunk_store_missing(s, refs, count, missing, &why));
    assert_true(missing[1]);
    OK(chunk_store_put(s, span_of(p + refs[0].len, refs[1].len), &refs[1].hash, &why));
    assert_content(s, &a.id, p, n);
    assert_content(s, &b.id, p, n);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 0);
    assert_int_equal(stats_of(s).used_bytes, n + LIMIT_CHUNK_COUNTED_BYTES);
    chunk_store_close(s);
    free(p);
}

static void an_upload_of_the_same_repairs(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 6 * MIB;
    uint8_t *p = new_content(n, 3);
    char path[256];
    struct seen_damage seen;
    struct artifact_info a = put_artifact(s, "a", p, n);
    flip(pack_path(d, 1, path), 100);
    flip(path, 4 * MIB);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 2);
    put_artifact(s, "again", p, n);
    assert_content(s, &a.id, p, n);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 0);
    flip(path, 100); /* where the damaged ones were */
    verify_all(s, &seen);
    assert_int_equal(seen.count, 0);
    chunk_store_close(s);
    free(p);
}

static void damage_that_heals_is_taken_back(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    uint8_t *p = new_content(MIB / 2, 4);
    char path[256];
    struct seen_damage seen;
    struct artifact_info a = put_artifact(s, "a", p, MIB / 2);
    flip(pack_path(d, 1, path), 7);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 1);
    flip(path, 7);
    struct artifact_reader *r;
    struct span got;
    OK(artifact_reader_open(s, &a.id, &r, &why));
    assert_int_equal(artifact_reader_at(r, 0, &got, NULL), GW_ECORRUPT); /* not looked at again */
    artifact_reader_free(r);
    struct chunk_verify one = {.artifact = a.id, .on_damage = see_damage, .arg = &seen};
    struct chunk_verified sums;
    OK(chunk_store_verify(s, &one, &sums, &why));
    assert_int_equal(sums.damaged, 0);
    assert_int_equal(sums.bytes, MIB / 2);
    assert_content(s, &a.id, p, MIB / 2);
    one.artifact.b[15] ^= 1;
    assert_int_equal(chunk_store_verify(s, &one, &sums, NULL), GW_ENOT_FOUND);
    chunk_store_close(s);
    free(p);
}

static void lost_and_cut_packs_are_damage_of_their_chunks(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 100 * MIB;
    uint8_t *p = new_content(n, 5);
    char path[256];
    struct seen_damage seen;
    struct artifact_info a = put_artifact(s, "a", p, n);
    assert_int_equal(stats_of(s).packs, 2);
    uint64_t chunks = stats_of(s).chunks;
    chunk_store_close(s);
    assert_int_equal(truncate(pack_path(d, 2, path), 10 * MIB), 0);
    assert_int_equal(unlink(pack_path(d, 1, path)), 0);
    s = open_chunks(d); /* lives */
    verify_all(s, &seen);
    assert_in_range(seen.count, chunks / 2, chunks - 1);
    put_artifact(s, "again", p, n);
    assert_content(s, &a.id, p, n);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 0);
    collect_all(s);
    assert_int_equal(stats_of(s).used_bytes, n);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 0);
    chunk_store_close(s);
    free(p);
}

static bool stop_soon(void *arg, uint64_t chunks, uint64_t bytes)
{
    (void)arg;
    (void)bytes;
    return chunks < 3;
}

static void verify_can_be_called_off(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    uint8_t *p = new_content(10 * MIB, 6);
    put_artifact(s, "a", p, 10 * MIB);
    struct seen_damage seen;
    struct chunk_verified sums;
    struct chunk_verify v = {.on_damage = see_damage, .on_progress = stop_soon, .arg = &seen};
    assert_int_equal(chunk_store_verify(s, &v, &sums, NULL), GW_ECANCELLED);
    chunk_store_close(s);
    free(p);
}

/* --- collecting --- */
static void half_empty_packs_are_written_anew(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct artifact_info infos[40];
    uint8_t *p = new_content(2 * MIB, 1);
    char path[256];
    struct seen_damage seen;
    for (size_t i = 0; i < 40; i++) {
        fill_content(p, 2 * MIB, i + 10);
        infos[i] = put_artifact(s, "x", p, 2 * MIB);
    }
    assert_int_equal(stats_of(s).packs, 2);
    for (size_t i = 0; i < 40; i++) {
        if (i % 4 != 0) {
            OK(artifact_remove(s, &infos[i].id, &why));
        }
    }
    flip(pack_path(d, 1, path), 5); /* the chunk of the first one is damaged meanwhile */
    collect_all(s);
    assert_in_range(stats_of(s).pack_bytes, 18 * MIB, 22 * MIB);
    assert_int_equal(stats_of(s).used_bytes, 20 * MIB);
    for (size_t i = 4; i < 40; i += 4) {
        fill_content(p, 2 * MIB, i + 10);
        assert_content(s, &infos[i].id, p, 2 * MIB);
    }
    verify_all(s, &seen);
    assert_int_equal(seen.count, 1);
    assert_memory_equal(seen.artifact.b, infos[0].id.b, GW_ID_BYTES);
    chunk_store_close(s);
    s = open_chunks(d);
    verify_all(s, &seen);
    assert_int_equal(seen.count, 1);
    fill_content(p, 2 * MIB, 10);
    put_artifact(s, "repairs", p, 2 * MIB);
    assert_content(s, &infos[0].id, p, 2 * MIB);
    assert_int_equal(stats_of(s).used_bytes, 20 * MIB);
    chunk_store_close(s);
    free(p);
}

/* --- opening --- */
static void assert_refused(const struct scratch *d, gw_err want, const char *part)
{
    struct chunk_options o = {0};
    struct chunk_store *s = NULL;
    struct gw_error why = {0};
    char path[256];
    gw_err err = chunk_store_open(scratch_path(d, "artifacts", path), &o, &s, &why);
    if (err != want || !strstr(why.text, part) || why.hint[0] == '\0' || s) {
        fail_msg("%s: \"%s\" hint \"%s\"", gw_err_name(err), why.text, why.hint);
    }
}

static void with_sqlite(const struct scratch *d, const char *sql)
{
    sqlite3 *handle;
    char path[256];
    scratch_path(d, "artifacts/artifacts.db", path);
    assert_int_equal(sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE, SEAL_VFS), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL), 0);
    assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(handle);
}

static void opening_is_refused_with_a_reason(void **state)
{
    struct scratch *d = *state;
    char path[256];
    struct chunk_store *s = open_chunks(d);
    assert_refused(d, GW_ELOCKED, "in use");
    OK(chunk_store_put(s, span_of("x", 1), NULL, &why));
    chunk_store_close(s);
    with_sqlite(d, "PRAGMA user_version=4711;");
    assert_refused(d, GW_ENEWER, "4711");
    with_sqlite(d, "PRAGMA user_version=1; PRAGMA application_id=77;");
    assert_refused(d, GW_ECORRUPT, "not a Godwit chunk store");
    assert_int_equal(truncate(scratch_path(d, "artifacts/artifacts.db", path), 0), 0);
    assert_refused(d, GW_ECORRUPT, "artifacts.db");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(scratch_path(d, "artifacts/artifacts.db-mark", path)), 0);
    assert_refused(d, GW_ECORRUPT, "holds chunks");
    assert_int_equal(scratch_count(d, "artifacts/packs"), 1); /* left as it was */
    scratch_write(d, "file", "x", 1);
    struct chunk_options o = {0};
    assert_int_equal(chunk_store_open(scratch_path(d, "file", path), &o, &s, NULL), GW_EIO);
    assert_int_equal(chunk_store_open(scratch_path(d, "no/such", path), &o, &s, NULL), GW_EIO);
}

/* --- threads --- */
#define THREADS 6
#define EACH    12

struct worker {
    pthread_t thread;
    struct chunk_store *s;
    unsigned number;
    const uint8_t *content; /* 8 MiB that all of them share */
    size_t failed;          /* by the quota */
};

/* Cmocka's assertions do not work off the main thread. */
static void want(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void read_back(struct chunk_store *s, const gw_id *id, const uint8_t *p, size_t n)
{
    struct artifact_reader *r;
    struct span got;
    want(artifact_reader_open(s, id, &r, NULL) == GW_OK, "open");
    for (size_t at = 0; at < n; at += got.n) {
        want(artifact_reader_at(r, at, &got, NULL) == GW_OK && got.n > 0, "read");
        want(memcmp(got.p, p + at, got.n) == 0, "content");
    }
    artifact_reader_free(r);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < EACH; i++) {
        size_t n = 1000 + (w->number * 7 + i * 13) % 24 * (MIB / 4);
        const uint8_t *p = w->content + (i + w->number) % 8 * 4096;
        struct artifact_meta meta = {.name = "thread"};
        struct artifact_info info;
        gw_err err = put_meta(w->s, &meta, p, n, &info);
        if (err == GW_EQUOTA) {
            w->failed++;
            continue;
        }
        want(err == GW_OK, "put");
        read_back(w->s, &info.id, p, n);
        if (i % 3 != 0) {
            want(artifact_remove(w->s, &info.id, NULL) == GW_OK, "remove");
        }
    }
    return NULL;
}

static void *collect(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 60; i++) {
        bool more;
        struct chunk_verified sums;
        struct seen_damage seen = {0};
        struct chunk_verify v = {.on_damage = see_damage, .arg = &seen};
        want(chunk_store_collect(w->s, &more, NULL) == GW_OK, "collect");
        if (i % 10 == 0) {
            want(chunk_store_verify(w->s, &v, &sums, NULL) == GW_OK && seen.count == 0, "verify");
        }
    }
    return NULL;
}

static void threads_at_once(void **state)
{
    struct scratch *d = *state;
    uint8_t *p = new_content(8 * MIB, 12);
    for (int round = 0; round < 2; round++) {
        struct chunk_store *s = open_chunks_with(d, 0, round == 0 ? 0 : 12 * MIB);
        struct worker workers[THREADS + 1] = {0};
        for (unsigned i = 0; i <= THREADS; i++) {
            workers[i] = (struct worker){.s = s, .number = i, .content = p};
            assert_int_equal(
                pthread_create(&workers[i].thread, NULL, i < THREADS ? work : collect, &workers[i]),
                0);
        }
        size_t failed = 0;
        for (unsigned i = 0; i <= THREADS; i++) {
            pthread_join(workers[i].thread, NULL);
            failed += workers[i].failed;
        }
        struct artifact_info list[THREADS * EACH];
        size_t n, left;
        struct seen_damage seen;
        OK(artifact_list(s, NULL, NULL, list, THREADS * EACH, &n, &why));
        assert_int_equal(stats_of(s).artifacts, n);
        assert_int_equal(stats_of(s).uploads, 0);
        if (round == 0) {
            assert_int_equal(failed, 0);
            assert_int_equal(n, THREADS * EACH / 3);
        } else {
            assert_in_range(stats_of(s).used_bytes, 0, 12 * MIB);
        }
        verify_all(s, &seen);
        assert_int_equal(seen.count, 0);
        for (left = 0; left < n; left++) {
            OK(artifact_remove(s, &list[left].id, &why));
        }
        collect_all(s);
        assert_int_equal(stats_of(s).used_bytes, 0);
        assert_int_equal(scratch_count(d, "artifacts/packs"), 0);
        chunk_store_close(s);
    }
    free(p);
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(chunks_come_and_go),
        ON_DISK(batches_are_durable_together),
        ON_DISK(damage_is_named_and_never_served),
        ON_DISK(an_upload_of_the_same_repairs),
        ON_DISK(damage_that_heals_is_taken_back),
        ON_DISK(lost_and_cut_packs_are_damage_of_their_chunks),
        ON_DISK(verify_can_be_called_off),
        ON_DISK(half_empty_packs_are_written_anew),
        ON_DISK(opening_is_refused_with_a_reason),
        ON_DISK(threads_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
