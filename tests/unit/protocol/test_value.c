/* Values as msgpack: round trips, and bytes of a peer that must be refused without a trace. */
#include "protocol/value.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

static gw_value zoo(void)
{
    gw_value v = {0}, list = {0}, bytes = {0};
    gw_id id = {{1, 2, 3}};
    const gw_value leaves[] = {gw_nil(),
                               gw_bool(true),
                               gw_int(-5),
                               gw_int(INT64_MIN),
                               gw_uint(UINT64_MAX),
                               gw_float(-0.5),
                               gw_id_value(&id),
                               gw_time_value((gw_time){-77})};
    for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
        assert_int_equal(gw_list_add(&list, leaves[i]), GW_OK);
    }
    assert_int_equal(gw_value_set_bytes(&bytes, "\0\xff\1", 3), GW_OK);
    assert_int_equal(gw_list_add(&list, bytes), GW_OK);
    assert_int_equal(gw_list_add(&list, gw_str("gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x90\xa6")), GW_OK);
    assert_int_equal(gw_map_set(&v, "list", list), GW_OK);
    assert_int_equal(gw_map_set(&v, "", gw_str("")), GW_OK);
    assert_int_equal(gw_map_set(&v, "empty", (gw_value){.kind = GW_MAP}), GW_OK);
    return v;
}

static void test_round_trip(void **state)
{
    (void)state;
    gw_value v = zoo(), back = {0};
    struct buf b = {0};
    value_pack(&v, &b);
    assert_true(buf_ok(&b));
    assert_int_equal(value_unpack_span(buf_span(&b), &back), GW_OK);
    assert_true(gw_value_equal(&v, &back));
    gw_value_free(&back);
    for (size_t n = 1; n < b.len; n++) { /* every truncation; ret stays as it was */
        uint8_t *exact = malloc(n);
        memcpy(exact, b.data, n);
        gw_value kept = gw_int(42);
        struct mp m = mp_over((struct span){exact, n});
        assert_int_equal(value_unpack(&m, &kept), GW_EPROTO);
        assert_ptr_equal(m.p, exact);
        assert_int_equal(kept.i, 42);
        free(exact);
    }
    buf_free(&b);
    gw_value_free(&v);
}

static void test_spans(void **state)
{
    (void)state;
    gw_value v = gw_int(3);
    assert_int_equal(value_unpack_span((struct span){0}, &v), GW_OK);
    assert_int_equal(v.kind, GW_NIL);
    const uint8_t two[] = {0xa1, 'a', 0xc0};
    assert_int_equal(value_unpack_span((struct span){two, 3}, &v), GW_EPROTO); /* a rest */
    assert_int_equal(value_unpack_span((struct span){two, 2}, &v), GW_OK);
    assert_string_equal(v.s.p, "a");
    gw_value_free(&v);
}

#define REFUSED(...)                                                                               \
    do {                                                                                           \
        const uint8_t raw_[] = {__VA_ARGS__};                                                      \
        gw_value kept_ = gw_int(42);                                                               \
        assert_int_equal(value_unpack_span((struct span){raw_, sizeof raw_}, &kept_), GW_EPROTO);  \
        assert_int_equal(kept_.i, 42);                                                             \
    } while (0)

static void test_what_is_refused(void **state)
{
    (void)state;
    REFUSED(0xc1);                         /* reserved */
    REFUSED(0xdd, 0xff, 0xff, 0xff, 0xff); /* 2^32-1 elements announced */
    REFUSED(0xdf, 0xff, 0xff, 0xff, 0xff);
    REFUSED(0x81, 0x01, 0x01);                       /* key is a number */
    REFUSED(0x81, 0xc0, 0x01);                       /* key is nil */
    REFUSED(0x81, 0xa1, 0xff, 0x01);                 /* key is not UTF-8 */
    REFUSED(0x81, 0xa1, 0x00, 0x01);                 /* key holds NUL */
    REFUSED(0x82, 0xa1, 'a', 0x01, 0xa1, 'a', 0x02); /* key twice */
    REFUSED(0x92, 0xa1, 'x', 0xa1, 0x80);            /* text is not UTF-8, after one that is */
    REFUSED(0xa2, 'a', 0x00);                        /* text holds NUL */
    REFUSED(0xd4, 0x05, 0x00);                       /* unknown ext */
    REFUSED(0xd4, 0x01, 0x00);                       /* an id of one byte */
    REFUSED(0xd8, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); /* a time of 16 */
    REFUSED(0x92, 0x81, 0xa1, 'k', 0xa1, 'v', 0xc1); /* what was read before is freed */
}

static void many_keys(struct buf *b, unsigned n, int twice)
{
    mp_map(b, n);
    for (unsigned i = 0; i < n; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%u", (int)i == twice ? 0 : i);
        mp_str(b, key);
        mp_int(b, i);
    }
}

static void test_duplicate_keys_of_large_maps(void **state)
{
    (void)state;
    for (unsigned n = 2; n <= 40; n++) {
        struct buf b = {0};
        gw_value v = {0};
        many_keys(&b, n, (int)n - 1);
        assert_int_equal(value_unpack_span(buf_span(&b), &v), GW_EPROTO);
        buf_reset(&b);
        many_keys(&b, n, -1);
        assert_int_equal(value_unpack_span(buf_span(&b), &v), GW_OK);
        assert_int_equal(v.map.n, n);
        gw_value_free(&v);
        buf_free(&b);
    }
    /* A peer may send very many: this must not take n * n steps. */
    struct buf b = {0};
    gw_value v = {0};
    many_keys(&b, 300000, -1);
    assert_int_equal(value_unpack_span(buf_span(&b), &v), GW_OK);
    gw_value_free(&v);
    buf_free(&b);
}

static gw_value nest(unsigned depth)
{
    gw_value v = gw_int(1);
    for (unsigned i = 0; i < depth; i++) {
        gw_value outer = {0};
        if (i % 2) {
            assert_int_equal(gw_map_set(&outer, "k", v), GW_OK);
        } else {
            assert_int_equal(gw_list_add(&outer, v), GW_OK);
        }
        v = outer;
    }
    return v;
}

static void test_depth(void **state)
{
    (void)state;
    struct buf b = {0};
    gw_value v = nest(LIMIT_DEPTH), back = {0};
    value_pack(&v, &b);
    assert_true(buf_ok(&b));
    assert_int_equal(value_unpack_span(buf_span(&b), &back), GW_OK);
    assert_true(gw_value_equal(&v, &back));
    struct mp m = mp_over(buf_span(&b));
    gw_value inner = {0};
    assert_int_equal(value_unpack_at(&m, 1, &inner),
                     GW_EPROTO); /* inside one more it is too deep */
    buf_reset(&b);
    value_pack_at(&v, 1, &b);
    assert_false(buf_ok(&b));
    gw_value_free(&v);
    gw_value_free(&back);
    buf_reset(&b);
    v = nest(LIMIT_DEPTH + 1);
    value_pack(&v, &b);
    assert_false(buf_ok(&b)); /* what no reader takes is not written */
    gw_value_free(&v);
    buf_reset(&b);
    for (unsigned i = 0; i < LIMIT_DEPTH; i++) {
        mp_array(&b, 1);
    }
    mp_array(&b, 0);
    assert_int_equal(value_unpack_span(buf_span(&b), &back), GW_EPROTO);
    buf_reset(&b);
    for (unsigned i = 0; i < 1000000; i++) {
        mp_array(&b, 1);
    }
    mp_nil(&b);
    assert_int_equal(value_unpack_span(buf_span(&b), &back), GW_EPROTO);
    buf_free(&b);
}

static void test_bad_text_packs_repaired(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } rows[] = {
        {"plain", 5, "plain"},
        {"a\xff"
         "b",
         3, "a?b"},
        {"\xff\xfe", 2, "??"},
        {"a\0b", 3, "a?b"},
        {"long enough for eight \xc3", 23, "long enough for eight ?"},
        {"\xc3\xbc\xc3", 3, "\xc3\xbc?"},
        {"\xed\xa0\x80", 3, "???"},
        {"", 0, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b = {0};
        gw_value v = {0}, back = {0};
        assert_int_equal(gw_value_set_str(&v, rows[i].in, rows[i].n), GW_OK);
        value_pack(&v, &b);
        assert_int_equal(value_unpack_span(buf_span(&b), &back), GW_OK);
        assert_string_equal(back.s.p, rows[i].out);
        gw_value_free(&v);
        gw_value_free(&back);
        buf_free(&b);
    }
}

static void test_hostile_bytes_leave_nothing(void **state)
{
    (void)state;
    gw_value v = zoo();
    struct buf b = {0};
    value_pack(&v, &b);
    for (size_t at = 0; at < b.len; at++) {
        for (unsigned x = 0; x < 256; x++) {
            uint8_t was = b.data[at];
            gw_value back = {0};
            b.data[at] = (uint8_t)x;
            if (value_unpack_span(buf_span(&b), &back) == GW_OK) { /* then it packs the same way */
                struct buf again = {0};
                value_pack(&back, &again);
                gw_value third = {0};
                assert_int_equal(value_unpack_span(buf_span(&again), &third), GW_OK);
                assert_true(gw_value_equal(&back, &third));
                gw_value_free(&third);
                buf_free(&again);
            }
            gw_value_free(&back);
            b.data[at] = was;
        }
    }
    buf_free(&b);
    gw_value_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_duplicate_keys_of_large_maps),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_bad_text_packs_repaired),
        cmocka_unit_test(test_hostile_bytes_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
