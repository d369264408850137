/* What the tests of host/net share: a loop with deadlines, a link end that records what it sees, a
 * trust in a temporary home, raw bytes. */
#ifndef TESTS_UNIT_HOST_NET_RIG_H
#define TESTS_UNIT_HOST_NET_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/net/link.h"
#include "host/net/server.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

#define RIG_UNUSED __attribute__((unused))

static struct event_base *base;

static RIG_UNUSED int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* One turn of the loop; waits 10 ms at most. */
static RIG_UNUSED void turn(void)
{
    struct timeval tv = {.tv_usec = 10000};
    assert_int_equal(event_base_loopexit(base, &tv), 0);
    event_base_loop(base, EVLOOP_ONCE);
}

static RIG_UNUSED void turns_ms(int64_t ms)
{
    for (int64_t end = now_ms() + ms; now_ms() < end;) {
        turn();
    }
}

/* Turn until the condition holds; fails after 20 s. */
#define turn_until(cond)                                                                           \
    do {                                                                                           \
        int64_t turn_end_ = now_ms() + 20000;                                                      \
        while (!(cond)) {                                                                          \
            if (now_ms() > turn_end_) {                                                            \
                fail_msg("never came true: %s", #cond);                                            \
            }                                                                                      \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

/* --- a link end that records --- */
struct seen {
    struct link *link;
    unsigned frames;
    uint64_t streams[4096]; /* of the first frames */
    uint32_t kinds[4096];
    uint64_t bytes;    /* of all raw frames */
    uint64_t checksum; /* of the bin fields of CALL frames */
    char reason[200];  /* "" while open */
    unsigned closes;
    bool close_on_frame;
    bool answer_on_close; /* sends on a link that is closed */
};

static RIG_UNUSED uint64_t sum(const uint8_t *p, size_t n)
{
    uint64_t h = 1469598103934665603ULL;
    for (size_t i = 0; i < n; i += 1 + n / 100000) {
        h = (h ^ p[i]) * 1099511628211ULL;
    }
    return h ^ n;
}

static RIG_UNUSED void seen_frame(void *arg, struct link *link, const struct frame *f)
{
    struct seen *s = arg;
    assert_ptr_equal(link, s->link);
    assert_ptr_equal(link_arg(link), s);
    assert_string_equal(s->reason, "");
    if (s->frames < 4096) {
        s->streams[s->frames] = f->stream;
        s->kinds[s->frames] = f->kind;
    }
    s->frames++;
    s->bytes += f->raw.n;
    struct mp m = f->rest;
    struct span bin;
    if (f->kind == FRAME_CALL && mp_read_bin(&m, &bin) == GW_OK) {
        s->checksum ^= sum(bin.p, bin.n);
    }
    if (s->close_on_frame) {
        link_close(link, false, "enough");
    }
}

static RIG_UNUSED void add_call(struct buf *b, uint64_t stream, size_t bytes);

static RIG_UNUSED void seen_close(void *arg, struct link *link, const char *reason)
{
    struct seen *s = arg;
    s->closes++;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    if (s->answer_on_close) {
        struct buf b = {0};
        add_call(&b, 1, 10);
        link_send(link, &b);
        link_close(link, true, "again");
    }
    s->link = NULL;
}

static const struct link_ops seen_ops = {seen_frame, seen_close};

static RIG_UNUSED void seen_take(struct seen *s, struct link *link)
{
    s->link = link;
    link_set_ops(link, &seen_ops, s);
}

/* A CALL frame whose first field is `bytes` of bin with content that depends on stream and size. */
static RIG_UNUSED void add_call(struct buf *b, uint64_t stream, size_t bytes)
{
    size_t at = frame_begin(b, FRAME_CALL, stream, 1);
    uint8_t *fill = malloc(bytes + 1);
    assert_non_null(fill);
    for (size_t i = 0; i < bytes; i++) {
        fill[i] = (uint8_t)(i * 31 + stream + (i >> 13));
    }
    mp_bin(b, fill, bytes);
    free(fill);
    frame_end(b, at);
    assert_true(buf_ok(b));
}

static RIG_UNUSED void send_call(struct link *link, uint64_t stream, size_t bytes)
{
    struct buf b = {0};
    add_call(&b, stream, bytes);
    link_send(link, &b);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
}

static RIG_UNUSED uint64_t call_sum(uint64_t stream, size_t bytes)
{
    struct buf b = {0};
    add_call(&b, stream, bytes);
    struct frame f;
    struct span bin;
    assert_int_equal(frame_parse((struct span){b.data + 4, b.len - 4}, &f), GW_OK);
    assert_int_equal(mp_read_bin(&f.rest, &bin), GW_OK);
    uint64_t h = sum(bin.p, bin.n);
    buf_free(&b);
    return h;
}

static RIG_UNUSED void send_empty(struct link *link, frame_kind kind, uint64_t stream)
{
    struct buf b = {0};
    frame_end(&b, frame_begin(&b, kind, stream, 0));
    link_send(link, &b);
}

/* --- a link at one end, a raw socket at the other --- */
static RIG_UNUSED int raw_pair(struct seen *s, link_kind kind)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    seen_take(s, link_over_socket(base, fd[0], kind));
    return fd[1];
}

static RIG_UNUSED void link_pair(struct seen *a, struct seen *b, link_kind kind)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    seen_take(a, link_over_socket(base, fd[0], kind));
    seen_take(b, link_over_socket(base, fd[1], kind));
}

/* End what is still open, so that nothing leaks. */
static RIG_UNUSED void seen_end(struct seen *s)
{
    if (s->link) {
        link_close(s->link, false, "end of test");
        turn_until(!s->link);
    }
}

static RIG_UNUSED void raw_write(int fd, const void *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t sent = send(fd, (const uint8_t *)data + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) {
                return; /* the link has closed: the test sees why */
            }
            turn();
            continue;
        }
        at += (size_t)sent;
    }
}

/* --- temporary homes --- */
static RIG_UNUSED char *temp_home(char path[64])
{
    snprintf(path, 64, "/tmp/gw_net_XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static RIG_UNUSED void remove_tree(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
        _exit(127);
    }
}

static RIG_UNUSED int rig_setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    return base ? 0 : -1;
}

static RIG_UNUSED int rig_teardown(void **state)
{
    (void)state;
    event_base_free(base);
    libevent_global_shutdown();
    return 0;
}

#endif
