/* The data plane: connections and requests that are handed to threads, over real sockets. */
#include "tests/unit/host/server_rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "host/bulk.h"
#include "host/bulk_io.h"
#include "host/files/record.h"
#include "host/net/dial.h"

static struct bulk *bulk; /* of alpha, who serves, and of those who dial */
static atomic_uint served, loop_calls;
static pthread_t loop_thread;
static struct host_id seen_peer;

/* --- what is served --- */

static void on_loop(void *arg)
{
    (void)arg;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    atomic_fetch_add(&loop_calls, 1);
}

/* Give back what comes, to its end. */
static gw_err serve_echo(struct bulk_request *r, struct bulk_io *io)
{
    static _Thread_local uint8_t part[65536];
    gw_err err;
    size_t n;
    assert_false(pthread_equal(pthread_self(), loop_thread));
    seen_peer = r->peer;
    atomic_fetch_add(&served, 1);
    GW_TRY(bulk_on_loop(r->bulk, on_loop, NULL));
    while ((err = bulk_read(io, part, sizeof part, &n)) == GW_OK) {
        GW_TRY(bulk_write(io, part, n));
        if (part[n - 1] == '.') {
            return GW_OK;
        }
    }
    return err;
}

/* PUT /v1/count/{what}?twice=: how many bytes come. */
static gw_err serve_count(struct bulk_request *r, struct bulk_io *io)
{
    static _Thread_local uint8_t part[65536];
    char text[100];
    uint64_t total = 0;
    size_t n;
    while (total < r->head->body_bytes) {
        GW_TRY(bulk_read(io, part, sizeof part, &n));
        total += n;
    }
    if (strcmp(gw_map_str(&r->args, "what", ""), "no") == 0) {
        gw_fail(r->why, GW_EREFUSED, "it will not");
        return bulk_answer_error(io, r->why);
    }
    int len = snprintf(text, sizeof text, "%s %s %llu", gw_map_str(&r->args, "what", ""),
                       gw_map_str(&r->args, "twice", "-"), (unsigned long long)total);
    return bulk_answer(io, 200, "text/plain", (struct span){(const uint8_t *)text, (size_t)len});
}

static atomic_bool let_go;

/* Keep a place until it is to be given back. */
static gw_err serve_hold(struct bulk_request *r, struct bulk_io *io)
{
    (void)r;
    while (!atomic_load(&let_go)) {
        gw_err err = io->wait(io->ctx, false, false, 5);
        if (err != GW_ETIMEOUT) {
            return err;
        }
    }
    return bulk_write(io, ".", 1);
}

/* Say ALIVE, then compute without a wait. */
static gw_err serve_compute(struct bulk_request *r, struct bulk_io *io)
{
    struct record_io records;
    GW_TRY(record_init(&records, io, false, NULL, r->why));
    records.wrote_ns = INT64_MIN / 2;
    gw_err err = record_alive(&records);
    record_deinit(&records);
    while (!atomic_load(&let_go)) {
        sched_yield();
    }
    return err;
}

static const struct bulk_service services[] = {
    {"echo", serve_echo}, {"hold", serve_hold}, {"compute", serve_compute}, {0}};
static const struct bulk_route routes[] = {
    {"PUT", "/v1/count/{what}", ROLE_OPERATOR, serve_count},
    {"PUT", "/v1/peers/{what}", ROLE_PEER, serve_count},
    {0},
};

static gw_err wants(void *arg, const struct http_head *head, api_role role, bool *ret,
                    struct gw_error *why)
{
    (void)arg;
    return bulk_wants(bulk, head, role, ret, why);
}

static void on_handover(void *arg, struct handover *h)
{
    (void)arg;
    bulk_take(bulk, h);
}

static const struct server_ops bulk_ops = {on_request, on_link, wants, on_handover};

static int open_for(unsigned most)
{
    struct gw_error why = {0};
    struct server_config c = config("127.0.0.1:0");
    struct bulk_config bc = {.base = base, .trust = beta, .services = services, .routes = routes};
    c.ops = &bulk_ops;
    c.max_connections = most;
    loop_thread = pthread_self();
    atomic_store(&served, 0);
    atomic_store(&loop_calls, 0);
    return bulk_open(&bc, &bulk, &why) == GW_OK && server_open(&c, &server, &why) == GW_OK ? 0 : -1;
}

static int open_bulk(void **state)
{
    (void)state;
    return open_for(config("127.0.0.1:0").max_connections);
}

static int open_wide(void **state)
{
    (void)state;
    return open_for(200);
}

static int close_bulk(void **state)
{
    server_close(server);
    bulk_close(bulk);
    bulk = NULL;
    (void)state;
    turns_ms(5);
    return 0;
}

/* --- who dials --- */

struct ended {
    unsigned count;
    gw_err err;
    struct gw_error why;
};

static void on_done(void *arg, gw_err err, const struct gw_error *why)
{
    struct ended *e = arg;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    e->count++;
    e->err = err;
    e->why = *why;
}

#define MUCH (6u * 1024 * 1024)
static struct ended ended;
static atomic_bool equal;

/* 6 MiB there and back: what comes is taken in while the rest is written. */
static gw_err echo_much(struct bulk_io *io, void *arg, struct gw_error *why)
{
    (void)arg, (void)why;
    uint8_t *out = malloc(MUCH), *in = malloc(MUCH);
    size_t wrote = 0, got = 0, n;
    gw_err err = GW_OK;
    for (size_t i = 0; i < MUCH; i++) {
        out[i] = (uint8_t)(i * 7 + (i >> 11));
        out[i] += out[i] == '.';
    }
    out[MUCH - 1] = '.';
    while (got < MUCH && err == GW_OK) {
        bool stuck = true;
        if (wrote < MUCH && io->write(io->ctx, out + wrote, MUCH - wrote, &n) == GW_OK) {
            wrote += n;
            stuck = false;
        }
        if (io->read(io->ctx, in + got, MUCH - got, &n) == GW_OK) {
            got += n;
            stuck = false;
        }
        if (stuck) {
            err = io->wait(io->ctx, true, wrote < MUCH, 10000);
        }
    }
    atomic_store(&equal, err == GW_OK && memcmp(in, out, MUCH) == 0);
    free(in);
    free(out);
    return err;
}

/* Until it is called off. */
static gw_err read_forever(struct bulk_io *io, void *arg, struct gw_error *why)
{
    uint8_t b;
    size_t n;
    gw_err err;
    (void)arg;
    atomic_fetch_add(&served, 1);
    while ((err = io->read(io->ctx, &b, 1, &n)) == GW_EAGAIN) {
        err = io->wait(io->ctx, true, false, 20000);
        if (err != GW_OK) {
            break;
        }
    }
    io->describe(io->ctx, why);
    return err;
}

static gw_err call(const char *url, const struct host_id *to, const char *service, bulk_work work)
{
    ended = (struct ended){0};
    bulk_call(bulk, to, url, service, work, on_done, &ended);
    assert_int_equal(ended.count, 0); /* never inside the call */
    turn_until(ended.count);
    return ended.err;
}

static void test_bytes_go_there_and_back(void **state)
{
    (void)state;
    atomic_store(&equal, false);
    assert_int_equal(call(server_url(server), &alpha->id, "echo", echo_much), GW_OK);
    assert_true(atomic_load(&equal));
    assert_true(host_id_equal(&seen_peer, &beta->id));
    assert_int_equal(atomic_load(&loop_calls), 1);
}

static void test_what_cannot_be_dialled_says_why(void **state)
{
    (void)state;
    assert_int_equal(call("https://127.0.0.1:1", &alpha->id, "echo", echo_much), GW_EUNREACHABLE);
    assert_int_equal(call("nonsense", &alpha->id, "echo", echo_much), GW_EARG);
    assert_int_equal(call(server_url(server), &beta->id, "echo", echo_much), GW_EIDENTITY);
    assert_int_equal(call(server_url(server), &alpha->id, "nothing", echo_much), GW_ENOT_SUPPORTED);
    assert_non_null(strstr(ended.why.text, "names no service"));
}

static void test_calling_off(void **state)
{
    (void)state;
    ended = (struct ended){0};
    struct bulk_job *job =
        bulk_call(bulk, &alpha->id, server_url(server), "echo", read_forever, on_done, &ended);
    bulk_cancel(job); /* while it dials */
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_ECANCELLED);

    ended = (struct ended){0};
    atomic_store(&served, 0);
    job = bulk_call(bulk, &alpha->id, server_url(server), "echo", read_forever, on_done, &ended);
    turn_until(atomic_load(&served) == 2); /* both ends run */
    bulk_cancel(job);
    bulk_cancel(job);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_ECANCELLED);
    assert_int_equal(ended.why.code, GW_ECANCELLED);
}

static void test_the_end_calls_all_off(void **state)
{
    struct gw_error why = {0};
    struct bulk_config bc = {.base = base, .trust = beta};
    struct bulk *other;
    static struct ended ends[50];
    (void)state;
    memset(ends, 0, sizeof ends);
    assert_int_equal(bulk_open(&bc, &other, &why), GW_OK);
    for (size_t i = 0; i < 50; i++) { /* more than there are threads */
        bulk_run(other, read_forever, on_done, &ends[i]);
    }
    turn_until(bulk_stats(other).running[2] == LIMIT_BULK_RUNNING);
    assert_int_equal(bulk_stats(other).waiting[2], 50 - LIMIT_BULK_RUNNING);
    bulk_close(other);
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(ends[i].count, 1);
    }
}

static gw_err nap(struct bulk_io *io, void *arg, struct gw_error *why)
{
    (void)arg, (void)why;
    return io->wait(io->ctx, false, false, 1) == GW_ETIMEOUT ? GW_OK : GW_EFAIL;
}

static gw_err fail_silently(struct bulk_io *io, void *arg, struct gw_error *why)
{
    (void)io, (void)arg, (void)why;
    return GW_ENOMEM;
}

static void test_a_failure_has_words(void **state)
{
    (void)state;
    ended = (struct ended){0};
    bulk_run(bulk, fail_silently, on_done, &ended);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_ENOMEM);
    assert_int_equal(ended.why.code, GW_ENOMEM);
    assert_true(ended.why.text[0] != '\0');
}

static void test_more_jobs_than_threads(void **state)
{
    static struct ended ends[100];
    (void)state;
    memset(ends, 0, sizeof ends);
    for (size_t i = 0; i < 100; i++) {
        bulk_run(bulk, nap, on_done, &ends[i]);
    }
    for (size_t i = 0; i < 100; i++) {
        turn_until(ends[i].count == 1);
        assert_int_equal(ends[i].err, GW_OK);
    }
}

/* --- places of those who are served --- */

static gw_err read_one(struct bulk_io *io, void *arg, struct gw_error *why)
{
    uint8_t b;
    size_t n;
    (void)arg;
    gw_err err = bulk_read(io, &b, 1, &n);
    io->describe(io->ctx, why);
    return err;
}

static void hold_all(struct ended *ends, size_t n)
{
    memset(ends, 0, n * sizeof *ends);
    atomic_store(&let_go, false);
    for (size_t i = 0; i < n; i++) {
        bulk_call(bulk, &alpha->id, server_url(server), "hold", read_one, on_done, &ends[i]);
    }
}

static void test_one_host_leaves_places_to_others(void **state)
{
    static struct ended ends[LIMIT_BULK_ORIGIN + 4];
    const size_t n = LIMIT_BULK_ORIGIN + 4;
    (void)state;
    hold_all(ends, n);
    turn_until(bulk_stats(bulk).running[1] == LIMIT_BULK_ORIGIN &&
               bulk_stats(bulk).waiting[1] == 4);
    assert_true(bulk_host_waits(bulk, &beta->id));
    assert_false(bulk_host_waits(bulk, &alpha->id));
    /* A client comes later, and goes first. */
    expect_status(ask("PUT /v1/count/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"), 200);
    assert_int_equal(bulk_stats(bulk).waiting[1], 4);
    atomic_store(&let_go, true);
    for (size_t i = 0; i < n; i++) {
        turn_until(ends[i].count == 1);
        assert_int_equal(ends[i].err, GW_OK);
    }
    turn_until(bulk_stats(bulk).running[1] == 0);
    assert_false(bulk_host_waits(bulk, &beta->id));
}

static gw_err read_alive(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct record_io records;
    struct record rec;
    GW_TRY(record_init(&records, io, false, NULL, why));
    size_t got = 0, n;
    gw_err err = GW_OK;
    uint8_t bytes[6];
    (void)arg;
    while (got < sizeof bytes && (err = bulk_read(io, bytes + got, sizeof bytes - got, &n)) == 0) {
        got += n;
    }
    atomic_store(&let_go, true);
    err = err || bytes[4] != RECORD_ALIVE ? GW_EFAIL : record_next(&records, &rec);
    record_deinit(&records);
    return err;
}

/* It has to leave although the one that says it goes on without ever waiting. */
static void test_a_sign_of_life_leaves(void **state)
{
    (void)state;
    atomic_store(&let_go, false);
    assert_int_equal(call(server_url(server), &alpha->id, "compute", read_alive), GW_EUNREACHABLE);
    assert_true(atomic_load(&let_go));
    assert_non_null(strstr(ended.why.text, "closed the connection"));
}

static gw_err dialled_err;
static unsigned dialled_count;

static void on_dialled(void *arg, struct stream *io, const struct trust_peer *peer,
                       struct span early, const struct gw_error *why)
{
    (void)arg, (void)peer, (void)early;
    dialled_count++;
    dialled_err = io ? GW_OK : why->code;
}

/* The time to connect is one thing, the time until it is one's turn there another. */
static void test_who_waits_for_a_turn_is_not_timed_out(void **state)
{
    static struct ended ends[LIMIT_BULK_ORIGIN];
    struct dial_to to = {.url = server_url(server),
                         .path = "/v1/bulk",
                         .upgrade = "Upgrade: godwit-bulk/1\r\nGodwit-Bulk: hold\r\n",
                         .timeout_ms = 200};
    (void)state;
    hold_all(ends, LIMIT_BULK_ORIGIN);
    turn_until(bulk_stats(bulk).running[1] == LIMIT_BULK_ORIGIN);
    dialled_count = 0;
    dial_start(base, beta, &to, on_dialled, NULL);
    turn_until(dialled_count);
    assert_int_equal(dialled_err, GW_ETIMEOUT);
    to.answer_ms = 20000;
    dialled_count = 0;
    dial_start(base, beta, &to, on_dialled, NULL);
    turns_ms(400);
    assert_int_equal(dialled_count, 0);
    atomic_store(&let_go, true);
    turn_until(dialled_count);
    assert_int_equal(dialled_err, GW_OK);
    for (size_t i = 0; i < LIMIT_BULK_ORIGIN; i++) {
        turn_until(ends[i].count == 1);
    }
}

/* --- one end of a connection --- */

static void test_a_trickle_is_ended(void **state)
{
    struct bulk_conn c;
    struct stream s;
    struct buf none = {0};
    struct gw_error why;
    int fds[2];
    char b[4];
    size_t n;
    gw_err err = GW_OK;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    s = stream_over(fds[0]);
    assert_int_equal(bulk_conn_open(&c, &s, &none), GW_OK);
    assert_int_equal(c.slow_ms, LIMIT_BULK_SLOW_MS);
    c.slow_ms = 50;
    while (err == GW_OK) { /* each byte comes in time, all of them never would */
        assert_int_equal(write(fds[1], "x", 1), 1);
        err = c.io.wait(c.io.ctx, true, false, 1000);
        assert_true(err != GW_OK || c.io.read(c.io.ctx, b, sizeof b, &n) == GW_OK);
    }
    assert_int_equal(err, GW_EUNREACHABLE);
    c.io.describe(c.io.ctx, &why);
    assert_non_null(strstr(why.text, "moved only"));
    bulk_conn_close(&c);
    close(fds[1]);
}

static void test_enough_bytes_are_no_trickle(void **state)
{
    static char much[LIMIT_BULK_SLOW_BYTES];
    struct bulk_conn c;
    struct stream s;
    struct buf early = {0};
    int fds[2];
    size_t n;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    s = stream_over(fds[0]);
    buf_add(&early, much, sizeof much);
    assert_int_equal(bulk_conn_open(&c, &s, &early), GW_OK);
    c.slow_ms = 20;
    assert_int_equal(c.io.wait(c.io.ctx, false, false, 30), GW_ETIMEOUT);
    assert_int_equal(c.io.read(c.io.ctx, much, sizeof much, &n), GW_OK);
    assert_int_equal(n, sizeof much);
    assert_int_equal(c.io.wait(c.io.ctx, false, false, 1), GW_ETIMEOUT); /* begins anew */
    close(fds[1]);
    assert_int_equal(c.io.wait(c.io.ctx, true, false, -1), GW_OK); /* as long as it takes */
    assert_int_equal(c.io.read(c.io.ctx, much, 1, &n), GW_ENOT_FOUND);
    bulk_conn_close(&c);
}

/* --- requests that are handed over --- */

static void test_long_bodies_go_to_a_thread(void **state)
{
    static char request[300 + MUCH * 2];
    (void)state;
    size_t body = 9u * 1024 * 1024; /* more than the server itself would hold */
    int n = snprintf(
        request, 300,
        "PUT /v1/count/a%%20b?twice=x HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", body);
    memset(request + n, 'x', body);
    int fd = local();
    size_t sent = 0, total = (size_t)n + body;
    while (sent < total) {
        ssize_t w = send(fd, request + sent, total - sent, MSG_NOSIGNAL);
        if (w > 0) {
            sent += (size_t)w;
        } else {
            assert_int_equal(errno, EAGAIN);
            turn();
        }
    }
    read_text(fd, NULL, answer_text, sizeof answer_text, NULL);
    close(fd);
    expect_status(answer_text, 200);
    assert_non_null(strstr(answer_text, "\r\n\r\na b x 9437184"));
    assert_int_equal(requests, 0);
}

static void test_refusals_of_requests(void **state)
{
    (void)state;
    expect_status(ask("PUT /v1/count/no HTTP/1.1\r\nHost: x\r\n\r\n"), 409);
    assert_non_null(strstr(answer_text, "it will not"));
    expect_status(ask("PUT /v1/count/%zz HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    expect_status(ask("PUT /v1/peers/a HTTP/1.1\r\nHost: x\r\n\r\n"), 403);
    expect_status(ask("GET /v1/bulk HTTP/1.1\r\nHost: x\r\n\r\n"), 403);
    expect_status(ask("POST /v1/count/a HTTP/1.1\r\nHost: x\r\n\r\n"), 200); /* the handler's */
}

/* Places among the counted are given back: six at a time are allowed. */
static void test_places_are_given_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        expect_status(ask("PUT /v1/count/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"),
                      200);
    }
}

int main(void)
{
#define BULK_TEST(f) cmocka_unit_test_setup_teardown(f, open_bulk, close_bulk)
    const struct CMUnitTest tests[] = {
        BULK_TEST(test_bytes_go_there_and_back),
        BULK_TEST(test_what_cannot_be_dialled_says_why),
        BULK_TEST(test_calling_off),
        BULK_TEST(test_the_end_calls_all_off),
        BULK_TEST(test_a_failure_has_words),
        BULK_TEST(test_more_jobs_than_threads),
        cmocka_unit_test_setup_teardown(test_one_host_leaves_places_to_others, open_wide,
                                        close_bulk),
        cmocka_unit_test_setup_teardown(test_who_waits_for_a_turn_is_not_timed_out, open_wide,
                                        close_bulk),
        BULK_TEST(test_a_sign_of_life_leaves),
        cmocka_unit_test(test_a_trickle_is_ended),
        cmocka_unit_test(test_enough_bytes_are_no_trickle),
        BULK_TEST(test_long_bodies_go_to_a_thread),
        BULK_TEST(test_refusals_of_requests),
        BULK_TEST(test_places_are_given_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
