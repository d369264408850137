#include "protocol/value.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

const char *value_kind_name(gw_kind kind)
{
    static const char *const names[] = {
        [GW_NIL] = "nil",     [GW_BOOL] = "bool",  [GW_INT] = "int",     [GW_UINT] = "int",
        [GW_FLOAT] = "float", [GW_STR] = "string", [GW_BYTES] = "bytes", [GW_ID] = "id",
        [GW_TIME] = "time",   [GW_LIST] = "list",  [GW_MAP] = "map",
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}

static bool within(const gw_value *v, unsigned depth, size_t max, size_t *bytes)
{
    bool nested = v->kind == GW_LIST || v->kind == GW_MAP;
    *bytes += 9;
    if (v->kind == GW_STR || v->kind == GW_BYTES) {
        *bytes += v->s.n;
    }
    if (*bytes > max || (nested && depth >= LIMIT_DEPTH)) {
        return false;
    }
    for (size_t i = 0; v->kind == GW_LIST && i < v->list.n; i++) {
        if (!within(&v->list.items[i], depth + 1, max, bytes)) {
            return false;
        }
    }
    for (size_t i = 0; v->kind == GW_MAP && i < v->map.n; i++) {
        *bytes += strlen(v->map.items[i].key);
        if (!within(&v->map.items[i].value, depth + 1, max, bytes)) {
            return false;
        }
    }
    return true;
}

bool value_within(const gw_value *v, size_t max, size_t *bytes)
{
    return within(v, 0, max, bytes);
}

/* --- packing --- */

void value_pack_text(const char *p, size_t n, struct buf *out)
{
    size_t good = utf8_run(p, n);
    mp_strn(out, p, n);
    if (good == n || !buf_ok(out)) {
        return;
    }
    char *copy = (char *)out->data + out->len - n; /* repaired where it lies: same length */
    for (size_t i = good; i < n; i += utf8_run(copy + i, n - i)) {
        copy[i++] = '?';
    }
}

static void pack(const gw_value *v, unsigned depth, struct buf *out)
{
    if ((v->kind == GW_LIST || v->kind == GW_MAP) && depth >= LIMIT_DEPTH) {
        out->failed = true; /* no reader would take it */
        return;
    }
    switch (v->kind) {
    case GW_NIL: mp_nil(out); break;
    case GW_BOOL: mp_bool(out, v->b); break;
    case GW_INT: mp_int(out, v->i); break;
    case GW_UINT: mp_uint(out, v->u); break;
    case GW_FLOAT: mp_float(out, v->f); break;
    case GW_STR: value_pack_text(v->s.p, v->s.n, out); break;
    case GW_BYTES: mp_bin(out, v->s.p, v->s.n); break;
    case GW_ID: mp_id(out, &v->id); break;
    case GW_TIME: mp_time(out, v->time); break;
    case GW_LIST:
        mp_array(out, v->list.n);
        for (size_t i = 0; i < v->list.n && buf_ok(out); i++) {
            pack(&v->list.items[i], depth + 1, out);
        }
        break;
    case GW_MAP:
        mp_map(out, v->map.n);
        for (size_t i = 0; i < v->map.n && buf_ok(out); i++) {
            mp_str(out, v->map.items[i].key); /* gw_map_set has checked it */
            pack(&v->map.items[i].value, depth + 1, out);
        }
        break;
    }
}

void value_pack_at(const gw_value *v, unsigned depth, struct buf *out)
{
    pack(v, depth, out);
}

void value_pack(const gw_value *v, struct buf *out)
{
    pack(v, 0, out);
}

/* --- unpacking --- */

static int by_key(const void *a, const void *b)
{
    const struct gw_member *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

const struct gw_member **value_map_sorted(const gw_value *map)
{
    const struct gw_member **sorted = calloc(map->map.n + 1, sizeof *sorted);
    if (sorted) {
        for (size_t i = 0; i < map->map.n; i++) {
            sorted[i] = &map->map.items[i];
        }
        qsort(sorted, map->map.n, sizeof *sorted, by_key);
    }
    return sorted;
}

/* Small maps pairwise, without memory; large ones sorted, for their size is a peer's choice. */
gw_err value_map_check_unique(const gw_value *map)
{
    const struct gw_member *items = map->map.items;
    if (map->map.n <= 16) {
        for (size_t i = 1; i < map->map.n; i++) {
            for (size_t k = 0; k < i; k++) {
                if (text_same(items[i].key, items[k].key)) {
                    return GW_EPROTO;
                }
            }
        }
        return GW_OK;
    }
    const struct gw_member **sorted = value_map_sorted(map);
    gw_err err = sorted ? GW_OK : GW_ENOMEM;
    for (size_t i = 1; !err && i < map->map.n; i++) {
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0) {
            err = GW_EPROTO;
        }
    }
    free(sorted);
    return err;
}

static gw_err unpack(struct mp *m, unsigned depth, gw_value *ret);

/* Lists and maps grow as their elements arrive: the announced count is a peer's word. */
static gw_err unpack_list(struct mp *m, unsigned depth, gw_value *ret)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    ret->kind = GW_LIST;
    for (size_t i = 0; i < n; i++) {
        gw_value item = {0};
        gw_err err = unpack(m, depth + 1, &item);
        if (err) {
            gw_value_free(&item);
            return err;
        }
        GW_TRY(gw_list_add(ret, item));
    }
    return GW_OK;
}

static gw_err unpack_map(struct mp *m, unsigned depth, gw_value *ret)
{
    size_t n;
    GW_TRY(mp_read_map(m, &n));
    ret->kind = GW_MAP;
    for (size_t i = 0; i < n; i++) {
        struct span key;
        GW_TRY(mp_read_str(m, &key));
        if (!utf8_is_valid((const char *)key.p, key.n)) {
            return GW_EPROTO;
        }
        gw_value item = {0};
        gw_err err = unpack(m, depth + 1, &item);
        if (err) {
            gw_value_free(&item);
            return err;
        }
        GW_TRY(value_map_append(ret, strndup((const char *)key.p, key.n), item));
    }
    return value_map_check_unique(ret);
}

static gw_err unpack_run(struct mp *m, mp_type type, gw_value *ret)
{
    struct span s;
    if (type == MP_BIN) {
        GW_TRY(mp_read_bin(m, &s));
        return gw_value_set_bytes(ret, s.p, s.n);
    }
    GW_TRY(mp_read_str(m, &s));
    if (!utf8_is_valid((const char *)s.p, s.n)) {
        return GW_EPROTO;
    }
    return gw_value_set_str(ret, (const char *)s.p, s.n);
}

static gw_err unpack_number(struct mp *m, mp_type type, gw_value *ret)
{
    if (type == MP_FLOAT) {
        ret->kind = GW_FLOAT;
        return mp_read_float(m, &ret->f);
    }
    if (type == MP_INT) {
        ret->kind = GW_INT;
        return mp_read_int(m, &ret->i);
    }
    uint64_t u;
    GW_TRY(mp_read_uint(m, &u));
    *ret = gw_uint(u);
    return GW_OK;
}

static gw_err unpack_ext(struct mp *m, gw_value *ret)
{
    gw_id id;
    gw_time time;
    if (mp_read_id(m, &id) == GW_OK) {
        *ret = gw_id_value(&id);
        return GW_OK;
    }
    GW_TRY(mp_read_time(m, &time));
    *ret = gw_time_value(time);
    return GW_OK;
}

/* On failure `ret` is a partial tree for the caller to free. */
static gw_err unpack(struct mp *m, unsigned depth, gw_value *ret)
{
    mp_type type = mp_peek(m);
    switch (type) {
    case MP_NIL: return mp_read_nil(m);
    case MP_BOOL: ret->kind = GW_BOOL; return mp_read_bool(m, &ret->b);
    case MP_INT:
    case MP_UINT:
    case MP_FLOAT: return unpack_number(m, type, ret);
    case MP_STR:
    case MP_BIN: return unpack_run(m, type, ret);
    case MP_EXT: return unpack_ext(m, ret);
    case MP_ARRAY: return depth < LIMIT_DEPTH ? unpack_list(m, depth, ret) : GW_EPROTO;
    case MP_MAP: return depth < LIMIT_DEPTH ? unpack_map(m, depth, ret) : GW_EPROTO;
    default: return GW_EPROTO;
    }
}

gw_err value_unpack_at(struct mp *m, unsigned depth, gw_value *ret)
{
    struct mp at = *m;
    gw_value v = {0};
    gw_err err = unpack(&at, depth, &v);
    if (err) {
        gw_value_free(&v);
        return err;
    }
    *m = at;
    *ret = v;
    return GW_OK;
}

gw_err value_unpack(struct mp *m, gw_value *ret)
{
    return value_unpack_at(m, 0, ret);
}

gw_err value_unpack_span(struct span s, gw_value *ret)
{
    if (s.n == 0) {
        *ret = gw_nil();
        return GW_OK;
    }
    struct mp m = mp_over(s);
    gw_value v = {0};
    GW_TRY(value_unpack(&m, &v));
    if (!mp_done(&m)) {
        gw_value_free(&v);
        return GW_EPROTO;
    }
    *ret = v;
    return GW_OK;
}
