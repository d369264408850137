#include "host/trust/ca.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "host/trust/keyfile.h"
#include "protocol/json.h"

/* 2024-01-01: a clock before that was never set, and what it dates is worthless. */
#define CLOCK_MIN_MS 1704067200000LL

int64_t ca_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void ca_close(struct ca *ca)
{
    if (!ca) {
        return;
    }
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
    free(ca);
}

static void close_at(struct ca **ca)
{
    ca_close(*ca);
}

bool ca_is_due(int64_t from_ms, int64_t until_ms, int64_t now_ms)
{
    return now_ms < from_ms || now_ms >= until_ms - CERT_RENEW_MS;
}

gw_err ca_mesh_id(X509 *cert, char ret[MESH_ID_TEXT], struct gw_error *why)
{
    char uri[CERTS_URI_BYTES];
    gw_id id;
    GW_TRY(certs_uri(cert, uri, why));
    static const char scheme[] = "spiffe://";
    if (strncmp(uri, scheme, sizeof scheme - 1) != 0 ||
        gw_id_parse(uri + sizeof scheme - 1, &id) != GW_OK || X509_check_ca(cert) != 1) {
        return gw_fail(why, GW_ECORRUPT, "it is not the CA certificate of a mesh");
    }
    gw_id_text(&id, ret);
    if (strcmp(ret, uri + sizeof scheme - 1) != 0) {
        return gw_fail(why, GW_ECORRUPT, "its mesh id is not in canonical form");
    }
    return GW_OK;
}

/* --- files of the mesh --- */

static gw_err write_key(const char *path, EVP_PKEY *key, struct gw_error *why)
{
    GW_AUTO(keyfile_wipe) struct buf pem = {0};
    if (certs_key_write(key, &pem) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return keyfile_write(path, KEYFILE_SECRET, buf_span(&pem), why);
}

static gw_err write_cert(const char *path, keyfile_kind kind, X509 *cert, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf pem = {0};
    if (certs_write(cert, &pem) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return keyfile_write(path, kind, buf_span(&pem), why);
}

gw_err ca_write_info(const char *mesh_dir, const char *mesh_id, const char *signer_url,
                     struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(path, mesh_dir, "mesh.json", why));
    gw_value info = gw_nil();
    gw_err err = gw_map_set(&info, "mesh", gw_str(mesh_id));
    if (!err && signer_url) {
        err = gw_map_set(&info, "signer", gw_str(signer_url));
    }
    GW_AUTO(buf_free) struct buf text = {0};
    err = err ? err : json_write(&info, 0, &text);
    gw_value_free(&info);
    buf_add(&text, "\n", 1);
    if (err || !buf_ok(&text)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return keyfile_write(path, KEYFILE_PUBLIC, buf_span(&text), why);
}

void ca_signer_url(const char *mesh_dir, char ret[CA_URL_BYTES])
{
    ret[0] = '\0';
    char path[KEYFILE_PATH_BYTES];
    GW_AUTO(buf_free) struct buf text = {0};
    gw_value info = gw_nil();
    if (keyfile_path(path, mesh_dir, "mesh.json", NULL) == GW_OK &&
        keyfile_read(path, KEYFILE_PUBLIC, &text, NULL) == GW_OK &&
        json_parse((const char *)text.data, text.len, &info, NULL) == GW_OK) {
        snprintf(ret, CA_URL_BYTES, "%s", gw_map_str(&info, "signer", ""));
    }
    gw_value_free(&info);
}

/* GW_OK with *ret NULL when there is no such file. */
static gw_err read_key(const char *path, EVP_PKEY **ret, struct gw_error *why)
{
    GW_AUTO(keyfile_wipe) struct buf pem = {0};
    gw_err err = keyfile_read(path, KEYFILE_SECRET, &pem, why);
    if (err) {
        *ret = NULL;
        return err == GW_ENOT_FOUND ? GW_OK : err;
    }
    if (certs_key_read(buf_span(&pem), ret) != GW_OK) {
        err = gw_fail(why, GW_ECORRUPT, "the key file \"%s\" is damaged", path);
        gw_hint(why, "restore it from a backup; it is never overwritten");
        return err;
    }
    return GW_OK;
}

static gw_err hint_of_mesh(struct gw_error *why)
{
    gw_hint(why,
            "restore it from a backup; ca.crt can also be copied from another host of the mesh, "
            "operator.crt removed: it is made anew");
    return GW_ECORRUPT;
}

static gw_err read_cert(const char *path, keyfile_kind kind, X509 **ret, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf pem = {0};
    gw_err err = keyfile_read(path, kind, &pem, why);
    if (err) {
        *ret = NULL;
        return err == GW_ENOT_FOUND ? GW_OK : err;
    }
    if (certs_read(buf_span(&pem), ret) != GW_OK) {
        gw_fail(why, GW_ECORRUPT, "the certificate file \"%s\" is damaged", path);
        return hint_of_mesh(why);
    }
    return GW_OK;
}

/* --- making --- */

static gw_err make_cert(struct ca *ca, int64_t now_ms)
{
    uint8_t random[10];
    randombytes_buf(random, sizeof random);
    gw_id id = id_make(now_ms, random);
    gw_id_text(&id, ca->mesh_id);
    char uri[CERTS_URI_BYTES], common_name[64];
    snprintf(uri, sizeof uri, "spiffe://%s", ca->mesh_id);
    snprintf(common_name, sizeof common_name, "Godwit mesh %s", ca->mesh_id);
    struct certs_order order = {.use = CERTS_CA,
                                .common_name = common_name,
                                .uri = uri,
                                .from_ms = now_ms - CERTS_LEEWAY_MS,
                                .until_ms = now_ms + CA_LIFE_MS,
                                .key = ca->key};
    return certs_issue(&order, NULL, ca->key, &ca->cert);
}

static gw_err make(struct ca *ca, const char *mesh_dir, int64_t now_ms, struct gw_error *why)
{
    char key_path[KEYFILE_PATH_BYTES], cert_path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(key_path, mesh_dir, "ca.key", why));
    GW_TRY(keyfile_path(cert_path, mesh_dir, "ca.crt", why));
    if (now_ms < CLOCK_MIN_MS) {
        gw_err err = gw_fail(why, GW_EREFUSED, "the clock of this machine is before 2024");
        gw_hint(why, "set the clock first: the certificates of a new mesh would expire at once");
        return err;
    }
    if (!ca->key) {
        if (certs_key_new(&ca->key) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "cannot make the key of the mesh CA");
        }
        GW_TRY(write_key(key_path, ca->key, why));
    }
    if (make_cert(ca, now_ms) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot make the certificate of the mesh CA");
    }
    GW_TRY(write_cert(cert_path, KEYFILE_PUBLIC, ca->cert, why));
    ca->fresh = true;
    return ca_write_info(mesh_dir, ca->mesh_id, NULL, why);
}

/* --- opening --- */

static gw_err check(struct ca *ca, const char *cert_path, int64_t now_ms, struct gw_error *why)
{
    struct gw_error fault;
    if (ca_mesh_id(ca->cert, ca->mesh_id, &fault) != GW_OK) {
        gw_fail(why, GW_ECORRUPT, "\"%s\" is damaged: %s", cert_path, fault.text);
        return hint_of_mesh(why);
    }
    if (X509_verify(ca->cert, X509_get0_pubkey(ca->cert)) != 1 ||
        (ca->key && EVP_PKEY_eq(X509_get0_pubkey(ca->cert), ca->key) != 1)) {
        ERR_clear_error();
        gw_fail(why, GW_ECORRUPT, "\"%s\" and its key do not belong together", cert_path);
        return hint_of_mesh(why);
    }
    if (now_ms >= certs_until_ms(ca->cert)) {
        return gw_fail(why, GW_EEXPIRED, "the CA of this mesh (\"%s\") has expired", cert_path);
    }
    return GW_OK;
}

gw_err ca_open(const char *mesh_dir, int64_t now_ms, struct ca **ret, struct gw_error *why)
{
    char key_path[KEYFILE_PATH_BYTES], cert_path[KEYFILE_PATH_BYTES], info_path[KEYFILE_PATH_BYTES];
    GW_TRY(keyfile_path(key_path, mesh_dir, "ca.key", why));
    GW_TRY(keyfile_path(cert_path, mesh_dir, "ca.crt", why));
    GW_TRY(keyfile_path(info_path, mesh_dir, "mesh.json", why));
    GW_AUTO(close_at) struct ca *ca = calloc(1, sizeof *ca);
    if (!ca) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(read_cert(cert_path, KEYFILE_PUBLIC, &ca->cert, why));
    GW_TRY(read_key(key_path, &ca->key, why));
    if (!ca->cert && keyfile_exists(info_path)) {
        gw_err err = gw_fail(why, GW_ECORRUPT, "the mesh certificate \"%s\" is missing", cert_path);
        gw_hint(why, "restore it, or copy it from another host of the mesh");
        return err;
    }
    if (!ca->cert) {
        GW_TRY(make(ca, mesh_dir, now_ms, why));
    } else {
        GW_TRY(check(ca, cert_path, now_ms, why));
        if (!keyfile_exists(info_path)) {
            GW_TRY(ca_write_info(mesh_dir, ca->mesh_id, NULL, why));
        }
    }
    *ret = ca;
    ca = NULL;
    return GW_OK;
}

/* --- issuing --- */

static gw_err issue(const struct ca *ca, certs_use use, const char *common_name, const char *uri,
                    EVP_PKEY *key, int64_t now_ms, X509 **ret)
{
    int64_t end = certs_until_ms(ca->cert);
    struct certs_order order = {.use = use,
                                .common_name = common_name,
                                .uri = uri,
                                .from_ms = now_ms - CERTS_LEEWAY_MS,
                                .until_ms =
                                    now_ms + CERT_LIFE_MS < end ? now_ms + CERT_LIFE_MS : end,
                                .key = key};
    return certs_issue(&order, ca->cert, ca->key, ret);
}

gw_err ca_issue_host(const struct ca *ca, const char *name, const struct host_id *id, EVP_PKEY *key,
                     int64_t now_ms, X509 **ret)
{
    char uri[CERTS_URI_BYTES];
    certs_host_uri(ca->mesh_id, id, uri);
    return issue(ca, CERTS_HOST, name, uri, key, now_ms, ret);
}

gw_err ca_ensure_operator(const struct ca *ca, const char *mesh_dir, int64_t now_ms,
                          struct gw_error *why)
{
    char key_path[KEYFILE_PATH_BYTES], cert_path[KEYFILE_PATH_BYTES], uri[CERTS_URI_BYTES];
    GW_TRY(keyfile_path(key_path, mesh_dir, "operator.key", why));
    GW_TRY(keyfile_path(cert_path, mesh_dir, "operator.crt", why));
    snprintf(uri, sizeof uri, "spiffe://%s/operator/local", ca->mesh_id);
    GW_AUTO(certs_free) X509 *old = NULL;
    GW_TRY(read_cert(cert_path, KEYFILE_SECRET, &old, why));
    /* The usual start reads no private key here: that is a third of a millisecond. */
    if (old && keyfile_exists(key_path) && X509_verify(old, X509_get0_pubkey(ca->cert)) == 1 &&
        !ca_is_due(certs_from_ms(old), certs_until_ms(old), now_ms)) {
        return GW_OK;
    }
    ERR_clear_error();
    GW_AUTO(certs_key_free) EVP_PKEY *key = NULL;
    GW_TRY(read_key(key_path, &key, why));
    if (!key) {
        if (certs_key_new(&key) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "cannot make the operator's key");
        }
        GW_TRY(write_key(key_path, key, why));
    }
    GW_AUTO(certs_free) X509 *cert = NULL;
    if (issue(ca, CERTS_OPERATOR, "operator local", uri, key, now_ms, &cert) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot issue the operator's certificate");
    }
    return write_cert(cert_path, KEYFILE_SECRET, cert, why);
}
