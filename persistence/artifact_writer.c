/* Writing an artifact: bytes are cut into chunks, each hashed and stored where it is new. Every
 * CHECKPOINT_BYTES a transaction makes what is there durable, as an upload.
 *
 * The hash of the whole runs over finished chunks only, so that its state and the chunks belong
 * together. The beginning of a chunk that is not at its end yet is in memory; artifact_writer_pause
 * stores it as a chunk of its own, the tail, which a resume reads back and the next transaction
 * drops. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "persistence/chunk_inner.h"
#include "persistence/sha_side.h"
#include "protocol/base/id.h"
#include "protocol/base/utf8.h"

#define CHECKPOINT_BYTES (16u * 1024 * 1024)
#define SIDE_BYTES       (8u * 1024 * 1024) /* from here on a thread hashes the whole */
#define PLACES_MOST      1024 /* chunks of one transaction, repeated ones counted each time */

struct place {
    uint64_t at; /* in the artifact */
    size_t item; /* of the batch */
};

struct artifact_writer {
    struct chunk_store *s;
    struct artifact_use use;
    struct artifact_row row; /* what the next transaction writes */
    struct chunk_batch *batch;
    struct place *places;
    size_t place_count;
    struct chunker cut;
    struct buf chunk;      /* the present one */
    struct sha_side *side; /* NULL: none yet, or there is no thread to be had */
    bool alone;
    uint64_t durable, size;
    bool stored; /* there is a row */
    bool tail;   /* and a recipe row at tail_at that is not of a whole chunk */
    uint64_t tail_at;
    bool closed; /* finished, or failed: takes nothing more */
};

/* --- making --- */
static gw_err copy_text(const char *text, const char *fallback, const char *what, char *ret,
                        size_t cap, struct gw_error *why)
{
    text = text && text[0] ? text : fallback;
    size_t n = strlen(text);
    bool valid = n < cap && utf8_is_valid(text, n);
    for (size_t i = 0; i < n && valid; i++) {
        valid = (uint8_t)text[i] >= 0x20 && text[i] != 0x7f;
    }
    if (!valid) {
        return gw_fail(why, GW_EARG,
                       "the %s of an artifact is UTF-8 without control characters, at most %zu "
                       "bytes",
                       what, cap - 1);
    }
    memcpy(ret, text, n + 1);
    return GW_OK;
}

static gw_err fill_row(struct chunk_store *s, const struct artifact_meta *meta,
                       struct artifact_row *row, struct gw_error *why)
{
    uint8_t random[10];
    struct artifact_info *i = &row->info;
    GW_TRY(copy_text(meta->name, "", "name", i->name, sizeof i->name, why));
    GW_TRY(copy_text(meta->type, "application/octet-stream", "media type", i->type, sizeof i->type,
                     why));
    if (meta->ttl_ms < 0 || meta->ttl_ms > LIMIT_ARTIFACT_TTL_MS) {
        return gw_fail(why, GW_EARG, "the time to live of an artifact is 0 to 100 years");
    }
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        return gw_fail(why, GW_EIO, "no random numbers");
    }
    i->created_ms = store_wall_ms(s);
    i->id = id_make(i->created_ms, random);
    i->owner = meta->owner;
    i->upload = true;
    row->ttl_ms = meta->ttl_ms;
    row->resumable = meta->resumable;
    sha_run_init(&row->sha);
    return GW_OK;
}

static gw_err make(struct chunk_store *s, struct artifact_writer **ret, struct gw_error *why)
{
    struct artifact_writer *w = calloc(1, sizeof *w);
    struct place *places = calloc(PLACES_MOST, sizeof *places);
    gw_err err = w && places ? chunk_batch_new(s, &w->batch) : GW_ENOMEM;
    if (err) {
        free(w);
        free(places);
        return gw_fail(why, err, "out of memory");
    }
    w->s = s;
    w->places = places;
    w->use.row = -1; /* none yet */
    w->use.writes = true;
    *ret = w;
    return GW_OK;
}

static void use_begin(struct artifact_writer *w)
{
    pthread_mutex_lock(&w->s->lock);
    LIST_INSERT_HEAD(&w->s->uses, &w->use, link);
    pthread_mutex_unlock(&w->s->lock);
}

gw_err artifact_writer_new(struct chunk_store *s, const struct artifact_meta *meta,
                           struct artifact_writer **ret, struct gw_error *why)
{
    struct artifact_writer *w = NULL;
    GW_TRY(make(s, &w, why));
    use_begin(w);
    gw_err err = fill_row(s, meta, &w->row, why);
    if (!err && meta->resumable) {
        err = artifact_writer_pause(w, why);
    }
    if (err) {
        artifact_writer_free(w);
        return err;
    }
    *ret = w;
    return GW_OK;
}

/* --- transactions --- */
static gw_err drop_tail(struct chunk_store *s, const struct artifact_writer *w)
{
    struct chunk_row chunk;
    uint64_t at;
    GW_TRY(index_recipe_at(s, w->row.id, w->tail_at, &at, &chunk));
    GW_TRY(index_chunk_refs(s, chunk.id, -1));
    return index_recipe_drop(s, w->row.id, at);
}

static gw_err begin_row(struct chunk_store *s, struct artifact_writer *w, struct gw_error *why)
{
    if (s->sums.artifacts + s->sums.uploads >= LIMIT_ARTIFACTS) {
        gw_fail(why, GW_EQUOTA, "this host has %d artifacts already", LIMIT_ARTIFACTS);
        gw_hint(why, "remove artifacts");
        return GW_EQUOTA;
    }
    GW_TRY(index_artifact_add(s, &w->row));
    w->use.row = w->row.id;
    return commit_effect(s, (struct effect){.uploads = 1});
}

static gw_err apply_rows(struct chunk_store *s, void *arg, struct gw_error *why)
{
    struct artifact_writer *w = arg;
    if (s->db.log_pages >= INDEX_LOG_FULL) {
        return gw_fail(why, GW_EDISK_FULL, "no room for rows in \"%s\"", s->db.path);
    }
    if (!w->stored) {
        GW_TRY(begin_row(s, w, why));
    }
    if (w->tail) {
        GW_TRY(drop_tail(s, w));
    }
    for (size_t i = 0; i < w->place_count; i++) {
        int64_t chunk = w->batch->items[w->places[i].item].row;
        GW_TRY(index_recipe_add(s, w->row.id, w->places[i].at, chunk));
        GW_TRY(index_chunk_refs(s, chunk, 1));
    }
    GW_TRY(index_artifact_set(s, &w->row, store_wall_ms(s)));
    if (w->row.state == ARTIFACT_WHOLE) {
        return commit_effect(s, (struct effect){.artifacts = 1,
                                                .uploads = -1,
                                                .artifact_bytes = (int64_t)w->row.info.size});
    }
    return GW_OK;
}

static void use_row(struct artifact_writer *w, int64_t row)
{
    pthread_mutex_lock(&w->s->lock);
    w->use.row = row;
    pthread_mutex_unlock(&w->s->lock);
}

/* Make what was put into the batch durable. `tail`: its last chunk is not at its end yet. */
static gw_err commit(struct artifact_writer *w, bool tail, struct gw_error *why)
{
    w->row.info.size = tail ? w->size : w->size - w->chunk.len;
    w->row.tail_at = w->size - w->chunk.len;
    gw_err err = commit_run(w->s, w->batch, apply_rows, w, why);
    if (err) {
        w->closed = true;
        if (!w->stored) { /* there is no row, whatever number it would have had */
            use_row(w, -1);
        }
        return err;
    }
    w->place_count = 0;
    w->stored = true;
    w->tail = tail;
    w->tail_at = w->row.tail_at;
    w->durable = w->row.info.size;
    return GW_OK;
}

static gw_err add_place(struct artifact_writer *w, uint64_t at, size_t item, struct gw_error *why)
{
    w->places[w->place_count++] = (struct place){at, item};
    bool full = w->batch->count == BATCH_ITEMS || w->place_count == PLACES_MOST ||
                w->batch->bytes >= CHECKPOINT_BYTES;
    return full ? commit(w, false, why) : GW_OK;
}

/* --- bytes --- */
static gw_err refuse_closed(const struct artifact_writer *w, struct gw_error *why)
{
    return w->closed ? gw_fail(why, GW_EARG, "this upload takes no more bytes") : GW_OK;
}

static gw_err check_size(const struct artifact_writer *w, uint64_t more, struct gw_error *why)
{
    uint64_t most = w->s->options.artifact_max ? w->s->options.artifact_max : INT64_MAX;
    if (more > most || w->size > most - more) {
        gw_fail(why, GW_ETOO_BIG, "an artifact has at most %llu bytes on this host",
                (unsigned long long)most);
        gw_hint(why, "raise artifact_max, or send it as a file");
        return GW_ETOO_BIG;
    }
    return GW_OK;
}

/* The present chunk is hashed twice, for its name and for that of the whole: of a long content
 * beside each other. */
static gw_err put_chunk(struct artifact_writer *w, size_t *ret_item, struct gw_error *why)
{
    if (!w->side && !w->alone && w->size >= SIDE_BYTES) {
        w->alone = sha_side_open(&w->side) != GW_OK;
    }
    if (w->side) {
        sha_side_begin(w->side, &w->row.sha, w->chunk.data, w->chunk.len);
    }
    gw_err err = batch_put(w->batch, buf_span(&w->chunk), NULL, ret_item, why);
    if (w->side) {
        sha_side_wait(w->side);
    } else if (err == GW_OK) {
        sha_run_add(&w->row.sha, w->chunk.data, w->chunk.len);
    }
    return err;
}

/* The present chunk is at its end. */
static gw_err end_chunk(struct artifact_writer *w, struct gw_error *why)
{
    size_t item;
    gw_err err = put_chunk(w, &item, why);
    if (err) {
        w->closed = true;
        return err;
    }
    uint64_t at = w->size - w->chunk.len;
    buf_reset(&w->chunk);
    return add_place(w, at, item, why);
}

gw_err artifact_writer_add(struct artifact_writer *w, const void *data, size_t n,
                           struct gw_error *why)
{
    const uint8_t *p = data;
    GW_TRY(refuse_closed(w, why));
    GW_TRY(check_size(w, n, why));
    while (n > 0) {
        bool ended;
        size_t take = chunker_feed(&w->cut, p, n, &ended);
        buf_add(&w->chunk, p, take);
        if (!buf_ok(&w->chunk)) {
            w->closed = true;
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        w->size += take;
        p += take;
        n -= take;
        if (ended) {
            GW_TRY(end_chunk(w, why));
        }
    }
    return GW_OK;
}

gw_err artifact_writer_add_chunk(struct artifact_writer *w, const struct chunk_ref *chunk,
                                 struct gw_error *why)
{
    size_t item;
    GW_TRY(refuse_closed(w, why));
    GW_TRY(check_size(w, chunk->len, why));
    if (w->chunk.len > 0) {
        return gw_fail(why, GW_EARG, "the bytes before that chunk do not end with a chunk");
    }
    GW_TRY(batch_pin(w->batch, &chunk->hash, &item, why));
    GW_AUTO(buf_free) struct buf bytes = {0};
    GW_TRY(chunk_store_get(w->s, &chunk->hash, &bytes, why));
    if (bytes.len != chunk->len) {
        return gw_fail(why, GW_EARG, "that chunk has %zu bytes, not %u", bytes.len, chunk->len);
    }
    sha_run_add(&w->row.sha, bytes.data, bytes.len);
    uint64_t at = w->size;
    w->size += bytes.len;
    return add_place(w, at, item, why);
}

gw_err artifact_writer_pause(struct artifact_writer *w, struct gw_error *why)
{
    GW_TRY(refuse_closed(w, why));
    if (!w->row.resumable) {
        return gw_fail(why, GW_EARG, "this upload cannot be resumed");
    }
    bool tail = w->chunk.len > 0;
    if (tail) {
        size_t item;
        gw_err err = batch_put(w->batch, buf_span(&w->chunk), NULL, &item, why);
        if (err) {
            w->closed = true;
            return err;
        }
        w->places[w->place_count++] = (struct place){w->size - w->chunk.len, item};
    }
    return commit(w, tail, why);
}

gw_err artifact_writer_finish(struct artifact_writer *w, const struct chunk_hash *want,
                              struct artifact_info *ret, struct gw_error *why)
{
    struct artifact_info *i = &w->row.info;
    GW_TRY(refuse_closed(w, why));
    if (w->chunk.len > 0) {
        GW_TRY(end_chunk(w, why));
    }
    sha_run_hash(&w->row.sha, i->hash.b);
    if (want && memcmp(want->b, i->hash.b, CHUNK_HASH_BYTES) != 0) {
        char is[CHUNK_HASH_TEXT], wanted[CHUNK_HASH_TEXT];
        w->closed = true;
        w->row.resumable = false; /* it would not become right */
        return gw_fail(why, GW_ECORRUPT, "the content has the hash %s, not %s",
                       chunk_hash_text(&i->hash, is), chunk_hash_text(want, wanted));
    }
    w->row.state = ARTIFACT_WHOLE;
    i->created_ms = store_wall_ms(w->s);
    i->expires_ms = w->row.ttl_ms ? i->created_ms + w->row.ttl_ms : 0;
    gw_err err = commit(w, false, why);
    if (err) {
        w->row.state = ARTIFACT_UPLOAD;
        return err;
    }
    w->closed = true;
    i->upload = false;
    *ret = *i;
    return GW_OK;
}

/* --- going on --- */
/* The bytes of the tail again. One that is damaged is given up: the upload goes on before it. */
static gw_err load_tail(struct artifact_writer *w, struct gw_error *why)
{
    struct chunk_row chunk;
    uint64_t at = 0;
    bool ended = false;
    pthread_mutex_lock(&w->s->lock);
    gw_err err = index_recipe_at(w->s, w->row.id, w->tail_at, &at, &chunk);
    pthread_mutex_unlock(&w->s->lock);
    if (!err && at == w->tail_at) {
        w->tail = true;
        err = chunk_store_get(w->s, &chunk.hash, &w->chunk, why);
    }
    if (chunk_is_damage(err) || err == GW_ENOT_FOUND || at != w->tail_at) {
        buf_reset(&w->chunk);
        w->size = w->tail_at;
        return GW_OK;
    }
    if (err) {
        return gw_fail(why, err, "cannot go on with an upload: %s", gw_err_text(err));
    }
    size_t used = chunker_feed(&w->cut, w->chunk.data, w->chunk.len, &ended);
    if (ended || used != w->chunk.len || w->chunk.len != w->size - w->tail_at) {
        return gw_fail(why, GW_ECORRUPT, "the last chunk of that upload has another length");
    }
    return GW_OK;
}

gw_err artifact_writer_resume(struct chunk_store *s, const gw_id *id, struct artifact_writer **ret,
                              struct gw_error *why)
{
    struct artifact_writer *w = NULL;
    GW_TRY(make(s, &w, why));
    pthread_mutex_lock(&s->lock);
    gw_err err = artifact_row_get(s, id, &w->row, why);
    if (!err && (w->row.state != ARTIFACT_UPLOAD || !w->row.resumable)) {
        err = gw_fail(why, GW_ENOT_FOUND, "there is no such upload");
    } else if (!err && artifact_use_find(s, w->row.id)) {
        err = gw_fail(why, GW_ECONFLICT, "somebody is uploading that artifact");
    } else if (!err) {
        w->use.row = w->row.id;
    }
    LIST_INSERT_HEAD(&s->uses, &w->use, link);
    pthread_mutex_unlock(&s->lock);
    if (!err) {
        w->stored = true;
        w->tail_at = w->row.tail_at;
        w->size = w->durable = w->row.info.size;
        err = w->size > w->tail_at ? load_tail(w, why) : GW_OK;
    }
    if (err) {
        w->row.resumable = true; /* of somebody else: leave it alone */
        artifact_writer_free(w);
        return err;
    }
    *ret = w;
    return GW_OK;
}

gw_id artifact_writer_id(const struct artifact_writer *w)
{
    return w->row.info.id;
}

uint64_t artifact_writer_size(const struct artifact_writer *w)
{
    return w->size;
}

uint64_t artifact_writer_durable(const struct artifact_writer *w)
{
    return w->durable;
}

void artifact_writer_free(struct artifact_writer *w)
{
    if (!w) {
        return;
    }
    struct chunk_store *s = w->s;
    bool remove = w->stored && w->row.state == ARTIFACT_UPLOAD && !w->row.resumable;
    pthread_mutex_lock(&s->lock);
    LIST_REMOVE(&w->use, link);
    pthread_mutex_unlock(&s->lock);
    if (remove) {
        /* Where that fails the next collection does it: nobody writes it any more. */
        gw_err err = artifact_remove(s, &w->row.info.id, NULL);
        (void)err;
    }
    sha_side_close(w->side);
    chunk_batch_free(w->batch);
    buf_free(&w->chunk);
    free(w->places);
    free(w);
}
