/* Upgrades and dials: who gets a link, over TLS between two hosts and on the unix socket. */
#include "tests/unit/host/server_rig.h"

/* --- upgrade --- */

#define UPGRADE "GET /v1/link HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: godwit/1\r\n"

static void test_upgrade_on_the_unix_socket(void **state)
{
    (void)state;
    int fd = local();
    struct buf b = {0}; /* frames right behind the request must not get lost */
    buf_addf(&b, UPGRADE "Godwit-Role: client\r\n\r\n");
    add_call(&b, 1, 5);
    add_call(&b, 2, 50);
    raw_write(fd, b.data, b.len - 20);
    turn_until(server_link.frames == 1);
    raw_write(fd, b.data + b.len - 20, 20);
    turn_until(server_link.frames == 2);
    assert_int_equal(link_role, ROLE_ADMIN);
    assert_int_equal(link_get_kind(server_link.link), LINK_CLIENT);
    send_empty(server_link.link, FRAME_CANCEL, 9);
    read_text(fd, NULL, answer_text, sizeof answer_text, "\r\n\r\n");
    expect_status(answer_text, 101);
    turns_ms(10);
    char frame[16];
    if (!strstr(answer_text, "\r\n\r\n\0")) {
        (void)recv(fd, frame, sizeof frame, 0);
    }
    turns_ms(500); /* no deadline of HTTP counts for a link */
    assert_non_null(server_link.link);
    close(fd);
    turn_until(!server_link.link);
    buf_free(&b);
}

static void test_upgrades_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET /v1/link HTTP/1.1\r\n\r\n", 426},
        {"GET /v1/link HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 426},
        {"GET /v1/link HTTP/1.1\r\nUpgrade: godwit/1\r\n\r\n", 426},
        {UPGRADE "\r\n", 400},
        {UPGRADE "Godwit-Role: king\r\n\r\n", 400},
        {UPGRADE "Godwit-Role: peer\r\n\r\n", 403}, /* no host certificate on the unix socket */
        {UPGRADE "Godwit-Role: client\r\nContent-Length: 1\r\n\r\nx", 400},
        {"POST /v1/link HTTP/1.1\r\n\r\n", 405},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_status(ask(cases[i].text), cases[i].status);
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    static const char *const roles[] = {"peer", "client"};
    for (int i = 0; i < 2; i++) {
        int fd = tcp();
        SSL *ssl = tls(ctx, fd);
        char request[300];
        int n = snprintf(request, sizeof request, UPGRADE "Godwit-Role: %s\r\n\r\n", roles[i]);
        assert_int_equal(SSL_write(ssl, request, n), n);
        read_text(fd, ssl, answer_text, sizeof answer_text, "}}");
        expect_status(answer_text, 401);
        assert_non_null(strstr(answer_text, "WWW-Authenticate: Bearer"));
        SSL_free(ssl);
        close(fd);
    }
    SSL_CTX_free(ctx);
    assert_null(server_link.link);
}

/* --- dialling --- */

static struct seen dialled;
static struct gw_error dial_why;
static unsigned dial_done;

static void on_dialled(void *arg, struct link *link, const struct gw_error *why)
{
    assert_ptr_equal(arg, &dialled);
    dial_done++;
    if (link) {
        seen_take(&dialled, link);
    } else {
        dial_why = *why;
    }
}

static gw_err dial(struct trust *who, const char *url, const struct host_id *expect, int64_t ms)
{
    dial_done = 0;
    dialled = (struct seen){0};
    dial_why = (struct gw_error){0};
    link_dial(base, who, url, expect, ms, on_dialled, &dialled);
    assert_int_equal(dial_done, 0); /* never inside the call */
    turn_until(dial_done);
    turns_ms(5);
    assert_int_equal(dial_done, 1);
    return dialled.link ? GW_OK : dial_why.code;
}

static void test_peers_link_over_tls(void **state)
{
    (void)state;
    assert_int_equal(dial(beta, server_url(server), &alpha->id, 5000), GW_OK);
    turn_until(server_link.link);
    assert_int_equal(link_role, ROLE_PEER);
    assert_true(host_id_equal(&link_peer(server_link.link)->id, &beta->id));
    assert_true(host_id_equal(&link_peer(dialled.link)->id, &alpha->id));
    uint64_t want = 0;
    for (uint64_t i = 1; i <= 2000; i++) {
        send_call(dialled.link, i, i);
        send_call(server_link.link, i, 2 * i);
        want ^= call_sum(i, i);
    }
    turn_until(server_link.frames == 2000 && dialled.frames == 2000);
    assert_true(server_link.checksum == want);
    for (uint64_t i = 1; i <= 2000; i++) {
        assert_int_equal(server_link.streams[i - 1], i);
        assert_int_equal(dialled.streams[i - 1], i);
    }
    /* both ways at once, large; control passes it */
    send_call(dialled.link, 1, 64 * 1024 * 1024);
    send_call(server_link.link, 2, 24 * 1024 * 1024);
    turns_ms(20);
    send_empty(dialled.link, FRAME_CANCEL, 77);
    turn_until(server_link.frames == 2001);
    assert_int_equal(server_link.streams[2000], 77);
    turn_until(server_link.frames == 2002 && dialled.frames == 2001);
    assert_true(server_link.checksum == (want ^ call_sum(1, 64 * 1024 * 1024)));
    /* an orderly end delivers what was sent */
    send_call(dialled.link, 3, 300000);
    link_close(dialled.link, true, "bye");
    turn_until(!server_link.link && !dialled.link);
    assert_int_equal(server_link.frames, 2003);
    assert_string_equal(server_link.reason, "closed by the other side");
    assert_string_equal(dialled.reason, "bye");
}

static void test_dials_that_fail(void **state)
{
    (void)state;
    const char *url = server_url(server);
    assert_int_equal(dial(beta, url, &beta->id, 5000), GW_EIDENTITY);
    assert_non_null(strstr(dial_why.text, "is host "));
    assert_int_equal(dial(stranger, url, NULL, 5000), GW_EDENIED); /* another CA */
    assert_non_null(strstr(dial_why.hint, "same mesh"));
    static const char *const bad[] = {"",
                                      "http://127.0.0.1:1",
                                      "https://",
                                      "https://:1",
                                      "https://h:0",
                                      "https://h:65536",
                                      "https://h:x",
                                      "https://[::1",
                                      "https://h/x",
                                      "https://a b:1",
                                      "https://a@b:1",
                                      "127.0.0.1:7420"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(dial(beta, bad[i], NULL, 5000), GW_EARG);
    }
    assert_int_equal(dial(beta, "https://127.0.0.1:1", NULL, 5000), GW_EUNREACHABLE);
    assert_non_null(strstr(dial_why.text, "refused"));
    assert_null(server_link.link);
}

/* What listens there is not what we look for. */
static gw_err dial_to_raw(const char *says, int64_t ms)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%d", ntohs(addr.sin_port));
    dial_done = 0;
    dialled = (struct seen){0};
    link_dial(base, beta, url, NULL, ms, on_dialled, &dialled);
    int peer = -1;
    while (!dial_done) {
        turn();
        if (peer < 0) {
            peer = accept(fd, NULL, NULL);
            if (peer >= 0 && says) {
                raw_write(peer, says, strlen(says));
                shutdown(peer, SHUT_WR);
            }
        }
    }
    close(peer);
    close(fd);
    assert_null(dialled.link);
    return dial_why.code;
}

static void test_dials_to_something_else(void **state)
{
    (void)state;
    int64_t begin = now_ms();
    assert_int_equal(dial_to_raw(NULL, 200), GW_ETIMEOUT); /* accepts and is silent */
    assert_in_range(now_ms() - begin, 190, 1500);
    assert_int_equal(dial_to_raw("SSH-2.0-x\r\n", 5000), GW_EUNREACHABLE);
    assert_int_equal(dial_to_raw("", 5000), GW_EUNREACHABLE);
    /* cancelled: no callback, nothing leaks */
    dial_done = 0;
    struct link_dial *d =
        link_dial(base, beta, server_url(server), NULL, 5000, on_dialled, &dialled);
    link_dial_cancel(d);
    d = link_dial(base, beta, server_url(server), NULL, 5000, on_dialled, &dialled);
    turn();
    turn();
    if (!dial_done) {
        link_dial_cancel(d);
    }
    seen_end(&dialled);
    link_dial_cancel(NULL);
    turns_ms(30);
    seen_end(&server_link);
}

static void test_names_are_looked_up(void **state)
{
    (void)state;
    char url[64];
    snprintf(url, sizeof url, "https://localhost:%d/", port_of(server_url(server)));
    assert_int_equal(dial(beta, url, NULL, 5000), GW_OK);
    seen_end(&dialled);
    turn_until(!server_link.link);
    assert_int_equal(dial(beta, "https://no-such-host.invalid:1", NULL, 1500) == GW_OK, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_TEST(test_upgrade_on_the_unix_socket), NET_TEST(test_upgrades_that_are_refused),
        NET_TEST(test_peers_link_over_tls),        NET_TEST(test_dials_that_fail),
        NET_TEST(test_dials_to_something_else),    NET_TEST(test_names_are_looked_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
