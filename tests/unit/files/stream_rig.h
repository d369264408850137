/* A pair of byte streams over a socketpair, as a transfer session uses them, which can be cut after
 * so many bytes and be slow. For test programs: everything is static. */
#ifndef TESTS_UNIT_FILES_STREAM_RIG_H
#define TESTS_UNIT_FILES_STREAM_RIG_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/files/io.h"

struct stream {
    struct bulk_io io;
    int fd;
    uint64_t written, taken; /* bytes */
    uint64_t cut_at;         /* so many written: the connection breaks; 0: never */
    uint64_t alter_at;       /* this byte that is written changes on its way; 0: none */
    bool impatient;          /* a wait that ends without anything breaks the connection */
    size_t most;             /* bytes that one call moves; 0: as many as there are */
};

static inline gw_err stream_read(void *ctx, void *to, size_t room, size_t *ret_n)
{
    struct stream *s = ctx;
    size_t want = s->most && s->most < room ? s->most : room;
    ssize_t n = recv(s->fd, to, want, MSG_DONTWAIT);
    if (n > 0) {
        *ret_n = (size_t)n;
        s->taken += (size_t)n;
        return GW_OK;
    }
    return n == 0                                    ? GW_ENOT_FOUND
           : errno == EAGAIN || errno == EWOULDBLOCK ? GW_EAGAIN
                                                     : GW_EUNREACHABLE;
}

static inline gw_err stream_write(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    struct stream *s = ctx;
    size_t want = s->most && s->most < n ? s->most : n;
    if (s->cut_at && s->written + want >= s->cut_at) {
        want = (size_t)(s->cut_at - s->written);
        if (want == 0) {
            shutdown(s->fd, SHUT_RDWR);
            return GW_EUNREACHABLE;
        }
    }
    uint8_t *altered = NULL;
    if (s->alter_at > s->written && s->alter_at <= s->written + want) {
        altered = malloc(want);
        assert_non_null(altered);
        memcpy(altered, from, want);
        altered[s->alter_at - s->written - 1] ^= 0x40;
    }
    ssize_t sent = send(s->fd, altered ? altered : from, want, MSG_DONTWAIT | MSG_NOSIGNAL);
    free(altered);
    if (sent > 0) {
        *ret_n = (size_t)sent;
        s->written += (size_t)sent;
        return GW_OK;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? GW_EAGAIN : GW_EUNREACHABLE;
}

static inline gw_err stream_wait(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    struct stream *s = ctx;
    struct pollfd p = {.fd = s->fd,
                       .events = (short)((to_read ? POLLIN : 0) | (to_write ? POLLOUT : 0))};
    int wait_ms = s->impatient && timeout_ms > 50 ? 50 : timeout_ms;
    return poll(&p, 1, wait_ms) != 0 ? GW_OK : s->impatient ? GW_EUNREACHABLE : GW_ETIMEOUT;
}

static inline void stream_describe(void *ctx, struct gw_error *why)
{
    (void)ctx;
    (void)gw_fail(why, GW_EUNREACHABLE, "the test cut the connection");
}

static inline void stream_over(struct stream *s, int fd)
{
    *s = (struct stream){.fd = fd,
                         .io = {s, stream_read, stream_write, stream_wait, stream_describe}};
}

static inline void stream_pair(struct stream *a, struct stream *b)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    stream_over(a, fd[0]);
    stream_over(b, fd[1]);
}

static inline void stream_close(struct stream *s)
{
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
}

/* xorshift64*: bytes that no compressor likes, the same for the same seed. */
static inline uint64_t noise(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ULL;
}

static inline void noise_fill(uint64_t seed, void *to, size_t n)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;
    uint8_t *p = to;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = noise(&state);
        memcpy(p + i, &v, n - i < 8 ? n - i : 8);
    }
}

#endif
