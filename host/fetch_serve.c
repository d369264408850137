/* The answering end of the service "chunks", and what both ends read and write. */
#include "host/fetch_wire.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

void fetch_wire_refs(struct buf *out, const struct chunk_ref *refs, size_t n)
{
    uint8_t one[WIRE_REF_BYTES];
    struct buf all = {0};
    for (size_t i = 0; i < n; i++) {
        memcpy(one, refs[i].hash.b, CHUNK_HASH_BYTES);
        store_u32(one + CHUNK_HASH_BYTES, refs[i].len);
        buf_add(&all, one, sizeof one);
    }
    mp_bin(out, all.data, all.len);
    out->failed |= !buf_ok(&all);
    buf_free(&all);
}

gw_err fetch_wire_read_refs(struct mp *m, struct chunk_ref *ret, size_t room, size_t *ret_n)
{
    struct span s;
    if (mp_read_bin(m, &s) != GW_OK || s.n == 0 || s.n % WIRE_REF_BYTES != 0 ||
        s.n / WIRE_REF_BYTES > room) {
        return GW_EPROTO;
    }
    size_t n = s.n / WIRE_REF_BYTES;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = s.p + i * WIRE_REF_BYTES;
        memcpy(ret[i].hash.b, p, CHUNK_HASH_BYTES);
        ret[i].len = load_u32(p + CHUNK_HASH_BYTES);
        if (ret[i].len == 0 || ret[i].len > CHUNK_MAX) {
            return GW_EPROTO;
        }
    }
    *ret_n = n;
    return GW_OK;
}

gw_err fetch_wire_read_hash(struct mp *m, struct chunk_hash *ret)
{
    struct span s;
    if (mp_read_bin(m, &s) != GW_OK || s.n != CHUNK_HASH_BYTES) {
        return GW_EPROTO;
    }
    memcpy(ret->b, s.p, CHUNK_HASH_BYTES);
    return GW_OK;
}

struct serve {
    struct chunk_store *store;
    struct record_io io;
    struct gw_error *why;
    struct chunk_ref refs[WIRE_REFS];
    bool flags[WIRE_REFS];
    struct buf chunk;
};

static gw_err nonsense(struct serve *s, record_kind kind)
{
    return gw_fail(s->why, GW_EPROTO, "a record of kind %d does not hold what it must", (int)kind);
}

static gw_err answer_recipe(struct serve *s, struct record *rec)
{
    struct chunk_hash hash;
    struct artifact_info info;
    uint64_t at, end;
    size_t n = 0;
    if (rec->count < 2 || fetch_wire_read_hash(&rec->fields, &hash) != GW_OK ||
        mp_read_uint(&rec->fields, &at) != GW_OK) {
        return nonsense(s, rec->kind);
    }
    GW_TRY(artifact_find(s->store, &hash, &info, s->why));
    if (info.size > at) {
        GW_TRY(artifact_recipe(s->store, &info.id, at, s->refs, WIRE_REFS, &n, s->why));
    }
    end = at;
    for (size_t i = 0; i < n; i++) {
        end += s->refs[i].len;
    }
    struct buf *out = record_begin(&s->io, CHUNKS_PART, 6);
    mp_uint(out, info.size);
    mp_str(out, info.name);
    mp_str(out, info.type);
    fetch_wire_refs(out, s->refs, n);
    mp_bool(out, n > 0 && end < info.size);
    mp_int(out, info.expires_ms);
    return record_end(&s->io);
}

static gw_err answer_have(struct serve *s, struct record *rec)
{
    uint8_t has[WIRE_REFS];
    size_t n;
    if (rec->count < 1 || fetch_wire_read_refs(&rec->fields, s->refs, WIRE_REFS, &n) != GW_OK) {
        return nonsense(s, rec->kind);
    }
    GW_TRY(chunk_store_missing(s->store, s->refs, n, s->flags, s->why));
    for (size_t i = 0; i < n; i++) {
        has[i] = !s->flags[i];
    }
    struct buf *out = record_begin(&s->io, CHUNKS_HAS, 1);
    mp_bin(out, has, n);
    return record_end(&s->io);
}

static gw_err send_chunk(struct serve *s, const struct chunk_ref *ref)
{
    size_t at = 0;
    struct gw_error why;
    gw_err err = chunk_store_get(s->store, &ref->hash, &s->chunk, &why);
    if (err == GW_OK && s->chunk.len != ref->len) {
        err = GW_ENOT_FOUND; /* the asker has a length that it cannot have */
    }
    if (err == GW_ENOMEM || err == GW_EBUSY) {
        *s->why = why;
        return err;
    }
    if (err != GW_OK) {
        struct buf *out = record_begin(&s->io, CHUNKS_LACK, 1);
        mp_bin(out, ref->hash.b, CHUNK_HASH_BYTES);
        return record_end(&s->io);
    }
    while (at < s->chunk.len) {
        size_t part = s->chunk.len - at < RECORD_DATA_BYTES ? s->chunk.len - at : RECORD_DATA_BYTES;
        uint8_t flags = at + part == s->chunk.len ? RECORD_LAST : 0;
        GW_TRY(record_data(&s->io, flags, ref->hash.b, s->chunk.data + at, part));
        at += part;
    }
    return GW_OK;
}

static gw_err answer_want(struct serve *s, struct record *rec)
{
    size_t n;
    if (rec->count < 1 ||
        fetch_wire_read_refs(&rec->fields, s->refs, LIMIT_FETCH_WANT, &n) != GW_OK) {
        return nonsense(s, rec->kind);
    }
    for (size_t i = 0; i < n; i++) {
        GW_TRY(send_chunk(s, &s->refs[i]));
    }
    return GW_OK;
}

static gw_err serve_all(struct serve *s)
{
    struct record rec;
    for (;;) {
        gw_err err = record_next(&s->io, &rec);
        if (err == GW_EUNREACHABLE || (err == GW_OK && rec.kind == RECORD_FINISH)) {
            s->io.torn = true;
            return GW_OK; /* it needs nothing more */
        }
        GW_TRY(err);
        switch ((int)rec.kind) {
        case (int)CHUNKS_RECIPE: GW_TRY(answer_recipe(s, &rec)); break;
        case (int)CHUNKS_HAVE: GW_TRY(answer_have(s, &rec)); break;
        case (int)CHUNKS_WANT: GW_TRY(answer_want(s, &rec)); break;
        default: return nonsense(s, rec.kind);
        }
    }
}

gw_err fetch_serve(struct chunk_store *store, struct bulk_io *io, struct gw_error *why)
{
    struct gw_error none;
    why = why ? why : &none;
    struct serve *s = calloc(1, sizeof *s);
    if (!s) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    s->store = store;
    s->why = why;
    gw_err err = record_init(&s->io, io, false, NULL, why);
    if (err == GW_OK) {
        err = serve_all(s);
        if (err != GW_OK) {
            record_farewell(&s->io, err, why);
        }
        record_deinit(&s->io);
    }
    buf_free(&s->chunk);
    free(s);
    return err;
}
