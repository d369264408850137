/* The listener on real sockets: bad, slow and large requests, limits, TLS, addresses. */
#include "tests/unit/host/server_rig.h"

/* --- plain requests --- */

static void test_a_request_is_answered(void **state)
{
    (void)state;
    const char *a = ask("GET /a/b?x=1 HTTP/1.1\r\nHost: h\r\nX-Echo:  back \r\n\r\n");
    expect_status(a, 200);
    assert_non_null(strstr(a, "\r\nX-Echo: back\r\n"));
    assert_non_null(strstr(a, "\r\nContent-Length: 6\r\n"));
    assert_non_null(strstr(a, "\r\n\r\nhello\n"));
    assert_string_equal(last_request, "GET /a/b?x=1 3 0"); /* the unix socket is an admin */
    a = ask("HEAD / HTTP/1.1\r\n\r\n");
    expect_status(a, 200);
    assert_non_null(strstr(a, "Content-Length: 6\r\n"));
    assert_null(strstr(a, "hello"));
    a = ask("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde");
    expect_status(a, 200);
    assert_string_equal(last_request, "POST /? 3 5");
    expect_status(ask("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 200);
}

static void test_connections_are_kept_and_pipelined(void **state)
{
    (void)state;
    int fd = local();
    static const char three[] =
        "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\ncontent-length: 3\r\n\r\nxyz"
        "GET /3 HTTP/1.1\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\n\r\n";
    raw_write(fd, three, sizeof three - 1);
    read_text(fd, NULL, answer_text, sizeof answer_text, NULL);
    assert_int_equal(requests, 3);
    assert_non_null(strstr(answer_text, "Connection: close\r\n"));
    close(fd);
    /* HTTP/1.0 closes unless it asks */
    const char *a = ask("GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(a, "Connection: close\r\n"));
    a = ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(a, "Connection: keep-alive\r\n"));
    assert_int_equal(requests, 6);
}

static void test_a_flood_of_requests_leaves_others_their_turn(void **state)
{
    (void)state;
    int flood = local(), other = local();
    struct buf b = {0};
    for (int i = 0; i < 800; i++) {
        buf_addf(&b, "GET /%d HTTP/1.1\r\n\r\n", i);
    }
    raw_write(flood, b.data, b.len);
    raw_write(other, "GET /other HTTP/1.1\r\nConnection: close\r\n\r\n", 43);
    bool between = false;
    while (requests < 801) {
        unsigned before = requests;
        turn();
        between = between || (strncmp(last_request, "GET /other", 10) == 0 && requests < 801);
        if (requests == before) { /* the answers are to be read, too */
            (void)recv(flood, answer_text, sizeof answer_text, 0);
        }
    }
    assert_true(between || strncmp(last_request, "GET /799", 8) == 0);
    close(flood);
    close(other);
    buf_free(&b);
}

static void test_malformed_requests(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"\x16\x03\x01\x02", 400},
        {"hello\r\n\r\n", 400},
        {"GET\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\n\r\n", 400},
        {"GeT / HTTP/1.1\r\n\r\n", 400},
        {"GET http://x/ HTTP/1.1\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"GET / FTP/1.1\r\n\r\n", 400},
        {"ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: empty\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411},
        {"POST / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n", 413},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *a = ask(cases[i].text);
        char want[16];
        snprintf(want, sizeof want, " %d ", cases[i].status);
        if (!strstr(a, want) || !strstr(a, "{\"error\": {\"code\": \"") ||
            !strstr(a, "Connection: close")) {
            fail_msg("case %zu: %s", i, a);
        }
    }
    static const char nul[] = "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n";
    expect_status(ask_raw(nul, sizeof nul - 1), 400);
    assert_int_equal(requests, 0);
    expect_status(ask("GET / HTTP/1.1\r\n\r\n"), 200); /* and the server lives */
}

static void test_head_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int over = 0; over <= 1; over++) {
        buf_reset(&b);
        buf_addf(&b, "GET / HTTP/1.1\r\nA: ");
        while (b.len < LIMIT_HTTP_HEADER_BYTES - 4 + (size_t)over) {
            buf_add(&b, "x", 1);
        }
        buf_addf(&b, "\r\n\r\n");
        expect_status(ask_raw(b.data, b.len), over ? 431 : 200);
        buf_reset(&b);
        buf_addf(&b, "GET / HTTP/1.1\r\n");
        for (int i = 0; i < LIMIT_HTTP_HEADERS + over; i++) {
            buf_addf(&b, "A%d: b\r\n", i);
        }
        buf_addf(&b, "\r\n");
        expect_status(ask_raw(b.data, b.len), over ? 431 : 200);
        buf_reset(&b);
        buf_addf(&b, "GET /");
        while (b.len < 4 + 8192 + (size_t)over) {
            buf_add(&b, "y", 1);
        }
        buf_addf(&b, " HTTP/1.1\r\n\r\n");
        expect_status(ask_raw(b.data, b.len), over ? 414 : 200);
    }
    buf_free(&b);
}

static void test_body_limit(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_addf(&b, "POST / HTTP/1.1\r\nContent-Length: %u\r\n\r\n", LIMIT_HTTP_BODY_BYTES);
    assert_true(buf_reserve(&b, LIMIT_HTTP_BODY_BYTES));
    memset(b.data + b.len, 'z', LIMIT_HTTP_BODY_BYTES);
    b.len += LIMIT_HTTP_BODY_BYTES;
    expect_status(ask_raw(b.data, b.len), 200);
    assert_string_equal(last_request, "POST /? 3 8388608");
    /* one byte more, and sent although it is refused: the answer still arrives */
    buf_reset(&b);
    buf_addf(&b, "POST / HTTP/1.1\r\nContent-Length: %u\r\n\r\n", LIMIT_HTTP_BODY_BYTES + 1);
    memset(b.data + b.len, 'z', LIMIT_HTTP_BODY_BYTES);
    b.len += LIMIT_HTTP_BODY_BYTES;
    const char *a = ask_raw(b.data, b.len);
    expect_status(a, 413);
    assert_non_null(strstr(a, "too_big"));
    assert_int_equal(requests, 1);
    buf_free(&b);
}

static void test_expect_continue(void **state)
{
    (void)state;
    int fd = local();
    static const char head[] =
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    raw_write(fd, head, sizeof head - 1);
    read_text(fd, NULL, answer_text, sizeof answer_text, "\r\n\r\n");
    assert_string_equal(answer_text, "HTTP/1.1 100 Continue\r\n\r\n");
    raw_write(fd, "abc", 3);
    read_text(fd, NULL, answer_text, sizeof answer_text, "hello");
    expect_status(answer_text, 200);
    close(fd);
    expect_status(ask("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"),
                  413);
}

/* --- slow clients --- */

/* Sends one byte every 30 ms; returns ms until the server ends the connection. */
static int64_t trickle(int fd, const char *text)
{
    int64_t begin = now_ms();
    char c[4096];
    while (now_ms() - begin < 5000) {
        if (*text) {
            (void)send(fd, text++, 1, MSG_NOSIGNAL);
        }
        turns_ms(30);
        ssize_t n = recv(fd, c, sizeof c - 1, 0);
        if (n > 0) {
            c[n] = '\0';
            snprintf(answer_text, sizeof answer_text, "%s", c);
        } else if (n == 0 || errno != EAGAIN) {
            break;
        }
    }
    return now_ms() - begin;
}

static void test_slow_heads_and_bodies_end(void **state)
{
    (void)state;
    int fd = local(); /* a byte now and then does not keep it alive */
    answer_text[0] = '\0';
    assert_in_range(
        trickle(fd, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 290,
        4000);
    expect_status(answer_text, 408);
    close(fd);
    fd = local(); /* silence: closed without a word */
    answer_text[0] = '\0';
    assert_in_range(trickle(fd, ""), 290, 4000);
    assert_string_equal(answer_text, "");
    close(fd);
    fd = tcp(); /* the same before the TLS handshake */
    assert_in_range(trickle(fd, "\x16\x03\x01\x02"), 290, 4000);
    close(fd);
    fd = local();
    raw_write(fd, "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n", 41);
    assert_in_range(
        trickle(fd, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 390,
        4000);
    expect_status(answer_text, 408);
    close(fd);
    fd = local(); /* kept alive and idle */
    raw_write(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    read_text(fd, NULL, answer_text, sizeof answer_text, "hello");
    assert_in_range(trickle(fd, ""), 350, 4000);
    close(fd);
    assert_int_equal(requests, 1);
}

static void test_slow_readers_end(void **state)
{
    (void)state;
    int fd = local();
    raw_write(fd, "GET /big HTTP/1.1\r\n\r\n", 21);
    turn_until(requests == 1);
    turns_ms(900); /* reads nothing */
    size_t total = 0;
    for (;;) {
        ssize_t n = recv(fd, answer_text, sizeof answer_text, 0);
        if (n <= 0) {
            assert_true(n == 0 || errno != EAGAIN); /* ended, not only waiting */
            break;
        }
        total += (size_t)n;
        turn();
    }
    assert_true(total < 3 * 1024 * 1024);
    close(fd);
}

/* --- the handler takes its time --- */

static void test_late_answers(void **state)
{
    (void)state;
    int fd = local();
    raw_write(fd, "GET /hold HTTP/1.1\r\n\r\n", 22);
    turn_until(held);
    turns_ms(500); /* no deadline of the server counts against the handler */
    http_answer(held, 200, "text/plain", (struct span){(const uint8_t *)"late", 4});
    read_text(fd, NULL, answer_text, sizeof answer_text, "late");
    expect_status(answer_text, 200);
    /* the client leaves before the answer */
    held = NULL;
    raw_write(fd, "GET /hold HTTP/1.1\r\n\r\n", 22);
    turn_until(held);
    close(fd);
    turns_ms(30);
    assert_string_equal(http_path(held), "/hold");
    http_answer(held, 200, "text/plain", (struct span){(const uint8_t *)"nobody", 6});
    turns_ms(20);
    /* the server closes before the answer */
    held = NULL;
    fd = local();
    raw_write(fd, "GET /hold HTTP/1.1\r\n\r\n", 22);
    turn_until(held);
    close_server(NULL);
    http_answer(held, 200, "text/plain", (struct span){(const uint8_t *)"nobody", 6});
    close(fd);
    assert_int_equal(open_server(NULL), 0);
}

static void test_streams(void **state)
{
    (void)state;
    int fd = local();
    raw_write(fd, "GET /stream HTTP/1.1\r\n\r\n", 24);
    read_text(fd, NULL, answer_text, sizeof answer_text, "data: 1");
    expect_status(answer_text, 200);
    assert_non_null(strstr(answer_text, "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(answer_text, "\r\n\r\n9\r\ndata: 1\n\n\r\n"));
    assert_true(http_stream_write(held, (struct span){(const uint8_t *)"data: 2\n\n", 9}));
    http_stream_end(held);
    read_text(fd, NULL, answer_text, sizeof answer_text, "\r\n0\r\n\r\n");
    assert_string_equal(answer_text, "9\r\ndata: 2\n\n\r\n0\r\n\r\n");
    /* the connection goes on; the next stream ends with the client */
    raw_write(fd, "GET /stream HTTP/1.1\r\n\r\n", 24);
    read_text(fd, NULL, answer_text, sizeof answer_text, "data: 1");
    close(fd);
    turn_until(gone == 1);
    assert_null(held);
    /* a client that does not read is dropped */
    fd = local();
    raw_write(fd, "GET /stream HTTP/1.1\r\n\r\n", 24);
    turn_until(held);
    static uint8_t block[65536];
    unsigned written = 0;
    while (http_stream_write(held, (struct span){block, sizeof block}) && written < 1000) {
        written++;
    }
    assert_in_range(written, 60, 64);
    http_stream_end(held);
    turns_ms(20);
    assert_int_equal(gone, 1); /* not told twice */
    close(fd);
    const char *a = ask("HEAD /stream HTTP/1.1\r\n\r\n");
    expect_status(a, 200);
    assert_null(strstr(a, "data"));
    held = NULL;
}

/* --- limits and TLS --- */

static void test_connection_cap(void **state)
{
    (void)state;
    int fd[8];
    for (int i = 0; i < 8; i++) {
        fd[i] = local();
    }
    turns_ms(30);
    unsigned open = 0;
    for (int i = 0; i < 8; i++) {
        char c;
        ssize_t n = recv(fd[i], &c, 1, 0);
        open += n < 0 && errno == EAGAIN;
    }
    assert_int_equal(open, 6 + 1); /* one more only to be told */
    raw_write(fd[0], "GET / HTTP/1.1\r\n\r\n", 18);
    read_text(fd[0], NULL, answer_text, sizeof answer_text, "hello");
    expect_status(answer_text, 200);
    raw_write(fd[6], "GET / HTTP/1.1\r\n\r\n", 18);
    read_text(fd[6], NULL, answer_text, sizeof answer_text, NULL);
    expect_status(answer_text, 429);
    assert_non_null(strstr(answer_text, "\"busy\""));
    assert_int_equal(requests, 1);
    int tcp_fd = tcp(); /* the other listener has its own places */
    SSL *ssl = tls(beta->client, tcp_fd);
    assert_non_null(ssl);
    SSL_free(ssl);
    close(tcp_fd);
    for (int i = 0; i < 8; i++) {
        close(fd[i]);
    }
    turns_ms(30);
    expect_status(ask("GET / HTTP/1.1\r\n\r\n"), 200); /* places are given back */
}

/* Strangers hold all places: the oldest gives way to a newcomer, a member never does. */
static void test_strangers_give_way(void **state)
{
    (void)state;
    int fd[6];
    int member_fd = tcp();
    SSL *member = tls(beta->client, member_fd);
    assert_non_null(member);
    for (int i = 0; i < 5; i++) {
        fd[i] = tcp();
        turns_ms(5);
    }
    fd[5] = tcp(); /* none is old enough to give way: told so, if it gets as far */
    turns_ms(100);
    int newcomer_fd = tcp();
    SSL *newcomer = tls(beta->client, newcomer_fd);
    assert_non_null(newcomer);
    SSL_write(newcomer, "GET / HTTP/1.1\r\n\r\n", 18);
    read_text(newcomer_fd, newcomer, answer_text, sizeof answer_text, "hello");
    expect_status(answer_text, 200);
    char c;
    assert_int_equal(recv(fd[0], &c, 1, 0), 0); /* the oldest stranger is gone */
    assert_true(recv(fd[4], &c, 1, 0) < 0 && errno == EAGAIN);
    SSL_write(member, "GET / HTTP/1.1\r\n\r\n", 18);
    read_text(member_fd, member, answer_text, sizeof answer_text, "hello");
    expect_status(answer_text, 200);
    for (int i = 0; i < 6; i++) {
        close(fd[i]);
    }
    SSL_free(member);
    SSL_free(newcomer);
    close(member_fd);
    close(newcomer_fd);
}

static void test_plain_http_on_the_tls_port(void **state)
{
    (void)state;
    int fd = tcp();
    raw_write(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    read_text(fd, NULL, answer_text, sizeof answer_text, NULL);
    assert_null(strstr(answer_text, "HTTP/1.1"));
    assert_int_equal(requests, 0);
    close(fd);
}

/* Memory for a TLS connection is refused n times: nothing is ever served in clear. */
static int fail_mallocs;
static void *failing_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    if (fail_mallocs > 0 && --fail_mallocs == 0) {
        return NULL;
    }
    return malloc(n);
}
static void *plain_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return realloc(p, n);
}
static void plain_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

static void test_without_memory_for_tls_nothing_is_served_in_clear(void **state)
{
    (void)state;
    for (int n = 1; n < 12; n++) {
        int fd = tcp();
        raw_write(fd, "GET / HTTP/1.1\r\n\r\n", 18);
        fail_mallocs = n;
        turns_ms(15);
        fail_mallocs = 0;
        read_text(fd, NULL, answer_text, sizeof answer_text, NULL);
        assert_null(strstr(answer_text, "HTTP/1.1"));
        close(fd);
    }
    assert_int_equal(requests, 0);
    int fd = tcp();
    SSL *ssl = tls(beta->client, fd);
    assert_non_null(ssl);
    SSL_free(ssl);
    close(fd);
}

static void test_tls_versions(void **state)
{
    (void)state;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    int fd = tcp();
    assert_null(tls(ctx, fd));
    close(fd);
    SSL_CTX_set_max_proto_version(ctx, 0);
    fd = tcp();
    SSL *ssl = tls(ctx, fd); /* 1.3, without a certificate: allowed, but nobody */
    assert_non_null(ssl);
    assert_int_equal(SSL_write(ssl, "GET /x HTTP/1.1\r\n\r\n", 19), 19);
    read_text(fd, ssl, answer_text, sizeof answer_text, "hello");
    expect_status(answer_text, 200);
    assert_string_equal(last_request, "GET /x? 0 0");
    SSL_free(ssl);
    close(fd);
    SSL_CTX_free(ctx);
    turns_ms(10);
    fd = tcp();
    ssl = tls(beta->client, fd); /* a host of the mesh */
    assert_non_null(ssl);
    assert_int_equal(SSL_write(ssl, "GET /x HTTP/1.1\r\n\r\n", 19), 19);
    read_text(fd, ssl, answer_text, sizeof answer_text, "hello");
    assert_string_equal(last_request, "GET /x? 4 0");
    SSL_free(ssl);
    close(fd);
    turns_ms(10);
}

/* --- opening --- */

static void test_ports_and_addresses(void **state)
{
    (void)state;
    struct gw_error why = {0};
    struct server *second = NULL;
    struct server_config c = config("");
    c.socket_path = NULL;
    char listen[64];
    snprintf(listen, sizeof listen, "127.0.0.1:%d", port_of(server_url(server)));
    c.listen = listen;
    assert_int_equal(server_open(&c, &second, &why), GW_EEXISTS);
    assert_non_null(strstr(why.text, "is in use"));
    assert_non_null(strstr(why.hint, "--listen"));
    static const char *const bad[] = {
        "127.0.0.1:65536",  "127.0.0.1:x", ":7420", "[::1", "[::1]x", "::1",
        "not an address:1", "192.0.2.1:0", ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c.listen = bad[i];
        assert_int_equal(server_open(&c, &second, &why), GW_EARG);
    }
    assert_null(second);
    c.listen = "127.0.0.1"; /* 7420 or the next free one */
    assert_int_equal(server_open(&c, &second, &why), GW_OK);
    int first_port = port_of(server_url(second));
    assert_in_range(first_port, 7420, 7519);
    struct server *third = NULL;
    assert_int_equal(server_open(&c, &third, &why), GW_OK);
    assert_in_range(port_of(server_url(third)), first_port + 1, 7519);
    server_close(third);
    server_close(second);
    c.listen = "[::1]:0";
    if (server_open(&c, &second, &why) == GW_OK) {
        assert_memory_equal(server_url(second), "https://[::1]:", 14);
        server_close(second);
    }
    c.listen = "0.0.0.0:0";
    assert_int_equal(server_open(&c, &second, &why), GW_OK);
    assert_null(strstr(server_url(second), "0.0.0.0"));
    server_close(second);
}

static void test_the_socket_file(void **state)
{
    (void)state;
    struct stat st;
    struct gw_error why = {0};
    struct server *second = NULL;
    assert_int_equal(stat(socket_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    struct server_config c = config("127.0.0.1:0");
    assert_int_equal(server_open(&c, &second, &why), GW_EEXISTS); /* somebody serves it */
    assert_non_null(strstr(why.text, "another host serves"));
    assert_int_equal(stat(socket_path, &st), 0); /* and still does */
    server_close(server);
    assert_int_equal(stat(socket_path, &st), -1);
    /* a stale one is replaced, anything else is not */
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[100];
    snprintf(path, sizeof path, "%s/api.sock", home_path);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    close(fd);
    c.socket_path = path;
    assert_int_equal(server_open(&c, &second, &why), GW_OK);
    server_close(second);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(server_open(&c, &second, &why), GW_EEXISTS);
    unlink(path);
    c.socket_path = "/nowhere/at/all/api.sock";
    assert_int_equal(server_open(&c, &second, &why), GW_ENOT_FOUND);
    assert_int_equal(open_server(NULL), 0);
}

int main(void)
{
    /* Before the first use of OpenSSL. */
    CRYPTO_set_mem_functions(failing_malloc, plain_realloc, plain_free);
    const struct CMUnitTest tests[] = {
        NET_TEST(test_a_request_is_answered),
        NET_TEST(test_connections_are_kept_and_pipelined),
        NET_TEST(test_a_flood_of_requests_leaves_others_their_turn),
        NET_TEST(test_malformed_requests),
        NET_TEST(test_head_limits),
        NET_TEST(test_body_limit),
        NET_TEST(test_expect_continue),
        NET_TEST(test_slow_heads_and_bodies_end),
        NET_TEST(test_slow_readers_end),
        NET_TEST(test_late_answers),
        NET_TEST(test_streams),
        NET_TEST(test_connection_cap),
        NET_TEST(test_strangers_give_way),
        NET_TEST(test_plain_http_on_the_tls_port),
        NET_TEST(test_without_memory_for_tls_nothing_is_served_in_clear),
        NET_TEST(test_tls_versions),
        NET_TEST(test_ports_and_addresses),
        NET_TEST(test_the_socket_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
