/* The service "chunks" between two stores, and against ends that do not keep to it. */
#include "tests/unit/files/stream_rig.h"

#include <pthread.h>

#include "host/fetch_wire.h"
#include "tests/unit/persistence/scratch.h"

#define BYTES (9u * 1024 * 1024 + 77)

static struct scratch dir_a, dir_b;
static struct chunk_store *there, *here; /* who answers, who asks */
static struct artifact_info info;
static struct gw_error why;

static struct chunk_store *open_store(const struct scratch *d, uint64_t quota)
{
    struct chunk_options o = {.quota = quota};
    struct chunk_store *s = NULL;
    char path[256];
    if (chunk_store_open(scratch_path(d, "artifacts", path), &o, &s, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return s;
}

static void put(struct chunk_store *s, size_t n, uint64_t seed)
{
    struct artifact_meta meta = {.name = "some noise", .type = "a/b"};
    struct artifact_writer *w = NULL;
    uint8_t *p = malloc(n + 8);
    noise_fill(seed, p, n);
    assert_int_equal(artifact_writer_new(s, &meta, &w, &why), GW_OK);
    assert_int_equal(artifact_writer_add(w, p, n, &why), GW_OK);
    assert_int_equal(artifact_writer_finish(w, NULL, &info, &why), GW_OK);
    artifact_writer_free(w);
    free(p);
}

static int begin(void **state)
{
    (void)state;
    memset(&why, 0, sizeof why);
    scratch_make(&dir_a);
    scratch_make(&dir_b);
    there = open_store(&dir_a, 0);
    here = open_store(&dir_b, 0);
    put(there, BYTES, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    chunk_store_close(there);
    chunk_store_close(here);
    scratch_remove(&dir_a);
    scratch_remove(&dir_b);
    return 0;
}

/* ---- one end on a thread ---- */

struct server {
    pthread_t thread;
    struct stream asker, stream;
    gw_err (*play)(struct server *s); /* NULL: as it should be */
    struct chunk_store *store;
    gw_err err;
    struct gw_error why;
};

static void *run_server(void *arg)
{
    struct server *s = arg;
    s->err = s->play ? s->play(s) : fetch_serve(s->store, &s->stream.io, &s->why);
    stream_close(&s->stream);
    return NULL;
}

static void start(struct server *s, gw_err (*play)(struct server *s))
{
    *s = (struct server){.play = play, .store = there};
    stream_pair(&s->asker, &s->stream);
    s->stream.io.ctx = &s->stream;
    s->asker.io.ctx = &s->asker;
    assert_int_equal(pthread_create(&s->thread, NULL, run_server, s), 0);
}

static gw_err join(struct server *s)
{
    stream_close(&s->asker);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    return s->err;
}

/* ---- the recipe ---- */

static struct fetch_recipe get_recipe(void)
{
    struct server s;
    struct fetch_recipe r = {.count = 0};
    start(&s, NULL);
    gw_err err = fetch_ask_recipe(&s.asker.io, &info.hash, UINT64_MAX, &r, &why);
    if (err != GW_OK) {
        fail_msg("%s", why.text);
    }
    assert_int_equal(join(&s), GW_OK);
    return r;
}

static void test_the_recipe_says_what_it_is(void **state)
{
    (void)state;
    struct fetch_recipe r = get_recipe();
    uint64_t sum = 0;
    for (size_t i = 0; i < r.count; i++) {
        sum += r.chunks[i].len;
    }
    assert_true(r.count > 3);
    assert_int_equal(sum, BYTES);
    assert_int_equal(r.size, BYTES);
    assert_string_equal(r.name, "some noise");
    assert_string_equal(r.type, "a/b");
    fetch_recipe_free(&r);
    put(there, 0, 1); /* an empty one has none */
    r = get_recipe();
    assert_int_equal(r.count, 0);
    assert_int_equal(r.size, 0);
    fetch_recipe_free(&r);
}

static void test_no_recipe(void **state)
{
    struct server s;
    struct fetch_recipe r = {.count = 0};
    struct chunk_hash other = info.hash;
    (void)state;
    other.b[3] ^= 1;
    start(&s, NULL);
    assert_int_equal(fetch_ask_recipe(&s.asker.io, &other, UINT64_MAX, &r, &why), GW_ENOT_FOUND);
    (void)join(&s);
    start(&s, NULL);
    assert_int_equal(fetch_ask_recipe(&s.asker.io, &info.hash, BYTES - 1, &r, &why), GW_ETOO_BIG);
    (void)join(&s);
}

/* ---- chunks ---- */

struct fetched {
    struct fetch_work work;
    struct fetch_source source;
    struct fetch_recipe recipe;
};

static void plan(struct fetched *f)
{
    *f = (struct fetched){.work = {.store = here}, .recipe = get_recipe()};
    bool *missing = calloc(f->recipe.count, sizeof *missing);
    pthread_mutex_init(&f->work.lock, NULL);
    assert_int_equal(chunk_store_missing(here, f->recipe.chunks, f->recipe.count, missing, &why),
                     GW_OK);
    assert_int_equal(fetch_plan_new(f->recipe.chunks, missing, f->recipe.count, &f->work.plan),
                     GW_OK);
    free(missing);
}

static void forget(struct fetched *f)
{
    fetch_plan_free(f->work.plan);
    fetch_recipe_free(&f->recipe);
    pthread_mutex_destroy(&f->work.lock);
}

static gw_err ask(struct fetched *f, struct server *s, gw_err (*play)(struct server *s))
{
    start(s, play);
    f->source = (struct fetch_source){.work = &f->work, .number = -1, .partial = !play};
    memset(&why, 0, sizeof why);
    return fetch_ask_chunks(&s->asker.io, &f->source, &why);
}

static void test_chunks_come_and_are_whole(void **state)
{
    struct fetched f;
    struct server s;
    struct artifact_info made;
    struct artifact_meta meta = {.name = "a copy"};
    (void)state;
    plan(&f);
    assert_int_equal(ask(&f, &s, NULL), GW_OK);
    assert_int_equal(join(&s), GW_OK);
    assert_int_equal(fetch_plan_left(f.work.plan), 0);
    assert_int_equal(f.source.chunks, f.recipe.count);
    assert_int_equal(f.source.bytes, BYTES);
    assert_int_equal(
        artifact_adopt(here, &meta, f.recipe.chunks, f.recipe.count, &info.hash, &made, &why),
        GW_OK);
    assert_int_equal(made.size, BYTES);
    forget(&f);
}

static void test_a_cut_loses_nothing_that_came(void **state)
{
    struct fetched f;
    struct server s;
    (void)state;
    plan(&f);
    size_t all = fetch_plan_left(f.work.plan);
    start(&s, NULL);
    s.stream.cut_at = 5u * 1024 * 1024;
    f.source = (struct fetch_source){.work = &f.work, .number = -1};
    assert_int_equal(fetch_ask_chunks(&s.asker.io, &f.source, &why), GW_EUNREACHABLE);
    (void)join(&s);
    assert_false(f.source.bad);
    assert_true(f.source.chunks > 0);
    assert_int_equal(fetch_plan_left(f.work.plan), all - f.source.chunks);
    forget(&f);
    plan(&f); /* as after a restart: what came is here */
    assert_true(fetch_plan_left(f.work.plan) < all);
    uint64_t rest = fetch_plan_left_bytes(f.work.plan);
    assert_int_equal(ask(&f, &s, NULL), GW_OK);
    assert_int_equal(join(&s), GW_OK);
    assert_int_equal(f.source.bytes, rest);
    forget(&f);
}

static void test_what_is_altered_on_its_way_is_not_taken(void **state)
{
    struct fetched f;
    struct server s;
    (void)state;
    plan(&f);
    start(&s, NULL);
    s.stream.alter_at = 1u * 1024 * 1024;
    f.source = (struct fetch_source){.work = &f.work, .number = -1};
    gw_err err = fetch_ask_chunks(&s.asker.io, &f.source, &why);
    (void)join(&s);
    assert_int_equal(err, GW_ECORRUPT);
    assert_true(f.source.bad);
    assert_true(fetch_plan_left(f.work.plan) > 0);
    forget(&f);
}

/* A source that has only a part says so, and is left in peace with the rest. */
static void test_a_part(void **state)
{
    struct fetched f;
    struct server s;
    (void)state;
    plan(&f);
    struct artifact_info whole = info;
    struct gw_error ignored;
    put(there, BYTES / 2, 1);
    assert_int_equal(artifact_remove(there, &whole.id, &ignored), GW_OK);
    for (bool more = true; more;) {
        assert_int_equal(chunk_store_collect(there, &more, &ignored), GW_OK);
    }
    assert_int_equal(ask(&f, &s, NULL), GW_OK);
    assert_int_equal(join(&s), GW_OK);
    assert_true(f.source.chunks >= 2);
    assert_true(fetch_plan_left(f.work.plan) > 0);
    forget(&f);
}

static void test_a_full_store_ends_the_work_not_the_source(void **state)
{
    struct fetched f;
    struct server s;
    (void)state;
    chunk_store_close(here);
    here = open_store(&dir_b, 2u * 1024 * 1024);
    plan(&f);
    assert_int_equal(ask(&f, &s, NULL), GW_OK);
    (void)join(&s);
    assert_false(f.source.bad);
    assert_int_equal(f.work.err, GW_EQUOTA);
    forget(&f);
}

/* ---- ends that lie ---- */

static gw_err take_want(struct record_io *io, struct chunk_ref *refs, size_t *n)
{
    struct record rec;
    gw_err err = record_next(io, &rec);
    if (err != GW_OK || rec.kind != CHUNKS_WANT) {
        return err ? err : GW_EPROTO;
    }
    return fetch_wire_read_refs(&rec.fields, refs, LIMIT_FETCH_WANT, n);
}

typedef gw_err (*trick)(struct record_io *io, const struct chunk_ref *refs, size_t n);
static trick the_trick;

static gw_err play_trick(struct server *s)
{
    struct record_io io;
    struct chunk_ref refs[LIMIT_FETCH_WANT];
    size_t n;
    GW_TRY(record_init(&io, &s->stream.io, false, NULL, &s->why));
    gw_err err = take_want(&io, refs, &n);
    err = err ? err : the_trick(&io, refs, n);
    err = err ? err : record_flush(&io);
    while (err == GW_OK) { /* until the asker goes */
        struct record rec;
        err = record_next(&io, &rec);
    }
    record_deinit(&io);
    return err;
}

static gw_err other_bytes(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    uint8_t *p = calloc(1, refs[0].len);
    gw_err err = GW_OK;
    (void)n;
    for (size_t at = 0; at < refs[0].len && err == GW_OK; at += RECORD_DATA_BYTES) {
        size_t part = refs[0].len - at < RECORD_DATA_BYTES ? refs[0].len - at : RECORD_DATA_BYTES;
        err = record_data(io, at + part == refs[0].len ? RECORD_LAST : 0, refs[0].hash.b, p, part);
    }
    free(p);
    return err;
}

static gw_err too_long(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    uint8_t *p = calloc(1, RECORD_DATA_BYTES);
    gw_err err = GW_OK;
    (void)n;
    for (unsigned i = 0; i < 5 && err == GW_OK; i++) {
        err = record_data(io, 0, refs[0].hash.b, p, RECORD_DATA_BYTES);
    }
    free(p);
    return err;
}

static gw_err too_short(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    (void)n;
    return record_data(io, RECORD_LAST, refs[0].hash.b, "short", 5);
}

static gw_err nothing_for_ever(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    gw_err err = GW_OK;
    (void)n;
    for (unsigned i = 0; i < 5 && err == GW_OK; i++) {
        err = record_data(io, 0, refs[0].hash.b, "", 0);
    }
    return err;
}

static gw_err another_chunk(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    struct chunk_hash other = refs[0].hash;
    (void)n;
    other.b[0] ^= 1;
    return record_data(io, RECORD_LAST, other.b, "abc", 3);
}

static gw_err lack_of_another(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    struct chunk_hash other = refs[0].hash;
    (void)n;
    other.b[0] ^= 1;
    mp_bin(record_begin(io, CHUNKS_LACK, 1), other.b, sizeof other.b);
    return record_end(io);
}

static gw_err an_unknown_record(struct record_io *io, const struct chunk_ref *refs, size_t n)
{
    (void)refs, (void)n;
    (void)record_begin(io, (record_kind)99, 0);
    return record_end(io);
}

static void test_a_source_that_lies_is_left(void **state)
{
    static const struct {
        trick play;
        gw_err err;
    } tricks[] = {
        {other_bytes, GW_ECORRUPT},     {too_long, GW_EPROTO},      {too_short, GW_EPROTO},
        {nothing_for_ever, GW_EPROTO},  {another_chunk, GW_EPROTO}, {lack_of_another, GW_EPROTO},
        {an_unknown_record, GW_EPROTO},
    };
    struct fetched f;
    struct server s;
    (void)state;
    plan(&f);
    size_t all = fetch_plan_left(f.work.plan);
    for (size_t i = 0; i < sizeof tricks / sizeof tricks[0]; i++) {
        the_trick = tricks[i].play;
        gw_err err = ask(&f, &s, play_trick);
        (void)join(&s);
        if (err != tricks[i].err) {
            fail_msg("trick %zu: %s, %s", i, gw_err_name(err), why.text);
        }
        assert_true(f.source.bad);
        assert_int_equal(fetch_plan_left(f.work.plan), all);
    }
    assert_int_equal(ask(&f, &s, NULL), GW_OK); /* and an honest one gives them all */
    (void)join(&s);
    assert_int_equal(fetch_plan_left(f.work.plan), 0);
    forget(&f);
}

static gw_err bad_recipe(struct server *s)
{
    struct record_io io;
    struct record rec;
    struct chunk_ref ref = {.len = 1000};
    unsigned parts = 0;
    GW_TRY(record_init(&io, &s->stream.io, false, NULL, &s->why));
    gw_err err = record_next(&io, &rec);
    while (err == GW_OK) { /* more and more of it, beyond its size */
        struct buf *out = record_begin(&io, CHUNKS_PART, 6);
        mp_uint(out, 2500);
        mp_str(out, "x");
        mp_str(out, "y");
        fetch_wire_refs(out, &ref, 1);
        mp_bool(out, true);
        mp_int(out, 0);
        err = record_end(&io);
        err = err ? err : record_next(&io, &rec);
        parts++;
    }
    record_deinit(&io);
    return parts == 3 ? GW_OK : GW_EFAIL;
}

static void test_a_recipe_has_to_fit_its_size(void **state)
{
    struct server s;
    struct fetch_recipe r = {.count = 0};
    (void)state;
    start(&s, bad_recipe);
    assert_int_equal(fetch_ask_recipe(&s.asker.io, &info.hash, UINT64_MAX, &r, &why), GW_EPROTO);
    assert_int_equal(join(&s), GW_OK);
}

/* ---- an asker that does not keep to it ---- */

static void say(struct server *s, record_kind kind, const void *bin, size_t n)
{
    struct record_io io;
    start(s, NULL);
    assert_int_equal(record_init(&io, &s->asker.io, false, NULL, &why), GW_OK);
    mp_bin(record_begin(&io, kind, 1), bin, n);
    assert_int_equal(record_end(&io), GW_OK);
    assert_int_equal(record_flush(&io), GW_OK);
    record_deinit(&io);
    shutdown(s->asker.fd, SHUT_WR);
}

static void test_questions_that_make_no_sense_end_the_session(void **state)
{
    struct server s;
    uint8_t refs[WIRE_REF_BYTES * (WIRE_REFS + 1)] = {0};
    (void)state;
    for (size_t i = 0; i <= WIRE_REFS; i++) {
        refs[i * WIRE_REF_BYTES + CHUNK_HASH_BYTES + 3] = 9;
    }
    say(&s, CHUNKS_WANT, refs, WIRE_REF_BYTES * (LIMIT_FETCH_WANT + 1));
    assert_int_equal(join(&s), GW_EPROTO);
    say(&s, CHUNKS_HAVE, refs, sizeof refs);
    assert_int_equal(join(&s), GW_EPROTO);
    say(&s, CHUNKS_HAVE, refs, WIRE_REF_BYTES + 1);
    assert_int_equal(join(&s), GW_EPROTO);
    say(&s, CHUNKS_WANT, refs, 0);
    assert_int_equal(join(&s), GW_EPROTO);
    say(&s, CHUNKS_RECIPE, refs, 31);
    assert_int_equal(join(&s), GW_EPROTO);
    say(&s, (record_kind)77, refs, 3);
    assert_int_equal(join(&s), GW_EPROTO);
    refs[CHUNK_HASH_BYTES] = 0xff; /* a length that no chunk has */
    say(&s, CHUNKS_WANT, refs, WIRE_REF_BYTES);
    assert_int_equal(join(&s), GW_EPROTO);
    refs[CHUNK_HASH_BYTES] = 0;
    say(&s, CHUNKS_HAVE, refs, WIRE_REF_BYTES * WIRE_REFS);
    assert_int_equal(join(&s), GW_OK);
    say(&s, CHUNKS_WANT, refs, WIRE_REF_BYTES * LIMIT_FETCH_WANT);
    assert_int_equal(join(&s), GW_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_recipe_says_what_it_is, begin, end),
        cmocka_unit_test_setup_teardown(test_no_recipe, begin, end),
        cmocka_unit_test_setup_teardown(test_chunks_come_and_are_whole, begin, end),
        cmocka_unit_test_setup_teardown(test_a_cut_loses_nothing_that_came, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_altered_on_its_way_is_not_taken, begin, end),
        cmocka_unit_test_setup_teardown(test_a_part, begin, end),
        cmocka_unit_test_setup_teardown(test_a_full_store_ends_the_work_not_the_source, begin, end),
        cmocka_unit_test_setup_teardown(test_a_source_that_lies_is_left, begin, end),
        cmocka_unit_test_setup_teardown(test_a_recipe_has_to_fit_its_size, begin, end),
        cmocka_unit_test_setup_teardown(test_questions_that_make_no_sense_end_the_session, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
