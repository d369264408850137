/* Whether a table from a plugin can be trusted: everything in field.c and field_text.c walks memory
 * by what stands in it. */
#include <string.h>

#include "protocol/base/id.h"
#include "protocol/field.h"
#include "protocol/limits.h"

/* --- what is known of each kind --- */

static const struct kind {
    const char *name;
    uint32_t size; /* 0: the table says */
    uint32_t align;
} kinds[] = {
    [GW_FIELD_BOOL] = {"bool", sizeof(bool), _Alignof(bool)},
    [GW_FIELD_INT] = {"int", sizeof(int64_t), _Alignof(int64_t)},
    [GW_FIELD_UINT] = {"uint", sizeof(uint64_t), _Alignof(uint64_t)},
    [GW_FIELD_INT32] = {"int32", sizeof(int32_t), _Alignof(int32_t)},
    [GW_FIELD_UINT32] = {"uint32", sizeof(uint32_t), _Alignof(uint32_t)},
    [GW_FIELD_DOUBLE] = {"float", sizeof(double), _Alignof(double)},
    [GW_FIELD_STRING] = {"string", sizeof(char *), _Alignof(char *)},
    [GW_FIELD_BYTES] = {"bytes", sizeof(gw_bytes), _Alignof(gw_bytes)},
    [GW_FIELD_STRS] = {"[string]", sizeof(gw_strs), _Alignof(gw_strs)},
    [GW_FIELD_ID] = {"id", sizeof(gw_id), _Alignof(gw_id)},
    [GW_FIELD_TIME] = {"time", sizeof(gw_time), _Alignof(gw_time)},
    [GW_FIELD_VALUE] = {"any", sizeof(gw_value), _Alignof(gw_value)},
    [GW_FIELD_STRUCT] = {"struct", 0, 1},
    [GW_FIELD_LIST] = {"[struct]", 0, _Alignof(void *)},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

const char *field_type_name(const struct gw_field *field)
{
    return kinds[field->kind].name;
}

/* --- checking a table --- */

static struct fields table_of(const struct gw_field *field)
{
    return (struct fields){field->fields, field->field_count};
}

/* The tables on the way down, so that one inside itself is found at once. */
struct nest {
    const struct nest *up;
    const struct gw_field *items;
    unsigned depth;
};

static gw_err check_table(struct fields f, size_t struct_size, const struct nest *up,
                          struct gw_error *why);

static gw_err check_nested(const struct gw_field *field, const struct nest *here,
                           struct gw_error *why)
{
    size_t size = field->kind == GW_FIELD_LIST ? field->elem_size : field->size;
    if (!field->fields || field->field_count == 0 || size == 0) {
        return gw_fail(why, GW_EABI, "field \"%s\" has no table of its own", field->name);
    }
    if (field->kind == GW_FIELD_LIST && field->size < sizeof(void *) + sizeof(size_t)) {
        return gw_fail(why, GW_EABI, "field \"%s\" is not a list of items and len", field->name);
    }
    for (const struct nest *at = here; at; at = at->up) {
        if (at->items == field->fields) {
            return gw_fail(why, GW_EABI, "the table of field \"%s\" contains itself", field->name);
        }
    }
    gw_err err = check_table(table_of(field), size, here, why);
    if (err) {
        gw_prefix(why, "in \"%s\"", field->name);
    }
    return err;
}

static gw_err check_field(const struct gw_field *field, size_t struct_size, const struct nest *here,
                          struct gw_error *why)
{
    if (!field->name || !name_is_valid(field->name)) {
        return gw_fail(why, GW_EABI, "a field has no valid name");
    }
    if ((unsigned)field->kind >= KINDS) {
        return gw_fail(why, GW_EABI, "field \"%s\" is of the unknown kind %u", field->name,
                       (unsigned)field->kind);
    }
    if (field->alias && !name_is_valid(field->alias)) {
        return gw_fail(why, GW_EABI, "the alias of field \"%s\" is not a name", field->name);
    }
    const struct kind *kind = &kinds[field->kind];
    if (kind->size && field->size != kind->size) {
        return gw_fail(why, GW_EABI, "field \"%s\" has %u bytes, a member of type %s has %u",
                       field->name, field->size, kind->name, kind->size);
    }
    if (field->size > struct_size || field->offset > struct_size - field->size) {
        return gw_fail(why, GW_EABI, "field \"%s\" lies outside its struct of %zu bytes",
                       field->name, struct_size);
    }
    if (field->offset % kind->align != 0) {
        return gw_fail(why, GW_EABI, "field \"%s\" is not aligned", field->name);
    }
    bool nested = field->kind == GW_FIELD_STRUCT || field->kind == GW_FIELD_LIST;
    return nested ? check_nested(field, here, why) : GW_OK;
}

static bool same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static gw_err check_pair(const struct gw_field *a, const struct gw_field *b, struct gw_error *why)
{
    if (same(a->name, b->name) || same(a->name, b->alias) || same(a->alias, b->name) ||
        same(a->alias, b->alias)) {
        return gw_fail(why, GW_EABI, "the fields \"%s\" and \"%s\" share a name", b->name, a->name);
    }
    if (a->offset < b->offset + b->size && b->offset < a->offset + a->size) {
        return gw_fail(why, GW_EABI, "the fields \"%s\" and \"%s\" overlap", b->name, a->name);
    }
    return GW_OK;
}

static gw_err check_table(struct fields f, size_t struct_size, const struct nest *up,
                          struct gw_error *why)
{
    struct nest here = {up, f.items, up ? up->depth + 1 : 1};
    if (here.depth > LIMIT_DEPTH) {
        return gw_fail(why, GW_EABI, "the field tables nest deeper than %d", LIMIT_DEPTH);
    }
    if (f.n > LIMIT_FIELDS || (f.n > 0 && !f.items)) {
        return gw_fail(why, GW_EABI, "the field table has %zu rows, at most %d can be", f.n,
                       LIMIT_FIELDS);
    }
    for (size_t i = 0; i < f.n; i++) {
        GW_TRY(check_field(&f.items[i], struct_size, &here, why));
        for (size_t k = 0; k < i; k++) {
            GW_TRY(check_pair(&f.items[i], &f.items[k], why));
        }
    }
    return GW_OK;
}

gw_err fields_check(struct fields f, size_t struct_size, struct gw_error *why)
{
    return check_table(f, struct_size, NULL, why);
}
