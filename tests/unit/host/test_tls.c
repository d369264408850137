/* TLS handshakes with every kind of certificate, and the identity behind them. */
#include "tests/unit/host/trust_rig.h"

#include <fcntl.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

static struct trust *open_host(const char *name)
{
    return open_in("", name);
}

static void write_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

static struct buf read_file(const char *path)
{
    struct buf b = {0};
    assert_int_equal(keyfile_read(path, KEYFILE_PUBLIC, &b, NULL), GW_OK);
    return b;
}

/* --- handshakes --- */

/* A bit of the secret half alone would make handshakes fail later, elsewhere. What still opens (a
 * byte that the format ignores) must work. */
static void test_every_altered_character_of_the_tls_key(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    char *path = at("hosts/alpha/tls.key");
    struct buf good = read_file(path);
    int opened = 0;
    for (size_t i = 0; i < good.len; i++) {
        uint8_t was = good.data[i];
        good.data[i] = was == 'A' ? 'B' : 'A';
        write_file(path, good.data, good.len);
        struct trust *t = NULL;
        gw_err err = trust_open(root, "alpha", &t, NULL);
        assert_true(err == GW_OK || err == GW_ECORRUPT);
        if (t) {
            struct pair p = shake(t->server, t->client);
            assert_true(p.server_done && p.client_done);
            drop_pair(&p);
            trust_close(t);
            opened++;
        }
        good.data[i] = was;
    }
    assert_true(opened < 8);
    buf_free(&good);
}

static void test_mutual_handshake(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha"), *b = open_host("beta");
    struct pair p = shake(a->server, b->client);
    assert_true(p.server_done && p.client_done);
    assert_int_equal(SSL_version(p.server), TLS1_3_VERSION);
    struct trust_peer peer;
    assert_int_equal(trust_peer_of(a, p.server, &peer, NULL), GW_OK);
    assert_int_equal(peer.role, TRUST_HOST);
    assert_true(host_id_equal(&peer.id, &b->id));
    assert_int_equal(trust_peer_of(b, p.client, &peer, NULL), GW_OK);
    assert_true(host_id_equal(&peer.id, &a->id));
    assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(p.client)),
                     2); /* with the CA, for joins */
    /* Both ends see the same exporter, other connections another one. */
    uint8_t x[2][32];
    static const char label[] = "EXPORTER-godwit-join-1";
    assert_int_equal(
        SSL_export_keying_material(p.server, x[0], 32, label, sizeof label - 1, NULL, 0, 0), 1);
    assert_int_equal(
        SSL_export_keying_material(p.client, x[1], 32, label, sizeof label - 1, NULL, 0, 0), 1);
    assert_memory_equal(x[0], x[1], 32);
    drop_pair(&p);
    trust_close(a);
    trust_close(b);
}

static void test_no_certificate(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha");
    SSL_CTX *browser = SSL_CTX_new(TLS_client_method());
    struct pair p = shake(a->server, browser);
    assert_true(p.server_done && p.client_done);
    struct trust_peer peer = {.role = TRUST_HOST};
    assert_int_equal(trust_peer_of(a, p.server, &peer, NULL), GW_OK);
    assert_int_equal(peer.role, TRUST_NONE);
    char byte;
    assert_true(SSL_read(p.client, &byte, 1) < 0); /* would take tickets in */
    assert_false(SSL_SESSION_has_ticket(SSL_get0_session(p.client)));
    drop_pair(&p);
    SSL_CTX_free(browser);
    trust_close(a);
}

static void test_unfinished_handshake_is_nobody(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha");
    SSL *ssl = SSL_new(a->server);
    struct trust_peer peer;
    assert_int_equal(trust_peer_of(a, ssl, &peer, NULL), GW_EDENIED);
    SSL_free(ssl);
    trust_close(a);
}

static void test_only_tls_1_3(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha");
    SSL_CTX *old = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
    struct pair p = shake(a->server, old);
    assert_false(p.server_done || p.client_done);
    drop_pair(&p);
    SSL_CTX_free(old);
    trust_close(a);
}

static void test_other_mesh(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha");
    char first[64];
    memcpy(first, root, sizeof first);
    assert_int_equal(fresh_root(NULL), 0);
    struct trust *b = open_host("beta");
    struct pair p = shake(a->server, b->client); /* the client refuses the server */
    assert_false(p.server_done || p.client_done);
    drop_pair(&p);
    SSL_CTX_set_verify(b->client, SSL_VERIFY_NONE, NULL); /* and the server the client */
    p = shake(a->server, b->client);
    assert_false(p.server_done);
    drop_pair(&p);
    trust_close(a);
    trust_close(b);
    assert_int_equal(drop_root(NULL), 0);
    memcpy(root, first, sizeof first);
}

/* --- forged certificates, made with the CA's key or without --- */

struct forge {
    const char *uris[3];
    size_t uri_bytes; /* of the first; 0 = strlen */
    int64_t from_ms, until_ms;
    const char *eku; /* NULL = as a host */
    bool no_names;
};

static void set_names(X509 *cert, const struct forge *f)
{
    X509_EXTENSION *old =
        X509_delete_ext(cert, X509_get_ext_by_NID(cert, NID_subject_alt_name, -1));
    X509_EXTENSION_free(old);
    if (f->no_names) {
        return;
    }
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    for (size_t i = 0; i < 3 && f->uris[i]; i++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *s = ASN1_IA5STRING_new();
        ASN1_STRING_set(s, f->uris[i],
                        i == 0 && f->uri_bytes ? (int)f->uri_bytes : (int)strlen(f->uris[i]));
        GENERAL_NAME_set0_value(name, GEN_URI, s);
        sk_GENERAL_NAME_push(names, name);
    }
    assert_int_equal(X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0), 1);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
}

/* A client context with a certificate that this CA signed to the letter of `f`. */
static SSL_CTX *forge(struct trust *t, X509 *issuer, EVP_PKEY *issuer_key, const struct forge *f)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    assert_int_equal(certs_key_new(&key), GW_OK);
    int64_t now = ca_now_ms();
    struct certs_order order = {.use = CERTS_HOST,
                                .common_name = "forged",
                                .uri = "spiffe://x",
                                .from_ms = f->from_ms ? f->from_ms : now - 1000,
                                .until_ms = f->until_ms ? f->until_ms : now + 100000,
                                .key = key};
    assert_int_equal(certs_issue(&order, issuer, issuer_key, &cert), GW_OK);
    set_names(cert, f);
    if (f->eku) {
        X509_EXTENSION_free(
            X509_delete_ext(cert, X509_get_ext_by_NID(cert, NID_ext_key_usage, -1)));
        X509_EXTENSION *eku = X509V3_EXT_conf_nid(NULL, NULL, NID_ext_key_usage, f->eku);
        assert_int_equal(X509_add_ext(cert, eku, -1), 1);
        X509_EXTENSION_free(eku);
    }
    assert_true(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    (void)t;
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

/* The handshake must fail at the server. */
static void expect_refused(struct trust *t, SSL_CTX *client)
{
    struct pair p = shake(t->server, client);
    assert_false(p.server_done);
    drop_pair(&p);
    SSL_CTX_free(client);
}

/* The handshake passes, the identity does not. */
static void expect_denied(struct trust *t, const struct forge *f, const char *text)
{
    SSL_CTX *client = forge(t, t->ca->cert, t->ca->key, f);
    struct pair p = shake(t->server, client);
    assert_true(p.server_done);
    struct trust_peer peer = {.role = TRUST_NONE};
    struct gw_error why = {0};
    assert_int_equal(trust_peer_of(t, p.server, &peer, &why), GW_EDENIED);
    if (!strstr(why.text, text)) {
        fail_msg("\"%s\" is not in \"%s\"", text, why.text);
    }
    assert_int_equal(peer.role, TRUST_NONE);
    drop_pair(&p);
    SSL_CTX_free(client);
}

static void test_certificates_that_do_not_verify(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    char uri[CERTS_URI_BYTES];
    certs_host_uri(t->mesh_id, &t->id, uri);
    X509 *ca = t->ca->cert;
    int64_t now = ca_now_ms();
    struct forge good = {.uris = {uri}};
    SSL_CTX *client = forge(t, ca, t->ca->key, &good); /* the forge itself works */
    struct pair p = shake(t->server, client);
    assert_true(p.server_done);
    drop_pair(&p);
    SSL_CTX_free(client);

    struct forge expired = {.uris = {uri}, .from_ms = now - 20000, .until_ms = now - 10000};
    expect_refused(t, forge(t, ca, t->ca->key, &expired));
    struct forge future = {.uris = {uri}, .from_ms = now + 50000};
    expect_refused(t, forge(t, ca, t->ca->key, &future));
    struct forge server_only = {.uris = {uri}, .eku = "serverAuth"};
    expect_refused(t, forge(t, ca, t->ca->key, &server_only));
    /* Signed by a key that only claims the CA's name; signed by a host as if it were a CA. */
    expect_refused(t, forge(t, ca, t->tls_key, &good));
    X509 *leaf = SSL_CTX_get0_certificate(t->server);
    client = forge(t, leaf, t->tls_key, &good);
    assert_int_equal(SSL_CTX_add1_chain_cert(client, leaf), 1);
    expect_refused(t, client);
    trust_close(t);
}

static void test_names_that_are_nobody(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    char host[CERTS_URI_BYTES], uri[CERTS_URI_BYTES + 16];
    certs_host_uri(t->mesh_id, &t->id, host);
    expect_denied(t, &(struct forge){.no_names = true}, "0 URI names");
    expect_denied(t, &(struct forge){.uris = {host, host}}, "2 URI names");
    snprintf(uri, sizeof uri, "%s/x", host);
    expect_denied(t, &(struct forge){.uris = {uri}}, "neither a host");
    snprintf(uri, sizeof uri, "%s", host);
    uri[strlen(uri) - 1] = '\0';
    expect_denied(t, &(struct forge){.uris = {uri}}, "neither a host");
    /* NUL: what C sees is the good name. */
    memset(uri, 0, sizeof uri);
    memcpy(uri, host, strlen(host));
    memcpy(uri + strlen(host) + 1, "evil", 4);
    expect_denied(t, &(struct forge){.uris = {uri}, .uri_bytes = strlen(host) + 5}, "not valid");
    expect_denied(t, &(struct forge){.uris = {uri}, .uri_bytes = strlen(host) + 1}, "not valid");
    /* The same id spelled otherwise: lower case. */
    snprintf(uri, sizeof uri, "%s", host);
    for (char *c = strstr(uri, "/host/") + 6; *c; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    }
    expect_denied(t, &(struct forge){.uris = {uri}}, "neither a host");
    snprintf(uri, sizeof uri, "spiffe://%s", t->mesh_id); /* the CA's own name */
    expect_denied(t, &(struct forge){.uris = {uri}}, "another mesh");
    memcpy(uri, host, strlen(host) + 1);
    uri[sizeof "spiffe://"] ^= 1;
    expect_denied(t, &(struct forge){.uris = {uri}}, "another mesh");
    snprintf(uri, sizeof uri, "spiffe://%s/operator/../x", t->mesh_id);
    expect_denied(t, &(struct forge){.uris = {uri}}, "neither a host");
    snprintf(uri, sizeof uri, "spiffe://%s/signer/x", t->mesh_id);
    expect_denied(t, &(struct forge){.uris = {uri}}, "neither a host");
    trust_close(t);
}

static void test_operator_certificate(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    assert_int_equal(
        SSL_CTX_use_certificate_file(client, at("mesh/operator.crt"), SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(client, at("mesh/operator.key"), SSL_FILETYPE_PEM),
                     1);
    assert_int_equal(SSL_CTX_load_verify_locations(client, at("mesh/ca.crt"), NULL), 1);
    SSL_CTX_set_verify(client, SSL_VERIFY_PEER, NULL);
    struct pair p = shake(t->server, client);
    assert_true(p.server_done && p.client_done);
    struct trust_peer peer;
    assert_int_equal(trust_peer_of(t, p.server, &peer, NULL), GW_OK);
    assert_int_equal(peer.role, TRUST_OPERATOR);
    assert_string_equal(peer.name, "local");
    /* curl --cacert ca.crt https://127.0.0.1:7420 */
    X509 *cert = SSL_get0_peer_certificate(p.client);
    assert_int_equal(X509_check_ip_asc(cert, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_host(cert, "localhost", 0, 0, NULL), 1);
    drop_pair(&p);
    SSL_CTX_free(client);
    trust_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_altered_character_of_the_tls_key),
        TEST(test_mutual_handshake),
        TEST(test_no_certificate),
        TEST(test_unfinished_handshake_is_nobody),
        TEST(test_only_tls_1_3),
        TEST(test_other_mesh),
        TEST(test_certificates_that_do_not_verify),
        TEST(test_names_that_are_nobody),
        TEST(test_operator_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
