/* The signer's side of a join: one request, checked from cheap to dear, answered with a
 * certificate. The order matters: nothing is said about a token to somebody who does not hold its
 * secret, and the use is durable before the certificate exists outside this process. */
#include <string.h>

#include <sodium.h>

#include "host/trust/ca.h"
#include "host/trust/places.h"
#include "host/trust/token.h"

/* The request after its form was checked. */
struct asked {
    gw_id token;
    const char *host_name; /* borrowed from the request, valid as a name */
    const gw_value *tags;  /* borrowed list of valid names, or NULL */
    uint8_t public_key[32];
    struct host_id id;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    uint8_t proof[PROOF_BYTES];
    EVP_PKEY *tls_key;
    struct buf csr; /* DER */
};

static void free_asked(struct asked *a)
{
    EVP_PKEY_free(a->tls_key);
    buf_free(&a->csr);
}

static gw_err read_tags(const gw_value *request, struct asked *a, struct gw_error *why)
{
    const gw_value *tags = gw_map_get(request, "tags");
    if (!tags || tags->kind == GW_NIL) {
        return GW_OK;
    }
    if (tags->kind != GW_LIST || tags->list.n > LIMIT_TAGS) {
        return gw_fail(why, GW_EARG, "\"tags\" is not a list of at most %d names", LIMIT_TAGS);
    }
    for (size_t i = 0; i < tags->list.n; i++) {
        const gw_value *tag = &tags->list.items[i];
        if (tag->kind != GW_STR || !name_is_valid(tag->s.p)) {
            return gw_fail(why, GW_EARG, "a tag is not a valid name");
        }
    }
    a->tags = tags;
    return GW_OK;
}

static gw_err read_request(const gw_value *request, struct asked *a, struct gw_error *why)
{
    const char *csr = gw_map_str(request, "csr", "");
    a->host_name = gw_map_str(request, "host_name", "");
    if (!name_is_valid(a->host_name)) {
        return gw_fail(why, GW_EARG, "\"%.80s\" is not a valid host name", a->host_name);
    }
    if (gw_id_parse(gw_map_str(request, "token", ""), &a->token) != GW_OK) {
        return gw_fail(why, GW_EARG, "the join request names no token");
    }
    if (!proof_parse(gw_map_str(request, "key", ""), a->public_key, sizeof a->public_key) ||
        !proof_parse(gw_map_str(request, "signature", ""), a->signature, sizeof a->signature) ||
        !proof_parse(gw_map_str(request, "proof", ""), a->proof, sizeof a->proof)) {
        return gw_fail(why, GW_EARG, "key, signature or proof of the join request is malformed");
    }
    GW_TRY(read_tags(request, a, why));
    a->id = host_id_of_key(a->public_key);
    struct span pem = {(const uint8_t *)csr, strlen(csr)};
    return certs_request_read(pem, &a->tls_key, &a->csr, why);
}

/* The secret is known there, and the identity is theirs. */
static gw_err check_proofs(const struct asked *a, const struct token_record *r,
                           const uint8_t exporter[PROOF_BYTES], struct gw_error *why)
{
    uint8_t expected[PROOF_BYTES];
    proof_of_host(r->key, exporter, &a->id, buf_span(&a->csr), r->hash, expected);
    if (sodium_memcmp(expected, a->proof, sizeof expected) != 0) {
        gw_err err = gw_fail(why, GW_EDENIED, "the token is altered");
        gw_hint(why, "its proof does not verify: copy the token whole, or make a new one");
        return err;
    }
    if (proof_verify(a->public_key, exporter, buf_span(&a->csr), a->signature) != GW_OK) {
        return gw_fail(why, GW_EDENIED, "the signature of the joining host does not verify");
    }
    return GW_OK;
}

static gw_err check_rules(const struct asked *a, const struct token_record *r, int64_t now_ms,
                          struct gw_error *why)
{
    if (now_ms >= r->expires_ms) {
        gw_err err = gw_fail(why, GW_EEXPIRED, "the token has expired");
        gw_hint(why, "make a new one with `godwit mesh token`");
        return err;
    }
    for (size_t i = 0; a->tags && i < a->tags->list.n; i++) {
        if (!token_record_allows(r, a->tags->list.items[i].s.p)) {
            return gw_fail(why, GW_EDENIED, "the token does not allow the tag \"%s\"",
                           a->tags->list.items[i].s.p);
        }
    }
    if (r->host_count >= r->uses && !token_record_admitted(r, &a->id)) {
        gw_err err = gw_fail(why, GW_EEXPIRED, "the token was used up (%u of %u uses)",
                             (unsigned)r->host_count, r->uses);
        gw_hint(why, "make a new one with `godwit mesh token`");
        return err;
    }
    return GW_OK;
}

/* Check against the record and count the use, under the lock. Fills `key` for the answer. */
static gw_err admit(struct trust *t, const struct asked *a, const uint8_t exporter[PROOF_BYTES],
                    int64_t now_ms, uint8_t ret_key[PROOF_BYTES], struct gw_error *why)
{
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_AUTO(token_record_free) struct token_record r = {0};
    GW_TRY(places_lock(t->mesh_dir, &lock, why));
    gw_err err = token_record_read(t->mesh_dir, &a->token, &r, why);
    if (err == GW_ENOT_FOUND) {
        return gw_fail(why, GW_EDENIED,
                       "the token is not known here (revoked, or made under another $GODWIT_HOME)");
    }
    if (err) {
        return err;
    }
    GW_TRY(check_proofs(a, &r, exporter, why));
    GW_TRY(check_rules(a, &r, now_ms, why));
    if (!token_record_admitted(&r, &a->id)) {
        r.hosts[r.host_count++] = a->id; /* the reader left room for one */
        GW_TRY(token_record_write(t->mesh_dir, &a->token, &r, why));
    }
    memcpy(ret_key, r.key, PROOF_BYTES);
    return GW_OK;
}

static gw_err set_text(gw_value *map, const char *key, const struct buf *text)
{
    gw_value v = gw_nil();
    GW_TRY(gw_value_set_str(&v, (const char *)text->data, text->len));
    return gw_map_set(map, key, v);
}

static gw_err write_answer(const struct trust *t, const struct asked *a, X509 *cert,
                           const uint8_t proof_key_bytes[PROOF_BYTES],
                           const uint8_t exporter[PROOF_BYTES], gw_value *ret)
{
    GW_AUTO(buf_free) struct buf pem = {0};
    GW_AUTO(buf_free) struct buf ca = {0};
    uint8_t proof[PROOF_BYTES];
    char id[HOST_ID_TEXT], text[PROOF_TEXT_BYTES];
    GW_TRY(certs_write(cert, &pem));
    GW_TRY(certs_write(t->ca->cert, &ca));
    proof_of_signer(proof_key_bytes, exporter, &a->id, buf_span(&pem), proof);
    GW_TRY(set_text(ret, "certificate", &pem));
    GW_TRY(set_text(ret, "ca", &ca));
    GW_TRY(gw_map_set(ret, "mesh_id", gw_str(t->mesh_id)));
    GW_TRY(gw_map_set(ret, "host_id", gw_str(host_id_text(&a->id, id))));
    return gw_map_set(ret, "proof", gw_str(proof_text(proof, sizeof proof, text)));
}

gw_err join_answer(struct trust *t, SSL *ssl, const gw_value *request, int64_t now_ms,
                   gw_value *ret, struct gw_error *why)
{
    uint8_t exporter[PROOF_BYTES], key[PROOF_BYTES];
    if (!ssl || proof_exporter(ssl, exporter) != GW_OK) {
        return gw_fail(why, GW_EDENIED, "joining needs a TLS connection");
    }
    if (!t->signer) {
        return gw_fail(why, GW_EREFUSED,
                       "host \"%s\" cannot admit others: it has no key of the mesh CA", t->name);
    }
    GW_AUTO(free_asked) struct asked a = {0};
    GW_TRY(read_request(request, &a, why));
    GW_TRY(admit(t, &a, exporter, now_ms, key, why));
    GW_AUTO(certs_free) X509 *cert = NULL;
    gw_value answer = gw_nil();
    gw_err err = ca_issue_host(t->ca, a.host_name, &a.id, a.tls_key, now_ms, &cert);
    err = err ? err : write_answer(t, &a, cert, key, exporter, &answer);
    sodium_memzero(key, sizeof key);
    if (err) {
        gw_value_free(&answer);
        return gw_fail(why, err, "cannot issue a certificate");
    }
    *ret = answer;
    return GW_OK;
}
