#include "host/files/send_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <zstd.h>

#include "persistence/chunker.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

#define CHUNK_PIECE (256u * 1024) /* read at once while chunks are cut */
#define CHUNK_ROOM  (CHUNK_MAX + CHUNK_PIECE)
/* A slower connection gains by zstd, which takes 400 MB/s in and leaves a core for little else. */
#define SLOW_BYTES_PER_S (100u * 1000 * 1000)
#define SAMPLE_BYTES     (32u * 1024)
#define BACKOFF_MOST     64u

/* One file on its way. */
struct pass {
    struct content *c;
    struct content_of *f;
    uint64_t at;   /* bytes that were read */
    uint64_t size; /* of the file, as announced */
    struct {       /* not yet written: the next may continue it */
        unsigned basis;
        uint64_t offset, len;
    } copy;
    uint8_t hash[DIGEST_BYTES];
    bool ended; /* the last record is written */
};

gw_err content_init(struct content *c, struct gw_error *why)
{
    c->backoff = 1;
    if (digest_init(&c->file) != GW_OK || digest_init(&c->chunk) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return GW_OK;
}

void content_deinit(struct content *c)
{
    free(c->work);
    free(c->packed);
    ZSTD_freeCCtx(c->zstd);
    digest_deinit(&c->file);
    digest_deinit(&c->chunk);
    *c = (struct content){0};
}

static gw_err need_room(struct content *c, size_t room, struct gw_error *why)
{
    if (c->room >= room) {
        return GW_OK;
    }
    free(c->work);
    c->work = malloc(room);
    c->room = c->work ? room : 0;
    return c->work ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
}

/* --- the file --- */
static gw_err bad(struct pass *p, gw_err code, struct gw_error *why, const char *text)
{
    p->f->bad = true;
    return gw_fail(why, code, "%s", text);
}

/* Exactly n bytes at p->at; fewer: it shrank. */
static gw_err read_all(struct pass *p, uint8_t *to, size_t n, struct gw_error *why)
{
    for (size_t have = 0; have < n;) {
        ssize_t got = pread(p->f->fd, to + have, n - have, (off_t)(p->at + have));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return bad(p, GW_EIO, why, strerror(errno));
        }
        if (got == 0) {
            return bad(p, GW_ECONFLICT, why, "the file became shorter while it was read");
        }
        have += (size_t)got;
    }
    p->at += n;
    return GW_OK;
}

static gw_err check_unchanged(struct pass *p, struct gw_error *why)
{
    gw_err err = source_unchanged(p->f->entry, p->f->fd, why);
    p->f->bad |= err != GW_OK;
    return err;
}

/* From p->at: where the next data begins and ends. */
static void find_data(const struct pass *p, uint64_t *ret_from, uint64_t *ret_to)
{
    *ret_from = p->at;
    *ret_to = p->size;
    if (!p->f->entry->sparse ||
        p->f->basis) { /* chunks are cut through holes: as the receiver does */
        return;
    }
    off_t data = lseek(p->f->fd, (off_t)p->at, SEEK_DATA);
    if (data < 0) {
        *ret_from = errno == ENXIO ? p->size : p->at; /* elsewhere holes read as zeros */
        return;
    }
    off_t hole = lseek(p->f->fd, data, SEEK_HOLE);
    *ret_from = (uint64_t)data < p->size ? (uint64_t)data : p->size;
    *ret_to = hole >= 0 && (uint64_t)hole < p->size ? (uint64_t)hole : p->size;
}

/* --- records --- */
static gw_err passed(struct pass *p, uint64_t bytes, uint64_t sent)
{
    struct content *c = p->c;
    c->sent += sent;
    c->saved += bytes - sent;
    atomic_fetch_add(&c->progress->bytes, bytes);
    atomic_fetch_add(&c->progress->sent_bytes, sent);
    atomic_fetch_add(&c->progress->saved_bytes, bytes - sent);
    return c->on_pass(c->arg);
}

static bool is_slow(const struct content *c)
{
    const struct record_io *r = c->records;
    return (r->meter.per_s > 0 && r->meter.per_s < SLOW_BYTES_PER_S) ||
           (r->limit.per_s > 0 && r->limit.per_s < SLOW_BYTES_PER_S);
}

static bool zstd_ready(struct content *c)
{
    c->zstd = c->zstd ? c->zstd : ZSTD_createCCtx();
    c->packed = c->packed ? c->packed : malloc(ZSTD_COMPRESSBOUND(RECORD_DATA_BYTES));
    return c->zstd && c->packed;
}

/* Bytes of the compressed form in c->packed; 0: it does not pay, and what comes next is likely to
 * be alike. */
static size_t compress(struct content *c, const uint8_t *p, size_t n)
{
    if (c->compress == COMPRESS_NEVER || (c->compress == COMPRESS_AUTO && !is_slow(c)) || n < 256) {
        return 0;
    }
    if (c->skip > 0) {
        c->skip--;
        return 0;
    }
    size_t room = ZSTD_COMPRESSBOUND(RECORD_DATA_BYTES);
    size_t sample = n < SAMPLE_BYTES ? n : SAMPLE_BYTES, packed = n;
    if (zstd_ready(c)) {
        packed = ZSTD_compressCCtx(c->zstd, c->packed, room, p + (n - sample) / 2, sample, 1);
        bool pays = !ZSTD_isError(packed) && packed < sample - sample / 8;
        if (pays && sample < n) {
            packed = ZSTD_compressCCtx(c->zstd, c->packed, room, p, n, 1);
            pays = !ZSTD_isError(packed) && packed < n - n / 8;
        }
        if (pays) {
            c->backoff = 1;
            return packed;
        }
    }
    c->skip = c->backoff;
    c->backoff = c->backoff * 2 < BACKOFF_MOST ? c->backoff * 2 : BACKOFF_MOST;
    return 0;
}

/* At most RECORD_DATA_BYTES. */
static gw_err put_data(struct pass *p, const uint8_t *bytes, size_t n, bool last,
                       struct gw_error *why)
{
    struct content *c = p->c;
    digest_add(&c->file, bytes, n);
    if ((last ? digest_end(&c->file, p->hash) : digest_now(&c->file, p->hash)) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    p->ended = last;
    size_t sent = n;
    if (!c->dry_run) {
        size_t packed = compress(c, bytes, n);
        sent = packed > 0 ? packed : n;
        uint8_t flags = (uint8_t)((packed > 0 ? RECORD_ZSTD : 0) | (last ? RECORD_LAST : 0));
        GW_TRY(record_data(c->records, flags, p->hash, packed > 0 ? c->packed : bytes, sent));
    }
    return passed(p, n, sent);
}

static gw_err flush_copy(struct pass *p)
{
    if (p->copy.len == 0) {
        return GW_OK;
    }
    uint64_t len = p->copy.len;
    if (!p->c->dry_run) {
        struct buf *b = record_begin(p->c->records, RECORD_COPY, 3);
        mp_uint(b, p->copy.basis);
        mp_uint(b, p->copy.offset);
        mp_uint(b, len);
        GW_TRY(record_end(p->c->records));
    }
    p->copy.len = 0;
    return passed(p, len, 0);
}

/* The place by value: while a record is written more chunks may come, and the index moves. */
static gw_err put_copy(struct pass *p, struct delta_place place, const uint8_t *bytes)
{
    digest_add(&p->c->file, bytes, place.len);
    if (p->copy.len > 0 && p->copy.basis == place.basis &&
        p->copy.offset + p->copy.len == place.offset &&
        p->copy.len + place.len <= LIMIT_COPY_BYTES) {
        p->copy.len += place.len;
        return p->c->on_pass(p->c->arg);
    }
    GW_TRY(flush_copy(p));
    p->copy.basis = place.basis;
    p->copy.offset = place.offset;
    p->copy.len = place.len;
    return p->c->on_pass(p->c->arg);
}

static gw_err put_hole(struct pass *p, uint64_t len)
{
    GW_TRY(flush_copy(p));
    while (len > 0) {
        uint64_t part = len < LIMIT_COPY_BYTES ? len : LIMIT_COPY_BYTES;
        digest_add_zeros(&p->c->file, part);
        if (!p->c->dry_run) {
            struct buf *b = record_begin(p->c->records, RECORD_HOLE, 1);
            mp_uint(b, part);
            GW_TRY(record_end(p->c->records));
        }
        len -= part;
        GW_TRY(passed(p, part, 0));
    }
    return GW_OK;
}

/* --- content as it is --- */
static gw_err send_plain(struct pass *p, uint64_t to, struct gw_error *why)
{
    while (p->at < to) {
        size_t n = to - p->at < RECORD_DATA_BYTES ? (size_t)(to - p->at) : RECORD_DATA_BYTES;
        GW_TRY(read_all(p, p->c->work, n, why));
        bool last = p->at == p->size;
        if (last) {
            GW_TRY(check_unchanged(p, why));
        }
        GW_TRY(put_data(p, p->c->work, n, last, why));
    }
    return GW_OK;
}

/* --- content as chunks --- */
static gw_err find_chunk(struct pass *p, const uint8_t *hash, size_t len,
                         const struct delta_place **ret)
{
    struct content_of *f = p->f;
    for (;;) {
        *ret = delta_index_find(f->basis, hash, (uint32_t)len);
        if (*ret || f->whole) {
            return GW_OK;
        }
        GW_TRY(f->more(f->arg, &f->whole));
    }
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

static gw_err put_chunk(struct pass *p, const uint8_t *bytes, size_t n, struct gw_error *why)
{
    uint8_t hash[DIGEST_BYTES];
    if (digest_end(&p->c->chunk, hash) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    const struct delta_place *place;
    GW_TRY(find_chunk(p, hash, n, &place));
    if (place) {
        return put_copy(p, *place, bytes);
    }
    if (is_zero(bytes, n)) {
        return put_hole(p, n);
    }
    GW_TRY(flush_copy(p));
    while (n > 0) {
        size_t part = n < RECORD_DATA_BYTES ? n : RECORD_DATA_BYTES;
        GW_TRY(put_data(p, bytes, part, false, why));
        bytes += part;
        n -= part;
    }
    return GW_OK;
}

/* The work buffer holds `have` bytes from the start of the present chunk on, of which `seen` went
 * through the chunker. */
static gw_err send_chunks(struct pass *p, uint64_t to, struct gw_error *why)
{
    uint8_t *work = p->c->work;
    size_t have = 0, seen = 0;
    struct chunker cut;
    chunker_init(&cut);
    while (p->at < to || have > 0) {
        if (seen == have && p->at < to) {
            size_t n = to - p->at < CHUNK_PIECE ? (size_t)(to - p->at) : CHUNK_PIECE;
            GW_TRY(read_all(p, work + have, n, why));
            have += n;
        }
        bool ends = false;
        size_t n = chunker_feed(&cut, work + seen, have - seen, &ends);
        digest_add(&p->c->chunk, work + seen, n);
        seen += n;
        if (ends || (seen == have && p->at == to)) {
            GW_TRY(put_chunk(p, work, seen, why));
            memmove(work, work + seen, have - seen);
            have -= seen;
            seen = 0;
        }
    }
    return GW_OK;
}

gw_err content_send(struct content *c, struct content_of *f, uint8_t ret_hash[DIGEST_BYTES],
                    struct gw_error *why)
{
    struct pass p = {.c = c, .f = f, .size = f->entry->size};
    f->bad = false;
    GW_TRY(need_room(c, f->basis ? CHUNK_ROOM : RECORD_DATA_BYTES, why));
    digest_restart(&c->file);
    digest_restart(&c->chunk);
    if (p.size > RECORD_DATA_BYTES) {
        (void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    while (p.at < p.size) {
        uint64_t from, to;
        find_data(&p, &from, &to);
        GW_TRY(put_hole(&p, from - p.at));
        p.at = from;
        GW_TRY(f->basis ? send_chunks(&p, to, why) : send_plain(&p, to, why));
    }
    if (!p.ended) { /* by no DATA: an empty one does */
        GW_TRY(flush_copy(&p));
        GW_TRY(check_unchanged(&p, why));
        GW_TRY(put_data(&p, c->work, 0, true, why));
    }
    memcpy(ret_hash, p.hash, DIGEST_BYTES);
    return GW_OK;
}
