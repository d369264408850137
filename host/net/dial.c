#include "host/net/dial.h"

#include <errno.h>
#include <event2/dns.h>
#include <event2/event_struct.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/net/http_head.h"
#include "protocol/base/log.h"
#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/text.h"

#define ANSWER_BYTES (8u * 1024)
#define PORT_DEFAULT 7420

typedef enum dial_state {
    DIAL_LOOKUP,
    DIAL_CONNECT,
    DIAL_HANDSHAKE,
    DIAL_ASK,    /* the upgrade request is being written */
    DIAL_ANSWER, /* its answer is being read */
    DIAL_DONE    /* on_done is due */
} dial_state;

struct dial {
    struct event_base *base;
    struct trust *trust;
    struct host_id expect;
    char url[320];
    char host[256];
    char port[8];
    char upgrade[128];
    const char *path; /* static, as given */
    dial_done on_done;
    void *arg;
    dial_state state;
    struct evdns_base *dns;
    struct evdns_getaddrinfo_request *lookup;
    struct evutil_addrinfo *found, *next;
    struct stream io;
    struct event ev_io, ev_timer, ev_turn;
    int64_t answer_ms;
    bool io_added;
    struct trust_peer peer;
    char request[600];
    size_t request_len, request_at;
    struct buf answer;
    size_t scanned;
    struct gw_error why;
};

static void run(struct dial *d);

static void stop_io(struct dial *d)
{
    if (d->io_added) {
        event_del(&d->ev_io);
        d->io_added = false;
    }
}

static void dial_free(struct dial *d)
{
    stop_io(d);
    event_del(&d->ev_timer);
    event_del(&d->ev_turn);
    if (d->lookup) {
        evdns_getaddrinfo_cancel(d->lookup);
    }
    if (d->dns) {
        evdns_base_free(d->dns, 0);
    }
    if (d->found) {
        evutil_freeaddrinfo(d->found);
    }
    stream_close(&d->io);
    buf_free(&d->answer);
    free(d);
}

/* Failed: `d->why` is filled. Told in a later turn. */
static void fail(struct dial *d)
{
    stop_io(d);
    stream_close(&d->io);
    d->state = DIAL_DONE;
    event_active(&d->ev_turn, EV_TIMEOUT, 0);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run(arg);
}

static void wait_for(struct dial *d, short what)
{
    stop_io(d);
    event_assign(&d->ev_io, d->base, d->io.fd, what, on_io, d);
    event_add(&d->ev_io, NULL);
    d->io_added = true;
}

/* --- connect --- */

/* What a machine that has lost its power was sent is waited for no longer than probes take. */
static void set_tcp_options(int fd)
{
    int unheard_ms = 60000;
    stream_set_tcp(fd);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, sizeof unheard_ms);
}

/* Try the next address; all tried: failed, with the text of the last try. */
static void connect_next(struct dial *d)
{
    for (; d->next; d->next = d->next->ai_next) {
        struct evutil_addrinfo *a = d->next;
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
            set_tcp_options(fd);
            d->io = stream_over(fd);
            if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS) {
                d->next = a->ai_next;
                d->state = DIAL_CONNECT;
                wait_for(d, EV_WRITE);
                return;
            }
        }
        (void)gw_fail(&d->why, GW_EUNREACHABLE, "cannot connect to \"%s\": %s", d->url,
                      strerror(errno));
        stream_close(&d->io);
    }
    fail(d);
}

static void connected(struct dial *d)
{
    int err = 0;
    socklen_t len = sizeof err;
    (void)getsockopt(d->io.fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0) {
        (void)gw_fail(&d->why, GW_EUNREACHABLE, "cannot connect to \"%s\": %s", d->url,
                      strerror(err));
        stop_io(d);
        stream_close(&d->io);
        connect_next(d);
        return;
    }
    if (stream_start_tls(&d->io, d->trust->client, false) != GW_OK) {
        (void)gw_fail(&d->why, GW_ENOMEM, "out of memory");
        fail(d);
        return;
    }
    d->state = DIAL_HANDSHAKE;
    run(d);
}

static void on_lookup(int result, struct evutil_addrinfo *found, void *arg)
{
    struct dial *d = arg;
    d->lookup = NULL;
    if (result == EVUTIL_EAI_CANCEL) {
        return;
    }
    if (result != 0) {
        gw_fail(&d->why, GW_EUNREACHABLE, "cannot find the address of \"%s\": %s", d->host,
                evutil_gai_strerror(result));
        fail(d);
        return;
    }
    d->found = d->next = found;
    connect_next(d);
}

static void look_up(struct dial *d)
{
    struct evutil_addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = EVUTIL_AI_NUMERICHOST};
    if (evutil_getaddrinfo(d->host, d->port, &hints, &d->found) == 0) {
        d->next = d->found;
        connect_next(d);
        return;
    }
    d->found = NULL;
    d->dns = evdns_base_new(d->base,
                            EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (!d->dns) {
        (void)gw_fail(&d->why, GW_EUNREACHABLE, "cannot look up \"%s\": no name server is set up",
                      d->host);
        fail(d);
        return;
    }
    hints.ai_flags = EVUTIL_AI_ADDRCONFIG;
    d->lookup = evdns_getaddrinfo(d->dns, d->host, d->port, &hints, on_lookup, d);
}

/* --- TLS and upgrade --- */

/* The handshake is done: is it the host that we want? */
static gw_err check_peer(struct dial *d)
{
    char want[HOST_ID_TEXT], got[HOST_ID_TEXT];
    GW_TRY(trust_peer_of(d->trust, d->io.ssl, &d->peer, &d->why));
    if (d->peer.role != TRUST_HOST) {
        return gw_fail(&d->why, GW_EDENIED, "\"%s\" shows no host certificate", d->url);
    }
    if (!host_id_is_nil(&d->expect) && !host_id_equal(&d->expect, &d->peer.id)) {
        return gw_fail(&d->why, GW_EIDENTITY, "\"%s\" is host %s, not %s", d->url,
                       host_id_text(&d->peer.id, got), host_id_text(&d->expect, want));
    }
    return GW_OK;
}

static void lost(struct dial *d, stream_result r, const char *doing)
{
    bool certificate = strstr(d->io.why, "certificate") || strstr(d->io.why, "unknown ca");
    gw_fail(&d->why, certificate ? GW_EDENIED : GW_EUNREACHABLE,
            "\"%s\" ended the connection %s%s%s", d->url, doing, r == STREAM_ERROR ? ": " : "",
            r == STREAM_ERROR ? d->io.why : "");
    if (certificate) {
        gw_hint(&d->why, "is it a host of the same mesh, with a valid certificate?");
    }
    fail(d);
}

static void handshake(struct dial *d)
{
    stream_result r = stream_handshake(&d->io);
    if (r == STREAM_AGAIN) {
        wait_for(d, d->io.write_wants_read ? EV_READ : EV_WRITE);
        return;
    }
    if (r != STREAM_OK) {
        lost(d, r, "in the TLS handshake");
        return;
    }
    if (check_peer(d) != GW_OK) {
        fail(d);
        return;
    }
    d->request_len = (size_t)snprintf(d->request, sizeof d->request,
                                      "GET %s HTTP/1.1\r\nHost: %s:%s\r\n"
                                      "Connection: Upgrade\r\n%s\r\n",
                                      d->path, d->host, d->port, d->upgrade);
    d->state = DIAL_ASK;
    run(d);
}

static void start_timer(struct dial *d, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(&d->ev_timer, &tv);
}

static void ask(struct dial *d)
{
    size_t n = 0;
    stream_result r =
        stream_write(&d->io, d->request + d->request_at, d->request_len - d->request_at, &n);
    if (r == STREAM_OK) {
        d->request_at += n;
        if (d->request_at == d->request_len) {
            d->state = DIAL_ANSWER;
            if (d->answer_ms) {
                start_timer(d, d->answer_ms);
            }
        }
        run(d);
    } else if (r == STREAM_AGAIN) {
        wait_for(d, d->io.write_wants_read ? EV_READ : EV_WRITE);
    } else {
        lost(d, r, "before the upgrade");
    }
}

/* The error that the other host answered, in its own words. */
static void refused(struct dial *d, int status, struct span body)
{
    gw_value doc = gw_nil();
    const gw_value *error = NULL;
    if (json_parse((const char *)body.p, body.n, &doc, NULL) == GW_OK) {
        error = gw_map_get(&doc, "error");
    }
    const char *message = gw_map_str(error, "message", NULL);
    if (message) {
        (void)gw_fail(&d->why, gw_err_from_name(gw_map_str(error, "code", "")),
                      "\"%s\" refused the connection: %s", d->url, message);
        gw_hint(&d->why, "%s", gw_map_str(error, "hint", ""));
        text_clean(d->why.text);
        text_clean(d->why.hint);
    } else {
        (void)gw_fail(&d->why, GW_EPROTO, "\"%s\" is not a godwit host (HTTP status %d)", d->url,
                      status);
    }
    gw_value_free(&doc);
    fail(d);
}

static void succeed(struct dial *d, size_t head)
{
    struct span early = {d->answer.data + head, d->answer.len - head};
    stop_io(d);
    event_del(&d->ev_timer);
    d->on_done(d->arg, &d->io, &d->peer, early, NULL);
    dial_free(d);
}

/* A refusal is read to the end of its small body, if that comes. */
static bool body_is_whole(const struct buf *answer, size_t head)
{
    static const char name[] = "\r\nContent-Length: ";
    const char *at = memmem(answer->data, head, name, sizeof name - 1);
    size_t n = 0;
    for (at = at ? at + sizeof name - 1 : "x"; *at >= '0' && *at <= '9' && n < ANSWER_BYTES; at++) {
        n = n * 10 + (size_t)(*at - '0');
    }
    return answer->len - head >= n;
}

static void answer(struct dial *d)
{
    char chunk[2048];
    size_t n = 0;
    stream_result r = stream_read(&d->io, chunk, sizeof chunk, &n);
    if (r == STREAM_AGAIN) {
        wait_for(d, d->io.read_wants_write ? EV_WRITE : EV_READ);
        return;
    }
    if (r == STREAM_OK) {
        buf_add(&d->answer, chunk, n);
    }
    size_t head = http_head_length((const char *)d->answer.data, d->answer.len, &d->scanned);
    bool over = r != STREAM_OK || d->answer.len > ANSWER_BYTES || !buf_ok(&d->answer);
    if (head == 0) {
        if (!over) {
            run(d);
        } else if (d->answer.len > 0) {
            refused(d, 0, (struct span){0});
        } else {
            lost(d, r, "instead of an answer");
        }
        return;
    }
    d->scanned = 0;
    unsigned status = 0;
    if (d->answer.len < 12 || memcmp(d->answer.data, "HTTP/1.1 ", 9) != 0) {
        refused(d, 0, (struct span){0});
        return;
    }
    for (int i = 9; i < 12; i++) {
        status = status * 10 + (unsigned)((d->answer.data[i] - '0') & 15);
    }
    if (status == 101) {
        succeed(d, head);
    } else if (over || body_is_whole(&d->answer, head)) {
        refused(d, (int)status, (struct span){d->answer.data + head, d->answer.len - head});
    } else {
        run(d);
    }
}

/* Go on in the present state. May free the dial. */
static void run(struct dial *d)
{
    switch (d->state) {
    case DIAL_LOOKUP: look_up(d); break;
    case DIAL_CONNECT: connected(d); break;
    case DIAL_HANDSHAKE: handshake(d); break;
    case DIAL_ASK: ask(d); break;
    case DIAL_ANSWER: answer(d); break;
    case DIAL_DONE: break;
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct dial *d = arg;
    if (d->state == DIAL_DONE) {
        d->on_done(d->arg, NULL, NULL, (struct span){0}, &d->why);
        dial_free(d);
    } else {
        run(d);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct dial *d = arg;
    if (d->state != DIAL_DONE) {
        static const char *const doing[] = {"the look-up of its name",
                                            "the connection",
                                            "the TLS handshake",
                                            "the upgrade",
                                            "the upgrade",
                                            ""};
        (void)gw_fail(&d->why, GW_ETIMEOUT, "\"%s\" did not answer in time (%s)", d->url,
                      doing[d->state]);
        fail(d);
    }
}

/* https://HOST[:PORT][/] */
static gw_err parse_url(struct dial *d, const char *url)
{
    gw_err code = GW_EARG;
    static const char scheme[] = "https://";
    const char *p = url + sizeof scheme - 1, *end = NULL;
    bool good = strlen(url) < sizeof d->url && strncmp(url, scheme, sizeof scheme - 1) == 0;
    if (good && *p == '[') {
        p++;
        end = strchr(p, ']');
    } else if (good) {
        end = p + strcspn(p, ":/");
    }
    good = good && end && end > p &&
           span_text((struct span){(const uint8_t *)p, (size_t)(end - p)}, d->host, sizeof d->host);
    uint64_t port = PORT_DEFAULT;
    if (good) {
        end += *end == ']';
        if (*end == ':') {
            char digits[8];
            size_t n = strcspn(end + 1, "/");
            good = span_text((struct span){(const uint8_t *)end + 1, n}, digits, sizeof digits) &&
                   text_uint(digits, &port) == GW_OK && port > 0 && port <= 65535;
            end += 1 + n;
        }
        good = good && (*end == '\0' || strcmp(end, "/") == 0) && !strpbrk(d->host, " \t\r\n@?#%");
    }
    if (!good) {
        (void)gw_fail(&d->why, code, "\"%.200s\" is not a URL of a host", url);
        gw_hint(&d->why, "write https://HOST:PORT");
        return code;
    }
    snprintf(d->port, sizeof d->port, "%u", (unsigned)port);
    return GW_OK;
}

struct dial *dial_start(struct event_base *base, struct trust *trust, const struct dial_to *to,
                        dial_done on_done, void *arg)
{
    struct dial *d = xcalloc(1, sizeof *d);
    d->base = base;
    d->trust = trust;
    if (to->expect) {
        d->expect = *to->expect;
    }
    snprintf(d->url, sizeof d->url, "%s", to->url);
    d->path = to->path;
    int n = snprintf(d->upgrade, sizeof d->upgrade, "%s", to->upgrade);
    gw_assert(n > 0 && (size_t)n < sizeof d->upgrade);
    d->answer_ms = to->answer_ms;
    d->on_done = on_done;
    d->arg = arg;
    d->io = (struct stream){.fd = -1};
    event_assign(&d->ev_timer, base, -1, 0, on_timer, d);
    event_assign(&d->ev_turn, base, -1, 0, on_turn, d);
    if (parse_url(d, to->url) != GW_OK) {
        fail(d);
        return d;
    }
    start_timer(d, to->timeout_ms);
    event_active(&d->ev_turn, EV_TIMEOUT, 0);
    return d;
}

void dial_cancel(struct dial *d)
{
    if (d) {
        dial_free(d);
    }
}
