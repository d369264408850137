#include "host/bulk_io.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LINGER_MS    1000
#define LINGER_BYTES (16u * 1024 * 1024)

static gw_err broken(struct bulk_conn *c, const char *doing)
{
    return gw_fail(&c->why, GW_EUNREACHABLE, "the connection broke while %s: %s", doing,
                   c->stream.why[0] ? c->stream.why : "it was ended");
}

static gw_err io_read(void *ctx, void *to, size_t room, size_t *ret_n)
{
    struct bulk_conn *c = ctx;
    size_t left = c->early.len - c->early_at;
    if (left > 0) {
        *ret_n = left < room ? left : room;
        memcpy(to, c->early.data + c->early_at, *ret_n);
        c->early_at += *ret_n;
        if (c->early_at == c->early.len) {
            buf_free(&c->early);
            c->early_at = 0;
        }
        return GW_OK;
    }
    switch (stream_read(&c->stream, to, room, ret_n)) {
    case STREAM_OK: return GW_OK;
    case STREAM_AGAIN: return GW_EAGAIN;
    case STREAM_EOF: return GW_ENOT_FOUND;
    case STREAM_ERROR: break;
    }
    return broken(c, "reading");
}

static gw_err io_write(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    struct bulk_conn *c = ctx;
    switch (stream_write(&c->stream, from, n, ret_n)) {
    case STREAM_OK: return GW_OK;
    case STREAM_AGAIN: return GW_EAGAIN;
    case STREAM_EOF:
    case STREAM_ERROR: break;
    }
    return broken(c, "writing");
}

static gw_err io_wait(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    struct bulk_conn *c = ctx;
    const struct stream *s = &c->stream;
    bool ready = to_read && (c->early.len > c->early_at || stream_has_pending(s));
    short events = 0;
    if (to_read) {
        events |= s->read_wants_write ? POLLOUT : POLLIN;
    }
    if (to_write) {
        events |= s->write_wants_read ? POLLIN : POLLOUT;
    }
    struct pollfd fds[2] = {{.fd = c->cancel_fd, .events = POLLIN},
                            {.fd = events ? s->fd : -1, .events = events}};
    int n;
    do {
        n = poll(fds, 2, ready ? 0 : timeout_ms);
    } while (n < 0 && errno == EINTR);
    if (fds[0].revents) {
        return gw_fail(&c->why, GW_ECANCELLED, "the transfer was called off");
    }
    if (n < 0) {
        return gw_fail(&c->why, GW_EIO, "cannot wait for a connection: %s", strerror(errno));
    }
    if (n == 0 && !ready) {
        return gw_fail(&c->why, GW_ETIMEOUT, "nothing came for %d s", timeout_ms / 1000);
    }
    return GW_OK;
}

static void io_describe(void *ctx, struct gw_error *why)
{
    const struct bulk_conn *c = ctx;
    if (why) {
        *why = c->why;
    }
}

gw_err bulk_conn_open(struct bulk_conn *c, struct stream *stream, struct buf *early)
{
    *c = (struct bulk_conn){.io = {.ctx = c,
                                   .read = io_read,
                                   .write = io_write,
                                   .wait = io_wait,
                                   .describe = io_describe},
                            .stream = stream_take(stream),
                            .early = buf_take(early),
                            .cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    return c->cancel_fd >= 0 ? GW_OK : GW_EIO;
}

void bulk_conn_cancel(struct bulk_conn *c)
{
    uint64_t one = 1;
    ssize_t n = write(c->cancel_fd, &one, sizeof one);
    (void)n; /* full means called off */
}

void bulk_conn_linger(struct bulk_conn *c)
{
    char drop[16384];
    size_t total = 0, n;
    struct timespec t;
    if (c->stream.fd < 0 || c->stream.broken) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now, end = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + LINGER_MS;
    stream_shutdown(&c->stream);
    while (total < LINGER_BYTES) {
        gw_err err = io_read(c, drop, sizeof drop, &n);
        if (err == GW_OK) {
            total += n;
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
        if (err != GW_EAGAIN || now >= end || io_wait(c, true, false, (int)(end - now)) != GW_OK) {
            return;
        }
    }
}

void bulk_conn_close(struct bulk_conn *c)
{
    stream_close(&c->stream);
    buf_free(&c->early);
    if (c->cancel_fd >= 0) {
        close(c->cancel_fd);
    }
    c->cancel_fd = -1;
}
