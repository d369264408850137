/* Buffers: growth, the sticky failure, spans, big-endian numbers. */
#include "protocol/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_zero_is_empty_and_usable(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_true(buf_ok(&b));
    assert_int_equal(buf_span(&b).n, 0);
    buf_add(&b, NULL, 0);
    buf_drop(&b, 0);
    buf_drop(&b, 5);
    buf_reset(&b);
    buf_put_u32(&b, 0, 1);
    assert_int_equal(b.len, 0);
    buf_free(&b);
    buf_free(&b);
}

static void test_appends_grow(void **state)
{
    (void)state;
    struct buf b = {0};
    for (unsigned i = 0; i < 1000; i++) {
        buf_addf(&b, "%u,", i);
    }
    assert_true(buf_ok(&b));
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(b.data, "0,1,2,3,", 8);
    buf_drop(&b, 4);
    assert_memory_equal(b.data, "2,3,", 4);
    size_t cap = b.cap;
    buf_reset(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap);
    buf_addf(&b, "%s", "");
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void test_numbers_are_big_endian(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add_u32(&b, 0x01020304u);
    buf_add_u64(&b, 0x05060708090a0b0cull);
    assert_int_equal(b.len, 12);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(b.data[i], i + 1);
    }
    assert_int_equal(load_u32(b.data), 0x01020304u);
    assert_true(load_u64(b.data + 4) == 0x05060708090a0b0cull);
    buf_put_u32(&b, 8, 0xffffffffu);
    assert_int_equal(load_u32(b.data + 8), 0xffffffffu);
    buf_put_u32(&b, 9, 7); /* does not fit: nothing happens */
    buf_put_u32(&b, SIZE_MAX, 7);
    assert_int_equal(load_u32(b.data + 8), 0xffffffffu);
    buf_free(&b);
}

static void test_failure_sticks_until_reset(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add(&b, "abc", 3);
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_false(buf_reserve(&b, SIZE_MAX / 2));
    assert_false(buf_ok(&b));
    buf_add(&b, "d", 1);
    buf_addf(&b, "e");
    assert_int_equal(b.len, 3);
    assert_false(buf_ok(&b));
    buf_reset(&b);
    buf_add(&b, "d", 1);
    assert_true(buf_ok(&b));
    struct buf taken = buf_take(&b);
    assert_null(b.data);
    assert_int_equal(taken.len, 1);
    buf_free(&taken);
    buf_free(&b);
}

static void test_spans(void **state)
{
    (void)state;
    const uint8_t raw[] = {'a', 'b', 0, 'c'};
    struct span ab = {raw, 2}, nul = {raw, 4}, none = {NULL, 0};
    char text[3];
    assert_true(span_is(ab, "ab"));
    assert_false(span_is(ab, "a"));
    assert_false(span_is(ab, "abc"));
    assert_false(span_is(nul, "ab"));
    assert_true(span_is(none, ""));
    assert_false(span_is(none, "a"));
    assert_true(span_text(ab, text, sizeof text));
    assert_string_equal(text, "ab");
    assert_false(span_text(ab, text, 2));
    assert_string_equal(text, "");
    assert_false(span_text(nul, text, sizeof text));
    char wide[10];
    assert_false(span_text(nul, wide, sizeof wide));
    assert_true(span_text(none, wide, sizeof wide));
    assert_string_equal(wide, "");
}

static void test_owned_locals(void **state)
{
    (void)state;
    GW_AUTO(buf_free) struct buf b = {0};
    buf_add(&b, "x", 1);
    GW_AUTO(free_charp) char *text = xstrdup("owned");
    assert_string_equal(text, "owned");
    free_charp(&text);
    assert_null(text);
    void *zero = xcalloc(4, 4);
    assert_memory_equal(zero, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    free(zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_is_empty_and_usable),
        cmocka_unit_test(test_appends_grow),
        cmocka_unit_test(test_numbers_are_big_endian),
        cmocka_unit_test(test_failure_sticks_until_reset),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_owned_locals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
