/* A server on real sockets, its handler and its clients: shared by the tests of host/net that need
 * one. */
#ifndef TESTS_UNIT_HOST_SERVER_RIG_H
#define TESTS_UNIT_HOST_SERVER_RIG_H

#include "tests/unit/host/net_rig.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <sys/un.h>

static char home_path[64];
static char other_home[64];
static char long_folder[200];
static char socket_path[256];
static struct trust *alpha, *beta, *stranger; /* two hosts of one mesh, one of another */
static struct server *server;
static struct seen server_link; /* the last link that came */
static api_role link_role;
static unsigned requests;
static char last_request[256]; /* METHOD path?query role body-length */
static struct http_call *held;
static unsigned gone;

/* --- the handler of all requests: the path says what to do --- */

static RIG_UNUSED void on_gone(void *arg)
{
    gone++;
    http_stream_end(arg);
    held = NULL;
}

static RIG_UNUSED void on_request(void *arg, struct http_call *c)
{
    assert_null(arg);
    requests++;
    snprintf(last_request, sizeof last_request, "%s %s?%s %d %zu", http_method(c), http_path(c),
             http_query(c), (int)http_role(c), http_body(c).n);
    if (strcmp(http_path(c), "/hold") == 0) {
        held = c;
    } else if (strcmp(http_path(c), "/stream") == 0) {
        held = c;
        http_stream_begin(c, "text/event-stream", on_gone, c);
        assert_true(http_stream_write(c, (struct span){(const uint8_t *)"data: 1\n\n", 9}));
    } else if (strcmp(http_path(c), "/big") == 0) {
        static uint8_t big[3 * 1024 * 1024];
        http_answer(c, 200, "application/octet-stream", (struct span){big, sizeof big});
    } else {
        const char *echo = http_header(c, "X-Echo");
        http_set_header(c, "X-Echo", echo ? echo : "none");
        http_answer(c, 200, "text/plain", (struct span){(const uint8_t *)"hello\n", 6});
    }
}

static RIG_UNUSED void on_link(void *arg, struct link *link, api_role role)
{
    (void)arg;
    server_link = (struct seen){0};
    seen_take(&server_link, link);
    link_role = role;
}

static const struct server_ops ops = {on_request, on_link};

static RIG_UNUSED struct server_config config(const char *listen)
{
    return (struct server_config){.base = base,
                                  .trust = alpha,
                                  .listen = listen,
                                  .socket_path = socket_path,
                                  .ops = &ops,
                                  .header_ms = 300,
                                  .idle_ms = 400,
                                  .body_ms = 400,
                                  .write_ms = 400,
                                  .yield_ms = 60,
                                  .max_connections = 6};
}

static RIG_UNUSED int setup(void **state)
{
    struct gw_error why = {0};
    rig_setup(state);
    log_setup(LOG_ERROR, false);
    temp_home(home_path);
    temp_home(other_home);
    if (trust_open(home_path, "alpha", &alpha, &why) != GW_OK ||
        trust_open(home_path, "beta", &beta, &why) != GW_OK ||
        trust_open(other_home, "gamma", &stranger, &why) != GW_OK) {
        return -1;
    }
    snprintf(long_folder, sizeof long_folder, "%s/%0130d", home_path, 7);
    mkdir(long_folder, 0700);
    snprintf(socket_path, sizeof socket_path, "%s/api.sock", long_folder);
    return strlen(socket_path) > 150 ? 0 : -1;
}

static RIG_UNUSED int teardown(void **state)
{
    trust_close(alpha);
    trust_close(beta);
    trust_close(stranger);
    remove_tree(home_path);
    remove_tree(other_home);
    return rig_teardown(state);
}

static RIG_UNUSED int open_server(void **state)
{
    (void)state;
    struct gw_error why = {0};
    struct server_config c = config("127.0.0.1:0");
    requests = gone = 0;
    held = NULL;
    server_link = (struct seen){0};
    return server_open(&c, &server, &why) == GW_OK ? 0 : -1;
}

static RIG_UNUSED int close_server(void **state)
{
    (void)state;
    server_close(server);
    seen_end(&server_link);
    turns_ms(5);
    return 0;
}

/* --- clients --- */

static RIG_UNUSED int port_of(const char *url)
{
    return (int)strtol(strrchr(url, ':') + 1, NULL, 10);
}

static RIG_UNUSED int tcp(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port_of(server_url(server))),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static RIG_UNUSED int local(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int dir = open(long_folder, O_PATH | O_DIRECTORY);
    snprintf(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d/api.sock", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    close(dir);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Read until `until` is in the text, or the end; the loop turns meanwhile. Returns bytes. */
static RIG_UNUSED size_t read_text(int fd, SSL *ssl, char *text, size_t cap, const char *until)
{
    size_t n = 0;
    int64_t end = now_ms() + 10000;
    text[0] = '\0';
    while (n + 1 < cap && !(until && strstr(text, until)) && now_ms() < end) {
        ssize_t r =
            ssl ? SSL_read(ssl, text + n, (int)(cap - n - 1)) : recv(fd, text + n, cap - n - 1, 0);
        if (r > 0) {
            n += (size_t)r;
            text[n] = '\0';
            continue;
        }
        bool again =
            ssl ? SSL_get_error(ssl, (int)r) == SSL_ERROR_WANT_READ : r < 0 && errno == EAGAIN;
        if (!again) {
            break;
        }
        turn();
    }
    assert_true(now_ms() < end);
    return n;
}

/* One request on a fresh unix socket; the whole answer to the end of the connection. */
static char answer_text[65536];
static RIG_UNUSED const char *ask_raw(const void *request, size_t n)
{
    int fd = local();
    raw_write(fd, request, n);
    shutdown(fd, SHUT_WR);
    read_text(fd, NULL, answer_text, sizeof answer_text, NULL);
    close(fd);
    return answer_text;
}

static RIG_UNUSED const char *ask(const char *request)
{
    return ask_raw(request, strlen(request));
}

static RIG_UNUSED void expect_status(const char *answer, int status)
{
    char want[32];
    snprintf(want, sizeof want, "HTTP/1.1 %d ", status);
    if (strncmp(answer, want, strlen(want)) != 0) {
        fail_msg("not status %d: %s", status, answer);
    }
}

static RIG_UNUSED SSL *tls(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    for (;;) {
        int r = SSL_do_handshake(ssl);
        if (r == 1) {
            return ssl;
        }
        if (SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ) {
            SSL_free(ssl);
            ERR_clear_error();
            return NULL;
        }
        turn();
    }
}

#define NET_TEST(f) cmocka_unit_test_setup_teardown(f, open_server, close_server)

#endif
