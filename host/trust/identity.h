/* The keys and the certificate of one host, in hosts/NAME: identity.key (Ed25519), tls.key (P-256),
 * tls.crt. Made when missing, never overwritten. identity.key is one line, godwit-identity-1
 * <base64 of the seed> <base64 of the public key> so that a damaged seed is noticed instead of
 * making another host. The caller holds the mesh lock. */
#ifndef HOST_TRUST_IDENTITY_H
#define HOST_TRUST_IDENTITY_H

#include "host/trust/ca.h"

struct identity {
    struct host_key key;
    struct host_id id;
    EVP_PKEY *tls_key;
    X509 *cert; /* NULL when there is none yet */
};

/* Read what is there, make the keys that are missing. GW_ECORRUPT for a damaged file, for a
 * certificate whose keys are gone, or for keys that are not of this certificate (only when it is of
 * the mesh `ca`, if given: GW_EREFUSED says that it belongs to another mesh). */
gw_err identity_open(const char *dir, const struct ca *ca, struct identity *ret,
                     struct gw_error *why) GW_MUST_USE;
void identity_close(struct identity *i); /* wipes */
/* Whether hosts/NAME has a certificate. */
bool identity_has_cert(const char *dir);
gw_err identity_write_cert(const char *dir, X509 *cert, struct gw_error *why) GW_MUST_USE;

#endif
