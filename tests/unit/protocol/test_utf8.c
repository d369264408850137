/* What is UTF-8 and what is not, at the edges of each length. */
#include "protocol/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_valid(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "ascii",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "12345678\xc3\xbcxyz",
    };
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc3",
        "\xc3(",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe2\x82",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf0\x9f\x90",
        "\xfe",
        "\xff",
        "12345678\xc3",
        "1234567\xff",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(utf8_is_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(utf8_is_valid(bad[i], strlen(bad[i])));
    }
    for (size_t n = 1; n < 20; n++) { /* NUL at each place, in and after a word of eight */
        char text[20];
        memset(text, 'x', sizeof text);
        assert_true(utf8_is_valid(text, n));
        text[n - 1] = '\0';
        assert_false(utf8_is_valid(text, n));
    }
}

static void test_step_and_run(void **state)
{
    (void)state;
    assert_int_equal(utf8_step("a", 1), 1);
    assert_int_equal(utf8_step("\0", 1), 1);
    assert_int_equal(utf8_step("\xc3\xbc", 2), 2);
    assert_int_equal(utf8_step("\xc3\xbc", 1), 0); /* cut */
    assert_int_equal(utf8_step("\xf0\x9f\x90\xa6", 4), 4);
    assert_int_equal(utf8_step("\xf0\x9f\x90\xa6", 3), 0);
    assert_int_equal(utf8_run("abc\xff", 4), 3);
    assert_int_equal(utf8_run("abc\0d", 5), 3);
    assert_int_equal(utf8_run("", 0), 0);
}

/* Against the definition: every code point in its own encoding, and nothing else of that length. */
static void test_every_code_point(void **state)
{
    (void)state;
    unsigned valid = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char s[4];
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
        for (size_t i = n - 1; i > 0; i--) {
            s[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
        }
        s[0] = (char)(lead[n] | c >> (6 * (n - 1)));
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        assert_int_equal(utf8_step(s, n), surrogate ? 0 : n);
        valid += !surrogate;
    }
    unsigned found = 0; /* of three bytes: exactly as many as there are code points */
    for (uint32_t c = 0; c < 1u << 24; c++) {
        const char s[3] = {(char)(c >> 16), (char)(c >> 8), (char)c};
        found += (c >> 16) >= 0x80 && utf8_step(s, 3) == 3;
    }
    assert_int_equal(found, 0x10000 - 0x800 - 2048);
    assert_int_equal(valid, 0x110000 - 2048);
}

static void test_clean(void **state)
{
    (void)state;
    char text[] = "a\nb\xff\xc3\xbc\x7f\xc2\x9b\xc2\xa0";
    utf8_clean(text);
    assert_string_equal(text, "a?b?\xc3\xbc???\xc2\xa0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_step_and_run),
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
