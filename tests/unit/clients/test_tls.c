/* The client over TLS, against the certificates that hosts make: who is let in, who is not. */
#include "clients/lib/tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include <godwit/client.h>

#include "clients/lib/conn.h"
#include "host/trust/trust.h"
#include "tests/unit/clients/fake_host.h"

#include <cmocka.h>

static char home[64];
static struct trust *trust;
static struct gw_error why;

/* ---- a TLS server for one connection ---- */

struct server {
    int fd;
    pthread_t thread;
    SSL_CTX *ctx; /* NULL: speaks in clear */
    bool drop;    /* close after the first frame */
    char url[64];
    char head[2048]; /* the request */
    trust_role role; /* of the client's certificate */
    bool shaken;     /* the handshake went through */
};

static bool read_until(SSL *ssl, struct buf *in, const char *mark)
{
    while (!(in->len > 0 && memmem(in->data, in->len, mark, strlen(mark)))) {
        int n = buf_reserve(in, 4096) ? SSL_read(ssl, in->data + in->len, 4096) : 0;
        if (n <= 0) {
            return false;
        }
        in->len += (size_t)n;
    }
    return true;
}

/* Answer each CALL with its own arguments. */
static void echo_frames(struct server *s, SSL *ssl, struct buf *in)
{
    for (;;) {
        struct span left = buf_span(in), args;
        struct frame f;
        while (frame_take(&left, LIMIT_CLIENT_FRAME_BYTES, &f) == GW_OK) {
            struct buf out = {0};
            if (s->drop || mp_skip(&f.rest, NULL) != GW_OK || mp_skip(&f.rest, &args) != GW_OK) {
                return;
            }
            frame_reply(&out, f.stream, GW_OK, args, NULL);
            SSL_write(ssl, out.data, (int)out.len);
            buf_free(&out);
        }
        buf_drop(in, in->len - left.n);
        int n = buf_reserve(in, 65536) ? SSL_read(ssl, in->data + in->len, 65536) : 0;
        if (n <= 0) {
            return;
        }
        in->len += (size_t)n;
    }
}

static void serve_tls(struct server *s, int fd)
{
    static const char hello[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    SSL *ssl = SSL_new(s->ctx);
    struct buf in = {0};
    struct trust_peer peer;
    SSL_set_fd(ssl, fd);
    s->shaken = SSL_accept(ssl) == 1;
    if (s->shaken && trust_peer_of(trust, ssl, &peer, NULL) == GW_OK) {
        s->role = peer.role;
    }
    if (s->shaken && read_until(ssl, &in, "\r\n\r\n")) {
        snprintf(s->head, sizeof s->head, "%.*s", (int)in.len, (char *)in.data);
        size_t head = (size_t)((uint8_t *)memmem(in.data, in.len, "\r\n\r\n", 4) - in.data) + 4;
        buf_drop(&in, head);
        SSL_write(ssl, hello, sizeof hello - 1);
        echo_frames(s, ssl, &in);
    }
    buf_free(&in);
    SSL_free(ssl);
}

static void *server_main(void *arg)
{
    struct server *s = arg;
    int fd = accept(s->fd, NULL, NULL);
    if (fd < 0) {
        return NULL;
    }
    if (s->ctx) {
        serve_tls(s, fd);
    } else {
        fake_write(fd, "220 mail ready\r\n", 16);
        char c;
        while (recv(fd, &c, 1, 0) > 0) {
        }
    }
    close(fd);
    return NULL;
}

static void server_start(struct server *s, SSL_CTX *ctx)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *s = (struct server){.ctx = ctx, .fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(s->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(s->fd, 4), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &size), 0);
    snprintf(s->url, sizeof s->url, "https://127.0.0.1:%d", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_end(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static gw_err open_url(const struct server *s, const char *token_file, struct gw_client **ret)
{
    struct gw_client_options o = {
        .host = s->url, .token_file = token_file, .connect_ms = 3000, .retry_ms = -1};
    why = (struct gw_error){0};
    return gw_client_open(&o, ret, &why);
}

static void expect_refusal(SSL_CTX *ctx, gw_err code, const char *says)
{
    struct server s;
    struct gw_client *client;
    server_start(&s, ctx);
    assert_int_equal(open_url(&s, NULL, &client), code);
    assert_non_null(strstr(why.text, says));
    server_end(&s);
    assert_string_equal(s.head, ""); /* nothing was asked of a host that is none of ours */
}

/* ---- tests ---- */

static void operator_certificate(void **state)
{
    (void)state;
    struct server s;
    struct gw_client *client;
    server_start(&s, trust->server);
    assert_int_equal(open_url(&s, NULL, &client), GW_OK);
    assert_false(gw_client_is_local(client));
    gw_value args = gw_nil(), answer = gw_nil();
    char *big = malloc((1u << 20) + 1);
    memset(big, 'x', 1u << 20);
    big[1u << 20] = '\0';
    assert_int_equal(gw_map_set(&args, "text", gw_str(big)), GW_OK);
    for (int i = 0; i < 4; i++) { /* larger than every buffer on the way */
        assert_int_equal(gw_client_call(client, "types", &args, 5000, &answer, &why), GW_OK);
        assert_true(gw_value_equal(&args, &answer));
    }
    gw_value_free(&args);
    gw_value_free(&answer);
    free(big);
    gw_client_close(client);
    server_end(&s);
    assert_int_equal(s.role, TRUST_OPERATOR);
    assert_non_null(strstr(s.head, "Upgrade: godwit/1\r\n"));
    assert_non_null(strstr(s.head, "Godwit-Role: client\r\n"));
    assert_null(strstr(s.head, "Authorization"));
}

static void bearer_token(void **state)
{
    (void)state;
    char path[128];
    struct server s;
    struct gw_client *client;
    snprintf(path, sizeof path, "%s/token", home);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("secret-1\n", f);
    fclose(f);
    server_start(&s, trust->server);
    assert_int_equal(open_url(&s, path, &client), GW_OK);
    gw_client_close(client);
    server_end(&s);
    assert_int_equal(s.role, TRUST_NONE);
    assert_non_null(strstr(s.head, "Authorization: Bearer secret-1\r\n"));

    f = fopen(path, "w"); /* what would be a header of its own */
    fputs("a\r\nX-Evil: 1", f);
    fclose(f);
    assert_int_equal(open_url(&s, path, &client), GW_EARG);
    snprintf(path, sizeof path, "%s/none", home);
    assert_int_equal(open_url(&s, path, &client), GW_ENOT_FOUND);
}

static void lost_over_tls(void **state)
{
    (void)state;
    struct server s;
    struct gw_client *client;
    server_start(&s, trust->server);
    s.drop = true;
    assert_int_equal(open_url(&s, NULL, &client), GW_OK);
    assert_int_equal(gw_client_call(client, "status", NULL, 3000, NULL, &why), GW_EUNREACHABLE);
    gw_client_close(client);
    server_end(&s);
}

static void another_mesh(void **state)
{
    (void)state;
    char other[] = "/tmp/gwotherXXXXXX";
    struct trust *theirs;
    assert_non_null(mkdtemp(other));
    assert_int_equal(trust_open(other, "alpha", &theirs, &why), GW_OK);
    expect_refusal(theirs->server, GW_EIDENTITY, "is not valid in this mesh");
    trust_close(theirs);
    fake_home_remove(other);
}

/* Of this mesh, but an operator: the chain holds, the name does not. */
static void operator_in_place_of_a_host(void **state)
{
    (void)state;
    char crt[128], key[128];
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    snprintf(crt, sizeof crt, "%s/mesh/operator.crt", home);
    snprintf(key, sizeof key, "%s/mesh/operator.key", home);
    assert_int_equal(SSL_CTX_use_certificate_file(ctx, crt, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), 1);
    expect_refusal(ctx, GW_EIDENTITY, "mesh");
    SSL_CTX_free(ctx);
}

static void no_tls_13(void **state)
{
    (void)state;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, SSL_CTX_get0_certificate(trust->server)), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, SSL_CTX_get0_privatekey(trust->server)), 1);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    expect_refusal(ctx, GW_EUNREACHABLE, "alert protocol version");
    SSL_CTX_free(ctx);
}

static void not_tls_at_all(void **state)
{
    (void)state;
    expect_refusal(NULL, GW_EUNREACHABLE, "was lost");
}

static void nobody_listens(void **state)
{
    (void)state;
    struct server s;
    struct gw_client *client;
    server_start(&s, NULL);
    server_end(&s);
    assert_int_equal(open_url(&s, NULL, &client), GW_EUNREACHABLE);
    assert_non_null(strstr(why.text, s.url));
}

static void names_of_hosts(void **state)
{
    (void)state;
    static const char mesh[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    char uri[160], id[HOST_ID_TEXT];
    size_t n;
    host_id_text(&trust->id, id);
    n = (size_t)snprintf(uri, sizeof uri, "spiffe://%s/host/%s", mesh, id);
    assert_true(tls_names_host(mesh, uri, n));
    assert_false(tls_names_host("01ARZ3NDEKTSV4RRFFQ69G5FAW", uri, n));
    assert_false(tls_names_host(mesh, uri, n - 1));
    uri[n] = 'A';
    assert_false(tls_names_host(mesh, uri, n + 1));
    uri[n - 1] = '\0';
    assert_false(tls_names_host(mesh, uri, n));
    uri[n - 1] = 'U'; /* not of the alphabet */
    assert_false(tls_names_host(mesh, uri, n));
    n = (size_t)snprintf(uri, sizeof uri, "spiffe://%s/operator/%s", mesh, id);
    assert_false(tls_names_host(mesh, uri, n));
    assert_false(tls_names_host(mesh, "", 0));
}

static void urls(void **state)
{
    (void)state;
    struct conn_url u;
    assert_int_equal(conn_parse_url("https://127.0.0.1:7421", &u, NULL), GW_OK);
    assert_string_equal(u.host, "127.0.0.1");
    assert_string_equal(u.port, "7421");
    assert_int_equal(conn_parse_url("https://lab.example/", &u, NULL), GW_OK);
    assert_string_equal(u.host, "lab.example");
    assert_string_equal(u.port, "7420");
    assert_int_equal(conn_parse_url("https://[::1]:65535", &u, NULL), GW_OK);
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.port, "65535");
    assert_int_equal(conn_parse_url("https://[::1]", &u, NULL), GW_OK);
    static const char *const bad[] = {
        "",
        "https://",
        "https:///",
        "http://a:1",
        "https://a:0",
        "https://a:65536",
        "https://a:123456",
        "https://a:",
        "https://a:x",
        "https://[::1",
        "https://[::1]x",
        "https://[]:1",
        "https://a/b",
        "https://u@a:1",
        "https://a b:1",
        "https://a\r\nX:1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(conn_parse_url(bad[i], &u, &why), GW_EARG);
    }
    char long_url[400];
    memset(long_url, 'a', sizeof long_url);
    memcpy(long_url, "https://", 8);
    long_url[8 + 255] = '\0';
    assert_int_equal(conn_parse_url(long_url, &u, NULL), GW_OK);
    memcpy(long_url + 8 + 255, "a", 2);
    assert_int_equal(conn_parse_url(long_url, &u, NULL), GW_EARG);
}

static void status_of_the_home(void **state)
{
    (void)state;
    gw_value v = gw_nil();
    assert_int_equal(gw_home_status(NULL, &v, &why), GW_OK);
    assert_string_equal(gw_map_str(&v, "home", ""), home);
    assert_string_equal(gw_map_str(&v, "mesh_id", ""), trust->mesh_id);
    assert_true(gw_map_bool(&v, "signer", false));
    assert_int_equal(gw_map_get(&v, "ca_expires")->kind, GW_TIME);
    assert_int_equal(gw_map_get(&v, "operator_expires")->kind, GW_TIME);
    const gw_value *hosts = gw_map_get(&v, "hosts");
    assert_int_equal(hosts->list.n, 1);
    assert_string_equal(gw_map_str(&hosts->list.items[0], "name", ""), "alpha");
    assert_false(gw_map_bool(&hosts->list.items[0], "running", true));
    assert_int_equal(gw_map_get(&hosts->list.items[0], "expires")->time.ms / 1000,
                     trust->cert_expires_ms / 1000);
    char path[128];
    snprintf(path, sizeof path, "%s/mesh", home);
    assert_int_equal(gw_home_status(path, &v, &why), GW_OK); /* a folder without a mesh */
    assert_int_equal(gw_map_get(&v, "mesh_id")->kind, GW_NIL);
    gw_value_free(&v);
}

static void damaged_files(void **state)
{
    (void)state;
    char path[128];
    struct tls *tls;
    gw_value v = gw_nil();
    snprintf(path, sizeof path, "%s/mesh/operator.crt", home);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(tls_open(home, true, &tls, &why), GW_ECORRUPT);
    assert_int_equal(tls_open(home, false, &tls, &why), GW_OK);
    tls_free(tls);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(tls_open(home, true, &tls, &why), GW_EUNAUTHENTICATED);
    snprintf(path, sizeof path, "%s/mesh/ca.crt", home);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(tls_open(home, false, &tls, &why), GW_ECORRUPT);
    assert_int_equal(gw_home_status(NULL, &v, &why), GW_ECORRUPT);
}

static int setup(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "%s", fake_home());
    return trust_open(home, "alpha", &trust, &why) == GW_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    trust_close(trust);
    fake_home_remove(home);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operator_certificate),
        cmocka_unit_test(bearer_token),
        cmocka_unit_test(lost_over_tls),
        cmocka_unit_test(another_mesh),
        cmocka_unit_test(operator_in_place_of_a_host),
        cmocka_unit_test(no_tls_13),
        cmocka_unit_test(not_tls_at_all),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(names_of_hosts),
        cmocka_unit_test(urls),
        cmocka_unit_test(status_of_the_home),
        cmocka_unit_test(damaged_files), /* last: it breaks the home */
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
