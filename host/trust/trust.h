/* Identity and trust of one host: keys, the silent mesh CA, certificates, TLS contexts, join
 * tokens.
 *
 *   $GODWIT_HOME/mesh/       ca.crt; ca.key on signers only (0600); mesh.json {mesh id}; lock;
 * tokens/ID (0600); operator.key, operator.crt (0600; made with the CA, for the local CLI)
 *   $GODWIT_HOME/hosts/NAME/ identity.key (Ed25519 seed, 0600), tls.key (P-256, 0600), tls.crt
 *
 * Certificates: ECDSA P-256, TLS 1.3 only, 90 days, renewed from day 60; exactly one URI SAN
 * spiffe://<mesh_id>/host/<host_id> (or /operator/<name>), compared whole. The CA is made once
 * under a lock by the first host of a home. */
#ifndef HOST_TRUST_TRUST_H
#define HOST_TRUST_TRUST_H

#include <openssl/ssl.h>

#include "protocol/ticket.h"

#define MESH_ID_TEXT 27

struct trust {
    char home[4096 / 4]; /* $GODWIT_HOME, absolute */
    char dir[4096 / 4];  /* hosts/NAME */
    char name[LIMIT_NAME_BYTES + 1];
    char mesh_id[MESH_ID_TEXT];
    struct host_key key;
    struct host_id id;
    bool signer;     /* the CA key is here */
    bool fresh;      /* the CA was made by this call */
    SSL_CTX *server; /* asks for a client certificate, does not require one */
    SSL_CTX *client; /* presents the host certificate */
    int64_t cert_expires_ms;
    /* Private to host/trust. */
    char mesh_dir[4096 / 4];
    int64_t cert_from_ms;
    EVP_PKEY *tls_key;
    struct ca *ca;
};

/* Who is at the other end of a TLS connection. */
typedef enum trust_role { TRUST_NONE, TRUST_HOST, TRUST_OPERATOR } trust_role;
struct trust_peer {
    trust_role role;
    struct host_id id;               /* TRUST_HOST */
    char name[LIMIT_NAME_BYTES + 1]; /* TRUST_OPERATOR */
};

/* Open or make everything for host NAME below `home` (made 0700 when missing). Errors in plain
 * words: GW_EDENIED for a directory that cannot be written, GW_ECORRUPT for damaged key files
 * (never overwritten), GW_EREFUSED when the home has a mesh but neither CA key nor a certificate
 * for this host
 * ("join first"), GW_EEXPIRED. Blocking; start-up only. */
gw_err trust_open(const char *home, const char *name, struct trust **ret,
                  struct gw_error *why) GW_MUST_USE;
void trust_close(struct trust *t);
/* Identity of a finished handshake from its verified certificate: GW_OK with TRUST_NONE when none
 * was sent; GW_EDENIED when it is not of this mesh, not exactly one URI SAN, or of no known form.
 */
gw_err trust_peer_of(const struct trust *t, SSL *ssl, struct trust_peer *ret,
                     struct gw_error *why) GW_MUST_USE;
/* Less than 30 days are left, or the clock was set back before the certificate begins. */
bool trust_renew_is_due(const struct trust *t, int64_t now_ms);
/* Renew this host's and the operator's certificate when due. Signers do so at once; others get
 * false, and the caller takes trust_renew_request() to a signer, which answers with
 * trust_renew_answer(), and ends with trust_renew_apply(). True when the contexts present the new
 * certificate: they stay the same objects, open connections are not touched. A failure is logged;
 * the next call tries again. */
bool trust_renew_if_due(struct trust *t, int64_t now_ms);
/* PEM certificate request for this host's TLS key; free the text. */
gw_err trust_renew_request(const struct trust *t, char **ret_csr) GW_MUST_USE;
/* Signer: a new certificate for the host at the other end of a link. GW_EREFUSED when not a signer,
 * GW_EDENIED when `peer` is no host or the request is not valid. */
gw_err trust_renew_answer(const struct trust *t, const struct trust_peer *peer, const char *csr,
                          int64_t now_ms, char **ret_cert, struct gw_error *why) GW_MUST_USE;
/* Check, keep and present a new certificate. GW_EDENIED when it is not for this host and key. */
gw_err trust_renew_apply(struct trust *t, const char *cert, struct gw_error *why) GW_MUST_USE;

/* --- join tokens --- */
struct token_options {
    int64_t ttl_ms;      /* 0 = 1 h; at most LIMIT_TOKEN_TTL_MS */
    uint32_t uses;       /* 0 = 1; at most LIMIT_TOKEN_USES */
    const gw_strs *tags; /* allowed tags, at most LIMIT_TAGS; NULL = any, an empty list = none */
    const gw_strs *urls; /* 1 to LIMIT_URLS endpoints written into the token, https://... */
};
/* Make a token: one printable string `godwit-token-1.…`. Signers only (GW_EREFUSED elsewhere, the
 * hint names who can). The record (no secret in clear: the HMAC key derived from it) is durable
 * before it returns. */
gw_err token_make(struct trust *t, const struct token_options *o, int64_t now_ms, char **ret_text,
                  struct gw_error *why) GW_MUST_USE;
/* List of {token, uses, used, created, expires, tags (nil = any), hosts} in the order of their
 * making; expired ones are removed first. Never the secret. */
gw_err token_list(struct trust *t, gw_value *ret) GW_MUST_USE;
/* By the id that the list shows. GW_EARG no id, GW_ENOT_FOUND. */
gw_err token_revoke(struct trust *t, const char *id, struct gw_error *why) GW_MUST_USE;
/* Server side of POST /v1/join: the request body (JSON as a value), the TLS connection it came on
 * (for the exporter). Checks token known, proof, CSR signature, key hashes to host_id, not expired,
 * tags, uses left; counts the use durably before it answers {certificate, ca, mesh_id, host_id,
 * proof}. A host that was admitted under this token before (its answer was lost) costs no further
 * use. request {token: id, host_name, csr: PEM, key, signature, proof: base64 (see proof.h), tags?}
 * Errors name the reason: GW_EARG (malformed), GW_EDENIED (unknown, altered, tag not allowed, no
 * TLS), GW_EEXPIRED (expired, used up), GW_EREFUSED (not a signer), GW_EIO, GW_EDISK_FULL. */
gw_err join_answer(struct trust *t, SSL *ssl, const gw_value *request, int64_t now_ms,
                   gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* Client side: join the mesh of `token` as host NAME below `home` (which must have no mesh yet, or
 * this one). Blocking: dials the endpoints of the token, checks the CA pin first, proves the secret
 * by HMAC over the TLS exporter (never sent), writes mesh/ca.crt, mesh.json,
 * hosts/NAME/{identity.key,tls.key,tls.crt}. A host that is a member already (a restart with
 * --join) asks nobody and is GW_OK. `ret_url` gets the endpoint that answered (a peer to dial). The
 * text may have spaces and newlines around it. Errors: GW_EDENIED (altered, not known, another CA
 * at the endpoint), GW_EEXPIRED (expired, used up), GW_EREFUSED (the home belongs to another mesh,
 * the endpoint cannot sign), GW_EUNREACHABLE (what each endpoint said), GW_EARG. */
gw_err join_request(const char *home, const char *name, const char *token, const gw_strs *tags,
                    char ret_url[256], struct gw_error *why) GW_MUST_USE;

#endif
