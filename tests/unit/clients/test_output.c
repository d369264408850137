/* Values as people read them: cards, lists, tables, and text that would steer a terminal. */
#include "clients/cli/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/cli/table.h"
#include "protocol/json.h"

static gw_value json(const char *text)
{
    gw_value v = gw_nil();
    struct gw_error why = {0};
    if (json_parse(text, strlen(text), &v, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return v;
}

static void expect_block(const char *text, bool align, const char *wanted)
{
    gw_value v = json(text);
    struct buf out = {0};
    output_add_block(&v, 0, align, &out);
    buf_add(&out, "", 1);
    assert_true(buf_ok(&out));
    assert_string_equal((char *)out.data, wanted);
    buf_free(&out);
    gw_value_free(&v);
}

static void cards(void **state)
{
    (void)state;
    expect_block("{\"count\": 5}", false, "count: 5\n");
    expect_block("{\"a\": 1, \"long\": true, \"n\": null, \"f\": 0.5, \"s\": \"\"}", true,
                 "a:    1\nlong: true\nn:    -\nf:    0.5\ns:    \n");
    expect_block(
        "{\"state\": {\"count\": 5, \"events\": [\"x\", \"y\"]}, \"none\": [], \"no\": {}}", false,
        "state:\n  count: 5\n  events:\n    - x\n    - y\nnone: -\nno: -\n");
    expect_block("5", false, "5\n");
    expect_block("\"text\"", false, "text\n");
    expect_block("null", false, "");
    expect_block("[]", false, "");
    expect_block("[1, [2, 3], {\"a\": [4]}]", false, "- 1\n- - 2\n  - 3\n- a:\n    - 4\n");
}

static void lines_of_text(void **state)
{
    (void)state;
    expect_block("\"one\\ntwo\\n\"", false, "one\ntwo\n");
    expect_block("{\"report\": \"a\\tb\\n\\u001b[31mred\"}", false, "report:\n  a b\n  ?[31mred\n");
    expect_block("[\"a\\nb\"]", false, "- a\n  b\n");
}

static void hostile_text(void **state)
{
    (void)state;
    expect_block("{\"\\u001b]0;title\\u0007\": \"\\u001b[2J\\r\\u009b5n\"}", false,
                 "?]0;title?: ?[2J???5n\n");
    expect_block("{\"x\": {\"y\": \"\\u001b\"}}", false, "x:\n  y: ?\n");
    expect_block("[{\"\\u001b\": \"\\u0007\"}]", false, "?\n?\n");
}

static void tables(void **state)
{
    (void)state;
    expect_block(
        "{\"disks\": [{\"path\": \"/\", \"used\": 5}, {\"path\": \"/home\", \"used\": 1200}]}",
        false, "disks:\n  path  used\n  /        5\n  /home 1200\n");
    gw_value v = json("[{\"a\": 1}, {\"a\": [1]}]");
    assert_false(table_fits(&v)); /* a list in a cell */
    gw_value_free(&v);
    v = json("[{\"a\": 1}, {\"b\": 1}]");
    assert_false(table_fits(&v));
    gw_value_free(&v);
    v = json("[{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1}]");
    assert_true(table_fits(&v));
    assert_int_equal(gw_map_set(&v.list.items[0], "k", gw_int(1)), GW_OK);
    assert_false(table_fits(&v)); /* one column too many */
    gw_value_free(&v);
    v = json("[]");
    assert_false(table_fits(&v));
    gw_value_free(&v);
}

static void texts(void **state)
{
    (void)state;
    gw_value v = json("[1, \"a\", {\"k\": true}]");
    char *text = output_text(&v);
    assert_string_equal(text, "1,a,{\"k\": true}");
    free(text);
    gw_value_free(&v);
    text = output_text(NULL);
    assert_string_equal(text, "");
    free(text);
    v = gw_time_value((gw_time){.ms = 0});
    text = output_text(&v);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    free(text);
    v = gw_nil();
    assert_int_equal(gw_value_set_bytes(&v, "hi", 2), GW_OK);
    text = output_text(&v);
    assert_string_equal(text, "aGk=");
    free(text);
    gw_value_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cards),  cmocka_unit_test(lines_of_text), cmocka_unit_test(hostile_text),
        cmocka_unit_test(tables), cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
