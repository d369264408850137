/* What a GET asks: ranges and entity tags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "host/content_range.h"

static void test_ranges(void **state)
{
    static const struct {
        const char *value;
        uint64_t size;
        range_kind kind;
        uint64_t from, to;
    } cases[] = {
        {NULL, 10, RANGE_ALL, 0, 0},
        {"bytes=0-", 10, RANGE_PART, 0, 10},
        {"bytes=0-0", 10, RANGE_PART, 0, 1},
        {"Bytes=3-5", 10, RANGE_PART, 3, 6},
        {"bytes= 3-5 ", 10, RANGE_PART, 3, 6},
        {"bytes=9-9", 10, RANGE_PART, 9, 10},
        {"bytes=9-10", 10, RANGE_PART, 9, 10},
        {"bytes=9-99999999999999999999999999", 10, RANGE_PART, 9, 10},
        {"bytes=10-", 10, RANGE_NONE, 0, 0},
        {"bytes=10-20", 10, RANGE_NONE, 0, 0},
        {"bytes=99999999999999999999999999-", 10, RANGE_NONE, 0, 0},
        {"bytes=-1", 10, RANGE_PART, 9, 10},
        {"bytes=-10", 10, RANGE_PART, 0, 10},
        {"bytes=-99999999999999999999999999", 10, RANGE_PART, 0, 10},
        {"bytes=-0", 10, RANGE_NONE, 0, 0},
        {"bytes=-5", 0, RANGE_NONE, 0, 0},
        {"bytes=0-", 0, RANGE_NONE, 0, 0},
        {"bytes=0-18446744073709551615", UINT64_MAX, RANGE_PART, 0, UINT64_MAX},
        /* not understood, or more than one: the whole */
        {"", 10, RANGE_ALL, 0, 0},
        {"bytes", 10, RANGE_ALL, 0, 0},
        {"bytes=", 10, RANGE_ALL, 0, 0},
        {"bytes=-", 10, RANGE_ALL, 0, 0},
        {"bytes=5", 10, RANGE_ALL, 0, 0},
        {"bytes=5-3", 10, RANGE_ALL, 0, 0},
        {"bytes=1-2,4-5", 10, RANGE_ALL, 0, 0},
        {"bytes=1-2x", 10, RANGE_ALL, 0, 0},
        {"bytes=a-b", 10, RANGE_ALL, 0, 0},
        {"bytes=+1-2", 10, RANGE_ALL, 0, 0},
        {"bytes=--2", 10, RANGE_ALL, 0, 0},
        {"lines=1-2", 10, RANGE_ALL, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t from = 0, to = 0;
        print_message("%s\n", cases[i].value ? cases[i].value : "none");
        range_kind kind = content_range_parse(cases[i].value, cases[i].size, &from, &to);
        assert_int_equal(kind, cases[i].kind);
        if (kind == RANGE_PART) {
            assert_true(from == cases[i].from && to == cases[i].to);
        }
    }
}

static void test_tags(void **state)
{
    (void)state;
    assert_false(content_is_known(NULL, "abc"));
    assert_false(content_is_known("", "abc"));
    assert_true(content_is_known("*", "abc"));
    assert_true(content_is_known("\"abc\"", "abc"));
    assert_true(content_is_known("W/\"abc\"", "abc"));
    assert_true(content_is_known(" \"x,y\" ,\t\"abc\"", "abc"));
    assert_true(content_is_known("\"x\", *", "abc"));
    assert_false(content_is_known("\"abcd\", \"ab\"", "abc"));
    assert_false(content_is_known("abc", "abc"));
    assert_false(content_is_known("\"abc", "abc"));
    assert_false(content_is_known("\"x\" W/", "abc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
