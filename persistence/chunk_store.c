#include "persistence/chunk_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "persistence/chunk_inner.h"
#include "persistence/folder.h"
#include "persistence/lock.h"
#include "persistence/schema.h"
#include "protocol/base/log.h"

#define CLOCK_SET_MS                                                                               \
    1000 /* the wall clock was set when it differs by this from what has passed                    \
          */

/* --- hashes --- */
char *chunk_hash_text(const struct chunk_hash *h, char ret[CHUNK_HASH_TEXT])
{
    for (size_t i = 0; i < CHUNK_HASH_BYTES; i++) {
        snprintf(ret + 2 * i, 3, "%02x", h->b[i]);
    }
    return ret;
}

static int digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    return c != '\0' && at ? (int)(at - digits) : -1;
}

gw_err chunk_hash_parse(const char *text, struct chunk_hash *ret)
{
    struct chunk_hash h;
    for (size_t i = 0; i < CHUNK_HASH_BYTES; i++) {
        int high = digit(text[2 * i]);
        int low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0) {
            return GW_EARG;
        }
        h.b[i] = (uint8_t)(high << 4 | low);
    }
    if (text[2 * CHUNK_HASH_BYTES] != '\0') {
        return GW_EARG;
    }
    *ret = h;
    return GW_OK;
}

struct chunk_hash chunk_hash_of(const void *data, size_t n)
{
    struct chunk_hash h;
    sha_run_of(data, n, h.b);
    return h;
}

/* --- clocks --- */
static int64_t ms_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t system_wall_ms(void)
{
    return ms_of(CLOCK_REALTIME);
}

static int64_t system_mono_ms(void)
{
    return ms_of(CLOCK_MONOTONIC);
}

int64_t store_wall_ms(const struct chunk_store *s)
{
    return s->options.wall_ms();
}

bool store_is_calm(struct chunk_store *s)
{
    int64_t mono = s->options.mono_ms();
    int64_t apart = s->options.wall_ms() - mono;
    if (llabs(apart - s->clock_apart) >= CLOCK_SET_MS) {
        s->calm_since = mono;
    }
    s->clock_apart = apart; /* one that is slewed stays calm */
    return mono - s->calm_since >= LIMIT_ENDED_CALM_MS;
}

/* --- opening and closing --- */
static gw_err check_new(const struct chunk_store *s, struct gw_error *why)
{
    if (LIST_EMPTY(&s->packs)) {
        return GW_OK;
    }
    return gw_fail(why, GW_ECORRUPT, "\"%s\" is empty, but \"%s/packs\" holds chunks", s->db.path,
                   s->dir);
}

/* Room for the log, whatever else fills the disk: what is removed has to be written, too. Where the
 * file system cannot set it aside, a full disk may have to be relieved by other hands. */
static void set_log_aside(struct chunk_store *s)
{
    char path[PATH_MAX];
    int fd = -1;
    if ((size_t)snprintf(path, sizeof path, "%s-wal", s->db.path) < sizeof path) {
        fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, INDEX_LOG_BYTES) != 0) {
        log_debug("artifacts.log", "file=\"%s\" no room is set aside: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
}

static gw_err open_db(struct chunk_store *s, bool *ret_ours, struct gw_error *why)
{
    char path[PATH_MAX];
    int version = 0;
    GW_TRY(folder_join(path, s->dir, "artifacts.lock", why));
    GW_TRY(lock_take(path, &s->lock_fd, why));
    GW_TRY(folder_join(path, s->dir, "artifacts.db", why));
    GW_TRY(db_open(&s->db, path, why));
    GW_TRY(schema_check(&s->db, &chunk_schema, &version, why));
    GW_TRY(pack_open_all(s, why));
    if (version == 0) {
        GW_TRY(check_new(s, why));
    }
    *ret_ours = true;
    GW_TRY(db_tune(&s->db, why));
    GW_TRY(schema_upgrade(&s->db, &chunk_schema, version, why));
    if (version > 0) { /* the first write of a start makes the log */
        snprintf(path, sizeof path, "PRAGMA user_version=%d", chunk_schema.step_count);
        GW_TRY(db_run(&s->db, path, why));
    }
    set_log_aside(s);
    GW_TRY(folder_sync(s->dir, why));
    gw_err err = index_prepare(s);
    if (!err) {
        err = index_sums(s, pack_known, &s->sums);
    }
    if (err) {
        return gw_fail(why, err, "cannot use \"%s\": %s", s->db.path, gw_err_text(err));
    }
    pack_trim_all(s);
    return GW_OK;
}

static void close_all(struct chunk_store *s, bool untouched)
{
    index_finalize(s);
    db_close(&s->db, untouched);
    pack_close_all(s);
    if (s->lock_fd >= 0) {
        lock_release(s->lock_fd);
    }
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->committed);
    free(s->effects);
    free(s->dir);
    free(s);
}

static struct chunk_store *make(const struct chunk_options *options, char *dir)
{
    struct chunk_store *s = calloc(1, sizeof *s);
    if (!s) {
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->committed, NULL);
    STAILQ_INIT(&s->waiting);
    s->options = *options;
    s->options.wall_ms = options->wall_ms ? options->wall_ms : system_wall_ms;
    s->options.mono_ms = options->mono_ms ? options->mono_ms : system_mono_ms;
    s->calm_since = s->options.mono_ms();
    s->clock_apart = s->options.wall_ms() - s->calm_since;
    s->dir = dir;
    s->lock_fd = s->packs_fd = -1;
    s->next_pack = 1;
    return s;
}

gw_err chunk_store_open(const char *dir, const struct chunk_options *options,
                        struct chunk_store **ret, struct gw_error *why)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        gw_err code = errno_is_full(errno) ? GW_EDISK_FULL : GW_EIO;
        gw_fail(why, code, "cannot make the folder \"%s\": %s", dir, strerror(errno));
        gw_hint(why, "see that this user can write there");
        return code;
    }
    char *real = realpath(dir, NULL);
    if (!real) {
        gw_fail(why, GW_EIO, "cannot open the folder \"%s\": %s", dir, strerror(errno));
        gw_hint(why, "see that this user can reach it");
        return GW_EIO;
    }
    struct chunk_store *s = make(options, real);
    if (!s) {
        free(real);
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    bool ours = false;
    gw_err err = open_db(s, &ours, why);
    if (err) {
        if (err == GW_ECORRUPT) {
            gw_hint(why,
                    "restore the folder \"%.100s\" from a backup, or move it away to start "
                    "without artifacts",
                    s->dir);
        }
        close_all(s, !ours);
        return err;
    }
    *ret = s;
    return GW_OK;
}

void chunk_store_close(struct chunk_store *s)
{
    if (s) {
        gw_assert(LIST_EMPTY(&s->uses) && STAILQ_EMPTY(&s->waiting));
        close_all(s, false);
    }
}

void chunk_store_stats(struct chunk_store *s, struct chunk_stats *ret)
{
    const struct pack *p;
    pthread_mutex_lock(&s->lock);
    *ret = s->sums;
    ret->quota_bytes = s->options.quota;
    LIST_FOREACH (p, &s->packs, link) {
        ret->packs++;
        ret->pack_bytes += p->end;
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- chunks --- */
uint64_t chunk_counted(uint32_t len)
{
    return len > LIMIT_CHUNK_COUNTED_BYTES ? len : LIMIT_CHUNK_COUNTED_BYTES;
}

gw_err chunk_store_missing(struct chunk_store *s, const struct chunk_ref *chunks, size_t n,
                           bool *ret_missing, struct gw_error *why)
{
    for (size_t i = 0; i < n; i++) {
        struct chunk_row row = {0};
        pthread_mutex_lock(&s->lock);
        gw_err err = index_chunk_find(s, &chunks[i].hash, &row);
        pthread_mutex_unlock(&s->lock);
        if (err && err != GW_ENOT_FOUND) {
            return gw_fail(why, err, "cannot look for chunks: %s", gw_err_text(err));
        }
        ret_missing[i] = err == GW_ENOT_FOUND || row.bad;
    }
    return GW_OK;
}

gw_err chunk_store_put(struct chunk_store *s, struct span bytes, const struct chunk_hash *hash,
                       struct gw_error *why)
{
    struct chunk_batch *b;
    gw_err err = chunk_batch_new(s, &b);
    if (err) {
        return gw_fail(why, err, "out of memory");
    }
    err = chunk_batch_put(b, bytes, hash, why);
    if (!err) {
        err = chunk_batch_commit(b, why);
    }
    chunk_batch_free(b);
    return err;
}

bool chunk_is_damage(gw_err err)
{
    return err == GW_ECORRUPT || err == GW_EIO;
}

gw_err store_read_row(struct chunk_store *s, const struct chunk_row *row, struct buf *ret,
                      struct gw_error *why)
{
    struct pack *p;
    pthread_mutex_lock(&s->lock);
    gw_err err = pack_hold(s, row->pack, &p, why);
    pthread_mutex_unlock(&s->lock);
    if (err) {
        return err;
    }
    err = pack_read(s, p, row, ret, why);
    pthread_mutex_lock(&s->lock);
    pack_drop(s, p);
    pthread_mutex_unlock(&s->lock);
    return err;
}

struct mark {
    const struct chunk_row *row;
    bool bad;
};

static gw_err apply_mark(struct chunk_store *s, void *arg, struct gw_error *why)
{
    const struct mark *m = arg;
    (void)why;
    return index_chunk_bad(s, m->row->id, m->bad, false);
}

bool store_mark(struct chunk_store *s, const struct chunk_row *row, bool bad)
{
    char text[CHUNK_HASH_TEXT];
    struct chunk_row now;
    struct mark mark = {row, bad};
    pthread_mutex_lock(&s->lock);
    gw_err err = index_chunk_find(s, &row->hash, &now);
    bool same = !err && now.id == row->id && now.pack == row->pack && now.at == row->at;
    if (same && now.bad != bad) {
        err = commit_now(s, apply_mark, &mark, NULL);
        if (err) {
            log_warn("artifacts.unmarked", "chunk=%s damaged=%d cannot be marked: %s",
                     chunk_hash_text(&row->hash, text), bad, gw_err_text(err));
        }
    }
    pthread_mutex_unlock(&s->lock);
    return same || (err && err != GW_ENOT_FOUND);
}

gw_err chunk_store_get(struct chunk_store *s, const struct chunk_hash *hash, struct buf *ret,
                       struct gw_error *why)
{
    char text[CHUNK_HASH_TEXT];
    struct chunk_row row;
    chunk_hash_text(hash, text);
    for (;;) {
        pthread_mutex_lock(&s->lock);
        gw_err err = index_chunk_find(s, hash, &row);
        pthread_mutex_unlock(&s->lock);
        if (err) {
            return gw_fail(why, err, "the chunk %s is not here", text);
        }
        if (row.bad) {
            gw_fail(why, GW_ECORRUPT, "the chunk %s is damaged", text);
            gw_hint(why, "`godwit artifacts verify` says which artifacts need it");
            return GW_ECORRUPT;
        }
        err = store_read_row(s, &row, ret, why);
        if (!chunk_is_damage(err)) {
            return err;
        }
        if (store_mark(s, &row, true)) {
            log_error("artifacts.chunk_damaged", "chunk=%s %s", text,
                      why ? why->text : gw_err_text(err));
            gw_prefix(why, "the chunk %s is damaged", text);
            gw_hint(why, "`godwit artifacts verify` says which artifacts need it");
            return err;
        }
    }
}
