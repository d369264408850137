#include "host/files/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

static void parts_fit(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool fits, hidden;
    } cases[] = {
        {"", "", true, false},
        {"a", "a", true, false},
        {"a", "b", false, false},
        {"*", "", true, false},
        {"*", "abc", true, false},
        {"*", ".abc", false, false},
        {"*", ".abc", true, true},
        {".*", ".abc", true, false},
        {"?", ".", false, false},
        {"[.]a", ".a", false, false},
        {"\\.a", ".a", true, false},
        {"a*c", "abbbc", true, false},
        {"a*c", "abbbcd", false, false},
        {"a*b*c", "aXbYbZc", true, false},
        {"*.c", "x.c.c", true, false},
        {"???", "ab", false, false},
        {"???", "abc", true, false},
        {"[abc]", "b", true, false},
        {"[a-c]x", "bx", true, false},
        {"[!a-c]", "b", false, false},
        {"[^a-c]", "d", true, false},
        {"[]]", "]", true, false},
        {"[]a]", "a", true, false},
        {"[a-]", "-", true, false},
        {"[\\]]", "]", true, false},
        {"[", "[", true, false},
        {"\\*", "*", true, false},
        {"\\*", "a", false, false},
        {"a\\", "a\\", true, false},
        {"*\n*", "a\nb", true, false},
        {"[\x80-\xff]", "\xc3", true, false},
        {"**", "ab", true, false},
        {"*a", "b", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (names_fit(cases[i].pattern, cases[i].name, cases[i].hidden) != cases[i].fits) {
            fail_msg("case %zu: \"%s\" and \"%s\"", i, cases[i].pattern, cases[i].name);
        }
    }
}

static void paths_fit(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path;
        bool fits, hidden;
    } cases[] = {
        {"a/b", "a/b", true, false},
        {"a/*", "a/b", true, false},
        {"a/*", "a/b/c", false, false},
        {"*", "a/b", false, false},
        {"**", "a/b/c", true, false},
        {"**/c", "a/b/c", true, false},
        {"**/c", "c", true, false},
        {"a/**", "a/b/c", true, false},
        {"a/**", "a", true, false},
        {"a/**/c", "a/c", true, false},
        {"a/**/c", "a/b/b/c", true, false},
        {"a/**/c", "a/b/c/d", false, false},
        {"**/b/**/d", "a/b/c/b/d", true, false},
        {"**/x", "a/.b/x", false, false},
        {"**/x", "a/.b/x", true, true},
        {"a**", "a/b", false, false},
        {"**/a/b", "a/b/a/b", true, false},
        {"a/b/c", "a/b", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (names_fit_path(cases[i].pattern, cases[i].path, cases[i].hidden) != cases[i].fits) {
            fail_msg("case %zu: \"%s\" and \"%s\"", i, cases[i].pattern, cases[i].path);
        }
    }
}

/* Patterns that take an exponential time where it is not seen to. */
static void no_pattern_takes_long(void **state)
{
    (void)state;
    char pattern[101] = "", name[4001], path[4001];
    for (int i = 0; i < 50; i++) {
        memcpy(pattern + 2 * i, "*a", 3);
    }
    memset(name, 'a', 4000);
    name[4000] = '\0';
    name[3999] = 'b';
    assert_false(names_fit(pattern, name, false));
    for (int i = 0; i < 4000; i++) {
        path[i] = i % 2 ? '/' : 'a';
    }
    path[3999] = 'b';
    path[4000] = '\0';
    assert_false(names_fit_path("**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/c", path, false));
}

static void wrong_patterns(void **state)
{
    (void)state;
    static char longest[LIMIT_FILE_PATTERN_BYTES + 2];
    memset(longest, 'a', LIMIT_FILE_PATTERN_BYTES + 1);
    const char *const wrong[] = {"", "[", "a/[b/c]", "a\\", "a\\/b", "[]", "[!]", longest};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gw_error why = {0};
        assert_int_equal(names_check_pattern(wrong[i], &why), GW_EARG);
        assert_true(why.text[0] != '\0');
    }
    longest[LIMIT_FILE_PATTERN_BYTES] = '\0';
    const char *const right[] = {"*", "[]]", "\\[", "a/**/[b-d]", "]", longest};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        assert_int_equal(names_check_pattern(right[i], NULL), GW_OK);
    }
    assert_true(names_is_pattern("a/b?"));
    assert_false(names_is_pattern("a\\*b"));
    assert_false(names_is_pattern(""));
}

static void a_screen_sees_no_control(void **state)
{
    (void)state;
    char room[20];
    static const struct {
        const char *name, *shown;
    } cases[] = {
        {"plain", "plain"},
        {"a\x1b[31m\n\x7f", "a?[31m??"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xff\xc3", "??"},
        {"\xc2\x9b"
         "31m",
         "?31m"}, /* CSI as one character */
        {"0123456789012345678", "0123456789012345678"},
        {"01234567890123456789", "01234567...23456789"},
        {"\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc",
         "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc...\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(names_show(cases[i].name, room, sizeof room), cases[i].shown);
    }
    char long_name[256];
    for (size_t n = 1; n < 255; n++) {
        memset(long_name, n % 3 ? 0xc3 : 'x', n);
        long_name[n] = '\0';
        assert_true(strlen(names_show(long_name, room, sizeof room)) < sizeof room);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_fit),
        cmocka_unit_test(paths_fit),
        cmocka_unit_test(no_pattern_takes_long),
        cmocka_unit_test(wrong_patterns),
        cmocka_unit_test(a_screen_sees_no_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
