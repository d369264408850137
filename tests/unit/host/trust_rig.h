/* What the tests of host/trust share: a folder of their own below /tmp, handshakes in memory, join
 * requests by hand. */
#ifndef TESTS_UNIT_HOST_TRUST_RIG_H
#define TESTS_UNIT_HOST_TRUST_RIG_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sodium.h>

#include "host/trust/ca.h"
#include "host/trust/keyfile.h"
#include "host/trust/token.h"

/* --- a folder for each test --- */

static char root[64];

static inline int fresh_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/godwit-trust-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline int drop_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh_root, drop_root)

/* A path below it; the last eight stay valid. */
static inline char *at(const char *name)
{
    static char path[8][256];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

/* Host `name` of the $GODWIT_HOME `home` below the folder. */
static inline struct trust *open_in(const char *home, const char *name)
{
    struct trust *t = NULL;
    struct gw_error why = {0};
    if (trust_open(at(home), name, &t, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return t;
}

/* --- handshakes in memory --- */

struct pair {
    SSL *server, *client;
    bool server_done, client_done;
};

/* Both ends until both are done or one has failed. */
static inline struct pair shake(SSL_CTX *server, SSL_CTX *client)
{
    struct pair p = {SSL_new(server), SSL_new(client), false, false};
    BIO *a = NULL, *b = NULL;
    assert_true(p.server && p.client && BIO_new_bio_pair(&a, 0, &b, 0) == 1);
    SSL_set_bio(p.server, a, a);
    SSL_set_bio(p.client, b, b);
    SSL_set_accept_state(p.server);
    SSL_set_connect_state(p.client);
    for (int turn = 0; turn < 50; turn++) {
        int c = SSL_do_handshake(p.client), s = SSL_do_handshake(p.server);
        p.client_done = c == 1;
        p.server_done = s == 1;
        bool failed = (c != 1 && SSL_get_error(p.client, c) != SSL_ERROR_WANT_READ) ||
                      (s != 1 && SSL_get_error(p.server, s) != SSL_ERROR_WANT_READ);
        ERR_clear_error();
        if (failed || (p.client_done && p.server_done)) {
            break;
        }
    }
    return p;
}

static inline void drop_pair(struct pair *p)
{
    SSL_free(p->server);
    SSL_free(p->client);
}

/* --- tokens --- */

static inline char *token_for(struct trust *t, const char *url, const struct token_options *options)
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

static inline int64_t used(struct trust *t, const char *token)
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

#endif
