/* Option tables, nearest names, and the counting of arguments. */
#include "clients/cli/option.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "clients/cli/cli.h"

static const struct cli_option global[] = {
    {"json", 0, OPTION_FLAG, NULL, "JSON"},
    {"host", 'H', OPTION_TEXT, "NAME", "the host"},
    {0},
};
static const struct cli_option own[] = {
    {"follow", 'f', OPTION_FLAG, NULL, "go on"},
    {"limit", 'n', OPTION_INT, "N", "at most"},
    {"wait", 0, OPTION_DURATION, "D", "how long"},
    {"tag", 0, OPTION_LIST, "TAG", "again for more"},
    {0},
};

#define PARSE(o, ret_first, why, ...)                                                              \
    parse((o), (ret_first), (why), (const char *[]){"cmd", __VA_ARGS__, NULL})

static gw_err parse(struct options *o, int *ret_first, struct gw_error *why, const char **argv)
{
    int argc = 0;
    while (argv[argc]) {
        argc++;
    }
    *o = (struct options){.global = global, .own = own};
    *why = (struct gw_error){0};
    return options_parse(o, argc, (char **)(uintptr_t)argv, false, ret_first, why);
}

static void kinds(void **state)
{
    (void)state;
    struct options o;
    struct gw_error why;
    int first;
    const char *argv[] = {"cmd", "A",       "--json", "-n",   "-5",      "k=v", "--tag",
                          "a",   "--tag=b", "--wait", "1.5s", "-Halpha", "-f",  NULL};
    assert_int_equal(parse(&o, &first, &why, argv), GW_OK);
    assert_true(option_given(&o, "json"));
    assert_true(option_given(&o, "follow"));
    assert_int_equal(option_int(&o, "limit", 1), -5);
    assert_int_equal(option_int(&o, "wait", 1), 1500);
    assert_string_equal(option_text(&o, "host"), "alpha");
    assert_int_equal(option_list(&o, "tag")->len, 2);
    assert_string_equal(option_list(&o, "tag")->items[1], "b");
    assert_string_equal(argv[first], "A");
    assert_string_equal(argv[first + 1], "k=v");
    assert_null(argv[first + 2]);
    options_free(&o);
}

static void defaults_and_dashes(void **state)
{
    (void)state;
    struct options o;
    struct gw_error why;
    int first;
    const char *argv[] = {"cmd", "--", "--json", "-f", NULL};
    assert_int_equal(parse(&o, &first, &why, argv), GW_OK);
    assert_false(option_given(&o, "json"));
    assert_null(option_text(&o, "host"));
    assert_int_equal(option_int(&o, "limit", 7), 7);
    assert_string_equal(argv[first], "--json");
    assert_string_equal(argv[first + 1], "-f");
    options_free(&o);
}

static void stops_at_the_command(void **state)
{
    (void)state;
    struct options o = {.global = global};
    struct gw_error why;
    int first;
    const char *words[] = {"godwit", "--json", "-H", "alpha", "send", "--host", "beta", NULL};
    char **argv = (char **)(uintptr_t)words;
    assert_int_equal(options_parse(&o, 7, argv, true, &first, &why), GW_OK);
    assert_string_equal(argv[first], "send");
    assert_string_equal(option_text(&o, "host"), "alpha");
    /* the second pass adds to the first */
    o.own = own;
    int second;
    assert_int_equal(options_parse(&o, 7 - first, argv + first, false, &second, &why), GW_OK);
    assert_string_equal(option_text(&o, "host"), "beta");
    assert_true(option_given(&o, "json"));
    options_free(&o);
}

static void refusals(void **state)
{
    (void)state;
    struct options o;
    struct gw_error why;
    int first;
    assert_int_equal(PARSE(&o, &first, &why, "--folow"), GW_EARG);
    assert_string_equal(why.text, "unknown option \"--folow\"");
    assert_string_equal(why.hint, "did you mean --follow?");
    options_free(&o);
    assert_int_equal(PARSE(&o, &first, &why, "--nonsense=5"), GW_EARG);
    assert_string_equal(why.text, "unknown option \"--nonsense\"");
    assert_string_equal(why.hint, "");
    options_free(&o);
    assert_int_equal(PARSE(&o, &first, &why, "-x"), GW_EARG);
    assert_string_equal(why.text, "unknown option \"-x\"");
    options_free(&o);
    assert_int_equal(PARSE(&o, &first, &why, "--limit"), GW_EARG);
    assert_non_null(strstr(why.text, "needs a value"));
    options_free(&o);
    assert_int_equal(PARSE(&o, &first, &why, "--json=yes"), GW_EARG);
    assert_non_null(strstr(why.text, "takes no value"));
    options_free(&o);
    assert_int_equal(PARSE(&o, &first, &why, "--limit", "many"), GW_EARG);
    assert_non_null(strstr(why.text, "\"many\" is not a whole number"));
    options_free(&o);
    assert_int_equal(PARSE(&o, &first, &why, "--wait", "-5s"), GW_EARG);
    assert_non_null(strstr(why.text, "duration"));
    options_free(&o);
}

static void nearest(void **state)
{
    (void)state;
    const char *const names[] = {"status", "stop", "send", "show", "agents"};
    assert_string_equal(nearest_name("satus", names, 5), "status");
    assert_string_equal(nearest_name("statsu", names, 5), "status");
    assert_string_equal(nearest_name("sned", names, 5), "send");
    assert_string_equal(nearest_name("agent", names, 5), "agents");
    assert_null(nearest_name("frobnicate", names, 5));
    assert_null(nearest_name("this-word-is-far-longer-than-any-command", names, 5));
    assert_null(nearest_name("send", names, 0));
}

static void counts(void **state)
{
    (void)state;
    int least, most;
    cli_count_args("", &least, &most);
    assert_int_equal(least, 0);
    assert_int_equal(most, 0);
    cli_count_args("AGENT [SELECTOR]", &least, &most);
    assert_int_equal(least, 1);
    assert_int_equal(most, 2);
    cli_count_args("AGENT METHOD [KEY=VALUE]...", &least, &most);
    assert_int_equal(least, 2);
    assert_int_equal(most, INT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),    cmocka_unit_test(defaults_and_dashes),
        cmocka_unit_test(refusals), cmocka_unit_test(stops_at_the_command),
        cmocka_unit_test(nearest),  cmocka_unit_test(counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
