/* The error table: names, numbers and texts are whole, and a context grows without overflow. */
#include <godwit/err.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const gw_err all[] = {
#define GW_ERR(name, wire, http, exit_code, text) GW_E##name,
#include "godwit/err.def"
#undef GW_ERR
};
#define ALL (sizeof all / sizeof all[0])

static void test_every_row_is_whole_and_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        const char *name = gw_err_name(all[i]);
        assert_true(strlen(name) > 1 && strlen(name) < 32);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        assert_int_equal(gw_err_from_name(name), all[i]);
        assert_int_equal(gw_err_from_wire((unsigned)all[i]), all[i]);
        assert_in_range(gw_err_http(all[i]), 400, 599);
        assert_in_range(gw_err_exit(all[i]), 1, 255);
        assert_true(strlen(gw_err_text(all[i])) > 3);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(all[i], all[k]);
            assert_string_not_equal(name, gw_err_name(all[k]));
        }
    }
}

static void test_ok_and_unknown(void **state)
{
    (void)state;
    assert_string_equal(gw_err_name(GW_OK), "ok");
    assert_int_equal(gw_err_http(GW_OK), 200);
    assert_int_equal(gw_err_exit(GW_OK), 0);
    assert_int_equal(gw_err_from_name("ok"), GW_OK);
    assert_int_equal(gw_err_from_wire(0), GW_OK);
    assert_int_equal(gw_err_from_wire(60000), GW_EFAIL);
    assert_int_equal(gw_err_from_wire(0xffffffffu), GW_EFAIL);
    assert_int_equal(gw_err_from_name("no_such_code"), GW_EFAIL);
    assert_int_equal(gw_err_from_name(""), GW_EFAIL);
    assert_string_equal(gw_err_name((gw_err)60000), "fail");
    assert_string_equal(gw_err_name(GW_EAGENT_NOT_FOUND), "agent_not_found");
}

static void test_fail_fills_and_returns(void **state)
{
    (void)state;
    struct gw_error why = {.hint = "old"};
    assert_int_equal(gw_fail(&why, GW_EARG, "the size of \"%s\" is not a number", "x"), GW_EARG);
    assert_int_equal(why.code, GW_EARG);
    assert_string_equal(why.text, "the size of \"x\" is not a number");
    assert_string_equal(why.hint, "");
    gw_hint(&why, "give %d", 5);
    assert_string_equal(why.hint, "give 5");
    gw_prefix(&why, "in \"%s\"", "file");
    assert_string_equal(why.text, "in \"file\": the size of \"x\" is not a number");
    assert_int_equal(gw_fail(NULL, GW_EIO, "nobody listens"), GW_EIO);
    gw_hint(NULL, "nor here");
    gw_prefix(NULL, "nor here");
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    char longer[1000];
    struct gw_error why = {0};
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    (void)gw_fail(&why, GW_EARG, "%s", longer);
    assert_int_equal(strlen(why.text), sizeof why.text - 1);
    gw_hint(&why, "%s", longer);
    assert_int_equal(strlen(why.hint), sizeof why.hint - 1);
    gw_prefix(&why, "%s", longer);
    assert_int_equal(strlen(why.text), sizeof why.text - 1);
    (void)gw_fail(&why, GW_EARG, "short");
    gw_prefix(&why, "%s", longer);
    assert_int_equal(strlen(why.text), sizeof why.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_is_whole_and_unique),
        cmocka_unit_test(test_ok_and_unknown),
        cmocka_unit_test(test_fail_fills_and_returns),
        cmocka_unit_test(test_long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
