/* Building RUN frames and reading DONE frames, for the tests of engine and runner. */
#ifndef TESTS_UNIT_AGENTS_RIG_H
#define TESTS_UNIT_AGENTS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agents/sdk/engine.h"
#include "protocol/value.h"

struct rig_run {
    gw_id agent;
    const char *type;
    frame_hook hook;
    const char *method; /* NULL: nil */
    gw_value args;      /* owned by the call that packs it */
    uint32_t flags;
    const uint8_t *key;      /* 16 bytes, or NULL */
    const struct buf *parts; /* a packed map, or NULL */
    gw_value context;        /* owned by the call that packs it */
    uint64_t epoch;
};

struct rig_done {
    uint64_t stream;
    gw_err code;
    char text[400], hint[400];
    gw_value reply;
    struct buf parts; /* a packed map; empty: nil */
    gw_value actions;
    uint32_t flags;
};

static inline gw_id rig_id(uint8_t n)
{
    gw_id id = {{0}};
    id.b[0] = 1;
    id.b[15] = n;
    return id;
}

/* {key: value} */
static inline gw_value rig_map(const char *key, gw_value v)
{
    gw_value map = {0};
    if (gw_map_set(&map, key, v) != GW_OK) {
        fail();
    }
    return map;
}

static inline void rig_pack(struct buf *b, uint64_t stream, struct rig_run r)
{
    static const uint8_t no_key[16];
    struct buf args = {0};
    value_pack(&r.args, &args);
    size_t at = frame_begin(b, FRAME_RUN, stream, 10);
    mp_id(b, &r.agent);
    mp_str(b, r.type ? r.type : "counter");
    mp_uint(b, r.epoch ? r.epoch : 1);
    mp_uint(b, r.hook);
    mp_str(b, r.method ? r.method : "");
    mp_bin(b, args.data, args.len);
    mp_uint(b, r.flags);
    mp_bin(b, r.key ? r.key : no_key, 16);
    if (r.parts) {
        buf_add(b, r.parts->data, r.parts->len);
    } else {
        mp_nil(b);
    }
    value_pack(&r.context, b);
    frame_end(b, at);
    buf_free(&args);
    gw_value_free(&r.args);
    gw_value_free(&r.context);
}

static inline gw_err rig_parse(const struct frame *f, struct rig_done *ret)
{
    struct mp m = f->rest;
    struct span reply, parts, actions;
    uint32_t code;
    *ret = (struct rig_done){.stream = f->stream};
    if (f->kind != FRAME_DONE || f->fields != 7) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_u32(&m, &code));
    ret->code = gw_err_from_wire(code);
    GW_TRY(mp_read_text_or_nil(&m, ret->text, sizeof ret->text));
    GW_TRY(mp_read_text_or_nil(&m, ret->hint, sizeof ret->hint));
    GW_TRY(mp_read_bin(&m, &reply));
    GW_TRY(value_unpack_span(reply, &ret->reply));
    bool nil = mp_peek(&m) == MP_NIL;
    GW_TRY(mp_skip(&m, &parts));
    if (!nil) {
        buf_add(&ret->parts, parts.p, parts.n);
        assert_true(buf_ok(&ret->parts));
    }
    GW_TRY(mp_skip(&m, &actions));
    GW_TRY(value_unpack_span(actions, &ret->actions));
    GW_TRY(mp_read_u32(&m, &ret->flags));
    return mp_done(&m) ? GW_OK : GW_EPROTO;
}

static inline void rig_done_free(struct rig_done *d)
{
    gw_value_free(&d->reply);
    gw_value_free(&d->actions);
    buf_free(&d->parts);
}

/* What a host keeps: parts by name as a value map of bytes. Merge the parts of a DONE into it. */
static inline void rig_commit(gw_value *store, const struct rig_done *d)
{
    if (d->parts.len == 0) {
        return;
    }
    gw_value parts;
    if (value_unpack_span(buf_span(&d->parts), &parts) != GW_OK) {
        fail();
    }
    for (size_t i = 0; i < parts.map.n; i++) {
        gw_value copy;
        if (gw_value_copy(&parts.map.items[i].value, &copy) != GW_OK ||
            gw_map_set(store, parts.map.items[i].key, copy) != GW_OK) {
            fail();
        }
    }
    gw_value_free(&parts);
    gw_value kept = {.kind = GW_MAP}; /* nil: the part is gone */
    for (size_t i = 0; i < store->map.n; i++) {
        gw_value copy;
        if (store->map.items[i].value.kind == GW_NIL) {
            continue;
        }
        if (gw_value_copy(&store->map.items[i].value, &copy) != GW_OK ||
            gw_map_set(&kept, store->map.items[i].key, copy) != GW_OK) {
            fail();
        }
    }
    gw_value_free(store);
    *store = kept;
}

static inline size_t rig_parts(const struct rig_done *d) /* how many */
{
    struct mp m = mp_over(buf_span(&d->parts));
    size_t n = 0;
    return d->parts.len > 0 && mp_read_map(&m, &n) == GW_OK ? n : 0;
}

/* The map inside a part "", as a value. */
static inline gw_value rig_small(const gw_value *store)
{
    const gw_value *part = gw_map_get(store, "");
    gw_value v;
    if (!part || part->kind != GW_BYTES ||
        value_unpack_span((struct span){(const uint8_t *)part->s.p, part->s.n}, &v) != GW_OK) {
        fail();
    }
    return v;
}

#endif
