#include "host/net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Several TLS records per read(2) on bulk; released when empty (SSL_MODE_RELEASE_BUFFERS). */
#define TLS_READ_BYTES (64u * 1024)

void stream_set_tcp(int fd)
{
    int one = 1, idle_s = 30, interval_s = 10, count = 3;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

struct stream stream_over(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK)) {
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    return (struct stream){.fd = fd};
}

gw_err stream_start_tls(struct stream *s, SSL_CTX *ctx, bool server)
{
    SSL *ssl = SSL_new(ctx);
    if (!ssl) {
        return GW_ENOMEM;
    }
    if (SSL_set_fd(ssl, s->fd) != 1) {
        SSL_free(ssl);
        return GW_ENOMEM;
    }
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    SSL_set_read_ahead(ssl, 1);
    SSL_set_default_read_buffer_len(ssl, TLS_READ_BYTES);
    if (server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    s->ssl = ssl;
    return GW_OK;
}

static stream_result fail_errno(struct stream *s, int err)
{
    s->broken = true;
    snprintf(s->why, sizeof s->why, "%s", strerror(err));
    return STREAM_ERROR;
}

/* A certificate fault is said first: the error queue only says "certificate verify failed". */
static stream_result fail_tls(struct stream *s)
{
    s->broken = true;
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);
    long verify = SSL_get_verify_result(s->ssl);
    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK) {
        reason = X509_verify_cert_error_string(verify);
    }
    snprintf(s->why, sizeof s->why, "tls: %s", reason ? reason : "failed");
    ERR_clear_error();
    return STREAM_ERROR;
}

static stream_result tls_result(struct stream *s, int ret, bool *wants_other, int other)
{
    int err = SSL_get_error(s->ssl, ret);
    *wants_other = err == other;
    switch (err) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return STREAM_AGAIN;
    case SSL_ERROR_ZERO_RETURN: return STREAM_EOF;
    case SSL_ERROR_SYSCALL: {
        int saved = errno;
        s->broken = true;
        ERR_clear_error();
        return saved == 0 ? STREAM_EOF : fail_errno(s, saved);
    }
    default:
        /* Frames and Content-Length delimit what matters, so a missing close_notify is only an end.
         */
        if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            s->broken = true;
            ERR_clear_error();
            return STREAM_EOF;
        }
        return fail_tls(s);
    }
}

stream_result stream_handshake(struct stream *s)
{
    if (!s->ssl) {
        return STREAM_OK;
    }
    ERR_clear_error();
    int ret = SSL_do_handshake(s->ssl);
    if (ret == 1) {
        s->write_wants_read = false;
        return STREAM_OK;
    }
    bool wants_write;
    stream_result r = tls_result(s, ret, &wants_write, SSL_ERROR_WANT_WRITE);
    s->write_wants_read = r == STREAM_AGAIN && !wants_write;
    return r;
}

stream_result stream_read(struct stream *s, void *to, size_t room, size_t *ret_n)
{
    if (s->broken || s->fd < 0) {
        return STREAM_ERROR;
    }
    if (!s->ssl) {
        ssize_t n;
        do {
            n = recv(s->fd, to, room, 0);
        } while (n < 0 && errno == EINTR);
        if (n > 0) {
            *ret_n = (size_t)n;
            return STREAM_OK;
        }
        if (n == 0) {
            return STREAM_EOF;
        }
        return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : fail_errno(s, errno);
    }
    ERR_clear_error();
    errno = 0;
    int ret = SSL_read_ex(s->ssl, to, room, ret_n);
    if (ret == 1) {
        s->read_wants_write = false;
        return STREAM_OK;
    }
    return tls_result(s, ret, &s->read_wants_write, SSL_ERROR_WANT_WRITE);
}

stream_result stream_write(struct stream *s, const void *from, size_t n, size_t *ret_n)
{
    if (s->broken || s->fd < 0) {
        return STREAM_ERROR;
    }
    if (!s->ssl) {
        ssize_t sent;
        do {
            sent = send(s->fd, from, n, MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR);
        if (sent >= 0) {
            *ret_n = (size_t)sent;
            return STREAM_OK;
        }
        return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : fail_errno(s, errno);
    }
    ERR_clear_error();
    errno = 0;
    int ret = SSL_write_ex(s->ssl, from, n, ret_n);
    if (ret == 1) {
        s->write_wants_read = false;
        return STREAM_OK;
    }
    return tls_result(s, ret, &s->write_wants_read, SSL_ERROR_WANT_READ);
}

gw_err stream_gather(struct stream *s, size_t bytes)
{
    if (!s->ssl) {
        return GW_OK;
    }
    BIO *socket = SSL_get_wbio(s->ssl), *gather = BIO_new(BIO_f_buffer());
    if (!gather || BIO_set_write_buffer_size(gather, (long)bytes) != 1 || !BIO_up_ref(socket)) {
        BIO_free(gather);
        return GW_ENOMEM;
    }
    SSL_set0_wbio(s->ssl, BIO_push(gather, socket));
    s->gathers = true;
    return GW_OK;
}

stream_result stream_flush(struct stream *s)
{
    if (!s->gathers || s->broken) {
        return s->broken ? STREAM_ERROR : STREAM_OK;
    }
    BIO *gather = SSL_get_wbio(s->ssl);
    errno = 0;
    if (BIO_flush(gather) == 1) {
        return STREAM_OK;
    }
    return BIO_should_retry(gather) ? STREAM_AGAIN : fail_errno(s, errno ? errno : EPIPE);
}

bool stream_has_pending(const struct stream *s)
{
    return s->ssl && !s->broken && SSL_has_pending(s->ssl) == 1;
}

void stream_shutdown(struct stream *s)
{
    if (s->fd < 0 || s->broken) {
        return;
    }
    if (s->ssl && SSL_is_init_finished(s->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(s->ssl);
        ERR_clear_error();
    }
    (void)shutdown(s->fd, SHUT_WR);
}

void stream_close(struct stream *s)
{
    if (s->ssl) {
        if (!s->broken && SSL_is_init_finished(s->ssl) &&
            !(SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN)) {
            ERR_clear_error();
            (void)SSL_shutdown(s->ssl);
            ERR_clear_error();
        }
        SSL_free(s->ssl);
    }
    if (s->fd >= 0 && (s->ssl || s->fd > 0)) {
        close(s->fd);
    }
    *s = (struct stream){.fd = -1};
}

struct stream stream_take(struct stream *from)
{
    struct stream out = *from;
    *from = (struct stream){.fd = -1};
    return out;
}
