/* Structs by field table: what decodes packs again and decodes to the same, unknown fields
 * included. */
#include <stdlib.h>

#include "protocol/field.h"
#include "protocol/json.h"
#include "protocol/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct leaf {
    char *name;
    double weight;
};
static const struct gw_field leaf_rows[] = {
    GW_FIELD(struct leaf, name),
    GW_FIELD_SINCE(struct leaf, weight, 2),
};
struct whole {
    bool b;
    int64_t i;
    uint64_t u;
    int32_t i32;
    uint32_t u32;
    double f;
    char *s;
    gw_bytes raw;
    gw_strs strs;
    gw_id id;
    gw_time time;
    gw_value v;
    struct leaf leaf;
    struct {
        struct leaf *items;
        size_t len;
    } list;
};
static const struct gw_field rows[] = {
    GW_FIELD(struct whole, b),
    GW_FIELD(struct whole, i),
    GW_FIELD(struct whole, u),
    GW_FIELD(struct whole, i32),
    GW_FIELD(struct whole, u32),
    GW_FIELD(struct whole, f),
    GW_FIELD_RENAMED(struct whole, s, "t"),
    GW_FIELD(struct whole, raw),
    GW_FIELD(struct whole, strs),
    GW_FIELD(struct whole, id),
    GW_FIELD(struct whole, time),
    GW_FIELD(struct whole, v),
    GW_STRUCT(struct whole, leaf, leaf_rows),
    GW_LIST(struct whole, list, leaf_rows),
};
static const struct fields table = {rows, sizeof rows / sizeof rows[0]};

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* Set from the free value of each field, as a caller would. */
static void set_all(const gw_value *map, const struct whole *want)
{
    struct whole copy = {0};
    for (size_t i = 0; i < table.n; i++) {
        const gw_value *v = gw_map_get(map, rows[i].name);
        must(v && field_set(&rows[i], &copy, v, false, NULL) == GW_OK);
    }
    must(fields_equal(table, &copy, want));
    fields_clear(table, &copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp m = mp_over((struct span){data, size});
    struct whole obj = {0}, zero = {0}, back = {0};
    struct buf unknown = {0}, out = {0};
    struct gw_error why = {0};
    size_t pairs = 0;
    if (fields_unpack(table, &m, &obj, &unknown, &pairs, &why)) {
        must(m.p == data && unknown.len == 0 && why.text[0]);
        must(fields_equal(table, &obj, &zero));
        buf_free(&unknown);
        return 0;
    }
    fields_pack(table, &obj, buf_span(&unknown), pairs, &out);
    must(buf_ok(&out));
    m = mp_over(buf_span(&out));
    size_t before = unknown.len, more = 0;
    must(fields_unpack(table, &m, &back, &unknown, &more, NULL) == GW_OK && mp_done(&m));
    must(fields_equal(table, &obj, &back) && more == pairs && unknown.len == 2 * before);
    gw_value v = {0};
    must(fields_value(table, &obj, &v) == GW_OK);
    set_all(&v, &obj);
    gw_value_free(&v);
    fields_clear(table, &obj);
    fields_clear(table, &back);
    buf_free(&unknown);
    buf_free(&out);
    return 0;
}
