#include "host/bulk_io.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "protocol/limits.h"

#define LINGER_MS    1000
#define LINGER_BYTES (16u * 1024 * 1024)
#define QUIET_MS     30000
#define GATHER_BYTES (128u * 1024) /* eight TLS records a system call */

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
        c->moved += *ret_n;
        if (c->early_at == c->early.len) {
            buf_free(&c->early);
            c->early_at = 0;
        }
        return GW_OK;
    }
    switch (stream_read(&c->stream, to, room, ret_n)) {
    case STREAM_OK: c->moved += *ret_n; return GW_OK;
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
    case STREAM_OK: c->moved += *ret_n; return GW_OK;
    case STREAM_AGAIN: return GW_EAGAIN;
    case STREAM_EOF:
    case STREAM_ERROR: break;
    }
    return broken(c, "writing");
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A byte now and then is no transfer: its thread is there for others. */
static gw_err check_pace(struct bulk_conn *c, int64_t now)
{
    if (c->stream.fd < 0) {
        return GW_OK;
    }
    if (c->slow_since_ms == 0 || c->moved >= LIMIT_BULK_SLOW_BYTES) {
        c->slow_since_ms = now;
        c->moved = 0;
    }
    if (now - c->slow_since_ms < c->slow_ms) {
        return GW_OK;
    }
    return gw_fail(&c->why, GW_EUNREACHABLE, "the connection moved only %llu bytes in %lld s",
                   (unsigned long long)c->moved, (long long)(c->slow_ms / 1000));
}

/* Wait for the connection or the end of the time (left_ms < 0: none). What is kept back is to leave
 * meanwhile: GW_EAGAIN, some of it may now. */
static gw_err wait_once(struct bulk_conn *c, bool to_read, bool to_write, bool kept,
                        int64_t left_ms)
{
    const struct stream *s = &c->stream;
    short events = 0;
    if (to_read) {
        events |= s->read_wants_write ? POLLOUT : POLLIN;
    }
    if (to_write || kept) {
        events |= s->write_wants_read && !kept ? POLLIN : POLLOUT;
    }
    struct pollfd fds[2] = {{.fd = c->cancel_fd, .events = POLLIN},
                            {.fd = events ? s->fd : -1, .events = events}};
    int n;
    do {
        n = poll(fds, 2, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
    } while (n < 0 && errno == EINTR);
    if (fds[0].revents) {
        return gw_fail(&c->why, GW_ECANCELLED, "the transfer was called off");
    }
    if (n < 0) {
        return gw_fail(&c->why, GW_EIO, "cannot wait for a connection: %s", strerror(errno));
    }
    if (n == 0) {
        return GW_ETIMEOUT;
    }
    return kept && !to_write && fds[1].revents == POLLOUT ? GW_EAGAIN : GW_OK;
}

static gw_err io_wait(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    struct bulk_conn *c = ctx;
    int64_t end = now_ms() + timeout_ms;
    GW_TRY(check_pace(c, end - timeout_ms));
    for (;;) {
        bool kept = stream_flush(&c->stream) == STREAM_AGAIN;
        bool ready = to_read && (c->early.len > c->early_at || stream_has_pending(&c->stream));
        int64_t left = ready ? 0 : timeout_ms < 0 ? -1 : end - now_ms();
        gw_err err = wait_once(c, to_read, to_write, kept, timeout_ms < 0 || left > 0 ? left : 0);
        if (err == GW_ETIMEOUT) {
            return ready ? GW_OK
                         : gw_fail(&c->why, err, "nothing came for %d s", timeout_ms / 1000);
        }
        if (err != GW_EAGAIN) {
            return err;
        }
    }
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
                            .slow_ms = LIMIT_BULK_SLOW_MS,
                            .cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (c->cancel_fd < 0) {
        return GW_EBUSY;
    }
    return stream_gather(&c->stream, GATHER_BYTES);
}

void bulk_conn_cancel(struct bulk_conn *c)
{
    uint64_t one = 1;
    ssize_t n = write(c->cancel_fd, &one, sizeof one);
    (void)n; /* full means called off */
}

/* What is kept back leaves, as long as some of it does. */
static bool flush(struct bulk_conn *c)
{
    stream_result r;
    while ((r = stream_flush(&c->stream)) == STREAM_AGAIN) {
        if (io_wait(c, false, true, QUIET_MS) != GW_OK) {
            return false;
        }
    }
    return r == STREAM_OK;
}

void bulk_conn_linger(struct bulk_conn *c)
{
    char drop[16384];
    size_t total = 0, n;
    if (c->stream.fd < 0 || c->stream.broken || !flush(c)) {
        return;
    }
    stream_shutdown(&c->stream);
    for (int64_t end = now_ms() + LINGER_MS; total < LINGER_BYTES;) {
        gw_err err = io_read(c, drop, sizeof drop, &n);
        if (err == GW_OK) {
            total += n;
            continue;
        }
        int64_t left = end - now_ms();
        if (err != GW_EAGAIN || left <= 0 || io_wait(c, true, false, (int)left) != GW_OK) {
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
