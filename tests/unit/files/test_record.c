/* Records over a byte stream: whole, in pieces, from somebody who breaks the rules. */
#include "tests/unit/files/stream_rig.h"

#include "host/files/record.h"
#include "protocol/limits.h"

struct ends {
    struct stream a_stream, b_stream;
    struct record_io a, b;
    struct progress progress; /* of a */
    struct gw_error a_why, b_why;
};

static void open_ends(struct ends *e)
{
    *e = (struct ends){0};
    stream_pair(&e->a_stream, &e->b_stream);
    progress_init(&e->progress);
    assert_int_equal(record_init(&e->a, &e->a_stream.io, true, &e->progress, &e->a_why), GW_OK);
    assert_int_equal(record_init(&e->b, &e->b_stream.io, true, NULL, &e->b_why), GW_OK);
}

static void close_ends(struct ends *e)
{
    record_deinit(&e->a);
    record_deinit(&e->b);
    stream_close(&e->a_stream);
    stream_close(&e->b_stream);
    progress_deinit(&e->progress);
}

static void say(struct record_io *r, record_kind kind, uint64_t n)
{
    mp_uint(record_begin(r, kind, 1), n);
    assert_int_equal(record_end(r), GW_OK);
}

static void test_records_come_in_order_and_whole(void **state)
{
    (void)state;
    static const size_t pieces[] = {0, 1, 3, 1000};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct ends e;
        open_ends(&e);
        e.b_stream.most = pieces[i];
        uint8_t digest[32] = {9}, bytes[20000];
        noise_fill(1, bytes, sizeof bytes);
        say(&e.a, RECORD_START, 1);
        assert_int_equal(record_data(&e.a, RECORD_LAST, digest, bytes, sizeof bytes), GW_OK);
        assert_int_equal(record_data(&e.a, 0, digest, NULL, 0), GW_OK);
        (void)record_begin(&e.a, RECORD_ALIVE, 0);
        assert_int_equal(record_end(&e.a), GW_OK);
        say(&e.a, RECORD_GIVE_UP, 2);
        assert_int_equal(record_flush(&e.a), GW_OK);
        struct record rec;
        struct record_data data;
        uint64_t n;
        assert_int_equal(record_next(&e.b, &rec), GW_OK);
        assert_int_equal(rec.kind, RECORD_START);
        assert_int_equal(rec.count, 1);
        assert_int_equal(mp_read_uint(&rec.fields, &n), GW_OK);
        assert_int_equal(n, 1);
        assert_int_equal(record_next(&e.b, &rec), GW_OK);
        assert_int_equal(record_parse_data(&rec, &data), GW_OK);
        assert_int_equal(data.flags, RECORD_LAST);
        assert_memory_equal(data.digest, digest, 32);
        assert_int_equal(data.bytes.n, sizeof bytes);
        assert_memory_equal(data.bytes.p, bytes, sizeof bytes);
        assert_int_equal(record_next(&e.b, &rec), GW_OK);
        assert_int_equal(record_parse_data(&rec, &data), GW_OK);
        assert_int_equal(data.bytes.n, 0);
        assert_int_equal(record_next(&e.b, &rec), GW_OK);
        assert_int_equal(rec.kind, RECORD_GIVE_UP); /* ALIVE is not shown */
        assert_int_equal(record_take(&e.b, &rec), GW_EAGAIN);
        close_ends(&e);
    }
}

/* Raw bytes to b; what it says about them. */
static gw_err hear(const void *bytes, size_t n, struct gw_error *ret_why)
{
    struct ends e;
    open_ends(&e);
    assert_int_equal(write(e.a_stream.fd, bytes, n), (ssize_t)n);
    stream_close(&e.a_stream);
    struct record rec;
    gw_err err;
    do {
        err = record_next(&e.b, &rec);
    } while (err == GW_OK);
    *ret_why = e.b_why;
    close_ends(&e);
    return err;
}

static void test_wrong_bytes_are_refused(void **state)
{
    (void)state;
    struct gw_error why;
    uint8_t head[8] = {0, 0, 0, 0, 1};
    assert_int_equal(hear(head, 5, &why), GW_EPROTO); /* without a kind */
    assert_non_null(strstr(why.text, "claims 0 bytes"));
    store_u32(head, LIMIT_RECORD_CONTROL_BYTES + 1);
    assert_int_equal(hear(head, 5, &why), GW_EPROTO);
    store_u32(head, LIMIT_RECORD_CONTROL_BYTES);
    assert_int_equal(hear(head, 5, &why), GW_EUNREACHABLE); /* may be, but does not come */
    assert_non_null(strstr(why.text, "closed"));
    head[4] = RECORD_DATA;
    store_u32(head, LIMIT_RECORD_BYTES + 1);
    assert_int_equal(hear(head, 5, &why), GW_EPROTO);
    store_u32(head, LIMIT_RECORD_BYTES);
    assert_int_equal(hear(head, 5, &why), GW_EUNREACHABLE);
    assert_int_equal(hear("\0\0\0\2\7\300", 6, &why), GW_EPROTO);  /* START, and nil for an array */
    assert_int_equal(hear("\0\0\0\2\7\221", 6, &why), GW_EPROTO);  /* an array without its member */
    assert_int_equal(hear("\0\0\0\2\20\220", 6, &why), GW_EPROTO); /* ERROR without a code */
    struct record rec = {.kind = RECORD_DATA, .body = {(const uint8_t *)"\4", 1}};
    struct record_data data;
    assert_int_equal(record_parse_data(&rec, &data), GW_EPROTO);
    uint8_t body[RECORD_DATA_HEAD] = {4};
    rec.body = (struct span){body, sizeof body};
    assert_int_equal(record_parse_data(&rec, &data), GW_EPROTO); /* a flag that nobody knows */
    body[0] = 3;
    assert_int_equal(record_parse_data(&rec, &data), GW_OK);
}

static void test_last_words_are_heard(void **state)
{
    (void)state;
    struct ends e;
    open_ends(&e);
    struct gw_error why = {0};
    (void)gw_fail(&why, GW_EDISK_FULL, "no room for \"x\x1b[1m\"");
    gw_hint(&why, "make some");
    shutdown(e.b_stream.fd, SHUT_WR); /* nothing more will come, so a does not wait */
    record_farewell(&e.a, GW_EDISK_FULL, &why);
    struct record rec;
    assert_int_equal(record_next(&e.b, &rec), GW_EDISK_FULL);
    assert_string_equal(e.b_why.text, "no room for \"x?[1m\"");
    assert_string_equal(e.b_why.hint, "make some");
    record_farewell(&e.b, GW_EFAIL, &why); /* it heard words: it says none */
    assert_int_equal(e.b_stream.written, 0);
    close_ends(&e);
}

static void test_silence_ends(void **state)
{
    (void)state;
    struct ends e;
    open_ends(&e);
    struct record rec;
    e.a.silence_ms = 60;
    assert_int_equal(record_next(&e.a, &rec), GW_ETIMEOUT);
    e.a.silence_ms = 60000;
    assert_non_null(strstr(e.a_why.text, "nothing came"));
    atomic_store(&e.progress.cancel, true);
    assert_int_equal(record_next(&e.a, &rec), GW_ECANCELLED);
    assert_int_equal(record_alive(&e.a), GW_ECANCELLED);
    say(&e.a, RECORD_FINISH, 1);
    assert_int_equal(record_flush(&e.a), GW_ECANCELLED);
    close_ends(&e);
}

static size_t drained;

static gw_err drain(void *arg)
{
    struct record rec;
    gw_err err;
    while ((err = record_take(arg, &rec)) == GW_OK) {
        drained++;
    }
    return err == GW_EAGAIN ? GW_OK : err;
}

/* What comes while a writer waits is taken, and waits nowhere. */
static void test_a_writer_takes_what_comes(void **state)
{
    (void)state;
    struct ends e;
    open_ends(&e);
    e.a.on_input = drain;
    e.a.arg = &e.a;
    drained = 0;
    say(&e.b, RECORD_FINISHED, 1);
    assert_int_equal(record_flush(&e.b), GW_OK);
    rate_init(&e.a.limit, 100000, rate_now_ns());
    uint8_t digest[32] = {0}, bytes[20000] = {0};
    assert_int_equal(record_data(&e.a, 0, digest, bytes, sizeof bytes), GW_OK);
    assert_int_equal(drained, 1);
    close_ends(&e);
}

static void test_a_limit_is_kept(void **state)
{
    (void)state;
    struct ends e;
    open_ends(&e);
    int64_t began = rate_now_ns();
    rate_init(&e.a.limit, 1000000, began);
    uint8_t digest[32] = {0}, bytes[50000] = {0}, sink[65536];
    for (int i = 0; i < 6; i++) { /* 300 kB, of which 50 may go at once */
        assert_int_equal(record_data(&e.a, 0, digest, bytes, sizeof bytes), GW_OK);
        while (recv(e.b_stream.fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {
        }
    }
    assert_int_equal(record_flush(&e.a), GW_OK);
    assert_true(rate_now_ns() - began >= 200 * 1000000LL);
    close_ends(&e);
}

static void test_life_is_told_before_a_session(void **state)
{
    (void)state;
    struct ends e;
    struct record rec;
    int64_t now = rate_now_ns(), at = now;
    open_ends(&e);
    assert_int_equal(record_alive_over(e.a.io, &at, NULL), GW_OK); /* not yet */
    assert_true(at == now);
    at = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(record_alive_over(e.a.io, &at, NULL), GW_OK);
        assert_true(at >= now); /* once is enough */
    }
    say(&e.a, RECORD_START, 7);
    assert_int_equal(record_flush(&e.a), GW_OK);
    assert_int_equal(record_next(&e.b, &rec), GW_OK);
    assert_int_equal(rec.kind, RECORD_START);
    assert_int_equal(e.b.in_at, 6 + 7);
    close_ends(&e);
}

static void test_kinds_have_names(void **state)
{
    (void)state;
    assert_string_equal(record_kind_name(RECORD_OPEN), "OPEN");
    assert_string_equal(record_kind_name(RECORD_ALIVE), "ALIVE");
    assert_string_equal(record_kind_name((record_kind)0), "?");
    assert_string_equal(record_kind_name((record_kind)200), "?");
}

static void test_progress_keeps_the_end_of_a_path(void **state)
{
    (void)state;
    struct progress p;
    char path[PROGRESS_PATH_BYTES], longer[1000];
    progress_init(&p);
    progress_set_path(&p, "a/b");
    progress_path(&p, path);
    assert_string_equal(path, "a/b");
    memset(longer, 'x', sizeof longer);
    memcpy(longer + sizeof longer - 513, "\xc3\xa4", 2); /* would be cut in its middle */
    memcpy(longer + sizeof longer - 5, "/end", 5);
    progress_set_path(&p, longer);
    progress_path(&p, path);
    assert_int_equal(path[0], 'x');
    assert_string_equal(path + strlen(path) - 4, "/end");
    progress_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_come_in_order_and_whole),
        cmocka_unit_test(test_wrong_bytes_are_refused),
        cmocka_unit_test(test_last_words_are_heard),
        cmocka_unit_test(test_silence_ends),
        cmocka_unit_test(test_a_writer_takes_what_comes),
        cmocka_unit_test(test_a_limit_is_kept),
        cmocka_unit_test(test_life_is_told_before_a_session),
        cmocka_unit_test(test_kinds_have_names),
        cmocka_unit_test(test_progress_keeps_the_end_of_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
