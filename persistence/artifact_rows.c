#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "persistence/chunk_inner.h"
#include "protocol/base/id.h"
#include "protocol/text.h"

static gw_err not_found(const gw_id *id, const struct artifact_info *expired, struct gw_error *why)
{
    char text[GW_ID_TEXT], when[TEXT_TIME_SIZE];
    gw_id_text(id, text);
    if (expired) {
        return gw_fail(why, GW_ENOT_FOUND, "the artifact %s expired at %s", text,
                       text_from_time((gw_time){expired->expires_ms}, when));
    }
    return gw_fail(why, GW_ENOT_FOUND, "there is no artifact %s", text);
}

gw_err artifact_row_get(struct chunk_store *s, const gw_id *id, struct artifact_row *ret,
                        struct gw_error *why)
{
    struct artifact_row row;
    gw_err err = index_artifact_get(s, id, &row);
    if (err && err != GW_ENOT_FOUND) {
        return gw_fail(why, err, "cannot look for an artifact: %s", gw_err_text(err));
    }
    if (err || row.state == ARTIFACT_REMOVED) {
        return not_found(id, NULL, why);
    }
    if (row.info.expires_ms && row.info.expires_ms <= store_wall_ms(s)) {
        return not_found(id, &row.info, why);
    }
    *ret = row;
    return GW_OK;
}

struct artifact_use *artifact_use_find(struct chunk_store *s, int64_t row)
{
    struct artifact_use *u;
    LIST_FOREACH (u, &s->uses, link) {
        if (u->row == row) {
            return u;
        }
    }
    return NULL;
}

gw_err artifact_info(struct chunk_store *s, const gw_id *id, struct artifact_info *ret,
                     struct gw_error *why)
{
    struct artifact_row row;
    pthread_mutex_lock(&s->lock);
    gw_err err = artifact_row_get(s, id, &row, why);
    pthread_mutex_unlock(&s->lock);
    if (!err) {
        *ret = row.info;
    }
    return err;
}

gw_err artifact_find(struct chunk_store *s, const struct chunk_hash *hash,
                     struct artifact_info *ret, struct gw_error *why)
{
    struct artifact_row row;
    char text[CHUNK_HASH_TEXT];
    pthread_mutex_lock(&s->lock);
    gw_err err = index_artifact_by_hash(s, hash, store_wall_ms(s), &row);
    pthread_mutex_unlock(&s->lock);
    if (err == GW_ENOT_FOUND) {
        return gw_fail(why, err, "there is no artifact with the content %s",
                       chunk_hash_text(hash, text));
    }
    if (err) {
        return gw_fail(why, err, "cannot look for an artifact: %s", gw_err_text(err));
    }
    *ret = row.info;
    return GW_OK;
}

gw_err artifact_list(struct chunk_store *s, const gw_id *after, const gw_id *owner,
                     struct artifact_info *ret, size_t room, size_t *ret_count,
                     struct gw_error *why)
{
    static const gw_id nil;
    const gw_id *whose = owner && memcmp(owner, &nil, sizeof nil) != 0 ? owner : NULL;
    pthread_mutex_lock(&s->lock);
    gw_err err =
        index_artifact_list(s, after ? after : &nil, whose, store_wall_ms(s), ret, room, ret_count);
    pthread_mutex_unlock(&s->lock);
    return err ? gw_fail(why, err, "cannot list artifacts: %s", gw_err_text(err)) : GW_OK;
}

/* --- removing --- */
static gw_err apply_remove(struct chunk_store *s, void *arg, struct gw_error *why)
{
    const gw_id *id = arg;
    struct artifact_row row;
    struct effect e = {0};
    gw_err err = index_artifact_get(s, id, &row);
    if (err == GW_ENOT_FOUND || (!err && row.state == ARTIFACT_REMOVED)) {
        return not_found(id, NULL, why);
    }
    if (err) {
        return err;
    }
    if (row.state == ARTIFACT_UPLOAD) {
        const struct artifact_use *use = artifact_use_find(s, row.id);
        if (use && use->writes) {
            return gw_fail(why, GW_ECONFLICT, "somebody is uploading that artifact");
        }
        e.uploads = -1;
    } else {
        e.artifacts = -1;
        e.artifact_bytes = -(int64_t)row.info.size;
    }
    GW_TRY(index_artifact_state(s, row.id, ARTIFACT_REMOVED));
    return commit_effect(s, e);
}

gw_err artifact_remove(struct chunk_store *s, const gw_id *id, struct gw_error *why)
{
    gw_id copy = *id;
    return commit_run(s, NULL, apply_remove, &copy, why);
}

/* --- recipes --- */
gw_err artifact_recipe(struct chunk_store *s, const gw_id *id, uint64_t at, struct chunk_ref *ret,
                       size_t room, size_t *ret_count, struct gw_error *why)
{
    struct artifact_row row;
    size_t n = 0;
    uint64_t *ats = calloc(room + 1, sizeof *ats);
    struct chunk_row *rows = calloc(room + 1, sizeof *rows);
    gw_err err = GW_ENOMEM;
    if (ats && rows) {
        pthread_mutex_lock(&s->lock);
        err = artifact_row_get(s, id, &row, why);
        if (!err && row.state != ARTIFACT_WHOLE) {
            err = not_found(id, NULL, why);
        }
        if (!err) {
            err = index_recipe_from(s, row.id, at, ats, rows, room, &n);
        }
        pthread_mutex_unlock(&s->lock);
    }
    for (size_t i = 0; i < n && !err; i++) {
        ret[i] = (struct chunk_ref){rows[i].hash, rows[i].len};
    }
    free(ats);
    free(rows);
    if (err) {
        return err == GW_ENOT_FOUND ? err
                                    : gw_fail(why, err, "cannot read the chunks of an artifact: %s",
                                              gw_err_text(err));
    }
    *ret_count = n;
    return GW_OK;
}

gw_err artifact_adopt(struct chunk_store *s, const struct artifact_meta *meta,
                      const struct chunk_ref *chunks, size_t n, const struct chunk_hash *want,
                      struct artifact_info *ret, struct gw_error *why)
{
    struct artifact_writer *w;
    struct artifact_meta own = *meta;
    own.resumable = false;
    GW_TRY(artifact_writer_new(s, &own, &w, why));
    gw_err err = GW_OK;
    for (size_t i = 0; i < n && !err; i++) {
        err = artifact_writer_add_chunk(w, &chunks[i], why);
    }
    if (!err) {
        err = artifact_writer_finish(w, want, ret, why);
    }
    artifact_writer_free(w);
    return err;
}
