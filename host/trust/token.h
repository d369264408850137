/* Join tokens inside host/trust: their text, and the records that signers keep.
 *
 * Text: "godwit-token-1." | base64url without padding of (body | first 8 bytes of SHA-256(body)),
 * the body in msgpack: [mesh id, [url...], CA fingerprint bin32, token id, secret bin32, expires
 * ms, uses, nil | [tag...]] further members are ignored. The check bytes tell a damaged copy from
 * one that is not known; that nobody alters a token to advantage is the signer's matter: it holds
 * expiry, uses and tags in the record, and the hash of the body goes into the proof.
 *
 * Record: $GODWIT_HOME/mesh/tokens/ID (0600), msgpack
 *     [1, key bin32, body hash bin32, created ms, expires ms, uses, nil | [tag...], [host_id
 * bin20...]] the hosts being those that were admitted: a host that asks again (its answer was lost)
 * costs no use. The store belongs to the home of the signer, whichever of its hosts answers;
 * records are read and written under the mesh lock (places_lock). */
#ifndef HOST_TRUST_TOKEN_H
#define HOST_TRUST_TOKEN_H

#include "host/trust/certs.h"
#include "host/trust/proof.h"
#include "protocol/base/mp.h"

/* What the text says. */
struct token {
    gw_id mesh, id;
    gw_strs urls;
    uint8_t pin[CERTS_FINGERPRINT_BYTES]; /* SHA-256 of the CA certificate */
    uint8_t secret[PROOF_BYTES];
    int64_t expires_ms;
    uint32_t uses;
    bool any_tags;
    gw_strs tags;
    uint8_t hash[32]; /* SHA-256 of the body */
};
/* Spaces and newlines around the text are allowed. GW_EDENIED: not a token, or altered. */
gw_err token_parse(const char *text, struct token *ret, struct gw_error *why) GW_MUST_USE;
/* Fills t->hash. The text is owned by the caller and secret. */
gw_err token_write(struct token *t, char **ret_text, struct gw_error *why) GW_MUST_USE;
void token_free(struct token *t); /* wipes; leaves it empty */

/* What a signer keeps. */
struct token_record {
    uint8_t key[PROOF_BYTES]; /* proof_key(secret) */
    uint8_t hash[32];
    int64_t created_ms, expires_ms;
    uint32_t uses;
    bool any_tags;
    gw_strs tags;
    struct host_id *hosts; /* owned; admitted so far */
    size_t host_count;
};
void token_record_free(struct token_record *r); /* wipes; leaves it empty */
/* GW_ENOT_FOUND (why untouched) when there is no record, GW_ECORRUPT when it is damaged. */
gw_err token_record_read(const char *mesh_dir, const gw_id *id, struct token_record *ret,
                         struct gw_error *why) GW_MUST_USE;
gw_err token_record_write(const char *mesh_dir, const gw_id *id, const struct token_record *r,
                          struct gw_error *why) GW_MUST_USE;
/* GW_ENOT_FOUND (why untouched). */
gw_err token_record_remove(const char *mesh_dir, const gw_id *id, struct gw_error *why) GW_MUST_USE;
/* Ids of all records in the order of their making, at most LIMIT_TOKENS. Free ret_ids. */
gw_err token_record_ids(const char *mesh_dir, gw_id **ret_ids, size_t *ret_count,
                        struct gw_error *why) GW_MUST_USE;
bool token_record_admitted(const struct token_record *r, const struct host_id *id);
bool token_record_allows(const struct token_record *r, const char *tag);

/* Lists of names and URLs as both texts use them. */
void token_pack_strs(const gw_strs *list, bool any, struct buf *out); /* any = nil */
gw_err token_unpack_strs(struct mp *m, size_t max, size_t max_bytes, bool *ret_any,
                         gw_strs *ret) GW_MUST_USE;

#endif
