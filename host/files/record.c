#include "host/files/record.h"

#include <stdlib.h>

#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/text.h"

#define READ_BYTES   (64u * 1024) /* asked for at once while records are small */
#define BESIDE_BYTES (16u * 1024) /* smaller data is copied to the records around it */
#define ALIVE_SHARE  6            /* of the silence that is allowed: then ALIVE is due */
#define FAREWELL_NS  (5 * 1000000000LL)
#define MS_NS        1000000LL

const char *record_kind_name(record_kind kind)
{
    static const char *const names[] = {
        [RECORD_OPEN] = "OPEN",       [RECORD_OPENED] = "OPENED", [RECORD_ENTRY] = "ENTRY",
        [RECORD_VERDICT] = "VERDICT", [RECORD_FAILED] = "FAILED", [RECORD_LIST] = "LIST",
        [RECORD_BASIS] = "BASIS",     [RECORD_START] = "START",   [RECORD_DATA] = "DATA",
        [RECORD_COPY] = "COPY",       [RECORD_HOLE] = "HOLE",     [RECORD_GIVE_UP] = "GIVE_UP",
        [RECORD_FLUSH] = "FLUSH",     [RECORD_FINISH] = "FINISH", [RECORD_FINISHED] = "FINISHED",
        [RECORD_ERROR] = "ERROR",     [RECORD_ALIVE] = "ALIVE",
    };
    size_t n = (size_t)kind;
    return n < sizeof names / sizeof names[0] && names[n] ? names[n] : "?";
}

gw_err record_init(struct record_io *r, struct bulk_io *io, bool takes_data,
                   struct progress *progress, struct gw_error *why)
{
    size_t most = takes_data ? LIMIT_RECORD_BYTES : LIMIT_RECORD_CONTROL_BYTES;
    *r = (struct record_io){.io = io, .progress = progress, .why = why};
    r->silence_ms = LIMIT_TRANSFER_SILENCE_MS;
    r->in_cap = RECORD_HEAD_BYTES + most + READ_BYTES;
    r->in = malloc(r->in_cap);
    if (!r->in) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    r->active_ns = r->wrote_ns = rate_now_ns();
    return GW_OK;
}

void record_deinit(struct record_io *r)
{
    free(r->in);
    buf_free(&r->out);
    *r = (struct record_io){0};
}

/* --- waiting --- */
static gw_err broken(struct record_io *r, gw_err err)
{
    struct gw_error text = {0};
    r->io->describe(r->io->ctx, &text);
    return gw_fail(r->why, err, "%s", text.text[0] ? text.text : gw_err_text(err));
}

static gw_err cancelled(struct record_io *r)
{
    return gw_fail(r->why, GW_ECANCELLED, "the transfer was cancelled");
}

static bool is_cancelled(const struct record_io *r)
{
    return r->progress && progress_cancelled(r->progress);
}

/* Until what is asked for may go on, or `until_ns` (0: until the silence lasted too long). GW_OK
 * also when that has come. */
static gw_err wait_for(struct record_io *r, bool to_read, bool to_write, int64_t until_ns)
{
    int64_t now = rate_now_ns();
    int64_t end = until_ns ? until_ns : r->active_ns + r->silence_ms * MS_NS;
    if (is_cancelled(r)) {
        return cancelled(r);
    }
    if (now < end) {
        /* In steps, because a cancelled transfer may have no other means to end a wait. */
        int64_t left_ms = (end - now + MS_NS - 1) / MS_NS;
        gw_err err = r->io->wait(r->io->ctx, to_read, to_write, left_ms < 250 ? (int)left_ms : 250);
        return err == GW_OK || err == GW_ETIMEOUT ? GW_OK
               : err == GW_ECANCELLED             ? cancelled(r)
                                                  : broken(r, err);
    }
    if (until_ns) {
        return GW_OK;
    }
    return gw_fail(r->why, GW_ETIMEOUT, "nothing came from the other end for %d s",
                   r->silence_ms / 1000);
}

/* --- reading --- */
/* Bytes of the record at in_at that are still missing; 0: whole. A limit, not the truth, while its
 * head is not whole. */
static gw_err missing(struct record_io *r, size_t *ret)
{
    size_t have = r->in_len - r->in_at;
    if (have < RECORD_HEAD_BYTES) {
        *ret = RECORD_HEAD_BYTES - have;
        return GW_OK;
    }
    const uint8_t *p = r->in + r->in_at;
    size_t n = load_u32(p);
    size_t most = p[4] == RECORD_DATA ? LIMIT_RECORD_BYTES : LIMIT_RECORD_CONTROL_BYTES;
    if (n < 1 || n > most || 4 + n > r->in_cap) {
        return gw_fail(r->why, GW_EPROTO, "a record of kind %u claims %zu bytes", p[4], n);
    }
    *ret = 4 + n > have ? 4 + n - have : 0;
    return GW_OK;
}

/* Read once. Of a large record no more than its end: then the next one begins at the front, and is
 * not moved there. */
static gw_err fill(struct record_io *r)
{
    size_t need;
    GW_TRY(missing(r, &need));
    if (r->in_at == r->in_len) {
        r->in_at = r->in_len = 0;
    }
    size_t want = need > READ_BYTES ? need : READ_BYTES;
    if (r->in_len + want > r->in_cap) {
        memmove(r->in, r->in + r->in_at, r->in_len - r->in_at);
        r->in_len -= r->in_at;
        r->in_at = 0;
    }
    size_t room = r->in_cap - r->in_len, n = 0;
    gw_err err = r->io->read(r->io->ctx, r->in + r->in_len, want < room ? want : room, &n);
    if (err == GW_OK) {
        r->in_len += n;
        r->active_ns = rate_now_ns();
        return GW_OK;
    }
    if (err == GW_ENOT_FOUND) {
        r->torn = true;
        return gw_fail(r->why, GW_EUNREACHABLE, "the other end closed the connection");
    }
    return err == GW_EAGAIN ? err : err == GW_ECANCELLED ? cancelled(r) : broken(r, err);
}

gw_err record_parse_failure(struct mp *m, struct gw_error *ret)
{
    uint32_t code = 0;
    struct span text, hint;
    if (mp_read_u32(m, &code) != GW_OK || mp_read_str(m, &text) != GW_OK ||
        mp_read_str(m, &hint) != GW_OK) {
        return GW_EPROTO;
    }
    gw_err err = gw_err_from_wire(code);
    err = err == GW_OK || err == GW_EAGAIN ? GW_EFAIL : err;
    (void)gw_fail(ret, err, "%.*s", (int)(text.n < 300 ? text.n : 300), (const char *)text.p);
    if (ret->text[0] == '\0') {
        (void)gw_fail(ret, err, "%s", gw_err_text(err));
    }
    gw_hint(ret, "%.*s", (int)(hint.n < 190 ? hint.n : 190), (const char *)hint.p);
    text_clean(ret->text);
    text_clean(ret->hint);
    return GW_OK;
}

/* What the peer says why it ends the session. */
static gw_err told_error(struct record_io *r, struct record *rec)
{
    struct gw_error told = {0};
    if (rec->count < 3 || record_parse_failure(&rec->fields, &told) != GW_OK) {
        return gw_fail(r->why, GW_EPROTO, "an ERROR record does not parse");
    }
    r->torn = true; /* it listens no more */
    if (r->why) {
        *r->why = told;
    }
    return told.code;
}

gw_err record_take(struct record_io *r, struct record *ret)
{
    for (;;) {
        size_t need;
        GW_TRY(missing(r, &need));
        if (need > 0) {
            return GW_EAGAIN;
        }
        const uint8_t *p = r->in + r->in_at;
        struct record rec = {.kind = (record_kind)p[4],
                             .body = {p + RECORD_HEAD_BYTES, load_u32(p) - 1}};
        r->in_at += RECORD_HEAD_BYTES + rec.body.n;
        if (rec.kind == RECORD_DATA) {
            *ret = rec;
            return GW_OK;
        }
        rec.fields = mp_over(rec.body);
        if (mp_read_array(&rec.fields, &rec.count) != GW_OK) {
            return gw_fail(r->why, GW_EPROTO, "a record of kind %u is no array", p[4]);
        }
        if (rec.kind == RECORD_ERROR) {
            return told_error(r, &rec);
        }
        if (rec.kind != RECORD_ALIVE) {
            *ret = rec;
            return GW_OK;
        }
    }
}

gw_err record_next(struct record_io *r, struct record *ret)
{
    bool asked = false;
    for (;;) {
        gw_err err = record_take(r, ret);
        if (err != GW_EAGAIN) {
            return err;
        }
        if (!asked) { /* what is there first: answers go out together */
            err = fill(r);
            if (err == GW_OK) {
                continue;
            }
            if (err != GW_EAGAIN) {
                return err;
            }
            asked = true;
            GW_TRY(record_flush(r));
            r->active_ns = rate_now_ns(); /* the time before was ours */
        }
        err = fill(r);
        if (err == GW_EAGAIN) {
            err = wait_for(r, true, false, 0);
        }
        GW_TRY(err);
    }
}

gw_err record_poll(struct record_io *r)
{
    gw_err err;
    do {
        err = fill(r);
        if (err == GW_OK && r->on_input) {
            err = r->on_input(r->arg);
        }
    } while (err == GW_OK);
    return err == GW_EAGAIN ? GW_OK : err;
}

gw_err record_parse_data(const struct record *rec, struct record_data *ret)
{
    if (rec->body.n < RECORD_DATA_HEAD) {
        return GW_EPROTO;
    }
    const uint8_t *p = rec->body.p;
    if (p[0] & ~(RECORD_ZSTD | RECORD_LAST)) {
        return GW_EPROTO;
    }
    *ret =
        (struct record_data){p[0], p + 1, {p + RECORD_DATA_HEAD, rec->body.n - RECORD_DATA_HEAD}};
    return GW_OK;
}

/* --- writing --- */
/* One write, waited for. What comes meanwhile is taken, where somebody takes it. */
static gw_err write_some(struct record_io *r, const uint8_t *p, size_t n, size_t *ret_n)
{
    int64_t waited = 0;
    r->active_ns = rate_now_ns(); /* the time before was ours */
    for (;;) {
        gw_err err = r->io->write(r->io->ctx, p, n, ret_n);
        int64_t now = rate_now_ns();
        if (err == GW_OK) {
            r->active_ns = r->wrote_ns = now;
            rate_take(&r->limit, *ret_n);
            meter_add(&r->meter, *ret_n, waited, now);
            return GW_OK;
        }
        if (err != GW_EAGAIN) {
            return err == GW_ECANCELLED ? cancelled(r) : broken(r, err);
        }
        GW_TRY(wait_for(r, r->on_input != NULL, true, 0));
        waited += rate_now_ns() - now;
        if (r->on_input) {
            GW_TRY(record_poll(r));
        }
    }
}

static gw_err write_part(struct record_io *r, const uint8_t *p, size_t n, size_t *ret_n)
{
    if (is_cancelled(r)) {
        return cancelled(r);
    }
    int wait_ms = 0;
    int64_t now = rate_now_ns();
    size_t part = rate_allow(&r->limit, n, now, &wait_ms);
    if (part > 0) {
        return write_some(r, p, part, ret_n);
    }
    GW_TRY(wait_for(r, r->on_input != NULL, false, now + wait_ms * MS_NS));
    *ret_n = 0;
    return r->on_input ? record_poll(r) : GW_OK;
}

static gw_err write_all(struct record_io *r, const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t taken = 0;
        gw_err err = write_part(r, p, n, &taken);
        if (err != GW_OK) {
            r->torn = true;
            return err;
        }
        p += taken;
        n -= taken;
    }
    return GW_OK;
}

gw_err record_flush(struct record_io *r)
{
    if (!buf_ok(&r->out)) {
        return gw_fail(r->why, GW_ENOMEM, "out of memory");
    }
    size_t n = r->out.len;
    GW_TRY(write_all(r, r->out.data, n));
    gw_assert(r->out.len == n); /* on_input writes nothing */
    buf_reset(&r->out);
    return GW_OK;
}

struct buf *record_begin(struct record_io *r, record_kind kind, size_t fields)
{
    r->begun = r->out.len;
    uint8_t head[RECORD_HEAD_BYTES] = {[4] = (uint8_t)kind};
    buf_add(&r->out, head, sizeof head);
    mp_array(&r->out, fields);
    return &r->out;
}

gw_err record_end(struct record_io *r)
{
    if (!buf_ok(&r->out)) {
        return gw_fail(r->why, GW_ENOMEM, "out of memory");
    }
    size_t n = r->out.len - r->begun - 4;
    gw_assert(n >= 1 && n <= LIMIT_RECORD_CONTROL_BYTES);
    buf_put_u32(&r->out, r->begun, (uint32_t)n);
    return r->out.len >= RECORD_OUT_BYTES ? record_flush(r) : GW_OK;
}

gw_err record_data(struct record_io *r, uint8_t flags, const uint8_t digest[RECORD_DIGEST_BYTES],
                   const void *bytes, size_t n)
{
    gw_assert(n <= RECORD_DATA_BYTES);
    uint8_t head[RECORD_HEAD_BYTES + 1] = {[4] = RECORD_DATA, [5] = flags};
    store_u32(head, (uint32_t)(1 + RECORD_DATA_HEAD + n));
    buf_add(&r->out, head, sizeof head);
    buf_add(&r->out, digest, RECORD_DIGEST_BYTES);
    if (n <= BESIDE_BYTES) {
        buf_add(&r->out, bytes, n);
        if (!buf_ok(&r->out)) {
            return gw_fail(r->why, GW_ENOMEM, "out of memory");
        }
        return r->out.len >= RECORD_OUT_BYTES ? record_flush(r) : GW_OK;
    }
    GW_TRY(record_flush(r));
    return write_all(r, bytes, n);
}

gw_err record_alive(struct record_io *r)
{
    if (is_cancelled(r)) {
        return cancelled(r);
    }
    if (rate_now_ns() - r->wrote_ns < r->silence_ms * MS_NS / ALIVE_SHARE) {
        return GW_OK;
    }
    (void)record_begin(r, RECORD_ALIVE, 0);
    GW_TRY(record_end(r));
    GW_TRY(record_flush(r));
    /* What the stream gathers leaves when it waits, and who computes for long does not. */
    gw_err err = r->io->wait(r->io->ctx, false, false, 0);
    return err == GW_OK || err == GW_ETIMEOUT ? GW_OK
           : err == GW_ECANCELLED             ? cancelled(r)
                                              : broken(r, err);
}

gw_err record_alive_over(struct bulk_io *io, int64_t *at, struct gw_error *why)
{
    struct record_io r = {
        .io = io, .why = why, .silence_ms = LIMIT_TRANSFER_SILENCE_MS, .wrote_ns = *at};
    gw_err err = record_alive(&r);
    *at = r.wrote_ns;
    buf_free(&r.out);
    return err;
}

void record_farewell(struct record_io *r, gw_err code, const struct gw_error *why)
{
    if (r->torn) {
        return;
    }
    /* Without flag and limit: the words go out also when the transfer was called off. */
    struct record_io last = {.io = r->io, .in = r->in, .out = buf_take(&r->out)};
    last.silence_ms = FAREWELL_NS / MS_NS;
    last.active_ns = rate_now_ns();
    struct buf *b = record_begin(&last, RECORD_ERROR, 3);
    mp_uint(b, code);
    mp_str(b, why && why->text[0] ? why->text : gw_err_text(code));
    mp_str(b, why ? why->hint : "");
    int64_t until = rate_now_ns() + FAREWELL_NS;
    gw_err err = record_end(&last);
    if (err == GW_OK) {
        err = record_flush(&last);
    }
    while (err == GW_OK && rate_now_ns() < until) {
        size_t n;
        err = last.io->read(last.io->ctx, last.in, r->in_cap, &n);
        if (err == GW_EAGAIN) {
            err = wait_for(&last, true, false, until);
        }
    }
    buf_free(&last.out);
}
