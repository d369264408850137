/* Texts that people type and read. */
#include "protocol/text.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"250ms", 250},     {"5s", 5000},      {"2m", 120000},
        {"2h", 7200000},    {"3d", 259200000}, {"5", 5000},
        {"0", 0},           {"0.5", 500},      {"1.5h", 5400000},
        {"2h 5m", 7500000}, {"1m30s", 90000},  {"340 ms", 340},
        {"5.2s", 5200},     {"0.0015s", 1},    {"106751991167d", 106751991167ll * 86400000},
        {"5S", 5000},
    };
    static const char *const bad[] = {"",
                                      "s",
                                      "-5s",
                                      "5x",
                                      "5s5",
                                      "5 5",
                                      " 5s",
                                      "1e3s",
                                      "5..5s",
                                      ".5s",
                                      "5.",
                                      "0s5",
                                      "+5",
                                      "106751991168d",
                                      "99999999999999999999s",
                                      "9223372036854775807d",
                                      "5\n"};
    for (size_t i = 0; i < COUNT(good); i++) {
        int64_t ms = -1;
        assert_int_equal(text_duration(good[i].text, &ms), GW_OK);
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t ms = -1;
        assert_int_equal(text_duration(bad[i], &ms), GW_EARG);
        assert_true(ms == -1);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"300", 300},
        {"64K", 65536},
        {"64k", 65536},
        {"64KB", 65536},
        {"64KiB", 65536},
        {"64 kib", 65536},
        {"1.5G", 1610612736},
        {"2T", 2ull << 40},
        {"5B", 5},
        {"0", 0},
        {"0.5M", 524288},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", 16777215ull << 40},
    };
    static const char *const bad[] = {
        "",          "K",   "-1",    "5X", "5iB", "5KiBs", "5K5", "18446744073709551616",
        "16777216T", "1e3", "5 K 5", "KB", "0x10"};
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t bytes = 1;
        assert_int_equal(text_size(good[i].text, &bytes), GW_OK);
        assert_true(bytes == good[i].bytes);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t bytes = 1;
        assert_int_equal(text_size(bad[i], &bytes), GW_EARG);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    int64_t i = 7;
    uint64_t u = 7;
    double f = 7;
    bool b = false;
    assert_int_equal(text_int("-9223372036854775808", &i), GW_OK);
    assert_true(i == INT64_MIN);
    assert_int_equal(text_int("+12", &i), GW_OK);
    assert_int_equal(text_int("9223372036854775808", &i), GW_EARG);
    assert_int_equal(text_int("12a", &i), GW_EARG);
    assert_int_equal(text_int(" 12", &i), GW_EARG);
    assert_int_equal(text_int("", &i), GW_EARG);
    assert_int_equal(text_int("-", &i), GW_EARG);
    assert_int_equal(text_int("--1", &i), GW_EARG);
    assert_int_equal(i, 12);
    assert_int_equal(text_uint("18446744073709551615", &u), GW_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(text_uint("18446744073709551616", &u), GW_EARG);
    assert_int_equal(text_uint("-1", &u), GW_EARG);
    assert_int_equal(text_uint("", &u), GW_EARG);
    assert_int_equal(text_float("-1.5e3", &f), GW_OK);
    assert_true(f == -1500);
    static const char *const bad[] = {"",    "nan",  "inf", "1e999", "0x10",
                                      "1,5", "1.5 ", " 1",  "e5",    "-"};
    for (size_t k = 0; k < COUNT(bad); k++) {
        assert_int_equal(text_float(bad[k], &f), GW_EARG);
    }
    assert_int_equal(text_bool("Yes", &b), GW_OK);
    assert_true(b);
    assert_int_equal(text_bool("off", &b), GW_OK);
    assert_false(b);
    assert_int_equal(text_bool("maybe", &b), GW_EARG);
}

/* A program may have called setlocale(): a point stays a point. */
static void test_numbers_in_another_locale(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) {
        skip();
    }
    double f;
    assert_int_equal(text_float("1.5", &f), GW_OK);
    assert_true(f == 1.5);
    setlocale(LC_NUMERIC, "C");
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-01-01T00:00:00Z", 1767225600000},
        {"2026-11-22T10:00:00.000Z", 1795341600000},
        {"2026-11-22t12:00:00.5+02:00", 1795341600500},
        {"2026-11-22 09:59:59.9999999-00:00", 1795341599999},
        {"1969-12-31T23:59:59.999Z", -1},
        {"2024-02-29T00:00:00Z", 1709164800000},
        {"2000-02-29T00:00:00Z", 951782400000},
        {"2016-12-31T23:59:60Z", 1483228800000}, /* leap second: the next one */
        {"0000-01-01T00:00:00Z", -62167219200000},
        {"9999-12-31T23:59:59.999Z", 253402300799999},
    };
    static const char *const bad[] = {
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+0200",
        "2026-01-01T00:00:00Zx",
        "26-01-01T00:00:00Z",
        "2026-1-01T00:00:00Z",
        "+2026-01-01T00:00:00Z",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        gw_time t = {1};
        assert_int_equal(text_time(good[i].text, &t), GW_OK);
        assert_true(t.ms == good[i].ms);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        gw_time t = {1};
        assert_int_equal(text_time(bad[i], &t), GW_EARG);
        assert_true(t.ms == 1);
    }
}

static void test_times_both_ways(void **state)
{
    (void)state;
    char text[TEXT_TIME_SIZE];
    for (int64_t ms = -62167219200000; ms < 253402300800000; ms += 86400000ll * 37 + 12345678) {
        gw_time back = {0};
        text_from_time((gw_time){ms}, text);
        assert_int_equal(strlen(text), 24);
        assert_int_equal(text_time(text, &back), GW_OK);
        assert_true(back.ms == ms);
    }
    assert_string_equal(text_from_time((gw_time){1795341600000}, text), "2026-11-22T10:00:00.000Z");
    assert_string_equal(text_from_time((gw_time){INT64_MAX}, text),
                        "292278994-08-17T07:12:55.807Z");
    assert_true(strlen(text_from_time((gw_time){INT64_MIN}, text)) < TEXT_TIME_SIZE);
}

static void test_for_people(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *text;
    } sizes[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {1048575, "1 MiB"},
        {1048576, "1 MiB"},
        {1610612736, "1.5 GiB"},
        {3ull << 40, "3 TiB"},
        {UINT64_MAX, "16 EiB"},
        {10291, "10 KiB"},
        {10343, "10.1 KiB"},
    };
    static const struct {
        int64_t ms;
        const char *text;
    } durations[] = {
        {0, "0 ms"},          {340, "340 ms"},  {999, "999 ms"},      {1000, "1s"},
        {5250, "5.2s"},       {59999, "59.9s"}, {60000, "1m"},        {90000, "1m 30s"},
        {7500000, "2h 5m"},   {7200000, "2h"},  {277200000, "3d 5h"}, {-340, "-340 ms"},
        {-7500000, "-2h 5m"},
    };
    char text[TEXT_SHORT_SIZE];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        assert_string_equal(text_from_bytes(sizes[i].n, text), sizes[i].text);
    }
    for (size_t i = 0; i < COUNT(durations); i++) {
        assert_string_equal(text_from_duration(durations[i].ms, text), durations[i].text);
        int64_t back;
        if (durations[i].ms >= 0 && durations[i].ms != 5250 && durations[i].ms != 59999) {
            assert_int_equal(text_duration(text, &back), GW_OK);
            assert_true(back == durations[i].ms);
        }
    }
    assert_true(strlen(text_from_duration(INT64_MAX, text)) < TEXT_SHORT_SIZE);
    assert_true(strlen(text_from_duration(INT64_MIN, text)) < TEXT_SHORT_SIZE);
}

static void test_clean(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain gr\xc3\xbc\xc3\x9f", "plain gr\xc3\xbc\xc3\x9f"},
        {"a\nb\x1b[31m\x7f", "a?b?[31m?"},
        {"\xff\xc3", "??"},
        {"\xc2\x9b"
         "31m",
         "??31m"}, /* U+009B: an escape of one character */
        {"\xc2\xa0", "\xc2\xa0"},
        {"", ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[64];
        strncpy(text, rows[i].in, sizeof text - 1);
        text[sizeof text - 1] = '\0';
        text_clean(text);
        assert_string_equal(text, rows[i].out);
    }
}

static size_t column_of_caret(const struct gw_error *why)
{
    const char *second = strchr(why->hint, '\n');
    assert_non_null(second);
    const char *caret = strchr(second, '^');
    assert_non_null(caret);
    assert_string_equal(caret, "^");
    return (size_t)(caret - second - 1);
}

static void test_caret(void **state)
{
    (void)state;
    struct gw_error why = {0};
    text_caret(&why, "abc def", 4);
    assert_string_equal(why.hint, "abc def\n    ^");
    text_caret(&why, "abc", 3);
    assert_string_equal(why.hint, "abc\n   ^");
    text_caret(&why,
               "\xc3\xbc"
               "bc",
               2); /* columns, not bytes */
    assert_string_equal(why.hint, "\xc3\xbc"
                                  "bc\n ^");
    text_caret(&why, "a\tb\nc", 4);
    assert_string_equal(why.hint, "a?b?c\n    ^");
    text_caret(NULL, "abc", 1);
    char longer[4000];
    memset(longer, '.', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    for (size_t at = 0; at < sizeof longer; at += 39) {
        char was = longer[at];
        longer[at] = 'X';
        text_caret(&why, longer, at);
        assert_int_equal(why.hint[column_of_caret(&why)], 'X');
        longer[at] = was;
    }
    text_caret(&why, longer, sizeof longer - 1);
    assert_true(column_of_caret(&why) < 90);
}

static void test_base64(void **state)
{
    (void)state;
    gw_bytes b = {0};
    static const struct {
        const char *text, *bytes;
    } rows[] = {{"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9vYmFy", "foobar"}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = {0};
        assert_int_equal(text_base64(rows[i].text, strlen(rows[i].text), &b), GW_OK);
        assert_int_equal(b.len, strlen(rows[i].bytes));
        text_add_base64(b.data, b.len, &out);
        assert_int_equal(out.len, strlen(rows[i].text));
        assert_true(out.len == 0 || memcmp(out.data, rows[i].text, out.len) == 0);
        buf_free(&out);
    }
    static const char *const bad[] = {"Z", "Zg", "Zg=", "Zm9v!", "Zm 9v", "====", "Zm9v\n"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(text_base64(bad[i], strlen(bad[i]), &b), GW_EARG);
        assert_int_equal(b.len, 6);
    }
    gw_bytes_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),  cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_numbers_in_another_locale),
        cmocka_unit_test(test_times),      cmocka_unit_test(test_times_both_ways),
        cmocka_unit_test(test_for_people), cmocka_unit_test(test_clean),
        cmocka_unit_test(test_caret),      cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
