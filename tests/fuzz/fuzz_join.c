/* What strangers send to be admitted: join requests ("{..."), tokens ("godwit..."), certificates
 * and requests for them (anything else). None is admitted; every refusal has a reason. */
#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/trust/ca.h"
#include "host/trust/token.h"
#include "protocol/json.h"

static char home[64];
static struct trust *trust;
static SSL *ssl;

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void clean(void)
{
    SSL_free(ssl);
    trust_close(trust);
    (void)nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* One finished handshake and one token, 01JD0000000000000000000000, are enough for all inputs. */
static void start(void)
{
    snprintf(home, sizeof home, "/tmp/godwit-fuzz-XXXXXX");
    must(mkdtemp(home) && trust_open(home, "alpha", &trust, NULL) == GW_OK);
    (void)atexit(clean);
    gw_id id;
    struct token_record record = {
        .expires_ms = INT64_MAX, .uses = LIMIT_TOKEN_USES, .any_tags = true};
    randombytes_buf(record.key, sizeof record.key);
    must(gw_id_parse("01JD0000000000000000000000", &id) == GW_OK);
    must(token_record_write(trust->mesh_dir, &id, &record, NULL) == GW_OK);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(ctx);
    BIO *a = NULL, *b = NULL;
    ssl = SSL_new(trust->server);
    must(client && ssl && BIO_new_bio_pair(&a, 0, &b, 0) == 1);
    SSL_set_bio(ssl, a, a);
    SSL_set_bio(client, b, b);
    SSL_set_accept_state(ssl);
    SSL_set_connect_state(client);
    for (int i = 0; i < 10; i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(ssl);
    }
    must(SSL_is_init_finished(ssl));
    SSL_free(client);
    SSL_CTX_free(ctx);
}

static void try_request(const uint8_t *data, size_t size)
{
    gw_value request = gw_nil(), ret = gw_nil();
    struct gw_error why = {0};
    if (json_parse((const char *)data, size, &request, NULL)) {
        return;
    }
    must(join_answer(trust, ssl, &request, ca_now_ms(), &ret, &why) != GW_OK);
    must(ret.kind == GW_NIL && why.text[0]);
    gw_value_free(&request);
}

static void try_token(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    must(text);
    struct token t = {0};
    struct gw_error why = {0};
    if (token_parse(text, &t, &why)) {
        must(why.text[0]);
    } else {
        must(t.urls.len >= 1 && t.urls.len <= LIMIT_URLS && t.tags.len <= LIMIT_TAGS);
        token_free(&t);
    }
    free(text);
}

static void try_pem(struct span pem)
{
    X509 *cert = NULL;
    EVP_PKEY *key = NULL;
    struct buf der = {0};
    struct trust_peer peer;
    char mesh[MESH_ID_TEXT];
    if (pem.n > LIMIT_KEY_FILE_BYTES) {
        return;
    }
    if (certs_read(pem, &cert) == GW_OK) {
        (void)!certs_identity(cert, trust->mesh_id, &peer, NULL);
        (void)!ca_mesh_id(cert, mesh, NULL);
        (void)certs_until_ms(cert);
        X509_free(cert);
    }
    if (certs_request_read(pem, &key, &der, NULL) == GW_OK) {
        EVP_PKEY_free(key);
    }
    key = NULL;
    if (certs_key_read(pem, &key) == GW_OK) {
        EVP_PKEY_free(key);
    }
    buf_free(&der);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!trust) {
        start();
    }
    if (size > 0 && data[0] == '{') {
        try_request(data, size);
    } else if (size > 0 && data[0] == 'g') {
        try_token(data, size);
    } else {
        try_pem((struct span){data, size});
    }
    return 0;
}
