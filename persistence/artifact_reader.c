#include <stdlib.h>
#include <string.h>

#include "persistence/chunk_inner.h"

struct artifact_reader {
    struct chunk_store *s;
    struct artifact_use use;
    struct artifact_info info;
    struct buf chunk; /* the one that was read last, and where it begins */
    uint64_t at;
};

gw_err artifact_reader_open(struct chunk_store *s, const gw_id *id, struct artifact_reader **ret,
                            struct gw_error *why)
{
    struct artifact_row row;
    struct artifact_reader *r = calloc(1, sizeof *r);
    if (!r) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    pthread_mutex_lock(&s->lock);
    gw_err err = artifact_row_get(s, id, &row, why);
    if (!err && row.state != ARTIFACT_WHOLE) {
        err = gw_fail(why, GW_ENOT_FOUND, "that artifact is not uploaded whole yet");
    }
    if (!err) {
        r->s = s;
        r->info = row.info;
        r->use.row = row.id;
        LIST_INSERT_HEAD(&s->uses, &r->use, link);
    }
    pthread_mutex_unlock(&s->lock);
    if (err) {
        free(r);
        return err;
    }
    *ret = r;
    return GW_OK;
}

const struct artifact_info *artifact_reader_info(const struct artifact_reader *r)
{
    return &r->info;
}

static gw_err load(struct artifact_reader *r, uint64_t at, struct gw_error *why)
{
    struct chunk_row row;
    uint64_t begin;
    pthread_mutex_lock(&r->s->lock);
    gw_err err = index_recipe_at(r->s, r->use.row, at, &begin, &row);
    pthread_mutex_unlock(&r->s->lock);
    if (err == GW_ENOT_FOUND || (!err && at - begin >= row.len)) {
        return gw_fail(why, GW_ECORRUPT, "no chunk has byte %llu of the artifact",
                       (unsigned long long)at);
    }
    if (err) {
        return gw_fail(why, err, "cannot read the chunks of an artifact: %s", gw_err_text(err));
    }
    buf_reset(&r->chunk);
    GW_TRY(chunk_store_get(r->s, &row.hash, &r->chunk, why));
    r->at = begin;
    return GW_OK;
}

gw_err artifact_reader_at(struct artifact_reader *r, uint64_t at, struct span *ret,
                          struct gw_error *why)
{
    if (at > r->info.size) {
        return gw_fail(why, GW_EARG, "offset %llu is behind the end, %llu", (unsigned long long)at,
                       (unsigned long long)r->info.size);
    }
    if (at == r->info.size) {
        *ret = (struct span){0};
        return GW_OK;
    }
    if (at < r->at || at - r->at >= r->chunk.len) {
        GW_TRY(load(r, at, why));
    }
    size_t skip = (size_t)(at - r->at);
    *ret = (struct span){r->chunk.data + skip, r->chunk.len - skip};
    return GW_OK;
}

void artifact_reader_free(struct artifact_reader *r)
{
    if (r) {
        pthread_mutex_lock(&r->s->lock);
        LIST_REMOVE(&r->use, link);
        pthread_mutex_unlock(&r->s->lock);
        buf_free(&r->chunk);
        free(r);
    }
}
