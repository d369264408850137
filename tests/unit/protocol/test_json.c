/* JSON both ways: exact numbers, order, kinds that JSON lacks, faults with line and column. */
#include "protocol/json.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

static gw_value parsed(const char *text)
{
    gw_value v = {0};
    struct gw_error why = {0};
    size_t n = strlen(text);
    char *exact = malloc(n + 1); /* not NUL-terminated: the sanitizer sees a read past the end */
    memcpy(exact, text, n);
    if (json_parse(exact, n, &v, &why)) {
        fail_msg("\"%s\": %s", text, why.text);
    }
    free(exact);
    return v;
}

static void refused(const char *text, const char *part)
{
    gw_value v = gw_int(42);
    struct gw_error why = {0};
    assert_int_equal(json_parse(text, strlen(text), &v, &why), GW_EARG);
    assert_int_equal(v.i, 42);
    if (!strstr(why.text, part)) {
        fail_msg("\"%s\" is not in \"%s\"", part, why.text);
    }
    assert_int_equal(json_parse(text, strlen(text), &v, NULL), GW_EARG);
}

static void writes(const gw_value *v, unsigned indent, const char *want)
{
    struct buf b = {0};
    assert_int_equal(json_write(v, indent, &b), GW_OK);
    buf_add(&b, "", 1);
    assert_string_equal((char *)b.data, want);
    buf_free(&b);
}

/* Text that is written exactly as it was read. */
static void test_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "-5",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "0.1",
        "-1.5e+300",
        "5.0",
        "1e-07",
        "\"text \\\"quoted\\\" \\\\ \\n \\t \\r \\u0001 gr\xc3\xbc\xc3\x9f\"",
        "[]",
        "{}",
        "[1, [2, []], {\"b\": 1, \"a\": {\"x\": null}}]",
        "{\"z\": 18446744073709551614, \"a\": [18446744073709551613, 1], \"m\": 1}",
        "{\"base64\": \"AAEC\"}",
        "{\"base64\": \"AAEC\", \"more\": 1}",
        "{\"base64\": 18446744073709551615}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        gw_value v = parsed(texts[i]);
        writes(&v, 0, texts[i]);
        gw_value_free(&v);
    }
}

static void test_kinds(void **state)
{
    (void)state;
    gw_value v = parsed("{\"base64\": \"AAEC\"}");
    assert_int_equal(v.kind, GW_BYTES);
    assert_memory_equal(v.s.p, "\0\1\2", 3);
    gw_value_free(&v);
    v = parsed(" [5.0, 5, 18446744073709551615, 9223372036854775807] ");
    assert_int_equal(v.list.items[0].kind, GW_FLOAT);
    assert_int_equal(v.list.items[1].kind, GW_INT);
    assert_int_equal(v.list.items[2].kind, GW_UINT);
    assert_true(v.list.items[2].u == UINT64_MAX);
    assert_int_equal(v.list.items[3].kind, GW_INT);
    gw_value_free(&v);
    gw_id id;
    assert_int_equal(gw_id_parse("01ARZ3NDEKTSV4RRFFQ69G5FAV", &id), GW_OK);
    v = gw_id_value(&id);
    writes(&v, 0, "\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"");
    v = gw_time_value((gw_time){1795341600000});
    writes(&v, 0, "\"2026-11-22T10:00:00.000Z\"");
    v = gw_float(NAN);
    writes(&v, 0, "null");
    v = gw_float(-INFINITY);
    writes(&v, 0, "null");
}

static void test_indent(void **state)
{
    (void)state;
    gw_value v = parsed("{\"a\": [1, {\"b\": []}], \"c\": {}}");
    writes(&v, 2,
           "{\n"
           "  \"a\": [\n"
           "    1,\n"
           "    {\n"
           "      \"b\": []\n"
           "    }\n"
           "  ],\n"
           "  \"c\": {}\n"
           "}");
    gw_value_free(&v);
}

/* Numbers read back as they were, whatever they are. */
static void test_floats_are_exact(void **state)
{
    (void)state;
    uint64_t seed = 99;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        double f;
        memcpy(&f, &seed, sizeof f);
        if (!isfinite(f)) {
            continue;
        }
        gw_value v = gw_float(f), back = {0};
        struct buf b = {0};
        assert_int_equal(json_write(&v, 0, &b), GW_OK);
        assert_int_equal(json_parse((char *)b.data, b.len, &back, NULL), GW_OK);
        assert_int_equal(back.kind, GW_FLOAT);
        assert_true(back.f == f);
        buf_free(&b);
    }
}

static void test_another_locale(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) {
        skip();
    }
    gw_value v = parsed("[0.1]");
    writes(&v, 0, "[0.1]");
    gw_value_free(&v);
    setlocale(LC_NUMERIC, "C");
}

static void test_what_is_not_text_is_replaced(void **state)
{
    (void)state;
    gw_value v = gw_str("a\xff"
                        "b\xc3");
    writes(&v, 0,
           "\"a\xef\xbf\xbd"
           "b\xef\xbf\xbd\"");
    gw_value_free(&v);
    v = gw_str("\x7f\x1b");
    writes(&v, 0, "\"\\u007f\\u001b\"");
    gw_value_free(&v);
}

static void test_faults_name_the_place(void **state)
{
    (void)state;
    refused("", "line 1");
    refused("{", "line 1");
    refused("[1,\n 2,\n  x]", "line 3");
    refused("[1, 2] 3", "line 1");
    refused("{\"a\": 1, \"a\": 2}", "duplicate");
    refused("[1,]", "line 1");
    refused("01", "line 1");
    refused("'x'", "line 1");
    refused("nul", "line 1");
    refused("NaN", "line 1");
    refused("1e999", "line 1");
    refused("\"\xff\"", "line 1");
    refused("\"a\nb\"", "line 1");
    refused("\"\\ud800\"", "line 1");
    refused("\"abc", "line 1");
    refused("[\n  \"a\\u0000b\"]", "line 2, column 5: text cannot hold a NUL");
    refused("{\"\\u0000\": 1}", "NUL");
    refused("[1,\n18446744073709551616]", "line 2, column 1: the integer does not fit");
    refused("-9223372036854775809", "does not fit");
    refused("123456789012345678901234567890123456789012345678901234567890", "does not fit");
    refused("{\"base64\": \"not base64!\"}", "base64");
    refused("[18446744073709551615 \"x\"]", "line 1");
    refused("\"\\\"", "line 1");
}

static void test_nul_byte(void **state)
{
    (void)state;
    gw_value v = {0};
    assert_int_equal(json_parse("\"a\0b\"", 5, &v, NULL), GW_EARG);
    assert_int_equal(json_parse("1\0", 2, &v, NULL), GW_EARG);
    v = parsed("\"\\\\u0000\""); /* an escaped backslash: no NUL */
    assert_string_equal(v.s.p, "\\u0000");
    gw_value_free(&v);
}

static void test_depth(void **state)
{
    (void)state;
    char text[3 * LIMIT_DEPTH];
    memset(text, '[', LIMIT_DEPTH + 1);
    memset(text + LIMIT_DEPTH + 1, ']', LIMIT_DEPTH + 1);
    gw_value v = {0};
    struct gw_error why = {0};
    assert_int_equal(json_parse(text + 1, 2 * LIMIT_DEPTH, &v, &why), GW_OK);
    gw_value_free(&v);
    assert_int_equal(json_parse(text, 2 * LIMIT_DEPTH + 2, &v, &why), GW_EARG);
    assert_string_equal(why.text, "the JSON is not valid at line 1, column 33: nested too deep");
    size_t size = 1u << 20;
    char *bomb = malloc(size);
    memset(bomb, '[', size);
    assert_int_equal(json_parse(bomb, size, &v, &why), GW_EARG);
    free(bomb);
    v = parsed("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]"); /* text is no nesting */
    gw_value_free(&v);
}

static void test_brief(void **state)
{
    (void)state;
    char text[JSON_BRIEF_SIZE];
    gw_value v = gw_str("x\ny");
    assert_string_equal(json_brief(&v, text), "string \"x\\ny\"");
    gw_value_free(&v);
    v = gw_strf("%0100d", 5);
    assert_string_equal(json_brief(&v, text), "string");
    gw_value_free(&v);
    v = gw_int(-5);
    assert_string_equal(json_brief(&v, text), "int -5");
    v = (gw_value){.kind = GW_MAP};
    assert_string_equal(json_brief(&v, text), "map");
    char controls[41];
    memset(controls, 1, 40);
    controls[40] = '\0';
    v = gw_str(controls); /* escapes make it longer than it may get */
    assert_int_equal(strlen(json_brief(&v, text)), JSON_BRIEF_SIZE - 1);
    gw_value_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_indent),
        cmocka_unit_test(test_floats_are_exact),
        cmocka_unit_test(test_another_locale),
        cmocka_unit_test(test_what_is_not_text_is_replaced),
        cmocka_unit_test(test_faults_name_the_place),
        cmocka_unit_test(test_nul_byte),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_brief),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
