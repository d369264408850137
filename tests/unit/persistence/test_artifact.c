/* Artifacts: writing, going on, reading, rows. */
#include "persistence/artifact.h"

#include <fcntl.h>

#include "tests/unit/persistence/chunks.h"

static void contents_come_back(void **state)
{
    struct scratch *d = *state;
    static const size_t sizes[] = {0, 1, 4096, CHUNK_MIN, CHUNK_MIN + 1, 3 * MIB + 17, 70 * MIB};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    struct artifact_info infos[COUNT];
    struct chunk_store *s = open_chunks(d);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            uint8_t *p = new_content(sizes[i], i + 1);
            if (round == 0) {
                infos[i] = put_artifact(s, "content", p, sizes[i]);
            }
            assert_content(s, &infos[i].id, p, sizes[i]);
            free(p);
        }
        chunk_store_close(s);
        s = open_chunks(d);
    }
    assert_int_equal(stats_of(s).artifacts, COUNT);
    assert_int_equal(stats_of(s).packs, 2);
    struct seen_damage seen;
    assert_int_equal(verify_all(s, &seen).chunks, stats_of(s).chunks);
    assert_int_equal(seen.count, 0);
    chunk_store_close(s);
}

static void ranges_are_read(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 9 * MIB;
    uint8_t *p = new_content(n, 3);
    struct artifact_info info = put_artifact(s, "x", p, n);
    struct artifact_reader *r;
    OK(artifact_reader_open(s, &info.id, &r, &why));
    for (size_t at = n; at > 700000; at -= 654321) { /* backwards */
        struct span got;
        OK(artifact_reader_at(r, at - 1, &got, &why));
        assert_in_range(got.n, 1, n - at + 1);
        assert_memory_equal(got.p, p + at - 1, got.n);
    }
    struct span none;
    OK(artifact_reader_at(r, n, &none, &why));
    assert_int_equal(none.n, 0);
    assert_int_equal(artifact_reader_at(r, n + 1, &none, NULL), GW_EARG);
    artifact_reader_free(r);
    chunk_store_close(s);
    free(p);
}

static void same_content_is_stored_once(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 8 * MIB;
    uint8_t *p = new_content(n + 1, 4);
    struct artifact_info a = put_artifact(s, "a", p, n);
    uint64_t used = stats_of(s).used_bytes;
    assert_int_equal(used, n);
    struct artifact_info b = put_artifact(s, "b", p, n);
    assert_int_equal(stats_of(s).used_bytes, used);
    memmove(p + n / 2 + 1, p + n / 2, n / 2);
    p[n / 2] = '!'; /* one byte in the middle: the chunks around it */
    struct artifact_info c = put_artifact(s, "c", p, n + 1);
    assert_in_range(stats_of(s).used_bytes, used + 1, used + 3 * CHUNK_MAX / 2);
    memset(p, 0, n); /* and one that repeats itself */
    used = stats_of(s).used_bytes;
    struct artifact_info z = put_artifact(s, "zeros", p, n);
    assert_int_equal(stats_of(s).used_bytes, used + CHUNK_MAX);
    assert_content(s, &z.id, p, n);
    OK(artifact_remove(s, &a.id, &why));
    OK(artifact_remove(s, &z.id, &why));
    collect_all(s);
    assert_int_equal(stats_of(s).used_bytes, used);
    fill_content(p, n, 4);
    assert_content(s, &b.id, p, n);
    OK(artifact_remove(s, &b.id, &why));
    OK(artifact_remove(s, &c.id, &why));
    collect_all(s);
    assert_int_equal(stats_of(s).used_bytes, 0);
    assert_int_equal(stats_of(s).chunks, 0);
    assert_int_equal(scratch_count(d, "artifacts/packs"), 0);
    chunk_store_close(s);
    free(p);
}

static void many_small_ones_share_packs(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct artifact_info infos[300];
    uint8_t small[3000];
    for (size_t i = 0; i < 300; i++) {
        fill_content(small, sizeof small, i + 1);
        infos[i] = put_artifact(s, "small", small, sizeof small);
    }
    assert_int_equal(scratch_count(d, "artifacts/packs"), 1);
    assert_int_equal(stats_of(s).pack_bytes, 300 * sizeof small);
    assert_int_equal(stats_of(s).used_bytes, 300 * LIMIT_CHUNK_COUNTED_BYTES);
    fill_content(small, sizeof small, 200);
    assert_content(s, &infos[199].id, small, sizeof small);
    chunk_store_close(s);
}

/* --- meta data and rows --- */
static void meta_data_are_kept_and_checked(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct artifact_info info, got;
    struct artifact_meta meta = {.owner = {{1, 2, 3}},
                                 .name = "a name with \xc3\xa4.txt",
                                 .type = "text/plain; charset=utf-8",
                                 .ttl_ms = 60000};
    assert_int_equal(put_meta(s, &meta, (const uint8_t *)"x", 1, &info), GW_OK);
    chunk_store_close(s);
    s = open_chunks(d);
    OK(artifact_info(s, &info.id, &got, &why));
    assert_string_equal(got.name, meta.name);
    assert_string_equal(got.type, meta.type);
    assert_memory_equal(got.owner.b, meta.owner.b, GW_ID_BYTES);
    assert_int_equal(got.expires_ms, now_wall_ms + 60000);
    assert_int_equal(got.created_ms, now_wall_ms);
    assert_false(got.upload);
    char longest[LIMIT_ARTIFACT_NAME_BYTES + 2];
    memset(longest, 'n', sizeof longest);
    longest[LIMIT_ARTIFACT_NAME_BYTES + 1] = '\0';
    const char *bad[] = {"tab\there", "\xff", "new\nline", "del\x7f", longest};
    for (size_t i = 0; i < 5; i++) {
        struct artifact_meta m = {.name = bad[i]};
        struct artifact_writer *w;
        assert_int_equal(artifact_writer_new(s, &m, &w, NULL), GW_EARG);
        m = (struct artifact_meta){.type = bad[i]};
        assert_int_equal(artifact_writer_new(s, &m, &w, NULL), GW_EARG);
    }
    longest[LIMIT_ARTIFACT_NAME_BYTES] = '\0';
    put_artifact(s, longest, (const uint8_t *)"y", 1);
    struct artifact_meta never = {.ttl_ms = -1};
    struct artifact_writer *w;
    assert_int_equal(artifact_writer_new(s, &never, &w, NULL), GW_EARG);
    never.ttl_ms = LIMIT_ARTIFACT_TTL_MS + 1;
    assert_int_equal(artifact_writer_new(s, &never, &w, NULL), GW_EARG);
    chunk_store_close(s);
}

static void lists_go_on_at_a_cursor(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    for (int i = 0; i < 25; i++) {
        uint8_t byte = (uint8_t)i;
        struct artifact_meta meta = {.name = "n", .owner = {{(uint8_t)(i % 2)}}};
        struct artifact_info info;
        assert_int_equal(put_meta(s, &meta, &byte, 1, &info), GW_OK);
        pass_ms(1);
    }
    struct artifact_info page[10];
    gw_id after = {{0}}, one = {{1}};
    size_t seen = 0, n;
    do {
        OK(artifact_list(s, &after, NULL, page, 10, &n, &why));
        for (size_t i = 0; i < n; i++) {
            assert_true(memcmp(page[i].id.b, after.b, GW_ID_BYTES) > 0);
            after = page[i].id;
        }
        seen += n;
    } while (n == 10);
    assert_int_equal(seen, 25);
    OK(artifact_list(s, NULL, &one, page, 10, &n, &why));
    assert_int_equal(n, 10);
    OK(artifact_list(s, &page[9].id, &one, page, 10, &n, &why));
    assert_int_equal(n, 2);
    chunk_store_close(s);
}

static void content_is_found_by_its_hash(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct artifact_info a = put_artifact(s, "older", (const uint8_t *)"same", 4), got;
    pass_ms(1);
    struct artifact_info b = put_artifact(s, "newer", (const uint8_t *)"same", 4);
    OK(artifact_find(s, &a.hash, &got, &why));
    assert_memory_equal(got.id.b, b.id.b, GW_ID_BYTES);
    OK(artifact_remove(s, &b.id, &why));
    OK(artifact_find(s, &a.hash, &got, &why));
    assert_memory_equal(got.id.b, a.id.b, GW_ID_BYTES);
    struct chunk_hash other = chunk_hash_of("other", 5), parsed;
    assert_int_equal(artifact_find(s, &other, &got, NULL), GW_ENOT_FOUND);
    char text[CHUNK_HASH_TEXT + 1];
    chunk_hash_text(&other, text);
    assert_int_equal(chunk_hash_parse(text, &parsed), GW_OK);
    assert_memory_equal(parsed.b, other.b, CHUNK_HASH_BYTES);
    text[64] = 'a';
    text[65] = '\0';
    assert_int_equal(chunk_hash_parse(text, &parsed), GW_EARG);
    text[63] = '\0';
    assert_int_equal(chunk_hash_parse(text, &parsed), GW_EARG);
    text[10] = 'g';
    assert_int_equal(chunk_hash_parse(text, &parsed), GW_EARG);
    chunk_store_close(s);
}

static void removed_ones_are_gone_but_for_open_readers(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 6 * MIB;
    uint8_t *p = new_content(n, 5);
    struct artifact_info info = put_artifact(s, "x", p, n);
    struct artifact_reader *r;
    OK(artifact_reader_open(s, &info.id, &r, &why));
    OK(artifact_remove(s, &info.id, &why));
    assert_int_equal(artifact_remove(s, &info.id, NULL), GW_ENOT_FOUND);
    collect_all(s);
    struct artifact_reader *other;
    assert_int_equal(artifact_reader_open(s, &info.id, &other, NULL), GW_ENOT_FOUND);
    for (size_t at = 0; at < n;) {
        struct span got;
        OK(artifact_reader_at(r, at, &got, &why));
        assert_memory_equal(got.p, p + at, got.n);
        at += got.n;
    }
    artifact_reader_free(r);
    collect_all(s);
    assert_int_equal(stats_of(s).chunks, 0);
    chunk_store_close(s);
    free(p);
}

static void expiry_waits_for_a_calm_clock(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct artifact_meta meta = {.ttl_ms = 10 * 60000};
    struct artifact_info info, got;
    assert_int_equal(put_meta(s, &meta, (const uint8_t *)"x", 1, &info), GW_OK);
    pass_ms(1000);
    collect_all(s);
    now_wall_ms += 3600000; /* the clock is set: served no more, but nothing is lost */
    struct gw_error said = {0};
    assert_int_equal(artifact_info(s, &info.id, &got, &said), GW_ENOT_FOUND);
    assert_non_null(strstr(said.text, "expired"));
    collect_all(s);
    assert_int_equal(stats_of(s).artifacts, 1);
    now_wall_ms -= 3600000; /* and back */
    OK(artifact_info(s, &info.id, &got, &why));
    collect_all(s);
    pass_ms(LIMIT_ENDED_CALM_MS - 1000);
    collect_all(s);
    assert_int_equal(stats_of(s).artifacts, 1);
    size_t n;
    OK(artifact_list(s, NULL, NULL, &got, 1, &n, &why));
    assert_int_equal(n, 0);
    pass_ms(1000);
    collect_all(s);
    assert_int_equal(stats_of(s).artifacts, 0);
    assert_int_equal(stats_of(s).chunks, 0);
    chunk_store_close(s);
}

/* --- uploads --- */
static void uploads_go_on_where_they_were(void **state)
{
    struct scratch *d = *state;
    size_t n = 40 * MIB + 12345;
    uint8_t *p = new_content(n, 6);
    struct artifact_meta meta = {.name = "resumed", .resumable = true};
    struct chunk_store *s = open_chunks(d);
    struct artifact_writer *w;
    OK(artifact_writer_new(s, &meta, &w, &why));
    gw_id id = artifact_writer_id(w);
    artifact_writer_free(w);
    /* Pieces of odd sizes, each by a writer of its own, each third in a store of its own. */
    size_t at = 0;
    for (size_t i = 0; at < n; i++) {
        size_t piece = i % 2 ? 3 * MIB + 7 : 100001;
        piece = piece < n - at ? piece : n - at;
        OK(artifact_writer_resume(s, &id, &w, &why));
        assert_int_equal(artifact_writer_size(w), at);
        struct artifact_writer *second;
        assert_int_equal(artifact_writer_resume(s, &id, &second, NULL), GW_ECONFLICT);
        assert_int_equal(artifact_remove(s, &id, NULL), GW_ECONFLICT);
        OK(artifact_writer_add(w, p + at, piece, &why));
        OK(artifact_writer_pause(w, &why));
        assert_int_equal(artifact_writer_durable(w), at + piece);
        artifact_writer_free(w);
        at += piece;
        if (i % 3 == 0) {
            chunk_store_close(s);
            s = open_chunks(d);
        }
        collect_all(s);
    }
    struct artifact_info info;
    struct artifact_reader *r;
    assert_int_equal(artifact_reader_open(s, &id, &r, NULL), GW_ENOT_FOUND);
    OK(artifact_writer_resume(s, &id, &w, &why));
    OK(artifact_writer_finish(w, NULL, &info, &why));
    artifact_writer_free(w);
    struct chunk_hash want = chunk_hash_of(p, n);
    assert_memory_equal(info.hash.b, want.b, CHUNK_HASH_BYTES);
    assert_content(s, &id, p, n);
    /* Cut as if it had come at once: only tails were stored besides, and they go. */
    collect_all(s);
    uint64_t used = stats_of(s).used_bytes;
    put_artifact(s, "at once", p, n);
    assert_int_equal(stats_of(s).used_bytes, used);
    assert_int_equal(used, n);
    assert_int_equal(artifact_writer_resume(s, &id, &w, NULL), GW_ENOT_FOUND);
    chunk_store_close(s);
    free(p);
}

static void one_writer_may_pause_and_go_on(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 5 * MIB;
    uint8_t *p = new_content(n, 7);
    struct artifact_meta meta = {.resumable = true};
    struct artifact_writer *w;
    struct artifact_info info;
    OK(artifact_writer_new(s, &meta, &w, &why));
    for (size_t at = 0; at < n; at += MIB / 2) {
        OK(artifact_writer_add(w, p + at, MIB / 2, &why));
        OK(artifact_writer_pause(w, &why));
    }
    OK(artifact_writer_finish(w, NULL, &info, &why));
    assert_int_equal(artifact_writer_add(w, p, 1, NULL), GW_EARG);
    artifact_writer_free(w);
    assert_content(s, &info.id, p, n);
    chunk_store_close(s);
    free(p);
}

static void uploads_end_by_themselves(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    size_t n = 20 * MIB;
    uint8_t *p = new_content(n, 8);
    struct artifact_meta once = {.ttl_ms = 0}, again = {.resumable = true};
    struct artifact_writer *w, *kept;
    OK(artifact_writer_new(s, &once, &w, &why));
    OK(artifact_writer_add(w, p, n, &why));
    assert_int_equal(stats_of(s).uploads, 1); /* it is longer than a checkpoint */
    OK(artifact_writer_new(s, &again, &kept, &why));
    OK(artifact_writer_add(kept, p, 1000, &why));
    OK(artifact_writer_pause(kept, &why));
    gw_id id = artifact_writer_id(kept);
    collect_all(s); /* takes nothing from those that write */
    OK(artifact_writer_add(w, p, n, &why));
    artifact_writer_free(w);
    artifact_writer_free(kept);
    collect_all(s);
    assert_int_equal(stats_of(s).uploads, 1);
    assert_int_equal(stats_of(s).chunks, 1);
    pass_ms(LIMIT_ARTIFACT_UPLOAD_MS - 1000);
    collect_all(s);
    assert_int_equal(artifact_writer_resume(s, &id, &w, NULL), GW_OK);
    pass_ms(2000);
    collect_all(s); /* somebody has it open */
    OK(artifact_writer_add(w, p, 10, &why));
    OK(artifact_writer_pause(w, &why)); /* and it was touched */
    artifact_writer_free(w);
    pass_ms(LIMIT_ARTIFACT_UPLOAD_MS - 1000);
    collect_all(s);
    assert_int_equal(stats_of(s).uploads, 1);
    pass_ms(2000);
    collect_all(s);
    assert_int_equal(stats_of(s).uploads, 0);
    assert_int_equal(stats_of(s).used_bytes, 0);
    chunk_store_close(s);
    free(p);
}

static void wrong_hash_is_never_visible(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks(d);
    struct chunk_hash want = chunk_hash_of("right", 5);
    struct artifact_meta metas[] = {{.resumable = false}, {.resumable = true}};
    for (int i = 0; i < 2; i++) {
        struct artifact_writer *w;
        struct artifact_info info;
        OK(artifact_writer_new(s, &metas[i], &w, &why));
        OK(artifact_writer_add(w, "wrong", 5, &why));
        assert_int_equal(artifact_writer_finish(w, &want, &info, NULL), GW_ECORRUPT);
        artifact_writer_free(w);
    }
    assert_int_equal(stats_of(s).artifacts, 0);
    assert_int_equal(stats_of(s).uploads, 0);
    chunk_store_close(s);
}

static void sizes_and_quota_are_limited(void **state)
{
    struct scratch *d = *state;
    struct chunk_store *s = open_chunks_with(d, 3 * MIB, 5 * MIB);
    uint8_t *p = new_content(4 * MIB, 9), *q = new_content(4 * MIB, 10);
    struct artifact_meta meta = {.ttl_ms = 0};
    struct artifact_info info, a = put_artifact(s, "a", p, 3 * MIB);
    assert_int_equal(put_meta(s, &meta, p, 3 * MIB + 1, &info), GW_ETOO_BIG);
    assert_int_equal(put_meta(s, &meta, q, 3 * MIB, &info), GW_EQUOTA);
    assert_int_equal(stats_of(s).artifacts, 1);
    assert_int_equal(put_meta(s, &meta, p, 3 * MIB, &info), GW_OK); /* takes no room */
    OK(artifact_remove(s, &info.id, &why));
    OK(artifact_remove(s, &a.id, &why));
    put_artifact(s, "q", q, 3 * MIB); /* what was removed makes room at once */
    assert_int_equal(put_meta(s, &meta, p, 3 * MIB, &info), GW_EQUOTA);
    chunk_store_close(s);
    s = open_chunks_with(d, 0, 5 * MIB); /* counted again after a start */
    assert_int_equal(stats_of(s).used_bytes, 3 * MIB);
    assert_int_equal(put_meta(s, &meta, p, 3 * MIB, &info), GW_EQUOTA);
    collect_all(s);
    assert_int_equal(stats_of(s).used_bytes, 3 * MIB);
    chunk_store_close(s);
    free(p);
    free(q);
}

/* --- from elsewhere --- */
static void adopted_from_chunks_of_another_store(void **state)
{
    struct scratch *d = *state, far_dir;
    scratch_make(&far_dir);
    struct chunk_store *s = open_chunks(d), *far = open_chunks(&far_dir);
    size_t n = 12 * MIB, count, parts;
    uint8_t *p = new_content(n, 11);
    struct artifact_info there = put_artifact(far, "far", p, n), here;
    struct chunk_ref refs[64];
    bool missing[64];
    struct buf bytes = {0};
    OK(artifact_recipe(far, &there.id, 0, refs, 64, &count, &why));
    assert_in_range(count, 4, 40);
    OK(artifact_recipe(far, &there.id, refs[0].len, refs + 1, 63, &parts, &why));
    assert_int_equal(parts, count - 1);
    OK(artifact_recipe(far, &there.id, n, refs + count, 4, &parts, &why));
    assert_int_equal(parts, 0);
    struct artifact_meta meta = {.name = "near"};
    OK(chunk_store_missing(s, refs, count, missing, &why));
    assert_int_equal(artifact_adopt(s, &meta, refs, count, &there.hash, &here, NULL),
                     GW_ENOT_FOUND);
    for (size_t i = 0; i < count; i++) {
        assert_true(missing[i]);
        OK(chunk_store_get(far, &refs[i].hash, &bytes, &why));
        assert_int_equal(chunk_store_put(s, buf_span(&bytes), &refs[(i + 1) % count].hash, NULL),
                         GW_ECORRUPT); /* another one */
        OK(chunk_store_put(s, buf_span(&bytes), &refs[i].hash, &why));
        collect_all(s); /* takes no loose ones before their time */
    }
    struct chunk_ref swapped[64];
    memcpy(swapped, refs, sizeof swapped);
    swapped[0] = refs[1];
    swapped[1] = refs[0];
    assert_int_equal(artifact_adopt(s, &meta, swapped, count, &there.hash, &here, NULL),
                     GW_ECORRUPT);
    OK(artifact_adopt(s, &meta, refs, count, &there.hash, &here, &why));
    assert_content(s, &here.id, p, n);
    assert_memory_equal(here.hash.b, there.hash.b, CHUNK_HASH_BYTES);
    assert_int_equal(stats_of(s).artifacts, 1);
    OK(chunk_store_put(s, (struct span){(const uint8_t *)"loose", 5}, NULL, &why));
    pass_ms(LIMIT_CHUNK_LOOSE_MS);
    collect_all(s);
    assert_int_equal(stats_of(s).chunks, count);
    chunk_store_close(s);
    chunk_store_close(far);
    scratch_remove(&far_dir);
    buf_free(&bytes);
    free(p);
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(contents_come_back),
        ON_DISK(ranges_are_read),
        ON_DISK(same_content_is_stored_once),
        ON_DISK(many_small_ones_share_packs),
        ON_DISK(meta_data_are_kept_and_checked),
        ON_DISK(lists_go_on_at_a_cursor),
        ON_DISK(content_is_found_by_its_hash),
        ON_DISK(removed_ones_are_gone_but_for_open_readers),
        ON_DISK(expiry_waits_for_a_calm_clock),
        ON_DISK(uploads_go_on_where_they_were),
        ON_DISK(one_writer_may_pause_and_go_on),
        ON_DISK(uploads_end_by_themselves),
        ON_DISK(wrong_hash_is_never_visible),
        ON_DISK(sizes_and_quota_are_limited),
        ON_DISK(adopted_from_chunks_of_another_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
