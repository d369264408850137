/* What nobody needs goes, a part at a time, so that the mutex is never held for long:
 *
 *   expired artifacts ──┐
 *   lost uploads ───────┴─ removed ── their recipes ── chunks without need ── empty packs
 *                                                                          └─ packs half empty:
 * what is left is written anew Each step is a transaction, and leaves a state from which the next
 * start goes on. */
#include "persistence/chunk_inner.h"

#include <stdlib.h>
#include <string.h>

#include "persistence/failpoint.h"
#include "protocol/base/log.h"

#define PART        512            /* rows of one transaction: a few ms */
#define MOVED_LEAST (1024u * 1024) /* a smaller pack is not worth being written anew */

struct part {
    size_t done;
    bool calm;
};

/* --- artifacts that end --- */
static gw_err remove_row(struct chunk_store *s, const struct artifact_row *row)
{
    struct effect e = {0};
    GW_TRY(index_artifact_state(s, row->id, ARTIFACT_REMOVED));
    if (row->state == ARTIFACT_WHOLE) {
        e.artifacts = -1;
        e.artifact_bytes = -(int64_t)row->info.size;
    } else {
        e.uploads = -1;
    }
    return commit_effect(s, e);
}

static gw_err end_expired(struct chunk_store *s, void *arg, struct gw_error *why)
{
    struct part *part = arg;
    struct artifact_row row = {0};
    (void)why;
    while (part->done < PART) {
        gw_err err = index_artifact_expired(s, store_wall_ms(s), row.id, &row);
        if (err) {
            return err == GW_ENOT_FOUND ? GW_OK : err;
        }
        GW_TRY(remove_row(s, &row));
        part->done++;
    }
    return GW_OK;
}

/* Uploads that nobody has gone on with for long, and those that died with their writer. */
static gw_err end_uploads(struct chunk_store *s, void *arg, struct gw_error *why)
{
    struct part *part = arg;
    struct artifact_row row = {0};
    int64_t before = part->calm ? store_wall_ms(s) - LIMIT_ARTIFACT_UPLOAD_MS : INT64_MIN;
    (void)why;
    while (part->done < PART) {
        gw_err err = index_artifact_next(s, ARTIFACT_UPLOAD, before, row.id, &row);
        if (err) {
            return err == GW_ENOT_FOUND ? GW_OK : err;
        }
        if (!artifact_use_find(s, row.id)) {
            GW_TRY(remove_row(s, &row));
            part->done++;
        }
    }
    return GW_OK;
}

/* --- rows of what was removed --- */
static gw_err drop_recipe(struct chunk_store *s, int64_t artifact, size_t *done)
{
    uint64_t ats[64];
    struct chunk_row rows[64];
    size_t n;
    do {
        GW_TRY(index_recipe_from(s, artifact, 0, ats, rows, 64, &n));
        for (size_t i = 0; i < n; i++) {
            GW_TRY(index_chunk_refs(s, rows[i].id, -1));
            GW_TRY(index_recipe_drop(s, artifact, ats[i]));
        }
        *done += n + 1;
    } while (n == 64 && *done < PART);
    return n < 64 ? index_artifact_drop(s, artifact) : GW_OK;
}

static gw_err drop_removed(struct chunk_store *s, void *arg, struct gw_error *why)
{
    struct part *part = arg;
    struct artifact_row row = {0};
    (void)why;
    while (part->done < PART) {
        gw_err err = index_artifact_next(s, ARTIFACT_REMOVED, INT64_MAX, row.id, &row);
        if (err) {
            return err == GW_ENOT_FOUND ? GW_OK : err;
        }
        if (!artifact_use_find(s, row.id)) {
            GW_TRY(drop_recipe(s, row.id, &part->done));
        }
    }
    return GW_OK;
}

static gw_err drop_chunk(struct chunk_store *s, const struct chunk_row *row)
{
    struct pack *p = row->pack ? pack_find(s, row->pack) : NULL;
    struct effect e = {.pack = p,
                       .live = p ? -(int64_t)row->len : 0,
                       .used = -(int64_t)chunk_counted(row->len),
                       .chunks = -1};
    GW_TRY(index_chunk_drop(s, row->id));
    return commit_effect(s, e);
}

static gw_err drop_loose(struct chunk_store *s, void *arg, struct gw_error *why)
{
    struct part *part = arg;
    int64_t since = part->calm ? store_wall_ms(s) - LIMIT_CHUNK_LOOSE_MS : 0, after = 0;
    struct chunk_row rows[64];
    size_t n;
    (void)why;
    do {
        GW_TRY(index_chunk_loose(s, since, after, rows, 64, &n));
        for (size_t i = 0; i < n; i++) {
            if (!pin_is_set(s, &rows[i].hash)) {
                GW_TRY(drop_chunk(s, &rows[i]));
                part->done++;
            }
            after = rows[i].id;
        }
    } while (n == 64 && part->done < PART);
    return GW_OK;
}

/* --- packs --- */
static void remove_empty(struct chunk_store *s)
{
    struct pack *p = LIST_FIRST(&s->packs), *next;
    for (; p; p = next) {
        next = LIST_NEXT(p, link);
        if (p->live == 0 && p->users == 0 && p->unnamed == 0) {
            (void)failpoint_place(PLACE_PACK_REMOVE);
            pack_remove(s, p);
        }
    }
}

gw_err collect_rows(struct chunk_store *s, bool *ret_more, struct gw_error *why)
{
    static gw_err (*const steps[])(struct chunk_store *, void *, struct gw_error *) = {
        end_expired, end_uploads, drop_removed, drop_loose};
    bool calm = store_is_calm(s), more = false;
    for (size_t i = calm ? 0 : 1; i < sizeof steps / sizeof steps[0]; i++) {
        struct part part = {.calm = calm};
        gw_err err = commit_now(s, steps[i], &part, why);
        if (err) {
            return gw_fail(why, err, "cannot collect artifacts: %s", gw_err_text(err));
        }
        more = more || part.done >= PART;
    }
    remove_empty(s);
    *ret_more = more;
    return GW_OK;
}

/* --- room on a full disk --- */
struct extents {
    struct extent *items;
    size_t count, cap;
};

static bool add_extent(struct extents *e, uint64_t at, uint32_t len)
{
    if (e->count == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 256;
        struct extent *items = realloc(e->items, cap * sizeof *items);
        if (!items) {
            return false;
        }
        e->items = items;
        e->cap = cap;
    }
    e->items[e->count++] = (struct extent){at, len};
    return true;
}

static int by_place(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* What rows name in a pack, and what is being written into it. False: not all could be found out.
 */
static bool find_extents(struct chunk_store *s, const struct pack *p, struct extents *e)
{
    struct chunk_row rows[64];
    const struct pinned *pin;
    size_t n;
    uint64_t at = 0;
    e->count = 0;
    do {
        if (index_chunks_of_pack(s, p->id, at, rows, 64, &n) != GW_OK) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (!add_extent(e, rows[i].at, rows[i].len)) {
                return false;
            }
            at = rows[i].at + 1;
        }
    } while (n == 64);
    for (size_t i = 0; i < PIN_BUCKETS && p->unnamed > 0; i++) {
        LIST_FOREACH (pin, &s->pins[i], pin) {
            if (pin->pack == p && !add_extent(e, pin->at, pin->len)) {
                return false;
            }
        }
    }
    if (e->count > 0) {
        qsort(e->items, e->count, sizeof e->items[0], by_place);
    }
    return true;
}

void collect_room(struct chunk_store *s)
{
    struct extents e = {0};
    struct pack *p;
    LIST_FOREACH (p, &s->packs, link) {
        if (p->live < p->end && find_extents(s, p, &e)) {
            pack_punch(s, p, e.items, e.count);
        }
    }
    free(e.items);
}

/* One whose bytes are for the greater part of nobody, and that nobody uses. Under the mutex. */
static struct pack *half_empty(struct chunk_store *s)
{
    struct pack *p;
    LIST_FOREACH (p, &s->packs, link) {
        if (p->end >= MOVED_LEAST && p->live < p->end / 2 && p->users == 0 && p->unnamed == 0 &&
            !p->moved) {
            return p;
        }
    }
    return NULL;
}

struct nowhere {
    const struct chunk_row *row;
};

/* A damaged chunk loses its place: its bytes are good for nothing. */
static gw_err apply_nowhere(struct chunk_store *s, void *arg, struct gw_error *why)
{
    const struct chunk_row *row = ((struct nowhere *)arg)->row;
    struct chunk_row now;
    (void)why;
    gw_err err = index_chunk_find(s, &row->hash, &now);
    if (err || now.pack != row->pack || now.at != row->at) {
        return err == GW_ENOT_FOUND ? GW_OK : err;
    }
    struct pack *p = pack_find(s, row->pack);
    GW_TRY(index_chunk_bad(s, row->id, true, true));
    return p ? commit_effect(s, (struct effect){.pack = p, .live = -(int64_t)row->len}) : GW_OK;
}

static gw_err move_chunk(struct chunk_batch *b, const struct chunk_row *row, struct buf *bytes,
                         struct gw_error *why)
{
    size_t item;
    gw_err err = store_read_row(b->s, row, bytes, why);
    if (!chunk_is_damage(err)) {
        return err ? err : batch_put(b, buf_span(bytes), &row->hash, &item, why);
    }
    char text[CHUNK_HASH_TEXT];
    struct nowhere n = {row};
    log_error("artifacts.chunk_damaged", "chunk=%s %s", chunk_hash_text(&row->hash, text),
              why ? why->text : gw_err_text(err));
    return commit_run(b->s, NULL, apply_nowhere, &n, why);
}

/* Write what is left of a pack anew, BATCH_ITEMS chunks. */
static gw_err move_some(struct chunk_store *s, uint32_t pack, struct gw_error *why)
{
    struct chunk_batch *b = NULL;
    struct buf bytes = {0};
    size_t n = 0;
    struct chunk_row *rows = calloc(BATCH_ITEMS, sizeof *rows);
    gw_err err = rows ? chunk_batch_new(s, &b) : GW_ENOMEM;
    if (!err) {
        b->moving = true;
        pthread_mutex_lock(&s->lock);
        err = index_chunks_of_pack(s, pack, 0, rows, BATCH_ITEMS, &n);
        pthread_mutex_unlock(&s->lock);
    }
    for (size_t i = 0; i < n && !err; i++) {
        err = move_chunk(b, &rows[i], &bytes, why);
    }
    if (!err) {
        err = commit_run(s, b, NULL, NULL, why);
    }
    chunk_batch_free(b);
    buf_free(&bytes);
    free(rows);
    return err;
}

gw_err chunk_store_collect(struct chunk_store *s, bool *ret_more, struct gw_error *why)
{
    bool more = false;
    uint32_t id = 0;
    struct gw_error own;
    why = why ? why : &own;
    pthread_mutex_lock(&s->lock);
    gw_err err = collect_rows(s, &more, why);
    struct pack *p = err ? NULL : half_empty(s);
    if (p) {
        id = p->id;
        p->moved = true; /* nobody else begins with it */
        s->active = s->active == p ? NULL : s->active;
    }
    pthread_mutex_unlock(&s->lock);
    if (!p) {
        *ret_more = more;
        return err;
    }
    err = move_some(s, id, why);
    pthread_mutex_lock(&s->lock);
    p = pack_find(s, id);
    if (p) {
        p->moved = false;
    }
    remove_empty(s);
    if (err == GW_EDISK_FULL) { /* another time; what it holds goes back to the disk as it is */
        collect_room(s);
        err = GW_OK;
    } else {
        more = true;
    }
    pthread_mutex_unlock(&s->lock);
    *ret_more = more;
    return err;
}
