/* Join tokens and joins, over real TLS on the loopback: a small server thread that calls
 * join_answer. */
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sodium.h>

#include "host/trust/ca.h"
#include "host/trust/keyfile.h"
#include "host/trust/token.h"
#include "protocol/json.h"

#define HOUR 3600000LL

/* --- homes --- */

static char root[64];

static int fresh_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/godwit-join-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int drop_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *at(const char *name)
{
    static char path[8][256];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

static struct trust *open_host(const char *home, const char *name)
{
    struct trust *t = NULL;
    struct gw_error why = {0};
    if (trust_open(at(home), name, &t, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return t;
}

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
    s->trust = open_host(home, name);
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

static char *token_for(struct trust *t, const char *url, const struct token_options *options)
{
    struct token_options o = options ? *options : (struct token_options){0};
    gw_strs urls = {0};
    char *text = NULL;
    struct gw_error why = {0};
    assert_int_equal(gw_strs_add(&urls, url), GW_OK);
    o.urls = &urls;
    if (token_make(t, &o, ca_now_ms(), &text, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    gw_strs_clear(&urls);
    return text;
}

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

static int64_t used(struct trust *t, const char *token)
{
    struct token k = {0};
    struct token_record r = {0};
    assert_int_equal(token_parse(token, &k, NULL), GW_OK);
    assert_int_equal(token_record_read(t->mesh_dir, &k.id, &r, NULL), GW_OK);
    int64_t n = (int64_t)r.host_count;
    token_free(&k);
    token_record_free(&r);
    return n;
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

    struct trust *b = open_host("b", "beta");
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

static void test_every_altered_character_is_noticed(void **state)
{
    (void)state;
    struct trust *t = open_host("a", "alpha");
    char *token = token_for(t, "https://127.0.0.1:1", NULL);
    size_t n = strlen(token);
    struct token k = {0};
    for (size_t i = 0; i < n; i++) {
        char was = token[i];
        for (const char *c = "A_9z "; *c; c++) {
            token[i] = *c == was ? 'B' : *c;
            if (token_parse(token, &k, NULL) == GW_OK) {
                fail_msg("character %zu", i);
            }
        }
        token[i] = was;
    }
    for (size_t cut = 0; cut < n; cut++) {
        char was = token[cut];
        token[cut] = '\0';
        assert_int_equal(token_parse(token, &k, NULL), GW_EDENIED);
        token[cut] = was;
    }
    token[n - 1] ^= 1;
    expect_refusal("b", "beta", token, GW_EDENIED, "the token is altered");
    expect_refusal("b", "beta", "", GW_EDENIED, "not a join token");
    expect_refusal("b", "beta", "godwit-token-2.AAAA", GW_EDENIED, "not a join token");
    char *longer = calloc(1, LIMIT_TOKEN_BYTES + 64);
    assert_non_null(longer);
    memset(longer, 'A', LIMIT_TOKEN_BYTES + 1);
    memcpy(longer, "godwit-token-1.", 15);
    expect_refusal("b", "beta", longer, GW_EDENIED, "altered");
    free(longer);
    assert_false(keyfile_exists(at("b")));
    free(token);
    trust_close(t);
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
    struct trust *a = open_host("a", "alpha");
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
    trust_close(open_host("b", "beta")); /* made its own mesh */
    expect_refusal("b", "beta", token, GW_EREFUSED, "already belongs to another mesh");
    expect_refusal("b", "gamma", token, GW_EREFUSED, "already belongs to another mesh");
    assert_int_equal(used(s->trust, token), 0);
    /* The home of the signer itself needs no use. */
    expect_join("a", "delta", token);
    assert_int_equal(used(s->trust, token), 0);
    trust_close(open_host("a", "delta"));
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
    struct trust *a = open_host("a", "alpha");
    char *token = token_for(a, "https://127.0.0.1:1", NULL);
    expect_refusal("b", "../../x", token, GW_EARG, "not a valid host name");
    expect_refusal("b", "", token, GW_EARG, "not a valid host name");
    assert_false(keyfile_exists(at("x")));
    free(token);
    trust_close(a);
}

static void test_token_options(void **state)
{
    (void)state;
    struct trust *a = open_host("a", "alpha");
    gw_strs one = {0}, none = {0}, many = {0}, plain = {0}, space = {0};
    assert_int_equal(gw_strs_add(&one, "https://h:1"), GW_OK);
    assert_int_equal(gw_strs_add(&plain, "http://h:1"), GW_OK);
    assert_int_equal(gw_strs_add(&space, "a b"), GW_OK);
    for (int i = 0; i <= LIMIT_URLS; i++) {
        assert_int_equal(gw_strs_add(&many, "https://h:1"), GW_OK);
    }
    const struct {
        struct token_options o;
        gw_err err;
    } rows[] = {
        {{.urls = &one}, GW_OK},
        {{.urls = NULL}, GW_EARG},
        {{.urls = &none}, GW_EARG},
        {{.urls = &many}, GW_EARG},
        {{.urls = &plain}, GW_EARG},
        {{.urls = &one, .uses = LIMIT_TOKEN_USES}, GW_OK},
        {{.urls = &one, .uses = LIMIT_TOKEN_USES + 1}, GW_EARG},
        {{.urls = &one, .ttl_ms = -1}, GW_EARG},
        {{.urls = &one, .ttl_ms = LIMIT_TOKEN_TTL_MS}, GW_OK},
        {{.urls = &one, .ttl_ms = LIMIT_TOKEN_TTL_MS + 1}, GW_EARG},
        {{.urls = &one, .tags = &space}, GW_EARG},
        {{.urls = &one, .tags = &none}, GW_OK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = NULL;
        assert_int_equal(token_make(a, &rows[i].o, ca_now_ms(), &text, NULL), rows[i].err);
        assert_true((text != NULL) == (rows[i].err == GW_OK));
        free(text);
    }
    gw_strs_clear(&one);
    gw_strs_clear(&many);
    gw_strs_clear(&plain);
    gw_strs_clear(&space);
    trust_close(a);
}

static void test_record_has_no_secret(void **state)
{
    (void)state;
    struct trust *a = open_host("a", "alpha");
    char *token = token_for(a, "https://h:1", NULL), id[GW_ID_TEXT], path[300];
    struct token k = {0};
    assert_int_equal(token_parse(token, &k, NULL), GW_OK);
    snprintf(path, sizeof path, "%s/%s", at("a/mesh/tokens"), gw_id_text(&k.id, id));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct buf raw = {0};
    assert_int_equal(keyfile_read(path, KEYFILE_SECRET, &raw, NULL), GW_OK);
    assert_null(memmem(raw.data, raw.len, k.secret, sizeof k.secret));
    /* A record that was cut is an error, not a token without limits. */
    for (size_t n = 0; n < raw.len; n++) {
        struct token_record r = {0};
        assert_int_equal(keyfile_write(path, KEYFILE_SECRET, (struct span){raw.data, n}, NULL),
                         GW_OK);
        assert_int_equal(token_record_read(a->mesh_dir, &k.id, &r, NULL), GW_ECORRUPT);
        n += 7;
    }
    buf_free(&raw);
    token_free(&k);
    free(token);
    trust_close(a);
}

/* --- requests by hand, on connections in memory --- */

struct pair {
    SSL *server, *client;
};

static struct pair shake(struct trust *t, SSL_CTX *client)
{
    struct pair p = {SSL_new(t->server), SSL_new(client)};
    BIO *a = NULL, *b = NULL;
    assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    SSL_set_bio(p.server, a, a);
    SSL_set_bio(p.client, b, b);
    SSL_set_accept_state(p.server);
    SSL_set_connect_state(p.client);
    for (int i = 0; i < 10 && !(SSL_is_init_finished(p.server) && SSL_is_init_finished(p.client));
         i++) {
        SSL_do_handshake(p.client);
        SSL_do_handshake(p.server);
    }
    return p;
}

static void drop_pair(struct pair *p)
{
    SSL_free(p->server);
    SSL_free(p->client);
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
    struct pair p = shake(s->trust, client);
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

/* What a joining host would send on p, with its parts open to tampering. */
struct by_hand {
    struct host_key key, signer;
    EVP_PKEY *tls;
    struct buf pem, der;
    struct token token;
    uint8_t exporter[PROOF_BYTES];
};

static gw_value request_of(const struct by_hand *h)
{
    uint8_t signature[TICKET_SIGNATURE_BYTES], proof[PROOF_BYTES], key[PROOF_BYTES];
    char text[PROOF_TEXT_BYTES], id[GW_ID_TEXT];
    gw_value v = gw_nil();
    struct host_id host = host_id_of_key(h->key.public_key);
    proof_key(h->token.secret, key);
    proof_of_host(key, h->exporter, &host, buf_span(&h->der), h->token.hash, proof);
    assert_int_equal(proof_sign(&h->signer, h->exporter, buf_span(&h->der), signature), GW_OK);
    gw_value csr = gw_nil();
    assert_int_equal(gw_value_set_str(&csr, (char *)h->pem.data, h->pem.len), GW_OK);
    assert_int_equal(gw_map_set(&v, "csr", csr), GW_OK);
    assert_int_equal(gw_map_set(&v, "token", gw_str(gw_id_text(&h->token.id, id))), GW_OK);
    assert_int_equal(gw_map_set(&v, "host_name", gw_str("beta")), GW_OK);
    assert_int_equal(gw_map_set(&v, "key", gw_str(proof_text(h->key.public_key, 32, text))), GW_OK);
    assert_int_equal(gw_map_set(&v, "signature", gw_str(proof_text(signature, 64, text))), GW_OK);
    assert_int_equal(gw_map_set(&v, "proof", gw_str(proof_text(proof, 32, text))), GW_OK);
    return v;
}

static void expect_answer(struct trust *t, SSL *ssl, const gw_value *request, gw_err code,
                          const char *text)
{
    gw_value ret = gw_nil();
    struct gw_error why = {0};
    gw_err err = join_answer(t, ssl, request, ca_now_ms(), &ret, &why);
    if (err != code || !strstr(why.text, text)) {
        fail_msg("wanted \"%s\", got %s: \"%s\"", text, gw_err_name(err), why.text);
    }
    gw_value_free(&ret);
}

static void open_by_hand(struct by_hand *h, const char *token, const struct pair *p)
{
    assert_int_equal(token_parse(token, &h->token, NULL), GW_OK);
    crypto_sign_keypair(h->key.public_key, h->key.secret_key);
    h->signer = h->key;
    assert_int_equal(certs_key_new(&h->tls), GW_OK);
    assert_int_equal(certs_request_write(h->tls, "beta", &h->pem, &h->der), GW_OK);
    assert_int_equal(proof_exporter(p->client, h->exporter), GW_OK);
}

static void close_by_hand(struct by_hand *h)
{
    EVP_PKEY_free(h->tls);
    buf_free(&h->pem);
    buf_free(&h->der);
    token_free(&h->token);
}

static void test_requests_that_do_not_prove(void **state)
{
    (void)state;
    struct trust *t = open_host("a", "alpha");
    char *token = token_for(t, "https://h:1", &(struct token_options){.uses = 9});
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(t, client);
    struct by_hand h = {0};
    open_by_hand(&h, token, &p);

    gw_value v = request_of(&h);
    expect_answer(t, p.server, &v, GW_OK, "");
    gw_value_free(&v);
    crypto_sign_keypair(h.signer.public_key,
                        h.signer.secret_key); /* a key that one does not hold */
    v = request_of(&h);
    expect_answer(t, p.server, &v, GW_EDENIED, "signature of the joining host");
    gw_value_free(&v);
    h.signer = h.key;
    h.exporter[0] ^= 1;
    v = request_of(&h);
    expect_answer(t, p.server, &v, GW_EDENIED, "altered");
    gw_value_free(&v);
    h.exporter[0] ^= 1;
    assert_int_equal(used(t, token), 1);
    trust_close(t);
    drop_pair(&p);
    SSL_CTX_free(client);
    close_by_hand(&h);
    free(token);
}

/* A request made with an RSA key, one signed by another key, and none. */
static void test_certificate_requests(void **state)
{
    (void)state;
    struct trust *t = open_host("a", "alpha");
    char *token = token_for(t, "https://h:1", NULL);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(t, client);
    struct by_hand h = {0};
    open_by_hand(&h, token, &p);
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    buf_reset(&h.pem);
    buf_reset(&h.der);
    assert_int_equal(certs_request_write(rsa, "beta", &h.pem, &h.der), GW_OK);
    gw_value v = request_of(&h);
    expect_answer(t, p.server, &v, GW_EDENIED, "P-256");
    gw_value_free(&v);
    EVP_PKEY_free(rsa);
    buf_reset(&h.pem);
    buf_addf(&h.pem,
             "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
    v = request_of(&h);
    expect_answer(t, p.server, &v, GW_EDENIED, "P-256");
    gw_value_free(&v);
    buf_reset(&h.pem);
    for (size_t i = 0; i <= LIMIT_JOIN_CSR_BYTES; i++) {
        buf_add(&h.pem, "A", 1);
    }
    v = request_of(&h);
    expect_answer(t, p.server, &v, GW_EDENIED, "too large");
    gw_value_free(&v);
    assert_int_equal(used(t, token), 0);
    drop_pair(&p);
    SSL_CTX_free(client);
    close_by_hand(&h);
    free(token);
    trust_close(t);
}

static void test_malformed_requests(void **state)
{
    (void)state;
    struct trust *t = open_host("a", "alpha");
    char *token = token_for(t, "https://h:1", NULL);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(t, client);
    struct by_hand h = {0};
    open_by_hand(&h, token, &p);
    const struct {
        const char *key, *text;
        gw_err err;
    } rows[] = {
        {"token", "../../mesh/ca.key", GW_EARG},
        {"token", "", GW_EARG},
        {"token", "00000000000000000000000001", GW_EDENIED},
        {"host_name", "../x", GW_EARG},
        {"host_name", "", GW_EARG},
        {"key", "", GW_EARG},
        {"key", "AAAA", GW_EARG},
        {"signature", "!", GW_EARG},
        {"proof", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", GW_EARG},
        {"csr", "", GW_EDENIED},
        {"tags", "lab", GW_EARG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gw_value v = request_of(&h);
        assert_int_equal(gw_map_set(&v, rows[i].key, gw_str(rows[i].text)), GW_OK);
        expect_answer(t, p.server, &v, rows[i].err, "");
        assert_int_equal(gw_map_set(&v, rows[i].key, gw_int(7)), GW_OK);
        gw_value ret = gw_nil();
        assert_int_not_equal(join_answer(t, p.server, &v, ca_now_ms(), &ret, NULL), GW_OK);
        gw_value_free(&v);
    }
    gw_value v = request_of(&h);
    gw_value tags = gw_nil();
    for (int i = 0; i <= LIMIT_TAGS; i++) {
        assert_int_equal(gw_list_add(&tags, gw_str("lab")), GW_OK);
    }
    assert_int_equal(gw_map_set(&v, "tags", tags), GW_OK);
    expect_answer(t, p.server, &v, GW_EARG, "tags");
    gw_value_free(&v);
    gw_value nil = gw_nil();
    expect_answer(t, p.server, &nil, GW_EARG, "host name");
    assert_int_equal(used(t, token), 0);
    drop_pair(&p);
    SSL_CTX_free(client);
    close_by_hand(&h);
    free(token);
    trust_close(t);
}

/* --- two hosts of one home are asked at the same time --- */

enum { ASKERS = 4 };

struct asker {
    pthread_t thread;
    struct trust *trust;
    struct pair pair[ASKERS];
    struct by_hand hand[ASKERS];
    gw_value request[ASKERS];
    int good;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    for (int i = 0; i < ASKERS; i++) {
        gw_value ret = gw_nil();
        a->good += join_answer(a->trust, a->pair[i].server, &a->request[i], ca_now_ms(), &ret,
                               NULL) == GW_OK;
        gw_value_free(&ret);
    }
    return NULL;
}

static void test_concurrent_joins_count_right(void **state)
{
    (void)state;
    static struct asker askers[2];
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    askers[0] = (struct asker){.trust = open_host("a", "alpha")};
    askers[1] = (struct asker){.trust = open_host("a", "beta")};
    char *token = token_for(askers[0].trust, "https://h:1", &(struct token_options){.uses = 3});
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < ASKERS; i++) {
            askers[k].pair[i] = shake(askers[k].trust, client);
            open_by_hand(&askers[k].hand[i], token, &askers[k].pair[i]);
            askers[k].request[i] = request_of(&askers[k].hand[i]);
        }
    }
    for (int k = 0; k < 2; k++) {
        assert_int_equal(pthread_create(&askers[k].thread, NULL, ask, &askers[k]), 0);
    }
    for (int k = 0; k < 2; k++) {
        pthread_join(askers[k].thread, NULL);
    }
    assert_int_equal(askers[0].good + askers[1].good, 3);
    assert_int_equal(used(askers[0].trust, token), 3);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < ASKERS; i++) {
            drop_pair(&askers[k].pair[i]);
            close_by_hand(&askers[k].hand[i]);
            gw_value_free(&askers[k].request[i]);
        }
        trust_close(askers[k].trust);
    }
    SSL_CTX_free(client);
    free(token);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh_root, drop_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_join),
        TEST(test_uses),
        TEST(test_lost_answer_costs_no_second_use),
        TEST(test_expired),
        TEST(test_revoked),
        TEST(test_every_altered_character_is_noticed),
        TEST(test_rewritten_token),
        TEST(test_wrong_pin),
        TEST(test_home_of_another_mesh),
        TEST(test_endpoints),
        TEST(test_answers_that_are_none),
        TEST(test_tags),
        TEST(test_bad_host_names),
        TEST(test_token_options),
        TEST(test_record_has_no_secret),
        TEST(test_replay_on_another_connection),
        TEST(test_requests_that_do_not_prove),
        TEST(test_certificate_requests),
        TEST(test_malformed_requests),
        TEST(test_concurrent_joins_count_right),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
