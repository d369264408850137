/* The signer's side of a join: requests by hand, on connections in memory. */
#include "tests/unit/host/trust_rig.h"

#include <pthread.h>

#include <openssl/rsa.h>

/* --- requests by hand, on connections in memory --- */

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
    struct trust *t = open_in("a", "alpha");
    char *token = token_for(t, "https://h:1", &(struct token_options){.uses = 9});
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(t->server, client);
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
    struct trust *t = open_in("a", "alpha");
    char *token = token_for(t, "https://h:1", NULL);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(t->server, client);
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
    struct trust *t = open_in("a", "alpha");
    char *token = token_for(t, "https://h:1", NULL);
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(t->server, client);
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
    askers[0] = (struct asker){.trust = open_in("a", "alpha")};
    askers[1] = (struct asker){.trust = open_in("a", "beta")};
    char *token = token_for(askers[0].trust, "https://h:1", &(struct token_options){.uses = 3});
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < ASKERS; i++) {
            askers[k].pair[i] = shake(askers[k].trust->server, client);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_requests_that_do_not_prove),
        TEST(test_certificate_requests),
        TEST(test_malformed_requests),
        TEST(test_concurrent_joins_count_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
