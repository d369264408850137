/* The joining side. Order of files: the keys are durable before anything is asked, so that a repeat
 * after a crash or a lost answer comes with the same identity and costs no second use; then ca.crt,
 * mesh.json and tls.crt, the last of which makes the host a member. The lock is not held while
 * talking. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ssl.h>
#include <sodium.h>

#include "host/trust/identity.h"
#include "host/trust/places.h"
#include "host/trust/token.h"
#include "host/trust/pinned.h"
#include "protocol/json.h"
#include "protocol/text.h"

/* Everything of one join. */
struct join {
    const char *name;
    const gw_strs *tags;
    struct places places;
    struct token token;
    char mesh_id[MESH_ID_TEXT];
    struct identity identity;
};

static void end_join(struct join *j)
{
    token_free(&j->token);
    identity_close(&j->identity);
}

/* --- before: what this home is --- */

static gw_err read_home_ca(const struct places *p, X509 **ret, struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_TRY(keyfile_path(path, p->mesh, "ca.crt", why));
    gw_err err = keyfile_read(path, KEYFILE_PUBLIC, &pem, why);
    if (err == GW_ENOT_FOUND) {
        *ret = NULL;
        return GW_OK;
    }
    if (err) {
        return err;
    }
    return certs_read(buf_span(&pem), ret) == GW_OK
               ? GW_OK
               : gw_fail(why, GW_ECORRUPT, "the certificate file \"%s\" is damaged", path);
}

/* GW_EREFUSED when the home has another mesh. ret_here: it has this one. */
static gw_err check_home(const struct join *j, bool *ret_here, struct gw_error *why)
{
    GW_AUTO(certs_free) X509 *ca = NULL;
    uint8_t print[CERTS_FINGERPRINT_BYTES];
    GW_TRY(read_home_ca(&j->places, &ca, why));
    if (!ca) {
        *ret_here = false;
        return GW_OK;
    }
    GW_TRY(certs_fingerprint(ca, print));
    if (memcmp(print, j->token.pin, sizeof print) != 0) {
        char mesh[MESH_ID_TEXT] = "?";
        gw_err err = ca_mesh_id(ca, mesh, NULL);
        err = gw_fail(why, GW_EREFUSED, "\"%s\" already belongs to another mesh (%s%s)",
                      j->places.home, mesh, err ? ", damaged" : "");
        gw_hint(why, "join from a fresh $GODWIT_HOME");
        return err;
    }
    *ret_here = true;
    return GW_OK;
}

/* Whether there is nothing left to ask for: the home signs for itself, or the certificate holds. */
static gw_err is_member(struct join *j, bool *ret, struct gw_error *why)
{
    struct ca *ca = NULL;
    GW_TRY(ca_open(j->places.mesh, ca_now_ms(), &ca, why));
    gw_err err = identity_open(j->places.host, ca, &j->identity, why);
    *ret =
        !err && (ca->key || (j->identity.cert && ca_now_ms() < certs_until_ms(j->identity.cert)));
    ca_close(ca);
    return err;
}

static gw_err prepare(struct join *j, bool *ret_member, struct gw_error *why)
{
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(j->places.mesh, &lock, why));
    bool here = false;
    GW_TRY(check_home(j, &here, why));
    if (here) {
        return is_member(j, ret_member, why);
    }
    *ret_member = false;
    return identity_open(j->places.host, NULL, &j->identity, why);
}

/* --- the request --- */

static gw_err set_base64(gw_value *map, const char *key, const uint8_t *p, size_t n)
{
    char text[PROOF_TEXT_BYTES];
    return gw_map_set(map, key, gw_str(proof_text(p, n, text)));
}

static gw_err set_tags(gw_value *map, const gw_strs *tags)
{
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; tags && i < tags->len; i++) {
        gw_err err = gw_list_add(&list, gw_str(tags->items[i]));
        if (err) {
            gw_value_free(&list);
            return err;
        }
    }
    return gw_map_set(map, "tags", list);
}

static gw_err fill_request(const struct join *j, const uint8_t exporter[PROOF_BYTES],
                           const uint8_t key[PROOF_BYTES], gw_value *ret)
{
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_AUTO(buf_free) struct buf der = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES], proof[PROOF_BYTES];
    char id[GW_ID_TEXT];
    gw_value csr = gw_nil();
    GW_TRY(certs_request_write(j->identity.tls_key, j->name, &pem, &der));
    GW_TRY(proof_sign(&j->identity.key, exporter, buf_span(&der), signature));
    proof_of_host(key, exporter, &j->identity.id, buf_span(&der), j->token.hash, proof);
    GW_TRY(gw_value_set_str(&csr, (const char *)pem.data, pem.len));
    GW_TRY(gw_map_set(ret, "csr", csr));
    GW_TRY(gw_map_set(ret, "token", gw_str(gw_id_text(&j->token.id, id))));
    GW_TRY(gw_map_set(ret, "host_name", gw_str(j->name)));
    GW_TRY(set_base64(ret, "key", j->identity.key.public_key, 32));
    GW_TRY(set_base64(ret, "signature", signature, sizeof signature));
    GW_TRY(set_base64(ret, "proof", proof, sizeof proof));
    return set_tags(ret, j->tags);
}

static gw_err write_request(const struct join *j, const uint8_t exporter[PROOF_BYTES],
                            const uint8_t key[PROOF_BYTES], struct buf *ret)
{
    gw_value request = gw_nil();
    gw_err err = fill_request(j, exporter, key, &request);
    err = err ? err : json_write(&request, 0, ret);
    gw_value_free(&request);
    return err;
}

/* --- the answer --- */

/* An error answer as the error that it names. */
static gw_err take_refusal(int status, const gw_value *answer, struct gw_error *why)
{
    const gw_value *error = gw_map_get(answer, "error");
    if (!error) {
        return gw_fail(why, GW_EPROTO, "it answered HTTP status %d without a reason", status);
    }
    gw_err code = gw_err_from_name(gw_map_str(error, "code", ""));
    gw_err err = gw_fail(why, code, "%s", gw_map_str(error, "message", "refused"));
    gw_hint(why, "%s", gw_map_str(error, "hint", ""));
    if (why) {
        text_clean(why->text);
        text_clean(why->hint);
    }
    return err;
}

/* The certificate must be ours to the letter; a host of the mesh that is no signer cannot make one.
 */
static gw_err take_certificate(const struct join *j, X509 *ca, const gw_value *answer,
                               const uint8_t exporter[PROOF_BYTES], const uint8_t key[PROOF_BYTES],
                               X509 **ret, struct gw_error *why)
{
    const char *pem = gw_map_str(answer, "certificate", "");
    struct span text = {(const uint8_t *)pem, strlen(pem)};
    uint8_t expected[PROOF_BYTES], proof[PROOF_BYTES];
    char uri[CERTS_URI_BYTES];
    struct gw_error fault;
    proof_of_signer(key, exporter, &j->identity.id, text, expected);
    if (!proof_parse(gw_map_str(answer, "proof", ""), proof, sizeof proof) ||
        sodium_memcmp(proof, expected, sizeof proof) != 0) {
        return gw_fail(why, GW_EDENIED, "its answer does not prove that it knows the token");
    }
    GW_AUTO(certs_free) X509 *cert = NULL;
    certs_host_uri(j->mesh_id, &j->identity.id, uri);
    if (certs_read(text, &cert) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "its answer holds no certificate");
    }
    if (certs_check_own(cert, j->identity.tls_key, ca, uri, &fault) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the certificate in its answer is not ours: %s", fault.text);
    }
    *ret = cert;
    cert = NULL;
    return GW_OK;
}

static gw_err read_answer(const struct join *j, X509 *ca, int status, const struct buf *body,
                          const uint8_t exporter[PROOF_BYTES], const uint8_t key[PROOF_BYTES],
                          X509 **ret, struct gw_error *why)
{
    gw_value answer = gw_nil();
    if (json_parse((const char *)body->data, body->len, &answer, NULL) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "its answer (HTTP status %d) is not JSON", status);
    }
    gw_err err = status == 200 ? take_certificate(j, ca, &answer, exporter, key, ret, why)
                               : take_refusal(status, &answer, why);
    gw_value_free(&answer);
    return err;
}

static gw_err check_server(const struct join *j, struct pinned *w, struct gw_error *why)
{
    struct trust_peer peer;
    char mesh[MESH_ID_TEXT];
    GW_TRY(certs_identity(SSL_get0_peer_certificate(pinned_ssl(w)), j->mesh_id, &peer, why));
    if (peer.role != TRUST_HOST || ca_mesh_id(pinned_ca(w), mesh, NULL) != GW_OK ||
        strcmp(mesh, j->mesh_id) != 0) {
        return gw_fail(why, GW_EDENIED, "it is not a host of mesh %s", j->mesh_id);
    }
    return GW_OK;
}

/* --- one endpoint --- */

/* After all is checked. Another start may have been at work meanwhile, so the home is looked at
 * again. */
static gw_err keep(const struct join *j, const char *url, X509 *ca, X509 *cert,
                   struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(j->places.mesh, &lock, why));
    bool here = false;
    GW_TRY(check_home(j, &here, why));
    if (!here) {
        GW_TRY(keyfile_path(path, j->places.mesh, "ca.crt", why));
        if (certs_write(ca, &pem) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        GW_TRY(keyfile_write(path, KEYFILE_PUBLIC, buf_span(&pem), why));
        GW_TRY(ca_write_info(j->places.mesh, j->mesh_id, url, why));
    }
    return identity_write_cert(j->places.host, cert, why);
}

/* One conversation: the request and the answer. */
static gw_err talk(const struct join *j, const char *url, struct pinned **ret_connection,
                   X509 **ret_cert, struct gw_error *why)
{
    uint8_t exporter[PROOF_BYTES], key[PROOF_BYTES];
    GW_TRY(pinned_open(url, j->token.pin, ret_connection, why));
    GW_TRY(check_server(j, *ret_connection, why));
    if (proof_exporter(pinned_ssl(*ret_connection), exporter) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "TLS has no exporter");
    }
    GW_AUTO(buf_free) struct buf request = {0};
    GW_AUTO(buf_free) struct buf answer = {0};
    int status = 0;
    proof_key(j->token.secret, key);
    gw_err err = write_request(j, exporter, key, &request);
    if (err) {
        err = gw_fail(why, err, "cannot make the join request");
    }
    err = err ? err
              : pinned_post(*ret_connection, "/v1/join", buf_span(&request), &status, &answer, why);
    err = err ? err
              : read_answer(j, pinned_ca(*ret_connection), status, &answer, exporter, key, ret_cert,
                            why);
    sodium_memzero(key, sizeof key);
    return err;
}

static gw_err ask(const struct join *j, const char *url, struct gw_error *why)
{
    GW_AUTO(pinned_close) struct pinned *w = NULL;
    GW_AUTO(certs_free) X509 *cert = NULL;
    gw_err err = talk(j, url, &w, &cert, why);
    if (err) {
        gw_prefix(why, "%s: ", url);
        return err;
    }
    return keep(j, url, pinned_ca(w), cert, why);
}

/* A word about the token or this home; another endpoint would say the same. */
static bool is_final(gw_err err)
{
    return err == GW_EEXPIRED || err == GW_EARG || err == GW_EIO || err == GW_EDISK_FULL ||
           err == GW_ENOMEM || err == GW_ECORRUPT;
}

/* Every endpoint in turn. GW_EDENIED ("not known here", another CA) may be different at the next.
 */
static gw_err ask_all(const struct join *j, char ret_url[256], struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf said = {0};
    struct gw_error last = {0}, refusal = {0};
    for (size_t i = 0; i < j->token.urls.len; i++) {
        const char *url = j->token.urls.items[i];
        last = (struct gw_error){0};
        gw_err err = ask(j, url, &last);
        if (!err) {
            snprintf(ret_url, 256, "%s", url);
            return GW_OK;
        }
        last.code = err;
        if (err == GW_EDENIED || err == GW_EREFUSED || is_final(err)) {
            refusal = last;
        }
        if (is_final(err)) {
            break;
        }
        buf_addf(&said, "%s%s", said.len ? "; " : "", last.text);
    }
    const char *hint = refusal.code ? refusal.hint : last.hint;
    gw_err err = refusal.code
                     ? gw_fail(why, refusal.code, "%s", refusal.text)
                     : gw_fail(why, GW_EUNREACHABLE, "no endpoint of the token answers: %.*s",
                               (int)said.len, (const char *)said.data);
    gw_hint(why, "%s", hint);
    return err;
}

static gw_err check_tags(const struct join *j, struct gw_error *why)
{
    if (j->tags && j->tags->len > LIMIT_TAGS) {
        return gw_fail(why, GW_EARG, "a host has at most %d tags", LIMIT_TAGS);
    }
    for (size_t i = 0; j->tags && i < j->tags->len; i++) {
        if (!name_is_valid(j->tags->items[i])) {
            return gw_fail(why, GW_EARG, "\"%.80s\" is not a valid tag", j->tags->items[i]);
        }
    }
    return GW_OK;
}

gw_err join_request(const char *home, const char *name, const char *token, const gw_strs *tags,
                    char ret_url[256], struct gw_error *why)
{
    if (sodium_init() < 0 || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1) {
        return gw_fail(why, GW_EFAIL, "the cryptography libraries do not start");
    }
    GW_AUTO(end_join) struct join j = {.name = name, .tags = tags};
    GW_TRY(token_parse(token, &j.token, why));
    gw_id_text(&j.token.mesh, j.mesh_id);
    GW_TRY(check_tags(&j, why));
    GW_TRY(places_open(home, name, &j.places, why));
    bool member = false;
    GW_TRY(prepare(&j, &member, why));
    if (member) {
        snprintf(ret_url, 256, "%s", j.token.urls.items[0]);
        return GW_OK;
    }
    /* A server that hangs up while we write must be an error, not the end of the process. */
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGPIPE, &ignore, &before);
    gw_err err = ask_all(&j, ret_url, why);
    sigaction(SIGPIPE, &before, NULL);
    if (err == GW_EDENIED && ca_now_ms() >= j.token.expires_ms) {
        /* Signers forget expired tokens; the token itself still tells. */
        err = gw_fail(why, GW_EEXPIRED, "the token has expired");
        gw_hint(why, "make a new one with `godwit mesh token`");
    }
    return err;
}
