/* Identities: text form both ways, order, hostile texts, names. */
#include "protocol/base/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

static void test_id_text_both_ways(void **state)
{
    (void)state;
    const uint8_t random[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    gw_id id = id_make(1700000000000, random), back = {0};
    char text[GW_ID_TEXT];
    assert_int_equal(strlen(gw_id_text(&id, text)), 26);
    assert_int_equal(gw_id_parse(text, &back), GW_OK);
    assert_true(gw_id_equal(&id, &back));
    for (char *p = text; *p; p++) {
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
    }
    assert_int_equal(gw_id_parse(text, &back), GW_OK);
    assert_true(gw_id_equal(&id, &back));
    assert_false(gw_id_is_nil(&id));
    assert_true(gw_id_is_nil(&(gw_id){{0}}));
}

/* The vector of the ULID specification. */
static void test_known_vector(void **state)
{
    (void)state;
    gw_id id;
    char text[GW_ID_TEXT];
    assert_int_equal(gw_id_parse("01ARZ3NDEKTSV4RRFFQ69G5FAV", &id), GW_OK);
    const uint8_t want[] = {0x01, 0x56, 0x3e, 0x3a, 0xb5, 0xd3, 0xd6, 0x76,
                            0x4c, 0x61, 0xef, 0xb9, 0x93, 0x02, 0xbd, 0x5b};
    assert_memory_equal(id.b, want, sizeof want);
    assert_string_equal(gw_id_text(&id, text), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_int_equal(gw_id_parse("OIARZ3NDEKTSV4RRFFQ69G5FAV", &id), GW_OK); /* O is 0, I is 1 */
    assert_memory_equal(id.b, want, sizeof want);
    assert_int_equal(gw_id_parse("olarz3ndektsv4rrffq69g5fav", &id), GW_OK);
    assert_memory_equal(id.b, want, sizeof want);
}

static void test_order_is_time(void **state)
{
    (void)state;
    uint8_t high[10], low[10] = {0};
    memset(high, 0xff, sizeof high);
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    gw_id first = id_make(1000, high), second = id_make(1001, low);
    assert_true(memcmp(first.b, second.b, sizeof first.b) < 0);
    assert_true(strcmp(gw_id_text(&first, a), gw_id_text(&second, b)) < 0);
    gw_id before = id_make(-5, low);
    assert_true(gw_id_is_nil(&before));
    gw_id last = id_make((1ll << 48) - 1, high);
    assert_string_equal(gw_id_text(&last, a), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
}

static void test_what_is_no_id(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "../../x",
        "01ARZ3NDEKTSV4RRFFQ69G5FA",   /* one short */
        "01ARZ3NDEKTSV4RRFFQ69G5FAVX", /* one long */
        "81ARZ3NDEKTSV4RRFFQ69G5FAV",  /* above 128 bits */
        "Z1ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01ARZ3NDEKTSV4RRFFQ69G5FAU", /* U is not of the alphabet */
        "01ARZ3NDEKTSV4RRFFQ69G5FA ",
        "01ARZ3NDEKTSV4RRFFQ69G5FA\xc3",
        "01ARZ3NDEKTSV4RRFFQ69G5F/.",
    };
    gw_id id = {{42}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(gw_id_parse(bad[i], &id), GW_EARG);
    }
    assert_int_equal(gw_id_parse(NULL, &id), GW_EARG);
    assert_int_equal(id.b[0], 42);
    struct host_id host = {{42}};
    assert_int_equal(host_id_parse("short", &host), GW_EARG);
    assert_int_equal(host_id_parse(NULL, &host), GW_EARG);
    assert_int_equal(host_id_parse("0123456789ABCDEFGHJKMNPQRSTVWXYZ0", &host), GW_EARG);
    assert_int_equal(host.b[0], 42);
}

static void test_host_ids(void **state)
{
    (void)state;
    uint8_t key[32] = {1};
    struct host_id id = host_id_of_key(key), back = {0}, other;
    char text[HOST_ID_TEXT];
    assert_int_equal(strlen(host_id_text(&id, text)), 32);
    assert_int_equal(host_id_parse(text, &back), GW_OK);
    assert_true(host_id_equal(&id, &back));
    assert_int_equal(host_id_compare(&id, &back), 0);
    key[0] = 2;
    other = host_id_of_key(key);
    assert_false(host_id_equal(&id, &other));
    assert_true((host_id_compare(&id, &other) < 0) == (host_id_compare(&other, &id) > 0));
    assert_true(host_id_is_nil(&(struct host_id){{0}}));
    assert_false(host_id_is_nil(&id));
}

static void test_base32_of_every_length(void **state)
{
    (void)state;
    uint8_t raw[40], back[40];
    char text[BASE32_SIZE(40)];
    for (size_t n = 0; n <= sizeof raw; n++) {
        for (size_t i = 0; i < n; i++) {
            raw[i] = (uint8_t)(i * 37 + n * 11 + 200);
        }
        base32_encode(raw, n, text);
        assert_int_equal(strlen(text), BASE32_SIZE(n) - 1);
        assert_true(base32_decode(text, strlen(text), back, n));
        assert_memory_equal(raw, back, n);
        assert_false(base32_decode(text, strlen(text) + 1, back, n));
        if (n > 0) {
            assert_false(base32_decode(text, strlen(text) - 1, back, n));
        }
    }
}

static void test_names(void **state)
{
    (void)state;
    char name[LIMIT_NAME_BYTES + 2];
    memset(name, 'a', sizeof name);
    name[LIMIT_NAME_BYTES] = '\0';
    assert_true(name_is_valid(name));
    name[LIMIT_NAME_BYTES] = 'a';
    name[LIMIT_NAME_BYTES + 1] = '\0';
    assert_false(name_is_valid(name));
    assert_true(name_is_valid("a"));
    assert_true(name_is_valid("9lives"));
    assert_true(name_is_valid("Lab-1.rack_2"));
    static const char *const bad[] = {"",    ".",    "..",       ".hidden", "-x",  "_x",
                                      "a/b", "a b",  "a\n",      "a:b",     "a,b", "a=b",
                                      "!a",  "a\\b", "\xc3\xa9", "a\x7f",   "../x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(name_is_valid(bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_id_text_both_ways),
        cmocka_unit_test(test_known_vector),
        cmocka_unit_test(test_order_is_time),
        cmocka_unit_test(test_what_is_no_id),
        cmocka_unit_test(test_host_ids),
        cmocka_unit_test(test_base32_of_every_length),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
