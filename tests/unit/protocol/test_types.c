/* Strings, bytes, values: ownership (under the address sanitizer), look-ups, copies, equality. */
#include <godwit/types.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_strs(void **state)
{
    (void)state;
    gw_strs list = {0};
    assert_int_equal(gw_strs_add(&list, "one"), GW_OK);
    assert_int_equal(gw_strs_add(&list, NULL), GW_EARG);
    for (int i = 2; i <= 100; i++) {
        assert_int_equal(gw_strs_addf(&list, "number %d", i), GW_OK);
    }
    assert_int_equal(list.len, 100);
    assert_string_equal(list.items[0], "one");
    assert_string_equal(list.items[99], "number 100");
    gw_strs_clear(&list);
    assert_int_equal(list.len, 0);
    assert_null(list.items);
    gw_strs_clear(&list);
}

static void test_bytes(void **state)
{
    (void)state;
    gw_bytes b = {0};
    assert_int_equal(gw_bytes_set(&b, "abcdef", 6), GW_OK);
    assert_int_equal(gw_bytes_set(&b, b.data + 2, 3), GW_OK); /* out of itself */
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "cde", 3);
    assert_int_equal(gw_bytes_set(&b, NULL, 0), GW_OK);
    assert_null(b.data);
    gw_bytes_clear(&b);
}

static void test_checked_add(void **state)
{
    (void)state;
    int64_t a = INT64_MAX - 1;
    assert_int_equal(gw_add(&a, 1), GW_OK);
    assert_int_equal(gw_add(&a, 1), GW_EOVERFLOW);
    assert_true(a == INT64_MAX);
    a = INT64_MIN;
    assert_int_equal(gw_add(&a, -1), GW_EOVERFLOW);
    assert_int_equal(gw_add(&a, INT64_MAX), GW_OK);
    assert_true(a == -1);
}

static void test_leaves(void **state)
{
    (void)state;
    assert_int_equal(gw_uint(INT64_MAX).kind, GW_INT);
    assert_int_equal(gw_uint((uint64_t)INT64_MAX + 1).kind, GW_UINT);
    assert_int_equal(gw_nil().kind, GW_NIL);
    gw_value v = gw_str("text");
    assert_int_equal(v.s.n, 4);
    assert_int_equal(gw_value_set_str(&v, v.s.p + 1, 2), GW_OK); /* out of itself */
    assert_string_equal(v.s.p, "ex");
    assert_int_equal(gw_value_set_bytes(&v, "\0\1", 2), GW_OK);
    assert_int_equal(v.kind, GW_BYTES);
    assert_int_equal(gw_value_set_str(&v, NULL, 0), GW_OK);
    assert_string_equal(v.s.p, "");
    gw_value_free(&v);
    assert_int_equal(v.kind, GW_NIL);
    v = gw_strf("%s-%d", "x", 5);
    assert_string_equal(v.s.p, "x-5");
    gw_value_free(&v);
    gw_value_free(NULL);
}

static void test_lists_and_maps(void **state)
{
    (void)state;
    gw_value list = {0}, map = {0}, number = gw_int(5);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(gw_list_add(&list, gw_strf("%d", i)), GW_OK);
    }
    assert_int_equal(list.list.n, 50);
    assert_string_equal(list.list.items[49].s.p, "49");
    assert_int_equal(gw_list_add(&number, gw_str("lost, not leaked")), GW_EARG);
    assert_int_equal(gw_map_set(&number, "k", gw_str("lost, not leaked")), GW_EARG);
    assert_int_equal(gw_map_set(&map, "bad \xff key", gw_str("lost, not leaked")), GW_EARG);
    assert_int_equal(map.kind, GW_NIL);
    assert_int_equal(gw_map_set(&map, "b", gw_str("old")), GW_OK);
    assert_int_equal(gw_map_set(&map, "a", gw_int(7)), GW_OK);
    assert_int_equal(gw_map_set(&map, "b", gw_str("new")), GW_OK);
    assert_int_equal(gw_map_set(&map, "t", gw_bool(true)), GW_OK);
    assert_int_equal(gw_map_set(&map, "list", list), GW_OK);
    assert_int_equal(map.map.n, 4);
    assert_string_equal(map.map.items[0].key, "b"); /* order kept */
    assert_string_equal(gw_map_str(&map, "b", "none"), "new");
    assert_string_equal(gw_map_str(&map, "a", "none"), "none");
    assert_int_equal(gw_map_int(&map, "a", -1), 7);
    assert_int_equal(gw_map_int(&map, "b", -1), -1);
    assert_true(gw_map_bool(&map, "t", false));
    assert_true(gw_map_bool(&map, "absent", true));
    assert_null(gw_map_get(&map, "absent"));
    assert_null(gw_map_get(NULL, "b"));
    assert_null(gw_map_get(&number, "b"));
    gw_value_free(&map);
}

static gw_value tree(const char *last)
{
    gw_value map = {0}, list = {0};
    gw_id id = {{1}};
    assert_int_equal(gw_list_add(&list, gw_id_value(&id)), GW_OK);
    assert_int_equal(gw_list_add(&list, gw_time_value((gw_time){5})), GW_OK);
    assert_int_equal(gw_list_add(&list, gw_float(0.5)), GW_OK);
    assert_int_equal(gw_list_add(&list, gw_nil()), GW_OK);
    assert_int_equal(gw_map_set(&map, "list", list), GW_OK);
    assert_int_equal(gw_map_set(&map, "text", gw_str(last)), GW_OK);
    return map;
}

static void test_copy(void **state)
{
    (void)state;
    gw_value a = tree("x"), b = {0};
    assert_int_equal(gw_value_copy(&a, &b), GW_OK);
    assert_true(gw_value_equal(&a, &b));
    assert_ptr_not_equal(a.map.items, b.map.items);
    gw_value_free(&a);
    assert_string_equal(gw_map_str(&b, "text", ""), "x");
    gw_value_free(&b);
    gw_value bytes = {0}, copy = {0};
    assert_int_equal(gw_value_set_bytes(&bytes, "a\0b", 3), GW_OK);
    assert_int_equal(gw_value_copy(&bytes, &copy), GW_OK);
    assert_true(gw_value_equal(&bytes, &copy));
    gw_value_free(&bytes);
    gw_value_free(&copy);
}

static void test_equality(void **state)
{
    (void)state;
    gw_value a = tree("x"), b = tree("y");
    assert_false(gw_value_equal(&a, &b));
    gw_value_free(&b);
    gw_value one = gw_int(1), also_one = {.kind = GW_UINT, .u = 1}, minus = gw_int(-1);
    gw_value huge = gw_uint(UINT64_MAX), real = gw_float(1), nan = gw_float(NAN);
    assert_true(gw_value_equal(&one, &also_one));
    assert_true(gw_value_equal(&also_one, &one));
    assert_false(gw_value_equal(&minus, &huge)); /* the same 64 bits */
    assert_false(gw_value_equal(&one, &real));
    assert_true(gw_value_equal(&nan, &nan));
    gw_value_free(&a);
}

static gw_value numbered(int n, bool reverse, int changed)
{
    gw_value map = {.kind = GW_MAP};
    for (int i = 0; i < n; i++) {
        char key[20];
        int k = reverse ? n - 1 - i : i;
        (void)snprintf(key, sizeof key, "key%d", k);
        assert_int_equal(gw_map_set(&map, key, gw_int(k == changed ? -1 : k)), GW_OK);
    }
    return map;
}

static void test_maps_compare_in_any_order(void **state)
{
    (void)state;
    gw_value a = numbered(300, false, -1), b = numbered(300, true, -1);
    gw_value c = numbered(300, true, 150), d = numbered(299, true, -1);
    assert_true(gw_value_equal(&a, &b));
    assert_false(gw_value_equal(&a, &c));
    assert_false(gw_value_equal(&a, &d));
    assert_int_equal(gw_map_set(&d, "other", gw_int(299)), GW_OK);
    assert_false(gw_value_equal(&a, &d));
    gw_value_free(&a);
    gw_value_free(&b);
    gw_value_free(&c);
    gw_value_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strs),           cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_checked_add),    cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_lists_and_maps), cmocka_unit_test(test_copy),
        cmocka_unit_test(test_equality),       cmocka_unit_test(test_maps_compare_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
