/* One HTTP connection: reading requests under their deadlines, writing answers, keeping alive. The
 * state machine is drawn in http_private.h; conn_step runs it as far as the bytes allow, and alone
 * frees. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "host/net/http_private.h"
#include "protocol/base/log.h"

#define LINGER_MS    1000
#define LINGER_BYTES (16u * 1024 * 1024) /* dropped at most: a body that was refused */
#define READ_BYTES   (16u * 1024)
#define TURN_STEPS   128          /* of one connection before the others have their turn */
#define KEEP_BYTES   (64u * 1024) /* output memory that an idle connection keeps */

struct counts *counts_hold(struct counts *c)
{
    c->refs++;
    return c;
}

void counts_drop(struct counts *c)
{
    if (--c->refs == 0) {
        free(c);
    }
}

static void set_timer(struct conn *c, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(&c->ev_timer, &tv);
}

void conn_turn(struct conn *c)
{
    if (!c->running && !c->turn_due) {
        c->turn_due = true;
        event_active(&c->ev_turn, EV_TIMEOUT, 0);
    }
}

static void set_state(struct conn *c, conn_state to)
{
    c->state = to;
    switch (to) {
    case CONN_HANDSHAKE: set_timer(c, c->server->timing.header_ms); break;
    case CONN_HEAD:
        c->begun = c->in.len > 0;
        c->scanned = 0;
        set_timer(c, c->begun ? c->server->timing.header_ms : c->server->timing.idle_ms);
        break;
    case CONN_BODY: set_timer(c, c->server->timing.body_ms); break;
    case CONN_LINGER: set_timer(c, LINGER_MS); break;
    case CONN_UPGRADE: set_timer(c, c->server->timing.header_ms); break;
    case CONN_HANDLED:
    case CONN_STREAM:
    case CONN_CLOSED: event_del(&c->ev_timer); break;
    }
}

void conn_answered(struct conn *c)
{
    set_state(c, CONN_HEAD);
    conn_turn(c);
}

void conn_streams(struct conn *c)
{
    set_state(c, CONN_STREAM);
    conn_turn(c);
}

void conn_upgrades(struct conn *c)
{
    set_state(c, CONN_UPGRADE);
    conn_turn(c);
}

void conn_abandon(struct conn *c)
{
    if (c->call) {
        c->call->conn = NULL;
        c->call->on_gone = NULL;
        c->call = NULL;
    }
    set_state(c, CONN_CLOSED);
    conn_turn(c);
}

/* --- bytes --- */

/* Read what is there, up to `room`, into b. False when nothing came. */
static bool fill(struct conn *c, struct buf *b, size_t room)
{
    if (!c->readable || c->eof || room == 0) {
        return false;
    }
    size_t want = room < READ_BYTES ? room : READ_BYTES;
    if (!buf_reserve(b, want)) {
        set_state(c, CONN_CLOSED);
        return false;
    }
    size_t n = 0;
    stream_result r = stream_read(&c->io, b->data + b->len, want, &n);
    if (r == STREAM_OK) {
        b->len += n;
        c->readable = c->io.ssl ? n == want || stream_has_pending(&c->io) : n == want;
        return true;
    }
    c->readable = false;
    if (r == STREAM_EOF) {
        c->eof = true;
    } else if (r == STREAM_ERROR) {
        set_state(c, CONN_CLOSED);
    }
    return false;
}

/* Write what the socket takes. */
static void flush(struct conn *c)
{
    size_t before = c->out_at;
    while (c->out_at < c->out.len) {
        size_t n = 0;
        stream_result r = stream_write(&c->io, c->out.data + c->out_at, c->out.len - c->out_at, &n);
        if (r == STREAM_AGAIN) {
            break;
        }
        if (r != STREAM_OK) {
            set_state(c, CONN_CLOSED);
            return;
        }
        c->out_at += n;
    }
    if (c->out_at < c->out.len) {
        if (c->state != CONN_BODY && (c->out_at > before || !c->writing)) {
            c->writing = true;
            set_timer(c, c->server->timing.write_ms);
        }
        return;
    }
    buf_reset(&c->out);
    c->out_at = 0;
    if (c->out.cap > KEEP_BYTES) {
        buf_free(&c->out);
    }
    if (c->writing) {
        c->writing = false;
        set_state(c, c->state); /* its own deadline again */
    }
}

static bool has_output(const struct conn *c)
{
    return c->out_at < c->out.len;
}

/* Wait for what the present state needs. */
static void watch(struct conn *c)
{
    if (c->in.len == 0) {
        buf_free(&c->in); /* half of what an idle connection would hold */
    }
    /* While the handler works, only the end of the client and a bounded rest are read. */
    bool full = c->in.len >= LIMIT_HTTP_HEADER_BYTES &&
                (c->state == CONN_HANDLED || c->state == CONN_STREAM || has_output(c));
    if (c->eof || full || c->readable) {
        event_del(&c->ev_read);
    } else {
        event_add(&c->ev_read, NULL);
    }
    bool writes = (has_output(c) && !c->io.write_wants_read) || c->io.read_wants_write ||
                  (c->state == CONN_HANDSHAKE && !c->io.write_wants_read);
    if (writes) {
        event_add(&c->ev_write, NULL);
    } else {
        event_del(&c->ev_write);
    }
}

/* --- states --- */

/* The handshake is done: who is it? */
static void identify(struct conn *c)
{
    gw_err err = trust_peer_of(c->server->trust, c->io.ssl, &c->peer, &c->refusal);
    if (err != GW_OK) {
        c->refused = true;
        c->refusal.code = err;
        c->peer = (struct trust_peer){0};
    }
    switch (c->peer.role) {
    case TRUST_HOST: c->role = ROLE_PEER; break;
    case TRUST_OPERATOR: c->role = ROLE_ADMIN; break;
    case TRUST_NONE: c->role = ROLE_NONE; break;
    }
}

static bool handshake(struct conn *c)
{
    switch (stream_handshake(&c->io)) {
    case STREAM_OK:
        identify(c);
        c->readable = true;
        c->state = CONN_HEAD; /* under the deadline that runs since the accept */
        return true;
    case STREAM_AGAIN: c->readable = false; return false;
    default:
        log_debug("http.handshake", "error=\"%s\"", c->io.why);
        set_state(c, CONN_CLOSED);
        return false;
    }
}

/* Answer a request that cannot be read, and close. */
static void refuse(struct conn *c, int status, const struct gw_error *why)
{
    c->last = true;
    if (!c->call) {
        c->call = call_new(c);
    }
    set_state(c, CONN_HANDLED);
    http_answer_status(c->call, status, why);
}

static bool begin_body(struct conn *c)
{
    struct http_call *call = c->call;
    struct gw_error why = {0};
    uint64_t most = c->role == ROLE_NONE ? LIMIT_HTTP_ANONYMOUS_BYTES : LIMIT_HTTP_BODY_BYTES;
    if (call->head.body_bytes > most) {
        (void)gw_fail(&why, GW_ETOO_BIG, "the body is larger than %llu bytes",
                      (unsigned long long)most);
        refuse(c, 413, &why);
        return true;
    }
    size_t n = call->head.body_bytes < c->in.len ? (size_t)call->head.body_bytes : c->in.len;
    buf_add(&call->body, c->in.data, n);
    buf_drop(&c->in, n);
    if (call->head.expect_continue && call->body.len < call->head.body_bytes) {
        buf_addf(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
        flush(c);
    }
    if (c->state != CONN_CLOSED) {
        set_state(c, CONN_BODY);
    }
    return true;
}

/* Hand the connection over if this request is one of those. */
static bool hand_over(struct conn *c)
{
    struct gw_error why = {0};
    bool wanted = false;
    if (!c->server->ops.wants || c->surplus || c->refused) {
        return false;
    }
    gw_err err = c->server->ops.wants(c->server->arg, &c->call->head, c->role, &wanted, &why);
    if (err != GW_OK) {
        refuse(c, gw_err_http(err), &why);
        return true;
    }
    if (wanted) {
        upgrade_hand_over(c);
    }
    return wanted;
}

/* Take one request head off the input. */
static bool read_head(struct conn *c)
{
    if (has_output(c)) {
        return false; /* one answer at a time: a client that does not read cannot make us hold many
                       */
    }
    struct gw_error why = {0};
    size_t n;
    while ((n = http_head_length((const char *)c->in.data, c->in.len, &c->scanned)) == 0) {
        if (c->in.len >= LIMIT_HTTP_HEADER_BYTES) {
            (void)gw_fail(&why, GW_ETOO_BIG, "the request head is larger than %u bytes",
                          LIMIT_HTTP_HEADER_BYTES);
            refuse(c, 431, &why);
            return true;
        }
        if (!fill(c, &c->in, LIMIT_HTTP_HEADER_BYTES - c->in.len)) {
            if (c->eof) {
                set_state(c, CONN_CLOSED);
            }
            return false;
        }
        if (!c->begun) {
            c->begun = true;
            set_timer(c, c->server->timing.header_ms);
        }
        while (c->in.len >= 2 && memcmp(c->in.data, "\r\n", 2) == 0) {
            buf_drop(&c->in, 2); /* RFC 9112 2.2 */
            c->scanned = 0;
        }
        if (c->in.len > 0 && c->in.data[0] == '\r') {
            continue;
        }
        if (c->in.len > 0 && (c->in.data[0] < 'A' || c->in.data[0] > 'Z')) {
            (void)gw_fail(&why, GW_EPROTO, "this is not an HTTP request");
            refuse(c, 400, &why);
            return true;
        }
    }
    c->call = call_new(c);
    c->call->text = xcalloc(1, n + 1);
    memcpy(c->call->text, c->in.data, n);
    buf_drop(&c->in, n);
    int status = 400;
    if (http_head_parse(c->call->text, n, &c->call->head, &status, &why) != GW_OK) {
        refuse(c, status, &why);
        return true;
    }
    c->call->is_head = strcmp(c->call->head.method, "HEAD") == 0;
    if (hand_over(c)) {
        return true;
    }
    if (c->call->head.chunked) {
        (void)gw_fail(&why, GW_ENOT_SUPPORTED, "\"%.100s\" takes no body in chunks",
                      c->call->head.path);
        gw_hint(&why, "send the body with Content-Length");
        refuse(c, 411, &why);
        return true;
    }
    return begin_body(c);
}

static void refuse_surplus(struct conn *c)
{
    struct gw_error why = {0};
    (void)gw_fail(&why, GW_EBUSY, "%u connections of clients are open already",
                  c->server->max_conns[c->local]);
    gw_hint(&why, "end some, or raise the setting max_clients and the limit of open files");
    refuse(c, gw_err_http(why.code), &why);
}

static bool read_body(struct conn *c)
{
    struct http_call *call = c->call;
    while (call->body.len < call->head.body_bytes) {
        if (!fill(c, &call->body, (size_t)call->head.body_bytes - call->body.len)) {
            if (c->eof) {
                set_state(c, CONN_CLOSED);
            }
            return false;
        }
    }
    set_state(c, CONN_HANDLED);
    if (c->surplus) {
        refuse_surplus(c);
    } else if (c->refused) {
        http_answer_error(call, &c->refusal);
    } else if (!upgrade_request(c)) {
        call->handed = true;
        c->server->ops.on_request(c->server->arg, call);
    }
    return true;
}

/* While the handler works: notice the end of the client. A client that only ended its sending still
 * gets its answer; a stream ends with it. */
static bool await_handler(struct conn *c)
{
    size_t room = c->in.len < LIMIT_HTTP_HEADER_BYTES ? LIMIT_HTTP_HEADER_BYTES - c->in.len : 0;
    while (fill(c, &c->in, room) && c->in.len < LIMIT_HTTP_HEADER_BYTES) {
        room = LIMIT_HTTP_HEADER_BYTES - c->in.len;
    }
    if (c->eof && c->state == CONN_STREAM) {
        set_state(c, CONN_CLOSED);
    }
    return false;
}

static bool linger(struct conn *c)
{
    struct buf drop = {0};
    size_t total = 0;
    while (fill(c, &drop, READ_BYTES) && total < LINGER_BYTES) {
        total += drop.len;
        buf_reset(&drop);
    }
    buf_free(&drop);
    if (c->eof) {
        set_state(c, CONN_CLOSED);
    }
    return false;
}

/* The last answer is written: end our sending, then wait until the client has read it: closing with
 * unread bytes would reset the connection under the answer. */
static bool end_sending(struct conn *c)
{
    if (has_output(c)) {
        return false;
    }
    stream_shutdown(&c->io);
    buf_free(&c->in);
    set_state(c, c->eof ? CONN_CLOSED : CONN_LINGER);
    return true;
}

/* One step of the state machine; false when it waits. */
static bool advance(struct conn *c)
{
    switch (c->state) {
    case CONN_HANDSHAKE: return handshake(c);
    case CONN_HEAD: return c->last ? end_sending(c) : read_head(c);
    case CONN_BODY: return read_body(c);
    case CONN_HANDLED:
    case CONN_STREAM: return await_handler(c);
    case CONN_UPGRADE: return !has_output(c) && upgrade_finish(c);
    case CONN_LINGER: return linger(c);
    case CONN_CLOSED: return false;
    }
    return false;
}

static void conn_step(struct conn *c)
{
    bool more = true;
    c->running = true;
    for (unsigned i = 0; more && c->state != CONN_CLOSED; i++) {
        if (i == TURN_STEPS) { /* a client that pipelines without end */
            struct timeval next_turn = {0, 0};
            c->turn_due = true;
            event_add(&c->ev_turn, &next_turn);
            break;
        }
        more = false;
        if (has_output(c)) {
            flush(c);
            more = !has_output(c);
        }
        if (advance(c)) {
            more = true;
        }
    }
    c->running = false;
    if (c->state == CONN_CLOSED) {
        conn_free(c);
    } else {
        watch(c);
    }
}

/* --- events --- */

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    c->readable = true;
    conn_step(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    if (c->io.read_wants_write) {
        c->readable = true;
    }
    conn_step(c);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    c->turn_due = false;
    conn_step(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    bool late = !c->writing && (c->state == CONN_BODY || (c->state == CONN_HEAD && c->begun));
    if (late && c->state != CONN_CLOSED) {
        struct gw_error why = {0};
        (void)gw_fail(&why, GW_ETIMEOUT, "the request did not arrive in time");
        refuse(c, 408, &why);
    } else {
        set_state(c, CONN_CLOSED);
    }
    conn_step(c);
}

void conn_new(struct server *s, int fd, bool local, bool surplus)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->server = s;
    c->counts = counts_hold(s->counts);
    c->counts->conns[local]++;
    c->local = local;
    c->surplus = surplus;
    c->since_ms = link_now_ms();
    c->io = stream_over(fd);
    c->role = local ? ROLE_ADMIN : ROLE_NONE;
    TAILQ_INSERT_TAIL(&s->conns, c, entry);
    event_assign(&c->ev_read, s->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->ev_write, s->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    event_assign(&c->ev_turn, s->base, -1, 0, on_turn, c);
    event_assign(&c->ev_timer, s->base, -1, 0, on_timer, c);
    set_state(c, CONN_HANDSHAKE);
    if (local) {
        c->state = CONN_HEAD;
    } else {
        stream_set_tcp(fd);
        /* Without TLS there is nothing to serve here: never fall back to plain HTTP. */
        if (stream_start_tls(&c->io, s->trust->server, true) != GW_OK) {
            log_warn("http.tls", "error=\"no memory for a TLS connection\"");
            conn_free(c);
            return;
        }
    }
    watch(c);
}

void conn_free(struct conn *c)
{
    struct http_call *call = c->call;
    bool handed = call && call->handed;
    c->call = NULL;
    event_del(&c->ev_read);
    event_del(&c->ev_write);
    event_del(&c->ev_turn);
    event_del(&c->ev_timer);
    TAILQ_REMOVE(&c->server->conns, c, entry);
    c->counts->conns[c->local]--;
    counts_drop(c->counts);
    stream_close(&c->io);
    buf_free(&c->in);
    buf_free(&c->out);
    free(c);
    if (handed) {
        call_gone(call);
    } else if (call) {
        call_free(call);
    }
}
