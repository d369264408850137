/* The msgpack cursor: every width, every truncation, announced counts, nesting bombs.
 * msgpack_unpack of msgpack-c is the oracle: whatever both accept, both read alike. */
#include "protocol/base/mp.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

#include "protocol/limits.h"

static struct mp over(const void *p, size_t n)
{
    return mp_over((struct span){p, n});
}

/* --- comparison with the oracle --- */

static bool read_like(struct mp *m, const msgpack_object *want);

static bool same_bytes(const void *a, const void *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

static bool payload_like(struct mp *m, const msgpack_object *want)
{
    struct span s;
    if (want->type == MSGPACK_OBJECT_STR) {
        return mp_read_str(m, &s) == GW_OK && s.n == want->via.str.size &&
               same_bytes(s.p, want->via.str.ptr, s.n);
    }
    if (want->type == MSGPACK_OBJECT_BIN) {
        return mp_read_bin(m, &s) == GW_OK && s.n == want->via.bin.size &&
               same_bytes(s.p, want->via.bin.ptr, s.n);
    }
    size_t n = want->via.ext.size;
    if (mp_peek(m) != MP_EXT || mp_skip(m, &s) || s.n < n + 2) {
        return false;
    }
    const uint8_t *payload = s.p + s.n - n; /* the type byte stands before it */
    return (int8_t)payload[-1] == want->via.ext.type && same_bytes(payload, want->via.ext.ptr, n);
}

static bool nested_like(struct mp *m, const msgpack_object *want)
{
    size_t n;
    if (want->type == MSGPACK_OBJECT_ARRAY) {
        if (mp_read_array(m, &n) || n != want->via.array.size) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (!read_like(m, &want->via.array.ptr[i])) {
                return false;
            }
        }
        return true;
    }
    if (mp_read_map(m, &n) || n != want->via.map.size) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!read_like(m, &want->via.map.ptr[i].key) || !read_like(m, &want->via.map.ptr[i].val)) {
            return false;
        }
    }
    return true;
}

static bool number_like(struct mp *m, const msgpack_object *want)
{
    int64_t i;
    uint64_t u;
    double f;
    switch (want->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER: return !mp_read_uint(m, &u) && u == want->via.u64;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return !mp_read_int(m, &i) && i == want->via.i64;
    default:
        return mp_peek(m) == MP_FLOAT && !mp_read_float(m, &f) &&
               (f == want->via.f64 || (isnan(f) && isnan(want->via.f64)));
    }
}

static bool read_like(struct mp *m, const msgpack_object *want)
{
    bool b;
    switch (want->type) {
    case MSGPACK_OBJECT_NIL: return mp_read_nil(m) == GW_OK;
    case MSGPACK_OBJECT_BOOLEAN: return !mp_read_bool(m, &b) && b == want->via.boolean;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: return number_like(m, want);
    case MSGPACK_OBJECT_ARRAY:
    case MSGPACK_OBJECT_MAP: return nested_like(m, want);
    default: return payload_like(m, want);
    }
}

/* The verdict and the reading of both on the element at p. The oracle allocates whatever a 32-bit
 * count announces, so it is not asked about counts that ours refuses. */
static void compare(const uint8_t *p, size_t n)
{
    assert_non_null(p);
    struct mp m = over(p, n), again = m;
    struct span raw = {0};
    gw_err err = mp_skip(&m, &raw);
    if (err && (memchr(p, 0xdd, n) || memchr(p, 0xdf, n))) {
        assert_ptr_equal(m.p, p); /* unmoved */
        return;
    }
    msgpack_unpacked out;
    msgpack_unpacked_init(&out);
    size_t at = 0;
    msgpack_unpack_return got = msgpack_unpack_next(&out, (const char *)p, n, &at);
    if (got == MSGPACK_UNPACK_SUCCESS) {
        assert_int_equal(err, GW_OK);
        assert_int_equal(raw.n, at);
        assert_ptr_equal(raw.p, p);
        assert_true(read_like(&again, &out.data));
        assert_ptr_equal(again.p, m.p);
    } else {
        assert_int_equal(err, GW_EPROTO);
        assert_ptr_equal(m.p, p);
    }
    msgpack_unpacked_destroy(&out);
}

/* --- tests --- */

static void test_integers_of_every_width(void **state)
{
    (void)state;
    static const int64_t edges[] = {
        0,          1,          127,       128,    255,        256,
        32767,      32768,      65535,     65536,  2147483647, 2147483648,
        4294967295, 4294967296, INT64_MAX, -1,     -32,        -33,
        -128,       -129,       -32768,    -32769, INT32_MIN,  (int64_t)INT32_MIN - 1,
        INT64_MIN,
    };
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        struct buf b = {0};
        mp_int(&b, edges[i]);
        struct mp m = mp_over(buf_span(&b));
        int64_t v;
        uint64_t u;
        double f;
        assert_int_equal(mp_peek(&m), edges[i] < 0 ? MP_INT : MP_UINT);
        assert_int_equal(mp_read_uint(&m, &u), edges[i] < 0 ? GW_EPROTO : GW_OK);
        m = mp_over(buf_span(&b));
        assert_int_equal(mp_read_int(&m, &v), GW_OK);
        assert_true(v == edges[i]);
        assert_true(mp_done(&m));
        m = mp_over(buf_span(&b));
        assert_int_equal(mp_read_float(&m, &f), GW_OK);
        assert_true(f == (double)edges[i]);
        compare(b.data, b.len);
        buf_free(&b);
    }
}

/* Any width may carry any number that fits it: other packers do so. */
static void test_integers_not_shortest(void **state)
{
    (void)state;
    static const struct {
        uint8_t raw[9];
        size_t n;
        int64_t want;
    } rows[] = {
        {{0xcc, 5}, 2, 5},
        {{0xcd, 0, 5}, 3, 5},
        {{0xce, 0, 0, 0, 5}, 5, 5},
        {{0xcf, 0, 0, 0, 0, 0, 0, 0, 5}, 9, 5},
        {{0xd0, 5}, 2, 5},
        {{0xd1, 0, 5}, 3, 5},
        {{0xd2, 0, 0, 0, 5}, 5, 5},
        {{0xd3, 0, 0, 0, 0, 0, 0, 0, 5}, 9, 5},
        {{0xd0, 0xfb}, 2, -5},
        {{0xd1, 0xff, 0xfb}, 3, -5},
        {{0xd2, 0xff, 0xff, 0xff, 0xfb}, 5, -5},
        {{0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb}, 9, -5},
        {{0xd3, 0x80}, 9, INT64_MIN},
        {{0xff}, 1, -1},
        {{0xe0}, 1, -32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mp m = over(rows[i].raw, rows[i].n);
        int64_t v;
        assert_int_equal(mp_peek(&m), rows[i].want < 0 ? MP_INT : MP_UINT);
        assert_int_equal(mp_read_int(&m, &v), GW_OK);
        assert_true(v == rows[i].want);
        compare(rows[i].raw, rows[i].n);
    }
}

static void test_integer_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    uint64_t u;
    uint32_t u32 = 7;
    int64_t i = 7;
    mp_uint(&b, UINT64_MAX);
    struct mp m = mp_over(buf_span(&b));
    assert_int_equal(mp_read_int(&m, &i), GW_EPROTO); /* does not fit */
    assert_int_equal(mp_read_u32(&m, &u32), GW_EPROTO);
    assert_int_equal(mp_read_uint(&m, &u), GW_OK);
    assert_true(u == UINT64_MAX && i == 7 && u32 == 7);
    buf_reset(&b);
    mp_uint(&b, UINT32_MAX);
    mp_uint(&b, 1ull << 32);
    m = mp_over(buf_span(&b));
    assert_int_equal(mp_read_u32(&m, &u32), GW_OK);
    assert_true(u32 == UINT32_MAX);
    assert_int_equal(mp_read_u32(&m, &u32), GW_EPROTO);
    buf_reset(&b);
    mp_uint(&b, (uint64_t)INT64_MAX + 1);
    m = mp_over(buf_span(&b));
    assert_int_equal(mp_read_int(&m, &i), GW_EPROTO);
    buf_free(&b);
}

static void test_floats(void **state)
{
    (void)state;
    static const double edges[] = {0.0, -0.0, 1.5, DBL_MAX, -DBL_MIN, DBL_TRUE_MIN, INFINITY};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        struct buf b = {0};
        mp_float(&b, edges[i]);
        compare(b.data, b.len);
        buf_free(&b);
    }
    double f;
    const uint8_t single[] = {0xca, 0x3f, 0xc0, 0, 0}, nan32[] = {0xca, 0x7f, 0xc0, 0, 0};
    struct mp m = over(single, sizeof single);
    assert_int_equal(mp_read_float(&m, &f), GW_OK);
    assert_true(f == 1.5);
    m = over(nan32, sizeof nan32);
    assert_int_equal(mp_read_float(&m, &f), GW_OK);
    assert_true(isnan(f));
    const uint8_t nil = 0xc0;
    m = over(&nil, 1);
    assert_int_equal(mp_read_float(&m, &f), GW_EPROTO);
}

static void test_payloads_of_every_width(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000};
    uint8_t *data = calloc(1, 70000);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct buf b = {0};
        struct span s;
        mp_strn(&b, (char *)data, sizes[i]);
        compare(b.data, b.len);
        buf_reset(&b);
        mp_span(&b, (struct span){data, sizes[i]});
        compare(b.data, b.len);
        struct mp m = mp_over(buf_span(&b));
        assert_int_equal(mp_read_str(&m, &s), GW_EPROTO);
        assert_int_equal(mp_read_bin(&m, &s), GW_OK);
        assert_int_equal(s.n, sizes[i]);
        buf_free(&b);
    }
    free(data);
}

static void test_ids_and_times(void **state)
{
    (void)state;
    gw_id id = {{1, 2, 3}}, got_id;
    gw_time time = {-1234567}, got_time;
    struct buf b = {0};
    mp_id(&b, &id);
    mp_time(&b, time);
    assert_int_equal(b.len, 18 + 10);
    compare(b.data, b.len);
    compare(b.data + 18, 10);
    struct mp m = mp_over(buf_span(&b));
    assert_int_equal(mp_read_time(&m, &got_time), GW_EPROTO);
    assert_int_equal(mp_read_id(&m, &got_id), GW_OK);
    assert_memory_equal(&id, &got_id, sizeof id);
    assert_int_equal(mp_read_id(&m, &got_id), GW_EPROTO);
    assert_int_equal(mp_read_time(&m, &got_time), GW_OK);
    assert_true(got_time.ms == time.ms);
    const uint8_t wrong_size[] = {0xc7, 4, 2, 0, 0, 0, 0}; /* a time of 4 bytes */
    m = over(wrong_size, sizeof wrong_size);
    assert_int_equal(mp_read_time(&m, &got_time), GW_EPROTO);
    compare(wrong_size, sizeof wrong_size);
    const uint8_t empty_ext[] = {0xc7, 0, 5};
    m = over(empty_ext, sizeof empty_ext);
    assert_int_equal(mp_peek(&m), MP_EXT);
    assert_int_equal(mp_skip(&m, NULL), GW_OK);
    assert_true(mp_done(&m));
    buf_free(&b);
}

/* One of everything. */
static void pack_zoo(struct buf *b)
{
    gw_id id = {{9}};
    mp_map(b, 4);
    mp_str(b, "numbers");
    mp_array(b, 6);
    mp_int(b, -70000);
    mp_uint(b, UINT64_MAX);
    mp_float(b, 2.5);
    mp_bool(b, true);
    mp_nil(b);
    mp_str(b, NULL);
    mp_str(b, "text");
    mp_str(b, "a text of more than thirty-one bytes, so that the header is wide");
    mp_str(b, "ids");
    mp_array(b, 2);
    mp_id(b, &id);
    mp_time(b, (gw_time){1});
    mp_str(b, "bin");
    mp_bin(b, "\0\1\2", 3);
}

static void test_every_truncation(void **state)
{
    (void)state;
    struct buf b = {0};
    pack_zoo(&b);
    assert_true(buf_ok(&b));
    compare(b.data, b.len);
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that the sanitizer sees a read past the end */
        memcpy(exact, b.data, n);
        struct mp m = over(exact, n);
        assert_int_equal(mp_skip(&m, NULL), GW_EPROTO);
        assert_ptr_equal(m.p, exact);
        compare(exact, n);
        free(exact);
    }
    buf_free(&b);
}

/* Each header alone, with 0 to 9 bytes after it. */
static void test_every_header(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        for (size_t n = 1; n <= 20; n++) {
            for (unsigned fill = 0; fill < 256; fill += 51) {
                uint8_t raw[20];
                memset(raw, (int)fill, sizeof raw);
                raw[0] = (uint8_t)c;
                uint8_t *exact = malloc(n);
                memcpy(exact, raw, n);
                compare(exact, n);
                free(exact);
            }
        }
    }
}

static void test_announced_counts(void **state)
{
    (void)state;
    static const uint8_t rows[][10] = {
        {0xdd, 0xff, 0xff, 0xff, 0xff}, /* array of 2^32-1 */
        {0xdf, 0xff, 0xff, 0xff, 0xff}, /* map */
        {0xdb, 0xff, 0xff, 0xff, 0xff}, /* string */
        {0xc6, 0xff, 0xff, 0xff, 0xff}, /* bytes */
        {0xc9, 0xff, 0xff, 0xff, 0xff, 1}, {0xdc, 0xff, 0xff}, {0xde, 0xff, 0xff}, {0x9f}, {0x8f},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mp m = over(rows[i], sizeof rows[i]);
        size_t n = 77;
        assert_int_equal(mp_peek(&m), MP_INVALID);
        assert_int_equal(mp_read_array(&m, &n), GW_EPROTO);
        assert_int_equal(mp_read_map(&m, &n), GW_EPROTO);
        assert_int_equal(mp_skip(&m, NULL), GW_EPROTO);
        assert_int_equal(n, 77);
    }
    /* As many as there are bytes is the most that can be. */
    const uint8_t fits[] = {0x93, 0xc0, 0xc0, 0xc0}, map[] = {0x82, 0xc0, 0xc0, 0xc0};
    struct mp m = over(fits, sizeof fits);
    size_t n;
    assert_int_equal(mp_read_array(&m, &n), GW_OK);
    assert_int_equal(n, 3);
    m = over(map, sizeof map); /* two pairs need four bytes */
    assert_int_equal(mp_read_map(&m, &n), GW_EPROTO);
}

static void test_nesting_bomb(void **state)
{
    (void)state;
    uint8_t deep[LIMIT_DEPTH + 2];
    memset(deep, 0x91, sizeof deep);
    deep[LIMIT_DEPTH] = 0xc0; /* exactly LIMIT_DEPTH arrays around a nil */
    struct mp m = over(deep, LIMIT_DEPTH + 1);
    assert_int_equal(mp_skip(&m, NULL), GW_OK);
    deep[LIMIT_DEPTH - 1] = 0x90; /* the innermost is empty */
    m = over(deep, LIMIT_DEPTH);
    assert_int_equal(mp_skip(&m, NULL), GW_OK);
    deep[LIMIT_DEPTH - 1] = 0x91;
    deep[LIMIT_DEPTH] = 0x91;
    deep[LIMIT_DEPTH + 1] = 0xc0;
    m = over(deep, LIMIT_DEPTH + 2);
    assert_int_equal(mp_skip(&m, NULL), GW_EPROTO);
    deep[LIMIT_DEPTH] = 0x90;
    m = over(deep, LIMIT_DEPTH + 1);
    assert_int_equal(mp_skip(&m, NULL), GW_EPROTO);
    size_t size = 1u << 20;
    uint8_t *bomb = malloc(size);
    memset(bomb, 0x81, size);
    m = over(bomb, size);
    assert_int_equal(mp_skip(&m, NULL), GW_EPROTO);
    free(bomb);
}

static void test_texts_into_arrays(void **state)
{
    (void)state;
    char text[4] = "old";
    struct buf b = {0};
    mp_str(&b, "abc");
    mp_str(&b, "abcd");
    mp_strn(&b, "a\0b", 3);
    mp_nil(&b);
    struct mp m = mp_over(buf_span(&b));
    assert_int_equal(mp_read_text(&m, text, sizeof text), GW_OK);
    assert_string_equal(text, "abc");
    const uint8_t *at = m.p;
    assert_int_equal(mp_read_text(&m, text, sizeof text), GW_EPROTO); /* one too long */
    assert_ptr_equal(m.p, at);
    assert_int_equal(mp_skip(&m, NULL), GW_OK);
    assert_int_equal(mp_read_text(&m, text, sizeof text), GW_EPROTO); /* NUL inside */
    assert_int_equal(mp_skip(&m, NULL), GW_OK);
    assert_int_equal(mp_read_text(&m, text, sizeof text), GW_EPROTO);
    assert_int_equal(mp_read_text_or_nil(&m, text, sizeof text), GW_OK);
    assert_string_equal(text, "");
    assert_true(mp_done(&m));
    assert_int_equal(mp_read_text_or_nil(&m, text, sizeof text), GW_EPROTO);
    buf_free(&b);
}

static void test_fixed_and_skip_n(void **state)
{
    (void)state;
    uint8_t raw[4] = {0};
    struct buf b = {0};
    mp_bin(&b, "abcd", 4);
    mp_int(&b, 1);
    mp_int(&b, 2);
    struct mp m = mp_over(buf_span(&b));
    assert_int_equal(mp_read_fixed(&m, raw, 3), GW_EPROTO);
    assert_int_equal(mp_read_fixed(&m, raw, 4), GW_OK);
    assert_memory_equal(raw, "abcd", 4);
    struct mp before = m;
    assert_int_equal(mp_skip_n(&m, 3), GW_EPROTO);
    assert_ptr_equal(m.p, before.p);
    assert_int_equal(mp_skip_n(&m, 2), GW_OK);
    assert_true(mp_done(&m));
    assert_int_equal(mp_skip_n(&m, 0), GW_OK);
    m = mp_over((struct span){NULL, 0});
    assert_int_equal(mp_peek(&m), MP_END);
    assert_true(mp_done(&m));
    assert_int_equal(mp_skip(&m, NULL), GW_EPROTO);
    buf_free(&b);
}

/* Random bytes, and valid input with one byte changed: same verdict and same reading as the oracle.
 */
static void test_hostile_bytes(void **state)
{
    (void)state;
    struct buf b = {0};
    pack_zoo(&b);
    for (size_t at = 0; at < b.len; at++) {
        for (unsigned v = 0; v < 256; v += 3) {
            uint8_t was = b.data[at];
            b.data[at] = (uint8_t)v;
            compare(b.data, b.len);
            b.data[at] = was;
        }
    }
    uint64_t seed = 12345;
    for (int round = 0; round < 20000; round++) {
        uint8_t raw[24];
        for (size_t i = 0; i < sizeof raw; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            raw[i] = (uint8_t)(seed >> 56);
        }
        compare(raw, sizeof raw);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_of_every_width),
        cmocka_unit_test(test_integers_not_shortest),
        cmocka_unit_test(test_integer_limits),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_payloads_of_every_width),
        cmocka_unit_test(test_ids_and_times),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_header),
        cmocka_unit_test(test_announced_counts),
        cmocka_unit_test(test_nesting_bomb),
        cmocka_unit_test(test_texts_into_arrays),
        cmocka_unit_test(test_fixed_and_skip_n),
        cmocka_unit_test(test_hostile_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
