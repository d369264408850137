/* Opening and closing, TLS contexts, the identity behind a connection. See the contract in the
 * header. */
#include "host/trust/trust.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <sodium.h>

#include "host/trust/identity.h"
#include "host/trust/places.h"
#include "protocol/base/log.h"

/* Certificates of one handshake: two of ours are 1.3 KB. */
#define PEER_CHAIN_BYTES (16 * 1024)

void trust_close(struct trust *t)
{
    if (!t) {
        return;
    }
    SSL_CTX_free(t->server);
    SSL_CTX_free(t->client);
    EVP_PKEY_free(t->tls_key);
    ca_close(t->ca);
    sodium_memzero(&t->key, sizeof t->key);
    free(t);
}

static void close_at(struct trust **t)
{
    trust_close(*t);
}

/* --- TLS contexts --- */

static bool set_limits(SSL_CTX *ctx)
{
    /* One lasting link per peer: nothing resumes, so no tickets and no session cache to keep in
     * memory. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 0);
    SSL_CTX_set_max_cert_list(ctx, PEER_CHAIN_BYTES);
    return SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
           SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                         "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
           SSL_CTX_set1_groups_list(ctx, "X25519:P-256") == 1;
}

/* Only this CA is trusted; the purpose (client or server) is checked by OpenSSL from its side. */
static bool set_trust(SSL_CTX *ctx, X509 *ca)
{
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
    SSL_CTX_set_verify_depth(ctx, 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca) == 1;
}

static SSL_CTX *new_context(const struct trust *t, const SSL_METHOD *method, X509 *cert)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx || !set_limits(ctx) || !set_trust(ctx, t->ca->cert) ||
        SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, t->tls_key) != 1) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static gw_err open_contexts(struct trust *t, X509 *cert, struct gw_error *why)
{
    t->server = new_context(t, TLS_server_method(), cert);
    t->client = new_context(t, TLS_client_method(), cert);
    /* A joining host finds the CA in the chain and compares it with the pin of its token. */
    if (!t->server || !t->client || SSL_CTX_add1_chain_cert(t->server, t->ca->cert) != 1 ||
        SSL_CTX_add_client_CA(t->server, t->ca->cert) != 1) {
        char text[160];
        return gw_fail(why, GW_EFAIL, "cannot set up TLS: %s", certs_openssl_error(text));
    }
    return GW_OK;
}

/* --- opening --- */

static void take_places(struct trust *t, const struct places *p, const char *name)
{
    _Static_assert(sizeof t->home == sizeof p->home && sizeof t->dir == sizeof p->host &&
                       sizeof t->mesh_dir == sizeof p->mesh,
                   "path sizes");
    memcpy(t->home, p->home, sizeof t->home);
    memcpy(t->mesh_dir, p->mesh, sizeof t->mesh_dir);
    memcpy(t->dir, p->host, sizeof t->dir);
    memcpy(t->name, name, strlen(name) + 1);
}

static gw_err must_join(const struct trust *t, struct gw_error *why)
{
    gw_err err =
        gw_fail(why, GW_EREFUSED,
                "\"%s\" belongs to mesh %s but cannot sign, and host \"%s\" has no certificate",
                t->home, t->ca->mesh_id, t->name);
    gw_hint(why,
            "join first: `godwit mesh token` on a host that signs, here `godwit host --name %s "
            "--join FILE`",
            t->name);
    return err;
}

/* The certificate to present: the one on disk, or a new one where this home can sign. */
static gw_err pick_cert(struct trust *t, struct identity *i, int64_t now_ms, struct gw_error *why)
{
    bool due = !i->cert || ca_is_due(certs_from_ms(i->cert), certs_until_ms(i->cert), now_ms);
    if (due && t->signer) {
        X509 *fresh = NULL;
        if (ca_issue_host(t->ca, t->name, &i->id, i->tls_key, now_ms, &fresh) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "cannot issue a certificate");
        }
        X509_free(i->cert);
        i->cert = fresh;
        return identity_write_cert(t->dir, i->cert, why);
    }
    if (now_ms >= certs_until_ms(i->cert)) {
        gw_err err =
            gw_fail(why, GW_EEXPIRED, "the certificate of host \"%s\" has expired", t->name);
        gw_hint(why, "join again with a new token; the identity and the agents stay");
        return err;
    }
    return GW_OK;
}

static gw_err open_identity(struct trust *t, int64_t now_ms, struct gw_error *why)
{
    if (!t->signer && !identity_has_cert(t->dir)) {
        return must_join(t, why);
    }
    GW_AUTO(identity_close) struct identity i = {0};
    GW_TRY(identity_open(t->dir, t->ca, &i, why));
    GW_TRY(pick_cert(t, &i, now_ms, why));
    t->key = i.key;
    t->id = i.id;
    t->tls_key = i.tls_key;
    i.tls_key = NULL;
    t->cert_from_ms = certs_from_ms(i.cert);
    t->cert_expires_ms = certs_until_ms(i.cert);
    return open_contexts(t, i.cert, why);
}

gw_err trust_open(const char *home, const char *name, struct trust **ret, struct gw_error *why)
{
    /* The system's openssl.cnf has no say in what the mesh trusts, and reading it costs a
     * millisecond. */
    if (sodium_init() < 0 || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1) {
        return gw_fail(why, GW_EFAIL, "the cryptography libraries do not start");
    }
    GW_AUTO(close_at) struct trust *t = calloc(1, sizeof *t);
    if (!t) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    struct places places;
    GW_TRY(places_open(home, name, &places, why));
    take_places(t, &places, name);
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(t->mesh_dir, &lock, why));
    int64_t now_ms = ca_now_ms();
    GW_TRY(ca_open(t->mesh_dir, now_ms, &t->ca, why));
    memcpy(t->mesh_id, t->ca->mesh_id, sizeof t->mesh_id);
    t->signer = t->ca->key != NULL;
    t->fresh = t->ca->fresh;
    GW_TRY(open_identity(t, now_ms, why));
    if (t->signer) {
        GW_TRY(ca_ensure_operator(t->ca, t->mesh_dir, now_ms, why));
    }
    *ret = t;
    t = NULL;
    return GW_OK;
}

/* --- who is there --- */

gw_err trust_peer_of(const struct trust *t, SSL *ssl, struct trust_peer *ret, struct gw_error *why)
{
    if (!SSL_is_init_finished(ssl)) {
        return gw_fail(why, GW_EDENIED, "the TLS handshake is not finished");
    }
    X509 *cert = SSL_get0_peer_certificate(ssl);
    if (!cert) {
        *ret = (struct trust_peer){.role = TRUST_NONE};
        return GW_OK;
    }
    /* Without a certificate the result is X509_V_OK too, so it comes second. */
    long result = SSL_get_verify_result(ssl);
    if (result != X509_V_OK) {
        return gw_fail(why, GW_EDENIED, "the certificate does not verify: %s",
                       X509_verify_cert_error_string(result));
    }
    return certs_identity(cert, t->mesh_id, ret, why);
}

/* --- renewal --- */

bool trust_renew_is_due(const struct trust *t, int64_t now_ms)
{
    return ca_is_due(t->cert_from_ms, t->cert_expires_ms, now_ms);
}

/* In place: whoever keeps a pointer to a context goes on with the new certificate. */
static gw_err present(struct trust *t, X509 *cert, struct gw_error *why)
{
    GW_TRY(identity_write_cert(t->dir, cert, why));
    if (SSL_CTX_use_certificate(t->server, cert) != 1 ||
        SSL_CTX_use_certificate(t->client, cert) != 1) {
        char text[160];
        return gw_fail(why, GW_EFAIL, "cannot present the new certificate: %s",
                       certs_openssl_error(text));
    }
    t->cert_from_ms = certs_from_ms(cert);
    t->cert_expires_ms = certs_until_ms(cert);
    return GW_OK;
}

static gw_err renew(struct trust *t, int64_t now_ms, struct gw_error *why)
{
    GW_AUTO(certs_free) X509 *cert = NULL;
    if (ca_issue_host(t->ca, t->name, &t->id, t->tls_key, now_ms, &cert) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot issue a certificate");
    }
    GW_TRY(present(t, cert, why));
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(t->mesh_dir, &lock, why));
    return ca_ensure_operator(t->ca, t->mesh_dir, now_ms, why);
}

bool trust_renew_if_due(struct trust *t, int64_t now_ms)
{
    if (!t->signer || !trust_renew_is_due(t, now_ms)) {
        return false;
    }
    struct gw_error why = {0};
    gw_err err = renew(t, now_ms, &why);
    if (err) {
        log_warn("trust.renew_failed", "error=%s text=\"%s\"", gw_err_name(err), why.text);
    }
    return !trust_renew_is_due(t, now_ms);
}

static char *text_of(const struct buf *b)
{
    return strndup((const char *)b->data, b->len);
}

gw_err trust_renew_request(const struct trust *t, char **ret_csr)
{
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_AUTO(buf_free) struct buf der = {0};
    GW_TRY(certs_request_write(t->tls_key, t->name, &pem, &der));
    char *text = text_of(&pem);
    if (!text) {
        return GW_ENOMEM;
    }
    *ret_csr = text;
    return GW_OK;
}

gw_err trust_renew_answer(const struct trust *t, const struct trust_peer *peer, const char *csr,
                          int64_t now_ms, char **ret_cert, struct gw_error *why)
{
    if (!t->signer) {
        return gw_fail(why, GW_EREFUSED, "host \"%s\" has no CA key and cannot issue certificates",
                       t->name);
    }
    if (peer->role != TRUST_HOST) {
        return gw_fail(why, GW_EDENIED, "only a host of the mesh can renew its certificate");
    }
    GW_AUTO(certs_key_free) EVP_PKEY *key = NULL;
    GW_AUTO(buf_free) struct buf der = {0};
    struct span text = {(const uint8_t *)csr, strlen(csr)};
    GW_TRY(certs_request_read(text, &key, &der, why));
    char id[HOST_ID_TEXT];
    GW_AUTO(certs_free) X509 *cert = NULL;
    GW_AUTO(buf_free) struct buf pem = {0};
    if (ca_issue_host(t->ca, host_id_text(&peer->id, id), &peer->id, key, now_ms, &cert) != GW_OK ||
        certs_write(cert, &pem) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot issue a certificate");
    }
    char *out = text_of(&pem);
    if (!out) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *ret_cert = out;
    return GW_OK;
}

gw_err trust_renew_apply(struct trust *t, const char *cert, struct gw_error *why)
{
    GW_AUTO(certs_free) X509 *fresh = NULL;
    char uri[CERTS_URI_BYTES];
    struct gw_error fault;
    certs_host_uri(t->mesh_id, &t->id, uri);
    struct span text = {(const uint8_t *)cert, strnlen(cert, LIMIT_JOIN_CSR_BYTES + 1)};
    if (text.n > LIMIT_JOIN_CSR_BYTES || certs_read(text, &fresh) != GW_OK) {
        return gw_fail(why, GW_EDENIED, "the answer is not a certificate");
    }
    if (certs_check_own(fresh, t->tls_key, t->ca->cert, uri, &fault) != GW_OK) {
        return gw_fail(why, GW_EDENIED, "the new certificate is not for this host: %s", fault.text);
    }
    return present(t, fresh, why);
}
