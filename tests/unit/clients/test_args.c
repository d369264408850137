/* key=value and key:=JSON. */
#include "clients/cli/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

static gw_err parse(const char *const *words, int n, gw_value *ret, bool *text,
                    struct gw_error *why)
{
    return args_parse((char *const *)(uintptr_t)words, n, ret, text, why);
}

static void texts_and_values(void **state)
{
    (void)state;
    const char *words[] = {"by=5", "name=",      "path=/a=b:=c", "list:=[1, true, null]",
                           "n:=5", "text:=\"5\""};
    gw_value args = gw_nil();
    struct gw_error why;
    bool text = false;
    assert_int_equal(parse(words, 6, &args, &text, &why), GW_OK);
    assert_true(text);
    assert_int_equal(args.kind, GW_MAP);
    assert_int_equal(args.map.n, 6);
    assert_string_equal(gw_map_str(&args, "by", "?"), "5");
    assert_string_equal(gw_map_str(&args, "name", "?"), "");
    assert_string_equal(gw_map_str(&args, "path", "?"), "/a=b:=c");
    assert_int_equal(gw_map_get(&args, "list")->kind, GW_LIST);
    assert_int_equal(gw_map_int(&args, "n", 0), 5);
    assert_string_equal(gw_map_str(&args, "text", "?"), "5");
    gw_value_free(&args);
}

static void only_json_is_typed_here(void **state)
{
    (void)state;
    const char *words[] = {"by:=5"};
    gw_value args = gw_nil();
    bool text = true;
    assert_int_equal(parse(words, 1, &args, &text, NULL), GW_OK);
    assert_false(text);
    gw_value_free(&args);
    assert_int_equal(parse(words, 0, &args, &text, NULL), GW_OK);
    assert_false(text);
    assert_int_equal(args.kind, GW_MAP);
    assert_int_equal(args.map.n, 0);
    gw_value_free(&args);
}

static void refused(const char *first, const char *second, gw_err code, const char *says)
{
    const char *words[] = {first, second};
    gw_value args = gw_int(7);
    struct gw_error why = {0};
    bool text;
    assert_int_equal(parse(words, second ? 2 : 1, &args, &text, &why), code);
    assert_non_null(strstr(why.text, says));
    assert_int_equal(args.i, 7); /* untouched */
}

static void bad_words(void **state)
{
    (void)state;
    refused("by", NULL, GW_EARG, "\"by\"");
    refused("=5", NULL, GW_EARG, "key=value");
    refused(":=5", NULL, GW_EARG, "key=value");
    refused("", NULL, GW_EARG, "key=value");
    refused("5by=1", NULL, GW_EARG, "key=value");
    refused("a b=1", NULL, GW_EARG, "key=value");
    refused("by=1", "by:=2", GW_EARG, "twice");
    refused("by:=", NULL, GW_EARG, "by:=");
    refused("by:={", NULL, GW_EARG, "by:=");
    refused("by:=five", NULL, GW_EARG, "JSON");
    refused("by=\xff\xfe", NULL, GW_EARG, "UTF-8");
    refused("by=\xed\xa0\x80", NULL, GW_EARG, "UTF-8"); /* a surrogate */
}

static void limits(void **state)
{
    (void)state;
    char key[LIMIT_NAME_BYTES + 3];
    memset(key, 'k', sizeof key);
    memcpy(key + LIMIT_NAME_BYTES, "=", 2);
    const char *words[] = {key};
    gw_value args = gw_nil();
    bool text;
    assert_int_equal(parse(words, 1, &args, &text, NULL), GW_OK);
    gw_value_free(&args);
    memcpy(key + LIMIT_NAME_BYTES, "k=", 3);
    refused(key, NULL, GW_EARG, "key=value");

    char *big = malloc(LIMIT_ARGS_BYTES + 2);
    assert_non_null(big);
    memset(big, 'x', LIMIT_ARGS_BYTES + 1);
    memcpy(big, "a=", 2);
    big[LIMIT_ARGS_BYTES] = '\0';
    words[0] = big;
    assert_int_equal(parse(words, 1, &args, &text, NULL), GW_OK);
    gw_value_free(&args);
    memcpy(big + LIMIT_ARGS_BYTES, "x", 2);
    refused(big, NULL, GW_ETOO_BIG, "longer");
    free(big);
    /* depth of JSON */
    char deep[2 * LIMIT_DEPTH + 16];
    int n = LIMIT_DEPTH + 1;
    memcpy(deep, "v:=", 3);
    memset(deep + 3, '[', (size_t)n);
    memset(deep + 3 + n, ']', (size_t)n);
    deep[3 + 2 * n] = '\0';
    refused(deep, NULL, GW_EARG, "v:=");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_values),
        cmocka_unit_test(only_json_is_typed_here),
        cmocka_unit_test(bad_words),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
