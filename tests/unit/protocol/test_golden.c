/* The bytes of values and structs never change: tests/golden/values.txt and struct.txt. A
 * difference is a decision about compatibility, not something to regenerate. Run from the root of
 * the tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "protocol/field.h"
#include "protocol/json.h"
#include "protocol/value.h"

/* One line: "name hex text"; '#' begins a comment. */
struct vector {
    const char *name, *text; /* in the line */
    uint8_t bytes[4096];
    size_t n;
};

typedef void vector_check(const struct vector *v);

static void read_line(char *line, struct vector *v)
{
    char *hex = strchr(line, ' '), *text = hex ? strchr(hex + 1, ' ') : NULL;
    assert_non_null(hex);
    *hex++ = '\0';
    if (text) {
        *text++ = '\0';
    }
    v->name = line;
    v->text = text ? text : "";
    assert_int_equal(sodium_hex2bin(v->bytes, sizeof v->bytes, hex, strlen(hex), NULL, &v->n, NULL),
                     0);
}

static void each_vector(const char *path, unsigned want, vector_check *check)
{
    static struct vector v;
    static char line[10000];
    unsigned count = 0;
    FILE *file = fopen(path, "r");
    if (!file) {
        fail_msg("cannot open \"%s\": run from the root of the tree", path);
        return;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '#' && line[0] != '\0') {
            read_line(line, &v);
            check(&v);
            count++;
        }
    }
    fclose(file);
    assert_int_equal(count, want);
}

static void same_bytes(const struct vector *v, const struct buf *out)
{
    char hex[8193];
    if (out->len != v->n || memcmp(out->data, v->bytes, v->n) != 0) {
        sodium_bin2hex(hex, sizeof hex, out->data, out->len < 4096 ? out->len : 4096);
        fail_msg("%s packs as %s", v->name, hex);
    }
}

/* The text is the JSON of the value. */
static void check_value(const struct vector *v)
{
    gw_value value = {0};
    struct buf packed = {0}, json = {0};
    if (value_unpack_span((struct span){v->bytes, v->n}, &value)) {
        fail_msg("%s does not decode", v->name);
    }
    value_pack(&value, &packed);
    same_bytes(v, &packed);
    assert_int_equal(json_write(&value, 0, &json), GW_OK);
    buf_add(&json, "", 1);
    assert_string_equal((char *)json.data, v->text);
    gw_value_free(&value);
    buf_free(&packed);
    buf_free(&json);
}

static void test_values(void **state)
{
    (void)state;
    each_vector("tests/golden/values.txt", 31, check_value);
}

/* --- a struct --- */

struct stop {
    char *host;
    gw_time at;
};
static const struct gw_field stop_rows[] = {
    GW_FIELD(struct stop, host),
    GW_FIELD(struct stop, at),
};
struct trip {
    bool done;
    int64_t count;
    uint64_t total;
    int32_t delta;
    uint32_t flags;
    double share;
    char *name;
    gw_bytes key;
    gw_strs notes;
    gw_id id;
    gw_time began;
    gw_value extra;
    struct stop next;
    struct {
        struct stop *items;
        size_t len;
    } stops;
};
static const struct gw_field trip_rows[] = {
    GW_FIELD(struct trip, done),
    GW_FIELD(struct trip, count),
    GW_FIELD(struct trip, total),
    GW_FIELD(struct trip, delta),
    GW_FIELD(struct trip, flags),
    GW_FIELD(struct trip, share),
    GW_FIELD_RENAMED(struct trip, name, "title"),
    GW_FIELD(struct trip, key),
    GW_FIELD_SINCE(struct trip, notes, 2),
    GW_FIELD(struct trip, id),
    GW_FIELD(struct trip, began),
    GW_FIELD(struct trip, extra),
    GW_STRUCT(struct trip, next, stop_rows),
    GW_LIST(struct trip, stops, stop_rows),
};
static const struct fields trip_table = {trip_rows, sizeof trip_rows / sizeof trip_rows[0]};

/* The text is the JSON of the struct. A vector whose name begins with "old_" is of an earlier
 * version: it decodes, and does not pack the same way. */
static void check_struct(const struct vector *v)
{
    struct trip trip = {0};
    struct buf packed = {0}, json = {0}, unknown = {0};
    struct gw_error why = {0};
    size_t pairs = 0;
    struct mp m = mp_over((struct span){v->bytes, v->n});
    if (fields_unpack(trip_table, &m, &trip, &unknown, &pairs, &why)) {
        fail_msg("%s: %s", v->name, why.text);
    }
    fields_pack(trip_table, &trip, buf_span(&unknown), pairs, &packed);
    if (strncmp(v->name, "old_", 4) != 0) {
        same_bytes(v, &packed);
    }
    gw_value value = {0};
    assert_int_equal(fields_value(trip_table, &trip, &value), GW_OK);
    assert_int_equal(json_write(&value, 0, &json), GW_OK);
    buf_add(&json, "", 1);
    assert_string_equal((char *)json.data, v->text);
    gw_value_free(&value);
    fields_clear(trip_table, &trip);
    buf_free(&packed);
    buf_free(&json);
    buf_free(&unknown);
}

static void test_struct(void **state)
{
    (void)state;
    each_vector("tests/golden/struct.txt", 4, check_struct);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_struct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
