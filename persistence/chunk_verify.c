/* Reading and hashing everything, chunk by chunk, while others go on. */
#include "persistence/chunk_inner.h"

#include <stdlib.h>
#include <string.h>

struct round {
    struct chunk_store *s;
    const struct chunk_verify *v;
    struct chunk_verified sums;
    int64_t artifact; /* row; 0: all chunks */
    int64_t after;    /* row of a chunk, or offset in the artifact */
    struct buf bytes;
};

/* The next chunk. GW_ENOT_FOUND: that was all. */
static gw_err next_chunk(struct round *r, struct chunk_row *ret)
{
    gw_err err;
    pthread_mutex_lock(&r->s->lock);
    if (r->artifact) {
        uint64_t at;
        size_t n = 0;
        err = index_recipe_from(r->s, r->artifact, (uint64_t)r->after, &at, ret, 1, &n);
        err = !err && n == 0 ? GW_ENOT_FOUND : err;
        r->after = err ? r->after : (int64_t)at + 1;
    } else {
        err = index_chunk_next(r->s, r->after, ret);
        r->after = err ? r->after : ret->id;
    }
    pthread_mutex_unlock(&r->s->lock);
    return err;
}

static gw_err tell(struct round *r, const struct chunk_row *row, const char *what)
{
    gw_id users[CHUNK_DAMAGE_ARTIFACTS];
    struct chunk_damage d = {.chunk = {row->hash, row->len}, .what = what, .artifacts = users};
    pthread_mutex_lock(&r->s->lock);
    gw_err err =
        index_recipe_users(r->s, row->id, users, CHUNK_DAMAGE_ARTIFACTS, &d.artifact_count);
    pthread_mutex_unlock(&r->s->lock);
    if (!err) {
        r->sums.damaged++;
        r->v->on_damage(r->v->arg, &d);
    }
    return err;
}

/* Where it is now: it may have been moved or put right since the row was read. */
static gw_err look(struct round *r, struct chunk_row *row, struct gw_error *why)
{
    for (;;) {
        struct gw_error what = {0};
        gw_err err = store_read_row(r->s, row, &r->bytes, &what);
        if (err && !chunk_is_damage(err)) {
            if (why) {
                *why = what;
            }
            return err;
        }
        if (store_mark(r->s, row, err != GW_OK)) {
            return err ? tell(r, row, what.text) : GW_OK;
        }
        pthread_mutex_lock(&r->s->lock);
        gw_err found = index_chunk_find(r->s, &row->hash, row);
        pthread_mutex_unlock(&r->s->lock);
        if (found) {
            return found == GW_ENOT_FOUND ? GW_OK : found;
        }
    }
}

static gw_err go(struct round *r, struct gw_error *why)
{
    struct chunk_row row;
    gw_err err;
    while (!(err = next_chunk(r, &row))) {
        GW_TRY(look(r, &row, why));
        r->sums.chunks++;
        r->sums.bytes += row.len;
        if (r->v->on_progress && !r->v->on_progress(r->v->arg, r->sums.chunks, r->sums.bytes)) {
            return gw_fail(why, GW_ECANCELLED, "called off");
        }
    }
    return err == GW_ENOT_FOUND ? GW_OK
                                : gw_fail(why, err, "cannot read rows: %s", gw_err_text(err));
}

gw_err chunk_store_verify(struct chunk_store *s, const struct chunk_verify *v,
                          struct chunk_verified *ret, struct gw_error *why)
{
    static const gw_id nil;
    struct round r = {.s = s, .v = v};
    struct artifact_use use = {0};
    bool one = memcmp(&v->artifact, &nil, sizeof nil) != 0;
    if (one) {
        struct artifact_row row;
        pthread_mutex_lock(&s->lock);
        gw_err err = artifact_row_get(s, &v->artifact, &row, why);
        if (!err) {
            use.row = r.artifact = row.id;
            LIST_INSERT_HEAD(&s->uses, &use, link);
        }
        pthread_mutex_unlock(&s->lock);
        GW_TRY(err);
    }
    gw_err err = go(&r, why);
    if (one) {
        pthread_mutex_lock(&s->lock);
        LIST_REMOVE(&use, link);
        pthread_mutex_unlock(&s->lock);
    }
    buf_free(&r.bytes);
    if (!err) {
        *ret = r.sums;
    }
    return err;
}
