/* Batches of chunks, and the transactions that make them durable.
 *
 * Who commits stands in a queue; the first one there leads: it takes all that wait, flushes the
 * packs once for all of them, and runs their rows in one transaction, with a savepoint each, so
 * that one that fails does not undo its neighbours. A full disk undoes all of them: SQLite then has
 * no consistent pages to roll one back with. */
#include "persistence/chunk_inner.h"

#include <stdlib.h>
#include <string.h>

#include "persistence/failpoint.h"
#include "protocol/base/log.h"

/* --- pins --- */
static struct pin_list *bucket(struct chunk_store *s, const struct chunk_hash *hash)
{
    return &s->pins[load_u32(hash->b) % PIN_BUCKETS];
}

bool pin_is_set(struct chunk_store *s, const struct chunk_hash *hash)
{
    const struct pinned *p;
    LIST_FOREACH (p, bucket(s, hash), pin) {
        if (memcmp(p->hash.b, hash->b, CHUNK_HASH_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

/* --- batches --- */
gw_err chunk_batch_new(struct chunk_store *s, struct chunk_batch **ret)
{
    struct chunk_batch *b = calloc(1, sizeof *b);
    struct pinned *items = calloc(BATCH_ITEMS, sizeof *items);
    if (!b || !items) {
        free(b);
        free(items);
        return GW_ENOMEM;
    }
    b->s = s;
    b->items = items;
    *ret = b;
    return GW_OK;
}

/* Under the mutex. */
static void forget(struct chunk_batch *b, bool committed)
{
    for (size_t i = 0; i < b->count; i++) {
        struct pinned *p = &b->items[i];
        LIST_REMOVE(p, pin);
        if (p->written) {
            p->pack->unnamed--;
        }
        if (!committed) {
            b->s->sums.used_bytes -= p->counted;
        }
    }
    b->count = 0;
    b->bytes = 0;
}

void batch_reset(struct chunk_batch *b)
{
    pthread_mutex_lock(&b->s->lock);
    forget(b, false);
    pthread_mutex_unlock(&b->s->lock);
}

void chunk_batch_free(struct chunk_batch *b)
{
    if (b) {
        batch_reset(b);
        free(b->items);
        free(b);
    }
}

static bool find_item(const struct chunk_batch *b, const struct chunk_hash *hash, size_t *ret)
{
    for (size_t i = b->count; i-- > 0;) {
        if (memcmp(b->items[i].hash.b, hash->b, CHUNK_HASH_BYTES) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static struct pinned *add_item(struct chunk_batch *b, const struct chunk_hash *hash, uint32_t len)
{
    struct pinned *p = &b->items[b->count++];
    *p = (struct pinned){.hash = *hash, .len = len};
    LIST_INSERT_HEAD(bucket(b->s, hash), p, pin);
    return p;
}

/* Count `more` bytes, after a collection if there is need. Under the mutex. */
static gw_err reserve_quota(struct chunk_store *s, uint64_t more, struct gw_error *why)
{
    uint64_t quota = s->options.quota;
    bool again = true;
    while (quota && s->sums.used_bytes + more > quota) {
        if (!again) {
            gw_fail(why, GW_EQUOTA, "the quota of artifacts, %llu bytes, is used up",
                    (unsigned long long)quota);
            gw_hint(why, "remove artifacts, or raise artifact_quota");
            return GW_EQUOTA;
        }
        GW_TRY(collect_rows(s, &again, why));
    }
    s->sums.used_bytes += more;
    return GW_OK;
}

/* Find out whether the chunk has to be written, and where. Under the mutex.
 *   ret  NULL: it is here */
static gw_err place(struct chunk_batch *b, uint32_t len, const struct chunk_hash *hash,
                    struct pinned **ret, struct gw_error *why)
{
    struct chunk_store *s = b->s;
    struct chunk_row row = {0};
    gw_err err = index_chunk_find(s, hash, &row);
    if (err && err != GW_ENOT_FOUND) {
        return gw_fail(why, err, "cannot look for a chunk: %s", gw_err_text(err));
    }
    bool known = err == GW_OK;
    if (known && !row.bad && !b->moving) {
        add_item(b, hash, len);
        *ret = NULL;
        return GW_OK;
    }
    uint64_t counted = known || b->moving ? 0 : chunk_counted(len);
    struct pack *pack;
    uint64_t at;
    GW_TRY(reserve_quota(s, counted, why));
    err = pack_reserve(s, len, &pack, &at, why);
    if (err) {
        s->sums.used_bytes -= counted;
        return err;
    }
    struct pinned *p = add_item(b, hash, len);
    p->pack = pack;
    p->at = at;
    p->written = true;
    p->counted = counted;
    p->from = known ? row.pack : 0;
    *ret = p;
    return GW_OK;
}

/* Write the newest item, for which there is a place. Under the mutex, which is given up. */
static gw_err fill(struct chunk_batch *b, struct pinned *p, struct span bytes, struct gw_error *why)
{
    struct chunk_store *s = b->s;
    pthread_mutex_unlock(&s->lock);
    gw_err err = pack_write(s, p->pack, p->at, bytes, why);
    pthread_mutex_lock(&s->lock);
    p->pack->dirty = true;
    if (!err) {
        pack_drop(s, p->pack);
        b->bytes += bytes.n;
        return GW_OK;
    }
    pack_unreserve(s, p->pack, p->at, p->len);
    s->sums.used_bytes -= p->counted;
    LIST_REMOVE(p, pin);
    b->count--;
    return err;
}

/* Place and write. Where the disk is full: once more after a collection. */
static gw_err put_new(struct chunk_batch *b, struct span bytes, const struct chunk_hash *hash,
                      struct gw_error *why)
{
    struct pinned *p;
    bool more = true;
    pthread_mutex_lock(&b->s->lock);
    gw_err err = place(b, (uint32_t)bytes.n, hash, &p, why);
    if (!err && p) {
        err = fill(b, p, bytes, why);
    }
    while (err == GW_EDISK_FULL && more && !b->moving) {
        if (collect_rows(b->s, &more, NULL) != GW_OK) {
            break;
        }
        collect_room(b->s);
        err = place(b, (uint32_t)bytes.n, hash, &p, why);
        if (!err && p) {
            err = fill(b, p, bytes, why);
        }
    }
    pthread_mutex_unlock(&b->s->lock);
    return err;
}

gw_err batch_put(struct chunk_batch *b, struct span bytes, const struct chunk_hash *hash,
                 size_t *ret_item, struct gw_error *why)
{
    if (bytes.n == 0 || bytes.n > CHUNK_MAX) {
        return gw_fail(why, GW_EARG, "a chunk has 1 to %u bytes, not %zu", CHUNK_MAX, bytes.n);
    }
    struct chunk_hash real = chunk_hash_of(bytes.p, bytes.n);
    if (hash && memcmp(real.b, hash->b, CHUNK_HASH_BYTES) != 0) {
        char text[CHUNK_HASH_TEXT];
        return gw_fail(why, GW_ECORRUPT, "the bytes are not those of the chunk %s",
                       chunk_hash_text(hash, text));
    }
    if (find_item(b, &real, ret_item)) {
        return GW_OK;
    }
    if (b->count == BATCH_ITEMS) {
        return gw_fail(why, GW_EBUSY, "the batch of chunks is full");
    }
    GW_TRY(put_new(b, bytes, &real, why));
    *ret_item = b->count - 1;
    return GW_OK;
}

gw_err chunk_batch_put(struct chunk_batch *b, struct span bytes, const struct chunk_hash *hash,
                       struct gw_error *why)
{
    size_t item;
    return batch_put(b, bytes, hash, &item, why);
}

gw_err batch_pin(struct chunk_batch *b, const struct chunk_hash *hash, size_t *ret_item,
                 struct gw_error *why)
{
    struct chunk_row row;
    char text[CHUNK_HASH_TEXT];
    if (find_item(b, hash, ret_item)) {
        return GW_OK;
    }
    if (b->count == BATCH_ITEMS) {
        return gw_fail(why, GW_EBUSY, "the batch of chunks is full");
    }
    pthread_mutex_lock(&b->s->lock);
    gw_err err = index_chunk_find(b->s, hash, &row);
    if (!err && row.bad) {
        err = GW_ENOT_FOUND;
    }
    if (!err) {
        add_item(b, hash, row.len);
        *ret_item = b->count - 1;
    }
    pthread_mutex_unlock(&b->s->lock);
    return err ? gw_fail(why, err, "the chunk %s is not here", chunk_hash_text(hash, text)) : GW_OK;
}

/* --- transactions --- */
gw_err commit_effect(struct chunk_store *s, struct effect e)
{
    if (s->effect_count == s->effect_cap) {
        size_t cap = s->effect_cap ? s->effect_cap * 2 : 64;
        struct effect *items = realloc(s->effects, cap * sizeof *items);
        if (!items) {
            return GW_ENOMEM;
        }
        s->effects = items;
        s->effect_cap = cap;
    }
    s->effects[s->effect_count++] = e;
    return GW_OK;
}

static void add_to(uint64_t *sum, int64_t by)
{
    gw_assert(by >= 0 || *sum >= (uint64_t)-by);
    *sum += (uint64_t)by;
}

static void take_effect(struct chunk_store *s)
{
    for (size_t i = 0; i < s->effect_count; i++) {
        const struct effect *e = &s->effects[i];
        add_to(&s->sums.used_bytes, e->used);
        add_to(&s->sums.chunks, e->chunks);
        add_to(&s->sums.artifacts, e->artifacts);
        add_to(&s->sums.uploads, e->uploads);
        add_to(&s->sums.artifact_bytes, e->artifact_bytes);
        if (e->pack) {
            add_to(&e->pack->live, e->live);
        }
    }
}

static gw_err leave(struct chunk_store *s, uint32_t pack, uint32_t len)
{
    struct pack *old = pack_find(s, pack);
    return old ? commit_effect(s, (struct effect){.pack = old, .live = -(int64_t)len}) : GW_OK;
}

/* The row of a chunk that the batch has written. */
static gw_err name_written(struct chunk_store *s, struct pinned *p, bool moving)
{
    struct chunk_row row;
    if (p->pack->failed) {
        return p->pack->failed;
    }
    gw_err err = index_chunk_find(s, &p->hash, &row);
    if (err && err != GW_ENOT_FOUND) {
        return err;
    }
    struct effect e = {.pack = p->pack, .live = p->len};
    if (err && !moving) {
        GW_TRY(index_chunk_add(s, p, store_wall_ms(s), &p->row));
        e.chunks = 1;
        return commit_effect(s, e);
    }
    p->row = err ? 0 : row.id;
    if (err || (moving ? row.pack != p->from : !row.bad)) {
        /* Somebody else was first: what was written is for nothing. */
        return commit_effect(s, (struct effect){.used = -(int64_t)p->counted});
    }
    GW_TRY(index_chunk_place(s, row.id, p->pack->id, p->at));
    GW_TRY(leave(s, row.pack, row.len));
    e.used = -(int64_t)p->counted;
    return commit_effect(s, e);
}

static gw_err name_items(struct chunk_store *s, struct chunk_batch *b, struct gw_error *why)
{
    for (size_t i = 0; i < b->count; i++) {
        struct pinned *p = &b->items[i];
        struct chunk_row row = {0};
        gw_err err =
            p->written ? name_written(s, p, b->moving) : index_chunk_find(s, &p->hash, &row);
        if (!err && !p->written) {
            p->row = row.id;
            err = row.bad ? GW_ECORRUPT : GW_OK; /* its reader came between */
        }
        if (err) {
            return gw_fail(why, err, "cannot store a chunk: %s", gw_err_text(err));
        }
    }
    return GW_OK;
}

static gw_err run_one(struct chunk_store *s, struct commit *c)
{
    gw_err err = c->batch ? name_items(s, c->batch, &c->why) : GW_OK;
    if (!err && c->apply) {
        err = c->apply(s, c->arg, &c->why);
    }
    return err;
}

STAILQ_HEAD(commits, commit);

/* All rows of the group; an error is one of all of them. */
static gw_err run_rows(struct chunk_store *s, struct commits *group)
{
    struct commit *c;
    GW_TRY(index_run(s, SQL_BEGIN));
    STAILQ_FOREACH (c, group, link) {
        size_t effects = s->effect_count;
        GW_TRY(index_run(s, SQL_SAVEPOINT));
        c->err = run_one(s, c);
        if (c->err == GW_EDISK_FULL || sqlite3_get_autocommit(s->db.handle)) {
            return c->err ? c->err : GW_EFAIL;
        }
        if (c->err) {
            s->effect_count = effects;
            GW_TRY(index_run(s, SQL_BACK));
        }
        GW_TRY(index_run(s, SQL_RELEASE));
    }
    return index_run(s, SQL_COMMIT);
}

/* Under the mutex. */
static void run_group(struct chunk_store *s, struct commits *group, gw_err err,
                      const struct gw_error *why)
{
    struct commit *c;
    s->effect_count = 0;
    if (!err) {
        (void)failpoint_place(PLACE_PACK_ROWS);
        err = run_rows(s, group);
        if (err && !sqlite3_get_autocommit(s->db.handle)) {
            sqlite3_exec(s->db.handle, "ROLLBACK", NULL, NULL, NULL);
        }
        (void)failpoint_place(PLACE_PACK_NAMED);
    }
    if (!err) {
        take_effect(s);
    }
    STAILQ_FOREACH (c, group, link) {
        if (err && !c->err) {
            c->err = err;
            c->why = *why;
        }
        if (c->err && c->why.code == GW_OK) {
            gw_fail(&c->why, c->err, "cannot write \"%s\": %s", s->db.path, gw_err_text(c->err));
        }
        if (c->batch) {
            forget(c->batch, c->err == GW_OK);
        }
    }
    if (s->db.log_pages >= INDEX_LOG_PAGES) {
        db_checkpoint(&s->db);
    }
}

/* Under the mutex, which is given up while packs are flushed. */
static void lead(struct chunk_store *s)
{
    struct commits group = STAILQ_HEAD_INITIALIZER(group);
    struct commit *c;
    struct gw_error why = {0};
    s->leading = true;
    while ((c = STAILQ_FIRST(&s->waiting))) {
        STAILQ_REMOVE_HEAD(&s->waiting, link);
        STAILQ_INSERT_TAIL(&group, c, link);
    }
    gw_err err = pack_flush(s, &why);
    run_group(s, &group, err, &why);
    /* Who is done may go, and its commit with it. */
    while ((c = STAILQ_FIRST(&group))) {
        STAILQ_REMOVE_HEAD(&group, link);
        c->done = true;
    }
    s->leading = false;
    pthread_cond_broadcast(&s->committed);
}

gw_err commit_run(struct chunk_store *s, struct chunk_batch *batch,
                  gw_err (*apply)(struct chunk_store *s, void *arg, struct gw_error *why),
                  void *arg, struct gw_error *why)
{
    struct commit c = {.batch = batch, .apply = apply, .arg = arg};
    pthread_mutex_lock(&s->lock);
    STAILQ_INSERT_TAIL(&s->waiting, &c, link);
    while (!c.done) {
        if (s->leading) {
            pthread_cond_wait(&s->committed, &s->lock);
        } else {
            lead(s);
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (c.err && why) {
        *why = c.why;
    }
    return c.err;
}

gw_err commit_now(struct chunk_store *s,
                  gw_err (*apply)(struct chunk_store *s, void *arg, struct gw_error *why),
                  void *arg, struct gw_error *why)
{
    struct commit c = {.apply = apply, .arg = arg};
    struct commits group = STAILQ_HEAD_INITIALIZER(group);
    struct gw_error none = {0};
    STAILQ_INSERT_TAIL(&group, &c, link);
    run_group(s, &group, GW_OK, &none);
    if (c.err && why) {
        *why = c.why;
    }
    return c.err;
}

gw_err chunk_batch_commit(struct chunk_batch *b, struct gw_error *why)
{
    return commit_run(b->s, b, NULL, NULL, why);
}
