/* What a client writes to the socket of a host: requests to the real server, routes, operations and
 * node, upgrades to links and the frames behind them. Every request that is one gets an answer that
 * is one, and the host serves the next client.
 *
 * Input: the first byte is how many bytes are written at a time (in fours; 0: all of them), its
 * highest bit whether the client is one more than there is room for; then requests, one behind the
 * other. In a request "Length: *" stands for the length of its body, which goes to the next byte 0
 * (left out), or to the end. There is an agent with the alias "bob". */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/api_route.h"
#include "host/net/http_private.h"
#include "protocol/json.h"
#include "tests/fuzz/door.h"

#define SIZE_MOST   60000 /* what a socket holds unread */
#define SURPLUS     0x80u
#define TURNS_MOST  4000
#define STREAM_MS   300 /* a stream is listened to for so long */
#define ANSWER_MOST 400000

static struct event_base *base;
static struct server *server;

struct visit {
    struct play p;
    struct door door;
    struct link *link;
    int fd; /* of the client; -1: closed */
    int64_t began_us;
    uint8_t answer[ANSWER_MOST];
    size_t answer_bytes;
};

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* --- the host --- */
static void on_request(void *arg, struct http_call *http)
{
    struct visit *v = *(struct visit **)arg;
    const struct op *op = NULL;
    gw_value args = {.kind = GW_MAP};
    char allow[ROUTE_ALLOW_BYTES];
    struct gw_error why = {0};
    gw_err err = route_find(http_method(http), http_path(http), &op, &args, allow, &why);
    gw_value_free(&args);
    if (err == GW_OK && !play_serves(op->name)) {
        (void)gw_fail(&why, GW_ENOT_SUPPORTED, "not in this mesh");
        http_answer_error(http, &why);
    } else {
        api_http(mesh_node(v->p.m, 0), http);
    }
}

static void on_frame(void *arg, struct link *link, const struct frame *f)
{
    struct visit *v = arg;
    (void)link;
    if (f->kind == FRAME_CALL || f->kind == FRAME_CANCEL) {
        door_frame(&v->door, &v->p, 0, LINK_CLIENT, f);
    }
}

static void on_close(void *arg, struct link *link, const char *reason)
{
    struct visit *v = arg;
    must(link == v->link && reason[0]);
    v->link = NULL;
    v->door.forward = NULL;
}

static void forward(void *arg, struct buf *frame)
{
    struct visit *v = arg;
    link_send(v->link, frame);
}

static void on_link(void *arg, struct link *link, api_role role)
{
    static const struct link_ops ops = {on_frame, on_close};
    struct visit *v = *(struct visit **)arg;
    must(role == ROLE_ADMIN && !v->link);
    v->link = link;
    v->door.forward = forward;
    v->door.arg = v;
    link_set_ops(link, &ops, v);
}

static struct visit *visit; /* the one at hand: the server outlives it */

static void clean(void)
{
    server_close(server);
    event_base_free(base);
}

static void start(void)
{
    static const struct server_ops ops = {on_request, on_link};
    struct gw_error why = {0};
    base = event_base_new();
    must(base != NULL);
    const struct server_config config = {
        .base = base, .listen = "127.0.0.1:0", .ops = &ops, .arg = &visit};
    must(server_open(&config, &server, &why) == GW_OK);
    (void)atexit(clean);
}

/* --- the client --- */
static void read_some(struct visit *v)
{
    uint8_t more[4096];
    ssize_t n;
    while (v->fd >= 0 && (n = recv(v->fd, more, sizeof more, MSG_DONTWAIT)) > 0) {
        size_t room = sizeof v->answer - v->answer_bytes;
        size_t kept = (size_t)n < room ? (size_t)n : room;
        memcpy(v->answer + v->answer_bytes, more, kept);
        v->answer_bytes += kept;
    }
}

static void hang_up(struct visit *v)
{
    if (v->fd >= 0) {
        read_some(v);
        close(v->fd);
        v->fd = -1;
    }
}

static void turn(struct visit *v, int64_t ms)
{
    event_base_loop(base, EVLOOP_NONBLOCK);
    mesh_run(v->p.m, ms);
    event_base_loop(base, EVLOOP_NONBLOCK);
    read_some(v);
}

/* Everything is answered, or the client has gone; a stream or a link has had its time. */
static void finish(struct visit *v)
{
    size_t turns = 0;
    must(shutdown(v->fd, SHUT_WR) == 0);
    while (!TAILQ_EMPTY(&server->conns) || v->link) {
        const struct conn *c = TAILQ_FIRST(&server->conns);
        bool lasts = v->link || (c && c->state == CONN_STREAM);
        v->began_us = lasts && v->began_us == 0 ? mesh_now_us(v->p.m) : v->began_us;
        if ((lasts && mesh_now_us(v->p.m) - v->began_us > STREAM_MS * 1000) ||
            (c && c->state == CONN_LINGER)) {
            hang_up(v);
        }
        if (++turns > TURNS_MOST) {
            mesh_fail(v->p.m, "a client is never answered (state %d)", c ? (int)c->state : -1);
        }
        turn(v, turns < 100 ? 5 : 50);
    }
    hang_up(v);
}

static void write_all(struct visit *v, const struct buf *bytes, size_t at_a_time)
{
    for (size_t at = 0; at < bytes->len;) {
        size_t n = bytes->len - at;
        n = at_a_time > 0 && n > at_a_time ? at_a_time : n;
        ssize_t done = send(v->fd, bytes->data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done <= 0) {
            return; /* the server has ended it, or does not read on */
        }
        at += (size_t)done;
        if (at_a_time > 0) {
            event_base_loop(base, EVLOOP_NONBLOCK);
        }
    }
}

/* "Length: *" becomes the length of what follows the next empty line, up to a byte 0. */
static void expand(const uint8_t *p, size_t n, struct buf *out)
{
    static const char star[] = "Length: *", blank[] = "\r\n\r\n";
    while (n > 0) {
        const uint8_t *at = memmem(p, n, star, sizeof star - 1);
        const uint8_t *body = at ? memmem(at, n - (size_t)(at - p), blank, 4) : NULL;
        if (!body) {
            buf_add(out, p, n);
            return;
        }
        body += 4;
        const uint8_t *end = memchr(body, 0, n - (size_t)(body - p));
        size_t length = end ? (size_t)(end - body) : n - (size_t)(body - p);
        buf_add(out, p, (size_t)(at - p) + sizeof star - 2);
        buf_addf(out, "%zu", length);
        at += sizeof star - 1;
        buf_add(out, at, (size_t)(body - at) + length);
        n -= (size_t)(body - p) + length + (end ? 1 : 0);
        p = body + length + (end ? 1 : 0);
    }
}

static void check_first_answer(const struct visit *v)
{
    if (v->answer_bytes == 0) {
        return;
    }
    char head[512];
    size_t n = v->answer_bytes < sizeof head - 1 ? v->answer_bytes : sizeof head - 1;
    memcpy(head, v->answer, n);
    head[n] = '\0';
    must(strncmp(head, "HTTP/1.1 ", 9) == 0 && head[9] >= '1' && head[9] <= '5');
}

static void visit_host(struct visit *v, const uint8_t *data, size_t size)
{
    struct buf bytes = {0};
    int fds[2];
    expand(data + 1, size - 1, &bytes);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    v->fd = fds[0];
    conn_new(server, fds[1], true, data[0] & SURPLUS);
    write_all(v, &bytes, (data[0] & ~SURPLUS) * 4u);
    finish(v);
    check_first_answer(v);
    buf_free(&bytes);
}

/* Whatever came before, the next one is served. */
static void expect_served(struct visit *v)
{
    static const char request[] = "\0GET /v1/agents/bob HTTP/1.1\r\nHost: x\r\n\r\n";
    v->answer_bytes = 0;
    v->began_us = 0;
    visit_host(v, (const uint8_t *)request, sizeof request - 1);
    must(v->answer_bytes > 15 && (memcmp(v->answer, "HTTP/1.1 200 ", 13) == 0 ||
                                  (v->p.ends && memcmp(v->answer, "HTTP/1.1 4", 10) == 0)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > SIZE_MOST) {
        return 0;
    }
    if (!server) {
        start();
    }
    visit = calloc(1, sizeof *visit);
    must(visit != NULL);
    struct visit *v = visit;
    play_open(&v->p, 1);
    mesh_be_impatient(v->p.m);
    mesh_must(v->p.m, 0, NULL, "create", "{'type': 'player', 'alias': 'bob'}");
    visit_host(v, data, size);
    door_close(&v->door, &v->p);
    v->p.ends = true; /* bob may have been disposed of, or be busy */
    expect_served(v);
    play_close(&v->p);
    free(v);
    visit = NULL;
    return 0;
}
