/* Identity and trust: first start, files, damage, concurrent starts; TLS handshakes with every kind
 * of bad certificate; renewal. */
#include "host/trust/trust.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "host/trust/ca.h"
#include "host/trust/keyfile.h"

static char home[64];

static int fresh_home(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/godwit-trust-XXXXXX");
    return mkdtemp(home) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int drop_home(void **state)
{
    (void)state;
    return nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *at(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", home, name);
    return p;
}

static struct trust *open_host(const char *name)
{
    struct trust *t = NULL;
    struct gw_error why = {0};
    if (trust_open(home, name, &t, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return t;
}

static void expect_open(const char *name, gw_err code, const char *text)
{
    struct trust *t = NULL;
    struct gw_error why = {0};
    assert_int_equal(trust_open(home, name, &t, &why), code);
    assert_int_equal(why.code, code);
    assert_null(t);
    if (!strstr(why.text, text)) {
        fail_msg("\"%s\" is not in \"%s\"", text, why.text);
    }
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

/* --- the first start and later ones --- */

static void expect_mode(const char *path, unsigned mode)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_first_start(void **state)
{
    (void)state;
    double begin = seconds();
    struct trust *t = open_host("alpha");
    double first = seconds() - begin;
    assert_true(t->signer && t->fresh);
    assert_string_equal(t->name, "alpha");
    struct host_id id = host_id_of_key(t->key.public_key);
    assert_true(host_id_equal(&id, &t->id));
    assert_true(t->cert_expires_ms - ca_now_ms() > 89LL * 86400000);
    assert_true(t->cert_expires_ms - ca_now_ms() < 91LL * 86400000);
    expect_mode(at("mesh"), 0700);
    expect_mode(at("hosts/alpha"), 0700);
    expect_mode(at("mesh/ca.key"), 0600);
    expect_mode(at("mesh/operator.key"), 0600);
    expect_mode(at("mesh/operator.crt"), 0600);
    expect_mode(at("hosts/alpha/identity.key"), 0600);
    expect_mode(at("hosts/alpha/tls.key"), 0600);
    char mesh[MESH_ID_TEXT];
    memcpy(mesh, t->mesh_id, sizeof mesh);
    trust_close(t);

    begin = seconds();
    t = open_host("alpha");
    double later = seconds() - begin;
    assert_true(t->signer && !t->fresh);
    assert_string_equal(t->mesh_id, mesh);
    assert_true(host_id_equal(&id, &t->id));
    trust_close(t);
    t = open_host("beta");
    assert_string_equal(t->mesh_id, mesh);
    assert_false(host_id_equal(&id, &t->id));
    trust_close(t);
    print_message("first start %.1f ms, later start %.1f ms\n", first * 1e3, later * 1e3);
}

static void test_nothing_left_over(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    const char *const dirs[] = {"mesh", "hosts/alpha"};
    const int counts[] = {6, 3}; /* ca.key ca.crt mesh.json lock operator.{key,crt}; three keys */
    for (int i = 0; i < 2; i++) {
        DIR *d = opendir(at(dirs[i]));
        assert_non_null(d);
        int n = 0;
        for (struct dirent *e; (e = readdir(d));) {
            assert_null(strstr(e->d_name, ".part"));
            n += e->d_name[0] != '.';
        }
        closedir(d);
        assert_int_equal(n, counts[i]);
    }
}

static void test_bad_names(void **state)
{
    (void)state;
    char longer[LIMIT_NAME_BYTES + 2];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    const char *const bad[] = {"", ".", "..", "../x", "a/b", "-a", "a b", "a\n", longer};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_open(bad[i], GW_EARG, "not a valid host name");
    }
    longer[LIMIT_NAME_BYTES] = '\0';
    trust_close(open_host(longer));
}

static void test_home_is_not_usable(void **state)
{
    (void)state;
    write_file(at("file"), "x", 1);
    struct trust *t;
    struct gw_error why = {0};
    assert_int_equal(trust_open(at("file"), "alpha", &t, &why), GW_EDENIED);
    assert_int_equal(trust_open("/proc/godwit", "alpha", &t, &why) == GW_OK, 0);
    assert_non_null(strstr(why.text, "/proc/godwit"));
}

/* --- damage --- */

static void test_damaged_files(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    const char *const files[] = {"hosts/alpha/identity.key", "hosts/alpha/tls.key",
                                 "hosts/alpha/tls.crt", "mesh/ca.key", "mesh/ca.crt"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = at(files[i]);
        struct buf good = read_file(path);
        write_file(path, "", 0);
        expect_open("alpha", GW_ECORRUPT, "damaged");
        write_file(path, good.data, good.len / 2);
        expect_open("alpha", GW_ECORRUPT, "damaged");
        struct buf now = read_file(path); /* never overwritten */
        assert_int_equal(now.len, good.len / 2);
        buf_free(&now);
        write_file(path, good.data, good.len);
        buf_free(&good);
        trust_close(open_host("alpha"));
    }
}

static void test_every_flipped_byte_of_the_identity(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    char *path = at("hosts/alpha/identity.key");
    struct buf good = read_file(path);
    for (size_t i = 0; i < good.len; i++) {
        good.data[i] ^= 1;
        write_file(path, good.data, good.len);
        expect_open("alpha", GW_ECORRUPT, "identity.key");
        good.data[i] ^= 1;
    }
    buf_free(&good);
    trust_close(t);
}

static void test_missing_files(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    assert_int_equal(unlink(at("hosts/alpha/identity.key")), 0);
    expect_open("alpha", GW_ECORRUPT, "missing");
    assert_false(keyfile_exists(at("hosts/alpha/identity.key")));
    trust_close(open_host("beta"));
    assert_int_equal(unlink(at("hosts/beta/tls.crt")), 0); /* issued again for the same keys */
    trust_close(open_host("beta"));
    assert_int_equal(unlink(at("mesh/ca.crt")), 0);
    expect_open("beta", GW_ECORRUPT, "is missing");
}

static void test_start_that_was_killed_between_key_and_certificate(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    struct buf key = read_file(at("mesh/ca.key"));
    assert_int_equal(nftw(at("hosts"), remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(unlink(at("mesh/ca.crt")), 0);
    assert_int_equal(unlink(at("mesh/mesh.json")), 0);
    assert_int_equal(unlink(at("mesh/operator.crt")), 0);
    struct trust *t = open_host("alpha");
    assert_true(t->fresh);
    struct buf same = read_file(at("mesh/ca.key"));
    assert_int_equal(key.len, same.len);
    assert_memory_equal(key.data, same.data, key.len);
    buf_free(&key);
    buf_free(&same);
    trust_close(t);
}

static void test_secrets_open_to_others(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    const char *const files[] = {"hosts/alpha/identity.key", "hosts/alpha/tls.key", "mesh/ca.key"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(chmod(at(files[i]), 0640), 0);
        expect_open("alpha", GW_EDENIED, "others can read");
        assert_int_equal(chmod(at(files[i]), 0600), 0);
    }
    trust_close(open_host("alpha"));
}

static void test_keys_of_another_host(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    trust_close(open_host("beta"));
    struct buf other = read_file(at("hosts/beta/identity.key"));
    write_file(at("hosts/alpha/identity.key"), other.data, other.len);
    buf_free(&other);
    expect_open("alpha", GW_ECORRUPT, "does not fit the keys");
}

static void test_home_that_cannot_sign(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    assert_int_equal(unlink(at("mesh/ca.key")), 0);
    struct trust *t = open_host("alpha"); /* has its certificate */
    assert_false(t->signer);
    assert_false(trust_renew_if_due(t, t->cert_expires_ms));
    trust_close(t);
    expect_open("beta", GW_EREFUSED, "cannot sign");
    assert_false(keyfile_exists(at("hosts/beta/identity.key")));
}

static void test_two_first_starts_make_one_ca(void **state)
{
    (void)state;
    enum { STARTS = 6 };
    pid_t pids[STARTS];
    for (int i = 0; i < STARTS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            char name[16];
            snprintf(name, sizeof name, "h%d", i / 2); /* also two of one name */
            struct trust *t;
            _exit(trust_open(home, name, &t, NULL) == GW_OK ? (t->fresh ? 1 : 0) : 100);
        }
    }
    int fresh = 0;
    for (int i = 0; i < STARTS; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        fresh += WEXITSTATUS(status);
    }
    assert_int_equal(fresh, 1);
    for (int i = 0; i < STARTS / 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "h%d", i);
        trust_close(open_host(name)); /* its certificate is of the one CA */
    }
}

/* --- handshakes --- */

struct pair {
    SSL *server, *client;
    bool server_done, client_done;
};

/* Both ends in memory until both are done or one has failed. */
static struct pair shake(SSL_CTX *server, SSL_CTX *client)
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

static void drop_pair(struct pair *p)
{
    SSL_free(p->server);
    SSL_free(p->client);
}

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
        gw_err err = trust_open(home, "alpha", &t, NULL);
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
    memcpy(first, home, sizeof first);
    assert_int_equal(fresh_home(NULL), 0);
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
    assert_int_equal(drop_home(NULL), 0);
    memcpy(home, first, sizeof first);
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

/* --- renewal --- */

static void test_renewal(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    SSL_CTX *server = t->server;
    int64_t now = ca_now_ms(), day = 86400000LL, old = t->cert_expires_ms;
    assert_false(trust_renew_if_due(t, now));
    assert_false(trust_renew_if_due(t, now + 59 * day));
    assert_int_equal(t->cert_expires_ms, old);
    assert_true(trust_renew_if_due(t, now + 61 * day));
    assert_true(t->cert_expires_ms > old + 60 * day && t->server == server);
    assert_true(trust_renew_if_due(t, now)); /* the clock was set back: begins in the future */
    struct pair p = shake(t->server, t->client);
    assert_true(p.server_done && p.client_done);
    drop_pair(&p);
    trust_close(t);
}

static void test_renewal_by_a_signer(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha");
    trust_close(open_host("beta"));
    assert_int_equal(rename(at("mesh/ca.key"), at("mesh/away")), 0);
    struct trust *b = open_host("beta");
    assert_false(b->signer);
    int64_t later = ca_now_ms() + 61LL * 86400000;
    assert_true(trust_renew_is_due(b, later));
    assert_false(trust_renew_if_due(b, later));
    char *csr = NULL, *cert = NULL, *other = NULL;
    struct trust_peer peer = {.role = TRUST_HOST, .id = b->id}, nobody = {.role = TRUST_OPERATOR};
    assert_int_equal(trust_renew_request(b, &csr), GW_OK);
    assert_int_equal(trust_renew_answer(b, &peer, csr, later, &cert, NULL), GW_EREFUSED);
    assert_int_equal(trust_renew_answer(a, &nobody, csr, later, &cert, NULL), GW_EDENIED);
    assert_int_equal(trust_renew_answer(a, &peer, "nonsense", later, &cert, NULL), GW_EDENIED);
    assert_int_equal(trust_renew_answer(a, &peer, csr, later, &cert, NULL), GW_OK);
    /* Issued for another host: not taken. */
    peer.id = a->id;
    assert_int_equal(trust_renew_answer(a, &peer, csr, later, &other, NULL), GW_OK);
    assert_int_equal(trust_renew_apply(b, other, NULL), GW_EDENIED);
    assert_int_equal(trust_renew_apply(b, "", NULL), GW_EDENIED);
    assert_int_equal(trust_renew_apply(b, cert, NULL), GW_OK);
    assert_false(trust_renew_is_due(b, later));
    free(csr);
    free(cert);
    free(other);
    trust_close(a);
    trust_close(b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh_home, drop_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_start),
        TEST(test_nothing_left_over),
        TEST(test_bad_names),
        TEST(test_home_is_not_usable),
        TEST(test_damaged_files),
        TEST(test_every_flipped_byte_of_the_identity),
        TEST(test_missing_files),
        TEST(test_start_that_was_killed_between_key_and_certificate),
        TEST(test_secrets_open_to_others),
        TEST(test_keys_of_another_host),
        TEST(test_home_that_cannot_sign),
        TEST(test_two_first_starts_make_one_ca),
        TEST(test_every_altered_character_of_the_tls_key),
        TEST(test_mutual_handshake),
        TEST(test_no_certificate),
        TEST(test_unfinished_handshake_is_nobody),
        TEST(test_only_tls_1_3),
        TEST(test_other_mesh),
        TEST(test_certificates_that_do_not_verify),
        TEST(test_names_that_are_nobody),
        TEST(test_operator_certificate),
        TEST(test_renewal),
        TEST(test_renewal_by_a_signer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
