/* Field tables: every kind, nesting, evolution (unknown, missing, renamed), hostile bytes, tables
 * that must not be trusted. Leaks are the address sanitizer's to find. */
#include "protocol/field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/value.h"

struct point {
    double x, y;
    char *label;
};

static const struct gw_field point_fields[] = {
    GW_FIELD(struct point, x),
    GW_FIELD(struct point, y),
    GW_FIELD(struct point, label),
};

struct all {
    bool b;
    int64_t i;
    uint64_t u;
    int32_t i32;
    uint32_t u32;
    double f;
    char *s;
    gw_bytes bytes;
    gw_strs strs;
    gw_id id;
    gw_time time;
    gw_value value;
    struct point point;
    struct {
        struct point *items;
        size_t len;
        size_t cap;
    } points;
    int untabled;
};

static const struct gw_field rows[] = {
    GW_FIELD(struct all, b),
    GW_FIELD(struct all, i),
    GW_FIELD(struct all, u),
    GW_FIELD(struct all, i32),
    GW_FIELD(struct all, u32),
    GW_FIELD(struct all, f),
    GW_FIELD(struct all, s),
    GW_FIELD(struct all, bytes),
    GW_FIELD(struct all, strs),
    GW_FIELD(struct all, id),
    GW_FIELD(struct all, time),
    GW_FIELD(struct all, value),
    GW_STRUCT(struct all, point, point_fields),
    GW_LIST(struct all, points, point_fields),
};
static const struct fields table = {rows, sizeof rows / sizeof rows[0]};

static void fill(struct all *a)
{
    a->b = true;
    a->i = -5;
    a->u = UINT64_MAX;
    a->i32 = INT32_MIN;
    a->u32 = UINT32_MAX;
    a->f = 0.25;
    a->s = strdup("text");
    assert_int_equal(gw_bytes_set(&a->bytes, "\0\1", 2), GW_OK);
    assert_int_equal(gw_strs_add(&a->strs, "one"), GW_OK);
    assert_int_equal(gw_strs_add(&a->strs, ""), GW_OK);
    a->id.b[0] = 1;
    a->time.ms = 1000;
    assert_int_equal(gw_map_set(&a->value, "k", gw_str("v")), GW_OK);
    a->point = (struct point){1, 2, strdup("p")};
    a->points.items = calloc(2, sizeof *a->points.items);
    a->points.len = a->points.cap = 2;
    a->points.items[1] = (struct point){3, 4, strdup("q")};
}

static gw_err unpack(struct fields f, struct span s, void *obj, struct gw_error *why)
{
    struct mp m = mp_over(s);
    return fields_unpack(f, &m, obj, NULL, NULL, why);
}

static void is_all_zero(const struct all *a)
{
    struct all zero = {.untabled = 7};
    assert_true(fields_equal(table, a, &zero));
    assert_null(a->s);
    assert_null(a->points.items);
    assert_int_equal(a->untabled, 7);
}

static void test_round_trip_of_every_kind(void **state)
{
    (void)state;
    struct all a = {.untabled = 1}, back = {.untabled = 7}, zero = {0};
    struct buf b = {0}, again = {0};
    struct gw_error why = {0};
    assert_int_equal(fields_check(table, sizeof(struct all), &why), GW_OK);
    fill(&a);
    fields_pack(table, &a, (struct span){0}, 0, &b);
    assert_true(buf_ok(&b));
    assert_int_equal(unpack(table, buf_span(&b), &back, &why), GW_OK);
    assert_true(fields_equal(table, &a, &back));
    assert_int_equal(back.untabled, 7);
    assert_int_equal(back.points.cap, 0); /* an extra member of a list: zero */
    assert_int_equal(back.strs.cap, 2);
    assert_string_equal(back.points.items[1].label, "q");
    fields_pack(table, &back, (struct span){0}, 0, &again);
    assert_int_equal(b.len, again.len);
    assert_memory_equal(b.data, again.data, b.len);
    assert_int_equal(unpack(table, buf_span(&b), &back, &why), GW_OK); /* over what is there */
    fields_clear(table, &back);
    assert_true(fields_equal(table, &back, &zero));
    fields_clear(table, &back);
    fields_clear(table, &a);
    buf_free(&b);
    buf_free(&again);
}

static void test_fields_alone(void **state)
{
    (void)state;
    struct all a = {0}, back = {0};
    fill(&a);
    for (size_t i = 0; i < table.n; i++) {
        struct buf b = {0};
        struct gw_error why = {0};
        field_pack(&rows[i], &a, &b);
        struct mp m = mp_over(buf_span(&b));
        assert_int_equal(field_unpack(&rows[i], &m, &back, &why), GW_OK);
        assert_true(mp_done(&m));
        assert_true(fields_equal((struct fields){&rows[i], 1}, &a, &back));
        m = mp_over(buf_span(&b));
        assert_int_equal(field_unpack(&rows[i], &m, &back, &why), GW_OK); /* frees the former */
        buf_free(&b);
    }
    assert_true(fields_equal(table, &a, &back));
    fields_clear(table, &a);
    fields_clear(table, &back);
}

static void test_zero_is_default(void **state)
{
    (void)state;
    struct all zero = {0}, back = {.s = strdup("old"), .untabled = 7};
    struct buf b = {0};
    fields_pack(table, &zero, (struct span){0}, 0, &b);
    assert_int_equal(unpack(table, buf_span(&b), &back, NULL), GW_OK);
    is_all_zero(&back);
    back.i = 5;
    const uint8_t nothing[] = {0x80};
    assert_int_equal(unpack(table, (struct span){nothing, 1}, &back, NULL), GW_OK);
    is_all_zero(&back); /* missing fields are default */
    struct all empty = {.s = strdup("")};
    assert_true(fields_equal(table, &empty, &zero)); /* "" is NULL */
    fields_clear(table, &empty);
    buf_free(&b);
}

static void test_equality_sees_every_field(void **state)
{
    (void)state;
    struct all a = {0}, zero = {0};
    fill(&a);
    for (size_t i = 0; i < table.n; i++) {
        assert_false(fields_equal((struct fields){&rows[i], 1}, &a, &zero));
        assert_true(fields_equal((struct fields){&rows[i], 1}, &a, &a));
    }
    fields_clear(table, &a);
}

/* --- evolution --- */

struct older {
    int64_t count;
    char *name;
};
static const struct gw_field older_rows[] = {
    GW_FIELD(struct older, count),
    GW_FIELD(struct older, name),
};
struct newer {
    char *title; /* was `name` */
    gw_strs log; /* new */
    int64_t count;
};
static const struct gw_field newer_rows[] = {
    GW_FIELD_RENAMED(struct newer, title, "name"),
    GW_FIELD_SINCE(struct newer, log, 2),
    GW_FIELD(struct newer, count),
};
static const struct fields older_table = {older_rows, 2}, newer_table = {newer_rows, 3};

static void test_unknown_fields_travel_on(void **state)
{
    (void)state;
    struct newer now = {.title = strdup("t"), .count = 3}, back = {0};
    struct older old = {0};
    struct buf b = {0}, unknown = {0};
    size_t pairs = 99;
    assert_int_equal(gw_strs_add(&now.log, "line"), GW_OK);
    fields_pack(newer_table, &now, (struct span){0}, 0, &b);
    struct mp m = mp_over(buf_span(&b));
    assert_int_equal(fields_unpack(older_table, &m, &old, &unknown, &pairs, NULL), GW_OK);
    assert_int_equal(pairs, 1); /* log; title is stored as name */
    assert_int_equal(old.count, 3);
    assert_string_equal(old.name, "t");
    old.count = 4;
    old.name[0] = 'T';
    buf_reset(&b);
    fields_pack(older_table, &old, buf_span(&unknown), pairs, &b);
    assert_int_equal(unpack(newer_table, buf_span(&b), &back, NULL), GW_OK);
    assert_int_equal(back.count, 4);
    assert_string_equal(back.title, "T");
    assert_string_equal(back.log.items[0], "line");
    fields_clear(newer_table, &now);
    fields_clear(newer_table, &back);
    fields_clear(older_table, &old);
    buf_free(&b);
    buf_free(&unknown);
}

static void test_former_name(void **state)
{
    (void)state;
    struct older old = {.count = 3, .name = strdup("n")};
    struct newer now = {0};
    struct buf b = {0};
    fields_pack(older_table, &old, (struct span){0}, 0, &b);
    assert_int_equal(unpack(newer_table, buf_span(&b), &now, NULL), GW_OK);
    assert_string_equal(now.title, "n");
    assert_int_equal(now.log.len, 0);
    /* Both names, in either order: the present one counts. */
    static const char *const orders[][2] = {{"name", "title"}, {"title", "name"}};
    for (int i = 0; i < 2; i++) {
        buf_reset(&b);
        mp_map(&b, 2);
        for (int k = 0; k < 2; k++) {
            mp_str(&b, orders[i][k]);
            mp_str(&b, orders[i][k]);
        }
        assert_int_equal(unpack(newer_table, buf_span(&b), &now, NULL), GW_OK);
        assert_string_equal(now.title, "title");
    }
    assert_ptr_equal(fields_find(newer_table, (struct span){(const uint8_t *)"name", 4}),
                     &newer_rows[0]);
    assert_ptr_equal(fields_find(newer_table, (struct span){(const uint8_t *)"log", 3}),
                     &newer_rows[1]);
    assert_null(fields_find(newer_table, (struct span){(const uint8_t *)"lo", 2}));
    assert_null(fields_find(newer_table, (struct span){(const uint8_t *)"log\0", 4}));
    fields_clear(newer_table, &now);
    fields_clear(older_table, &old);
    buf_free(&b);
}

static void test_unknown_fields_are_only_added_on_success(void **state)
{
    (void)state;
    struct older old = {0};
    struct buf b = {0}, unknown = {0};
    size_t pairs = 99;
    buf_add(&unknown, "kept", 4);
    mp_map(&b, 2);
    mp_str(&b, "extra");
    mp_int(&b, 1);
    mp_str(&b, "count");
    mp_str(&b, "wrong");
    struct mp m = mp_over(buf_span(&b)), before = m;
    assert_int_equal(fields_unpack(older_table, &m, &old, &unknown, &pairs, NULL), GW_EDECODE);
    assert_int_equal(unknown.len, 4);
    assert_int_equal(pairs, 99);
    assert_ptr_equal(m.p, before.p);
    buf_free(&b);
    buf_free(&unknown);
}

/* --- wrong types and hostile bytes --- */

static void wrong(const char *json, const char *want)
{
    struct all a = {.untabled = 7};
    gw_value v = {0};
    struct buf b = {0};
    struct gw_error why = {0};
    fill(&a);
    a.untabled = 7;
    assert_int_equal(json_parse(json, strlen(json), &v, &why), GW_OK);
    value_pack(&v, &b);
    assert_int_equal(unpack(table, buf_span(&b), &a, &why), GW_EDECODE);
    assert_string_equal(why.text, want);
    is_all_zero(&a);
    gw_value_free(&v);
    buf_free(&b);
}

static void test_wrong_types(void **state)
{
    (void)state;
    wrong("[]", "a struct is a map, got list");
    wrong("{\"i\": \"x\"}", "field \"i\" wants int, got string");
    wrong("{\"i\": null}", "field \"i\" wants int, got nil");
    wrong("{\"i\": 1.0}", "field \"i\" wants int, got float");
    wrong("{\"i\": 18446744073709551615}", "field \"i\" wants int, got int that is not valid");
    wrong("{\"u\": -1}", "field \"u\" wants uint, got int");
    wrong("{\"i32\": 2147483648}", "field \"i32\" wants int32, got int");
    wrong("{\"i32\": -2147483649}", "field \"i32\" wants int32, got int");
    wrong("{\"u32\": 4294967296}", "field \"u32\" wants uint32, got int");
    wrong("{\"b\": 1}", "field \"b\" wants bool, got int");
    wrong("{\"s\": 1}", "field \"s\" wants string, got int");
    wrong("{\"id\": \"01ARZ3NDEKTSV4RRFFQ69G5FAV\"}", "field \"id\" wants id, got string");
    wrong("{\"time\": 5}", "field \"time\" wants time, got int");
    wrong("{\"strs\": [\"a\", 1]}", "field \"strs\" wants [string], got list");
    wrong("{\"point\": 1}", "in \"point\": a struct is a map, got int");
    wrong("{\"point\": {\"label\": 5}}", "in \"point\": field \"label\" wants string, got int");
    wrong("{\"points\": [{\"label\": \"a\"}, {\"x\": []}]}",
          "in \"points\": element 1: field \"x\" wants float, got list");
    wrong("{\"s\": \"first\", \"points\": {}}", "field \"points\" wants [struct], got map");
}

static void refused(const void *raw, size_t n, gw_err want)
{
    struct all a = {0};
    struct gw_error why = {0};
    uint8_t *exact = malloc(n);
    memcpy(exact, raw, n);
    fill(&a);
    a.untabled = 7;
    assert_int_equal(unpack(table, (struct span){exact, n}, &a, &why), want);
    assert_int_equal(why.code, want);
    is_all_zero(&a);
    free(exact);
}
#define REFUSED(literal) refused(literal, sizeof literal - 1, GW_EDECODE)

static void test_hostile_maps(void **state)
{
    (void)state;
    REFUSED("\x82\xa1i\x01\xa1i\x02");             /* a field twice */
    REFUSED("\x81\x01\x02");                       /* a name that is a number */
    REFUSED("\x81\xa1\xff\x02");                   /* a name that is not UTF-8 */
    REFUSED("\x81\xa1s\xa1\xff");                  /* text that is not UTF-8 */
    REFUSED("\x81\xa1s\xa2\x61\x00");              /* text with NUL */
    REFUSED("\x82\xa1s\xa1x\xa7unknown\xc1");      /* an unknown field damaged */
    REFUSED("\xdf\xff\xff\xff\xff");               /* 2^32-1 pairs announced */
    REFUSED("\x81\xa6points\xdd\xff\xff\xff\xff"); /* 2^32-1 structs announced */
    REFUSED("\x81\xa4strs\xdd\xff\xff\xff\xff\xa1x");
    REFUSED("\x81\xa5"
            "bytes\xc6\xff\xff\xff\xff");
    REFUSED("\x81\xa5value\x81\xc0\x01"); /* a free value that is none */
}

static void test_every_truncation_and_change(void **state)
{
    (void)state;
    struct all a = {0}, back = {0};
    struct buf b = {0};
    fill(&a);
    fields_pack(table, &a, (struct span){0}, 0, &b);
    for (size_t n = 1; n < b.len; n++) {
        refused(b.data, n, GW_EDECODE);
    }
    for (size_t at = 0; at < b.len; at++) {
        for (unsigned x = 0; x < 256; x++) {
            uint8_t was = b.data[at];
            struct buf unknown = {0};
            size_t pairs = 0;
            struct gw_error why;
            b.data[at] = (uint8_t)x;
            struct mp m = mp_over(buf_span(&b));
            if (fields_unpack(table, &m, &back, &unknown, &pairs, &why) == GW_OK) {
                struct buf again = {0}; /* what decodes packs, and decodes again alike */
                struct all third = {0};
                fields_pack(table, &back, buf_span(&unknown), pairs, &again);
                assert_int_equal(unpack(table, buf_span(&again), &third, &why), GW_OK);
                assert_true(fields_equal(table, &back, &third));
                fields_clear(table, &third);
                buf_free(&again);
            }
            b.data[at] = was;
            buf_free(&unknown);
        }
    }
    fields_clear(table, &a);
    fields_clear(table, &back);
    buf_free(&b);
}

struct big {
    char *label;
    uint64_t rest[1023];
};
static const struct gw_field big_rows[] = {GW_FIELD(struct big, label)};
struct bigs {
    struct {
        struct big *items;
        size_t len;
    } list;
};
static const struct gw_field bigs_rows[] = {GW_LIST(struct bigs, list, big_rows)};

/* An element of one byte takes 8 KiB here: a peer may not blow up its bytes that far. */
static void test_amplification_is_bounded(void **state)
{
    (void)state;
    const struct fields f = {bigs_rows, 1};
    size_t fits = LIMIT_DECODED_BYTES / sizeof(struct big);
    for (size_t more = 0; more < 2; more++) {
        struct bigs obj = {0};
        struct buf b = {0};
        struct gw_error why = {0};
        mp_map(&b, 1);
        mp_str(&b, "list");
        mp_array(&b, fits + more);
        for (size_t i = 0; i < fits + more; i++) {
            mp_map(&b, 0);
        }
        assert_int_equal(unpack(f, buf_span(&b), &obj, &why), more ? GW_ETOO_BIG : GW_OK);
        assert_int_equal(obj.list.len, more ? 0 : fits);
        fields_clear(f, &obj);
        buf_free(&b);
    }
}

static void test_depth_of_free_values(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        struct all a = {0}, back = {0};
        struct buf b = {0};
        for (unsigned i = 0; i < LIMIT_DEPTH - 1 + more; i++) { /* the struct is one level */
            gw_value outer = {0};
            assert_int_equal(gw_list_add(&outer, a.value), GW_OK);
            a.value = outer;
        }
        fields_pack(table, &a, (struct span){0}, 0, &b);
        assert_int_equal(buf_ok(&b), !more);
        if (!more) {
            assert_int_equal(unpack(table, buf_span(&b), &back, NULL), GW_OK);
            assert_int_equal(mp_skip(&(struct mp){b.data, b.data + b.len}, NULL), GW_OK);
        }
        fields_clear(table, &a);
        fields_clear(table, &back);
        buf_free(&b);
    }
}

static void test_bad_text_is_repaired(void **state)
{
    (void)state;
    struct older old = {.name = strdup("file\xff.txt")}, back = {0};
    struct buf b = {0};
    fields_pack(older_table, &old, (struct span){0}, 0, &b);
    assert_int_equal(unpack(older_table, buf_span(&b), &back, NULL), GW_OK);
    assert_string_equal(back.name, "file?.txt");
    fields_clear(older_table, &old);
    fields_clear(older_table, &back);
    buf_free(&b);
}

/* --- towards people --- */

static void is_json(const gw_value *v, const char *want)
{
    struct buf b = {0};
    assert_int_equal(json_write(v, 0, &b), GW_OK);
    buf_add(&b, "", 1);
    assert_string_equal((char *)b.data, want);
    buf_free(&b);
}

static void test_as_value(void **state)
{
    (void)state;
    struct all a = {0};
    gw_value v = {0};
    fill(&a);
    assert_int_equal(fields_value(table, &a, &v), GW_OK);
    is_json(&v,
            "{\"b\": true, \"i\": -5, \"u\": 18446744073709551615, \"i32\": -2147483648, "
            "\"u32\": 4294967295, \"f\": 0.25, \"s\": \"text\", \"bytes\": {\"base64\": \"AAE=\"}, "
            "\"strs\": [\"one\", \"\"], \"id\": \"01000000000000000000000000\", "
            "\"time\": \"1970-01-01T00:00:01.000Z\", \"value\": {\"k\": \"v\"}, "
            "\"point\": {\"x\": 1.0, \"y\": 2.0, \"label\": \"p\"}, "
            "\"points\": [{\"x\": 0.0, \"y\": 0.0, \"label\": \"\"}, "
            "{\"x\": 3.0, \"y\": 4.0, \"label\": \"q\"}]}");
    /* The value packs as the struct does. */
    struct buf packed = {0}, from_value = {0};
    fields_pack(table, &a, (struct span){0}, 0, &packed);
    value_pack(&v, &from_value);
    assert_int_equal(packed.len, from_value.len);
    assert_memory_equal(packed.data, from_value.data, packed.len);
    buf_free(&packed);
    buf_free(&from_value);
    gw_value_free(&v);
    fields_clear(table, &a);
}

static void test_described(void **state)
{
    (void)state;
    gw_value v = {0};
    assert_int_equal(fields_describe(newer_table, &v), GW_OK);
    is_json(&v, "[{\"name\": \"title\", \"type\": \"string\", \"alias\": \"name\"}, "
                "{\"name\": \"log\", \"type\": \"[string]\", \"since\": 2}, "
                "{\"name\": \"count\", \"type\": \"int\"}]");
    gw_value_free(&v);
    assert_int_equal(fields_describe((struct fields){rows + 12, 2}, &v), GW_OK);
    is_json(&v, "[{\"name\": \"point\", \"type\": \"struct\", \"fields\": ["
                "{\"name\": \"x\", \"type\": \"float\"}, {\"name\": \"y\", \"type\": \"float\"}, "
                "{\"name\": \"label\", \"type\": \"string\"}]}, "
                "{\"name\": \"points\", \"type\": \"[struct]\", \"fields\": ["
                "{\"name\": \"x\", \"type\": \"float\"}, {\"name\": \"y\", \"type\": \"float\"}, "
                "{\"name\": \"label\", \"type\": \"string\"}]}]");
    gw_value_free(&v);
}

static gw_err set(struct all *a, const char *name, const char *json, bool text,
                  struct gw_error *why)
{
    gw_value v = {0};
    const struct gw_field *field =
        fields_find(table, (struct span){(const uint8_t *)name, strlen(name)});
    assert_int_equal(json_parse(json, strlen(json), &v, why), GW_OK);
    gw_err err = field_set(field, a, &v, text, why);
    gw_value_free(&v);
    return err;
}

static void test_set(void **state)
{
    (void)state;
    static const struct {
        const char *name, *json;
        bool text;
    } good[] = {
        {"b", "true", false},
        {"i", "-5", false},
        {"u", "18446744073709551615", false},
        {"i32", "-2147483648", false},
        {"u32", "4294967295", false},
        {"f", "0.25", false},
        {"s", "\"text\"", false},
        {"bytes", "{\"base64\": \"AAE=\"}", false},
        {"strs", "[\"one\", \"\"]", false},
        {"id", "\"01000000000000000000000000\"", false},
        {"time", "\"1970-01-01T00:00:01Z\"", false},
        {"value", "{\"k\": \"v\"}", false},
        {"point", "{\"x\": 1, \"y\": 2, \"label\": \"p\"}", false},
        {"points", "[{}, {\"x\": 3, \"y\": 4.0, \"label\": \"q\"}]", false},
        {"b", "\"yes\"", true},
        {"i", "\"-5\"", true},
        {"u", "\"18446744073709551615\"", true},
        {"i32", "\"-2147483648\"", true},
        {"u32", "\"4294967295\"", true},
        {"f", "\"2.5e-1\"", true},
        {"s", "\"text\"", true},
        {"bytes", "\"AAE=\"", true},
        {"points", "[{}, {\"x\": \"3\", \"y\": \"4\", \"label\": \"q\"}]", true},
    };
    struct all want = {0}, a = {0};
    struct gw_error why = {0};
    fill(&want);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (set(&a, good[i].name, good[i].json, good[i].text, &why)) {
            fail_msg("%s: %s", good[i].name, why.text);
        }
    }
    assert_true(fields_equal(table, &a, &want));
    a.point.label[0] = 'x'; /* a struct is set as a whole */
    assert_int_equal(set(&a, "point", "{\"y\": 9}", false, &why), GW_OK);
    assert_true(a.point.x == 0 && a.point.y == 9 && !a.point.label);
    fields_clear(table, &a);
    fields_clear(table, &want);
}

static void test_set_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *name, *json;
        bool text;
        const char *want;
    } bad[] = {
        {"i", "\"5\"", false, "field \"i\" wants int, got string \"5\""},
        {"i", "\"5x\"", true, "field \"i\" wants int, got string \"5x\""},
        {"i", "1.0", false, "field \"i\" wants int, got float 1.0"},
        {"i", "18446744073709551615", false, "field \"i\" wants int, got int 18446744073709551615"},
        {"u", "-1", false, "field \"u\" wants uint, got int -1"},
        {"i32", "2147483648", false, "field \"i32\" wants int32, got int 2147483648"},
        {"u32", "4294967296", false, "field \"u32\" wants uint32, got int 4294967296"},
        {"u32", "\"4294967296\"", true, "field \"u32\" wants uint32, got string \"4294967296\""},
        {"f", "true", false, "field \"f\" wants float, got bool true"},
        {"b", "1", false, "field \"b\" wants bool, got int 1"},
        {"s", "5", false, "field \"s\" wants string, got int 5"},
        {"s", "null", false, "field \"s\" wants string, got nil"},
        {"bytes", "\"AAE=\"", false, "field \"bytes\" wants bytes, got string \"AAE=\""},
        {"strs", "[\"a\", 5]", false, "field \"strs\" wants [string], got list"},
        {"id", "\"../../x\"", false, "field \"id\" wants id, got string \"../../x\""},
        {"time", "5", false, "field \"time\" wants time, got int 5"},
        {"point", "5", false, "in \"point\": a struct is a map, got int 5"},
        {"point", "{\"z\": 1}", false, "in \"point\": there is no field called \"z\""},
        {"points", "[{}, {\"label\": 5}]", false,
         "in \"points\": element 1: field \"label\" wants string, got int 5"},
        {"points", "{}", false, "field \"points\" wants [struct], got map"},
    };
    struct all a = {0}, before = {0};
    fill(&a);
    fill(&before);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct gw_error why = {0};
        assert_int_equal(set(&a, bad[i].name, bad[i].json, bad[i].text, &why), GW_EARG);
        assert_string_equal(why.text, bad[i].want);
        assert_true(fields_equal(table, &a, &before)); /* as it was */
    }
    fields_clear(table, &a);
    fields_clear(table, &before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_of_every_kind),
        cmocka_unit_test(test_fields_alone),
        cmocka_unit_test(test_zero_is_default),
        cmocka_unit_test(test_equality_sees_every_field),
        cmocka_unit_test(test_unknown_fields_travel_on),
        cmocka_unit_test(test_former_name),
        cmocka_unit_test(test_unknown_fields_are_only_added_on_success),
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_hostile_maps),
        cmocka_unit_test(test_every_truncation_and_change),
        cmocka_unit_test(test_amplification_is_bounded),
        cmocka_unit_test(test_depth_of_free_values),
        cmocka_unit_test(test_bad_text_is_repaired),
        cmocka_unit_test(test_as_value),
        cmocka_unit_test(test_described),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_set_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
