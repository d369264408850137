#include "protocol/field.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/value.h"

/* How a GW_LIST member begins. */
struct list {
    char *items;
    size_t len;
};

static struct fields table_of(const struct gw_field *field)
{
    return (struct fields){field->fields, field->field_count};
}

static bool is_name(struct span s, const char *name)
{
    return name && span_is(s, name);
}

const struct gw_field *fields_find(struct fields f, struct span name)
{
    for (size_t i = 0; i < f.n; i++) {
        if (is_name(name, f.items[i].name)) {
            return &f.items[i];
        }
    }
    for (size_t i = 0; i < f.n; i++) {
        if (is_name(name, f.items[i].alias)) {
            return &f.items[i];
        }
    }
    return NULL;
}

/* --- free, compare --- */

static void clear_member(const struct gw_field *field, void *at)
{
    struct list *list = at;
    switch (field->kind) {
    case GW_FIELD_STRING: free(*(char **)at); break;
    case GW_FIELD_BYTES: gw_bytes_clear(at); break;
    case GW_FIELD_STRS: gw_strs_clear(at); break;
    case GW_FIELD_VALUE: gw_value_free(at); break;
    case GW_FIELD_STRUCT: fields_clear(table_of(field), at); return; /* untabled members stay */
    case GW_FIELD_LIST:
        for (size_t i = 0; i < list->len; i++) {
            fields_clear(table_of(field), list->items + i * field->elem_size);
        }
        free(list->items);
        break;
    default: break;
    }
    memset(at, 0, field->size);
}

void fields_clear(struct fields f, void *obj)
{
    for (size_t i = 0; i < f.n; i++) {
        clear_member(&f.items[i], (char *)obj + f.items[i].offset);
    }
}

static bool texts_equal(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool strs_equal(const gw_strs *a, const gw_strs *b)
{
    if (a->len != b->len) {
        return false;
    }
    for (size_t i = 0; i < a->len; i++) {
        if (!texts_equal(a->items[i], b->items[i])) {
            return false;
        }
    }
    return true;
}

static bool lists_equal(const struct gw_field *field, const struct list *a, const struct list *b)
{
    if (a->len != b->len) {
        return false;
    }
    for (size_t i = 0; i < a->len; i++) {
        size_t at = i * field->elem_size;
        if (!fields_equal(table_of(field), a->items + at, b->items + at)) {
            return false;
        }
    }
    return true;
}

static bool members_equal(const struct gw_field *field, const void *a, const void *b)
{
    const gw_bytes *ba = a, *bb = b;
    switch (field->kind) {
    case GW_FIELD_DOUBLE: {
        double x = *(const double *)a, y = *(const double *)b;
        return x == y || (x != x && y != y);
    }
    case GW_FIELD_STRING: return texts_equal(*(char *const *)a, *(char *const *)b);
    case GW_FIELD_BYTES:
        return ba->len == bb->len && (ba->len == 0 || memcmp(ba->data, bb->data, ba->len) == 0);
    case GW_FIELD_STRS: return strs_equal(a, b);
    case GW_FIELD_VALUE: return gw_value_equal(a, b);
    case GW_FIELD_STRUCT: return fields_equal(table_of(field), a, b);
    case GW_FIELD_LIST: return lists_equal(field, a, b);
    default: return memcmp(a, b, field->size) == 0;
    }
}

bool fields_equal(struct fields f, const void *a, const void *b)
{
    for (size_t i = 0; i < f.n; i++) {
        uint32_t at = f.items[i].offset;
        if (!members_equal(&f.items[i], (const char *)a + at, (const char *)b + at)) {
            return false;
        }
    }
    return true;
}

/* --- packing --- */

const char *field_stored_name(const struct gw_field *field)
{
    return field->alias ? field->alias : field->name;
}

static void pack_struct(struct fields f, const void *obj, unsigned depth, struct span unknown,
                        size_t unknown_pairs, struct buf *out);

static void pack_text(const char *text, struct buf *out)
{
    value_pack_text(text ? text : "", text ? strlen(text) : 0, out);
}

static void pack_strs(const gw_strs *strs, struct buf *out)
{
    mp_array(out, strs->len);
    for (size_t i = 0; i < strs->len; i++) {
        pack_text(strs->items[i], out);
    }
}

static void pack_list(const struct gw_field *field, const struct list *list, unsigned depth,
                      struct buf *out)
{
    mp_array(out, list->len);
    for (size_t i = 0; i < list->len; i++) {
        pack_struct(table_of(field), list->items + i * field->elem_size, depth + 1,
                    (struct span){0}, 0, out);
    }
}

/* `depth`: how many arrays and maps are around the member. */
static void pack_member(const struct gw_field *field, const void *at, unsigned depth,
                        struct buf *out)
{
    const gw_bytes *bytes = at;
    switch (field->kind) {
    case GW_FIELD_BOOL: mp_bool(out, *(const bool *)at); break;
    case GW_FIELD_INT: mp_int(out, *(const int64_t *)at); break;
    case GW_FIELD_UINT: mp_uint(out, *(const uint64_t *)at); break;
    case GW_FIELD_INT32: mp_int(out, *(const int32_t *)at); break;
    case GW_FIELD_UINT32: mp_uint(out, *(const uint32_t *)at); break;
    case GW_FIELD_DOUBLE: mp_float(out, *(const double *)at); break;
    case GW_FIELD_STRING: pack_text(*(char *const *)at, out); break;
    case GW_FIELD_BYTES: mp_bin(out, bytes->data, bytes->len); break;
    case GW_FIELD_STRS: pack_strs(at, out); break;
    case GW_FIELD_ID: mp_id(out, at); break;
    case GW_FIELD_TIME: mp_time(out, *(const gw_time *)at); break;
    case GW_FIELD_VALUE: value_pack_at(at, depth, out); break;
    case GW_FIELD_STRUCT: pack_struct(table_of(field), at, depth, (struct span){0}, 0, out); break;
    case GW_FIELD_LIST: pack_list(field, at, depth, out); break;
    }
}

static void pack_struct(struct fields f, const void *obj, unsigned depth, struct span unknown,
                        size_t unknown_pairs, struct buf *out)
{
    mp_map(out, f.n + unknown_pairs);
    for (size_t i = 0; i < f.n; i++) {
        mp_str(out, field_stored_name(&f.items[i]));
        pack_member(&f.items[i], (const char *)obj + f.items[i].offset, depth + 1, out);
    }
    buf_add(out, unknown.p, unknown.n);
}

void field_pack(const struct gw_field *field, const void *obj, struct buf *out)
{
    pack_member(field, (const char *)obj + field->offset, 1, out);
}

void fields_pack(struct fields f, const void *obj, struct span unknown, size_t unknown_pairs,
                 struct buf *out)
{
    pack_struct(f, obj, 0, unknown, unknown_pairs, out);
}

/* --- unpacking --- */

struct ctx {
    struct gw_error *why;
    size_t budget; /* bytes that lists of structs may still take */
};

static gw_err unpack_struct(struct fields f, struct mp *m, void *obj, unsigned depth,
                            struct ctx *ctx, struct buf *ret_unknown, size_t *ret_pairs);

static const char *type_at(const struct mp *m)
{
    static const char *const names[] = {
        [MP_END] = "nothing", [MP_INVALID] = "damaged bytes",
        [MP_NIL] = "nil",     [MP_BOOL] = "bool",
        [MP_INT] = "int",     [MP_UINT] = "int",
        [MP_FLOAT] = "float", [MP_STR] = "string",
        [MP_BIN] = "bytes",   [MP_EXT] = "ext",
        [MP_ARRAY] = "list",  [MP_MAP] = "map",
    };
    return names[mp_peek(m)];
}

static gw_err no_memory(struct ctx *ctx)
{
    return gw_fail(ctx->why, GW_ENOMEM, "out of memory");
}

static gw_err read_text(struct mp *m, char **ret)
{
    struct span s;
    GW_TRY(mp_read_str(m, &s));
    if (!utf8_is_valid((const char *)s.p, s.n)) {
        return GW_EPROTO;
    }
    *ret = strndup((const char *)s.p, s.n);
    return *ret ? GW_OK : GW_ENOMEM;
}

static gw_err read_string(struct mp *m, char **ret)
{
    struct mp at = *m;
    struct span s;
    if (mp_read_str(&at, &s) == GW_OK && s.n == 0) { /* "" is NULL: nothing to allocate */
        *m = at;
        return GW_OK;
    }
    return read_text(m, ret);
}

static gw_err read_bytes(struct mp *m, gw_bytes *ret)
{
    struct span s;
    GW_TRY(mp_read_bin(m, &s));
    return gw_bytes_set(ret, s.p, s.n);
}

static gw_err read_strs(struct mp *m, gw_strs *ret)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n > 0) {
        ret->items = malloc(n * sizeof *ret->items); /* a pointer for each byte that is there */
        if (!ret->items) {
            return GW_ENOMEM;
        }
        ret->cap = n;
    }
    for (; ret->len < n; ret->len++) {
        GW_TRY(read_text(m, &ret->items[ret->len]));
    }
    return GW_OK;
}

static gw_err read_list(const struct gw_field *field, struct mp *m, struct list *ret,
                        unsigned depth, struct ctx *ctx)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n > ctx->budget / field->elem_size) {
        return gw_fail(ctx->why, GW_ETOO_BIG, "the lists take more than %u bytes",
                       LIMIT_DECODED_BYTES);
    }
    if (n == 0) {
        return GW_OK;
    }
    ctx->budget -= n * field->elem_size;
    ret->items = calloc(n, field->elem_size);
    if (!ret->items) {
        return GW_ENOMEM;
    }
    ret->len = n; /* all of them are valid: zero */
    for (size_t i = 0; i < n; i++) {
        gw_err err = unpack_struct(table_of(field), m, ret->items + i * field->elem_size, depth + 1,
                                   ctx, NULL, NULL);
        if (err) {
            gw_prefix(ctx->why, "element %zu", i);
            return err;
        }
    }
    return GW_OK;
}

static gw_err read_int32(struct mp *m, int32_t *ret)
{
    int64_t v;
    GW_TRY(mp_read_int(m, &v));
    if (v < INT32_MIN || v > INT32_MAX) {
        return GW_EPROTO;
    }
    *ret = (int32_t)v;
    return GW_OK;
}

/* Into a zero member. GW_EPROTO for a wrong type, without a text. */
static gw_err read_member(const struct gw_field *field, struct mp *m, void *at, unsigned depth,
                          struct ctx *ctx)
{
    switch (field->kind) {
    case GW_FIELD_BOOL: return mp_read_bool(m, at);
    case GW_FIELD_INT: return mp_read_int(m, at);
    case GW_FIELD_UINT: return mp_read_uint(m, at);
    case GW_FIELD_INT32: return read_int32(m, at);
    case GW_FIELD_UINT32: return mp_read_u32(m, at);
    case GW_FIELD_DOUBLE: return mp_read_float(m, at);
    case GW_FIELD_STRING: return read_string(m, at);
    case GW_FIELD_BYTES: return read_bytes(m, at);
    case GW_FIELD_STRS: return read_strs(m, at);
    case GW_FIELD_ID: return mp_read_id(m, at);
    case GW_FIELD_TIME: return mp_read_time(m, at);
    case GW_FIELD_VALUE: return value_unpack_at(m, depth, at);
    case GW_FIELD_STRUCT: return unpack_struct(table_of(field), m, at, depth, ctx, NULL, NULL);
    case GW_FIELD_LIST: return read_list(field, m, at, depth, ctx);
    }
    return GW_EPROTO;
}

static gw_err unpack_member(const struct gw_field *field, struct mp *m, void *at, unsigned depth,
                            struct ctx *ctx)
{
    struct mp start = *m;
    clear_member(field, at);
    gw_err err = read_member(field, m, at, depth, ctx);
    if (err == GW_OK) {
        return GW_OK;
    }
    clear_member(field, at);
    *m = start;
    if (err == GW_EPROTO) {
        return gw_fail(ctx->why, GW_EDECODE, "field \"%s\" wants %s, got %s%s", field->name,
                       field_type_name(field), type_at(m),
                       strcmp(type_at(m), field_type_name(field)) == 0 ? " that is not valid" : "");
    }
    if (err == GW_ENOMEM) {
        return no_memory(ctx);
    }
    if (field->kind == GW_FIELD_STRUCT || field->kind == GW_FIELD_LIST) {
        gw_prefix(ctx->why, "in \"%s\"", field->name);
    }
    return err;
}

/* One bit for each row: read under its name, under its alias. */
struct seen {
    uint64_t name[LIMIT_FIELDS / 64], alias[LIMIT_FIELDS / 64];
};

static bool set_bit(uint64_t *bits, size_t i)
{
    uint64_t bit = 1ull << (i % 64);
    bool was = bits[i / 64] & bit;
    bits[i / 64] |= bit;
    return was;
}

/* Which row `key` belongs to, f.n for none. States mostly come in table order, so the row after the
 * last one is tried first. */
static size_t row_of(struct fields f, struct span key, size_t guess)
{
    if (guess < f.n && is_name(key, f.items[guess].name)) {
        return guess;
    }
    const struct gw_field *field = fields_find(f, key);
    return field ? (size_t)(field - f.items) : f.n;
}

static gw_err damaged(struct ctx *ctx, const char *what)
{
    return gw_fail(ctx->why, GW_EDECODE, "%s", what);
}

static gw_err unpack_unknown(struct mp *m, const uint8_t *from, struct ctx *ctx,
                             struct buf *ret_unknown, size_t *pairs)
{
    if (mp_skip(m, NULL)) {
        return damaged(ctx, "an unknown field is damaged or nested too deep");
    }
    if (ret_unknown) {
        buf_add(ret_unknown, from, (size_t)(m->p - from));
        ++*pairs;
        return buf_ok(ret_unknown) ? GW_OK : no_memory(ctx);
    }
    return GW_OK;
}

static gw_err unpack_row(struct fields f, size_t row, struct span key, struct mp *m, void *obj,
                         unsigned depth, struct ctx *ctx, struct seen *seen)
{
    const struct gw_field *field = &f.items[row];
    bool former = !is_name(key, field->name);
    if (set_bit(former ? seen->alias : seen->name, row)) {
        return gw_fail(ctx->why, GW_EDECODE, "field \"%s\" stands twice", field->name);
    }
    if (former && (seen->name[row / 64] >> (row % 64) & 1)) {
        return mp_skip(m, NULL) ? damaged(ctx, "a former field is damaged") : GW_OK;
    }
    return unpack_member(field, m, (char *)obj + field->offset, depth + 1, ctx);
}

/* Into a struct whose tabled members are zero; on failure some are set. */
static gw_err unpack_struct(struct fields f, struct mp *m, void *obj, unsigned depth,
                            struct ctx *ctx, struct buf *ret_unknown, size_t *ret_pairs)
{
    struct seen seen = {0};
    size_t n, pairs = 0;
    if (mp_read_map(m, &n)) {
        return gw_fail(ctx->why, GW_EDECODE, "a struct is a map, got %s", type_at(m));
    }
    gw_assert(f.n <= LIMIT_FIELDS);
    for (size_t i = 0, guess = 0; i < n; i++) {
        const uint8_t *from = m->p;
        struct span key;
        if (mp_read_str(m, &key) || !utf8_is_valid((const char *)key.p, key.n)) {
            return damaged(ctx, "the name of a field is not a text");
        }
        size_t row = row_of(f, key, guess);
        if (row == f.n) {
            GW_TRY(unpack_unknown(m, from, ctx, ret_unknown, &pairs));
        } else {
            GW_TRY(unpack_row(f, row, key, m, obj, depth, ctx, &seen));
            guess = row + 1;
        }
    }
    if (ret_pairs) {
        *ret_pairs = pairs;
    }
    return GW_OK;
}

gw_err field_unpack(const struct gw_field *field, struct mp *m, void *obj, struct gw_error *why)
{
    struct ctx ctx = {why, LIMIT_DECODED_BYTES};
    return unpack_member(field, m, (char *)obj + field->offset, 1, &ctx);
}

gw_err fields_unpack(struct fields f, struct mp *m, void *obj, struct buf *ret_unknown,
                     size_t *ret_pairs, struct gw_error *why)
{
    struct ctx ctx = {why, LIMIT_DECODED_BYTES};
    struct mp at = *m;
    size_t before = ret_unknown ? ret_unknown->len : 0;
    fields_clear(f, obj);
    gw_err err = unpack_struct(f, &at, obj, 0, &ctx, ret_unknown, ret_pairs);
    if (err) {
        fields_clear(f, obj);
        if (ret_unknown) {
            ret_unknown->len = before;
        }
        return err;
    }
    *m = at;
    return GW_OK;
}
