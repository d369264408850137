/* References to artifacts as texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <godwit/artifact.h>

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HOST "0123456789012345678901234567890123456789012345678901234567890123"

static void test_texts_go_there_and_back(void **state)
{
    static const char *const good[] = {HASH, HASH "@alpha", HASH "@" HOST};
    char text[GW_ARTIFACT_TEXT];
    struct gw_artifact a;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(gw_artifact_parse(good[i], &a), GW_OK);
        assert_string_equal(gw_artifact_text(&a, text), good[i]);
        assert_string_equal(a.hash, HASH);
        gw_value v = gw_artifact_value(&a);
        assert_int_equal(v.kind, GW_STR);
        assert_string_equal(v.s.p, good[i]);
        gw_value_free(&v);
    }
    assert_int_equal(gw_artifact_parse("ABCDEF"
                                       "6789abcdef0123456789abcdef0123456789abcdef"
                                       "0123456789abcdef",
                                       &a),
                     GW_OK);
    assert_memory_equal(a.hash, "abcdef6789", 10);
    assert_string_equal(a.host, "");
}

static void test_other_texts_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "@alpha",
        "abc",
        HASH "0",
        HASH "@",
        HASH "@" HOST "0",
        "x123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    struct gw_artifact a = {.size = 7};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(gw_artifact_parse(bad[i], &a), GW_EARG);
        assert_int_equal(a.size, 7); /* written only on success */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_go_there_and_back),
        cmocka_unit_test(test_other_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
