/* X.509 helpers: P-256 keys, certificates and requests as PEM, and the one name that counts: the
 * URI SAN spiffe://<mesh_id>                      the CA of a mesh
 *     spiffe://<mesh_id>/host/<host_id>       a host
 *     spiffe://<mesh_id>/operator/<name>      an operator
 * It is compared whole; a certificate has exactly one. Server certificates also name localhost,
 * 127.0.0.1 and ::1, so that curl and browsers take them on the same machine; Godwit itself never
 * looks at these. Any thread. Source: RFC 5280, RFC 2986. */
#ifndef HOST_TRUST_CERTS_H
#define HOST_TRUST_CERTS_H

#include <openssl/x509.h>

#include "host/trust/trust.h"

#define CERTS_URI_BYTES         128
#define CERTS_FINGERPRINT_BYTES 32
#define CERTS_LEEWAY_MS                                                                            \
    (3600LL * 1000) /* certificates begin so much before their making: clocks differ */

typedef enum certs_use { CERTS_CA, CERTS_HOST, CERTS_OPERATOR } certs_use;

/* --- for GW_AUTO --- */
void certs_free(X509 **cert);
void certs_key_free(EVP_PKEY **key);

/* --- keys --- */
gw_err certs_key_new(EVP_PKEY **ret) GW_MUST_USE;
gw_err certs_key_write(EVP_PKEY *key, struct buf *ret_pem) GW_MUST_USE;
/* GW_ECORRUPT unless it is one PEM private key on P-256. */
gw_err certs_key_read(struct span pem, EVP_PKEY **ret) GW_MUST_USE;

/* --- certificates --- */
struct certs_order {
    certs_use use;
    const char *common_name; /* for people only */
    const char *uri;
    int64_t from_ms, until_ms;
    EVP_PKEY *key; /* of the subject */
};
/* Issue a certificate; `ca` NULL = self-signed (CERTS_CA). */
gw_err certs_issue(const struct certs_order *order, X509 *ca, EVP_PKEY *ca_key,
                   X509 **ret) GW_MUST_USE;
gw_err certs_write(X509 *cert, struct buf *ret_pem) GW_MUST_USE;
/* GW_ECORRUPT unless it begins with one PEM certificate. */
gw_err certs_read(struct span pem, X509 **ret) GW_MUST_USE;
/* SHA-256 of the DER form. */
gw_err certs_fingerprint(X509 *cert, uint8_t ret[CERTS_FINGERPRINT_BYTES]) GW_MUST_USE;
int64_t certs_from_ms(const X509 *cert);
int64_t certs_until_ms(const X509 *cert);
/* Its exactly one URI SAN, without NUL; GW_EDENIED otherwise. */
gw_err certs_uri(const X509 *cert, char ret[CERTS_URI_BYTES], struct gw_error *why) GW_MUST_USE;
/* Who the certificate names, in this mesh: GW_EDENIED for another mesh or an unknown form.
 * Signature and validity are the caller's (the TLS handshake has checked them). */
gw_err certs_identity(const X509 *cert, const char *mesh_id, struct trust_peer *ret,
                      struct gw_error *why) GW_MUST_USE;
void certs_host_uri(const char *mesh_id, const struct host_id *id, char ret[CERTS_URI_BYTES]);
/* An own certificate read from disk or from an answer: for `key`, signed by `ca`, naming `uri`.
 * GW_ECORRUPT with a sentence otherwise; validity in time is not looked at. */
gw_err certs_check_own(X509 *cert, EVP_PKEY *key, X509 *ca, const char *uri,
                       struct gw_error *why) GW_MUST_USE;

/* --- certificate requests --- */
gw_err certs_request_write(EVP_PKEY *key, const char *common_name, struct buf *ret_pem,
                           struct buf *ret_der) GW_MUST_USE;
/* GW_EDENIED unless it is one PEM request for a P-256 key, signed by this key. */
gw_err certs_request_read(struct span pem, EVP_PKEY **ret_key, struct buf *ret_der,
                          struct gw_error *why) GW_MUST_USE;

/* Newest OpenSSL error as text, and forget the queue; "unknown error" when there is none. */
const char *certs_openssl_error(char ret[160]);

#endif
