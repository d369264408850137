#include "clients/lib/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "clients/lib/upgrade.h"
#include "protocol/frame.h"
#include "protocol/value.h"

#define READ_BYTES     (64u * 1024)
#define RETRY_FIRST_MS 20 /* doubled up to RETRY_MOST_MS: a host restarts within 60 ms */
#define RETRY_MOST_MS  400

void session_init(struct session *s)
{
    memset(s, 0, sizeof *s);
    s->conn = (struct conn)CONN_CLOSED;
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->conn.wake_fd = s->wake_fd;
    calls_init(&s->calls);
}

void session_deinit(struct session *s)
{
    conn_close(&s->conn);
    tls_free(s->tls);
    buf_free(&s->in);
    buf_free(&s->out);
    calls_free(&s->calls);
    free(s->traceparent);
    free(s->tracestate);
    if (s->wake_fd >= 0) {
        close(s->wake_fd);
    }
    explicit_bzero(s->token, sizeof s->token);
}

/* ---- interruption ---- */

void session_interrupt(struct session *s)
{
    uint64_t one = 1;
    int saved = errno;
    atomic_store(&s->interrupted, true);
    ssize_t n = write(s->wake_fd, &one, sizeof one);
    (void)n; /* full means that it is readable already */
    errno = saved;
}

bool session_interrupted(struct session *s)
{
    if (!atomic_load_explicit(&s->interrupted, memory_order_relaxed)) {
        return false;
    }
    uint64_t count;
    atomic_store(&s->interrupted, false);
    ssize_t n = read(s->wake_fd, &count, sizeof count);
    (void)n;
    return true;
}

/* ---- request keys ---- */

/* Operations that the host applies once under one key. */
static bool op_takes_key(const char *op)
{
    return strcmp(op, "send") == 0 || strcmp(op, "create") == 0 || strcmp(op, "clone") == 0 ||
           strcmp(op, "dispatch") == 0 || strcmp(op, "retract") == 0 || strcmp(op, "publish") == 0;
}

/* Operations that read, or set a state whatever it was: a second time does no harm. */
static bool op_is_idempotent(const char *op)
{
    static const char *const names[] = {
        "health",     "status",   "hosts",  "types",  "agents",         "show",          "moves",
        "deactivate", "activate", "tokens", "topics", "artifacts.list", "artifacts.info"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(op, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static gw_err make_key(struct session *s, char *ret, struct gw_error *why)
{
    if (s->random_left < (GW_KEY_TEXT - 1) / 2) {
        if (getrandom(s->random, sizeof s->random, 0) != (ssize_t)sizeof s->random) {
            return gw_fail(why, GW_EIO, "no random bytes: %s", strerror(errno));
        }
        s->random_left = sizeof s->random;
    }
    for (size_t i = 0; i < (GW_KEY_TEXT - 1) / 2; i++) {
        uint8_t byte = s->random[--s->random_left];
        ret[2 * i] = "0123456789abcdef"[byte >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[byte & 15];
    }
    ret[GW_KEY_TEXT - 1] = '\0';
    return GW_OK;
}

/* ---- calls ---- */

/* The arguments, with the generated key after them: without a copy of the tree. */
static void pack_args(const gw_value *args, const char *new_key, struct buf *out)
{
    bool is_map = args && args->kind == GW_MAP;
    if (!is_map && (!new_key || (args && args->kind != GW_NIL))) {
        value_pack(args, out); /* nil, or nonsense that the host shall refuse */
        return;
    }
    size_t n = is_map ? args->map.n : 0;
    mp_map(out, n + (new_key ? 1 : 0));
    for (size_t i = 0; i < n; i++) {
        mp_str(out, args->map.items[i].key);
        value_pack_at(&args->map.items[i].value, 1, out);
    }
    if (new_key) {
        mp_str(out, "key");
        mp_str(out, new_key);
    }
}

static void pack_context(const struct session *s, struct buf *out)
{
    if (!s->traceparent) {
        mp_nil(out);
        return;
    }
    mp_map(out, 1 + (s->tracestate != NULL));
    mp_str(out, "traceparent");
    mp_str(out, s->traceparent);
    if (s->tracestate) {
        mp_str(out, "tracestate");
        mp_str(out, s->tracestate);
    }
}

static gw_err pack_call(struct session *s, struct call *call, const char *op, const gw_value *args,
                        struct gw_error *why)
{
    static const gw_value nothing;
    const char *new_key = NULL;
    snprintf(call->op, sizeof call->op, "%s", op);
    call->repeatable = op_is_idempotent(op);
    if (op_takes_key(op)) {
        const char *key = gw_map_str(args, "key", NULL);
        if (key) {
            snprintf(call->key, sizeof call->key, "%s", key);
        } else {
            GW_TRY(make_key(s, call->key, why));
            new_key = call->key;
        }
        call->repeatable = true;
    }
    size_t at = frame_begin(&call->frame, FRAME_CALL, call->stream, 3);
    mp_str(&call->frame, op);
    pack_args(args ? args : &nothing, new_key, &call->frame);
    pack_context(s, &call->frame);
    frame_end(&call->frame, at);
    if (!buf_ok(&call->frame)) {
        return gw_fail(why, GW_EARG,
                       "the arguments of \"%s\" are nested too deep, or out of memory", call->op);
    }
    if (call->frame.len - 4 > LIMIT_CLIENT_FRAME_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "the arguments of \"%s\" take %zu bytes, the limit is %u",
                       call->op, call->frame.len - 4, LIMIT_CLIENT_FRAME_BYTES);
    }
    return GW_OK;
}

static gw_err queue(struct session *s, const struct buf *frame)
{
    if (s->out_at == s->out.len) {
        buf_reset(&s->out);
        s->out_at = 0;
    }
    if (!buf_reserve(&s->out, frame->len)) {
        s->out.failed = false; /* what is in it already is whole */
        return GW_ENOMEM;
    }
    buf_add(&s->out, frame->data, frame->len);
    return GW_OK;
}

gw_err session_start(struct session *s, const char *op, const gw_value *args, gw_item_fn *on_item,
                     void *arg, struct call **ret, struct gw_error *why)
{
    struct call *call;
    gw_err err = calls_add(&s->calls, &call);
    if (err == GW_EBUSY) {
        return gw_fail(why, err, "%d calls are in flight: wait for one first", LIMIT_LINK_CALLS);
    }
    if (err != GW_OK) {
        return gw_fail(why, err, "out of memory");
    }
    call->on_item = on_item;
    call->arg = arg;
    err = pack_call(s, call, op, args, why);
    if (err == GW_OK && conn_is_open(&s->conn)) {
        err = queue(s, &call->frame);
        if (err != GW_OK) {
            (void)gw_fail(why, err, "out of memory");
        }
    }
    if (err != GW_OK) {
        calls_remove(&s->calls, call);
        return err;
    }
    *ret = call;
    return GW_OK;
}

void session_cancel(struct session *s, struct call *call)
{
    if (!call->done && conn_is_open(&s->conn)) {
        GW_AUTO(buf_free) struct buf frame = {0};
        frame_end(&frame, frame_begin(&frame, FRAME_CANCEL, call->stream, 0));
        if (buf_ok(&frame) && queue(s, &frame) == GW_OK) {
            session_push(s);
        }
    }
    calls_remove(&s->calls, call);
}

/* ---- frames in ---- */

/* A text of the host, cut to fit. */
static gw_err read_text(struct mp *m, char *ret, size_t cap)
{
    struct span text = {0};
    if (mp_peek(m) == MP_NIL) {
        return mp_read_nil(m);
    }
    GW_TRY(mp_read_str(m, &text));
    snprintf(ret, cap, "%.*s", (int)(text.n < cap ? text.n : cap), (const char *)text.p);
    return GW_OK;
}

static gw_err on_reply(struct session *s, struct frame *f)
{
    struct call *call = calls_find(&s->calls, f->stream);
    uint32_t code;
    struct gw_error why = {0};
    gw_value value = gw_nil();
    if (!call || call->done) {
        return GW_OK; /* cancelled meanwhile */
    }
    GW_TRY(mp_read_u32(&f->rest, &code));
    GW_TRY(value_unpack(&f->rest, &value));
    gw_err err = f->fields > 2 ? read_text(&f->rest, why.text, sizeof why.text) : GW_OK;
    if (err == GW_OK && f->fields > 3) {
        err = read_text(&f->rest, why.hint, sizeof why.hint);
    }
    if (err != GW_OK) {
        gw_value_free(&value);
        return err;
    }
    gw_err outcome = code == 0 ? GW_OK : gw_err_from_wire(code);
    if (outcome != GW_OK && !why.text[0]) {
        snprintf(why.text, sizeof why.text, "%s", gw_err_text(outcome));
    }
    calls_finish(&s->calls, call, outcome, &value, &why);
    return GW_OK;
}

static gw_err on_item(struct session *s, struct frame *f)
{
    struct call *call = calls_find(&s->calls, f->stream);
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    GW_TRY(value_unpack(&f->rest, &item));
    if (call && !call->done && call->on_item && !call->stopped) {
        call->stopped = !call->on_item(call->arg, &item);
    }
    return GW_OK;
}

/* Whatever asks for an answer gets one: PROTOCOL.md 2.3, 2.5. */
static gw_err on_other(struct session *s, const struct frame *f)
{
    bool unknown = strcmp(frame_kind_name(f->kind), "?") == 0 || f->kind == FRAME_CALL;
    GW_AUTO(buf_free) struct buf out = {0};
    if (f->kind == FRAME_PING) {
        frame_end(&out, frame_begin(&out, FRAME_PONG, f->stream, 0));
    } else if (unknown && f->stream != 0) {
        frame_reply(&out, f->stream, GW_ENOT_SUPPORTED, (struct span){0}, NULL);
    }
    return out.len > 0 ? queue(s, &out) : GW_OK;
}

gw_err session_take_frame(struct session *s, struct gw_error *why)
{
    if (s->in.len == s->in_at) {
        return GW_EAGAIN;
    }
    struct span in = {s->in.data + s->in_at, s->in.len - s->in_at};
    struct frame f;
    gw_err err = frame_take(&in, LIMIT_CLIENT_FRAME_BYTES, &f);
    if (err == GW_EAGAIN) {
        return err;
    }
    if (err == GW_OK) {
        err = f.kind == FRAME_REPLY  ? on_reply(s, &f)
              : f.kind == FRAME_ITEM ? on_item(s, &f)
                                     : on_other(s, &f);
        s->in_at = s->in.len - in.n;
    }
    if (err == GW_ENOMEM) {
        return gw_fail(why, err, "out of memory for the answer of %s", s->target.text);
    }
    if (err != GW_OK) {
        return gw_fail(why, GW_EPROTO, "%s sent bytes that break the protocol", s->target.text);
    }
    return GW_OK;
}

/* ---- bytes ---- */

bool session_has_output(const struct session *s)
{
    return s->out_at < s->out.len;
}

static gw_err write_out(struct session *s, struct gw_error *why)
{
    while (session_has_output(s)) {
        size_t n = 0;
        GW_TRY(conn_write(&s->conn, (struct span){s->out.data + s->out_at, s->out.len - s->out_at},
                          &n, why));
        s->out_at += n;
    }
    return GW_OK;
}

void session_push(struct session *s)
{
    if (conn_is_open(&s->conn)) {
        gw_err err = write_out(s, NULL);
        (void)err; /* the next exchange meets it again */
    }
}

static gw_err read_in(struct session *s, struct gw_error *why)
{
    if (s->in_at > 0) {
        buf_drop(&s->in, s->in_at);
        s->in_at = 0;
    }
    return conn_read(&s->conn, &s->in, READ_BYTES, why);
}

/* ---- loss and return ---- */

static void fail_call(struct session *s, struct call *call, const struct gw_error *why)
{
    struct gw_error mine = *why;
    if (call->key[0]) {
        gw_hint(
            &mine,
            "it may have been applied; repeated under the same key it is applied once: --op-key %s",
            call->key);
    }
    calls_finish(&s->calls, call, mine.code, NULL, &mine);
}

static void fail_all(struct session *s, const struct gw_error *why)
{
    struct call *call;
    while ((call = TAILQ_FIRST(&s->calls.open))) {
        fail_call(s, call, why);
    }
}

void session_lost(struct session *s, const struct gw_error *why)
{
    struct gw_error mine = *why;
    if (mine.code != GW_EPROTO) {
        gw_prefix(&mine, "%s", s->target.text);
    }
    conn_close(&s->conn);
    buf_reset(&s->in);
    buf_reset(&s->out);
    s->in_at = s->out_at = 0;
    s->retries = 0;
    s->retry_until_ms = conn_now_ms() + s->retry_ms;
    struct call *call = TAILQ_FIRST(&s->calls.open), *next;
    for (; call; call = next) {
        next = TAILQ_NEXT(call, link);
        if (!call->repeatable || call->repeated || s->retry_ms < 0 || mine.code == GW_EPROTO ||
            mine.code == GW_EDENIED) {
            fail_call(s, call, &mine);
        }
    }
}

gw_err session_connect(struct session *s, struct conn *c, int64_t deadline_ms, struct gw_error *why)
{
    if (s->target.local) {
        return conn_open_unix(c, s->target.dir, why);
    }
    if (!s->tls) {
        GW_TRY(tls_open(s->home, s->token[0] == '\0', &s->tls, why));
    }
    return conn_open_tls(c, s->target.url, s->tls, deadline_ms, why);
}

gw_err session_dial(struct session *s, int64_t deadline_ms, struct gw_error *why)
{
    if (!conn_is_open(&s->conn)) {
        GW_TRY(session_connect(s, &s->conn, deadline_ms, why));
    }
    struct conn_url url = {.host = "localhost"};
    gw_err err = s->target.local ? GW_OK : conn_parse_url(s->target.url, &url, why);
    if (err == GW_OK) {
        const char *token = s->token[0] && !s->target.local ? s->token : NULL;
        err = upgrade_client(&s->conn, url.host, token, &s->in, deadline_ms, why);
    }
    struct call *call;
    TAILQ_FOREACH (call, &s->calls.open, link) {
        if (err == GW_OK) {
            call->repeated = true;
            err = queue(s, &call->frame);
        }
    }
    if (err != GW_OK) {
        conn_close(&s->conn);
        buf_reset(&s->in);
        buf_reset(&s->out);
    }
    return err;
}

/* One attempt to come back, then a pause that grows. */
static gw_err retry(struct session *s, int64_t deadline_ms, struct gw_error *why)
{
    struct gw_error reason = {0};
    int64_t limit = deadline_ms < s->retry_until_ms ? deadline_ms : s->retry_until_ms;
    gw_err err = session_dial(s, limit, &reason);
    if (err == GW_OK) {
        return GW_OK;
    }
    if (err == GW_ECANCELLED) {
        return gw_fail(why, err, "interrupted");
    }
    bool passing =
        err == GW_EUNREACHABLE || err == GW_ETIMEOUT || err == GW_EBUSY || err == GW_ESTOPPING;
    if (!passing || conn_now_ms() >= s->retry_until_ms) {
        reason.code = err == GW_ETIMEOUT ? GW_EUNREACHABLE : err;
        gw_prefix(&reason, "the connection to %s was lost", s->target.text);
        fail_all(s, &reason);
        return GW_OK;
    }
    if (conn_now_ms() >= deadline_ms) {
        return gw_fail(why, GW_ETIMEOUT, "%s does not answer", s->target.text);
    }
    int64_t pause = RETRY_FIRST_MS << (s->retries < 5 ? s->retries : 5);
    int64_t until = conn_now_ms() + (pause < RETRY_MOST_MS ? pause : RETRY_MOST_MS);
    s->retries++;
    return conn_sleep(&s->conn, until < limit ? until : limit, why);
}

gw_err session_exchange(struct session *s, int64_t deadline_ms, struct gw_error *why)
{
    if (!conn_is_open(&s->conn)) {
        return retry(s, deadline_ms, why);
    }
    struct gw_error reason = {0};
    gw_err err = write_out(s, &reason);
    if (err == GW_OK || err == GW_EAGAIN) {
        GW_TRY(conn_wait(&s->conn, session_has_output(s), deadline_ms, why));
        err = read_in(s, &reason);
    }
    if (err == GW_ENOMEM) {
        return gw_fail(why, err, "%s", reason.text);
    }
    if (err != GW_OK && err != GW_EAGAIN) {
        reason.code = err;
        session_lost(s, &reason);
    }
    return GW_OK;
}
