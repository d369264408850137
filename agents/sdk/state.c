#include "agents/sdk/state.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

#define BIN16         0xc5
#define BIN32         0xc6
#define MAP32         0xdf
#define OLDEST_READER "~" /* key in part "": no name of a field begins so */
#define HEADER        5   /* bytes of a 32-bit bin or map header */

struct unknown {
    size_t pairs;
    struct buf packed; /* key, value, key, value... */
};

/* One pass over the object: parts are compared, and with `out` written. */
struct pass {
    struct state *s;
    bool all;
    struct buf *out;    /* NULL: only hash */
    XXH3_state_t *hash; /* NULL: compare */
    struct buf small;   /* HEADER bytes of room, then the pairs of part "" */
    size_t pairs;       /* in `small` */
    size_t written;     /* parts in `out` */
    size_t total;       /* bytes of all parts */
    size_t map_at;      /* of the map's count in `out` */
    gw_err err;
};

size_t bin_begin(struct buf *out)
{
    const uint8_t head[HEADER] = {BIN32};
    buf_add(out, head, sizeof head);
    return out->len;
}

size_t bin_bytes(const struct buf *out, size_t at)
{
    return out->len - at;
}

void bin_end(struct buf *out, size_t at)
{
    if (buf_ok(out)) {
        buf_put_u32(out, at - 4, (uint32_t)bin_bytes(out, at));
    }
}

/* --- parts of the last commit --- */

static void forget_parts(struct state *s)
{
    for (uint32_t i = 0; i < s->part_count; i++) {
        if (s->parts[i].owned) {
            free((char *)s->parts[i].name);
        }
    }
    s->part_count = 0;
}

static struct state_part *find_part(struct state *s, struct span name)
{
    for (uint32_t i = 0; i < s->part_count; i++) {
        if (span_is(name, s->parts[i].name)) {
            return &s->parts[i];
        }
    }
    return NULL;
}

/* The name is copied only when neither "" nor one of the table. NULL: out of memory. */
static struct state_part *add_part(struct state *s, struct span name)
{
    if (s->part_count == s->part_cap) {
        uint32_t cap = s->part_cap ? s->part_cap * 2 : 1; /* most agents have one */
        struct state_part *parts = realloc(s->parts, cap * sizeof *parts);
        if (!parts) {
            return NULL;
        }
        s->parts = parts;
        s->part_cap = cap;
    }
    struct state_part part = {0};
    const struct gw_field *field = name.n > 0 ? fields_find(s->type->fields, name) : NULL;
    if (name.n == 0) {
        part.name = "";
    } else if (field && span_is(name, field->name)) {
        part.name = field->name;
    } else {
        part.name = strndup((const char *)name.p, name.n);
        part.owned = true;
    }
    if (!part.name) {
        return NULL;
    }
    s->parts[s->part_count] = part;
    return &s->parts[s->part_count++];
}

/* --- packing --- */

/* One part, given in up to two pieces (a msgpack header and its payload: large bytes are neither
 * copied nor packed to find out that they did not change). */
static void emit(struct pass *p, struct span name, struct span head, struct span body)
{
    if (p->err != GW_OK) {
        return;
    }
    p->total += head.n + body.n;
    if (p->total > LIMIT_STATE_BYTES) {
        return; /* only summed up from here, for the message */
    }
    if (p->hash) {
        XXH3_128bits_update(p->hash, name.p, name.n);
        XXH3_128bits_update(p->hash, head.p, head.n);
        XXH3_128bits_update(p->hash, body.p, body.n);
        return;
    }
    XXH128_hash_t hash;
    if (head.n > 0) {
        XXH3_state_t h;
        XXH3_INITSTATE(&h);
        XXH3_128bits_reset(&h);
        XXH3_128bits_update(&h, head.p, head.n);
        XXH3_128bits_update(&h, body.p, body.n);
        hash = XXH3_128bits_digest(&h);
    } else {
        hash = XXH3_128bits(body.p, body.n);
    }
    struct state_part *part = find_part(p->s, name);
    bool same = part && XXH128_isEqual(part->hash, hash);
    if (!part && !(part = add_part(p->s, name))) {
        p->err = GW_ENOMEM;
        return;
    }
    part->hash = hash;
    part->seen = true;
    if (same && !p->all) {
        return;
    }
    mp_strn(p->out, (const char *)name.p, name.n);
    size_t at = bin_begin(p->out);
    buf_reserve(p->out, head.n + body.n);
    buf_add(p->out, head.p, head.n);
    buf_add(p->out, body.p, body.n);
    bin_end(p->out, at);
    p->written++;
}

/* The header that msgpack gives to more than PART_INLINE_BYTES bytes. */
static struct span bytes_header(size_t len, uint8_t room[HEADER])
{
    if (len <= UINT16_MAX) {
        room[0] = BIN16;
        room[1] = (uint8_t)(len >> 8);
        room[2] = (uint8_t)len;
        return (struct span){room, 3};
    }
    room[0] = BIN32;
    store_u32(room + 1, (uint32_t)len);
    return (struct span){room, HEADER};
}

/* Whether the field is bytes that are too many for part "". */
static bool large_bytes(const struct gw_field *f, const void *obj, struct span *ret)
{
    if (f->kind != GW_FIELD_BYTES) {
        return false;
    }
    gw_bytes bytes;
    memcpy(&bytes, (const char *)obj + f->offset, sizeof bytes);
    *ret = (struct span){bytes.data, bytes.len};
    return bytes.len + 3 > PART_INLINE_BYTES && bytes.len <= UINT32_MAX;
}

/* Memory that lists of structs in a member take: field_unpack bounds it, and what is committed has
 * to load again. */
static size_t list_bytes(const struct gw_field *f, const char *at)
{
    struct {
        const char *items;
        size_t len;
    } list = {at, 1};
    size_t size = f->size, sum = 0;
    if (f->kind == GW_FIELD_LIST) {
        memcpy(&list, at, sizeof list);
        size = f->elem_size;
        sum = list.len * size;
    } else if (f->kind != GW_FIELD_STRUCT) {
        return 0;
    }
    for (uint32_t k = 0; k < f->field_count; k++) {
        const struct gw_field *inner = &f->fields[k];
        if (inner->kind != GW_FIELD_LIST && inner->kind != GW_FIELD_STRUCT) {
            continue;
        }
        for (size_t i = 0; i < list.len; i++) {
            sum += list_bytes(inner, list.items + i * size + inner->offset);
        }
    }
    return sum;
}

/* `small` holds key and value since `key_at`, the value since `value_at`: leave it there, or cut it
 * out as a part of its own. */
static void settle(struct pass *p, struct span name, size_t key_at, size_t value_at)
{
    if (!buf_ok(&p->small)) {
        p->err = GW_ENOMEM;
    } else if (p->small.len - value_at <= PART_INLINE_BYTES) {
        p->pairs++;
    } else {
        struct span value = {p->small.data + value_at, p->small.len - value_at};
        emit(p, name, (struct span){0}, value);
        p->small.len = key_at;
    }
}

static void pack_field(struct pass *p, const struct gw_field *f)
{
    const char *stored = field_stored_name(f);
    struct span name = {(const uint8_t *)stored, strlen(stored)};
    struct span large;
    if (large_bytes(f, p->s->obj, &large)) {
        uint8_t room[HEADER];
        emit(p, name, bytes_header(large.n, room), large);
        return;
    }
    if (list_bytes(f, (const char *)p->s->obj + f->offset) > LIMIT_DECODED_BYTES) {
        p->err = GW_ETOO_BIG;
        return;
    }
    size_t key_at = p->small.len;
    mp_strn(&p->small, stored, name.n);
    size_t value_at = p->small.len;
    field_pack(f, p->s->obj, &p->small);
    settle(p, name, key_at, value_at);
}

static void pack_unknown(struct pass *p)
{
    if (!p->s->unknown) {
        return;
    }
    struct mp m = mp_over(buf_span(&p->s->unknown->packed));
    for (size_t i = 0; p->err == GW_OK && i < p->s->unknown->pairs; i++) {
        struct span name, value;
        size_t key_at = p->small.len;
        if (mp_read_str(&m, &name) != GW_OK || mp_skip(&m, &value) != GW_OK) {
            p->err = GW_EFAIL; /* checked when it was loaded */
            return;
        }
        mp_strn(&p->small, (const char *)name.p, name.n);
        size_t value_at = p->small.len;
        buf_add(&p->small, value.p, value.n);
        settle(p, name, key_at, value_at);
    }
}

/* Part "": its map header is written last, right-aligned into the room before the pairs. */
static void emit_small(struct pass *p)
{
    struct buf head = {0};
    mp_map(&head, p->pairs);
    if (!buf_ok(&head) || !buf_ok(&p->small) || p->err != GW_OK) {
        p->err = p->err != GW_OK ? p->err : GW_ENOMEM;
    } else {
        size_t from = HEADER - head.len;
        memcpy(p->small.data + from, head.data, head.len);
        emit(p, (struct span){(const uint8_t *)"", 0}, (struct span){0},
             (struct span){p->small.data + from, p->small.len - from});
    }
    buf_free(&head);
}

static void walk(struct pass *p)
{
    static const uint8_t room[HEADER];
    const struct fields *f = &p->s->type->fields;
    buf_add(&p->small, room, sizeof room);
    mp_strn(&p->small, "", 0);
    mp_uint(&p->small, p->s->version);
    p->pairs = 1;
    if (p->s->oldest > 1) {
        mp_str(&p->small, OLDEST_READER);
        mp_uint(&p->small, p->s->oldest);
        p->pairs++;
    }
    for (size_t i = 0; p->err == GW_OK && i < f->n; i++) {
        pack_field(p, &f->items[i]);
    }
    pack_unknown(p);
    emit_small(p);
    buf_free(&p->small);
}

/* Parts that the last commit had and this state does not. */
static void emit_gone(struct pass *p)
{
    struct state *s = p->s;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->part_count; i++) {
        if (s->parts[i].seen) {
            s->parts[kept++] = s->parts[i];
            continue;
        }
        mp_str(p->out, s->parts[i].name);
        mp_nil(p->out);
        p->written++;
        if (s->parts[i].owned) {
            free((char *)s->parts[i].name);
        }
    }
    s->part_count = kept;
}

static gw_err pass_result(const struct pass *p, struct gw_error *why)
{
    if (p->err == GW_ETOO_BIG) {
        return gw_fail(why, GW_ETOO_BIG, "the lists of one field take more than %u bytes of memory",
                       LIMIT_DECODED_BYTES);
    }
    if (p->err == GW_ENOMEM) {
        return gw_fail(why, GW_ENOMEM,
                       "the state does not pack: out of memory, or a value nested deeper than %d",
                       LIMIT_DEPTH);
    }
    if (p->err != GW_OK) {
        return gw_fail(why, p->err, "%s", gw_err_text(p->err));
    }
    if (p->total > LIMIT_STATE_BYTES) {
        gw_fail(why, GW_ETOO_BIG, "the packed state has %zu bytes, the limit is %u bytes", p->total,
                LIMIT_STATE_BYTES);
        gw_hint(why, "keep what is larger in a file or an artifact, and its name in the state");
        return GW_ETOO_BIG;
    }
    return GW_OK;
}

gw_err state_pack(struct state *s, bool all, struct buf *out, size_t *ret_changed,
                  struct gw_error *why)
{
    struct pass p = {.s = s, .all = all, .out = out, .map_at = out->len};
    const uint8_t head[HEADER] = {MAP32};
    buf_add(out, head, sizeof head);
    for (uint32_t i = 0; i < s->part_count; i++) {
        s->parts[i].seen = false;
    }
    walk(&p);
    if (p.err == GW_OK) {
        emit_gone(&p);
    }
    if (p.err == GW_OK && !buf_ok(out)) {
        p.err = GW_ENOMEM;
    }
    gw_err err = pass_result(&p, why);
    if (err != GW_OK) {
        s->stale = true;
        return err;
    }
    if (p.written == 0) {
        out->len = p.map_at;
        mp_nil(out);
    } else {
        buf_put_u32(out, p.map_at + 1, (uint32_t)p.written);
    }
    *ret_changed = p.written;
    return GW_OK;
}

gw_err state_hash(struct state *s, XXH128_hash_t *ret, struct gw_error *why)
{
    XXH3_state_t hash;
    XXH3_INITSTATE(&hash);
    XXH3_128bits_reset(&hash);
    struct pass p = {.s = s, .hash = &hash};
    walk(&p);
    GW_TRY(pass_result(&p, why));
    *ret = XXH3_128bits_digest(&hash);
    return GW_OK;
}

/* --- loading --- */

static void clear_unknown(struct state *s)
{
    if (s->unknown) {
        buf_free(&s->unknown->packed);
        free(s->unknown);
        s->unknown = NULL;
    }
}

/* A load at work. */
struct loading {
    struct state *s;
    uint64_t names[LIMIT_FIELDS / 64], aliases[LIMIT_FIELDS / 64]; /* fields seen under either */
};

static gw_err keep_unknown(struct state *s, struct span name, struct span value)
{
    if (!s->unknown) {
        s->unknown = calloc(1, sizeof *s->unknown);
        if (!s->unknown) {
            return GW_ENOMEM;
        }
    }
    mp_strn(&s->unknown->packed, (const char *)name.p, name.n);
    buf_add(&s->unknown->packed, value.p, value.n);
    s->unknown->pairs++;
    return buf_ok(&s->unknown->packed) ? GW_OK : GW_ENOMEM;
}

/* Set bit i; whether it was set already. */
static bool was_set(uint64_t *bits, size_t i)
{
    uint64_t bit = (uint64_t)1 << (i % 64);
    bool before = bits[i / 64] & bit;
    bits[i / 64] |= bit;
    return before;
}

/* One field, wherever it was packed; the cursor moves behind its value. A former name counts only
 * while the present one is absent (protocol/field.h), in whatever order both come. */
static gw_err load_value(struct loading *l, struct span name, struct mp *m, struct gw_error *why)
{
    const struct fields *fields = &l->s->type->fields;
    const struct gw_field *f = fields_find(*fields, name);
    struct span raw;
    if (f) {
        size_t i = (size_t)(f - fields->items);
        bool present = span_is(name, f->name);
        if (was_set(present ? l->names : l->aliases, i)) {
            return gw_fail(why, GW_EDECODE, "field \"%s\" is there twice", f->name);
        }
        if (present || !(l->names[i / 64] >> (i % 64) & 1)) {
            return field_unpack(f, m, l->s->obj, why);
        }
    }
    if (mp_skip(m, &raw) != GW_OK) {
        return gw_fail(why, GW_EDECODE, "field \"%.*s\" is not valid msgpack",
                       (int)(name.n < 64 ? name.n : 64), (const char *)name.p);
    }
    return f ? GW_OK : keep_unknown(l->s, name, raw);
}

static gw_err load_small(struct loading *l, struct mp *m, struct gw_error *why)
{
    size_t n;
    if (mp_read_map(m, &n) != GW_OK) {
        return gw_fail(why, GW_EDECODE, "it is not a map");
    }
    for (size_t i = 0; i < n; i++) {
        struct span name;
        if (mp_read_str(m, &name) != GW_OK || name.n > LIMIT_NAME_BYTES) {
            return gw_fail(why, GW_EDECODE, "key %zu is not the name of a field", i + 1);
        }
        if (span_is(name, OLDEST_READER)) {
            if (mp_read_u32(m, &l->s->oldest) != GW_OK) {
                return gw_fail(why, GW_EDECODE, "the oldest reader is not a version");
            }
        } else if (name.n > 0) {
            GW_TRY(load_value(l, name, m, why));
        } else if (mp_read_u32(m, &l->s->version) != GW_OK || l->s->version == 0) {
            return gw_fail(why, GW_EDECODE, "the version is not a number from 1");
        }
    }
    return GW_OK;
}

static gw_err load_part(struct loading *l, struct span name, struct span bytes,
                        struct gw_error *why)
{
    if (find_part(l->s, name)) {
        return gw_fail(why, GW_EDECODE, "it is there twice");
    }
    struct mp m = mp_over(bytes);
    GW_TRY(name.n == 0 ? load_small(l, &m, why) : load_value(l, name, &m, why));
    if (!mp_done(&m)) {
        return gw_fail(why, GW_EDECODE, "%zu bytes follow its end", (size_t)(m.end - m.p));
    }
    struct state_part *part = add_part(l->s, name);
    if (!part) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    part->hash = XXH3_128bits(bytes.p, bytes.n);
    return GW_OK;
}

static gw_err load_parts(struct state *s, struct span raw, struct gw_error *why)
{
    struct loading l = {.s = s};
    struct mp m = mp_over(raw);
    size_t n;
    if (mp_read_map(&m, &n) != GW_OK) {
        return gw_fail(why, GW_EDECODE, "the parts of the state are not a map");
    }
    for (size_t i = 0; i < n; i++) {
        struct span name, bytes;
        if (mp_read_str(&m, &name) != GW_OK || name.n > LIMIT_NAME_BYTES ||
            memchr(name.p, 0, name.n) || mp_read_bin(&m, &bytes) != GW_OK) {
            return gw_fail(why, GW_EDECODE, "part %zu of the state is not a name with bytes",
                           i + 1);
        }
        struct gw_error inner = {0};
        gw_err err = load_part(&l, name, bytes, &inner);
        if (err != GW_OK) {
            char text[LIMIT_NAME_BYTES + 1];
            (void)span_text(name, text, sizeof text);
            return gw_fail(why, err == GW_ENOMEM ? err : GW_EDECODE,
                           "part \"%s\" of the state does not decode: %s", text,
                           inner.text[0] ? inner.text : gw_err_text(err));
        }
    }
    return GW_OK;
}

gw_err state_create(struct state *s, const struct type *type)
{
    state_drop(s);
    s->obj = calloc(1, type->def->state_size ? type->def->state_size : 1);
    if (!s->obj) {
        return GW_ENOMEM;
    }
    s->type = type;
    s->version = type->version;
    s->oldest = type->oldest_reader;
    return GW_OK;
}

static gw_err load(struct state *s, struct span parts, struct gw_error *why)
{
    const struct gw_type *def = s->type->def;
    s->stale = true;
    s->version = s->oldest = 1;
    GW_TRY(load_parts(s, parts, why));
    if (s->oldest > s->type->version) {
        return gw_fail(why, GW_EDECODE,
                       "it was written by version %u of type \"%s\" and can be read by versions "
                       "from %u on; this is version %u",
                       s->version, def->name, s->oldest, s->type->version);
    }
    if (s->version < s->type->version) {
        gw_err err = def->upgrade ? def->upgrade(s->obj, s->version) : GW_OK;
        if (err != GW_OK) {
            return gw_fail(why, err,
                           "type \"%s\" cannot upgrade its state from version %u to %u: %s",
                           def->name, s->version, s->type->version, gw_err_text(err));
        }
        s->version = s->type->version;
    }
    s->oldest = s->oldest > s->type->oldest_reader ? s->oldest : s->type->oldest_reader;
    s->stale = false;
    return GW_OK;
}

gw_err state_load(struct state *s, const struct type *type, struct span parts, struct gw_error *why)
{
    if (s->obj && s->type == type) {
        fields_clear(type->fields, s->obj);
        clear_unknown(s);
        forget_parts(s);
        return load(s, parts, why);
    }
    if (state_create(s, type) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    gw_err err = load(s, parts, why);
    if (err != GW_OK) {
        state_drop(s);
    }
    return err;
}

void state_drop(struct state *s)
{
    if (s->obj) {
        if (s->type->def->on_unload) {
            s->type->def->on_unload(s->obj);
        }
        fields_clear(s->type->fields, s->obj);
        free(s->obj);
    }
    clear_unknown(s);
    forget_parts(s);
    free(s->parts);
    *s = (struct state){0};
}
