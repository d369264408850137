/* Joins over real TLS on the loopback: a small server thread that calls join_answer. */
#include "tests/unit/host/trust_rig.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <arpa/inet.h>

#include "protocol/json.h"

#define HOUR 3600000LL

/* --- a server --- */

struct server {
    struct trust *trust;
    int listener;
    char url[64];
    pthread_t thread;
    atomic_bool stop;
    bool drop_answer;   /* do the work, then hang up */
    const char *canned; /* answer this instead, whatever was asked */
    bool endless;       /* and then more and more */
    struct buf request; /* body of the last one */
};

static size_t body_at(const struct buf *in, size_t *ret_length)
{
    const char *end = in->len ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    const char *length = end ? memmem(in->data, in->len, "Content-Length: ", 16) : NULL;
    if (!end || !length) {
        return 0;
    }
    *ret_length = strtoul(length + 16, NULL, 10);
    return (size_t)(end + 4 - (const char *)in->data);
}

static bool read_request(SSL *ssl, struct buf *ret_body)
{
    struct buf in = {0};
    size_t at_byte = 0, length = 0;
    while (!(at_byte = body_at(&in, &length)) || in.len < at_byte + length) {
        char chunk[4096];
        int n = SSL_read(ssl, chunk, sizeof chunk);
        if (n <= 0) {
            buf_free(&in);
            return false;
        }
        buf_add(&in, chunk, (size_t)n);
        buf_add(&in, "", 1); /* a NUL for strtoul */
        in.len--;
    }
    buf_drop(&in, at_byte);
    in.len = length;
    *ret_body = in;
    return true;
}

static void send_json(SSL *ssl, int status, gw_value *v)
{
    struct buf body = {0}, out = {0};
    assert_int_equal(json_write(v, 0, &body), GW_OK);
    buf_addf(&out, "HTTP/1.1 %d X\r\ncontent-length: %zu\r\nX: y\r\n\r\n", status, body.len);
    buf_add(&out, body.data, body.len);
    SSL_write(ssl, out.data, (int)out.len);
    buf_free(&body);
    buf_free(&out);
    gw_value_free(v);
}

static void answer(struct server *s, SSL *ssl)
{
    gw_value request = gw_nil(), ret = gw_nil(), error = gw_nil();
    struct gw_error why = {0};
    gw_err err = json_parse((const char *)s->request.data, s->request.len, &request, &why);
    err = err ? err : join_answer(s->trust, ssl, &request, ca_now_ms(), &ret, &why);
    gw_value_free(&request);
    if (s->drop_answer) {
        gw_value_free(&ret);
        return;
    }
    if (err) {
        gw_err ignored = gw_map_set(&error, "code", gw_str(gw_err_name(err)));
        ignored = gw_map_set(&error, "message", gw_str(why.text));
        ignored = gw_map_set(&error, "hint", gw_str(why.hint));
        ignored = gw_map_set(&ret, "error", error);
        (void)ignored;
    }
    send_json(ssl, err ? gw_err_http(err) : 200, &ret);
}

static void serve(struct server *s, int fd)
{
    SSL *ssl = SSL_new(s->trust->server);
    SSL_set_fd(ssl, fd);
    buf_free(&s->request);
    if (SSL_accept(ssl) == 1 && read_request(ssl, &s->request)) {
        if (s->canned) {
            SSL_write(ssl, s->canned, (int)strlen(s->canned));
            for (int i = 0; s->endless && i < 1000; i++) {
                if (SSL_write(ssl, s->canned, (int)strlen(s->canned)) <= 0) {
                    break;
                }
            }
        } else {
            answer(s, ssl);
        }
        SSL_shutdown(ssl);
    }
    ERR_clear_error();
    SSL_free(ssl);
    close(fd);
}

static void *run(void *arg)
{
    struct server *s = arg;
    while (!s->stop) {
        int fd = accept(s->listener, NULL, NULL);
        if (fd >= 0) {
            serve(s, fd);
        }
    }
    return NULL;
}

static int listen_any(char ret_url[64])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    snprintf(ret_url, 64, "https://127.0.0.1:%u", ntohs(a.sin_port));
    return fd;
}

static struct server *start(const char *home, const char *name)
{
    struct server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->trust = open_in(home, name);
    s->listener = listen_any(s->url);
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
    return s;
}

static void stop(struct server *s)
{
    s->stop = true;
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    trust_close(s->trust);
    buf_free(&s->request);
    free(s);
}

/* --- tokens and joins --- */

static void expect_join(const char *home, const char *name, const char *token)
{
    char url[256] = "";
    struct gw_error why = {0};
    if (join_request(at(home), name, token, NULL, url, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    assert_memory_equal(url, "https://127.0.0.1:", 18);
}

static void expect_refusal(const char *home, const char *name, const char *token, gw_err code,
                           const char *text)
{
    char url[256] = "untouched";
    struct gw_error why = {0};
    gw_err err = join_request(at(home), name, token, NULL, url, &why);
    if (err != code || !strstr(why.text, text)) {
        fail_msg("wanted \"%s\", got %s: \"%s\"", text, gw_err_name(err), why.text);
    }
    assert_int_equal(why.code, code);
    assert_string_equal(url, "untouched");
}

static void test_join(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, NULL);
    assert_memory_equal(token, "godwit-token-1.", 15);
    char padded[4200];
    snprintf(padded, sizeof padded, "  %s\r\n\n", token); /* as a file holds it */
    expect_join("b", "beta", padded);

    struct trust *b = open_in("b", "beta");
    assert_false(b->signer || b->fresh);
    assert_string_equal(b->mesh_id, s->trust->mesh_id);
    struct stat st;
    assert_int_equal(stat(at("b/hosts/beta/identity.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(at("b/hosts/beta/tls.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(keyfile_exists(at("b/mesh/ca.key")));
    /* It cannot admit others, and says who can. */
    char *text = NULL;
    struct gw_error why = {0};
    gw_strs urls = {0};
    assert_int_equal(gw_strs_add(&urls, s->url), GW_OK);
    assert_int_equal(
        token_make(b, &(struct token_options){.urls = &urls}, ca_now_ms(), &text, &why),
        GW_EREFUSED);
    assert_non_null(strstr(why.hint, s->url));
    gw_strs_clear(&urls);
    trust_close(b);
    /* Used up for others; a member that starts again with --join needs no use. */
    assert_int_equal(used(s->trust, token), 1);
    expect_refusal("c", "gamma", token, GW_EEXPIRED, "the token was used up");
    expect_join("b", "beta", token);
    assert_int_equal(used(s->trust, token), 1);
    free(token);
    stop(s);
}

static void test_uses(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, &(struct token_options){.uses = 2});
    expect_join("b", "beta", token);
    expect_join("b", "gamma", token); /* a second host of a joined home */
    expect_refusal("b", "delta", token, GW_EEXPIRED, "used up");
    gw_value list = gw_nil();
    assert_int_equal(token_list(s->trust, &list), GW_OK);
    assert_int_equal(list.list.n, 1);
    assert_int_equal(gw_map_int(&list.list.items[0], "uses", 0), 2);
    assert_int_equal(gw_map_int(&list.list.items[0], "used", 0), 2);
    assert_int_equal(gw_map_get(&list.list.items[0], "hosts")->list.n, 2);
    assert_int_equal(gw_map_get(&list.list.items[0], "token")->kind, GW_ID);
    assert_int_equal(gw_map_get(&list.list.items[0], "tags")->kind, GW_NIL);
    gw_value_free(&list);
    free(token);
    stop(s);
}

static void test_lost_answer_costs_no_second_use(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, NULL);
    s->drop_answer = true;
    expect_refusal("b", "beta", token, GW_EUNREACHABLE, "no endpoint of the token answers");
    assert_int_equal(used(s->trust, token), 1);
    assert_false(keyfile_exists(at("b/mesh/ca.crt")));
    s->drop_answer = false;
    expect_refusal("c", "beta", token, GW_EEXPIRED,
                   "used up"); /* the same name is not the same host */
    expect_join("b", "beta", token);
    assert_int_equal(used(s->trust, token), 1);
    free(token);
    stop(s);
}

static void test_expired(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    gw_strs urls = {0};
    char *token = NULL;
    assert_int_equal(gw_strs_add(&urls, s->url), GW_OK);
    struct token_options o = {.urls = &urls, .ttl_ms = HOUR};
    assert_int_equal(token_make(s->trust, &o, ca_now_ms() - 2 * HOUR, &token, NULL), GW_OK);
    expect_refusal("b", "beta", token, GW_EEXPIRED, "the token has expired");
    /* Removed when somebody looks at the list, and still called by its name. */
    gw_value list = gw_nil();
    assert_int_equal(token_list(s->trust, &list), GW_OK);
    assert_int_equal(list.list.n, 0);
    gw_value_free(&list);
    expect_refusal("b", "beta", token, GW_EEXPIRED, "the token has expired");
    gw_strs_clear(&urls);
    free(token);
    stop(s);
}

static void test_revoked(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, NULL), id[GW_ID_TEXT];
    struct token k = {0};
    assert_int_equal(token_parse(token, &k, NULL), GW_OK);
    gw_id_text(&k.id, id);
    token_free(&k);
    assert_int_equal(token_revoke(s->trust, "../../ca.key", NULL), GW_EARG);
    assert_int_equal(token_revoke(s->trust, id, NULL), GW_OK);
    assert_int_equal(token_revoke(s->trust, id, NULL), GW_ENOT_FOUND);
    expect_refusal("b", "beta", token, GW_EDENIED,
                   "the token is not known here (revoked, or made under another $GODWIT_HOME)");
    free(token);
    stop(s);
}

/* By somebody who knows how to make the check bytes again. */
static void test_rewritten_token(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, NULL);
    for (int what = 0; what < 3; what++) {
        struct token k = {0};
        char *forged = NULL;
        assert_int_equal(token_parse(token, &k, NULL), GW_OK);
        if (what == 0) {
            k.secret[31] ^= 1;
        } else if (what == 1) {
            k.uses = 1000;
        } else {
            k.expires_ms += 1;
        }
        assert_int_equal(token_write(&k, &forged, NULL), GW_OK);
        expect_refusal("b", "beta", forged, GW_EDENIED, "the token is altered");
        token_free(&k);
        free(forged);
    }
    assert_int_equal(used(s->trust, token), 0);
    free(token);
    stop(s);
}

static void test_wrong_pin(void **state)
{
    (void)state;
    struct server *evil = start("e", "evil");
    struct trust *a = open_in("a", "alpha");
    char *token = token_for(a, evil->url, NULL); /* somebody else answers at the address */
    expect_refusal("b", "beta", token, GW_EDENIED, "not a host of the token's mesh");
    assert_null(evil->request.data); /* nothing was said */
    assert_false(keyfile_exists(at("b/mesh/ca.crt")));
    assert_int_equal(used(a, token), 0);
    free(token);
    trust_close(a);
    stop(evil);
}

static void test_home_of_another_mesh(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, NULL);
    trust_close(open_in("b", "beta")); /* made its own mesh */
    expect_refusal("b", "beta", token, GW_EREFUSED, "already belongs to another mesh");
    expect_refusal("b", "gamma", token, GW_EREFUSED, "already belongs to another mesh");
    assert_int_equal(used(s->trust, token), 0);
    /* The home of the signer itself needs no use. */
    expect_join("a", "delta", token);
    assert_int_equal(used(s->trust, token), 0);
    trust_close(open_in("a", "delta"));
    free(token);
    stop(s);
}

static void test_endpoints(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char closed_url[64];
    close(listen_any(closed_url));
    char *token = token_for(s->trust, closed_url, NULL);
    expect_refusal("b", "beta", token, GW_EUNREACHABLE,
                   "no endpoint of the token answers: https://");
    free(token);
    token = token_for(s->trust, "https://nowhere.invalid:1", NULL);
    expect_refusal("b", "beta", token, GW_EUNREACHABLE, "nowhere.invalid");
    free(token);
    const char *const bad[] = {"https://",         "https://:1",   "https://a:",   "https://a:1/x",
                               "https://a:123456", "https://[::1", "https://a b:x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        token = token_for(s->trust, bad[i], NULL);
        expect_refusal("b", "beta", token, GW_EARG, "not a URL");
        free(token);
    }
    /* One that is gone, one that cannot sign, one that can. */
    token = token_for(s->trust, s->url, NULL);
    expect_join("b", "beta", token);
    free(token);
    struct server *b = start("b", "beta");
    token = token_for(s->trust, b->url, NULL);
    expect_refusal("c", "gamma", token, GW_EREFUSED, "cannot admit others");
    free(token);
    gw_strs urls = {0};
    assert_int_equal(gw_strs_add(&urls, closed_url), GW_OK);
    assert_int_equal(gw_strs_add(&urls, b->url), GW_OK);
    assert_int_equal(gw_strs_add(&urls, s->url), GW_OK);
    assert_int_equal(
        token_make(s->trust, &(struct token_options){.urls = &urls}, ca_now_ms(), &token, NULL),
        GW_OK);
    expect_join("c", "gamma", token);
    gw_strs_clear(&urls);
    free(token);
    stop(b);
    stop(s);
}

static void test_answers_that_are_none(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    const struct {
        const char *canned, *text;
        bool endless;
    } rows[] = {
        {"nonsense\r\n\r\n", "not HTTP", false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "not HTTP", false},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not HTTP", false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "not HTTP", false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "not HTTP", false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", "cut off", false},
        {"HTTP/1.1 200 OK\r\nContent-Len", "cut off", false},
        {"HTTP/1.1 200 OK\r\n\r\n{\"a\":", "not JSON", false},
        {"HTTP/1.1 200 OK\r\n\r\n{}", "does not prove", false},
        {"HTTP/1.1 200 OK\r\n\r\n{\"proof\":\"x\",\"certificate\":7}", "does not prove", false},
        {"HTTP/1.1 500 Oh\r\n\r\n{}", "HTTP status 500", false},
        {"HTTP/1.1 503 No\r\n\r\n{\"error\":{\"code\":\"busy\",\"message\":\"a\\u0007b\"}}", "a?b",
         false},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
         "larger than", true},
    };
    char *token = token_for(s->trust, s->url, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        s->canned = rows[i].canned;
        s->endless = rows[i].endless;
        char url[256];
        struct gw_error why = {0};
        assert_int_not_equal(join_request(at("b"), "beta", token, NULL, url, &why), GW_OK);
        if (!strstr(why.text, rows[i].text)) {
            fail_msg("\"%s\" is not in \"%s\"", rows[i].text, why.text);
        }
        assert_false(keyfile_exists(at("b/mesh/ca.crt")));
    }
    free(token);
    stop(s);
}

static void test_tags(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    gw_strs allowed = {0}, asked = {0};
    assert_int_equal(gw_strs_add(&allowed, "lab"), GW_OK);
    char *token = token_for(s->trust, s->url, &(struct token_options){.tags = &allowed});
    char url[256];
    struct gw_error why = {0};
    assert_int_equal(gw_strs_add(&asked, "lab"), GW_OK);
    assert_int_equal(gw_strs_add(&asked, "gpu"), GW_OK);
    assert_int_equal(join_request(at("b"), "beta", token, &asked, url, &why), GW_EDENIED);
    assert_non_null(strstr(why.text, "does not allow the tag \"gpu\""));
    gw_strs_clear(&asked);
    assert_int_equal(gw_strs_add(&asked, "a b"), GW_OK);
    assert_int_equal(join_request(at("b"), "beta", token, &asked, url, &why), GW_EARG);
    gw_strs_clear(&asked);
    assert_int_equal(gw_strs_add(&asked, "LAB"), GW_OK);
    assert_int_equal(join_request(at("b"), "beta", token, &asked, url, &why), GW_OK);
    gw_strs_clear(&asked);
    gw_strs_clear(&allowed);
    free(token);
    stop(s);
}

static void test_bad_host_names(void **state)
{
    (void)state;
    struct trust *a = open_in("a", "alpha");
    char *token = token_for(a, "https://127.0.0.1:1", NULL);
    expect_refusal("b", "../../x", token, GW_EARG, "not a valid host name");
    expect_refusal("b", "", token, GW_EARG, "not a valid host name");
    assert_false(keyfile_exists(at("x")));
    free(token);
    trust_close(a);
}

static void test_replay_on_another_connection(void **state)
{
    (void)state;
    struct server *s = start("a", "alpha");
    char *token = token_for(s->trust, s->url, &(struct token_options){.uses = 5});
    expect_join("b", "beta", token);
    gw_value request = gw_nil(), ret = gw_nil();
    assert_int_equal(json_parse((char *)s->request.data, s->request.len, &request, NULL), GW_OK);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(s->trust->server, client);
    struct gw_error why = {0};
    assert_int_equal(join_answer(s->trust, p.server, &request, ca_now_ms(), &ret, &why),
                     GW_EDENIED);
    assert_int_equal(ret.kind, GW_NIL);
    assert_int_equal(used(s->trust, token), 1);
    assert_int_equal(join_answer(s->trust, NULL, &request, ca_now_ms(), &ret, &why), GW_EDENIED);
    assert_non_null(strstr(why.text, "TLS"));
    drop_pair(&p);
    SSL_CTX_free(client);
    gw_value_free(&request);
    free(token);
    stop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_join),
        TEST(test_uses),
        TEST(test_lost_answer_costs_no_second_use),
        TEST(test_expired),
        TEST(test_revoked),
        TEST(test_rewritten_token),
        TEST(test_wrong_pin),
        TEST(test_home_of_another_mesh),
        TEST(test_endpoints),
        TEST(test_answers_that_are_none),
        TEST(test_tags),
        TEST(test_bad_host_names),
        TEST(test_replay_on_another_connection),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
