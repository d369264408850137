/* A non-blocking stream of bytes over a connected socket, with or without TLS. Used by links and by
 * the HTTP server; it owns the descriptor and the SSL object. One thread.
 *
 * TLS may want to write in order to read and the reverse: after STREAM_AGAIN the flags say for
 * which readiness of the socket to wait. */
#ifndef HOST_NET_STREAM_H
#define HOST_NET_STREAM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/buf.h"

struct stream {
    int fd;                /* owned; -1 = none */
    SSL *ssl;              /* owned; NULL = plain */
    bool read_wants_write; /* the last STREAM_AGAIN of a read waits for the socket to take bytes */
    bool write_wants_read; /* the last STREAM_AGAIN of a write (or handshake) waits for bytes */
    bool gathers;          /* stream_gather */
    bool broken;           /* an error happened: no more calls but stream_close */
    char why[160];         /* text of the last STREAM_ERROR */
};
typedef enum stream_result { STREAM_OK, STREAM_AGAIN, STREAM_EOF, STREAM_ERROR } stream_result;

/* Plain stream over `fd`, which becomes non-blocking. */
struct stream stream_over(int fd);
/* A TCP socket of ours: no delay, and keep-alive probes: a connection whose other end has lost its
 * power ends after a minute. */
void stream_set_tcp(int fd);
/* Put TLS above it: `ctx` of host/trust, as the server or the client of the handshake. */
gw_err stream_start_tls(struct stream *s, SSL_CTX *ctx, bool server) GW_MUST_USE;
/* Go on with the handshake: OK done, AGAIN, ERROR (`why` says what). EOF: the other side went away.
 */
stream_result stream_handshake(struct stream *s);
/* OK: 1 .. room bytes. EOF: the other side ended its sending, orderly or not. */
stream_result stream_read(struct stream *s, void *to, size_t room, size_t *ret_n);
/* OK: some bytes were taken. After AGAIN the next write must begin with the same bytes. */
stream_result stream_write(struct stream *s, const void *from, size_t n, size_t *ret_n);
/* For bulk, after the handshake: gather what is written, so that several TLS records leave in one
 * system call, which halves the cost of sending. From then on stream_write may keep up to `bytes`
 * back: flush before waiting for the other side. GW_ENOMEM. */
gw_err stream_gather(struct stream *s, size_t bytes) GW_MUST_USE;
/* OK: nothing is kept back. AGAIN: the socket takes no more. */
stream_result stream_flush(struct stream *s);
/* Whether bytes wait inside the TLS layer, which the socket's readiness does not tell. */
bool stream_has_pending(const struct stream *s);
/* End sending: close_notify and FIN. Reading goes on. */
void stream_shutdown(struct stream *s);
/* Orderly when it can be without waiting. Idempotent; leaves an empty stream. */
void stream_close(struct stream *s);
/* Move out; `from` is empty afterwards. */
struct stream stream_take(struct stream *from);

#endif
