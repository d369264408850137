/* A bad network between hosts: a TCP proxy that delays, loses, doubles, cuts and silences what goes
 * through it, by a seed and a table of times.
 *
 *   badnet SEED SECONDS HOSTS PORT
 *
 * Host n (1 .. HOSTS) is dialled at 10.0.0.n:PORT, which is an address of the proxy's own network
 * namespace; the proxy connects to 10.1.0.n:PORT, which is on the host's veth. Who dials is known
 * by the last number of his address. SIGUSR1 starts the table; SECONDS later all faults end and it
 * goes on as a plain proxy, until SIGTERM or the end of its parent. The same SEED, SECONDS and
 * HOSTS make the same table; what a row meets is up to the hosts. Lines on stdout: "ready", one per
 * row of the table, "healed {JSON}" with how often each fault was met.
 *
 * A connection is two pipes, one for each direction. Bytes that are read get a time before which
 * they are not written; order is kept, as TCP keeps it. So a lost packet is a stall: 200 ms, and
 * twice as much for each further loss of the same one. */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HOSTS_MAX   32
#define ROWS_MAX    4096
#define ROWS_PER_S  5
#define READ_BYTES  4096
#define QUEUE_BYTES (256u * 1024) /* above it a pipe is not read: its sender feels it */
#define RECORD_HEAD 5             /* of TLS: kind, version, length */
#define STALL_MS    200           /* the least time-out of a retransmission */

typedef enum kind {
    DELAY,  /* so many ms, and up to as many more */
    LOSS,   /* in percent of what is read: a stall */
    SLOW,   /* so many bytes a second */
    MUTE,   /* one way: nothing goes from..to, new connections included */
    SPLIT,  /* both ways */
    CUT,    /* every connection: reset within a TLS record */
    END,    /* the same with an orderly end */
    HALF,   /* every connection: gone for the one side, silent for the other */
    FROZEN, /* every connection: silent for both, for ever */
    DOUBLE, /* new connections: a second one says what the first says */
    KINDS
} kind;
static const char *const kind_names[KINDS] = {"delay", "loss", "slow", "mute",   "split",
                                              "cut",   "end",  "half", "frozen", "double"};

struct row {
    kind kind;
    int from, to;
    int64_t begin_ms, end_ms; /* since SIGUSR1; the kinds of an instant need no end */
    int64_t amount;
    bool begun;
};

struct piece {
    TAILQ_ENTRY(piece) next;
    int64_t due_ms;
    size_t len, at;
    uint8_t data[];
};

struct pipe {
    struct conn *c;
    int from, to; /* hosts */
    int in, out;  /* descriptors */
    struct event *reading, *writing, *due;
    TAILQ_HEAD(, piece) queue;
    size_t queued;
    int64_t last_ms;  /* when the newest piece is due */
    int64_t free_ms;  /* slow: when the next bytes may be written */
    bool ended, shut; /* the end was read, was passed on */
    kind cutting;     /* CUT or END: at the next record; KINDS: not */
    bool last;        /* the queue ends within a record */
    uint8_t head[RECORD_HEAD];
    size_t head_len, body_left; /* of the record that is being read */
};

struct conn {
    LIST_ENTRY(conn) next;
    struct net *n;
    struct pipe pipes[2]; /* dialler to target, target to dialler */
    bool connected, dead;
    int twin; /* the doubled connection, or -1 */
    struct event *twin_in;
    struct event *opening;
};

struct listener {
    struct net *n;
    int host, fd;
    struct event *ev;
};

struct net {
    struct event_base *base;
    uint64_t random;
    int64_t seconds, started_ms; /* -1: the table has not started */
    int hosts, port;
    bool healed;
    struct row rows[ROWS_MAX];
    size_t row_count;
    long met[KINDS], conns;
    struct event *tick;
    struct listener listeners[HOSTS_MAX + 1];
    LIST_HEAD(, conn) open;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* splitmix64 */
static uint64_t draw(struct net *n, uint64_t below)
{
    uint64_t z = (n->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

/* ---- the table ---- */

static int64_t amount_of(struct net *n, kind k)
{
    switch (k) {
    case DELAY: return 5 + (int64_t)draw(n, 200);
    case LOSS: return 5 + (int64_t)draw(n, 40);
    case SLOW: return 500 + (int64_t)draw(n, 20000);
    case HALF: return (int64_t)draw(n, 2); /* the side that is closed */
    default: return 0;
    }
}

/* Each kind in turn, so that none is missing; between whom, when and how long by the seed. */
static void make_table(struct net *n)
{
    int64_t total = n->seconds * 1000;
    n->row_count = (size_t)(n->seconds * ROWS_PER_S);
    n->row_count = n->row_count < KINDS ? KINDS : n->row_count;
    n->row_count = n->row_count > ROWS_MAX ? ROWS_MAX : n->row_count;
    for (size_t i = 0; i < n->row_count; i++) {
        struct row *r = &n->rows[i];
        r->kind = (kind)(i % KINDS);
        r->from = 1 + (int)draw(n, (uint64_t)n->hosts);
        r->to = 1 + (r->from + (int)draw(n, (uint64_t)n->hosts - 1)) % n->hosts;
        r->begin_ms = (int64_t)draw(n, (uint64_t)total);
        r->end_ms = r->begin_ms + 300 + (int64_t)draw(n, (uint64_t)total / 3);
        r->end_ms = r->end_ms < total ? r->end_ms : total;
        r->amount = amount_of(n, r->kind);
        printf("row %s %d>%d from %lld to %lld ms, %lld\n", kind_names[r->kind], r->from, r->to,
               (long long)r->begin_ms, (long long)r->end_ms, (long long)r->amount);
    }
}

/* Whether a row of this kind is about what goes from..to now; its amount in ret. */
static bool applies(struct net *n, kind k, int from, int to, int64_t *ret_amount)
{
    int64_t at = n->started_ms < 0 || n->healed ? -1 : now_ms() - n->started_ms;
    for (size_t i = 0; at >= 0 && i < n->row_count; i++) {
        const struct row *r = &n->rows[i];
        bool pair =
            (r->from == from && r->to == to) || (k != MUTE && r->from == to && r->to == from);
        if (r->kind == k && pair && r->begin_ms <= at && at < r->end_ms) {
            *ret_amount = r->amount;
            return true;
        }
    }
    return false;
}

static bool is_silent(const struct pipe *p)
{
    int64_t none;
    return applies(p->c->n, SPLIT, p->from, p->to, &none) ||
           applies(p->c->n, MUTE, p->from, p->to, &none);
}

/* ---- ends of connections ---- */

static void reset_on_close(int fd)
{
    struct linger now = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void end_twin(struct conn *c)
{
    if (c->twin >= 0) {
        event_free(c->twin_in);
        close(c->twin);
        c->twin = -1;
    }
}

static void conn_free(struct conn *c)
{
    LIST_REMOVE(c, next);
    if (c->opening) {
        event_free(c->opening);
    }
    end_twin(c);
    for (int i = 0; i < 2; i++) {
        struct pipe *p = &c->pipes[i];
        struct piece *piece;
        while ((piece = TAILQ_FIRST(&p->queue))) {
            TAILQ_REMOVE(&p->queue, piece, next);
            free(piece);
        }
        event_free(p->reading);
        event_free(p->writing);
        event_free(p->due);
    }
    for (int i = 0; i < 2; i++) {
        if (c->pipes[i].in >= 0) {
            close(c->pipes[i].in);
        }
    }
    free(c);
}

static void conn_reset(struct conn *c)
{
    for (int i = 0; i < 2; i++) {
        if (c->pipes[i].in >= 0) {
            reset_on_close(c->pipes[i].in);
        }
    }
    conn_free(c);
}

/* Nothing goes through any more; `side` (0, 1; -1 neither) is closed, what stays open is silent.
 * The connection ends with the sockets that are left. */
static void conn_dies(struct conn *c, int side)
{
    c->dead = true;
    if (side >= 0) {
        struct pipe *from = &c->pipes[side], *to = &c->pipes[1 - side];
        event_del(from->reading);
        event_del(to->writing);
        reset_on_close(from->in);
        close(from->in);
        from->in = to->out = -1;
    }
    for (int i = 0; i < 2; i++) { /* read on, so that the end is noticed; the bytes are lost */
        event_del(c->pipes[i].writing);
        event_del(c->pipes[i].due);
        if (c->pipes[i].in >= 0 && c->connected) {
            event_add(c->pipes[i].reading, NULL);
        }
    }
}

/* ---- writing ---- */

static void look_again(struct pipe *p, int64_t after_ms)
{
    struct timeval tv = {.tv_sec = after_ms / 1000, .tv_usec = after_ms % 1000 * 1000};
    event_add(p->due, &tv);
}

/* All that was read is written: pass the end on. False: the connection is gone. */
static bool pass_end(struct pipe *p)
{
    struct conn *c = p->c;
    if (p->last) {
        if (p->cutting == CUT) {
            conn_reset(c);
        } else {
            conn_free(c);
        }
        return false;
    }
    if (p->ended && !p->shut) {
        p->shut = true;
        (void)shutdown(p->out, SHUT_WR);
    }
    if (c->pipes[0].shut && c->pipes[1].shut) {
        conn_free(c);
        return false;
    }
    return true;
}

/* Bytes of the first piece that may go now; 0: look_again is set. */
static size_t may_write(struct pipe *p, const struct piece *piece)
{
    struct net *n = p->c->n;
    int64_t now = now_ms(), rate;
    if (is_silent(p)) {
        n->met[MUTE]++;
        look_again(p, 20);
        return 0;
    }
    if (piece->due_ms > now || p->free_ms > now) {
        look_again(p, (piece->due_ms > p->free_ms ? piece->due_ms : p->free_ms) - now);
        return 0;
    }
    size_t left = piece->len - piece->at;
    if (!applies(n, SLOW, p->from, p->to, &rate)) {
        return left;
    }
    n->met[SLOW]++;
    size_t part = (size_t)rate / 20 + 1; /* 20 times a second */
    part = part < left ? part : left;
    p->free_ms = now + (int64_t)part * 1000 / rate;
    return part;
}

static void move_on(struct pipe *p)
{
    struct conn *c = p->c;
    struct piece *piece;
    while (!c->dead && (piece = TAILQ_FIRST(&p->queue))) {
        size_t part = may_write(p, piece);
        if (part == 0) {
            return;
        }
        ssize_t sent = send(p->out, piece->data + piece->at, part, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            event_add(p->writing, NULL);
            return;
        }
        if (sent < 0) {
            conn_reset(c);
            return;
        }
        piece->at += (size_t)sent;
        p->queued -= (size_t)sent;
        if (piece->at == piece->len) {
            TAILQ_REMOVE(&p->queue, piece, next);
            free(piece);
        }
        if (p->queued < QUEUE_BYTES && !p->ended && !p->last) {
            event_add(p->reading, NULL);
        }
    }
    if (!c->dead) {
        (void)pass_end(p);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    move_on(arg);
}

/* ---- reading ---- */

/* Walk over the records of what was read. Where the pipe is to be cut: how much of it stays, which
 * ends within the body of a record. */
static size_t walk_records(struct pipe *p, const uint8_t *data, size_t len)
{
    size_t at = 0;
    while (at < len) {
        if (p->body_left > 0) {
            size_t part = p->body_left < len - at ? p->body_left : len - at;
            if (p->cutting != KINDS && part > 1) {
                p->last = true;
                return at + part / 2;
            }
            p->body_left -= part;
            at += part;
        } else {
            p->head[p->head_len++] = data[at++];
            if (p->head_len == RECORD_HEAD) {
                p->body_left = (size_t)p->head[3] << 8 | p->head[4];
                p->head_len = 0;
            }
        }
    }
    return len;
}

static int64_t latency_ms(struct pipe *p)
{
    struct net *n = p->c->n;
    int64_t amount, ms = 0;
    if (applies(n, DELAY, p->from, p->to, &amount)) {
        n->met[DELAY]++;
        ms += amount + (int64_t)draw(n, (uint64_t)amount);
    }
    if (applies(n, LOSS, p->from, p->to, &amount)) {
        for (int64_t stall = STALL_MS; stall < 8 * STALL_MS && (int64_t)draw(n, 100) < amount;
             stall *= 2) {
            n->met[LOSS]++;
            ms += stall;
        }
    }
    return ms;
}

static void take_bytes(struct pipe *p, const uint8_t *data, size_t len)
{
    struct conn *c = p->c;
    struct piece *piece = malloc(sizeof *piece + len);
    if (!piece) {
        abort();
    }
    len = walk_records(p, data, len);
    if (p->last) {
        c->n->met[p->cutting]++;
        event_del(p->reading);
    }
    *piece = (struct piece){.due_ms = now_ms() + latency_ms(p), .len = len};
    piece->due_ms = piece->due_ms > p->last_ms ? piece->due_ms : p->last_ms;
    p->last_ms = piece->due_ms;
    memcpy(piece->data, data, len);
    TAILQ_INSERT_TAIL(&p->queue, piece, next);
    p->queued += len;
    if (p == &c->pipes[0] && c->twin >= 0 && send(c->twin, data, len, MSG_NOSIGNAL) < 0 &&
        errno != EAGAIN) {
        end_twin(c);
    }
    if (p->queued >= QUEUE_BYTES) {
        event_del(p->reading);
    }
    move_on(p);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct pipe *p = arg;
    struct conn *c = p->c;
    uint8_t data[READ_BYTES];
    ssize_t got = recv(fd, data, sizeof data, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (c->dead && got > 0) {
        return;
    }
    if (c->dead || got < 0) {
        conn_reset(c);
        return;
    }
    if (got > 0) {
        take_bytes(p, data, (size_t)got);
        return;
    }
    p->ended = true;
    event_del(p->reading);
    if (TAILQ_EMPTY(&p->queue)) {
        (void)pass_end(p);
    }
}

/* ---- new connections ---- */

static struct sockaddr_in address(int net, int host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(0x0a000000u | (uint32_t)net << 16 | (uint32_t)host);
    return a;
}

static void make_nimble(int fd)
{
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int connect_to(struct net *n, int host)
{
    struct sockaddr_in a = address(1, host, n->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    make_nimble(fd);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void on_twin(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    uint8_t lost[READ_BYTES];
    ssize_t got = recv(fd, lost, sizeof lost, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        end_twin(arg);
    }
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct conn *c = arg;
    int err = 0;
    socklen_t len = sizeof err;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    event_free(c->opening);
    c->opening = NULL;
    if (err != 0) {
        conn_reset(c);
        return;
    }
    c->connected = true;
    event_add(c->pipes[0].reading, NULL);
    event_add(c->pipes[1].reading, NULL);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    move_on(arg);
}

static void pipe_init(struct conn *c, int i, int from, int to, int in, int out)
{
    struct pipe *p = &c->pipes[i];
    *p = (struct pipe){.c = c, .from = from, .to = to, .in = in, .out = out, .cutting = KINDS};
    TAILQ_INIT(&p->queue);
    p->reading = event_new(c->n->base, in, EV_READ | EV_PERSIST, on_readable, p);
    p->writing = event_new(c->n->base, out, EV_WRITE, on_writable, p);
    p->due = event_new(c->n->base, -1, 0, on_due, p);
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
    (void)what;
    struct listener *l = arg;
    struct net *n = l->n;
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int64_t none;
    int in = accept4(listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int out = in < 0 ? -1 : connect_to(n, l->host);
    if (out < 0) {
        if (in >= 0) {
            reset_on_close(in);
            close(in);
        }
        return;
    }
    make_nimble(in);
    int dialler = (int)(ntohl(from.sin_addr.s_addr) & 0xff);
    struct conn *c = calloc(1, sizeof *c);
    if (!c) {
        abort();
    }
    c->n = n;
    c->twin = -1;
    LIST_INSERT_HEAD(&n->open, c, next);
    pipe_init(c, 0, dialler, l->host, in, out);
    pipe_init(c, 1, l->host, dialler, out, in);
    c->opening = event_new(n->base, out, EV_WRITE, on_connected, c);
    event_add(c->opening, NULL);
    n->conns++;
    if (applies(n, DOUBLE, dialler, l->host, &none) && (c->twin = connect_to(n, l->host)) >= 0) {
        n->met[DOUBLE]++;
        c->twin_in = event_new(n->base, c->twin, EV_READ | EV_PERSIST, on_twin, c);
        event_add(c->twin_in, NULL);
    }
}

/* ---- time ---- */

/* What a row does to the connections that are there when it begins. */
static void begin_row(struct net *n, struct row *r)
{
    struct conn *c, *next;
    r->begun = true;
    for (c = LIST_FIRST(&n->open); c; c = next) {
        next = LIST_NEXT(c, next);
        int a = c->pipes[0].from, b = c->pipes[0].to;
        if (c->dead || !c->connected ||
            !((a == r->from && b == r->to) || (a == r->to && b == r->from))) {
            continue;
        }
        if (r->kind == CUT || r->kind == END) {
            c->pipes[a == r->from ? 0 : 1].cutting = r->kind;
        } else if (r->kind == HALF || r->kind == FROZEN) {
            n->met[r->kind]++;
            conn_dies(c, r->kind == HALF ? (int)r->amount : -1);
        }
    }
    n->met[SPLIT] += r->kind == SPLIT;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct net *n = arg;
    int64_t at = now_ms() - n->started_ms;
    for (size_t i = 0; i < n->row_count; i++) {
        if (!n->rows[i].begun && n->rows[i].begin_ms <= at) {
            begin_row(n, &n->rows[i]);
        }
    }
    if (at < n->seconds * 1000) {
        return;
    }
    n->healed = true;
    event_del(n->tick);
    printf("healed {\"connections\": %ld", n->conns);
    for (int k = 0; k < KINDS; k++) {
        printf(", \"%s\": %ld", kind_names[k], n->met[k]);
    }
    printf("}\n");
}

static void on_start(evutil_socket_t sig, short what, void *arg)
{
    (void)sig, (void)what;
    struct net *n = arg;
    struct timeval tick = {.tv_usec = 10000};
    if (n->started_ms < 0) {
        n->started_ms = now_ms();
        event_add(n->tick, &tick);
    }
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
    (void)sig, (void)what;
    event_base_loopbreak(arg);
}

static bool listen_for(struct net *n, int host)
{
    struct listener *l = &n->listeners[host];
    struct sockaddr_in a = address(0, host, n->port);
    int one = 1;
    *l = (struct listener){.n = n, .host = host};
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(l->fd, 64) != 0) {
        fprintf(stderr, "badnet: cannot listen for host %d: %s\n", host, strerror(errno));
        return false;
    }
    l->ev = event_new(n->base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
    return event_add(l->ev, NULL) == 0;
}

static long number(const char *text, long least, long most)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < least || n > most) {
        fprintf(stderr, "badnet: \"%s\" is not a number from %ld to %ld\n", text, least, most);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: badnet SEED SECONDS HOSTS PORT\n");
        return 2;
    }
    static struct net n; /* its table is large */
    n.random = (uint64_t)number(argv[1], 0, INT32_MAX);
    n.seconds = number(argv[2], 1, 86400);
    n.hosts = (int)number(argv[3], 2, HOSTS_MAX);
    n.port = (int)number(argv[4], 1, 65535);
    n.started_ms = -1;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    n.base = event_base_new();
    n.tick = event_new(n.base, -1, EV_PERSIST, on_tick, &n);
    struct event *start = evsignal_new(n.base, SIGUSR1, on_start, &n);
    struct event *stop = evsignal_new(n.base, SIGTERM, on_stop, n.base);
    if (!n.tick || !start || !stop || event_add(start, NULL) != 0 || event_add(stop, NULL) != 0) {
        return 1;
    }
    for (int host = 1; host <= n.hosts; host++) {
        if (!listen_for(&n, host)) {
            return 1;
        }
    }
    make_table(&n);
    printf("ready\n");
    event_base_dispatch(n.base);
    struct conn *c;
    while ((c = LIST_FIRST(&n.open))) {
        conn_free(c);
    }
    return 0;
}
