#include "host/trust/identity.h"

#include <string.h>

#include <openssl/err.h>
#include <sodium.h>

#include "host/trust/keyfile.h"

#define SEED_BYTES   crypto_sign_SEEDBYTES
#define BASE64_BYTES 45 /* of 32 bytes, with NUL */

static const char magic[] = "godwit-identity-1 ";

void identity_close(struct identity *i)
{
    EVP_PKEY_free(i->tls_key);
    X509_free(i->cert);
    sodium_memzero(i, sizeof *i);
}

bool identity_has_cert(const char *dir)
{
    char path[KEYFILE_PATH_BYTES];
    return keyfile_path(path, dir, "tls.crt", NULL) == GW_OK && keyfile_exists(path);
}

gw_err identity_write_cert(const char *dir, X509 *cert, struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_TRY(keyfile_path(path, dir, "tls.crt", why));
    if (certs_write(cert, &pem) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return keyfile_write(path, KEYFILE_PUBLIC, buf_span(&pem), why);
}

/* --- the Ed25519 key --- */

static bool decode32(const char *text, size_t n, uint8_t ret[32])
{
    size_t len = 0;
    return sodium_base642bin(ret, 32, text, n, NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL) ==
               0 &&
           len == 32;
}

static bool parse_seed(struct span text, struct host_key *ret)
{
    const size_t head = sizeof magic - 1, b64 = BASE64_BYTES - 1;
    uint8_t seed[SEED_BYTES], named[32];
    bool good = text.n == head + b64 + 1 + b64 + 1 && memcmp(text.p, magic, head) == 0 &&
                text.p[head + b64] == ' ' && text.p[text.n - 1] == '\n' &&
                decode32((const char *)text.p + head, b64, seed) &&
                decode32((const char *)text.p + head + b64 + 1, b64, named);
    if (good) {
        crypto_sign_seed_keypair(ret->public_key, ret->secret_key, seed);
        good = memcmp(ret->public_key, named, sizeof named) == 0;
    }
    sodium_memzero(seed, sizeof seed);
    return good;
}

static gw_err make_seed(const char *path, struct host_key *ret, struct gw_error *why)
{
    uint8_t seed[SEED_BYTES];
    char text[BASE64_BYTES], public_text[BASE64_BYTES];
    randombytes_buf(seed, sizeof seed);
    crypto_sign_seed_keypair(ret->public_key, ret->secret_key, seed);
    sodium_bin2base64(text, sizeof text, seed, sizeof seed, sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(public_text, sizeof public_text, ret->public_key, 32,
                      sodium_base64_VARIANT_ORIGINAL);
    GW_AUTO(keyfile_wipe) struct buf line = {0};
    if (buf_reserve(&line, 256)) {
        buf_addf(&line, "%s%s %s\n", magic, text, public_text);
    }
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(text, sizeof text);
    if (!buf_ok(&line)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return keyfile_write(path, KEYFILE_SECRET, buf_span(&line), why);
}

static gw_err missing_key(const char *path, struct gw_error *why)
{
    gw_err err =
        gw_fail(why, GW_ECORRUPT, "the key file \"%s\" is missing, its certificate is not", path);
    gw_hint(why,
            "restore it from a backup; to give up this identity, move the host's directory away");
    return err;
}

static gw_err damaged_key(const char *path, struct gw_error *why)
{
    gw_err err = gw_fail(why, GW_ECORRUPT, "the key file \"%s\" is damaged", path);
    gw_hint(why, "restore it from a backup; it is never overwritten");
    return err;
}

static gw_err open_seed(const char *dir, bool may_make, struct host_key *ret, struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(path, dir, "identity.key", why));
    GW_AUTO(keyfile_wipe) struct buf text = {0};
    gw_err err = keyfile_read(path, KEYFILE_SECRET, &text, why);
    if (err == GW_ENOT_FOUND) {
        return may_make ? make_seed(path, ret, why) : missing_key(path, why);
    }
    if (err) {
        return err;
    }
    return parse_seed(buf_span(&text), ret) ? GW_OK : damaged_key(path, why);
}

/* --- the TLS key and certificate --- */

static gw_err make_tls_key(const char *path, EVP_PKEY **ret, struct gw_error *why)
{
    GW_AUTO(certs_key_free) EVP_PKEY *key = NULL;
    GW_AUTO(keyfile_wipe) struct buf pem = {0};
    if (certs_key_new(&key) != GW_OK || certs_key_write(key, &pem) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot make a TLS key");
    }
    GW_TRY(keyfile_write(path, KEYFILE_SECRET, buf_span(&pem), why));
    *ret = key;
    key = NULL;
    return GW_OK;
}

static gw_err open_tls_key(const char *dir, bool may_make, EVP_PKEY **ret, struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(path, dir, "tls.key", why));
    GW_AUTO(keyfile_wipe) struct buf pem = {0};
    gw_err err = keyfile_read(path, KEYFILE_SECRET, &pem, why);
    if (err == GW_ENOT_FOUND) {
        return may_make ? make_tls_key(path, ret, why) : missing_key(path, why);
    }
    if (err) {
        return err;
    }
    return certs_key_read(buf_span(&pem), ret) == GW_OK ? GW_OK : damaged_key(path, why);
}

static gw_err check_cert(const char *path, const struct identity *i, const struct ca *ca,
                         struct gw_error *why)
{
    char uri[CERTS_URI_BYTES];
    struct gw_error fault;
    if (X509_verify(i->cert, X509_get0_pubkey(ca->cert)) != 1) {
        ERR_clear_error();
        gw_err err = gw_fail(why, GW_EREFUSED, "\"%s\" was issued by another mesh than \"%s\"",
                             path, ca->mesh_id);
        gw_hint(why, "move it away to enter this mesh under the same identity");
        return err;
    }
    certs_host_uri(ca->mesh_id, &i->id, uri);
    if (certs_check_own(i->cert, i->tls_key, ca->cert, uri, &fault) != GW_OK) {
        gw_fail(why, GW_ECORRUPT, "\"%s\" does not fit the keys beside it: %s", path, fault.text);
        gw_hint(why,
                "restore the three from a backup; where the keys are right, remove it: a new one "
                "is issued for them");
        return GW_ECORRUPT;
    }
    return GW_OK;
}

static gw_err open_cert(const char *dir, const struct ca *ca, struct identity *i,
                        struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(path, dir, "tls.crt", why));
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_TRY(keyfile_read(path, KEYFILE_PUBLIC, &pem, why));
    if (certs_read(buf_span(&pem), &i->cert) != GW_OK) {
        gw_err err = gw_fail(why, GW_ECORRUPT, "the certificate file \"%s\" is damaged", path);
        gw_hint(why, "remove it: a new one is issued for the same keys");
        return err;
    }
    return ca ? check_cert(path, i, ca, why) : GW_OK;
}

gw_err identity_open(const char *dir, const struct ca *ca, struct identity *ret,
                     struct gw_error *why)
{
    GW_AUTO(identity_close) struct identity i = {0};
    bool has_cert = identity_has_cert(dir);
    GW_TRY(open_seed(dir, !has_cert, &i.key, why));
    i.id = host_id_of_key(i.key.public_key);
    GW_TRY(open_tls_key(dir, !has_cert, &i.tls_key, why));
    if (has_cert) {
        GW_TRY(open_cert(dir, ca, &i, why));
    }
    *ret = i;
    i.tls_key = NULL;
    i.cert = NULL;
    return GW_OK;
}
