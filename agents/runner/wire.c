#include "agents/runner/wire.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/limits.h"

#define WIRE_IN_BYTES    (64u * 1024)
#define WIRE_QUEUE_BYTES (32u * 1024) /* larger writes gain nothing from waiting */

void wire_init(struct wire *w, int fd)
{
    *w = (struct wire){.fd = fd, .in = xcalloc(1, WIRE_IN_BYTES)};
    pthread_mutex_init(&w->lock, NULL);
}

void wire_deinit(struct wire *w)
{
    free(w->in);
    buf_free(&w->out);
    pthread_mutex_destroy(&w->lock);
}

/* --- reading --- */

/* At least one byte. */
static gw_err read_some(int fd, uint8_t *p, size_t room, size_t *ret)
{
    for (;;) {
        ssize_t n = read(fd, p, room);
        if (n > 0) {
            *ret = (size_t)n;
            return GW_OK;
        }
        if (n == 0 || errno != EINTR) {
            return GW_EIO;
        }
    }
}

/* Until `want` unread bytes are in the buffer; want <= WIRE_IN_BYTES. */
static gw_err fill(struct wire *w, size_t want)
{
    while (w->in_end - w->in_at < want) {
        if (w->in_at > 0 && WIRE_IN_BYTES - w->in_at < want) {
            memmove(w->in, w->in + w->in_at, w->in_end - w->in_at);
            w->in_end -= w->in_at;
            w->in_at = 0;
        }
        size_t n;
        GW_TRY(read_some(w->fd, w->in + w->in_end, WIRE_IN_BYTES - w->in_end, &n));
        w->in_end += n;
    }
    return GW_OK;
}

static void consume(struct wire *w, uint8_t *to, size_t n)
{
    memcpy(to, w->in + w->in_at, n);
    w->in_at += n;
    if (w->in_at == w->in_end) {
        w->in_at = w->in_end = 0;
    }
}

/* The array of a frame: from the buffer as far as it is there, the rest straight from the socket.
 */
static gw_err read_body(struct wire *w, uint8_t *to, size_t len)
{
    if (len <= WIRE_IN_BYTES) {
        GW_TRY(fill(w, len));
        consume(w, to, len);
        return GW_OK;
    }
    size_t have = w->in_end - w->in_at;
    have = have < len ? have : len;
    consume(w, to, have);
    while (have < len) {
        size_t n;
        GW_TRY(read_some(w->fd, to + have, len - have, &n));
        have += n;
    }
    return GW_OK;
}

gw_err wire_read(struct wire *w, struct packet **ret)
{
    uint8_t head[4];
    GW_TRY(fill(w, sizeof head));
    consume(w, head, sizeof head);
    size_t len = load_u32(head);
    if (len == 0 || len > LIMIT_MESSAGE_BYTES) {
        return GW_EPROTO;
    }
    struct packet *p = malloc(sizeof *p + len);
    if (!p) {
        return GW_ENOMEM;
    }
    gw_err err = read_body(w, p->bytes, len);
    if (err == GW_OK) {
        err = frame_parse((struct span){p->bytes, len}, &p->frame);
    }
    if (err != GW_OK) {
        free(p);
        return err;
    }
    *ret = p;
    return GW_OK;
}

bool wire_ready(const struct wire *w)
{
    size_t have = w->in_end - w->in_at;
    return have >= 4 && have - 4 >= load_u32(w->in + w->in_at);
}

bool wire_wait(const struct wire *w, int64_t ms)
{
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    return poll(&p, 1, ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms) > 0;
}

/* --- writing --- */

static gw_err write_all(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return GW_EIO;
        }
        p += done;
        n -= (size_t)done;
    }
    return GW_OK;
}

static gw_err flush_locked(struct wire *w)
{
    gw_err err = write_all(w->fd, w->out.data, w->out.len);
    buf_reset(&w->out);
    return err;
}

static gw_err queue_locked(struct wire *w, const struct buf *frames)
{
    if (w->out.len + frames->len > WIRE_QUEUE_BYTES) {
        GW_TRY(flush_locked(w));
        return write_all(w->fd, frames->data, frames->len); /* not copied */
    }
    buf_add(&w->out, frames->data, frames->len);
    return buf_ok(&w->out) ? GW_OK : GW_ENOMEM;
}

gw_err wire_queue(struct wire *w, const struct buf *frames)
{
    pthread_mutex_lock(&w->lock);
    gw_err err = queue_locked(w, frames);
    pthread_mutex_unlock(&w->lock);
    return err;
}

gw_err wire_flush(struct wire *w)
{
    pthread_mutex_lock(&w->lock);
    gw_err err = flush_locked(w);
    pthread_mutex_unlock(&w->lock);
    return err;
}

gw_err wire_write(struct wire *w, const struct buf *frames)
{
    pthread_mutex_lock(&w->lock);
    gw_err err = GW_OK;
    if (w->out.len == 0) {
        err = write_all(w->fd, frames->data, frames->len);
    } else {
        err = queue_locked(w, frames);
        err = err == GW_OK ? flush_locked(w) : err;
    }
    pthread_mutex_unlock(&w->lock);
    return err;
}
