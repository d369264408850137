#include "host/net/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "host/net/link_private.h"
#include "protocol/limits.h"

#define PING_MS             15000
#define SILENCE_MS          30000
#define DRAIN_MS            1000
#define NOTSENT_BYTES       (64 * 1024)
#define RUNNER_SOCKET_BYTES (2 * 1024 * 1024)
#define CLIENT_FRAME_BYTES  (LIMIT_ARGS_BYTES + 1024u * 1024)

int64_t link_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* PROTOCOL.md 2.1. */
size_t link_max_frame_bytes(link_kind kind)
{
    switch (kind) {
    case LINK_PEER: return LIMIT_FRAME_BYTES;
    case LINK_CLIENT: return CLIENT_FRAME_BYTES;
    case LINK_RUNNER: return LIMIT_MESSAGE_BYTES;
    }
    return 0;
}

static _Thread_local LIST_HEAD(, link) all; /* of this thread's loops */

static void timer_start(struct link *l, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(&l->ev_timer, &tv);
}

void link_turn(struct link *l)
{
    if (!l->turn_due) {
        l->turn_due = true;
        event_active(&l->ev_turn, EV_TIMEOUT, 0);
    }
}

void link_lost(struct link *l, const char *reason)
{
    if (l->state == LINK_CLOSED) {
        return;
    }
    if (l->state == LINK_OPEN) {
        snprintf(l->reason, sizeof l->reason, "%s", reason);
    }
    l->state = LINK_CLOSED;
    event_del(&l->ev_read);
    event_del(&l->ev_write);
    event_del(&l->ev_timer);
    link_turn(l);
}

void link_lostf(struct link *l, const char *fmt, ...)
{
    char text[sizeof l->reason];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    link_lost(l, text);
}

static void link_free(struct link *l)
{
    LIST_REMOVE(l, of_thread);
    event_del(&l->ev_read);
    event_del(&l->ev_write);
    event_del(&l->ev_timer);
    event_del(&l->ev_turn);
    stream_close(&l->io);
    buf_free(&l->in);
    reassembly_free(&l->fragments);
    link_out_deinit(&l->out);
    if (l->release) {
        l->release(l->release_arg);
    }
    free(l);
}

/* Draining: once all is written, end our sending and wait (within DRAIN_MS) for the other side's
 * end, because closing a socket with unread bytes would reset it and could destroy what we have
 * just sent. */
static void drain_step(struct link *l)
{
    if (l->state == LINK_DRAINING && l->out.queued == 0 && !l->fin_sent) {
        l->fin_sent = true;
        stream_shutdown(&l->io);
    }
}

static void flush(struct link *l)
{
    link_out_flush(l);
    drain_step(l);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct link *l = arg;
    l->turn_due = false;
    if (l->state != LINK_CLOSED && l->read_again) {
        l->read_again = false;
        link_in_read(l);
    }
    if (l->state != LINK_CLOSED) {
        flush(l);
        return;
    }
    l->turn_due = true; /* link_turn of calls in on_close must not touch the event any more */
    if (l->ops && l->ops->on_close) {
        l->ops->on_close(l->arg, l, l->reason);
    }
    link_free(l);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct link *l = arg;
    if (l->io.write_wants_read) {
        flush(l);
    }
    if (l->state != LINK_CLOSED) {
        link_in_read(l);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct link *l = arg;
    if (l->io.read_wants_write) {
        link_in_read(l);
    }
    if (l->state != LINK_CLOSED) {
        flush(l);
    }
}

static void ping(struct link *l)
{
    struct buf b = {0};
    frame_end(&b, frame_begin(&b, FRAME_PING, 0, 0));
    link_send(l, &b);
}

/* PROTOCOL.md 2.5. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct link *l = arg;
    if (l->state == LINK_DRAINING) {
        link_lost(l, l->reason);
        return;
    }
    int64_t grace = l->close_ms - l->ping_ms; /* for the answer to a ping */
    if (link_now_ms() - l->last_in_ms >= l->ping_ms) {
        link_in_read(l); /* perhaps it was we who slept */
        if (l->state != LINK_OPEN) {
            return;
        }
    }
    int64_t now = link_now_ms(), silent = now - l->last_in_ms;
    if (silent < l->ping_ms) {
        timer_start(l, l->ping_ms - silent);
    } else if (l->pinged_ms <= l->last_in_ms) {
        l->pinged_ms = now;
        ping(l);
        timer_start(l, grace);
    } else if (now - l->pinged_ms < grace) {
        timer_start(l, grace - (now - l->pinged_ms));
    } else {
        link_lost(l, "silent");
    }
}

void link_set_silence(struct link *l, int64_t ping_ms, int64_t close_ms)
{
    l->ping_ms = ping_ms;
    l->close_ms = close_ms;
    if (ping_ms > 0 && l->state == LINK_OPEN) {
        timer_start(l, ping_ms);
    }
}

static void set_socket_options(const struct link *l)
{
    int one = 1, lowat = NOTSENT_BYTES, size = RUNNER_SOCKET_BYTES;
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;
    if (getsockname(l->io.fd, (struct sockaddr *)&addr, &len) == 0 && addr.ss_family != AF_UNIX) {
        (void)setsockopt(l->io.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (l->kind == LINK_PEER) {
            (void)setsockopt(l->io.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
        }
    } else if (l->kind == LINK_RUNNER) {
        (void)setsockopt(l->io.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        (void)setsockopt(l->io.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
}

struct link *link_over_stream(struct event_base *base, struct stream *io, link_kind kind,
                              const struct trust_peer *peer, struct span early)
{
    struct link *l = xcalloc(1, sizeof *l);
    l->base = base;
    l->io = stream_take(io);
    l->kind = kind;
    if (peer) {
        l->peer = *peer;
    }
    l->last_in_ms = link_now_ms();
    LIST_INSERT_HEAD(&all, l, of_thread);
    link_out_init(&l->out);
    set_socket_options(l);
    event_assign(&l->ev_read, base, l->io.fd, EV_READ | EV_PERSIST, on_readable, l);
    event_assign(&l->ev_write, base, l->io.fd, EV_WRITE | EV_PERSIST, on_writable, l);
    event_assign(&l->ev_turn, base, -1, 0, on_turn, l);
    event_assign(&l->ev_timer, base, -1, 0, on_timer, l);
    event_add(&l->ev_read, NULL);
    if (kind == LINK_PEER) {
        link_set_silence(l, PING_MS, SILENCE_MS);
    }
    buf_add(&l->in, early.p, early.n);
    if (early.n > 0 || stream_has_pending(&l->io)) {
        l->read_again = true; /* the socket need not become readable again */
        link_turn(l);
    }
    return l;
}

struct link *link_over_socket(struct event_base *base, evutil_socket_t fd, link_kind kind)
{
    struct stream io = stream_over(fd);
    return link_over_stream(base, &io, kind, NULL, (struct span){0});
}

void link_set_ops(struct link *l, const struct link_ops *ops, void *arg)
{
    l->ops = ops;
    l->arg = arg;
}

void link_set_release(struct link *l, void (*release)(void *arg), void *arg)
{
    l->release = release;
    l->release_arg = arg;
}

void *link_arg(const struct link *l)
{
    return l->arg;
}

link_kind link_get_kind(const struct link *l)
{
    return l->kind;
}

const struct trust_peer *link_peer(const struct link *l)
{
    return &l->peer;
}

void link_send(struct link *l, struct buf *frame)
{
    if (l->state != LINK_OPEN) {
        buf_free(frame);
        return;
    }
    if (!buf_ok(frame)) {
        buf_free(frame);
        link_lost(l, "out of memory");
        return;
    }
    gw_assert(frame->len > 4 && load_u32(frame->data) == frame->len - 4);
    link_out_queue(l, frame);
    if (l->out.queued > LIMIT_LINK_OUT_BYTES) {
        link_lost(l, "slow");
    } else if (!l->out.waiting) {
        link_turn(l);
    }
}

void link_pause(struct link *l)
{
    l->paused = true;
    event_del(&l->ev_read);
}

void link_resume(struct link *l)
{
    if (l->paused && l->state != LINK_CLOSED) {
        l->paused = false;
        event_add(&l->ev_read, NULL);
        l->read_again = true; /* what TLS has read already makes the socket readable no more */
        link_turn(l);
    }
}

size_t link_queued_bytes(const struct link *l)
{
    return l->out.queued;
}

void link_close(struct link *l, bool flush_first, const char *reason)
{
    if (l->state == LINK_CLOSED) {
        return;
    }
    if (!flush_first) {
        link_lost(l, reason);
        return;
    }
    if (l->state == LINK_OPEN) {
        snprintf(l->reason, sizeof l->reason, "%s", reason);
        link_resume(l); /* the other side's end is to be seen */
        l->state = LINK_DRAINING;
        timer_start(l, DRAIN_MS);
        link_turn(l);
    }
}

void link_end_all(const struct event_base *base)
{
    struct link *l = LIST_FIRST(&all), *next;
    for (; l; l = next) {
        next = LIST_NEXT(l, of_thread);
        if (l->base == base) {
            link_free(l);
        }
    }
}
