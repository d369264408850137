#include "host/trust/pinned.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#include "protocol/text.h"

#define HOST_BYTES   254
#define DEFAULT_PORT "7420"

struct pinned {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    const uint8_t *pin;
    X509 *ca;               /* of the server's chain, its fingerprint is the pin */
    STACK_OF(X509) * trust; /* just the CA */
    bool wrong_ca;
    int64_t deadline_ms; /* monotonic */
    char host[HOST_BYTES];
    char port[6];
};

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void pinned_close(struct pinned **at)
{
    struct pinned *w = *at;
    if (!w) {
        return;
    }
    SSL_free(w->ssl);
    SSL_CTX_free(w->ctx);
    X509_free(w->ca);
    sk_X509_free(w->trust);
    if (w->fd >= 0) {
        close(w->fd);
    }
    free(w);
    *at = NULL;
}

SSL *pinned_ssl(struct pinned *w)
{
    return w->ssl;
}

X509 *pinned_ca(struct pinned *w)
{
    return w->ca;
}

/* --- connecting --- */

/* https://HOST[:PORT][/]; HOST may be [v6]. */
static gw_err parse_url(struct pinned *w, const char *url, struct gw_error *why)
{
    static const char scheme[] = "https://";
    const char *p = strncmp(url, scheme, sizeof scheme - 1) == 0 ? url + sizeof scheme - 1 : "";
    bool six = *p == '[';
    const char *host = p + six;
    size_t n = strcspn(host, six ? "]" : ":/");
    const char *after = host + n + (six && host[n] == ']');
    const char *port = *after == ':' ? after + 1 : DEFAULT_PORT;
    size_t port_n = *after == ':' ? strspn(port, "0123456789") : strlen(port);
    const char *end = *after == ':' ? port + port_n : after;
    if (n == 0 || n >= sizeof w->host || (six && host[n] != ']') || port_n == 0 ||
        port_n >= sizeof w->port || (*end && strcmp(end, "/") != 0)) {
        return gw_fail(why, GW_EARG, "not a URL of the form https://HOST:PORT");
    }
    memcpy(w->host, host, n);
    w->host[n] = '\0';
    memcpy(w->port, port, port_n);
    w->port[port_n] = '\0';
    return GW_OK;
}

/* Wait until the socket is ready or time is up. */
static gw_err wait_for(struct pinned *w, short events, struct gw_error *why)
{
    for (;;) {
        int64_t left = w->deadline_ms - monotonic_ms();
        struct pollfd p = {.fd = w->fd, .events = events};
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n > 0) {
            return GW_OK;
        }
        if (n == 0) {
            return gw_fail(why, GW_ETIMEOUT, "no answer within %d s", LIMIT_JOIN_MS / 1000);
        }
        if (errno != EINTR) {
            return gw_fail(why, GW_EUNREACHABLE, "%s", strerror(errno));
        }
    }
}

static gw_err connect_one(struct pinned *w, const struct addrinfo *a, struct gw_error *why)
{
    w->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (w->fd < 0) {
        return gw_fail(why, GW_EUNREACHABLE, "%s", strerror(errno));
    }
    int error = connect(w->fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        gw_err err = wait_for(w, POLLOUT, why);
        socklen_t n = sizeof error;
        if (err || getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0) {
            close(w->fd);
            w->fd = -1;
            return err ? err : gw_fail(why, GW_EUNREACHABLE, "%s", strerror(errno));
        }
    }
    if (error) {
        close(w->fd);
        w->fd = -1;
        return gw_fail(why, GW_EUNREACHABLE, "%s", strerror(error));
    }
    return GW_OK;
}

static gw_err connect_to(struct pinned *w, struct gw_error *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int bad = getaddrinfo(w->host, w->port, &hints, &list);
    if (bad == EAI_NONAME || bad == EAI_ADDRFAMILY) {
        hints.ai_flags = 0; /* a machine with loopback only has no "configured" address */
        bad = getaddrinfo(w->host, w->port, &hints, &list);
    }
    if (bad) {
        return gw_fail(why, GW_EUNREACHABLE, "%s", gai_strerror(bad));
    }
    w->deadline_ms = monotonic_ms() + LIMIT_JOIN_MS;
    gw_err err = GW_EUNREACHABLE;
    for (const struct addrinfo *a = list; a && err; a = a->ai_next) {
        err = connect_one(w, a, why);
    }
    freeaddrinfo(list);
    return err;
}

/* --- TLS --- */

/* What a failed TLS call wants: GW_OK = try again. */
static gw_err after_ssl(struct pinned *w, int result, struct gw_error *why)
{
    char text[160];
    int error = SSL_get_error(w->ssl, result);
    if (error == SSL_ERROR_WANT_READ) {
        return wait_for(w, POLLIN, why);
    }
    if (error == SSL_ERROR_WANT_WRITE) {
        return wait_for(w, POLLOUT, why);
    }
    if (w->wrong_ca) {
        ERR_clear_error();
        gw_err err = gw_fail(why, GW_EDENIED,
                             "it is not a host of the token's mesh (its CA is another one)");
        gw_hint(why, "somebody else answers there, or the mesh was made anew: make a new token");
        return err;
    }
    long verify = SSL_get_verify_result(w->ssl);
    if (verify != X509_V_OK) {
        ERR_clear_error();
        gw_err err = gw_fail(why, GW_EDENIED, "its certificate does not verify: %s",
                             X509_verify_cert_error_string(verify));
        gw_hint(why, "if it is not yet valid or has expired, compare the clocks of both machines");
        return err;
    }
    if (error == SSL_ERROR_SYSCALL || error == SSL_ERROR_ZERO_RETURN) {
        ERR_clear_error();
        return gw_fail(why, GW_EUNREACHABLE, "the connection was cut off");
    }
    return gw_fail(why, GW_EUNREACHABLE, "TLS failed: %s", certs_openssl_error(text));
}

/* Stands for the whole verification: first the pin, then the chain up to the certificate that has
 * it. */
static int verify_chain(X509_STORE_CTX *store, void *arg)
{
    struct pinned *w = arg;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
    uint8_t print[CERTS_FINGERPRINT_BYTES];
    for (int i = 0; i < sk_X509_num(chain) && !w->ca; i++) {
        X509 *cert = sk_X509_value(chain, i);
        if (certs_fingerprint(cert, print) == GW_OK && memcmp(print, w->pin, sizeof print) == 0) {
            X509_up_ref(cert);
            w->ca = cert;
        }
    }
    if (!w->ca) {
        w->wrong_ca = true;
        X509_STORE_CTX_set_error(store, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
        return 0;
    }
    w->trust = sk_X509_new_null();
    if (!w->trust || sk_X509_push(w->trust, w->ca) <= 0) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
        return 0;
    }
    X509_STORE_CTX_set0_trusted_stack(store, w->trust);
    return X509_verify_cert(store) == 1;
}

static gw_err shake(struct pinned *w, struct gw_error *why)
{
    w->ctx = SSL_CTX_new(TLS_client_method());
    if (!w->ctx || SSL_CTX_set_min_proto_version(w->ctx, TLS1_3_VERSION) != 1) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(w->ctx), X509_V_FLAG_X509_STRICT);
    SSL_CTX_set_verify(w->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(w->ctx, verify_chain, w);
    w->ssl = SSL_new(w->ctx);
    if (!w->ssl || SSL_set_fd(w->ssl, w->fd) != 1) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    for (int n; (n = SSL_connect(w->ssl)) != 1;) {
        GW_TRY(after_ssl(w, n, why));
    }
    return GW_OK;
}

gw_err pinned_open(const char *url, const uint8_t pin[CERTS_FINGERPRINT_BYTES], struct pinned **ret,
                   struct gw_error *why)
{
    GW_AUTO(pinned_close) struct pinned *w = calloc(1, sizeof *w);
    if (!w) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    w->fd = -1;
    w->pin = pin;
    GW_TRY(parse_url(w, url, why));
    GW_TRY(connect_to(w, why));
    GW_TRY(shake(w, why));
    w->pin = NULL;
    *ret = w;
    w = NULL;
    return GW_OK;
}

/* --- HTTP --- */

static gw_err write_all(struct pinned *w, struct span s, struct gw_error *why)
{
    while (s.n > 0) {
        int n = SSL_write(w->ssl, s.p, (int)s.n);
        if (n <= 0) {
            GW_TRY(after_ssl(w, n, why));
            continue;
        }
        s.p += n;
        s.n -= (size_t)n;
    }
    return GW_OK;
}

/* More bytes of the answer; ret_end when the server has closed. */
static gw_err read_more(struct pinned *w, struct buf *in, bool *ret_end, struct gw_error *why)
{
    if (in->len >= LIMIT_JOIN_ANSWER_BYTES) {
        return gw_fail(why, GW_EPROTO, "its answer is larger than %u bytes",
                       LIMIT_JOIN_ANSWER_BYTES);
    }
    if (!buf_reserve(in, 4096)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    for (;;) {
        int n = SSL_read(w->ssl, in->data + in->len, 4096);
        if (n > 0) {
            in->len += (size_t)n;
            return GW_OK;
        }
        if (SSL_get_error(w->ssl, n) == SSL_ERROR_ZERO_RETURN) {
            *ret_end = true;
            return GW_OK;
        }
        GW_TRY(after_ssl(w, n, why));
    }
}

struct head {
    int status;
    size_t bytes; /* of the head with its empty line */
    bool has_length;
    size_t length; /* of the body */
};

/* Value of a header line, or NULL. */
static const char *header_value(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncasecmp(line, name, n) == 0 && line[n] == ':'
               ? line + n + 1 + strspn(line + n + 1, " \t")
               : NULL;
}

static bool parse_status(const char *text, int *ret)
{
    static const char version[] = "HTTP/1.";
    const char *p = text + sizeof version - 1;
    if (strncmp(text, version, sizeof version - 1) != 0 || (p[0] != '0' && p[0] != '1') ||
        p[1] != ' ' || strspn(p + 2, "0123456789") != 3) {
        return false;
    }
    *ret = (p[2] - '0') * 100 + (p[3] - '0') * 10 + (p[4] - '0');
    return true;
}

/* `text` is the head, NUL-terminated, up to and without its empty line. */
static gw_err parse_head(char *text, struct head *h, struct gw_error *why)
{
    bool good = parse_status(text, &h->status);
    for (char *line = text; good && (line = strstr(line, "\r\n")) != NULL;) {
        line += 2;
        const char *value = header_value(line, "Content-Length");
        uint64_t n = 0;
        char digits[12] = "";
        if (value) {
            size_t k = strspn(value, "0123456789");
            good = !h->has_length && k > 0 && k < sizeof digits &&
                   (value[k] == '\r' || value[k] == '\0');
            memcpy(digits, value, good ? k : 0);
            good = good && text_uint(digits, &n) == GW_OK && n <= LIMIT_JOIN_ANSWER_BYTES;
            h->has_length = true;
            h->length = (size_t)n;
        }
        good = good && !header_value(line, "Transfer-Encoding");
    }
    return good ? GW_OK : gw_fail(why, GW_EPROTO, "its answer is not HTTP as expected");
}

/* Whether the whole head is there; then parsed. */
static gw_err take_head(const struct buf *in, struct head *h, struct gw_error *why)
{
    const uint8_t *end = in->len ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    if (!end) {
        return GW_EAGAIN;
    }
    size_t n = (size_t)(end - in->data);
    GW_AUTO(free_charp) char *text = strndup((const char *)in->data, n);
    if (!text) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    h->bytes = n + 4;
    return parse_head(text, h, why);
}

static gw_err read_answer(struct pinned *w, struct buf *in, struct head *h, struct gw_error *why)
{
    bool end = false, have_head = false;
    for (;;) {
        if (!have_head) {
            gw_err err = take_head(in, h, why);
            if (err && err != GW_EAGAIN) {
                return err;
            }
            have_head = err == GW_OK;
        }
        if (have_head && (h->has_length ? in->len - h->bytes >= h->length : end)) {
            return GW_OK;
        }
        if (end) {
            return gw_fail(why, GW_EUNREACHABLE, "the connection was cut off");
        }
        GW_TRY(read_more(w, in, &end, why));
    }
}

gw_err pinned_post(struct pinned *w, const char *path, struct span body, int *ret_status,
                   struct buf *ret_body, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf out = {0};
    GW_AUTO(buf_free) struct buf in = {0};
    bool six = strchr(w->host, ':') != NULL;
    buf_addf(&out,
             "POST %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nContent-Type: application/json\r\n"
             "Accept: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
             path, six ? "[" : "", w->host, six ? "]" : "", w->port, body.n);
    buf_add(&out, body.p, body.n);
    if (!buf_ok(&out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    struct head h = {0};
    GW_TRY(write_all(w, buf_span(&out), why));
    GW_TRY(read_answer(w, &in, &h, why));
    buf_drop(&in, h.bytes);
    if (h.has_length) {
        in.len = h.length;
    }
    *ret_status = h.status;
    *ret_body = buf_take(&in);
    return GW_OK;
}
