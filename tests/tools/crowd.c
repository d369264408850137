/* Many clients without a certificate that are no good to a host.
 *
 *   crowd ADDR PORT MODE COUNT [BYTES]
 *
 *   idle    the TLS handshake, and nothing more
 *   kept    one request (GET /v1/health) and its answer, and nothing more
 *   shake   a TLS handshake of one byte a second
 *   head    after the handshake the head of a request, one byte a second
 *   body    a head that declares 1,000 bytes, then one byte of them a second
 *   flood   a head that declares BYTES, then so many of them as the host takes, whatever it answers
 *   chunks  the same with chunks, without end
 *
 * Prints {"up": n} when each has begun (or failed to), and at the end {open, failed, closed,
 * status, answers, sent_bytes, up_s, first_end_s, last_end_s}: `failed` before the end of the
 * handshake, `closed` after it, `status` of the last answer, ends counted from the start of the
 * program. Ends when all connections have ended, or on SIGTERM with those that are left `open`. */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE     64 /* handshakes under way: fewer than the backlog of the listener */
#define BLOCK_BYTES (64u * 1024)

typedef enum mode { IDLE, KEPT, SHAKE, HEAD, BODY, FLOOD, CHUNKS, MODES } mode;
static const char *const mode_names[MODES] = {"idle", "kept",  "shake", "head",
                                              "body", "flood", "chunks"};

struct client {
    struct crowd *crowd;
    int fd;
    SSL *ssl; /* NULL: shake writes raw bytes */
    bool up;  /* has got as far as it should */
    struct event *io, *drip;
    size_t said; /* bytes of what it drips or floods */
    char answer[64];
    size_t answered;
};

struct crowd {
    struct event_base *base;
    SSL_CTX *ctx;
    struct sockaddr_in to;
    mode mode;
    long count, begun, up, open, failed, closed, answers, status;
    uint64_t bytes, sent;
    double start, up_at, first_end, last_end;
    struct client *clients;
    char head[256];
    size_t head_len;
};

static void begin_more(struct crowd *c);
static void step(struct client *k);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void tell_up(struct crowd *c)
{
    if (c->up_at == 0 && c->up + c->failed >= c->count) {
        c->up_at = now() - c->start;
        printf("{\"up\": %ld}\n", c->up);
        fflush(stdout);
    }
}

/* ---- one client ---- */

static void client_up(struct client *k)
{
    if (!k->up) {
        k->up = true;
        k->crowd->up++;
        tell_up(k->crowd);
        begin_more(k->crowd);
    }
}

static void client_end(struct client *k)
{
    struct crowd *c = k->crowd;
    double at = now() - c->start;
    bool failed = !k->up;
    if (k->answered >= 12) {
        c->answers++;
        c->status = strtol(k->answer + 9, NULL, 10);
    }
    event_free(k->io);
    event_free(k->drip);
    SSL_free(k->ssl);
    close(k->fd);
    k->fd = -1;
    c->open--;
    c->failed += failed;
    c->closed += !failed;
    c->first_end = c->first_end > 0 ? c->first_end : at;
    c->last_end = at;
    tell_up(c);
    begin_more(c);
    if (c->open == 0 && c->begun == c->count) {
        event_base_loopbreak(c->base);
    }
}

/* Wait for what TLS wants. */
static void wait_for(struct client *k, int ret)
{
    short what = SSL_get_error(k->ssl, ret) == SSL_ERROR_WANT_WRITE ? EV_WRITE : EV_READ;
    event_del(k->io);
    event_assign(k->io, k->crowd->base, k->fd, what, event_get_callback(k->io), k);
    event_add(k->io, NULL);
}

/* False: the connection has ended, or there is nothing now. */
static bool take_answer(struct client *k)
{
    char block[4096];
    for (;;) {
        ERR_clear_error();
        int n = SSL_read(k->ssl, block, sizeof block);
        if (n <= 0) {
            int err = SSL_get_error(k->ssl, n);
            if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE) {
                return true;
            }
            client_end(k);
            return false;
        }
        size_t room = sizeof k->answer - 1 - k->answered;
        size_t part = (size_t)n < room ? (size_t)n : room;
        memcpy(k->answer + k->answered, block, part);
        k->answered += part;
        if (k->crowd->mode == KEPT) {
            client_up(k);
        }
    }
}

/* Write on, as much as goes, up to `most`. */
static bool say(struct client *k, const char *text, size_t most)
{
    struct crowd *c = k->crowd;
    ERR_clear_error();
    int n = SSL_write(k->ssl, text, (int)most);
    if (n > 0) {
        k->said += (size_t)n;
        c->sent += (uint64_t)n;
        return true;
    }
    int err = SSL_get_error(k->ssl, n);
    if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE) {
        wait_for(k, n);
    } else {
        client_end(k);
    }
    return false;
}

/* The head, then as much as the host takes. */
static void flood(struct client *k)
{
    struct crowd *c = k->crowd;
    static char block[BLOCK_BYTES];
    for (int i = 0; i < 64; i++) {
        if (k->said < c->head_len) {
            if (!say(k, c->head + k->said, c->head_len - k->said)) {
                return;
            }
            continue;
        }
        if (c->mode == FLOOD && k->said - c->head_len >= c->bytes) {
            break;
        }
        if (block[0] == '\0') {
            memset(block, 'x', sizeof block);
            for (size_t at = 0; c->mode == CHUNKS && at < sizeof block; at += 4096) {
                memcpy(block + at, "ff9\r\n", 5); /* 4089 bytes and CRLF */
                memcpy(block + at + 4094, "\r\n", 2);
            }
        }
        if (!say(k, block, sizeof block)) {
            return;
        }
    }
    struct timeval soon = {0, 0};
    if (!take_answer(k)) {
        return;
    }
    event_add(k->drip, &soon);
}

static void begin_talk(struct client *k)
{
    struct crowd *c = k->crowd;
    struct timeval second = {1, 0};
    if (c->mode != KEPT) {
        client_up(k);
    }
    switch (c->mode) {
    case FLOOD:
    case CHUNKS: flood(k); return;
    case KEPT:
    case BODY:
        if (!say(k, c->head, c->head_len)) {
            return;
        }
        break;
    default: break;
    }
    if (c->mode == HEAD || c->mode == BODY) {
        event_add(k->drip, &second);
    }
    event_del(k->io);
    event_assign(k->io, c->base, k->fd, EV_READ | EV_PERSIST, event_get_callback(k->io), k);
    event_add(k->io, NULL);
    (void)take_answer(k);
}

static void on_drip(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct client *k = arg;
    struct crowd *c = k->crowd;
    struct timeval second = {1, 0};
    if (c->mode == FLOOD || c->mode == CHUNKS) {
        flood(k);
        return;
    }
    if (c->mode == SHAKE) { /* a record of TLS 1.0, a ClientHello of 512 bytes: so far so good */
        static const char hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        if (send(k->fd, k->said < 11 ? hello + k->said : "r", 1, MSG_NOSIGNAL) != 1) {
            client_end(k);
            return;
        }
        k->said++;
        c->sent++;
    } else if (!say(k, c->mode == HEAD ? &c->head[k->said % c->head_len] : "b", 1)) {
        return;
    }
    event_add(k->drip, &second);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    step(arg);
}

/* Something can be read or written. */
static void step(struct client *k)
{
    if (!k->ssl) { /* shake: connected, or ended */
        char c;
        if (k->up && recv(k->fd, &c, 1, 0) >= 0) {
            client_end(k);
        } else if (!k->up) {
            client_up(k);
            event_del(k->io);
            event_assign(k->io, k->crowd->base, k->fd, EV_READ | EV_PERSIST, on_io, k);
            event_add(k->io, NULL);
            on_drip(-1, 0, k);
        } else if (errno != EAGAIN) {
            client_end(k);
        }
        return;
    }
    if (SSL_is_init_finished(k->ssl)) {
        if (k->crowd->mode == FLOOD || k->crowd->mode == CHUNKS) {
            flood(k);
        } else {
            (void)take_answer(k);
        }
        return;
    }
    ERR_clear_error();
    int ret = SSL_do_handshake(k->ssl);
    if (ret == 1) {
        begin_talk(k);
        return;
    }
    int err = SSL_get_error(k->ssl, ret);
    if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE) {
        wait_for(k, ret);
    } else {
        client_end(k);
    }
}

static void begin_one(struct crowd *c)
{
    struct client *k = &c->clients[c->begun++];
    k->crowd = c;
    k->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0 ||
        (connect(k->fd, (struct sockaddr *)&c->to, sizeof c->to) != 0 && errno != EINPROGRESS)) {
        fprintf(stderr, "crowd: %s\n", strerror(errno));
        exit(1);
    }
    c->open++;
    k->io = event_new(c->base, k->fd, EV_WRITE, on_io, k);
    k->drip = event_new(c->base, -1, 0, on_drip, k);
    if (c->mode != SHAKE) {
        k->ssl = SSL_new(c->ctx);
        SSL_set_fd(k->ssl, k->fd);
        SSL_set_connect_state(k->ssl);
        SSL_set_mode(k->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS);
    }
    event_add(k->io, NULL);
}

static void begin_more(struct crowd *c)
{
    while (c->begun < c->count && c->begun - c->up - c->failed < AT_ONCE) {
        begin_one(c);
    }
}

/* ---- the program ---- */

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
    (void)sig, (void)what;
    event_base_loopbreak(arg);
}

static void make_head(struct crowd *c)
{
    char framing[64] = "Transfer-Encoding: chunked";
    if (c->mode != CHUNKS) {
        snprintf(framing, sizeof framing, "Content-Length: %llu",
                 (unsigned long long)(c->mode == FLOOD ? c->bytes : 1000));
    }
    int n;
    if (c->mode == KEPT) {
        n = snprintf(c->head, sizeof c->head, "GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
    } else if (c->mode == HEAD) {
        n = snprintf(c->head, sizeof c->head, "GET /v1/health HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaa");
    } else {
        n = snprintf(c->head, sizeof c->head, "POST /v1/join HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n",
                     framing);
    }
    c->head_len = (size_t)n;
}

static long number(const char *text, long least)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < least) {
        fprintf(stderr, "crowd: \"%s\" is not a number\n", text);
        exit(2);
    }
    return n;
}

static void read_arguments(struct crowd *c, int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: crowd ADDR PORT MODE COUNT [BYTES]\n");
        exit(2);
    }
    c->to = (struct sockaddr_in){.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)number(argv[2], 1))};
    while (c->mode < MODES && strcmp(mode_names[c->mode], argv[3]) != 0) {
        c->mode++;
    }
    if (inet_pton(AF_INET, argv[1], &c->to.sin_addr) != 1 || c->mode == MODES) {
        fprintf(stderr, "crowd: no such address or mode\n");
        exit(2);
    }
    c->count = number(argv[4], 1);
    c->bytes = argc > 5 ? (uint64_t)number(argv[5], 1) : 1ull << 30;
}

int main(int argc, char **argv)
{
    struct crowd c = {.start = now()};
    struct rlimit files;
    read_arguments(&c, argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    make_head(&c);
    c.base = event_base_new();
    c.ctx = SSL_CTX_new(TLS_client_method());
    c.clients = calloc((size_t)c.count, sizeof *c.clients);
    struct event *stop = evsignal_new(c.base, SIGTERM, on_stop, c.base);
    if (!c.ctx || !c.clients || !stop || event_add(stop, NULL) != 0) {
        return 1;
    }
    begin_more(&c);
    event_base_dispatch(c.base);
    printf("{\"open\": %ld, \"failed\": %ld, \"closed\": %ld, \"status\": %ld, \"answers\": %ld, "
           "\"sent_bytes\": %llu, \"up_s\": %.2f, \"first_end_s\": %.2f, \"last_end_s\": %.2f}\n",
           c.open, c.failed, c.closed, c.status, c.answers, (unsigned long long)c.sent, c.up_at,
           c.first_end, c.last_end);
    return 0;
}
