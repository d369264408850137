#include "host/trust/certs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sodium.h>

void certs_free(X509 **cert)
{
    X509_free(*cert);
}

void certs_key_free(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void free_request(X509_REQ **req)
{
    X509_REQ_free(*req);
}

static void free_bio(BIO **bio)
{
    BIO_free(*bio);
}

const char *certs_openssl_error(char ret[160])
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    snprintf(ret, 160, "%s", reason ? reason : "unknown error");
    ERR_clear_error();
    return ret;
}

/* --- keys --- */

/* A password must be an error, not a question to the terminal. */
static int no_password(char *ret, int size, int writing, void *arg)
{
    (void)ret, (void)size, (void)writing, (void)arg;
    return -1;
}

static bool is_p256(const EVP_PKEY *key)
{
    char group[32];
    size_t n = 0;
    return EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name((EVP_PKEY *)key, group, sizeof group, &n) == 1 &&
           strcmp(group, SN_X9_62_prime256v1) == 0;
}

gw_err certs_key_new(EVP_PKEY **ret)
{
    EVP_PKEY *key = EVP_EC_gen(SN_X9_62_prime256v1);
    if (!key) {
        ERR_clear_error();
        return GW_ENOMEM;
    }
    *ret = key;
    return GW_OK;
}

/* Content of a memory BIO, appended. */
static gw_err take_bio(BIO *bio, struct buf *ret)
{
    char *p = NULL;
    long n = BIO_get_mem_data(bio, &p);
    buf_add(ret, p, n > 0 ? (size_t)n : 0);
    return buf_ok(ret) ? GW_OK : GW_ENOMEM;
}

gw_err certs_key_write(EVP_PKEY *key, struct buf *ret_pem)
{
    GW_AUTO(free_bio) BIO *bio = BIO_new(BIO_s_secmem());
    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        ERR_clear_error();
        return GW_ENOMEM;
    }
    return take_bio(bio, ret_pem);
}

/* With form and type named, OpenSSL tries one decoder instead of all: 0.15 ms instead of 0.6. */
static EVP_PKEY *decode_key(const uint8_t *der, size_t n)
{
    EVP_PKEY *key = NULL;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(&key, "DER", "PrivateKeyInfo", "EC",
                                                          EVP_PKEY_KEYPAIR, NULL, NULL);
    if (!ctx || OSSL_DECODER_from_data(ctx, &der, &n) != 1 || n != 0) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    OSSL_DECODER_CTX_free(ctx);
    return key;
}

/* A flipped bit in the secret half would otherwise show only as handshakes that fail elsewhere. */
static bool is_a_pair(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool good = ctx && EVP_PKEY_pairwise_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

gw_err certs_key_read(struct span pem, EVP_PKEY **ret)
{
    GW_AUTO(free_bio) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    char *name = NULL, *header = NULL;
    uint8_t *der = NULL;
    long n = 0;
    GW_AUTO(certs_key_free) EVP_PKEY *key = NULL;
    if (bio && PEM_read_bio(bio, &name, &header, &der, &n) == 1 && n > 0) {
        key = strcmp(name, PEM_STRING_PKCS8INF) == 0 ? decode_key(der, (size_t)n) : NULL;
        OPENSSL_cleanse(der, (size_t)n);
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    ERR_clear_error();
    if (!key || !is_p256(key) || !is_a_pair(key)) {
        return GW_ECORRUPT;
    }
    *ret = key;
    key = NULL;
    return GW_OK;
}

/* --- making certificates --- */

static bool add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool good = ext && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return good;
}

static bool add_text_name(GENERAL_NAMES *names, int type, const char *text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    if (!name || !s || ASN1_STRING_set(s, text, -1) != 1) {
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(s);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, s);
    if (sk_GENERAL_NAME_push(names, name) <= 0) {
        GENERAL_NAME_free(name);
        return false;
    }
    return true;
}

static bool add_address(GENERAL_NAMES *names, const char *text)
{
    GENERAL_NAME *name = a2i_GENERAL_NAME(NULL, NULL, NULL, GEN_IPADD, text, 0);
    if (!name || sk_GENERAL_NAME_push(names, name) <= 0) {
        GENERAL_NAME_free(name);
        return false;
    }
    return true;
}

/* Built by hand: the text form of OpenSSL would give commas in a name a meaning. */
static bool add_names(X509 *cert, const struct certs_order *order)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    bool good = names && add_text_name(names, GEN_URI, order->uri);
    if (good && order->use == CERTS_HOST) {
        good = add_text_name(names, GEN_DNS, "localhost") && add_address(names, "127.0.0.1") &&
               add_address(names, "::1");
    }
    good = good && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1;
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return good;
}

static bool add_extensions(X509 *cert, X509 *issuer, const struct certs_order *order)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    bool ca = order->use == CERTS_CA;
    return add_extension(cert, &ctx, NID_basic_constraints,
                         ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
           add_extension(cert, &ctx, NID_key_usage,
                         ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
           (ca ||
            add_extension(cert, &ctx, NID_ext_key_usage,
                          order->use == CERTS_HOST ? "serverAuth,clientAuth" : "clientAuth")) &&
           add_extension(cert, &ctx, NID_subject_key_identifier, "hash") &&
           add_extension(cert, &ctx, NID_authority_key_identifier, "keyid:always") &&
           add_names(cert, order);
}

static bool set_serial(X509 *cert)
{
    uint8_t raw[16];
    randombytes_buf(raw, sizeof raw);
    raw[0] = (uint8_t)((raw[0] & 0x7f) | 0x40); /* positive, always 16 bytes */
    BIGNUM *n = BN_bin2bn(raw, sizeof raw, NULL);
    bool good = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return good;
}

static int64_t floor_seconds(int64_t ms)
{
    return ms >= 0 ? ms / 1000 : -((999 - ms) / 1000);
}

static bool fill(X509 *cert, const struct certs_order *order, X509 *ca)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
           ASN1_TIME_set(X509_getm_notBefore(cert), floor_seconds(order->from_ms)) &&
           ASN1_TIME_set(X509_getm_notAfter(cert), floor_seconds(order->until_ms)) &&
           X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)"Godwit", -1, -1,
                                      0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                      (const uint8_t *)order->common_name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, ca ? X509_get_subject_name(ca) : name) == 1 &&
           X509_set_pubkey(cert, order->key) == 1 && add_extensions(cert, ca ? ca : cert, order);
}

gw_err certs_issue(const struct certs_order *order, X509 *ca, EVP_PKEY *ca_key, X509 **ret)
{
    GW_AUTO(certs_free) X509 *cert = X509_new();
    if (!cert || !fill(cert, order, ca) || X509_sign(cert, ca_key, EVP_sha256()) <= 0) {
        ERR_clear_error();
        return GW_ENOMEM;
    }
    *ret = cert;
    cert = NULL;
    return GW_OK;
}

gw_err certs_write(X509 *cert, struct buf *ret_pem)
{
    GW_AUTO(free_bio) BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, cert) != 1) {
        ERR_clear_error();
        return GW_ENOMEM;
    }
    return take_bio(bio, ret_pem);
}

gw_err certs_read(struct span pem, X509 **ret)
{
    GW_AUTO(free_bio) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
    ERR_clear_error();
    if (!cert) {
        return GW_ECORRUPT;
    }
    *ret = cert;
    return GW_OK;
}

/* --- reading certificates --- */

gw_err certs_fingerprint(X509 *cert, uint8_t ret[CERTS_FINGERPRINT_BYTES])
{
    unsigned n = 0;
    return X509_digest(cert, EVP_sha256(), ret, &n) == 1 && n == CERTS_FINGERPRINT_BYTES
               ? GW_OK
               : GW_ENOMEM;
}

/* 0 for a time that does not parse: in the past, so the certificate counts as expired. */
static int64_t time_ms(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1) {
        ERR_clear_error();
        return 0;
    }
    return (int64_t)timegm(&tm) * 1000;
}

int64_t certs_from_ms(const X509 *cert)
{
    return time_ms(X509_get0_notBefore(cert));
}

int64_t certs_until_ms(const X509 *cert)
{
    return time_ms(X509_get0_notAfter(cert));
}

static bool copy_uri(const ASN1_IA5STRING *s, char ret[CERTS_URI_BYTES])
{
    struct span text = {ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)};
    return text.n > 0 && span_text(text, ret, CERTS_URI_BYTES);
}

gw_err certs_uri(const X509 *cert, char ret[CERTS_URI_BYTES], struct gw_error *why)
{
    int critical = 0; /* also tells an absent extension (-1) from a repeated one (-2) */
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    ERR_clear_error();
    char uri[CERTS_URI_BYTES] = "";
    int count = 0;
    bool good = true;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI) {
            count++;
            good = good && copy_uri(name->d.uniformResourceIdentifier, uri);
        }
    }
    GENERAL_NAMES_free(names);
    if (count != 1) {
        return gw_fail(why, GW_EDENIED, "the certificate has %d URI names instead of one", count);
    }
    if (!good) {
        return gw_fail(why, GW_EDENIED, "the URI name of the certificate is not valid");
    }
    memcpy(ret, uri, sizeof uri);
    return GW_OK;
}

void certs_host_uri(const char *mesh_id, const struct host_id *id, char ret[CERTS_URI_BYTES])
{
    char text[HOST_ID_TEXT];
    snprintf(ret, CERTS_URI_BYTES, "spiffe://%s/host/%s", mesh_id, host_id_text(id, text));
}

gw_err certs_identity(const X509 *cert, const char *mesh_id, struct trust_peer *ret,
                      struct gw_error *why)
{
    char uri[CERTS_URI_BYTES];
    GW_TRY(certs_uri(cert, uri, why));
    char prefix[CERTS_URI_BYTES];
    int n = snprintf(prefix, sizeof prefix, "spiffe://%s/", mesh_id);
    if (strncmp(uri, prefix, (size_t)n) != 0) {
        return gw_fail(why, GW_EDENIED, "the certificate is of another mesh");
    }
    const char *path = uri + n;
    struct trust_peer peer = {0};
    if (strncmp(path, "host/", 5) == 0 && host_id_parse(path + 5, &peer.id) == GW_OK) {
        char whole[CERTS_URI_BYTES]; /* the parser is lenient about case, a name is not */
        certs_host_uri(mesh_id, &peer.id, whole);
        peer.role = strcmp(whole, uri) == 0 ? TRUST_HOST : TRUST_NONE;
    } else if (strncmp(path, "operator/", 9) == 0 && name_is_valid(path + 9)) {
        peer.role = TRUST_OPERATOR;
        memcpy(peer.name, path + 9, strlen(path + 9) + 1);
    }
    if (peer.role == TRUST_NONE) {
        return gw_fail(why, GW_EDENIED, "the certificate names neither a host nor an operator");
    }
    *ret = peer;
    return GW_OK;
}

gw_err certs_check_own(X509 *cert, EVP_PKEY *key, X509 *ca, const char *uri, struct gw_error *why)
{
    char named[CERTS_URI_BYTES];
    GW_TRY(certs_uri(cert, named, why));
    if (X509_verify(cert, X509_get0_pubkey(ca)) != 1) {
        ERR_clear_error();
        return gw_fail(why, GW_ECORRUPT, "it was not issued by the CA of this mesh");
    }
    if (EVP_PKEY_eq(X509_get0_pubkey(cert), key) != 1) {
        ERR_clear_error();
        return gw_fail(why, GW_ECORRUPT, "it is for another key");
    }
    if (strcmp(named, uri) != 0) {
        return gw_fail(why, GW_ECORRUPT, "it names \"%s\" instead of \"%s\"", named, uri);
    }
    return GW_OK;
}

/* --- certificate requests --- */

static gw_err request_der(X509_REQ *req, struct buf *ret)
{
    uint8_t *der = NULL;
    int n = i2d_X509_REQ(req, &der);
    buf_add(ret, der, n > 0 ? (size_t)n : 0);
    OPENSSL_free(der);
    return n > 0 && buf_ok(ret) ? GW_OK : GW_ENOMEM;
}

gw_err certs_request_write(EVP_PKEY *key, const char *common_name, struct buf *ret_pem,
                           struct buf *ret_der)
{
    GW_AUTO(free_request) X509_REQ *req = X509_REQ_new();
    GW_AUTO(free_bio) BIO *bio = BIO_new(BIO_s_mem());
    if (!req || !bio || X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 ||
        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_UTF8,
                                   (const uint8_t *)common_name, -1, -1, 0) != 1 ||
        X509_REQ_set_pubkey(req, key) != 1 || X509_REQ_sign(req, key, EVP_sha256()) <= 0 ||
        PEM_write_bio_X509_REQ(bio, req) != 1) {
        ERR_clear_error();
        return GW_ENOMEM;
    }
    GW_TRY(take_bio(bio, ret_pem));
    return request_der(req, ret_der);
}

gw_err certs_request_read(struct span pem, EVP_PKEY **ret_key, struct buf *ret_der,
                          struct gw_error *why)
{
    if (pem.n == 0 || pem.n > LIMIT_JOIN_CSR_BYTES) {
        return gw_fail(why, GW_EDENIED, "the certificate request is empty or too large");
    }
    GW_AUTO(free_bio) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    GW_AUTO(free_request)
    X509_REQ *req = bio ? PEM_read_bio_X509_REQ(bio, NULL, no_password, NULL) : NULL;
    EVP_PKEY *key = req ? X509_REQ_get0_pubkey(req) : NULL;
    if (!key || !is_p256(key) || X509_REQ_verify(req, key) != 1) {
        ERR_clear_error();
        return gw_fail(why, GW_EDENIED,
                       "the certificate request is not a signed one for a P-256 key");
    }
    if (request_der(req, ret_der) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    EVP_PKEY_up_ref(key);
    *ret_key = key;
    return GW_OK;
}
