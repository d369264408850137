/* Field tables out of a plugin: which ones are not trusted, and why. */
#include "protocol/field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

struct older {
    int64_t count;
    char *name;
};
struct tree {
    char *label;
};
static const struct gw_field tree_rows[] = {GW_FIELD(struct tree, label)};
struct trees {
    struct {
        struct tree *items;
        size_t len;
    } list;
};

static void bad_table(struct gw_field row, const char *part)
{
    struct gw_error why = {0};
    const struct gw_field two[] = {GW_FIELD(struct older, count), row};
    assert_int_equal(fields_check((struct fields){two, 2}, sizeof(struct older), &why), GW_EABI);
    if (!strstr(why.text, part)) {
        fail_msg("\"%s\" is not in \"%s\"", part, why.text);
    }
    assert_int_equal(fields_check((struct fields){two, 2}, sizeof(struct older), NULL), GW_EABI);
}

static void test_tables_are_checked(void **state)
{
    (void)state;
    struct gw_field good = GW_FIELD(struct older, name), row;
    row = good, row.name = NULL;
    bad_table(row, "no valid name");
    row = good, row.name = "a b";
    bad_table(row, "no valid name");
    row = good, row.name = "count";
    bad_table(row, "share a name");
    row = good, row.alias = "count";
    bad_table(row, "share a name");
    row = good, row.alias = "../x";
    bad_table(row, "alias");
    row = good, row.kind = (gw_field_kind)99;
    bad_table(row, "unknown kind 99");
    row = good, row.size = 4;
    bad_table(row, "has 4 bytes");
    row = good, row.offset = 16;
    bad_table(row, "outside");
    row = good, row.offset = UINT32_MAX;
    bad_table(row, "outside");
    row = good, row.offset = 4;
    bad_table(row, "aligned");
    row = good, row.offset = 0;
    bad_table(row, "overlap");
    row = good, row.kind = GW_FIELD_STRUCT;
    bad_table(row, "no table");
    row = good, row.kind = GW_FIELD_LIST, row.fields = tree_rows, row.field_count = 1;
    row.elem_size = 24;
    bad_table(row, "not a list");
    struct gw_error why = {0};
    assert_int_equal(fields_check((struct fields){NULL, 0}, 0, &why), GW_OK);
    assert_int_equal(fields_check((struct fields){NULL, 1}, 8, &why), GW_EABI);
}

static void test_a_table_in_itself(void **state)
{
    (void)state;
    struct gw_error why = {0};
    struct gw_field tree[1] = {GW_LIST(struct trees, list, tree_rows)};
    tree[0].fields = tree;
    tree[0].elem_size = sizeof(struct trees);
    assert_int_equal(fields_check((struct fields){tree, 1}, sizeof(struct trees), &why), GW_EABI);
    assert_string_equal(why.text, "the table of field \"list\" contains itself");
    /* LIMIT_DEPTH structs in each other, and one more. */
    struct gw_field chain[LIMIT_DEPTH + 1];
    for (size_t i = 0; i <= LIMIT_DEPTH; i++) {
        chain[i] = (struct gw_field){"n", GW_FIELD_STRUCT, 0, 8, 0, NULL, &chain[i + 1], 1, 0};
    }
    chain[LIMIT_DEPTH] = (struct gw_field){"n", GW_FIELD_INT, 0, 8, 0, NULL, NULL, 0, 0};
    assert_int_equal(fields_check((struct fields){chain + 1, 1}, 8, &why), GW_OK);
    assert_int_equal(fields_check((struct fields){chain, 1}, 8, &why), GW_EABI);
}

static void test_number_of_rows(void **state)
{
    (void)state;
    static struct gw_field many[LIMIT_FIELDS + 1];
    static char names[LIMIT_FIELDS + 1][8];
    bool obj[LIMIT_FIELDS] = {0}, back[LIMIT_FIELDS] = {0};
    struct gw_error why = {0};
    for (uint32_t i = 0; i <= LIMIT_FIELDS; i++) {
        snprintf(names[i], sizeof names[i], "f%u", i);
        many[i] = (struct gw_field){names[i], GW_FIELD_BOOL, i, 1, 0, NULL, NULL, 0, 0};
    }
    struct fields f = {many, LIMIT_FIELDS};
    assert_int_equal(fields_check((struct fields){many, LIMIT_FIELDS + 1}, LIMIT_FIELDS + 1, &why),
                     GW_EABI);
    assert_int_equal(fields_check(f, sizeof obj, &why), GW_OK);
    struct buf b = {0};
    obj[LIMIT_FIELDS - 1] = true;
    fields_pack(f, obj, (struct span){0}, 0, &b);
    struct mp m = mp_over(buf_span(&b));
    assert_int_equal(fields_unpack(f, &m, back, NULL, NULL, &why), GW_OK);
    assert_memory_equal(obj, back, sizeof obj);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_are_checked),
        cmocka_unit_test(test_a_table_in_itself),
        cmocka_unit_test(test_number_of_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
