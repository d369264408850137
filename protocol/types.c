#include <godwit/types.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/buf.h"
#include "protocol/value.h"

/* Room for one more element of `size` bytes; doubles, so that n appends copy O(n). */
static bool grow(void *items, size_t *cap, size_t n, size_t size)
{
    if (n < *cap) {
        return true;
    }
    size_t more = *cap ? *cap * 2 : 4;
    void *at;
    memcpy(&at, items, sizeof at); /* `items` is the address of a typed pointer */
    if (more > SIZE_MAX / 2 / size || !(at = realloc(at, more * size))) {
        return false;
    }
    memcpy(items, &at, sizeof at);
    *cap = more;
    return true;
}

/* --- lists of strings, bytes --- */

/* Takes `text`, also on failure. */
static gw_err strs_take(gw_strs *list, char *text)
{
    if (!text || !grow(&list->items, &list->cap, list->len, sizeof *list->items)) {
        free(text);
        return GW_ENOMEM;
    }
    list->items[list->len++] = text;
    return GW_OK;
}

gw_err gw_strs_add(gw_strs *list, const char *text)
{
    return text ? strs_take(list, strdup(text)) : GW_EARG;
}

gw_err gw_strs_addf(gw_strs *list, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return strs_take(list, n < 0 ? NULL : text);
}

void gw_strs_clear(gw_strs *list)
{
    for (size_t i = 0; i < list->len; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (gw_strs){0};
}

gw_err gw_bytes_set(gw_bytes *bytes, const void *data, size_t len)
{
    uint8_t *copy = NULL;
    if (len > 0) {
        copy = malloc(len);
        if (!copy) {
            return GW_ENOMEM;
        }
        memcpy(copy, data, len);
    }
    free(bytes->data); /* last: `data` may lie in it */
    *bytes = (gw_bytes){copy, len};
    return GW_OK;
}

void gw_bytes_clear(gw_bytes *bytes)
{
    free(bytes->data);
    *bytes = (gw_bytes){0};
}

gw_err gw_add(int64_t *a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(*a, b, &sum)) {
        return GW_EOVERFLOW;
    }
    *a = sum;
    return GW_OK;
}

/* --- leaves --- */

gw_value gw_nil(void)
{
    return (gw_value){.kind = GW_NIL};
}

gw_value gw_bool(bool b)
{
    return (gw_value){.kind = GW_BOOL, .b = b};
}

gw_value gw_int(int64_t i)
{
    return (gw_value){.kind = GW_INT, .i = i};
}

gw_value gw_uint(uint64_t u)
{
    if (u <= INT64_MAX) {
        return gw_int((int64_t)u);
    }
    return (gw_value){.kind = GW_UINT, .u = u};
}

gw_value gw_float(double f)
{
    return (gw_value){.kind = GW_FLOAT, .f = f};
}

gw_value gw_id_value(const gw_id *id)
{
    return (gw_value){.kind = GW_ID, .id = *id};
}

gw_value gw_time_value(gw_time t)
{
    return (gw_value){.kind = GW_TIME, .time = t};
}

gw_value gw_str(const char *text)
{
    gw_value v = {.kind = GW_STR};
    v.s.p = xstrdup(text ? text : "");
    v.s.n = strlen(v.s.p);
    return v;
}

gw_value gw_strf(const char *fmt, ...)
{
    gw_value v = {.kind = GW_STR};
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&v.s.p, fmt, ap);
    va_end(ap);
    if (n < 0) {
        fputs("godwit: out of memory\n", stderr);
        abort();
    }
    v.s.n = (size_t)n;
    return v;
}

static gw_err set_run(gw_value *v, gw_kind kind, const void *p, size_t n)
{
    char *copy = n < SIZE_MAX ? malloc(n + 1) : NULL;
    if (!copy) {
        return GW_ENOMEM;
    }
    if (n > 0) {
        memcpy(copy, p, n);
    }
    copy[n] = '\0';
    gw_value_free(v); /* after the copy: `p` may lie in it */
    v->kind = kind;
    v->s.p = copy;
    v->s.n = n;
    return GW_OK;
}

gw_err gw_value_set_str(gw_value *v, const char *p, size_t n)
{
    return set_run(v, GW_STR, p, n);
}

gw_err gw_value_set_bytes(gw_value *v, const void *p, size_t n)
{
    return set_run(v, GW_BYTES, p, n);
}

/* --- lists and maps --- */

gw_err gw_list_add(gw_value *list, gw_value item)
{
    if (list->kind == GW_NIL) {
        *list = (gw_value){.kind = GW_LIST};
    }
    gw_err err = GW_EARG;
    if (list->kind == GW_LIST) {
        if (grow(&list->list.items, &list->list.cap, list->list.n, sizeof item)) {
            list->list.items[list->list.n++] = item;
            return GW_OK;
        }
        err = GW_ENOMEM;
    }
    gw_value_free(&item);
    return err;
}

gw_err value_map_append(gw_value *map, char *key, gw_value item)
{
    if (!key || !grow(&map->map.items, &map->map.cap, map->map.n, sizeof *map->map.items)) {
        free(key);
        gw_value_free(&item);
        return GW_ENOMEM;
    }
    map->map.items[map->map.n++] = (struct gw_member){key, item};
    return GW_OK;
}

static struct gw_member *find(const gw_value *map, const char *key)
{
    if (!map || map->kind != GW_MAP) {
        return NULL;
    }
    for (size_t i = 0; i < map->map.n; i++) {
        if (text_same(map->map.items[i].key, key)) {
            return &map->map.items[i];
        }
    }
    return NULL;
}

gw_err gw_map_set(gw_value *map, const char *key, gw_value item)
{
    /* A key that is not UTF-8 would make a value that packs and never decodes. */
    if ((map->kind != GW_NIL && map->kind != GW_MAP) || !key || !utf8_is_valid(key, strlen(key))) {
        gw_value_free(&item);
        return GW_EARG;
    }
    if (map->kind == GW_NIL) {
        *map = (gw_value){.kind = GW_MAP};
    }
    struct gw_member *member = find(map, key);
    if (member) {
        gw_value_free(&member->value);
        member->value = item;
        return GW_OK;
    }
    return value_map_append(map, strdup(key), item);
}

const gw_value *gw_map_get(const gw_value *map, const char *key)
{
    const struct gw_member *member = find(map, key);
    return member ? &member->value : NULL;
}

const char *gw_map_str(const gw_value *map, const char *key, const char *fallback)
{
    const gw_value *v = gw_map_get(map, key);
    return v && v->kind == GW_STR ? v->s.p : fallback;
}

int64_t gw_map_int(const gw_value *map, const char *key, int64_t fallback)
{
    const gw_value *v = gw_map_get(map, key);
    return v && v->kind == GW_INT ? v->i : fallback;
}

bool gw_map_bool(const gw_value *map, const char *key, bool fallback)
{
    const gw_value *v = gw_map_get(map, key);
    return v && v->kind == GW_BOOL ? v->b : fallback;
}

/* --- whole trees --- */

static gw_err copy_list(const gw_value *v, gw_value *ret)
{
    for (size_t i = 0; i < v->list.n; i++) {
        gw_value item = {0};
        GW_TRY(gw_value_copy(&v->list.items[i], &item));
        GW_TRY(gw_list_add(ret, item));
    }
    return GW_OK;
}

static gw_err copy_map(const gw_value *v, gw_value *ret)
{
    for (size_t i = 0; i < v->map.n; i++) {
        gw_value item = {0};
        GW_TRY(gw_value_copy(&v->map.items[i].value, &item));
        GW_TRY(value_map_append(ret, strdup(v->map.items[i].key), item));
    }
    return GW_OK;
}

gw_err gw_value_copy(const gw_value *v, gw_value *ret)
{
    gw_value copy = {.kind = v->kind};
    gw_err err = GW_OK;
    switch (v->kind) {
    case GW_STR:
    case GW_BYTES:
        copy.kind = GW_NIL;
        err = set_run(&copy, v->kind, v->s.p, v->s.n);
        break;
    case GW_LIST: err = copy_list(v, &copy); break;
    case GW_MAP: err = copy_map(v, &copy); break;
    default: copy = *v; break;
    }
    if (err) {
        gw_value_free(&copy);
        return err;
    }
    *ret = copy;
    return GW_OK;
}

static bool ints_equal(const gw_value *a, const gw_value *b)
{
    bool negative_a = a->kind == GW_INT && a->i < 0, negative_b = b->kind == GW_INT && b->i < 0;
    return negative_a == negative_b && a->u == b->u; /* both members are the same 64 bits */
}

/* Maps are equal when they hold the same members, in whatever order. Trees of the same origin have
 * the same order, so the member at the same place is tried first; large maps in another order are
 * compared sorted, so that a peer cannot buy n * n comparisons. */
static bool maps_equal(const gw_value *a, const gw_value *b)
{
    size_t n = a->map.n, i = 0;
    if (n != b->map.n) {
        return false;
    }
    for (; i < n && strcmp(a->map.items[i].key, b->map.items[i].key) == 0; i++) {
        if (!gw_value_equal(&a->map.items[i].value, &b->map.items[i].value)) {
            return false;
        }
    }
    if (i == n) {
        return true;
    }
    const struct gw_member **sa = value_map_sorted(a), **sb = value_map_sorted(b);
    bool equal = true;
    for (size_t k = 0; k < n && equal; k++) {
        const struct gw_member *ma = sa ? sa[k] : &a->map.items[k];
        const struct gw_member *mb = sa && sb ? sb[k] : find(b, ma->key);
        equal = mb && strcmp(ma->key, mb->key) == 0 && gw_value_equal(&ma->value, &mb->value);
    }
    free(sa);
    free(sb);
    return equal;
}

static bool lists_equal(const gw_value *a, const gw_value *b)
{
    if (a->list.n != b->list.n) {
        return false;
    }
    for (size_t i = 0; i < a->list.n; i++) {
        if (!gw_value_equal(&a->list.items[i], &b->list.items[i])) {
            return false;
        }
    }
    return true;
}

bool gw_value_equal(const gw_value *a, const gw_value *b)
{
    bool int_a = a->kind == GW_INT || a->kind == GW_UINT;
    bool int_b = b->kind == GW_INT || b->kind == GW_UINT;
    if (int_a && int_b) {
        return ints_equal(a, b);
    }
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case GW_BOOL: return a->b == b->b;
    case GW_FLOAT: return a->f == b->f || (a->f != a->f && b->f != b->f); /* NaN equals NaN here */
    case GW_STR:
    case GW_BYTES: return a->s.n == b->s.n && memcmp(a->s.p, b->s.p, a->s.n) == 0;
    case GW_ID: return gw_id_equal(&a->id, &b->id);
    case GW_TIME: return a->time.ms == b->time.ms;
    case GW_LIST: return lists_equal(a, b);
    case GW_MAP: return maps_equal(a, b);
    default: return true;
    }
}

void gw_value_free(gw_value *v)
{
    if (!v) {
        return;
    }
    if (v->kind == GW_STR || v->kind == GW_BYTES) {
        free(v->s.p);
    } else if (v->kind == GW_LIST) {
        for (size_t i = 0; i < v->list.n; i++) {
            gw_value_free(&v->list.items[i]);
        }
        free(v->list.items);
    } else if (v->kind == GW_MAP) {
        for (size_t i = 0; i < v->map.n; i++) {
            free(v->map.items[i].key);
            gw_value_free(&v->map.items[i].value);
        }
        free(v->map.items);
    }
    *v = (gw_value){0};
}
