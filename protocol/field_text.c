/* Field tables towards people: structs as free values (JSON), tables described, fields set from
 * what a caller sent or typed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/field.h"
#include "protocol/json.h"
#include "protocol/text.h"
#include "protocol/value.h"

struct list {
    char *items;
    size_t len;
};

static struct fields table_of(const struct gw_field *field)
{
    return (struct fields){field->fields, field->field_count};
}

/* --- a struct as a value --- */

static gw_err value_of_strs(const gw_strs *strs, gw_value *ret)
{
    ret->kind = GW_LIST;
    for (size_t i = 0; i < strs->len; i++) {
        gw_value item = {0};
        GW_TRY(gw_value_set_str(&item, strs->items[i], strlen(strs->items[i])));
        GW_TRY(gw_list_add(ret, item));
    }
    return GW_OK;
}

static gw_err value_of_list(const struct gw_field *field, const struct list *list, gw_value *ret)
{
    ret->kind = GW_LIST;
    for (size_t i = 0; i < list->len; i++) {
        gw_value item = {0};
        GW_TRY(fields_value(table_of(field), list->items + i * field->elem_size, &item));
        GW_TRY(gw_list_add(ret, item));
    }
    return GW_OK;
}

/* On failure `ret` is a partial tree for the caller to free. */
static gw_err value_of(const struct gw_field *field, const void *at, gw_value *ret)
{
    const gw_bytes *bytes = at;
    const char *text = "";
    switch (field->kind) {
    case GW_FIELD_BOOL: *ret = gw_bool(*(const bool *)at); break;
    case GW_FIELD_INT: *ret = gw_int(*(const int64_t *)at); break;
    case GW_FIELD_UINT: *ret = gw_uint(*(const uint64_t *)at); break;
    case GW_FIELD_INT32: *ret = gw_int(*(const int32_t *)at); break;
    case GW_FIELD_UINT32: *ret = gw_int(*(const uint32_t *)at); break;
    case GW_FIELD_DOUBLE: *ret = gw_float(*(const double *)at); break;
    case GW_FIELD_STRING:
        text = *(char *const *)at ? *(char *const *)at : text;
        return gw_value_set_str(ret, text, strlen(text));
    case GW_FIELD_BYTES: return gw_value_set_bytes(ret, bytes->data, bytes->len);
    case GW_FIELD_STRS: return value_of_strs(at, ret);
    case GW_FIELD_ID: *ret = gw_id_value(at); break;
    case GW_FIELD_TIME: *ret = gw_time_value(*(const gw_time *)at); break;
    case GW_FIELD_VALUE: return gw_value_copy(at, ret);
    case GW_FIELD_STRUCT: return fields_value(table_of(field), at, ret);
    case GW_FIELD_LIST: return value_of_list(field, at, ret);
    }
    return GW_OK;
}

gw_err fields_value(struct fields f, const void *obj, gw_value *ret)
{
    gw_value map = {.kind = GW_MAP};
    gw_err err = GW_OK;
    for (size_t i = 0; i < f.n && !err; i++) {
        gw_value v = {0};
        err = value_of(&f.items[i], (const char *)obj + f.items[i].offset, &v);
        if (err) {
            gw_value_free(&v);
        } else {
            err = value_map_append(&map, strdup(f.items[i].name), v);
        }
    }
    if (err) {
        gw_value_free(&map);
        return err;
    }
    *ret = map;
    return GW_OK;
}

/* --- a table as a value --- */

static gw_err describe(const struct gw_field *field, gw_value *row)
{
    GW_TRY(gw_map_set(row, "name", gw_str(field->name)));
    GW_TRY(gw_map_set(row, "type", gw_str(field_type_name(field))));
    if (field->since > 1) {
        GW_TRY(gw_map_set(row, "since", gw_int(field->since)));
    }
    if (field->alias) {
        GW_TRY(gw_map_set(row, "alias", gw_str(field->alias)));
    }
    if (field->fields) {
        gw_value nested = {0};
        GW_TRY(fields_describe(table_of(field), &nested));
        GW_TRY(gw_map_set(row, "fields", nested));
    }
    return GW_OK;
}

gw_err fields_describe(struct fields f, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; i < f.n && !err; i++) {
        gw_value row = {0};
        err = describe(&f.items[i], &row);
        if (err) {
            gw_value_free(&row);
        } else {
            err = gw_list_add(&list, row);
        }
    }
    if (err) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

/* --- setting --- */

/* Give dst the tabled members of src, which becomes zero; what dst held is freed. */
static void move_members(struct fields f, void *dst, void *src)
{
    for (size_t i = 0; i < f.n; i++) {
        const struct gw_field *field = &f.items[i];
        void *to = (char *)dst + field->offset, *from = (char *)src + field->offset;
        if (field->kind == GW_FIELD_STRUCT) {
            move_members(table_of(field), to, from);
            continue;
        }
        fields_clear((struct fields){field, 1}, dst);
        memcpy(to, from, field->size);
        memset(from, 0, field->size);
    }
}

static gw_err set_number(const struct gw_field *field, void *at, const gw_value *v,
                         const char *text)
{
    int64_t i = v->i;
    uint64_t u = v->u;
    bool is_int = v->kind == GW_INT, is_uint = v->kind == GW_UINT || (is_int && v->i >= 0);
    if (text) {
        is_int = text_int(text, &i) == GW_OK;
        is_uint = text_uint(text, &u) == GW_OK;
    }
    switch (field->kind) {
    case GW_FIELD_INT: *(int64_t *)at = i; return is_int ? GW_OK : GW_EARG;
    case GW_FIELD_INT32:
        *(int32_t *)at = (int32_t)i;
        return is_int && i >= INT32_MIN && i <= INT32_MAX ? GW_OK : GW_EARG;
    case GW_FIELD_UINT: *(uint64_t *)at = u; return is_uint ? GW_OK : GW_EARG;
    case GW_FIELD_UINT32:
        *(uint32_t *)at = (uint32_t)u;
        return is_uint && u <= UINT32_MAX ? GW_OK : GW_EARG;
    default: break;
    }
    double f = v->kind == GW_FLOAT ? v->f : is_int ? (double)i : (double)u;
    if (text) {
        return text_float(text, at);
    }
    *(double *)at = f;
    return v->kind == GW_FLOAT || is_int || is_uint ? GW_OK : GW_EARG;
}

static gw_err set_strs(gw_strs *ret, const gw_value *v)
{
    if (v->kind != GW_LIST) {
        return GW_EARG;
    }
    for (size_t i = 0; i < v->list.n; i++) {
        if (v->list.items[i].kind != GW_STR) {
            return GW_EARG;
        }
        GW_TRY(gw_strs_add(ret, v->list.items[i].s.p));
    }
    return GW_OK;
}

static gw_err set_string(char **ret, const gw_value *v)
{
    if (v->kind != GW_STR) {
        return GW_EARG;
    }
    *ret = v->s.n ? strndup(v->s.p, v->s.n) : NULL;
    return *ret || v->s.n == 0 ? GW_OK : GW_ENOMEM;
}

static gw_err set_bytes(gw_bytes *ret, const gw_value *v, const char *text)
{
    if (text) {
        return text_base64(text, v->s.n, ret);
    }
    return v->kind == GW_BYTES ? gw_bytes_set(ret, v->s.p, v->s.n) : GW_EARG;
}

static gw_err set_struct(struct fields f, void *obj, const gw_value *v, bool text,
                         struct gw_error *why);

static gw_err set_list(const struct gw_field *field, struct list *ret, const gw_value *v, bool text,
                       struct gw_error *why)
{
    if (v->kind != GW_LIST) {
        return GW_EARG;
    }
    if (v->list.n == 0) {
        return GW_OK;
    }
    ret->items = calloc(v->list.n, field->elem_size);
    if (!ret->items) {
        return GW_ENOMEM;
    }
    ret->len = v->list.n;
    for (size_t i = 0; i < v->list.n; i++) {
        gw_err err = set_struct(table_of(field), ret->items + i * field->elem_size,
                                &v->list.items[i], text, why);
        if (err) {
            gw_prefix(why, "element %zu", i);
            return err;
        }
    }
    return GW_OK;
}

/* Into a zero member; GW_EARG without a text in `why` for a plain mismatch. */
static gw_err set_member(const struct gw_field *field, void *at, const gw_value *v, bool as_typed,
                         struct gw_error *why)
{
    const char *words = v->kind == GW_STR ? v->s.p : NULL, *text = as_typed ? words : NULL;
    switch (field->kind) {
    case GW_FIELD_BOOL:
        *(bool *)at = v->kind == GW_BOOL && v->b;
        return text ? text_bool(text, at) : v->kind == GW_BOOL ? GW_OK : GW_EARG;
    case GW_FIELD_STRING: return set_string(at, v);
    case GW_FIELD_BYTES: return set_bytes(at, v, text);
    case GW_FIELD_STRS: return set_strs(at, v);
    case GW_FIELD_ID:
        if (v->kind == GW_ID) {
            memcpy(at, &v->id, sizeof v->id);
            return GW_OK;
        }
        return words ? gw_id_parse(words, at) : GW_EARG;
    case GW_FIELD_TIME:
        if (v->kind == GW_TIME) {
            memcpy(at, &v->time, sizeof v->time);
            return GW_OK;
        }
        return words ? text_time(words, at) : GW_EARG;
    case GW_FIELD_VALUE: return gw_value_copy(v, at);
    case GW_FIELD_STRUCT: return set_struct(table_of(field), at, v, as_typed, why);
    case GW_FIELD_LIST: return set_list(field, at, v, as_typed, why);
    default: return set_number(field, at, v, text);
    }
}

/* Set the one field in `obj`, where it is zero; on failure it may be partly set. */
static gw_err set_zero(const struct gw_field *field, void *obj, const gw_value *v, bool text,
                       struct gw_error *why)
{
    struct gw_error inner = {0};
    char brief[JSON_BRIEF_SIZE];
    gw_err err = set_member(field, (char *)obj + field->offset, v, text, &inner);
    if (err == GW_EARG && inner.code == GW_OK) {
        return gw_fail(why, err, "field \"%s\" wants %s, got %s", field->name,
                       field_type_name(field), json_brief(v, brief));
    }
    if (err) {
        const char *what = inner.code ? inner.text : "out of memory";
        return gw_fail(why, err, "in \"%s\": %.250s", field->name, what);
    }
    return GW_OK;
}

static gw_err set_struct(struct fields f, void *obj, const gw_value *v, bool text,
                         struct gw_error *why)
{
    char brief[JSON_BRIEF_SIZE];
    if (v->kind != GW_MAP) {
        return gw_fail(why, GW_EARG, "a struct is a map, got %s", json_brief(v, brief));
    }
    for (size_t i = 0; i < v->map.n; i++) {
        const char *key = v->map.items[i].key;
        const struct gw_field *field =
            fields_find(f, (struct span){(const uint8_t *)key, strlen(key)});
        if (!field) {
            snprintf(brief, sizeof brief, "%s", key);
            text_clean(brief);
            return gw_fail(why, GW_EARG, "there is no field called \"%s\"", brief);
        }
        fields_clear((struct fields){field, 1}, obj); /* name and alias may both be given */
        GW_TRY(set_zero(field, obj, &v->map.items[i].value, text, why));
    }
    return GW_OK;
}

gw_err field_set(const struct gw_field *field, void *obj, const gw_value *v, bool text,
                 struct gw_error *why)
{
    struct gw_field alone = *field; /* the same row, of a struct that holds nothing else */
    alone.offset = 0;
    struct fields f = {&alone, 1};
    void *fresh = calloc(1, field->size);
    if (!fresh) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    gw_err err = set_zero(&alone, fresh, v, text, why);
    if (err) {
        fields_clear(f, fresh);
    } else {
        move_members(f, (char *)obj + field->offset, fresh);
    }
    free(fresh);
    return err;
}
