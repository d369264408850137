/* The asking end of the service "chunks". */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "host/fetch_wire.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/text.h"

/* Bytes that came and are not durable yet: what a kill loses, and how often is flushed. */
#define COMMIT_BYTES (16u * 1024 * 1024)
#define IDLE_MS      50 /* how soon a source without work sees that there is some */
#define MS_NS        1000000

static gw_err nonsense(struct gw_error *why, const struct record *rec)
{
    return gw_fail(why, GW_EPROTO, "a record of kind %d was not what was asked for",
                   (int)rec->kind);
}

static void finish(struct record_io *io)
{
    (void)record_begin(io, RECORD_FINISH, 0);
    gw_err err = record_end(io);
    if (err == GW_OK) {
        err = record_flush(io);
    }
    (void)err; /* the other end sees a closed connection, which says the same */
}

/* ---- the recipe ---- */

void fetch_recipe_free(struct fetch_recipe *r)
{
    free(r->chunks);
    r->chunks = NULL;
    r->count = 0;
}

static gw_err add_part(struct fetch_recipe *r, struct record *rec, uint64_t *at, bool *ret_more)
{
    struct mp *m = &rec->fields;
    uint64_t size;
    size_t n = 0;
    char name[sizeof r->name], type[sizeof r->type];
    struct mp ahead;
    struct span refs;
    if (rec->kind != CHUNKS_PART || rec->count < 6 || mp_read_uint(m, &size) != GW_OK ||
        mp_read_text(m, name, sizeof name) != GW_OK ||
        mp_read_text(m, type, sizeof type) != GW_OK) {
        return GW_EPROTO;
    }
    ahead = *m;
    GW_TRY(mp_read_bin(&ahead, &refs));
    struct chunk_ref *more = realloc(r->chunks, (r->count + WIRE_REFS) * sizeof *more);
    if (!more) {
        return GW_ENOMEM;
    }
    r->chunks = more;
    if (refs.n > 0) {
        GW_TRY(fetch_wire_read_refs(m, r->chunks + r->count, WIRE_REFS, &n));
    } else {
        *m = ahead;
    }
    GW_TRY(mp_read_bool(m, ret_more));
    GW_TRY(mp_read_int(m, &r->expires_ms));
    if (r->count > 0 && size != r->size) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < n; i++) {
        *at += r->chunks[r->count + i].len;
    }
    r->count += n;
    r->size = size;
    text_clean(name);
    text_clean(type);
    memcpy(r->name, name, sizeof name);
    memcpy(r->type, type, sizeof type);
    return *at <= size && *ret_more == (*at < size) && (n > 0 || size == 0) ? GW_OK : GW_EPROTO;
}

static gw_err ask_part(struct record_io *io, const struct chunk_hash *hash, uint64_t *at,
                       struct fetch_recipe *r, bool *ret_more, struct gw_error *why)
{
    struct record rec;
    struct buf *out = record_begin(io, CHUNKS_RECIPE, 2);
    mp_bin(out, hash->b, CHUNK_HASH_BYTES);
    mp_uint(out, *at);
    GW_TRY(record_end(io));
    GW_TRY(record_next(io, &rec));
    gw_err err = add_part(r, &rec, at, ret_more);
    if (err == GW_ENOMEM) {
        return gw_fail(why, err, "out of memory for the list of chunks");
    }
    return err == GW_OK ? GW_OK : gw_fail(why, GW_EPROTO, "its list of chunks makes no sense");
}

gw_err fetch_ask_recipe(struct bulk_io *bulk, const struct chunk_hash *hash, uint64_t size_max,
                        struct fetch_recipe *ret, struct gw_error *why)
{
    struct record_io io;
    struct fetch_recipe r = {.count = 0};
    uint64_t at = 0;
    bool more = true;
    GW_TRY(record_init(&io, bulk, false, NULL, why));
    gw_err err = GW_OK;
    while (err == GW_OK && more) {
        err = ask_part(&io, hash, &at, &r, &more, why);
        if (err == GW_OK && (r.size > size_max || r.count > LIMIT_FETCH_CHUNKS)) {
            err = gw_fail(why, GW_ETOO_BIG, "it has %llu bytes, more than this host may store",
                          (unsigned long long)r.size);
        }
    }
    if (err == GW_OK) {
        finish(&io);
        *ret = r;
    } else {
        fetch_recipe_free(&r);
    }
    record_deinit(&io);
    return err;
}

/* ---- chunks ---- */

struct ask {
    struct fetch_source *source;
    struct fetch_work *work;
    struct record_io io;
    struct bulk_io *bulk;
    struct gw_error *why;
    struct chunk_batch *batch;
    size_t batch_bytes;
    struct chunk_ref flying[LIMIT_FETCH_FLYING]; /* asked, in order */
    size_t flying_count;
    struct buf chunk; /* the first of them, as far as it has come */
};

static bool failed(struct ask *a)
{
    pthread_mutex_lock(&a->work->lock);
    bool is = a->work->err != GW_OK;
    pthread_mutex_unlock(&a->work->lock);
    return is;
}

/* This host fails, not the source: nobody can go on. */
static void fail_all(struct ask *a, gw_err err, const struct gw_error *why)
{
    pthread_mutex_lock(&a->work->lock);
    if (a->work->err == GW_OK) {
        a->work->err = err;
        a->work->why = *why;
    }
    pthread_mutex_unlock(&a->work->lock);
}

static gw_err commit(struct ask *a)
{
    struct gw_error why = {0};
    if (a->batch_bytes == 0) {
        return GW_OK;
    }
    a->batch_bytes = 0;
    gw_err err = chunk_batch_commit(a->batch, &why);
    if (err != GW_OK) {
        fail_all(a, err, &why);
    }
    return err;
}

static gw_err ask_have(struct ask *a, size_t *at, bool *ret_more)
{
    struct chunk_ref refs[WIRE_REFS / 4];
    struct record rec;
    struct span has;
    pthread_mutex_lock(&a->work->lock);
    size_t n = fetch_plan_list(a->work->plan, (unsigned)a->source->number, at, refs,
                               sizeof refs / sizeof refs[0]);
    pthread_mutex_unlock(&a->work->lock);
    *ret_more = n > 0;
    if (n == 0) {
        return GW_OK;
    }
    fetch_wire_refs(record_begin(&a->io, CHUNKS_HAVE, 1), refs, n);
    GW_TRY(record_end(&a->io));
    GW_TRY(record_next(&a->io, &rec));
    if (rec.kind != CHUNKS_HAS || rec.count < 1 || mp_read_bin(&rec.fields, &has) != GW_OK ||
        has.n != n) {
        return nonsense(a->why, &rec);
    }
    pthread_mutex_lock(&a->work->lock);
    for (size_t i = 0; i < n; i++) {
        if (!has.p[i]) {
            gw_err known =
                fetch_plan_lacks(a->work->plan, (unsigned)a->source->number, &refs[i].hash, false);
            gw_assert(known == GW_OK); /* it stands in the plan */
        }
    }
    pthread_mutex_unlock(&a->work->lock);
    return GW_OK;
}

/* Keep LIMIT_FETCH_FLYING questions open; a new record once half of them are answered. */
static gw_err ask_more(struct ask *a, plan_for *ret_then)
{
    struct chunk_ref *refs = a->flying + a->flying_count;
    size_t room = LIMIT_FETCH_FLYING - a->flying_count, n = 0;
    room = room < LIMIT_FETCH_WANT ? room : LIMIT_FETCH_WANT;
    *ret_then = PLAN_ASK;
    if (a->flying_count > LIMIT_FETCH_FLYING / 2) {
        return GW_OK;
    }
    pthread_mutex_lock(&a->work->lock);
    if (a->work->err == GW_OK) {
        n = fetch_plan_take(a->work->plan, (unsigned)a->source->number, rate_now_ns() / MS_NS, room,
                            refs);
        *ret_then = n ? PLAN_ASK : fetch_plan_for(a->work->plan, (unsigned)a->source->number);
    } else {
        *ret_then = PLAN_NOTHING;
    }
    pthread_mutex_unlock(&a->work->lock);
    if (n == 0) {
        return GW_OK;
    }
    a->flying_count += n;
    fetch_wire_refs(record_begin(&a->io, CHUNKS_WANT, 1), refs, n);
    return record_end(&a->io);
}

/* The first question is answered. */
static void answered(struct ask *a)
{
    a->flying_count--;
    memmove(a->flying, a->flying + 1, a->flying_count * sizeof *a->flying);
    buf_reset(&a->chunk);
}

static gw_err put(struct ask *a, struct gw_error *why)
{
    gw_err err = chunk_batch_put(a->batch, buf_span(&a->chunk), &a->flying[0].hash, why);
    if (err == GW_EBUSY) {
        GW_TRY(commit(a));
        err = chunk_batch_put(a->batch, buf_span(&a->chunk), &a->flying[0].hash, why);
    }
    return err;
}

/* All bytes of a chunk are here. */
static gw_err whole(struct ask *a)
{
    const struct chunk_hash *hash = &a->flying[0].hash;
    struct gw_error why = {0};
    gw_err err = put(a, &why);
    if (err == GW_ECORRUPT) {
        char text[CHUNK_HASH_TEXT];
        return gw_fail(a->why, err, "it sent other bytes for chunk %s",
                       chunk_hash_text(hash, text));
    }
    if (err != GW_OK) {
        fail_all(a, err, &why);
        return GW_OK;
    }
    a->batch_bytes += a->chunk.len;
    if (a->batch_bytes >= COMMIT_BYTES && commit(a) != GW_OK) {
        return GW_OK;
    }
    pthread_mutex_lock(&a->work->lock);
    if (fetch_plan_came(a->work->plan, (unsigned)a->source->number, hash) == CAME_NEW) {
        a->source->chunks++;
        a->source->bytes += a->chunk.len;
    }
    pthread_mutex_unlock(&a->work->lock);
    return GW_OK;
}

static gw_err take_data(struct ask *a, const struct record *rec)
{
    struct record_data data;
    const struct chunk_ref *first = &a->flying[0];
    if (record_parse_data(rec, &data) != GW_OK || (data.flags & RECORD_ZSTD) ||
        memcmp(data.digest, first->hash.b, CHUNK_HASH_BYTES) != 0) {
        return gw_fail(a->why, GW_EPROTO, "it sent a chunk that was not asked for");
    }
    bool last = data.flags & RECORD_LAST;
    size_t len = a->chunk.len + data.bytes.n;
    if (data.bytes.n == 0 || len > first->len || last != (len == first->len)) {
        return gw_fail(a->why, GW_EPROTO, "it sent a chunk of another length");
    }
    buf_add(&a->chunk, data.bytes.p, data.bytes.n);
    if (!buf_ok(&a->chunk)) {
        struct gw_error why;
        gw_fail(&why, GW_ENOMEM, "out of memory for a chunk");
        fail_all(a, GW_ENOMEM, &why);
        return GW_OK;
    }
    if (last) {
        GW_TRY(whole(a));
        answered(a);
    }
    return GW_OK;
}

static gw_err take_answer(struct ask *a)
{
    struct record rec;
    struct chunk_hash hash;
    GW_TRY(record_next(&a->io, &rec));
    if (rec.kind == RECORD_DATA) {
        return take_data(a, &rec);
    }
    if (rec.kind != CHUNKS_LACK || rec.count < 1 || a->chunk.len > 0 ||
        fetch_wire_read_hash(&rec.fields, &hash) != GW_OK ||
        memcmp(&hash, &a->flying[0].hash, sizeof hash) != 0) {
        return nonsense(a->why, &rec);
    }
    pthread_mutex_lock(&a->work->lock);
    gw_err err = fetch_plan_lacks(a->work->plan, (unsigned)a->source->number, &hash, true);
    pthread_mutex_unlock(&a->work->lock);
    gw_assert(err == GW_OK); /* it is in flight */
    answered(a);
    return GW_OK;
}

/* Others are asked for what is left. */
static gw_err rest(struct ask *a)
{
    if (commit(a) != GW_OK) {
        return GW_OK; /* failed() */
    }
    gw_err err = a->bulk->wait(a->bulk->ctx, false, false, IDLE_MS);
    return err == GW_OK || err == GW_ETIMEOUT ? GW_OK : gw_fail(a->why, err, "it was called off");
}

static gw_err ask_all(struct ask *a)
{
    size_t at = 0;
    bool more = a->source->partial;
    while (more) {
        GW_TRY(ask_have(a, &at, &more));
    }
    for (;;) {
        plan_for then;
        GW_TRY(ask_more(a, &then));
        if (failed(a) || (a->flying_count == 0 && then == PLAN_NOTHING)) {
            return GW_OK;
        }
        GW_TRY(a->flying_count > 0 ? take_answer(a) : rest(a));
    }
}

static gw_err join(struct fetch_source *source)
{
    struct fetch_work *w = source->work;
    pthread_mutex_lock(&w->lock);
    source->number = fetch_plan_join(w->plan);
    pthread_mutex_unlock(&w->lock);
    return source->number < 0 ? GW_EBUSY : GW_OK;
}

static void leave(struct fetch_source *source, bool bad)
{
    struct fetch_work *w = source->work;
    pthread_mutex_lock(&w->lock);
    fetch_plan_drop(w->plan, (unsigned)source->number);
    source->bad = bad;
    pthread_mutex_unlock(&w->lock);
}

gw_err fetch_ask_chunks(struct bulk_io *bulk, struct fetch_source *source, struct gw_error *why)
{
    struct ask *a = calloc(1, sizeof *a);
    if (!a) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *a = (struct ask){.source = source, .work = source->work, .bulk = bulk, .why = why};
    gw_err err = join(source);
    if (err != GW_OK) {
        free(a);
        return gw_fail(why, err, "too many sources were tried");
    }
    err = chunk_batch_new(source->work->store, &a->batch);
    if (err == GW_OK) {
        err = record_init(&a->io, bulk, true, NULL, why);
    }
    if (err == GW_OK) {
        err = ask_all(a);
        if (err == GW_OK) {
            finish(&a->io);
        }
        record_deinit(&a->io);
    }
    gw_err kept = a->batch ? commit(a) : GW_OK; /* a failure is in work->err */
    (void)kept;
    chunk_batch_free(a->batch);
    leave(source, err == GW_EPROTO || err == GW_ECORRUPT);
    buf_free(&a->chunk);
    free(a);
    return err;
}
